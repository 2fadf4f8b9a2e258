/* Programs of other versions: structs that are longer than the library knows, and shorter than any version had. */
#include "check.h"
#include "segmentation.h"
#include "tiny_model.h"

enum { WIDTH = 40, HEIGHT = 33, VOXELS = WIDTH * HEIGHT, LATER = 5 };

static const uint64_t MARK = UINT64_C(0xa5a5a5a5a5a5a5a5);

/* What a later header could declare. */
#define LONGER(type) \
    struct { \
        type known; \
        uint64_t later[LATER]; \
    }

static void check_later(const uint64_t* later, uint64_t expected) {
    for (int i = 0; i < LATER; i++) CHECK(later[i] == expected);
}

/* Prepares a longer struct: the fields that the library does not know become zero; a field beyond is left alone. */
#define INIT(longer, init, ...) \
    do { \
        memset(&(longer), 0xa5, sizeof(longer)); \
        CHECK_OK(init(&(longer).known, sizeof(longer), __VA_ARGS__)); \
        check_later((longer).later, 0); \
        CHECK((longer).known.struct_size == sizeof(longer)); \
    } while (0)

static void a_longer_struct_works(void) {
    static uint8_t mask[VOXELS], expected[VOXELS];
    LONGER(patchmask_options) options;
    LONGER(patchmask_volume) volume;
    LONGER(patchmask_outputs) outputs;
    LONGER(patchmask_estimate) estimate;
    LONGER(patchmask_result) result;
    LONGER(patchmask_model_info) info;
    tiny_model spec = tiny_model_default();
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_session* session = NULL;
    int16_t* hu = synthetic_volume(WIDTH, HEIGHT, 1);
    INIT(options, patchmask_options_init, model);
    INIT(volume, patchmask_volume_init, hu, PATCHMASK_VOXEL_I16, WIDTH, HEIGHT, 1);
    memset(&outputs, 0xa5, sizeof outputs);
    CHECK_OK(patchmask_outputs_init(&outputs.known, sizeof outputs));
    CHECK_OK(patchmask_estimate_init(&estimate.known, sizeof estimate));
    CHECK_OK(patchmask_result_init(&result.known, sizeof result));
    CHECK_OK(patchmask_model_info_init(&info.known, sizeof info));
    options.known.patch_size = 32;
    options.known.stride = 8;
    options.known.device = PATCHMASK_DEVICE_CPU;
    /* A later program has set what this library does not know. */
    options.later[0] = estimate.later[0] = result.later[LATER - 1] = info.later[2] = MARK;
    outputs.known.mask = mask;
    CHECK_OK(patchmask_model_get_info(model, &info.known));
    CHECK(info.known.classes == 2 && info.later[2] == MARK && info.known.struct_size == sizeof info);
    CHECK_OK(patchmask_session_new(model, &options.known, &session));
    CHECK_OK(patchmask_session_estimate(session, &volume.known, NULL, &estimate.known));
    CHECK(estimate.known.patches == 5 * 5 && estimate.later[0] == MARK);
    CHECK_OK(patchmask_session_segment(session, &volume.known, NULL, &outputs.known, &result.known));
    CHECK(result.known.patches == 5 * 5 && result.later[LATER - 1] == MARK &&
          result.known.struct_size == sizeof result);
    memcpy(expected, mask, sizeof mask);
    patchmask_session_free(session);

    /* As with the structs of this header. */
    patchmask_options same;
    CHECK_OK(patchmask_options_init(&same, sizeof same, model));
    same.patch_size = 32;
    same.stride = 8;
    same.device = PATCHMASK_DEVICE_CPU;
    patchmask_volume plain = dense_volume(hu, WIDTH, HEIGHT, 1);
    patchmask_outputs written = {.struct_size = sizeof written, .mask = mask};
    CHECK_OK(patchmask_session_new(model, &same, &session));
    CHECK_OK(patchmask_session_segment(session, &plain, NULL, &written, NULL));
    CHECK(memcmp(mask, expected, sizeof mask) == 0);
    patchmask_session_free(session);
    patchmask_model_free(model);
    free(hu);
}

/* Bytes in the first version. */
enum { FIRST_VOLUME = 104, FIRST_OPTIONS = 192, FIRST_INFO = 112, FIRST_ESTIMATE = 80 };

/* The bytes of a struct beyond the end that the program knows. */
#define CHECK_BEYOND(value, first) \
    do { \
        for (size_t i = (first); i < sizeof(value); i++) CHECK(((const unsigned char*)&(value))[i] == 0xa5); \
    } while (0)

static void a_shorter_struct_works(void) {
    static uint8_t mask[VOXELS], expected[VOXELS];
    tiny_model spec = tiny_model_default();
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_session* session = NULL;
    int16_t* hu = synthetic_volume(WIDTH, HEIGHT, 1);
    patchmask_options options;
    patchmask_volume volume;
    patchmask_model_info info;
    patchmask_estimate estimate;
    memset(&options, 0xa5, sizeof options);
    memset(&volume, 0xa5, sizeof volume);
    memset(&info, 0xa5, sizeof info);
    memset(&estimate, 0xa5, sizeof estimate);
    CHECK_OK(patchmask_options_init(&options, FIRST_OPTIONS, model));
    CHECK_OK(patchmask_volume_init(&volume, FIRST_VOLUME, hu, PATCHMASK_VOXEL_I16, WIDTH, HEIGHT, 1));
    CHECK_OK(patchmask_model_info_init(&info, FIRST_INFO));
    CHECK_OK(patchmask_model_get_info(model, &info));
    CHECK_OK(patchmask_estimate_init(&estimate, FIRST_ESTIMATE));
    options.patch_size = 32;
    options.stride = 8;
    options.device = PATCHMASK_DEVICE_CPU;
    patchmask_outputs outputs = {.struct_size = sizeof outputs, .mask = mask};
    CHECK_OK(patchmask_session_new(model, &options, &session));
    CHECK_OK(patchmask_session_estimate(session, &volume, NULL, &estimate));
    CHECK_OK(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
    CHECK(info.classes == 2 && estimate.patches == 5 * 5);
    CHECK_BEYOND(options, FIRST_OPTIONS);
    CHECK_BEYOND(volume, FIRST_VOLUME);
    CHECK_BEYOND(info, FIRST_INFO);
    CHECK_BEYOND(estimate, FIRST_ESTIMATE);
    patchmask_session_free(session);
    memcpy(expected, mask, sizeof mask);

    /* As with the structs of this header. */
    patchmask_options same = synthetic_options(model, 32, 8);
    same.window_low = options.window_low;
    same.window_high = options.window_high;
    patchmask_volume plain = dense_volume(hu, WIDTH, HEIGHT, 1);
    CHECK_OK(patchmask_session_new(model, &same, &session));
    CHECK_OK(patchmask_session_segment(session, &plain, NULL, &outputs, NULL));
    CHECK(memcmp(mask, expected, sizeof mask) == 0);
    patchmask_session_free(session);
    patchmask_model_free(model);
    free(hu);
}

static void a_struct_of_no_version_is_refused(void) {
    patchmask_options options;
    patchmask_model* model = NULL;
    patchmask_session* session = NULL;
    tiny_model spec = tiny_model_default();
    model = tiny_model_load(&spec);
    CHECK_INVALID("struct_size", patchmask_options_init(&options, FIRST_OPTIONS - 8, model));
    CHECK_INVALID("struct_size", patchmask_options_init(&options, 1 << 20, model));
    CHECK_OK(patchmask_options_init(&options, sizeof options, model));
    options.struct_size = 0;
    CHECK_INVALID("patchmask_options_init", patchmask_session_new(model, &options, &session));
    CHECK(session == NULL);
    patchmask_model_free(model);
}

int main(void) {
    RUN(a_longer_struct_works);
    RUN(a_shorter_struct_works);
    RUN(a_struct_of_no_version_is_refused);
    return 0;
}
