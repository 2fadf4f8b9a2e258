// Modules and kernels: what a PTX text says about its kernels, and running their host twins.

#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "driver.h"
#include "registry.h"
#include "shim.h"

namespace fake_driver {

struct Context;

// A kernel as the PTX declares it.
struct Entry {
    std::string name;
    size_t params_bytes = 0;   // of its one parameter, a struct; 0: not said
    unsigned max_threads = 0;  // 0: not said
    bool traps = false;        // its code has a trap, which is all that is known of a kernel without a host twin
};

struct Ptx {
    int version = 0;    // 84: ISA 8.4
    int target = 0;     // 80: sm_80
    bool only = false;  // sm_90a: for that capability alone
    std::vector<Entry> entries;
};

// False: not PTX.
bool read_ptx(const char* text, Ptx& ptx);

struct Module {
    std::shared_ptr<Context> context;
    Ptx ptx;
};

struct Function {
    std::shared_ptr<Context> context;
    CUmodule module;
    Entry entry;
    const Kernel* kernel;
    int max_dynamic_shared = 48 << 10;
};

struct Launch {
    std::string name;
    const Kernel* kernel;
    Dim3 grid;
    Dim3 block;
    size_t shared_bytes;
    std::vector<uint8_t> params;  // a copy of the struct
};

// Why the parameters cannot be right: a word of them that looks like a device pointer leads to no live memory of the
// context's device, nor to pinned memory. "" if they may be.
std::string complaint(const Launch& launch, const Context& context);

void run(const Launch& launch, Context& context);

}  // namespace fake_driver
