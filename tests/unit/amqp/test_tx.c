/* The class tx: settles that wait, and what may come while a commit is under way. */
#include "rig.h"

TestSuite(amqp_tx, .init = rig_init, .fini = rig_deinit);

static void send(enum wire_method_id id)
{
    struct wire_method m = {.id = id};
    rig_send(1, &m);
}

static void ack(uint64_t tag, bool multiple)
{
    struct wire_method m = {.id = WIRE_BASIC_ACK};
    m.basic_ack.delivery_tag = tag;
    m.basic_ack.multiple = multiple;
    rig_send(1, &m);
}

static void nack(uint64_t tag)
{
    struct wire_method m = {.id = WIRE_BASIC_NACK};
    m.basic_nack.delivery_tag = tag;
    m.basic_nack.requeue = true;
    rig_send(1, &m);
}

static void setup(uint64_t deliveries)
{
    rig_open();
    rig_channel(1);
    send(WIRE_TX_SELECT);
    for (uint64_t i = 1; i <= deliveries; i++) {
        rig_deliver(1, "t", 0, 1, i, false, "a");
    }
    (void)rig_out();
    (void)rig_calls();
}

static void publish(bool mandatory)
{
    struct wire_method m = rig_publish("", "q");
    m.basic_publish.mandatory = mandatory;
    rig_send(1, &m);
    rig_content(1, 0);
}

#define CLOSE(code, text, ids)                                                                     \
    "1 channel.close reply-code=" code " reply-text=\"PRECONDITION_FAILED - " text "\" " ids "\n"

Test(amqp_tx, select_commit_rollback)
{
    rig_open();
    rig_channel(1);
    send(WIRE_TX_SELECT);
    send(WIRE_TX_SELECT);
    EXPECT_OUT("1 tx.select-ok\n1 tx.select-ok\n");
    send(WIRE_TX_COMMIT);
    EXPECT_OUT("1 tx.commit-ok\n");
    send(WIRE_TX_ROLLBACK);
    EXPECT_OUT("1 tx.rollback-ok\n");
    EXPECT_CALLS("1 tx_select\n1 tx_select\n"
                 "1 tx_commit\n1 tx_rollback\n");
}

Test(amqp_tx, modes_do_not_mix)
{
    rig_open();
    rig_channel(1);
    send(WIRE_TX_COMMIT);
    EXPECT_OUT(CLOSE("406", "channel is not transactional", "class-id=90 method-id=20"));
    rig_channel(2);
    struct wire_method m = {.id = WIRE_TX_ROLLBACK};
    rig_send(2, &m);
    cr_assert(strstr(rig_out(), "channel is not transactional") != NULL);
    rig_channel(3);
    m.id = WIRE_CONFIRM_SELECT;
    rig_send(3, &m);
    m.id = WIRE_TX_SELECT;
    rig_send(3, &m);
    cr_assert(strstr(rig_out(), "cannot switch from confirm to tx mode\" class-id=90 "
                                "method-id=10") != NULL);
    rig_channel(4);
    rig_send(4, &m);
    m.id = WIRE_CONFIRM_SELECT;
    rig_send(4, &m);
    cr_assert(strstr(rig_out(), "cannot switch from tx to confirm mode\" class-id=85 "
                                "method-id=10") != NULL);
}

Test(amqp_tx, settles_wait_for_the_commit)
{
    setup(6);
    ack(1, false);
    ack(2, false);
    nack(3);
    ack(5, true);
    EXPECT_CALLS("");
    cr_assert_eq(rig.channels[1].acks, 5);
    send(WIRE_TX_COMMIT);
    EXPECT_CALLS("tx 1 settle ack 0.1.1+2\ntx 1 settle requeue 0.1.3+1\n"
                 "tx 1 settle ack 0.1.4+2\n1 tx_commit\n");
    cr_assert_eq(rig.channels[1].acks, 0);
    EXPECT_OUT("1 tx.commit-ok\n");
    send(WIRE_TX_COMMIT);
    EXPECT_CALLS("1 tx_commit\n");
}

Test(amqp_tx, rollback_puts_them_back_among_the_unacked)
{
    setup(3);
    ack(2, true);
    send(WIRE_TX_ROLLBACK);
    EXPECT_CALLS("1 tx_rollback\n");
    EXPECT_OUT("1 tx.rollback-ok\n");
    ack(0, true);
    send(WIRE_TX_COMMIT);
    EXPECT_CALLS("tx 1 settle ack 0.1.1+3\n1 tx_commit\n");
}

Test(amqp_tx, acked_twice_before_the_commit)
{
    setup(1);
    ack(1, false);
    ack(1, false);
    EXPECT_OUT(CLOSE("406", "unknown delivery tag 1", "class-id=60 method-id=80"));
    EXPECT_CALLS("1 channel_close\n");
}

Test(amqp_tx, recover_returns_at_once_what_is_not_acked)
{
    setup(3);
    ack(2, false);
    struct wire_method m = {.id = WIRE_BASIC_RECOVER};
    m.basic_recover.requeue = true;
    rig_send(1, &m);
    EXPECT_CALLS("1 settle requeue 0.1.1+1\n1 settle requeue 0.1.3+1\n");
    send(WIRE_TX_COMMIT);
    EXPECT_CALLS("tx 1 settle ack 0.1.2+1\n1 tx_commit\n");
}

Test(amqp_tx, mandatory_is_told_and_returns_come_before_commit_ok)
{
    setup(0);
    publish(true);
    publish(false);
    EXPECT_CALLS("1 mandatory\n1 publish '' 'q' token=0  priority=0 props=2 body=''\n"
                 "1 publish '' 'q' token=0  priority=0 props=2 body=''\n");
    rig.answer = false;
    send(WIRE_TX_COMMIT);
    struct message m = rig_message("", "q", "a", 1);
    rig.channels[1].sink->on_return(rig.channels[1].ctx, &m);
    message_unref(m);
    rig_answer(0, false, NULL, 0, 0);
    const char *out = rig_out();
    cr_assert(strstr(out, "1 basic.return reply-code=312 reply-text=\"NO_ROUTE\"") == out, "%s",
              out);
    cr_assert(strstr(out, "1 tx.commit-ok\n") != NULL, "%s", out);
}

Test(amqp_tx, nothing_may_come_while_publishes_are_confirmed)
{
    setup(1);
    rig.answer = false;
    rig.commit_waits = true;
    send(WIRE_TX_COMMIT);
    ack(1, false);
    rig_turn();
    rig_session_gone();
    EXPECT_OUT("0 connection.close reply-code=504 reply-text=\"CHANNEL_ERROR - unexpected command "
               "while processing 'tx.commit'\" class-id=60 method-id=80\n");
}

Test(amqp_tx, nor_when_it_was_kept)
{
    struct wire_method m = {.id = WIRE_BASIC_GET};
    setup(1);
    rig.answer = false;
    rig.commit_waits = true;
    rig_send(1, &m);
    send(WIRE_TX_COMMIT);
    publish(false);
    rig_answer(0, false, NULL, 0, 0);
    rig_turn();
    rig_session_gone();
    EXPECT_OUT("1 basic.get-empty\n0 connection.close reply-code=504 reply-text=\"CHANNEL_ERROR - "
               "unexpected command while processing 'tx.commit'\" class-id=60 method-id=40\n");
}

Test(amqp_tx, but_a_close_may_and_what_follows_it)
{
    struct wire_method close = {.id = WIRE_CHANNEL_CLOSE};
    setup(0);
    rig.answer = false;
    rig.commit_waits = true;
    send(WIRE_TX_COMMIT);
    rig_send(1, &close);
    send(WIRE_CHANNEL_OPEN);
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 tx.commit-ok\n1 channel.close-ok\n1 channel.open-ok\n");
}

Test(amqp_tx, while_only_settles_are_pending_the_channel_waits)
{
    setup(2);
    rig.answer = false;
    ack(1, false);
    send(WIRE_TX_COMMIT);
    ack(2, false);
    send(WIRE_TX_ROLLBACK);
    EXPECT_OUT("");
    rig_answer(0, false, NULL, 0, 0);
    EXPECT_OUT("1 tx.commit-ok\n1 tx.rollback-ok\n");
    EXPECT_CALLS("tx 1 settle ack 0.1.1+1\n1 tx_commit\n1 tx_rollback\n");
}

Test(amqp_tx, a_partial_commit_closes_the_channel)
{
    setup(0);
    rig.answer = false;
    rig.commit_waits = true;
    send(WIRE_TX_COMMIT);
    rig_answer(406, false, "partial tx completion", 0, 0);
    EXPECT_OUT(CLOSE("406", "partial tx completion", "class-id=90 method-id=20"));
}
