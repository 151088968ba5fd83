/*
 * What: builds a machine from a snapshot (layout: snapshot.c).
 * Failure modes: the bytes are untrusted. Reading stops at the first thing that cannot be; then the
 * state as a whole is checked (queue__fault), and at last it must encode to the very bytes it came
 * from, so that no second encoding of a state exists. Memory stays within a constant times the
 * bytes read: every item that is allocated for has used up some.
 */
#include "queue_internal.h"
#include "snapshot_internal.h"

#include "warren/err.h"

/* Keys and positions stay below this: sums of two do not overflow. */
#define NUMBER_MAX (UINT64_C(1) << 62)

static uint32_t get_u32(struct reader *r, uint32_t max)
{
    const uint64_t value = rd_varint(r);
    if (value > max) {
        rd_fail(r);
        return 0;
    }
    return (uint32_t)value;
}

/* First key and number of keys of the next run; `key` is the end of the one before. */
static bool get_run(struct reader *r, uint64_t *key, struct range_run *run)
{
    const uint64_t gap = rd_varint(r);
    run->count = rd_varint(r);
    run->first = *key + gap;
    if (r->failed || gap > NUMBER_MAX || run->count == 0 || run->count > NUMBER_MAX ||
        run->first > NUMBER_MAX || run->first + run->count > NUMBER_MAX) {
        rd_fail(r);
        return false;
    }
    *key = run->first + run->count;
    return true;
}

static void get_attributes(struct reader *r, const struct queue *q, bool with_level,
                           struct range_run *run)
{
    run->attr.a = get_u32(r, MESSAGE_BODY_MAX);
    run->attr.c = get_u32(r, UINT32_MAX);
    if (with_level) {
        run->attr.d = get_u32(r, q->config.priority_max);
    }
}

/* Notes positions as live; fails when one of them is already, or was never given out. */
static bool get_live(struct reader *r, struct queue *q, uint64_t position, uint64_t count)
{
    struct rangemap_cursor cursor;
    if (r->failed || position == 0 || position > NUMBER_MAX || count > NUMBER_MAX ||
        position + count > q->next_position) {
        rd_fail(r);
        return false;
    }
    const struct range_run *next = rangemap_lower_bound(&q->live, position, &cursor);
    if (next != NULL && next->first < position + count) {
        rd_fail(r);
        return false;
    }
    const struct range_attr attr = {.value = position};
    rangemap_insert(&q->live, position, count, &attr);
    return true;
}

static void get_gone(struct reader *r, struct queue *q)
{
    uint64_t key = 0;
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        struct range_run run = {.first = 0};
        if (get_run(r, &key, &run)) {
            run.attr.value = run.first;
            rangemap_insert(&q->gone, run.first, run.count, &run.attr);
        }
    }
}

static void get_suspended(struct reader *r, struct queue *q)
{
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        const uint64_t boot = get_u32(r, UINT32_MAX);
        if (q->suspended.count > 0 && vec_last(&q->suspended) >= boot) {
            rd_fail(r);
        } else {
            vec_push(&q->suspended, boot);
        }
    }
}

static void get_closed(struct reader *r, struct queue *q)
{
    const uint32_t count = get_u32(r, QUEUE_CLOSED_MAX);
    for (uint32_t i = 0; i < count && !r->failed; i++) {
        queue__remember_closed(q, rd_varint(r));
    }
}

static void get_unacked(struct reader *r, struct queue *q, struct queue_consumer *consumer)
{
    uint64_t key = 0;
    uint64_t position = 0;
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        struct range_run run = {.first = 0};
        if (!get_run(r, &key, &run)) {
            return;
        }
        run.attr.value = position + snapshot__unzigzag(rd_varint(r));
        get_attributes(r, q, true, &run);
        if (run.first == 0 || key > consumer->delivered + 1) {
            rd_fail(r);
            return;
        }
        if (!get_live(r, q, run.attr.value, run.count)) {
            return;
        }
        position = run.attr.value + run.count;
        rangemap_insert(&consumer->unacked, run.first, run.count, &run.attr);
        q->unacked += run.count;
        q->bytes_unacked += run.count * run.attr.a;
        if (consumer->id != 0) {
            consumer->client->held += run.count;
        }
    }
}

static struct bytes get_owned(struct reader *r)
{
    const struct bytes view = rd_varbytes(r);
    return view.size == 0 ? BYTES_NONE : bytes_make(wr_memdup(view.data, view.size), view.size);
}

static void get_consumer(struct reader *r, struct queue *q, struct queue_client *client)
{
    const uint32_t id = get_u32(r, UINT32_MAX);
    const uint32_t flags = get_u32(r, SNAPSHOT_CONSUMER_FLAGS);
    const uint32_t prefetch = get_u32(r, UINT32_MAX);
    const int64_t priority = (int64_t)snapshot__unzigzag(rd_varint(r));
    if (r->failed || priority < INT32_MIN || priority > INT32_MAX ||
        (id == 0 && (flags & SNAPSHOT_ATTACHED) != 0) ||
        (client->consumers.count > 0 && vec_last(&client->consumers)->id >= id)) {
        rd_fail(r);
        return;
    }
    struct queue_consumer *consumer = queue__consumer_add(client, id);
    consumer->prefetch = prefetch;
    consumer->priority = (int32_t)priority;
    consumer->no_ack = (flags & SNAPSHOT_NO_ACK) != 0;
    consumer->exclusive = (flags & SNAPSHOT_EXCLUSIVE) != 0;
    consumer->limit = rd_varint(r) - 1;
    consumer->delivered = rd_varint(r);
    if (consumer->delivered > NUMBER_MAX) {
        rd_fail(r);
        return;
    }
    consumer->name = get_owned(r);
    consumer->args = get_owned(r);
    get_unacked(r, q, consumer);
    if ((flags & SNAPSHOT_ATTACHED) != 0) {
        queue__consumer_join(q, consumer);
    }
}

static void get_client(struct reader *r, struct queue *q)
{
    const uint64_t id = rd_varint(r);
    if (r->failed || id == 0 || (q->clients.count > 0 && vec_last(&q->clients)->id >= id)) {
        rd_fail(r);
        return;
    }
    struct queue_client *client = queue__client_add(q, id);
    client->last_seq = rd_varint(r);
    client->limit = rd_varint(r);
    client->reply.seq = rd_varint(r);
    if (client->reply.seq != 0) {
        client->reply.status = (uint8_t)get_u32(r, QUEUE_EXISTS);
        client->reply.value = rd_varint(r);
        client->reply.value2 = rd_varint(r);
        client->reply.ordinal = rd_varint(r);
    }
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        get_consumer(r, q, client);
    }
}

/* Puts the consumers into their rings in the order in which they were. */
static void get_rings(struct reader *r, struct queue *q)
{
    if (rd_varint(r) != q->groups.count) {
        rd_fail(r);
        return;
    }
    for (size_t i = 0; i < q->groups.count; i++) {
        for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
            const uint64_t client_id = rd_varint(r);
            const uint32_t consumer_id = get_u32(r, UINT32_MAX);
            struct queue_client *client = queue__client_find(q, client_id);
            struct queue_consumer *consumer =
                client == NULL ? NULL : queue__consumer_find(client, consumer_id);
            if (r->failed || consumer == NULL || consumer->in_ring ||
                consumer->group != q->groups.items[i] || queue__capacity(consumer) == 0) {
                rd_fail(r);
                return;
            }
            queue__consumer_update(consumer);
        }
    }
}

static void get_level(struct reader *r, struct queue *q)
{
    const uint32_t level = get_u32(r, q->config.priority_max);
    uint64_t key = 0;
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        struct range_run run = {.first = 0};
        if (!get_run(r, &key, &run)) {
            return;
        }
        run.attr.value = run.first;
        run.attr.d = level;
        get_attributes(r, q, false, &run);
        if (get_live(r, q, run.first, run.count)) {
            queue__ready_put(q, &run);
        }
    }
}

static void get_all(struct reader *r, struct queue *q)
{
    q->unused = get_u32(r, SNAPSHOT_UNUSED) != 0;
    q->sealed_by = rd_varint(r);
    q->next_position = rd_varint(r);
    q->delivered = rd_varint(r);
    q->acked = rd_varint(r);
    q->redelivered = rd_varint(r);
    if (q->next_position == 0 || q->next_position > NUMBER_MAX) {
        rd_fail(r);
        return;
    }
    get_gone(r, q);
    get_suspended(r, q);
    get_closed(r, q);
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        get_client(r, q);
    }
    get_rings(r, q);
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        get_level(r, q);
    }
}

static bool encodes_to(const struct queue *q, struct bytes snapshot)
{
    struct buf *again = buf_new(snapshot.size);
    queue_snapshot(q, &again);
    const bool same = bytes_eq(bytes_make(again->data, again->size), snapshot);
    buf_unref(again);
    return same;
}

int queue_restore(struct bytes snapshot, struct queue **ret_queue)
{
    struct reader r = reader_from(snapshot);
    struct queue_config config;
    const uint64_t version = rd_varint(&r);
    if (!r.failed && version > QUEUE_MACHINE_VERSION) {
        return WR_E_VERSION;
    }
    if (version != QUEUE_MACHINE_VERSION || !queue__config_get(&r, &config)) {
        return WR_E_CORRUPT;
    }
    struct queue *q = queue_new(&config);
    get_all(&r, q);
    if (!rd_done(&r) || queue__fault(q) != NULL || !encodes_to(q, snapshot)) {
        queue_free(q);
        return WR_E_CORRUPT;
    }
    *ret_queue = q;
    return 0;
}
