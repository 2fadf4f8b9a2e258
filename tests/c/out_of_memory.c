/* Every allocation of load, session, estimate and segment fails, one in each child process: once, or from there on for good.
 * A child must end by itself with OUT_OF_MEMORY or success, print nothing, and give the same bits afterwards.
 *
 *     out_of_memory          every 37th allocation of one geometry, both ways
 *     out_of_memory soak     every allocation, four geometries, with and without ROI and body, 1 and 2 threads; every 17th of a long line,
 *                            whose plans are megabytes
 */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "failing_malloc.h"
#include "segmentation.h"
#include "tiny_model.h"

/* ------------------------------------------------------------------------------------ failing allocations */

static atomic_long allocations = 0; /* since armed */
static long fails_at = 0;           /* 0: none */
static bool fails_for_good = false;
static atomic_bool armed = false;

bool allocation_refused(void) {
    if (!atomic_load_explicit(&armed, memory_order_relaxed)) return false;
    long number = atomic_fetch_add(&allocations, 1) + 1;
    return fails_at > 0 && (number == fails_at || (fails_for_good && number > fails_at));
}

/* -------------------------------------------------------------------------------------------- one life */

typedef struct geometry {
    uint32_t patch_size, stride;
    uint64_t width, height, depth;
} geometry;

static const geometry GEOMETRIES[] = {
    {32, 8, 40, 33, 2},
    {32, 7, 37, 20, 1},
    {33, 16, 64, 48, 3},
    {47, 5, 21, 30, 1},
};
static const geometry LINE = {32, 4, 12000, 1, 1};
enum { GEOMETRY_COUNT = sizeof GEOMETRIES / sizeof *GEOMETRIES, MAX_VOXELS = 12000 };

typedef struct scenario {
    geometry of;
    bool roi, body;
    uint32_t threads;
} scenario;

static uint8_t* file;
static size_t file_size;
static uint8_t roi[MAX_VOXELS];
static int16_t* hu;
static float probability[MAX_VOXELS];
static uint8_t mask[MAX_VOXELS];

/* Shared with the children. */
static struct {
    long allocations;
    float probability[MAX_VOXELS];
    uint8_t mask[MAX_VOXELS];
}* expected;

static patchmask_status estimate_and_segment(patchmask_session* session, const scenario* s) {
    patchmask_volume volume, inside;
    patchmask_outputs outputs;
    patchmask_estimate estimate;
    const geometry* of = &s->of;
    patchmask_volume_init(&volume, sizeof volume, hu, PATCHMASK_VOXEL_I16, of->width, of->height, of->depth);
    patchmask_volume_init(&inside, sizeof inside, roi, PATCHMASK_VOXEL_U8, of->width, of->height, of->depth);
    patchmask_outputs_init(&outputs, sizeof outputs);
    patchmask_estimate_init(&estimate, sizeof estimate);
    outputs.mask = mask;
    outputs.probability = probability;
    patchmask_status status = patchmask_session_estimate(session, &volume, s->roi ? &inside : NULL, &estimate);
    return status != PATCHMASK_OK
               ? status
               : patchmask_session_segment(session, &volume, s->roi ? &inside : NULL, &outputs, NULL);
}

static patchmask_status life(const scenario* s) {
    patchmask_model* model = NULL;
    patchmask_session* session = NULL;
    patchmask_options options;
    patchmask_status status = patchmask_model_load_memory(file, file_size, &model);
    if (status == PATCHMASK_OK) status = patchmask_options_init(&options, sizeof options, model);
    if (status == PATCHMASK_OK) {
        options.patch_size = s->of.patch_size;
        options.stride = s->of.stride;
        options.window_low = 0;
        options.window_high = 127;
        options.threads = s->threads;
        options.body = s->body;
        options.device = PATCHMASK_DEVICE_CPU;
        status = patchmask_session_new(model, &options, &session);
    }
    if (status == PATCHMASK_OK) status = estimate_and_segment(session, s);
    patchmask_session_free(session);
    patchmask_model_free(model);
    return status;
}

/* -------------------------------------------------------------------------------------------- children */

enum { CHILD_FINE, CHILD_NOT_REACHED, CHILD_STATUS, CHILD_AFTERWARDS, CHILD_BITS };

static int child(const scenario* s, long nth, bool for_good) {
    alarm(120);
    fails_at = nth;
    fails_for_good = for_good;
    atomic_store(&armed, true);
    patchmask_status status = life(s);
    atomic_store(&armed, false);
    if (nth == 0) {
        memcpy(expected->mask, mask, sizeof mask);
        memcpy(expected->probability, probability, sizeof probability);
        expected->allocations = atomic_load(&allocations);
        return status == PATCHMASK_OK ? CHILD_FINE : CHILD_STATUS;
    }
    if (status != PATCHMASK_OK && status != PATCHMASK_OUT_OF_MEMORY) return CHILD_STATUS;
    if (status == PATCHMASK_OUT_OF_MEMORY && patchmask_last_error()[0] == '\0') return CHILD_STATUS;
    memset(mask, 9, sizeof mask);
    if (life(s) != PATCHMASK_OK) return CHILD_AFTERWARDS;
    size_t voxels = (size_t)(s->of.width * s->of.height * s->of.depth);
    if (memcmp(mask, expected->mask, voxels) != 0 ||
        memcmp(probability, expected->probability, voxels * sizeof *probability) != 0) {
        return CHILD_BITS;
    }
    return atomic_load(&allocations) >= nth ? CHILD_FINE : CHILD_NOT_REACHED;
}

/* How the child ended, -1 for a signal; what it printed counts as -2. */
static int run(const scenario* s, long nth, bool for_good) {
    FILE* printed = tmpfile();
    CHECK(printed != NULL);
    fflush(stdout);
    pid_t process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        dup2(fileno(printed), 1);
        dup2(fileno(printed), 2);
        _exit(child(s, nth, for_good));
    }
    int status = 0;
    CHECK(waitpid(process, &status, 0) == process);
    bool silent = lseek(fileno(printed), 0, SEEK_END) == 0;
    fclose(printed);
    return !WIFEXITED(status) ? -1 : silent ? WEXITSTATUS(status) : -2;
}

static long failures = 0;

static void every(const scenario* s, long step) {
    static const char* const ENDS[] = {"", "the fault was not reached", "another status, or no text",
                                       "the next call failed", "other bits afterwards"};
    CHECK(run(s, 0, false) == CHILD_FINE);
    long count = expected->allocations, tried = 0, not_reached = 0;
    for (int for_good = 0; for_good <= 1; for_good++) {
        for (long nth = 1; nth <= count; nth += step, tried++) {
            int end = run(s, nth, for_good);
            not_reached += end == CHILD_NOT_REACHED;
            if (end != CHILD_FINE && end != CHILD_NOT_REACHED) {
                printf("FAILED allocation %ld of %ld%s: %s\n", nth, count, for_good ? " and all after it" : "",
                       end == -1   ? "killed by a signal"
                       : end == -2 ? "printed something"
                                   : ENDS[end]);
                failures++;
            }
        }
    }
    printf("   patches of %u every %u, %s%s, threads %u: %ld faults, %ld not reached\n", s->of.patch_size, s->of.stride,
           s->roi ? "ROI" : "no ROI", s->body ? ", body" : "", s->threads, tried, not_reached);
    /* Threads that work side by side allocate now a few times more, now a few less. */
    CHECK(not_reached * 20 <= tried);
}

int main(int count, char** words) {
    bool soak = count > 1 && strcmp(words[1], "soak") == 0;
    if (getenv("PATCHMASK_SLOW") != NULL) {
        printf("SKIPPED out_of_memory: PATCHMASK_SLOW is set\n");
        return 0;
    }
    expected = mmap(NULL, sizeof *expected, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(expected != MAP_FAILED);
    tiny_model spec = tiny_model_default();
    file = tiny_model_build(&spec, &file_size);
    hu = synthetic_volume(MAX_VOXELS, 1, 1);
    for (int i = 0; i < MAX_VOXELS; i++) roi[i] = i % 7 < 3;
    for (int g = 0; g < (soak ? GEOMETRY_COUNT : 1); g++) {
        for (int with_roi = 0; with_roi <= 1; with_roi++)
            for (uint32_t threads = 1; threads <= (soak ? 2 : 1); threads++)
                every(&(scenario){GEOMETRIES[g], with_roi, false, threads}, soak ? 1 : 37);
        every(&(scenario){GEOMETRIES[g], true, true, 1}, soak ? 1 : 37);
    }
    if (soak) every(&(scenario){LINE, false, false, 2}, 17);
    CHECK(failures == 0);
    printf("ok every_allocation_may_fail\n");
    return 0;
}
