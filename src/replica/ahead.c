/*
 * What: entries that only take (queue_takes) are applied before the log has them, in a group that
 * has one member, whose clients are all on this node: a consumer that waits for its next message
 * does not wait for the sync of the acknowledgement before it.
 * Happy path: proposed -> applied at once: DELIVERs and the REPLY of a get go out; all other
 * effects wait -> committed: these go out (ahead_committed), and the entry is not applied again.
 * Failure modes: the node ends before the log has them: nothing that was promised is lost with
 * them, since what promises something waits. What was handed out is forgotten, though, and a
 * message that somebody has seen must not come as a new one: whoever recovers the group marks as
 * many of the next messages as may have been handed out (SUSPECT), before it serves anybody.
 * Invariants
 * A1  (applied, ahead] only take, and the machine is as after `ahead`. Whoever makes use of the
 *     machine as of `applied` (snapshots, checkpoints, hashes, RESUMED) waits until both are equal.
 * A2  What (applied, ahead] hands out are at most AHEAD_MOST messages.
 * A3  Nobody but clients of this process hears of (applied, ahead]: they end with it.
 * Threads: the host's shard. Spec: docs/replica.md, "Ahead of the log".
 */
#include "group.h"
#include "home.h"
#include "host_internal.h"

#include "warren/plant.h"

#define AHEAD_MOST 256u
#define AHEAD_ENTRY_SIZE                                                                           \
    16384u /* Larger ones are of clients that do not wait for each message.                        \
            */

static bool may_go_ahead(const struct group *group)
{
    const struct host *host = group->host;
    return group->home != NULL && group->serving && group->durable && !group->installing &&
           group->applied + 1 == group->apply_end && group->home->remote_routes == 0 &&
           group->waiting.count == 0 && host->checkpoint == NULL &&
           raft_membership(group->raft).count == 1;
}

/* Up to how many messages the entry hands out; false: it does something else as well. */
static bool only_takes(const struct group *group, const struct slice *payload, uint64_t *ret_most)
{
    struct queue_batch_reader reader;
    struct queue_batch batch;
    bool takes = payload->size > ENTRY_HEADER && payload->size <= AHEAD_ENTRY_SIZE;
    int got = 0;
    *ret_most = 0;
    if (!takes) {
        return false;
    }
    queue_batch_reader_init(&reader, payload->buf, payload->offset + ENTRY_HEADER,
                            payload->offset + payload->size);
    while (takes && (got = queue_batch_reader_next(&reader, &batch)) == 1) {
        uint64_t most = 0;
        takes = batch.client != 0 && queue_takes(group->home->queue, &batch, &most);
        *ret_most += most;
    }
    queue_batch_reader_deinit(&reader);
    return takes && got == 0;
}

static bool go_ahead(struct group *group, uint64_t index)
{
    struct home *home = group->home;
    const struct raft_entry *entry = raft_log_entry(group->raft, index);
    uint64_t most;
    if (entry == NULL || entry->kind != RAFT_ENTRY_COMMAND) {
        return false;
    }
    const struct slice payload = group_entry_slice(entry);
    if (!only_takes(group, &payload, &most) || home->ahead_out + most > AHEAD_MOST) {
        return false;
    }
    const uint64_t out = home->ahead_out;
    home->ahead = true;
    const int rc = group->ops->apply(group, index, entry->term, &payload);
    home->ahead = false;
    WR_ASSERT(rc == 0);
    WR_ASSERT_OP(home->ahead_out - out, <=, most); /* A2 */
    group->ahead = index;
    return true;
}

void ahead_apply(struct group *group)
{
    const uint64_t last = raft_last_index(group->raft);
    uint64_t next = (group->ahead > group->applied ? group->ahead : group->applied) + 1;
    if (next > last || !may_go_ahead(group)) {
        return;
    }
    while (next <= last && go_ahead(group, next)) {
        next++;
    }
}

bool ahead_takes_effect(struct home *home, const struct queue_effect *effect)
{
    const bool message = effect->kind == QUEUE_EFFECT_DELIVER && (effect->flags & QUEUE_DEAD) == 0;
    if (message) {
        home->ahead_out += effect->count;
    }
    if (message || effect->kind == QUEUE_EFFECT_REPLY) {
        return true;
    }
    vec_push(&home->behind, (struct behind_effect){home->entry_index, *effect});
    return false;
}

void ahead_committed(struct group *group, uint64_t index)
{
    struct home *home = group->home;
    size_t end = home->behind_first;
    while (end < home->behind.count && home->behind.items[end].index <= index) {
        vec_push(&home->effects, home->behind.items[end].effect);
        end++;
    }
    home->behind_first = end;
    if (end == home->behind.count) {
        vec_clear(&home->behind);
        home->behind_first = 0;
    } else if (end > 256 && end > home->behind.count / 2) {
        home->behind.count -= end;
        memmove(home->behind.items, home->behind.items + end,
                home->behind.count * sizeof *home->behind.items);
        home->behind_first = 0;
    }
    pace_committed(home, index);
    home_carry_out(home);
    if (index == group->ahead) {
        WR_ASSERT_OP(home->behind.count, ==, 0);
        home->ahead_out = 0;
    }
}

/* Clients of this node, or of one that the view does not know. */
static bool is_of_others(const struct host *host, uint64_t boot)
{
    const struct catalog_node *node =
        host->view != NULL ? catalog_node_by_boot(host->view, (uint32_t)boot) : NULL;
    return node != NULL && !host_is_self(host, node->info.id);
}

void ahead_recovered(struct home *home)
{
    uint64_t boots[CATALOG_NODES_MAX];
    struct group *group = home->group;
    if (group == NULL || !group->recovered) {
        return;
    }
    group->recovered = false;
    if (raft_membership(group->raft).count != 1) {
        return; /* All before the entry of the second member is in the log. */
    }
    const uint32_t count = queue_boots(home->queue, boots, CATALOG_NODES_MAX);
    bool taken = count > CATALOG_NODES_MAX;
    for (uint32_t i = 0; i < count && i < CATALOG_NODES_MAX; i++) {
        taken = taken ||
                (queue_boot_takes(home->queue, boots[i]) && !is_of_others(home->host, boots[i]));
    }
    if (taken && !wr_planted(WR_PLANT_suspect_forgotten)) {
        const struct queue_op op = {.kind = QUEUE_OP_SUSPECT, .count = AHEAD_MOST};
        home_host_op(home, &op);
    }
}
