/* One NRRD file with attached data, raw or gzip. Header and grid are read by the program segment's own code. */
#include "scan.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <vector>

#include <strings.h>

#include "patchmask.h"
#include "stream.h"

extern "C" {
#include "grid.h"
#include "nrrd.h"
}

namespace {

Stored::Type GetType(int32_t voxelType) {
    switch (voxelType) {
        case PATCHMASK_VOXEL_I8: return Stored::I8;
        case PATCHMASK_VOXEL_U8: return Stored::U8;
        case PATCHMASK_VOXEL_I16: return Stored::I16;
        case PATCHMASK_VOXEL_U16: return Stored::U16;
        case PATCHMASK_VOXEL_I32: return Stored::I32;
        case PATCHMASK_VOXEL_F32: return Stored::F32;
        default: return Stored::F64;
    }
}

/** A header that is freed, and calls of the C code as exceptions. */
struct Header : nrrd_header {
    Header() : nrrd_header{} {}
    ~Header() { nrrd_free_header(this); }
    Header(const Header&) = delete;
    Header& operator=(const Header&) = delete;
};

}  // namespace

bool IsNrrd(const std::string& path) {
    char magic[5] = "";
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    return std::filesystem::path(path).extension() == ".nrrd" ||
           (file && std::fread(magic, 1, 4, file.get()) == 4 && std::string(magic) == "NRRD");
}

Scan ReadNrrd(const ScanRequest& request) {
    const std::string& path = request.path;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) throw ScanError(path + ": could not be opened");
    Header header;
    grid_placement placement{};
    problem problem{};
    if (!nrrd_read_header(&header, file.get(), path.c_str(), &problem) ||
        !grid_placement_read(&placement, &header, path.c_str(), &problem))
        throw ScanError(problem.text);

    Scan scan;
    if (!grid_to_lps(&placement, &header))
        scan.note = path + ": its axes are not tied to the patient: taken as left, posterior, superior";
    Grid grid{};
    for (int axis = 0; axis < NRRD_AXES; ++axis) {
        grid.size[axis] = header.size[axis];
        grid.spacing[axis] = placement.spacing[axis];
        grid.origin[axis] = placement.origin[axis];
        grid.axis[axis][axis] = 1;
        for (int i = 0; i < NRRD_AXES && placement.directions_known; ++i)
            grid.axis[axis][i] = placement.direction[axis][i] / placement.spacing[axis];
    }
    std::vector<char> voxels;
    const char* encoding = header.text[NRRD_ENCODING];
    if (strcasecmp(encoding, "raw") == 0) {
        if (std::filesystem::file_size(path) != static_cast<size_t>(std::ftell(file.get())) + header.data_bytes)
            throw ScanError(path + ": is longer or shorter than its header says: copy it again");
        voxels.resize(header.data_bytes);
        if (std::fread(voxels.data(), 1, voxels.size(), file.get()) != voxels.size())
            throw ScanError(path + ": became shorter while it was read");
    } else if (strcasecmp(encoding, "gzip") == 0 || strcasecmp(encoding, "gz") == 0) {
        voxels = Stream(path, std::ftell(file.get()), true).ReadRest(header.data_bytes);
    } else {
        throw ScanError(path + ": encoding '" + encoding + "' is not read: save it as raw or gzip");
    }
    const Stored stored{GetType(header.voxel_type), header.swapped};
    scan.image = MakeImage(grid, request);
    ToHU(stored, voxels.data(), header.voxel_count, scan.image->GetBufferPointer());
    return scan;
}
