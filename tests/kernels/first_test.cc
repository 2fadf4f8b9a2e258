// conv3_first: against plain loops in double, over intensities that must have the bits of src/intensity.rs.

#include "launching.h"
#include "shared_bytes.h"
#include "slices.h"
#include "tap_tables.h"
#include "tolerance.h"

namespace {

struct Case {
    int type;
    int rows, columns;
    int bands, band_rows, input_columns;
    int channels;
    bool equalized;
    bool roi;
};

constexpr int LAYER = 0;
constexpr int CROP_X = 3, CROP_Y = 2, CROP_WIDTH = 20, CROP_HEIGHT = 17;

class First {
public:
    First(const Case& c, uint64_t seed)
        : c(c),
          random(seed),
          slice(c.type, CROP_X + CROP_WIDTH + 4, CROP_Y + CROP_HEIGHT + 1, random),
          row_taps(random_taps(random, c.rows, 3, c.bands * c.band_rows)),
          column_taps(random_taps(random, c.columns, 3, c.input_columns)),
          row_sources(sources(c.bands * c.band_rows)),
          column_sources(sources(c.input_columns)),
          output(size_t(c.rows) * c.columns * c.channels) {
        for (int i = 0; i < c.bands; i++)
            starts.push_back({int32_t(random.below(9)) - 4, int32_t(random.below(9)) - 4});
        if (c.roi)
            subtiles = random_subtiles(random, divide_up(c.rows, SUBTILE_ROWS), divide_up(c.columns, SUBTILE_COLUMNS));
    }

    void run() {
        FirstParams p{};
        p.voxels = slice.voxels;
        p.table = c.equalized ? launch.upload(table) : nullptr;
        p.output = output.data();
        p.weights = launch.upload(weights);
        p.bias = launch.upload(bias);
        p.row_taps = launch.upload(row_taps);
        p.column_taps = launch.upload(column_taps);
        p.row_sources = launch.upload(row_sources);
        p.column_sources = launch.upload(column_sources);
        p.starts = launch.upload(starts);
        p.subtiles = launch.upload(subtiles);
        p.rows = c.rows;
        p.columns = c.columns;
        p.channels = c.channels;
        p.band_rows = c.band_rows;
        p.crop_x = CROP_X;
        p.crop_y = CROP_Y;
        p.crop_width = CROP_WIDTH;
        p.crop_height = CROP_HEIGHT;
        p.layer = LAYER;
        launch.run("conv3_first", p, {subtile_count(subtiles, c.rows, c.columns), 1, 1}, FIRST_THREADS,
                   FIRST_SHARED_BYTES);
        output.check_guards("output");
    }

    void check() const {
        const auto wanted = [&](int row, int column) { return is_wanted(subtiles, row, column); };
        check_image(output, c.rows, c.columns, wanted, [&](int y, int x, int channel) { return exact(y, x, channel); });
    }

    const Case c;
    Random random;
    Slice slice;
    std::vector<int32_t> row_taps, column_taps, row_sources, column_sources;
    std::vector<Start> starts;
    std::vector<float> table = random.floats(LEVELS, 0, 1);
    std::vector<float> weights = random.floats(9 * 2 * size_t(c.channels), -0.5f, 0.5f);
    std::vector<float> bias = random.floats(size_t(c.channels), -0.5f, 0.5f);
    std::vector<Subtile> subtiles;
    DeviceBuffer<uint16_t> output;
    Launch launch;

private:
    std::vector<int32_t> sources(int count) {
        std::vector<int32_t> result;
        for (int i = 0; i < count; i++) result.push_back(random.below(5) == 0 ? BLACK : int32_t(random.below(24)) - 2);
        return result;
    }

    float intensity(int v, int u) const {
        if (row_sources[size_t(v)] == BLACK || column_sources[size_t(u)] == BLACK) return 0;
        const Start& start = starts[size_t(v / c.band_rows)];
        const int row = start.row + row_sources[size_t(v)], column = start.column + column_sources[size_t(u)];
        if (row < 0 || row >= CROP_HEIGHT || column < 0 || column >= CROP_WIDTH) return 0;
        const int x = CROP_X + column, y = CROP_Y + row;
        if (!std::isfinite(slice.hu(x, y))) return 0;
        return c.equalized ? table[size_t(slice.level(x, y))] : float(slice.windowed(x, y));
    }

    ExactSum exact(int row, int column, int channel) const {
        ExactSum sum;
        sum.add(bias[size_t(channel)]);
        for (int tap = 0; tap < 9; tap++) {
            const int v = row_taps[size_t(row) * 3 + tap / 3], u = column_taps[size_t(column) * 3 + tap % 3];
            if (v != ZERO && u != ZERO) {
                sum.add(double(intensity(v, u)) * weights[size_t(tap * 2 + 0) * c.channels + channel]);
                sum.add(weights[size_t(tap * 2 + 1) * c.channels + channel]);
            }
        }
        return sum;
    }
};

void matches(const Case& c) {
    in_all_orders(2, [&](uint64_t seed) {
        First first(c, seed);
        first.run();
        first.check();
        check_equal(first.launch.overflow[0], 0, "overflow");
    });
}

}  // namespace

//           type rows columns bands band_rows inputs channels equalized roi
TEST(first_windows) {
    for (int type = I8; type <= F64; type++) matches({type, 19, 35, 2, 8, 30, 64, false, false});
    matches({I16, 1, 1, 1, 1, 1, 16, false, false});
    matches({I16, 17, 33, 3, 5, 29, 80, false, true});
}

TEST(first_equalized) {
    for (int type = I8; type <= F64; type++) matches({type, 9, 17, 1, 12, 20, 16, true, false});
}

TEST(first_overflow) {
    First first({I16, 9, 17, 1, 12, 20, 16, false, true}, 4);
    first.bias[3] = 65520.0f;
    first.run();
    check_equal(first.launch.overflow[0], 1u << LAYER, "overflow");
}
