/* Hosts load plug-ins late and drop them early: the library is opened, used and closed 2 000 times (a process has 1 024
 * keys for thread-local values), also right after its session was freed, and leaves no threads behind. Not linked
 * with the library, whose path is the first argument (default build/libpatchmask.so):
 *
 *   cc -std=c11 -Iinclude tests/c/unload.c tests/c/tiny_model.c -ldl
 */
#define _XOPEN_SOURCE 700
#include <dirent.h>
#include <dlfcn.h>
#include <time.h>

#include "check.h"
#include "tiny_model.h"

enum { ROUNDS = 2000, WIDTH = 64, HEIGHT = 48 };

static struct api {
    void* library;
    const char* (*last_error)(void);
    const char* (*status_name)(patchmask_status);
    patchmask_status (*model_load_memory)(const void*, size_t, patchmask_model**);
    patchmask_status (*options_init)(patchmask_options*, size_t, const patchmask_model*);
    patchmask_status (*session_new)(const patchmask_model*, const patchmask_options*, patchmask_session**);
    patchmask_status (*volume_init)(patchmask_volume*, size_t, const void*, int32_t, uint64_t, uint64_t, uint64_t);
    patchmask_status (*outputs_init)(patchmask_outputs*, size_t);
    patchmask_status (*segment)(patchmask_session*, const patchmask_volume*, const patchmask_volume*,
                                const patchmask_outputs*, patchmask_result*);
    void (*session_free)(patchmask_session*);
    void (*model_free)(patchmask_model*);
} api;

/* The functions that check.h and tiny_model.c call. */
const char* patchmask_last_error(void) { return api.last_error(); }

const char* patchmask_status_name(patchmask_status status) { return api.status_name(status); }

patchmask_status patchmask_model_load_memory(const void* data, size_t size, patchmask_model** out) {
    return api.model_load_memory(data, size, out);
}

static void find(const char* name, void* function) {
    void* symbol = dlsym(api.library, name);
    if (symbol == NULL) {
        printf("FAILED %s\n", dlerror());
        exit(1);
    }
    memcpy(function, &symbol, sizeof symbol);
}

static void open_library(const char* path) {
    api.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (api.library == NULL) {
        printf("FAILED %s\n", dlerror());
        exit(1);
    }
    find("patchmask_last_error", &api.last_error);
    find("patchmask_status_name", &api.status_name);
    find("patchmask_model_load_memory", &api.model_load_memory);
    find("patchmask_options_init", &api.options_init);
    find("patchmask_session_new", &api.session_new);
    find("patchmask_volume_init", &api.volume_init);
    find("patchmask_outputs_init", &api.outputs_init);
    find("patchmask_session_segment", &api.segment);
    find("patchmask_session_free", &api.session_free);
    find("patchmask_model_free", &api.model_free);
}

static int threads(void) {
    int count = 0;
    DIR* tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent* task; (task = readdir(tasks)) != NULL;) count += task->d_name[0] != '.';
    closedir(tasks);
    return count;
}

/* The threads of a freed session end at once, or nearly so. */
static void check_threads_end(void) {
    for (int wait = 0; threads() > 1; wait++) {
        CHECK(wait < 2000);
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

static void use_library(void) {
    static int16_t hu[WIDTH * HEIGHT];
    static uint8_t mask[WIDTH * HEIGHT];
    tiny_model spec = tiny_model_default();
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_session* session = NULL;
    patchmask_options options;
    patchmask_volume volume;
    patchmask_outputs outputs;
    CHECK_OK(api.options_init(&options, sizeof options, model));
    options.patch_size = 32;
    options.device = PATCHMASK_DEVICE_CPU;
    options.threads = 3;
    CHECK_OK(api.session_new(model, &options, &session));
    CHECK_OK(api.volume_init(&volume, sizeof volume, hu, PATCHMASK_VOXEL_I16, WIDTH, HEIGHT, 1));
    CHECK_OK(api.outputs_init(&outputs, sizeof outputs));
    outputs.mask = mask;
    CHECK_OK(api.segment(session, &volume, NULL, &outputs, NULL));
    CHECK(threads() > 1);
    api.session_free(session);
    api.model_free(model);
}

int main(int count, char** words) {
    const char* path = count > 1 ? words[1] : "build/libpatchmask.so";
    if (dlopen(path, RTLD_NOW | RTLD_NOLOAD) != NULL) {
        printf("SKIPPED library_comes_and_goes: this program is linked with the library\n");
        return 0;
    }
    for (int round = 0; round < ROUNDS; round++) {
        open_library(path);
        if (round % 10 == 0) use_library();
        else CHECK(api.last_error()[0] == '\0');
        if (round % 200 == 0) check_threads_end();
        CHECK(dlclose(api.library) == 0);
    }
    printf("ok library_comes_and_goes\n");
    return 0;
}
