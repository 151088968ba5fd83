/*
 * What: allocation. The wr_alloc family aborts when memory is out (small things whose number is
 * limited elsewhere); sizes that a client chooses go through wr_try_alloc, which returns NULL.
 * Memory from either is given back with wr_free. Threads: any.
 */
#ifndef WR_MEM_H
#define WR_MEM_H

#include "warren/assert.h"

/* Give memory back; NULL is allowed. */
void wr_free(void *owned_memory);

/* `size` bytes, not cleared, aligned for any type; never NULL (size 0 gives a unique pointer). */
void *wr_alloc(size_t size) __attribute__((malloc, alloc_size(1), returns_nonnull));

/* `count` items of `size` bytes, cleared; aborts when the product overflows. */
void *wr_calloc(size_t count, size_t size)
    __attribute__((malloc, alloc_size(1, 2), returns_nonnull));

/* Resize (memory may be NULL); the old pointer is gone. Aborts on exhaustion. */
void *wr_realloc(void *owned_memory, size_t size)
    __attribute__((alloc_size(2), returns_nonnull, warn_unused_result));

/* wr_realloc to count * size bytes; aborts when the product overflows. */
void *wr_realloc_array(void *owned_memory, size_t count, size_t size)
    __attribute__((alloc_size(2, 3), returns_nonnull, warn_unused_result));

/* A copy of the text (not NULL), of `size` bytes plus a NUL for the second one. */
char *wr_strdup(const char *text) __attribute__((malloc, returns_nonnull));
char *wr_strndup(const char *text, size_t size) __attribute__((malloc, returns_nonnull));

/* A copy of `size` bytes (data may be NULL when size is 0). */
void *wr_memdup(const void *data, size_t size) __attribute__((malloc, returns_nonnull));

/* Like wr_alloc, but NULL when memory is out. */
void *wr_try_alloc(size_t size) __attribute__((malloc, alloc_size(1), warn_unused_result));

/* Like wr_realloc, but NULL when memory is out, and the old memory is then untouched. */
void *wr_try_realloc(void *memory, size_t size) __attribute__((alloc_size(2), warn_unused_result));

/*
 * Tests: let the n-th wr_try_alloc or wr_try_realloc from now fail (1 = the next one), and all
 * after it until the next call; 0 switches failing off. Process-wide.
 */
void wr_mem_fail_try_alloc(uint64_t nth);

/* Tests: number of wr_try_* calls since the last wr_mem_fail_try_alloc. */
uint64_t wr_mem_try_count(void);

#endif
