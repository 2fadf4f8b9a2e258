// dense_f16, dense_f32: against plain loops in double.

#include "launching.h"
#include "shared_bytes.h"
#include "tap_tables.h"
#include "tests.h"
#include "tolerance.h"

namespace {

struct Case {
    int points;
    int side;         // 0: point by point, without tables
    int rows, columns;  // of the lattice image
    int input_rows, input_columns;
    int input_channels, output_channels;
};

constexpr int LAYER = 14;

// Output: uint16_t for dense_f16, float for dense_f32.
template <class Output>
class Dense {
public:
    Dense(const Case& c, uint64_t seed) : c(c), taps(c.side == 0 ? 1 : c.side * c.side) {
        Random random(seed);
        const bool gathers = c.side > 0;
        if (gathers) {
            row_taps = random_taps(random, c.rows, c.side, c.input_rows);
            column_taps = random_taps(random, c.columns, c.side, c.input_columns);
            for (int i = 0; i < c.points; i++) {
                pixels.push_back(int32_t(random.below(uint64_t(c.rows) * c.columns)));
            }
        }
        const int inputs = (gathers ? c.input_rows * c.input_columns : c.points) * c.input_channels;
        for (int i = 0; i < inputs; i++) {
            input.push_back(float_to_half(random.between(0, 1)));
        }
        for (int i = 0; i < c.output_channels * taps * c.input_channels; i++) {
            weights.push_back(float_to_half(random.between(-0.1f, 0.1f)));
        }
        for (unsigned i = 0; i < output_blocks() * DENSE_OUTPUTS; i++) {
            bias.push_back(int(i) < c.output_channels ? random.between(-0.5f, 0.5f) : 0.0f);
        }
    }

    void run() {
        DeviceBuffer<uint16_t> device_input(input), device_weights(packed());
        DeviceBuffer<float> device_bias(bias);
        DeviceBuffer<int32_t> device_rows(row_taps), device_columns(column_taps), device_pixels(pixels);
        DenseParams p{};
        p.input = device_input.data();
        p.output = output.data();
        p.weights = device_weights.data();
        p.bias = device_bias.data();
        p.row_taps = c.side > 0 ? device_rows.data() : nullptr;
        p.column_taps = c.side > 0 ? device_columns.data() : nullptr;
        p.pixels = c.side > 0 ? device_pixels.data() : nullptr;
        p.points = c.points;
        p.columns = c.columns;
        p.side = c.side > 0 ? c.side : 1;
        p.input_columns = c.input_columns;
        p.input_channels = c.input_channels;
        p.output_channels = c.output_channels;
        p.layer = LAYER;
        launch.run(sizeof(Output) == 2 ? "dense_f16" : "dense_f32", p,
                   {divide_up(size_t(c.points), DENSE_POINTS), output_blocks(), 1}, DENSE_THREADS, DENSE_SHARED_BYTES);
        output.check_guards("output");
    }

    void check() const {
        for (int point = 0; point < c.points; point++) {
            for (int channel = 0; channel < c.output_channels; channel++) {
                const ExactSum sum = exact(point, channel);
                const Output have = output[size_t(point) * c.output_channels + channel];
                if (!allows(sum, have)) {
                    fail("(point %d, channel %d): %g instead of %g", point, channel, as_float(have), sum.value);
                }
            }
        }
    }

    const Case c;
    const int taps;
    std::vector<int32_t> row_taps, column_taps, pixels;
    std::vector<uint16_t> input, weights;  // weights [output channels][taps][input channels]
    std::vector<float> bias;
    DeviceBuffer<Output> output{size_t(c.points) * c.output_channels};
    Launch launch;

private:
    unsigned output_blocks() const { return divide_up(size_t(c.output_channels), DENSE_OUTPUTS); }

    static bool allows(const ExactSum& sum, uint16_t have) { return sum.allows_half(have); }
    static bool allows(const ExactSum& sum, float have) { return sum.allows_float(have); }
    static float as_float(uint16_t value) { return half_to_float(value); }
    static float as_float(float value) { return value; }

    // Pixel of the input, or ZERO.
    int64_t source(int point, int tap) const {
        if (c.side == 0) {
            return point;
        }
        const int row = pixels[size_t(point)] / c.columns, column = pixels[size_t(point)] % c.columns;
        const int y = row_taps[size_t(row) * c.side + tap / c.side];
        const int x = column_taps[size_t(column) * c.side + tap % c.side];
        return y == ZERO || x == ZERO ? ZERO : int64_t(y) * c.input_columns + x;
    }

    ExactSum exact(int point, int channel) const {
        ExactSum sum;
        sum.add(bias[size_t(channel)]);
        for (int tap = 0; tap < taps; tap++) {
            const int64_t pixel = source(point, tap);
            for (int i = 0; pixel != ZERO && i < c.input_channels; i++) {
                sum.add(double(half_to_float(input[size_t(pixel) * c.input_channels + i])) *
                        half_to_float(weights[(size_t(channel) * taps + tap) * c.input_channels + i]));
            }
        }
        return sum;
    }

    // The order that the head of dense_mma.cu describes.
    std::vector<uint16_t> packed() const {
        std::vector<uint16_t> result;
        for (unsigned block = 0; block < output_blocks(); block++) {
            for (int tap = 0; tap < taps; tap++) {
                for (int first = 0; first < c.input_channels; first += 64) {
                    const size_t step = result.size();
                    result.resize(step + 64 * 64, 0);
                    for (int n = 0; n < 64 && int(block) * 64 + n < c.output_channels; n++) {
                        for (int i = 0; i < 64 && first + i < c.input_channels; i++) {
                            result[step + size_t(n) * 64 + (i / 8 ^ n % 8) * 8 + i % 8] =
                                weights[(size_t(block * 64 + n) * taps + tap) * c.input_channels + first + i];
                        }
                    }
                }
            }
        }
        return result;
    }
};

template <class Output>
void matches(const Case& c) {
    in_all_orders(2, [&](uint64_t seed) {
        Dense<Output> dense(c, seed);
        dense.run();
        dense.check();
        check_equal(dense.launch.overflow[0], 0, "overflow");
    });
}

}  // namespace

//           points side rows columns inputs channels
void dense_gathers() {
    matches<uint16_t>({70, 2, 9, 11, 12, 13, 80, 80});
    matches<uint16_t>({1, 3, 1, 1, 3, 3, 16, 16});
    matches<uint16_t>({65, 1, 9, 11, 9, 11, 48, 128});
    matches<float>({66, 3, 5, 7, 9, 9, 32, 16});
}

void dense_point_by_point() {
    matches<uint16_t>({130, 0, 1, 1, 1, 1, 144, 32});
    matches<float>({3, 0, 1, 1, 1, 1, 80, 16});
    matches<float>({129, 0, 1, 1, 1, 1, 16, 80});
}

void dense_overflow() {
    const Case c{70, 0, 1, 1, 1, 1, 16, 16};
    const struct {
        float bias;
        bool half, single;
    } values[] = {{65519.0f, false, false}, {65536.0f, true, false}, {-INFINITY, false, true}, {NAN, true, true}};
    for (const auto& value : values) {
        for (const size_t channel : {8, 9}) {  // the two halves of a word
            Dense<uint16_t> half(c, 1);
            half.bias[channel] = value.bias;
            half.run();
            check_equal(half.launch.overflow[0], value.half ? 1u << LAYER : 0, "overflow of fp16");
            Dense<float> single(c, 1);
            single.bias[channel] = value.bias;
            single.run();
            check_equal(single.launch.overflow[0], value.single ? 1u << LAYER : 0, "overflow of f32");
        }
    }
    Dense<float> padding(c, 1);
    padding.bias[16] = NAN;
    padding.run();
    check_equal(padding.launch.overflow[0], 0, "overflow of outputs that do not exist");
}
