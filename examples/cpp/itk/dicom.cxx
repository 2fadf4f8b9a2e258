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
#include "gdcmTrace.h"

namespace {

constexpr double DISTANCE_TOLERANCE = 0.1;  // of the distance of slices; a missing slice differs by 1
constexpr double SAME = 1e-4;               // of direction cosines, and of spacings in mm

bool IsText(const std::string& bytes) {
    return !bytes.empty() && std::all_of(bytes.begin(), bytes.end(), [](unsigned char c) {
        return c >= ' ' || c == '\n' || c == '\r' || c == '\t';
    });
}

/** The slices of one series, in no order: of a folder, or a file alone. */
std::vector<Slice> FindSeries(const ScanRequest& request) {
    const std::filesystem::path path = request.path;
    std::map<std::string, std::vector<Slice>> series;
    std::vector<std::filesystem::path> files, strange;
    if (std::filesystem::is_directory(path)) {
        for (const auto& entry : std::filesystem::directory_iterator(path))
            if (!entry.is_directory() && entry.path().filename().string()[0] != '.') files.push_back(entry.path());
        std::sort(files.begin(), files.end());
    } else {
        files.push_back(path);
    }
    std::set<std::string> endings;  // of slices' names, without digits
    const auto ending = [](const std::filesystem::path& file) {
        std::string text = file.extension().string();
        text.erase(std::remove_if(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); }),
                   text.end());
        return text;
    };
    for (const auto& file : files) {
        if (ReadStart(file.string()).find("DICM") != 128) {
            strange.push_back(file);
        } else if (const auto slice = ReadHeader(file)) {
            series[slice->series].push_back(*slice);
            endings.insert(ending(file));
        }
    }
    if (series.empty() && std::filesystem::is_directory(path))
        throw ScanError(request.path + ": no DICOM series of CT images here; its subfolders are not searched");
    if (series.empty()) throw ScanError(request.path + ": is no CT image: choose one, or a folder with a series");
    for (const auto& file : strange)
        if (endings.count(ending(file)) != 0 && !IsText(ReadStart(file.string())))
            throw ScanError(file.string() + ": is empty or no DICOM file: copy it again, or take it out of the folder");

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
    const auto same = [](const std::vector<double>& a, const std::vector<double>& b) {
        return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                          [](double x, double y) { return std::abs(x - y) <= SAME; });
    };
    const Slice& first = slices[0];
    for (const Slice& slice : slices) {
        const char* what = slice.rows != first.rows || slice.columns != first.columns ? "size"
                           : slice.rescaled != first.rescaled                         ? "rescale, or none,"
                           : slice.position.size() != first.position.size()           ? "position, or none,"
                           : slice.frame != first.frame                               ? "frame of reference"
                           : !same(slice.spacing, first.spacing)                      ? "pixel spacing"
                           : !same(slice.directions, first.directions)                ? "orientation"
                                                                                      : nullptr;
        if (what != nullptr) {
            throw ScanError(slice.file + ": has another " + what + " than " + first.name +
                            ": the series is no single volume, take out what does not belong to it");
        }
    }
}

/** Where the slices lie: sorts them along their normal and refuses gaps, doubled slices and shifts to the side. */
Grid Arrange(std::vector<Slice>& slices, const ScanRequest& request) {
    const Slice& first = slices[0];
    const bool known = request.spacing[0] > 0;
    if (first.position.empty() || first.directions.empty())
        throw ScanError(first.file +
                        ": ImagePositionPatient or ImageOrientationPatient is missing: where slices lie is unknown, "
                        "export the series again");
    if (!known && (first.spacing.empty() || std::min(first.spacing[0], first.spacing[1]) <= 0))
        throw ScanError(first.file + ": PixelSpacing is missing or not above 0: give --spacing X,Y,Z in mm");
    const std::vector<double>& d = first.directions;
    Grid grid{};
    grid.axis = {{{d[0], d[1], d[2]}, {d[3], d[4], d[5]}, {}}};
    for (int axis = 0; axis < 2; ++axis) {
        const double length = std::sqrt(Dot(grid.axis[axis], grid.axis[axis]));
        for (double& part : grid.axis[axis]) part /= length;
        if (!(std::abs(length - 1) <= RIGHT_ANGLE) || std::abs(Dot(grid.axis[0], grid.axis[1])) > RIGHT_ANGLE)
            throw ScanError(first.file +
                            ": ImageOrientationPatient: rows and columns are not at a right angle: correct it");
    }
    const Vector normal = grid.axis[2] = Cross(grid.axis[0], grid.axis[1]);
    for (Slice& slice : slices) slice.along = Dot(normal, {slice.position[0], slice.position[1], slice.position[2]});
    std::sort(slices.begin(), slices.end(), [](const Slice& a, const Slice& b) { return a.along < b.along; });
    grid.size = {first.columns, first.rows, slices.size()};
    const Slice& lowest = slices.front();
    std::copy(lowest.position.begin(), lowest.position.end(), grid.origin.begin());
    if (!first.spacing.empty()) grid.spacing = {first.spacing[1], first.spacing[0], lowest.thickness};
    if (slices.size() == 1) {
        if (!known && lowest.thickness <= 0)
            throw ScanError(lowest.file + ": one slice of unknown thickness: give --spacing X,Y,Z in mm");
        return grid;
    }

    std::vector<double> steps;
    for (size_t i = 1; i < slices.size(); ++i) steps.push_back(slices[i].along - slices[i - 1].along);
    std::vector<double> sorted = steps;
    std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
    const double typical = sorted[sorted.size() / 2];
    const double pixel =
        known ? std::min(request.spacing[0], request.spacing[1]) : std::min(first.spacing[0], first.spacing[1]);
    for (size_t i = 0; i < steps.size(); ++i) {
        std::ostringstream text;
        text << request.path << ": " << slices[i].name << " and " << slices[i + 1].name;
        if (!(steps[i] > DISTANCE_TOLERANCE * typical)) {
            text << " lie at the same place: take one of them out of the folder";
            throw ScanError(text.str());
        }
        if (std::abs(steps[i] - typical) > DISTANCE_TOLERANCE * typical) {
            text << " are " << steps[i] << " mm apart, others " << typical
                 << ": a slice is missing, copy the series again";
            throw ScanError(text.str());
        }
        Vector aside;
        for (int k = 0; k < 3; ++k) {
            aside[k] =
                slices[i + 1].position[k] - lowest.position[k] - normal[k] * (slices[i + 1].along - lowest.along);
        }
        const double distance = std::sqrt(Dot(aside, aside));
        if (distance > 0.1 * pixel + RIGHT_ANGLE * (slices[i + 1].along - lowest.along)) {
            text << " and others shift to the side, " << distance
                 << " mm in all (gantry tilt): straighten the series first";
            throw ScanError(text.str());
        }
    }
    grid.spacing[2] = (slices.back().along - lowest.along) / static_cast<double>(slices.size() - 1);
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
    std::vector<Slice> slices = FindSeries(request);
    for (const Slice& slice : slices) {
        if (slice.localizer) throw ScanError(slice.file + ": is a localizer: take it out of the folder");
        if (!slice.problem.empty()) throw ScanError(slice.problem);
        if (!slice.rescaled && slice.stored.type % 2 == 1 && slices[0].rescaled == slice.rescaled)
            throw ScanError(slice.file + ": RescaleSlope and RescaleIntercept are missing: HU are unknown, add them");
    }
    CheckSame(slices);
    const Grid grid = Arrange(slices, request);
    Scan scan;
    scan.image = MakeImage(grid, request);
    float* hu = scan.image->GetBufferPointer();
    for (const Slice& slice : slices) {
        ToHU(slice.stored, ReadPixels(slice).data(), slice.rows * slice.columns, hu);
        hu += slice.rows * slice.columns;
    }
    return scan;
}
