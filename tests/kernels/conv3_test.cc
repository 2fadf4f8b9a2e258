// conv3_*: against plain loops in double.

#include "tests.h"

#include "launching.h"
#include "shared_bytes.h"
#include "tap_tables.h"
#include "tolerance.h"

namespace {

struct Case {
    int chunk, outputs;
    int rows, columns;
    int input_rows, input_columns;
    int input_channels, output_channels;
    bool random_lengths;  // of blocks
    bool roi;             // tiles with masks
};

constexpr int LAYER = 5;

// One convolution: its tables, tensors and launch.
class Convolution {
public:
    Convolution(const Case& c, uint64_t seed)
        : c(c),
          random(seed),
          row_taps(random_taps(random, c.rows, 3, c.input_rows)),
          column_taps(random_taps(random, c.columns, 3, c.input_columns)),
          rows(row_blocks(random, row_taps, c.random_lengths)),
          columns(column_blocks(random, column_taps, c.random_lengths)),
          output(size_t(c.rows) * c.columns * c.output_channels) {
        if (c.roi) {
            tiles = random_tiles(random, rows.size(), columns.size());
        }
        make_wanted();
        make_input();
        for (int i = 0; i < c.output_channels * c.input_channels * 9; i++) {
            weights.push_back(float_to_half(random.between(-0.1f, 0.1f)));
        }
        for (unsigned i = 0; i < output_blocks() * c.outputs; i++) {
            bias.push_back(int(i) < c.output_channels ? random.between(-0.5f, 0.5f) : 0.0f);
        }
    }

    void run() {
        char name[32];
        snprintf(name, sizeof(name), "conv3_%d_%d", c.chunk, c.outputs);
        DeviceBuffer<uint16_t> device_input(input), device_weights(packed());
        DeviceBuffer<float> device_bias(bias);
        DeviceBuffer<RowBlock> device_rows(rows);
        DeviceBuffer<ColumnBlock> device_columns(columns);
        DeviceBuffer<Tile> device_tiles(tiles);
        ConvParams p{};
        p.input = device_input.data();
        p.output = output.data();
        p.weights = device_weights.data();
        p.bias = device_bias.data();
        p.row_blocks = device_rows.data();
        p.column_blocks = device_columns.data();
        p.tiles = c.roi ? device_tiles.data() : nullptr;
        p.column_block_count = int(columns.size());
        p.input_columns = c.input_columns;
        p.input_channels = c.input_channels;
        p.columns = c.columns;
        p.output_channels = c.output_channels;
        p.layer = LAYER;
        const size_t count = c.roi ? tiles.size() : rows.size() * columns.size();
        launch.run(name, p, {unsigned(count), output_blocks(), 1}, CONV_THREADS,
                   size_t(conv_shared_bytes(c.chunk, c.outputs)));
        output.check_guards("output");
    }

    ExactSum exact(int row, int column, int channel) const {
        ExactSum sum;
        sum.add(bias[size_t(channel)]);
        for (int tap = 0; tap < 9; tap++) {
            const int y = row_taps[size_t(row) * 3 + tap / 3], x = column_taps[size_t(column) * 3 + tap % 3];
            for (int i = 0; y != ZERO && x != ZERO && i < c.input_channels; i++) {
                sum.add(double(half_to_float(input[input_at(y, x) + i])) *
                        half_to_float(weights[weight_at(channel, i, tap)]));
            }
        }
        return sum;
    }

    void check() const {
        for (int row = 0; row < c.rows; row++) {
            for (int column = 0; column < c.columns; column++) {
                const bool want = wanted[size_t(row) * c.columns + column];
                for (int channel = 0; channel < c.output_channels; channel++) {
                    const size_t at = (size_t(row) * c.columns + column) * c.output_channels + channel;
                    if (!want && !output.untouched(at)) {
                        fail("(row %d, column %d, channel %d) is not wanted, but stored", row, column, channel);
                    }
                    if (want && !exact(row, column, channel).allows_half(output[at])) {
                        fail("(row %d, column %d, channel %d): %g instead of %g", row, column, channel,
                             half_to_float(output[at]), std::fmax(exact(row, column, channel).value, 0));
                    }
                }
            }
        }
    }

    bool all_untouched() const {
        for (size_t i = 0; i < output.size(); i++) {
            if (!output.untouched(i)) {
                return false;
            }
        }
        return true;
    }

    const Case c;
    Random random;
    std::vector<int32_t> row_taps, column_taps;
    std::vector<RowBlock> rows;
    std::vector<ColumnBlock> columns;
    std::vector<Tile> tiles;
    std::vector<bool> wanted;          // [rows][columns]
    std::vector<uint16_t> input;       // poison where no wanted pixel reads it
    std::vector<uint16_t> weights;     // [output channels][input channels][9]
    std::vector<float> bias;
    DeviceBuffer<uint16_t> output;
    Launch launch;

    size_t input_at(int y, int x) const { return (size_t(y) * c.input_columns + x) * c.input_channels; }
    size_t weight_at(int output, int input, int tap) const {
        return (size_t(output) * c.input_channels + input) * 9 + tap;
    }

private:
    unsigned output_blocks() const { return divide_up(size_t(c.output_channels), size_t(c.outputs)); }

    void make_wanted() {
        wanted.assign(size_t(c.rows) * c.columns, !c.roi);
        for (const Tile& tile : tiles) {
            const RowBlock& row_block = rows[size_t(tile.row_block)];
            const ColumnBlock& column_block = columns[size_t(tile.column_block)];
            for (int row = 0; row < row_block.count; row++) {
                for (int column = 0; column < column_block.count; column++) {
                    wanted[size_t(row_block.first + row) * c.columns + column_block.first + column] =
                        is_wanted(tile, row, column);
                }
            }
        }
    }

    void make_input() {
        input.assign(size_t(c.input_rows) * c.input_columns * c.input_channels, 0xFFFF);
        for (int pixel = 0; pixel < c.rows * c.columns; pixel++) {
            for (int tap = 0; wanted[size_t(pixel)] && tap < 9; tap++) {
                const int y = row_taps[size_t(pixel / c.columns) * 3 + tap / 3];
                const int x = column_taps[size_t(pixel % c.columns) * 3 + tap % 3];
                for (int i = 0; y != ZERO && x != ZERO && i < c.input_channels; i++) {
                    uint16_t& value = input[input_at(y, x) + i];
                    value = value == 0xFFFF ? float_to_half(random.between(0, 1)) : value;
                }
            }
        }
    }

    // The order that the head of conv3_mma.cu describes.
    std::vector<uint16_t> packed() const {
        std::vector<uint16_t> result;
        const int pieces = c.chunk / 8;
        for (unsigned block = 0; block < output_blocks(); block++) {
            for (int chunk = 0; chunk < c.input_channels / c.chunk; chunk++) {
                for (int tap = 0; tap < 9; tap++) {
                    const size_t step = result.size();
                    result.resize(step + size_t(c.outputs) * c.chunk, 0);
                    for (int n = 0; n < c.outputs && int(block) * c.outputs + n < c.output_channels; n++) {
                        for (int i = 0; i < c.chunk; i++) {
                            const int place = (i / 8 ^ n / (8 / pieces) % pieces) * 8 + i % 8;
                            result[step + size_t(n) * c.chunk + place] =
                                weights[weight_at(int(block) * c.outputs + n, chunk * c.chunk + i, tap)];
                        }
                    }
                }
            }
        }
        return result;
    }
};

void matches(const Case& c, int seeds) {
    in_all_orders(seeds, [&](uint64_t seed) {
        Convolution convolution(c, seed);
        convolution.run();
        convolution.check();
        check_equal(convolution.launch.overflow[0], 0, "overflow");
    });
}

}  // namespace

//                  chunk outputs  rows columns  inputs   channels  lengths   roi
void conv3_64_128() {
    matches({64, 128, 11, 19, 13, 21, 128, 160, false, false}, 1);
    matches({64, 128, 9, 17, 10, 18, 192, 128, true, true}, 1);
}

void conv3_64_64() {
    matches({64, 64, 11, 19, 13, 21, 128, 80, false, false}, 1);
    matches({64, 64, 9, 17, 10, 18, 64, 16, true, true}, 2);
}

void conv3_32_128() {
    matches({32, 128, 10, 20, 13, 23, 96, 144, false, false}, 1);
    matches({32, 128, 9, 17, 10, 18, 32, 128, true, true}, 2);
}

void conv3_32_64() {
    matches({32, 64, 10, 20, 13, 23, 96, 80, false, false}, 1);
    matches({32, 64, 9, 17, 10, 18, 32, 64, true, true}, 2);
}

void conv3_16_128() {
    matches({16, 128, 10, 20, 13, 23, 48, 144, false, false}, 1);
    matches({16, 128, 9, 17, 10, 18, 80, 32, true, true}, 2);
}

void conv3_16_64() {
    matches({16, 64, 11, 21, 13, 23, 48, 80, false, false}, 3);
    matches({16, 64, 9, 17, 10, 18, 80, 48, true, true}, 3);
    matches({16, 64, 1, 1, 1, 1, 16, 16, false, false}, 2);   // one pixel
    matches({16, 64, 1, 40, 1, 30, 16, 16, true, false}, 2);  // one row
    matches({16, 64, 30, 1, 25, 1, 16, 32, true, true}, 2);   // one column
}

void conv3_nothing_but_zeros() {
    Convolution convolution({16, 64, 9, 5, 3, 3, 16, 16, false, false}, 1);
    for (RowBlock& block : convolution.rows) {
        memset(block.tap, BLOCK_ZERO, sizeof(block.tap));
    }
    std::fill(convolution.row_taps.begin(), convolution.row_taps.end(), ZERO);
    convolution.run();
    convolution.check();
}

// A value that rounds to infinity, or NaN, is reported if it is stored, and only then.
void conv3_overflow() {
    const Case whole{16, 64, 9, 17, 9, 17, 16, 16, false, false};
    const struct {
        float bias;
        bool overflow;
    } values[] = {{65519.99f, false}, {65520.0f, true},    {INFINITY, true},
                  {NAN, true},        {-INFINITY, false}, {-1e6f, false}};
    for (const auto& value : values) {
        Convolution convolution(whole, 3);
        std::fill(convolution.weights.begin(), convolution.weights.end(), 0);
        convolution.bias[7] = value.bias;
        convolution.run();
        check_equal(convolution.launch.overflow[0], value.overflow ? 1u << LAYER : 0, "overflow");
    }
    // Padding outputs overflow, the existing ones do not.
    Convolution padding(whole, 3);
    padding.bias[16] = NAN;
    padding.run();
    padding.check();
    check_equal(padding.launch.overflow[0], 0, "overflow of outputs that do not exist");
}

void conv3_cancelled() {
    Convolution convolution({16, 64, 9, 17, 9, 17, 16, 16, false, false}, 1);
    convolution.launch.cancel[0] = 1;
    convolution.run();
    if (!convolution.all_untouched()) {
        fail("a cancelled kernel has stored something");
    }
}
