/* One file of a DICOM series: its facts, checked, and its pixels. */
#ifndef PATCHMASK_DICOM_SLICE_H
#define PATCHMASK_DICOM_SLICE_H

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "scan.h"

struct Slice {
    std::string file, name, series;  // the path, and without its folder; UID
    std::string problem;             // why it cannot be read; empty: it can
    std::string frame;               // UID of the coordinates that positions are in
    bool rescaled = false, localizer = false, compressed = false, runLength = false;
    uint64_t rows = 0, columns = 0;
    std::vector<double> position, directions, spacing;  // mm; of rows, then of columns; between rows, columns
    double thickness = 0;                               // mm
    Stored stored{};
    std::streamoff pixels = 0;  // place in the file
    double along = 0;           // position along the normal, mm

    Vector GetPosition() const { return MakeVector(position[0], position[1], position[2]); }
    uint64_t GetBytes() const { return rows * columns * stored.GetBytes(); }
};

/** The first 132 bytes of a file, less where it is shorter: those of DICOM files end in DICM. */
std::string ReadStart(const std::string& path);

/** A file that holds CT pixels, or should; none for another object. */
std::optional<Slice> ReadHeader(const std::filesystem::path& path);

/** A slice's pixels as they are stored. */
std::vector<char> ReadPixels(const Slice& slice);

#endif
