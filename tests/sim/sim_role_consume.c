/*
 * What: the roles of consumers and getters, with acks, nacks and prefetch.
 *
 * Checked here (the rest is in sim_ledger.c): first deliveries of one subscription keep the order
 * of each publisher's channel; prefetch is respected; delivery tags grow by one; a message is
 * *settled* when a synchronous method on the same channel was answered after its ack, in a time
 * without faults: then it must never come again.
 */
#include "sim_client.h"

#define SETTLE_QUIET_NS (3 * SIM_S)

/* --- settling ------------------------------------------------------------- */

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
    role_declare_as(channel, true);
}

void role_end_barrier(struct channel *channel)
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

/* --- ticks ---------------------------------------------------------------- */

void role_consumer_tick(struct channel *channel)
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

void role_getter_tick(struct channel *channel)
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

/* --- deliveries ----------------------------------------------------------- */

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

void role_on_delivery(struct channel *channel, uint64_t tag, bool redelivered, struct bytes body)
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
