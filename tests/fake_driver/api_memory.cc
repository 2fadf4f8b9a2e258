// Memory, copies and fills.
//
// A copy that is asynchronous by name is so for every kind of host memory. The real driver waits for some copies of
// pageable memory; host code that counts on it is caught here.

#include <algorithm>
#include <cstring>

#include "enter.h"

using namespace fake_driver;

namespace {

constexpr int CURRENT = -2;  // the device of the current context

// A part of memory that an operation reads or writes. Checked when enqueued and again when the operation runs.
struct Range {
    int owner;  // a device, or PAGEABLE for host memory of any kind
    uint8_t* address;
    size_t bytes;

    std::string complaint() const { return world().memory.complaint(owner, address, bytes); }
};

Range on_device(CUdeviceptr pointer, size_t bytes) { return {CURRENT, reinterpret_cast<uint8_t*>(pointer), bytes}; }
Range on_host(const void* pointer, size_t bytes) {
    return {PAGEABLE, const_cast<uint8_t*>(static_cast<const uint8_t*>(pointer)), bytes};
}

// Submits `f`, which uses the ranges, under the name of the call.
CUresult submit_using(const char* name, const Context& current, const std::shared_ptr<Stream>& stream,
                      std::vector<Range> ranges, std::function<void()> f) {
    if (stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
    for (Range& range : ranges) {
        if (range.owner == CURRENT) range.owner = current.device;
        if (range.bytes == 0) return CUDA_SUCCESS;
        if (range.address == nullptr) return CUDA_ERROR_INVALID_VALUE;
        if (const std::string text = range.complaint(); !text.empty()) {
            world().problem(std::string(name) + ": " + text);
            return CUDA_ERROR_INVALID_VALUE;
        }
    }
    return submit(stream, [=](Context& context) {
        for (const Range& range : ranges) {
            if (const std::string text = range.complaint(); !text.empty()) {
                context.fail(CUDA_ERROR_ILLEGAL_ADDRESS, std::string(name) + ", when it ran: " + text);
                return;
            }
        }
        f();
    });
}

CUresult copy(const char* name, const Context& current, const std::shared_ptr<Stream>& stream, Range to, Range from) {
    return submit_using(name, current, stream, {to, from}, [=] { memmove(to.address, from.address, from.bytes); });
}

CUresult copy_later(const char* name, CUstream stream, Range to, Range from) {
    return in_context(name, [&](const std::shared_ptr<Context>& context) {
        return copy(name, *context, stream_of(context, stream), to, from);
    });
}

// A copy that is done when the call returns: in the default stream, after what the context's ordinary streams hold.
CUresult copy_now(const char* name, Range to, Range from) {
    return in_context(name, [&](const std::shared_ptr<Context>& context) {
        if (const CUresult error = world().captures.forbid_unsafe(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT)) return error;
        for (const auto& [handle, stream] :
             std::unordered_map<CUstream, std::shared_ptr<Stream>>(world().streams.all())) {
            if (stream->context == context && !stream->non_blocking) world().scheduler.finish(stream);
        }
        if (const CUresult error = copy(name, *context, context->default_stream, to, from)) return error;
        world().scheduler.finish(context->default_stream);
        return context->state();
    });
}

}  // namespace

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        if (free == nullptr || total == nullptr) return CUDA_ERROR_INVALID_VALUE;
        *total = world().settings.memory_bytes;
        *free = *total - std::min<uint64_t>(*total, world().memory.bytes(context->device));
        return CUDA_SUCCESS;
    });
}

CUresult cuMemAlloc_v2(CUdeviceptr* pointer, size_t bytes) {
    return in_context_uncaptured(__func__, [&](const std::shared_ptr<Context>& context) {
        if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
        const uint64_t used = world().memory.bytes(context->device);
        const uint64_t total = world().settings.memory_bytes;
        if (used > total || bytes > total - used) return CUDA_ERROR_OUT_OF_MEMORY;
        uint8_t* const made = world().memory.allocate(context->device, bytes, context->handle);
        if (made == nullptr) return CUDA_ERROR_OUT_OF_MEMORY;
        *pointer = reinterpret_cast<CUdeviceptr>(made);
        return CUDA_SUCCESS;
    });
}

// The memory is gone at once, whatever may still be queued that uses it: the real driver may wait, but no document
// promises that it does.
CUresult cuMemFree_v2(CUdeviceptr pointer) {
    return releasing(__func__, [&] {
        if (const CUresult error = world().captures.forbid_unsafe()) return error;
        std::shared_ptr<Context> context;
        find_current(context);
        if (!world().memory.release(context->device, reinterpret_cast<void*>(pointer))) {
            world().problem("cuMemFree: not an allocation of the current device, or freed before");
            return CUDA_ERROR_INVALID_VALUE;
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuMemHostAlloc(void** pointer, size_t bytes, unsigned) {
    return in_context_uncaptured(__func__, [&](const std::shared_ptr<Context>& context) {
        if (pointer == nullptr || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
        *pointer = world().memory.allocate(PINNED, bytes, context->handle);
        return *pointer ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    });
}

CUresult cuMemFreeHost(void* pointer) {
    return releasing(__func__, [&] {
        if (const CUresult error = world().captures.forbid_unsafe()) return error;
        if (!world().memory.release(PINNED, pointer)) {
            world().problem("cuMemFreeHost: not an allocation, or freed before");
            return CUDA_ERROR_INVALID_VALUE;
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuPointerGetAttribute(void* value, int attribute, CUdeviceptr pointer) {
    return in_driver(__func__, [&] {
        const Allocation* allocation = world().memory.find(reinterpret_cast<void*>(pointer));
        if (value == nullptr || allocation == nullptr) return CUDA_ERROR_INVALID_VALUE;
        const auto put = [&](auto number) { memcpy(value, &number, sizeof number); };
        switch (attribute) {
            case POINTER_CONTEXT: put(allocation->context); break;
            case POINTER_MEMORY_TYPE: put(unsigned(allocation->owner == PINNED ? MEMORY_HOST : MEMORY_DEVICE)); break;
            case POINTER_DEVICE_ORDINAL: put(world().contexts.find(allocation->context)->device); break;
            default: return CUDA_ERROR_INVALID_VALUE;
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t bytes) {
    return copy_now(__func__, on_device(to, bytes), on_host(from, bytes));
}

CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t bytes) {
    return copy_now(__func__, on_host(to, bytes), on_device(from, bytes));
}

CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_now(__func__, on_device(to, bytes), on_device(from, bytes));
}

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t bytes, CUstream stream) {
    if (Memory::owner(reinterpret_cast<uintptr_t>(from)) == PAGEABLE) {
        const std::lock_guard<Turnstile> turn(world().turnstile);
        world().faults.call("pageable");
    }
    return copy_later(__func__, stream, on_device(to, bytes), on_host(from, bytes));
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_later(__func__, stream, on_host(to, bytes), on_device(from, bytes));
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_later(__func__, stream, on_device(to, bytes), on_device(from, bytes));
}

CUresult cuMemsetD32Async(CUdeviceptr to, unsigned value, size_t count, CUstream stream) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const Range range = on_device(to, count * sizeof value);
        if (to % sizeof value != 0) return CUDA_ERROR_INVALID_VALUE;
        return submit_using("cuMemsetD32Async", *context, stream_of(context, stream), {range}, [=] {
            for (size_t at = 0; at < range.bytes; at += sizeof value) memcpy(range.address + at, &value, sizeof value);
        });
    });
}
