// Dynamic shared memory of each kernel, for the kernels and for the host that launches them.
// src/engine/cuda/params.rs mirrors the numbers.

#pragma once
#include "params.h"

#ifdef __CUDACC_RTC__
#define SIZE __device__ constexpr int
#else
#define SIZE constexpr int
#endif

// Stages of weights in shared memory: as many taps are on their way. With the largest subtiles two have to do, so that
// two blocks fit a multiprocessor of an H100; a tap is long enough there.
SIZE conv_stages(int chunk, int outputs) { return chunk * outputs > 64 * 64 ? 2 : 3; }

// conv3_CHUNK_OUTPUTS:                         64_128    64_64   32_128   32_64   16_128   16_64
//   weights  [stages][OUTPUTS][CHUNK] fp16      32768    24576    24576   12288    12288    6144
//   halos    [2][HALO_PIXELS + 1][CHUNK] fp16   67840    67840    33920   33920    16960   16960
//   sources  [HALO_PIXELS] int32                 1056     1056     1056    1056     1056    1056
//   bytes                                      101664    93472    59552   47264    30304   24160
SIZE conv_weight_bytes(int chunk, int outputs) { return conv_stages(chunk, outputs) * outputs * chunk * 2; }
SIZE conv_halo_bytes(int chunk) { return (HALO_PIXELS + 1) * chunk * 2; }
SIZE conv_shared_bytes(int chunk, int outputs) {
    return conv_weight_bytes(chunk, outputs) + 2 * conv_halo_bytes(chunk) + HALO_PIXELS * 4;
}

// conv3_wgmma_OUTPUTS, one block per multiprocessor:         128       64
//   up to a multiple of 1024                                 1024     1024
//   weights   [stages][OUTPUTS][64] fp16                    81920    65536
//   halos     [2 subtiles][2][HALO_PIXELS + 1][64] fp16,      139264   139264
//             each up to a multiple of 1024
//   barriers  [stages + 2 subtiles x 2 + items][2] int64         208      256
//   items     [items] of two subtiles                           2192     2192
//   sources   [2 subtiles][HALO_PIXELS] int32                   2112     2112
//   bytes                                                  226720   210384
constexpr int WGMMA_ITEMS = 4;
constexpr int WGMMA_ITEM_BYTES =
    WGMMA_SUBTILES * (sizeof(RowSection) + sizeof(ColumnSection) + sizeof(uint32_t) * SUBTILE_PIXELS / 32) + 4;
constexpr int WGMMA_ALIGNMENT = 1024;
SIZE wgmma_stages(int outputs) { return outputs > 64 ? 5 : 8; }
SIZE wgmma_barriers(int outputs) { return 2 * (wgmma_stages(outputs) + WGMMA_SUBTILES * 2 + WGMMA_ITEMS); }
SIZE wgmma_halo_bytes() {
    return (conv_halo_bytes(WGMMA_CHUNK) + WGMMA_ALIGNMENT - 1) / WGMMA_ALIGNMENT * WGMMA_ALIGNMENT;
}
SIZE wgmma_shared_bytes(int outputs) {
    return WGMMA_ALIGNMENT + wgmma_stages(outputs) * outputs * WGMMA_CHUNK * 2 +
           WGMMA_SUBTILES * 2 * wgmma_halo_bytes() + wgmma_barriers(outputs) * 8 +
           WGMMA_ITEMS * WGMMA_ITEM_BYTES + WGMMA_SUBTILES * HALO_PIXELS * 4;
}

// gemm: 98304,
//   [stages]([patches][chunk] + [outputs][chunk]) fp16: three stages on their way, and not more than sm_86 has.
constexpr int GEMM_STAGES = 4;
constexpr int GEMM_STAGE_BYTES = (GEMM_PATCHES + GEMM_OUTPUTS) * GEMM_CHUNK * 2;
constexpr int GEMM_SHARED_BYTES = GEMM_STAGES * GEMM_STAGE_BYTES;

// conv3_first: 5480, [FIRST_PIXELS] intensities, three words for each tap, two counts.
constexpr int FIRST_ROW_TAPS = SUBTILE_ROWS * 3;
constexpr int FIRST_COLUMN_TAPS = SUBTILE_COLUMNS * 3;
constexpr int FIRST_PIXELS = FIRST_ROW_TAPS * FIRST_COLUMN_TAPS;
constexpr int FIRST_SHARED_BYTES = FIRST_PIXELS * 4 + 3 * (FIRST_ROW_TAPS + FIRST_COLUMN_TAPS) * 4 + 8;

// histogram: 8200, the levels of each warp, and the voxels that are not finite.
constexpr int HISTOGRAM_WARPS = HISTOGRAM_THREADS / 32;
constexpr int HISTOGRAM_SHARED_BYTES = HISTOGRAM_WARPS * LEVELS * 4 + 8;

// equalize: 2048, two rows of sums. Its block has LEVELS threads.
constexpr int EQUALIZE_SHARED_BYTES = 2 * LEVELS * 4;

// gather_max_pool, split_k_reduce, scores, write_mask: none.
