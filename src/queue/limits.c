/*
 * What: length limits, of what is ready (number and bytes of bodies): with drop-head the next
 * messages to be delivered go until the queue is within its limits; with reject-publish what would
 * exceed them is refused.
 * Failure modes: a publisher whose refusal was lost sends again and is refused again: the client's
 * record knows the refused among its last QUEUE_NACKED_KEPT ops.
 * Invariants: after a command a drop-head queue is within its limits. What is returned or falls due
 * may take a reject-publish queue over them.
 * Spec: reference queues.md section 3 and 4 (the head of a priority queue is its highest).
 */
#include "queue_internal.h"

static bool is_over(const struct queue *q)
{
    return q->ready > q->config.length_max || q->bytes_ready > q->config.bytes_max;
}

/* How many of `size` bytes have to go. */
static uint64_t excess(const struct queue *q, uint64_t size)
{
    uint64_t count = q->ready > q->config.length_max ? q->ready - q->config.length_max : 0;
    if (q->bytes_ready > q->config.bytes_max) {
        const uint64_t bytes = q->bytes_ready - q->config.bytes_max;
        const uint64_t by_bytes = size == 0 ? q->ready : (bytes + size - 1) / size;
        count = by_bytes > count ? by_bytes : count;
    }
    return count;
}

void queue__drop_over(struct queue_apply *a)
{
    struct queue *q = a->queue;
    if (q->config.overflow != QUEUE_DROP_HEAD) {
        return;
    }
    while (WR_UNLIKELY(is_over(q))) {
        struct range_run piece;
        const uint64_t size = queue__ready_next_size(q);
        const bool found = queue__ready_pop(q, excess(q, size), &piece);
        WR_ASSERT(found);
        queue__die(a, &piece, QUEUE_DIED_MAXLEN);
    }
}

/* Whether one more of that size is too many. A consumer that has room counts: what is ready is
 * handed out before the queue is called full. */
bool queue__is_full(struct queue_apply *a, uint32_t size)
{
    if (queue__has_room(a, size)) {
        return false;
    }
    queue__hand_out_first(a);
    return !queue__has_room(a, size);
}

void queue__refuse(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue *q = a->queue;
    const struct range_attr attr = {.value = op->seq};
    if (op->seq < UINT64_MAX) { /* No op follows that one, and it is no key. */
        rangemap_insert(&client->nacked, op->seq, 1, &attr);
    }
    queue__emit_nacked(a, client->id, op->seq, 1);
    q->refused++;
    if (q->config.overflow != QUEUE_REJECT_PUBLISH_DLX || !q->config.dead_letter) {
        return;
    }
    const struct range_run dead = {
        .first = q->next_position,
        .count = 1,
        .attr = {.value = q->next_position, .b = q->clock_ms, .c = QUEUE_DIED_MAXLEN},
    };
    q->next_position++;
    queue__add_live(q, dead.first, 1);
    queue__dead_put(a, &dead);
    if (a->store != NULL) {
        a->store->store(a->store->ctx, dead.first, &op->message);
    }
}

/* Only the last ops are remembered. */
void queue__forget_nacked(struct queue_client *client)
{
    const struct range_run *first = rangemap_first(&client->nacked);
    if (WR_UNLIKELY(first != NULL) && client->last_seq > QUEUE_NACKED_KEPT &&
        first->first <= client->last_seq - QUEUE_NACKED_KEPT) {
        (void)rangemap_remove(&client->nacked, 0, client->last_seq - QUEUE_NACKED_KEPT + 1, NULL,
                              NULL);
    }
}

void queue_repeat_nacked(const struct queue *queue, uint64_t client, uint64_t from,
                         const struct queue_sink *sink)
{
    struct queue_apply a = {.sink = sink};
    const struct queue_client *found = queue__client_find(queue, client);
    if (found == NULL) {
        return;
    }
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&found->nacked, from, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        const uint64_t first = run->first > from ? run->first : from;
        queue__emit_nacked(&a, client, first, range_run_end(run) - first);
    }
    queue__flush_effects(&a);
}
