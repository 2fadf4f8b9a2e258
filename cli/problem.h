/* A failure: one line of text and the exit code of the program. Functions that can fail return
 * bool and fill a problem; only main prints it, so that a failure is exactly one line. */
#ifndef SEGMENT_PROBLEM_H
#define SEGMENT_PROBLEM_H

#include <stdbool.h>

enum { EXIT_OF_FAILURE = 1, EXIT_OF_MISUSE = 2 };

typedef struct problem {
    int exit_code;
    char text[4096];
} problem;

/* Records a failure (exit code 1). Returns false, for `return fail(...)`. */
__attribute__((format(printf, 2, 3))) bool fail(problem* out, const char* format, ...);

/* Records wrong usage (exit code 2). Returns false. */
__attribute__((format(printf, 2, 3))) bool misuse(problem* out, const char* format, ...);

#endif
