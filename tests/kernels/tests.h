// All tests; each is described where it is.

#pragma once

#define KERNEL_TESTS(TEST) \
    TEST(shim_orders) \
    TEST(shim_finds_faults) \
    TEST(shim_multiplies) \
    TEST(shim_phases) \
    TEST(shim_warpgroup_products) \
    TEST(halves) \
    TEST(fragments_in_one_pass) \
    TEST(fragments_gathered) \
    TEST(conv3_64_128) \
    TEST(conv3_64_64) \
    TEST(conv3_32_128) \
    TEST(conv3_32_64) \
    TEST(conv3_16_128) \
    TEST(conv3_16_64) \
    TEST(conv3_nothing_but_zeros) \
    TEST(conv3_overflow) \
    TEST(conv3_cancelled) \
    TEST(conv3_wgmma_128) \
    TEST(conv3_wgmma_64) \
    TEST(conv3_wgmma_tiles) \
    TEST(conv3_wgmma_shared) \
    TEST(conv3_wgmma_same_bits) \
    TEST(conv3_wgmma_overflow) \
    TEST(conv3_wgmma_cancelled) \
    TEST(conv3_wgmma_stopped) \
    TEST(dense_gathers) \
    TEST(dense_point_by_point) \
    TEST(dense_sums_of_parts) \
    TEST(dense_overflow) \
    TEST(first_windows) \
    TEST(first_equalized) \
    TEST(first_overflow) \
    TEST(histogram_counts) \
    TEST(equalize_as_the_cpu) \
    TEST(max_of_taps) \
    TEST(scores_softmax) \
    TEST(paint_nearest) \
    TEST(paint_linear) \
    TEST(all_cancelled)

#define DECLARE(NAME) void NAME();
KERNEL_TESTS(DECLARE)
#undef DECLARE
