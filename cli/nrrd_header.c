/* The header of an NRRD file: text lines up to an empty one.
 *
 *   NRRD000n          magic
 *   # comment
 *   field: value      known fields only, each at most once
 *   key:=value        whatever programs want to note: skipped */
#define _XOPEN_SOURCE 700
#include "nrrd.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "grid.h"
#include "patchmask.h"

enum { LINE_LIMIT = 1 << 16, LINE_COUNT_LIMIT = 1 << 14 };

static const struct {
    const char *name, *other_name;
} FIELDS[NRRD_FIELD_COUNT] = {
    [NRRD_TYPE] = {"type", NULL},
    [NRRD_DIMENSION] = {"dimension", NULL},
    [NRRD_SIZES] = {"sizes", NULL},
    [NRRD_ENDIAN] = {"endian", NULL},
    [NRRD_ENCODING] = {"encoding", NULL},
    [NRRD_LINE_SKIP] = {"line skip", "lineskip"},
    [NRRD_BYTE_SKIP] = {"byte skip", "byteskip"},
    [NRRD_DATA_FILE] = {"data file", "datafile"},
    [NRRD_BLOCK_SIZE] = {"block size", "blocksize"},
    [NRRD_SPACE] = {"space", NULL},
    [NRRD_SPACE_DIMENSION] = {"space dimension", NULL},
    [NRRD_SPACE_DIRECTIONS] = {"space directions", NULL},
    [NRRD_SPACE_ORIGIN] = {"space origin", NULL},
    [NRRD_SPACE_UNITS] = {"space units", NULL},
    [NRRD_MEASUREMENT_FRAME] = {"measurement frame", NULL},
    [NRRD_KINDS] = {"kinds", NULL},
    [NRRD_LABELS] = {"labels", NULL},
    [NRRD_UNITS] = {"units", NULL},
    [NRRD_SPACINGS] = {"spacings", NULL},
    [NRRD_THICKNESSES] = {"thicknesses", NULL},
    [NRRD_AXIS_MINS] = {"axis mins", "axismins"},
    [NRRD_AXIS_MAXS] = {"axis maxs", "axismaxs"},
    [NRRD_CENTERS] = {"centers", "centerings"},
    [NRRD_CONTENT] = {"content", NULL},
    [NRRD_NUMBER] = {"number", NULL},
    [NRRD_MIN] = {"min", NULL},
    [NRRD_MAX] = {"max", NULL},
    [NRRD_OLD_MIN] = {"old min", "oldmin"},
    [NRRD_OLD_MAX] = {"old max", "oldmax"},
    [NRRD_SAMPLE_UNITS] = {"sample units", "sampleunits"},
};

static const struct {
    int32_t voxel_type;
    size_t bytes;
    const char* spellings[8];
} TYPES[] = {
    {PATCHMASK_VOXEL_I8, 1, {"signed char", "int8", "int8_t"}},
    {PATCHMASK_VOXEL_U8, 1, {"unsigned char", "uchar", "uint8", "uint8_t"}},
    {PATCHMASK_VOXEL_I16, 2, {"short", "short int", "signed short", "signed short int", "int16", "int16_t"}},
    {PATCHMASK_VOXEL_U16, 2, {"unsigned short", "ushort", "unsigned short int", "uint16", "uint16_t"}},
    {PATCHMASK_VOXEL_I32, 4, {"int", "signed int", "int32", "int32_t"}},
    {PATCHMASK_VOXEL_F32, 4, {"float"}},
    {PATCHMASK_VOXEL_F64, 8, {"double"}},
};

const char* nrrd_field_name(nrrd_field field) { return FIELDS[field].name; }

/* The next line without its end, in `line[LINE_LIMIT]`. */
static bool read_line(FILE* file, char* line, const char* path, problem* problem) {
    size_t length = 0;
    int c;
    while ((c = getc(file)) != '\n') {
        if (c == EOF && ferror(file)) return fail(problem, "%s: %s", path, strerror(errno));
        if (c == EOF) return fail(problem, "%s: the file ends inside the NRRD header", path);
        if (c == '\0' || length + 1 == LINE_LIMIT) {
            return fail(problem, "%s: the NRRD header is not text, or a line of it is longer than %d", path,
                        LINE_LIMIT);
        }
        line[length++] = (char)c;
    }
    while (length > 0 && isspace((unsigned char)line[length - 1]))
        length--; /* the CR of CRLF, and spaces at the end of a value */
    line[length] = '\0';
    return true;
}

/* The field that `line` sets (its value at `*value`), or NRRD_FIELD_COUNT. */
static nrrd_field find_field(const char* line, const char** value) {
    size_t length = strcspn(line, ":");
    if (line[length] == '\0' || line[length + 1] == '=') return NRRD_FIELD_COUNT;
    *value = line + length + 1;
    *value += strspn(*value, " \t");
    for (int field = 0; field < NRRD_FIELD_COUNT; field++) {
        const char* names[] = {FIELDS[field].name, FIELDS[field].other_name};
        for (int i = 0; i < 2; i++)
            if (names[i] && strlen(names[i]) == length && strncasecmp(names[i], line, length) == 0)
                return (nrrd_field)field;
    }
    return NRRD_FIELD_COUNT;
}

static bool take_line(nrrd_header* out, const char* line, const char* path, problem* problem) {
    const char* value = NULL;
    nrrd_field field = find_field(line, &value);
    if (field == NRRD_FIELD_COUNT) {
        return line[0] == '#' || strstr(line, ":=") != NULL ||
               fail(problem, "%s: '%.60s' is not a line of an NRRD header", path, line);
    }
    if (out->text[field] != NULL) return fail(problem, "%s: the field '%s' is there twice", path, FIELDS[field].name);
    out->text[field] = strdup(value);
    return out->text[field] != NULL || fail(problem, "%s: out of memory", path);
}

static bool read_lines(nrrd_header* out, FILE* file, const char* path, problem* problem) {
    char* line = malloc(LINE_LIMIT);
    if (line == NULL) return fail(problem, "%s: out of memory", path);
    bool good = false;
    char magic[7] = "";
    if (fread(magic, 1, 6, file) != 6 || strcmp(magic, "NRRD00") != 0) {
        fail(problem, "%s: not an NRRD file (it does not start with NRRD00); the Python package reads other formats",
             path);
    } else if (read_line(file, line, path, problem)) {
        if (strlen(line) != 2 || line[0] != '0' || line[1] < '1' || line[1] > '5') {
            fail(problem, "%s: NRRD version '00%.20s': known are 0001 to 0005", path, line);
        } else {
            long count = 0;
            do {
                good = read_line(file, line, path, problem) && (line[0] == '\0' || take_line(out, line, path, problem));
            } while (good && line[0] != '\0' && ++count < LINE_COUNT_LIMIT);
            if (count == LINE_COUNT_LIMIT)
                good = fail(problem, "%s: the NRRD header is longer than %d lines", path, LINE_COUNT_LIMIT);
        }
    }
    free(line);
    return good;
}

/* Refuses layouts of the data that are not read, with the remedy. */
static bool check_layout(const nrrd_header* header, const char* path, problem* problem) {
    char* const* text = header->text;
    for (int field = NRRD_TYPE; field <= NRRD_ENCODING; field++)
        if (text[field] == NULL && field != NRRD_ENDIAN)
            return fail(problem, "%s: the field '%s' is missing: save the volume again", path, FIELDS[field].name);
    if (text[NRRD_DATA_FILE] != NULL) {
        return fail(problem,
                    "%s: detached data ('data file: %s') is not read: save the volume as "
                    "one .nrrd file with attached data",
                    path, text[NRRD_DATA_FILE]);
    }
    if (text[NRRD_OLD_MIN] != NULL || text[NRRD_OLD_MAX] != NULL)
        return fail(problem, "%s: its values are quantized ('old min', 'old max'): restore them first (unu unquantize)",
                    path);
    for (int field = NRRD_LINE_SKIP; field <= NRRD_BYTE_SKIP; field++) {
        if (text[field] != NULL && strcmp(text[field], "0") != 0) {
            return fail(problem, "%s: '%s: %s' is not read: save the volume without it", path, FIELDS[field].name,
                        text[field]);
        }
    }
    if (strcmp(text[NRRD_DIMENSION], "3") != 0)
        return fail(problem, "%s: dimension %s: only volumes of 3 axes are read: save one volume alone", path,
                    text[NRRD_DIMENSION]);
    return true;
}

static bool interpret_type(nrrd_header* out, const char* path, problem* problem) {
    const char* name = out->text[NRRD_TYPE];
    for (size_t type = 0; type < sizeof TYPES / sizeof TYPES[0]; type++) {
        for (const char* const* s = TYPES[type].spellings; *s != NULL; s++) {
            if (strcasecmp(*s, name) == 0) {
                out->voxel_type = TYPES[type].voxel_type;
                out->voxel_bytes = TYPES[type].bytes;
                return true;
            }
        }
    }
    return fail(problem,
                "%s: voxels of type '%s' are not read: use int8, uint8, int16, uint16, "
                "int32, float or double",
                path, name);
}

static bool interpret_byte_order(nrrd_header* out, const char* path, problem* problem) {
    const uint16_t one = 1;
    bool little_machine = *(const unsigned char*)&one == 1;
    const char* name = out->text[NRRD_ENDIAN];
    if (name == NULL && out->voxel_bytes > 1) {
        return fail(problem,
                    "%s: the field 'endian' is missing: add 'endian: little' or "
                    "'endian: big'",
                    path);
    }
    bool little_file = name != NULL && strcasecmp(name, "little") == 0;
    if (name != NULL && !little_file && strcasecmp(name, "big") != 0)
        return fail(problem, "%s: endian '%s': must be little or big", path, name);
    out->swapped = out->voxel_bytes > 1 && little_file != little_machine;
    return true;
}

static bool interpret_sizes(nrrd_header* out, const char* path, problem* problem) {
    const char* text = out->text[NRRD_SIZES];
    uint64_t bytes = out->voxel_bytes;
    for (int axis = 0; axis < NRRD_AXES; axis++) {
        char* end;
        errno = 0;
        text += strspn(text, " \t");
        unsigned long long size = strtoull(text, &end, 10);
        if (!isdigit((unsigned char)*text) || errno != 0 || size == 0)
            return fail(problem, "%s: sizes '%s': must be three whole numbers above 0", path, out->text[NRRD_SIZES]);
        if (size > PTRDIFF_MAX / bytes)
            return fail(problem, "%s: sizes '%s': no machine holds that many voxels", path, out->text[NRRD_SIZES]);
        bytes *= size;
        out->size[axis] = size;
        text = end;
    }
    if (*text != '\0')
        return fail(problem, "%s: sizes '%s': must be three whole numbers above 0", path, out->text[NRRD_SIZES]);
    out->data_bytes = (size_t)bytes;
    out->voxel_count = bytes / out->voxel_bytes;
    return true;
}

/* Axes of colours, times or vectors are not a volume's. */
static bool check_kinds(const nrrd_header* header, const char* path, problem* problem) {
    static const char* const SPATIAL[] = {"domain", "space", "???", "none"};
    const char* kind = header->text[NRRD_KINDS];
    int axes = 0;
    while (kind != NULL && *kind != '\0') {
        size_t length = strcspn(kind, " \t");
        bool spatial = false;
        for (size_t i = 0; i < sizeof SPATIAL / sizeof SPATIAL[0]; i++)
            spatial |= strlen(SPATIAL[i]) == length && strncasecmp(SPATIAL[i], kind, length) == 0;
        axes++;
        if (!spatial) {
            return fail(problem,
                        "%s: axis %d is of kind '%.*s': only volumes of three spatial axes "
                        "are read",
                        path, axes, (int)length, kind);
        }
        kind += length;
        kind += strspn(kind, " \t");
    }
    return kind == NULL || axes == NRRD_AXES ||
           fail(problem, "%s: kinds '%s': must be one for each of the 3 axes", path, header->text[NRRD_KINDS]);
}

bool nrrd_read_header(nrrd_header* out, FILE* file, const char* path, problem* problem) {
    grid_placement unused;
    return read_lines(out, file, path, problem) && check_layout(out, path, problem) &&
           interpret_type(out, path, problem) && interpret_byte_order(out, path, problem) &&
           interpret_sizes(out, path, problem) && check_kinds(out, path, problem) &&
           grid_placement_read(&unused, out, path, problem);
}

void nrrd_free_header(nrrd_header* header) {
    for (int field = 0; field < NRRD_FIELD_COUNT; field++) free(header->text[field]);
}
