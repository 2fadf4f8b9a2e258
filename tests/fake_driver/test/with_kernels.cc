// The fake driver with the project's own kernels: the committed PTX announces exactly what the host's twins take, and a
// kernel launched through the driver computes.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "../../../kernels/params.h"
#include "testing.h"

namespace {

// Loads a file; every kernel that it announces must be found, with the same size of parameters.
CUmodule load(const std::string& path, int& kernels) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    CHECK(file.good());
    CUmodule module;
    OK(cuModuleLoadData(&module, text.str().c_str()));
    const std::string ptx = text.str();
    const std::string key = ".entry ";
    for (size_t at = ptx.find(key); at != std::string::npos; at = ptx.find(key, at + 1)) {
        const size_t name = at + key.size();
        CUfunction function;
        OK(cuModuleGetFunction(&function, module, ptx.substr(name, ptx.find('(', name) - name).c_str()));
        ++kernels;
    }
    return module;
}

CUdeviceptr array_of(const void* values, size_t bytes) {
    CUdeviceptr pointer;
    OK(cuMemAlloc_v2(&pointer, bytes));
    OK(cuMemcpyHtoD_v2(pointer, values, bytes));
    return pointer;
}

// table_max of a 2 x 2 image to one pixel.
void run_table_max(CUmodule module) {
    std::vector<uint16_t> input(4 * CHANNEL_GRAIN);
    for (size_t i = 0; i < input.size(); ++i)
        input[i] = static_cast<uint16_t>(0x3C00 + (i * 37) % 64);  // fp16, 1 and a little more
    const int32_t taps[] = {0, 1};
    const uint32_t not_cancelled = 0;
    const CUdeviceptr image = array_of(input.data(), input.size() * 2);
    const CUdeviceptr table = array_of(taps, sizeof taps);
    const CUdeviceptr cancel = array_of(&not_cancelled, sizeof not_cancelled);
    CUdeviceptr output;
    OK(cuMemAlloc_v2(&output, CHANNEL_GRAIN * 2));
    MaxParams p{};
    p.input = reinterpret_cast<uint16_t*>(image);
    p.output = reinterpret_cast<uint16_t*>(output);
    p.row_taps = p.column_taps = reinterpret_cast<int32_t*>(table);
    p.cancel = reinterpret_cast<uint32_t*>(cancel);
    p.rows = p.columns = 1;
    p.input_columns = 2;
    p.channels = CHANNEL_GRAIN;
    void* params[] = {&p};
    CUfunction function;
    OK(cuModuleGetFunction(&function, module, "table_max"));
    OK(cuLaunchKernel(function, 1, 1, 1, MAX_THREADS, 1, 1, 0, nullptr, params, nullptr));
    uint16_t result[CHANNEL_GRAIN];
    OK(cuMemcpyDtoH_v2(result, output, sizeof result));
    for (int channel = 0; channel < CHANNEL_GRAIN; ++channel) {
        uint16_t expected = 0;  // fp16 of one sign compare as integers
        for (int pixel = 0; pixel < 4; ++pixel) expected = std::max(expected, input[pixel * CHANNEL_GRAIN + channel]);
        CHECK(result[channel] == expected);
    }
    for (const CUdeviceptr pointer : {image, table, cancel, output}) OK(cuMemFree_v2(pointer));
}

}  // namespace

TEST(every_kernel_of_the_ptx) {
    CHECK(fake_driver_reset() == 0);
    fake_driver_devices(1, 9, 0, 1 << 30, 227 << 10);  // which takes all PTX
    CUcontext context;
    int kernels = 0;
    bool ran = false;
    OK(cuInit(0));
    OK(cuDevicePrimaryCtxRetain(&context, 0));
    OK(cuCtxSetCurrent(context));
    for (const auto& file : std::filesystem::directory_iterator("kernels/ptx")) {
        const CUmodule module = load(file.path(), kernels);
        if (file.path().string().find("table_max") != std::string::npos) {
            run_table_max(module);
            ran = true;
        }
        OK(cuModuleUnload(module));
    }
    OK(cuDevicePrimaryCtxRelease_v2(0));
    CHECK(ran && kernels >= 12 && fake_driver_live("") == 0 && fake_driver_error()[0] == '\0');
}
