/*
 * What: the slow paths of buffers and of the chunk arena; the fast ones are inline in buf.h.
 * Invariants: I1 size <= capacity <= BUF_CAPACITY_MAX. I2 the arena's current chunk has
 * CHUNK_REFS_BIAS references minus those that were handed out and dropped already, so it cannot die
 * under the arena. Ownership: a buffer belongs to its references; the arena holds what it has not
 * handed out. Threads: see buf.h.
 */
#include "warren/buf.h"

/* Slices above this get a buffer of their own: at most a quarter of a chunk is wasted. */
#define ARENA_SMALL_MAX (BUF_CHUNK_SIZE / 4)

/* Up to here a small buffer is copied rather than cut: the rest would be a hole that is too small
 * for the next one. */
#define FIT_COPY_MAX 8192u

static_assert(offsetof(struct buf, data) % 16 == 0, "data must be aligned for any type");
static_assert(BUF_CHUNK_SIZE % 8 == 0, "chunk_alloc rounds sizes up to 8 within the chunk");

static struct buf *buf_setup(struct buf *b, size_t capacity)
{
    atomic_init(&b->refs, 1);
    b->capacity = (uint32_t)capacity;
    b->size = 0;
    b->reserved = 0;
    return b;
}

struct buf *buf_new(size_t capacity)
{
    WR_ASSERT_OP(capacity, <=, BUF_CAPACITY_MAX);
    return buf_setup(wr_alloc(sizeof(struct buf) + capacity), capacity);
}

struct buf *buf_try_new(size_t capacity)
{
    if (capacity > BUF_CAPACITY_MAX) {
        return NULL;
    }
    struct buf *b = wr_try_alloc(sizeof(struct buf) + capacity);
    return b == NULL ? NULL : buf_setup(b, capacity);
}

struct buf *buf_from(const void *data, size_t size)
{
    struct buf *b = buf_new(size);
    if (size > 0) {
        memcpy(b->data, data, size);
    }
    b->size = (uint32_t)size;
    return b;
}

void buf_reserve(struct buf **b, size_t extra)
{
    struct buf *old = *b;
    WR_ASSERT_OP(old->size, <=, old->capacity);
    WR_ASSERT(!buf_is_shared(old));
    if (old->capacity - old->size >= extra) {
        return;
    }
    WR_ASSERT_OP(extra, <=, BUF_CAPACITY_MAX - old->size);
    size_t capacity = (size_t)old->capacity * 2;
    if (capacity < old->size + extra) {
        capacity = old->size + extra;
    }
    if (capacity < 64) {
        capacity = 64;
    }
    if (capacity > BUF_CAPACITY_MAX) {
        capacity = BUF_CAPACITY_MAX;
    }
    struct buf *grown = wr_realloc(old, sizeof(struct buf) + capacity);
    grown->capacity = (uint32_t)capacity;
    *b = grown;
}

void buf_fit(struct buf **b)
{
    struct buf *old = *b;
    WR_ASSERT(!buf_is_shared(old));
    if (old->capacity - old->size <= old->capacity / 4) {
        return;
    }
    if (old->capacity > FIT_COPY_MAX) {
        struct buf *cut = wr_realloc(old, sizeof(struct buf) + old->size);
        cut->capacity = cut->size;
        *b = cut;
        return;
    }
    *b = buf_from(old->data, old->size);
    wr_free(old);
}

void buf__free(struct buf *owned_b)
{
    wr_free(owned_b);
}

void chunk_arena_deinit(struct chunk_arena *arena)
{
    struct buf *chunk = arena->chunk;
    if (chunk != NULL) {
        WR_ASSERT_OP(arena->handed, <, CHUNK_REFS_BIAS);
        /* What was never handed out is ours to give back; the last of all references frees. */
        const uint32_t left = CHUNK_REFS_BIAS - arena->handed;
        if (atomic_fetch_sub_explicit(&chunk->refs, left, memory_order_acq_rel) == left) {
            buf__free(chunk);
        }
    }
    *arena = (struct chunk_arena){NULL, 0, 0};
}

uint8_t *chunk__alloc_slow(struct chunk_arena *arena, uint32_t size, struct slice *ret_slice)
{
    if (size > ARENA_SMALL_MAX) {
        struct buf *own = buf_new(size);
        own->size = size;
        *ret_slice = (struct slice){own, 0, size};
        return own->data;
    }
    chunk_arena_deinit(arena);
    arena->chunk = buf_new(BUF_CHUNK_SIZE);
    arena->chunk->size = BUF_CHUNK_SIZE;
    atomic_store_explicit(&arena->chunk->refs, CHUNK_REFS_BIAS, memory_order_relaxed);
    return chunk_alloc(arena, size, ret_slice);
}
