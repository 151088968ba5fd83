/*
 * What: handing leadership to another voter.
 *
 * Happy path: proposals are held off (RAFT_E_BUSY) -> the target catches up -> TIMEOUT_NOW -> it
 * campaigns at once with a mark that overrides stickiness -> its vote request deposes this leader.
 * Failure modes: the target is down or does not catch up within transfer_ms: given up, proposals go
 * on (TRANSFER_ENDED). A lagging target is never told to campaign (pitfall R20). Spec: thesis 3.10.
 */
#include "raft_internal.h"

/* The up voter with the most durable entries; NULL if none. */
struct raft_peer *raft__best_successor(struct raft *r)
{
    struct raft_peer *best = NULL;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peers[i];
        if (p->role == RAFT_VOTER && p->up && p->state != RAFT_SNAPSHOT &&
            (best == NULL || p->match > best->match)) {
            best = p;
        }
    }
    return best;
}

int raft__transfer(struct raft *r, struct raft_id to)
{
    if (r->role != RAFT_LEADER) {
        return RAFT_E_NOT_LEADER;
    }
    if (!raft_id_is_zero(r->transfer_to)) {
        return RAFT_E_BUSY;
    }
    const struct raft_peer *p = raft_id_is_zero(to) ? raft__best_successor(r) : raft__peer(r, to);
    if (p == NULL) {
        return raft_id_is_zero(to) ? RAFT_E_NOT_CAUGHT_UP : RAFT_E_UNKNOWN_MEMBER;
    }
    if (p->role != RAFT_VOTER || !p->up || p->state == RAFT_SNAPSHOT) {
        return RAFT_E_NOT_CAUGHT_UP;
    }
    r->transfer_to = p->id;
    r->transfer_sent = false;
    r->transfer_deadline = raft__after(r, r->cfg.transfer_ms);
    return 0;
}

void raft__transfer_clear(struct raft *r, bool given_up)
{
    if (raft_id_is_zero(r->transfer_to)) {
        return;
    }
    r->transfer_to = raft__nobody();
    r->transfer_deadline = RAFT_NEVER;
    r->transfer_sent = false;
    if (given_up) {
        r->out.flags |= RAFT_UPDATE_TRANSFER_ENDED;
    }
}

/* At the end of each step of a leader. */
void raft__transfer_advance(struct raft *r)
{
    if (raft_id_is_zero(r->transfer_to)) {
        return;
    }
    const struct raft_peer *p = raft__peer(r, r->transfer_to);
    if (p == NULL || p->role != RAFT_VOTER || r->now_ms >= r->transfer_deadline) {
        raft__transfer_clear(r, true);
        return;
    }
    if (!r->transfer_sent && p->match == r->log.last) {
        r->transfer_sent = true;
        (void)raft__message(r, RAFT_MSG_TIMEOUT_NOW, p->id);
    }
}
