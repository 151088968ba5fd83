/*
 * What: messages that are checked out: per consumer a map from ordinals to positions. Settling
 * takes ordinals out of it and drops the messages or puts them back to their place.
 * Failure modes: ordinals that are not outstanding (settled before, returned when the node was
 * down, never delivered) are ignored: the client could not know.
 * Invariants: I1, I3 of queue.h; client->held counts the unacked of its consumers but 0 and
 * those that need no acks.
 * Spec: AMQP 0-9-1 basic.ack, basic.nack, basic.reject, basic.recover.
 */
#include "queue_internal.h"

/* Checks a piece of ready messages (key = position) out to the consumer's next ordinals. */
void queue__unacked_put(struct queue *q, struct queue_consumer *consumer,
                        const struct range_run *piece)
{
    rangemap_insert(&consumer->unacked, consumer->delivered + 1, piece->count, &piece->attr);
    consumer->delivered += piece->count;
    if (consumer->dead) {
        q->dead_out += piece->count;
        return;
    }
    q->unacked += piece->count;
    q->bytes_unacked += piece->count * piece->attr.a;
    if (queue__is_held(consumer)) {
        consumer->client->held += piece->count;
    }
}

static inline void note_taken(struct queue *q, struct queue_consumer *consumer,
                              const struct range_run *piece)
{
    WR_ASSERT_OP(q->unacked, >=, piece->count);
    q->unacked -= piece->count;
    q->bytes_unacked -= piece->count * piece->attr.a;
    if (queue__is_held(consumer)) {
        WR_ASSERT_OP(consumer->client->held, >=, piece->count);
        consumer->client->held -= piece->count;
    }
}

static void note_taken_dead(struct queue *q, uint64_t count)
{
    WR_ASSERT_OP(q->dead_out, >=, count);
    q->dead_out -= count;
}

/* Back to their place: the piece of ordinals becomes a piece of positions. One that came back too
 * often, or too late, dies instead. */
static void put_back(struct queue_apply *a, const struct range_run *piece, bool count_delivery)
{
    const struct queue *q = a->queue;
    const int64_t limit = q->config.delivery_limit;
    struct range_run back = *piece;
    back.first = piece->attr.value;
    if (count_delivery && back.attr.c < UINT32_MAX) {
        back.attr.c++;
    }
    if (count_delivery && limit >= 0 && back.attr.c > limit) {
        queue__die(a, &back, QUEUE_DIED_DELIVERY_LIMIT);
    } else if (queue__is_expired(q, back.attr.b)) {
        queue__die(a, &back, QUEUE_DIED_EXPIRED);
    } else {
        queue__ready_put(a->queue, &back);
    }
}

/* Dead letters come back as they were. */
static void put_back_dead(struct queue_apply *a, const struct range_run *piece)
{
    struct range_run back = *piece;
    back.first = piece->attr.value;
    note_taken_dead(a->queue, piece->count);
    queue__dead_put(a, &back);
}

struct settling {
    struct queue_apply *apply;
    struct queue_consumer *consumer;
    uint8_t outcome;
};

static void settle_dead(const struct settling *s, const struct range_run *piece)
{
    if (s->outcome == QUEUE_ACK) {
        note_taken_dead(s->apply->queue, piece->count);
        queue__remove(s->apply, piece->attr.value, piece->count);
    } else {
        put_back_dead(s->apply, piece);
    }
}

static void reject(struct queue_apply *a, const struct range_run *piece)
{
    struct range_run rejected = *piece;
    rejected.first = piece->attr.value;
    queue__die(a, &rejected, QUEUE_DIED_REJECTED);
}

static void settle_piece(void *ctx, const struct range_run *piece)
{
    const struct settling *s = ctx;
    struct queue *q = s->apply->queue;
    if (WR_UNLIKELY(s->consumer->dead)) {
        settle_dead(s, piece);
        return;
    }
    note_taken(q, s->consumer, piece);
    switch ((enum queue_outcome)s->outcome) {
    case QUEUE_ACK:
        q->acked += piece->count;
        queue__remove(s->apply, piece->attr.value, piece->count);
        break;
    case QUEUE_REJECT:
        reject(s->apply, piece);
        break;
    case QUEUE_REQUEUE:
        put_back(s->apply, piece, true);
        break;
    case QUEUE_RELEASE:
        put_back(s->apply, piece, false);
        break;
    default:
        WR_UNREACHABLE();
    }
}

/* True while the client's own limit stops all its consumers. */
static bool is_full(const struct queue_client *client)
{
    return client->limit != 0 && client->held >= client->limit;
}

void queue__settle(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue_consumer *consumer = queue__consumer_find(client, op->consumer);
    if (consumer == NULL) {
        return;
    }
    WR_ASSERT(op->outcome >= QUEUE_ACK && op->outcome <= QUEUE_RELEASE);
    const bool was_full = is_full(client);
    struct settling settling = {a, consumer, op->outcome};
    (void)rangemap_remove(&consumer->unacked, op->first, op->count, settle_piece, &settling);
    if (WR_UNLIKELY(a->queue->draining)) {
        a->queue->active_stale = true;
    }
    if (was_full && !is_full(client)) {
        queue__client_update(client);
    } else {
        queue__consumer_update(consumer);
    }
    queue__consumer_reap(consumer);
}

/* All unacked go back, counted as a failed delivery. The caller brings the ring up to date. */
void queue__return_all(struct queue_apply *a, struct queue_consumer *consumer)
{
    struct range_run piece;
    while (rangemap_pop_front(&consumer->unacked, UINT64_MAX, &piece)) {
        if (consumer->dead) {
            put_back_dead(a, &piece);
        } else {
            note_taken(a->queue, consumer, &piece);
            put_back(a, &piece, true);
        }
    }
    a->queue->active_stale = a->queue->active_stale || a->queue->draining;
}

/* Calls fn with each piece (key = position) of the unacked with ordinals from first to last. */
void queue__each_unacked(const struct queue_consumer *consumer, uint64_t first, uint64_t last,
                         queue__unacked_fn fn, void *ctx)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&consumer->unacked, first, &cursor);
    for (; run != NULL && run->first <= last; run = rangemap_next(&cursor)) {
        const uint64_t from = run->first > first ? run->first : first;
        const uint64_t to = range_run_end(run) - 1 < last ? range_run_end(run) - 1 : last;
        struct range_run piece = *run;
        piece.first = range_run_value(run, from);
        piece.count = to - from + 1;
        piece.attr.value = piece.first;
        fn(ctx, from, &piece);
    }
}
