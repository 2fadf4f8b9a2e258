// Every kernel source, compiled for the host in this one object. -I names the folder of the kernels (a mutant's
// is a changed copy).

#include "registry.h"

#include <cstring>

#include "conv3_first.cu"
#include "conv3_mma.cu"
#include "conv3_wgmma.cu"
#include "gemm.cu"
#include "intensity.cu"
#include "mask.cu"
#include "gather_max_pool.cu"

namespace {

template <class Params, void (*KERNEL)(Params)> void run(const void* params) {
    Params copy;
    memcpy(&copy, params, sizeof(Params));
    KERNEL(copy);
}

template <class Params, void (*KERNEL)(Params)> constexpr Kernel kernel(const char* name) {
    return {name, sizeof(Params), run<Params, KERNEL>};
}

#define KERNEL(PARAMS, NAME) kernel<PARAMS, NAME>(#NAME)

constexpr Kernel KERNELS[] = {
    KERNEL(ConvParams, conv3_32_128),
    KERNEL(ConvParams, conv3_32_64),     KERNEL(ConvParams, conv3_16_128),   KERNEL(ConvParams, conv3_16_64),
    KERNEL(ConvParams, conv3_wgmma_128), KERNEL(ConvParams, conv3_wgmma_64),
    KERNEL(GemmParams, gemm), KERNEL(SplitKParams, split_k_reduce),     KERNEL(FirstParams, conv3_first),
    KERNEL(ResampleParams, resample),
    KERNEL(HistogramParams, histogram),  KERNEL(EqualizeParams, equalize),   KERNEL(MaxPoolParams, gather_max_pool),
    KERNEL(ScoresParams, scores),        KERNEL(WriteMaskParams, write_mask),
};

}  // namespace

const Kernel* find_kernel(const char* name) {
    for (const Kernel& kernel : KERNELS)
        if (strcmp(kernel.name, name) == 0) return &kernel;
    return nullptr;
}
