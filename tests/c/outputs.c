/* Output buffers of every layout: each element is written, and not a byte beside it. Awkward sizes. */
#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 41, HEIGHT = 35, DEPTH = 2, PATCH = 32, STRIDE = 9, VOXELS = WIDTH * HEIGHT * DEPTH };
enum { GUARD = 0xEE };

static patchmask_model* model;
static int16_t* hu;
static patchmask_volume plain;
static patchmask_options options;
static segmentation expected;

static patchmask_outputs no_outputs(void) {
    patchmask_outputs outputs;
    CHECK_OK(patchmask_outputs_init(&outputs, sizeof outputs));
    return outputs;
}

/* Without a result, which is optional. */
static void segment_into(const patchmask_outputs* outputs) {
    patchmask_session* session = NULL;
    CHECK_OK(patchmask_session_new(model, &options, &session));
    CHECK_OK(patchmask_session_segment(session, &plain, NULL, outputs, NULL));
    patchmask_session_free(session);
}

/* An array [3][2][1][0] of elements at strides (bytes) in guarded memory. */
typedef struct guarded {
    uint8_t *memory, *first;
    size_t bytes, element, shape[4], stride[4]; /* innermost first */
} guarded;

static guarded guard(size_t element, const size_t shape[4], const size_t stride[4]) {
    guarded array = {.element = element, .bytes = element + 3};
    for (int axis = 0; axis < 4; axis++) {
        array.shape[axis] = shape[axis];
        array.stride[axis] = stride[axis];
        array.bytes += (shape[axis] - 1) * stride[axis];
    }
    array.memory = malloc(array.bytes);
    CHECK(array.memory != NULL);
    memset(array.memory, GUARD, array.bytes);
    array.first = array.memory + 1; /* at an odd address */
    return array;
}

/* The elements are those of the dense `wanted`, all other bytes are still the guard. */
static void check_guarded(guarded* array, const void* wanted) {
    const uint8_t* next = wanted;
    size_t i[4];
    for (i[3] = 0; i[3] < array->shape[3]; i[3]++) {
        for (i[2] = 0; i[2] < array->shape[2]; i[2]++) {
            for (i[1] = 0; i[1] < array->shape[1]; i[1]++) {
                for (i[0] = 0; i[0] < array->shape[0]; i[0]++) {
                    uint8_t* element = array->first;
                    for (int axis = 0; axis < 4; axis++) element += i[axis] * array->stride[axis];
                    CHECK(memcmp(element, next, array->element) == 0);
                    memset(element, GUARD, array->element);
                    next += array->element;
                }
            }
        }
    }
    for (size_t byte = 0; byte < array->bytes; byte++) CHECK(array->memory[byte] == GUARD);
    free(array->memory);
}

static void each_buffer_alone(void) {
    patchmask_outputs outputs = no_outputs();
    uint8_t bytes[VOXELS];
    float floats[VOXELS];
    outputs.mask = bytes;
    segment_into(&outputs);
    CHECK(memcmp(bytes, expected.mask, sizeof bytes) == 0);
    outputs = no_outputs();
    outputs.coverage = bytes;
    segment_into(&outputs);
    CHECK(memcmp(bytes, expected.coverage, sizeof bytes) == 0);
    outputs = no_outputs();
    outputs.probability = floats;
    segment_into(&outputs);
    CHECK(memcmp(floats, expected.probability, sizeof floats) == 0);
    outputs = no_outputs();
    outputs.logits = floats;
    segment_into(&outputs);
    CHECK(memcmp(floats, expected.logits, expected.logits_length * sizeof *floats) == 0);
}

static void gaps_are_left_alone(void) {
    const size_t voxels[4] = {1, WIDTH, HEIGHT, DEPTH};
    const size_t points[4] = {2, (size_t)expected.estimate.grid_width, (size_t)expected.estimate.grid_height, DEPTH};
    /* padded; z fastest; rows fastest */
    const size_t mask_stride[4] = {1, 3, 3 * WIDTH + 5, (3 * WIDTH + 5) * HEIGHT + 1};
    const size_t coverage_stride[4] = {1, DEPTH * HEIGHT, DEPTH, 1};
    const size_t probability_stride[4] = {4, 5 * HEIGHT, 5, 5 * HEIGHT * WIDTH + 2};
    const size_t logits_stride[4] = {4 * points[1] * points[2] * DEPTH, 4, 4 * points[1], 4 * points[1] * points[2]};
    guarded mask = guard(1, voxels, mask_stride), coverage = guard(1, voxels, coverage_stride);
    guarded probability = guard(4, voxels, probability_stride);
    guarded logits = guard(4, points, logits_stride);
    patchmask_outputs outputs = no_outputs();
    outputs.mask = mask.first;
    outputs.mask_stride_x = mask_stride[1];
    outputs.mask_stride_y = mask_stride[2];
    outputs.mask_stride_z = mask_stride[3];
    outputs.coverage = coverage.first;
    outputs.coverage_stride_x = coverage_stride[1];
    outputs.coverage_stride_y = coverage_stride[2];
    outputs.coverage_stride_z = coverage_stride[3];
    outputs.probability = (float*)(void*)probability.first;
    outputs.probability_stride_x = probability_stride[1];
    outputs.probability_stride_y = probability_stride[2];
    outputs.probability_stride_z = probability_stride[3];
    outputs.logits = (float*)(void*)logits.first;
    outputs.logits_stride_class = logits_stride[0];
    outputs.logits_stride_x = logits_stride[1];
    outputs.logits_stride_y = logits_stride[2];
    outputs.logits_stride_z = logits_stride[3];
    segment_into(&outputs);
    check_guarded(&mask, expected.mask);
    check_guarded(&coverage, expected.coverage);
    check_guarded(&probability, expected.probability);
    check_guarded(&logits, expected.logits);
}

static void interleaved_in_one_array(void) {
    typedef struct pixel {
        float probability;
        uint8_t mask, coverage, rest[2];
    } pixel;
    static pixel pixels[VOXELS];
    memset(pixels, GUARD, sizeof pixels);
    patchmask_outputs outputs = no_outputs();
    outputs.mask = &pixels[0].mask;
    outputs.coverage = &pixels[0].coverage;
    outputs.probability = &pixels[0].probability;
    outputs.mask_stride_x = outputs.coverage_stride_x = outputs.probability_stride_x = sizeof(pixel);
    outputs.mask_stride_y = outputs.coverage_stride_y = outputs.probability_stride_y = sizeof(pixel) * WIDTH;
    outputs.mask_stride_z = outputs.coverage_stride_z = outputs.probability_stride_z = sizeof(pixel) * WIDTH * HEIGHT;
    segment_into(&outputs);
    for (size_t i = 0; i < VOXELS; i++) {
        CHECK(pixels[i].mask == expected.mask[i] && pixels[i].coverage == expected.coverage[i]);
        CHECK(pixels[i].probability == expected.probability[i]);
        CHECK(pixels[i].rest[0] == GUARD && pixels[i].rest[1] == GUARD);
    }
}

static void awkward_sizes(void) {
    static const uint64_t SIZES[] = {1, 2, 15, 16, 17, 31, 32, 33, 67};
    static const uint32_t PATCHES[] = {32, 33, 47, 63};
    const size_t count = sizeof SIZES / sizeof SIZES[0];
    const size_t step = getenv("PATCHMASK_SLOW") != NULL ? 16 : 1;
    for (size_t i = 0; i < count * count; i += step) {
        uint64_t width = SIZES[i % count], height = SIZES[i / count];
        uint32_t patch = PATCHES[i % 4];
        int16_t* data = synthetic_volume(width, height, 1);
        patchmask_volume volume = dense_volume(data, width, height, 1);
        patchmask_options with = synthetic_options(model, patch, 1 + (uint32_t)(i * 5 % patch));
        segmentation done = segment_all(model, &with, &volume, NULL);
        CHECK(done.estimate.grid_width == (width + with.stride - 1) / with.stride);
        CHECK(done.estimate.grid_height == (height + with.stride - 1) / with.stride);
        for (size_t voxel = 0; voxel < done.voxels; voxel++) {
            CHECK(done.coverage[voxel] == 1 && done.mask[voxel] < 2);
            CHECK(done.probability[voxel] > 0 && done.probability[voxel] < 1);
        }
        segmentation_free(&done);
        free(data);
    }
}

int main(void) {
    tiny_model spec = tiny_model_default();
    model = tiny_model_load(&spec);
    hu = synthetic_volume(WIDTH, HEIGHT, DEPTH);
    plain = dense_volume(hu, WIDTH, HEIGHT, DEPTH);
    options = synthetic_options(model, PATCH, STRIDE);
    expected = segment_all(model, &options, &plain, NULL);
    RUN(each_buffer_alone);
    RUN(gaps_are_left_alone);
    RUN(interleaved_in_one_array);
    RUN(awkward_sizes);
    segmentation_free(&expected);
    patchmask_model_free(model);
    free(hu);
    return 0;
}
