// Where a block's tile lies, for the kernels whose blocks are consecutive values.

#pragma once
#include "params.h"
#include "ptx.cuh"

class TilePlace {
public:
    // The block's tile of `tiles`; without them one tile after another, columns fastest.
    __device__ TilePlace(const Tile* tiles, int rows, int columns) : rows(rows), columns(columns) {
        const int across = (columns + TILE_COLUMNS - 1) / TILE_COLUMNS;
        tile = tiles ? tiles + blockIdx.x : nullptr;
        first_row = (tile ? tile->row_block : blockIdx.x / across) * TILE_ROWS;
        first_column = (tile ? tile->column_block : blockIdx.x % across) * TILE_COLUMNS;
    }

    // Whether the image has this pixel of the tile and it is wanted.
    __device__ bool wants(int row, int column) const {
        const int bit = row * TILE_COLUMNS + column;
        return first_row + row < rows && first_column + column < columns &&
               (!tile || (tile->wanted[bit / 32] >> bit % 32 & 1));
    }

    // Number of a pixel of the tile in the image.
    __device__ int64_t pixel(int row, int column) const {
        return int64_t(first_row + row) * columns + first_column + column;
    }

    int first_row;
    int first_column;

private:
    int rows;
    int columns;
    const Tile* tile;
};
