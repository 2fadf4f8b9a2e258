// conv3_*: against plain loops in double.

#include "conv3_case.h"

//                  chunk outputs  rows columns  inputs   channels  lengths   roi
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
    for (RowSection& section : convolution.rows) memset(section.tap, SECTION_ZERO, sizeof(section.tap));
    std::fill(convolution.row_taps.begin(), convolution.row_taps.end(), ZERO);
    convolution.run();
    convolution.check();
}

TEST(conv3_overflow) { reports_overflow({16, 64, 9, 17, 9, 17, 16, 16, false, false}); }
TEST(conv3_cancelled) { stores_nothing_when_cancelled({16, 64, 9, 17, 9, 17, 16, 16, false, false}); }
