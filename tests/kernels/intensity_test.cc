// resample, histogram and equalize: bit for bit what src/resampling.rs and src/intensity.rs do.

#include <algorithm>
#include <cfenv>

#include "launching.h"
#include "shared_bytes.h"
#include "slices.h"

// Consecutive voxels for each pixel, with weights that need not be those of any scale; centres as of a scale.
static std::vector<AxisTaps> random_taps(Random& random, int voxels, int pixels) {
    std::vector<AxisTaps> all;
    for (int i = 0; i < pixels; i++) {
        AxisTaps taps{};
        taps.first = int(int64_t(i) * voxels / pixels);
        taps.count = 1 + int(random.below(uint64_t(std::min(MAX_TAPS, voxels - taps.first))));
        for (int tap = 0; tap < taps.count; tap++) taps.weights[tap] = random.between(0, 1);
        all.push_back(taps);
    }
    return all;
}

static bool owns(int pixel, int voxel, int voxels, int pixels) {
    const double at = (voxel + 0.5) * pixels / voxels;
    return int(std::floor(at + 1e-12)) == pixel;
}

TEST(resample_as_the_cpu) {
    for (int type = I8; type <= F64; type++) {
        in_all_orders(1, [&](uint64_t seed) {
            Random random(seed);
            const int width = 37, height = 11, across = type == I16 ? 140 : 12, down = type == F32 ? 29 : 7;
            Slice slice(type, width, height, random);
            const std::vector<AxisTaps> rows = random_taps(random, height, down), columns = random_taps(random, width, across);
            Launch launch;
            DeviceBuffer<double> output(size_t(across) * size_t(down));
            DeviceBuffer<unsigned long long> nonfinite(std::vector<unsigned long long>{3});
            ResampleParams p{slice.voxels,     launch.upload(rows), launch.upload(columns), output.data(),
                             nonfinite.data(), nullptr,             across,                 down};
            launch.run("resample", p, {divide_up(size_t(across), RESAMPLE_THREADS) * unsigned(down), 1, 1}, RESAMPLE_THREADS, 0);
            output.check_guards("pixels");
            uint64_t strange = 3;
            for (int y = 0; y < down; y++) {
                for (int x = 0; x < across; x++) {
                    const AxisTaps &row = rows[size_t(y)], &column = columns[size_t(x)];
                    double want = 0;
                    for (int j = 0; j < row.count; j++) {
                        double sum = 0;
                        for (int i = 0; i < column.count; i++) {
                            const double hu = slice.hu(column.first + i, row.first + j);
                            sum += column.weights[i] * (std::isfinite(hu) ? hu : slice.voxels.low);
                            strange += !std::isfinite(hu) && owns(x, column.first + i, width, across) &&
                                       owns(y, row.first + j, height, down);
                        }
                        want += row.weights[j] * sum;
                    }
                    const double have = output[size_t(y) * size_t(across) + size_t(x)];
                    if (have != want) fail("type %d (row %d, column %d): %.17g instead of %.17g", type, y, x, have, want);
                }
            }
            check_equal(nonfinite[0], strange, "voxels that are not finite");
        });
    }
}

TEST(histogram_counts) {
    for (int type = I8; type <= F64; type++) {
        in_all_orders(1, [&](uint64_t seed) {
            Random random(seed);
            const int width = type == I16 ? 700 : 37, height = 11;
            Slice slice(type, width, height, random);
            std::vector<uint32_t> want(LEVELS, 0);
            uint64_t strange = 3;
            for (int y = 0; y < height; y++) {
                for (int x = 0; x < width; x++) {
                    want[size_t(slice.level(x, y))]++;
                    strange += !std::isfinite(slice.hu(x, y));
                }
            }
            DeviceBuffer<uint32_t> counts(std::vector<uint32_t>(LEVELS, 0));
            DeviceBuffer<unsigned long long> nonfinite(std::vector<unsigned long long>{3});
            HistogramParams p{slice.voxels, counts.data(), nonfinite.data(), nullptr};
            Launch().run("histogram", p, {1 + unsigned(seed) * 3, 1, 1}, HISTOGRAM_THREADS, HISTOGRAM_SHARED_BYTES);
            counts.check_guards("counts");
            for (size_t level = 0; level < LEVELS; level++)
                if (counts[level] != want[level])
                    fail("type %d, level %zu: %u instead of %u", type, level, counts[level], want[level]);
            check_equal(nonfinite[0], strange, "voxels that are not finite");
        });
    }
}

// `equalize_levels` of src/intensity.rs, for a histogram.
static std::vector<float> equalized(const std::vector<uint32_t>& counts) {
    size_t lowest = 0, others = 0;
    while (lowest < LEVELS && counts[lowest] == 0) lowest++;
    for (size_t level = lowest + 1; level < LEVELS; level++) others += counts[level];
    std::vector<float> table;
    size_t below = 0;
    for (size_t level = 0; level < LEVELS; level++) {
        below += level > lowest ? counts[level] : 0;
        const float factor = 255.0f / float(others);
        table.push_back(others == 0 ? float(level) / 255.0f
                                    : std::fmin(std::nearbyint(float(below) * factor), 255.0f) / 255.0f);
    }
    return table;
}

TEST(equalize_as_the_cpu) {
    in_all_orders(8, [&](uint64_t seed) {
        Random random(seed);
        std::vector<uint32_t> counts(LEVELS, 0);
        const uint64_t present = seed == 1 ? 1 : seed == 2 ? 2 : 1 + random.below(LEVELS);
        for (uint64_t i = 0; i < present; i++) {
            const size_t level = seed == 3 ? i + LEVELS - present : random.below(LEVELS);
            counts[level] += uint32_t(random.below(seed % 2 == 0 ? 9 : 3000000)) + (i == 0);
        }
        if (seed == 4) {
            std::fill(counts.begin(), counts.end(), 0);
            counts[255] = 1u << 31;
        }
        const std::vector<float> want = equalized(counts);
        DeviceBuffer<float> table(LEVELS);
        Launch launch;
        EqualizeParams p{launch.upload(counts), table.data(), nullptr};
        launch.run("equalize", p, {1, 1, 1}, LEVELS, EQUALIZE_SHARED_BYTES);
        table.check_guards("table");
        for (size_t level = 0; level < LEVELS; level++)
            if (table[level] != want[level]) fail("level %zu: %.9g instead of %.9g", level, table[level], want[level]);
    });
}
