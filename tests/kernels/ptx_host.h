// Host twins of kernels/ptx.cuh: the same functions, with the meaning that the PTX ISA gives the instructions.

#pragma once
#include "device.h"
#include "half.h"

// Names the block's dynamic shared memory.
#define SHARED_MEMORY(NAME) uint8_t* const NAME = sim::shared()

// Checked at every access.
template <class T> class SharedArray {
public:
    SharedArray(uint8_t* shared, uint32_t byte) : first(sim::shared_offset(shared) + byte) {}
    T& operator[](int index) const {
        const uint32_t offset = first + uint32_t(index) * uint32_t(sizeof(T));
        return *reinterpret_cast<T*>(sim::shared_at(offset, sizeof(T), alignof(T)));
    }

private:
    uint32_t first;
};

inline uint32_t shared_address(const void* pointer) { return sim::shared_offset(pointer); }

// ----------------------------------------------------------------------------------- threads and warps

inline void barrier() { sim::barrier(false); }
inline bool barrier_any(bool value) { return sim::barrier(value); }

struct ShuffleLane {
    uint32_t value;
    uint32_t mask;
    uint32_t result;
};
inline uint32_t shuffle_xor(uint32_t value, int mask) {
    ShuffleLane lane{value, uint32_t(mask), 0};
    sim::warp(
        [](void* const lanes[]) {
            for (uint32_t i = 0; i < sim::WARP; i++) {
                auto& mine = *static_cast<ShuffleLane*>(lanes[i]);
                mine.result = static_cast<ShuffleLane*>(lanes[i ^ mine.mask])->value;
            }
        },
        &lane);
    return lane.result;
}

struct BallotLane {
    bool value;
    uint32_t result;
};
inline uint32_t ballot(bool value) {
    BallotLane lane{value, 0};
    sim::warp(
        [](void* const lanes[]) {
            uint32_t bits = 0;
            for (uint32_t i = 0; i < sim::WARP; i++) bits |= uint32_t(static_cast<BallotLane*>(lanes[i])->value) << i;
            for (uint32_t i = 0; i < sim::WARP; i++) static_cast<BallotLane*>(lanes[i])->result = bits;
        },
        &lane);
    return lane.result;
}

inline void warp_barrier() {
    sim::warp([](void* const[]) {}, nullptr);
}

inline int count_bits(uint32_t bits) { return __builtin_popcount(bits); }

// ----------------------------------------------------------------------------------------------- memory

inline uint32_t atomic_add(uint32_t* to, uint32_t value) {
    const uint32_t before = *to;
    *to += value;
    return before;
}
inline void atomic_add(unsigned long long* to, unsigned long long value) { *to += value; }
inline void atomic_or(uint32_t* to, uint32_t bits) { *to |= bits; }

using sim::commit_copies;
using sim::copy_async;
template <int PENDING> inline void wait_copies() { sim::wait_copies(PENDING); }

// ---------------------------------------------------------------------------------------------- numbers

inline float half_bits_to_float(uint16_t half) { return half_to_float(half); }
inline uint32_t pack_halves(float low, float high) { return float_to_half(low) | uint32_t(float_to_half(high)) << 16; }

inline float max_or_nan(float a, float b) {
    if (a != a || b != b) return NAN;
    return a > b || (a == b && std::signbit(b)) ? a : b;
}

inline uint16_t max_half(uint16_t a, uint16_t b) {
    const float x = half_to_float(a), y = half_to_float(b);
    if (x != x || y != y) return 0x7fff;
    return x > y || (x == y && std::signbit(y)) ? a : b;
}
inline uint32_t max_halves(uint32_t a, uint32_t b) {
    return max_half(uint16_t(a), uint16_t(b)) | uint32_t(max_half(uint16_t(a >> 16), uint16_t(b >> 16))) << 16;
}

inline float fused_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }

// --------------------------------------------------------------------------------------- matrix products

struct MatrixLane {
    uint32_t address;
    uint32_t* words;
};
inline void load_matrices(uint32_t (&words)[4], uint32_t address) {
    sim::shared_at(address, 16, 16);
    MatrixLane lane{address, words};
    sim::warp(
        [](void* const lanes[]) {
            for (uint32_t matrix = 0; matrix < 4; matrix++) {
                for (uint32_t i = 0; i < sim::WARP; i++) {
                    const auto& row = *static_cast<MatrixLane*>(lanes[matrix * 8 + i / 4]);
                    const uint8_t* from = sim::shared_at(row.address + i % 4 * 4, 4, 4);
                    memcpy(&static_cast<MatrixLane*>(lanes[i])->words[matrix], from, 4);
                }
            }
        },
        &lane);
    sim::registers_written();
}

// Four columns: what a CPU's vector register holds.
using Columns = float __attribute__((vector_size(16)));

// A product's a and b as floats. Where the ISA puts the elements ("Matrix Fragments for mma.m16n8k16"):
// lane = 4 group + place.
struct Matrices {
    float a[16][16];   // [row][k]
    Columns b[16][2];  // [k][column]
    const float* const to_float = floats_of_halves();

    void set_a(uint32_t lane, const uint32_t (&words)[4]) {
        const uint32_t group = lane / 4, place = lane % 4;
        for (uint32_t i = 0; i < 4; i++) {
            float* const pair = &a[group + i % 2 * 8][place * 2 + i / 2 * 8];
            pair[0] = to_float[words[i] & 0xffff];
            pair[1] = to_float[words[i] >> 16];
        }
    }
    void set_b(uint32_t lane, const uint32_t (&words)[2]) {
        const uint32_t group = lane / 4, place = lane % 4;
        for (uint32_t i = 0; i < 2; i++) {
            Columns(*const pair)[2] = &b[place * 2 + i * 8];
            pair[0][group / 4][group % 4] = to_float[words[i] & 0xffff];
            pair[1][group / 4][group % 4] = to_float[words[i] >> 16];
        }
    }
    void multiply(Columns (&products)[16][2]) const {
        for (uint32_t row = 0; row < 16; row++) {
            Columns left = {}, right = {};
#pragma GCC unroll 16
            for (uint32_t k = 0; k < 16; k++) {
                left += a[row][k] * b[k][0];
                right += a[row][k] * b[k][1];
            }
            products[row][0] = left;
            products[row][1] = right;
        }
    }
};

// True if b is 0 and a finite: weights of outputs that a layer does not have.
inline bool adds_zeros(const sim::Product* const (&queues)[sim::WARP], size_t i) {
    uint32_t b = 0, not_finite = 0;
    for (const sim::Product* queue : queues) {
        b |= queue[i].b[0] | queue[i].b[1];
        for (const uint32_t word : queue[i].a)
            not_finite |= (word & 0x7fff7fff) + 0x04000400;  // into the sign, from the largest exponent alone
    }
    return b == 0 && (not_finite & 0x80008000) == 0;
}

inline void multiply_warp(void* const lanes[]) {
    const sim::Product* queues[sim::WARP];
    const size_t count = static_cast<std::vector<sim::Product>*>(lanes[0])->size();
    for (uint32_t lane = 0; lane < sim::WARP; lane++) {
        auto& queue = *static_cast<std::vector<sim::Product>*>(lanes[lane]);
        if (queue.size() != count) sim::fail("%zu matrix products, and %zu of another lane", count, queue.size());
        queues[lane] = queue.data();
        queue.clear();
    }
    Matrices matrices;
    for (size_t i = 0; i < count; i++) {
        if (adds_zeros(queues, i)) continue;
        // Often the same pixels as before, for other outputs.
        bool same_a = i > 0;
        for (uint32_t lane = 0; lane < sim::WARP && same_a; lane++)
            same_a = memcmp(queues[lane][i].a, queues[lane][i - 1].a, sizeof(queues[lane][i].a)) == 0;
        for (uint32_t lane = 0; lane < sim::WARP; lane++) {
            if (!same_a) matrices.set_a(lane, queues[lane][i].a);
            matrices.set_b(lane, queues[lane][i].b);
        }
        Columns products[16][2];
        matrices.multiply(products);
        for (uint32_t lane = 0; lane < sim::WARP; lane++) {
            const uint32_t group = lane / 4, column = lane % 4 * 2;
            float* const sums = queues[lane][i].sums;
            for (uint32_t sum = 0; sum < 4; sum++)
                sums[sum] += products[group + sum / 2 * 8][column / 4][column % 4 + sum % 2];
        }
    }
}
inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    sim::products().push_back({sums, {a[0], a[1], a[2], a[3]}, {b0, b1}});
}
inline void sums_ready() { sim::warp(multiply_warp, &sim::products()); }
