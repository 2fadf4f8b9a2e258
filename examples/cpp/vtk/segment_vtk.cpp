// A CT volume in, its mask and a picture of the lesions out, with VTK:
//     segment_vtk MODEL.safetensors CT.nrrd MASK.vti LESIONS.png [STRIDE]
#include <vtkActor.h>
#include <vtkCallbackCommand.h>
#include <vtkCamera.h>
#include <vtkDiscreteFlyingEdges3D.h>
#include <vtkImageData.h>
#include <vtkNew.h>
#include <vtkNrrdReader.h>
#include <vtkOutputWindow.h>
#include <vtkPNGWriter.h>
#include <vtkPolyDataMapper.h>
#include <vtkRenderWindow.h>
#include <vtkRenderer.h>
#include <vtkWindowToImageFilter.h>
#include <vtkXMLImageDataWriter.h>

#include <map>
#include <patchmask.hpp>

// Writes the class of each voxel of `ct` (HU) to `mask`, on the same grid. A slice is one index of the last axis.
static void segment(patchmask::session& session, vtkImageData* ct, vtkImageData* mask) {
    static const std::map<int, std::int32_t> types = {{VTK_SHORT, PATCHMASK_VOXEL_I16},
                                                      {VTK_UNSIGNED_SHORT, PATCHMASK_VOXEL_U16},
                                                      {VTK_INT, PATCHMASK_VOXEL_I32},
                                                      {VTK_FLOAT, PATCHMASK_VOXEL_F32},
                                                      {VTK_DOUBLE, PATCHMASK_VOXEL_F64}};
    const auto type = types.find(ct->GetScalarType());
    if (type == types.end() || ct->GetNumberOfScalarComponents() != 1)
        throw std::invalid_argument(std::to_string(ct->GetNumberOfScalarComponents()) + " x " +
                                    ct->GetScalarTypeAsString() +
                                    " a voxel: must be one short, unsigned short, int, float or double");
    const int* size = ct->GetDimensions();
    patchmask_volume volume;
    patchmask::check(patchmask_volume_init(&volume, sizeof volume, ct->GetScalarPointer(), type->second,
                                           std::uint64_t(size[0]), std::uint64_t(size[1]), std::uint64_t(size[2])));
    volume.spacing_x = ct->GetSpacing()[0];  // mm: the model says the size of its pixels
    volume.spacing_y = ct->GetSpacing()[1];
    mask->CopyStructure(ct);
    mask->AllocateScalars(VTK_UNSIGNED_CHAR, 1);
    patchmask::outputs outputs;
    outputs.mask = {static_cast<std::uint8_t*>(mask->GetScalarPointer()), std::size_t(mask->GetNumberOfPoints())};
    session.segment(volume, outputs);
}

// After an error or a warning of VTK, which prints it: a file that is too short is only worth a warning to its reader.
static void give_up(vtkObject*, unsigned long, void*, void*) { std::exit(1); }

int main(int count, char** words) try {
    if (count != 5 && count != 6)
        throw std::invalid_argument("usage: segment_vtk MODEL.safetensors CT.nrrd MASK.vti LESIONS.png [STRIDE]");
    vtkNew<vtkCallbackCommand> on_error;
    on_error->SetCallback(give_up);
    vtkOutputWindow::GetInstance()->AddObserver(vtkCommand::ErrorEvent, on_error);
    vtkOutputWindow::GetInstance()->AddObserver(vtkCommand::WarningEvent, on_error);
    vtkNew<vtkNrrdReader> reader;
    reader->SetFileName(words[2]);
    reader->Update();

    const patchmask::model model = patchmask::model::load(words[1]);
    patchmask_options options = model.options();  // from the model's metadata
    if (count == 6) options.stride = std::uint32_t(std::stoul(words[5]));
    patchmask::session session(model, options);
    vtkNew<vtkImageData> mask;
    segment(session, reader->GetOutput(), mask);
    vtkNew<vtkXMLImageDataWriter> file;
    file->SetInputData(mask);
    file->SetFileName(words[3]);
    file->Write();

    vtkNew<vtkDiscreteFlyingEdges3D> surface;
    surface->SetInputData(mask);
    surface->SetValue(0, options.lesion_class);
    vtkNew<vtkPolyDataMapper> mapper;
    mapper->SetInputConnection(surface->GetOutputPort());
    mapper->ScalarVisibilityOff();
    vtkNew<vtkActor> lesions;
    lesions->SetMapper(mapper);
    vtkNew<vtkRenderer> scene;
    scene->AddActor(lesions);
    scene->GetActiveCamera()->SetPosition(1, -3, 1);  // from the front: x to the left, y to the back, z up
    scene->GetActiveCamera()->SetViewUp(0, 0, 1);
    scene->ResetCamera();
    vtkNew<vtkRenderWindow> window;
    window->SetOffScreenRendering(1);
    window->SetSize(800, 600);
    window->AddRenderer(scene);
    vtkNew<vtkWindowToImageFilter> picture;
    picture->SetInput(window);
    vtkNew<vtkPNGWriter> png;
    png->SetInputConnection(picture->GetOutputPort());
    png->SetFileName(words[4]);
    png->Write();
} catch (const std::exception& failure) {
    std::fprintf(stderr, "segment_vtk: %s\n", failure.what());
    return 1;
}
