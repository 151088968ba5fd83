/*
 * What: one queue as used by one channel: its queue client, the publishes that wait for its
 * confirmation, its consumers' deliveries.
 *
 * Confirms: the queue client reports "all ops up to seq applied"; q->confirms maps runs of seqs to
 * runs of the front end's tokens. A message with one target ("sole") is confirmed straight from
 * there; one with several is counted in channel->multi and confirmed with the last.
 *
 * Invariants: I1 q->confirms is ascending in seq. I2 channel->multi[token] = targets that have not
 * answered yet, > 0. I3 channel->rejecting = its queues whose `rejected` is not 0; while it is 0,
 * nobody is in channel->death_waits.
 */
#include "broker_internal.h"

/* What a publish must tell this queue, by its settings in the present view. */
static void note_wishes(struct ch_queue *q, const struct catalog_queue *queue)
{
    q->wants_ids = queue->settings.dedup_window_ms > 0;
    q->delays = queue->settings.delays;
}

struct ch_queue *ch_queue_open(struct broker_channel *ch, const struct catalog_queue *queue)
{
    struct ch_queue *q = umap_get(&ch->by_id, queue->id);
    if (q != NULL) {
        note_wishes(q, queue);
        return q;
    }
    q = wr_calloc(1, sizeof *q);
    q->channel = ch;
    q->queue_id = queue->id;
    q->counted = queue->spec.type == CATALOG_QUORUM;
    q->history = queue->spec.type == CATALOG_HISTORY;
    q->auto_delete = queue->spec.auto_delete;
    q->exclusive = queue->spec.exclusive;
    q->safe = queue->spec.run == CATALOG_RUN_LOCAL &&
              uid_eq(queue->spec.local.node, ch->broker->options.node_id);
    memcpy(q->name, queue->spec.name.data, queue->spec.name.size);
    q->name_size = (uint8_t)queue->spec.name.size;
    vec_push(&q->consumers, (struct consumer *)NULL);
    list_init(&q->holdings);
    list_init(&q->requests);
    q->handle = ch->next_handle++;
    (void)umap_put(&ch->by_handle, q->handle, q);
    (void)umap_put(&ch->by_id, queue->id, q);
    q->client = queue_client_open(ch->broker->host, queue, &ch_queue_sink, q);
    note_wishes(q, queue);
    return q;
}

static void forget_in_cache(struct broker_channel *ch)
{
    if (ch->cache != NULL) {
        for (size_t i = 0; i < ROUTE_CACHE_SLOTS; i++) {
            ch->cache[i].serial = 0;
        }
    }
}

void channel_free_slots(struct broker_channel *ch)
{
    if (ch->cache != NULL) {
        for (size_t i = 0; i < ROUTE_CACHE_SLOTS; i++) {
            vec_deinit(&ch->cache[i].targets);
        }
        wr_free(ch->cache);
        ch->cache = NULL;
    }
}

bool channel_is_blocked(const struct broker_channel *ch)
{
    return ch->blocked_queues > 0 || ch->alarmed || ch->crowded || ch->tired;
}

bool channel_in_flow(const struct broker_channel *ch, uint64_t now_ms, uint64_t keep_ms)
{
    return ch->blocked_queues > 0 || ch->crowded ||
           (ch->flow_ms != 0 && now_ms - ch->flow_ms < keep_ms);
}

/* Stopping is told at once; going on in the turn, because the front end then works off what it
 * kept. */
void channel_check_blocked(struct broker_channel *ch)
{
    bool blocked = channel_is_blocked(ch);
    if (ch->closed || blocked == ch->told_blocked) {
        return;
    }
    if (blocked) {
        ch->told_blocked = true;
        ch->sink->on_blocked(ch->ctx, true);
    } else if (list_is_empty(&ch->unblock_link)) {
        list_push_back(&ch->broker->unblocked, &ch->unblock_link);
    }
}

static void set_pending(struct ch_queue *q)
{
    uint64_t pending = q->published > q->applied ? q->published - q->applied : 0;
    q->channel->pending += pending - q->pending;
    q->pending = pending;
}

/* Room among what is pending: half of the limit, so that it is not told for each publish. */
static void check_crowded(struct broker_channel *ch)
{
    if (ch->crowded && ch->pending <= PENDING_MAX / 2) {
        ch->crowded = false;
        ch->flow_ms = broker_now_ms(ch->broker);
        channel_check_blocked(ch);
    }
}

void ch_queue_note_publish(struct ch_queue *q, uint64_t seq)
{
    q->published = seq;
    set_pending(q);
}

/*
 * A publish to n targets is n times the work and, until it is applied, n times the memory. The
 * limit of each queue client does not bound that: with thousands of queues on one exchange a
 * channel would have millions of ops under way, and one read of its socket would be seconds of
 * work.
 */
void channel_note_published(struct broker_channel *ch, size_t targets)
{
    struct broker *broker = ch->broker;
    if (ch->extra_turn != broker->turn) {
        ch->extra_turn = broker->turn;
        ch->extra = 0;
    }
    ch->extra += targets - 1;
    broker->extra += targets - 1;
    ch->crowded = ch->crowded || ch->pending > PENDING_MAX;
    bool enough = ch->extra > TURN_EXTRA_MAX || (targets > 1 && broker->extra > TURN_EXTRA_ALL);
    if (enough && !ch->tired) {
        ch->tired = true;
        if (list_is_empty(&ch->unblock_link)) {
            list_push_back(&broker->unblocked, &ch->unblock_link);
        }
    }
    channel_check_blocked(ch);
}

static void set_blocked(struct ch_queue *q, bool blocked)
{
    struct broker_channel *ch = q->channel;
    if (q->blocked == blocked) {
        return;
    }
    q->blocked = blocked;
    ch->flow_ms = q->flow_ms = broker_now_ms(ch->broker);
    ch->blocked_queues += blocked ? 1u : UINT32_MAX;
    channel_check_blocked(ch);
}

static void deaths_over(struct ch_queue *q)
{
    q->rejected = 0;
    if (--q->channel->rejecting == 0) {
        request_deaths_over(q->channel);
    }
}

void ch_queue_close(struct ch_queue *q)
{
    struct broker_channel *ch = q->channel;
    LIST_FOREACH_SAFE(link, &q->requests) {
        request_queue_gone(WR_CONTAINER_OF(link, struct request, reply_link));
    }
    for (size_t i = 1; i < q->consumers.count; i++) {
        if (q->consumers.items[i] != NULL) {
            consumer_free(q->consumers.items[i]);
        }
    }
    WR_ASSERT_OP(q->unacked, <=, ch->outstanding);
    ch->outstanding -= q->unacked; /* they are gone with the queue, or returned with the client */
    ch->got_unacked -= q->got_unacked;
    holdings_free(q);
    set_blocked(q, false);
    ch->pending -= q->pending;
    check_crowded(ch);
    if (q->rejected != 0) {
        deaths_over(q);
    }
    if (q->has_got) {
        message_unref(q->got);
    }
    queue_client_close(q->client);
    (void)umap_remove(&ch->by_id, q->queue_id);
    (void)umap_remove(&ch->by_handle, q->handle);
    forget_in_cache(ch);
    vec_deinit(&q->confirms);
    vec_deinit(&q->consumers);
    wr_free(q);
}

/* --- confirms --------------------------------------------------------------------------------- */

void confirm_expect(struct ch_queue *q, uint64_t seq, uint64_t token, bool sole)
{
    if (q->confirms_first < q->confirms.count) {
        struct confirm_run *last = &vec_last(&q->confirms);
        if (last->seq + last->count == seq && last->token + last->count == token &&
            last->sole == sole) {
            last->count++;
            return;
        }
    } else {
        vec_clear(&q->confirms);
        q->confirms_first = 0;
    }
    vec_push(&q->confirms,
             ((struct confirm_run){.seq = seq, .token = token, .count = 1, .sole = sole}));
}

static void answer_multi(struct broker_channel *ch, uint64_t token, bool ack)
{
    void **left = umap_entry(&ch->multi, token, NULL);
    uintptr_t count = (uintptr_t)*left;
    WR_ASSERT(count > 0);
    if (!ack) {
        (void)umap_put(&ch->nacked, token, ch);
    }
    left = umap_entry(&ch->multi, token, NULL);
    *left = (void *)(count - 1);
    if (count == 1) {
        (void)umap_remove(&ch->multi, token);
        bool nacked = umap_remove(&ch->nacked, token) != NULL;
        ch->sink->on_confirm(ch->ctx, token, 1, !nacked);
    }
}

static void answer(struct broker_channel *ch, uint64_t token, uint32_t count, bool sole, bool ack)
{
    ch->confirmed += count;
    if (sole) {
        ch->sink->on_confirm(ch->ctx, token, count, ack);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        answer_multi(ch, token + i, ack);
    }
}

static void on_applied(void *ctx, uint64_t seq)
{
    struct ch_queue *q = ctx;
    q->applied = seq;
    set_pending(q);
    check_crowded(q->channel);
    while (q->confirms_first < q->confirms.count) {
        struct confirm_run *run = &q->confirms.items[q->confirms_first];
        if (run->seq > seq) {
            break;
        }
        uint64_t n = seq - run->seq + 1;
        uint32_t count = n < run->count ? (uint32_t)n : run->count;
        uint64_t token = run->token;
        bool sole = run->sole;
        run->seq += count;
        run->token += count;
        run->count -= count;
        if (run->count == 0) {
            q->confirms_first++;
        }
        answer(q->channel, token, count, sole, true);
    }
    if (q->confirms_first == q->confirms.count) {
        vec_clear(&q->confirms);
        q->confirms_first = 0;
    } else if (q->confirms_first > 256 && q->confirms_first > q->confirms.count / 2) {
        q->confirms.count -= q->confirms_first;
        memmove(q->confirms.items, q->confirms.items + q->confirms_first,
                q->confirms.count * sizeof *q->confirms.items);
        q->confirms_first = 0;
    }
    tx_on_applied(q, seq);
    if (q->rejected != 0 && seq >= q->rejected) {
        deaths_over(q);
    }
}

/* One enqueue was refused: what comes before it is still open, so it is cut out of its run. */
static void on_nacked(void *ctx, uint64_t seq)
{
    struct ch_queue *q = ctx;
    tx_on_nacked(q, seq);
    for (size_t i = q->confirms_first; i < q->confirms.count; i++) {
        struct confirm_run run = q->confirms.items[i];
        if (seq < run.seq || seq >= run.seq + run.count) {
            continue;
        }
        uint32_t before = (uint32_t)(seq - run.seq);
        uint32_t after = run.count - before - 1;
        if (before == 0) {
            q->confirms.items[i] = (struct confirm_run){seq + 1, run.token + 1, after, run.sole};
            if (after == 0) {
                vec_remove(&q->confirms, i);
            }
        } else {
            q->confirms.items[i].count = before;
            if (after > 0) {
                vec_insert(
                    &q->confirms, i + 1,
                    ((struct confirm_run){seq + 1, run.token + before + 1, after, run.sole}));
            }
        }
        answer(q->channel, run.token + before, 1, run.sole, false);
        return;
    }
}

/* --- replies, deliveries ---------------------------------------------------------------------- */

static void on_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2)
{
    const struct ch_queue *q = ctx;
    struct request *r = NULL;
    LIST_FOREACH(link, &q->requests) { /* nearly always the first */
        r = WR_CONTAINER_OF(link, struct request, reply_link);
        if (r->reply_seq == seq) {
            break;
        }
        r = NULL;
    }
    if (r == NULL) {
        return; /* nobody waits: the request timed out, or it was a detach on the way out */
    }
    list_remove(&r->reply_link);
    r->queue = NULL;
    timer_cancel(&r->broker->timers, &r->timeout);
    if (r->channel == NULL) {
        request_finish(r);
        return;
    }
    r->on_reply(r, status, value, value2);
}

static void deliver_one(struct consumer *c, uint64_t ordinal, uint32_t delivery_count,
                        const struct message *message)
{
    struct broker_channel *ch = c->queue->channel;
    struct broker_delivery delivery = {.queue = c->queue->handle,
                                       .consumer = c->id,
                                       .ordinal = ordinal,
                                       .counted = c->queue->counted};
    uint32_t size = message->record.size;
    c->average = c->average == 0 ? size : c->average - c->average / 8 + size / 8;
    ch->delivered++;
    ch->held_bytes += ch->held ? size : 0;
    ch->sink->on_deliver(ch->ctx, (struct bytes){c->tag, c->tag_size}, &delivery,
                         delivery_count > 0, delivery_count, c->no_ack, message);
}

/* Over the channel's limit (several queues under one global prefetch), or more than its slow socket
 * should have waiting (the first messages, whose sizes nobody knew): gives the message back
 * untouched and stops asking for more. */
static void give_back(struct consumer *c, uint64_t ordinal)
{
    (void)queue_client_settle(c->queue->client, c->id, ordinal, 1, QUEUE_RELEASE);
    consumer_stop(c);
}

/* The channel reached its limit, which as in RabbitMQ holds for its no-ack consumers too, though
 * what they get does not count. */
static void stop_no_ack(struct broker_channel *ch)
{
    struct map_iter it = map_iterate(&ch->consumers);
    while (map_next(&it)) {
        struct consumer *c = it.value;
        if (c->no_ack) {
            consumer_stop(c);
        }
    }
}

/* Gives back a message that basic.get got too late. */
void drop_got(struct ch_queue *q)
{
    if (!q->has_got) {
        return;
    }
    q->has_got = false;
    message_unref(q->got);
    if (q->got_delivery.ordinal != 0) {
        (void)queue_client_settle(q->client, 0, q->got_delivery.ordinal, 1, QUEUE_RELEASE);
    }
}

static void on_deliver(void *ctx, uint32_t id, uint64_t first_ordinal, uint32_t delivery_count,
                       uint8_t flags, const struct message *messages, uint32_t count)
{
    struct ch_queue *q = ctx;
    struct broker_channel *ch = q->channel;
    if (id == 0) {
        drop_got(q); /* of a get that timed out */
        q->has_got = true;
        q->got = messages[0];
        message_ref(q->got);
        q->got_count = delivery_count;
        q->got_delivery =
            (struct broker_delivery){.queue = q->handle,
                                     .consumer = 0,
                                     .ordinal = (flags & QUEUE_NO_ACK) != 0 ? 0 : first_ordinal,
                                     .counted = q->counted};
        return;
    }
    struct consumer *c = id < q->consumers.count ? q->consumers.items[id] : NULL;
    if (c != NULL && !c->attached && c->request != NULL && c->request->queue == q) {
        /* A new leader delivers again before it repeats what it said to the attach: it went well.
         * consume-ok comes before the first delivery. */
        on_reply(q, c->request->reply_seq, QUEUE_OK, 1, 0); /* it had messages */
        c = q->consumers.items[id];
    }
    if (c == NULL || c->cancelled) {
        if ((flags & QUEUE_NO_ACK) ==
            0) { /* cancelled meanwhile: it never reached the application */
            (void)queue_client_settle(q->client, id, first_ordinal, count, QUEUE_RELEASE);
        }
        return;
    }
    if (c->no_ack && (flags & QUEUE_NO_ACK) == 0) {
        /* It is here, which is as far as no_ack goes; on its way here it could have been lost. */
        (void)queue_client_settle(q->client, id, first_ordinal, count, QUEUE_ACK);
    }
    uint64_t now = c->no_ack ? 0 : broker_now_ms(ch->broker);
    for (uint32_t i = 0; i < count; i++) {
        c->ordinal = first_ordinal + i;
        if (!c->no_ack) {
            if ((ch->global_limit > 0 && ch->outstanding >= ch->global_limit) ||
                ch->held_bytes > WINDOW_BYTES) {
                give_back(c, c->ordinal);
                continue;
            }
            holding_delivered(c, c->ordinal, now);
            c->served = ++ch->served;
            if (++ch->outstanding == ch->global_limit) {
                stop_no_ack(ch);
            }
        }
        deliver_one(c, c->ordinal, delivery_count, &messages[i]);
    }
    consumer_renew(c);
}

/* Only a replay looks. */
static void on_peek(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                    uint32_t delivery_count, const struct message *messages, uint32_t count)
{
    const struct ch_queue *q = ctx;
    (void)position;
    (void)place;
    (void)at_ms;
    (void)delivery_count;
    LIST_FOREACH(link, &q->requests) {
        struct request *r = WR_CONTAINER_OF(link, struct request, reply_link);
        if (r->replay != NULL) {
            history_on_peek(r, messages, count);
            return;
        }
    }
}

static void on_cancel(void *ctx, uint32_t id)
{
    struct ch_queue *q = ctx;
    struct consumer *c = id < q->consumers.count ? q->consumers.items[id] : NULL;
    if (c != NULL && !c->cancelled) {
        struct broker_channel *ch = q->channel;
        ch->sink->on_cancel(ch->ctx, (struct bytes){c->tag, c->tag_size});
        consumer_free(c); /* its basic.cancel may cross ours */
    }
}

/* Its end may be known here before the answer to the detach that it comes from. */
static bool ends_it_itself(const struct ch_queue *q, const struct consumer *c)
{
    return q->auto_delete && c->request != NULL;
}

static void on_gone(void *ctx, bool lost)
{
    struct ch_queue *q = ctx;
    struct broker_channel *ch = q->channel;
    for (size_t i = q->confirms_first; i < q->confirms.count; i++) {
        struct confirm_run run = q->confirms.items[i];
        answer(ch, run.token, run.count, run.sole, !lost);
    }
    vec_clear(&q->confirms);
    q->confirms_first = 0;
    tx_on_gone(q, lost);
    for (size_t i = 1; i < q->consumers.count; i++) {
        struct consumer *c = q->consumers.items[i];
        if (c != NULL && c->attached && !c->cancelled && !ends_it_itself(q, c)) {
            ch->sink->on_cancel(ch->ctx, (struct bytes){c->tag, c->tag_size});
        }
    }
    ch_queue_close(q);
    if (ch->global_limit > 0) {
        deliver_resume(ch); /* what was unacked of it makes room for the others */
    }
}

static void on_client_blocked(void *ctx, bool blocked)
{
    set_blocked(ctx, blocked);
}

static void on_resumed(void *ctx)
{
    struct ch_queue *q = ctx;
    for (size_t i = 1; i < q->consumers.count; i++) {
        if (q->consumers.items[i] != NULL) {
            consumer_resumed(q->consumers.items[i]);
        }
    }
}

static void on_moved(void *ctx)
{
    consumers_moved(ctx);
}

const struct queue_client_sink ch_queue_sink = {
    .on_applied = on_applied,
    .on_nacked = on_nacked,
    .on_reply = on_reply,
    .on_deliver = on_deliver,
    .on_peek = on_peek,
    .on_cancel = on_cancel,
    .on_gone = on_gone,
    .on_blocked = on_client_blocked,
    .on_resumed = on_resumed,
    .on_moved = on_moved,
};
