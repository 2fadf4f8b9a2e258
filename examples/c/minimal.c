/* The shortest useful program: segments a CT volume and counts its lesion voxels.
 *     minimal MODEL.safetensors [VOLUME.raw WIDTH HEIGHT DEPTH]      int16 HU, x fastest
 * Without a volume it makes one: a lesion, 60 HU, in a liver of 120 HU. */
#include <patchmask.h>
#include <stdio.h>
#include <stdlib.h>

static int failed(const char *text)
{
    return fprintf(stderr, "minimal: %s\n", text), EXIT_FAILURE;
}

int main(int count, char **words)
{
    if (count != 2 && count != 6) {
        return failed("usage: minimal MODEL.safetensors [VOLUME.raw WIDTH HEIGHT DEPTH]");
    }
    size_t width = count == 6 ? strtoul(words[3], NULL, 10) : 96;
    size_t height = count == 6 ? strtoul(words[4], NULL, 10) : 80;
    size_t depth = count == 6 ? strtoul(words[5], NULL, 10) : 2;
    if (!width || !height || !depth || width > SIZE_MAX / height / depth) {
        return failed("width, height and depth must be above 0 and fit the memory");
    }
    size_t size = width * height * depth;
    int16_t *voxels = calloc(size, sizeof *voxels); /* [z][y][x], HU */
    uint8_t *mask = calloc(size, 1);                /* [z][y][x], class */
    FILE *file = count == 6 ? fopen(words[2], "rb") : NULL;
    if (!voxels || !mask || (file && fread(voxels, sizeof *voxels, size, file) != size) ||
        (count == 6 && !file)) {
        return failed("the volume cannot be read");
    }
    for (size_t i = 0; !file && i < size; i++) {
        long x = (long)(i % width) - 40, y = (long)(i / width % height) - 30;
        voxels[i] = x * x + y * y < 200 ? 60 : 120;
    }
    patchmask_model *model = NULL;
    patchmask_session *session = NULL;
    patchmask_options options;
    patchmask_volume volume;
    patchmask_outputs outputs;
    if (patchmask_model_load(words[1], &model) ||
        patchmask_options_init(&options, sizeof options, model) ||
        patchmask_session_new(model, &options, &session) ||
        patchmask_volume_init(&volume, sizeof volume, voxels, PATCHMASK_VOXEL_I16, width, height,
                              depth) ||
        patchmask_outputs_init(&outputs, sizeof outputs)) {
        return failed(patchmask_last_error());
    }
    outputs.mask = mask;
    if (patchmask_session_segment(session, &volume, NULL, &outputs, NULL)) {
        return failed(patchmask_last_error());
    }
    size_t lesion = 0;
    for (size_t i = 0; i < size; i++) {
        lesion += mask[i] == options.lesion_class;
    }
    printf("%zu of %zu voxels are lesion\n", lesion, size);
    patchmask_session_free(session);
    patchmask_model_free(model);
}
