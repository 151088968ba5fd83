/* Delivery tags: what is settled, against a naive model. */
#include "rig.h"

TestSuite(amqp_settle, .init = rig_init, .fini = rig_deinit);

static void settle(enum wire_method_id id, uint64_t tag, bool multiple, bool requeue)
{
    struct wire_method m = {.id = id};
    if (id == WIRE_BASIC_ACK) {
        m.basic_ack.delivery_tag = tag;
        m.basic_ack.multiple = multiple;
    } else if (id == WIRE_BASIC_NACK) {
        m.basic_nack.delivery_tag = tag;
        m.basic_nack.multiple = multiple;
        m.basic_nack.requeue = requeue;
    } else {
        m.basic_reject.delivery_tag = tag;
        m.basic_reject.requeue = requeue;
    }
    rig_send(1, &m);
}

static void setup(uint64_t deliveries)
{
    rig_open();
    rig_channel(1);
    for (uint64_t i = 1; i <= deliveries; i++) {
        rig_deliver(1, "t", 0, 1, i, false, "a");
    }
    (void)rig_out();
    (void)rig_calls();
}

Test(amqp_settle, acks_of_a_turn_become_one_range)
{
    setup(100);
    for (uint64_t i = 1; i <= 50; i++) {
        settle(WIRE_BASIC_ACK, i, false, false);
    }
    EXPECT_CALLS("1 settle ack 0.1.1+50\n");
    settle(WIRE_BASIC_ACK, 100, true, false);
    EXPECT_CALLS("1 settle ack 0.1.51+50\n");
}

Test(amqp_settle, outcomes)
{
    setup(6);
    settle(WIRE_BASIC_REJECT, 1, false, true);
    settle(WIRE_BASIC_REJECT, 2, false, false);
    settle(WIRE_BASIC_NACK, 3, false, false);
    settle(WIRE_BASIC_NACK, 4, false, true);
    settle(WIRE_BASIC_NACK, 0, true, true);
    EXPECT_CALLS("1 settle requeue 0.1.1+1\n1 settle reject 0.1.2+2\n1 settle requeue 0.1.4+3\n");
}

Test(amqp_settle, zero_and_multiple_is_all_also_when_there_is_nothing)
{
    setup(0);
    settle(WIRE_BASIC_ACK, 0, true, false);
    EXPECT_OUT("");
    EXPECT_CALLS("");
}

Test(amqp_settle, unknown_tags_close_the_channel)
{
    static const struct {
        enum wire_method_id id;
        uint64_t tag;
        bool multiple;
    } rows[] = {{WIRE_BASIC_ACK, 0, false},         {WIRE_BASIC_ACK, 3, false},
                {WIRE_BASIC_ACK, 3, true},          {WIRE_BASIC_ACK, UINT64_MAX, false},
                {WIRE_BASIC_ACK, UINT64_MAX, true}, {WIRE_BASIC_NACK, UINT64_C(1) << 63, true},
                {WIRE_BASIC_REJECT, 99, false},     {WIRE_BASIC_ACK, 1, false},
                {WIRE_BASIC_ACK, 1, true}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        char expected[200];
        setup(2);
        settle(WIRE_BASIC_ACK, 1, false, false);
        settle(rows[i].id, rows[i].tag, rows[i].multiple, false);
        (void)snprintf(expected, sizeof expected,
                       "1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - unknown "
                       "delivery tag %llu\" class-id=60 "
                       "method-id=%u\n",
                       (unsigned long long)rows[i].tag, wire_method_of(rows[i].id));
        EXPECT_OUT(expected);
        EXPECT_CALLS(
            "1 settle ack 0.1.1+1\n1 channel_close\n"); /* what came before the error counts */
        rig_deinit();
        rig_init();
    }
}

Test(amqp_settle, tags_of_another_channel_are_unknown)
{
    setup(1);
    rig_channel(2);
    struct wire_method m = {.id = WIRE_BASIC_ACK};
    m.basic_ack.delivery_tag = 1;
    rig_send(2, &m);
    EXPECT_OUT("2 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - unknown delivery "
               "tag 1\" class-id=60 method-id=80\n");
}

Test(amqp_settle, no_ack_deliveries_take_numbers_but_need_no_ack)
{
    setup(0);
    rig_deliver(1, "t", 0, 1, 1, true, "a");
    rig_deliver(1, "u", 0, 2, 1, false, "b");
    (void)rig_out();
    settle(WIRE_BASIC_ACK, 2, true, false);
    EXPECT_CALLS("1 settle ack 0.2.1+1\n");
    settle(WIRE_BASIC_ACK, 1, false, false);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - unknown delivery "
               "tag 1\" class-id=60 method-id=80\n");
}

Test(amqp_settle, recover_returns_everything)
{
    struct wire_method m = {.id = WIRE_BASIC_RECOVER};
    m.basic_recover.requeue = true;
    setup(3);
    settle(WIRE_BASIC_ACK, 2, false, false);
    rig_send(1, &m);
    EXPECT_OUT("1 basic.recover-ok\n");
    EXPECT_CALLS("1 settle ack 0.1.2+1\n1 settle requeue 0.1.1+1\n1 settle requeue 0.1.3+1\n");
    m = (struct wire_method){.id = WIRE_BASIC_RECOVER_ASYNC};
    m.basic_recover_async.requeue = true;
    rig_send(1, &m);
    EXPECT_OUT("");
}

Test(amqp_settle, settles_come_before_other_calls)
{
    struct wire_method purge = {.id = WIRE_QUEUE_PURGE};
    struct wire_method qos = {.id = WIRE_BASIC_QOS};
    setup(3);
    settle(WIRE_BASIC_ACK, 1, false, false);
    rig_send(1, &purge);
    rig_turn();
    settle(WIRE_BASIC_ACK, 2, false, false);
    rig_send(1, &qos);
    EXPECT_CALLS("1 settle ack 0.1.1+1\n1 queue_purge ''\n1 settle ack 0.1.2+1\n1 qos 0\n");
}

/* A naive model: each tag with its (queue, consumer, ordinal), settled or not. */
struct model_tag {
    uint32_t queue, consumer;
    uint64_t ordinal;
    bool open;
};

#define TAGS 3000

static struct model_tag tags[TAGS + 1];
static uint8_t seen[4][4][TAGS + 1]; /* outcome that the broker heard */

static void hear(const char *text)
{
    for (const char *line = text; *line != 0; line = strchr(line, '\n') + 1) {
        char outcome[16];
        unsigned queue, consumer;
        unsigned long long first, count;
        cr_assert_eq(sscanf(line, "1 settle %15s %u.%u.%llu+%llu", outcome, &queue, &consumer,
                            &first, &count),
                     5, "%s", line);
        for (uint64_t i = first; i < first + count; i++) {
            cr_assert_eq(seen[queue][consumer][i], 0, "settled once");
            seen[queue][consumer][i] = (uint8_t)outcome[2]; /* ack: k, requeue: q, reject: j */
        }
    }
}

Test(amqp_settle, property_the_same_as_a_naive_model)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct prng prng;
        uint64_t ordinals[4][4] = {{0}};
        static uint8_t expected[4][4][TAGS + 1];
        uint64_t next = 1;
        uint64_t open = 0;
        prng_init(&prng, seed);
        memset(seen, 0, sizeof seen);
        memset(expected, 0, sizeof expected);
        setup(0);
        while (next < TAGS) {
            uint64_t run = 1 + prng_below(&prng, 40);
            uint32_t queue = (uint32_t)prng_below(&prng, 4);
            uint32_t consumer = (uint32_t)prng_below(&prng, 4);
            bool no_ack = prng_below(&prng, 8) == 0;
            for (uint64_t i = 0; i < run && next < TAGS; i++) {
                uint64_t ordinal = ++ordinals[queue][consumer];
                tags[next] = (struct model_tag){queue, consumer, ordinal, !no_ack};
                open += !no_ack;
                rig_deliver(1, "t", queue, consumer, ordinal, no_ack, "");
                next++;
            }
            for (uint64_t k = prng_below(&prng, 8); k > 0 && open > 0; k--) {
                static const enum wire_method_id ids[] = {WIRE_BASIC_ACK, WIRE_BASIC_NACK,
                                                          WIRE_BASIC_REJECT};
                enum wire_method_id id = ids[prng_below(&prng, 3)];
                uint64_t tag = 1 + prng_below(&prng, next - 1);
                while (!tags[tag].open) {
                    tag = tag % (next - 1) + 1;
                }
                bool multiple = id != WIRE_BASIC_REJECT && prng_below(&prng, 6) == 0;
                bool requeue = prng_below(&prng, 2) == 0;
                settle(id, tag, multiple, requeue);
                for (uint64_t i = multiple ? 1 : tag; i <= tag; i++) {
                    if (tags[i].open) {
                        tags[i].open = false;
                        open--;
                        expected[tags[i].queue][tags[i].consumer][tags[i].ordinal] =
                            id == WIRE_BASIC_ACK ? 'k'
                            : requeue            ? 'q'
                                                 : 'j';
                    }
                }
            }
            hear(rig_calls());
            rig.conn.out->size = 0;
        }
        cr_assert_eq(memcmp(seen, expected, sizeof seen), 0, "seed %llu", (unsigned long long)seed);
        rig_deinit();
        rig_init();
    }
}
