// Memory as a GPU would have it: aligned, full of NaN until written, with guards at both ends that are checked.

#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "check.h"

template <class T> class DeviceBuffer {
public:
    // `count` elements, all poison.
    explicit DeviceBuffer(size_t count = 0) : count(count) {
        const size_t bytes = GUARD + (count * sizeof(T) + 255) / 256 * 256 + GUARD;
        bottom = static_cast<uint8_t*>(aligned_alloc(256, bytes));
        memset(bottom, POISON, bytes);
    }
    explicit DeviceBuffer(const std::vector<T>& values) : DeviceBuffer(values.size()) {
        if (!values.empty()) memcpy(data(), values.data(), values.size() * sizeof(T));
    }
    DeviceBuffer(const DeviceBuffer&) = delete;
    DeviceBuffer& operator=(const DeviceBuffer&) = delete;
    ~DeviceBuffer() { free(bottom); }

    T* data() const { return reinterpret_cast<T*>(bottom + GUARD); }
    T& operator[](size_t index) const { return data()[index]; }
    size_t size() const { return count; }

    // True while nobody has written this element.
    bool untouched(size_t index) const { return all_poison(reinterpret_cast<uint8_t*>(data() + index), sizeof(T)); }

    void check_guards(const char* what) const {
        if (!all_poison(bottom, GUARD) || !all_poison(reinterpret_cast<uint8_t*>(data() + count), GUARD))
            fail("%s: written outside its memory", what);
    }

private:
    static constexpr size_t GUARD = 4096;
    static constexpr uint8_t POISON = 0xFF;  // NaN in every float format; -1
    size_t count;
    uint8_t* bottom;

    static bool all_poison(const uint8_t* bytes, size_t length) {
        for (size_t i = 0; i < length; i++)
            if (bytes[i] != POISON) return false;
        return true;
    }
};
