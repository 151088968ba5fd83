/*
 * What: a group's membership follows the catalog: one safe step at a time, by the group's leader.
 * And replicas of this node come and go with the catalog's record.
 * Happy path: record names a new member -> its node starts an empty replica -> the leader adds it
 * as a learner -> promotes it when it has caught up -> removes members that the record does not
 * name any more.
 * Failure modes: a step that is refused (a change is under way, a learner lags, no quorum would be
 * left) is tried again by timer, after others that may be possible.
 * Invariants, each in a paragraph of its own:
 *
 * I1  A replica ends only when its queue is gone from the catalog, or when the record does not name
 * it and the group's own membership, or its leader, says that it is no member.
 *
 * I2  Bootstrap members of a group all begin with the same membership, the founders of the record,
 * whichever version of it they see first: a node may get the declaration together with a change.
 * Who is no founder starts empty, and learns the membership from the leader.
 *
 * I3  A member that was a replica of this node and ended is never begun anew: a node that restarts
 * may know an older catalog for a while, and would, without its data, vote and even lead.
 *
 * I4  Whom a record names counts only when this start of the node has its boot number, with which
 * the view is as new as the start: an older one must not undo what the group, or this node, did by
 * a newer one, nor begin what has ended. (That a queue is gone is final.)
 */
#include "checkpoint.h"
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "parcel.h"

#include <stdlib.h>

#define RECONCILE_MS 200u
#define CONFIRM_MS   10u /* an answer of voters that live is there by then */
#define ORPHAN_MS    2000u

struct wanted {
    struct raft_id id;
    bool learner;
};
VEC_TYPE(wanted_vec, struct wanted);

static bool wanted_members(struct group *group, struct wanted_vec *ret)
{
    struct host *host = group->host;
    if (group->id == HOST_CATALOG_GROUP) {
        for (size_t i = 0; i < host->wanted_members.count; i++) {
            vec_push(ret, (struct wanted){host->wanted_members.items[i].member, false});
        }
        return host->wanted_set && ret->count > 0;
    }
    const struct catalog_queue *record =
        host->view != NULL ? catalog_queue_by_id(host->view, group->id) : NULL;
    if (record == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < record->spec.group.member_count; i++) {
        const struct catalog_member *m = &record->spec.group.members[i];
        vec_push(ret, (struct wanted){raft_of_uid(m->id), m->learner});
    }
    return ret->count > 0;
}

static const struct raft_member *member_of(const struct raft_membership *members, struct raft_id id)
{
    for (uint32_t i = 0; i < members->count; i++) {
        if (raft_id_equal(members->members[i].id, id)) {
            return &members->members[i];
        }
    }
    return NULL;
}

static bool is_wanted(const struct wanted_vec *wanted, struct raft_id id)
{
    for (size_t i = 0; i < wanted->count; i++) {
        if (raft_id_equal(wanted->items[i].id, id)) {
            return true;
        }
    }
    return false;
}

static bool same_node(const struct group *group, struct raft_id a, struct raft_id b)
{
    struct uid at_a;
    struct uid at_b;
    return group_node_of(group, a, &at_a) && group_node_of(group, b, &at_b) && uid_eq(at_a, at_b);
}

/* Where it shall be there is a replica that is to go: a node has one of a group, so that one goes
 * first. */
static bool is_occupied(const struct group *group, const struct raft_membership *members,
                        const struct wanted_vec *wanted, struct raft_id id)
{
    for (uint32_t i = 0; i < members->count; i++) {
        const struct raft_id other = members->members[i].id;
        if (!is_wanted(wanted, other) && same_node(group, id, other)) {
            return true;
        }
    }
    return false;
}

/* It is to go, and stands where one that is wanted cannot come before. */
static bool is_in_the_way(const struct group *group, const struct wanted_vec *wanted,
                          struct raft_id id)
{
    for (size_t i = 0; i < wanted->count; i++) {
        if (!is_wanted(wanted, id) && same_node(group, id, wanted->items[i].id)) {
            return true;
        }
    }
    return false;
}

struct change {
    enum raft_change_type type;
    struct raft_id id;
};
#define CHANGES_MAX (RAFT_MEMBERS_MAX + CATALOG_REPLICAS_MAX)

static void add_change(struct change *changes, uint32_t *count, enum raft_change_type type,
                       struct raft_id id)
{
    if (*count < CHANGES_MAX) {
        changes[(*count)++] = (struct change){type, id};
    }
}

/* The leader is in the way, and nobody who is wanted has what it has: another voter must lead and
 * bring its successor up. With two in the way the other one goes first: else they would hand
 * leadership to each other for ever. */
static bool leader_is_in_the_way(const struct group *group, const struct raft_membership *members,
                                 const struct wanted_vec *wanted)
{
    bool alone = is_in_the_way(group, wanted, group->self);
    for (uint32_t i = 0; i < members->count && alone; i++) {
        const struct raft_member *m = &members->members[i];
        const bool stays = m->role == RAFT_VOTER && is_wanted(wanted, m->id);
        alone =
            !stays && (raft_id_equal(m->id, group->self) || !is_in_the_way(group, wanted, m->id));
    }
    return alone;
}

/* Of those that go, first who is down, and the leader itself last: two that both are to go would
 * hand leadership to each other for ever. */
static void add_removals(struct group *group, const struct raft_membership *members,
                         const struct wanted_vec *wanted, struct change *ret_changes,
                         uint32_t *ret_count)
{
    uint32_t others = 0;
    for (uint32_t i = 0; i < members->count; i++) {
        const struct raft_member *m = &members->members[i];
        others += m->role == RAFT_VOTER && !raft_id_equal(m->id, group->self);
    }
    const bool first = others > 0 && leader_is_in_the_way(group, members, wanted);
    if (first) {
        add_change(ret_changes, ret_count, RAFT_CHANGE_REMOVE, group->self);
    }
    for (uint32_t turn = 0; turn < 4 && !(first && others == 1); turn++) {
        for (uint32_t i = 0; i < members->count; i++) {
            const struct raft_id id = members->members[i].id;
            struct uid node;
            const bool down =
                !group_node_of(group, id, &node) || host_reach(group->host, node) != NODE_UP;
            const bool blocks = is_in_the_way(group, wanted, id);
            if (!is_wanted(wanted, id) && !raft_id_equal(id, group->self) &&
                turn == (down ? 0u : 2u) + (blocks ? 0u : 1u)) {
                add_change(ret_changes, ret_count, RAFT_CHANGE_REMOVE, id);
            }
        }
    }
    if (*ret_count == 0 && !is_wanted(wanted, group->self)) {
        add_change(ret_changes, ret_count, RAFT_CHANGE_REMOVE, group->self);
    }
}

/* The steps that may come next, the best first; none: all is as wanted. What is refused (a learner
 * that lags) must not hold up the others. Additions first, so that a group never gets smaller than
 * it must. */
static uint32_t next_changes(struct group *group, const struct raft_membership *members,
                             const struct wanted_vec *wanted, struct change *ret_changes)
{
    uint32_t count = 0;
    for (size_t i = 0; i < wanted->count; i++) {
        const struct wanted *w = &wanted->items[i];
        const struct raft_member *m = member_of(members, w->id);
        if (is_occupied(group, members, wanted, w->id)) {
            continue;
        }
        if (m == NULL) {
            add_change(ret_changes, &count, RAFT_CHANGE_ADD_LEARNER, w->id);
        } else if (m->role == RAFT_LEARNER && !w->learner) {
            add_change(ret_changes, &count, RAFT_CHANGE_PROMOTE, w->id);
        } else if (m->role == RAFT_VOTER && w->learner) {
            add_change(ret_changes, &count, RAFT_CHANGE_DEMOTE, w->id);
        }
    }
    if (count == 0) {
        add_removals(group, members, wanted, ret_changes, &count);
    }
    return count;
}

static void on_reconcile(struct timer *timer)
{
    struct group *group = WR_CONTAINER_OF(timer, struct group, reconcile);
    group_check_end(group);
    group_reconcile(group);
}

/* 0: done, or under way. */
static int try_change(struct group *group, const struct change *change)
{
    const bool steps_down =
        change->type == RAFT_CHANGE_REMOVE || change->type == RAFT_CHANGE_DEMOTE;
    struct raft_event event = {.type = RAFT_EVENT_CHANGE};
    event.u.change.type = change->type;
    event.u.change.member = change->id;
    if (steps_down && raft_id_equal(change->id, group->self)) {
        /* Not while leading: somebody else goes on. */
        event = (struct raft_event){.type = RAFT_EVENT_TRANSFER};
    }
    const int rc = group_step(group, &event);
    if (rc == 0 && event.type == RAFT_EVENT_CHANGE) {
        wr_log(group->host->logger, LOG_LEVEL_INFO, "queue", "group %llu: membership step %d",
               (unsigned long long)group->id, (int)change->type);
    }
    return rc;
}

/* I4. The catalog's own group follows what its leader wants, who has all of it. */
static bool view_is_current(const struct group *group)
{
    return group->id == HOST_CATALOG_GROUP || group->host->boot != 0;
}

/* Leader: takes one step towards the wanted membership, and looks again while one is missing. */
void group_reconcile(struct group *group)
{
    if (group->raft == NULL || group->ended || !group->serving || !view_is_current(group)) {
        return;
    }
    struct wanted_vec wanted = {0};
    struct change changes[CHANGES_MAX];
    struct raft_membership members = raft_membership(group->raft);
    const uint32_t count =
        wanted_members(group, &wanted) ? next_changes(group, &members, &wanted, changes) : 0;
    uint64_t wait_ms = RECONCILE_MS;
    int rc = 1;
    for (uint32_t i = 0; i < count && rc != 0; i++) {
        rc = try_change(group, &changes[i]);
        wait_ms = rc == RAFT_E_UNCONFIRMED ? CONFIRM_MS : wait_ms;
    }
    if (count > 0) {
        timer_add(&group->host->timers, &group->reconcile,
                  group->host->now_ms + (rc == 0 ? RECONCILE_MS : wait_ms), on_reconcile);
    }
    vec_deinit(&wanted);
}

/* --- replicas of this node ------------------------------------------------------------------- */

static const struct catalog_member *own_member(const struct host *host,
                                               const struct catalog_queue *record)
{
    if (record == NULL || record->spec.run != CATALOG_RUN_GROUP ||
        host_shard_of_group(record->id, host->options.shard_count) != host->options.shard) {
        return NULL;
    }
    for (uint32_t i = 0; i < record->spec.group.member_count; i++) {
        if (host_is_self(host, record->spec.group.members[i].node)) {
            return &record->spec.group.members[i];
        }
    }
    return NULL;
}

static bool is_founder(const struct catalog_queue *record, struct uid member)
{
    const struct catalog_members founders = catalog_queue_founders(record);
    for (uint32_t i = 0; i < founders.count; i++) {
        if (uid_eq(founders.items[i].id, member)) {
            return true;
        }
    }
    return false;
}

static void set_bootstrap(struct group *group, const struct catalog_queue *record)
{
    struct raft_member members[CATALOG_REPLICAS_MAX];
    const struct catalog_members founders = catalog_queue_founders(record);
    const bool founds = is_founder(record, uid_of_raft(group->self)); /* I2 */
    for (uint32_t i = 0; founds && i < founders.count; i++) {
        const struct catalog_member *m = &founders.items[i];
        members[i] =
            (struct raft_member){raft_of_uid(m->id), m->learner ? RAFT_LEARNER : RAFT_VOTER};
    }
    const struct raft_membership membership = {founds ? founders.count : 0, members};
    group->bootstrap_size = (uint32_t)raft_membership_encode(&membership, group->bootstrap);
}

static void set_peers(struct group *group, const struct catalog_queue *record)
{
    const struct catalog_members founders = catalog_queue_founders(record);
    for (uint32_t i = 0; i < founders.count; i++) {
        group_set_peer(group, raft_of_uid(founders.items[i].id), founders.items[i].node);
    }
    for (uint32_t i = 0; i < record->spec.group.member_count; i++) {
        group_set_peer(group, raft_of_uid(record->spec.group.members[i].id),
                       record->spec.group.members[i].node);
    }
    group->quick = uid_eq(record->spec.group.preferred, group->host->options.node_id) &&
                   record->spec.group.member_count > 1;
}

VEC_TYPE(ended_vec, struct raft_id);

void replica_ended(struct host *host, uint64_t group, struct raft_id member)
{
    bool fresh;
    void **place = umap_entry(&host->ended, group, &fresh);
    if (fresh) {
        *place = wr_calloc(1, sizeof(struct ended_vec));
    }
    struct ended_vec *members = *place;
    vec_push(members, member);
}

static void ended_forget(struct host *host, uint64_t group)
{
    struct ended_vec *members = umap_remove(&host->ended, group);
    if (members != NULL) {
        vec_deinit(members);
        wr_free(members);
    }
}

void ended_free(struct host *host)
{
    struct umap_iter it = umap_iterate(&host->ended);
    while (umap_next(&it)) {
        struct ended_vec *members = it.value;
        vec_deinit(members);
        wr_free(members);
    }
    umap_deinit(&host->ended);
}

/* One that is not known by its id was at least one of those that the queue was declared with. */
static bool has_ended(const struct host *host, const struct catalog_queue *record,
                      const struct catalog_member *own)
{
    const struct ended_vec *members = umap_get(&host->ended, record->id);
    for (size_t i = 0; members != NULL && i < members->count; i++) {
        const struct raft_id ended = members->items[i];
        if (raft_id_equal(ended, raft_of_uid(own->id)) ||
            (raft_id_is_zero(ended) && is_founder(record, own->id))) {
            return true;
        }
    }
    return false;
}

static void start_replica(struct host *host, const struct catalog_queue *record,
                          const struct catalog_member *own)
{
    if (has_ended(host, record, own)) {
        return; /* I3: the view is older than what ended it */
    }
    struct group *group = group_new(host, record->id, &queue_machine_ops, raft_of_uid(own->id));
    queue_config_fixed(record, &group->config);
    group->home = home_new(host, record->id, queue_new(&group->config), group);
    set_bootstrap(group, record);
    set_peers(group, record);
    group->not_member = false;
    group->lazy = group_is_alone(group);
    group_create_record(group);
    if (group_is_alone(group)) {
        group_begin(group); /* creation, vote and first entry in one batch, and one sync */
    }
}

static bool is_member(const struct group *group)
{
    struct raft_membership members = raft_membership(group->raft);
    return members.count == 0 || member_of(&members, group->self) != NULL;
}

static void ask_node(struct group *group, struct uid node)
{
    struct parcel *parcel =
        parcel_make(group->host, PARCEL_MEMBER, 2, group->id, node, HOST_SHARD_BY_GROUP);
    const uint64_t numbers[] = {group->self.hi, group->self.lo};
    numbers_pack(parcel, numbers, 2, SLICE_NONE);
    parcel_send(group->host, parcel);
}

/* Not named any more, but nobody said so in the log (who is removed does not get that entry): asks
 * those who are named, and all who ever were: the leader may be one that is to go itself. */
static void ask_members(struct group *group, const struct catalog_queue *record)
{
    struct host *host = group->host;
    for (uint32_t i = 0; i < record->spec.group.member_count; i++) {
        ask_node(group, record->spec.group.members[i].node);
    }
    for (size_t i = 0; i < group->peers.count; i++) {
        ask_node(group, group->peers.items[i].node);
    }
    timer_add(&host->timers, &group->reconcile, host->now_ms + ORPHAN_MS, on_reconcile);
}

/* I1. */
static void check_end(struct group *group, const struct catalog_queue *record,
                      const struct catalog_member *own)
{
    if (record == NULL) {
        group_end(group);
        return;
    }
    bool other = own == NULL || !raft_id_equal(raft_of_uid(own->id), group->self);
    if (!other || group->raft == NULL || !view_is_current(group)) {
        return;
    }
    bool removed =
        !is_member(group) && raft_membership_index(group->raft) <= raft_commit_index(group->raft);
    if (removed || group->not_member) {
        group_end(group);
    } else {
        /* Who serves hands over, or has been deposed and removed meanwhile: nobody sends anything
         * to one that is no member, and an idle leader asks for nothing. */
        ask_members(group, record);
    }
}

void group_check_end(struct group *group)
{
    struct host *host = group->host;
    if (group->id == HOST_CATALOG_GROUP || host->view == NULL || group->ended) {
        return;
    }
    const struct catalog_queue *record = catalog_queue_by_id(host->view, group->id);
    if (record != NULL) {
        check_end(group, record, own_member(host, record));
    }
}

/* I4: not by an older view than this start of the node. What its log says of replicas that ended
 * goes with the log's segments, so a view in which such a one is still named may come back. */
static void begin_replica(struct host *host, const struct catalog_queue *record)
{
    const struct catalog_member *own = own_member(host, record);
    if (own != NULL && host->boot != 0 && !purge_is_pending(host, record->id)) {
        start_replica(host, record, own);
    }
}

void group_booted(struct host *host, const struct catalog_queue *record)
{
    struct group *group = group_find(host, record->id);
    if (group == NULL) {
        begin_replica(host, record);
    } else if (!group->ended) {
        check_end(group, record, own_member(host, record));
        group_reconcile(group);
        if (group->home != NULL) {
            home_booted(group->home);
        }
    }
}

static int compare_ids(const void *a, const void *b)
{
    const uint64_t *one = a;
    const uint64_t *other = b;
    return *one < *other ? -1 : *one > *other;
}

/* Ids are the catalog's indexes: a view that has come to an id names the group, or it has ended.
 * In order, so that none is looked at twice while the catalog's log is applied again. */
void queue_groups_unnamed(struct host *host, bool first)
{
    struct umap_iter it = umap_iterate(&host->groups);
    while (first && umap_next(&it)) {
        vec_push(&host->unnamed, it.key);
    }
    if (first && host->unnamed.count > 0) {
        qsort(host->unnamed.items, host->unnamed.count, sizeof host->unnamed.items[0], compare_ids);
    }
    for (; host->unnamed_at < host->unnamed.count; host->unnamed_at++) {
        const uint64_t id = host->unnamed.items[host->unnamed_at];
        struct group *group = group_find(host, id);
        if (id == HOST_CATALOG_GROUP || group == NULL || group->ended) {
            continue;
        }
        if (id > catalog_view_index(host->view)) {
            return;
        }
        if (catalog_queue_by_id(host->view, id) == NULL) {
            group_end(group);
        }
    }
}

void queue_group_view(struct host *host, const struct catalog_queue *before,
                      const struct catalog_queue *after)
{
    const struct catalog_queue *any = after != NULL ? after : before;
    if (any->spec.run != CATALOG_RUN_GROUP) {
        return;
    }
    struct group *group = group_find(host, any->id);
    if (after == NULL) {
        ended_forget(host, any->id);
    }
    if (group == NULL) {
        if (after == NULL) {
            purge_forget(host, any->id);
        } else {
            begin_replica(host, after);
        }
        return;
    }
    if (group->ended) {
        return;
    }
    if (after != NULL) {
        set_peers(group, after);
        home_config_due(group->home);
    }
    check_end(group, after, own_member(host, after));
    group_reconcile(group);
}
