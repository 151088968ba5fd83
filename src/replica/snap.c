/*
 * What: bringing a replica up to date that needs what the log no longer has: the machine's snapshot
 * and the bytes of all live messages, as one byte stream in chunks of at most 256 KiB. stream: u8
 * version, u64 size of the stored machine, stored machine, then per live message: u64 position,
 * record Happy path, sender: want -> chunk (bytes from memory, or read in order from log and store)
 * -> ... -> done. Receiver: records go to the checkpoint store under their final keys as they come
 * (a position's bytes are the same on every replica, so nothing can be overwritten with something
 * else); the last chunk restores the machine, writes its snapshot, flushes, and says INSTALLED.
 * Failure modes: a wanted offset that cannot be served starts the transfer again with a newer
 * snapshot; messages consumed meanwhile are left out (the receiver hears of it from the entries
 * that follow); a damaged stream is refused. Overtaken by the log's retirement the transfer starts
 * again. Also here: entries that left memory and a follower needs (ENTRIES_READ).
 */
#include "replica_internal.h"

#define CHUNK_BYTES    (256u * 1024)
#define STREAM_VERSION 1u

/* --- old entries ----------------------------------------------------------------------------- */

struct entries_read {
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
    wr_free(read);
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
        wr_free(read);
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
    event.u.chunk.meta.index = s->index;
    event.u.chunk.meta.term = s->term;
    event.u.chunk.offset = s->offset;
    event.u.chunk.done = s->done;
    event.u.chunk.size = s->chunk->size;
    event.u.chunk.data = s->chunk->data;
    event.u.chunk.owner = s->chunk;
    struct raft_snapshot_meta meta;
    if (raft_snapshot_meta(group->raft, s->index, &meta) != 0) {
        struct raft_id peer = s->peer;
        out_remove(group, peer); /* the log has moved past it */
        group_step(group, &(struct raft_event){.type = RAFT_EVENT_SNAPSHOT_FAILED, .u.peer = peer});
        return;
    }
    event.u.chunk.meta = meta;
    struct buf *chunk = buf_ref(s->chunk);
    group_step(group, &event);
    buf_unref(chunk);
}

static void out_fill(struct group *group, struct snap_out *s);

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
    out_fill(group, s);
}

/* Fills the chunk; sends it when it is full or the stream ends. */
static void out_fill(struct group *group, struct snap_out *s)
{
    if (s->head_sent < s->head->size) {
        uint32_t n = s->head->size - s->head_sent;
        n = n < CHUNK_BYTES - s->chunk->size ? n : CHUNK_BYTES - s->chunk->size;
        buf_append(&s->chunk, s->head->data + s->head_sent, n);
        s->head_sent += n;
    }
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
                fetch_start(group, position, on_fetched, s->serial, 0);
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
        s = out_begin(group, want->peer);
    }
    buf_unref(s->chunk);
    s->chunk = buf_new(CHUNK_BYTES);
    out_fill(group, s);
}

/* --- receiving ------------------------------------------------------------------------------- */

struct snap_in {
    uint64_t serial;
    uint64_t index;
    struct raft_term term;
    uint64_t offset; /* next byte expected */
    uint64_t machine_size;
    bool has_head, has_machine;
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

static void in_begin(struct group *group, const struct raft_snapshot_meta *meta)
{
    snap_abort(group);
    struct snap_in *in = wr_calloc(1, sizeof *in);
    in->serial = ++group->host->incarnations;
    in->index = meta->index;
    in->term = meta->term;
    in->membership_size = (uint32_t)raft_membership_encode(&meta->membership, in->membership);
    in->rest = buf_new(CHUNK_BYTES);
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
        if (in->rest->data[0] != STREAM_VERSION || in->machine_size > BUF_CAPACITY_MAX / 2) {
            return false;
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
    uint32_t at = 0;
    while (in->has_machine && in->rest->size - at >= 8 + MESSAGE_HEADER_SIZE) {
        uint64_t position = bytes_load_le64(in->rest->data + at);
        uint32_t size = bytes_load_le32(in->rest->data + at + 8);
        if (size < MESSAGE_HEADER_SIZE || size > LOG_PAYLOAD_MAX) {
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

struct gaps {
    struct group *group;
    VEC(struct kv_op) ops;
    uint64_t next;
};

static void delete_range(struct gaps *gaps, uint64_t begin, uint64_t end)
{
    if (begin < end) {
        struct kv_op op = {.kind = KV_DELETE_RANGE,
                           .key = checkpoint_message_key(gaps->group->id, begin),
                           .value = checkpoint_message_key(gaps->group->id, end)};
        vec_push(&gaps->ops, op);
    }
}

static void on_live(void *ctx, uint64_t position, uint64_t count)
{
    struct gaps *gaps = ctx;
    delete_range(gaps, gaps->next, position);
    gaps->next = position + count;
}

/* The whole stream is here: the machine, then its snapshot and what it does not need any more, in
 * one batch, durable. */
static void install(struct group *group, struct snap_in *in)
{
    struct host *host = group->host;
    uint64_t index = in->index;
    group->installing = true;
    if (!in->has_machine || in->rest->size > 0 ||
        stored_machine_decode(group, index, bytes_make(in->machine->data, in->machine->size)) !=
            0) {
        group->installing = false;
        refuse(group, index);
        return;
    }
    struct gaps gaps = {.group = group};
    if (group->home != NULL) {
        struct queue_totals totals;
        queue_totals(group->home->queue, &totals);
        queue_each_live(group->home->queue, on_live, &gaps);
        delete_range(&gaps, gaps.next, totals.next_position);
    }
    const struct checkpoint c = {.group = group->id,
                                 .index = index,
                                 .term = in->term.v,
                                 .membership = bytes_make(in->membership, in->membership_size),
                                 .machine = bytes_make(in->machine->data, in->machine->size)};
    struct kv_op put = {
        .kind = KV_PUT, .key = checkpoint_snapshot_key(group->id), .value = checkpoint_encode(&c)};
    vec_push(&gaps.ops, put);
    host->env->ops->kv_write(host->env, gaps.ops.items, (uint32_t)gaps.ops.count,
                             kv_request_new(host)->token);
    struct kv_request *request = in_request(group, in, on_installed);
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
        refuse(group, in->index); /* sent again later */
        return;
    }
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
    struct kv_request *request = in_request(group, in, on_put);
    struct kv_op *ops = in->puts.items;
    uint32_t count = (uint32_t)in->puts.count;
    vec_init(&in->puts);
    group->host->env->ops->kv_write(group->host->env, ops, count, request->token);
}
