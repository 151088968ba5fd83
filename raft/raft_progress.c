/*
 * What: what the leader knows of each other member: probe / pipeline / snapshot, in-flight limits.
 *
 * States: PROBE: the common index is searched, one append at a time. PIPELINE: appends go out ahead
 * of the answers within the in-flight limits. SNAPSHOT: the peer needs what the log no longer has.
 *   PROBE -> PIPELINE   an answer that matches
 *   PIPELINE -> PROBE   a refusal, a link reset, no answer for resend_ms
 *   any -> SNAPSHOT     next <= log base
 *   SNAPSHOT -> PIPELINE the peer has what the snapshot holds
 *
 * Invariants: P1 match < next. P2 match never falls while this member leads. P3 in-flight only in
 * PIPELINE.
 */
#include "raft_internal.h"

#include <string.h>

struct raft_peer *raft__peer(const struct raft *r, struct raft_id id)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        if (raft_id_equal(r->peers[i].id, id)) {
            return &r->peers[i];
        }
    }
    return NULL;
}

static void peer_free(struct raft *r, struct raft_peer *p)
{
    raft__release(r, p->inflight);
    p->inflight = NULL;
}

/* Makes peers[] equal to the membership in force, keeping what is known of those who stay. */
void raft__peers_reconcile(struct raft *r)
{
    const struct raft_config_point *c = raft__members(r);
    struct raft_peer *peers =
        c->count == 0 ? NULL : raft__alloc(r, c->count * sizeof(struct raft_peer));
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        if (raft_id_equal(c->members[i].id, r->cfg.id)) {
            continue;
        }
        struct raft_peer *known = raft__peer(r, c->members[i].id);
        struct raft_peer *p = &peers[count++];
        if (known != NULL) {
            *p = *known;
            known->inflight = NULL; /* moved */
        } else {
            p->id = c->members[i].id;
            p->up = raft__is_up(r, p->id);
            p->next = r->log.last + 1;
            p->sent_ms = r->now_ms;
        }
        p->role = c->members[i].role;
    }
    raft__peers_free(r);
    r->peers = peers;
    r->peer_count = count;
}

void raft__peers_free(struct raft *r)
{
    for (uint32_t i = 0; i < r->peer_count; i++) {
        peer_free(r, &r->peers[i]);
    }
    raft__release(r, r->peers);
    r->peers = NULL;
    r->peer_count = 0;
}

/* Back to searching, from what is certainly there. Everything under way counts as lost. */
void raft__peer_probe(struct raft *r, struct raft_peer *p)
{
    p->next = p->state == RAFT_PROBE ? raft__max(p->next, p->match + 1) : p->match + 1;
    p->next = raft__min(p->next, r->log.last + 1);
    p->state = RAFT_PROBE;
    p->probing = false;
    p->reading = false;
    p->read_failed = false;
    p->commit_sent = 0;
    p->commit_acked = 0;
    p->probe_sent = p->probe_acked;
    p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
    raft__inflight_clear(p);
}

void raft__peer_pipeline(struct raft *r, struct raft_peer *p)
{
    RAFT_ASSERT(p->match < p->next);
    RAFT_ASSERT(p->next <= r->log.last + 1);
    p->state = RAFT_PIPELINE;
    p->probing = false;
    p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
    p->snapshot_index = 0;
    p->snapshot_offset = 0;
    raft__inflight_clear(p);
}

void raft__peer_snapshot(struct raft_peer *p)
{
    p->state = RAFT_SNAPSHOT;
    p->probing = false;
    p->reading = false;
    p->snapshot_phase = RAFT_SNAPSHOT_IDLE;
    raft__inflight_clear(p);
}

/* Something is unanswered, so silence will have to be questioned (resend_ms). */
bool raft__peer_unsettled(const struct raft_peer *p)
{
    if (!p->up) {
        return false;
    }
    if (p->state == RAFT_SNAPSHOT) {
        return p->snapshot_phase == RAFT_SNAPSHOT_SENT || p->snapshot_phase == RAFT_SNAPSHOT_FAILED;
    }
    if (p->state == RAFT_PROBE) {
        return p->probing;
    }
    return p->read_failed || p->match + 1 < p->next || p->probe_acked < p->probe_sent ||
           p->commit_acked < raft__min(p->commit_sent, p->match);
}

void raft__inflight_push(struct raft *r, struct raft_peer *p, uint64_t last, uint64_t bytes)
{
    if (p->inflight_count == p->inflight_capacity) {
        uint32_t capacity = p->inflight_capacity == 0 ? 8 : p->inflight_capacity * 2;
        struct raft_inflight *ring = raft__alloc(r, capacity * sizeof *ring);
        for (uint32_t i = 0; i < p->inflight_count; i++) {
            ring[i] = p->inflight[(p->inflight_head + i) % p->inflight_capacity];
        }
        raft__release(r, p->inflight);
        p->inflight = ring;
        p->inflight_capacity = capacity;
        p->inflight_head = 0;
    }
    uint32_t at = (p->inflight_head + p->inflight_count) % p->inflight_capacity;
    p->inflight[at] = (struct raft_inflight){last, bytes};
    p->inflight_count++;
    p->inflight_bytes += bytes;
}

void raft__inflight_release(struct raft_peer *p, uint64_t match)
{
    while (p->inflight_count > 0 && p->inflight[p->inflight_head].last <= match) {
        p->inflight_bytes -= p->inflight[p->inflight_head].bytes;
        p->inflight_head = (p->inflight_head + 1) % p->inflight_capacity;
        p->inflight_count--;
    }
}

void raft__inflight_clear(struct raft_peer *p)
{
    p->inflight_head = 0;
    p->inflight_count = 0;
    p->inflight_bytes = 0;
}
