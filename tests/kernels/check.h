// TEST(name) { ... } is a test. What it finds wrong it says with fail(), which ends it.

#pragma once
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

struct Test {
    const char* name;
    void (*run)();
};

inline std::vector<Test>& all_tests() {
    static std::vector<Test> tests;
    return tests;
}

struct Registration {
    Registration(const char* name, void (*run)()) { all_tests().push_back({name, run}); }
};

#define TEST(NAME) \
    static void NAME(); \
    static const Registration registration_of_##NAME(#NAME, NAME); \
    static void NAME()

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

// The fault must be this one.
inline void expect_fault(const char* part, const std::string& problem) {
    if (problem.find(part) == std::string::npos)
        fail("a fault was reported as '%s', not as one of '%s'", problem.c_str(), part);
}
