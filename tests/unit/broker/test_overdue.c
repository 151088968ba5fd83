/* Consumers that hold a message too long, and those that ask to be cancelled on a failover. */
#include "rig.h"

TestSuite(broker_overdue, .init = rig_init, .fini = rig_deinit);

#define LIMIT 1600u
#define STEP  (LIMIT / 16 + 1) /* a run is at most so long */

static void consume(const char *queue, const char *tag, uint32_t flags, const char *key,
                    int64_t value)
{
    struct writer w;
    writer_init(&w, 64);
    if (key != NULL && strcmp(key, "x-cancel-on-ha-failover") == 0) {
        wire_table_put_bool(&w, key, value != 0);
    } else if (key != NULL) {
        wire_table_put_int64(&w, key, value);
    }
    CALL(broker_consume(rig.ch, B(queue), B(tag), flags, writer_bytes(&w), rig_done, "consume"));
    rig_turn();
    rig_reply(queue, QUEUE_OK, 0);
    writer_deinit(&w);
    (void)rig_said();
    (void)rig_calls();
}

static void setup(void)
{
    rig.broker->options.consumer_timeout_ms = LIMIT;
    rig_queue("q");
}

static void settle(uint32_t consumer, uint64_t ordinal, uint64_t count)
{
    CALL(broker_settle(rig.ch, &(struct broker_delivery){0, consumer, ordinal, false}, count,
                       QUEUE_ACK));
}

static const char *after(uint64_t ms)
{
    rig.now_ms += ms;
    return rig_said();
}

Test(broker_overdue, the_consumer_is_cancelled_and_its_messages_requeued)
{
    setup();
    consume("q", "t", 0, NULL, 0);
    rig_deliver("q", 1, 1, 3, 0, 0);
    settle(1, 2, 1);
    (void)rig_said();
    (void)rig_calls();
    cr_assert_str_eq(after(LIMIT), "");
    cr_assert_str_eq(after(STEP), "overdue 't' 1600\n");
    EXPECT_CALLS("q detach 1 flags=16\n");
    cr_assert_eq(rig.ch->outstanding, 0);
    settle(1, 1, 1); /* too late: the machine ignores it */
    cr_assert_eq(rig.ch->outstanding, 0);
    rig_deliver("q", 1, 4, 1, 0, 0); /* was on its way */
    EXPECT_CALLS("q settle ack 1.1+1\nq settle release 1.4+1\n");
    EXPECT_SAID("");
    consume("q", "t", 0, NULL, 0); /* the tag is free again */
    rig_deliver("q", 2, 1, 1, 0, 0);
    EXPECT_SAID("deliver 't' 0.2.1 'm'\n");
}

Test(broker_overdue, not_while_it_settles_in_time)
{
    setup();
    consume("q", "t", 0, NULL, 0);
    for (uint64_t i = 1; i <= 200; i++) { /* always two or three held, none for long */
        rig_deliver("q", 1, i, 1, 0, 0);
        if (i > 2) {
            settle(1, i - 2, 1);
        }
        (void)rig_calls();
        const char *said = after(LIMIT / 4);
        cr_assert(strstr(said, "overdue") == NULL, "%llu: %s", (unsigned long long)i, said);
    }
}

Test(broker_overdue, the_oldest_counts_whatever_is_settled_behind_it)
{
    setup();
    consume("q", "t", 0, NULL, 0);
    rig_deliver("q", 1, 1, 1, 0, 0);
    for (uint64_t i = 2; i < 20; i++) {
        (void)after(50);
        rig_deliver("q", 1, i, 1, 0, 0);
        settle(1, i, 1);
    }
    cr_assert(strstr(after(LIMIT - 18 * 50 + STEP), "overdue 't' 1600\n") != NULL);
}

Test(broker_overdue, which_limit)
{
    setup();
    consume("q", "own", 0, "x-consumer-timeout", 160);
    consume("q", "never", 0, "x-consumer-timeout", 0);
    consume("q", "no-ack", BROKER_NO_ACK, NULL, 0);
    consume("q", "default", 0, NULL, 0);
    rig_deliver("q", 1, 1, 1, 0, 0);
    rig_deliver("q", 2, 1, 1, 0, 0);
    rig_deliver("q", 3, 1, 1, 0, QUEUE_NO_ACK);
    rig_deliver("q", 4, 1, 1, 0, 0);
    (void)rig_said();
    cr_assert_str_eq(after(200), "overdue 'own' 160\n");
    cr_assert_str_eq(after(LIMIT), "overdue 'default' 1600\n");
    cr_assert_str_eq(after(1000 * LIMIT), "");
}

Test(broker_overdue, what_a_cancelled_consumer_still_holds_goes_back_too)
{
    setup();
    consume("q", "t", 0, NULL, 0);
    rig_deliver("q", 1, 1, 4, 0, 0);
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    settle(1, 1, 2);
    cr_assert_eq(rig.ch->outstanding, 2);
    (void)rig_said();
    (void)rig_calls();
    cr_assert_str_eq(after(LIMIT + STEP), "");
    EXPECT_CALLS("q settle requeue 1.1+4\n");
    cr_assert_eq(rig.ch->outstanding, 0);
    (void)after(10 * LIMIT);
    EXPECT_CALLS("");
}

Test(broker_overdue, while_its_cancel_is_under_way)
{
    setup();
    consume("q", "t", 0, NULL, 0);
    rig_deliver("q", 1, 1, 1, 0, 0);
    (void)rig_said();
    (void)rig_calls();
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    cr_assert_str_eq(after(LIMIT + STEP), "overdue 't' 1600\n");
    EXPECT_CALLS("q detach 1 flags=0\nq detach 1 flags=16\n");
    struct queue_client *q = rig_client("q");
    q->sink->on_reply(q->ctx, q->asked_seq - 1, QUEUE_OK, 0, 0);
    EXPECT_SAID("cancel ok 't' 0 0\n");
}

Test(broker_overdue, it_makes_room_under_the_limit_of_the_channel)
{
    setup();
    rig_queue("p");
    broker_qos(rig.ch, 1, true);
    consume("q", "t", 0, NULL, 0);
    consume("p", "u", 0, NULL, 0);
    rig_deliver("q", 1, 1, 1, 0, 0);
    rig_deliver("p", 1, 1, 1, 0, 0);
    (void)rig_said();
    (void)rig_calls();
    cr_assert_str_eq(after(LIMIT + STEP), "overdue 't' 1600\n");
    EXPECT_CALLS("q detach 1 flags=16\np credit 1 2\n");
}

Test(broker_overdue, a_failover_cancels_who_asked_for_it)
{
    setup();
    consume("q", "t", 0, "x-cancel-on-ha-failover", 1);
    consume("q", "u", 0, "x-cancel-on-ha-failover", 0);
    consume("q", "v", BROKER_NO_ACK, "x-cancel-on-ha-failover", 1);
    rig_deliver("q", 1, 1, 2, 0, 0);
    rig_deliver("q", 2, 1, 1, 0, 0);
    (void)rig_said();
    (void)rig_calls();
    struct queue_client *q = rig_client("q");
    q->sink->on_moved(q->ctx);
    EXPECT_SAID("cancel 't'\ncancel 'v'\n");
    EXPECT_CALLS("q detach 1 flags=16\nq detach 3 flags=16\n");
    cr_assert_eq(rig.ch->outstanding, 1);
    q->sink->on_moved(q->ctx);
    EXPECT_SAID("");
}

Test(broker_overdue, consumers_of_a_channel_are_limited)
{
    setup();
    rig.broker->options.consumers_max = 2;
    consume("q", "a", 0, NULL, 0);
    consume("q", "b", 0, NULL, 0);
    CALL(broker_consume(rig.ch, B("q"), B("c"), 0, BYTES_NONE, rig_done, "consume"));
    EXPECT_SAID("consume 530! reached maximum (2) of consumers per channel\n");
}

/* Against a naive model: the time of each delivery. */
#define ORDINALS 400

Test(broker_overdue, property_never_early_and_at_most_a_sixteenth_late)
{
    setup();
    for (uint64_t seed = 1; seed <= 40; seed++) {
        uint64_t delivered[ORDINALS + 1] = {0}; /* when; 0: settled or not yet */
        struct prng prng;
        uint64_t next = 1;
        uint64_t oldest = 0;
        prng_init(&prng, seed);
        rig.ch = rig_channel(rig.session, (uint16_t)(seed + 1));
        consume("q", "t", 0, NULL, 0);
        for (;;) {
            uint64_t held = 0;
            oldest = UINT64_MAX;
            for (uint64_t i = 1; i < next; i++) {
                held += delivered[i] != 0;
                oldest = delivered[i] != 0 && delivered[i] < oldest ? delivered[i] : oldest;
            }
            cr_assert_eq(rig.ch->outstanding, held);
            const char *said = after(prng_below(&prng, 120));
            bool overdue = strstr(said, "overdue") != NULL;
            (void)rig_calls();
            cr_assert(!overdue || (held > 0 && rig.now_ms > oldest + LIMIT), "early");
            cr_assert(overdue || held == 0 || rig.now_ms < oldest + LIMIT + STEP + 1, "late");
            if (overdue || next + 8 > ORDINALS) {
                break;
            }
            uint64_t more = prng_below(&prng, 5);
            if (more > 0) {
                rig_deliver("q", 1, next, (uint32_t)more, 0, 0);
                for (uint64_t i = 0; i < more; i++) {
                    delivered[next++] = rig.now_ms;
                }
            }
            for (uint64_t i = 1; i < next; i++) { /* most are settled soon, in any order */
                if (delivered[i] != 0 && prng_below(&prng, 100) < (seed & 1 ? 20u : 5u)) {
                    settle(1, i, 1);
                    delivered[i] = 0;
                }
            }
            (void)rig_said();
        }
        broker_channel_close(rig.ch);
        (void)rig_said();
        (void)rig_calls();
    }
    rig.ch = rig_channel(rig.session, 100);
}
