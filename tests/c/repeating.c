/* The same work done another way: sharing, threads, memory budget, repetition, storage of the weights,
 * floating-point modes of the host. All but sharing give the same bits. PATCHMASK_SLOW=1 (valgrind) makes
 * the work smaller. */
#include <math.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { PATCH = 48, STRIDE = 6 };

/* The promise against patch-by-patch evaluation, relative to the largest logit. */
static const double SHARING_TOLERANCE = 1e-4;

static int slow;
static patchmask_model* model;
static int16_t* hu;
static patchmask_volume volume;
static patchmask_options options;
static segmentation expected;

static void expect_same(const patchmask_options* with, const char* what) {
    segmentation done = segment_all(model, with, &volume, NULL);
    check_same(&expected, &done, what);
    segmentation_free(&done);
}

static void threads_and_repetition(void) {
    static const uint32_t THREADS[] = {1, 2, 3, 4, 8, 0};
    for (size_t i = 0; i < (slow ? 2 : sizeof THREADS / sizeof THREADS[0]); i++) {
        patchmask_options with = options;
        with.threads = THREADS[i];
        expect_same(&with, "threads");
        expect_same(&with, "once more");
    }
}

static void one_session_many_calls(void) {
    patchmask_session* session = NULL;
    patchmask_outputs outputs;
    CHECK_OK(patchmask_session_new(model, &options, &session));
    CHECK_OK(patchmask_outputs_init(&outputs, sizeof outputs));
    for (int i = 0; i < 3; i++) {
        segmentation again = expected;
        /* Another geometry in between. */
        uint8_t other[40 * 33];
        patchmask_volume small = dense_volume(hu, 40, 33, 1);
        outputs = (patchmask_outputs){.struct_size = sizeof outputs, .mask = other};
        CHECK_OK(patchmask_session_segment(session, &small, NULL, &outputs, NULL));
        again.mask = outputs.mask = calloc(expected.voxels, 1);
        again.logits = outputs.logits = calloc(expected.logits_length, sizeof(float));
        CHECK(again.mask != NULL && again.logits != NULL);
        CHECK_OK(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
        check_same(&expected, &again, "the same session");
        free(again.mask);
        free(again.logits);
    }
    patchmask_session_free(session);
}

static void sharing_is_exact(void) {
    patchmask_options with = options;
    with.sharing = 0;
    segmentation single = segment_all(model, &with, &volume, NULL);
    double largest = 0;
    for (size_t i = 0; i < single.logits_length; i++) largest = fmax(largest, fabs(single.logits[i]));
    for (size_t i = 0; i < single.logits_length; i++)
        CHECK(fabs((double)single.logits[i] - expected.logits[i]) <= SHARING_TOLERANCE * largest);
    CHECK(single.result.patches == expected.result.patches);
    CHECK(single.result.macs_unshared == expected.result.macs_unshared);
    CHECK(single.result.macs >= expected.result.macs);
    segmentation_free(&single);
}

static void estimate_is_what_happens(void) {
    for (int sharing = 0; sharing < 2; sharing++) {
        patchmask_options with = options;
        with.sharing = sharing;
        segmentation s = segment_all(model, &with, &volume, NULL);
        CHECK(s.estimate.patches == s.result.patches);
        CHECK(s.estimate.patches == volume.depth * s.estimate.grid_width * s.estimate.grid_height);
        CHECK(s.estimate.macs == s.result.macs);
        CHECK(s.estimate.macs_unshared == s.result.macs_unshared);
        CHECK(s.estimate.tiles == s.result.tiles);
        CHECK(s.estimate.peak_bytes == s.result.peak_bytes);
        segmentation_free(&s);
    }
}

/* Halves the budget until the smallest tile no longer fits: the same bits from ever more tiles. */
static void memory_budget(void) {
    uint64_t budget = expected.result.peak_bytes, most_tiles = expected.result.tiles;
    patchmask_options with = options;
    patchmask_session* session = NULL;
    for (;; budget = budget * 9 / 10) {
        patchmask_estimate estimate;
        with.memory_budget = budget;
        patchmask_status status = patchmask_session_new(model, &with, &session);
        if (status == PATCHMASK_OK) {
            CHECK_OK(patchmask_estimate_init(&estimate, sizeof estimate));
            status = patchmask_session_estimate(session, &volume, NULL, &estimate);
            patchmask_session_free(session);
        }
        if (status != PATCHMASK_OK) {
            CHECK_STATUS(PATCHMASK_OUT_OF_MEMORY, status);
            CHECK(strstr(patchmask_last_error(), "budget") != NULL);
            break;
        }
        CHECK(estimate.peak_bytes <= budget);
        if (estimate.tiles != most_tiles) {
            CHECK(estimate.tiles > most_tiles);
            most_tiles = estimate.tiles;
            expect_same(&with, "less memory");
        }
    }
    CHECK(most_tiles > (slow ? 1 : 4) * expected.result.tiles);
}

static void half_precision_weights(void) {
    tiny_model spec = tiny_model_default();
    spec.half = 1;
    patchmask_model* half = tiny_model_load(&spec);
    segmentation done = segment_all(half, &options, &volume, NULL);
    check_same(&expected, &done, "the same weights as F16");
    segmentation_free(&done);
    patchmask_model_free(half);
}

static void model_may_be_freed_first(void) {
    tiny_model spec = tiny_model_default();
    patchmask_model* short_lived = tiny_model_load(&spec);
    patchmask_session* session = NULL;
    patchmask_outputs outputs;
    CHECK_OK(patchmask_session_new(short_lived, &options, &session));
    patchmask_model_free(short_lived);
    CHECK_OK(patchmask_outputs_init(&outputs, sizeof outputs));
    segmentation again = expected;
    again.mask = outputs.mask = calloc(expected.voxels, 1);
    CHECK(again.mask != NULL);
    CHECK_OK(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
    check_same(&expected, &again, "model freed before the session");
    free(again.mask);
    patchmask_session_free(session);
}

#ifdef __SSE__
#include <xmmintrin.h>

/* Hosts for audio and graphics set these: they must neither reach the results nor be changed. */
static void floating_point_modes_of_the_host(void) {
    enum { FLUSH_TO_ZERO = 0x8000, DENORMALS_ARE_ZERO = 0x0040, ROUND_UP = 0x4000 };
    const unsigned usual = _mm_getcsr();
    static const unsigned MODES[] = {FLUSH_TO_ZERO | DENORMALS_ARE_ZERO, ROUND_UP};
    for (size_t i = 0; i < sizeof MODES / sizeof MODES[0]; i++) {
        const unsigned modes = (usual & ~0x3Fu) | MODES[i];
        tiny_model spec = tiny_model_default();
        _mm_setcsr(modes);
        patchmask_model* under_modes = tiny_model_load(&spec);
        segmentation done = segment_all(under_modes, &options, &volume, NULL);
        patchmask_model_free(under_modes);
        const unsigned after = _mm_getcsr();
        _mm_setcsr(usual);
        CHECK((after & ~0x3Fu) == modes); /* the low six bits are flags that arithmetic raises */
        check_same(&expected, &done, "the host's floating-point modes");
        segmentation_free(&done);
    }
}
#endif

int main(void) {
    tiny_model spec = tiny_model_default();
    model = tiny_model_load(&spec);
    slow = getenv("PATCHMASK_SLOW") != NULL;
    const uint64_t width = slow ? 54 : 90, height = slow ? 43 : 70, depth = slow ? 1 : 2;
    hu = synthetic_volume(width, height, depth);
    volume = dense_volume(hu, width, height, depth);
    options = synthetic_options(model, PATCH, STRIDE);
    expected = segment_all(model, &options, &volume, NULL);
    RUN(threads_and_repetition);
    RUN(one_session_many_calls);
    RUN(sharing_is_exact);
    RUN(estimate_is_what_happens);
    RUN(memory_budget);
    RUN(half_precision_weights);
    RUN(model_may_be_freed_first);
#ifdef __SSE__
    if (slow) printf("SKIPPED floating_point_modes_of_the_host: valgrind does not have them\n");
    else RUN(floating_point_modes_of_the_host);
#endif
    segmentation_free(&expected);
    patchmask_model_free(model);
    free(hu);
    return 0;
}
