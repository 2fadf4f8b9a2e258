// gemm, split_k_reduce: against plain loops in double.

#include "launching.h"
#include "shared_bytes.h"
#include "tap_tables.h"
#include "tolerance.h"

namespace {

struct Case {
    int patches;  // some of the patch grid; as many as it has: all of them
    int side;    // 0: patch by patch, without tables
    int split_rows;
    int rows, columns;  // of the patch grid
    int input_rows, input_columns;
    int input_channels, output_channels;
};

class Products {
public:
    Products(const Case& c, uint64_t seed)
        : c(c), side(c.side == 0 ? 1 : c.side), splits(int(divide_up(size_t(side), size_t(c.split_rows)))) {
        Random random(seed);
        const bool gathers = c.side > 0;
        if (gathers) {
            row_taps = random_taps(random, c.rows, c.side, c.input_rows);
            column_taps = random_taps(random, c.columns, c.side, c.input_columns);
            const bool all = c.patches == c.rows * c.columns;
            for (int i = 0; i < c.patches; i++)
                pixels.push_back(all ? i : int32_t(random.below(uint64_t(c.rows) * c.columns)));
        }
        const int inputs = (gathers ? c.input_rows * c.input_columns : c.patches) * c.input_channels;
        input = random_halves(random, size_t(inputs), 0, 1);
        weights = random_halves(random, size_t(c.output_channels) * side * side * c.input_channels, -0.1f, 0.1f);
    }

    void run() {
        GemmParams p{};
        p.input = launch.upload(input);
        p.sums = sums.data();
        p.weights = launch.upload(packed());
        p.row_taps = launch.upload(row_taps);
        p.column_taps = launch.upload(column_taps);
        p.pixels = c.patches != c.rows * c.columns ? launch.upload(pixels) : nullptr;
        p.patches = c.patches;
        p.columns = c.columns;
        p.side = side;
        p.split_rows = c.split_rows;
        p.input_columns = c.input_columns;
        p.input_channels = c.input_channels;
        p.output_channels = c.output_channels;
        const unsigned across = divide_up(size_t(c.output_channels), GEMM_OUTPUTS);
        launch.run("gemm", p, {divide_up(size_t(c.patches), GEMM_PATCHES), across * unsigned(splits), 1},
                   GEMM_THREADS, GEMM_SHARED_BYTES);
        sums.check_guards("sums");
    }

    void check() const {
        for (int part = 0; part < splits; part++) {
            for (int patch = 0; patch < c.patches; patch++) {
                for (int channel = 0; channel < c.output_channels; channel++) {
                    const ExactSum sum = exact(part, patch, channel);
                    const float have = sums[(size_t(part) * c.patches + patch) * c.output_channels + channel];
                    if (!sum.allows_float(have)) {
                        fail("(part %d, patch %d, channel %d): %g instead of %g", part, patch, channel, have,
                             sum.value);
                    }
                }
            }
        }
    }

private:
    // Pixel of the input, or ZERO.
    int64_t source(int patch, int y_tap, int x_tap) const {
        if (c.side == 0) return patch;
        const int row = pixels[size_t(patch)] / c.columns, column = pixels[size_t(patch)] % c.columns;
        const int y = row_taps[size_t(row) * side + y_tap];
        const int x = column_taps[size_t(column) * side + x_tap];
        return y == ZERO || x == ZERO ? ZERO : int64_t(y) * c.input_columns + x;
    }

    ExactSum exact(int part, int patch, int channel) const {
        ExactSum sum;
        for (int tap = part * c.split_rows * side; tap < side * side && tap < (part + 1) * c.split_rows * side; tap++) {
            const int64_t pixel = source(patch, tap / side, tap % side);
            for (int i = 0; pixel != ZERO && i < c.input_channels; i++) {
                sum.add(double(half_to_float(input[size_t(pixel) * c.input_channels + i])) *
                        half_to_float(weights[(size_t(channel) * side * side + tap) * c.input_channels + i]));
            }
        }
        return sum;
    }

    // The order that the head of gemm.cu describes.
    std::vector<uint16_t> packed() const {
        std::vector<uint16_t> result;
        for (int first_output = 0; first_output < c.output_channels; first_output += 64) {
            for (int tap = 0; tap < side * side; tap++) {
                for (int first = 0; first < c.input_channels; first += 32) {
                    const size_t step = result.size();
                    result.resize(step + 64 * 32, 0);
                    for (int n = 0; n < 64 && first_output + n < c.output_channels; n++) {
                        for (int i = 0; i < 32 && first + i < c.input_channels; i++) {
                            result[step + size_t(n) * 32 + (i / 8 ^ n / 2 % 4) * 8 + i % 8] =
                                weights[(size_t(first_output + n) * side * side + tap) * c.input_channels + first + i];
                        }
                    }
                }
            }
        }
        return result;
    }

    const Case c;
    const int side, splits;
    std::vector<int32_t> row_taps, column_taps, pixels;
    std::vector<uint16_t> input, weights;  // weights [output channels][side][side][input channels]
    DeviceBuffer<float> sums{size_t(splits) * c.patches * c.output_channels};
    Launch launch;
};

void matches(const Case& c) {
    in_all_orders(2, [&](uint64_t seed) {
        Products products(c, seed);
        products.run();
        products.check();
    });
}

constexpr int LAYER = 14;

struct Additions {
    Additions(int splits, int patches, int channels, uint64_t seed) : splits(splits), patches(patches), channels(channels) {
        Random random(seed);
        sums = random.floats(splits * output_count(), -1, 1);
        bias = random.floats(size_t(channels), -0.5f, 0.5f);
    }

    void run() {
        SplitKParams p{};
        p.sums = launch.upload(sums);
        p.bias = launch.upload(bias);
        p.output = output.data();
        p.patches = patches;
        p.output_channels = channels;
        p.splits = splits;
        p.layer = LAYER;
        launch.run("split_k_reduce", p, {divide_up(output_count() / 8, SPLIT_K_THREADS), 1, 1}, SPLIT_K_THREADS, 0);
        output.check_guards("output");
    }

    // Part after part, then the bias: the very bits.
    void check() const {
        for (size_t at = 0; at < output_count(); at++) {
            float sum = sums[at];
            for (int part = 1; part < splits; part++) sum += sums[size_t(part) * output_count() + at];
            sum += bias[at % size_t(channels)];
            check_equal(output[at], float_to_half(sum > 0 ? sum : 0), "output");
        }
    }

    size_t output_count() const { return size_t(patches) * channels; }

    const int splits, patches, channels;
    std::vector<float> sums, bias;
    DeviceBuffer<uint16_t> output{output_count()};
    Launch launch;
};

}  // namespace

//      patches side part rows columns inputs channels
TEST(dense_gathers) {
    matches({130, 2, 1, 9, 11, 12, 13, 80, 80});
    matches({1, 3, 1, 1, 1, 3, 3, 16, 16});
    matches({65, 1, 1, 9, 11, 9, 11, 48, 272});
    matches({66, 3, 2, 5, 7, 9, 9, 32, 16});
    matches({4, 2, 1, 2, 2, 3, 3, 16, 272});
    matches({3, 3, 3, 2, 2, 3, 3, 16, 16});
}

TEST(dense_patch_by_patch) {
    matches({130, 0, 1, 1, 1, 1, 1, 144, 32});
    matches({3, 0, 1, 1, 1, 1, 1, 80, 16});
    matches({257, 0, 1, 1, 1, 1, 1, 16, 208});
}

TEST(split_k_reduce_of_splits) {
    for (const int splits : {1, 2, 8}) {
        for (const int patches : {1, 70}) {
            Additions sums(splits, patches, 48, uint64_t(splits));
            sums.run();
            sums.check();
            check_equal(sums.launch.overflow[0], 0, "overflow");
        }
    }
}

TEST(dense_overflow) {
    const struct {
        float value;
        bool overflows;
    } values[] = {{65519.0f, false}, {65536.0f, true}, {-INFINITY, false}, {NAN, true}};
    for (const auto& value : values) {
        for (const size_t channel : {8, 9}) {  // the two halves of a word
            const uint32_t want = value.overflows ? 1u << LAYER : 0;
            Additions in_bias(2, 70, 16, 1);
            in_bias.sums.assign(in_bias.sums.size(), 0.0f);
            in_bias.bias[channel] = value.value;
            in_bias.run();
            check_equal(in_bias.launch.overflow[0], want, "overflow by a bias");
            Additions in_part(2, 70, 16, 1);
            for (const size_t part : {0, 1})
                in_part.sums[part * in_part.output_count() + 69 * 16 + channel] = value.value / 2;
            in_part.bias[channel] = 0.0f;
            in_part.run();
            check_equal(in_part.launch.overflow[0], want, "overflow by a sum");
        }
    }
}
