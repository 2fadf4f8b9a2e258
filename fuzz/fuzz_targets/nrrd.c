/* Any bytes through the NRRD reader of build/segment: a volume that is what its header says and survives being written,
 * or a failure that is one line of text. Built with clang's -fsanitize=fuzzer (fuzz/run.sh). */
#define _GNU_SOURCE
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "grid.h"
#include "nrrd.h"

static int file = -1;
static char path[32];

static void put_file(const void* bytes, size_t size) {
    if (file < 0) {
        file = memfd_create("nrrd", 0);
        assert(file >= 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    }
    int failed = ftruncate(file, 0);
    assert(failed == 0 && pwrite(file, bytes, size, 0) == (ssize_t)size);
    (void)failed;
}

static void check_problem(const problem* why) {
    size_t length = strlen(why->text);
    assert(why->exit_code == EXIT_OF_FAILURE && length > 0 && length < sizeof why->text);
    for (size_t i = 0; i < length; i++) assert((unsigned char)why->text[i] >= ' ');
}

/* The voxels are the file's bytes behind the header, in this machine's order. */
static void check_data(const nrrd_volume* volume, const uint8_t* bytes, size_t size) {
    nrrd_header header = {0};
    problem why = {0};
    FILE* in = fmemopen((void*)(uintptr_t)bytes, size, "rb");
    assert(in != NULL && nrrd_read_header(&header, in, path, &why));
    const uint8_t *from = bytes + ftell(in), *data = volume->data;
    fclose(in);
    for (size_t i = 0, last = header.voxel_bytes - 1; i < header.data_bytes; i++)
        assert(data[i] == from[header.swapped ? i - i % (last + 1) + last - i % (last + 1) : i]);
    nrrd_free_header(&header);
}

/* What is written for an output on this grid is read as the same grid. */
static void check_written(const nrrd_header* header) {
    char* text = NULL;
    size_t length = 0;
    FILE* out = open_memstream(&text, &length);
    assert(out != NULL);
    nrrd_write_header_like(out, header, "uint8");
    fclose(out);

    nrrd_header again = {0};
    problem why = {0};
    FILE* in = fmemopen(text, length, "rb");
    assert(in != NULL && nrrd_read_header(&again, in, "written", &why));
    assert((size_t)ftell(in) == length);
    fclose(in);
    assert(memcmp(again.size, header->size, sizeof again.size) == 0 && again.voxel_count == header->voxel_count);
    for (int field = NRRD_SPACE; field < NRRD_GRID_END; field++) {
        const char *a = header->text[field], *b = again.text[field];
        assert(a == NULL || b == NULL ? a == b : strcmp(a, b) == 0);
    }
    assert(grid_check_same(header, "input", &again, "written", &why));
    nrrd_free_header(&again);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
    nrrd_volume volume;
    problem why = {0};
    put_file(bytes, size);
    if (nrrd_read(&volume, path, &why)) {
        const nrrd_header* header = &volume.header;
        size_t count = (size_t)(header->size[0] * header->size[1] * header->size[2]);
        assert(count > 0 && header->voxel_count == count && header->data_bytes == count * header->voxel_bytes);
        assert(header->data_bytes <= size && header->voxel_type >= 1 && header->voxel_type <= 7);
        check_data(&volume, bytes, size);
        check_written(header);
    } else {
        check_problem(&why);
    }
    nrrd_free(&volume);
    return 0;
}
