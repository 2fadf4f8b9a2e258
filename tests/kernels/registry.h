// The kernels by name, compiled for the host.

#pragma once
#include <cstddef>

struct Kernel {
    const char* name;
    size_t params_bytes;              // of the one struct that it takes by value
    void (*run)(const void* params);  // as one thread, inside sim::launch
};

// Null where there is no such kernel.
const Kernel* find_kernel(const char* name);
