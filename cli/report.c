#include "report.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>

/* Bytes of the well-formed UTF-8 character at `text` (RFC 3629), 0 where there is none. */
static size_t character_bytes(const unsigned char* text) {
    unsigned char lead = text[0];
    size_t bytes = lead < 0x80 ? 1 : lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    if (lead > 0xF4) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text[i] & 0xC0) != 0x80) return 0;
    bool overlong = (lead == 0xE0 && text[1] < 0xA0) || (lead == 0xF0 && text[1] < 0x90);
    bool no_character = (lead == 0xED && text[1] > 0x9F) || (lead == 0xF4 && text[1] > 0x8F);
    return overlong || no_character ? 0 : bytes;
}

/* A JSON string; file names need not be UTF-8. NULL is null. */
static void put_string(FILE* file, const char* text) {
    if (text == NULL) {
        fputs("null", file);
        return;
    }
    putc('"', file);
    for (const unsigned char* c = (const unsigned char*)text; *c != '\0';) {
        size_t bytes = character_bytes(c);
        if (*c == '"' || *c == '\\') fprintf(file, "\\%c", *c);
        else if (*c < ' ') fprintf(file, "\\u%04x", *c);
        else if (bytes == 0) fputs("\\ufffd", file);
        else fwrite(c, 1, bytes, file);
        c += bytes != 0 ? bytes : 1;
    }
    putc('"', file);
}

/* JSON has no NaN and no infinity. */
static void put_number(FILE* file, double number) {
    if (isfinite(number)) fprintf(file, "%.17g", number);
    else fputs("null", file);
}

static void put_numbers(FILE* file, const char* before, const double* numbers, size_t count) {
    fputs(before, file);
    for (size_t i = 0; i < count; i++) {
        fputs(i == 0 ? "[" : ", ", file);
        put_number(file, numbers[i]);
    }
    putc(']', file);
}

static void put_text_entry(FILE* file, const char* before, const char* text) {
    fputs(before, file);
    put_string(file, text);
}

static void put_number_entry(FILE* file, const char* before, double number) {
    fputs(before, file);
    put_number(file, number);
}

static const char* device_name(int32_t device) {
    return device == PATCHMASK_DEVICE_CPU ? "cpu" : device == PATCHMASK_DEVICE_CUDA ? "cuda" : "auto";
}

static void put_options(FILE* file, const run_report* report) {
    const patchmask_options* o = report->options;
    const double window[2] = {o->window_low, o->window_high};
    fputs("  \"options\": {\n", file);
    put_text_entry(file, "    \"model\": ", report->arguments->model);
    fprintf(file, ",\n    \"patch_size\": %" PRIu32 ",\n    \"stride\": %" PRIu32, o->patch_size, o->stride);
    fprintf(file, ",\n    \"padding\": \"%s\"", o->padding == PATCHMASK_PADDING_IMAGE ? "image" : "patch");
    put_numbers(file, ",\n    \"window\": ", window, 2);
    put_numbers(file, ",\n    \"mean\": ", o->mean, 3);
    put_numbers(file, ",\n    \"std\": ", o->std, 3);
    fprintf(file, ",\n    \"equalize\": %s", o->equalize ? "true" : "false");
    if (o->crop_x1 != 0) {
        fprintf(file, ",\n    \"crop\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64 "]", o->crop_x0, o->crop_y0,
                o->crop_x1, o->crop_y1);
    } else {
        fputs(",\n    \"crop\": null", file);
    }
    if (report->arguments->spacing[0] > 0) put_numbers(file, ",\n    \"spacing\": ", report->arguments->spacing, 3);
    else fputs(",\n    \"spacing\": null", file);
    put_text_entry(file, ",\n    \"roi\": ", report->arguments->roi);
    fprintf(file, ",\n    \"body\": %s", o->body ? "true" : "false");
    put_text_entry(file, ",\n    \"truth\": ", report->arguments->truth);
    fprintf(file, ",\n    \"fill\": \"%s\"", o->interpolation == PATCHMASK_INTERPOLATION_LINEAR ? "linear" : "nearest");
    fprintf(file, ",\n    \"lesion_class\": %" PRIu32, o->lesion_class);
    put_number_entry(file, ",\n    \"pixel_mm\": ", o->pixel_mm);
    fprintf(file, ",\n    \"resample\": %s", o->resample ? "true" : "false");
    put_number_entry(file, ",\n    \"threshold\": ", o->threshold);
    fprintf(file, ",\n    \"device\": \"%s\",\n    \"cuda_devices\": %" PRIu64, device_name(o->device),
            o->cuda_devices);
    fprintf(file, ",\n    \"threads\": %" PRIu32 ",\n    \"memory_mib\": %" PRIu64, o->threads, o->memory_budget >> 20);
    fprintf(file, ",\n    \"sharing\": %s\n  },\n", o->sharing ? "true" : "false");
}

static void put_timings(FILE* file, const run_report* report) {
    const patchmask_result* r = report->result;
    put_number_entry(file, "  \"timings_s\": {\n    \"load\": ", report->load_seconds);
    put_number_entry(file, ",\n    \"plan\": ", r->plan_seconds);
    put_number_entry(file, ",\n    \"intensity\": ", r->intensity_seconds);
    put_number_entry(file, ",\n    \"network\": ", r->network_seconds);
    put_number_entry(file, ",\n    \"mask\": ", r->mask_seconds);
    put_number_entry(file, ",\n    \"segment\": ", r->segment_seconds);
    fputs("\n  },\n", file);
}

void report_write_json(FILE* file, const run_report* report) {
    const patchmask_result* r = report->result;
    put_text_entry(file, "{\n  \"version\": ", patchmask_version());
    put_text_entry(file, ",\n  \"input\": ", report->arguments->input);
    put_text_entry(file, ",\n  \"mask\": ", report->arguments->mask);
    fputs(",\n", file);
    put_options(file, report);
    fprintf(file, "  \"model_sha256\": \"%s\",\n", report->model->sha256);
    put_text_entry(file, "  \"engine\": ", report->engine);
    fprintf(file, ",\n  \"size\": [%" PRIu64 ", %" PRIu64 ", %" PRIu64 "],\n", report->size[0], report->size[1],
            report->size[2]);
    fprintf(file, "  \"lattice\": [%" PRIu64 ", %" PRIu64 "],\n  \"classes\": %" PRIu64 ",\n",
            report->estimate->grid_width, report->estimate->grid_height, report->estimate->classes);
    const patchmask_estimate* e = report->estimate;
    put_numbers(file, "  \"pixel_mm\": ", (const double[]){e->pixel_width, e->pixel_height}, 2);
    put_numbers(file, ",\n  \"lattice_origin_mm\": ", (const double[]){e->grid_origin_x, e->grid_origin_y}, 2);
    put_numbers(file, ",\n  \"lattice_spacing_mm\": ", (const double[]){e->grid_spacing_x, e->grid_spacing_y}, 2);
    fputs(",\n", file);
    fprintf(file, "  \"patches\": %" PRIu64 ",\n  \"macs\": %" PRIu64 ",\n", r->patches, r->macs);
    fprintf(file, "  \"macs_unshared\": %" PRIu64 ",\n  \"tiles\": %" PRIu64 ",\n", r->macs_unshared, r->tiles);
    fprintf(file, "  \"nonfinite_voxels\": %" PRIu64, r->nonfinite_voxels);
    put_number_entry(file, ",\n  \"body_share\": ", r->body_share);
    fputs(",\n", file);
    put_timings(file, report);
    if (report->overlap != NULL) {
        put_number_entry(file, "  \"dice\": ", overlap_dice(report->overlap));
        put_number_entry(file, ",\n  \"sensitivity\": ", overlap_sensitivity(report->overlap));
        put_number_entry(file, ",\n  \"precision\": ", overlap_precision(report->overlap));
        fputs(",\n", file);
    }
    fprintf(file, "  \"peak_bytes\": %" PRIu64 ",\n", r->peak_bytes);
    fprintf(file, "  \"device_peak_bytes\": %" PRIu64 "\n}\n", r->device_peak_bytes);
}

void report_print_summary(FILE* file, const run_report* report) {
    const patchmask_result* r = report->result;
    fprintf(file, "%s: %" PRIu64 " patches of %" PRIu32 " px every %" PRIu32 " px, on %s\n", report->arguments->mask,
            r->patches, report->options->patch_size, report->options->stride, report->engine);
    fprintf(file, "work     %.4g GMAC", 1e-9 * (double)r->macs);
    if (r->macs != 0)
        fprintf(file, ", %.4g times less than patch by patch", (double)r->macs_unshared / (double)r->macs);
    fprintf(file, "; at most %.1f MiB\n", (double)r->peak_bytes / (1 << 20));
    fprintf(file, "seconds  %.3f: plan %.3f, intensity %.3f, network %.3f, mask %.3f; load %.3f\n", r->segment_seconds,
            r->plan_seconds, r->intensity_seconds, r->network_seconds, r->mask_seconds, report->load_seconds);
    if (report->options->body) fprintf(file, "body     %.4g %% of the voxels\n", 100 * r->body_share);
    if (r->nonfinite_voxels != 0)
        fprintf(file, "voxels   %" PRIu64 " were not finite and counted as black\n", r->nonfinite_voxels);
    if (report->overlap != NULL) {
        fprintf(file, "truth    Dice %.4f, sensitivity %.4f, precision %.4f\n", overlap_dice(report->overlap),
                overlap_sensitivity(report->overlap), overlap_precision(report->overlap));
    }
}
