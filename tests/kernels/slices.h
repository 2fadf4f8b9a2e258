// Slices of voxels for tests, and what src/intensity.rs makes of them.

#pragma once
#include <cmath>
#include <memory>
#include <vector>

#include "device_buffer.h"
#include "params.h"
#include "random.h"

// Of every voxel type in turn by `type`, the rows apart by more than a row.
class Slice {
public:
    Slice(int type, int width, int height, Random& random) {
        static const int SIZES[] = {0, 1, 1, 2, 2, 4, 4, 8};
        const int size = SIZES[type];
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
        switch (voxels.type) {
            case I8: return rescale(value<int8_t>(at));
            case U8: return rescale(value<uint8_t>(at));
            case I16: return rescale(value<int16_t>(at));
            case U16: return rescale(value<uint16_t>(at));
            case I32: return rescale(value<int32_t>(at));
            case F32: return rescale(value<float>(at));
            default: return rescale(value<double>(at));
        }
    }

    double windowed(int x, int y) const {
        const double in_window = (hu(x, y) - voxels.low) / (voxels.high - voxels.low);
        return std::isfinite(hu(x, y)) ? std::fmin(std::fmax(in_window, 0.0), 1.0) : 0.0;
    }

    int level(int x, int y) const { return int(std::floor(255.0 * windowed(x, y) + 0.5)); }

    Voxels voxels;

private:
    std::unique_ptr<DeviceBuffer<uint8_t>> bytes;

    template <class T> static double value(const uint8_t* at) {
        T voxel;
        memcpy(&voxel, at, sizeof(T));
        return double(voxel);
    }
    double rescale(double voxel) const { return voxels.slope * voxel + voxels.intercept; }

    template <class T> static void put(uint8_t* at, double voxel) {
        const T typed = T(voxel);
        memcpy(at, &typed, sizeof(T));
    }

    // Mostly in the window, sometimes far out, now and then NaN or infinite.
    static void write(uint8_t* at, int type, Random& random) {
        const uint64_t kind = random.below(12);
        const double voxel = kind == 0 ? 120 : random.between(50, 290);
        const double strange = kind == 1 ? NAN : kind == 2 ? INFINITY : kind == 3 ? -3e4 : voxel;
        switch (type) {
            case I8: put<int8_t>(at, voxel - 160); break;
            case U8: put<uint8_t>(at, voxel - 50); break;
            case I16: put<int16_t>(at, kind == 3 ? -3e4 : voxel); break;
            case U16: put<uint16_t>(at, voxel); break;
            case I32: put<int32_t>(at, kind == 3 ? 2e9 : voxel); break;
            case F32: put<float>(at, strange); break;
            default: put<double>(at, strange); break;
        }
    }
};
