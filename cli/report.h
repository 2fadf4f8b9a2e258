/* The report of a run: as JSON for programs, as a few lines for people. */
#ifndef SEGMENT_REPORT_H
#define SEGMENT_REPORT_H

#include <stdint.h>
#include <stdio.h>

#include "arguments.h"
#include "overlap.h"
#include "patchmask.h"

typedef struct run_report {
    const arguments* arguments;
    const patchmask_options* options; /* all of them, defaults included */
    const patchmask_model_info* model;
    const patchmask_estimate* estimate;
    const patchmask_result* result;
    const char* engine;
    const uint64_t* size;   /* of the input: x, y, z */
    double load_seconds;    /* model file and session */
    const overlap* overlap; /* NULL without a truth */
} run_report;

/* Writes the report as one JSON object (RFC 8259, UTF-8). */
void report_write_json(FILE* file, const run_report* report);

/* Prints the summary. */
void report_print_summary(FILE* file, const run_report* report);

#endif
