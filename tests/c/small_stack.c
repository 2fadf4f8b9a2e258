/* Every call works on a thread of 64 KiB of stack, whatever is wrong with its arguments and files; 32 and 16 KiB are tried
 * too, and what came of it is printed. Where glibc gives no thread so little, as on aarch64, its least counts. RUST_MIN_STACK does
 * not matter to the library's own threads. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 40, HEIGHT = 33, DEPTH = 2 };

static int16_t* hu;
static uint8_t mask[WIDTH * HEIGHT * DEPTH], roi[WIDTH * HEIGHT * DEPTH];

/* A safetensors file whose header is this text. */
static uint8_t* with_header(const char* text, size_t* out_size) {
    uint64_t length = strlen(text);
    uint8_t* file = malloc((size_t)length + 8);
    CHECK(file != NULL);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)(length >> 8 * i);
    memcpy(file + 8, text, (size_t)length);
    *out_size = (size_t)length + 8;
    return file;
}

/* Nested arrays or objects. */
static void nested(const char* before, const char* open, int depth) {
    size_t step = strlen(open), size;
    char* text = malloc(strlen(before) + step * (size_t)depth + 1);
    patchmask_model* model = NULL;
    CHECK(text != NULL);
    strcpy(text, before);
    for (int i = 0; i < depth; i++) strcat(text + strlen(before) + (size_t)i * step, open);
    uint8_t* file = with_header(text, &size);
    CHECK_STATUS(PATCHMASK_BAD_MODEL, patchmask_model_load_memory(file, size, &model));
    free(file);
    free(text);
}

static void hostile_files(void) {
    static const int DEPTHS[] = {10, 100, 127, 128, 200, 376, 1000, 100000};
    for (unsigned i = 0; i < sizeof DEPTHS / sizeof *DEPTHS; i++) {
        nested("", "[", DEPTHS[i]);
        nested("{\"a\":", "[", DEPTHS[i]);
        nested("{\"__metadata__\":", "{\"a\":", DEPTHS[i]);
        nested("{\"features.0.weight\":{\"dtype\":\"F32\",\"shape\":", "[", DEPTHS[i]);
        nested("{\"features.0.weight\":", "{\"dtype\":", DEPTHS[i]);
    }
}

static void* every_call(void* unused) {
    tiny_model spec = tiny_model_default();
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_session* session = NULL;
    patchmask_options options = synthetic_options(model, 32, 8);
    patchmask_volume volume = dense_volume(hu, WIDTH, HEIGHT, DEPTH), inside = volume;
    patchmask_outputs outputs = {.struct_size = sizeof outputs, .mask = mask};
    patchmask_estimate estimate;
    inside.data = roi;
    inside.voxel_type = PATCHMASK_VOXEL_U8;
    inside.stride_x = 1;
    inside.stride_y = WIDTH;
    inside.stride_z = WIDTH * HEIGHT;
    options.threads = 2;
    options.equalize = 1;
    CHECK_OK(patchmask_session_new(model, &options, &session));
    CHECK_OK(patchmask_estimate_init(&estimate, sizeof estimate));
    CHECK_OK(patchmask_session_estimate(session, &volume, &inside, &estimate));
    CHECK_OK(patchmask_session_segment(session, &volume, &inside, &outputs, NULL));
    CHECK_OK(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
    CHECK(patchmask_session_segment(session, NULL, NULL, &outputs, NULL) != PATCHMASK_OK);
    CHECK_OK(patchmask_session_trim(session));
    patchmask_session_free(session);
    options.device = PATCHMASK_DEVICE_AUTO;
    CHECK_OK(patchmask_session_new(model, &options, &session));
    patchmask_session_free(session);
    patchmask_model_free(model);
    CHECK(patchmask_model_load("no/such/file", &model) != PATCHMASK_OK);
    hostile_files();
    return unused;
}

/* Whether every call works with so many KiB, in a child. */
static bool works_with(size_t kib) {
    fflush(stdout);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        pthread_attr_t attributes;
        pthread_t thread;
        /* A stack of our own, with a guard page below: pthread_attr_setstacksize would add what TLS takes. */
        size_t bytes = kib << 10, page = 4096;
        char* memory = mmap(NULL, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
        alarm(100);
        if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0 || pthread_attr_init(&attributes) != 0 ||
            pthread_attr_setstack(&attributes, memory + page, bytes) != 0 ||
            pthread_create(&thread, &attributes, every_call, NULL) != 0) {
            _exit(77);
        }
        _exit(pthread_join(thread, NULL) == 0 ? 0 : 1);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

int main(void) {
    setenv("RUST_MIN_STACK", "16384", 1);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    memset(roi, 1, sizeof roi / 2);
    if (getenv("PATCHMASK_SLOW") == NULL) {
        printf("   32 KiB: %s, 16 KiB: %s\n", works_with(32) ? "works" : "too little",
               works_with(16) ? "works" : "too little");
    }
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN) >> 10;
    size_t kib = least > 64 ? least : 64;
    CHECK(works_with(kib));
    printf("ok every_call_on_%zu_kib\n", kib);
    free(hu);
    return 0;
}
