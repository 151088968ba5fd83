/* What publishers say beyond RabbitMQ: their numbers, delays, message ids for queues that look. */
#include "rig.h"

TestSuite(broker_numbered, .init = rig_init, .fini = rig_deinit);

static void queue_with(const char *name, const char *arg, int64_t value)
{
    struct writer args;
    writer_init(&args, 64);
    if (value == 0) {
        wire_table_put_bool(&args, arg, true);
    } else {
        wire_table_put_int64(&args, arg, value);
    }
    rig_queue_with(name, writer_bytes(&args));
    writer_deinit(&args);
}

/* Headers x-publisher-id (NULL: none), x-publish-seq and x-delay (0: none); a message id. */
static void publish(const char *key, const char *publisher, int64_t number, int64_t delay,
                    const char *id)
{
    struct writer headers;
    struct writer raw;
    writer_init(&headers, 64);
    if (publisher != NULL) {
        wire_table_put_cstr(&headers, "x-publisher-id", publisher);
    }
    if (number != 0) {
        wire_table_put_int64(&headers, "x-publish-seq", number);
    }
    if (delay != 0) {
        wire_table_put_int64(&headers, "x-delay", delay);
    }
    struct wire_props p = {.headers = writer_bytes(&headers)};
    p.flags |= p.headers.size > 0 ? WIRE_PROP_HEADERS : 0;
    p.flags |= id != NULL ? WIRE_PROP_MESSAGE_ID : 0;
    p.message_id = id != NULL ? B(id) : BYTES_NONE;
    writer_init(&raw, wire_props_size(&p));
    wire_props_put(&raw, &p);
    rig_publish("", key, writer_bytes(&raw), 0);
    writer_deinit(&raw);
    writer_deinit(&headers);
}

Test(broker_numbered, a_number_with_its_publisher_goes_to_every_queue)
{
    rig_queue("q");
    publish("q", "me", 7, 0, NULL);
    publish("q", "me", 8, 0, NULL);
    EXPECT_SAID("routed\nrouted\n");
    EXPECT_CALLS("q open\n"
                 "q publish 'm' publisher='me' 7 id='' delay=0 x-delay=0\n"
                 "q publish 'm' publisher='me' 8 id='' delay=0 x-delay=0\n");
}

Test(broker_numbered, a_publisher_without_number_says_nothing)
{
    rig_queue("q");
    publish("q", "me", 0, 0, "id");
    cr_assert(strstr(rig_calls(), "publisher") == NULL);
}

Test(broker_numbered, bad_numbers)
{
    rig_queue("q");
    publish("q", NULL, 7, 0, NULL);
    publish("q", "me", -1, 0, NULL);
    publish("q", "", 1, 0, NULL);
    EXPECT_SAID("refused 406 invalid message: x-publish-seq without x-publisher-id, which may be a "
                "header or a client property\n"
                "refused 406 invalid message: header x-publish-seq must be positive, not -1\n"
                "refused 406 invalid message: header x-publisher-id must have 1 to 255 bytes\n");
}

Test(broker_numbered, a_delay_counts_only_where_the_queue_says_so)
{
    queue_with("late", "x-delayed-messages", 0);
    rig_queue("q");
    publish("q", NULL, 0, 500, NULL);
    publish("late", NULL, 0, 500, NULL);
    publish("late", NULL, 0, -500, NULL);
    publish("late", NULL, 0, INT64_C(315360000001), NULL);
    publish("late", NULL, 0, 4294967296, NULL);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "q publish 'm' props=") != NULL, "%s", calls);
    cr_assert(strstr(calls, "late publish 'm' publisher='' 0 id='' delay=500 x-delay=-500\n") !=
                  NULL,
              "%s", calls);
    cr_assert(strstr(calls, "late publish 'm' props=") != NULL, "not positive, or too far: now");
    cr_assert(strstr(calls, "delay=4294967296 x-delay=-4294967296\n") != NULL, "%s", calls);
}

/* As the plugin takes it; what it cannot read is no delay. */
Test(broker_numbered, a_delay_may_be_a_string_or_have_a_fraction)
{
    static const struct {
        const char *text; /* NULL: real */
        double real;
        const char *said;
    } cases[] = {
        {"500", 0, "delay=500 x-delay=-500\n"},
        {"+0500", 0, "delay=500 x-delay=-500\n"},
        {"315360000000", 0, "delay=315360000000 x-delay=-315360000000\n"},
        {NULL, 500.9, "delay=500 x-delay=-500\n"},
        {NULL, 1, "delay=1 x-delay=-1\n"},
        {"", 0, NULL},
        {"0", 0, NULL},
        {"-5", 0, NULL},
        {"5 ", 0, NULL},
        {"5.0", 0, NULL},
        {"315360000001", 0, NULL},
        {"99999999999999999999999999", 0, NULL},
        {NULL, 0.9, NULL},
        {NULL, -5, NULL},
        {NULL, 1e300, NULL},
        {NULL, __builtin_nan(""), NULL},
    };
    queue_with("late", "x-delayed-messages", 0);
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        struct writer headers;
        struct writer raw;
        writer_init(&headers, 64);
        writer_init(&raw, 64);
        if (cases[i].text != NULL) {
            wire_table_put_cstr(&headers, "x-delay", cases[i].text);
        } else {
            wire_put_key(&headers, B("x-delay"));
            wire_value_put_double(&headers, cases[i].real);
        }
        const struct wire_props p = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
        wire_props_put(&raw, &p);
        rig_publish("", "late", writer_bytes(&raw), 0);
        const char *calls = rig_calls();
        const char *wanted = cases[i].said != NULL ? cases[i].said : "late publish 'm' props=";
        cr_assert(strstr(calls, wanted) != NULL, "%zu: %s", i, calls);
        writer_deinit(&raw);
        writer_deinit(&headers);
    }
}

Test(broker_numbered, a_message_id_counts_only_where_the_queue_looks)
{
    queue_with("once", "x-dedup-window", 1000);
    rig_queue("q");
    publish("q", NULL, 0, 0, "a");
    publish("once", NULL, 0, 0, "a");
    publish("once", NULL, 0, 0, "b"); /* the route is cached now */
    publish("once", NULL, 0, 0, NULL);
    EXPECT_CALLS("q open\nq publish 'm' props=4\n"
                 "once open\n"
                 "once publish 'm' publisher='' 0 id='a' delay=0 x-delay=0\n"
                 "once publish 'm' publisher='' 0 id='b' delay=0 x-delay=0\n"
                 "once publish 'm' props=2\n");
}
