// wgmma: what a product is. Only at its end are `a`, the sums and shared memory read.

#pragma once
#include "device.h"
#include "half.h"

namespace sim {

// A matrix in shared memory whose rows are read along k ("Matrix Descriptor Format" of the PTX ISA).
class MatrixDescriptor {
public:
    explicit MatrixDescriptor(uint64_t bits)
        : start(uint32_t(bits & 0x3fff) << 4),
          eight_rows(uint32_t(bits >> 32 & 0x3fff) << 4),
          swizzle(uint32_t(bits >> 62)) {
        if ((bits & 0x3fffc000c000c000) != 0)  // reserved; and the base offset, which an aligned pattern does not need
            fail("matrix descriptor %llx: bits that must be 0", (unsigned long long)bits);
        if (swizzle == 0)
            fail("matrix descriptor %llx: without a swizzle, which no kernel uses", (unsigned long long)bits);
    }

    // Byte of shared memory of element k of row n; the hardware swizzles bits of the address, not of the offset.
    uint32_t byte(uint32_t n, uint32_t k) const {
        const uint32_t row_bytes = 256 >> swizzle;  // swizzle 1: 128, 2: 64, 3: 32
        const uint32_t at = start + n / 8 * eight_rows + n % 8 * row_bytes + k * 2;
        return at ^ (at >> 7 & (row_bytes / 16 - 1)) << 4;
    }

private:
    uint32_t start, eight_rows, swizzle;
};

using Columns = float __attribute__((vector_size(16)));
constexpr uint32_t ROWS = 64, DEPTH = 16, MOST_OUTPUTS = 256;

inline void read_row(uint16_t (&halves)[DEPTH], const MatrixDescriptor& matrix, uint32_t row) {
    for (uint32_t k = 0; k < DEPTH; k += 8) {
        const uint32_t at = matrix.byte(row, k);
        if (!is_published(at))
            fail("a product reads byte %u of shared memory, which cp.async has written, without a fence", at);
        memcpy(halves + k, shared_at(at, 16, 16), 16);
    }
}

// Sums += a b.
inline void make(const WarpgroupProduct& product) {
    static float a[ROWS][DEPTH];
    static Columns b[MOST_OUTPUTS / 4][DEPTH];
    static bool zero[MOST_OUTPUTS / 4];  // of four outputs
    const float* const to_float = floats_of_halves();
    bool finite = true;
    for (uint32_t thread = 0; thread < WARPGROUP; thread++) {
        // Lane = 4 group + place, as in mma.m16n8k16.
        const uint32_t row = thread / 32 * 16 + thread % 32 / 4, place = thread % 4;
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t word = product.a[thread][i];
            float* const pair = &a[row + i % 2 * 8][place * 2 + i / 2 * 8];
            pair[0] = to_float[word & 0xffff];
            pair[1] = to_float[word >> 16];
            finite &= (((word & 0x7fff7fff) + 0x04000400) & 0x80008000) == 0;
        }
    }
    const MatrixDescriptor descriptor(product.b);
    for (uint32_t n = 0; n < product.outputs; n++) {
        uint16_t halves[DEPTH], any = 0;
        read_row(halves, descriptor, n);
        for (uint32_t k = 0; k < DEPTH; k++) {
            b[n / 4][k][n % 4] = to_float[halves[k]];
            any |= halves[k];
        }
        zero[n / 4] = (n % 4 == 0 || zero[n / 4]) && any == 0;
    }
    for (uint32_t row = 0; row < ROWS; row++) {
        for (uint32_t four = 0; four < product.outputs / 4; four++) {
            if (zero[four] && finite) continue;  // weights of outputs that a layer does not have
            Columns sum = {};
#pragma GCC unroll 16
            for (uint32_t k = 0; k < DEPTH; k++) sum += a[row][k] * b[four][k];
            const uint32_t thread = row / 16 * 32 + row % 8 * 4 + four % 2 * 2;
            for (uint32_t i = 0; i < 4; i++)
                product.sums[thread + i / 2][four / 2 * 4 + row % 16 / 8 * 2 + i % 2] += sum[i];
        }
    }
}

inline void WarpgroupProduct::end() const { make(*this); }

}  // namespace sim
