/* Publishers that are ahead of hungry consumers leave them room; nobody is held back for good. */
#include "client_internal.h"
#include "users.h"

#define BODY 1000u

struct scene {
    struct test_cluster *c;
    struct traffic *t;
    struct user *u; /* 0 to 2: publishers, on a node each; 3: consumer */
    uint64_t queue;
    size_t sent[3];     /* what its ops had sent, at the last step */
    uint64_t least[3];  /* pace that was seen; 0: none */
    uint32_t held_back; /* steps in which one had ops that it did not send */
};

static struct scene scene_new(uint64_t seed, uint32_t nodes, uint32_t prefetch)
{
    struct scene s = {0};
    s.c = cluster_new(seed, nodes, 1 + seed % 2);
    s.t = wr_calloc(1, sizeof *s.t);
    s.u = wr_calloc(4, sizeof *s.u);
    s.queue = cluster_declare(s.c, "q", (uint32_t[]){0, 1, 2}, nodes, -1);
    for (uint32_t i = 0; i < 4; i++) {
        user_open(&s.u[i], s.c, i % nodes, 0, s.queue, s.t);
    }
    user_consume(&s.u[3], 1, 0, prefetch, UINT64_MAX);
    cr_assert(cluster_run(s.c, replied, &s.u[3], 5000));
    return s;
}

static void scene_free(struct scene *s)
{
    for (uint32_t i = 0; i < 4; i++) {
        user_close(&s->u[i]);
    }
    cluster_settle(s->c, 500);
    cluster_free(s->c);
    wr_free(s->u);
    wr_free(s->t);
}

static uint64_t bytes_between(const struct queue_client *client, size_t from, size_t to)
{
    uint64_t bytes = 0;
    for (size_t i = from; i < to; i++) {
        bytes += client->ops.items[i].message.record.size;
    }
    return bytes;
}

/* What a step sent of a paced client is within its pace, together with what was on its way. */
static void check(struct scene *s)
{
    for (uint32_t i = 0; i < 3; i++) {
        const struct queue_client *client = s->u[i].client;
        if (client->pace != 0) {
            const uint64_t on_way = bytes_between(client, client->ops_first, client->ops_sent);
            const bool one = client->ops_sent <= client->ops_first + 1;
            cr_assert(one || client->ops_sent <= s->sent[i] || on_way <= client->pace);
            s->held_back += client->ops_sent < client->ops.count;
            s->least[i] =
                s->least[i] == 0 || client->pace < s->least[i] ? client->pace : s->least[i];
        }
        s->sent[i] = client->ops_sent;
    }
}

static void until(struct scene *s, bool (*done)(void *), void *ctx)
{
    const uint64_t end = cluster_now_ms(s->c) + 60000;
    while (!done(ctx)) {
        cr_assert_lt(cluster_now_ms(s->c), end);
        check(s);
        if (!cluster_step(s->c)) {
            cluster_sleep(s->c, 1);
        }
    }
}

static bool is_lifted(void *client)
{
    return ((struct queue_client *)client)->pace == 0;
}

Test(pace, publishers_leave_room_for_hungry_consumers)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        struct scene s = scene_new(seed, seed % 3 == 0 ? 1 : 3, 10);
        for (uint32_t round = 0; round < 3; round++) {
            user_publish(&s.u[0], 1000, BODY);
            until(&s, all_settled, s.t);
        }
        cr_assert_gt(s.least[0], 0, "seed %u", (unsigned)seed);
        cr_assert_gt(s.held_back, 0, "seed %u", (unsigned)seed);
        cr_assert_eq(s.t->confirmed_count, 3000);
        /* Nobody is hungry any more: the next answer says so. */
        cluster_settle(s.c, 10);
        user_publish(&s.u[0], 1, BODY);
        until(&s, is_lifted, s.u[0].client);
        until(&s, all_settled, s.t);
        scene_free(&s);
    }
}

Test(pace, publishers_share_what_may_be_on_its_way)
{
    for (uint32_t publishers = 1; publishers <= 3; publishers += 2) {
        struct scene s = scene_new(2, 3, 10);
        for (uint32_t round = 0; round < 4; round++) {
            for (uint32_t i = 0; i < publishers; i++) {
                user_publish(&s.u[i], 900 / publishers, BODY);
            }
            for (uint32_t i = 0; i < publishers; i++) {
                until(&s, all_confirmed, &s.u[i]); /* the consumer still has a backlog */
            }
        }
        for (uint32_t i = 0; i < publishers; i++) {
            cr_assert_gt(s.least[i], 0);
            cr_assert_eq(s.least[i], (128u << 10) / publishers, "%u of %u", i, publishers);
        }
        until(&s, all_settled, s.t);
        scene_free(&s);
    }
}

Test(pace, nobody_waits_for_consumers_that_keep_up)
{
    struct scene s = scene_new(4, 3, 5000);
    user_publish(&s.u[0], 2000, BODY);
    until(&s, all_settled, s.t);
    cr_assert_eq(s.least[0], 0);
    scene_free(&s);
}

/* A leader that dies takes the pace with it: the next one has not told any. */
Test(pace, a_new_leader_begins_without)
{
    struct scene s = scene_new(1, 3, 10);
    const int leader = cluster_leader(s.c, s.queue);
    cr_assert_neq(leader, -1);
    const uint32_t other = (uint32_t)(leader + 1) % 3;
    user_close(&s.u[3]); /* may be on the node that dies */
    user_open(&s.u[3], s.c, other, 0, s.queue, s.t);
    user_consume(&s.u[3], 1, 0, 10, UINT64_MAX);
    user_publish(&s.u[other], 2000, BODY);
    while (s.u[other].client->pace == 0) {
        cr_assert(cluster_step(s.c) || (cluster_sleep(s.c, 1), cluster_now_ms(s.c) < 60000));
    }
    cluster_crash(s.c, (uint32_t)leader);
    s.u[leader].client = NULL;
    cluster_settle(s.c, 300);
    cr_assert(cluster_run(s.c, all_settled, s.t, 60000));
    cr_assert_eq(s.t->confirmed_count, 2000);
    cluster_settle(s.c, 10);
    user_publish(&s.u[other], 1, BODY);
    cr_assert(cluster_run(s.c, all_settled, s.t, 5000));
    cr_assert_eq(s.u[other].client->pace, 0);
    cluster_restart(s.c, (uint32_t)leader, true);
    scene_free(&s);
}
