/* From a cancel until the call has returned: at most 100 ms, whatever the slices' shape, for segmenting and for estimating. A call
 * is cancelled at random moments of what comes before the network and of its beginning. The latency is the time that passed or
 * the CPU time of this process, whichever is less: a busy machine lengthens the one, threads side by side the other. A virtual
 * machine whose cores are taken away lengthens both, so a moment that was late is tried twice more and its best counts.
 *
 *     cancel_latency               20 moments of each call that is marked
 *     cancel_latency MOMENTS       so many of every call
 *     cancel_latency MOMENTS NAME  of one call
 */
#define _XOPEN_SOURCE 700
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { MASK = 1, PROBABILITY = 2, COVERAGE = 4, LOGITS = 8, ALL = 15 };
enum { EVERYWHERE, STRIPES, NOISE, ONE_VOXEL };
enum { IMAGE = 1, UNSHARED = 2, EQUALIZE = 4, LINEAR = 8, ESTIMATE = 16, LOW_MEMORY = 32, SHORT = 64, BODY = 128 };

typedef struct scenario {
    const char* name;
    uint64_t width, height, depth;
    uint32_t patch_size, stride;
    int roi, how, outputs;
    uint32_t threads, classes;
} scenario;

static const scenario SCENARIOS[] = {
    {"large", 8000, 8000, 1, 64, 7, EVERYWHERE, EQUALIZE | SHORT, ALL, 0, 2},
    {"large_estimate", 8000, 8000, 1, 257, 7, EVERYWHERE, ESTIMATE, 0, 0, 2},
    {"larger", 20000, 20000, 1, 257, 8, EVERYWHERE, EQUALIZE | SHORT, MASK, 0, 2},
    {"larger_estimate", 20000, 20000, 1, 257, 7, EVERYWHERE, ESTIMATE | LOW_MEMORY, 0, 0, 2},
    {"larger_unshared", 20000, 20000, 1, 64, 7, EVERYWHERE, UNSHARED, MASK, 0, 2},
    {"larger_roi", 20000, 20000, 1, 65, 16, NOISE, IMAGE, MASK, 0, 3},
    {"large_body", 4000, 4000, 1, 65, 16, EVERYWHERE, BODY | SHORT, MASK, 0, 2},
    {"larger_body", 10000, 10000, 1, 65, 16, NOISE, BODY | LINEAR, MASK, 0, 2},
    {"dense", 8000, 8000, 1, 257, 1, EVERYWHERE, 0, MASK | LOGITS, 0, 2},
    {"dense_roi", 8000, 8000, 1, 64, 1, STRIPES, SHORT, MASK | LOGITS, 0, 2},
    {"dense_noise", 6000, 6000, 1, 64, 1, NOISE, EQUALIZE, MASK, 0, 2},
    {"dense_roi_estimate", 8000, 8000, 1, 64, 1, STRIPES, ESTIMATE | LINEAR | SHORT, 0, 0, 2},
    {"dense_noise_estimate", 4000, 4000, 1, 257, 1, NOISE, ESTIMATE | LOW_MEMORY, 0, 0, 2},
    {"dense_unshared_estimate", 8000, 8000, 1, 64, 1, STRIPES, ESTIMATE | UNSHARED, 0, 0, 2},
    {"one_voxel", 8000, 8000, 1, 32, 1, ONE_VOXEL, LINEAR | EQUALIZE | SHORT, ALL, 0, 2},
    {"many_classes", 3000, 3000, 1, 32, 2, ONE_VOXEL, LINEAR, ALL, 0, 255},
    {"wide", 1 << 24, 4, 1, 32, 16, EVERYWHERE, EQUALIZE | SHORT, ALL, 0, 2},
    {"wide_body", 1 << 24, 1, 1, 32, 16, EVERYWHERE, BODY | SHORT, MASK, 0, 2},
    {"wide_estimate", 1 << 24, 4, 1, 32, 16, EVERYWHERE, ESTIMATE, 0, 0, 2},
    {"wide_roi", 1 << 24, 4, 1, 32, 5, STRIPES, LINEAR, ALL, 0, 2},
    {"wide_one_voxel", 1 << 24, 4, 1, 32, 5, ONE_VOXEL, 0, ALL, 0, 2},
    {"wide_coarse_estimate", 1 << 24, 4, 1, 1024, 1024, EVERYWHERE, ESTIMATE, 0, 0, 2},
    {"wide_fine_estimate", 1 << 24, 1, 1, 1024, 1, EVERYWHERE, ESTIMATE, 0, 0, 2},
    {"tall", 4, 1 << 24, 1, 32, 16, EVERYWHERE, EQUALIZE, ALL, 0, 2},
    {"tall_body", 4, 1 << 24, 1, 32, 16, EVERYWHERE, BODY, MASK, 0, 2},
    {"tall_noise_estimate", 4, 1 << 24, 1, 64, 3, NOISE, ESTIMATE, 0, 0, 2},
    {"line", 4000000, 1, 1, 64, 1, EVERYWHERE, SHORT, MASK, 0, 2},
    {"line_estimate", 4000000, 1, 1, 257, 1, EVERYWHERE, ESTIMATE | SHORT, 0, 0, 2},
    {"line_low_estimate", 4000000, 1, 1, 257, 1, EVERYWHERE, ESTIMATE | LOW_MEMORY, 0, 0, 2},
    {"line_roi", 4000000, 1, 1, 64, 1, STRIPES, 0, MASK, 0, 2},
    {"line_noise_estimate", 4000000, 1, 1, 257, 1, NOISE, ESTIMATE, 0, 0, 2},
    {"line_image_low", 4000000, 1, 1, 257, 1, EVERYWHERE, IMAGE | LOW_MEMORY, MASK, 0, 2},
    {"column", 1, 4000000, 1, 257, 1, EVERYWHERE, 0, MASK, 0, 2},
    {"column_image", 1, 4000000, 1, 257, 1, EVERYWHERE, IMAGE, ALL, 0, 2},
    {"column_image_estimate", 1, 4000000, 1, 64, 1, STRIPES, ESTIMATE | IMAGE, 0, 0, 2},
    {"column_unshared", 1, 4000000, 1, 32, 1, EVERYWHERE, UNSHARED, MASK, 0, 2},
    {"column_unshared_estimate", 1, 4000000, 1, 32, 1, EVERYWHERE, UNSHARED | IMAGE | ESTIMATE, 0, 0, 2},
    {"many_slices", 33, 33, 100000, 32, 8, EVERYWHERE, EQUALIZE, MASK, 0, 2},
    {"many_slices_estimate", 32, 32, 200000, 32, 8, STRIPES, ESTIMATE, 0, 0, 2},
    {"many_threads", 2000, 2000, 4, 64, 4, EVERYWHERE, LINEAR | SHORT, ALL, 64, 2},
    {"one_thread", 2000, 2000, 4, 257, 16, EVERYWHERE, 0, ALL, 1, 2},
};
enum { SCENARIO_COUNT = sizeof SCENARIOS / sizeof *SCENARIOS };

static const double LIMIT = 0.1;

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void wait_seconds(double time) {
    struct timespec span = {.tv_sec = (time_t)time};
    span.tv_nsec = (long)(1e9 * (time - (double)span.tv_sec));
    nanosleep(&span, NULL);
}

typedef struct call {
    const scenario* s;
    patchmask_session* session;
    patchmask_volume volume, roi;
    patchmask_outputs outputs;
    patchmask_status status;
    atomic_int stage; /* the last that was told */
    atomic_bool done;
} call;

static int32_t tell(double fraction, int32_t stage, void* user_data) {
    (void)fraction;
    atomic_store(&((call*)user_data)->stage, stage);
    return 0;
}

static void* run(void* argument) {
    call* c = argument;
    const patchmask_volume* roi = c->s->roi == EVERYWHERE ? NULL : &c->roi;
    if (c->s->how & ESTIMATE) {
        patchmask_estimate estimate;
        CHECK_OK(patchmask_estimate_init(&estimate, sizeof estimate));
        c->status = patchmask_session_estimate(c->session, &c->volume, roi, &estimate);
    } else {
        c->status = patchmask_session_segment(c->session, &c->volume, roi, &c->outputs, NULL);
    }
    atomic_store(&c->done, true);
    return NULL;
}

static void* buffer(size_t count, size_t bytes) {
    void* memory = calloc(count, bytes);
    CHECK(memory != NULL);
    return memory;
}

/* Rows overlap, so that a large volume takes little memory. */
static patchmask_volume slanted(const scenario* s, const void* data, int32_t type, uint64_t bytes) {
    patchmask_volume volume;
    CHECK_OK(patchmask_volume_init(&volume, sizeof volume, data, type, s->width, s->height, s->depth));
    volume.stride_x = volume.stride_y = volume.stride_z = bytes;
    return volume;
}

static double least(double a, double b) { return a < b ? a : b; }

/* Begins the call and cancels it after so many seconds, or when the network is at work before. Returns the latency. */
static double cancel_once(call* c, double after, bool until_network, double* ran) {
    pthread_t thread;
    atomic_store(&c->done, false);
    atomic_store(&c->stage, 0);
    double began = seconds(CLOCK_MONOTONIC);
    CHECK(pthread_create(&thread, NULL, run, c) == 0);
    if (!until_network) wait_seconds(after);
    else
        while (!atomic_load(&c->done) && seconds(CLOCK_MONOTONIC) - began < after &&
               atomic_load(&c->stage) < PATCHMASK_STAGE_NETWORK)
            wait_seconds(0.002);
    *ran = seconds(CLOCK_MONOTONIC) - began;
    double asked = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    CHECK_OK(patchmask_session_cancel(c->session));
    CHECK(pthread_join(thread, NULL) == 0);
    double latency = least(seconds(CLOCK_MONOTONIC) - asked, seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    CHECK(c->status == PATCHMASK_OK || c->status == PATCHMASK_CANCELLED);
    if (c->status == PATCHMASK_OK) { /* too late: it is for the next segmentation */
        int stage = atomic_load(&c->stage);
        CHECK_STATUS(PATCHMASK_CANCELLED, patchmask_session_segment(c->session, &c->volume, NULL, &c->outputs, NULL));
        atomic_store(&c->stage, stage);
    }
    return latency;
}

static double cancel_after(call* c, double after, bool until_network, double* ran) {
    double latency = cancel_once(c, after, until_network, ran);
    for (int again = 0; again < 2 && latency > LIMIT; again++)
        latency = least(latency, cancel_once(c, *ran, false, ran));
    return latency;
}

static uint64_t patches_along(uint64_t length, uint32_t stride) { return (length - 1) / stride + 1; }

static bool keeps_the_limit(const scenario* s, int moments, double longest) {
    tiny_model spec = tiny_model_default();
    spec.patch_size = s->patch_size;
    spec.classes = s->classes;
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_options options = synthetic_options(model, s->patch_size, s->stride);
    call c = {.s = s};
    options.padding = s->how & IMAGE ? PATCHMASK_PADDING_IMAGE : PATCHMASK_PADDING_PATCH;
    options.interpolation = s->how & LINEAR ? PATCHMASK_INTERPOLATION_LINEAR : PATCHMASK_INTERPOLATION_NEAREST;
    options.sharing = !(s->how & UNSHARED);
    options.equalize = (s->how & EQUALIZE) != 0;
    options.body = (s->how & BODY) != 0;
    options.threads = s->threads;
    options.progress = tell;
    options.progress_user_data = &c;
    size_t voxels = (size_t)(s->width * s->height * s->depth);
    size_t patches = (size_t)(patches_along(s->width, s->stride) * patches_along(s->height, s->stride) * s->depth);
    /* The slice, the patches, and little for tiles. */
    if (s->how & LOW_MEMORY) options.memory_budget = 5 * voxels / s->depth + 17 * patches / s->depth + (150 << 20);
    CHECK_OK(patchmask_session_new(model, &options, &c.session));

    size_t line = (size_t)(s->width + s->height + s->depth);
    int16_t* hu = buffer(line, sizeof *hu);
    uint8_t* inside = buffer(s->roi == ONE_VOXEL ? voxels : line, 1);
    for (size_t i = 0; i < line; i++) hu[i] = synthetic_hu(i, i / 7, 0);
    if (s->how & BODY) /* stripes and specks of tissue in air */
        for (size_t i = 0; i < line; i++) hu[i] = i % 1009 < 400 && hu[i] % 3 != 0 ? 40 : -1000;
    c.volume = slanted(s, hu, PATCHMASK_VOXEL_I16, sizeof *hu);
    c.roi = slanted(s, inside, PATCHMASK_VOXEL_U8, 1);
    if (s->roi == ONE_VOXEL) {
        inside[voxels / 2 + (size_t)s->width / 3] = 1;
        c.roi.stride_x = c.roi.stride_y = c.roi.stride_z = 0;
    } else
        for (size_t i = 0; i < line; i++)
            inside[i] = s->roi == STRIPES ? i % 997 < 500 : synthetic_hu(i, 0, 0) % 5 == 0;
    CHECK_OK(patchmask_outputs_init(&c.outputs, sizeof c.outputs));
    c.outputs.mask = buffer(voxels, 1);
    if (s->outputs & COVERAGE) c.outputs.coverage = buffer(voxels, 1);
    if (s->outputs & PROBABILITY) c.outputs.probability = buffer(voxels, sizeof(float));
    if (s->outputs & LOGITS) c.outputs.logits = buffer(patches * s->classes, sizeof(float));

    double ran = 0, sum = 0, worst_after = 0;
    double worst = cancel_after(&c, longest, true, &worst_after);
    double span = c.status == PATCHMASK_OK ? worst_after : worst_after + 0.3;
    int worst_stage = atomic_load(&c.stage), too_late = 0;
    uint32_t random = 12345;
    for (int i = 0; i < moments; i++) {
        random = random * 1664525u + 1013904223u;
        /* Every second one is an early one. */
        double share = (random >> 8) / 16777216.0;
        double latency = cancel_after(&c, span * (i % 2 == 0 ? share : pow(0.01, share)), false, &ran);
        too_late += c.status == PATCHMASK_OK;
        sum += latency;
        if (latency > worst) worst = latency, worst_after = ran, worst_stage = atomic_load(&c.stage);
    }
    printf("   %-24s worst %5.1f ms (after %.2f s, stage %d), mean %5.1f ms; %d moments of %.2f s, %d too late\n",
           s->name, 1e3 * worst, worst_after, worst_stage, 1e3 * sum / moments, moments, span, too_late);
    fflush(stdout);
    patchmask_session_free(c.session);
    patchmask_model_free(model);
    free(c.outputs.mask), free(c.outputs.coverage), free(c.outputs.probability), free(c.outputs.logits);
    free(inside), free(hu);
    return worst <= LIMIT;
}

int main(int count, char** words) {
    if (getenv("PATCHMASK_SLOW") != NULL) {
        printf("SKIPPED cancel_latency: PATCHMASK_SLOW is set\n");
        return 0;
    }
    bool kept = true, all = count > 1;
    for (int i = 0; i < SCENARIO_COUNT; i++) {
        const scenario* s = &SCENARIOS[i];
        bool wanted = count > 2 ? strcmp(words[2], s->name) == 0 : all || s->how & SHORT;
        if (wanted) kept &= keeps_the_limit(s, all ? atoi(words[1]) : 20, all ? 4 : 1);
    }
    CHECK(kept);
    printf("ok cancelled_within_100_ms\n");
    return 0;
}
