// Where a block's subtile lies, for the kernels whose sections are consecutive values.

#pragma once
#include "params.h"
#include "ptx.cuh"

class SubtilePlace {
public:
    // The block's subtile of `subtiles`; without them one subtile after another, columns fastest.
    __device__ SubtilePlace(const Subtile* subtiles, int rows, int columns) : rows(rows), columns(columns) {
        const int across = (columns + SUBTILE_COLUMNS - 1) / SUBTILE_COLUMNS;
        subtile = subtiles ? subtiles + blockIdx.x : nullptr;
        first_row = (subtile ? subtile->row_section : blockIdx.x / across) * SUBTILE_ROWS;
        first_column = (subtile ? subtile->column_section : blockIdx.x % across) * SUBTILE_COLUMNS;
    }

    // Whether the image has this pixel of the subtile and it is wanted.
    __device__ bool wants(int row, int column) const {
        const int bit = row * SUBTILE_COLUMNS + column;
        return first_row + row < rows && first_column + column < columns &&
               (!subtile || (subtile->wanted[bit / 32] >> bit % 32 & 1));
    }

    // Number of a pixel of the subtile in the image.
    __device__ int64_t pixel(int row, int column) const {
        return int64_t(first_row + row) * columns + first_column + column;
    }

    int first_row;
    int first_column;

private:
    int rows;
    int columns;
    const Subtile* subtile;
};
