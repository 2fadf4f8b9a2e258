#define _XOPEN_SOURCE 700
#include "arguments.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "usage: segment [options] INPUT.nrrd MASK.nrrd\n"
    "Classifies every patch of every slice of a CT volume in HU and writes the mask.\n"
    "\n"
    "  --model FILE                weights (.safetensors); required\n"
    "  --patch-size N              patch side in pixels, 32 to 1024\n"
    "  --stride N                  pixels between patch centres, 1 to the patch size\n"
    "  --padding patch|image       zeros at each patch's border (default), or at the image's\n"
    "  --window LO,HI              HU that become intensity 0 and 1\n"
    "  --equalize, --no-equalize   histogram equalisation of every slice, or none\n"
    "  --crop X0,Y0,X1,Y1          pixels, half-open; outside is black\n"
    "  --roi ROI.nrrd              evaluate only where non-zero\n"
    "  --fill nearest|linear       how patch classes become voxels (default nearest)\n"
    "  --logits FILE.nrrd          float32; axes fastest first: class, lattice x, lattice y, slice\n"
    "  --probability FILE.nrrd     float32 on the input grid: probability of the lesion class\n"
    "  --truth FILE.nrrd           compare with this mask (above 0 is lesion): Dice and others\n"
    "  --report FILE.json          options, model hash, engine, counts, timings, peak memory\n"
    "  --device auto|cpu|cuda[:N,...]  where the network runs (default auto)\n"
    "  --threads N                 worker threads of the CPU engine (default 0: one per core)\n"
    "  --memory MIB                limit for the library's memory (default 0: automatic)\n"
    "  --no-sharing                evaluate patch by patch, for comparison\n"
    "  --quiet                     no progress bar, warnings or summary\n"
    "  --slicer-progress           print progress tags for 3D Slicer on stdout\n"
    "  --xml                       print the module description for 3D Slicer\n"
    "  --help, --version\n"
    "\n"
    "Patch size, stride, window and equalisation default to the model's metadata, else to 257, 7,\n"
    "-160,240 and none. The last of a repeated option counts. NRRD files are read with raw\n"
    "encoding and attached data. Exit status: 0 success, 1 failure, 2 wrong usage.\n";

typedef enum option_name {
    OPTION_MODEL,
    OPTION_PATCH_SIZE,
    OPTION_STRIDE,
    OPTION_PADDING,
    OPTION_WINDOW,
    OPTION_EQUALIZE,
    OPTION_NO_EQUALIZE,
    OPTION_CROP,
    OPTION_ROI,
    OPTION_FILL,
    OPTION_LOGITS,
    OPTION_PROBABILITY,
    OPTION_TRUTH,
    OPTION_REPORT,
    OPTION_DEVICE,
    OPTION_THREADS,
    OPTION_MEMORY,
    OPTION_NO_SHARING,
    OPTION_QUIET,
    OPTION_SLICER_PROGRESS,
    OPTION_XML,
    OPTION_HELP,
    OPTION_VERSION,
    OPTION_COUNT
} option_name;

static const struct {
    const char *name;
    bool takes_value;
} OPTIONS[OPTION_COUNT] = {
    [OPTION_MODEL] = {"--model", true},
    [OPTION_PATCH_SIZE] = {"--patch-size", true},
    [OPTION_STRIDE] = {"--stride", true},
    [OPTION_PADDING] = {"--padding", true},
    [OPTION_WINDOW] = {"--window", true},
    [OPTION_EQUALIZE] = {"--equalize", false},
    [OPTION_NO_EQUALIZE] = {"--no-equalize", false},
    [OPTION_CROP] = {"--crop", true},
    [OPTION_ROI] = {"--roi", true},
    [OPTION_FILL] = {"--fill", true},
    [OPTION_LOGITS] = {"--logits", true},
    [OPTION_PROBABILITY] = {"--probability", true},
    [OPTION_TRUTH] = {"--truth", true},
    [OPTION_REPORT] = {"--report", true},
    [OPTION_DEVICE] = {"--device", true},
    [OPTION_THREADS] = {"--threads", true},
    [OPTION_MEMORY] = {"--memory", true},
    [OPTION_NO_SHARING] = {"--no-sharing", false},
    [OPTION_QUIET] = {"--quiet", false},
    [OPTION_SLICER_PROGRESS] = {"--slicer-progress", false},
    [OPTION_XML] = {"--xml", false},
    [OPTION_HELP] = {"--help", false},
    [OPTION_VERSION] = {"--version", false},
};

/* A whole number at `*cursor`, which moves behind it. */
static bool scan_whole(const char **cursor, uint64_t *out)
{
    if (**cursor < '0' || **cursor > '9') {
        return false; /* strtoull alone would take signs and spaces */
    }
    char *end;
    errno = 0;
    unsigned long long number = strtoull(*cursor, &end, 10);
    *cursor = end;
    *out = number;
    return errno == 0;
}

static bool parse_whole(const char *option, const char *text, uint64_t lowest, uint64_t highest,
                        uint64_t *out, problem *problem)
{
    const char *cursor = text;
    uint64_t number = 0;
    if (!scan_whole(&cursor, &number) || *cursor != '\0' || number < lowest || number > highest) {
        return misuse(problem, "%s %s: must be a whole number from %llu to %llu", option, text,
                      (unsigned long long)lowest, (unsigned long long)highest);
    }
    *out = number;
    return true;
}

static bool parse_small(const char *option, const char *text, uint32_t lowest, uint32_t highest,
                        uint32_t *out, problem *problem)
{
    uint64_t number = 0;
    if (!parse_whole(option, text, lowest, highest, &number, problem)) {
        return false;
    }
    *out = (uint32_t)number;
    return true;
}

/* One of two words. */
static bool parse_word(const char *option, const char *text, const char *zero, const char *one,
                       int32_t *out, problem *problem)
{
    if (strcmp(text, zero) != 0 && strcmp(text, one) != 0) {
        return misuse(problem, "%s %s: must be %s or %s", option, text, zero, one);
    }
    *out = strcmp(text, one) == 0;
    return true;
}

static bool parse_window(const char *text, double out[2], problem *problem)
{
    char *comma, *end;
    double low = strtod(text, &comma);
    double high = *comma == ',' ? strtod(comma + 1, &end) : NAN;
    if (comma == text || *comma != ',' || end == comma + 1 || *end != '\0' || !isfinite(low) ||
        !isfinite(high) || low >= high) {
        return misuse(problem, "--window %s: must be LO,HI in HU, both finite, LO below HI", text);
    }
    out[0] = low;
    out[1] = high;
    return true;
}

static bool parse_crop(const char *text, uint64_t out[4], problem *problem)
{
    uint64_t edge[4];
    const char *cursor = text;
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        good = scan_whole(&cursor, &edge[i]) && *cursor == (i < 3 ? ',' : '\0');
        cursor += good && i < 3;
    }
    if (!good || edge[0] >= edge[2] || edge[1] >= edge[3]) {
        return misuse(problem, "--crop %s: must be X0,Y0,X1,Y1 in pixels, X0 < X1 and Y0 < Y1",
                      text);
    }
    memcpy(out, edge, sizeof edge);
    return true;
}

/* cuda:N[,N...], numbers below 64 */
static bool parse_gpus(const char *text, uint64_t *out)
{
    static const char NUMBERED[] = "cuda:";
    if (strncmp(text, NUMBERED, strlen(NUMBERED)) != 0) {
        return false;
    }
    const char *cursor = text + strlen(NUMBERED);
    for (;;) {
        uint64_t number = 0;
        if (!scan_whole(&cursor, &number) || number > 63) {
            return false;
        }
        *out |= UINT64_C(1) << number;
        if (*cursor != ',') {
            return *cursor == '\0';
        }
        cursor++;
    }
}

static bool parse_device(const char *text, arguments *out, problem *problem)
{
    uint64_t gpus = 0;
    if (strcmp(text, "auto") == 0) {
        out->device = PATCHMASK_DEVICE_AUTO;
    } else if (strcmp(text, "cpu") == 0) {
        out->device = PATCHMASK_DEVICE_CPU;
    } else if (strcmp(text, "cuda") == 0 || parse_gpus(text, &gpus)) {
        out->device = PATCHMASK_DEVICE_CUDA;
    } else {
        return misuse(problem, "--device %s: must be auto, cpu, cuda or cuda:N[,N...], N from 0 to 63",
                      text);
    }
    out->cuda_devices = gpus;
    return true;
}

static bool parse_memory(const char *text, uint64_t *out, problem *problem)
{
    uint64_t mebibytes = 0;
    if (!parse_whole("--memory", text, 0, UINT64_MAX >> 20, &mebibytes, problem)) {
        return false;
    }
    *out = mebibytes << 20;
    return true;
}

static bool take_option(arguments *out, option_name option, const char *value, problem *problem)
{
    const char *name = OPTIONS[option].name;
    switch (option) {
    case OPTION_MODEL:
        out->model = value;
        return true;
    case OPTION_ROI:
        out->roi = value;
        return true;
    case OPTION_LOGITS:
        out->logits = value;
        return true;
    case OPTION_PROBABILITY:
        out->probability = value;
        return true;
    case OPTION_TRUTH:
        out->truth = value;
        return true;
    case OPTION_REPORT:
        out->report = value;
        return true;
    case OPTION_PATCH_SIZE:
        return parse_small(name, value, PATCHMASK_PATCH_SIZE_MIN, PATCHMASK_PATCH_SIZE_MAX,
                           &out->patch_size, problem);
    case OPTION_STRIDE:
        return parse_small(name, value, 1, PATCHMASK_PATCH_SIZE_MAX, &out->stride, problem);
    case OPTION_PADDING:
        return parse_word(name, value, "patch", "image", &out->padding, problem);
    case OPTION_FILL:
        return parse_word(name, value, "nearest", "linear", &out->fill, problem);
    case OPTION_WINDOW:
        out->window_given = true;
        return parse_window(value, out->window, problem);
    case OPTION_EQUALIZE:
    case OPTION_NO_EQUALIZE:
        out->equalize = option == OPTION_EQUALIZE;
        return true;
    case OPTION_CROP:
        return parse_crop(value, out->crop, problem);
    case OPTION_DEVICE:
        return parse_device(value, out, problem);
    case OPTION_THREADS:
        return parse_small(name, value, 0, UINT32_MAX, &out->threads, problem);
    case OPTION_MEMORY:
        return parse_memory(value, &out->memory_budget, problem);
    case OPTION_NO_SHARING:
        out->sharing = 0;
        return true;
    case OPTION_QUIET:
        out->quiet = true;
        return true;
    case OPTION_SLICER_PROGRESS:
        out->slicer_progress = true;
        return true;
    case OPTION_XML:
        out->action = ACTION_DESCRIBE;
        return true;
    case OPTION_HELP:
        out->action = ACTION_HELP;
        return true;
    case OPTION_VERSION:
        out->action = ACTION_VERSION;
        return true;
    case OPTION_COUNT:
        break;
    }
    return misuse(problem, "%s: unknown option", name);
}

/* Whether a file of this name would be taken for another format than NRRD. */
static bool is_foreign(const char *path)
{
    static const char *const SUFFIXES[] = {".nii", ".nii.gz", ".mha", ".mhd", ".dcm", ".nhdr"};
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
        size_t length = strlen(SUFFIXES[i]), whole = strlen(path);
        if (whole >= length && strcmp(path + whole - length, SUFFIXES[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* An option word, `--name` or `--name=value`, and its value, which may be the next word. */
static bool parse_option(arguments *out, int count, char **words, int *at, problem *problem)
{
    const char *word = words[*at];
    size_t length = strcspn(word, "=");
    const char *value = word[length] == '=' ? word + length + 1 : NULL;
    for (int option = 0; option < OPTION_COUNT; option++) {
        const char *name = OPTIONS[option].name;
        if (strlen(name) != length || strncmp(name, word, length) != 0) {
            continue;
        }
        if (!OPTIONS[option].takes_value && value != NULL) {
            return misuse(problem, "%s: takes no value", name);
        }
        if (OPTIONS[option].takes_value && value == NULL) {
            if (*at + 1 == count) {
                return misuse(problem, "%s: needs a value", name);
            }
            value = words[++*at];
        }
        return take_option(out, (option_name)option, value, problem);
    }
    return misuse(problem, "%s: unknown option; segment --help lists them", word);
}

bool arguments_parse(arguments *out, int count, char **words, problem *problem)
{
    *out = (arguments){.equalize = -1, .sharing = 1};
    bool only_paths = false;
    for (int at = 1; at < count && out->action == ACTION_SEGMENT; at++) {
        const char *word = words[at];
        if (!only_paths && strcmp(word, "--") == 0) {
            only_paths = true;
        } else if (!only_paths && word[0] == '-') {
            if (!parse_option(out, count, words, &at, problem)) {
                return false;
            }
        } else if (out->input == NULL) {
            out->input = word;
        } else if (out->mask == NULL) {
            out->mask = word;
        } else {
            return misuse(problem, "%s: one path too many, only INPUT.nrrd and MASK.nrrd", word);
        }
    }
    if (out->action != ACTION_SEGMENT) {
        return true;
    }
    if (out->mask == NULL) {
        return misuse(problem, "usage: segment [options] INPUT.nrrd MASK.nrrd; see segment --help");
    }
    if (out->model == NULL) {
        return misuse(problem, "--model FILE: is required");
    }
    const char *volumes[] = {out->mask, out->logits, out->probability};
    for (size_t i = 0; i < sizeof volumes / sizeof *volumes; i++) {
        if (volumes[i] != NULL && is_foreign(volumes[i])) {
            return misuse(problem, "%s: volumes are written as NRRD: end the name with .nrrd", volumes[i]);
        }
    }
    return true;
}

void arguments_apply(const arguments *given, patchmask_options *options)
{
    if (given->patch_size != 0) {
        options->patch_size = given->patch_size;
    }
    if (given->stride != 0) {
        options->stride = given->stride;
    }
    if (given->window_given) {
        options->window_low = given->window[0];
        options->window_high = given->window[1];
    }
    if (given->equalize >= 0) {
        options->equalize = given->equalize;
    }
    options->padding = given->padding;
    options->interpolation = given->fill;
    options->sharing = given->sharing;
    options->crop_x0 = given->crop[0];
    options->crop_y0 = given->crop[1];
    options->crop_x1 = given->crop[2];
    options->crop_y1 = given->crop[3];
    options->device = given->device;
    options->cuda_devices = given->cuda_devices;
    options->threads = given->threads;
    options->memory_budget = given->memory_budget;
}

void arguments_print_help(void)
{
    fputs(HELP, stdout);
}
