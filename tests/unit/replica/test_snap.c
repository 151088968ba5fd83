/* Snapshots between replicas over a link so slow that the log turns over several times meanwhile:
 * transfers that are overtaken, cut short by a restart of the receiver or the end of the leader,
 * and what they leave in the receiver's checkpoint store. */
#include "users.h"

#include "group.h"
#include "home.h"
#include "parcel.h"
#include "store.h"

#include "warren/log.h"

#define AWAY     2u /* the node that was away */
#define BEHIND   3000u
#define BATCH    100u
#define SIZE     1000u
#define ROUNDS   150u
#define LIVE_MAX 20u /* keys of the checkpoint store that may be left when all is consumed */

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0 publishes at node 0 */
    uint64_t queue, seed;
};

static void publish(struct scene *s, uint32_t count)
{
    for (uint32_t done = 0; done < count; done += 50) {
        user_publish(&s->u[0], 50, SIZE);
        cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 20000), "seed %llu: %u of %u",
                  (unsigned long long)s->seed, s->t->confirmed_count, s->t->published);
    }
}

static void hold(struct scene *s, bool held)
{
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        s->c->held[i][AWAY] = held && i != AWAY;
        s->c->pass[i][AWAY] = 0;
    }
}

static void let_pass(struct scene *s, uint32_t parcels)
{
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        s->c->pass[i][AWAY] = parcels;
    }
}

static uint64_t applied(struct scene *s, uint32_t node)
{
    struct group_status status;
    return host_group_status(s->c->nodes[node].shards[0].host, s->queue, &status) ? status.applied
                                                                                  : 0;
}

static struct group *group_at(struct scene *s, uint32_t node)
{
    return group_find(s->c->nodes[node].shards[0].host, s->queue);
}

/* Node AWAY is back behind a slow link and needs what the log no longer has. */
static struct scene scene_new(uint64_t seed)
{
    struct scene s = {.seed = seed};
    s.c = cluster_new(seed, 3, 1);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(3, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    publish(&s, 100);
    cluster_crash(s.c, AWAY);
    publish(&s, BEHIND);
    hold(&s, true);
    cluster_restart(s.c, AWAY, true);
    return s;
}

static void scene_free(struct scene *s)
{
    for (uint32_t i = 0; i < 3; i++) {
        user_close(&s->u[i]);
    }
    cluster_settle(s->c, 500);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

/* Load goes on, a parcel comes per batch; at most `rounds` batches, or until AWAY has what the
 * leader has. */
static bool load(struct scene *s, uint32_t rounds)
{
    for (uint32_t i = 0; i < rounds; i++) {
        let_pass(s, 1);
        publish(s, BATCH);
        int leader = cluster_leader(s->c, s->queue);
        if (leader >= 0 && applied(s, AWAY) + 8 > applied(s, (uint32_t)leader)) {
            return true;
        }
    }
    return false;
}

/* Load until a part of a transfer has come. */
static void load_until_some_came(struct scene *s)
{
    for (uint32_t i = 0; i < ROUNDS; i++) {
        let_pass(s, 1);
        publish(s, BATCH);
        const struct group *group = group_at(s, AWAY);
        if (group != NULL && snap_brought(group) > 1000) {
            return;
        }
    }
    cr_assert_fail("seed %llu: nothing came", (unsigned long long)s->seed);
}

static bool same_applied(void *ctx)
{
    struct scene *s = ctx;
    int leader = cluster_leader(s->c, s->queue);
    return leader >= 0 && applied(s, AWAY) == applied(s, (uint32_t)leader);
}

static bool stores_are_empty(void *ctx)
{
    struct scene *s = ctx;
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        if (sim_kv_count(s->c->nodes[i].kv) >= LIVE_MAX) {
            return false;
        }
    }
    return true;
}

static void consume_all(struct scene *s, uint32_t node)
{
    struct user *u = &s->u[1];
    user_open(u, s->c, node, 0, s->queue, s->t);
    u->order = true;
    u->next_number = s->t->settled_count;
    user_consume(u, 1, 0, 100, UINT64_MAX);
    cr_assert(cluster_run(s->c, all_settled, s->t, 60000), "seed %llu: %u of %u settled",
              (unsigned long long)s->seed, s->t->settled_count, s->t->published);
}

/* The link is well again; AWAY has all and gives it to a consumer, alone with node 1, which comes
 * without its memory; and nothing stays in any store. */
static void finish(struct scene *s)
{
    hold(s, false);
    cr_assert(cluster_run(s->c, same_applied, s, 20000), "seed %llu", (unsigned long long)s->seed);
    cluster_crash(s->c, 0);
    cluster_crash(s->c, 1);
    cluster_restart(s->c, 1, true);
    s->u[0].client = NULL;
    consume_all(s, AWAY);
    cluster_restart(s->c, 0, true);
    /* What a crash left in a store goes when the next messages come to it. */
    s->u[1].order = false;
    user_close(&s->u[0]);
    user_open(&s->u[0], s->c, AWAY, 0, s->queue, s->t);
    publish(s, 1500);
    cr_assert(cluster_run(s->c, all_settled, s->t, 60000));
    cr_assert(cluster_run(s->c, stores_are_empty, s, 20000), "seed %llu: %llu %llu %llu keys left",
              (unsigned long long)s->seed, (unsigned long long)sim_kv_count(s->c->nodes[0].kv),
              (unsigned long long)sim_kv_count(s->c->nodes[1].kv),
              (unsigned long long)sim_kv_count(s->c->nodes[2].kv));
}

Test(snap, overtaken_transfers_converge)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(4); seed++) {
        struct scene s = scene_new(seed);
        cr_assert(load(&s, ROUNDS), "seed %llu: applied %llu of %llu after %u snapshots",
                  (unsigned long long)seed, (unsigned long long)applied(&s, AWAY),
                  (unsigned long long)applied(&s, 0), s.c->snapshots_begun);
        cr_assert_geq(s.c->snapshots_begun, 3);
        cr_assert_eq(s.c->snapshots_refused, 0);
        finish(&s);
        scene_free(&s);
    }
}

Test(snap, what_is_consumed_meanwhile_does_not_stay)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(4); seed++) {
        struct scene s = scene_new(20 + seed);
        load_until_some_came(&s);
        consume_all(&s, 1);
        user_close(&s.u[1]);
        cr_assert(load(&s, ROUNDS));
        finish(&s);
        scene_free(&s);
    }
}

Test(snap, receiver_restarts_in_the_middle)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(4); seed++) {
        struct scene s = scene_new(40 + seed);
        for (uint32_t i = 0; i < 3; i++) {
            load_until_some_came(&s);
            cluster_crash(s.c, AWAY);
            publish(&s, BATCH);
            cluster_restart(s.c, AWAY, true);
        }
        cr_assert(load(&s, ROUNDS));
        finish(&s);
        scene_free(&s);
    }
}

Test(snap, leader_ends_in_the_middle)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(4); seed++) {
        struct scene s = scene_new(60 + seed);
        user_close(&s.u[0]);
        user_open(&s.u[0], s.c, 1, 0, s.queue, s.t); /* stays when the leader goes */
        load_until_some_came(&s);
        int leader = cluster_leader(s.c, s.queue);
        cr_assert_eq(leader, 0);
        cluster_crash(s.c, 0);
        /* A majority needs AWAY's vote. */
        hold(&s, false);
        uint64_t brought = snap_brought(group_at(&s, AWAY));
        publish(&s, 50);
        cr_assert_gt(brought, 1000);
        cr_assert(cluster_run(s.c, same_applied, &s, 20000));
        cluster_restart(s.c, 0, true);
        cluster_settle(s.c, 3000);
        user_close(&s.u[0]);
        finish(&s);
        scene_free(&s);
    }
}

/* The sizes of chunks of messages on their way, but for the last of a stream. */
struct cuts {
    uint32_t count, least, most;
};

static void look_at_cuts(struct scene *s, struct cuts *cuts)
{
    struct lane *lane = &s->c->lanes[0][0][AWAY];
    for (size_t i = lane->first; i < lane->parcels.count; i++) {
        struct raft_message m;
        struct raft_entry *entries = NULL;
        struct raft_member members[RAFT_MEMBERS_MAX];
        if (lane->parcels.items[i]->kind == PARCEL_RAFT &&
            raft_message_unpack(lane->parcels.items[i], &m, &entries, members) == 0 &&
            m.type == RAFT_MSG_SNAPSHOT_CHUNK && m.u.snapshot.offset > 0 && !m.u.snapshot.done) {
            const uint32_t size = m.u.snapshot.size;
            cuts->least = cuts->count == 0 || size < cuts->least ? size : cuts->least;
            cuts->most = size > cuts->most ? size : cuts->most;
            cuts->count++;
        }
        wr_free(entries);
    }
}

/* A late chunk of one stream, continued by another one's next, would glue messages together. */
Test(snap, streams_are_not_all_cut_in_the_same_places)
{
    struct scene s = scene_new(90);
    struct cuts cuts = {0};
    for (uint32_t i = 0; i < 100; i++) {
        look_at_cuts(&s, &cuts);
        let_pass(&s, 1);
        (void)cluster_run(s.c, same_applied, &s, 100);
    }
    cr_assert_gt(cuts.count, 2);
    cr_assert_lt(cuts.least, cuts.most);
    cr_assert_leq(cuts.most, 256 * 1024);
    hold(&s, false);
    cr_assert(cluster_run(s.c, same_applied, &s, 20000));
    finish(&s);
    scene_free(&s);
}

/* The disk of the receiver is full for a while, at whatever comes to its store: the node lives, and
 * has everything when there is room again. */
static void full_disk(enum sim_kv_op op, uint32_t nth)
{
    struct scene s = scene_new(100 + nth);
    sim_kv_fail(s.c->nodes[AWAY].kv, op, nth, 3, WR_E_NOSPACE);
    hold(&s, false);
    cr_assert(cluster_run(s.c, same_applied, &s, 60000), "%u", nth);
    finish(&s);
    scene_free(&s);
}

Test(snap, there_is_no_room_to_flush_it)
{
    full_disk(SIM_KV_FLUSH, 1);
}

Test(snap, there_is_no_room_to_write_it)
{
    for (uint32_t nth = 1; nth <= 20; nth++) {
        full_disk(SIM_KV_WRITE, nth);
    }
}

static bool is_installing(void *ctx)
{
    const struct group *group = group_at(ctx, AWAY);
    return group != NULL && group->installing;
}

static bool is_gone(void *ctx)
{
    return group_at(ctx, AWAY) == NULL;
}

/* ... and the queue is deleted meanwhile. */
Test(snap, what_there_is_no_room_for_is_not_needed_any_more)
{
    struct scene s = scene_new(130);
    sim_kv_fail(s.c->nodes[AWAY].kv, SIM_KV_FLUSH, 1, 1000000, WR_E_NOSPACE);
    hold(&s, false);
    cr_assert(cluster_run(s.c, is_installing, &s, 20000));
    cluster_settle(s.c, 2500); /* tried in vain */
    cr_assert(is_installing(&s));
    user_close(&s.u[0]);
    cluster_delete(s.c, s.queue);
    cr_assert(cluster_run(s.c, is_gone, &s, 20000));
    cluster_settle(s.c, 2500);
    scene_free(&s);
}

/* Makes the leader's stream leave out more than the receiver said that it has. */
static bool forge(struct scene *s)
{
    struct lane *lane = &s->c->lanes[0][0][AWAY];
    for (size_t i = lane->first; i < lane->parcels.count; i++) {
        struct parcel *parcel = lane->parcels.items[i];
        struct raft_message m;
        struct raft_entry *entries = NULL;
        struct raft_member members[RAFT_MEMBERS_MAX];
        if (parcel->kind != PARCEL_RAFT ||
            raft_message_unpack(parcel, &m, &entries, members) != 0) {
            wr_free(entries);
            continue;
        }
        wr_free(entries);
        if (m.type == RAFT_MSG_SNAPSHOT_CHUNK && m.u.snapshot.offset > 0) {
            uint8_t *data = (uint8_t *)(uintptr_t)m.u.snapshot.data;
            bytes_store_le64(data, bytes_load_le64(data) + 500);
            return true;
        }
    }
    return false;
}

static bool can_forge(void *ctx)
{
    return forge(ctx);
}

Test(snap, stream_that_leaves_out_too_much_is_refused)
{
    struct scene s = scene_new(80);
    for (uint32_t i = 0; i < 100 && !forge(&s); i++) {
        let_pass(&s, 1);
        if (cluster_run(s.c, can_forge, &s, 100)) {
            break;
        }
    }
    cr_assert_eq(s.c->snapshots_refused, 0);
    hold(&s, false);
    cr_assert(cluster_run(s.c, same_applied, &s, 20000));
    cr_assert_eq(s.c->snapshots_refused, 1);
    finish(&s);
    scene_free(&s);
}

/* One node, and nobody who could send it a snapshot. */
static struct scene scene_of_one(uint64_t seed)
{
    struct scene s = {.seed = seed};
    s.c = cluster_new(seed, 1, 1);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(3, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0}, 1, -1);
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    return s;
}

/* A transfer brought messages, the receiver was started again, and they came to it as entries. */
Test(snap, what_a_lost_transfer_brought_does_not_stay)
{
    struct scene s = scene_of_one(90);
    publish(&s, 100);
    struct kv_op ops[100];
    for (uint32_t i = 0; i < 100; i++) {
        ops[i] = (struct kv_op){.kind = KV_PUT,
                                .key = checkpoint_message_key(s.queue, 200 + i),
                                .value = slice_copy((const uint8_t *)"record", 6)};
    }
    struct sim_kv_done done;
    sim_kv_write(s.c->nodes[0].kv, NULL, ops, 100, 0);
    while (sim_kv_step(s.c->nodes[0].kv, &done)) {
    }
    sim_kv_flush(s.c->nodes[0].kv, NULL, 0);
    while (sim_kv_step(s.c->nodes[0].kv, &done)) {
    }
    s.u[0].client = NULL;
    cluster_crash(s.c, 0);
    cluster_restart(s.c, 0, true);
    cr_assert_geq(sim_kv_count(s.c->nodes[0].kv), 100);
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    user_open(&s.u[1], s.c, 0, 0, s.queue, s.t);
    user_consume(&s.u[1], 1, 0, 100, UINT64_MAX);
    publish(&s, 3000);
    cr_assert(cluster_run(s.c, all_settled, s.t, 60000));
    cluster_settle(s.c, 3000);
    cr_assert_lt(sim_kv_count(s.c->nodes[0].kv), LIVE_MAX);
    scene_free(&s);
}

/* A transfer has brought more than what goes to the store now, and then comes to nothing: what the
 * checkpoint put there meanwhile is not taken for what the transfer left. */
Test(snap, what_a_checkpoint_puts_during_a_transfer_stays)
{
    struct scene s = scene_of_one(95);
    publish(&s, 3000);
    s.u[0].client = NULL;
    cluster_crash(s.c, 0);
    cluster_restart(s.c, 0, true);
    user_open(&s.u[0], s.c, 0, 0, s.queue, s.t);
    struct group *group = group_at(&s, 0);
    struct store *store = &group->home->store;
    cr_assert_lt(store->kv_unknown, 3000); /* from where the log has them */
    uint8_t head[9] = {2, 200};            /* of a machine of 200 bytes that never comes */
    struct raft_message m = {.type = RAFT_MSG_SNAPSHOT_CHUNK};
    m.u.snapshot.meta.index = applied(&s, 0) + 1;
    m.u.snapshot.data = head;
    m.u.snapshot.size = sizeof head;
    snap_chunk(group, &m);
    cr_assert_not_null(group->snap_in);
    store->kv_end = 100000;
    publish(&s, 3000);
    snap_abort(group);
    publish(&s, 3000);
    cr_assert_eq(store->kv_unknown, UINT64_MAX); /* swept */
    s.u[0].client = NULL;
    cluster_crash(s.c, 0); /* its memory is gone */
    cluster_restart(s.c, 0, true);
    consume_all(&s, 0);
    scene_free(&s);
}
