/* What time, limits and death do to messages, as the effects that it has. */
#include "configured.h"

TestSuite(queue_life, .init = setup, .fini = teardown);

Test(queue_life, a_message_expires_on_time_behind_one_that_does_not)
{
    rig_publish(&rig, A, 1);
    rig_publish_ttl(&rig, A, 50);
    rig_publish_ttl(&rig, A, 20);
    (void)rig_take(&rig);
    cr_assert_eq(queue_deadline_ms(rig.queue), 1020);
    rig_at(&rig, 1019);
    RIG_EXPECT(&rig, "");
    rig_at(&rig, 1020);
    RIG_EXPECT(&rig, "DROP 3+1");
    cr_assert_eq(queue_deadline_ms(rig.queue), 1050);
    rig_at(&rig, 9999);
    RIG_EXPECT(&rig, "DROP 2+1");
    cr_assert_eq(queue_deadline_ms(rig.queue), UINT64_MAX);
    cr_assert_eq(totals().ready, 1);
    cr_assert_eq(totals().expired, 2);
}

Test(queue_life, the_shorter_of_both_ttls_counts_and_only_for_what_comes_later)
{
    rig_publish(&rig, A, 1);
    config.ttl_ms = 30;
    rig_configure(&rig, &config);
    rig_publish_ttl(&rig, A, 100);
    rig_publish_ttl(&rig, A, 10);
    (void)rig_take(&rig);
    rig_at(&rig, 1010);
    RIG_EXPECT(&rig, "DROP 3+1");
    rig_at(&rig, 1030);
    RIG_EXPECT(&rig, "DROP 2+1");
}

Test(queue_life, the_clock_never_goes_back)
{
    rig_publish_ttl(&rig, A, 10);
    rig_at(&rig, 500);
    rig_publish_ttl(&rig, A, 10);
    (void)rig_take(&rig);
    rig_at(&rig, 1009);
    RIG_EXPECT(&rig, "");
    rig_at(&rig, 1010);
    RIG_EXPECT(&rig, "DROP 1+2");
}

Test(queue_life, ttl_0_is_for_who_takes_it_at_once)
{
    rig_publish_ttl(&rig, A, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\nDROP 1+1");
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 empty value=0 consumers=0\nAPPLIED 1.2 seq=1");
    rig_attach(&rig, B, 1, 0, 1);
    (void)rig_take(&rig);
    rig_publish_ttl(&rig, A, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=2\nDELIVER 1.2/1 ordinal=1 position=2+1");
    rig_at(&rig, 5000);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_REQUEUE);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=3\nDROP 2+1");
    cr_assert_eq(totals().expired, 2);
}

Test(queue_life, a_get_behind_ttl_0_in_one_batch_does_not_see_it)
{
    struct message message = rig_message_ttl(10, 0, 0);
    const struct queue_op ops[] = {{.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message},
                                   {.kind = QUEUE_OP_GET, .seq = 2}};
    rig_batch(&rig, A, ops, 2);
    RIG_EXPECT(&rig, "REPLY 1.1 seq=2 empty value=0 consumers=0\nAPPLIED 1.1 seq=2\nDROP 1+1");
    message_unref(message);
}

/* What was removed leaves traces in the timeline, which must not count. */
Test(queue_life, a_get_behind_ttl_0_that_was_purged_takes_what_came_after)
{
    struct message brief = rig_message_ttl(10, 0, 0);
    struct message message = rig_message(10, 0);
    const struct queue_op ops[] = {{.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = brief},
                                   {.kind = QUEUE_OP_PURGE, .seq = 2},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 3, .message = message},
                                   {.kind = QUEUE_OP_GET, .seq = 4}};
    rig_attach(&rig, B, 1, 0, 0);
    (void)rig_take(&rig);
    rig_batch(&rig, A, ops, 4);
    RIG_EXPECT(&rig, "REPLY 1.1 seq=2 ok value=1 consumers=1\n"
                     "DELIVER 1.1/0 ordinal=1 position=2+1\n"
                     "REPLY 1.1 seq=4 ok value=0 consumers=1\n"
                     "APPLIED 1.1 seq=4\nDROP 1+1");
    message_unref(brief);
    message_unref(message);
}

Test(queue_life, a_returned_message_keeps_its_expiry)
{
    rig_attach(&rig, B, 1, 0, 0);
    rig_publish_ttl(&rig, A, 40);
    rig_at(&rig, 1030);
    rig_op(&rig, B,
           (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1, .flags = QUEUE_DETACH_RETURN});
    (void)rig_take(&rig);
    cr_assert_eq(queue_deadline_ms(rig.queue), 1040);
    rig_at(&rig, 1040);
    RIG_EXPECT(&rig, "DROP 1+1");
}

Test(queue_life, a_long_queue_of_one_ttl_stays_small)
{
    config.ttl_ms = 1000000;
    restart();
    for (uint64_t ms = 0; ms < 200; ms++) {
        rig.now++;
        rig_publish(&rig, A, 1);
        rig_publish(&rig, A, 31);
        (void)rig_take(&rig);
    }
    cr_assert_eq(rangemap_runs(&rig.queue->levels[0].ready), 200);
    cr_assert_eq(queue__timeline_size(&rig.queue->expiry), 200);
}

Test(queue_life, moments_of_what_is_gone_do_not_pile_up)
{
    config.ttl_ms = 1000000;
    restart();
    rig_publish(&rig, A, 1);
    rig_simple(&rig, B, QUEUE_OP_GET, 0);
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    rig_publish_ttl(&rig, A, 2000000);
    for (uint64_t ms = 0; ms < 5000; ms++) {
        rig.now++;
        rig_publish(&rig, A, 1);
        rig_settle(&rig, B, 0, ms + 1, 1, QUEUE_RELEASE);
        (void)rig_take(&rig);
    }
    cr_assert_leq(queue__timeline_size(&rig.queue->expiry), 1100);
}

Test(queue_life, an_unused_queue_says_so_and_is_sealed)
{
    config.expires_ms = 100;
    restart();
    rig.now = 0;
    cr_assert_eq(queue_deadline_ms(rig.queue), 0);
    rig_at(&rig, 1000);
    cr_assert_eq(queue_deadline_ms(rig.queue), 1100);
    rig.now = 1050;
    rig_simple(&rig, A, QUEUE_OP_TOUCH, 0);
    cr_assert_eq(queue_deadline_ms(rig.queue), 1150);
    rig.now = 1100;
    rig_attach(&rig, B, 1, 0, 0);
    cr_assert_eq(queue_deadline_ms(rig.queue), UINT64_MAX);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 1);
    rig_at(&rig, 3000);
    cr_assert_not(queue_sealed(rig.queue), "a suspended consumer counts");
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 1});
    rig_attach(&rig, C, 1, QUEUE_DEAD, 0);
    cr_assert_eq(queue_deadline_ms(rig.queue), 3100, "a dead-letter consumer does not");
    (void)rig_take(&rig);
    rig_host(&rig, QUEUE_OP_RENEW, 0);
    rig_at(&rig, 3099);
    RIG_EXPECT(&rig, "");
    rig_at(&rig, 3100);
    RIG_EXPECT(&rig, "UNUSED");
    cr_assert(queue_auto_delete_due(rig.queue));
    rig_at(&rig, 9000);
    rig_publish(&rig, A, 1);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=2");
}

Test(queue_life, a_new_leader_renews_the_lease_that_ended_before_it_came)
{
    config.expires_ms = 100;
    restart();
    rig_at(&rig, 1000);
    rig.now = 5000;
    rig_host(&rig, QUEUE_OP_RENEW, 0);
    RIG_EXPECT(&rig, "");
    cr_assert_eq(queue_deadline_ms(rig.queue), 5100);
    rig_at(&rig, 5100);
    RIG_EXPECT(&rig, "UNUSED");
}

Test(queue_life, the_dead_wait_for_their_consumer)
{
    config.dead_letter = true;
    config.ttl_ms = 10;
    restart();
    rig_attach(&rig, B, 1, 0, 1);
    rig_publish(&rig, A, 3);
    (void)rig_take(&rig);
    rig_at(&rig, 1010);
    RIG_EXPECT(&rig, "DEAD");
    rig_settle(&rig, B, 1, 1, 1, QUEUE_REJECT);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2");
    cr_assert(queue_dead_due(rig.queue));
    cr_assert_eq(totals().dead, 3);
    cr_assert_eq(totals().lowest_position, 1);
    rig_attach(&rig, C, 9, QUEUE_DEAD | QUEUE_NO_ACK, 2);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=1 ok value=0 consumers=1\nAPPLIED 2.3 seq=1\n"
                     "DELIVER 2.3/9 ordinal=1 position=1+1 dead rejected at=1010\n"
                     "DELIVER 2.3/9 ordinal=2 position=2+1 dead expired at=1010");
    cr_assert_not(queue_dead_due(rig.queue));
    cr_assert_eq(totals().dead, 3);
    cr_assert_eq(totals().unacked, 0);
    rig_settle(&rig, C, 9, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=2\n"
                     "DELIVER 2.3/9 ordinal=3 position=3+1 dead expired at=1010\nDROP 1+1");
    rig_settle(&rig, C, 9, 2, 2, QUEUE_REQUEUE);
    RIG_EXPECT(&rig, "APPLIED 2.3 seq=3\n"
                     "DELIVER 2.3/9 ordinal=4 position=2+2 dead expired at=1010");
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 2);
    RIG_EXPECT(&rig, "DEAD");
    cr_assert_eq(totals().acked, 0);
}

Test(queue_life, one_dead_letter_consumer_that_is_no_consumer)
{
    config.dead_letter = true;
    config.auto_delete = true;
    restart();
    rig_attach(&rig, B, 1, QUEUE_DEAD, 0);
    rig_attach(&rig, C, 1, QUEUE_DEAD, 0);
    RIG_EXPECT(&rig, "REPLY 1.2 seq=1 ok value=0 consumers=0\nAPPLIED 1.2 seq=1\n"
                     "REPLY 2.3 seq=1 in-exclusive-use value=0 consumers=0\nAPPLIED 2.3 seq=1");
    rig_attach(&rig, D, 1, QUEUE_EXCLUSIVE_CONSUMER, 0);
    rig_host(&rig, QUEUE_OP_NODE_DOWN, 1);
    rig_attach(&rig, C, 1, QUEUE_DEAD, 0);
    rig_host(&rig, QUEUE_OP_NODE_UP, 1);
    RIG_EXPECT(&rig, "REPLY 3.4 seq=1 ok value=0 consumers=1\nAPPLIED 3.4 seq=1\n"
                     "REPLY 2.3 seq=2 ok value=0 consumers=1\nAPPLIED 2.3 seq=2");
    rig_publish(&rig, A, 1);
    rig_settle(&rig, D, 1, 1, 1, QUEUE_REJECT);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\nDELIVER 3.4/1 ordinal=1 position=1+1\n"
                     "APPLIED 3.4 seq=2\n"
                     "DELIVER 2.3/1 ordinal=1 position=1+1 dead rejected at=1000");
    rig_simple(&rig, C, QUEUE_OP_CLOSE, 0);
    cr_assert_not(queue_sealed(rig.queue));
}

Test(queue_life, without_a_dead_letter_exchange_the_dead_go)
{
    config.dead_letter = true;
    restart();
    rig_publish_ttl(&rig, A, 1);
    rig_at(&rig, 1001);
    cr_assert_eq(totals().dead, 1);
    (void)rig_take(&rig);
    config.dead_letter = false;
    rig_configure(&rig, &config);
    RIG_EXPECT(&rig, "DROP 1+1");
    cr_assert_eq(totals().dead, 0);
}

Test(queue_life, the_dead_are_not_ready)
{
    config.dead_letter = true;
    config.length_max = 1;
    restart();
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\nDEAD");
    cr_assert_eq(totals().dead, 2);
    cr_assert_eq(totals().ready, 1);
    rig_simple(&rig, A, QUEUE_OP_PURGE, 0);
    RIG_EXPECT(&rig, "REPLY 1.1 seq=4 ok value=1 consumers=0\nAPPLIED 1.1 seq=4\nDROP 3+1");
    rig_simple(&rig, A, QUEUE_OP_GET, 0);
    rig_simple(&rig, A, QUEUE_OP_SEAL, QUEUE_IF_EMPTY);
    RIG_EXPECT(&rig, "REPLY 1.1 seq=5 empty value=0 consumers=0\nAPPLIED 1.1 seq=5\n"
                     "REPLY 1.1 seq=6 ok value=0 consumers=0\nAPPLIED 1.1 seq=6");
}

Test(queue_life, redelivery_tells_how_they_died)
{
    config.dead_letter = true;
    restart();
    rig_publish_ttl(&rig, A, 1);
    rig_attach(&rig, C, 1, QUEUE_DEAD, 0);
    rig_at(&rig, 1001);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\n"
                     "REPLY 2.3 seq=1 ok value=1 consumers=0\nAPPLIED 2.3 seq=1\n"
                     "DELIVER 2.3/1 ordinal=1 position=1+1 dead expired at=1001");
    rig_redeliver(&rig, C, 1, 1);
    RIG_EXPECT(&rig, "DELIVER 2.3/1 ordinal=1 position=1+1 dead expired at=1001");
}

Test(queue_life, the_delivery_limit_is_how_often_it_may_come_back)
{
    config.delivery_limit = 1;
    restart();
    rig_attach(&rig, B, 1, 0, 1);
    rig_publish(&rig, A, 1);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_REQUEUE);
    rig_settle(&rig, B, 1, 2, 1, QUEUE_RELEASE);
    (void)rig_take(&rig);
    rig_settle(&rig, B, 1, 3, 1, QUEUE_REQUEUE);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=4\nDROP 1+1");
    config.delivery_limit = 0;
    config.dead_letter = true;
    rig_configure(&rig, &config);
    rig_publish(&rig, A, 1);
    (void)rig_take(&rig);
    rig_simple(&rig, B, QUEUE_OP_CLOSE, 0);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=5\nDEAD");
    rig_attach(&rig, C, 1, QUEUE_DEAD, 0);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=1 ok value=0 consumers=0\nAPPLIED 2.3 seq=1\n"
                     "DELIVER 2.3/1 ordinal=1 position=2+1 dead delivery_limit at=1000");
}

Test(queue_life, drop_head_drops_what_would_be_next)
{
    config.length_max = 2;
    config.priority_max = 5;
    restart();
    rig_publish_one(&rig, A, 1, 0);
    rig_publish_one(&rig, A, 1, 5);
    rig_publish_one(&rig, A, 1, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\nAPPLIED 1.1 seq=2\nAPPLIED 1.1 seq=3\nDROP 2+1");
    rig_publish_one(&rig, A, 1, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=4\nDROP 1+1");
    cr_assert_eq(totals().dropped, 2);
}

Test(queue_life, drop_head_by_bytes_takes_one_that_is_too_large_too)
{
    config.bytes_max = 100;
    restart();
    rig_publish_one(&rig, A, 60, 0);
    rig_publish_one(&rig, A, 40, 0);
    (void)rig_take(&rig);
    rig_publish_one(&rig, A, 1, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\nDROP 1+1");
    rig_publish_one(&rig, A, 101, 0);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=4\nDROP 2+3");
}

Test(queue_life, drop_head_is_after_handing_out_and_after_returns)
{
    config.length_max = 0;
    restart();
    rig_attach(&rig, B, 1, 0, 2);
    (void)rig_take(&rig);
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=3\nDELIVER 1.2/1 ordinal=1 position=1+2\nDROP 3+1");
    rig_simple(&rig, B, QUEUE_OP_CLOSE, 0);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\nDROP 1+2");
}

Test(queue_life, a_full_queue_refuses_and_refuses_again)
{
    config.length_max = 2;
    config.overflow = QUEUE_REJECT_PUBLISH;
    restart();
    rig_publish(&rig, A, 5);
    RIG_EXPECT(&rig, "NACKED 1.1 seq=3+3\nAPPLIED 1.1 seq=5");
    cr_assert_eq(rig.stored_count, 2);
    cr_assert_eq(totals().refused, 3);
    rig.seqs[1] = 1;
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "NACKED 1.1 seq=3+2\nAPPLIED 1.1 seq=5");
    cr_assert_eq(totals().refused, 3);
    rig_repeat_nacked(&rig, A, 4);
    RIG_EXPECT(&rig, "NACKED 1.1 seq=4+2");
    rig_repeat_nacked(&rig, D, 1);
    RIG_EXPECT(&rig, "");
}

Test(queue_life, a_queue_with_room_at_its_consumers_is_not_full)
{
    config.length_max = 1;
    config.overflow = QUEUE_REJECT_PUBLISH;
    restart();
    rig_attach(&rig, B, 1, 0, 3);
    (void)rig_take(&rig);
    rig_publish(&rig, A, 6);
    RIG_EXPECT(&rig, "DELIVER 1.2/1 ordinal=1 position=1+3\n"
                     "NACKED 1.1 seq=5+2\nAPPLIED 1.1 seq=6");
    rig_simple(&rig, B, QUEUE_OP_CLOSE, 0);
    cr_assert_eq(totals().ready, 4, "what is returned is not refused");
}

Test(queue_life, length_0_refuses_always)
{
    config.length_max = 0;
    config.overflow = QUEUE_REJECT_PUBLISH;
    restart();
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    (void)rig_take(&rig);
    rig_publish(&rig, A, 1);
    RIG_EXPECT(&rig, "NACKED 1.1 seq=1+1\nAPPLIED 1.1 seq=1");
}

Test(queue_life, refused_messages_can_be_dead_letters)
{
    config.length_max = 1;
    config.overflow = QUEUE_REJECT_PUBLISH_DLX;
    config.dead_letter = true;
    restart();
    rig_publish(&rig, A, 3);
    RIG_EXPECT(&rig, "NACKED 1.1 seq=2+2\nAPPLIED 1.1 seq=3\nDEAD");
    cr_assert_eq(rig.stored_count, 3);
    rig_attach(&rig, C, 1, QUEUE_DEAD, 0);
    RIG_EXPECT(&rig, "REPLY 2.3 seq=1 ok value=1 consumers=0\nAPPLIED 2.3 seq=1\n"
                     "DELIVER 2.3/1 ordinal=1 position=2+2 dead maxlen at=1000");
}

Test(queue_life, only_the_last_refusals_are_remembered)
{
    config.length_max = 0;
    config.overflow = QUEUE_REJECT_PUBLISH;
    restart();
    for (uint32_t n = 0; n < QUEUE_NACKED_KEPT / 32 + 2; n++) {
        rig_publish(&rig, A, 32);
        (void)rig_take(&rig);
    }
    const struct queue_client *client = queue__client_find(rig.queue, A);
    cr_assert_eq(rangemap_keys(&client->nacked), QUEUE_NACKED_KEPT);
    cr_assert_eq(rangemap_first(&client->nacked)->first, 65);
}
