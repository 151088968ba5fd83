/*
 * What: the role of a consumer that holds messages for too long (x-consumer-timeout). It publishes
 * to its queue itself, settles some and sleeps over others, until they are taken away from it.
 *
 * Checked: nothing is taken away too early, at any time; what is held too long is, when no fault is
 * at work, and comes again, though its late ack was sent. The ledger's checks hold besides.
 */
#include <inttypes.h>

#include "sim_client.h"

#include "warren/mem.h"

#define LATE_NS  (3 * SIM_S)  /* on top of the limit and its sixteenth */
#define AGAIN_NS (10 * SIM_S) /* to a consumer that is there */
#define DRIFT_NS (5 * SIM_MS)
#define HELD_MAX 3u /* messages at once */

enum sleeper_step { SLEEPER_DECLARES, SLEEPER_LIMITS, SLEEPER_CONSUMES, SLEEPER_WAITS };

static uint64_t limit_ns(const struct channel *channel)
{
    return sim_of(channel)->ledger.queues[channel->queue].consumer_timeout_ms * SIM_MS;
}

static bool quiet_since(const struct channel *channel, uint64_t since)
{
    const struct sim *sim = sim_of(channel);
    return sim->quiet_since != UINT64_MAX && sim->quiet_since + LATE_NS <= since;
}

static void look(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    const uint64_t now = sim->now;
    const uint64_t due = limit_ns(channel) + limit_ns(channel) / 16 + LATE_NS;
    if (channel->unacked.count > 0 && now > channel->since + due &&
        quiet_since(channel, channel->since)) {
        sim_fail(
            sim, "client %u holds a message for %" PRIu64 " ms, with a limit of %" PRIu64 " ms",
            channel->client->number, (now - channel->since) / SIM_MS, limit_ns(channel) / SIM_MS);
    }
    if (channel->unacked.count == 0 && channel->first != 0 &&
        now > channel->subscribed_at + AGAIN_NS && quiet_since(channel, channel->mark)) {
        sim_fail(sim,
                 "client %u: message %u.%" PRIu64 ", which was taken away, does not come again",
                 channel->client->number, channel->publisher, channel->first - 1);
    }
}

static void sleeper_tick(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    struct prng *prng = &channel->client->prng;
    struct wire_method m = {.id = WIRE_BASIC_QOS};
    if (channel->op_since != 0) {
        return;
    }
    switch ((enum sleeper_step)channel->step) {
    case SLEEPER_DECLARES:
        channel->first = 0; /* another life: others may have got it in between */
        role_declare(channel);
        return;
    case SLEEPER_LIMITS:
        m.basic_qos.prefetch_count = 1;
        role_send_op(channel, &m);
        return;
    case SLEEPER_CONSUMES:
        role_consume(channel);
        return;
    case SLEEPER_WAITS:
        break;
    }
    look(channel);
    if (!sim->liveness && !channel->client->blocked && channel->unconfirmed.count == 0 &&
        channel->put < HELD_MAX) {
        channel->put++;
        role_publish(channel, sim->ledger.queues[channel->queue].name,
                     SIM_BODY_MIN + (uint32_t)prng_below(prng, 300));
    }
    role_wake_in(channel, 200 * SIM_MS);
}

static void settle(struct channel *channel, uint64_t tag)
{
    struct wire_method m = {.id = WIRE_BASIC_ACK};
    m.basic_ack.delivery_tag = tag;
    channel_send(channel, &m);
}

/* The server has cancelled the consumer, and taken away what it held. */
static void taken_away(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    if (channel->unacked.count == 0 && quiet_since(channel, channel->subscribed_at)) {
        sim_fail(sim, "client %u: its consumer is cancelled, and it holds nothing",
                 channel->client->number);
    }
    if (channel->unacked.count > 0) {
        const struct outstanding held = channel->unacked.items[0];
        if (sim->now + DRIFT_NS < channel->subscribed_at + limit_ns(channel)) {
            sim_fail(sim,
                     "client %u: a message is taken away %" PRIu64
                     " ms after it subscribed, with a "
                     "limit of %" PRIu64 " ms",
                     channel->client->number, (sim->now - channel->subscribed_at) / SIM_MS,
                     limit_ns(channel) / SIM_MS);
        }
        SIM_SOMETIMES(sim, true, SIM_SEEN_TAKEN_AWAY);
        if (prng_ratio(&channel->client->prng, 1, 2)) {
            settle(channel, held.tag); /* too late: it settles nothing */
        }
        sim_trace(sim, "client %u: message %u.%" PRIu64 " (tag %" PRIu64 ") is taken away",
                  channel->client->number, held.publisher, held.seq, held.tag);
        channel->first = held.seq + 1;
        channel->mark = held.at;
        channel->unacked.count = 0;
    }
    channel->step = SLEEPER_CONSUMES;
    role_wake_in(channel, 0);
}

static void sleeper_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id == WIRE_BASIC_CANCEL) {
        if (channel->op_since == 0) {
            taken_away(channel);
        } else { /* of an earlier life of its queue */
            channel_close_by_us(channel);
        }
        return;
    }
    if (m->id != WIRE_QUEUE_DECLARE_OK && m->id != WIRE_BASIC_QOS_OK &&
        m->id != WIRE_BASIC_CONSUME_OK) {
        sim_fail(sim_of(channel), "client %u: unexpected %s", channel->client->number,
                 wire_method_name(m->id));
    }
    channel->op_since = 0;
    channel->step++;
    role_wake_in(channel, 0);
}

static bool sleeper_content(struct channel *channel, const struct wire_method *m, struct bytes body)
{
    struct sim *sim = sim_of(channel);
    struct outstanding item = {.tag = m->basic_deliver.delivery_tag, .at = sim->now};
    if (m->id != WIRE_BASIC_DELIVER) {
        return false;
    }
    if (channel->closing) {
        return true;
    }
    (void)sim_ledger_receive(sim, body, channel->queue, m->basic_deliver.redelivered,
                             &item.publisher, &item.seq);
    if (channel->unacked.count > 0 && quiet_since(channel, channel->subscribed_at)) {
        sim_fail(sim, "client %u: a second message with a prefetch of 1", channel->client->number);
    }
    channel->first = channel->first == item.seq + 1 ? 0 : channel->first;
    /* What it held was returned, because its node seemed to be down for a moment: it is not told,
     * and may still be cancelled for what it never acks (seed 80424). */
    channel->unacked.count = 0;
    sim_trace(sim, "client %u gets %u.%" PRIu64 " (tag %" PRIu64 ")%s", channel->client->number,
              item.publisher, item.seq, item.tag, m->basic_deliver.redelivered ? " again" : "");
    if (sim->liveness || prng_ratio(&channel->client->prng, 1, 3)) {
        channel->put -= channel->put > 0;
        settle(channel, item.tag);
        return true;
    }
    channel->since = sim->now;
    vec_push(&channel->unacked, item);
    return true;
}

static void sleeper_lost(struct channel *channel)
{
    channel->first = 0;
    channel->put = 0;
}

static bool sleeper_settled(const struct channel *channel)
{
    return channel->step == SLEEPER_WAITS && channel->first == 0;
}

const struct role_ops sleeper_role = {.name = "consumer that sleeps",
                                      .tick = sleeper_tick,
                                      .method = sleeper_method,
                                      .content = sleeper_content,
                                      .lost = sleeper_lost,
                                      .settled = sleeper_settled};
