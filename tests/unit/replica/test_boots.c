/* Boots and sessions that are over: their clients are told, what they held comes to others. */
#include "client_internal.h"
#include "host_internal.h"
#include "parcel.h"
#include "scene.h"

/* Sim seed 23817: over a link that broke came a client's question of before it asked again over the
 * next one. The client would not take what is sent in the old session, and nobody would notice. */
Test(boots, an_older_resume_does_not_bring_its_session_back)
{
    struct scene s = scene_new(770, 1, 1, 2);
    user_publish(&s.u[0], 10, 100);
    scene_finish(&s);
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
    scene_finish(&s);
    scene_free(&s);
}

static bool is_gone(void *user)
{
    return ((struct user *)user)->gone;
}

/* Its node was cut off for so long that its boot was ended: queues ignore what a client of that
 * boot says. One of which nothing was applied would never hear of that (sim seed 124). Its node may
 * be reached again before it knows. */
Test(boots, clients_of_a_boot_that_ended_are_told)
{
    for (uint32_t round = 0; round < 8; round++) {
        struct scene s = scene_new(950 + round, 1 + round % 2, 2, 1);
        user_publish(&s.u[0], 10, 50);
        if (round % 4 < 2) {
            scene_finish(&s);
        }
        cluster_cut(s.c, 2, 0);
        cluster_cut(s.c, 2, 1);
        user_publish(&s.u[0], 5, 50);
        cluster_settle(s.c, 500);
        if (round < 4) {
            cluster_reboot(s.c, 2);
        } else {
            cluster_end_boot(s.c, 2);
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

Test(boots, messages_of_a_dead_consumer_come_to_another)
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
Test(boots, an_idle_consumer_hears_of_a_leader_that_did_not_know_its_node)
{
    struct test_cluster *c = cluster_new(320, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(2, sizeof *u);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1}, 2, -1);
    cluster_settle(c, 500);
    const struct catalog_member *m = cluster_queue(c, q)->spec.group.members;
    const bool sorted = uid_eq(m[0].node, c->nodes[0].id);
    /* Node 0, preferred and therefore quick, is not when it starts again. */
    cluster_set_members(c, q, (struct catalog_member[]){m[sorted], m[!sorted]}, 2);
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
Test(boots, messages_of_a_forgotten_consumer_come_to_another)
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
Test(boots, an_exclusive_consumer_goes_with_the_boot_of_its_node)
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
    cluster_end_boot(c, 2);
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
