/* Leaders that die, links that break, nodes that come back: nothing confirmed is lost, nothing
 * settled comes again. */
#include "group.h"
#include "home.h"
#include "scene.h"

Test(failover, leader_dies_while_publishing)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = scene_new(seed, 1 + seed % 2, 1, 2);
        user_publish(&s.u[0], 50, 100);
        cr_assert(cluster_run(s.c, all_confirmed, &s.u[0], 5000));
        int leader = cluster_leader(s.c, s.queue);
        cr_assert_geq(leader, 0);
        user_publish(&s.u[0], 200, seed % 4 < 2 ? 100 : 3000);
        scene_steps(&s, 30 + (uint32_t)seed * 7);
        if (leader == 0) {
            cluster_crash(s.c, 0);
            user_publish(&s.u[0], 50, 100);
            scene_finish(&s);
            cluster_restart(s.c, 0, true);
            user_publish(&s.u[0], 50, 100);
            scene_finish(&s);
        }
        scene_free(&s);
    }
}

Test(failover, clients_hear_that_another_node_leads_and_of_nothing_else)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(10); seed++) {
        struct scene s = scene_new(300 + seed, 1 + seed % 2, 1, 2);
        user_publish(&s.u[0], 20, 100);
        scene_finish(&s);
        int leader = cluster_leader(s.c, s.queue);
        cr_assert_geq(leader, 0);
        cr_assert_eq(s.u[0].moved + s.u[1].moved, 0, "found for the first time");
        for (uint32_t user = 1; user <= 2; user++) { /* resumed, by the same leader */
            user_publish(&s.u[0], 20, 100);
            cluster_cut(s.c, (uint32_t)leader, user);
            cluster_join(s.c, (uint32_t)leader, user);
            scene_finish(&s);
        }
        if (cluster_leader(s.c, s.queue) == leader) {
            cr_assert_eq(s.u[0].moved + s.u[1].moved, 0);
        }
        uint32_t before = s.u[0].moved;
        leader = cluster_leader(s.c, s.queue);
        if (leader == 0) {
            cluster_crash(s.c, 0);
            user_publish(&s.u[0], 20, 100);
            scene_finish(&s);
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
            scene_steps(&s, (uint32_t)prng_below(&prng, 300));
            cluster_cut(s.c, a, b);
            user_publish(&s.u[0], 20, seed % 4 < 2 ? 50 : 3000);
            scene_steps(&s, (uint32_t)prng_below(&prng, 400));
            cluster_join(s.c, a, b);
        }
        scene_finish(&s);
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
        scene_finish(&s);
        const int leader = cluster_leader(s.c, s.queue);
        cr_assert_eq(leader, 0);
        cluster_suspend(s.c, 0);
        user_publish(&s.u[0], 100, 50);
        scene_finish(&s);
        for (uint32_t i = 1; i < 3; i++) { /* it is reached again, and the new one is not */
            cluster_join(s.c, 0, i);
            host_node_lost(cluster_host(s.c, i, 0), s.c->nodes[3 - i].id);
            scene_steps(&s, (uint32_t)seed % 7);
            host_node_up(cluster_host(s.c, i, 0), s.c->nodes[3 - i].id);
        }
        user_publish(&s.u[0], 20, 50);
        scene_finish(&s);
        cr_assert(!s.u[0].gone && !s.u[1].gone, "seed %u", (unsigned)seed);
        scene_free(&s);
    }
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
                scene_steps(&s, 40);
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
        scene_finish(&s);
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
            scene_steps(&s, (uint32_t)prng_below(&prng, 500));
            cluster_crash(s.c, victim);
            user_publish(&s.u[0], 30, seed % 4 < 2 ? 200 : 3000);
            scene_steps(&s, (uint32_t)prng_below(&prng, 500));
            cluster_restart(s.c, victim, true);
            scene_steps(&s, (uint32_t)prng_below(&prng, 200));
        }
        scene_finish(&s);
        scene_free(&s);
    }
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
            scene_steps(&s, (uint32_t)(seed * 3) % 40);
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
