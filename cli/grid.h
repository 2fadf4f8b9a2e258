/* The place of an NRRD volume's voxels in the patient, and the comparison of two volumes' places. */
#ifndef SEGMENT_GRID_H
#define SEGMENT_GRID_H

#include <stdbool.h>

#include "nrrd.h"
#include "problem.h"

/* The grid's place according to a header; what it leaves out is unknown. */
typedef struct grid_placement {
    bool directions_known, origin_known;
    double direction[NRRD_AXES][NRRD_AXES]; /* mm from a voxel to the next, for x, y, z */
    double origin[NRRD_AXES];               /* mm, centre of the first voxel */
    double spacing[NRRD_AXES];              /* mm; NAN: unknown */
} grid_placement;

/* Reads the placement; a malformed or non-spatial one, other units than mm and sheared axes are a problem. */
bool grid_placement_read(grid_placement* out, const nrrd_header* header, const char* path, problem* problem);

/* Refuses a spacing that is unknown or said twice and differently. */
bool grid_check_spacing(const nrrd_header* header, const char* path, problem* problem);

/* Writes a spacing that the user knows better into the header, and so into those of the outputs. */
bool grid_set_spacing(nrrd_header* header, const double mm[NRRD_AXES], const char* path, problem* problem);

/* Turns a placement to left-posterior-superior coordinates; false where the header does not say how. */
bool grid_to_lps(grid_placement* placement, const nrrd_header* header);

/* True if both volumes have the same sizes and, as far as both say, the same space, directions,
 * spacing and origin. LPS, LAS and RAS are compared as places in the patient, not as words. */
bool grid_check_same(const nrrd_header* input, const char* input_path, const nrrd_header* other, const char* other_path,
                     problem* problem);

#endif
