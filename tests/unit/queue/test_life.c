/* What time, limits and death do to messages, as the effects that it has. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "rig.h"
#include "queue_internal.h"

static struct rig rig;
static struct queue_config config;

#define A CLIENT(1, 1)
#define B CLIENT(1, 2)
#define C CLIENT(2, 3)
#define D CLIENT(3, 4)

static void setup(void)
{
    queue_config_default(&config);
    rig_init(&rig, &config);
    rig.now = 1000;
}

static void teardown(void)
{
    rig_deinit(&rig);
}

/* The queue anew, with `config` as it is now. */
static void restart(void)
{
    rig_deinit(&rig);
    rig_init(&rig, &config);
    rig.now = 1000;
}

static struct queue_totals totals(void)
{
    struct queue_totals t;
    queue_totals(rig.queue, &t);
    return t;
}

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

Test(queue_life, one_consumer_is_active_and_the_next_takes_over)
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

Test(queue_life, a_better_consumer_waits_until_the_active_one_has_nothing)
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

Test(queue_life, a_delayed_message_goes_behind_what_came_before_its_time)
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

Test(queue_life, the_ttl_of_a_delayed_message_begins_when_it_is_due)
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

Test(queue_life, delayed_messages_are_purged_and_keep_a_queue_from_being_empty)
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

Test(queue_life, a_number_of_a_publisher_is_stored_once)
{
    publish_numbered("p", 5);
    publish_numbered("p", 3);
    publish_numbered("p", 5);
    publish_numbered("q", 5);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=1\nAPPLIED 1.1 seq=2\nAPPLIED 1.1 seq=3\nAPPLIED 1.1 seq=4");
    cr_assert_eq(totals().ready, 3);
    cr_assert_eq(totals().duplicates, 1);
}

Test(queue_life, a_refused_number_may_come_again)
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

Test(queue_life, of_too_many_gaps_the_lowest_is_closed)
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

Test(queue_life, of_too_many_publishers_the_one_not_heard_for_longest_is_forgotten)
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

Test(queue_life, a_message_id_is_stored_once_within_the_window)
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

Test(queue_life, take_hands_out_by_position)
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

Test(queue_life, take_removes_from_the_places_that_are_named)
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

Test(queue_life, peek_shows_and_says_where_to_go_on)
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
