// A test is a function; what it finds wrong it says with fail(), which ends it.

#pragma once
#include <cstdarg>
#include <cstdio>
#include <stdexcept>
#include <string>

struct Test {
    const char* name;
    void (*run)();
};

struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

[[noreturn]] __attribute__((format(printf, 1, 2))) inline void fail(const char* format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    throw Failure(text);
}

inline void check_equal(uint64_t have, uint64_t want, const char* what) {
    if (have != want) fail("%s: %llu instead of %llu", what, (unsigned long long)have, (unsigned long long)want);
}
