/*
 * What: the role of publishers: with confirms, or in transactions.
 *
 * Checked here (the rest is in sim_ledger.c): confirms name outstanding numbers only. What a
 * transaction that was not committed had is noted as dropped: it must never come.
 */
#include "sim_client.h"

#include "warren/mem.h"

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

/* --- transactions --------------------------------------------------------- */

/* A transaction ends without a commit. */
void role_tx_dropped(struct channel *channel)
{
    for (size_t i = 0; i < channel->unconfirmed.count; i++) {
        sim_ledger_record(sim_of(channel), channel->publisher, channel->unconfirmed.items[i].seq)
            ->dropped = true;
    }
    channel->unconfirmed.count = 0;
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

void role_tx_answered(struct channel *channel, bool committed)
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
        role_tx_dropped(channel);
    }
    role_wake_in(channel, prng_below(prng_of(channel), 2 * sim->options.rate_us + 1) * SIM_US);
}

/* --- with confirms -------------------------------------------------------- */

void role_publisher_tick(struct channel *channel)
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

void role_on_confirm(struct channel *channel, uint64_t tag, bool multiple, bool ack)
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
