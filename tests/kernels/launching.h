// Launches of kernels by tests: what all of them have in common.

#pragma once
#include <functional>
#include <memory>

#include "check.h"
#include "device_buffer.h"
#include "params.h"
#include "registry.h"
#include "shim.h"

// The two words that every kernel gets, and one launch.
struct Launch {
    DeviceBuffer<uint32_t> cancel{std::vector<uint32_t>{0}};
    DeviceBuffer<uint32_t> overflow{std::vector<uint32_t>{0}};
    bool overflow_cancels = false;  // they are one word

    // A copy of an input on the device, as long as this lives; null if it is empty.
    template <class T> const T* upload(const std::vector<T>& values) {
        if (values.empty()) return nullptr;
        const auto buffer = std::make_shared<DeviceBuffer<T>>(values);
        inputs.push_back(buffer);
        return buffer->data();
    }

    template <class Params>
    void run(const char* name, Params params, Dim3 grid, unsigned threads, size_t shared_bytes) {
        const Kernel* kernel = find_kernel(name);
        if (kernel == nullptr) fail("%s: no such kernel", name);
        check_equal(sizeof(Params), kernel->params_bytes, "bytes of parameters");
        params.cancel = overflow_cancels ? overflow.data() : cancel.data();
        set_overflow(params);
        const std::string problem = sim::launch(grid, {threads, 1, 1}, shared_bytes, [&] { kernel->run(&params); });
        if (!problem.empty()) fail("%s: %s", name, problem.c_str());
        cancel.check_guards("cancel");
        overflow.check_guards("overflow");
    }

private:
    std::vector<std::shared_ptr<void>> inputs;

    template <class Params> auto set_overflow(Params& params) -> decltype(params.overflow, void()) {
        params.overflow = overflow.data();
    }
    void set_overflow(...) {}
};

// Runs `body` with copies that arrive early, late and at any time, and threads in several orders.
inline void in_all_orders(int seeds, const std::function<void(uint64_t seed)>& body) {
    const sim::Completion completions[] = {sim::Completion::Eager, sim::Completion::Lazy, sim::Completion::Random};
    const char* const names[] = {"eager", "lazy", "random"};
    for (int mode = 0; mode < 3; mode++) {
        for (int seed = 1; seed <= seeds; seed++) {
            sim::configure(completions[mode], uint64_t(seed));
            try {
                body(uint64_t(seed));
            } catch (const Failure& failure) {
                fail("%s (%s copies, seed %d)", failure.what(), names[mode], seed);
            }
        }
    }
}

inline unsigned divide_up(size_t a, size_t b) { return unsigned((a + b - 1) / b); }
