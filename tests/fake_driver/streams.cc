#include "streams.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "graphs.h"
#include "world.h"

namespace fake_driver {
namespace {

bool ready(const Stream& stream) {
    if (stream.queue.empty() || stream.context->hangs) return false;
    const Moment* wait = stream.queue.front().wait.get();
    return wait == nullptr || wait->reached || stream.context->state() != CUDA_SUCCESS;
}

}  // namespace

void Scheduler::reach(Moment& moment) {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    moment.milliseconds = std::chrono::duration<double, std::milli>(now).count();
    moment.reached = true;
}

// Runs the head of a stream that is ready, or one node of it if it is a graph. After an error nothing works any more
// but everything is reached, so that whoever waits gets to see the error.
void Scheduler::step(Stream& stream) {
    const std::shared_ptr<Stream> alive = stream.shared_from_this();
    Context& context = *stream.context;
    Task& task = stream.queue.front();
    const bool healthy = context.state() == CUDA_SUCCESS;
    if (healthy && task.work) task.work(context);
    if (healthy && task.replay && !task.replay->step(context)) return;
    if (task.reach) reach(*task.reach);
    stream.queue.pop_front();
    if (stream.queue.empty()) busy_.erase(std::find(busy_.begin(), busy_.end(), alive));
}

void Scheduler::enqueue(Stream& stream, Task task) {
    if (stream.queue.empty()) busy_.push_back(stream.shared_from_this());
    stream.queue.push_back(std::move(task));
    const sim::Completion mode = world().settings.completion;
    if (mode == sim::Completion::Eager) {
        while (ready(stream)) step(stream);
    } else if (mode == sim::Completion::Random && world().random(4) == 0) {
        for (uint64_t steps = world().random(3); steps > 0 && !busy_.empty(); --steps) {
            const std::shared_ptr<Stream> any = busy_[world().random(busy_.size())];
            if (ready(*any)) step(*any);
        }
    }
}

// The stream to run next for what `target` must get done: any that is ready, or else (lazy) the one that the target
// depends on.
std::shared_ptr<Stream> Scheduler::choose(const std::shared_ptr<Stream>& target) {
    if (world().settings.completion == sim::Completion::Random) {
        std::vector<std::shared_ptr<Stream>> able;
        std::copy_if(busy_.begin(), busy_.end(), std::back_inserter(able), [](const auto& s) { return ready(*s); });
        if (!able.empty()) return able[world().random(able.size())];
    }
    std::shared_ptr<Stream> stream = target;
    while (stream && !ready(*stream))
        stream = stream->queue.empty() ? nullptr : stream->queue.front().wait->stream.lock();
    if (stream == nullptr) {
        fprintf(stderr, "fake driver: nothing can run, yet a thread waits\n");
        abort();
    }
    return stream;
}

void Scheduler::run_until(const std::shared_ptr<Stream>& target, const std::function<bool()>& done) {
    while (!done()) {
        if (!target->context->hangs) step(*choose(target));  // else nothing helps
        world().turnstile.pass();
    }
}

void Scheduler::finish(const std::shared_ptr<Stream>& stream) {
    // Until the last task of now is done; others may enqueue more meanwhile.
    if (stream->queue.empty()) return;
    if (stream->queue.back().reach == nullptr) {
        stream->queue.back().reach = std::make_shared<Moment>();
        stream->queue.back().reach->stream = stream;
    }
    finish(std::shared_ptr<Moment>(stream->queue.back().reach));
}

void Scheduler::finish(const std::shared_ptr<Moment>& moment) {
    run_until(moment->stream.lock(), [&] { return moment->reached; });
}

void Scheduler::finish(const Context& context) {
    const std::vector<std::shared_ptr<Stream>> now = busy_;
    for (const std::shared_ptr<Stream>& stream : now)
        if (stream->context.get() == &context) finish(stream);
}

void Scheduler::nudge(const std::shared_ptr<Stream>& stream) {
    if (!stream->queue.empty() && !stream->context->hangs) step(*choose(stream));
}

size_t Scheduler::abandon(const Context& context) {
    size_t tasks = 0;
    const std::vector<std::shared_ptr<Stream>> now = busy_;
    for (const std::shared_ptr<Stream>& stream : now) {
        if (stream->context.get() == &context)
            for (; !stream->queue.empty(); ++tasks) step(*stream);
    }
    return tasks;
}

}  // namespace fake_driver
