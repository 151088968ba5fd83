/* Confirms: whatever the order in which tokens are answered, the client hears of each exactly once
 * and never wrongly. */
#include "rig.h"

TestSuite(amqp_confirm, .init = rig_init, .fini = rig_deinit);

static void setup(uint64_t publishes)
{
    struct wire_method select = {.id = WIRE_CONFIRM_SELECT};
    struct wire_method m = rig_publish("x", "k");
    rig_open();
    rig_channel(1);
    rig_send(1, &select);
    for (uint64_t i = 0; i < publishes; i++) {
        rig_send(1, &m);
        rig_content(1, 0);
        if (i % 100 == 99) {
            (void)rig_calls();
        }
    }
    cr_assert_eq(rig.tokens.count, publishes);
    for (uint64_t i = 0; i < publishes; i++) {
        cr_assert_eq(rig.tokens.items[i], i + 1);
    }
    (void)rig_out();
}

static void confirm(uint64_t first, uint64_t count, bool ack)
{
    rig.channels[1].sink->on_confirm(rig.channels[1].ctx, first, count, ack);
}

Test(amqp_confirm, a_turn_of_acks_is_one_frame)
{
    setup(100);
    for (uint64_t i = 1; i <= 50; i++) {
        confirm(i, 1, true);
    }
    EXPECT_OUT("1 basic.ack delivery-tag=50 multiple=true\n");
    confirm(51, 50, true);
    EXPECT_OUT("1 basic.ack delivery-tag=100 multiple=true\n");
}

Test(amqp_confirm, multiple_never_crosses_an_open_number)
{
    setup(6);
    confirm(2, 2, true);
    confirm(5, 1, true);
    EXPECT_OUT("1 basic.ack delivery-tag=2 multiple=false\n1 basic.ack delivery-tag=3 "
               "multiple=false\n1 basic.ack delivery-tag=5 "
               "multiple=false\n");
    confirm(1, 1, true);
    EXPECT_OUT("1 basic.ack delivery-tag=1 multiple=false\n");
    confirm(4, 1, true);
    confirm(6, 1, true);
    EXPECT_OUT(
        "1 basic.ack delivery-tag=4 multiple=false\n1 basic.ack delivery-tag=6 multiple=false\n");
}

Test(amqp_confirm, nacks_and_acks_do_not_mix)
{
    setup(9);
    confirm(1, 3, true);
    confirm(4, 3, false);
    confirm(7, 3, true);
    EXPECT_OUT("1 basic.ack delivery-tag=3 multiple=true\n1 basic.nack delivery-tag=6 "
               "multiple=true requeue=false\n1 basic.ack "
               "delivery-tag=9 multiple=true\n");
}

Test(amqp_confirm, order_within_a_turn_does_not_matter)
{
    setup(4);
    confirm(4, 1, true);
    confirm(2, 1, true);
    confirm(3, 1, true);
    confirm(1, 1, true);
    EXPECT_OUT("1 basic.ack delivery-tag=4 multiple=true\n");
}

Test(amqp_confirm, select_later_numbers_from_one)
{
    struct wire_method m = rig_publish("x", "k");
    struct wire_method select = {.id = WIRE_CONFIRM_SELECT};
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig_content(1, 0);
    rig_send(1, &select);
    rig_send(1, &m);
    rig_content(1, 0);
    rig_send(1, &select); /* again: nothing changes */
    rig_send(1, &m);
    rig_content(1, 0);
    rig_turn();
    cr_assert_eq(rig.tokens.items[0], 0);
    cr_assert_eq(rig.tokens.items[1], 1);
    cr_assert_eq(rig.tokens.items[2], 2);
}

/* The client's view: a set of open numbers. Every ack and nack frame must answer open numbers with
 * the right outcome only. */
struct client {
    uint8_t open[2001];    /* 1 = open */
    uint8_t outcome[2001]; /* what the broker said: 0 = nothing yet, 1 = ack, 2 = nack */
    uint64_t below;
};

static uint64_t hear(struct client *c, const char *line)
{
    unsigned long long tag;
    char multiple[16];
    bool ack = strncmp(line, "1 basic.ack ", 12) == 0;
    cr_assert(ack || strncmp(line, "1 basic.nack ", 13) == 0, "%s", line);
    cr_assert_eq(
        sscanf(strstr(line, "delivery-tag="), "delivery-tag=%llu multiple=%15s", &tag, multiple),
        2);
    uint64_t from = strcmp(multiple, "true") == 0 ? 1 : tag;
    uint64_t answered = 0;
    for (uint64_t i = from; i <= tag; i++) {
        if (c->open[i]) {
            cr_assert_eq(c->outcome[i], ack ? 1 : 2, "number %llu", (unsigned long long)i);
            c->open[i] = 0;
            answered++;
        } else {
            cr_assert_neq(i, tag, "an answer names an open number");
        }
    }
    return answered;
}

Test(amqp_confirm, property_every_number_is_answered_once_and_rightly)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        static struct client client;
        struct prng prng;
        prng_init(&prng, seed);
        uint64_t count = 1 + prng_below(&prng, 2000);
        memset(&client, 0, sizeof client);
        setup(count);
        memset(client.open + 1, 1, count);
        uint64_t answered = 0;
        uint64_t told = 0;
        uint32_t nack_percent = (uint32_t)prng_below(&prng, 3) * 5;
        while (told < count) {
            uint64_t batch = 1 + prng_below(&prng, 20);
            for (uint64_t k = 0; k < batch && told < count;
                 k++) { /* some run of open numbers, near the front or anywhere */
                uint64_t first = 1 + prng_below(&prng, prng_below(&prng, 2) == 0 ? count
                                                       : told + 10 < count       ? told + 10
                                                                                 : count);
                while (first <= count && client.outcome[first] != 0) {
                    first++;
                }
                uint64_t want = 1 + prng_below(&prng, 30);
                uint64_t n = 0;
                while (n < want && first + n <= count && client.outcome[first + n] == 0) {
                    n++;
                }
                if (n == 0) {
                    continue;
                }
                bool ack = prng_below(&prng, 100) >= nack_percent;
                memset(client.outcome + first, ack ? 1 : 2, n);
                told += n;
                confirm(first, n, ack);
            }
            static char text[sizeof rig.out_text];
            memcpy(text, rig_out(), sizeof text);
            for (char *line = text; *line != 0; line = strchr(line, '\n') + 1) {
                answered += hear(&client, line);
            }
            cr_assert_eq(answered, told, "all that is known is told in the turn");
        }
        rig_deinit();
        rig_init();
    }
}
