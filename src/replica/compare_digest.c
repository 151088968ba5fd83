/*
 * What: the hashes by which the replicas of a group are compared: what is hashed, what each member
 * told, what a majority has.
 * Happy path: every replica hashes at agreed indexes; the newest few of each member are kept; asked
 * about an index, the largest set of voters that agree is found. Failure modes: what is too large
 * to be hashed within a turn is compared by its counts. Invariants I1  Hashes are compared for one
 * index and one version only: a committed prefix has one right outcome, so it does not matter when
 * a hash comes, or from which term it is. Threads: the host's shard. Spec: docs/replica.md,
 * "Comparing replicas".
 */
#include "compare_internal.h"
#include "group.h"
#include "host_internal.h"

#define COMPARE_VERSION       1u /* of what is hashed when; changes with the limits below */
#define COMPARE_QUEUE_EVERY   8192u
#define COMPARE_CATALOG_EVERY 256u
#define COMPARE_WEIGHT_MAX    65536u /* of a queue (some 10 ns each): above, counts only ... */
#define COMPARE_OBJECTS_MAX   16384u /* ... of a catalog (some 300 ns each) */

uint32_t compare_every(const struct host *host, bool catalog)
{
    uint32_t wanted =
        catalog ? host->options.compare_catalog_every : host->options.compare_queue_every;
    return wanted != 0 ? wanted : catalog ? COMPARE_CATALOG_EVERY : COMPARE_QUEUE_EVERY;
}

/* --- what is hashed --------------------------------------------------------------------------- */

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

uint64_t compare_version_of(const struct group *group)
{
    return (uint64_t)COMPARE_VERSION << 32 | group->ops->version;
}

/* --- what is known ---------------------------------------------------------------------------- */

struct compared *compare_kept_of(struct compare *c, struct raft_id member)
{
    for (size_t i = 0; i < c->members.count; i++) {
        if (raft_id_equal(c->members.items[i].member, member)) {
            return &c->members.items[i];
        }
    }
    return NULL;
}

const struct digest *compare_digest_at(struct compare *c, struct raft_id member, uint64_t index,
                                       uint64_t version)
{
    const struct compared *m = compare_kept_of(c, member);
    for (uint32_t i = 0; m != NULL && i < COMPARE_KEPT; i++) {
        if (m->kept[i].index == index && m->kept[i].version == version) {
            return &m->kept[i];
        }
    }
    return NULL;
}

void compare_remember(struct group *group, struct raft_id member, const struct digest *d)
{
    struct compare *c = compare_of(group);
    if (compare_digest_at(c, member, d->index, d->version) != NULL) {
        return; /* told again, or applied again after a restart */
    }
    struct compared *m = compare_kept_of(c, member);
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

struct verdict compare_judge(struct group *group, uint64_t index, uint64_t version)
{
    struct verdict v = {0};
    struct compare *c = compare_of(group);
    const struct raft_membership members = raft_membership(group->raft);
    for (uint32_t i = 0; i < members.count; i++) {
        const struct digest *d = compare_digest_at(c, members.members[i].id, index, version);
        uint32_t agree = 0;
        if (members.members[i].role != RAFT_VOTER) {
            continue;
        }
        v.voters++;
        v.told += d != NULL;
        for (uint32_t k = 0; d != NULL && k < members.count; k++) {
            const struct digest *other =
                compare_digest_at(c, members.members[k].id, index, version);
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
