/*
 * What: match indexes -> commit index; and what a commit means for a leader that is no voter any
 * more.
 *
 * Invariants:
 *   C1  commit never falls.
 *   C2  Only an entry of the leader's own term is committed by counting; what precedes it comes
 * along (thesis 3.6.2, figure 3.7). C3  The leader counts itself by its own durable index only
 * (R17), and not at all before its term and vote are durable (E6). Applying: entries are handed out
 * up to min(commit, persisted), so that no member's machine is ever ahead of its own disk (R4); see
 * raft__finish.
 */
#include "raft_internal.h"

#include "warren/plant.h"

void raft__commit_to(struct raft *r, uint64_t index)
{
    if (index <= r->commit) {
        return;
    }
    RAFT_ASSERT(index <= r->log.last);
    if (r->role == RAFT_LEADER) {
        for (uint64_t i = raft__max(r->commit + 1, r->log.cache_begin); i <= index; i++) {
            uint64_t size = raft__log_slot(r, i)->size;
            r->uncommitted_bytes -= raft__min(size, r->uncommitted_bytes);
        }
    }
    r->commit = index;
}

/* A leader whose removal (or demotion) is committed hands over (thesis 4.2.2): the best voter is
 * told to campaign at once, everyone that it leads no more. */
static void step_aside(struct raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peers[i];
        if (p->up && p->state == RAFT_PIPELINE) {
            raft__send_append(r, p, true);
        }
    }
    const struct raft_peer *best = raft__best_successor(r);
    if (best != NULL && best->match == r->log.last) {
        (void)raft__message(r, RAFT_MSG_TIMEOUT_NOW, best->id);
    }
    raft__resign(r);
}

void raft__commit_count(struct raft *r)
{
    RAFT_ASSERT(r->role == RAFT_LEADER);
    if (!raft__hard_is_durable(r)) {
        return;
    }
    const struct raft_config_point *c = raft__members(r);
    uint64_t match[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->members[i].role != RAFT_VOTER) {
            continue;
        }
        if (raft_id_equal(c->members[i].id, r->cfg.id)) {
            match[count++] = r->log.persisted;
        } else {
            const struct raft_peer *p = raft__peer(r, c->members[i].id);
            RAFT_ASSERT(p != NULL);
            match[count++] = p->match;
        }
    }
    if (count == 0) {
        return;
    }
    uint64_t index = raft__quorum_value(match, count);
    if (index <= r->commit ||
        (raft__log_term(r, index).v != r->term.v && !wr_planted(WR_PLANT_commit_old_term))) {
        return;
    }
    raft__commit_to(r, index);
    if (!raft_is_voter(r) && c->index <= r->commit) {
        step_aside(r);
    }
}
