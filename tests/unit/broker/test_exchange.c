/* exchange.declare, delete, bind, unbind. */
#include "rig.h"

TestSuite(broker_exchange, .init = rig_init, .fini = rig_deinit);

static void declare(const char *name, const char *type, uint32_t flags, struct bytes args)
{
    CALL(broker_exchange_declare(rig.ch, B(name), B(type), flags, args, rig_done, "declare"));
}

static void delete (const char *name, uint32_t flags)
{
    CALL(broker_exchange_delete(rig.ch, B(name), flags, rig_done, "delete"));
}

static void bind(const char *destination, const char *source, bool unbind)
{
    CALL(broker_exchange_bind(rig.ch, B(destination), B(source), B("k"), BYTES_NONE, unbind,
                              rig_done, unbind ? "unbind" : "bind"));
}

Test(broker_exchange, declare)
{
    declare("x", "topic", BROKER_DURABLE, BYTES_NONE);
    EXPECT_SAID("declare ok 'x' 0 0\n");
    declare("x", "topic", BROKER_DURABLE, BYTES_NONE);
    EXPECT_SAID("declare ok 'x' 0 0\n");
    EXPECT_CALLS(
        "propose declare_exchange\nbarrier\n"); /* what is there may be gone already, elsewhere */
    declare("x", "fanout", BROKER_DURABLE, BYTES_NONE);
    declare("x", "odd", BROKER_PASSIVE, BYTES_NONE); /* passive compares nothing */
    declare("y", "odd", 0, BYTES_NONE);
    declare("none", "", BROKER_PASSIVE, BYTES_NONE);
    declare("", "direct", 0, BYTES_NONE);
    declare("", "odd", 0, BYTES_NONE); /* the type is looked at first */
    declare("", "direct", BROKER_PASSIVE, BYTES_NONE);
    declare("amq.mine", "direct", 0, BYTES_NONE);
    declare("amq.direct", "direct", BROKER_DURABLE, BYTES_NONE);
    EXPECT_SAID("declare 406 unknown exchange type 'odd'\n"
                "declare 403 operation not permitted on the default exchange\n"
                "declare 406 unknown exchange type 'odd'\n"
                "declare 403 operation not permitted on the default exchange\n"
                "declare 403 exchange name 'amq.mine' contains reserved prefix 'amq.*'\n"
                "declare 406 inequivalent arg 'type' for exchange 'x' in vhost '/': received "
                "'fanout' but current is 'topic'\n"
                "declare ok 'x' 0 0\n"
                "declare 404 no exchange 'none' in vhost '/'\n"
                "declare ok 'amq.direct' 0 0\n");
}

Test(broker_exchange, two_declare_the_same_at_once)
{
    struct broker_channel *other = rig_channel(rig.session, 2);
    rig.hold = true;
    declare("x", "topic", 0, BYTES_NONE);
    CALL(broker_exchange_declare(other, B("x"), B("direct"), 0, BYTES_NONE, rig_done, "other"));
    rig.hold = false;
    EXPECT_SAID("declare ok 'x' 0 0\nother 406 inequivalent arg 'type' for exchange 'x' in vhost "
                "'/': received 'direct' but current is "
                "'topic'\n");
}

Test(broker_exchange, alternate_exchanges)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "alternate-exchange", "ae");
    declare("x", "direct", 0, writer_bytes(&w));
    EXPECT_SAID("declare ok 'x' 0 0\n");
    declare("x", "direct", 0, BYTES_NONE);
    EXPECT_SAID("declare 406 inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': "
                "received none but current is the value "
                "'ae' of type 'longstr'\n");
    writer_deinit(&w);
    declare("x", "direct", 0,
            bytes_make("\x12"
                       "alternate-exchangeV",
                       20));
    EXPECT_SAID("declare 406 inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': "
                "received none but current is 'ae'\n");
    declare("x", "direct", 0,
            bytes_make("\x12"
                       "alternate-exchangex\0\0\0\2be",
                       26));
    EXPECT_SAID("declare 406 inequivalent arg 'alternate-exchange' for exchange 'x' in vhost '/': "
                "received 'be' but current is 'ae'\n");
    writer_init(&w, 64);
    wire_table_put_int32(&w, "alternate-exchange", 1);
    declare("y", "direct", 0, writer_bytes(&w));
    EXPECT_SAID("declare 406 invalid type 'signedint' for arg 'alternate-exchange' in exchange 'y' "
                "in vhost '/'\n");
    writer_deinit(&w);
}

Test(broker_exchange, delete)
{
    rig_queue("q");
    rig_exchange("x", "direct", BYTES_NONE);
    rig_bind("x", "q", "k");
    delete ("x", BROKER_IF_UNUSED);
    EXPECT_SAID("delete 406 exchange 'x' in vhost '/' in use\n");
    delete ("x", 0);
    delete ("x", 0); /* there is none: fine */
    delete ("", 0);
    delete ("amq.direct", 0);
    EXPECT_SAID("delete 403 operation not permitted on the default exchange\n"
                "delete 403 deletion of system exchange 'amq.direct' in vhost '/' not allowed\n"
                "delete ok 'x' 0 0\ndelete ok 'x' 0 0\n");
}

Test(broker_exchange, bind)
{
    rig_exchange("a", "direct", BYTES_NONE);
    rig_exchange("b", "direct", BYTES_NONE);
    bind("a", "b", false);
    bind("a", "b", false);
    EXPECT_SAID("bind ok 'a' 0 0\nbind ok 'a' 0 0\n");
    bind("none", "b", false);
    bind("a", "none", false);
    EXPECT_SAID(
        "bind 404 no exchange 'none' in vhost '/'\nbind 404 no exchange 'none' in vhost '/'\n");
    bind("", "b", false);
    bind("a", "", false);
    EXPECT_SAID("bind 403 operation not permitted on the default exchange\nbind 403 operation not "
                "permitted on the default exchange\n");
    bind("a", "b", true);
    bind("none", "b", true);
    EXPECT_SAID("unbind ok 'a' 0 0\nunbind ok 'none' 0 0\n");
}

static size_t bindings_of_q(void)
{
    const struct catalog_view *view = catalog_view_peek(rig.catalog);
    struct catalog_iter it;
    size_t count = 0;
    catalog_iter_bindings(&it, view, catalog_vhost(view, B("/")));
    while (catalog_iter_next(&it) != NULL) {
        count++;
    }
    return count;
}

/* The order of arguments does not count, neither for those that were kept as they were given. */
Test(broker_exchange, a_binding_is_found_whatever_the_order_of_its_arguments)
{
    struct writer sorted;
    struct writer given;
    writer_init(&sorted, 64);
    writer_init(&given, 64);
    wire_table_put_cstr(&sorted, "a", "1");
    wire_table_put_cstr(&sorted, "b", "2");
    wire_table_put_cstr(&given, "b", "2");
    wire_table_put_cstr(&given, "a", "1");
    rig_queue("q");
    struct catalog_command c = {.kind = CATALOG_BIND,
                                .u.binding = {B("/"), B("amq.headers"), B("q"), B(""),
                                              writer_bytes(&given), CATALOG_TO_QUEUE}};
    rig_apply(&c); /* of an earlier version */
    for (uint32_t i = 0; i < 2; i++) {
        const bool unbind = i == 1;
        CALL(broker_queue_bind(rig.ch, B("q"), B("amq.headers"), B(""), writer_bytes(&given),
                               unbind, rig_done, unbind ? "unbind" : "bind"));
        rig_catalog();
        cr_assert_eq(bindings_of_q(), unbind ? 0 : 1);
    }
    for (uint32_t i = 0; i < 3; i++) {
        const bool unbind = i == 2;
        CALL(broker_queue_bind(rig.ch, B("q"), B("amq.headers"), B(""),
                               writer_bytes(i == 1 ? &sorted : &given), unbind, rig_done,
                               unbind ? "unbind" : "bind"));
        rig_catalog();
        cr_assert_eq(bindings_of_q(), unbind ? 0 : 1);
    }
    (void)rig_said();
    writer_deinit(&given);
    writer_deinit(&sorted);
}

Test(broker_exchange, a_binding_must_suit_the_type)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-match", "some");
    rig_queue("q");
    CALL(broker_queue_bind(rig.ch, B("q"), B("amq.headers"), B(""), writer_bytes(&w), false,
                           rig_done, "bind"));
    EXPECT_SAID("bind 406 Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, "
                "or any-with-x\n");
    rig_exclusive("e", rig.session->id | UINT64_C(1) << 48); /* whose it is comes behind that */
    CALL(broker_queue_bind(rig.ch, B("e"), B("amq.headers"), B(""), writer_bytes(&w), false,
                           rig_done, "bind"));
    EXPECT_SAID("bind 406 Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, "
                "or any-with-x\n");
    writer_deinit(&w);
}

/* A type may have something to say about the arguments of a new exchange; what is there already is
 * compared only. */
Test(broker_exchange, a_declaration_must_suit_the_type)
{
    struct writer w;
    declare("late", "x-delayed-message", 0, BYTES_NONE);
    EXPECT_SAID("declare 406 Invalid argument, 'x-delayed-type' must be an existing exchange "
                "type\n");
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-delayed-type", "x-delayed-message");
    declare("late", "x-delayed-message", 0, writer_bytes(&w));
    writer_deinit(&w);
    EXPECT_SAID("declare 406 Invalid argument, 'x-delayed-message' can't be used for "
                "'x-delayed-type'\n");
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-delayed-type", "odd");
    declare("late", "x-delayed-message", 0, writer_bytes(&w));
    writer_deinit(&w);
    EXPECT_SAID("declare 406 unknown exchange type 'odd'\n");
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "x-delayed-type", "topic");
    declare("late", "x-delayed-message", 0, writer_bytes(&w));
    writer_deinit(&w);
    EXPECT_SAID("declare ok 'late' 0 0\n");
    declare("late", "x-delayed-message", 0, BYTES_NONE);
    EXPECT_SAID("declare ok 'late' 0 0\n");
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "hash-property", "app_id");
    declare("hash", "x-consistent-hash", 0, writer_bytes(&w));
    writer_deinit(&w);
    EXPECT_SAID("declare 406 Unsupported property: app_id\n");
    EXPECT_CALLS("propose declare_exchange\nbarrier\n");
}

Test(broker_exchange, a_binding_must_suit_the_destination)
{
    rig_queue("q");
    rig_exchange("x", "x-local-random", BYTES_NONE);
    rig_exchange("y", "x-consistent-hash", BYTES_NONE);
    CALL(broker_queue_bind(rig.ch, B("q"), B("x"), B(""), BYTES_NONE, false, rig_done, "bind"));
    CALL(broker_queue_bind(rig.ch, B("q"), B("x"), B("k"), BYTES_NONE, true, rig_done, "unbind"));
    EXPECT_SAID("bind ok 'q' 0 0\nunbind ok 'q' 0 0\n");
    bind("y", "x", false);
    CALL(broker_exchange_bind(rig.ch, B("y"), B("x"), B(""), BYTES_NONE, false, rig_done, "bind"));
    bind("x", "y", false);
    EXPECT_SAID("bind 406 Non empty binding 'k' key not permitted\n"
                "bind 406 Destination not found\n"
                "bind 406 The binding key must be an integer: <<\"k\">>\n");
}

Test(broker_exchange, permissions)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "alternate-exchange", "w");
    rig_exchange("w1", "direct", BYTES_NONE);
    rig_exchange("r1", "direct", BYTES_NONE);
    rig.ch = rig_channel(rig_session("limited", "/"), 1);
    declare("x", "direct", 0, BYTES_NONE);
    declare("c", "direct", 0, writer_bytes(&w)); /* needs read on itself, too */
    delete ("x", 0);
    bind("x", "r1", false);
    bind("w1", "x", false);
    bind("x", "", false); /* what may not be written to comes before that it is the default one */
    bind("w1", "", false);
    EXPECT_SAID(
        "declare 403 configure access to exchange 'x' in vhost '/' refused for user 'limited'\n"
        "declare 403 read access to exchange 'c' in vhost '/' refused for user 'limited'\n"
        "delete 403 configure access to exchange 'x' in vhost '/' refused for user 'limited'\n"
        "bind 403 write access to exchange 'x' in vhost '/' refused for user 'limited'\n"
        "bind 403 read access to exchange 'x' in vhost '/' refused for user 'limited'\n"
        "bind 403 write access to exchange 'x' in vhost '/' refused for user 'limited'\n"
        "bind 403 operation not permitted on the default exchange\n");
    declare("c", "direct", 0, BYTES_NONE);
    bind("w1", "r1", false);
    EXPECT_SAID("declare ok 'c' 0 0\nbind ok 'w1' 0 0\n");
    writer_deinit(&w);
}
