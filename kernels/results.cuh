// Values on their way out: activation, rounding to fp16, and what does not fit.

#pragma once
#include "ptx.cuh"

__device__ inline bool is_finite(float value) { return value - value == 0.0f; }

// Whether one of two fp16, neither of them negative, is infinite or NaN: an exponent of ones carries into the sign.
__device__ inline bool overflows(uint32_t halves) { return ((halves + 0x04000400u) & 0x80008000u) != 0; }

// Sets bit `layer` if a thread of the warp has seen an overflow. All 32 threads come.
__device__ inline void report_overflow(uint32_t* overflow, int layer, bool seen) {
    if (ballot(seen) != 0 && threadIdx.x % 32 == 0) {
        atomic_or(overflow, 1u << layer);
    }
}

// Bias and ReLU on two sums, to fp16; a NaN stays one, and nothing is negative.
__device__ inline uint32_t activate(float low, float high, float2 bias) {
    return pack_halves(max_or_nan(low + bias.x, 0.0f), max_or_nan(high + bias.y, 0.0f));
}

// COUNT sums that lie side by side, a multiple of 16 bytes or one of them.
template <int COUNT>
struct alignas(COUNT % 4 == 0 ? 16 : 4) Sums {
    float of[COUNT];
};

// Adds `splits` of them in order, `stride` floats from one to the next.
template <int COUNT>
__device__ inline Sums<COUNT> add_splits(const float* first, int64_t stride, int splits) {
    Sums<COUNT> sums = *reinterpret_cast<const Sums<COUNT>*>(first);
    for (int split = 1; split < splits; split++) {
        const Sums<COUNT> more = *reinterpret_cast<const Sums<COUNT>*>(first + split * stride);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            sums.of[i] += more.of[i];
        }
    }
    return sums;
}

// Stores eight activations; returns whether one of them overflows fp16.
__device__ inline bool store_halves(uint16_t* to, const uint32_t (&words)[4]) {
    *reinterpret_cast<uint4*>(to) = uint4{words[0], words[1], words[2], words[3]};
    return overflows(words[0]) || overflows(words[1]) || overflows(words[2]) || overflows(words[3]);
}
