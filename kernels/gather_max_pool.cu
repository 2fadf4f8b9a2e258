// 2x2 table maximum.
//
//     output[r][c][i] = max over the taps (y, x) that are not ZERO of input[row_taps[r][y]][column_taps[c][x]][i]
//
// mirrors src/engine/cpu/gather_max_pool.rs. One subtile a block; 8 threads share a pixel, 16 bytes (8 channels) each at a time,
// so that a warp reads and writes runs of 128 bytes. A thread has one column of the subtile. NaN stays NaN.
// Bytes: 2 channels x (4 pixels read, mostly once from memory each, + 1 written).

#include "subtiles.cuh"

__device__ inline uint4 max_piece(uint4 a, uint4 b) {
    return uint4{max_halves(a.x, b.x), max_halves(a.y, b.y), max_halves(a.z, b.z), max_halves(a.w, b.w)};
}

extern "C" __global__ void __launch_bounds__(MAX_POOL_THREADS) gather_max_pool(const __grid_constant__ MaxPoolParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    const SubtilePlace place(p.subtiles, p.rows, p.columns);
    const int column = threadIdx.x / 8;
    if (place.first_column + column >= p.columns) {
        return;
    }
    const uint4 lowest{0xfc00fc00u, 0xfc00fc00u, 0xfc00fc00u, 0xfc00fc00u};  // -infinity
    const int32_t* column_taps = p.column_taps + int64_t(place.first_column + column) * 2;
    const int32_t x[2] = {column_taps[0], column_taps[1]};
    for (int row = 0; row < SUBTILE_ROWS; row++) {
        if (!place.wants(row, column)) {
            continue;
        }
        const int32_t* row_taps = p.row_taps + int64_t(place.first_row + row) * 2;
        const int32_t y[2] = {row_taps[0], row_taps[1]};
        for (int channel = threadIdx.x % 8 * 8; channel < p.channels; channel += 64) {
            uint4 piece[4];
#pragma unroll
            for (int tap = 0; tap < 4; tap++) {
                const int32_t from_row = y[tap / 2], from_column = x[tap % 2];
                const int64_t pixel = int64_t(from_row) * p.input_columns + from_column;
                piece[tap] = from_row == ZERO || from_column == ZERO
                                 ? lowest
                                 : *reinterpret_cast<const uint4*>(p.input + pixel * p.channels + channel);
            }
            const uint4 largest = max_piece(max_piece(piece[0], piece[1]), max_piece(piece[2], piece[3]));
            *reinterpret_cast<uint4*>(p.output + place.pixel(row, column) * p.channels + channel) = largest;
        }
    }
}
