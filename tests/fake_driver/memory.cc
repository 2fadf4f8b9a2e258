#include "memory.h"

#include <cstdio>
#include <cstring>
#include <sys/mman.h>

#include "world.h"

namespace fake_driver {
namespace {

// Address space of each owner. Well below where Linux puts programs, libraries, heaps and stacks.
constexpr uintptr_t SPACE = uintptr_t(0x2A50) << 32;
constexpr uintptr_t SPACE_BYTES = uintptr_t(1) << 37;
constexpr size_t PAGE = 4096;
constexpr size_t RED_ZONE = 2 * PAGE;
constexpr size_t GAP = 16 * PAGE;
constexpr uint64_t KEPT_FREED_BYTES = 64 << 20;
constexpr uint8_t POISON = 0xFF;

size_t round_up(size_t bytes, size_t to) { return (bytes + to - 1) / to * to; }

// The first byte that is not poison, or `bytes`.
size_t first_changed(const uint8_t* from, size_t bytes) {
    // Equal to itself one byte on: all the same.
    if (bytes == 0 || (from[0] == POISON && memcmp(from, from + 1, bytes - 1) == 0)) return bytes;
    size_t at = 0;
    while (from[at] == POISON) ++at;
    return at;
}

std::string owner_name(int owner) { return owner == PINNED ? "pinned memory" : "device " + std::to_string(owner); }

std::string hexadecimal(const void* address) {
    char text[32];
    snprintf(text, sizeof text, "%p", address);
    return text;
}

std::string describe(const Allocation& allocation) {
    return "allocation of " + std::to_string(allocation.bytes) + " bytes at " + hexadecimal(allocation.data) + " (" +
           owner_name(allocation.owner) + ")";
}

std::string damage_of(const Allocation& a) {
    const size_t front = a.data - a.mapped;
    size_t at = first_changed(a.mapped, front);
    if (at != front) return describe(a) + ": written " + std::to_string(front - at) + " bytes before its start";
    const size_t back = a.mapped_bytes - front - a.bytes;
    at = first_changed(a.data + a.bytes, back);
    if (at != back) return describe(a) + ": written " + std::to_string(at) + " bytes past its end";
    return "";
}

std::string damage_of_freed(const Allocation& a) {
    const size_t at = first_changed(a.mapped, a.mapped_bytes);
    if (at == a.mapped_bytes) return "";
    return describe(a) + ": written at byte " + std::to_string(a.mapped + at - a.data) + " after it was freed";
}

}  // namespace

int Memory::owner(uintptr_t address) {
    if (address < SPACE || address >= SPACE + (MAX_DEVICES + 1) * SPACE_BYTES) return PAGEABLE;
    return static_cast<int>((address - SPACE) / SPACE_BYTES);
}

uint8_t* Memory::allocate(int owner, size_t bytes, CUcontext context) {
    const size_t mapped_bytes = 2 * RED_ZONE + round_up(bytes, PAGE);
    const size_t step = round_up(mapped_bytes + GAP, GAP);
    // Addresses rise and start over at the end, past whatever still lies there.
    for (uint64_t tried = 0; tried <= SPACE_BYTES; tried += step) {
        if (FIRST_OFFSET + next_[owner] + step > SPACE_BYTES) next_[owner] = 0;
        void* wanted = reinterpret_cast<void*>(SPACE + owner * SPACE_BYTES + FIRST_OFFSET + next_[owner]);
        next_[owner] += step;
        void* mapped = mmap(wanted, mapped_bytes, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (mapped == MAP_FAILED) continue;
        if (mapped != wanted) {  // a kernel that does not know MAP_FIXED_NOREPLACE
            munmap(mapped, mapped_bytes);
            continue;
        }
        uint8_t* start = static_cast<uint8_t*>(mapped);
        memset(start, POISON, mapped_bytes);
        const Allocation made{start + RED_ZONE, bytes, owner, context, start, mapped_bytes};
        live_.emplace(reinterpret_cast<uintptr_t>(made.data), made);
        live_bytes_[owner] += bytes;
        return made.data;
    }
    return nullptr;
}

bool Memory::release(int owner, const void* data) {
    const auto found = live_.find(reinterpret_cast<uintptr_t>(data));
    if (found == live_.end() || found->second.owner != owner) return false;
    const Allocation freed = found->second;
    if (const std::string text = damage_of(freed); !text.empty()) world().problem("found at free: " + text);
    live_.erase(found);
    live_bytes_[owner] -= freed.bytes;
    memset(freed.mapped, POISON, freed.mapped_bytes);
    freed_.push_back(freed);
    freed_bytes_ += freed.mapped_bytes;
    while (freed_bytes_ > KEPT_FREED_BYTES) forget_oldest();
    return true;
}

void Memory::forget_oldest() {
    const Allocation oldest = freed_.front();
    freed_.pop_front();
    if (const std::string text = damage_of_freed(oldest); !text.empty()) world().problem(text);
    freed_bytes_ -= oldest.mapped_bytes;
    munmap(oldest.mapped, oldest.mapped_bytes);
}

const Allocation* Memory::find(const void* address) const {
    const uintptr_t wanted = reinterpret_cast<uintptr_t>(address);
    auto after = live_.upper_bound(wanted);
    if (after == live_.begin()) return nullptr;
    const Allocation& before = (--after)->second;
    return wanted - after->first < before.bytes ? &before : nullptr;
}

std::string Memory::complaint(int owner, const void* address, size_t bytes) const {
    const int actual = Memory::owner(reinterpret_cast<uintptr_t>(address));
    if (owner == PAGEABLE && (actual == PAGEABLE || actual == PINNED)) owner = actual;  // host memory of either kind
    if (actual != owner) {
        const std::string whose = actual == PAGEABLE ? "the program's own memory" : "memory of " + owner_name(actual);
        return hexadecimal(address) + " is " + whose + ", not of " +
               (owner == PAGEABLE ? "the host" : owner_name(owner));
    }
    if (owner == PAGEABLE) return "";
    const Allocation* allocation = find(address);
    if (allocation == nullptr) return hexadecimal(address) + " (" + owner_name(owner) + ") is in no live allocation";
    const size_t offset = static_cast<const uint8_t*>(address) - allocation->data;
    if (bytes > allocation->bytes - offset) {
        return std::to_string(bytes) + " bytes from offset " + std::to_string(offset) + " leave the " +
               describe(*allocation);
    }
    return "";
}

std::string Memory::damage(int owner) const {
    for (const auto& [address, allocation] : live_) {
        if (allocation.owner == owner) {
            if (const std::string text = damage_of(allocation); !text.empty()) return text;
        }
    }
    return "";
}

std::string Memory::damage() const {
    for (int owner = 0; owner <= PINNED; ++owner)
        if (const std::string text = damage(owner); !text.empty()) return text;
    for (const Allocation& allocation : freed_)
        if (const std::string text = damage_of_freed(allocation); !text.empty()) return text;
    return "";
}

uint64_t Memory::bytes(int owner) const { return live_bytes_[owner]; }

uint64_t Memory::count(bool pinned) const {
    uint64_t count = 0;
    for (const auto& [address, allocation] : live_) count += (allocation.owner == PINNED) == pinned;
    return count;
}

}  // namespace fake_driver
