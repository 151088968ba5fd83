/* What a member's host does with what Raft asks for: disk, messages, snapshots. See cluster.h. */
#include "cluster_internal.h"

#include "oracle.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

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
        sim__log_cut_from(&n->log, 0);
    }
    if ((u->flags & RAFT_UPDATE_TRUNCATE) != 0) {
        op_add(s, id, SIM_OP_TRUNCATE)->from = u->truncate_from;
        sim__log_cut_from(&n->log, u->truncate_from);
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
            sim__log_push(&n->log, &copy);
            sim__log_push(&op->entries, &copy);
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
        entries[count] = sim__as_raft(e);
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

void sim__process(struct sim *s, uint64_t id, const struct raft_update *u)
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
        sim__message_add(s, &u->messages[i]);
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
