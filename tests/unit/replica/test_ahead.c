/* Acknowledgements and gets that are applied before the log has them, and what a crash leaves. */
#include "home.h"
#include "group.h"
#include "store.h"
#include "users.h"

#define SOME 40u /* messages */

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user publisher, consumer;
    uint64_t queue;
};

static void begin_with(struct scene *s, uint64_t seed, uint32_t nodes, uint32_t size)
{
    s->c = cluster_new(seed, nodes, 1 + seed % 2);
    s->t = wr_calloc(1, sizeof *s->t);
    s->t->marks = true;
    cluster_settle(s->c, 500);
    s->queue = cluster_declare(s->c, "q", (uint32_t[]){0}, 1, -1);
    user_open(&s->publisher, s->c, 0, 0, s->queue, s->t);
    user_publish(&s->publisher, SOME, size);
    cr_assert(cluster_run(s->c, all_confirmed, &s->publisher, 5000));
    user_close(&s->publisher);
}

static void begin(struct scene *s, uint64_t seed, uint32_t nodes)
{
    begin_with(s, seed, nodes, 100);
}

static void end(struct scene *s)
{
    cluster_settle(s->c, 500);
    cluster_free(s->c);
    wr_free(s->t);
}

static void consume(struct scene *s, uint32_t node, uint32_t prefetch)
{
    user_open(&s->consumer, s->c, node, 0, s->queue, s->t);
    user_consume(&s->consumer, 1, 0, prefetch, UINT64_MAX);
}

static struct home *home_of(struct scene *s)
{
    return cluster_home(s->c, 0, s->queue);
}

/* Steps until the consumer has seen all; how many messages were handed out ahead at most. */
static uint64_t most_ahead(struct scene *s)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < 200000 && !all_seen(s->t); i++) {
        if (!cluster_step(s->c)) {
            cluster_sleep(s->c, 1);
        }
        const uint64_t out = home_of(s)->ahead_out;
        most = out > most ? out : most;
    }
    cr_assert(all_seen(s->t));
    cr_assert(cluster_run(s->c, all_settled, s->t, 5000));
    return most;
}

Test(ahead, a_consumer_does_not_wait_for_its_acks)
{
    struct scene s;
    begin(&s, 3, 1);
    consume(&s, 0, 1);
    cr_assert_gt(most_ahead(&s), 0);
    user_close(&s.consumer);
    end(&s);
}

/* It outlives the queue's node, and is told nothing that may be undone. */
Test(ahead, a_consumer_of_another_node_waits)
{
    struct scene s;
    begin(&s, 4, 2);
    consume(&s, 1, 1);
    cr_assert_eq(most_ahead(&s), 0);
    user_close(&s.consumer);
    end(&s);
}

Test(ahead, with_a_second_replica_everybody_waits)
{
    struct scene s;
    begin(&s, 5, 2);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 1}, 2, 7);
    cluster_settle(s.c, 2000);
    consume(&s, 0, 1);
    cr_assert_eq(most_ahead(&s), 0);
    user_close(&s.consumer);
    end(&s);
}

/* A second replica comes while the first one is ahead of its log: both end up equal (the test's
 * cluster compares machines all the time). */
Test(ahead, a_second_replica_that_comes_meanwhile_is_equal)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(30); seed++) {
        struct scene s;
        begin(&s, seed, 2);
        consume(&s, 0, 1 + (uint32_t)seed % 3);
        for (uint32_t i = 0; i < 20000 && home_of(&s)->ahead_out == 0; i++) {
            if (!cluster_step(s.c)) {
                cluster_sleep(s.c, 1);
            }
        }
        cr_assert_gt(home_of(&s)->ahead_out, 0, "seed %lu", seed);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 1}, 2, 7);
        cr_assert(cluster_run(s.c, all_settled, s.t, 20000), "seed %lu", seed);
        cluster_settle(s.c, 2000);
        cr_assert_eq(s.c->divergent_told, 0, "seed %lu", seed);
        cr_assert_eq(queue_hash(home_of(&s)->queue),
                     queue_hash(cluster_home(s.c, 1, s.queue)->queue), "seed %lu", seed);
        user_close(&s.consumer);
        end(&s);
    }
}

static bool is_empty(void *ctx)
{
    struct queue_totals totals;
    queue_totals(home_of(ctx)->queue, &totals);
    return totals.ready + totals.unacked == 0;
}

/* Power fails when messages are out that the log does not know of: what was seen before comes
 * marked as seen (traffic.marks), what is known to be settled does not come, and nothing is
 * missing. */
static bool crash_ahead(uint64_t seed)
{
    struct scene s;
    struct prng prng;
    prng_init(&prng, seed);
    begin(&s, seed, 1);
    consume(&s, 0, 1 + (uint32_t)seed % 5);
    uint64_t after = prng_below(&prng, 40);
    for (uint32_t i = 0; i < 20000 && !all_seen(s.t); i++) {
        if (home_of(&s)->ahead_out > 0 && after-- == 0) {
            break;
        }
        if (!cluster_step(s.c)) {
            cluster_sleep(s.c, 1);
        }
    }
    const bool ahead = home_of(&s)->ahead_out > 0;
    cluster_crash(s.c, 0);
    s.consumer.client = NULL;
    user_close(&s.consumer);
    cluster_restart(s.c, 0, true);
    cluster_settle(s.c, 500);
    consume(&s, 0, 3);
    cr_assert(cluster_run(s.c, is_empty, &s, 20000) && all_seen(s.t), "seed %lu", seed);
    user_close(&s.consumer);
    end(&s);
    return ahead;
}

Test(ahead, what_a_crash_took_back_is_marked)
{
    uint32_t ahead = 0;
    const uint64_t seeds = cluster_seeds(150);
    for (uint64_t seed = cluster_seed_first(); seed < cluster_seed_first() + seeds; seed++) {
        ahead += crash_ahead(seed) ? 1 : 0;
    }
    cr_assert_gt(ahead, seeds / 2);
}

/* As if others had all the memory: what the log has is given up, but for the last 64 KiB. */
static void forget_bytes(struct scene *s)
{
    struct store *store = &home_of(s)->store;
    const uint64_t much = UINT64_C(1) << 40;
    *store->host_bytes += much;
    store_make_room(store, UINT64_MAX);
    *store->host_bytes -= much;
}

/* The machine has done with a message that is taken without an acknowledgement before the log
 * knows it, and before its bytes are read. */
Test(ahead, what_is_taken_for_good_is_read_from_disk_first)
{
    struct scene s;
    struct user *u = &s.consumer;
    uint32_t ahead = 0;
    begin_with(&s, 6, 1, 8000);
    user_open(u, s.c, 0, 0, s.queue, s.t);
    for (uint32_t i = 1; i <= SOME; i++) {
        forget_bytes(&s);
        u->replies = 0;
        queue_client_get(u->client, true);
        for (uint32_t step = 0; step < 20000 && u->replies == 0; step++) {
            ahead += home_of(&s)->ahead_out > 0 ? 1 : 0;
            if (!cluster_step(s.c)) {
                cluster_sleep(s.c, 1);
            }
        }
        cr_assert_eq(u->status, QUEUE_OK);
        cr_assert_eq(u->got, i, "%u of %u came", u->got, i);
    }
    cr_assert_gt(ahead, 0);
    user_close(u);
    end(&s);
}
