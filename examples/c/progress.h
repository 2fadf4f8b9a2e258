/* What a person at a terminal sees while the library works: a bar that is redrawn in place, and at the
 * end the library's warnings. */
#ifndef SEGMENT_PROGRESS_H
#define SEGMENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_WARNINGS = 8, PROGRESS_WARNING_BYTES = 1024 };

typedef struct progress {
    bool visible;
    bool drawn;
    double started, drawn_at; /* seconds */
    /* Warnings wait for success: a failure is one line on stderr. */
    unsigned warning_count;
    char warning[PROGRESS_WARNINGS][PROGRESS_WARNING_BYTES];
} progress;

/* Starts the clock. The bar is drawn if stderr is a terminal and not `quiet`. */
void progress_start(progress *bar, bool quiet);

/* patchmask_progress_callback; `user_data` is a progress. Cancels when the program is interrupted. */
int32_t progress_report(double fraction, int32_t stage, void *user_data);

/* patchmask_log_callback; `user_data` is a progress. Keeps warnings. */
void progress_log(int32_t level, const char *message, void *user_data);

/* Wipes the bar off the terminal. */
void progress_clear(progress *bar);

/* Prints the warnings that were kept, one line each. */
void progress_print_warnings(const progress *bar);

/* Monotonic time in seconds. */
double seconds_now(void);

#endif
