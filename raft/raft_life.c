/*
 * What: creating a member from its durable state, and ending it.
 *
 * Happy path: raft_new(hard state, snapshot) -> raft_restore_entry for each entry on disk ->
 * raft_start. Failure modes (a crash between a snapshot and the reset of the log): entries up to
 * the snapshot's end are dropped; if the entry at its end is of another term, all after it are void
 * too (LOG_RESET at start). Spec: thesis 3.8 (what persists), chapter 5 (snapshot and log).
 */
#include "raft_internal.h"

#include <stdlib.h>
#include <string.h>

static uint32_t or_default(uint32_t value, uint32_t standard)
{
    return value != 0 ? value : standard;
}

static void set_defaults(struct raft_config *c)
{
    c->election_min_ms = or_default(c->election_min_ms, 50);
    c->election_max_ms = or_default(c->election_max_ms, 150);
    c->commit_notice_ms = or_default(c->commit_notice_ms, 5);
    c->resend_ms = or_default(c->resend_ms, 2000);
    c->transfer_ms = or_default(c->transfer_ms, 1000);
    c->message_bytes_max = or_default(c->message_bytes_max, 256 * 1024);
    c->message_entries_max = or_default(c->message_entries_max, 1024);
    c->inflight_messages_max = or_default(c->inflight_messages_max, 64);
    if (c->inflight_bytes_max == 0) {
        c->inflight_bytes_max = UINT64_C(8) << 20;
    }
    if (c->uncommitted_bytes_max == 0) {
        c->uncommitted_bytes_max = UINT64_C(64) << 20;
    }
    c->election_max_ms =
        c->election_max_ms < c->election_min_ms ? c->election_min_ms : c->election_max_ms;
}

struct raft *raft_new(const struct raft_config *config, const struct raft_hard_state *hard_state,
                      const struct raft_snapshot_meta *snapshot, uint64_t applied)
{
    RAFT_ASSERT(!raft_id_is_zero(config->id));
    RAFT_ASSERT(config->payload.ref != NULL);
    RAFT_ASSERT(config->payload.unref != NULL);
    RAFT_ASSERT(config->payload.create != NULL);
    RAFT_ASSERT((config->heap.realloc == NULL) == (config->heap.free == NULL));
    struct raft *r = config->heap.realloc != NULL
                         ? config->heap.realloc(config->heap.ctx, NULL, sizeof *r)
                         : malloc(sizeof *r);
    RAFT_ASSERT(r != NULL);
    memset(r, 0, sizeof *r);
    r->cfg = *config;
    set_defaults(&r->cfg);
    r->random = config->seed ^ config->id.lo;
    r->election_deadline = RAFT_NEVER;
    r->notice_deadline = RAFT_NEVER;
    r->transfer_deadline = RAFT_NEVER;
    r->term = hard_state->term;
    r->vote = hard_state->vote;
    r->restore_hint = hard_state->commit;
    r->log.cache_begin = 1; /* an empty log */
    raft__log_reset(r, snapshot->index, snapshot->term);
    r->log.generation = 1;
    if (snapshot->term.v > r->term.v) {
        /* The snapshot became durable before the hard state of the term it came in. That term had a
         * leader, and a vote given in it here would have been durable before anyone heard of it: so
         * none was given. */
        r->term = snapshot->term;
        r->vote = raft__nobody();
        r->hard_dirty = true;
    }
    bool sane = snapshot->index <= RAFT_INDEX_MAX && r->term.v <= RAFT_INDEX_MAX &&
                applied >= snapshot->index && (snapshot->index == 0) == (snapshot->term.v == 0) &&
                raft__members_valid(snapshot->membership.members, snapshot->membership.count);
    r->broken = !sane;
    raft__members_push(r, snapshot->index, sane ? snapshot->membership.members : NULL,
                       sane ? snapshot->membership.count : 0);
    r->commit = snapshot->index;
    r->applying = applied;
    r->applied = applied;
    return r;
}

static bool restore_entry(struct raft *r, const struct raft_entry *e)
{
    if (e->index != r->log.last + 1 || e->term.v == 0 || e->term.v > r->term.v ||
        e->term.v < raft__log_term(r, r->log.last).v || e->index > RAFT_INDEX_MAX) {
        return false;
    }
    if (e->kind != RAFT_ENTRY_CONFIG) {
        if (e->trimmed) {
            raft__log_append_trimmed(r, e->term);
        } else {
            raft__log_append(r, e);
        }
        return true;
    }
    struct raft_member members[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    if (e->trimmed || raft_membership_decode(e->data, e->size, members, &count) != 0 ||
        count == 0) {
        return false;
    }
    raft__log_append(r, e);
    raft__members_push(r, e->index, members, count);
    return true;
}

int raft_restore_entry(struct raft *r, const struct raft_entry *entry)
{
    RAFT_ASSERT(!r->started);
    if (r->broken) {
        return RAFT_E_CORRUPT;
    }
    if (entry->index <= r->log.base) {
        /* A stored log that reaches the snapshot's end goes on behind it as it is; one that ends
         * before must begin anew. */
        r->restore_dropped = entry->index < r->log.base;
        if (entry->index == r->log.base && entry->term.v != r->log.base_term.v) {
            r->restore_discard = true;
        }
        return 0;
    }
    if (r->restore_discard) {
        return 0;
    }
    if (!restore_entry(r, entry)) {
        r->broken = true;
        return RAFT_E_CORRUPT;
    }
    return 0;
}

void raft_free(struct raft *r)
{
    if (r == NULL) {
        return;
    }
    raft__log_deinit(r);
    raft__members_clear(r);
    raft__release(r, r->configs);
    raft__peers_free(r);
    raft__release(r, r->live);
    raft__release(r, r->reads);
    raft__release(r, r->incoming.members);
    raft__release(r, r->out.messages);
    raft__release(r, r->out.message_entries);
    raft__release(r, r->out.entries);
    raft__release(r, r->out.reads);
    raft__release(r, r->out.entries_wants);
    raft__release(r, r->out.snapshot_wants);
    struct raft_heap heap = r->cfg.heap;
    if (heap.free != NULL) {
        heap.free(heap.ctx, r);
    } else {
        free(r);
    }
}
