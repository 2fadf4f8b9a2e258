/* Progress while the library works: a person at a terminal sees a bar that is redrawn in place, and at the
 * end the library's warnings; 3D Slicer sees tags on stdout. */
#ifndef SEGMENT_PROGRESS_H
#define SEGMENT_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

enum { PROGRESS_WARNINGS = 8, PROGRESS_WARNING_BYTES = 1024 };

typedef enum progress_style { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_SLICER } progress_style;

typedef struct progress {
    progress_style style;
    bool drawn;
    double started, drawn_at; /* seconds */
    /* Warnings wait for success: a failure is one line on stderr. */
    unsigned warning_count;
    char warning[PROGRESS_WARNINGS][PROGRESS_WARNING_BYTES];
} progress;

/* Starts the clock. A bar is drawn only if stderr is a terminal. */
void progress_start(progress* bar, progress_style style);

/* patchmask_progress_callback; `user_data` is a progress. Cancels when the program is interrupted. */
int32_t progress_report(double fraction, int32_t stage, void* user_data);

/* patchmask_log_callback; `user_data` is a progress. Keeps warnings. */
void progress_log(int32_t level, const char* message, void* user_data);

/* Wipes the bar off the terminal, or tells Slicer that this is the end. */
void progress_end(progress* bar);

/* Prints the warnings that were kept, one line each: on stdout for Slicer, which takes every line on stderr for
 * an error, else on stderr. */
void progress_print_warnings(const progress* bar);

/* Monotonic time in seconds. */
double seconds_now(void);

#endif
