/* The memory layout of every struct and the number of every constant, as compiled programs have them (abi.inc, by
 * tools/abi.py), asserted by the C compiler; then the library's own view of them. */
#include <stddef.h>

#include "check.h"

#define AT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field " has moved")
#define SIZE(type, bytes) _Static_assert(sizeof(type) == (bytes), #type " has another size")
#define NUMBER(name, number) _Static_assert((name) == (number), #name " has another number")

_Static_assert(sizeof(void*) == 8, "this test is for LP64");

#include "abi.inc"

static void library_has_this_layout(void) {
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

static void versions_and_names(void) {
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", PATCHMASK_VERSION_MAJOR, PATCHMASK_VERSION_MINOR,
             PATCHMASK_VERSION_PATCH);
    CHECK(strcmp(patchmask_version(), version) == 0);
    static const struct {
        patchmask_status status;
        const char* name;
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
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++)
        CHECK(strcmp(patchmask_status_name(NAMES[i].status), NAMES[i].name) == 0);
}

int main(void) {
    RUN(library_has_this_layout);
    RUN(versions_and_names);
    return 0;
}
