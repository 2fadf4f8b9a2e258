// Dense layers on tensor cores (mma.sync, sm_80 and later); the first of them gathers side x side taps of the last
// feature map. gemm makes a sum for each part of the rows of taps, split_k_reduce (or scores, after the last
// layer) adds them:
//
//     sums[q][n][o] = sum over the part's rows y, x and channels i of
//                     input[row_taps[r][y]][column_taps[c][x]][i] * weights[o][y][x][i]                 r, c of pixels[n]
//     output[n][o] = relu(sums[0][n][o] + sums[1][n][o] + ... + bias[o])
//
// Mirrors `GatherConv` of src/engine/cpu/gather_conv.rs. fp16 in and out, sums in f32. There are splits because the few
// patches of a slice make too few blocks otherwise. They depend on the layer alone, and so do the bits.
//
// gemm:
//     for step in taps of the part x chunks of 32 channels:
//         wait for the step's features and weights; barrier; begin to load those of a later step
//         sums += patches[128][32] * weights[256][32]
//
// Grid: x blocks of GEMM_PATCHES patches, y blocks of GEMM_OUTPUTS outputs, part by part. 8 warps, 2 x 4 of 64 patches
// x 64 outputs; a warp whose outputs do not exist makes no products, and their weights are not read.
// Patches beyond the last, taps that are ZERO and channels beyond the last are zeros in shared memory.
//
// The block is as large as registers allow (half of a multiprocessor's are sums), because what bounds the first layer is
// L2: a block reads patches x inputs once for every 256 outputs, and weights once for every 128 patches. For a slice at
// 257/8 with 256 outputs (4096 patches, 32768 inputs) that is 0.27 + 0.54 GB for 34 G products; with 64 x 64 it is 2.1 GB.
//
// Weights are packed by the host:
//
//     [ceil(output_channels / 64)][side * side taps, y * side + x][ceil(input_channels / 32)][64 outputs][32] fp16,
//     where channel c of output n of a step is at element n * 32 + ((c / 8) ^ (n / 2 % 4)) * 8 + c % 8
//
// with zeros for outputs and channels that do not exist. Limits: rows x columns of the input, and the patches, below
// 2^31.

#include "fragments.cuh"
#include "results.cuh"
#include "shared_bytes.h"

constexpr int DENSE_WARP = 64;  // patches, and outputs, of a warp
constexpr int GEMM_PATCHES_BYTES = GEMM_PATCHES * GEMM_CHUNK * 2;
constexpr int GEMM_WEIGHTS_BYTES = GEMM_PACKED * GEMM_CHUNK * 2;  // of GEMM_PACKED outputs

// Copies features and weights of one step after another. A thread has one piece of every 64th patch and output.
class DenseLoader {
public:
    const int steps;

    // Of the rows of taps from `row` on, before `end_row`.
    __device__ DenseLoader(const GemmParams& p, uint32_t shared_at, int row, int end_row, int first_output)
        : steps((end_row - row) * p.side * chunks_of(p)),
          p(p),
          shared_at(shared_at),
          piece(threadIdx.x % PIECES),
          chunks(chunks_of(p)),
          packed_bytes(int64_t(p.side) * p.side * chunks * GEMM_WEIGHTS_BYTES),
          weights(reinterpret_cast<const uint8_t*>(p.weights) + first_output / GEMM_PACKED * packed_bytes +
                  int64_t(row) * p.side * chunks * GEMM_WEIGHTS_BYTES + threadIdx.x * 16),
          panels_of_weights((p.output_channels - first_output + GEMM_PACKED - 1) / GEMM_PACKED),
          row(row),
          end_row(end_row) {
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            const int64_t patch = int64_t(blockIdx.x) * GEMM_PATCHES + patch_of(i);
            source[i] = patch < p.patches ? int32_t(patch) : ZERO;
            patch_row[i] = ZERO;
            if (p.row_taps && patch < p.patches) {
                const int32_t pixel = p.pixels ? p.pixels[patch] : int32_t(patch);
                patch_row[i] = pixel / p.columns;
                patch_column[i] = pixel % p.columns;
            }
        }
    }

    // Begins to load the next step; nothing behind the last.
    __device__ void load() {
        if (row == end_row) {
            return;
        }
        if (chunk == 0 && p.row_taps) {
            find_sources();
        }
        const uint32_t to = shared_at + stage * GEMM_STAGE_BYTES;
        const int channel = chunk * GEMM_CHUNK + piece * 8;
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            const bool exists = source[i] != ZERO && channel < p.input_channels;
            const uint16_t* from = exists ? p.input + int64_t(source[i]) * p.input_channels + channel : p.input;
            copy_async(to + piece_byte<GEMM_CHUNK>(patch_of(i), piece), from, exists ? 16 : 0);
        }
#pragma unroll
        for (int panel = 0; panel < GEMM_OUTPUTS / GEMM_PACKED; panel++) {
            if (panel < panels_of_weights) {
                copy_async(to + GEMM_PATCHES_BYTES + panel * GEMM_WEIGHTS_BYTES + threadIdx.x * 16,
                           weights + panel * packed_bytes, 16);
            }
        }
        weights += GEMM_WEIGHTS_BYTES;
        stage = stage + 1 < GEMM_STAGES ? stage + 1 : 0;
        if (++chunk == chunks) {
            chunk = 0;
            if (++column == p.side) {
                column = 0;
                row++;
            }
        }
    }

private:
    static constexpr int PIECES = GEMM_CHUNK / 8;
    static constexpr int OWN = GEMM_PATCHES / (GEMM_THREADS / PIECES);
    static_assert(GEMM_WEIGHTS_BYTES == GEMM_THREADS * 16, "a thread copies one piece of a panel of weights");
    const GemmParams& p;
    const uint32_t shared_at;
    const int piece;
    const int chunks;
    const int64_t packed_bytes;  // from a panel of GEMM_PACKED outputs to the next
    const uint8_t* weights;
    const int panels_of_weights;
    int32_t source[OWN];                            // pixel of the input, or ZERO
    int32_t patch_row[OWN], patch_column[OWN];  // of the patch, or ZERO
    int row, column = 0, chunk = 0;                 // the next step's tap and channels
    const int end_row;
    int stage = 0;

    __device__ static int patch_of(int i) { return threadIdx.x / PIECES + i * (GEMM_THREADS / PIECES); }
    __device__ static int chunks_of(const GemmParams& p) { return (p.input_channels + GEMM_CHUNK - 1) / GEMM_CHUNK; }

    // Of the tap.
    __device__ void find_sources() {
#pragma unroll
        for (int i = 0; i < OWN; i++) {
            if (patch_row[i] != ZERO) {
                const int32_t y = p.row_taps[int64_t(patch_row[i]) * p.side + row];
                const int32_t x = p.column_taps[int64_t(patch_column[i]) * p.side + column];
                source[i] = y == ZERO || x == ZERO ? ZERO : y * p.input_columns + x;
            }
        }
    }
};

extern "C" __global__ void __launch_bounds__(GEMM_THREADS, 1) gemm(const __grid_constant__ GemmParams p) {
    if (cancelled(p.cancel)) {
        return;
    }

    SHARED_MEMORY(shared);
    const uint32_t shared_at = shared_address(shared);
    const int output_panels = (p.output_channels + GEMM_OUTPUTS - 1) / GEMM_OUTPUTS;
    const int part = int(blockIdx.y) / output_panels;
    const int block_output = int(blockIdx.y) % output_panels * GEMM_OUTPUTS;
    const int first_row = part * p.split_rows, end_row = first_row + p.split_rows;
    DenseLoader loader(p, shared_at, first_row, end_row < p.side ? end_row : p.side, block_output);
#pragma unroll
    for (int step = 0; step < GEMM_STAGES - 1; step++) {
        loader.load();
        commit_copies();
    }

    // ---- the products
    const uint32_t lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    const int warp_patch = warp % (GEMM_PATCHES / DENSE_WARP) * DENSE_WARP;
    const int warp_output = warp / (GEMM_PATCHES / DENSE_WARP) * DENSE_WARP;
    const int outputs = p.output_channels - block_output - warp_output;  // from the warp's first on, 0 or less: none
    const uint32_t lane_patches = shared_at + piece_byte<GEMM_CHUNK>(warp_patch + a_row(lane), a_piece(lane));
    const uint32_t lane_weights =
        shared_at + GEMM_PATCHES_BYTES + piece_byte<GEMM_CHUNK>(warp_output + b_row(lane), b_piece(lane));
    float sums[DENSE_WARP / 16][DENSE_WARP / 8][4];
    clear(sums);
#pragma unroll 1
    for (int step = 0; step < loader.steps; step++) {
        wait_copies<GEMM_STAGES - 2>();
        barrier();
        loader.load();
        commit_copies();
        if (outputs > 0) {
            const uint32_t stage = step % GEMM_STAGES * GEMM_STAGE_BYTES;
            uint32_t patches[DENSE_WARP / 16];
#pragma unroll
            for (int i = 0; i < DENSE_WARP / 16; i++) {
                patches[i] = lane_patches + stage + i * 16 * GEMM_CHUNK * 2;
            }
            multiply_chunk<GEMM_CHUNK, DENSE_WARP / 16, DENSE_WARP>(sums, patches, lane_weights + stage);
        }
    }

    // ---- the sums: lane 4 g + q has outputs 8 j + 2 q and + 1 of patches g and g + 8 of each 16
#pragma unroll
    for (int i = 0; i < DENSE_WARP / 8; i++) {
        const int64_t patch = int64_t(blockIdx.x) * GEMM_PATCHES + warp_patch + i * 8 + lane / 4;
        float* const to = p.sums + (part * int64_t(p.patches) + patch) * p.output_channels + block_output + warp_output;
#pragma unroll
        for (int j = 0; j < DENSE_WARP / 8; j++) {
            const int output = j * 8 + int(lane) % 4 * 2;
            if (patch < p.patches && output < outputs) {
                *reinterpret_cast<float2*>(to + output) =
                    float2{sums[i / 2][j][i % 2 * 2], sums[i / 2][j][i % 2 * 2 + 1]};
            }
        }
    }
}

// Adds up what gemm made.
extern "C" __global__ void __launch_bounds__(SPLIT_K_THREADS) split_k_reduce(const __grid_constant__ SplitKParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    const int64_t count = int64_t(p.patches) * p.output_channels;
    const int64_t first = (int64_t(blockIdx.x) * SPLIT_K_THREADS + threadIdx.x) * SPLIT_K_OUTPUTS;
    bool overflow = false;
    if (first < count) {
        const float* const bias = p.bias + first % p.output_channels;
        const Sums<SPLIT_K_OUTPUTS> sums = add_splits<SPLIT_K_OUTPUTS>(p.sums + first, count, p.splits);
        uint32_t words[SPLIT_K_OUTPUTS / 2];
#pragma unroll
        for (int i = 0; i < SPLIT_K_OUTPUTS / 2; i++) {
            words[i] = activate(sums.of[i * 2], sums.of[i * 2 + 1], float2{bias[i * 2], bias[i * 2 + 1]});
        }
        overflow = store_halves(p.output + first, words);
    }
    report_overflow(p.overflow, p.layer, overflow);
}
