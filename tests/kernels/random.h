// Repeatable random numbers (splitmix64, by Sebastiano Vigna, public domain).

#pragma once
#include <cstdint>
#include <vector>

class Random {
public:
    explicit Random(uint64_t seed = 1) : state(seed) {}

    uint64_t next() {
        uint64_t z = state += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }

    // 0..count-1, for counts below 2^32
    uint64_t below(uint64_t count) { return (next() >> 32) * count >> 32; }

    // In [low, high)
    float between(float low, float high) {
        return low + (high - low) * (static_cast<float>(next() >> 40) / 16777216.0f);
    }

    // Some of them are equal.
    std::vector<float> logits(size_t count) {
        std::vector<float> values;
        for (size_t i = 0; i < count; i++) values.push_back(below(4) == 0 ? 1.5f : between(-20, 20));
        return values;
    }

    std::vector<float> floats(size_t count, float low, float high) {
        std::vector<float> values;
        for (size_t i = 0; i < count; i++) values.push_back(between(low, high));
        return values;
    }

private:
    uint64_t state;
};
