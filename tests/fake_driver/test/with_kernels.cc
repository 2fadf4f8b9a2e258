// The fake driver with the project's own kernels: the committed PTX announces exactly what the host's twins take. That
// they compute is for tests/cuda.

#include <filesystem>
#include <fstream>
#include <sstream>

#include "testing.h"

TEST(every_kernel_of_the_ptx) {
    CHECK(fake_driver_reset() == 0);
    fake_driver_devices(1, 9, 0, 1 << 30, 227 << 10);  // which takes all PTX
    CUcontext context;
    int kernels = 0;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    for (const auto& file : std::filesystem::directory_iterator("kernels/ptx")) {
        std::stringstream text;
        text << std::ifstream(file.path()).rdbuf();
        const std::string ptx = text.str(), key = ".entry ";
        CUmodule module;
        OK(cuModuleLoadData(&module, ptx.c_str()));
        for (size_t at = ptx.find(key); at != std::string::npos; at = ptx.find(key, at + 1)) {
            const size_t name = at + key.size();
            CUfunction function;
            OK(cuModuleGetFunction(&function, module, ptx.substr(name, ptx.find('(', name) - name).c_str()));
            ++kernels;
        }
        OK(cuModuleUnload(module));
    }
    OK(cuDevicePrimaryCtxRelease_v2(0));
    CHECK(kernels >= 12 && fake_driver_live("") == 0 && fake_driver_error()[0] == '\0');
}
