// Things that go wrong: kernels, devices, chosen calls, and the settings of a whole program.

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "testing.h"

// A kernel's error stays with its context; a new context is well.
TEST(a_broken_kernel) {
    for (int round = 0; round < 2; ++round) {
        Gpu gpu;
        const CUstream stream = gpu.stream();
        const CUdeviceptr array = gpu.array(1);
        CUdeviceptr pointer;
        OK(gpu.launch(gpu.broken, stream, array, array, 1, 0));
        OK(cuMemsetD32Async(array, 0, 1, stream));
        GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, cuStreamSynchronize(stream));
        CHECK(strcmp(fake_driver_error(), "broken: thread 7 read past shared memory") == 0);
        GIVES(CUDA_ERROR_ILLEGAL_ADDRESS, cuMemAlloc_v2(&pointer, 4));
        CUcontext current;
        OK(cuCtxGetCurrent(&current));
        CHECK(current == gpu.context);
    }
}

// A lost device answers nothing, but what is freed counts as freed.
TEST(a_lost_device) {
    Gpu gpu;  // whose context and module are live, too
    CUcontext none;
    CUstream stream;
    CUevent event;
    CUdeviceptr array;
    void* pinned;
    OK(cuStreamCreate(&stream, 0));
    OK(cuEventCreate(&event, 0));
    OK(cuMemAlloc_v2(&array, 400));
    OK(cuMemHostAlloc(&pinned, 400, 0));
    fake_driver_lose_device(0, 2);
    for (int launch = 0; launch < 3; ++launch) {
        OK(gpu.launch(gpu.add, stream, array, array, 100, 1));
        GIVES(launch < 2 ? CUDA_SUCCESS : CUDA_ERROR_LAUNCH_FAILED, cuStreamSynchronize(stream));
    }
    CHECK(fake_driver_kernel_runs() == 2);
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuMemcpyDtoH_v2(pinned, array, 4));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuDevicePrimaryCtxRetain(&none, 0));
    CHECK(fake_driver_live("") == 6);
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuMemFree_v2(array));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuMemFreeHost(pinned));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuEventDestroy_v2(event));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuStreamDestroy_v2(stream));
    CHECK(fake_driver_live("") == 2);
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuModuleUnload(gpu.module));
    GIVES(CUDA_ERROR_LAUNCH_FAILED, cuDevicePrimaryCtxRelease_v2(0));
    CHECK(fake_driver_live("") == 0);
    CHECK(fake_driver_error()[0] == '\0');
}

TEST(chosen_calls_fail) {
    Gpu gpu;
    CUdeviceptr pointer;
    const uint64_t before = fake_driver_calls("cuMemAlloc_v2");
    fake_driver_fail("cuMemAlloc_v2", 2, CUDA_ERROR_OUT_OF_MEMORY);
    fake_driver_fail("cuMemAlloc_v2", 3, CUDA_ERROR_UNKNOWN);
    fake_driver_fail("cuMemFree_v2", 1, CUDA_ERROR_UNKNOWN);
    OK(cuMemAlloc_v2(&pointer, 4));
    GIVES(CUDA_ERROR_UNKNOWN, cuMemFree_v2(pointer));  // yet it is freed
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&pointer, 4));
    GIVES(CUDA_ERROR_UNKNOWN, cuMemAlloc_v2(&pointer, 4));
    CHECK(fake_driver_live("allocation") == 0);
    OK(cuMemAlloc_v2(&pointer, 4));
    OK(cuMemFree_v2(pointer));
    CHECK(fake_driver_calls("cuMemAlloc_v2") == before + 4);
    CHECK(fake_driver_calls("cuMemcpyDtoH_v2") == 0);
}

// Leaks are counted by kind; a context destroyed with work in it is noticed.
TEST(leaks) {
    CHECK(fake_driver_reset() == 0);
    fake_driver_completion(LAZY, 1);
    OK(cuInit(0));
    CUcontext context, again;
    CUstream stream;
    CUdeviceptr array;
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    OK(cuStreamCreate(&stream, 0));
    OK(cuMemAlloc_v2(&array, 400));
    OK(cuMemsetD32Async(array, 0, 100, stream));
    OK(cuDevicePrimaryCtxRelease_v2(0));
    CHECK(error_has("context destroyed while 1 tasks had not run"));
    CHECK(fake_driver_live("context") == 0 && fake_driver_live("stream") == 1);
    CHECK(fake_driver_live("bytes") == 400 && fake_driver_live("") == 2);
    CHECK(fake_driver_reset() == 2);  // it keeps them
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&again, 0));
    CHECK(again != context);
    OK(cuCtxSetCurrent(again));
    OK(cuStreamDestroy_v2(stream));
    OK(cuMemFree_v2(array));
    OK(cuDevicePrimaryCtxRelease_v2(0));
    OK(cuCtxSetCurrent(nullptr));
}

// A program that leaves a stream and an allocation behind, on a machine that `the_environment` sets up.
TEST(leaking_program) {
    if (getenv("PATCHMASK_FAKE_DRIVER") == nullptr) return;
    CUcontext context;
    CUstream stream;
    CUdeviceptr pointer;
    int major = 0;
    if (cuInit(0) != CUDA_SUCCESS) exit(3);
    OK(cuDevicePrimaryCtxRetain(&context, 1));
    OK(cuCtxSetCurrent(context));
    OK(cuDeviceGetAttribute(&major, CAPABILITY_MAJOR, 1));
    CHECK(major == 9);
    OK(cuStreamCreate(&stream, 0));
    OK(cuMemAlloc_v2(&pointer, 1000));
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&pointer, 8));     // the second call, made to fail
    GIVES(CUDA_ERROR_OUT_OF_MEMORY, cuMemAlloc_v2(&pointer, 2000));  // 2500 bytes in all
}

// Runs it with a setting; returns its exit status.
static int run_with(const std::string& setting) {
    const pid_t child = fork();
    if (child == 0) {
        setenv("PATCHMASK_FAKE_DRIVER", setting.c_str(), 1);
        if (!freopen("/dev/null", "w", stderr) || !freopen("/dev/null", "w", stdout)) _exit(98);
        execl("/proc/self/exe", "self_test", "leaking_program", static_cast<char*>(nullptr));
        _exit(98);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(the_environment) {
    const std::string report = std::filesystem::read_symlink("/proc/self/exe").string() + ".report";
    CHECK(run_with("devices=2,sm=90,memory=2500,fail=cuMemAlloc_v2:2:2,seed=5,report=" + report) == 0);
    std::string text;
    FILE* file = fopen(report.c_str(), "r");
    CHECK(file != nullptr);
    for (int byte; (byte = fgetc(file)) != EOF;) text.push_back(static_cast<char>(byte));
    fclose(file);
    remove(report.c_str());
    CHECK(text ==
          "context 1\nallocation 1\nbytes 1000\nhost 0\nstream 1\nevent 0\nmodule 0\ngraph 0\nexec 0\nruns 0\n"
          "error \n");
    CHECK(run_with("init=100") == 3);
    CHECK(run_with("devices=0") == 3);
    for (const char* wrong : {"sm", "devices=9", "colour=1", "memory=1k", "fail=cuInit:1"})
        CHECK(run_with(wrong) == 97);
}
