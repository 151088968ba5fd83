/* Transactions: what waits for a commit, what a commit does and waits for. */
#include "rig.h"

TestSuite(broker_tx, .init = rig_init, .fini = rig_deinit);

static void applied(const char *queue, uint64_t seq)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_applied(client->ctx, seq);
}

static void publish(const char *exchange, const char *key, bool mandatory)
{
    broker_tx_mandatory(rig.ch, mandatory);
    rig_publish(exchange, key, BYTES_NONE, 0);
}

static void select_with(const char *queue)
{
    rig_queue(queue);
    broker_tx_select(rig.ch);
}

static bool commit(void)
{
    bool waits;
    CALL(waits = broker_tx_commit(rig.ch, rig_done, "commit"));
    return waits;
}

Test(broker_tx, nothing_is_handed_over_before_the_commit)
{
    select_with("q");
    publish("", "q", false);
    publish("", "q", false);
    EXPECT_CALLS("q open\n");
    cr_assert_eq(tx_uncommitted(rig.ch), 2);
    cr_assert(commit());
    EXPECT_CALLS("q publish 'm' props=2\nq publish 'm' props=2\n");
    EXPECT_SAID("routed\nrouted\n");
    cr_assert_eq(tx_uncommitted(rig.ch), 0);
    applied("q", 1);
    EXPECT_SAID("");
    applied("q", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, settles_go_behind_the_publishes_and_are_waited_for)
{
    select_with("q");
    publish("", "q", false);
    (void)rig_calls();
    (void)rig_said();
    broker_tx_settle(rig.ch, &(struct broker_delivery){0, 1, 5, false}, 2, QUEUE_ACK);
    broker_tx_settle(rig.ch, &(struct broker_delivery){9, 1, 5, false}, 2, QUEUE_ACK); /* gone */
    cr_assert(commit());
    EXPECT_CALLS("q publish 'm' props=2\nq settle ack 1.5+2\n");
    applied("q", 1);
    EXPECT_SAID("");
    applied("q", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

/* A node that dies in between must not have acked what it has not published. */
Test(broker_tx, what_another_queue_settles_waits_for_the_publishes)
{
    rig_queue("to");
    select_with("q");
    publish("", "q", false); /* the first queue: handle 0 */
    (void)commit();
    (void)rig_said();
    applied("q", 1);
    (void)rig_calls();
    (void)rig_said();
    publish("", "to", false);
    broker_tx_settle(rig.ch, &(struct broker_delivery){0, 1, 5, false}, 2, QUEUE_ACK);
    (void)rig_calls();
    (void)rig_said();
    cr_assert(commit());
    EXPECT_CALLS("to publish 'm' props=2\n");
    applied("to", 1);
    EXPECT_CALLS("q settle ack 1.5+2\n");
    EXPECT_SAID("");
    applied("q", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, a_commit_of_settles_alone_waits_for_them_but_not_for_confirms)
{
    select_with("q");
    publish("", "q", false);
    (void)commit();
    (void)rig_said();
    applied("q", 1);
    (void)rig_said();
    (void)rig_calls();
    broker_tx_settle(rig.ch, &(struct broker_delivery){0, 1, 1, false}, 1, QUEUE_REQUEUE);
    cr_assert_not(commit());
    EXPECT_CALLS("q settle requeue 1.1+1\n");
    EXPECT_SAID("");
    applied("q", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, an_empty_commit_ends_in_the_turn)
{
    broker_tx_select(rig.ch);
    cr_assert_not(commit());
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, rollback_forgets)
{
    select_with("q");
    publish("", "q", true);
    publish("", "nowhere", true);
    broker_tx_rollback(rig.ch);
    (void)rig_calls();
    (void)rig_said();
    cr_assert_not(commit());
    EXPECT_CALLS("");
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, errors_come_with_the_publish)
{
    select_with("q");
    publish("missing", "q", false);
    EXPECT_SAID("barrier refused 404 no exchange 'missing' in vhost '/'\n");
    publish("", "q", false);
    (void)commit();
    EXPECT_SAID("routed\n");
}

Test(broker_tx, returns_come_with_the_commit_in_order)
{
    select_with("q");
    publish("", "nowhere", true);
    publish("", "nowhere", false);
    publish("", "q", true);
    (void)rig_said();
    cr_assert_eq(tx_uncommitted(rig.ch), 2);
    (void)commit();
    EXPECT_SAID("return 'm'\n");
    applied("q", 1);
    EXPECT_SAID("commit ok '' 0 0\n");
}

/* To a and b, and to a alone. */
static void publish_to_two(void)
{
    select_with("a");
    rig_queue("b");
    rig_bind("amq.fanout", "a", "");
    rig_bind("amq.fanout", "b", "");
    publish("amq.fanout", "", true);
    publish("", "a", true);
}

Test(broker_tx, a_queue_deleted_meanwhile_is_no_target_any_more)
{
    publish_to_two();
    publish("", "a", false);
    rig_delete("a");
    (void)rig_said();
    (void)rig_calls();
    (void)commit();
    EXPECT_CALLS("b publish 'm' props=2\n");
    EXPECT_SAID("return 'm'\n");
    applied("b", 1);
    EXPECT_SAID("commit ok '' 0 0\n");
}

/* Queues are known by their names: what takes the place of one until the commit is its target. */
Test(broker_tx, a_queue_declared_again_is_the_target)
{
    publish_to_two();
    rig_delete("a");
    rig_queue("a");
    (void)rig_said();
    (void)rig_calls();
    (void)commit();
    EXPECT_CALLS("a open\na publish 'm' props=2\nb publish 'm' props=2\na publish 'm' props=2\n");
    EXPECT_SAID("");
    applied("b", 1);
    applied("a", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

/* Only as long as something is kept for it. */
Test(broker_tx, a_queue_declared_again_after_a_rollback_is_none)
{
    select_with("a");
    publish("", "a", true);
    broker_tx_rollback(rig.ch);
    rig_queue("b");
    publish("", "b", false);
    rig_delete("a");
    rig_queue("a");
    (void)rig_calls();
    (void)commit();
    EXPECT_CALLS("b publish 'm' props=2\n");
    applied("b", 1);
}

Test(broker_tx, several_queues_and_the_last_one_ends_it)
{
    select_with("a");
    rig_queue("b");
    rig_bind("amq.fanout", "a", "");
    rig_bind("amq.fanout", "b", "");
    publish("amq.fanout", "", false);
    publish("", "a", false);
    (void)commit();
    (void)rig_said();
    applied("b", 1);
    applied("a", 1);
    EXPECT_SAID("");
    applied("a", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, a_refusal_makes_it_partial_once_all_have_answered)
{
    select_with("a");
    rig_queue("b");
    publish("", "a", false);
    publish("", "b", false);
    (void)commit();
    (void)rig_said();
    struct queue_client *a = rig_client("a");
    a->sink->on_nacked(a->ctx, 1);
    applied("a", 1);
    EXPECT_SAID("");
    applied("b", 1);
    EXPECT_SAID("commit 406 partial tx completion\n");
    publish("", "b", false); /* and the next one is not */
    (void)commit();
    (void)rig_said();
    applied("b", 2);
    EXPECT_SAID("commit ok '' 0 0\n");
}

Test(broker_tx, what_was_published_before_select_does_not_count)
{
    rig_queue("q");
    rig_publish("", "q", BYTES_NONE, 7);
    broker_tx_select(rig.ch);
    publish("", "q", false);
    (void)commit();
    (void)rig_said();
    struct queue_client *q = rig_client("q");
    q->sink->on_nacked(q->ctx, 1);
    applied("q", 2);
    EXPECT_SAID("confirm 7+1 nack\ncommit ok '' 0 0\n");
}

Test(broker_tx, deleted_confirms_and_lost_does_not)
{
    select_with("a");
    rig_queue("b");
    publish("", "a", false);
    (void)commit();
    (void)rig_said();
    rig_delete("a");
    EXPECT_SAID("commit ok '' 0 0\n");
    publish("", "b", false);
    (void)commit();
    (void)rig_said();
    struct queue_client *b = rig_client("b");
    b->gone = true;
    b->sink->on_gone(b->ctx, true);
    EXPECT_SAID("commit 406 partial tx completion\n");
}

Test(broker_tx, a_channel_that_closes_drops_it)
{
    select_with("q");
    publish("", "q", false);
    (void)rig_calls();
    broker_channel_close(rig.ch);
    EXPECT_CALLS("q close\n");
    rig.ch = rig_channel(rig.session, 2);
    broker_tx_select(rig.ch);
    publish("", "q", false);
    (void)commit();
    (void)rig_said();
    broker_channel_close(rig.ch); /* while it waits */
    EXPECT_SAID("");
    rig.ch = rig_channel(rig.session, 3);
    broker_tx_select(rig.ch);
    publish("", "q", false);
    (void)commit();
    broker_channel_close(rig.ch); /* before it began: nothing of it happens */
    (void)rig_calls();
    EXPECT_CALLS("");
    rig.ch = rig_channel(rig.session, 4);
}

/* Records come out of chunks of 64 KiB; one that is kept must not keep its chunk. */
Test(broker_tx, a_small_message_does_not_keep_a_large_buffer)
{
    struct message alone = rig_message("", "q", BYTES_NONE, "m");
    struct buf *chunk = buf_new(65536);
    memcpy(chunk->data + 100, slice_data(&alone.record), alone.record.size);
    struct message part = {.record = {chunk, 100, alone.record.size}};
    struct broker_fault fault = {0};
    select_with("q");
    broker_publish_looked(rig.ch);
    cr_assert_eq(broker_publish(rig.ch, part, 0, &fault, NULL, NULL), BROKER_ROUTED);
    cr_assert_not(buf_is_shared(chunk));
    cr_assert_eq(broker_publish(rig.ch, alone, 0, &fault, NULL, NULL), BROKER_ROUTED);
    cr_assert(buf_is_shared(alone.record.buf));
    (void)rig_calls();
    (void)commit();
    EXPECT_CALLS("q publish 'm' props=2\nq publish 'm' props=2\n");
    buf_unref(chunk);
    message_unref(alone);
}

Test(broker_tx, it_is_bounded)
{
    char *large = wr_alloc((8u << 20) + 1);
    memset(large, 'x', 8u << 20);
    large[8u << 20] = 0;
    select_with("q");
    struct message message = rig_message("", "q", BYTES_NONE, large);
    struct broker_fault fault = {0};
    for (int i = 0; i < 7; i++) {
        cr_assert_eq(broker_publish(rig.ch, message, 0, &fault, NULL, NULL), BROKER_ROUTED);
    }
    cr_assert_eq(broker_publish(rig.ch, message, 0, &fault, NULL, NULL), BROKER_REFUSED);
    cr_assert_eq(fault.code, 406);
    cr_assert_str_eq(fault.text, "transaction is larger than the maximum of 67108864 bytes");
    message_unref(message);
    wr_free(large);
    broker_tx_rollback(rig.ch);
    message = rig_message("", "q", BYTES_NONE, "x");
    enum broker_publish_result result;
    for (uint32_t n = 0; n < TX_OPS_MAX; n++) {
        result = broker_publish(rig.ch, message, 0, &fault, NULL, NULL);
        cr_assert_eq(result, BROKER_ROUTED, "publish %u", n + 1);
    }
    result = broker_publish(rig.ch, message, 0, &fault, NULL, NULL);
    cr_assert_eq(result, BROKER_REFUSED);
    cr_assert_str_eq(fault.text, "transaction is larger than the maximum of 131072 operations");
    message_unref(message);
}
