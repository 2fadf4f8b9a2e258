/* The place of an NRRD volume's voxels in the patient, and the comparison of two volumes' places. */
#ifndef SEGMENT_GRID_H
#define SEGMENT_GRID_H

#include <stdbool.h>

#include "nrrd.h"
#include "problem.h"

/* Of the angle between axes, 0.6 degrees off a right one: directions of public collections are up to 0.1 % off. */
#define GRID_MAX_COSINE 0.01

/* The grid's place according to a header; what it leaves out is unknown. */
typedef struct grid_placement {
    bool directions_known, origin_known;
    double direction[NRRD_AXES][NRRD_AXES]; /* mm from a voxel to the next, for x, y, z */
    double origin[NRRD_AXES];               /* mm, centre of the first voxel */
    double spacing[NRRD_AXES];              /* mm; NAN: unknown */
} grid_placement;

/* Reads the placement; one that is malformed, not spatial, sheared, contradictory or not in mm is a problem. */
bool grid_placement_read(grid_placement* out, const nrrd_header* header, const char* path, problem* problem);

/* Puts the spacing that the user gives (0: none) where a file's is unknown (NAN). It does not overrule what the file
 * says; a spacing that stays unknown, or is no length of a voxel, is a problem. */
bool grid_fill_spacing(double spacing[NRRD_AXES], const double given[NRRD_AXES], const char* path, problem* problem);

/* Likewise for a header, and so for those of the outputs. */
bool grid_settle_spacing(nrrd_header* header, const double given[NRRD_AXES], const char* path, problem* problem);

/* Turns a placement to left-posterior-superior coordinates; false where the header does not say how. */
bool grid_to_lps(grid_placement* placement, const nrrd_header* header);

/* True if both volumes have the same sizes and, as far as both say, the same space, directions,
 * spacing and origin. LPS, LAS and RAS are compared as places in the patient, not as words. */
bool grid_check_same(const nrrd_header* input, const char* input_path, const nrrd_header* other, const char* other_path,
                     problem* problem);

#endif
