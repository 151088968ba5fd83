/*
 * What: the role of owners of exclusive queues. Checked: such a queue gives back exactly what was
 * confirmed, in order.
 */
#include "sim_client.h"

static void exclusive_name(const struct channel *channel, char out[64])
{
    (void)snprintf(out, 64, "x-%u-%u-%u-%u", channel->client->number, channel->number,
                   channel->epoch, channel->rounds);
}

/* Script: 0 declare, 1 publish, 2 wait for the confirms, 3 get, 4 delete. */
void role_exclusive_tick(struct channel *channel)
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

void role_exclusive_got(struct channel *channel, uint64_t seq, bool any)
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
