// The fake driver's self-test: every promise of fake_driver/control.h and of its files' heads, shown.
//
//     make a library of fake_driver/*.cc, kernels.cc; link this against it; run it

#include <dlfcn.h>

#include "testing.h"

// What the test of the environment starts: leaves a stream and an allocation behind.
static int leaking_program() {
    CUcontext context;
    CUstream stream;
    CUdeviceptr pointer;
    int major = 0;
    if (cuInit(0) != CUDA_SUCCESS) return 3;
    OK(cuDevicePrimaryCtxRetain(&context, 1));
    OK(cuCtxSetCurrent(context));
    OK(cuDeviceGetAttribute(&major, CAPABILITY_MAJOR, 1));
    CHECK(major == 9);
    OK(cuStreamCreate(&stream, 0));
    OK(cuMemAlloc_v2(&pointer, 1000));
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&pointer, 8));     // the second call, made to fail
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&pointer, 2000));  // 2500 bytes in all
    return 0;
}

int main(int count, char** arguments) {
    setenv("SELF_TEST", arguments[0], 1);
    if (count > 1 && strcmp(arguments[1], "leaking") == 0) return leaking_program();
    // Whoever asks for libcuda.so gets what is loaded, by its SONAME.
    CHECK(dlsym(dlopen("libcuda.so", RTLD_NOW), "cuInit") == reinterpret_cast<void*>(&cuInit));
    machine_tests();
    memory_tests();
    order_tests();
    capture_tests();
    failure_tests();
}
