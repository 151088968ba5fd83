/* See cluster.h. This file: life, links, and what drives the members. The oracles are in oracle.c.
 */
#include "cluster_internal.h"
#include "oracle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void sim_fail(struct sim *s, const char *what)
{
    fprintf(stderr, "raft simulation failed: %s (seed %" PRIu64 ", step %" PRIu64 ")\n", what,
            s->seed, s->steps);
    for (uint64_t i = 1; i < SIM_NODES; i++) {
        if (s->nodes[i].alive && s->nodes[i].raft != NULL) {
            char text[1024];
            raft_describe_state(s->nodes[i].raft, text, sizeof text);
            fprintf(stderr, "  %s\n", text);
        }
    }
    abort();
}

uint64_t sim_random(struct sim *s, uint64_t bound)
{
    s->random += 0x9e3779b97f4a7c15u;
    uint64_t z = s->random;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return (z ^ (z >> 31)) % bound;
}

bool sim_chance(struct sim *s, uint32_t percent)
{
    return sim_random(s, 100) < percent;
}

/* ---- life ------------------------------------------------------------------------------------ */

static uint64_t at_once(struct sim *s, uint64_t a, uint64_t b)
{
    (void)a;
    (void)b;
    return s->now_ms;
}

static uint64_t at_once_disk(struct sim *s, uint64_t a)
{
    (void)a;
    return s->now_ms;
}

struct sim *sim_new(uint64_t seed)
{
    struct sim *s = calloc(1, sizeof *s);
    s->seed = seed;
    s->random = seed;
    s->now_ms = 1000;
    s->chunk_bytes = 7;
    s->message_at = at_once;
    s->disk_at = at_once_disk;
    s->answer_snapshots = true;
    return s;
}

static void op_free(struct sim_op *op)
{
    sim__log_free(&op->entries);
}

static void ops_drop(struct sim_node *n, uint32_t first, uint32_t count)
{
    for (uint32_t i = first; i < first + count; i++) {
        op_free(&n->ops[i]);
    }
    memmove(n->ops + first, n->ops + first + count, (n->op_count - first - count) * sizeof *n->ops);
    n->op_count -= count;
}

void sim_free(struct sim *s)
{
    for (uint32_t i = 0; i < SIM_NODES; i++) {
        struct sim_node *n = &s->nodes[i];
        raft_free(n->raft);
        ops_drop(n, 0, n->op_count);
        sim__log_free(&n->log);
        sim__log_free(&n->disk.log);
    }
    while (s->message_count > 0) {
        sim_drop(s, s->message_count - 1);
    }
    SIM_CHECK(s, s->blobs == 0);
    free(s->messages);
    free(s->committed);
    free(s->term_leader);
    free(s);
}

void sim_create(struct sim *s, uint64_t id, const struct raft_member *members, uint32_t count)
{
    struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, !n->exists);
    n->exists = true;
    n->disk.base_count = count;
    if (count > 0) {
        memcpy(n->disk.base_members, members, count * sizeof *members);
    }
    sim_restart(s, id);
}

void sim_create_voters(struct sim *s, uint32_t count)
{
    struct raft_member members[SIM_NODES];
    for (uint32_t i = 0; i < count; i++) {
        members[i] = (struct raft_member){sim_id(i + 1), RAFT_VOTER};
    }
    for (uint32_t i = 0; i < count; i++) {
        sim_create(s, i + 1, members, count);
    }
}

static void apply_op(struct sim *s, uint64_t id, struct sim_op *op)
{
    struct sim_disk *d = &s->nodes[id].disk;
    switch (op->kind) {
    case SIM_OP_RESET:
        sim__log_cut_from(&d->log, 0);
        break;
    case SIM_OP_TRUNCATE:
        sim__log_cut_from(&d->log, op->from);
        break;
    case SIM_OP_HARD:
        SIM_CHECK(s, op->hard.term.v >= d->hard.term.v);
        d->hard = op->hard;
        break;
    case SIM_OP_ENTRIES:
        for (uint32_t i = 0; i < op->entries.count; i++) {
            const struct sim_entry *e = &op->entries.entries[i];
            if (e->index <= d->base_index) {
                continue; /* compacted or installed over while in flight */
            }
            SIM_CHECK(s,
                      d->log.count == 0 || d->log.entries[d->log.count - 1].index + 1 == e->index);
            sim__log_push(&d->log, e);
        }
        break;
    }
}

void sim_crash(struct sim *s, uint64_t id, uint32_t kept)
{
    struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, n->alive);
    for (uint32_t i = 0; i < n->op_count && i < kept; i++) {
        apply_op(s, id, &n->ops[i]);
    }
    ops_drop(n, 0, n->op_count);
    raft_free(n->raft);
    n->raft = NULL;
    n->alive = false;
    n->was_leader = false;
    n->installing = 0;
    sim__log_free(&n->log);
    memset(n->seen_up, 0, sizeof n->seen_up);
    for (uint64_t i = 1; i < SIM_NODES; i++) {
        s->link_epoch[id][i]++;
        s->link_epoch[i][id]++;
    }
}

void sim_restart(struct sim *s, uint64_t id)
{
    struct sim_node *n = &s->nodes[id];
    struct sim_disk *d = &n->disk;
    SIM_CHECK(s, n->exists && !n->alive);
    struct raft_config cfg = s->cfg;
    cfg.id = sim_id(id);
    cfg.seed = sim_random(s, UINT32_MAX);
    cfg.payload = sim__payload_ops(s);
    struct raft_snapshot_meta meta = {
        d->base_index, d->base_term, {d->base_count, d->base_members}};
    n->raft = raft_new(&cfg, &d->hard, &meta, d->machine_index);
    uint64_t trim_to = 0;
    if (d->log.count > 0 && sim_chance(s, s->trim_percent)) {
        trim_to = d->log.entries[0].index + sim_random(s, d->log.count + 1);
    }
    for (uint32_t i = 0; i < d->log.count; i++) {
        struct raft_entry e = sim__as_raft(&d->log.entries[i]);
        if (e.index < trim_to && e.kind != RAFT_ENTRY_CONFIG) {
            e.trimmed = true;
            e.data = NULL;
            e.owner = NULL;
            e.size = 0;
        }
        int err = raft_restore_entry(n->raft, &e);
        SIM_CHECK(s, err == 0);
    }
    for (uint32_t i = 0; i < d->log.count; i++) {
        if (d->log.entries[i].index > d->base_index) {
            sim__log_push(&n->log, &d->log.entries[i]);
        }
    }
    n->alive = true;
    n->machine_index = d->machine_index;
    n->machine_hash = d->machine_hash;
    n->seen_commit = 0;
    n->stream_size = 0;
    struct raft_update u;
    int err = raft_start(n->raft, s->now_ms, &u);
    SIM_CHECK(s, err == 0);
    sim__process(s, id, &u);
}

/* ---- links ----------------------------------------------------------------------------------- */

/* As if encoded and decoded: the receiver's copy shares nothing with the sender's. */
static void message_copy(struct sim *s, struct sim_message *to, const struct raft_message *m)
{
    memset(to, 0, sizeof *to);
    to->m = *m;
    if (m->type == RAFT_MSG_APPEND && m->u.append.entry_count > 0) {
        to->entries = calloc(m->u.append.entry_count, sizeof *to->entries);
        for (uint32_t i = 0; i < m->u.append.entry_count; i++) {
            struct raft_entry *e = &to->entries[i];
            *e = m->u.append.entries[i];
            struct blob *b = sim__blob_new(s, e->data, e->size);
            e->data = b->bytes;
            e->owner = b;
        }
        to->m.u.append.entries = to->entries;
    }
    if (m->type == RAFT_MSG_SNAPSHOT_CHUNK) {
        uint32_t count = m->u.snapshot.meta.membership.count;
        to->members = calloc(count, sizeof *to->members);
        memcpy(to->members, m->u.snapshot.meta.membership.members, count * sizeof *to->members);
        to->m.u.snapshot.meta.membership.members = to->members;
        to->chunk = sim__blob_new(s, m->u.snapshot.data, m->u.snapshot.size);
        to->m.u.snapshot.data = to->chunk->bytes;
        to->m.u.snapshot.owner = to->chunk;
    }
}

static void message_free(struct sim_message *m)
{
    for (uint32_t i = 0; m->entries != NULL && i < m->m.u.append.entry_count; i++) {
        sim__blob_unref(NULL, m->entries[i].owner);
    }
    free(m->entries);
    free(m->members);
    if (m->chunk != NULL) {
        sim__blob_unref(NULL, m->chunk);
    }
}

void sim__message_add(struct sim *s, const struct raft_message *m)
{
    if (s->message_count == s->message_capacity) {
        s->message_capacity = s->message_capacity == 0 ? 64 : s->message_capacity * 2;
        s->messages = realloc(s->messages, s->message_capacity * sizeof *s->messages);
    }
    struct sim_message *to = &s->messages[s->message_count++];
    message_copy(s, to, m);
    to->at = s->message_at(s, m->from.lo, m->to.lo);
    uint64_t *last = &s->link_last[m->from.lo][m->to.lo];
    if (s->ordered_links && to->at < *last) {
        to->at = *last;
    }
    *last = to->at;
    to->epoch = s->link_epoch[m->from.lo][m->to.lo];
}

void sim_drop(struct sim *s, uint32_t i)
{
    message_free(&s->messages[i]);
    memmove(s->messages + i, s->messages + i + 1, (s->message_count - i - 1) * sizeof *s->messages);
    s->message_count--;
}

void sim_duplicate(struct sim *s, uint32_t i)
{
    struct raft_message m = s->messages[i].m;
    sim__message_add(s, &m);
}

void sim_deliver(struct sim *s, uint32_t i)
{
    struct sim_message m = s->messages[i];
    memmove(s->messages + i, s->messages + i + 1, (s->message_count - i - 1) * sizeof *s->messages);
    s->message_count--;
    uint64_t to = m.m.to.lo;
    if (s->nodes[to].alive && !s->cut[m.m.from.lo][to]) {
        struct raft_event ev = {.type = RAFT_EVENT_RECEIVE, .u.message = &m.m};
        int err = sim_step(s, to, ev);
        SIM_CHECK(s, err == 0 || err == RAFT_E_IGNORED);
    }
    message_free(&m);
}

bool sim_deliver_one(struct sim *s, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < s->message_count; i++) {
        const struct raft_message *m = &s->messages[i].m;
        if ((from == 0 || m->from.lo == from) && (to == 0 || m->to.lo == to)) {
            sim_deliver(s, i);
            return true;
        }
    }
    return false;
}

void sim_drop_all(struct sim *s, uint64_t from, uint64_t to)
{
    for (uint32_t i = s->message_count; i > 0; i--) {
        const struct raft_message *m = &s->messages[i - 1].m;
        if ((from == 0 || m->from.lo == from) && (to == 0 || m->to.lo == to)) {
            sim_drop(s, i - 1);
        }
    }
}

int sim_step(struct sim *s, uint64_t id, struct raft_event ev)
{
    struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, n->alive);
    s->steps++;
    ev.now_ms = s->now_ms;
    if (s->trace != NULL && ev.type != RAFT_EVENT_APPLIED) {
        char text[4096];
        raft_describe_event(&ev, text, sizeof text);
        fprintf(s->trace, "%" PRIu64 "< %s\n", id, text);
    }
    struct raft_update u;
    int err = raft_step(n->raft, &ev, &u);
    if (s->trace != NULL && err != 0 && err != RAFT_E_IGNORED) {
        fprintf(s->trace, "%" PRIu64 ": error: %s\n", id, raft_strerror(err));
    }
    if (ev.type == RAFT_EVENT_SNAPSHOT_INSTALLED) {
        sim__log_cut_to(&n->log, ev.u.index);
        sim__log_cut_to(&n->disk.log, (u.flags & RAFT_UPDATE_LOG_RESET) != 0 ? 0 : ev.u.index);
    }
    if (ev.type == RAFT_EVENT_COMPACTED && err == 0) {
        sim__log_cut_to(&n->log, ev.u.index);
        sim__log_cut_to(&n->disk.log, ev.u.index);
    }
    sim__process(s, id, &u);
    return err;
}

int sim_tick(struct sim *s, uint64_t id)
{
    return sim_step(s, id, (struct raft_event){.type = RAFT_EVENT_TICK});
}

int sim_propose(struct sim *s, uint64_t id, const char *text)
{
    struct blob *b = sim__blob_new(s, (const uint8_t *)text, (uint32_t)strlen(text));
    struct raft_entry e = {.size = b->size, .data = b->bytes, .owner = b};
    struct raft_event ev = {.type = RAFT_EVENT_PROPOSE};
    ev.u.propose.term = raft_term(s->nodes[id].raft);
    ev.u.propose.count = 1;
    ev.u.propose.entries = &e;
    int err = sim_step(s, id, ev);
    sim__blob_unref(NULL, b);
    return err;
}

int sim_change(struct sim *s, uint64_t id, enum raft_change_type type, uint64_t member)
{
    struct raft_event ev = {.type = RAFT_EVENT_CHANGE};
    ev.u.change.type = type;
    ev.u.change.member = sim_id(member);
    return sim_step(s, id, ev);
}

void sim_peer(struct sim *s, uint64_t id, uint64_t peer, bool up)
{
    struct raft_event ev = {.type = up ? RAFT_EVENT_PEER_UP : RAFT_EVENT_PEER_DOWN};
    ev.u.peer = sim_id(peer);
    s->nodes[id].seen_up[peer] = up;
    SIM_CHECK(s, sim_step(s, id, ev) == 0);
}

void sim_all_up(struct sim *s)
{
    for (uint64_t a = 1; a < SIM_NODES; a++) {
        for (uint64_t b = 1; b < SIM_NODES; b++) {
            if (a != b && s->nodes[a].alive && s->nodes[b].alive && !s->nodes[a].seen_up[b]) {
                sim_peer(s, a, b, true);
            }
        }
    }
}

void sim_disk(struct sim *s, uint64_t id, uint32_t count, bool merge)
{
    struct sim_node *n = &s->nodes[id];
    struct raft_event hard = {.type = RAFT_EVENT_TICK};
    struct raft_event entries = {.type = RAFT_EVENT_TICK};
    for (uint32_t i = 0; i < count && n->alive && n->op_count > 0; i++) {
        struct sim_op op = n->ops[0];
        apply_op(s, id, &op);
        if (op.kind == SIM_OP_HARD) {
            hard.type = RAFT_EVENT_HARD_STATE_PERSISTED;
            hard.u.hard_state_generation = op.generation;
        } else if (op.kind == SIM_OP_ENTRIES) {
            const struct sim_entry *last = &op.entries.entries[op.entries.count - 1];
            entries.type = RAFT_EVENT_PERSISTED;
            entries.u.persisted.term = last->term;
            entries.u.persisted.index = last->index;
            entries.u.persisted.generation = op.generation;
        }
        ops_drop(n, 0, 1);
        bool last = i + 1 == count || n->op_count == 0;
        if ((!merge || last) && hard.type != RAFT_EVENT_TICK) {
            (void)sim_step(s, id, hard);
            hard.type = RAFT_EVENT_TICK;
        }
        if ((!merge || last) && n->alive && entries.type != RAFT_EVENT_TICK) {
            (void)sim_step(s, id, entries);
            entries.type = RAFT_EVENT_TICK;
        }
        if (merge && last) {
            break;
        }
    }
}

/* The machine's checkpoint at `machine`, the log's start after `base`; both durable at once. */
void sim_compact(struct sim *s, uint64_t id, uint64_t base, uint64_t machine)
{
    struct sim_node *n = &s->nodes[id];
    struct raft_snapshot_meta meta;
    SIM_CHECK(s, machine == n->machine_index && base <= machine);
    if (n->installing > 0 || raft_snapshot_meta(n->raft, base, &meta) != 0) {
        return;
    }
    n->disk.machine_index = machine;
    n->disk.machine_hash = n->machine_hash;
    n->disk.base_index = base;
    n->disk.base_term = meta.term;
    n->disk.base_count = meta.membership.count;
    memcpy(n->disk.base_members, meta.membership.members,
           meta.membership.count * sizeof *meta.membership.members);
    struct raft_event ev = {.type = RAFT_EVENT_COMPACTED, .u.index = base};
    (void)sim_step(s, id, ev);
}

struct raft *sim_raft(struct sim *s, uint64_t id)
{
    SIM_CHECK(s, s->nodes[id].alive);
    return s->nodes[id].raft;
}

uint64_t sim_leader(const struct sim *s)
{
    uint64_t best = 0;
    for (uint64_t i = 1; i < SIM_NODES; i++) {
        const struct sim_node *n = &s->nodes[i];
        if (n->alive && raft_role(n->raft) == RAFT_LEADER &&
            (best == 0 || raft_term(n->raft).v > raft_term(s->nodes[best].raft).v)) {
            best = i;
        }
    }
    return best;
}

static bool settle_once(struct sim *s)
{
    for (uint64_t i = 1; i < SIM_NODES; i++) {
        if (s->nodes[i].alive && s->nodes[i].op_count > 0) {
            sim_disk(s, i, s->nodes[i].op_count, false);
            return true;
        }
        if (s->nodes[i].alive && s->nodes[i].installing > 0) {
            sim_install_done(s, i);
            return true;
        }
    }
    return sim_deliver_one(s, 0, 0);
}

void sim_settle(struct sim *s, uint64_t ms)
{
    uint64_t end = s->now_ms + ms;
    for (;;) {
        while (settle_once(s)) {
        }
        uint64_t next = UINT64_MAX;
        uint64_t who = 0;
        for (uint64_t i = 1; i < SIM_NODES; i++) {
            if (s->nodes[i].alive && raft_deadline(s->nodes[i].raft) < next) {
                next = raft_deadline(s->nodes[i].raft);
                who = i;
            }
        }
        if (who == 0 || next > end) {
            break;
        }
        s->now_ms = next > s->now_ms ? next : s->now_ms;
        (void)sim_tick(s, who);
    }
    s->now_ms = end;
}

uint64_t sim_elect(struct sim *s)
{
    for (int i = 0; i < 100; i++) {
        sim_settle(s, 100);
        uint64_t leader = sim_leader(s);
        if (leader != 0 && raft_is_ready(s->nodes[leader].raft)) {
            return leader;
        }
    }
    sim_fail(s, "a leader is elected");
    return 0;
}
