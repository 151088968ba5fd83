/* Replicas that are added, removed and replaced, and nodes that hear of it late. */
#include "group.h"
#include "parcel.h"
#include "scene.h"

static bool has_ended(void *ctx)
{
    const struct scene *s = ctx;
    const struct group *group = group_find(s->c->nodes[0].shards[0].host, s->queue);
    return group == NULL || group->ended;
}

/* Sim seed 61960: nobody sends anything to one that is no member any more, and an idle leader has
 * nothing to send either: it must ask. */
Test(members, a_leader_that_was_removed_while_it_stood_still_ends)
{
    struct scene s = scene_new(950, 1, 1, 2);
    user_publish(&s.u[0], 20, 50);
    scene_finish(&s);
    cr_assert_eq(cluster_leader(s.c, s.queue), 0);
    cluster_suspend(s.c, 0);
    user_publish(&s.u[0], 20, 50);
    scene_finish(&s);
    cluster_set_replicas(s.c, s.queue, (uint32_t[]){1, 2}, 2, 0);
    cluster_settle(s.c, 3000);
    cr_assert(!has_ended(&s));
    s.c->lose_kind = PARCEL_RAFT; /* and nothing else may happen to tell it */
    cluster_wake(s.c, 0);
    cr_assert(cluster_run(s.c, has_ended, &s, 10000));
    s.c->lose_kind = 0;
    user_publish(&s.u[0], 20, 50);
    scene_finish(&s);
    scene_free(&s);
}

/* Deliveries by position whose replica ends before it has put the bytes in. The queue falls silent
 * behind them: no later item shows the consumer the gap. */
Test(members, the_replica_at_the_consumers_node_ends)
{
    for (uint64_t seed = cluster_seed_first(); seed <= cluster_seeds(30); seed++) {
        struct scene s = scene_new(600 + seed, 1 + seed % 2, 0, 2);
        user_publish(&s.u[0], 10, 100);
        cr_assert(cluster_run(s.c, all_settled, s.t, 5000));
        user_publish(&s.u[0], 2, 20000);
        scene_steps(&s, (uint32_t)seed * 3);
        cluster_set_replicas(s.c, s.queue, (uint32_t[]){0, 1}, 2, 0);
        scene_steps(&s, (uint32_t)seed % 7 * 10);
        user_publish(&s.u[0], 2, 20000);
        scene_finish(&s);
        scene_free(&s);
    }
}

/* A node that restarts may know an older catalog than the one by which its replica ended. It must
 * not begin that replica anew as one of those that the queue was declared with: alone, it would
 * lead an empty queue. */
Test(members, a_replica_that_ended_does_not_come_back)
{
    struct test_cluster *c = cluster_new(700, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    struct group_status status;
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){2}, 1, -1);
    user_open(u, c, 0, 0, q, t);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    struct catalog_view *before = catalog_view_take(c->catalog);
    cluster_set_replicas(c, q, (uint32_t[]){0, 2}, 2, 0);
    cluster_set_replicas(c, q, (uint32_t[]){0}, 1, 0);
    cluster_settle(c, 5000);
    cr_assert_eq(cluster_leader(c, q), 0);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.exists);
    cluster_crash(c, 2);
    c->view_at_restart = before;
    cluster_restart(c, 2, false);
    cluster_settle(c, 2000);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.leading,
              "the node leads a queue that is not there any more");
    cluster_views(c);
    cluster_settle(c, 5000);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.exists);
    user_close(u);
    cluster_settle(c, 500);
    catalog_view_unref(before);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* The same when the record was changed before (sim seed 28357): the member must not begin anew
 * empty either. Without its log it would vote for whom it has been outrun by. */
Test(members, a_replica_that_was_added_and_ended_does_not_come_back)
{
    struct test_cluster *c = cluster_new(750, 3, 1);
    struct group_status status;
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1}, 2, -1);
    cluster_set_replicas(c, q, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(c, 5000);
    struct catalog_view *before = catalog_view_take(c->catalog);
    for (uint32_t i = 0; i < 3; i++) { /* as one of the first, and as one that was added */
        cr_assert(host_group_status(cluster_host(c, i, 0), q, &status) && status.exists);
    }
    cluster_delete(c, q);
    cluster_settle(c, 2000);
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i);
    }
    c->view_at_restart = before;
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(c, i, false);
    }
    cluster_settle(c, 2000);
    for (uint32_t i = 0; i < 3; i++) {
        cr_assert(!host_group_status(cluster_host(c, i, 0), q, &status) || !status.exists,
                  "node %u begins a replica that ended", i);
    }
    catalog_view_unref(before);
    cluster_free(c);
}

static bool has_voters(struct test_cluster *c, uint64_t q, uint32_t voters)
{
    struct group_status status;
    const int leader = cluster_leader(c, q);
    return leader >= 0 && host_group_status(cluster_host(c, (uint32_t)leader, 0), q, &status) &&
           status.voters == voters;
}

/* Sim seed 31055: all nodes restart and know an older record than the one that the group has
 * reached. Until they have their boots, with which their views are as new as their starts, nobody
 * is removed, and nobody ends. */
Test(members, an_older_record_does_not_undo_what_was_reached)
{
    struct test_cluster *c = cluster_new(760, 3, 1);
    struct group_status status;
    uint32_t boots[3];
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    struct catalog_view *before = catalog_view_take(c->catalog);
    cluster_set_replicas(c, q, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(c, 5000);
    cr_assert(has_voters(c, q, 3));
    for (uint32_t i = 0; i < 3; i++) {
        cluster_crash(c, i);
        boots[i] = c->nodes[i].boot;
        c->nodes[i].boot = 0;
    }
    c->view_at_restart = before;
    for (uint32_t i = 0; i < 3; i++) {
        cluster_restart(c, i, false);
    }
    cluster_settle(c, 5000);
    cr_assert(has_voters(c, q, 3));
    cluster_views(c);
    for (uint32_t i = 0; i < 3; i++) {
        c->nodes[i].boot = boots[i];
        host_set_boot(cluster_host(c, i, 0), boots[i]);
    }
    cluster_set_replicas(c, q, (uint32_t[]){1, 2}, 2, 0);
    cluster_settle(c, 5000);
    cr_assert(has_voters(c, q, 2));
    cr_assert(!host_group_status(cluster_host(c, 0, 0), q, &status) || !status.exists);
    catalog_view_unref(before);
    cluster_free(c);
}

/* Its queue was declared and deleted after what its node knows of the catalog: no view that it sees
 * ever has the queue. */
Test(members, a_replica_of_a_queue_that_came_and_went_ends)
{
    struct test_cluster *c = cluster_new(800, 3, 1);
    struct group_status status;
    struct catalog_view *before = catalog_view_take(c->catalog);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    cluster_settle(c, 1000);
    cr_assert(host_group_status(cluster_host(c, 2, 0), q, &status) && status.exists);
    cluster_crash(c, 2);
    c->view_at_restart = before;
    cluster_restart(c, 2, false);
    cluster_settle(c, 500);
    cr_assert(host_group_status(cluster_host(c, 2, 0), q, &status) && status.exists,
              "it may still be to come");
    cluster_delete(c, q);
    cluster_views(c);
    cluster_settle(c, 2000);
    cr_assert(!host_group_status(cluster_host(c, 2, 0), q, &status) || !status.exists);
    catalog_view_unref(before);
    cluster_free(c);
}

/* Sim seeds 101940, 82699. The record has changed before the node of the only founder hears of the
 * queue: nobody else can begin it. */
Test(members, a_founder_begins_its_queue_from_a_later_record)
{
    struct test_cluster *c = cluster_new(850, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    struct group_status status;
    cluster_crash(c, 0);
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
    cluster_set_replicas(c, q, (uint32_t[]){0, 1, 2}, 3, 5);
    cluster_settle(c, 500);
    cluster_restart(c, 0, true);
    user_open(u, c, 1, 0, q, t);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    cluster_settle(c, 5000);
    cr_assert(host_group_status(cluster_host(c, 0, 0), q, &status));
    cr_assert_eq(status.voters, 3);
    user_close(u);
    cluster_settle(c, 500);
    wr_free(u);
    wr_free(t);
    cluster_free(c);
}

/* Whoever asks before a new queue has a leader asks again soon: nobody announces one to him. */
Test(members, a_new_queue_is_used_from_another_node_at_once)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(20); seed++) {
        struct test_cluster *c = cluster_new(870 + seed, 3, 1 + seed % 2);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(1, sizeof *u);
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){0}, 1, -1);
        user_open(u, c, 1, 0, q, t);
        user_publish(u, 1, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 100), "seed %llu", (unsigned long long)seed);
        user_close(u);
        cluster_settle(c, 500);
        wr_free(u);
        wr_free(t);
        cluster_free(c);
    }
}

/* A replica is replaced by one with another id on the same node: a node has one of a group, so the
 * old one must go before the new one can come. */
Test(members, a_replica_is_replaced_on_its_node)
{
    struct test_cluster *c = cluster_new(900, 3, 1);
    struct traffic *t = wr_calloc(1, sizeof *t);
    struct user *u = wr_calloc(1, sizeof *u);
    struct group_status status;
    struct catalog_member members[3];
    uint64_t q = cluster_declare(c, "q", (uint32_t[]){0, 1, 2}, 3, -1);
    user_open(u, c, 1, 0, q, t);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    for (uint32_t i = 0; i < 3; i++) {
        members[i] = cluster_queue(c, q)->spec.group.members[i];
    }
    const struct uid old = members[0].id;
    members[0].id.lo ^= 1;
    cr_assert(!uid_eq(old, members[0].id));
    cluster_set_members(c, q, members, 3);
    cluster_settle(c, 10000);
    cluster_set_members(c, q, members, 1);
    cluster_settle(c, 10000);
    cr_assert_eq(cluster_leader(c, q), 0, "the new replica is not the only one in the end");
    cr_assert(host_group_status(cluster_host(c, 0, 0), q, &status));
    cr_assert_eq(status.voters, 1);
    user_publish(u, 10, 100);
    cr_assert(cluster_run(c, all_confirmed, u, 5000));
    user_close(u);
    cluster_settle(c, 500);
    cluster_free(c);
    wr_free(u);
    wr_free(t);
}

/* The same for a group that shall have no other one in the end: as long as there is another voter
 * the leader must not send it away, since only from there its successor can get what it has. */
Test(members, a_leader_is_replaced_on_its_node_by_the_only_replica)
{
    for (uint32_t leader = 0; leader < 2; leader++) {
        struct test_cluster *c = cluster_new(950 + leader, 2, 1);
        struct traffic *t = wr_calloc(1, sizeof *t);
        struct user *u = wr_calloc(1, sizeof *u);
        struct group_status status;
        struct catalog_member members[2];
        uint64_t q = cluster_declare(c, "q", (uint32_t[]){leader, 1 - leader}, 2, -1);
        user_open(u, c, 1, 0, q, t);
        user_publish(u, 10, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 5000));
        cr_assert_eq(cluster_leader(c, q), (int)leader);
        const struct catalog_queue *record = cluster_queue(c, q);
        const uint32_t at = uid_eq(record->spec.group.members[0].node, c->nodes[0].id) ? 0 : 1;
        members[0] = record->spec.group.members[at];
        members[1] = record->spec.group.members[1 - at];
        members[0].id.lo ^= 1;
        cluster_put_members(c, q, members, 2); /* the group hears of both at once */
        cluster_set_members(c, q, members, 1);
        cluster_settle(c, 10000);
        cr_assert_eq(cluster_leader(c, q), 0, "the new replica is not the only one in the end");
        cr_assert(host_group_status(cluster_host(c, 0, 0), q, &status));
        cr_assert_eq(status.voters, 1);
        cr_assert(uid_eq(uid_of_raft(group_find(cluster_host(c, 0, 0), q)->self), members[0].id));
        user_publish(u, 10, 100);
        cr_assert(cluster_run(c, all_confirmed, u, 5000));
        user_close(u);
        cluster_settle(c, 500);
        cluster_free(c);
        wr_free(u);
        wr_free(t);
    }
}
