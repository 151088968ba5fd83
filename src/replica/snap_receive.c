/*
 * What: a replica's side of a snapshot's stream (snap_internal.h).
 * Happy path: records go to the checkpoint store under their final keys as they come (a position's
 * bytes are the same on every replica, so nothing can be overwritten with something else); the last
 * chunk restores the machine, writes its snapshot, flushes, and says INSTALLED. Failure modes: a
 * damaged stream is refused; of one that was cut short, what was stored is not asked for again
 * (snap_index, snap_have); a full disk after the machine is the new one: it is written again every
 * second; another error then ends the node.
 * Ownership: the group has one struct snap_in. Threads: the host's shard.
 */
#include "snap_internal.h"
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "store.h"

#define NOSPACE_MS 1000u

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
    bool of_another; /* I3: it goes by what an earlier transfer was told */
    struct buf *machine;
    struct buf *rest; /* bytes not understood yet */
    uint8_t membership[RAFT_MEMBERSHIP_BYTES_MAX];
    uint32_t membership_size;
    VEC(struct kv_op) puts;
    bool done;
    /* The machine's snapshot found no room: */
    bool unput;
    struct timer again;
    struct group *group; /* whose this is */
};

void snap_abort(struct group *group)
{
    struct snap_in *in = group->snap_in;
    if (in == NULL) {
        return;
    }
    group->snap_in = NULL;
    timer_cancel(&group->host->timers, &in->again);
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
    timer_init(&in->again);
    in->group = group;
    in->serial = ++group->host->incarnations;
    in->index = meta->index;
    in->term = meta->term;
    in->membership_size = (uint32_t)raft_membership_encode(&meta->membership, in->membership);
    in->rest = buf_new(SNAP_CHUNK_BYTES);
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
        if (in->version == 0 || in->version > SNAP_STREAM_VERSION ||
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
            in->of_another = true;
            return false;
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
    if (group->snap_in != NULL && group->snap_in->of_another) {
        wr_log(group->host->logger, LOG_LEVEL_WARNING, "raft",
               "group %llu: a snapshot is refused: it leaves out what only an earlier transfer "
               "brought; all of it comes again",
               (unsigned long long)group->id);
    } else {
        wr_log(group->host->logger, LOG_LEVEL_ERROR, "raft",
               "group %llu: a damaged snapshot is refused", (unsigned long long)group->id);
    }
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

static void on_again(struct timer *timer);

static void on_installed(struct host *host, struct kv_request *request, int result,
                         struct kv_reply *reply)
{
    struct group *group;
    struct snap_in *in = in_of(host, request, &group);
    (void)reply;
    if (in == NULL) {
        return;
    }
    if (result == WR_E_NOSPACE || (result == 0 && in->unput)) {
        timer_add(&host->timers, &in->again, host->now_ms + NOSPACE_MS, on_again);
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
    struct group *group;
    struct snap_in *in = in_of(host, request, &group);
    (void)reply;
    if (group == NULL || group->incarnation != request->incarnation) {
        return; /* it has ended: nobody needs it any more */
    }
    if (result == WR_E_NOSPACE && in != NULL) {
        in->unput = true;
    } else if (result != 0) { /* the machine is the new one already */
        host->env->ops->stop(host->env, 1, "the checkpoint store cannot be written");
    }
}

/* The machine's snapshot and what it does not need any more, in one batch, durable. The machine is
 * the new one already: until there is room for this the group stands still. */
static void store_snapshot(struct group *group, struct snap_in *in)
{
    struct host *host = group->host;
    struct kv_op_vec ops = {0};
    if (group->home != NULL) {
        checkpoint_sweep(group, UINT64_MAX, SIZE_MAX, &ops);
    }
    const struct checkpoint c = {.group = group->id,
                                 .index = in->index,
                                 .term = in->term.v,
                                 .membership = bytes_make(in->membership, in->membership_size),
                                 .machine = bytes_make(in->machine->data, in->machine->size)};
    struct kv_op put = {
        .kind = KV_PUT, .key = checkpoint_snapshot_key(group->id), .value = checkpoint_encode(&c)};
    vec_push(&ops, put);
    in->unput = false;
    struct kv_request *request = in_request(group, in, on_snapshot_put);
    host->env->ops->kv_write(host->env, ops.items, (uint32_t)ops.count, request->token);
    request = in_request(group, in, on_installed);
    request->b = in->index;
    host->env->ops->kv_flush(host->env, request->token);
}

static void on_again(struct timer *timer)
{
    struct snap_in *in = WR_CONTAINER_OF(timer, struct snap_in, again);
    store_snapshot(in->group, in);
}

/* The whole stream is here. */
static void install(struct group *group, struct snap_in *in)
{
    uint64_t index = in->index;
    group->installing = true;
    if (!in->has_machine || !in->opened || in->rest->size > 0 ||
        stored_machine_decode(group, index, bytes_make(in->machine->data, in->machine->size)) !=
            0) {
        group->installing = false;
        refuse(group, index);
        return;
    }
    if (group->home != NULL) {
        group->home->store.kv_unknown = UINT64_MAX;
        group->home->store.kv_swept = true;
    }
    store_snapshot(group, in);
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
