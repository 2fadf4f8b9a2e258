// The 3x3 table convolution of Hopper: conv3_wgmma.cuh.

#include "conv3_wgmma.cuh"

#define CONV3_WGMMA(OUTPUTS)                                          \
    extern "C" __global__ void __launch_bounds__(WGMMA_THREADS, 1)    \
        conv3_wgmma_##OUTPUTS(const __grid_constant__ ConvParams p) { \
        conv3_wgmma<Conv3Warp<OUTPUTS>>(p);                           \
    }

CONV3_WGMMA(128)
CONV3_WGMMA(64)
