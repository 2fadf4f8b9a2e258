#define _XOPEN_SOURCE 700
#include "interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <string.h>

static volatile sig_atomic_t stop_requested;

/* Runs on any thread, the library's workers too, and therefore only sets the flag. */
static void note_signal(int number) {
#ifdef _WIN32
    signal(number, note_signal); /* which serves once */
#else
    (void)number;
#endif
    stop_requested = 1;
}

#ifdef _WIN32

void interrupt_install(void) {
    signal(SIGINT, note_signal);
    signal(SIGBREAK, note_signal); /* Ctrl-Break; the window is closed */
    signal(SIGTERM, note_signal);
}

#else

static void handle(int number, void (*handler)(int)) {
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = handler;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, NULL); /* no SA_RESTART: a blocked read returns and sees the flag */
}

void interrupt_install(void) {
    handle(SIGINT, note_signal);
    handle(SIGTERM, note_signal);
    struct sigaction hang_up;
    if (sigaction(SIGHUP, NULL, &hang_up) == 0 && hang_up.sa_handler != SIG_IGN)
        handle(SIGHUP, note_signal); /* not under nohup */
    handle(SIGXFSZ, SIG_IGN);
    handle(SIGPIPE, SIG_IGN);
}

#endif

bool interrupted(void) { return stop_requested != 0; }
