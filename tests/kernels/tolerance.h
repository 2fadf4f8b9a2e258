// How far a sum of products of fp16 may be from the exact one, and what that allows after rounding.
//
// A product of two fp16 is exact in f32. Adding n terms in f32 in any order is off by at most (n - 1) u times the
// sum of their magnitudes, u = 2^-24, to first order (Higham, Accuracy and Stability of Numerical Algorithms, section
// 4.2); n + 2 covers the second order for the sizes here. Rounding to fp16 is monotonic: the result lies between the
// rounded ends of that interval, that is, at most one rounding of fp16 away.

#pragma once
#include <cmath>

#include "half.h"

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
