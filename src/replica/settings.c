/*
 * What: policies reach machines. A machine is made from its queue's arguments; what the catalog
 * says is in force besides comes as a CONFIG op, through the log of a group. Only where the queue
 * is served: the leader looks when it begins to serve and when the view of the queue changes.
 * Failure modes: an op that is lost with the leadership is made again by the next leader, who finds
 * the difference. Invariants: nothing is proposed while machine and view agree; the op may be
 * repeated. Threads: the host's shard. Spec: docs/policies.md, "Changes".
 */
#include "replica_internal.h"

/* By their encoding, so that a field that is added counts too. *wanted gets that of b. */
static bool same(const struct queue_config *a, const struct queue_config *b, struct buf **wanted)
{
    struct buf *has = buf_new(64);
    queue_config_encode(&has, a);
    queue_config_encode(wanted, b);
    const bool equal =
        bytes_eq(bytes_make(has->data, has->size), bytes_make((*wanted)->data, (*wanted)->size));
    buf_unref(has);
    return equal;
}

void home_check_settings(struct home *home)
{
    const struct catalog_view *view = home->host->view;
    const struct catalog_queue *record = view == NULL ? NULL : catalog_queue_by_id(view, home->id);
    if (!home->serving || record == NULL) {
        return;
    }
    struct queue_config has;
    struct queue_config wanted;
    queue_get_config(home->queue, &has);
    queue_settings_config(record, &wanted);
    /* Fixed when it was made, whatever the record of a later declaration says. */
    wanted.auto_delete = has.auto_delete;
    wanted.single_active_consumer = has.single_active_consumer;
    wanted.priority_max = has.priority_max;
    struct buf *encoded = buf_new(64);
    if (!same(&has, &wanted, &encoded)) {
        const struct queue_op op = {.kind = QUEUE_OP_CONFIG,
                                    .args = bytes_make(encoded->data, encoded->size)};
        home_host_op(home, &op);
    }
    buf_unref(encoded);
}

void settings_view_changed(struct host *host, uint64_t queue_id)
{
    struct group *group = umap_get(&host->groups, queue_id);
    struct home *home = group != NULL ? group->home : umap_get(&host->locals, queue_id);
    if (home != NULL) {
        home_check_settings(home);
    }
}
