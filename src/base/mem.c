/*
 * What: the only file that calls the C allocator.
 * Failure modes: the wr_alloc family ends the process; wr_try_* return NULL, really or because a
 * test asked for it. Threads: any. The failure counter is process-wide and atomic.
 */
#include "warren/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Test hook: calls seen since it was set, and the first call that fails (0: none). */
static _Atomic uint64_t try_count;
static _Atomic uint64_t try_fail_from;

WR_NORETURN WR_COLD static void out_of_memory(size_t size)
{
    wr_panic("out of memory: allocation of %zu bytes failed", size);
}

/* A size of 0 must give a pointer too: NULL means failure. */
static size_t at_least_one(size_t size)
{
    return size == 0 ? 1 : size;
}

static size_t product(size_t count, size_t size)
{
    size_t bytes;
    if (WR_UNLIKELY(__builtin_mul_overflow(count, size, &bytes))) {
        wr_panic("out of memory: allocation of %zu items of %zu bytes", count, size);
    }
    return bytes;
}

void wr_free(void *owned_memory)
{
    free(owned_memory);
}

void *wr_alloc(size_t size)
{
    void *memory = malloc(at_least_one(size));
    if (WR_UNLIKELY(memory == NULL)) {
        out_of_memory(size);
    }
    return memory;
}

void *wr_calloc(size_t count, size_t size)
{
    void *memory = calloc(1, at_least_one(product(count, size)));
    if (WR_UNLIKELY(memory == NULL)) {
        out_of_memory(count * size);
    }
    return memory;
}

void *wr_realloc(void *owned_memory, size_t size)
{
    void *memory = realloc(owned_memory, at_least_one(size));
    if (WR_UNLIKELY(memory == NULL)) {
        out_of_memory(size);
    }
    return memory;
}

void *wr_realloc_array(void *owned_memory, size_t count, size_t size)
{
    return wr_realloc(owned_memory, product(count, size));
}

void *wr_memdup(const void *data, size_t size)
{
    void *memory = wr_alloc(size);
    if (size > 0) {
        memcpy(memory, data, size);
    }
    return memory;
}

char *wr_strndup(const char *text, size_t size)
{
    char *copy = wr_alloc(size + 1);
    if (size > 0) {
        memcpy(copy, text, size);
    }
    copy[size] = '\0';
    return copy;
}

char *wr_strdup(const char *text)
{
    return wr_strndup(text, strlen(text));
}

static bool try_must_fail(void)
{
    const uint64_t call = atomic_fetch_add_explicit(&try_count, 1, memory_order_relaxed) + 1;
    const uint64_t from = atomic_load_explicit(&try_fail_from, memory_order_relaxed);
    return from != 0 && call >= from;
}

void *wr_try_alloc(size_t size)
{
    return try_must_fail() ? NULL : malloc(at_least_one(size));
}

void *wr_try_realloc(void *memory, size_t size)
{
    return try_must_fail() ? NULL : realloc(memory, at_least_one(size));
}

void wr_mem_fail_try_alloc(uint64_t nth)
{
    atomic_store_explicit(&try_count, 0, memory_order_relaxed);
    atomic_store_explicit(&try_fail_from, nth, memory_order_relaxed);
}

uint64_t wr_mem_try_count(void)
{
    return atomic_load_explicit(&try_count, memory_order_relaxed);
}
