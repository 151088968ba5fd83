/* Confirms: each token is answered once, when all its queues have answered, and with nack if one of
 * them refused. */
#include "rig.h"

TestSuite(broker_confirm, .init = rig_init, .fini = rig_deinit);

static void publish(const char *exchange, const char *key, uint64_t token)
{
    rig_publish(exchange, key, BYTES_NONE, token);
}

Test(broker_confirm, a_run_is_confirmed_as_a_run)
{
    rig_queue("q");
    for (uint64_t i = 1; i <= 10; i++) {
        publish("", "q", i);
    }
    (void)rig_said();
    rig_applied("q", 4);
    rig_applied("q", 4);
    rig_applied("q", 10);
    EXPECT_SAID("confirm 1+4 ack\nconfirm 5+6 ack\n");
}

Test(broker_confirm, other_ops_in_between_do_not_matter)
{
    rig_queue("q");
    publish("", "q", 1);
    CALL(broker_queue_purge(rig.ch, B("q"), rig_done, "purge")); /* seq 2 */
    publish("", "q", 2);
    publish("", "q", 0); /* no confirm wanted: seq 4 */
    publish("", "q", 3);
    (void)rig_said();
    rig_applied("q", 3);
    EXPECT_SAID("confirm 1+1 ack\nconfirm 2+1 ack\n");
    rig_applied("q", 4);
    EXPECT_SAID("");
    rig_applied("q", 5);
    EXPECT_SAID("confirm 3+1 ack\n");
}

Test(broker_confirm, with_several_queues_the_last_one_confirms)
{
    rig_queue("a");
    rig_queue("b");
    rig_bind("amq.fanout", "a", "");
    rig_bind("amq.fanout", "b", "");
    publish("amq.fanout", "", 1);
    publish("", "a", 2);
    (void)rig_said();
    rig_applied("a", 2);
    EXPECT_SAID("confirm 2+1 ack\n");
    rig_applied("b", 1);
    EXPECT_SAID("confirm 1+1 ack\n");
    cr_assert_eq(rig.ch->multi.count, 0);
}

Test(broker_confirm, one_refusal_is_a_nack_once_all_have_answered)
{
    rig_queue("a");
    rig_queue("b");
    rig_bind("amq.fanout", "a", "");
    rig_bind("amq.fanout", "b", "");
    publish("amq.fanout", "", 1);
    (void)rig_said();
    rig_nacked("a", 1);
    rig_applied("a", 1);
    EXPECT_SAID("");
    rig_applied("b", 1);
    EXPECT_SAID("confirm 1+1 nack\n");
    cr_assert_eq(rig.ch->nacked.count, 0);
}

Test(broker_confirm, a_refusal_in_the_middle_of_a_run)
{
    rig_queue("q");
    for (uint64_t i = 1; i <= 5; i++) {
        publish("", "q", i);
    }
    (void)rig_said();
    rig_nacked("q", 3);
    rig_nacked("q", 5);
    rig_applied("q", 5);
    EXPECT_SAID("confirm 3+1 nack\nconfirm 5+1 nack\nconfirm 1+2 ack\nconfirm 4+1 ack\n");
}

Test(broker_confirm, a_deleted_queue_confirms_and_a_lost_one_does_not)
{
    rig_queue("a");
    rig_queue("b");
    publish("", "a", 1);
    publish("", "b", 2);
    (void)rig_said();
    rig_delete("a");
    EXPECT_SAID("confirm 1+1 ack\n");
    struct queue_client *b = rig_client("b");
    b->gone = true;
    b->sink->on_gone(b->ctx, true); /* its node is down */
    EXPECT_SAID("confirm 2+1 nack\n");
}

/* Against a naive model: per token the set of queues that have not answered, and whether one
 * refused. */
#define QUEUES 4
#define TOKENS 3000

struct model {
    uint8_t left[TOKENS + 1];
    bool refused[TOKENS + 1];
    uint8_t outcome[TOKENS + 1];  /* 1 = ack, 2 = nack, expected */
    uint8_t answered[TOKENS + 1]; /* what came */
    VEC(uint64_t) ops[QUEUES];    /* token of each seq; 0 = none */
    size_t told[QUEUES];          /* seqs answered */
};

static struct model model;

static void answer(uint64_t token, bool ack)
{
    if (token != 0) {
        model.refused[token] = model.refused[token] || !ack;
        if (--model.left[token] == 0) {
            model.outcome[token] = model.refused[token] ? 2 : 1;
        }
    }
}

static void progress(struct prng *prng, uint32_t q, const char *name)
{
    size_t to = model.told[q] + prng_below(prng, model.ops[q].count - model.told[q] + 1);
    for (size_t i = model.told[q]; i < to; i++) { /* refusals are told before */
        if (model.ops[q].items[i] != 0 && prng_below(prng, 10) == 0) {
            rig_nacked(name, i + 1);
            answer(model.ops[q].items[i], false);
            model.ops[q].items[i] = 0;
        }
    }
    for (size_t i = model.told[q]; i < to; i++) {
        answer(model.ops[q].items[i], true);
    }
    if (to > model.told[q]) {
        model.told[q] = to;
        rig_applied(name, to);
    }
}

static void check(uint64_t published)
{
    for (size_t i = 0; i < rig.confirms.count; i++) {
        const struct confirmed *c = &rig.confirms.items[i];
        for (uint64_t t = c->first; t < c->first + c->count; t++) {
            cr_assert_eq(model.answered[t], 0, "answered once");
            model.answered[t] = c->ack ? 1 : 2;
        }
    }
    vec_clear(&rig.confirms);
    for (uint64_t t = 1; t < published; t++) {
        cr_assert_eq(model.answered[t], model.outcome[t], "token %llu", (unsigned long long)t);
    }
}

Test(broker_confirm, property_the_same_as_a_naive_model)
{
    static const char *const names[QUEUES] = {"q0", "q1", "q2", "q3"};
    for (uint32_t i = 0; i < QUEUES; i++) {
        rig_queue(names[i]);
    }
    for (uint32_t set = 1; set < 1u << QUEUES; set++) { /* a key for every set of queues */
        char key[8];
        (void)snprintf(key, sizeof key, "%u", set);
        for (uint32_t i = 0; i < QUEUES; i++) {
            if ((set >> i & 1) != 0) {
                rig_bind("amq.direct", names[i], key);
            }
        }
    }
    for (uint64_t seed = 1; seed <= 15; seed++) {
        struct prng prng;
        uint64_t token = 1;
        prng_init(&prng, seed);
        memset(&model, 0, sizeof model);
        rig.ch = rig_channel(rig.session, (uint16_t)(seed + 1));
        while (token <= TOKENS) {
            for (uint64_t k = prng_below(&prng, 30); k > 0 && token <= TOKENS; k--) {
                uint32_t set = prng_below(&prng, 2) == 0 ? 1u << prng_below(&prng, QUEUES)
                                                         : 1 + (uint32_t)prng_below(&prng, 15);
                char key[8];
                (void)snprintf(key, sizeof key, "%u", set);
                bool wanted = prng_below(&prng, 20) != 0;
                publish("amq.direct", key, wanted ? token : 0);
                for (uint32_t i = 0; i < QUEUES; i++) {
                    if ((set >> i & 1) != 0) {
                        model.left[token] += wanted;
                        vec_push(&model.ops[i], wanted ? token : 0);
                    }
                }
                token += wanted;
            }
            uint32_t q = (uint32_t)prng_below(&prng, QUEUES);
            if (model.ops[q].count > 0) {
                progress(&prng, q, names[q]);
            }
            check(token);
            (void)rig_said();
            (void)rig_calls();
        }
        for (uint32_t q = 0; q < QUEUES; q++) {
            for (size_t i = model.told[q]; i < model.ops[q].count; i++) {
                answer(model.ops[q].items[i], true);
            }
            rig_applied(names[q], model.ops[q].count);
            vec_deinit(&model.ops[q]);
        }
        check(token);
        cr_assert_eq(rig.ch->multi.count + rig.ch->nacked.count, 0);
        broker_channel_close(rig.ch);
        (void)rig_said();
        (void)rig_calls();
    }
}
