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
 * Invariants
 * I1  Hashes are compared for one index and one version only: a committed prefix has one right
 * outcome, so it does not matter when a hash comes, or from which term it is. I2  Nobody is accused
 * without a strict majority of the voters in force having one other value. I3  A quarantined
 * replica does not serve, does not campaign, gives no bytes to relays, sends no snapshot; it
 * stores, acks and votes as before (its log is good), and applies (so that its log can be let go
 * of). I4  The quarantine is durable (a flag of LOG_GROUP) before a restart could lose it for good:
 * until then the leader says it again. Threads: the host's shard. Spec: DESIGN §5, docs/replica.md,
 * "Comparing replicas".
 */
#include "replica_internal.h"

#include "warren/plant.h"

#include <stdio.h>

#define COMPARE_VERSION       1u /* of what is hashed when; changes with the limits below */
#define COMPARE_QUEUE_EVERY   8192u
#define COMPARE_CATALOG_EVERY 256u
#define COMPARE_WEIGHT_MAX    65536u /* of a queue (some 10 ns each): above, counts only ... */
#define COMPARE_OBJECTS_MAX   16384u /* ... of a catalog (some 300 ns each) */
#define COMPARE_KEPT          4u     /* newest hashes kept of each member */
#define COMPARE_RETRY_MS      1000u

struct digest {
    uint64_t index, version, value; /* index 0: none */
};
struct compared {
    struct raft_id member;
    struct digest kept[COMPARE_KEPT];
    uint32_t next;
};
struct divergent {
    struct raft_id member;
    struct uid node;
    uint64_t index, value, majority; /* 0 after a restart of the member: not known any more */
};
struct compare {
    struct group *group;
    struct timer timer;
    VEC(struct compared) members;    /* self; on a leader all who told */
    VEC(struct divergent) divergent; /* leader: to be replaced */
    struct divergent self;           /* quarantined: why */
    uint64_t doubt;     /* leader: index at which some differ, and too few told; 0 = none */
    uint64_t undecided; /* index at which nobody was right: said once */
    uint32_t candidate; /* quarantined leader: who is to lead instead, in turn */
};

static struct compare *compare_of(struct group *group)
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

uint32_t compare_every(const struct host *host, bool catalog)
{
    uint32_t wanted =
        catalog ? host->options.compare_catalog_every : host->options.compare_queue_every;
    return wanted != 0 ? wanted : catalog ? COMPARE_CATALOG_EVERY : COMPARE_QUEUE_EVERY;
}

/* --- what is hashed -------------------------------------------------------------------------- */

static uint64_t hash_numbers(const uint64_t *numbers, size_t count)
{
    const struct hash_seed seed = {UINT64_C(0x636f6d706172652d), UINT64_C(0x636f756e74732d31)};
    struct writer w;
    writer_init(&w, 8 * (uint32_t)count);
    for (size_t i = 0; i < count; i++) {
        put_le64(&w, numbers[i]);
    }
    struct buf *b = writer_take(&w);
    uint64_t hash = hash_bytes(seed, bytes_make(b->data, b->size));
    buf_unref(b);
    return hash;
}

uint64_t compare_queue_hash(const struct queue *queue)
{
    if (queue_weight(queue) <= COMPARE_WEIGHT_MAX) {
        return queue_hash(queue);
    }
    struct queue_totals t;
    queue_totals(queue, &t);
    const uint64_t numbers[] = {queue_weight(queue), t.ready,           t.unacked,
                                t.consumers,         t.bytes_ready,     t.bytes_unacked,
                                t.next_position,     t.lowest_position, t.published,
                                t.delivered,         t.acked,           t.redelivered};
    return hash_numbers(numbers, WR_ARRAY_SIZE(numbers));
}

uint64_t compare_catalog_hash(const struct catalog *catalog)
{
    struct catalog_totals t;
    catalog_count(catalog_view_peek(catalog), &t);
    if (t.nodes + t.vhosts + t.users + t.exchanges + t.queues + t.bindings <= COMPARE_OBJECTS_MAX) {
        return catalog_hash(catalog);
    }
    const uint64_t numbers[] = {t.nodes, t.vhosts, t.users, t.exchanges, t.queues, t.bindings};
    return hash_numbers(numbers, WR_ARRAY_SIZE(numbers));
}

static uint64_t version_of(const struct group *group)
{
    return (uint64_t)COMPARE_VERSION << 32 | group->ops->version;
}

/* --- what is known --------------------------------------------------------------------------- */

static struct compared *compared_of(struct compare *c, struct raft_id member)
{
    for (size_t i = 0; i < c->members.count; i++) {
        if (raft_id_equal(c->members.items[i].member, member)) {
            return &c->members.items[i];
        }
    }
    return NULL;
}

static const struct digest *digest_at(struct compare *c, struct raft_id member, uint64_t index,
                                      uint64_t version)
{
    const struct compared *m = compared_of(c, member);
    for (uint32_t i = 0; m != NULL && i < COMPARE_KEPT; i++) {
        if (m->kept[i].index == index && m->kept[i].version == version) {
            return &m->kept[i];
        }
    }
    return NULL;
}

static void remember(struct group *group, struct raft_id member, const struct digest *d)
{
    struct compare *c = compare_of(group);
    if (digest_at(c, member, d->index, d->version) != NULL) {
        return; /* told again, or applied again after a restart */
    }
    struct compared *m = compared_of(c, member);
    if (m == NULL) {
        for (size_t i = 0; i < c->members.count && c->members.count >= RAFT_MEMBERS_MAX; i++) {
            if (!raft_id_equal(c->members.items[i].member, group->self)) {
                vec_remove(&c->members, i); /* members come and go: an old one makes room */
                break;
            }
        }
        m = vec_add(&c->members);
        *m = (struct compared){.member = member};
    }
    m->kept[m->next++ % COMPARE_KEPT] = *d;
}

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

/* --- texts ----------------------------------------------------------------------------------- */

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

/* --- parcels --------------------------------------------------------------------------------- */

static void send_numbers(struct group *group, uint8_t kind, struct uid node, struct raft_id member,
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
        send_numbers(group, PARCEL_HASH, leader, group->self, d->index, d->version, d->value);
    }
}

static void tell_quarantined(struct group *group)
{
    const struct divergent *d = &compare_of(group)->self;
    struct uid leader;
    if (leader_elsewhere(group, &leader)) {
        send_numbers(group, PARCEL_QUARANTINED, leader, group->self, d->index, d->value,
                     d->majority);
    }
}

static void arm(struct group *group);

/* --- being quarantined ----------------------------------------------------------------------- */

/* A leader that is in the minority: one that agrees with the majority goes on. Entries are still
 * replicated from here until it has them all. */
static void hand_over(struct group *group)
{
    struct compare *c = compare_of(group);
    if (raft_role(group->raft) != RAFT_LEADER) {
        return;
    }
    for (size_t n = c->members.count; n > 0; n--) {
        const struct raft_id member = c->members.items[c->candidate++ % c->members.count].member;
        const struct digest *d = digest_at(c, member, c->self.index, version_of(group));
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

static void quarantine(struct group *group, const struct divergent *why)
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
    hand_over(group);
    tell_quarantined(group);
    arm(group);
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
    arm(group);
}

/* --- accusing -------------------------------------------------------------------------------- */

/* Clients over there took bytes from the replica there: they begin anew, and get them from here. */
static void reroute(struct group *group, struct uid node)
{
    if (group->home != NULL && group->serving) {
        home_announce_to(group->home, node);
    }
}

static void accuse(struct group *group, const struct divergent *d)
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
    send_numbers(group, PARCEL_QUARANTINE, d->node, d->member, d->index, d->value, d->majority);
    reroute(group, d->node);
    arm(group);
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
    if (digest_at(c, group->self, group->applied, version_of(group)) == NULL) {
        const struct digest d = {group->applied, version_of(group), group->ops->hash(group)};
        remember(group, group->self, &d);
    }
    for (uint32_t i = 0; i < members.count; i++) {
        struct uid node;
        if (!raft_id_equal(members.members[i].id, group->self) &&
            group_node_of(group, members.members[i].id, &node)) {
            send_numbers(group, PARCEL_COMPARE, node, members.members[i].id, group->applied, 0, 0);
        }
    }
}

static void answer_again(struct group *group, uint64_t index)
{
    if (group->quarantined[0] != 0 || group->installing || group->applied != index || index == 0) {
        return;
    }
    const struct digest *known =
        digest_at(compare_of(group), group->self, index, version_of(group));
    struct digest d = {index, version_of(group), known != NULL ? known->value : 0};
    if (known == NULL) {
        d.value = group->ops->hash(group);
        remember(group, group->self, &d);
    }
    tell_leader(group, &d);
}

static void say_undecided(struct group *group, uint64_t index)
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

struct verdict {
    uint64_t majority;
    uint32_t voters, told, agree;
};

static struct verdict judge(struct group *group, uint64_t index, uint64_t version)
{
    struct verdict v = {0};
    struct compare *c = compare_of(group);
    const struct raft_membership members = raft_membership(group->raft);
    for (uint32_t i = 0; i < members.count; i++) {
        const struct digest *d = digest_at(c, members.members[i].id, index, version);
        uint32_t agree = 0;
        if (members.members[i].role != RAFT_VOTER) {
            continue;
        }
        v.voters++;
        v.told += d != NULL;
        for (uint32_t k = 0; d != NULL && k < members.count; k++) {
            const struct digest *other = digest_at(c, members.members[k].id, index, version);
            agree +=
                members.members[k].role == RAFT_VOTER && other != NULL && other->value == d->value;
        }
        if (agree > v.agree) {
            v.agree = agree;
            v.majority = d->value;
        }
    }
    return v;
}

static void evaluate(struct group *group, uint64_t index, uint64_t version)
{
    struct compare *c = compare_of(group);
    struct divergent found[RAFT_MEMBERS_MAX];
    uint32_t count = 0;
    struct divergent self = {.index = 0};
    if (raft_role(group->raft) != RAFT_LEADER || group->quarantined[0] != 0) {
        return;
    }
    const struct verdict v = judge(group, index, version);
    if (v.agree <= v.voters / 2) {
        if (v.voters > 0 && v.told == v.voters) {
            c->doubt = 0;
            say_undecided(group, index);
        } else if (v.told > v.agree && c->undecided == 0) {
            c->doubt = index;
            arm(group);
        }
        return;
    }
    c->doubt = index >= c->doubt ? 0 : c->doubt;
    const struct raft_membership members = raft_membership(group->raft);
    for (uint32_t i = 0; i < members.count; i++) {
        const struct raft_id member = members.members[i].id;
        const struct digest *d = digest_at(c, member, index, version);
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
        accuse(group, &found[i]);
    }
    if (self.index != 0) {
        quarantine(group, &self);
    }
}

/* --- replacing ------------------------------------------------------------------------------- */

static bool in_record(const struct group *group, struct raft_id member)
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

static bool in_group(const struct group *group, struct raft_id member)
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

static void forget_replaced(struct group *group)
{
    struct compare *c = group->compare;
    bool catalog = group->id == HOST_CATALOG_GROUP;
    size_t kept = 0;
    for (size_t i = 0; i < c->divergent.count; i++) {
        const struct divergent d = c->divergent.items[i];
        bool over = catalog ? host_reach(group->host, d.node) != NODE_UP
                            : !in_group(group, d.member) && !in_record(group, d.member);
        if (!over) {
            c->divergent.items[kept++] = d;
        }
    }
    c->divergent.count = kept;
}

/* One after the other: the next when the group has let the one before go. */
static void replace_one(struct group *group)
{
    const struct host *host = group->host;
    const struct compare *c = group->compare;
    const struct divergent *next = NULL;
    for (size_t i = 0; i < c->divergent.count; i++) {
        const struct divergent *d = &c->divergent.items[i];
        if (!in_record(group, d->member)) {
            return;
        }
        next = next == NULL && can_do_without(group, d->member) ? d : next;
    }
    if (next != NULL && host->sink.on_replica_divergent != NULL) {
        host->sink.on_replica_divergent(host->sink.ctx, group->id, uid_of_raft(next->member));
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
        hand_over(group);
        tell_quarantined(group);
        arm(group);
        return;
    }
    if (raft_role(group->raft) != RAFT_LEADER) {
        return;
    }
    forget_replaced(group);
    if (c->doubt != 0) {
        ask_again(group);
    }
    if (c->divergent.count == 0 && c->doubt == 0) {
        return;
    }
    for (size_t i = 0; i < c->divergent.count; i++) {
        const struct divergent *d = &c->divergent.items[i];
        send_numbers(group, PARCEL_QUARANTINE, d->node, d->member, d->index, d->value, d->majority);
    }
    if (group->serving && group->id != HOST_CATALOG_GROUP) {
        replace_one(group);
    }
    arm(group);
}

static void arm(struct group *group)
{
    struct compare *c = compare_of(group);
    if (!timer_is_pending(&c->timer)) {
        timer_add(&group->host->timers, &c->timer, group->host->now_ms + COMPARE_RETRY_MS,
                  on_timer);
    }
}

/* --- events ---------------------------------------------------------------------------------- */

/* The group has applied an agreed index, or the first entry of a term. */
void compare_applied(struct group *group)
{
    if (group->quarantined[0] != 0 || raft_membership(group->raft).count < 2) {
        return; /* with nobody to compare it with, it is not hashed */
    }
    if (wr_planted(WR_PLANT_drift_unnoticed)) {
        return;
    }
    const struct digest d = {group->applied, version_of(group), group->ops->hash(group)};
    remember(group, group->self, &d);
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
    const struct compared *own = compared_of(c, group->self);
    if (group->quarantined[0] != 0) {
        tell_quarantined(group);
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
        group->compare != NULL ? compared_of(group->compare, group->self) : NULL;
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
            quarantine(group, &d);
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
        if (in_group(group, member) || in_record(group, member)) {
            accuse(group, &d);
        }
    } else if (n[2] != 0) {
        remember(group, member, &(struct digest){n[2], n[3], n[4]});
        evaluate(group, n[2], n[3]);
    }
}
