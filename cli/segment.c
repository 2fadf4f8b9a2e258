/* segment: a CT volume (NRRD, in HU) in, the lesion mask out, through libpatchmask.
 *
 *   read INPUT, ROI, truth -> model, session -> estimate, buffers -> segment -> write all outputs
 *
 * Its contract: exit status 0, 1 (failure, exactly one line on stderr) or 2 (wrong usage); outputs
 * appear complete and together, or not at all, also when it is interrupted. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "arguments.h"
#include "grid.h"
#include "interrupt.h"
#include "nrrd.h"
#include "outputs.h"
#include "overlap.h"
#include "patchmask.h"
#include "problem.h"
#include "progress.h"
#include "report.h"
#include "slicer.h"

typedef enum result_name { MASK, PROBABILITY, LOGITS, RESULT_COUNT } result_name;

/* A volume that the library writes, and its file. */
typedef struct result_volume {
    const char *name, *path; /* path NULL: not wanted, and all below is unused */
    void* data;              /* [z][y][x] of uint8 or float, logits [z][patch row][patch column][class] of float */
    uint64_t count, bytes;   /* elements, and of one of them */
    output_file* file;
} result_volume;

typedef struct job {
    int count; /* of the words of the command line */
    char** words;
    arguments arguments;
    progress progress;
    nrrd_volume input, roi, truth;
    patchmask_model* model;
    patchmask_session* session;
    patchmask_model_info model_info;
    patchmask_options options;
    patchmask_volume volume, region; /* `input` and `roi` for the library */
    double slice_spacing;            /* mm */
    patchmask_estimate estimate;
    patchmask_result result;
    double load_seconds;
    overlap overlap;
    output_set outputs;
    result_volume results[RESULT_COUNT];
    output_file* report_file; /* NULL: not wanted */
} job;

/* For calls of the library, one after another. */
static bool ok(patchmask_status status, problem* problem) {
    return status == PATCHMASK_OK || fail(problem, "%s", patchmask_last_error());
}

static bool check_paths(const arguments* given, problem* problem) {
    const char* const inputs[] = {given->input, given->model, given->roi, given->truth};
    const char* const outputs[] = {given->mask, given->logits, given->probability, given->report};
    return outputs_check_paths(outputs, 4, inputs, 4, problem);
}

/* The ROI or the truth, where wanted: on the grid of the input. */
static bool read_companion(nrrd_volume* out, const char* path, const job* job, problem* problem) {
    return path == NULL || (nrrd_read(out, path, problem) &&
                            grid_check_same(&job->input.header, job->arguments.input, &out->header, path, problem));
}

static bool read_volumes(job* job, problem* problem) {
    return nrrd_read(&job->input, job->arguments.input, problem) &&
           grid_settle_spacing(&job->input.header, job->arguments.spacing, job->arguments.input, problem) &&
           read_companion(&job->roi, job->arguments.roi, job, problem) &&
           read_companion(&job->truth, job->arguments.truth, job, problem);
}

static bool load_model(job* job, problem* problem) {
    patchmask_options* options = &job->options;
    double started = seconds_now();
    if (!ok(patchmask_model_load(job->arguments.model, &job->model), problem) ||
        !ok(patchmask_model_info_init(&job->model_info, sizeof job->model_info), problem) ||
        !ok(patchmask_model_get_info(job->model, &job->model_info), problem) ||
        !ok(patchmask_options_init(options, sizeof *options, job->model), problem) ||
        !arguments_parse(&job->arguments, options, job->count, job->words, problem)) { /* over the model's options */
        return false;
    }
    options->progress = progress_report;
    options->log = progress_log;
    options->progress_user_data = options->log_user_data = &job->progress;
    bool good = ok(patchmask_session_new(job->model, options, &job->session), problem);
    job->load_seconds = seconds_now() - started;
    return good;
}

static bool describe(patchmask_volume* out, const nrrd_volume* volume, problem* problem) {
    const nrrd_header* h = &volume->header;
    return ok(patchmask_volume_init(out, sizeof *out, volume->data, h->voxel_type, h->size[0], h->size[1], h->size[2]),
              problem);
}

/* The input's spacing is known: `settle_spacing` has seen to that. */
static bool read_spacing(job* job, problem* problem) {
    grid_placement placement;
    if (!grid_placement_read(&placement, &job->input.header, job->arguments.input, problem)) return false;
    job->volume.spacing_x = placement.spacing[0];
    job->volume.spacing_y = placement.spacing[1];
    job->slice_spacing = placement.spacing[2];
    return true;
}

/* Describes the input and, where there is one, the ROI; asks how large the patch grid is, which does not depend on the
 * ROI: without it the answer comes at once. */
static bool estimate(job* job, problem* problem) {
    return describe(&job->volume, &job->input, problem) && read_spacing(job, problem) &&
           (job->arguments.roi == NULL || describe(&job->region, &job->roi, problem)) &&
           ok(patchmask_estimate_init(&job->estimate, sizeof job->estimate), problem) &&
           ok(patchmask_session_estimate(job->session, &job->volume, NULL, &job->estimate), problem);
}

/* Memory and names before the work, so that a directory that cannot be written is known at once. */
static bool prepare_results(job* job, problem* problem) {
    const arguments* given = &job->arguments;
    const patchmask_estimate* e = &job->estimate;
    uint64_t voxels = job->input.header.voxel_count;
    /* A slice has at most 64 times as many patches as voxels, so that this product cannot overflow. */
    uint64_t patches = e->grid_width * e->grid_height * job->input.header.size[2];
    job->results[MASK] = (result_volume){"mask", given->mask, .count = voxels, .bytes = 1};
    job->results[PROBABILITY] =
        (result_volume){"probability", given->probability, .count = voxels, .bytes = sizeof(float)};
    job->results[LOGITS] =
        (result_volume){"logits", given->logits, .count = patches, .bytes = e->classes * sizeof(float)};
    for (int i = 0; i < RESULT_COUNT; i++) {
        result_volume* r = &job->results[i];
        if (r->path == NULL) continue;
        r->data = r->count <= SIZE_MAX / r->bytes ? malloc((size_t)(r->count * r->bytes)) : NULL;
        if (r->data == NULL) {
            return fail(problem, "%s: %" PRIu64 " x %" PRIu64 " bytes could not be allocated", r->name, r->count,
                        r->bytes);
        }
        r->file = outputs_add(&job->outputs, r->path, problem);
        if (r->file == NULL) return false;
    }
    return given->report == NULL || (job->report_file = outputs_add(&job->outputs, given->report, problem)) != NULL;
}

static bool segment(job* job, problem* problem) {
    const arguments* given = &job->arguments;
    const patchmask_volume* roi = given->roi != NULL ? &job->region : NULL;
    patchmask_outputs outputs;
    if (!ok(patchmask_outputs_init(&outputs, sizeof outputs), problem) ||
        !ok(patchmask_result_init(&job->result, sizeof job->result), problem)) {
        return false;
    }
    outputs.mask = job->results[MASK].data;
    outputs.probability = job->results[PROBABILITY].data;
    outputs.logits = job->results[LOGITS].data;
    progress_start(&job->progress, given->slicer_progress ? PROGRESS_SLICER
                                   : given->quiet         ? PROGRESS_NONE
                                                          : PROGRESS_BAR);
    bool good = ok(patchmask_session_segment(job->session, &job->volume, roi, &outputs, &job->result), problem);
    progress_end(&job->progress);
    return good;
}

static void compare_with_truth(job* job) {
    if (job->arguments.truth != NULL) {
        job->overlap = overlap_count(job->results[MASK].data, (uint8_t)job->options.lesion_class, job->truth.data,
                                     job->truth.header.voxel_type, job->input.header.voxel_count);
    }
}

static bool write_volumes(job* job, problem* problem) {
    const nrrd_header* grid = &job->input.header;
    const patchmask_estimate* e = &job->estimate;
    for (int i = 0; i < RESULT_COUNT; i++) {
        const result_volume* r = &job->results[i];
        if (r->path == NULL) continue;
        if (!outputs_open(r->file, problem)) return false;
        if (i == LOGITS) {
            const uint64_t size[4] = {e->classes, e->grid_width, e->grid_height, grid->size[2]};
            nrrd_write_logits_header(r->file->stream, size, e, job->slice_spacing);
        } else {
            nrrd_write_header_like(r->file->stream, grid, i == MASK ? "uint8" : "float");
        }
        if (!outputs_write(r->file, r->data, (size_t)(r->count * r->bytes), problem) ||
            !outputs_close(r->file, problem)) {
            return false;
        }
    }
    return true;
}

static bool flush_stdout(problem* problem) {
    return (!ferror(stdout) && fflush(stdout) == 0) || fail(problem, "standard output cannot be written");
}

static bool write_report(job* job, problem* problem) {
    const run_report report = {
        .arguments = &job->arguments,
        .options = &job->options,
        .model = &job->model_info,
        .estimate = &job->estimate,
        .result = &job->result,
        .engine = patchmask_session_engine_name(job->session),
        .size = job->input.header.size,
        .load_seconds = job->load_seconds,
        .overlap = job->arguments.truth != NULL ? &job->overlap : NULL,
    };
    if (job->report_file != NULL) {
        if (!outputs_open(job->report_file, problem)) return false;
        report_write_json(job->report_file->stream, &report);
        if (!outputs_close(job->report_file, problem)) return false;
    }
    if (!job->arguments.quiet) report_print_summary(stdout, &report);
    return flush_stdout(problem);
}

static bool run(job* job, problem* problem) {
    if (!check_paths(&job->arguments, problem) || !read_volumes(job, problem) || !load_model(job, problem) ||
        !estimate(job, problem) || !prepare_results(job, problem) || !segment(job, problem)) {
        return false;
    }
    compare_with_truth(job);
    return write_volumes(job, problem) && write_report(job, problem) && !interrupted() &&
           outputs_commit(&job->outputs, problem);
}

static void clean_up(job* job) {
    outputs_discard(&job->outputs);
    patchmask_session_free(job->session);
    patchmask_model_free(job->model);
    nrrd_free(&job->input);
    nrrd_free(&job->roi);
    nrrd_free(&job->truth);
    for (int i = 0; i < RESULT_COUNT; i++) free(job->results[i].data);
}

static bool print_about(int32_t action, problem* problem) {
    if (action == ACTION_HELP) {
        arguments_print_help();
    } else if (action == ACTION_DESCRIBE) {
        slicer_print_description();
    } else {
        printf("segment %d.%d.%d, libpatchmask %s\n", PATCHMASK_VERSION_MAJOR, PATCHMASK_VERSION_MINOR,
               PATCHMASK_VERSION_PATCH, patchmask_version());
    }
    return flush_stdout(problem);
}

int main(int count, char** words) {
    problem problem = {EXIT_OF_FAILURE, ""};
    job job = {.count = count, .words = words};
    interrupt_install();
    bool good = arguments_parse(&job.arguments, &job.options, count, words, &problem);
    if (good && job.arguments.action != ACTION_SEGMENT) {
        good = print_about(job.arguments.action, &problem);
    } else if (good && patchmask_abi_version() != PATCHMASK_ABI_VERSION) {
        good = fail(&problem,
                    "libpatchmask %s has another ABI than this program: install the same "
                    "version of both",
                    patchmask_version());
    } else if (good) {
        good = run(&job, &problem);
    }
    clean_up(&job);
    if (!good) {
        bool stopped = problem.exit_code == EXIT_OF_FAILURE && interrupted();
        fprintf(stderr, "segment: %s\n", stopped ? "interrupted" : problem.text);
        return problem.exit_code;
    }
    if (!job.arguments.quiet) progress_print_warnings(&job.progress);
    return EXIT_SUCCESS;
}
