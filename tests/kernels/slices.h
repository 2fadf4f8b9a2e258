// Slices of voxels for tests, and what src/intensity.rs makes of them.

#pragma once
#include <cmath>
#include <memory>
#include <vector>

#include "device_buffer.h"
#include "params.h"
#include "random.h"

// f(a number of this type)
template <class F> auto with_type(int type, F f) {
    switch (type) {
        case I8: return f(int8_t());
        case U8: return f(uint8_t());
        case I16: return f(int16_t());
        case U16: return f(uint16_t());
        case I32: return f(int32_t());
        case F32: return f(float());
        default: return f(double());
    }
}

// A slice of this voxel type, with gaps between its voxels and rows.
class Slice {
public:
    Slice(int type, int width, int height, Random& random) {
        const int size = with_type(type, [](auto voxel) { return int(sizeof voxel); });
        const int stride_x = size * (1 + int(random.below(2)));
        const int stride_y = stride_x * width + 3 * size;
        bytes.reset(new DeviceBuffer<uint8_t>(size_t(stride_y) * size_t(height)));
        voxels = {bytes->data(), stride_x, stride_y, type, width, height, 0, 2.0, -300.0, -160.0, 240.0};
        if (type == U8) voxels.intercept = -170.0;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) write(bytes->data() + y * stride_y + x * stride_x, type, random);
    }

    double hu(int x, int y) const {
        const uint8_t* at = voxels.data + x * voxels.stride_x + y * voxels.stride_y;
        return with_type(voxels.voxel_type, [&](auto voxel) {
            memcpy(&voxel, at, sizeof voxel);
            return voxels.slope * double(voxel) + voxels.intercept;
        });
    }

    double windowed(int x, int y) const {
        const double in_window = (hu(x, y) - voxels.low) / (voxels.high - voxels.low);
        return std::isfinite(hu(x, y)) ? std::fmin(std::fmax(in_window, 0.0), 1.0) : 0.0;
    }

    int level(int x, int y) const { return int(std::floor(255.0 * windowed(x, y) + 0.5)); }

    Voxels voxels;

private:
    std::unique_ptr<DeviceBuffer<uint8_t>> bytes;

    // Mostly in the window, sometimes far out, now and then NaN or infinite.
    static void write(uint8_t* at, int type, Random& random) {
        const uint64_t kind = random.below(12);
        const double voxel = kind == 0 ? 120 : random.between(50, 290);
        const double strange = kind == 1 ? NAN : kind == 2 ? INFINITY : kind == 3 ? -3e4 : voxel;
        const double i16 = kind == 3 ? -3e4 : voxel, i32 = kind == 3 ? 2e9 : voxel;
        const double values[] = {0, voxel - 160, voxel - 50, i16, voxel, i32, strange, strange};  // by type
        with_type(type, [&](auto typed) {
            typed = decltype(typed)(values[type]);
            memcpy(at, &typed, sizeof typed);
        });
    }
};
