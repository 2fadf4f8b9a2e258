// The shim's Hopper: phase barriers, bulk copies and products of warpgroups do what they promise, as late as they may,
// and what a kernel must not do is seen.

#include <functional>

#include "check.h"
#include "ptx_90a.cuh"
#include "random.h"
#include "shim.h"

namespace {

void wait_phase(uint32_t barrier, uint32_t parity) {
    bool timed_out = false;
    ::wait_phase(barrier, parity, timed_out);
}

alignas(16) const uint32_t SOURCE[8] = {1, 2, 3, 4, 5, 6, 7, 8};

// Thread 0 begins a bulk copy of 32 bytes that counts for the barrier at byte 64; `before` comes first, then `after` by
// all threads.
std::string with_bulk_copy(uint32_t expected, const std::function<void(uint32_t barrier)>& after) {
    return run_block(32, 128, [&] {
        if (threadIdx.x == 0) {
            init_phases(64, 1);
            publish_to_async();
            wait_phase(64, 1);  // the phase before the first
        }
        barrier();
        if (threadIdx.x == 0) {
            arrive_expecting(64, expected);
            copy_bulk(0, SOURCE, 32, 64);
        }
        after(64);
    });
}

uint32_t word(int index) {
    SHARED_MEMORY(shared);
    return SharedArray<uint32_t>(shared, 0)[index];
}

// fp16 of small integers.
uint16_t half_of(uint64_t number) { return float_to_half(float(number)); }

// One product of 64 x 16 by 16 x 8 EIGHTS; what the threads find in their sums before and after they wait, added up
// over all that are wrong.
template <int EIGHTS> struct Multiplied {
    int wrong_before = 0, wrong_after = 0;
    std::string problem;

    explicit Multiplied(bool waits = true, uint32_t k_offset = 0) {
        constexpr int OUTPUTS = EIGHTS * 8;
        Random random(5);
        uint16_t a[64][16], b[OUTPUTS][64];
        for (auto& row : a)
            for (uint16_t& value : row) value = half_of(random.below(8));
        for (auto& row : b)
            for (uint16_t& value : row) value = half_of(random.below(8));
        problem = run_block(128, OUTPUTS * 128, [&] {
            SHARED_MEMORY(shared);
            const SharedArray<uint16_t> weights(shared, 0);
            const int thread = int(threadIdx.x), row = thread / 32 * 16 + thread % 32 / 4, pair = thread % 4 * 2;
            for (int i = thread; i < OUTPUTS * 64; i += 128) {
                const int n = i / 64, c = i % 64;
                weights[n * 64 + ((c / 8) ^ (n % 8)) * 8 + c % 8] = b[n][c];
            }
            barrier();
            uint32_t words[4];
            for (int i = 0; i < 4; i++) {
                const uint16_t* const two = &a[row + i % 2 * 8][pair + i / 2 * 8];
                words[i] = two[0] | uint32_t(two[1]) << 16;
            }
            float sums[EIGHTS][4];
            for (auto& four : sums)
                for (float& sum : four) sum = 100;
            const auto wrong = [&] {
                int count = 0;
                for (int j = 0; j < EIGHTS; j++) {
                    for (int i = 0; i < 4; i++) {
                        float exact = 100;
                        for (int k = 0; k < 16; k++) {
                            exact += half_to_float(a[row + i / 2 * 8][k]) *
                                     half_to_float(b[j * 8 + pair + i % 2][int(k_offset) * 8 + k]);
                        }
                        count += sums[j][i] != exact;
                    }
                }
                return count;
            };
            warpgroup_fence();
            warpgroup_multiply_add(sums, words, rows_of_64(0) + k_offset);
            warpgroup_commit();
            wrong_before += wrong();
            if (waits) {
                warpgroup_wait<0>();
                wrong_after += wrong();
            }
        });
    }
};

}  // namespace

TEST(shim_phases) {
    for (const sim::Completion completion : {sim::Completion::Eager, sim::Completion::Lazy, sim::Completion::Random}) {
        sim::configure(completion, 3);
        // All threads wait for two phases, and see what has come.
        bool good = true;
        const std::string problem = with_bulk_copy(32, [&](uint32_t barrier_at) {
            good &= completion != sim::Completion::Lazy || word(0) == 0xFFFFFFFFu;
            wait_phase(barrier_at, 0);
            good &= word(0) == 1 && word(7) == 8;
            barrier();
            if (threadIdx.x == 9) {
                copy_async(16, SOURCE, 16);
                arrive_after_copies(barrier_at);
            }
            wait_phase(barrier_at, 1);
            good &= word(4) == 1 && word(7) == 4;
        });
        check_equal(problem.size(), 0, problem.c_str());
        check_equal(good, true, "what a phase brings");
    }
    sim::configure(sim::Completion::Lazy, 1);
    expect_fault("32 for a phase", with_bulk_copy(48, [](uint32_t at) { wait_phase(at, 0); }));
    expect_fault("32 for a phase", with_bulk_copy(16, [](uint32_t at) { wait_phase(at, 0); }));
    expect_fault("copies are under way", with_bulk_copy(32, [](uint32_t) {}));
    expect_fault("more arrivals", with_bulk_copy(32, [](uint32_t at) { arrive(at); }));
    expect_fault("no phase barrier", with_bulk_copy(32, [](uint32_t at) { arrive(at + 8); }));
    expect_fault("no fence", run_block(32, 128, [] {
                     init_phases(64, 1);
                     copy_bulk(0, SOURCE, 32, 64);
                 }));
    expect_fault("multiples of 16", with_bulk_copy(32, [](uint32_t at) { copy_bulk(0, SOURCE, 24, at); }));
    expect_fault("not aligned", with_bulk_copy(32, [](uint32_t at) { copy_bulk(8, SOURCE, 16, at); }));
    expect_fault("which has 128", with_bulk_copy(32, [](uint32_t at) { copy_bulk(112, SOURCE, 32, at); }));
}

TEST(shim_warpgroup_products) {
    for (const sim::Completion completion : {sim::Completion::Eager, sim::Completion::Lazy, sim::Completion::Random}) {
        sim::configure(completion, 3);
        const Multiplied<8> narrow;
        const Multiplied<16> wide(true, 2);  // channels 16 to 31
        for (const std::string& problem : {narrow.problem, wide.problem})
            check_equal(problem.size(), 0, problem.c_str());
        check_equal(uint64_t(narrow.wrong_after), 0, "wrong sums of 64 outputs");
        check_equal(uint64_t(wide.wrong_after), 0, "wrong sums of 128 outputs");
        if (completion == sim::Completion::Lazy && narrow.wrong_before == 0)
            fail("sums are there before they are waited for");
    }
    expect_fault("left before its warpgroup's products were done", Multiplied<8>(false).problem);
    static float sums[128][8][4];
    static const uint32_t a[4] = {};
    const auto product = [](uint64_t descriptor, bool fenced) {
        return run_block(128, 8192, [=] {
            if (fenced) warpgroup_fence();
            warpgroup_multiply_add(sums[threadIdx.x], a, descriptor + (threadIdx.x == 77 && !fenced));
            warpgroup_commit();
            warpgroup_wait<0>();
        });
    };
    const uint64_t rows = 64ull << 32;
    expect_fault("of another thread", product(rows_of_64(0), false));
    expect_fault("bits that must be 0", product(rows_of_64(0) | 1ull << 14, true));
    expect_fault("without a swizzle", product(rows, true));
    expect_fault("of shared memory, which has 8192", product(rows_of_64(1024), true));
    expect_fault("written without a fence",
                 run_block(128, 8192, [] { warpgroup_multiply_add(sums[threadIdx.x], a, rows_of_64(0)); }));
    expect_fault("not of warpgroups", run_block(96, 0, [] { warpgroup_fence(); }));
    expect_fault("for their warpgroup", run_block(128, 0, [] {
                     if (threadIdx.x < 96) warpgroup_fence();
                 }));
    expect_fault("registers", run_block(256, 0, [] { take_registers<256>(), take_registers<248>(); }));
    // A block of 384 threads begins with 168 for each, 64512; a multiprocessor has 65536.
    const auto take_and_give = [](auto take, auto give) {
        return run_block(384, 0, [&] { threadIdx.x < 256 ? take() : give(); });
    };
    expect_fault("have taken 65536 registers", take_and_give(take_registers<232>, give_registers<48>));
    check_equal(take_and_give(take_registers<232>, give_registers<40>).size(), 0, "what the block began with");
}
