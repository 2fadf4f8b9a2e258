// The machine that is played: driver, devices, contexts, modules.

#include <dlfcn.h>

#include "testing.h"

TEST(asked_for_libcuda_the_loader_gives_what_is_loaded) {
    CHECK(dlsym(dlopen("libcuda.so", RTLD_NOW), "cuInit") == reinterpret_cast<void*>(&cuInit));
}

TEST(driver_and_devices) {
    int number = 0;
    char name[64];
    CUuuid uuids[2];
    CHECK(fake_driver_reset() == 0);
    OK(cuDriverGetVersion(&number));
    CHECK(number == 12040);
    GIVES(CUDA_ERROR_NOT_INITIALIZED, cuDeviceGetCount(&number));
    fake_driver_init_error(CUDA_ERROR_STUB_LIBRARY);
    GIVES(CUDA_ERROR_STUB_LIBRARY, cuInit(0));
    fake_driver_init_error(CUDA_SUCCESS);
    fake_driver_devices(0, 8, 0, 1 << 20, 0);
    GIVES(CUDA_ERROR_NO_DEVICE, cuInit(0));
    fake_driver_devices(2, 8, 9, 5000000000, 99 << 10);
    fake_driver_driver_version(11000);
    OK(cuInit(0));
    OK(cuDriverGetVersion(&number));
    CHECK(number == 11000);
    OK(cuDeviceGetCount(&number));
    CHECK(number == 2);
    GIVES(CUDA_ERROR_INVALID_DEVICE, cuDeviceGet(&number, 2));
    OK(cuDeviceGetName(name, sizeof name, 1));
    CHECK(strcmp(name, "Fake GPU 1") == 0);
    OK(cuDeviceGetUuid(&uuids[0], 0));
    OK(cuDeviceGetUuid(&uuids[1], 1));
    CHECK(memcmp(&uuids[0], &uuids[1], sizeof uuids[0]) != 0);
    OK(cuDeviceGetAttribute(&number, CAPABILITY_MINOR, 0));
    CHECK(number == 9);
    OK(cuDeviceGetAttribute(&number, MAX_SHARED_OPTIN, 0));
    CHECK(number == 99 << 10);
    const char* text = nullptr;
    OK(cuGetErrorName(CUDA_ERROR_OUT_OF_MEMORY, &text));
    CHECK(strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY") == 0);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuGetErrorString(static_cast<CUresult>(12345), &text));
}

TEST(contexts) {
    CHECK(fake_driver_reset() == 0);
    OK(cuInit(0));
    CUcontext own, primary, current;
    CUdeviceptr pointer;
    CUstream stream;
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuMemAlloc_v2(&pointer, 8));
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxSynchronize());
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuCtxSetCurrent(reinterpret_cast<CUcontext>(0x123450)));
    OK(cuCtxGetCurrent(&current));
    CHECK(current == nullptr);

    // A host's own context is current again after another was pushed and popped.
    OK(cuCtxCreate_v2(&own, 0, 0));
    OK(cuDevicePrimaryCtxRetain(&primary, 0));
    OK(cuDevicePrimaryCtxRetain(&current, 0));
    CHECK(primary == current && primary != own);
    CHECK(fake_driver_live("context") == 3);
    OK(cuCtxPushCurrent_v2(primary));
    OK(cuStreamCreate(&stream, 0));
    OK(cuCtxPopCurrent_v2(&current));
    CHECK(current == primary);
    OK(cuCtxGetCurrent(&current));
    CHECK(current == own);

    // A stream belongs to its context.
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(stream));
    OK(cuStreamDestroy_v2(stream));
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamDestroy_v2(stream));

    OK(cuCtxSetCurrent(primary));  // in place of own
    OK(cuDevicePrimaryCtxRelease_v2(0));
    OK(cuCtxSynchronize());
    OK(cuDevicePrimaryCtxRelease_v2(0));
    GIVES(CUDA_ERROR_INVALID_CONTEXT, cuDevicePrimaryCtxRelease_v2(0));
    GIVES(CUDA_ERROR_CONTEXT_IS_DESTROYED, cuCtxSynchronize());
    OK(cuCtxDestroy_v2(own));
    OK(cuCtxSetCurrent(nullptr));
    CHECK(fake_driver_live("") == 0);
}

TEST(modules) {
    Gpu gpu;
    CUmodule module;
    CUfunction function;
    GIVES(CUDA_ERROR_INVALID_IMAGE, cuModuleLoadData(&module, "not PTX"));
    fake_driver_driver_version(12030);
    GIVES(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, cuModuleLoadData(&module, PTX));
    fake_driver_driver_version(12040);
    fake_driver_devices(1, 7, 5, 1 << 30, 64 << 10);
    GIVES(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&module, PTX));
    // PTX for one capability alone.
    const char* const only = ".version 8.4\n.target sm_90a\n.address_size 64\n";
    for (const int major : {8, 10}) {
        fake_driver_devices(1, major, 0, 1 << 30, 227 << 10);
        GIVES(CUDA_ERROR_INVALID_PTX, cuModuleLoadData(&module, only));
    }
    fake_driver_devices(1, 9, 0, 1 << 30, 227 << 10);
    OK(cuModuleLoadData(&module, only));
    OK(cuModuleUnload(module));
    OK(cuModuleLoadData(&module, PTX));
    CHECK(fake_driver_live("module") == 2);
    GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "no_such_kernel"));
    CHECK(fake_driver_error()[0] == '\0');
    GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "resized"));
    CHECK(error_has("resized: takes 40 bytes of parameters in the PTX, 32 as built for the host"));
    GIVES(CUDA_ERROR_NOT_FOUND, cuModuleGetFunction(&function, module, "unbuilt"));
    OK(cuModuleGetFunction(&function, module, "add"));

    // Dynamic shared memory is 48 KiB unless asked for, and never beyond the opt-in limit.
    const CUdeviceptr array = gpu.array(4);
    const CUstream stream = gpu.stream();
    OK(gpu.launch(function, stream, array, array, 4, 0, 48 << 10));
    GIVES(CUDA_ERROR_INVALID_VALUE, gpu.launch(function, stream, array, array, 4, 0, 100 << 10));
    OK(cuFuncSetAttribute(function, FUNCTION_MAX_DYNAMIC_SHARED, 100 << 10));
    OK(gpu.launch(function, stream, array, array, 4, 0, 100 << 10));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuFuncSetAttribute(function, FUNCTION_MAX_DYNAMIC_SHARED, 228 << 10));

    // Shapes that no device takes.
    AddParams p{};
    void* params[] = {&p};
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 0, 1, 1, 32, 1, 1, 0, stream, params, nullptr));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 65536, 1, 32, 1, 1, 0, stream, params, nullptr));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuLaunchKernel(function, 1, 1, 1, 256, 1, 1, 0, stream, params, nullptr));
    OK(cuModuleUnload(module));
    GIVES(CUDA_ERROR_INVALID_HANDLE, gpu.launch(function, stream, array, array, 4, 0));
    OK(cuStreamSynchronize(stream));
    CHECK(fake_driver_kernel_runs() == 2);
}
