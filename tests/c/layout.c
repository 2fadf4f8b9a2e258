/* The memory layout of every struct and the number of every constant, as compiled programs have them:
 * a change here breaks hosts that are already built. Also that the library agrees. */
#include <stddef.h>

#include "check.h"

#define AT(type, field, offset)                                                                    \
    _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has another size")
#define NUMBER(name, number) _Static_assert((name) == (number), #name " has another number")

_Static_assert(sizeof(void *) == 8, "this test is for LP64");

AT(patchmask_volume, struct_size, 0);
AT(patchmask_volume, data, 8);
AT(patchmask_volume, voxel_type, 16);
AT(patchmask_volume, width, 24);
AT(patchmask_volume, height, 32);
AT(patchmask_volume, depth, 40);
AT(patchmask_volume, stride_x, 48);
AT(patchmask_volume, stride_y, 56);
AT(patchmask_volume, stride_z, 64);
AT(patchmask_volume, slope, 72);
AT(patchmask_volume, intercept, 80);
AT(patchmask_volume, memory, 88);
AT(patchmask_volume, stream, 96);
SIZE(patchmask_volume, 104);

AT(patchmask_outputs, struct_size, 0);
AT(patchmask_outputs, mask, 8);
AT(patchmask_outputs, mask_stride_x, 16);
AT(patchmask_outputs, mask_stride_y, 24);
AT(patchmask_outputs, mask_stride_z, 32);
AT(patchmask_outputs, probability, 40);
AT(patchmask_outputs, probability_stride_x, 48);
AT(patchmask_outputs, probability_stride_y, 56);
AT(patchmask_outputs, probability_stride_z, 64);
AT(patchmask_outputs, coverage, 72);
AT(patchmask_outputs, coverage_stride_x, 80);
AT(patchmask_outputs, coverage_stride_y, 88);
AT(patchmask_outputs, coverage_stride_z, 96);
AT(patchmask_outputs, logits, 104);
AT(patchmask_outputs, logits_stride_class, 112);
AT(patchmask_outputs, logits_stride_x, 120);
AT(patchmask_outputs, logits_stride_y, 128);
AT(patchmask_outputs, logits_stride_z, 136);
AT(patchmask_outputs, memory, 144);
AT(patchmask_outputs, stream, 152);
SIZE(patchmask_outputs, 160);

AT(patchmask_options, struct_size, 0);
AT(patchmask_options, patch_size, 8);
AT(patchmask_options, stride, 12);
AT(patchmask_options, padding, 16);
AT(patchmask_options, interpolation, 20);
AT(patchmask_options, window_low, 24);
AT(patchmask_options, window_high, 32);
AT(patchmask_options, mean, 40);
AT(patchmask_options, std, 64);
AT(patchmask_options, equalize, 88);
AT(patchmask_options, sharing, 92);
AT(patchmask_options, crop_x0, 96);
AT(patchmask_options, crop_y0, 104);
AT(patchmask_options, crop_x1, 112);
AT(patchmask_options, crop_y1, 120);
AT(patchmask_options, lesion_class, 128);
AT(patchmask_options, device, 132);
AT(patchmask_options, cuda_devices, 136);
AT(patchmask_options, threads, 144);
AT(patchmask_options, memory_budget, 152);
AT(patchmask_options, progress, 160);
AT(patchmask_options, progress_user_data, 168);
AT(patchmask_options, log, 176);
AT(patchmask_options, log_user_data, 184);
SIZE(patchmask_options, 192);

AT(patchmask_model_info, struct_size, 0);
AT(patchmask_model_info, input_channels, 8);
AT(patchmask_model_info, classes, 12);
AT(patchmask_model_info, dense_layers, 16);
AT(patchmask_model_info, lesion_class, 20);
AT(patchmask_model_info, patch_size, 24);
AT(patchmask_model_info, stride, 28);
AT(patchmask_model_info, parameters, 32);
AT(patchmask_model_info, sha256, 40);
SIZE(patchmask_model_info, 112);

AT(patchmask_estimate, struct_size, 0);
AT(patchmask_estimate, grid_width, 8);
AT(patchmask_estimate, grid_height, 16);
AT(patchmask_estimate, classes, 24);
AT(patchmask_estimate, patches, 32);
AT(patchmask_estimate, macs, 40);
AT(patchmask_estimate, macs_unshared, 48);
AT(patchmask_estimate, peak_bytes, 56);
AT(patchmask_estimate, tiles, 64);
AT(patchmask_estimate, device_peak_bytes, 72);
SIZE(patchmask_estimate, 80);

AT(patchmask_result, struct_size, 0);
AT(patchmask_result, patches, 8);
AT(patchmask_result, macs, 16);
AT(patchmask_result, macs_unshared, 24);
AT(patchmask_result, peak_bytes, 32);
AT(patchmask_result, nonfinite_voxels, 40);
AT(patchmask_result, tiles, 48);
AT(patchmask_result, engine, 56);
AT(patchmask_result, plan_seconds, 64);
AT(patchmask_result, intensity_seconds, 72);
AT(patchmask_result, network_seconds, 80);
AT(patchmask_result, mask_seconds, 88);
AT(patchmask_result, segment_seconds, 96);
AT(patchmask_result, device_peak_bytes, 104);
SIZE(patchmask_result, 112);

NUMBER(PATCHMASK_ABI_VERSION, 1);
NUMBER(PATCHMASK_OK, 0);
NUMBER(PATCHMASK_INVALID_ARGUMENT, 100);
NUMBER(PATCHMASK_UNSUPPORTED, 101);
NUMBER(PATCHMASK_BUSY, 102);
NUMBER(PATCHMASK_WRONG_PROCESS, 103);
NUMBER(PATCHMASK_IO, 200);
NUMBER(PATCHMASK_BAD_MODEL, 201);
NUMBER(PATCHMASK_OUT_OF_MEMORY, 300);
NUMBER(PATCHMASK_DEVICE_OUT_OF_MEMORY, 301);
NUMBER(PATCHMASK_NO_DEVICE, 400);
NUMBER(PATCHMASK_DEVICE_FAILED, 401);
NUMBER(PATCHMASK_CANCELLED, 500);
NUMBER(PATCHMASK_PANIC, 900);
NUMBER(PATCHMASK_VOXEL_I8, 1);
NUMBER(PATCHMASK_VOXEL_U8, 2);
NUMBER(PATCHMASK_VOXEL_I16, 3);
NUMBER(PATCHMASK_VOXEL_U16, 4);
NUMBER(PATCHMASK_VOXEL_I32, 5);
NUMBER(PATCHMASK_VOXEL_F32, 6);
NUMBER(PATCHMASK_VOXEL_F64, 7);
NUMBER(PATCHMASK_PADDING_PATCH, 0);
NUMBER(PATCHMASK_PADDING_IMAGE, 1);
NUMBER(PATCHMASK_INTERPOLATION_NEAREST, 0);
NUMBER(PATCHMASK_INTERPOLATION_LINEAR, 1);
NUMBER(PATCHMASK_DEVICE_AUTO, 0);
NUMBER(PATCHMASK_DEVICE_CPU, 1);
NUMBER(PATCHMASK_DEVICE_CUDA, 2);
NUMBER(PATCHMASK_MEMORY_HOST, 0);
NUMBER(PATCHMASK_MEMORY_CUDA, 1);
NUMBER(PATCHMASK_STAGE_PLAN, 1);
NUMBER(PATCHMASK_STAGE_INTENSITY, 2);
NUMBER(PATCHMASK_STAGE_NETWORK, 3);
NUMBER(PATCHMASK_STAGE_MASK, 4);
NUMBER(PATCHMASK_LOG_WARNING, 1);
NUMBER(PATCHMASK_LOG_INFO, 2);
NUMBER(PATCHMASK_PATCH_SIZE_MIN, 32);
NUMBER(PATCHMASK_PATCH_SIZE_MAX, 1024);

static void library_has_this_layout(void)
{
    patchmask_volume volume;
    patchmask_outputs outputs;
    patchmask_options options;
    patchmask_model_info info;
    patchmask_estimate estimate;
    patchmask_result result;
    CHECK(patchmask_abi_version() == PATCHMASK_ABI_VERSION);
    CHECK_OK(patchmask_volume_init(&volume, sizeof volume, &volume, PATCHMASK_VOXEL_I32, 3, 5, 7));
    CHECK_OK(patchmask_outputs_init(&outputs, sizeof outputs));
    CHECK_OK(patchmask_options_init(&options, sizeof options, NULL));
    CHECK_OK(patchmask_model_info_init(&info, sizeof info));
    CHECK_OK(patchmask_estimate_init(&estimate, sizeof estimate));
    CHECK_OK(patchmask_result_init(&result, sizeof result));
    CHECK(volume.struct_size == sizeof volume && volume.data == &volume);
    CHECK(volume.voxel_type == PATCHMASK_VOXEL_I32);
    CHECK(volume.width == 3 && volume.height == 5 && volume.depth == 7);
    CHECK(volume.stride_x == 4 && volume.stride_y == 12 && volume.stride_z == 60);
    CHECK(volume.slope == 1 && volume.intercept == 0);
    CHECK(outputs.struct_size == sizeof outputs && outputs.mask == NULL && outputs.logits == NULL);
    CHECK(options.patch_size == 257 && options.stride == 7 && options.lesion_class == 1);
    CHECK(options.window_low == -160 && options.window_high == 240 && options.sharing == 1);
    CHECK(options.mean[2] == 0 && options.std[0] == 1 && options.std[2] == 1);
    CHECK(options.threads == 0 && options.memory_budget == 0 && options.progress == NULL);
    CHECK(options.log == NULL && options.log_user_data == NULL && options.crop_x1 == 0);
    CHECK(info.struct_size == sizeof info && info.sha256[64] == '\0');
    CHECK(estimate.struct_size == sizeof estimate && result.struct_size == sizeof result);
}

static void versions_and_names(void)
{
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", PATCHMASK_VERSION_MAJOR, PATCHMASK_VERSION_MINOR,
             PATCHMASK_VERSION_PATCH);
    CHECK(strcmp(patchmask_version(), version) == 0);
    static const struct {
        patchmask_status status;
        const char *name;
    } NAMES[] = {
        {0, "OK"},
        {100, "INVALID_ARGUMENT"},
        {101, "UNSUPPORTED"},
        {102, "BUSY"},
        {103, "WRONG_PROCESS"},
        {200, "IO"},
        {201, "BAD_MODEL"},
        {300, "OUT_OF_MEMORY"},
        {301, "DEVICE_OUT_OF_MEMORY"},
        {400, "NO_DEVICE"},
        {401, "DEVICE_FAILED"},
        {500, "CANCELLED"},
        {900, "PANIC"},
        {-1, "UNKNOWN"},
        {99, "UNKNOWN"},
        {2147483647, "UNKNOWN"},
    };
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        CHECK(strcmp(patchmask_status_name(NAMES[i].status), NAMES[i].name) == 0);
    }
}

int main(void)
{
    RUN(library_has_this_layout);
    RUN(versions_and_names);
    return 0;
}
