/*
 * What: what the channels of clients do: publishers with confirms, consumers with acks, nacks and
 * prefetch, getters, and owners of exclusive queues.
 *
 * Checked here (the rest is in sim_ledger.c): confirms name outstanding numbers only; first
 * deliveries of one subscription keep the order of each publisher's channel; prefetch is respected;
 * an exclusive queue gives back exactly what was confirmed, in order; a message is *settled* when a
 * synchronous method on the same channel was answered after its ack, in a time without faults: then
 * it must never come again.
 */
#include "sim_client.h"

#include "warren/mem.h"

#define SETTLE_QUIET_NS (3 * SIM_S)

static struct sim *sim_of(const struct channel *channel)
{
    return channel->client->sim;
}

static struct prng *prng_of(const struct channel *channel)
{
    return &channel->client->prng;
}

static struct sim_queue *queue_of(const struct channel *channel)
{
    return &sim_of(channel)->ledger.queues[channel->queue];
}

void role_wake_in(struct channel *channel, uint64_t ns)
{
    uint64_t at = sim_of(channel)->now + ns;
    channel->wake_at = at < channel->wake_at ? at : channel->wake_at;
}

void role_send_op(struct channel *channel, const struct wire_method *m)
{
    channel->op_since = sim_of(channel)->now;
    channel_send(channel, m);
}

/* NULL: it is one of this file, of sim_role_queue.c or of sim_role_rpc.c. */
static const struct role_ops *ops_of(const struct channel *channel)
{
    return channel->role == ROLE_NUMBERED    ? &number_role
           : channel->role == ROLE_HISTORIAN ? &history_role
           : channel->role == ROLE_SLEEPER   ? &sleeper_role
                                             : NULL;
}

void role_init(struct channel *channel)
{
    struct prng *prng = prng_of(channel);
    static const uint32_t prefetches[] = {0, 1, 2, 5, 20, 100};
    channel->publisher = UINT32_MAX;
    if (channel->role == ROLE_PUBLISHER || channel->role == ROLE_EXCLUSIVE ||
        channel->role == ROLE_BUILDER || channel->role >= ROLE_NUMBERED) {
        struct sim_ledger *ledger = &sim_of(channel)->ledger;
        channel->publisher = (uint32_t)ledger->publishers.count;
        (void)vec_add(&ledger->publishers);
    }
    channel->tx = channel->role == ROLE_PUBLISHER && channel->publisher % 3 == 2;
    if (channel->role == ROLE_EXCLUSIVE) {
        channel->queue = sim_of(channel)->options.queues + SIM_AT_EXCLUSIVE;
    }
    channel->prefetch = prefetches[prng_below(prng, WR_ARRAY_SIZE(prefetches))];
    channel->ack_delay_us = prng_ratio(prng, 1, 2) ? 0 : (uint32_t)prng_below(prng, 200000);
    channel->nack_percent = prng_ratio(prng, 1, 2) ? 0 : (uint32_t)prng_below(prng, 30);
    channel->multiple_percent = (uint32_t)prng_below(prng, 100);
}

void role_deinit(struct channel *channel)
{
    vec_deinit(&channel->body);
    vec_deinit(&channel->unconfirmed);
    vec_deinit(&channel->unacked);
    vec_deinit(&channel->applying);
    vec_deinit(&channel->barrier);
    vec_deinit(&channel->newest);
    vec_deinit(&channel->again);
    vec_deinit(&channel->seqs);
}

/* A transaction ends without a commit. */
static void tx_dropped(struct channel *channel)
{
    for (size_t i = 0; i < channel->unconfirmed.count; i++) {
        sim_ledger_record(sim_of(channel), channel->publisher, channel->unconfirmed.items[i].seq)
            ->dropped = true;
    }
    channel->unconfirmed.count = 0;
}

void role_lost(struct channel *channel)
{
    SIM_SOMETIMES(sim_of(channel), channel->committing, SIM_SEEN_COMMIT_CUT);
    if (channel->tx && !channel->committing) {
        tx_dropped(channel);
    }
    channel->committing = false;
    if (ops_of(channel) != NULL) {
        ops_of(channel)->lost(channel);
    }
    channel->unconfirmed.count = 0;
    channel->unacked.count = 0;
    channel->applying.count = 0;
    channel->barrier.count = 0;
    channel->newest.count = 0;
    channel->cancelled = false;
    queue_role_lost(channel);
}

void role_refused(struct channel *channel, uint16_t code)
{
    queue_role_refused(channel, code);
}

/* --- set up
 * ------------------------------------------------------------ */

static void put_rules(struct writer *w, const struct sim *sim, const struct sim_queue *queue)
{
    if (queue->ttl_ms > 0) {
        wire_table_put_int64(w, "x-message-ttl", queue->ttl_ms);
    }
    if (queue->length_max > 0) {
        wire_table_put_int64(w, "x-max-length", queue->length_max);
    }
    if (queue->rejects) {
        wire_table_put_cstr(w, "x-overflow", "reject-publish");
    }
    if (queue->delivery_limit > 0) {
        wire_table_put_int64(w, "x-delivery-limit", queue->delivery_limit);
    }
    if (queue->single_active) {
        wire_table_put_bool(w, "x-single-active-consumer", true);
    }
    if (queue->consumer_timeout_ms > 0) {
        wire_table_put_int64(w, "x-consumer-timeout", queue->consumer_timeout_ms);
    }
    if (queue->graves > 0) {
        wire_table_put_cstr(w, "x-dead-letter-exchange", "");
        wire_table_put_cstr(w, "x-dead-letter-routing-key",
                            sim->ledger.queues[queue->graves - 1].name);
    }
}

static void send_declare_of(struct channel *channel, const struct sim_queue *queue, bool passive)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    struct writer w;
    writer_init(&w, 64);
    if (queue->kind == SIM_QUEUE_QUORUM) {
        wire_table_put_cstr(&w, "x-queue-type", "quorum");
    }
    put_rules(&w, sim_of(channel), queue);
    m.queue_declare.queue = bytes_from_cstr(queue->name);
    m.queue_declare.passive = passive;
    m.queue_declare.durable = queue->kind != SIM_QUEUE_TRANSIENT;
    m.queue_declare.arguments = bytes_make(w.buf->data, w.buf->size);
    role_send_op(channel, &m);
    writer_deinit(&w);
}

static void send_declare(struct channel *channel, bool passive)
{
    send_declare_of(channel, queue_of(channel), passive);
}

void role_declare(struct channel *channel)
{
    send_declare(channel, false);
}

void role_consume(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_BASIC_CONSUME};
    m.basic_consume.queue = bytes_from_cstr(queue_of(channel)->name);
    m.basic_consume.consumer_tag = BYTES_LITERAL("c");
    channel->newest.count = 0;
    channel->subscribed_tag = channel->last_tag;
    channel->subscribed_at = sim_of(channel)->now;
    role_send_op(channel, &m);
}

void role_opened(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_CONFIRM_SELECT};
    channel->next_tag = 1;
    channel->graves_first = false;
    channel->last_tag = channel->subscribed_tag = 0;
    channel->rounds = channel->put = channel->got = 0;
    if (channel->role == ROLE_RPC) {
        rpc_role_opened(channel);
        return;
    }
    if (channel->role >= ROLE_EXCLUSIVE) {
        role_send_op(channel, &m);
    } else if (queue_of(channel)->graves >
               0) { /* what cannot be routed is dropped: they come first */
        channel->graves_first = true;
        send_declare_of(channel, &sim_of(channel)->ledger.queues[queue_of(channel)->graves - 1],
                        false);
    } else {
        send_declare(channel, false);
    }
}

static void setup_next(struct channel *channel, const struct wire_method *got)
{
    struct wire_method m = {.id = WIRE_METHOD_NONE};
    channel->op_since = 0;
    if (got->id == WIRE_QUEUE_DECLARE_OK && channel->graves_first) {
        channel->graves_first = false;
        send_declare(channel, false);
        return;
    }
    if (channel->role == ROLE_RPC && !rpc_role_setup(channel)) {
        return;
    }
    if (got->id == WIRE_QUEUE_DECLARE_OK && channel->role == ROLE_PUBLISHER) {
        m.id = channel->tx ? WIRE_TX_SELECT : WIRE_CONFIRM_SELECT;
        role_send_op(channel, &m);
        return;
    }
    if (got->id == WIRE_QUEUE_DECLARE_OK && channel->role == ROLE_CONSUMER) {
        m.id = WIRE_BASIC_QOS;
        m.basic_qos.prefetch_count = (uint16_t)channel->prefetch;
        role_send_op(channel, &m);
        return;
    }
    if (got->id == WIRE_BASIC_QOS_OK) {
        role_consume(channel);
        return;
    }
    channel->state = CHANNEL_RUNNING;
    channel->step = 0;
    role_wake_in(channel, 0);
}

/* --- publishing
 * ------------------------------------------------------------ */

void role_publish_as(struct channel *channel, const struct wire_basic_publish *m,
                     struct bytes props, uint64_t seq)
{
    struct sim *sim = sim_of(channel);
    const uint32_t size = sim_ledger_record(sim, channel->publisher, seq)->size;
    uint8_t *body = wr_alloc(size);
    sim_body_write(body, channel->publisher, seq, channel->queue, size);
    uint32_t frame_max = channel->client->frame_max;
    size_t whole = wire_publish_size(m, props.size, size, frame_max);
    uint8_t *out = wr_alloc(whole);
    uint8_t *end =
        wire_publish_write(out, channel->number, m, props, bytes_make(body, size), frame_max);
    WR_ASSERT(end == out + whole);
    outq_append_bytes(&channel->client->out, out, whole);
    wr_free(out);
    wr_free(body);
    struct outstanding item = {.tag = channel->next_tag++, .seq = seq, .at = sim->now};
    vec_push(&channel->unconfirmed, item);
}

void role_publish(struct channel *channel, const char *queue_name, uint32_t size)
{
    struct sim *sim = sim_of(channel);
    struct wire_basic_publish m = {.routing_key = bytes_from_cstr(queue_name), .mandatory = true};
    uint8_t props_bytes[64];
    struct wire_props props = {.flags = WIRE_PROP_DELIVERY_MODE, .delivery_mode = 2};
    struct bytes raw =
        bytes_make(props_bytes, (size_t)(wire_props_write(props_bytes, &props) - props_bytes));
    uint64_t seq = sim_ledger_send(sim, channel->publisher, channel->queue, channel->epoch, size);
    role_publish_as(channel, &m, raw, seq);
}

uint32_t role_body_size(struct channel *channel)
{
    struct prng *prng = prng_of(channel);
    const uint32_t most = sim_of(channel)->options.body_max;
    return SIM_BODY_MIN +
           (uint32_t)prng_below(prng, prng_ratio(prng, 1, 10) ? most : most / 10 + 1);
}

static void tx_commit(struct channel *channel)
{
    const struct wire_method m = {.id = WIRE_TX_COMMIT};
    channel->commits++;
    for (size_t i = 0; i < channel->unconfirmed.count; i++) {
        sim_ledger_record(sim_of(channel), channel->publisher, channel->unconfirmed.items[i].seq)
            ->tx = channel->commits;
    }
    channel->committing = true;
    role_send_op(channel, &m);
}

/* Publishes that wait for a commit; while one is under way nothing may be said. */
static void tx_tick(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    const struct wire_method rollback = {.id = WIRE_TX_ROLLBACK};
    if (channel->op_since != 0) {
        return; /* the answer wakes it */
    }
    if (sim->liveness || channel->client->blocked) {
        if (channel->unconfirmed.count > 0) {
            tx_commit(channel);
        } else {
            role_wake_in(channel, 100 * SIM_MS);
        }
        return;
    }
    const uint64_t burst = prng_below(prng_of(channel), 6);
    for (uint64_t i = 0; i < burst; i++) {
        role_publish(channel, queue_of(channel)->name, role_body_size(channel));
    }
    const uint64_t lot = prng_below(prng_of(channel), 20);
    if (lot < 8 || channel->unconfirmed.count >= sim->options.window) {
        tx_commit(channel);
    } else if (lot == 8) {
        role_send_op(channel, &rollback);
    } else if (lot == 9 && prng_ratio(prng_of(channel), 1, 20)) {
        channel_close_by_us(channel);
    } else {
        role_wake_in(channel, prng_below(prng_of(channel), 2 * sim->options.rate_us + 1) * SIM_US);
    }
}

static void tx_answered(struct channel *channel, bool committed)
{
    struct sim *sim = sim_of(channel);
    channel->op_since = 0;
    channel->committing = false;
    SIM_SOMETIMES(sim, committed, SIM_SEEN_COMMITTED);
    SIM_SOMETIMES(sim, !committed, SIM_SEEN_ROLLED_BACK);
    if (committed) {
        for (size_t i = 0; i < channel->unconfirmed.count; i++) {
            sim_ledger_confirm(sim, channel->publisher, channel->unconfirmed.items[i].seq, true);
        }
        channel->unconfirmed.count = 0;
    } else {
        tx_dropped(channel);
    }
    role_wake_in(channel, prng_below(prng_of(channel), 2 * sim->options.rate_us + 1) * SIM_US);
}

static void publisher_tick(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    if (channel->tx) {
        tx_tick(channel);
        return;
    }
    if (sim->liveness || channel->client->blocked) {
        role_wake_in(channel, 100 * SIM_MS);
        return;
    }
    uint32_t burst =
        1 + (uint32_t)(prng_ratio(prng_of(channel), 1, 5) ? prng_below(prng_of(channel), 10) : 0);
    for (uint32_t i = 0; i < burst && channel->unconfirmed.count < sim->options.window; i++) {
        role_publish(channel, queue_of(channel)->name, role_body_size(channel));
    }
    if (prng_ratio(prng_of(channel), 1, 500)) {
        channel_close_by_us(channel);
        return;
    }
    role_wake_in(channel, prng_below(prng_of(channel), 2 * sim->options.rate_us + 1) * SIM_US);
}

static void on_confirm(struct channel *channel, uint64_t tag, bool multiple, bool ack)
{
    struct sim *sim = sim_of(channel);
    bool any = false;
    if (tag >= channel->next_tag) {
        sim_fail(sim, "client %u: confirm of number %llu, which was not sent",
                 channel->client->number, (unsigned long long)tag);
    }
    for (size_t i = 0; i < channel->unconfirmed.count;) {
        const struct outstanding *item = &channel->unconfirmed.items[i];
        if (item->tag == tag || (multiple && item->tag < tag)) {
            any = true;
            if (!ack && channel->role == ROLE_NUMBERED) {
                vec_push(&channel->again, *item);
            } else {
                sim_ledger_confirm(sim, channel->publisher, item->seq, ack);
            }
            vec_remove(&channel->unconfirmed, i);
        } else {
            i++;
        }
    }
    if (!any) {
        sim_fail(sim, "client %u: confirm of number %llu, which is not outstanding",
                 channel->client->number, (unsigned long long)tag);
    }
    if (channel->role >= ROLE_EXCLUSIVE) {
        role_wake_in(channel, 0);
    }
}

/* --- consuming
 * ------------------------------------------------------------ */

static void check_order(struct channel *channel, const struct sim_record *record,
                        uint32_t publisher, uint64_t seq)
{
    while (channel->newest.count <= publisher) {
        vec_push(&channel->newest, 0);
    }
    const uint64_t mark = (uint64_t)record->epoch << 40 | (seq + 1);
    const uint64_t before = channel->newest.items[publisher];
    if (before >> 40 == mark >> 40 && before >= mark) {
        sim_fail(sim_of(channel),
                 "queue %u: message %u.%llu came after %u.%llu to the same consumer",
                 channel->queue, publisher, (unsigned long long)seq, publisher,
                 (unsigned long long)(before & ((UINT64_C(1) << 40) - 1)) - 1);
    }
    channel->newest.items[publisher] = mark;
}

static void send_settle(struct channel *channel, uint64_t tag, bool multiple, bool ack)
{
    struct wire_method m = {.id = ack ? WIRE_BASIC_ACK : WIRE_BASIC_NACK};
    if (ack) {
        m.basic_ack.delivery_tag = tag;
        m.basic_ack.multiple = multiple;
    } else if (!multiple && prng_ratio(prng_of(channel), 1, 2)) {
        m.id = WIRE_BASIC_REJECT;
        m.basic_reject.delivery_tag = tag;
        m.basic_reject.requeue = true;
    } else {
        m.basic_nack.delivery_tag = tag;
        m.basic_nack.multiple = multiple;
        m.basic_nack.requeue = true;
    }
    channel_send(channel, &m);
}

/* Settles one of the oldest deliveries, or all up to one. */
static void settle_some(struct channel *channel)
{
    struct prng *prng = prng_of(channel);
    size_t at = prng_below(prng, channel->unacked.count < 4 ? channel->unacked.count : 4);
    const uint64_t tag = channel->unacked.items[at].tag;
    const bool multiple = prng_ratio(prng, channel->multiple_percent, 100);
    const bool ack = sim_of(channel)->liveness || !prng_ratio(prng, channel->nack_percent, 100);
    send_settle(channel, tag, multiple, ack);
    for (size_t i = 0; i < channel->unacked.count;) {
        const struct outstanding item = channel->unacked.items[i];
        if (item.tag == tag || (multiple && item.tag < tag)) {
            if (ack) {
                vec_push(&channel->applying, item);
            }
            vec_remove(&channel->unacked, i);
        } else {
            i++;
        }
    }
}

static void start_barrier(struct channel *channel)
{
    struct outstanding_vec empty = channel->barrier;
    channel->barrier = channel->applying;
    channel->applying = empty;
    channel->applying.count = 0;
    channel->barrier_quiet = sim_of(channel)->quiet_since;
    send_declare(channel, true);
}

static void end_barrier(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    const bool quiet = sim->quiet_since != UINT64_MAX && sim->quiet_since == channel->barrier_quiet;
    for (size_t i = 0; i < channel->barrier.count; i++) {
        const struct outstanding *item = &channel->barrier.items[i];
        /* A dead letter may be handed over twice. */
        const bool here =
            sim_ledger_record(sim, item->publisher, item->seq)->queue == channel->queue;
        if (here && quiet && item->at >= sim->quiet_since + SETTLE_QUIET_NS) {
            struct sim_record *record = sim_ledger_record(sim, item->publisher, item->seq);
            record->settled = true;
            sim->ledger.settled++;
            SIM_SOMETIMES(sim, true, SIM_SEEN_SETTLED);
        }
    }
    channel->barrier.count = 0;
}

static void settle_due(struct channel *channel)
{
    const uint64_t now = sim_of(channel)->now;
    while (channel->unacked.count > 0) {
        uint64_t due = channel->unacked.items[0].at + channel->ack_delay_us * SIM_US;
        if (due > now && !sim_of(channel)->liveness) {
            role_wake_in(channel, due - now);
            break;
        }
        settle_some(channel);
    }
}

static void consumer_tick(struct channel *channel)
{
    struct prng *prng = prng_of(channel);
    const bool live = sim_of(channel)->liveness;
    settle_due(channel);
    if (channel->op_since != 0) {
        return;
    }
    if (channel->cancelled || (!live && prng_ratio(prng, 1, 400))) {
        channel_close_by_us(channel);
    } else if (!live && channel->role == ROLE_CONSUMER && prng_ratio(prng, 1, 400)) {
        struct wire_method m = {.id = WIRE_BASIC_CANCEL};
        m.basic_cancel.consumer_tag = BYTES_LITERAL("c");
        role_send_op(channel, &m);
    } else if (channel->applying.count > 0 && (live || prng_ratio(prng, 1, 4))) {
        start_barrier(channel);
    }
    role_wake_in(channel, 50 * SIM_MS + prng_below(prng, 100 * SIM_MS));
}

static void getter_tick(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_BASIC_GET};
    settle_due(channel);
    if (channel->op_since != 0) {
        return;
    }
    if (sim_of(channel)->liveness) {
        if (channel->applying.count > 0) {
            start_barrier(channel);
        }
        role_wake_in(channel, 100 * SIM_MS);
        return;
    }
    if (channel->applying.count > 0 && prng_ratio(prng_of(channel), 1, 8)) {
        start_barrier(channel);
    } else if (channel->unacked.count < 5) {
        m.basic_get.queue = bytes_from_cstr(queue_of(channel)->name);
        role_send_op(channel, &m);
    }
    role_wake_in(channel, 20 * SIM_MS);
}

/* Unacked deliveries of the present subscription only: an earlier one's do not count against it.
 * And only in quiet times: what was returned because the consumer's node seemed to be down does not
 * count for the queue, but it does here. */
static void check_prefetch(struct channel *channel)
{
    uint32_t count = 0;
    if (sim_of(channel)->quiet_since > channel->subscribed_at) {
        return;
    }
    for (size_t i = 0; i < channel->unacked.count; i++) {
        count += channel->unacked.items[i].tag > channel->subscribed_tag ? 1 : 0;
    }
    if (channel->role == ROLE_CONSUMER && channel->prefetch > 0 && count > channel->prefetch) {
        sim_fail(sim_of(channel), "client %u: %u unacked deliveries with a prefetch of %u",
                 channel->client->number, count, channel->prefetch);
    }
}

static void on_delivery(struct channel *channel, uint64_t tag, bool redelivered, struct bytes body)
{
    struct outstanding item = {.tag = tag, .at = sim_of(channel)->now};
    if (channel->closing) {
        return; /* it was under way when the channel was closed: back in its queue (seed 8201) */
    }
    struct sim_record *record = sim_ledger_receive(sim_of(channel), body, channel->queue,
                                                   redelivered, &item.publisher, &item.seq);
    if (tag != channel->last_tag + 1) {
        sim_fail(sim_of(channel), "client %u: delivery tag %llu after %llu",
                 channel->client->number, (unsigned long long)tag,
                 (unsigned long long)channel->last_tag);
    }
    channel->last_tag = tag;
    if (!redelivered && channel->role == ROLE_CONSUMER && record->queue == channel->queue) {
        check_order(channel, record, item.publisher, item.seq);
    }
    if (sim_of(channel)->options.trace) {
        sim_trace(sim_of(channel), "client %u gets %u.%llu%s", channel->client->number,
                  item.publisher, (unsigned long long)item.seq, redelivered ? " again" : "");
    }
    vec_push(&channel->unacked, item);
    check_prefetch(channel);
    role_wake_in(channel, sim_of(channel)->liveness ? 0 : channel->ack_delay_us * SIM_US);
}

/* --- exclusive queues
 * ------------------------------------------------------------ */

static void exclusive_name(const struct channel *channel, char out[64])
{
    (void)snprintf(out, 64, "x-%u-%u-%u-%u", channel->client->number, channel->number,
                   channel->epoch, channel->rounds);
}

/* Script: 0 declare, 1 publish, 2 wait for the confirms, 3 get, 4 delete. */
static void exclusive_tick(struct channel *channel)
{
    char name[64];
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    exclusive_name(channel, name);
    if (channel->op_since != 0) {
        return;
    }
    switch (channel->step) {
    case 0:
        if (sim_of(channel)->liveness) {
            role_wake_in(channel, SIM_S);
            return;
        }
        m.queue_declare.queue = bytes_from_cstr(name);
        m.queue_declare.exclusive = true;
        role_send_op(channel, &m);
        break;
    case 1:
        channel->put = 1 + (uint32_t)prng_below(prng_of(channel), 5);
        channel->got = 0;
        for (uint32_t i = 0; i < channel->put; i++) {
            role_publish(channel, name, role_body_size(channel));
        }
        channel->step = 2;
        break;
    case 2:
        if (channel->unconfirmed.count == 0) {
            channel->step = 3;
            role_wake_in(channel, 0);
        }
        break;
    case 3:
        m.id = WIRE_BASIC_GET;
        m.basic_get.queue = bytes_from_cstr(name);
        m.basic_get.no_ack = true;
        role_send_op(channel, &m);
        break;
    default:
        m.id = WIRE_QUEUE_DELETE;
        m.queue_delete.queue = bytes_from_cstr(name);
        role_send_op(channel, &m);
        break;
    }
}

static void exclusive_got(struct channel *channel, uint64_t seq, bool any)
{
    struct sim *sim = sim_of(channel);
    uint64_t first = sim->ledger.publishers.items[channel->publisher].records.count - channel->put;
    if (any != (channel->got < channel->put) || (any && seq != first + channel->got)) {
        sim_fail(sim,
                 "client %u: get number %u from its exclusive queue brought %s, of %u messages put "
                 "there",
                 channel->client->number, channel->got, any ? "the wrong message" : "nothing",
                 channel->put);
    }
    channel->got += any ? 1 : 0;
    channel->step = any ? 3 : 4;
    role_wake_in(channel, 0);
}

/* --- dispatch
 * ------------------------------------------------------------
 */

static void running_method(struct channel *channel, const struct wire_method *m)
{
    struct wire_method ok = {.id = WIRE_BASIC_CANCEL_OK};
    switch ((uint32_t)m->id) {
    case WIRE_QUEUE_DECLARE_OK:
        channel->op_since = 0;
        if (channel->role == ROLE_EXCLUSIVE) {
            channel->step = 1;
            role_wake_in(channel, 0);
        } else {
            end_barrier(channel);
            role_wake_in(channel, 0);
        }
        break;
    case WIRE_QUEUE_DELETE_OK:
        channel->op_since = 0;
        channel->step = 0;
        channel->rounds++;
        role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
        break;
    case WIRE_BASIC_GET_EMPTY:
        channel->op_since = 0;
        if (channel->role == ROLE_EXCLUSIVE) {
            exclusive_got(channel, 0, false);
        } else {
            role_wake_in(channel, 50 * SIM_MS);
        }
        break;
    case WIRE_BASIC_CANCEL:
        (void)ok;
        channel->cancelled = true;
        role_wake_in(channel, 0);
        break;
    case WIRE_BASIC_CANCEL_OK:
        role_consume(channel);
        break;
    case WIRE_TX_COMMIT_OK:
    case WIRE_TX_ROLLBACK_OK:
        tx_answered(channel, m->id == WIRE_TX_COMMIT_OK);
        break;
    case WIRE_BASIC_CONSUME_OK:
        channel->op_since = 0;
        role_wake_in(channel, 0);
        break;
    default:
        sim_fail(sim_of(channel), "client %u: unexpected %s", channel->client->number,
                 wire_method_name(m->id));
    }
}

void role_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id == WIRE_BASIC_ACK) {
        on_confirm(channel, m->basic_ack.delivery_tag, m->basic_ack.multiple, true);
    } else if (m->id == WIRE_BASIC_NACK) {
        on_confirm(channel, m->basic_nack.delivery_tag, m->basic_nack.multiple, false);
    } else if (channel->state == CHANNEL_SETUP) {
        if (m->id == WIRE_BASIC_CANCEL) {
            channel->cancelled = true;
            return;
        }
        setup_next(channel, m);
    } else if (ops_of(channel) != NULL) {
        ops_of(channel)->method(channel, m);
    } else if (channel->role >= ROLE_RIVAL) {
        queue_role_method(channel, m);
    } else {
        running_method(channel, m);
    }
}

void role_content(struct channel *channel, const struct wire_method *m, struct bytes body)
{
    if (channel->role == ROLE_RPC) {
        rpc_role_content(channel, body);
        return;
    }
    const struct role_ops *ops = ops_of(channel);
    if (ops != NULL && ops->content != NULL && ops->content(channel, m, body)) {
        return;
    }
    if (m->id == WIRE_BASIC_DELIVER) {
        on_delivery(channel, m->basic_deliver.delivery_tag, m->basic_deliver.redelivered, body);
        return;
    }
    if (m->id == WIRE_BASIC_RETURN) {
        if (body.size >= SIM_BODY_MIN) {
            struct sim_record *record = sim_ledger_record(
                sim_of(channel), bytes_load_le32(body.data + 4), bytes_load_le64(body.data + 8));
            if (record != NULL) {
                record->returned = true;
            }
            if (queue_of(channel)->strict) {
                sim_fail(sim_of(channel), "a message for queue %s was returned as unroutable",
                         queue_of(channel)->name);
            }
        }
        return;
    }
    channel->op_since = 0;
    if (channel->role == ROLE_BUILDER) {
        queue_role_got(channel, m, body);
        return;
    }
    if (channel->role == ROLE_EXCLUSIVE) {
        uint32_t publisher = 0;
        uint64_t seq = 0;
        (void)sim_ledger_receive(sim_of(channel), body, channel->queue, m->basic_get_ok.redelivered,
                                 &publisher, &seq);
        exclusive_got(channel, seq, true);
        return;
    }
    on_delivery(channel, m->basic_get_ok.delivery_tag, m->basic_get_ok.redelivered, body);
}

void role_tick(struct channel *channel)
{
    switch (channel->role) {
    case ROLE_PUBLISHER:
        publisher_tick(channel);
        break;
    case ROLE_CONSUMER:
        consumer_tick(channel);
        break;
    case ROLE_GETTER:
        getter_tick(channel);
        break;
    case ROLE_EXCLUSIVE:
        exclusive_tick(channel);
        break;
    case ROLE_RIVAL:
    case ROLE_BUILDER:
    case ROLE_AUTO:
        queue_role_tick(channel);
        break;
    case ROLE_RPC:
        rpc_role_tick(channel);
        break;
    case ROLE_NUMBERED:
    case ROLE_HISTORIAN:
    case ROLE_SLEEPER:
        ops_of(channel)->tick(channel);
        break;
    }
}

bool role_settled(const struct channel *channel, char *why, size_t size)
{
    static const char *const names[] = {"publisher",
                                        "consumer",
                                        "getter",
                                        "owner of exclusive queues",
                                        "rival",
                                        "builder",
                                        "user of auto-delete queues",
                                        "asker and answerer"};
    const char *what = NULL;
    if (channel->state != CHANNEL_RUNNING) {
        what = "its channel is not open and set up";
    } else if (channel->unconfirmed.count > 0) {
        what = "waits for confirms";
    } else if (channel->unacked.count > 0 || channel->applying.count > 0) {
        what = "has deliveries it has not settled";
    } else if (channel->op_since != 0) {
        what = "waits for the answer to a method";
    } else if (ops_of(channel) != NULL) {
        what = ops_of(channel)->settled(channel) ? NULL : "is not done";
    } else if (channel->role == ROLE_RPC) {
        what = channel->got == 0 ? "has no reply yet" : NULL;
    } else if (channel->role == ROLE_EXCLUSIVE && channel->step != 0) {
        what = "is not done with its queue";
    } else if (channel->role >= ROLE_RIVAL && !queue_role_settled(channel)) {
        what = "is not done with its queue";
    }
    if (what != NULL) {
        (void)snprintf(why, size,
                       "client %u, %s of %s, node %u: %s (state %d, step %u, operation since %llu "
                       "ms, %zu unconfirmed, "
                       "%zu unacked, %zu acked, %zu in a barrier)",
                       channel->client->number,
                       ops_of(channel) != NULL ? ops_of(channel)->name : names[channel->role],
                       queue_of(channel)->name, channel->client->node, what, (int)channel->state,
                       channel->step, (unsigned long long)(channel->op_since / SIM_MS),
                       channel->unconfirmed.count, channel->unacked.count, channel->applying.count,
                       channel->barrier.count);
    }
    return what == NULL;
}
