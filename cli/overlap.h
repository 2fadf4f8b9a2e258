/* How well a mask agrees with a radiologist's: voxel counts and the measures made of them. */
#ifndef SEGMENT_OVERLAP_H
#define SEGMENT_OVERLAP_H

#include <stdint.h>

typedef struct overlap {
    uint64_t predicted; /* voxels of the lesion class in the mask */
    uint64_t truth;     /* voxels above 0 in the truth */
    uint64_t both;
} overlap;

/* Counts over `count` voxels; `truth` is of `voxel_type`, one of PATCHMASK_VOXEL_*. */
overlap overlap_count(const uint8_t* mask, uint8_t lesion_class, const void* truth, int32_t voxel_type, uint64_t count);

/* 2 both / (predicted + truth); 1 where both are empty. */
double overlap_dice(const overlap* counts);

/* both / truth: the share of lesion that was found; NAN without lesion. */
double overlap_sensitivity(const overlap* counts);

/* both / predicted: the share of the mask that is lesion; NAN where the mask is empty. */
double overlap_precision(const overlap* counts);

#endif
