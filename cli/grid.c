#define _XOPEN_SOURCE 700
#include "grid.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Headers are decimal text, often of rounded numbers. */
static const double TOLERANCE_MM = 1e-3;

static const double SAME_SPACING = 1e-3;         /* relative */
static const double MIN_MM = 1e-3, MAX_MM = 1e3; /* of a spacing; others are of another unit */

static const char* skip_blanks(const char* text) { return text + strspn(text, " \t"); }

/* "(1,0,0)" */
static bool scan_vector(const char** cursor, double out[NRRD_AXES]) {
    const char* text = skip_blanks(*cursor);
    for (int i = 0; i < NRRD_AXES; i++) {
        char* end;
        if (*text != (i == 0 ? '(' : ',')) return false;
        out[i] = strtod(text + 1, &end);
        if (end == text + 1 || !isfinite(out[i])) return false;
        text = skip_blanks(end);
    }
    *cursor = text + 1;
    return *text == ')';
}

static bool near(const double* a, const double* b, int count) {
    for (int i = 0; i < count; i++)
        if (fabs(a[i] - b[i]) > TOLERANCE_MM) /* false for NAN: unknown is no difference */
            return false;
    return true;
}

static double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static bool read_directions(grid_placement* out, const char* text, const char* path, problem* problem) {
    const char* cursor = text;
    for (int axis = 0; axis < NRRD_AXES; axis++) {
        cursor = skip_blanks(cursor);
        if (strncasecmp(cursor, "none", 4) == 0) {
            return fail(problem,
                        "%s: axis %d has no space direction ('none'): only volumes of three "
                        "spatial axes are read: save it with three directions",
                        path, axis + 1);
        }
        double* d = out->direction[axis];
        if (!scan_vector(&cursor, d))
            return fail(problem, "%s: space directions '%s': must be three vectors of 3 numbers", path, text);
        out->spacing[axis] = sqrt(dot(d, d));
        if (out->spacing[axis] == 0)
            return fail(problem, "%s: space directions '%s': that of axis %d must not be 0", path, text, axis + 1);
        for (int other = 0; other < axis; other++) {
            double cosine = dot(d, out->direction[other]) / (out->spacing[axis] * out->spacing[other]);
            if (fabs(cosine) > GRID_MAX_COSINE) {
                return fail(problem,
                            "%s: space directions '%s': axes %d and %d are not at a right angle (a gantry tilt?): "
                            "resample the volume to a right-angled grid",
                            path, text, other + 1, axis + 1);
            }
        }
    }
    out->directions_known = true;
    return *skip_blanks(cursor) == '\0' ||
           fail(problem, "%s: space directions '%s': must be three vectors of 3 numbers", path, text);
}

static bool read_spacings(double out[NRRD_AXES], const char* text, const char* path, problem* problem) {
    const char* cursor = text;
    for (int axis = 0; axis < NRRD_AXES; axis++) {
        char* end;
        out[axis] = strtod(cursor, &end);
        /* "nan" is NRRD's word for unknown */
        if (end == cursor || out[axis] <= 0 || isinf(out[axis]))
            return fail(problem, "%s: spacings '%s': must be three numbers above 0", path, text);
        cursor = end;
    }
    return *skip_blanks(cursor) == '\0' ||
           fail(problem, "%s: spacings '%s': must be three numbers above 0", path, text);
}

/* Units other than millimetres: lists of quoted words, "" where there is none. */
static bool check_units(const nrrd_header* header, nrrd_field field, const char* path, problem* problem) {
    static const char* const BLANKS = " \t\"";
    const char* unit = header->text[field] != NULL ? header->text[field] : "";
    for (unit += strspn(unit, BLANKS); *unit != '\0'; unit += strspn(unit, BLANKS)) {
        size_t length = strcspn(unit, BLANKS);
        bool millimetres = (length == 2 && strncasecmp(unit, "mm", 2) == 0) || strncasecmp(unit, "millimet", 8) == 0;
        if (!millimetres) {
            return fail(problem, "%s: %s '%s': must be mm: save the volume in millimetres", path,
                        nrrd_field_name(field), header->text[field]);
        }
        unit += length;
    }
    return true;
}

/* Coordinates that volumes of three axes may have: factors that turn them into left-posterior-superior ones, or none. */
static const struct {
    const char *name, *short_name;
    double to_lps[NRRD_AXES];
} SPACES[] = {
    {"left-posterior-superior", "LPS", {1, 1, 1}},   {"left-anterior-superior", "LAS", {1, -1, 1}},
    {"right-anterior-superior", "RAS", {-1, -1, 1}}, {"scanner-xyz", "scanner-xyz", {0}},
    {"3D-right-handed", "3D-right-handed", {0}},     {"3D-left-handed", "3D-left-handed", {0}},
};

static const double* find_space(const char* space) {
    for (size_t i = 0; i < sizeof SPACES / sizeof SPACES[0]; i++)
        if (strcasecmp(space, SPACES[i].name) == 0 || strcasecmp(space, SPACES[i].short_name) == 0)
            return SPACES[i].to_lps;
    return NULL;
}

/* A name that no reader knows would go into the mask, which none could read then. */
static bool check_space(const nrrd_header* header, const char* path, problem* problem) {
    const char* space = header->text[NRRD_SPACE];
    return space == NULL || find_space(space) != NULL ||
           fail(problem, "%s: space '%s': must be a space of 3 axes that NRRD knows, such as left-posterior-superior",
                path, space);
}

static bool factors_to_lps(const char* space, double out[NRRD_AXES]) {
    const double* factors = find_space(space);
    if (factors == NULL || factors[0] == 0) return false;
    memcpy(out, factors, sizeof SPACES[0].to_lps);
    return true;
}

bool grid_placement_read(grid_placement* out, const nrrd_header* header, const char* path, problem* problem) {
    *out = (grid_placement){.spacing = {NAN, NAN, NAN}};
    const char* spacings = header->text[NRRD_SPACINGS];
    const char* directions = header->text[NRRD_SPACE_DIRECTIONS];
    const char* origin = header->text[NRRD_SPACE_ORIGIN];
    double said[NRRD_AXES] = {NAN, NAN, NAN};
    if (spacings != NULL && !read_spacings(said, spacings, path, problem)) return false;
    memcpy(out->spacing, said, sizeof said);
    if (directions != NULL && !read_directions(out, directions, path, problem)) return false;
    if (!near(said, out->spacing, NRRD_AXES)) {
        return fail(problem,
                    "%s: spacings '%s' contradict space directions '%s': take the wrong ones out of the header", path,
                    spacings, directions);
    }
    if (origin != NULL) {
        const char* cursor = origin;
        if (!scan_vector(&cursor, out->origin) || *skip_blanks(cursor) != '\0')
            return fail(problem, "%s: space origin '%s': must be a vector of 3 numbers", path, origin);
        out->origin_known = true;
    }
    return check_space(header, path, problem) && check_units(header, NRRD_SPACE_UNITS, path, problem) &&
           check_units(header, NRRD_UNITS, path, problem);
}

bool grid_fill_spacing(double spacing[NRRD_AXES], const double given[NRRD_AXES], const char* path, problem* problem) {
    for (int axis = 0; axis < NRRD_AXES; axis++) {
        bool known = spacing[axis] > 0; /* not NAN */
        if (!known && !(given[axis] > 0))
            return fail(problem, "%s: the spacing of axis %d is unknown: give --spacing X,Y,Z in mm", path, axis + 1);
        if (known && given[axis] > 0 && fabs(spacing[axis] / given[axis] - 1) > SAME_SPACING) {
            return misuse(problem, "--spacing %g,%g,%g: the spacing of axis %d is %g mm in %s: leave the option out",
                          given[0], given[1], given[2], axis + 1, spacing[axis], path);
        }
        if (!known) spacing[axis] = given[axis];
        if (spacing[axis] < MIN_MM || spacing[axis] > MAX_MM) {
            return fail(problem,
                        "%s: the spacing of axis %d is %g mm, must be %g to %g: is it in another unit? Correct it",
                        path, axis + 1, spacing[axis], MIN_MM, MAX_MM);
        }
    }
    return true;
}

bool grid_settle_spacing(nrrd_header* header, const double given[NRRD_AXES], const char* path, problem* problem) {
    grid_placement placement;
    if (!grid_placement_read(&placement, header, path, problem) ||
        !grid_fill_spacing(placement.spacing, given, path, problem)) {
        return false;
    }
    if (placement.directions_known || !(given[0] > 0)) return true; /* the header says it all */
    char text[96];
    const double* mm = placement.spacing;
    snprintf(text, sizeof text, "%.17g %.17g %.17g", mm[0], mm[1], mm[2]);
    free(header->text[NRRD_SPACINGS]);
    header->text[NRRD_SPACINGS] = strdup(text);
    return header->text[NRRD_SPACINGS] != NULL || fail(problem, "%s: out of memory", path);
}

static void scale(grid_placement* placement, const double factor[NRRD_AXES]) {
    for (int i = 0; i < NRRD_AXES; i++) {
        placement->origin[i] *= factor[i];
        for (int axis = 0; axis < NRRD_AXES; axis++) placement->direction[axis][i] *= factor[i];
    }
}

bool grid_to_lps(grid_placement* placement, const nrrd_header* header) {
    const char* space = header->text[NRRD_SPACE];
    double factor[NRRD_AXES];
    if (space == NULL || !placement->directions_known || !factors_to_lps(space, factor)) return false;
    scale(placement, factor);
    return true;
}

static bool differ(nrrd_field field, const nrrd_header* input, const char* input_path, const nrrd_header* other,
                   const char* other_path, problem* problem) {
    const char *here = other->text[field], *there = input->text[field];
    return fail(problem, "%s: %s '%s' is not that of %s, '%s': resample it to the input's grid", other_path,
                nrrd_field_name(field), here != NULL ? here : "unknown", input_path, there != NULL ? there : "unknown");
}

bool grid_check_same(const nrrd_header* input, const char* input_path, const nrrd_header* other, const char* other_path,
                     problem* problem) {
    grid_placement a, b;
    if (!grid_placement_read(&a, input, input_path, problem) || !grid_placement_read(&b, other, other_path, problem))
        return false;
    if (memcmp(input->size, other->size, sizeof input->size) != 0) {
        return fail(problem,
                    "%s: %" PRIu64 " x %" PRIu64 " x %" PRIu64 " voxels, but %s has %" PRIu64 " x %" PRIu64
                    " x %" PRIu64 ": resample it to the input's grid",
                    other_path, other->size[0], other->size[1], other->size[2], input_path, input->size[0],
                    input->size[1], input->size[2]);
    }
    const char *space_a = input->text[NRRD_SPACE], *space_b = other->text[NRRD_SPACE];
    double factor_a[NRRD_AXES], factor_b[NRRD_AXES];
    if (space_a != NULL && space_b != NULL) {
        if (factors_to_lps(space_a, factor_a) && factors_to_lps(space_b, factor_b)) {
            scale(&a, factor_a);
            scale(&b, factor_b);
        } else if (strcasecmp(space_a, space_b) != 0) {
            return differ(NRRD_SPACE, input, input_path, other, other_path, problem);
        }
    }
    if (a.directions_known && b.directions_known && !near(a.direction[0], b.direction[0], NRRD_AXES * NRRD_AXES))
        return differ(NRRD_SPACE_DIRECTIONS, input, input_path, other, other_path, problem);
    if (!near(a.spacing, b.spacing, NRRD_AXES))
        return differ(NRRD_SPACINGS, input, input_path, other, other_path, problem);
    if (a.origin_known && b.origin_known && !near(a.origin, b.origin, NRRD_AXES))
        return differ(NRRD_SPACE_ORIGIN, input, input_path, other, other_path, problem);
    return true;
}
