// Cancelled kernels leave before they read anything else: the pointers here are all null.

#include "launching.h"
#include "shared_bytes.h"

TEST(all_cancelled) {
    Launch launch;
    launch.cancel[0] = 1;
    launch.run("gemm", GemmParams{}, {2, 1, 1}, GEMM_THREADS, GEMM_SHARED_BYTES);
    launch.run("split_k_reduce", SplitKParams{}, {2, 1, 1}, SPLIT_K_THREADS, 0);
    launch.run("conv3_first", FirstParams{}, {2, 1, 1}, FIRST_THREADS, FIRST_SHARED_BYTES);
    launch.run("histogram", HistogramParams{}, {2, 1, 1}, HISTOGRAM_THREADS, HISTOGRAM_SHARED_BYTES);
    launch.run("equalize", EqualizeParams{}, {1, 1, 1}, LEVELS, EQUALIZE_SHARED_BYTES);
    launch.run("gather_max_pool", MaxPoolParams{}, {2, 1, 1}, MAX_POOL_THREADS, 0);
    launch.run("scores", ScoresParams{}, {2, 1, 1}, SCORES_THREADS, 0);
    launch.run("write_mask", WriteMaskParams{}, {2, 1, 1}, WRITE_MASK_THREADS, 0);
    for (const int outputs : {128, 64}) {
        char name[32];
        snprintf(name, sizeof(name), "conv3_wgmma_%d", outputs);
        launch.run(name, ConvParams{}, {2, 1, 1}, WGMMA_THREADS, size_t(wgmma_shared_bytes(outputs)));
    }
    for (const int chunk : {32, 16}) {
        for (const int outputs : {128, 64}) {
            char name[32];
            snprintf(name, sizeof(name), "conv3_%d_%d", chunk, outputs);
            launch.run(name, ConvParams{}, {2, 1, 1}, CONV_THREADS, size_t(conv_shared_bytes(chunk, outputs)));
        }
    }
}
