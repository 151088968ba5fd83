/*
 * What: letting go of the log's oldest segments (LOG_MAIL_RETIRE): what is still needed of them
 * goes to the checkpoint store. Happy path, in bounded steps over all groups with records in
 * segments <= S: COPY     machine snapshot at `applied`; live messages lying in those segments;
 * both to the store (batches of about 1 MiB) FLUSH    one flush for all groups RECORDS  LOG_GROUP,
 * LOG_HARD_STATE, LOG_CHECKPOINT to the newest segment; entries not applied yet are written again
 *   WAIT     all of it durable -> the cores compact, positions are forgotten, log_release(S)
 * A message is written to the store at most once: its position then lies below store.kv_end and has
 * no log position any more. Failure modes: a full disk: the step is tried again every second;
 * another error of the store ends the node. A crash anywhere leaves the old segments and perhaps
 * newer snapshots: recovery takes both. Invariants I1  log_release(S) is sent only when nothing in
 * segments <= S is needed by any group of this shard, durably. I2  What has to be written again
 * (relog.c) is at most half of what is freed, or the log would chase its own tail: a release that
 * would take more waits until more is applied, or more segments can go at once. Threads: the host's
 * shard.
 */
#include "replica_internal.h"

#include "warren/plant.h"

#define RECORDS_PER_TURN 256u
#define PUT_BYTES        (UINT64_C(1) << 20)
#define RETRY_MS         1000u
#define SWEEP_MAX        4096u /* ranges: what is beyond them goes after the next start */

enum phase { PHASE_COPY = 1, PHASE_FLUSH, PHASE_RECORDS, PHASE_WAIT };

struct checkpoint_group {
    uint64_t id, incarnation;
    uint64_t index;      /* snapshot; 0 = none needed */
    uint64_t drop_below; /* where-runs below go with the segments */
    uint64_t compact;    /* highest index in segments <= S */
    bool waits;          /* its LOG_CHECKPOINT is on its way */
    struct relog relog;
};
struct checkpoint_job {
    uint32_t segment, again; /* again: a later RETIRE came meanwhile */
    uint64_t again_bytes;
    enum phase phase;
    VEC(struct checkpoint_group) groups;
    size_t at;
    /* COPY of groups[at]: */
    bool begun, waiting;
    struct slice value; /* the 's' value, put last */
    VEC(struct position_range) ranges;
    size_t range_at;
    uint64_t range_done;
    VEC(struct kv_op) ops;
    uint64_t op_bytes;
    uint64_t asked;
    uint64_t serial;
    uint64_t retry_ms;
};

static void clear_copy(struct checkpoint_job *job)
{
    for (size_t i = 0; i < job->ops.count; i++) {
        slice_unref(&job->ops.items[i].key);
        slice_unref(&job->ops.items[i].value);
    }
    vec_clear(&job->ops);
    vec_clear(&job->ranges);
    slice_unref(&job->value);
    job->begun = job->waiting = false;
    job->range_at = 0;
    job->range_done = job->op_bytes = job->asked = 0;
}

void checkpoint_free(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    if (job == NULL) {
        return;
    }
    clear_copy(job);
    for (size_t i = 0; i < job->groups.count; i++) {
        relog_deinit(&job->groups.items[i].relog);
    }
    vec_deinit(&job->groups);
    vec_deinit(&job->ranges);
    vec_deinit(&job->ops);
    wr_free(job);
    host->checkpoint = NULL;
}

/* --- the stored form of a machine ------------------------------------------------------------ */

static bool run_stays(const struct group *group, const struct where_run *run, uint32_t segment)
{
    struct log_location location;
    return log_index_find(group->index, run->index, &location) &&
           location.position.segment > segment;
}

/* u8 1, varint number of where-runs, the runs, the machine. */
void stored_machine_encode(struct group *group, uint32_t segment, bool with_where, struct buf **out)
{
    struct writer w = {*out};
    put_u8(&w, 1);
    const struct store *store = group->home != NULL ? &group->home->store : NULL;
    uint64_t count = 0;
    for (size_t i = store != NULL && with_where ? store->where_first : SIZE_MAX;
         store != NULL && i < store->where.count; i++) {
        count += run_stays(group, &store->where.items[i], segment);
    }
    put_varint(&w, count);
    for (size_t i = count > 0 ? store->where_first : SIZE_MAX; count > 0 && i < store->where.count;
         i++) {
        const struct where_run *run = &store->where.items[i];
        if (run_stays(group, run, segment)) {
            put_varint(&w, run->position);
            put_varint(&w, run->index);
            put_varint(&w, run->nth);
            put_varint(&w, run->count);
        }
    }
    *out = w.buf;
    group->ops->snapshot(group, out);
}

int stored_machine_decode(struct group *group, uint64_t index, struct bytes stored)
{
    struct reader r = reader_from(stored);
    VEC(struct where_run) runs = {0};
    if (rd_u8(&r) != 1) {
        return WR_E_VERSION;
    }
    uint64_t count = rd_varint(&r);
    uint64_t next = 0;
    for (uint64_t i = 0; i < count && !r.failed; i++) {
        struct where_run run = {.position = rd_varint(&r), .index = rd_varint(&r)};
        run.nth = (uint32_t)rd_varint(&r);
        run.count = (uint32_t)rd_varint(&r);
        if (run.position < next || run.count == 0) {
            rd_fail(&r);
        }
        next = run.position + run.count;
        vec_push(&runs, run);
    }
    int error = r.failed || (count > 0 && group->home == NULL) ? WR_E_CORRUPT : 0;
    if (error == 0) {
        error = group->ops->restore(group, index, bytes_make(r.at, rd_left(&r)));
    }
    for (size_t i = 0; error == 0 && i < runs.count; i++) {
        vec_push(&group->home->store.where, runs.items[i]);
    }
    if (error == 0 && runs.count > 0) {
        struct store *store = &group->home->store;
        store->kv_end = store->kv_unknown = runs.items[0].position;
    }
    vec_deinit(&runs);
    return error;
}

/* --- begin ----------------------------------------------------------------------------------- */

static bool below(uint32_t segment, uint32_t limit)
{
    return segment != 0 && segment <= limit;
}

static bool needs(const struct group *group, uint32_t segment)
{
    return !group->ended &&
           (below(log_index_lowest_segment(group->index), segment) ||
            below(group->segment_group, segment) || below(group->segment_hard, segment) ||
            below(group->segment_checkpoint, segment));
}

/* The segment that holds the oldest message of a queue that is alive and not in the store. */
static uint32_t oldest_needed(const struct group *group)
{
    struct queue_totals totals;
    struct log_location location;
    const struct store *store = &group->home->store;
    queue_totals(group->home->queue, &totals);
    for (size_t i = store->where_first; i < store->where.count; i++) {
        const struct where_run *run = &store->where.items[i];
        if (run->position + run->count > totals.lowest_position) {
            return log_index_find(group->index, run->index, &location) ? location.position.segment
                                                                       : UINT32_MAX;
        }
    }
    return UINT32_MAX;
}

/* The disk is nearly full: lets go of segments in which no message lives, as far as that goes.
 * Nothing is copied but the machines' snapshots. */
void checkpoint_retire_cheaply(struct host *host, uint32_t segment, uint64_t bytes)
{
    bool any = false;
    if (host->checkpoint != NULL) {
        return; /* asked again in a moment */
    }
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        const struct group *group = it.value;
        if (group->home != NULL && needs(group, segment)) {
            uint32_t oldest = oldest_needed(group);
            segment = oldest <= segment ? oldest - 1 : segment;
        }
    }
    it = umap_iterate(&host->groups);
    while (segment > 0 && !any && umap_next(&it)) {
        any = needs(it.value, segment);
    }
    if (any) {
        checkpoint_retire(host, segment, bytes);
    } else if (segment > 0) {
        log_release(host->env, segment);
        /* What was deleted in the store takes space until it is compacted: the seam sees to it. */
        host->env->ops->kv_flush(host->env, kv_request_new(host)->token);
    }
}

static void on_postponed(struct timer *timer)
{
    struct host *host = WR_CONTAINER_OF(timer, struct host, postponed_timer);
    const uint32_t segment = host->postponed_segment;
    host->postponed_segment = 0;
    checkpoint_retire(host, segment, host->postponed_bytes);
}

/* I2. */
static bool postpone(struct host *host, uint32_t segment, uint64_t bytes)
{
    const uint64_t most = bytes / 2 / host->options.shard_count;
    if (relog_bytes(host, segment, most) <= most) {
        return false;
    }
    if (segment > host->postponed_segment) {
        host->postponed_segment = segment;
        host->postponed_bytes = bytes;
    }
    if (!timer_is_pending(&host->postponed_timer)) {
        timer_add(&host->timers, &host->postponed_timer, host->now_ms + RETRY_MS, on_postponed);
    }
    return true;
}

void checkpoint_retire(struct host *host, uint32_t segment, uint64_t bytes)
{
    if (host->checkpoint != NULL) {
        if (segment > host->checkpoint->again) {
            host->checkpoint->again = segment;
            host->checkpoint->again_bytes = bytes;
        }
        return;
    }
    if (postpone(host, segment, bytes)) {
        return;
    }
    struct checkpoint_job *job = wr_calloc(1, sizeof *job);
    job->segment = segment;
    job->phase = PHASE_COPY;
    host->checkpoint = job;
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        struct group *group = it.value;
        if (needs(group, segment)) {
            vec_push(&job->groups,
                     (struct checkpoint_group){.id = group->id, .incarnation = group->incarnation});
        }
    }
    host_mark_now(host);
}

static struct group *group_of(struct host *host, const struct checkpoint_group *g)
{
    struct group *group = group_find(host, g->id);
    return group != NULL && group->incarnation == g->incarnation && !group->ended ? group : NULL;
}

/* --- COPY ------------------------------------------------------------------------------------ */

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
        if (run_stays(group, &store->where.items[i], segment)) {
            return store->where.items[i].position;
        }
    }
    return totals.next_position;
}

struct sweep {
    struct group *group;
    struct kv_op_vec *ops;
    uint64_t next, end;
    size_t max;
};

static void sweep_range(struct sweep *sweep, uint64_t begin, uint64_t end)
{
    end = end < sweep->end ? end : sweep->end;
    if (begin < end && sweep->ops->count < sweep->max) {
        struct kv_op op = {.kind = KV_DELETE_RANGE,
                           .key = checkpoint_message_key(sweep->group->id, begin),
                           .value = checkpoint_message_key(sweep->group->id, end)};
        vec_push(sweep->ops, op);
    }
}

static void sweep_before(void *ctx, uint64_t position, uint64_t count)
{
    struct sweep *sweep = ctx;
    sweep_range(sweep, sweep->next, position);
    sweep->next = position + count;
}

void checkpoint_sweep(struct group *group, uint64_t end, size_t max, struct kv_op_vec *ops)
{
    struct sweep sweep = {.group = group, .ops = ops, .end = end, .max = max};
    queue_each_live(group->home->queue, sweep_before, &sweep);
    sweep_range(&sweep, sweep.next, end);
}

/* What earlier lives of the process left in the store: messages that were dropped in its last
 * second, and those of a transfer that was cut short. Before anything is put beyond kv_end, and
 * written at once, so that it comes before what a transfer that begins now will put. */
static void sweep_store(struct host *host, struct group *group, uint64_t drop_below)
{
    struct store *store = &group->home->store;
    struct kv_op_vec ops = {0};
    struct queue_totals totals;
    queue_totals(group->home->queue, &totals);
    if (!store->kv_swept && group->home->held_drops.count == 0) {
        checkpoint_sweep(
            group, store->kv_end < totals.next_position ? store->kv_end : totals.next_position,
            SWEEP_MAX, &ops);
        store->kv_swept = true;
    }
    /* A transfer's messages, also those whose put is under way, lie below kv_end. */
    bool transfer = group->snap_in != NULL || snap_brought(group) > 0;
    struct sweep beyond = {.group = group, .ops = &ops, .end = UINT64_MAX, .max = SIZE_MAX};
    uint64_t begin =
        transfer && store->kv_end > store->kv_unknown ? store->kv_end : store->kv_unknown;
    uint64_t end = group->snap_in != NULL ? drop_below : UINT64_MAX;
    if (begin < end) {
        sweep_range(&beyond, begin, end);
        store->kv_unknown = end;
    }
    if (ops.count > 0) {
        host->env->ops->kv_write(host->env, ops.items, (uint32_t)ops.count,
                                 kv_request_new(host)->token);
    }
}

static void copy_begin(struct host *host, struct checkpoint_group *g, struct group *group)
{
    struct checkpoint_job *job = host->checkpoint;
    job->begun = true;
    job->serial = ++host->incarnations;
    if (group->raft == NULL || group->installing ||
        !below(log_index_lowest_segment(group->index), job->segment) || group->applied == 0) {
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
        sweep_store(host, group, g->drop_below);
        struct store *store = &group->home->store;
        store->kv_end = g->drop_below > store->kv_end ? g->drop_below : store->kv_end;
    }
}

static void on_put(struct host *host, struct kv_request *request, int result,
                   struct kv_reply *reply)
{
    struct checkpoint_job *job = host->checkpoint;
    (void)reply;
    if (job == NULL || job->serial != request->a) {
        return;
    }
    job->waiting = false;
    if (result == WR_E_NOSPACE) {
        clear_copy(job); /* this group from its start, later */
        job->retry_ms = host->now_ms + RETRY_MS;
    } else if (result != 0) {
        host->env->ops->stop(host->env, 1, "the checkpoint store cannot be written");
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
    job->waiting = false;
    for (size_t i = 0; i < count && job->range_at < job->ranges.count; i++) {
        uint64_t want = job->ranges.items[job->range_at].position + job->range_done;
        if (items[i].position == want) {
            if (queue_is_live(group->home->queue, want)) {
                add_put(job, group, want, &items[i].record);
            }
            step_range(job);
        }
    }
    host_mark_now(group->host);
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
        return true;
    }
    while (job->range_at < job->ranges.count) {
        uint64_t position = job->ranges.items[job->range_at].position + job->range_done;
        const struct slice *first;
        if (job->op_bytes >= PUT_BYTES || job->ops.count >= 4096) {
            put_ops(host, job);
            return false;
        }
        if (!queue_is_live(group->home->queue, position)) {
            step_range(
                job); /* consumed meanwhile: the entry that says so comes after the snapshot */
        } else if (store_run(&group->home->store, position, 1, &first) > 0) {
            add_put(job, group, position, first);
            step_range(job);
        } else if (job->asked != position) {
            job->asked = position;
            job->waiting = true;
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
        vec_push(&job->ops, op);
    }
    if (job->ops.count > 0) {
        put_ops(host, job);
        return false;
    }
    return true;
}

static void copy(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    for (uint32_t n = 0; n < RECORDS_PER_TURN && job->at < job->groups.count; n++) {
        if (job->waiting || job->retry_ms > host->now_ms) {
            return;
        }
        struct checkpoint_group *g = &job->groups.items[job->at];
        struct group *group = group_of(host, g);
        if (group != NULL && !job->begun && group->failed[0] == 0 &&
            (group->installing || group->applied + 1 < group->apply_end)) {
            return; /* it is catching up (after a start): what it applies now need not be written
                       again */
        }
        if (group != NULL && !copy_step(host, g, group)) {
            return;
        }
        clear_copy(job);
        job->at++;
    }
    if (job->at == job->groups.count) {
        job->phase = PHASE_FLUSH;
        job->at = 0;
    }
    host_mark_now(host);
}

/* --- FLUSH ----------------------------------------------------------------------------------- */

static void on_flushed(struct host *host, struct kv_request *request, int result,
                       struct kv_reply *reply)
{
    struct checkpoint_job *job = host->checkpoint;
    (void)reply;
    if (job == NULL || job->serial != request->a) {
        return;
    }
    job->waiting = false;
    if (result == WR_E_NOSPACE) {
        job->retry_ms = host->now_ms + RETRY_MS;
    } else if (result != 0) {
        host->env->ops->stop(host->env, 1, "the checkpoint store cannot be flushed");
    } else {
        job->phase = PHASE_RECORDS;
    }
}

static void flush(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    if (job->waiting || job->retry_ms > host->now_ms) {
        return;
    }
    if (wr_planted(WR_PLANT_checkpoint_not_flushed)) {
        job->phase = PHASE_RECORDS;
        host_mark_now(host);
        return;
    }
    struct kv_request *request = kv_request_new(host);
    job->serial = ++host->incarnations;
    request->done = on_flushed;
    request->a = job->serial;
    job->waiting = true;
    host->env->ops->kv_flush(host->env, request->token);
}

/* --- RECORDS --------------------------------------------------------------------------------- */

static struct checkpoint_group *job_group(struct host *host, uint64_t id, uint64_t incarnation)
{
    struct checkpoint_job *job = host->checkpoint;
    for (size_t i = 0; job != NULL && i < job->groups.count; i++) {
        if (job->groups.items[i].id == id && job->groups.items[i].incarnation == incarnation) {
            return &job->groups.items[i];
        }
    }
    return NULL;
}

struct relog *checkpoint_relog(struct host *host, uint64_t group, uint64_t incarnation)
{
    struct checkpoint_group *g = job_group(host, group, incarnation);
    return g != NULL ? &g->relog : NULL;
}

static void records_of(struct group *group, struct checkpoint_group *g, uint32_t segment)
{
    struct log_location location;
    /* The newer one: a snapshot may have been installed since the copy was made. */
    uint64_t snapshot = g->index > group->checkpoint_index ? g->index : group->checkpoint_index;
    uint64_t last = group->raft != NULL ? raft_last_index(group->raft) : 0;
    group_create_record(group);
    if (group->raft == NULL) {
        return;
    }
    const struct raft_hard_state hard = raft_hard_state(group->raft);
    group_log_hard_state(group, &hard, 0);
    for (uint64_t i = raft_first_index(group->raft); i <= last; i++) {
        if (!log_index_find(group->index, i, &location)) {
            continue;
        }
        if (location.position.segment > segment) {
            break;
        }
        g->compact = i;
    }
    if (g->compact > snapshot) {
        /* Not applied when the snapshot was made. */
        g->compact = snapshot;
        relog_begin(group, &g->relog, snapshot + 1);
    }
    struct raft_term term = {0};
    if (snapshot > 0) {
        int rc = raft_log_term(group->raft, snapshot, &term);
        WR_ASSERT(rc == 0);
    }
    g->waits = true;
    group_log(group, LOG_CHECKPOINT, term, snapshot, 0, RELOG_GENERATION, SLICE_NONE);
}

static void records(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    for (uint32_t n = 0; n < RECORDS_PER_TURN && job->at < job->groups.count; n++, job->at++) {
        struct checkpoint_group *g = &job->groups.items[job->at];
        struct group *group = group_of(host, g);
        if (group != NULL && group->durable && group->failed[0] == 0) {
            records_of(group, g, job->segment);
        }
    }
    if (job->at == job->groups.count) {
        job->phase = PHASE_WAIT;
    }
    host_mark_now(host);
}

/* --- WAIT ------------------------------------------------------------------------------------ */

/* A record of this job is durable. */
void checkpoint_on_item(struct group *group, const struct log_item *item)
{
    struct checkpoint_group *g = job_group(group->host, group->id, group->incarnation);
    if (g == NULL || item->generation != RELOG_GENERATION) {
        return;
    }
    if (item->kind == LOG_CHECKPOINT) {
        g->waits = false;
    } else {
        relog_written(&g->relog, item);
    }
    host_mark_now(group->host);
}

static void release_group(struct group *group, struct checkpoint_group *g, uint32_t segment)
{
    relog_take_places(group, &g->relog);
    if (g->index > group->checkpoint_index) {
        group->checkpoint_index = g->index;
    }
    if (g->compact >= raft_first_index(group->raft) &&
        g->compact <= raft_applied_index(group->raft)) {
        group_step(group,
                   &(struct raft_event){.type = RAFT_EVENT_COMPACTED, .u.index = g->compact});
    }
    log_index_release(group->index, segment);
    if (group->home != NULL) {
        store_trim_where(&group->home->store, g->drop_below);
    }
}

static void wait(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    for (size_t i = 0; i < job->groups.count; i++) {
        struct checkpoint_group *g = &job->groups.items[i];
        struct group *group = group_of(host, g);
        if (group == NULL || group->failed[0] != 0) {
            continue;
        }
        relog_go_on(group, &g->relog);
        if (g->waits || !relog_is_done(&g->relog)) {
            return;
        }
    }
    for (size_t i = 0; i < job->groups.count; i++) {
        struct checkpoint_group *g = &job->groups.items[i];
        struct group *group = group_of(host, g);
        if (group != NULL && group->failed[0] != 0) {
            /* It stands still and may need its old entries: the segments stay (I1), until the node
             * starts again. */
            return;
        }
    }
    for (size_t i = 0; i < job->groups.count; i++) {
        struct group *group = group_of(host, &job->groups.items[i]);
        if (group != NULL && group->raft != NULL) {
            release_group(group, &job->groups.items[i], job->segment);
        }
    }
    uint32_t segment = job->segment;
    uint32_t again = job->again;
    uint64_t again_bytes = job->again_bytes;
    checkpoint_free(host);
    log_reader_release(host->options.reader, segment);
    log_release(host->env, segment);
    if (again > segment) {
        checkpoint_retire(host, again, again_bytes);
    }
}

static void on_retry(struct timer *timer)
{
    host_mark_now(WR_CONTAINER_OF(timer, struct host, checkpoint_timer));
}

/* The job's part of a turn. */
void checkpoint_work(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    if (job == NULL) {
        return;
    }
    switch (job->phase) {
    case PHASE_COPY:
        copy(host);
        break;
    case PHASE_FLUSH:
        flush(host);
        break;
    case PHASE_RECORDS:
        records(host);
        break;
    case PHASE_WAIT:
        wait(host);
        break;
    }
    job = host->checkpoint;
    if (job != NULL && job->retry_ms > host->now_ms && !timer_is_pending(&host->checkpoint_timer)) {
        timer_add(&host->timers, &host->checkpoint_timer, job->retry_ms, on_retry);
    }
}
