/*
 * What: reference-counted byte buffers, slices of them, and an arena that cuts many small slices
 * out of 64 KiB buffers without an allocation or an atomic operation each. Invariant: bytes of a
 * buffer are written only by the one who made it, and before the slice that covers them is shown to
 * anybody else; after that they are immutable. Threads: buf_ref, buf_unref and reading from any
 * thread; everything else by the owner.
 */
#ifndef WR_BUF_H
#define WR_BUF_H

#include <stdatomic.h>
#include <string.h>

#include "warren/assert.h"
#include "warren/mem.h"

#define BUF_CAPACITY_MAX UINT32_C(0xfffffff0)
#define BUF_CHUNK_SIZE   (UINT32_C(64) * 1024)

struct buf {
    _Atomic uint32_t refs;
    uint32_t capacity; /* Bytes allocated in data. */
    uint32_t size;     /* Bytes in use, for a buffer that is filled by buf_append or a writer. */
    uint32_t reserved; /* Keeps data aligned to 16 bytes. */
    uint8_t data[];
};

/* A part of a buffer. A slice that is kept holds one reference of its buffer; one that is passed to
 * a function is borrowed unless the parameter is called owned_. buf NULL = no slice. */
struct slice {
    struct buf *buf;
    uint32_t offset;
    uint32_t size;
};

#define SLICE_NONE ((struct slice){NULL, 0, 0})

/* A buffer of size 0 with one reference, the caller's. Aborts when memory is out. */
struct buf *buf_new(size_t capacity) __attribute__((returns_nonnull));

/* The same, but NULL when memory is out or capacity is over BUF_CAPACITY_MAX. */
struct buf *buf_try_new(size_t capacity) WR_MUST_USE;

/* A buffer that holds a copy of `size` bytes. */
struct buf *buf_from(const void *data, size_t size) __attribute__((returns_nonnull));

/* Make room for `extra` more bytes after size; the buffer must not be shared; may move it. */
void buf_reserve(struct buf **b, size_t extra);

/* Gives back the room behind size, if it is more than a quarter; the buffer must not be shared; may
 * move it. */
void buf_fit(struct buf **b);

/* Slow path of buf_unref: the last reference is gone. */
void buf__free(struct buf *owned_b);

static inline struct buf *buf_ref(struct buf *b)
{
    atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
    return b;
}

/* Drop one reference; the last one frees. NULL is allowed. Any thread. */
static inline void buf_unref(struct buf *b)
{
    if (b == NULL) {
        return;
    }
    /* A count of one that we hold cannot grow under us: no read-modify-write needed. */
    if (atomic_load_explicit(&b->refs, memory_order_acquire) == 1 ||
        atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1) {
        buf__free(b);
    }
}

/* True when somebody else may hold a reference too (never a wrong false). */
static inline bool buf_is_shared(const struct buf *b)
{
    return atomic_load_explicit(&b->refs, memory_order_acquire) != 1;
}

/* Append a copy; grows (and then moves) the buffer, which must not be shared yet. */
static inline void buf_append(struct buf **b, const void *data, size_t size)
{
    if (WR_UNLIKELY((*b)->capacity - (*b)->size < size)) {
        buf_reserve(b, size);
    }
    if (size > 0) {
        memcpy((*b)->data + (*b)->size, data, size);
        (*b)->size += (uint32_t)size;
    }
}

/* The bytes of the slice; NULL for SLICE_NONE. Valid as long as a reference is held. */
static inline const uint8_t *slice_data(const struct slice *s)
{
    return s->buf == NULL ? NULL : s->buf->data + s->offset;
}

/* Take one more reference, for the copy that is returned. SLICE_NONE is allowed. */
static inline struct slice slice_ref(const struct slice *s)
{
    if (s->buf != NULL) {
        buf_ref(s->buf);
    }
    return *s;
}

/* Give back the reference that the slice holds; it is then SLICE_NONE (and may be given already).
 */
static inline void slice_unref(struct slice *s)
{
    buf_unref(s->buf);
    *s = SLICE_NONE;
}

/* The part [offset, offset + size) of s; borrowed: slice_ref it to keep it. */
static inline struct slice slice_sub(const struct slice *s, uint32_t offset, uint32_t size)
{
    WR_ASSERT(offset <= s->size && size <= s->size - offset);
    return (struct slice){s->buf, s->offset + offset, size};
}

/* All of [0, b->size). Consumes the caller's reference of b. */
static inline struct slice slice_of_buf(struct buf *owned_b)
{
    return (struct slice){owned_b, 0, owned_b->size};
}

/* A slice with a buffer of its own that holds a copy. The caller owns the reference. */
static inline struct slice slice_copy(const void *data, size_t size)
{
    return slice_of_buf(buf_from(data, size));
}

/*
 * Arena. All references that the current chunk can ever hand out are added to its count beforehand
 * and what is left is taken off when the chunk is retired, so that chunk_alloc is a bump of a
 * pointer. Zero-initialised = empty and usable. One thread at a time; the slices go anywhere.
 */
struct chunk_arena {
    struct buf *chunk; /* Current chunk or NULL. */
    uint32_t used;     /* Bytes of it handed out, a multiple of 8. */
    uint32_t handed;   /* References of it handed out. */
};

#define CHUNK_REFS_BIAS (UINT32_C(1) << 30)

/* Give up the current chunk (the slices live on). The arena is then empty and usable. */
void chunk_arena_deinit(struct chunk_arena *arena);

uint8_t *chunk__alloc_slow(struct chunk_arena *arena, uint32_t size, struct slice *ret_slice);

/*
 * `size` writable bytes, 8-aligned, as a slice that the caller owns one reference of. The result is
 * slice_data(ret_slice), writable until the slice is shown to another holder.
 * A kept slice keeps its whole 64 KiB chunk; sizes over 16 KiB get a buffer of their own.
 */
static inline uint8_t *chunk_alloc(struct chunk_arena *arena, uint32_t size,
                                   struct slice *ret_slice)
{
    struct buf *chunk = arena->chunk;
    const uint32_t used = arena->used;
    if (WR_UNLIKELY(chunk == NULL || size > chunk->capacity - used ||
                    arena->handed >= CHUNK_REFS_BIAS / 2)) {
        return chunk__alloc_slow(arena, size, ret_slice);
    }
    /* The chunk's capacity is a multiple of 8, so rounding up cannot pass its end. */
    arena->used = used + ((size + 7) & ~UINT32_C(7));
    arena->handed++;
    *ret_slice = (struct slice){chunk, used, size};
    return chunk->data + used;
}

#endif
