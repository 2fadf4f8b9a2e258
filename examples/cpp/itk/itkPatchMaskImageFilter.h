/* itk::PatchMaskImageFilter: libpatchmask as a filter of an ITK pipeline. Header-only, on the C interface.
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

#include <array>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <type_traits>

#include "itkImage.h"
#include "itkImageToImageFilter.h"
#include "patchmask.h"

namespace itk
{

/** The voxel type of the C interface (PATCHMASK_VOXEL_*) for a type of C++; 0 where there is none. */
template <typename TPixel>
constexpr int32_t
PatchMaskVoxelType()
{
  if (std::is_same<TPixel, float>::value)
  {
    return PATCHMASK_VOXEL_F32;
  }
  if (std::is_same<TPixel, double>::value)
  {
    return PATCHMASK_VOXEL_F64;
  }
  if (!std::is_integral<TPixel>::value || std::is_same<TPixel, bool>::value)
  {
    return 0;
  }
  switch (sizeof(TPixel))
  {
    case 1:
      return std::is_signed<TPixel>::value ? PATCHMASK_VOXEL_I8 : PATCHMASK_VOXEL_U8;
    case 2:
      return std::is_signed<TPixel>::value ? PATCHMASK_VOXEL_I16 : PATCHMASK_VOXEL_U16;
    case 4:
      return std::is_signed<TPixel>::value ? PATCHMASK_VOXEL_I32 : 0;
    default:
      return 0;
  }
}

/** \class PatchMaskImageFilter
 * Lesion mask of a CT image (2-D, or 3-D slice by slice) by a VGG16 on every overlapping patch. */
template <typename TInputImage>
class ITK_TEMPLATE_EXPORT PatchMaskImageFilter
  : public ImageToImageFilter<TInputImage, Image<unsigned char, TInputImage::ImageDimension>>
{
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
  static_assert(PatchMaskVoxelType<typename InputImageType::PixelType>() != 0,
                "voxels are (unsigned) char or short, int, float or double: put an itk::CastImageFilter before");

  itkNewMacro(Self);
  itkTypeMacro(PatchMaskImageFilter, ImageToImageFilter);

  /** Loads weights (.safetensors) and sets the options to what the model's metadata says. */
  void
  LoadModel(const std::string & fileName)
  {
    if (patchmask_abi_version() != PATCHMASK_ABI_VERSION)
    {
      itkExceptionMacro(<< "libpatchmask " << patchmask_version()
                        << " has another ABI than this program: install the same version of both");
    }
    patchmask_model * loaded = nullptr;
    this->Check(patchmask_model_load(fileName.c_str(), &loaded));
    std::shared_ptr<patchmask_model> model(loaded, patchmask_model_free);
    patchmask_options options;
    this->Check(patchmask_options_init(&options, sizeof options, loaded));
    m_Model = std::move(model);
    m_Options = options;
    this->Modified();
  }

  /** How to segment; patchmask.h explains every field. To change some: take GetOptions(), change, SetOptions(). Its
   * progress callback is not used: observe itk::ProgressEvent. Without a log callback the library's warnings become
   * ITK's and the rest ITK's debug text. */
  const patchmask_options &
  GetOptions() const
  {
    return m_Options;
  }
  void
  SetOptions(const patchmask_options & options)
  {
    m_Options = options;
    this->Modified();
  }

  /** Evaluates only where this image, which lies on the grid of the input, is not zero. Optional. */
  itkSetInputMacro(ROI, MaskImageType);
  itkGetInputMacro(ROI, MaskImageType);

  /** Whether there is also an output with the probability of the lesion class. Off by default. */
  void
  SetComputeProbability(bool wanted)
  {
    if (wanted != this->GetComputeProbability())
    {
      if (wanted)
      {
        this->ProcessObject::SetOutput(ProbabilityName(), this->MakeOutput(ProbabilityName()));
      }
      else
      {
        this->RemoveOutput(ProbabilityName());
      }
      this->Modified();
    }
  }
  bool
  GetComputeProbability() const
  {
    return this->HasOutput(ProbabilityName());
  }
  itkBooleanMacro(ComputeProbability);

  /** Probability of the lesion class; null while ComputeProbability is off. */
  ProbabilityImageType *
  GetProbabilityOutput()
  {
    return dynamic_cast<ProbabilityImageType *>(this->ProcessObject::GetOutput(ProbabilityName()));
  }

  /** What the last complete update did: patches, seconds, bytes. */
  const patchmask_result &
  GetResult() const
  {
    return m_Result;
  }

  using Superclass::MakeOutput;
  DataObjectPointer
  MakeOutput(const DataObjectIdentifierType & name) override
  {
    if (name == ProbabilityName())
    {
      return ProbabilityImageType::New().GetPointer();
    }
    return Superclass::MakeOutput(name);
  }

protected:
  PatchMaskImageFilter()
  {
    this->AddOptionalInputName("ROI");
    patchmask_options_init(&m_Options, sizeof m_Options, nullptr);
    patchmask_result_init(&m_Result, sizeof m_Result);
  }
  ~PatchMaskImageFilter() override = default;

  void
  GenerateInputRequestedRegion() override
  {
    Superclass::GenerateInputRequestedRegion();
    for (const auto & name : this->GetInputNames())
    {
      if (DataObject * input = this->ProcessObject::GetInput(name))
      {
        input->SetRequestedRegionToLargestPossibleRegion();
      }
    }
  }

  void
  EnlargeOutputRequestedRegion(DataObject * output) override
  {
    output->SetRequestedRegionToLargestPossibleRegion();
  }

  void
  GenerateData() override
  {
    if (m_Model == nullptr)
    {
      itkExceptionMacro(<< "no model: call LoadModel() before Update()");
    }
    this->AllocateOutputs();

    const patchmask_volume volume = this->Describe(this->GetInput());
    patchmask_volume       roi{};
    if (this->GetROI() != nullptr)
    {
      roi = this->Describe(this->GetROI());
    }
    patchmask_outputs outputs;
    this->Check(patchmask_outputs_init(&outputs, sizeof outputs));
    const auto stride = Strides(this->GetOutput());
    outputs.mask = this->GetOutput()->GetBufferPointer();
    outputs.mask_stride_x = stride[0];
    outputs.mask_stride_y = stride[1];
    outputs.mask_stride_z = stride[2];
    if (ProbabilityImageType * probability = this->GetProbabilityOutput())
    {
      const auto probabilityStride = Strides(probability);
      outputs.probability = probability->GetBufferPointer();
      outputs.probability_stride_x = probabilityStride[0];
      outputs.probability_stride_y = probabilityStride[1];
      outputs.probability_stride_z = probabilityStride[2];
    }

    // One session for one update: between updates the filter holds the model alone.
    Run               run{ this, nullptr };
    patchmask_options options = m_Options;
    options.progress = &Self::OnProgress;
    options.progress_user_data = &run;
    if (options.log == nullptr)
    {
      options.log = &Self::OnLog;
      options.log_user_data = &run;
    }
    patchmask_session * made = nullptr;
    this->CheckRun(patchmask_session_new(m_Model.get(), &options, &made), run);
    const std::unique_ptr<patchmask_session, void (*)(patchmask_session *)> session(made, patchmask_session_free);

    patchmask_result result;
    this->Check(patchmask_result_init(&result, sizeof result));
    this->CheckRun(patchmask_session_segment(
                     session.get(), &volume, this->GetROI() != nullptr ? &roi : nullptr, &outputs, &result),
                   run);
    m_Result = result;
  }

  void
  PrintSelf(std::ostream & os, Indent indent) const override
  {
    Superclass::PrintSelf(os, indent);
    os << indent << "Library: " << patchmask_version() << std::endl;
    os << indent << "Model: " << (m_Model != nullptr ? "loaded" : "none") << std::endl;
    os << indent << "PatchSize: " << m_Options.patch_size << std::endl;
    os << indent << "Stride: " << m_Options.stride << std::endl;
    os << indent << "Window (HU): " << m_Options.window_low << " to " << m_Options.window_high << std::endl;
    os << indent << "ComputeProbability: " << this->GetComputeProbability() << std::endl;
  }

private:
  /** What the callbacks see. An exception must not pass through the library: it waits in `thrown`. */
  struct Run
  {
    Self *             filter;
    std::exception_ptr thrown;
  };

  static const char *
  ProbabilityName()
  {
    return "Probability";
  }

  /** Bytes from a voxel to its neighbours along x, y and z; along a z that the image lacks: its whole size. */
  template <typename TImage>
  static std::array<uint64_t, 3>
  Strides(const TImage * image)
  {
    const auto *            table = image->GetOffsetTable();
    const uint64_t          bytes = sizeof(typename TImage::PixelType);
    std::array<uint64_t, 3> stride{};
    for (unsigned int axis = 0; axis < 3; ++axis)
    {
      stride[axis] = static_cast<uint64_t>(table[axis]) * bytes;
    }
    return stride;
  }

  template <typename TImage>
  patchmask_volume
  Describe(const TImage * image) const
  {
    const auto       size = image->GetBufferedRegion().GetSize();
    const auto       stride = Strides(image);
    patchmask_volume volume;
    this->Check(patchmask_volume_init(&volume,
                                      sizeof volume,
                                      image->GetBufferPointer(),
                                      PatchMaskVoxelType<typename TImage::PixelType>(),
                                      size[0],
                                      size[1],
                                      ImageDimension > 2 ? size[ImageDimension - 1] : 1));
    volume.stride_x = stride[0];
    volume.stride_y = stride[1];
    volume.stride_z = stride[2];
    return volume;
  }

  void
  Check(patchmask_status status) const
  {
    if (status != PATCHMASK_OK)
    {
      itkExceptionMacro(<< patchmask_last_error());
    }
  }

  void
  CheckRun(patchmask_status status, const Run & run) const
  {
    if (run.thrown != nullptr)
    {
      std::rethrow_exception(run.thrown);
    }
    if (status == PATCHMASK_CANCELLED)
    {
      ProcessAborted aborted(__FILE__, __LINE__);
      aborted.SetDescription(patchmask_last_error());
      aborted.SetLocation(ITK_LOCATION);
      throw aborted;
    }
    this->Check(status);
  }

  static int32_t
  OnProgress(double fraction, int32_t, void * userData)
  {
    Run * run = static_cast<Run *>(userData);
    try
    {
      run->filter->UpdateProgress(static_cast<float>(fraction));
      return run->filter->GetAbortGenerateData() ? 1 : 0;
    }
    catch (...)
    {
      run->thrown = std::current_exception();
      return 1;
    }
  }

  static void
  OnLog(int32_t level, const char * message, void * userData)
  {
    Run * run = static_cast<Run *>(userData);
    try
    {
      run->filter->Log(level, message);
    }
    catch (...)
    {
      run->thrown = std::current_exception();
    }
  }

  void
  Log(int32_t level, const char * message) const
  {
    if (level == PATCHMASK_LOG_WARNING)
    {
      itkWarningMacro(<< message);
    }
    else
    {
      itkDebugMacro(<< message);
    }
  }

  std::shared_ptr<patchmask_model> m_Model;
  patchmask_options                m_Options;
  patchmask_result                 m_Result;
};

} // namespace itk

#endif
