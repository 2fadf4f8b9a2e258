/* What the sanitizers must find, or they see nothing: a mask that ends before its last row (AddressSanitizer), and voxels that
 * another thread writes during the call (ThreadSanitizer). */
#include <pthread.h>
#include <stdatomic.h>

#include "../check.h"
#include "../segmentation.h"
#include "../tiny_model.h"

enum { WIDTH = 64, HEIGHT = 64 };

static int16_t* hu;
static atomic_int done = 0;

static void* write_voxels(void* unused) {
    for (int i = 0; !atomic_load_explicit(&done, memory_order_relaxed); i = (i + 1) % (WIDTH * HEIGHT)) hu[i] = 0;
    return unused;
}

int main(int count, char** words) {
    int address = count > 1 && strcmp(words[1], "address") == 0;
    tiny_model spec = tiny_model_default();
    patchmask_model* model = tiny_model_load(&spec);
    patchmask_options options = synthetic_options(model, 32, 8);
    patchmask_session* session = NULL;
    patchmask_outputs outputs;
    pthread_t writer;
    hu = synthetic_volume(WIDTH, HEIGHT, 1);
    patchmask_volume volume = dense_volume(hu, WIDTH, HEIGHT, 1);
    CHECK_OK(patchmask_session_new(model, &options, &session));
    CHECK_OK(patchmask_outputs_init(&outputs, sizeof outputs));
    outputs.mask = malloc((size_t)WIDTH * (HEIGHT - address));
    if (!address) CHECK(pthread_create(&writer, NULL, write_voxels, NULL) == 0);
    for (int i = 0; i < 20; i++) CHECK_OK(patchmask_session_segment(session, &volume, NULL, &outputs, NULL));
    atomic_store(&done, 1);
    if (!address) CHECK(pthread_join(writer, NULL) == 0);
    free(outputs.mask);
    free(hu);
    patchmask_session_free(session);
    patchmask_model_free(model);
    return 0;
}
