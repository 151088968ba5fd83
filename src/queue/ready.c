/*
 * What: the ready messages: one map of runs per priority level, ordered by position, and the map of
 * all live positions.
 * Happy path: a batch enqueues n messages of one size and priority: they are gathered and put into
 * their level as one run, usually by making its last run longer.
 * Invariants: I1, I5 of queue.h; level_used has a bit for each level that is not empty.
 */
#include "queue_internal.h"

#define BITS 64u

static void add_live(struct queue *q, uint64_t position, uint64_t count)
{
    const struct range_attr attr = {.value = position};
    rangemap_insert(&q->live, position, count, &attr);
}

/* Puts messages in their place by position: new ones, and those that come back. */
void queue__ready_put(struct queue *q, const struct range_run *piece)
{
    const uint32_t level = piece->attr.d;
    WR_ASSERT_OP(level, <=, q->config.priority_max);
    WR_ASSERT_OP(piece->first, ==, piece->attr.value);
    rangemap_insert(&q->levels[level], piece->first, piece->count, &piece->attr);
    q->level_used[level / BITS] |= UINT64_C(1) << (level % BITS);
    q->ready += piece->count;
    q->bytes_ready += piece->count * piece->attr.a;
}

/* The highest level that has a message, or -1. */
static int top_level(const struct queue *q)
{
    for (int word = (int)WR_ARRAY_SIZE(q->level_used) - 1; word >= 0; word--) {
        if (q->level_used[word] != 0) {
            return word * (int)BITS + (int)BITS - 1 - __builtin_clzll(q->level_used[word]);
        }
    }
    return -1;
}

static void note_taken(struct queue *q, uint32_t level, const struct range_run *piece)
{
    WR_ASSERT_OP(q->ready, >=, piece->count);
    q->ready -= piece->count;
    q->bytes_ready -= piece->count * piece->attr.a;
    if (rangemap_is_empty(&q->levels[level])) {
        q->level_used[level / BITS] &= ~(UINT64_C(1) << (level % BITS));
    }
}

/* Takes up to `max` messages of one run, the next ones to be delivered; false when none is ready.
 */
bool queue__ready_pop(struct queue *q, uint64_t max, struct range_run *ret_piece)
{
    const int level = top_level(q);
    if (level < 0) {
        return false;
    }
    const bool found = rangemap_pop_front(&q->levels[level], max, ret_piece);
    WR_ASSERT(found);
    note_taken(q, (uint32_t)level, ret_piece);
    return true;
}

void queue__remove(struct queue_apply *a, uint64_t position, uint64_t count)
{
    const uint64_t removed = rangemap_remove(&a->queue->live, position, count, NULL, NULL);
    WR_ASSERT_OP(removed, ==, count);
    queue__emit_drop(a, position, count);
}

/* Removes all ready messages; returns how many there were. */
uint64_t queue__ready_purge(struct queue_apply *a)
{
    const uint64_t count = a->queue->ready;
    struct range_run piece;
    while (queue__ready_pop(a->queue, UINT64_MAX, &piece)) {
        queue__remove(a, piece.first, piece.count);
    }
    WR_ASSERT_OP(a->queue->ready, ==, 0);
    return count;
}

/* Puts the gathered run in its place. Must run before anything else looks at the queue. */
void queue__flush_enqueued(struct queue_apply *a)
{
    if (a->run_count == 0) {
        return;
    }
    const struct range_run piece = {
        .first = a->run_first,
        .count = a->run_count,
        .attr = {.value = a->run_first, .a = a->run_size, .d = a->run_level},
    };
    a->run_count = 0;
    add_live(a->queue, piece.first, piece.count);
    queue__ready_put(a->queue, &piece);
}

/* A queue that is being deleted takes messages as RabbitMQ does in that moment: they are confirmed
 * and are gone with it. */
void queue__enqueue(struct queue_apply *a, const struct queue_op *op)
{
    struct queue *q = a->queue;
    if (WR_UNLIKELY(queue_sealed(q))) {
        return;
    }
    const uint32_t size = message_body_size(&op->message);
    const uint8_t priority = message_priority(&op->message);
    const uint32_t level = priority < q->config.priority_max ? priority : q->config.priority_max;
    const uint64_t position = q->next_position++;
    if (a->run_count == 0 || a->run_size != size || a->run_level != level) {
        queue__flush_enqueued(a);
        a->run_first = position;
        a->run_size = size;
        a->run_level = level;
    }
    a->run_count++;
    WR_ASSERT_OP(a->run_first + a->run_count, ==, q->next_position);
    if (a->store != NULL) {
        a->store->store(a->store->ctx, position, &op->message);
    }
}
