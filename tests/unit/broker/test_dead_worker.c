/* The worker that carries dead letters: to whom, when again, and when they are settled. */
#include "letter.h"

TestSuite(broker_dead, .init = rig_init, .fini = rig_deinit);

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

static void nacked(const char *queue, uint64_t seq)
{
    rig_nacked(queue, seq);
    rig_applied(queue, seq);
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
    rig_dead_queue("q", "dlx", NULL);
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
    rig_applied("d1", 2);
    cr_assert(strstr(rig_calls(), "settle") == NULL);
    rig_applied("d2", 1);
    EXPECT_CALLS("q settle ack 1.1+1\n");
    rig_applied("d2", 2);
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
    rig_dead_queue("q", "dlx", NULL);
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
    rig_applied("d1", 3);
    rig_applied("d2", 3);
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
    rig_dead_queue("q", "dlx", NULL);
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
    rig_applied("d", 2);
    EXPECT_CALLS("q settle ack 1.1+1\n");
    dead_with_delay_comes("q", 2, -500);
    calls = rig_calls();
    cr_assert(strstr(calls, "d publish 'body' props=") != NULL, "%s", calls);
}

/* A queue that obeys x-delay does so whoever publishes; another one has the header as it came. */
Test(broker_dead, letters_wait_in_a_queue_that_delays)
{
    struct writer args;
    rig_dead_queue("q", "dlx", NULL);
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
    rig_applied("d2", 1);
    EXPECT_CALLS("");
    wait_ms(1000);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d1 publish") != NULL && strstr(calls, "d2 publish") == NULL, "%s",
              calls);
    rig_applied("d1", 2);
    EXPECT_CALLS("q settle ack 1.1+1\n");
}

/* d1 has refused the first: what comes behind it waits there behind it, and nowhere else. */
Test(broker_dead, who_comes_behind_a_refused_one_stays_behind_it)
{
    two_queues();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    nacked("d1", 1);
    rig_applied("d2", 1);
    (void)rig_calls();
    wait_ms(600);
    dead_comes("q", 2, 2, QUEUE_DIED_EXPIRED);
    const char *calls = rig_calls();
    cr_assert(strstr(calls, "d1 publish") == NULL && count_of(calls, "d2 publish") == 2, "%s",
              calls);
    rig_applied("d2", 3);
    EXPECT_CALLS("");
    wait_ms(400);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 1, "the one that was refused is first");
    rig_applied("d1", 2);
    calls = rig_calls();
    cr_assert(strstr(calls, "q settle ack 1.1+1\n") != NULL, "%s", calls);
    cr_assert_eq(count_of(calls, "d1 publish"), 2, "it has room: the others follow at once: %s",
                 calls);
    rig_applied("d1", 4);
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
    rig_applied("d1", seq);
    rig_applied("d2", 8);
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
    rig_applied("d1", ++seq);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 2);
    rig_applied("d1", seq += 2);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 4);
    /* The first two of these are taken: five have been, so many come after a second. */
    rig_applied("d1", seq += 2);
    nacked("d1", ++seq);
    nacked("d1", ++seq);
    (void)rig_calls();
    wait_ms(999);
    EXPECT_CALLS("");
    wait_ms(1);
    cr_assert_eq(count_of(rig_calls(), "d1 publish"), 3, "all that are left");
    rig_applied("d1", seq += 3);
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
    rig_applied("d2", 3);
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
    rig_applied("d2", 2);
    rig_unbind("dlx", "d1", "");
    (void)rig_calls();
    wait_ms(1000);
    EXPECT_CALLS("q settle ack 1.1+2\n");
}

/* Routed anew to nothing, as far as is known here: what another node has bound meanwhile counts. */
Test(broker_dead, what_waits_and_finds_no_way_is_looked_at_behind_a_barrier)
{
    rig_dead_queue("q", "dlx", NULL);
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
    rig_applied("d2", 2);
    EXPECT_CALLS("q settle ack 1.1+2\n");
}

/* A barrier that began before it came tells nothing of what was bound before it came. */
Test(broker_dead, who_comes_while_a_barrier_is_under_way_waits_for_the_next)
{
    rig_dead_queue("q", "dlx", NULL);
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
    rig_dead_queue("q", "dlx", "at-most-once");
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
    rig_dead_queue("q", "missing", NULL);
    open_worker("q");
    (void)rig_calls();
    dead_comes("q", 1, 1, QUEUE_DIED_EXPIRED);
    cr_assert(strncmp(rig_calls(), "barrier\nq settle ack 1.1+1\n", 27) == 0);
}

Test(broker_dead, the_second_look_finds_what_was_bound_elsewhere)
{
    rig_dead_queue("q", "dlx", NULL);
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
    rig_dead_queue("q", "dlx", "at-least-once");
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
    rig_applied("d1", 1);
    EXPECT_CALLS("q settle ack 1.1+1\n");
}

Test(broker_dead, round_and_round_is_dropped)
{
    rig_dead_queue("q", "", NULL); /* the default exchange: back to the queue of the key */
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
    rig_applied("d1", 1);
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
    rig_applied("d1", 1);
    rig_applied("d2", 1);
    (void)rig_calls();
    wait_ms(10000);
    EXPECT_CALLS("d1 close\nd2 close\nq close\n");
}

Test(broker_dead, a_second_worker_is_refused)
{
    rig_dead_queue("q", "dlx", NULL);
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
