// A slice in the model's pixels, and its histogram equalisation: the counts of its levels, and the table that they give.
// Mirrors src/resampling.rs and src/intensity.rs, `equalize_levels` above all, bit for bit.

#include "shared_bytes.h"
#include "voxels.cuh"

// Voxel `x` has its centre in this pixel, of `pixels` over the length of `voxels`.
__device__ inline bool owns(int pixel, int x, int voxels, int pixels) {
    const int64_t centre = (2 * int64_t(x) + 1) * pixels, width = 2 * int64_t(voxels);
    return pixel * width <= centre && centre < (pixel + 1) * width;
}

// Each pixel from the voxels under or around it: weighted sums along rows, then of these. Voxels that are not finite are
// black, and counted by the pixel that they have their centre in. One pixel a thread.
extern "C" __global__ void __launch_bounds__(RESAMPLE_THREADS) resample(const __grid_constant__ ResampleParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    const int across = (p.width + RESAMPLE_THREADS - 1) / RESAMPLE_THREADS;
    const int y = blockIdx.x / across;
    const int x = blockIdx.x % across * RESAMPLE_THREADS + threadIdx.x;
    if (x >= p.width) {
        return;
    }
    const AxisTaps& rows = p.rows[y];
    const AxisTaps& columns = p.columns[x];
    double pixel = 0.0;
    uint32_t strange = 0;
    for (int row = 0; row < rows.count; row++) {
        double sum = 0.0;
        for (int column = 0; column < columns.count; column++) {
            const int voxel_x = columns.first + column, voxel_y = rows.first + row;
            double hu = read_voxel(p.voxels, voxel_x, voxel_y);
            if (!is_finite(hu)) {
                hu = p.voxels.low;
                strange += owns(x, voxel_x, p.voxels.width, p.width) && owns(y, voxel_y, p.voxels.height, p.height);
            }
            sum = sum + columns.weights[column] * hu;
        }
        pixel = pixel + rows.weights[row] * sum;
    }
    p.output[int64_t(y) * p.width + x] = pixel;
    if (strange != 0) {
        atomic_add(p.nonfinite, static_cast<unsigned long long>(strange));
    }
}

// counts[level of voxel]++ for the whole slice. Voxels that are not finite are level 0 and counted in *nonfinite.
//
// Any grid: blocks take rows in turn, threads neighbouring voxels. Every warp counts in its own part of shared memory,
// and a thread passes on a level only when the next voxel has another: air is long runs of level 0.
extern "C" __global__ void __launch_bounds__(HISTOGRAM_THREADS) histogram(const __grid_constant__ HistogramParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    SHARED_MEMORY(shared);
    const SharedArray<uint32_t> bins(shared, 0);  // [HISTOGRAM_WARPS][LEVELS]
    const SharedArray<uint32_t> nonfinite(shared, HISTOGRAM_WARPS * LEVELS * 4);
    for (int i = threadIdx.x; i < HISTOGRAM_WARPS * LEVELS; i += HISTOGRAM_THREADS) {
        bins[i] = 0;
    }
    if (threadIdx.x == 0) {
        nonfinite[0] = 0;
    }
    barrier();

    const int own = threadIdx.x / 32 * LEVELS;
    int level = 0;
    uint32_t run = 0, strange = 0;
    for (int y = blockIdx.x; y < p.voxels.height; y += gridDim.x) {
        for (int x = threadIdx.x; x < p.voxels.width; x += HISTOGRAM_THREADS) {
            const double hu = read_voxel(p.voxels, x, y);
            const bool finite = is_finite(hu);
            const int next = finite ? level_of(p.voxels, hu) : 0;
            strange += !finite;
            if (next != level) {
                atomic_add(&bins[own + level], run);
                level = next;
                run = 0;
            }
            run++;
        }
    }
    atomic_add(&bins[own + level], run);
    if (strange != 0) {
        atomic_add(&nonfinite[0], strange);
    }
    barrier();

    for (int i = threadIdx.x; i < LEVELS; i += HISTOGRAM_THREADS) {
        uint32_t count = 0;
        for (int warp = 0; warp < HISTOGRAM_WARPS; warp++) {
            count += bins[warp * LEVELS + i];
        }
        if (count != 0) {
            atomic_add(&p.counts[i], count);
        }
    }
    if (threadIdx.x == 0 && nonfinite[0] != 0) {
        atomic_add(p.nonfinite, static_cast<unsigned long long>(nonfinite[0]));
    }
}

// table[level] = round(255 / (N - counts[m]) * sum of counts[m + 1 ..= level]) / 255, m the lowest level present;
// level / 255 where there is only one. One block of LEVELS threads.
extern "C" __global__ void __launch_bounds__(LEVELS) equalize(const __grid_constant__ EqualizeParams p) {
    if (cancelled(p.cancel)) {
        return;
    }
    SHARED_MEMORY(shared);
    const int level = threadIdx.x;

    // ---- sums[level] = counts[0 ..= level], in doubling steps between two rows
    int row = 0;
    SharedArray<uint32_t> sums(shared, 0);
    sums[level] = p.counts[level];
    barrier();
    for (int reach = 1; reach < LEVELS; reach *= 2) {
        const uint32_t sum = sums[row + level] + (level >= reach ? sums[row + level - reach] : 0);
        row = LEVELS - row;
        sums[row + level] = sum;
        barrier();
    }

    // The first sum that is not 0 is the lowest level's count.
    const uint32_t own = sums[row + level];
    const bool lowest = own != 0 && (level == 0 || sums[row + level - 1] == 0);
    const SharedArray<uint32_t> lowest_count(shared, (LEVELS - row) * 4);
    if (level == 0) {
        lowest_count[0] = 0;
    }
    barrier();
    if (lowest) {
        lowest_count[0] = own;
    }
    barrier();
    const uint32_t others = sums[row + LEVELS - 1] - lowest_count[0];
    if (others == 0) {
        p.table[level] = static_cast<float>(level) / 255.0f;
        return;
    }
    const float factor = 255.0f / static_cast<float>(others);
    const uint32_t below = own == 0 ? 0 : own - lowest_count[0];
    const float equalized = rintf(static_cast<float>(below) * factor);
    p.table[level] = (equalized < 255.0f ? equalized : 255.0f) / 255.0f;
}
