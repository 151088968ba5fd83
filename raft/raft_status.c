/*
 * What: the read-only view of a member. Nothing here changes state.
 */
#include "raft_internal.h"

struct raft_id raft_self(const struct raft *r)
{
    return r->cfg.id;
}

enum raft_role raft_role(const struct raft *r)
{
    return r->role;
}

struct raft_term raft_term(const struct raft *r)
{
    return r->term;
}

struct raft_id raft_leader(const struct raft *r)
{
    return r->leader;
}

uint64_t raft_commit_index(const struct raft *r)
{
    return r->commit;
}

uint64_t raft_applied_index(const struct raft *r)
{
    return r->applied;
}

uint64_t raft_first_index(const struct raft *r)
{
    return r->log.base + 1;
}

uint64_t raft_last_index(const struct raft *r)
{
    return r->log.last;
}

uint64_t raft_persisted_index(const struct raft *r)
{
    return r->log.persisted;
}

uint64_t raft_generation(const struct raft *r)
{
    return r->log.generation;
}

size_t raft_cached_bytes(const struct raft *r)
{
    return r->log.cached_bytes;
}

struct raft_hard_state raft_hard_state(const struct raft *r)
{
    return (struct raft_hard_state){r->term, r->vote, raft__min(r->commit, r->log.persisted)};
}

bool raft_is_voter(const struct raft *r)
{
    const struct raft_config_point *c = raft__members(r);
    int at = raft__members_find(c, r->cfg.id);
    return at >= 0 && c->members[at].role == RAFT_VOTER;
}

bool raft_is_ready(const struct raft *r)
{
    return r->role == RAFT_LEADER && r->commit >= r->term_begin;
}

bool raft_peer_is_up(const struct raft *r, struct raft_id peer)
{
    return raft__is_up(r, peer);
}

int raft_log_term(const struct raft *r, uint64_t index, struct raft_term *ret_term)
{
    if (!raft__log_has(r, index)) {
        return RAFT_E_COMPACTED;
    }
    *ret_term = raft__log_term(r, index);
    return 0;
}

const struct raft_entry *raft_log_entry(const struct raft *r, uint64_t index)
{
    return raft__log_slot(r, index);
}

struct raft_membership raft_membership(const struct raft *r)
{
    const struct raft_config_point *c = raft__members(r);
    return (struct raft_membership){c->count, c->members};
}

uint64_t raft_membership_index(const struct raft *r)
{
    return raft__members(r)->index;
}

int raft_snapshot_meta(const struct raft *r, uint64_t index, struct raft_snapshot_meta *ret_meta)
{
    if (index < r->log.base || index > r->commit) {
        return RAFT_E_COMPACTED;
    }
    const struct raft_config_point *c = raft__members_at(r, index);
    if (c->count == 0) {
        return RAFT_E_COMPACTED;
    }
    ret_meta->index = index;
    ret_meta->term = raft__log_term(r, index);
    ret_meta->membership = (struct raft_membership){c->count, c->members};
    return 0;
}

uint32_t raft_progress_count(const struct raft *r)
{
    return r->peer_count;
}

struct raft_progress raft_progress_at(const struct raft *r, uint32_t i)
{
    RAFT_ASSERT(i < r->peer_count);
    const struct raft_peer *p = &r->peers[i];
    return (struct raft_progress){
        .id = p->id,
        .role = p->role,
        .state = p->state,
        .up = p->up,
        .match = p->match,
        .next = p->next,
        .inflight_bytes = p->inflight_bytes,
        .snapshot_offset = p->snapshot_offset,
    };
}

int raft_progress_of(const struct raft *r, struct raft_id peer, struct raft_progress *ret_progress)
{
    if (r->role != RAFT_LEADER) {
        return RAFT_E_NOT_LEADER;
    }
    const struct raft_peer *p = raft__peer(r, peer);
    if (p == NULL) {
        return RAFT_E_UNKNOWN_MEMBER;
    }
    *ret_progress = raft_progress_at(r, (uint32_t)(p - r->peers));
    return 0;
}
