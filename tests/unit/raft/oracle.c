/* See cluster.h: the properties of Raft (thesis figure 3.2) and durability honesty, checked on real
 * disks. */
#include "oracle.h"

#include <stdlib.h>
#include <string.h>

static uint64_t mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0xff51afd7ed558ccdu;
    return h ^ (h >> 32);
}

static uint64_t entry_hash(const struct sim_entry *e)
{
    uint64_t h = mix(mix(e->index, e->term.v), (uint64_t)e->kind);
    for (uint32_t i = 0; e->blob != NULL && i < e->blob->size; i++) {
        h = mix(h, e->blob->bytes[i]);
    }
    return h;
}

static bool disk_has(const struct sim_disk *d, uint64_t index, struct raft_term term)
{
    if (index <= d->base_index) {
        return true;
    }
    const struct sim_entry *e = sim_log_find(&d->log, index);
    return e != NULL && e->term.v == term.v;
}

/* State machine safety: every member applies the same entry at an index; and only what is on its
 * disk. */
void oracle_applied(struct sim *s, uint64_t id, const struct sim_entry *e)
{
    struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, disk_has(&n->disk, e->index, e->term));
    uint64_t hash = entry_hash(e);
    n->machine_index = e->index;
    n->machine_hash = mix(n->machine_hash, hash);
    if (e->index > s->committed_count) {
        SIM_CHECK(s, e->index == s->committed_count + 1);
        if (s->committed_count == s->committed_capacity) {
            s->committed_capacity = s->committed_capacity == 0 ? 256 : s->committed_capacity * 2;
            s->committed = realloc(s->committed, s->committed_capacity * sizeof *s->committed);
        }
        s->committed[s->committed_count++] = (struct sim_committed){e->term, hash, n->machine_hash};
        return;
    }
    const struct sim_committed *c = &s->committed[e->index - 1];
    SIM_CHECK(s, c->term.v == e->term.v);
    SIM_CHECK(s, c->hash == hash);
    SIM_CHECK(s, c->chain_hash == n->machine_hash);
}

/* A snapshot holds what was applied elsewhere at the same index. */
void oracle_installed(struct sim *s, uint64_t id)
{
    const struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, n->machine_index <= s->committed_count);
    SIM_CHECK(s, s->committed[n->machine_index - 1].chain_hash == n->machine_hash);
}

/* Durability honesty: a promise that leaves a node is already on its disk. */
void oracle_message(struct sim *s, uint64_t id, const struct raft_message *m)
{
    const struct sim_node *n = &s->nodes[id];
    const struct sim_disk *d = &n->disk;
    if (m->type == RAFT_MSG_VOTE) {
        SIM_CHECK(s, d->hard.term.v == m->term.v && d->hard.vote.lo == id);
    }
    if (m->type == RAFT_MSG_VOTE_RESPONSE && m->u.vote_response.granted) {
        SIM_CHECK(s, d->hard.term.v == m->term.v && d->hard.vote.lo == m->to.lo);
    }
    if (m->type == RAFT_MSG_APPEND) { /* also if it led before (raft_election.c, E6) */
        SIM_CHECK(s, d->hard.term.v == m->term.v && d->hard.vote.lo == id);
    }
    uint64_t match = 0;
    if (m->type == RAFT_MSG_APPEND_RESPONSE && !m->u.append_response.reject) {
        SIM_CHECK(s, d->hard.term.v == m->term.v);
        match = m->u.append_response.match;
    }
    if (m->type == RAFT_MSG_SNAPSHOT_RESPONSE) {
        match = m->u.snapshot_response.match;
    }
    struct raft_term term;
    if (match > 0 && raft_log_term(n->raft, match, &term) == 0) {
        SIM_CHECK(s, disk_has(d, match, term));
    }
}

static void check_leader(struct sim *s, uint64_t id)
{
    struct sim_node *n = &s->nodes[id];
    uint64_t term = raft_term(n->raft).v;
    if (term >= s->term_capacity) {
        uint64_t capacity = term * 2 + 16;
        s->term_leader = realloc(s->term_leader, capacity * sizeof *s->term_leader);
        memset(s->term_leader + s->term_capacity, 0,
               (capacity - s->term_capacity) * sizeof *s->term_leader);
        s->term_capacity = capacity;
    }
    /* Election safety. */
    SIM_CHECK(s, s->term_leader[term] == 0 || s->term_leader[term] == id);
    s->term_leader[term] = id;
    if (!n->was_leader) {
        /* Leader completeness. */
        SIM_CHECK(s, raft_last_index(n->raft) >= s->committed_count);
        for (uint64_t i = raft_first_index(n->raft); i <= s->committed_count; i++) {
            struct raft_term t = {0};
            int err = raft_log_term(n->raft, i, &t);
            SIM_CHECK(s, err == 0 && t.v == s->committed[i - 1].term.v);
        }
    }
    /* What it calls committed is durable on a majority of its voters. */
    uint64_t commit = raft_commit_index(n->raft);
    struct raft_term t = {0};
    if (commit > n->seen_commit && raft_log_term(n->raft, commit, &t) == 0 && t.v == term) {
        struct raft_membership m = raft_membership(n->raft);
        uint32_t voters = 0;
        uint32_t durable = 0;
        for (uint32_t i = 0; i < m.count; i++) {
            if (m.members[i].role == RAFT_VOTER) {
                voters++;
                durable += disk_has(&s->nodes[m.members[i].id.lo].disk, commit, t) ? 1 : 0;
            }
        }
        SIM_CHECK(s, durable >= voters / 2 + 1);
        SIM_CHECK(s, n->disk.hard.term.v == term && n->disk.hard.vote.lo == id);
    }
}

/* The membership in force is that of the last CONFIG entry of the log, else the snapshot's. */
static void check_membership(struct sim *s, uint64_t id)
{
    const struct sim_node *n = &s->nodes[id];
    struct raft_member members[RAFT_MEMBERS_MAX];
    uint32_t count = n->disk.base_count;
    memcpy(members, n->disk.base_members, count * sizeof *members);
    for (uint32_t i = n->log.count; i > 0; i--) {
        const struct sim_entry *e = &n->log.entries[i - 1];
        if (e->kind == RAFT_ENTRY_CONFIG) {
            int err = raft_membership_decode(e->blob->bytes, e->blob->size, members, &count);
            SIM_CHECK(s, err == 0);
            break;
        }
    }
    struct raft_membership m = raft_membership(n->raft);
    SIM_CHECK(s, m.count == count);
    for (uint32_t i = 0; i < count; i++) {
        SIM_CHECK(s, raft_id_equal(m.members[i].id, members[i].id));
        SIM_CHECK(s, m.members[i].role == members[i].role);
    }
}

void oracle_step(struct sim *s, uint64_t id)
{
    struct sim_node *n = &s->nodes[id];
    raft_check(n->raft);
    SIM_CHECK(s, raft_commit_index(n->raft) >= n->seen_commit);
    bool leader = raft_role(n->raft) == RAFT_LEADER;
    if (leader) {
        check_leader(s, id);
    }
    n->was_leader = leader;
    n->seen_commit = raft_commit_index(n->raft);
    check_membership(s, id);
    SIM_CHECK(s, n->log.count == 0 ||
                     n->log.entries[n->log.count - 1].index == raft_last_index(n->raft));
}

/* Log matching: equal term at an index means equal logs up to it. */
void sim_check_logs(struct sim *s)
{
    for (uint64_t a = 1; a < SIM_NODES; a++) {
        for (uint64_t b = a + 1; b < SIM_NODES; b++) {
            if (!s->nodes[a].alive || !s->nodes[b].alive) {
                continue;
            }
            const struct sim_log *la = &s->nodes[a].log;
            const struct sim_log *lb = &s->nodes[b].log;
            bool equal = false;
            for (uint32_t i = la->count; i > 0; i--) {
                const struct sim_entry *ea = &la->entries[i - 1];
                const struct sim_entry *eb = sim_log_find(lb, ea->index);
                if (eb == NULL) {
                    continue;
                }
                equal = equal || ea->term.v == eb->term.v;
                SIM_CHECK(s, !equal || entry_hash(ea) == entry_hash(eb));
            }
        }
    }
}
