/* Loading and segmenting where memory ends: children with ever more memory, from nearly none to enough. The end is that
 * of the address space, with and without a thread of the host that takes what it can get, or the limit of a control
 * group. Each child must end by itself, with success or OUT_OF_MEMORY.
 *
 *     memory [RACES]         default 20; `make soak`: 200
 *
 * PATCHMASK_SLOW=1 skips it: valgrind and sanitizers need address space of their own. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 150, HEIGHT = 130, DEPTH = 2, VOXELS = WIDTH * HEIGHT * DEPTH };

static uint8_t* file;
static size_t file_size;
static int16_t* hu;
static uint8_t mask[VOXELS];

/* Bytes of address space that this process has. */
static uint64_t address_space(void) {
    unsigned long long pages = 0;
    FILE* statm = fopen("/proc/self/statm", "r");
    CHECK(statm != NULL && fscanf(statm, "%llu", &pages) == 1);
    fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* The next call, unless one before has failed. */
#define THEN(call) (status = status == PATCHMASK_OK ? (call) : status)

static patchmask_status load_and_segment(void) {
    patchmask_model* model = NULL;
    patchmask_session* session = NULL;
    patchmask_options options;
    patchmask_volume volume;
    patchmask_outputs outputs;
    patchmask_status status = patchmask_model_load_memory(file, file_size, &model);
    THEN(patchmask_options_init(&options, sizeof options, model));
    if (status == PATCHMASK_OK) {
        options.patch_size = 64;
        options.stride = 8;
        options.threads = 2;
        options.device = PATCHMASK_DEVICE_CPU;
    }
    THEN(patchmask_session_new(model, &options, &session));
    THEN(patchmask_volume_init(&volume, sizeof volume, hu, PATCHMASK_VOXEL_I16, WIDTH, HEIGHT, DEPTH));
    THEN(patchmask_outputs_init(&outputs, sizeof outputs));
    if (status == PATCHMASK_OK) outputs.mask = mask;
    THEN(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
    patchmask_session_free(session);
    patchmask_model_free(model);
    return status;
}

enum { OK = 0, NO_MEMORY = PATCHMASK_OUT_OF_MEMORY / 100, NOT_PERMITTED = 99 };

/* A child that has called `confine(extra)` first: how it ended is counted. */
typedef struct outcomes {
    unsigned succeeded, refused, failed;
} outcomes;

static void run_in_child(outcomes* counts, void (*confine)(uint64_t), uint64_t extra) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        alarm(60); /* a child that hangs is a failure */
        confine(extra);
        _exit(load_and_segment() / 100);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    int ended = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    counts->succeeded += ended == OK;
    counts->refused += ended == NO_MEMORY;
    if (ended != OK && ended != NO_MEMORY) {
        counts->failed++;
        printf("FAILED with %llu KiB more: ", (unsigned long long)(extra >> 10));
        if (WIFSIGNALED(status)) printf("killed by signal %d\n", WTERMSIG(status));
        else printf("ended with %d\n", ended);
    }
}

static void check_outcomes(const outcomes* counts) {
    printf("   %u succeeded, %u OUT_OF_MEMORY, %u other\n", counts->succeeded, counts->refused, counts->failed);
    CHECK(counts->failed == 0 && counts->succeeded > 0 && counts->refused > 0);
}

/* From nearly nothing to more than enough. */
#define FOR_EVERY_AMOUNT(extra, part) \
    for (uint64_t extra = 0; extra < (UINT64_C(512) << 20); extra += extra / (part) + (UINT64_C(64) << 10))

/* ------------------------------------------------------------------------------------------- address space */

static void limit_address_space(uint64_t extra) {
    struct rlimit limit = {.rlim_cur = address_space() + extra};
    limit.rlim_max = limit.rlim_cur;
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(NOT_PERMITTED);
}

static void address_space_ends(void) {
    outcomes counts = {0};
    FOR_EVERY_AMOUNT(extra, 16) run_in_child(&counts, limit_address_space, extra);
    check_outcomes(&counts);
}

static struct {
    unsigned random, pieces;
} eater;

/* Takes memory in pieces of up to 1 MiB and gives them back, again and again. */
static void* eat(void* unused) {
    static void* pieces[1024];
    for (;;) {
        eater.random = eater.random * 1664525u + 1013904223u;
        void** piece = &pieces[(eater.random >> 8) % eater.pieces];
        free(*piece);
        *piece = malloc(eater.random % (1u << 20));
    }
    return unused;
}

static void beside_an_eater(uint64_t extra) {
    pthread_t thread;
    limit_address_space(extra);
    if (pthread_create(&thread, NULL, eat, NULL) != 0) _exit(NO_MEMORY);
}

static long races = 20;

static void a_race_for_address_space(void) {
    outcomes counts = {0};
    for (long i = 0; i < races; i++) {
        /* At most what is there, at least a third of it. */
        uint64_t mebibytes = 150 + (uint64_t)i * 37 % 200;
        eater.random = (unsigned)i;
        eater.pieces = (unsigned)(mebibytes * (2 + (uint64_t)i % 5) / 3);
        run_in_child(&counts, beside_an_eater, mebibytes << 20);
    }
    check_outcomes(&counts);
}

/* ------------------------------------------------------------------------------------------- control group */

static struct {
    char folder[64];
    const char *limit, *with_swap;
} group;

static int write_to_group(const char* name, uint64_t value) {
    char path[128];
    snprintf(path, sizeof path, "%s/%s", group.folder, name);
    FILE* file = fopen(path, "w");
    if (file == NULL) return 0;
    int written = fprintf(file, "%llu\n", (unsigned long long)value) > 0;
    return fclose(file) == 0 && written;
}

static int make_group(void) {
    snprintf(group.folder, sizeof group.folder, "/sys/fs/cgroup/memory/patchmask-%d", (int)getpid());
    group.limit = "memory.limit_in_bytes";
    group.with_swap = "memory.memsw.limit_in_bytes";
    if (mkdir(group.folder, 0755) == 0) return 1;
    snprintf(group.folder, sizeof group.folder, "/sys/fs/cgroup/patchmask-%d", (int)getpid());
    group.limit = "memory.max";
    group.with_swap = "memory.swap.max";
    if (mkdir(group.folder, 0755) != 0) return 0;
    if (write_to_group("memory.max", UINT64_C(1) << 40)) return 1;
    rmdir(group.folder);
    return 0;
}

/* The host has 32 MiB of its own. */
static void enter_group(uint64_t extra) {
    enum { HOST = 32 << 20 };
    if (!write_to_group("cgroup.procs", (uint64_t)getpid())) _exit(NOT_PERMITTED);
    void* host = mmap(NULL, HOST, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED) _exit(NO_MEMORY);
    memset(host, 1, HOST);
    if (!write_to_group(group.limit, HOST + (UINT64_C(8) << 20) + extra)) _exit(NOT_PERMITTED);
    /* Where there is no swap there is no such file. */
    write_to_group(group.with_swap, group.limit[7] == 'm' ? 0 : HOST + (UINT64_C(8) << 20) + extra);
}

static void leave_no_limit(void) {
    write_to_group(group.with_swap, group.limit[7] == 'm' ? 0 : UINT64_C(1) << 40);
    write_to_group(group.limit, UINT64_C(1) << 40);
}

static void a_control_group_is_full(void) {
    if (!make_group()) {
        printf("SKIPPED a_control_group_is_full: groups cannot be made here\n");
        return;
    }
    outcomes counts = {0};
    FOR_EVERY_AMOUNT(extra, 4) {
        run_in_child(&counts, enter_group, extra);
        leave_no_limit();
    }
    /* A group goes when the last process has left it, which takes a moment. */
    for (int i = 0; rmdir(group.folder) != 0 && i < 100; i++) usleep(10000);
    check_outcomes(&counts);
}

int main(int count, char** words) {
    if (count > 1) races = atol(words[1]);
    if (getenv("PATCHMASK_SLOW") != NULL) {
        printf("SKIPPED memory: PATCHMASK_SLOW is set\n");
        return 0;
    }
    tiny_model spec = tiny_model_default();
    spec.width = 24;
    spec.patch_size = 64;
    spec.hidden = 300;
    file = tiny_model_build(&spec, &file_size);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    RUN(address_space_ends);
    RUN(a_race_for_address_space);
    RUN(a_control_group_is_full);
    free(file);
    free(hu);
    return 0;
}
