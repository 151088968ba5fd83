/*
 * What: the role of one who publishes to an x-recent-history exchange of its own, binds new queues
 * to it, and looks at what they were given.
 *
 * Checked when no fault was at work since long before the bind, whatever happened before that: the
 * newest of all that was ever confirmed are there, once each, in order; as many as the history
 * keeps, unless it holds others whose confirms never came (these may be late, and come twice).
 */
#include <inttypes.h>

#include "sim_client.h"

#include "warren/mem.h"

/* For leaders to be there again, and what is under way to have come. */
#define QUIET_NS (20 * SIM_S)

enum history_step {
    HISTORY_EXCHANGES,
    HISTORY_PUBLISHES,
    HISTORY_CONFIRMED,
    HISTORY_DECLARES,
    HISTORY_BINDS,
    HISTORY_GETS,
    HISTORY_DELETES
};

static uint32_t length_of(const struct channel *channel)
{
    return 1 + channel->publisher % 7;
}

static void taker_name(const struct channel *channel, char out[64])
{
    (void)snprintf(out, 64, "taker-%u-%u-%u-%u", channel->client->number, channel->number,
                   channel->epoch, channel->rounds);
}

static void send_publishes(struct channel *channel)
{
    const struct wire_basic_publish m = {
        .exchange = bytes_from_cstr(sim_of(channel)->ledger.queues[channel->queue].name),
        .routing_key = BYTES_LITERAL("any")};
    for (uint64_t i = 1 + prng_below(prng_of(channel), 6); i > 0; i--) {
        const uint32_t size = SIM_BODY_MIN + (uint32_t)prng_below(prng_of(channel), 300);
        const uint64_t seq =
            sim_ledger_send(sim_of(channel), channel->publisher, channel->queue, 1, size);
        role_publish_as(channel, &m, wire_props_empty, seq);
    }
}

static void send_step(struct channel *channel, struct bytes name, struct bytes exchange)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    struct writer w;
    writer_init(&w, 64);
    switch ((enum history_step)channel->step) {
    case HISTORY_EXCHANGES:
        m.id = WIRE_EXCHANGE_DECLARE;
        wire_table_put_int64(&w, "x-recent-history-length", length_of(channel));
        m.exchange_declare.exchange = exchange;
        m.exchange_declare.type = BYTES_LITERAL("x-recent-history");
        m.exchange_declare.durable = true;
        m.exchange_declare.arguments = writer_bytes(&w);
        break;
    case HISTORY_BINDS:
        m.id = WIRE_QUEUE_BIND;
        m.queue_bind.queue = name;
        m.queue_bind.exchange = exchange;
        channel->since = sim_of(channel)->now;
        channel->seqs.count = 0;
        break;
    case HISTORY_GETS:
        m.id = WIRE_BASIC_GET;
        m.basic_get.queue = name;
        m.basic_get.no_ack = true;
        break;
    case HISTORY_DELETES:
        m.id = WIRE_QUEUE_DELETE;
        m.queue_delete.queue = name;
        break;
    case HISTORY_DECLARES:
    case HISTORY_PUBLISHES:
    case HISTORY_CONFIRMED:
        m.queue_declare.queue = name;
        m.queue_declare.exclusive = true;
        break;
    }
    role_send_op(channel, &m);
    writer_deinit(&w);
}

static void history_tick(struct channel *channel)
{
    char name[64];
    struct sim *sim = sim_of(channel);
    taker_name(channel, name);
    if (channel->op_since != 0) {
        return;
    }
    if (channel->step == HISTORY_PUBLISHES) {
        if (sim->liveness && channel->got > 0) {
            role_wake_in(channel, SIM_S);
            return;
        }
        send_publishes(channel);
        channel->step = HISTORY_CONFIRMED;
    } else if (channel->step == HISTORY_CONFIRMED) {
        if (channel->unconfirmed.count == 0) {
            channel->step = HISTORY_DECLARES;
            role_wake_in(channel, 0);
        }
    } else {
        send_step(channel, bytes_from_cstr(name),
                  bytes_from_cstr(sim->ledger.queues[channel->queue].name));
    }
}

/* --- the check
 * ------------------------------------------------------------ */

static bool came(const struct channel *channel, uint64_t seq, size_t *ret_at, uint32_t *ret_times)
{
    *ret_times = 0;
    for (size_t i = 0; i < channel->seqs.count; i++) {
        if (channel->seqs.items[i] == seq) {
            *ret_at = *ret_times == 0 ? i : *ret_at;
            ++*ret_times;
        }
    }
    return *ret_times > 0;
}

/* From the newest confirmed one backwards, as far as they came. */
static void check_replay(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    const struct sim_publisher *p = &sim->ledger.publishers.items[channel->publisher];
    size_t before = SIZE_MAX;
    uint64_t count = 0;
    bool over = false; /* what is older has left the history */
    for (size_t seq = p->records.count; seq-- > 0;) {
        size_t at = 0;
        uint32_t times = 0;
        if (!p->records.items[seq].confirmed) {
            continue;
        }
        if (!came(channel, seq, &at, &times)) {
            over = true;
            continue;
        }
        if (over || times > 1 || at >= before) {
            sim_fail(sim,
                     "client %u: %s replays message %zu %s (%zu messages in all, its length is %u)",
                     channel->client->number, sim->ledger.queues[channel->queue].name, seq,
                     over        ? "and not a newer one that was confirmed"
                     : times > 1 ? "twice"
                                 : "behind a newer one",
                     channel->seqs.count, length_of(channel));
        }
        before = at;
        count++;
    }
    if (count > length_of(channel) || (over && channel->seqs.count < length_of(channel))) {
        sim_fail(sim,
                 "client %u: %s replays %zu messages, %" PRIu64
                 " of them confirmed; its length is %u, "
                 "and there were more",
                 channel->client->number, sim->ledger.queues[channel->queue].name,
                 channel->seqs.count, count, length_of(channel));
    }
    SIM_SOMETIMES(sim, over, SIM_SEEN_REPLAYED);
}

static void history_method(struct channel *channel, const struct wire_method *m)
{
    struct sim *sim = sim_of(channel);
    channel->op_since = 0;
    if (m->id == WIRE_EXCHANGE_DECLARE_OK || m->id == WIRE_QUEUE_DECLARE_OK ||
        m->id == WIRE_QUEUE_BIND_OK) {
        channel->step++;
        role_wake_in(channel, 0);
    } else if (m->id == WIRE_BASIC_GET_EMPTY) {
        if (sim->quiet_since != UINT64_MAX && sim->quiet_since + QUIET_NS <= channel->since) {
            check_replay(channel);
            channel->got += sim->liveness;
        }
        channel->step = HISTORY_DELETES;
        role_wake_in(channel, 0);
    } else if (m->id == WIRE_QUEUE_DELETE_OK) {
        channel->rounds++;
        channel->step = HISTORY_PUBLISHES;
        role_wake_in(channel, prng_below(prng_of(channel), sim->liveness ? 3 * SIM_S : SIM_S));
    } else {
        sim_fail(sim, "client %u: unexpected %s", channel->client->number, wire_method_name(m->id));
    }
}

static bool history_content(struct channel *channel, const struct wire_method *m, struct bytes body)
{
    uint32_t publisher;
    uint64_t seq;
    if (m->id != WIRE_BASIC_GET_OK) {
        return false;
    }
    (void)sim_ledger_recognise(sim_of(channel), body, channel->queue, &publisher, &seq);
    vec_push(&channel->seqs, seq);
    channel->op_since = 0;
    role_wake_in(channel, 0);
    return true;
}

static void history_lost(struct channel *channel)
{
    (void)channel; /* its queue goes with the connection; what is not confirmed is not known */
}

static bool history_settled(const struct channel *channel)
{
    return channel->step == HISTORY_PUBLISHES && channel->got > 0;
}

const struct role_ops history_role = {.name = "user of an x-recent-history exchange",
                                      .tick = history_tick,
                                      .method = history_method,
                                      .content = history_content,
                                      .lost = history_lost,
                                      .settled = history_settled};
