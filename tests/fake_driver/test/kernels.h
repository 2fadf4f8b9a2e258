// Parameters of the self-test's kernels, and the PTX that announces them.

#pragma once
#include <cstdint>

// add: to[i] = from[i] + addend. A count beyond the arrays is how the tests make it write out of bounds.
struct AddParams {
    const uint32_t* from;
    uint32_t* to;
    uint64_t count;
    uint32_t addend;
};

constexpr char PTX[] =
    ".version 8.4\n.target sm_80\n.address_size 64\n"
    ".visible .entry add(\n\t.param .align 8 .b8 add_param_0[32]\n)\n.maxntid 128, 1, 1\n{ ret; }\n"
    ".visible .entry broken(\n\t.param .align 8 .b8 broken_param_0[32]\n)\n{ ret; }\n"
    ".visible .entry resized(\n\t.param .align 8 .b8 resized_param_0[40]\n)\n{ ret; }\n"
    ".visible .entry unbuilt(\n\t.param .align 8 .b8 unbuilt_param_0[32]\n)\n{ ret; }\n";
