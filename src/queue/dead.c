/*
 * What: dead letters: messages that were rejected, expired, or went over a limit, in a queue with a
 * dead-letter exchange. They wait, by position, for whoever attaches as the dead-letter consumer
 * and hands them to the queues behind that exchange; only its ack removes them.
 * Failure modes: when that consumer's node goes down or it closes, what it had is dead as before,
 * with the time and reason of its death. Two may be attached after a node was down and came back:
 * the one that attached last gets them.
 * Invariants: nothing is dead in a queue without a dead-letter exchange but what is being handed
 * over. Dead letters count in no limit and no other total.
 * Spec: docs/queue-machine.md, "Dead letters"; RabbitMQ: reference queues.md section 5.
 */
#include "queue_internal.h"

/* Messages that are in no place go to the dead, or altogether when nobody wants them. */
void queue__dead_put(struct queue_apply *a, const struct range_run *piece)
{
    struct queue *q = a->queue;
    if (q->config.dead_letter) {
        rangemap_insert(&q->dead, piece->first, piece->count, &piece->attr);
    } else {
        queue__remove(a, piece->first, piece->count);
    }
}

/* The piece (key = position) has left its place. */
void queue__die(struct queue_apply *a, const struct range_run *piece, enum queue_death reason)
{
    struct queue *q = a->queue;
    if (reason == QUEUE_DIED_EXPIRED) {
        q->expired += piece->count;
    } else if (reason == QUEUE_DIED_MAXLEN) {
        q->dropped += piece->count;
    }
    const struct range_run dead = {
        .first = piece->first,
        .count = piece->count,
        .attr = {.value = piece->first, .b = q->clock_ms, .c = (uint32_t)reason},
    };
    queue__dead_put(a, &dead);
}

/* The configuration names no dead-letter exchange any more. */
void queue__dead_clear(struct queue_apply *a)
{
    struct range_run piece;
    while (rangemap_pop_front(&a->queue->dead, UINT64_MAX, &piece)) {
        queue__remove(a, piece.first, piece.count);
    }
}

/* Who gets the dead letters, or NULL. */
struct queue_consumer *queue__dead_taker(const struct queue *q)
{
    for (size_t i = q->takers.count; i-- > 0;) {
        if (!q->takers.items[i]->client->suspended) {
            return q->takers.items[i];
        }
    }
    return NULL;
}

void queue__taker_join(struct queue *q, struct queue_consumer *consumer)
{
    size_t place = q->takers.count;
    while (place > 0 && q->takers.items[place - 1]->attach > consumer->attach) {
        place--;
    }
    vec_insert(&q->takers, place, consumer);
}

void queue__taker_leave(struct queue *q, struct queue_consumer *consumer)
{
    for (size_t i = 0; i < q->takers.count; i++) {
        if (q->takers.items[i] == consumer) {
            vec_remove(&q->takers, i);
            return;
        }
    }
    WR_UNREACHABLE();
}

bool queue_dead_due(const struct queue *queue)
{
    return !rangemap_is_empty(&queue->dead) && !queue_sealed(queue) &&
           queue__dead_taker(queue) == NULL;
}

void queue__deliver_dead(struct queue_apply *a)
{
    struct queue *q = a->queue;
    if (WR_LIKELY(rangemap_is_empty(&q->dead)) || queue_sealed(q)) {
        return;
    }
    struct queue_consumer *taker = queue__dead_taker(q);
    if (taker == NULL) {
        return;
    }
    for (uint64_t room; (room = queue__capacity(taker)) > 0;) {
        struct range_run piece;
        if (!rangemap_pop_front(&q->dead, room, &piece)) {
            return;
        }
        queue__emit_deliver_dead(a, taker, taker->delivered + 1, &piece);
        queue__unacked_put(q, taker, &piece);
    }
}
