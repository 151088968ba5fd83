/* Single active consumer, delays, exactly-once publishing, take and peek: as effects. */
#include <stdio.h>

#include "configured.h"

TestSuite(queue_options, .init = setup, .fini = teardown);

static void count_active(void *ctx, const struct queue_consumer_info *info)
{
    uint64_t *active = ctx;
    cr_assert(info->single_active);
    if (info->active) {
        cr_assert_eq(*active, 0);
        *active = info->client;
    }
}

static uint64_t active(void)
{
    uint64_t client = 0;
    queue_each_consumer(rig.queue, count_active, &client);
    return client;
}

static void attach_with_priority(uint64_t client, int32_t priority)
{
    rig_op(&rig, client,
           (struct queue_op){.kind = QUEUE_OP_ATTACH,
                             .consumer = 1,
                             .priority = priority,
                             .prefetch = 1,
                             .limit = UINT64_MAX});
    (void)rig_take(&rig);
}

Test(queue_options, one_consumer_is_active_and_the_next_takes_over)
{
    config.single_active_consumer = true;
    restart();
    attach_with_priority(C, 0);
    attach_with_priority(B, 0);
    attach_with_priority(D, 0);
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\nDELIVER 2.3/1 ordinal=1 position=1+1");
    cr_assert_eq(active(), C);
    rig_op(&rig, C, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1});
    RIG_EXPECT(&rig, "REPLY 2.3 seq=2 ok value=2 consumers=2\nAPPLIED 2.3 seq=2\n"
                     "DELIVER 1.2/1 ordinal=1 position=2+1");
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 1);
    RIG_EXPECT(&rig, "DELIVER 3.4/1 ordinal=1 position=2+1 redelivered=1");
    rig_host(&rig, QUEUE_OP_NODE_UP, 1);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(active(), D);
    rig_simple(&rig, D, QUEUE_OP_CLOSE, 0);
    cr_assert_eq(active(), B);
}

Test(queue_options, a_better_consumer_waits_until_the_active_one_has_nothing)
{
    config.single_active_consumer = true;
    restart();
    attach_with_priority(B, 0);
    attach_with_priority(C, 3);
    cr_assert_eq(active(), C, "it had nothing");
    rig_publish(&rig, A, 2);
    attach_with_priority(D, 5);
    cr_assert_eq(active(), C);
    rig_op(&rig, C, (struct queue_op){.kind = QUEUE_OP_CREDIT, .consumer = 1, .limit = 9});
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=2");
    rig_settle(&rig, C, 1, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=3\nDELIVER 3.4/1 ordinal=1 position=2+1\nDROP 1+1");
    cr_assert_eq(active(), D);
}

Test(queue_options, an_active_consumer_that_stays_is_followed_by_the_best)
{
    config.single_active_consumer = true;
    config.active_stays = true;
    restart();
    attach_with_priority(B, 0);
    attach_with_priority(C, 1);
    attach_with_priority(D, 5);
    cr_assert_eq(active(), B);
    rig_publish(&rig, A, 2);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=2\nDELIVER 1.2/1 ordinal=1 position=1+1");
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    cr_assert_eq(active(), B);
    rig_simple(&rig, B, QUEUE_OP_CLOSE, 0);
    cr_assert_eq(active(), D);
}

Test(queue_options, a_delayed_message_goes_behind_what_came_before_its_time)
{
    rig_publish_as(&rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = 20});
    rig_publish_as(&rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = 10});
    rig_publish(&rig, A, 1);
    cr_assert_eq(totals().delayed, 2);
    cr_assert_eq(totals().ready, 1);
    cr_assert_eq(queue_deadline_ms(rig.queue), 1010);
    rig_at(&rig, 1015);
    rig_publish(&rig, A, 1);
    rig_at(&rig, 1020);
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    rig_attach(&rig, B, 1, 0, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 ok value=5 consumers=1\nAPPLIED 1.2 seq=1\n"
                     "DELIVER 1.2/1 ordinal=1 position=3+1\n"
                     "DELIVER 1.2/1 ordinal=2 position=2+1\n"
                     "DELIVER 1.2/1 ordinal=3 position=4+1\n"
                     "DELIVER 1.2/1 ordinal=4 position=1+1\n"
                     "DELIVER 1.2/1 ordinal=5 position=5+1");
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    rig_op(&rig, B,
           (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1, .flags = QUEUE_DETACH_RETURN});
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=2 ok value=6 consumers=0\nAPPLIED 1.2 seq=2\n"
                     "DELIVER 1.2/0 ordinal=1 position=1+1 redelivered=1\n"
                     "REPLY 1.2 seq=3 ok value=5 consumers=0\nAPPLIED 1.2 seq=3");
}

Test(queue_options, the_ttl_of_a_delayed_message_begins_when_it_is_due)
{
    struct message message = rig_message_ttl(10, 0, 5);
    const struct queue_op op = {.kind = QUEUE_OP_ENQUEUE,
                                .flags = QUEUE_HAS_DELAY,
                                .limit = 100,
                                .seq = 1,
                                .message = message};
    rig_batch(&rig, A, &op, 1);
    (void)rig_take(&rig);
    rig_at(&rig, 1100);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(totals().ready, 1);
    cr_assert_eq(queue_deadline_ms(rig.queue), 1105);
    rig_at(&rig, 1105);
    RIG_EXPECT(&rig, "DROP 1+1");
    message_unref(message);
}

Test(queue_options, delayed_messages_are_purged_and_keep_a_queue_from_being_empty)
{
    rig_publish_as(&rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = UINT64_MAX});
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    rig_simple(&rig, A, QUEUE_OP_GET, QUEUE_NO_ACK);
    rig_simple(&rig, A, QUEUE_OP_SEAL, QUEUE_IF_EMPTY);
    rig_simple(&rig, A, QUEUE_OP_PURGE, 0);
    RIG_EXPECT(&rig, "DELIVER 1.1/0 ordinal=1 position=2+1 no_ack\n"
                     "REPLY 1.1 seq=3 ok value=0 consumers=0\nAPPLIED 1.1 seq=3\nDROP 2+1\n"
                     "REPLY 1.1 seq=4 not-empty value=0 consumers=0\nAPPLIED 1.1 seq=4\n"
                     "REPLY 1.1 seq=5 ok value=1 consumers=0\nAPPLIED 1.1 seq=5\nDROP 1+1");
}

static void publish_numbered(const char *name, uint64_t number)
{
    rig_publish_as(&rig, A,
                   (struct queue_op){.flags = QUEUE_HAS_PUBLISHER,
                                     .name = bytes_from_cstr(name),
                                     .first = number});
}

Test(queue_options, a_number_of_a_publisher_is_stored_once)
{
    publish_numbered("p", 5);
    publish_numbered("p", 3);
    publish_numbered("p", 5);
    publish_numbered("q", 5);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\nAPPLIED 1.1 seq=2\nAPPLIED 1.1 seq=3\nAPPLIED 1.1 seq=4");
    cr_assert_eq(totals().ready, 3);
    cr_assert_eq(totals().duplicates, 1);
}

Test(queue_options, a_refused_number_may_come_again)
{
    config.length_max = 1;
    config.overflow = QUEUE_REJECT_PUBLISH;
    restart();
    publish_numbered("p", 1);
    publish_numbered("p", 2);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\nNACKED 1.1 seq=2+1\nAPPLIED 1.1 seq=2");
    rig_simple(&rig, A, QUEUE_OP_PURGE, 0);
    publish_numbered("p", 2);
    cr_assert_eq(totals().ready, 1);
    publish_numbered("p", 1);
    cr_assert_eq(totals().duplicates, 1, "a duplicate is confirmed by a full queue, too");
}

Test(queue_options, of_too_many_gaps_the_lowest_is_closed)
{
    for (uint64_t n = 1; n <= QUEUE_PUBLISHER_RUNS_MAX + 1; n++) {
        publish_numbered("p", 10 * n);
        (void)rig_take(&rig);
    }
    publish_numbered("p", 11);
    cr_assert_eq(totals().duplicates, 1);
    publish_numbered("p", 21);
    publish_numbered("p", 9);
    cr_assert_eq(totals().duplicates, 1);
}

Test(queue_options, of_too_many_publishers_the_one_not_heard_for_longest_is_forgotten)
{
    char name[16];
    publish_numbered("zero", 1);
    publish_numbered("first", 1);
    publish_numbered("second", 1);
    publish_numbered("first", 1);
    publish_numbered("zero", 2);
    for (uint32_t n = 0; n < QUEUE_PUBLISHERS_MAX - 2; n++) {
        snprintf(name, sizeof(name), "%u", n);
        publish_numbered(name, 1);
        (void)rig_take(&rig);
    }
    cr_assert_eq(totals().duplicates, 1);
    publish_numbered("first", 1);
    publish_numbered("zero", 1);
    cr_assert_eq(totals().duplicates, 3);
    publish_numbered("second", 1);
    cr_assert_eq(totals().duplicates, 3);
}

static void publish_id(const char *id)
{
    rig_publish_as(&rig, A, (struct queue_op){.flags = QUEUE_HAS_ID, .args = bytes_from_cstr(id)});
}

Test(queue_options, a_message_id_is_stored_once_within_the_window)
{
    publish_id("x");
    publish_id("x");
    cr_assert_eq(totals().duplicates, 0, "no window");
    config.dedup_window_ms = 10;
    rig_configure(&rig, &config);
    publish_id("x");
    rig.now = 1009;
    publish_id("x");
    publish_id("y");
    cr_assert_eq(totals().duplicates, 1);
    rig.now = 1010;
    publish_id("x");
    publish_id("y");
    cr_assert_eq(totals().duplicates, 2);
    cr_assert_eq(totals().ready, 5);
    config.dedup_window_ms = 0;
    rig_configure(&rig, &config);
    cr_assert_eq(rig.queue->ids.count, 0);
}

Test(queue_options, take_hands_out_by_position)
{
    config.priority_max = 2;
    restart();
    rig_publish(&rig, A, 4);
    rig_publish_one(&rig, A, 10, 2);
    (void)rig_take(&rig);
    const struct queue_op op = {.kind = QUEUE_OP_TAKE, .seq = 1, .first = 4, .count = 9};
    rig_batch(&rig, B, &op, 1);
    static const char wanted[] = "DELIVER 1.2/0 ordinal=1 position=4+2\n"
                                 "REPLY 1.2 seq=1 ok value=2 consumers=0\nAPPLIED 1.2 seq=1";
    RIG_EXPECT(&rig, wanted);
    rig_batch(&rig, B, &op, 1);
    RIG_EXPECT(&rig, wanted);
    cr_assert_eq(totals().unacked, 2);
}

Test(queue_options, take_removes_from_the_places_that_are_named)
{
    config.dead_letter = true;
    restart();
    rig_publish_ttl(&rig, A, 1);
    rig_publish(&rig, A, 1);
    rig_publish_as(&rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = 100});
    rig_at(&rig, 1001);
    (void)rig_take(&rig);
    struct queue_op op = {.kind = QUEUE_OP_TAKE, .flags = QUEUE_NO_ACK, .count = UINT64_MAX};
    op.outcome = QUEUE_PLACE_DELAYED;
    rig_op(&rig, B, op);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 ok value=1 consumers=0\nAPPLIED 1.2 seq=1\nDROP 3+1");
    op.outcome = QUEUE_PLACE_READY | QUEUE_PLACE_DEAD;
    rig_op(&rig, B, op);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=2 ok value=2 consumers=0\nAPPLIED 1.2 seq=2\nDROP 1+2");
}

Test(queue_options, peek_shows_and_says_where_to_go_on)
{
    config.dead_letter = true;
    restart();
    rig_publish_ttl(&rig, A, 1);
    rig_publish(&rig, A, 3);
    rig_publish_as(&rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = 100});
    rig_publish_ttl(&rig, A, 50);
    rig_at(&rig, 1001);
    (void)rig_take(&rig);
    struct queue_op op = {.kind = QUEUE_OP_PEEK, .count = 3, .outcome = 7};
    rig_op(&rig, B, op);
    RIG_EXPECT(&rig, "PEEK 1.2 position=1+1 dead at=1001\n"
                     "PEEK 1.2 position=2+2 ready\n"
                     "REPLY 1.2 seq=1 ok value=4 consumers=0\nAPPLIED 1.2 seq=1");
    op.first = 4;
    rig_op(&rig, B, op);
    RIG_EXPECT(&rig, "PEEK 1.2 position=4+1 ready\n"
                     "PEEK 1.2 position=5+1 delayed at=1100\n"
                     "PEEK 1.2 position=6+1 ready at=1050\n"
                     "REPLY 1.2 seq=2 ok value=0 consumers=0\nAPPLIED 1.2 seq=2");
    cr_assert_eq(totals().ready, 4);
}
