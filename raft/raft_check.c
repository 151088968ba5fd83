/*
 * What: the invariants that must hold between any two steps, as asserts. Callable in production
 * too: linear in runs, peers and configuration points, not in entries.
 */
#include "raft_internal.h"

static void check_log(const struct raft *r)
{
    const struct raft_log *l = &r->log;
    RAFT_ASSERT(l->base <= l->persisted);
    RAFT_ASSERT(l->persisted <= l->handed);
    RAFT_ASSERT(l->handed == l->last); /* between steps everything has been given to the host */
    RAFT_ASSERT(l->cache_begin > l->base);
    RAFT_ASSERT(l->cache_begin <= l->last + 1);
    RAFT_ASSERT(l->cache_begin <= l->persisted + 1);
    RAFT_ASSERT(l->last + 1 - l->cache_begin <= l->ring_capacity);
    RAFT_ASSERT((l->run_count == 0) == (l->last == l->base));
    uint64_t term = l->base_term.v;
    uint64_t begin = l->base;
    for (uint32_t i = 0; i < l->run_count; i++) {
        RAFT_ASSERT(i == 0 ? l->runs[i].begin == l->base + 1 : l->runs[i].begin > begin);
        RAFT_ASSERT(i == 0 ? l->runs[i].term.v >= term : l->runs[i].term.v > term);
        begin = l->runs[i].begin;
        term = l->runs[i].term.v;
    }
    RAFT_ASSERT(begin <= l->last);
    RAFT_ASSERT(term <= r->term.v);
}

static void check_members(const struct raft *r)
{
    RAFT_ASSERT(r->config_count >= 1);
    uint32_t uncommitted = 0;
    for (uint32_t i = 0; i < r->config_count; i++) {
        const struct raft_config_point *c = &r->configs[i];
        RAFT_ASSERT(c->index <= r->log.last);
        RAFT_ASSERT(i == 0 ? c->index <= r->log.base : c->index > r->log.base);
        RAFT_ASSERT(i == 0 || c->index > r->configs[i - 1].index);
        RAFT_ASSERT(raft__members_valid(c->members, c->count));
        uncommitted += c->index > r->commit ? 1 : 0;
    }
    /* A leader adds at most one; what it inherited is committed before (M2). */
    RAFT_ASSERT(!raft_is_ready(r) || uncommitted <= 1);
}

static void check_peers(const struct raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        RAFT_ASSERT(p->match < p->next);
        RAFT_ASSERT(p->next <= r->log.last + 1);
        RAFT_ASSERT(p->state == RAFT_PIPELINE || p->inflight_count == 0);
        RAFT_ASSERT(p->inflight_count <= r->cfg.inflight_messages_max);
        RAFT_ASSERT(p->up == raft__is_up(r, p->id));
        RAFT_ASSERT(p->probe_acked <= r->read_round);
        RAFT_ASSERT(raft__members_find(raft__members(r), p->id) >= 0);
    }
}

void raft_check(const struct raft *r)
{
    RAFT_ASSERT(r->started);
    check_log(r);
    check_members(r);
    RAFT_ASSERT(r->log.base <= r->commit);
    RAFT_ASSERT(r->commit <= r->log.last);
    RAFT_ASSERT(r->applied <= r->applying);
    RAFT_ASSERT(r->applying <= r->log.last);
    RAFT_ASSERT(r->applying <= r->commit);
    RAFT_ASSERT(!r->hard_dirty);
    RAFT_ASSERT(r->hard_durable <= r->hard_generation);
    if (r->role == RAFT_LEADER) {
        RAFT_ASSERT(raft_id_equal(r->leader, r->cfg.id));
        RAFT_ASSERT(raft_id_equal(r->vote, r->cfg.id));
        /* Alone it leads before that, but for nobody yet (E6). */
        RAFT_ASSERT(raft__hard_is_durable(r) ||
                    (raft__members(r)->count == 1 && r->commit < r->term_begin));
        RAFT_ASSERT(r->election_deadline == RAFT_NEVER);
        RAFT_ASSERT(
            raft__log_term(r, r->term_begin > r->log.base ? r->term_begin : r->log.last).v ==
            r->term.v);
        check_peers(r);
    } else {
        RAFT_ASSERT(r->peer_count == 0);
        RAFT_ASSERT(!raft_id_equal(r->leader, r->cfg.id));
        RAFT_ASSERT(r->verified <= r->log.last);
        RAFT_ASSERT(r->role == RAFT_FOLLOWER || raft_id_is_zero(r->leader));
    }
    RAFT_ASSERT(r->role != RAFT_CANDIDATE || raft_id_equal(r->vote, r->cfg.id));
    RAFT_ASSERT(!r->incoming.installing || r->incoming.index > r->commit);
}
