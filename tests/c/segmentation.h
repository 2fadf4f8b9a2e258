/* A synthetic CT volume, and one segmentation of it with every output, for tests to compare. */
#ifndef SEGMENTATION_H
#define SEGMENTATION_H

#include <stddef.h>
#include <stdint.h>

#include "patchmask.h"

typedef struct segmentation {
    patchmask_estimate estimate;
    patchmask_result result;
    uint64_t size[3];             /* x, y, z */
    uint8_t *mask, *coverage;     /* [z][y][x] */
    float* probability;           /* [z][y][x] */
    float* logits;                /* [z][patch y][patch x][class] */
    size_t voxels, logits_length; /* elements */
} segmentation;

/* HU from 0 to 127 (that every voxel type holds), with structure at many scales. */
int16_t synthetic_hu(uint64_t x, uint64_t y, uint64_t z);

/* A dense int16 volume of synthetic_hu, x fastest, to be freed. */
int16_t* synthetic_volume(uint64_t width, uint64_t height, uint64_t depth);

/* A dense int16 volume struct over `data`. */
patchmask_volume dense_volume(const int16_t* data, uint64_t width, uint64_t height, uint64_t depth);

/* Options of the model on the CPU, with a window that suits synthetic_hu. */
patchmask_options synthetic_options(const patchmask_model* model, uint32_t patch_size, uint32_t stride);

/* Makes a session, estimates, segments with every output; the test fails where one of them does. */
segmentation segment_all(const patchmask_model* model, const patchmask_options* options, const patchmask_volume* volume,
                         const patchmask_volume* roi);

/* The same outputs bit by bit; else prints `what` and the first place that differs, and ends. */
void check_same(const segmentation* a, const segmentation* b, const char* what);

void segmentation_free(segmentation* done);

#endif
