/* A host forks while another of its threads is anywhere in the library: the child may make sessions of a model that it has
 * inherited, and free what it has inherited, and never waits for a lock that nobody holds any more.
 *
 *     forking [FORKS]        default 60; `make soak`: 1000 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 40, HEIGHT = 33 };

static uint8_t* file;
static size_t file_size;
static int16_t* hu;
static patchmask_model* model;
static patchmask_session* session;
static atomic_bool stop = false;
static atomic_long rounds = 0;

static patchmask_status segment(patchmask_session* in) {
    static _Thread_local uint8_t mask[WIDTH * HEIGHT];
    patchmask_volume volume = dense_volume(hu, WIDTH, HEIGHT, 1);
    patchmask_outputs outputs = {.struct_size = sizeof outputs, .mask = mask};
    return patchmask_session_segment(in, &volume, NULL, &outputs, NULL);
}

static patchmask_options options(void) {
    patchmask_options made = synthetic_options(model, 32, 8);
    made.threads = 2;
    return made;
}

/* The other thread: loads, makes sessions, segments. */
static void* busy(void* unused) {
    while (!atomic_load(&stop)) {
        patchmask_model* loaded = NULL;
        patchmask_session* made = NULL;
        patchmask_options o = options();
        CHECK_OK(patchmask_model_load_memory(file, file_size, &loaded));
        CHECK_OK(patchmask_session_new(atomic_load(&rounds) % 2 ? model : loaded, &o, &made));
        CHECK_OK(segment(made));
        patchmask_session_free(made);
        patchmask_model_free(loaded);
        atomic_fetch_add(&rounds, 1);
    }
    return unused;
}

/* In the child. */
static int use_what_is_inherited(void) {
    patchmask_session* made = NULL;
    patchmask_model* loaded = NULL;
    patchmask_options o = options();
    if (segment(session) != PATCHMASK_WRONG_PROCESS) return 1;
    if (patchmask_session_new(model, &o, &made) != PATCHMASK_OK || segment(made) != PATCHMASK_OK) return 2;
    patchmask_session_free(made);
    if (patchmask_model_load_memory(file, file_size, &loaded) != PATCHMASK_OK) return 3;
    patchmask_model_free(loaded);
    patchmask_session_free(session);
    patchmask_model_free(model);
    return 0;
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void fork_at_any_time(long forks) {
    pthread_t thread;
    patchmask_options o = options();
    model = NULL;
    CHECK_OK(patchmask_model_load_memory(file, file_size, &model));
    CHECK_OK(patchmask_session_new(model, &o, &session));
    CHECK(pthread_create(&thread, NULL, busy, NULL) == 0);
    long hung = 0, failed = 0;
    double slowest = 0;
    unsigned random = 1;
    for (long i = 0; i < forks; i++) {
        random = random * 1664525u + 1013904223u;
        nanosleep(&(struct timespec){.tv_nsec = random % 6000000}, NULL);
        double began = now();
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(10);
            _exit(use_what_is_inherited());
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        double took = now() - began;
        slowest = took > slowest ? took : slowest;
        hung += took > 5 || WIFSIGNALED(status);
        failed += WIFEXITED(status) && WEXITSTATUS(status) != 0;
    }
    atomic_store(&stop, true);
    CHECK(pthread_join(thread, NULL) == 0);
    printf("   %ld forks beside %ld rounds, slowest child %.3f s\n", forks, atomic_load(&rounds), slowest);
    CHECK(hung == 0 && failed == 0);
    patchmask_session_free(session);
    patchmask_model_free(model);
}

/* A container's first process is number 1, and so is that of a container in it. */
static void same_number_in_another_pid_namespace(void) {
    patchmask_options o;
    CHECK_OK(patchmask_model_load_memory(file, file_size, &model));
    pid_t outer = fork();
    CHECK(outer >= 0);
    if (outer == 0) {
        if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0 && unshare(CLONE_NEWPID) != 0) _exit(77);
        pid_t first = fork();
        if (first == 0) { /* number 1 */
            o = options();
            if (patchmask_session_new(model, &o, &session) != PATCHMASK_OK || getpid() != 1 ||
                unshare(CLONE_NEWPID) != 0) {
                _exit(77);
            }
            pid_t second = fork();
            if (second == 0) /* number 1 as well */
                _exit(getpid() != 1 ? 77 : segment(session) == PATCHMASK_WRONG_PROCESS ? 0 : 1);
            int status = 0;
            _exit(second > 0 && waitpid(second, &status, 0) == second ? WEXITSTATUS(status) : 77);
        }
        int status = 0;
        _exit(first > 0 && waitpid(first, &status, 0) == first ? WEXITSTATUS(status) : 77);
    }
    int status = 0;
    CHECK(waitpid(outer, &status, 0) == outer && WIFEXITED(status));
    patchmask_model_free(model);
    if (WEXITSTATUS(status) == 77) {
        printf("SKIPPED same_number_in_another_pid_namespace: not permitted here\n");
        return;
    }
    CHECK(WEXITSTATUS(status) == 0);
    printf("ok same_number_in_another_pid_namespace\n");
}

int main(int count, char** words) {
    tiny_model spec = tiny_model_default();
    file = tiny_model_build(&spec, &file_size);
    hu = synthetic_volume(WIDTH, HEIGHT, 1);
    fork_at_any_time(count > 1 ? atol(words[1]) : 60);
    printf("ok fork_at_any_time\n");
    same_number_in_another_pid_namespace();
    free(file);
    free(hu);
    return 0;
}
