// Asynchrony: what is enqueued runs later, in the order that streams and events give, and no other.

#include <atomic>
#include <thread>

#include "testing.h"

// Host memory that is changed or read too early gives wrong data.
TEST(nothing_runs_at_enqueue) {
    Gpu gpu;
    const CUstream stream = gpu.stream();
    const CUdeviceptr array = gpu.array(1);
    uint32_t value = 5;
    uint32_t result = 0;
    OK(cuMemcpyHtoDAsync_v2(array, &value, 4, stream));
    value = 6;  // too early
    OK(gpu.launch(gpu.add, stream, array, array, 1, 100));
    OK(cuMemcpyDtoHAsync_v2(&result, array, 4, stream));
    CHECK(result == 0);  // read too early
    OK(cuStreamSynchronize(stream));
    CHECK(result == 106);
}

// One stream fills, another reads. Without a wait in between, lazy running always and random running sometimes gives
// what was there before; with it, no order does.
static bool second_stream_sees_the_first(int completion, uint64_t seed, bool wait) {
    Gpu gpu(completion, seed);
    const CUstream first = gpu.stream();
    const CUstream second = gpu.stream();
    const CUevent filled = gpu.event();
    const CUdeviceptr array = gpu.array(std::vector<uint32_t>{1});
    uint32_t result = 0;
    OK(cuMemsetD32Async(array, 10, 1, first));
    OK(gpu.launch(gpu.add, first, array, array, 1, 1));
    OK(cuEventRecord(filled, first));
    if (wait) OK(cuStreamWaitEvent(second, filled, 0));
    OK(cuMemcpyDtoHAsync_v2(&result, array, 4, second));
    OK(cuStreamSynchronize(second));
    return result == 11;
}

TEST(a_missing_wait_is_caught) {
    CHECK(!second_stream_sees_the_first(LAZY, 1, false));
    CHECK(second_stream_sees_the_first(EAGER, 1, false));  // which is why eager is not the default
    int right = 0;
    for (uint64_t seed = 1; seed <= 100; ++seed) right += second_stream_sees_the_first(RANDOM, seed, false);
    CHECK(right > 5 && right < 95);
    for (uint64_t seed = 1; seed <= 100; ++seed)
        CHECK(second_stream_sees_the_first(static_cast<int>(seed % 3), seed, true));
}

TEST(calls_that_wait_follow_ordinary_streams_only) {
    Gpu gpu;
    const CUdeviceptr array = gpu.array(std::vector<uint32_t>{1, 1});
    OK(cuMemsetD32Async(array, 2, 1, gpu.stream(STREAM_DEFAULT)));
    OK(cuMemsetD32Async(array + 4, 2, 1, gpu.stream(STREAM_NON_BLOCKING)));
    CHECK((Gpu::read(array, 2) == std::vector<uint32_t>{2, 1}));
    OK(cuCtxSynchronize());
    CHECK((Gpu::read(array, 2) == std::vector<uint32_t>{2, 2}));
}

TEST(events) {
    Gpu gpu;
    const CUstream stream = gpu.stream();
    const CUevent start = gpu.event(0);
    const CUevent end = gpu.event(0);
    float milliseconds = -1;
    OK(cuEventQuery(start));  // never recorded
    OK(cuStreamWaitEvent(stream, start, 0));
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, end));
    OK(cuEventRecord(start, stream));
    OK(cuMemsetD32Async(gpu.array(1000), 0, 1000, stream));
    OK(cuEventRecord(end, stream));
    GIVES(CUDA_ERROR_NOT_READY, cuEventElapsedTime(&milliseconds, start, end));
    GIVES(CUDA_ERROR_NOT_READY, cuEventQuery(end));
    int polls = 0;
    for (CUresult result; (result = cuEventQuery(end)) != CUDA_SUCCESS; ++polls)
        CHECK(result == CUDA_ERROR_NOT_READY && polls < 10);
    OK(cuEventElapsedTime(&milliseconds, start, end));
    CHECK(milliseconds >= 0);
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuEventElapsedTime(&milliseconds, start, gpu.event()));
}

// Destroying a stream or an event does not stop what was enqueued with it.
TEST(destroyed_streams_still_run) {
    Gpu gpu;
    const CUdeviceptr array = gpu.array(1);
    const CUstream reader = gpu.stream();
    CUstream writer;
    CUevent written;
    uint32_t result = 0;
    OK(cuStreamCreate(&writer, STREAM_NON_BLOCKING));
    OK(cuEventCreate(&written, EVENT_DISABLE_TIMING));
    OK(cuMemsetD32Async(array, 3, 1, writer));
    OK(cuEventRecord(written, writer));
    OK(cuStreamWaitEvent(reader, written, 0));
    OK(cuStreamDestroy_v2(writer));
    OK(cuEventDestroy_v2(written));
    GIVES(CUDA_ERROR_INVALID_HANDLE, cuStreamSynchronize(writer));
    OK(cuMemcpyDtoHAsync_v2(&result, array, 4, reader));
    OK(cuStreamSynchronize(reader));
    CHECK(result == 3);
}

// Threads work side by side, each in its own streams with its own current context.
TEST(threads) {
    Gpu gpu(RANDOM, 7);
    std::vector<std::thread> workers;
    std::atomic<int> right{0};
    for (uint32_t worker = 0; worker < 4; ++worker) {
        const CUstream stream = gpu.stream();
        const CUdeviceptr array = gpu.array(std::vector<uint32_t>{worker});
        workers.emplace_back([&gpu, &right, worker, stream, array] {
            GIVES(CUDA_ERROR_INVALID_CONTEXT, cuStreamSynchronize(stream));
            OK(cuCtxSetCurrent(gpu.context));
            for (int round = 0; round < 200; ++round) {
                OK(gpu.launch(gpu.add, stream, array, array, 1, 1));
                if (round % 10 == 0) OK(cuStreamSynchronize(stream));
            }
            uint32_t result = 0;
            OK(cuMemcpyDtoHAsync_v2(&result, array, 4, stream));
            OK(cuStreamSynchronize(stream));
            right += result == worker + 200;
        });
    }
    for (std::thread& worker : workers) worker.join();
    CHECK(right == 4);
}

// While one thread waits for a long queue, another's call gets in between two of its tasks. The other thread may come
// too late on a busy machine, but not time and again.
TEST(a_waiting_thread_lets_others_in) {
    bool in_between = false;
    for (int attempt = 0; attempt < 20 && !in_between; ++attempt) {
        Gpu gpu;
        const CUstream stream = gpu.stream();
        const CUdeviceptr array = gpu.array(100000);
        OK(cuMemsetD32Async(array, 0, 100000, stream));
        for (int task = 0; task < 500; ++task) OK(gpu.launch(gpu.add, stream, array, array, 100000, 1));
        std::thread waiter([&] {
            OK(cuCtxSetCurrent(gpu.context));
            OK(cuStreamSynchronize(stream));
        });
        uint64_t runs = 0;
        while (runs == 0) runs = fake_driver_kernel_runs();
        in_between = runs < 500;
        waiter.join();
        CHECK(fake_driver_kernel_runs() == 500);
    }
    CHECK(in_between);
}
