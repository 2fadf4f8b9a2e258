#include "overlap.h"

#include <math.h>
#include <stdbool.h>

#include "patchmask.h"

static bool above_zero(const void* voxels, int32_t voxel_type, uint64_t i) {
    switch (voxel_type) {
        case PATCHMASK_VOXEL_I8: return ((const int8_t*)voxels)[i] > 0;
        case PATCHMASK_VOXEL_U8: return ((const uint8_t*)voxels)[i] > 0;
        case PATCHMASK_VOXEL_I16: return ((const int16_t*)voxels)[i] > 0;
        case PATCHMASK_VOXEL_U16: return ((const uint16_t*)voxels)[i] > 0;
        case PATCHMASK_VOXEL_I32: return ((const int32_t*)voxels)[i] > 0;
        case PATCHMASK_VOXEL_F32: return ((const float*)voxels)[i] > 0;
        case PATCHMASK_VOXEL_F64: return ((const double*)voxels)[i] > 0;
    }
    return false; /* no such type: nrrd_read refuses it */
}

overlap overlap_count(const uint8_t* mask, uint8_t lesion_class, const void* truth, int32_t voxel_type,
                      uint64_t count) {
    overlap counts = {0, 0, 0};
    for (uint64_t i = 0; i < count; i++) {
        bool predicted = mask[i] == lesion_class;
        bool lesion = above_zero(truth, voxel_type, i);
        counts.predicted += predicted;
        counts.truth += lesion;
        counts.both += predicted && lesion;
    }
    return counts;
}

static double share(uint64_t part, uint64_t whole) { return whole != 0 ? (double)part / (double)whole : NAN; }

double overlap_dice(const overlap* counts) {
    uint64_t sum = counts->predicted + counts->truth;
    return sum != 0 ? 2.0 * (double)counts->both / (double)sum : 1.0;
}

double overlap_sensitivity(const overlap* counts) { return share(counts->both, counts->truth); }

double overlap_precision(const overlap* counts) { return share(counts->both, counts->predicted); }
