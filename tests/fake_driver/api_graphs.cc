// Graphs: instantiating and launching.

#include "enter.h"

using namespace fake_driver;

CUresult cuGraphInstantiateWithFlags(CUgraphExec* handle, CUgraph graph_handle, unsigned long long) {
    return in_context(__func__, [&](const std::shared_ptr<Context>&) {
        const std::shared_ptr<Graph> graph = world().graphs.find(graph_handle);
        if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
        const auto exec = std::make_shared<Exec>();
        exec->graph = graph;
        *handle = world().execs.add(exec);
        return CUDA_SUCCESS;
    });
}

CUresult cuGraphLaunch(CUgraphExec exec_handle, CUstream stream_handle) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Exec> exec = world().execs.find(exec_handle);
        const std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        if (exec == nullptr || stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (exec->graph->context != context) return CUDA_ERROR_INVALID_VALUE;
        if (stream->capture != nullptr) {
            world().problem("cuGraphLaunch: graphs within graphs are not among what the fake driver offers");
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        Task task;
        task.wait = exec->last;  // one replay of it at a time
        task.replay = std::make_shared<Replay>(exec->graph);
        task.reach = std::make_shared<Moment>();
        task.reach->stream = stream;
        exec->last = task.reach;
        world().scheduler.enqueue(*stream, std::move(task));
        return CUDA_SUCCESS;
    });
}

// Queued launches still run.
CUresult cuGraphExecDestroy(CUgraphExec exec) {
    return releasing(__func__, [&] { return world().execs.remove(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}

CUresult cuGraphDestroy(CUgraph graph) {
    return releasing(__func__, [&] { return world().graphs.remove(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}
