// All that the fake driver knows: the machine it plays, its devices, contexts and live objects. Every access is under
// the turnstile.

#pragma once
#include <memory>
#include <string>

#include "driver.h"
#include "faults.h"
#include "graphs.h"
#include "handles.h"
#include "memory.h"
#include "modules.h"
#include "shim.h"
#include "streams.h"
#include "turnstile.h"

namespace fake_driver {

struct Settings {
    int devices = 1;
    int major = 8;
    int minor = 0;
    uint64_t memory_bytes = uint64_t(1) << 30;
    uint64_t shared_optin_bytes = 163 << 10;
    int driver_version = 12040;
    CUresult init_result = CUDA_SUCCESS;
    sim::Completion completion = sim::Completion::Random;
};

struct Context {
    CUcontext handle = nullptr;
    int device = 0;
    bool alive = true;
    bool hangs = false;  // a kernel that never ends is at work
    CUresult error = CUDA_SUCCESS;  // of a kernel; stays
    std::shared_ptr<Stream> default_stream;

    // What every call in this context returns, if not success.
    CUresult state() const;
    // A kernel or copy went wrong while it ran.
    void fail(CUresult error, const std::string& text);
};

struct Device {
    std::shared_ptr<Context> primary;  // null: not retained
    uint64_t retains = 0;
    uint64_t runs_left = UINT64_MAX;  // kernel runs until it is lost
    bool lost = false;
};

struct World {
    Turnstile turnstile;
    Settings settings;
    bool initialized = false;
    Device devices[MAX_DEVICES];
    Memory memory;
    Faults faults;
    Scheduler scheduler;
    Captures captures;
    uint64_t kernel_runs = 0;
    uint64_t machines = 0;  // another one since each reset, with other UUIDs
    std::string report_path;  // written when the program ends; "": none

    Table<CUcontext, Context> contexts;  // destroyed ones too
    Table<CUstream, Stream> streams;
    Table<CUevent, Event> events;
    Table<CUmodule, Module> modules;
    Table<CUfunction, Function> functions;
    Table<CUgraph, Graph> graphs;
    Table<CUgraphExec, Exec> execs;

    // Keeps the first text.
    void problem(const std::string& text);
    const std::string& first_problem() const { return problem_; }

    // 0 .. below - 1
    uint64_t random(uint64_t below);
    void set_completion(int mode, uint64_t seed);
    // Settings, faults, counts, losses and texts as at the start; objects stay.
    void reset();
    uint64_t live(const std::string& kind) const;

private:
    std::string problem_;
    uint64_t random_ = 1;
};

World& world();

// The calling thread's stack of current contexts.
CUcontext current_context();
void push_context(CUcontext context);
CUcontext pop_context();  // null: empty
void replace_context(CUcontext context);

}  // namespace fake_driver
