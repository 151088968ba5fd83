/* Direct reply-to: names, consumers, letters, and what is not delivered. */
#include "rig.h"

#define BASE64 "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

TestSuite(broker_reply, .init = rig_init, .fini = rig_deinit);

static void consume(const char *tag, uint32_t flags)
{
    CALL(broker_consume(rig.ch, B(REPLY_QUEUE), B(tag), flags, BYTES_NONE, rig_done, "consume"));
}

static void declare(const char *name)
{
    CALL(broker_queue_declare(rig.ch, B(name), 0, BYTES_NONE, rig_done, "declare"));
}

/* A request goes to "q"; its reply-to as q has it. */
static const char *request(void)
{
    struct wire_props props = {.flags = WIRE_PROP_REPLY_TO | WIRE_PROP_CORRELATION_ID,
                               .reply_to = B(REPLY_QUEUE),
                               .correlation_id = B("c")};
    struct writer raw;
    writer_init(&raw, 64);
    wire_props_put(&raw, &props);
    rig_publish("", "q", writer_bytes(&raw), 0);
    writer_deinit(&raw);
    return rig.reply_to;
}

static void setup(void)
{
    rig_queue("q");
    consume("t", BROKER_NO_ACK);
    EXPECT_SAID("consume ok 't' 0 0\n");
}

Test(broker_reply, a_round_trip)
{
    setup();
    const char *name = request();
    cr_assert_eq(strlen(name), REPLY_NAME_SIZE);
    cr_assert(reply_is_name(B(name)));
    cr_assert_eq(strspn(name + sizeof REPLY_QUEUE, BASE64), 20, "%s", name);
    cr_assert_eq(name[sizeof REPLY_QUEUE + 20], '.');
    cr_assert_eq(strspn(name + sizeof REPLY_QUEUE + 21, BASE64), 22, "%s", name);
    cr_assert_str_eq(name + REPLY_NAME_SIZE - 2, "==");
    (void)rig_calls();
    rig_publish("", name, BYTES_NONE, 0);
    EXPECT_CALLS("letter 1 to 1.0\n");
    EXPECT_SAID("routed\nunroutable\n"); /* confirmed at once, returned if mandatory: no barrier */
    rig_post();
    EXPECT_SAID("deliver 't' 0.0.0 no_ack 'm'\n");
}

Test(broker_reply, the_other_properties_stay_and_the_cache_does_not_matter)
{
    setup();
    (void)request();
    (void)request();
    cr_assert_eq(strlen(rig.reply_to), REPLY_NAME_SIZE);
    /* flags 2, correlation-id 2, reply-to 68 */
    EXPECT_CALLS("q open\nq publish 'm' props=72\nq publish 'm' props=72\n");
    consume("u", BROKER_NO_ACK);
    EXPECT_SAID("routed\nrouted\nconsume 406 reply consumer already set\n");
}

Test(broker_reply, what_is_refused)
{
    rig_queue("q");
    (void)request();
    EXPECT_SAID("refused 406 fast reply consumer does not exist\n");
    consume("t", 0);
    EXPECT_SAID("consume 406 reply consumer cannot acknowledge\n");
    CALL(broker_consume(rig.ch, B("q"), B("t"), 0, BYTES_NONE, rig_done, "consume"));
    rig_reply("q", QUEUE_OK, 0);
    consume("t", BROKER_NO_ACK);
    EXPECT_SAID("consume ok 't' 0 0\nconsume 530! attempt to reuse consumer tag 't'\n");
}

Test(broker_reply, cancelled_and_set_again_it_has_another_name)
{
    char old[REPLY_NAME_SIZE + 1];
    setup();
    (void)snprintf(old, sizeof old, "%s", request());
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    consume("", BROKER_NO_ACK);
    (void)rig_said();
    cr_assert_str_neq(old, request());
    rig_publish("", old, BYTES_NONE, 0);
    rig_post();
    EXPECT_SAID("routed\nunroutable\n");
}

Test(broker_reply, the_secret_is_needed)
{
    char name[REPLY_NAME_SIZE + 1];
    setup();
    for (size_t i = sizeof REPLY_QUEUE + 8; i < REPLY_NAME_SIZE; i++) { /* of id and secret */
        (void)snprintf(name, sizeof name, "%s", request());
        name[i] = name[i] == 'B' ? 'C' : 'B';
        (void)rig_said();
        rig_publish("", name, BYTES_NONE, 0);
        rig_post();
        EXPECT_SAID("unroutable\n");
    }
}

Test(broker_reply, garbled_names_go_nowhere)
{
    static const char *const rows[] = {
        REPLY_QUEUE ".",
        REPLY_QUEUE ".foo",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA=",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA===",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAA=",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAA",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAA=.AAAAAAAAAAAAAAAAAAAAAA==",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAA\xff"
                    "==",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAB.AAAAAAAAAAAAAAAAAAAAAA==",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAB==",
        REPLY_QUEUE ".AAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAA==", /* boot 0 */
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        rig_publish("", rows[i], BYTES_NONE, 0);
        EXPECT_SAID("unroutable\n");
        EXPECT_CALLS("");
        declare(rows[i]);
        char text[200];
        (void)snprintf(text, sizeof text, "declare 404 no queue '%s' in vhost '/'\n", rows[i]);
        EXPECT_SAID(text);
    }
}

Test(broker_reply, declaring_asks_whether_it_is_there)
{
    char name[REPLY_NAME_SIZE + 1];
    char text[200];
    setup();
    declare(REPLY_QUEUE);
    EXPECT_SAID("declare ok 'amq.rabbitmq.reply-to' 0 1\n");
    (void)snprintf(name, sizeof name, "%s", request());
    (void)rig_calls();
    (void)rig_said();
    declare(name);
    EXPECT_CALLS("letter 2 to 1.0\n");
    EXPECT_SAID("");
    rig_post();
    (void)snprintf(text, sizeof text, "declare ok '%s' 0 1\n", name);
    EXPECT_SAID(text);
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    (void)rig_said();
    declare(name);
    rig_post();
    (void)snprintf(text, sizeof text, "declare 404 no queue '%s' in vhost '/'\n", name);
    EXPECT_SAID(text);
    declare(name); /* no answer */
    EXPECT_SAID("");
    rig.now_ms += 5000;
    EXPECT_SAID(text);
    rig_post(); /* it comes too late */
    EXPECT_SAID("");
    rig.no_leader = true;
    declare(name);
    EXPECT_SAID(text);
    rig.no_leader = false;
    declare(name);
    broker_channel_close(rig.ch);
    rig_post();
    EXPECT_SAID("");
    rig.ch = rig_channel(rig.session, 2);
}

Test(broker_reply, a_closed_channel_gets_nothing)
{
    char name[REPLY_NAME_SIZE + 1];
    setup();
    (void)snprintf(name, sizeof name, "%s", request());
    rig_publish("", name, BYTES_NONE, 0);
    broker_channel_close(rig.ch);
    rig.ch = rig_channel(rig.session, 2);
    (void)rig_said();
    rig_post();
    EXPECT_SAID("");
}

Test(broker_reply, a_slow_socket_keeps_so_much_and_drops_the_rest)
{
    static char body[1 << 20];
    char name[REPLY_NAME_SIZE + 1];
    setup();
    (void)snprintf(name, sizeof name, "%s", request());
    memset(body, 'x', sizeof body - 1);
    broker_channel_hold(rig.ch, true);
    for (int i = 0; i < 20; i++) {
        struct broker_fault fault;
        struct message message = rig_message("", name, BYTES_NONE, i < 2 ? "small" : body);
        (void)broker_publish(rig.ch, message, 0, &fault, NULL, NULL);
        message_unref(message);
    }
    rig_post();
    EXPECT_SAID("routed\n");
    broker_channel_hold(rig.ch, false);
    rig.said_text[0] = 0; /* it is too long to be looked at */
    cr_assert_eq(rig.ch->delivered, 2 + 15);
    strbuf_init(&rig.said, rig.said_text, sizeof rig.said_text);
    rig_publish("", name, BYTES_NONE, 0);
    rig_post();
    EXPECT_SAID("unroutable\ndeliver 't' 0.0.0 no_ack 'm'\n");
    broker_channel_hold(rig.ch, true);
    rig_publish("", name, BYTES_NONE, 0);
    rig_post(); /* what is kept goes with the channel */
}

Test(broker_reply, cc_reaches_it_too_and_each_once)
{
    char name[REPLY_NAME_SIZE + 1];
    setup();
    (void)snprintf(name, sizeof name, "%s", request());
    struct writer headers;
    writer_init(&headers, 256);
    uint32_t mark = wire_table_put_array_begin(&headers, "CC");
    wire_value_put_longstr(&headers, B(name));
    wire_value_put_longstr(&headers, B("q"));
    wire_value_put_end(&headers, mark);
    struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
    struct writer raw;
    writer_init(&raw, 256);
    wire_props_put(&raw, &props);
    (void)rig_calls();
    rig_publish("", name, writer_bytes(&raw), 0);
    EXPECT_CALLS("letter 1 to 1.0\nq publish 'm' props=92\n");
    rig_publish("amq.direct", name, writer_bytes(&raw), 0); /* another exchange is no way there */
    EXPECT_CALLS("barrier\n");
    writer_deinit(&raw);
    writer_deinit(&headers);
}

Test(broker_reply, in_a_transaction_it_goes_with_the_commit)
{
    char name[REPLY_NAME_SIZE + 1];
    setup();
    (void)snprintf(name, sizeof name, "%s", request());
    broker_tx_select(rig.ch);
    rig_publish("", name, BYTES_NONE, 0);
    broker_tx_rollback(rig.ch);
    broker_tx_mandatory(rig.ch, true);
    rig_publish("", name, BYTES_NONE, 0);
    (void)rig_said();
    (void)rig_calls();
    cr_assert_not(broker_tx_commit(rig.ch, rig_done, "commit"));
    EXPECT_CALLS("letter 1 to 1.0\n");
    EXPECT_SAID("return 'm'\ncommit ok '' 0 0\n");
}

Test(broker_reply, letters_of_strangers_do_no_harm)
{
    setup();
    for (uint64_t kind = 0; kind < 6; kind++) {
        for (uint64_t id = 0; id < 3; id++) {
            const struct host_letter letter = {.numbers = {kind, id, 1, 2, 3}};
            broker_on_letter(rig.broker, (struct uid){7, 7}, 900, &letter);
        }
    }
    rig_post();
    EXPECT_SAID("");
}
