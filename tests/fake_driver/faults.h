// Counts every call by name and makes chosen ones fail; makes chosen kernels do nothing.

#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>

#include "driver.h"

namespace fake_driver {

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

    // From now on this kernel does nothing when it runs.
    void spoil(const std::string& kernel) { spoilt_.insert(kernel); }
    bool is_spoilt(const std::string& kernel) const { return spoilt_.count(kernel) != 0; }

private:
    struct Calls {
        uint64_t made = 0;
        std::map<uint64_t, CUresult> fail_at;  // by number of the call
    };
    std::map<std::string, Calls> calls_;
    std::set<std::string> spoilt_;
    uint64_t total_ = 0;
};

}  // namespace fake_driver
