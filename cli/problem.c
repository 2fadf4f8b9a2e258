#include "problem.h"

#include <stdarg.h>
#include <stdio.h>

static void record(problem* out, int exit_code, const char* format, va_list arguments) {
    out->exit_code = exit_code;
    vsnprintf(out->text, sizeof out->text, format, arguments);
    /* File names may hold line breaks and terminal escapes: the text stays one harmless line. */
    for (char* c = out->text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 127) *c = '?';
}

bool fail(problem* out, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    record(out, EXIT_OF_FAILURE, format, arguments);
    va_end(arguments);
    return false;
}

bool misuse(problem* out, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    record(out, EXIT_OF_MISUSE, format, arguments);
    va_end(arguments);
    return false;
}
