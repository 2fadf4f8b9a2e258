// A part of shim.cc: what only Hopper has (ptx_90a_host.h).
//
// Bulk copies, and arrivals that follow copies, are under way from when they are begun: they come to their end at once
// (eager), when no thread can go on without one of them (lazy), or also at any time before (random), in any order.
// Products of warpgroups are made at once, when they are waited for, or at any time between.

namespace sim {

void warpgroup(Operation operation, void* mine) {
    if (threads % WARPGROUP != 0) fail("a block of %zu threads is not of warpgroups", threads);
    const size_t number = current / WARPGROUP, own = current / WARP;
    if (!warpgroups[number].meeting.come(current % WARPGROUP, operation, mine, "warpgroup")) return;
    for (size_t warp = number * WARPGROUP / WARP; warp < (number + 1) * WARPGROUP / WARP; warp++) {
        warps[warp].operation_count++;
        make_ready(warp, warp == own ? ~(1u << current % WARP) : ~0u);
    }
}

void set_registers(uint32_t count, bool more) {
    uint32_t& registers = warpgroups[current / WARPGROUP].registers;
    if (more ? count < registers : count > registers)
        fail("%s registers: %u, of %u", more ? "take" : "give", count, registers);
    registers = count;
}

InOrder<WarpgroupProduct>& warpgroup_products() { return warpgroups[current / WARPGROUP].products; }

void begin_product(const WarpgroupProduct& product) {
    const size_t first = current / WARPGROUP * WARPGROUP;
    for (size_t thread = first; thread < first + WARPGROUP; thread++)
        if (!fibers[thread]->fenced)
            fail("a product of registers that thread %zu has written without a fence after it", thread);
    warpgroup_products().begin(product);
    if (completion == Completion::Eager) warpgroup_products().end_one();
}

void registers_written() { fibers[current]->fenced = false; }

void fence_registers() {
    const size_t first = current / WARPGROUP * WARPGROUP;
    for (size_t thread = first; thread < first + WARPGROUP; thread++) fibers[thread]->fenced = true;
}

void init_phases(uint32_t at, uint32_t count) {
    shared_at(at, 8, 8);
    if (count == 0) fail("a phase barrier of 0 arrivals");
    phase_barriers[at] = PhaseBarrier(count, current);
}

namespace {

PhaseBarrier& phase_barrier(uint32_t at) {
    const auto found = phase_barriers.find(at);
    if (found == phase_barriers.end()) fail("byte %u of shared memory is no phase barrier", at);
    return found->second;
}

void end_phase(PhaseBarrier& barrier) {
    for (const size_t thread : barrier.end_phase()) {
        warps[thread / WARP].ready |= 1u << thread % WARP;
        ready_warps |= 1u << thread / WARP;
    }
}

// Later, or now.
void begin(std::function<void()> finish) {
    if (completion == Completion::Eager) finish();
    else under_way.push_back(std::move(finish));
}

}  // namespace

void publish_to_async() {
    for (auto& [at, barrier] : phase_barriers) barrier.published |= barrier.initialiser == current;
    unpublished.clear();
}
void copied(uint32_t to) { unpublished.insert(to); }
bool is_published(uint32_t at) { return unpublished.count(at) == 0; }

void arrive(uint32_t at) {
    PhaseBarrier& barrier = phase_barrier(at);
    if (!barrier.arrive()) fail("more arrivals at byte %u of shared memory than a phase has", at);
    end_phase(barrier);
}

void expect_bytes(uint32_t at, uint32_t bytes) { phase_barrier(at).expect(bytes); }

void arrive_after_copies(uint32_t at) {
    phase_barrier(at);
    InOrder<AsyncCopy>& copies = fibers[current]->copies;
    begin([at, &copies, count = copies.begun()] {
        copies.end_first(count);
        arrive(at);
    });
}

void wait_phase(uint32_t at, uint32_t parity) {
    while (!phase_barrier(at).is_over(parity)) {
        phase_barrier(at).wait(current);
        hold();
    }
}

void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t at) {
    shared_at(to, bytes, 16);
    if (reinterpret_cast<uintptr_t>(from) % 16 != 0 || bytes % 16 != 0 || bytes == 0)
        fail("a bulk copy of %u bytes from address %p: both must be multiples of 16", bytes, from);
    if (!phase_barrier(at).published)
        fail("a bulk copy counts for a barrier at byte %u that it may not see: no fence", at);
    begin([to, from, bytes, at] {
        memcpy(shared() + to, from, bytes);
        phase_barrier(at).complete(bytes);
        end_phase(phase_barrier(at));
    });
}

}  // namespace sim
