/* The promises of itk::PatchMaskImageFilter, in a program: filter_test MODEL.safetensors
 *
 * The model is the one of tests/cli/maximum_model.py: patches of 32 pixels every 8, of the lesion class where any of
 * their pixels is above 40 HU. */
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include "itkCastImageFilter.h"
#include "itkCommand.h"
#include "itkImageRegionIteratorWithIndex.h"
#include "itkPatchMaskImageFilter.h"

namespace {

using Scan = itk::Image<short, 3>;
using Filter = itk::PatchMaskImageFilter<Scan>;

std::string model;

#define EXPECT(condition) \
    do { \
        if (!(condition)) { \
            std::cerr << __FILE__ << ":" << __LINE__ << ": not so: " << #condition << std::endl; \
            std::exit(1); \
        } \
    } while (false)

/** Turned by 30 degrees about z, then slices run towards the feet: a direction of determinant -1. */
template <typename TImage> void Place(TImage* image) {
    const double c = std::cos(0.5235987755982988), s = std::sin(0.5235987755982988);
    const double matrix[3][3] = {{c, -s, 0}, {s, c, 0}, {0, 0, -1}};
    typename TImage::DirectionType direction;
    for (int row = 0; row < 3; ++row)
        for (int column = 0; column < 3; ++column) direction(row, column) = matrix[row][column];
    image->SetDirection(direction);
    const double spacing[3] = {0.75, 0.8, 2.5}, origin[3] = {-120.5, 33.25, 810};
    image->SetSpacing(spacing);
    image->SetOrigin(origin);
}

/** 0 HU, and 120 HU in one voxel. Regions of ITK may start anywhere. */
template <typename TImage>
typename TImage::Pointer MakeScan(itk::SizeValueType width = 72, itk::SizeValueType height = 56,
                                  itk::SizeValueType depth = 3) {
    auto scan = TImage::New();
    typename TImage::RegionType region;
    region.SetIndex({{5, -2, 1}});
    region.SetSize({{width, height, depth}});
    scan->SetRegions(region);
    scan->Allocate(true);
    scan->SetPixel({{5 + 24, -2 + 16, 1 + 1}}, 120);
    Place(scan.GetPointer());
    return scan;
}

/** The centres 16 to 40 along x and 8 to 32 along y have that voxel in their patch, which is centre - 16 to
 * centre + 15; each speaks for the 8 voxels nearest to it. */
bool IsLesion(itk::IndexValueType x, itk::IndexValueType y, itk::IndexValueType z) {
    const auto centre = [](itk::IndexValueType position, itk::IndexValueType last) {
        return std::min((position + 3) / 8 * 8, last);  // ties go to the lower index
    };
    const auto a = centre(x, 64), b = centre(y, 48);
    return z == 1 && a > 24 - 16 && a <= 24 + 16 && b > 16 - 16 && b <= 16 + 16;
}

Filter::Pointer MakeFilter(const Scan* scan) {
    auto filter = Filter::New();
    filter->LoadModel(model);
    auto options = filter->GetOptions();
    options.device = PATCHMASK_DEVICE_CPU;
    filter->SetOptions(options);
    filter->SetInput(scan);
    return filter;
}

template <typename TMask> void ExpectLesion(const TMask* mask) {
    const auto start = mask->GetLargestPossibleRegion().GetIndex();
    itk::ImageRegionConstIteratorWithIndex<TMask> at(mask, mask->GetLargestPossibleRegion());
    int lesions = 0;
    for (; !at.IsAtEnd(); ++at) {
        const auto index = at.GetIndex();
        const bool expected = IsLesion(index[0] - start[0], index[1] - start[1], index[2] - start[2]);
        if ((at.Get() == 1) != expected) {
            std::cerr << index << " is " << int(at.Get()) << ", must be " << expected << std::endl;
            std::exit(1);
        }
        lesions += expected;
    }
    EXPECT(lesions == 32 * 32);
}

void TestMaskAndGrid() {
    auto scan = MakeScan<Scan>();
    auto filter = MakeFilter(scan);
    const short* before = scan->GetBufferPointer();
    filter->Update();
    const auto* mask = filter->GetOutput();
    EXPECT(mask->GetLargestPossibleRegion() == scan->GetLargestPossibleRegion());
    EXPECT(mask->GetOrigin() == scan->GetOrigin());
    EXPECT(mask->GetSpacing() == scan->GetSpacing());
    EXPECT(mask->GetDirection() == scan->GetDirection());
    EXPECT(scan->GetBufferPointer() == before);
    EXPECT(filter->GetResult().patches == 9 * 7 * 3);
    EXPECT(filter->GetProbabilityOutput() == nullptr);
    ExpectLesion(mask);
}

void TestEveryVoxelType() {
    const auto run = [](auto pixel) {
        using Typed = itk::Image<decltype(pixel), 3>;
        auto filter = itk::PatchMaskImageFilter<Typed>::New();
        filter->LoadModel(model);
        filter->SetInput(MakeScan<Typed>());
        filter->Update();
        ExpectLesion(filter->GetOutput());
    };
    run(static_cast<signed char>(0));
    run(static_cast<char>(0));
    run(static_cast<unsigned char>(0));
    run(static_cast<unsigned short>(0));
    run(0);
    run(0.0F);
    run(0.0);
}

void TestSlice() {
    using Slice = itk::Image<float, 2>;
    auto slice = Slice::New();
    slice->SetRegions(Slice::SizeType{{72, 56}});
    slice->Allocate(true);
    slice->SetPixel({{24, 16}}, 120);
    auto filter = itk::PatchMaskImageFilter<Slice>::New();
    filter->LoadModel(model);
    filter->SetInput(slice);
    filter->Update();
    for (int y = 0; y < 56; ++y)
        for (int x = 0; x < 72; ++x) EXPECT(filter->GetOutput()->GetPixel({{x, y}}) == IsLesion(x, y, 1));
}

/** Asking for a part of the output gives all of it: the slice decides. */
void TestRequestedRegion() {
    auto scan = MakeScan<Scan>();
    auto filter = MakeFilter(scan);
    auto part = scan->GetLargestPossibleRegion();
    part.SetSize({{2, 2, 1}});
    filter->UpdateOutputInformation();
    filter->GetOutput()->SetRequestedRegion(part);
    filter->Update();
    EXPECT(filter->GetOutput()->GetBufferedRegion() == scan->GetLargestPossibleRegion());
    ExpectLesion(filter->GetOutput());
}

void TestProbabilityAndRoi() {
    auto scan = MakeScan<Scan>();
    auto roi = Filter::MaskImageType::New();
    roi->SetRegions(scan->GetLargestPossibleRegion());
    roi->CopyInformation(scan);
    roi->Allocate(true);
    roi->SetPixel({{5 + 24, -2 + 16, 1 + 1}}, 1);
    auto filter = MakeFilter(scan);
    filter->SetROI(roi);
    filter->ComputeProbabilityOn();
    filter->Update();
    EXPECT(filter->GetResult().patches == 1);
    const auto* probability = filter->GetProbabilityOutput();
    EXPECT(probability->GetOrigin() == scan->GetOrigin() && probability->GetDirection() == scan->GetDirection());
    const double expected = 1 / (1 + std::exp(-(280.0 / 400 - 0.5)));
    EXPECT(std::abs(probability->GetPixel({{5 + 24, -2 + 16, 1 + 1}}) - expected) < 1e-4);
    EXPECT(probability->GetPixel({{5, -2, 1}}) == 0);

    filter->SetROI(nullptr);
    filter->ComputeProbabilityOff();
    filter->Update();
    EXPECT(filter->GetProbabilityOutput() == nullptr);
    ExpectLesion(filter->GetOutput());
}

/** Options count from the next update on, and an update without a change does nothing. */
void TestPipeline() {
    auto filter = MakeFilter(MakeScan<Scan>());
    filter->Update();
    const auto first = filter->GetOutput()->GetUpdateMTime();
    filter->Update();
    EXPECT(filter->GetOutput()->GetUpdateMTime() == first);
    auto options = filter->GetOptions();
    options.stride = 16;
    filter->SetOptions(options);
    filter->Update();
    EXPECT(filter->GetResult().patches == 5 * 4 * 3);
    std::ostringstream text;
    filter->Print(text);
    EXPECT(text.str().find("Stride: 16") != std::string::npos);
}

template <typename TAction> void Observe(itk::Object* object, const itk::EventObject& event, TAction& action) {
    auto command = itk::CStyleCommand::New();
    command->SetClientData(&action);
    command->SetCallback([](itk::Object*, const itk::EventObject&, void* data) { (*static_cast<TAction*>(data))(); });
    object->AddObserver(event, command);
}

/** Work of some seconds, so that there is something to follow and to stop. */
Filter::Pointer MakeLongFilter() {
    auto filter = MakeFilter(MakeScan<Scan>(512, 512, 200));
    auto options = filter->GetOptions();
    options.stride = 1;
    filter->SetOptions(options);
    return filter;
}

void TestProgress() {
    auto filter = MakeFilter(MakeScan<Scan>(256, 256, 40));
    int events = 0;
    float last = 0;
    auto action = [&] {
        EXPECT(filter->GetProgress() >= last && filter->GetProgress() <= 1);
        last = filter->GetProgress();
        ++events;
    };
    Observe(filter, itk::ProgressEvent(), action);
    filter->Update();
    EXPECT(events >= 2);
    EXPECT(last == 1);
}

void ExpectAborted(Filter* filter) {
    bool aborted = false, told = false;
    auto action = [&] { told = true; };
    Observe(filter, itk::AbortEvent(), action);
    try {
        filter->Update();
    } catch (const itk::ProcessAborted& problem) {
        aborted = true;
        EXPECT(std::string(problem.GetDescription()).find("cancel") != std::string::npos);
    }
    EXPECT(aborted && told);
}

void TestAbortByObserver() {
    auto filter = MakeLongFilter();
    auto action = [&] { filter->AbortGenerateDataOn(); };
    Observe(filter, itk::ProgressEvent(), action);
    ExpectAborted(filter);
    filter->RemoveAllObservers();  // and the filter is of use afterwards
    filter->SetInput(MakeScan<Scan>());
    auto options = filter->GetOptions();
    options.stride = 8;
    filter->SetOptions(options);
    filter->Update();
    ExpectLesion(filter->GetOutput());
}

void TestAbortByThread() {
    auto filter = MakeLongFilter();
    std::atomic<bool> running{false};
    auto action = [&] { running = true; };
    Observe(filter, itk::ProgressEvent(), action);
    std::thread other([&] {
        while (!running) std::this_thread::yield();
        filter->AbortGenerateDataOn();
    });
    ExpectAborted(filter);
    other.join();
}

void TestExceptionOfAnObserver() {
    auto filter = MakeLongFilter();
    auto action = [] { throw std::runtime_error("from the observer"); };
    Observe(filter, itk::ProgressEvent(), action);
    bool passed = false;
    try {
        filter->Update();
    } catch (const std::runtime_error& problem) {
        passed = std::string(problem.what()) == "from the observer";
    }
    EXPECT(passed);
}

template <typename TAction> void ExpectError(TAction action, const std::string& says) {
    try {
        action();
    } catch (const itk::ProcessAborted&) {
        EXPECT(!"aborted");
    } catch (const itk::ExceptionObject& problem) {
        const std::string text = problem.GetDescription();
        if (text.find(says) == std::string::npos) {
            std::cerr << "\"" << text << "\" does not say \"" << says << "\"" << std::endl;
            std::exit(1);
        }
        return;
    }
    EXPECT(!"no exception");
}

void TestErrors() {
    auto scan = MakeScan<Scan>();
    ExpectError([] { Filter::New()->LoadModel("no-such-file.safetensors"); }, "no-such-file.safetensors");
    ExpectError(
        [&] {
            auto filter = Filter::New();
            filter->SetInput(scan);
            filter->Update();
        },
        "LoadModel");
    ExpectError(
        [] {
            auto filter = Filter::New();
            filter->LoadModel(model);
            filter->Update();
        },
        "Input");
    const auto update_with = [&](auto change) {
        auto filter = MakeFilter(scan);
        auto options = filter->GetOptions();
        change(options);
        filter->SetOptions(options);
        filter->Update();
    };
    ExpectError([&] { update_with([](auto& options) { options.stride = 0; }); }, "stride 0");
    ExpectError([&] { update_with([](auto& options) { options.crop_x1 = 1000, options.crop_y1 = 10; }); }, "1000");
    const auto update_within = [&](const itk::ImageRegion<3>& region, bool place) {
        auto roi = Filter::MaskImageType::New();
        roi->SetRegions(region);
        roi->Allocate(true);
        if (place) Place(roi.GetPointer());
        auto filter = MakeFilter(scan);
        filter->SetROI(roi);
        filter->Update();
    };
    // of another size, at the same place; elsewhere
    ExpectError([&] { update_within(itk::Size<3>{{8, 8, 3}}, true); }, "8");
    ExpectError([&] { update_within(scan->GetLargestPossibleRegion(), false); }, "same physical space");
}

}  // namespace

int main(int count, char** words) {
    if (count != 2) {
        std::cerr << "usage: filter_test MODEL.safetensors" << std::endl;
        return 2;
    }
    model = words[1];
    const struct {
        const char* name;
        void (*run)();
    } tests[] = {{"mask and grid", TestMaskAndGrid},
                 {"every voxel type", TestEveryVoxelType},
                 {"slice", TestSlice},
                 {"requested region", TestRequestedRegion},
                 {"probability and ROI", TestProbabilityAndRoi},
                 {"pipeline", TestPipeline},
                 {"progress", TestProgress},
                 {"abort by an observer", TestAbortByObserver},
                 {"abort by a thread", TestAbortByThread},
                 {"exception of an observer", TestExceptionOfAnObserver},
                 {"errors", TestErrors}};
    for (const auto& test : tests) {
        try {
            test.run();
        } catch (const std::exception& problem) {
            std::cerr << test.name << ": " << problem.what() << std::endl;
            return 1;
        }
        std::cout << "ok " << test.name << std::endl;
    }
    return 0;
}
