// The shim itself: it must let every order happen that a GPU allows, and see every fault that it promises to see.

#include <set>

#include "check.h"
#include "ptx.cuh"
#include "random.h"
#include "shim.h"

namespace {

// Thread 0 writes, all read; returns how many seeds of 20 see all reads right.
int right_reads(bool with_barrier) {
    int right = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        sim::configure(sim::Completion::Eager, seed);
        bool good = true;
        const std::string problem = run_block(64, 4, [&] {
            SHARED_MEMORY(shared);
            const SharedArray<uint32_t> word(shared, 0);
            if (threadIdx.x == 0) word[0] = 7;
            if (with_barrier) barrier();
            good &= word[0] == 7;
        });
        right += good && problem.empty();
    }
    return right;
}

// The word that the first thread reads of a copy that it has begun and has, or has not, waited for.
uint32_t read_copy(sim::Completion completion, bool waits) {
    sim::configure(completion, 1);
    alignas(16) const uint32_t source[4] = {1, 2, 3, 4};
    uint32_t seen = 0;
    const std::string problem = run_block(32, 16, [&] {
        SHARED_MEMORY(shared);
        if (threadIdx.x == 0) {
            copy_async(shared_address(shared), source, 16);
            commit_copies();
            if (waits) wait_copies<0>();
            seen = SharedArray<uint32_t>(shared, 0)[2];
        }
    });
    check_equal(problem.size(), 0, problem.c_str());
    return seen;
}

}  // namespace

// a: element (0, 0) as given, all others 1. b: all elements as given. Sums from 100.
TEST(shim_multiplies) {
    struct Case {
        uint16_t a, b;
        float row_0, row_8;
    };
    const uint16_t two = 0x4000, three = 0x4200, infinite = 0x7c00, nan = 0xffff;
    for (const Case& c : {Case{three, two, 136, 132}, Case{three, 0, 100, 100}, Case{infinite, two, INFINITY, 132},
                          Case{infinite, 0, NAN, 100}, Case{nan, 0, NAN, 100}}) {
        float sums[4] = {100, 100, 100, 100};
        const std::string problem = run_block(32, 0, [&] {
            const uint32_t ones = 0x3c003c00u, b = uint32_t(c.b) << 16 | c.b;
            const uint32_t a[4] = {threadIdx.x == 0 ? 0x3c000000u | c.a : ones, ones, ones, ones};
            float others[4];
            float(&mine)[4] = threadIdx.x == 0 ? sums : others;
            multiply_add(mine, a, b, b);
            sums_ready();
        });
        check_equal(problem.size(), 0, problem.c_str());
        for (const auto& [have, want] : {std::pair{sums[0], c.row_0}, std::pair{sums[2], c.row_8}})
            if (have != want && (have == have || want == want))
                fail("a %04x, b %04x: %g instead of %g", c.a, c.b, have, want);
    }
}

TEST(shim_orders) {
    check_equal(uint64_t(right_reads(true)), 20, "seeds with a barrier");
    if (right_reads(false) > 10) fail("a missing barrier is seen by too few seeds");
    check_equal(read_copy(sim::Completion::Lazy, true), 3, "a copy waited for");
    check_equal(read_copy(sim::Completion::Eager, false), 3, "a copy that arrives at once");
    check_equal(read_copy(sim::Completion::Lazy, false), 0xFFFFFFFFu, "a copy not waited for");

    // Each warp may be the first.
    std::set<int> firsts;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        sim::configure(sim::Completion::Lazy, seed);
        int first = -1;
        run_block(128, 0, [&] {
            ballot(true);
            first = first < 0 ? int(threadIdx.x / 32) : first;
        });
        firsts.insert(first);
    }
    check_equal(firsts.size(), 4, "warps that were first");
}

TEST(shim_finds_faults) {
    alignas(16) static const uint8_t source[32] = {};
    const auto copy = [](uint32_t to, const void* from) {
        return run_block(32, 64, [=] { copy_async(to, from, 16); });
    };
    expect_fault("not aligned", copy(8, source));
    expect_fault("not aligned", copy(16, source + 8));
    expect_fault("of shared memory, which has 64", copy(64, source));
    expect_fault("of shared memory, which has 64", run_block(32, 64, [] {
                     uint32_t words[4];
                     load_matrices(words, threadIdx.x * 16);
                 }));
    expect_fault("which has 8", run_block(32, 8, [] {
                     SHARED_MEMORY(shared);
                     SharedArray<uint32_t>(shared, 0)[int(threadIdx.x)] = 0;
                 }));
    expect_fault("behind its end", run_block(32, 8, [] {
                     SHARED_MEMORY(shared);
                     shared[8] = 0;
                 }));
    expect_fault("deadlock: of 64 threads 32 wait at a barrier", run_block(64, 0, [] {
                     if (threadIdx.x < 32) barrier();
                 }));
    expect_fault("deadlock", run_block(32, 0, [] {
                     if (threadIdx.x != 5) ballot(true);
                 }));
    expect_fault("different operations", run_block(32, 0, [] {
                     if (threadIdx.x < 16) ballot(true);
                     else shuffle_xor(1, 1);
                 }));
    expect_fault("left before its sums were ready", run_block(32, 0, [] {
                     float sums[4] = {};
                     multiply_add(sums, {0, 0, 0, 0}, 0, 0);
                 }));
    expect_fault("0 matrix products, and 1 of another lane", run_block(32, 0, [] {
                     float sums[4] = {};
                     if (threadIdx.x == 9) multiply_add(sums, {0, 0, 0, 0}, 0, 0);
                     sums_ready();
                 }));
    expect_fault("whole warps", run_block(33, 0, [] {}));
    // And it goes on working after each.
    check_equal(run_block(64, 0, [] { barrier(); }).size(), 0, "a launch after faults");
}

// All fp16 there and back, and the borders of rounding.
TEST(halves) {
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const float value = half_to_float(uint16_t(bits));
        const bool nan = (bits & 0x7fff) > 0x7c00;
        if (nan ? value == value : float_to_half(value) != bits)
            fail("fp16 %04x becomes %g, and that %04x", bits, value, float_to_half(value));
        if ((bits & 0x7c00) == 0x7c00 || (bits & 0x7fff) == 0x7bff) continue;
        // Half way to the next rounds to even, and beside it to the nearer one.
        const float next = half_to_float(uint16_t(bits + 1)), middle = (value + next) / 2;
        const uint16_t even = uint16_t(bits + (bits & 1));
        if (float_to_half(middle) != even || float_to_half(std::nextafter(middle, value)) != bits ||
            float_to_half(std::nextafter(middle, next)) != bits + 1) {
            fail("around fp16 %04x: %04x %04x %04x", bits, float_to_half(std::nextafter(middle, value)),
                 float_to_half(middle), float_to_half(std::nextafter(middle, next)));
        }
    }
    check_equal(float_to_half(65519.99f), 0x7bff, "below the largest");
    check_equal(float_to_half(65520.0f), 0x7c00, "beyond the largest");
    check_equal(float_to_half(-1e30f), 0xfc00, "far beyond");
}
