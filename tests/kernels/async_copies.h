// The cp.async copies of one thread that have not arrived: groups, in the order of their commits.

#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "device.h"

namespace sim {

struct AsyncCopy {
    uint32_t to;     // byte of shared memory
    uint32_t bytes;  // from `from`; zeros up to 16
    const void* from;

    void arrive(uint8_t* shared) const {
        memset(shared + to + bytes, 0, 16 - bytes);
        memcpy(shared + to, from, bytes);
        copied(to);
    }
};

class AsyncCopies {
public:
    void issue(const AsyncCopy& copy) { copies.push_back(copy); }

    void commit() { group_ends.push_back(copies.size()); }

    // Until at most `pending` groups are left.
    void wait(size_t pending, uint8_t* shared) {
        if (group_ends.size() > pending) {
            const size_t groups = group_ends.size() - pending;
            arrive_until(group_ends[groups - 1], shared);
            forget(groups);
        }
    }

    // How many the thread has begun, and until the first so many of them have arrived.
    size_t begun() const { return forgotten + copies.size(); }
    void arrive_first(size_t count, uint8_t* shared) {
        if (count > forgotten) arrive_until(count - forgotten, shared);
    }

    // All, also what is in no group yet.
    void finish(uint8_t* shared) {
        arrive_until(copies.size(), shared);
        copies.clear();
        group_ends.clear();
        arrived = forgotten = 0;
    }

private:
    std::vector<AsyncCopy> copies;
    std::vector<size_t> group_ends;
    size_t arrived = 0;
    size_t forgotten = 0;

    void arrive_until(size_t end, uint8_t* shared) {
        for (; arrived < end && arrived < copies.size(); arrived++) copies[arrived].arrive(shared);
    }

    void forget(size_t groups) {
        copies.erase(copies.begin(), copies.begin() + long(arrived));
        group_ends.erase(group_ends.begin(), group_ends.begin() + long(groups));
        for (size_t& end : group_ends) end -= arrived;
        forgotten += arrived;
        arrived = 0;
    }
};

}  // namespace sim
