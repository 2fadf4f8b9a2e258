// Graphs: work captured from streams, to be replayed as a whole.
//
// While a stream captures, its tasks become nodes of a graph instead of running; a node comes after the stream's
// tail, the nodes that were last there. An event recorded in a capturing stream carries the tail; a stream that waits
// for it joins the capture. Ending needs every node to lead to the tail of the stream where the capture began.

#pragma once
#include <memory>
#include <thread>
#include <vector>

#include "streams.h"

namespace fake_driver {

struct Node {
    Work work;
    size_t before = 0;          // nodes that must run first
    std::vector<size_t> after;  // nodes that may run once this one did
};

struct Graph {
    std::shared_ptr<Context> context;
    std::vector<Node> nodes;
};

// An instantiated graph. Its replays run one after the other.
struct Exec {
    std::shared_ptr<const Graph> graph;
    std::shared_ptr<Moment> last;  // end of the latest replay
};

// One replay on its way.
struct Replay {
    explicit Replay(std::shared_ptr<const Graph> graph);
    // Runs one node; true when all have run.
    bool step(Context& context);

private:
    std::shared_ptr<const Graph> graph_;
    std::vector<size_t> missing_;  // of each node, how many must still run before it
    std::vector<size_t> ready_;
};

struct Capture {
    std::shared_ptr<Graph> graph;
    CaptureMode mode;
    std::thread::id thread;
    std::weak_ptr<Stream> origin;
    std::vector<std::weak_ptr<Stream>> streams;  // origin included
    bool valid = true;

    void add(Stream& stream, Work work);
    void join(const std::shared_ptr<Stream>& stream);
    bool joined() const;  // every node leads to the origin's tail
    void end();           // its streams run their work again
};

class Captures {
public:
    std::shared_ptr<Capture> begin(const std::shared_ptr<Stream>& origin, CaptureMode mode);
    void end(const std::shared_ptr<Capture>& capture);

    // Called by what may wait or touch other streams' work: the error if a capture forbids it to this thread, and
    // that capture is spoilt.
    CUresult forbid_unsafe(CUresult error = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    // The same for a context as a whole, relaxed captures included.
    CUresult forbid_in(const Context& context);

private:
    std::vector<std::shared_ptr<Capture>> active_;
};

// Adds work to a stream: to its queue or to its capture.
CUresult submit(const std::shared_ptr<Stream>& stream, Work work);

}  // namespace fake_driver
