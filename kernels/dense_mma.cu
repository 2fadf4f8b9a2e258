// Dense layers on tensor cores (mma.sync, sm_80 and later); the first of them gathers side x side taps of the last
// feature map.
//
//     output[n][o] = f(bias[o] + sum over taps (y, x) and channels i of
//                      input[row_taps[r][y]][column_taps[c][x]][i] * weights[o][y][x][i])     r, c of pixels[n]
//
// f is ReLU and rounding to fp16 in dense_f16, nothing in dense_f32. Mirrors `convolve` of
// src/engine/cpu/table_conv.rs.
//
//     for step in taps x pieces of 64 channels:
//         wait for the step's rows; barrier; begin to load those of a later step
//         sums += points[64][64] * weights[64][64]
//
// Grid: x blocks of DENSE_POINTS points, y blocks of DENSE_OUTPUTS outputs. 4 warps, 2 x 2 of 32 points x 32 outputs.
// Points beyond the last, taps that are ZERO and channels beyond the last are zeros in shared memory.
//
// Every output is summed in one order (tap, piece, 16 channels): same bits wherever its point is.
//
// Weights are packed by the host:
//
//     [ceil(output_channels / 64)][side * side taps, y * side + x][ceil(input_channels / 64)][64 outputs][64] fp16,
//     where channel c of output n of a step is at element n * 64 + ((c / 8) ^ (n % 8)) * 8 + c % 8
//
// with zeros for outputs and channels that do not exist. Limits: rows x columns of the input, and the points, below
// 2^31.

#include "fragments.cuh"
#include "results.cuh"
#include "shared_bytes.h"

constexpr int DENSE_WARP = 32;  // points, and outputs, of a warp
constexpr int DENSE_POINTS_BYTES = DENSE_POINTS * DENSE_CHUNK * 2;

// Copies the rows of one step after another. A thread has one piece of every sixteenth point.
class DenseLoader {
public:
    __device__ DenseLoader(const DenseParams& p, uint32_t shared_at)
        : p(p),
          shared_at(shared_at),
          piece(threadIdx.x % 8),
          pieces((p.input_channels + DENSE_CHUNK - 1) / DENSE_CHUNK) {
        weights = reinterpret_cast<const uint8_t*>(p.weights) +
                  int64_t(blockIdx.y) * steps() * (DENSE_STAGE_BYTES - DENSE_POINTS_BYTES) + threadIdx.x * 16;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            const int64_t point = int64_t(blockIdx.x) * DENSE_POINTS + point_of(i);
            pixel[i] = point < p.points ? (p.pixels ? p.pixels[point] : int32_t(point)) : ZERO;
        }
    }

    __device__ int steps() const { return p.side * p.side * pieces; }

    // Begins to load the next step; nothing behind the last.
    __device__ void load() {
        if (tap == p.side * p.side) {
            return;
        }
        if (at_piece == 0) {
            find_sources();
        }
        const uint32_t to = shared_at + stage * DENSE_STAGE_BYTES;
        const int channel = at_piece * DENSE_CHUNK + piece * 8;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            const bool exists = source[i] != ZERO && channel < p.input_channels;
            const uint16_t* from = exists ? p.input + int64_t(source[i]) * p.input_channels + channel : p.input;
            copy_async(to + piece_byte<DENSE_CHUNK>(point_of(i), piece), from, exists ? 16 : 0);
        }
#pragma unroll
        for (int byte = 0; byte < DENSE_STAGE_BYTES - DENSE_POINTS_BYTES; byte += DENSE_THREADS * 16) {
            copy_async(to + DENSE_POINTS_BYTES + threadIdx.x * 16 + byte, weights + byte, 16);
        }
        weights += DENSE_STAGE_BYTES - DENSE_POINTS_BYTES;
        stage = stage + 1 < DENSE_STAGES ? stage + 1 : 0;
        if (++at_piece == pieces) {
            at_piece = 0;
            tap++;
        }
    }

private:
    static constexpr int OWN = DENSE_POINTS / (DENSE_THREADS / 8);
    const DenseParams& p;
    const uint32_t shared_at;
    const int piece;
    const int pieces;
    const uint8_t* weights;
    int32_t pixel[OWN];   // of the lattice image, or ZERO
    int32_t source[OWN];  // pixel of the input at this tap, or ZERO
    int tap = 0, at_piece = 0, stage = 0;

    __device__ static int point_of(int i) { return threadIdx.x / 8 + i * (DENSE_THREADS / 8); }

    __device__ void find_sources() {
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            source[i] = pixel[i];
            if (p.row_taps && pixel[i] != ZERO) {
                const int64_t row = pixel[i] / p.columns, column = pixel[i] % p.columns;
                const int32_t y = p.row_taps[row * p.side + tap / p.side];
                const int32_t x = p.column_taps[column * p.side + tap % p.side];
                source[i] = y == ZERO || x == ZERO ? ZERO : y * p.input_columns + x;
            }
        }
    }
};

// Stores the outputs of one point: 8 j + 2 quad and + 1, sums[j][0] and [1]. Returns whether one overflows.
__device__ inline bool store_point(float* to, const float2 (&sums)[4], const float2 (&bias)[4], uint32_t quad,
                                   int limit) {
    bool overflow = false;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        const int output = j * 8 + quad * 2;
        const float2 value{sums[j].x + bias[j].x, sums[j].y + bias[j].y};
        if (output < limit) {
            *reinterpret_cast<float2*>(to + output) = value;
            overflow |= !is_finite(value.x) || !is_finite(value.y);
        }
    }
    return overflow;
}

template <class Output>
__device__ inline void dense(const DenseParams& p) {
    if (cancelled(p.cancel)) {
        return;
    }

    SHARED_MEMORY(shared);
    const uint32_t shared_at = shared_address(shared);
    DenseLoader loader(p, shared_at);
    const int steps = loader.steps();
#pragma unroll
    for (int step = 0; step < DENSE_STAGES - 1; step++) {
        loader.load();
        commit_copies();
    }

    // ---- the products
    const uint32_t lane = threadIdx.x % 32;
    const int first_point = threadIdx.x / 32 % 2 * DENSE_WARP;
    const int first_output = threadIdx.x / 64 * DENSE_WARP;
    const uint32_t lane_points = shared_at + piece_byte<DENSE_CHUNK>(first_point + a_row(lane), a_piece(lane));
    const uint32_t lane_weights =
        shared_at + DENSE_POINTS_BYTES + piece_byte<DENSE_CHUNK>(first_output + b_row(lane), b_piece(lane));
    float sums[DENSE_WARP / 16][DENSE_WARP / 8][4];
    clear(sums);
    for (int step = 0; step < steps; step++) {
        wait_copies<DENSE_STAGES - 2>();
        barrier();
        loader.load();
        commit_copies();
        const uint32_t stage = step % DENSE_STAGES * DENSE_STAGE_BYTES;
        const uint32_t points[] = {lane_points + stage, lane_points + stage + 16 * DENSE_CHUNK * 2};
        multiply_chunk<DENSE_CHUNK, DENSE_WARP / 16, DENSE_WARP>(sums, points, lane_weights + stage);
    }

    // ---- bias, ReLU, store
    const uint32_t quad = lane % 4;
    const int block_output = blockIdx.y * DENSE_OUTPUTS + first_output;
    float2 bias[DENSE_WARP / 8];
#pragma unroll
    for (int j = 0; j < DENSE_WARP / 8; j++) {
        bias[j] = *reinterpret_cast<const float2*>(p.bias + block_output + j * 8 + quad * 2);
    }
    bool overflow = false;
#pragma unroll
    for (int i = 0; i < DENSE_WARP / 8; i++) {
        const int64_t point =
            int64_t(blockIdx.x) * DENSE_POINTS + first_point + i / 2 * 16 + i % 2 * 8 + lane / 4;
        Output* const to = static_cast<Output*>(p.output) + point * p.output_channels + block_output;
        const int limit = point < p.points ? p.output_channels - block_output : 0;
        if constexpr (sizeof(Output) == 2) {
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                words[j] = activate(sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1], bias[j]);
            }
            gather_outputs(words, lane);
            if (int(quad) * 8 < limit) {
                overflow |= store_halves(to + quad * 8, words);
            }
        } else {
            float2 point_sums[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                point_sums[j] = float2{sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]};
            }
            overflow |= store_point(to, point_sums, bias, quad, limit);
        }
    }
    report_overflow(p.overflow, p.layer, overflow);
}

extern "C" __global__ void __launch_bounds__(DENSE_THREADS, 4) dense_f16(const __grid_constant__ DenseParams p) {
    dense<uint16_t>(p);
}

extern "C" __global__ void __launch_bounds__(DENSE_THREADS, 4) dense_f32(const __grid_constant__ DenseParams p) {
    dense<float>(p);
}
