/*
 * What: output queue of a connection: bytes to be sent, in order, as slices of chunks. Small things
 * are written straight into the tail chunk (4 KiB at first, doubling to 64 KiB as it is used), big
 * bodies are referenced without a copy. What has been taken for writing is the taker's (references
 * move out); further output goes on in the same chunk behind it, and a chunk that nobody else holds
 * any more is used again from its start. Threads: one owner; the slices taken may be released on
 * any thread.
 */
#ifndef WR_OUTQ_H
#define WR_OUTQ_H

#include "warren/buf.h"

struct outq {
    struct buf *spare;   /* The full-size chunk before tail, to be used again when released. */
    struct buf *tail;    /* Chunk being filled, or NULL. Written only beyond tail_used. */
    uint32_t tail_begin; /* [tail_begin, tail_used) is queued, behind all of parts. */
    uint32_t tail_used;
    uint32_t parts_first; /* Ring of finished parts: position of the oldest. */
    uint32_t parts_count;
    uint32_t parts_capacity; /* Power of two, or 0. */
    struct slice *parts;
    uint64_t size; /* Bytes queued and not taken. */
};

void outq_init(struct outq *q);

/* Drop all that is queued and all memory; the queue is then empty and usable. */
void outq_deinit(struct outq *q);

/* Slow paths. */
uint8_t *outq__reserve_slow(struct outq *q, uint32_t size);

/*
 * `size` contiguous writable bytes at the end, which count only when committed. Valid until the
 * next call on the queue. More than a chunk is allowed (it then gets a buffer of its own size).
 */
static inline uint8_t *outq_reserve(struct outq *q, uint32_t size)
{
    if (WR_UNLIKELY(q->tail == NULL || q->tail->capacity - q->tail_used < size)) {
        return outq__reserve_slow(q, size);
    }
    return q->tail->data + q->tail_used;
}

/* The first `size` bytes of what was reserved are output now. */
static inline void outq_commit(struct outq *q, uint32_t size)
{
    WR_ASSERT(q->tail != NULL && size <= q->tail->capacity - q->tail_used);
    q->tail_used += size;
    q->size += size;
}

/* Append a copy of any number of bytes (spread over chunks as it fits). */
void outq_append_bytes(struct outq *q, const void *data, size_t size);

/* Append by reference: takes a reference of its own, the caller keeps his. Small slices (up to
 * OUTQ_COPY_MAX bytes) are copied, which is cheaper. */
void outq_append_slice(struct outq *q, const struct slice *s);

#define OUTQ_COPY_MAX 512

/* Give the chunk back if nothing is queued: for a connection that has become idle. */
void outq_trim(struct outq *q);

/* Bytes queued. */
static inline uint64_t outq_size(const struct outq *q)
{
    return q->size;
}

static inline bool outq_is_empty(const struct outq *q)
{
    return q->size == 0;
}

/*
 * Move up to `max` slices (max > 0), oldest first, out of the queue into out[0..result): the caller
 * owns their references and sends them in that order. None is empty. 0 when the queue is empty.
 */
int outq_take(struct outq *q, struct slice *out, int max);

#endif
