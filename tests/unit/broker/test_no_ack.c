/* Consumers and gets that need no acknowledgement, of queues that may be led elsewhere: the node
 * that the message has come to acknowledges it, and what is on its way is not lost with a leader.
 */
#include "rig.h"

TestSuite(broker_no_ack, .init = rig_init, .fini = rig_deinit);

static void durable(const char *name)
{
    CALL(broker_queue_declare(rig.ch, B(name), BROKER_DURABLE, BYTES_NONE, rig_done, "declare"));
    (void)rig_said();
    (void)rig_calls();
}

static void consume(const char *queue, const char *tag)
{
    CALL(broker_consume(rig.ch, B(queue), B(tag), BROKER_NO_ACK, BYTES_NONE, rig_done, "consume"));
}

Test(broker_no_ack, what_has_come_is_settled)
{
    durable("q");
    consume("q", "t");
    EXPECT_CALLS("q open\nq attach 1 't' flags=65 prefetch=0 credit=2 priority=0 args=0\n");
    rig_reply("q", QUEUE_OK, 3);
    (void)rig_said();
    rig_deliver("q", 1, 1, 2, 0, 0);
    EXPECT_SAID("deliver 't' 0.1.1 no_ack 'm'\ndeliver 't' 0.1.2 no_ack 'm'\n");
    EXPECT_CALLS("q settle ack 1.1+2\nq credit 1 1411\n");
    cr_assert_eq(rig.ch->outstanding, 0);
}

/* It never reaches the client: with a queue of one node it would be lost. */
Test(broker_no_ack, what_comes_after_a_cancel_goes_back)
{
    durable("q");
    consume("q", "t");
    rig_reply("q", QUEUE_OK, 3);
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    (void)rig_said();
    (void)rig_calls();
    rig_deliver("q", 1, 1, 2, 0, 0);
    EXPECT_SAID("");
    EXPECT_CALLS("q settle release 1.1+2\n");
}

Test(broker_no_ack, get)
{
    durable("q");
    CALL(broker_get(rig.ch, B("q"), true, rig_on_get, rig_done, "get"));
    EXPECT_CALLS("q open\nq get\n");
    rig_deliver("q", 0, 1, 1, 0, 0);
    EXPECT_CALLS(""); /* who asks may be gone before the reply */
    rig_reply("q", QUEUE_OK, 40);
    EXPECT_SAID("got 0.0.0 0 'm' left=40\nget ok 'q' 1 40\n");
    EXPECT_CALLS("q settle ack 0.1+1\n");
}

Test(broker_no_ack, a_get_that_came_too_late_gives_its_message_back)
{
    durable("q");
    CALL(broker_get(rig.ch, B("q"), true, rig_on_get, rig_done, "get"));
    rig_turn();
    rig.now_ms += 15001;
    EXPECT_SAID("get 541! timed out waiting for queue 'q' in vhost '/': it has no leader\n");
    (void)rig_calls();
    rig_deliver("q", 0, 1, 1, 0, 0);
    rig_reply("q", QUEUE_OK, 0);
    CALL(broker_get(rig.ch, B("q"), true, rig_on_get, rig_done, "get"));
    rig_deliver("q", 0, 2, 1, 0, 0);
    EXPECT_CALLS("q get\nq settle release 0.1+1\n");
    rig_reply("q", QUEUE_OK, 0);
}
