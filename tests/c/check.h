/* Checks for the C tests: the first one that fails prints its expression and line and ends the
 * program with status 1. `make test-c` builds and runs all of them; one by hand, from the root:
 *
 *   cc -std=c11 -Iinclude tests/c/TEST.c tests/c/tiny_model.c tests/c/segmentation.c \
 *      -Lbuild -lpatchmask -lpthread -lm -o TEST
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "patchmask.h"

static inline void check_that(int holds, const char* expression, const char* file, int line) {
    if (!holds) {
        printf("FAILED %s:%d: %s\n  last error: %s\n", file, line, expression, patchmask_last_error());
        exit(1);
    }
}

static inline void check_status(patchmask_status expected, patchmask_status status, const char* expression,
                                const char* file, int line) {
    if (status != expected) {
        printf("FAILED %s:%d: %s\n  is %s, must be %s\n  last error: %s\n", file, line, expression,
               patchmask_status_name(status), patchmask_status_name(expected), patchmask_last_error());
        exit(1);
    }
}

/* A refusal: the status, and an error text that names the value (`text` is part of it). */
static inline void check_refused(patchmask_status expected, const char* text, patchmask_status status,
                                 const char* expression, const char* file, int line) {
    check_status(expected, status, expression, file, line);
    if (patchmask_last_error()[0] == '\0' || strstr(patchmask_last_error(), text) == NULL) {
        printf("FAILED %s:%d: %s\n  the error text lacks '%s': %s\n", file, line, expression, text,
               patchmask_last_error());
        exit(1);
    }
}

#define CHECK(condition) check_that((condition) != 0, #condition, __FILE__, __LINE__)
#define CHECK_OK(call) check_status(PATCHMASK_OK, call, #call, __FILE__, __LINE__)
#define CHECK_STATUS(expected, call) check_status(expected, call, #call, __FILE__, __LINE__)
#define CHECK_REFUSED(expected, text, call) check_refused(expected, text, call, #call, __FILE__, __LINE__)
#define CHECK_INVALID(text, call) CHECK_REFUSED(PATCHMASK_INVALID_ARGUMENT, text, call)

/* Runs a test function and says that it passed. */
#define RUN(test) (test(), printf("ok %s\n", #test), (void)fflush(stdout))

#endif
