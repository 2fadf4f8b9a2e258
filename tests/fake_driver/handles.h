// Handles given to callers: numbers that look like pointers, lead nowhere and are never used twice, so that a stale
// or foreign handle is always noticed.

#pragma once
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace fake_driver {

inline uintptr_t next_handle() {
    static uintptr_t last = 0x1000;
    return last += 16;
}

// The live objects of one kind.
template <class Handle, class Object> class Table {
public:
    Handle add(std::shared_ptr<Object> object) {
        const Handle handle = reinterpret_cast<Handle>(next_handle());
        live_.emplace(handle, std::move(object));
        return handle;
    }
    // Null: not a live handle of this kind.
    std::shared_ptr<Object> find(Handle handle) const {
        const auto found = live_.find(handle);
        return found == live_.end() ? nullptr : found->second;
    }
    bool remove(Handle handle) { return live_.erase(handle) != 0; }
    size_t size() const { return live_.size(); }
    const std::unordered_map<Handle, std::shared_ptr<Object>>& all() const { return live_; }

private:
    std::unordered_map<Handle, std::shared_ptr<Object>> live_;
};

}  // namespace fake_driver
