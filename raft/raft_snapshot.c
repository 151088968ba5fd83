/*
 * What: sending and receiving snapshots in chunks, one chunk under way per peer.
 *
 * Happy path, sender: peer needs what the log no longer has -> snapshot_wants -> host gives a chunk
 * -> message -> the peer's answer names the next byte -> snapshot_wants ... Receiver: chunk to the
 * host -> STORED -> answer; the last chunk -> the host installs -> INSTALLED -> log begins at the
 * snapshot, answer with match. Failure modes: link reset: the sender resumes at the byte it knows
 * of, the receiver names the one it wants. Lost or repeated chunks: same. Change of leader: an
 * unfinished snapshot is dropped; one that is being installed is finished, since its content is
 * committed whoever leads. A receiver that has what the snapshot holds says so and the sender goes
 * on with entries (pitfall R6).
 *
 * Invariants: S1 an install never takes the commit index back. S2 a log suffix that continues the
 * snapshot is kept: it may have been acknowledged. S3 while installing the log is frozen and
 * nothing is handed out to apply. Spec: thesis chapter 5.
 */
#include "raft_internal.h"

#include <string.h>

/* ---- sender ---------------------------------------------------------------------------------- */

void raft__snapshot_want(struct raft *r, struct raft_peer *p)
{
    if (p->snapshot_index < r->log.base) {
        p->snapshot_index = 0; /* the log has moved past it meanwhile: it would not help */
        p->snapshot_offset = 0;
    }
    raft__reserve(r, (void **)&r->out.snapshot_wants, &r->out.snapshot_want_capacity,
                  r->out.snapshot_want_count + 1, sizeof *r->out.snapshot_wants);
    r->out.snapshot_wants[r->out.snapshot_want_count++] =
        (struct raft_snapshot_want){p->id, p->snapshot_index, p->snapshot_offset, r->log.base,
                                    p->snapshot_index == 0 ? 0 : p->snapshot_note};
    p->snapshot_phase = RAFT_SNAPSHOT_WANTED;
}

static struct raft_peer *sending_to(const struct raft *r, struct raft_id id)
{
    struct raft_peer *p = r->role == RAFT_LEADER ? raft__peer(r, id) : NULL;
    return p != NULL && p->state == RAFT_SNAPSHOT && p->snapshot_phase == RAFT_SNAPSHOT_WANTED
               ? p
               : NULL;
}

int raft__snapshot_chunk(struct raft *r, const struct raft_event *ev)
{
    struct raft_peer *p = sending_to(r, ev->u.chunk.peer);
    if (p == NULL) {
        return RAFT_E_IGNORED;
    }
    const struct raft_snapshot_meta *meta = &ev->u.chunk.meta;
    bool goes_on = meta->index == p->snapshot_index && ev->u.chunk.offset == p->snapshot_offset;
    bool starts = ev->u.chunk.offset == 0;
    if (meta->index < r->log.base || !(goes_on || starts)) {
        p->snapshot_index = 0; /* compacted since it was wanted: begin with a newer one */
        p->snapshot_offset = 0;
        p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
        return RAFT_E_IGNORED;
    }
    RAFT_ASSERT(meta->index <= r->commit);
    RAFT_ASSERT(raft__log_match(r, meta->index, meta->term));
    const struct raft_config_point *c = raft__members_at(r, meta->index);
    RAFT_ASSERT(c->count > 0);
    p->snapshot_index = meta->index;
    p->snapshot_offset = ev->u.chunk.offset;
    p->snapshot_note = starts ? 0 : p->snapshot_note;
    p->snapshot_phase = RAFT_SNAPSHOT_SENT;
    p->sent_ms = r->now_ms;
    struct raft_message *m = raft__message(r, RAFT_MSG_SNAPSHOT_CHUNK, p->id);
    m->u.snapshot.meta.index = meta->index;
    m->u.snapshot.meta.term = meta->term;
    m->u.snapshot.meta.membership = (struct raft_membership){c->count, c->members};
    m->u.snapshot.offset = ev->u.chunk.offset;
    m->u.snapshot.done = ev->u.chunk.done;
    m->u.snapshot.size = ev->u.chunk.size;
    m->u.snapshot.data = ev->u.chunk.data;
    m->u.snapshot.owner = ev->u.chunk.owner;
    return 0;
}

int raft__snapshot_failed(struct raft *r, struct raft_id id)
{
    struct raft_peer *p = sending_to(r, id);
    if (p == NULL) {
        return RAFT_E_IGNORED;
    }
    p->snapshot_phase = RAFT_SNAPSHOT_FAILED;
    p->snapshot_index = 0;
    p->snapshot_offset = 0;
    p->sent_ms = r->now_ms;
    return 0;
}

/* term = ours. */
int raft__receive_snapshot_response(struct raft *r, const struct raft_message *m)
{
    struct raft_peer *p = r->role == RAFT_LEADER ? raft__peer(r, m->from) : NULL;
    if (p == NULL || p->state != RAFT_SNAPSHOT) {
        return RAFT_E_IGNORED;
    }
    uint64_t match = m->u.snapshot_response.match;
    if (match > r->log.last) {
        return RAFT_E_BAD_MESSAGE;
    }
    p->sent_ms = r->now_ms;
    if (match > 0) {
        p->match = raft__max(p->match, match);
        p->next = p->match + 1;
        if (p->match >= r->log.base) {
            raft__peer_pipeline(r, p);
        } else {
            p->snapshot_index = 0; /* the log moved on: another one */
            p->snapshot_offset = 0;
            p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
        }
        raft__commit_count(r);
        return 0;
    }
    if (p->snapshot_phase != RAFT_SNAPSHOT_SENT ||
        m->u.snapshot_response.index != p->snapshot_index) {
        return RAFT_E_IGNORED;
    }
    p->snapshot_offset = m->u.snapshot_response.offset;
    p->snapshot_note = m->u.snapshot_response.note;
    p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
    return 0;
}

/* ---- receiver -------------------------------------------------------------------------------- */

static void owe_answer(struct raft *r, uint64_t index, uint64_t offset, uint64_t match,
                       uint64_t note)
{
    r->snapshot_answer_owed = true;
    r->snapshot_answer.u.snapshot_response.index = index;
    r->snapshot_answer.u.snapshot_response.offset = offset;
    r->snapshot_answer.u.snapshot_response.match = match;
    r->snapshot_answer.u.snapshot_response.note = note;
}

static void incoming_end(struct raft *r)
{
    raft__release(r, r->incoming.members);
    r->incoming = (struct raft_incoming){0};
}

void raft__snapshot_abort(struct raft *r)
{
    RAFT_ASSERT(r->incoming.active);
    RAFT_ASSERT(!r->incoming.installing);
    incoming_end(r);
    r->out.flags |= RAFT_UPDATE_SNAPSHOT_ABORT;
}

static void incoming_begin(struct raft *r, const struct raft_message *m)
{
    const struct raft_snapshot_meta *meta = &m->u.snapshot.meta;
    struct raft_incoming *in = &r->incoming;
    in->active = true;
    in->from = m->from;
    in->leader_term = m->term;
    in->index = meta->index;
    in->term = meta->term;
    in->member_count = meta->membership.count;
    in->members = raft__alloc(r, RAFT_MEMBERS_MAX * sizeof *in->members);
    memcpy(in->members, meta->membership.members,
           meta->membership.count * sizeof *meta->membership.members);
}

static bool chunk_valid(const struct raft_message *m)
{
    const struct raft_snapshot_meta *meta = &m->u.snapshot.meta;
    return meta->index > 0 && meta->index <= RAFT_INDEX_MAX && meta->term.v > 0 &&
           meta->term.v <= m->term.v && meta->membership.count > 0 &&
           raft__members_valid(meta->membership.members, meta->membership.count) &&
           m->u.snapshot.offset <= RAFT_INDEX_MAX &&
           (m->u.snapshot.size == 0 || m->u.snapshot.data != NULL) &&
           (m->u.snapshot.size > 0 || m->u.snapshot.done);
}

/* term >= ours and `from` leads it. */
int raft__receive_chunk(struct raft *r, const struct raft_message *m)
{
    if (!chunk_valid(m)) {
        return RAFT_E_BAD_MESSAGE;
    }
    if (m->term.v == r->term.v &&
        (r->role == RAFT_LEADER ||
         (!raft_id_is_zero(r->leader) && !raft_id_equal(r->leader, m->from)))) {
        return RAFT_E_BAD_MESSAGE;
    }
    raft__become_follower(r, m->term, m->from);
    if (raft__is_up(r, m->from)) {
        r->election_deadline = RAFT_NEVER;
    }
    struct raft_incoming *in = &r->incoming;
    const struct raft_snapshot_meta *meta = &m->u.snapshot.meta;
    if (in->installing) {
        return 0; /* answered when done */
    }
    if (meta->index <= r->commit || raft__log_match(r, meta->index, meta->term)) {
        /* Already here. What a snapshot holds is committed, so the commit index may follow. */
        if (in->active) {
            raft__snapshot_abort(r);
        }
        r->verified = raft__max(r->verified, raft__max(meta->index, r->commit));
        raft__commit_to(r, meta->index);
        r->answer_owed = true;
        return 0;
    }
    if (in->active && (in->index != meta->index || !raft_id_equal(in->from, m->from) ||
                       in->leader_term.v != m->term.v ||
                       (m->u.snapshot.offset == 0 && in->offset > 0 && !in->busy))) {
        raft__snapshot_abort(r);
    }
    if (in->busy) {
        return 0; /* a repetition; the answer to the first comes */
    }
    if (!in->active && m->u.snapshot.offset == 0) {
        incoming_begin(r, m);
    }
    if (!in->active || m->u.snapshot.offset != in->offset) {
        owe_answer(r, meta->index, in->active ? in->offset : 0, 0, in->active ? in->note : 0);
        return 0;
    }
    in->busy = true;
    in->installing = m->u.snapshot.done;
    r->out.chunk = *m;
    r->out.flags |= RAFT_UPDATE_SNAPSHOT_CHUNK;
    return 0;
}

int raft__snapshot_stored(struct raft *r, uint64_t index, uint64_t offset, uint64_t note)
{
    struct raft_incoming *in = &r->incoming;
    if (!in->active || !in->busy || in->installing || in->index != index || offset <= in->offset) {
        return RAFT_E_IGNORED;
    }
    in->busy = false;
    in->offset = offset;
    in->note = note;
    owe_answer(r, index, offset, 0, note);
    return 0;
}

int raft__snapshot_installed(struct raft *r, uint64_t index)
{
    struct raft_incoming *in = &r->incoming;
    if (!in->active || !in->installing || in->index != index) {
        return RAFT_E_IGNORED;
    }
    RAFT_ASSERT(index > r->commit); /* S1: frozen since it was accepted */
    if (raft__log_match(r, index, in->term)) {
        raft__log_compact(r, index); /* S2 */
    } else {
        raft__log_reset(r, index, in->term);
        raft__members_clear(r);
        raft__members_push(r, index, in->members, in->member_count);
        r->out.flags |= RAFT_UPDATE_LOG_RESET;
    }
    incoming_end(r);
    r->commit = index;
    r->applying = index;
    r->applied = index;
    r->verified = raft__max(r->verified, index);
    owe_answer(r, index, 0, index, 0);
    r->answer_owed = !raft_id_is_zero(r->leader);
    if (!raft__has_live_leader(r)) {
        raft__arm_election(r);
    }
    return 0;
}

int raft__snapshot_refused(struct raft *r, uint64_t index)
{
    struct raft_incoming *in = &r->incoming;
    if (!in->active || !in->busy || in->index != index) {
        return RAFT_E_IGNORED;
    }
    incoming_end(r);
    owe_answer(r, index, 0, 0, 0);
    if (!raft__has_live_leader(r)) {
        raft__arm_election(r);
    }
    return 0;
}
