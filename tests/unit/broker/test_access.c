/* Who may do what: topic permissions, limits of connections, channels and queues, default queue
 * types, what happens to connections whose user or vhost goes. */
#include "rig.h"

TestSuite(broker_access, .init = rig_init, .fini = rig_deinit);

static void topic_permission(const char *user, const char *exchange, const char *write,
                             const char *read)
{
    struct catalog_command set = {
        .kind = CATALOG_SET_TOPIC_PERMISSION,
        .u.topic_permission = {B(user), B("/"), B(exchange), B(write), B(read)}};
    rig_apply(&set);
}

static void vhost_limits(int64_t connections, int64_t queues)
{
    struct catalog_command set = {.kind = CATALOG_SET_VHOST_LIMITS,
                                  .u.vhost_limits = {B("/"), {connections, queues}}};
    rig_apply(&set);
}

static void user_limits(const char *user, int64_t connections, int64_t channels)
{
    struct catalog_command set = {.kind = CATALOG_SET_USER_LIMITS,
                                  .u.user_limits = {B(user), {connections, channels}}};
    rig_apply(&set);
}

/* --- topics ----------------------------------------------------------------------------------- */

static struct bytes cc(const char *key)
{
    static uint8_t bytes[128];
    struct writer w;
    struct writer headers;
    writer_init(&headers, 64);
    const uint32_t mark = wire_table_put_array_begin(&headers, "CC");
    wire_value_put_longstr(&headers, B(key));
    wire_value_put_end(&headers, mark);
    writer_init(&w, 64);
    put_be16(&w, 1u << 13); /* headers */
    put_be32(&w, (uint32_t)writer_size(&headers));
    put_view(&w, writer_bytes(&headers));
    writer_deinit(&headers);
    const size_t size = writer_size(&w);
    cr_assert_leq(size, sizeof bytes);
    memcpy(bytes, writer_bytes(&w).data, size);
    writer_deinit(&w);
    return bytes_make(bytes, size);
}

Test(broker_access, topics_are_written_by_every_key)
{
    rig_queue("q");
    rig_bind("amq.topic", "q", "#");
    rig_bind("amq.direct", "q", "secret");
    topic_permission("guest", "amq.topic", "^{vhost}{username}\\.", "^r");
    rig_publish("amq.topic", "/guest.a", BYTES_NONE, 0);
    EXPECT_SAID("routed\n");
    rig_publish("amq.topic", "/guest.a", BYTES_NONE, 0); /* from the cache */
    rig_publish("amq.topic", "other", BYTES_NONE, 0);
    EXPECT_SAID(
        "routed\nrefused 403 write access to topic 'other' in exchange 'amq.topic' in vhost "
        "'/' refused for user 'guest'\n");
    struct bytes props = cc("secret");
    static const uint8_t raw[] = {WIRE_PROP_EXPIRATION >> 8, WIRE_PROP_EXPIRATION & 0xff, 1, 'x'};
    const struct bytes bad = bytes_make(raw, sizeof raw);
    rig_publish("amq.topic", "/guest.a", props, 0);
    EXPECT_SAID("refused 403 write access to topic 'secret' in exchange 'amq.topic' in vhost '/' "
                "refused for user 'guest'\n");
    rig_publish("amq.topic", "other", bad, 0); /* the key is looked at before properties */
    EXPECT_SAID("refused 403 write access to topic 'other' in exchange 'amq.topic' in vhost '/' "
                "refused for user 'guest'\n");
    rig_publish("amq.direct", "secret", BYTES_NONE, 0); /* topic exchanges only */
    EXPECT_SAID("routed\n");
    topic_permission("guest", "amq.topic", "", "");
    rig_publish("amq.topic", "/guest.a", BYTES_NONE, 0); /* the cache does not know better */
    EXPECT_SAID("refused 403 write access to topic '/guest.a' in exchange 'amq.topic' in vhost '/' "
                "refused for user 'guest'\n");
    rig_publish("amq.topic", "", BYTES_NONE, 0); /* the empty pattern is for the empty key */
    EXPECT_SAID("routed\n");
}

Test(broker_access, topics_are_bound_by_the_key)
{
    rig_queue("q");
    rig_exchange("x", "fanout", BYTES_NONE);
    topic_permission("guest", "amq.topic", "", "^r\\.");
    CALL(broker_queue_bind(rig.ch, B("q"), B("amq.topic"), B("r.a"), BYTES_NONE, false, rig_done,
                           "good"));
    CALL(broker_queue_bind(rig.ch, B("q"), B("amq.topic"), B("w.a"), BYTES_NONE, false, rig_done,
                           "bad"));
    CALL(broker_exchange_bind(rig.ch, B("x"), B("amq.topic"), B("w"), BYTES_NONE, false, rig_done,
                              "bad"));
    CALL(broker_queue_bind(rig.ch, B("q"), B("amq.topic"), B("w.a"), BYTES_NONE, true, rig_done,
                           "unbind"));
    EXPECT_SAID(
        "bad 403 read access to topic 'w.a' in exchange 'amq.topic' in vhost '/' refused for user "
        "'guest'\n"
        "bad 403 read access to topic 'w' in exchange 'amq.topic' in vhost '/' refused for user "
        "'guest'\n"
        "unbind 403 read access to topic 'w.a' in exchange 'amq.topic' in vhost '/' refused for "
        "user 'guest'\n"
        "good ok 'q' 0 0\n");
}

/* --- connections ------------------------------------------------------------------------------ */

Test(broker_access, a_vhosts_limit_counts_what_is_open_and_refuses_the_next)
{
    vhost_limits(2, -1);
    EXPECT_SAID("");
    EXPECT_CALLS("propose put_seat\n"); /* the rig's own, open before */
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 1);
    struct broker_session *second = rig_session("actor", "/");
    cr_assert_not_null(second);
    /* Its seat is not in the view yet: it counts all the same. */
    cr_assert_null(rig_session("actor", "/"));
    EXPECT_SAID("530! access to vhost '/' refused for user 'actor': connection limit (2) is "
                "reached\n");
    rig_turn();
    cr_assert_null(rig_session("actor", "/"));
    (void)rig_said();
    (void)rig_calls();
    CALL(broker_session_close(second, NULL, NULL));
    EXPECT_SAID("");
    EXPECT_CALLS("propose drop_seat\n");
    cr_assert_not_null(rig_session("actor", "/"));
    EXPECT_SAID("");
    vhost_limits(-1, -1); /* what was counted is forgotten */
    rig_turn();
    cr_assert(list_is_empty(&rig.broker->seats));
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 0);
    cr_assert_not_null(rig_session("actor", "/"));
    vhost_limits(0, -1);
    rig_turn();
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 3);
    cr_assert_null(rig_session("actor", "/"));
    (void)rig_said();
}

static void on_ready(void *ctx, const struct broker_fault *fault)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    strbuf_printf(&rig.said, "ready %u %s\n", fault->code, fault->text);
}

Test(broker_access, who_is_counted_waits_for_the_cluster)
{
    struct broker_session *session = rig_session("actor", "/");
    cr_assert_not(broker_session_wait(session, on_ready)); /* nothing counts it */
    vhost_limits(4, -1);
    rig_turn();
    session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready));
    EXPECT_SAID("ready 0 \n");
    /* Another node takes the last place before this node's proposal is applied. */
    rig.hold = true;
    session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready));
    struct catalog_command other = {.kind = CATALOG_PUT_SEAT,
                                    .u.seat = {1, 999, B("/"), B("actor"), 0, false}};
    rig_apply_silently(&other);
    rig.hold = false;
    EXPECT_SAID("ready 530 access to vhost '/' refused for user 'actor': connection limit (4) is "
                "reached\n");
    CALL(broker_session_close(session, NULL, NULL));
    EXPECT_SAID("");
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 4);
}

Test(broker_access, without_a_leader_what_this_node_sees_is_enough_after_a_while)
{
    vhost_limits(2, -1);
    rig_turn();
    rig.hold = true;
    struct broker_session *session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready));
    rig.now_ms += 2999;
    EXPECT_SAID("");
    rig.now_ms += 1;
    EXPECT_SAID("ready 0 \n");
    struct broker_session *other = rig_session("actor", "/");
    cr_assert_null(other);
    (void)rig_said();
    rig.hold = false;
    EXPECT_SAID("");
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 2);
}

/* The view of a shard may still have the seat of a connection that is closed by now. */
Test(broker_access, a_view_that_is_behind_refuses_nobody)
{
    vhost_limits(2, -1);
    rig_turn();
    struct catalog_command other = {.kind = CATALOG_PUT_SEAT,
                                    .u.seat = {1, 999, B("/"), B("actor"), 0, false}};
    rig_apply(&other);
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 2);
    struct broker_session *session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready)); /* it is not: the place is taken */
    EXPECT_SAID("ready 530 access to vhost '/' refused for user 'actor': connection limit (2) is "
                "reached\n");
    CALL(broker_session_close(session, NULL, NULL));
    other.kind = CATALOG_DROP_SEAT;
    rig_apply_silently(&other);
    session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready)); /* it is */
    EXPECT_SAID("ready 0 \n");
    (void)rig_said();
}

Test(broker_access, without_a_leader_who_is_too_many_by_the_view_is_refused)
{
    vhost_limits(2, -1);
    rig_turn();
    struct catalog_command other = {.kind = CATALOG_PUT_SEAT,
                                    .u.seat = {1, 999, B("/"), B("actor"), 0, false}};
    rig_apply(&other);
    rig.hold = true;
    cr_assert(broker_session_wait(rig_session("actor", "/"), on_ready));
    rig.now_ms += 3000;
    EXPECT_SAID("ready 530 access to vhost '/' refused for user 'actor': connection limit (2) is "
                "reached\n");
    rig.hold = false;
    rig_turn();
    (void)rig_said();
}

static void on_closed(void *ctx)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    strbuf_printf(&rig.said, "closed\n");
}

/* Who hears that a connection is closed may open the next one. */
Test(broker_access, closing_waits_until_the_seat_is_given_back)
{
    struct broker_session *session = rig_session("actor", "/");
    vhost_limits(5, -1);
    rig_turn();
    (void)rig_said();
    rig.hold = true;
    CALL(broker_session_close(session, on_closed, NULL));
    EXPECT_SAID("");
    rig.hold = false;
    EXPECT_SAID("closed\n");
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 1);
    session = rig_session("actor", "/"); /* while its seat is proposed, too; not for ever */
    rig.hold = true;
    CALL(broker_session_close(session, on_closed, NULL));
    rig.now_ms += 2999;
    EXPECT_SAID("");
    rig.now_ms += 1;
    EXPECT_SAID("closed\n");
    rig.hold = false;
    rig_turn();
    rig_turn();
    EXPECT_SAID("");
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 1);
}

Test(broker_access, a_wait_ends_with_the_limit_or_with_the_session)
{
    vhost_limits(4, -1);
    rig_turn();
    rig.hold = true;
    struct broker_session *session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready));
    struct catalog_command none = {.kind = CATALOG_SET_VHOST_LIMITS,
                                   .u.vhost_limits = {B("/"), {-1, -1}}};
    rig_apply(&none);
    rig.hold = false;
    EXPECT_SAID("ready 0 \n");
    vhost_limits(4, -1);
    rig_turn();
    rig.hold = true;
    session = rig_session("actor", "/");
    cr_assert(broker_session_wait(session, on_ready));
    CALL(broker_session_close(session, NULL, NULL));
    rig.hold = false;
    rig.now_ms += 5000;
    EXPECT_SAID("");
}

/* The same, but nobody waits any more. */
Test(broker_access, who_loses_a_race_for_the_last_connection_is_closed)
{
    vhost_limits(2, -1);
    rig_turn();
    rig.hold = true;
    cr_assert_not_null(rig_session("actor", "/"));
    struct catalog_command other = {.kind = CATALOG_PUT_SEAT,
                                    .u.seat = {1, 999, B("/"), B("actor"), 0, false}};
    rig_apply_silently(&other);
    rig.hold = false;
    EXPECT_SAID(
        "close access to vhost '/' refused for user 'actor': connection limit (2) is reached\n");
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 2);
}

Test(broker_access, a_seat_that_nobody_answers_for_is_asked_for_again)
{
    vhost_limits(5, -1);
    rig_turn();
    rig.no_leader = true;
    struct broker_session *session = rig_session("actor", "/");
    rig_turn();
    rig.no_leader = false;
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 1);
    rig.now_ms += 500;
    rig_turn();
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 2);
    rig.no_leader = true;
    CALL(broker_session_close(session, NULL, NULL));
    rig_turn();
    rig.no_leader = false;
    rig.now_ms += 500;
    rig_turn();
    rig_turn();
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 1);
    (void)rig_said();
}

Test(broker_access, a_session_that_ends_while_its_seat_is_proposed_gives_it_back)
{
    vhost_limits(5, -1);
    rig_turn();
    rig.hold = true;
    struct broker_session *session = rig_session("actor", "/");
    CALL(broker_session_close(session, NULL, NULL));
    rig.hold = false;
    rig_turn();
    cr_assert_eq(catalog_vhost(rig.broker->view, B("/"))->connection_count, 1);
    (void)rig_said();
}

Test(broker_access, a_users_limits_count_connections_and_channels)
{
    user_limits("actor", 1, 2);
    struct broker_session *session = rig_session("actor", "/");
    cr_assert_null(rig_session("actor", "/"));
    EXPECT_SAID("530! connection refused for user 'actor': user connection limit (1) is reached\n");
    struct broker_fault fault = {0};
    cr_assert(broker_channel_may_open(session, &fault));
    (void)rig_channel(session, 1);
    cr_assert(broker_channel_may_open(session, &fault));
    struct broker_channel *second = rig_channel(session, 2);
    cr_assert_not(broker_channel_may_open(session, &fault));
    cr_assert_eq(fault.code, 530);
    cr_assert_str_eq(fault.text, "number of channels opened for user 'actor' has reached the "
                                 "maximum allowed user limit of (2)");
    rig_turn();
    cr_assert_eq(catalog_user(rig.broker->view, B("actor"))->channel_count, 2);
    cr_assert_not(broker_channel_may_open(session, &fault));
    CALL(broker_channel_close(second));
    cr_assert(broker_channel_may_open(session, &fault));
    rig_turn();
    cr_assert_eq(catalog_user(rig.broker->view, B("actor"))->channel_count, 1);
    cr_assert(broker_channel_may_open(rig.session, &fault)); /* another user */
    CALL(broker_session_close(session, NULL, NULL));
    rig_turn();
    cr_assert_eq(catalog_user(rig.broker->view, B("actor"))->connection_count, 0);
    cr_assert_eq(catalog_user(rig.broker->view, B("actor"))->channel_count, 0);
    (void)rig_said();
}

Test(broker_access, a_users_limit_of_channels_can_come_later)
{
    (void)rig_channel(rig.session, 2);
    user_limits("guest", -1, 1);
    rig_turn();
    cr_assert_eq(catalog_user(rig.broker->view, B("guest"))->channel_count, 2);
    struct broker_fault fault = {0};
    cr_assert_not(broker_channel_may_open(rig.session, &fault));
    EXPECT_SAID(""); /* what is open stays */
}

Test(broker_access, connections_of_a_deleted_user_or_vhost_are_closed)
{
    struct catalog_command vhost = {.kind = CATALOG_PUT_VHOST, .u.vhost = {.name = B("v")}};
    rig_apply(&vhost);
    struct catalog_command set = {.kind = CATALOG_SET_PERMISSION,
                                  .u.permission = {B("guest"), B("v"), B(".*"), B(".*"), B(".*")}};
    rig_apply(&set);
    (void)rig_session("guest", "v");
    (void)rig_session("actor", "/");
    EXPECT_SAID("");
    struct catalog_command clear = {.kind = CATALOG_CLEAR_PERMISSION,
                                    .u.permission = {.user = B("actor"), .vhost = B("/")}};
    rig_apply(&clear); /* as in RabbitMQ: it lives on, and may do nothing any more */
    EXPECT_SAID("");
    struct catalog_command user = {.kind = CATALOG_DELETE_USER, .u.delete_user = {B("actor")}};
    rig_apply(&user);
    EXPECT_SAID("close user 'actor' is deleted\n");
    struct catalog_command remove = {.kind = CATALOG_DELETE_VHOST, .u.delete_vhost = {B("v")}};
    rig_apply_silently(&remove);
    rig_apply(&vhost); /* made again before anybody here saw that it was gone */
    EXPECT_SAID("close vhost 'v' is deleted\n");
    rig_apply(&set);
    EXPECT_SAID(""); /* once */
    struct catalog_command again = {.kind = CATALOG_DELETE_USER, .u.delete_user = {B("guest")}};
    rig_apply_silently(&again);
    struct catalog_command made = {.kind = CATALOG_PUT_USER,
                                   .u.user = {.name = B("guest"), .parts = CATALOG_USER_CREATE}};
    rig_apply(&made);
    EXPECT_SAID("close user 'guest' is deleted\n"); /* the rig's; the other one has been told */
}

Test(broker_access, a_new_secret_needs_a_user_that_may_use_the_vhost)
{
    struct broker_fault fault = {0};
    cr_assert(broker_session_update_secret(rig.session, B("anything"), &fault));
    struct catalog_command clear = {.kind = CATALOG_CLEAR_PERMISSION,
                                    .u.permission = {.user = B("guest"), .vhost = B("/")}};
    rig_apply(&clear);
    cr_assert_not(broker_session_update_secret(rig.session, B("anything"), &fault));
    cr_assert_str_eq(fault.text, "access to vhost '/' refused for user 'guest'");
    struct catalog_command user = {.kind = CATALOG_DELETE_USER, .u.delete_user = {B("guest")}};
    rig_apply(&user);
    cr_assert_not(broker_session_update_secret(rig.session, B("anything"), &fault));
    cr_assert_eq(fault.code, 530);
    cr_assert_str_eq(fault.text, "New secret was refused by one of the backends");
    EXPECT_SAID("close user 'guest' is deleted\n");
}

/* --- queues ----------------------------------------------------------------------------------- */

static void declare(const char *name, uint32_t flags)
{
    CALL(broker_queue_declare(rig.ch, B(name), flags, BYTES_NONE, rig_done, (void *)name));
}

Test(broker_access, the_limit_of_queues_has_rabbitmqs_text)
{
    vhost_limits(-1, 1);
    declare("a", 0);
    declare("b", 0);
    declare("a", 0);
    EXPECT_SAID("a ok 'a' 0 0\n"
                "b 406 cannot declare queue 'b': queue limit in vhost '/' (1) is reached\n"
                "a ok 'a' 0 0\n");
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-queue-type", "odd");
    CALL(broker_queue_declare(rig.ch, B("b"), 0, writer_bytes(&w), rig_done, "b"));
    EXPECT_SAID("b 406 cannot declare queue 'b': queue limit in vhost '/' (1) is reached\n");
    writer_deinit(&w);
}

Test(broker_access, a_vhosts_default_type_is_for_queues_that_can_have_it)
{
    struct catalog_command change = {
        .kind = CATALOG_CHANGE_VHOST,
        .u.change_vhost = {{.name = B("/"), .default_queue_type = B("quorum")},
                           CATALOG_VHOST_QUEUE_TYPE}};
    rig_apply(&change);
    declare("d", BROKER_DURABLE);
    declare("t", 0);
    declare("e", BROKER_EXCLUSIVE | BROKER_DURABLE);
    rig_turn();
    (void)rig_said();
    cr_assert_eq(catalog_queue(rig.broker->view, B("/"), B("d"))->spec.type, CATALOG_QUORUM);
    cr_assert_eq(catalog_queue(rig.broker->view, B("/"), B("t"))->spec.type, CATALOG_CLASSIC);
    cr_assert_eq(catalog_queue(rig.broker->view, B("/"), B("e"))->spec.type, CATALOG_CLASSIC);
    struct bytes type;
    cr_assert(wire_table_get_string(catalog_queue(rig.broker->view, B("/"), B("d"))->spec.arguments,
                                    "x-queue-type", &type));
    cr_assert(bytes_eq_cstr(type, "quorum"));
    declare("d", BROKER_DURABLE); /* the same again is equivalent */
    EXPECT_SAID("d ok 'd' 0 0\n");
}
