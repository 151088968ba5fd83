/*
 * What: formation, members, boots, placement.
 */
#include "catalog_fixture.h"

Test(nodes, nothing_works_before_formation_and_formation_happens_once)
{
    struct fixture *f = wr_calloc(1, sizeof(*f));
    f->catalog = catalog_new(&fake_ops, &log_sink, f);
    cr_assert(uid_is_zero(catalog_cluster_id(view_of(f))));
    cr_assert_eq(do_vhost(f, "v", true), CATALOG_NOT_FORMED);
    cr_assert_eq(do_join(f, 2), CATALOG_NOT_FORMED);
    cr_assert_eq(do_init(f), CATALOG_OK);
    cr_assert_str_eq(f->log, "+n:w1@h:0 +v:/ ~u:guest ~u:guest ");
    cr_assert_eq(do_init(f), CATALOG_EXISTS);
    cr_assert(uid_eq(catalog_cluster_id(view_of(f)), ((struct uid){5, 6})));
    cr_assert(bytes_eq_cstr(catalog_cluster_name(view_of(f)), "warren"));
    fixture_free(f);
}

Test(nodes, formation_declares_vhost_exchanges_and_guest)
{
    struct fixture *f = fixture_new(1);
    static const struct {
        const char *name, *type;
        bool internal;
    } expected[] = {{"", "direct", false},
                    {"amq.direct", "direct", false},
                    {"amq.topic", "topic", false},
                    {"amq.match", "headers", false},
                    {"amq.headers", "headers", false},
                    {"amq.fanout", "fanout", false},
                    {"amq.rabbitmq.trace", "topic", true}};
    for (size_t i = 0; i < 7; i++) {
        const struct catalog_exchange *e = find_exchange(f, expected[i].name);
        cr_assert_not_null(e);
        cr_assert(bytes_eq_cstr(e->type, expected[i].type));
        cr_assert(e->durable && e->predeclared && !e->auto_delete);
        cr_assert_eq(e->internal, expected[i].internal);
    }
    struct catalog_totals totals;
    catalog_count(view_of(f), &totals);
    cr_assert_eq(totals.exchanges, 7);
    cr_assert_eq(totals.vhosts, 1);
    cr_assert_eq(totals.users, 1);
    const struct catalog_user *guest = catalog_user(view_of(f), B("guest"));
    cr_assert(bytes_eq_cstr(guest->password_hash, "saltdigest"));
    cr_assert_eq(guest->tags.count, 1);
    cr_assert(bytes_eq_cstr(guest->tags.items[0], "administrator"));
    const struct catalog_permission *p = catalog_permission(view_of(f), B("guest"), B("/"));
    cr_assert(bytes_eq_cstr(p->configure, ".*") && bytes_eq_cstr(p->write, ".*") &&
              bytes_eq_cstr(p->read, ".*"));
    cr_assert_null(catalog_permission(view_of(f), B("guest"), B("x")));
    cr_assert_null(catalog_permission(view_of(f), B("nobody"), B("/")));
    fixture_free(f);
}

Test(nodes, join_is_idempotent_and_names_are_unique)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_join(f, 2), CATALOG_EXISTS);
    struct catalog_command c = {.kind = CATALOG_JOIN_NODE, .u.join = node_info(3)};
    c.u.join.name = B("w2@h");
    cr_assert_eq(apply(f, &c), CATALOG_REFUSED);
    cr_assert_eq(do_forget(f, 2), CATALOG_OK);
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    const struct catalog_node *node = catalog_node_by_name(view_of(f), B("w2@h"));
    cr_assert(uid_eq(node->info.id, node_id(3)));
    fixture_free(f);
}

/* A node that crashed before it knew that it was in has a new replica; one that ran has lost its
 * data. */
Test(nodes, a_node_that_never_started_may_join_again_with_another_replica)
{
    struct fixture *f = fixture_new(1);
    struct catalog_command c = {.kind = CATALOG_JOIN_NODE, .u.join = node_info(3)};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    c.u.join.member = (struct uid){77, 78};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    cr_assert(uid_eq(catalog_node(view_of(f), node_id(3))->info.member, c.u.join.member));
    cr_assert_eq(apply(f, &c), CATALOG_EXISTS);
    c.u.join = node_info(1); /* it has booted */
    c.u.join.member = (struct uid){77, 79};
    cr_assert_eq(apply(f, &c), CATALOG_REFUSED);
    fixture_free(f);
}

/* Sim seed 20448: what a start that was cut short had asked was heard after what the next one
 * asked. The node itself knows which replica it has. */
Test(nodes, a_boot_says_which_replica_the_node_has)
{
    struct fixture *f = fixture_new(1);
    struct catalog_command join = {.kind = CATALOG_JOIN_NODE, .u.join = node_info(3)};
    struct catalog_command boot = {.kind = CATALOG_NODE_BOOT, .u.boot = {node_info(3), {9, 60}}};
    cr_assert_eq(apply(f, &join), CATALOG_OK);
    join.u.join.member = (struct uid){77, 78}; /* of the start before */
    cr_assert_eq(apply(f, &join), CATALOG_OK);
    cr_assert_eq(apply(f, &boot), CATALOG_OK);
    cr_assert(uid_eq(catalog_node(view_of(f), node_id(3))->info.member, boot.u.boot.node.member));
    cr_assert_eq(apply(f, &join), CATALOG_REFUSED); /* heard once more */
    fixture_free(f);
}

Test(nodes, each_start_gets_a_boot_number_of_its_own_and_a_repeat_gets_the_same)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_boot(f, 1, 1), CATALOG_OK);
    cr_assert_eq(f->result.id, 1); /* the same start as in the fixture */
    cr_assert_str_eq(f->log, "");
    cr_assert_eq(do_boot(f, 1, 77), CATALOG_OK);
    cr_assert_eq(f->result.id, 3);
    cr_assert_str_eq(f->log, "~n:w1@h:3up ");
    cr_assert_eq(catalog_node_by_boot(view_of(f), 3), catalog_node(view_of(f), node_id(1)));
    cr_assert_null(catalog_node_by_boot(view_of(f), 1));
    cr_assert_null(catalog_node_by_boot(view_of(f), 0));
    cr_assert_eq(do_boot(f, 9, 1), CATALOG_NO_NODE);
    fixture_free(f);
}

Test(nodes, boot_changes_addresses)
{
    struct fixture *f = fixture_new(2);
    struct catalog_command c = {.kind = CATALOG_NODE_BOOT, .u.boot = {node_info(2), {9, 50}}};
    c.u.boot.node.host = B("10.0.0.2");
    c.u.boot.node.amqp_port = 99;
    c.u.boot.node.member = UID_NONE;
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    const struct catalog_node *node = catalog_node(view_of(f), node_id(2));
    cr_assert(bytes_eq_cstr(node->info.host, "10.0.0.2"));
    cr_assert_eq(node->info.amqp_port, 99);
    cr_assert(uid_eq(node->info.member, ((struct uid){1, 2})));
    c.u.boot.start.lo = 51;
    c.u.boot.node.name = B("w1@h");
    cr_assert_eq(apply(f, &c), CATALOG_REFUSED);
    fixture_free(f);
}

Test(nodes, a_new_boot_ends_what_lived_in_the_old_one_only)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_local(f, "/", "transient1", 1, 1, 0), CATALOG_OK);
    cr_assert_eq(do_local(f, "/", "exclusive1", 1, 1, 7), CATALOG_OK);
    cr_assert_eq(do_local(f, "/", "transient2", 2, 2, 0), CATALOG_OK);
    cr_assert_eq(do_local(f, "/", "exclusive2", 2, 2, 8), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "durable", "12"), CATALOG_OK);
    cr_assert_eq(do_bind(f, "amq.topic", "exclusive1", "a.#"), CATALOG_OK);
    cr_assert_eq(do_boot(f, 1, 10), CATALOG_OK);
    cr_assert_null(find_queue(f, "transient1"));
    cr_assert_null(find_queue(f, "exclusive1"));
    cr_assert_not_null(find_queue(f, "transient2"));
    cr_assert_not_null(find_queue(f, "exclusive2"));
    cr_assert_not_null(find_queue(f, "durable"));
    cr_assert_null(find_exchange(f, "amq.topic")->bindings);
    fixture_free(f);
}

Test(nodes, down_ends_a_boot_once_and_old_boots_are_stale)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_local(f, "/", "t", 2, 2, 0), CATALOG_OK);
    cr_assert_eq(do_down(f, 2, 1), CATALOG_STALE);
    cr_assert_not_null(find_queue(f, "t"));
    cr_assert_eq(do_down(f, 2, 2), CATALOG_OK);
    cr_assert_str_eq(f->log, "~n:w2@h:2 -q:t ");
    cr_assert_eq(do_down(f, 2, 2), CATALOG_OK);
    cr_assert_str_eq(f->log, "");
    cr_assert_eq(do_down(f, 9, 2), CATALOG_NO_NODE);
    /* Declared for a boot that is over. */
    cr_assert_eq(do_local(f, "/", "t", 2, 2, 0), CATALOG_STALE);
    cr_assert_eq(do_local(f, "/", "t", 9, 2, 0), CATALOG_NO_NODE);
    /* The node was only cut off: it must take a new boot number, even with the old token. */
    cr_assert_eq(do_boot(f, 2, 2), CATALOG_OK);
    cr_assert_eq(f->result.id, 3);
    cr_assert_eq(do_local(f, "/", "t", 2, 3, 0), CATALOG_OK);
    fixture_free(f);
}

Test(nodes, transient_exchanges_end_when_the_whole_cluster_was_down)
{
    struct fixture *f = fixture_new(2);
    cr_assert_eq(do_exchange(f, "/", "keep", "direct", X_DURABLE), CATALOG_OK);
    cr_assert_eq(do_exchange(f, "/", "lose", "direct", 0), CATALOG_OK);
    cr_assert_eq(do_bind_exchange(f, "keep", "lose", "k"), CATALOG_OK);
    cr_assert_eq(do_boot(f, 1, 10), CATALOG_OK); /* node 2 runs on */
    cr_assert_not_null(find_exchange(f, "lose"));
    cr_assert_eq(do_down(f, 1, 3), CATALOG_OK);
    cr_assert_eq(do_down(f, 2, 2), CATALOG_OK);
    cr_assert_not_null(find_exchange(f, "lose"));
    cr_assert_eq(do_boot(f, 2, 20), CATALOG_OK);
    cr_assert_null(find_exchange(f, "lose"));
    cr_assert_not_null(find_exchange(f, "keep"));
    cr_assert_null(find_exchange(f, "keep")->bindings);
    fixture_free(f);
}

Test(nodes, forget_takes_replicas_off_and_ends_queues_that_lived_there_alone)
{
    struct fixture *f = fixture_new(3);
    cr_assert_eq(do_group(f, "/", "three", "321"), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "alone", "3"), CATALOG_OK);
    cr_assert_eq(do_group(f, "/", "other", "12"), CATALOG_OK);
    cr_assert_eq(do_local(f, "/", "t", 3, 3, 1), CATALOG_OK);
    const uint64_t version = find_queue(f, "three")->replicas_version;
    cr_assert_eq(do_forget(f, 3), CATALOG_OK);
    const struct catalog_queue *q = find_queue(f, "three");
    cr_assert_eq(q->spec.group.member_count, 2);
    cr_assert_gt(q->replicas_version, version);
    cr_assert_eq(q->spec.group.target_size, 3);
    /* Node 1 is preferred by "other" already. */
    cr_assert(uid_eq(q->spec.group.preferred, node_id(2)));
    cr_assert_null(find_queue(f, "alone"));
    cr_assert_null(find_queue(f, "t"));
    cr_assert_eq(find_queue(f, "other")->spec.group.member_count, 2);
    cr_assert_eq(do_forget(f, 3), CATALOG_NOT_FOUND);
    cr_assert_eq(do_forget(f, 2), CATALOG_OK);
    cr_assert_eq(do_forget(f, 1), CATALOG_REFUSED);
    fixture_free(f);
}

Test(nodes, the_number_of_members_is_limited)
{
    struct fixture *f = fixture_new(1);
    struct catalog_command c = {.kind = CATALOG_JOIN_NODE, .u.join = node_info(2)};
    for (uint64_t n = 2; n <= CATALOG_NODES_MAX; n++) {
        char name[16];
        snprintf(name, sizeof(name), "n%u@h", (unsigned)n);
        c.u.join.id = node_id(n);
        c.u.join.name = B(name);
        cr_assert_eq(apply(f, &c), CATALOG_OK);
    }
    c.u.join.id = node_id(1000);
    c.u.join.name = B("last@h");
    cr_assert_eq(apply(f, &c), CATALOG_LIMIT);
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    bool voter[CATALOG_NODES_MAX];
    cr_assert_eq(catalog_voters(view_of(f), nodes, voter), CATALOG_NODES_MAX);
    for (uint32_t i = 0; i < CATALOG_NODES_MAX; i++) {
        cr_assert_eq(voter[i], i < 7); /* The ids are in order of joining here. */
        cr_assert(i == 0 || uid_cmp(nodes[i - 1]->info.id, nodes[i]->info.id) < 0);
    }
    fixture_free(f);
}

Test(nodes, cluster_can_be_renamed)
{
    struct fixture *f = fixture_new(1);
    const struct catalog_command c = {.kind = CATALOG_SET_CLUSTER_NAME,
                                      .u.cluster_name = {B("burrow")}};
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    cr_assert(bytes_eq_cstr(catalog_cluster_name(view_of(f)), "burrow"));
    const uint64_t serial = catalog_view_serial(view_of(f));
    cr_assert_eq(apply(f, &c), CATALOG_OK);
    cr_assert_eq(catalog_view_serial(view_of(f)), serial);
    fixture_free(f);
}

/* Replicas: the declaring node first, then the least loaded; leaders: spread over the members. */
Test(nodes, placement_balances_replicas_and_leaders)
{
    struct fixture *f = fixture_new(5);
    for (int i = 0; i < 50; i++) {
        struct uid nodes[CATALOG_REPLICAS_MAX];
        struct uid leader;
        const struct catalog_placement p = {.declaring_node = node_id(1), .size = 3};
        cr_assert_eq(catalog_place(view_of(f), &p, nodes, &leader), 3);
        cr_assert(uid_eq(nodes[0], node_id(1)));
        char text[4] = "";
        int count = 0;
        text[count++] = (char)('0' + leader.lo);
        for (int k = 0; k < 3; k++) {
            if (!uid_eq(nodes[k], leader)) {
                text[count++] = (char)('0' + nodes[k].lo);
            }
        }
        char name[16];
        snprintf(name, sizeof(name), "q%d", i);
        cr_assert_eq(do_group(f, "/", name, text), CATALOG_OK);
    }
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    cr_assert_eq(catalog_nodes(view_of(f), nodes), 5);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(nodes[i]->replica_count, i == 0 ? 50 : 25);
        cr_assert(nodes[i]->leader_count >= 9 && nodes[i]->leader_count <= 11, "node %d leads %u",
                  i + 1, nodes[i]->leader_count);
    }
    fixture_free(f);
}

Test(nodes, placement_uses_candidates_only)
{
    struct fixture *f = fixture_new(4);
    const struct uid candidates[] = {node_id(3), node_id(9), node_id(2)};
    struct catalog_placement p = {
        .declaring_node = node_id(1), .size = 5, .candidates = candidates, .candidate_count = 3};
    struct uid nodes[CATALOG_REPLICAS_MAX];
    struct uid leader;
    cr_assert_eq(catalog_place(view_of(f), &p, nodes, &leader), 2);
    cr_assert(uid_eq(nodes[0], node_id(2)) && uid_eq(nodes[1], node_id(3)));
    p.candidate_count = 0;
    cr_assert_eq(catalog_place(view_of(f), &p, nodes, &leader), 0);
    /* Without candidates: running members. */
    p.candidates = NULL;
    cr_assert_eq(do_down(f, 4, 4), CATALOG_OK);
    cr_assert_eq(catalog_place(view_of(f), &p, nodes, &leader), 3);
    cr_assert(uid_eq(nodes[0], node_id(1)));
    /* client-local: the declaring node leads whatever it leads already. */
    cr_assert_eq(do_group(f, "/", "q", "1"), CATALOG_OK);
    cr_assert_eq(catalog_place(view_of(f), &p, nodes, &leader), 3);
    cr_assert(uid_eq(leader, node_id(2)));
    p.leader_local = true;
    cr_assert_eq(catalog_place(view_of(f), &p, nodes, &leader), 3);
    cr_assert(uid_eq(leader, node_id(1)));
    fixture_free(f);
}
