/* How connections end: by the client, by an error, by the socket, and combinations. */
#include "rig.h"

TestSuite(amqp_close, .init = rig_init, .fini = rig_deinit);

#define CLOSE_541                                                                                  \
    "0 connection.close reply-code=541 reply-text=\"INTERNAL_ERROR - broken\" class-id=0 "         \
    "method-id=0\n"

static void send_bare(uint16_t channel, enum wire_method_id id)
{
    struct wire_method m = {.id = id};
    rig_send(channel, &m);
}

static void publish(uint16_t channel, const char *body)
{
    struct wire_method m = rig_publish("x", "k");
    rig_send(channel, &m);
    rig_content(channel, strlen(body));
    rig_frame(WIRE_FRAME_BODY, channel, body, strlen(body));
}

static void declare(uint16_t channel)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    m.queue_declare.queue = B("q");
    rig_send(channel, &m);
}

static void fail(void)
{
    struct broker_fault fault = {.code = 541, .connection = true, .text = "broken"};
    rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 0, 0);
}

Test(amqp_close, close_ok_comes_after_the_session_is_gone)
{
    rig.hold_session = true;
    rig_open();
    rig_channel(1);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("");
    EXPECT_CALLS("1 channel_close\nsession_close\n");
    rig_session_gone();
    EXPECT_OUT("0 connection.close-ok\n");
}

/* RabbitMQ's order. A client that reads the end of the stream together with close-ok may take it
 * for a connection lost. */
Test(amqp_close, after_close_ok_the_client_hangs_up_first)
{
    rig_open();
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("0 connection.close-ok\n");
    send_bare(0, WIRE_CONNECTION_CLOSE); /* it says anything but good-bye */
    EXPECT_OUT("");
    rig_hang_up();
    EXPECT_OUT("");
    cr_assert_eq(amqp_connections(rig.server), 0);
}

Test(amqp_close, a_client_that_does_not_hang_up_is_left)
{
    rig_open();
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("0 connection.close-ok\n");
    rig_pass(2999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT("end\n");
}

Test(amqp_close, a_node_that_stops_does_not_wait_for_it)
{
    rig_open();
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("0 connection.close-ok\n");
    amqp_close_all(rig.server, "shutdown");
    EXPECT_OUT("end\n");
}

Test(amqp_close, a_refused_secret_ends_the_connection)
{
    struct wire_method secret = {.id = WIRE_CONNECTION_UPDATE_SECRET};
    secret.connection_update_secret.new_secret = B("bad");
    rig_open();
    rig_send(0, &secret);
    EXPECT_OUT("0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - refused\" class-id=10 "
               "method-id=70\n");
}

Test(amqp_close, one_channel_too_many_for_the_user_ends_the_connection)
{
    struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
    rig_open();
    rig_channel(1);
    rig.no_channels = true;
    rig_send(2, &open);
    EXPECT_OUT("0 connection.close reply-code=530 reply-text=\"NOT_ALLOWED - too many\" class-id=0 "
               "method-id=0\n");
}

Test(amqp_close, an_error_is_told_after_the_session_is_gone)
{
    rig.hold_session = true;
    rig_open();
    rig_channel(1);
    fail();
    EXPECT_OUT("");
    EXPECT_CALLS("1 channel_close\nsession_close\n");
    rig_session_gone();
    EXPECT_OUT(CLOSE_541);
    publish(1, "late");
    send_bare(0, WIRE_CONNECTION_CLOSE_OK);
    EXPECT_OUT("end\n");
    EXPECT_CALLS("");
}

Test(amqp_close, an_error_is_told_even_if_the_session_does_not_go)
{
    rig.hold_session = true;
    rig_open();
    rig_channel(1);
    fail();
    rig_pass(1999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT(CLOSE_541);
    rig_pass(9998);
    EXPECT_OUT("");
    rig_pass(3); /* and ended even if the client does not answer */
    EXPECT_OUT("end\n");
    cr_assert_eq(amqp_connections(rig.server), 0);
    rig_session_gone(); /* the connection is only freed now */
    rig_turn();
}

/* RabbitMQ's order: the client hears what was wrong, and then that it may go. */
Test(amqp_close, an_error_is_told_to_a_client_that_closes_while_it_is_on_its_way)
{
    rig.hold_session = true;
    rig_open();
    rig_channel(1);
    fail();
    rig_turn();
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("");
    rig_session_gone();
    EXPECT_OUT(CLOSE_541 "0 connection.close-ok\n");
    send_bare(0, WIRE_CONNECTION_CLOSE_OK);
    EXPECT_OUT("end\n");
}

Test(amqp_close, also_when_the_session_does_not_go_and_it_closes_twice)
{
    rig.hold_session = true;
    rig_open();
    rig_channel(1);
    fail();
    send_bare(0, WIRE_CONNECTION_CLOSE);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_pass(2001);
    EXPECT_OUT(CLOSE_541 "0 connection.close-ok\n");
    rig_hang_up();
    rig_session_gone();
    rig_turn();
    cr_assert_eq(amqp_connections(rig.server), 0);
}

Test(amqp_close, crossing_closes_are_both_answered)
{
    rig_open();
    rig_channel(1);
    fail();
    EXPECT_OUT(CLOSE_541);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("0 connection.close-ok\n");
    send_bare(0, WIRE_CONNECTION_CLOSE_OK);
    EXPECT_OUT("end\n");
}

Test(amqp_close, what_came_before_the_close_is_worked_off)
{
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_channel(2);
    declare(1);
    publish(1, "a");
    publish(2, "b");
    send_bare(0, WIRE_CONNECTION_CLOSE);
    publish(2, "late"); /* behind the close: nothing */
    EXPECT_OUT("");
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n2 publish 'x' 'k' token=0  priority=0 "
                 "props=2 body='b'\n");
    rig_deliver(2, "t", 0, 1, 1, false, "a"); /* not delivered any more: it goes back */
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0\n0 "
               "connection.close-ok\n");
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\nsession_leave\n"
                 "1 channel_close\n2 channel_close\nsession_close\n");
}

Test(amqp_close, also_when_the_client_does_not_wait_for_close_ok)
{
    rig.answer = false;
    rig_open();
    rig_channel(1);
    declare(1);
    publish(1, "a");
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_hang_up();
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_CALLS(
        "1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\n1 channel_close\nsession_close\n");
    cr_assert_eq(amqp_connections(rig.server), 0);
}

Test(amqp_close, finishing_has_a_time_limit)
{
    rig.answer = false;
    rig_open();
    rig_channel(1);
    declare(1);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_pass(9999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT("0 connection.close-ok\n");
}

Test(amqp_close, an_error_while_finishing_ends_it_with_close_ok)
{
    rig.answer = false;
    rig_open();
    rig_channel(1);
    declare(1);
    publish(1, "a");
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_answer(541, true, "broken", 0, 0);
    EXPECT_OUT("0 connection.close-ok\n");
    EXPECT_CALLS("1 queue_declare 'q' flags=0 args=0\n1 channel_close\nsession_close\n");
}

Test(amqp_close, a_channel_error_while_finishing_does_not_keep_it)
{
    rig.answer = false;
    rig_open();
    rig_channel(1);
    declare(1);
    publish(1, "a");
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_answer(404, false, "no", 0, 0);
    EXPECT_OUT("1 channel.close reply-code=404 reply-text=\"NOT_FOUND - no\" class-id=50 "
               "method-id=10\n0 connection.close-ok\n");
}

Test(amqp_close, close_ok_comes_after_the_end_of_queues)
{
    rig.leaves = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig_channel(2);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("");
    const char *calls = rig_calls(); /* together */
    cr_assert_not_null(strstr(calls, "1 leave for good\n"), "%s", calls);
    cr_assert_not_null(strstr(calls, "2 leave for good\n"), "%s", calls);
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("");
    EXPECT_CALLS("");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("0 connection.close-ok\n");
}

Test(amqp_close, a_channel_error_that_waits_is_told_first)
{
    struct broker_fault fault = {.code = 406, .text = "no"};
    rig.leaves = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 0, 0);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_OUT("");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - no\" class-id=0 "
               "method-id=0\n0 connection.close-ok\n");
}

Test(amqp_close, a_channel_error_while_queues_end)
{
    struct broker_fault fault = {.code = 406, .text = "no"};
    rig.leaves = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    EXPECT_CALLS("1 leave for good\n");
    rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 0, 0);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - no\" class-id=0 "
               "method-id=0\n0 connection.close-ok\n");
    EXPECT_CALLS("1 channel_close\nsession_close\n"); /* and nothing more of it */
}

Test(amqp_close, queues_that_do_not_end_keep_no_connection)
{
    rig.leaves = true;
    rig.answer = false;
    rig_open();
    rig_channel(1);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_pass(9999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT("0 connection.close-ok\n");
}

Test(amqp_close, the_socket_may_go_at_every_stage_of_closing)
{
    for (int stage = 0; stage < 7; stage++) {
        rig.hold_session = true;
        rig.answer = stage != 6;
        rig_open();
        rig_channel(1);
        if (stage == 1 || stage == 2) {
            send_bare(0, WIRE_CONNECTION_CLOSE);
        } else if (stage == 3 || stage == 4 || stage == 5) {
            fail();
        } else if (stage == 6) {
            declare(1);
            send_bare(0, WIRE_CONNECTION_CLOSE);
        }
        if (stage == 2 || stage >= 4) {
            rig_turn();
        }
        if (stage == 5) {
            rig_session_gone();
        }
        rig_hang_up();
        if (stage == 6) {
            rig_answer(0, false, NULL, 0, 0);
        }
        rig_turn();
        rig_session_gone();
        rig_turn();
        const char *calls = rig_calls();
        cr_assert_not_null(strstr(calls, "1 channel_close\nsession_close\n"), "stage %d: %s", stage,
                           calls);
        cr_assert_eq(amqp_connections(rig.server), 0);
        cr_assert_not(rig.session.open);
        vec_clear(&rig.waiting);
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_close, heartbeats_may_run_out_while_the_session_is_being_closed)
{
    rig.hold_session = true;
    rig_open_with(131072, 1);
    rig_channel(1);
    send_bare(0, WIRE_CONNECTION_CLOSE);
    rig_pass(5000); /* the socket is cut; the session's callback still comes */
    EXPECT_CALLS("1 channel_close\nsession_close\n");
    cr_assert_eq(amqp_connections(rig.server), 0);
    rig_session_gone();
    rig_turn();
}

Test(amqp_close, the_broker_may_close_a_connection)
{
    rig_open();
    rig_channel(1);
    rig.session.on_close(rig.session.ctx, "Closed via management plugin");
    EXPECT_OUT("0 connection.close reply-code=320 reply-text=\"CONNECTION_FORCED - Closed via "
               "management plugin\" class-id=0 method-id=0\n");
    EXPECT_CALLS("1 channel_close\nsession_close\n");
}

Test(amqp_close, the_server_may_be_freed_with_everything_open)
{
    rig.answer = false;
    rig_open();
    rig_channel(1);
    declare(1);
    publish(1, "kept");
    struct wire_method m = rig_publish("x", "k");
    rig_channel(2);
    rig_send(2, &m);
    rig_content(2, 500000); /* half a body */
    rig_frame(WIRE_FRAME_BODY, 2, "abc", 3);
    rig_deliver(2, "t", 0, 1, 1, false, "a");
}
