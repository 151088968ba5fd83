#ifndef WR_OS_SENDQ_H
#define WR_OS_SENDQ_H
/*
 * Slices on their way to a socket, in order. Zeroed = empty and usable. Each holds a reference of
 * its buffer until its bytes are consumed.
 */
#include "warren/buf.h"
#include "warren/vec.h"

struct sendq {
    VEC(struct slice) slices; /* from head on */
    size_t head;
    size_t size; /* bytes */
};

static inline void sendq_push(struct sendq *q, struct slice owned)
{
    if (owned.size == 0) {
        slice_unref(&owned);
        return;
    }
    if (q->head > 1024 && q->head > q->slices.count / 2) {
        q->slices.count -= q->head;
        memmove(q->slices.items, q->slices.items + q->head,
                q->slices.count * sizeof *q->slices.items);
        q->head = 0;
    }
    vec_push(&q->slices, owned);
    q->size += owned.size;
}

static inline void sendq_consume(struct sendq *q, size_t bytes)
{
    WR_ASSERT_OP(bytes, <=, q->size);
    q->size -= bytes;
    while (bytes > 0) {
        struct slice *s = &q->slices.items[q->head];
        if (bytes < s->size) {
            s->offset += (uint32_t)bytes;
            s->size -= (uint32_t)bytes;
            break;
        }
        bytes -= s->size;
        slice_unref(s);
        q->head++;
    }
    if (q->head == q->slices.count) {
        q->head = 0;
        q->slices.count = 0;
    }
}

static inline void sendq_deinit(struct sendq *q)
{
    for (size_t i = q->head; i < q->slices.count; i++) {
        slice_unref(&q->slices.items[i]);
    }
    vec_deinit(&q->slices);
    q->head = 0;
    q->size = 0;
}

#endif
