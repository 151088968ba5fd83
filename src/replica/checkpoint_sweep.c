/*
 * What: deleting from the checkpoint store what nobody needs: messages of one group that do not
 * live.
 * Happy path: the gaps between live ranges become range deletions. Failure modes: none here; to
 * delete too late costs space only. Invariants: nothing that lives, and nothing that a transfer
 * under way has put, lies in a range. Threads: the host's shard.
 */
#include "checkpoint_internal.h"
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "store.h"

#define SWEEP_MAX 4096u /* ranges: what is beyond them goes after the next start */

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
    sweep->next = position + count > sweep->next ? position + count : sweep->next;
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
void checkpoint_sweep_store(struct host *host, struct group *group, uint64_t drop_below)
{
    struct store *store = &group->home->store;
    struct kv_op_vec ops = {0};
    struct queue_totals totals;
    queue_totals(group->home->queue, &totals);
    if (!store->kv_swept && rangemap_is_empty(&group->home->held_drops)) {
        checkpoint_sweep(
            group, store->kv_end < totals.next_position ? store->kv_end : totals.next_position,
            SWEEP_MAX, &ops);
        store->kv_swept = true;
    }
    /* A transfer's messages, also those whose put is under way, lie below kv_end. */
    bool transfer = group->snap_in != NULL || snap_brought(group) > 0;
    uint64_t begin =
        transfer && store->kv_end > store->kv_unknown ? store->kv_end : store->kv_unknown;
    uint64_t end = group->snap_in != NULL ? drop_below : UINT64_MAX;
    /* What is put now, below drop_below, is known from now on; what does not live there never will.
     */
    struct sweep known = {.group = group,
                          .ops = &ops,
                          .next = store->kv_unknown,
                          .end = begin < drop_below ? begin : drop_below,
                          .max = SWEEP_MAX};
    if (known.next < known.end) {
        queue_each_live(group->home->queue, sweep_before, &known);
        sweep_range(&known, known.next, known.end);
    }
    store->kv_unknown = store->kv_unknown > drop_below ? store->kv_unknown : drop_below;
    if (begin < end) {
        struct sweep beyond = {.group = group, .ops = &ops, .max = SIZE_MAX, .end = UINT64_MAX};
        sweep_range(&beyond, begin, end);
        store->kv_unknown = end;
    }
    if (ops.count > 0) {
        host->env->ops->kv_write(host->env, ops.items, (uint32_t)ops.count,
                                 kv_delete_request(host, group->id)->token);
    }
}
