/* Publishing that is held back, by back-pressure and by alarms: what passes, what waits, what a
 * close does, what the client is told, and how much is kept. */
#include "amqp_internal.h"
#include "rig.h"

TestSuite(amqp_flow, .init = rig_init, .fini = rig_deinit);

#define PUBLISHED(body) "1 publish 'x' 'k' token=0  priority=0 props=2 body='" body "'\n"

static void send_bare(uint16_t channel, enum wire_method_id id)
{
    struct wire_method m = {.id = id};
    rig_send(channel, &m);
}

static void settle(enum wire_method_id id, uint64_t tag, bool multiple, bool requeue)
{
    struct wire_method m = {.id = id};
    if (id == WIRE_BASIC_ACK) {
        m.basic_ack.delivery_tag = tag;
        m.basic_ack.multiple = multiple;
    } else {
        m.basic_nack.delivery_tag = tag;
        m.basic_nack.multiple = multiple;
        m.basic_nack.requeue = requeue;
    }
    rig_send(1, &m);
}

static void ack(uint64_t tag)
{
    settle(WIRE_BASIC_ACK, tag, false, false);
}

static void publish(uint16_t channel, const char *body)
{
    struct wire_method m = rig_publish("x", "k");
    rig_send(channel, &m);
    rig_content(channel, strlen(body));
    rig_frame(WIRE_FRAME_BODY, channel, body, strlen(body));
}

static void declare(const char *name)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    m.queue_declare.queue = B(name);
    rig_send(1, &m);
}

static void block(bool blocked)
{
    rig.channels[1].sink->on_blocked(rig.channels[1].ctx, blocked);
}

static void alarm_channel(uint16_t channel, const char *reason)
{
    rig.alarms = BROKER_ALARM_DISK;
    rig_turn();
    rig.channels[channel].sink->on_alarm(rig.channels[channel].ctx, reason);
    rig.channels[channel].sink->on_blocked(rig.channels[channel].ctx, true);
}

static void alarm_over(void)
{
    rig.alarms = 0;
    rig_turn();
    for (size_t i = 0; i < WR_ARRAY_SIZE(rig.channels); i++) {
        if (rig.channels[i].used) {
            rig.channels[i].sink->on_blocked(rig.channels[i].ctx, false);
        }
    }
}

/* A channel with four deliveries that publishes nothing any more, and one publish held back. */
static void held(void)
{
    rig_open();
    rig_channel(1);
    for (uint64_t i = 1; i <= 4; i++) {
        rig_deliver(1, "t", 0, 1, i, false, "a");
    }
    (void)rig_out();
    block(true);
    publish(1, "m");
    EXPECT_CALLS("");
}

/* --- what passes ------------------------------------------------------------------------------ */

Test(amqp_flow, settles_pass_publishes)
{
    held();
    ack(1);
    settle(WIRE_BASIC_NACK, 2, false, true);
    settle(WIRE_BASIC_NACK, 3, false, false);
    EXPECT_CALLS("1 settle ack 0.1.1+1\n1 settle requeue 0.1.2+1\n1 settle reject 0.1.3+1\n");
    block(false);
    EXPECT_CALLS(PUBLISHED("m"));
}

Test(amqp_flow, acks_pass_requests_too_but_requeues_do_not)
{
    held();
    declare("q");
    ack(1);
    EXPECT_CALLS("1 settle ack 0.1.1+1\n");
    settle(WIRE_BASIC_NACK, 2, false, true); /* of a queue that is purged it would be lost */
    ack(3);                                  /* nor is an older settle passed by a newer one */
    EXPECT_CALLS("");
    block(false);
    EXPECT_CALLS(PUBLISHED("m") "1 queue_declare 'q' flags=0 args=0\n1 settle requeue 0.1.2+1\n"
                                "1 settle ack 0.1.3+1\n");
}

Test(amqp_flow, a_cancel_passes_publishes_and_acks_behind_it_go_on)
{
    struct wire_method cancel = {.id = WIRE_BASIC_CANCEL};
    cancel.basic_cancel.consumer_tag = B("t");
    held();
    rig.answer = false;
    rig_send(1, &cancel);
    ack(1); /* waits for the cancel only */
    publish(1, "n");
    ack(2);
    EXPECT_CALLS("1 cancel 't'\n");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 basic.cancel-ok consumer-tag=\"t\"\n");
    EXPECT_CALLS("1 settle ack 0.1.1+2\n");
    ack(3);
    EXPECT_CALLS("1 settle ack 0.1.3+1\n");
    block(false);
    EXPECT_CALLS(PUBLISHED("m") PUBLISHED("n"));
}

Test(amqp_flow, answers_keep_the_order_of_their_requests)
{
    struct wire_method cancel = {.id = WIRE_BASIC_CANCEL};
    cancel.basic_cancel.consumer_tag = B("t");
    held();
    declare("q");
    rig_send(1, &cancel);
    EXPECT_CALLS("");
    block(false);
    EXPECT_CALLS(PUBLISHED("m") "1 queue_declare 'q' flags=0 args=0\n1 cancel 't'\n");
    EXPECT_OUT("1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n"
               "1 basic.cancel-ok consumer-tag=\"t\"\n");
}

Test(amqp_flow, recover_comes_before_what_is_settled_after_it)
{
    struct wire_method recover = {.id = WIRE_BASIC_RECOVER};
    recover.basic_recover.requeue = true;
    held();
    declare("q");
    rig_send(1, &recover);
    ack(1);
    EXPECT_CALLS("");
    EXPECT_OUT("");
}

/* Consuming may be what ends an alarm; back-pressure ends by itself, and order counts. */
Test(amqp_flow, under_an_alarm_consume_and_get_pass_publishes)
{
    struct wire_method get = {.id = WIRE_BASIC_GET};
    struct wire_method consume = {.id = WIRE_BASIC_CONSUME};
    get.basic_get.queue = B("q");
    consume.basic_consume.queue = B("q");
    consume.basic_consume.consumer_tag = B("u");
    held();
    rig_send(1, &get);
    EXPECT_CALLS("");
    block(false);
    EXPECT_CALLS(PUBLISHED("m") "1 get 'q'\n");
    (void)rig_out();
    alarm_channel(1, "low on disk");
    publish(1, "n");
    rig_send(1, &get);
    rig_send(1, &consume);
    EXPECT_CALLS("1 get 'q'\n1 consume 'q' 'u' flags=0 args=0\n");
    alarm_over();
    EXPECT_CALLS(PUBLISHED("n"));
}

Test(amqp_flow, other_channels_are_not_held_back)
{
    held();
    rig_channel(2);
    publish(2, "o");
    EXPECT_CALLS("2 publish 'x' 'k' token=0  priority=0 props=2 body='o'\n");
}

/* --- closing ---------------------------------------------------------------------------------- */

Test(amqp_flow, a_closed_channel_publishes_what_was_held_back)
{
    held();
    publish(1, "n");
    send_bare(1, WIRE_CHANNEL_CLOSE);
    EXPECT_OUT("1 channel.close-ok\n");
    EXPECT_CALLS(PUBLISHED("m") PUBLISHED("n") "1 channel_close\n");
    rig_channel(1); /* the number is free */
}

Test(amqp_flow, a_closed_connection_publishes_what_was_held_back)
{
    held();
    declare("q");
    publish(1, "n");
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_CALLS(PUBLISHED("m") "1 queue_declare 'q' flags=0 args=0\n" PUBLISHED(
        "n") "1 channel_close\nsession_close\n");
    rig_session_gone();
    EXPECT_OUT("1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n"
               "0 connection.close-ok\n");
}

Test(amqp_flow, so_does_the_channel_that_takes_its_number)
{
    held();
    send_bare(1, WIRE_CHANNEL_CLOSE); /* worked off in the turn */
    send_bare(1, WIRE_CHANNEL_OPEN);
    publish(1, "n");
    publish(1, "o");
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_CALLS(PUBLISHED("m") "1 channel_close\n" PUBLISHED("n")
                     PUBLISHED("o") "1 channel_close\nsession_close\n");
}

/* --- transactions ----------------------------------------------------------------------------- */

Test(amqp_flow, a_transaction_that_acknowledges_is_let_through)
{
    held();
    ack(1);
    publish(1, "n");
    EXPECT_CALLS("1 settle ack 0.1.1+1\n");
    send_bare(1, WIRE_TX_COMMIT);
    const char *calls = rig_calls();
    cr_assert_not_null(strstr(calls, PUBLISHED("m") PUBLISHED("n")), "%s", calls);
}

Test(amqp_flow, one_that_only_publishes_waits)
{
    held();
    send_bare(1, WIRE_TX_COMMIT);
    ack(1); /* of the next one */
    EXPECT_CALLS("");
    EXPECT_OUT("");
}

/* Not only what comes behind the first publish: no message of this moment is taken. */
Test(amqp_flow, a_publish_that_begins_under_an_alarm_is_held_back)
{
    rig_open();
    rig_channel(1);
    send_bare(1, WIRE_CONFIRM_SELECT);
    (void)rig_out();
    (void)rig_calls();
    rig.alarms = BROKER_ALARM_MEMORY;
    rig.alarms_hold = true;
    rig_turn();
    publish(1, "a");
    EXPECT_OUT("0 connection.blocked reason=\"low on memory\"\n");
    EXPECT_CALLS("");
    alarm_over();
    EXPECT_OUT("0 connection.unblocked\n");
    EXPECT_CALLS("1 publish 'x' 'k' token=1  priority=0 props=2 body='a'\n");
}

/* Those kept for another reason are not worked off into an alarm either; before a close they are.
 */
Test(amqp_flow, a_kept_publish_is_held_back_by_an_alarm_but_not_before_a_close)
{
    rig_open();
    rig_channel(1);
    block(true);
    publish(1, "a");
    publish(1, "b");
    rig.alarms = BROKER_ALARM_MEMORY;
    rig.alarms_hold = true;
    rig_turn();
    block(false);
    EXPECT_OUT("0 connection.blocked reason=\"low on memory\"\n");
    EXPECT_CALLS("");
    send_bare(1, WIRE_CHANNEL_CLOSE);
    EXPECT_OUT("1 channel.close-ok\n");
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\n"
                 "1 publish 'x' 'k' token=0  priority=0 props=2 body='b'\n1 channel_close\n");
}

/* --- what the client is told ------------------------------------------------------------------ */

Test(amqp_flow, a_connection_is_told_once_and_when_it_is_over)
{
    rig_open();
    rig_channel(1);
    rig_channel(2);
    alarm_channel(1, "low on memory");
    alarm_channel(2, "low on disk & memory");
    EXPECT_OUT("0 connection.blocked reason=\"low on memory\"\n");
    alarm_over();
    EXPECT_OUT("0 connection.unblocked\n");
    alarm_channel(2, "low on disk");
    EXPECT_OUT("0 connection.blocked reason=\"low on disk\"\n");
}

Test(amqp_flow, it_is_told_also_when_its_channels_are_closed)
{
    rig_open();
    rig_channel(1);
    alarm_channel(1, "low on disk");
    send_bare(1, WIRE_CHANNEL_CLOSE);
    EXPECT_OUT("0 connection.blocked reason=\"low on disk\"\n1 channel.close-ok\n");
    rig.alarms = 0;
    EXPECT_OUT("0 connection.unblocked\n");
}

Test(amqp_flow, who_is_blocked_is_not_taken_for_dead)
{
    rig_open_with(131072, 10);
    rig_channel(1);
    alarm_channel(1, "low on disk");
    rig_pass(100000);
    const char *out = rig_out();
    cr_assert_null(strstr(out, "reset"));
    cr_assert_not_null(strstr(out, "0 heartbeat\n")); /* ours go on */
    alarm_over();
    rig_pass(19000);
    cr_assert_null(strstr(rig_out(), "reset"));
    rig_pass(6000);
    cr_assert_not_null(strstr(rig_out(), "reset\n"));
}

/* --- how much is kept ------------------------------------------------------------------------- */

static uint64_t keep_until_paused(void)
{
    static uint8_t body[100000];
    struct wire_method p = rig_publish("x", "k");
    uint64_t kept = 0;
    while (!rig.conn.paused) {
        rig_send(1, &p);
        rig_content(1, sizeof body);
        rig_frame(WIRE_FRAME_BODY, 1, body, sizeof body);
        kept += sizeof body;
    }
    return kept;
}

Test(amqp_flow, there_is_room_for_what_is_held_back_so_that_others_are_heard)
{
    held();
    uint64_t kept = keep_until_paused();
    cr_assert_geq(kept, 15u << 20);
    cr_assert_leq(kept, 17u << 20);
    block(false);
    cr_assert_not(rig.conn.paused);
    (void)rig_calls();
}

Test(amqp_flow, there_is_less_when_memory_is_low)
{
    rig.alarms = BROKER_ALARM_MEMORY;
    held();
    uint64_t kept = keep_until_paused();
    cr_assert_leq(kept, 1200000);
    rig.alarms = 0;
    rig_turn();
    cr_assert_not(rig.conn.paused);
    rig.alarms = BROKER_ALARM_MEMORY;
    rig_turn();
    cr_assert(rig.conn.paused);
}

/* --- large bodies ----------------------------------------------------------------------------- */

static void begin_large(uint16_t channel, uint64_t size)
{
    struct wire_method m = rig_publish("x", "k");
    rig_send(channel, &m);
    rig_content(channel, size);
}

static void send_large(uint16_t channel, uint64_t size)
{
    static uint8_t body[100000];
    for (; size > 0; size -= sizeof body) {
        rig_frame(WIRE_FRAME_BODY, channel, body, sizeof body);
    }
}

static bool published(uint16_t channel)
{
    char line[40];
    (void)snprintf(line, sizeof line, "%u publish 'x' 'k'", channel);
    return strstr(rig_calls(), line) != NULL;
}

Test(amqp_flow, large_bodies_wait_until_there_is_room)
{
    rig.room = 500000;
    rig_open();
    for (uint16_t i = 1; i <= 3; i++) {
        rig_channel(i);
        begin_large(i, 300000);
    }
    cr_assert_eq(rig.server->room_taken, 300000);
    send_large(2, 300000);
    cr_assert_not(published(2));
    begin_large(4, 0); /* channels that need none go on: this one is not open */
    cr_assert_not_null(strstr(rig_out(), "connection.close"));
}

Test(amqp_flow, room_is_given_in_order)
{
    rig.room = 500000;
    rig_open();
    for (uint16_t i = 1; i <= 3; i++) {
        rig_channel(i);
        begin_large(i, 300000);
    }
    send_large(3, 300000);
    send_large(2, 300000);
    cr_assert_not(published(2));
    publish(3, ""); /* behind its own large one */
    send_large(1, 300000);
    const char *calls = rig_calls();
    const char *one = strstr(calls, "1 publish");
    const char *two = strstr(calls, "2 publish");
    const char *three = strstr(calls, "3 publish");
    cr_assert(one != NULL && two != NULL && three != NULL && one < two && two < three);
    cr_assert_eq(rig.server->room_taken, 0);
    cr_assert_eq(rig.server->kept_bytes, 0);
}

/* What is pending may be stuck with its queue: it does not keep others out for ever. */
Test(amqp_flow, one_large_body_may_always_come)
{
    rig.room = 0;
    rig_open();
    rig_channel(1);
    rig_channel(2);
    begin_large(1, 300000);
    begin_large(2, 300000);
    send_large(1, 300000);
    cr_assert(published(1));
    send_large(2, 300000);
    cr_assert(published(2));
}

Test(amqp_flow, who_announces_and_does_not_send_keeps_nobody_out)
{
    rig.room = 0;
    rig_open();
    rig_channel(1);
    rig_channel(2);
    begin_large(1, 300000);
    begin_large(2, 300000);
    send_large(2, 300000);
    cr_assert_not(published(2));
    rig_pass(AMQP_ROOM_STALL_MS * 2);
    cr_assert(published(2));
}

Test(amqp_flow, of_who_stops_sending_counts_what_came)
{
    rig.room = 1000000;
    rig_open();
    for (uint16_t i = 1; i <= 4; i++) {
        rig_channel(i);
        begin_large(i, 500000);
    }
    send_large(1, 100000);
    cr_assert_eq(rig.server->room_taken, 1000000);
    rig_pass(AMQP_ROOM_STALL_MS * 2); /* the third and the fourth are let in */
    send_large(2, 500000);
    send_large(3, 500000);
    send_large(4, 500000);
    const char *calls = rig_calls();
    cr_assert_not_null(strstr(calls, "3 publish"));
    cr_assert_not_null(strstr(calls, "4 publish"));
    cr_assert_eq(rig.server->room_taken, 100000);
    send_large(1, 400000);
    cr_assert(published(1));
    cr_assert_eq(rig.server->room_taken, 0);
}

Test(amqp_flow, room_comes_back_however_the_channel_ends)
{
    struct broker_fault fault = {.code = 406, .text = "no"};
    rig.room = 0;
    rig_open();
    for (uint16_t i = 1; i <= 4; i++) {
        rig_channel(i);
        begin_large(i, 300000);
    }
    rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 60, 40);
    rig.channels[2].sink->on_fault(rig.channels[2].ctx, &fault, 60, 40);
    rig_turn();
    cr_assert_eq(rig.server->room_taken, 300000); /* of the third */
    rig_hang_up();
    cr_assert_eq(rig.server->room_taken, 0);
    cr_assert(list_is_empty(&rig.server->room_waits));
}
