/*
 * What: the replicas of a group compare their machines. Each hashes its own at agreed indexes; the
 * leader gathers the hashes; what differs from what a strict majority of the voters has is
 * quarantined, and replaced by a fresh replica.
 *
 * Happy path: applied index divisible by N -> hash -> PARCEL_HASH to the leader -> all equal: that
 * was it. Otherwise: the leader tells the member (QUARANTINE) and has it taken out of the record
 * (on_replica_divergent); the group removes it, its node ends the replica and begins another.
 * Failure modes: a lost hash: the last few are told again to each new leader and after each break
 * of the link; at the latest the next index is compared. Some differ and others were away: all are
 * asked where they are when the group is at rest (COMPARE). No majority (two voters that differ):
 * said once, nothing is done. Removing the member would leave no reachable majority: it stays,
 * quarantined, and is looked at again every second. A new leader does not know whom the one before
 * had found: a quarantined replica tells it (QUARANTINED).
 *
 * Here is who tells whom when; compare_digest.c has what is hashed and what a majority has (I1),
 * compare_quarantine.c what becomes of one that differs (I3, I4). Invariant I2  Nobody is accused
 * without a strict majority of the voters in force having one other value. Threads: the host's
 * shard. Spec: docs/replica.md, "Comparing replicas".
 */
#include "compare_internal.h"
#include "group.h"
#include "host_internal.h"
#include "parcel.h"

#include "warren/plant.h"

#define COMPARE_RETRY_MS 1000u

struct compare *compare_of(struct group *group)
{
    if (group->compare == NULL) {
        group->compare = wr_calloc(1, sizeof *group->compare);
        group->compare->group = group;
        timer_init(&group->compare->timer);
    }
    return group->compare;
}

void compare_free(struct group *group)
{
    struct compare *c = group->compare;
    if (c == NULL) {
        return;
    }
    timer_cancel(&group->host->timers, &c->timer);
    vec_deinit(&c->members);
    vec_deinit(&c->divergent);
    wr_free(c);
    group->compare = NULL;
}

/* --- parcels ---------------------------------------------------------------------------------- */

void compare_send(struct group *group, uint8_t kind, struct uid node, struct raft_id member,
                  uint64_t a, uint64_t b, uint64_t c)
{
    struct parcel *parcel = parcel_make(group->host, kind, 1, group->id, node, HOST_SHARD_BY_GROUP);
    const uint64_t numbers[] = {member.hi, member.lo, a, b, c};
    numbers_pack(parcel, numbers, WR_ARRAY_SIZE(numbers), SLICE_NONE);
    parcel_send(group->host, parcel);
}

static bool leader_elsewhere(const struct group *group, struct uid *ret_node)
{
    return group_node_of(group, raft_leader(group->raft), ret_node) &&
           !host_is_self(group->host, *ret_node);
}

static void tell_leader(struct group *group, const struct digest *d)
{
    struct uid leader;
    if (leader_elsewhere(group, &leader)) {
        compare_send(group, PARCEL_HASH, leader, group->self, d->index, d->version, d->value);
    }
}

void compare_tell_quarantined(struct group *group)
{
    const struct divergent *d = &compare_of(group)->self;
    struct uid leader;
    if (leader_elsewhere(group, &leader)) {
        compare_send(group, PARCEL_QUARANTINED, leader, group->self, d->index, d->value,
                     d->majority);
    }
}

/* Some differ, and those who could tell which is right were away, or came by a snapshot over the
 * index: once the group is at rest, all of them are asked about where they are now. */
static void ask_again(struct group *group)
{
    struct compare *c = group->compare;
    const struct raft_membership members = raft_membership(group->raft);
    if (group->applied != raft_last_index(group->raft)) {
        return;
    }
    if (compare_digest_at(c, group->self, group->applied, compare_version_of(group)) == NULL) {
        const struct digest d = {group->applied, compare_version_of(group),
                                 group->ops->hash(group)};
        compare_remember(group, group->self, &d);
    }
    for (uint32_t i = 0; i < members.count; i++) {
        struct uid node;
        if (!raft_id_equal(members.members[i].id, group->self) &&
            group_node_of(group, members.members[i].id, &node)) {
            compare_send(group, PARCEL_COMPARE, node, members.members[i].id, group->applied, 0, 0);
        }
    }
}

static void answer_again(struct group *group, uint64_t index)
{
    if (group->quarantined[0] != 0 || group->installing || group->applied != index || index == 0) {
        return;
    }
    const struct digest *known =
        compare_digest_at(compare_of(group), group->self, index, compare_version_of(group));
    struct digest d = {index, compare_version_of(group), known != NULL ? known->value : 0};
    if (known == NULL) {
        d.value = group->ops->hash(group);
        compare_remember(group, group->self, &d);
    }
    tell_leader(group, &d);
}

/* --- judging ---------------------------------------------------------------------------------- */

static void evaluate(struct group *group, uint64_t index, uint64_t version)
{
    struct compare *c = compare_of(group);
    struct divergent found[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    struct divergent self = {.index = 0};
    if (raft_role(group->raft) != RAFT_LEADER || group->quarantined[0] != 0) {
        return;
    }
    const struct verdict v = compare_judge(group, index, version);
    if (v.agree <= v.voters / 2) {
        if (v.voters > 0 && v.told == v.voters) {
            c->doubt = 0;
            compare_say_undecided(group, index);
        } else if (v.told > v.agree && c->undecided == 0) {
            c->doubt = index;
            compare_arm(group);
        }
        return;
    }
    c->doubt = index >= c->doubt ? 0 : c->doubt;
    const struct raft_membership members = raft_membership(group->raft);
    for (uint32_t i = 0; i < members.count; i++) {
        const struct raft_id member = members.members[i].id;
        const struct digest *d = compare_digest_at(c, member, index, version);
        struct divergent one = {
            .member = member, .index = index, .value = d != NULL ? d->value : 0};
        one.majority = v.majority;
        if (d == NULL || d->value == v.majority || !group_node_of(group, member, &one.node)) {
            continue;
        }
        if (raft_id_equal(member, group->self)) {
            self = one;
        } else {
            found[count++] = one;
        }
    }
    for (uint32_t i = 0; i < count; i++) { /* these step the core: `members` is not used any more */
        compare_accuse(group, &found[i]);
    }
    if (self.index != 0) {
        compare_quarantine(group, &self);
    }
}

static void on_timer(struct timer *timer)
{
    struct compare *c = WR_CONTAINER_OF(timer, struct compare, timer);
    struct group *group = c->group;
    if (group->raft == NULL || group->ended || group->failed[0] != 0) {
        return;
    }
    if (group->quarantined[0] != 0) {
        compare_hand_over(group);
        compare_tell_quarantined(group);
        compare_arm(group);
        return;
    }
    if (raft_role(group->raft) != RAFT_LEADER) {
        return;
    }
    compare_forget_replaced(group);
    if (c->doubt != 0) {
        ask_again(group);
    }
    if (c->divergent.count == 0 && c->doubt == 0) {
        return;
    }
    for (size_t i = 0; i < c->divergent.count; i++) {
        const struct divergent *d = &c->divergent.items[i];
        compare_send(group, PARCEL_QUARANTINE, d->node, d->member, d->index, d->value, d->majority);
    }
    if (group->serving && group->id != HOST_CATALOG_GROUP) {
        compare_replace_one(group);
    }
    compare_arm(group);
}

void compare_arm(struct group *group)
{
    struct compare *c = compare_of(group);
    if (!timer_is_pending(&c->timer)) {
        timer_add(&group->host->timers, &c->timer, group->host->now_ms + COMPARE_RETRY_MS,
                  on_timer);
    }
}

/* --- events ----------------------------------------------------------------------------------- */

/* The group has applied an agreed index, or the first entry of a term. */
void compare_applied(struct group *group)
{
    if (group->quarantined[0] != 0 || raft_membership(group->raft).count < 2 ||
        !ahead_is_settled(group)) {
        return; /* with nobody to compare it with, it is not hashed */
    }
    if (wr_planted(WR_PLANT_drift_unnoticed)) {
        return;
    }
    const struct digest d = {group->applied, compare_version_of(group), group->ops->hash(group)};
    compare_remember(group, group->self, &d);
    tell_leader(group, &d);
    evaluate(group, d.index, d.version);
}

/* Another leader, or the same one after a break: what it may have missed is said again. */
void compare_leader_changed(struct group *group)
{
    struct compare *c = group->compare;
    if (c == NULL) {
        return;
    }
    if (raft_role(group->raft) != RAFT_LEADER) {
        vec_clear(&c->divergent);
        c->doubt = 0;
    }
    const struct compared *own = compare_kept_of(c, group->self);
    if (group->quarantined[0] != 0) {
        compare_tell_quarantined(group);
        return;
    }
    for (uint32_t i = 0; own != NULL && i < COMPARE_KEPT; i++) {
        if (own->kept[i].index != 0) {
            tell_leader(group, &own->kept[i]);
        }
    }
}

static bool is_from(const struct group *group, const struct parcel *parcel, struct raft_id member)
{
    struct uid node;
    return group_node_of(group, member, &node) && uid_eq(node, parcel->from_node);
}

/* An accusation is not taken on trust where this replica can tell: at that index it has what the
 * majority has (after a restart, perhaps, that built the machine anew). */
static bool is_innocent(struct group *group, const struct divergent *d)
{
    const struct compared *own =
        group->compare != NULL ? compare_kept_of(group->compare, group->self) : NULL;
    for (uint32_t i = 0; own != NULL && i < COMPARE_KEPT; i++) {
        if (own->kept[i].index == d->index && own->kept[i].value == d->majority) {
            return d->index != 0;
        }
    }
    return false;
}

/* PARCEL_HASH, PARCEL_QUARANTINE, PARCEL_QUARANTINED, PARCEL_COMPARE. */
void compare_on_parcel(struct host *host, struct parcel *parcel)
{
    uint64_t n[5];
    struct slice raw;
    struct group *group = group_find(host, parcel->group);
    if (group == NULL || group->raft == NULL || group->ended || group->failed[0] != 0 ||
        numbers_unpack(parcel, n, 5, &raw) != 0) {
        return;
    }
    const struct raft_id member = {n[0], n[1]};
    const struct divergent d = {member, parcel->from_node, n[2], n[3], n[4]};
    if (parcel->kind == PARCEL_QUARANTINE) {
        if (raft_id_equal(member, group->self) && !is_innocent(group, &d)) {
            compare_quarantine(group, &d);
        }
        return;
    }
    if (parcel->kind == PARCEL_COMPARE) {
        answer_again(group, n[2]);
        return;
    }
    if (raft_role(group->raft) != RAFT_LEADER || group->quarantined[0] != 0 ||
        !is_from(group, parcel, member)) {
        return;
    }
    if (parcel->kind == PARCEL_QUARANTINED) {
        if (compare_in_group(group, member) || compare_in_record(group, member)) {
            compare_accuse(group, &d);
        }
    } else if (n[2] != 0) {
        compare_remember(group, member, &(struct digest){n[2], n[3], n[4]});
        evaluate(group, n[2], n[3]);
    }
}
