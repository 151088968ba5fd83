/*
 * What: one run: draws the options from the seed, then the safety phase (faults and load), then the
 * liveness phase (no faults: within a bounded time every group has one leader and equal replicas,
 * every client is served, every confirmed message has arrived), then an orderly stop of everything.
 */
#include <inttypes.h>
#include <string.h>

#include "sim.h"

#include "warren/mem.h"

#define HEAL_NS     (60 * SIM_S)
#define LIVENESS_NS (45 * SIM_S)   /* without any progress */
#define DRAIN_NS    (1800 * SIM_S) /* with progress: a long backlog and a prefetch of 1 */
#define STOP_NS     (40 * SIM_S)

/* Queues of one replica, small prefetches, a backlog, and nodes that end: what is handed out ahead
 * of the log is lost with it. */
static void draw_lone(struct sim_options *o, uint64_t seed)
{
    struct prng prng;
    prng_init(&prng, seed);
    prng = prng_fork(&prng, "lone");
    o->lone = prng_ratio(&prng, 1, 8);
    if (!o->lone) {
        return;
    }
    o->nodes = prng_ratio(&prng, 3, 4) ? 1 : 3;
    o->late_nodes = 0;
    o->rate_us = 2000;
    o->fault_every_ns = prng_between(&prng, 300 * SIM_MS, 2 * SIM_S);
    memset(o->faults, 0, sizeof o->faults);
    o->faults[SIM_FAULT_POWER] = true;
    o->faults[SIM_FAULT_KILL] = prng_ratio(&prng, 1, 2);
    o->faults[SIM_FAULT_SLOW_DISK] = prng_ratio(&prng, 1, 2);
    o->faults[SIM_FAULT_CLOCK] = prng_ratio(&prng, 1, 4);
    o->faults[SIM_FAULT_MEMBERS] = o->nodes > 1 && prng_ratio(&prng, 1, 2);
}

void sim_options_draw(struct sim_options *o, uint64_t seed)
{
    static const uint32_t sizes[] = {3, 3, 3, 3, 1, 2, 3, 4, 5, 5};
    static const uint32_t bodies[] = {100, 400, 4000, 40000};
    static const uint32_t windows[] = {1, 5, 30, 200};
    static const uint32_t rates[] = {2000, 10000, 50000};
    struct prng prng;
    prng_init(&prng, seed);
    prng = prng_fork(&prng, "options");
    *o = (struct sim_options){.seed = seed, .events = UINT32_MAX};
    o->nodes = sizes[prng_below(&prng, WR_ARRAY_SIZE(sizes))];
    o->shards = 1 + (uint32_t)prng_below(&prng, SIM_SHARDS_MAX);
    o->late_nodes = o->nodes >= 3 && prng_ratio(&prng, 1, 3) ? 1 : 0;
    o->queues = 1 + (uint32_t)prng_below(&prng, 4);
    o->publishers = o->queues + (uint32_t)prng_below(&prng, 3);
    o->consumers = o->queues + (uint32_t)prng_below(&prng, 4);
    o->getters = (uint32_t)prng_below(&prng, 3);
    o->rivals = prng_ratio(&prng, 1, 3) ? 2 + (uint32_t)prng_below(&prng, 2) : 0;
    o->builders = prng_ratio(&prng, 1, 3) ? 1 : 0;
    o->autos = prng_ratio(&prng, 1, 4) ? 1 : 0;
    o->safety_ns = prng_between(&prng, 10 * SIM_S, 30 * SIM_S);
    o->body_max = bodies[prng_below(&prng, WR_ARRAY_SIZE(bodies))];
    o->window = windows[prng_below(&prng, WR_ARRAY_SIZE(windows))];
    o->rate_us = rates[prng_below(&prng, WR_ARRAY_SIZE(rates))];
    o->fault_every_ns = prng_between(&prng, 300 * SIM_MS, 5 * SIM_S);
    const uint64_t chance = 1 + prng_below(&prng, 3); /* of 4: few kinds, or many */
    for (uint32_t i = 0; i < SIM_FAULT_KIND_COUNT; i++) {
        o->faults[i] = prng_ratio(&prng, chance, 4);
    }
    if (prng_ratio(&prng, 1, 8)) { /* one kind, or two, again and again */
        memset(o->faults, 0, sizeof o->faults);
        o->faults[prng_below(&prng, SIM_FAULT_KIND_COUNT)] = true;
        o->faults[prng_below(&prng, SIM_FAULT_KIND_COUNT)] = true;
        o->fault_every_ns = prng_between(&prng, 150 * SIM_MS, SIM_S);
    }
    if (prng_ratio(&prng, 1, 12)) { /* a calm run: the strictest checks apply all along */
        memset(o->faults, 0, sizeof o->faults);
    }
    o->numbered = prng_ratio(&prng, 1, 3) ? 1 : 0;
    o->historians = prng_ratio(&prng, 1, 4) ? 1 : 0;
    o->sleepers = prng_ratio(&prng, 1, 4) ? 1 : 0;
    o->seated = prng_ratio(&prng, 1, 4) ? SIM_SEATS + 1 + (uint32_t)prng_below(&prng, 2) : 0;
    o->moves = prng_ratio(&prng, 1, 4);
    o->copies = o->moves && prng_ratio(&prng, 1, 2);
    o->deletes = o->moves && prng_ratio(&prng, 1, 2);
    draw_lone(o, seed);
}

static void print_options(struct sim *sim)
{
    static const char *const names[SIM_FAULT_KIND_COUNT] = {
        "kill",     "power",   "restart", "pause",   "partition", "one-way",  "isolate",
        "bridge",   "clog",    "reset",   "clock",   "slow-disk", "blackout", "lossy",
        "doubling", "reorder", "hunt",    "swizzle", "members",   "forget",   "memory",
    };
    const struct sim_options *o = &sim->options;
    char faults[300] = "";
    size_t n = 0;
    for (uint32_t i = 0; i < SIM_FAULT_KIND_COUNT; i++) {
        if (o->faults[i]) {
            n += (size_t)snprintf(faults + n, sizeof faults - n, " %s", names[i]);
        }
    }
    sim_trace(sim,
              "seed %" PRIu64 ": %u nodes (%u late) of %u shards, %u queues, %u publishers, %u "
              "consumers, %u others, %" PRIu64 " s, a fault every %" PRIu64 " ms",
              o->seed, o->nodes, o->late_nodes, o->shards, o->queues, o->publishers, o->consumers,
              o->getters + o->rivals + o->builders + o->autos, o->safety_ns / SIM_S,
              o->fault_every_ns / SIM_MS);
    sim_trace(sim, "besides: %u numbered, %u historians, %u sleepers, %u seated%s%s%s", o->numbered,
              o->historians, o->sleepers, o->seated, o->moves ? ", a mover" : "",
              o->copies ? " who copies" : "", o->deletes ? " and deletes" : "");
    sim_trace(sim, "faults:%s; bodies to %u bytes, window %u, one publish in %u us", faults,
              o->body_max, o->window, o->rate_us);
}

/* What the queue does with its messages besides keeping them. */
static void draw_rules(struct sim *sim, struct prng *prng, struct sim_queue *q, uint32_t graves)
{
    if (q->kind == SIM_QUEUE_TRANSIENT || prng_ratio(prng, 1, 2)) {
        return;
    }
    const uint32_t kind = (uint32_t)prng_below(prng, 7);
    q->single_active =
        sim->options.getters == 0 && (kind == 0 || prng_ratio(prng, 1, 8)); /* no basic.get then */
    if (kind <= 2) {
        q->ttl_ms = kind == 0 ? 0 : 100 + (uint32_t)prng_below(prng, 4000);
    } else if (kind <= 4) {
        q->length_max = 1 + (uint32_t)prng_below(prng, 20);
        q->rejects = kind == 3;
    } else if (q->kind == SIM_QUEUE_QUORUM) {
        q->delivery_limit = 1 + (uint32_t)prng_below(prng, 4);
    }
    const bool loses = q->ttl_ms > 0 || (q->length_max > 0 && !q->rejects) || q->delivery_limit > 0;
    if (loses && prng_ratio(prng, 2, 3)) {
        q->graves = graves + 1;
    }
    q->strict = !loses || q->graves > 0;
}

static void make_queues(struct sim *sim)
{
    struct prng prng = prng_fork(&sim->prng, "queues");
    for (uint32_t i = 0; i < sim->options.queues; i++) {
        struct sim_queue *q = &sim->ledger.queues[i];
        uint64_t draw = prng_below(&prng, 10);
        draw = sim->options.lone && draw < 6 ? 6 : draw;
        q->kind = draw < 6 ? SIM_QUEUE_QUORUM : draw < 9 ? SIM_QUEUE_CLASSIC : SIM_QUEUE_TRANSIENT;
        q->strict = q->kind != SIM_QUEUE_TRANSIENT;
        static const char *const kinds[] = {"quorum", "classic", "transient"};
        (void)snprintf(q->name, sizeof q->name, "%s-%u", kinds[q->kind], i);
    }
    struct sim_queue *behind = &sim->ledger.queues[sim->options.queues];
    struct sim_queue *exclusive = &behind[SIM_AT_EXCLUSIVE];
    exclusive->kind = SIM_QUEUE_TRANSIENT;
    (void)snprintf(exclusive->name, sizeof exclusive->name, "exclusive");
    struct sim_queue *built = &behind[SIM_AT_BUILT];
    built->kind = SIM_QUEUE_QUORUM;
    (void)snprintf(built->name, sizeof built->name, "built");
    const uint32_t graves_at = sim->options.queues + SIM_AT_GRAVES;
    struct sim_queue *graves = &behind[SIM_AT_GRAVES];
    graves->kind = SIM_QUEUE_QUORUM;
    (void)snprintf(graves->name, sizeof graves->name, "graves");
    struct prng rules = prng_fork(&sim->prng, "rules");
    for (uint32_t i = 0; i < sim->options.queues; i++) {
        draw_rules(sim, &rules, &sim->ledger.queues[i], graves_at);
        sim->ledger.queues[i].drained = true;
    }
    struct prng further = prng_fork(&sim->prng, "further queues");
    const bool quorum = prng_ratio(&further, 1, 2);
    behind[SIM_AT_ATTIC] = (struct sim_queue){.kind = quorum ? SIM_QUEUE_QUORUM : SIM_QUEUE_CLASSIC,
                                              .strict = true,
                                              .drained = sim->options.moves,
                                              .graves = graves_at + 1};
    behind[SIM_AT_HELD] =
        (struct sim_queue){.kind = quorum ? SIM_QUEUE_CLASSIC : SIM_QUEUE_QUORUM,
                           .strict = true,
                           .drained = sim->options.sleepers > 0,
                           .consumer_timeout_ms = 1500 + (uint32_t)prng_below(&further, 3000)};
    (void)snprintf(behind[SIM_AT_ATTIC].name, sizeof behind->name, "%s-attic",
                   quorum ? "quorum" : "classic");
    (void)snprintf(behind[SIM_AT_HELD].name, sizeof behind->name, "%s-held",
                   quorum ? "classic" : "quorum");
    behind[SIM_AT_RECENT].kind = SIM_QUEUE_TRANSIENT;
    (void)snprintf(behind[SIM_AT_RECENT].name, sizeof behind->name, "recent");
}

static void on_first_start(struct sim *sim, void *arg, uint64_t index, uint64_t b)
{
    (void)arg;
    (void)b;
    if (!sim->hosts[index].running) {
        sim_node_start(sim, (uint32_t)index);
    }
}

/* Any order, and the late ones in the middle of it all. */
static void start_nodes(struct sim *sim)
{
    struct prng prng = prng_fork(&sim->prng, "start");
    for (uint32_t i = 0; i < sim->node_count; i++) {
        bool late = i + sim->options.late_nodes >= sim->node_count;
        uint64_t at = prng_below(&prng, late                      ? sim->options.safety_ns
                                        : prng_ratio(&prng, 1, 2) ? SIM_S
                                                                  : 10 * SIM_MS);
        sim_at(sim, at, on_first_start, NULL, i, 0);
    }
}

void sim_run_until(struct sim *sim, uint64_t until)
{
    while (sim->heap.count > 0 &&
           WR_CONTAINER_OF(heap_first(&sim->heap), struct sim_event, node)->at <= until) {
        (void)sim_step(sim);
    }
    sim->now = until;
}

static bool is_done(struct sim *sim, char *why, size_t size)
{
    uint64_t missing = 0;
    if (!sim_clients_settled(sim, why, size) || !sim_inner_settled(sim, why, size) ||
        !sim_check_converged(sim, why, size) || !sim_policy_settled(sim, why, size) ||
        !sim_seats_settled(sim, why, size)) {
        return false;
    }
    if (!sim_ledger_complete(sim, &missing)) {
        (void)snprintf(why, size, "%" PRIu64 " confirmed messages have not arrived", missing);
        return false;
    }
    return true;
}

static void name_missing(struct sim *sim)
{
    uint32_t named = 0;
    for (size_t i = 0; i < sim->ledger.publishers.count; i++) {
        const struct sim_publisher *p = &sim->ledger.publishers.items[i];
        for (size_t k = 0; k < p->records.count && named < 10; k++) {
            const struct sim_record *r = &p->records.items[k];
            if (sim_ledger_is_missing(sim, r)) {
                named++;
                sim_trace(sim,
                          "confirmed and never delivered: message %zu.%zu of %s, sent at %" PRIu64
                          " us",
                          i, k, sim->ledger.queues[r->queue].name, r->sent_at / SIM_US);
            }
        }
    }
}

static void phase_liveness(struct sim *sim)
{
    char why[400] = "";
    const uint64_t healed_by = sim->now + HEAL_NS;
    sim_faults_heal(sim);
    while (sim->faults_active > 0 || sim_nodes_running(sim) < sim_nodes_wanted(sim)) {
        if (sim->now > healed_by) {
            sim_fail(sim, "the faults do not end");
        }
        sim_run_until(sim, sim->now + 100 * SIM_MS);
    }
    sim->liveness = true;
    sim_trace(sim, "liveness phase");
    const uint64_t drained_by = sim->now + DRAIN_NS;
    uint64_t done_by = sim->now + LIVENESS_NS;
    uint64_t received = sim->ledger.received;
    while (!is_done(sim, why, sizeof why)) {
        if (sim->ledger.received > received) {
            received = sim->ledger.received;
            done_by = sim->now + LIVENESS_NS;
        }
        if (sim->now > done_by || sim->now > drained_by) {
            name_missing(sim);
            sim_check_describe(sim);
            sim_clients_describe(sim);
            sim_fail(sim, "not well, and nothing moves for %" PRIu64 " s: %s", LIVENESS_NS / SIM_S,
                     why);
        }
        sim_run_until(sim, sim->now + 200 * SIM_MS);
    }
    sim_ledger_check_commits(sim);
    sim_mover_check(sim);
}

static void phase_stop(struct sim *sim)
{
    const uint64_t stopped_by = sim->now + STOP_NS;
    sim->ending = true;
    sim_trace(sim, "all nodes are asked to stop");
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim_node_ask_stop(sim, i);
    }
    while (sim_nodes_running(sim) > 0) {
        if (sim->now > stopped_by) {
            sim_fail(sim, "%u nodes do not stop", sim_nodes_running(sim));
        }
        sim_run_until(sim, sim->now + 100 * SIM_MS);
    }
}

static void print_summary(struct sim *sim)
{
    const struct sim_ledger *l = &sim->ledger;
    sim_trace(sim,
              "passed: %" PRIu64 " sent, %" PRIu64 " confirmed, %" PRIu64 " nacked, %" PRIu64
              " received (%" PRIu64 " again), %" PRIu64 " known as settled; %" PRIu64
              " events, %" PRIu64 " steps, %" PRIu64 " connections, %" PRIu64 " KiB",
              l->sent, l->confirmed, l->nacked, l->received, l->redelivered, l->settled,
              sim->events, sim->steps, sim->net.connections, sim->net.bytes / 1024);
}

static void on_panic(void *ctx, const char *message)
{
    sim_fail(ctx, "%s", message);
}

struct sim *sim_open(const struct sim_options *options)
{
    struct sim *sim = wr_calloc(1, sizeof *sim);
    wr_set_panic_handler(on_panic, sim);
    sim->options = *options;
    prng_init(&sim->prng, options->seed);
    sim->fault_prng = prng_fork(&sim->prng, "faults");
    sim->node_count = options->nodes;
    const uint32_t channels = options->publishers + options->consumers + options->getters +
                              options->rivals + options->builders + options->autos +
                              options->numbered + options->historians + options->sleepers;
    const uint32_t most = SIM_CLIENTS_MAX - options->seated;
    sim->host_count = sim->node_count + (channels < most ? channels : most) + options->seated;
    sim_sched_init(sim);
    sim_net_init(sim);
    sim_hosts_init(sim);
    sim_check_init(sim);
    print_options(sim);
    make_queues(sim);
    sim_clients_init(sim);
    sim_inner_init(sim);
    sim_policy_init(sim);
    sim_mover_init(sim);
    sim_seats_init(sim);
    start_nodes(sim);
    return sim;
}

void sim_close(struct sim *sim)
{
    sim_clients_deinit(sim);
    sim_hosts_deinit(sim);
    sim_inner_deinit(sim);
    sim_policy_deinit(sim);
    sim_mover_deinit(sim);
    sim_seats_deinit(sim);
    sim_check_deinit(sim);
    sim_ledger_deinit(sim);
    sim_net_deinit(sim);
    sim_sched_deinit(sim);
    wr_free(sim);
}

void sim_run(const struct sim_options *options, struct sim_outcome *ret_outcome)
{
    struct sim *sim = sim_open(options);
    sim_faults_start(sim);
    sim_run_until(sim, options->safety_ns);
    phase_liveness(sim);
    phase_stop(sim);
    print_summary(sim);
    ret_outcome->hash = sim->hash;
    ret_outcome->sim_ns = sim->now;
    memcpy(ret_outcome->seen, sim->seen, sizeof sim->seen);
    sim_close(sim);
}
