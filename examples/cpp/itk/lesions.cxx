/* lesions: a CT scan in (DICOM series, NIfTI or NRRD), its lesions out: a label map and a table.
 *
 *   read --> PatchMaskImageFilter --> lesion class --> connected components --> sorted by size --+--> LABELS.nrrd
 *            classes                  0 or 1           6 neighbours             1 is the largest  +--> LESIONS.csv
 *
 * Exit status 0, 1 (failure, one line on stderr) or 2 (wrong usage). Outputs appear when both are complete. */
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "itkBinaryThresholdImageFilter.h"
#include "itkCommand.h"
#include "itkConnectedComponentImageFilter.h"
#include "itkGDCMImageIO.h"
#include "itkGDCMSeriesFileNames.h"
#include "itkImageFileReader.h"
#include "itkImageFileWriter.h"
#include "itkImageSeriesReader.h"
#include "itkLabelImageToShapeLabelMapFilter.h"
#include "itkPatchMaskImageFilter.h"
#include "itkRelabelComponentImageFilter.h"
#include "itkShapeLabelObject.h"

namespace {

const char USAGE[] =
    "usage: lesions --model FILE [options] INPUT LABELS.nrrd LESIONS.csv\n"
    "Finds the lesions of a CT scan in HU: a DICOM folder, NIfTI or NRRD.\n"
    "\n"
    "  --model FILE          weights (.safetensors); required\n"
    "  --series UID          which series of a DICOM folder; needed if it has several\n"
    "  --stride N            pixels between patch centres (default: the model's)\n"
    "  --fill nearest|linear how patch classes become voxels (default nearest)\n"
    "  --min-volume MM3      leave out smaller lesions (default 0)\n"
    "  --mask FILE.nrrd      also write the class of each voxel\n"
    "  --device auto|cpu|cuda where the network runs (default auto)\n"
    "  --progress            progress on stdout\n"
    "  --help\n"
    "\n"
    "LABELS.nrrd is a label map (uint32) on the grid of the scan: 0, and n for lesion n; 1 is the\n"
    "largest. LESIONS.csv has a line for each: voxels, volume (mm3), centroid (mm, patient\n"
    "coordinates LPS) and largest diameter (mm, between voxel centres).\n";

/** Wrong usage: exit status 2. */
struct Misuse {
    std::string text;
};

struct Arguments {
    std::string model, series, mask, input, labels, table;
    uint32_t stride = 0;  // pixels; 0: the model's
    int32_t fill = PATCHMASK_INTERPOLATION_NEAREST;
    int32_t device = PATCHMASK_DEVICE_AUTO;
    double minVolume = 0;  // mm3
    bool progress = false, help = false;
};

int32_t ParseWord(const std::string& option, const std::string& text, const std::vector<std::string>& words) {
    const auto found = std::find(words.begin(), words.end(), text);
    if (found == words.end()) {
        std::string list;
        for (const auto& word : words) list += (list.empty() ? "" : ", ") + word;
        throw Misuse{option + " " + text + ": must be one of " + list};
    }
    return static_cast<int32_t>(found - words.begin());
}

double ParseNumber(const std::string& option, const std::string& text, double lowest, double highest) {
    char* end = nullptr;
    const double number = std::strtod(text.c_str(), &end);
    if (end == text.c_str() || *end != '\0' || !(number >= lowest && number <= highest)) {
        std::ostringstream problem;
        problem << option << " " << text << ": must be a number from " << lowest << " to " << highest;
        throw Misuse{problem.str()};
    }
    return number;
}

uint32_t ParseWhole(const std::string& option, const std::string& text) {
    const double number = ParseNumber(option, text, 1, PATCHMASK_PATCH_SIZE_MAX);
    if (number != std::floor(number)) throw Misuse{option + ": must be a whole number of pixels"};
    return static_cast<uint32_t>(number);
}

Arguments Parse(const std::vector<std::string>& words) {
    Arguments arguments;
    std::vector<std::string> paths;
    const std::map<std::string, std::function<void(const std::string&)>> options = {
        {"--model", [&](const auto& value) { arguments.model = value; }},
        {"--series", [&](const auto& value) { arguments.series = value; }},
        {"--mask", [&](const auto& value) { arguments.mask = value; }},
        {"--stride", [&](const auto& value) { arguments.stride = ParseWhole("--stride", value); }},
        {"--fill", [&](const auto& value) { arguments.fill = ParseWord("--fill", value, {"nearest", "linear"}); }},
        {"--device",
         [&](const auto& value) { arguments.device = ParseWord("--device", value, {"auto", "cpu", "cuda"}); }},
        {"--min-volume", [&](const auto& value) { arguments.minVolume = ParseNumber("--min-volume", value, 0, 1e30); }},
    };
    for (size_t at = 0; at < words.size(); ++at) {
        const std::string& word = words[at];
        const auto option = options.find(word);
        if (word.size() < 2 || word[0] != '-') {
            paths.push_back(word);
        } else if (word == "--help") {
            arguments.help = true;
            return arguments;
        } else if (word == "--progress") {
            arguments.progress = true;
        } else if (option == options.end()) {
            throw Misuse{word + ": unknown option; lesions --help lists them"};
        } else if (++at == words.size()) {
            throw Misuse{word + ": needs a value"};
        } else {
            option->second(words[at]);
        }
    }
    if (paths.size() != 3)
        throw Misuse{"usage: lesions --model FILE [options] INPUT LABELS.nrrd LESIONS.csv; see lesions --help"};
    if (arguments.model.empty()) throw Misuse{"--model FILE: is required"};
    arguments.input = paths[0];
    arguments.labels = paths[1];
    arguments.table = paths[2];
    return arguments;
}

/** The files of the scan, in order: those of one DICOM series, or the input itself. */
std::vector<std::string> FindFiles(const Arguments& arguments) {
    if (!std::filesystem::is_directory(arguments.input)) {
        if (!arguments.series.empty()) throw Misuse{"--series: " + arguments.input + " is no DICOM folder"};
        return {arguments.input};
    }
    auto names = itk::GDCMSeriesFileNames::New();
    names->SetUseSeriesDetails(true);
    names->SetDirectory(arguments.input);
    const std::vector<std::string> series = names->GetSeriesUIDs();
    if (series.empty()) throw std::runtime_error(arguments.input + ": no DICOM series in this folder");
    std::string list;
    for (const auto& uid : series) list += " " + uid;
    if (arguments.series.empty() && series.size() > 1) {
        throw std::runtime_error(arguments.input + ": has " + std::to_string(series.size()) +
                                 " series, choose one with --series:" + list);
    }
    const std::string chosen = arguments.series.empty() ? series[0] : arguments.series;
    if (std::find(series.begin(), series.end(), chosen) == series.end())
        throw std::runtime_error(arguments.input + ": has no series " + chosen + ", but" + list);
    return names->GetFileNames(chosen);
}

itk::ImageIOBase::Pointer FindReader(const Arguments& arguments, const std::vector<std::string>& files) {
    itk::ImageIOBase::Pointer io;
    if (std::filesystem::is_directory(arguments.input)) {
        io = itk::GDCMImageIO::New();
    } else {
        if (!std::filesystem::exists(files[0])) throw std::runtime_error(files[0] + ": no such file");
        io = itk::ImageIOFactory::CreateImageIO(files[0].c_str(), itk::ImageIOFactory::IOFileModeEnum::ReadMode);
        if (io.IsNull()) throw std::runtime_error(files[0] + ": neither NIfTI, NRRD nor DICOM");
    }
    io->SetFileName(files[0]);
    io->ReadImageInformation();
    if (io->GetNumberOfComponents() != 1) {
        throw std::runtime_error(files[0] + ": has " + std::to_string(io->GetNumberOfComponents()) +
                                 " values per voxel, must be one in HU");
    }
    unsigned int axes = io->GetNumberOfDimensions();
    while (axes > 3 && io->GetDimensions(axes - 1) == 1) --axes;
    if (axes > 3)
        throw std::runtime_error(files[0] + ": has " + std::to_string(axes) + " dimensions, must be a volume");
    return io;
}

template <typename TImage> typename TImage::Pointer Read(const std::vector<std::string>& files, itk::ImageIOBase* io) {
    if (files.size() == 1) {
        auto reader = itk::ImageFileReader<TImage>::New();
        reader->SetImageIO(io);
        reader->SetFileName(files[0]);
        reader->Update();
        return reader->GetOutput();
    }
    auto reader = itk::ImageSeriesReader<TImage>::New();
    reader->SetImageIO(io);
    reader->SetFileNames(files);
    reader->Update();
    return reader->GetOutput();
}

/** A file that takes its name when it is complete; until then `.NAME.part`, which goes with the object. */
class Output {
public:
    explicit Output(const std::string& path)
        : m_Path(path),
          m_Part(m_Path.parent_path() / ("." + m_Path.stem().string() + ".part" + m_Path.extension().string())) {}
    ~Output() {
        std::error_code ignored;
        std::filesystem::remove(m_Part, ignored);
    }
    Output(const Output&) = delete;
    Output& operator=(const Output&) = delete;

    std::string GetPart() const { return m_Part.string(); }
    void Commit() const { std::filesystem::rename(m_Part, m_Path); }

private:
    std::filesystem::path m_Path, m_Part;
};

template <typename TImage> void WriteImage(const TImage* image, const Output& output) {
    auto writer = itk::ImageFileWriter<TImage>::New();
    writer->SetInput(image);
    writer->SetFileName(output.GetPart());
    writer->UseCompressionOn();
    writer->Update();
}

template <typename TLabelMap> void WriteTable(TLabelMap* lesions, const Output& output) {
    std::ofstream file(output.GetPart());
    file << "label,voxels,volume_mm3,centroid_x_mm,centroid_y_mm,centroid_z_mm,diameter_mm\n" << std::setprecision(10);
    for (const auto& lesion : lesions->GetLabelObjects()) {
        const auto centroid = lesion->GetCentroid();
        file << lesion->GetLabel() << ',' << lesion->GetNumberOfPixels() << ',' << lesion->GetPhysicalSize() << ','
             << centroid[0] << ',' << centroid[1] << ',' << centroid[2] << ',' << lesion->GetFeretDiameter() << '\n';
    }
    file.close();
    if (!file) throw std::runtime_error(output.GetPart() + ": could not be written");
}

template <typename TPixel>
void Run(const Arguments& arguments, const std::vector<std::string>& files, itk::ImageIOBase* io) {
    using ScanType = itk::Image<TPixel, 3>;
    using MaskType = itk::Image<unsigned char, 3>;
    using LabelType = itk::Image<uint32_t, 3>;
    using LesionsType = itk::LabelMap<itk::ShapeLabelObject<uint32_t, 3>>;

    auto classify = itk::PatchMaskImageFilter<ScanType>::New();
    classify->LoadModel(arguments.model);
    patchmask_options options = classify->GetOptions();
    options.stride = arguments.stride != 0 ? arguments.stride : options.stride;
    options.interpolation = arguments.fill;
    options.device = arguments.device;
    classify->SetOptions(options);
    classify->SetInput(Read<ScanType>(files, io));
    if (arguments.progress) {
        auto show = itk::CStyleCommand::New();
        show->SetCallback([](itk::Object* caller, const itk::EventObject&, void*) {
            std::cout << static_cast<int>(100 * static_cast<itk::ProcessObject*>(caller)->GetProgress()) << " %"
                      << std::endl;
        });
        classify->AddObserver(itk::ProgressEvent(), show);
    }

    auto lesion = itk::BinaryThresholdImageFilter<MaskType, MaskType>::New();
    lesion->SetInput(classify->GetOutput());
    lesion->SetLowerThreshold(static_cast<unsigned char>(options.lesion_class));
    lesion->SetUpperThreshold(static_cast<unsigned char>(options.lesion_class));
    lesion->SetInsideValue(1);
    lesion->SetOutsideValue(0);

    auto connect = itk::ConnectedComponentImageFilter<MaskType, LabelType>::New();
    connect->SetInput(lesion->GetOutput());

    auto sort = itk::RelabelComponentImageFilter<LabelType, LabelType>::New();
    sort->SetInput(connect->GetOutput());
    sort->UpdateOutputInformation();
    const auto spacing = sort->GetOutput()->GetSpacing();
    const double voxel = spacing[0] * spacing[1] * spacing[2];  // mm3
    sort->SetMinimumObjectSize(static_cast<itk::SizeValueType>(std::ceil(arguments.minVolume / voxel - 1e-6)));

    auto measure = itk::LabelImageToShapeLabelMapFilter<LabelType, LesionsType>::New();
    measure->SetInput(sort->GetOutput());
    measure->ComputePerimeterOff();
    measure->ComputeFeretDiameterOn();  // compares all pairs of border voxels of a lesion
    measure->Update();

    const Output labels(arguments.labels), table(arguments.table);
    WriteImage(sort->GetOutput(), labels);
    WriteTable(measure->GetOutput(), table);
    if (!arguments.mask.empty()) {
        const Output mask(arguments.mask);
        WriteImage(classify->GetOutput(), mask);
        mask.Commit();
    }
    labels.Commit();
    table.Commit();
    std::cout << arguments.labels << ": " << measure->GetOutput()->GetNumberOfLabelObjects() << " lesions" << std::endl;
}

void Main(const Arguments& arguments) {
    const auto files = FindFiles(arguments);
    const auto io = FindReader(arguments, files);
    using Component = itk::IOComponentEnum;
    const Component type = io->GetComponentType();
    // HU fit a short; whatever else a file may hold fits a float.
    if (type == Component::SHORT || type == Component::CHAR || type == Component::UCHAR)
        Run<short>(arguments, files, io);
    else Run<float>(arguments, files, io);
}

/** ITK puts the place in its source before the text; one line is left for people. */
std::string OneLine(std::string text) {
    std::replace(text.begin(), text.end(), '\n', ' ');
    const size_t first = text.find_first_not_of(' ');
    return first == std::string::npos ? "failed" : text.substr(first);
}

}  // namespace

int main(int count, char** words) {
    try {
        const Arguments arguments = Parse({words + 1, words + count});
        if (arguments.help) {
            std::cout << USAGE;
            return EXIT_SUCCESS;
        }
        itk::Object::GlobalWarningDisplayOff();
        Main(arguments);
        return EXIT_SUCCESS;
    } catch (const Misuse& misuse) {
        std::cerr << "lesions: " << misuse.text << std::endl;
        return 2;
    } catch (const itk::ExceptionObject& problem) {
        std::cerr << "lesions: " << OneLine(problem.GetDescription()) << std::endl;
    } catch (const std::exception& problem) {
        std::cerr << "lesions: " << OneLine(problem.what()) << std::endl;
    }
    return EXIT_FAILURE;
}
