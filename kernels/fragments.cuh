// What the two kernels of matrix products share: rows of fp16 in shared memory, and fragments.
//
// A row (the CHUNK channels of a pixel, or of an output's weights) is PIECES = CHUNK / 8 pieces of 16 bytes. ldmatrix
// reads one piece of eight rows at a time, and that takes one pass if the eight addresses lie in different sixteen-byte
// columns of the banks, of which there are 8 in 128 bytes. Where row r starts is column r PIECES mod 8: rows 8 / PIECES
// apart start alike. So piece q of row r is kept at place q ^ swizzle(r), which counts those rows:
//
//     swizzle(r) = r / (8 / PIECES) mod PIECES          CHUNK 64: r mod 8   32: r / 2 mod 4   16: r / 4 mod 2
//
// and any eight rows with different r mod 8 are read in one pass. Neighbouring taps are mostly such; equal rows (the
// zero pixel) are one address.

#pragma once
#include "ptx.cuh"

template <int CHUNK>
__device__ inline uint32_t swizzle(uint32_t row) {
    constexpr uint32_t PIECES = CHUNK / 8;
    return row / (8 / PIECES) % PIECES;
}

// Byte of piece `piece` of row `row`, from the first row. With a first row that is aligned to a row's bytes, the
// address of piece q ^ 2 k is this address ^ 32 k.
template <int CHUNK>
__device__ inline uint32_t piece_byte(uint32_t row, uint32_t piece) {
    return row * (CHUNK * 2) + ((piece ^ swizzle<CHUNK>(row)) << 4);
}

// The lanes' rows and pieces for ldmatrix. `a` as 16 rows: lane l has row l % 16, piece l / 16 of two. `b` as two
// times 8 outputs: lane l has row l % 8 + l / 16 * 8, piece l / 8 % 2.
__device__ inline uint32_t a_row(uint32_t lane) { return lane % 16; }
__device__ inline uint32_t a_piece(uint32_t lane) { return lane / 16; }
__device__ inline uint32_t b_row(uint32_t lane) { return lane % 8 + lane / 16 * 8; }
__device__ inline uint32_t b_piece(uint32_t lane) { return lane / 8 % 2; }

// A warp's sums, 16 FRAGMENTS pixels x OUTPUTS outputs, += CHUNK channels. `a` is each fragment's address of the lane's piece,
// `b` the address of the lane's piece of the warp's first output. Sixteen channels after sixteen.
template <int CHUNK, int FRAGMENTS, int OUTPUTS>
__device__ inline void multiply_chunk(float (&sums)[FRAGMENTS][OUTPUTS / 8][4], const uint32_t (&a)[FRAGMENTS], uint32_t b) {
#pragma unroll
    for (int k = 0; k < CHUNK / 16; k++) {
        uint32_t pixels[FRAGMENTS][4];
#pragma unroll
        for (int fragment = 0; fragment < FRAGMENTS; fragment++) {
            load_matrices(pixels[fragment], a[fragment] ^ (k * 32));
        }
#pragma unroll
        for (int pair = 0; pair < OUTPUTS / 16; pair++) {
            uint32_t weights[4];
            load_matrices(weights, (b ^ (k * 32)) + pair * 16 * CHUNK * 2);
#pragma unroll
            for (int fragment = 0; fragment < FRAGMENTS; fragment++) {
                multiply_add(sums[fragment][2 * pair], pixels[fragment], weights[0], weights[1]);
                multiply_add(sums[fragment][2 * pair + 1], pixels[fragment], weights[2], weights[3]);
            }
        }
    }
    sums_ready();
}

template <int FRAGMENTS, int PAIRS>
__device__ inline void clear(float (&sums)[FRAGMENTS][PAIRS][4]) {
#pragma unroll
    for (int fragment = 0; fragment < FRAGMENTS; fragment++) {
#pragma unroll
        for (int pair = 0; pair < PAIRS; pair++) {
            sums[fragment][pair][0] = sums[fragment][pair][1] = sums[fragment][pair][2] = sums[fragment][pair][3] = 0.0f;
        }
    }
}

// Lane 4 g + q holds outputs 8 j + 2 q and + 1 of pixel g in words[j]; afterwards outputs 8 q to 8 q + 7, in order:
// 16 bytes of one pixel, that a quad of lanes stores side by side. A transposition of 4 x 4 in two exchanges.
__device__ inline void gather_outputs(uint32_t (&words)[4], uint32_t lane) {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
        const bool upper = (lane & bit) != 0;
#pragma unroll
        for (int low = 0; low < 4; low++) {
            if ((low & bit) == 0) {
                const uint32_t other = shuffle_xor(upper ? words[low] : words[low | bit], bit);
                words[low] = upper ? other : words[low];
                words[low | bit] = upper ? words[low | bit] : other;
            }
        }
    }
}
