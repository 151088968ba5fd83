/* queue.declare, delete, purge, bind, unbind. */
#include "rig.h"

TestSuite(broker_queue, .init = rig_init, .fini = rig_deinit);

#define LOCKED(name)                                                                               \
    "405 cannot obtain exclusive access to locked queue '" name                                    \
    "' in vhost '/'. It could be originally declared on another connection "                       \
    "or the exclusive property value does not match that of the original declaration.\n"

static void declare(const char *name, uint32_t flags)
{
    CALL(broker_queue_declare(rig.ch, B(name), flags, BYTES_NONE, rig_done, "declare"));
}

static void declare_type(const char *name, uint32_t flags, const char *type)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-queue-type", type);
    CALL(broker_queue_declare(rig.ch, B(name), flags, writer_bytes(&w), rig_done, "declare"));
    writer_deinit(&w);
}

static void delete (const char *name, uint32_t flags)
{
    CALL(broker_queue_delete(rig.ch, B(name), flags, rig_done, "delete"));
}

static void bind(const char *queue, const char *exchange, const char *key, bool unbind)
{
    CALL(broker_queue_bind(rig.ch, B(queue), B(exchange), B(key), BYTES_NONE, unbind, rig_done,
                           unbind ? "unbind" : "bind"));
}

/* --- declare ---------------------------------------------------------------------------------- */

Test(broker_queue, a_new_queue_is_placed_by_what_it_is)
{
    declare("t", 0);
    EXPECT_SAID("declare ok 't' 0 0\n");
    EXPECT_CALLS("propose declare_queue 't' type=1 local\n");
    declare("d", BROKER_DURABLE | BROKER_AUTO_DELETE);
    EXPECT_CALLS("propose declare_queue 'd' type=1 group durable auto_delete members=1 target=1\n");
    declare("e", BROKER_DURABLE | BROKER_EXCLUSIVE);
    EXPECT_CALLS("propose declare_queue 'e' type=1 local exclusive\n");
    declare_type("q", BROKER_DURABLE, "quorum");
    EXPECT_CALLS(
        "propose declare_queue 'q' type=2 group durable members=1 target=3\n"); /* one node is all
                                                                                   there is */
    EXPECT_SAID("declare ok 'd' 0 0\ndeclare ok 'e' 0 0\ndeclare ok 'q' 0 0\n");
}

/* A second and a third node; the third one is down. */
static void add_nodes(void)
{
    for (uint64_t n = 2; n <= 3; n++) {
        const struct catalog_node_info info = {
            .id = {n, n}, .member = {n, 9}, .name = n == 2 ? B("w2@h") : B("w3@h"), .host = B("h")};
        struct catalog_command c = {.kind = CATALOG_JOIN_NODE, .u.join = info};
        rig_apply_silently(&c);
        if (n == 2) {
            c = (struct catalog_command){.kind = CATALOG_NODE_BOOT, .u.boot = {info, {n, 4}}};
            rig_apply_silently(&c);
        }
    }
    rig_show_view();
}

static void mirror(const char *pattern, const char *mode, const char *node, int64_t count)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "ha-mode", mode);
    if (node != NULL) {
        struct writer names;
        writer_init(&names, 64);
        wire_value_put_longstr(&names, bytes_from_cstr(node));
        wire_put_key(&w, B("ha-params"));
        wire_value_put_array(&w, writer_bytes(&names));
        writer_deinit(&names);
    } else if (count > 0) {
        wire_put_key(&w, B("ha-params"));
        wire_value_put_int32(&w, (int32_t)count);
    }
    const struct catalog_command c = {.kind = CATALOG_PUT_POLICY,
                                      .u.policy = {.vhost = B("/"),
                                                   .name = bytes_from_cstr(pattern),
                                                   .pattern = bytes_from_cstr(pattern),
                                                   .definition = writer_bytes(&w)}};
    rig_apply(&c);
    writer_deinit(&w);
}

static struct uid only_member(const char *queue)
{
    const struct catalog_queue *q = catalog_queue(rig.broker->view, B("/"), B(queue));
    cr_assert_not_null(q);
    cr_assert_eq(q->spec.group.member_count, 1);
    return q->spec.group.members[0].node;
}

/* What is confirmed right after the declaration outlives a node, too: it does not begin with one
 * replica, to get the others later. */
Test(broker_queue, a_mirrored_queue_begins_with_its_mirrors)
{
    add_nodes();
    mirror("^all", "all", NULL, 0);
    mirror("^one", "exactly", NULL, 1);
    mirror("^many", "exactly", NULL, 5);
    mirror("^there", "nodes", "w2@h", 0);
    mirror("^nowhere", "nodes", "w3@h", 0);
    declare("all", BROKER_DURABLE);
    EXPECT_CALLS("propose declare_queue 'all' type=1 group durable members=2 target=1\n");
    declare("one", BROKER_DURABLE);
    EXPECT_CALLS("propose declare_queue 'one' type=1 group durable members=1 target=1\n");
    declare("many", BROKER_DURABLE);
    EXPECT_CALLS("propose declare_queue 'many' type=1 group durable members=2 target=1\n");
    declare("there", BROKER_DURABLE);
    EXPECT_CALLS("propose declare_queue 'there' type=1 group durable members=1 target=1\n");
    cr_assert_eq(only_member("there").hi, 2);
    declare("nowhere", BROKER_DURABLE);
    EXPECT_CALLS("propose declare_queue 'nowhere' type=1 group durable members=1 target=1\n");
    cr_assert_eq(only_member("nowhere").hi, 1);
    declare("all-transient", 0);
    EXPECT_CALLS("propose declare_queue 'all-transient' type=1 local\n");
    declare_type("all-quorum", BROKER_DURABLE, "quorum");
    EXPECT_CALLS("propose declare_queue 'all-quorum' type=2 group durable members=2 target=3\n");
    (void)rig_said();
}

Test(broker_queue, an_answer_comes_only_when_this_shard_sees_the_queue)
{
    rig.hold = true;
    declare("q", 0);
    struct asked asked = rig.asked.items[0];
    struct catalog_result result;
    vec_remove(&rig.asked, 0);
    cr_assert_eq(catalog_apply_bytes(rig.catalog, ++rig.index,
                                     bytes_make(asked.command->data, asked.command->size), &result),
                 0);
    asked.done(asked.ctx, result.status, &result);
    buf_unref(asked.command);
    EXPECT_SAID("");
    rig_show_view();
    EXPECT_SAID("declare ok 'q' 0 0\n");
}

Test(broker_queue, what_is_there_is_compared_and_counted)
{
    rig_queue("q");
    rig.report.totals.ready = 5;
    rig.report.totals.unacked = 3;
    rig.report.totals.consumers = 2;
    declare("q", 0);
    EXPECT_SAID("declare ok 'q' 5 2\n");
    EXPECT_CALLS("barrier\nreport\n"); /* it may be gone already, elsewhere */
    declare("q",
            BROKER_PASSIVE | BROKER_AUTO_DELETE | BROKER_DURABLE); /* passive compares nothing */
    EXPECT_SAID("declare ok 'q' 5 2\n");
    declare("q", BROKER_AUTO_DELETE);
    EXPECT_SAID("declare 406 inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received "
                "'true' but current is 'false'\n");
    declare_type("q", 0, "quorum"); /* compared, not checked */
    EXPECT_SAID("declare 406 inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received "
                "the value 'quorum' of type 'longstr' but "
                "current is none\n");
    rig.report.error =
        WR_E_UNAVAILABLE; /* without a leader its counts are not known, but it is there */
    declare("q", 0);
    EXPECT_SAID("declare ok 'q' 0 0\n");
}

Test(broker_queue, passive_looks_twice)
{
    declare("q", BROKER_PASSIVE);
    EXPECT_SAID("declare 404 no queue 'q' in vhost '/'\n");
    EXPECT_CALLS("barrier\n");
    rig.hold = true;
    declare("q", BROKER_PASSIVE);
    struct catalog_command c = {.kind = CATALOG_DECLARE_QUEUE,
                                .u.queue = {.vhost = B("/"),
                                            .name = B("q"),
                                            .type = CATALOG_CLASSIC,
                                            .run = CATALOG_RUN_LOCAL,
                                            .local = {{1, 1}, 1, 0}}};
    rig_apply_silently(&c); /* on another node, a moment ago */
    rig_catalog();
    EXPECT_SAID("declare ok 'q' 0 0\n");
}

Test(broker_queue, two_declare_the_same_at_once)
{
    struct broker_channel *other = rig_channel(rig.session, 2);
    rig.hold = true;
    declare("q", 0);
    CALL(broker_queue_declare(other, B("q"), BROKER_AUTO_DELETE, BYTES_NONE, rig_done, "other"));
    rig.hold = false;
    EXPECT_SAID("declare ok 'q' 0 0\n"
                "other 406 inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received "
                "'true' but current is 'false'\n");
    (void)rig_calls();
    rig_delete("q");
    rig.hold = true;
    declare("q", 0);
    CALL(broker_queue_declare(other, B("q"), 0, BYTES_NONE, rig_done, "other"));
    rig.hold = false;
    EXPECT_SAID("declare ok 'q' 0 0\nother ok 'q' 0 0\n");
    EXPECT_CALLS(
        "propose declare_queue 'q' type=1 local\npropose declare_queue 'q' type=1 local\nreport\n");
}

/* One with an x-expires of milliseconds may be gone before this shard sees it. */
Test(broker_queue, what_is_gone_at_once_was_declared_all_the_same)
{
    rig.hold = true;
    declare("q", 0);
    rig_catalog();
    rig_delete("q");
    rig.hold = false;
    EXPECT_SAID("declare ok 'q' 0 0\n");
    CALL(broker_queue_purge(rig.ch, B(""), rig_done, "purge"));
    EXPECT_SAID("purge 404 no queue 'q' in vhost '/'\n");
}

Test(broker_queue, a_queue_that_is_being_deleted_is_declared_anew)
{
    rig_queue("q");
    rig.report.sealed = true;
    declare("q", BROKER_PASSIVE);
    EXPECT_SAID("declare 404 no queue 'q' in vhost '/'\n");
    declare("q", 0);
    EXPECT_SAID("");
    rig_delete("q");
    rig.now_ms += 20;
    EXPECT_SAID("declare ok 'q' 0 0\n");
    cr_assert_not_null(catalog_queue(rig.broker->view, B("/"), B("q")));
}

/* As whoever has just cancelled the last consumer of one with auto-delete may do. */
Test(broker_queue, a_queue_that_is_being_deleted_may_come_back_as_another_one)
{
    rig_queue("q");
    declare("q", BROKER_AUTO_DELETE);
    EXPECT_SAID("declare 406 inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received "
                "'true' but current is 'false'\n");
    rig.report.sealed = true;
    declare("q", BROKER_AUTO_DELETE);
    EXPECT_SAID("");
    rig_delete("q");
    rig.now_ms += 20;
    EXPECT_SAID("declare ok 'q' 0 0\n");
    rig.report = (struct queue_report){.error = WR_E_NOTFOUND};
    declare("q", 0); /* its node has no such queue, but it is in the catalog */
    EXPECT_SAID("declare 406 inequivalent arg 'auto_delete' for queue 'q' in vhost '/': received "
                "'false' but current is 'true'\n");
}

Test(broker_queue, names_of_the_server)
{
    declare("", 0);
    EXPECT_SAID("declare ok 'amq.gen-' 0 0\n");
    (void)rig_calls();
    declare("", BROKER_PASSIVE); /* alone among all methods, not the last declared */
    EXPECT_SAID("declare 404 no queue '' in vhost '/'\n");
    EXPECT_CALLS("");
    declare("amq.mine", 0);
    EXPECT_SAID("declare 403 queue name 'amq.mine' contains reserved prefix 'amq.*'\n");
    rig_queue("amq.old");
    declare("amq.old", 0);
    EXPECT_SAID("declare 403 queue name 'amq.old' contains reserved prefix 'amq.*'\n");
    declare("amq.old", BROKER_PASSIVE);
    EXPECT_SAID("declare ok 'amq.old' 0 0\n");
    declare_type("", BROKER_DURABLE, "quorum");
    EXPECT_SAID("declare 406 Cannot declare a server-named queue for type rabbit_quorum_queue\n");
    declare_type("", 0, "odd");
    EXPECT_SAID("declare 406 invalid arg 'x-queue-type' for queue '' in vhost '/': \"unsupported "
                "queue type 'odd'\"\n");
}

Test(broker_queue, an_empty_name_needs_a_last_queue)
{
    declare("", BROKER_PASSIVE);
    CALL(broker_queue_purge(rig.ch, BYTES_NONE, rig_done, "purge"));
    delete ("", 0);
    bind("", "amq.direct", "k", false);
    CALL(broker_get(rig.ch, BYTES_NONE, false, rig_on_get, rig_done, "get"));
    CALL(broker_consume(rig.ch, BYTES_NONE, B("t"), 0, BYTES_NONE, rig_done, "consume"));
    EXPECT_SAID("declare 404 no queue '' in vhost '/'\npurge 404 no previously declared "
                "queue\ndelete 404 no previously declared queue\n"
                "bind 404 no previously declared queue\nget 404 no previously declared "
                "queue\nconsume 404 no previously declared queue\n");
}

Test(broker_queue, the_last_queue_may_have_a_nul_in_its_name)
{
    struct bytes name = BYTES_LITERAL("a\0b");
    CALL(broker_queue_declare(rig.ch, name, 0, BYTES_NONE, rig_done, "declare"));
    (void)rig_said();
    cr_assert(bytes_eq(channel_last_queue(rig.ch), name));
}

Test(broker_queue, permissions_of_declare)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-dead-letter-exchange", "w-dlx");
    rig.ch = rig_channel(rig_session("limited", "/"), 1);
    declare("q", 0);
    declare("c", 0);
    CALL(broker_queue_declare(rig.ch, B("c2"), 0, writer_bytes(&w), rig_done, "dlx"));
    EXPECT_SAID(
        "declare 403 configure access to queue 'q' in vhost '/' refused for user 'limited'\n"
        "dlx 403 read access to queue 'c2' in vhost '/' refused for user 'limited'\ndeclare ok 'c' "
        "0 0\n");
    declare("q", BROKER_PASSIVE); /* needs none */
    EXPECT_SAID("declare 404 no queue 'q' in vhost '/'\n");
    writer_deinit(&w);
}

Test(broker_queue, no_leader)
{
    rig.no_leader = true;
    declare("q", 0);
    EXPECT_SAID("declare 541! the cluster's catalog cannot be changed: no leader was reached "
                "within 15000 ms\n");
    declare("q", BROKER_PASSIVE);
    EXPECT_SAID("declare 541! the cluster's catalog cannot be read: no leader was reached within "
                "15000 ms\n");
}

/* --- exclusive -------------------------------------------------------------------------------- */

Test(broker_queue, an_exclusive_queue_is_its_connections)
{
    rig_exclusive("e", rig.session->id | UINT64_C(1) << 48); /* of another shard */
    declare("e", BROKER_EXCLUSIVE);
    declare("e", BROKER_PASSIVE);
    delete ("e", 0);
    CALL(broker_queue_purge(rig.ch, B("e"), rig_done, "purge"));
    bind("e", "amq.direct", "k", false);
    CALL(broker_get(rig.ch, B("e"), false, rig_on_get, rig_done, "get"));
    CALL(broker_consume(rig.ch, B("e"), B("t"), 0, BYTES_NONE, rig_done, "consume"));
    EXPECT_SAID("delete " LOCKED("e") "purge " LOCKED("e") "bind " LOCKED("e") "get " LOCKED(
        "e") "consume " LOCKED("e") "declare " LOCKED("e") "declare " LOCKED("e"));
    EXPECT_CALLS("barrier\nbarrier\n");
}

Test(broker_queue, unbinding_somebody_elses_exclusive_queue_is_refused_only_if_it_is_bound)
{
    rig_exclusive("e", rig.session->id | UINT64_C(1) << 48); /* of another shard */
    bind("e", "amq.direct", "k", true);
    EXPECT_SAID("unbind ok 'e' 0 0\n");
    rig_bind("amq.direct", "e", "k");
    bind("e", "amq.direct", "k", true);
    EXPECT_SAID("unbind " LOCKED("e"));
}

/* --- delete, purge ---------------------------------------------------------------------------- */

Test(broker_queue, delete_seals_then_deletes)
{
    rig_queue("q");
    delete ("q", 0);
    EXPECT_CALLS("q open\nq seal flags=0\n");
    rig_reply("q", QUEUE_OK, 7);
    EXPECT_SAID("delete ok 'q' 7 0\n");
    EXPECT_CALLS("propose delete_queue\nq close\n");
    delete ("q", 0); /* again: there is none, and that is fine */
    EXPECT_SAID("delete ok 'q' 0 0\n");
    EXPECT_CALLS("barrier\n");
}

Test(broker_queue, delete_only_if)
{
    rig_queue("q");
    delete ("q", BROKER_IF_UNUSED);
    EXPECT_CALLS("q open\nq seal flags=4\n");
    rig_reply("q", QUEUE_IN_USE, 0);
    EXPECT_SAID("delete 406 queue 'q' in vhost '/' in use\n");
    delete ("q", BROKER_IF_EMPTY);
    EXPECT_CALLS("q seal flags=8\n");
    rig_reply("q", QUEUE_NOT_EMPTY, 0);
    EXPECT_SAID("delete 406 queue 'q' in vhost '/' not empty\n");
    delete ("q", BROKER_IF_EMPTY | BROKER_IF_UNUSED);
    rig_reply("q", QUEUE_IN_USE, 2); /* and two are ready, which is told */
    EXPECT_SAID("delete 406 queue 'q' in vhost '/' not empty\n");
    delete ("q", BROKER_IF_EMPTY | BROKER_IF_UNUSED);
    rig_reply("q", QUEUE_IN_USE, 0);
    EXPECT_SAID("delete 406 queue 'q' in vhost '/' in use\n");
}

Test(broker_queue, quorum_queues_know_no_conditions)
{
    declare_type("q", BROKER_DURABLE, "quorum");
    (void)rig_said();
    delete ("q", BROKER_IF_UNUSED);
    delete ("q", BROKER_IF_EMPTY);
    EXPECT_SAID("delete 540! cannot delete queue 'q' in vhost '/'. queue.delete operations with "
                "if-unused flag set are not supported by "
                "quorum queues\ndelete 540! cannot delete queue 'q' in vhost '/'. queue.delete "
                "operations with if-empty flag set are not "
                "supported by quorum queues\n");
}

Test(broker_queue, somebody_else_deletes_it_first)
{
    rig_queue("q");
    delete ("q", BROKER_IF_UNUSED);
    rig_turn();
    rig_delete("q");
    EXPECT_SAID("delete ok 'q' 0 0\n");
}

/* Sim seed 20759: this node's view is behind, and the queue that it shows has been deleted and
 * declared anew elsewhere. The client that asks knows of the new one. */
Test(broker_queue, a_queue_that_was_declared_anew_is_deleted_too)
{
    rig_queue("q");
    const struct catalog_queue *old = catalog_queue(rig.broker->view, B("/"), B("q"));
    const struct catalog_command gone = {.kind = CATALOG_DELETE_QUEUE, .u.delete_queue = {old->id}};
    const struct catalog_command anew = {.kind = CATALOG_DECLARE_QUEUE,
                                         .u.queue = {.vhost = B("/"),
                                                     .name = B("q"),
                                                     .type = CATALOG_CLASSIC,
                                                     .run = CATALOG_RUN_LOCAL,
                                                     .local = {{1, 1}, 1, 0}}};
    rig_apply_silently(&gone);
    rig_apply_silently(&anew);
    delete ("q", 0);
    EXPECT_CALLS("q open\nq seal flags=0\n");
    rig_show_view();
    EXPECT_SAID("");
    EXPECT_CALLS("q close\npropose delete_queue\nq open\nq seal flags=0\n");
    rig_reply("q", QUEUE_OK, 3);
    EXPECT_SAID("delete ok 'q' 3 0\n");
    cr_assert_null(catalog_queue(rig.broker->view, B("/"), B("q")));
}

/* Sealed by us: it is our deletion, whoever took it out of the catalog. A queue that was declared
 * since is not meant. */
Test(broker_queue, a_queue_that_was_declared_after_its_deletion_stays)
{
    rig_queue("q");
    rig.hold = true;
    delete ("q", 0);
    (void)rig_calls();
    rig_reply("q", QUEUE_OK, 7);
    EXPECT_CALLS("propose delete_queue\n");
    rig_delete("q"); /* its outcome was lost: it is proposed, and applied, again */
    rig_queue("q");
    rig.hold = false;
    EXPECT_SAID("delete ok 'q' 7 0\n");
    cr_assert_not_null(catalog_queue(rig.broker->view, B("/"), B("q")));
}

Test(broker_queue, without_a_leader_the_time_limit_answers)
{
    rig_queue("q");
    delete ("q", 0);
    rig_turn();
    rig.now_ms += 15001;
    EXPECT_SAID("delete 541! timed out waiting for queue 'q' in vhost '/': it has no leader\n");
    rig_reply("q", QUEUE_OK, 0); /* too late: nobody waits */
    EXPECT_SAID("");
}

Test(broker_queue, purge)
{
    rig_queue("q");
    declare("q", 0);
    (void)rig_said();
    (void)rig_calls();
    CALL(broker_queue_purge(rig.ch, BYTES_NONE, rig_done, "purge")); /* the last declared */
    EXPECT_CALLS("q open\nq purge\n");
    rig_reply("q", QUEUE_OK, 12);
    EXPECT_SAID("purge ok '' 12 0\n");
    CALL(broker_queue_purge(rig.ch, B("none"), rig_done, "purge"));
    EXPECT_SAID("purge 404 no queue 'none' in vhost '/'\n");
    CALL(broker_queue_purge(rig.ch, B("q"), rig_done, "purge"));
    rig_turn();
    rig_delete("q"); /* meanwhile */
    EXPECT_SAID("purge 404 no queue 'q' in vhost '/'\n");
}

Test(broker_queue, auto_delete_is_repeated_until_it_worked)
{
    rig_queue("q");
    uint64_t id = catalog_queue(rig.broker->view, B("/"), B("q"))->id;
    rig.no_leader = true;
    CALL(broker_queue_unused(rig.broker, id));
    CALL(broker_queue_unused(rig.broker, id));
    EXPECT_CALLS("propose delete_queue\n");
    rig.no_leader = false;
    rig.now_ms += 500;
    EXPECT_CALLS("propose delete_queue\n");
    cr_assert_null(catalog_queue(rig.broker->view, B("/"), B("q")));
    rig.now_ms += 500;
    EXPECT_CALLS("");
    cr_assert(list_is_empty(&rig.broker->deletions));
}

/* --- bind ------------------------------------------------------------------------------------- */

Test(broker_queue, binding)
{
    rig_queue("q");
    bind("q", "amq.direct", "k", false);
    bind("q", "amq.direct", "k", false); /* again: fine */
    bind("none", "amq.direct", "k", false);
    bind("q", "none", "k", false);
    bind("none", "none", "k", false); /* the exchange is named first */
    bind("q", "", "k", false);
    EXPECT_SAID("bind 403 operation not permitted on the default exchange\n"
                "bind 404 no queue 'none' in vhost '/'\nbind 404 no exchange 'none' in vhost "
                "'/'\nbind 404 no exchange 'none' in vhost '/'\n"
                "bind ok 'q' 0 0\nbind ok 'q' 0 0\n");
    bind("q", "amq.direct", "k", true);
    bind("q", "amq.direct", "k", true);
    bind("none", "none", "k", true);
    bind("q", "", "k", true);
    EXPECT_SAID("unbind 403 operation not permitted on the default exchange\nunbind ok 'none' 0 "
                "0\nunbind ok 'q' 0 0\nunbind ok 'q' 0 0\n");
}

Test(broker_queue, with_empty_names_the_key_is_the_queue)
{
    declare("q", 0);
    (void)rig_said();
    bind("", "amq.direct", "", false);
    EXPECT_SAID("bind ok 'q' 0 0\n");
    struct catalog_binding_spec spec = {B("/"), B("amq.direct"), B("q"),
                                        B("q"), BYTES_NONE,      CATALOG_TO_QUEUE};
    cr_assert_not_null(catalog_binding(rig.broker->view, &spec));
}

Test(broker_queue, permissions_of_bind)
{
    rig_queue("w1");
    rig_exchange("r1", "direct", BYTES_NONE);
    rig.ch = rig_channel(rig_session("limited", "/"), 1);
    bind("w1", "r1", "k", false);
    bind("x", "r1", "k", false);
    bind("w1", "x", "k", false);
    EXPECT_SAID("bind 403 write access to queue 'x' in vhost '/' refused for user 'limited'\n"
                "bind 403 read access to exchange 'x' in vhost '/' refused for user "
                "'limited'\nbind ok 'w1' 0 0\n");
}
