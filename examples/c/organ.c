/* organ MODEL: lesion volume within an organ, of a volume that is stored with the slices innermost. */
#include <patchmask.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

enum { WIDTH = 96, HEIGHT = 80, DEPTH = 3 };
static const double VOXEL_MM3 = 0.8 * 0.8 * 2.5;
static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    interrupted = number;
}

/* About every 50 ms, on the thread that called segment. Anything but 0 cancels. */
static int32_t progress(double fraction, int32_t stage, void *user_data)
{
    (void)stage;
    fprintf(user_data, "\r%3.0f %%", 100 * fraction);
    return interrupted != 0;
}

static void tell(int32_t level, const char *message, void *user_data)
{
    fprintf(user_data, "%s%s\n", level == PATCHMASK_LOG_WARNING ? "warning: " : "", message);
}

static int failed(const char *what, patchmask_status status)
{
    fprintf(stderr, "organ: %s: %s: %s\n", what, patchmask_status_name(status), patchmask_last_error());
    return EXIT_FAILURE;
}

int main(int count, char **words)
{
    static uint16_t voxels[HEIGHT][WIDTH][DEPTH]; /* HU = stored - 1024 */
    static uint8_t organ[HEIGHT][WIDTH][DEPTH];
    static float probability[HEIGHT][WIDTH][DEPTH];
    for (int y = 0; y < HEIGHT; y++) {
        for (int x = 0; x < WIDTH; x++) {
            for (int z = 0; z < DEPTH; z++) {
                voxels[y][x][z] = 1024 + ((x - 40) * (x - 40) + (y - 30) * (y - 30) < 200 ? 60 : 120);
                organ[y][x][z] = x < 64;
            }
        }
    }
    if (count != 2 || patchmask_abi_version() != PATCHMASK_ABI_VERSION) {
        return fprintf(stderr, "usage: organ MODEL, with a library of the header's ABI\n"), EXIT_FAILURE;
    }
    signal(SIGINT, interrupt);

    patchmask_model *model = NULL;
    patchmask_status status = patchmask_model_load(words[1], &model);
    if (status != PATCHMASK_OK) {
        return failed(words[1], status);
    }
    patchmask_options options;
    patchmask_options_init(&options, sizeof options, model); /* what the model was trained with */
    options.stride = 8;
    options.interpolation = PATCHMASK_INTERPOLATION_LINEAR;
    options.memory_budget = (uint64_t)1 << 30;
    options.progress = progress;
    options.progress_user_data = stderr;
    options.log = tell;
    options.log_user_data = stderr;
    patchmask_session *session = NULL;
    status = patchmask_session_new(model, &options, &session);
    patchmask_model_free(model); /* the session keeps what it needs */
    if (status != PATCHMASK_OK) {
        return failed("session", status);
    }

    /* Columns, rows and slices as the program has them: no copy. */
    patchmask_volume ct, roi;
    patchmask_volume_init(&ct, sizeof ct, voxels, PATCHMASK_VOXEL_U16, WIDTH, HEIGHT, DEPTH);
    ct.stride_x = sizeof voxels[0][0];
    ct.stride_y = sizeof voxels[0];
    ct.stride_z = sizeof voxels[0][0][0];
    ct.intercept = -1024;
    patchmask_volume_init(&roi, sizeof roi, organ, PATCHMASK_VOXEL_U8, WIDTH, HEIGHT, DEPTH);
    roi.stride_x = sizeof organ[0][0];
    roi.stride_y = sizeof organ[0];
    roi.stride_z = sizeof organ[0][0][0];
    patchmask_outputs outputs;
    patchmask_outputs_init(&outputs, sizeof outputs);
    outputs.probability = &probability[0][0][0];
    outputs.probability_stride_x = sizeof probability[0][0];
    outputs.probability_stride_y = sizeof probability[0];
    outputs.probability_stride_z = sizeof probability[0][0][0];

    patchmask_estimate estimate;
    patchmask_estimate_init(&estimate, sizeof estimate);
    status = patchmask_session_estimate(session, &ct, &roi, &estimate);
    if (status != PATCHMASK_OK) {
        return failed("estimate", status);
    }
    printf("%.0f patches, %.1f GMAC instead of %.1f, %.0f MiB\n", (double)estimate.patches, 1e-9 * (double)estimate.macs,
           1e-9 * (double)estimate.macs_unshared, (double)estimate.peak_bytes / (1 << 20));

    status = patchmask_session_segment(session, &ct, &roi, &outputs, NULL);
    fputc('\n', stderr);
    if (status == PATCHMASK_CANCELLED) {
        uint64_t slices = 0;
        patchmask_session_slices_done(session, &slices);
        printf("stopped after %d slices, which are finished\n", (int)slices);
    } else if (status != PATCHMASK_OK) {
        return failed("segment", status);
    }
    double lesion = 0;
    for (size_t i = 0; i < sizeof probability / sizeof(float); i++) {
        lesion += (&probability[0][0][0])[i] > 0.5F;
    }
    printf("%.0f mm3 of lesion in the organ\n", lesion * VOXEL_MM3);
    patchmask_session_free(session);
    return EXIT_SUCCESS;
}
