// Memory: poison, red zones, bounds, owners, limits.

#include "testing.h"

TEST(poison) {
    Gpu gpu;
    CHECK(Gpu::read(gpu.array(3), 3) == std::vector<uint32_t>(3, 0xFFFFFFFF));
    void* pinned;
    OK(cuMemHostAlloc(&pinned, 5, 0));
    CHECK(static_cast<unsigned char*>(pinned)[4] == 0xFF);
    CHECK(fake_driver_live("host") == 1);
    static_cast<unsigned char*>(pinned)[4] = 1;
    OK(cuMemFreeHost(pinned));
    CHECK(static_cast<unsigned char*>(pinned)[4] == 0xFF);  // still there, poisoned again
    CHECK(fake_driver_error()[0] == '\0');
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFreeHost(pinned));
    CHECK(error_has("freed before"));
}

// A kernel that writes past its array is found as soon as it has run.
TEST(write_past_the_end) {
    Gpu gpu;
    const CUdeviceptr from = gpu.array(8);
    const CUdeviceptr to = gpu.array(7);
    OK(cuMemsetD32Async(from, 1, 8, nullptr));
    OK(gpu.launch(gpu.add, nullptr, from, to, 8, 1));
    GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, cuCtxSynchronize());
    CHECK(error_has("found after add: allocation of 28 bytes"));
    CHECK(error_has("written 0 bytes past its end"));
}

// Host code that writes before pinned memory is found when it is freed; writes to freed memory are found too.
TEST(damage_by_the_host) {
    {
        Gpu gpu;
        void* pinned;
        OK(cuMemHostAlloc(&pinned, 100, 0));
        static_cast<char*>(pinned)[-3] = 0;
        OK(cuMemFreeHost(pinned));
        CHECK(error_has("written 3 bytes before its start"));
    }
    Gpu gpu;
    void* pinned;
    OK(cuMemHostAlloc(&pinned, 100, 0));
    OK(cuMemFreeHost(pinned));
    static_cast<char*>(pinned)[50] = 0;
    CHECK(error_has("written at byte 50 after it was freed"));
    static_cast<unsigned char*>(pinned)[50] = 0xFF;
}

TEST(bounds) {
    Gpu gpu;
    const CUdeviceptr array = gpu.array(10);
    uint32_t host[16] = {};
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(array, host, 44));
    CHECK(error_has("cuMemcpyHtoD_v2: 44 bytes from offset 0 leave the allocation of 40 bytes"));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyHtoD_v2(array + 20, host, 24));
    OK(cuMemcpyHtoD_v2(array + 20, host, 20));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD32Async(array - 4, 0, 1, nullptr));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD32Async(array, 0, 11, nullptr));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoH_v2(reinterpret_cast<void*>(array), array, 4));       // not host memory
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemcpyDtoD_v2(reinterpret_cast<CUdeviceptr>(host), array, 4));  // not device's
    OK(cuMemcpyHtoD_v2(array, host, 0));
}

TEST(limits) {
    Gpu gpu;
    fake_driver_devices(1, 8, 0, 1000, 0);
    CUdeviceptr first, second;
    size_t free = 0, total = 0;
    OK(cuMemAlloc_v2(&first, 600));
    CHECK(fake_driver_live("allocation") == 1 && fake_driver_live("bytes") == 600);
    OK(cuMemGetInfo_v2(&free, &total));
    CHECK(free == 400 && total == 1000);
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&second, 401));
    OK(cuMemAlloc_v2(&second, 400));
    OK(cuMemFree_v2(first));
    OK(cuMemFree_v2(second));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(second));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemAlloc_v2(&first, 0));
}

// Pointers of one device are none of another's.
TEST(two_devices) {
    Gpu gpu(LAZY, 1, 2);
    const CUdeviceptr array = gpu.array(4);
    CUcontext other;
    CUdeviceptr other_array;
    OK(cuDevicePrimaryCtxRetain(&other, 1));
    OK(cuCtxPushCurrent_v2(other));
    OK(cuMemAlloc_v2(&other_array, 16));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemsetD32Async(array, 0, 1, nullptr));
    CHECK(error_has("is memory of device 0, not of device 1"));
    GIVES(CUDA_ERROR_INVALID_VALUE, cuMemFree_v2(array));
    OK(cuMemFree_v2(other_array));
    OK(cuCtxPopCurrent_v2(nullptr));
    OK(cuDevicePrimaryCtxRelease_v2(1));
}

// A kernel's parameters must lead to live memory of its device, when it is launched and when it runs.
TEST(pointers_of_kernels) {
    {
        Gpu gpu;
        CUdeviceptr freed;
        OK(cuMemAlloc_v2(&freed, 16));
        OK(cuMemFree_v2(freed));
        GIVES(CUDA_ERROR_INVALID_VALUE, gpu.launch(gpu.add, nullptr, freed, gpu.array(4), 4, 0));
        CHECK(error_has("add: parameter at byte 0") && error_has("is in no live allocation"));
    }
    Gpu gpu;
    CUdeviceptr short_lived;
    OK(cuMemAlloc_v2(&short_lived, 16));
    const CUstream stream = gpu.stream();
    OK(gpu.launch(gpu.add, stream, gpu.array(4), short_lived, 4, 0));
    OK(cuMemFree_v2(short_lived));  // before the kernel ran
    GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
    CHECK(error_has("add: parameter at byte 8"));
}

TEST(attributes) {
    Gpu gpu;
    const CUdeviceptr array = gpu.array(4);
    void* pinned;
    OK(cuMemHostAlloc(&pinned, 64, 0));
    unsigned type = 0;
    int ordinal = -1;
    CUcontext context = nullptr;
    OK(cuPointerGetAttribute(&type, POINTER_MEMORY_TYPE, array + 5));
    OK(cuPointerGetAttribute(&ordinal, POINTER_DEVICE_ORDINAL, array));
    OK(cuPointerGetAttribute(&context, POINTER_CONTEXT, array));
    CHECK(type == MEMORY_DEVICE && ordinal == 0 && context == gpu.context);
    OK(cuPointerGetAttribute(&type, POINTER_MEMORY_TYPE, reinterpret_cast<CUdeviceptr>(pinned)));
    CHECK(type == MEMORY_HOST);
    const CUdeviceptr unknown = reinterpret_cast<CUdeviceptr>(&type);
    GIVES(CUDA_ERROR_INVALID_VALUE, cuPointerGetAttribute(&type, POINTER_MEMORY_TYPE, unknown));
    OK(cuMemFreeHost(pinned));
}
