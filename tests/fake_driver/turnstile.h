// The lock around everything: first come, first served, so that a thread which synchronises lets others in between
// two tasks and none starves.

#pragma once
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace fake_driver {

class Turnstile {
public:
    void lock() {
        std::unique_lock<std::mutex> held(mutex_);
        const uint64_t ticket = next_++;
        turn_.wait(held, [&] { return ticket == serving_; });
    }
    void unlock() {
        std::lock_guard<std::mutex> held(mutex_);
        ++serving_;
        turn_.notify_all();
    }
    // Lets whoever waits go first.
    void pass() {
        bool waiting;
        {
            std::lock_guard<std::mutex> held(mutex_);
            waiting = next_ > serving_ + 1;
        }
        if (waiting) {
            unlock();
            lock();
        }
    }

private:
    std::mutex mutex_;
    std::condition_variable turn_;
    uint64_t next_ = 0;
    uint64_t serving_ = 0;
};

}  // namespace fake_driver
