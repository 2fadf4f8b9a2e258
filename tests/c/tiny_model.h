/* Small VGG16 models as safetensors files in memory, so that tests need no files: deterministic
 * pseudo-random weights, sound or with one defect. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "patchmask.h"

typedef enum tiny_defect {
    TINY_SOUND,
    TINY_MISSING,    /* the tensor is left out */
    TINY_RENAMED,    /* it has an unknown name */
    TINY_MISSHAPEN,  /* one more than the right first length */
    TINY_NAN,        /* its first element is NaN */
    TINY_OVERFLOW,   /* its first element is beyond fp16 */
    TINY_HUGE,       /* it claims 2^30 x 2^30 elements */
    TINY_WRONG_TYPE, /* I32 */
} tiny_defect;

typedef struct tiny_model {
    uint32_t width;          /* channels of every convolution */
    uint32_t patch_size;     /* which the first dense layer fits */
    uint32_t input_channels; /* 1 or 3 */
    uint32_t hidden;         /* outputs of a dense layer before the last; 0: there is none */
    uint32_t classes;
    int half;             /* tensors as F16, otherwise F32: the same values */
    const char* metadata; /* members of __metadata__, such as "\"patchmask.stride\":\"8\""; or NULL */
    tiny_defect defect;
    const char* defect_tensor;
} tiny_model;

/* A model for patches of 32 px that tells patches apart: width 3, hidden 5, 2 classes. */
tiny_model tiny_model_default(void);

/* The bytes of the file, to be freed. */
uint8_t* tiny_model_build(const tiny_model* spec, size_t* out_size);

/* Builds and loads; the test fails where that does. */
patchmask_model* tiny_model_load(const tiny_model* spec);

#endif
