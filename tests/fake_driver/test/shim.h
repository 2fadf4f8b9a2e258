// In place of tests/kernels/shim.h: the part of it that the fake driver uses.

#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

struct Dim3 {
    unsigned x, y, z;
};

namespace sim {

enum class Completion { Eager, Lazy, Random };
void configure(Completion completion, uint64_t seed);
std::string launch(Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& body);

}  // namespace sim
