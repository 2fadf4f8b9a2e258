// Modules, functions and kernel launches.

#include <algorithm>
#include <cstdio>

#include "enter.h"

using namespace fake_driver;

namespace {

// ISA 7.n came with CUDA 11.n, 8.n with 12.n, 9.n with 13.n; a driver reads all that came before it.
int newest_ptx(int driver_version) { return 10 * (driver_version / 1000 - 4) + driver_version % 1000 / 10; }

CUresult check_shape(const Function& function, Dim3 grid, Dim3 block, size_t shared_bytes) {
    const uint64_t threads = uint64_t(block.x) * block.y * block.z;
    const uint64_t most = function.entry.max_threads ? function.entry.max_threads : 1024;
    const bool legal = threads >= 1 && threads <= most && block.x <= 1024 && block.y <= 1024 && block.z <= 64 &&
                       grid.x >= 1 && grid.x <= 2147483647 && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
                       grid.z <= 65535 && shared_bytes <= size_t(function.max_dynamic_shared);
    return legal ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

namespace {

// `log` hears why a module is refused.
CUresult load(const char* name, CUmodule* handle, const void* image, std::string& log) {
    return in_context_uncaptured(name, [&](const std::shared_ptr<Context>& context) {
        if (handle == nullptr || image == nullptr) return CUDA_ERROR_INVALID_VALUE;
        const auto module = std::make_shared<Module>();
        module->context = context;
        if (!read_ptx(static_cast<const char*>(image), module->ptx)) return CUDA_ERROR_INVALID_IMAGE;
        const Settings& settings = world().settings;
        if (module->ptx.version > newest_ptx(settings.driver_version)) return CUDA_ERROR_UNSUPPORTED_PTX_VERSION;
        const int capability = 10 * settings.major + settings.minor;
        const bool fits = module->ptx.only ? module->ptx.target == capability : module->ptx.target <= capability;
        if (!fits) return CUDA_ERROR_INVALID_PTX;
        for (const Entry& entry : module->ptx.entries) {
            if (world().faults.of(entry.name) != Fault::Unloadable) continue;
            log = "fake ptxas: " + entry.name + " is not to be compiled";
            return CUDA_ERROR_INVALID_PTX;
        }
        *handle = world().modules.add(module);
        return CUDA_SUCCESS;
    });
}

}  // namespace

CUresult cuModuleLoadData(CUmodule* handle, const void* image) {
    std::string log;
    return load(__func__, handle, image, log);
}

CUresult cuModuleLoadDataEx(CUmodule* handle, const void* image, unsigned count, int* options, void** values) {
    std::string log;
    const CUresult error = load(__func__, handle, image, log);
    const auto value = [&](int option) -> void* {
        const int* const found = std::find(options, options + count, option);
        return found == options + count ? nullptr : values[found - options];
    };
    char* const buffer = static_cast<char*>(value(JIT_ERROR_LOG));
    const size_t bytes = reinterpret_cast<size_t>(value(JIT_ERROR_LOG_BYTES));
    if (buffer != nullptr && bytes > 0) snprintf(buffer, bytes, "%s", log.c_str());
    return error;
}

CUresult cuModuleUnload(CUmodule module) {
    return releasing(__func__, [&] {
        if (const CUresult error = world().captures.forbid_unsafe()) return error;
        if (!world().modules.remove(module)) return CUDA_ERROR_INVALID_HANDLE;
        std::vector<CUfunction> gone;
        for (const auto& [handle, function] : world().functions.all())
            if (function->module == module) gone.push_back(handle);
        for (const CUfunction function : gone) world().functions.remove(function);
        return CUDA_SUCCESS;
    });
}

CUresult cuModuleGetFunction(CUfunction* handle, CUmodule module_handle, const char* name) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        if (handle == nullptr || name == nullptr) return CUDA_ERROR_INVALID_VALUE;
        const std::shared_ptr<Module> module = world().modules.find(module_handle);
        if (module == nullptr || module->context != context) return CUDA_ERROR_INVALID_HANDLE;
        const std::vector<Entry>& entries = module->ptx.entries;
        const auto named = [&](const Entry& entry) { return entry.name == name; };
        const auto entry = std::find_if(entries.begin(), entries.end(), named);
        if (entry == entries.end()) return CUDA_ERROR_NOT_FOUND;
        const Kernel* const kernel = find_kernel(name);
        if (kernel == nullptr && !entry->traps) {
            world().problem(std::string(name) + ": in the PTX, but not among the kernels built for the host");
            return CUDA_ERROR_NOT_FOUND;
        }
        if (kernel != nullptr && entry->params_bytes != 0 && entry->params_bytes != kernel->params_bytes) {
            world().problem(std::string(name) + ": takes " + std::to_string(entry->params_bytes) +
                            " bytes of parameters in the PTX, " + std::to_string(kernel->params_bytes) +
                            " as built for the host: is the PTX older than the source?");
            return CUDA_ERROR_NOT_FOUND;
        }
        const auto function = std::make_shared<Function>();
        function->context = context;
        function->module = module_handle;
        function->entry = *entry;
        function->kernel = kernel;
        *handle = world().functions.add(function);
        return CUDA_SUCCESS;
    });
}

CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Function> function = world().functions.find(handle);
        if (function == nullptr || function->context != context) return CUDA_ERROR_INVALID_HANDLE;
        const int optin = static_cast<int>(world().settings.shared_optin_bytes);
        if (attribute != FUNCTION_MAX_DYNAMIC_SHARED || value < 0 || value > optin) return CUDA_ERROR_INVALID_VALUE;
        function->max_dynamic_shared = value;
        return CUDA_SUCCESS;
    });
}

CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream_handle,
                        void** params, void** extra) {
    return in_context(__func__, [&](const std::shared_ptr<Context>& context) {
        const std::shared_ptr<Function> function = world().functions.find(handle);
        const std::shared_ptr<Stream> stream = stream_of(context, stream_handle);
        if (function == nullptr || function->context != context || stream == nullptr) return CUDA_ERROR_INVALID_HANDLE;
        if (params == nullptr || params[0] == nullptr || extra != nullptr) return CUDA_ERROR_INVALID_VALUE;
        const Dim3 grid{grid_x, grid_y, grid_z};
        const Dim3 block{block_x, block_y, block_z};
        if (const CUresult error = check_shape(*function, grid, block, shared_bytes)) return error;
        const uint8_t* const from = static_cast<const uint8_t*>(params[0]);
        const size_t params_bytes = function->kernel == nullptr ? 0 : function->kernel->params_bytes;
        const Launch launch{function->entry.name,
                            function->kernel,
                            grid,
                            block,
                            shared_bytes,
                            std::vector<uint8_t>(from, from + params_bytes)};
        // The real driver would find out only when the kernel runs; here, with the call still on the stack.
        if (const std::string text = complaint(launch, *context); !text.empty()) {
            world().problem(text);
            return CUDA_ERROR_INVALID_VALUE;
        }
        return submit(stream, [launch](Context& in) { run(launch, in); });
    });
}
