/*
 * What: a leader's side of a snapshot's stream (snap_internal.h).
 * Happy path: want -> chunks of the machine -> the receiver's answer says below which position it
 * has everything -> chunks of messages (from memory, or read in order from log and store) -> done.
 * Failure modes: a wanted offset that cannot be served, and a log that moved past the snapshot,
 * begin a new stream, at a newer index; what the receiver got until then it does not get again.
 * Messages consumed meanwhile are left out (the receiver hears of it from the entries that follow).
 * Ownership: the group has one struct snap_out per peer. Threads: the host's shard.
 */
#include "snap_internal.h"
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "store.h"

struct snap_out {
    struct snap_out *next;
    struct raft_id peer;
    uint64_t serial;
    uint64_t index;
    struct raft_term term;
    struct buf *head; /* version, size, stored machine */
    uint32_t head_sent;
    bool opened; /* messages are being sent: what the receiver has is known */
    VEC(struct position_range) live;
    size_t live_at;             /* next range ... */
    uint64_t live_done;         /* ... and how many of it are done */
    struct slice tail;          /* rest of a record that did not fit the chunk before */
    VEC(struct fetched) loaded; /* owned records read from disk */
    size_t loaded_at;
    uint64_t asked;     /* position a read was begun for; a second miss skips it */
    struct buf *chunk;  /* the newest chunk: [offset, offset + chunk->size) ... */
    uint32_t chunk_max; /* ... which is sent when it is that long */
    uint64_t offset;
    bool done, waiting;
};

static void loaded_clear(struct snap_out *s)
{
    for (size_t i = 0; i < s->loaded.count; i++) {
        slice_unref(&s->loaded.items[i].record);
    }
    vec_clear(&s->loaded);
    s->loaded_at = 0;
}

static void out_free(struct snap_out *s)
{
    loaded_clear(s);
    vec_deinit(&s->loaded);
    vec_deinit(&s->live);
    slice_unref(&s->tail);
    buf_unref(s->head);
    buf_unref(s->chunk);
    wr_free(s);
}

void snap_out_free(struct group *group)
{
    while (group->snap_out != NULL) {
        struct snap_out *s = group->snap_out;
        group->snap_out = s->next;
        out_free(s);
    }
}

static struct snap_out *out_find(struct group *group, struct raft_id peer)
{
    for (struct snap_out *s = group->snap_out; s != NULL; s = s->next) {
        if (raft_id_equal(s->peer, peer)) {
            return s;
        }
    }
    return NULL;
}

static void out_remove(struct group *group, struct raft_id peer)
{
    for (struct snap_out **at = &group->snap_out; *at != NULL; at = &(*at)->next) {
        if (raft_id_equal((*at)->peer, peer)) {
            struct snap_out *s = *at;
            *at = s->next;
            out_free(s);
            return;
        }
    }
}

static void add_live(void *ctx, uint64_t position, uint64_t count)
{
    struct snap_out *s = ctx;
    vec_push(&s->live, (struct position_range){position, count});
}

static struct snap_out *out_begin(struct group *group, struct raft_id peer)
{
    struct snap_out *s = wr_calloc(1, sizeof *s);
    s->peer = peer;
    s->serial = ++group->host->incarnations;
    s->index = group->applied;
    int rc = raft_log_term(group->raft, s->index, &s->term);
    WR_ASSERT(rc == 0);
    struct buf *machine = buf_new(256);
    stored_machine_encode(group, 0, false, &machine);
    struct writer w;
    writer_init(&w, 9 + machine->size);
    put_u8(&w, SNAP_STREAM_VERSION);
    put_le64(&w, machine->size);
    memcpy(put_space(&w, machine->size), machine->data, machine->size);
    buf_unref(machine);
    s->head = writer_take(&w);
    if (group->home != NULL) {
        queue_each_live(group->home->queue, add_live, s);
    }
    s->next = group->snap_out;
    group->snap_out = s;
    wr_log(group->host->logger, LOG_LEVEL_INFO, "raft", "group %llu: sending a snapshot at %llu",
           (unsigned long long)group->id, (unsigned long long)s->index);
    return s;
}

/*
 * No two streams are cut in the same places. They may be at the same index and differ (each leaves
 * out what the receiver has by then, or what was consumed meanwhile): a chunk of the one that comes
 * late, or twice, must not be continued by the next chunk of the other, which would glue two halves
 * of different messages together.
 */
static void chunk_begin(struct group *group, struct snap_out *s)
{
    s->chunk = buf_new(SNAP_CHUNK_BYTES);
    s->chunk_max =
        SNAP_CHUNK_BYTES / 2 + (uint32_t)prng_below(&group->host->prng, SNAP_CHUNK_BYTES / 2 + 1);
}

static void take(struct snap_out *s, struct slice *from)
{
    uint32_t room = s->chunk_max - s->chunk->size;
    uint32_t n = from->size < room ? from->size : room;
    buf_append(&s->chunk, slice_data(from), n);
    struct slice rest = slice_sub(from, n, from->size - n);
    *from = rest;
    if (rest.size == 0) {
        slice_unref(from);
    }
}

static bool next_record(struct group *group, struct snap_out *s, uint64_t position,
                        struct slice *ret)
{
    const struct slice *first;
    while (s->loaded_at < s->loaded.count && s->loaded.items[s->loaded_at].position < position) {
        s->loaded_at++;
    }
    if (s->loaded_at < s->loaded.count && s->loaded.items[s->loaded_at].position == position) {
        *ret = slice_ref(&s->loaded.items[s->loaded_at].record);
        return true;
    }
    if (store_run(&group->home->store, position, 1, &first) > 0) {
        *ret = slice_ref(first);
        return true;
    }
    return false;
}

static void out_send(struct group *group, struct snap_out *s)
{
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_CHUNK};
    event.u.chunk.peer = s->peer;
    event.u.chunk.offset = s->offset;
    event.u.chunk.done = s->done;
    event.u.chunk.size = s->chunk->size;
    event.u.chunk.data = s->chunk->data;
    event.u.chunk.owner = s->chunk;
    int rc = raft_snapshot_meta(group->raft, s->index, &event.u.chunk.meta);
    WR_ASSERT(rc == 0); /* out_fill */
    struct buf *chunk = buf_ref(s->chunk);
    group_step(group, &event);
    buf_unref(chunk);
}

static void out_fill(struct group *group, struct snap_out *s);
static void out_first(struct group *group, struct snap_out *s);

static void on_fetched(struct group *group, uint64_t position, const struct fetched *items,
                       size_t count, uint64_t serial, uint64_t b)
{
    (void)b;
    (void)position;
    struct snap_out *s = group->snap_out;
    while (s != NULL && s->serial != serial) {
        s = s->next;
    }
    if (s == NULL) {
        return;
    }
    loaded_clear(s);
    for (size_t i = 0; i < count; i++) {
        vec_push(&s->loaded, (struct fetched){items[i].position, slice_ref(&items[i].record)});
    }
    s->waiting = false;
    if (raft_role(group->raft) != RAFT_LEADER) {
        out_remove(group, s->peer);
        return;
    }
    if (raft_first_index(group->raft) > s->index + 1) {
        /* The log has moved past it while this was read. */
        const struct raft_id peer = s->peer;
        out_remove(group, peer);
        out_first(group, out_begin(group, peer));
        return;
    }
    out_fill(group, s);
}

/* The position from which on messages are sent, then they. */
static void out_open(struct snap_out *s, uint64_t have)
{
    struct writer w;
    writer_init(&w, 8);
    put_le64(&w, have);
    s->tail = slice_of_buf(writer_take(&w));
    s->opened = true;
    while (s->live_at < s->live.count &&
           s->live.items[s->live_at].position + s->live.items[s->live_at].count <= have) {
        s->live_at++;
    }
    if (s->live_at < s->live.count && s->live.items[s->live_at].position < have) {
        s->live_done = have - s->live.items[s->live_at].position;
    }
}

/* The next chunk, from the machine's snapshot. What the receiver has comes with its answer. */
static void out_head(struct group *group, struct snap_out *s)
{
    uint32_t n = s->head->size - s->head_sent;
    n = n < s->chunk_max ? n : s->chunk_max;
    buf_append(&s->chunk, s->head->data + s->head_sent, n);
    s->head_sent += n;
    if (s->head_sent == s->head->size && s->live.count == 0) {
        out_open(s, 0);
        out_fill(group, s);
        return;
    }
    out_send(group, s);
}

static void out_first(struct group *group, struct snap_out *s)
{
    chunk_begin(group, s);
    out_head(group, s);
}

/* Fills the chunk; sends it when it is full or the stream ends. */
static void out_fill(struct group *group, struct snap_out *s)
{
    while (s->chunk->size < s->chunk_max) {
        if (s->tail.size > 0) {
            take(s, &s->tail);
            continue;
        }
        if (s->live_at == s->live.count) {
            break;
        }
        const struct position_range range = s->live.items[s->live_at];
        uint64_t position = range.position + s->live_done;
        struct slice record = SLICE_NONE;
        bool skip = !queue_is_live(group->home->queue, position);
        if (!skip && !next_record(group, s, position, &record)) {
            if (s->asked != position) {
                s->asked = position;
                s->waiting = true;
                fetch_start(group, position, FETCH_AHEAD, on_fetched, s->serial, 0);
                return;
            }
            skip = true;
        }
        if (++s->live_done == range.count) {
            s->live_at++;
            s->live_done = 0;
        }
        if (!skip) {
            struct writer w;
            writer_init(&w, 8 + record.size);
            put_le64(&w, position);
            memcpy(put_space(&w, record.size), slice_data(&record), record.size);
            slice_unref(&record);
            s->tail = slice_of_buf(writer_take(&w));
        }
    }
    s->done = s->head_sent == s->head->size && s->tail.size == 0 && s->live_at == s->live.count;
    out_send(group, s);
}

void snap_want(struct group *group, const struct raft_snapshot_want *want)
{
    struct snap_out *s = out_find(group, want->peer);
    if (group->applied < want->min_index || group->applied == 0 || group->quarantined[0] != 0 ||
        !ahead_is_settled(group)) {
        group_step(group,
                   &(struct raft_event){.type = RAFT_EVENT_SNAPSHOT_FAILED, .u.peer = want->peer});
        return;
    }
    bool known = s != NULL && want->index == s->index && s->index >= want->min_index;
    if (known && s->waiting) {
        return;
    }
    if (known && s->chunk != NULL && want->offset == s->offset) {
        out_send(group, s);
        return;
    }
    if (known && s->chunk != NULL && !s->done && want->offset == s->offset + s->chunk->size) {
        s->offset = want->offset;
    } else {
        out_remove(group, want->peer);
        out_first(group, out_begin(group, want->peer));
        return;
    }
    buf_unref(s->chunk);
    chunk_begin(group, s);
    if (s->head_sent < s->head->size) {
        out_head(group, s);
        return;
    }
    if (!s->opened) {
        out_open(s, want->note);
    }
    out_fill(group, s);
}
