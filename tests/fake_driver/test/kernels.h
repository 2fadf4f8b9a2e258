// What the self-test's kernels take, and the PTX that announces them.

#pragma once
#include <cstdint>

// add: to[i] = from[i] + addend. A count beyond the arrays is how the tests make it write out of bounds.
struct AddParams {
    const uint32_t* from;
    uint32_t* to;
    uint64_t count;
    uint32_t addend;
};

constexpr char PTX[] = R"(
.version 8.4
.target sm_80
.address_size 64
.visible .entry add(
	.param .align 8 .b8 add_param_0[32]
)
.maxntid 128, 1, 1
{ ret; }
.visible .entry broken(
	.param .align 8 .b8 broken_param_0[32]
)
{ ret; }
.visible .entry resized(
	.param .align 8 .b8 resized_param_0[40]
)
{ ret; }
.visible .entry unbuilt(
	.param .align 8 .b8 unbuilt_param_0[32]
)
{ ret; }
)";
