// An experiment, not a part of the library: conv3_wgmma_128 with pixels that wgmma itself reads from shared memory.
//
// A matrix in shared memory is eight rows side by side, and eight more at a fixed distance. Pixels of the halo are such
// rows where a tile's taps are those of a plain convolution: eight pixels of an image row are side by side, and the
// next image row is a halo's width away. So this kernel is right for plain convolutions alone, without zeros and
// without steps from patch to patch; with tables, a matrix would have to be written for every tap first.
//
// It tells what pixels from registers cost: it has neither their ldmatrix nor their registers, and moves the same
// bytes. tests/gpu/convolutions.rs times both on one plain convolution. Any kernel that writes matrices for its taps
// moves more than this one.
//
// A product is 8 x 8 pixels, one half of the tile's columns: warp w has rows 2 w and 2 w + 1.

#include "conv3_wgmma.cuh"

class SharedPixelsWarp : public Conv3Warp<128> {
public:
    using Conv3Warp::Conv3Warp;
    static constexpr int REGISTERS_OF_PRODUCTS = 208;  // sums take 128

    __device__ void make_products(int which) {
        constexpr int PIXEL_BYTES = CHUNK * 2;
        const int warp = int(threadIdx.x) / 32 % 4;
        Ring<2> halos = halo_ring(which);
        float sums[2][OUTPUTS / 8][4];  // of the left and the right half
        for (; begin_item(); end_item()) {
            const uint32_t halo_width = uint32_t(tile_of_item(which).columns.inputs);
            clear(sums);
#pragma unroll 1
            for (int chunk = 0; chunk < p.input_channels / CHUNK; chunk++) {
                halos.wait_full(patient);
                publish_to_async();  // what copies have written
#pragma unroll 1
                for (uint32_t tap = 0; tap < 9; tap++) {
                    stages.wait_full(patient);
                    warpgroup_fence();
                    const uint32_t first_pixel = tap / 3 * halo_width + tap % 3;
                    const uint64_t pixels =
                        rows_of_64(halo(which, halos.place) + first_pixel * PIXEL_BYTES, halo_width * PIXEL_BYTES);
                    const uint64_t weights = rows_of_64(stage(stages.place));
#pragma unroll
                    for (int k = 0; k < PIECES / 2; k++) {
#pragma unroll
                        for (int half = 0; half < 2; half++) {
                            warpgroup_multiply_add(sums[half], pixels + half * (8 * PIXEL_BYTES / 16) + k * 2,
                                                   weights + k * 2);
                        }
                    }
                    warpgroup_commit();
                    // The step before is done: its stage is empty, and with a chunk's first tap the halo before.
                    warpgroup_wait<1>();
                    if (tap > 0 || chunk > 0) {
                        release(stages.empty_before());
                    }
                    if (tap == 0 && chunk > 0) {
                        release(halos.empty_before());
                    }
                    stages.advance();
                }
                halos.advance();
            }
            warpgroup_wait<0>();
            release(stages.empty_before());
            release(halos.empty_before());

            if (has_tile(items[item_ring.place].number, which)) {
                const ConvTile tile = tile_of_item(which);
                const int first_output = output_block() * OUTPUTS;
                float2 bias[OUTPUTS / 8];
                load_bias(bias, p.bias + first_output, lane);
                bool overflow = false;
#pragma unroll
                for (int row = 0; row < 2; row++) {
                    float of_row[OUTPUTS / 8][4];
#pragma unroll
                    for (int j = 0; j < OUTPUTS / 8; j++) {
#pragma unroll
                        for (int i = 0; i < 4; i++) {
                            of_row[j][i] = sums[i / 2][j][row * 2 + i % 2];
                        }
                    }
                    overflow |= store_row(p, tile, warp * 2 + row, first_output, of_row, bias, lane);
                }
                report_overflow(p.overflow, p.layer, overflow);
            }
        }
        report_overflow(p.overflow, GAVE_UP, !patient);
    }
};

extern "C" __global__ void __launch_bounds__(WGMMA_THREADS, 1)
    conv3_wgmma_128_shared(const __grid_constant__ ConvParams p) {
    conv3_wgmma<SharedPixelsWarp>(p);
}
