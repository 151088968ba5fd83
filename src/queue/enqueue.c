/*
 * What: takes what publishers send: refuses it, knows it already, delays it, or makes it ready.
 * Happy path: a batch enqueues n messages of one size, priority and expiry: they are gathered and
 * put into their level as one run, usually by making its last run longer.
 * Spec: docs/queue-machine.md, "Publishing".
 */
#include "queue_internal.h"

void queue__add_live(struct queue *q, uint64_t position, uint64_t count)
{
    const struct range_attr attr = {.value = position};
    rangemap_insert(&q->live, position, count, &attr);
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
        .attr =
            {
                .value = a->run_first,
                .a = a->run_size,
                .b = a->run_expiry,
                .d = a->run_level,
            },
    };
    a->run_count = 0;
    queue__add_live(a->queue, piece.first, piece.count);
    queue__ready_put(a->queue, &piece);
}

static void gather(struct queue_apply *a, uint32_t size, uint32_t level, uint64_t expiry)
{
    const uint64_t position = a->queue->next_position++;
    if (a->run_count == 0 || a->run_size != size || a->run_level != level ||
        a->run_expiry != expiry) {
        queue__flush_enqueued(a);
        a->run_first = position;
        a->run_size = size;
        a->run_level = level;
        a->run_expiry = expiry;
    }
    a->run_count++;
    WR_ASSERT_OP(a->run_first + a->run_count, ==, a->queue->next_position);
}

/* What was stored before is confirmed and dropped. */
static bool is_duplicate(struct queue *q, const struct queue_op *op)
{
    return ((op->flags & QUEUE_HAS_PUBLISHER) != 0 &&
            queue__publisher_has(q, op->name, op->first)) ||
           ((op->flags & QUEUE_HAS_ID) != 0 && queue__ids_has(q, op->args));
}

static void remember(struct queue *q, const struct queue_op *op)
{
    if ((op->flags & QUEUE_HAS_PUBLISHER) != 0) {
        queue__publisher_note(q, op->name, op->first);
    }
    if ((op->flags & QUEUE_HAS_ID) != 0) {
        queue__ids_note(q, op->args);
    }
}

/* A queue that is being deleted takes messages as RabbitMQ does in that moment: they are confirmed
 * and are gone with it. */
void queue__enqueue(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue *q = a->queue;
    if (WR_UNLIKELY(queue_sealed(q))) {
        return;
    }
    if (WR_UNLIKELY(op->flags != 0) && is_duplicate(q, op)) {
        q->duplicates++;
        return;
    }
    const uint32_t size = message_body_size(&op->message);
    const uint8_t priority = message_priority(&op->message);
    const uint32_t level = priority < q->config.priority_max ? priority : q->config.priority_max;
    const bool is_delayed = (op->flags & QUEUE_HAS_DELAY) != 0;
    if (WR_UNLIKELY(q->config.overflow != QUEUE_DROP_HEAD) && !is_delayed &&
        queue__is_full(a, size)) {
        queue__refuse(a, client, op);
        return;
    }
    if (WR_UNLIKELY(op->flags != 0)) {
        remember(q, op);
    }
    const uint64_t position = q->next_position;
    if (WR_UNLIKELY(is_delayed)) {
        queue__delay(a, op, level);
    } else {
        gather(a, size, level, queue__expiry_of(q, queue__ttl_of(q, &op->message)));
    }
    if (a->store != NULL) {
        a->store->store(a->store->ctx, position, &op->message);
    }
}
