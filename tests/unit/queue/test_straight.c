/* What a batch enqueues and consumers wait for: it goes to them without passing through the levels.
 * And what leaves in another order than that of its positions: it is dropped in few pieces. */
#include <criterion/criterion.h>

#include "warren/prng.h"

#include "rig.h"
#include "queue_internal.h"

static struct rig rig;

#define A CLIENT(1, 1)
#define B CLIENT(1, 2)
#define C CLIENT(2, 3)

static void setup(void)
{
    struct queue_config config;
    queue_config_default(&config);
    config.priority_max = 9;
    config.length_max = 5;
    rig_init(&rig, &config);
}

static void teardown(void)
{
    rig_deinit(&rig);
}

TestSuite(queue_straight, .init = setup, .fini = teardown);

/* One batch: a message of 10 bytes for each digit, which is its priority. */
static void publish(const char *priorities)
{
    struct queue_op ops[32] = {0};
    const uint32_t count = (uint32_t)strlen(priorities);
    for (uint32_t i = 0; i < count; i++) {
        ops[i] = (struct queue_op){.kind = QUEUE_OP_ENQUEUE,
                                   .seq = ++rig.seqs[1],
                                   .message = rig_message(10, (uint8_t)(priorities[i] - '0'))};
    }
    rig_batch(&rig, A, ops, count);
    for (uint32_t i = 0; i < count; i++) {
        message_unref(ops[i].message);
    }
}

static struct queue_totals totals(void)
{
    struct queue_totals t;
    queue_totals(rig.queue, &t);
    return t;
}

Test(queue_straight, a_batch_goes_by_priority_to_who_waits)
{
    rig_attach(&rig, B, 1, 0, 0);
    (void)rig_take(&rig);
    publish("131323");
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=6\n"
                     "DELIVER 1.2/1 ordinal=1 position=2+1\n"
                     "DELIVER 1.2/1 ordinal=2 position=4+1\n"
                     "DELIVER 1.2/1 ordinal=3 position=6+1\n"
                     "DELIVER 1.2/1 ordinal=4 position=5+1\n"
                     "DELIVER 1.2/1 ordinal=5 position=1+1\n"
                     "DELIVER 1.2/1 ordinal=6 position=3+1");
    cr_assert_eq(totals().ready, 0);
    cr_assert_eq(totals().unacked, 6);
    rig_settle(&rig, B, 1, 1, 6, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\nDROP 1+6");
}

Test(queue_straight, what_nobody_has_room_for_waits_in_its_level)
{
    rig_attach(&rig, B, 1, 0, 3);
    (void)rig_take(&rig);
    publish("1111");
    publish("2292");
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=4\nDELIVER 1.2/1 ordinal=1 position=1+3\nAPPLIED 1.1 seq=8");
    cr_assert_eq(totals().ready, 5);
    cr_assert_eq(totals().bytes_ready, 50);
    rig_settle(&rig, B, 1, 1, 2, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.2 seq=2\n"
                     "DELIVER 1.2/1 ordinal=4 position=7+1\n"
                     "DELIVER 1.2/1 ordinal=5 position=5+1\n"
                     "DROP 1+2");
}

Test(queue_straight, consumers_take_turns_across_runs)
{
    rig_attach(&rig, B, 1, 0, 2);
    rig_attach(&rig, C, 1, 0, 0);
    (void)rig_take(&rig);
    publish("115115");
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=6\n"
                     "DELIVER 1.2/1 ordinal=1 position=3+1\n"
                     "DELIVER 2.3/1 ordinal=1 position=6+1\n"
                     "DELIVER 1.2/1 ordinal=2 position=1+1\n"
                     "DELIVER 2.3/1 ordinal=2 position=2+1\n"
                     "DELIVER 2.3/1 ordinal=3 position=4+2");
}

/* What is handed out does not count in the limit; of what is left the head goes. */
Test(queue_straight, the_length_limit_is_about_what_is_left)
{
    rig_attach(&rig, B, 1, QUEUE_NO_ACK, 0);
    rig_op(&rig, B, (struct queue_op){.kind = QUEUE_OP_CREDIT, .consumer = 1, .limit = 2});
    (void)rig_take(&rig);
    publish("91919999");
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=8\n"
                     "DELIVER 1.2/1 ordinal=1 position=1+1 no_ack\n"
                     "DELIVER 1.2/1 ordinal=2 position=3+1 no_ack\n"
                     "DROP 1+1\n"
                     "DROP 3+1\n"
                     "DROP 5+1");
    cr_assert_eq(totals().ready, 5);
}

Test(queue_straight, what_is_behind_a_get_of_the_same_batch_is_found_by_it)
{
    const struct message message = rig_message(10, 4);
    rig_attach(&rig, B, 1, 0, 1);
    (void)rig_take(&rig);
    const struct queue_op ops[] = {{.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 2, .message = message},
                                   {.kind = QUEUE_OP_GET, .seq = 3},
                                   {.kind = QUEUE_OP_ENQUEUE, .seq = 4, .message = message}};
    rig_batch(&rig, A, ops, WR_ARRAY_SIZE(ops));
    message_unref(message);
    RIG_EXPECT(&rig, "DELIVER 1.1/0 ordinal=1 position=1+1\n"
                     "REPLY 1.1 seq=3 ok value=1 consumers=1\n"
                     "APPLIED 1.1 seq=4\n"
                     "DELIVER 1.2/1 ordinal=1 position=2+1");
}

/* --- spans ----------------------------------------------------------------------------------- */

#define CELLS 4096u

/* Spans of a random map, shuffled and cut, against the map. */
static void check_spans(struct prng *prng, uint64_t base, uint64_t stretch)
{
    static bool cells[CELLS + 1];
    struct queue_spans spans = {.count = 0};
    const uint64_t one_in = 1 + prng_below(prng, 20);
    memset(cells, 0, sizeof(cells));
    for (uint64_t at = 0; at < CELLS;) {
        const uint64_t left = CELLS - at;
        const uint64_t wanted = 1 + prng_below(prng, prng_below(prng, 4) == 0 ? 200 : 3);
        const uint64_t count = wanted < left ? wanted : left;
        if (prng_below(prng, one_in) == 0) {
            vec_push(&spans, (struct queue_span){base + at * stretch, count});
            memset(&cells[at], 1, count);
        }
        at += count;
    }
    for (size_t i = spans.count; i > 1; i--) {
        const size_t other = (size_t)prng_below(prng, i);
        const struct queue_span swap = spans.items[i - 1];
        spans.items[i - 1] = spans.items[other];
        spans.items[other] = swap;
    }
    queue__spans_join(&spans);
    uint64_t at = 0;
    for (size_t i = 0; i < spans.count; i++) {
        const uint64_t first = (spans.items[i].first - base) / stretch;
        for (; at < first; at++) {
            cr_assert_not(cells[at]);
        }
        for (; at < first + spans.items[i].count; at++) {
            cr_assert(cells[at]);
        }
        cr_assert(stretch > 1 || !cells[at], "neighbours are joined");
    }
    for (; at < CELLS; at++) {
        cr_assert_not(cells[at]);
    }
    vec_deinit(&spans);
}

Test(queue_straight, spans_are_ordered_and_joined)
{
    struct prng prng;
    prng_init(&prng, 5);
    for (uint32_t i = 0; i < 300; i++) {
        check_spans(&prng, 1 + prng_below(&prng, 1000), 1);
        check_spans(&prng, UINT64_MAX / 2, 100000); /* too far apart for a map of bits */
    }
}
