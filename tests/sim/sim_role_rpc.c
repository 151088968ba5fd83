/*
 * What: the role of those who ask and answer through direct reply-to. Each has a queue of its own
 * that it answers from, a reply consumer, and one request under way, to the queue of any of them on
 * any node.
 *
 * Checked: a reply comes to the channel that asked, in the life in which it asked, once; whoever
 * asks and is answered by a channel that lives gets it when no fault is at work; a name that is
 * declared belongs to one consumer or is not found.
 */
#include <inttypes.h>

#include "sim_client.h"
#include "sim_durable.h"

#include "warren/mem.h"

#define RPC_MAGIC    0x52504331u
#define RPC_BODY     24u
#define REPLY_WAIT   (2 * SIM_S)
#define REPLY_SURELY (10 * SIM_S)

enum rpc_step { RPC_DECLARES, RPC_SERVES, RPC_ASKS };

static void queue_name(const struct channel *channel, char out[64])
{
    (void)snprintf(out, 64, "rpc-%u-%u-%u", channel->client->number, channel->number,
                   channel->epoch);
}

/* --- set up
 * ------------------------------------------------------------ */

void rpc_role_opened(struct channel *channel)
{
    char name[64];
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    queue_name(channel, name);
    m.queue_declare.queue = bytes_from_cstr(name);
    m.queue_declare.auto_delete = true;
    channel->step = RPC_DECLARES;
    channel->since = 0;
    channel->asked = NULL;
    role_send_op(channel, &m);
}

/* True when it is set up. */
bool rpc_role_setup(struct channel *channel)
{
    char name[64];
    struct wire_method m = {.id = WIRE_BASIC_CONSUME};
    queue_name(channel, name);
    if (channel->step == RPC_ASKS) {
        return true;
    }
    bool serves = channel->step == RPC_DECLARES;
    channel->step++;
    m.basic_consume.queue = bytes_from_cstr(serves ? name : "amq.rabbitmq.reply-to");
    m.basic_consume.consumer_tag = bytes_from_cstr(serves ? "s" : "r");
    m.basic_consume.no_ack = true;
    role_send_op(channel, &m);
    return false;
}

/* --- asking
 * ------------------------------------------------------------ */

static void send_message(struct channel *channel, const char *key, bool asks, struct bytes body)
{
    struct wire_basic_publish m = {.routing_key = bytes_from_cstr(key)};
    struct wire_props props = {.flags = asks ? WIRE_PROP_REPLY_TO : 0,
                               .reply_to = BYTES_LITERAL("amq.rabbitmq.reply-to")};
    uint8_t space[64];
    struct bytes raw = bytes_make(space, (size_t)(wire_props_write(space, &props) - space));
    uint32_t frame_max = channel->client->frame_max;
    size_t whole = wire_publish_size(&m, raw.size, body.size, frame_max);
    uint8_t *out = wr_alloc(whole);
    (void)wire_publish_write(out, channel->number, &m, raw, body, frame_max);
    outq_append_bytes(&channel->client->out, out, whole);
    wr_free(out);
}

/* Any channel that answers, this one too; NULL: none does. */
static struct channel *any_peer(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    struct channel *found = NULL;
    uint64_t count = 0;
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        struct client *client = sim->hosts[i].client;
        for (uint32_t k = 0; k < client->channel_count; k++) {
            struct channel *peer = &client->channels[k];
            if (peer->role == ROLE_RPC && peer->state == CHANNEL_RUNNING && !peer->closing &&
                prng_below(prng_of(channel), ++count) == 0) {
                found = peer;
            }
        }
    }
    return found;
}

static void ask(struct channel *channel)
{
    char name[64];
    uint8_t body[RPC_BODY];
    struct channel *peer = any_peer(channel);
    if (peer == NULL) {
        role_wake_in(channel, SIM_S);
        return;
    }
    bytes_store_le32(body, RPC_MAGIC);
    bytes_store_le32(body + 4, channel->client->number);
    bytes_store_le32(body + 8, channel->number);
    bytes_store_le32(body + 12, channel->epoch);
    bytes_store_le64(body + 16, ++channel->mark);
    queue_name(peer, name);
    channel->since = sim_of(channel)->now;
    channel->asked = peer;
    channel->asked_epoch = peer->epoch;
    channel->certain = sim_links_are_up(sim_of(channel));
    send_message(channel, name, true, bytes_make(body, sizeof body));
    role_wake_in(channel, REPLY_WAIT);
}

/* No reply so far: lost, unless there is nothing that could have lost it. */
static void give_up(struct channel *channel)
{
    struct sim *sim = sim_of(channel);
    const struct channel *peer = channel->asked;
    bool alive = peer->state == CHANNEL_RUNNING && peer->epoch == channel->asked_epoch &&
                 !peer->closing && !channel->closing && !channel->client->blocked &&
                 !peer->client->blocked;
    /* Its node may be another one by now, and nobody have told the client. */
    alive = alive && channel->client->heard_at > channel->since &&
            peer->client->heard_at > channel->since;
    bool quiet = sim->quiet_since != UINT64_MAX && sim->quiet_since + SIM_S <= channel->since;
    if (alive && quiet && channel->certain) {
        if (sim->now < channel->since + REPLY_SURELY) {
            role_wake_in(channel, SIM_S);
            return;
        }
        sim_fail(sim, "client %u: no reply to request %" PRIu64 " to client %u",
                 channel->client->number, channel->mark, peer->client->number);
    }
    channel->since = 0;
    channel->asked = NULL; /* one that comes late after all is nothing bad */
    role_wake_in(channel, 0);
}

void rpc_role_tick(struct channel *channel)
{
    if (channel->op_since != 0) {
        return;
    }
    if (channel->since != 0) {
        give_up(channel);
    } else if (channel->cancelled || prng_ratio(prng_of(channel), 1, 200)) {
        channel_close_by_us(channel);
    } else {
        ask(channel);
    }
}

/* --- answers
 * ------------------------------------------------------------ */

static void on_request(struct channel *channel, struct bytes body)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    send_message(channel, channel->reply_to, false, body);
    if (channel->op_since == 0 && channel->state == CHANNEL_RUNNING &&
        prng_ratio(prng_of(channel), 1, 20)) {
        m.queue_declare.queue = bytes_from_cstr(channel->reply_to);
        m.queue_declare.passive = true;
        role_send_op(channel, &m);
    }
}

void rpc_role_content(struct channel *channel, struct bytes body)
{
    struct sim *sim = sim_of(channel);
    if (body.size != RPC_BODY || bytes_load_le32(body.data) != RPC_MAGIC) {
        sim_fail(sim, "client %u: %zu bytes that nobody sent", channel->client->number, body.size);
    }
    if (channel->reply_to[0] != 0) {
        if (!channel->closing) {
            on_request(channel, body);
        }
        return;
    }
    const uint64_t number = bytes_load_le64(body.data + 16);
    if (bytes_load_le32(body.data + 4) != channel->client->number ||
        bytes_load_le32(body.data + 8) != channel->number ||
        bytes_load_le32(body.data + 12) != channel->epoch) {
        sim_fail(sim, "client %u: a reply for client %u, channel %u", channel->client->number,
                 bytes_load_le32(body.data + 4), bytes_load_le32(body.data + 8));
    }
    if (number > channel->mark) {
        sim_fail(sim, "client %u: a reply to request %" PRIu64 ", which it did not send",
                 channel->client->number, number);
    }
    if (number < channel->mark || channel->asked == NULL) {
        return; /* it was given up */
    }
    SIM_SOMETIMES(sim, true, SIM_SEEN_REPLY);
    SIM_SOMETIMES(sim, channel->asked->client->node != channel->client->node, SIM_SEEN_REPLY_NODES);
    if (channel->since == 0) { /* nobody counts letters, so a link that doubles them is seen */
        if (sim->seen[SIM_SEEN_FRAME_TWICE] == 0) {
            sim_fail(sim, "client %u: a second reply to request %" PRIu64, channel->client->number,
                     number);
        }
        return;
    }
    channel->since = 0;
    channel->got += sim->liveness ? 1 : 0;
    role_wake_in(channel, prng_below(prng_of(channel), sim->liveness ? SIM_S : 200 * SIM_MS));
}

/* The answer to a question about somebody's name. */
void rpc_role_method(struct channel *channel, const struct wire_method *m)
{
    if (m->id == WIRE_BASIC_CANCEL) { /* the home of its queue is gone */
        channel_close_by_us(channel);
        return;
    }
    if (m->id != WIRE_QUEUE_DECLARE_OK || m->queue_declare_ok.consumer_count != 1) {
        sim_fail(sim_of(channel), "client %u: a reply name has no consumer, and exists",
                 channel->client->number);
    }
    role_wake_in(channel, 0);
}
