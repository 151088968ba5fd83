/* Leaders that die, links that break, nodes that come back: nothing confirmed is lost, nothing
 * settled comes again. */
#include "client_internal.h"
#include "replica_internal.h"
#include "users.h"

#include "replica_internal.h"

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0: publisher, 1: consumer */
    uint64_t queue;
};

static struct scene scene_new(uint64_t seed, uint32_t shards, uint32_t pub_node, uint32_t con_node)
{
    struct scene s;
    s.c = cluster_new(seed, 3, shards);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(2, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(&s.u[0], s.c, pub_node, 0, s.queue, s.t);
    user_open(&s.u[1], s.c, con_node, shards - 1, s.queue, s.t);
    user_consume(&s.u[1], 1, 0, 20, UINT64_MAX);
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

static void steps(struct scene *s, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!cluster_step(s->c)) {
            cluster_sleep(s->c, 10);
        }
    }
}

static void finish(struct scene *s)
{
    cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 30000), "%u of %u confirmed",
              s->t->confirmed_count, s->t->published);
    cr_assert(cluster_run(s->c, all_settled, s->t, 30000), "%u of %u settled", s->t->settled_count,
              s->t->published);
}

Test(failover, leader_dies_while_publishing)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = scene_new(seed, 1 + seed % 2, 1, 2);
        user_publish(&s.u[0], 50, 100);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 5000));
        int leader = cluster_leader(s.c, s.queue);
        cr_assert_geq(leader, 0);
        user_publish(&s.u[0], 200, seed % 4 < 2 ? 100 : 3000);
        steps(&s, 30 + (uint32_t)seed * 7);
        if (leader == 0) {
            cluster_crash(s.c, 0);
            user_publish(&s.u[0], 50, 100);
            finish(&s);
            cluster_restart(s.c, 0, true);
            user_publish(&s.u[0], 50, 100);
            finish(&s);
        }
        scene_free(&s);
    }
}

Test(failover, clients_hear_that_another_node_leads_and_of_nothing_else)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = scene_new(300 + seed, 1 + seed % 2, 1, 2);
        user_publish(&s.u[0], 20, 100);
        finish(&s);
        int leader = cluster_leader(s.c, s.queue);
        cr_assert_geq(leader, 0);
        cr_assert_eq(s.u[0].moved + s.u[1].moved, 0, "found for the first time");
        for (uint32_t user = 1; user <= 2; user++) { /* resumed, by the same leader */
            user_publish(&s.u[0], 20, 100);
            cluster_cut(s.c, (uint32_t)leader, user);
            cluster_join(s.c, (uint32_t)leader, user);
            finish(&s);
        }
        if (cluster_leader(s.c, s.queue) == leader) {
            cr_assert_eq(s.u[0].moved + s.u[1].moved, 0);
        }
        uint32_t before = s.u[0].moved;
        leader = cluster_leader(s.c, s.queue);
        if (leader == 0) {
            cluster_crash(s.c, 0);
            user_publish(&s.u[0], 20, 100);
            finish(&s);
            cr_assert_gt(s.u[0].moved, before);
            cr_assert_gt(s.u[1].moved, 0);
        }
        scene_free(&s);
    }
}

Test(failover, links_break_and_heal)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(20); seed++) {
        struct scene s =
            scene_new(100 + seed, 1 + seed % 2, (uint32_t)(seed % 3), (uint32_t)(seed / 3 % 3));
        struct prng prng;
        prng_init(&prng, seed);
        for (uint32_t round = 0; round < 12; round++) {
            uint32_t a = (uint32_t)prng_below(&prng, 3);
            uint32_t b = (a + 1 + (uint32_t)prng_below(&prng, 2)) % 3;
            user_publish(&s.u[0], 20, seed % 4 < 2 ? 50 : 3000);
            steps(&s, (uint32_t)prng_below(&prng, 300));
            cluster_cut(s.c, a, b);
            user_publish(&s.u[0], 20, seed % 4 < 2 ? 50 : 3000);
            steps(&s, (uint32_t)prng_below(&prng, 400));
            cluster_join(s.c, a, b);
        }
        finish(&s);
        scene_free(&s);
    }
}

/* A leader that was suspended wakes up and is asked by clients before it hears that there is
 * another one: what it knows is old. It must not tell a client that it is unknown. */
Test(failover, a_leader_that_was_suspended_answers_no_client)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(20); seed++) {
        struct scene s = scene_new(900 + seed, 1 + seed % 2, 1, 2);
        user_publish(&s.u[0], 20, 50);
        finish(&s);
        const int leader = cluster_leader(s.c, s.queue);
        cr_assert_eq(leader, 0);
        cluster_suspend(s.c, 0);
        user_publish(&s.u[0], 100, 50);
        finish(&s);
        for (uint32_t i = 1; i < 3; i++) { /* it is reached again, and the new one is not */
            cluster_join(s.c, 0, i);
            host_node_lost(cluster_host(s.c, i, 0), s.c->nodes[3 - i].id);
            steps(&s, (uint32_t)seed % 7);
            host_node_up(cluster_host(s.c, i, 0), s.c->nodes[3 - i].id);
        }
        user_publish(&s.u[0], 20, 50);
        finish(&s);
        cr_assert(!s.u[0].gone && !s.u[1].gone, "seed %u", (unsigned)seed);
        scene_free(&s);
    }
}

static bool has_ended(void *ctx)
{
    const struct scene *s = ctx;
    const struct group *group = group_find(s->c->nodes[0].shards[0].host, s->queue);
    return group == NULL || group->ended;
}

/* Sim seed 61960: nobody sends anything to one that is no member any more, and an idle leader has
 * nothing to send either: it must ask. */
Test(failover, a_leader_that_was_removed_while_it_stood_still_ends)
{
    struct scene s = scene_new(950, 1, 1, 2);
    user_publish(&s.u[0], 20, 50);
    finish(&s);
    cr_assert_eq(cluster_leader(s.c, s.queue), 0);
    cluster_suspend(s.c, 0);
    user_publish(&s.u[0], 20, 50);
    finish(&s);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){1, 2}, 2, 0);
    cluster_settle(s.c, 3000);
    cr_assert(!has_ended(&s));
    s.c->lose_kind = PARCEL_RAFT; /* and nothing else may happen to tell it */
    cluster_wake(s.c, 0);
    cr_assert(cluster_run(s.c, has_ended, &s, 10000));
    s.c->lose_kind = 0;
    user_publish(&s.u[0], 20, 50);
    finish(&s);
    scene_free(&s);
}

/* A link that stands loses some of what it carries: publishers go on by themselves (what the leader
 * says it received must not skip what did not come); for the rest it takes a break of the link. */
Test(failover, standing_links_lose_parcels)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(20); seed++) {
        struct scene s =
            scene_new(500 + seed, 1 + seed % 2, (uint32_t)(seed % 3), (uint32_t)(seed / 3 % 3));
        user_publish(&s.u[0], 20, 50);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 5000));
        for (uint32_t round = 0; round < 6; round++) {
            s.c->lose_percent = 5 + (uint32_t)seed % 4 * 10;
            for (uint32_t i = 0; i < 10; i++) {
                user_publish(&s.u[0], 5, seed % 4 < 2 ? 50 : 3000);
                steps(&s, 40);
            }
            s.c->lose_percent = 0;
            cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 60000),
                      "seed %u: %u of %u confirmed", (unsigned)seed, s.t->confirmed_count,
                      s.t->published);
        }
        for (uint32_t a = 0; a < 3; a++) {
            cluster_cut(s.c, a, (a + 1) % 3);
            cluster_join(s.c, a, (a + 1) % 3);
        }
        finish(&s);
        scene_free(&s);
    }
}

Test(failover, random_crashes_and_restarts)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(20); seed++) {
        /* Users live on node 2, which stays: what dies are replicas. */
        struct scene s = scene_new(200 + seed, 1 + seed % 2, 2, 2);
        struct prng prng;
        prng_init(&prng, seed);
        for (uint32_t round = 0; round < 8; round++) {
            uint32_t victim = (uint32_t)prng_below(&prng, 2);
            user_publish(&s.u[0], 30, seed % 4 < 2 ? 200 : 3000);
            steps(&s, (uint32_t)prng_below(&prng, 500));
            cluster_crash(s.c, victim);
            user_publish(&s.u[0], 30, seed % 4 < 2 ? 200 : 3000);
            steps(&s, (uint32_t)prng_below(&prng, 500));
            cluster_restart(s.c, victim, true);
            steps(&s, (uint32_t)prng_below(&prng, 200));
        }
        finish(&s);
        scene_free(&s);
    }
}

/* Deliveries by position whose replica ends before it has put the bytes in. The queue falls silent
 * behind them: no later item shows the consumer the gap. */
Test(failover, the_replica_at_the_consumers_node_ends)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(30); seed++) {
        struct scene s = scene_new(600 + seed, 1 + seed % 2, 0, 2);
        user_publish(&s.u[0], 10, 100);
        cr_assert(cluster_run(s.c, all_settled, s.t, 5000));
        user_publish(&s.u[0], 2, 20000);
        steps(&s, (uint32_t)seed * 3);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 1}, 2, 0);
        steps(&s, (uint32_t)seed % 7 * 10);
        user_publish(&s.u[0], 2, 20000);
        finish(&s);
        scene_free(&s);
    }
}

/* A node that restarts may know an older catalog than the one by which its replica ended. It must
 * not begin that replica anew as one of those that the queue was declared with: alone, it would
 * lead an empty queue. */
Test(failover, a_replica_that_ended_does_not_come_back)
{
    struct test_cluster *c = cluster_new(700, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    struct group_status status;
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){2}, 1, -1);
    user_open(u, c, 0, 0, q, t);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    struct catalog_view *before = catalog_view_take(c->catalog);
    cluster_set_replicas(c, q, (uint32_t[]){0, 2}, 2, 0);
    cluster_set_replicas(c, q, (uint32_t[]){0}, 1, 0);
    cluster_settle(c, 5000);
    cr_assert_eq(cluster_leader(c, q), 0);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.exists);
    cluster_crash(c, 2);
    c->view_at_restart = before;
    cluster_restart(c, 2, false);
    cluster_settle(c, 2000);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.leading,
              "the node leads a queue that is not there any more");
    cluster_views(c);
    cluster_settle(c, 5000);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.exists);
    user_close(u);
    cluster_settle(c, 500);
    catalog_view_unref(before);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* The same when the record was changed before (sim seed 28357): the member must not begin anew
 * empty either. Without its log it would vote for whom it has been outrun by. */
Test(failover, a_replica_that_was_added_and_ended_does_not_come_back)
{
    struct test_cluster *c = cluster_new(750, 3, 1);
    struct group_status status;
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1}, 2, -1);
    cluster_set_replicas(c, q, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(c, 5000);
    struct catalog_view *before = catalog_view_take(c->catalog);
    for (uint32_t i = 0; i < 3; i++) { /* as one of the first, and as one that was added */
        cr_assert(host_group_status(cluster_host(c, i, 0), q, &status) && status.exists);
    }
    cluster_delete(c, q);
    cluster_settle(c, 2000);
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i);
    }
    c->view_at_restart = before;
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(c, i, false);
    }
    cluster_settle(c, 2000);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert(!host_group_status(cluster_host(c, i, 0), q, &status) || !status.exists,
                  "node %u begins a replica that ended", i);
    }
    catalog_view_unref(before);
    cluster_free(c);
}

static bool has_voters(struct test_cluster *c, uint64_t q, uint32_t voters)
{
    struct group_status status;
    const int leader = cluster_leader(c, q);
    return leader >= 0 && host_group_status(cluster_host(c, (uint32_t)leader, 0), q, &status) &&
           status.voters == voters;
}

/* Sim seed 31055: all nodes restart and know an older record than the one that the group has
 * reached. Until they have their boots, with which their views are as new as their starts, nobody
 * is removed, and nobody ends. */
Test(failover, an_older_record_does_not_undo_what_was_reached)
{
    struct test_cluster *c = cluster_new(760, 3, 1);
    struct group_status status;
    uint32_t boots[3];
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    struct catalog_view *before = catalog_view_take(c->catalog);
    cluster_set_replicas(c, q, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(c, 5000);
    cr_assert(has_voters(c, q, 3));
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i);
        boots[i] = c->nodes[i].boot;
        c->nodes[i].boot = 0;
    }
    c->view_at_restart = before;
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(c, i, false);
    }
    cluster_settle(c, 5000);
    cr_assert(has_voters(c, q, 3));
    cluster_views(c);
    for (uint32_t i = 0; i < 3; i++) {
        c->nodes[i].boot = boots[i];
        host_set_boot(cluster_host(c, i, 0), boots[i]);
    }
    cluster_set_replicas(c, q, (uint32_t[]){1, 2}, 2, 0);
    cluster_settle(c, 5000);
    cr_assert(has_voters(c, q, 2));
    cr_assert(!host_group_status(cluster_host(c, 0, 0), q, &status) || !status.exists);
    catalog_view_unref(before);
    cluster_free(c);
}

/* Sim seed 23817: over a link that broke came a client's question of before it asked again over the
 * next one. The client would not take what is sent in the old session, and nobody would notice. */
Test(failover, an_older_resume_does_not_bring_its_session_back)
{
    struct scene s = scene_new(770, 1, 1, 2);
    user_publish(&s.u[0], 10, 100);
    finish(&s);
    const uint32_t leader = (uint32_t)cluster_leader(s.c, s.queue);
    cr_assert_eq(leader, 0);
    struct host *host = cluster_host(s.c, 2, 0);
    struct queue_client *client = s.u[1].client;
    const uint32_t before = client->session;
    client_on_leader(host, s.queue, s.c->nodes[leader].id, 0);
    cluster_settle(s.c, 500);
    cr_assert_eq(client->session, before + 1);
    struct parcel *parcel =
        parcel_make(host, PARCEL_RESUME, 1, s.queue, s.c->nodes[leader].id, HOST_SHARD_BY_GROUP);
    struct resume_body body = {.client = client->id, .session = before};
    resume_pack(parcel, &body);
    parcel_send(host, parcel);
    user_publish(&s.u[0], 10, 100);
    finish(&s);
    scene_free(&s);
}

/* Its queue was declared and deleted after what its node knows of the catalog: no view that it sees
 * ever has the queue. */
Test(failover, a_replica_of_a_queue_that_came_and_went_ends)
{
    struct test_cluster *c = cluster_new(800, 3, 1);
    struct group_status status;
    struct catalog_view *before = catalog_view_take(c->catalog);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    cluster_settle(c, 1000);
    cr_assert(host_group_status(cluster_host(c, 2, 0), q, &status) && status.exists);
    cluster_crash(c, 2);
    c->view_at_restart = before;
    cluster_restart(c, 2, false);
    cluster_settle(c, 500);
    cr_assert(host_group_status(cluster_host(c, 2, 0), q, &status) && status.exists,
              "it may still be to come");
    cluster_delete(c, q);
    cluster_views(c);
    cluster_settle(c, 2000);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.exists);
    catalog_view_unref(before);
    cluster_free(c);
}

/* As the catalog has it; nobody hears of it yet. */
static void put_members(struct test_cluster *c, uint64_t id, const struct catalog_member *members,
                        uint32_t count)
{
    const struct catalog_queue *q = cluster_queue(c, id);
    struct catalog_command command = {.kind = CATALOG_SET_REPLICAS};
    struct catalog_result result;
    command.u.replicas.id = id;
    command.u.replicas.version = q->replicas_version;
    command.u.replicas.members = members;
    command.u.replicas.member_count = count;
    command.u.replicas.target_size = count;
    command.u.replicas.preferred = members[0].node;
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK);
}

static void set_members(struct test_cluster *c, uint64_t id, const struct catalog_member *members,
                        uint32_t count)
{
    put_members(c, id, members, count);
    cluster_views(c);
}

/* Sim seeds 101940, 82699. The record has changed before the node of the only founder hears of the
 * queue: nobody else can begin it. */
Test(failover, a_founder_begins_its_queue_from_a_later_record)
{
    struct test_cluster *c = cluster_new(850, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    struct group_status status;
    cluster_crash(c, 0);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    cluster_set_replicas(c, q, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(c, 500);
    cluster_restart(c, 0, true);
    user_open(u, c, 1, 0, q, t);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    cluster_settle(c, 5000);
    cr_assert(host_group_status(cluster_host(c, 0, 0), q, &status));
    cr_assert_eq(status.voters, 3);
    user_close(u);
    cluster_settle(c, 500);
    wr_free(u);
    wr_free(t);
    cluster_free(c);
}

/* Whoever asks before a new queue has a leader asks again soon: nobody announces one to him. */
Test(failover, a_new_queue_is_used_from_another_node_at_once)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(20); seed++) {
        struct test_cluster *c = cluster_new(870 + seed, 3, 1 + seed % 2);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(1, sizeof *u);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
        user_open(u, c, 1, 0, q, t);
        user_publish(u, 1, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 100), "seed %llu", (unsigned long long)seed);
        user_close(u);
        cluster_settle(c, 500);
        wr_free(u);
        wr_free(t);
        cluster_free(c);
    }
}

/* A replica is replaced by one with another id on the same node: a node has one of a group, so the
 * old one must go before the new one can come. */
Test(failover, a_replica_is_replaced_on_its_node)
{
    struct test_cluster *c = cluster_new(900, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    struct group_status status;
    struct catalog_member members[3];
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(u, c, 1, 0, q, t);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    for (uint32_t i = 0; i < 3; i++) {
        members[i] = cluster_queue(c, q)->spec.group.members[i];
    }
    const struct uid old = members[0].id;
    members[0].id.lo ^= 1;
    cr_assert(!uid_eq(old, members[0].id));
    set_members(c, q, members, 3);
    cluster_settle(c, 10000);
    set_members(c, q, members, 1);
    cluster_settle(c, 10000);
    cr_assert_eq(cluster_leader(c, q), 0, "the new replica is not the only one in the end");
    cr_assert(host_group_status(cluster_host(c, 0, 0), q, &status));
    cr_assert_eq(status.voters, 1);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    user_close(u);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

static bool is_gone(void *user)
{
    return ((struct user *)user)->gone;
}

/* The others decided that the node is down: its boot is over, whether it comes back or not. */
static void end_boot(struct test_cluster *c, uint32_t node)
{
    struct catalog_result result;
    struct catalog_command command = {.kind = CATALOG_NODE_DOWN};
    command.u.down.node = c->nodes[node].id;
    command.u.down.boot = c->nodes[node].boot;
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK);
    cluster_views(c);
}

/* Its node was cut off for so long that its boot was ended: queues ignore what a client of that
 * boot says. One of which nothing was applied would never hear of that (sim seed 124). Its node may
 * be reached again before it knows. */
Test(failover, clients_of_a_boot_that_ended_are_told)
{
    for (uint32_t round = 0; round < 8; round++) {
        struct scene s = scene_new(950 + round, 1 + round % 2, 2, 1);
        user_publish(&s.u[0], 10, 50);
        if (round % 4 < 2) {
            finish(&s);
        }
        cluster_cut(s.c, 2, 0);
        cluster_cut(s.c, 2, 1);
        user_publish(&s.u[0], 5, 50);
        cluster_settle(s.c, 500);
        if (round < 4) {
            cluster_reboot(s.c, 2);
        } else {
            end_boot(s.c, 2);
            cluster_settle(s.c, 500);
        }
        cluster_join(s.c, 2, 0);
        cluster_join(s.c, 2, 1);
        if (round >= 4) {
            user_publish(&s.u[0], 5, 50);
            cluster_settle(s.c, 500);
            cluster_reboot(s.c, 2);
        }
        cr_assert(cluster_run(s.c, is_gone, &s.u[0], 5000), "round %u", round);
        cr_assert(s.u[0].lost);
        user_close(&s.u[0]);
        cluster_settle(s.c, 5000);
        cr_assert_eq(cluster_host(s.c, 2, 0)->clients.count, 0, "it is never freed");
        scene_free(&s);
    }
}

Test(failover, messages_of_a_dead_consumer_come_to_another)
{
    struct scene s = scene_new(300, 1, 0, 1);
    s.u[1].ack = false;
    user_publish(&s.u[0], 10, 20);
    cr_assert(cluster_run(s.c, all_seen, s.t, 5000));
    cluster_crash(s.c, 1);
    s.u[1].client = NULL;
    struct user *other = wr_calloc(1, sizeof *other);
    user_open(other, s.c, 2, 0, s.queue, s.t);
    user_consume(other, 1, 0, 0, UINT64_MAX);
    cr_assert(cluster_run(s.c, all_settled, s.t, 20000));
    cr_assert_eq(other->got, 10);
    user_close(other);
    wr_free(other);
    cluster_restart(s.c, 1, true);
    scene_free(&s);
}

/* Leaders step down, their links to others stand, until this node is elected. */
static void elect(struct test_cluster *c, uint64_t q, int node)
{
    for (uint32_t i = 0; i < 100 && cluster_leader(c, q) != node; i++) {
        cluster_cut(c, 0, 1);
        cluster_settle(c, 2000);
        cluster_join(c, 0, 1);
        cluster_settle(c, 2000);
    }
    cr_assert_eq(cluster_leader(c, q), node);
}

/* A leader whose view of the catalog is old does not know where a client is that has nothing to say
 * (sim seed 17000757): it tells that node when it does. */
Test(failover, an_idle_consumer_hears_of_a_leader_that_did_not_know_its_node)
{
    struct test_cluster *c = cluster_new(320, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(2, sizeof *u);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1}, 2, -1);
    cluster_settle(c, 500);
    const struct catalog_member *m = cluster_queue(c, q)->spec.group.members;
    const bool sorted = uid_eq(m[0].node, c->nodes[0].id);
    /* Node 0, preferred and therefore quick, is not when it starts again. */
    set_members(c, q, (struct catalog_member[]){m[sorted], m[!sorted]}, 2);
    cluster_crash(c, 0);
    cluster_restart(c, 0, false);
    elect(c, q, 0);
    struct catalog_view *before = catalog_view_take(c->catalog);
    cluster_reboot(c, 2);
    user_open(&u[1], c, 2, 0, q, t);
    user_consume(&u[1], 1, 0, 20, UINT64_MAX);
    cr_assert(cluster_run(c, replied, &u[1], 5000));
    cluster_crash(c, 1);
    c->view_at_restart = before;
    cluster_restart(c, 1, false);
    elect(c, q, 1);
    user_open(&u[0], c, 0, 0, q, t);
    user_publish(&u[0], 5, 100);
    cr_assert(cluster_run(c, all_confirmed, &u[0], 5000));
    cluster_settle(c, 1000);
    cr_assert_eq(t->seen_count, 0);
    cluster_views(c);
    cr_assert(cluster_run(c, all_settled, t, 20000));
    user_close(&u[0]);
    user_close(&u[1]);
    cluster_settle(c, 1000);
    catalog_view_unref(before);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* The node that started last dies and is forgotten before anybody takes it for down. */
Test(failover, messages_of_a_forgotten_consumer_come_to_another)
{
    struct scene s = scene_new(310, 1, 0, 2);
    s.u[1].ack = false;
    user_publish(&s.u[0], 10, 20);
    cr_assert(cluster_run(s.c, all_seen, s.t, 5000));
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_lt(s.c->nodes[i].boot, s.c->nodes[2].boot);
    }
    cluster_suspend(s.c, 2);
    struct user *other = wr_calloc(1, sizeof *other);
    user_open(other, s.c, 1, 0, s.queue, s.t);
    user_consume(other, 1, 0, 0, UINT64_MAX);
    cluster_settle(s.c, 500);
    cr_assert_eq(other->got, 0);
    struct catalog_result result;
    const struct catalog_command forget = {.kind = CATALOG_FORGET_NODE,
                                           .u.forget = {.node = s.c->nodes[2].id}};
    cluster_apply(s.c, &forget, &result);
    cr_assert_eq(result.status, CATALOG_OK);
    cluster_views(s.c);
    cr_assert(cluster_run(s.c, all_settled, s.t, 20000));
    cr_assert_eq(other->got, 10);
    user_close(other);
    wr_free(other);
    scene_free(&s);
}

static enum queue_status attach(struct user *u, uint32_t consumer)
{
    u->replies = 0;
    user_consume(u, consumer, QUEUE_EXCLUSIVE_CONSUMER, 0, UINT64_MAX);
    cr_assert(cluster_run(u->cluster, replied, u, 5000));
    return u->status;
}

/* Who stands by takes over from an exclusive consumer whose node is dead, not when it is started
 * again, which may be never. While nobody has decided that it is dead it may come back. */
Test(failover, an_exclusive_consumer_goes_with_the_boot_of_its_node)
{
    struct test_cluster *c = cluster_new(320, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(2, sizeof *u);
    const uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(&u[0], c, 2, 0, q, t);
    user_open(&u[1], c, 1, 0, q, t);
    cr_assert_eq(attach(&u[0], 1), QUEUE_OK);
    user_publish(&u[0], 5, 20);
    cr_assert(cluster_run(c, all_seen, t, 5000));
    cluster_crash(c, 2);
    u[0].client = NULL;
    cluster_settle(c, 500);
    cr_assert_eq(attach(&u[1], 1), QUEUE_IN_EXCLUSIVE_USE);
    end_boot(c, 2);
    cluster_settle(c, 500);
    cr_assert_eq(attach(&u[1], 2), QUEUE_OK);
    cluster_settle(c, 500);
    cr_assert_eq(u[1].got, 5);
    user_close(&u[0]);
    user_close(&u[1]);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

Test(failover, all_nodes_lose_power)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct test_cluster *c = cluster_new(400 + seed, 3, 1);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(2, sizeof *u);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
        user_open(&u[0], c, 1, 0, q, t);
        user_publish(&u[0], 300, 300);
        for (uint32_t i = 0; i < 200 + seed * 30; i++) {
            if (!cluster_step(c)) {
                cluster_sleep(c, 10);
            }
        }
        for (uint32_t i = 0; i < 3; i++) {
            cluster_crash(c, i);
        }
        for (uint32_t i = 0; i < 3; i++) {
            cluster_restart(c, i, true);
        }
        u[0].client = NULL;
        user_open(&u[1], c, 0, 0, q, t);
        user_consume(&u[1], 1, 0, 0, UINT64_MAX);
        cluster_settle(c, 10000);
        for (uint32_t i = 1; i <= t->published; i++) {
            cr_assert(!t->confirmed[i] || t->delivered[i] > 0, "confirmed message %u is lost", i);
        }
        user_close(&u[0]);
        user_close(&u[1]);
        cluster_settle(c, 300);
        cluster_free(c);
        wr_free(u);
        wr_free(t);
    }
}

/* The same for a group that shall have no other one in the end: as long as there is another voter
 * the leader must not send it away, since only from there its successor can get what it has. */
Test(failover, a_leader_is_replaced_on_its_node_by_the_only_replica)
{
    for (uint32_t leader = 0; leader < 2; leader++) {
        struct test_cluster *c = cluster_new(950 + leader, 2, 1);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(1, sizeof *u);
        struct group_status status;
        struct catalog_member members[2];
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){leader, 1 - leader}, 2, -1);
        user_open(u, c, 1, 0, q, t);
        user_publish(u, 10, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 5000));
        cr_assert_eq(cluster_leader(c, q), (int)leader);
        const struct catalog_queue *record = cluster_queue(c, q);
        const uint32_t at = uid_eq(record->spec.group.members[0].node, c->nodes[0].id) ? 0 : 1;
        members[0] = record->spec.group.members[at];
        members[1] = record->spec.group.members[1 - at];
        members[0].id.lo ^= 1;
        put_members(c, q, members, 2); /* the group hears of both at once */
        set_members(c, q, members, 1);
        cluster_settle(c, 10000);
        cr_assert_eq(cluster_leader(c, q), 0, "the new replica is not the only one in the end");
        cr_assert(host_group_status(cluster_host(c, 0, 0), q, &status));
        cr_assert_eq(status.voters, 1);
        cr_assert(uid_eq(uid_of_raft(group_find(cluster_host(c, 0, 0), q)->self), members[0].id));
        user_publish(u, 10, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 5000));
        user_close(u);
        cluster_settle(c, 500);
        cluster_free(c);
        wr_free(u);
        wr_free(t);
    }
}

/* --- several answers under way ---------------------------------------------------------------- */

#define CROWD 8u

struct crowd {
    struct queue_client *client;
    uint64_t seq_of[CROWD + 1]; /* of the op whose answer is awaited; 0: it has come */
    uint32_t answered, not_known, there;
    bool detaches;
};

/* Whoever does not hear what became of it asks again: an attach of the same consumer, a detach of
 * nobody. */
static void crowd_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                        uint64_t value2)
{
    struct crowd *crowd = ctx;
    (void)value;
    for (uint32_t i = 1; i <= CROWD; i++) {
        if (crowd->seq_of[i] != seq) {
            continue;
        }
        if (value2 == UINT64_MAX) {
            crowd->not_known++;
            crowd->seq_of[i] = crowd->detaches
                                   ? queue_client_detach(crowd->client, 0, 0)
                                   : queue_client_attach(crowd->client, i, 0, 10, 0, 0,
                                                         bytes_from_cstr("t"), BYTES_NONE);
            return;
        }
        cr_assert(status == QUEUE_OK || (status == QUEUE_EXISTS && !crowd->detaches));
        crowd->there += status == QUEUE_EXISTS;
        crowd->seq_of[i] = 0;
        crowd->answered++;
        return;
    }
}

static void crowd_gone(void *ctx, bool lost)
{
    (void)ctx, (void)lost;
    cr_assert_fail();
}

static bool all_answered(void *ctx)
{
    return ((const struct crowd *)ctx)->answered == CROWD;
}

static void crowd_asks(struct scene *s, struct crowd *crowd, bool detaches)
{
    (void)cluster_host(s->c, 1, 0);
    crowd->answered = 0;
    crowd->detaches = detaches;
    for (uint32_t i = 1; i <= CROWD; i++) {
        crowd->seq_of[i] = detaches ? queue_client_detach(crowd->client, i, 0)
                                    : queue_client_attach(crowd->client, i, 0, 10, 0, 0,
                                                          bytes_from_cstr("t"), BYTES_NONE);
    }
}

static uint64_t consumers_at(struct scene *s, uint32_t node)
{
    struct queue_totals totals;
    queue_totals(group_find(cluster_host(s->c, node, 0), s->queue)->home->queue, &totals);
    return totals.consumers;
}

Test(failover, answers_that_died_with_a_leader_are_asked_for_again)
{
    const struct queue_client_sink sink = {.on_reply = crowd_reply, .on_gone = crowd_gone};
    uint32_t not_known = 0;
    uint32_t there = 0;
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(60); seed++) {
        struct scene s = scene_new(seed, 1, 1, 2);
        struct crowd crowd = {.detaches = false};
        struct host *host = cluster_host(s.c, 1, 0);
        cr_assert(cluster_run(s.c, replied, &s.u[1], 5000));
        crowd.client = queue_client_open(host, cluster_queue(s.c, s.queue), &sink, &crowd);
        for (uint32_t round = 0; round < 2; round++) {
            crowd_asks(&s, &crowd, round == 1);
            steps(&s, (uint32_t)(seed * 3) % 40);
            const int leader = cluster_leader(s.c, s.queue);
            const bool dies = leader == 0 && round == seed % 2;
            if (dies) {
                cluster_crash(s.c, 0);
            }
            cr_assert(cluster_run(s.c, all_answered, &crowd, 30000), "seed %llu: %u answered",
                      (unsigned long long)seed, crowd.answered);
            if (dies) {
                cluster_restart(s.c, 0, true);
                cluster_settle(s.c, 2000);
            }
        }
        not_known += crowd.not_known;
        there += crowd.there;
        cluster_settle(s.c, 500);
        cr_assert_eq(consumers_at(&s, 1), 1); /* the scene's own */
        queue_client_close(crowd.client);
        scene_free(&s);
    }
    cr_assert_gt(not_known, 0);
    cr_assert_gt(there, 0);
}
