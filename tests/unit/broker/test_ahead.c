/* Calls of a channel that are under way together. */
#include "rig.h"

static void begin(void)
{
    rig_init();
    rig.hold = true;
}

TestSuite(broker_ahead, .init = begin, .fini = rig_deinit);

static void declare(const char *name, uint32_t flags)
{
    CALL(broker_queue_declare(rig.ch, B(name), flags, BYTES_NONE, rig_done, "declare"));
}

static bool declare_ahead_with(const char *name, uint32_t flags, struct bytes args)
{
    bool begins;
    CALL(begins = broker_queue_declare_ahead(rig.ch, B(name), flags, args, rig_done, "ahead"));
    return begins;
}

static bool declare_ahead(const char *name, uint32_t flags)
{
    return declare_ahead_with(name, flags, BYTES_NONE);
}

static bool bind_ahead(const char *queue, const char *exchange)
{
    bool begins;
    CALL(begins = broker_queue_bind_ahead(rig.ch, B(queue), B(exchange), B("k"), BYTES_NONE,
                                          rig_done, "bind"));
    return begins;
}

/* The question that was asked as the n-th comes next. */
static void answer_first(size_t n)
{
    struct asked asked = rig.asked.items[n];
    vec_remove(&rig.asked, n);
    vec_insert(&rig.asked, 0, asked);
    rig_catalog();
}

static void answer_all(void)
{
    while (rig.asked.count > 0) {
        rig_catalog();
        rig_turn();
    }
}

Test(broker_ahead, they_are_proposed_together_and_end_in_order)
{
    declare("a", 0);
    cr_assert(bind_ahead("a", "amq.topic"));
    cr_assert(declare_ahead("b", BROKER_EXCLUSIVE));
    cr_assert(bind_ahead("b", "amq.direct"));
    EXPECT_CALLS("propose declare_queue 'a' type=1 local\npropose bind\n"
                 "propose declare_queue 'b' type=1 local exclusive\npropose bind\n");
    answer_all();
    EXPECT_SAID("declare ok 'a' 0 0\nbind ok 'a' 0 0\nahead ok 'b' 0 0\nbind ok 'b' 0 0\n");
    EXPECT_CALLS("");
}

Test(broker_ahead, one_that_is_known_early_waits_for_those_before_it)
{
    declare("a", 0);
    cr_assert(declare_ahead("b", 0));
    cr_assert(declare_ahead("c", 0));
    answer_first(2);
    answer_first(1);
    EXPECT_SAID("");
    rig_catalog();
    EXPECT_SAID("declare ok 'a' 0 0\nahead ok 'b' 0 0\nahead ok 'c' 0 0\n");
    CALL(broker_queue_bind(rig.ch, B(""), B("amq.direct"), B("k"), BYTES_NONE, false, rig_done,
                           "last"));
    answer_all();
    EXPECT_SAID("last ok 'c' 0 0\n"); /* by the order of the calls */
}

Test(broker_ahead, a_binding_that_was_applied_before_its_queue_is_made_again)
{
    declare("a", 0);
    cr_assert(declare_ahead("b", 0));
    cr_assert(bind_ahead("b", "amq.topic"));
    cr_assert(declare_ahead("c", 0));
    EXPECT_CALLS("propose declare_queue 'a' type=1 local\npropose declare_queue 'b' type=1 local\n"
                 "propose bind\npropose declare_queue 'c' type=1 local\n");
    answer_first(2); /* NO_QUEUE */
    EXPECT_CALLS("");
    answer_first(2);
    rig_catalog();
    EXPECT_SAID("declare ok 'a' 0 0\n");
    rig_catalog();
    EXPECT_SAID("ahead ok 'b' 0 0\n");
    EXPECT_CALLS("propose bind\n");
    answer_all();
    EXPECT_SAID("bind ok 'b' 0 0\nahead ok 'c' 0 0\n");
}

Test(broker_ahead, what_could_fail_here_does_not_begin)
{
    struct writer bad;
    struct writer letters;
    writer_init(&bad, 64);
    writer_init(&letters, 64);
    wire_table_put_cstr(&bad, "x-message-ttl", "text");
    wire_table_put_cstr(&letters, "x-dead-letter-exchange", "x");
    rig_queue("there");
    rig_exclusive("theirs", 99);
    rig_exchange("random", "x-local-random", BYTES_NONE);
    rig_exchange("recent", "x-recent-history", BYTES_NONE);
    declare("a", 0);
    cr_assert_not(declare_ahead("", 0));
    cr_assert_not(declare_ahead("b", BROKER_PASSIVE));
    cr_assert_not(declare_ahead("a", 0)); /* the second one is compared with the first */
    cr_assert_not(declare_ahead("there", 0));
    cr_assert_not(declare_ahead("amq.b", 0));
    cr_assert_not(declare_ahead("amq.rabbitmq.reply-to", 0));
    cr_assert_not(declare_ahead_with("b", 0, writer_bytes(&bad)));
    cr_assert_not(bind_ahead("", "amq.topic"));
    cr_assert_not(bind_ahead("a", ""));
    cr_assert_not(bind_ahead("a", "nowhere"));
    cr_assert_not(bind_ahead("b", "amq.topic"));
    cr_assert_not(bind_ahead("theirs", "amq.topic"));
    cr_assert_not(bind_ahead("a", "random"));
    cr_assert_not(bind_ahead("a", "recent"));
    cr_assert(bind_ahead("there", "amq.topic"));
    cr_assert(declare_ahead_with("b", 0, writer_bytes(&letters)));
    answer_all();
    EXPECT_SAID("declare ok 'a' 0 0\nbind ok 'there' 0 0\nahead ok 'b' 0 0\n");
    writer_deinit(&bad);
    writer_deinit(&letters);
}

Test(broker_ahead, permissions_are_looked_at_before)
{
    struct broker_session *session = rig_session("limited", "/"); /* ^c, ^w, ^r */
    struct broker_channel *guests = rig.ch;
    struct writer letters;
    writer_init(&letters, 64);
    wire_table_put_cstr(&letters, "x-dead-letter-exchange", "x");
    rig.ch = rig_channel(session, 1);
    declare("c.a", 0);
    cr_assert_not(declare_ahead("b", 0));
    cr_assert_not(declare_ahead_with("c.b", 0, writer_bytes(&letters)));
    cr_assert_not(bind_ahead("c.a", "amq.topic"));
    cr_assert(declare_ahead("c.b", 0));
    answer_all();
    EXPECT_SAID("declare ok 'c.a' 0 0\nahead ok 'c.b' 0 0\n");
    writer_deinit(&letters);
    rig.ch = guests;
}

Test(broker_ahead, nor_behind_what_may_fail)
{
    rig_queue("there");
    declare("there", 0); /* compared after a look-up */
    cr_assert_not(declare_ahead("a", 0));
    cr_assert_not(bind_ahead("there", "amq.topic"));
    answer_all();
    EXPECT_SAID("declare ok 'there' 0 0\n");
    declare("amq.a", 0);
    cr_assert_not(declare_ahead("a", 0));
    EXPECT_SAID("declare 403 queue name 'amq.a' contains reserved prefix 'amq.*'\n");
    const struct catalog_command limit = {
        .kind = CATALOG_SET_VHOST_LIMITS,
        .u.vhost_limits = {.vhost = B("/"), .limits = {.queues_max = 2, .connections_max = -1}}};
    rig_apply(&limit);
    declare("b", 0);
    cr_assert_not(bind_ahead("b", "amq.topic"));
    answer_all();
    EXPECT_SAID("declare ok 'b' 0 0\n");
}

/* Whatever is told behind a fault, the front end does not answer; but each call ends. */
Test(broker_ahead, others_may_have_been_faster)
{
    const struct catalog_command theirs = {.kind = CATALOG_DECLARE_QUEUE,
                                           .u.queue = {.vhost = B("/"),
                                                       .name = B("a"),
                                                       .type = CATALOG_CLASSIC,
                                                       .run = CATALOG_RUN_LOCAL,
                                                       .auto_delete = true,
                                                       .local = {{1, 1}, 1, 0}}};
    rig_apply_silently(&theirs);
    declare("a", 0);
    cr_assert(bind_ahead("a", "amq.topic"));
    cr_assert(declare_ahead("b", 0));
    answer_all();
    EXPECT_SAID("declare 406 inequivalent arg 'auto_delete' for queue 'a' in vhost '/': received "
                "'false' but current is 'true'\nbind ok 'a' 0 0\nahead ok 'b' 0 0\n");
}

Test(broker_ahead, a_channel_may_close_with_all_of_them_under_way)
{
    for (int known = 0; known < 4; known++) {
        struct broker_channel *ch = rig_channel(rig.session, 2);
        struct broker_channel *first = rig.ch;
        char name[2][3] = {{'a', (char)('0' + known)}, {'b', (char)('0' + known)}};
        rig.ch = ch;
        declare(name[0], 0);
        cr_assert(bind_ahead(name[0], "amq.topic"));
        cr_assert(declare_ahead(name[1], BROKER_EXCLUSIVE));
        for (int i = 0; i < known; i++) { /* the newest first: they wait for the others */
            answer_first(rig.asked.count - 1);
            rig_turn();
        }
        CALL(broker_channel_close(ch));
        answer_all();
        rig.ch = first;
        EXPECT_SAID(known < 3 ? "" : "declare ok 'a3' 0 0\n"); /* the binding is made once more */
    }
}

/* --- consumers -------------------------------------------------------------------------------- */

static void consume(const char *queue, const char *tag, uint32_t flags)
{
    CALL(broker_consume(rig.ch, B(queue), B(tag), flags, BYTES_NONE, rig_done, "consume"));
}

static bool consume_ahead(const char *queue, const char *tag, uint32_t flags)
{
    bool begins;
    CALL(begins =
             broker_consume_ahead(rig.ch, B(queue), B(tag), flags, BYTES_NONE, rig_done, "ahead"));
    return begins;
}

static bool cancel_ahead(const char *tag)
{
    bool begins;
    CALL(begins = broker_cancel_ahead(rig.ch, B(tag), rig_done, "ahead"));
    return begins;
}

/* What is delivered waits for consume-ok, and that for its turn. */
Test(broker_ahead, consumers_get_nothing_before_their_turn)
{
    rig_queue("q");
    rig_queue("r");
    consume("q", "1", 0);
    cr_assert(consume_ahead("r", "2", 0));
    cr_assert(consume_ahead("q", "3", 0));
    EXPECT_CALLS("q open\nq attach 1 '1' flags=0 prefetch=0 credit=32 priority=0 args=0\n"
                 "r open\nr attach 1 '2' flags=0 prefetch=0 credit=0 priority=0 args=0\n"
                 "q attach 2 '3' flags=0 prefetch=0 credit=0 priority=0 args=0\n");
    rig_reply_to("r", 1, QUEUE_OK, 0);
    EXPECT_SAID("");
    EXPECT_CALLS("");
    rig_reply_to("q", 1, QUEUE_OK, 0);
    EXPECT_SAID("consume ok '1' 0 0\nahead ok '2' 0 0\n");
    EXPECT_CALLS("r credit 1 32\n");
    rig_reply_to("q", 2, QUEUE_OK, 0);
    EXPECT_SAID("ahead ok '3' 0 0\n");
    EXPECT_CALLS("q credit 2 32\n");
    rig_deliver("r", 1, 1, 1, 0, 0);
    EXPECT_SAID("deliver '2' 1.1.1 'm'\n");
}

Test(broker_ahead, which_consumers_begin)
{
    rig_queue("q");
    rig_auto_delete("auto");
    rig_exclusive("others", 77);
    consume("q", "1", 0);
    cr_assert_not(consume_ahead("q", "1", 0));                /* the tag is taken */
    cr_assert_not(consume_ahead("q", "2", BROKER_EXCLUSIVE)); /* it may be refused */
    cr_assert_not(consume_ahead("auto", "2", 0)); /* would end with the channel, if one fails */
    cr_assert_not(consume_ahead("others", "2", 0));
    cr_assert_not(consume_ahead("missing", "2", 0));
    cr_assert_not(consume_ahead(REPLY_QUEUE, "2", BROKER_NO_ACK));
    cr_assert_not(cancel_ahead("1")); /* another family */
    cr_assert_not(declare_ahead("new", 0));
    cr_assert(consume_ahead("q", "2", 0));
}

Test(broker_ahead, a_consumer_that_is_refused_in_its_turn)
{
    rig_queue("q");
    rig_queue("r");
    consume("q", "1", 0);
    cr_assert(consume_ahead("r", "2", 0));
    rig_reply_to("r", 1, QUEUE_IN_EXCLUSIVE_USE, 0);
    EXPECT_SAID("");
    cr_assert_not(consume_ahead("q", "3", 0)); /* nothing follows an error */
    rig_reply_to("q", 1, QUEUE_OK, 0);
    EXPECT_SAID("consume ok '1' 0 0\nahead 403 queue 'r' in vhost '/' in exclusive use\n");
    cr_assert_null(map_get(&rig.ch->consumers, B("2")));
}

Test(broker_ahead, a_queue_that_goes_before_the_turn_of_its_consumer)
{
    rig_queue("q");
    rig_queue("r");
    consume("q", "1", 0);
    cr_assert(consume_ahead("r", "2", 0));
    rig_reply_to("r", 1, QUEUE_OK, 0);
    rig_delete("r");
    EXPECT_SAID("");
    rig_reply_to("q", 1, QUEUE_OK, 0);
    EXPECT_SAID("consume ok '1' 0 0\nahead 404 no queue 'r' in vhost '/'\n");
}

/* Of several only the newest answer is said again by another leader. */
Test(broker_ahead, an_answer_that_is_lost_is_asked_for_again)
{
    rig_queue("q");
    consume("q", "1", 0);
    cr_assert(consume_ahead("q", "2", 0));
    cr_assert(consume_ahead("q", "3", 0));
    (void)rig_calls();
    rig_reply_to("q", 3, QUEUE_OK, 0);
    rig.left = REPLY_NOT_KNOWN;
    rig_reply_to("q", 1, QUEUE_OK, 0);
    rig_reply_to("q", 2, QUEUE_OK, 0);
    EXPECT_SAID("");
    EXPECT_CALLS("q attach 1 '1' flags=0 prefetch=0 credit=32 priority=0 args=0\n"
                 "q attach 2 '2' flags=0 prefetch=0 credit=0 priority=0 args=0\n");
    rig.left = 3;
    rig_reply_to("q", 4, QUEUE_EXISTS, 0);
    rig_reply_to("q", 5, QUEUE_IN_EXCLUSIVE_USE, 0);
    EXPECT_SAID("consume ok '1' 0 0\nahead 403 queue 'q' in vhost '/' in exclusive use\n"
                "ahead ok '3' 0 0\n");
}

Test(broker_ahead, cancels_go_together_and_end_in_order)
{
    rig_queue("q");
    rig_auto_delete("r");
    consume("q", "1", 0);
    rig_reply_to("q", 1, QUEUE_OK, 0);
    consume("q", "2", 0);
    rig_reply_to("q", 2, QUEUE_OK, 0);
    consume("r", "3", 0);
    rig_reply_to("r", 1, QUEUE_OK, 0);
    rig_turn();
    (void)rig_said();
    (void)rig_calls();
    CALL(broker_cancel(rig.ch, B("1"), rig_done, "cancel"));
    cr_assert_not(cancel_ahead("1"));
    cr_assert_not(cancel_ahead("nobody"));
    cr_assert(cancel_ahead("2"));
    cr_assert(cancel_ahead("3"));
    EXPECT_CALLS("q detach 1 flags=0\nq detach 2 flags=0\nr detach 1 flags=0\n");
    rig.left = REPLY_NOT_KNOWN;
    rig_reply_to("r", 2, QUEUE_OK, 0);
    EXPECT_CALLS("r detach 0 flags=0\n"); /* did it end? */
    rig.left = 0;
    rig_reply_to("r", 3, QUEUE_OK, 0);
    EXPECT_CALLS("propose delete_queue\n");
    rig_reply_to("q", 4, QUEUE_OK, 0);
    rig_catalog();
    EXPECT_SAID("");
    rig_reply_to("q", 3, QUEUE_OK, 0);
    EXPECT_SAID("cancel ok '1' 0 0\nahead ok '2' 0 0\nahead ok '3' 0 0\n");
}

/* --- deletes, unbinds ------------------------------------------------------------------------- */

static bool delete_ahead(const char *queue, uint32_t flags)
{
    bool begins;
    CALL(begins = broker_queue_delete_ahead(rig.ch, B(queue), flags, rig_done, "ahead"));
    return begins;
}

Test(broker_ahead, deletes_share_commits)
{
    rig_queue("a");
    rig_queue("b");
    rig_queue("mine");
    rig_exclusive("others", 77);
    consume("mine", "t", 0);
    rig_reply_to("mine", 1, QUEUE_OK, 0);
    rig_turn();
    (void)rig_said();
    CALL(broker_queue_delete(rig.ch, B("a"), 0, rig_done, "delete"));
    cr_assert_not(delete_ahead("a", 0)); /* the second finds nothing */
    cr_assert_not(delete_ahead("b", BROKER_IF_EMPTY));
    cr_assert_not(delete_ahead("mine", 0)); /* basic.cancel comes behind its own delete-ok */
    cr_assert_not(delete_ahead("others", 0));
    cr_assert_not(delete_ahead("missing", 0));
    cr_assert_not(bind_ahead("b", "amq.direct"));
    cr_assert(delete_ahead("b", 0));
    rig_reply_to("b", 1, QUEUE_OK, 5);
    rig_reply_to("a", 1, QUEUE_OK, 3);
    cr_assert_eq(rig.asked.count, 3); /* one is about `others', whose owner is not there */
    answer_all();
    EXPECT_SAID("delete ok 'a' 3 0\nahead ok 'b' 5 0\n");
}

Test(broker_ahead, unbinds_share_commits)
{
    rig_queue("a");
    rig_bind("amq.direct", "a", "k");
    rig_bind("amq.topic", "a", "k");
    CALL(broker_queue_bind(rig.ch, B("a"), B("amq.direct"), B("k"), BYTES_NONE, true, rig_done,
                           "unbind"));
    cr_assert_not(bind_ahead("a", "amq.direct"));
    cr_assert(broker_queue_unbind_ahead(rig.ch, B("a"), B("amq.topic"), B("k"), BYTES_NONE,
                                        rig_done, "ahead"));
    cr_assert_not(broker_queue_unbind_ahead(rig.ch, B("missing"), B("amq.topic"), B("k"),
                                            BYTES_NONE, rig_done, "no"));
    cr_assert_eq(rig.asked.count, 2);
    rig_delete("a"); /* what is not there is not bound */
    answer_all();
    EXPECT_SAID("unbind ok 'a' 0 0\nahead ok 'a' 0 0\n");
}
