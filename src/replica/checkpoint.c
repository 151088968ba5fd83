/*
 * What: letting go of the log's oldest segments (LOG_MAIL_RETIRE): what is still needed of them
 * goes to the checkpoint store. Happy path, in bounded steps over all groups with records in
 * segments <= S:
 *
 * COPY (checkpoint_copy.c): machine snapshot at `applied` and the messages lying in those
 * segments that are live, or whose deliveries still wait for their bytes.
 *
 * FLUSH: one for all groups.
 *
 * RECORDS: LOG_GROUP, LOG_HARD_STATE, LOG_CHECKPOINT to the newest segment; entries not applied yet
 * are written again (relog.c).
 *
 * WAIT: until all of it is durable.
 *
 * RELEASE: the cores compact, positions are forgotten; in the end log_release(S) is sent.
 *
 * A message is written to the store at most once: its position then lies below store.kv_end and has
 * no log position any more. Failure modes: a full disk: the step is tried again every second;
 * another error of the store ends the node. A crash anywhere leaves the old segments and perhaps
 * newer snapshots: recovery takes both.
 *
 * Invariants
 * I1  log_release(S) is sent only when nothing in segments <= S is needed by any group of this
 *     shard, durably.
 * I2  What has to be written again (relog.c) is at most half of what is freed, or the log would
 *     chase its own tail: a release that would take more waits until more is applied, or more
 *     segments can go at once.
 * Threads: the host's shard.
 */
#include "checkpoint_internal.h"
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "store.h"

#include "warren/plant.h"

void checkpoint_free(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    if (job == NULL) {
        return;
    }
    checkpoint_clear_copy(job);
    for (size_t i = 0; i < job->groups.count; i++) {
        relog_deinit(&job->groups.items[i].relog);
    }
    vec_deinit(&job->groups);
    vec_deinit(&job->relogging);
    vec_deinit(&job->ranges);
    vec_deinit(&job->ops);
    wr_free(job);
    host->checkpoint = NULL;
}

/* --- begin ------------------------------------------------------------------------------------ */

static bool needs(const struct group *group, uint32_t segment)
{
    return !group->ended && (segment_is_below(log_index_lowest_segment(group->index), segment) ||
                             segment_is_below(group->segment_group, segment) ||
                             segment_is_below(group->segment_hard, segment) ||
                             segment_is_below(group->segment_checkpoint, segment));
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
            group->checkpoint_place = job->groups.count;
            vec_push(&job->groups,
                     (struct checkpoint_group){.id = group->id, .incarnation = group->incarnation});
        }
    }
    host_mark_now(host);
}

struct group *checkpoint_group_of(struct host *host, const struct checkpoint_group *g)
{
    struct group *group = group_find(host, g->id);
    return group != NULL && group->incarnation == g->incarnation && !group->ended ? group : NULL;
}

struct checkpoint_job *checkpoint_answered(struct host *host, const struct kv_request *request,
                                           int result, const char *why)
{
    struct checkpoint_job *job = host->checkpoint;
    if (job == NULL || job->serial != request->a) {
        return NULL;
    }
    job->waiting = false;
    if (result == WR_E_NOSPACE) {
        job->retry_ms = host->now_ms + RETRY_MS;
    } else if (result != 0) {
        host->env->ops->stop(host->env, 1, why);
    }
    return job;
}

/* --- FLUSH ------------------------------------------------------------------------------------ */

static void on_flushed(struct host *host, struct kv_request *request, int result,
                       struct kv_reply *reply)
{
    struct checkpoint_job *job =
        checkpoint_answered(host, request, result, "the checkpoint store cannot be flushed");
    (void)reply;
    if (job != NULL && result == 0) {
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

/* --- RECORDS ---------------------------------------------------------------------------------- */

/* NULL: the group is not part of it. */
static struct checkpoint_group *job_group(const struct group *group)
{
    const struct checkpoint_job *job = group->host->checkpoint;
    if (job == NULL || group->checkpoint_place >= job->groups.count) {
        return NULL;
    }
    struct checkpoint_group *g = &job->groups.items[group->checkpoint_place];
    return g->id == group->id && g->incarnation == group->incarnation ? g : NULL;
}

struct relog *checkpoint_relog(const struct group *group)
{
    struct checkpoint_group *g = job_group(group);
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
        vec_push(&group->host->checkpoint->relogging, group->checkpoint_place);
    }
    struct raft_term term = {0};
    if (snapshot > 0) {
        int rc = raft_log_term(group->raft, snapshot, &term);
        WR_ASSERT(rc == 0);
    }
    g->waits = true;
    group->host->checkpoint->missing++;
    group_log(group, LOG_CHECKPOINT, term, snapshot, 0, RELOG_GENERATION, SLICE_NONE);
}

static void records(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    for (uint32_t n = 0; n < RECORDS_PER_TURN && job->at < job->groups.count; n++, job->at++) {
        struct checkpoint_group *g = &job->groups.items[job->at];
        struct group *group = checkpoint_group_of(host, g);
        if (group != NULL && group->durable && group->failed[0] == 0) {
            records_of(group, g, job->segment);
        }
    }
    if (job->at == job->groups.count) {
        job->phase = PHASE_WAIT;
        job->at = 0;
    }
    host_mark_now(host);
}

/* --- WAIT ------------------------------------------------------------------------------------- */

/* A record of this job is durable. */
void checkpoint_on_item(struct group *group, const struct log_item *item)
{
    struct checkpoint_group *g = job_group(group);
    if (g == NULL || item->generation != RELOG_GENERATION) {
        return;
    }
    if (item->kind == LOG_CHECKPOINT) {
        group->host->checkpoint->missing -= g->waits;
        g->waits = false;
    } else {
        relog_written(&g->relog, item);
    }
    host_mark_now(group->host);
}

/* Of a group that is still part of the job. */
static bool is_open(struct group *group, struct checkpoint_group *g)
{
    if (group == NULL || group->failed[0] != 0) {
        return false;
    }
    relog_go_on(group, &g->relog);
    return g->waits || !relog_is_done(&g->relog);
}

/* Looks at each group only when nothing seems to be missing, and now and then, since some may have
 * gone: there may be very many. */
static bool all_durable(struct host *host, struct checkpoint_job *job)
{
    for (size_t i = 0; i < job->relogging.count; i++) {
        struct checkpoint_group *g = &job->groups.items[job->relogging.items[i]];
        if (is_open(checkpoint_group_of(host, g), g) && job->look_ms > host->now_ms) {
            return false;
        }
    }
    if (job->missing > 0 && job->look_ms > host->now_ms) {
        return false;
    }
    size_t open = 0;
    job->missing = 0;
    for (size_t i = 0; i < job->groups.count; i++) {
        struct checkpoint_group *g = &job->groups.items[i];
        open += is_open(checkpoint_group_of(host, g), g) ? 1 : 0;
        job->missing += g->waits ? 1 : 0;
    }
    job->look_ms = host->now_ms + LOOK_MS;
    return open == 0;
}

static void wait(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    if (all_durable(host, job)) {
        job->phase = PHASE_RELEASE;
        host_mark_now(host);
    }
}

/* --- RELEASE ---------------------------------------------------------------------------------- */

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

static void release_end(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
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

static void release(struct host *host)
{
    struct checkpoint_job *job = host->checkpoint;
    for (uint32_t n = 0; n < RECORDS_PER_TURN && job->at < job->groups.count; n++, job->at++) {
        struct checkpoint_group *g = &job->groups.items[job->at];
        struct group *group = checkpoint_group_of(host, g);
        if (group != NULL && group->failed[0] != 0) {
            /* It stands still and may need its old entries: the segments stay (I1), until the node
             * starts again. */
            return;
        }
        if (group != NULL && group->raft != NULL) {
            release_group(group, g, job->segment);
        }
    }
    if (job->at < job->groups.count) {
        host_mark_now(host);
    } else {
        release_end(host);
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
        checkpoint_copy(host);
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
    case PHASE_RELEASE:
        release(host);
        break;
    }
    job = host->checkpoint;
    const uint64_t next_ms = job == NULL                ? 0
                             : job->phase == PHASE_WAIT ? job->look_ms
                                                        : job->retry_ms;
    if (next_ms > host->now_ms && !timer_is_pending(&host->checkpoint_timer)) {
        timer_add(&host->timers, &host->checkpoint_timer, next_ms, on_retry);
    }
}
