/* basic.publish: checks in RabbitMQ's order, routing, the cache, back-pressure. */
#include "rig.h"

TestSuite(broker_publish, .init = rig_init, .fini = rig_deinit);

/* Properties with one string property, or with headers. */
static struct bytes props(struct writer *w, uint16_t flags, const char *value, struct bytes headers)
{
    struct wire_props p = {.flags = flags};
    p.expiration = (flags & WIRE_PROP_EXPIRATION) != 0 ? B(value) : BYTES_NONE;
    p.user_id = (flags & WIRE_PROP_USER_ID) != 0 ? B(value) : BYTES_NONE;
    p.headers = headers;
    writer_init(w, wire_props_size(&p));
    wire_props_put(w, &p);
    return writer_bytes(w);
}

static void publish_prop(uint16_t flag, const char *value)
{
    struct writer w;
    rig_publish("amq.fanout", "k", props(&w, flag, value, BYTES_NONE), 0);
    writer_deinit(&w);
}

/* headers: "CC" and "BCC" with up to three keys each; NULL = absent, a key of "#" = an integer. */
static void publish_cc(const char *exchange, const char *key, const char *const cc[3],
                       const char *const bcc[3])
{
    struct writer headers;
    struct writer w;
    writer_init(&headers, 64);
    for (int which = 0; which < 2; which++) {
        const char *const *keys = which == 0 ? cc : bcc;
        if (keys == NULL) {
            continue;
        }
        wire_put_key(&headers, B(which == 0 ? "CC" : "BCC"));
        uint32_t mark = wire_value_put_array_begin(&headers);
        for (int i = 0; i < 3 && keys[i] != NULL; i++) {
            if (keys[i][0] == '#') {
                wire_value_put_int32(&headers, 5);
            } else {
                wire_value_put_longstr(&headers, B(keys[i]));
            }
        }
        wire_value_put_end(&headers, mark);
    }
    rig_publish(exchange, key, props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), 0);
    writer_deinit(&w);
    writer_deinit(&headers);
}

Test(broker_publish, goes_to_the_queue_of_the_key)
{
    rig_queue("q");
    rig_publish("", "q", BYTES_NONE, 0);
    rig_publish("", "q", BYTES_NONE, 0);
    EXPECT_SAID("routed\nrouted\n");
    EXPECT_CALLS("q open\nq publish 'm' props=2\nq publish 'm' props=2\n");
}

Test(broker_publish, refusals)
{
    rig_exchange("internal", "fanout", BYTES_NONE);
    rig_publish("none", "k", BYTES_NONE, 0);
    EXPECT_CALLS("barrier\n");
    rig_publish("internal", "k", BYTES_NONE, 0);
    EXPECT_SAID("barrier refused 404 no exchange 'none' in vhost '/'\n"
                "refused 403 cannot publish to internal exchange 'internal' in vhost '/'\n");
    rig.ch = rig_channel(rig_session("limited", "/"), 1);
    rig_publish("none", "k", BYTES_NONE, 0); /* permission comes before existence */
    rig_publish("internal", "k", BYTES_NONE, 0);
    rig_publish("amq.fanout", "k", BYTES_NONE, 0);
    EXPECT_SAID(
        "refused 403 write access to exchange 'none' in vhost '/' refused for user 'limited'\n"
        "refused 403 write access to exchange 'internal' in vhost '/' refused for user 'limited'\n"
        "refused 403 write access to exchange 'amq.fanout' in vhost '/' refused for user "
        "'limited'\n");
}

Test(broker_publish, a_permission_that_is_taken_away_counts_with_the_next_view)
{
    rig_queue("q");
    rig_publish("", "q", BYTES_NONE, 0);
    rig_publish("", "none", BYTES_NONE, 0);
    struct catalog_command clear = {.kind = CATALOG_CLEAR_PERMISSION,
                                    .u.permission = {.user = B("guest"), .vhost = B("/")}};
    rig_apply(&clear);
    rig_publish("", "q", BYTES_NONE, 0);
    EXPECT_SAID("routed\nbarrier unroutable\nrefused 403 write access to exchange 'amq.default' in "
                "vhost '/' refused for user 'guest'\n");
}

Test(broker_publish, expirations)
{
#define BAD(value, why) "refused 406 invalid expiration '" value "': " why "\n"
    static const struct {
        const char *value, *expected;
    } rows[] = {
        {"0", "routed\n"},
        {"60000", "routed\n"},
        {"315360000000", "routed\n"},
        {"315360000001", BAD("315360000001", "{value_too_large,315360000001}")},
        {"-1", BAD("-1", "{value_negative,-1}")},
        {"12x", BAD("12x", "{leftover_string,\"x\"}")},
        {"foo", BAD("foo", "no_integer")},
        {"", BAD("", "no_integer")},
        {"-", BAD("-", "no_integer")},
        {"+1", "routed\n"},
        {"007", "routed\n"},
        {"00315360000001", BAD("00315360000001", "{value_too_large,315360000001}")},
        {"-007", BAD("-007", "{value_negative,-7}")},
        {"1000000000000000000000000000000",
         BAD("1000000000000000000000000000000",
             "{value_too_large,1000000000000000000000000000000}")},
    };
    rig_queue("q");
    rig_bind("amq.fanout", "q", "");
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        publish_prop(WIRE_PROP_EXPIRATION, rows[i].value);
        cr_assert_str_eq(rig_said(), rows[i].expected, "row %zu", i);
    }
}

Test(broker_publish, user_ids)
{
    rig_queue("q");
    rig_bind("amq.fanout", "q", "");
    publish_prop(WIRE_PROP_USER_ID, "guest");
    publish_prop(WIRE_PROP_USER_ID, "other");
    EXPECT_SAID(
        "routed\nrefused 406 user_id property set to 'other' but authenticated user was 'guest'\n");
    struct writer w;
    const uint16_t both = WIRE_PROP_USER_ID | WIRE_PROP_EXPIRATION;
    rig_publish("amq.fanout", "k", props(&w, both, "other", BYTES_NONE), 0);
    writer_deinit(&w);
    EXPECT_SAID("refused 406 user_id property set to 'other' but authenticated user was 'guest'\n");
    rig.ch = rig_channel(rig_session("actor", "/"), 1); /* an impersonator */
    publish_prop(WIRE_PROP_USER_ID, "other");
    EXPECT_SAID("routed\n");
}

Test(broker_publish, bcc_does_not_go_back_to_the_publisher)
{
    struct writer headers;
    struct writer w;
    struct wire_value v;
    writer_init(&headers, 64);
    wire_table_put_cstr(&headers, "CC", "stays");
    wire_table_put_cstr(&headers, "BCC", "goes");
    struct message message =
        rig_message("", "nobody", props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), "m");
    message = broker_returned(rig.ch, message);
    struct bytes left = wire_props_headers(message_props(&message));
    cr_assert_not(wire_table_find(left, "BCC", &v));
    cr_assert(wire_table_find(left, "CC", &v));
    message_unref(message);
    writer_deinit(&w);
    writer_deinit(&headers);
}

Test(broker_publish, cc_and_bcc_are_more_keys)
{
    static const char *const one[3] = {"b", "a", NULL};
    static const char *const two[3] = {"c", "#", "none"};
    rig_queue("a");
    rig_queue("b");
    rig_queue("c");
    publish_cc("", "a", one, NULL);
    EXPECT_CALLS(
        "a open\nb open\na publish 'm' props=26\nb publish 'm' props=26\n"); /* each queue once */
    publish_cc("", "a", one, two);                                           /* BCC is taken out */
    const char *calls = rig_calls();
    cr_assert_str_eq(
        calls, "c open\na publish 'm' props=26\nb publish 'm' props=26\nc publish 'm' props=26\n",
        "%s", calls);
    publish_cc("", "none", one, NULL);
    EXPECT_SAID("routed\nrouted\nrouted\n");
    struct writer headers;
    struct writer w;
    writer_init(&headers, 64);
    wire_table_put_cstr(&headers, "CC", "a");
    rig_publish("", "a", props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), 0);
    EXPECT_SAID("refused 406 invalid message: {unacceptable_type_in_header,\"CC\",longstr}\n");
    writer_deinit(&w);
    writer_deinit(&headers);
}

Test(broker_publish, a_cached_route_still_checks_properties)
{
    static const char *const one[3] = {"b", NULL, NULL};
    struct writer headers;
    struct writer w;
    writer_init(&headers, 64);
    wire_table_put_cstr(&headers, "h", "v");
    rig_queue("a");
    rig_queue("b");
    rig_publish("", "a", BYTES_NONE, 0);
    rig_publish("", "a", props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), 0);
    writer_deinit(&w);
    rig_publish("", "a", props(&w, WIRE_PROP_EXPIRATION, "x", BYTES_NONE), 0);
    writer_deinit(&w);
    publish_cc("", "a", one, NULL);
    EXPECT_SAID("routed\nrouted\nrefused 406 invalid expiration 'x': no_integer\nrouted\n");
    EXPECT_CALLS("a open\na publish 'm' props=2\na publish 'm' props=14\nb open\na publish 'm' "
                 "props=20\nb publish 'm' props=20\n");
    writer_deinit(&headers);
}

Test(broker_publish, the_cache_follows_the_view)
{
    rig_queue("q");
    rig_queue("r");
    rig_bind("amq.direct", "q", "k");
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    rig_bind("amq.direct", "r", "k");
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    rig_delete("q");
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    EXPECT_CALLS("q open\nq publish 'm' props=2\nr open\nq publish 'm' props=2\nr publish 'm' "
                 "props=2\nq close\nr publish 'm' props=2\nr "
                 "publish 'm' props=2\n");
    EXPECT_SAID("routed\nrouted\nrouted\nrouted\n");
}

Test(broker_publish, many_keys_share_few_slots)
{
    char name[16];
    for (int i = 0; i < 100; i++) {
        (void)snprintf(name, sizeof name, "q%d", i);
        rig_queue(name);
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 100; i++) {
            char expected[100];
            (void)snprintf(name, sizeof name, "q%d", i);
            (void)rig_calls();
            rig_publish("", name, BYTES_NONE, 0);
            (void)snprintf(expected, sizeof expected,
                           round == 0 ? "%s open\n%s publish 'm' props=2\n"
                                      : "%s publish 'm' props=2\n",
                           name, name);
            EXPECT_CALLS(expected);
        }
    }
    char key[200];
    memset(key, 'k', sizeof key);
    key[199] = 0;
    rig_queue(key); /* too long a key for the cache */
    rig_publish("", key, BYTES_NONE, 0);
    rig_publish("", key, BYTES_NONE, 0);
    (void)rig_said();
}

Test(broker_publish, headers_exchanges_look_at_every_message)
{
    struct writer args;
    struct writer headers;
    struct writer w;
    writer_init(&args, 64);
    wire_table_put_cstr(&args, "h", "v");
    rig_queue("q");
    struct catalog_command c = {.kind = CATALOG_BIND,
                                .u.binding = {B("/"), B("amq.headers"), B("q"), B(""),
                                              writer_bytes(&args), CATALOG_TO_QUEUE}};
    rig_apply(&c);
    writer_init(&headers, 64);
    wire_table_put_cstr(&headers, "h", "v");
    rig_publish("amq.headers", "", props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), 0);
    rig_publish("amq.headers", "", BYTES_NONE, 0);
    EXPECT_SAID("routed\nbarrier unroutable\n");
    writer_deinit(&w);
    writer_deinit(&headers);
    writer_deinit(&args);
}

static void bind_with(const char *source, const char *destination, const char *key,
                      struct bytes arguments, uint8_t kind)
{
    struct catalog_command c = {
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B(source), B(destination), B(key), arguments, kind}};
    rig_apply(&c);
}

/* The route is cached by exchange and key: only if nothing on the whole way looks at more. */
Test(broker_publish, a_way_through_a_headers_exchange_is_not_cached)
{
    struct writer args;
    struct writer headers;
    struct writer w;
    writer_init(&args, 64);
    wire_table_put_cstr(&args, "h", "v");
    rig_queue("all");
    rig_queue("some");
    rig_bind("amq.topic", "all", "#");
    bind_with("amq.topic", "amq.headers", "#", BYTES_NONE, CATALOG_TO_EXCHANGE);
    bind_with("amq.headers", "some", "", writer_bytes(&args), CATALOG_TO_QUEUE);
    writer_init(&headers, 64);
    wire_table_put_cstr(&headers, "h", "v");
    rig_publish("amq.topic", "k", BYTES_NONE, 0);
    rig_publish("amq.topic", "k", props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), 0);
    rig_publish("amq.topic", "k", BYTES_NONE, 0);
    EXPECT_SAID("routed\nrouted\nrouted\n");
    EXPECT_CALLS("all open\nall publish 'm' props=2\nsome open\nall publish 'm' props=14\nsome "
                 "publish 'm' props=14\nall publish 'm' props=2\n");
    writer_deinit(&w);
    writer_deinit(&headers);
    writer_deinit(&args);
}

Test(broker_publish, nor_one_through_an_alternate_headers_exchange)
{
    struct writer args;
    struct writer headers;
    struct writer w;
    writer_init(&args, 64);
    wire_table_put_cstr(&args, "alternate-exchange", "amq.headers");
    rig_exchange("x", "direct", writer_bytes(&args));
    writer_deinit(&args);
    writer_init(&args, 64);
    wire_table_put_cstr(&args, "h", "v");
    rig_queue("q");
    bind_with("amq.headers", "q", "", writer_bytes(&args), CATALOG_TO_QUEUE);
    writer_init(&headers, 64);
    wire_table_put_cstr(&headers, "h", "v");
    rig_publish("x", "k", props(&w, WIRE_PROP_HEADERS, NULL, writer_bytes(&headers)), 0);
    rig_publish("x", "k", BYTES_NONE, 0);
    EXPECT_SAID("routed\nbarrier unroutable\n");
    writer_deinit(&w);
    writer_deinit(&headers);
    writer_deinit(&args);
}

/* Both, sooner or later: chance is drawn for each message, and the channel remembers no way. */
Test(broker_publish, random_exchanges_choose_anew_for_every_message)
{
    rig_queue("q");
    rig_queue("r");
    rig_exchange("x", "x-random", BYTES_NONE);
    rig_bind("x", "q", "");
    rig_bind("x", "r", "");
    bool q = false;
    bool r = false;
    for (int i = 0; i < 100; i++) {
        rig_publish("x", "k", BYTES_NONE, 0);
        const char *calls = rig_calls();
        q |= strstr(calls, "q publish") != NULL;
        r |= strstr(calls, "r publish") != NULL;
    }
    cr_assert(q && r);
    (void)rig_said();
}

Test(broker_publish, what_was_bound_elsewhere_a_moment_ago_counts)
{
    rig_queue("q");
    rig.hold = true;
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    EXPECT_SAID("wait\n");
    struct catalog_command c = {
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B("amq.direct"), B("q"), B("k"), BYTES_NONE, CATALOG_TO_QUEUE}};
    rig_apply_silently(&c);
    rig_catalog();
    EXPECT_SAID("retry\n");
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    EXPECT_SAID("routed\n");
    EXPECT_CALLS("barrier\nq open\nq publish 'm' props=2\n");
}

/* Each one: a binding made through another node the moment before must count. */
Test(broker_publish, every_unroutable_message_asks)
{
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    rig_publish("amq.direct", "k", BYTES_NONE, 0);
    EXPECT_CALLS("barrier\nbarrier\n");
    (void)rig_said();
}

Test(broker_publish, a_missing_exchange_always_asks)
{
    rig_publish("none", "k", BYTES_NONE, 0);
    rig_publish("none", "k", BYTES_NONE, 0);
    EXPECT_CALLS("barrier\nbarrier\n");
}

Test(broker_publish, without_a_leader_the_connection_hears_of_it)
{
    rig.no_leader = true;
    rig_publish("none", "k", BYTES_NONE, 0);
    EXPECT_SAID("fault 541! the cluster's catalog cannot be read: no leader was reached within "
                "15000 ms (60,40)\nwait\n");
}

Test(broker_publish, alternate_exchanges_are_tried_first)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_cstr(&w, "alternate-exchange", "amq.fanout");
    rig_queue("q");
    rig_bind("amq.fanout", "q", "");
    rig_exchange("x", "direct", writer_bytes(&w));
    rig_publish("x", "k", BYTES_NONE, 0);
    EXPECT_SAID("routed\n");
    writer_deinit(&w);
}

Test(broker_publish, full_queues_block_the_channel_until_the_last_has_room)
{
    rig_queue("a");
    rig_queue("b");
    rig_publish("", "a", BYTES_NONE, 0);
    rig_publish("", "b", BYTES_NONE, 0);
    (void)rig_said();
    struct queue_client *a = rig_client("a");
    struct queue_client *b = rig_client("b");
    a->sink->on_blocked(a->ctx, true);
    b->sink->on_blocked(b->ctx, true);
    EXPECT_SAID("blocked\n");
    a->sink->on_blocked(a->ctx, false);
    EXPECT_SAID("");
    rig_delete("b"); /* the other one goes */
    EXPECT_SAID("unblocked\n");
    a->sink->on_blocked(a->ctx, true);
    a->sink->on_blocked(a->ctx, false);
    a->sink->on_blocked(a->ctx, true); /* before the turn: nothing to tell */
    EXPECT_SAID("blocked\n");
    a->sink->on_blocked(a->ctx, false);
    EXPECT_SAID("unblocked\n");
}

static void many_queues(int count)
{
    char name[16];
    for (int i = 0; i < count; i++) {
        (void)snprintf(name, sizeof name, "q%d", i);
        rig_queue(name);
        rig_bind("amq.fanout", name, "");
    }
}

/* A read of the socket may hold thousands of publishes, and each of them go to thousands of queues.
 */
Test(broker_publish, wide_fan_outs_are_spread_over_turns)
{
    many_queues(200);
    rig_publish("amq.fanout", "", BYTES_NONE, 0);
    EXPECT_SAID("routed\n");
    for (uint32_t i = 0; i < TURN_EXTRA_MAX / 199; i++) {
        rig_publish("amq.fanout", "", BYTES_NONE, 0);
        cr_assert_not(rig.ch->told_blocked);
    }
    rig_publish("amq.fanout", "", BYTES_NONE, 0);
    cr_assert(rig.ch->told_blocked);
    cr_assert_eq(broker_deadline_ns(rig.broker), 0); /* the next turn comes at once */
    cr_assert(strstr(rig_said(), "blocked\n") != NULL);
    cr_assert_not(rig.ch->told_blocked);
    rig_publish("amq.fanout", "", BYTES_NONE, 0);
    EXPECT_SAID("routed\n");
}

Test(broker_publish, many_channels_share_what_a_turn_has_for_wide_fan_outs)
{
    many_queues(200);
    uint32_t published = 0;
    struct broker_channel *ch = NULL;
    for (uint16_t number = 2; rig.broker->extra <= TURN_EXTRA_ALL; number++) {
        ch = rig.ch = rig_channel(rig.session, number);
        for (uint32_t i = 0; i < TURN_EXTRA_MAX / 199; i++, published++) {
            rig_publish("amq.fanout", "", BYTES_NONE, 0);
        }
    }
    cr_assert_geq(published, TURN_EXTRA_ALL / 199);
    cr_assert(ch->told_blocked);
    rig.ch = rig_channel(rig.session, 1000);
    rig_publish("", "q1", BYTES_NONE, 0); /* one target: not meant */
    cr_assert_not(rig.ch->told_blocked);
    rig_publish("amq.fanout", "", BYTES_NONE, 0);
    cr_assert(rig.ch->told_blocked);
    rig_turn();
    cr_assert_not(rig.ch->told_blocked);
    cr_assert_not(ch->told_blocked);
}

/* The limit of a queue does not bound a channel that publishes to many. */
Test(broker_publish, what_is_pending_over_all_queues_blocks_the_channel)
{
    const uint32_t count = 100;
    many_queues((int)count);
    uint32_t published = 0;
    while (!rig.ch->told_blocked) {
        rig_publish("amq.fanout", "", BYTES_NONE, 0);
        published++;
        rig_turn(); /* nobody is tired */
        cr_assert_leq(published * count, PENDING_MAX + count);
    }
    cr_assert_gt(published * count, PENDING_MAX);
    (void)rig_said();
    char name[16];
    for (uint32_t i = 0; i < count / 2; i++) {
        (void)snprintf(name, sizeof name, "q%u", i);
        struct queue_client *client = rig_client(name);
        client->sink->on_applied(client->ctx, published);
    }
    EXPECT_SAID(""); /* half of it is not less than half of the limit: a publish was over it */
    (void)snprintf(name, sizeof name, "q%u", count - 1);
    rig_delete(name);
    EXPECT_SAID("unblocked\n");
    cr_assert_eq(rig.ch->pending, (count / 2 - 1) * published);
}

/* Only who publishes is held back: consumers go on, and make the room that is missing. */
Test(broker_publish, alarms_hold_back_channels_that_publish)
{
    static const struct {
        uint32_t alarms;
        const char *said;
    } rows[] = {
        {BROKER_ALARM_DISK, "alarm low on disk\nblocked\nrouted\n"},
        {BROKER_ALARM_MEMORY, "alarm low on memory\nblocked\nrouted\n"},
        {BROKER_ALARM_DISK | BROKER_ALARM_MEMORY, "alarm low on disk & memory\nblocked\nrouted\n"},
    };
    rig_queue("a");
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        broker_set_alarms(rig.broker, rows[i].alarms);
        EXPECT_SAID("");
        rig_publish("", "a", BYTES_NONE, 0);
        EXPECT_SAID(rows[i].said);
        broker_set_alarms(rig.broker, 0);
        EXPECT_SAID("unblocked\n");
    }
}

Test(broker_publish, alarms_hold_back_channels_that_are_about_to_publish)
{
    rig_queue("a");
    broker_channel_alarm(rig.ch);
    EXPECT_SAID("");
    broker_set_alarms(rig.broker, BROKER_ALARM_MEMORY);
    broker_channel_alarm(rig.ch);
    broker_channel_alarm(rig.ch);
    EXPECT_SAID("alarm low on memory\nblocked\n");
    broker_set_alarms(rig.broker, 0);
    EXPECT_SAID("unblocked\n");
}

/* RabbitMQ's own tests publish to nowhere. */
Test(broker_publish, alarms_hold_back_who_publishes_to_nowhere)
{
    broker_set_alarms(rig.broker, BROKER_ALARM_MEMORY);
    rig_publish("", "nowhere", BYTES_NONE, 0);
    EXPECT_SAID("alarm low on memory\nblocked\nbarrier unroutable\n");
}

Test(broker_publish, an_alarm_is_over_with_the_last_one)
{
    rig_queue("a");
    broker_set_alarms(rig.broker, BROKER_ALARM_DISK);
    rig_publish("", "a", BYTES_NONE, 0);
    EXPECT_SAID("alarm low on disk\nblocked\nrouted\n");
    broker_set_alarms(rig.broker, BROKER_ALARM_DISK | BROKER_ALARM_MEMORY);
    broker_set_alarms(rig.broker, BROKER_ALARM_MEMORY);
    EXPECT_SAID("");
    struct queue_client *a = rig_client("a");
    a->sink->on_blocked(a->ctx, true);
    broker_set_alarms(rig.broker, 0);
    EXPECT_SAID(""); /* still blocked by its queue */
    a->sink->on_blocked(a->ctx, false);
    EXPECT_SAID("unblocked\n");
}

static void on_state(void *ctx, const char *const *names, const char *const *values, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(names[i], "state") == 0) {
            (void)snprintf(ctx, 16, "%s", values[i]);
        }
    }
}

static void expect_states(const char *connection, const char *channel)
{
    char state[16];
    broker_list_connections(rig.broker, on_state, state);
    cr_assert_str_eq(state, connection);
    broker_list_channels(rig.broker, on_state, state);
    cr_assert_str_eq(state, channel);
}

Test(broker_publish, states_in_listings)
{
    rig_queue("a");
    expect_states("\"running\"", "\"running\"");
    broker_set_alarms(rig.broker, BROKER_ALARM_MEMORY);
    expect_states("\"blocking\"", "\"running\"");
    rig_publish("", "a", BYTES_NONE, 0);
    expect_states("\"blocked\"", "\"running\"");
    broker_set_alarms(rig.broker, 0);
    expect_states("\"running\"", "\"running\"");
    struct queue_client *a = rig_client("a");
    a->sink->on_blocked(a->ctx, true);
    rig.now_ms += 20000;
    expect_states("\"flow\"", "\"flow\"");
    a->sink->on_blocked(a->ctx, false);
    expect_states("\"flow\"", "\"flow\"");
    rig.now_ms += FLOW_CHANNEL_MS;
    expect_states("\"flow\"", "\"running\"");
    rig.now_ms += FLOW_CONNECTION_MS;
    expect_states("\"running\"", "\"running\"");
}
