/* A classic DICOM series of CT images.
 *
 *   headers of all files --> those of the series --> one grid? whole? HU? --> pixels, slice by slice
 *
 * Each slice counts with its own facts, and slices lie where their positions say, whatever their files are called. */
#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <sstream>

#include "dicom_slice.h"
#include "dicom_strangers.h"
#include "gdcmTrace.h"

extern "C" {
#include "grid.h"
}

namespace {

constexpr double DISTANCE_TOLERANCE = 0.1;  // of the distance of slices; a missing slice differs by 1
constexpr double SAME = 1e-3;               // of direction cosines, and relative of spacings

/** The slices of one series, in no order: of a folder, or a file alone. `note`: what nobody knows there. */
std::vector<Slice> FindSeries(const ScanRequest& request, std::string& note) {
    const std::filesystem::path path = request.path;
    std::map<std::string, std::vector<Slice>> series;
    std::vector<std::filesystem::path> files, strangers, dicom;
    if (std::filesystem::is_directory(path)) {
        std::error_code none;  // of links that lead nowhere
        for (const auto& entry : std::filesystem::directory_iterator(path))
            if (!entry.is_directory(none) && entry.path().filename().string()[0] != '.') files.push_back(entry.path());
        std::sort(files.begin(), files.end());
    } else {
        files.push_back(path);
    }
    for (const auto& file : files) {
        if (ReadStart(file.string()).find("DICM") != 128) {
            strangers.push_back(file);
            continue;
        }
        dicom.push_back(file);
        if (const auto slice = ReadHeader(file)) series[slice->series].push_back(*slice);
    }
    const Strangers known(dicom);
    std::vector<std::string> unknown;
    if (std::filesystem::is_directory(path))
        for (const auto& file : strangers)
            if (known.Check(file)) unknown.push_back(file.filename().string());
    if (series.empty() && std::filesystem::is_directory(path))
        throw ScanError(request.path + ": no DICOM series of CT images here; its subfolders are not searched");
    if (series.empty()) throw ScanError(request.path + ": is no CT image: choose one, or a folder with a series");
    for (size_t i = 0; i < unknown.size() && i < 3; ++i) note += (i > 0 ? ", " : "") + unknown[i];
    if (unknown.size() > 3) note += " and " + std::to_string(unknown.size() - 3) + " more";
    if (!note.empty()) note = request.path + ": no DICOM files, passed over: " + note;

    std::string list;
    std::vector<std::string> volumes;  // those that are not of localizers alone
    for (const auto& [uid, slices] : series) {
        list += " " + uid;
        if (!std::all_of(slices.begin(), slices.end(), [](const Slice& slice) { return slice.localizer; }))
            volumes.push_back(uid);
    }
    if (!request.series.empty() && series.count(request.series) == 0)
        throw ScanError(request.path + ": has no series " + request.series + ", but" + list);
    if (request.series.empty() && volumes.size() > 1)
        throw ScanError(request.path + ": has " + std::to_string(volumes.size()) +
                        " series, choose one with --series:" + list);
    return series[!request.series.empty() ? request.series : volumes.empty() ? series.begin()->first : volumes[0]];
}

/** Refuses slices that contradict the first one. */
void CheckSame(const std::vector<Slice>& slices) {
    const auto same = [](const std::vector<double>& a, const std::vector<double>& b, double scale) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(), [scale](double x, double y) {
            return std::abs(x - y) <= SAME * (scale > 0 ? scale : std::abs(y));
        });
    };
    const Slice& first = slices[0];
    for (const Slice& slice : slices) {
        const char* what = slice.rows != first.rows || slice.columns != first.columns ? "size"
                           : slice.rescaled != first.rescaled                         ? "rescale, or none,"
                           : slice.position.size() != first.position.size()           ? "position, or none,"
                           : slice.frame != first.frame                               ? "frame of reference"
                           : !same(slice.spacing, first.spacing, 0)                   ? "pixel spacing"
                           : !same(slice.directions, first.directions, 1)             ? "orientation"
                                                                                      : nullptr;
        if (what != nullptr) {
            throw ScanError(slice.file + ": has another " + what + " than " + first.name +
                            ": the series is no single volume, take out what does not belong to it");
        }
    }
}

/** Sorts slices along their normal, and refuses gaps and doubled slices; the way from each to the next, mm. */
Vector Sort(std::vector<Slice>& slices, const Vector& normal, const std::string& folder) {
    for (Slice& slice : slices) slice.along = normal * slice.GetPosition();
    std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) { return a.along < b.along; });
    if (slices.size() == 1) return normal * slices[0].thickness;
    std::vector<double> steps;
    for (size_t i = 1; i < slices.size(); ++i) steps.push_back(slices[i].along - slices[i - 1].along);
    std::vector<double> sorted = steps;
    std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
    const double typical = sorted[sorted.size() / 2];
    std::ostringstream text;
    text << folder << ": ";
    for (size_t i = 0; i < steps.size(); ++i) {
        if (std::abs(steps[i] - typical) <= DISTANCE_TOLERANCE * typical && typical > 0) continue;
        text << slices[i].name << " and " << slices[i + 1].name;
        if (steps[i] <= DISTANCE_TOLERANCE * typical)
            text << " lie at the same place: take one of them out of the folder";
        else
            text << " are " << steps[i] << " mm apart, others " << typical
                 << ": a slice is missing, copy the series again";
        throw ScanError(text.str());
    }
    const Vector first = slices.front().GetPosition();
    const Vector step = (slices.back().GetPosition() - first) / static_cast<double>(steps.size());
    for (size_t i = 0; i < slices.size(); ++i) {
        const double astray = (slices[i].GetPosition() - first - step * static_cast<double>(i)).GetNorm();
        if (astray <= DISTANCE_TOLERANCE * typical) continue;
        text << slices[i].name << " lies " << astray << " mm beside the line of the others: take it out of the folder";
        throw ScanError(text.str());
    }
    return step;
}

/** Where the slices lie, which are then in order. */
Grid Arrange(std::vector<Slice>& slices, const ScanRequest& request) {
    const Slice& some = slices[0];
    if (some.position.empty() || some.directions.empty()) {
        throw ScanError(some.file +
                        ": ImagePositionPatient or ImageOrientationPatient is missing: where slices lie is "
                        "unknown, export the series again");
    }
    const std::vector<double>& d = some.directions;
    const Vector row = MakeVector(d[0], d[1], d[2]), column = MakeVector(d[3], d[4], d[5]);
    if (!(std::abs(row.GetNorm() - 1) <= 0.01 && std::abs(column.GetNorm() - 1) <= 0.01))
        throw ScanError(some.file + ": ImageOrientationPatient: directions must have the length 1: correct it");
    if (!(std::abs(row * column) <= GRID_MAX_COSINE))
        throw ScanError(some.file + ": ImageOrientationPatient: directions are not at a right angle: correct it");
    Grid grid{};
    grid.axis = {row / row.GetNorm(), column / column.GetNorm()};
    grid.axis[2] = itk::CrossProduct(grid.axis[0], grid.axis[1]);
    const Vector step = Sort(slices, grid.axis[2], request.path);
    if (step.GetNorm() > 0) grid.axis[2] = step / step.GetNorm();
    grid.size = {some.columns, some.rows, slices.size()};
    grid.origin = slices.front().GetPosition();
    grid.spacing.Fill(NAN);
    if (!some.spacing.empty()) grid.spacing = MakeVector(some.spacing[1], some.spacing[0], NAN);
    if (step.GetNorm() > 0) grid.spacing[2] = step.GetNorm();
    return grid;
}

}  // namespace

bool IsDicom(const std::string& path) {
    return ReadStart(path).find("DICM") == 128 || std::filesystem::path(path).extension() == ".dcm";
}

Scan ReadDicom(const ScanRequest& request) {
    gdcm::Trace::DebugOff();
    gdcm::Trace::WarningOff();
    gdcm::Trace::ErrorOff();
    Scan scan;
    std::vector<Slice> slices = FindSeries(request, scan.note);
    for (const Slice& slice : slices) {
        if (slice.localizer) throw ScanError(slice.file + ": is a localizer: take it out of the folder");
        if (!slice.problem.empty()) throw ScanError(slice.problem);
        if (!slice.rescaled && slice.stored.type % 2 == 1 && slices[0].rescaled == slice.rescaled)
            throw ScanError(slice.file + ": RescaleSlope and RescaleIntercept are missing: HU are unknown, add them");
    }
    CheckSame(slices);
    const Grid grid = Arrange(slices, request);
    if (!slices[0].rescaled) {
        scan.note +=
            (scan.note.empty() ? "" : "\n") + request.path + ": has no rescale: its signed pixels are taken as HU";
    }
    scan.image = MakeImage(grid, request);
    float* hu = scan.image->GetBufferPointer();
    for (const Slice& slice : slices) {
        ToHU(slice.stored, ReadPixels(slice).data(), slice.rows * slice.columns, hu);
        hu += slice.rows * slice.columns;
    }
    return scan;
}
