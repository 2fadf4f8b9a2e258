// The instructions of sm_90a, that is of Hopper alone: as ptx.cuh. tests/kernels/ptx_90a_host.h has the same functions
// for the host.
//
// A warpgroup is four warps in a row, of which the first is a multiple of four.

#pragma once
#include "ptx.cuh"
#ifdef PATCHMASK_HOST
#include "ptx_90a_host.h"
#else

// ---------------------------------------------------------------------------------------- threads and warps

// All 128 threads of a warpgroup come to these: each has COUNT registers from here on, a multiple of 8. take_registers
// waits until other warpgroups have given enough of them back.
template <int COUNT>
__device__ inline void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ inline void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// ----------------------------------------------------------------------------------------- phase barriers

// An mbarrier is 8 bytes of shared memory. Its phase is over when `count` arrivals and all expected bytes have come;
// the next one begins at once. Parities of phases: 0, 1, 0 ... from the first. What a thread has written or read
// before it arrives has happened for whoever has waited.
__device__ inline void init_phases(uint32_t barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}

// What this thread has written to shared memory, or has waited for, phase barriers too, is there for the copies and
// products below, which go their own way to it (the async proxy).
__device__ inline void publish_to_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and has the phase wait for so many bytes of copy_bulk.
__device__ inline void arrive_expecting(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

// Arrives once the copies (copy_async) that the thread has begun are there.
__device__ inline void arrive_after_copies(uint32_t barrier) {
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ inline bool is_phase_over(uint32_t barrier, uint32_t parity) {
    uint32_t over;
    asm volatile(
        "{\n\t"
        ".reg .pred over;\n\t"
        "mbarrier.try_wait.parity.shared::cta.b64 over, [%1], %2;\n\t"
        "selp.u32 %0, 1, 0, over;\n\t"
        "}"
        : "=r"(over)
        : "r"(barrier), "r"(parity)
        : "memory");
    return over != 0;
}

// In units of 2^32 nanoseconds, 4.3 s: one register.
__device__ inline uint32_t globaltimer_high() {
    uint32_t now;
    asm volatile("mov.u32 %0, %globaltimer_hi;" : "=r"(now));
    return now;
}

// Waits for the end of the phase that has this parity: returns at once while the phase after it runs. What is waited
// for comes within microseconds; where it does not come in 4 to 9 seconds, or `timed_out` is set, goes on without and
// sets `timed_out`: a defect must not hang the host.
//
// The clock is read only where the first look finds nothing: reading it stands in the way of the products around it.
__device__ inline void wait_phase(uint32_t barrier, uint32_t parity, bool& timed_out) {
    if (is_phase_over(barrier, parity) || timed_out) {
        return;
    }
    const uint32_t began = globaltimer_high();
    do {
        timed_out = globaltimer_high() - began > 1;
    } while (!timed_out && !is_phase_over(barrier, parity));
}

// `bytes` bytes of shared memory, later; then they count for the barrier's phase. All multiples of 16.
__device__ inline void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(__cvta_generic_to_global(from)), "r"(bytes), "r"(barrier)
        : "memory");
}

// ------------------------------------------------------------------------------------- products of warpgroups

// All 128 threads of a warpgroup come to these. Products run by themselves, one after another: from
// warpgroup_multiply_add until their group has been waited for, nobody may touch their sums and `a`, nor write to
// their b in shared memory.

// Before the first product, and before one of registers that have been written since.
__device__ inline void warpgroup_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

// Makes a group of the products since the last one.
__device__ inline void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most PENDING of the latest groups are not done.
template <int PENDING>
__device__ inline void warpgroup_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

// sums += a b for a of 64 x 16 and b of 16 x N fp16, N = 128 or 64, sums in f32. Warp w of the warpgroup has rows 16 w
// to 16 w + 15 of `a` and of the sums, as fragments of mma.m16n8k16: sums[j] are outputs 8 j to 8 j + 7. `b` is a
// matrix descriptor.
#define SUMS_1(J) "+f"(sums[J][0]), "+f"(sums[J][1]), "+f"(sums[J][2]), "+f"(sums[J][3])
#define SUMS_4(J) SUMS_1(J), SUMS_1(J + 1), SUMS_1(J + 2), SUMS_1(J + 3)
#define PLACES_32                                                          \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
    "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define PLACES_64                                                                             \
    PLACES_32 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
              "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

__device__ inline void warpgroup_multiply_add(float (&sums)[8][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
        "{" PLACES_32 "}, "
        "{%32, %33, %34, %35}, %36, 1, 1, 1, 0;"
        : SUMS_4(0), SUMS_4(4)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ inline void warpgroup_multiply_add(float (&sums)[16][4], const uint32_t (&a)[4], uint64_t b) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
        "{" PLACES_64 "}, "
        "{%64, %65, %66, %67}, %68, 1, 1, 1, 0;"
        : SUMS_4(0), SUMS_4(4), SUMS_4(8), SUMS_4(12)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef SUMS_1
#undef SUMS_4
#undef PLACES_32
#undef PLACES_64

#endif

// ------------------------------------------------------------------------------------------ on both sides

// Descriptor of a matrix of rows of 64 fp16 whose first is at byte `address` of shared memory, one after
// the other. 16-byte pieces are swizzled as in fragments.cuh (CHUNK 64), rows counted from a
// multiple of 1024, which is what the hardware calls the 128-byte swizzle: bits of the address are what it looks at. 16
// elements further along the rows is descriptor + 2. Fields ("Matrix Descriptor Format"): bits 0-13 address / 16; 16-29
// not used with this swizzle, 1; 32-45 bytes of eight rows / 16; 62-63 swizzle, 1.
__device__ inline uint64_t rows_of_64(uint32_t address) {
    return uint64_t((address & 0x3ffff) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}
