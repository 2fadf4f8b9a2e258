/* Output files that appear together or not at all: each is written under a temporary name in the
 * directory of its target, `.NAME.XXXXXX`, and takes its own name when all of them are complete. */
#ifndef SEGMENT_OUTPUTS_H
#define SEGMENT_OUTPUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "problem.h"

enum { OUTPUT_LIMIT = 4 };

typedef struct output_file {
    const char* path; /* as on the command line */
    char* target;     /* `path`, symbolic links resolved where it exists */
    char* temporary;  /* NULL: not there (any more) */
    FILE* stream;     /* NULL: closed */
    bool renamed;
} output_file;

typedef struct output_set {
    size_t count;
    output_file file[OUTPUT_LIMIT];
} output_set;

/* Refuses outputs (`count` paths, NULL: not wanted) that are also inputs or the same file twice. */
bool outputs_check_paths(const char* const outputs[], size_t count, const char* const inputs[], size_t input_count,
                         problem* problem);

/* Adds a file that can be created; NULL where it cannot. There is none before `outputs_open`, so that a program killed
 * at its work, as 3D Slicer's Cancel does it, leaves none. `path` must outlive the set. */
output_file* outputs_add(output_set* set, const char* path, problem* problem);

/* Starts a file of the set. */
bool outputs_open(output_file* file, problem* problem);

/* Writes `bytes` bytes; stops when the program is interrupted. */
bool outputs_write(output_file* file, const void* data, size_t bytes, problem* problem);

/* Completes a file: everything is on the disk, or it is a problem. */
bool outputs_close(output_file* file, problem* problem);

/* Gives all files, which are complete, their names. */
bool outputs_commit(output_set* set, problem* problem);

/* Removes whatever is not committed and frees the set. */
void outputs_discard(output_set* set);

#endif
