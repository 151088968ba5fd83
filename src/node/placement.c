/*
 * What: the reconciliation loop of the catalog's leader (DESIGN §7): compare wanted with actual,
 * take one small safe step, repeat. Shard 0.
 *
 * It keeps the catalog group's members in step with the catalog's nodes, ends the boots of nodes
 * that are dead (so that their transient and exclusive queues go and their consumers' messages
 * return), and adds replicas to quorum queues that have fewer than they want while there are nodes
 * to take one. Failure modes: a proposal based on an outdated view is answered STALE and simply
 * tried again next time.
 */
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "node_internal.h"

#define STEP_NS UINT64_C(200000000)
#define SILENT_DEAD_NS                                                                             \
    UINT64_C(10000000000) /* silence after which a boot is ended; a refused connection ends it at  \
                             once */
#define GROW_PER_STEP 64u
#define DROP_MS       5000u

struct placement {
    bool leading;
    uint32_t under_way;
    uint64_t next_ns;
    uint64_t grown_serial; /* view that was scanned to the end */
    uint32_t grown_nodes;
};

void placement_init(struct shard *shard)
{
    shard->placement = wr_calloc(1, sizeof *shard->placement);
}

void placement_free(struct shard *shard)
{
    wr_free(shard->placement);
    shard->placement = NULL;
}

void placement_on_leader(struct shard *shard, bool leading)
{
    shard->placement->leading = leading;
    shard->placement->next_ns = 0;
    shard->placement->grown_serial = 0;
}

static void on_done(void *ctx, int status, const struct catalog_result *result)
{
    struct shard *shard = ctx;
    (void)status;
    (void)result;
    shard->placement->under_way--;
}

static void propose(struct shard *shard, const struct catalog_command *command)
{
    shard->placement->under_way++;
    host_catalog_propose_leading(shard->host, command, on_done, shard);
}

static void set_members(struct shard *shard, const struct catalog_node *const *nodes,
                        uint32_t count)
{
    struct raft_id members[CATALOG_NODES_MAX];
    struct uid ids[CATALOG_NODES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        members[i] = (struct raft_id){nodes[i]->info.member.hi, nodes[i]->info.member.lo};
        ids[i] = nodes[i]->info.id;
    }
    host_catalog_set_members(shard->host, members, ids, count);
}

static void end_dead_boots(struct shard *shard, const struct catalog_node *const *nodes,
                           uint32_t count, uint64_t now)
{
    for (uint32_t i = 0; i < count; i++) {
        const struct peer *peer = links_peer(shard, nodes[i]->info.id);
        if (!nodes[i]->running || peer == NULL || peer->ready || !peer->reported_down) {
            continue;
        }
        if (peer->refused || now - peer->lost_ns > SILENT_DEAD_NS) {
            struct catalog_command command = {.kind = CATALOG_NODE_DOWN};
            command.u.down.node = nodes[i]->info.id;
            command.u.down.boot = nodes[i]->boot;
            propose(shard, &command);
        }
    }
}

static bool node_reachable(struct shard *shard, const struct catalog_node *node)
{
    const struct peer *peer = links_peer(shard, node->info.id);
    return node->running &&
           (uid_eq(node->info.id, node_id_of(shard->node)) || (peer != NULL && peer->ready));
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

/* One more replica, on the reachable node with the fewest. */
static bool grow(struct shard *shard, const struct catalog_queue *queue,
                 const struct catalog_node *const *nodes, uint32_t count)
{
    const struct catalog_node *best = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (node_reachable(shard, nodes[i]) && !has_replica(queue, nodes[i]->info.id) &&
            (best == NULL || nodes[i]->replica_count < best->replica_count)) {
            best = nodes[i];
        }
    }
    if (best == NULL) {
        return false;
    }
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    uint32_t n = queue->spec.group.member_count;
    memcpy(members, queue->spec.group.members, n * sizeof *members);
    members[n].node = best->info.id;
    members[n].learner = false;
    shard->env->ops->random_secret(shard->env, &members[n].id, sizeof members[n].id);
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    command.u.replicas.id = queue->id;
    command.u.replicas.version = queue->replicas_version;
    command.u.replicas.members = members;
    command.u.replicas.member_count = n + 1;
    command.u.replicas.target_size = queue->spec.group.target_size;
    command.u.replicas.preferred = queue->spec.group.preferred;
    propose(shard, &command);
    return true;
}

static void on_dropped(void *ctx, int status, const struct catalog_result *result)
{
    (void)ctx;
    (void)status; /* STALE, or not heard: the host says again what it wants */
    (void)result;
}

void placement_drop_replica(struct shard *shard, uint64_t id, struct uid member)
{
    const struct catalog_queue *queue =
        shard->view != NULL ? catalog_queue_by_id(shard->view, id) : NULL;
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    uint32_t count = 0;
    if (queue == NULL || queue->spec.run != CATALOG_RUN_GROUP) {
        return;
    }
    struct uid preferred = UID_NONE;
    bool leads = false; /* who asks leads the group: in place of a preferred leader that goes */
    for (uint32_t i = 0; i < queue->spec.group.member_count; i++) {
        const struct catalog_member *m = &queue->spec.group.members[i];
        if (!uid_eq(m->id, member)) {
            members[count++] = *m;
            preferred = uid_eq(m->node, queue->spec.group.preferred) ? m->node : preferred;
            leads = leads || uid_eq(m->node, node_id_of(shard->node));
        }
    }
    if (count == 0 || count == queue->spec.group.member_count) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    command.u.replicas.id = id;
    command.u.replicas.version = queue->replicas_version;
    command.u.replicas.members = members;
    command.u.replicas.member_count = count;
    command.u.replicas.target_size = queue->spec.group.target_size;
    command.u.replicas.preferred =
        uid_is_zero(preferred) && leads ? node_id_of(shard->node) : preferred;
    host_catalog_propose(shard->host, &command, DROP_MS, on_dropped, NULL);
}

static uint32_t reachable_nodes(struct shard *shard, const struct catalog_node *const *nodes,
                                uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        n += node_reachable(shard, nodes[i]);
    }
    return n;
}

static void grow_queues(struct shard *shard, const struct catalog_node *const *nodes,
                        uint32_t count)
{
    struct placement *p = shard->placement;
    uint32_t reachable = reachable_nodes(shard, nodes, count);
    if (p->grown_serial == catalog_view_serial(shard->view) && p->grown_nodes == reachable) {
        return; /* nothing has changed since the last full scan */
    }
    uint32_t grown = 0;
    struct catalog_iter it;
    catalog_iter_queues(&it, shard->view, NULL);
    for (const struct catalog_queue *q;
         grown < GROW_PER_STEP && (q = catalog_iter_next(&it)) != NULL;) {
        if (q->spec.run == CATALOG_RUN_GROUP &&
            q->spec.group.member_count < q->spec.group.target_size &&
            q->spec.group.member_count < CATALOG_REPLICAS_MAX) {
            grown += grow(shard, q, nodes, count);
        }
    }
    if (grown == 0) {
        p->grown_serial = catalog_view_serial(shard->view);
        p->grown_nodes = reachable;
    }
}

void placement_turn(struct shard *shard)
{
    struct placement *p = shard->placement;
    uint64_t now = shard->env->ops->mono_ns(shard->env);
    if (!p->leading || shard->view == NULL || now < p->next_ns) {
        return;
    }
    p->next_ns = now + STEP_NS;
    if (p->under_way > 0 || shard->shutting) {
        return;
    }
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    uint32_t count = catalog_nodes(shard->view, nodes);
    if (count == 0) {
        return;
    }
    set_members(shard, nodes, count);
    end_dead_boots(shard, nodes, count, now);
    grow_queues(shard, nodes, count);
}

uint64_t placement_deadline_ns(const struct shard *shard)
{
    bool active = shard->placement->leading && shard->view != NULL;
    return active ? shard->placement->next_ns : UINT64_MAX;
}
