/*
 * What: the COPY phase of a release of old segments (checkpoint.c): what lives in them goes to the
 * checkpoint store, group after group.
 * Happy path: machine snapshot at `applied`; the ranges of live messages whose entries go; their
 * bytes from memory, or read from the log in order; batches of about 1 MiB; the snapshot's value
 * last. Failure modes: a full disk: the group is begun again a second later; another error ends the
 * node. A group that a newer snapshot reaches meanwhile needs none of ours. Invariants: a message
 * is put at most once: its position then lies below store.kv_end. Threads: the host's shard.
 */
#include "checkpoint_internal.h"
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "load.h"
#include "store.h"

#include <stdlib.h>

#define PUT_BYTES (UINT64_C(1) << 20)

/* The next group; what is put for the last one stays. */
static void clear_group(struct checkpoint_job *job)
{
    vec_clear(&job->ranges);
    slice_unref(&job->value);
    job->begun = false;
    job->range_at = 0;
    job->range_done = job->asked = 0;
}

void checkpoint_clear_copy(struct checkpoint_job *job)
{
    for (size_t i = 0; i < job->ops.count; i++) {
        slice_unref(&job->ops.items[i].key);
        slice_unref(&job->ops.items[i].value);
    }
    vec_clear(&job->ops);
    job->op_bytes = 0;
    job->waiting = false;
    clear_group(job);
}

struct live_filter {
    struct checkpoint_job *job;
    uint64_t begin, end;
};

static void on_live(void *ctx, uint64_t position, uint64_t count)
{
    struct live_filter *f = ctx;
    uint64_t begin = position > f->begin ? position : f->begin;
    uint64_t end = position + count < f->end ? position + count : f->end;
    if (begin < end) {
        vec_push(&f->job->ranges, (struct position_range){begin, end - begin});
    }
}

static int by_position(const void *a, const void *b)
{
    const struct position_range *x = a;
    const struct position_range *y = b;
    return x->position < y->position ? -1 : x->position > y->position;
}

/* What is done with, and whose deliveries wait to be read from what goes: it goes to the store
 * as well, and from there when they are out. */
static void add_held(const struct home *home, struct live_filter *f)
{
    struct checkpoint_job *job = f->job;
    struct rangemap_cursor cursor;
    for (const struct range_run *run = rangemap_lower_bound(&home->held_drops, 0, &cursor);
         run != NULL; run = rangemap_next(&cursor)) {
        on_live(f, run->first, run->count);
    }
    if (!rangemap_is_empty(&home->held_drops) && job->ranges.count > 0) {
        qsort(job->ranges.items, job->ranges.count, sizeof *job->ranges.items, by_position);
    }
}

/* First position whose entry stays in the log; all below are in the store or go there now. */
static uint64_t first_staying(const struct group *group, uint32_t segment,
                              uint64_t *ret_first_where)
{
    const struct store *store = &group->home->store;
    struct queue_totals totals;
    queue_totals(group->home->queue, &totals);
    *ret_first_where = store->where_first < store->where.count
                           ? store->where.items[store->where_first].position
                           : totals.next_position;
    for (size_t i = store->where_first; i < store->where.count; i++) {
        if (checkpoint_run_stays(group, &store->where.items[i], segment)) {
            return store->where.items[i].position;
        }
    }
    return totals.next_position;
}

static void copy_begin(struct host *host, struct checkpoint_group *g, struct group *group)
{
    struct checkpoint_job *job = host->checkpoint;
    job->begun = true;
    job->serial = ++host->incarnations;
    if (group->raft == NULL || group->installing ||
        !segment_is_below(log_index_lowest_segment(group->index), job->segment) ||
        group->applied == 0) {
        return; /* only records are needed */
    }
    struct raft_snapshot_meta meta;
    if (raft_snapshot_meta(group->raft, group->applied, &meta) != 0) {
        return;
    }
    g->index = group->applied;
    uint8_t membership[RAFT_MEMBERSHIP_BYTES_MAX];
    size_t membership_size = raft_membership_encode(&meta.membership, membership);
    struct buf *machine = buf_new(1024);
    stored_machine_encode(group, job->segment, true, &machine);
    const struct checkpoint c = {.group = group->id,
                                 .index = meta.index,
                                 .term = meta.term.v,
                                 .membership = bytes_make(membership, membership_size),
                                 .machine = bytes_make(machine->data, machine->size)};
    job->value = checkpoint_encode(&c);
    buf_unref(machine);
    if (group->home != NULL) {
        struct live_filter filter = {.job = job};
        g->drop_below = filter.end = first_staying(group, job->segment, &filter.begin);
        queue_each_live(group->home->queue, on_live, &filter);
        add_held(group->home, &filter);
        checkpoint_sweep_store(host, group, g->drop_below);
        struct store *store = &group->home->store;
        store->kv_end = g->drop_below > store->kv_end ? g->drop_below : store->kv_end;
    }
}

static void on_put(struct host *host, struct kv_request *request, int result,
                   struct kv_reply *reply)
{
    struct checkpoint_job *job =
        checkpoint_answered(host, request, result, "the checkpoint store cannot be written");
    (void)reply;
    if (job != NULL && result == WR_E_NOSPACE) {
        checkpoint_clear_copy(job); /* these groups from their start, later */
        job->at = job->batch_at;
    } else if (job != NULL) {
        job->batch_at = job->at;
    }
}

static void put_ops(struct host *host, struct checkpoint_job *job)
{
    struct kv_request *request = kv_request_new(host);
    request->done = on_put;
    request->a = job->serial;
    struct kv_op *ops = job->ops.items;
    uint32_t count = (uint32_t)job->ops.count;
    vec_init(&job->ops);
    job->op_bytes = 0;
    job->waiting = true;
    host->env->ops->kv_write(host->env, ops, count, request->token);
}

static bool ops_are_many(const struct checkpoint_job *job)
{
    return job->op_bytes >= PUT_BYTES || job->ops.count >= 4096;
}

static void add_put(struct checkpoint_job *job, struct group *group, uint64_t position,
                    const struct slice *record)
{
    struct kv_op op = {.kind = KV_PUT,
                       .key = checkpoint_message_key(group->id, position),
                       .value = slice_ref(record)};
    vec_push(&job->ops, op);
    job->op_bytes += record->size;
}

static void step_range(struct checkpoint_job *job)
{
    if (++job->range_done == job->ranges.items[job->range_at].count) {
        job->range_at++;
        job->range_done = 0;
    }
}

static void on_fetched(struct group *group, uint64_t position, const struct fetched *items,
                       size_t count, uint64_t serial, uint64_t b)
{
    struct checkpoint_job *job = group->host->checkpoint;
    (void)b;
    (void)position;
    if (job == NULL || job->serial != serial) {
        return;
    }
    job->waiting = job->fetching = false;
    for (size_t i = 0; i < count && job->range_at < job->ranges.count; i++) {
        uint64_t want = job->ranges.items[job->range_at].position + job->range_done;
        if (items[i].position == want) {
            if (home_wants(group->home, want)) {
                add_put(job, group, want, &items[i].record);
            }
            step_range(job);
        }
    }
    host_mark_now(group->host);
}

/* It ended, or a newer snapshot came, while its log was read: what was to be put for it would come
 * behind the deletion of it. (Only its own are kept from turn to turn.) */
static void drop_own_puts(struct checkpoint_job *job)
{
    if (job->batch_at == job->at) {
        checkpoint_clear_copy(job);
    }
}

/* True: groups[at] is done. */
static bool copy_step(struct host *host, struct checkpoint_group *g, struct group *group)
{
    struct checkpoint_job *job = host->checkpoint;
    if (!job->begun) {
        copy_begin(host, g, group);
    }
    if (g->index > 0 && (group->installing || group->checkpoint_index > g->index)) {
        /* A newer snapshot came from the leader and is, or will be, in its place, with all that is
         * needed: what was to be put may be dead by now. */
        g->index = 0;
        drop_own_puts(job);
        return true;
    }
    while (job->range_at < job->ranges.count) {
        uint64_t position = job->ranges.items[job->range_at].position + job->range_done;
        const struct slice *first;
        if (ops_are_many(job)) {
            put_ops(host, job);
            return false;
        }
        if (!home_wants(group->home, position)) {
            step_range(
                job); /* consumed meanwhile: the entry that says so comes after the snapshot */
        } else if (store_run(&group->home->store, position, 1, &first) > 0) {
            add_put(job, group, position, first);
            step_range(job);
        } else if (job->batch_at < job->at) {
            put_ops(host, job); /* before this one waits for its log */
            return false;
        } else if (job->asked != position) {
            job->asked = position;
            job->waiting = job->fetching = true;
            fetch_start(group, position, FETCH_AHEAD, on_fetched, job->serial, 0);
            return false;
        } else {
            /* An earlier checkpoint left out what was consumed while it was made; until the entries
             * that say so are applied again, such messages seem to live. */
            if (raft_last_index(group->raft) == group->applied) {
                wr_log(host->logger, LOG_LEVEL_ERROR, "queue",
                       "queue %llu: the bytes of the message at position %llu are lost",
                       (unsigned long long)group->id, (unsigned long long)position);
            }
            step_range(job);
        }
    }
    if (job->value.buf != NULL) {
        struct kv_op op = {
            .kind = KV_PUT, .key = checkpoint_snapshot_key(group->id), .value = job->value};
        job->value = SLICE_NONE;
        job->op_bytes += op.value.size;
        vec_push(&job->ops, op);
    }
    return true;
}

/* False: something is waited for, or the group's turn has not come. */
static bool copy_next(struct host *host, struct checkpoint_job *job)
{
    struct checkpoint_group *g = &job->groups.items[job->at];
    struct group *group = checkpoint_group_of(host, g);
    if (group != NULL && !job->begun && group->failed[0] == 0 &&
        (group->installing || group->applied + 1 < group->apply_end || !ahead_is_settled(group))) {
        return false; /* it is catching up (after a start): what it applies now need not be written
                         again */
    }
    if (group == NULL) {
        drop_own_puts(job);
    } else if (!copy_step(host, g, group)) {
        return false;
    }
    clear_group(job);
    job->at++;
    return true;
}

void checkpoint_copy(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    if (job->fetching && checkpoint_group_of(host, &job->groups.items[job->at]) == NULL) {
        job->waiting = job->fetching = false;
    }
    if (job->waiting || job->retry_ms > host->now_ms) {
        return;
    }
    bool more = true;
    for (uint32_t n = 0; more && n < RECORDS_PER_TURN && job->at < job->groups.count; n++) {
        more = !ops_are_many(job) && copy_next(host, job);
    }
    if (job->ops.count > 0 && !job->waiting) {
        put_ops(host, job);
        return;
    }
    if (job->waiting || !more) {
        return;
    }
    job->batch_at = job->at;
    if (job->at == job->groups.count) {
        job->phase = PHASE_FLUSH;
        job->at = 0;
    }
    host_mark_now(host);
}
