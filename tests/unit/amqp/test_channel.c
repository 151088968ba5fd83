/* Channels: requests and replies, order while one waits, errors, closing in both directions,
 * back-pressure. */
#include "rig.h"

TestSuite(amqp_channel, .init = rig_init, .fini = rig_deinit);

static struct wire_method declare(const char *name, bool no_wait)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    m.queue_declare.queue = B(name);
    m.queue_declare.no_wait = no_wait;
    return m;
}

static struct wire_method ack(uint64_t tag)
{
    struct wire_method m = {.id = WIRE_BASIC_ACK};
    m.basic_ack.delivery_tag = tag;
    return m;
}

static struct wire_method bare(enum wire_method_id id)
{
    return (struct wire_method){.id = id};
}

static void send_bare(uint16_t channel, enum wire_method_id id)
{
    struct wire_method m = bare(id);
    rig_send(channel, &m);
}

static void publish(uint16_t channel, const char *key, const char *body)
{
    struct wire_method m = rig_publish("x", key);
    rig_send(channel, &m);
    rig_content(channel, strlen(body));
    rig_frame(WIRE_FRAME_BODY, channel, body, strlen(body));
}

static void block(bool blocked)
{
    rig.channels[1].sink->on_blocked(rig.channels[1].ctx, blocked);
}

/* --- requests --------------------------------------------------------------------------------- */

/* Each request with its call and its reply; with nowait the same call and no reply. */
Test(amqp_channel, requests_and_replies)
{
    struct {
        struct wire_method m;
        bool *no_wait;
        const char *call, *reply;
    } rows[16];
    size_t n = 0;
#define ROW(ID, lower, init, CALL, REPLY)                                                          \
    rows[n].m = (struct wire_method){.id = ID};                                                    \
    rows[n].m.lower = (struct wire_##lower)init;                                                   \
    rows[n].no_wait = &rows[n].m.lower.no_wait;                                                    \
    rows[n].call = CALL;                                                                           \
    rows[n++].reply = REPLY;
#define FIELDS(...) {__VA_ARGS__}
    ROW(WIRE_EXCHANGE_DECLARE, exchange_declare,
        FIELDS(.exchange = B("e\r\n"), .type = B("fanout"), .durable = true, .internal = true),
        "1 exchange_declare 'e' fanout flags=18 args=0\n", "1 exchange.declare-ok\n")
    ROW(WIRE_EXCHANGE_DELETE, exchange_delete, FIELDS(.exchange = B("\ne"), .if_unused = true),
        "1 exchange_delete 'e' flags=32\n", "1 exchange.delete-ok\n")
    ROW(WIRE_EXCHANGE_BIND, exchange_bind,
        FIELDS(.destination = B("d"), .source = B("s"), .routing_key = B("k\n")),
        "1 exchange_bind 'd' 's' 'k\n' args=0\n", "1 exchange.bind-ok\n")
    ROW(WIRE_EXCHANGE_UNBIND, exchange_unbind,
        FIELDS(.destination = B("d"), .source = B("s"), .routing_key = B("k")),
        "1 exchange_unbind 'd' 's' 'k' args=0\n", "1 exchange.unbind-ok\n")
    ROW(WIRE_QUEUE_DECLARE, queue_declare,
        FIELDS(.queue = B("q\r"), .passive = true, .exclusive = true, .auto_delete = true),
        "1 queue_declare 'q' flags=13 args=0\n",
        "1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n")
    ROW(WIRE_QUEUE_BIND, queue_bind,
        FIELDS(.queue = B("q"), .exchange = B("e"), .routing_key = B("k")),
        "1 queue_bind 'q' 'e' 'k' args=0\n", "1 queue.bind-ok\n")
    ROW(WIRE_QUEUE_PURGE, queue_purge, FIELDS(.queue = B("q")), "1 queue_purge 'q'\n",
        "1 queue.purge-ok message-count=0\n")
    ROW(WIRE_QUEUE_DELETE, queue_delete,
        FIELDS(.queue = B("q"), .if_unused = true, .if_empty = true),
        "1 queue_delete 'q' flags=96\n", "1 queue.delete-ok message-count=0\n")
    ROW(WIRE_BASIC_CONSUME, basic_consume,
        FIELDS(.queue = B("q"), .consumer_tag = B("t"), .no_ack = true, .exclusive = true),
        "1 consume 'q' 't' flags=132 args=0\n", "1 basic.consume-ok consumer-tag=\"t\"\n")
    ROW(WIRE_BASIC_CANCEL, basic_cancel, FIELDS(.consumer_tag = B("t")), "1 cancel 't'\n",
        "1 basic.cancel-ok consumer-tag=\"t\"\n")
    ROW(WIRE_CONFIRM_SELECT, confirm_select, FIELDS(.no_wait = false), "", "1 confirm.select-ok\n")
    rig_open();
    rig_channel(1);
    for (size_t i = 0; i < n; i++) {
        rig_send(1, &rows[i].m);
        cr_assert_str_eq(rig_out(), rows[i].reply, "row %zu", i);
        cr_assert_str_eq(rig_calls(), rows[i].call, "row %zu", i);
        *rows[i].no_wait = true;
        rig_send(1, &rows[i].m);
        cr_assert_str_eq(rig_out(), "", "row %zu with nowait", i);
        cr_assert_str_eq(rig_calls(), rows[i].call, "row %zu with nowait", i);
    }
}

Test(amqp_channel, requests_without_nowait)
{
    struct wire_method unbind = bare(WIRE_QUEUE_UNBIND);
    unbind.queue_unbind.queue = B("q");
    unbind.queue_unbind.exchange = B("e");
    unbind.queue_unbind.routing_key = B("k");
    struct wire_method qos = bare(WIRE_BASIC_QOS);
    qos.basic_qos.prefetch_count = 7;
    qos.basic_qos.global = true;
    struct wire_method flow = bare(WIRE_CHANNEL_FLOW);
    flow.channel_flow.active = true;
    struct wire_method access = bare(WIRE_ACCESS_REQUEST);
    access.access_request.realm = B("/data");
    struct wire_method secret = bare(WIRE_CONNECTION_UPDATE_SECRET);
    rig_open();
    rig_channel(1);
    rig_send(1, &unbind);
    EXPECT_OUT("1 queue.unbind-ok\n");
    rig_send(1, &qos);
    EXPECT_OUT("1 basic.qos-ok\n");
    rig_send(1, &flow);
    EXPECT_OUT("1 channel.flow-ok active=true\n");
    rig_send(1, &access);
    EXPECT_OUT("1 access.request-ok ticket=1\n");
    rig_send(0, &secret);
    EXPECT_OUT("0 connection.update-secret-ok\n");
    EXPECT_CALLS("1 queue_unbind 'q' 'e' 'k' args=0\n1 qos 7 global\n");
}

Test(amqp_channel, get_gives_a_message_or_none)
{
    struct wire_method get = bare(WIRE_BASIC_GET);
    get.basic_get.queue = B("q");
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &get);
    rig_answer(0, false, NULL, 1, 41);
    EXPECT_OUT("1 basic.get-ok delivery-tag=1 redelivered=false exchange=\"x\" routing-key=\"k\" "
               "message-count=41\n1 header 3 \n1 body "
               "'got'\n");
    get.basic_get.no_ack = true;
    rig_send(1, &get);
    rig_answer(0, false, NULL, 1, UINT64_MAX);
    EXPECT_OUT("1 basic.get-ok delivery-tag=2 redelivered=false exchange=\"x\" routing-key=\"k\" "
               "message-count=4294967295\n1 header 3 \n1 "
               "body 'got'\n");
    rig_send(1, &get);
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 basic.get-empty\n");
    (void)rig_calls();
    struct wire_method m = ack(1); /* the first needs an ack ... */
    rig_send(1, &m);
    EXPECT_CALLS("1 settle ack 7.0.1+1\n");
    m = ack(2); /* ... the second does not */
    rig_send(1, &m);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - unknown delivery "
               "tag 2\" class-id=60 method-id=80\n");
}

Test(amqp_channel, consume_ok_comes_before_the_first_delivery)
{
    struct wire_method consume = bare(WIRE_BASIC_CONSUME);
    consume.basic_consume.queue = B("q");
    consume.basic_consume.consumer_tag = B("t");
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &consume);
    rig_answer(0, false, NULL, 0, 0);
    rig_deliver(1, "t", 0, 1, 1, false, "a");
    EXPECT_OUT("1 basic.consume-ok consumer-tag=\"t\"\n1 basic.deliver consumer-tag=\"t\" "
               "delivery-tag=1 redelivered=false exchange=\"x\" "
               "routing-key=\"k\"\n1 header 1 \n1 body 'a'\n");
}

/* --- errors ----------------------------------------------------------------------------------- */

Test(amqp_channel, an_error_closes_the_channel_and_nothing_else)
{
    struct wire_method m = declare("q", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_channel(2);
    rig_send(1, &m);
    rig_answer(404, false, "no queue 'q' in vhost '/'", 0, 0);
    EXPECT_OUT("1 channel.close reply-code=404 reply-text=\"NOT_FOUND - no queue 'q' in vhost "
               "'/'\" class-id=50 method-id=10\n");
    rig_send(1, &m); /* dropped */
    rig_send(2, &m);
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n1 channel_close\n2 queue_declare 'q' flags=0 "
                 "args=0\n");
    rig_answer(0, false, NULL, 3, 4);
    EXPECT_OUT("2 queue.declare-ok queue=\"q\" message-count=3 consumer-count=4\n");
    send_bare(1, WIRE_CHANNEL_CLOSE_OK);
    rig_channel(1);
    rig_send(1, &m);
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n");
}

Test(amqp_channel, with_nowait_errors_close_the_channel_too)
{
    struct wire_method m = declare("q", true);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig_answer(406, false, "no", 0, 0);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - no\" class-id=50 "
               "method-id=10\n");
}

Test(amqp_channel, crossing_closes_are_both_answered)
{
    struct wire_method m = declare("q", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig_answer(406, false, "no", 0, 0);
    send_bare(1, WIRE_CHANNEL_CLOSE);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - no\" class-id=50 "
               "method-id=10\n1 channel.close-ok\n");
    send_bare(1, WIRE_CHANNEL_CLOSE_OK);
    rig_channel(1);
}

Test(amqp_channel, a_long_text_is_cut_to_what_fits)
{
    char text[400];
    memset(text, 'x', sizeof text);
    text[399] = 0;
    struct wire_method m = declare("q", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig_answer(404, false, text, 0, 0);
    const char *out = rig_out();
    const char *from = strstr(out, "reply-text=\"");
    cr_assert_not_null(from);
    from += strlen("reply-text=\"");
    cr_assert_eq(strchr(from, '"') - from, 255);
    cr_assert_eq(memcmp(strchr(from, '"') - 4, "x...", 4), 0);
}

Test(amqp_channel, connection_errors_from_the_broker_close_the_connection)
{
    struct wire_method m = declare("q", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig_answer(530, true, "attempt", 0, 0);
    EXPECT_OUT("0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - attempt\" class-id=50 "
               "method-id=10\n");
}

/* --- closing ---------------------------------------------------------------------------------- */

Test(amqp_channel, close_frees_the_number_at_once)
{
    rig_open();
    rig_channel(1);
    send_bare(1, WIRE_CHANNEL_CLOSE);
    send_bare(1, WIRE_CHANNEL_OPEN); /* without waiting for close-ok */
    EXPECT_OUT("1 channel.close-ok\n1 channel.open-ok\n");
    EXPECT_CALLS("1 channel_close\n");
}

Test(amqp_channel, close_waits_for_the_end_of_queues)
{
    rig.leaves = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    send_bare(1, WIRE_CHANNEL_CLOSE);
    send_bare(1, WIRE_CHANNEL_OPEN); /* without waiting for close-ok */
    EXPECT_OUT("");
    EXPECT_CALLS("1 leave\n");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 channel.close-ok\n1 channel.open-ok\n");
    EXPECT_CALLS("1 channel_close\n");
}

Test(amqp_channel, a_close_that_waits_for_the_end_of_queues_may_be_crossed_by_an_error)
{
    struct broker_fault fault = {.code = 406, .text = "late"};
    rig.leaves = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    send_bare(1, WIRE_CHANNEL_CLOSE);
    rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 0, 0);
    rig_turn();
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - late\" "
               "class-id=0 method-id=0\n1 channel.close-ok\n");
    EXPECT_CALLS("1 leave\n1 channel_close\n");
    send_bare(1, WIRE_CHANNEL_CLOSE_OK);
    rig_channel(1);
}

Test(amqp_channel, an_error_waits_for_the_end_of_queues)
{
    struct broker_fault fault = {.code = 406, .text = "no"};
    rig.leaves = true;
    rig.answer = false;
    for (int closes = 0; closes < 2; closes++) {
        rig_open();
        rig_channel(1);
        rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 0, 0);
        rig_turn();
        EXPECT_OUT("");
        EXPECT_CALLS("1 leave\n");
        publish(1, "k", "dropped");
        EXPECT_OUT("");
        if (closes == 0) {
            rig_answer(0, false, NULL, 0, 0);
        } else { /* the two cross: it is told at once */
            send_bare(1, WIRE_CHANNEL_CLOSE);
        }
        EXPECT_OUT(closes == 0
                       ? "1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - "
                         "no\" class-id=0 method-id=0\n"
                       : "1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - "
                         "no\" class-id=0 method-id=0\n1 channel.close-ok\n");
        EXPECT_CALLS("1 channel_close\n");
        send_bare(1, WIRE_CHANNEL_CLOSE_OK);
        rig_channel(1);
        rig_hang_up();
        (void)rig_calls();
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_channel, close_waits_for_what_came_before_it)
{
    struct wire_method m = declare("q", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    publish(1, "k", "a");
    send_bare(1, WIRE_CHANNEL_CLOSE);
    EXPECT_OUT("");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT(
        "1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n1 channel.close-ok\n");
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n1 publish 'x' 'k' token=0  priority=0 "
                 "props=2 body='a'\n1 channel_close\n");
    rig_channel(1);
}

Test(amqp_channel, close_settles_and_confirms_first)
{
    struct wire_method m = ack(1);
    rig_open();
    rig_channel(1);
    send_bare(1, WIRE_CONFIRM_SELECT);
    rig_deliver(1, "t", 0, 1, 1, false, "a");
    publish(1, "k", "a");
    (void)rig_out();
    (void)rig_calls();
    rig_send(1, &m);
    rig.channels[1].sink->on_confirm(rig.channels[1].ctx, 1, 1, true);
    send_bare(1, WIRE_CHANNEL_CLOSE);
    EXPECT_OUT("1 basic.ack delivery-tag=1 multiple=false\n1 channel.close-ok\n");
    EXPECT_CALLS("1 settle ack 0.1.1+1\n1 channel_close\n");
}

Test(amqp_channel, nothing_is_delivered_to_a_channel_that_is_being_closed)
{
    struct wire_method m = ack(9);
    rig_open();
    rig_channel(1);
    rig_send(1, &m); /* an error: closed in the turn */
    rig_deliver(1, "t", 0, 1, 1, false, "a");
    rig.channels[1].sink->on_confirm(rig.channels[1].ctx, 1, 1, true);
    rig.channels[1].sink->on_cancel(rig.channels[1].ctx, B("t"));
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - unknown delivery "
               "tag 9\" class-id=60 method-id=80\n");
}

/* As with RabbitMQ: clients wait for the reply, and some close the channel at the first cancel. */
Test(amqp_channel, a_cancel_by_the_channels_own_delete_comes_behind_its_reply)
{
    struct wire_method m = {.id = WIRE_QUEUE_DELETE};
    m.queue_delete.queue = B("q");
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig.channels[1].sink->on_cancel(rig.channels[1].ctx, B("t"));
    rig.channels[1].sink->on_cancel(rig.channels[1].ctx, B(""));
    EXPECT_OUT("");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 queue.delete-ok message-count=0\n"
               "1 basic.cancel consumer-tag=\"t\" no-wait=true\n"
               "1 basic.cancel consumer-tag=\"\" no-wait=true\n");
    m.queue_delete.no_wait = true;
    rig_send(1, &m);
    rig.channels[1].sink->on_cancel(rig.channels[1].ctx, B("t"));
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 basic.cancel consumer-tag=\"t\" no-wait=true\n");
    m.queue_delete.no_wait = false;
    rig_send(1, &m);
    rig.channels[1].sink->on_cancel(rig.channels[1].ctx, B("t"));
    EXPECT_OUT(""); /* and the channel is freed with the rig */
}

Test(amqp_channel, a_close_that_crosses_an_error_is_answered)
{
    struct wire_method m = declare("q", false);
    struct wire_method again = declare("r", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    publish(1, "k", "a");
    rig_send(1, &again);
    send_bare(1, WIRE_CHANNEL_CLOSE); /* kept: the declare is not answered yet */
    EXPECT_OUT("");
    rig_answer(405, false, "locked", 0, 0);
    EXPECT_OUT("1 channel.close reply-code=405 reply-text=\"RESOURCE_LOCKED - locked\" class-id=50 "
               "method-id=10\n1 channel.close-ok\n");
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n1 channel_close\n");
    send_bare(1, WIRE_CHANNEL_CLOSE_OK); /* ours is answered too: the number is free */
    rig_channel(1);
}

/* --- order and back-pressure ------------------------------------------------------------------ */

Test(amqp_channel, frames_behind_a_waiting_request_are_kept_in_order)
{
    struct wire_method m = declare("q", false);
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_channel(2);
    rig_send(1, &m);
    publish(1, "k", "a");
    rig_send(1, &m);
    publish(1, "k", "b");
    publish(2, "k", "other"); /* other channels go on */
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n2 publish 'x' 'k' token=0  priority=0 "
                 "props=2 body='other'\n");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\n1 queue_declare 'q' "
                 "flags=0 args=0\n");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body='b'\n");
}

Test(amqp_channel, kept_frames_pause_the_socket_and_let_it_go_on)
{
    static uint8_t body[100000];
    struct wire_method m = declare("q", false);
    struct wire_method p = rig_publish("x", "k");
    rig.answer = false;
    rig.alarms = BROKER_ALARM_MEMORY; /* the lower limit */
    rig_open();
    rig_channel(1);
    rig_channel(2);
    rig_send(1, &m);
    rig_send(2, &m);
    for (int i = 0; i < 10; i++) { /* the limit is the connection's, over all channels */
        cr_assert_not(rig.conn.paused);
        uint16_t channel = (uint16_t)(1 + i % 2);
        rig_send(channel, &p);
        rig_content(channel, sizeof body);
        rig_frame(WIRE_FRAME_BODY, channel, body, sizeof body);
    }
    cr_assert_not(rig.conn.paused);
    rig_send(1, &p);
    rig_content(1, sizeof body);
    rig_frame(WIRE_FRAME_BODY, 1, body, sizeof body);
    cr_assert(rig.conn.paused);
    rig_answer(0, false, NULL, 0, 0);
    cr_assert_not(rig.conn.paused);
    for (int i = 0; i < 11; i++) {
        rig_send(2, &p);
        rig_content(2, sizeof body);
        rig_frame(WIRE_FRAME_BODY, 2, body, sizeof body);
    }
    cr_assert(rig.conn.paused);
    struct broker_fault fault = {.code = 406, .text = "no"};
    rig.channels[2].sink->on_fault(rig.channels[2].ctx, &fault, 60,
                                   40); /* the channel goes with all it kept */
    rig_turn();
    cr_assert_not(rig.conn.paused);
}

Test(amqp_channel, a_paused_connection_can_go_at_any_time)
{
    static uint8_t body[100000];
    struct wire_method m = declare("q", false);
    struct wire_method p = rig_publish("x", "k");
    rig.answer = false;
    rig.alarms = BROKER_ALARM_MEMORY;
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    for (int i = 0; i < 12; i++) {
        rig_send(1, &p);
        rig_content(1, sizeof body);
        rig_frame(WIRE_FRAME_BODY, 1, body, sizeof body);
    }
    cr_assert(rig.conn.paused);
    rig_hang_up();
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n1 channel_close\nsession_close\n");
}

Test(amqp_channel, an_older_ack_is_never_overtaken_by_a_newer_one)
{
    struct wire_method d = declare("q", false);
    struct wire_method one = ack(1);
    struct wire_method all = ack(3);
    all.basic_ack.multiple = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    for (uint64_t i = 1; i <= 3; i++) {
        rig_deliver(1, "t", 0, 1, i, false, "a");
    }
    (void)rig_out();
    rig_send(1, &d);
    rig_send(1, &one); /* kept behind the declare */
    block(true);
    rig_answer(0, false, NULL, 0, 0);
    rig_send(1, &all);
    block(false);
    EXPECT_OUT("1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n");
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n1 settle ack 0.1.1+3\n");
}

Test(amqp_channel, a_slow_socket_holds_deliveries_back_on_all_channels)
{
    rig_open();
    rig_channel(1);
    rig.conn.backlog = (1u << 20) + 1;
    rig_deliver(1, "t", 0, 1, 1, false, "a");
    EXPECT_CALLS("1 hold on\n");
    (void)rig_out();
    rig_channel(2); /* opened meanwhile: held, too */
    EXPECT_CALLS("2 hold on\n");
    rig.conn.backlog = 0;
    amqp_on_drained(rig.server, rig.conn.user);
    EXPECT_CALLS("1 hold off\n2 hold off\n");
}

/* Requests that are answered at once. */
static void ask(int count)
{
    struct wire_method m = {.id = WIRE_CHANNEL_FLOW};
    m.channel_flow.active = true;
    for (int i = 0; i < count; i++) {
        rig_send(1, &m);
    }
    rig_turn();
}

Test(amqp_channel, who_does_not_read_answers_is_not_listened_to)
{
    rig_open();
    rig_channel(1);
    rig.conn.backlog = (8u << 20);
    while (rig.conn.out->size < (4u << 20)) {
        cr_assert_not(rig.conn.paused);
        ask(1000);
    }
    ask(1000);
    cr_assert(rig.conn.paused);
    uint32_t size = rig.conn.out->size;
    ask(1000); /* what had been read from the socket already waits */
    cr_assert_eq(rig.conn.out->size, size);
    rig.conn.backlog = 0;
    amqp_on_drained(rig.server, rig.conn.user);
    rig_turn();
    cr_assert_not(rig.conn.paused);
    cr_assert_gt(rig.conn.out->size, size);
}

Test(amqp_channel, deliveries_do_not_keep_a_slow_consumer_from_settling)
{
    static char body[1 << 20];
    memset(body, 'x', sizeof body - 1);
    rig_open();
    rig_channel(1);
    rig.conn.backlog = (16u << 20);
    for (uint64_t i = 1; i <= 16; i++) {
        rig_deliver(1, "t", 0, 1, i, false, body);
        rig_turn();
    }
    cr_assert_not(rig.conn.paused);
    (void)rig_calls();
    struct wire_method m = ack(1);
    rig_send(1, &m);
    rig_turn();
    EXPECT_CALLS("1 settle ack 0.1.1+1\n");
}

Test(amqp_channel, who_hangs_up_with_answers_unread_is_forgotten)
{
    rig_open();
    rig_channel(1);
    rig.conn.backlog = (8u << 20);
    for (int i = 0; i < 1000 && !rig.conn.paused; i++) {
        ask(1000);
    }
    cr_assert(rig.conn.paused);
    ask(10);
    (void)rig_calls();
    rig_hang_up();
    EXPECT_CALLS("1 channel_close\nsession_close\n");
}

Test(amqp_channel, a_cancel_of_the_broker_is_told_to_those_who_asked_for_it)
{
    rig_open();
    rig_channel(1);
    rig.channels[1].sink->on_cancel(rig.channels[1].ctx, B("t"));
    EXPECT_OUT("1 basic.cancel consumer-tag=\"t\" no-wait=true\n");
}
