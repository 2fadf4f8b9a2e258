// gather_max_pool: the exact maximum.

#include "launching.h"
#include "shared_bytes.h"
#include "tap_tables.h"
#include "tolerance.h"

static void matches(int rows, int columns, int input_rows, int input_columns, int channels, bool roi) {
    in_all_orders(2, [&](uint64_t seed) {
        Random random(seed);
        const auto taps = [&](int values, int inputs) {
            std::vector<int32_t> table;
            for (int i = 0; i < 2 * values; i++)
                table.push_back(i % 7 == 3 ? ZERO : int32_t(random.below(uint64_t(inputs))));
            return table;
        };
        const std::vector<int32_t> row_taps = taps(rows, input_rows), column_taps = taps(columns, input_columns);
        const auto input = random_halves(random, size_t(input_rows) * input_columns * channels, 0, 100);
        std::vector<Subtile> subtiles;
        if (roi) subtiles = random_subtiles(random, divide_up(rows, SUBTILE_ROWS), divide_up(columns, SUBTILE_COLUMNS));
        DeviceBuffer<uint16_t> output(size_t(rows) * columns * channels);
        Launch launch;
        MaxPoolParams p{};
        p.input = launch.upload(input);
        p.output = output.data();
        p.row_taps = launch.upload(row_taps);
        p.column_taps = launch.upload(column_taps);
        p.subtiles = launch.upload(subtiles);
        p.rows = rows;
        p.columns = columns;
        p.input_columns = input_columns;
        p.channels = channels;
        launch.run("gather_max_pool", p, {subtile_count(subtiles, rows, columns), 1, 1}, MAX_POOL_THREADS, 0);
        output.check_guards("output");

        const auto wanted = [&](int row, int column) { return is_wanted(subtiles, row, column); };
        const auto exact = [&](int row, int column, int channel) {
            float largest = -INFINITY;
            for (int tap = 0; tap < 4; tap++) {
                const int y = row_taps[size_t(row * 2 + tap / 2)], x = column_taps[size_t(column * 2 + tap % 2)];
                const size_t at = (size_t(y) * input_columns + x) * channels + channel;
                if (y != ZERO && x != ZERO) largest = std::fmax(largest, half_to_float(input[at]));
            }
            return ExactSum{largest};
        };
        check_image(output, rows, columns, wanted, exact);
    });
}

TEST(max_of_taps) {
    matches(19, 35, 40, 70, 80, false);
    matches(17, 33, 40, 70, 16, true);
    matches(1, 1, 2, 2, 64, false);
}
