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
    /* The library's options as far as the command line names them; the rest is the model's metadata. */
    uint32_t patch_size, stride; /* 0: not given */
    bool window_given;
    double window[2]; /* HU */
    int32_t equalize; /* -1: not given */
    int32_t padding, fill, sharing;
    uint64_t crop[4]; /* x0, y0, x1, y1 in pixels; all 0: none */
    int32_t device;
    uint64_t cuda_devices;
    uint32_t threads;
    uint64_t memory_budget; /* bytes, 0: automatic */
    int32_t quiet;
    int32_t slicer_progress; /* progress tags on stdout */
} arguments;

/* Reads the command line; the last of a repeated option counts. */
bool arguments_parse(arguments *out, int count, char **words, problem *problem);

/* Overrides the options that the command line names. */
void arguments_apply(const arguments *given, patchmask_options *options);

/* Prints what --help prints. */
void arguments_print_help(void);

#endif
