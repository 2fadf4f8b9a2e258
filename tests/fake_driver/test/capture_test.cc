// Capturing streams into graphs, and replaying them.

#include <thread>

#include "testing.h"

namespace {

// array[0] = 10, array[1] = 20 on two branches; then array[2] = array[0] + 1 and array[3] = array[1] + 1.
struct Fork {
    Gpu& gpu;
    CUdeviceptr array;
    CUstream main = gpu.stream();
    CUstream side = gpu.stream();
    CUevent forked = gpu.event();
    CUevent joined = gpu.event();

    void capture(bool join) {
        OK(cuStreamBeginCapture_v2(main, CAPTURE_THREAD_LOCAL));
        OK(cuMemsetD32Async(array, 0, 4, main));
        OK(cuEventRecord(forked, main));
        OK(cuStreamWaitEvent(side, forked, 0));
        OK(cuMemsetD32Async(array, 10, 1, main));
        OK(cuMemsetD32Async(array + 4, 20, 1, side));
        OK(cuEventRecord(joined, side));
        if (join) OK(cuStreamWaitEvent(main, joined, 0));
        OK(gpu.launch(gpu.add, main, array, array + 8, 2, 1));
    }
};

TEST(fork_and_join) {
    for (uint64_t seed = 1; seed <= 30; ++seed) {
        Gpu gpu(static_cast<int>(seed % 3), seed);
        Fork fork{gpu, gpu.array(4)};
        CUgraph graph;
        CUgraphExec exec;
        fork.capture(true);
        OK(cuStreamEndCapture(fork.main, &graph));
        OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
        CHECK(fake_driver_live("graph") == 1 && fake_driver_live("exec") == 1);
        OK(cuGraphDestroy(graph));
        CHECK(fake_driver_kernel_runs() == 0);  // captured, not run
        for (int replay = 0; replay < 3; ++replay) {
            OK(cuMemsetD32Async(fork.array, 77, 4, fork.main));
            OK(cuStreamSynchronize(fork.main));
            OK(cuGraphLaunch(exec, replay % 2 ? fork.main : fork.side));
            OK(cuCtxSynchronize());
            CHECK((Gpu::read(fork.array, 4) == std::vector<uint32_t>{10, 20, 11, 21}));
        }
        CHECK(fake_driver_kernel_runs() == 3);
        OK(cuGraphLaunch(exec, fork.main));
        OK(cuGraphExecDestroy(exec));  // what is queued still runs
        GIVES(CUDA_ERROR_INVALID_HANDLE, cuGraphLaunch(exec, fork.main));
        OK(cuStreamSynchronize(fork.main));
        CHECK(fake_driver_kernel_runs() == 4);
    }
}

// A branch that is not joined is refused; were it joined only by luck, replays in random order would show it.
TEST(unjoined_branch) {
    Gpu gpu;
    Fork fork{gpu, gpu.array(4)};
    CUgraph graph;
    fork.capture(false);
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, cuStreamEndCapture(fork.main, &graph));
    CHECK(graph == nullptr);
    OK(cuStreamSynchronize(fork.side));  // an ordinary stream again
}

// Two replays of one graph never overlap, whatever their streams.
TEST(replays_take_turns) {
    Gpu gpu(RANDOM, 3);
    const CUstream streams[] = {gpu.stream(), gpu.stream()};
    const CUdeviceptr array = gpu.array(std::vector<uint32_t>{0, 0});
    CUgraph graph;
    CUgraphExec exec;
    OK(cuStreamBeginCapture_v2(streams[0], CAPTURE_GLOBAL));
    OK(cuMemcpyDtoDAsync_v2(array + 4, array, 4, streams[0]));
    OK(gpu.launch(gpu.add, streams[0], array + 4, array, 1, 1));
    OK(cuStreamEndCapture(streams[0], &graph));
    OK(cuGraphInstantiateWithFlags(&exec, graph, 0));
    for (int replay = 0; replay < 100; ++replay) OK(cuGraphLaunch(exec, streams[replay % 2]));
    OK(cuCtxSynchronize());
    CHECK(Gpu::read(array, 1)[0] == 100);
    OK(cuGraphExecDestroy(exec));
    OK(cuGraphDestroy(graph));
}

// Calls that are illegal while capturing fail, and the capture is lost.
TEST(illegal_calls) {
    Gpu gpu;
    const CUstream stream = gpu.stream();
    const CUstream other = gpu.stream();
    const CUevent event = gpu.event();
    const CUdeviceptr array = gpu.array(1);
    CUdeviceptr pointer;
    CUgraph graph;
    uint32_t value = 0;
    const auto during = [&](int mode, CUresult expected, auto call) {
        OK(cuEventRecord(event, other));
        OK(cuStreamBeginCapture_v2(stream, mode));
        GIVES(expected, call());
        GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuMemsetD32Async(array, 0, 1, stream));
        GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));
        CHECK(graph == nullptr);
        OK(cuCtxSynchronize());
    };
    const CUresult unsupported = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    during(CAPTURE_GLOBAL, unsupported, [&] { return cuMemAlloc_v2(&pointer, 4); });
    during(CAPTURE_THREAD_LOCAL, unsupported, [&] { return cuMemFree_v2(array); });
    during(CAPTURE_GLOBAL, unsupported, [&] { return cuStreamSynchronize(other); });
    during(CAPTURE_GLOBAL, unsupported, [&] { return cuEventQuery(event); });
    during(CAPTURE_RELAXED, unsupported, [&] { return cuStreamSynchronize(stream); });
    during(CAPTURE_RELAXED, unsupported, [&] { return cuCtxSynchronize(); });
    during(CAPTURE_GLOBAL, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, [&] { return cuMemcpyDtoH_v2(&value, array, 4); });
    during(CAPTURE_GLOBAL, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, [&] { return cuMemsetD32Async(array, 0, 1, nullptr); });
    during(CAPTURE_RELAXED, CUDA_ERROR_STREAM_CAPTURE_ISOLATION, [&] { return cuStreamWaitEvent(stream, event, 0); });

    // A global capture binds other threads too; one local to its thread does not.
    const auto from_another_thread = [&] {
        CUresult result = CUDA_SUCCESS;
        std::thread([&] {
            OK(cuCtxSetCurrent(gpu.context));
            result = cuStreamSynchronize(other);
        }).join();
        return result;
    };
    during(CAPTURE_GLOBAL, unsupported, from_another_thread);
    OK(cuStreamBeginCapture_v2(stream, CAPTURE_THREAD_LOCAL));
    OK(from_another_thread());
    OK(cuEventRecord(event, stream));
    GIVES(CUDA_ERROR_CAPTURED_EVENT, cuEventQuery(event));
    GIVES(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, cuStreamEndCapture(stream, &graph));

    GIVES(CUDA_ERROR_ILLEGAL_STATE, cuStreamEndCapture(stream, &graph));
    GIVES(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, cuStreamBeginCapture_v2(nullptr, CAPTURE_GLOBAL));
}

}  // namespace
