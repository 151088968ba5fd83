/*
 * What: the leader's side of replication: proposals into the log, progress into messages, answers
 * into progress.
 *
 * Happy path: raft__propose appends -> raft__replicate (end of the step) sends to every peer what
 * its window allows, at once, while the host writes -> answers advance match -> raft_commit.c.
 * Failure modes: refusals and resets go back to probing; payloads not in memory are asked of the
 * host (entries_wants); indexes not in the log need a snapshot (raft_snapshot.c); silence is probed
 * after resend_ms.
 *
 * Invariants: R1 a proposal enters the log only in the term it was made for (pitfall R18).
 *             R2 a commit advance reaches every live follower: with the next append, or alone after
 *                commit_notice_ms.
 * Spec: thesis 3.5, 10.2.1 (parallel writes), 10.2.2 (batching and pipelining).
 */
#include "raft_internal.h"

void raft__append_own(struct raft *r, enum raft_entry_kind kind, const uint8_t *data, uint32_t size,
                      void *owner)
{
    struct raft_entry e = {
        .term = r->term,
        .index = r->log.last + 1,
        .kind = kind,
        .size = size,
        .data = data,
        .owner = owner,
    };
    raft__log_append(r, &e);
    if (r->role == RAFT_LEADER) {
        r->uncommitted_bytes += size;
    }
}

int raft__propose(struct raft *r, struct raft_term term, const struct raft_entry *entries,
                  uint32_t count)
{
    RAFT_ASSERT(count >= 1);
    if (r->role != RAFT_LEADER) {
        return RAFT_E_NOT_LEADER;
    }
    if (term.v != r->term.v) {
        return RAFT_E_STALE_TERM;
    }
    if (!raft_id_is_zero(r->transfer_to)) {
        return RAFT_E_BUSY;
    }
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        bytes += entries[i].size;
    }
    if (r->uncommitted_bytes > 0 && r->uncommitted_bytes + bytes > r->cfg.uncommitted_bytes_max) {
        return RAFT_E_BUSY;
    }
    r->out.proposed_first = r->log.last + 1;
    for (uint32_t i = 0; i < count; i++) {
        raft__append_own(r, RAFT_ENTRY_COMMAND, entries[i].data, entries[i].size, entries[i].owner);
    }
    return 0;
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Entries for one message, from the cache, copied behind the message's others in out.entries. */
static uint32_t collect(struct raft *r, uint64_t from, uint64_t *ret_bytes)
{
    uint32_t count = 0;
    uint64_t bytes = 0;
    for (uint64_t i = from; i <= r->log.last && count < r->cfg.message_entries_max; i++) {
        const struct raft_entry *e = raft__log_slot(r, i);
        if (e == NULL || (count > 0 && bytes + e->size > r->cfg.message_bytes_max)) {
            break;
        }
        raft__reserve(r, (void **)&r->out.entries, &r->out.entry_capacity, r->out.entry_count + 1,
                      sizeof *r->out.entries);
        r->out.entries[r->out.entry_count++] = *e;
        bytes += e->size;
        count++;
    }
    *ret_bytes = bytes;
    return count;
}

/* The message without its entries; notes what it tells the peer. */
static struct raft_message *append_header(struct raft *r, struct raft_peer *p, uint64_t prev)
{
    if (!raft__peer_unsettled(p)) {
        p->sent_ms = r->now_ms;
    }
    struct raft_message *m = raft__message(r, RAFT_MSG_APPEND, p->id);
    m->u.append.prev_index = prev;
    m->u.append.prev_term = raft__log_term(r, prev);
    m->u.append.commit = r->commit;
    m->u.append.probe = r->read_round;
    p->probe_sent = r->read_round;
    p->commit_sent = r->commit;
    return m;
}

static void count_sent(struct raft *r, struct raft_peer *p, uint32_t count, uint64_t bytes)
{
    if (p->state == RAFT_PROBE) {
        p->probing = true;
    } else if (p->state == RAFT_PIPELINE && count > 0) {
        p->next += count;
        raft__inflight_push(r, p, p->next - 1, bytes);
    }
}

/* One append to the peer, empty unless wanted and possible. A peer that needs a snapshot gets an
 * empty one at the log's base: it will refuse it, but it hears the leader. */
void raft__send_append(struct raft *r, struct raft_peer *p, bool with_entries)
{
    RAFT_ASSERT(r->role == RAFT_LEADER);
    bool snapshot = p->state == RAFT_SNAPSHOT || p->next <= r->log.base;
    uint64_t prev = snapshot ? r->log.base : p->next - 1;
    uint32_t first = r->out.entry_count;
    uint64_t bytes = 0;
    uint32_t count = with_entries && !snapshot ? collect(r, p->next, &bytes) : 0;
    struct raft_message *m = append_header(r, p, prev);
    m->u.append.entry_count = count;
    r->out.message_entries[r->out.message_count - 1] = first;
    if (!snapshot) {
        count_sent(r, p, count, bytes);
    }
}

static void want_entries(struct raft *r, struct raft_peer *p)
{
    if (p->reading || p->read_failed) {
        return;
    }
    p->reading = true;
    raft__reserve(r, (void **)&r->out.entries_wants, &r->out.entries_want_capacity,
                  r->out.entries_want_count + 1, sizeof *r->out.entries_wants);
    uint64_t end = raft__min(r->log.cache_begin, p->next + r->cfg.message_entries_max);
    r->out.entries_wants[r->out.entries_want_count++] =
        (struct raft_entries_want){p->id, p->next, end, r->cfg.message_bytes_max};
}

static bool window_open(const struct raft *r, const struct raft_peer *p)
{
    return p->inflight_count < r->cfg.inflight_messages_max &&
           p->inflight_bytes < r->cfg.inflight_bytes_max;
}

/* Silence for too long: what was sent is taken as lost. */
static void resend_if_due(struct raft *r, struct raft_peer *p)
{
    if (!raft__peer_unsettled(p) || r->now_ms < p->sent_ms + r->cfg.resend_ms) {
        return;
    }
    p->sent_ms = r->now_ms;
    if (p->state == RAFT_SNAPSHOT) {
        p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
        p->probe_sent = p->probe_acked;
    } else {
        raft__peer_probe(r, p);
    }
}

static void replicate_to(struct raft *r, struct raft_peer *p, bool notice)
{
    resend_if_due(r, p);
    if (p->state != RAFT_SNAPSHOT && p->next <= r->log.base) {
        raft__peer_snapshot(p);
    }
    if (p->state == RAFT_SNAPSHOT && p->snapshot_phase == RAFT_SNAPSHOT_IDLE) {
        raft__snapshot_want(r, p);
    }
    if (p->state == RAFT_PROBE && !p->probing) {
        raft__send_append(r, p, true);
    }
    while (p->state == RAFT_PIPELINE && p->next <= r->log.last && window_open(r, p)) {
        if (p->next < r->log.cache_begin) {
            want_entries(r, p);
            break;
        }
        raft__send_append(r, p, true);
    }
    if (p->probe_sent < r->read_round ||
        (notice && p->state == RAFT_PIPELINE && p->commit_sent < r->commit)) {
        raft__send_append(r, p, false);
    }
}

/* At the end of each step of a leader. */
void raft__replicate(struct raft *r)
{
    bool notice = r->cfg.commit_at_once || r->now_ms >= r->notice_deadline;
    bool owed = false;
    for (uint32_t i = 0; i < r->peer_count; i++) {
        struct raft_peer *p = &r->peers[i];
        if (!p->up) {
            continue;
        }
        replicate_to(r, p, notice);
        owed = owed || (p->state == RAFT_PIPELINE && p->commit_sent < r->commit);
    }
    if (!owed) {
        r->notice_deadline = RAFT_NEVER;
    } else if (r->notice_deadline == RAFT_NEVER) {
        r->notice_deadline = raft__after(r, r->cfg.commit_notice_ms);
    }
}

/* Old entries the host has read from its log. */
int raft__entries_read(struct raft *r, const struct raft_event *ev)
{
    struct raft_peer *p = r->role == RAFT_LEADER ? raft__peer(r, ev->u.entries_read.peer) : NULL;
    if (p == NULL || !p->reading) {
        return RAFT_E_IGNORED;
    }
    p->reading = false;
    uint32_t count = ev->u.entries_read.count;
    const struct raft_entry *entries = ev->u.entries_read.entries;
    if (p->state != RAFT_PIPELINE || !p->up || p->next <= r->log.base) {
        return RAFT_E_IGNORED;
    }
    if (count == 0) {
        p->read_failed = true;
        p->sent_ms = r->now_ms;
        return 0;
    }
    if (entries[0].index != p->next) {
        return RAFT_E_IGNORED; /* answers an older wish; the next replicate asks anew */
    }
    uint32_t first = r->out.entry_count;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_entry *e = &entries[i];
        RAFT_ASSERT(e->index == p->next + i);
        RAFT_ASSERT(raft__log_match(r, e->index, e->term));
        RAFT_ASSERT(!e->trimmed);
        raft__reserve(r, (void **)&r->out.entries, &r->out.entry_capacity, r->out.entry_count + 1,
                      sizeof *r->out.entries);
        r->out.entries[r->out.entry_count++] = *e;
        bytes += e->size;
    }
    struct raft_message *m = append_header(r, p, p->next - 1);
    m->u.append.entry_count = count;
    r->out.message_entries[r->out.message_count - 1] = first;
    count_sent(r, p, count, bytes);
    return 0;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void handle_refusal(struct raft *r, struct raft_peer *p, const struct raft_message *m)
{
    uint64_t rejected = m->u.append_response.rejected_index;
    if (p->state == RAFT_PIPELINE && rejected > p->match && rejected < p->next) {
        raft__peer_probe(r, p);
        return;
    }
    if (p->state != RAFT_PROBE || rejected != p->next - 1 || rejected <= p->match) {
        return; /* answers something older */
    }
    /* Thesis 3.5's optimisation: skip whole terms that cannot match. */
    uint64_t hint = m->u.append_response.hint_index;
    struct raft_term hint_term = m->u.append_response.hint_term;
    uint64_t match = hint;
    if (hint > r->log.base) {
        match = raft__log_find(r, hint, hint_term);
    }
    if (match == r->log.base && r->log.base_term.v > hint_term.v) {
        match = r->log.base - 1; /* differs below our log (base > 0, since its term is): snapshot */
    }
    p->next = raft__max(raft__min(match, rejected - 1) + 1, p->match + 1);
    p->probing = false;
}

static void handle_success(struct raft *r, struct raft_peer *p, const struct raft_message *m)
{
    uint64_t verified = m->u.append_response.verified;
    p->match = raft__max(p->match, m->u.append_response.match);
    p->commit_acked = raft__max(p->commit_acked, m->u.append_response.commit);
    p->next = raft__max(p->next, p->match + 1);
    verified = raft__max(verified, p->match);
    if (p->state == RAFT_PIPELINE) {
        p->next = raft__max(p->next, verified + 1);
        raft__inflight_release(p, p->match);
    } else if (p->state == RAFT_PROBE || verified >= r->log.base) {
        p->next = verified + 1;
        raft__peer_pipeline(r, p);
    }
    raft__commit_count(r);
}

/* term = ours. */
int raft__receive_append_response(struct raft *r, const struct raft_message *m)
{
    struct raft_peer *p = r->role == RAFT_LEADER ? raft__peer(r, m->from) : NULL;
    if (p == NULL) {
        return RAFT_E_IGNORED;
    }
    if (m->u.append_response.probe > r->read_round || m->u.append_response.verified > r->log.last ||
        m->u.append_response.match > m->u.append_response.verified ||
        m->u.append_response.commit > RAFT_INDEX_MAX ||
        m->u.append_response.hint_index > RAFT_INDEX_MAX) {
        return RAFT_E_BAD_MESSAGE;
    }
    if (p->state != RAFT_SNAPSHOT) { /* there it is the chunk whose answer is waited for */
        p->sent_ms = r->now_ms;
    }
    p->read_failed = false;
    p->probe_acked = raft__max(p->probe_acked, m->u.append_response.probe);
    if (m->u.append_response.reject) {
        handle_refusal(r, p, m);
    } else {
        handle_success(r, p, m);
    }
    return 0;
}
