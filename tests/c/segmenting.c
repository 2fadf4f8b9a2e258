/* Inputs and outputs: voxel types, strides, rescaling, non-finite voxels, ROI, crop, fill,
 * output buffers of every kind. Results are compared bit by bit with those of a plain volume. */
#include <math.h>
#include <stdbool.h>

#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 45, HEIGHT = 38, DEPTH = 2, PATCH = 33, STRIDE = 9, VOXELS = WIDTH * HEIGHT * DEPTH };

static patchmask_model* model;
static int16_t* hu; /* [DEPTH][HEIGHT][WIDTH] */
static patchmask_volume plain;
static patchmask_options options;
static segmentation expected;

static void expect_same(const patchmask_volume* volume, const char* what) {
    segmentation done = segment_all(model, &options, volume, NULL);
    check_same(&expected, &done, what);
    segmentation_free(&done);
}

static void the_model_tells_patches_apart(void) {
    size_t lesion = 0;
    for (size_t i = 0; i < VOXELS; i++) {
        CHECK(expected.mask[i] < 2 && expected.coverage[i] == 1);
        lesion += expected.mask[i];
    }
    CHECK(lesion > VOXELS / 20 && lesion < VOXELS * 19 / 20);
    CHECK(expected.estimate.grid_width == (WIDTH + STRIDE - 1) / STRIDE);
    CHECK(expected.estimate.grid_height == (HEIGHT + STRIDE - 1) / STRIDE);
    CHECK(expected.estimate.classes == 2 && expected.result.nonfinite_voxels == 0);
    CHECK(expected.result.engine == PATCHMASK_DEVICE_CPU);
    CHECK(expected.result.segment_seconds >= expected.result.network_seconds);
    for (size_t i = 0; i < expected.logits_length; i++) CHECK(isfinite(expected.logits[i]));
}

#define EXPECT_TYPE(c_type, number) \
    do { \
        static c_type data[VOXELS]; \
        patchmask_volume volume; \
        for (size_t i = 0; i < VOXELS; i++) { \
            data[i] = (c_type)hu[i]; \
        } \
        CHECK_OK(patchmask_volume_init(&volume, sizeof volume, data, number, WIDTH, HEIGHT, DEPTH)); \
        expect_same(&volume, #number); \
    } while (0)

static void every_voxel_type_gives_the_same(void) {
    EXPECT_TYPE(int8_t, PATCHMASK_VOXEL_I8);
    EXPECT_TYPE(uint8_t, PATCHMASK_VOXEL_U8);
    EXPECT_TYPE(int16_t, PATCHMASK_VOXEL_I16);
    EXPECT_TYPE(uint16_t, PATCHMASK_VOXEL_U16);
    EXPECT_TYPE(int32_t, PATCHMASK_VOXEL_I32);
    EXPECT_TYPE(float, PATCHMASK_VOXEL_F32);
    EXPECT_TYPE(double, PATCHMASK_VOXEL_F64);
}

/* Copies the volume to memory with these strides (bytes), at an odd address. */
static void expect_same_with_strides(uint64_t x, uint64_t y, uint64_t z, const char* what) {
    size_t bytes = (size_t)((WIDTH - 1) * x + (HEIGHT - 1) * y + (DEPTH - 1) * z) + 3;
    uint8_t* memory = malloc(bytes);
    CHECK(memory != NULL);
    memset(memory, 0x5A, bytes);
    for (size_t i = 0; i < VOXELS; i++) {
        size_t at = i % WIDTH * x + i / WIDTH % HEIGHT * y + i / WIDTH / HEIGHT * z;
        memcpy(memory + 1 + at, &hu[i], sizeof hu[i]);
    }
    patchmask_volume volume = plain;
    volume.data = memory + 1;
    volume.stride_x = x;
    volume.stride_y = y;
    volume.stride_z = z;
    expect_same(&volume, what);
    free(memory);
}

static void strides_of_every_kind(void) {
    expect_same_with_strides(2, 2 * WIDTH + 10, 2 * WIDTH * HEIGHT + 900, "padded rows and slices");
    expect_same_with_strides(2 * DEPTH * HEIGHT, 2 * DEPTH, 2, "z fastest");
    expect_same_with_strides(2 * DEPTH, 2 * DEPTH * WIDTH, 2, "slices interleaved");
    expect_same_with_strides(7, 7 * WIDTH + 3, 7 * WIDTH * HEIGHT + 1, "odd strides");
    patchmask_volume volume = plain;
    volume.stride_x = volume.stride_y = volume.stride_z = 0;
    expect_same(&volume, "all strides 0 is dense");
}

static void rescaling(void) {
    static const struct {
        double slope, intercept;
    } CASES[] = {{1, -1024}, {0.25, -37}, {-1, 200}};
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        static int16_t stored[VOXELS];
        for (size_t j = 0; j < VOXELS; j++) stored[j] = (int16_t)((hu[j] - CASES[i].intercept) / CASES[i].slope);
        patchmask_volume volume = plain;
        volume.data = stored;
        volume.slope = CASES[i].slope;
        volume.intercept = CASES[i].intercept;
        expect_same(&volume, "rescaled");
    }
}

static void nonfinite_voxels_are_black_and_counted(void) {
    static const float BAD[] = {NAN, INFINITY, -INFINITY};
    static float with[VOXELS], without[VOXELS];
    for (size_t i = 0; i < VOXELS; i++) with[i] = without[i] = hu[i];
    for (size_t i = 0; i < 9; i++) {
        with[300 * i + 1000] = BAD[i % 3];
        without[300 * i + 1000] = (float)options.window_low;
    }
    patchmask_volume volume;
    CHECK_OK(patchmask_volume_init(&volume, sizeof volume, without, PATCHMASK_VOXEL_F32, WIDTH, HEIGHT, DEPTH));
    segmentation black = segment_all(model, &options, &volume, NULL);
    volume.data = with;
    segmentation bad = segment_all(model, &options, &volume, NULL);
    check_same(&black, &bad, "non-finite voxels");
    CHECK(black.result.nonfinite_voxels == 0 && bad.result.nonfinite_voxels == 9);
    segmentation_free(&black);
    segmentation_free(&bad);
}

/* A ROI never changes what is evaluated, only how much: the same logits or NAN, the same mask or 0. */
static void check_roi(const uint8_t* inside, int32_t interpolation, const segmentation* all, uint64_t patches) {
    patchmask_volume roi;
    CHECK_OK(patchmask_volume_init(&roi, sizeof roi, inside, PATCHMASK_VOXEL_U8, WIDTH, HEIGHT, DEPTH));
    patchmask_options with = options;
    with.interpolation = interpolation;
    segmentation some = segment_all(model, &with, &plain, &roi);
    CHECK(some.result.patches == patches);
    for (size_t i = 0; i < VOXELS; i++) {
        CHECK(some.coverage[i] == (inside[i] != 0));
        CHECK(some.mask[i] == (inside[i] ? all->mask[i] : 0));
        CHECK(some.probability[i] == (inside[i] ? all->probability[i] : 0));
    }
    uint64_t evaluated = 0;
    for (size_t i = 0; i < some.logits_length; i++) {
        CHECK(isnan(some.logits[i]) || some.logits[i] == all->logits[i]);
        evaluated += !isnan(some.logits[i]);
    }
    CHECK(evaluated == 2 * some.result.patches);
    segmentation_free(&some);
}

static void roi_restricts(void) {
    static uint8_t inside[VOXELS];
    patchmask_options with = options;
    with.interpolation = PATCHMASK_INTERPOLATION_LINEAR;
    segmentation linear = segment_all(model, &with, &plain, NULL);
    check_roi(inside, PATCHMASK_INTERPOLATION_NEAREST, &expected, 0);
    for (size_t i = 0; i < VOXELS; i++) { /* in the footprints of two patches, x 5..=13 and 14..=22 */
        size_t x = i % WIDTH, y = i / WIDTH % HEIGHT, z = i / WIDTH / HEIGHT;
        inside[i] = z == 1 && y == 20 && x > 9 && x < 16 ? 200 : 0;
    }
    check_roi(inside, PATCHMASK_INTERPOLATION_NEAREST, &expected, 2);
    check_roi(inside, PATCHMASK_INTERPOLATION_LINEAR, &linear, 4); /* two columns, and row 20 between two rows */
    memset(inside, 1, sizeof inside);
    check_roi(inside, PATCHMASK_INTERPOLATION_NEAREST, &expected, expected.result.patches);
    segmentation_free(&linear);
}

/* An oval with a hole, and a couch below: as the oval without its hole as a ROI, but for what is beside `body`. */
static void body_restricts(void) {
    static int16_t with_air[VOXELS];
    static uint8_t inside[VOXELS];
    size_t body = 0;
    for (size_t i = 0; i < VOXELS; i++) {
        int x = (int)(i % WIDTH) - 24, y = (int)(i / WIDTH % HEIGHT) - 16;
        inside[i] = 4 * x * x + 9 * y * y < 1500;
        bool tissue = (inside[i] && x * x + y * y > 20) || y == HEIGHT - 18;
        with_air[i] = tissue ? hu[i] : -950;
        body += inside[i];
    }
    patchmask_volume volume = plain, roi;
    volume.data = with_air;
    CHECK_OK(patchmask_volume_init(&roi, sizeof roi, inside, PATCHMASK_VOXEL_U8, WIDTH, HEIGHT, DEPTH));
    patchmask_options with = options;
    with.body = 1;
    segmentation by_roi = segment_all(model, &options, &volume, &roi),
                 by_body = segment_all(model, &with, &volume, NULL);
    check_same(&by_roi, &by_body, "a body and the same ROI");
    CHECK(by_body.result.patches == by_roi.result.patches && by_body.result.patches < by_body.estimate.patches);
    CHECK(by_body.result.macs < by_body.estimate.macs && by_body.result.peak_bytes <= by_body.estimate.peak_bytes);
    CHECK(by_roi.result.body_share == 1 && by_body.result.body_share == (double)body / VOXELS);
    segmentation_free(&by_roi);
    segmentation_free(&by_body);
}

static void count_warnings(int32_t level, const char* message, void* user_data) {
    if (level == PATCHMASK_LOG_WARNING) ++*(int*)user_data;
    CHECK(level != PATCHMASK_LOG_WARNING || strstr(message, "-500 HU") != NULL);
}

/* Voxels as scanners store them, with 1024 added but not said to be: all are in the body. With 1024 taken twice none is. */
static void a_body_of_nothing_is_a_warning(void) {
    int warnings = 0;
    patchmask_options with = options;
    with.body = 1;
    with.log = count_warnings;
    with.log_user_data = &warnings;
    patchmask_volume volume = plain;
    volume.intercept = 1024;
    segmentation all = segment_all(model, &with, &volume, NULL);
    CHECK(all.result.body_share == 1 && warnings == 0);
    volume.intercept = -1024;
    segmentation none = segment_all(model, &with, &volume, NULL);
    CHECK(none.result.body_share == 0 && none.result.patches == 0 && warnings == 1);
    for (size_t i = 0; i < VOXELS; i++) CHECK(none.mask[i] == 0 && none.coverage[i] == 0 && none.probability[i] == 0);
    segmentation_free(&all);
    segmentation_free(&none);
}

/* A crop is the volume cut to it: outside is black, the patch grid starts at its corner. */
static void crop_is_a_smaller_volume(void) {
    enum { X0 = 9, Y0 = 4, X1 = 41, Y1 = 33 };
    patchmask_options with = options;
    with.crop_x0 = X0;
    with.crop_y0 = Y0;
    with.crop_x1 = X1;
    with.crop_y1 = Y1;
    segmentation cropped = segment_all(model, &with, &plain, NULL);
    patchmask_volume cut = plain; /* same strides, other extents */
    cut.data = hu + Y0 * WIDTH + X0;
    cut.width = X1 - X0;
    cut.height = Y1 - Y0;
    segmentation small = segment_all(model, &options, &cut, NULL);
    CHECK(cropped.logits_length == small.logits_length);
    CHECK(memcmp(cropped.logits, small.logits, small.logits_length * sizeof(float)) == 0);
    for (size_t i = 0; i < VOXELS; i++) {
        size_t x = i % WIDTH, y = i / WIDTH % HEIGHT, z = i / WIDTH / HEIGHT;
        int inside = x >= X0 && x < X1 && y >= Y0 && y < Y1;
        size_t j = inside ? (z * (Y1 - Y0) + y - Y0) * (X1 - X0) + x - X0 : 0;
        CHECK(cropped.coverage[i] == inside);
        CHECK(cropped.mask[i] == (inside ? small.mask[j] : 0));
        CHECK(cropped.probability[i] == (inside ? small.probability[j] : 0));
    }
    segmentation_free(&cropped);
    segmentation_free(&small);
}

/* Probability of class 1 of a patch. */
static double lesion(const segmentation* s, size_t z, size_t row, size_t column) {
    const float* logit = s->logits + 2 * ((z * s->estimate.grid_height + row) * s->estimate.grid_width + column);
    return 1 / (1 + exp((double)logit[0] - (double)logit[1]));
}

/* Nearest centre (ties to the lower index), or the two around `at` and the weight of the second. */
static double around(size_t at, size_t count, int linear, size_t point[2]) {
    double place = (double)at / STRIDE;
    double last = (double)(count - 1);
    place = place > last ? last : place;
    point[0] = (size_t)(linear ? floor(place) : ceil(place - 0.5));
    point[1] = point[0] + 1 < count && linear ? point[0] + 1 : point[0];
    return linear ? place - (double)point[0] : 0;
}

static void interpolation_follows_its_definition(void) {
    for (int linear = 0; linear < 2; linear++) {
        patchmask_options with = options;
        with.interpolation = linear ? PATCHMASK_INTERPOLATION_LINEAR : PATCHMASK_INTERPOLATION_NEAREST;
        segmentation s = segment_all(model, &with, &plain, NULL);
        size_t last_wrong = 0;
        for (size_t i = 0; i < VOXELS; i++) {
            size_t row[2], column[2], z = i / WIDTH / HEIGHT;
            double v = around(i / WIDTH % HEIGHT, s.estimate.grid_height, linear, row);
            double u = around(i % WIDTH, s.estimate.grid_width, linear, column);
            double p = (1 - v) * ((1 - u) * lesion(&s, z, row[0], column[0]) + u * lesion(&s, z, row[0], column[1])) +
                       v * ((1 - u) * lesion(&s, z, row[1], column[0]) + u * lesion(&s, z, row[1], column[1]));
            CHECK(fabs(p - s.probability[i]) < 1e-6);
            CHECK(s.mask[i] == (p > 0.5) || fabs(p - 0.5) < 1e-6);
            last_wrong += s.mask[i] != (p > 0.5);
        }
        CHECK(last_wrong < 3);
        segmentation_free(&s);
    }
}

int main(void) {
    tiny_model spec = tiny_model_default();
    model = tiny_model_load(&spec);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    plain = dense_volume(hu, WIDTH, HEIGHT, DEPTH);
    options = synthetic_options(model, PATCH, STRIDE);
    expected = segment_all(model, &options, &plain, NULL);
    RUN(the_model_tells_patches_apart);
    RUN(every_voxel_type_gives_the_same);
    RUN(strides_of_every_kind);
    RUN(rescaling);
    RUN(nonfinite_voxels_are_black_and_counted);
    RUN(roi_restricts);
    RUN(body_restricts);
    RUN(a_body_of_nothing_is_a_warning);
    RUN(crop_is_a_smaller_volume);
    RUN(interpolation_follows_its_definition);
    segmentation_free(&expected);
    patchmask_model_free(model);
    free(hu);
    return 0;
}
