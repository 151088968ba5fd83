/* See cluster.h. This file: hosts, disks, links. The oracles are in oracle.c. */
#include "cluster.h"
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

/* ---- payloads -------------------------------------------------------------------------------- */

static struct blob *blob_new(struct sim *s, const uint8_t *bytes, uint32_t size)
{
    struct blob *b = malloc(sizeof *b + size);
    b->sim = s;
    b->refs = 1;
    b->size = size;
    if (size > 0) {
        memcpy(b->bytes, bytes, size);
    }
    s->blobs++;
    return b;
}

static void blob_ref(void *ctx, void *owner)
{
    (void)ctx;
    ((struct blob *)owner)->refs++;
}

static void blob_unref(void *ctx, void *owner)
{
    (void)ctx;
    struct blob *b = owner;
    SIM_CHECK(b->sim, b->refs > 0);
    if (--b->refs == 0) {
        b->sim->blobs--;
        free(b);
    }
}

static void *blob_create(void *ctx, const uint8_t *bytes, uint32_t size, const uint8_t **ret_data)
{
    struct blob *b = blob_new(ctx, bytes, size);
    *ret_data = b->bytes;
    return b;
}

/* ---- logs ------------------------------------------------------------------------------------ */

static void log_push(struct sim_log *l, const struct sim_entry *e)
{
    if (l->count == l->capacity) {
        l->capacity = l->capacity == 0 ? 16 : l->capacity * 2;
        l->entries = realloc(l->entries, l->capacity * sizeof *l->entries);
    }
    l->entries[l->count++] = *e;
    if (e->blob != NULL) {
        e->blob->refs++;
    }
}

static void entry_release(struct sim_entry *e)
{
    if (e->blob != NULL) {
        blob_unref(NULL, e->blob);
    }
}

static void log_cut_from(struct sim_log *l, uint64_t from)
{
    while (l->count > 0 && l->entries[l->count - 1].index >= from) {
        entry_release(&l->entries[--l->count]);
    }
}

static void log_cut_to(struct sim_log *l, uint64_t index)
{
    uint32_t n = 0;
    while (n < l->count && l->entries[n].index <= index) {
        entry_release(&l->entries[n++]);
    }
    if (n > 0) {
        memmove(l->entries, l->entries + n, (l->count - n) * sizeof *l->entries);
        l->count -= n;
    }
}

static void log_free(struct sim_log *l)
{
    log_cut_from(l, 0);
    free(l->entries);
    *l = (struct sim_log){0};
}

const struct sim_entry *sim_log_find(const struct sim_log *l, uint64_t index)
{
    if (l->count == 0 || index < l->entries[0].index || index > l->entries[l->count - 1].index) {
        return NULL;
    }
    return &l->entries[index - l->entries[0].index];
}

static struct raft_entry as_raft(const struct sim_entry *e)
{
    return (struct raft_entry){
        .term = e->term,
        .index = e->index,
        .kind = e->kind,
        .size = e->blob != NULL ? e->blob->size : 0,
        .data = e->blob != NULL ? e->blob->bytes : NULL,
        .owner = e->blob,
    };
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
    log_free(&op->entries);
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
        log_free(&n->log);
        log_free(&n->disk.log);
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

static void process(struct sim *s, uint64_t id, const struct raft_update *u);

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
        log_cut_from(&d->log, 0);
        break;
    case SIM_OP_TRUNCATE:
        log_cut_from(&d->log, op->from);
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
            log_push(&d->log, e);
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
    log_free(&n->log);
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
    cfg.payload = (struct raft_payload_ops){blob_ref, blob_unref, blob_create, s};
    struct raft_snapshot_meta meta = {
        d->base_index, d->base_term, {d->base_count, d->base_members}};
    n->raft = raft_new(&cfg, &d->hard, &meta, d->machine_index);
    uint64_t trim_to = 0;
    if (d->log.count > 0 && sim_chance(s, s->trim_percent)) {
        trim_to = d->log.entries[0].index + sim_random(s, d->log.count + 1);
    }
    for (uint32_t i = 0; i < d->log.count; i++) {
        struct raft_entry e = as_raft(&d->log.entries[i]);
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
            log_push(&n->log, &d->log.entries[i]);
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
    process(s, id, &u);
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
            struct blob *b = blob_new(s, e->data, e->size);
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
        to->chunk = blob_new(s, m->u.snapshot.data, m->u.snapshot.size);
        to->m.u.snapshot.data = to->chunk->bytes;
        to->m.u.snapshot.owner = to->chunk;
    }
}

static void message_free(struct sim_message *m)
{
    for (uint32_t i = 0; m->entries != NULL && i < m->m.u.append.entry_count; i++) {
        blob_unref(NULL, m->entries[i].owner);
    }
    free(m->entries);
    free(m->members);
    if (m->chunk != NULL) {
        blob_unref(NULL, m->chunk);
    }
}

static void message_add(struct sim *s, const struct raft_message *m)
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
    message_add(s, &m);
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

/* ---- the host's part of a turn --------------------------------------------------------------- */

static struct sim_op *op_add(struct sim *s, uint64_t id, enum sim_op_kind kind)
{
    struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, n->op_count < sizeof n->ops / sizeof n->ops[0]);
    struct sim_op *op = &n->ops[n->op_count++];
    memset(op, 0, sizeof *op);
    op->kind = kind;
    op->at = s->disk_at(s, id);
    if (n->op_count > 1 && n->ops[n->op_count - 2].at > op->at) {
        op->at = n->ops[n->op_count - 2].at;
    }
    return op;
}

static void take_log_work(struct sim *s, uint64_t id, const struct raft_update *u)
{
    struct sim_node *n = &s->nodes[id];
    if ((u->flags & RAFT_UPDATE_LOG_RESET) != 0) {
        (void)op_add(s, id, SIM_OP_RESET);
        log_cut_from(&n->log, 0);
    }
    if ((u->flags & RAFT_UPDATE_TRUNCATE) != 0) {
        op_add(s, id, SIM_OP_TRUNCATE)->from = u->truncate_from;
        log_cut_from(&n->log, u->truncate_from);
    }
    if ((u->flags & RAFT_UPDATE_HARD_STATE) != 0) {
        struct sim_op *op = op_add(s, id, SIM_OP_HARD);
        op->hard = u->hard_state;
        op->generation = u->hard_state_generation;
    }
    if (u->entry_count > 0) {
        struct sim_op *op = op_add(s, id, SIM_OP_ENTRIES);
        op->generation = u->generation;
        for (uint32_t i = 0; i < u->entry_count; i++) {
            const struct raft_entry *e = &u->entries[i];
            struct sim_entry copy = {e->term, e->index, e->kind, e->owner};
            SIM_CHECK(s, n->log.count == 0
                             ? e->index == raft_first_index(n->raft)
                             : n->log.entries[n->log.count - 1].index + 1 == e->index);
            log_push(&n->log, &copy);
            log_push(&op->entries, &copy);
        }
    }
}

static void apply(struct sim *s, uint64_t id, uint64_t begin, uint64_t end)
{
    struct sim_node *n = &s->nodes[id];
    for (uint64_t i = begin; i < end; i++) {
        SIM_CHECK(s, i == n->machine_index + 1);
        const struct sim_entry *e = sim_log_find(&n->log, i);
        SIM_CHECK(s, e != NULL);
        const struct raft_entry *cached = raft_log_entry(n->raft, i);
        SIM_CHECK(s, cached == NULL || (cached->term.v == e->term.v && cached->owner == e->blob));
        oracle_applied(s, id, e);
    }
}

/* What a host that has stored so much of a snapshot says to the sender. */
static uint64_t note_at(uint64_t index, uint64_t offset)
{
    return index * 100 + offset;
}

static void answer_snapshot_want(struct sim *s, uint64_t id, const struct raft_snapshot_want *w)
{
    struct sim_node *n = &s->nodes[id];
    struct raft_event ev = {.type = RAFT_EVENT_SNAPSHOT_FAILED, .u.peer = w->peer};
    struct raft_snapshot_meta meta;
    uint8_t stream[16];
    uint64_t index = n->disk.machine_index;
    SIM_CHECK(s, w->note == (w->index == 0 || w->offset == 0 ? 0 : note_at(w->index, w->offset)));
    if (raft_snapshot_meta(n->raft, index, &meta) == 0 && index >= w->min_index) {
        memcpy(stream, &index, 8);
        memcpy(stream + 8, &n->disk.machine_hash, 8);
        uint64_t offset = w->index == index && w->offset < sizeof stream ? w->offset : 0;
        uint64_t size = sizeof stream - offset;
        size = size > s->chunk_bytes ? s->chunk_bytes : size;
        ev.type = RAFT_EVENT_SNAPSHOT_CHUNK;
        ev.u.chunk.peer = w->peer;
        ev.u.chunk.meta = meta;
        ev.u.chunk.offset = offset;
        ev.u.chunk.size = (uint32_t)size;
        ev.u.chunk.data = stream + offset;
        ev.u.chunk.done = offset + size == sizeof stream;
    }
    (void)sim_step(s, id, ev);
}

static void answer_entries_want(struct sim *s, uint64_t id, const struct raft_entries_want *w)
{
    struct sim_node *n = &s->nodes[id];
    struct raft_entry entries[64];
    uint32_t count = 0;
    uint64_t bytes = 0;
    for (uint64_t i = w->begin; i < w->end && count < 64 && bytes < w->bytes_max; i++) {
        const struct sim_entry *e = sim_log_find(&n->log, i);
        if (e == NULL) {
            break;
        }
        entries[count] = as_raft(e);
        bytes += entries[count++].size;
    }
    struct raft_event ev = {.type = RAFT_EVENT_ENTRIES_READ};
    ev.u.entries_read.peer = w->peer;
    ev.u.entries_read.count = sim_chance(s, s->read_fail_percent) ? 0 : count;
    ev.u.entries_read.entries = entries;
    (void)sim_step(s, id, ev);
}

static void take_chunk(struct sim *s, uint64_t id, const struct raft_message *m)
{
    struct sim_node *n = &s->nodes[id];
    SIM_CHECK(s, m->u.snapshot.offset == n->stream_size);
    SIM_CHECK(s, n->stream_size + m->u.snapshot.size <= sizeof n->stream);
    memcpy(n->stream + n->stream_size, m->u.snapshot.data, m->u.snapshot.size);
    n->stream_size += m->u.snapshot.size;
    uint64_t index = m->u.snapshot.meta.index;
    if (!m->u.snapshot.done) {
        struct raft_event ev = {.type = RAFT_EVENT_SNAPSHOT_STORED};
        ev.u.stored.index = index;
        ev.u.stored.offset = n->stream_size;
        ev.u.stored.note = note_at(index, n->stream_size);
        SIM_CHECK(s, sim_step(s, id, ev) == 0);
        return;
    }
    uint64_t content = 0;
    memcpy(&content, n->stream, 8);
    SIM_CHECK(s, n->stream_size == 16);
    SIM_CHECK(s, content == index);
    memcpy(&n->install_hash, n->stream + 8, 8);
    n->installing = index;
    n->installing_at = s->disk_at(s, id);
    n->install_term = m->u.snapshot.meta.term;
    n->install_count = m->u.snapshot.meta.membership.count;
    memcpy(n->install_members, m->u.snapshot.meta.membership.members,
           n->install_count * sizeof *n->install_members);
    n->stream_size = 0;
}

/* The snapshot becomes durable, the core is told; a crash may come in between (`sim_crash` before
 * the step). */
void sim_install_done(struct sim *s, uint64_t id)
{
    struct sim_node *n = &s->nodes[id];
    uint64_t index = n->installing;
    SIM_CHECK(s, index > 0);
    n->installing = 0;
    n->disk.base_index = index;
    n->disk.base_term = n->install_term;
    n->disk.base_count = n->install_count;
    memcpy(n->disk.base_members, n->install_members, sizeof n->install_members);
    n->disk.machine_index = index;
    n->disk.machine_hash = n->install_hash;
    if (s->install_crashes && sim_chance(s, 10)) {
        sim_crash(s, id, (uint32_t)sim_random(s, n->op_count + 1));
        return;
    }
    n->machine_index = index;
    n->machine_hash = n->install_hash;
    oracle_installed(s, id);
    struct raft_event ev = {.type = RAFT_EVENT_SNAPSHOT_INSTALLED, .u.index = index};
    SIM_CHECK(s, sim_step(s, id, ev) == 0);
}

static void process(struct sim *s, uint64_t id, const struct raft_update *u)
{
    struct sim_node *n = &s->nodes[id];
    if (s->trace != NULL) {
        char text[4096];
        raft_describe_update(u, text, sizeof text);
        if (strcmp(text, "update") != 0) {
            fprintf(s->trace, "%" PRIu64 ":%s\n", id, text + strlen("update"));
        }
    }
    for (uint32_t i = 0; i < u->message_count; i++) {
        if (s->trace != NULL) {
            char text[4096];
            raft_describe_message(&u->messages[i], text, sizeof text);
            fprintf(s->trace, "  %s\n", text);
        }
        oracle_message(s, id, &u->messages[i]);
        message_add(s, &u->messages[i]);
    }
    take_log_work(s, id, u);
    if ((u->flags & RAFT_UPDATE_SNAPSHOT_ABORT) != 0) {
        n->stream_size = 0;
    }
    for (uint32_t i = 0; i < u->read_count; i++) {
        n->reads_ok += u->reads[i].status == 0 ? 1 : 0;
        n->reads_failed += u->reads[i].status != 0 ? 1 : 0;
        if (u->reads[i].status == 0) {
            n->read_index = u->reads[i].index;
            /* The context is what was committed anywhere when the question was asked. */
            SIM_CHECK(s, u->reads[i].index >= u->reads[i].context);
        }
    }
    apply(s, id, u->apply_begin, u->apply_end);
    n->last_update = *u;
    oracle_step(s, id);
    /* What follows steps again: copy first, the update is void then. */
    struct raft_snapshot_want wants[SIM_NODES];
    struct raft_entries_want reads[SIM_NODES];
    uint32_t want_count = u->snapshot_want_count;
    uint32_t read_count = u->entries_want_count;
    SIM_CHECK(s, want_count <= SIM_NODES && read_count <= SIM_NODES);
    if (want_count > 0) {
        memcpy(wants, u->snapshot_wants, want_count * sizeof *wants);
    }
    if (read_count > 0) {
        memcpy(reads, u->entries_wants, read_count * sizeof *reads);
    }
    uint64_t applied = u->apply_end > u->apply_begin ? u->apply_end - 1 : 0;
    if (u->snapshot_chunk != NULL) {
        struct raft_message chunk = *u->snapshot_chunk;
        take_chunk(s, id, &chunk);
    }
    if (applied > 0 && n->machine_index >= applied) {
        struct raft_event ev = {.type = RAFT_EVENT_APPLIED, .u.index = applied};
        SIM_CHECK(s, sim_step(s, id, ev) == 0);
    }
    for (uint32_t i = 0; i < want_count && s->answer_snapshots; i++) {
        answer_snapshot_want(s, id, &wants[i]);
    }
    for (uint32_t i = 0; i < read_count; i++) {
        answer_entries_want(s, id, &reads[i]);
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
        log_cut_to(&n->log, ev.u.index);
        log_cut_to(&n->disk.log, (u.flags & RAFT_UPDATE_LOG_RESET) != 0 ? 0 : ev.u.index);
    }
    if (ev.type == RAFT_EVENT_COMPACTED && err == 0) {
        log_cut_to(&n->log, ev.u.index);
        log_cut_to(&n->disk.log, ev.u.index);
    }
    process(s, id, &u);
    return err;
}

int sim_tick(struct sim *s, uint64_t id)
{
    return sim_step(s, id, (struct raft_event){.type = RAFT_EVENT_TICK});
}

int sim_propose(struct sim *s, uint64_t id, const char *text)
{
    struct blob *b = blob_new(s, (const uint8_t *)text, (uint32_t)strlen(text));
    struct raft_entry e = {.size = b->size, .data = b->bytes, .owner = b};
    struct raft_event ev = {.type = RAFT_EVENT_PROPOSE};
    ev.u.propose.term = raft_term(s->nodes[id].raft);
    ev.u.propose.count = 1;
    ev.u.propose.entries = &e;
    int err = sim_step(s, id, ev);
    blob_unref(NULL, b);
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
