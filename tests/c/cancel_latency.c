/* From a cancel until the call has returned: at most 100 ms, whatever the slices' shape, for segmenting and for estimating. Each
 * call is cancelled at random moments of what comes before the network and of its first part; the clock is the CPU time
 * of this process, so that a busy machine changes nothing.
 *
 *     cancel_latency               20 moments for each call
 *     cancel_latency MOMENTS       as many as that
 *     cancel_latency MOMENTS NAME  of that one only
 */
#define _XOPEN_SOURCE 700
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { MASK = 1, PROBABILITY = 2, COVERAGE = 4, LOGITS = 8, ALL = 15 };
enum { EVERYWHERE, STRIPES, ONE_VOXEL };
enum { IMAGE = 1, UNSHARED = 2, EQUALIZE = 4, LINEAR = 8, ESTIMATE = 16 };

typedef struct scenario {
    const char* name;
    uint64_t width, height, depth;
    uint32_t patch_size, stride;
    int roi, how, outputs;
    uint32_t threads;
} scenario;

static const scenario SCENARIOS[] = {
    {"large", 8000, 8000, 1, 64, 7, EVERYWHERE, EQUALIZE, ALL, 0},
    {"large_estimate", 8000, 8000, 1, 64, 7, EVERYWHERE, ESTIMATE, 0, 0},
    {"larger", 20000, 20000, 1, 257, 8, EVERYWHERE, EQUALIZE, MASK, 0},
    {"larger_estimate", 20000, 20000, 1, 257, 8, EVERYWHERE, ESTIMATE, 0, 0},
    {"larger_unshared", 20000, 20000, 1, 64, 7, EVERYWHERE, UNSHARED, MASK, 0},
    {"dense", 8000, 8000, 1, 64, 1, EVERYWHERE, 0, MASK | LOGITS, 0},
    {"dense_roi", 8000, 8000, 1, 64, 1, STRIPES, 0, MASK | LOGITS, 0},
    {"dense_roi_estimate", 8000, 8000, 1, 64, 1, STRIPES, ESTIMATE | LINEAR, 0, 0},
    {"one_voxel", 8000, 8000, 1, 32, 1, ONE_VOXEL, LINEAR | EQUALIZE, ALL, 0},
    {"wide", 1 << 24, 4, 1, 32, 16, EVERYWHERE, EQUALIZE, ALL, 0},
    {"wide_estimate", 1 << 24, 4, 1, 32, 16, EVERYWHERE, ESTIMATE, 0, 0},
    {"wide_roi", 1 << 24, 4, 1, 32, 5, STRIPES, LINEAR, ALL, 0},
    {"wide_one_voxel", 1 << 24, 4, 1, 32, 5, ONE_VOXEL, 0, ALL, 0},
    {"tall", 4, 1 << 24, 1, 32, 16, EVERYWHERE, EQUALIZE, ALL, 0},
    {"line", 4000000, 1, 1, 64, 1, EVERYWHERE, 0, MASK, 0},
    {"line_estimate", 4000000, 1, 1, 257, 1, EVERYWHERE, ESTIMATE, 0, 0},
    {"line_roi", 4000000, 1, 1, 64, 1, STRIPES, 0, MASK, 0},
    {"column", 1, 4000000, 1, 257, 1, EVERYWHERE, 0, MASK, 0},
    {"column_image", 1, 4000000, 1, 257, 1, EVERYWHERE, IMAGE, ALL, 0},
    {"column_roi_estimate", 1, 4000000, 1, 64, 1, STRIPES, ESTIMATE | IMAGE, 0, 0},
    {"column_unshared", 1, 4000000, 1, 32, 1, EVERYWHERE, UNSHARED, MASK, 0},
    {"column_unshared_image_estimate", 1, 4000000, 1, 32, 1, EVERYWHERE, UNSHARED | IMAGE | ESTIMATE, 0, 0},
    {"many_slices_roi_estimate", 32, 32, 200000, 32, 8, STRIPES, ESTIMATE, 0, 0},
    {"many_threads", 2000, 2000, 4, 64, 4, EVERYWHERE, LINEAR, ALL, 64},
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
static patchmask_volume slanted(const scenario* s, void* data, int32_t type, uint64_t bytes) {
    patchmask_volume volume;
    CHECK_OK(patchmask_volume_init(&volume, sizeof volume, data, type, s->width, s->height, s->depth));
    volume.stride_x = volume.stride_y = volume.stride_z = bytes;
    return volume;
}

/* Begins the call and cancels it after so many seconds, or when the network is at work; returns for how long it ran. */
static double begin_and_cancel(call* c, double after, int until_network, double* latency) {
    pthread_t thread;
    atomic_store(&c->done, false);
    atomic_store(&c->stage, 0);
    double began = seconds(CLOCK_MONOTONIC);
    CHECK(pthread_create(&thread, NULL, run, c) == 0);
    if (until_network) {
        while (!atomic_load(&c->done) && seconds(CLOCK_MONOTONIC) - began < after &&
               atomic_load(&c->stage) < PATCHMASK_STAGE_NETWORK)
            wait_seconds(0.002);
    } else {
        wait_seconds(after);
    }
    double ran = seconds(CLOCK_MONOTONIC) - began, cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);
    CHECK_OK(patchmask_session_cancel(c->session));
    CHECK(pthread_join(thread, NULL) == 0);
    *latency = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    CHECK(c->status == PATCHMASK_OK || c->status == PATCHMASK_CANCELLED);
    /* A cancel that came too late is for the next segmentation. */
    if (c->status == PATCHMASK_OK) {
        double ignored = 0;
        if (c->s->how & ESTIMATE) return ran;
        run(c);
        CHECK_STATUS(PATCHMASK_CANCELLED, c->status);
        c->status = PATCHMASK_OK;
        return (void)ignored, ran;
    }
    return ran;
}

static int try_moments(const scenario* s, int moments) {
    tiny_model spec = tiny_model_default();
    spec.patch_size = s->patch_size;
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_options options = synthetic_options(model, s->patch_size, s->stride);
    call c = {.s = s};
    options.padding = s->how & IMAGE ? PATCHMASK_PADDING_IMAGE : PATCHMASK_PADDING_PATCH;
    options.interpolation = s->how & LINEAR ? PATCHMASK_INTERPOLATION_LINEAR : PATCHMASK_INTERPOLATION_NEAREST;
    options.sharing = !(s->how & UNSHARED);
    options.equalize = (s->how & EQUALIZE) != 0;
    options.threads = s->threads;
    options.progress = tell;
    options.progress_user_data = &c;
    CHECK_OK(patchmask_session_new(model, &options, &c.session));

    size_t line = (size_t)(s->width + s->height + s->depth), voxels = (size_t)(s->width * s->height * s->depth);
    int16_t* hu = buffer(line, sizeof *hu);
    for (size_t i = 0; i < line; i++) hu[i] = synthetic_hu(i, i / 7, 0);
    c.volume = slanted(s, hu, PATCHMASK_VOXEL_I16, sizeof *hu);
    uint8_t* inside = NULL;
    if (s->roi == STRIPES) {
        inside = buffer(line, 1);
        for (size_t i = 0; i < line; i++) inside[i] = i % 997 < 500;
        c.roi = slanted(s, inside, PATCHMASK_VOXEL_U8, 1);
    } else if (s->roi == ONE_VOXEL) {
        inside = buffer(voxels, 1);
        inside[voxels / 2 + (size_t)s->width / 3] = 1;
        CHECK_OK(patchmask_volume_init(&c.roi, sizeof c.roi, inside, PATCHMASK_VOXEL_U8, s->width, s->height, s->depth));
    }
    CHECK_OK(patchmask_outputs_init(&c.outputs, sizeof c.outputs));
    size_t patches = (size_t)(((s->width - 1) / s->stride + 1) * ((s->height - 1) / s->stride + 1) * s->depth);
    if (s->outputs & MASK) c.outputs.mask = buffer(voxels, 1);
    if (s->outputs & COVERAGE) c.outputs.coverage = buffer(voxels, 1);
    if (s->outputs & PROBABILITY) c.outputs.probability = buffer(voxels, sizeof(float));
    if (s->outputs & LOGITS) c.outputs.logits = buffer(patches * 2, sizeof(float));

    double latency = 0, worst = 0, sum = 0, worst_after = 0;
    int worst_stage = 0, too_late = 0;
    double span = begin_and_cancel(&c, 4, 1, &worst);
    worst_after = span;
    worst_stage = atomic_load(&c.stage);
    double most = c.status == PATCHMASK_OK ? span : span + 0.3;
    unsigned random = 12345;
    for (int i = 0; i < moments; i++) {
        random = random * 1664525u + 1013904223u;
        double moment = most * (random >> 8) / (1 << 24);
        double ran = begin_and_cancel(&c, moment, 0, &latency);
        too_late += c.status == PATCHMASK_OK;
        sum += latency;
        if (latency > worst) worst = latency, worst_after = ran, worst_stage = atomic_load(&c.stage);
    }
    printf("   %-30s worst %7.1f ms after %.2f s (stage %d), mean %5.1f ms, %d moments of %.2f s, %d too late\n", s->name,
           1e3 * worst, worst_after, worst_stage, 1e3 * sum / moments, moments, most, too_late);
    fflush(stdout);
    patchmask_session_free(c.session);
    patchmask_model_free(model);
    free(c.outputs.mask), free(c.outputs.coverage), free(c.outputs.probability), free(c.outputs.logits);
    free(inside), free(hu);
    return worst <= LIMIT;
}

int main(int count, char** words) {
    int moments = count > 1 ? atoi(words[1]) : 20, kept = 1;
    if (getenv("PATCHMASK_SLOW") != NULL) {
        printf("SKIPPED cancel_latency: PATCHMASK_SLOW is set\n");
        return 0;
    }
    for (int i = 0; i < SCENARIO_COUNT; i++)
        if (count < 3 || strcmp(words[2], SCENARIOS[i].name) == 0) kept &= try_moments(&SCENARIOS[i], moments);
    CHECK(kept);
    printf("ok cancelled_within_100_ms\n");
    return 0;
}
