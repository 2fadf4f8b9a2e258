// The way into the fake driver: a call takes its turn, is counted, may be made to fail, and needs what the real driver
// needs. Each exported function is one of these around its own part.

#pragma once
#include "world.h"

namespace fake_driver {

// A device by its number.
inline bool is_device(CUdevice device) { return device >= 0 && device < world().settings.devices; }

// The calling thread's context, whatever its state.
inline CUresult find_current(std::shared_ptr<Context>& context) {
    context = world().contexts.find(current_context());
    return context == nullptr ? CUDA_ERROR_INVALID_CONTEXT
           : context->alive   ? CUDA_SUCCESS
                              : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

// Needs cuInit. f()
template <class F> CUresult in_driver(const char* name, F f) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    if (const CUresult error = world().faults.call(name)) return error;
    return world().initialized ? f() : CUDA_ERROR_NOT_INITIALIZED;
}

// Needs a current context in which nothing has gone wrong. f(context)
template <class F> CUresult in_context(const char* name, F f) {
    return in_driver(name, [&] {
        std::shared_ptr<Context> context;
        if (const CUresult error = find_current(context)) return error;
        if (const CUresult error = context->state()) return error;
        return f(context);
    });
}

// The same, and may wait for work or change memory: not while this thread may not, for a capture's sake.
template <class F> CUresult in_context_uncaptured(const char* name, F f) {
    return in_context(name, [&](const std::shared_ptr<Context>& context) {
        const CUresult error = world().captures.forbid_unsafe();
        return error ? error : f(context);
    });
}

// Frees, destroys, unloads: carried out even if made to fail, or in a context that failed. f()
template <class F> CUresult releasing(const char* name, F f) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    const CUresult injected = world().faults.call(name);
    if (!world().initialized) return CUDA_ERROR_NOT_INITIALIZED;
    std::shared_ptr<Context> context;
    const CUresult destroyed = find_current(context);
    if (context == nullptr) return destroyed;
    const CUresult error = f();
    return error ? error : injected ? injected : context->state();
}

// The stream of a handle that a call in this context may use; 0 is the context's default stream.
inline std::shared_ptr<Stream> stream_of(const std::shared_ptr<Context>& context, CUstream handle) {
    if (handle == nullptr) return context->default_stream;
    const std::shared_ptr<Stream> stream = world().streams.find(handle);
    return stream != nullptr && stream->context == context ? stream : nullptr;
}

}  // namespace fake_driver
