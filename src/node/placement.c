/*
 * What: the reconciliation loop of the catalog's leader (DESIGN §7): compare wanted with actual,
 * take one small safe step, repeat. Shard 0.
 *
 * It keeps the catalog group's members in step with the catalog's nodes, ends the boots of nodes
 * that are dead (so that their transient and exclusive queues go and their consumers' messages
 * return), and gives queues replicas and takes them away (replicas.c says which): for the latter
 * the group's leader is asked first who is up to date. Failure modes: a proposal based on an
 * outdated view is answered STALE and simply tried again next time; so is a question that nobody
 * answers, and a step that is not safe yet.
 */
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "node_internal.h"
#include "replicas.h"

#define STEP_NS  UINT64_C(200000000)
#define AGAIN_NS UINT64_C(1000000000) /* what is not safe now is looked at again */
#define SILENT_DEAD_NS                                                                             \
    UINT64_C(10000000000) /* silence after which a boot is ended; a refused connection ends it at  \
                             once */
#define GROW_PER_STEP 64u
#define ASKED_MAX     16u
#define ASK_MS        1000u
#define DROP_MS       5000u

struct placement {
    bool leading;
    uint32_t under_way;
    uint64_t next_ns;
    uint64_t seen_serial;                   /* view that was scanned to the end ... */
    bool seen_reachable[CATALOG_NODES_MAX]; /* ... with these in reach */
    uint64_t again_ns;                      /* ... and is to be scanned again: something waits */
    uint32_t asked;                         /* reports under way */
};
struct nodes_now {
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    bool reachable[CATALOG_NODES_MAX];
    uint32_t count;
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
    shard->placement->seen_serial = 0;
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

static void look(struct shard *shard, struct nodes_now *ret)
{
    *ret = (struct nodes_now){0};
    ret->count = catalog_nodes(shard->view, ret->nodes);
    for (uint32_t i = 0; i < ret->count; i++) {
        ret->reachable[i] = node_reachable(shard, ret->nodes[i]);
    }
}

static void propose_step(struct shard *shard, const struct catalog_queue *queue,
                         const struct replicas_step *step)
{
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    command.u.replicas.id = queue->id;
    command.u.replicas.version = queue->replicas_version;
    command.u.replicas.members = step->members;
    command.u.replicas.member_count = step->count;
    command.u.replicas.target_size = queue->spec.group.target_size;
    command.u.replicas.preferred = step->preferred;
    propose(shard, &command);
}

static bool grow(struct shard *shard, const struct catalog_queue *queue,
                 const struct replicas_cluster *cluster)
{
    struct replicas_step step;
    if (!replicas_grow(queue, cluster, &step)) {
        return false;
    }
    struct catalog_member *fresh = &step.members[step.count - 1];
    shard->env->ops->random_secret(shard->env, &fresh->id, sizeof fresh->id);
    propose_step(shard, queue, &step);
    return true;
}

/* The leader of a group that is to lose a replica says who is up to date. */
static void on_report(void *ctx, uint64_t id, const struct queue_report *report)
{
    struct shard *shard = ctx;
    struct nodes_now now;
    struct replicas_step step;
    shard->placement->asked--;
    const struct catalog_queue *queue =
        shard->view != NULL ? catalog_queue_by_id(shard->view, id) : NULL;
    if (!shard->placement->leading || shard->shutting || report->error != 0 || queue == NULL ||
        queue->spec.run != CATALOG_RUN_GROUP) {
        return;
    }
    look(shard, &now);
    const struct replicas_cluster cluster = {now.nodes, now.reachable, now.count};
    if (replicas_shrink(queue, &cluster, report, &step)) {
        propose_step(shard, queue, &step);
    }
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

/* Nothing has changed since the last full scan, and nothing waits. */
static bool is_seen(const struct shard *shard, const struct nodes_now *now, uint64_t now_ns)
{
    const struct placement *p = shard->placement;
    return p->seen_serial == catalog_view_serial(shard->view) && now_ns < p->again_ns &&
           memcmp(p->seen_reachable, now->reachable, sizeof now->reachable) == 0;
}

static void fit_queues(struct shard *shard, const struct nodes_now *now, uint64_t now_ns)
{
    struct placement *p = shard->placement;
    const struct replicas_cluster cluster = {now->nodes, now->reachable, now->count};
    if (is_seen(shard, now, now_ns)) {
        return;
    }
    uint32_t grown = 0;
    bool waits = false;
    struct catalog_iter it;
    catalog_iter_machines(&it, shard->view);
    for (const struct catalog_queue *q;
         grown < GROW_PER_STEP && (q = catalog_iter_next(&it)) != NULL;) {
        if (q->spec.run != CATALOG_RUN_GROUP) {
            continue;
        }
        if (grow(shard, q, &cluster)) {
            grown++;
        } else if (replicas_too_many(q, &cluster)) {
            waits = true;
            if (p->asked < ASKED_MAX) {
                p->asked++;
                host_queue_report(shard->host, q->id, QUEUE_REPORT_TOTALS, ASK_MS, on_report,
                                  shard);
            }
        }
    }
    if (grown == 0) {
        p->seen_serial = catalog_view_serial(shard->view);
        memcpy(p->seen_reachable, now->reachable, sizeof now->reachable);
        p->again_ns = waits ? now_ns + AGAIN_NS : UINT64_MAX;
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
    struct nodes_now nodes;
    look(shard, &nodes);
    if (nodes.count == 0) {
        return;
    }
    set_members(shard, nodes.nodes, nodes.count);
    end_dead_boots(shard, nodes.nodes, nodes.count, now);
    fit_queues(shard, &nodes, now);
}

uint64_t placement_deadline_ns(const struct shard *shard)
{
    bool active = shard->placement->leading && shard->view != NULL;
    return active ? shard->placement->next_ns : UINT64_MAX;
}
