/*
 * What: an operator who changes policies while the cluster runs: how often classic queues are
 * mirrored, and where; and values that do no harm but must reach every machine.
 *
 * It proposes through some node's host, as warrenctl's requests do. Checked at the end: each queue
 * has the replicas that its policy asks for, and its leader's machine the values.
 */
#include <inttypes.h>

#include "sim.h"

#include "warren/catalog_settings.h"
#include "warren/wire_table.h"

#include "node/node_internal.h"
#include "node/replicas.h"
#include "replica/group.h"
#include "replica/home.h"
#include "replica/host_internal.h"

#define PROPOSE_MS 3000u

struct sim_policy {
    struct prng prng;
    bool acts;
};

static void on_done(void *ctx, int status, const struct catalog_result *result)
{
    struct sim *sim = ctx;
    (void)result;
    sim_trace(sim, "policies: status %d", status);
}

/* To what it was not before: there is a view of it. */
static void on_done_new(void *ctx, int status, const struct catalog_result *result)
{
    sim_change_answered(ctx, status, result);
    on_done(ctx, status, result);
}

static struct host *some_host(struct sim *sim, uint32_t *ret_node)
{
    const uint32_t first = (uint32_t)prng_below(&sim->policy->prng, sim->node_count);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const uint32_t at = (first + i) % sim->node_count;
        const struct sim_host *host = &sim->hosts[at];
        if (host->running && !host->stop_asked && host->paused_until <= sim->now) {
            struct host *replicas = node_shard_host(host->node, 0);
            if (replicas->view != NULL && replicas->boot != 0) {
                *ret_node = at;
                return replicas;
            }
        }
    }
    return NULL;
}

static void put_mirrors(struct sim *sim, struct writer *w, struct bytes *ret_text)
{
    struct prng *prng = &sim->policy->prng;
    switch (prng_below(prng, 3)) {
    case 0:
        wire_table_put_cstr(w, "ha-mode", "all");
        *ret_text = BYTES_LITERAL("all");
        break;
    case 1:
        wire_table_put_cstr(w, "ha-mode", "exactly");
        wire_table_put_int64(w, "ha-params", 1 + (int64_t)prng_below(prng, 4));
        *ret_text = BYTES_LITERAL("exactly");
        break;
    default: {
        wire_table_put_cstr(w, "ha-mode", "nodes");
        const uint32_t mark = wire_table_put_array_begin(w, "ha-params");
        for (uint32_t i = 0; i < sim->node_count; i++) {
            if (prng_ratio(prng, 1, 2)) {
                wire_value_put_longstr(w, bytes_from_cstr(sim->hosts[i].config.nodename));
            }
        }
        wire_value_put_longstr(w, BYTES_LITERAL("warren@nowhere"));
        wire_value_put_end(w, mark);
        *ret_text = BYTES_LITERAL("nodes");
        break;
    }
    }
}

static void act(struct sim *sim)
{
    struct prng *prng = &sim->policy->prng;
    struct catalog_command command = {.kind = CATALOG_PUT_POLICY};
    struct catalog_policy_spec *policy = &command.u.policy;
    struct bytes text = BYTES_LITERAL("none");
    struct writer w;
    uint32_t node;
    struct host *host = some_host(sim, &node);
    if (host == NULL) {
        return;
    }
    writer_init(&w, 64);
    policy->vhost = BYTES_LITERAL("/");
    policy->name = BYTES_LITERAL("mirrors");
    policy->pattern = BYTES_LITERAL("^classic");
    policy->apply_to = CATALOG_APPLY_QUEUES;
    const uint64_t what = prng_below(prng, 8);
    const bool another = what == 5 || what == 6;
    if (what < 5) {
        put_mirrors(sim, &w, &text);
    } else if (another) {
        policy->name = policy->pattern = BYTES_LITERAL("quorum");
        wire_table_put_int64(&w, "max-length", 1000000 + (int64_t)prng_below(prng, 1000000));
    } else {
        command.kind = CATALOG_DELETE_POLICY;
    }
    policy->definition = bytes_make(w.buf->data, w.buf->size);
    sim_trace(sim, "policies: %s %.*s: %.*s, through node %u",
              command.kind == CATALOG_PUT_POLICY ? "put" : "delete", (int)policy->name.size,
              (const char *)policy->name.data, (int)text.size, (const char *)text.data, node);
    host_refresh(host);
    host_catalog_propose(host, &command, PROPOSE_MS, another ? on_done_new : on_done, sim);
    sim_context_schedule(&sim->hosts[node].contexts[0], true);
    writer_deinit(&w);
}

static void on_tick(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    (void)arg;
    (void)a;
    (void)b;
    if (sim->liveness || sim->ending) {
        return;
    }
    act(sim);
    sim_at(sim, sim->now + prng_between(&sim->policy->prng, 300 * SIM_MS, 4 * SIM_S), on_tick, NULL,
           0, 0);
}

void sim_policy_init(struct sim *sim)
{
    sim->policy = wr_calloc(1, sizeof *sim->policy);
    sim->policy->prng = prng_fork(&sim->prng, "policies");
    sim->policy->acts = prng_ratio(&sim->policy->prng, 1, 3);
    if (sim->policy->acts) {
        sim_at(sim, sim->now + 2 * SIM_S, on_tick, NULL, 0, 0);
    }
}

void sim_policy_deinit(struct sim *sim)
{
    wr_free(sim->policy);
    sim->policy = NULL;
}

/* --- the end
 * ------------------------------------------------------------ */

static bool config_is_wanted(const struct catalog_queue *record, const struct home *home)
{
    struct queue_config want;
    struct queue_config now;
    queue_get_config(home->queue, &now);
    queue_settings_config(record, &want);
    return want.ttl_ms == now.ttl_ms && want.length_max == now.length_max &&
           want.overflow == now.overflow && want.dead_letter == now.dead_letter &&
           want.delivery_limit == now.delivery_limit && want.expires_ms == now.expires_ms;
}

static bool queue_is_well(struct sim *sim, const struct host *replicas, const struct group *group,
                          char *why, size_t size)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    bool reachable[CATALOG_NODES_MAX];
    struct replicas_step step;
    const uint32_t count = catalog_nodes(replicas->view, nodes);
    const struct replicas_cluster cluster = {nodes, reachable, count};
    const struct catalog_queue *record = catalog_queue_by_id(replicas->view, group->id);
    (void)sim;
    memset(reachable, true, sizeof reachable);
    if (record == NULL) {
        return true;
    }
    if (replicas_grow(record, &cluster, &step) || replicas_too_many(record, &cluster)) {
        (void)snprintf(why, size, "queue %.*s has %u replicas, and not those of its policy",
                       (int)record->spec.name.size, (const char *)record->spec.name.data,
                       record->spec.group.member_count);
        return false;
    }
    SIM_SOMETIMES(sim, record->settings.ha_mode != 0 && record->spec.group.member_count > 1,
                  SIM_SEEN_MIRRORED);
    if (!config_is_wanted(record, group->home)) {
        (void)snprintf(why, size, "the machine of queue %.*s has not the values of its policy",
                       (int)record->spec.name.size, (const char *)record->spec.name.data);
        return false;
    }
    return true;
}

bool sim_policy_settled(struct sim *sim, char *why, size_t size)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t k = 0; sim->hosts[i].running && k < sim->options.shards; k++) {
            const struct host *replicas = node_shard_host(sim->hosts[i].node, k);
            struct umap_iter it = umap_iterate((struct umap *)(uintptr_t)&replicas->groups);
            while (umap_next(&it)) {
                const struct group *group = it.value;
                if (group->home != NULL && group->serving && replicas->view != NULL &&
                    !queue_is_well(sim, replicas, group, why, size)) {
                    return false;
                }
            }
        }
    }
    return true;
}
