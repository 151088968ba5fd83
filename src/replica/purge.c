/*
 * What: the keys that a replica which ended leaves in the checkpoint store are deleted; and where
 * another replica of the same group is to begin, it waits until that is durable: a store that
 * forgets its newest deletions in a crash would give the new one the state of the old.
 *
 * Happy path: the record of the end is durable -> deletions; the queue is gone: that was it / this
 * node is to have a new replica: flush -> done -> it begins. Failure modes: the store cannot be
 * written: tried again every second, and the new replica waits. Invariants I1  A replica is created
 * only when nothing of one before it is left, durably. Ownership: the host owns the waits; ids of
 * queues are never used again, so a wait for a queue that is gone is dropped. Threads: the host's
 * shard.
 */
#include "checkpoint.h"
#include "group.h"
#include "host_internal.h"

#define PURGE_RETRY_MS 1000u

struct purge {
    struct host *host;
    uint64_t group;
    bool flushing;
    struct timer timer;
};

static void delete_keys(struct host *host, uint64_t group)
{
    struct kv_op *ops = wr_calloc(2, sizeof *ops);
    ops[0] = (struct kv_op){.kind = KV_DELETE, .key = checkpoint_snapshot_key(group)};
    ops[1] = (struct kv_op){.kind = KV_DELETE_RANGE,
                            .key = checkpoint_message_key(group, 0),
                            .value = checkpoint_message_key(group, UINT64_MAX)};
    host->env->ops->kv_write(host->env, ops, 2, kv_request_new(host)->token);
}

static void purge_free(struct purge *purge)
{
    timer_cancel(&purge->host->timers, &purge->timer);
    wr_free(purge);
}

void purge_forget(struct host *host, uint64_t group)
{
    struct purge *purge = umap_remove(&host->purges, group);
    if (purge != NULL) {
        purge_free(purge);
    }
}

void purges_free(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->purges);
    while (umap_next(&it)) {
        purge_free(it.value);
    }
    umap_deinit(&host->purges);
}

/* A replica of this node has ended. */
void purge_begin(struct host *host, uint64_t group)
{
    bool fresh;
    void **place = umap_entry(&host->purges, group, &fresh);
    if (fresh) {
        struct purge *purge = wr_calloc(1, sizeof *purge);
        purge->host = host;
        purge->group = group;
        timer_init(&purge->timer);
        *place = purge;
    }
    delete_keys(host, group);
}

static void flush(struct purge *purge);

static void on_retry(struct timer *timer)
{
    struct purge *purge = WR_CONTAINER_OF(timer, struct purge, timer);
    delete_keys(purge->host, purge->group);
    flush(purge);
}

static void on_flushed(struct host *host, struct kv_request *request, int result,
                       struct kv_reply *reply)
{
    struct purge *purge = umap_get(&host->purges, request->group);
    (void)reply;
    if (purge == NULL) {
        return;
    }
    if (result != 0) {
        timer_add(&host->timers, &purge->timer, host->now_ms + PURGE_RETRY_MS, on_retry);
        return;
    }
    purge_forget(host, request->group);
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, request->group) : NULL;
    if (record != NULL) {
        queue_group_view(host, NULL, record);
    }
}

static void flush(struct purge *purge)
{
    struct kv_request *request = kv_request_new(purge->host);
    request->done = on_flushed;
    request->group = purge->group;
    purge->flushing = true;
    purge->host->env->ops->kv_flush(purge->host->env, request->token);
}

/* I1: true when a new replica has to wait; queue_group_view is called again when it need not. */
bool purge_is_pending(struct host *host, uint64_t group)
{
    struct purge *purge = umap_get(&host->purges, group);
    if (purge != NULL && !purge->flushing) {
        flush(purge);
    }
    return purge != NULL;
}
