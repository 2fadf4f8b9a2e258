// Counts every call by name and makes chosen ones fail; makes chosen kernels go wrong.

#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "driver.h"

namespace fake_driver {

enum class Fault {
    None,
    Wrong,      // a kernel that does nothing
    Traps,      // a kernel that meets an illegal instruction
    Hangs,      // a kernel that never ends
    Unloadable, // a kernel whose module the driver's compiler refuses
};

class Faults {
public:
    // Counts a call. Not success: the error with which it must fail.
    CUresult call(const char* name) {
        ++total_;
        Calls& calls = calls_[name];
        ++calls.made;
        const auto fault = calls.fail_at.find(calls.made);
        if (fault == calls.fail_at.end()) return CUDA_SUCCESS;
        const CUresult error = fault->second;
        calls.fail_at.erase(fault);
        return error;
    }
    void fail(const std::string& name, uint64_t nth, CUresult error) {
        Calls& calls = calls_[name];
        calls.fail_at[calls.made + nth] = error;
    }
    uint64_t made(const std::string& name) const {
        const auto found = calls_.find(name);
        return name.empty() ? total_ : found == calls_.end() ? 0 : found->second.made;
    }

    // From now on this kernel, or each kernel of this module, goes wrong in this way.
    void spoil(const std::string& name, Fault fault) { spoilt_[name] = fault; }
    Fault of(const std::string& name) const {
        const auto found = spoilt_.find(name);
        return found == spoilt_.end() ? Fault::None : found->second;
    }

private:
    struct Calls {
        uint64_t made = 0;
        std::map<uint64_t, CUresult> fail_at;  // by number of the call
    };
    std::map<std::string, Calls> calls_;
    std::map<std::string, Fault> spoilt_;
    uint64_t total_ = 0;
};

}  // namespace fake_driver
