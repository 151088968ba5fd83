/*
 * What: hosts: a machine with a clock, a disk and at most one process; nodes are started with
 * node_new on fresh envs over the disk that the last incarnation left.
 *
 * A process ends by SIGKILL (the kernel lives: what was written is in its cache, connections are
 * closed), by power failure (what was not synced is kept, lost or torn by lot; peers hear nothing),
 * or by itself. In each case first the kernel's side of its connections, then node_free, then what
 * waited for it.
 *
 * Invariants: I1 nothing of an incarnation runs after its end (sim_sched_drop_host). I2 a node that
 * was started once always starts again: its disk was honest.
 */
#include <string.h>

#include "sim.h"

#include "warren/err.h"
#include "warren/mem.h"

/* --- disk and store: when operations complete
 * --------------------------------------------------------- */

static uint64_t disk_delay(struct sim_host *host, bool sync)
{
    struct prng *prng = &host->disk_prng;
    uint64_t ns = 5 * SIM_US + prng_below(prng, sync ? 2 * SIM_MS : 100 * SIM_US);
    if (prng_ratio(prng, 1, 100)) {
        ns += prng_below(prng, 30 * SIM_MS);
    }
    if (host->slow_disk_until > host->sim->now) {
        ns += prng_below(prng, 300 * SIM_MS);
    }
    return ns;
}

static void on_disk(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    struct sim_host *host = arg;
    struct sim_file_done done;
    (void)sim;
    (void)a;
    (void)b;
    if (sim_disk_step(host->disk, &done)) {
        struct sim_item *item = sim_item_push(done.user, SIM_ITEM_FILE);
        item->token = done.token;
        item->result = done.result;
        item->pointer = done.owned_data;
    }
}

void sim_disk_event(struct sim_host *host, bool sync)
{
    sim_at_host(host->sim, host, host->sim->now + disk_delay(host, sync), on_disk, host, 0, 0,
                NULL);
}

static void on_kv(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    struct sim_host *host = arg;
    struct sim_kv_done done;
    (void)sim;
    (void)a;
    (void)b;
    if (sim_kv_step(host->kv, &done)) {
        struct sim_item *item = sim_item_push(done.user, SIM_ITEM_KV);
        item->token = done.token;
        item->result = done.result;
        item->pointer = done.owned_reply;
    }
}

void sim_kv_event(struct sim_host *host)
{
    sim_at_host(host->sim, host, host->sim->now + disk_delay(host, false), on_kv, host, 0, 0, NULL);
}

/* --- configuration
 * ------------------------------------------------------------ */

static void on_log_line(void *ctx, enum log_level level, const char *component, const char *line)
{
    struct sim_host *host = ctx;
    if (level >= LOG_LEVEL_INFO) {
        sim_mix_bytes(host->sim, line, strlen(line));
    }
    sim_trace(host->sim, "node %u [%s] <%s> %s", host->index, log_level_name(level), component,
              line);
    /* What a node only says when something is lost or beyond repair, and honest disks give no cause
     * for. */
    if (level >= LOG_LEVEL_ERROR &&
        (strstr(line, "are lost") != NULL || strstr(line, "stands still") != NULL ||
         strstr(line, "damaged") != NULL)) {
        sim_fail(host->sim, "node %u says: %s", host->index, line);
    }
}

static void fill_config(struct sim *sim, struct sim_host *host)
{
    struct config *config = &host->config;
    char errmsg[512];
    config_defaults(config);
    (void)snprintf(config->nodename, sizeof config->nodename, "warren%u@sim%u", host->index,
                   host->index);
    (void)snprintf(config->data_dir, sizeof config->data_dir, "/data");
    (void)snprintf(config->cookie, sizeof config->cookie, "simulated");
    (void)snprintf(config->cluster_listener.host, sizeof config->cluster_listener.host, "sim%u",
                   host->index);
    config->listeners_given = true;
    config->tcp.count = 1;
    (void)snprintf(config->tcp.addrs[0].host, sizeof config->tcp.addrs[0].host, "sim%u",
                   host->index);
    config->tcp.addrs[0].port = SIM_AMQP_PORT;
    config->cluster_listener.port = SIM_CLUSTER_PORT;
    for (uint32_t i = 0; i < sim->node_count && sim->node_count > 1; i++) {
        struct config_peer *peer = &config->peers[config->peer_count++];
        (void)snprintf(peer->name, sizeof peer->name, "warren%u@sim%u", i, i);
        (void)snprintf(peer->addr.host, sizeof peer->addr.host, "sim%u", i);
        peer->addr.port = SIM_CLUSTER_PORT;
    }
    config->shards = sim->options.shards;
    config->compare_queue_every = config->compare_catalog_every = SIM_COMPARE_EVERY;
    config->guest_loopback_only = false;
    /* Small, so that segments come and go; but a few of the largest messages must fit. */
    config->segment_size = sim->options.body_max > 10000 ? 524288 : 65536;
    config->segments_max = 2 + (uint32_t)prng_below(&host->prng, 2);
    int rc = config_finish(config, errmsg);
    if (rc != 0) {
        sim_fail(sim, "configuration of node %u: %s", host->index, errmsg);
    }
}

/* --- life of a node
 * ------------------------------------------------------------ */

static void on_restart(struct sim *sim, void *arg, uint64_t index, uint64_t b)
{
    (void)arg;
    (void)b;
    sim_faults_node_up(sim);
    sim_node_start(sim, (uint32_t)index);
}

void sim_node_start(struct sim *sim, uint32_t index)
{
    struct sim_host *host = &sim->hosts[index];
    char errmsg[512] = "";
    WR_ASSERT(host->is_node && !host->running);
    sim_trace(sim, "node %u starts, incarnation %llu", index,
              (unsigned long long)host->incarnation);
    if (!host->powered) {
        host->powered = true;
        host->mono_base = SIM_S + prng_below(&host->prng, 1000 * SIM_S);
    }
    host->member = true;
    host->running = true;
    host->stop_asked = host->stopped = false;
    host->exit_code = 0;
    host->context_count = sim->options.shards + 1;
    host->contexts = wr_calloc(host->context_count, sizeof *host->contexts);
    struct env *envs[SIM_SHARDS_MAX + 1];
    for (uint32_t i = 0; i < host->context_count; i++) {
        sim_context_init(&host->contexts[i], host, i, host->context_count);
        envs[i] = &host->contexts[i].env;
    }
    struct node_options options = {
        .config = &host->config, .logger = &host->logger, .envs = envs, .node_id = host->node_id};
    int rc = node_new(&options, &host->node, errmsg);
    if (rc != 0) {
        sim_fail(sim, "node %u cannot start: %s (%s)", index, errmsg, wr_err_name(rc));
    }
    for (uint32_t i = 0; i < host->context_count; i++) {
        struct sim_context *context = &host->contexts[i];
        context->sink = node_sink(host->node, i, &context->sink_ctx);
        context->step_scheduled = false;
        sim_context_schedule(context, true);
    }
    sim_net_kick(sim);
}

void sim_node_end(struct sim *sim, uint32_t index, enum sim_end how)
{
    struct sim_host *host = &sim->hosts[index];
    WR_ASSERT(host->is_node && host->running);
    sim_trace(sim, "node %u ends by %s", index,
              how == SIM_END_KILL    ? "SIGKILL"
              : how == SIM_END_POWER ? "power failure"
                                     : "itself");
    sim_check_node_gone(sim, host);
    sim_inner_node_gone(sim, index);
    sim_mover_node_gone(sim, index);
    sim_seats_node_gone(sim, index);
    sim_net_host_gone(sim, host, how == SIM_END_POWER);
    node_free(host->node);
    host->node = NULL;
    sim_sched_drop_host(sim, host);
    for (uint32_t i = 0; i < host->context_count; i++) {
        sim_context_deinit(&host->contexts[i]);
    }
    wr_free(host->contexts);
    host->contexts = NULL;
    host->running = false;
    host->paused_until = 0;
    host->incarnation++;
    host->restarts++;
    if (how == SIM_END_POWER) {
        host->powered = false;
        SIM_SOMETIMES(sim, sim_disk_unsynced(host->disk) > 0, SIM_SEEN_UNSYNCED);
        sim_disk_crash(host->disk);
        sim_kv_crash(host->kv);
    } else {
        sim_disk_kill(host->disk);
        sim_kv_kill(host->kv);
    }
    if (host->dead) {
        if (!host->forgotten) {
            sim_faults_node_down(sim); /* until it is forgotten */
        }
    } else if (!sim->ending) {
        uint64_t down = prng_ratio(&sim->fault_prng, 1, 3)
                            ? prng_below(&sim->fault_prng, 200 * SIM_MS)
                            : prng_below(&sim->fault_prng, 6 * SIM_S);
        sim_faults_node_down(sim);
        sim_at(sim, sim->now + down, on_restart, NULL, index, 0);
    }
}

void sim_node_ask_stop(struct sim *sim, uint32_t index)
{
    struct sim_host *host = &sim->hosts[index];
    if (host->running && !host->stop_asked) {
        host->stop_asked = true;
        sim_trace(sim, "node %u is asked to stop", index);
        node_stop(host->node, "asked to stop (simulated SIGTERM)");
        sim_context_schedule(&host->contexts[0], true);
    }
}

uint32_t sim_nodes_running(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        count += sim->hosts[i].running ? 1 : 0;
    }
    return count;
}

uint32_t sim_nodes_wanted(const struct sim *sim)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        count += sim->hosts[i].dead ? 0 : 1;
    }
    return count;
}

void sim_hosts_init(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->host_count; i++) {
        struct sim_host *host = &sim->hosts[i];
        host->sim = sim;
        host->index = i;
        host->is_node = i < sim->node_count;
        host->prng = prng_fork_u64(&sim->prng, "host", i);
        host->disk_prng = prng_fork_u64(&sim->prng, "disk", i);
        host->drift_ppm = (int64_t)prng_below(&host->prng, 401) - 200;
        host->mono_base = SIM_S + prng_below(&host->prng, 1000 * SIM_S);
        if (!host->is_node) {
            host->powered = host->running = true;
            continue;
        }
        host->disk = sim_disk_new(prng_u64(&host->prng));
        host->kv = sim_kv_new(prng_u64(&host->prng));
        host->node_id = (struct uid){prng_u64(&host->prng), prng_u64(&host->prng)};
        host->logger =
            (struct logger){.sink = on_log_line,
                            .ctx = host,
                            .level = sim->options.trace ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO};
        fill_config(sim, host);
    }
}

void sim_hosts_deinit(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_host *host = &sim->hosts[i];
        if (host->running) {
            sim_node_end(sim, i, SIM_END_KILL);
        }
        sim_disk_free(host->disk);
        sim_kv_free(host->kv);
    }
}
