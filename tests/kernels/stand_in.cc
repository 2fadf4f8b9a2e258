// A stand-in for the CUDA driver, for machines without a GPU: libcuda.so.1 on the CPU, in one object (it compiles
// three times as fast). Host code that uses the driver runs against it unchanged, kernels run as their host twins,
// and what would be wrong on a GPU is made to show: see control.h for what a test can ask and arrange.
//
//     api_*.cc    the exported functions: arguments, order of checks, error numbers
//     enter.h     what all of them do first
//     streams     queues, events, who runs next          graphs    capture and replay
//     memory      poison, red zones, bounds              modules   PTX, launches
//     world       devices, contexts, live objects        faults    calls that are to fail
//
// The library, from tests/kernels (its self-test takes -Istand_in_test and stand_in_test/kernels.cc in place of
// -I../../kernels, registry.cc and shim.cc; then link stand_in_test/main.cc and *_test.cc against it):
//
//     c++ -std=c++17 -O2 -fPIC -shared -fvisibility=hidden -I. -I../../kernels stand_in.cc registry.cc shim.cc
//         -Wl,-soname,libcuda.so -Wl,-z,nodelete -pthread -o libcuda.so.1 && ln -sf libcuda.so.1 libcuda.so
//
// The SONAME makes a later dlopen("libcuda.so") find the loaded one; a library once loaded stays, with its state.

#include "stand_in/api_devices.cc"
#include "stand_in/api_graphs.cc"
#include "stand_in/api_memory.cc"
#include "stand_in/api_modules.cc"
#include "stand_in/api_streams.cc"
#include "stand_in/control.cc"
#include "stand_in/graphs.cc"
#include "stand_in/memory.cc"
#include "stand_in/modules.cc"
#include "stand_in/streams.cc"
#include "stand_in/world.cc"
