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

typedef struct job {
    arguments arguments;
    progress progress;
    nrrd_volume input, roi, truth;
    patchmask_model *model;
    patchmask_session *session;
    patchmask_model_info model_info;
    patchmask_options options;
    patchmask_estimate estimate;
    patchmask_result result;
    double load_seconds;
    uint8_t *mask;      /* [z][y][x] */
    float *probability; /* [z][y][x] */
    float *logits;      /* [z][lattice y][lattice x][class] */
    overlap overlap;
    output_set outputs;
    output_file *mask_file, *probability_file, *logits_file, *report_file; /* NULL: not wanted */
} job;

static bool library_failed(problem *problem)
{
    return fail(problem, "%s", patchmask_last_error());
}

static bool check_paths(const arguments *given, problem *problem)
{
    const char *const inputs[] = {given->input, given->model, given->roi, given->truth};
    const char *const outputs[] = {given->mask, given->logits, given->probability, given->report};
    return outputs_check_paths(outputs, 4, inputs, 4, problem);
}

/* The ROI or the truth, where wanted: on the grid of the input. */
static bool read_companion(nrrd_volume *out, const char *path, const job *job, problem *problem)
{
    return path == NULL || (nrrd_read(out, path, problem) &&
                            grid_check_same(&job->input.header, job->arguments.input, &out->header,
                                            path, problem));
}

static bool read_volumes(job *job, problem *problem)
{
    return nrrd_read(&job->input, job->arguments.input, problem) &&
           read_companion(&job->roi, job->arguments.roi, job, problem) &&
           read_companion(&job->truth, job->arguments.truth, job, problem);
}

static patchmask_status make_session(job *job)
{
    patchmask_status status = patchmask_model_load(job->arguments.model, &job->model);
    if (status == PATCHMASK_OK) {
        status = patchmask_model_info_init(&job->model_info, sizeof job->model_info);
    }
    if (status == PATCHMASK_OK) {
        status = patchmask_model_get_info(job->model, &job->model_info);
    }
    if (status == PATCHMASK_OK) {
        status = patchmask_options_init(&job->options, sizeof job->options, job->model);
    }
    if (status == PATCHMASK_OK) {
        arguments_apply(&job->arguments, &job->options);
        job->options.progress = progress_report;
        job->options.progress_user_data = &job->progress;
        job->options.log = progress_log;
        job->options.log_user_data = &job->progress;
        status = patchmask_session_new(job->model, &job->options, &job->session);
    }
    return status;
}

static bool load_model(job *job, problem *problem)
{
    double started = seconds_now();
    patchmask_status status = make_session(job);
    job->load_seconds = seconds_now() - started;
    return status == PATCHMASK_OK || library_failed(problem);
}

static patchmask_status describe(patchmask_volume *out, const nrrd_volume *volume)
{
    const uint64_t *size = volume->header.size;
    return patchmask_volume_init(out, sizeof *out, volume->data, volume->header.voxel_type, size[0],
                                 size[1], size[2]);
}

/* Describes the input and, where there is one, the ROI; asks how large the lattice is, which does not
 * depend on the ROI: without it the answer comes at once. */
static bool estimate(job *job, patchmask_volume *volume, patchmask_volume *roi, problem *problem)
{
    patchmask_status status = describe(volume, &job->input);
    if (status == PATCHMASK_OK && job->arguments.roi != NULL) {
        status = describe(roi, &job->roi);
    }
    if (status == PATCHMASK_OK) {
        status = patchmask_estimate_init(&job->estimate, sizeof job->estimate);
    }
    if (status == PATCHMASK_OK) {
        status = patchmask_session_estimate(job->session, volume, NULL, &job->estimate);
    }
    return status == PATCHMASK_OK || library_failed(problem);
}

/* `count` elements of `bytes` bytes; NULL where that is too much. */
static void *allocate(uint64_t count, uint64_t bytes, const char *what, problem *problem)
{
    void *buffer = count <= SIZE_MAX / bytes ? malloc((size_t)(count * bytes)) : NULL;
    if (buffer == NULL) {
        fail(problem, "%s: %" PRIu64 " x %" PRIu64 " bytes could not be allocated", what, count,
             bytes);
    }
    return buffer;
}

static bool allocate_results(job *job, problem *problem)
{
    const patchmask_estimate *e = &job->estimate;
    uint64_t voxels = job->input.header.voxel_count;
    /* A slice has at most as many lattice points as voxels, so that this product cannot overflow. */
    uint64_t points = e->grid_width * e->grid_height * job->input.header.size[2];
    job->mask = allocate(voxels, sizeof *job->mask, "mask", problem);
    if (job->mask != NULL && job->arguments.probability != NULL) {
        job->probability = allocate(voxels, sizeof *job->probability, "probability", problem);
    }
    if (job->mask != NULL && job->arguments.logits != NULL) {
        job->logits = allocate(points, e->classes * sizeof *job->logits, "logits", problem);
    }
    return job->mask != NULL && (job->arguments.probability == NULL || job->probability != NULL) &&
           (job->arguments.logits == NULL || job->logits != NULL);
}

/* Before the work, so that a directory that cannot be written is known at once. */
static bool open_one(output_file **out, job *job, const char *path, problem *problem)
{
    return path == NULL || (*out = outputs_open(&job->outputs, path, problem)) != NULL;
}

static bool open_outputs(job *job, problem *problem)
{
    const arguments *given = &job->arguments;
    return open_one(&job->mask_file, job, given->mask, problem) &&
           open_one(&job->probability_file, job, given->probability, problem) &&
           open_one(&job->logits_file, job, given->logits, problem) &&
           open_one(&job->report_file, job, given->report, problem);
}

static progress_style progress_style_of(const arguments *given)
{
    return given->slicer_progress ? PROGRESS_SLICER : given->quiet ? PROGRESS_NONE : PROGRESS_BAR;
}

static bool segment(job *job, const patchmask_volume *volume, const patchmask_volume *roi,
                    problem *problem)
{
    patchmask_outputs outputs;
    patchmask_status status = patchmask_outputs_init(&outputs, sizeof outputs);
    if (status == PATCHMASK_OK) {
        status = patchmask_result_init(&job->result, sizeof job->result);
    }
    if (status == PATCHMASK_OK) {
        outputs.mask = job->mask;
        outputs.probability = job->probability;
        outputs.logits = job->logits;
        progress_start(&job->progress, progress_style_of(&job->arguments));
        status = patchmask_session_segment(job->session, volume,
                                           job->arguments.roi != NULL ? roi : NULL, &outputs,
                                           &job->result);
        progress_end(&job->progress);
    }
    return status == PATCHMASK_OK || library_failed(problem);
}

static void compare_with_truth(job *job)
{
    if (job->arguments.truth != NULL) {
        job->overlap = overlap_count(job->mask, (uint8_t)job->options.lesion_class, job->truth.data,
                                     job->truth.header.voxel_type, job->input.header.voxel_count);
    }
}

static bool write_volumes(job *job, problem *problem)
{
    const nrrd_header *grid = &job->input.header;
    const patchmask_estimate *e = &job->estimate;
    nrrd_write_header_like(job->mask_file->stream, grid, "uint8");
    if (!outputs_write(job->mask_file, job->mask, grid->voxel_count, problem) ||
        !outputs_close(job->mask_file, problem)) {
        return false;
    }
    if (job->probability_file != NULL) {
        nrrd_write_header_like(job->probability_file->stream, grid, "float");
        if (!outputs_write(job->probability_file, job->probability,
                           grid->voxel_count * sizeof *job->probability, problem) ||
            !outputs_close(job->probability_file, problem)) {
            return false;
        }
    }
    if (job->logits_file != NULL) {
        const uint64_t size[4] = {e->classes, e->grid_width, e->grid_height, grid->size[2]};
        uint64_t count = size[0] * size[1] * size[2] * size[3];
        nrrd_write_logits_header(job->logits_file->stream, size);
        if (!outputs_write(job->logits_file, job->logits, count * sizeof *job->logits, problem) ||
            !outputs_close(job->logits_file, problem)) {
            return false;
        }
    }
    return true;
}

static bool flush_stdout(problem *problem)
{
    return (!ferror(stdout) && fflush(stdout) == 0) ||
           fail(problem, "standard output cannot be written");
}

static bool write_report(job *job, problem *problem)
{
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
        report_write_json(job->report_file->stream, &report);
        if (!outputs_close(job->report_file, problem)) {
            return false;
        }
    }
    if (!job->arguments.quiet) {
        report_print_summary(stdout, &report);
    }
    return flush_stdout(problem);
}

static bool run(job *job, problem *problem)
{
    patchmask_volume volume, roi;
    if (!check_paths(&job->arguments, problem) || !read_volumes(job, problem) ||
        !load_model(job, problem) || !estimate(job, &volume, &roi, problem) ||
        !allocate_results(job, problem) || !open_outputs(job, problem) ||
        !segment(job, &volume, &roi, problem)) {
        return false;
    }
    compare_with_truth(job);
    return write_volumes(job, problem) && write_report(job, problem) && !interrupted() &&
           outputs_commit(&job->outputs, problem);
}

static void clean_up(job *job)
{
    outputs_discard(&job->outputs);
    patchmask_session_free(job->session);
    patchmask_model_free(job->model);
    nrrd_free(&job->input);
    nrrd_free(&job->roi);
    nrrd_free(&job->truth);
    free(job->mask);
    free(job->probability);
    free(job->logits);
}

static bool print_about(program_action action, problem *problem)
{
    if (action == ACTION_HELP) {
        arguments_print_help();
    } else if (action == ACTION_DESCRIBE) {
        slicer_print_description();
    } else {
        printf("segment %d.%d.%d, libpatchmask %s\n", PATCHMASK_VERSION_MAJOR,
               PATCHMASK_VERSION_MINOR, PATCHMASK_VERSION_PATCH, patchmask_version());
    }
    return flush_stdout(problem);
}

int main(int count, char **words)
{
    problem problem = {EXIT_OF_FAILURE, ""};
    job job = {.load_seconds = 0};
    interrupt_install();
    bool good = arguments_parse(&job.arguments, count, words, &problem);
    if (good && job.arguments.action != ACTION_SEGMENT) {
        good = print_about(job.arguments.action, &problem);
    } else if (good && patchmask_abi_version() != PATCHMASK_ABI_VERSION) {
        good = fail(&problem, "libpatchmask %s has another ABI than this program: install the same "
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
    if (!job.arguments.quiet) {
        progress_print_warnings(&job.progress);
    }
    return EXIT_SUCCESS;
}
