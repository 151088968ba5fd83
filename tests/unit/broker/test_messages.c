/* Pages of messages: peek, copy, move, delete. */
#include "rig.h"
#include "warren/broker_messages.h"

static void init(void)
{
    rig_init();
    rig_queue("q");
    rig_queue("t");
    rig.report.totals = (struct queue_totals){.ready = 5, .delayed = 2, .next_position = 100};
    (void)rig_calls();
}

TestSuite(broker_messages, .init = init, .fini = rig_deinit);

static void on_message(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                       uint32_t delivery_count, const struct message *message)
{
    (void)ctx;
    strbuf_printf(&rig.said, "message %llu place=%d at=%llu count=%u '%.*s'\n",
                  (unsigned long long)position, (int)place, (unsigned long long)at_ms,
                  delivery_count, FMT(message_body(message)));
}

static void on_done(void *ctx, const struct broker_fault *fault, const struct broker_page_result *r)
{
    (void)ctx;
    cr_assert_not(rig.inside);
    strbuf_printf(&rig.said,
                  "%u %s next=%llu end=%llu total=%llu seen=%llu matched=%llu done=%llu "
                  "refused=%llu\n",
                  fault->code, fault->text, (unsigned long long)r->next, (unsigned long long)r->end,
                  (unsigned long long)r->total, (unsigned long long)r->seen,
                  (unsigned long long)r->matched, (unsigned long long)r->done,
                  (unsigned long long)r->refused);
}

static const struct broker_page_sink page_sink = {.on_message = on_message, .on_done = on_done};

static struct broker_page_options options_of(enum broker_page_what what)
{
    return (struct broker_page_options){.what = what,
                                        .vhost = B("/"),
                                        .queue = B("q"),
                                        .target = B("t"),
                                        .places = QUEUE_PLACE_READY,
                                        .count = 10,
                                        .limit = UINT64_MAX,
                                        .timeout_ms = 5000};
}

static struct broker_page *start(struct broker_page_options options)
{
    struct broker_page *page = NULL;
    CALL(page = broker_page_start(rig.broker, &options, &page_sink, NULL));
    return page;
}

/* The queue has these; the key of the messages tells them apart. */
static void found(uint64_t position, const char *const keys[], uint32_t count)
{
    struct queue_client *q = rig_client("q");
    struct message messages[8];
    for (uint32_t i = 0; i < count; i++) {
        messages[i] = rig_message("x", keys[i], BYTES_NONE, keys[i]);
    }
    q->sink->on_peek(q->ctx, position, QUEUE_PLACE_READY, UINT64_MAX, 0, messages, count);
    for (uint32_t i = 0; i < count; i++) {
        message_unref(messages[i]);
    }
}

static void reply(uint64_t seq, uint64_t value)
{
    struct queue_client *q = rig_client("q");
    q->sink->on_reply(q->ctx, seq, QUEUE_OK, value, 0);
}

static const char *const abab[] = {"a", "b", "a", "a"};

Test(broker_messages, peek_shows_what_matches)
{
    struct broker_page_options o = options_of(BROKER_PAGE_PEEK);
    o.filter = B("routing_key = 'a'");
    start(o);
    EXPECT_CALLS("report\nq open\nq peek 0+10 places=1\n");
    found(7, abab, 4);
    reply(1, 11);
    EXPECT_SAID("message 7 place=1 at=18446744073709551615 count=0 'a'\n"
                "message 9 place=1 at=18446744073709551615 count=0 'a'\n"
                "message 10 place=1 at=18446744073709551615 count=0 'a'\n"
                "0  next=11 end=100 total=5 seen=4 matched=3 done=0 refused=0\n");
    EXPECT_CALLS("q close\n");
}

Test(broker_messages, the_last_page_says_so)
{
    start(options_of(BROKER_PAGE_PEEK));
    (void)rig_calls();
    reply(1, 0);
    EXPECT_SAID("0  next=0 end=100 total=5 seen=0 matched=0 done=0 refused=0\n");
}

Test(broker_messages, what_came_after_the_start_is_left_alone)
{
    struct broker_page_options o = options_of(BROKER_PAGE_PEEK);
    o.end = 9;
    o.from = 7;
    o.places = QUEUE_PLACE_READY | QUEUE_PLACE_DELAYED;
    start(o);
    EXPECT_CALLS("report\nq open\nq peek 7+10 places=3\n");
    found(7, abab, 4);
    reply(1, 11);
    cr_assert(strstr(rig_said(), "next=0 end=9 total=7 seen=2 matched=2") != NULL);
}

Test(broker_messages, a_limit_ends_it)
{
    struct broker_page_options o = options_of(BROKER_PAGE_PEEK);
    o.limit = 2;
    start(o);
    (void)rig_calls();
    found(7, abab, 4);
    reply(1, 11);
    cr_assert(strstr(rig_said(), "next=0 end=100 total=5 seen=2 matched=2") != NULL);
}

Test(broker_messages, delete_takes_runs_without_a_delivery)
{
    struct broker_page_options o = options_of(BROKER_PAGE_DELETE);
    o.filter = B("routing_key = 'a'");
    start(o);
    (void)rig_calls();
    found(7, abab, 4);
    reply(1, 11);
    EXPECT_CALLS("q take 7+1 flags=1 places=1\nq take 9+2 flags=1 places=1\n");
    reply(2, 1);
    reply(3, 1); /* one was consumed meanwhile */
    EXPECT_SAID("0  next=11 end=100 total=5 seen=4 matched=3 done=2 refused=0\n");
}

Test(broker_messages, a_dry_run_changes_nothing)
{
    struct broker_page_options o = options_of(BROKER_PAGE_MOVE);
    o.dry_run = true;
    start(o);
    (void)rig_calls();
    found(7, abab, 4);
    reply(1, 11);
    EXPECT_SAID("0  next=11 end=100 total=5 seen=4 matched=4 done=0 refused=0\n");
    EXPECT_CALLS("t close\nq close\n");
}

Test(broker_messages, move_acks_what_the_target_has)
{
    struct broker_page_options o = options_of(BROKER_PAGE_MOVE);
    start(o);
    EXPECT_CALLS("t open\nreport\nq open\nq peek 0+10 places=1\n");
    found(7, abab, 2);
    reply(1, 0);
    EXPECT_CALLS("q take 7+2 flags=0 places=1\n");
    rig_deliver("q", 0, 1, 2, 0, 0);
    reply(2, 2);
    EXPECT_CALLS("t publish 'm' props=2\nt publish 'm' props=2\n");
    struct queue_client *t = rig_client("t");
    t->sink->on_nacked(t->ctx, 2);
    t->sink->on_applied(t->ctx, 2);
    EXPECT_SAID("0  next=0 end=100 total=5 seen=2 matched=2 done=1 refused=1\n");
    EXPECT_CALLS("q settle ack 0.1+1\nq settle release 0.2+1\nt close\nq close\n");
}

Test(broker_messages, copy_publishes_and_leaves)
{
    start(options_of(BROKER_PAGE_COPY));
    (void)rig_calls();
    found(7, abab, 2);
    reply(1, 0);
    EXPECT_CALLS("t publish 'a' props=2\nt publish 'b' props=2\n");
    struct queue_client *t = rig_client("t");
    t->sink->on_applied(t->ctx, 2);
    EXPECT_SAID("0  next=0 end=100 total=5 seen=2 matched=2 done=2 refused=0\n");
    EXPECT_CALLS("t close\nq close\n");
}

Test(broker_messages, faults)
{
    struct broker_page_options o = options_of(BROKER_PAGE_MOVE);
    o.queue = B("none");
    start(o);
    cr_assert(strstr(rig_said(), "404 no queue 'none' in vhost '/' ") != NULL);
    o = options_of(BROKER_PAGE_MOVE);
    o.target = B("none");
    start(o);
    cr_assert(strstr(rig_said(), "404 no queue 'none' in vhost '/' ") != NULL);
    o = options_of(BROKER_PAGE_PEEK);
    o.filter = B("routing_key =");
    start(o);
    cr_assert(strstr(rig_said(), "406 bad filter: expected an operand at 14 ") != NULL);
    rig.report.error = WR_E_UNAVAILABLE;
    rig.report.why = "no leader";
    start(options_of(BROKER_PAGE_PEEK));
    cr_assert(strstr(rig_said(), "541 no leader ") != NULL);
}

Test(broker_messages, the_queue_goes_or_the_time_is_up)
{
    start(options_of(BROKER_PAGE_PEEK));
    (void)rig_calls();
    rig_delete("q");
    cr_assert(strstr(rig_said(), "404 the queue is gone ") != NULL);
    rig_queue("q");
    start(options_of(BROKER_PAGE_PEEK));
    (void)rig_calls();
    rig.now_ms += 5000;
    cr_assert(strstr(rig_said(), "541 no answer within the time limit ") != NULL);
}

Test(broker_messages, abandoned_ones_give_back)
{
    struct broker_page *page = start(options_of(BROKER_PAGE_MOVE));
    (void)rig_calls();
    found(7, abab, 2);
    reply(1, 0);
    rig_deliver("q", 0, 1, 2, 0, 0);
    (void)rig_calls();
    broker_page_abandon(page);
    EXPECT_CALLS("t close\nq close\n");
    EXPECT_SAID("");
}
