/* Hostile and unusual model files: an error that says what is wrong, never a crash, never a handle. */
#define _XOPEN_SOURCE 700 /* mkstemp */
#include "check.h"
#include "tiny_model.h"

static void check_file(patchmask_status status, const char* text, const void* data, size_t size) {
    patchmask_model* model = (patchmask_model*)&data; /* must stay */
    CHECK_REFUSED(status, text, patchmask_model_load_memory(data, size, &model));
    CHECK(model == (patchmask_model*)&data);
}

static void check_bad(const char* text, const void* data, size_t size) {
    check_file(PATCHMASK_BAD_MODEL, text, data, size);
}

static void check_spec(const char* text, const tiny_model* spec) {
    size_t size;
    uint8_t* file = tiny_model_build(spec, &size);
    check_bad(text, file, size);
    free(file);
}

static void null_pointers(void) {
    patchmask_model* model = NULL;
    uint8_t byte = 0;
    CHECK_INVALID("data is NULL", patchmask_model_load_memory(NULL, 10, &model));
    CHECK_INVALID("out_model is NULL", patchmask_model_load_memory(&byte, 1, NULL));
    CHECK_INVALID("path is NULL", patchmask_model_load(NULL, &model));
    CHECK_INVALID("out_model is NULL", patchmask_model_load("x", NULL));
    CHECK_INVALID("size 18446744073709551615", patchmask_model_load_memory(&byte, SIZE_MAX, &model));
    CHECK(model == NULL);
}

static void unreadable_paths(void) {
    patchmask_model* model = NULL;
    CHECK_REFUSED(PATCHMASK_IO, "no/such/file", patchmask_model_load("no/such/file", &model));
#ifdef _WIN32
    CHECK_INVALID("UTF-8", patchmask_model_load("/\xFF\xFE", &model));
#else
    /* Texts are UTF-8, paths need not be: U+FFFD stands for what is not. */
    CHECK_REFUSED(PATCHMASK_IO, "\xEF\xBF\xBD", patchmask_model_load("/\xFF\xFE", &model));
#endif
    CHECK_REFUSED(PATCHMASK_IO, "", patchmask_model_load("", &model));
    CHECK_REFUSED(PATCHMASK_IO, "/", patchmask_model_load("/", &model));
    CHECK_REFUSED(PATCHMASK_IO, "/dev/zero", patchmask_model_load("/dev/zero", &model));
    CHECK(model == NULL);
}

static void not_safetensors(void) {
    static const char TEXT[] = "PK\3\4 this is a zip archive, as PyTorch writes them, not safetensors";
    uint8_t zeros[64] = {0};
    check_bad("", TEXT, 0);
    check_bad("", TEXT, 1);
    check_bad("", TEXT, 7);
    check_bad("safetensors", TEXT, sizeof TEXT);
    check_bad("", zeros, sizeof zeros);
    zeros[0] = 2;
    memcpy(zeros + 8, "{}", 2);
    check_bad("", zeros, 10);
    memcpy(zeros + 8, "{{", 2);
    check_bad("", zeros, 10);
}

/* Every length below the full one; all of the header's, then in steps. */
static void truncated(void) {
    tiny_model spec = tiny_model_default();
    size_t size;
    uint8_t* file = tiny_model_build(&spec, &size);
    for (size_t length = 0; length < size; length += length < 300 || length + 40 > size ? 1 : 97) {
        uint8_t* part = malloc(length + 1); /* of its own, so that reading beyond it is found */
        CHECK(part != NULL);
        memcpy(part, file, length);
        check_bad("", part, length);
        free(part);
    }
    uint8_t* longer = calloc(1, size + 1);
    CHECK(longer != NULL);
    memcpy(longer, file, size);
    check_bad("", longer, size + 1);
    free(longer);
    free(file);
}

static void header_length_claims(void) {
    tiny_model spec = tiny_model_default();
    size_t size;
    uint8_t* file = tiny_model_build(&spec, &size);
    for (int bit = 13; bit < 64; bit++) {
        uint64_t length = UINT64_C(1) << bit;
        for (int i = 0; i < 8; i++) file[i] = (uint8_t)(length >> (8 * i));
        check_bad("header", file, size);
    }
    free(file);
}

/* Any single byte of the header damaged: an error or, where it changed nothing that counts, a model. */
static void damaged_header(void) {
    static const uint8_t DAMAGE[] = {0, ' ', '"', '{', '}', '9', 0xFF};
    tiny_model spec = tiny_model_default();
    size_t size;
    uint8_t* file = tiny_model_build(&spec, &size);
    size_t header = file[0] + 256u * file[1];
    unsigned refused = 0;
    for (size_t at = 8; at < 8 + header; at += 3) {
        uint8_t good = file[at];
        file[at] = DAMAGE[at % sizeof DAMAGE];
        patchmask_model* model = NULL;
        patchmask_status status = patchmask_model_load_memory(file, size, &model);
        CHECK(status == PATCHMASK_OK || status == PATCHMASK_BAD_MODEL);
        CHECK((status == PATCHMASK_OK) == (model != NULL));
        refused += status != PATCHMASK_OK;
        patchmask_model_free(model);
        file[at] = good;
    }
    CHECK(refused > header / 6);
    free(file);
}

static void defects_of_one_tensor(void) {
    static const char* const TENSORS[] = {
        "features.0.weight",   "features.0.bias",   "features.14.weight",  "features.28.bias",
        "classifier.0.weight", "classifier.0.bias", "classifier.3.weight", "classifier.3.bias",
    };
    static const tiny_defect DEFECTS[] = {TINY_MISSING,  TINY_RENAMED, TINY_MISSHAPEN, TINY_NAN,
                                          TINY_OVERFLOW, TINY_HUGE,    TINY_WRONG_TYPE};
    for (size_t i = 0; i < sizeof TENSORS / sizeof TENSORS[0]; i++) {
        for (size_t j = 0; j < sizeof DEFECTS / sizeof DEFECTS[0]; j++) {
            tiny_model spec = tiny_model_default();
            spec.defect = DEFECTS[j];
            spec.defect_tensor = TENSORS[i];
            /* Claims beyond the file are found before names are; the text then names the claim. */
            check_spec(DEFECTS[j] == TINY_HUGE || DEFECTS[j] == TINY_MISSHAPEN ? "" : TENSORS[i], &spec);
        }
    }
}

static void counts_out_of_range(void) {
    tiny_model spec = tiny_model_default();
    spec.classes = 1;
    check_spec("1", &spec);
    spec.classes = 256;
    check_spec("256", &spec);
    spec = tiny_model_default();
    spec.input_channels = 2;
    check_spec("features.0.weight", &spec);
}

static void bad_metadata(void) {
    static const struct {
        const char *text, *metadata;
    } CASES[] = {
        {"patch_size", "\"patchmask.patch_size\":\"31\""},
        {"patch_size", "\"patchmask.patch_size\":\"many\""},
        {"patch_size", "\"patchmask.patch_size\":\"64\""}, /* its dense layer is for 32..63 */
        {"stride", "\"patchmask.stride\":\"0\""},
        {"window", "\"patchmask.window\":\"240,-160\""},
        {"window", "\"patchmask.window\":\"240\""},
        {"window", "\"patchmask.window\":\"nan,1\""},
        {"equalize", "\"patchmask.equalize\":\"yes\""},
        {"mean", "\"patchmask.mean\":\"1,2\""},
        {"std", "\"patchmask.std\":\"0\""},
        {"lesion_class", "\"patchmask.lesion_class\":\"2\""},
        {"classes", "\"patchmask.classes\":\"liver,lesion,vessel\""},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        tiny_model spec = tiny_model_default();
        spec.metadata = CASES[i].metadata;
        check_spec(CASES[i].text, &spec);
    }
}

static void good_metadata_is_what_options_start_from(void) {
    tiny_model spec = tiny_model_default();
    spec.classes = 3;
    spec.input_channels = 3;
    spec.metadata =
        "\"patchmask.patch_size\":\"40\",\"patchmask.stride\":\"5\","
        "\"patchmask.window\":\"-100.5,300\",\"patchmask.equalize\":\"true\","
        "\"patchmask.mean\":\"0.5\",\"patchmask.std\":\"0.25,0.5,2\","
        "\"patchmask.lesion_class\":\"2\",\"patchmask.classes\":\"air,liver,lesion\","
        "\"format\":\"pt\"";
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_options options;
    CHECK_OK(patchmask_options_init(&options, sizeof options, model));
    CHECK(options.patch_size == 40 && options.stride == 5 && options.lesion_class == 2);
    CHECK(options.window_low == -100.5 && options.window_high == 300 && options.equalize == 1);
    CHECK(options.mean[0] == 0.5 && options.mean[1] == 0.5 && options.mean[2] == 0.5);
    CHECK(options.std[0] == 0.25 && options.std[1] == 0.5 && options.std[2] == 2);
    patchmask_model_info info;
    CHECK_OK(patchmask_model_info_init(&info, sizeof info));
    CHECK_OK(patchmask_model_get_info(model, &info));
    CHECK(info.input_channels == 3 && info.classes == 3 && info.dense_layers == 2);
    CHECK(info.lesion_class == 2 && info.patch_size == 40 && info.stride == 5);
    CHECK(info.parameters == (3 * 27 + 3) + 12 * (3 * 27 + 3) + (5 * 3 + 5) + (3 * 5 + 3));
    CHECK(strlen(info.sha256) == 64 && strspn(info.sha256, "0123456789abcdef") == 64);
    CHECK(strcmp(patchmask_model_class_name(model, 0), "air") == 0);
    CHECK(strcmp(patchmask_model_class_name(model, 2), "lesion") == 0);
    CHECK(patchmask_model_class_name(model, 3) == NULL);
    CHECK(patchmask_model_class_name(model, UINT32_MAX) == NULL);
    patchmask_model_free(model);
}

/* The same bytes from a file and from memory. */
static void file_and_memory_agree(void) {
    tiny_model spec = tiny_model_default();
    size_t size;
    uint8_t* bytes = tiny_model_build(&spec, &size);
    char name[] = "/tmp/patchmask-model-XXXXXX";
    FILE* file = fdopen(mkstemp(name), "wb");
    CHECK(file != NULL && fwrite(bytes, 1, size, file) == size && fclose(file) == 0);
    patchmask_model *from_file = NULL, *from_memory = NULL;
    patchmask_model_info a, b;
    CHECK_OK(patchmask_model_load(name, &from_file));
    remove(name);
    CHECK_OK(patchmask_model_load_memory(bytes, size, &from_memory));
    free(bytes);
    CHECK_OK(patchmask_model_info_init(&a, sizeof a));
    CHECK_OK(patchmask_model_info_init(&b, sizeof b));
    CHECK_OK(patchmask_model_get_info(from_file, &a));
    CHECK_OK(patchmask_model_get_info(from_memory, &b));
    CHECK(strcmp(a.sha256, b.sha256) == 0 && a.parameters == b.parameters);
    patchmask_model_free(from_file);
    patchmask_model_free(from_memory);
}

int main(void) {
    RUN(null_pointers);
    RUN(unreadable_paths);
    RUN(not_safetensors);
    RUN(truncated);
    RUN(header_length_claims);
    RUN(damaged_header);
    RUN(defects_of_one_tensor);
    RUN(counts_out_of_range);
    RUN(bad_metadata);
    RUN(good_metadata_is_what_options_start_from);
    RUN(file_and_memory_agree);
    return 0;
}
