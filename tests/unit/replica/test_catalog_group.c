/* The catalog's group: formation, joining, proposals from every node, barriers, loss of the leader.
 */
#include "group.h"
#include "host_internal.h"
#include "users.h"

#include <stdio.h>

struct seen {
    struct catalog_view *view;
    bool leading;
};
static void on_view(void *ctx, struct catalog_view *owned, uint64_t index)
{
    struct seen *s = ctx;
    (void)index;
    catalog_view_unref(s->view);
    s->view = owned;
}
static void on_leader(void *ctx, bool leading)
{
    ((struct seen *)ctx)->leading = leading;
}
struct outcome {
    uint32_t done;
    int status;
    uint64_t id;
};
static void on_done(void *ctx, int status, const struct catalog_result *result)
{
    struct outcome *o = ctx;
    o->done++;
    o->status = status;
    o->id = result != NULL ? result->id : 0;
}
static bool never(void *ctx)
{
    (void)ctx;
    return false;
}

static bool one_done(void *ctx)
{
    return ((struct outcome *)ctx)->done > 0;
}

static void set_sink(struct test_cluster *c, uint32_t node, struct seen *seen)
{
    const struct host_sink sink = {
        .on_catalog_view = on_view, .on_catalog_leader = on_leader, .ctx = seen};
    host_set_sink(cluster_host(c, node, 0), &sink);
}

static struct catalog_node_info info(struct test_cluster *c, uint32_t node, char *name)
{
    snprintf(name, 32, "n%u@localhost", node);
    return (struct catalog_node_info){.id = c->nodes[node].id,
                                      .member = {9, node + 1},
                                      .name = bytes_from_cstr(name),
                                      .host = BYTES_LITERAL("localhost"),
                                      .cluster_port = 1,
                                      .amqp_port = 2};
}

static struct outcome propose(struct test_cluster *c, uint32_t node,
                              const struct catalog_command *command)
{
    struct outcome o = {0};
    host_catalog_propose(cluster_host(c, node, 0), command, 10000, on_done, &o);
    cr_assert(cluster_run(c, one_done, &o, 11000));
    cr_assert_eq(o.done, 1);
    return o;
}

/* In this catalog too; without it what the node proposes is late. */
static void boot(struct test_cluster *c, uint32_t node, uint32_t through)
{
    char name[32];
    struct catalog_command command = {.kind = CATALOG_NODE_BOOT};
    command.u.boot.node = info(c, node, name);
    command.u.boot.start = (struct uid){c->nodes[node].boot, node + 1};
    const struct outcome o = propose(c, through, &command);
    cr_assert_eq(o.status, CATALOG_OK);
    cr_assert_eq(o.id, c->nodes[node].boot);
}

static void form(struct test_cluster *c, struct seen *seen)
{
    char name[32];
    for (uint32_t i = 0; i < c->node_count; i++) {
        set_sink(c, i, &seen[i]);
    }
    host_catalog_bootstrap(cluster_host(c, 0, 0), (struct uid){5, 6}, (struct raft_id){9, 1});
    struct catalog_command command = {.kind = CATALOG_CLUSTER_INIT};
    command.u.init.cluster = (struct uid){5, 6};
    command.u.init.name = BYTES_LITERAL("test");
    command.u.init.vhost = BYTES_LITERAL("/");
    command.u.init.node = info(c, 0, name);
    cr_assert_eq(propose(c, 0, &command).status, CATALOG_OK);
    boot(c, 0, 0); /* who lets others in has one */
    struct raft_id members[NODES_MAX];
    struct uid nodes[NODES_MAX];
    for (uint32_t i = 0; i < c->node_count; i++) {
        members[i] = (struct raft_id){9, i + 1};
        nodes[i] = c->nodes[i].id;
        if (i > 0) {
            command = (struct catalog_command){.kind = CATALOG_JOIN_NODE};
            command.u.join = info(c, i, name);
            cr_assert_eq(propose(c, 0, &command).status, CATALOG_OK);
            host_catalog_join(cluster_host(c, i, 0), (struct uid){5, 6}, members[i]);
        }
    }
    for (uint32_t i = 1; i < c->node_count; i++) {
        boot(c, i, 0);
    }
    host_catalog_set_members(cluster_host(c, 0, 0), members, nodes, c->node_count);
    cluster_settle(c, 5000);
    struct group_status status;
    cr_assert(host_group_status(cluster_host(c, 0, 0), 1, &status));
    cr_assert_eq(status.voters, c->node_count, "%s", status.why);
}

static void put_vhost(struct test_cluster *c, uint32_t node, uint32_t number, int want)
{
    char name[32];
    snprintf(name, sizeof name, "v%u", number);
    struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
    command.u.vhost.name = bytes_from_cstr(name);
    command.u.vhost.create = true;
    struct outcome o = propose(c, node, &command);
    cr_assert(o.status == want || o.status == CATALOG_EXISTS, "%d", o.status);
}

static void views_free(struct seen *seen)
{
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        catalog_view_unref(seen[i].view);
    }
}

Test(catalog_group, proposals_from_every_node_are_seen_where_they_are_answered)
{
    struct test_cluster *c = cluster_new(1, 3, 1);
    struct seen seen[NODES_MAX] = {0};
    form(c, seen);
    for (uint32_t i = 0; i < 12; i++) {
        char name[32];
        put_vhost(c, i % 3, i, CATALOG_OK);
        snprintf(name, sizeof name, "v%u", i);
        cr_assert_not_null(catalog_vhost(seen[i % 3].view, bytes_from_cstr(name)));
        struct outcome o = {0};
        uint32_t other = (i + 1) % 3;
        host_catalog_barrier(cluster_host(c, other, 0), 5000, on_done, &o);
        cr_assert(cluster_run(c, one_done, &o, 6000));
        cr_assert_eq(o.status, 0);
        cr_assert_not_null(catalog_vhost(seen[other].view, bytes_from_cstr(name)));
    }
    cluster_free(c);
    views_free(seen);
}

struct known {
    struct outcome outcome;
    const struct seen *seen;
    struct bytes vhost;
    uint32_t by; /* how many nodes had it when it was answered */
};

static void on_known(void *ctx, int status, const struct catalog_result *result)
{
    struct known *k = ctx;
    on_done(&k->outcome, status, result);
    for (uint32_t i = 0; i < 3; i++) {
        k->by += catalog_vhost(k->seen[i].view, k->vhost) != NULL;
    }
}

static struct known put_known(struct test_cluster *c, const struct seen *seen, uint32_t node,
                              struct bytes vhost, uint64_t ms_max)
{
    struct known k = {.seen = seen, .vhost = vhost};
    struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
    command.u.vhost.name = vhost;
    command.u.vhost.create = true;
    host_catalog_propose(cluster_host(c, node, 0), &command, 10000, on_known, &k);
    cr_assert(cluster_run(c, one_done, &k.outcome, ms_max));
    cr_assert_eq(k.outcome.status, CATALOG_OK);
    return k;
}

/* Whoever hears of it may go on through any other node. */
Test(catalog_group, a_change_is_answered_when_all_nodes_in_reach_have_it)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(5); seed++) {
        struct test_cluster *c = cluster_new(40 + seed, 3, 1 + seed % 2);
        struct seen seen[NODES_MAX] = {0};
        form(c, seen);
        for (uint32_t i = 0; i < 12; i++) {
            char name[32];
            snprintf(name, sizeof name, "v%u", i);
            cr_assert_eq(put_known(c, seen, i % 3, bytes_from_cstr(name), 1000).by, 3);
        }
        /* One that is gone is not waited for ... */
        cluster_crash(c, 2);
        cr_assert_eq(put_known(c, seen, 1, BYTES_LITERAL("two"), 1000).by, 2);
        cluster_restart(c, 2, true);
        set_sink(c, 2, &seen[2]);
        boot(c, 2, 2);
        cr_assert_eq(put_known(c, seen, 0, BYTES_LITERAL("three"), 5000).by, 3);
        /* ... nor one that goes meanwhile, and for one that only says nothing not for ever. */
        c->held[0][2] = c->held[1][2] = true;
        cr_assert_eq(put_known(c, seen, 1, BYTES_LITERAL("silent"), 2500).by, 2);
        struct known k = {.seen = seen, .vhost = BYTES_LITERAL("going")};
        struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
        command.u.vhost.name = k.vhost;
        command.u.vhost.create = true;
        host_catalog_propose(cluster_host(c, 1, 0), &command, 10000, on_known, &k);
        (void)cluster_run(c, never, NULL, 500);
        cr_assert_eq(k.outcome.done, 0);
        cluster_crash(c, 2);
        cr_assert(cluster_run(c, one_done, &k.outcome, 500));
        cr_assert_eq(k.by, 2);
        c->held[0][2] = c->held[1][2] = false;
        cluster_free(c);
        views_free(seen);
    }
}

Test(catalog_group, goes_on_when_its_leader_dies)
{
    for (uint64_t seed = 1; seed <= cluster_seeds(5); seed++) {
        struct test_cluster *c = cluster_new(10 + seed, 3, 1 + seed % 2);
        struct seen seen[NODES_MAX] = {0};
        form(c, seen);
        for (uint32_t round = 0; round < 4; round++) {
            put_vhost(c, 0, round * 10, CATALOG_OK);
            uint32_t leader = (uint32_t)cluster_leader(c, 1);
            cr_assert_lt(leader, 3);
            cluster_crash(c, leader);
            put_vhost(c, (leader + 1) % 3, round * 10 + 1, CATALOG_OK);
            cluster_restart(c, leader, true);
            set_sink(c, leader, &seen[leader]);
            boot(c, leader, leader);
            put_vhost(c, leader, round * 10 + 2, CATALOG_OK);
            cluster_settle(c, 2000);
        }
        cr_assert_eq(catalog_view_serial(seen[0].view) > 0, true);
        cluster_free(c);
        views_free(seen);
    }
}

/* What a node decided while it led must not be carried out by the next leader. */
Test(catalog_group, what_only_the_leader_may_decide_is_not_passed_on)
{
    struct test_cluster *c = cluster_new(21, 3, 1);
    struct seen seen[NODES_MAX] = {0};
    form(c, seen);
    uint32_t led = 0;
    for (uint32_t node = 0; node < 3; node++) {
        struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
        struct group_status status;
        struct outcome o = {0};
        cr_assert(host_group_status(cluster_host(c, node, 0), 1, &status));
        command.u.vhost.name = BYTES_LITERAL("x");
        host_catalog_propose_leading(cluster_host(c, node, 0), &command, on_done, &o);
        cr_assert(cluster_run(c, one_done, &o, 3500));
        led += status.leading;
        cr_assert_eq(o.status == WR_E_UNAVAILABLE, !status.leading);
    }
    cr_assert_eq(led, 1);
    cluster_free(c);
    views_free(seen);
}

Test(catalog_group, no_majority_is_said_in_time)
{
    struct test_cluster *c = cluster_new(20, 3, 1);
    struct seen seen[NODES_MAX] = {0};
    form(c, seen);
    cluster_crash(c, 1);
    cluster_crash(c, 2);
    struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
    struct outcome o = {0};
    command.u.vhost.name = BYTES_LITERAL("x");
    host_catalog_propose(cluster_host(c, 0, 0), &command, 3000, on_done, &o);
    cr_assert(cluster_run(c, one_done, &o, 3500));
    cr_assert_eq(o.status, WR_E_UNAVAILABLE);
    o = (struct outcome){0};
    host_catalog_barrier(cluster_host(c, 0, 0), 1000, on_done, &o);
    cr_assert(cluster_run(c, one_done, &o, 1500));
    cr_assert_eq(o.status, WR_E_UNAVAILABLE);
    struct group_status status;
    cr_assert(host_group_status(cluster_host(c, 0, 0), 1, &status));
    cr_assert_str_eq(status.why, "no leader because 2 of 3 members are unreachable");
    cluster_free(c);
    views_free(seen);
}

/* Nobody listens to it, as far as the others know: what it proposes has no outcome. */
Test(catalog_group, a_node_whose_boot_was_ended_changes_nothing)
{
    struct test_cluster *c = cluster_new(22, 3, 1);
    struct seen seen[NODES_MAX] = {0};
    form(c, seen);
    struct catalog_command command = {.kind = CATALOG_NODE_DOWN};
    command.u.down.node = c->nodes[1].id;
    command.u.down.boot = c->nodes[1].boot;
    cr_assert_eq(propose(c, 0, &command).status, CATALOG_OK);
    command = (struct catalog_command){.kind = CATALOG_PUT_VHOST};
    command.u.vhost.name = BYTES_LITERAL("late");
    cr_assert_eq(propose(c, 1, &command).status, WR_E_UNAVAILABLE);
    cr_assert_null(catalog_vhost(seen[0].view, BYTES_LITERAL("late")));
    cluster_reboot(c, 1);
    boot(c, 1, 1);
    cr_assert_eq(propose(c, 1, &command).status, CATALOG_OK);
    cluster_free(c);
    views_free(seen);
}

/* Sim seed 31143: commits are slow, and whoever waits asks again and again. One entry is enough; a
 * second one would be applied after what others do in between. */
Test(catalog_group, a_proposal_is_in_a_leaders_log_once)
{
    struct test_cluster *c = cluster_new(21, 3, 1);
    struct seen seen[NODES_MAX] = {0};
    form(c, seen);
    for (uint32_t node = 0; node < 2; node++) { /* the leader's own, and another node's */
        struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
        struct group_status before;
        struct group_status status;
        struct outcome o = {0};
        command.u.vhost.name = BYTES_LITERAL("x");
        cr_assert(host_group_status(cluster_host(c, 0, 0), 1, &before) && before.leading);
        c->held[0][1] = c->held[0][2] = true;
        host_catalog_propose(cluster_host(c, node, 0), &command, 10000, on_done, &o);
        (void)cluster_run(c, never, NULL, 4000);
        cr_assert_eq(o.done, 0);
        cr_assert(host_group_status(cluster_host(c, 0, 0), 1, &status));
        cr_assert_eq(status.term, before.term);
        cr_assert_eq(status.last, before.last + 1, "%llu entries",
                     (unsigned long long)(status.last - before.last));
        c->held[0][1] = c->held[0][2] = false;
        cr_assert(cluster_run(c, one_done, &o, 11000));
        cr_assert_eq(o.status, CATALOG_OK);
    }
    cluster_free(c);
    views_free(seen);
}

static bool is_stopped(void *ctx)
{
    return ((struct test_node *)ctx)->shards[0].env.stopped;
}

/* A node whose definitions are not those of the majority stops, and does not start again with them.
 */
Test(catalog_group, a_node_with_other_definitions_stops)
{
    for (uint32_t leads = 0; leads < 2; leads++) {
        struct test_cluster *c = cluster_new(30 + leads, 3, 1);
        struct seen seen[NODES_MAX] = {0};
        form(c, seen);
        uint32_t leader = (uint32_t)cluster_leader(c, 1);
        uint32_t wrong = leads ? leader : (leader + 1) % 3;
        uint32_t right = (leader + 2) % 3;
        struct catalog *catalog = cluster_host(c, wrong, 0)->catalog;
        struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
        struct catalog_result result;
        command.u.vhost.name = BYTES_LITERAL("nobody else has this");
        command.u.vhost.create = true;
        catalog_apply(catalog, group_find(cluster_host(c, wrong, 0), 1)->applied, &command,
                      &result);
        cr_assert_eq(result.status, CATALOG_OK);
        for (uint32_t i = 0; i < COMPARE_EVERY; i++) {
            put_vhost(c, right, i, CATALOG_OK);
        }
        cr_assert(cluster_run(c, is_stopped, &c->nodes[wrong], 5000));
        const char *why = c->nodes[wrong].shards[0].env.stop_why;
        cr_assert_not_null(strstr(why, "differs from the majority's"), "%s", why);
        cr_assert_not_null(strstr(why, "Remove the data directory"), "%s", why);
        cr_assert_not(c->nodes[right].shards[0].env.stopped);
        cluster_crash(c, wrong);
        put_vhost(c, right, 100, CATALOG_OK);
        c->refuses = true;
        cluster_restart(c, wrong, false);
        cr_assert_not_null(strstr(c->refusal, "Remove the data directory"), "%s", c->refusal);
        cluster_free(c);
        views_free(seen);
    }
}
