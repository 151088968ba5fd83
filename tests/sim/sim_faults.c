/*
 * What: what goes wrong, and when. Which kinds exist in a run and how often they come is part of
 * the options, drawn from the seed ("swarm": runs differ in kind, not only in luck).
 *
 * Every fault ends by itself after a bounded time; for the liveness phase no new ones begin.
 * quiet_since tells since when none is at work: checks that hold only in quiet times use it.
 *
 * What may happen at once is not limited: with honest disks even the loss of power everywhere must
 * lose nothing that was confirmed.
 */
#include "sim.h"

#include "sim_durable.h"

#include "replica/host_internal.h"

#define MEMORY_SEEN_NS (6 * SIM_S) /* it looks every 2.5 s, and others hear of it */

#define AHEAD_HUNT_NS (8 * SIM_S)
#define AHEAD_MOST_NS (400 * SIM_US)

static void fault_begin(struct sim *sim)
{
    sim->faults_active++;
    sim->quiet_since = UINT64_MAX;
}

static void fault_end(struct sim *sim)
{
    WR_ASSERT_OP(sim->faults_active, >, 0);
    sim->faults_active--;
    if (sim->faults_active == 0) {
        sim->quiet_since = sim->now;
    }
}

static void fault_instant(struct sim *sim)
{
    fault_begin(sim);
    fault_end(sim);
}

static uint64_t draw(struct sim *sim, uint64_t first, uint64_t last)
{
    return prng_between(&sim->fault_prng, first, last);
}

static uint32_t some_node(struct sim *sim)
{
    return (uint32_t)prng_below(&sim->fault_prng, sim->node_count);
}

/* --- nodes
 * ------------------------------------------------------------
 */

void sim_faults_node_down(struct sim *sim)
{
    fault_begin(sim);
}

void sim_faults_node_up(struct sim *sim)
{
    fault_end(sim);
}

static void end_node(struct sim *sim, uint32_t node, enum sim_end how)
{
    if (sim->hosts[node].running) {
        sim_node_end(sim, node, how);
    }
}

static void blackout(struct sim *sim)
{
    sim_trace(sim, "fault: power failure everywhere");
    for (uint32_t i = 0; i < sim->node_count; i++) {
        end_node(sim, i, SIM_END_POWER);
    }
}

static void on_fault_over(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    (void)arg;
    (void)a;
    (void)b;
    fault_end(sim);
}

static void pause_node(struct sim *sim, uint32_t node)
{
    struct sim_host *host = &sim->hosts[node];
    uint64_t ns =
        draw(sim, 20 * SIM_MS, prng_ratio(&sim->fault_prng, 1, 3) ? 12 * SIM_S : 2 * SIM_S);
    sim_trace(sim, "fault: node %u stands still for %llu ms", host->index,
              (unsigned long long)(ns / SIM_MS));
    /* What was put off to the end of a longer one stays put off: the node does not run before. */
    host->paused_until = host->paused_until > sim->now + ns ? host->paused_until : sim->now + ns;
    fault_begin(sim);
    sim_at(sim, host->paused_until, on_fault_over, NULL, 0, 0);
}

static void slow_disk(struct sim *sim)
{
    struct sim_host *host = &sim->hosts[some_node(sim)];
    uint64_t ns = draw(sim, 100 * SIM_MS, 5 * SIM_S);
    sim_trace(sim, "fault: the disk of node %u is slow for %llu ms", host->index,
              (unsigned long long)(ns / SIM_MS));
    host->slow_disk_until = sim->now + ns;
    fault_begin(sim);
    sim_at(sim, host->slow_disk_until + 300 * SIM_MS, on_fault_over, NULL, 0, 0);
}

/* Publishers on all nodes are held back as long. */
static void memory_high(struct sim *sim, uint32_t node)
{
    const uint64_t ns = draw(sim, 100 * SIM_MS, 8 * SIM_S);
    sim_trace(sim, "fault: node %u is short of memory for %llu ms", node,
              (unsigned long long)(ns / SIM_MS));
    sim->hosts[node].memory_high_until = sim->now + ns;
    fault_begin(sim);
    sim_at(sim, sim->now + ns + MEMORY_SEEN_NS, on_fault_over, NULL, 0, 0);
}

static void clock_jump(struct sim *sim)
{
    struct sim_host *host = &sim->hosts[some_node(sim)];
    int64_t most = prng_ratio(&sim->fault_prng, 1, 3) ? INT64_C(86400000) : 3000;
    host->wall_offset_ms += (int64_t)draw(sim, 0, (uint64_t)most * 2) - most;
    sim_trace(sim, "fault: the clock of node %u jumps to %lld ms", host->index,
              (long long)host->wall_offset_ms);
    fault_instant(sim);
}

/* --- network
 * ------------------------------------------------------------
 */

struct direction {
    uint32_t from, to;
};
struct cut { /* directions blocked together */
    VEC(struct direction) pairs;
};

static void cut_pair(struct sim *sim, struct cut *cut, uint32_t from, uint32_t to)
{
    const struct direction direction = {from, to};
    sim_net_block(sim, from, to);
    vec_push(&cut->pairs, direction);
}

static void on_cut_over(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    struct cut *cut = arg;
    (void)a;
    (void)b;
    sim_trace(sim, "a partition of %zu directions heals", cut->pairs.count);
    for (size_t i = 0; i < cut->pairs.count; i++) {
        sim_net_unblock(sim, cut->pairs.items[i].from, cut->pairs.items[i].to);
    }
    vec_deinit(&cut->pairs);
    wr_free(cut);
    sim->cuts--;
    fault_end(sim);
}

static void cut_for_a_while(struct sim *sim, struct cut *cut)
{
    uint64_t ns =
        draw(sim, 50 * SIM_MS, prng_ratio(&sim->fault_prng, 1, 3) ? 15 * SIM_S : 3 * SIM_S);
    sim->cuts++;
    fault_begin(sim);
    sim_at(sim, sim->now + ns, on_cut_over, cut, 0, 0);
}

/* Sides of a partition: bit of each host; clients are on one side, or see both. */
static void partition(struct sim *sim, bool one_way, bool bridge)
{
    struct cut *cut = wr_calloc(1, sizeof *cut);
    uint8_t side[SIM_HOSTS_MAX];
    for (uint32_t i = 0; i < sim->host_count; i++) {
        side[i] = (uint8_t)(1 + prng_below(&sim->fault_prng, i < sim->node_count ? 2 : 3));
    }
    if (bridge) {
        side[some_node(sim)] = 3;
    }
    for (uint32_t a = 0; a < sim->host_count; a++) {
        for (uint32_t b = 0; b < sim->host_count; b++) {
            if (side[a] == 1 && side[b] == 2) {
                cut_pair(sim, cut, a, b);
                if (!one_way) {
                    cut_pair(sim, cut, b, a);
                }
            }
        }
    }
    sim_trace(sim, "fault: %s, %zu directions",
              one_way  ? "one-way partition"
              : bridge ? "partition with a bridge"
                       : "partition",
              cut->pairs.count);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        sim_trace(sim, "  node %u is on side %u", i, side[i]);
    }
    cut_for_a_while(sim, cut);
}

static void isolate(struct sim *sim, uint32_t node)
{
    struct cut *cut = wr_calloc(1, sizeof *cut);
    const uint32_t count = prng_ratio(&sim->fault_prng, 1, 2) ? sim->node_count : sim->host_count;
    const bool in = prng_ratio(&sim->fault_prng, 4, 5);
    const bool out = !in || prng_ratio(&sim->fault_prng, 4, 5);
    for (uint32_t i = 0; i < count; i++) {
        if (i != node && in) {
            cut_pair(sim, cut, i, node);
        }
        if (i != node && out) {
            cut_pair(sim, cut, node, i);
        }
    }
    sim_trace(sim, "fault: node %u is cut off%s%s%s", node, in ? " inwards" : "",
              out ? " outwards" : "", count > sim->node_count ? ", from clients too" : "");
    cut_for_a_while(sim, cut);
}

/* Directions become slow one after the other and fast again in another order. */
static void clog_routes(struct sim *sim)
{
    uint64_t longest = 0;
    uint32_t count = 1 + (uint32_t)draw(sim, 0, sim->node_count * 2);
    for (uint32_t i = 0; i < count; i++) {
        struct sim_route *r =
            &sim->net.routes[some_node(sim)][prng_below(&sim->fault_prng, sim->host_count)];
        uint64_t until = sim->now + draw(sim, 10 * SIM_MS, 4 * SIM_S);
        r->clogged_until = until > r->clogged_until ? until : r->clogged_until;
        longest = r->clogged_until > longest ? r->clogged_until : longest;
    }
    sim_trace(sim, "fault: %u directions are clogged", count);
    fault_begin(sim);
    sim_at(sim, longest + SIM_S, on_fault_over, NULL, 0, 0);
}

static void resets(struct sim *sim)
{
    uint32_t count = 1 + (uint32_t)draw(sim, 0, 3);
    uint32_t host = (uint32_t)prng_below(&sim->fault_prng, sim->host_count);
    for (uint32_t i = 0; i < count; i++) {
        (void)sim_net_reset_some(sim, host);
    }
    fault_instant(sim);
}

static void on_tamper_over(struct sim *sim, void *arg, uint64_t directions, uint64_t b)
{
    (void)arg;
    (void)b;
    sim_trace(sim, "links that lost, doubled or reordered frames break");
    for (uint32_t i = 0; i < sim->node_count * sim->node_count; i++) {
        const uint32_t from = i / sim->node_count;
        const uint32_t to = i % sim->node_count;
        if ((directions >> i & 1) != 0 && sim->net.routes[from][to].tamper.until <= sim->now) {
            sim->net.routes[from][to].tamper = (struct sim_tamper){0};
            sim_net_reset_tampered(sim, from, to);
        }
    }
    fault_end(sim);
}

/* --- leaders, and everybody in turn
 * ------------------------------------------------------------ */

/* The node that leads some group, as far as one node is as good as another: none leads, any. */
static uint32_t some_leader(struct sim *sim)
{
    const struct sim_queue *queue =
        &sim->ledger.queues[prng_below(&sim->fault_prng, sim->options.queues)];
    const uint64_t group =
        queue->group != 0 && prng_ratio(&sim->fault_prng, 3, 4) ? queue->group : HOST_CATALOG_GROUP;
    const uint32_t any = some_node(sim);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct group *g = sim_group_on(sim, i, group);
        if (g != NULL && g->raft != NULL && raft_role(g->raft) == RAFT_LEADER) {
            return i;
        }
    }
    return any;
}

static void on_hunt(struct sim *sim, void *arg, uint64_t left, uint64_t b)
{
    (void)arg;
    (void)b;
    if (!sim->faults_on) {
        return;
    }
    const uint32_t node = some_leader(sim);
    sim_trace(sim, "fault: leader hunt, node %u", node);
    switch (draw(sim, 0, 5)) {
    case 0:
        end_node(sim, node, SIM_END_KILL);
        break;
    case 1:
        end_node(sim, node, SIM_END_POWER);
        break;
    case 2:
        pause_node(sim, node);
        break;
    default:
        isolate(sim, node);
    }
    if (left > 0) {
        sim_at(sim, sim->now + draw(sim, 50 * SIM_MS, 1200 * SIM_MS), on_hunt, NULL, left - 1, 0);
    }
}

static void on_ahead_over(struct sim *sim, void *arg, uint64_t node, uint64_t how)
{
    (void)arg;
    end_node(sim, (uint32_t)node, (enum sim_end)how);
}

/* A node ends just when it is ahead of its log, which is so for the time of a sync. */
void sim_faults_ahead(struct sim *sim, uint32_t node)
{
    if (!sim->faults_on || sim->now >= sim->ahead_hunt_until) {
        return;
    }
    sim->ahead_hunt_until = 0;
    sim_trace(sim, "fault: node %u ends while it is ahead of its log", node);
    sim_at(sim, sim->now + draw(sim, 0, AHEAD_MOST_NS), on_ahead_over, NULL, node,
           prng_ratio(&sim->fault_prng, 1, 3) ? SIM_END_KILL : SIM_END_POWER);
}

static void cut_off(struct sim *sim, uint32_t node, bool begin)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (i != node && begin) {
            sim_net_block(sim, i, node);
            sim_net_block(sim, node, i);
        } else if (i != node) {
            sim_net_unblock(sim, i, node);
            sim_net_unblock(sim, node, i);
        }
    }
}

static void on_swizzle(struct sim *sim, void *arg, uint64_t node, uint64_t begin)
{
    (void)arg;
    sim_trace(sim, "node %llu is cut %s by a swizzle", (unsigned long long)node,
              begin != 0 ? "off" : "back in");
    cut_off(sim, (uint32_t)node, begin != 0);
    if (begin == 0) {
        sim->cuts--;
        fault_end(sim);
    }
}

/* Nodes are cut off from the others one after the other, and come back in another order. */
static void swizzle(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        if (prng_ratio(&sim->fault_prng, 2, 3)) {
            const uint64_t from = sim->now + draw(sim, 0, 2 * SIM_S);
            fault_begin(sim);
            sim->cuts++;
            sim_at(sim, from, on_swizzle, NULL, i, 1);
            sim_at(sim, from + draw(sim, 20 * SIM_MS, 4 * SIM_S), on_swizzle, NULL, i, 0);
        }
    }
}

/* --- frames
 * ------------------------------------------------------------ */

/* Frames of some directions are lost, doubled or come late; the link stands meanwhile. */
static void tamper(struct sim *sim, enum sim_fault_kind kind)
{
    const uint64_t ns = draw(sim, 50 * SIM_MS, 4 * SIM_S);
    const uint32_t often = (uint32_t)draw(sim, 1, prng_ratio(&sim->fault_prng, 1, 3) ? 60 : 10);
    const bool all = prng_ratio(&sim->fault_prng, 1, 3);
    uint64_t directions = 0;
    for (uint32_t i = 0; i < sim->node_count * sim->node_count; i++) {
        const uint32_t from = i / sim->node_count;
        const uint32_t to = i % sim->node_count;
        if (from == to || !(all || prng_ratio(&sim->fault_prng, 1, 3))) {
            continue;
        }
        struct sim_tamper *t = &sim->net.routes[from][to].tamper;
        t->until = sim->now + ns > t->until ? sim->now + ns : t->until;
        t->lose = kind == SIM_FAULT_LOSSY ? often : t->lose;
        t->twice = kind == SIM_FAULT_DOUBLING ? often : t->twice;
        t->later = kind == SIM_FAULT_REORDER ? often : t->later;
        directions |= UINT64_C(1) << i;
    }
    sim_trace(sim, "fault: %u of 100 parcels are %s for %llu ms, in directions %llx", often,
              kind == SIM_FAULT_LOSSY      ? "lost"
              : kind == SIM_FAULT_DOUBLING ? "doubled"
                                           : "late",
              (unsigned long long)(ns / SIM_MS), (unsigned long long)directions);
    fault_begin(sim);
    sim_at(sim, sim->now + ns, on_tamper_over, NULL, directions, 0);
}

/* --- schedule
 * ------------------------------------------------------------
 */

static void hunt_ahead(struct sim *sim)
{
    if (sim->options.faults[SIM_FAULT_POWER] && prng_ratio(&sim->fault_prng, 1, 2)) {
        sim->ahead_hunt_until = sim->now + AHEAD_HUNT_NS;
    }
}

static void inject(struct sim *sim, enum sim_fault_kind kind)
{
    const uint32_t node = some_node(sim);
    sim->fault_count[kind]++;
    hunt_ahead(sim);
    switch (kind) {
    case SIM_FAULT_KILL:
        end_node(sim, node, SIM_END_KILL);
        break;
    case SIM_FAULT_POWER:
        end_node(sim, node, SIM_END_POWER);
        break;
    case SIM_FAULT_RESTART:
        sim_node_ask_stop(sim, node);
        break;
    case SIM_FAULT_PAUSE:
        pause_node(sim, node);
        break;
    case SIM_FAULT_PARTITION:
        partition(sim, false, false);
        break;
    case SIM_FAULT_ONE_WAY:
        partition(sim, true, false);
        break;
    case SIM_FAULT_ISOLATE:
        isolate(sim, node);
        break;
    case SIM_FAULT_BRIDGE:
        partition(sim, false, true);
        break;
    case SIM_FAULT_CLOG:
        clog_routes(sim);
        break;
    case SIM_FAULT_RESET:
        resets(sim);
        break;
    case SIM_FAULT_CLOCK:
        clock_jump(sim);
        break;
    case SIM_FAULT_SLOW_DISK:
        slow_disk(sim);
        break;
    case SIM_FAULT_BLACKOUT:
        blackout(sim);
        break;
    case SIM_FAULT_LOSSY:
    case SIM_FAULT_DOUBLING:
    case SIM_FAULT_REORDER:
        tamper(sim, kind);
        break;
    case SIM_FAULT_HUNT:
        on_hunt(sim, NULL, draw(sim, 0, 4), 0);
        break;
    case SIM_FAULT_SWIZZLE:
        swizzle(sim);
        break;
    case SIM_FAULT_MEMBERS:
        sim_operator_act(sim);
        fault_instant(sim);
        break;
    case SIM_FAULT_FORGET:
        sim_operator_bury(sim);
        break;
    case SIM_FAULT_MEMORY:
        memory_high(sim, node);
        break;
    case SIM_FAULT_KIND_COUNT:
        WR_UNREACHABLE();
    }
}

static void on_fault_time(struct sim *sim, void *arg, uint64_t done, uint64_t b)
{
    uint32_t enabled = 0;
    (void)arg;
    (void)b;
    if (!sim->faults_on || done >= sim->options.events) {
        return;
    }
    for (uint32_t i = 0; i < SIM_FAULT_KIND_COUNT; i++) {
        enabled += sim->options.faults[i] ? 1 : 0;
    }
    if (enabled == 0) {
        return;
    }
    uint64_t at = prng_below(&sim->fault_prng, enabled);
    for (uint32_t i = 0; i < SIM_FAULT_KIND_COUNT; i++) {
        if (sim->options.faults[i] && at-- == 0) {
            inject(sim, (enum sim_fault_kind)i);
            break;
        }
    }
    uint64_t every = sim->options.fault_every_ns;
    /* Now and then a calm stretch, or one fault right upon the other. */
    uint64_t next = prng_ratio(&sim->fault_prng, 1, 10)  ? every * 4
                    : prng_ratio(&sim->fault_prng, 1, 5) ? draw(sim, 0, 100 * SIM_MS)
                                                         : draw(sim, 0, every * 2);
    sim_at(sim, sim->now + next, on_fault_time, NULL, done + 1, 0);
}

void sim_faults_start(struct sim *sim)
{
    sim->faults_on = true;
    sim->quiet_since = sim->now;
    sim_at(sim, sim->now + 2 * SIM_S + draw(sim, 0, 2 * sim->options.fault_every_ns), on_fault_time,
           NULL, 0, 0);
}

void sim_faults_heal(struct sim *sim)
{
    sim->faults_on = false;
}
