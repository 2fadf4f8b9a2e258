/* A CT scan from files, read right or refused: HU on a whole, right-angled grid of known spacing in millimetres.
 *
 *   ReadScan --> dicom.cxx    a series: facts and positions of each slice, pixels by the slice's own numbers
 *           \--> nifti.cxx    one file, sform before qform as nibabel
 *            \-> nrrd.cxx     one file, by the rules of the program segment (cli/grid.c)
 *
 * ITK's own readers take the first slice's type for all, invent spacings and pad what is cut off. */
#ifndef PATCHMASK_SCAN_H
#define PATCHMASK_SCAN_H

#include <array>
#include <cstdint>
#include <ostream>
#include <stdexcept>
#include <string>

#include "itkImage.h"
#include "itkVector.h"

using ImageType = itk::Image<float, 3>;  // HU
using Vector = itk::Vector<double, 3>;

inline Vector MakeVector(double x, double y, double z) {
    const double parts[] = {x, y, z};
    return Vector(parts);
}

/** A scan that cannot be used: one sentence with its file, what is wrong and what to do. */
struct ScanError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

struct ScanRequest {
    std::string path;     // a file, or a folder with a DICOM series
    std::string series;   // its UID; empty: the only one
    Vector spacing{0.0};  // mm along x, y, z, where the file does not say it; 0: not given
};

struct Scan {
    ImageType::Pointer image;
    std::string note;  // what is doubtful, but usable; empty: nothing
};

/** Where voxels lie. */
struct Grid {
    std::array<uint64_t, 3> size;
    Vector spacing, origin;        // mm, left-posterior-superior; a spacing may be unknown: NaN
    std::array<Vector, 3> axis{};  // direction of x, y, z; unit vectors
};

/** How voxels are stored. */
struct Stored {
    enum Type { I8, U8, I16, U16, I32, U32, I64, U64, F32, F64 } type;
    bool swapped = false;  // not in this machine's byte order
    unsigned bits = 0;     // of an integer that hold its value; 0: all
    double slope = 1, intercept = 0;

    size_t GetBytes() const;
};

Scan ReadScan(const ScanRequest& request);

// ------------------------------------------------------------------------------------------ the readers' parts

Scan ReadDicom(const ScanRequest& request);
Scan ReadNifti(const ScanRequest& request);
Scan ReadNrrd(const ScanRequest& request);

/** True if the file is of that format, by its first bytes. */
bool IsDicom(const std::string& path);
bool IsNifti(const std::string& path);
bool IsNrrd(const std::string& path);

/** An image on the grid, its voxels to be filled; refuses an unknown spacing and axes that are not at right angles. */
ImageType::Pointer MakeImage(const Grid& grid, const ScanRequest& request);

/** `count` voxels as HU. */
void ToHU(const Stored& stored, const void* voxels, size_t count, float* hu);

/** The file that is being read: a crash of a decoder is told of it. */
void SetCurrentFile(const std::string& path);

/** True if a decoder has complained of corrupt data since the last call. */
bool DecoderComplained();

#endif
