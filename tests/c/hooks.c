/* The library is silent: whatever fails, nothing appears on stdout or stderr. What it has to say goes to
 * the log callback and to patchmask_last_error, which is each thread's own. */
#define _XOPEN_SOURCE 700
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 60, HEIGHT = 50, DEPTH = 2 };

static patchmask_model* model;
static int16_t* hu;
static uint8_t mask[WIDTH * HEIGHT * DEPTH];

/* Everything that can fail, and a call that works. */
static void make_noise(void) {
    patchmask_model* bad = NULL;
    patchmask_session* session = NULL;
    patchmask_options options = synthetic_options(model, 32, 8);
    patchmask_volume volume = dense_volume(hu, WIDTH, HEIGHT, DEPTH);
    patchmask_outputs outputs = {.struct_size = sizeof outputs, .mask = mask};
    tiny_model spec = tiny_model_default();
    size_t size;
    patchmask_model_load("no/such/file", &bad);
    patchmask_model_load_memory("nonsense", 8, &bad);
    spec.defect = TINY_NAN;
    spec.defect_tensor = "features.5.weight";
    uint8_t* file = tiny_model_build(&spec, &size);
    patchmask_model_load_memory(file, size, &bad);
    free(file);
    patchmask_model_load_memory(NULL, 8, NULL);
    options.stride = 0;
    patchmask_session_new(model, &options, &session);
    options.stride = 8;
    options.device = PATCHMASK_DEVICE_CUDA;
    options.cuda_devices = UINT64_C(1) << 63;
    patchmask_session_new(model, &options, &session);
    options.device = PATCHMASK_DEVICE_AUTO;
    options.cuda_devices = 0;
    options.memory_budget = 1;
    patchmask_session_new(model, &options, &session);
    options.memory_budget = 0;
    CHECK_OK(patchmask_session_new(model, &options, &session));
    patchmask_session_segment(session, NULL, NULL, NULL, NULL);
    patchmask_session_cancel(session);
    patchmask_session_segment(session, &volume, NULL, &outputs, NULL);
    CHECK_OK(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
    patchmask_session_free(session);
    patchmask_session_free(NULL);
    patchmask_status_name(12345);
}

static void nothing_is_printed(void) {
    int ends[2], saved[2];
    fflush(stdout);
    fflush(stderr);
    CHECK(pipe(ends) == 0 && fcntl(ends[0], F_SETFL, O_NONBLOCK) == 0);
    for (int fd = 1; fd <= 2; fd++) {
        saved[fd - 1] = dup(fd);
        CHECK(saved[fd - 1] >= 0 && dup2(ends[1], fd) == fd);
    }
    make_noise();
    char text[512];
    ssize_t printed = read(ends[0], text, sizeof text);
    for (int fd = 1; fd <= 2; fd++) {
        CHECK(dup2(saved[fd - 1], fd) == fd);
        close(saved[fd - 1]);
    }
    if (printed > 0) printf("FAILED printed: %.*s\n", (int)printed, text);
    CHECK(printed < 0); /* EAGAIN: the pipe is empty */
    close(ends[0]);
    close(ends[1]);
}

static void* fail_on_thread(void* unused) {
    (void)unused;
    CHECK(strcmp(patchmask_last_error(), "") == 0);
    CHECK_INVALID("session", patchmask_session_cancel(NULL));
    return NULL;
}

static void last_error_is_of_this_thread(void) {
    pthread_t thread;
    CHECK_INVALID("path", patchmask_model_load(NULL, &model));
    CHECK(pthread_create(&thread, NULL, fail_on_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(strstr(patchmask_last_error(), "path") != NULL);
    /* A call that works leaves the text of the last failure. */
    patchmask_result result;
    CHECK_OK(patchmask_result_init(&result, sizeof result));
    CHECK(strstr(patchmask_last_error(), "path") != NULL);
}

typedef struct log_lines {
    unsigned count;
    pthread_t thread;
} log_lines;

static void hear(int32_t level, const char* message, void* user_data) {
    log_lines* lines = user_data;
    CHECK(level == PATCHMASK_LOG_WARNING || level == PATCHMASK_LOG_INFO);
    CHECK(message[0] != '\0' && strchr(message, '\n') == NULL);
    CHECK(pthread_equal(pthread_self(), lines->thread));
    lines->count++;
}

static void log_tells_what_was_chosen(void) {
    log_lines lines = {.thread = pthread_self()};
    patchmask_session* session = NULL;
    patchmask_options options = synthetic_options(model, 32, 8);
    options.log = hear;
    options.log_user_data = &lines;
    CHECK_OK(patchmask_session_new(model, &options, &session));
    CHECK(lines.count > 0);
    patchmask_session_free(session);
}

int main(void) {
    tiny_model spec = tiny_model_default();
    model = tiny_model_load(&spec);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    RUN(nothing_is_printed);
    RUN(last_error_is_of_this_thread);
    RUN(log_tells_what_was_chosen);
    patchmask_model_free(model);
    free(hu);
    return 0;
}
