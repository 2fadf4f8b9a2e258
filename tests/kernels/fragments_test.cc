// The promises of fragments.cuh about rows in shared memory, and its transposition.

#include "fragments.cuh"

#include <set>

#include "check.h"
#include "random.h"
#include "shim.h"

namespace {

// Eight rows with different r mod 8, one piece each: eight different sixteen-byte columns of the banks.
template <int CHUNK> void one_pass(Random& random) {
    for (int round = 0; round < 1000; round++) {
        const uint32_t piece = uint32_t(random.below(CHUNK / 8));
        std::set<uint32_t> columns;
        for (uint32_t i = 0; i < 8; i++)
            columns.insert(piece_byte<CHUNK>(i + 8 * uint32_t(random.below(30)), piece) / 16 % 8);
        check_equal(columns.size(), 8, "columns of the banks");
    }
    // All pieces of all rows have places of their own, and ^ 32 k is piece ^ 2 k.
    std::set<uint32_t> bytes;
    for (uint32_t row = 0; row < 64; row++) {
        for (uint32_t piece = 0; piece < CHUNK / 8; piece++) {
            bytes.insert(piece_byte<CHUNK>(row, piece));
            for (uint32_t k = 0; k < CHUNK / 16; k++)
                check_equal(piece_byte<CHUNK>(row, piece) ^ 32 * k, piece_byte<CHUNK>(row, piece ^ 2 * k), "piece");
        }
    }
    check_equal(bytes.size(), 64 * CHUNK / 8, "places");
    check_equal(*bytes.rbegin(), 64 * CHUNK * 2 - 16, "last place");
}

}  // namespace

TEST(fragments_in_one_pass) {
    Random random(1);
    one_pass<64>(random);
    one_pass<32>(random);
    one_pass<16>(random);
}

// Word 100 pixel + output / 2 of eight pixels x 32 outputs, from fragments to rows.
TEST(fragments_gathered) {
    const std::string problem = run_block(32, 0, [] {
        const uint32_t lane = threadIdx.x, pixel = lane / 4, quad = lane % 4;
        uint32_t words[4];
        for (uint32_t j = 0; j < 4; j++) words[j] = 100 * pixel + 4 * j + quad;
        gather_outputs(words, lane);
        for (uint32_t i = 0; i < 4; i++)
            if (words[i] != 100 * pixel + 4 * quad + i) sim::fail("word %u is %u", i, words[i]);
    });
    check_equal(problem.size(), 0, problem.c_str());
}
