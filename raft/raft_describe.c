/*
 * What: ids, messages, events, updates and states as one line of text each, for golden tests,
 * traces and `why` answers. The wording is part of the golden tests: change both together. No
 * pointers, no times, no payload bytes appear.
 */
#include "raft_internal.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

struct text {
    char *buf;
    size_t size;
    size_t used; /* as if the buffer were endless */
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t left = t->used < t->size ? t->size - t->used : 0;
    int n = vsnprintf(left > 0 ? t->buf + t->used : NULL, left, format, args);
    va_end(args);
    RAFT_ASSERT(n >= 0);
    t->used += (size_t)n;
}

static struct text begin(char *buf, size_t size)
{
    if (size > 0) {
        buf[0] = '\0';
    }
    return (struct text){buf, size, 0};
}

static void put_id(struct text *t, struct raft_id id)
{
    if (raft_id_is_zero(id)) {
        put(t, "-");
    } else if (id.hi == 0) {
        put(t, "%" PRIu64, id.lo);
    } else {
        put(t, "%016" PRIx64 "%016" PRIx64, id.hi, id.lo);
    }
}

static void put_members(struct text *t, const struct raft_member *members, uint32_t count)
{
    put(t, "{");
    for (uint32_t i = 0; i < count; i++) {
        put(t, "%s", i > 0 ? " " : "");
        put_id(t, members[i].id);
        put(t, "%s", members[i].role == RAFT_LEARNER ? "~" : "");
    }
    put(t, "}");
}

static void put_entries(struct text *t, const struct raft_entry *entries, uint32_t count)
{
    put(t, "[");
    for (uint32_t i = 0; i < count; i++) {
        const struct raft_entry *e = &entries[i];
        put(t, "%s%" PRIu64 "/%" PRIu64, i > 0 ? " " : "", e->index, e->term.v);
        if (e->kind == RAFT_ENTRY_BARRIER) {
            put(t, " barrier");
        } else if (e->kind == RAFT_ENTRY_CONFIG) {
            struct raft_member members[RAFT_MEMBERS_MAX];
            uint32_t n = 0;
            put(t, " ");
            if (raft_membership_decode(e->data, e->size, members, &n) == 0) {
                put_members(t, members, n);
            } else {
                put(t, "config?");
            }
        } else {
            put(t, " %" PRIu32 "b", e->size);
        }
    }
    put(t, "]");
}

static void put_note(struct text *t, uint64_t note)
{
    if (note > 0) {
        put(t, " note=%" PRIu64, note);
    }
}

static void put_append_response(struct text *t, const struct raft_message *m)
{
    if (m->u.append_response.reject) {
        put(t, "refused %" PRIu64 " hint=%" PRIu64 "/%" PRIu64, m->u.append_response.rejected_index,
            m->u.append_response.hint_index, m->u.append_response.hint_term.v);
    } else {
        put(t, "appended match=%" PRIu64 " verified=%" PRIu64, m->u.append_response.match,
            m->u.append_response.verified);
    }
    put(t, " commit=%" PRIu64, m->u.append_response.commit);
    if (m->u.append_response.probe > 0) {
        put(t, " round=%" PRIu64, m->u.append_response.probe);
    }
}

static void put_append(struct text *t, const struct raft_message *m)
{
    put(t, "append prev=%" PRIu64 "/%" PRIu64 " commit=%" PRIu64, m->u.append.prev_index,
        m->u.append.prev_term.v, m->u.append.commit);
    if (m->u.append.probe > 0) {
        put(t, " round=%" PRIu64, m->u.append.probe);
    }
    if (m->u.append.entry_count > 0) {
        put(t, " ");
        put_entries(t, m->u.append.entries, m->u.append.entry_count);
    }
}

static void put_vote(struct text *t, const struct raft_message *m, const char *name)
{
    put(t, "%s last=%" PRIu64 "/%" PRIu64 "%s", name, m->u.vote.last_index, m->u.vote.last_term.v,
        m->u.vote.transfer ? " transfer" : "");
}

static void put_vote_response(struct text *t, const struct raft_message *m, const char *name)
{
    put(t, "%s %s for term %" PRIu64, name, m->u.vote_response.granted ? "granted" : "refused",
        m->u.vote_response.vote_term.v);
}

static void put_body(struct text *t, const struct raft_message *m)
{
    switch (m->type) {
    case RAFT_MSG_APPEND:
        put_append(t, m);
        return;
    case RAFT_MSG_APPEND_RESPONSE:
        put_append_response(t, m);
        return;
    case RAFT_MSG_PREVOTE:
        put_vote(t, m, "prevote?");
        return;
    case RAFT_MSG_PREVOTE_RESPONSE:
        put_vote_response(t, m, "prevote");
        return;
    case RAFT_MSG_VOTE:
        put_vote(t, m, "vote?");
        return;
    case RAFT_MSG_VOTE_RESPONSE:
        put_vote_response(t, m, "vote");
        return;
    case RAFT_MSG_TIMEOUT_NOW:
        put(t, "campaign now");
        return;
    case RAFT_MSG_RESIGN:
        put(t, "resign");
        return;
    case RAFT_MSG_SNAPSHOT_CHUNK:
        put(t, "snapshot %" PRIu64 "/%" PRIu64 " ", m->u.snapshot.meta.index,
            m->u.snapshot.meta.term.v);
        put_members(t, m->u.snapshot.meta.membership.members, m->u.snapshot.meta.membership.count);
        put(t, " at=%" PRIu64 " %" PRIu32 "b%s", m->u.snapshot.offset, m->u.snapshot.size,
            m->u.snapshot.done ? " done" : "");
        return;
    case RAFT_MSG_SNAPSHOT_RESPONSE:
        put(t, "snapshot %" PRIu64 " want=%" PRIu64 " match=%" PRIu64, m->u.snapshot_response.index,
            m->u.snapshot_response.offset, m->u.snapshot_response.match);
        put_note(t, m->u.snapshot_response.note);
        return;
    case RAFT_MSG_READ:
        put(t, "read? %" PRIu64, m->u.read.context);
        return;
    case RAFT_MSG_READ_RESPONSE:
        put(t, "read %" PRIu64 " %s index=%" PRIu64, m->u.read_response.context,
            m->u.read_response.ok ? "ok" : "failed", m->u.read_response.index);
        return;
    }
    put(t, "unknown message");
}

static void put_message(struct text *t, const struct raft_message *m)
{
    put_id(t, m->from);
    put(t, ">");
    put_id(t, m->to);
    put(t, " t%" PRIu64 " ", m->term.v);
    put_body(t, m);
}

int raft_describe_id(struct raft_id id, char *buf, size_t size)
{
    struct text t = begin(buf, size);
    put_id(&t, id);
    return (int)t.used;
}

int raft_describe_message(const struct raft_message *m, char *buf, size_t size)
{
    struct text t = begin(buf, size);
    put_message(&t, m);
    return (int)t.used;
}

static void put_named(struct text *t, const char *name, struct raft_id id)
{
    put(t, "%s ", name);
    put_id(t, id);
}

static const char *change_name(enum raft_change_type type)
{
    static const char *const names[] = {"?", "add learner", "promote", "demote", "remove"};
    return type >= RAFT_CHANGE_ADD_LEARNER && type <= RAFT_CHANGE_REMOVE ? names[type] : names[0];
}

static void put_host_event(struct text *t, const struct raft_event *ev)
{
    switch (ev->type) {
    case RAFT_EVENT_COMPACTED:
        put(t, "compacted %" PRIu64, ev->u.index);
        return;
    case RAFT_EVENT_TRIM:
        put(t, "trim %" PRIu64, ev->u.index);
        return;
    case RAFT_EVENT_ENTRIES_READ:
        put_named(t, "entries read for", ev->u.entries_read.peer);
        put(t, " %" PRIu32, ev->u.entries_read.count);
        return;
    case RAFT_EVENT_SNAPSHOT_CHUNK:
        put_named(t, "chunk for", ev->u.chunk.peer);
        put(t, " of %" PRIu64 " at=%" PRIu64 " %" PRIu32 "b%s", ev->u.chunk.meta.index,
            ev->u.chunk.offset, ev->u.chunk.size, ev->u.chunk.done ? " done" : "");
        return;
    case RAFT_EVENT_SNAPSHOT_FAILED:
        put_named(t, "no chunk for", ev->u.peer);
        return;
    case RAFT_EVENT_SNAPSHOT_STORED:
        put(t, "chunk stored %" PRIu64 " to=%" PRIu64, ev->u.stored.index, ev->u.stored.offset);
        put_note(t, ev->u.stored.note);
        return;
    case RAFT_EVENT_SNAPSHOT_INSTALLED:
        put(t, "snapshot installed %" PRIu64, ev->u.index);
        return;
    case RAFT_EVENT_SNAPSHOT_REFUSED:
        put(t, "snapshot refused %" PRIu64, ev->u.index);
        return;
    case RAFT_EVENT_FORCE_SOLE:
        put(t, "force sole");
        return;
    case RAFT_EVENT_ABSTAIN:
        put(t, "abstain");
        return;
    case RAFT_EVENT_TICK:
    case RAFT_EVENT_RECEIVE:
    case RAFT_EVENT_PROPOSE:
    case RAFT_EVENT_PERSISTED:
    case RAFT_EVENT_HARD_STATE_PERSISTED:
    case RAFT_EVENT_APPLIED:
    case RAFT_EVENT_PEER_UP:
    case RAFT_EVENT_PEER_DOWN:
    case RAFT_EVENT_TRANSFER:
    case RAFT_EVENT_CHANGE:
    case RAFT_EVENT_READ_INDEX:
        break;
    }
    put(t, "unknown event");
}

int raft_describe_event(const struct raft_event *ev, char *buf, size_t size)
{
    struct text t = begin(buf, size);
    switch (ev->type) {
    case RAFT_EVENT_TICK:
        put(&t, "tick");
        break;
    case RAFT_EVENT_RECEIVE:
        put(&t, "receive ");
        put_message(&t, ev->u.message);
        break;
    case RAFT_EVENT_PROPOSE:
        put(&t, "propose %" PRIu32 " in t%" PRIu64, ev->u.propose.count, ev->u.propose.term.v);
        break;
    case RAFT_EVENT_PERSISTED:
        put(&t, "persisted %" PRIu64 "/%" PRIu64 " g%" PRIu64, ev->u.persisted.index,
            ev->u.persisted.term.v, ev->u.persisted.generation);
        break;
    case RAFT_EVENT_HARD_STATE_PERSISTED:
        put(&t, "hard state persisted h%" PRIu64, ev->u.hard_state_generation);
        break;
    case RAFT_EVENT_APPLIED:
        put(&t, "applied %" PRIu64, ev->u.index);
        break;
    case RAFT_EVENT_PEER_UP:
        put_named(&t, "up", ev->u.peer);
        break;
    case RAFT_EVENT_PEER_DOWN:
        put_named(&t, "down", ev->u.peer);
        break;
    case RAFT_EVENT_TRANSFER:
        put_named(&t, "transfer to", ev->u.peer);
        break;
    case RAFT_EVENT_CHANGE:
        put_named(&t, change_name(ev->u.change.type), ev->u.change.member);
        break;
    case RAFT_EVENT_READ_INDEX:
        put(&t, "read %" PRIu64, ev->u.context);
        break;
    case RAFT_EVENT_COMPACTED:
    case RAFT_EVENT_TRIM:
    case RAFT_EVENT_ENTRIES_READ:
    case RAFT_EVENT_SNAPSHOT_CHUNK:
    case RAFT_EVENT_SNAPSHOT_FAILED:
    case RAFT_EVENT_SNAPSHOT_STORED:
    case RAFT_EVENT_SNAPSHOT_INSTALLED:
    case RAFT_EVENT_SNAPSHOT_REFUSED:
    case RAFT_EVENT_FORCE_SOLE:
    case RAFT_EVENT_ABSTAIN:
        put_host_event(&t, ev);
        break;
    }
    return (int)t.used;
}

static void put_log_work(struct text *t, const struct raft_update *u)
{
    if ((u->flags & RAFT_UPDATE_LOG_RESET) != 0) {
        put(t, " reset-log begin=%" PRIu64, u->log_begin);
    }
    if ((u->flags & RAFT_UPDATE_TRUNCATE) != 0) {
        put(t, " truncate-from=%" PRIu64, u->truncate_from);
    }
    if ((u->flags & RAFT_UPDATE_HARD_STATE) != 0) {
        put(t, " h%" PRIu64 "{t%" PRIu64 " vote=", u->hard_state_generation, u->hard_state.term.v);
        put_id(t, u->hard_state.vote);
        put(t, "}");
    }
    if (u->entry_count > 0) {
        put(t, " g%" PRIu64, u->generation);
        put_entries(t, u->entries, u->entry_count);
    }
}

/* Without the messages: they are described one by one. */
int raft_describe_update(const struct raft_update *u, char *buf, size_t size)
{
    struct text t = begin(buf, size);
    put(&t, "update");
    if ((u->flags & RAFT_UPDATE_SNAPSHOT_ABORT) != 0) {
        put(&t, " abort-snapshot");
    }
    put_log_work(&t, u);
    if ((u->flags & RAFT_UPDATE_APPLY) != 0) {
        put(&t, " apply=%" PRIu64 "..%" PRIu64, u->apply_begin, u->apply_end - 1);
    }
    if (u->snapshot_chunk != NULL) {
        put(&t, " store-chunk at=%" PRIu64 "%s", u->snapshot_chunk->u.snapshot.offset,
            u->snapshot_chunk->u.snapshot.done ? " done" : "");
    }
    for (uint32_t i = 0; i < u->snapshot_want_count; i++) {
        put(&t, " want-chunk(");
        put_id(&t, u->snapshot_wants[i].peer);
        put(&t, " %" PRIu64 " at=%" PRIu64, u->snapshot_wants[i].index,
            u->snapshot_wants[i].offset);
        put_note(&t, u->snapshot_wants[i].note);
        put(&t, ")");
    }
    for (uint32_t i = 0; i < u->entries_want_count; i++) {
        put(&t, " want-entries(");
        put_id(&t, u->entries_wants[i].peer);
        put(&t, " %" PRIu64 "..%" PRIu64 ")", u->entries_wants[i].begin,
            u->entries_wants[i].end - 1);
    }
    for (uint32_t i = 0; i < u->read_count; i++) {
        put(&t, " read(%" PRIu64 " %s index=%" PRIu64 ")", u->reads[i].context,
            u->reads[i].status == 0 ? "ok" : "failed", u->reads[i].index);
    }
    put(&t, "%s", (u->flags & RAFT_UPDATE_TRANSFER_ENDED) != 0 ? " transfer-ended" : "");
    return (int)t.used;
}

int raft_describe_state(const struct raft *r, char *buf, size_t size)
{
    static const char *const roles[] = {"follower", "pre-candidate", "candidate", "leader"};
    static const char *const states[] = {"probe", "pipeline", "snapshot"};
    struct text t = begin(buf, size);
    put_id(&t, r->cfg.id);
    put(&t, " %s t%" PRIu64 " leader=", roles[r->role], r->term.v);
    put_id(&t, r->leader);
    put(&t, " log=%" PRIu64 "..%" PRIu64 "/%" PRIu64 " persisted=%" PRIu64 " commit=%" PRIu64 " ",
        r->log.base + 1, r->log.last, raft__log_term(r, r->log.last).v, r->log.persisted,
        r->commit);
    const struct raft_config_point *c = raft__members(r);
    put_members(&t, c->members, c->count);
    for (uint32_t i = 0; i < r->peer_count; i++) {
        const struct raft_peer *p = &r->peers[i];
        put(&t, " ");
        put_id(&t, p->id);
        put(&t, ":%s%s match=%" PRIu64 " next=%" PRIu64, states[p->state], p->up ? "" : "(down)",
            p->match, p->next);
    }
    return (int)t.used;
}
