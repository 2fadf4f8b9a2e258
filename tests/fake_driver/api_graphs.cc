// Graphs: instantiating and launching.

#include "enter.h"

using namespace fake_driver;

namespace {

CUresult instantiate(const char* name, CUgraphExec* handle, CUgraph graph_handle) {
    return in_context(name, [&](const std::shared_ptr<Context>&) {
        const std::shared_ptr<Graph> graph = world().graphs.find(graph_handle);
        if (graph == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (handle == nullptr) return CUDA_ERROR_INVALID_VALUE;
        const auto exec = std::make_shared<Exec>();
        exec->graph = graph;
        *handle = world().execs.add(exec);
        return CUDA_SUCCESS;
    });
}

// f(exec, stream)
template <class F> CUresult with_exec(const char* name, CUgraphExec exec_handle, CUstream stream_handle, F f) {
    return in_context(name, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Exec> exec = world().execs.find(exec_handle);
        const std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        if (exec == nullptr || stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (exec->graph->context != context) return CUDA_ERROR_INVALID_VALUE;
        if (stream->capture != nullptr) {
            world().problem(std::string(name) + ": graphs within graphs are not among what the fake driver offers");
            return CUDA_ERROR_NOT_SUPPORTED;
        }
        return f(exec, stream);
    });
}

}  // namespace

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
    return instantiate(__func__, exec, graph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, void**, char*, size_t) {
    return instantiate(__func__, exec, graph);
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) {
    return with_exec(__func__, exec, stream, [](const auto&, const auto&) { return CUDA_SUCCESS; });
}

CUresult cuGraphLaunch(CUgraphExec exec_handle, CUstream stream_handle) {
    return with_exec(__func__, exec_handle, stream_handle, [](const auto& exec, const auto& stream) {
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

// What is queued of it still runs.
CUresult cuGraphExecDestroy(CUgraphExec exec) {
    return releasing(__func__, [&] { return world().execs.remove(exec) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}

CUresult cuGraphDestroy(CUgraph graph) {
    return releasing(__func__, [&] { return world().graphs.remove(graph) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}
