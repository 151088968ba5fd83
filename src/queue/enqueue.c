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

static void flush_run(struct queue_apply *a)
{
    if (a->run_count == 0) {
        return;
    }
    WR_ASSERT_OP(a->run_first + a->run_count, ==, a->queue->next_position);
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
    a->run_size = QUEUE_NO_RUN;
    queue__ready_put(a->queue, &piece);
}

void queue__flush_gathered(struct queue_apply *a)
{
    struct queue *q = a->queue;
    flush_run(a);
    queue__add_live(q, a->live_first, q->next_position - a->live_first);
    a->live_first = 0;
}

/* Begins another run: the message has other attributes than those that are gathered. */
static void begin_run(struct queue_apply *a, uint32_t size, uint32_t level, uint64_t expiry)
{
    flush_run(a);
    a->run_first = a->queue->next_position;
    a->live_first = a->live_first == 0 ? a->run_first : a->live_first;
    a->run_size = size;
    a->run_level = level;
    a->run_expiry = expiry;
}

/* The message is ready: it has the next position. */
static inline void gather(struct queue_apply *a, const struct message *message)
{
    struct queue *q = a->queue;
    const uint32_t size = message_body_size(message);
    const uint32_t level = queue__level_of(q, message);
    const uint64_t expiry = queue__expiry_of(q, message);
    if (WR_UNLIKELY(a->run_size != size || a->run_level != level || a->run_expiry != expiry)) {
        begin_run(a, size, level, expiry);
    }
    a->run_count++;
    q->next_position++;
}

/* What was stored before is confirmed and dropped. */
static bool is_duplicate(struct queue *q, const struct queue_op *op, struct queue_id_hash *hash)
{
    bool known = false;
    if ((op->flags & QUEUE_HAS_PUBLISHER) != 0) {
        known = queue__publisher_has(q, op->name, op->first);
    }
    if ((op->flags & QUEUE_HAS_ID) != 0 && q->config.dedup_window_ms > 0) {
        *hash = queue__id_hash(op->args);
        known = known || queue__ids_has(q, hash);
    }
    return known;
}

static void remember(struct queue *q, const struct queue_op *op, const struct queue_id_hash *hash)
{
    if ((op->flags & QUEUE_HAS_PUBLISHER) != 0) {
        queue__publisher_note(q, op->name, op->first);
    }
    if ((op->flags & QUEUE_HAS_ID) != 0 && q->config.dedup_window_ms > 0) {
        queue__ids_note(q, hash);
    }
}

/* What is not just another message that there is room for; true = it is done with. */
static bool enqueue_special(struct queue_apply *a, struct queue_client *client,
                            const struct queue_op *op)
{
    struct queue *q = a->queue;
    struct queue_id_hash hash;
    const bool is_delayed = (op->flags & QUEUE_HAS_DELAY) != 0;
    /* A queue that is being deleted takes messages as RabbitMQ does in that moment: they are
     * confirmed and are gone with it. */
    if (queue__is_sealed(q)) {
        return true;
    }
    if (op->flags != 0 && is_duplicate(q, op, &hash)) {
        q->duplicates++;
        return true;
    }
    if (q->config.overflow != QUEUE_DROP_HEAD && !is_delayed &&
        queue__is_full(a, message_body_size(&op->message))) {
        queue__refuse(a, client, op);
        return true;
    }
    if (op->flags != 0) {
        remember(q, op, &hash);
    }
    if (is_delayed) {
        queue__delay(a, op);
    }
    return is_delayed;
}

void queue__enqueue(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    const struct queue *q = a->queue;
    if (WR_UNLIKELY((op->flags | (q->unused ? 1 : 0)) != 0 || q->sealed_by != 0 ||
                    (q->config.overflow != QUEUE_DROP_HEAD &&
                     !queue__has_room(a, message_body_size(&op->message)))) &&
        enqueue_special(a, client, op)) {
        return;
    }
    gather(a, &op->message);
    if (WR_LIKELY(a->store != NULL)) {
        a->store->store(a->store->ctx, q->next_position - 1, &op->message);
    }
}
