/*
 * What: the canonical encoding of a machine's state, and its hash. Layout, all numbers varints
 * unless said otherwise (docs/queue-machine.md); [2]: not in version 1, which is only read:
 *
 *   version; config; flags (1: to be deleted); sealed_by; next_position; delivered; acked;
 * redelivered [2] clock_ms; used_ms; expired; dropped; refused; duplicates; next_attach;
 * next_release; the single active consumer: client (0 = none), consumer gone boots, as runs;
 * suspended boots, count and numbers; closed clients, count and ids, the oldest first clients,
 * count, ascending: id; last_seq; limit; reply (seq; status, value, value2, ordinal, [2] taken,
 * only when seq is not 0); [2] refused enqueues, as runs; consumers, count, ascending: id; flags (1
 * attached, 2 no_ack, 4 exclusive, [2] 8 dead letters, 16 settles); prefetch; zigzag priority;
 * limit + 1; delivered; [2] attach; name; args; unacked runs groups, count, the highest priority
 * first: length of the ring; client and consumer of each levels in use, count, ascending: level;
 * runs of ready messages; [2] runs of released ones [2] runs of delayed messages; runs of dead
 * letters [2] publishers, count, the one that enqueued last at the end: id; numbers, as runs [2]
 * message ids, count, the oldest first: ms since the one before; 16 bytes of hash
 *
 *   runs: count; each: gap since the end of the run before, number of keys, then attributes:
 *   ready     body size; [2] expiry; delivery count
 *   unacked   distance of the position from the end of the run before; body size; [2] time (expiry
 * + 1 or 0; of a dead letter when it died); delivery count (or enum queue_death); level released
 * distance; body size; expiry; next_position at its release, since the run before delayed   body
 * size; time when it is due; ttl + 1, or 0; level dead      time when it died; enum queue_death
 *   distances and times are zigzag differences from those of the run before; an expiry is one more
 *   than it is, and 0 for none
 *
 * Invariants: what is derived is not written; equal states give equal bytes (I4).
 */
#include "queue_internal.h"
#include "snapshot_internal.h"

#include "warren/map.h"

static void put_run(struct writer *w, const struct range_run *run, const struct range_run *before,
                    enum snapshot_fields fields)
{
    const struct range_attr *attr = &run->attr;
    put_varint(w, run->first - (before->first + before->count));
    put_varint(w, run->count);
    if ((fields & SNAPSHOT_VALUE) != 0) {
        put_varint(w, snapshot__zigzag(attr->value - (before->attr.value + before->count)));
    }
    if ((fields & SNAPSHOT_SIZE) != 0) {
        put_varint(w, attr->a);
    }
    if ((fields & SNAPSHOT_TIME) != 0) {
        put_varint(w, snapshot__zigzag(attr->b - before->attr.b));
    }
    if ((fields & SNAPSHOT_COUNT) != 0) {
        put_varint(w, attr->c);
    }
    if ((fields & SNAPSHOT_LEVEL) != 0) {
        put_varint(w, attr->d);
    }
    if ((fields & SNAPSHOT_BEFORE) != 0) {
        put_varint(w, queue__released_before(attr) - queue__released_before(&before->attr));
    }
    if ((fields & SNAPSHOT_TTL) != 0) {
        put_varint(w, queue__delayed_ttl(attr));
        put_varint(w, queue__delayed_level(attr));
    }
}

static void put_runs(struct writer *w, const struct rangemap *map, enum snapshot_fields fields)
{
    struct rangemap_cursor cursor;
    struct range_run before = {.first = 0};
    put_varint(w, rangemap_runs(map));
    const struct range_run *run = rangemap_lower_bound(map, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        put_run(w, run, &before, fields);
        before = *run;
    }
}

static void put_consumer(struct writer *w, const struct queue_consumer *consumer)
{
    put_varint(w, consumer->id);
    put_varint(w, (consumer->attached ? SNAPSHOT_ATTACHED : 0u) |
                      (consumer->no_ack ? SNAPSHOT_NO_ACK : 0u) |
                      (consumer->settles ? SNAPSHOT_SETTLES : 0u) |
                      (consumer->exclusive ? SNAPSHOT_EXCLUSIVE : 0u) |
                      (consumer->dead ? SNAPSHOT_DEAD_LETTERS : 0u));
    put_varint(w, consumer->prefetch);
    put_varint(w, snapshot__zigzag((uint64_t)(int64_t)consumer->priority));
    put_varint(w, consumer->limit + 1);
    put_varint(w, consumer->delivered);
    put_varint(w, consumer->attach);
    put_varbytes(w, consumer->name);
    put_varbytes(w, consumer->args);
    put_runs(w, &consumer->unacked, SNAPSHOT_UNACKED);
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
        put_varint(w, client->reply.taken);
    }
    put_runs(w, &client->nacked, SNAPSHOT_KEYS);
    put_varint(w, client->consumers.count);
    for (size_t i = 0; i < client->consumers.count; i++) {
        put_consumer(w, client->consumers.items[i]);
    }
}

static void put_clients(struct writer *w, const struct queue *q)
{
    put_runs(w, &q->gone, SNAPSHOT_KEYS);
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

static bool level_is_used(const struct queue_level *level)
{
    return !rangemap_is_empty(&level->ready) || !rangemap_is_empty(&level->released);
}

static void put_levels(struct writer *w, const struct queue *q)
{
    uint32_t used = 0;
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        used += level_is_used(&q->levels[level]) ? 1 : 0;
    }
    put_varint(w, used);
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        if (level_is_used(&q->levels[level])) {
            put_varint(w, level);
            put_runs(w, &q->levels[level].ready, SNAPSHOT_READY);
            put_runs(w, &q->levels[level].released, SNAPSHOT_RELEASED);
        }
    }
    put_runs(w, &q->delayed, SNAPSHOT_DELAYED);
    put_runs(w, &q->dead, SNAPSHOT_DEAD);
}

static void put_remembered(struct writer *w, const struct queue *q)
{
    put_varint(w, q->publisher_index.count);
    LIST_FOREACH(link, &q->publishers) {
        const struct queue_publisher *publisher =
            WR_CONTAINER_OF_CONST(link, struct queue_publisher, link);
        put_varbytes(w, publisher->id);
        put_runs(w, &publisher->numbers, SNAPSHOT_KEYS);
    }
    put_varint(w, q->ids.count);
    uint64_t before = 0;
    for (const struct map_item *item = q->ids.first; item != NULL; item = item->next) {
        const uint64_t time_ms = queue__ids_time(item);
        put_varint(w, time_ms - before);
        put_view(w, map_key(item));
        before = time_ms;
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
    put_varint(&w, queue->clock_ms);
    put_varint(&w, queue->used_ms);
    put_varint(&w, queue->expired);
    put_varint(&w, queue->dropped);
    put_varint(&w, queue->refused);
    put_varint(&w, queue->duplicates);
    put_varint(&w, queue->next_attach);
    put_varint(&w, queue->next_release);
    put_varint(&w, queue->active == NULL ? 0 : queue->active->client->id);
    put_varint(&w, queue->active == NULL ? 0 : queue->active->id);
    put_clients(&w, queue);
    put_rings(&w, queue);
    put_levels(&w, queue);
    put_remembered(&w, queue);
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
    uint64_t weight = queue->closed_count + rangemap_runs(&queue->gone) +
                      rangemap_runs(&queue->delayed) + rangemap_runs(&queue->dead) +
                      queue->ids.count;
    for (uint32_t level = 0; level <= queue->config.priority_max; level++) {
        weight += rangemap_runs(&queue->levels[level].ready) +
                  rangemap_runs(&queue->levels[level].released);
    }
    LIST_FOREACH(link, &queue->publishers) {
        weight +=
            1 + rangemap_runs(&WR_CONTAINER_OF_CONST(link, struct queue_publisher, link)->numbers);
    }
    for (size_t i = 0; i < queue->clients.count; i++) {
        const struct queue_client *client = queue->clients.items[i];
        weight += 1 + client->consumers.count + rangemap_runs(&client->nacked);
        for (size_t k = 0; k < client->consumers.count; k++) {
            weight += rangemap_runs(&client->consumers.items[k]->unacked);
        }
    }
    return weight;
}
