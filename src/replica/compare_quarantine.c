/*
 * What: what becomes of a replica whose machine differs from the majority's: it is quarantined, and
 * replaced by a fresh one.
 * Happy path: the leader accuses it -> it is quarantined -> the operator's record loses it
 * (on_replica_divergent) -> the group removes it, its node ends the replica and begins another.
 * Failure modes: no majority: said once, nothing is done. Removing the member would leave no
 * reachable majority: it stays, quarantined, and is looked at again every second. Invariants I3  A
 * quarantined replica does not serve, does not campaign, gives no bytes to relays, sends no
 * snapshot; it stores, acks and votes as before (its log is good), and applies (so that its log can
 * be let go of). I4  The quarantine is durable (a flag of LOG_GROUP) before a restart could lose it
 * for good: until then the leader says it again. Threads: the host's shard. Spec: docs/replica.md,
 * "Comparing replicas".
 */
#include "compare_internal.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"

#include <stdio.h>

static struct divergent *divergent_of(const struct group *group, struct raft_id member)
{
    struct compare *c = group->compare;
    for (size_t i = 0; c != NULL && i < c->divergent.count; i++) {
        if (raft_id_equal(c->divergent.items[i].member, member)) {
            return &c->divergent.items[i];
        }
    }
    return NULL;
}

bool compare_is_divergent(const struct group *group, struct uid node)
{
    const struct compare *c = group->compare;
    for (size_t i = 0; c != NULL && i < c->divergent.count; i++) {
        if (uid_eq(c->divergent.items[i].node, node)) {
            return true;
        }
    }
    return false;
}

/* --- texts ------------------------------------------------------------------------------------ */

static int describe_group(const struct group *group, char *text, size_t size)
{
    const struct catalog_view *view = group->host->view;
    const struct catalog_queue *record = view != NULL ? catalog_queue_by_id(view, group->id) : NULL;
    if (group->id == HOST_CATALOG_GROUP) {
        return snprintf(text, size, "the catalog");
    }
    if (record == NULL) {
        return snprintf(text, size, "queue %llu", (unsigned long long)group->id);
    }
    return snprintf(text, size, "queue '%.*s' (%llu)", (int)record->spec.name.size,
                    (const char *)record->spec.name.data, (unsigned long long)group->id);
}

static void describe_node(const struct host *host, struct uid node, char *text, size_t size)
{
    const struct catalog_node *n = host->view != NULL ? catalog_node(host->view, node) : NULL;
    if (n != NULL) {
        snprintf(text, size, "%.*s", (int)n->info.name.size, (const char *)n->info.name.data);
    } else {
        snprintf(text, size, "%016llx%016llx", (unsigned long long)node.hi,
                 (unsigned long long)node.lo);
    }
}

static void describe_hashes(const struct divergent *d, char *text, size_t size)
{
    if (d->index == 0) {
        snprintf(text, size, "differed from the majority's before its node was started again");
    } else {
        snprintf(text, size,
                 "differs from the majority's at index %llu (hash %016llx, theirs %016llx)",
                 (unsigned long long)d->index, (unsigned long long)d->value,
                 (unsigned long long)d->majority);
    }
}

/* --- being quarantined ------------------------------------------------------------------------ */

/* A leader that is in the minority: one that agrees with the majority goes on. Entries are still
 * replicated from here until it has them all. */
void compare_hand_over(struct group *group)
{
    struct compare *c = compare_of(group);
    if (raft_role(group->raft) != RAFT_LEADER) {
        return;
    }
    for (size_t n = c->members.count; n > 0; n--) {
        const struct raft_id member = c->members.items[c->candidate++ % c->members.count].member;
        const struct digest *d =
            compare_digest_at(c, member, c->self.index, compare_version_of(group));
        if (raft_id_equal(member, group->self) || d == NULL || d->value != c->self.majority) {
            continue;
        }
        struct raft_event event = {.type = RAFT_EVENT_TRANSFER, .u.peer = member};
        int rc = group_step(group, &event);
        if (rc == 0 || rc == RAFT_E_BUSY) {
            return;
        }
    }
}

void compare_quarantine(struct group *group, const struct divergent *why)
{
    struct compare *c = compare_of(group);
    char name[300];
    char hashes[160];
    if (group->quarantined[0] != 0) {
        return;
    }
    bool catalog = group->id == HOST_CATALOG_GROUP;
    c->self = *why;
    vec_clear(&c->divergent);
    describe_group(group, name, sizeof name);
    describe_hashes(why, hashes, sizeof hashes);
    snprintf(group->quarantined, sizeof group->quarantined, "quarantined: its state %s", hashes);
    wr_log(group->host->logger, LOG_LEVEL_ERROR, catalog ? "catalog" : "queue",
           "%s: the state of this node's replica %s; it is quarantined%s", name, hashes,
           catalog ? ", and this node stops" : " until a fresh one takes its place");
    if (group->serving) {
        group_set_serving(group, false);
    }
    if (group->home != NULL) {
        relay_drop(group->home);
    }
    group_step(group, &(struct raft_event){.type = RAFT_EVENT_ABSTAIN});
    group_create_record(group); /* I4 */
    compare_hand_over(group);
    compare_tell_quarantined(group);
    compare_arm(group);
    group_mark(group);
}

/* Of a catalog without a future: what an operator has to do. */
void compare_catalog_advice(const struct group *group, char *text, size_t size)
{
    snprintf(text, size,
             "this node's copy of the cluster's definitions is %s. Remove the data directory whole "
             "and let this node join the cluster as a new one, under another name",
             group->quarantined);
}

/* The quarantine is durable. A node with wrong definitions must not go on. */
void compare_on_durable(struct group *group)
{
    char why[400];
    if (group->quarantined[0] != 0 && group->id == HOST_CATALOG_GROUP) {
        compare_catalog_advice(group, why, sizeof why);
        group->host->env->ops->stop(group->host->env, 1, why);
    }
}

/* The creation record says so. */
void compare_recovered(struct group *group)
{
    char hashes[160];
    describe_hashes(&compare_of(group)->self, hashes, sizeof hashes);
    snprintf(group->quarantined, sizeof group->quarantined, "quarantined: its state %s", hashes);
    compare_arm(group);
}

/* --- accusing --------------------------------------------------------------------------------- */

/* Clients over there took bytes from the replica there: they begin anew, and get them from here. */
static void reroute(struct group *group, struct uid node)
{
    if (group->home != NULL && group->serving) {
        home_announce_to(group->home, node);
    }
}

void compare_accuse(struct group *group, const struct divergent *d)
{
    char name[300];
    char node[256];
    char hashes[160];
    if (divergent_of(group, d->member) != NULL) {
        return;
    }
    vec_push(&compare_of(group)->divergent, *d);
    describe_group(group, name, sizeof name);
    describe_node(group->host, d->node, node, sizeof node);
    describe_hashes(d, hashes, sizeof hashes);
    bool catalog = group->id == HOST_CATALOG_GROUP;
    wr_log(group->host->logger, LOG_LEVEL_ERROR, catalog ? "catalog" : "queue",
           "%s: the state of the replica on node %s %s; it is quarantined%s", name, node, hashes,
           catalog ? ", and its node stops" : " until a fresh one takes its place");
    compare_send(group, PARCEL_QUARANTINE, d->node, d->member, d->index, d->value, d->majority);
    reroute(group, d->node);
    compare_arm(group);
}

void compare_say_undecided(struct group *group, uint64_t index)
{
    char name[300];
    struct compare *c = compare_of(group);
    if (c->undecided != 0) {
        return;
    }
    c->undecided = index;
    describe_group(group, name, sizeof name);
    wr_log(group->host->logger, LOG_LEVEL_ERROR,
           group->id == HOST_CATALOG_GROUP ? "catalog" : "queue",
           "%s: its replicas differ at index %llu, and no majority agrees: nothing is done, since "
           "nobody can tell which is right",
           name, (unsigned long long)index);
}

/* --- replacing -------------------------------------------------------------------------------- */

bool compare_in_record(const struct group *group, struct raft_id member)
{
    const struct catalog_view *view = group->host->view;
    const struct catalog_queue *record = view != NULL ? catalog_queue_by_id(view, group->id) : NULL;
    for (uint32_t i = 0; record != NULL && i < record->spec.group.member_count; i++) {
        if (raft_id_equal(raft_of_uid(record->spec.group.members[i].id), member)) {
            return true;
        }
    }
    return false;
}

bool compare_in_group(const struct group *group, struct raft_id member)
{
    const struct raft_membership members = raft_membership(group->raft);
    for (uint32_t i = 0; i < members.count; i++) {
        if (raft_id_equal(members.members[i].id, member)) {
            return true;
        }
    }
    return false;
}

/* Those who stay must be a majority of themselves that can be reached, and whose machines are not
 * in doubt. */
static bool can_do_without(const struct group *group, struct raft_id member)
{
    const struct raft_membership members = raft_membership(group->raft);
    uint32_t voters = 0;
    uint32_t good = 0;
    for (uint32_t i = 0; i < members.count; i++) {
        const struct raft_member *m = &members.members[i];
        if (m->role != RAFT_VOTER || raft_id_equal(m->id, member)) {
            continue;
        }
        bool self = raft_id_equal(m->id, group->self);
        voters++;
        good += (self || raft_peer_is_up(group->raft, m->id)) && divergent_of(group, m->id) == NULL;
    }
    return good > voters / 2;
}

void compare_forget_replaced(struct group *group)
{
    struct compare *c = group->compare;
    bool catalog = group->id == HOST_CATALOG_GROUP;
    size_t kept = 0;
    for (size_t i = 0; i < c->divergent.count; i++) {
        const struct divergent d = c->divergent.items[i];
        bool over = catalog
                        ? host_reach(group->host, d.node) != NODE_UP
                        : !compare_in_group(group, d.member) && !compare_in_record(group, d.member);
        if (!over) {
            c->divergent.items[kept++] = d;
        }
    }
    c->divergent.count = kept;
}

/* One after the other: the next when the group has let the one before go. */
void compare_replace_one(struct group *group)
{
    const struct host *host = group->host;
    const struct compare *c = group->compare;
    const struct divergent *next = NULL;
    for (size_t i = 0; i < c->divergent.count; i++) {
        const struct divergent *d = &c->divergent.items[i];
        if (!compare_in_record(group, d->member)) {
            return;
        }
        next = next == NULL && can_do_without(group, d->member) ? d : next;
    }
    if (next != NULL && host->sink.on_replica_divergent != NULL) {
        host->sink.on_replica_divergent(host->sink.ctx, group->id, uid_of_raft(next->member));
    }
}
