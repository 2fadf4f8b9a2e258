/* A host ends its threads in the middle of calls: pthread_cancel is put off until the call has returned, for the library never
 * unwinds a host's cancellation; its state and the host's cancelability are as before. */
#define _GNU_SOURCE
#include <pthread.h>
#include <time.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 60, HEIGHT = 50, DEPTH = 3, POINTS = 100 };

static uint8_t* file;
static size_t file_size;
static int16_t* hu;
static patchmask_model* model;

typedef struct shared {
    patchmask_session* session;
    uint8_t mask[WIDTH * HEIGHT * DEPTH];
    patchmask_status status;
    int returned;
} shared;

static void* call(void* argument) {
    shared* s = argument;
    int state = -1;
    patchmask_volume volume = dense_volume(hu, WIDTH, HEIGHT, DEPTH);
    patchmask_outputs outputs = {.struct_size = sizeof outputs, .mask = s->mask};
    s->status = patchmask_session_segment(s->session, &volume, NULL, &outputs, NULL);
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state) == 0);
    CHECK(state == PTHREAD_CANCEL_ENABLE); /* as it was before the call */
    s->returned = 1;
    CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &state) == 0);
    pthread_testcancel();
    return NULL;
}

static void* load(void* argument) {
    shared* s = argument;
    patchmask_model* loaded = NULL;
    s->status = patchmask_model_load_memory(file, file_size, &loaded);
    patchmask_model_free(loaded);
    s->returned = 1;
    pthread_testcancel();
    return NULL;
}

static void cancelled_at_any_point(void* (*body)(void*), long longest_ns) {
    shared s = {.session = NULL};
    patchmask_options options = synthetic_options(model, 32, 4);
    options.threads = 2;
    CHECK_OK(patchmask_session_new(model, &options, &s.session));
    int ended = 0;
    for (int point = 0; point < POINTS; point++) {
        pthread_t thread;
        void* outcome = NULL;
        s.returned = 0;
        CHECK(pthread_create(&thread, NULL, body, &s) == 0);
        nanosleep(&(struct timespec){.tv_nsec = longest_ns / POINTS * point}, NULL);
        pthread_cancel(thread);
        CHECK(pthread_join(thread, &outcome) == 0);
        ended += outcome == PTHREAD_CANCELED;
        CHECK(!s.returned || s.status == PATCHMASK_OK);
        /* The session and the library go on. */
        if (point % 10 == 0) {
            pthread_t again;
            CHECK(pthread_create(&again, NULL, call, &s) == 0);
            CHECK(pthread_join(again, NULL) == 0);
            CHECK_OK(s.status);
        }
    }
    CHECK(ended > 0);
    patchmask_session_free(s.session);
}

static void in_segment(void) { cancelled_at_any_point(call, 60000000); }
static void in_load(void) { cancelled_at_any_point(load, 2000000); }

int main(void) {
    tiny_model spec = tiny_model_default();
    file = tiny_model_build(&spec, &file_size);
    model = tiny_model_load(&spec);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    RUN(in_segment);
    RUN(in_load);
    patchmask_model_free(model);
    free(file);
    free(hu);
    return 0;
}
