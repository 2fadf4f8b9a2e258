// A convolution for conv3_* and conv3_wgmma_*: random tables, subtiles and tensors, and plain loops in double.

#pragma once
#include "launching.h"
#include "shared_bytes.h"
#include "tap_tables.h"
#include "tolerance.h"

struct ConvCase {
    int chunk, outputs;
    int rows, columns;
    int input_rows, input_columns;
    int input_channels, output_channels;
    bool random_lengths;  // of sections
    bool roi;             // subtiles with masks
    int blocks = 0;       // of conv3_wgmma_*; 0: conv3_*
};

constexpr int CONV_LAYER = 5;

// One convolution: its tables, tensors and launch.
class Convolution {
public:
    Convolution(const ConvCase& c, uint64_t seed)
        : c(c),
          random(seed),
          row_taps(random_taps(random, c.rows, 3, c.input_rows)),
          column_taps(random_taps(random, c.columns, 3, c.input_columns)),
          rows(row_sections(random, row_taps, c.random_lengths)),
          columns(column_sections(random, column_taps, c.random_lengths)),
          output(size_t(c.rows) * c.columns * c.output_channels) {
        if (c.roi) subtiles = random_subtiles(random, rows.size(), columns.size());
        make_wanted();
        make_input();
        weights = random_halves(random, size_t(c.output_channels) * c.input_channels * 9, -0.1f, 0.1f);
        bias = random.floats(size_t(c.output_channels), -0.5f, 0.5f);
        bias.resize(output_panels() * c.outputs);
    }

    void run() {
        ConvParams p{};
        p.input = launch.upload(input);
        p.output = output.data();
        p.weights = launch.upload(packed());
        p.bias = launch.upload(bias);
        p.row_sections = launch.upload(rows);
        p.column_sections = launch.upload(columns);
        p.subtiles = launch.upload(subtiles);
        p.column_section_count = int(columns.size());
        p.input_columns = c.input_columns;
        p.input_channels = c.input_channels;
        p.columns = c.columns;
        p.output_channels = c.output_channels;
        p.layer = CONV_LAYER;
        const size_t count = c.roi ? subtiles.size() : rows.size() * columns.size();
        p.subtile_count = int(count);
        char name[32];
        if (c.blocks == 0) {
            snprintf(name, sizeof(name), "conv3_%d_%d", c.chunk, c.outputs);
            launch.run(name, p, {unsigned(count), output_panels(), 1}, CONV_THREADS,
                       size_t(conv_shared_bytes(c.chunk, c.outputs)));
        } else {
            snprintf(name, sizeof(name), "conv3_wgmma_%d", c.outputs);
            launch.run(name, p, {unsigned(c.blocks), 1, 1}, WGMMA_THREADS, size_t(wgmma_shared_bytes(c.outputs)));
        }
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
        const auto is_wanted = [&](int row, int column) { return wanted[size_t(row) * c.columns + column]; };
        check_image(output, c.rows, c.columns, is_wanted,
                    [&](int y, int x, int channel) { return exact(y, x, channel); });
    }

    const ConvCase c;
    Random random;
    std::vector<int32_t> row_taps, column_taps;
    std::vector<RowSection> rows;
    std::vector<ColumnSection> columns;
    std::vector<Subtile> subtiles;
    std::vector<bool> wanted;       // [rows][columns]
    std::vector<uint16_t> input;    // poison where no wanted pixel reads it
    std::vector<uint16_t> weights;  // [output channels][input channels][9]
    std::vector<float> bias;
    DeviceBuffer<uint16_t> output;
    Launch launch;

    size_t input_at(int y, int x) const { return (size_t(y) * c.input_columns + x) * c.input_channels; }
    size_t weight_at(int output, int input, int tap) const {
        return (size_t(output) * c.input_channels + input) * 9 + tap;
    }

private:
    unsigned output_panels() const { return divide_up(size_t(c.output_channels), size_t(c.outputs)); }

    void make_wanted() {
        wanted.assign(size_t(c.rows) * c.columns, !c.roi);
        for (const Subtile& subtile : subtiles) {
            const RowSection& row_section = rows[size_t(subtile.row_section)];
            const ColumnSection& column_section = columns[size_t(subtile.column_section)];
            for (int row = 0; row < row_section.count; row++) {
                for (int column = 0; column < column_section.count; column++) {
                    wanted[size_t(row_section.first + row) * c.columns + column_section.first + column] =
                        is_wanted(subtile, row, column);
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

    // The order that the head of conv3.cuh describes.
    std::vector<uint16_t> packed() const {
        std::vector<uint16_t> result;
        const int pieces = c.chunk / 8;
        for (unsigned panel = 0; panel < output_panels(); panel++) {
            for (int chunk = 0; chunk < c.input_channels / c.chunk; chunk++) {
                for (int tap = 0; tap < 9; tap++) {
                    const size_t step = result.size();
                    result.resize(step + size_t(c.outputs) * c.chunk, 0);
                    for (int n = 0; n < c.outputs && int(panel) * c.outputs + n < c.output_channels; n++) {
                        for (int i = 0; i < c.chunk; i++) {
                            const int place = (i / 8 ^ n / (8 / pieces) % pieces) * 8 + i % 8;
                            result[step + size_t(n) * c.chunk + place] =
                                weights[weight_at(int(panel) * c.outputs + n, chunk * c.chunk + i, tap)];
                        }
                    }
                }
            }
        }
        return result;
    }
};

// The kernel gives what plain loops give, in every order of its work.
inline void matches(const ConvCase& c, int seeds) {
    in_all_orders(seeds, [&](uint64_t seed) {
        Convolution convolution(c, seed);
        convolution.run();
        convolution.check();
        check_equal(convolution.launch.overflow[0], 0, "overflow");
    });
}

// A value that rounds to infinity, or NaN, is reported if it is stored, and only then.
inline void reports_overflow(const ConvCase& c) {
    const struct {
        float bias;
        bool overflows;
    } values[] = {{65519.99f, false}, {65520.0f, true},   {INFINITY, true},
                  {NAN, true},        {-INFINITY, false}, {-1e6f, false}};
    for (const auto& value : values) {
        Convolution convolution(c, 3);
        std::fill(convolution.weights.begin(), convolution.weights.end(), 0);
        convolution.bias[7] = value.bias;
        convolution.run();
        check_equal(convolution.launch.overflow[0], value.overflows ? 1u << CONV_LAYER : 0, "overflow");
    }
    Convolution padding(c, 3);
    padding.bias[size_t(c.output_channels)] = NAN;
    padding.run();
    padding.check();
    check_equal(padding.launch.overflow[0], 0, "overflow of outputs that do not exist");
}

inline void stores_nothing_when_cancelled(const ConvCase& c) {
    Convolution convolution(c, 1);
    convolution.launch.cancel[0] = 1;
    convolution.run();
    for (size_t i = 0; i < convolution.output.size(); i++)
        if (!convolution.output.untouched(i)) fail("a cancelled kernel has stored something");
}
