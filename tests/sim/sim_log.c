/*
 * What: Raft's own properties on the real cluster, after every step of a shard.
 *
 * - Log matching: an entry of one index and term has one content and one predecessor's term, in
 *   whichever log it lies (committed or not).
 * - What is committed stays: once any replica says that an index is committed, every replica that
 *   says so later has the same term there.
 * - Leader completeness: who becomes leader of a term has all that was committed in earlier terms.
 * - A leader's commit index rises to entries of its own term only (Raft 5.4.2): counting replicas
 *   says nothing about an older term's entry.
 * - Honesty: what a follower answers to be durable is in the durable image of its disk; when a
 *   leader's commit index rises, the entry is in the durable image of the disks of
 *   a majority of voters (the newest entry, every time: what lies before it was written before it);
 *   when somebody becomes leader, a majority of the voters has its vote in theirs (sim_durable.c).
 *   A leader that is alone may lead before that (docs/raft.md, "Alone"): then it has nobody to talk
 *   to and commits nothing, and counts, with its entries, from when its vote is there: a crash
 * before makes all of it undone, and the term may be used again.
 *
 * Memory: per group one slot per index; payloads are only hashed, as long as the core has them.
 */
#include <inttypes.h>
#include <string.h>

#include "sim.h"

#include "sim_check.h"
#include "sim_durable.h"

#include "node/node_internal.h"

#include "raft_internal.h"
#include "replica/group.h"
#include "replica/host_internal.h"
#include "warren/crc32c.h"

struct slot {            /* one index of a group */
    uint64_t term, hash; /* of the entry seen first; hash 0: not known */
    uint64_t committed;  /* its term once it is, else 0 */
    uint64_t said_in;    /* the term of who said so first */
};

struct other { /* an entry of another term at the same index */
    uint64_t index, term, hash;
};

struct group_log {
    VEC(struct slot) slots; /* [i]: index i + 1 */
    VEC(struct other) others;
    uint64_t committed; /* highest */
};

struct log_watch { /* how far one replica's log was looked at */
    uint64_t incarnation, generation, scanned, commit, base;
    uint32_t voters;
    bool voter, installing, leading;
    uint64_t term, match[SIM_NODES_MAX]; /* a leader's: what others said they have */
};

struct sim_log_check {
    struct umap groups;                 /* id -> struct group_log */
    struct umap readers[SIM_NODES_MAX]; /* id -> struct log_watch, of the running incarnation */
};

struct sim_log_check *sim_log_check_new(void)
{
    const struct hash_seed seed = {5, 6};
    struct sim_log_check *check = wr_calloc(1, sizeof *check);
    umap_init(&check->groups, seed);
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        umap_init(&check->readers[i], seed);
    }
    return check;
}

void sim_log_check_node_gone(struct sim_log_check *check, uint32_t node)
{
    struct umap_iter it = umap_iterate(&check->readers[node]);
    while (umap_next(&it)) {
        wr_free(it.value);
    }
    const struct hash_seed seed = {5, 6};
    umap_deinit(&check->readers[node]);
    umap_init(&check->readers[node], seed);
}

void sim_log_check_free(struct sim_log_check *check)
{
    for (uint32_t i = 0; i < SIM_NODES_MAX; i++) {
        sim_log_check_node_gone(check, i);
        umap_deinit(&check->readers[i]);
    }
    struct umap_iter it = umap_iterate(&check->groups);
    while (umap_next(&it)) {
        struct group_log *log = it.value;
        vec_deinit(&log->slots);
        vec_deinit(&log->others);
        wr_free(log);
    }
    umap_deinit(&check->groups);
    wr_free(check);
}

static void *entry_of(struct umap *map, uint64_t key, size_t size)
{
    bool fresh;
    void **place = umap_entry(map, key, &fresh);
    if (fresh) {
        *place = wr_calloc(1, size);
    }
    return *place;
}

static struct slot *slot_of(struct group_log *log, uint64_t index)
{
    while (log->slots.count < index) {
        vec_push(&log->slots, (struct slot){0});
    }
    return &log->slots.items[index - 1];
}

bool sim_log_leads(struct sim *sim, uint32_t node, const struct group *group)
{
    const struct raft *r = group->raft;
    if (r->role != RAFT_LEADER || raft__hard_is_durable(r)) {
        return r->role == RAFT_LEADER;
    }
    const struct raft_config_point *c = raft__members(r);
    if (c->count != 1 || c->index > r->commit || r->commit >= r->term_begin) {
        sim_fail(sim,
                 "group %" PRIu64 ": node %u leads in term %" PRIu64
                 " before its vote is durable, and is not alone or has committed something",
                 group->id, node, r->term.v);
    }
    return false;
}

/* --- log matching
 * ------------------------------------------------------------ */

static uint64_t hash_of(const struct raft *r, uint64_t index)
{
    const struct raft_entry *e = raft__log_slot(r, index);
    if (e == NULL || e->trimmed) {
        return 0;
    }
    const uint64_t before = raft__log_term(r, index - 1).v;
    uint32_t crc = crc32c((uint32_t)e->kind, &before, sizeof before);
    crc = e->size == 0 ? crc : crc32c(crc, e->data, e->size);
    return (uint64_t)crc << 32 | e->size | UINT64_C(1) << 31;
}

static void match(struct sim *sim, uint32_t node, uint64_t group, uint64_t index, uint64_t term,
                  uint64_t hash, uint64_t *known)
{
    if (*known != 0 && hash != 0 && *known != hash) {
        sim_fail(sim,
                 "group %" PRIu64 ": entry %" PRIu64 " of term %" PRIu64
                 " on node %u differs from another log's",
                 group, index, term, node);
    }
    *known = hash != 0 ? hash : *known;
}

static void look_at_entry(struct sim *sim, uint32_t node, uint64_t group, struct group_log *log,
                          const struct raft *r, uint64_t index)
{
    const uint64_t term = raft__log_term(r, index).v;
    const uint64_t hash = hash_of(r, index);
    struct slot *slot = slot_of(log, index);
    if (slot->term == 0) {
        slot->term = term;
    }
    if (slot->term == term) {
        match(sim, node, group, index, term, hash, &slot->hash);
        return;
    }
    for (size_t i = 0; i < log->others.count; i++) {
        struct other *other = &log->others.items[i];
        if (other->index == index && other->term == term) {
            match(sim, node, group, index, term, hash, &other->hash);
            return;
        }
    }
    vec_push(&log->others, (struct other){index, term, hash});
}

/* --- what is committed
 * ------------------------------------------------------------ */

static void commit_one(struct sim *sim, uint32_t node, const struct group *group,
                       struct group_log *log, uint64_t index)
{
    const uint64_t term = raft__log_term(group->raft, index).v;
    struct slot *slot = slot_of(log, index);
    if (slot->committed != 0 && slot->committed != term) {
        sim_fail(sim,
                 "group %" PRIu64 ": entry %" PRIu64 " was committed with term %" PRIu64
                 ", and is with term %" PRIu64 " on node %u",
                 group->id, index, slot->committed, term, node);
    }
    if (slot->committed == 0) {
        slot->committed = term;
        slot->said_in = group->raft->term.v;
    }
    log->committed = index > log->committed ? index : log->committed;
}

struct backing { /* of an entry, or of the votes for the leader */
    uint64_t term, index;
    bool vote, anywhere;
};

/* The queue was deleted, and this node knows: its replica's entries may have gone from the disk
 * before a slower leader counts what was said of them. */
static bool has_ended(struct sim *sim, uint32_t node, uint64_t group)
{
    const struct sim_host *host = &sim->hosts[node];
    if (!host->running || group == HOST_CATALOG_GROUP) {
        return false;
    }
    const uint32_t shard = host_shard_of_group(group, sim->options.shards);
    const struct catalog_view *view = node_shard_host(host->node, shard)->view;
    return view != NULL && catalog_view_index(view) >= group &&
           catalog_queue_by_id(view, group) == NULL;
}

/* By a majority of these members. */
static bool is_backed(struct sim *sim, const struct group *group,
                      const struct raft_config_point *members, const struct backing *b)
{
    uint32_t backed = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct raft_member *m = &members->members[i];
        const uint32_t at = sim_node_of_member(sim, group, m->id);
        if (m->role != RAFT_VOTER || at == UINT32_MAX) {
            continue;
        }
        const struct group *there = sim_group_on(sim, at, group->id);
        if (!b->vote && has_ended(sim, at, group->id)) {
            backed++;
            continue;
        }
        const bool later = there != NULL && there->raft != NULL && there->raft->term.v > b->term;
        backed += b->vote ? later || sim_durable_vote(sim, at, group->id, b->term, group->self)
                          : sim_durable_entry(sim, at, group->id, b->term, b->index, b->anywhere);
    }
    return backed >= raft__majority(raft__voter_count(members));
}

/* The membership in force is the newest in the log; but a leader that commits may change it in the
 * same step, so that in force at the entry counts too. */
static void check_backing(struct sim *sim, uint32_t node, const struct group *group,
                          struct backing b)
{
    const struct raft_config_point *now = raft__members(group->raft);
    const struct raft_config_point *then = raft__members_at(group->raft, b.index);
    for (uint32_t i = 0; i < 2; i++) { /* some may be down: then their disks are searched */
        b.anywhere = i == 1;
        if (is_backed(sim, group, now, &b) || (then != now && is_backed(sim, group, then, &b))) {
            return;
        }
    }
    if (b.vote) {
        sim_fail(sim,
                 "group %" PRIu64 ": node %u leads in term %" PRIu64
                 ", but its votes are not durable on a majority of the disks",
                 group->id, node, b.term);
    }
    sim_fail(sim,
             "group %" PRIu64 ": node %u commits entry %" PRIu64 " of term %" PRIu64
             ", which is not durable on a majority of the disks",
             group->id, node, b.index, b.term);
}

/* What was found committed in a later term is known to be: a leader that stood still meanwhile
 * counts what replicas said that have ended since, with all they had on their disks. */
static void check_leader_commit(struct sim *sim, uint32_t node, const struct group *group,
                                struct group_log *log)
{
    const struct raft *r = group->raft;
    const uint64_t term = raft__log_term(r, r->commit).v;
    if (term != r->term.v) {
        sim_fail(sim,
                 "group %" PRIu64 ": node %u, leader of term %" PRIu64 ", commits entry %" PRIu64
                 " of term %" PRIu64,
                 group->id, node, r->term.v, r->commit, term);
    }
    if (slot_of(log, r->commit)->said_in <= r->term.v) {
        check_backing(sim, node, group, (struct backing){.term = term, .index = r->commit});
    }
}

/* What a follower said to be durable in this term is so. One that has heard of a later term may
 * have replaced it since. */
static void check_answers(struct sim *sim, uint32_t node, const struct group *group,
                          struct log_watch *watch)
{
    const struct raft *r = group->raft;
    if (watch->term != r->term.v) {
        watch->term = r->term.v;
        memset(watch->match, 0, sizeof watch->match);
    }
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        const uint32_t at = sim_node_of_member(sim, group, p->id);
        if (at == UINT32_MAX || p->match <= watch->match[at]) {
            continue;
        }
        watch->match[at] = p->match;
        const struct group *there = sim_group_on(sim, at, group->id);
        if (there == NULL || there->raft == NULL || there->ended || there->installing ||
            there->raft->term.v != r->term.v || !raft_id_equal(there->self, p->id) ||
            p->match <= r->log.base) {
            continue;
        }
        const uint64_t term = raft__log_term(r, p->match).v;
        if (!sim_durable_entry(sim, at, group->id, term, p->match, true)) {
            sim_fail(sim,
                     "group %" PRIu64 ": node %u told the leader, node %u, that entry %" PRIu64
                     " of term %" PRIu64 " is durable there, and it is not",
                     group->id, at, node, p->match, term);
        }
    }
}

/* Rare events (sim_cover.h). */
static void look_at_replica(struct sim *sim, struct log_watch *watch, const struct raft *r)
{
    const bool leading = r->role == RAFT_LEADER;
    const bool voter = raft_is_voter(r);
    const uint32_t voters = raft__voter_count(raft__members(r));
    const bool again = watch->commit > 0;
    SIM_SOMETIMES(sim, watch->generation != r->log.generation && !watch->installing,
                  SIM_SEEN_TRUNCATED);
    SIM_SOMETIMES(sim, again && !watch->voter && voter && !watch->installing, SIM_SEEN_PROMOTED);
    SIM_SOMETIMES(sim, leading && watch->leading && voters < watch->voters, SIM_SEEN_REMOVED);
    SIM_SOMETIMES(sim, watch->installing, SIM_SEEN_SNAPSHOT);
    SIM_SOMETIMES(sim, watch->installing && sim->cuts > 0, SIM_SEEN_SNAPSHOT_CUT);
    SIM_SOMETIMES(sim, watch->installing && again, SIM_SEEN_SNAPSHOT_AGAIN);
    SIM_SOMETIMES(sim, !watch->installing && watch->base > 0 && r->log.base > watch->base,
                  SIM_SEEN_COMPACTED);
    SIM_SOMETIMES(sim,
                  leading && watch->commit < r->term_begin && r->commit >= r->term_begin &&
                      watch->commit + 1 < r->term_begin,
                  SIM_SEEN_OLD_TERM_COMMITTED);
    watch->leading = leading;
    watch->voter = voter;
    watch->voters = voters;
    watch->installing = false;
    watch->base = r->log.base;
}

void sim_log_check_group(struct sim *sim, struct sim_log_check *check, uint32_t node,
                         struct group *group, bool leading)
{
    const struct raft *r = group->raft;
    if (r == NULL || !r->started || r->broken || group->ended) {
        return;
    }
    struct group_log *log = entry_of(&check->groups, group->id, sizeof *log);
    struct log_watch *watch = entry_of(&check->readers[node], group->id, sizeof *watch);
    if (group->installing) {
        watch->installing = true;
        return;
    }
    if (watch->incarnation != group->incarnation) {
        *watch = (struct log_watch){.incarnation = group->incarnation,
                                    .generation = r->log.generation,
                                    .scanned = r->log.base,
                                    .commit = r->commit,
                                    .voter = raft_is_voter(r),
                                    .installing = watch->installing};
        SIM_SOMETIMES(sim, r->log.last > 0, SIM_SEEN_RESTARTED);
        for (uint64_t i = r->log.base + 1; i <= r->commit; i++) {
            commit_one(sim, node, group, log, i);
        }
    }
    if (r->role == RAFT_LEADER && !sim_log_leads(sim, node, group)) {
        return;
    }
    look_at_replica(sim, watch, r);
    if (watch->generation != r->log.generation) {
        watch->generation = r->log.generation;
        watch->scanned = watch->scanned < r->commit ? watch->scanned : r->commit;
    }
    watch->scanned = watch->scanned < r->log.base ? r->log.base : watch->scanned;
    while (watch->scanned < r->log.last) {
        look_at_entry(sim, node, group->id, log, r, ++watch->scanned);
    }
    if (leading) {
        check_answers(sim, node, group, watch);
    }
    if (r->commit > watch->commit) {
        const uint64_t from = watch->commit > r->log.base ? watch->commit : r->log.base;
        for (uint64_t i = from + 1; i <= r->commit; i++) {
            commit_one(sim, node, group, log, i);
        }
        watch->commit = r->commit;
        if (leading) {
            check_leader_commit(sim, node, group, log);
        }
    }
}

/* --- a new leader
 * ------------------------------------------------------------ */

void sim_log_check_leader(struct sim *sim, struct sim_log_check *check, uint32_t node,
                          struct group *group)
{
    const struct raft *r = group->raft;
    struct group_log *log = umap_get(&check->groups, group->id);
    check_backing(sim, node, group,
                  (struct backing){.term = r->term.v, .index = r->log.last, .vote = true});
    for (uint64_t i = r->log.base + 1; log != NULL && i <= log->committed; i++) {
        const struct slot *slot = slot_of(log, i);
        if (slot->committed == 0 || slot->said_in >= r->term.v) {
            continue; /* not in an earlier term: it may lead without having heard of it */
        }
        if (i > r->log.last || raft__log_term(r, i).v != slot->committed) {
            sim_fail(sim,
                     "group %" PRIu64 ": node %u leads in term %" PRIu64 " without entry %" PRIu64
                     ", which was committed with term %" PRIu64,
                     group->id, node, r->term.v, i, slot->committed);
        }
    }
}
