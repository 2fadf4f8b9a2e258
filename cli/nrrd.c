#define _XOPEN_SOURCE 700
#include "nrrd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "interrupt.h"

enum { CHUNK_BYTES = 1 << 24 }; /* between two looks at the interrupt flag */

/* Refuses a file of another length than its header says, before memory is allocated for it. */
static bool check_length(const nrrd_header* header, FILE* file, const char* path, problem* problem) {
    struct stat status;
    off_t start = ftello(file);
    if (start < 0 || fstat(fileno(file), &status) != 0) return fail(problem, "%s: %s", path, strerror(errno));
    uint64_t there = status.st_size > start ? (uint64_t)(status.st_size - start) : 0;
    if (there != header->data_bytes) {
        return fail(problem, "%s: the header promises %" PRIu64 " bytes of voxels, the file has %" PRIu64 ": %s", path,
                    (uint64_t)header->data_bytes, there,
                    there < header->data_bytes ? "it is cut off, copy it again" : "its sizes or its type are wrong");
    }
    return true;
}

static bool read_data(void* out, size_t bytes, FILE* file, const char* path, problem* problem) {
    unsigned char* to = out;
    while (bytes > 0) {
        size_t chunk = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
        size_t got = fread(to, 1, chunk, file);
        if (interrupted() || got != chunk) {
            return fail(problem, "%s: %s", path,
                        ferror(file) ? strerror(errno) : "the file became shorter while it was read");
        }
        to += chunk;
        bytes -= chunk;
    }
    return true;
}

static void swap_bytes(void* data, uint64_t count, size_t voxel_bytes) {
    unsigned char* voxel = data;
    for (uint64_t i = 0; i < count; i++, voxel += voxel_bytes) {
        for (size_t low = 0, high = voxel_bytes - 1; low < high; low++, high--) {
            unsigned char byte = voxel[low];
            voxel[low] = voxel[high];
            voxel[high] = byte;
        }
    }
}

static bool check_encoding(const nrrd_header* header, const char* path, problem* problem) {
    const char* encoding = header->text[NRRD_ENCODING];
    return strcasecmp(encoding, "raw") == 0 ||
           fail(problem, "%s: encoding '%s' is not read: save the volume uncompressed ('encoding: raw')", path,
                encoding);
}

static bool read_volume(nrrd_volume* out, FILE* file, const char* path, problem* problem) {
    nrrd_header* header = &out->header;
    if (!nrrd_read_header(header, file, path, problem) || !check_encoding(header, path, problem) ||
        !check_length(header, file, path, problem)) {
        return false;
    }
    out->data = malloc(header->data_bytes);
    if (out->data == NULL)
        return fail(problem, "%s: %" PRIu64 " bytes could not be allocated", path, (uint64_t)header->data_bytes);
    if (!read_data(out->data, header->data_bytes, file, path, problem)) return false;
    if (header->swapped) swap_bytes(out->data, header->voxel_count, header->voxel_bytes);
    return true;
}

bool nrrd_read(nrrd_volume* out, const char* path, problem* problem) {
    memset(out, 0, sizeof *out);
    struct stat status;
    if (stat(path, &status) != 0) return fail(problem, "%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode)) return fail(problem, "%s: not a regular file", path);
    FILE* file = fopen(path, "rb");
    if (file == NULL) return fail(problem, "%s: %s", path, strerror(errno));
    bool good = read_volume(out, file, path, problem);
    fclose(file);
    return good;
}

void nrrd_free(nrrd_volume* volume) {
    nrrd_free_header(&volume->header);
    free(volume->data);
}

static void write_layout(FILE* file, bool one_byte) {
    const uint16_t one = 1;
    if (!one_byte) fprintf(file, "endian: %s\n", *(const unsigned char*)&one == 1 ? "little" : "big");
    fputs("encoding: raw\n\n", file);
}

void nrrd_write_header_like(FILE* file, const nrrd_header* like, const char* type) {
    fprintf(file,
            "NRRD0005\n# Written by patchmask's segment\ntype: %s\ndimension: 3\n"
            "sizes: %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
            type, like->size[0], like->size[1], like->size[2]);
    for (int field = NRRD_SPACE; field < NRRD_GRID_END; field++)
        if (like->text[field] != NULL) fprintf(file, "%s: %s\n", nrrd_field_name((nrrd_field)field), like->text[field]);
    write_layout(file, strcmp(type, "uint8") == 0);
}

void nrrd_write_logits_header(FILE* file, const uint64_t size[4], const patchmask_estimate* grid,
                              double slice_spacing) {
    fprintf(file,
            "NRRD0005\n# Written by patchmask's segment: outputs of the network at the patch centres\n"
            "type: float\ndimension: 4\n"
            "sizes: %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64
            "\n"
            "kinds: list domain domain domain\n"
            "labels: \"class\" \"patch x\" \"patch y\" \"slice\"\n"
            "spacings: nan %.17g %.17g %.17g\n"
            "axis mins: nan %.17g %.17g 0\n"
            "units: \"\" \"mm\" \"mm\" \"mm\"\n",
            size[0], size[1], size[2], size[3], grid->grid_spacing_x, grid->grid_spacing_y, slice_spacing,
            grid->grid_origin_x, grid->grid_origin_y);
    write_layout(file, false);
}
