#include "segmentation.h"

#include "check.h"

int16_t synthetic_hu(uint64_t x, uint64_t y, uint64_t z) {
    uint32_t noise = (uint32_t)(x * 73856093u ^ y * 19349663u ^ z * 83492791u) * 2654435761u >> 27;
    uint64_t dx = x > 30 ? x - 30 : 30 - x, dy = y > 24 + 9 * z ? y - 24 - 9 * z : 24 + 9 * z - y;
    uint64_t bright = dx * dx + dy * dy < 90 ? 70 : 0;
    return (int16_t)((x * 2 / 3 + y / 2 + 5 * z) % 26 + bright + noise);
}

int16_t* synthetic_volume(uint64_t width, uint64_t height, uint64_t depth) {
    int16_t* data = malloc((size_t)(width * height * depth) * sizeof *data);
    CHECK(data != NULL);
    for (uint64_t i = 0; i < width * height * depth; i++)
        data[i] = synthetic_hu(i % width, i / width % height, i / width / height);
    return data;
}

patchmask_volume dense_volume(const int16_t* data, uint64_t width, uint64_t height, uint64_t depth) {
    patchmask_volume volume;
    CHECK_OK(patchmask_volume_init(&volume, sizeof volume, data, PATCHMASK_VOXEL_I16, width, height, depth));
    return volume;
}

patchmask_options synthetic_options(const patchmask_model* model, uint32_t patch_size, uint32_t stride) {
    patchmask_options options;
    CHECK_OK(patchmask_options_init(&options, sizeof options, model));
    options.patch_size = patch_size;
    options.stride = stride;
    options.window_low = 0;
    options.window_high = 127;
    options.device = PATCHMASK_DEVICE_CPU;
    /* valgrind runs one thread at a time, and idle workers cost time */
    options.threads = getenv("PATCHMASK_SLOW") != NULL ? 1 : 0;
    return options;
}

static void* allocate(size_t count, size_t bytes) {
    void* buffer = calloc(count, bytes);
    CHECK(buffer != NULL);
    return buffer;
}

segmentation segment_all(const patchmask_model* model, const patchmask_options* options, const patchmask_volume* volume,
                         const patchmask_volume* roi) {
    segmentation done = {.size = {volume->width, volume->height, volume->depth}};
    patchmask_session* session = NULL;
    patchmask_outputs outputs;
    CHECK_OK(patchmask_session_new(model, options, &session));
    CHECK_OK(patchmask_estimate_init(&done.estimate, sizeof done.estimate));
    CHECK_OK(patchmask_session_estimate(session, volume, roi, &done.estimate));
    done.voxels = (size_t)(volume->width * volume->height * volume->depth);
    done.logits_length =
        (size_t)(done.estimate.grid_width * done.estimate.grid_height * done.estimate.classes * volume->depth);
    CHECK_OK(patchmask_outputs_init(&outputs, sizeof outputs));
    outputs.mask = done.mask = allocate(done.voxels, sizeof *done.mask);
    outputs.coverage = done.coverage = allocate(done.voxels, sizeof *done.coverage);
    outputs.probability = done.probability = allocate(done.voxels, sizeof *done.probability);
    outputs.logits = done.logits = allocate(done.logits_length, sizeof *done.logits);
    CHECK_OK(patchmask_result_init(&done.result, sizeof done.result));
    CHECK_OK(patchmask_session_segment(session, volume, roi, &outputs, &done.result));
    uint64_t slices = 0;
    CHECK_OK(patchmask_session_slices_done(session, &slices));
    CHECK(slices == volume->depth);
    patchmask_session_free(session);
    return done;
}

/* The first of `count` elements of `bytes` bytes that differs, or `count`. */
static size_t first_difference(const void* a, const void* b, size_t count, size_t bytes) {
    const uint8_t *left = a, *right = b;
    for (size_t i = 0; i < count; i++)
        if (memcmp(left + i * bytes, right + i * bytes, bytes) != 0) return i;
    return count;
}

static void check_same_voxels(const segmentation* done, const void* a, const void* b, size_t bytes, const char* name,
                              const char* what) {
    size_t i = first_difference(a, b, done->voxels, bytes);
    if (i < done->voxels) {
        size_t width = (size_t)done->size[0], height = (size_t)done->size[1];
        printf("FAILED %s: %s differs at (slice, row, column) (%zu, %zu, %zu): ", what, name, i / width / height,
               i / width % height, i % width);
        if (bytes == 1) printf("%d and %d\n", ((const uint8_t*)a)[i], ((const uint8_t*)b)[i]);
        else printf("%.9g and %.9g\n", ((const float*)a)[i], ((const float*)b)[i]);
        exit(1);
    }
}

void check_same(const segmentation* a, const segmentation* b, const char* what) {
    CHECK(a->voxels == b->voxels && a->logits_length == b->logits_length);
    size_t i = first_difference(a->logits, b->logits, a->logits_length, sizeof *a->logits);
    if (i < a->logits_length) {
        size_t classes = (size_t)a->estimate.classes, width = (size_t)a->estimate.grid_width;
        size_t height = (size_t)a->estimate.grid_height, point = i / classes;
        printf(
            "FAILED %s: logits differ at (slice, patch row, patch column, class) (%zu, %zu, %zu, %zu): "
            "%.9g and %.9g\n",
            what, point / width / height, point / width % height, point % width, i % classes, a->logits[i],
            b->logits[i]);
        exit(1);
    }
    check_same_voxels(a, a->mask, b->mask, 1, "mask", what);
    check_same_voxels(a, a->coverage, b->coverage, 1, "coverage", what);
    check_same_voxels(a, a->probability, b->probability, sizeof *a->probability, "probability", what);
}

void segmentation_free(segmentation* done) {
    free(done->mask);
    free(done->coverage);
    free(done->probability);
    free(done->logits);
}
