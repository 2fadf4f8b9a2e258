// See shim.h. Fibers are made with ucontext and switched with the compiler's own setjmp/longjmp, which keep three
// words: most of what a kernel does under the shim is switching.

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <set>

#include <ucontext.h>

#include "device.h"
#include "in_order.h"
#include "phase_barrier.h"
#include "random.h"
#include "warpgroup_products.h"

Dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace sim {
namespace {

constexpr size_t STACK_BYTES = 128 * 1024;
constexpr size_t MOST_THREADS = 1024;
constexpr size_t RED_ZONE = 1024;
constexpr uint8_t RED = 0xAB;
constexpr uint8_t POISON = 0xFF;     // NaN, as fp16 and as f32
constexpr size_t REGISTERS = 65536;  // of a multiprocessor

// The point at which a stack goes on: __builtin_setjmp's five words. A function must not set and jump to the same one,
// not even inlined.
using Place = void* [5];

struct AsyncCopy {
    uint32_t to;     // byte of shared memory
    uint32_t bytes;  // from `from`; zeros up to 16
    const void* from;

    void end() const {
        memset(shared() + to + bytes, 0, 16 - bytes);
        memcpy(shared() + to, from, bytes);
        copied(to);
    }
};

struct Fiber {
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    ucontext_t start;
    Place place;
    InOrder<AsyncCopy> copies;
    std::vector<Product> products;
    bool fenced = false;  // what it has written to registers is for products to read
};

// Lanes that have come to an operation wait for the others.
template <int COUNT> struct Meeting {
    int arrived;
    Operation operation;
    void* lanes[COUNT];

    // Returns when all have come; true for the last, after the operation.
    bool come(size_t lane, Operation mine, void* argument, const char* of);
};

struct Warp {
    uint32_t ready;            // bit lane: nothing holds it up
    uint32_t operation_count;  // odd: from the first lane, even: from the last
    Meeting<WARP> meeting;
};

struct Warpgroup {
    Meeting<WARPGROUP> meeting;
    uint32_t registers;  // of a thread
    InOrder<WarpgroupProduct> products;
};

Random random_numbers;
Completion completion = Completion::Lazy;

std::vector<std::unique_ptr<Fiber>> fibers;
const std::function<void()>* body;
ucontext_t creator;
Place launcher;
std::string problem;

size_t threads, current, left_count;
Warp warps[MOST_THREADS / WARP];
uint32_t ready_warps;  // bit warp: it has ready lanes
bool run_ahead;        // in this block a warp that runs is left only where all its lanes are held up
bool may_leave;        // the running warp has completed an operation
size_t at_barrier;
bool barrier_value, barrier_result;

Warpgroup warpgroups[MOST_THREADS / WARPGROUP];
std::map<uint32_t, PhaseBarrier> phase_barriers;  // by byte of shared memory
std::set<uint32_t> unpublished;                   // bytes of shared memory: what cp.async has written since a fence
// Copies that have been begun and what is to happen after copies, in any order.
std::vector<std::function<void()>> under_way;

alignas(1024) uint8_t arena[RED_ZONE + MOST_SHARED_BYTES + RED_ZONE];
size_t shared_size;

// ------------------------------------------------------------------------------------------- switching

[[noreturn, gnu::noinline]] void resume(size_t next) {
    current = next;
    threadIdx.x = static_cast<unsigned>(next);
    __builtin_longjmp(fibers[next]->place, 1);
}

[[noreturn, gnu::noinline]] void end_block() { __builtin_longjmp(launcher, 1); }

[[noreturn]] void report_deadlock() {
    int in_warp = 0;
    for (const Warp& warp : warps) in_warp += warp.meeting.arrived;
    int in_warpgroup = 0;
    for (const Warpgroup& group : warpgroups) in_warpgroup += group.meeting.arrived;
    size_t in_phases = 0;
    for (const auto& [at, barrier] : phase_barriers) in_phases += barrier.waiters();
    fail(
        "deadlock: of %zu threads %zu wait at a barrier, %d for their warp, %d for their warpgroup, %zu for a phase, "
        "%zu have left",
        threads, at_barrier, in_warp, in_warpgroup, in_phases, left_count);
}

// Number of the bit that has `rank` set bits below it.
size_t select_bit(uint32_t bits, uint64_t rank) {
    for (; rank > 0; rank--) bits &= bits - 1;
    return size_t(__builtin_ctz(bits));
}

// One of the things that are under way comes to its end.
void finish_any() {
    const size_t number = size_t(random_numbers.below(under_way.size()));
    const std::function<void()> finish = std::move(under_way[number]);
    under_way.erase(under_way.begin() + long(number));
    finish();
}

// Asynchronous work ends at any time, now and then.
void happen() {
    if (!under_way.empty() && random_numbers.below(8) == 0) finish_any();
    for (Warpgroup& group : warpgroups)
        if (!group.products.empty() && random_numbers.below(8) == 0) group.products.end_one();
}

// The lanes of a warp one after another, mostly: that is fast, and makes no difference where a GPU has them in step.
// After every operation of the warp any other warp may be next.
[[noreturn, gnu::noinline]] void resume_any() {
    if (completion == Completion::Random) happen();
    while (ready_warps == 0) {
        if (under_way.empty()) report_deadlock();
        finish_any();
    }
    size_t warp = current / WARP;
    if (warps[warp].ready == 0 || (may_leave && !run_ahead)) {
        warp = select_bit(ready_warps, random_numbers.below(uint64_t(__builtin_popcount(ready_warps))));
        may_leave = false;
    }
    uint32_t& ready = warps[warp].ready;
    const bool from_first = warps[warp].operation_count & 1;
    const size_t lane = size_t(from_first ? __builtin_ctz(ready) : 31 - __builtin_clz(ready));
    ready &= ~(1u << lane);
    if (ready == 0) ready_warps &= ~(1u << warp);
    resume(warp * WARP + lane);
}

void make_ready(size_t warp, uint32_t lanes) {
    warps[warp].ready = lanes;
    ready_warps |= uint32_t(lanes != 0) << warp;
}

// All threads of the block but the running one, if it is running.
void make_all_ready(bool running) {
    for (size_t warp = 0; warp < threads / WARP; warp++) {
        const bool own = running && warp == current / WARP;
        make_ready(warp, own ? ~(1u << current % WARP) : ~0u);
    }
}

// Leaves the running thread where it is until it is made ready.
[[gnu::noinline]] void hold() {
    if (__builtin_setjmp(fibers[current]->place) == 0) resume_any();
}

template <int COUNT> bool Meeting<COUNT>::come(size_t lane, Operation mine, void* argument, const char* of) {
    if (arrived > 0 && operation != mine) fail("threads of one %s come to different operations", of);
    operation = mine;
    lanes[lane] = argument;
    if (++arrived < COUNT) {
        hold();
        return false;
    }
    arrived = 0;
    may_leave = true;
    operation(lanes);
    return true;
}

// Until the next block.
[[gnu::noinline]] void leave() {
    if (__builtin_setjmp(fibers[current]->place) == 0) {
        if (left_count == threads) end_block();
        resume_any();
    }
}

// A fiber serves one thread of every block.
void fiber_main() {
    if (__builtin_setjmp(fibers[current]->place) == 0) setcontext(&creator);
    for (;;) {
        (*body)();
        fibers[current]->copies.end_first(fibers[current]->copies.begun());
        fibers[current]->copies = {};
        if (!fibers[current]->products.empty()) fail("left before its sums were ready");
        if (warpgroups[current / WARPGROUP].products.left()) fail("left before its warpgroup's products were done");
        left_count++;
        leave();
    }
}

void make_fibers(size_t count) {
    while (fibers.size() < count) {
        current = fibers.size();
        fibers.push_back(std::make_unique<Fiber>());
        Fiber& fiber = *fibers.back();
        getcontext(&fiber.start);
        fiber.start.uc_stack.ss_sp = fiber.stack.get();
        // Stacks that began alike would compete for the same few places of the cache.
        fiber.start.uc_stack.ss_size = STACK_BYTES;
        fiber.start.uc_link = nullptr;
        makecontext(&fiber.start, fiber_main, 0);
        swapcontext(&creator, &fiber.start);
    }
}

// ---------------------------------------------------------------------------------------------- blocks

// Registers of a thread if the kernel is compiled for one block per multiprocessor. Warpgroups share the block's.
size_t registers_at_first() { return REGISTERS / threads / 8 * 8; }

void prepare_block() {
    memset(arena, RED, RED_ZONE);
    memset(arena + RED_ZONE, POISON, shared_size);
    memset(arena + RED_ZONE + shared_size, RED, RED_ZONE);
    left_count = at_barrier = 0;
    barrier_value = false;
    run_ahead = random_numbers.below(2) == 0;
    may_leave = true;
    ready_warps = 0;
    current = 0;
    for (Warp& warp : warps) {
        warp.ready = 0;
        warp.meeting.arrived = 0;
        warp.operation_count = uint32_t(random_numbers.below(2));
    }
    make_all_ready(false);
    for (size_t i = 0; i < threads; i++) fibers[i]->fenced = false;
    for (Warpgroup& group : warpgroups) {
        group.meeting.arrived = 0;
        group.registers = uint32_t(registers_at_first());
        group.products = {};
    }
    phase_barriers.clear();
    unpublished.clear();
    under_way.clear();
}

void check_what_is_left() {
    if (!under_way.empty())
        problem = std::to_string(under_way.size()) + " copies are under way when all threads have left";
    size_t registers = 0;
    for (size_t group = 0; group < threads / WARPGROUP; group++) registers += warpgroups[group].registers * WARPGROUP;
    if (registers > registers_at_first() * threads) {
        problem = "the warpgroups have taken " + std::to_string(registers) + " registers, and the block has " +
                  std::to_string(registers_at_first() * threads);
    }
}

void check_red_zones() {
    for (size_t i = 0; i < RED_ZONE; i++) {
        if (arena[i] != RED)
            problem = "shared memory written " + std::to_string(RED_ZONE - i) + " bytes before its start";
        if (arena[RED_ZONE + shared_size + i] != RED && problem.empty())
            problem = "shared memory written " + std::to_string(i) + " bytes behind its end";
    }
}

[[gnu::noinline]] void run_threads() {
    if (__builtin_setjmp(launcher) == 0) resume_any();
}

void run_block() {
    prepare_block();
    run_threads();
    if (problem.empty()) {
        check_what_is_left();
        check_red_zones();
    } else {
        fibers.clear();  // stopped where they were: not to be used again
    }
}

std::string refuse(Dim3 grid, Dim3 block, size_t shared_bytes) {
    if (block.y != 1 || block.z != 1 || block.x == 0 || block.x > MOST_THREADS || block.x % WARP != 0)
        return "block of " + std::to_string(block.x) + " threads: must be one-dimensional, whole warps, at most 1024";
    if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > 65535 || grid.z != 1) {
        return "grid of " + std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z) +
               " blocks: must be 1..2^31-1 x 1..65535 x 1";
    }
    if (shared_bytes > MOST_SHARED_BYTES) {
        return std::to_string(shared_bytes) + " bytes of shared memory: a block has at most " +
               std::to_string(MOST_SHARED_BYTES);
    }
    return "";
}

}  // namespace

void configure(Completion when, uint64_t seed) {
    completion = when;
    random_numbers = Random(seed);
}

std::string launch(Dim3 grid, Dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
    problem = refuse(grid, block, shared_bytes);
    if (!problem.empty()) return problem;
    gridDim = grid;
    blockDim = block;
    threadIdx = {0, 0, 0};
    threads = block.x;
    shared_size = shared_bytes;
    body = &kernel;
    make_fibers(threads);
    // Every block once, beginning with any.
    const uint64_t blocks = uint64_t(grid.x) * grid.y;
    const uint64_t first = random_numbers.below(blocks);
    for (uint64_t i = 0; i < blocks && problem.empty(); i++) {
        const uint64_t index = (first + i) % blocks;
        blockIdx = {unsigned(index % grid.x), unsigned(index / grid.x), 0};
        run_block();
    }
    return problem;
}

// ---------------------------------------------------------------------------- what kernels call (device.h)

void fail(const char* format, ...) {
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    problem = "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ") thread " +
              std::to_string(current) + ": " + text;
    end_block();
}

uint8_t* shared() { return arena + RED_ZONE; }

uint8_t* shared_at(uint32_t offset, size_t bytes, size_t alignment) {
    if (offset > shared_size || bytes > shared_size - offset)
        fail("%zu bytes at byte %u of shared memory, which has %zu", bytes, offset, shared_size);
    if (offset % alignment != 0) fail("byte %u of shared memory is not aligned to %zu", offset, alignment);
    return arena + RED_ZONE + offset;
}

uint32_t shared_offset(const void* pointer) {
    return static_cast<uint32_t>(static_cast<const uint8_t*>(pointer) - shared());
}

bool barrier(bool value) {
    barrier_value |= value;
    if (++at_barrier < threads) {
        hold();
        return barrier_result;
    }
    at_barrier = 0;
    may_leave = true;
    barrier_result = barrier_value;
    barrier_value = false;
    make_all_ready(true);
    return barrier_result;
}

void warp(Operation operation, void* mine) {
    Warp& own = warps[current / WARP];
    if (!own.meeting.come(current % WARP, operation, mine, "warp")) return;
    own.operation_count++;
    make_ready(current / WARP, ~(1u << current % WARP));
}

std::vector<Product>& products() { return fibers[current]->products; }

void copy_async(uint32_t to, const void* from, uint32_t bytes) {
    shared_at(to, 16, 16);
    if (reinterpret_cast<uintptr_t>(from) % 16 != 0) fail("cp.async from address %p, which is not aligned to 16", from);
    if (bytes > 16) fail("cp.async of %u bytes: 16 at most", bytes);
    const bool at_once =
        completion == Completion::Eager || (completion == Completion::Random && random_numbers.below(2) == 0);
    const AsyncCopy copy{to, bytes, from};
    if (at_once) copy.end();
    else fibers[current]->copies.begin(copy);
}

void commit_copies() { fibers[current]->copies.commit(); }

void wait_copies(size_t pending) { fibers[current]->copies.wait(pending); }

}  // namespace sim

#include "shim_90a.cc"
