/*
 * What: roles whose queues come and go.
 *
 * - Rivals: several connections that all want the exclusive queue of one name. Exclusive means
 *   exclusive: never two owners whose connections live; who owns it finds it there; who does not is
 *   refused with 405, and is not once the owner's connection is over.
 * - The builder: declares a durable queue, fills it, reads it, deletes it and declares it again.
 * What was confirmed before a queue was deleted has ended with it and must never come again.
 * - Auto-delete: the queue is there as long as it has its consumer, and goes with it. Before it,
 * and without waiting, other queues are declared and bound, which are there when it is.
 *
 * What holds only without faults is checked when none was at work since the claim began.
 */
#include <inttypes.h>

#include "sim_client.h"

/* A connection that was lost without a word ends for its node after two heartbeats, 9 s each at
 * most, and what it owned goes a moment later. */
#define OWNER_GONE_NS (30 * SIM_S)
#define AUTO_GONE_NS  (10 * SIM_S)

enum rival_step { RIVAL_WANTS, RIVAL_OWNS, RIVAL_LOOKS, RIVAL_DELETES };
enum builder_step {
    BUILDER_DELETES,
    BUILDER_DECLARES,
    BUILDER_PUBLISHES,
    BUILDER_CONFIRMED,
    BUILDER_GETS,
};
enum auto_step { AUTO_DECLARES, AUTO_CONSUMES, AUTO_LOOKS, AUTO_CANCELS, AUTO_GONE };

/* No fault was at work since `since`. */
static bool quiet_since(const struct sim *sim, uint64_t since)
{
    return sim->quiet_since != UINT64_MAX && sim->quiet_since <= since;
}

static void declare(struct channel *channel, const char *name, bool passive)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    struct writer w;
    writer_init(&w, 64);
    m.queue_declare.queue = bytes_from_cstr(name);
    m.queue_declare.passive = passive;
    m.queue_declare.exclusive = channel->role == ROLE_RIVAL;
    m.queue_declare.auto_delete = channel->role == ROLE_AUTO;
    m.queue_declare.durable = channel->role == ROLE_BUILDER || channel->rounds % 2 == 1;
    if (channel->role == ROLE_BUILDER && channel->publisher % 2 == 0) {
        wire_table_put_cstr(&w, "x-queue-type", "quorum");
    }
    m.queue_declare.arguments = bytes_make(w.buf->data, w.buf->size);
    role_send_op(channel, &m);
    writer_deinit(&w);
}

static void delete_queue(struct channel *channel, const char *name)
{
    struct wire_method m = {.id = WIRE_QUEUE_DELETE};
    m.queue_delete.queue = bytes_from_cstr(name);
    role_send_op(channel, &m);
}

/* --- rivals
 * ------------------------------------------------------------ */

#define RIVAL_QUEUE "rival"

static void rival_released(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    if (sim->rival_owner != NULL && sim->rival_owner->client == channel->client) {
        sim->rival_owner = NULL;
    }
    sim->rival_released = sim->now;
}

static void rival_tick(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    if (channel->step == RIVAL_WANTS) {
        if (!sim->liveness || channel->got == 0) {
            declare(channel, RIVAL_QUEUE, false);
        }
        return;
    }
    if (channel->step != RIVAL_OWNS) {
        return;
    }
    const uint64_t lot = prng_below(prng_of(channel), 10);
    if (lot < 5 && !sim->liveness) {
        channel->step = RIVAL_LOOKS;
        declare(channel, RIVAL_QUEUE, true);
    } else if (lot < 8) {
        channel->step = RIVAL_DELETES;
        rival_released(channel); /* others may get it before we hear that it is gone */
        delete_queue(channel, RIVAL_QUEUE);
    } else {
        client_abort(channel->client, "its exclusive queue is to go with it");
    }
}

static void rival_owns(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    const struct channel *other = sim->rival_owner;
    /* A node that stops has closed its connections before their clients hear of it. */
    if (other != NULL && other->client != channel->client && other->client->state == CLIENT_OPEN &&
        !sim->hosts[other->client->node].stop_asked && quiet_since(sim, sim->rival_since)) {
        sim_fail(sim, "clients %u and %u both own the exclusive queue", other->client->number,
                 channel->client->number);
    }
    SIM_SOMETIMES(sim, sim->rival_last != channel->client, SIM_SEEN_RIVAL_OWNS);
    sim->rival_last = channel->client;
    sim->rival_owner = channel;
    sim->rival_since = sim->now;
    channel->got += sim->liveness ? 1 : 0;
    channel->step = RIVAL_OWNS;
    role_wake_in(channel, prng_below(prng_of(channel), 2 * SIM_S));
}

static void rival_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id == WIRE_QUEUE_DELETE_OK) {
        rival_released(channel);
        channel->step = RIVAL_WANTS;
        role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
    } else if (channel->step == RIVAL_WANTS) {
        rival_owns(channel);
    } else {
        channel->step = RIVAL_OWNS;
        role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
    }
}

static void rival_refused(struct channel *channel, uint16_t code)
{
    struct sim *sim = sim_of(channel);
    if (channel->step == RIVAL_WANTS) {
        SIM_SOMETIMES(sim, code == 405, SIM_SEEN_RIVAL_REFUSED);
        if (code == 405 && sim->rival_owner == NULL && channel->op_since > OWNER_GONE_NS &&
            quiet_since(sim, channel->op_since - OWNER_GONE_NS) &&
            sim->rival_released + OWNER_GONE_NS < channel->op_since) {
            sim_fail(sim, "client %u is refused an exclusive queue that nobody owns",
                     channel->client->number);
        }
    } else if ((code == 404 || code == 405) && sim->rival_owner == channel &&
               quiet_since(sim, sim->rival_since)) {
        sim_fail(sim, "client %u owns an exclusive queue and is told %u", channel->client->number,
                 code);
    }
}

/* --- the builder
 * ------------------------------------------------------------ */

static const char *builder_queue(const struct channel *channel)
{
    return sim_of(channel)->ledger.queues[channel->queue].name;
}

static void builder_tick(struct channel *channel)
{
    struct wire_method m = {.id = WIRE_BASIC_GET};
    switch ((enum builder_step)channel->step) {
    case BUILDER_DELETES:
        if (!sim_of(channel)->liveness) {
            channel->mark =
                sim_of(channel)->ledger.publishers.items[channel->publisher].records.count;
            delete_queue(channel, builder_queue(channel));
        } else {
            role_wake_in(channel, SIM_S);
        }
        break;
    case BUILDER_DECLARES:
        declare(channel, builder_queue(channel), false);
        break;
    case BUILDER_PUBLISHES:
        channel->put = 1 + (uint32_t)prng_below(prng_of(channel), 20);
        channel->got = 0;
        channel->first = sim_of(channel)->ledger.publishers.items[channel->publisher].records.count;
        for (uint32_t i = 0; i < channel->put; i++) {
            role_publish(channel, builder_queue(channel), role_body_size(channel));
        }
        channel->step = BUILDER_CONFIRMED;
        break;
    case BUILDER_CONFIRMED:
        if (channel->unconfirmed.count == 0) {
            channel->step = prng_ratio(prng_of(channel), 1, 3) ? BUILDER_DELETES : BUILDER_GETS;
            role_wake_in(channel, 0);
        }
        break;
    case BUILDER_GETS:
        m.basic_get.queue = bytes_from_cstr(builder_queue(channel));
        role_send_op(channel, &m);
        break;
    }
}

/* What was confirmed before the queue was deleted is over. */
static void builder_deleted(struct channel *channel)
{
    struct sim_publisher *p = &sim_of(channel)->ledger.publishers.items[channel->publisher];
    for (uint64_t i = 0; i < channel->mark; i++) {
        p->records.items[i].ended = p->records.items[i].ended || p->records.items[i].confirmed;
        SIM_SOMETIMES(sim_of(channel), p->records.items[i].ended, SIM_SEEN_ENDED);
    }
    channel->since = sim_of(channel)->now;
    channel->step = BUILDER_DECLARES;
    role_wake_in(channel, prng_below(prng_of(channel), 300 * SIM_MS));
}

static void builder_method(struct channel *channel, const struct wire_method *m)
{
    struct sim *sim = sim_of(channel);
    if (m->id == WIRE_QUEUE_DELETE_OK) {
        builder_deleted(channel);
    } else if (m->id == WIRE_QUEUE_DECLARE_OK) {
        channel->step = BUILDER_PUBLISHES;
        role_wake_in(channel, 0);
    } else { /* get-empty */
        if (channel->got < channel->put && quiet_since(sim, channel->since)) {
            sim_fail(sim, "client %u: queue %s is empty, but %u of %u messages did not come",
                     channel->client->number, builder_queue(channel), channel->put - channel->got,
                     channel->put);
        }
        channel->step = prng_ratio(prng_of(channel), 1, 2) ? BUILDER_DELETES : BUILDER_PUBLISHES;
        channel->step = sim->liveness ? (uint32_t)BUILDER_DELETES : channel->step;
        role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
    }
}

void queue_role_got(struct channel *channel, const struct wire_method *m, struct bytes body)
{
    struct sim *sim = sim_of(channel);
    struct wire_method ack = {.id = WIRE_BASIC_ACK};
    uint32_t publisher = 0;
    uint64_t seq = 0;
    const struct sim_record *record = sim_ledger_receive(
        sim, body, channel->queue, m->basic_get_ok.redelivered, &publisher, &seq);
    if (record->epoch == channel->epoch && seq >= channel->first) {
        /* One that was returned (its ack went with a fail-over) may come between. */
        if (!m->basic_get_ok.redelivered && seq != channel->first + channel->got) {
            sim_fail(sim, "client %u: queue %s gave message %" PRIu64 " when %" PRIu64 " is next",
                     channel->client->number, builder_queue(channel), seq,
                     channel->first + channel->got);
        }
        channel->got = (uint32_t)(seq + 1 - channel->first);
    }
    ack.basic_ack.delivery_tag = m->basic_get_ok.delivery_tag;
    channel_send(channel, &ack);
    role_wake_in(channel, 0);
}

/* --- auto-delete
 * ------------------------------------------------------------ */

static void auto_name(const struct channel *channel, char out[64])
{
    (void)snprintf(out, 64, "auto-%u-%u-%u-%u", channel->client->number, channel->number,
                   channel->epoch, channel->rounds);
}

static void side_name(const struct channel *channel, uint32_t number, char out[64])
{
    (void)snprintf(out, 64, "side-%u-%u-%u-%u-%u-%u", channel->client->number, channel->number,
                   channel->epoch, channel->rounds, channel->step == AUTO_CANCELS, number);
}

/* Begun together by the node, if it can: they share commits. */
static void declare_side_queues(struct channel *channel)
{
    channel->put = (uint32_t)prng_below(prng_of(channel), 16);
    for (uint32_t i = 0; i < channel->put; i++) {
        char name[64];
        side_name(channel, i, name);
        struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
        m.queue_declare.queue = bytes_from_cstr(name);
        m.queue_declare.exclusive = true;
        m.queue_declare.no_wait = true;
        channel_send(channel, &m);
        m = (struct wire_method){.id = WIRE_QUEUE_BIND};
        m.queue_bind.queue = bytes_from_cstr(name);
        m.queue_bind.exchange = BYTES_LITERAL("amq.direct");
        m.queue_bind.routing_key = bytes_from_cstr(name);
        m.queue_bind.no_wait = true;
        channel_send(channel, &m);
    }
}

static void delete_side_queues(struct channel *channel)
{
    for (uint32_t i = 0; i < channel->put; i++) {
        char name[64];
        side_name(channel, i, name);
        struct wire_method m = {.id = WIRE_QUEUE_DELETE};
        m.queue_delete.queue = bytes_from_cstr(name);
        m.queue_delete.no_wait = true;
        channel_send(channel, &m);
    }
}

static void auto_tick(struct channel *channel)
{
    char name[64];
    struct wire_method m = {.id = WIRE_BASIC_CONSUME};
    auto_name(channel, name);
    switch ((enum auto_step)channel->step) {
    case AUTO_DECLARES:
        if (sim_of(channel)->liveness) {
            role_wake_in(channel, SIM_S);
        } else {
            channel->since = sim_of(channel)->now;
            declare_side_queues(channel);
            declare(channel, name, false);
        }
        break;
    case AUTO_CONSUMES:
        m.basic_consume.queue = bytes_from_cstr(name);
        m.basic_consume.consumer_tag = BYTES_LITERAL("c");
        role_send_op(channel, &m);
        break;
    case AUTO_LOOKS:
        if (channel->put > 0 && prng_ratio(prng_of(channel), 1, 2)) {
            side_name(channel, (uint32_t)prng_below(prng_of(channel), channel->put), name);
        }
        declare(channel, name, true);
        delete_side_queues(channel);
        break;
    case AUTO_GONE:
        declare(channel, name, true);
        break;
    case AUTO_CANCELS:
        declare_side_queues(channel);
        delete_side_queues(channel);
        m.id = WIRE_BASIC_CANCEL;
        m.basic_cancel.consumer_tag = BYTES_LITERAL("c");
        role_send_op(channel, &m);
        break;
    }
}

static void auto_again(struct channel *channel)
{
    channel->rounds++;
    channel->step = AUTO_DECLARES;
    role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
}

static void auto_method(struct channel *channel, const struct wire_method *m)
{
    struct sim *sim = sim_of(channel);
    if (m->id == WIRE_BASIC_CANCEL) { /* its home is gone, and with it the queue */
        if (quiet_since(sim, channel->since)) {
            sim_fail(sim, "client %u: the consumer of its queue was cancelled",
                     channel->client->number);
        }
        channel_close_by_us(channel);
        return;
    }
    switch ((enum auto_step)channel->step) {
    case AUTO_DECLARES:
        channel->step = AUTO_CONSUMES;
        role_wake_in(channel, prng_below(prng_of(channel), 300 * SIM_MS));
        break;
    case AUTO_CONSUMES:
        channel->step = AUTO_LOOKS;
        role_wake_in(channel, prng_below(prng_of(channel), 2 * SIM_S));
        break;
    case AUTO_LOOKS:
        channel->step = AUTO_CANCELS;
        role_wake_in(channel, 0);
        break;
    case AUTO_CANCELS:
        channel->step = AUTO_GONE;
        channel->since = sim->now;
        role_wake_in(channel, prng_below(prng_of(channel), SIM_S));
        break;
    case AUTO_GONE:
        if (sim->now > channel->since + AUTO_GONE_NS && quiet_since(sim, channel->since)) {
            sim_fail(sim, "client %u: its queue is still there %" PRIu64 " ms after its consumer",
                     channel->client->number, (sim->now - channel->since) / SIM_MS);
        }
        role_wake_in(channel, 300 * SIM_MS);
        break;
    }
}

static void auto_refused(struct channel *channel, uint16_t code)
{
    struct sim *sim = sim_of(channel);
    SIM_SOMETIMES(sim, code == 404 && channel->step == AUTO_GONE, SIM_SEEN_AUTO_DELETED);
    if ((channel->step == AUTO_DECLARES || channel->step == AUTO_CANCELS) &&
        (code == 404 || quiet_since(sim, channel->since))) {
        sim_fail(sim, "client %u: declaring and binding its queues is refused with %u",
                 channel->client->number, code);
    }
    if (code == 404 && (channel->step == AUTO_CONSUMES || channel->step == AUTO_LOOKS) &&
        quiet_since(sim, channel->since)) {
        sim_fail(sim, "client %u: its queue is gone before its consumer", channel->client->number);
    }
}

/* --- dispatch
 * ------------------------------------------------------------ */

void queue_role_tick(struct channel *channel)
{
    if (channel->op_since != 0) {
        return;
    }
    if (channel->role == ROLE_RIVAL) {
        rival_tick(channel);
    } else if (channel->role == ROLE_BUILDER) {
        builder_tick(channel);
    } else {
        auto_tick(channel);
    }
}

void queue_role_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id != WIRE_BASIC_CANCEL) {
        channel->op_since = 0;
    }
    if (channel->role == ROLE_RPC) {
        rpc_role_method(channel, m);
    } else if (channel->role == ROLE_RIVAL) {
        rival_method(channel, m);
    } else if (channel->role == ROLE_BUILDER) {
        builder_method(channel, m);
    } else {
        auto_method(channel, m);
    }
}

void queue_role_lost(struct channel *channel)
{
    if (channel->role == ROLE_RIVAL) {
        if (channel->client->state != CLIENT_OPEN) { /* else it is the connection's still */
            rival_released(channel);
        }
    } else if (channel->role == ROLE_AUTO) {
        auto_again(channel);
    }
}

void queue_role_refused(struct channel *channel, uint16_t code)
{
    if (channel->state != CHANNEL_RUNNING) {
        return;
    }
    if (channel->role == ROLE_RIVAL) {
        rival_refused(channel, code);
    } else if (channel->role == ROLE_AUTO) {
        auto_refused(channel, code);
    }
}

bool queue_role_settled(const struct channel *channel)
{
    return channel->role == ROLE_RIVAL ? channel->step == RIVAL_WANTS && channel->got > 0
                                       : channel->step == 0;
}
