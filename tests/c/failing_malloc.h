/* malloc and its like as this program's own, in front of the C library's: an allocation fails where the program says so. For one
 * source file of a program. */
#ifndef FAILING_MALLOC_H
#define FAILING_MALLOC_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>

/* The program's: whether the allocation that is asked for fails. Any thread. */
bool allocation_refused(void);

static bool refuse(void) {
    if (!allocation_refused()) return false;
    errno = ENOMEM;
    return true;
}

void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t count, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t alignment, size_t bytes);

void* malloc(size_t bytes) { return refuse() ? NULL : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return refuse() ? NULL : __libc_calloc(count, bytes); }
void* realloc(void* old, size_t bytes) { return refuse() ? NULL : __libc_realloc(old, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) { return refuse() ? NULL : __libc_memalign(alignment, bytes); }

int posix_memalign(void** out, size_t alignment, size_t bytes) {
    void* memory = aligned_alloc(alignment, bytes);
    if (memory != NULL) *out = memory;
    return memory != NULL ? 0 : ENOMEM;
}

#endif
