// Streams: queues of tasks that run in order, streams among each other in any order that events allow.
//
//     task:   wait until a moment is reached (an event of another stream)
//             then work, or replay a graph node by node
//             then reach a moment of its own (an event recorded here)
//
// Nothing runs when it is enqueued, save in eager mode. A thread that waits runs tasks itself, one by one, giving
// way to other threads in between.

#pragma once
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "driver.h"

namespace fake_driver {

struct Capture;
struct Context;
struct Replay;
struct Stream;

using Work = std::function<void(Context&)>;

// A point in a stream's work.
struct Moment {
    bool reached = false;
    double milliseconds = 0;  // when, on the host's clock
    std::weak_ptr<Stream> stream;
};

struct Task {
    std::shared_ptr<Moment> wait = nullptr;
    Work work = nullptr;
    std::shared_ptr<Replay> replay = nullptr;
    std::shared_ptr<Moment> reach = nullptr;
};

struct Stream : std::enable_shared_from_this<Stream> {
    std::shared_ptr<Context> context;
    bool non_blocking = false;  // not ordered with copies that are not asynchronous
    std::deque<Task> queue;
    std::shared_ptr<Capture> capture;  // while capturing
    std::vector<size_t> tail;          // the capture's nodes after which the next one comes
};

struct Event {
    std::shared_ptr<Context> context;
    bool timed = true;
    std::shared_ptr<Moment> moment;    // last recorded; null: never, or in a capture
    std::shared_ptr<Capture> capture;  // in which it was last recorded
    std::vector<size_t> tail;
};

class Scheduler {
public:
    // In random mode sometimes runs something, not necessarily this; in eager mode this.
    void enqueue(Stream& stream, Task task);

    // Runs tasks until it is so; `target` is the stream whose tasks make it so.
    void run_until(const std::shared_ptr<Stream>& target, const std::function<bool()>& done);
    void finish(const std::shared_ptr<Stream>& stream);
    void finish(const std::shared_ptr<Moment>& moment);
    void finish(const Context& context);
    // What a query does: a little work, so that polling gets there.
    void nudge(const std::shared_ptr<Stream>& stream);

    // A destroyed context's work: none of it runs, who waits for it goes on. Returns the number of tasks.
    size_t abandon(const Context& context);

private:
    std::vector<std::shared_ptr<Stream>> busy_;  // with tasks; also streams destroyed since

    std::shared_ptr<Stream> choose(const std::shared_ptr<Stream>& target);
    void step(Stream& stream);
    void reach(Moment& moment);
};

}  // namespace fake_driver
