/*
 * What: how the replicas of a host are, in numbers and in a sentence for an operator.
 * Failure modes: none; everything is read from what the groups know now. Threads: the shard that
 * owns the host.
 */
#include "group.h"
#include "host_internal.h"

#include <stdio.h>

static void explain(const struct host *host, const struct group *group, struct group_status *status)
{
    if (group->failed[0] != 0) {
        snprintf(status->why, sizeof status->why, "%s", group->failed);
    } else if (group->ended) {
        snprintf(status->why, sizeof status->why, "this replica is being removed");
    } else if (group->quarantined[0] != 0) {
        snprintf(status->why, sizeof status->why, "%.*s", (int)sizeof status->why - 1,
                 group->quarantined);
    } else if (host->log_blocked) {
        snprintf(status->why, sizeof status->why, "%.*s", (int)sizeof status->why - 1,
                 host->log_why);
    } else if (group->raft == NULL) {
        snprintf(status->why, sizeof status->why, "its creation is being written");
    } else if (uid_is_zero(status->leader_node)) {
        uint32_t away = status->voters - status->voters_up;
        if (status->voters == 0) {
            snprintf(status->why, sizeof status->why,
                     "waiting for the leader to contact this new member");
        } else if (status->voters_up <= status->voters / 2) {
            snprintf(status->why, sizeof status->why,
                     "no leader because %u of %u members are unreachable", away, status->voters);
        } else {
            snprintf(status->why, sizeof status->why, "no leader: an election is under way");
        }
    } else if (status->leading && !group->serving) {
        snprintf(status->why, sizeof status->why, "the new leader is catching up");
    }
}

static void fill_status(const struct host *host, const struct group *group,
                        struct group_status *ret)
{
    *ret = (struct group_status){.group = group->id,
                                 .exists = true,
                                 .snapshot = group->checkpoint_index,
                                 .machine_version = group->ops->version};
    if (group->raft != NULL) {
        ret->term = raft_term(group->raft).v;
        ret->commit = raft_commit_index(group->raft);
        ret->applied = group->applied;
        ret->last = raft_last_index(group->raft);
        ret->leading = raft_role(group->raft) == RAFT_LEADER;
        ret->is_voter = raft_is_voter(group->raft);
        (void)group_node_of(group, raft_leader(group->raft), &ret->leader_node);
        (void)group_has_quorum_of_nodes(group, &ret->voters, &ret->voters_up);
    }
    explain(host, group, ret);
}

bool host_group_status(const struct host *host, uint64_t id, struct group_status *ret_status)
{
    const struct group *group = umap_get(&host->groups, id);
    if (group == NULL) {
        return false;
    }
    fill_status(host, group, ret_status);
    return true;
}

void host_each_group(const struct host *host,
                     void (*fn)(void *ctx, const struct group_status *status), void *ctx)
{
    struct umap_iter it = umap_iterate((struct umap *)(uintptr_t)&host->groups);
    while (umap_next(&it)) {
        struct group_status status;
        fill_status(host, it.value, &status);
        fn(ctx, &status);
    }
}
