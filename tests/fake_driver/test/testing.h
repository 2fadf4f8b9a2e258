// Checks, and a device in use: a retained context that is current, the test kernels, memory and streams of it.

#pragma once
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../control.h"
#include "../driver.h"
#include "check.h"
#include "kernels.h"

inline void check(bool holds, const char* expression, const char* file, int line) {
    if (!holds) {
        printf("FAILED %s:%d: %s\n  driver: %s\n", file, line, expression, fake_driver_error());
        exit(1);
    }
}

inline void check_result(CUresult expected, CUresult result, const char* call, const char* file, int line) {
    if (result != expected) {
        const char* names[2] = {"?", "?"};
        cuGetErrorName(result, &names[0]);
        cuGetErrorName(expected, &names[1]);
        printf("FAILED %s:%d: %s\n  is %s, must be %s\n  driver: %s\n", file, line, call, names[0], names[1],
               fake_driver_error());
        exit(1);
    }
}

#define CHECK(condition) check((condition), #condition, __FILE__, __LINE__)
#define GIVES(expected, call) check_result(expected, call, #call, __FILE__, __LINE__)
#define OK(call) GIVES(CUDA_SUCCESS, call)

enum { EAGER = 0, LAZY = 1, RANDOM = 2 };

inline bool error_has(const char* text) { return strstr(fake_driver_error(), text) != nullptr; }

// A fresh start, with everything freed at the end and nothing left over.
class Gpu {
public:
    CUcontext context = nullptr;
    CUmodule module = nullptr;
    CUfunction add = nullptr;
    CUfunction broken = nullptr;

    explicit Gpu(int completion = LAZY, uint64_t seed = 1, int devices = 1) {
        CHECK(fake_driver_reset() == 0);
        fake_driver_devices(devices, 8, 0, 1 << 30, 163 << 10);
        fake_driver_completion(completion, seed);
        OK(cuInit(0));
        OK(cuDevicePrimaryCtxRetain(&context, 0));
        OK(cuCtxSetCurrent(context));
        OK(cuModuleLoadData(&module, PTX));
        OK(cuModuleGetFunction(&add, module, "add"));
        OK(cuModuleGetFunction(&broken, module, "broken"));
    }
    Gpu(const Gpu&) = delete;
    // Results are left alone: the test may have broken the device.
    ~Gpu() {
        cuCtxSetCurrent(context);
        cuCtxSynchronize();
        for (const CUevent event : events_) cuEventDestroy_v2(event);
        for (const CUstream stream : streams_) cuStreamDestroy_v2(stream);
        for (const CUdeviceptr pointer : allocations_) cuMemFree_v2(pointer);
        cuModuleUnload(module);
        cuDevicePrimaryCtxRelease_v2(0);
        cuCtxSetCurrent(nullptr);
        CHECK(fake_driver_live("") == 0);
    }
    // A device array, poisoned.
    CUdeviceptr array(size_t count) {
        CUdeviceptr pointer;
        OK(cuMemAlloc_v2(&pointer, count * sizeof(uint32_t)));
        allocations_.push_back(pointer);
        return pointer;
    }
    CUdeviceptr array(const std::vector<uint32_t>& values) {
        const CUdeviceptr pointer = array(values.size());
        OK(cuMemcpyHtoD_v2(pointer, values.data(), values.size() * sizeof(uint32_t)));
        return pointer;
    }
    CUstream stream(unsigned flags = STREAM_NON_BLOCKING) {
        CUstream stream;
        OK(cuStreamCreate(&stream, flags));
        streams_.push_back(stream);
        return stream;
    }
    CUevent event(unsigned flags = EVENT_DISABLE_TIMING) {
        CUevent event;
        OK(cuEventCreate(&event, flags));
        events_.push_back(event);
        return event;
    }
    CUresult launch(CUfunction function, CUstream stream, CUdeviceptr from, CUdeviceptr to, uint64_t count,
                    uint32_t addend, unsigned shared_bytes = 0) {
        AddParams p{reinterpret_cast<uint32_t*>(from), reinterpret_cast<uint32_t*>(to), count, addend};
        void* params[] = {&p};
        const CUresult result = cuLaunchKernel(function, 1, 1, 1, 128, 1, 1, shared_bytes, stream, params, nullptr);
        memset(&p, 0, sizeof p);  // they were copied
        return result;
    }
    static std::vector<uint32_t> read(CUdeviceptr from, size_t count) {
        std::vector<uint32_t> values(count);
        OK(cuMemcpyDtoH_v2(values.data(), from, count * sizeof(uint32_t)));
        return values;
    }

private:
    std::vector<CUdeviceptr> allocations_;
    std::vector<CUstream> streams_;
    std::vector<CUevent> events_;
};
