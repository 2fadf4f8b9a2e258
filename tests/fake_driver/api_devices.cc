// cuInit, error texts, devices and contexts.

#include <cstdio>
#include <cstring>

#include "enter.h"

using namespace fake_driver;

namespace {

// What works without cuInit.
template <class F> CUresult anyhow(const char* name, F f) {
    const std::lock_guard<Turnstile> turn(world().turnstile);
    const CUresult error = world().faults.call(name);
    return error ? error : f();
}

std::shared_ptr<Context> make_context(int device) {
    const auto context = std::make_shared<Context>();
    context->device = device;
    context->handle = world().contexts.add(context);
    context->default_stream = std::make_shared<Stream>();
    context->default_stream->context = context;
    return context;
}

// What lives in it stays in the leak list, for whoever did not free it.
void destroy(Context& context) {
    context.alive = false;
    const bool healthy = context.error == CUDA_SUCCESS;
    if (const size_t tasks = world().scheduler.abandon(context); tasks > 0 && healthy)
        world().problem("context destroyed while " + std::to_string(tasks) + " tasks had not run");
    context.default_stream = nullptr;
}

CUresult set_current(const char* name, CUcontext handle, void (*set)(CUcontext)) {
    return in_driver(name, [&] {
        if (handle != nullptr) {
            const std::shared_ptr<Context> context = world().contexts.find(handle);
            if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
            if (!context->alive) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        }
        set(handle);
        return CUDA_SUCCESS;
    });
}

CUresult device_uuid(const char* name, CUuuid* uuid, CUdevice device) {
    return in_driver(name, [&] {
        if (uuid == nullptr) return CUDA_ERROR_INVALID_VALUE;
        if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
        memcpy(uuid->bytes, &world().machines, 8);
        memset(uuid->bytes + 8, device, 8);
        return CUDA_SUCCESS;
    });
}

}  // namespace

CUresult cuInit(unsigned flags) {
    return anyhow(__func__, [&] {
        if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
        if (world().settings.init_result) return world().settings.init_result;
        if (world().settings.devices == 0) return CUDA_ERROR_NO_DEVICE;
        world().initialized = true;
        return CUDA_SUCCESS;
    });
}

CUresult cuDriverGetVersion(int* version) {
    return anyhow(__func__, [&] {
        if (version == nullptr) return CUDA_ERROR_INVALID_VALUE;
        *version = world().settings.driver_version;
        return CUDA_SUCCESS;
    });
}

CUresult cuGetErrorName(CUresult error, const char** name) {
    return anyhow(__func__, [&] {
        *name = nullptr;
        switch (error) {
#define X(id, number, text) \
    case id: *name = #id; break;
            FAKE_DRIVER_CUDA_ERRORS(X)
#undef X
        }
        return *name ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

CUresult cuGetErrorString(CUresult error, const char** string) {
    return anyhow(__func__, [&] {
        *string = nullptr;
        switch (error) {
#define X(id, number, text) \
    case id: *string = text; break;
            FAKE_DRIVER_CUDA_ERRORS(X)
#undef X
        }
        return *string ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    });
}

CUresult cuDeviceGetCount(int* count) {
    return in_driver(__func__, [&] {
        if (count == nullptr) return CUDA_ERROR_INVALID_VALUE;
        *count = world().settings.devices;
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
    return in_driver(__func__, [&] {
        if (device == nullptr) return CUDA_ERROR_INVALID_VALUE;
        if (!is_device(ordinal)) return CUDA_ERROR_INVALID_DEVICE;
        *device = ordinal;
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
    return in_driver(__func__, [&] {
        if (name == nullptr || length <= 0) return CUDA_ERROR_INVALID_VALUE;
        if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
        snprintf(name, static_cast<size_t>(length), "Fake GPU %d", device);
        return CUDA_SUCCESS;
    });
}

CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return device_uuid(__func__, uuid, device); }
CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) { return device_uuid(__func__, uuid, device); }

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
    return in_driver(__func__, [&] {
        if (value == nullptr || attribute <= 0) return CUDA_ERROR_INVALID_VALUE;
        if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
        const Settings& settings = world().settings;
        switch (attribute) {
            case MULTIPROCESSORS: *value = 4; break;
            case CAPABILITY_MAJOR: *value = settings.major; break;
            case CAPABILITY_MINOR: *value = settings.minor; break;
            case MAX_SHARED_OPTIN: *value = static_cast<int>(settings.shared_optin_bytes); break;
            default: return CUDA_ERROR_INVALID_VALUE;  // not offered
        }
        return CUDA_SUCCESS;
    });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice number) {
    return in_driver(__func__, [&] {
        if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
        if (!is_device(number)) return CUDA_ERROR_INVALID_DEVICE;
        Device& device = world().devices[number];
        if (device.lost) return CUDA_ERROR_LAUNCH_FAILED;
        if (device.primary == nullptr) device.primary = make_context(number);
        ++device.retains;
        *context = device.primary->handle;
        return CUDA_SUCCESS;
    });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice number) {
    // Carried out even if made to fail; needs no current context.
    const std::lock_guard<Turnstile> turn(world().turnstile);
    const CUresult injected = world().faults.call(__func__);
    if (!world().initialized) return CUDA_ERROR_NOT_INITIALIZED;
    if (number < 0 || number >= MAX_DEVICES) return CUDA_ERROR_INVALID_DEVICE;
    Device& device = world().devices[number];
    if (device.retains == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--device.retains == 0) {
        destroy(*device.primary);
        device.primary = nullptr;
    }
    return injected ? injected : device.lost ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}

CUresult cuCtxCreate_v2(CUcontext* out, unsigned, CUdevice device) {
    return in_driver(__func__, [&] {
        if (out == nullptr) return CUDA_ERROR_INVALID_VALUE;
        if (!is_device(device)) return CUDA_ERROR_INVALID_DEVICE;
        if (world().devices[device].lost) return CUDA_ERROR_LAUNCH_FAILED;
        *out = make_context(device)->handle;
        push_context(*out);
        return CUDA_SUCCESS;
    });
}
CUresult cuCtxDestroy_v2(CUcontext handle) {
    return in_driver(__func__, [&] {
        const std::shared_ptr<Context> context = world().contexts.find(handle);
        if (context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
        if (!context->alive) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        if (context == world().devices[context->device].primary) return CUDA_ERROR_INVALID_CONTEXT;
        const CUresult error = context->state();
        destroy(*context);
        if (current_context() == handle) pop_context();
        return error;
    });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
    return in_driver(__func__, [&] {
        if (context == nullptr) return CUDA_ERROR_INVALID_VALUE;
        *context = current_context();
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxSetCurrent(CUcontext context) { return set_current(__func__, context, replace_context); }

CUresult cuCtxPushCurrent_v2(CUcontext context) {
    if (context == nullptr) return in_driver(__func__, [] { return CUDA_ERROR_INVALID_CONTEXT; });
    return set_current(__func__, context, push_context);
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
    return in_driver(__func__, [&] {
        if (current_context() == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
        const CUcontext popped = pop_context();
        if (context != nullptr) *context = popped;
        return CUDA_SUCCESS;
    });
}

CUresult cuCtxSynchronize() {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        if (const CUresult error = world().captures.forbid_in(*context)) return error;
        world().scheduler.finish(*context);
        return context->state();
    });
}

// There is no profiler; they need a context, as the real ones do.
CUresult cuProfilerStart() { return in_context(__func__, [](const auto&) { return CUDA_SUCCESS; }); }
CUresult cuProfilerStop() { return in_context(__func__, [](const auto&) { return CUDA_SUCCESS; }); }
