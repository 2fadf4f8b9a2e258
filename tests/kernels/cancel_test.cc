// Cancelled kernels leave before they read anything else: the pointers here are all null.

#include "launching.h"
#include "shared_bytes.h"

TEST(all_cancelled) {
    Launch launch;
    launch.cancel[0] = 1;
    launch.run("dense_products", DenseParams{}, {2, 1, 1}, DENSE_THREADS, DENSE_SHARED_BYTES);
    launch.run("dense_sums", SumsParams{}, {2, 1, 1}, SUMS_THREADS, 0);
    launch.run("conv3_first", FirstParams{}, {2, 1, 1}, FIRST_THREADS, FIRST_SHARED_BYTES);
    launch.run("histogram", HistogramParams{}, {2, 1, 1}, HISTOGRAM_THREADS, HISTOGRAM_SHARED_BYTES);
    launch.run("equalize", EqualizeParams{}, {1, 1, 1}, LEVELS, EQUALIZE_SHARED_BYTES);
    launch.run("table_max", MaxParams{}, {2, 1, 1}, MAX_THREADS, 0);
    launch.run("scores", ScoresParams{}, {2, 1, 1}, SCORES_THREADS, 0);
    launch.run("paint", PaintParams{}, {2, 1, 1}, PAINT_THREADS, 0);
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
