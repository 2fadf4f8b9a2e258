/* What a host has set for its process stays, and does not change results: rounding modes, traps, flush to zero; signal handlers
 * run on the host's threads alone. */
#define _GNU_SOURCE
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 60, HEIGHT = 50, DEPTH = 2 };

static int16_t* hu;
static patchmask_volume volume;

static segmentation whole_life(void) {
    tiny_model spec = tiny_model_default();
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_options options = synthetic_options(model, 32, 4);
    options.equalize = 1;
    options.threads = 2;
    segmentation done = segment_all(model, &options, &volume, NULL);
    patchmask_model_free(model);
    return done;
}

static void the_hosts_arithmetic(void) {
    static const int ROUNDING[] = {FE_DOWNWARD, FE_UPWARD, FE_TOWARDZERO, FE_TONEAREST};
    segmentation expected = whole_life();
    for (int traps = 0; traps <= 1; traps++) {
        for (unsigned i = 0; i < sizeof ROUNDING / sizeof *ROUNDING; i++) {
            CHECK(fesetround(ROUNDING[i]) == 0);
            feclearexcept(FE_ALL_EXCEPT);
            if (traps) feenableexcept(FE_ALL_EXCEPT);
            int trapped = fegetexcept(); /* none where the processor has no traps, as on most aarch64 */
            segmentation done = whole_life();
            CHECK(fegetround() == ROUNDING[i]);
            CHECK(fegetexcept() == trapped);
            fedisableexcept(FE_ALL_EXCEPT);
            CHECK(fesetround(FE_TONEAREST) == 0);
            check_same(&expected, &done, "under another rounding mode");
            segmentation_free(&done);
        }
    }
    segmentation_free(&expected);
}

static atomic_long on_host = 0, elsewhere = 0;

static void note_thread(int signal_number) {
    (void)signal_number;
    atomic_fetch_add(syscall(SYS_gettid) == getpid() ? &on_host : &elsewhere, 1);
}

/* The only other threads are the library's. */
static void signals_are_the_hosts(void) {
    struct sigaction action = {.sa_handler = note_thread, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    CHECK(sigaction(SIGALRM, &action, NULL) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    CHECK(setitimer(ITIMER_REAL, &often, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        segmentation done = whole_life();
        segmentation_free(&done);
    }
    /* A thread that blocks it leaves it to the others: none of ours may take it. */
    sigset_t alarm_only;
    sigemptyset(&alarm_only);
    sigaddset(&alarm_only, SIGALRM);
    CHECK(pthread_sigmask(SIG_BLOCK, &alarm_only, NULL) == 0);
    for (int i = 0; i < 10; i++) {
        segmentation done = whole_life();
        segmentation_free(&done);
    }
    CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
    CHECK(pthread_sigmask(SIG_UNBLOCK, &alarm_only, NULL) == 0);
    printf("   %ld signals on the host's thread, %ld elsewhere\n", atomic_load(&on_host), atomic_load(&elsewhere));
    CHECK(atomic_load(&on_host) > 0 && atomic_load(&elsewhere) == 0);
}

int main(void) {
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    volume = dense_volume(hu, WIDTH, HEIGHT, DEPTH);
    RUN(the_hosts_arithmetic);
    if (getenv("PATCHMASK_SLOW") == NULL) RUN(signals_are_the_hosts);
    free(hu);
    return 0;
}
