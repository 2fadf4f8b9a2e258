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
    "  --crop X0,Y0,X1,Y1          voxels, half-open; outside is black\n"
    "  --pixel-mm MM               side of the pixels that patch size and stride count (0: the file's)\n"
    "  --no-resample               keep the file's pixels, whatever their size\n"
    "  --spacing X,Y,Z             mm between voxels, where the file does not say it\n"
    "  --roi ROI.nrrd              evaluate only where non-zero\n"
    "  --body                      evaluate only the body, found in each slice: nothing in the air around it\n"
    "  --fill nearest|linear       how patch classes become voxels (default nearest)\n"
    "  --threshold P               probability from which a voxel is lesion (0: the most probable class)\n"
    "  --logits FILE.nrrd          float32; axes fastest first: class, patch x, patch y, slice\n"
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
    "Patch size, stride, window, equalisation, pixel size and threshold default to the model's\n"
    "metadata, else to 257, 7, -160,240, none, 0 and 0. Slices of other pixels are resampled. The last of a repeated "
    "option counts; underscores in its name do as hyphens. NRRD files are read with raw\n"
    "encoding and attached data. Exit status: 0 success, 1 failure, 2 wrong usage.\n";

/* An option: exactly one of path, whole, choice, spacing and parse says what it does. */
typedef struct option {
    const char* name;
    const char** path;
    uint32_t* whole; /* takes a whole number of low..=high */
    uint32_t low, high;
    int32_t* choice; /* takes one of two words and is its index; or takes nothing and is `value` */
    const char* words[2];
    int32_t value;
    double* spacing;
    bool (*parse)(patchmask_options* out, const char* text, problem* problem);
} option;

/* A whole number at `*cursor`, which moves behind it. */
static bool scan_whole(const char** cursor, uint64_t* out) {
    if (**cursor < '0' || **cursor > '9') return false; /* strtoull alone would take signs and spaces */
    char* end;
    errno = 0;
    unsigned long long number = strtoull(*cursor, &end, 10);
    *cursor = end;
    *out = number;
    return errno == 0;
}

static bool parse_whole(const char* option, const char* text, uint64_t lowest, uint64_t highest, uint64_t* out,
                        problem* problem) {
    const char* cursor = text;
    uint64_t number = 0;
    if (!scan_whole(&cursor, &number) || *cursor != '\0' || number < lowest || number > highest) {
        return misuse(problem, "%s %s: must be a whole number from %llu to %llu", option, text,
                      (unsigned long long)lowest, (unsigned long long)highest);
    }
    *out = number;
    return true;
}

static bool parse_window(patchmask_options* out, const char* text, problem* problem) {
    char *comma, *end;
    double low = strtod(text, &comma);
    double high = *comma == ',' ? strtod(comma + 1, &end) : NAN;
    if (comma == text || *comma != ',' || end == comma + 1 || *end != '\0' || !isfinite(low) || !isfinite(high) ||
        low >= high) {
        return misuse(problem, "--window %s: must be LO,HI in HU, both finite, LO below HI", text);
    }
    out->window_low = low;
    out->window_high = high;
    return true;
}

static bool parse_real(const char* option, const char* text, double* out, problem* problem) {
    char* end;
    *out = strtod(text, &end);
    return (end != text && *end == '\0') || misuse(problem, "%s %s: must be a number", option, text);
}

static bool parse_pixel_mm(patchmask_options* out, const char* text, problem* problem) {
    return parse_real("--pixel-mm", text, &out->pixel_mm, problem);
}

static bool parse_threshold(patchmask_options* out, const char* text, problem* problem) {
    return parse_real("--threshold", text, &out->threshold, problem);
}

static bool parse_crop(patchmask_options* out, const char* text, problem* problem) {
    uint64_t edge[4];
    const char* cursor = text;
    bool good = true;
    for (int i = 0; i < 4 && good; i++) {
        good = scan_whole(&cursor, &edge[i]) && *cursor == (i < 3 ? ',' : '\0');
        cursor += good && i < 3;
    }
    if (!good || edge[0] >= edge[2] || edge[1] >= edge[3])
        return misuse(problem, "--crop %s: must be X0,Y0,X1,Y1 in voxels, X0 < X1 and Y0 < Y1", text);
    out->crop_x0 = edge[0];
    out->crop_y0 = edge[1];
    out->crop_x1 = edge[2];
    out->crop_y1 = edge[3];
    return true;
}

static bool parse_spacing(double out[3], const char* text, problem* problem) {
    const char* cursor = text;
    for (int axis = 0; axis < 3; axis++) {
        char* end;
        out[axis] = strtod(cursor, &end);
        if (end == cursor || *end != (axis < 2 ? ',' : '\0') || !isfinite(out[axis]) || out[axis] <= 0)
            return misuse(problem, "--spacing %s: must be X,Y,Z in mm, three numbers above 0", text);
        cursor = end + 1;
    }
    return true;
}

/* cuda:N[,N...], numbers below 64 */
static bool parse_gpus(const char* text, uint64_t* out) {
    static const char NUMBERED[] = "cuda:";
    if (strncmp(text, NUMBERED, strlen(NUMBERED)) != 0) return false;
    const char* cursor = text + strlen(NUMBERED);
    for (;;) {
        uint64_t number = 0;
        if (!scan_whole(&cursor, &number) || number > 63) return false;
        *out |= UINT64_C(1) << number;
        if (*cursor != ',') return *cursor == '\0';
        cursor++;
    }
}

static bool parse_device(patchmask_options* out, const char* text, problem* problem) {
    uint64_t gpus = 0;
    if (strcmp(text, "auto") == 0) out->device = PATCHMASK_DEVICE_AUTO;
    else if (strcmp(text, "cpu") == 0) out->device = PATCHMASK_DEVICE_CPU;
    else if (strcmp(text, "cuda") == 0 || parse_gpus(text, &gpus)) out->device = PATCHMASK_DEVICE_CUDA;
    else return misuse(problem, "--device %s: must be auto, cpu, cuda or cuda:N[,N...], N from 0 to 63", text);
    out->cuda_devices = gpus;
    return true;
}

static bool parse_memory(patchmask_options* out, const char* text, problem* problem) {
    uint64_t mebibytes = 0;
    if (!parse_whole("--memory", text, 0, UINT64_MAX >> 20, &mebibytes, problem)) return false;
    out->memory_budget = mebibytes << 20;
    return true;
}

static bool take_value(const option* option, patchmask_options* options, const char* text, problem* problem) {
    if (option->path != NULL) {
        *option->path = text;
    } else if (option->whole != NULL) {
        uint64_t number = 0;
        if (!parse_whole(option->name, text, option->low, option->high, &number, problem)) return false;
        *option->whole = (uint32_t)number;
    } else if (option->choice != NULL) {
        const char* const* words = option->words;
        if (strcmp(text, words[0]) != 0 && strcmp(text, words[1]) != 0)
            return misuse(problem, "%s %s: must be %s or %s", option->name, text, words[0], words[1]);
        *option->choice = strcmp(text, words[1]) == 0;
    } else if (option->spacing != NULL) {
        return parse_spacing(option->spacing, text, problem);
    } else {
        return option->parse(options, text, problem);
    }
    return true;
}

/* Whether the first `length` characters of `word` are the option's name. 3D Slicer takes no hyphen inside a name and
 * calls `--patch_size`. */
static bool is_named(const char* word, size_t length, const char* name) {
    if (strlen(name) != length) return false;
    for (size_t i = 0; i < length; i++)
        if (word[i] != name[i] && (i < 2 || word[i] != '_' || name[i] != '-')) return false;
    return true;
}

/* An option word, `--name` or `--name=value`, and its value, which may be the next word. */
static bool parse_option(arguments* out, patchmask_options* options, int count, char** words, int* at,
                         problem* problem) {
    const option known[] = {
        {"--model", .path = &out->model},
        {"--roi", .path = &out->roi},
        {"--truth", .path = &out->truth},
        {"--logits", .path = &out->logits},
        {"--probability", .path = &out->probability},
        {"--report", .path = &out->report},
        {"--patch-size", .whole = &options->patch_size, .low = PATCHMASK_PATCH_SIZE_MIN,
         .high = PATCHMASK_PATCH_SIZE_MAX},
        {"--stride", .whole = &options->stride, .low = 1, .high = PATCHMASK_PATCH_SIZE_MAX},
        {"--threads", .whole = &options->threads, .high = UINT32_MAX},
        {"--padding", .choice = &options->padding, .words = {"patch", "image"}},
        {"--fill", .choice = &options->interpolation, .words = {"nearest", "linear"}},
        {"--equalize", .choice = &options->equalize, .value = 1},
        {"--no-equalize", .choice = &options->equalize, .value = 0},
        {"--no-sharing", .choice = &options->sharing, .value = 0},
        {"--no-resample", .choice = &options->resample, .value = 0},
        {"--body", .choice = &options->body, .value = 1},
        {"--quiet", .choice = &out->quiet, .value = 1},
        {"--slicer-progress", .choice = &out->slicer_progress, .value = 1},
        {"--xml", .choice = &out->action, .value = ACTION_DESCRIBE},
        {"--help", .choice = &out->action, .value = ACTION_HELP},
        {"--version", .choice = &out->action, .value = ACTION_VERSION},
        {"--spacing", .spacing = out->spacing},
        {"--window", .parse = parse_window},
        {"--pixel-mm", .parse = parse_pixel_mm},
        {"--threshold", .parse = parse_threshold},
        {"--crop", .parse = parse_crop},
        {"--device", .parse = parse_device},
        {"--memory", .parse = parse_memory},
    };
    const char* word = words[*at];
    size_t length = strcspn(word, "=");
    const char* value = word[length] == '=' ? word + length + 1 : NULL;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const option* option = &known[i];
        if (!is_named(word, length, option->name)) continue;
        if (option->choice != NULL && option->words[0] == NULL) {
            *option->choice = option->value;
            return value == NULL || misuse(problem, "%s: takes no value", option->name);
        }
        if (value == NULL && *at + 1 == count) return misuse(problem, "%s: needs a value", option->name);
        return take_value(option, options, value != NULL ? value : words[++*at], problem);
    }
    return misuse(problem, "%s: unknown option; segment --help lists them", word);
}

/* True for names that other programs take for another format than NRRD. */
static bool is_foreign(const char* path) {
    static const char* const SUFFIXES[] = {".nii", ".nii.gz", ".mha", ".mhd", ".dcm", ".nhdr"};
    for (size_t i = 0; i < sizeof SUFFIXES / sizeof *SUFFIXES; i++) {
        size_t length = strlen(SUFFIXES[i]), whole = strlen(path);
        if (whole >= length && strcmp(path + whole - length, SUFFIXES[i]) == 0) return true;
    }
    return false;
}

bool arguments_parse(arguments* out, patchmask_options* options, int count, char** words, problem* problem) {
    *out = (arguments){.action = ACTION_SEGMENT};
    bool only_paths = false;
    for (int at = 1; at < count && out->action == ACTION_SEGMENT; at++) {
        const char* word = words[at];
        if (!only_paths && strcmp(word, "--") == 0) {
            only_paths = true;
        } else if (!only_paths && word[0] == '-') {
            if (!parse_option(out, options, count, words, &at, problem)) return false;
        } else if (out->input == NULL) {
            out->input = word;
        } else if (out->mask == NULL) {
            out->mask = word;
        } else {
            return misuse(problem, "%s: one path too many, only INPUT.nrrd and MASK.nrrd", word);
        }
    }
    if (out->action != ACTION_SEGMENT) return true;
    if (out->mask == NULL) return misuse(problem, "usage: segment [options] INPUT.nrrd MASK.nrrd; see segment --help");
    if (out->model == NULL) return misuse(problem, "--model FILE: is required");
    const char* volumes[] = {out->mask, out->logits, out->probability};
    for (size_t i = 0; i < sizeof volumes / sizeof *volumes; i++)
        if (volumes[i] != NULL && is_foreign(volumes[i]))
            return misuse(problem, "%s: volumes are written as NRRD: end the name with .nrrd", volumes[i]);
    return true;
}

void arguments_print_help(void) { fputs(HELP, stdout); }
