/* x-recent-history exchanges: their hidden queue, and its replay to what is newly bound. */
#include "rig.h"

TestSuite(broker_recent, .init = rig_init, .fini = rig_deinit);

static void declare(const char *name, uint32_t flags, struct bytes args)
{
    CALL(broker_exchange_declare(rig.ch, B(name), B("x-recent-history"), flags, args, rig_done,
                                 "declare"));
}

static void bind(const char *queue, const char *key)
{
    CALL(broker_queue_bind(rig.ch, B(queue), B("x"), B(key), BYTES_NONE, false, rig_done, "bind"));
}

static const struct catalog_queue *history(const char *exchange)
{
    const struct catalog_view *view = catalog_view_peek(rig.catalog);
    return catalog_vhost_history(catalog_vhost(view, B("/")), B(exchange));
}

static void declare_and_forget(const char *name, int32_t length)
{
    struct writer w;
    writer_init(&w, 64);
    if (length > 0) {
        wire_table_put_int32(&w, "x-recent-history-length", length);
    }
    declare(name, BROKER_DURABLE, writer_bytes(&w));
    writer_deinit(&w);
    (void)rig_said();
    (void)rig_calls();
}

/* The history has these. */
static void found(const char *exchange, uint64_t position, const char *const bodies[],
                  uint32_t count, struct bytes props)
{
    struct queue_client *q = rig_client(exchange);
    struct message messages[8];
    for (uint32_t i = 0; i < count; i++) {
        messages[i] = rig_message(exchange, "k", props, bodies[i]);
    }
    q->sink->on_peek(q->ctx, position, QUEUE_PLACE_READY, UINT64_MAX, 0, messages, count);
    for (uint32_t i = 0; i < count; i++) {
        message_unref(messages[i]);
    }
}

static const char *const abc[] = {"a", "b", "c"};

Test(broker_recent, a_declaration_makes_the_history_too)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "x-recent-history-length", 0);
    declare("x", 0, writer_bytes(&w));
    EXPECT_SAID("declare 406 Invalid argument 0, 'x-recent-history-length' must be a positive "
                "integer\n");
    writer_deinit(&w);
    declare("x", BROKER_DURABLE, BYTES_NONE);
    EXPECT_SAID("declare ok 'x' 0 0\n");
    EXPECT_CALLS("propose declare_exchange\n"
                 "propose declare_queue 'x' type=4 group durable members=1 target=3\n");
    cr_assert_eq(history("x")->settings.length_max, 20);
    cr_assert(history("x")->spec.durable);
    declare("x", BROKER_DURABLE, BYTES_NONE);
    EXPECT_SAID("declare ok 'x' 0 0\n");
    EXPECT_CALLS("barrier\n");
    /* Whatever asks for a queue of that name finds none. */
    CALL(broker_queue_purge(rig.ch, B("x"), rig_done, "purge"));
    EXPECT_SAID("purge 404 no queue 'x' in vhost '/'\n");
    bind("x", "");
    EXPECT_SAID("bind 404 no queue 'x' in vhost '/'\n");
}

/* Who declared it died before it had a history: the next one who has to do with it makes it. */
Test(broker_recent, what_was_left_half_made_is_made)
{
    rig_exchange("x", "x-recent-history", BYTES_NONE);
    rig_queue("q");
    declare("x", 0, BYTES_NONE);
    EXPECT_SAID("declare ok 'x' 0 0\n");
    cr_assert_not_null(history("x"));
    rig_exchange("y", "x-recent-history", BYTES_NONE);
    CALL(broker_exchange_declare(rig.ch, B("y"), B(""), BROKER_PASSIVE, BYTES_NONE, rig_done,
                                 "passive"));
    EXPECT_SAID("passive ok 'y' 0 0\n");
    cr_assert_not_null(history("y"));
    rig_exchange("z", "x-recent-history", BYTES_NONE);
    CALL(broker_queue_bind(rig.ch, B("q"), B("z"), B(""), BYTES_NONE, false, rig_done, "bind"));
    EXPECT_SAID("bind ok 'q' 0 0\n");
    cr_assert_not_null(history("z"));
}

Test(broker_recent, replay_comes_before_bind_ok)
{
    declare_and_forget("x", 3);
    rig_queue("q");
    bind("q", "k");
    EXPECT_SAID("");
    EXPECT_CALLS("propose bind\nx open\nx peek 1+3 places=1\n");
    found("x", 5, abc, 2, BYTES_NONE);
    found("x", 9, abc + 2, 1, BYTES_NONE);
    EXPECT_CALLS("q open\nq publish 'a' props=2\nq publish 'b' props=2\nq publish 'c' props=2\n");
    rig_reply("x", QUEUE_OK, 0);
    EXPECT_CALLS("q peek 9223372036854775807+1 places=1\n");
    EXPECT_SAID("");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("bind ok 'q' 0 0\n");
    bind("q", "k"); /* it is bound */
    EXPECT_SAID("bind ok 'q' 0 0\n");
    EXPECT_CALLS("propose bind\n");
    bind("q", "another"); /* a new binding, as in RabbitMQ */
    EXPECT_CALLS("propose bind\nx peek 1+3 places=1\n");
    rig_reply("x", QUEUE_OK, 0); /* nothing in it */
    EXPECT_SAID("bind ok 'q' 0 0\n");
    EXPECT_CALLS("");
}

Test(broker_recent, pages)
{
    declare_and_forget("x", 300);
    rig_queue("q");
    bind("q", "k");
    EXPECT_CALLS("propose bind\nx open\nx peek 1+256 places=1\n");
    found("x", 1, abc, 3, BYTES_NONE);
    rig_reply("x", QUEUE_OK, 4);
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_CALLS("q open\nq publish 'a' props=2\nq publish 'b' props=2\nq publish 'c' props=2\n"
                 "q peek 9223372036854775807+1 places=1\nx peek 4+256 places=1\n");
    found("x", 4, abc, 1, BYTES_NONE);
    rig_reply("x", QUEUE_OK, 0);
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("bind ok 'q' 0 0\n");
}

/* No more than the history had: what comes meanwhile comes by the binding. */
Test(broker_recent, no_more_than_its_length)
{
    declare_and_forget("x", 2);
    rig_queue("q");
    bind("q", "k");
    rig_turn();
    found("x", 1, abc, 3, BYTES_NONE);
    rig_reply("x", QUEUE_OK, 4);
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("bind ok 'q' 0 0\n");
    EXPECT_CALLS("propose bind\nx open\nx peek 1+2 places=1\nq open\nq publish 'a' props=2\n"
                 "q publish 'b' props=2\nq peek 9223372036854775807+1 places=1\n");
}

Test(broker_recent, a_bind_is_answered_whatever_cuts_the_replay_short)
{
    declare_and_forget("x", 3);
    for (int way = 0; way < 4; way++) {
        rig_queue("q");
        bind("q", "k");
        (void)rig_calls();
        if (way == 0) { /* the history has no leader */
            rig.now_ms += 60000;
        } else if (way == 1) { /* the queue has none */
            found("x", 1, abc, 1, BYTES_NONE);
            rig_reply("x", QUEUE_OK, 0);
            EXPECT_SAID("");
            rig.now_ms += 60000;
        } else if (way == 2) { /* the queue goes */
            found("x", 1, abc, 1, BYTES_NONE);
            rig_reply("x", QUEUE_OK, 0);
            struct queue_client *q = rig_client("q");
            q->gone = true;
            q->sink->on_gone(q->ctx, false);
        } else { /* the exchange goes, with its history */
            struct queue_client *x = rig_client("x");
            x->gone = true;
            x->sink->on_gone(x->ctx, false);
        }
        EXPECT_SAID("bind ok 'q' 0 0\n");
        rig_delete("q");
        (void)rig_said();
        (void)rig_calls();
    }
}

/* Through the exchange, in the order of the history, and not back into that. */
Test(broker_recent, bound_to_an_exchange)
{
    declare_and_forget("x", 3);
    rig_exchange("t", "fanout", BYTES_NONE);
    rig_queue("q");
    rig_queue("r");
    rig_bind("t", "q", "");
    rig_bind("t", "r", "");
    CALL(broker_exchange_bind(rig.ch, B("t"), B("x"), B(""), BYTES_NONE, false, rig_done, "bind"));
    rig_turn();
    found("x", 1, abc, 2, BYTES_NONE);
    rig_reply("x", QUEUE_OK, 0);
    rig_reply("r", QUEUE_OK, 0);
    EXPECT_SAID("");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("bind ok 't' 0 0\n");
    EXPECT_CALLS("propose bind\nx open\nx peek 1+3 places=1\nq open\nq publish 'a' props=2\n"
                 "r open\nr publish 'a' props=2\nq publish 'b' props=2\nr publish 'b' props=2\n"
                 "r peek 9223372036854775807+1 places=1\nq peek 9223372036854775807+1 places=1\n");
    CALL(broker_exchange_bind(rig.ch, B("x"), B("x"), B(""), BYTES_NONE, false, rig_done, "self"));
    rig_turn();
    found("x", 1, abc, 2, BYTES_NONE);
    rig_reply("x", QUEUE_OK, 0);
    rig_reply("r", QUEUE_OK, 0);
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("self ok 'x' 0 0\n");
}

Test(broker_recent, kept_is_not_routed)
{
    declare_and_forget("x", 3);
    rig_publish("x", "k", BYTES_NONE, 1);
    EXPECT_SAID("barrier kept\n");
    EXPECT_CALLS("barrier\nx open\nx publish 'm' publisher='' 0 id='' delay=0 x-delay=0\n");
    struct queue_client *x = rig_client("x");
    x->sink->on_applied(x->ctx, 1);
    EXPECT_SAID("confirm 1+1 ack\n");
    rig_queue("q");
    rig_bind("x", "q", "");
    rig_publish("x", "k", BYTES_NONE, 2);
    EXPECT_SAID("routed\n");
    x->sink->on_applied(x->ctx, 2);
    EXPECT_SAID("");
    struct queue_client *q = rig_client("q");
    q->sink->on_applied(q->ctx, 1);
    EXPECT_SAID("confirm 2+1 ack\n");
}
