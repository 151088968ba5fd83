/*
 * What: the canonical encoding of a machine's state, and its hash. Layout, all numbers varints
 * unless said otherwise (docs/queue-machine.md):
 *
 *   version; config; flags (1: auto-delete is due); sealed_by; next_position; delivered; acked;
 *   redelivered
 *   gone boots, as runs; suspended boots, count and numbers; closed clients, count and ids, the
 *   oldest first
 *   clients, count, ascending: id; last_seq; limit; reply (seq; status, value, value2, ordinal only
 *   when seq is not 0); consumers, count, ascending: id; flags (1 attached, 2 no_ack, 4 exclusive);
 *   prefetch; zigzag priority; limit + 1; delivered; name; args; unacked runs
 *   groups, count, the highest priority first: length of the ring; client and consumer of each
 *   levels in use, count, ascending: level; runs of ready messages
 *
 *   runs: count; each: gap since the end of the run before, number of keys, then for ready: body
 *   size, delivery count; for unacked: zigzag distance of the position from the end of the run
 *   before, body size, delivery count, level
 *
 * Invariants: what is derived is not written; equal states give equal bytes (I4).
 */
#include "queue_internal.h"
#include "snapshot_internal.h"

#include "warren/map.h"

enum run_fields { RUN_KEYS, RUN_READY, RUN_UNACKED };

static void put_runs(struct writer *w, const struct rangemap *map, enum run_fields fields)
{
    struct rangemap_cursor cursor;
    uint64_t key = 0;
    uint64_t position = 0;
    put_varint(w, rangemap_runs(map));
    const struct range_run *run = rangemap_lower_bound(map, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        put_varint(w, run->first - key);
        put_varint(w, run->count);
        key = range_run_end(run);
        if (fields == RUN_KEYS) {
            continue;
        }
        if (fields == RUN_UNACKED) {
            put_varint(w, snapshot__zigzag(run->attr.value - position));
            position = run->attr.value + run->count;
        }
        put_varint(w, run->attr.a);
        put_varint(w, run->attr.c);
        if (fields == RUN_UNACKED) {
            put_varint(w, run->attr.d);
        }
    }
}

static void put_consumer(struct writer *w, const struct queue_consumer *consumer)
{
    put_varint(w, consumer->id);
    put_varint(w, (consumer->attached ? SNAPSHOT_ATTACHED : 0u) |
                      (consumer->no_ack ? SNAPSHOT_NO_ACK : 0u) |
                      (consumer->exclusive ? SNAPSHOT_EXCLUSIVE : 0u));
    put_varint(w, consumer->prefetch);
    put_varint(w, snapshot__zigzag((uint64_t)(int64_t)consumer->priority));
    put_varint(w, consumer->limit + 1);
    put_varint(w, consumer->delivered);
    put_varbytes(w, consumer->name);
    put_varbytes(w, consumer->args);
    put_runs(w, &consumer->unacked, RUN_UNACKED);
}

static void put_client(struct writer *w, const struct queue_client *client)
{
    put_varint(w, client->id);
    put_varint(w, client->last_seq);
    put_varint(w, client->limit);
    put_varint(w, client->reply.seq);
    if (client->reply.seq != 0) {
        put_varint(w, client->reply.status);
        put_varint(w, client->reply.value);
        put_varint(w, client->reply.value2);
        put_varint(w, client->reply.ordinal);
    }
    put_varint(w, client->consumers.count);
    for (size_t i = 0; i < client->consumers.count; i++) {
        put_consumer(w, client->consumers.items[i]);
    }
}

static void put_clients(struct writer *w, const struct queue *q)
{
    put_runs(w, &q->gone, RUN_KEYS);
    put_varint(w, q->suspended.count);
    for (size_t i = 0; i < q->suspended.count; i++) {
        put_varint(w, q->suspended.items[i]);
    }
    put_varint(w, q->closed_count);
    for (uint32_t i = 0; i < q->closed_count; i++) {
        put_varint(w, q->closed[(q->closed_begin + i) % QUEUE_CLOSED_MAX]);
    }
    put_varint(w, q->clients.count);
    for (size_t i = 0; i < q->clients.count; i++) {
        put_client(w, q->clients.items[i]);
    }
}

static void put_rings(struct writer *w, const struct queue *q)
{
    put_varint(w, q->groups.count);
    for (size_t i = 0; i < q->groups.count; i++) {
        const struct queue_group *group = q->groups.items[i];
        put_varint(w, group->eligible);
        LIST_FOREACH(link, &group->ring) {
            const struct queue_consumer *consumer =
                WR_CONTAINER_OF_CONST(link, struct queue_consumer, link);
            put_varint(w, consumer->client->id);
            put_varint(w, consumer->id);
        }
    }
}

static void put_levels(struct writer *w, const struct queue *q)
{
    uint32_t used = 0;
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        used += rangemap_is_empty(&q->levels[level]) ? 0 : 1;
    }
    put_varint(w, used);
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        if (!rangemap_is_empty(&q->levels[level])) {
            put_varint(w, level);
            put_runs(w, &q->levels[level], RUN_READY);
        }
    }
}

void queue_snapshot(const struct queue *queue, struct buf **out)
{
    struct writer w = {*out};
    put_varint(&w, QUEUE_MACHINE_VERSION);
    queue__config_put(&w, &queue->config);
    put_varint(&w, queue->unused ? SNAPSHOT_UNUSED : 0u);
    put_varint(&w, queue->sealed_by);
    put_varint(&w, queue->next_position);
    put_varint(&w, queue->delivered);
    put_varint(&w, queue->acked);
    put_varint(&w, queue->redelivered);
    put_clients(&w, queue);
    put_rings(&w, queue);
    put_levels(&w, queue);
    *out = w.buf;
}

uint64_t queue_hash(const struct queue *queue)
{
    /* Fixed: replicas compare the result. */
    const struct hash_seed seed = {UINT64_C(0x77617272656e2d71), UINT64_C(0x756575652d686173)};
    struct buf *encoded = buf_new(256);
    queue_snapshot(queue, &encoded);
    const uint64_t hash = hash_bytes(seed, bytes_make(encoded->data, encoded->size));
    buf_unref(encoded);
    return hash;
}

uint64_t queue_weight(const struct queue *queue)
{
    uint64_t weight = queue->closed_count + rangemap_runs(&queue->gone);
    for (uint32_t level = 0; level <= queue->config.priority_max; level++) {
        weight += rangemap_runs(&queue->levels[level]);
    }
    for (size_t i = 0; i < queue->clients.count; i++) {
        const struct queue_client *client = queue->clients.items[i];
        weight += 1 + client->consumers.count;
        for (size_t k = 0; k < client->consumers.count; k++) {
            weight += rangemap_runs(&client->consumers.items[k]->unacked);
        }
    }
    return weight;
}
