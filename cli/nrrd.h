/* NRRD volumes (teem.sourceforge.net/nrrd/format.html): three spatial axes, x fastest, raw encoding,
 * data in the same file, either byte order. Everything else is refused by name. */
#ifndef SEGMENT_NRRD_H
#define SEGMENT_NRRD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "patchmask.h"
#include "problem.h"

enum { NRRD_AXES = 3 };

typedef enum nrrd_field {
    NRRD_TYPE,
    NRRD_DIMENSION,
    NRRD_SIZES,
    NRRD_ENDIAN,
    NRRD_ENCODING,
    NRRD_LINE_SKIP,
    NRRD_BYTE_SKIP,
    NRRD_DATA_FILE,
    NRRD_BLOCK_SIZE,
    /* The grid: outputs on the grid of the input carry these on, letter by letter, in this order. */
    NRRD_SPACE,
    NRRD_SPACE_DIMENSION,
    NRRD_SPACE_DIRECTIONS,
    NRRD_SPACE_ORIGIN,
    NRRD_SPACE_UNITS,
    NRRD_MEASUREMENT_FRAME,
    NRRD_KINDS,
    NRRD_LABELS,
    NRRD_UNITS,
    NRRD_SPACINGS,
    NRRD_THICKNESSES,
    NRRD_AXIS_MINS,
    NRRD_AXIS_MAXS,
    NRRD_CENTERS,
    NRRD_GRID_END,
    /* About the values of the input: known, and of no use here. */
    NRRD_CONTENT = NRRD_GRID_END,
    NRRD_NUMBER,
    NRRD_MIN,
    NRRD_MAX,
    NRRD_OLD_MIN,
    NRRD_OLD_MAX,
    NRRD_SAMPLE_UNITS,
    NRRD_FIELD_COUNT
} nrrd_field;

typedef struct nrrd_header {
    char* text[NRRD_FIELD_COUNT]; /* value of each field as the file spells it; NULL: not there */
    int32_t voxel_type;           /* PATCHMASK_VOXEL_* */
    uint64_t size[NRRD_AXES];     /* voxels along x, y, z */
    uint64_t voxel_count;
    size_t voxel_bytes;
    size_t data_bytes;
    bool swapped; /* the file's byte order is not this machine's */
} nrrd_header;

typedef struct nrrd_volume {
    nrrd_header header;
    void* data; /* [z][y][x], in this machine's byte order */
} nrrd_volume;

/* The name of a field as it is written. */
const char* nrrd_field_name(nrrd_field field);

/* Reads the header of `file`, which then stands at the data; any encoding. `path` is for the texts of problems.
 * `*out` is to be freed in any case. */
bool nrrd_read_header(nrrd_header* out, FILE* file, const char* path, problem* problem);

void nrrd_free_header(nrrd_header* header);

/* Reads a volume; `*out` is to be freed in any case. */
bool nrrd_read(nrrd_volume* out, const char* path, problem* problem);

void nrrd_free(nrrd_volume* volume);

/* Writes the header of a volume of `type` (a NRRD type name) on the same grid as `like`. */
void nrrd_write_header_like(FILE* file, const nrrd_header* like, const char* type);

/* Writes the header of float32 logits: class, patch x, patch y, slice, fastest first. */
void nrrd_write_logits_header(FILE* file, const uint64_t size[4], const patchmask_estimate* grid, double slice_spacing);

#endif
