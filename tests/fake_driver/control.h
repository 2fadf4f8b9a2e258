// How a test controls the fake driver: which machine it plays, what fails and when, and what is still live.
//
// A program that cannot call these sets PATCHMASK_FAKE_DRIVER instead, read when the library is loaded; settings by
// commas, each as the function of that name below, with its numbers by colons:
//
//     devices=N  sm=80  memory=BYTES  optin=BYTES  driver=12040  init=ERROR  fail=CALL:NTH:ERROR (repeatable)
//     lose=DEVICE:LAUNCHES  spoil=KERNEL:FAULT (repeatable)  completion=0|1|2  seed=N  report=FILE
//
// `report` writes, when the program ends, one line per kind of object still live, the number of kernel runs, and the
// first error's text. A setting that cannot be read ends the program with status 97 and a line on stderr.

#pragma once
#include <cstdint>

#pragma GCC visibility push(default)
extern "C" {
// Forgets faults, counts, losses and the error text, and goes back to the default machine: one device of
// capability 8.0 with 1 GiB and 163 KiB of opt-in shared memory, driver 12.4, random completion with seed 1. Live
// objects stay; returns how many there are (0 in a test that cleaned up). cuInit must be called again.
uint64_t fake_driver_reset(void);

// Before cuInit. 0 devices: cuInit gives CUDA_ERROR_NO_DEVICE. At most 8.
void fake_driver_devices(int count, int major, int minor, uint64_t memory_bytes, uint64_t shared_optin_bytes);
void fake_driver_driver_version(int version);

// What cuInit returns: 34 a stub library, 100 no device, 0 success.
void fake_driver_init_error(int cuda_error);

// The nth call of this name from now on, counted from 1, returns the error, once, and has no other effect; only
// frees, destroys, unloads and releases are carried out all the same. Several may be set.
void fake_driver_fail(const char* call, uint64_t nth, int cuda_error);

// From now on the kernel of this name goes wrong: 1 does nothing when it runs, which is what a wrong kernel is to the
// host, 2 traps, 3 never ends, 4 its module cannot be loaded. 0: no longer.
void fake_driver_spoil(const char* kernel, int fault);

// The device is lost after so many more kernel runs (0: now), as it is to the process after a trap. From then on every call
// in its contexts, and every one that wants a context, does nothing but return CUDA_ERROR_LAUNCH_FAILED (as an H200 does with
// driver 580), save that what is freed no longer counts as live. Getting, setting, pushing and popping the current context
// always work.
void fake_driver_lose_device(int device, uint64_t after_launches);

// When work runs. 0 eager: when it is enqueued. 1 lazy: only when it is waited for, and only what that wait needs.
// 2 random: at any time, in any order that streams and events allow. Kernels' asynchronous copies follow suit.
void fake_driver_completion(int mode, uint64_t seed);

// How often a function was called, by its exported name ("": all functions together). "pageable": asynchronous copies
// to a device from memory that is not page-locked, for which the real driver may wait.
uint64_t fake_driver_calls(const char* call);

// How many are live: "allocation", "bytes" (of allocations), "host", "stream", "event", "module", "graph", "exec",
// "context" (retains of primary contexts and created ones), or "" for all but bytes.
uint64_t fake_driver_live(const char* kind);

// Kernels that ran, graphs' included.
uint64_t fake_driver_kernel_runs(void);

// The first thing that went wrong: a kernel's error, a damaged red zone, a copy out of bounds, a pointer to memory
// that is not live ... "" if none. Valid until the next call of this function or of reset.
const char* fake_driver_error(void);
}
#pragma GCC visibility pop
