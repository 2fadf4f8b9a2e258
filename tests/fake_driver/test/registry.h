// In place of tests/kernels/registry.h: the self-test's kernels.

#pragma once
#include <cstddef>

struct Kernel {
    const char* name;
    size_t params_bytes;
    void (*run)(const void* params);
};

const Kernel* find_kernel(const char* name);
