// What the C++ tests share with the C tests: checks, a tiny model, a synthetic volume.
#ifndef CASE_HPP
#define CASE_HPP

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "patchmask.hpp"

extern "C" {
#include "../c/check.h"
#include "../c/segmentation.h"
#include "../c/tiny_model.h"
}

// Runs `what`, which must throw an Error; returns a copy of it.
template <class Error, class What> Error caught(const char* name, What what) {
    try {
        what();
    } catch (const Error& thrown) {
        return thrown;
    }
    std::printf("FAILED %s: nothing was thrown\n", name);
    std::exit(1);
}

#define CHECK_THROWS(expected, text, ...) \
    do { \
        const auto refusal = caught<patchmask::error>(#__VA_ARGS__, [&] { (void)(__VA_ARGS__); }); \
        check_status(expected, refusal.status(), #__VA_ARGS__, __FILE__, __LINE__); \
        check_that(std::string(refusal.what()).find(text) != std::string::npos, refusal.what(), __FILE__, __LINE__); \
    } while (0)

// The file of a tiny model (see ../c/tiny_model.h), of `width` channels.
inline std::vector<std::uint8_t> tiny_file(std::uint32_t width = 3, const char* metadata = nullptr) {
    tiny_model spec = tiny_model_default();
    spec.width = width;
    spec.metadata = metadata;
    std::size_t size = 0;
    std::uint8_t* file = tiny_model_build(&spec, &size);
    std::vector<std::uint8_t> bytes(file, file + size);
    std::free(file);
    return bytes;
}

inline std::vector<std::int16_t> synthetic(const patchmask::extents& size) {
    std::vector<std::int16_t> hu;
    for (std::uint64_t z = 0; z < size.depth; z++) {
        for (std::uint64_t y = 0; y < size.height; y++)
            for (std::uint64_t x = 0; x < size.width; x++) hu.push_back(synthetic_hu(x, y, z));
    }
    return hu;
}

#endif
