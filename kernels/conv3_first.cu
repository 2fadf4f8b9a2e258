// The first convolution, straight from the caller's voxels: window, equalisation, crop, 3x3 taps, bias, ReLU.
//
//     pixel(v, u)     = starts[v / band_rows] + (row_sources[v], column_sources[u])    in the crop
//     x(v, u)         = intensity of that voxel of the slice, 0 (black) outside the crop
//     output[r][c][o] = relu(bias[o] + sum over taps that are not ZERO of
//                                      x * weights[tap][0][o] + weights[tap][1][o])
//
// where v, u are the tap's input values. The second weight is that of a channel of ones inside the patch: a ZERO tap
// lies outside and adds nothing at all. f32, taps in order, the intensity before the one. Mirrors the first step of
// src/engine/cpu, whose input is src/intensity.rs.
//
// One subtile of 8 x 16 pixels a block:
//
//     number the subtile's distinct input rows and columns
//     shared memory: the intensity of each pair, once (double arithmetic is slow)
//     8 threads share a column of the subtile, 8 outputs each at a time for its 8 pixels: each weight serves 8 pixels

#include "results.cuh"
#include "shared_bytes.h"
#include "subtiles.cuh"
#include "voxels.cuh"

constexpr int FIRST_TAPS = FIRST_ROW_TAPS + FIRST_COLUMN_TAPS;

// The taps of a subtile's rows and columns, and their distinct values.
struct SubtileTaps {
    SharedArray<int32_t> value;     // [FIRST_TAPS], rows' taps first, or ZERO
    SharedArray<int32_t> local;     // [FIRST_TAPS], index among the distinct values of the axis, or ZERO
    SharedArray<int32_t> distinct;  // [FIRST_TAPS], rows' first
    SharedArray<uint32_t> count;    // of distinct rows, columns

    __device__ SubtileTaps(uint8_t* shared, int byte)
        : value(shared, byte),
          local(shared, byte + FIRST_TAPS * 4),
          distinct(shared, byte + 2 * FIRST_TAPS * 4),
          count(shared, byte + 3 * FIRST_TAPS * 4) {}

    __device__ void find(const FirstParams& p, const SubtilePlace& place) {
        const int tap = threadIdx.x;
        const int axis = tap < FIRST_ROW_TAPS ? 0 : 1;
        if (tap < FIRST_TAPS) {
            const int from_axis = axis == 0 ? tap : tap - FIRST_ROW_TAPS;
            const int64_t first = (axis == 0 ? place.first_row : place.first_column) * int64_t(3);
            const int64_t end = (axis == 0 ? p.rows : p.columns) * int64_t(3);
            const int32_t* taps = axis == 0 ? p.row_taps : p.column_taps;
            value[tap] = first + from_axis < end ? taps[first + from_axis] : ZERO;
        }
        if (tap < 2) {
            count[tap] = 0;
        }
        barrier();

        // Where an equal tap comes first.
        const int begin = axis == 0 ? 0 : FIRST_ROW_TAPS;
        const int32_t own = tap < FIRST_TAPS ? value[tap] : ZERO;
        int first = tap;
#pragma unroll 8
        for (int other = tap - 1; other >= begin && own != ZERO; other--) {
            first = value[other] == own ? other : first;
        }
        if (tap < FIRST_TAPS) {
            local[tap] = own == ZERO ? ZERO : first;
        }
        barrier();

        // Firsts are numbered in their order.
        int32_t index = 0;
#pragma unroll 8
        for (int other = begin; other < first && own != ZERO; other++) {
            index += local[other] == other;
        }
        barrier();
        if (own != ZERO) {
            local[tap] = index;
            if (first == tap) {
                distinct[begin + index] = own;
                atomic_add(&count[axis], 1u);
            }
        }
        barrier();
    }
};

// Intensity of input value (v, u).
__device__ inline float input_intensity(const FirstParams& p, int32_t v, int32_t u) {
    const int32_t row_source = p.row_sources[v], column_source = p.column_sources[u];
    if (row_source == BLACK || column_source == BLACK) {
        return 0.0f;
    }
    const Start start = p.starts[v / p.band_rows];
    const int64_t row = int64_t(start.row) + row_source, column = int64_t(start.column) + column_source;
    if (row < 0 || row >= p.crop_height || column < 0 || column >= p.crop_width) {
        return 0.0f;
    }
    return intensity(p.voxels, p.table, p.crop_x + int(column), p.crop_y + int(row));
}

// Eight values of an array, 32 bytes at a time.
__device__ inline void read_eight(float (&to)[8], const float* from) {
    const float4 low = reinterpret_cast<const float4*>(from)[0], high = reinterpret_cast<const float4*>(from)[1];
    to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
    to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

extern "C" __global__ void __launch_bounds__(FIRST_THREADS, 3) conv3_first(const __grid_constant__ FirstParams p) {
    if (cancelled(p.cancel)) {
        return;
    }

    // ---- the subtile's distinct inputs
    SHARED_MEMORY(shared);
    const SharedArray<float> intensities(shared, 0);  // [distinct rows][distinct columns]
    const SubtilePlace place(p.subtiles, p.rows, p.columns);
    SubtileTaps taps(shared, FIRST_PIXELS * 4);
    taps.find(p, place);
    const int width = taps.count[1], inputs = taps.count[0] * width;
    for (int i = threadIdx.x; i < inputs; i += FIRST_THREADS) {
        intensities[i] = input_intensity(p, taps.distinct[i / width], taps.distinct[FIRST_ROW_TAPS + i % width]);
    }
    barrier();

    // ---- 8 pixels of a column x 8 outputs
    const int column = threadIdx.x / 8;
    bool overflow = false;
    for (int output = threadIdx.x % 8 * 8; output < p.channels; output += 64) {
        float sums[SUBTILE_ROWS][8] = {};
#pragma unroll 1
        for (int tap = 0; tap < 9; tap++) {
            float of_intensity[8], of_one[8];
            read_eight(of_intensity, p.weights + (tap * 2 + 0) * p.channels + output);
            read_eight(of_one, p.weights + (tap * 2 + 1) * p.channels + output);
            const int32_t x = taps.local[FIRST_ROW_TAPS + column * 3 + tap % 3];
#pragma unroll
            for (int row = 0; row < SUBTILE_ROWS; row++) {
                const int32_t y = taps.local[row * 3 + tap / 3];
                const bool inside = x != ZERO && y != ZERO;
                const float value = inside ? intensities[y * width + x] : 0.0f;
                const float one = inside ? 1.0f : 0.0f;
#pragma unroll
                for (int i = 0; i < 8; i++) {
                    sums[row][i] = fused_multiply_add(value, of_intensity[i], sums[row][i]);
                    sums[row][i] = fused_multiply_add(one, of_one[i], sums[row][i]);
                }
            }
        }
        float bias[8];
        read_eight(bias, p.bias + output);
#pragma unroll
        for (int row = 0; row < SUBTILE_ROWS; row++) {
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                words[i] = activate(sums[row][2 * i], sums[row][2 * i + 1], float2{bias[2 * i], bias[2 * i + 1]});
            }
            if (place.wants(row, column)) {
                overflow |= store_halves(p.output + place.pixel(row, column) * p.channels + output, words);
            }
        }
    }
    report_overflow(p.overflow, p.layer, overflow);
}
