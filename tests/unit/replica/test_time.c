/* The queue's time: what expires, what is due, leases; leaders whose clocks differ. */
#include <stdio.h>

#include "users.h"

#include "group.h"
#include "home.h"
#include "warren/wire_table.h"

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0: publisher, 1: consumer */
    uint64_t queue;
};

static struct buf *argument(const char *key, int64_t value)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int64(&w, key, value);
    return writer_take(&w);
}

static uint64_t declare(struct test_cluster *c, const char *name, uint32_t replicas, int local,
                        const char *key, int64_t value)
{
    struct buf *b = argument(key, value);
    const uint64_t queue = cluster_declare_with(c, name, (uint32_t[]){0, 1, 2}, replicas, local,
                                                bytes_make(b->data, b->size), false);
    buf_unref(b);
    return queue;
}

static struct scene scene_new(uint64_t seed, uint32_t nodes, int local, const char *key,
                              int64_t value)
{
    struct scene s;
    s.c = cluster_new(seed, nodes, 1);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(2, sizeof *s.u);
    s.queue = declare(s.c, "q", nodes, local, key, value);
    user_open(&s.u[0], s.c, nodes - 1, 0, s.queue, s.t);
    user_open(&s.u[1], s.c, nodes - 1, 0, s.queue, s.t);
    return s;
}

static void scene_free(struct scene *s)
{
    user_close(&s->u[0]);
    user_close(&s->u[1]);
    cluster_settle(s->c, 200);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

static void publish(struct scene *s, uint32_t count)
{
    user_publish(&s->u[0], count, 50);
    cr_assert(cluster_run(s->c, all_confirmed, &s->u[0], 5000), "%u of %u confirmed",
              s->t->confirmed_count, s->t->published);
}

static uint32_t serving_node(const struct scene *s)
{
    const int leader = cluster_leader(s->c, s->queue);
    uint32_t node = leader >= 0 ? (uint32_t)leader : 0;
    while (!s->c->nodes[node].alive) { /* nobody leads: some replica */
        node++;
    }
    return node;
}

static struct queue_totals totals(const struct scene *s)
{
    struct queue_totals t;
    queue_totals(cluster_home(s->c, serving_node(s), s->queue)->queue, &t);
    return t;
}

static uint64_t last_index(const struct scene *s, uint64_t queue)
{
    struct group_status status;
    cr_assert(host_group_status(s->c->nodes[serving_node(s)].shards[0].host, queue, &status));
    return status.last;
}

static bool all_expired(void *ctx)
{
    const struct scene *s = ctx;
    const struct queue_totals t = totals(s);
    return t.ready == 0 && t.expired == s->t->published;
}

Test(time, what_expires_goes_on_time)
{
    for (uint32_t round = 0; round < 4; round++) {
        const bool local = round == 0;
        struct scene s = scene_new(round, round < 2 ? 1 : 3, local ? 0 : -1, "x-message-ttl", 100);
        publish(&s, 10);
        const uint64_t begin = cluster_now_ms(s.c);
        cluster_settle(s.c, 90);
        cr_assert_eq(totals(&s).ready, 10);
        cr_assert(cluster_run(s.c, all_expired, &s, 1000));
        cr_assert_leq(cluster_now_ms(s.c) - begin, 103, "round %u: %llu ms", round,
                      (unsigned long long)(cluster_now_ms(s.c) - begin));
        scene_free(&s);
    }
}

/* Messages of other times to live between: each goes on its own time. */
Test(time, messages_have_times_of_their_own)
{
    struct scene s = scene_new(5, 3, -1, "x-message-ttl", 500);
    s.u[0].ttl_ms = 300;
    publish(&s, 5);
    s.u[0].ttl_ms = 100;
    publish(&s, 5);
    s.u[0].ttl_ms = 0;
    publish(&s, 5);
    cluster_settle(s.c, 105);
    cr_assert_eq(totals(&s).expired, 5);
    cluster_settle(s.c, 200);
    cr_assert_eq(totals(&s).expired, 10);
    cluster_settle(s.c, 200);
    cr_assert_eq(totals(&s).expired, 15);
    scene_free(&s);
}

/* A queue costs its events, and nothing while it waits for them. */
Test(time, waiting_costs_nothing)
{
    struct scene s = scene_new(6, 3, -1, "x-message-ttl", 3600000);
    publish(&s, 10);
    const uint64_t before = last_index(&s, s.queue);
    cluster_settle(s.c, 600000);
    cr_assert_eq(last_index(&s, s.queue), before);
    user_consume(&s.u[1], 1, 0, 0, UINT64_MAX); /* what is consumed needs no end */
    cr_assert(cluster_run(s.c, all_settled, s.t, 5000));
    const uint64_t settled = last_index(&s, s.queue);
    cluster_settle(s.c, 7200000);
    cr_assert_eq(last_index(&s, s.queue), settled);
    scene_free(&s);
}

Test(time, a_hundred_queues_cost_an_entry_each)
{
    struct scene s = scene_new(7, 1, -1, "x-message-ttl", 100);
    uint64_t queues[100];
    uint64_t before[100];
    struct user *users = wr_calloc(100, sizeof *users);
    for (uint32_t i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "q%u", i);
        queues[i] = declare(s.c, name, 1, -1, "x-message-ttl", 1000);
        user_open(&users[i], s.c, 0, 0, queues[i], s.t);
        user_publish(&users[i], 1, 50);
    }
    cluster_settle(s.c, 500);
    for (uint32_t i = 0; i < 100; i++) {
        before[i] = last_index(&s, queues[i]);
    }
    cluster_settle(s.c, 5000);
    for (uint32_t i = 0; i < 100; i++) {
        cr_assert_eq(last_index(&s, queues[i]), before[i] + 1);
        user_close(&users[i]);
    }
    scene_free(&s);
    wr_free(users);
}

/* The deadline has passed, and nothing can be committed: one proposal waits, not one a millisecond;
 * those who do not lead propose nothing. */
Test(time, a_deadline_that_cannot_be_met_is_proposed_once)
{
    struct scene s = scene_new(8, 3, -1, "x-message-ttl", 50);
    publish(&s, 10);
    const uint32_t leader = serving_node(&s);
    const uint64_t before = last_index(&s, s.queue);
    for (uint32_t i = 0; i < 3; i++) { /* hears, and is not heard */
        s.c->held[leader][i] = i != leader;
    }
    uint64_t most = before;
    for (uint32_t i = 0; i < 100; i++) {
        struct group_status status;
        cluster_settle(s.c, 1);
        cr_assert(host_group_status(s.c->nodes[leader].shards[0].host, s.queue, &status));
        most = status.last > most ? status.last : most;
    }
    cr_assert_leq(most, before + 1);
    for (uint32_t i = 0; i < 3; i++) {
        const struct home *home = cluster_home(s.c, i, s.queue);
        cr_assert(home->serving || !timer_is_pending(&home->expire));
        s.c->held[leader][i] = false;
    }
    cr_assert(cluster_run(s.c, all_expired, &s, 5000));
    scene_free(&s);
}

/* A turn that takes long stamps its entries with what the time is by then. That must not put the
 * queue's time ahead of the clock once the next turn sees how long it took: what is delayed would
 * be due too early from then on, on whatever node. */
Test(time, a_long_turn_does_not_put_it_ahead)
{
    for (uint32_t round = 0; round < 3; round++) {
        struct scene s =
            scene_new(20 + round, round < 2 ? 1 : 3, round == 0 ? 0 : -1, "x-message-ttl", 60000);
        publish(&s, 1);
        for (uint32_t i = 0; i < s.c->node_count; i++) {
            s.c->nodes[i].shards[0].env.turn_ms = 500;
        }
        publish(&s, 10);
        cluster_settle(s.c, 100); /* until the others have applied it, too */
        for (uint32_t i = 0; i < s.c->node_count; i++) {
            s.c->nodes[i].shards[0].env.turn_ms = 0;
        }
        cluster_settle(s.c, 600);
        if (round == 2) { /* nor that of the next leader, who heard of it in such a turn */
            cluster_crash(s.c, serving_node(&s));
        }
        publish(&s, 1);
        const uint32_t node = serving_node(&s);
        const uint64_t clock = queue_clock_ms(cluster_home(s.c, node, s.queue)->queue);
        const uint64_t wall = s.c->nodes[node].shards[0].env.wall_ms;
        cr_assert_leq(clock, wall, "round %u: %llu ms ahead", round,
                      (unsigned long long)(clock - wall));
        scene_free(&s);
    }
}

/* The next leader's clock is an hour behind, or stands where it was: time goes on. */
Test(time, a_leader_with_a_late_clock_goes_on_from_the_time_that_was)
{
    struct scene s = scene_new(9, 3, -1, "x-message-ttl", 2000);
    s.c->wall_offset_ms[1] = s.c->wall_offset_ms[2] = -3600000;
    cluster_sleep(s.c, 1);
    publish(&s, 10);
    const uint64_t begin = cluster_now_ms(s.c);
    cr_assert_eq(serving_node(&s), 0);
    cluster_crash(s.c, 0);
    cr_assert(cluster_run(s.c, all_expired, &s, 10000));
    const uint64_t took = cluster_now_ms(s.c) - begin;
    /* Without a leader, and with clocks that say nothing, time stands: one election, maybe two. */
    cr_assert(took >= 1990 && took <= 2300, "%llu ms", (unsigned long long)took);
    scene_free(&s);
}

/* All of them start again, with clocks that are behind what the machine has heard. */
Test(time, all_start_again_with_late_clocks)
{
    struct scene s = scene_new(10, 3, -1, "x-message-ttl", 5000);
    publish(&s, 10);
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(s.c, i);
        s.c->wall_offset_ms[i] = -86400000;
    }
    s.u[0].client = s.u[1].client = NULL;
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(s.c, i, true);
    }
    cr_assert(cluster_run(s.c, all_expired, &s, 6000));
    scene_free(&s);
}

/* The same, and what told them the time is in a snapshot by then. */
Test(time, all_start_again_with_late_clocks_from_snapshots)
{
    struct scene s = scene_new(11, 1, -1, "x-message-ttl", 60000);
    publish(&s, 10);
    const uint64_t begin = cluster_now_ms(s.c);
    const uint64_t other = declare(s.c, "other", 1, -1, "x-max-length", 100000);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    user_open(u, s.c, 0, 0, other, t);
    for (uint32_t i = 0; i < 60; i++) {
        user_publish(u, 50, 1000);
        cr_assert(cluster_run(s.c, all_confirmed, u, 5000));
    }
    cluster_settle(s.c, 2000);
    cr_assert_gt(cluster_home(s.c, 0, s.queue)->group->checkpoint_index, 0);
    cluster_crash(s.c, 0);
    s.c->wall_offset_ms[0] = -86400000;
    s.u[0].client = s.u[1].client = u->client = NULL;
    cluster_restart(s.c, 0, true);
    const uint64_t lost = cluster_now_ms(s.c) - begin; /* nothing told the queue that time passed */
    cr_assert(cluster_run(s.c, all_expired, &s, 70000));
    cr_assert_leq(cluster_now_ms(s.c) - begin, 61000 + lost);
    user_close(u);
    scene_free(&s);
    wr_free(u);
    wr_free(t);
}

static bool told_unused(void *ctx)
{
    return ((struct test_cluster *)ctx)->unused_told > 0;
}

Test(time, a_queue_that_nobody_uses_goes)
{
    for (uint32_t round = 0; round < 3; round++) {
        struct scene s =
            scene_new(20 + round, round == 2 ? 3 : 1, round == 0 ? 0 : -1, "x-expires", 500);
        const uint64_t begin = cluster_now_ms(s.c);
        cluster_settle(s.c, 400);
        cr_assert_eq(s.c->unused_told, 0);
        queue_client_touch(s.u[0].client);
        (void)cluster_host(s.c, s.u[0].node, 0);
        cluster_settle(s.c, 400);
        cr_assert_eq(s.c->unused_told, 0, "it was used after 400 ms");
        cr_assert(cluster_run(s.c, told_unused, s.c, 1000));
        cr_assert_geq(s.c->unused_at_ms - begin, 900);
        cr_assert_leq(s.c->unused_at_ms - begin, 905 + (round == 2 ? 50 : 0));
        scene_free(&s);
    }
}

/* Nobody could use it while there was no leader. */
Test(time, a_new_leader_renews_the_lease)
{
    struct scene s = scene_new(30, 3, -1, "x-expires", 2000);
    publish(&s, 1);
    cluster_settle(s.c, 1500);
    cr_assert_eq(serving_node(&s), 0);
    cluster_crash(s.c, 0);
    const uint64_t begin = cluster_now_ms(s.c);
    cr_assert(cluster_run(s.c, told_unused, s.c, 10000));
    cr_assert_geq(s.c->unused_at_ms - begin, 2000);
    cr_assert_leq(s.c->unused_at_ms - begin, 3000);
    scene_free(&s);
}

/* What is delayed comes when it is due, also when the leader dies before. */
Test(time, delayed_messages_come_when_they_are_due)
{
    for (uint32_t round = 0; round < 3; round++) {
        struct scene s = scene_new(40 + round, round == 0 ? 1 : 3, -1, "x-max-priority", 3);
        s.u[0].more.delay_ms = 1000;
        user_consume(&s.u[1], 1, 0, 0, UINT64_MAX);
        publish(&s, 5);
        const uint64_t begin = cluster_now_ms(s.c);
        s.u[0].more.delay_ms = 0;
        publish(&s, 1);
        cluster_settle(s.c, 500);
        cr_assert_eq(s.u[1].got, 1);
        if (round == 2) {
            cluster_crash(s.c, serving_node(&s));
        }
        cluster_settle(s.c, 400);
        cr_assert_eq(s.u[1].got, 1);
        cr_assert(cluster_run(s.c, all_seen, s.t, 5000));
        cr_assert_geq(cluster_now_ms(s.c) - begin, 998);
        cr_assert_leq(cluster_now_ms(s.c) - begin, 1050);
        scene_free(&s);
    }
}
