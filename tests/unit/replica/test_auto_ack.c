/* A consumer that needs no acknowledgements, on a node that lives: what was on its way to it is not
 * lost with the leader (QUEUE_SETTLES: its node says what has come). */
#include "users.h"

#define SOME 400u /* messages */

/* The leader loses power at some step of handing all of them out. */
static void crash_leader(uint64_t seed, uint8_t flags, struct traffic *t)
{
    struct prng prng;
    struct test_cluster *c = cluster_new(seed, 3, 1 + seed % 2);
    struct user *u = wr_calloc(2, sizeof *u);
    prng_init(&prng, seed);
    cluster_settle(c, 500);
    const uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(&u[0], c, 2, 0, q, t);
    user_publish(&u[0], SOME, seed % 3 == 0 ? 5000 : 100);
    cr_assert(cluster_run(c, all_confirmed, &u[0], 5000));
    const int leader = cluster_leader(c, q);
    cr_assert_geq(leader, 0);
    const uint32_t node = (uint32_t)(leader + 1) % 3;
    user_open(&u[1], c, node, 0, q, t);
    u[1].order = true;
    user_consume(&u[1], 1, flags, 0, UINT64_MAX);
    for (uint64_t i = prng_below(&prng, 60); i > 0; i--) {
        if (!cluster_step(c)) {
            cluster_sleep(c, 1);
        }
    }
    if (leader == 2) {
        user_close(&u[0]);
        u[0].client = NULL;
    }
    cluster_crash(c, (uint32_t)leader);
    (void)cluster_run(c, all_seen, t, 10000);
    cluster_restart(c, (uint32_t)leader, true);
    cluster_settle(c, 2000);
    user_close(&u[1]);
    if (leader != 2) {
        user_close(&u[0]);
    }
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
}

Test(auto_ack, what_was_on_its_way_is_not_lost_with_the_leader)
{
    const uint64_t seeds = cluster_seeds(60);
    for (uint64_t seed = cluster_seed_first(); seed < cluster_seed_first() + seeds; seed++) {
        struct traffic *t = wr_calloc(1, sizeof *t);
        crash_leader(seed, QUEUE_NO_ACK | QUEUE_SETTLES, t);
        cr_assert_eq(t->seen_count, SOME, "seed %lu: %u of %u came", seed, t->seen_count, SOME);
        wr_free(t);
    }
}
