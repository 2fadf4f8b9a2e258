// 3x3 gather convolution with bias and ReLU on tensor cores (mma.sync, sm_80 and later).
//
//     output[r][c][o] = relu(bias[o] + sum over taps (y, x) and channels i of
//                            input[row_taps[r][y]][column_taps[c][x]][i] * weights[o][i][y][x])      no tap: 0
//
// mirrors `GatherConv` of src/engine/cpu/gather_conv.rs. fp16 in and out, sums in f32.
//
// A block makes OUTPUTS outputs of a subtile of 8 x 16 pixels (conv3.cuh: subtile, halo, how weights are packed).
//
//     sums = 0
//     for chunk in chunks of CHUNK input channels:
//         for tap in 0..9:
//             wait for the weights of this step (and, at tap 0, for the halo); barrier
//             begin to load the weights of a later step, and a part of the next chunk's halo
//             sums += halo[pixels of the tap][CHUNK] * weights[OUTPUTS][CHUNK]
//     store relu(sums + bias) of the pixels that exist and are wanted
//
// Grid: x subtiles (of `subtiles`, or all pairs of sections, columns fastest), y blocks of OUTPUTS outputs. 4 warps: with 128
// outputs 2 x 2 of 64 pixels x 64 outputs each, with 64 outputs 4 x 1 of 32 x 64. An m16 of mma is a row of the subtile.
//
// Every output is summed in one order (chunk, tap, 16 channels) whatever subtile it is in: same bits for any tiling.

#include "conv3.cuh"

template <int CHUNK, int OUTPUTS>
__device__ inline void conv3(const ConvParams& p) {
    constexpr int STAGES = conv_stages(CHUNK, OUTPUTS);
    constexpr int PIECES = CHUNK / 8;
    constexpr int STAGE_BYTES = OUTPUTS * CHUNK * 2;
    constexpr int HALO_BYTES = conv_halo_bytes(CHUNK);
    constexpr int WARP_OUTPUTS = 64;
    constexpr int WARP_ROWS = OUTPUTS / 32;
    constexpr int WARPS_DOWN = SUBTILE_ROWS / WARP_ROWS;
    constexpr int HALO_STEPS = 8;  // taps that load a part of the next halo: the last may be too late to wait for

    if (cancelled(p.cancel)) {
        return;
    }

    // ---- the subtile
    const int thread = threadIdx.x;
    const uint32_t lane = thread % 32;
    const int warp = thread / 32;
    const ConvSubtile subtile(p, int(blockIdx.x));

    SHARED_MEMORY(shared);
    const uint32_t weights_at = shared_address(shared);
    const uint32_t halos_at = weights_at + STAGES * STAGE_BYTES;
    const SharedArray<int32_t> sources(shared, STAGES * STAGE_BYTES + 2 * HALO_BYTES);
    const int halo_width = subtile.columns.inputs;
    const int halo_pixels = subtile.rows.inputs * halo_width;
    for (int i = thread; i < halo_pixels; i += CONV_THREADS) {
        sources[i] = subtile.rows.input[i / halo_width] * p.input_columns + subtile.columns.input[i % halo_width];
    }
    if (thread < 2 * PIECES) {
        const int zero = STAGES * STAGE_BYTES + thread / PIECES * HALO_BYTES + ZERO_PIXEL * CHUNK * 2;
        SharedArray<uint4>(shared, zero)[thread % PIECES] = uint4{0, 0, 0, 0};
    }

    // ---- copies, begun here and waited for in the loop
    const int chunks = p.input_channels / CHUNK;
    const int steps = chunks * 9;
    const uint8_t* const packed =
        reinterpret_cast<const uint8_t*>(p.weights) + int64_t(blockIdx.y) * steps * STAGE_BYTES + thread * 16;
    const auto load_weights = [&](int step) {
        const uint8_t* from = packed + int64_t(step) * STAGE_BYTES;
        const uint32_t to = weights_at + step % STAGES * STAGE_BYTES + thread * 16;
#pragma unroll
        for (int byte = 0; byte < STAGE_BYTES; byte += CONV_THREADS * 16) {
            copy_async(to + byte, from + byte, 16);
        }
    };
    const auto load_halo = [&](int chunk, int first, int end) {
        copy_halo<CHUNK, CONV_THREADS>(halos_at + chunk % 2 * HALO_BYTES, sources, p, chunk, first, end, thread);
    };
    const int halo_part = (halo_pixels + HALO_STEPS - 1) / HALO_STEPS;

    barrier();  // sources are there
    load_halo(0, 0, halo_pixels);
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        load_weights(step);
        commit_copies();
    }

    const int first_row = warp % WARPS_DOWN * WARP_ROWS;
    const int first_output = warp / WARPS_DOWN * WARP_OUTPUTS;
    const LanePixels<CHUNK, WARP_ROWS, 1> lane_pixels(subtile, first_row, lane);
    const uint32_t lane_weights = weights_at + piece_byte<CHUNK>(first_output + b_row(lane), b_piece(lane));

    float sums[WARP_ROWS][WARP_OUTPUTS / 8][4];
    clear(sums);

    // ---- the products
    int step = 0;
    for (int chunk = 0; chunk < chunks; chunk++) {
        const uint32_t halo = halos_at + chunk % 2 * HALO_BYTES;
#pragma unroll 1
        for (int tap = 0; tap < 9; tap++, step++) {
            wait_copies<STAGES - 2>();
            barrier();
            if (step + STAGES - 1 < steps) {
                load_weights(step + STAGES - 1);
            }
            if (chunk + 1 < chunks && tap < HALO_STEPS) {
                const int end = (tap + 1) * halo_part;
                load_halo(chunk + 1, tap * halo_part, end < halo_pixels ? end : halo_pixels);
            }
            commit_copies();

            uint32_t pixels[WARP_ROWS];
            lane_pixels.find(pixels, halo, tap);
            multiply_chunk<CHUNK, WARP_ROWS, WARP_OUTPUTS>(sums, pixels, lane_weights + step % STAGES * STAGE_BYTES);
        }
    }

    // ---- bias, ReLU, store
    const int block_output = blockIdx.y * OUTPUTS + first_output;
    float2 bias[WARP_OUTPUTS / 8];
    load_bias(bias, p.bias + block_output, lane);
    bool overflow = false;
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) {
        overflow |= store_row(p, subtile, first_row + i, block_output, sums[i], bias, lane);
    }
    report_overflow(p.overflow, p.layer, overflow);
}

// Blocks that are to fit a multiprocessor: registers allow 2 with 128 outputs, 4 with 64.
#define CONV3(CHUNK, OUTPUTS)                                                        \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS, OUTPUTS == 128 ? 2 : 4) \
        conv3_##CHUNK##_##OUTPUTS(const __grid_constant__ ConvParams p) {            \
        conv3<CHUNK, OUTPUTS>(p);                                                    \
    }

CONV3(32, 128)
CONV3(32, 64)
CONV3(16, 128)
CONV3(16, 64)
