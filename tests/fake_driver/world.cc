#include "world.h"

#include <vector>

namespace fake_driver {

World& world() {
    static World* const only = new World;  // never destroyed: threads may call until the very end
    return *only;
}

CUresult Context::state() const {
    if (!alive) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    return world().devices[device].lost ? CUDA_ERROR_LAUNCH_FAILED : error;
}

void Context::fail(CUresult with, const std::string& text) {
    world().problem(text);
    if (error == CUDA_SUCCESS) error = with;
}

void World::problem(const std::string& text) {
    if (problem_.empty()) problem_ = text;
}

uint64_t World::random(uint64_t below) {  // xorshift64
    random_ ^= random_ << 13;
    random_ ^= random_ >> 7;
    random_ ^= random_ << 17;
    return random_ % below;
}

void World::set_completion(int mode, uint64_t seed) {
    settings.completion = static_cast<sim::Completion>(mode);
    random_ = seed * 0x9E3779B97F4A7C15 + 0x1234567;
    if (random_ == 0) random_ = 1;
    sim::configure(settings.completion, seed);
}

void World::reset() {
    settings = Settings();
    faults = Faults();
    kernel_runs = 0;
    ++machines;
    initialized = false;
    for (Device& device : devices) {
        device.lost = false;
        device.runs_left = UINT64_MAX;
    }
    problem_.clear();
    set_completion(2, 1);
}

uint64_t World::live(const std::string& kind) const {
    if (kind == "bytes") {
        uint64_t bytes = 0;
        for (int device = 0; device < MAX_DEVICES; ++device) bytes += memory.bytes(device);
        return bytes;
    }
    if (kind == "context") {
        uint64_t count = 0;
        for (const Device& device : devices) count += device.retains;
        for (const auto& [handle, context] : contexts.all())
            count += context->alive && devices[context->device].primary != context;
        return count;
    }
    if (kind == "allocation") return memory.count(false);
    if (kind == "host") return memory.count(true);
    if (kind == "stream") return streams.size();
    if (kind == "event") return events.size();
    if (kind == "module") return modules.size();
    if (kind == "graph") return graphs.size();
    if (kind == "exec") return execs.size();
    if (kind.empty()) {
        uint64_t count = 0;
        for (const char* one : {"context", "allocation", "host", "stream", "event", "module", "graph", "exec"})
            count += live(one);
        return count;
    }
    return UINT64_MAX;  // no such kind
}

namespace {
thread_local std::vector<CUcontext> current;
}

CUcontext current_context() { return current.empty() ? nullptr : current.back(); }
void push_context(CUcontext context) { current.push_back(context); }

CUcontext pop_context() {
    const CUcontext top = current_context();
    if (!current.empty()) current.pop_back();
    return top;
}

void replace_context(CUcontext context) {
    pop_context();
    if (context != nullptr) push_context(context);
}

}  // namespace fake_driver
