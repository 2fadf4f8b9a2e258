// Every instruction of the GPU that a kernel names, as an inline function. tests/kernels/ptx_host.h has the same
// functions for the host: a kernel that uses only these compiles for both. Names and numbers follow the PTX ISA 8.4.

#pragma once
#ifdef PATCHMASK_HOST
#include "ptx_host.h"
#else

#include "types.h"

// Names the block's dynamic shared memory, the only one that kernels use. 128 bytes are the period of its banks.
#define SHARED_MEMORY(NAME) extern __shared__ __align__(128) uint8_t NAME[]

// An array at byte `byte` of shared memory.
template <class T>
class SharedArray {
public:
    __device__ SharedArray(uint8_t* shared, uint32_t byte) : first(reinterpret_cast<T*>(shared + byte)) {}
    __device__ T& operator[](int index) const { return first[index]; }

private:
    T* first;
};

// Address of a byte of shared memory, for the functions below.
__device__ inline uint32_t shared_address(const void* pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// ----------------------------------------------------------------------------------- threads and warps

__device__ inline void barrier() { __syncthreads(); }
__device__ inline bool barrier_any(bool value) { return __syncthreads_or(value) != 0; }

// All 32 threads of a warp come to these.
__device__ inline uint32_t shuffle_xor(uint32_t value, int mask) { return __shfl_xor_sync(0xffffffffu, value, mask); }
__device__ inline uint32_t ballot(bool value) { return __ballot_sync(0xffffffffu, value); }
__device__ inline void warp_barrier() { __syncwarp(); }

__device__ inline int count_bits(uint32_t bits) { return __popc(bits); }

// ----------------------------------------------------------------------------------------------- memory

__device__ inline uint32_t atomic_add(uint32_t* to, uint32_t value) { return atomicAdd(to, value); }
__device__ inline void atomic_add(unsigned long long* to, unsigned long long value) { atomicAdd(to, value); }
__device__ inline void atomic_or(uint32_t* to, uint32_t bits) { atomicOr(to, bits); }

// 16 bytes of shared memory, later: the first `bytes` (0..16) from `from`, then zeros. Both aligned to 16.
__device__ inline void copy_async(uint32_t to, const void* from, uint32_t bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(__cvta_generic_to_global(from)),
                 "r"(bytes)
                 : "memory");
}

// Makes a group of the thread's copies since the last one.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING of the thread's latest groups have not arrived.
template <int PENDING>
__device__ inline void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// ---------------------------------------------------------------------------------------------- numbers

__device__ inline float half_bits_to_float(uint16_t half) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(half));
    return value;
}

// Two fp16 in a word, rounded to nearest, ties to even.
__device__ inline uint32_t pack_halves(float low, float high) {
    uint32_t word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}

// The maximum; NaN if either is. +0 is above -0.
__device__ inline float max_or_nan(float a, float b) {
    float value;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(value) : "f"(a), "f"(b));
    return value;
}
__device__ inline uint32_t max_halves(uint32_t a, uint32_t b) {
    uint32_t word;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(word) : "r"(a), "r"(b));
    return word;
}

// a b + c, rounded once. The kernels are compiled with --fmad=false: nothing else is fused.
__device__ inline float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// --------------------------------------------------------------------------------------- matrix products

// ldmatrix: four 8x8 matrices of fp16. Lane 8 i + r gives the address of row r of matrix i (16 bytes, aligned);
// words[i] of lane l becomes elements 2 (l % 4) and 2 (l % 4) + 1 of row l / 4.
__device__ inline void load_matrices(uint32_t (&words)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
}

// mma.m16n8k16: sums += a b for a of 16 x 16 and b of 16 x 8 fp16, sums in f32, which are read after sums_ready().
__device__ inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// Nothing to do on a GPU, which waits where it must. On the host a warp makes its products here, all at once.
__device__ inline void sums_ready() {}

#endif

// ------------------------------------------------------------------------------------------ on both sides

// Whether the call is to stop; the same for all threads of the block.
__device__ inline bool cancelled(const volatile uint32_t* cancel) {
    return barrier_any(threadIdx.x == 0 && *cancel != 0);
}
