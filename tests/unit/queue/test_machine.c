/* Each op and each status of the queue machine, as the effects that it has. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "rig.h"
#include "queue_internal.h"

static struct rig rig;

#define A CLIENT(1, 1)
#define B CLIENT(1, 2)
#define C CLIENT(2, 3)
#define D CLIENT(3, 4)

static void setup(void)
{
    rig_init(&rig, NULL);
}

static void teardown(void)
{
    rig_deinit(&rig);
}

static void restart(const struct queue_config *config)
{
    rig_deinit(&rig);
    rig_init(&rig, config);
}

static struct queue_totals totals(void)
{
    struct queue_totals t;
    queue_totals(rig.queue, &t);
    return t;
}

TestSuite(queue_machine, .init = setup, .fini = teardown);

Test(queue_machine, enqueue_is_stored_at_consecutive_positions_and_confirmed_once_per_batch)
{
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3");
    rig_publish(&rig, B, 2);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2");
    cr_assert_eq(rig.stored_first, 1);
    cr_assert_eq(rig.stored_last, 5);
    const struct queue_totals t = totals();
    cr_assert_eq(t.ready, 5);
    cr_assert_eq(t.bytes_ready, 50);
    cr_assert_eq(t.published, 5);
    cr_assert_eq(t.next_position, 6);
    cr_assert_eq(t.lowest_position, 1);
}

Test(queue_machine, a_backlog_of_equal_messages_is_one_run)
{
    for (int i = 0; i < 1000; i++) {
        rig_publish(&rig, A, 32);
        (void)rig_take(&rig);
    }
    cr_assert_eq(totals().ready, 32000);
    cr_assert_eq(rangemap_runs(&rig.queue->levels[0].ready), 1);
    cr_assert_eq(rangemap_runs(&rig.queue->live), 1);
}

Test(queue_machine, attach_delivers_the_backlog_as_one_run_after_applied)
{
    rig_publish(&rig, A, 3);
    (void)rig_take(&rig);
    rig_attach(&rig, B, 1, 0, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 ok value=3 consumers=1\n"
                     "APPLIED 1.2 seq=1\n"
                     "DELIVER 1.2/1 ordinal=1 position=1+3");
    cr_assert_eq(totals().unacked, 3);
    cr_assert_eq(totals().bytes_unacked, 30);
}

Test(queue_machine, no_ack_delivery_is_followed_by_the_drop)
{
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 1);
    (void)rig_take(&rig);
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\n"
                     "DELIVER 1.2/1 ordinal=1 position=1+3 no_ack\n"
                     "DROP 1+3");
    cr_assert_eq(totals().unacked, 0);
    cr_assert_eq(totals().lowest_position, 4);
    cr_assert_not(queue_is_live(rig.queue, 2));
}

Test(queue_machine, messages_of_other_sizes_still_make_one_deliver_and_one_drop)
{
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    (void)rig_take(&rig);
    struct message small = rig_message(1, 0);
    struct message large = rig_message(2000, 0);
    const struct queue_op ops[] = {
        {.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = small},
        {.kind = QUEUE_OP_ENQUEUE, .seq = 2, .message = large},
        {.kind = QUEUE_OP_ENQUEUE, .seq = 3, .message = small},
    };
    rig_batch(&rig, A, ops, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\n"
                     "DELIVER 1.2/1 ordinal=1 position=1+3 no_ack\n"
                     "DROP 1+3");
    message_unref(small);
    message_unref(large);
}

Test(queue_machine, prefetch_limits_and_ack_makes_room)
{
    rig_attach(&rig, B, 1, 0, 2);
    rig_publish(&rig, A, 4);
    (void)rig_take(&rig);
    cr_assert_eq(totals().unacked, 2);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\n"
                     "DELIVER 1.2/1 ordinal=3 position=3+1\n"
                     "DROP 1+1");
    cr_assert_eq(totals().acked, 1);
}

Test(queue_machine, settles_of_a_batch_drop_neighbours_at_once)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 6);
    (void)rig_take(&rig);
    const struct queue_op ops[] = {
        {.kind = QUEUE_OP_SETTLE, .seq = 2, .consumer = 1, .first = 3, .count = 1, .outcome = 1},
        {.kind = QUEUE_OP_SETTLE, .seq = 3, .consumer = 1, .first = 2, .count = 1, .outcome = 1},
        {.kind = QUEUE_OP_SETTLE, .seq = 4, .consumer = 1, .first = 4, .count = 2, .outcome = 3},
    };
    rig_batch(&rig, B, ops, 3);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=4\nDROP 2+4");
    cr_assert_eq(totals().acked, 2, "a reject is not an ack");
}

Test(queue_machine, requeue_puts_back_to_place_and_counts)
{
    rig_attach(&rig, B, 1, 0, 2);
    rig_publish(&rig, A, 3);
    (void)rig_take(&rig);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_REQUEUE);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\nDELIVER 1.2/1 ordinal=3 position=1+1 redelivered=1");
    cr_assert_eq(totals().redelivered, 1);
}

Test(queue_machine, release_puts_back_as_if_never_delivered)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 2);
    (void)rig_take(&rig);
    rig_settle(&rig, B, 1, 2, 1, QUEUE_RELEASE);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\nDELIVER 1.2/1 ordinal=3 position=2+1");
}

Test(queue_machine, settles_of_what_is_not_outstanding_are_ignored)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 2);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    (void)rig_take(&rig);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_REQUEUE);
    rig_settle(&rig, B, 1, 3, UINT64_MAX, QUEUE_ACK);
    rig_settle(&rig, B, 1, 0, 1, QUEUE_ACK);
    rig_settle(&rig, B, 7, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=3\nAPPLIED 1.2 seq=4\nAPPLIED 1.2 seq=5\nAPPLIED 1.2 seq=6");
    rig_settle(&rig, B, 1, 0, UINT64_MAX, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=7\nDROP 2+1");
}

Test(queue_machine, consumers_of_equal_priority_alternate)
{
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    rig_attach(&rig, C, 1, QUEUE_NO_ACK, 0);
    (void)rig_take(&rig);
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\n"
                     "DELIVER 1.2/1 ordinal=1 position=1+1 no_ack\n"
                     "DELIVER 2.3/1 ordinal=1 position=2+1 no_ack\n"
                     "DELIVER 1.2/1 ordinal=2 position=3+1 no_ack\n"
                     "DROP 1+3");
    rig_publish(&rig, A, 1);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=4\n"
                     "DELIVER 2.3/1 ordinal=2 position=4+1 no_ack\n"
                     "DROP 4+1");
}

Test(queue_machine, higher_consumer_priority_first_while_it_has_room)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_op(&rig, C,
           (struct queue_op){.kind = QUEUE_OP_ATTACH,
                             .consumer = 1,
                             .prefetch = 2,
                             .priority = 10,
                             .limit = UINT64_MAX});
    (void)rig_take(&rig);
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\n"
                     "DELIVER 2.3/1 ordinal=1 position=1+2\n"
                     "DELIVER 1.2/1 ordinal=1 position=3+1");
}

Test(queue_machine, higher_message_priority_first_and_clamped)
{
    struct queue_config config;
    queue_config_default(&config);
    config.priority_max = 5;
    restart(&config);
    rig_publish_one(&rig, A, 1, 0);
    rig_publish_one(&rig, A, 1, 9);
    rig_publish_one(&rig, A, 1, 3);
    rig_publish_one(&rig, A, 1, 5);
    (void)rig_take(&rig);
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 ok value=4 consumers=1\n"
                     "APPLIED 1.2 seq=1\n"
                     "DELIVER 1.2/1 ordinal=1 position=2+1 no_ack\n"
                     "DELIVER 1.2/1 ordinal=2 position=4+1 no_ack\n"
                     "DELIVER 1.2/1 ordinal=3 position=3+1 no_ack\n"
                     "DELIVER 1.2/1 ordinal=4 position=1+1 no_ack\n"
                     "DROP 1+4");
}

Test(queue_machine, credit_is_the_highest_ordinal)
{
    rig_op(&rig, B,
           (struct queue_op){
               .kind = QUEUE_OP_ATTACH, .consumer = 1, .flags = QUEUE_NO_ACK, .limit = 0});
    rig_publish(&rig, A, 5);
    (void)rig_take(&rig);
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_CREDIT, .consumer = 1, .limit = 2});
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\n"
                     "DELIVER 1.2/1 ordinal=1 position=1+2 no_ack\n"
                     "DROP 1+2");
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_CREDIT, .consumer = 1, .limit = 1});
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_CREDIT, .consumer = 2, .limit = 9});
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=3\nAPPLIED 1.2 seq=4");
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_CREDIT, .consumer = 1, .limit = 3});
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=5\n"
                     "DELIVER 1.2/1 ordinal=3 position=3+1 no_ack\n"
                     "DROP 3+1");
}

Test(queue_machine, the_limit_of_a_client_is_over_all_its_consumers_but_not_gets)
{
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_LIMIT, .limit = 2});
    rig_attach(&rig, B, 1, 0, 0);
    rig_attach(&rig, B, 2, 0, 0);
    rig_publish(&rig, A, 6);
    (void)rig_take(&rig);
    cr_assert_eq(totals().unacked, 2);
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    RIG_EXPECT(&rig, "DELIVER 1.2/0 ordinal=1 position=3+1\n"
                     "REPLY 1.2 seq=4 ok value=3 consumers=2\n"
                     "APPLIED 1.2 seq=4");
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=5\n"
                     "DELIVER 1.2/1 ordinal=2 position=4+1\n"
                     "DROP 1+1");
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_LIMIT, .limit = 0});
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=6\n"
                     "DELIVER 1.2/1 ordinal=3 position=5+1\n"
                     "DELIVER 1.2/2 ordinal=2 position=6+1");
}

Test(queue_machine, get_takes_one_or_says_empty)
{
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 empty value=0 consumers=0\nAPPLIED 1.2 seq=1");
    rig_publish(&rig, A, 3);
    (void)rig_take(&rig);
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    RIG_EXPECT(&rig, "DELIVER 1.2/0 ordinal=1 position=1+1\n"
                     "REPLY 1.2 seq=2 ok value=2 consumers=0\n"
                     "APPLIED 1.2 seq=2");
    rig_simple(&rig, B, QUEUE_OP_GET, QUEUE_NO_ACK);
    RIG_EXPECT(&rig, "DELIVER 1.2/0 ordinal=2 position=2+1 no_ack\n"
                     "REPLY 1.2 seq=3 ok value=1 consumers=0\n"
                     "APPLIED 1.2 seq=3\n"
                     "DROP 2+1");
    rig_settle(&rig, B, 0, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=4\nDROP 1+1");
}

Test(queue_machine, purge_removes_the_ready_only)
{
    rig_attach(&rig, B, 1, 0, 1);
    rig_publish(&rig, A, 4);
    (void)rig_take(&rig);
    rig_simple(&rig, A, QUEUE_OP_PURGE, 0);
    RIG_EXPECT(&rig, "REPLY 1.1 seq=5 ok value=3 consumers=1\nAPPLIED 1.1 seq=5\nDROP 2+3");
    cr_assert_eq(totals().unacked, 1);
    cr_assert_eq(totals().ready, 0);
    cr_assert_eq(totals().bytes_ready, 0);
}

Test(queue_machine, detach_keeps_unacked_ackable)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 2);
    (void)rig_take(&rig);
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1});
    RIG_EXPECT(&rig, "REPLY 1.2 seq=2 ok value=0 consumers=0\nAPPLIED 1.2 seq=2");
    rig_publish(&rig, A, 1);
    rig_attach(&rig, B, 1, 0, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\n"
                     "REPLY 1.2 seq=3 exists value=1 consumers=0\nAPPLIED 1.2 seq=3");
    rig_settle(&rig, B, 1, 1, 2, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=4\nDROP 1+2");
    cr_assert_eq(rig.queue->clients.items[1]->consumers.count, 0);
}

Test(queue_machine, detach_can_return_and_may_be_of_nobody)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_attach(&rig, C, 1, 0, 1);
    rig_publish(&rig, A, 2);
    rig_settle(&rig, C, 1, 1, 1, QUEUE_ACK);
    (void)rig_take(&rig);
    rig_op(&rig, B,
           (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1, .flags = QUEUE_DETACH_RETURN});
    RIG_EXPECT(&rig, "REPLY 1.2 seq=2 ok value=1 consumers=1\n"
                     "APPLIED 1.2 seq=2\n"
                     "DELIVER 2.3/1 ordinal=2 position=1+1 redelivered=1");
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 9});
    RIG_EXPECT(&rig, "REPLY 1.2 seq=3 ok value=0 consumers=1\nAPPLIED 1.2 seq=3");
}

Test(queue_machine, exclusive_means_alone)
{
    rig_attach(&rig, B, 1, 0, 0);
    (void)rig_take(&rig);
    rig_attach(&rig, C, 1, QUEUE_EXCLUSIVE_CONSUMER, 0);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=1 in-exclusive-use value=0 consumers=1\nAPPLIED 2.3 seq=1");
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1});
    (void)rig_take(&rig);
    rig_attach(&rig, C, 1, QUEUE_EXCLUSIVE_CONSUMER, 0);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=2 ok value=0 consumers=1\nAPPLIED 2.3 seq=2");
    rig_attach(&rig, B, 1, 0, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=3 in-exclusive-use value=0 consumers=1\nAPPLIED 1.2 seq=3");
    rig_simple(&rig, C, QUEUE_OP_CLOSE, 0);
    (void)rig_take(&rig);
    rig_attach(&rig, B, 1, 0, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=4 ok value=0 consumers=1\nAPPLIED 1.2 seq=4");
}

Test(queue_machine, attach_of_a_taken_id_or_of_zero_is_refused)
{
    rig_attach(&rig, B, 1, 0, 0);
    (void)rig_take(&rig);
    rig_attach(&rig, B, 1, 0, 0);
    rig_attach(&rig, B, 0, 0, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=2 exists value=0 consumers=1\nAPPLIED 1.2 seq=2\n"
                     "REPLY 1.2 seq=3 exists value=0 consumers=1\nAPPLIED 1.2 seq=3");
}

Test(queue_machine, seal_conditions)
{
    rig_publish(&rig, A, 1);
    rig_attach(&rig, B, 1, 0, 1);
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    rig_simple(&rig, C, QUEUE_OP_SEAL, QUEUE_IF_UNUSED);
    rig_simple(&rig, C, QUEUE_OP_SEAL, QUEUE_IF_EMPTY);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=1 in-use value=1 consumers=1\nAPPLIED 2.3 seq=1\n"
                     "REPLY 2.3 seq=2 not-empty value=1 consumers=1\nAPPLIED 2.3 seq=2");
    cr_assert_not(queue_sealed(rig.queue));
    rig_simple(&rig, C, QUEUE_OP_SEAL, 0);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=3 ok value=1 consumers=1\nAPPLIED 2.3 seq=3");
    cr_assert(queue_sealed(rig.queue));
    cr_assert_not(queue_auto_delete_due(rig.queue));
}

Test(queue_machine, a_sealed_queue_accepts_nothing_and_hands_out_nothing)
{
    rig_publish(&rig, A, 2);
    rig_simple(&rig, C, QUEUE_OP_SEAL, 0);
    (void)rig_take(&rig);
    rig_publish(&rig, A, 1);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3");
    cr_assert_eq(rig.stored_count, 2);
    cr_assert_eq(totals().ready, 2);
    rig_attach(&rig, B, 1, 0, 0);
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    rig_simple(&rig, B, QUEUE_OP_PURGE, 0);
    rig_simple(&rig, B, QUEUE_OP_SEAL, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 sealed value=2 consumers=0\nAPPLIED 1.2 seq=1\n"
                     "REPLY 1.2 seq=2 sealed value=0 consumers=0\nAPPLIED 1.2 seq=2\n"
                     "REPLY 1.2 seq=3 sealed value=0 consumers=0\nAPPLIED 1.2 seq=3\n"
                     "REPLY 1.2 seq=4 sealed value=2 consumers=0\nAPPLIED 1.2 seq=4");
    rig_simple(&rig, C, QUEUE_OP_SEAL, 0);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=2 ok value=2 consumers=0\nAPPLIED 2.3 seq=2");
}

Test(queue_machine, unseal_by_the_sealer_resumes_deliveries)
{
    rig_attach(&rig, B, 1, 0, 1);
    rig_publish(&rig, A, 2);
    rig_simple(&rig, C, QUEUE_OP_SEAL, 0);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    (void)rig_take(&rig);
    rig_simple(&rig, B, QUEUE_OP_UNSEAL, 0);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=3");
    rig_simple(&rig, C, QUEUE_OP_UNSEAL, 0);
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=2\nDELIVER 1.2/1 ordinal=2 position=2+1");
}

Test(queue_machine, a_seal_breaks_when_its_client_closes_or_its_node_is_down)
{
    rig_simple(&rig, C, QUEUE_OP_SEAL, 0);
    cr_assert(queue_sealed(rig.queue));
    rig_simple(&rig, C, QUEUE_OP_CLOSE, 0);
    cr_assert_not(queue_sealed(rig.queue));
    rig_simple(&rig, D, QUEUE_OP_SEAL, 0);
    cr_assert(queue_sealed(rig.queue));
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 3);
    cr_assert_not(queue_sealed(rig.queue));
    (void)rig_take(&rig);
    rig_simple(&rig, D, QUEUE_OP_SEAL, 0);
    RIG_EXPECT(&rig, "REPLY 3.4 seq=2 ok value=0 consumers=0\nAPPLIED 3.4 seq=2");
    cr_assert_not(queue_sealed(rig.queue));
}

Test(queue_machine, auto_delete_when_the_last_consumer_has_gone)
{
    struct queue_config config;
    queue_config_default(&config);
    config.auto_delete = true;
    restart(&config);
    rig_publish(&rig, A, 1);
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    rig_attach(&rig, C, 1, 0, 0);
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1});
    cr_assert_not(queue_auto_delete_due(rig.queue));
    (void)rig_take(&rig);
    rig_simple(&rig, C, QUEUE_OP_CLOSE, 0);
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=2\nUNUSED");
    cr_assert(queue_auto_delete_due(rig.queue));
    cr_assert(queue_sealed(rig.queue));
    rig_attach(&rig, B, 2, 0, 0);
    rig_simple(&rig, B, QUEUE_OP_SEAL, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=3 sealed value=0 consumers=0\nAPPLIED 1.2 seq=3\n"
                     "REPLY 1.2 seq=4 sealed value=0 consumers=0\nAPPLIED 1.2 seq=4");
}

Test(queue_machine, auto_delete_needs_a_consumer_first_and_survives_a_node_that_is_only_down)
{
    struct queue_config config;
    queue_config_default(&config);
    config.auto_delete = true;
    restart(&config);
    rig_publish(&rig, C, 1);
    rig_simple(&rig, C, QUEUE_OP_CLOSE, 0);
    cr_assert_not(queue_auto_delete_due(rig.queue));
    rig_attach(&rig, D, 1, 0, 0);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 3);
    cr_assert_not(queue_auto_delete_due(rig.queue));
    (void)rig_take(&rig);
    rig_host(&rig, QUEUE_OP_NODE_GONE, 3);
    RIG_EXPECT(&rig, "UNUSED");
}

Test(queue_machine, node_down_returns_and_passes_over_until_up)
{
    rig_attach(&rig, C, 1, 0, 0);
    rig_attach(&rig, B, 1, 0, 1);
    rig_publish(&rig, A, 3);
    (void)rig_take(&rig);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    cr_assert(queue_boot_suspended(rig.queue, 2));
    RIG_EXPECT(&rig, "");
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\n"
                     "DELIVER 1.2/1 ordinal=2 position=1+1 redelivered=1\n"
                     "DROP 2+1");
    rig_settle(&rig, C, 1, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=2");
    rig_host(&rig, QUEUE_OP_NODE_UP, 2);
    RIG_EXPECT(&rig, "DELIVER 2.3/1 ordinal=3 position=3+1 redelivered=1");
    cr_assert_not(queue_boot_suspended(rig.queue, 2));
}

Test(queue_machine, node_down_again_returns_what_a_late_get_took)
{
    rig_publish(&rig, A, 1);
    rig_attach(&rig, C, 1, 0, 0);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    rig_simple(&rig, C, QUEUE_OP_GET, 0);
    cr_assert_eq(totals().unacked, 1);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    cr_assert_eq(totals().ready, 1);
}

Test(queue_machine, new_clients_of_a_suspended_boot_are_suspended_and_the_last_takes_it_along)
{
    rig_publish(&rig, C, 1);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    rig_attach(&rig, CLIENT(2, 5), 1, 0, 0);
    cr_assert_eq(totals().ready, 1);
    rig_simple(&rig, C, QUEUE_OP_CLOSE, 0);
    cr_assert(queue_boot_suspended(rig.queue, 2));
    rig_simple(&rig, CLIENT(2, 5), QUEUE_OP_CLOSE, 0);
    cr_assert_not(queue_boot_suspended(rig.queue, 2));
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    rig_host(&rig, QUEUE_OP_NODE_UP, 9);
    cr_assert_not(queue_boot_suspended(rig.queue, 2));
}

Test(queue_machine, node_gone_closes_all_clients_of_the_boot_and_late_ops_are_ignored)
{
    rig_attach(&rig, C, 1, 0, 0);
    rig_publish(&rig, CLIENT(2, 5), 2);
    rig_attach(&rig, B, 1, 0, 0);
    (void)rig_take(&rig);
    rig_host(&rig, QUEUE_OP_NODE_GONE, 2);
    RIG_EXPECT(&rig, "DELIVER 1.2/1 ordinal=1 position=1+2 redelivered=1");
    cr_assert_eq(queue_client_last_seq(rig.queue, C), 0);
    rig_publish(&rig, CLIENT(2, 6), 1);
    rig_simple(&rig, CLIENT(2, 6), QUEUE_OP_CLOSE, 0);
    rig_host(&rig, QUEUE_OP_NODE_GONE, 2);
    rig_host(&rig, QUEUE_OP_NODE_GONE, UINT64_MAX);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(rig.stored_count, 2);
}

Test(queue_machine, close_returns_and_a_late_copy_is_answered)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    rig_simple(&rig, B, QUEUE_OP_CLOSE, 0);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2");
    cr_assert_eq(totals().ready, 1);
    const struct queue_op late[] = {{.kind = QUEUE_OP_ATTACH, .seq = 1, .consumer = 1, .limit = 9},
                                    {.kind = QUEUE_OP_CLOSE, .seq = 2}};
    rig_batch(&rig, B, late, 2);
    rig_batch(&rig, B, late + 1, 1);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\nAPPLIED 1.2 seq=2");
    cr_assert_eq(totals().consumers, 0);
}

Test(queue_machine, ops_behind_a_close_are_not_applied)
{
    struct message message = rig_message(1, 0);
    const struct queue_op ops[] = {{.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message},
                                   {.kind = QUEUE_OP_CLOSE, .seq = 2},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 3, .message = message}};
    rig_batch(&rig, A, ops, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=2");
    cr_assert_eq(totals().ready, 1);
    message_unref(message);
}

Test(queue_machine, the_last_512_closed_clients_are_remembered)
{
    const struct queue_op op = {.kind = QUEUE_OP_CLOSE, .seq = 1};
    for (uint32_t n = 1; n <= QUEUE_CLOSED_MAX + 2; n++) {
        rig_batch(&rig, CLIENT(1, n), &op, 1);
        (void)rig_take(&rig);
    }
    cr_assert_not(queue__client_was_closed(rig.queue, CLIENT(1, 1)));
    cr_assert_not(queue__client_was_closed(rig.queue, CLIENT(1, 2)));
    cr_assert(queue__client_was_closed(rig.queue, CLIENT(1, 3)));
    cr_assert(queue__client_was_closed(rig.queue, CLIENT(1, QUEUE_CLOSED_MAX + 2)));
    /* A forgotten one: its late CLOSE is answered all the same. */
    const struct queue_op late = {.kind = QUEUE_OP_CLOSE, .seq = 7};
    rig_batch(&rig, CLIENT(1, 1), &late, 1);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=7");
    cr_assert_eq(queue_boots(rig.queue, NULL, 0), 0);
}

Test(queue_machine, duplicates_are_answered_and_not_applied)
{
    struct message message = rig_message(1, 0);
    const struct queue_op ops[] = {{.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 2, .message = message},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 3, .message = message}};
    rig_batch(&rig, A, ops, 2);
    rig_batch(&rig, A, ops, 2);
    rig_batch(&rig, A, ops, 1);
    rig_batch(&rig, A, ops, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=2\nAPPLIED 1.1 seq=2\nAPPLIED 1.1 seq=2\nAPPLIED 1.1 seq=3");
    cr_assert_eq(totals().ready, 3);
    message_unref(message);
}

Test(queue_machine, ops_after_a_gap_are_ignored)
{
    struct message message = rig_message(1, 0);
    const struct queue_op first = {.kind = QUEUE_OP_ENQUEUE, .seq = 2, .message = message};
    rig_batch(&rig, A, &first, 1);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(queue_client_last_seq(rig.queue, A), 0);
    const struct queue_op ops[] = {{.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 3, .message = message},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 2, .message = message}};
    rig_batch(&rig, A, ops, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1");
    const struct queue_op later = {.kind = QUEUE_OP_GET, .seq = 9};
    rig_batch(&rig, A, &later, 1);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(totals().ready, 1);
    message_unref(message);
}

Test(queue_machine, the_last_reply_is_repeated_and_older_ones_are_not)
{
    rig_publish(&rig, A, 2);
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    (void)rig_take(&rig);
    const struct queue_op get = {.kind = QUEUE_OP_GET, .seq = 1};
    rig_batch(&rig, B, &get, 1);
    RIG_EXPECT(&rig, "DELIVER 1.2/0 ordinal=1 position=1+1\n"
                     "REPLY 1.2 seq=1 ok value=1 consumers=0\n"
                     "APPLIED 1.2 seq=1");
    rig_attach(&rig, B, 1, 0, 0);
    (void)rig_take(&rig);
    rig_batch(&rig, B, &get, 1);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2");
    const struct queue_op attach = {.kind = QUEUE_OP_ATTACH, .seq = 2, .consumer = 1};
    rig_batch(&rig, B, &attach, 1);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=2 ok value=1 consumers=1\nAPPLIED 1.2 seq=2");
    cr_assert_eq(totals().delivered, 2);
}

struct lines {
    char line[2][128];
    int count;
};

static void collect(void *ctx, const struct queue_effect *effect)
{
    struct lines *lines = ctx;
    cr_assert_lt(lines->count, 2);
    queue_describe_effect(effect, lines->line[lines->count++], sizeof(lines->line[0]));
}

Test(queue_machine, redeliver_repeats_the_unacked_from_an_ordinal)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 5);
    rig_settle(&rig, B, 1, 3, 1, QUEUE_ACK);
    (void)rig_take(&rig);
    const uint64_t hash = queue_hash(rig.queue);
    struct lines lines = {.count = 0};
    const struct queue_sink sink = {collect, &lines};
    queue_redeliver(rig.queue, B, 1, 2, &sink);
    cr_assert_eq(lines.count, 2);
    cr_assert_str_eq(lines.line[0], "DELIVER 1.2/1 ordinal=2 position=2+1");
    cr_assert_str_eq(lines.line[1], "DELIVER 1.2/1 ordinal=4 position=4+2");
    queue_redeliver(rig.queue, B, 2, 1, &sink);
    queue_redeliver(rig.queue, D, 1, 1, &sink);
    cr_assert_eq(lines.count, 2);
    cr_assert_eq(queue_hash(rig.queue), hash);
}

Test(queue_machine, boots_and_clients_are_listed_ascending)
{
    rig_publish(&rig, D, 1);
    rig_publish(&rig, B, 1);
    rig_publish(&rig, A, 1);
    rig_publish(&rig, C, 1);
    uint64_t found[4] = {0};
    cr_assert_eq(queue_boots(rig.queue, found, 2), 3);
    cr_assert_eq(found[0], 1);
    cr_assert_eq(found[1], 2);
    cr_assert_eq(found[2], 0);
    cr_assert_eq(queue_clients(rig.queue, 1, found, 4), 2);
    cr_assert_eq(found[0], A);
    cr_assert_eq(found[1], B);
    cr_assert_eq(queue_clients(rig.queue, 7, found, 4), 0);
    cr_assert_eq(queue_clients(rig.queue, UINT64_MAX, found, 4), 0);
}

static void count_consumer(void *ctx, const struct queue_consumer_info *info)
{
    int *active = ctx;
    cr_assert(bytes_eq_cstr(info->name, "tag"));
    cr_assert_eq(info->unacked, info->client == B ? 1 : 0);
    *active += info->active ? 10 : 1;
}

Test(queue_machine, consumers_are_listed_without_the_detached)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish(&rig, A, 1);
    rig_attach(&rig, C, 1, 0, 0);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    rig_attach(&rig, D, 1, 0, 0);
    rig_op(&rig, D, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1});
    int active = 0;
    queue_each_consumer(rig.queue, count_consumer, &active);
    cr_assert_eq(active, 11);
}

static void add_live_text(void *ctx, uint64_t position, uint64_t count)
{
    char *text = ctx;
    snprintf(text + strlen(text), 64, "%u+%u ", (unsigned)position, (unsigned)count);
}

Test(queue_machine, live_positions_are_ready_and_unacked_together)
{
    char text[256] = "";
    rig_attach(&rig, B, 1, 0, 3);
    rig_publish(&rig, A, 6);
    rig_settle(&rig, B, 1, 2, 1, QUEUE_ACK);
    rig_settle(&rig, B, 1, 4, 1, QUEUE_REQUEUE);
    queue_each_live(rig.queue, add_live_text, text);
    cr_assert_str_eq(text, "1+1 3+4 ");
    cr_assert(queue_is_live(rig.queue, 6));
    cr_assert_not(queue_is_live(rig.queue, 2));
    cr_assert_not(queue_is_live(rig.queue, 7));
}

Test(queue_machine, config_changes_what_a_policy_may_change)
{
    struct queue_config config;
    queue_config_default(&config);
    config.ttl_ms = 5;
    config.delivery_limit = 20;
    config.priority_max = 9;
    config.auto_delete = true;
    struct buf *args = buf_new(16);
    queue_config_encode(&args, &config);
    const struct queue_op op = {.kind = QUEUE_OP_CONFIG, .args = {args->data, args->size}};
    rig_batch(&rig, 0, &op, 1);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(rig.queue->config.ttl_ms, 5);
    cr_assert_eq(rig.queue->config.delivery_limit, 20);
    cr_assert_eq(rig.queue->config.priority_max, 0);
    cr_assert_not(rig.queue->config.auto_delete);
    buf_unref(args);
}

Test(queue_machine, expire_does_nothing_and_is_never_wanted)
{
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    cr_assert_eq(queue_deadline_ms(rig.queue), UINT64_MAX);
    rig_host(&rig, QUEUE_OP_EXPIRE, 0);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(totals().ready, 1);
}

Test(queue_machine, describe_shows_the_state)
{
    char text[1024];
    rig_attach(&rig, B, 1, 0, 2);
    rig_publish(&rig, A, 4);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    queue_describe(rig.queue, text, sizeof(text));
    cr_assert_str_eq(text, "queue next=5 ready=1 unacked=2 consumers=1\n"
                           "level 0: 4+1\n"
                           "client 1.1 seq=4\n"
                           "client 1.2 seq=2\n"
                           "  consumer 1 delivered=3 priority=0 prefetch=2 capacity=0 \"tag\" "
                           "unacked 2=2+2\n");
    char cut[16];
    queue_describe(rig.queue, cut, sizeof(cut));
    cr_assert_eq(strlen(cut), sizeof(cut) - 1);
}
