/*
 * What: takes what publishers send: refuses it, knows it already, delays it, or makes it ready.
 * Happy path: a batch enqueues n messages of one size, priority and expiry: they are gathered as
 * one run. When nothing else is ready and somebody can take messages, they are handed out from
 * there; otherwise they go to their level, usually by making its last run longer.
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
    a->fresh_count += piece.count;
    queue__ready_count(a->queue, &piece);
    vec_push(&a->queue->fresh, piece);
}

static void end_gathering(struct queue_apply *a)
{
    struct queue *q = a->queue;
    flush_run(a);
    queue__add_live(q, a->live_first, q->next_position - a->live_first);
    a->live_first = 0;
}

void queue__place_fresh(struct queue_apply *a, size_t from)
{
    struct queue *q = a->queue;
    for (size_t i = from; i < q->fresh.count; i++) {
        queue__ready_place(q, &q->fresh.items[i]);
    }
    vec_clear(&q->fresh);
    a->fresh_count = 0;
    if (WR_UNLIKELY(q->fresh.capacity > QUEUE_SCRATCH_KEPT)) {
        vec_deinit(&q->fresh);
    }
}

void queue__flush_gathered(struct queue_apply *a)
{
    end_gathering(a);
    queue__place_fresh(a, 0);
}

/* The highest level first, in each by position: runs are put to where those of their level begin.
 */
static void sort_fresh(struct queue *q)
{
    struct queue_pieces sorted = {.count = 0};
    size_t begin[QUEUE_LEVELS_MAX];
    size_t sum = 0;
    memset(begin, 0, (q->config.priority_max + 1u) * sizeof(begin[0]));
    for (size_t i = 0; i < q->fresh.count; i++) {
        begin[q->fresh.items[i].attr.d]++;
    }
    for (size_t level = q->config.priority_max + 1u; level-- > 0;) {
        const size_t count = begin[level];
        begin[level] = sum;
        sum += count;
    }
    vec_reserve(&sorted, q->fresh.count);
    for (size_t i = 0; i < q->fresh.count; i++) {
        sorted.items[begin[q->fresh.items[i].attr.d]++] = q->fresh.items[i];
    }
    sorted.count = q->fresh.count;
    vec_deinit(&q->fresh);
    q->fresh = sorted;
}

void queue__order_gathered(struct queue_apply *a)
{
    struct queue *q = a->queue;
    end_gathering(a);
    for (size_t i = 1; i < q->fresh.count; i++) {
        if (q->fresh.items[i].attr.d > q->fresh.items[i - 1].attr.d) {
            sort_fresh(q);
            return;
        }
    }
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
