/* What POSIX systems and Windows do differently with files and terminals; interrupt.c has their signals. Functions set errno
 * where they fail. */
#ifndef SEGMENT_SYSTEM_H
#define SEGMENT_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

#ifdef _WIN32
#define SYSTEM_SEPARATORS "/\\:"
#else
#define SYSTEM_SEPARATORS "/"
#endif

/* A file or directory, by whichever path. */
typedef struct system_file {
    uint64_t device, number;
} system_file;

/* Which file `path` is; false where there is none. */
bool system_find(system_file* out, const char* path);

/* Whether two names in a directory are one: Windows does not tell upper from lower case. */
bool system_same_name(const char* a, const char* b);

/* The file's absolute path, to be freed, on POSIX with symbolic links resolved; NULL where there is none. */
char* system_resolve(const char* path);

/* Gives a file of mkstemp, which is for its owner only, the permissions that open(2) would. */
bool system_permit(int descriptor);

/* The file's data are on the disk, where it has one. */
bool system_sync(int descriptor);

/* Renames a file, in the place of the one that may have the name. */
bool system_replace(const char* from, const char* to);

/* Whether stderr is a terminal, which understands escape sequences. */
bool system_stderr_is_terminal(void);

#endif
