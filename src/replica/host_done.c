/*
 * What: what the host asked of others and is done: records of the log, reads, the checkpoint store.
 * Happy path: a log batch is durable -> positions are noted, cores hear of their entries, groups
 * that were created begin, unless they did so at once. Failure modes: a log batch that came back
 * with an error ends the node (a failed sync proves nothing); what was asked for by a group that
 * ended meanwhile is not found any more. Invariants: entries of one group are told once per run, in
 * the order of the log. Threads: the shard that owns the host.
 */
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "store.h"

#include <stdio.h>

/* --- the log ---------------------------------------------------------------------------------- */

static void group_ended(struct group *group)
{
    struct host *host = group->host;
    uint64_t id = group->id;
    const struct raft_id member = group->self;
    group_free(group);
    purge_begin(host, id);
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, id) : NULL;
    if (record != NULL) {
        replica_ended(host, id, member);
        queue_group_view(host, NULL, record); /* named again meanwhile: a new replica begins */
    } else {
        purge_forget(host, id); /* ids are not used again */
    }
}

static void on_meta_item(struct group *group, const struct log_item *item)
{
    WR_ASSERT(group->meta_pending > 0);
    group->meta_pending--;
    uint32_t *place = item->kind == LOG_GROUP        ? &group->segment_group
                      : item->kind == LOG_HARD_STATE ? &group->segment_hard
                                                     : &group->segment_checkpoint;
    *place = item->position.segment;
    if (item->kind == LOG_GROUP && (item->flags & GROUP_QUARANTINED) != 0) {
        compare_on_durable(group);
    }
    if (item->kind == LOG_GROUP && !group->durable) {
        group->durable = true;
        group->lazy = false;
        if (!group->ended) {
            if (group->raft == NULL) {
                group_begin(group);
            }
            host_readmit_held(group->host);
            group_check_end(group); /* a view that does not name it may have come meanwhile */
        }
    } else if (item->kind == LOG_HARD_STATE && item->generation != 0) {
        group_step(group, &(struct raft_event){.type = RAFT_EVENT_HARD_STATE_PERSISTED,
                                               .u.hard_state_generation = item->generation});
    } else if (item->kind == LOG_CHECKPOINT) {
        checkpoint_on_item(group, item);
    }
}

static void tell_persisted(struct group *group, const struct log_item *last)
{
    struct raft_event event = {.type = RAFT_EVENT_PERSISTED};
    event.u.persisted.term.v = last->term;
    event.u.persisted.index = last->index;
    event.u.persisted.generation = last->generation;
    group_step(group, &event);
}

static void on_batch(struct host *host, struct log_batch *batch)
{
    if (batch->result != 0) {
        char why[200];
        snprintf(why, sizeof why, "the log cannot be written: %s", wr_err_text(batch->result));
        host->env->ops->stop(host->env, 1, why);
        log_batch_free(batch);
        return;
    }
    struct group *group = NULL;
    const struct log_item *last = NULL; /* of this group's entries, not told yet */
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct log_item *item = &batch->items[i];
        bool same =
            group != NULL && group->id == item->group && (uint32_t)group->incarnation == item->pad2;
        if (last != NULL && (!same || item->kind != LOG_ENTRY)) {
            tell_persisted(group, last);
            last = NULL;
        }
        if (!same) {
            group = group_find(host, item->group);
            if (group != NULL && (uint32_t)group->incarnation != item->pad2) {
                group = NULL;
            }
        }
        if (group == NULL) {
            continue;
        }
        switch (item->kind) {
        case LOG_ENTRY:
            if (item->generation == RELOG_GENERATION) {
                checkpoint_on_item(group, item);
                break;
            }
            log_index_put(group->index, item->index,
                          &(struct log_location){item->position, item->payload.size, item->term,
                                                 item->flags});
            last = item;
            break;
        case LOG_TRUNCATE:
            log_index_truncate(group->index, item->index);
            break;
        case LOG_GROUP_END:
            group_ended(group);
            group = NULL;
            break;
        default:
            on_meta_item(group, item);
            break;
        }
    }
    if (last != NULL) {
        tell_persisted(group, last);
    }
    log_batch_free(batch);
}

static void on_log_state(struct host *host, const struct log_state_mail *state)
{
    bool trouble = state->blocked || state->low;
    if (host->options.shard == 0 && state->blocked && !host->log_blocked) {
        wr_log(host->logger, LOG_LEVEL_ERROR, "disk",
               "nothing can be written: %s; everything that must be durable waits", state->why);
    } else if (host->options.shard == 0 && trouble && !host->log_blocked && !host->disk_low) {
        wr_log(host->logger, LOG_LEVEL_WARNING, "disk",
               "disk alarm: %s; publishers on all nodes are held back until there is more: make "
               "room, let "
               "consumers catch up, or lower disk_free_limit",
               state->why);
    } else if (host->options.shard == 0 && !trouble && (host->log_blocked || host->disk_low)) {
        wr_log(host->logger, LOG_LEVEL_INFO, "disk",
               "disk alarm cleared: there is enough free space again");
    }
    host->log_blocked = state->blocked;
    host->disk_low = trouble;
    snprintf(host->log_why, sizeof host->log_why, "%s", trouble ? state->why : "");
    host_mark_now(host);
}

bool host_disk_is_low(const struct host *host)
{
    return host->disk_low;
}

bool host_on_mail(struct host *host, struct mail *owned)
{
    host_refresh(host);
    if (owned->kind == LOG_MAIL_DONE) {
        on_batch(host, WR_CONTAINER_OF(owned, struct log_batch, mail));
    } else if (owned->kind == LOG_MAIL_RETIRE) {
        const struct log_retire_mail retire = *WR_CONTAINER_OF(owned, struct log_retire_mail, mail);
        owned->destroy(owned);
        if (retire.cheaply) {
            checkpoint_retire_cheaply(host, retire.segment, retire.bytes);
        } else {
            checkpoint_retire(host, retire.segment, retire.bytes);
        }
    } else if (owned->kind == LOG_MAIL_STATE) {
        on_log_state(host, WR_CONTAINER_OF(owned, struct log_state_mail, mail));
        owned->destroy(owned);
    } else {
        return false;
    }
    return true;
}

bool host_on_file(struct host *host, uint64_t token, int64_t result)
{
    host_refresh(host);
    return log_reader_on_file(host->options.reader, token, result);
}

/* --- the checkpoint store --------------------------------------------------------------------- */

struct kv_request *kv_request_new(struct host *host)
{
    struct kv_request *request = wr_calloc(1, sizeof *request);
    request->token = HOST_KV_TOKEN_BASE + ++host->kv_token;
    umap_put(&host->kv_requests, request->token, request);
    return request;
}

bool host_on_kv(struct host *host, uint64_t token, int result, void *owned_reply)
{
    if (token < HOST_KV_TOKEN_BASE || token >= LOG_READER_TOKEN_BASE) {
        return false;
    }
    host_refresh(host);
    struct kv_request *request = umap_remove(&host->kv_requests, token);
    WR_ASSERT(request != NULL);
    if (request->done != NULL) {
        request->done(host, request, result, owned_reply);
    }
    kv_reply_free(owned_reply);
    wr_free(request);
    return true;
}

/* What could not be deleted goes when the group's next messages come to the store. */
static void on_deleted(struct host *host, struct kv_request *request, int result,
                       struct kv_reply *reply)
{
    struct group *group = group_find(host, request->group);
    (void)reply;
    if (result != 0 && group != NULL && group->home != NULL) {
        group->home->store.kv_swept = false;
    }
}

struct kv_request *kv_delete_request(struct host *host, uint64_t group)
{
    struct kv_request *request = kv_request_new(host);
    request->done = on_deleted;
    request->group = group;
    return request;
}

static bool drop_keys(struct home *home, bool all)
{
    struct store *store = &home->store;
    if (store->kv_drops.count == 0 || (!all && store->kv_drops.count < 256)) {
        return false;
    }
    struct host *host = home->host;
    uint32_t count = (uint32_t)store->kv_drops.count;
    struct kv_op *ops = wr_calloc(count, sizeof *ops);
    for (uint32_t i = 0; i < count; i++) {
        const struct position_range *r = &store->kv_drops.items[i];
        ops[i].kind = KV_DELETE_RANGE;
        ops[i].key = checkpoint_message_key(home->id, r->position);
        ops[i].value = checkpoint_message_key(home->id, r->position + r->count);
    }
    vec_clear(&store->kv_drops);
    host->env->ops->kv_write(host->env, ops, count, kv_delete_request(host, home->id)->token);
    return true;
}

/* Keys of dropped messages go lazily: deleting too late only costs space. */
static void on_kv_drops(struct timer *timer)
{
    struct host *host = WR_CONTAINER_OF(timer, struct host, drop_timer);
    struct umap_iter it = umap_iterate(&host->groups);
    while (umap_next(&it)) {
        struct group *group = it.value;
        if (group->home != NULL && !group->installing) {
            (void)drop_keys(group->home, true);
        }
    }
}

void host_want_kv_drops(struct host *host)
{
    if (!timer_is_pending(&host->drop_timer)) {
        timer_add(&host->timers, &host->drop_timer, host->now_ms + 1000, on_kv_drops);
    }
}
