// Device memory and pinned host memory.
//
// Each device, and pinned memory, has address space of its own, so a pointer tells whose it is:
//
//     | gap, not mapped | red zone | data ... | red zone | gap | red zone | data ...
//
// Data and red zones are poisoned with 0xFF: NaN in fp16 and f32, -1 in int32. A red zone that changed tells of a
// write out of bounds. Freed memory is poisoned again and kept a while: a read gives NaN, a write is found later.
// After that it is unmapped and an access ends the program.

#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>

#include "driver.h"

namespace fake_driver {

constexpr int MAX_DEVICES = 8;
constexpr int PINNED = MAX_DEVICES;  // the owner of pinned host memory
constexpr int PAGEABLE = -1;         // of memory that is the program's own

// The least offset of an allocation: so that the low halves of pointers are no small numbers.
constexpr uint64_t FIRST_OFFSET = uint64_t(1) << 28;

struct Allocation {
    uint8_t* data;
    size_t bytes;
    int owner;  // device or PINNED
    CUcontext context;
    uint8_t* mapped;
    size_t mapped_bytes;
};

class Memory {
public:
    // Null: no address space left.
    uint8_t* allocate(int owner, size_t bytes, CUcontext context);
    // False: not the start of a live allocation of this owner.
    bool release(int owner, const void* data);

    static int owner(uintptr_t address);  // a device, PINNED or PAGEABLE
    const Allocation* find(const void* address) const;

    // Why [address, address + bytes) may not be used as this owner's memory; "" if it may.
    std::string complaint(int owner, const void* address, size_t bytes) const;
    // The first damaged red zone of an owner's live allocations; "" if all are whole.
    std::string damage(int owner) const;
    // The same for everything, freed memory included.
    std::string damage() const;

    uint64_t bytes(int owner) const;
    uint64_t count(bool pinned) const;

private:
    std::map<uintptr_t, Allocation> live_;  // by address of data
    std::deque<Allocation> freed_;          // poisoned, oldest first
    uint64_t freed_bytes_ = 0;
    uint64_t live_bytes_[MAX_DEVICES + 1] = {};
    uint64_t next_[MAX_DEVICES + 1] = {};  // offset in the owner's address space, less FIRST_OFFSET

    void forget_oldest();
};

}  // namespace fake_driver
