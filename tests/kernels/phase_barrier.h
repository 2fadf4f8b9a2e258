// An mbarrier of shared memory: phases that end when so many arrivals and all expected bytes have come.

#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace sim {

class PhaseBarrier {
public:
    PhaseBarrier() = default;
    PhaseBarrier(uint32_t count, size_t initialiser) : initialiser(initialiser), count(count), missing(count) {}

    // False: more arrivals than the phase has.
    bool arrive() {
        if (missing == 0) return false;
        missing--;
        return true;
    }

    // Bytes may come before they are expected.
    void expect(uint32_t more) { bytes += more; }
    void complete(uint32_t come) { bytes -= come; }

    // Begins the next phase where this one is over; returns the threads that have waited.
    std::vector<size_t> end_phase() {
        if (missing != 0 || bytes != 0) return {};
        parity ^= 1;
        missing = count;
        return std::move(waiting);
    }

    bool is_over(uint32_t of_parity) const { return parity != (of_parity & 1); }
    void wait(size_t thread) { waiting.push_back(thread); }
    size_t waiters() const { return waiting.size(); }

    size_t initialiser = 0;  // thread
    bool published = false;  // the asynchronous copies can see it

private:
    uint32_t count = 0;
    uint32_t missing = 0;  // arrivals
    int64_t bytes = 0;     // expected, less those that have come
    uint32_t parity = 0;   // of the phase that runs
    std::vector<size_t> waiting;
};

}  // namespace sim
