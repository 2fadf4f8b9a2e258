/* Files in a folder of slices that are no DICOM files: slices that were lost, or what lies beside them.
 *
 *   called as slices are (IM0005.dcm), or of no kind that is known and no text   a slice was damaged: refused
 *   of another kind (README, Thumbs.db, report.pdf)                              passed over
 *   others (IM0005.tmp)                                                          passed over, and said */
#ifndef PATCHMASK_DICOM_STRANGERS_H
#define PATCHMASK_DICOM_STRANGERS_H

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "dicom_slice.h"

class Strangers {
public:
    explicit Strangers(const std::vector<std::filesystem::path>& slices) {
        for (const auto& slice : slices) {
            m_Shapes.insert(GetShape(slice));
            if (!IsOther(slice)) m_Endings.insert(GetEnding(slice));
        }
    }
    /** True if nobody knows the file; refuses one that was a slice. */
    bool Check(const std::filesystem::path& file) const {
        const std::string ending = GetEnding(file);
        const bool other = IsOther(file);
        const bool likeOne = !other && m_Endings.count(ending) != 0 && (!ending.empty() || !IsText(file));
        if (likeOne || m_Shapes.count(GetShape(file)) != 0)
            throw ScanError(
                file.string() +
                ": is no DICOM file, but called as slices are: copy it again, or take it out of the folder");
        return !other;
    }

private:
    static std::string GetLower(std::string text) {
        std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
        return text;
    }
    /** "dcm"; "" for numbers, as of names that are UIDs. */
    static std::string GetEnding(const std::filesystem::path& file) {
        const std::string ending = GetLower(file.extension().string());
        return ending.find_first_not_of(".0123456789") == std::string::npos ? "" : ending.substr(1);
    }
    /** The name with a mark for its numbers, hexadecimal ones too: slices have it in common. */
    static std::string GetShape(const std::filesystem::path& file) {
        static const std::regex numbers("[0-9a-f._-]*[0-9][0-9a-f._-]*");
        return std::regex_replace(GetLower(file.filename().string()), numbers, "#");
    }
    static bool IsOther(const std::filesystem::path& file) {
        static const std::set<std::string> endings = {"bmp",  "bz2",  "cfg",  "css",  "csv",  "db",   "dll", "doc",
                                                      "docx", "exe",  "gif",  "gz",   "htm",  "html", "inf", "ini",
                                                      "jpeg", "jpg",  "js",   "json", "log",  "md",   "mha", "mhd",
                                                      "nhdr", "nii",  "nrrd", "pdf",  "png",  "pptx", "py",  "rst",
                                                      "rtf",  "sh",   "stl",  "tif",  "tiff", "tsv",  "txt", "url",
                                                      "xls",  "xlsx", "xml",  "yaml", "yml",  "zip"};
        const std::string name = GetLower(file.filename().string());
        for (const char* known : {"dicomdir", "license", "readme"})
            if (name.find(known) == 0) return true;
        return endings.count(GetEnding(file)) != 0;
    }
    /** No control characters, and most of it ASCII, by its first bytes. */
    static bool IsText(const std::filesystem::path& file) {
        const std::string start = ReadStart(file.string());
        const auto count = [&](auto is) { return std::count_if(start.begin(), start.end(), is); };
        const auto control = [](unsigned char c) {
            return (c < ' ' && !std::strchr("\t\n\f\r", c)) || c == 0x7f || c == 0;
        };
        return !start.empty() && count(control) == 0 &&
               2 * count([](unsigned char c) { return c >= 0x80; }) <= static_cast<long>(start.size());
    }

    std::set<std::string> m_Endings{"dcm", "dicom", "ima"}, m_Shapes;
};

#endif
