// conv3_wgmma_*: against plain loops in double.

#include "conv3_case.h"

//               chunk outputs  rows columns  inputs   channels  lengths  roi  blocks
// Two subtiles, then one and a half panels of outputs: four items, two for each of two blocks.
TEST(conv3_wgmma_128) {
    matches({64, 128, 5, 19, 7, 21, 64, 160, false, false, 2}, 1);
    matches({64, 128, 9, 17, 10, 18, 192, 128, true, true, 1}, 1);
}

TEST(conv3_wgmma_64) {
    matches({64, 64, 8, 16, 10, 18, 128, 80, false, false, 1}, 1);
    matches({64, 64, 9, 17, 10, 18, 64, 16, true, true, 2}, 2);
}

// Many subtiles for one block; one subtile; more blocks than items.
TEST(conv3_wgmma_subtiles) {
    matches({64, 64, 60, 20, 50, 23, 64, 16, true, true, 1}, 1);
    matches({64, 64, 1, 1, 1, 1, 64, 16, false, false, 1}, 2);
    matches({64, 64, 1, 40, 1, 30, 64, 64, true, false, 5}, 1);
    matches({64, 64, 30, 1, 25, 1, 128, 32, true, true, 2}, 1);
}

// Whatever blocks there are and whatever subtiles are cut.
TEST(conv3_wgmma_same_bits) {
    in_all_orders(1, [](uint64_t seed) {
        const struct {
            int outputs, blocks;
            bool cut;  // other subtiles
        } variants[] = {{64, 1, false}, {64, 3, true}, {128, 2, false}};
        std::vector<uint16_t> first;
        for (const auto& variant : variants) {
            Convolution convolution({64, variant.outputs, 11, 19, 13, 21, 128, 80, false, false, variant.blocks}, 7);
            if (variant.cut) {
                Random random(seed);
                convolution.rows = row_sections(random, convolution.row_taps, true);
                convolution.columns = column_sections(random, convolution.column_taps, true);
            }
            convolution.run();
            const uint16_t* output = convolution.output.data();
            const std::vector<uint16_t> bits(output, output + convolution.output.size());
            first = first.empty() ? bits : first;
            for (size_t i = 0; i < bits.size(); i++) {
                if (bits[i] != first[i]) {
                    fail("%d outputs, %d blocks, value %zu: %04x instead of %04x", variant.outputs, variant.blocks, i,
                         bits[i], first[i]);
                }
            }
        }
    });
}

TEST(conv3_wgmma_overflow) { reports_overflow({64, 64, 9, 17, 9, 17, 64, 16, false, false, 1}); }
TEST(conv3_wgmma_cancelled) { stores_nothing_when_cancelled({64, 64, 9, 17, 9, 17, 64, 16, false, false, 2}); }

// Cancelled by what the first item stores: no block begins more items than were handed out by then, and all end.
TEST(conv3_wgmma_stopped) {
    in_all_orders(2, [](uint64_t seed) {
        Convolution convolution({64, 64, 90, 20, 70, 23, 64, 16, false, false, 1}, seed);
        convolution.launch.overflow_cancels = true;
        convolution.bias[3] = INFINITY;
        convolution.run();
        size_t stored = 0;
        for (size_t i = 0; i < convolution.output.size(); i++) stored += !convolution.output.untouched(i);
        const size_t items = divide_up(convolution.rows.size() * convolution.columns.size(), WGMMA_SUBTILES);
        check_equal(stored > 0, true, "something is stored");
        check_equal(items > 2 * (WGMMA_ITEMS + 1), true, "enough items");
        if (stored > convolution.output.size() * (WGMMA_ITEMS + 1) / items * 3 / 2)
            fail("%zu of %zu values of %zu items are stored", stored, convolution.output.size(), items);
    });
}
