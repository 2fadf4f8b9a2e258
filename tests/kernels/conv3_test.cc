// conv3_*: against plain loops in double.

#include "conv3_case.h"

//                  chunk outputs  rows columns  inputs   channels  lengths   roi
TEST(conv3_64_128) {
    matches({64, 128, 11, 19, 13, 21, 128, 160, false, false}, 1);
    matches({64, 128, 9, 17, 10, 18, 192, 128, true, true}, 1);
}

TEST(conv3_64_64) {
    matches({64, 64, 11, 19, 13, 21, 128, 80, false, false}, 1);
    matches({64, 64, 9, 17, 10, 18, 64, 16, true, true}, 2);
}

TEST(conv3_32_128) {
    matches({32, 128, 10, 20, 13, 23, 96, 144, false, false}, 1);
    matches({32, 128, 9, 17, 10, 18, 32, 128, true, true}, 2);
}

TEST(conv3_32_64) {
    matches({32, 64, 10, 20, 13, 23, 96, 80, false, false}, 1);
    matches({32, 64, 9, 17, 10, 18, 32, 64, true, true}, 2);
}

TEST(conv3_16_128) {
    matches({16, 128, 10, 20, 13, 23, 48, 144, false, false}, 1);
    matches({16, 128, 9, 17, 10, 18, 80, 32, true, true}, 2);
}

TEST(conv3_16_64) {
    matches({16, 64, 11, 21, 13, 23, 48, 80, false, false}, 3);
    matches({16, 64, 9, 17, 10, 18, 80, 48, true, true}, 3);
    matches({16, 64, 1, 1, 1, 1, 16, 16, false, false}, 2);   // one pixel
    matches({16, 64, 1, 40, 1, 30, 16, 16, true, false}, 2);  // one row
    matches({16, 64, 30, 1, 25, 1, 16, 32, true, true}, 2);   // one column
}

TEST(conv3_nothing_but_zeros) {
    Convolution convolution({16, 64, 9, 5, 3, 3, 16, 16, false, false}, 1);
    for (RowBlock& block : convolution.rows) memset(block.tap, BLOCK_ZERO, sizeof(block.tap));
    std::fill(convolution.row_taps.begin(), convolution.row_taps.end(), ZERO);
    convolution.run();
    convolution.check();
}

// A value that rounds to infinity, or NaN, is reported if it is stored, and only then.
TEST(conv3_overflow) {
    const ConvCase whole{16, 64, 9, 17, 9, 17, 16, 16, false, false};
    const struct {
        float bias;
        bool overflow;
    } values[] = {{65519.99f, false}, {65520.0f, true},   {INFINITY, true},
                  {NAN, true},        {-INFINITY, false}, {-1e6f, false}};
    for (const auto& value : values) {
        Convolution convolution(whole, 3);
        std::fill(convolution.weights.begin(), convolution.weights.end(), 0);
        convolution.bias[7] = value.bias;
        convolution.run();
        check_equal(convolution.launch.overflow[0], value.overflow ? 1u << CONV_LAYER : 0, "overflow");
    }
    // Padding outputs overflow, the existing ones do not.
    Convolution padding(whole, 3);
    padding.bias[16] = NAN;
    padding.run();
    padding.check();
    check_equal(padding.launch.overflow[0], 0, "overflow of outputs that do not exist");
}

TEST(conv3_cancelled) {
    Convolution convolution({16, 64, 9, 17, 9, 17, 16, 16, false, false}, 1);
    convolution.launch.cancel[0] = 1;
    convolution.run();
    if (!convolution.all_untouched()) fail("a cancelled kernel has stored something");
}
