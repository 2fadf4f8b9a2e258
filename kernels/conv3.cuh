// What the 3x3 gather convolutions on tensor cores share: the subtile, the pixels that a lane's taps read, how weights are
// packed, how results are stored.
//
// The taps of a subtile meet in few input pixels (the halo, at most HALO_PIXELS): they are loaded once per CHUNK of
// channels to shared memory, pixel row * halo width + column, and all 9 taps read them where they lie: ldmatrix takes
// one address per pixel, so the gather costs nothing. Behind the halo lies a pixel of zeros, for taps that read none.
//
// Weights are packed by the host (src/engine/cuda/weights.rs), so that those of a chunk and a tap (a step) are one run
// of memory in the order of shared memory:
//
//     [ceil(output_channels / OUTPUTS)][input_channels / CHUNK][9 taps, y * 3 + x][OUTPUTS][CHUNK] fp16, where
//     channel c of output n of a step is at element n * CHUNK + ((c / 8) ^ s) * 8 + c % 8, and
//     s = n % 8 (CHUNK 64), n / 2 % 4 (CHUNK 32), n / 4 % 2 (CHUNK 16)        integer divisions
//
// with zeros for outputs beyond output_channels. Limits: rows x columns of the input below 2^31.

#pragma once
#include "fragments.cuh"
#include "results.cuh"
#include "shared_bytes.h"

constexpr int ZERO_PIXEL = HALO_PIXELS;

// A subtile: its sections, and which of its pixels are wanted, or null: all.
class ConvSubtile {
public:
    __device__ ConvSubtile(const RowSection& rows, const ColumnSection& columns, const uint32_t* wanted)
        : rows(rows), columns(columns), wanted(wanted) {}

    // Subtile `number` of `subtiles`, or of all pairs of sections, columns fastest.
    __device__ ConvSubtile(const ConvParams& p, int number)
        : ConvSubtile(p, number, p.subtiles ? p.subtiles + number : nullptr) {}

    // Whether the image has this pixel of the subtile and it is wanted.
    __device__ bool wants(int row, int column) const {
        const int bit = row * SUBTILE_COLUMNS + column;
        const bool exists = row < rows.count && column < columns.count;
        return exists && (!wanted || (wanted[bit / 32] >> bit % 32 & 1));
    }

    const RowSection& rows;
    const ColumnSection& columns;
    const uint32_t* const wanted;

private:
    __device__ ConvSubtile(const ConvParams& p, int number, const Subtile* subtile)
        : ConvSubtile(p.row_sections[subtile ? subtile->row_section : number / p.column_section_count],
                      p.column_sections[subtile ? subtile->column_section : number % p.column_section_count],
                      subtile ? subtile->wanted : nullptr) {}
};

// Begins to copy a chunk of pixels [first, end) of the halo, whose sources are pixels of the input: CHUNK / 8 threads
// take the pieces of a pixel.
template <int CHUNK, int THREADS>
__device__ inline void copy_halo(uint32_t halo, const SharedArray<int32_t>& sources, const ConvParams& p, int chunk,
                                 int first, int end, int thread) {
    constexpr int PIECES = CHUNK / 8;
    const int piece = thread % PIECES;
    const uint16_t* const from = p.input + chunk * CHUNK + piece * 8;
#pragma unroll 4
    for (int pixel = first + thread / PIECES; pixel < end; pixel += THREADS / PIECES) {
        copy_async(halo + piece_byte<CHUNK>(pixel, piece), from + int64_t(sources[pixel]) * p.input_channels, 16);
    }
}

// For ldmatrix: where a lane finds its piece of its pixels' taps. Its pixels are one column of ROWS rows, the first and
// every STRIDE-th after it.
template <int CHUNK, int ROWS, int STRIDE>
class LanePixels {
public:
    __device__ LanePixels(const ConvSubtile& subtile, int first_row, uint32_t lane)
        : halo_width(uint32_t(subtile.columns.inputs)), piece(a_piece(lane)) {
        const uint32_t nowhere = 0xffffffffu;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const int row = first_row + i * STRIDE;
            row_taps[i] =
                row < subtile.rows.count ? *reinterpret_cast<const uint32_t*>(subtile.rows.tap[row]) : nowhere;
        }
        const int column = int(a_row(lane));
        column_taps = column < subtile.columns.count
                          ? *reinterpret_cast<const uint32_t*>(subtile.columns.tap[column])
                          : nowhere;
    }

    // Addresses of tap y * 3 + x in a halo.
    __device__ void find(uint32_t (&addresses)[ROWS], uint32_t halo, int tap) const {
        const uint32_t column_tap = column_taps >> (tap % 3 * 8) & 255;
#pragma unroll
        for (int i = 0; i < ROWS; i++) {
            const uint32_t row_tap = row_taps[i] >> (tap / 3 * 8) & 255;
            const bool zero = row_tap == SECTION_ZERO || column_tap == SECTION_ZERO;
            const uint32_t pixel = zero ? ZERO_PIXEL : row_tap * halo_width + column_tap;
            addresses[i] = halo + piece_byte<CHUNK>(pixel, piece);
        }
    }

private:
    uint32_t halo_width;
    uint32_t piece;
    uint32_t row_taps[ROWS];  // the taps of a value are bytes of a word
    uint32_t column_taps;
};

// The lane's biases of 8 PAIRS outputs.
template <int PAIRS>
__device__ inline void load_bias(float2 (&bias)[PAIRS], const float* first, uint32_t lane) {
#pragma unroll
    for (int j = 0; j < PAIRS; j++) {
        bias[j] = *reinterpret_cast<const float2*>(first + j * 8 + lane % 4 * 2);
    }
}

// Bias, ReLU and store for 8 PAIRS outputs of a row of the subtile, from a warp's fragments; returns whether a value that
// was stored overflows fp16.
template <int PAIRS>
__device__ inline bool store_row(const ConvParams& p, const ConvSubtile& subtile, int row, int first_output,
                                 const float (&sums)[PAIRS][4], const float2 (&bias)[PAIRS], uint32_t lane) {
    bool overflow = false;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int column = int(lane / 4) + half * 8;
        const bool wanted = subtile.wants(row, column);
        uint16_t* const pixel =
            p.output + (int64_t(subtile.rows.first + row) * p.columns + subtile.columns.first + column) * p.output_channels;
#pragma unroll
        for (int group = 0; group < PAIRS; group += 4) {
            uint32_t words[4];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                const float(&pair)[4] = sums[group + j];
                words[j] = activate(pair[half * 2], pair[half * 2 + 1], bias[group + j]);
            }
            gather_outputs(words, lane);
            const int output = first_output + group * 8 + int(lane % 4) * 8;
            if (wanted && output < p.output_channels) {
                overflow |= store_halves(pixel + output, words);
            }
        }
    }
    return overflow;
}
