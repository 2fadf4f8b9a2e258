// fp16 as bits: exact conversions, rounding to nearest, ties to even.

#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

inline float exact_half_to_float(uint16_t half) {
    const uint32_t sign = uint32_t(half & 0x8000) << 16;
    const uint32_t exponent = (half >> 10) & 31;
    const uint32_t mantissa = half & 1023;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000u | mantissa << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        const float magnitude = float(mantissa) / 16777216.0f;  // subnormal: units of 2^-24
        memcpy(&bits, &magnitude, 4);
        bits |= sign;
    }
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

// [half]: matrix products convert the same few hundred values over and over.
inline const float* floats_of_halves() {
    static const std::vector<float> TABLE = [] {
        std::vector<float> table(65536);
        for (uint32_t i = 0; i < 65536; i++) table[i] = exact_half_to_float(uint16_t(i));
        return table;
    }();
    return TABLE.data();
}
inline float half_to_float(uint16_t half) { return floats_of_halves()[half]; }

inline uint16_t float_to_half(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return 0x7fff;          // the one NaN that cvt gives
    if (bits >= 0x477ff000u) return sign | 0x7c00;  // 65520 and more
    if (bits < 0x38800000u) {                       // below 2^-14: units of 2^-24
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;  // whose last place is 2^-24: the addition rounds
        memcpy(&bits, &magnitude, 4);
        return uint16_t(sign | (bits - 0x3f000000u));
    }
    bits += 0xfff + (bits >> 13 & 1);
    return uint16_t(sign | ((bits - 0x38000000u) >> 13));
}
