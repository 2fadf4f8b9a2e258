/* lesions: a CT scan in (DICOM series, NIfTI or NRRD), its lesions out: a label map and a table.
 *
 *   ReadScan --> axial slices --> PatchMaskImageFilter --> the scan's axes --> lesion --> connected components
 *   HU           as trained       classes or probability   as in the file      0 or 1     6 neighbours
 *
 *   --> sorted by size --+--> LABELS.nrrd
 *       1 is the largest +--> LESIONS.csv
 *
 * Exit status 0, 1 (failure, one line on stderr) or 2 (wrong usage). Outputs appear when both are complete. */
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "itkBinaryThresholdImageFilter.h"
#include "itkCommand.h"
#include "itkConnectedComponentImageFilter.h"
#include "itkDiscreteGaussianImageFilter.h"
#include "itkFlipImageFilter.h"
#include "itkImageFileWriter.h"
#include "itkLabelImageToShapeLabelMapFilter.h"
#include "itkPatchMaskImageFilter.h"
#include "itkPermuteAxesImageFilter.h"
#include "itkRelabelComponentImageFilter.h"
#include "itkShapeLabelObject.h"
#include "scan.h"

namespace {

const char USAGE[] =
    "usage: lesions --model FILE [options] INPUT LABELS.nrrd LESIONS.csv\n"
    "Finds the lesions of a CT scan in HU: a DICOM folder, NIfTI or NRRD.\n"
    "\n"
    "  --model FILE          weights (.safetensors); required\n"
    "  --series UID          which series of a DICOM folder; needed if it has several\n"
    "  --spacing X,Y,Z       mm between voxels, where the file does not say it\n"
    "  --axes LPS|file       slices as the network knows them, axial (default), or as the file has them\n"
    "  --stride N            pixels between patch centres (default: the model's)\n"
    "  --fill nearest|linear how patch classes become voxels (default nearest)\n"
    "  --smooth MM           smooth the probabilities in 3-D first, by a Gaussian of this deviation (default 0: no)\n"
    "  --min-volume MM3      leave out smaller lesions (default 0)\n"
    "  --mask FILE.nrrd      also write the network's class of each voxel\n"
    "  --device auto|cpu|cuda where the network runs (default auto)\n"
    "  --progress            progress on stdout\n"
    "  --help\n"
    "\n"
    "LABELS.nrrd is a label map (uint32) on the grid of the scan: 0, and n for lesion n; 1 is the\n"
    "largest. LESIONS.csv has a line for each: voxels, volume (mm3), centroid (mm, patient\n"
    "coordinates LPS) and largest diameter (mm, between voxel centres).\n";

using MaskType = itk::Image<unsigned char, 3>;

/** Wrong usage: exit status 2. */
struct Misuse {
    std::string text;
};

struct Arguments {
    ScanRequest scan;
    std::string model, mask, labels, table;
    bool asFiled = false;  // slices are taken as the file has them
    uint32_t stride = 0;   // pixels; 0: the model's
    int32_t fill = PATCHMASK_INTERPOLATION_NEAREST;
    int32_t device = PATCHMASK_DEVICE_AUTO;
    double smooth = 0;     // mm
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

Vector ParseSpacing(const std::string& text) {
    Vector spacing;
    const char* cursor = text.c_str();
    for (size_t axis = 0; axis < 3; ++axis) {
        char* end = nullptr;
        spacing[axis] = std::strtod(cursor, &end);
        if (end == cursor || *end != (axis < 2 ? ',' : '\0') || !std::isfinite(spacing[axis]) || spacing[axis] <= 0)
            throw Misuse{"--spacing " + text + ": must be X,Y,Z in mm, three numbers above 0"};
        cursor = end + 1;
    }
    return spacing;
}

Arguments Parse(const std::vector<std::string>& words) {
    Arguments arguments;
    std::vector<std::string> paths;
    const std::map<std::string, std::function<void(const std::string&)>> options = {
        {"--model", [&](const auto& value) { arguments.model = value; }},
        {"--series", [&](const auto& value) { arguments.scan.series = value; }},
        {"--spacing", [&](const auto& value) { arguments.scan.spacing = ParseSpacing(value); }},
        {"--axes", [&](const auto& value) { arguments.asFiled = ParseWord("--axes", value, {"LPS", "file"}) == 1; }},
        {"--mask", [&](const auto& value) { arguments.mask = value; }},
        {"--stride", [&](const auto& value) { arguments.stride = ParseWhole("--stride", value); }},
        {"--fill", [&](const auto& value) { arguments.fill = ParseWord("--fill", value, {"nearest", "linear"}); }},
        {"--device",
         [&](const auto& value) { arguments.device = ParseWord("--device", value, {"auto", "cpu", "cuda"}); }},
        {"--smooth", [&](const auto& value) { arguments.smooth = ParseNumber("--smooth", value, 0, 1e3); }},
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
    arguments.scan.path = paths[0];
    if (!arguments.scan.series.empty() && !std::filesystem::is_directory(paths[0]))
        throw Misuse{"--series: " + paths[0] + " is no DICOM folder"};
    arguments.labels = paths[1];
    arguments.table = paths[2];
    return arguments;
}

/** Which axes of an image run to the patient's left, back and head, and which of them run the other way. */
struct Turning {
    explicit Turning(const ImageType::DirectionType& direction) {
        bool taken[3] = {}, placed[3] = {};
        for (int round = 0; round < 3; ++round) {  // the axis that is nearest to one of the patient's, then the next
            unsigned patient = 0, axis = 0;
            double largest = -1;
            for (unsigned p = 0; p < 3; ++p)
                for (unsigned a = 0; a < 3; ++a)
                    if (!placed[p] && !taken[a] && std::abs(direction(p, a)) > largest)
                        largest = std::abs(direction(patient = p, axis = a));
            placed[patient] = taken[axis] = true;
            order[patient] = axis;
            back[axis] = patient;
            flip[patient] = direction(patient, axis) < 0;
        }
    }

    itk::FixedArray<unsigned int, 3> order, back;
    itk::FixedArray<bool, 3> flip;
};

template <typename TImage>
typename TImage::Pointer Permute(TImage* image, const itk::FixedArray<unsigned int, 3>& order) {
    if (order[0] == 0 && order[1] == 1) return image;
    auto permute = itk::PermuteAxesImageFilter<TImage>::New();
    permute->SetInput(image);
    permute->SetOrder(order);
    permute->Update();
    return permute->GetOutput();
}

template <typename TImage> typename TImage::Pointer Flip(TImage* image, const itk::FixedArray<bool, 3>& axes) {
    if (!axes[0] && !axes[1] && !axes[2]) return image;
    auto flip = itk::FlipImageFilter<TImage>::New();
    flip->SetInput(image);
    flip->SetFlipAxes(axes);
    flip->FlipAboutOriginOff();
    flip->Update();
    return flip->GetOutput();
}

/** A file that takes its name when it is complete; until then `.NAME.part`, which goes with the object. */
class Output {
public:
    explicit Output(const std::string& path)
        : m_Path(path),
          m_Part(m_Path.parent_path() / ("." + m_Path.stem().string() + ".part" + m_Path.extension().string())) {
        if (!std::ofstream(m_Part))
            throw std::runtime_error(GetPart() + ": cannot be written: " + std::strerror(errno));
    }
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

/** 1 from one value to another, 0 elsewhere. */
template <typename TImage> MaskType::Pointer Between(const TImage* image, double lowest, double highest) {
    auto between = itk::BinaryThresholdImageFilter<TImage, MaskType>::New();
    between->SetInput(image);
    between->SetLowerThreshold(static_cast<typename TImage::PixelType>(lowest));
    between->SetUpperThreshold(static_cast<typename TImage::PixelType>(highest));
    between->SetInsideValue(1);
    between->SetOutsideValue(0);
    between->Update();
    return between->GetOutput();
}

/** The image smoothed by a Gaussian of this standard deviation, except along an axis of one voxel. */
template <typename TImage> typename TImage::Pointer Smooth(const TImage* image, double mm) {
    auto gauss = itk::DiscreteGaussianImageFilter<TImage, TImage>::New();
    typename itk::DiscreteGaussianImageFilter<TImage, TImage>::ArrayType variance;
    for (unsigned axis = 0; axis < 3; ++axis)
        variance[axis] = image->GetLargestPossibleRegion().GetSize(axis) > 1 ? mm * mm : 0;
    gauss->SetInput(image);
    gauss->SetVariance(variance);
    gauss->SetMaximumError(1e-3);
    gauss->SetMaximumKernelWidth(400);
    gauss->Update();
    return gauss->GetOutput();
}

void Run(const Arguments& arguments) {
    using ProbabilityType = itk::Image<float, 3>;
    using LabelType = itk::Image<uint32_t, 3>;
    using LesionsType = itk::LabelMap<itk::ShapeLabelObject<uint32_t, 3>>;

    for (const auto& path : {arguments.labels, arguments.mask})
        if (!path.empty() && itk::ImageIOFactory::CreateImageIO(path.c_str(), itk::IOFileModeEnum::WriteMode).IsNull())
            throw std::runtime_error(path + ": unknown format: end the name in .nrrd");
    const Scan scan = ReadScan(arguments.scan);
    if (!scan.note.empty()) std::cout << scan.note << std::endl;
    const Output labels(arguments.labels), table(arguments.table);
    const auto mask = arguments.mask.empty() ? nullptr : std::make_unique<Output>(arguments.mask);

    auto classify = itk::PatchMaskImageFilter<ImageType>::New();
    classify->LoadModel(arguments.model);
    patchmask_options options = classify->GetOptions();
    options.stride = arguments.stride != 0 ? arguments.stride : options.stride;
    options.interpolation = arguments.fill;
    options.device = arguments.device;
    classify->SetOptions(options);
    classify->SetComputeProbability(arguments.smooth > 0);
    const Turning turning(scan.image->GetDirection());
    classify->SetInput(arguments.asFiled
                           ? scan.image
                           : Flip(Permute(scan.image.GetPointer(), turning.order).GetPointer(), turning.flip));
    if (arguments.progress) {
        auto show = itk::CStyleCommand::New();
        show->SetCallback([](itk::Object* caller, const itk::EventObject&, void*) {
            std::cout << static_cast<int>(100 * static_cast<itk::ProcessObject*>(caller)->GetProgress()) << " %"
                      << std::endl;
        });
        classify->AddObserver(itk::ProgressEvent(), show);
    }
    classify->Update();
    const auto onFilesGrid = [&](auto image) {
        if (!arguments.asFiled) image = Permute(Flip(image.GetPointer(), turning.flip).GetPointer(), turning.back);
        image->DisconnectPipeline();
        image->CopyInformation(scan.image);  // rid of rounding
        return image;
    };
    const MaskType::Pointer classes = onFilesGrid(MaskType::Pointer(classify->GetOutput()));
    if (const auto odd = classify->GetResult().nonfinite_voxels)
        std::cout << arguments.scan.path << ": " << odd << " voxels were not finite and counted as black" << std::endl;

    MaskType::Pointer lesion;
    if (arguments.smooth > 0) {
        const auto probability = onFilesGrid(ProbabilityType::Pointer(classify->GetProbabilityOutput()));
        const double threshold = options.threshold > 0 ? options.threshold : 0.5;
        lesion = Between(Smooth(probability.GetPointer(), arguments.smooth).GetPointer(), threshold, 2);
    } else {
        lesion = Between(classes.GetPointer(), options.lesion_class, options.lesion_class);
    }

    auto connect = itk::ConnectedComponentImageFilter<MaskType, LabelType>::New();
    connect->SetInput(lesion);

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

    WriteImage(sort->GetOutput(), labels);
    WriteTable(measure->GetOutput(), table);
    if (mask) {
        WriteImage(classes.GetPointer(), *mask);
        mask->Commit();
    }
    labels.Commit();
    table.Commit();
    std::cout << arguments.labels << ": " << measure->GetOutput()->GetNumberOfLabelObjects() << " lesions" << std::endl;
}

/** ITK puts its class and an address before the text; one line is left for people. */
std::string OneLine(std::string text) {
    const std::string end = "): ";
    if (text.find("ITK ERROR: ") != std::string::npos && text.find(end) != std::string::npos)
        text.erase(0, text.find(end) + end.size());
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return c < ' '; }, ' ');
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
        Run(arguments);
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
