/* Sessions without end: random geometry, options, ROI, threads, cancels, bad arguments and times without memory, from four threads
 * at once. Every finished result has the bits that a fresh process gives; no memory, file or thread is lost.
 *
 *     sessions [SECONDS]     default 10; `make soak`: 3600
 *     sessions case NUMBER   prints one result, in a process of its own */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "failing_malloc.h"
#include "segmentation.h"
#include "tiny_model.h"

enum {
    THREADS = 4,
    CASES = 400,
    PER_ROUND = 25,
    MAX_SIDE = 72,
    MAX_DEPTH = 3,
    MAX_VOXELS = MAX_SIDE * MAX_SIDE * MAX_DEPTH
};

static patchmask_model* model;
static int16_t* hu; /* of the largest volume: smaller ones are its corner */
static uint8_t roi[MAX_VOXELS];

/* ------------------------------------------------------------------------------------------- random things */

static uint32_t next(uint64_t* random, uint32_t below) {
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*random >> 33) % below;
}

/* While there is little memory, one allocation of 50 fails, whosever it is. */
static atomic_int little_memory = 0;
static atomic_uint allocations = 0, refusals = 0;
static _Thread_local bool own_work = false; /* of this program, which has memory */

bool allocation_refused(void) {
    if (own_work || atomic_load_explicit(&little_memory, memory_order_relaxed) == 0) return false;
    bool refused = (atomic_fetch_add(&allocations, 1) * 2654435761u >> 16) % 50 == 0;
    if (refused) atomic_fetch_add(&refusals, 1);
    return refused;
}

/* --------------------------------------------------------------------------------------------------- cases */

typedef struct result {
    uint8_t mask[MAX_VOXELS], coverage[MAX_VOXELS];
    float probability[MAX_VOXELS];
} result;

typedef struct progress {
    int calls_left; /* cancelled then; negative: never */
} progress;

static int32_t on_progress(double fraction, int32_t stage, void* user_data) {
    progress* p = user_data;
    return fraction >= 0 && stage > 0 && p->calls_left >= 0 && p->calls_left-- == 0;
}

/* Case `number`, always the same; threads and budget, which change no bit, from `random`. */
static patchmask_status run_case(uint32_t number, uint64_t* random, progress* told, result* out) {
    uint64_t facts = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    patchmask_session* session = NULL;
    patchmask_options options = synthetic_options(model, 32 + next(&facts, 16), 1 + next(&facts, 20));
    uint64_t width = 1 + next(&facts, MAX_SIDE), height = 1 + next(&facts, MAX_SIDE),
             depth = 1 + next(&facts, MAX_DEPTH);
    if (options.stride < 4 && width * height > 900) options.stride = 8;
    options.padding = next(&facts, 3) == 0 ? PATCHMASK_PADDING_IMAGE : PATCHMASK_PADDING_PATCH;
    options.interpolation = (int32_t)next(&facts, 2);
    options.equalize = next(&facts, 3) == 0;
    options.body = next(&facts, 3) == 0;
    if (next(&facts, 4) == 0) {
        options.crop_x1 = 1 + next(&facts, (uint32_t)width);
        options.crop_y1 = 1 + next(&facts, (uint32_t)height);
    }
    bool with_roi = next(&facts, 3) == 0;
    options.threads = 1 + next(random, 3);
    options.memory_budget = next(random, 2) ? 0 : 9u << 20;
    options.progress = on_progress;
    options.progress_user_data = told;

    patchmask_volume volume = dense_volume(hu, width, height, depth), inside;
    patchmask_volume_init(&inside, sizeof inside, roi, PATCHMASK_VOXEL_U8, width, height, depth);
    patchmask_outputs outputs;
    patchmask_outputs_init(&outputs, sizeof outputs);
    outputs.mask = out->mask;
    outputs.coverage = out->coverage;
    outputs.probability = out->probability;
    memset(out, 0, sizeof *out);
    patchmask_status status = patchmask_session_new(model, &options, &session);
    if (status == PATCHMASK_OK) {
        if (next(random, 3) == 0) {
            patchmask_estimate estimate;
            patchmask_estimate_init(&estimate, sizeof estimate);
            status = patchmask_session_estimate(session, &volume, with_roi ? &inside : NULL, &estimate);
        }
        if (next(random, 8) == 0) {
            patchmask_volume wrong = volume;
            wrong.stride_y = 1;
            wrong.width = next(random, 2) ? 0 : UINT64_C(1) << 60;
            CHECK(patchmask_session_segment(session, &wrong, NULL, &outputs, NULL) == PATCHMASK_INVALID_ARGUMENT);
        }
        if (told->calls_left == 0) patchmask_session_cancel(session);
        if (status == PATCHMASK_OK)
            status = patchmask_session_segment(session, &volume, with_roi ? &inside : NULL, &outputs, NULL);
    }
    patchmask_session_free(session);
    return status;
}

static uint64_t hash(const result* of) {
    uint64_t made = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < sizeof *of; i++) made = (made ^ ((const uint8_t*)of)[i]) * UINT64_C(0x100000001b3);
    return made;
}

/* -------------------------------------------------------------------------------------------- fresh process */

static char** environment;
static const char* program;
static pthread_mutex_t expected_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t expected[CASES];
static bool is_known[CASES];

static int print_case(uint32_t number) {
    static result made;
    uint64_t random = number;
    progress told = {.calls_left = -1};
    CHECK_OK(run_case(number, &random, &told, &made));
    printf("%llx\n", (unsigned long long)hash(&made));
    return 0;
}

static uint64_t from_fresh_process(uint32_t number) {
    char text[16], line[32] = "";
    int ends[2], status = 0;
    pid_t child;
    posix_spawn_file_actions_t actions;
    snprintf(text, sizeof text, "%u", number);
    char* words[] = {(char*)(uintptr_t)program, (char*)(uintptr_t)"case", text, NULL};
    CHECK(pipe2(ends, O_CLOEXEC) == 0 && posix_spawn_file_actions_init(&actions) == 0);
    CHECK(posix_spawn_file_actions_adddup2(&actions, ends[1], 1) == 0);
    CHECK(posix_spawn(&child, program, &actions, NULL, words, environment) == 0);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    for (size_t have = 0; have + 1 < sizeof line;) {
        ssize_t got = read(ends[0], line + have, sizeof line - 1 - have);
        if (got <= 0) break;
        have += (size_t)got;
    }
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return strtoull(line, NULL, 16);
}

static void check_bits(uint32_t number, const result* made) {
    pthread_mutex_lock(&expected_lock);
    if (!is_known[number]) {
        own_work = true;
        expected[number] = from_fresh_process(number);
        is_known[number] = true;
        own_work = false;
    }
    uint64_t right = expected[number];
    pthread_mutex_unlock(&expected_lock);
    if (hash(made) != right) {
        printf("FAILED case %u: other bits than in a fresh process\n", number);
        exit(1);
    }
}

/* ------------------------------------------------------------------------------------------------- threads */

static atomic_uint finished = 0, cancelled = 0, without_memory = 0;

static void* sessions(void* seed) {
    static _Thread_local result made;
    uint64_t random = (uint64_t)(uintptr_t)seed;
    for (int i = 0; i < PER_ROUND; i++) {
        uint32_t number = next(&random, CASES);
        progress told = {.calls_left = next(&random, 5) == 0 ? (int)next(&random, 4) : -1};
        bool short_of_memory = next(&random, 6) == 0;
        if (short_of_memory) atomic_fetch_add(&little_memory, 1);
        patchmask_status status = run_case(number, &random, &told, &made);
        if (short_of_memory) atomic_fetch_sub(&little_memory, 1);
        if (status == PATCHMASK_OK) {
            atomic_fetch_add(&finished, 1);
            check_bits(number, &made);
        } else if (status == PATCHMASK_OUT_OF_MEMORY) {
            atomic_fetch_add(&without_memory, 1);
        } else {
            CHECK(status == PATCHMASK_CANCELLED);
            atomic_fetch_add(&cancelled, 1);
        }
    }
    return NULL;
}

static long entries(const char* folder) {
    long count = 0;
    DIR* opened = opendir(folder);
    CHECK(opened != NULL);
    while (readdir(opened) != NULL) count++;
    closedir(opened);
    return count;
}

static long resident_kib(void) {
    long pages = 0;
    malloc_trim(0);
    FILE* statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%*d %ld", &pages) == 1);
    fclose(statm);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void sessions_without_end(double seconds) {
    double began = now();
    long files = entries("/proc/self/fd"), settled = 0, last = 0, rounds = 0;
    for (; now() - began < seconds; rounds++) {
        pthread_t threads[THREADS];
        for (int i = 0; i < THREADS; i++)
            CHECK(pthread_create(&threads[i], NULL, sessions, (void*)(uintptr_t)(rounds * THREADS + i + 1)) == 0);
        for (int i = 0; i < THREADS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
        for (int wait = 0; entries("/proc/self/task") > 3; wait++) { /* ".", ".." and this one */
            CHECK(wait < 2000);
            usleep(1000);
        }
        CHECK(entries("/proc/self/fd") == files);
        last = resident_kib();
        /* The first third fills what stays: stacks that the C library keeps, its pools, the bits that are known. */
        if (now() - began < seconds / 3 && last > settled) settled = last;
    }
    printf(
        "   %ld sessions in %.0f s: %u finished, %u cancelled, %u OUT_OF_MEMORY (%u allocations failed); %ld KiB "
        "resident after a "
        "third, %ld at the end\n",
        rounds * THREADS * PER_ROUND, now() - began, finished, cancelled, without_memory, refusals, settled, last);
    CHECK(finished > 0 && cancelled > 0 && without_memory > 0);
    /* In a short run little has settled. */
    if (seconds >= 600) CHECK((double)last <= 1.02 * (double)settled);
}

int main(int count, char** words, char** env) {
    tiny_model spec = tiny_model_default();
    /* One pool of the C library's: with more, what lies fragmented in them would hide a leak. */
    mallopt(M_ARENA_MAX, 1);
    program = words[0];
    environment = env;
    model = tiny_model_load(&spec);
    hu = synthetic_volume(MAX_SIDE, MAX_SIDE, MAX_DEPTH);
    for (int i = 0; i < MAX_VOXELS; i++) roi[i] = i % 11 < 4 && i / 97 % 3 > 0;
    int failed = 0;
    if (count == 3 && strcmp(words[1], "case") == 0) {
        failed = print_case((uint32_t)atol(words[2]));
    } else if (getenv("PATCHMASK_SLOW") != NULL) {
        printf("SKIPPED sessions_without_end: PATCHMASK_SLOW is set\n");
    } else {
        sessions_without_end(count > 1 ? atof(words[1]) : 10);
        printf("ok sessions_without_end\n");
    }
    patchmask_model_free(model);
    free(hu);
    return failed;
}
