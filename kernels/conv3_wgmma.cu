// 3x3 gather convolution with bias and ReLU on Hopper's tensor cores (wgmma, sm_90a): input channels in chunks of 64.
//
//     output[r][c][o] = relu(bias[o] + sum over taps (y, x) and channels i of
//                            input[row_taps[r][y]][column_taps[c][x]][i] * weights[o][i][y][x])      no tap: 0
//
// mirrors `GatherConv` of src/engine/cpu/gather_conv.rs. fp16 in and out, sums in f32. conv3.cuh: subtile, halo, weights.
//
// An item is OUTPUTS outputs of two subtiles of 8 x 16 pixels. There is one block per multiprocessor, which goes from
// item to item. Its warps have roles, and hand each other what lies in shared memory through pairs of phase barriers:
// `full`, what a reader waits for, and `empty`, what a writer waits for.
//
//     scheduler (a warp)           for each item, until the last, or until the call is cancelled:
//                                      hand it to all others, with what is to be known of its subtiles
//     weights (a warp)             for each item, chunk, tap: when a stage is empty: begin to copy the step's weights
//     halo (a warp per subtile)       for each item, chunk: when one of two halos is empty: begin to copy the chunk's
//     products (a warpgroup        for each item:
//       per subtile)                      sums[128][OUTPUTS] = 0
//                                      for each chunk, for each tap:
//                                          begin sums += pixels of the tap[128][64] * weights[OUTPUTS][64]
//                                          wait for the step before: its stage is empty
//                                          load the next tap's pixels from the halo to registers (ldmatrix)
//                                      store relu(sums + bias) of the pixels that exist and are wanted
//
// A warp that times out goes on without the data, to the end of its item, and says so; the others then time out too.
//
// Every output is summed in one order (chunk, tap, 16 channels) whatever subtile it is in: same bits for any tiling.
//
// Items of the same subtiles follow each other, so that blocks that run at a time read the same input. Grid: x blocks, at
// most one per multiprocessor. 3 warpgroups: two of products, then one with the other roles.
//
// Shared memory, which wgmma reads weights from, moves 128 bytes a clock; a multiprocessor makes 2048 products a clock.
// A step with 128 outputs is 2 x 128 x 128 x 64 products, 1024 clocks, and moves:
//
//     weights read by wgmma    2 subtiles x 2 halves of 64 pixels x 16 KiB    65536 bytes     64 a clock
//     pixels read by ldmatrix  2 x 128 x 64 x 2                            32768           32
//     weights written          16 KiB                                      16384           16
//     halos written            2 x 180 pixels x 128 / 9 taps                5120            5      = 117 of 128
//
// A subtile for each warpgroup is what keeps that below 128. With one subtile for both, 128 outputs would write twice as many
// weights for the same products (133 a clock), and 256 outputs (115) would read twice as many from L2: 35 bytes a clock
// instead of 21, and 132 multiprocessors at 1.7 GHz ask for 7.8 TB/s of L2 instead of 4.7. With 64 outputs a pixel that
// is read is worth half the products: 154 bytes a clock, or at best 5/6 of the tensor cores' rate.
//
// Pixels come from registers because tables say where they lie: a product that reads them from shared memory wants them
// in a matrix there, which would have to be written for every tap (32 bytes a clock more each way).

#include "conv3.cuh"
#include "ptx_90a.cuh"

// A reader's or a writer's position in a ring of things in shared memory, each with the barriers `full` and `empty`.
template <int LENGTH>
class Ring {
public:
    __device__ explicit Ring(uint32_t barriers) : barriers(barriers) {}

    __device__ uint32_t full() const { return barriers + index * 16; }
    __device__ uint32_t empty() const { return barriers + index * 16 + 8; }
    __device__ uint32_t empty_before() const { return barriers + (index == 0 ? LENGTH - 1 : index - 1) * 16 + 8; }

    __device__ void wait_full(bool& timed_out) const { wait_phase(full(), round, timed_out); }
    // In the first round everything is empty: the phase before the first counts as over.
    __device__ void wait_empty(bool& timed_out) const { wait_phase(empty(), round ^ 1, timed_out); }

    __device__ void advance() {
        if (++index == LENGTH) {
            index = 0;
            round ^= 1;
        }
    }

    int index = 0;

private:
    uint32_t barriers;
    uint32_t round = 0;  // even or odd
};

// What the scheduler hands out: in shared memory, so that nobody waits for tables when an item begins.
struct WorkItem {
    RowSection rows[WGMMA_SUBTILES];
    ColumnSection columns[WGMMA_SUBTILES];
    uint32_t wanted[WGMMA_SUBTILES][SUBTILE_PIXELS / 32];  // where not all pixels are
    int32_t number;                                  // or STOP
};
static_assert(sizeof(WorkItem) == WGMMA_ITEM_BYTES, "shared_bytes.h");

// One warp of a block.
template <int OUTPUTS>
class Conv3Warp {
public:
    // Of a thread: sums take 128 or 64, pixels 64.
    static constexpr int REGISTERS_OF_PRODUCTS = OUTPUTS > 64 ? 232 : 200;

private:
    static constexpr int CHUNK = WGMMA_CHUNK;
    static constexpr int STAGES = wgmma_stages(OUTPUTS);
    static constexpr int STAGE_BYTES = OUTPUTS * CHUNK * 2;
    static constexpr int HALO_BYTES = wgmma_halo_bytes();
    static constexpr int PIECES = CHUNK / 8;
    static constexpr int ROWS = 2;  // a warp has row w and row w + 4 of its subtile, as m16 of two products
    static constexpr int STOP = -1;

    static constexpr int PRODUCT_WARPS = WGMMA_SUBTILES * 4;
    static constexpr int READERS_OF_ITEMS = PRODUCT_WARPS + 1 + WGMMA_SUBTILES;

    // Bytes of shared memory, from the first multiple of WGMMA_ALIGNMENT.
    static constexpr int HALOS = STAGES * STAGE_BYTES;
    static constexpr int STAGE_BARRIERS = HALOS + WGMMA_SUBTILES * 2 * HALO_BYTES;
    static constexpr int HALO_BARRIERS = STAGE_BARRIERS + STAGES * 16;
    static constexpr int ITEM_BARRIERS = HALO_BARRIERS + WGMMA_SUBTILES * 2 * 16;
    static constexpr int ITEMS = ITEM_BARRIERS + WGMMA_ITEMS * 16;
    static constexpr int SOURCES = ITEMS + WGMMA_ITEMS * WGMMA_ITEM_BYTES;

public:
    __device__ Conv3Warp(const ConvParams& p, uint8_t* shared)
        : p(p),
          shared(shared),
          lane(threadIdx.x % 32),
          start((shared_address(shared) + WGMMA_ALIGNMENT - 1) / WGMMA_ALIGNMENT * WGMMA_ALIGNMENT),
          items(shared, shared_byte(ITEMS)),
          item_ring(start + ITEM_BARRIERS),
          stages(start + STAGE_BARRIERS),
          steps(p.input_channels / CHUNK * 9),
          output_panels((p.output_channels + OUTPUTS - 1) / OUTPUTS) {}

    // Barriers and zero pixels, by all threads of the block.
    __device__ void prepare() const {
        const int thread = threadIdx.x;
        if (thread == 0) {
            for (int i = 0; i < STAGES; i++) {
                init_ring_slot(STAGE_BARRIERS, i, 1, PRODUCT_WARPS);
            }
            for (int i = 0; i < WGMMA_SUBTILES * 2; i++) {
                init_ring_slot(HALO_BARRIERS, i, 32, 4);
            }
            for (int i = 0; i < WGMMA_ITEMS; i++) {
                init_ring_slot(ITEM_BARRIERS, i, 1, READERS_OF_ITEMS);
            }
            publish_to_async();
        }
        if (thread < WGMMA_SUBTILES * 2 * PIECES) {
            const uint32_t zero = HALOS + thread / PIECES * HALO_BYTES + ZERO_PIXEL * CHUNK * 2;
            SharedArray<uint4>(shared, shared_byte(zero))[thread % PIECES] = uint4{0, 0, 0, 0};
        }
        barrier();
    }

    // Hands out the block's items, and then STOP. A call that is cancelled stops here, because here it stops for all.
    __device__ void schedule() {
        const int count = (p.subtile_count + WGMMA_SUBTILES - 1) / WGMMA_SUBTILES * output_panels;
        for (int number = int(blockIdx.x);; number += int(gridDim.x)) {
            item_ring.wait_empty(timed_out);
            const bool stop = ballot(*p.cancel != 0 || timed_out) != 0 || number >= count;
            WorkItem& item = items[item_ring.index];
            for (int which = 0; which < WGMMA_SUBTILES && !stop; which++) {
                const ConvSubtile subtile(p, subtile_of(number, which));
                copy_words(item.rows[which], subtile.rows);
                copy_words(item.columns[which], subtile.columns);
                if (subtile.wanted && lane < SUBTILE_PIXELS / 32) {
                    item.wanted[which][lane] = subtile.wanted[lane];
                }
            }
            if (lane == 0) {
                item.number = stop ? STOP : number;
            }
            warp_barrier();
            if (lane == 0) {
                arrive(item_ring.full());
            }
            if (stop) {
                break;
            }
            item_ring.advance();
        }
        report_overflow(p.overflow, TIMEOUT, timed_out);
    }

    __device__ void load_weights() {
        for (; begin_item(); end_item()) {
            if (lane == 0) {
                const uint8_t* from = reinterpret_cast<const uint8_t*>(p.weights) +
                                      int64_t(output_panel()) * steps * STAGE_BYTES;
                for (int step = 0; step < steps; step++, from += STAGE_BYTES) {
                    stages.wait_empty(timed_out);
                    arrive_expecting(stages.full(), STAGE_BYTES);
                    copy_bulk(stage(stages.index), from, STAGE_BYTES, stages.full());
                    stages.advance();
                }
            }
            // In end_item() the other lanes wait, and do not poll in its way.
        }
    }

    __device__ void load_halos(int which) {
        const SharedArray<int32_t> sources(shared, shared_byte(SOURCES) + which * HALO_PIXELS * 4);
        Ring<2> halos = halo_ring(which);
        for (; begin_item(); end_item()) {
            const ConvSubtile subtile = subtile_of_item(which);
            const int pixels = subtile.rows.inputs * subtile.columns.inputs;
            find_sources(sources, subtile);
            for (int chunk = 0; chunk < p.input_channels / CHUNK; chunk++) {
                halos.wait_empty(timed_out);
                copy_halo<CHUNK, 32>(halo(which, halos.index), sources, p, chunk, 0, pixels, int(lane));
                arrive_after_copies(halos.full());
                halos.advance();
            }
        }
    }

    __device__ void make_products(int which) {
        const int warp = int(threadIdx.x) / 32 % 4;
        Ring<2> halos = halo_ring(which);
        uint32_t even[ROWS][PIECES / 2][4], odd[ROWS][PIECES / 2][4];  // pixels of this step and of the next
        float sums[ROWS][OUTPUTS / 8][4];
        for (; begin_item(); end_item()) {
            const LanePixels<CHUNK, ROWS, 4> lane_pixels(subtile_of_item(which), warp, lane);
            clear(sums);

            int tap = 0;
            const auto load_pixels = [&](uint32_t(&pixels)[ROWS][PIECES / 2][4]) {
                if (tap == 0) {
                    halos.wait_full(timed_out);
                }
                uint32_t addresses[ROWS];
                lane_pixels.find(addresses, halo(which, halos.index), tap);
#pragma unroll
                for (int k = 0; k < PIECES / 2; k++) {
#pragma unroll
                    for (int row = 0; row < ROWS; row++) {
                        load_matrices(pixels[row][k], addresses[row] ^ (k * 32));
                    }
                }
                if (++tap == 9) {
                    tap = 0;
                    release(halos.empty());
                    halos.advance();
                }
            };
            const auto make_step = [&](const uint32_t(&pixels)[ROWS][PIECES / 2][4],
                                       uint32_t(&next)[ROWS][PIECES / 2][4], int step) {
                stages.wait_full(timed_out);
                warpgroup_fence();
                const uint64_t weights = rows_of_64(stage(stages.index));
#pragma unroll
                for (int k = 0; k < PIECES / 2; k++) {
#pragma unroll
                    for (int row = 0; row < ROWS; row++) {
                        warpgroup_multiply_add(sums[row], pixels[row][k], weights + k * 2);
                    }
                }
                warpgroup_commit();
                warpgroup_wait<1>();
                if (step > 0) {
                    release(stages.empty_before());
                }
                stages.advance();
                if (step + 1 < steps) {
                    load_pixels(next);
                }
            };

            load_pixels(even);
            for (int step = 0; step < steps; step += 2) {
                make_step(even, odd, step);
                if (step + 1 < steps) {
                    make_step(odd, even, step + 1);
                }
            }
            warpgroup_wait<0>();
            release(stages.empty_before());

            if (has_subtile(items[item_ring.index].number, which)) {
                const ConvSubtile subtile = subtile_of_item(which);
                const int first_output = output_panel() * OUTPUTS;
                float2 bias[OUTPUTS / 8];
                load_bias(bias, p.bias + first_output, lane);
                bool overflow = false;
#pragma unroll
                for (int row = 0; row < ROWS; row++) {
                    overflow |= store_row(p, subtile, warp + row * 4, first_output, sums[row], bias, lane);
                }
                report_overflow(p.overflow, p.layer, overflow);
            }
        }
        report_overflow(p.overflow, TIMEOUT, timed_out);
    }

private:
    const ConvParams& p;
    uint8_t* const shared;
    const uint32_t lane;
    const uint32_t start;  // address
    const SharedArray<WorkItem> items;
    Ring<WGMMA_ITEMS> item_ring;
    Ring<STAGES> stages;
    const int steps;
    const int output_panels;
    bool timed_out = false;  // waiting for data

    // For SharedArray.
    __device__ uint32_t shared_byte(uint32_t from_start) const { return start - shared_address(shared) + from_start; }

    __device__ uint32_t stage(int index) const { return start + index * STAGE_BYTES; }
    __device__ uint32_t halo(int which, int index) const {
        return start + HALOS + (which * 2 + index) * HALO_BYTES;
    }
    __device__ Ring<2> halo_ring(int which) const { return Ring<2>(start + HALO_BARRIERS + which * 2 * 16); }

    __device__ void init_ring_slot(int barriers, int index, int writers, int readers) const {
        init_phases(start + barriers + index * 16, writers);
        init_phases(start + barriers + index * 16 + 8, readers);
    }

    // The warp has read it.
    __device__ void release(uint32_t empty) const {
        warp_barrier();
        if (lane == 0) {
            arrive(empty);
        }
    }

    // Where the pixels of a halo lie in the input, by a warp, which has read the old ones before end_item().
    __device__ void find_sources(const SharedArray<int32_t>& sources, const ConvSubtile& subtile) const {
        static_assert(SUBTILE_INPUT_COLUMNS <= 32, "a lane for each");
        const int width = subtile.columns.inputs;
        const int column = int(lane) < width ? subtile.columns.input[lane] : 0;
#pragma unroll 1
        for (int row = 0; row < subtile.rows.inputs; row++) {
            if (int(lane) < width) {
                sources[row * width + int(lane)] = subtile.rows.input[row] * p.input_columns + column;
            }
        }
        warp_barrier();
    }

    // Whether there is an item; it stays where it is until the warp ends it.
    __device__ bool begin_item() {
        item_ring.wait_full(timed_out);
        return ballot(timed_out) == 0 && items[item_ring.index].number != STOP;
    }
    __device__ void end_item() {
        release(item_ring.empty());
        item_ring.advance();
    }

    __device__ int output_panel() const { return items[item_ring.index].number % output_panels; }
    __device__ ConvSubtile subtile_of_item(int which) const {
        const WorkItem& item = items[item_ring.index];
        return ConvSubtile(item.rows[which], item.columns[which], p.subtiles ? item.wanted[which] : nullptr);
    }

    // An odd number of subtiles leaves the last item one: it is then made twice and stored once.
    __device__ bool has_subtile(int item, int which) const {
        return item / output_panels * WGMMA_SUBTILES + which < p.subtile_count;
    }
    __device__ int subtile_of(int item, int which) const {
        return item / output_panels * WGMMA_SUBTILES + (has_subtile(item, which) ? which : 0);
    }

    // By all lanes.
    template <class T>
    __device__ void copy_words(T& to, const T& from) const {
        for (int i = int(lane); i < int(sizeof(T) / 4); i += 32) {
            reinterpret_cast<uint32_t*>(&to)[i] = reinterpret_cast<const uint32_t*>(&from)[i];
        }
    }
};

// All warps of a block.
template <int OUTPUTS>
__device__ inline void conv3_wgmma(const ConvParams& p) {
    using Warp = Conv3Warp<OUTPUTS>;
    // A thread begins with 168 registers; three, one of each warpgroup, keep 504 together.
    constexpr int REGISTERS_OF_COPIES = 504 - 2 * Warp::REGISTERS_OF_PRODUCTS;
    SHARED_MEMORY(shared);
    Warp warp(p, shared);
    warp.prepare();
    const int number = int(threadIdx.x) / 32;
    if (number < WGMMA_SUBTILES * 4) {
        take_registers<Warp::REGISTERS_OF_PRODUCTS>();
        warp.make_products(number / 4);
        return;
    }
    give_registers<REGISTERS_OF_COPIES>();
    switch (number - WGMMA_SUBTILES * 4) {
        case 0: return warp.schedule();
        case 1: return warp.load_weights();
        default: return warp.load_halos(number % 2);
    }
}

#define CONV3_WGMMA(OUTPUTS)                                          \
    extern "C" __global__ void __launch_bounds__(WGMMA_THREADS, 1)    \
        conv3_wgmma_##OUTPUTS(const __grid_constant__ ConvParams p) { \
        conv3_wgmma<OUTPUTS>(p);                                      \
    }

CONV3_WGMMA(128)
CONV3_WGMMA(64)
