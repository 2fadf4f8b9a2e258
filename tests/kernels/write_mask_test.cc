// write_mask: what src/mask.rs does, bit for bit.

#include <algorithm>
#include <cmath>

#include "launching.h"
#include "random.h"

namespace {

struct Picture {
    int width, height, grid_columns, grid_rows, classes, lesion_class;
    bool linear, roi, all_planes;
    float threshold = 0;
};

constexpr uint8_t NOT_WRITTEN = 0xFF;

std::vector<AxisSample> random_fills(Random& random, int pixels, int centres, bool linear) {
    std::vector<AxisSample> fills;
    for (int i = 0; i < pixels; i++) {
        const int low = random.below(7) == 0 ? -1 : int(random.below(uint64_t(centres)));
        const int high = linear && low >= 0 && low + 1 < centres ? low + 1 : low;
        fills.push_back({low, high, high > low ? random.between(0, 1) : 0.0f});
    }
    return fills;
}

// The largest, the first of equals; with a threshold the lesion class apart.
size_t chosen(const Picture& c, std::vector<float> values, float lesion) {
    if (c.threshold > 0 && lesion >= c.threshold) return size_t(c.lesion_class);
    if (c.threshold > 0) values[size_t(c.lesion_class)] = -INFINITY;
    return size_t(std::max_element(values.begin(), values.end()) - values.begin());
}

void matches(const Picture& c) {
    Random random(uint64_t(c.width) + uint64_t(c.classes));
    const size_t patches = size_t(c.grid_columns) * c.grid_rows;
    const std::vector<float> logits = random.logits(patches * c.classes);
    std::vector<float> probabilities;
    for (size_t i = 0; i < patches * c.classes; i++)
        probabilities.push_back(random.below(3) == 0 ? 0.25f : random.between(0, 1));
    const std::vector<AxisSample> rows = random_fills(random, c.height, c.grid_rows, c.linear);
    const std::vector<AxisSample> columns = random_fills(random, c.width, c.grid_columns, c.linear);
    std::vector<uint8_t> roi;
    for (int i = 0; c.roi && i < c.width * c.height; i++) roi.push_back(uint8_t(random.below(3)));
    // Voxels of the outputs lie apart: what is between them stays as it is.
    const size_t voxels = size_t(c.width) * c.height;
    DeviceBuffer<uint8_t> mask(voxels * 2), coverage(voxels);
    DeviceBuffer<float> probability(voxels * 3);
    Launch launch;
    WriteMaskParams p{};
    p.logits = launch.upload(logits);
    p.probabilities = launch.upload(probabilities);
    p.rows = launch.upload(rows);
    p.columns = launch.upload(columns);
    p.roi = launch.upload(roi);
    p.mask = {mask.data(), 2, 2 * c.width};
    if (c.all_planes) {
        p.probability = {probability.data(), 4 * c.height, 4};  // columns side by side
        p.coverage = {coverage.data(), 1, c.width};
    }
    p.width = c.width;
    p.height = c.height;
    p.grid_columns = c.grid_columns;
    p.classes = c.classes;
    p.lesion_class = c.lesion_class;
    p.linear = c.linear;
    p.threshold = c.threshold;
    launch.run("write_mask", p, {divide_up(size_t(c.width), WRITE_MASK_THREADS) * unsigned(c.height), 1, 1}, WRITE_MASK_THREADS, 0);
    mask.check_guards("mask");
    probability.check_guards("probability");
    coverage.check_guards("coverage");

    const auto of = [&](const std::vector<float>& values, int y, int x) {
        const auto first = values.begin() + (long(y) * c.grid_columns + x) * c.classes;
        return std::vector<float>(first, first + c.classes);
    };
    for (int y = 0; y < c.height; y++) {
        for (int x = 0; x < c.width; x++) {
            const AxisSample row = rows[size_t(y)], column = columns[size_t(x)];
            const size_t voxel = size_t(y) * c.width + x;
            const bool covered = row.low >= 0 && column.low >= 0 && (!c.roi || roi[voxel] != 0);
            size_t want_class = 0;
            float want_probability = 0;
            if (covered && c.linear) {
                const auto mix = [](float a, float b, float weight) { return a * (1.0f - weight) + b * weight; };
                std::vector<float> mixed;
                for (size_t i = 0; i < size_t(c.classes); i++) {
                    const auto at = [&](int down, int right) { return of(probabilities, down, right)[i]; };
                    mixed.push_back(mix(mix(at(row.low, column.low), at(row.low, column.high), column.weight),
                                        mix(at(row.high, column.low), at(row.high, column.high), column.weight),
                                        row.weight));
                }
                want_probability = mixed[size_t(c.lesion_class)];
                want_class = chosen(c, mixed, want_probability);
            } else if (covered) {
                want_probability = of(probabilities, row.low, column.low)[size_t(c.lesion_class)];
                want_class = chosen(c, of(logits, row.low, column.low), want_probability);
            }
            if (mask[voxel * 2] != want_class || mask[voxel * 2 + 1] != NOT_WRITTEN)
                fail("mask (row %d, column %d): %d instead of %zu", y, x, mask[voxel * 2], want_class);
            const float have = probability[size_t(x) * c.height + y];
            if (c.all_planes && (have != want_probability || coverage[voxel] != covered))
                fail("probability (row %d, column %d): %.9g instead of %.9g", y, x, have, want_probability);
        }
    }
}

}  // namespace

TEST(write_mask_nearest) {
    matches({131, 9, 5, 4, 2, 1, false, false, true});
    matches({1, 1, 1, 1, 3, 2, false, false, true});
    matches({300, 7, 9, 8, 3, 0, false, true, true});
    matches({64, 5, 9, 8, 255, 200, false, true, false});
    matches({131, 9, 5, 4, 2, 0, false, false, true, 0.25f});
    matches({131, 9, 5, 4, 3, 1, false, false, true, 0.6f});
}

TEST(write_mask_linear) {
    matches({131, 9, 5, 4, 2, 1, true, false, true});
    matches({300, 7, 9, 8, 3, 0, true, true, true});
    matches({64, 5, 1, 8, 3, 1, true, true, false});
    matches({131, 9, 5, 4, 3, 0, true, false, true, 0.4f});
}
