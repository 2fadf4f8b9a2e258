/* What all formats share: which reader, the image, stored numbers to HU, and a fence around decoders: their texts do not
 * reach stderr, and an abort of theirs (GDCM asserts on damaged headers) becomes a sentence and exit status 1. */
#include "scan.h"

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include <unistd.h>

extern "C" {
#include "grid.h"
}

namespace {

int g_Stderr = -1;             // the real one
std::FILE* g_Texts = nullptr;  // of decoders
long g_Heard = 0;              // bytes of it that were looked at
char g_CurrentFile[4096] = "";

void Say(const char* text) {
    if (write(g_Stderr, text, std::strlen(text)) < 0) _exit(EXIT_FAILURE);
}

void Crashed(int) {
    Say("lesions: ");
    Say(g_CurrentFile);
    Say(": is damaged, its decoder gave up: copy it again, or take it out of the folder if it is no part of the "
        "scan\n");
    _exit(EXIT_FAILURE);
}

class Fence {
public:
    Fence() {
        std::fflush(stderr);
        g_Stderr = dup(STDERR_FILENO);
        g_Texts = std::tmpfile();
        if (g_Stderr < 0 || g_Texts == nullptr || dup2(fileno(g_Texts), STDERR_FILENO) < 0)
            throw std::runtime_error("no temporary file for the decoders' texts");
        for (size_t i = 0; i < SIGNALS.size(); ++i) m_Before[i] = std::signal(SIGNALS[i], Crashed);
    }
    ~Fence() {
        for (size_t i = 0; i < SIGNALS.size(); ++i) std::signal(SIGNALS[i], m_Before[i]);
        std::fflush(stderr);
        dup2(g_Stderr, STDERR_FILENO);
        close(g_Stderr);
        std::fclose(g_Texts);
    }
    Fence(const Fence&) = delete;
    Fence& operator=(const Fence&) = delete;

private:
    static constexpr std::array<int, 3> SIGNALS = {SIGABRT, SIGSEGV, SIGFPE};
    std::array<void (*)(int), 3> m_Before{};
};

template <typename T> void ToHU(const Stored& stored, const char* voxels, size_t count, float* hu) {
    const int unused = stored.bits == 0 ? 0 : static_cast<int>(8 * sizeof(T) - stored.bits);
    for (size_t i = 0; i < count; ++i, voxels += sizeof(T)) {
        char bytes[sizeof(T)];
        std::copy_n(voxels, sizeof(T), bytes);
        if (stored.swapped) std::reverse(bytes, bytes + sizeof(T));
        T value;
        std::memcpy(&value, bytes, sizeof value);
        if constexpr (std::is_integral_v<T>) {
            using Unsigned = std::make_unsigned_t<T>;
            value = static_cast<T>(static_cast<T>(static_cast<Unsigned>(value) << unused) >> unused);
        }
        hu[i] = static_cast<float>(stored.slope * static_cast<double>(value) + stored.intercept);
    }
}

}  // namespace

size_t Stored::GetBytes() const {
    static constexpr size_t BYTES[] = {1, 1, 2, 2, 4, 4, 8, 8, 4, 8};
    return BYTES[type];
}

void ToHU(const Stored& stored, const void* voxels, size_t count, float* hu) {
    static constexpr decltype(&ToHU<float>) BY_TYPE[] = {ToHU<int8_t>,  ToHU<uint8_t>,  ToHU<int16_t>, ToHU<uint16_t>,
                                                         ToHU<int32_t>, ToHU<uint32_t>, ToHU<int64_t>, ToHU<uint64_t>,
                                                         ToHU<float>,   ToHU<double>};
    BY_TYPE[stored.type](stored, static_cast<const char*>(voxels), count, hu);
}

ImageType::Pointer MakeImage(const Grid& grid, const ScanRequest& request) {
    Vector spacing = grid.spacing;
    problem problem{};
    if (!grid_fill_spacing(spacing.GetDataPointer(), request.spacing.GetDataPointer(), request.path.c_str(), &problem))
        throw ScanError(problem.text);
    auto image = ImageType::New();
    ImageType::SizeType size;
    ImageType::DirectionType direction;
    for (unsigned axis = 0; axis < 3; ++axis) {
        size[axis] = grid.size[axis];
        for (unsigned i = 0; i < 3; ++i) direction(i, axis) = grid.axis[axis][i];
        for (unsigned other = 0; other < axis; ++other) {
            if (!(std::abs(grid.axis[axis] * grid.axis[other]) <= GRID_MAX_COSINE)) {
                throw ScanError(request.path + ": axes " + std::to_string(other + 1) + " and " +
                                std::to_string(axis + 1) +
                                " are not at a right angle (a gantry tilt?): resample it to a right-angled grid");
            }
        }
    }
    image->SetRegions(size);
    image->SetDirection(direction);
    image->SetOrigin(grid.origin.GetDataPointer());
    image->SetSpacing(spacing);
    image->Allocate();
    return image;
}

void SetCurrentFile(const std::string& path) {
    std::snprintf(g_CurrentFile, sizeof g_CurrentFile, "%s", path.c_str());
    std::replace_if(
        g_CurrentFile, g_CurrentFile + std::strlen(g_CurrentFile), [](unsigned char c) { return c < ' '; }, '?');
}

bool DecoderComplained() {
    std::string text;
    std::fflush(stderr);
    std::fseek(g_Texts, g_Heard, SEEK_SET);
    for (int c; (c = std::getc(g_Texts)) != EOF;) text += static_cast<char>(c);
    g_Heard += static_cast<long>(text.size());
    // libjpeg says so and goes on with grey.
    return text.find("orrupt") != std::string::npos || text.find("remature") != std::string::npos;
}

Scan ReadScan(const ScanRequest& request) {
    const std::string& path = request.path;
    std::error_code none;  // of a link that leads to itself
    if (!std::filesystem::exists(path, none)) throw ScanError(path + ": no such file or folder");
    if (!std::filesystem::is_directory(path) && !std::filesystem::is_regular_file(path))
        throw ScanError(path + ": is no regular file, which could be read twice: copy what it gives to one");
    const Fence fence;
    SetCurrentFile(path);
    try {
        if (std::filesystem::is_directory(path) || IsDicom(path)) return ReadDicom(request);
        if (IsNrrd(path)) return ReadNrrd(request);
        if (IsNifti(path)) return ReadNifti(request);
    } catch (const ScanError&) {
        throw;
    } catch (const std::bad_alloc&) {
        throw ScanError(std::string(g_CurrentFile) + ": is larger than memory");
    } catch (const std::exception&) {
        throw ScanError(std::string(g_CurrentFile) + ": is damaged or not readable: copy it again");
    }
    throw ScanError(path +
                    ": neither DICOM, NIfTI nor NRRD; `patchmask segment` of the Python package reads more formats");
}
