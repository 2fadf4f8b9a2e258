/* One NIfTI-1 file, plain or gzip. Geometry as nibabel takes it: the sform where its code is above 0, else the qform. */
#include "scan.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "nifti1.h"
#include "stream.h"

namespace {

using Affine = std::array<std::array<double, 4>, 3>;  // voxel indices to mm, right-anterior-superior

template <typename T> void Swap(T& number) {
    auto* bytes = reinterpret_cast<char*>(&number);
    std::reverse(bytes, bytes + sizeof number);
}

void SwapHeader(nifti_1_header& h) {
    std::for_each(h.dim, h.dim + 8, Swap<short>);
    std::for_each(h.pixdim, h.pixdim + 8, Swap<float>);
    for (short* number : {&h.datatype, &h.qform_code, &h.sform_code}) Swap(*number);
    for (float* row : {h.srow_x, h.srow_y, h.srow_z}) std::for_each(row, row + 4, Swap<float>);
    for (float* number : {&h.vox_offset, &h.scl_slope, &h.scl_inter, &h.quatern_b, &h.quatern_c, &h.quatern_d,
                          &h.qoffset_x, &h.qoffset_y, &h.qoffset_z})
        Swap(*number);
}

Stored::Type GetType(const nifti_1_header& h, const std::string& path) {
    switch (h.datatype) {
        case DT_UINT8: return Stored::U8;
        case DT_INT8: return Stored::I8;
        case DT_INT16: return Stored::I16;
        case DT_UINT16: return Stored::U16;
        case DT_INT32: return Stored::I32;
        case DT_UINT32: return Stored::U32;
        case DT_INT64: return Stored::I64;
        case DT_UINT64: return Stored::U64;
        case DT_FLOAT32: return Stored::F32;
        case DT_FLOAT64: return Stored::F64;
        default:
            throw ScanError(path + ": voxels of NIfTI type " + std::to_string(h.datatype) +
                            " (colours, complex numbers ...) are not HU: save one number per voxel");
    }
}

Affine FromSform(const nifti_1_header& h) {
    Affine affine;
    for (int column = 0; column < 4; ++column)
        affine[0][column] = h.srow_x[column], affine[1][column] = h.srow_y[column],
        affine[2][column] = h.srow_z[column];
    return affine;
}

/** The rotation of the quaternion (a, b, c, d) times pixdim, as nifti1.h has it. */
Affine FromQform(const nifti_1_header& h) {
    const double b = h.quatern_b, c = h.quatern_c, d = h.quatern_d, rest = 1 - b * b - c * c - d * d;
    const double a = std::sqrt(rest < 0 && rest > -1e-5 ? 0 : rest);  // NaN where it is no rotation
    const double x = h.pixdim[1], y = h.pixdim[2], z = h.pixdim[3] * (h.pixdim[0] < 0 ? -1 : 1);
    return {{{(a * a + b * b - c * c - d * d) * x, 2 * (b * c - a * d) * y, 2 * (b * d + a * c) * z, h.qoffset_x},
             {2 * (b * c + a * d) * x, (a * a + c * c - b * b - d * d) * y, 2 * (c * d - a * b) * z, h.qoffset_y},
             {2 * (b * d - a * c) * x, 2 * (c * d + a * b) * y, (a * a + d * d - b * b - c * c) * z, h.qoffset_z}}};
}

/** The largest distance, mm, between where two affines put a corner of the volume. */
double GetDifference(const Affine& first, const Affine& second, const Grid& grid) {
    double largest = 0;
    for (int corner = 0; corner < 8; ++corner) {
        Vector apart;
        for (int row = 0; row < 3; ++row) {
            apart[row] = first[row][3] - second[row][3];
            for (int axis = 0; axis < 3; ++axis)
                if (corner >> axis & 1)
                    apart[row] += (first[row][axis] - second[row][axis]) * static_cast<double>(grid.size[axis] - 1);
        }
        largest = apart.GetNorm() <= largest ? largest : apart.GetNorm();  // NaN too
    }
    return largest;
}

/** Fills the grid from an affine whose lengths are of `unit` mm; where it gives an axis no length, its spacing is unknown. */
void Place(Grid& grid, const Affine& affine, double unit, const std::string& path) {
    for (int axis = 0; axis < 3; ++axis) {
        const Vector column = MakeVector(-affine[0][axis], -affine[1][axis], affine[2][axis]) * unit;
        grid.spacing[axis] = column.GetNorm() > 0 ? column.GetNorm() : NAN;
        grid.axis[axis] = column / grid.spacing[axis];
    }
    grid.origin = MakeVector(-affine[0][3], -affine[1][3], affine[2][3]) * unit;
    if (!std::isfinite(grid.origin[0] + grid.origin[1] + grid.origin[2]))
        throw ScanError(path + ": its origin is no number: correct its header");
}

}  // namespace

bool IsNifti(const std::string& path) {
    for (const std::string ending : {".nii", ".nii.gz"})
        if (path.size() > ending.size() && path.compare(path.size() - ending.size(), ending.size(), ending) == 0)
            return true;
    return false;
}

Scan ReadNifti(const ScanRequest& request) {
    const std::string& path = request.path;
    Stream stream(path);
    nifti_1_header h;
    stream.Read(&h, sizeof h);
    Stored stored{};
    if (h.sizeof_hdr != sizeof h) {
        SwapHeader(h);
        Swap(h.sizeof_hdr);
        stored.swapped = true;
    }
    if (h.sizeof_hdr != sizeof h || std::memcmp(h.magic, "n+1", 4) != 0)
        throw ScanError(path +
                        ": is no NIfTI-1 file with its voxels inside (NIfTI-2, ANALYZE, or damaged): save it as one");
    stored.type = GetType(h, path);

    Grid grid{};
    size_t count = 1;
    for (int axis = 1; axis <= 7; ++axis) {
        const int size = axis <= h.dim[0] ? h.dim[axis] : axis <= 3 ? 0 : 1;
        if (h.dim[0] < 3 || h.dim[0] > 7 || size < 1 || (axis > 3 && size != 1))
            throw ScanError(path + ": its dimensions are not those of one volume of 3 axes: save one volume alone");
        if (axis <= 3) grid.size[axis - 1] = static_cast<uint64_t>(size), count *= static_cast<size_t>(size);
    }
    const int code = XYZT_TO_SPACE(h.xyzt_units);
    const double unit = code == NIFTI_UNITS_METER ? 1e3 : code == NIFTI_UNITS_MICRON ? 1e-3 : 1;  // mm
    std::string note, units;
    if (code > NIFTI_UNITS_MICRON)
        units = "its unit of length has the code " + std::to_string(code) + ", which NIfTI does not have: taken as mm";
    if (h.sform_code > 0) {
        Place(grid, FromSform(h), unit, path);
        const double smallest = std::min({grid.spacing[0], grid.spacing[1], grid.spacing[2]});
        const double apart = h.qform_code > 0 ? unit * GetDifference(FromSform(h), FromQform(h), grid) : 0;
        bool same = true;
        for (int axis = 0; axis < 3; ++axis)
            same &= std::abs(std::abs(unit * h.pixdim[axis + 1]) / grid.spacing[axis] - 1) <= 1e-3;
        if (!same) note = "the sizes of voxels in pixdim are not those of the sform: the sform counts";
        else if (!(apart <= 0.1 * smallest))
            note = "sform and qform differ by up to " + std::to_string(apart) + " mm: the sform counts";
    } else {
        for (int axis = 0; axis < 3; ++axis)  // which way an axis runs is said without its size
            if (!(h.pixdim[axis + 1] > 0))
                h.pixdim[axis + 1] = request.spacing[axis] > 0 ? static_cast<float>(request.spacing[axis] / unit) : NAN;
        Affine affine = FromQform(h);
        if (h.qform_code <= 0) {
            affine = {};
            for (int axis = 0; axis < 3; ++axis) {
                affine[axis][axis] = h.pixdim[axis + 1] * (axis == 0 ? -1 : 1);
                if (h.pixdim[axis + 1] > 0)
                    affine[axis][3] = -affine[axis][axis] * static_cast<double>(grid.size[axis] - 1) / 2;
            }
            note = "neither sform nor qform says where its axes point: taken as left, anterior, superior";
        }
        Place(grid, affine, unit, path);
    }
    Scan scan;
    for (const std::string& text : {units, note})
        if (!text.empty()) scan.note += (scan.note.empty() ? "" : "\n") + path + ": " + text;

    // A slope of 0, or none, means that voxels are not scaled.
    if (h.scl_slope != 0 && std::isfinite(h.scl_slope)) {
        stored.slope = h.scl_slope;
        stored.intercept = h.scl_inter;
        if (!std::isfinite(h.scl_inter)) throw ScanError(path + ": scl_inter is no number: correct it");
    }
    if (h.vox_offset != 0 && !(h.vox_offset >= 352 && h.vox_offset < 1e9f))
        throw ScanError(path + ": vox_offset " + std::to_string(h.vox_offset) + ": must be 352 or more: correct it");
    std::vector<char> extensions(std::max<size_t>(static_cast<size_t>(h.vox_offset), 352) - sizeof h);
    stream.Read(extensions.data(), extensions.size());
    const std::vector<char> voxels = stream.ReadRest(count * stored.GetBytes());
    scan.image = MakeImage(grid, request);
    ToHU(stored, voxels.data(), count, scan.image->GetBufferPointer());
    return scan;
}
