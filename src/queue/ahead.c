/*
 * What: batches that may be applied before the log has them (docs/replica.md, "Ahead of the log"):
 * which ones these are, and what makes up for them when they are lost.
 * Happy path: a batch that only takes settles with ACK, and gets: a place that becomes free, or a
 * get, is one message handed out. Invariants: nothing but that hands out more, because a queue that
 * has both ready messages and a consumer with room for them exists only while a command is applied;
 * where that is not so (another consumer becomes the active one, a delayed message is due) no batch
 * counts as one that only takes. Spec: docs/queue-machine.md.
 */
#include "queue_internal.h"

#define TAKES_MAX 65536u /* More at once is not looked at. */

/* Adds how many messages it makes room for: what a consumer that needs no acks may get does not
 * depend on them. */
static bool only_acks(const struct queue_client *client, const struct queue_op *op, uint64_t *most)
{
    const struct queue_consumer *consumer = queue__consumer_find(client, op->consumer);
    if (op->outcome != QUEUE_ACK || op->count > TAKES_MAX || consumer == NULL || consumer->dead) {
        return false;
    }
    *most += consumer->no_ack ? 0 : op->count;
    return true;
}

static bool gets_again(const struct queue_client *client)
{
    const struct queue_consumer *getter = queue__consumer_find(client, 0);
    return getter != NULL && getter->delivered > 0;
}

bool queue_takes(const struct queue *queue, const struct queue_batch *batch, uint64_t *ret_most)
{
    const struct queue_client *client = queue__client_find(queue, batch->client);
    if (client == NULL || queue->config.single_active_consumer ||
        queue->config.delivery_limit >= 0 || !rangemap_is_empty(&queue->delayed)) {
        return false;
    }
    *ret_most = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct queue_op *op = &batch->ops[i];
        if (op->kind == QUEUE_OP_SETTLE && only_acks(client, op, ret_most)) {
            continue;
        }
        if (op->kind == QUEUE_OP_GET && gets_again(client)) {
            *ret_most += 1;
        } else {
            return false;
        }
    }
    return true;
}

bool queue_boot_takes(const struct queue *queue, uint64_t boot)
{
    for (size_t i = 0; i < queue->clients.count; i++) {
        const struct queue_client *client = queue->clients.items[i];
        bool takes = false;
        for (size_t k = 0; k < client->consumers.count; k++) {
            const struct queue_consumer *consumer = client->consumers.items[k];
            takes = takes || (consumer->id == 0 && consumer->delivered > 0) ||
                    (consumer->attached && !consumer->dead);
        }
        if (takes && queue__client_boot(client->id) == boot) {
            return true;
        }
    }
    return false;
}

void queue__suspect(struct queue_apply *a, uint64_t count)
{
    struct queue_pieces pieces = {0};
    struct range_run piece;
    queue__see_ready(a);
    while (count > 0 && queue__ready_pop(a->queue, count, &piece)) {
        count -= piece.count;
        vec_push(&pieces, piece);
    }
    for (size_t i = 0; i < pieces.count; i++) {
        struct range_run *back = &pieces.items[i];
        back->attr.c = back->attr.c > 0 ? back->attr.c : 1;
        queue__ready_put(a->queue, back);
    }
    vec_deinit(&pieces);
}
