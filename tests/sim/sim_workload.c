/*
 * What: who the clients of a run are: how many, which channels they have, in which roles and on
 * which queues; and whether all of them are done in the end.
 */
#include "sim_client.h"

#include "warren/mem.h"

static struct channel *add_channel(struct client *client, enum role_kind role, uint32_t queue)
{
    struct channel *channel = &client->channels[client->channel_count++];
    channel->client = client;
    channel->number = (uint16_t)client->channel_count;
    channel->role = role;
    channel->queue = queue;
    channel->state = CHANNEL_CLOSED;
    role_init(channel);
    return channel;
}

static struct client *client_for(struct sim *sim, struct prng *prng)
{
    /* A free place at any client, else at the next one. */
    for (uint32_t tries = 0;; tries++) {
        const uint32_t clients = sim->host_count - sim->options.seated - sim->node_count;
        uint32_t at = sim->node_count + (uint32_t)prng_below(prng, clients);
        struct client *client = sim->hosts[at].client;
        if (client->channel_count == 0 ||
            (tries > 20 && client->channel_count < CLIENT_CHANNELS_MAX)) {
            return client;
        }
    }
}

static void client_new(struct sim *sim, struct sim_host *host)
{
    struct client *client = wr_calloc(1, sizeof *client);
    host->client = client;
    host->context_count = 1;
    host->contexts = wr_calloc(1, sizeof *host->contexts);
    sim_context_init(&host->contexts[0], host, 0, 1);
    client->sim = sim;
    client->host = host;
    client->context = &host->contexts[0];
    client->env = &host->contexts[0].env;
    client->prng = prng_fork_u64(&sim->prng, "client", host->index);
    client->number = host->index;
    client->attempt_at = sim->now + prng_below(&client->prng, SIM_S);
    host->contexts[0].sink = &client_sink;
    host->contexts[0].sink_ctx = client;
    sim_context_schedule(&host->contexts[0], true);
}

static void add_queue_roles(struct sim *sim, struct prng *prng)
{
    const struct sim_options *o = &sim->options;
    for (uint32_t i = 0; i < o->rivals; i++) {
        (void)add_channel(client_for(sim, prng), ROLE_RIVAL, o->queues + SIM_AT_EXCLUSIVE);
    }
    for (uint32_t i = 0; i < o->builders; i++) {
        (void)add_channel(client_for(sim, prng), ROLE_BUILDER, o->queues + SIM_AT_BUILT);
    }
    for (uint32_t i = 0; i < o->autos; i++) {
        (void)add_channel(client_for(sim, prng), ROLE_AUTO, o->queues + SIM_AT_EXCLUSIVE);
    }
}

/* A queue without rules: what is late, or is sent again, is to arrive. */
static bool plain_queue(const struct sim *sim, struct prng *prng, uint32_t *ret_queue)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < sim->options.queues; i++) {
        const struct sim_queue *q = &sim->ledger.queues[i];
        if (q->kind != SIM_QUEUE_TRANSIENT && q->ttl_ms == 0 && q->length_max == 0 &&
            q->delivery_limit == 0 && prng_below(prng, ++count) == 0) {
            *ret_queue = i;
        }
    }
    return count > 0;
}

static void add_further_roles(struct sim *sim)
{
    struct prng prng = prng_fork(&sim->prng, "further roles");
    const struct sim_options *o = &sim->options;
    uint32_t queue = 0;
    for (uint32_t i = 0; i < o->numbered; i++) {
        if (plain_queue(sim, &prng, &queue)) {
            (void)add_channel(client_for(sim, &prng), ROLE_NUMBERED, queue);
        }
    }
    for (uint32_t i = 0; i < o->historians; i++) {
        (void)add_channel(client_for(sim, &prng), ROLE_HISTORIAN, o->queues + SIM_AT_RECENT);
    }
    for (uint32_t i = 0; i < o->sleepers; i++) {
        (void)add_channel(client_for(sim, &prng), ROLE_SLEEPER, o->queues + SIM_AT_HELD);
    }
    if (o->moves) {
        (void)add_channel(client_for(sim, &prng), ROLE_PUBLISHER, o->queues + SIM_AT_ATTIC);
    }
}

/* Two, where there is room. */
static void add_rpc_roles(struct sim *sim, struct prng *prng)
{
    uint32_t room = 0;
    for (uint32_t i = sim->node_count; i < sim->host_count - sim->options.seated; i++) {
        room += CLIENT_CHANNELS_MAX - sim->hosts[i].client->channel_count;
    }
    for (uint32_t i = 0; i < 2 && i < room; i++) {
        (void)add_channel(client_for(sim, prng), ROLE_RPC, sim->options.queues + SIM_AT_EXCLUSIVE);
    }
}

void sim_clients_init(struct sim *sim)
{
    struct prng prng = prng_fork(&sim->prng, "workload");
    const struct sim_options *o = &sim->options;
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        client_new(sim, &sim->hosts[i]);
        sim->hosts[i].client->seated = i >= sim->host_count - o->seated;
    }
    for (uint32_t i = 0; i < o->publishers; i++) {
        (void)add_channel(client_for(sim, &prng), ROLE_PUBLISHER,
                          i < o->queues ? i : (uint32_t)prng_below(&prng, o->queues));
    }
    for (uint32_t i = 0; i < o->consumers; i++) { /* each queue has at least one */
        (void)add_channel(client_for(sim, &prng), ROLE_CONSUMER,
                          i < o->queues ? i : (uint32_t)prng_below(&prng, o->queues));
    }
    for (uint32_t i = 0; i < o->getters; i++) {
        (void)add_channel(client_for(sim, &prng),
                          prng_ratio(&prng, 1, 2) ? ROLE_GETTER : ROLE_EXCLUSIVE,
                          (uint32_t)prng_below(&prng, o->queues));
    }
    add_queue_roles(sim, &prng);
    bool buries = o->moves;
    for (uint32_t i = 0; i < o->queues; i++) {
        buries = buries || sim->ledger.queues[i].graves > 0;
    }
    if (buries) {
        (void)add_channel(client_for(sim, &prng), ROLE_CONSUMER, o->queues + SIM_AT_GRAVES);
    }
    add_further_roles(sim);
    add_rpc_roles(sim, &prng);
}

void sim_clients_describe(struct sim *sim)
{
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        const struct client *client = sim->hosts[i].client;
        for (uint32_t k = 0; k < client->channel_count; k++) {
            const struct channel *ch = &client->channels[k];
            sim_trace(
                sim,
                "  client %u at node %u: channel %u, role %d, queue %u, step %u, prefetch %u, "
                "%zu unacked, %zu not known to be settled",
                client->number, client->node, ch->number, (int)ch->role, ch->queue, ch->step,
                ch->prefetch, ch->unacked.count, ch->applying.count + ch->barrier.count);
        }
    }
}

void sim_clients_deinit(struct sim *sim)
{
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        struct client *client = sim->hosts[i].client;
        sim_net_host_gone(sim, &sim->hosts[i], false);
        sim_sched_drop_host(sim, &sim->hosts[i]);
        sim_context_deinit(client->context);
        if (client->conn != NULL) {
            wire_frame_reader_deinit(&client->reader);
            outq_deinit(&client->out);
        }
        for (uint32_t k = 0; k < client->channel_count; k++) {
            role_deinit(&client->channels[k]);
        }
        wr_free(sim->hosts[i].contexts);
        wr_free(client);
    }
}

bool sim_clients_settled(struct sim *sim, char *why, size_t size)
{
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        struct client *client = sim->hosts[i].client;
        if (client->blocked && client->state == CLIENT_OPEN) {
            (void)snprintf(why, size, "client %u is blocked (node %u)", client->number,
                           client->node);
            return false;
        }
        if (client->channel_count > 0 && client->state != CLIENT_OPEN) {
            (void)snprintf(why, size, "client %u is not connected (node %u)", client->number,
                           client->node);
            return false;
        }
        for (uint32_t k = 0; k < client->channel_count; k++) {
            if (!role_settled(&client->channels[k], why, size)) {
                return false;
            }
        }
    }
    return true;
}
