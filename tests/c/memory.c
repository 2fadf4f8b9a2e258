/* Loading and segmenting where memory ends: children with ever more address space, from nearly none to
 * enough. Each must end by itself, with success or OUT_OF_MEMORY. PATCHMASK_SLOW=1 skips it: valgrind
 * and sanitizers need address space of their own. */
#define _XOPEN_SOURCE 700
#include <sys/resource.h>
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

/* The outcome in a child with `extra` more bytes than it has: a status number / 100. */
static int run_in_child(uint64_t extra) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct rlimit limit = {.rlim_cur = address_space() + extra};
        limit.rlim_max = limit.rlim_cur;
        alarm(60); /* a child that hangs is a failure */
        if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(99);
        _exit(load_and_segment() / 100);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status)) {
        printf("FAILED with %llu KiB more: killed by signal %d\n", (unsigned long long)(extra >> 10), WTERMSIG(status));
        return -1;
    }
    return WEXITSTATUS(status);
}

static void out_of_memory_is_a_status(void) {
    enum { OK = 0, NO_MEMORY = PATCHMASK_OUT_OF_MEMORY / 100 };
    unsigned succeeded = 0, refused = 0, killed = 0, other = 0;
    for (uint64_t extra = 0; extra < (UINT64_C(512) << 20); extra += extra / 16 + (UINT64_C(64) << 10)) {
        int outcome = run_in_child(extra);
        succeeded += outcome == OK;
        refused += outcome == NO_MEMORY;
        killed += outcome < 0;
        if (outcome > 0 && outcome != NO_MEMORY) {
            printf("FAILED with %llu KiB more: status %d00\n", (unsigned long long)(extra >> 10), outcome);
            other++;
        }
    }
    printf("   %u succeeded, %u OUT_OF_MEMORY, %u other, %u killed\n", succeeded, refused, other, killed);
    CHECK(killed == 0 && other == 0 && succeeded > 0 && refused > 0);
}

int main(void) {
    if (getenv("PATCHMASK_SLOW") != NULL) {
        printf("SKIPPED out_of_memory_is_a_status: PATCHMASK_SLOW is set\n");
        return 0;
    }
    tiny_model spec = tiny_model_default();
    spec.width = 24;
    spec.patch_size = 64;
    spec.hidden = 300;
    file = tiny_model_build(&spec, &file_size);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    RUN(out_of_memory_is_a_status);
    free(file);
    free(hu);
    return 0;
}
