// The host's version of CUDA's own words, for kernel sources, and the part of the shim that the PTX twins call
// (ptx_host.h).

#pragma once
#include <cmath>
#include <cstring>
#include <vector>

#include "in_order.h"
#include "shim.h"

#define __global__
#define __device__
#define __grid_constant__
#define __restrict__
#define __forceinline__ inline
#define __launch_bounds__(...)

extern Dim3 threadIdx, blockIdx, blockDim, gridDim;

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

namespace sim {

// Ends the launch with this text (as printf).
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Dynamic shared memory of the running block.
uint8_t* shared();

// Checked address of `bytes` bytes of shared memory at byte `offset`, aligned to `alignment`.
uint8_t* shared_at(uint32_t offset, size_t bytes, size_t alignment);

// Byte offset of a pointer into shared memory.
uint32_t shared_offset(const void* pointer);

// Waits for all threads of the block; returns whether any of them came with `value`.
bool barrier(bool value);

// Waits for the 32 threads of the warp, who must all come with the same `operation`: it is called once, with every
// thread's `mine`.
constexpr int WARP = 32;
using Operation = void (*)(void* const lanes[WARP]);
void warp(Operation operation, void* mine);

// A matrix product that the thread has its part of, and the warp has yet to make.
struct Product {
    float* sums;
    uint32_t a[4], b[2];
};
// The running thread's; there must be none when it leaves.
std::vector<Product>& products();

// cp.async of 16 bytes, of which the first `bytes` come from `from` and the rest are zeros.
void copy_async(uint32_t to, const void* from, uint32_t bytes);
void commit_copies();
// Until at most `pending` of the thread's latest groups have not arrived.
void wait_copies(size_t pending);

// ------------------------------------------------------------- what only Hopper has (ptx_90a_host.h)

// The same as warp(), for the 128 threads of a warpgroup.
constexpr int WARPGROUP = 128;
void warpgroup(Operation operation, void* mine);

// Registers of each thread of the running warpgroup. All warpgroups together must fit what the block began with.
void set_registers(uint32_t count, bool more);

// An mbarrier at byte `at` of shared memory.
void init_phases(uint32_t at, uint32_t count);
void publish_to_async();
// Sixteen bytes of shared memory that cp.async has written: products may not read them before a fence that comes later.
void copied(uint32_t to);
bool is_published(uint32_t at);
void arrive(uint32_t at);
void expect_bytes(uint32_t at, uint32_t bytes);
void arrive_after_copies(uint32_t at);
void wait_phase(uint32_t at, uint32_t parity);
void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier);

// wgmma: sums += a b. What the pointers lead to is read when the product is made.
struct WarpgroupProduct {
    uint32_t outputs;
    uint64_t b;         // matrix descriptor
    float* sums[WARPGROUP];
    const uint32_t* a[WARPGROUP];

    void end() const;
};
// The running warpgroup's, for which the operation that calls this runs.
InOrder<WarpgroupProduct>& warpgroup_products();
void begin_product(const WarpgroupProduct& product);

// The running thread has written registers that products may read: they need a fence.
void registers_written();
// The running warpgroup's fence.
void fence_registers();

}  // namespace sim
