/* Wrong arguments: every function refuses them with INVALID_ARGUMENT and a text that names the value,
 * and leaves handles and structs as they were. */
#include <math.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 50, HEIGHT = 40, DEPTH = 2, PATCH = 32, VOXELS = WIDTH * HEIGHT * DEPTH };

static patchmask_model* model;
static patchmask_session* session;
static patchmask_options good_options;
static patchmask_volume good_volume;
static patchmask_outputs good_outputs;
static int16_t* hu;
static uint8_t mask[VOXELS];

/* A struct that a failing call must not touch. */
#define UNTOUCHED(type, name) \
    type name, name##_before; \
    memset(&name, 0xA5, sizeof name); \
    memcpy(&name##_before, &name, sizeof name)
#define CHECK_UNTOUCHED(name) CHECK(memcmp(&name, &name##_before, sizeof name) == 0)

/* `first`: the struct's bytes in the first version. */
#define CHECK_INIT(type, first, init) \
    do { \
        UNTOUCHED(type, value); \
        CHECK_INVALID("NULL", init(NULL, sizeof value)); \
        CHECK_INVALID("struct_size 0", init(&value, 0)); \
        CHECK_INVALID("struct_size", init(&value, (first) - 1)); \
        CHECK_INVALID("struct_size", init(&value, 4097)); \
        CHECK_INVALID("struct_size", init(&value, SIZE_MAX)); \
        CHECK_UNTOUCHED(value); \
        CHECK_OK(init(&value, sizeof value)); \
    } while (0)

static patchmask_status options_init(patchmask_options* out, size_t struct_size) {
    return patchmask_options_init(out, struct_size, model);
}

static patchmask_status volume_init(patchmask_volume* out, size_t struct_size) {
    return patchmask_volume_init(out, struct_size, hu, PATCHMASK_VOXEL_I16, WIDTH, HEIGHT, DEPTH);
}

static void initialisers(void) {
    CHECK_INIT(patchmask_volume, 104, volume_init);
    CHECK_INIT(patchmask_outputs, 160, patchmask_outputs_init);
    CHECK_INIT(patchmask_options, 192, options_init);
    CHECK_INIT(patchmask_model_info, 112, patchmask_model_info_init);
    CHECK_INIT(patchmask_estimate, 80, patchmask_estimate_init);
    CHECK_INIT(patchmask_result, 112, patchmask_result_init);
}

static void volume_descriptions(void) {
    static const struct {
        const char* text;
        int32_t type;
        uint64_t width, height, depth;
    } CASES[] = {
        {"voxel_type 0", 0, 1, 1, 1},
        {"voxel_type 8", 8, 1, 1, 1},
        {"voxel_type -1", -1, 1, 1, 1},
        {"voxel_type 2147483647", INT32_MAX, 1, 1, 1},
        {"width 0", PATCHMASK_VOXEL_I16, 0, 1, 1},
        {"width 16777217", PATCHMASK_VOXEL_I16, (1 << 24) + 1, 1, 1},
        {"height 0", PATCHMASK_VOXEL_I16, 1, 0, 1},
        {"depth 0", PATCHMASK_VOXEL_I16, 1, 1, 0},
        {"width 18446744073709551615", PATCHMASK_VOXEL_U8, UINT64_MAX, 1, 1},
        {"height 18446744073709551615", PATCHMASK_VOXEL_U8, 1, UINT64_MAX, 1},
        {"depth 18446744073709551615", PATCHMASK_VOXEL_U8, 1, 1, UINT64_MAX},
        {"depth 4294967296", PATCHMASK_VOXEL_U8, 1u << 20, 1u << 20, UINT64_C(1) << 32},
        {"", PATCHMASK_VOXEL_F64, 1u << 20, 1u << 20, UINT64_C(1) << 22},
    };
    UNTOUCHED(patchmask_volume, volume);
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        CHECK_INVALID(CASES[i].text, patchmask_volume_init(&volume, sizeof volume, hu, CASES[i].type, CASES[i].width,
                                                           CASES[i].height, CASES[i].depth));
    }
    CHECK_UNTOUCHED(volume);
}

static void model_functions(void) {
    UNTOUCHED(patchmask_model_info, info);
    CHECK_INVALID("model", patchmask_model_get_info(NULL, &info));
    CHECK_INVALID("out_info", patchmask_model_get_info(model, NULL));
    CHECK_INVALID("struct_size", patchmask_model_get_info(model, &info));
    CHECK_UNTOUCHED(info);
    CHECK(patchmask_model_class_name(NULL, 0) == NULL);
    CHECK(patchmask_model_class_name(model, 0) == NULL); /* has no names */
    patchmask_model_free(NULL);
}

static void check_option(const char* text, const patchmask_options* options) {
    patchmask_session* made = (patchmask_session*)&mask;
    CHECK_INVALID(text, patchmask_session_new(model, options, &made));
    CHECK(made == (patchmask_session*)&mask);
}

/* One option at a time is bad. */
#define BAD_OPTION(text, field, value) \
    do { \
        patchmask_options bad = good_options; \
        bad.field = (value); \
        check_option(text, &bad); \
    } while (0)

static void options(void) {
    BAD_OPTION("struct_size 0", struct_size, 0);
    BAD_OPTION("struct_size", struct_size, 192 - 8);
    BAD_OPTION("struct_size", struct_size, 4097);
    BAD_OPTION("patch_size 0", patch_size, 0);
    BAD_OPTION("patch_size 31", patch_size, 31);
    BAD_OPTION("patch_size 1025", patch_size, 1025);
    BAD_OPTION("patch_size 4294967295", patch_size, UINT32_MAX);
    BAD_OPTION("patch", patch_size, 64); /* the model's dense layer does not fit */
    BAD_OPTION("stride 0", stride, 0);
    BAD_OPTION("stride 33", stride, PATCH + 1);
    BAD_OPTION("stride 4294967295", stride, UINT32_MAX);
    BAD_OPTION("padding 2", padding, 2);
    BAD_OPTION("padding -1", padding, -1);
    BAD_OPTION("interpolation 2", interpolation, 2);
    BAD_OPTION("interpolation -2147483648", interpolation, INT32_MIN);
    BAD_OPTION("window", window_low, 127);
    BAD_OPTION("window", window_low, 128);
    BAD_OPTION("window", window_low, NAN);
    BAD_OPTION("window", window_low, -INFINITY);
    BAD_OPTION("window", window_high, NAN);
    BAD_OPTION("window", window_high, INFINITY);
    BAD_OPTION("mean", mean[0], NAN);
    BAD_OPTION("mean", mean[2], INFINITY);
    BAD_OPTION("std 0", std[0], 0);
    BAD_OPTION("std -1", std[1], -1);
    BAD_OPTION("std", std[2], NAN);
    BAD_OPTION("equalize 2", equalize, 2);
    BAD_OPTION("sharing -1", sharing, -1);
    BAD_OPTION("body 2", body, 2);
    BAD_OPTION("lesion_class 2", lesion_class, 2);
    BAD_OPTION("lesion_class 4294967295", lesion_class, UINT32_MAX);
    BAD_OPTION("device 3", device, 3);
    BAD_OPTION("device -1", device, -1);
    BAD_OPTION("threads 4294967295", threads, UINT32_MAX);
    patchmask_options tiny_budget = good_options;
    tiny_budget.memory_budget = 1;
    CHECK_REFUSED(PATCHMASK_OUT_OF_MEMORY, "memory_budget 1", patchmask_session_new(model, &tiny_budget, &session));
}

static void session_functions(void) {
    typedef patchmask_session* handle;
    UNTOUCHED(handle, made);
    CHECK_INVALID("model", patchmask_session_new(NULL, &good_options, &made));
    CHECK_INVALID("options", patchmask_session_new(model, NULL, &made));
    CHECK_INVALID("out_session", patchmask_session_new(model, &good_options, NULL));
    CHECK_UNTOUCHED(made);
    CHECK(patchmask_session_engine_name(NULL) == NULL);
    CHECK(strncmp(patchmask_session_engine_name(session), "cpu", 3) == 0);
    UNTOUCHED(uint64_t, slices);
    CHECK_INVALID("session", patchmask_session_slices_done(NULL, &slices));
    CHECK_INVALID("out_slices", patchmask_session_slices_done(session, NULL));
    CHECK_UNTOUCHED(slices);
    CHECK_INVALID("session", patchmask_session_cancel(NULL));
    CHECK_INVALID("session", patchmask_session_trim(NULL));
    CHECK_OK(patchmask_session_trim(session));
    patchmask_session_free(NULL);
}

/* A volume that neither estimate nor segment takes. */
static void check_volume(const char* text, const patchmask_volume* volume, const patchmask_volume* roi, int estimable) {
    patchmask_estimate estimate, before;
    CHECK_OK(patchmask_estimate_init(&estimate, sizeof estimate));
    estimate.tiles = 77;
    memcpy(&before, &estimate, sizeof estimate);
    if (!estimable) {
        CHECK_INVALID(text, patchmask_session_estimate(session, volume, roi, &estimate));
        CHECK(memcmp(&estimate, &before, sizeof estimate) == 0);
    }
    patchmask_result result, result_before;
    CHECK_OK(patchmask_result_init(&result, sizeof result));
    result.tiles = 77;
    memcpy(&result_before, &result, sizeof result);
    memset(mask, 0xA5, sizeof mask);
    CHECK_INVALID(text, patchmask_session_segment(session, volume, roi, &good_outputs, &result));
    CHECK(memcmp(&result, &result_before, sizeof result) == 0);
    for (size_t i = 0; i < sizeof mask; i++) CHECK(mask[i] == 0xA5);
}

#define BAD_VOLUME(text, field, value, estimable) \
    do { \
        patchmask_volume bad = good_volume; \
        bad.field = (value); \
        check_volume(text, &bad, NULL, estimable); \
    } while (0)

static void volumes(void) {
    check_volume("volume", NULL, NULL, 0);
    BAD_VOLUME("struct_size 0", struct_size, 0, 0);
    BAD_VOLUME("struct_size", struct_size, 4097, 0);
    BAD_VOLUME("width 0", width, 0, 0);
    BAD_VOLUME("height 0", height, 0, 0);
    BAD_VOLUME("depth 0", depth, 0, 0);
    BAD_VOLUME("width", width, UINT64_MAX, 0);
    BAD_VOLUME("depth", depth, UINT64_MAX, 0);
    BAD_VOLUME("data", data, NULL, 1);
    BAD_VOLUME("voxel_type 99", voxel_type, 99, 1);
    BAD_VOLUME("stride_x 0", stride_x, 0, 1);
    BAD_VOLUME("stride", stride_x, UINT64_MAX, 1);
    BAD_VOLUME("stride", stride_y, UINT64_MAX / HEIGHT + 1, 1);
    BAD_VOLUME("stride", stride_z, UINT64_C(1) << 63, 1);
    BAD_VOLUME("volume.memory 2", memory, 2, 1);
    BAD_VOLUME("volume.memory -1", memory, -1, 1);
    BAD_VOLUME("volume in device memory", memory, PATCHMASK_MEMORY_CUDA, 1);
    BAD_VOLUME("slope NaN", slope, NAN, 1);
    BAD_VOLUME("slope 0", slope, 0, 1);
    BAD_VOLUME("intercept inf", intercept, INFINITY, 1);
}

#define BAD_REGION(text, field, value) \
    do { \
        patchmask_volume bad = good_volume; \
        bad.field = (value); \
        check_volume(text, &good_volume, &bad, 0); \
    } while (0)

static void regions(void) {
    BAD_REGION("49 x 40 x 2", width, WIDTH - 1);
    BAD_REGION("50 x 40 x 1", depth, 1);
    BAD_REGION("roi.data", data, NULL);
    BAD_REGION("roi.voxel_type 0", voxel_type, 0);
    BAD_REGION("roi in device memory", memory, PATCHMASK_MEMORY_CUDA);
    BAD_REGION("roi: struct_size 1", struct_size, 1);
}

static void crops(void) {
    static const struct {
        uint64_t x0, y0, x1, y1;
    } CASES[] = {
        {0, 0, WIDTH + 1, HEIGHT},     {0, 0, WIDTH, HEIGHT + 1}, {5, 0, 5, HEIGHT}, {0, 9, WIDTH, 8}, {3, 3, 0, 0},
        {WIDTH, 0, WIDTH + 9, HEIGHT}, {0, 0, UINT64_MAX, 1},     {0, 0, 1, 0},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        patchmask_options bad = good_options;
        patchmask_session* cropped = NULL;
        bad.crop_x0 = CASES[i].x0;
        bad.crop_y0 = CASES[i].y0;
        bad.crop_x1 = CASES[i].x1;
        bad.crop_y1 = CASES[i].y1;
        if (patchmask_session_new(model, &bad, &cropped) == PATCHMASK_OK)
            CHECK_INVALID("crop", patchmask_session_segment(cropped, &good_volume, NULL, &good_outputs, NULL));
        CHECK(strstr(patchmask_last_error(), "crop") != NULL);
        patchmask_session_free(cropped);
    }
}

#define BAD_OUTPUTS(text, ...) \
    do { \
        patchmask_outputs bad = {.struct_size = sizeof bad, __VA_ARGS__}; \
        CHECK_INVALID(text, patchmask_session_segment(session, &good_volume, NULL, &bad, NULL)); \
    } while (0)

static void output_buffers(void) {
    static float floats[VOXELS];
    const uint64_t rows = WIDTH, slices = WIDTH * HEIGHT; /* bytes of the mask's */
    CHECK_INVALID("outputs", patchmask_session_segment(session, &good_volume, NULL, NULL, NULL));
    BAD_OUTPUTS("no buffer", .mask = NULL);
    patchmask_outputs cut = good_outputs;
    cut.struct_size--;
    CHECK_INVALID("struct_size", patchmask_session_segment(session, &good_volume, NULL, &cut, NULL));
    BAD_OUTPUTS("mask stride_x 0", .mask = mask, .mask_stride_y = rows);
    /* rows run into each other */
    BAD_OUTPUTS("mask stride_y 49", .mask = mask, .mask_stride_x = 1, .mask_stride_y = rows - 1,
                .mask_stride_z = slices);
    BAD_OUTPUTS("mask", .mask = mask, .mask_stride_x = 1, .mask_stride_y = rows, .mask_stride_z = UINT64_MAX);
    /* less than a float */
    BAD_OUTPUTS("probability stride_x 3", .probability = floats, .probability_stride_x = 3,
                .probability_stride_y = 4 * rows, .probability_stride_z = 4 * slices);
    BAD_OUTPUTS("outputs.memory 2", .mask = mask, .memory = 2);
    BAD_OUTPUTS("outputs in device memory", .mask = mask, .memory = PATCHMASK_MEMORY_CUDA);
}

static void overlapping_buffers(void) {
    static float floats[2 * VOXELS];
    uint8_t* middle = (uint8_t*)(floats + VOXELS / 2);
    BAD_OUTPUTS("mask overlaps volume", .mask = (uint8_t*)hu);
    BAD_OUTPUTS("mask overlaps volume", .mask = (uint8_t*)(hu + VOXELS) - 1); /* its last byte */
    BAD_OUTPUTS("overlaps", .probability = floats, .mask = (uint8_t*)floats + 5);
    BAD_OUTPUTS("overlaps", .probability = floats + VOXELS / 2, .mask = middle - VOXELS + 1);
    BAD_OUTPUTS("coverage overlaps mask", .mask = mask, .coverage = mask + VOXELS / 2);
    BAD_OUTPUTS("logits overlaps probability", .logits = floats, .probability = floats + 1);
    patchmask_volume roi = good_volume;
    roi.data = mask;
    roi.voxel_type = PATCHMASK_VOXEL_U8;
    roi.stride_x = roi.stride_y = roi.stride_z = 0;
    CHECK_INVALID("mask overlaps roi", patchmask_session_segment(session, &good_volume, &roi, &good_outputs, NULL));
}

static void result_and_estimate_structs(void) {
    UNTOUCHED(patchmask_result, result);
    UNTOUCHED(patchmask_estimate, estimate);
    CHECK_INVALID("out_result", patchmask_session_segment(session, &good_volume, NULL, &good_outputs, &result));
    CHECK_INVALID("out_estimate", patchmask_session_estimate(session, &good_volume, NULL, &estimate));
    CHECK_INVALID("out_estimate", patchmask_session_estimate(session, &good_volume, NULL, NULL));
    CHECK_INVALID("session", patchmask_session_estimate(NULL, &good_volume, NULL, &estimate));
    CHECK_INVALID("session", patchmask_session_segment(NULL, &good_volume, NULL, &good_outputs, NULL));
    CHECK_UNTOUCHED(result);
    CHECK_UNTOUCHED(estimate);
    /* An estimate needs no voxels. */
    patchmask_volume extents = good_volume;
    extents.data = NULL;
    CHECK_OK(patchmask_estimate_init(&estimate, sizeof estimate));
    CHECK_OK(patchmask_session_estimate(session, &extents, NULL, &estimate));
    CHECK(estimate.patches == estimate.grid_width * estimate.grid_height * DEPTH);
}

int main(void) {
    tiny_model spec = tiny_model_default();
    model = tiny_model_load(&spec);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    good_options = synthetic_options(model, PATCH, 8);
    good_volume = dense_volume(hu, WIDTH, HEIGHT, DEPTH);
    CHECK_OK(patchmask_outputs_init(&good_outputs, sizeof good_outputs));
    good_outputs.mask = mask;
    CHECK_OK(patchmask_session_new(model, &good_options, &session));
    RUN(initialisers);
    RUN(volume_descriptions);
    RUN(model_functions);
    RUN(options);
    RUN(session_functions);
    RUN(volumes);
    RUN(regions);
    RUN(crops);
    RUN(output_buffers);
    RUN(overlapping_buffers);
    RUN(result_and_estimate_structs);
    /* After all of that the session still works. */
    CHECK_OK(patchmask_session_segment(session, &good_volume, NULL, &good_outputs, NULL));
    patchmask_session_free(session);
    patchmask_model_free(model);
    free(hu);
    return 0;
}
