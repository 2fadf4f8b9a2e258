// table_max: the exact maximum.

#include "launching.h"
#include "shared_bytes.h"
#include "tap_tables.h"
#include "tolerance.h"

namespace {

void matches(int rows, int columns, int input_rows, int input_columns, int channels, bool roi) {
    in_all_orders(2, [&](uint64_t seed) {
        Random random(seed);
        const auto taps = [&](int values, int inputs) {
            std::vector<int32_t> table;
            for (int i = 0; i < 2 * values; i++)
                table.push_back(i % 7 == 3 ? ZERO : int32_t(random.below(uint64_t(inputs))));
            return table;
        };
        const std::vector<int32_t> row_taps = taps(rows, input_rows), column_taps = taps(columns, input_columns);
        std::vector<uint16_t> input;
        for (int i = 0; i < input_rows * input_columns * channels; i++)
            input.push_back(float_to_half(random.between(0, 100)));
        std::vector<Tile> tiles;
        if (roi) tiles = random_tiles(random, divide_up(rows, TILE_ROWS), divide_up(columns, TILE_COLUMNS));
        DeviceBuffer<int32_t> device_rows(row_taps), device_columns(column_taps);
        DeviceBuffer<uint16_t> device_input(input), output(size_t(rows) * columns * channels);
        DeviceBuffer<Tile> device_tiles(tiles);
        MaxParams p{device_input.data(),
                    output.data(),
                    device_rows.data(),
                    device_columns.data(),
                    roi ? device_tiles.data() : nullptr,
                    nullptr,
                    rows,
                    columns,
                    input_columns,
                    channels};
        const unsigned count =
            roi ? unsigned(tiles.size()) : divide_up(rows, TILE_ROWS) * divide_up(columns, TILE_COLUMNS);
        Launch().run("table_max", p, {count, 1, 1}, MAX_THREADS, 0);
        output.check_guards("output");

        const auto wanted = [&](int row, int column) {
            for (const Tile& tile : tiles)
                if (tile.row_block == row / TILE_ROWS && tile.column_block == column / TILE_COLUMNS)
                    return is_wanted(tile, row % TILE_ROWS, column % TILE_COLUMNS);
            return !roi;
        };
        for (int i = 0; i < rows * columns * channels; i++) {
            const int row = i / channels / columns, column = i / channels % columns, channel = i % channels;
            if (!wanted(row, column)) {
                if (!output.untouched(size_t(i)))
                    fail("(row %d, column %d, channel %d) is not wanted, but stored", row, column, channel);
                continue;
            }
            float want = -INFINITY;
            for (int tap = 0; tap < 4; tap++) {
                const int y = row_taps[size_t(row * 2 + tap / 2)], x = column_taps[size_t(column * 2 + tap % 2)];
                if (y != ZERO && x != ZERO) {
                    const size_t pixel = size_t(y) * input_columns + x;
                    want = std::fmax(want, half_to_float(input[pixel * channels + channel]));
                }
            }
            const float have = half_to_float(output[size_t(i)]);
            if (have != want)
                fail("(row %d, column %d, channel %d): %g instead of %g", row, column, channel, have, want);
        }
    });
}

}  // namespace

TEST(max_of_taps) {
    matches(19, 35, 40, 70, 80, false);
    matches(17, 33, 40, 70, 16, true);
    matches(1, 1, 2, 2, 64, false);
}
