/*
 * What: the only mutating entry: one event in, one update out.
 *
 * Happy path: raft_step dispatches to one handler, lets due timers act, and raft__finish turns what
 * is owed and now true into the update: the leader's messages, the follower's answers, hard state,
 * entries, what to apply.
 *
 * Invariants:
 *   T1  A message that claims durability is made only here, from state that says so
 * (raft_internal.h). T2  Entries are given to the host once per generation, in order. T3  Nothing
 * is given out to apply before it is committed and durable here. Ownership: the update borrows from
 * struct raft_out and is valid until the next step.
 */
#include "raft_internal.h"

#include <string.h>

struct raft_message *raft__message(struct raft *r, enum raft_message_type type, struct raft_id to)
{
    struct raft_out *o = &r->out;
    raft__reserve(r, (void **)&o->messages, &o->message_capacity, o->message_count + 1,
                  sizeof *o->messages);
    raft__reserve(r, (void **)&o->message_entries, &o->message_entries_capacity,
                  o->message_count + 1, sizeof *o->message_entries);
    o->message_entries[o->message_count] = 0;
    struct raft_message *m = &o->messages[o->message_count++];
    memset(m, 0, sizeof *m);
    m->type = type;
    m->from = r->cfg.id;
    m->to = to;
    m->term = r->term;
    return m;
}

/* ---- messages -------------------------------------------------------------------------------- */

static bool envelope_valid(const struct raft *r, const struct raft_message *m)
{
    return raft_id_equal(m->to, r->cfg.id) && !raft_id_is_zero(m->from) &&
           !raft_id_equal(m->from, r->cfg.id) && m->term.v <= RAFT_INDEX_MAX &&
           (m->term.v > 0 ||
            m->type == RAFT_MSG_PREVOTE_RESPONSE); /* who never had a term may refuse */
}

/* From a leader of an older term: tell it of ours. */
static bool from_stale_leader(struct raft *r, const struct raft_message *m, uint64_t index)
{
    if (m->term.v >= r->term.v) {
        return false;
    }
    raft__reject_append(r, m->from, index);
    return true;
}

/* An answer to a leader. Of an older term: void. Of a newer one: this leader is deposed, if a
 * member says so. */
static bool answer_is_current(struct raft *r, const struct raft_message *m)
{
    if (m->term.v > r->term.v && raft__members_find(raft__members(r), m->from) >= 0) {
        raft__become_follower(r, m->term, raft__nobody());
        raft__arm_election(r);
    }
    return m->term.v == r->term.v;
}

static int receive(struct raft *r, const struct raft_message *m)
{
    if (!envelope_valid(r, m)) {
        return RAFT_E_BAD_MESSAGE;
    }
    switch (m->type) {
    case RAFT_MSG_APPEND:
        return from_stale_leader(r, m, m->u.append.prev_index) ? 0 : raft__receive_append(r, m);
    case RAFT_MSG_SNAPSHOT_CHUNK:
        return from_stale_leader(r, m, 0) ? 0 : raft__receive_chunk(r, m);
    case RAFT_MSG_APPEND_RESPONSE:
        return answer_is_current(r, m) ? raft__receive_append_response(r, m) : 0;
    case RAFT_MSG_SNAPSHOT_RESPONSE:
        return answer_is_current(r, m) ? raft__receive_snapshot_response(r, m) : 0;
    case RAFT_MSG_PREVOTE:
    case RAFT_MSG_VOTE:
        raft__receive_vote(r, m);
        return 0;
    case RAFT_MSG_PREVOTE_RESPONSE:
    case RAFT_MSG_VOTE_RESPONSE:
        raft__receive_vote_response(r, m);
        return 0;
    case RAFT_MSG_TIMEOUT_NOW:
        raft__receive_timeout_now(r, m);
        return 0;
    case RAFT_MSG_RESIGN:
        raft__receive_resign(r, m);
        return 0;
    case RAFT_MSG_READ:
        return raft__read_request(r, m->u.read.context, m->from);
    case RAFT_MSG_READ_RESPONSE:
        raft__receive_read_response(r, m);
        return 0;
    }
    return RAFT_E_BAD_MESSAGE;
}

/* ---- completions and the host's log ---------------------------------------------------------- */

static int persisted(struct raft *r, struct raft_term term, uint64_t index, uint64_t generation)
{
    RAFT_ASSERT(generation <= r->log.generation);
    if (generation != r->log.generation || index <= r->log.persisted) {
        return RAFT_E_IGNORED; /* of a truncated suffix (its successor will report), or old news */
    }
    RAFT_ASSERT(index <= r->log.handed);
    RAFT_ASSERT(raft__log_match(r, index, term));
    r->log.persisted = index;
    if (r->role == RAFT_LEADER) {
        raft__commit_count(r);
    }
    return 0;
}

static int compacted(struct raft *r, uint64_t index)
{
    if (index <= r->log.base) {
        return RAFT_E_IGNORED;
    }
    RAFT_ASSERT(index <= r->applied);
    if (raft__members_at(r, index)->count == 0) {
        return RAFT_E_COMPACTED;
    }
    raft__log_compact(r, index);
    return 0;
}

static int handle(struct raft *r, const struct raft_event *ev)
{
    switch (ev->type) {
    case RAFT_EVENT_TICK:
        return 0;
    case RAFT_EVENT_RECEIVE:
        return receive(r, ev->u.message);
    case RAFT_EVENT_PROPOSE:
        return raft__propose(r, ev->u.propose.term, ev->u.propose.entries, ev->u.propose.count);
    case RAFT_EVENT_PERSISTED:
        return persisted(r, ev->u.persisted.term, ev->u.persisted.index,
                         ev->u.persisted.generation);
    case RAFT_EVENT_HARD_STATE_PERSISTED:
        RAFT_ASSERT(ev->u.hard_state_generation <= r->hard_generation);
        r->hard_durable = raft__max(r->hard_durable, ev->u.hard_state_generation);
        raft__hard_state_durable(r);
        return 0;
    case RAFT_EVENT_APPLIED:
        RAFT_ASSERT(ev->u.index <= r->applying);
        r->applied = raft__max(r->applied, ev->u.index);
        return 0;
    case RAFT_EVENT_PEER_UP:
        raft__peer_up(r, ev->u.peer);
        return 0;
    case RAFT_EVENT_PEER_DOWN:
        raft__peer_down(r, ev->u.peer);
        return 0;
    case RAFT_EVENT_TRANSFER:
        return raft__transfer(r, ev->u.peer);
    case RAFT_EVENT_CHANGE:
        return raft__change(r, ev->u.change.type, ev->u.change.member);
    case RAFT_EVENT_READ_INDEX:
        return raft__read_request(r, ev->u.context, r->cfg.id);
    case RAFT_EVENT_COMPACTED:
        return compacted(r, ev->u.index);
    case RAFT_EVENT_TRIM:
        raft__log_trim(r, raft__min(ev->u.index, raft__min(r->log.persisted, r->commit)));
        return 0;
    case RAFT_EVENT_ENTRIES_READ:
        return raft__entries_read(r, ev);
    case RAFT_EVENT_SNAPSHOT_CHUNK:
        return raft__snapshot_chunk(r, ev);
    case RAFT_EVENT_SNAPSHOT_FAILED:
        return raft__snapshot_failed(r, ev->u.peer);
    case RAFT_EVENT_SNAPSHOT_STORED:
        return raft__snapshot_stored(r, ev->u.stored.index, ev->u.stored.offset, ev->u.stored.note);
    case RAFT_EVENT_SNAPSHOT_INSTALLED:
        return raft__snapshot_installed(r, ev->u.index);
    case RAFT_EVENT_SNAPSHOT_REFUSED:
        return raft__snapshot_refused(r, ev->u.index);
    case RAFT_EVENT_FORCE_SOLE:
        return raft__force_sole(r);
    case RAFT_EVENT_ABSTAIN:
        return raft__abstain(r);
    }
    raft__assert_failed("event type is known", __FILE__, __LINE__);
}

/* ---- the end of a step ----------------------------------------------------------------------- */

static void begin(struct raft *r, uint64_t now_ms)
{
    struct raft_out *o = &r->out;
    o->flags = 0;
    o->truncate_from = 0;
    o->proposed_first = 0;
    o->message_count = 0;
    o->entry_count = 0;
    o->read_count = 0;
    o->entries_want_count = 0;
    o->snapshot_want_count = 0;
    r->now_ms = raft__max(r->now_ms, now_ms);
}

static void finish_vote(struct raft *r)
{
    if (raft_id_is_zero(r->vote_owed) || !raft__hard_is_durable(r)) {
        return;
    }
    struct raft_message *m = raft__message(r, RAFT_MSG_VOTE_RESPONSE, r->vote_owed);
    m->u.vote_response.granted = true;
    m->u.vote_response.vote_term = r->term;
    r->vote_owed = raft__nobody();
}

static void finish_entries(struct raft *r, struct raft_update *u, uint32_t *ret_first)
{
    *ret_first = r->out.entry_count;
    uint64_t from = r->log.handed + 1;
    if (from > r->log.last) {
        return;
    }
    uint32_t count = (uint32_t)(r->log.last - r->log.handed);
    raft__reserve(r, (void **)&r->out.entries, &r->out.entry_capacity, r->out.entry_count + count,
                  sizeof *r->out.entries);
    for (uint64_t i = from; i <= r->log.last; i++) {
        const struct raft_entry *e = raft__log_slot(r, i);
        RAFT_ASSERT(e != NULL);
        r->out.entries[r->out.entry_count++] = *e;
    }
    r->log.handed = r->log.last;
    u->entry_count = count;
    r->out.flags |= RAFT_UPDATE_ENTRIES;
}

static void finish_hard_state(struct raft *r, struct raft_update *u)
{
    if (r->hard_dirty) {
        r->hard_dirty = false;
        r->hard_generation++;
        r->out.flags |= RAFT_UPDATE_HARD_STATE;
    }
    u->hard_state = raft_hard_state(r);
    u->hard_state_generation = r->hard_generation;
}

static void finish_apply(struct raft *r, struct raft_update *u)
{
    uint64_t limit = raft__min(r->commit, r->log.persisted);
    u->apply_begin = r->applying + 1;
    u->apply_end = r->applying + 1;
    if (limit > r->applying && !r->incoming.installing) {
        u->apply_end = limit + 1;
        r->applying = limit;
        r->out.flags |= RAFT_UPDATE_APPLY;
    }
}

void raft__finish(struct raft *r, struct raft_update *u)
{
    memset(u, 0, sizeof *u);
    if (r->role == RAFT_LEADER) {
        raft__read_advance(r);
        raft__replicate(r);
        raft__transfer_advance(r);
    } else {
        raft__answer_leader(r);
        finish_vote(r);
    }
    uint32_t first = 0;
    finish_hard_state(r, u);
    finish_entries(r, u, &first);
    finish_apply(r, u);
    struct raft_out *o = &r->out;
    for (uint32_t i = 0; i < o->message_count; i++) {
        struct raft_message *m = &o->messages[i];
        if (m->type == RAFT_MSG_APPEND) {
            m->u.append.entries =
                m->u.append.entry_count > 0 ? o->entries + o->message_entries[i] : NULL;
        }
    }
    u->flags = o->flags;
    u->truncate_from = o->truncate_from;
    u->log_begin = r->log.base + 1;
    u->generation = r->log.generation;
    u->entries = u->entry_count > 0 ? o->entries + first : NULL;
    u->messages = o->messages;
    u->message_count = o->message_count;
    u->reads = o->reads;
    u->read_count = o->read_count;
    u->entries_wants = o->entries_wants;
    u->entries_want_count = o->entries_want_count;
    u->snapshot_wants = o->snapshot_wants;
    u->snapshot_want_count = o->snapshot_want_count;
    u->snapshot_chunk = (o->flags & RAFT_UPDATE_SNAPSHOT_CHUNK) != 0 ? &o->chunk : NULL;
    u->proposed_first = o->proposed_first;
}

int raft_step(struct raft *r, const struct raft_event *event, struct raft_update *ret_update)
{
    RAFT_ASSERT(r->started);
    RAFT_ASSERT(!r->broken);
    begin(r, event->now_ms);
    int err = handle(r, event);
    if (r->now_ms >= r->election_deadline) {
        raft__election_timeout(r);
    }
    raft__finish(r, ret_update);
    return err;
}

uint64_t raft_deadline(const struct raft *r)
{
    uint64_t at = r->election_deadline;
    if (r->role != RAFT_LEADER) {
        return at;
    }
    at = raft__min(at, raft__min(r->notice_deadline, r->transfer_deadline));
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (raft__peer_unsettled(&r->peers[i])) {
            at = raft__min(at, r->peers[i].sent_ms + r->cfg.resend_ms);
        }
    }
    return at;
}

/* ---- start ----------------------------------------------------------------------------------- */

int raft_start(struct raft *r, uint64_t now_ms, struct raft_update *ret_update)
{
    RAFT_ASSERT(!r->started);
    begin(r, now_ms);
    if (!r->broken && r->applying > r->log.last) {
        r->broken = true;
    }
    if (r->broken) {
        memset(ret_update, 0, sizeof *ret_update);
        return RAFT_E_CORRUPT;
    }
    r->started = true;
    r->log.persisted = r->log.last;
    r->log.handed = r->log.last;
    r->commit = raft__max(r->applying, raft__min(r->restore_hint, r->log.last));
    r->verified = r->commit;
    if (r->restore_discard || (r->restore_dropped && r->log.last == r->log.base)) {
        r->out.flags |= RAFT_UPDATE_LOG_RESET;
    }
    const struct raft_config_point *c = raft__members(r);
    if (raft_is_voter(r) && raft__voter_count(c) == 1) {
        raft__election_timeout(r);
    } else {
        raft__arm_election(r);
    }
    raft__finish(r, ret_update);
    return 0;
}
