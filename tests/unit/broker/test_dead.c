/* Dead letters: what they look like, where they must not go, and the worker that carries them. */
#include "dead.h"
#include "rig.h"

TestSuite(broker_dead, .init = rig_init, .fini = rig_deinit);

/* --- the letter ------------------------------------------------------------------------------- */

static const struct dead_letter expired_in_q = {
    .queue = {(const uint8_t *)"q", 1},
    .reason = QUEUE_DIED_EXPIRED,
    .time_s = 100,
    .exchange = {(const uint8_t *)"dlx", 3},
};

static const char *describe(const struct message *m)
{
    static char text[4096];
    struct wire_props props;
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    cr_assert_eq(wire_props_decode(message_props(m), &props), WIRE_OK);
    strbuf_printf(&s, "%.*s/%.*s '%.*s'", FMT(message_exchange(m)), FMT(message_key(m)),
                  FMT(message_body(m)));
    wire_describe_props(&s, &props);
    return text;
}

static struct message with_props(const struct wire_props *props)
{
    struct writer w;
    writer_init(&w, 256);
    wire_props_put(&w, props);
    struct message m = rig_message("x", "k", writer_bytes(&w), "body");
    writer_deinit(&w);
    return m;
}

static struct message die(struct message owned, const struct dead_letter *death)
{
    struct message letter = dead_letter_make(&owned, death);
    cr_assert_eq(message_check(bytes_from_slice(&letter.record)), 0);
    message_unref(owned);
    return letter;
}

#define DEATH_IN_Q                                                                                 \
    "table {count=long 1, reason=longstr \"expired\", queue=longstr \"q\", time=timestamp 100, "   \
    "exchange=longstr \"x\", routing-keys=array [longstr \"k\"]}"
#define FIRST_IN_Q                                                                                 \
    "x-first-death-reason=longstr \"expired\", x-first-death-queue=longstr \"q\", "                \
    "x-first-death-exchange=longstr \"x\""
#define LAST_IN_Q                                                                                  \
    "x-last-death-reason=longstr \"expired\", x-last-death-queue=longstr \"q\", "                  \
    "x-last-death-exchange=longstr \"x\""

Test(broker_dead, first_death_of_a_bare_message)
{
    struct message m = die(with_props(&WIRE_PROPS_NONE), &expired_in_q);
    cr_assert_str_eq(describe(&m), "dlx/k 'body' headers={x-death=array [" DEATH_IN_Q
                                   "], " FIRST_IN_Q ", " LAST_IN_Q "}");
    cr_assert_eq(message_flags(&m), MESSAGE_DEATHS);
    message_unref(m);
}

Test(broker_dead, properties_stay_and_the_expiration_moves)
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

Test(broker_dead, dying_again_in_the_same_way_counts_up_and_keeps_the_first_time)
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

Test(broker_dead, what_a_publisher_says_about_deaths_is_not_believed)
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

Test(broker_dead, a_key_of_its_own_takes_the_copies_out)
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

Test(broker_dead, a_cycle_is_one_unless_somebody_rejected)
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

/* --- the worker ------------------------------------------------------------------------------- */

static void declare_with(const char *name, const char *exchange, const char *strategy)
{
    struct writer args;
    writer_init(&args, 128);
    wire_table_put_cstr(&args, "x-dead-letter-exchange", exchange);
    if (strategy != NULL) {
        wire_table_put_cstr(&args, "x-dead-letter-strategy", strategy);
    }
    struct catalog_command command = {
        .kind = CATALOG_DECLARE_QUEUE,
        .u.queue = {.vhost = B("/"),
                    .name = B(name),
                    .arguments = writer_bytes(&args),
                    .type = strategy == NULL ? CATALOG_CLASSIC : CATALOG_QUORUM,
                    .run = CATALOG_RUN_LOCAL,
                    .local = {.node = {1, 1}, .boot = 1}}};
    rig_apply(&command);
    writer_deinit(&args);
}

static uint64_t id_of(const char *queue)
{
    return catalog_queue(rig.broker->view, B("/"), B(queue))->id;
}

static void open_worker(const char *queue)
{
    broker_queue_dead(rig.broker, id_of(queue));
    broker_queue_dead(rig.broker, id_of(queue)); /* said again: one is enough */
    rig_reply(queue, QUEUE_OK, 0);
}

static void dead_comes(const char *queue, uint64_t ordinal, uint32_t count, enum queue_death reason)
{
    struct queue_client *client = rig_client(queue);
    struct message messages[8];
    for (uint32_t i = 0; i < count; i++) {
        messages[i] = rig_message("x", "k", BYTES_NONE, "m");
    }
    client->sink->on_dead(client->ctx, 1, ordinal, reason, 5000, messages, count);
    for (uint32_t i = 0; i < count; i++) {
        message_unref(messages[i]);
    }
    rig_turn(); /* a barrier, if there is one */
}

static void applied(const char *queue, uint64_t seq)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_applied(client->ctx, seq);
}

static void nacked(const char *queue, uint64_t seq)
{
    struct queue_client *client = rig_client(queue);
    client->sink->on_nacked(client->ctx, seq);
    client->sink->on_applied(client->ctx, seq);
}

static int count_of(const char *text, const char *word)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, word)) != NULL; at += strlen(word)) {
        count++;
    }
    return count;
}

static void wait_ms(uint64_t ms)
{
    rig.now_ms += ms;
}

static void two_queues(void)
{
    declare_with("q", "dlx", NULL);
    rig_queue("d1");
    rig_queue("d2");
    rig_exchange("dlx", "fanout", BYTES_NONE);
    rig_bind("dlx", "d1", "");
    rig_bind("dlx", "d2", "");
    open_worker("q");
    EXPECT_CALLS("q open\nq attach 1 '' flags=32 prefetch=512 credit=64 priority=0 args=0\n");
}

Test(broker_dead, settles_when_all_targets_have_it)
{
    two_queues();
    dead_comes("q", 1, 2, QUEUE_DIED_EXPIRED);
    cr_assert(strstr(rig_calls(), "settle") == NULL);
    applied("d1", 2);
    cr_assert(strstr(rig_calls(), "settle") == NULL);
    applied("d2", 1);
    EXPECT_CALLS("q settle ack 1.1+1\n");
    applied("d2", 2);
    EXPECT_CALLS("q settle ack 1.2+1\n");
}

/* Keys of the BCC header that it was published with count as those of CC do, but nobody sees them.
 */
Test(broker_dead, keys_of_bcc_route_it_again)
{
    static const struct bytes bcc = BYTES_INIT("\x02"
                                               "b1"
                                               "\x02"
                                               "b2");
    struct message plain = rig_message("x", "k", BYTES_NONE, "m");
    const struct message_parts parts = {.exchange = B("x"),
                                        .key = B("k"),
                                        .props = message_props(&plain),
                                        .bcc = bcc,
                                        .ttl_ms = MESSAGE_TTL_NONE};
    struct buf *record = buf_new((size_t)message_record_size(&parts, 1));
    record->size = record->capacity;
    *message_write(record->data, &parts, 1) = 'm';
    struct message m = {.record = slice_of_buf(record)};
    struct message letter = dead_letter_make(&m, &expired_in_q);
    cr_assert_eq(message_check(bytes_from_slice(&letter.record)), 0);
    cr_assert(bytes_eq(message_bcc(&letter), bcc), "also when it dies again");
    cr_assert(strstr(describe(&letter), "routing-keys=array [longstr \"k\"]") != NULL);
    message_unref(letter);
    declare_with("q", "dlx", NULL);
    rig_exchange("dlx", "direct", BYTES_NONE);
    for (int i = 0; i < 3; i++) {
        rig_queue((const char *[]){"d1", "d2", "d3"}[i]);
        rig_bind("dlx", (const char *[]){"d1", "d2", "d3"}[i],
                 (const char *[]){"k", "b2", "other"}[i]);
    }
    open_worker("q");
    (void)rig_calls();
    struct queue_client *client = rig_client("q");
    client->sink->on_dead(client->ctx, 1, 1, QUEUE_DIED_EXPIRED, 5000, &m, 1);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d1 publish") != NULL && strstr(calls, "d2 publish") != NULL &&
                  strstr(calls, "d3") == NULL,
              "%s", calls);
    message_unref(m);
    message_unref(plain);
}

Test(broker_dead, a_key_of_its_own_forgets_those_of_bcc)
{
    static const struct bytes bcc = BYTES_INIT("\x02"
                                               "b1");
    struct dead_letter death = expired_in_q;
    const struct message_parts parts = {
        .exchange = B("x"), .props = wire_props_empty, .bcc = bcc, .ttl_ms = MESSAGE_TTL_NONE};
    struct buf *record = buf_new((size_t)message_record_size(&parts, 0));
    record->size = record->capacity;
    (void)message_write(record->data, &parts, 0);
    death.has_key = true;
    death.key = B("own");
    struct message letter = die((struct message){.record = slice_of_buf(record)}, &death);
    cr_assert_eq(message_bcc(&letter).size, 0);
    message_unref(letter);
}

Test(broker_dead, settles_in_runs)
{
    two_queues();
    dead_comes("q", 1, 3, QUEUE_DIED_REJECTED);
    applied("d1", 3);
    applied("d2", 3);
    cr_assert(strstr(rig_calls(), "q settle ack 1.1+3\n") != NULL);
}

static void dead_with_delay_comes(const char *queue, uint64_t ordinal, int64_t delay)
{
    struct queue_client *client = rig_client(queue);
    struct writer headers;
    writer_init(&headers, 64);
    wire_table_put_int64(&headers, "x-delay", delay);
    const struct wire_props props = {.flags = WIRE_PROP_HEADERS, .headers = writer_bytes(&headers)};
    struct message m = with_props(&props);
    client->sink->on_dead(client->ctx, 1, ordinal, QUEUE_DIED_REJECTED, 5000, &m, 1);
    message_unref(m);
    writer_deinit(&headers);
    rig_turn();
}

/* Through a delayed exchange it waits as what is published there; a delay that is over (it is
 * negative then) does not begin again. */
Test(broker_dead, a_delayed_exchange_delays_letters_too)
{
    struct writer type;
    declare_with("q", "dlx", NULL);
    rig_queue("d");
    writer_init(&type, 64);
    wire_table_put_cstr(&type, "x-delayed-type", "direct");
    rig_exchange("dlx", "x-delayed-message", writer_bytes(&type));
    rig_bind("dlx", "d", "k");
    writer_deinit(&type);
    open_worker("q");
    (void)rig_calls();
    dead_with_delay_comes("q", 1, 500);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d publish 'body' publisher='' 0 id='' delay=500 x-delay=-500\n") !=
                  NULL,
              "%s", calls);
    nacked("d", 1);
    wait_ms(1000);
    calls = rig_calls();
    cr_assert(strstr(calls, "delay=500 x-delay=-500\n") != NULL, "tried again: %s", calls);
    applied("d", 2);
    EXPECT_CALLS("q settle ack 1.1+1\n");
    dead_with_delay_comes("q", 2, -500);
    calls = rig_calls();
    cr_assert(strstr(calls, "d publish 'body' props=") != NULL, "%s", calls);
}

/* A queue that obeys x-delay does so whoever publishes; another one has the header as it came. */
Test(broker_dead, letters_wait_in_a_queue_that_delays)
{
    struct writer args;
    declare_with("q", "dlx", NULL);
    rig_queue("plain");
    writer_init(&args, 64);
    wire_table_put_bool(&args, "x-delayed-messages", true);
    rig_queue_with("late", writer_bytes(&args));
    writer_deinit(&args);
    rig_exchange("dlx", "fanout", BYTES_NONE);
    rig_bind("dlx", "late", "");
    rig_bind("dlx", "plain", "");
    open_worker("q");
    (void)rig_calls();
    dead_with_delay_comes("q", 1, 500);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "late publish 'body' publisher='' 0 id='' delay=500 x-delay=-500\n") !=
                  NULL,
              "%s", calls);
    cr_assert(strstr(calls, "plain publish 'body' props=") != NULL, "%s", calls);
}

Test(broker_dead, a_refusal_is_tried_again_there_only)
{
    two_queues();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    (void)rig_calls();
    nacked("d1", 1);
    applied("d2", 1);
    EXPECT_CALLS("");
    wait_ms(1000);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d1 publish") != NULL && strstr(calls, "d2 publish") == NULL, "%s",
              calls);
    applied("d1", 2);
    EXPECT_CALLS("q settle ack 1.1+1\n");
}

/* d1 has refused the first: what comes behind it waits there behind it, and nowhere else. */
Test(broker_dead, who_comes_behind_a_refused_one_stays_behind_it)
{
    two_queues();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    nacked("d1", 1);
    applied("d2", 1);
    (void)rig_calls();
    wait_ms(600);
    dead_comes("q", 2, 2, QUEUE_DIED_EXPIRED);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d1 publish") == NULL && count_of(calls, "d2 publish") == 2, "%s",
              calls);
    applied("d2", 3);
    EXPECT_CALLS("");
    wait_ms(400);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 1, "the one that was refused is first");
    applied("d1", 2);
    calls = rig_calls();
    cr_assert(strstr(calls, "q settle ack 1.1+1\n") != NULL, "%s", calls);
    cr_assert_eq(count_of(calls, "d1 publish"), 2, "it has room: the others follow at once: %s",
                 calls);
    applied("d1", 4);
    EXPECT_CALLS("q settle ack 1.2+2\n");
    dead_comes("q", 4, 1, QUEUE_DIED_EXPIRED);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 1, "nothing is before it any more");
}

/* A target that stays full costs one publish each time, and that less and less often. */
Test(broker_dead, a_full_target_is_asked_with_one_and_ever_more_rarely)
{
    static const uint64_t pauses_ms[] = {1000, 2000, 4000, 8000, 8000};
    uint64_t seq = 8;
    two_queues();
    dead_comes("q", 1, 8, QUEUE_DIED_EXPIRED);
    for (uint64_t i = 1; i <= seq; i++) {
        rig_client("d1")->sink->on_nacked(rig_client("d1")->ctx, i);
    }
    applied("d1", seq);
    applied("d2", 8);
    (void)rig_calls();
    for (size_t i = 0; i < WR_ARRAY_SIZE(pauses_ms); i++) {
        wait_ms(pauses_ms[i] - 1);
        EXPECT_CALLS("");
        wait_ms(1);
        cr_assert_eq(count_of(rig_calls(), "d1 publish"), 1);
        nacked("d1", ++seq);
    }
    wait_ms(8000);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 1);
    applied("d1", ++seq);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 2);
    applied("d1", seq += 2);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 4);
    /* The first two of these are taken: five have been, so many come after a second. */
    applied("d1", seq += 2);
    nacked("d1", ++seq);
    nacked("d1", ++seq);
    (void)rig_calls();
    wait_ms(999);
    EXPECT_CALLS("");
    wait_ms(1);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 3, "all that are left");
    applied("d1", seq += 3);
    cr_assert(strstr(rig_calls(), "q settle ack 1.6+3\n") != NULL);
}

/* What waits for a target ends with it. */
Test(broker_dead, a_full_target_that_is_deleted_has_had_all)
{
    two_queues();
    dead_comes("q", 1, 2, QUEUE_DIED_EXPIRED);
    nacked("d1", 1);
    nacked("d1", 2);
    dead_comes("q", 3, 1, QUEUE_DIED_EXPIRED);
    applied("d2", 3);
    (void)rig_calls();
    rig_delete("d1");
    EXPECT_CALLS("q settle ack 1.1+3\nd1 close\n");
    wait_ms(20000);
}

/* The way there has gone while it waited: it is looked for anew. */
Test(broker_dead, what_waits_is_routed_anew)
{
    two_queues();
    dead_comes("q", 1, 2, QUEUE_DIED_EXPIRED);
    nacked("d1", 1);
    nacked("d1", 2);
    applied("d2", 2);
    rig_unbind("dlx", "d1", "");
    (void)rig_calls();
    wait_ms(1000);
    EXPECT_CALLS("q settle ack 1.1+2\n");
}

/* Routed anew to nothing, as far as is known here: what another node has bound meanwhile counts. */
Test(broker_dead, what_waits_and_finds_no_way_is_looked_at_behind_a_barrier)
{
    declare_with("q", "dlx", NULL);
    rig_queue("d1");
    rig_queue("d2");
    rig_exchange("dlx", "fanout", BYTES_NONE);
    rig_bind("dlx", "d1", "");
    open_worker("q");
    dead_comes("q", 1, 2, QUEUE_DIED_EXPIRED);
    nacked("d1", 1);
    nacked("d1", 2);
    rig_unbind("dlx", "d1", "");
    (void)rig_calls();
    struct catalog_command bind = {
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B("dlx"), B("d2"), B(""), BYTES_NONE, CATALOG_TO_QUEUE}};
    rig_apply_silently(&bind);
    wait_ms(1000);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "barrier\n") != NULL && count_of(calls, "d2 publish") == 2 &&
                  strstr(calls, "settle") == NULL,
              "%s", calls);
    applied("d2", 2);
    EXPECT_CALLS("q settle ack 1.1+2\n");
}

/* A barrier that began before it came tells nothing of what was bound before it came. */
Test(broker_dead, who_comes_while_a_barrier_is_under_way_waits_for_the_next)
{
    declare_with("q", "dlx", NULL);
    rig_queue("d1");
    rig_exchange("dlx", "fanout", BYTES_NONE);
    open_worker("q");
    (void)rig_calls();
    rig.hold = true;
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    dead_comes("q", 2, 2, QUEUE_DIED_EXPIRED);
    const char *calls = rig_calls();
    cr_assert(count_of(calls, "barrier\n") == 1 && strstr(calls, "publish") == NULL, "%s", calls);
    struct catalog_command bind = {
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B("dlx"), B("d1"), B(""), BYTES_NONE, CATALOG_TO_QUEUE}};
    rig_apply_silently(&bind);
    rig_catalog();
    calls = rig_calls();
    cr_assert(count_of(calls, "d1 publish") == 1 && count_of(calls, "barrier\n") == 1, "%s", calls);
    rig_catalog();
    calls = rig_calls();
    cr_assert(count_of(calls, "d1 publish") == 2 && strstr(calls, "barrier") == NULL, "%s", calls);
}

Test(broker_dead, at_most_once_lets_a_refused_one_go)
{
    declare_with("q", "dlx", "at-most-once");
    rig_queue("d1");
    rig_exchange("dlx", "fanout", BYTES_NONE);
    rig_bind("dlx", "d1", "");
    open_worker("q");
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    (void)rig_calls();
    nacked("d1", 1);
    EXPECT_CALLS("q settle ack 1.1+1\n");
}

Test(broker_dead, what_cannot_be_routed_is_dropped_after_a_second_look)
{
    declare_with("q", "missing", NULL);
    open_worker("q");
    (void)rig_calls();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    cr_assert(strncmp(rig_calls(), "barrier\nq settle ack 1.1+1\n", 27) == 0);
}

Test(broker_dead, the_second_look_finds_what_was_bound_elsewhere)
{
    declare_with("q", "dlx", NULL);
    rig_queue("d1");
    rig_exchange("dlx", "fanout", BYTES_NONE);
    open_worker("q");
    (void)rig_calls();
    struct catalog_command bind = {
        .kind = CATALOG_BIND,
        .u.binding = {B("/"), B("dlx"), B("d1"), B(""), BYTES_NONE, CATALOG_TO_QUEUE}};
    rig_apply_silently(&bind);
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "barrier\n") != NULL && strstr(calls, "d1 publish") != NULL, "%s",
              calls);
}

/* Without the catalog's leader nothing is held up for good: what is known here counts. */
Test(broker_dead, routes_by_what_it_knows_when_nobody_answers)
{
    two_queues();
    rig.no_leader = true;
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d1 publish") != NULL && strstr(calls, "d2 publish") != NULL, "%s",
              calls);
}

Test(broker_dead, at_least_once_waits_for_a_way)
{
    declare_with("q", "dlx", "at-least-once");
    open_worker("q");
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    cr_assert(strstr(rig_calls(), "settle") == NULL);
    wait_ms(1000);
    cr_assert(strstr(rig_calls(), "settle") == NULL);
    rig_queue("d1");
    rig_exchange("dlx", "fanout", BYTES_NONE);
    rig_bind("dlx", "d1", "");
    wait_ms(1000);
    cr_assert(strstr(rig_calls(), "d1 publish") != NULL);
    applied("d1", 1);
    EXPECT_CALLS("q settle ack 1.1+1\n");
}

Test(broker_dead, round_and_round_is_dropped)
{
    declare_with("q", "", NULL); /* the default exchange: back to the queue of the key */
    rig_queue("k");
    open_worker("q");
    (void)rig_calls();
    struct queue_client *client = rig_client("q");
    struct message m = with_props(&WIRE_PROPS_NONE);
    struct dead_letter in_k = expired_in_q;
    in_k.queue = B("k");
    m = die(m, &in_k);
    client->sink->on_dead(client->ctx, 1, 1, QUEUE_DIED_EXPIRED, 5000, &m, 1);
    cr_assert(strncmp(rig_calls(), "q settle ack 1.1+1\n", 19) == 0);
    client->sink->on_dead(client->ctx, 1, 2, QUEUE_DIED_REJECTED, 5000, &m, 1);
    cr_assert(strstr(rig_calls(), "k publish") != NULL);
    message_unref(m);
}

Test(broker_dead, a_target_that_is_deleted_has_had_it)
{
    two_queues();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    applied("d1", 1);
    (void)rig_calls();
    rig_delete("d2");
    EXPECT_CALLS("q settle ack 1.1+1\nd2 close\n");
}

Test(broker_dead, closes_when_there_is_nothing_to_do)
{
    two_queues();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    wait_ms(20000);
    cr_assert(strstr(rig_calls(), "close") == NULL, "it has something to do");
    applied("d1", 1);
    applied("d2", 1);
    (void)rig_calls();
    wait_ms(10000);
    EXPECT_CALLS("d1 close\nd2 close\nq close\n");
}

Test(broker_dead, a_second_worker_is_refused)
{
    declare_with("q", "dlx", NULL);
    broker_queue_dead(rig.broker, id_of("q"));
    (void)rig_calls();
    rig_reply("q", QUEUE_IN_EXCLUSIVE_USE, 0);
    EXPECT_CALLS("q close\n");
}

Test(broker_dead, goes_with_its_queue)
{
    two_queues();
    dead_comes("q", 1, 2, QUEUE_DIED_EXPIRED);
    (void)rig_calls();
    rig_delete("q");
    EXPECT_CALLS("d1 close\nd2 close\nq close\n");
}

Test(broker_dead, credit_is_renewed_and_held_back_while_a_target_is_full)
{
    two_queues();
    struct queue_client *d1;
    for (uint64_t i = 0; i < 5; i++) {
        dead_comes("q", 1 + i * 8, 8, QUEUE_DIED_EXPIRED);
    }
    cr_assert(strstr(rig_calls(), "q credit 1 ") != NULL);
    d1 = rig_client("d1");
    d1->sink->on_blocked(d1->ctx, true);
    for (uint64_t i = 5; i < 300; i++) {
        dead_comes("q", 1 + i * 8, 8, QUEUE_DIED_EXPIRED);
        if (i % 20 == 0) {
            cr_assert(strstr(rig_calls(), "credit") == NULL);
        }
    }
    (void)rig_calls();
    d1->sink->on_blocked(d1->ctx, false);
    cr_assert(strstr(rig_calls(), "q credit 1 ") != NULL);
}

/* --- who rejects, and then looks for the letter ----------------------------------------------- */

static void get_from(const char *queue)
{
    CALL(broker_get(rig.ch, B(queue), false, rig_on_get, rig_done, "get"));
    rig_turn();
}

/* Has a message of q, the channel's queue 0, and rejects it: op 2 of its client. */
static void rejects(enum queue_outcome outcome)
{
    rig_queue("d");
    get_from("q");
    rig_deliver("q", 0, 1, 1, 0, 0);
    rig_reply("q", QUEUE_OK, 0);
    const struct broker_delivery got = {.queue = 0, .ordinal = 1};
    CALL(broker_settle(rig.ch, &got, 1, outcome));
    (void)rig_calls();
    (void)rig_said();
}

Test(broker_dead, a_get_waits_until_what_its_channel_rejected_is_dead)
{
    declare_with("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    EXPECT_CALLS("");
    applied("q", 2);
    EXPECT_CALLS("d open\nd get\n");
    rig_reply("d", QUEUE_EMPTY, 0);
    EXPECT_SAID("get ok 'd' 0 0\n");
    get_from("d");
    EXPECT_CALLS("d get\n");
}

Test(broker_dead, a_get_waits_for_a_queue_without_leader_for_a_second_only)
{
    declare_with("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    wait_ms(999);
    EXPECT_CALLS("");
    wait_ms(1);
    EXPECT_CALLS("d open\nd get\n");
}

Test(broker_dead, a_get_waits_for_nothing_else)
{
    declare_with("q", "dlx", NULL);
    rejects(QUEUE_REQUEUE);
    get_from("d");
    EXPECT_CALLS("d open\nd get\n");
}

Test(broker_dead, a_get_does_not_wait_for_its_own_queue)
{
    declare_with("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("q");
    EXPECT_CALLS("q get\n");
}

Test(broker_dead, a_get_does_not_wait_for_what_goes_nowhere)
{
    rig_queue("q");
    rejects(QUEUE_REJECT);
    get_from("d");
    EXPECT_CALLS("d open\nd get\n");
}

Test(broker_dead, a_get_that_waits_goes_on_when_the_queue_is_deleted)
{
    declare_with("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    struct queue_client *q = rig_client("q");
    q->gone = true;
    q->sink->on_gone(q->ctx, false);
    EXPECT_CALLS("q close\nd open\nd get\n");
}

Test(broker_dead, a_get_that_waits_ends_with_its_channel)
{
    declare_with("q", "dlx", NULL);
    rejects(QUEUE_REJECT);
    get_from("d");
    CALL(broker_channel_close(rig.ch));
    rig.ch = NULL;
    EXPECT_CALLS("q close\n");
    wait_ms(2000);
    EXPECT_CALLS("");
    EXPECT_SAID("");
}
