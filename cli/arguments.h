/* The command line: which files, and which options override the model's metadata. */
#ifndef SEGMENT_ARGUMENTS_H
#define SEGMENT_ARGUMENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "patchmask.h"
#include "problem.h"

typedef enum program_action { ACTION_SEGMENT, ACTION_HELP, ACTION_VERSION, ACTION_DESCRIBE } program_action;

typedef struct arguments {
    int32_t action; /* a program_action */
    /* Paths; NULL where not given. */
    const char *input, *mask;
    const char *model, *roi, *truth;
    const char *logits, *probability, *report;
    double spacing[3]; /* mm between voxels along x, y, z, where the file does not say it; 0: not given */
    int32_t quiet;
    int32_t slicer_progress; /* progress tags on stdout */
} arguments;

/* Reads the command line, in which the last of a repeated option counts. Sets those fields of `options` that it names. */
bool arguments_parse(arguments* out, patchmask_options* options, int count, char** words, problem* problem);

/* Prints what --help prints. */
void arguments_print_help(void);

#endif
