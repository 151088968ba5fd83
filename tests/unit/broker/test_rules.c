/* Rules that need nothing but the view: arguments, equivalence, permissions, passwords. */
#include "rig.h"

TestSuite(broker_rules, .init = rig_init, .fini = rig_deinit);

/* A table from a text like "a=I5 b=Stext c=t1 d=F e=A f=V": type letter, then the value. */
static struct bytes table(struct writer *w, const char *text)
{
    static const uint8_t zero[4];
    writer_init(w, 64);
    while (*text != 0) {
        size_t key = strcspn(text, "=");
        wire_put_key(w, bytes_make(text, key));
        text += key + 1;
        char type = *text++;
        size_t size = strcspn(text, " ");
        char value[64] = {0};
        memcpy(value, text, size);
        if (type == 'S') {
            wire_value_put_longstr(w, bytes_make(text, size));
        } else if (type == 't') {
            wire_value_put_bool(w, value[0] == '1');
        } else if (type == 'I') {
            wire_value_put_int32(w, (int32_t)strtol(value, NULL, 10));
        } else if (type == 'l') {
            wire_value_put_int64(w, strtoll(value, NULL, 10));
        } else if (type == 'B') {
            wire_value_put_uint8(w, (uint8_t)strtol(value, NULL, 10));
        } else if (type == 'd') {
            wire_value_put_double(w, 1.5);
        } else if (type == 'V') {
            wire_value_put_void(w);
        } else if (type == 'A') {
            wire_value_put_array(w, bytes_make(zero, 0));
        } else {
            wire_value_put_table(w, bytes_make(zero, 0));
        }
        text += size;
        text += *text == ' ';
    }
    return writer_bytes(w);
}

#define ARG(name, why) "406 invalid arg '" name "' for queue 'q' in vhost '/': " why
#define TYPE(name, type)                                                                           \
    "406 invalid arg '" name "' for queue 'q' in vhost '/' of queue type rabbit_" type "_queue"
#define Q "x-queue-type=Squorum "

static const struct {
    const char *args, *expected; /* "" = fine */
} declare_args[] = {
    {"", ""},
    {"x-unknown=I5 y=F", ""},
    {"x-queue-type=Sclassic", ""},
    {"x-queue-type=S", ""},
    {"x-queue-type=I1", ARG("x-queue-type", "{unacceptable_type,signedint}")},
    {"x-queue-type=Sodd", ARG("x-queue-type", "\"unsupported queue type 'odd'\"")},
    {"x-queue-type=Sstream", "540! stream queues are not supported in this version"},
    {"x-message-ttl=I0", ""},
    {"x-message-ttl=l315360000000", ""},
    {"x-message-ttl=l315360000001", ARG("x-message-ttl", "{value_too_large,315360000001}")},
    {"x-message-ttl=I-1", ARG("x-message-ttl", "{value_negative,-1}")},
    {"x-message-ttl=Sfoo", ARG("x-message-ttl", "\"expected integer, got longstr\"")},
    {"x-message-ttl=d", ARG("x-message-ttl", "\"expected integer, got double\"")},
    {"x-expires=I0", ARG("x-expires", "{value_zero,0}")},
    {"x-expires=I-5", ARG("x-expires", "{value_negative,-5}")},
    {"x-expires=B1", ""},
    {"x-expires=V", ARG("x-expires", "\"expected integer, got void\"")},
    {"x-max-length=I-1", ARG("x-max-length", "{value_negative,-1}")},
    {"x-max-length=l9223372036854775807", ""},
    {"x-max-length=A", ARG("x-max-length", "\"expected integer, got array\"")},
    {"x-max-length-bytes=F", ARG("x-max-length-bytes", "\"expected integer, got table\"")},
    {"x-max-priority=I255", ""},
    {"x-max-priority=I256", ARG("x-max-priority", "{max_value_exceeded,256}")},
    {"x-max-priority=I-1", ARG("x-max-priority", "{value_negative,-1}")},
    {"x-max-priority=t1", ARG("x-max-priority", "\"expected integer, got bool\"")},
    {"x-overflow=Sdrop-head", ""},
    {"x-overflow=Sreject-publish-dlx", ""},
    {"x-overflow=Sdrop", ARG("x-overflow", "invalid_overflow")},
    {"x-overflow=I1", ARG("x-overflow", "{unacceptable_type,signedint}")},
    {"x-queue-mode=Slazy", ""},
    {"x-queue-mode=Sodd", ARG("x-queue-mode", "\"unsupported queue mode 'odd'\"")},
    {"x-queue-version=I2", ""},
    {"x-queue-version=I5", ARG("x-queue-version", "\"unsupported queue version '5'\"")},
    {"x-queue-version=I-1", ARG("x-queue-version", "{value_negative,-1}")},
    {"x-queue-version=I0", ARG("x-queue-version", "\"unsupported queue version '0'\"")},
    {"x-single-active-consumer=t1", ""},
    {"x-single-active-consumer=Strue",
     ARG("x-single-active-consumer", "{unacceptable_type,longstr}")},
    {"x-dead-letter-exchange=Sdlx", ""},
    {"x-dead-letter-exchange=I1",
     "406 invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"},
    {"x-dead-letter-exchange=Sdlx x-dead-letter-routing-key=Sk", ""},
    {"x-dead-letter-routing-key=Sk",
     ARG("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")},
    {"x-dead-letter-exchange=Sdlx x-dead-letter-routing-key=I1",
     ARG("x-dead-letter-routing-key", "{unacceptable_type,signedint}")},
    {"x-queue-leader-locator=Sbalanced", ""},
    {"x-queue-leader-locator=Snear", ARG("x-queue-leader-locator", "invalid_queue_locator_arg")},
    {"x-queue-master-locator=Smin-masters", ""},
    {"x-delivery-limit=I3", TYPE("x-delivery-limit", "classic")},
    {"x-quorum-initial-group-size=I3", TYPE("x-quorum-initial-group-size", "classic")},
    {"x-max-age=S1D", TYPE("x-max-age", "classic")},
    {"x-delivery-limit=S3", TYPE("x-delivery-limit", "classic")}, /* whatever the value */
    {Q, ""},
    {Q "x-delivery-limit=I-1", ""},
    {Q "x-quorum-initial-group-size=I0", ARG("x-quorum-initial-group-size", "{value_zero,0}")},
    {Q "x-quorum-initial-group-size=I65", ""},
    {Q "x-max-priority=I5", TYPE("x-max-priority", "quorum")},
    {Q "x-max-priority=Sodd", TYPE("x-max-priority", "quorum")},
    {Q "x-queue-mode=Slazy", TYPE("x-queue-mode", "quorum")},
    {Q "x-dead-letter-strategy=Sat-least-once", ""},
    {Q "x-dead-letter-strategy=Snever", ARG("x-dead-letter-strategy", "invalid_dlx_strategy")},
    {"x-dead-letter-strategy=Sat-most-once", TYPE("x-dead-letter-strategy", "classic")},
    /* Two at fault: the exchange's type before the queue's, then values, then names in the order of
     * the client. */
    {"x-expires=I0 x-queue-type=Sodd x-dead-letter-exchange=I1",
     "406 invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'"},
    {"x-expires=I0 x-queue-type=I1", ARG("x-queue-type", "{unacceptable_type,signedint}")},
    {"x-max-length=I-1 x-dead-letter-routing-key=Sk",
     ARG("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")},
    {Q "x-overflow=Sodd x-max-in-memory-length=I-1",
     ARG("x-max-in-memory-length", "{value_negative,-1}")},
    {"x-delivery-limit=I1 x-dead-letter-routing-key=Sk",
     ARG("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined")},
    {"x-max-age=S1h x-delivery-limit=I1", TYPE("x-max-age", "classic")},
    {"x-delivery-limit=I1 x-max-age=S1h", TYPE("x-delivery-limit", "classic")},
};

Test(broker_rules, arguments_of_queue_declare)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(declare_args); i++) {
        struct writer w;
        struct broker_fault fault = {0};
        char got[600] = "";
        uint8_t type = 0;
        struct bytes args = table(&w, declare_args[i].args);
        if (!args_check_queue(B("/"), B("q"), args, BROKER_DURABLE, &type, &fault)) {
            (void)snprintf(got, sizeof got, "%u%s %s", fault.code, fault.connection ? "!" : "",
                           fault.text);
        } else {
            cr_assert_eq(type, strncmp(declare_args[i].args, Q, strlen(Q)) == 0 ? CATALOG_QUORUM
                                                                                : CATALOG_CLASSIC);
        }
        cr_assert_str_eq(got, declare_args[i].expected, "%s: %s", declare_args[i].args, got);
        writer_deinit(&w);
    }
}

Test(broker_rules, a_quorum_queue_is_durable_shared_and_lasting)
{
    static const struct {
        uint32_t flags;
        const char *args, *expected;
    } rows[] = {
        {0, Q, "invalid property 'non-durable' for queue 'q' in vhost '/'"},
        {BROKER_EXCLUSIVE, Q, "invalid property 'exclusive-owner' for queue 'q' in vhost '/'"},
        {BROKER_DURABLE | BROKER_AUTO_DELETE, Q,
         "invalid property 'auto-delete' for queue 'q' in vhost '/'"},
        {BROKER_DURABLE | BROKER_EXCLUSIVE, Q,
         "invalid property 'exclusive-owner' for queue 'q' in vhost '/'"},
        /* arguments come first */
        {0, Q "x-max-length=I-1",
         "invalid arg 'x-max-length' for queue 'q' in vhost '/': {value_negative,-1}"},
        {0, Q "x-max-priority=I1",
         "invalid arg 'x-max-priority' for queue 'q' in vhost '/' of queue type "
         "rabbit_quorum_queue"}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        struct writer w;
        struct broker_fault fault = {0};
        uint8_t type = 0;
        cr_assert_not(args_check_queue(B("/"), B("q"), table(&w, rows[i].args), rows[i].flags,
                                       &type, &fault));
        cr_assert_eq(fault.code, 406);
        cr_assert_str_eq(fault.text, rows[i].expected);
        writer_deinit(&w);
    }
}

Test(broker_rules, arguments_of_consume)
{
    static const struct {
        const char *args, *expected;
        int32_t priority;
    } rows[] = {
        {"", "", 0},
        {"x-priority=I7", "", 7},
        {"x-priority=I-7 other=Sx", "", -7},
        {"x-priority=l99999999999", "", INT32_MAX},
        {"x-priority=S7", ARG("x-priority", "\"expected integer, got longstr\""), 0},
        {"x-priority=V", ARG("x-priority", "\"expected integer, got void\""), 0},
        {"x-priority=F", ARG("x-priority", "\"expected integer, got table\""), 0},
        {"x-priority=A", ARG("x-priority", "\"expected integer, got array\""), 0},
        {"x-consumer-timeout=I8", "", 0},
        {"x-consumer-timeout=S8", ARG("x-consumer-timeout", "\"expected integer, got longstr\""),
         0},
        {"x-consumer-timeout=I-1", ARG("x-consumer-timeout", "{value_negative,-1}"), 0},
        {"x-cancel-on-ha-failover=t1", "", 0},
        {"x-cancel-on-ha-failover=t0", "", 0},
        {"x-cancel-on-ha-failover=I1",
         ARG("x-cancel-on-ha-failover", "{unacceptable_type,signedint}"), 0},
        {"x-stream-offset=Sfirst", TYPE("x-stream-offset", "classic"), 0},
    };
    rig_queue("q");
    const struct catalog_queue *queue = catalog_queue(rig.broker->view, B("/"), B("q"));
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        struct writer w;
        struct broker_fault fault = {0};
        char got[600] = "";
        struct consume_args ret = {.timeout_ms = 30};
        if (!args_check_consume(B("/"), queue, table(&w, rows[i].args), &ret, &fault)) {
            (void)snprintf(got, sizeof got, "%u %s", fault.code, fault.text);
        }
        cr_assert_str_eq(got, rows[i].expected, "%s: %s", rows[i].args, got);
        cr_assert(got[0] != 0 || ret.priority == rows[i].priority);
        uint64_t timeout = strstr(rows[i].args, "timeout=I8") != NULL ? 8 : 30;
        cr_assert(got[0] != 0 || ret.timeout_ms == timeout);
        cr_assert_eq(ret.cancel_on_move, strstr(rows[i].args, "failover=t1") != NULL);
        writer_deinit(&w);
    }
}

#define LOCKED                                                                                     \
    "405 cannot obtain exclusive access to locked queue 'q' in vhost '/'. It could be originally " \
    "declared on another connection or the "                                                       \
    "exclusive property value does not match that of the original declaration."

Test(broker_rules, equivalence_of_queues)
{
    enum { D = BROKER_DURABLE, E = BROKER_EXCLUSIVE, A = BROKER_AUTO_DELETE };
#define FLAG(name, received, current)                                                              \
    "406 inequivalent arg '" name "' for queue 'q' in vhost '/': received '" received              \
    "' but current is '" current "'"
    static const struct {
        bool durable, exclusive, auto_delete;
        const char *current;
        uint32_t flags;
        const char *received, *expected;
    } rows[] = {
        {false, false, false, "", 0, "", ""},
        {true, false, true, "x-expires=I5", D | A, "x-expires=l5", ""}, /* widths do not matter */
        {true, false, false, "", 0, "", FLAG("durable", "false", "true")},
        {false, false, false, "", D, "", FLAG("durable", "true", "false")},
        {false, false, false, "", A, "", FLAG("auto_delete", "true", "false")},
        {false, true, false, "", E | D, "", ""}, /* exclusive queues are never durable */
        {false, true, false, "", 0, "", LOCKED},
        {false, false, false, "", E, "", LOCKED},
        {false, false, false, "", 0, "x-unknown=I1", ""},
        {false, false, false, "", 0, "x-queue-type=Sclassic", ""},
        {false, false, false, "x-queue-type=Sclassic", 0, "", ""},
        {false, false, false, "", 0, "x-queue-type=Squorum",
         "406 inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received the value "
         "'quorum' of type 'longstr' but current is none"},
        {false, false, false, "", 0, "x-message-ttl=I60",
         "406 inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received the value '60' "
         "of type 'signedint' but current is none"},
        {false, false, false, "x-message-ttl=I60", 0, "",
         "406 inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received none but "
         "current is the value '60' of type 'signedint'"},
        {false, false, false, "x-dead-letter-exchange=Sa", 0, "x-dead-letter-exchange=Sb",
         "406 inequivalent arg 'x-dead-letter-exchange' for queue 'q' in vhost '/': received 'b' "
         "but current is 'a'"},
        {false, false, false, "x-message-ttl=I60", 0, "x-message-ttl=l61",
         "406 inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received '61' but "
         "current is '60'"},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        struct writer current;
        struct writer received;
        struct broker_fault fault = {0};
        char got[600] = "";
        struct catalog_queue queue = {.spec = {.vhost = B("/"),
                                               .name = B("q"),
                                               .arguments = table(&current, rows[i].current),
                                               .durable = rows[i].durable,
                                               .exclusive = rows[i].exclusive,
                                               .auto_delete = rows[i].auto_delete,
                                               .owner = {1, rig.session->id}}};
        if (!equivalent_queue(rig.session, &queue, rows[i].flags,
                              table(&received, rows[i].received), &fault)) {
            (void)snprintf(got, sizeof got, "%u %s", fault.code, fault.text);
        }
        cr_assert_str_eq(got, rows[i].expected, "row %zu: %s", i, got);
        queue.spec.owner.connection++;
        cr_assert_eq(
            equivalent_queue(rig.session, &queue, rows[i].flags, writer_bytes(&received), &fault),
            !rows[i].exclusive && rows[i].expected[0] == 0);
        writer_deinit(&current);
        writer_deinit(&received);
    }
}

/* What the type does not know is not compared; of two that differ, which is told depends on it. */
Test(broker_rules, equivalence_goes_by_the_type)
{
#define DIFFERS(name, rest) "inequivalent arg '" name "' for queue 'q' in vhost '/': received " rest
    static const struct {
        uint8_t type;
        const char *current, *received, *expected;
    } rows[] = {
        {CATALOG_CLASSIC, "", "x-delivery-limit=I1", ""},
        {CATALOG_QUORUM, Q, Q "x-max-priority=I1", ""},
        {CATALOG_CLASSIC, "", "x-max-length=I1 " Q,
         DIFFERS("x-max-length", "the value '1' of type 'signedint' but current is none")},
        {CATALOG_QUORUM, Q "x-message-ttl=I1 x-max-length=I1", "",
         DIFFERS("x-max-length", "none but current is the value '1' of type 'signedint'")},
        {CATALOG_CLASSIC, "x-message-ttl=I1 x-max-length=I1", "",
         DIFFERS("x-message-ttl", "none but current is the value '1' of type 'signedint'")},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        struct writer current;
        struct writer received;
        struct broker_fault fault = {0};
        struct catalog_queue queue = {.spec = {.vhost = B("/"),
                                               .name = B("q"),
                                               .arguments = table(&current, rows[i].current),
                                               .type = rows[i].type}};
        cr_assert_eq(
            equivalent_queue(rig.session, &queue, 0, table(&received, rows[i].received), &fault),
            rows[i].expected[0] == 0);
        cr_assert_str_eq(fault.text, rows[i].expected, "row %zu", i);
        writer_deinit(&current);
        writer_deinit(&received);
    }
}

Test(broker_rules, equivalence_of_exchanges)
{
    enum { D = BROKER_DURABLE, I = BROKER_INTERNAL, A = BROKER_AUTO_DELETE };
#define X(name, rest)                                                                              \
    "406 inequivalent arg '" name "' for exchange 'x' in vhost '/': received " rest
    static const struct {
        const char *current, *type;
        uint32_t flags;
        const char *received, *expected;
    } rows[] = {
        {"", "direct", D, "", ""},
        {"", "direct", D, "nonsense=I5", ""},
        {"", "fanout", D, "", X("type", "'fanout' but current is 'direct'")},
        {"", "x-random", D, "", X("type", "''x-random'' but current is 'direct'")},
        {"", "direct", 0, "", X("durable", "'false' but current is 'true'")},
        {"", "direct", D | A, "", X("auto_delete", "'true' but current is 'false'")},
        {"", "direct", D | I, "", X("internal", "'true' but current is 'false'")},
        {"alternate-exchange=Sae", "direct", D, "",
         X("alternate-exchange", "none but current is the value 'ae' of type 'longstr'")},
        {"alternate-exchange=Sae", "direct", D, "alternate-exchange=Sae", ""},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        struct writer current;
        struct writer received;
        struct broker_fault fault = {0};
        char got[600] = "";
        struct catalog_exchange x = {.vhost = B("/"),
                                     .name = B("x"),
                                     .type = B("direct"),
                                     .arguments = table(&current, rows[i].current),
                                     .durable = true};
        if (!equivalent_exchange(&x, B(rows[i].type), rows[i].flags,
                                 table(&received, rows[i].received), &fault)) {
            (void)snprintf(got, sizeof got, "%u %s", fault.code, fault.text);
        }
        cr_assert_str_eq(got, rows[i].expected, "row %zu: %s", i, got);
        writer_deinit(&current);
        writer_deinit(&received);
    }
}

Test(broker_rules, permissions_are_searches_of_a_pattern)
{
    static const struct {
        const char *user, *name;
        enum permission permission;
        const char *kind;
        bool ok;
    } rows[] = {
        {"guest", "anything", PERMISSION_CONFIGURE, "queue", true},
        {"limited", "c1", PERMISSION_CONFIGURE, "queue", true},
        {"limited", "xc", PERMISSION_CONFIGURE, "queue", false},
        {"limited", "w", PERMISSION_WRITE, "queue", true},
        {"limited", "r", PERMISSION_WRITE, "queue", false},
        {"limited", "r", PERMISSION_READ, "exchange", true},
        {"limited", "", PERMISSION_WRITE, "exchange", true},
        {"limited", "", PERMISSION_READ, "exchange", false},
        {"mute", "", PERMISSION_WRITE, "exchange", false},
        {"mute", "a", PERMISSION_READ, "queue", false},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        struct broker_session *session = rig_session(rows[i].user, "/");
        struct broker_fault fault = {0};
        cr_assert_eq(auth_check(session, rows[i].permission, rows[i].kind, B(rows[i].name), &fault),
                     rows[i].ok, "row %zu", i);
        cr_assert_eq(fault.code, rows[i].ok ? 0 : 403);
    }
    struct broker_fault fault = {0};
    struct broker_session *session = rig_session("mute", "/");
    (void)auth_check(session, PERMISSION_READ, "queue", B("q"), &fault);
    cr_assert_str_eq(fault.text, "read access to queue 'q' in vhost '/' refused for user 'mute'");
    (void)auth_check(session, PERMISSION_WRITE, "exchange", B(""), &fault);
    cr_assert_str_eq(fault.text,
                     "write access to exchange 'amq.default' in vhost '/' refused for user 'mute'");
    (void)auth_check(session, PERMISSION_CONFIGURE, "queue", B("q"), &fault);
    cr_assert_str_eq(fault.text,
                     "configure access to queue 'q' in vhost '/' refused for user 'mute'");
}

Test(broker_rules, hostile_and_broken_patterns_match_nothing_and_end)
{
    static const char *const patterns[] = {"(a+)+$", "(", "a{1001001}", "(?:(?:(?:a*)*)*)*b"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(patterns); i++) {
        struct catalog_command set = {
            .kind = CATALOG_SET_PERMISSION,
            .u.permission = {B("mute"), B("/"), B(patterns[i]), B(""), B("")}};
        struct broker_fault fault = {0};
        rig_apply(&set);
        cr_assert_not(auth_check(
            rig_session("mute", "/"), PERMISSION_CONFIGURE, "queue",
            B("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac"), &fault));
    }
}

Test(broker_rules, passwords)
{
    cr_assert(broker_authenticate(rig.broker, B("guest"), B("guest"), true));
    cr_assert_not(
        broker_authenticate(rig.broker, B("guest"), B("guest"), false)); /* loopback only */
    cr_assert(broker_authenticate(rig.broker, B("actor"), B("actor"), false));
    cr_assert_not(broker_authenticate(rig.broker, B("actor"), B("Actor"), true));
    cr_assert_not(broker_authenticate(rig.broker, B("actor"), B(""), true));
    cr_assert_not(broker_authenticate(rig.broker, B("who"), B("who"), true));
    cr_assert_not(broker_authenticate(rig.broker, B(""), B(""), true));
}

/* Whom a certificate proves has to be there, and stays bound to where he may come from. */
Test(broker_rules, users_without_passwords)
{
    static const uint8_t long_name[300];
    cr_assert(broker_authenticate_external(rig.broker, B("guest"), true));
    cr_assert_not(broker_authenticate_external(rig.broker, B("guest"), false));
    cr_assert(broker_authenticate_external(rig.broker, B("actor"), false));
    cr_assert_not(broker_authenticate_external(rig.broker, B("Actor"), true));
    cr_assert_not(broker_authenticate_external(rig.broker, B(""), true));
    cr_assert_not(
        broker_authenticate_external(rig.broker, bytes_make(long_name, sizeof long_name), true));
}
