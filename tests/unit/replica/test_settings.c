/* Policies reach the machines of all replicas, whoever leads, and local queues at once. */
#include "group.h"
#include "home.h"
#include "host_internal.h"
#include "users.h"

#include "warren/wire_table.h"

struct wait {
    struct test_cluster *c;
    uint64_t queue;
    uint64_t length_max;
};

static uint64_t length_of(struct test_cluster *c, uint32_t node, uint64_t queue)
{
    struct queue_config config;
    for (uint32_t shard = 0; shard < c->shard_count; shard++) {
        /* Not cluster_host, which wakes it: this only looks. */
        const struct host *host = c->nodes[node].shards[shard].host;
        const struct group *group = umap_get(&host->groups, queue);
        const struct home *home = group != NULL ? group->home : umap_get(&host->locals, queue);
        if (home != NULL) {
            queue_get_config(home->queue, &config);
            return config.length_max;
        }
    }
    return 0;
}

static bool all_have(void *ctx)
{
    const struct wait *w = ctx;
    for (uint32_t node = 0; node < w->c->node_count; node++) {
        if (w->c->nodes[node].alive && length_of(w->c, node, w->queue) != w->length_max) {
            return false;
        }
    }
    return true;
}

static void set_policy(struct test_cluster *c, int64_t max_length)
{
    struct catalog_result result;
    struct writer w;
    writer_init(&w, 32);
    wire_table_put_int64(&w, "max-length", max_length);
    struct catalog_command command = {.kind = CATALOG_PUT_POLICY};
    command.u.policy.vhost = BYTES_LITERAL("/");
    command.u.policy.name = BYTES_LITERAL("p");
    command.u.policy.definition = writer_bytes(&w);
    if (max_length < 0) {
        command.kind = CATALOG_DELETE_POLICY;
    }
    cluster_apply(c, &command, &result);
    cr_assert_eq(result.status, CATALOG_OK);
    writer_deinit(&w);
}

Test(settings, reach_all_replicas_and_go_with_the_policy)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct test_cluster *c = cluster_new(seed, 3, 1 + seed % 2);
        struct wait w = {c, cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1), UINT64_MAX};
        cr_assert(cluster_run(c, all_have, &w, 5000));
        set_policy(c, 5);
        cluster_views(c);
        w.length_max = 5;
        cr_assert(cluster_run(c, all_have, &w, 5000));
        /* Declared under a policy: made from its arguments, and then told. */
        struct wait late = {c, cluster_declare(c, "r", (uint32_t[]){0, 1, 2}, 3, -1), 5};
        cr_assert(cluster_run(c, all_have, &late, 5000));
        set_policy(c, -1);
        cluster_views(c);
        w.length_max = late.length_max = UINT64_MAX;
        cr_assert(cluster_run(c, all_have, &w, 5000));
        cr_assert(cluster_run(c, all_have, &late, 5000));
        cluster_free(c);
    }
}

Test(settings, survive_the_leader_that_was_to_propose_them)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(6); seed++) {
        struct test_cluster *c = cluster_new(seed, 3, 1);
        struct wait w = {c, cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1), UINT64_MAX};
        cr_assert(cluster_run(c, all_have, &w, 5000));
        cluster_settle(c, 500);
        const int leader = cluster_leader(c, w.queue);
        cr_assert_geq(leader, 0);
        set_policy(c, 7);
        cluster_views(c);
        cluster_crash(c, (uint32_t)leader);
        w.length_max = 7;
        cr_assert(cluster_run(c, all_have, &w, 20000));
        cluster_restart(c, (uint32_t)leader, true);
        cr_assert(cluster_run(c, all_have, &w, 20000)); /* the one that was away too */
        cluster_free(c);
    }
}

static bool local_has(void *ctx)
{
    const struct wait *w = ctx;
    return length_of(w->c, 0, w->queue) == w->length_max;
}

Test(settings, of_local_queues_change_in_the_next_turn)
{
    struct test_cluster *c = cluster_new(1, 1, 1);
    struct wait w = {c, cluster_declare(c, "l", (uint32_t[]){0}, 1, 0), 5};
    set_policy(c, 5);
    cluster_views(c);
    cr_assert(cluster_run(c, local_has, &w, 100));
    const struct wait late = {c, cluster_declare(c, "m", (uint32_t[]){0}, 1, 0), 5};
    cr_assert_eq(length_of(c, 0, late.queue), 5); /* made with it */
    set_policy(c, -1);
    cluster_views(c);
    w.length_max = UINT64_MAX;
    cr_assert(cluster_run(c, local_has, &w, 100));
    cluster_free(c);
}
