// Tap tables as the plan makes them, and tiles over them.

#pragma once
#include <vector>

#include "params.h"
#include "random.h"

// [values][taps]: runs of neighbours as in overlapping patches, zeros at the runs' ends, now and then a value
// whose taps are all zero or lie anywhere. Taps are below `inputs`.
inline std::vector<int32_t> random_taps(Random& random, int values, int taps, int inputs) {
    std::vector<int32_t> table;
    int at = 0;
    for (int value = 0; value < values; value++) {
        const uint64_t kind = random.below(16);
        at = kind < 3 ? int(random.below(uint64_t(inputs))) : at + 1;
        for (int tap = 0; tap < taps; tap++) {
            const int input = kind == 0 ? int(random.below(uint64_t(inputs))) : at + tap - taps / 2;
            const bool zero = kind == 1 || (kind == 2 && tap == taps - 1) || (kind == 3 && tap == 0);
            table.push_back(zero || input < 0 || input >= inputs ? ZERO : input);
        }
    }
    return table;
}

// Cuts the values of a table of 3 taps into blocks: as long as they may be, or of random length.
template <class Block, int LENGTH, int INPUTS>
std::vector<Block> cut_blocks(Random& random, const std::vector<int32_t>& table, bool random_lengths) {
    std::vector<Block> blocks;
    const int values = int(table.size()) / 3;
    for (int first = 0; first < values;) {
        Block block{};
        block.first = first;
        const int most = random_lengths ? 1 + int(random.below(LENGTH)) : LENGTH;
        for (int value = first; value < values && block.count < most; value++) {
            Block longer = block;
            bool fits = true;
            for (int tap = 0; tap < 3; tap++) {
                const int input = table[size_t(value) * 3 + size_t(tap)];
                int local = 0;
                while (local < longer.inputs && longer.input[local] != input) local++;
                if (input != ZERO && local == longer.inputs) {
                    if (local == INPUTS) {
                        fits = false;
                        break;
                    }
                    longer.input[longer.inputs++] = input;
                }
                longer.tap[longer.count][tap] = input == ZERO ? BLOCK_ZERO : uint8_t(local);
            }
            if (!fits) break;
            longer.count++;
            block = longer;
        }
        first += block.count;
        if (block.inputs == 0) block.inputs = 1;  // all taps are zero
        blocks.push_back(block);
    }
    return blocks;
}

inline std::vector<RowBlock> row_blocks(Random& random, const std::vector<int32_t>& table, bool random_lengths) {
    return cut_blocks<RowBlock, TILE_ROWS, TILE_INPUT_ROWS>(random, table, random_lengths);
}

inline std::vector<ColumnBlock> column_blocks(Random& random, const std::vector<int32_t>& table, bool random_lengths) {
    return cut_blocks<ColumnBlock, TILE_COLUMNS, TILE_INPUT_COLUMNS>(random, table, random_lengths);
}

// About two thirds of all tiles, with about two thirds of their pixels.
inline std::vector<Tile> random_tiles(Random& random, size_t row_blocks, size_t column_blocks) {
    std::vector<Tile> tiles;
    for (size_t i = 0; i < row_blocks * column_blocks; i++) {
        if (i != 0 && random.below(3) == 0) continue;
        Tile tile{int32_t(i / column_blocks), int32_t(i % column_blocks), {}};
        for (uint32_t& wanted : tile.wanted) wanted = uint32_t(random.next() | random.next());
        tiles.push_back(tile);
    }
    return tiles;
}

inline bool is_wanted(const Tile& tile, int row, int column) {
    const int bit = row * TILE_COLUMNS + column;
    return tile.wanted[bit / 32] >> bit % 32 & 1;
}

// Number of tiles launched, and the pixels they want, if blocks are 8 and 16 consecutive values. No tiles: all of them.
inline unsigned tile_count(const std::vector<Tile>& tiles, int rows, int columns) {
    const unsigned all = unsigned((rows + TILE_ROWS - 1) / TILE_ROWS * ((columns + TILE_COLUMNS - 1) / TILE_COLUMNS));
    return tiles.empty() ? all : unsigned(tiles.size());
}
inline bool is_wanted(const std::vector<Tile>& tiles, int row, int column) {
    for (const Tile& tile : tiles)
        if (tile.row_block == row / TILE_ROWS && tile.column_block == column / TILE_COLUMNS)
            return is_wanted(tile, row % TILE_ROWS, column % TILE_COLUMNS);
    return tiles.empty();
}
