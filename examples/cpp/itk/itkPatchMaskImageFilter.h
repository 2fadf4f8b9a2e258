/* itk::PatchMaskImageFilter: libpatchmask as a filter of an ITK pipeline. Header-only, on patchmask.hpp.
 *
 *   auto filter = itk::PatchMaskImageFilter<itk::Image<short, 3>>::New();
 *   filter->LoadModel("liver.safetensors");        // options start from the model's metadata
 *   filter->SetInput(ct);                          // HU
 *   filter->Update();                              // itk::ExceptionObject, itk::ProcessAborted
 *   filter->GetOutput();                           // class of each voxel, on the grid of the input
 *
 * Conventions of ITK that matter here:
 *   voxels      read and written where ITK keeps them: no copy. The type of the input is one of the C interface's.
 *   regions     a patch needs its surroundings and a slice its histogram: always the largest possible region.
 *   grid        origin, spacing and direction of the input are those of the outputs. A slice is one index of the
 *               last axis, whatever its direction in the patient.
 *   progress    the library's callback becomes itk::ProgressEvent, on the thread that called Update().
 *   abort       AbortGenerateDataOn(), from an observer or another thread, cancels the library within 100 ms on the
 *               CPU, and Update() throws itk::ProcessAborted. An exception of an observer also cancels, and passes on.
 *   errors      itk::ExceptionObject with the library's text. */
#ifndef itkPatchMaskImageFilter_h
#define itkPatchMaskImageFilter_h

#include <string>
#include <type_traits>

#include "itkImage.h"
#include "itkImageToImageFilter.h"
#include "patchmask.hpp"

namespace itk {

/** \class PatchMaskImageFilter
 * Lesion mask of a CT image (2-D, or 3-D slice by slice) by a VGG16 on every overlapping patch. */
template <typename TInputImage>
class ITK_TEMPLATE_EXPORT PatchMaskImageFilter
    : public ImageToImageFilter<TInputImage, Image<unsigned char, TInputImage::ImageDimension>> {
public:
    ITK_DISALLOW_COPY_AND_MOVE(PatchMaskImageFilter);

    static constexpr unsigned int ImageDimension = TInputImage::ImageDimension;

    using InputImageType = TInputImage;
    using MaskImageType = Image<unsigned char, ImageDimension>;
    using ProbabilityImageType = Image<float, ImageDimension>;

    using Self = PatchMaskImageFilter;
    using Superclass = ImageToImageFilter<InputImageType, MaskImageType>;
    using Pointer = SmartPointer<Self>;
    using ConstPointer = SmartPointer<const Self>;
    using DataObjectPointer = typename Superclass::DataObjectPointer;
    using DataObjectIdentifierType = typename Superclass::DataObjectIdentifierType;

    static_assert(ImageDimension == 2 || ImageDimension == 3, "images have two or three dimensions");

    itkNewMacro(Self);
    itkTypeMacro(PatchMaskImageFilter, ImageToImageFilter);

    /** Loads weights (.safetensors) and sets the options to what the model's metadata says. */
    void LoadModel(const std::string& fileName) {
        this->Try([&] {
            m_Model = patchmask::model::load(fileName);
            m_Options = m_Model.options();
        });
        this->Modified();
    }

    /** How to segment; patchmask.h explains every field. To change some: take GetOptions(), change, SetOptions(). Its
   * progress callback is not used: observe itk::ProgressEvent. Without a log callback the library's warnings become
   * ITK's and the rest ITK's debug text. */
    const patchmask_options& GetOptions() const { return m_Options; }
    void SetOptions(const patchmask_options& options) {
        m_Options = options;
        this->Modified();
    }

    /** Evaluates only where this image, which lies on the grid of the input, is not zero. Optional. */
    itkSetInputMacro(ROI, MaskImageType);
    itkGetInputMacro(ROI, MaskImageType);

    /** Whether there is also an output with the probability of the lesion class. Off by default. */
    void SetComputeProbability(bool wanted) {
        if (wanted != this->GetComputeProbability()) {
            if (wanted) this->ProcessObject::SetOutput(ProbabilityName(), this->MakeOutput(ProbabilityName()));
            else this->RemoveOutput(ProbabilityName());
            this->Modified();
        }
    }
    bool GetComputeProbability() const { return this->HasOutput(ProbabilityName()); }
    itkBooleanMacro(ComputeProbability);

    /** Probability of the lesion class; null while ComputeProbability is off. */
    ProbabilityImageType* GetProbabilityOutput() {
        return dynamic_cast<ProbabilityImageType*>(this->ProcessObject::GetOutput(ProbabilityName()));
    }

    /** What the last complete update did: patches, seconds, bytes. */
    const patchmask_result& GetResult() const { return m_Result; }

    using Superclass::MakeOutput;
    DataObjectPointer MakeOutput(const DataObjectIdentifierType& name) override {
        if (name == ProbabilityName()) return ProbabilityImageType::New().GetPointer();
        return Superclass::MakeOutput(name);
    }

protected:
    PatchMaskImageFilter() {
        this->AddOptionalInputName("ROI");
        patchmask_options_init(&m_Options, sizeof m_Options, nullptr);
        patchmask_result_init(&m_Result, sizeof m_Result);
    }
    ~PatchMaskImageFilter() override = default;

    void GenerateInputRequestedRegion() override {
        Superclass::GenerateInputRequestedRegion();
        for (const auto& name : this->GetInputNames())
            if (DataObject* input = this->ProcessObject::GetInput(name))
                input->SetRequestedRegionToLargestPossibleRegion();
    }

    void EnlargeOutputRequestedRegion(DataObject* output) override {
        output->SetRequestedRegionToLargestPossibleRegion();
    }

    void GenerateData() override {
        if (!m_Model) itkExceptionMacro(<< "no model: call LoadModel() before Update()");
        this->AllocateOutputs();

        patchmask_outputs outputs{};
        outputs.struct_size = sizeof outputs;
        outputs.mask = this->GetOutput()->GetBufferPointer();
        SetStrides(this->GetOutput(), outputs.mask_stride_x, outputs.mask_stride_y, outputs.mask_stride_z);
        if (ProbabilityImageType* probability = this->GetProbabilityOutput()) {
            outputs.probability = probability->GetBufferPointer();
            SetStrides(probability, outputs.probability_stride_x, outputs.probability_stride_y,
                       outputs.probability_stride_z);
        }
        const auto progress = [this](double fraction, patchmask::stage) {
            this->UpdateProgress(static_cast<float>(fraction));
            return !this->GetAbortGenerateData();
        };
        patchmask::log_function log;
        if (m_Options.log == nullptr)
            log = [this](patchmask::log_level level, std::string_view message) { this->Log(level, message); };
        this->Try([&] {
            // One session for one update: between updates the filter holds the model alone.
            patchmask::session session(m_Model, m_Options, progress, log);
            const patchmask_volume roi = this->GetROI() != nullptr ? Describe(this->GetROI()) : patchmask_volume{};
            m_Result = session.segment(Describe(this->GetInput()), outputs, this->GetROI() != nullptr ? &roi : nullptr);
        });
    }

    void PrintSelf(std::ostream& os, Indent indent) const override {
        Superclass::PrintSelf(os, indent);
        os << indent << "Library: " << patchmask_version() << std::endl;
        os << indent << "Model: " << (m_Model ? "loaded" : "none") << std::endl;
        os << indent << "PatchSize: " << m_Options.patch_size << std::endl;
        os << indent << "Stride: " << m_Options.stride << std::endl;
        os << indent << "Window (HU): " << m_Options.window_low << " to " << m_Options.window_high << std::endl;
        os << indent << "ComputeProbability: " << this->GetComputeProbability() << std::endl;
    }

private:
    static const char* ProbabilityName() { return "Probability"; }

    /** Bytes from a voxel to its neighbours along x, y and z; along a z that the image lacks: its whole size. */
    template <typename TImage> static void SetStrides(const TImage* image, uint64_t& x, uint64_t& y, uint64_t& z) {
        const auto* table = image->GetOffsetTable();
        const uint64_t bytes = sizeof(typename TImage::PixelType);
        x = static_cast<uint64_t>(table[0]) * bytes;
        y = static_cast<uint64_t>(table[1]) * bytes;
        z = static_cast<uint64_t>(table[2]) * bytes;
    }

    template <typename TImage> static patchmask_volume Describe(const TImage* image) {
        using Pixel = typename TImage::PixelType;
        using Char = std::conditional_t<std::is_signed<char>::value, signed char, unsigned char>;
        using Voxel = std::conditional_t<std::is_same<Pixel, char>::value, Char, Pixel>;
        const auto region = image->GetBufferedRegion();
        const auto size = region.GetSize();
        const auto* first = reinterpret_cast<const Voxel*>(image->GetBufferPointer());
        patchmask_volume volume =
            patchmask::volume(patchmask::span<const Voxel>(first, region.GetNumberOfPixels()),
                              patchmask::extents{size[0], size[1], ImageDimension > 2 ? size[ImageDimension - 1] : 1});
        SetStrides(image, volume.stride_x, volume.stride_y, volume.stride_z);
        volume.spacing_x = image->GetSpacing()[0];
        volume.spacing_y = image->GetSpacing()[1];
        return volume;
    }

    /** Runs calls of the library, with its errors as ITK's. */
    template <typename TCalls> void Try(const TCalls& calls) const {
        try {
            calls();
        } catch (const patchmask::cancelled& stopped) {
            ProcessAborted aborted(__FILE__, __LINE__);
            aborted.SetDescription(stopped.what());
            aborted.SetLocation(ITK_LOCATION);
            throw aborted;
        } catch (const patchmask::error& failed) {
            itkExceptionMacro(<< failed.what());
        }
    }

    void Log(patchmask::log_level level, std::string_view message) const {
        if (level == patchmask::log_level::warning) itkWarningMacro(<< message);
        else itkDebugMacro(<< message);
    }

    patchmask::model m_Model{nullptr};
    patchmask_options m_Options;
    patchmask_result m_Result;
};

}  // namespace itk

#endif
