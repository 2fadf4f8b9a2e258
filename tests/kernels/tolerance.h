// Images of fp16, and how far a sum of products of fp16 may be from the exact one.
//
// A product of two fp16 is exact in f32. Adding n terms in f32 in any order is off by at most (n - 1) u times the
// sum of their magnitudes, u = 2^-24, to first order (Higham, Accuracy and Stability of Numerical Algorithms, section
// 4.2); n + 2 covers the second order for the sizes here. Rounding to fp16 is monotonic: the result lies between the
// rounded ends of that interval, that is, at most one rounding of fp16 away.

#pragma once
#include <cmath>

#include "device_buffer.h"
#include "half.h"
#include "random.h"

struct ExactSum {
    double value = 0;
    double magnitude = 0;
    int terms = 0;

    void add(double term) {
        value += term;
        magnitude += std::fabs(term);
        terms++;
    }
    double error() const { return (terms + 2) * std::ldexp(magnitude, -24); }

    bool allows_float(float have) const { return std::fabs(have - value) <= error(); }

    // After ReLU.
    bool allows_half(uint16_t have) const {
        const float low = float(std::fmax(value - error(), 0)), high = float(std::fmax(value + error(), 0));
        const float result = half_to_float(have);
        return result >= half_to_float(float_to_half(low)) && result <= half_to_float(float_to_half(high));
    }
};

// Checks [rows][columns][channels]: what is wanted(row, column) must be as exact(row, column, channel) allows, and all
// else not stored.
template <class Wanted, class Exact>
void check_image(const DeviceBuffer<uint16_t>& output, int rows, int columns, const Wanted& wanted,
                 const Exact& exact) {
    const int channels = int(output.size()) / rows / columns;
    for (int at = 0; at < int(output.size()); at++) {
        const int row = at / channels / columns, column = at / channels % columns, channel = at % channels;
        if (!wanted(row, column)) {
            if (!output.untouched(size_t(at)))
                fail("(row %d, column %d, channel %d) is not wanted, but stored", row, column, channel);
            continue;
        }
        const ExactSum want = exact(row, column, channel);
        if (!want.allows_half(output[size_t(at)])) {
            fail("(row %d, column %d, channel %d): %g instead of %g", row, column, channel,
                 half_to_float(output[size_t(at)]), std::fmax(want.value, 0));
        }
    }
}

inline std::vector<uint16_t> random_halves(Random& random, size_t count, float low, float high) {
    std::vector<uint16_t> halves;
    for (const float value : random.floats(count, low, high)) halves.push_back(float_to_half(value));
    return halves;
}
