/*
 * What: how many replicas a queue is to have, and where; and the next small step to that. Pure: the
 * placement loop (placement.c) asks, and proposes what is answered.
 *
 * A quorum queue grows to its target (argument, `target-group-size`) and never shrinks by itself. A
 * classic queue has the replicas that its mirroring policy asks for: `all` nodes of the cluster,
 * `exactly` so many, or these `nodes`; without a policy as many as it was declared with: it grows
 * and shrinks. A LOCAL queue (transient, exclusive) lives in the memory of one node: no policy
 * changes that.
 *
 * Failure modes: nobody in reach who could take a replica, or too few that are up to date to let
 * one go: no step, until that changes. Invariants
 * I1  A replica goes only when a majority of the others are voters, in reach, and have all that was
 *     committed (struct queue_report.ready): what is left could go on at once.
 * I2  Who leads goes last, and only when it is not one of the nodes that are asked for.
 * I3  One replica stays on a node that is asked for.
 * Ownership: none. Spec: docs/clustering.md, "Placement".
 */
#include <string.h>

#include "warren/catalog_settings.h"

#include "replicas.h"

struct wish {
    uint32_t target;
    bool shrinks;
    bool allowed[CATALOG_NODES_MAX]; /* as in `nodes` of the cluster */
};

static void wish_of(const struct catalog_queue *queue, const struct replicas_cluster *cluster,
                    struct wish *ret)
{
    const struct queue_settings *settings = &queue->settings;
    uint32_t listed = 0;
    *ret = (struct wish){.target = queue->spec.group.target_size};
    memset(ret->allowed, true, sizeof ret->allowed);
    if (queue->spec.type != CATALOG_CLASSIC) {
        ret->target =
            settings->target_group_size > ret->target ? settings->target_group_size : ret->target;
        return;
    }
    ret->shrinks = true;
    if (settings->ha_mode == SETTINGS_HA_ALL) {
        ret->target = cluster->count;
    } else if (settings->ha_mode == SETTINGS_HA_EXACTLY) {
        ret->target = settings->ha_count;
    } else if (settings->ha_mode == SETTINGS_HA_NODES) {
        for (uint32_t i = 0; i < cluster->count; i++) {
            ret->allowed[i] = queue_settings_names_node(settings, cluster->nodes[i]->info.name);
            listed += ret->allowed[i];
        }
        ret->target = listed;
        if (listed == 0) { /* it stays where it is */
            memset(ret->allowed, true, sizeof ret->allowed);
            ret->shrinks = false;
        }
    }
    const uint32_t most =
        cluster->count < CATALOG_REPLICAS_MAX ? cluster->count : CATALOG_REPLICAS_MAX;
    ret->target = ret->target < most ? ret->target : most;
    ret->target = ret->target > 0 ? ret->target : 1;
}

/* Its place in the cluster; UINT32_MAX: not a node of it. */
static uint32_t place_of(const struct replicas_cluster *cluster, struct uid node)
{
    for (uint32_t i = 0; i < cluster->count; i++) {
        if (uid_eq(cluster->nodes[i]->info.id, node)) {
            return i;
        }
    }
    return UINT32_MAX;
}

static bool is_allowed(const struct replicas_cluster *cluster, const struct wish *wish,
                       struct uid node)
{
    const uint32_t at = place_of(cluster, node);
    return at != UINT32_MAX && wish->allowed[at];
}

static uint32_t members_allowed(const struct catalog_queue *queue,
                                const struct replicas_cluster *cluster, const struct wish *wish)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < queue->spec.group.member_count; i++) {
        n += is_allowed(cluster, wish, queue->spec.group.members[i].node);
    }
    return n;
}

static bool has_replica(const struct catalog_queue *queue, struct uid node)
{
    for (uint32_t i = 0; i < queue->spec.group.member_count; i++) {
        if (uid_eq(queue->spec.group.members[i].node, node)) {
            return true;
        }
    }
    return false;
}

static void begin(const struct catalog_queue *queue, struct replicas_step *ret)
{
    const uint32_t count = queue->spec.group.member_count;
    memcpy(ret->members, queue->spec.group.members, count * sizeof *ret->members);
    ret->count = count;
    ret->preferred = queue->spec.group.preferred;
}

bool replicas_grow(const struct catalog_queue *queue, const struct replicas_cluster *cluster,
                   struct replicas_step *ret)
{
    const struct catalog_node *best = NULL;
    struct wish wish;
    wish_of(queue, cluster, &wish);
    if (queue->spec.group.member_count >= CATALOG_REPLICAS_MAX ||
        members_allowed(queue, cluster, &wish) >= wish.target) {
        return false;
    }
    for (uint32_t i = 0; i < cluster->count; i++) {
        const struct catalog_node *node = cluster->nodes[i];
        if (cluster->reachable[i] && wish.allowed[i] && !has_replica(queue, node->info.id) &&
            (best == NULL || node->replica_count < best->replica_count)) {
            best = node;
        }
    }
    if (best == NULL) {
        return false;
    }
    begin(queue, ret);
    ret->members[ret->count++] = (struct catalog_member){.node = best->info.id};
    return true;
}

bool replicas_too_many(const struct catalog_queue *queue, const struct replicas_cluster *cluster)
{
    struct wish wish;
    wish_of(queue, cluster, &wish);
    const uint32_t allowed = members_allowed(queue, cluster, &wish);
    return wish.shrinks &&
           (allowed > wish.target || (allowed > 0 && allowed < queue->spec.group.member_count));
}

static bool is_ready(const struct queue_report *report, struct uid node)
{
    for (uint32_t i = 0; i < report->ready_count; i++) {
        if (uid_eq(report->ready[i], node)) {
            return true;
        }
    }
    return false;
}

/* The lower, the sooner it goes. */
static uint32_t worth(const struct catalog_queue *queue, const struct replicas_cluster *cluster,
                      const struct queue_report *report, struct uid node)
{
    const uint32_t at = place_of(cluster, node);
    const bool reachable = at != UINT32_MAX && cluster->reachable[at];
    return (uid_eq(report->leader_node, node) ? 8u : 0) + (reachable ? 4u : 0) +
           (is_ready(report, node) ? 2u : 0) + (uid_eq(queue->spec.group.preferred, node) ? 1u : 0);
}

/* I1. */
static bool others_go_on(const struct replicas_step *step, const struct queue_report *report)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < step->count; i++) {
        ready += is_ready(report, step->members[i].node);
    }
    return 2 * ready > step->count;
}

bool replicas_shrink(const struct catalog_queue *queue, const struct replicas_cluster *cluster,
                     const struct queue_report *report, struct replicas_step *ret)
{
    struct wish wish;
    wish_of(queue, cluster, &wish);
    const bool strangers = members_allowed(queue, cluster, &wish) < queue->spec.group.member_count;
    uint32_t victim = UINT32_MAX;
    uint32_t least = UINT32_MAX;
    if (report->replicas_version != queue->replicas_version || !replicas_too_many(queue, cluster)) {
        return false;
    }
    for (uint32_t i = 0; i < queue->spec.group.member_count; i++) {
        const struct uid node = queue->spec.group.members[i].node;
        const uint32_t w = worth(queue, cluster, report, node);
        if ((!strangers || !is_allowed(cluster, &wish, node)) && w < least) {
            victim = i;
            least = w;
        }
    }
    WR_ASSERT(victim != UINT32_MAX);
    begin(queue, ret);
    const struct uid gone = ret->members[victim].node;
    ret->count--;
    memmove(ret->members + victim, ret->members + victim + 1,
            (ret->count - victim) * sizeof *ret->members);
    if (!others_go_on(ret, report)) {
        return false;
    }
    for (uint32_t i = 0; uid_eq(ret->preferred, gone) && i < ret->count; i++) {
        if (is_ready(report, ret->members[i].node)) {
            ret->preferred = ret->members[i].node;
        }
    }
    for (uint32_t i = 0; i < ret->count; i++) { /* rather who leads already */
        const bool leads = uid_eq(ret->members[i].node, report->leader_node);
        if (uid_eq(queue->spec.group.preferred, gone) && leads) {
            ret->preferred = report->leader_node;
        }
    }
    return true;
}
