/*
 * What: the follower's side of replication: check, truncate, append, learn the commit index,
 * answer.
 *
 * Happy path: prev matches -> new entries are appended and given to the host -> the commit index
 * follows the leader's -> when the host has them durable, one answer says so (raft__answer_leader
 * at the end of that step). Failure modes: prev does not match: refused with a hint (term and
 * index) that skips whole terms (R5). What contradicts the committed prefix is refused as a bad
 * message; nothing changes.
 *
 * Invariants:
 *   A1  answered match = min(verified, persisted): durable AND equal to this leader's log.
 *   A2  commit <= verified, so a suffix of another leader is never committed.
 *   A3  Within a term nothing at or below `verified` is truncated.
 *   A4  An answer leaves only when the term it is given in is durable.
 * Spec: thesis 3.5, 3.6; 10.2.1 (writing in parallel).
 */
#include "raft_internal.h"

/* Indexes follow prev, terms do not fall and do not pass the message's, CONFIG payloads decode.
 * Peers are trusted not to lie, not to be free of bugs or of other versions. */
static bool entries_valid(const struct raft_message *m)
{
    uint64_t index = m->u.append.prev_index;
    uint64_t term = m->u.append.prev_term.v;
    if (index > RAFT_INDEX_MAX || m->u.append.commit > RAFT_INDEX_MAX ||
        m->u.append.probe > RAFT_INDEX_MAX || term > m->term.v || (index == 0 && term != 0) ||
        (m->u.append.entry_count > 0 && m->u.append.entries == NULL)) {
        return false;
    }
    for (uint32_t i = 0; i < m->u.append.entry_count; i++) {
        const struct raft_entry *e = &m->u.append.entries[i];
        index++;
        if (e->index != index || index > RAFT_INDEX_MAX || e->term.v < term ||
            e->term.v > m->term.v || e->term.v == 0 || e->trimmed ||
            (e->size > 0 && e->data == NULL)) {
            return false;
        }
        term = e->term.v;
        if (e->kind == RAFT_ENTRY_CONFIG) {
            struct raft_member members[RAFT_MEMBERS_MAX];
            uint32_t count = 0;
            if (raft_membership_decode(e->data, e->size, members, &count) != 0 || count == 0) {
                return false;
            }
        } else if (e->kind != RAFT_ENTRY_COMMAND && e->kind != RAFT_ENTRY_BARRIER) {
            return false;
        }
    }
    return true;
}

static void append_received(struct raft *r, const struct raft_entry *e)
{
    raft__log_append(r, e);
    if (e->kind == RAFT_ENTRY_CONFIG) {
        struct raft_member members[RAFT_MEMBERS_MAX];
        uint32_t count = 0;
        int err = raft_membership_decode(e->data, e->size, members, &count);
        RAFT_ASSERT(err == 0);
        raft__members_push(r, e->index, members, count);
    }
}

void raft__reject_append(struct raft *r, struct raft_id to, uint64_t rejected_index)
{
    struct raft_message *m = raft__message(r, RAFT_MSG_APPEND_RESPONSE, to);
    m->u.append_response.reject = true;
    m->u.append_response.rejected_index = rejected_index;
    m->u.append_response.match = 0;
    m->u.append_response.commit = r->commit;
    m->u.append_response.probe = r->probe_seen;
    m->u.append_response.hint_index = r->log.last;
    m->u.append_response.hint_term = raft__log_term(r, r->log.last);
}

static void reject_with_hint(struct raft *r, const struct raft_message *m)
{
    raft__reject_append(r, m->from, m->u.append.prev_index);
    struct raft_message *answer = &r->out.messages[r->out.message_count - 1];
    uint64_t hint =
        raft__log_find(r, raft__min(m->u.append.prev_index, r->log.last), m->u.append.prev_term);
    answer->u.append_response.hint_index = hint;
    answer->u.append_response.hint_term = raft__log_term(r, hint);
    r->probe_told = r->probe_seen;
}

/* Checks everything before changing anything: the committed prefix and A3 are not to be
 * contradicted. */
static int check_conflicts(const struct raft *r, const struct raft_message *m, uint64_t *ret_from)
{
    uint64_t end = m->u.append.prev_index + m->u.append.entry_count;
    *ret_from = end + 1;
    for (uint32_t i = 0; i < m->u.append.entry_count; i++) {
        const struct raft_entry *e = &m->u.append.entries[i];
        if (e->index <= r->log.base) {
            continue; /* in the snapshot: committed, hence equal */
        }
        if (e->index > r->log.last || raft__log_term(r, e->index).v != e->term.v) {
            if (e->index <= r->commit || e->index <= r->verified) {
                return RAFT_E_BAD_MESSAGE;
            }
            *ret_from = e->index;
            break;
        }
    }
    return 0;
}

static int take_entries(struct raft *r, const struct raft_message *m)
{
    uint64_t from = 0;
    int err = check_conflicts(r, m, &from);
    if (err != 0) {
        return err;
    }
    uint64_t prev = m->u.append.prev_index;
    uint64_t end = prev + m->u.append.entry_count;
    if (from <= end) {
        if (from <= r->log.last) {
            /* An older leader's suffix. Told to the host only if it had been given to it. */
            if (from <= r->log.handed) {
                r->out.truncate_from = (r->out.flags & RAFT_UPDATE_TRUNCATE) != 0
                                           ? raft__min(r->out.truncate_from, from)
                                           : from;
                r->out.flags |= RAFT_UPDATE_TRUNCATE;
            }
            raft__log_truncate(r, from);
        }
        for (uint64_t i = from; i <= end; i++) {
            append_received(r, &m->u.append.entries[i - prev - 1]);
        }
    }
    r->verified = raft__max(r->verified, raft__max(end, r->commit));
    RAFT_ASSERT(r->verified <= r->log.last);
    raft__commit_to(r, raft__min(m->u.append.commit, r->verified));
    return 0;
}

/* Terms of lower than ours were answered before; here m->term >= our term and `from` leads it. */
int raft__receive_append(struct raft *r, const struct raft_message *m)
{
    if (!entries_valid(m)) {
        return RAFT_E_BAD_MESSAGE;
    }
    if (m->term.v == r->term.v &&
        (r->role == RAFT_LEADER ||
         (!raft_id_is_zero(r->leader) && !raft_id_equal(r->leader, m->from)))) {
        return RAFT_E_BAD_MESSAGE; /* two leaders in one term */
    }
    raft__become_follower(r, m->term, m->from);
    if (raft__is_up(r, m->from)) {
        r->election_deadline = RAFT_NEVER;
    } else {
        raft__arm_election(r); /* heard over half a link: it may not hear us */
    }
    r->probe_seen = raft__max(r->probe_seen, m->u.append.probe);
    uint64_t prev = m->u.append.prev_index;
    if (r->incoming.installing) {
        raft__reject_append(r, m->from,
                            prev); /* the log is frozen; the answer serves read-index rounds */
        r->probe_told = r->probe_seen;
        return 0;
    }
    bool known = prev <= r->log.base || raft__log_match(r, prev, m->u.append.prev_term);
    if (!known) {
        if (prev <= r->commit || prev <= r->verified) {
            return RAFT_E_BAD_MESSAGE;
        }
        reject_with_hint(r, m);
        return 0;
    }
    int err = take_entries(r, m);
    if (err == 0) {
        r->answer_owed = true;
    }
    return err;
}

/* At the end of each step of a follower: says what has become true (A1, A4). A probe round is
 * answered at once, an append when it is durable as a whole, and each advance of the durable prefix
 * once. */
void raft__answer_leader(struct raft *r)
{
    if (r->role != RAFT_FOLLOWER || raft_id_is_zero(r->leader) || !raft__hard_is_durable(r)) {
        return;
    }
    if (r->snapshot_answer_owed) {
        r->snapshot_answer_owed = false;
        struct raft_message *m = raft__message(r, RAFT_MSG_SNAPSHOT_RESPONSE, r->leader);
        m->u.snapshot_response = r->snapshot_answer.u.snapshot_response;
    }
    uint64_t match = raft__min(r->verified, r->log.persisted);
    bool whole = match == r->verified;
    if (r->incoming.installing || !r->answer_owed ||
        !(whole || r->probe_seen > r->probe_told || match > r->match_told)) {
        return;
    }
    struct raft_message *m = raft__message(r, RAFT_MSG_APPEND_RESPONSE, r->leader);
    m->u.append_response.match = match;
    m->u.append_response.verified = r->verified;
    m->u.append_response.commit = r->commit;
    m->u.append_response.probe = r->probe_seen;
    r->match_told = match;
    r->probe_told = r->probe_seen;
    if (whole) {
        r->answer_owed = false;
    }
}
