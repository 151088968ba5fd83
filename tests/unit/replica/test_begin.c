/* How a new queue's group begins: what it costs, and what a crash in the middle leaves. */
#include "replica_internal.h"
#include "users.h"

#include <stdio.h>

static uint64_t syncs(struct test_cluster *c)
{
    struct log_statistics statistics;
    log_statistics(c->nodes[0].log, &statistics);
    return statistics.syncs;
}

struct wanted {
    struct test_cluster *c;
    uint64_t queue;
};

static bool leads(void *ctx)
{
    const struct wanted *wanted = ctx;
    return cluster_leader(wanted->c, wanted->queue) == 0;
}

/* The creation, the vote and the first entry go in one batch. */
Test(begin, a_queue_of_one_node_takes_one_sync)
{
    struct test_cluster *c = cluster_new(1, 1, 1);
    cluster_settle(c, 500);
    const uint64_t before = syncs(c);
    struct wanted wanted = {c, cluster_declare(c, "q", (uint32_t[]){0}, 1, -1)};
    cr_assert(cluster_run(c, leads, &wanted, 50));
    cr_assert_eq(syncs(c), before + 1);
    cluster_free(c);
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
