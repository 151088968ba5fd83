/* What a dead letter looks like, and where it must not go. */
#include "letter.h"

TestSuite(broker_dead_letter, .init = rig_init, .fini = rig_deinit);

#define DEATH_IN_Q                                                                                 \
    "table {count=long 1, reason=longstr \"expired\", queue=longstr \"q\", time=timestamp 100, "   \
    "exchange=longstr \"x\", routing-keys=array [longstr \"k\"]}"
#define FIRST_IN_Q                                                                                 \
    "x-first-death-reason=longstr \"expired\", x-first-death-queue=longstr \"q\", "                \
    "x-first-death-exchange=longstr \"x\""
#define LAST_IN_Q                                                                                  \
    "x-last-death-reason=longstr \"expired\", x-last-death-queue=longstr \"q\", "                  \
    "x-last-death-exchange=longstr \"x\""

Test(broker_dead_letter, first_death_of_a_bare_message)
{
    struct message m = die(with_props(&WIRE_PROPS_NONE), &expired_in_q);
    cr_assert_str_eq(describe(&m), "dlx/k 'body' headers={x-death=array [" DEATH_IN_Q
                                   "], " FIRST_IN_Q ", " LAST_IN_Q "}");
    cr_assert_eq(message_flags(&m), MESSAGE_DEATHS);
    message_unref(m);
}

Test(broker_dead_letter, properties_stay_and_the_expiration_moves)
{
    const struct wire_props props = {.flags = WIRE_PROP_CONTENT_TYPE | WIRE_PROP_EXPIRATION |
                                              WIRE_PROP_MESSAGE_ID,
                                     .content_type = B("text/plain"),
                                     .expiration = B("60"),
                                     .message_id = B("m1")};
    struct message m = die(with_props(&props), &expired_in_q);
    cr_assert(strstr(describe(&m), "original-expiration=longstr \"60\"") != NULL);
    cr_assert(strstr(describe(&m), " expiration=") == NULL);
    cr_assert(strstr(describe(&m), "content-type=\"text/plain\"") != NULL);
    cr_assert(strstr(describe(&m), "message-id=\"m1\"") != NULL);
    cr_assert_eq(message_ttl_ms(&m), MESSAGE_TTL_NONE);
    message_unref(m);
}

Test(broker_dead_letter, dying_again_in_the_same_way_counts_up_and_keeps_the_first_time)
{
    struct message m = die(with_props(&WIRE_PROPS_NONE), &expired_in_q);
    struct dead_letter elsewhere = expired_in_q;
    elsewhere.queue = B("other");
    elsewhere.reason = QUEUE_DIED_MAXLEN;
    elsewhere.time_s = 200;
    m = die(m, &elsewhere);
    struct dead_letter again = expired_in_q;
    again.time_s = 300;
    m = die(m, &again);
    cr_assert_str_eq(
        describe(&m),
        "dlx/k 'body' headers={" FIRST_IN_Q ", x-death=array [table {count=long 2, "
        "reason=longstr \"expired\", queue=longstr \"q\", time=timestamp 100, exchange=longstr "
        "\"x\", routing-keys=array [longstr \"k\"]}, table {count=long 1, reason=longstr "
        "\"maxlen\", queue=longstr \"other\", time=timestamp 200, exchange=longstr \"dlx\", "
        "routing-keys=array [longstr \"k\"]}], x-last-death-reason=longstr \"expired\", "
        "x-last-death-queue=longstr \"q\", x-last-death-exchange=longstr \"dlx\"}");
    message_unref(m);
}

Test(broker_dead_letter, what_a_publisher_says_about_deaths_is_not_believed)
{
    struct writer headers;
    writer_init(&headers, 256);
    wire_table_put_cstr(&headers, "mine", "stays");
    wire_table_put_cstr(&headers, "x-first-death-queue", "forged");
    wire_table_put_cstr(&headers, "x-death", "forged");
    const struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
    struct message m = die(with_props(&props), &expired_in_q);
    cr_assert_str_eq(describe(&m),
                     "dlx/k 'body' headers={mine=longstr \"stays\", x-death=array [" DEATH_IN_Q
                     "], " FIRST_IN_Q ", " LAST_IN_Q "}");
    message_unref(m);
    writer_deinit(&headers);
}

Test(broker_dead_letter, a_key_of_its_own_takes_the_copies_out)
{
    struct writer headers;
    writer_init(&headers, 256);
    uint32_t cc = wire_table_put_array_begin(&headers, "CC");
    wire_value_put_longstr(&headers, B("copy"));
    wire_value_put_end(&headers, cc);
    const struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
    struct dead_letter death = expired_in_q;
    struct message m = die(with_props(&props), &death);
    cr_assert(strstr(describe(&m), "CC=array [longstr \"copy\"]") != NULL);
    cr_assert(strstr(describe(&m), "routing-keys=array [longstr \"k\", longstr \"copy\"]") != NULL);
    message_unref(m);
    death.has_key = true;
    death.key = B("other");
    m = die(with_props(&props), &death);
    cr_assert(strncmp(describe(&m), "dlx/other ", 10) == 0);
    cr_assert(strstr(describe(&m), "CC=") == NULL);
    cr_assert(strstr(describe(&m), "routing-keys=array [longstr \"k\", longstr \"copy\"]") != NULL);
    message_unref(m);
    writer_deinit(&headers);
}

Test(broker_dead_letter, a_cycle_is_one_unless_somebody_rejected)
{
    struct message m = die(with_props(&WIRE_PROPS_NONE), &expired_in_q);
    struct bytes headers = wire_props_headers(message_props(&m));
    cr_assert(dead_letter_is_cycle(headers, B("q")));
    cr_assert_not(dead_letter_is_cycle(headers, B("other")));
    struct dead_letter rejected = expired_in_q;
    rejected.queue = B("other");
    rejected.reason = QUEUE_DIED_REJECTED;
    m = die(m, &rejected);
    headers = wire_props_headers(message_props(&m));
    cr_assert_not(dead_letter_is_cycle(headers, B("q")));
    struct dead_letter third = expired_in_q;
    third.queue = B("third");
    m = die(m, &third);
    headers = wire_props_headers(message_props(&m));
    cr_assert(dead_letter_is_cycle(headers, B("third")));
    cr_assert_not(dead_letter_is_cycle(headers, B("q")));
    message_unref(m);
}
