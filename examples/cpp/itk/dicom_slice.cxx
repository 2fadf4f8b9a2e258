/* The facts of a slice, by the file's own numbers, and its pixels: uncompressed ones are taken from the file as they are,
 * others decoded by GDCM, which goes on with zeros or grey where bytes are missing: so that is looked at before and after. */
#include "dicom_slice.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>

#include "gdcmImageChangeTransferSyntax.h"
#include "gdcmImageReader.h"

namespace {

const gdcm::Tag PIXEL_DATA(0x7fe0, 0x0010);
const std::string CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2";  // those that begin with it are Enhanced CT
const std::string PYTHON = "use `patchmask segment` of the Python package";

std::string GetText(const gdcm::DataSet& data, const gdcm::Tag& tag) {
    if (!data.FindDataElement(tag)) return "";
    const gdcm::ByteValue* value = data.GetDataElement(tag).GetByteValue();
    if (value == nullptr) return "";
    const std::string text(value->GetPointer(), value->GetLength());
    const std::string padding(" \0", 2);
    const size_t first = text.find_first_not_of(padding);
    return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(padding) - first + 1);
}

unsigned GetWhole(const gdcm::DataSet& data, const gdcm::Tag& tag) {
    if (!data.FindDataElement(tag)) return 0;
    const gdcm::ByteValue* value = data.GetDataElement(tag).GetByteValue();
    uint16_t number = 0;
    if (value != nullptr && value->GetLength() == sizeof number)
        std::memcpy(&number, value->GetPointer(), sizeof number);
    return number;
}

bool HasItems(const gdcm::DataSet& data, const gdcm::Tag& tag) {
    if (!data.FindDataElement(tag)) return false;
    const auto items = data.GetDataElement(tag).GetValueAsSQ();
    return items && items->GetNumberOfItems() > 0;
}

/** The `count` numbers of an attribute, or none where it is not there. */
std::vector<double> GetNumbers(const gdcm::DataSet& data, const gdcm::Tag& tag, size_t count, const std::string& what,
                               const std::string& file) {
    const std::string text = GetText(data, tag);
    std::vector<double> numbers;
    for (const char* cursor = text.c_str(); *cursor != '\0';) {
        char* end = nullptr;
        numbers.push_back(std::strtod(cursor, &end));
        end += std::strspn(end, " ");
        if (end == cursor || (*end != '\0' && *end != '\\') || !std::isfinite(numbers.back()))
            throw ScanError(file + ": " + what + " '" + text + "' is no list of numbers: correct it");
        cursor = *end == '\\' ? end + 1 : end;
    }
    if (!numbers.empty() && numbers.size() != count)
        throw ScanError(file + ": " + what + " '" + text + "': must be " + std::to_string(count) +
                        " numbers: correct it");
    return numbers;
}

/** Refuses compressed pixels that are not whole: fragments must lie in the file, end with a delimiter, and the last one
 * with the end of a JPEG stream or all bytes of a run-length one. */
void CheckFragments(const Slice& slice) {
    std::ifstream file(slice.file, std::ios::binary);
    file.seekg(slice.pixels);
    std::string fragment;
    for (bool table = true;; table = false) {
        unsigned char head[8];  // FFFE,E000 and a length, or FFFE,E0DD and 0
        if (!file.read(reinterpret_cast<char*>(head), sizeof head) || head[0] != 0xfe || head[1] != 0xff ||
            head[3] != 0xe0)
            throw ScanError(slice.file + ": its compressed pixels are cut off: copy it again");
        if (head[2] == 0xdd) break;
        const uint32_t bytes = head[4] | head[5] << 8 | head[6] << 16 | static_cast<uint32_t>(head[7]) << 24;
        if (bytes > std::filesystem::file_size(slice.file))
            throw ScanError(slice.file + ": its compressed pixels are cut off: copy it again");
        fragment.resize(bytes);
        file.read(fragment.data(), bytes);
        if (table) fragment.clear();
    }
    bool whole = false;
    if (!slice.runLength) {
        const size_t end = fragment.find_last_not_of('\0');
        whole = end != std::string::npos && end > 0 && fragment.compare(end - 1, 2, "\xff\xd9") == 0;
    } else if (fragment.size() > 64) {  // PS3.5 annex G: the place of each segment, one for each byte of a pixel
        uint32_t header[16];
        std::memcpy(header, fragment.data(), sizeof header);
        whole = header[0] == slice.stored.GetBytes();
        for (uint32_t segment = 1; whole && segment <= header[0]; ++segment) {
            const size_t stop =
                segment < header[0] ? std::min<size_t>(header[segment + 1], fragment.size()) : fragment.size();
            uint64_t pixels = 0;
            for (size_t at = header[segment]; at < stop;) {
                const int run = static_cast<signed char>(fragment[at]);
                const size_t taken = run >= 0 ? static_cast<size_t>(run) + 2 : 2;
                if (run != -128 && at + taken <= stop) pixels += static_cast<uint64_t>(run >= 0 ? run + 1 : 1 - run);
                at += run != -128 ? taken : 1;
            }
            whole = pixels == slice.rows * slice.columns;
        }
    }
    if (!whole) throw ScanError(slice.file + ": its compressed pixels are damaged: copy it again");
}

/** Refuses uncompressed pixels of another length than the slice's size needs; `bytes` is what the file promises. */
void CheckLength(const Slice& slice, uint64_t bytes) {
    const uint64_t needed = slice.GetBytes(), size = std::filesystem::file_size(slice.file);
    if (bytes < needed || static_cast<uint64_t>(slice.pixels) + bytes > size) {
        throw ScanError(slice.file + ": has " + std::to_string(std::min(bytes, size - slice.pixels)) +
                        " bytes of pixels, " + std::to_string(needed) + " are needed: it is cut off, copy it again");
    }
    std::string more(bytes - needed, '\0');  // zeros: some writers fill blocks
    std::ifstream file(slice.file, std::ios::binary);
    file.seekg(slice.pixels + static_cast<std::streamoff>(needed));
    file.read(more.data(), static_cast<std::streamsize>(more.size()));
    if (more.size() > 1 && more.find_first_not_of('\0') != std::string::npos) {
        throw ScanError(slice.file + ": has " + std::to_string(bytes) + " bytes of pixels, its rows and columns need " +
                        std::to_string(needed) + ": correct its size");
    }
}

/** Reads how pixels are stored and where they lie, and refuses what cannot be taken for HU. */
void ReadFacts(Slice& slice, const gdcm::DataSet& data, const gdcm::TransferSyntax& syntax, bool enhanced) {
    const std::string& file = slice.file;
    const auto numbers = [&](const gdcm::Tag& tag, size_t count, const char* what) {
        return GetNumbers(data, tag, count, what, file);
    };
    const auto number = [&](const gdcm::Tag& tag, double absent, const char* what) {
        const auto found = numbers(tag, 1, what);
        return found.empty() ? absent : found[0];
    };
    if (enhanced || number({0x0028, 0x0008}, 1, "NumberOfFrames") != 1)
        throw ScanError(file + ": holds many frames in one file, each with its own facts: " + PYTHON);
    const std::string colours = GetText(data, {0x0028, 0x0004});
    if (GetWhole(data, {0x0028, 0x0002}) != 1 || (!colours.empty() && colours.find("MONOCHROME") != 0))
        throw ScanError(file + ": its pixels are colours (" + colours + "), not HU: take it out of the folder");

    const unsigned allocated = GetWhole(data, {0x0028, 0x0100}), used = GetWhole(data, {0x0028, 0x0101});
    const bool isSigned = GetWhole(data, {0x0028, 0x0103}) == 1;
    slice.rows = GetWhole(data, {0x0028, 0x0010});
    slice.columns = GetWhole(data, {0x0028, 0x0011});
    if (slice.rows == 0 || slice.columns == 0) throw ScanError(file + ": has no rows or columns: copy it again");
    if ((allocated != 8 && allocated != 16 && allocated != 32) || used == 0 || used > allocated ||
        GetWhole(data, {0x0028, 0x0102}) != used - 1) {
        throw ScanError(file + ": pixels of " + std::to_string(used) + " bits up to bit " +
                        std::to_string(GetWhole(data, {0x0028, 0x0102})) + " of " + std::to_string(allocated) +
                        " are not read: " + PYTHON);
    }
    const Stored::Type types[] = {Stored::U8, Stored::I8, Stored::U16, Stored::I16, Stored::U32, Stored::I32};
    slice.stored.type = types[2 * (allocated / 16) + isSigned];
    slice.stored.bits = used;

    const auto slope = numbers({0x0028, 0x1053}, 1, "RescaleSlope");
    const auto intercept = numbers({0x0028, 0x1052}, 1, "RescaleIntercept");
    const std::string unit = GetText(data, {0x0028, 0x1054}), modality = GetText(data, {0x0008, 0x0060});
    if (HasItems(data, {0x0028, 0x3000}))
        throw ScanError(file + ": its HU are in a modality LUT, which is not read: " + PYTHON);
    if (slope.empty() != intercept.empty() || (!slope.empty() && slope[0] == 0))
        throw ScanError(file + ": RescaleSlope is 0, or without RescaleIntercept: correct it");
    if (!modality.empty() && modality != "CT")
        throw ScanError(file + ": its modality is " + modality +
                        ", not CT: its values are no HU, choose another series");
    if (!unit.empty() && unit != "HU" && unit != "US")
        throw ScanError(file + ": its values are " + unit + " (RescaleType), not HU: choose another series");
    slice.rescaled = !slope.empty();
    if (slice.rescaled) {
        slice.stored.slope = slope[0];
        slice.stored.intercept = intercept[0];
    }

    slice.frame = GetText(data, {0x0020, 0x0052});
    slice.position = numbers({0x0020, 0x0032}, 3, "ImagePositionPatient");
    slice.directions = numbers({0x0020, 0x0037}, 6, "ImageOrientationPatient");
    slice.spacing = numbers({0x0028, 0x0030}, 2, "PixelSpacing");
    slice.thickness = number({0x0018, 0x0050}, 0, "SliceThickness");
    if (!(slice.thickness > 0)) slice.thickness = std::max(number({0x0018, 0x0088}, 0, "SpacingBetweenSlices"), 0.0);

    std::ifstream stream(file, std::ios::binary);
    unsigned char head[12] = {};  // tag, perhaps a VR, length
    stream.seekg(slice.pixels - static_cast<std::streamoff>(sizeof head));
    stream.read(reinterpret_cast<char*>(head), sizeof head);
    const bool bigEndian = syntax == gdcm::TransferSyntax::ExplicitVRBigEndian;
    const bool implicit = syntax == gdcm::TransferSyntax::ImplicitVRLittleEndian;
    if (std::memcmp(head + (implicit ? 4 : 0), bigEndian ? "\x7f\xe0\0\x10" : "\xe0\x7f\x10\0", 4) != 0)
        throw ScanError(file + ": has no pixels, it is cut off: copy it again");
    if (bigEndian) std::reverse(head + 8, head + 12);
    const uint32_t bytes = head[8] | head[9] << 8 | head[10] << 16 | static_cast<uint32_t>(head[11]) << 24;
    slice.stored.swapped = bigEndian;  // of a little-endian machine
    slice.runLength = syntax == gdcm::TransferSyntax::RLELossless;
    slice.compressed = bytes == 0xffffffff;
    if (slice.compressed) CheckFragments(slice);
    else if (bigEndian || implicit || syntax == gdcm::TransferSyntax::ExplicitVRLittleEndian) CheckLength(slice, bytes);
    else throw ScanError(file + ": transfer syntax " + syntax.GetString() + " is not read: " + PYTHON);
}

}  // namespace

std::string ReadStart(const std::string& path) {
    std::error_code none;
    if (!std::filesystem::is_regular_file(path, none)) return "";  // opening a pipe would wait for its other end
    std::string bytes(132, '\0');
    std::ifstream file(path, std::ios::binary);
    file.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    bytes.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
    return bytes;
}

std::optional<Slice> ReadHeader(const std::filesystem::path& path) {
    Slice slice;
    slice.file = path.string();
    slice.name = path.filename().string();
    SetCurrentFile(slice.file);
    gdcm::Reader reader;
    reader.SetFileName(slice.file.c_str());
    const bool read = reader.ReadUpToTag(PIXEL_DATA, {PIXEL_DATA});
    const gdcm::DataSet& data = reader.GetFile().GetDataSet();
    const gdcm::FileMetaInformation& meta = reader.GetFile().GetHeader();
    const gdcm::TransferSyntax syntax = meta.GetDataSetTransferSyntax();
    if (syntax == gdcm::TransferSyntax::DeflatedExplicitVRLittleEndian)
        throw ScanError(slice.file + ": transfer syntax " + syntax.GetString() + " is not read: " + PYTHON);
    if (!read) throw ScanError(slice.file + ": is damaged: copy it again");
    std::string kind = GetText(data, {0x0008, 0x0016});
    if (kind.empty()) kind = GetText(meta, {0x0002, 0x0002});
    const bool enhanced = kind.find(CT_IMAGE + ".") == 0;
    const std::streamoff place = reader.GetStreamCurrentPosition();
    const bool pixels = place > 0 && place < static_cast<std::streamoff>(std::filesystem::file_size(path));
    if (kind != CT_IMAGE && !enhanced && (GetText(data, {0x0008, 0x0060}) != "CT" || !pixels)) return std::nullopt;

    slice.series = GetText(data, {0x0020, 0x000e});
    slice.pixels = place;
    slice.localizer = GetText(data, {0x0008, 0x0008}).find("LOCALIZER") != std::string::npos;
    if (!pixels || slice.series.empty()) throw ScanError(slice.file + ": has no pixels, it is cut off: copy it again");
    try {
        ReadFacts(slice, data, syntax, enhanced);
    } catch (const ScanError& problem) {
        slice.problem = problem.what();  // counts if its series is read
    }
    return slice;
}

std::vector<char> ReadPixels(const Slice& slice) {
    SetCurrentFile(slice.file);
    std::vector<char> pixels(slice.GetBytes());
    if (!slice.compressed) {
        std::ifstream file(slice.file, std::ios::binary);
        file.seekg(slice.pixels);
        if (!file.read(pixels.data(), static_cast<std::streamsize>(pixels.size())))
            throw ScanError(slice.file + ": became shorter while it was read");
        return pixels;
    }
    gdcm::ImageReader reader;
    reader.SetFileName(slice.file.c_str());
    DecoderComplained();  // what was said of other files
    gdcm::ImageChangeTransferSyntax decode;
    decode.SetTransferSyntax(gdcm::TransferSyntax::ExplicitVRLittleEndian);
    bool good = reader.Read();
    if (good) decode.SetInput(reader.GetImage());
    good = good && decode.Change();
    if (good) {
        const gdcm::Image& image = decode.GetOutput();
        const bool isSigned = slice.stored.type % 2 == 0;
        good = image.GetDimension(0) == slice.columns && image.GetDimension(1) == slice.rows &&
               image.GetPixelFormat().GetPixelRepresentation() == static_cast<unsigned short>(isSigned) &&
               image.GetBufferLength() == pixels.size() && image.GetBuffer(pixels.data());
    }
    if (!good || DecoderComplained())
        throw ScanError(slice.file +
                        ": its compressed pixels are damaged, or not of a kind that is read: copy it again, or " +
                        PYTHON);
    return pixels;
}
