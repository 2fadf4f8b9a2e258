// The C++ header against the C interface: same results, errors, ownership, exceptions of callbacks. Linked with
// second_unit.cpp, which includes the header too, compiled as C++17 and as C++20.
#include "case.hpp"

#include <array>
#include <atomic>
#include <dlfcn.h>
#include <stdexcept>
#include <thread>
#include <type_traits>

// second_unit.cpp
patchmask::session make_elsewhere(const patchmask::model& model, const patchmask_options& options);
long standard_elsewhere();
void cancels_elsewhere(patchmask::session& session);

static_assert(!std::is_copy_constructible_v<patchmask::model> && !std::is_copy_assignable_v<patchmask::model>);
static_assert(!std::is_copy_constructible_v<patchmask::session> && !std::is_copy_assignable_v<patchmask::session>);
static_assert(std::is_nothrow_move_constructible_v<patchmask::model> &&
              std::is_nothrow_move_assignable_v<patchmask::model>);
static_assert(std::is_nothrow_move_constructible_v<patchmask::session> &&
              std::is_nothrow_move_assignable_v<patchmask::session>);
static_assert(sizeof(patchmask::model) == sizeof(void*), "a model is its handle");
static_assert(sizeof(patchmask::volume) == sizeof(patchmask_volume), "a volume is the C struct");
static_assert(std::is_convertible_v<std::vector<float>&, patchmask::span<float>>);
static_assert(std::is_convertible_v<const std::vector<float>&, patchmask::span<const float>>);
static_assert(!std::is_convertible_v<const std::vector<float>&, patchmask::span<float>>);
static_assert(!std::is_convertible_v<std::vector<double>&, patchmask::span<float>>);
#if defined(__cpp_lib_span)
static_assert(std::is_same_v<patchmask::span<float>, std::span<float>>);
#endif

// Every handle that is freed, NULL not counted: the program's functions come before the library's.
static std::vector<void*> freed;

template <class Handle> static void free_counted(const char* name, Handle* handle) {
    if (handle != nullptr) freed.push_back(handle);
    reinterpret_cast<void (*)(Handle*)>(dlsym(RTLD_NEXT, name))(handle);
}

extern "C" void patchmask_session_free(patchmask_session* session) { free_counted("patchmask_session_free", session); }

extern "C" void patchmask_model_free(patchmask_model* model) { free_counted("patchmask_model_free", model); }

static const patchmask::extents SIZE = {61, 53, 3};

// Work of some 100 ms; little under valgrind, as in ../c/cancel.c.
static const bool slow = std::getenv("PATCHMASK_SLOW") != nullptr;
static const patchmask::extents WORK = slow ? patchmask::extents{48, 48, 3} : patchmask::extents{130, 130, 8};
static const std::uint32_t work_stride = slow ? 8 : 2;
static const std::uint32_t work_channels = slow ? 3 : 8;

static void results_are_those_of_c() {
    const std::vector<std::uint8_t> file = tiny_file();
    const patchmask::model model = patchmask::model::load_memory(file);
    const patchmask_options options = synthetic_options(model.get(), 32, slow ? 8 : 3);
    const std::vector<std::int16_t> hu = synthetic(SIZE);
    const patchmask_volume raw = dense_volume(hu.data(), SIZE.width, SIZE.height, SIZE.depth);
    segmentation expected = segment_all(model.get(), &options, &raw, nullptr);

    patchmask::session session(model, options);
    const patchmask::volume volume(hu, SIZE);
    const patchmask_estimate estimate = session.estimate(patchmask::volume(SIZE));
    CHECK(estimate.patches == expected.estimate.patches && estimate.macs == expected.estimate.macs);
    std::vector<std::uint8_t> mask(hu.size()), coverage(hu.size());
    std::vector<float> probability(hu.size()), logits(expected.logits_length);
    patchmask::outputs outputs;
    outputs.mask = mask;
    outputs.coverage = coverage;
    outputs.probability = probability;
    outputs.logits = logits;
    const patchmask_result result = session.segment(volume, outputs);
    segmentation made = expected;
    made.mask = mask.data();
    made.coverage = coverage.data();
    made.probability = probability.data();
    made.logits = logits.data();
    check_same(&expected, &made, "C++ against C");
    CHECK(result.patches == expected.result.patches && session.slices_done() == SIZE.depth);
    CHECK(std::strcmp(session.engine_name(), "") != 0);
    std::size_t lesion = 0;
    for (const std::uint8_t voxel : mask) lesion += voxel != 0;
    CHECK(lesion > 0 && lesion < mask.size());

    // The same from other voxels, strides, and a struct of the C interface.
    session.trim();
    std::vector<double> wide(2 * hu.size());
    for (std::size_t i = 0; i < hu.size(); i++) wide[2 * i] = 2.0 * hu[i] + 10;
    patchmask::volume spread(wide, SIZE, {16, 16 * SIZE.width, 16 * SIZE.width * SIZE.height});
    spread.slope = 0.5;
    spread.intercept = -5;
    patchmask_outputs buffers;
    CHECK_OK(patchmask_outputs_init(&buffers, sizeof buffers));
    mask.assign(mask.size(), 77);
    buffers.mask = mask.data();
    session.segment(spread, buffers);
    check_same(&expected, &made, "strides, f64, slope");

    // Inside a ROI only.
    std::vector<std::uint8_t> inside(hu.size());
    inside[5 + 7 * SIZE.width] = 1;
    const patchmask::volume roi(inside, SIZE);
    const patchmask_result part = session.segment(volume, outputs, &roi);
    CHECK(part.patches > 0 && part.patches < result.patches);
    CHECK(session.estimate(volume, &roi).patches == part.patches);
    segmentation_free(&expected);
}

static void every_voxel_type_is_known() {
    std::array<std::int8_t, 8> i8{};
    std::array<std::uint8_t, 8> u8{};
    std::int16_t i16[8] = {};
    const std::vector<std::uint16_t> u16(8);
    std::vector<std::int32_t> i32(8);
    std::vector<float> f32(8);
    std::vector<double> f64(8);
    const patchmask::extents cube = {2, 2, 2};
    CHECK(patchmask::volume(i8, cube).voxel_type == PATCHMASK_VOXEL_I8);
    CHECK(patchmask::volume(u8, cube).voxel_type == PATCHMASK_VOXEL_U8);
    CHECK(patchmask::volume(i16, cube).voxel_type == PATCHMASK_VOXEL_I16);
    CHECK(patchmask::volume(u16, cube).voxel_type == PATCHMASK_VOXEL_U16);
    CHECK(patchmask::volume(i32, cube).voxel_type == PATCHMASK_VOXEL_I32);
    CHECK(patchmask::volume(patchmask::span<const float>(f32), cube).voxel_type == PATCHMASK_VOXEL_F32);
    CHECK(patchmask::volume(patchmask::span<double>(f64), cube).voxel_type == PATCHMASK_VOXEL_F64);
}

static void errors_have_status_and_text() {
    CHECK_THROWS(PATCHMASK_IO, "no-such-file", patchmask::model::load("no-such-file.safetensors"));
    CHECK_THROWS(PATCHMASK_BAD_MODEL, "", patchmask::model::load_memory(std::string("nonsense")));
    const patchmask::model model = patchmask::model::load_memory(tiny_file());
    patchmask_options options = synthetic_options(model.get(), 32, 4);
    options.stride = 0;
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "stride 0", patchmask::session(model, options));
    options.stride = 8;
    patchmask::session session(model, options);
    const std::vector<std::int16_t> hu = synthetic(SIZE);
    const patchmask::volume volume(hu, SIZE);
    std::vector<std::uint8_t> mask(hu.size()), small(hu.size() - 1);
    std::vector<float> logits(3);
    patchmask::outputs outputs;
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "", session.segment(volume, outputs));  // no buffer at all
    outputs.mask = small;
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "mask: 9698 elements, must be 9699", session.segment(volume, outputs));
    outputs.mask = mask;
    outputs.logits = logits;
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "logits: 3 elements, must be", session.segment(volume, outputs));
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "volume: 9698", patchmask::volume(small, SIZE));
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "volume width 0", patchmask::volume({0, 2, 2}));
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "fit in memory", patchmask::volume(hu, {1 << 24, 1 << 24, 1 << 24}));
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "its strides reach",
                 patchmask::volume(hu, SIZE, {2, 2 * SIZE.width, 2 * SIZE.width * SIZE.height + 1}));
    CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "its strides reach 18446744073709551615",
                 patchmask::volume(hu, SIZE, {2, UINT64_MAX / 3, 2}));
    (void)patchmask::volume(hu, SIZE, {2, 2 * SIZE.width, 2 * SIZE.width * SIZE.height});  // just reaches
    const auto thrown = caught<patchmask::error>("moved", [&] { (void)patchmask::model(nullptr).info(); });
    CHECK(std::string(thrown.name()) == "INVALID_ARGUMENT");
}

static void metadata_and_versions() {
    const char* metadata =
        "\"patchmask.stride\":\"5\",\"patchmask.patch_size\":\"32\","
        "\"patchmask.classes\":\"healthy,lesion\"";
    const patchmask::model model = patchmask::model::load_memory(tiny_file(3, metadata));
    CHECK(model.options().stride == 5 && model.options().patch_size == 32);
    CHECK(model.info().classes == 2 && model.info().stride == 5 && std::strlen(model.info().sha256) == 64);
    CHECK(std::string(model.class_name(1)) == "lesion" && model.class_name(2) == nullptr);
    CHECK(patchmask::default_options().patch_size == 257);
    CHECK(std::string(patchmask::version()) == patchmask_version());
    patchmask::check_library();
}

static void handles_move_and_are_freed_once() {
    freed.clear();
    void *first = nullptr, *second = nullptr, *shared = nullptr;
    {
        patchmask::model model = patchmask::model::load_memory(tiny_file());
        shared = model.get();
        const patchmask_options options = synthetic_options(model.get(), 32, 8);
        patchmask::model other = std::move(model);
        CHECK(!model && other && other.get() == shared);
        CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "model", model.options());
        CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "model", patchmask::session(model, options));
        patchmask::session a = make_elsewhere(other, options);
        first = a.get();
        unsigned told = 0;
        patchmask::session b(other, options, [&told](double, patchmask::stage) { return ++told > 0; });
        second = b.get();
        patchmask::session moved = std::move(a);
        CHECK(!a && moved.get() == first && freed.empty());
        CHECK_THROWS(PATCHMASK_INVALID_ARGUMENT, "session", a.slices_done());
        CHECK(a.engine_name() == nullptr);
        moved = std::move(b);  // frees the first
        CHECK(freed == std::vector<void*>{first} && moved.get() == second);
        patchmask::model gone = std::move(other);
        gone = patchmask::model(nullptr);  // frees the model; its session stays valid
        CHECK((freed == std::vector<void*>{first, shared}));
        const std::vector<std::int16_t> hu = synthetic(SIZE);
        std::vector<std::uint8_t> mask(hu.size());
        patchmask::outputs outputs;
        outputs.mask = mask;
        moved.segment(patchmask::volume(hu, SIZE), outputs);
        CHECK(told > 0);  // the callback is still there after the move
    }
    CHECK((freed == std::vector<void*>{first, shared, second}));
    patchmask::model kept = patchmask::model::load_memory(tiny_file());
    patchmask_model* raw = kept.release();
    CHECK(!kept && freed.size() == 3);
    patchmask::model back(raw);
    CHECK(back.get() == raw);
}

// What a callback threw arrives as it was, after the C call has ended, and the session goes on.
static void exceptions_of_callbacks_arrive() {
    const patchmask::model model = patchmask::model::load_memory(tiny_file(work_channels));
    const patchmask_options options = synthetic_options(model.get(), 40, work_stride);
    const std::vector<std::int16_t> hu = synthetic(WORK);
    const patchmask::volume volume(hu, WORK);
    std::vector<std::uint8_t> mask(hu.size()), expected(hu.size());
    patchmask::outputs outputs;
    outputs.mask = expected;
    patchmask::session(model, options).segment(volume, outputs);
    outputs.mask = mask;

    enum { GO_ON, THROW, STOP, NEST } wish = THROW;
    unsigned told = 0;
    double last = 0;
    std::string said;
    patchmask::session session(
        model, options,
        [&](double fraction, patchmask::stage now) {
            told++;
            last = fraction;
            CHECK(now >= patchmask::stage::plan && now <= patchmask::stage::mask);
            if (wish == THROW) throw std::out_of_range("from the callback");
            if (wish == NEST) {  // an inner call, whose callback throws, is done with before the outer one
                patchmask::session inner(model, options, [](double, patchmask::stage) -> bool { throw 42; });
                std::vector<std::uint8_t> other(hu.size());
                patchmask::outputs to;
                to.mask = other;
                CHECK(caught<int>("inner call", [&] { inner.segment(volume, to); }) == 42);
                CHECK_THROWS(PATCHMASK_BUSY, "already running", session.segment(volume, to));
                session.slices_done();
                wish = GO_ON;
            }
            return wish != STOP;
        },
        [&](patchmask::log_level level, std::string_view text) {
            said += text;
            CHECK(level == patchmask::log_level::info || level == patchmask::log_level::warning);
        });
    CHECK(said.find("engine") != std::string::npos);
    const auto thrown = caught<std::out_of_range>("segment", [&] { session.segment(volume, outputs); });
    CHECK(std::string(thrown.what()) == "from the callback" && told == 1);
    wish = STOP;
    (void)caught<patchmask::cancelled>("segment", [&] { session.segment(volume, outputs); });
    cancels_elsewhere(session);  // the wish is heard by the next call
    wish = GO_ON;
    CHECK_THROWS(PATCHMASK_CANCELLED, "cancelled", session.segment(volume, outputs));
    wish = NEST;
    session.segment(volume, outputs);
    CHECK(wish == GO_ON && last == 1 && mask == expected);

    // Through the C function there is nobody to catch it: the call is cancelled.
    wish = THROW;
    patchmask_outputs buffers;
    CHECK_OK(patchmask_outputs_init(&buffers, sizeof buffers));
    buffers.mask = mask.data();
    CHECK_STATUS(PATCHMASK_CANCELLED, patchmask_session_segment(session.get(), &volume, nullptr, &buffers, nullptr));

    // From the log, while the session is made: it is freed again.
    freed.clear();
    (void)caught<std::logic_error>("log", [&] {
        patchmask::session(model, options, {},
                           [](patchmask::log_level, std::string_view) { throw std::logic_error("from the log"); });
    });
    CHECK(freed.size() == 1);
}

static void another_thread_cancels_or_finds_it_busy() {
    const patchmask::model model = patchmask::model::load_memory(tiny_file(work_channels));
    const patchmask_options options = synthetic_options(model.get(), 40, work_stride);
    const std::vector<std::int16_t> hu = synthetic(WORK);
    const patchmask::volume volume(hu, WORK);
    std::vector<std::uint8_t> mask(hu.size());
    patchmask::outputs outputs;
    outputs.mask = mask;
    std::atomic<bool> runs{false}, asked{false};
    patchmask::session session(model, options, [&](double, patchmask::stage) {
        runs = true;
        while (!asked) std::this_thread::yield();
        return true;
    });
    std::thread other([&] {
        while (!runs) std::this_thread::yield();
        CHECK_THROWS(PATCHMASK_BUSY, "already running", session.estimate(volume));
        session.cancel();
        asked = true;
    });
    (void)caught<patchmask::cancelled>("segment", [&] { session.segment(volume, outputs); });
    other.join();
}

int main() {
    RUN(results_are_those_of_c);
    RUN(every_voxel_type_is_known);
    RUN(errors_have_status_and_text);
    RUN(metadata_and_versions);
    RUN(handles_move_and_are_freed_once);
    RUN(exceptions_of_callbacks_arrive);
    RUN(another_thread_cancels_or_finds_it_busy);
    std::printf("ok C++ wrapper, C++%ld with C++%ld\n", __cplusplus / 100 % 100, standard_elsewhere() / 100 % 100);
}
