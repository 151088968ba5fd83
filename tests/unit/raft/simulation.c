/*
 * What: a random driver over cluster.h. Each seed draws which faults exist and how often (swarm),
 * tiny limits, and then a history: crashes that lose unsynced writes, slow disks, lost, repeated
 * and reordered messages, partitions (also of one direction), membership changes, compaction,
 * transfers, reads. Then the faults stop, every member restarts, and the cluster must converge: one
 * leader, one log, one machine, no timer left running.
 */
#include "simulation.h"

#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct swarm {
    uint32_t voters;
    uint32_t latency_ms;
    uint32_t disk_ms;
    uint32_t loss;      /* percent of messages */
    uint32_t duplicate; /* percent */
    uint32_t crash;     /* per 1000 rounds, as the following */
    uint32_t restart;
    uint32_t cut;
    uint32_t heal;
    uint32_t change;
    uint32_t compact;
    uint32_t transfer;
    uint32_t trim;
    uint32_t read;
    uint32_t propose;
    uint32_t stale_propose;
};

struct driver {
    struct sim *s;
    struct swarm w;
    struct simulation_reached *reached;
    uint64_t next_id;
    uint64_t scan_at[SIM_NODES];
    uint64_t old_term;
};

/* The options in force; the delay callbacks have no other way to them. One simulation runs at a
 * time. */
static struct swarm current;

static uint64_t message_at(struct sim *s, uint64_t from, uint64_t to)
{
    (void)from;
    (void)to;
    return s->now_ms + sim_random(s, current.latency_ms + 1);
}

static uint64_t disk_at(struct sim *s, uint64_t node)
{
    (void)node;
    return s->now_ms + sim_random(s, current.disk_ms + 1);
}

static uint32_t sometimes(struct sim *s, uint32_t bound)
{
    return sim_chance(s, 40) ? 0 : 1 + (uint32_t)sim_random(s, bound);
}

static void draw(struct driver *d)
{
    struct sim *s = d->s;
    struct swarm *w = &d->w;
    static const uint32_t sizes[] = {1, 2, 3, 3, 3, 4, 5, 5};
    w->voters = sizes[sim_random(s, 8)];
    w->latency_ms = (uint32_t)sim_random(s, 30);
    w->disk_ms = (uint32_t)sim_random(s, 40);
    w->loss = sometimes(s, 15);
    w->duplicate = sometimes(s, 15);
    w->crash = sometimes(s, 15);
    w->restart = 5 + (uint32_t)sim_random(s, 40);
    w->cut = sometimes(s, 20);
    w->heal = 5 + (uint32_t)sim_random(s, 40);
    w->change = sometimes(s, 40);
    w->compact = sometimes(s, 40);
    w->transfer = sometimes(s, 8);
    w->trim = sometimes(s, 30);
    w->read = sometimes(s, 60);
    w->propose = 50 + (uint32_t)sim_random(s, 500);
    w->stale_propose = sometimes(s, 10);
    struct raft_config *c = &s->cfg;
    c->election_min_ms = 20;
    c->election_max_ms = 60 + (uint32_t)sim_random(s, 100);
    c->resend_ms = 150 + (uint32_t)sim_random(s, 300);
    c->transfer_ms = 200;
    if (sim_chance(s, 60)) {
        c->message_entries_max = 1 + (uint32_t)sim_random(s, 4);
        c->message_bytes_max = 1 + (uint32_t)sim_random(s, 40);
        c->inflight_messages_max = 1 + (uint32_t)sim_random(s, 3);
        c->inflight_bytes_max = 1 + sim_random(s, 60);
        c->uncommitted_bytes_max = 20 + sim_random(s, 200);
    }
    s->chunk_bytes = 1 + (uint32_t)sim_random(s, 16);
    s->trim_percent = w->trim > 0 ? 50 : 0;
    s->ordered_links = sim_chance(s, 30);
    s->install_crashes = w->crash > 0;
    s->read_fail_percent = 10;
    s->message_at = message_at;
    s->disk_at = disk_at;
    current = *w;
}

static bool per_mille(struct driver *d, uint32_t rate)
{
    return sim_random(d->s, 1000) < rate;
}

static uint64_t any_node(struct driver *d, bool alive)
{
    uint64_t first = 1 + sim_random(d->s, SIM_NODES - 1);
    for (uint64_t i = 0; i < SIM_NODES - 1; i++) {
        uint64_t id = 1 + (first + i) % (SIM_NODES - 1);
        if (d->s->nodes[id].exists && d->s->nodes[id].alive == alive) {
            return id;
        }
    }
    return 0;
}

/* ---- liveness as the hosts see it ------------------------------------------------------------ */

static bool link_works(const struct sim *s, uint64_t a, uint64_t b)
{
    return s->nodes[a].alive && s->nodes[b].alive && !s->cut[a][b] && !s->cut[b][a];
}

static void scan(struct driver *d, uint64_t id)
{
    struct sim *s = d->s;
    struct sim_node *n = &s->nodes[id];
    for (uint64_t b = 1; b < SIM_NODES && n->alive; b++) {
        if (b == id || !s->nodes[b].exists) {
            continue;
        }
        bool works = link_works(s, id, b);
        bool reset = n->seen_epoch[b] != s->link_epoch[id][b];
        if (n->seen_up[b] && (!works || (reset && sim_chance(s, 50)))) {
            sim_peer(s, id, b, false);
        }
        if (works && (!n->seen_up[b] || reset)) {
            n->seen_epoch[b] = s->link_epoch[id][b];
            sim_peer(s, id, b, true);
        }
    }
}

static void set_cut(struct sim *s, uint64_t a, uint64_t b, bool cut)
{
    if (s->cut[a][b] != cut) {
        s->cut[a][b] = cut;
        s->link_epoch[a][b]++;
        s->link_epoch[b][a]++;
    }
}

static void partition(struct driver *d)
{
    struct sim *s = d->s;
    uint64_t kind = sim_random(s, 3);
    uint64_t a = any_node(d, true);
    uint64_t b = any_node(d, true);
    if (a == 0 || b == 0 || a == b) {
        return;
    }
    if (kind == 0) {
        set_cut(s, a, b, true); /* one direction of one link */
    } else if (kind == 1) {
        for (uint64_t i = 1; i < SIM_NODES; i++) { /* one member alone */
            if (i != a) {
                set_cut(s, a, i, true);
                set_cut(s, i, a, true);
            }
        }
    } else {
        uint64_t mask = sim_random(s, UINT32_MAX); /* two sides */
        for (uint64_t i = 1; i < SIM_NODES; i++) {
            for (uint64_t j = 1; j < SIM_NODES; j++) {
                if (i != j && ((mask >> i) & 1) != ((mask >> j) & 1)) {
                    set_cut(s, i, j, true);
                }
            }
        }
    }
}

static void heal(struct driver *d)
{
    for (uint64_t i = 1; i < SIM_NODES; i++) {
        for (uint64_t j = 1; j < SIM_NODES; j++) {
            if (i != j) {
                set_cut(d->s, i, j, false);
            }
        }
    }
}

/* ---- what the hosts do ----------------------------------------------------------------------- */

static void change(struct driver *d, uint64_t leader)
{
    struct sim *s = d->s;
    struct raft_membership m = raft_membership(s->nodes[leader].raft);
    uint64_t voters = 0;
    for (uint32_t i = 0; i < m.count; i++) {
        voters += m.members[i].role == RAFT_VOTER ? 1 : 0;
    }
    uint64_t member = m.members[sim_random(s, m.count)].id.lo;
    uint64_t kind = sim_random(s, 6);
    int err = 0;
    if (kind == 0 && d->next_id < SIM_NODES && m.count < 7) {
        member = d->next_id;
        err = sim_change(s, leader, RAFT_CHANGE_ADD_LEARNER, member);
        if (err == 0) {
            d->next_id++;
            sim_create(s, member, NULL, 0);
        }
    } else if (kind <= 3) {
        err = sim_change(s, leader, RAFT_CHANGE_PROMOTE, member);
    } else if (kind == 4 && voters > 1) {
        err = sim_change(s, leader, RAFT_CHANGE_DEMOTE, member);
    } else if (voters > 1) {
        err = sim_change(s, leader, RAFT_CHANGE_REMOVE, member);
    } else {
        return;
    }
    d->reached->changes += err == 0 ? 1 : 0;
}

static void stale_proposal(struct driver *d, uint64_t leader)
{
    struct raft *r = d->s->nodes[leader].raft;
    if (d->old_term > 0 && d->old_term != raft_term(r).v) {
        struct raft_entry e = {.size = 0};
        struct raft_event ev = {.type = RAFT_EVENT_PROPOSE};
        ev.u.propose.term = (struct raft_term){d->old_term};
        ev.u.propose.count = 1;
        ev.u.propose.entries = &e;
        uint64_t last = raft_last_index(r);
        SIM_CHECK(d->s, sim_step(d->s, leader, ev) == RAFT_E_STALE_TERM);
        SIM_CHECK(d->s, raft_last_index(r) == last);
    }
    d->old_term = raft_term(r).v;
}

static void workload(struct driver *d)
{
    struct sim *s = d->s;
    uint64_t id = any_node(d, true);
    uint64_t leader = sim_leader(s);
    if (sim_chance(s, 50) && id != 0 && raft_role(s->nodes[id].raft) == RAFT_LEADER) {
        leader = id; /* perhaps a stale one */
    }
    if (leader != 0) {
        if (per_mille(d, d->w.propose)) {
            static const char text[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
            (void)sim_propose(s, leader, text + sim_random(s, sizeof text));
        }
        if (per_mille(d, d->w.stale_propose)) {
            stale_proposal(d, leader);
        }
        if (per_mille(d, d->w.change)) {
            change(d, leader);
        }
        if (s->nodes[leader].alive && per_mille(d, d->w.transfer)) {
            struct raft_event ev = {.type = RAFT_EVENT_TRANSFER};
            ev.u.peer = sim_chance(s, 50) ? sim_id(0) : sim_id(any_node(d, true));
            d->reached->transfers += sim_step(s, leader, ev) == 0 ? 1 : 0;
        }
    }
    if (id == 0 || !s->nodes[id].alive) {
        return;
    }
    if (per_mille(d, d->w.read)) {
        struct raft_event ev = {.type = RAFT_EVENT_READ_INDEX, .u.context = s->committed_count};
        (void)sim_step(s, id, ev);
    }
    struct sim_node *n = &s->nodes[id];
    if (per_mille(d, d->w.compact) && n->machine_index > n->disk.base_index &&
        n->machine_index == raft_applied_index(n->raft)) {
        uint64_t span = n->machine_index - n->disk.base_index;
        sim_compact(s, id, n->disk.base_index + 1 + sim_random(s, span), n->machine_index);
    }
    if (per_mille(d, d->w.trim)) {
        struct raft_event ev = {.type = RAFT_EVENT_TRIM, .u.index = raft_last_index(n->raft)};
        (void)sim_step(s, id, ev);
    }
}

static void faults(struct driver *d)
{
    struct sim *s = d->s;
    if (per_mille(d, d->w.crash)) {
        uint64_t id = any_node(d, true);
        if (id != 0) {
            sim_crash(s, id, (uint32_t)sim_random(s, s->nodes[id].op_count + 1));
            d->reached->crashes++;
        }
    }
    if (per_mille(d, d->w.restart)) {
        uint64_t id = any_node(d, false);
        if (id != 0) {
            sim_restart(s, id);
        }
    }
    if (per_mille(d, d->w.cut)) {
        partition(d);
    }
    if (per_mille(d, d->w.heal)) {
        heal(d);
    }
}

/* ---- time ------------------------------------------------------------------------------------ */

static void deliver_due(struct driver *d, bool faulty)
{
    struct sim *s = d->s;
    for (;;) {
        uint32_t best = UINT32_MAX;
        for (uint32_t i = 0; i < s->message_count; i++) {
            if (s->messages[i].at <= s->now_ms &&
                (best == UINT32_MAX || s->messages[i].at < s->messages[best].at)) {
                best = i;
            }
        }
        if (best == UINT32_MAX) {
            return;
        }
        const struct sim_message *m = &s->messages[best];
        bool reset = m->epoch != s->link_epoch[m->m.from.lo][m->m.to.lo];
        if ((reset && (!faulty || sim_chance(s, 50))) || (faulty && sim_chance(s, d->w.loss))) {
            sim_drop(s, best);
        } else {
            if (faulty && sim_chance(s, d->w.duplicate)) {
                sim_duplicate(s, best);
            }
            sim_deliver(s, best);
        }
    }
}

static void observe(struct driver *d, uint64_t id)
{
    struct sim_node *n = &d->s->nodes[id];
    d->reached->truncations += (n->last_update.flags & RAFT_UPDATE_TRUNCATE) != 0 ? 1 : 0;
    d->reached->aborts += (n->last_update.flags & RAFT_UPDATE_SNAPSHOT_ABORT) != 0 ? 1 : 0;
    if ((n->last_update.flags & RAFT_UPDATE_MEMBERSHIP) != 0 &&
        (n->last_update.flags & RAFT_UPDATE_TRUNCATE) != 0) {
        d->reached->changes_reverted++;
    }
    n->last_update.flags = 0;
}

static void run_round(struct driver *d, bool faulty)
{
    struct sim *s = d->s;
    s->now_ms++;
    for (uint64_t id = 1; id < SIM_NODES; id++) {
        struct sim_node *n = &s->nodes[id];
        if (n->alive && s->now_ms >= d->scan_at[id]) {
            scan(d, id);
            d->scan_at[id] = s->now_ms + 1 + sim_random(s, 20);
        }
        uint32_t due = 0;
        while (due < n->op_count && n->ops[due].at <= s->now_ms) {
            due++;
        }
        if (n->alive && due > 0) {
            sim_disk(s, id, due, sim_chance(s, 50));
        }
        if (n->alive && n->installing > 0 && n->installing_at <= s->now_ms) {
            sim_install_done(s, id);
            d->reached->installs++;
        }
        if (n->alive && raft_deadline(n->raft) <= s->now_ms) {
            (void)sim_tick(s, id);
        }
        observe(d, id);
    }
    deliver_due(d, faulty);
}

static bool converged(struct driver *d)
{
    struct sim *s = d->s;
    uint64_t leader = sim_leader(s);
    if (leader == 0 || !raft_is_ready(s->nodes[leader].raft) || s->message_count > 0) {
        return false;
    }
    const struct raft *r = s->nodes[leader].raft;
    struct raft_membership m = raft_membership(r);
    for (uint32_t i = 0; i < m.count; i++) {
        const struct sim_node *n = &s->nodes[m.members[i].id.lo];
        if (raft_leader(n->raft).lo != leader || n->machine_index != raft_last_index(r) ||
            raft_commit_index(n->raft) != raft_commit_index(r) ||
            raft_deadline(n->raft) != UINT64_MAX) {
            return false;
        }
    }
    return true;
}

static void liveness_phase(struct driver *d)
{
    struct sim *s = d->s;
    heal(d);
    s->install_crashes = false;
    s->read_fail_percent = 0;
    s->ordered_links = true;
    for (uint64_t a = 1; a < SIM_NODES; a++) {
        for (uint64_t b = 1; b < SIM_NODES; b++) {
            s->link_epoch[a]
                         [b]++; /* the contract: whoever may have lost messages resets the link */
        }
    }
    current.latency_ms = 2;
    current.disk_ms = 2;
    for (uint64_t id = 1; id < SIM_NODES; id++) {
        if (s->nodes[id].exists && !s->nodes[id].alive) {
            sim_restart(s, id);
        }
    }
    uint64_t proposed = 0;
    for (uint32_t i = 0; i < 30000; i++) {
        run_round(d, false);
        if (!converged(d)) {
            continue;
        }
        if (proposed == s->committed_count && proposed > 0) {
            return;
        }
        int err = sim_propose(s, sim_leader(s), "last");
        SIM_CHECK(s, err == 0);
        proposed = raft_last_index(s->nodes[sim_leader(s)].raft);
    }
    sim_fail(s, "the healed cluster converges");
}

void simulation_run(uint64_t seed, uint32_t steps, struct simulation_reached *reached)
{
    struct driver d = {.s = sim_new(seed), .reached = reached};
    draw(&d);
    if (getenv("RAFT_SIM_TRACE") != NULL) {
        d.s->trace = stderr;
    }
    sim_create_voters(d.s, d.w.voters);
    d.next_id = d.w.voters + 1;
    for (uint32_t i = 0; i < steps; i++) {
        faults(&d);
        workload(&d);
        run_round(&d, true);
        if (i % 64 == 0) {
            sim_check_logs(d.s);
        }
    }
    liveness_phase(&d);
    sim_check_logs(d.s);
    for (uint64_t id = 1; id < SIM_NODES; id++) {
        reached->reads_ok += d.s->nodes[id].reads_ok;
        reached->reads_failed += d.s->nodes[id].reads_failed;
    }
    for (uint64_t t = 0; t < d.s->term_capacity; t++) {
        reached->elections += d.s->term_leader[t] != 0 ? 1 : 0;
    }
    reached->steps += d.s->steps;
    reached->committed += d.s->committed_count;
    sim_free(d.s);
}
