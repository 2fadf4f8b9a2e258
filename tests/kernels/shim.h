// Runs CUDA kernels on the host: every CUDA thread is a fiber, blocks run one after another.
//
//     launch:  for every block, in random order:
//                  poison shared memory; start every thread
//                  until all have left: continue a random one of those that nothing holds up
//                  check that nobody wrote beside shared memory
//
// Threads wait for one another only where they would on a GPU: at a barrier, and at the operations of a warp. What a
// kernel leaves to chance there is left to chance here: a missing barrier or wait gives a wrong result under some seed.
// The kernels' side of this file is device.h.

#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

struct Dim3 {
    unsigned x, y, z;
};

namespace sim {

// When an asynchronous copy (cp.async) arrives: at once, when it is waited for, or either. shim_90a.cc: the same of
// what else is asynchronous.
enum class Completion { Eager, Lazy, Random };

void configure(Completion completion, uint64_t seed);

// Most dynamic shared memory that a launch may ask for: what a block of sm_90 can have.
constexpr size_t MOST_SHARED_BYTES = 227 * 1024;

// Runs `body` once for every thread. Returns "", or the first thing that went wrong; the rest is then not run.
// One launch at a time.
std::string launch(Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& body);

}  // namespace sim

inline std::string run_block(unsigned threads, size_t shared_bytes, const std::function<void()>& body) {
    return sim::launch({1, 1, 1}, {threads, 1, 1}, shared_bytes, body);
}
