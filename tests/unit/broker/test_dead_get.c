/* A get of who has just rejected: it waits until what it may be looking for is where it belongs. */
#include "rig.h"

TestSuite(broker_dead_get, .init = rig_init, .fini = rig_deinit);

static void get_from(const char *queue)
{
    CALL(broker_get(rig.ch, B(queue), false, rig_on_get, rig_done, "get"));
    rig_turn();
}

/* Has a message of q, the channel's queue 0, and rejects it: op 2 of its client. */
static void rejects(enum queue_outcome outcome)
{
    rig_queue("d");
    get_from("q");
    rig_deliver("q", 0, 1, 1, 0, 0);
    rig_reply("q", QUEUE_OK, 0);
    const struct broker_delivery got = {.queue = 0, .ordinal = 1};
    CALL(broker_settle(rig.ch, &got, 1, outcome));
    (void)rig_calls();
    (void)rig_said();
}

Test(broker_dead_get, a_get_waits_until_what_its_channel_rejected_is_dead)
{
    rig_dead_queue("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    EXPECT_CALLS("");
    rig_applied("q", 2);
    EXPECT_CALLS("d open\nd get\n");
    rig_reply("d", QUEUE_EMPTY, 0);
    EXPECT_SAID("get ok 'd' 0 0\n");
    get_from("d");
    EXPECT_CALLS("d get\n");
}

Test(broker_dead_get, a_get_waits_for_a_queue_without_leader_for_a_second_only)
{
    rig_dead_queue("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    rig.now_ms += 999;
    EXPECT_CALLS("");
    rig.now_ms += 1;
    EXPECT_CALLS("d open\nd get\n");
}

Test(broker_dead_get, a_get_waits_for_nothing_else)
{
    rig_dead_queue("q", "dlx", NULL);
    rejects(QUEUE_REQUEUE);
    get_from("d");
    EXPECT_CALLS("d open\nd get\n");
}

Test(broker_dead_get, a_get_does_not_wait_for_its_own_queue)
{
    rig_dead_queue("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("q");
    EXPECT_CALLS("q get\n");
}

Test(broker_dead_get, a_get_does_not_wait_for_what_goes_nowhere)
{
    rig_queue("q");
    rejects(QUEUE_REJECT);
    get_from("d");
    EXPECT_CALLS("d open\nd get\n");
}

Test(broker_dead_get, a_get_that_waits_goes_on_when_the_queue_is_deleted)
{
    rig_dead_queue("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    struct queue_client *q = rig_client("q");
    q->gone = true;
    q->sink->on_gone(q->ctx, false);
    EXPECT_CALLS("q close\nd open\nd get\n");
}

Test(broker_dead_get, a_get_that_waits_ends_with_its_channel)
{
    rig_dead_queue("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    CALL(broker_channel_close(rig.ch));
    rig.ch = NULL;
    EXPECT_CALLS("q close\n");
    rig.now_ms += 2000;
    EXPECT_CALLS("");
    EXPECT_SAID("");
}
