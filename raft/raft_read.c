/*
 * What: read-index: a reader learns an index that contains everything committed before it asked,
 * from a leader that proved, after the question, that it still leads. No clock is involved (pitfall
 * R19).
 *
 * Happy path: leader, ready (it has committed in its term): the commit index is noted, a round
 * number goes out with appends, a majority echoes it -> done. One round at a time serves all
 * questions that wait. A follower forwards to its leader and remembers the question until the
 * answer or the loss of that leader. Failure modes: leadership or leader lost: every waiting
 * question fails, the host asks again. Spec: thesis 6.4.
 */
#include "raft_internal.h"

#include <string.h>

static void push_result(struct raft *r, uint64_t context, uint64_t index, int status)
{
    raft__reserve(r, (void **)&r->out.reads, &r->out.read_capacity, r->out.read_count + 1,
                  sizeof *r->out.reads);
    r->out.reads[r->out.read_count++] = (struct raft_read){context, index, status};
}

static void answer(struct raft *r, struct raft_id to, uint64_t context, uint64_t index, bool ok)
{
    if (raft_id_equal(to, r->cfg.id)) {
        push_result(r, context, index, ok ? 0 : RAFT_E_NOT_LEADER);
        return;
    }
    struct raft_message *m = raft__message(r, RAFT_MSG_READ_RESPONSE, to);
    m->u.read_response.context = context;
    m->u.read_response.index = index;
    m->u.read_response.ok = ok;
}

static bool is_pending(const struct raft *r, uint64_t context, struct raft_id from)
{
    for (uint32_t i = 0; i < r->read_count; i++) {
        if (r->reads[i].context == context && raft_id_equal(r->reads[i].from, from)) {
            return true;
        }
    }
    return false;
}

/* One that waits already is sent to the leader again: the question, or its answer, may have gone
 * with a link of which this end knows nothing. */
int raft__read_request(struct raft *r, uint64_t context, struct raft_id from)
{
    bool own = raft_id_equal(from, r->cfg.id);
    int err = 0;
    if (r->role != RAFT_LEADER && (!own || raft_id_is_zero(r->leader))) {
        err = RAFT_E_NOT_LEADER;
    } else if (r->read_count >= RAFT_READS_MAX && !is_pending(r, context, from)) {
        err = RAFT_E_BUSY;
    }
    if (err != 0) {
        if (!own) {
            answer(r, from, context, 0, false);
        }
        return own ? err : 0;
    }
    if (r->role != RAFT_LEADER) {
        struct raft_message *m = raft__message(r, RAFT_MSG_READ, r->leader);
        m->u.read.context = context;
    }
    if (is_pending(r, context, from)) {
        return 0;
    }
    raft__reserve(r, (void **)&r->reads, &r->read_capacity, r->read_count + 1, sizeof *r->reads);
    r->reads[r->read_count++] = (struct raft_pending_read){context, from, 0, 0};
    return 0;
}

/* A majority of the voters in `c` has echoed `round`, or a later one; this leader is taken to. */
bool raft__round_confirmed(const struct raft *r, const struct raft_config_point *c, uint64_t round)
{
    uint32_t confirmed = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (c->members[i].role != RAFT_VOTER) {
            continue;
        }
        const struct raft_peer *p = raft__peer(r, c->members[i].id);
        if (raft_id_equal(c->members[i].id, r->cfg.id) || (p != NULL && p->probe_acked >= round)) {
            confirmed++;
        }
    }
    return confirmed >= raft__majority(raft__voter_count(c));
}

static bool is_confirmed(const struct raft *r)
{
    return raft__round_confirmed(r, raft__members(r), r->read_round);
}

static void complete_round(struct raft *r)
{
    uint32_t kept = 0;
    r->read_round_done = r->read_round;
    for (uint32_t i = 0; i < r->read_count; i++) {
        struct raft_pending_read *q = &r->reads[i];
        if (q->round != 0) {
            answer(r, q->from, q->context, q->index, true);
        } else {
            r->reads[kept++] = *q;
        }
    }
    r->read_count = kept;
}

/* At the end of each step of a leader: ends the round under way, starts the next for whoever waits.
 */
void raft__read_advance(struct raft *r)
{
    if (r->read_count == 0 || !raft_is_ready(r)) {
        return;
    }
    if (r->read_round_done < r->read_round && is_confirmed(r)) {
        complete_round(r);
    }
    if (r->read_round_done < r->read_round || r->read_count == 0) {
        return;
    }
    r->read_round++;
    for (uint32_t i = 0; i < r->read_count; i++) {
        r->reads[i].round = r->read_round;
        r->reads[i].index = r->commit;
    }
    if (is_confirmed(r)) {
        complete_round(r); /* a majority of one */
    }
}

/* Role, leader or term changed. */
void raft__read_fail_all(struct raft *r)
{
    uint32_t count = r->read_count;
    r->read_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        answer(r, r->reads[i].from, r->reads[i].context, 0, false);
    }
}

void raft__receive_read_response(struct raft *r, const struct raft_message *m)
{
    if (r->role == RAFT_LEADER || !raft_id_equal(m->from, r->leader) || m->term.v != r->term.v ||
        m->u.read_response.index > RAFT_INDEX_MAX) {
        return;
    }
    for (uint32_t i = 0; i < r->read_count; i++) {
        if (r->reads[i].context == m->u.read_response.context) {
            r->read_count--;
            memmove(r->reads + i, r->reads + i + 1, (r->read_count - i) * sizeof *r->reads);
            answer(r, r->cfg.id, m->u.read_response.context, m->u.read_response.index,
                   m->u.read_response.ok);
            return;
        }
    }
}
