// Logits of which some are equal.

#pragma once
#include <vector>

#include "random.h"

inline std::vector<float> random_logits(Random& random, size_t count) {
    std::vector<float> logits;
    for (size_t i = 0; i < count; i++) logits.push_back(random.below(4) == 0 ? 1.5f : random.between(-20, 20));
    return logits;
}
