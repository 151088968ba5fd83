/* The straight paths: local queues and groups, on one shard, across shards, across nodes. */
#include "users.h"

#include "warren/wire_table.h"

static struct traffic *traffic_new(void)
{
    return wr_calloc(1, sizeof(struct traffic));
}

static struct user *users_new(size_t count)
{
    return wr_calloc(count, sizeof(struct user));
}

static void publish_and_consume(struct test_cluster *c, uint64_t queue, uint32_t pub_node,
                                uint32_t pub_shard, uint32_t con_node, uint32_t con_shard,
                                uint32_t size)
{
    struct traffic *t = traffic_new();
    struct user *u = users_new(2);
    user_open(&u[0], c, pub_node, pub_shard, queue, t);
    user_open(&u[1], c, con_node, con_shard, queue, t);
    u[1].order = true;
    user_consume(&u[1], 1, 0, 50, UINT64_MAX);
    for (uint32_t i = 0; i < 20; i++) {
        user_publish(&u[0], 25, size + i);
        for (uint32_t k = 0; k < 40; k++) {
            cluster_step(c);
        }
    }
    cr_assert(cluster_run(c, all_confirmed, &u[0], 5000), "%u of %u confirmed", t->confirmed_count,
              t->published);
    cr_assert(cluster_run(c, all_settled, t, 5000), "%u of %u settled", t->settled_count,
              t->published);
    cr_assert_eq(u[1].got, t->published);
    cr_assert_eq(u[1].status, QUEUE_OK);
    user_close(&u[0]);
    user_close(&u[1]);
    cluster_settle(c, 300);
    wr_free(u);
    wr_free(t);
}

/* A batch comes by priority, each message once and under its own ordinal, whoever is asked: what
 * lies apart in memory travels together. */
static void publish_priorities(uint32_t shards, uint32_t nodes, int local_shard, uint32_t con_node)
{
    enum { COUNT = 300, LEVELS = 4, SAME = 3, TAKEN = 100 };
    const uint32_t all[] = {0, 1, 2};
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "x-max-priority", LEVELS);
    struct test_cluster *c = cluster_new(20 + shards + nodes, nodes, shards);
    uint64_t q = cluster_declare_with(c, "q", all, local_shard < 0 ? nodes : 1, local_shard,
                                      writer_bytes(&w), false);
    writer_deinit(&w);
    struct traffic *t = traffic_new();
    struct user *u = users_new(3);
    user_open(&u[0], c, 0, 0, q, t);
    user_open(&u[1], c, con_node, shards - 1, q, t);
    user_open(&u[2], c, con_node, 0, q, t);
    u[0].priorities = LEVELS;
    u[0].same_priority = SAME;
    u[1].ack = false;
    user_consume(&u[1], 1, 0, 0, UINT64_MAX);
    cr_assert(cluster_run(c, replied, &u[1], 5000));
    user_publish(&u[0], COUNT, 40);
    cr_assert(cluster_run(c, all_seen, t, 5000));
    cr_assert_eq(u[1].unacked.count, COUNT);
    for (uint32_t i = 1; i < COUNT; i++) {
        const uint32_t before = u[1].unacked.items[i - 1].number;
        const uint32_t number = u[1].unacked.items[i].number;
        const uint32_t level = number / SAME % LEVELS;
        const uint32_t level_before = before / SAME % LEVELS;
        cr_assert(level < level_before || (level == level_before && number > before), "%u after %u",
                  number, before);
    }
    /* What is acked by its ordinal is gone, the rest comes to another one. */
    vec_truncate(&u[1].unacked, TAKEN);
    bool acked[COUNT + 1] = {false};
    for (uint32_t i = 0; i < TAKEN; i++) {
        acked[u[1].unacked.items[i].number] = true;
    }
    user_ack_all(&u[1]);
    cluster_settle(c, 300);
    user_close(&u[1]);
    user_consume(&u[2], 1, 0, 0, UINT64_MAX);
    u[2].ack = false;
    cluster_settle(c, 500);
    cr_assert_eq(u[2].unacked.count, COUNT - TAKEN);
    for (uint32_t i = 0; i < COUNT - TAKEN; i++) {
        cr_assert_not(acked[u[2].unacked.items[i].number]);
    }
    user_close(&u[0]);
    user_close(&u[2]);
    cluster_settle(c, 300);
    wr_free(u);
    wr_free(t);
    cluster_free(c);
}

Test(straight, priorities_of_a_local_queue)
{
    publish_priorities(1, 1, 0, 0);
    publish_priorities(2, 1, 0, 0);
    publish_priorities(1, 2, 0, 1);
}

Test(straight, priorities_of_a_group)
{
    publish_priorities(1, 1, -1, 0);
    publish_priorities(2, 1, -1, 0);
    publish_priorities(1, 3, -1, 0);
    publish_priorities(1, 3, -1, 1);
    publish_priorities(1, 3, -1, 2);
}

Test(straight, local_queue_of_the_same_shard)
{
    struct test_cluster *c = cluster_new(1, 1, 1);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, 0);
    publish_and_consume(c, q, 0, 0, 0, 0, 100);
    cluster_free(c);
}

Test(straight, local_queue_of_another_shard)
{
    struct test_cluster *c = cluster_new(2, 1, 2);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, 1);
    publish_and_consume(c, q, 0, 0, 0, 0, 100);
    publish_and_consume(c, q, 0, 0, 0, 1, 100);
    cluster_free(c);
}

Test(straight, local_queue_of_another_node)
{
    struct test_cluster *c = cluster_new(3, 2, 1);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, 0);
    publish_and_consume(c, q, 1, 0, 1, 0, 100);
    publish_and_consume(c, q, 1, 0, 0, 0, 100);
    cluster_free(c);
}

Test(straight, group_of_one_replica)
{
    for (uint32_t shards = 1; shards <= 2; shards++) {
        struct test_cluster *c = cluster_new(4, 1, shards);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
        publish_and_consume(c, q, 0, 0, 0, 0, 100);
        publish_and_consume(c, q, 0, 0, 0, shards - 1, 100);
        cluster_free(c);
    }
}

Test(straight, group_of_three_replicas_from_everywhere)
{
    for (uint32_t node = 0; node < 3; node++) {
        struct test_cluster *c = cluster_new(5 + node, 3, 2);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
        publish_and_consume(c, q, node, 0, 2, 1, 100);
        publish_and_consume(c, q, 0, 1, node, 0, 100);
        cluster_free(c);
    }
}

Test(straight, big_runs_are_taken_from_the_replica_of_the_consumers_node)
{
    for (uint32_t shards = 1; shards <= 2; shards++) {
        struct test_cluster *c = cluster_new(20 + shards, 3, shards);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
        cluster_settle(c, 500);
        uint32_t consumer = ((uint32_t)cluster_leader(c, q) + 1) % 3;
        publish_and_consume(c, q, 0, 0, consumer, shards - 1, 3000);
        uint64_t carried = c->wire_bytes;
        publish_and_consume(c, q, (uint32_t)cluster_leader(c, q), 0, consumer, 0, 3000);
        /* 500 messages of 3000 bytes to two followers; a third time would be the delivery. */
        cr_assert_lt(c->wire_bytes - carried, 500u * 3000u * 28 / 10, "%llu",
                     (unsigned long long)(c->wire_bytes - carried));
        cluster_free(c);
    }
}

Test(straight, group_elsewhere)
{
    struct test_cluster *c = cluster_new(9, 3, 1);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){2}, 1, -1);
    publish_and_consume(c, q, 0, 0, 1, 0, 100);
    cluster_free(c);
}

/* A client that publishes, gets, purges and deletes without waiting: who consumes has what was
 * published before the get, as if each op had come alone. */
Test(straight, what_was_published_before_a_get_goes_to_the_consumer)
{
    for (uint32_t round = 0; round < 8; round++) {
        const bool local = round % 2 == 0;
        const uint32_t shard = round / 2 % 2;
        const uint32_t node = round / 4;
        struct test_cluster *c = cluster_new(40 + round, 2, 2);
        struct traffic *t = traffic_new();
        struct user *u = users_new(1);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, local ? 0 : -1);
        user_open(u, c, node, shard, q, t);
        user_consume(u, 1, 0, 0, 100);
        cr_assert(cluster_run(c, replied, u, 5000));
        u->replies = 0;
        user_publish(u, 3, 10);
        queue_client_get(u->client, true);
        (void)cluster_host(c, node, shard);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->status, QUEUE_EMPTY, "round %u", round);
        cr_assert(cluster_run(c, all_seen, t, 5000));
        u->replies = 0;
        user_publish(u, 3, 10);
        queue_client_purge(u->client);
        (void)cluster_host(c, node, shard);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->value, 0, "round %u", round);
        u->replies = 0;
        user_publish(u, 3, 10);
        queue_client_seal(u->client, QUEUE_IF_EMPTY);
        (void)cluster_host(c, node, shard);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->status, QUEUE_OK, "round %u", round);
        cr_assert(cluster_run(c, all_seen, t, 5000));
        user_close(u);
        cluster_settle(c, 100);
        wr_free(u);
        wr_free(t);
        cluster_free(c);
    }
}

Test(straight, get_purge_seal)
{
    struct test_cluster *c = cluster_new(10, 2, 1);
    struct traffic *t = traffic_new();
    struct user *u = users_new(1);
    for (int local = -1; local <= 0; local++) {
        memset(t, 0, sizeof *t);
        uint64_t q = cluster_declare(c, local == 0 ? "l" : "g", (uint32_t[]){0}, 1, local);
        user_open(u, c, 1, 0, q, t);
        user_publish(u, 10, 10);
        queue_client_get(u->client, false);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->status, QUEUE_OK);
        cr_assert_eq(u->got, 1);
        cr_assert_eq(u->value, 9);
        u->replies = 0;
        queue_client_get(u->client, true);
        (void)cluster_host(c, 1, 0);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->got, 2);
        cr_assert_eq(u->value, 8);
        u->replies = 0;
        queue_client_purge(u->client);
        (void)cluster_host(c, 1, 0);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->value, 8);
        u->replies = 0;
        queue_client_get(u->client, true);
        (void)cluster_host(c, 1, 0);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->status, QUEUE_EMPTY);
        u->replies = 0;
        queue_client_seal(u->client, 0);
        (void)cluster_host(c, 1, 0);
        cr_assert(cluster_run(c, replied, u, 5000));
        cr_assert_eq(u->status, QUEUE_OK);
        cluster_delete(c, q);
        cr_assert(u->gone);
        cr_assert_not(u->lost);
        user_close(u);
        cluster_settle(c, 100);
    }
    wr_free(u);
    wr_free(t);
    cluster_free(c);
}

struct report_result {
    bool done;
    int error;
    struct queue_totals totals;
    uint32_t consumers;
};

static void on_report(void *ctx, uint64_t queue, const struct queue_report *report)
{
    struct report_result *r = ctx;
    (void)queue;
    cr_assert_not(r->done);
    r->done = true;
    r->error = report->error;
    r->totals = report->totals;
    r->consumers = report->consumer_count;
    if (report->consumer_count > 0) {
        cr_assert(bytes_eq_cstr(report->consumers[0].name, "tag"));
    }
}

static bool reported(void *ctx)
{
    return ((struct report_result *)ctx)->done;
}

Test(straight, report_follows_what_was_sent_before)
{
    struct test_cluster *c = cluster_new(11, 3, 2);
    struct traffic *t = traffic_new();
    struct user *u = users_new(1);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(u, c, 1, 1, q, t);
    user_publish(u, 10, 10);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    user_publish(u, 7, 10);
    struct report_result r = {0};
    host_queue_report(cluster_host(c, 1, 1), q, QUEUE_REPORT_CONSUMERS, 5000, on_report, &r);
    cr_assert(cluster_run(c, reported, &r, 6000));
    cr_assert_eq(r.error, 0);
    cr_assert_eq(r.totals.ready, 17);
    user_consume(u, 1, 0, 3, UINT64_MAX);
    u->ack = false;
    r = (struct report_result){0};
    host_queue_report(cluster_host(c, 1, 1), q, QUEUE_REPORT_CONSUMERS, 5000, on_report, &r);
    cr_assert(cluster_run(c, reported, &r, 6000));
    cr_assert_eq(r.consumers, 1);
    cr_assert_eq(r.totals.unacked, 3);
    r = (struct report_result){0};
    host_queue_report(cluster_host(c, 1, 1), 999999, QUEUE_REPORT_CONSUMERS, 500, on_report, &r);
    cr_assert(cluster_run(c, reported, &r, 6000));
    cr_assert_eq(r.error, WR_E_NOTFOUND);
    user_close(u);
    cluster_settle(c, 200);
    wr_free(u);
    wr_free(t);
    cluster_free(c);
}

/* A client that declares a queue again at once, as many do, does not wait for long: the queue has
 * a leader within milliseconds. */
Test(straight, report_of_a_queue_that_was_just_declared)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(20); seed++) {
        const uint32_t replicas = seed % 2 == 0 ? 1 : 3;
        struct test_cluster *c = cluster_new(30 + seed, 3, 1);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, replicas, -1);
        struct report_result r = {0};
        host_queue_report(cluster_host(c, seed % 3, 0), q, QUEUE_REPORT_TOTALS, 5000, on_report,
                          &r);
        cr_assert(cluster_run(c, reported, &r, 60), "seed %llu", (unsigned long long)seed);
        cr_assert_eq(r.error, 0);
        cluster_free(c);
    }
}
