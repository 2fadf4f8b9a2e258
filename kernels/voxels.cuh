// The caller's voxels as intensities from 0 (black) to 1, with the bits of src/intensity.rs: in double, nothing fused.

#pragma once
#include "ptx.cuh"
#include "params.h"

// In HU.
__device__ inline double read_voxel(const Voxels& voxels, int x, int y) {
    const uint8_t* at = voxels.data + x * voxels.stride_x + y * voxels.stride_y;
    double voxel = 0.0;
    switch (voxels.voxel_type) {
        case I8: voxel = *reinterpret_cast<const int8_t*>(at); break;
        case U8: voxel = *at; break;
        case I16: voxel = *reinterpret_cast<const int16_t*>(at); break;
        case U16: voxel = *reinterpret_cast<const uint16_t*>(at); break;
        case I32: voxel = *reinterpret_cast<const int32_t*>(at); break;
        case F32: voxel = *reinterpret_cast<const float*>(at); break;
        case F64: voxel = *reinterpret_cast<const double*>(at); break;
    }
    return voxels.slope * voxel + voxels.intercept;
}

__device__ inline bool is_finite(double value) { return value - value == 0.0; }

// 0..1 of a finite HU.
__device__ inline double window(const Voxels& voxels, double hu) {
    const double x = (hu - voxels.low) / (voxels.high - voxels.low);
    return x < 0.0 ? 0.0 : x > 1.0 ? 1.0 : x;
}

// 0..LEVELS - 1 of a finite HU.
__device__ inline int level_of(const Voxels& voxels, double hu) {
    return static_cast<int>(floor(255.0 * window(voxels, hu) + 0.5));
}

// What the network sees, through the table of equalize if there is one.
__device__ inline float intensity(const Voxels& voxels, const float* table, int x, int y) {
    const double hu = read_voxel(voxels, x, y);
    if (!is_finite(hu)) {
        return 0.0f;
    }
    return table ? table[level_of(voxels, hu)] : static_cast<float>(window(voxels, hu));
}
