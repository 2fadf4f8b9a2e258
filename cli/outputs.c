#define _XOPEN_SOURCE 700
#include "outputs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "interrupt.h"
#include "system.h"

enum {
    CHUNK_BYTES = 1 << 24, /* between two looks at the interrupt flag */
    NAME_BYTES = 200       /* of a long name, that the temporary one still fits the file system */
};

/* Which file a path means, whether it exists yet or not. */
typedef struct file_identity {
    bool known;
    system_file file; /* the file, or its directory */
    const char* name; /* in that directory; "" where the file exists */
} file_identity;

static const char* name_in(const char* path) {
    const char* name = path;
    for (const char* c = path; *c != '\0'; c++)
        if (strchr(SYSTEM_SEPARATORS, *c) != NULL) name = c + 1;
    return name;
}

static file_identity identify(const char* path) {
    file_identity identity = {.name = ""};
    identity.known = system_find(&identity.file, path);
    if (!identity.known) {
        char* directory = strdup(path);
        if (directory != NULL) {
            size_t length = (size_t)(name_in(path) - path);
            strcpy(directory + length, length == 0 ? "." : "");
            identity.known = system_find(&identity.file, directory);
            identity.name = name_in(path);
            free(directory);
        }
    }
    return identity;
}

static bool same_file(const char* a, const char* b) {
    file_identity first = identify(a), second = identify(b);
    return strcmp(a, b) == 0 || (first.known && second.known && first.file.device == second.file.device &&
                                 first.file.number == second.file.number && system_same_name(first.name, second.name));
}

bool outputs_check_paths(const char* const outputs[], size_t count, const char* const inputs[], size_t input_count,
                         problem* problem) {
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; outputs[i] != NULL && j < input_count; j++)
            if (inputs[j] != NULL && same_file(outputs[i], inputs[j]))
                return misuse(problem, "%s: is an input and an output", outputs[i]);
        for (size_t j = 0; outputs[i] != NULL && j < i; j++)
            if (outputs[j] != NULL && same_file(outputs[i], outputs[j]))
                return misuse(problem, "%s: is the name of two outputs", outputs[i]);
    }
    return true;
}

/* "there/.NAME.XXXXXX" for "there/NAME" */
static char* temporary_name(const char* target) {
    const char* name = name_in(target);
    size_t bytes = strlen(target) + sizeof "..XXXXXX";
    char* temporary = malloc(bytes);
    if (temporary != NULL)
        snprintf(temporary, bytes, "%.*s.%.*s.XXXXXX", (int)(name - target), target, NAME_BYTES, name);
    return temporary;
}

/* A new file as open(2) would make it; mkstemp makes it for the owner only. */
static FILE* create(char* temporary) {
    int descriptor = mkstemp(temporary);
    if (descriptor < 0) return NULL;
    FILE* stream = NULL;
    if (system_permit(descriptor)) stream = fdopen(descriptor, "wb");
    if (stream == NULL) {
        int reason = errno;
        close(descriptor);
        unlink(temporary);
        errno = reason;
    }
    return stream;
}

/* Removes the file unless it is committed; under its own name where a later one of the set could not be renamed. */
static void remove_temporary(output_file* file) {
    if (file->stream != NULL) fclose(file->stream);
    if (file->temporary != NULL) unlink(file->renamed ? file->target : file->temporary);
    free(file->temporary);
    file->stream = NULL;
    file->temporary = NULL;
}

output_file* outputs_add(output_set* set, const char* path, problem* problem) {
    struct stat status;
    if (stat(path, &status) == 0 && !S_ISREG(status.st_mode)) {
        fail(problem, "%s: not a regular file", path);
        return NULL;
    }
    if (set->count == OUTPUT_LIMIT) {
        fail(problem, "%s: one output too many", path);
        return NULL;
    }
    output_file* file = &set->file[set->count++];
    *file = (output_file){.path = path, .target = system_resolve(path)};
    if (file->target == NULL) file->target = strdup(path); /* does not exist yet */
    if (!outputs_open(file, problem)) return NULL;
    remove_temporary(file);
    return file;
}

bool outputs_open(output_file* file, problem* problem) {
    file->temporary = file->target != NULL ? temporary_name(file->target) : NULL;
    file->stream = file->temporary != NULL ? create(file->temporary) : NULL;
    if (file->stream != NULL) return true;
    fail(problem, "%s: %s", file->path, strerror(errno));
    free(file->temporary);
    file->temporary = NULL;
    return false;
}

bool outputs_write(output_file* file, const void* data, size_t bytes, problem* problem) {
    const unsigned char* from = data;
    while (bytes > 0) {
        size_t chunk = bytes < CHUNK_BYTES ? bytes : CHUNK_BYTES;
        size_t written = fwrite(from, 1, chunk, file->stream);
        if (interrupted() || written != chunk) return fail(problem, "%s: %s", file->path, strerror(errno));
        from += chunk;
        bytes -= chunk;
    }
    return true;
}

bool outputs_close(output_file* file, problem* problem) {
    FILE* stream = file->stream;
    file->stream = NULL;
    errno = EIO; /* for an error that an earlier write left in the stream */
    bool good = !ferror(stream) && fflush(stream) == 0 && system_sync(fileno(stream));
    int reason = errno;
    if (fclose(stream) != 0 && good) {
        good = false;
        reason = errno;
    }
    return good || fail(problem, "%s: %s", file->path, strerror(reason));
}

bool outputs_commit(output_set* set, problem* problem) {
    for (size_t i = 0; i < set->count; i++) {
        output_file* file = &set->file[i];
        if (!system_replace(file->temporary, file->target)) return fail(problem, "%s: %s", file->path, strerror(errno));
        file->renamed = true;
    }
    for (size_t i = 0; i < set->count; i++) {
        free(set->file[i].temporary);
        set->file[i].temporary = NULL;
    }
    return true;
}

void outputs_discard(output_set* set) {
    for (size_t i = 0; i < set->count; i++) {
        remove_temporary(&set->file[i]);
        free(set->file[i].target);
    }
    set->count = 0;
}
