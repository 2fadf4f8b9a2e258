// From logits to voxels: softmax into the slice's patch grid, and that onto the voxels. Mirrors src/mask.rs.

#include "params.h"
#include "results.cuh"

// Logits of a tile's patches, from the sums that gemm made, and their softmax, to their places in the patch grid.
// f32. One patch a thread.
extern "C" __global__ void __launch_bounds__(SCORES_THREADS) scores(const __grid_constant__ ScoresParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    const int64_t patch = int64_t(blockIdx.x) * SCORES_THREADS + threadIdx.x;
    bool overflow = false;
    if (patch < p.patches) {
        const int64_t stride = int64_t(p.patches) * p.padded_classes;
        const int64_t place = int64_t(p.grid_indices[patch]) * p.classes;
        float* const logits = p.logits + place;
        float largest = 0.0f;
        for (int i = 0; i < p.classes; i++) {
            const float logit = add_splits<1>(p.sums + patch * p.padded_classes + i, stride, p.splits).of[0] + p.bias[i];
            logits[i] = logit;
            overflow |= !is_finite(logit);
            largest = i == 0 || logit > largest ? logit : largest;
        }
        float sum = 0.0f;
        for (int i = 0; i < p.classes; i++) {
            sum += expf(logits[i] - largest);
        }
        for (int i = 0; i < p.classes; i++) {
            p.probabilities[place + i] = expf(logits[i] - largest) / sum;
        }
    }
    report_overflow(p.overflow, p.layer, overflow);
}

struct Decision {
    int chosen;    // class
    float lesion;  // probability
};

// The class of the largest value, the lowest of equals. With a threshold the lesion class stands apart: it is chosen from
// its threshold on, else the best of the others.
class Choice {
public:
    __device__ Choice(const WriteMaskParams& p) : p(p), best(p.threshold > 0.0f && p.lesion_class == 0) {}

    __device__ void add(int i, float value) {
        const bool apart = p.threshold > 0.0f && i == p.lesion_class;
        if (!apart && (i == best || value > most)) {
            most = value;
            best = i;
        }
    }

    __device__ Decision decide(float lesion) const {
        return {p.threshold > 0.0f && lesion >= p.threshold ? p.lesion_class : best, lesion};
    }

private:
    const WriteMaskParams& p;
    int best;
    float most = 0.0f;
};

// By the logits of the nearest centre.
__device__ inline Decision decide_nearest(const WriteMaskParams& p, AxisSample row, AxisSample column) {
    const int64_t patch = (int64_t(row.low) * p.grid_columns + column.low) * p.classes;
    Choice choice(p);
    for (int i = 0; i < p.classes; i++) {
        choice.add(i, p.logits[patch + i]);
    }
    return choice.decide(p.probabilities[patch + p.lesion_class]);
}

// By the probabilities between four centres.
__device__ inline Decision decide_linear(const WriteMaskParams& p, AxisSample row, AxisSample column) {
    const int64_t low = int64_t(row.low) * p.grid_columns, high = int64_t(row.high) * p.grid_columns;
    const float* top_left = p.probabilities + (low + column.low) * p.classes;
    const float* top_right = p.probabilities + (low + column.high) * p.classes;
    const float* bottom_left = p.probabilities + (high + column.low) * p.classes;
    const float* bottom_right = p.probabilities + (high + column.high) * p.classes;
    const float right = column.weight, down = row.weight;
    Choice choice(p);
    float lesion = 0.0f;
    for (int i = 0; i < p.classes; i++) {
        const float top = top_left[i] * (1.0f - right) + top_right[i] * right;
        const float bottom = bottom_left[i] * (1.0f - right) + bottom_right[i] * right;
        const float mixed = top * (1.0f - down) + bottom * down;
        choice.add(i, mixed);
        if (i == p.lesion_class) {
            lesion = mixed;
        }
    }
    return choice.decide(lesion);
}

template <class T>
__device__ inline void store_voxel(const Plane& plane, int x, int y, T value) {
    if (plane.data) {
        uint8_t* at = static_cast<uint8_t*>(plane.data) + x * plane.stride_x + y * plane.stride_y;
        *reinterpret_cast<T*>(at) = value;
    }
}

// Every voxel of a slice, once: 0 outside the crop and the ROI.
extern "C" __global__ void __launch_bounds__(WRITE_MASK_THREADS) write_mask(const __grid_constant__ WriteMaskParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    const int across = (p.width + WRITE_MASK_THREADS - 1) / WRITE_MASK_THREADS;
    const int y = blockIdx.x / across;
    const int x = blockIdx.x % across * WRITE_MASK_THREADS + threadIdx.x;
    if (x >= p.width) {
        return;
    }
    const AxisSample row = p.rows[y], column = p.columns[x];
    const bool covered =
        row.low >= 0 && column.low >= 0 && (!p.roi || p.roi[int64_t(y) * p.width + x] != 0);
    Decision decision{0, 0.0f};
    if (covered) {
        decision = p.linear ? decide_linear(p, row, column) : decide_nearest(p, row, column);
    }
    store_voxel(p.mask, x, y, static_cast<uint8_t>(decision.chosen));
    store_voxel(p.probability, x, y, decision.lesion);
    store_voxel(p.coverage, x, y, static_cast<uint8_t>(covered));
}
