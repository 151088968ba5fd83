/*
 * What: builds a machine from a snapshot (layout: snapshot.c).
 * Failure modes: the bytes are untrusted. Reading stops at the first thing that cannot be; then the
 * state as a whole is checked (queue__fault), and at last it must encode to the very bytes it came
 * from, so that no second encoding of a state exists (not asked of version 1, which is not written
 * any more). Memory stays within a constant times the
 * bytes read: every item that is allocated for has used up some.
 */
#include "queue_internal.h"
#include "snapshot_internal.h"

#include "warren/err.h"

/* Keys and positions stay below this: sums of two do not overflow. */
#define NUMBER_MAX (UINT64_C(1) << 62)
#define TIMES_MAX  (2 * NUMBER_MAX)

static uint32_t get_u32(struct reader *r, uint32_t max)
{
    const uint64_t value = rd_varint(r);
    if (value > max) {
        rd_fail(r);
        return 0;
    }
    return (uint32_t)value;
}

/* A snapshot that is being read. */
struct restoring {
    struct reader *in;
    struct queue *queue;
    bool is_first; /* Of version 1. */
    uint64_t active_client;
    uint32_t active_consumer;
};

/* First key and number of keys of the next run. */
static bool get_keys(struct reader *r, uint64_t max, const struct range_run *before,
                     struct range_run *run)
{
    const uint64_t begin = before->first + before->count;
    const uint64_t gap = rd_varint(r);
    run->count = rd_varint(r);
    if (r->failed || gap > max - begin || run->count == 0 || run->count > max - begin - gap) {
        rd_fail(r);
        return false;
    }
    run->first = begin + gap;
    return true;
}

static uint64_t get_difference(struct reader *r, uint64_t before, uint64_t max)
{
    const uint64_t value = before + snapshot__unzigzag(rd_varint(r));
    if (value > max) {
        rd_fail(r);
        return 0;
    }
    return value;
}

static void get_released_before(struct reader *r, const struct range_run *before,
                                struct range_run *run)
{
    const uint64_t from = queue__released_before(&before->attr);
    const uint64_t more = rd_varint(r);
    if (more > NUMBER_MAX || from + more > NUMBER_MAX) {
        rd_fail(r);
        return;
    }
    run->attr.c = (uint32_t)(from + more);
    run->attr.d = (uint32_t)((from + more) >> 32);
}

/* The next run of a map; false when the bytes make no sense. */
static bool get_run(const struct restoring *s, enum snapshot_fields fields,
                    const struct range_run *before, struct range_run *run)
{
    struct reader *r = s->in;
    *run = (struct range_run){.first = 0};
    if (!get_keys(r, NUMBER_MAX, before, run)) {
        return false;
    }
    run->attr.value = run->first;
    if ((fields & SNAPSHOT_VALUE) != 0) {
        run->attr.value = get_difference(r, before->attr.value + before->count, NUMBER_MAX);
    }
    if ((fields & SNAPSHOT_SIZE) != 0) {
        run->attr.a = get_u32(r, MESSAGE_BODY_MAX);
    }
    if ((fields & SNAPSHOT_TIME) != 0 && !s->is_first) {
        run->attr.b = get_difference(r, before->attr.b, TIMES_MAX);
    }
    if ((fields & SNAPSHOT_COUNT) != 0) {
        run->attr.c = get_u32(r, UINT32_MAX);
    }
    if ((fields & SNAPSHOT_LEVEL) != 0) {
        run->attr.d = get_u32(r, s->queue->config.priority_max);
    }
    if ((fields & SNAPSHOT_BEFORE) != 0) {
        get_released_before(r, before, run);
    }
    if ((fields & SNAPSHOT_TTL) != 0) {
        const uint64_t ttl = rd_varint(r);
        const uint32_t level = get_u32(r, s->queue->config.priority_max);
        if (ttl > QUEUE_TTL_MAX + 1) {
            rd_fail(r);
            return false;
        }
        run->attr = queue__delayed_attr(run->first, (uint32_t)run->attr.a, run->attr.b, level, ttl);
    }
    return !r->failed;
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

/* A set of numbers up to `max`. */
static void get_set(const struct restoring *s, uint64_t max, struct rangemap *set)
{
    struct range_run before = {.first = 0};
    for (uint64_t left = rd_varint(s->in); left > 0 && !s->in->failed; left--) {
        struct range_run run = {.first = 0};
        if (get_keys(s->in, max, &before, &run)) {
            run.attr.value = run.first;
            rangemap_insert(set, run.first, run.count, &run.attr);
            before = run;
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

static void get_unacked(const struct restoring *s, struct queue_consumer *consumer)
{
    struct queue *q = s->queue;
    struct range_run before = {.first = 0};
    struct range_run run;
    for (uint64_t left = rd_varint(s->in); left > 0 && !s->in->failed; left--) {
        if (!get_run(s, SNAPSHOT_UNACKED, &before, &run)) {
            return;
        }
        before = run;
        if (range_run_end(&run) > consumer->delivered + 1) {
            rd_fail(s->in);
            return;
        }
        if (!get_live(s->in, q, run.attr.value, run.count)) {
            return;
        }
        rangemap_insert(&consumer->unacked, run.first, run.count, &run.attr);
        if (consumer->dead) {
            q->dead_out += run.count;
            continue;
        }
        q->unacked += run.count;
        q->bytes_unacked += run.count * run.attr.a;
        if (queue__is_held(consumer)) {
            consumer->client->held += run.count;
        }
    }
}

static struct bytes get_owned(struct reader *r)
{
    const struct bytes view = rd_varbytes(r);
    return view.size == 0 ? BYTES_NONE : bytes_make(wr_memdup(view.data, view.size), view.size);
}

static void get_consumer(const struct restoring *s, struct queue_client *client)
{
    struct reader *r = s->in;
    struct queue *q = s->queue;
    const uint32_t id = get_u32(r, UINT32_MAX);
    const uint32_t flags =
        get_u32(r, s->is_first ? SNAPSHOT_FIRST_CONSUMER_FLAGS : SNAPSHOT_CONSUMER_FLAGS);
    const uint32_t prefetch = get_u32(r, UINT32_MAX);
    const int64_t priority = (int64_t)snapshot__unzigzag(rd_varint(r));
    if (r->failed || priority < INT32_MIN || priority > INT32_MAX ||
        (id == 0 && (flags & (SNAPSHOT_ATTACHED | SNAPSHOT_DEAD_LETTERS)) != 0) ||
        (flags & (SNAPSHOT_SETTLES | SNAPSHOT_NO_ACK)) == SNAPSHOT_SETTLES ||
        (client->consumers.count > 0 && vec_last(&client->consumers)->id >= id)) {
        rd_fail(r);
        return;
    }
    struct queue_consumer *consumer = queue__consumer_add(client, id);
    consumer->prefetch = prefetch;
    consumer->priority = (int32_t)priority;
    consumer->no_ack = (flags & SNAPSHOT_NO_ACK) != 0;
    consumer->settles = (flags & SNAPSHOT_SETTLES) != 0;
    consumer->exclusive = (flags & SNAPSHOT_EXCLUSIVE) != 0;
    consumer->dead = (flags & SNAPSHOT_DEAD_LETTERS) != 0;
    consumer->limit = rd_varint(r) - 1;
    consumer->delivered = rd_varint(r);
    consumer->attach = !s->is_first ? rd_varint(r) : id == 0 ? 0 : q->next_attach++;
    if (consumer->delivered > NUMBER_MAX) {
        rd_fail(r);
        return;
    }
    consumer->name = get_owned(r);
    consumer->args = get_owned(r);
    get_unacked(s, consumer);
    if ((flags & SNAPSHOT_ATTACHED) != 0) {
        queue__consumer_join(q, consumer);
    }
}

static void get_reply(const struct restoring *s, struct queue_reply *reply)
{
    reply->seq = rd_varint(s->in);
    if (reply->seq != 0) {
        reply->status = (uint8_t)get_u32(s->in, QUEUE_EXISTS);
        reply->value = rd_varint(s->in);
        reply->value2 = rd_varint(s->in);
        reply->ordinal = rd_varint(s->in);
        reply->taken = !s->is_first ? rd_varint(s->in) : reply->ordinal == 0 ? 0 : 1;
    }
}

static void get_client(const struct restoring *s)
{
    struct reader *r = s->in;
    struct queue *q = s->queue;
    const uint64_t id = rd_varint(r);
    if (r->failed || id == 0 || (q->clients.count > 0 && vec_last(&q->clients)->id >= id)) {
        rd_fail(r);
        return;
    }
    struct queue_client *client = queue__client_add(q, id);
    client->last_seq = rd_varint(r);
    client->limit = rd_varint(r);
    get_reply(s, &client->reply);
    if (!s->is_first) {
        get_set(s, UINT64_MAX, &client->nacked);
    }
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        get_consumer(s, client);
    }
}

static struct queue_consumer *find_consumer(const struct queue *q, uint64_t client_id,
                                            uint32_t consumer_id)
{
    const struct queue_client *client = queue__client_find(q, client_id);
    return client == NULL ? NULL : queue__consumer_find(client, consumer_id);
}

/* Who is barred, before the rings are filled. In version 1 nobody was. */
static void set_active(const struct restoring *s)
{
    struct queue *q = s->queue;
    for (size_t i = 0; i < q->clients.count; i++) {
        const struct queue_client *client = q->clients.items[i];
        for (size_t k = 0; k < client->consumers.count; k++) {
            client->consumers.items[k]->barred = false;
        }
    }
    q->active_stale = false;
    if (s->is_first || !q->config.single_active_consumer) {
        return;
    }
    if (s->active_client != 0) {
        q->active = find_consumer(q, s->active_client, s->active_consumer);
        if (q->active == NULL || !q->active->attached || q->active->dead) {
            rd_fail(s->in);
            q->active = NULL;
            return;
        }
    }
    queue__bar_others(q);
}

/* Puts the consumers into their rings in the order in which they were. */
static void get_rings(const struct restoring *s)
{
    struct reader *r = s->in;
    struct queue *q = s->queue;
    if (rd_varint(r) != q->groups.count) {
        rd_fail(r);
        return;
    }
    for (size_t i = 0; i < q->groups.count; i++) {
        for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
            const uint64_t client_id = rd_varint(r);
            struct queue_consumer *consumer = find_consumer(q, client_id, get_u32(r, UINT32_MAX));
            if (r->failed || consumer == NULL || consumer->in_ring ||
                consumer->group != q->groups.items[i] || queue__capacity(consumer) == 0) {
                rd_fail(r);
                return;
            }
            queue__consumer_update(consumer);
        }
    }
}

static void get_level(const struct restoring *s)
{
    struct reader *r = s->in;
    struct queue *q = s->queue;
    const uint32_t level = get_u32(r, q->config.priority_max);
    struct range_run before = {.first = 0};
    struct range_run run;
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        if (!get_run(s, SNAPSHOT_READY, &before, &run)) {
            return;
        }
        before = run;
        run.attr.d = level;
        if (get_live(r, q, run.first, run.count)) {
            queue__ready_put(q, &run);
        }
    }
    before = (struct range_run){.first = 0};
    for (uint64_t left = s->is_first ? 0 : rd_varint(r); left > 0 && !r->failed; left--) {
        if (!get_run(s, SNAPSHOT_RELEASED, &before, &run)) {
            return;
        }
        before = run;
        if (get_live(r, q, run.attr.value, run.count)) {
            queue__released_put(q, level, &run);
        }
    }
}

static void get_delayed(const struct restoring *s)
{
    struct range_run before = {.first = 0};
    struct range_run run;
    for (uint64_t left = rd_varint(s->in); left > 0 && !s->in->failed; left--) {
        if (get_run(s, SNAPSHOT_DELAYED, &before, &run) &&
            get_live(s->in, s->queue, run.first, run.count)) {
            queue__delayed_put(s->queue, &run);
            before = run;
        }
    }
}

static void get_dead(const struct restoring *s)
{
    struct range_run before = {.first = 0};
    struct range_run run;
    for (uint64_t left = rd_varint(s->in); left > 0 && !s->in->failed; left--) {
        if (get_run(s, SNAPSHOT_DEAD, &before, &run) &&
            get_live(s->in, s->queue, run.first, run.count)) {
            rangemap_insert(&s->queue->dead, run.first, run.count, &run.attr);
            before = run;
        }
    }
}

static void get_publishers(const struct restoring *s)
{
    struct queue *q = s->queue;
    const uint32_t count = get_u32(s->in, QUEUE_PUBLISHERS_MAX);
    for (uint32_t i = 0; i < count && !s->in->failed; i++) {
        const struct bytes id = rd_varbytes(s->in);
        if (s->in->failed || map_find(&q->publisher_index, id) != NULL) {
            rd_fail(s->in);
            return;
        }
        get_set(s, UINT64_MAX, &queue__publisher_add(q, id)->numbers);
    }
}

static void get_ids(const struct restoring *s)
{
    const uint32_t count = get_u32(s->in, QUEUE_IDS_MAX);
    uint64_t time_ms = 0;
    for (uint32_t i = 0; i < count && !s->in->failed; i++) {
        const uint64_t later = rd_varint(s->in);
        const struct bytes hash = rd_bytes(s->in, QUEUE_ID_HASH_SIZE);
        if (s->in->failed || later > QUEUE_TIME_MAX - time_ms ||
            !queue__ids_put(s->queue, hash, time_ms + later)) {
            rd_fail(s->in);
            return;
        }
        time_ms += later;
    }
}

static void get_numbers(struct restoring *s)
{
    struct reader *r = s->in;
    struct queue *q = s->queue;
    q->unused = get_u32(r, SNAPSHOT_UNUSED) != 0;
    q->sealed_by = rd_varint(r);
    q->next_position = rd_varint(r);
    q->delivered = rd_varint(r);
    q->acked = rd_varint(r);
    q->redelivered = rd_varint(r);
    if (!s->is_first) {
        q->clock_ms = rd_varint(r);
        q->used_ms = rd_varint(r);
        q->expired = rd_varint(r);
        q->dropped = rd_varint(r);
        q->refused = rd_varint(r);
        q->duplicates = rd_varint(r);
        q->next_attach = rd_varint(r);
        q->next_release = rd_varint(r);
        s->active_client = rd_varint(r);
        s->active_consumer = get_u32(r, UINT32_MAX);
    }
    if (q->next_position == 0 || q->next_release == 0 || q->next_attach == 0 ||
        q->next_position > NUMBER_MAX || q->clock_ms > QUEUE_TIME_MAX ||
        q->next_release > NUMBER_MAX || q->next_attach > NUMBER_MAX) {
        rd_fail(r);
    }
}

static void get_all(struct restoring *s)
{
    struct reader *r = s->in;
    struct queue *q = s->queue;
    get_numbers(s);
    get_set(s, NUMBER_MAX, &q->gone);
    get_suspended(r, q);
    get_closed(r, q);
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        get_client(s);
    }
    set_active(s);
    get_rings(s);
    for (uint64_t left = rd_varint(r); left > 0 && !r->failed; left--) {
        get_level(s);
    }
    if (!s->is_first) {
        get_delayed(s);
        get_dead(s);
        get_publishers(s);
        get_ids(s);
    } else if (!r->failed) {
        q->active_stale = q->config.single_active_consumer;
        queue__choose_active(q);
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
    if (version < SNAPSHOT_FIRST_VERSION || !queue__config_get(&r, &config)) {
        return WR_E_CORRUPT;
    }
    struct queue *q = queue_new(&config);
    struct restoring s = {.in = &r, .queue = q, .is_first = version == SNAPSHOT_FIRST_VERSION};
    get_all(&s);
    if (!rd_done(&r) || queue__fault(q) != NULL || (!s.is_first && !encodes_to(q, snapshot))) {
        queue_free(q);
        return WR_E_CORRUPT;
    }
    *ret_queue = q;
    return 0;
}
