/* Replicas whose machines are no longer equal: found, quarantined, replaced; and what is left alone
 * because nobody can tell which is right. */
#include "group.h"
#include "home.h"
#include "parcel.h"
#include "store.h"
#include "users.h"

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0: publisher, 1: consumer at the end */
    uint64_t queue;
    uint32_t node; /* whose replica is looked at */
};

static struct scene scene_new(uint64_t seed, uint32_t nodes, uint32_t replicas, uint32_t publisher)
{
    struct scene s = {.c = cluster_new(seed, nodes, 1)};
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(2, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, replicas, -1);
    user_open(&s.u[0], s.c, publisher, 0, s.queue, s.t);
    return s;
}

static void scene_free(struct scene *s)
{
    user_close(&s->u[0]);
    user_close(&s->u[1]);
    cluster_settle(s->c, 500);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

/* To look at only: the host gets no turn for it. */
static struct group *replica(const struct scene *s, uint32_t node)
{
    return s->c->nodes[node].alive ? group_find(s->c->nodes[node].shards[0].host, s->queue) : NULL;
}

/* An entry for each message. */
static void publish(struct scene *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        user_publish(&s->u[0], 1, 100);
        cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 20000), "%u of %u confirmed",
                  s->t->confirmed_count, s->t->published);
    }
}

static void no_store(void *ctx, uint64_t position, const struct message *message)
{
    (void)ctx;
    (void)position;
    (void)message;
}

static void no_effect(void *ctx, const struct queue_effect *effect)
{
    (void)ctx;
    (void)effect;
}

/* One machine gets an op that the others do not hear of. */
static void corrupt(struct scene *s, uint32_t node, uint64_t boot)
{
    struct queue *queue = replica(s, node)->home->queue;
    const uint64_t before = queue_hash(queue);
    const struct queue_op op = {.kind = QUEUE_OP_NODE_GONE, .first = boot};
    const struct queue_batch batch = {.client = 0, .count = 1, .ops = &op};
    const struct queue_store_ops store = {no_store, NULL};
    const struct queue_sink sink = {no_effect, NULL};
    queue_apply(queue, 1, &batch, &store, &sink);
    cr_assert_neq(queue_hash(queue), before);
}

static bool is_quarantined(void *ctx)
{
    const struct scene *s = ctx;
    const struct group *group = replica(s, s->node);
    return group != NULL && group->quarantined[0] != 0;
}

static bool is_told(void *ctx)
{
    return ((const struct scene *)ctx)->c->divergent_told > 0;
}

static bool is_gone(void *ctx)
{
    const struct scene *s = ctx;
    return replica(s, s->node) == NULL;
}

static bool leads_elsewhere(void *ctx)
{
    const struct scene *s = ctx;
    int leader = cluster_leader(s->c, s->queue);
    return leader >= 0 && leader != (int)s->node;
}

/* All three are voters, none is quarantined, all have applied as much. */
static bool is_whole(void *ctx)
{
    const struct scene *s = ctx;
    uint64_t applied = 0;
    for (uint32_t i = 0; i < 3; i++) {
        const struct group *group = replica(s, i);
        if (group == NULL || group->raft == NULL || group->quarantined[0] != 0 ||
            !raft_is_voter(group->raft) || raft_membership(group->raft).count != 3 ||
            (i > 0 && group->applied != applied)) {
            return false;
        }
        applied = group->applied;
    }
    return cluster_leader(s->c, s->queue) >= 0;
}

static void expect_equal(struct scene *s)
{
    cr_assert(cluster_run(s->c, is_whole, s, 30000));
    for (uint32_t i = 1; i < 3; i++) {
        cr_assert_eq(queue_hash(replica(s, i)->home->queue),
                     queue_hash(replica(s, 0)->home->queue));
    }
}

static void expect_all_messages(struct scene *s, uint32_t node)
{
    user_open(&s->u[1], s->c, node, 0, s->queue, s->t);
    user_consume(&s->u[1], 1, 0, 100, UINT64_MAX);
    cr_assert(cluster_run(s->c, all_settled, s->t, 30000), "%u of %u settled", s->t->settled_count,
              s->t->published);
}

/* A record that names another member on the same node, before the one there is gone. */
static void put_in_place(struct scene *s)
{
    const struct catalog_queue *q = cluster_queue(s->c, s->queue);
    struct catalog_member members[NODES_MAX];
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    struct catalog_result result;
    memcpy(members, q->spec.group.members, 3 * sizeof *members);
    for (uint32_t i = 0; i < 3; i++) {
        if (uid_eq(members[i].node, s->c->nodes[s->node].id)) {
            members[i].id = (struct uid){s->queue * 1000 + 9, s->node + 1};
        }
    }
    command.u.replicas.id = q->id;
    command.u.replicas.version = q->replicas_version;
    command.u.replicas.members = members;
    command.u.replicas.member_count = 3;
    command.u.replicas.target_size = 3;
    command.u.replicas.preferred = q->spec.group.preferred;
    cluster_apply(s->c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK, "%s", catalog_status_text(result.status));
    cluster_views(s->c);
}

/* What the node layer does: out of the record, and a new one; or both in one. */
static void replace(struct scene *s, bool at_once)
{
    const uint32_t others[] = {s->node == 0 ? 1 : 0, s->node == 2 ? 1 : 2};
    s->c->divergent_told = 0;
    cr_assert(cluster_run(s->c, is_told, s, 5000));
    cr_assert_eq(s->c->divergent_queue, s->queue);
    struct raft_id self = replica(s, s->node)->self;
    cr_assert(raft_id_equal(raft_of_uid(s->c->divergent_member), self));
    if (at_once) {
        put_in_place(s);
    } else {
        cluster_set_replicas(s->c, s->queue, others, 2, 5);
        cr_assert(cluster_run(s->c, is_gone, s, 10000));
        cluster_set_replicas(s->c, s->queue, (uint32_t[]){0, 1, 2}, 3, 7);
    }
    expect_equal(s);
    cr_assert_not(raft_id_equal(replica(s, s->node)->self, self));
}

Test(compare, equal_replicas_are_left_alone)
{
    struct scene s = scene_new(1, 3, 3, 0);
    publish(&s, 3 * COMPARE_EVERY);
    expect_equal(&s);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert_not_null(replica(&s, i)->compare);
    }
    cr_assert_eq(s.c->divergent_told, 0);
    scene_free(&s);
}

Test(compare, wrong_follower_is_found_removed_and_rebuilt)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct scene s = scene_new(10 + seed, 3, 3, (uint32_t)(seed % 3));
        publish(&s, 20);
        s.node = ((uint32_t)cluster_leader(s.c, s.queue) + 1 + (uint32_t)(seed % 2)) % 3;
        corrupt(&s, s.node, 1000);
        publish(&s, COMPARE_EVERY);
        cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
        struct group_status status;
        cr_assert(host_group_status(cluster_host(s.c, s.node, 0), s.queue, &status));
        cr_assert_not_null(strstr(status.why, "quarantined"), "%s", status.why);
        publish(&s, 5);
        replace(&s, seed % 2 == 0);
        publish(&s, COMPARE_EVERY);
        expect_equal(&s);
        expect_all_messages(&s, s.node);
        scene_free(&s);
    }
}

Test(compare, wrong_leader_hands_over_first)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct scene s = scene_new(20 + seed, 3, 3, (uint32_t)(seed % 3));
        publish(&s, 20);
        s.node = (uint32_t)cluster_leader(s.c, s.queue);
        corrupt(&s, s.node, 1000);
        publish(&s, COMPARE_EVERY);
        cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
        cr_assert(cluster_run(s.c, leads_elsewhere, &s, 5000));
        publish(&s, 5);
        replace(&s, seed % 2 == 0);
        expect_all_messages(&s, s.node);
        scene_free(&s);
    }
}

/* Bytes for clients of that node came from the replica there: now they come from the leader. */
Test(compare, a_quarantined_replica_gives_no_bytes)
{
    struct scene s = scene_new(30, 3, 3, 0);
    publish(&s, 20);
    s.node = ((uint32_t)cluster_leader(s.c, s.queue) + 1) % 3;
    user_open(&s.u[1], s.c, s.node, 0, s.queue, s.t);
    user_consume(&s.u[1], 1, 0, 100, UINT64_MAX);
    cr_assert(cluster_run(s.c, all_settled, s.t, 10000));
    corrupt(&s, s.node, 1000);
    publish(&s, COMPARE_EVERY);
    cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
    cr_assert(cluster_run(s.c, all_settled, s.t, 5000));
    cluster_settle(s.c, 3000); /* no op is pending whose retry would hide a delivery that is lost */
    const uint64_t carried = s.c->wire_bytes;
    for (uint32_t i = 0; i < 20; i++) {
        user_publish(&s.u[0], 1, 20000);
        cr_assert(cluster_run(s.c, all_settled, s.t, 5000), "%u of %u settled", s.t->settled_count,
                  s.t->published);
    }
    /* To two followers, and a third time for the consumer. */
    cr_assert_gt(s.c->wire_bytes - carried, 20u * 20000u * 28 / 10);
    scene_free(&s);
}

Test(compare, a_quarantine_outlives_its_node)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(8); seed++) {
        struct scene s = scene_new(40 + seed, 3, 3, 2);
        publish(&s, 20);
        cr_assert_eq(cluster_leader(s.c, s.queue), 0);
        s.node = 1;
        corrupt(&s, s.node, 1000);
        publish(&s, COMPARE_EVERY);
        cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
        cluster_settle(s.c, 300); /* shorter than the leader takes to ask for its removal */
        cluster_crash(s.c, s.node);
        cluster_restart(s.c, s.node, true);
        cr_assert(is_quarantined(&s));
        if (seed % 2 == 0) {
            /* The next leader hears of it from the replica itself, and not by comparing. */
            cluster_crash(s.c, 0);
            cr_assert(cluster_run(s.c, leads_elsewhere, &s, 10000));
            cr_assert_eq(cluster_leader(s.c, s.queue), 2);
            cluster_restart(s.c, 0, true);
        }
        replace(&s, false);
        expect_all_messages(&s, 0);
        scene_free(&s);
    }
}

/* At the agreed index two of three told, and differ. The third comes by a snapshot over it: it is
 * asked where it is then. */
Test(compare, who_was_away_is_asked_later)
{
    struct scene s = scene_new(65, 3, 3, 0);
    publish(&s, 20);
    cr_assert_eq(cluster_leader(s.c, s.queue), 0);
    s.node = 1;
    cluster_crash(s.c, 2);
    corrupt(&s, 1, 1000);
    for (uint32_t i = 0; i < 30; i++) {
        user_publish(&s.u[0], 50, 1000);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 20000));
    }
    cluster_settle(s.c, 3000);
    cr_assert_not(is_quarantined(&s));
    cluster_restart(s.c, 2, true);
    cr_assert(cluster_run(s.c, is_quarantined, &s, 20000));
    replace(&s, false);
    expect_all_messages(&s, 1);
    scene_free(&s);
}

static void accuse(struct scene *s, uint64_t index, uint64_t value, uint64_t majority)
{
    struct host *host = cluster_host(s->c, s->node, 0);
    const struct raft_id self = replica(s, s->node)->self;
    const uint64_t numbers[] = {self.hi, self.lo, index, value, majority};
    struct parcel *parcel =
        parcel_make(host, PARCEL_QUARANTINE, 1, s->queue, s->c->nodes[s->node].id, 0);
    numbers_pack(parcel, numbers, WR_ARRAY_SIZE(numbers), SLICE_NONE);
    host_on_parcel(host, parcel);
}

static uint64_t next_agreed(const struct scene *s)
{
    return (replica(s, s->node)->applied / COMPARE_EVERY + 1) * COMPARE_EVERY;
}

/* What it can judge itself, it does not believe. */
Test(compare, a_wrong_accusation_is_not_believed)
{
    struct scene s = scene_new(45, 3, 3, 0);
    publish(&s, 20);
    s.node = 1;
    const uint64_t index = next_agreed(&s);
    while (replica(&s, 1)->applied < index) {
        publish(&s, 1);
        cluster_settle(s.c, 50);
    }
    cr_assert_eq(replica(&s, 1)->applied, index);
    const uint64_t own = compare_queue_hash(replica(&s, 1)->home->queue);
    accuse(&s, index, own + 1, own);
    cluster_settle(s.c, 3000);
    cr_assert_not(is_quarantined(&s));
    accuse(&s, index, own, own + 1);
    cr_assert(cluster_run(s.c, is_quarantined, &s, 1000));
    replace(&s, false);
    expect_all_messages(&s, 1);
    scene_free(&s);
}

/* With the other one away, it stays: quarantined, and with its vote and its log. */
Test(compare, nothing_is_removed_that_a_majority_needs)
{
    struct scene s = scene_new(50, 3, 3, 0);
    publish(&s, 20);
    uint32_t leader = (uint32_t)cluster_leader(s.c, s.queue);
    cr_assert_eq(leader, 0);
    s.node = 1;
    corrupt(&s, 1, 1000);
    publish(&s, COMPARE_EVERY);
    cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
    cluster_crash(s.c, 2);
    s.c->divergent_told = 0;
    publish(&s, 5); /* it is one of the two that store */
    cluster_settle(s.c, 10000);
    cr_assert_eq(s.c->divergent_told, 0);
    cr_assert(is_quarantined(&s));
    cluster_restart(s.c, 2, true);
    replace(&s, false);
    expect_all_messages(&s, 1);
    scene_free(&s);
}

Test(compare, a_quarantined_replica_does_not_lead)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct scene s = scene_new(90 + seed, 3, 3, 1);
        publish(&s, 20);
        cr_assert_eq(cluster_leader(s.c, s.queue), 0);
        s.node = 1;
        corrupt(&s, 1, 1000);
        publish(&s, COMPARE_EVERY);
        cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
        cluster_crash(s.c, 0);
        cr_assert(cluster_run(s.c, leads_elsewhere, &s, 5000));
        cr_assert_eq(cluster_leader(s.c, s.queue), 2);
        publish(&s, 5);
        cluster_crash(s.c, 2);
        cluster_settle(s.c, 5000);
        cr_assert_eq(cluster_leader(s.c, s.queue), -1);
        cluster_restart(s.c, 0, true);
        cluster_restart(s.c, 2, true);
        replace(&s, false);
        expect_all_messages(&s, 1);
        scene_free(&s);
    }
}

Test(compare, without_a_majority_nothing_is_done)
{
    struct scene s = scene_new(60, 3, 3, 0);
    publish(&s, 20);
    corrupt(&s, 0, 1000);
    corrupt(&s, 1, 2000);
    publish(&s, 3 * COMPARE_EVERY);
    cluster_settle(s.c, 5000);
    for (s.node = 0; s.node < 3; s.node++) {
        cr_assert_not(is_quarantined(&s));
    }
    cr_assert_eq(s.c->divergent_told, 0);
    scene_free(&s);

    s = scene_new(61, 2, 2, 0);
    publish(&s, 20);
    corrupt(&s, 1, 1000);
    publish(&s, 3 * COMPARE_EVERY);
    cluster_settle(s.c, 5000);
    for (s.node = 0; s.node < 2; s.node++) {
        cr_assert_not(is_quarantined(&s));
    }
    cr_assert_eq(s.c->divergent_told, 0);
    scene_free(&s);
}

static bool is_new(void *ctx)
{
    const struct scene *s = ctx;
    const struct group *group = replica(s, s->node);
    return group != NULL && !group->ended && group->quarantined[0] == 0 && group->durable;
}

/* What the one before left in the checkpoint store must not become the state of the new one, even
 * when the store forgets its newest deletions. */
Test(compare, the_new_replica_begins_empty_even_after_a_crash)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(8); seed++) {
        struct scene s = scene_new(70 + seed, 3, 3, 0);
        publish(&s, 20);
        s.node = ((uint32_t)cluster_leader(s.c, s.queue) + 1) % 3;
        s.node = s.node == 0 ? 2 : s.node;
        corrupt(&s, s.node, 1000);
        publish(&s, COMPARE_EVERY);
        cr_assert(cluster_run(s.c, is_quarantined, &s, 5000));
        for (uint32_t i = 0; i < 30; i++) {
            user_publish(&s.u[0], 50, 1000);
            cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 20000));
        }
        cr_assert_gt(replica(&s, s.node)->checkpoint_index, 0);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, s.node == 1 ? 2 : 1}, 2, 5);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 1, 2}, 3, 7);
        cr_assert(cluster_run(s.c, is_new, &s, 20000));
        cluster_crash(s.c, s.node);
        cluster_restart(s.c, s.node, true);
        cr_assert(is_new(&s));
        cr_assert_eq(replica(&s, s.node)->applied, 0, "seed %llu", (unsigned long long)seed);
        expect_equal(&s);
        expect_all_messages(&s, s.node);
        scene_free(&s);
    }
}

/* `count` messages of which no two neighbours have one size: as many runs. */
static struct queue *queue_of_runs(uint32_t count)
{
    const struct queue_store_ops store = {no_store, NULL};
    const struct queue_sink sink = {no_effect, NULL};
    const struct message_parts parts = {.key = BYTES_LITERAL("q"), .ttl_ms = MESSAGE_TTL_NONE};
    struct queue_config config;
    struct message messages[2];
    queue_config_default(&config);
    struct queue *queue = queue_new(&config);
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t size = (uint32_t)message_record_size(&parts, i + 1);
        struct buf *b = buf_new(size);
        memset(message_write(b->data, &parts, i + 1), 0, i + 1);
        b->size = size;
        messages[i] = (struct message){{b, 0, size}};
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct queue_op op = {
            .kind = QUEUE_OP_ENQUEUE, .seq = i + 1, .message = messages[i % 2]};
        const struct queue_batch batch = {.client = UINT64_C(1) << 32, .count = 1, .ops = &op};
        queue_apply(queue, 1, &batch, &store, &sink);
    }
    buf_unref(messages[0].record.buf);
    buf_unref(messages[1].record.buf);
    return queue;
}

/* A state that is too large to be hashed whole is compared by its counts. */
Test(compare, large_states_are_compared_by_counts)
{
    const struct queue_store_ops store = {no_store, NULL};
    const struct queue_sink sink = {no_effect, NULL};
    const uint32_t sizes[] = {1000, 100000};
    for (uint32_t i = 0; i < WR_ARRAY_SIZE(sizes); i++) {
        struct queue *a = queue_of_runs(sizes[i]);
        struct queue *b = queue_of_runs(sizes[i]);
        cr_assert_geq(queue_weight(a), sizes[i]);
        cr_assert_eq(compare_queue_hash(a), compare_queue_hash(b));
        cr_assert_eq(compare_queue_hash(a) == queue_hash(a), sizes[i] == 1000);
        const struct queue_op op = {.kind = QUEUE_OP_PURGE, .seq = sizes[i] + 1};
        const struct queue_batch batch = {.client = UINT64_C(1) << 32, .count = 1, .ops = &op};
        queue_apply(b, 1, &batch, &store, &sink);
        cr_assert_neq(compare_queue_hash(a), compare_queue_hash(b));
        queue_free(a);
        queue_free(b);
    }
}
