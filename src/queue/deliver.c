/*
 * What: hands ready messages out: to consumers after each batch, and to basic.get.
 * Happy path: one consumer can take messages: it is given whole runs. Several can: one message
 * each in turn, as RabbitMQ does.
 * Invariants: I3 of queue.h: nobody is given more than queue__capacity(). Afterwards no message is
 * ready or nobody can take one, unless the queue is sealed.
 */
#include "queue_internal.h"

/* The highest group that has somebody who can take a message, or NULL. */
static struct queue_group *next_group(const struct queue *q)
{
    for (size_t i = 0; i < q->groups.count; i++) {
        if (q->groups.items[i]->eligible > 0) {
            return q->groups.items[i];
        }
    }
    return NULL;
}

static bool is_settled_so(const struct queue_consumer *consumer)
{
    return consumer->no_ack && !consumer->settles;
}

/* Gives the piece, taken from ready, to the consumer's next ordinals. no_ack: it is settled by
 * that. */
void queue__give(struct queue_apply *a, struct queue_consumer *consumer, bool no_ack,
                 const struct range_run *piece)
{
    struct queue *q = a->queue;
    q->delivered += piece->count;
    if (piece->attr.c > 0) {
        q->redelivered += piece->count;
    }
    queue__emit_deliver(a, consumer, no_ack, consumer->delivered + 1, piece);
    if (no_ack) {
        consumer->delivered += piece->count;
        queue__remove(a, piece->first, piece->count);
    } else {
        queue__unacked_put(q, consumer, piece);
    }
}

/* To whom the next messages go, the first in the ring of the group, and how many: nothing but these
 * changes its capacity. */
static struct queue_consumer *next_consumer(const struct queue_group *group, uint64_t *ret_room)
{
    struct queue_consumer *consumer =
        WR_CONTAINER_OF(list_first(&group->ring), struct queue_consumer, link);
    const uint64_t capacity = queue__capacity(consumer);
    WR_ASSERT_OP(capacity, >, 0);
    *ret_room = group->eligible == 1 ? capacity : 1;
    return consumer;
}

/* It got something: others are next. */
static void served(struct queue_group *group, struct queue_consumer *consumer)
{
    struct queue_client *client = consumer->client;
    if (client->limit != 0 && client->held >= client->limit) {
        queue__client_update(client);
    } else {
        queue__consumer_update(consumer);
    }
    if (consumer->in_ring && group->eligible > 1) {
        list_remove(&consumer->link);
        list_push_back(&group->ring, &consumer->link);
    }
}

void queue__deliver(struct queue_apply *a)
{
    struct queue *q = a->queue;
    struct queue_group *group;
    if (queue_sealed(q)) {
        return;
    }
    while (q->ready > 0 && (group = next_group(q)) != NULL) {
        uint64_t room;
        struct queue_consumer *consumer = next_consumer(group, &room);
        struct range_run piece;
        for (; room > 0 && queue__ready_pop(q, room, &piece); room -= piece.count) {
            queue__give(a, consumer, is_settled_so(consumer), &piece);
        }
        served(group, consumer);
    }
}

/* The next of queue->fresh, at most `max` messages of one run. */
static struct range_run pop_fresh(struct queue *q, size_t *at, uint64_t max)
{
    struct range_run *next = &q->fresh.items[*at];
    struct range_run piece = *next;
    if (piece.count > max) {
        piece.count = max;
        next->first += max;
        next->count -= max;
        next->attr.value = next->first;
    } else {
        (*at)++;
    }
    queue__ready_uncount(q, &piece);
    return piece;
}

/* What was enqueued last in a command goes straight to consumers who wait for it: what nobody takes
 * goes to the levels. The same as through the levels, where many runs cost many look-ups. */
void queue__deliver_gathered(struct queue_apply *a)
{
    struct queue *q = a->queue;
    struct queue_group *group;
    size_t at = 0;
    queue__order_gathered(a);
    if (q->ready > a->fresh_count || queue_sealed(q)) {
        queue__place_fresh(a, 0);
        return;
    }
    while (at < q->fresh.count && (group = next_group(q)) != NULL) {
        uint64_t room;
        struct queue_consumer *consumer = next_consumer(group, &room);
        while (room > 0 && at < q->fresh.count) {
            const struct range_run piece = pop_fresh(q, &at, room);
            queue__give(a, consumer, is_settled_so(consumer), &piece);
            room -= piece.count;
        }
        served(group, consumer);
    }
    queue__place_fresh(a, at);
}

/* Gathered messages, handed out as they would be at the end of the batch: what is published and
 * what comes after it do not depend on whether they travel together. */
void queue__hand_out_first(struct queue_apply *a)
{
    queue__flush_enqueued(a);
    queue__deliver(a);
    queue__expire(a);
}

/* Nobody who looks at the ready messages sees one that has expired. */
void queue__see_ready(struct queue_apply *a)
{
    if (queue__has_expired(a->queue)) {
        queue__hand_out_first(a);
    }
}

/* Consumer 0 of the client. */
struct queue_consumer *queue__getter(struct queue_client *client)
{
    struct queue_consumer *consumer = queue__consumer_find(client, 0);
    return consumer != NULL ? consumer : queue__consumer_add(client, 0);
}

/* basic.get: the next message to consumer 0, whatever prefetch and limit say. */
void queue__get(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct range_run piece;
    if (queue_sealed(a->queue)) {
        queue__emit_reply(a, client, op->seq, QUEUE_SEALED, 0);
        return;
    }
    queue__used(a->queue);
    queue__see_ready(a);
    if (!queue__ready_pop(a->queue, 1, &piece)) {
        queue__emit_reply(a, client, op->seq, QUEUE_EMPTY, 0);
        return;
    }
    struct queue_consumer *consumer = queue__getter(client);
    queue__give(a, consumer, (op->flags & QUEUE_NO_ACK) != 0, &piece);
    queue__emit_reply(a, client, op->seq, QUEUE_OK, a->queue->ready);
    client->reply.ordinal = consumer->delivered;
    client->reply.taken = 1;
}
