// What a kernel source finds when it is compiled for the host in place of CUDA's own words, and the part of the
// shim that stands behind the PTX twins (ptx_host.h).

#pragma once
#include <cmath>
#include <cstring>
#include <vector>

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

}  // namespace sim
