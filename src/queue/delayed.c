/*
 * What: messages that are delayed, and how they become ready. When its time comes a message stands
 * behind all that was enqueued before that moment, in order of (due, position), as if it were
 * published then; its time to live begins then. So it is released into a second map of its level,
 * in order of release, that remembers how far the queue had come (ready.c picks from both).
 * Invariants: after a command nothing delayed is due. A released message was never delivered; one
 * that is returned goes to its position in its level, which is before all that is newer.
 */
#include "queue_internal.h"

#define LEVEL_BITS 8u
#define LEVEL_MASK 0xffu

struct range_attr queue__delayed_attr(uint64_t position, uint32_t size, uint64_t due,
                                      uint32_t level, uint64_t ttl_plus_1)
{
    return (struct range_attr){
        .value = position,
        .a = size,
        .b = due,
        .c = (uint32_t)ttl_plus_1,
        .d = level | (uint32_t)(ttl_plus_1 >> 32) << LEVEL_BITS,
    };
}

uint64_t queue__delayed_ttl(const struct range_attr *attr)
{
    return attr->c | (uint64_t)(attr->d >> LEVEL_BITS) << 32;
}

uint32_t queue__delayed_level(const struct range_attr *attr)
{
    return attr->d & LEVEL_MASK;
}

void queue__delayed_put(struct queue *q, const struct range_run *run)
{
    const struct queue_moment moment = {run->attr.b, run->first, run->count, 0};
    rangemap_insert(&q->delayed, run->first, run->count, &run->attr);
    queue__timeline_add(&q->due, &moment);
}

/* The next message, which is not to be ready before its delay has passed. */
void queue__delay(struct queue_apply *a, const struct queue_op *op)
{
    struct queue *q = a->queue;
    queue__flush_enqueued(a);
    const uint64_t delay = op->limit < QUEUE_TIME_MAX ? op->limit : QUEUE_TIME_MAX;
    const uint64_t ttl = queue__ttl_of(q, &op->message);
    const struct range_run run = {
        .first = q->next_position,
        .count = 1,
        .attr = queue__delayed_attr(q->next_position, message_body_size(&op->message),
                                    q->clock_ms + delay, queue__level_of(q, &op->message),
                                    ttl > QUEUE_TTL_MAX ? 0 : ttl + 1),
    };
    q->next_position++;
    queue__add_live(q, run.first, 1);
    queue__delayed_put(q, &run);
    if (a->store != NULL) {
        a->store->store(a->store->ctx, run.first, &op->message);
    }
}

static void collect(void *ctx, const struct range_run *piece)
{
    struct queue_pieces *pieces = ctx;
    vec_push(pieces, *piece);
}

static void release(struct queue *q, const struct range_run *piece)
{
    const uint64_t ttl = queue__delayed_ttl(&piece->attr);
    const struct range_run run = {
        .first = q->next_release,
        .count = piece->count,
        .attr =
            {
                .value = piece->first,
                .a = piece->attr.a,
                .b = ttl == 0 ? 0 : piece->attr.b + ttl,
                .c = (uint32_t)q->next_position,
                .d = (uint32_t)(q->next_position >> 32),
            },
    };
    q->next_release += piece->count;
    queue__released_put(q, queue__delayed_level(&piece->attr), &run);
}

void queue__release_due(struct queue *q)
{
    struct queue_moment moment;
    struct queue_pieces pieces = {.count = 0};
    if (WR_LIKELY(queue__timeline_next(&q->due) > q->clock_ms)) {
        return;
    }
    while (queue__timeline_pop(&q->due, q->clock_ms, &moment)) {
        (void)rangemap_remove(&q->delayed, moment.first, moment.count, collect, &pieces);
    }
    queue__pieces_sort_by_time(&pieces);
    for (size_t i = 0; i < pieces.count; i++) {
        release(q, &pieces.items[i]);
    }
    vec_deinit(&pieces);
}

/* Removes all that are delayed; returns how many there were. */
uint64_t queue__delayed_purge(struct queue_apply *a)
{
    const uint64_t count = rangemap_keys(&a->queue->delayed);
    struct range_run piece;
    while (rangemap_pop_front(&a->queue->delayed, UINT64_MAX, &piece)) {
        queue__remove(a, piece.first, piece.count);
    }
    return count;
}
