/*
 * What: bringing a replica up to date that needs what the log no longer has: the machine's snapshot
 * and the bytes of the live messages that it does not have, as one byte stream in chunks of at most
 * 256 KiB.
 *
 * Stream, frozen: u8 version, u64 size of the stored machine, stored machine; version 2: u64
 * position below which messages were left out; then per live message from there on, ascending: u64
 * position, record. Version 1 has no such position and all messages.
 *
 * Happy path, sender: want -> chunks of the machine -> the receiver's answer says below which
 * position it has everything -> chunks of messages (from memory, or read in order from log and
 * store) -> done. Receiver: records go to the checkpoint store under their final keys as they come
 * (a position's bytes are the same on every replica, so nothing can be overwritten with something
 * else); the last chunk restores the machine, writes its snapshot, flushes, and says INSTALLED.
 *
 * Failure modes: a wanted offset that cannot be served, and a log that moved past the snapshot,
 * begin a new stream, at a newer index; what the receiver got until then it does not get again
 * (below). Messages consumed meanwhile are left out (the receiver hears of it from the entries that
 * follow); a damaged stream is refused.
 *
 * Invariants
 * I1  What is live at an index and below its next position was live at every earlier index at which
 *     that position existed. So "all below P that live at index i" are enough at any index > i.
 * I2  What was left out as consumed was consumed by a committed entry. Every later leader has it in
 *     its log and serves only once it is applied: until then a receiver may believe, as after a
 *     stream that was not cut short, that such a message lives, and nobody can ask it for it.
 * I3  What the receiver says that it has is for this stream, and the stream repeats it: a sender
 *     that took it from another one (a receiver that was started again) is refused.
 * Also here: entries that left memory and a follower needs (ENTRIES_READ).
 */
#include "replica_internal.h"

#define CHUNK_BYTES    (256u * 1024)
#define STREAM_VERSION 2u

/* --- old entries ----------------------------------------------------------------------------- */

struct entries_read {
    struct log_job job;
    struct host *host;
    uint64_t group, incarnation, begin;
    struct raft_id peer;
    uint32_t count;
    uint8_t kinds[LOAD_ENTRIES];
    uint64_t terms[LOAD_ENTRIES];
};

static void answer_entries(struct group *group, struct raft_id peer,
                           const struct raft_entry *entries, uint32_t count)
{
    struct raft_event event = {.type = RAFT_EVENT_ENTRIES_READ};
    event.u.entries_read.peer = peer;
    event.u.entries_read.count = count;
    event.u.entries_read.entries = entries;
    group_step(group, &event);
}

static void on_entries(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct entries_read *read = ctx;
    struct group *group = group_find(read->host, read->group);
    struct raft_entry entries[LOAD_ENTRIES];
    if (group != NULL && group->incarnation == read->incarnation) {
        for (uint32_t i = 0; error == 0 && i < count; i++) {
            entries[i] =
                (struct raft_entry){.term = {read->terms[i]},
                                    .index = read->begin + i,
                                    .kind = (enum raft_entry_kind)read->kinds[i],
                                    .size = payloads[i].size,
                                    .data = slice_data(&payloads[i]),
                                    .owner = payloads[i].size > 0 ? payloads[i].buf : NULL};
        }
        answer_entries(group, read->peer, entries, error == 0 ? count : 0);
    }
    log_job_free(&read->job);
}

void group_entries_want(struct group *group, const struct raft_entries_want *want)
{
    struct entries_read *read = wr_calloc(1, sizeof *read);
    struct log_location locations[LOAD_ENTRIES];
    uint64_t bytes = 0;
    *read = (struct entries_read){.host = group->host,
                                  .group = group->id,
                                  .incarnation = group->incarnation,
                                  .begin = want->begin,
                                  .peer = want->peer};
    log_job_add(group->host, &read->job);
    for (uint64_t i = want->begin; i < want->end && read->count < LOAD_ENTRIES &&
                                   (read->count == 0 || bytes < want->bytes_max);
         i++) {
        struct log_location *at = &locations[read->count];
        if (!log_index_find(group->index, i, at)) {
            break;
        }
        read->kinds[read->count] = at->flags;
        read->terms[read->count] = at->term;
        bytes += at->size;
        read->count++;
    }
    if (read->count == 0 || log_reader_read(group->host->options.reader, locations, read->count,
                                            on_entries, read) != 0) {
        answer_entries(group, want->peer, NULL, 0);
        log_job_free(&read->job);
    }
}

/* --- sending --------------------------------------------------------------------------------- */

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
    uint64_t asked;    /* position a read was begun for; a second miss skips it */
    struct buf *chunk; /* the newest chunk: [offset, offset + chunk->size) */
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
    put_u8(&w, STREAM_VERSION);
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

static void take(struct snap_out *s, struct slice *from)
{
    uint32_t room = CHUNK_BYTES - s->chunk->size;
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
    n = n < CHUNK_BYTES ? n : CHUNK_BYTES;
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
    s->chunk = buf_new(CHUNK_BYTES);
    out_head(group, s);
}

/* Fills the chunk; sends it when it is full or the stream ends. */
static void out_fill(struct group *group, struct snap_out *s)
{
    while (s->chunk->size < CHUNK_BYTES) {
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
    if (group->applied < want->min_index || group->applied == 0 || group->quarantined[0] != 0) {
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
    s->chunk = buf_new(CHUNK_BYTES);
    if (s->head_sent < s->head->size) {
        out_head(group, s);
        return;
    }
    if (!s->opened) {
        out_open(s, want->note);
    }
    out_fill(group, s);
}

/* --- receiving ------------------------------------------------------------------------------- */

struct snap_in {
    uint64_t serial;
    uint64_t index;
    struct raft_term term;
    uint64_t offset; /* next byte expected */
    uint64_t machine_size;
    uint64_t claim; /* the sender may leave out what is below */
    uint64_t next;  /* ... and what is below this one came, or was left out */
    uint64_t came;  /* messages */
    uint8_t version;
    bool has_head, has_machine, opened;
    struct buf *machine;
    struct buf *rest; /* bytes not understood yet */
    uint8_t membership[RAFT_MEMBERSHIP_BYTES_MAX];
    uint32_t membership_size;
    VEC(struct kv_op) puts;
    bool done;
};

void snap_abort(struct group *group)
{
    struct snap_in *in = group->snap_in;
    if (in == NULL) {
        return;
    }
    group->snap_in = NULL;
    for (size_t i = 0; i < in->puts.count; i++) {
        slice_unref(&in->puts.items[i].key);
        slice_unref(&in->puts.items[i].value);
    }
    vec_deinit(&in->puts);
    buf_unref(in->machine);
    buf_unref(in->rest);
    wr_free(in);
}

uint64_t snap_brought(const struct group *group)
{
    return group->snap_index > group->applied ? group->snap_have : 0;
}

/* Below which position everything that lives at `index`, a later one than that of our machine, is
 * in the checkpoint store: what the machine knows and the log has no more, or what unfinished
 * transfers brought. */
static uint64_t claim(const struct group *group, uint64_t index)
{
    if (group->home == NULL) {
        return 0;
    }
    const struct store *store = &group->home->store;
    struct queue_totals totals;
    queue_totals(group->home->queue, &totals);
    uint64_t own = store->where_first < store->where.count
                       ? store->where.items[store->where_first].position
                       : totals.next_position;
    uint64_t brought = group->snap_index <= index ? snap_brought(group) : 0;
    return own > brought ? own : brought;
}

static void in_begin(struct group *group, const struct raft_snapshot_meta *meta)
{
    snap_abort(group);
    struct snap_in *in = wr_calloc(1, sizeof *in);
    in->serial = ++group->host->incarnations;
    in->index = meta->index;
    in->term = meta->term;
    in->membership_size = (uint32_t)raft_membership_encode(&meta->membership, in->membership);
    in->rest = buf_new(CHUNK_BYTES);
    in->claim = in->next = claim(group, meta->index);
    group->snap_index = meta->index;
    group->snap_have = in->claim;
    group->snap_in = in;
}

static void consume(struct snap_in *in, uint32_t size)
{
    memmove(in->rest->data, in->rest->data + size, in->rest->size - size);
    in->rest->size -= size;
}

static bool read_machine(struct snap_in *in)
{
    if (!in->has_head) {
        if (in->rest->size < 9) {
            return true;
        }
        in->machine_size = bytes_load_le64(in->rest->data + 1);
        in->version = in->rest->data[0];
        if (in->version == 0 || in->version > STREAM_VERSION ||
            in->machine_size > BUF_CAPACITY_MAX / 2) {
            return false;
        }
        if (in->version == 1) {
            in->opened = true;
            in->claim = in->next = 0;
        }
        in->has_head = true;
        in->machine = buf_new(4096);
        consume(in, 9);
    }
    uint64_t missing = in->machine_size - in->machine->size;
    uint32_t n = missing < in->rest->size ? (uint32_t)missing : in->rest->size;
    buf_append(&in->machine, in->rest->data, n);
    consume(in, n);
    in->has_machine = in->machine->size == in->machine_size;
    return true;
}

/* Understands what it can; false: damaged. */
static bool in_read(struct group *group, struct snap_in *in)
{
    if (!in->has_machine && !read_machine(in)) {
        return false;
    }
    if (in->has_machine && !in->opened && in->rest->size >= 8) {
        uint64_t left_out = bytes_load_le64(in->rest->data);
        if (left_out > in->claim) {
            return false; /* I3 */
        }
        consume(in, 8);
        in->next = left_out;
        in->opened = true;
    }
    uint32_t at = 0;
    while (in->opened && in->has_machine && in->rest->size - at >= 8 + MESSAGE_HEADER_SIZE) {
        uint64_t position = bytes_load_le64(in->rest->data + at);
        uint32_t size = bytes_load_le32(in->rest->data + at + 8);
        if (size < MESSAGE_HEADER_SIZE || size > LOG_PAYLOAD_MAX || position < in->next ||
            group->home == NULL) {
            return false;
        }
        if (in->rest->size - at - 8 < size) {
            break;
        }
        struct bytes record = bytes_make(in->rest->data + at + 8, size);
        if (message_check(record) != 0) {
            return false;
        }
        struct kv_op op = {.kind = KV_PUT,
                           .key = checkpoint_message_key(group->id, position),
                           .value = slice_copy(record.data, record.size)};
        vec_push(&in->puts, op);
        in->next = position + 1;
        in->came++;
        at += 8 + size;
    }
    if (at > 0) {
        consume(in, at);
    }
    return true;
}

static void refuse(struct group *group, uint64_t index)
{
    wr_log(group->host->logger, LOG_LEVEL_ERROR, "raft",
           "group %llu: a damaged snapshot is refused", (unsigned long long)group->id);
    snap_abort(group);
    group->snap_index = group->snap_have = 0; /* all of it again, to be sure */
    group_step(group, &(struct raft_event){.type = RAFT_EVENT_SNAPSHOT_REFUSED, .u.index = index});
}

static struct snap_in *in_of(struct host *host, const struct kv_request *request,
                             struct group **ret_group)
{
    struct group *group = group_find(host, request->group);
    *ret_group = group;
    bool same = group != NULL && group->incarnation == request->incarnation &&
                group->snap_in != NULL && group->snap_in->serial == request->a;
    return same ? group->snap_in : NULL;
}

static struct kv_request *in_request(struct group *group, struct snap_in *in,
                                     void (*done)(struct host *, struct kv_request *, int,
                                                  struct kv_reply *))
{
    struct kv_request *request = kv_request_new(group->host);
    request->done = done;
    request->group = group->id;
    request->incarnation = group->incarnation;
    request->a = in->serial;
    request->b = in->offset;
    return request;
}

static void on_installed(struct host *host, struct kv_request *request, int result,
                         struct kv_reply *reply)
{
    struct group *group;
    struct snap_in *in = in_of(host, request, &group);
    (void)reply;
    if (in == NULL) {
        return;
    }
    if (result != 0) {
        host->env->ops->stop(host->env, 1, "the checkpoint store cannot be written");
        return;
    }
    wr_log(host->logger, LOG_LEVEL_INFO, "raft",
           "group %llu: the snapshot at %llu is installed; %llu messages came with it, those below "
           "position %llu were here",
           (unsigned long long)group->id, (unsigned long long)in->index,
           (unsigned long long)in->came, (unsigned long long)in->claim);
    group->installing = false;
    group->applied = in->index;
    group->apply_end = in->index + 1;
    group->checkpoint_index = in->index;
    snap_abort(group);
    group_step(group,
               &(struct raft_event){.type = RAFT_EVENT_SNAPSHOT_INSTALLED, .u.index = request->b});
    group->ops->applied(group);
    group_mark(group);
}

static void on_snapshot_put(struct host *host, struct kv_request *request, int result,
                            struct kv_reply *reply)
{
    (void)request;
    (void)reply;
    if (result != 0) { /* the machine is the new one already */
        host->env->ops->stop(host->env, 1, "the checkpoint store cannot be written");
    }
}

/* The whole stream is here: the machine, then its snapshot and what it does not need any more, in
 * one batch, durable. */
static void install(struct group *group, struct snap_in *in)
{
    struct host *host = group->host;
    uint64_t index = in->index;
    group->installing = true;
    if (!in->has_machine || !in->opened || in->rest->size > 0 ||
        stored_machine_decode(group, index, bytes_make(in->machine->data, in->machine->size)) !=
            0) {
        group->installing = false;
        refuse(group, index);
        return;
    }
    struct kv_op_vec ops = {0};
    if (group->home != NULL) {
        checkpoint_sweep(group, UINT64_MAX, SIZE_MAX, &ops);
        group->home->store.kv_unknown = UINT64_MAX;
        group->home->store.kv_swept = true;
    }
    const struct checkpoint c = {.group = group->id,
                                 .index = index,
                                 .term = in->term.v,
                                 .membership = bytes_make(in->membership, in->membership_size),
                                 .machine = bytes_make(in->machine->data, in->machine->size)};
    struct kv_op put = {
        .kind = KV_PUT, .key = checkpoint_snapshot_key(group->id), .value = checkpoint_encode(&c)};
    vec_push(&ops, put);
    struct kv_request *request = in_request(group, in, on_snapshot_put);
    host->env->ops->kv_write(host->env, ops.items, (uint32_t)ops.count, request->token);
    request = in_request(group, in, on_installed);
    request->b = index;
    host->env->ops->kv_flush(host->env, request->token);
}

static void stored(struct group *group, struct snap_in *in)
{
    if (in->done) {
        install(group, in);
        return;
    }
    struct raft_event event = {.type = RAFT_EVENT_SNAPSHOT_STORED};
    event.u.stored.index = in->index;
    event.u.stored.offset = in->offset;
    event.u.stored.note = in->version >= 2 ? in->claim : 0;
    group_step(group, &event);
}

static void on_put(struct host *host, struct kv_request *request, int result,
                   struct kv_reply *reply)
{
    struct group *group;
    struct snap_in *in = in_of(host, request, &group);
    (void)reply;
    if (in == NULL || request->b != in->offset) {
        return;
    }
    if (result != 0) {
        snap_abort(group); /* sent again later, from there on */
        group_step(group, &(struct raft_event){.type = RAFT_EVENT_SNAPSHOT_REFUSED,
                                               .u.index = group->snap_index});
        return;
    }
    group->snap_have = in->next;
    stored(group, in);
}

void snap_chunk(struct group *group, const struct raft_message *message)
{
    const struct raft_snapshot_meta *meta = &message->u.snapshot.meta;
    struct snap_in *in = group->snap_in;
    if (message->u.snapshot.offset == 0) {
        in_begin(group, meta);
        in = group->snap_in;
    }
    if (in == NULL || in->index != meta->index || in->offset != message->u.snapshot.offset) {
        refuse(group, meta->index);
        return;
    }
    buf_append(&in->rest, message->u.snapshot.data, message->u.snapshot.size);
    in->offset += message->u.snapshot.size;
    in->done = message->u.snapshot.done;
    if (!in_read(group, in)) {
        refuse(group, in->index);
        return;
    }
    if (in->puts.count == 0) {
        stored(group, in);
        return;
    }
    struct store *store = &group->home->store;
    store->kv_end = in->next > store->kv_end ? in->next : store->kv_end;
    struct kv_request *request = in_request(group, in, on_put);
    struct kv_op *ops = in->puts.items;
    uint32_t count = (uint32_t)in->puts.count;
    vec_init(&in->puts);
    group->host->env->ops->kv_write(group->host->env, ops, count, request->token);
}
