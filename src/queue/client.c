/*
 * What: client records: the sending sides, their sequence numbers, limits, seals and their end.
 * Failure modes: an op may arrive again after the CLOSE of its client, when the leader that applied
 * both died before it could say so. The last QUEUE_CLOSED_MAX closed clients are remembered, so
 * that such an op is answered and not taken for a new client's first.
 * Invariants: clients are sorted by id; an id is never both a client and remembered as closed.
 */
#include "queue_internal.h"

/* Where the client is in the list, or would be inserted. */
size_t queue__client_place(const struct queue *q, uint64_t id)
{
    size_t low = 0;
    size_t high = q->clients.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (q->clients.items[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct queue_client *queue__client_find(const struct queue *q, uint64_t id)
{
    const size_t place = queue__client_place(q, id);
    if (place == q->clients.count || q->clients.items[place]->id != id) {
        return NULL;
    }
    return q->clients.items[place];
}

/* A new record; the id must be free and not 0. */
struct queue_client *queue__client_add(struct queue *q, uint64_t id)
{
    const size_t place = queue__client_place(q, id);
    WR_ASSERT(place == q->clients.count || q->clients.items[place]->id != id);
    WR_ASSERT_OP(id, !=, 0);
    struct queue_client *client = wr_calloc(1, sizeof(*client));
    client->id = id;
    rangemap_init(&client->nacked);
    client->suspended = queue__boot_is_suspended(q, queue__client_boot(id));
    vec_insert(&q->clients, place, client);
    return client;
}

/* Frees the memory; the client is out of the queue's list. */
void queue__client_free(struct queue_client *client)
{
    for (size_t i = 0; i < client->consumers.count; i++) {
        queue__consumer_free(client->consumers.items[i]);
    }
    vec_deinit(&client->consumers);
    rangemap_deinit(&client->nacked);
    wr_free(client);
}

/* The client goes: its consumers leave, what they had unacked is returned, a seal of its own is
 * broken. */
void queue__client_close(struct queue_apply *a, struct queue_client *owned_client)
{
    struct queue *q = a->queue;
    const uint64_t id = owned_client->id;
    for (size_t i = 0; i < owned_client->consumers.count; i++) {
        struct queue_consumer *consumer = owned_client->consumers.items[i];
        if (consumer->attached) {
            queue__consumer_leave(a, consumer);
        }
        queue__return_all(a, consumer);
    }
    queue__unseal(q, owned_client);
    WR_ASSERT_OP(owned_client->held, ==, 0);
    vec_remove(&q->clients, queue__client_place(q, id));
    queue__client_free(owned_client);
    queue__boot_settle(q, queue__client_boot(id));
}

bool queue__client_was_closed(const struct queue *q, uint64_t id)
{
    for (uint32_t i = 0; i < q->closed_count; i++) {
        if (q->closed[(q->closed_begin + i) % QUEUE_CLOSED_MAX] == id) {
            return true;
        }
    }
    return false;
}

void queue__remember_closed(struct queue *q, uint64_t id)
{
    if (q->closed == NULL) {
        q->closed = wr_calloc(QUEUE_CLOSED_MAX, sizeof(*q->closed));
    }
    q->closed[(q->closed_begin + q->closed_count) % QUEUE_CLOSED_MAX] = id;
    if (q->closed_count < QUEUE_CLOSED_MAX) {
        q->closed_count++;
    } else {
        q->closed_begin = (q->closed_begin + 1) % QUEUE_CLOSED_MAX;
    }
}

void queue__limit(struct queue_client *client, const struct queue_op *op)
{
    client->limit = op->limit;
    queue__client_update(client);
}

static enum queue_status seal_status(const struct queue *q, const struct queue_client *client,
                                     uint8_t flags)
{
    if (q->unused || (q->sealed_by != 0 && q->sealed_by != client->id)) {
        return QUEUE_SEALED;
    }
    if ((flags & QUEUE_IF_UNUSED) != 0 && q->consumers > 0) {
        return QUEUE_IN_USE;
    }
    if ((flags & QUEUE_IF_EMPTY) != 0 && (q->ready > 0 || !rangemap_is_empty(&q->delayed))) {
        return QUEUE_NOT_EMPTY;
    }
    return QUEUE_OK;
}

/* The seal belongs to the client: it breaks when the client unseals, closes, or its node goes down,
 * so that a deleter that dies half-way leaves no queue that nobody can use. */
void queue__seal(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    const enum queue_status status = seal_status(a->queue, client, op->flags);
    /* Suspended: as if its node had gone down just after, which breaks the seal. */
    if (status == QUEUE_OK && !client->suspended) {
        a->queue->sealed_by = client->id;
    }
    queue__emit_reply(a, client, op->seq, status, a->queue->ready);
}

/* Breaks the client's own seal; that of an auto-delete stays. */
void queue__unseal(struct queue *q, const struct queue_client *client)
{
    if (q->sealed_by == client->id) {
        q->sealed_by = 0;
    }
}
