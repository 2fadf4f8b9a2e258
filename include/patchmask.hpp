/// \file
/// patchmask for C++17 and newer: header-only, over include/patchmask.h.
///
///     patchmask::model model = patchmask::model::load("liver.safetensors");
///     patchmask::session session(model, model.options());
///     std::vector<std::uint8_t> mask(hu.size());
///     patchmask::outputs outputs;
///     outputs.mask = mask;
///     patchmask_result done = session.segment(patchmask::volume(hu, {512, 512, 100}), outputs);
///
/// where hu is a std::vector<std::int16_t>, [depth][height][width], in HU. examples/cpp/minimal.cpp is a
/// whole program; include/patchmask.h says what every option, output and number means. The structs of
/// the C interface are used as they are (patchmask_options, patchmask_result, ...): what a later version
/// appends to them is here without a change of this file.
///
/// Errors. What fails throws patchmask::error with the status and the text of patchmask_last_error();
/// patchmask::cancelled where the status is PATCHMASK_CANCELLED. Nothing else throws but std::bad_alloc and
/// what your own callbacks throw.
///
/// Ownership. A model or session frees its handle when it is destroyed, and can be moved, not copied. One
/// that was moved from holds nothing: using it throws INVALID_ARGUMENT. Sessions may outlive their model.
/// Volumes and outputs borrow your buffers: these live until the call returns.
///
/// Threads. A model may be used from any threads at once. A session runs one call at a time (a second one
/// throws BUSY); cancel() and slices_done() may be called from any thread, also while a call runs. A session
/// must not be moved or destroyed while a call on it runs, its own callbacks included.
///
/// Costs. Everything is inline over one C call. Added to it are: comparing buffer lengths; with callbacks one
/// allocation per session; where logits are wanted one patchmask_session_estimate, which knows their extents.
#ifndef PATCHMASK_HPP
#define PATCHMASK_HPP

#if !(__cplusplus >= 201703L || (defined(_MSVC_LANG) && _MSVC_LANG >= 201703L))
#error "patchmask.hpp needs C++17: compile with -std=c++17 or newer"
#endif

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#if __has_include(<version>)
#include <version>
#endif
#if defined(__cpp_lib_span)
#include <span>
#endif

#include "patchmask.h"

static_assert(PATCHMASK_ABI_VERSION == 1, "patchmask.hpp and patchmask.h come from different releases");

namespace patchmask {

// -------------------------------------------------------------------------------------------------- errors

/// A call that failed. what() is the sentence for people: it names the value, the limit and the remedy.
class error : public std::runtime_error {
public:
    error(patchmask_status status, const std::string& text) : std::runtime_error(text), status_(status) {}

    /// One of the error numbers of patchmask.h, such as PATCHMASK_BAD_MODEL.
    patchmask_status status() const noexcept { return status_; }

    /// Its name without the prefix, such as "BAD_MODEL". Static storage.
    const char* name() const noexcept { return patchmask_status_name(status_); }

private:
    patchmask_status status_;
};

/// A call that session::cancel or a progress function stopped.
class cancelled : public error {
public:
    explicit cancelled(const std::string& text) : error(PATCHMASK_CANCELLED, text) {}
};

/// Throws where `status` is not PATCHMASK_OK, with the text of this thread's last error.
inline void check(patchmask_status status) {
    if (status == PATCHMASK_CANCELLED) throw cancelled(patchmask_last_error());
    if (status != PATCHMASK_OK) throw error(status, patchmask_last_error());
}

// ------------------------------------------------------------------------------------------------- version

/// Version of the library that is loaded, such as "0.1.0". Static storage.
inline const char* version() noexcept { return patchmask_version(); }

/// Throws UNSUPPORTED unless the library that is loaded fits the header that the program was compiled with: the same
/// ABI number and major version, and no older minor version. Loading a model and default_options do this themselves.
inline void check_library() {
    const std::uint32_t abi = patchmask_abi_version();
    char* rest = nullptr;
    const unsigned long major = std::strtoul(patchmask_version(), &rest, 10);
    const unsigned long minor = *rest == '.' ? std::strtoul(rest + 1, nullptr, 10) : 0;
    // A signed difference: a comparison of unsigned numbers with minor version 0 is one that compilers warn of.
    if (abi != PATCHMASK_ABI_VERSION || major != PATCHMASK_VERSION_MAJOR ||
        static_cast<long>(minor) - PATCHMASK_VERSION_MINOR < 0) {
        throw error(PATCHMASK_UNSUPPORTED,
                    "the library that is loaded is patchmask " + std::string(patchmask_version()) + " (ABI " +
                        std::to_string(abi) + "), the program was compiled for " +
                        std::to_string(PATCHMASK_VERSION_MAJOR) + "." + std::to_string(PATCHMASK_VERSION_MINOR) +
                        " (ABI " + std::to_string(PATCHMASK_ABI_VERSION) + "): install that version or compile again");
    }
}

// ------------------------------------------------------------------------------------------------- buffers

/// Whether `span` is std::span is part of the names of what is declared with it, so that files compiled as C++17 and
/// as C++20 may be linked together.
#if defined(__cpp_lib_span)
inline namespace with_std_span {

/// A borrowed array: std::span.
template <class Element> using span = std::span<Element>;

#else
inline namespace with_own_span {

/// A borrowed array: what C++17 lacks of std::span. Made from arrays and containers with data() and size().
template <class Element> class span {
    template <class Container>
    using if_fits = std::enable_if_t<std::is_convertible_v<
        std::remove_pointer_t<decltype(std::data(std::declval<Container&>()))> (*)[], Element (*)[]>>;

public:
    using element_type = Element;
    using value_type = std::remove_cv_t<Element>;

    constexpr span() noexcept = default;
    constexpr span(Element* data, std::size_t size) noexcept : data_(data), size_(size) {}
    template <class Container, class = if_fits<Container>>
    constexpr span(Container& of) : data_(std::data(of)), size_(std::size(of)) {}
    /// From a temporary too, where the elements are const: it lives until the end of the full expression.
    template <class Container, class = if_fits<const Container>>
    constexpr span(const Container& of) : data_(std::data(of)), size_(std::size(of)) {}

    constexpr Element* data() const noexcept { return data_; }
    constexpr std::size_t size() const noexcept { return size_; }
    constexpr bool empty() const noexcept { return size_ == 0; }
    constexpr Element& operator[](std::size_t index) const { return data_[index]; }
    constexpr Element* begin() const noexcept { return data_; }
    constexpr Element* end() const noexcept { return data_ + size_; }

private:
    Element* data_ = nullptr;
    std::size_t size_ = 0;
};

#endif

/// Where results of one call go, each buffer dense and optional (empty: not wanted), at least one given. For buffers
/// with strides or in device memory fill a patchmask_outputs.
struct outputs {
    /// Class of each voxel, [depth][height][width].
    span<std::uint8_t> mask;
    /// Probability of the lesion class, [depth][height][width].
    span<float> probability;
    /// 1 where evaluated patches decided a voxel, [depth][height][width].
    span<std::uint8_t> coverage;
    /// The network's outputs, [depth][grid_height][grid_width][classes], extents from session::estimate.
    span<float> logits;
};

}  // namespace with_std_span or with_own_span

/// Voxels along x (columns), y (rows) and z (slices).
struct extents {
    std::uint64_t width, height, depth;
};

/// Bytes from a voxel to the next along x, y and z; all 0: dense, x fastest.
struct strides {
    std::uint64_t x = 0, y = 0, z = 0;
};

namespace detail {

/// PATCHMASK_VOXEL_* of a type; 0: it is none.
template <class Voxel> constexpr std::int32_t voxel_type() {
    return std::is_same_v<Voxel, std::int8_t>     ? PATCHMASK_VOXEL_I8
           : std::is_same_v<Voxel, std::uint8_t>  ? PATCHMASK_VOXEL_U8
           : std::is_same_v<Voxel, std::int16_t>  ? PATCHMASK_VOXEL_I16
           : std::is_same_v<Voxel, std::uint16_t> ? PATCHMASK_VOXEL_U16
           : std::is_same_v<Voxel, std::int32_t>  ? PATCHMASK_VOXEL_I32
           : std::is_same_v<Voxel, float>         ? PATCHMASK_VOXEL_F32
           : std::is_same_v<Voxel, double>        ? PATCHMASK_VOXEL_F64
                                                  : 0;
}

template <class Type> struct is_span : std::false_type {};
template <class Element> struct is_span<span<Element>> : std::true_type {};

/// `a * b + c`; UINT64_MAX where that is more than 64 bits hold.
constexpr std::uint64_t multiply_add(std::uint64_t a, std::uint64_t b, std::uint64_t c) {
    if (a != 0 && b > UINT64_MAX / a) return UINT64_MAX;
    return a * b > UINT64_MAX - c ? UINT64_MAX : a * b + c;
}

inline std::uint64_t voxels(const patchmask_volume& volume) {
    return multiply_add(multiply_add(volume.width, volume.height, 0), volume.depth, 0);
}

/// Throws unless a buffer has as many elements as the call reads or writes.
inline void check_length(const char* name, std::size_t length, std::uint64_t needed, const char* shape) {
    if (length != needed) {
        throw error(PATCHMASK_INVALID_ARGUMENT, std::string(name) + ": " + std::to_string(length) +
                                                    " elements, must be " + std::to_string(needed) + " (" + shape +
                                                    ")");
    }
}

}  // namespace detail

/// A borrowed 3-D volume of voxels: a patchmask_volume that knows how long its buffer is when it is made. Its fields
/// may be changed afterwards: `slope` and `intercept` for voxels that are not HU, `spacing_x` and `spacing_y` (mm, 0:
/// unknown) for models that know the size of their pixels.
struct volume : patchmask_volume {
    /// Borrows an array, std::vector, std::array or span of one of the seven voxel types. Without strides it is dense,
    /// [depth][height][width], and must have as many elements; with strides (bytes), at least as many as they reach.
    template <class Voxels>
    volume(Voxels&& voxels, const extents& size, const strides& bytes = {}) : volume(std::data(voxels), size, nullptr) {
        static_assert(std::is_lvalue_reference_v<Voxels> ||
                          detail::is_span<std::remove_cv_t<std::remove_reference_t<Voxels>>>::value,
                      "the voxels must outlive the volume: pass a variable or a span, no temporary");
        stride_x = bytes.x;
        stride_y = bytes.y;
        stride_z = bytes.z;
        check_reach(std::size(voxels), sizeof *std::data(voxels));
    }

    /// Extents only, for session::estimate.
    explicit volume(const extents& size) : volume(static_cast<const std::int16_t*>(nullptr), size, nullptr) {}

private:
    template <class Voxel> volume(const Voxel* first, const extents& size, std::nullptr_t) : patchmask_volume() {
        constexpr std::int32_t type = detail::voxel_type<Voxel>();
        static_assert(type != 0, "voxels are int8_t, uint8_t, int16_t, uint16_t, int32_t, float or double");
        check(patchmask_volume_init(this, sizeof(patchmask_volume), first, type, size.width, size.height, size.depth));
    }

    /// Throws unless a buffer of so many voxels of `bytes` bytes holds the volume.
    void check_reach(std::size_t length, std::size_t bytes) const {
        const std::uint64_t needed = detail::voxels(*this);
        if (stride_x == 0 && stride_y == 0 && stride_z == 0) {
            detail::check_length("volume", length, needed, "width x height x depth");
        } else if (needed != 0) {
            std::uint64_t reach = bytes;  // from the first voxel to the end of the last
            reach = detail::multiply_add(width - 1, stride_x, reach);
            reach = detail::multiply_add(height - 1, stride_y, reach);
            reach = detail::multiply_add(depth - 1, stride_z, reach);
            if (reach > length * bytes) {
                throw error(PATCHMASK_INVALID_ARGUMENT, "volume: its strides reach " + std::to_string(reach) +
                                                            " bytes, the buffer has " + std::to_string(length * bytes));
            }
        }
    }
};

// --------------------------------------------------------------------------------------------------- model

/// The documented defaults, for a model without metadata.
inline patchmask_options default_options() {
    check_library();
    patchmask_options filled;
    check(patchmask_options_init(&filled, sizeof filled, nullptr));
    return filled;
}

/// A loaded model: immutable, shared freely between threads and sessions.
class model {
public:
    /// Loads a VGG16 from a safetensors file. Throws IO, BAD_MODEL, OUT_OF_MEMORY.
    static model load(const std::string& path) {
        check_library();
        patchmask_model* made = nullptr;
        check(patchmask_model_load(path.c_str(), &made));
        return model(made);
    }

    /// Loads it from the bytes of such a file: a container of a type of 1 byte. The bytes are copied.
    template <class Bytes> static model load_memory(const Bytes& file) {
        static_assert(sizeof(*std::data(file)) == 1, "the file as bytes");
        check_library();
        patchmask_model* made = nullptr;
        check(patchmask_model_load_memory(std::data(file), std::size(file), &made));
        return model(made);
    }

    /// Takes over a handle of the C interface; NULL makes an empty model.
    explicit model(patchmask_model* owned) noexcept : handle_(owned) {}

    /// Options from the model's metadata, with the documented defaults where it has none.
    patchmask_options options() const {
        if (!handle_) throw error(PATCHMASK_INVALID_ARGUMENT, "model: it is empty or was moved from");
        patchmask_options filled;
        check(patchmask_options_init(&filled, sizeof filled, get()));
        return filled;
    }

    /// What the model is.
    patchmask_model_info info() const {
        patchmask_model_info filled;
        check(patchmask_model_info_init(&filled, sizeof filled));
        check(patchmask_model_get_info(get(), &filled));
        return filled;
    }

    /// Name of a class according to the metadata, valid as long as the model; NULL where it has none.
    const char* class_name(std::uint32_t index) const noexcept { return patchmask_model_class_name(get(), index); }

    /// The handle for the C interface; it stays the model's.
    patchmask_model* get() const noexcept { return handle_.get(); }

    /// The handle, which is the caller's from now on.
    patchmask_model* release() noexcept { return handle_.release(); }

    explicit operator bool() const noexcept { return handle_ != nullptr; }

private:
    struct free_handle {
        void operator()(patchmask_model* handle) const noexcept { patchmask_model_free(handle); }
    };
    std::unique_ptr<patchmask_model, free_handle> handle_;
};

// ------------------------------------------------------------------------------------------------- session

/// What a progress report is about.
enum class stage : std::int32_t {
    plan = PATCHMASK_STAGE_PLAN,
    intensity = PATCHMASK_STAGE_INTENSITY,
    network = PATCHMASK_STAGE_NETWORK,
    mask = PATCHMASK_STAGE_MASK,
};

/// How much a log message matters.
enum class log_level : std::int32_t {
    warning = PATCHMASK_LOG_WARNING,
    info = PATCHMASK_LOG_INFO,
};

/// Told about every 50 ms, on the thread that called session::segment, how far it is: `fraction` runs from 0 to 1 and
/// never falls. Returns true to go on, false to cancel. What it throws cancels the call too and arrives at the caller
/// of session::segment. Calls on the same session from inside it throw BUSY, except cancel and slices_done.
using progress_function = std::function<bool(double fraction, stage now)>;

/// Told what the library has to say, on the calling thread. What it throws arrives at the caller once the call is over.
using log_function = std::function<void(log_level level, std::string_view message)>;

namespace detail {

/// One call into the library, as long as it lasts: keeps what a callback threw from crossing the C frames. Callbacks
/// come on the thread of their call and calls nest, so the innermost one of a thread is theirs.
class call {
public:
    call() noexcept : outer_(innermost()) { innermost() = this; }
    ~call() { innermost() = outer_; }
    call(const call&) = delete;
    call& operator=(const call&) = delete;

    /// Ends the call: throws what a callback threw, else what the status says.
    void finish(patchmask_status status) {
        if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
        check(status);
    }

    /// Keeps the exception that is being handled. Without a call (the C function was called with session::get) it is
    /// lost, and the call only cancelled.
    static void keep_exception() noexcept {
        if (call* now = innermost(); now != nullptr && !now->thrown_) now->thrown_ = std::current_exception();
    }

private:
    static call*& innermost() noexcept {
        thread_local call* now = nullptr;
        return now;
    }

    call* outer_;
    std::exception_ptr thrown_;
};

/// What the library's callbacks are given. At one address for as long as the session lives, which may move.
struct callbacks {
    progress_function progress;
    log_function log;

    static std::int32_t on_progress(double fraction, std::int32_t now, void* user_data) noexcept {
        try {
            return static_cast<callbacks*>(user_data)->progress(fraction, static_cast<stage>(now)) ? 0 : 1;
        } catch (...) {
            call::keep_exception();
            return 1;
        }
    }

    static void on_log(std::int32_t level, const char* message, void* user_data) noexcept {
        try {
            static_cast<callbacks*>(user_data)->log(static_cast<log_level>(level), message);
        } catch (...) {
            call::keep_exception();
        }
    }
};

}  // namespace detail

/// Workspace and threads for segmenting with one model and one set of options.
class session {
public:
    /// Copies the options. Functions that are given take the place of the callbacks in `options`. Throws INVALID_ARGUMENT,
    /// BAD_MODEL, NO_DEVICE, OUT_OF_MEMORY, DEVICE_OUT_OF_MEMORY, DEVICE_FAILED.
    session(const model& network, const patchmask_options& options, progress_function progress = {},
            log_function log = {}) {
        patchmask_options with = options;
        if (progress || log) callbacks_.reset(new detail::callbacks{std::move(progress), std::move(log)});
        if (callbacks_ && callbacks_->progress) {
            with.progress = detail::callbacks::on_progress;
            with.progress_user_data = callbacks_.get();
        }
        if (callbacks_ && callbacks_->log) {
            with.log = detail::callbacks::on_log;
            with.log_user_data = callbacks_.get();
        }
        detail::call call;
        patchmask_session* made = nullptr;
        const patchmask_status status = patchmask_session_new(network.get(), &with, &made);
        handle_.reset(made);
        call.finish(status);
    }

    session(session&&) noexcept = default;
    session& operator=(session&& other) noexcept {
        handle_ = std::move(other.handle_);  // frees the old session before what its callbacks are given
        callbacks_ = std::move(other.callbacks_);
        return *this;
    }
    ~session() = default;

    /// What segmenting would take, without running it. Uses the extents of `volume` only, and the voxels of `roi`.
    patchmask_estimate estimate(const patchmask_volume& volume, const patchmask_volume* roi = nullptr) {
        patchmask_estimate filled;
        check(patchmask_estimate_init(&filled, sizeof filled));
        detail::call call;
        call.finish(patchmask_session_estimate(get(), &volume, roi, &filled));
        return filled;
    }

    /// Segments `volume` into `to`; blocks until done. `roi`, if given, has the extents of the volume, and only what its
    /// non-zero voxels need is evaluated. Throws INVALID_ARGUMENT where a buffer has another length than the volume asks
    /// for; cancelled; what the progress function threw; and any other status. Then the first slices_done() slices of
    /// the outputs are valid.
    patchmask_result segment(const patchmask_volume& volume, const outputs& to, const patchmask_volume* roi = nullptr) {
        const std::uint64_t voxels = detail::voxels(volume);
        const auto check_grid = [&](const char* name, std::size_t length) {
            if (length != 0) detail::check_length(name, length, voxels, "width x height x depth of the volume");
        };
        check_grid("mask", to.mask.size());
        check_grid("probability", to.probability.size());
        check_grid("coverage", to.coverage.size());
        if (!to.logits.empty()) {
            const patchmask_estimate grid = estimate(volume, roi);
            std::uint64_t needed = detail::multiply_add(grid.grid_width, grid.grid_height, 0);
            needed = detail::multiply_add(needed, grid.classes, 0);
            needed = detail::multiply_add(needed, volume.depth, 0);
            detail::check_length("logits", to.logits.size(), needed,
                                 "depth x grid_height x grid_width x classes of the estimate");
        }
        patchmask_outputs buffers;
        check(patchmask_outputs_init(&buffers, sizeof buffers));
        buffers.mask = to.mask.empty() ? nullptr : to.mask.data();
        buffers.probability = to.probability.empty() ? nullptr : to.probability.data();
        buffers.coverage = to.coverage.empty() ? nullptr : to.coverage.data();
        buffers.logits = to.logits.empty() ? nullptr : to.logits.data();
        return segment(volume, buffers, roi);
    }

    /// The same into buffers of any strides or in device memory, whose lengths nobody checks.
    patchmask_result segment(const patchmask_volume& volume, const patchmask_outputs& to,
                             const patchmask_volume* roi = nullptr) {
        patchmask_result filled;
        check(patchmask_result_init(&filled, sizeof filled));
        detail::call call;
        call.finish(patchmask_session_segment(get(), &volume, roi, &to, &filled));
        return filled;
    }

    /// Gives back the memory that a call leaves behind for the next one.
    void trim() {
        detail::call call;
        call.finish(patchmask_session_trim(get()));
    }

    /// Slices that the current or last segment has finished. Any thread.
    std::uint64_t slices_done() const {
        std::uint64_t slices = 0;
        check(patchmask_session_slices_done(get(), &slices));
        return slices;
    }

    /// Asks the current call, or the next one, to stop: it throws cancelled. Any thread, the callbacks too.
    void cancel() { check(patchmask_session_cancel(get())); }

    /// The engine in use, for people, valid as long as the session; NULL where the session was moved from.
    const char* engine_name() const noexcept { return patchmask_session_engine_name(get()); }

    /// The handle for the C interface; it stays the session's.
    patchmask_session* get() const noexcept { return handle_.get(); }

    explicit operator bool() const noexcept { return handle_ != nullptr; }

private:
    struct free_handle {
        void operator()(patchmask_session* handle) const noexcept { patchmask_session_free(handle); }
    };
    std::unique_ptr<detail::callbacks> callbacks_;
    std::unique_ptr<patchmask_session, free_handle> handle_;  // freed first: declared last
};

}  // namespace patchmask

#endif
