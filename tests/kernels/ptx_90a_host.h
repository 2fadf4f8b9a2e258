// Host twins of kernels/ptx_90a.cuh.

#pragma once
#include "warpgroup_products.h"

// ---------------------------------------------------------------------------------------- threads and warps

// The number that all threads of a warpgroup bring.
inline uint32_t same_number(void* const lanes[], const char* what) {
    const uint32_t number = *static_cast<uint32_t*>(lanes[0]);
    for (uint32_t i = 1; i < sim::WARPGROUP; i++)
        if (*static_cast<uint32_t*>(lanes[i]) != number)
            sim::fail("%s: %u, and %u of another thread", what, number, *static_cast<uint32_t*>(lanes[i]));
    return number;
}

template <int COUNT, bool MORE> inline void set_registers() {
    static_assert(COUNT % 8 == 0 && COUNT >= 24 && COUNT <= 256);
    uint32_t count = COUNT;
    sim::warpgroup([](void* const lanes[]) { sim::set_registers(same_number(lanes, "registers"), MORE); }, &count);
}
template <int COUNT> inline void give_registers() { set_registers<COUNT, false>(); }
template <int COUNT> inline void take_registers() { set_registers<COUNT, true>(); }

// ----------------------------------------------------------------------------------------- phase barriers

using sim::arrive;
using sim::arrive_after_copies;
using sim::copy_bulk;
using sim::init_phases;
using sim::publish_to_async;
inline void arrive_expecting(uint32_t barrier, uint32_t bytes) {
    sim::expect_bytes(barrier, bytes);
    sim::arrive(barrier);
}
// The shim fails the test at once if nothing can come any more.
inline void wait_phase(uint32_t barrier, uint32_t parity, bool&) { sim::wait_phase(barrier, parity); }

// ------------------------------------------------------------------------------------- products of warpgroups

inline void warpgroup_fence() {
    sim::warpgroup([](void* const[]) { sim::fence_registers(); }, nullptr);
}
inline void warpgroup_commit() {
    sim::warpgroup([](void* const[]) { sim::warpgroup_products().commit(); }, nullptr);
}
template <int PENDING> inline void warpgroup_wait() {
    sim::warpgroup([](void* const[]) { sim::warpgroup_products().wait(PENDING); }, nullptr);
}

struct WarpgroupLane {
    float* sums;
    const uint32_t* a;
    uint64_t b;
    uint32_t outputs;
};
inline void begin_product(void* const lanes[]) {
    const auto& first = *static_cast<WarpgroupLane*>(lanes[0]);
    sim::WarpgroupProduct product{first.outputs, first.b, {}, {}};
    for (uint32_t i = 0; i < sim::WARPGROUP; i++) {
        const auto& lane = *static_cast<WarpgroupLane*>(lanes[i]);
        if (lane.b != first.b || lane.outputs != first.outputs) {
            sim::fail("a product with %llx, and %llx of another thread", (unsigned long long)first.b,
                      (unsigned long long)lane.b);
        }
        product.sums[i] = lane.sums;
        product.a[i] = lane.a;
    }
    sim::begin_product(product);
}
template <int EIGHTS> inline void warpgroup_multiply_add(float (&sums)[EIGHTS][4], const uint32_t (&a)[4], uint64_t b) {
    static_assert(EIGHTS == 8 || EIGHTS == 16, "as in ptx_90a.cuh");
    WarpgroupLane lane{&sums[0][0], a, b, EIGHTS * 8};
    sim::warpgroup(begin_product, &lane);
}
