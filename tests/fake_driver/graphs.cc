#include "graphs.h"

#include <algorithm>

#include "world.h"

namespace fake_driver {

Replay::Replay(std::shared_ptr<const Graph> graph) : graph_(std::move(graph)) {
    for (size_t node = 0; node < graph_->nodes.size(); ++node) {
        missing_.push_back(graph_->nodes[node].before);
        if (missing_.back() == 0) ready_.push_back(node);
    }
}

bool Replay::step(Context& context) {
    if (ready_.empty())  // a graph without nodes
        return true;
    const bool any = world().settings.completion == sim::Completion::Random;
    const size_t place = any ? world().random(ready_.size()) : 0;
    const Node& node = graph_->nodes[ready_[place]];
    ready_.erase(ready_.begin() + static_cast<ptrdiff_t>(place));
    node.work(context);
    for (const size_t after : node.after)
        if (--missing_[after] == 0) ready_.push_back(after);
    return ready_.empty();
}

void Capture::add(Stream& stream, Work work) {
    const size_t number = graph->nodes.size();
    Node node;
    node.work = std::move(work);
    node.before = stream.tail.size();
    for (const size_t before : stream.tail) graph->nodes[before].after.push_back(number);
    graph->nodes.push_back(std::move(node));
    stream.tail = {number};
}

void Capture::join(const std::shared_ptr<Stream>& stream) { streams.push_back(stream); }

bool Capture::joined() const {
    const std::vector<size_t>& tail = origin.lock()->tail;
    for (size_t node = 0; node < graph->nodes.size(); ++node)
        if (graph->nodes[node].after.empty() && std::find(tail.begin(), tail.end(), node) == tail.end()) return false;
    return true;
}

void Capture::end() {
    for (const std::weak_ptr<Stream>& weak : streams) {
        if (const std::shared_ptr<Stream> stream = weak.lock()) {
            stream->capture = nullptr;
            stream->tail.clear();
        }
    }
}

std::shared_ptr<Capture> Captures::begin(const std::shared_ptr<Stream>& origin, CaptureMode mode) {
    const auto capture = std::make_shared<Capture>();
    capture->graph = std::make_shared<Graph>();
    capture->graph->context = origin->context;
    capture->mode = mode;
    capture->thread = std::this_thread::get_id();
    capture->origin = origin;
    capture->join(origin);
    active_.push_back(capture);
    origin->capture = capture;
    return capture;
}

void Captures::end(const std::shared_ptr<Capture>& capture) {
    capture->end();
    active_.erase(std::find(active_.begin(), active_.end(), capture));
}

CUresult Captures::forbid_unsafe(CUresult error) {
    CUresult result = CUDA_SUCCESS;
    for (const std::shared_ptr<Capture>& capture : active_) {
        const bool own = capture->thread == std::this_thread::get_id();
        if (capture->mode == CAPTURE_GLOBAL || (capture->mode == CAPTURE_THREAD_LOCAL && own)) {
            capture->valid = false;
            result = error;
        }
    }
    return result;
}

CUresult Captures::forbid_in(const Context& context) {
    CUresult result = forbid_unsafe();
    for (const std::shared_ptr<Capture>& capture : active_) {
        if (capture->graph->context.get() == &context) {
            capture->valid = false;
            result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
        }
    }
    return result;
}

CUresult submit(const std::shared_ptr<Stream>& stream, Work work) {
    if (stream->capture == nullptr) {
        // The default stream waits for all others, and so for capturing ones.
        if (stream == stream->context->default_stream) {
            if (const CUresult error = world().captures.forbid_unsafe(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)) return error;
        }
        Task task;
        task.work = std::move(work);
        world().scheduler.enqueue(*stream, std::move(task));
        return CUDA_SUCCESS;
    }
    if (!stream->capture->valid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    stream->capture->add(*stream, std::move(work));
    return CUDA_SUCCESS;
}

}  // namespace fake_driver
