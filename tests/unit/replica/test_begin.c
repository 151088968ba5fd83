/* How a new queue's group begins: what it costs, and what a crash in the middle leaves. */
#include "users.h"

#include <stdio.h>

static uint64_t syncs(struct test_cluster *c)
{
    struct log_statistics statistics;
    log_statistics(c->nodes[0].log, &statistics);
    return statistics.syncs;
}

/* Whatever can happen without time passing. */
static void exhaust(struct test_cluster *c)
{
    while (cluster_step(c)) {
    }
}

/* The creation, the vote and the first entry go in one batch, which waits for nobody for long. */
Test(begin, a_queue_of_one_node_takes_one_sync)
{
    struct test_cluster *c = cluster_new(1, 1, 1);
    cluster_settle(c, 500);
    const uint64_t before = syncs(c);
    cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    exhaust(c);
    cr_assert_eq(syncs(c), before);
    cluster_settle(c, 1);
    cr_assert_eq(syncs(c), before + 1);
    cluster_free(c);
}

/* Who publishes to it at once waits for one sync, in which all of that goes, and for no time. */
Test(begin, whoever_wants_something_of_it_does_not_wait)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(20); seed++) {
        struct test_cluster *c = cluster_new(seed, 1 + seed % 3, 1 + seed % 2);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(1, sizeof *u);
        cluster_settle(c, 500);
        const uint64_t before = syncs(c);
        const uint64_t queue = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
        exhaust(c);
        cr_assert_eq(syncs(c), before);
        const uint64_t now_ns = c->now_ns;
        user_open(u, c, c->node_count - 1, 0, queue, t);
        user_publish(u, 1, 100);
        exhaust(c);
        cr_assert(all_confirmed(u), "seed %llu", (unsigned long long)seed);
        cr_assert_eq(c->now_ns, now_ns);
        cr_assert_eq(syncs(c), before + 1);
        user_close(u);
        cluster_settle(c, 500);
        cluster_free(c);
        wr_free(u);
        wr_free(t);
    }
}

/* It goes with what somebody else waits for. */
Test(begin, it_shares_the_sync_of_another_queue)
{
    struct test_cluster *c = cluster_new(7, 1, 2);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    const uint64_t other = cluster_declare(c, "other", (uint32_t[]){0}, 1, -1);
    user_open(u, c, 0, 0, other, t);
    user_publish(u, 1, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 100));
    cluster_settle(c, 500);
    const uint64_t before = syncs(c);
    cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    exhaust(c);
    user_publish(u, 1, 100);
    exhaust(c);
    cr_assert(all_confirmed(u));
    cr_assert_eq(syncs(c), before + 1);
    cluster_settle(c, 50);
    cr_assert_eq(syncs(c), before + 1); /* nothing was left */
    user_close(u);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* Power fails at any step of it: the queue is there, and takes what is published. */
Test(begin, a_crash_at_any_step_leaves_a_queue)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(60); seed++) {
        struct test_cluster *c = cluster_new(seed, 1, 1 + seed % 2);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(1, sizeof *u);
        cluster_settle(c, 500);
        uint64_t queue = 0;
        for (uint32_t queues = 0; queues < 3; queues++) {
            char name[8];
            snprintf(name, sizeof name, "q%u", queues);
            queue = cluster_declare(c, name, (uint32_t[]){0}, 1, -1);
        }
        for (uint64_t i = 0; i < seed; i++) {
            if (!cluster_step(c)) {
                cluster_sleep(c, 1);
            }
        }
        cluster_crash(c, 0);
        cluster_restart(c, 0, true);
        user_open(u, c, 0, 0, queue, t);
        user_publish(u, 3, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 5000), "seed %llu", (unsigned long long)seed);
        user_close(u);
        cluster_settle(c, 500);
        cluster_free(c);
        wr_free(u);
        wr_free(t);
    }
}
