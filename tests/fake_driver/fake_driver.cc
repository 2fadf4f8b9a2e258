// A fake CUDA driver, for machines without a GPU: libcuda.so.1 on the CPU, in one object (it compiles three times as
// fast). Host code that uses the driver runs against it unchanged, kernels run as their host twins, and what would be
// wrong on a GPU is made to show: see control.h for what a test can ask and arrange.
//
//     api_*.cc    the exported functions: arguments, order of checks, error numbers
//     enter.h     what all of them do first
//     streams     queues, events, who runs next          graphs    capture and replay
//     memory      poison, red zones, bounds              modules   PTX, launches
//     world       devices, contexts, live objects        faults    calls that are to fail
//
// Compiled with tests/kernels/registry.cc and shim.cc (tests/support/fake_driver.rs, Makefile), for its self-test with
// test/kernels.cc in their place. flags gives the SONAME that makes a later dlopen("libcuda.so") find the loaded
// library, and keeps it loaded, with its state.

#include "api_devices.cc"
#include "api_graphs.cc"
#include "api_memory.cc"
#include "api_modules.cc"
#include "api_streams.cc"
#include "control.cc"
#include "graphs.cc"
#include "memory.cc"
#include "modules.cc"
#include "streams.cc"
#include "world.cc"
