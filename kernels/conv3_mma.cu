// 3x3 table convolution with bias and ReLU on tensor cores (mma.sync, sm_80 and later).
//
//     output[r][c][o] = relu(bias[o] + sum over taps (y, x) and channels i of
//                            input[row_taps[r][y]][column_taps[c][x]][i] * weights[o][i][y][x])      no tap: 0
//
// mirrors `convolve` of src/engine/cpu/table_conv.rs. fp16 in and out, sums in f32.
//
// A block makes OUTPUTS outputs of a tile of 8 x 16 pixels. The taps of a tile meet in few input pixels (the halo, at
// most HALO_PIXELS): they are loaded once per CHUNK of channels, and all 9 taps read them where they lie: ldmatrix
// takes one address per pixel, so the gather costs nothing.
//
//     sums = 0
//     for chunk in chunks of CHUNK input channels:
//         for tap in 0..9:
//             wait for the weights of this step (and, at tap 0, for the halo); barrier
//             begin to load the weights of a later step, and a part of the next chunk's halo
//             sums += halo[pixels of the tap][CHUNK] * weights[OUTPUTS][CHUNK]
//     store relu(sums + bias) of the pixels that exist and are wanted
//
// Grid: x tiles (of `tiles`, or all pairs of blocks, columns fastest), y blocks of OUTPUTS outputs. 4 warps: with 128
// outputs 2 x 2 of 64 pixels x 64 outputs each, with 64 outputs 4 x 1 of 32 x 64. An m16 of mma is a row of the tile.
//
// Every output is summed in one order (chunk, tap, 16 channels) whatever tile it is in: same bits for any tiling.
//
// Weights are packed by the host, so that a step's are one run of memory in the order of shared memory:
//
//     [ceil(output_channels / OUTPUTS)][input_channels / CHUNK][9 taps, y * 3 + x][OUTPUTS][CHUNK] fp16, where
//     channel c of output n of a step is at element n * CHUNK + ((c / 8) ^ s) * 8 + c % 8, and
//     s = n % 8 (CHUNK 64), n / 2 % 4 (CHUNK 32), n / 4 % 2 (CHUNK 16)        integer divisions
//
// with zeros for outputs beyond output_channels. Limits: rows x columns of the input below 2^31.

#include "fragments.cuh"
#include "results.cuh"
#include "shared_bytes.h"

template <int CHUNK, int OUTPUTS>
__device__ inline void conv3(const ConvParams& p) {
    constexpr int STAGES = conv_stages(CHUNK, OUTPUTS);
    constexpr int PIECES = CHUNK / 8;
    constexpr int STAGE_BYTES = OUTPUTS * CHUNK * 2;
    constexpr int HALO_BYTES = conv_halo_bytes(CHUNK);
    constexpr int ZERO_PIXEL = HALO_PIXELS;  // behind each halo
    constexpr int WARP_OUTPUTS = 64;
    constexpr int WARP_ROWS = OUTPUTS / 32;
    constexpr int WARPS_DOWN = TILE_ROWS / WARP_ROWS;
    constexpr int HALO_STEPS = 8;  // taps that load a part of the next halo: the last may be too late to wait for

    if (cancelled(p.cancel)) {
        return;
    }

    // ---- the tile
    const int thread = threadIdx.x;
    const uint32_t lane = thread % 32;
    const int warp = thread / 32;
    const Tile* tile = p.tiles ? p.tiles + blockIdx.x : nullptr;
    const RowBlock& rows = p.row_blocks[tile ? tile->row_block : blockIdx.x / p.column_block_count];
    const ColumnBlock& columns = p.column_blocks[tile ? tile->column_block : blockIdx.x % p.column_block_count];
    const int halo_width = columns.inputs;
    const int halo_pixels = rows.inputs * halo_width;

    SHARED_MEMORY(shared);
    const uint32_t weights_at = shared_address(shared);
    const uint32_t halos_at = weights_at + STAGES * STAGE_BYTES;
    const SharedArray<int32_t> sources(shared, STAGES * STAGE_BYTES + 2 * HALO_BYTES);
    for (int i = thread; i < halo_pixels; i += CONV_THREADS) {
        sources[i] = rows.input[i / halo_width] * p.input_columns + columns.input[i % halo_width];
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
    // Pieces [first, end) of a chunk's halo.
    const auto load_halo = [&](int chunk, int first, int end) {
        const uint32_t to = halos_at + chunk % 2 * HALO_BYTES;
        const uint16_t* from = p.input + chunk * CHUNK;
        for (int i = first + thread; i < end; i += CONV_THREADS) {
            const int pixel = i / PIECES, piece = i % PIECES;
            copy_async(to + piece_byte<CHUNK>(pixel, piece),
                       from + int64_t(sources[pixel]) * p.input_channels + piece * 8, 16);
        }
    };
    const int halo_pieces = halo_pixels * PIECES;
    const int halo_part = (halo_pieces + HALO_STEPS * CONV_THREADS - 1) / (HALO_STEPS * CONV_THREADS) * CONV_THREADS;

    barrier();  // sources are there
    load_halo(0, 0, halo_pieces);
#pragma unroll
    for (int step = 0; step < STAGES - 1; step++) {
        load_weights(step);
        commit_copies();
    }

    // ---- the lane's pixels: one column of the warp's rows, whose taps are bytes of a word
    const int first_row = warp % WARPS_DOWN * WARP_ROWS;
    const int first_output = warp / WARPS_DOWN * WARP_OUTPUTS;
    const uint32_t nowhere = 0xffffffffu;
    uint32_t row_taps[WARP_ROWS];
#pragma unroll
    for (int i = 0; i < WARP_ROWS; i++) {
        const int row = first_row + i;
        row_taps[i] = row < rows.count ? *reinterpret_cast<const uint32_t*>(rows.tap[row]) : nowhere;
    }
    const int column = a_row(lane);
    const uint32_t column_taps =
        column < columns.count ? *reinterpret_cast<const uint32_t*>(columns.tap[column]) : nowhere;
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
                load_halo(chunk + 1, tap * halo_part, end < halo_pieces ? end : halo_pieces);
            }
            commit_copies();

            uint32_t pixels[WARP_ROWS];
            const uint32_t column_tap = column_taps >> (tap % 3 * 8) & 255;
#pragma unroll
            for (int i = 0; i < WARP_ROWS; i++) {
                const uint32_t row_tap = row_taps[i] >> (tap / 3 * 8) & 255;
                const bool zero = row_tap == BLOCK_ZERO || column_tap == BLOCK_ZERO;
                const uint32_t pixel = zero ? ZERO_PIXEL : row_tap * halo_width + column_tap;
                pixels[i] = halo + piece_byte<CHUNK>(pixel, a_piece(lane));
            }
            multiply_chunk<CHUNK, WARP_ROWS, WARP_OUTPUTS>(sums, pixels, lane_weights + step % STAGES * STAGE_BYTES);
        }
    }

    // ---- bias, ReLU, store
    const uint32_t quad = lane % 4;
    const int block_output = blockIdx.y * OUTPUTS + first_output;
    float2 bias[WARP_OUTPUTS / 8];
#pragma unroll
    for (int j = 0; j < WARP_OUTPUTS / 8; j++) {
        bias[j] = *reinterpret_cast<const float2*>(p.bias + block_output + j * 8 + quad * 2);
    }
    bool overflow = false;
#pragma unroll
    for (int i = 0; i < 2 * WARP_ROWS; i++) {
        const int row = first_row + i / 2, at = lane / 4 + i % 2 * 8;
        const int bit = row * TILE_COLUMNS + at;
        const bool exists = row < rows.count && at < columns.count;
        const bool wanted = exists && (!tile || (tile->wanted[bit / 32] >> bit % 32 & 1));
        uint16_t* const pixel =
            p.output + (int64_t(rows.first + row) * p.columns + columns.first + at) * p.output_channels;
#pragma unroll
        for (int group = 0; group < WARP_OUTPUTS; group += 32) {
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float(&pair)[4] = sums[i / 2][group / 8 + j];
                words[j] = activate(pair[i % 2 * 2], pair[i % 2 * 2 + 1], bias[group / 8 + j]);
            }
            gather_outputs(words, lane);
            const int output = block_output + group + quad * 8;
            if (wanted && output < p.output_channels) {
                overflow |= store_halves(pixel + output, words);
            }
        }
    }
    report_overflow(p.overflow, p.layer, overflow);
}

// Blocks that are to fit a multiprocessor: registers allow 2 with 128 outputs, 4 with 64; shared memory 2 with CHUNK
// 64.
#define CONV3(CHUNK, OUTPUTS)                                                                         \
    extern "C" __global__ void __launch_bounds__(CONV_THREADS, OUTPUTS == 128 || CHUNK == 64 ? 2 : 4) \
        conv3_##CHUNK##_##OUTPUTS(const __grid_constant__ ConvParams p) {                             \
        conv3<CHUNK, OUTPUTS>(p);                                                                     \
    }

CONV3(64, 128)
CONV3(64, 64)
CONV3(32, 128)
CONV3(32, 64)
CONV3(16, 128)
CONV3(16, 64)
