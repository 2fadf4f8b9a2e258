#include "tiny_model.h"

#include <math.h>

#include "check.h"

enum {
    CONVOLUTIONS = 13,
    HEADER_BYTES = 8192,
    POOLED_SIDE = 32 /* five poolings by 2 */
};

/* torchvision's numbers of the convolutions in `features` */
static const int NUMBER[CONVOLUTIONS] = {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28};

typedef struct writer {
    const tiny_model* spec;
    char* header; /* JSON so far, [HEADER_BYTES] */
    size_t header_length;
    uint8_t* data; /* tensors so far */
    size_t data_length, data_capacity;
    uint32_t random;
} writer;

tiny_model tiny_model_default(void) {
    return (tiny_model){.width = 3, .patch_size = 32, .input_channels = 1, .hidden = 5, .classes = 2};
}

/* Uniform in [-1, 1), in steps of 2^-6: such numbers, and small multiples by powers of 2, are the
 * same in F16 and F32. */
static double next_random(writer* w) {
    w->random = w->random * 1664525u + 1013904223u;
    return (double)((int)(w->random >> 25) - 64) / 64;
}

static void put_float(writer* w, double value) {
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (w->spec->half) {
        /* fp16 of a number that it can hold: sign, exponent moved, 10 bits of the fraction */
        uint32_t exponent = (bits >> 23) & 255;
        CHECK(bits << 1 == 0 || (exponent > 112 && exponent < 143) || exponent == 255);
        uint32_t half = exponent == 255 ? 0x7E00 : (bits << 1) == 0 ? 0 : (exponent - 112) << 10 | (bits >> 13 & 1023);
        bits = (bits >> 31) << 15 | half;
    }
    size_t bytes = w->spec->half ? 2 : 4;
    if (w->data_length + bytes > w->data_capacity) {
        w->data_capacity = 2 * w->data_capacity + 4096;
        w->data = realloc(w->data, w->data_capacity);
        CHECK(w->data != NULL);
    }
    for (size_t i = 0; i < bytes; i++) w->data[w->data_length++] = (uint8_t)(bits >> (8 * i)); /* little-endian */
}

/* One tensor: random weights around 0, or biases of which the first is `lead`. */
static void put_tensor(writer* w, const char* name, const uint32_t* shape, int axes, double scale, double lead) {
    const tiny_model* spec = w->spec;
    int is_bad = spec->defect != TINY_SOUND && strcmp(name, spec->defect_tensor) == 0;
    tiny_defect defect = is_bad ? spec->defect : TINY_SOUND;
    if (defect == TINY_MISSING) return;
    uint64_t claimed[4] = {0};
    size_t count = 1, begin = w->data_length;
    for (int i = 0; i < axes; i++) {
        claimed[i] = shape[i] + (defect == TINY_MISSHAPEN && i == 0);
        count *= claimed[i];
        if (defect == TINY_HUGE) claimed[i] = i < 2 ? UINT64_C(1) << 30 : 1;
    }
    for (size_t i = 0; i < count; i++) {
        double value = scale * next_random(w) + (i == 0 ? lead : 0);
        value = i == 0 && defect == TINY_NAN ? NAN : value;
        put_float(w, i == 0 && defect == TINY_OVERFLOW ? 1e6 : value);
    }
    size_t end = defect == TINY_HUGE ? begin + ((size_t)1 << 60) : w->data_length;
    char* to = w->header + w->header_length;
    size_t room = HEADER_BYTES - w->header_length;
    int length = snprintf(to, room, "%c\"%s%s\":{\"dtype\":\"%s\",\"shape\":[", w->header_length == 0 ? '{' : ',', name,
                          defect == TINY_RENAMED ? ".extra" : "",
                          defect == TINY_WRONG_TYPE ? "I32"
                          : spec->half              ? "F16"
                                                    : "F32");
    for (int i = 0; i < axes; i++) {
        length +=
            snprintf(to + length, room - (size_t)length, "%s%llu", i == 0 ? "" : ",", (unsigned long long)claimed[i]);
    }
    length += snprintf(to + length, room - (size_t)length, "],\"data_offsets\":[%zu,%zu]}", begin, end);
    w->header_length += (size_t)length;
    CHECK(w->header_length < HEADER_BYTES);
}

static void put_layer(writer* w, const char* kind, int number, const uint32_t* shape, int axes, double scale,
                      double bias) {
    char name[64];
    snprintf(name, sizeof name, "%s.%d.weight", kind, number);
    put_tensor(w, name, shape, axes, scale, 0);
    snprintf(name, sizeof name, "%s.%d.bias", kind, number);
    put_tensor(w, name, shape, 1, 0.125, bias);
}

uint8_t* tiny_model_build(const tiny_model* spec, size_t* out_size) {
    char header[HEADER_BYTES];
    writer w = {.spec = spec, .header = header, .random = 1};
    uint32_t channels = spec->input_channels;
    for (int i = 0; i < CONVOLUTIONS; i++) {
        uint32_t shape[4] = {spec->width, channels, 3, 3};
        put_layer(&w, "features", NUMBER[i], shape, 4, 0.5, 0.25);
        channels = spec->width;
    }
    uint32_t side = spec->patch_size / POOLED_SIDE;
    uint32_t inputs = channels * side * side;
    if (spec->hidden != 0) {
        put_layer(&w, "classifier", 0, (uint32_t[]){spec->hidden, inputs}, 2, 1, 0.25);
        inputs = spec->hidden;
    }
    /* This bias balances the classes of the default model on synthetic_volume. */
    put_layer(&w, "classifier", 3, (uint32_t[]){spec->classes, inputs}, 2, 1, -0.625);

    int length = snprintf(header + w.header_length, HEADER_BYTES - w.header_length, ",\"__metadata__\":{%s}}",
                          spec->metadata != NULL ? spec->metadata : "");
    w.header_length += (size_t)length;
    CHECK(w.header_length < HEADER_BYTES);
    *out_size = 8 + w.header_length + w.data_length;
    uint8_t* file = malloc(*out_size);
    CHECK(file != NULL);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)w.header_length >> (8 * i));
    memcpy(file + 8, header, w.header_length);
    memcpy(file + 8 + w.header_length, w.data, w.data_length);
    free(w.data);
    return file;
}

patchmask_model* tiny_model_load(const tiny_model* spec) {
    size_t size;
    uint8_t* file = tiny_model_build(spec, &size);
    patchmask_model* model = NULL;
    CHECK_OK(patchmask_model_load_memory(file, size, &model));
    free(file);
    return model;
}
