/*
 * What: clients that compete for the connections of one user, who may have SEATS of them in the
 * whole cluster. Somebody makes the user, through any node, and sets the limit; from then on each
 * client connects as him, keeps the connection for a while, and lets others.
 *
 * Checked when no fault was at work for a while: there are never more at once; nobody is refused
 * while there is room. In the end each had its turn: seats of whatever died were given back.
 */
#include "sim_client.h"

#include "warren/broker_admin.h"

#include "node/node_internal.h"
#include "replica/host_internal.h"

#define USER    "seated"
#define TICK_NS (500 * SIM_MS)
/* What was lost without a word has ended by then for its node too. */
#define QUIET_NS (20 * SIM_S)
#define FREED_NS (5 * SIM_S) /* until a connection that ended has given its seat back */

enum seat_step { SEAT_USER, SEAT_PERMISSION, SEAT_LIMIT, SEAT_READY };

struct sim_seats {
    struct prng prng;
    enum seat_step step;
    bool asking;
    uint32_t node;
    uint64_t asked_at;
};

/* --- the user
 * ------------------------------------------------------------ */

static void on_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                    uint64_t b)
{
    struct sim *sim = ctx;
    (void)name;
    (void)a;
    (void)b;
    sim_trace(sim, "seats: step %d: %s", (int)sim->seats->step,
              fault->code == 0 ? "done" : fault->text);
    sim->seats->asking = false;
    sim->seats->step += fault->code == 0 ? 1 : 0;
}

static void ask(struct sim *sim)
{
    struct sim_seats *seats = sim->seats;
    const uint32_t node = (uint32_t)prng_below(&seats->prng, sim->node_count);
    const struct sim_host *host = &sim->hosts[node];
    const struct bytes user = BYTES_LITERAL(USER);
    const struct bytes all = BYTES_LITERAL(".*");
    if (!host->running || host->stop_asked || host->paused_until > sim->now) {
        return;
    }
    struct shard *shard = node_shard(host->node, 0);
    if (shard->view == NULL || shard->boot == 0) {
        return;
    }
    const struct broker_user_change change = {.has_password = true, .password = user};
    const struct catalog_user_limits limits = {SIM_SEATS, -1};
    seats->asking = true;
    seats->node = node;
    seats->asked_at = sim->now;
    host_refresh(shard->host);
    if (seats->step == SEAT_USER) {
        broker_user_put(shard->broker, user, &change, on_done, sim);
    } else if (seats->step == SEAT_PERMISSION) {
        broker_permissions_set(shard->broker, user, BYTES_LITERAL("/"), all, all, all, on_done,
                               sim);
    } else {
        broker_user_limits_set(shard->broker, user, &limits, on_done, sim);
    }
    sim_context_schedule(&sim->hosts[node].contexts[0], true);
}

static void on_tick(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    (void)arg;
    (void)a;
    (void)b;
    if (sim->ending || sim->seats->step == SEAT_READY) {
        return;
    }
    if (!sim->seats->asking) {
        ask(sim);
    }
    sim_at(sim, sim->now + TICK_NS, on_tick, NULL, 0, 0);
}

void sim_seats_init(struct sim *sim)
{
    sim->seats = wr_calloc(1, sizeof *sim->seats);
    sim->seats->prng = prng_fork(&sim->prng, "seats");
    if (sim->options.seated > 0) {
        sim_at(sim, sim->now + SIM_S, on_tick, NULL, 0, 0);
    }
}

void sim_seats_deinit(struct sim *sim)
{
    wr_free(sim->seats);
    sim->seats = NULL;
}

void sim_seats_node_gone(struct sim *sim, uint32_t node)
{
    if (sim->seats->asking && sim->seats->node == node) {
        sim->seats->asking = false; /* nobody answers */
    }
}

/* --- the clients
 * ------------------------------------------------------------ */

static bool quiet(const struct sim *sim)
{
    return sim->quiet_since != UINT64_MAX && sim->quiet_since + QUIET_NS <= sim->now;
}

bool seat_may_connect(const struct client *client)
{
    return client->sim->seats->step == SEAT_READY &&
           (!client->sim->liveness || client->turns == 0 || client->sim->ending);
}

/* Whoever has asked to close may have given back its seat before it hears so. */
static bool asked_to_close(const struct client *client)
{
    return client->attempt_at == UINT64_MAX;
}

/* Those who are open; with those who may have a seat besides: they are about to get one, or ended a
 * moment ago. */
static uint32_t count_seated(const struct client *client, bool perhaps)
{
    const struct sim *sim = client->sim;
    uint32_t count = 0;
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        const struct client *other = sim->hosts[i].client;
        if (!other->seated || other == client) {
            continue;
        }
        count += (other->state == CLIENT_OPEN && !asked_to_close(other)) ||
                 (perhaps && (other->state != CLIENT_DOWN || other->left_at + FREED_NS > sim->now));
    }
    return count;
}

void seat_opened(struct client *client)
{
    struct sim *sim = client->sim;
    const uint32_t others = count_seated(client, false);
    client->since = sim->now;
    client->turns += sim->liveness ? 1 : 0;
    SIM_SOMETIMES(sim, others > 0, SIM_SEEN_SEATED);
    if (others >= SIM_SEATS && quiet(sim)) {
        sim_fail(sim, "client %u is the %uth connection of a user who may have %u", client->number,
                 others + 1, SIM_SEATS);
    }
    client->attempt_at = sim->now + prng_below(&client->prng, 2 * SIM_S);
}

void seat_refused(struct client *client)
{
    struct sim *sim = client->sim;
    const uint32_t others = count_seated(client, true);
    SIM_SOMETIMES(sim, true, SIM_SEEN_SEAT_REFUSED);
    if (others < SIM_SEATS && quiet(sim)) {
        sim_fail(sim, "client %u is refused a connection, though of %u at most %u are taken",
                 client->number, SIM_SEATS, others);
    }
}

void seat_tick(struct client *client)
{
    struct wire_method m = {.id = WIRE_CONNECTION_CLOSE};
    if (client->sim->now < client->attempt_at) {
        return;
    }
    if (prng_ratio(&client->prng, 1, 3)) {
        client_abort(client, "its seat is to be given back");
        return;
    }
    m.connection_close.reply_code = 200;
    client_send(client, 0, &m);
    client->attempt_at = UINT64_MAX;
}

bool sim_seats_settled(struct sim *sim, char *why, size_t size)
{
    for (uint32_t i = sim->node_count; i < sim->host_count; i++) {
        const struct client *client = sim->hosts[i].client;
        if (client->seated && client->turns == 0) {
            (void)snprintf(why, size, "client %u had no seat yet", client->number);
            return false;
        }
    }
    return true;
}
