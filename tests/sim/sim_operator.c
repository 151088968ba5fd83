/*
 * What: an operator who changes the cluster while it runs: replicas of queues are replaced, taken
 * away and added, another preferred leader is named, leaders are handed over, and a node that is
 * dead for good is forgotten.
 *
 * It talks to a node as warrenctl's requests do: a command proposed through that node's host
 * (host_catalog_propose), decided on what that node's view of the catalog says, which may be
 * outdated (the answer is STALE then and nothing happens).
 *
 * Replicas are taken away only from groups that have begun (the leader of the catalog asks the
 * group's leader before it takes one away, src/node/placement.c): founders whom no record names any
 * more do not begin, and of what has not begun nobody could say that it was lost.
 *
 * A node is forgotten only when the data need not go with it: all nodes run, and each group that
 * has a replica there has at least three voters, in the catalog's record and in its leader's log.
 */
#include <inttypes.h>
#include <string.h>

#include "sim.h"

#include "sim_durable.h"

#include "node/node_internal.h"
#include "replica/group.h"
#include "replica/host_internal.h"

#define PROPOSE_MS      3000u
#define FORGET_RETRY_NS (400 * SIM_MS)
#define RETURN_AFTER_NS (1 * SIM_S)
#define RETURN_LOOK_NS  (500 * SIM_MS)
#define RETURN_TOLD_NS  (15 * SIM_S)

/* Links are back within two seconds; what was said while one led only one way, two seconds later
 * (raft's resend_ms). Until then an answer may have waited for a node in vain (1.5 s). */
#define QUIET_NS (5 * SIM_S)

static bool brings_view(const struct mail *mail, uint64_t index)
{
    return mail->kind == NODE_MAIL_VIEW &&
           ((const struct node_mail_value *)(const void *)mail)->number >= index;
}

/* Without faults: what one shard says has been done the others know, or will before they hear of
 * anything that comes of it (I6 of env.h). */
void sim_change_answered(struct sim *sim, int status, const struct catalog_result *result)
{
    if (status != CATALOG_OK || sim->quiet_since == UINT64_MAX ||
        sim->quiet_since + QUIET_NS > sim->now) {
        return;
    }
    SIM_SOMETIMES(sim, true, SIM_SEEN_CHANGE_KNOWN);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t k = 0; sim->hosts[i].running && k < sim->options.shards; k++) {
            const struct host *host = node_shard_host(sim->hosts[i].node, k);
            if (host->view != NULL && host->boot != 0 && !sim->hosts[i].stop_asked &&
                catalog_view_index(host->view) < result->index &&
                !sim_mail_waits(&sim->hosts[i].contexts[k], brings_view, result->index)) {
                sim_fail(sim,
                         "change %" PRIu64 " of the catalog is answered, and shard %u of node %u "
                         "has %" PRIu64,
                         result->index, k, i, catalog_view_index(host->view));
            }
        }
    }
}

static void on_done(void *ctx, int status, const struct catalog_result *result)
{
    struct sim *sim = ctx;
    sim_trace(sim, "operator: status %d", status);
    sim_change_answered(sim, status, result);
}

/* No replica of the record would have stayed: it keeps no data. */
static void on_all_new(void *ctx, int status, const struct catalog_result *result)
{
    struct sim *sim = ctx;
    (void)result;
    sim_trace(sim, "operator: status %d to a record of new replicas only", status);
    SIM_SOMETIMES(sim, status == CATALOG_REFUSED, SIM_SEEN_ALL_NEW_REFUSED);
    if (status == CATALOG_OK) {
        sim_fail(sim, "the catalog takes a record that keeps no replica of a queue");
    }
}

/* Shard 0's host of some running node that has a view; NULL: there is none. */
static struct host *some_host(struct sim *sim, uint32_t *ret_node)
{
    const uint32_t first = (uint32_t)prng_below(&sim->fault_prng, sim->node_count);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const uint32_t at = (first + i) % sim->node_count;
        if (sim->hosts[at].running && !sim->hosts[at].stop_asked) {
            struct host *host = node_shard_host(sim->hosts[at].node, 0);
            if (host->view != NULL && host->boot != 0) {
                *ret_node = at;
                return host;
            }
        }
    }
    return NULL;
}

static void propose(struct sim *sim, struct host *host, uint32_t node,
                    const struct catalog_command *command, catalog_done_fn done, void *ctx)
{
    host_refresh(host);
    host_catalog_propose(host, command, PROPOSE_MS, done, ctx);
    sim_context_schedule(&sim->hosts[node].contexts[0], true);
}

static const struct catalog_queue *some_queue(struct sim *sim, const struct host *host)
{
    VEC(const struct catalog_queue *) found = {0};
    struct catalog_iter it;
    catalog_iter_queues(&it, host->view, NULL);
    for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
        if (q->spec.run == CATALOG_RUN_GROUP) {
            vec_push(&found, q);
        }
    }
    const struct catalog_queue *queue =
        found.count == 0 ? NULL : found.items[prng_below(&sim->fault_prng, found.count)];
    vec_deinit(&found);
    return queue;
}

/* --- replicas
 * ------------------------------------------------------------ */

struct change {
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    uint32_t count;
};

static bool has_node(const struct change *change, struct uid node)
{
    for (uint32_t i = 0; i < change->count; i++) {
        if (uid_eq(change->members[i].node, node)) {
            return true;
        }
    }
    return false;
}

static bool add_replica(struct sim *sim, const struct host *host, struct change *change)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const uint32_t count = catalog_nodes(host->view, nodes);
    const uint32_t first = (uint32_t)prng_below(&sim->fault_prng, count);
    for (uint32_t i = 0; i < count && change->count < CATALOG_REPLICAS_MAX; i++) {
        const struct catalog_node *node = nodes[(first + i) % count];
        if (node->running && !has_node(change, node->info.id)) {
            struct catalog_member *m = &change->members[change->count++];
            *m = (struct catalog_member){.node = node->info.id};
            m->id = (struct uid){prng_u64(&sim->fault_prng), prng_u64(&sim->fault_prng)};
            return true;
        }
    }
    return false;
}

static void remove_replica(struct sim *sim, struct change *change)
{
    const uint64_t at = prng_below(&sim->fault_prng, change->count);
    change->count--;
    memmove(&change->members[at], &change->members[at + 1],
            (change->count - at) * sizeof change->members[0]);
}

static void replace_all(struct sim *sim, const struct host *host, struct change *change)
{
    const uint32_t count = change->count;
    if (prng_ratio(&sim->fault_prng, 1, 2)) { /* on their nodes, or wherever there is room */
        for (uint32_t i = 0; i < count; i++) {
            change->members[i].id =
                (struct uid){prng_u64(&sim->fault_prng), prng_u64(&sim->fault_prng)};
        }
        return;
    }
    change->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        (void)add_replica(sim, host, change);
    }
}

/* The node in the place of another, or the same node with a new id. */
static void replace_replica(struct sim *sim, const struct host *host, struct change *change)
{
    const bool same = prng_ratio(&sim->fault_prng, 1, 3);
    const bool other = !same && add_replica(sim, host, change);
    remove_replica(sim, change);
    if (!other) {
        (void)add_replica(sim, host, change);
    }
}

/* Something is committed: a majority of those it was declared with are there. */
static bool has_begun(const struct sim *sim, uint64_t group)
{
    const uint32_t shard = host_shard_of_group(group, sim->options.shards);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct group_status status;
        if (sim->hosts[i].running &&
            host_group_status(node_shard_host(sim->hosts[i].node, shard), group, &status) &&
            status.exists && status.commit > 0) {
            return true;
        }
    }
    return false;
}

static void change_replicas(struct sim *sim)
{
    struct change change;
    uint32_t node;
    struct host *host = some_host(sim, &node);
    const struct catalog_queue *q = host == NULL ? NULL : some_queue(sim, host);
    if (q == NULL) {
        return;
    }
    change.count = q->spec.group.member_count;
    memcpy(change.members, q->spec.group.members, change.count * sizeof change.members[0]);
    /* An only replica is not replaced in one step, all its successor has comes from it: it gets
     * company, and of two one soon goes. */
    const uint64_t replaced = change.count == 1 ? 0 : change.count == 2 ? 2 : 4;
    const uint64_t what = prng_below(&sim->fault_prng, 8);
    const bool all = what == 7 && prng_ratio(&sim->fault_prng, 1, 2);
    if (!has_begun(sim, q->id)) {
        (void)add_replica(sim, host, &change);
    } else if (all) {
        replace_all(sim, host, &change);
    } else if (what < replaced) {
        replace_replica(sim, host, &change);
    } else if (what < 6 && change.count > 1) {
        remove_replica(sim, &change);
    } else {
        (void)add_replica(sim, host, &change);
    }
    if (change.count == 0) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    command.u.replicas.id = q->id;
    command.u.replicas.version = q->replicas_version;
    command.u.replicas.members = change.members;
    command.u.replicas.member_count = change.count;
    command.u.replicas.target_size = change.count;
    command.u.replicas.preferred = change.members[prng_below(&sim->fault_prng, change.count)].node;
    sim_trace(sim, "operator: group %" PRIu64 " shall have %u replicas (it had %u)", q->id,
              change.count, q->spec.group.member_count);
    propose(sim, host, node, &command, all && has_begun(sim, q->id) ? on_all_new : on_done, sim);
}

void sim_operator_act(struct sim *sim)
{
    uint32_t node;
    if (prng_ratio(&sim->fault_prng, 2, 3)) {
        change_replicas(sim);
        return;
    }
    if (some_host(sim, &node) != NULL) {
        const uint32_t shard = (uint32_t)prng_below(&sim->fault_prng, sim->options.shards);
        struct host *host = node_shard_host(sim->hosts[node].node, shard);
        sim_trace(sim, "operator: node %u hands over the leaders of shard %u", node, shard);
        host_refresh(host);
        host_transfer_leaders_away(host);
        sim_context_schedule(&sim->hosts[node].contexts[shard], true);
    }
}

/* --- a node that is dead for good
 * ------------------------------------------------------------ */

static bool voters_enough(struct sim *sim, uint64_t group, struct uid id)
{
    bool leader = false;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        const struct group *g = sim_group_on(sim, i, group);
        if (g == NULL || g->raft == NULL || raft_role(g->raft) != RAFT_LEADER) {
            continue;
        }
        const struct raft_membership members = raft_membership(g->raft);
        uint32_t voters = 0;
        bool there = false;
        for (uint32_t k = 0; k < members.count; k++) {
            struct uid at;
            voters += members.members[k].role == RAFT_VOTER ? 1 : 0;
            there = there || !group_node_of(g, members.members[k].id, &at) || uid_eq(at, id);
        }
        leader = true;
        if (there && voters < 3) {
            return false;
        }
    }
    return leader;
}

/* It is a member, and no group needs what it has. */
static bool may_go(struct sim *sim, const struct host *host, struct uid id)
{
    const struct catalog_node *node = catalog_node(host->view, id);
    struct catalog_iter it;
    if (node == NULL || node->boot == 0) {
        return false;
    }
    catalog_iter_queues(&it, host->view, NULL);
    for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
        if (q->spec.run != CATALOG_RUN_GROUP) {
            continue;
        }
        bool there = false;
        for (uint32_t i = 0; i < q->spec.group.member_count; i++) {
            there = there || uid_eq(q->spec.group.members[i].node, id);
        }
        if ((there && q->spec.group.member_count < 3) || !voters_enough(sim, q->id, id)) {
            return false;
        }
    }
    return voters_enough(sim, HOST_CATALOG_GROUP, id);
}

/* --- one that was forgotten and does not know it -------------------------------------------- */

/* Until it was told. It may have been ended by other faults meanwhile: then that was all. */
static void on_return_ends(struct sim *sim, void *arg, uint64_t index, uint64_t incarnation)
{
    struct sim_host *host = &sim->hosts[index];
    (void)arg;
    if (host->running && host->incarnation == incarnation) {
        const struct shard *shard = node_shard(host->node, 0);
        if (shard->boot != 0) {
            sim_fail(sim, "node %u is forgotten, and has boot %u", host->index, shard->boot);
        }
        if (strstr(formation_state(shard), "forgotten") == NULL) {
            if (sim->faults_on) {
                host->returned_at = sim->now; /* it may be cut off from all that could tell it */
            } else if (sim->now > host->returned_at + RETURN_TOLD_NS) {
                sim_fail(sim, "node %u is forgotten, and knows no better than '%s'", host->index,
                         formation_state(shard));
            }
            sim_at(sim, sim->now + RETURN_LOOK_NS, on_return_ends, NULL, index, incarnation);
            return;
        }
        sim_trace(sim, "operator: node %u was told that it is forgotten", host->index);
        SIM_SOMETIMES(sim, true, SIM_SEEN_TOLD);
        sim_node_end(sim, (uint32_t)index, SIM_END_KILL);
    }
    sim_faults_node_up(sim);
}

/* Somebody starts it, with what it had. */
static void on_return(struct sim *sim, void *arg, uint64_t index, uint64_t b)
{
    struct sim_host *host = &sim->hosts[index];
    (void)arg;
    (void)b;
    if (sim->liveness || sim->ending) {
        return;
    }
    sim_faults_node_down(sim);
    host->returned_at = sim->now;
    sim_node_start(sim, (uint32_t)index);
    sim_at(sim, sim->now + RETURN_LOOK_NS, on_return_ends, NULL, index, host->incarnation);
}

/* The answer says so, not a view: one that is behind does not have the node yet. */
static void on_forgotten(void *ctx, int status, const struct catalog_result *result)
{
    struct sim_host *dead = ctx;
    struct sim *sim = dead->sim;
    (void)result;
    sim_trace(sim, "operator: status %d to forgetting node %u", status, dead->index);
    if (!dead->forgotten && (status == CATALOG_OK || status == CATALOG_NOT_FOUND)) {
        sim_trace(sim, "operator: node %u is forgotten", dead->index);
        dead->forgotten = true;
        SIM_SOMETIMES(sim, true, SIM_SEEN_FORGOTTEN);
        sim_faults_node_up(sim);
        sim_at(sim, sim->now + RETURN_AFTER_NS, on_return, NULL, dead->index, 0);
    }
}

static void on_forget(struct sim *sim, void *arg, uint64_t index, uint64_t b)
{
    struct sim_host *dead = &sim->hosts[index];
    uint32_t node;
    struct host *host = some_host(sim, &node);
    (void)arg;
    (void)b;
    if (dead->forgotten) {
        return;
    }
    if (host != NULL) {
        struct catalog_command command = {.kind = CATALOG_FORGET_NODE};
        command.u.forget.node = dead->node_id;
        propose(sim, host, node, &command, on_forgotten, dead);
    }
    sim_at(sim, sim->now + FORGET_RETRY_NS, on_forget, NULL, index, 0);
}

void sim_operator_bury(struct sim *sim)
{
    uint32_t node;
    const struct host *host = some_host(sim, &node);
    if (sim->buried || sim->node_count < 4 || host == NULL ||
        sim_nodes_running(sim) < sim->node_count) {
        return;
    }
    const uint32_t dead = (uint32_t)prng_below(&sim->fault_prng, sim->node_count);
    if (!may_go(sim, host, sim->hosts[dead].node_id)) {
        return;
    }
    sim_trace(sim, "operator: node %u dies for good", dead);
    sim->buried = true;
    sim->hosts[dead].dead = true;
    sim_node_end(sim, dead, SIM_END_KILL);
    sim_at(sim, sim->now + prng_below(&sim->fault_prng, SIM_S), on_forget, NULL, dead, 0);
}
