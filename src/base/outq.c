/*
 * What: output queue of a connection: a ring of finished parts (slices) and, behind them, the part
 * of the tail chunk that is being written. Invariants: I1 size = sum of the parts + (tail_used -
 * tail_begin). I2 tail_begin <= tail_used <= capacity. I3 bytes of the tail below tail_used are
 * never written again, unless nobody else holds the chunk and nothing of it is queued: then it is
 * used again from its start. Ownership: each part and the tail hold one reference.
 */
#include "warren/outq.h"

#define CHUNK_SIZE_MIN UINT32_C(4096)
#define PARTS_MIN      8

void outq_init(struct outq *q)
{
    *q = (struct outq){.tail = NULL};
}

static struct slice *part_at(const struct outq *q, uint32_t index)
{
    return &q->parts[(q->parts_first + index) & (q->parts_capacity - 1)];
}

void outq_deinit(struct outq *q)
{
    for (uint32_t i = 0; i < q->parts_count; i++) {
        slice_unref(part_at(q, i));
    }
    wr_free(q->parts);
    buf_unref(q->tail);
    buf_unref(q->spare);
    outq_init(q);
}

static void parts_grow(struct outq *q)
{
    WR_ASSERT_OP(q->parts_capacity, <, UINT32_MAX / 2);
    const uint32_t capacity = q->parts_capacity == 0 ? PARTS_MIN : q->parts_capacity * 2;
    struct slice *parts = wr_realloc_array(NULL, capacity, sizeof(struct slice));
    for (uint32_t i = 0; i < q->parts_count; i++) {
        parts[i] = *part_at(q, i);
    }
    wr_free(q->parts);
    q->parts = parts;
    q->parts_first = 0;
    q->parts_capacity = capacity;
}

static void push_part(struct outq *q, struct slice owned_part)
{
    if (q->parts_count == q->parts_capacity) {
        parts_grow(q);
    }
    q->parts_count++;
    *part_at(q, q->parts_count - 1) = owned_part;
}

/* The queued part of the tail with a reference of its own; the tail goes on behind it. */
static struct slice cut_tail(struct outq *q)
{
    const uint32_t size = q->tail_used - q->tail_begin;
    const struct slice part = {buf_ref(q->tail), q->tail_begin, size};
    q->tail_begin = q->tail_used;
    return part;
}

static void seal_tail(struct outq *q)
{
    if (q->tail_begin != q->tail_used) {
        push_part(q, cut_tail(q));
    }
}

/* The tail is full: put it aside, and give back what was aside. */
static void retire_tail(struct outq *q)
{
    seal_tail(q);
    if (q->tail->capacity == BUF_CHUNK_SIZE) {
        buf_unref(q->spare);
        q->spare = q->tail;
    } else {
        buf_unref(q->tail);
    }
    q->tail = NULL;
}

uint8_t *outq__reserve_slow(struct outq *q, uint32_t size)
{
    uint32_t capacity = CHUNK_SIZE_MIN;
    struct buf *again = NULL;
    if (q->tail != NULL) {
        capacity = q->tail->capacity < BUF_CHUNK_SIZE / 2 ? q->tail->capacity * 2 : BUF_CHUNK_SIZE;
        /* All of the spare one sent and released: nobody can see its bytes any more (I3). */
        if (q->spare != NULL && size <= BUF_CHUNK_SIZE && !buf_is_shared(q->spare)) {
            again = q->spare;
            q->spare = NULL;
        }
        retire_tail(q);
    }
    capacity = capacity < size ? size : capacity;
    q->tail = again != NULL ? again : buf_new(capacity);
    q->tail->size = q->tail->capacity;
    q->tail_begin = 0;
    q->tail_used = 0;
    return q->tail->data;
}

void outq_append_bytes(struct outq *q, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size > 0) {
        const uint32_t want = size < BUF_CHUNK_SIZE ? (uint32_t)size : BUF_CHUNK_SIZE;
        uint32_t room = q->tail == NULL ? 0 : q->tail->capacity - q->tail_used;
        if (room == 0) {
            (void)outq__reserve_slow(q, want);
            room = q->tail->capacity;
        }
        const uint32_t part = room < want ? room : want;
        memcpy(q->tail->data + q->tail_used, at, part);
        outq_commit(q, part);
        at += part;
        size -= part;
    }
}

void outq_append_slice(struct outq *q, const struct slice *s)
{
    if (s->size <= OUTQ_COPY_MAX) {
        outq_append_bytes(q, slice_data(s), s->size);
        return;
    }
    if (q->tail != NULL) {
        seal_tail(q);
    }
    push_part(q, slice_ref(s));
    q->size += s->size;
}

void outq_trim(struct outq *q)
{
    if (q->size == 0) {
        outq_deinit(q);
    }
}

int outq_take(struct outq *q, struct slice *out, int max)
{
    WR_ASSERT(max > 0);
    int taken = 0;
    while (taken < max && q->parts_count > 0) {
        out[taken] = *part_at(q, 0);
        q->parts_first = (q->parts_first + 1) & (q->parts_capacity - 1);
        q->parts_count--;
        q->size -= out[taken].size;
        taken++;
    }
    if (taken < max && q->tail_begin != q->tail_used) {
        out[taken] = cut_tail(q);
        q->size -= out[taken].size;
        taken++;
    }
    return taken;
}
