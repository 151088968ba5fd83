/* basic.consume, cancel, get, settle, qos: consumers, credit, the limit over a channel. */
#include "rig.h"

TestSuite(broker_consume, .init = rig_init, .fini = rig_deinit);

static void consume(const char *queue, const char *tag, uint32_t flags)
{
    CALL(broker_consume(rig.ch, B(queue), B(tag), flags, BYTES_NONE, rig_done, "consume"));
    rig_turn();
}

static void attached(const char *queue, const char *tag)
{
    consume(queue, tag, 0);
    rig_reply(queue, QUEUE_OK, 0);
    (void)rig_said();
    (void)rig_calls();
}

static void settle(uint32_t queue, uint32_t consumer, uint64_t first, uint64_t count,
                   enum queue_outcome outcome)
{
    struct broker_delivery d = {.queue = queue, .consumer = consumer, .ordinal = first};
    CALL(broker_settle(rig.ch, &d, count, outcome));
}

Test(broker_consume, attaches)
{
    rig_queue("q");
    broker_qos(rig.ch, 10, false);
    consume("q", "t", BROKER_EXCLUSIVE);
    EXPECT_CALLS("q open\nq attach 1 't' flags=2 prefetch=10 credit=32 priority=0 args=0\n");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("consume ok 't' 0 0\n");
    consume("q", "u", BROKER_NO_ACK); /* no_ack: prefetch means nothing */
    EXPECT_CALLS("q attach 2 'u' flags=1 prefetch=10 credit=2 priority=0 args=0\n");
    rig_reply("q", QUEUE_IN_EXCLUSIVE_USE, 0);
    EXPECT_SAID("consume 403 queue 'q' in vhost '/' in exclusive use\n");
    consume("q", "", 0);
    EXPECT_CALLS("q attach 3 'amq.ctag-' flags=0 prefetch=10 credit=32 priority=0 args=0\n");
    rig_reply("q", QUEUE_OK, 0);
    const char *said = rig_said();
    cr_assert_eq(strncmp(said, "consume ok 'amq.ctag-", 21), 0, "%s", said);
}

Test(broker_consume, refusals)
{
    rig_queue("q");
    attached("q", "t");
    consume("q", "t", 0);
    consume("none", "u", 0);
    EXPECT_SAID("consume 530! attempt to reuse consumer tag 't'\nconsume 404 no queue 'none' in "
                "vhost '/'\n");
    consume("q", "u", 0); /* the one that was refused is not there: the tag is free */
    rig_reply("q", QUEUE_SEALED, 0);
    consume("q", "u", 0);
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("consume 404 no queue 'q' in vhost '/'\nconsume ok 'u' 0 0\n");
    rig.ch = rig_channel(rig_session("limited", "/"), 1);
    consume("q", "t", 0);
    EXPECT_SAID("consume 403 read access to queue 'q' in vhost '/' refused for user 'limited'\n");
}

Test(broker_consume, priority_is_passed_on)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "x-priority", -3);
    rig_queue("q");
    CALL(broker_consume(rig.ch, B("q"), B("t"), 0, writer_bytes(&w), rig_done, "consume"));
    EXPECT_CALLS("q open\nq attach 1 't' flags=0 prefetch=0 credit=32 priority=-3 args=16\n");
    writer_deinit(&w);
}

Test(broker_consume, the_queue_goes_while_the_consumer_is_being_attached)
{
    rig_queue("q");
    consume("q", "t", 0);
    rig_delete("q");
    EXPECT_SAID("consume 404 no queue 'q' in vhost '/'\n");
    rig_queue("q");
    consume("q", "t", 0); /* the tag is free again */
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("consume ok 't' 0 0\n");
}

/* After a failover the new leader delivers again before it repeats its answer to the attach. */
Test(broker_consume, consume_ok_comes_before_the_first_delivery)
{
    rig_queue("q");
    consume("q", "t", 0);
    rig_deliver("q", 1, 1, 1, 0, 0);
    EXPECT_SAID("consume ok 't' 0 0\ndeliver 't' 0.1.1 'm'\n");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("");
}

Test(broker_consume, deliveries_carry_what_is_needed_to_settle_them)
{
    rig_queue("q");
    attached("q", "t");
    rig_deliver("q", 1, 1, 2, 0, 0);
    rig_deliver("q", 1, 3, 1, 4, 0);
    EXPECT_SAID(
        "deliver 't' 0.1.1 'm'\ndeliver 't' 0.1.2 'm'\ndeliver 't' 0.1.3 redelivered 'm'\n");
    (void)rig_calls();
    settle(0, 1, 1, 2, QUEUE_ACK);
    settle(0, 1, 3, 1, QUEUE_REQUEUE);
    EXPECT_CALLS("q settle ack 1.1+2\nq settle requeue 1.3+1\n");
}

Test(broker_consume, cancel)
{
    rig_queue("q");
    attached("q", "t");
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    EXPECT_CALLS("q detach 1 flags=0\n");
    rig_deliver("q", 1, 1, 1, 0, 0); /* until the answer it is one */
    EXPECT_SAID("deliver 't' 0.1.1 'm'\n");
    (void)rig_calls();
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("cancel ok 't' 0 0\n");
    rig_deliver("q", 1, 2, 1, 0, 0); /* none any more: given back */
    rig_deliver("q", 1, 3, 1, 0, QUEUE_NO_ACK);
    EXPECT_SAID("");
    EXPECT_CALLS("q settle release 1.2+1\n");
    settle(0, 1, 1, 1, QUEUE_ACK); /* what it had is still ackable */
    EXPECT_CALLS("q settle ack 1.1+1\n");
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel")); /* unknown: fine */
    EXPECT_SAID("cancel ok 't' 0 0\n");
}

/* Whoever hears of the cancel, or is told by him, finds the queue gone. */
Test(broker_consume, cancel_that_ends_the_queue)
{
    rig_auto_delete("q");
    attached("q", "t");
    rig.hold = true;
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("");
    EXPECT_CALLS("q detach 1 flags=0\npropose delete_queue\n");
    rig_catalog();
    EXPECT_SAID("cancel ok 't' 0 0\n");
    cr_assert_null(catalog_queue(rig.broker->view, B("/"), B("q")));
}

Test(broker_consume, cancel_of_one_of_two_waits_for_nothing)
{
    rig_auto_delete("q");
    attached("q", "t");
    rig.hold = true;
    rig.left = 1;
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("cancel ok 't' 0 0\n");
    EXPECT_CALLS("q detach 1 flags=0\n");
}

/* The view may come before the queue's answer: no basic.cancel of ours, and still nothing is said
 * before every node knows. */
Test(broker_consume, cancel_that_ends_the_queue_and_is_overtaken_by_it)
{
    rig_auto_delete("q");
    attached("q", "t");
    rig.hold = true;
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_delete("q");
    EXPECT_SAID("");
    EXPECT_CALLS("q detach 1 flags=0\nq close\npropose delete_queue\n");
    rig_catalog();
    EXPECT_SAID("cancel ok 't' 0 0\n");
}

Test(broker_consume, cancel_that_ends_the_queue_without_a_leader_of_the_catalog)
{
    rig_auto_delete("q");
    attached("q", "t");
    rig.no_leader = true;
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("cancel ok 't' 0 0\n"); /* it is cancelled; the queue's leader goes on asking */
}

Test(broker_consume, a_channel_that_leaves)
{
    rig_auto_delete("q");
    rig_auto_delete("r");
    rig_queue("plain");
    rig_publish("", "plain", BYTES_NONE, 0);
    (void)rig_calls();
    CALL(cr_assert_not(broker_channel_leave(rig.ch, false, rig_done, "left")));
    attached("q", "1");
    attached("q", "2");
    attached("r", "3");
    rig.hold = true;
    CALL(cr_assert(broker_channel_leave(rig.ch, false, rig_done, "left")));
    const char *calls = rig_calls();
    cr_assert_not_null(strstr(calls, "q detach 1 flags=16\nq detach 2 flags=16\n"), "%s", calls);
    cr_assert_not_null(strstr(calls, "r detach 1 flags=16\n"), "%s", calls);
    cr_assert_null(strstr(calls, "plain"), "%s", calls);
    rig_reply("q", QUEUE_OK, 0); /* the last of it: it ends */
    EXPECT_CALLS("propose delete_queue\n");
    rig.left = 1;
    rig_reply("r", QUEUE_OK, 0);
    EXPECT_CALLS("");
    rig_deliver("r", 1, 1, 1, 0, 0); /* was on its way */
    EXPECT_CALLS("r settle release 1.1+1\n");
    EXPECT_SAID("");
    rig_catalog();
    EXPECT_SAID("left ok '' 0 0\n");
}

/* Whoever hears that a channel is closed finds in the queue what was unacked on it. */
Test(broker_consume, what_a_channel_has_unacked_goes_back_before_it_is_closed)
{
    rig_queue("q");
    attached("q", "t");
    attached("q", "cancelled");
    rig_deliver("q", 1, 1, 1, 0, 0);
    rig_deliver("q", 2, 1, 1, 0, 0);
    CALL(broker_cancel(rig.ch, B("cancelled"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    CALL(broker_get(rig.ch, B("q"), false, rig_on_get, rig_done, "get"));
    rig_deliver("q", 0, 4, 1, 0, 0);
    rig_reply("q", QUEUE_OK, 0);
    (void)rig_said();
    (void)rig_calls();
    CALL(cr_assert(broker_channel_leave(rig.ch, false, rig_done, "left")));
    EXPECT_CALLS(
        "q detach 1 flags=16\nq detach 2 flags=16\nq settle requeue 0.1+4\nq detach 0 flags=0\n");
    EXPECT_SAID("");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("left ok '' 0 0\n");
    CALL(broker_channel_close(rig.ch));
    rig.ch = rig_channel(rig.session, 1);
}

Test(broker_consume, a_queue_without_a_leader_holds_up_a_close_for_a_second_only)
{
    rig_queue("q");
    attached("q", "t");
    rig_deliver("q", 1, 1, 1, 0, 0);
    (void)rig_said();
    CALL(cr_assert(broker_channel_leave(rig.ch, false, rig_done, "left")));
    (void)rig_calls();
    rig.now_ms += 999;
    EXPECT_SAID("");
    rig.now_ms += 1;
    EXPECT_SAID("left ok '' 0 0\n");
}

/* An auto-delete queue that never had a consumer stays when a channel goes that got from it. */
Test(broker_consume, what_was_only_got_ends_no_queue)
{
    rig_auto_delete("q");
    CALL(broker_get(rig.ch, B("q"), false, rig_on_get, rig_done, "get"));
    rig_deliver("q", 0, 1, 1, 0, 0);
    rig_reply("q", QUEUE_OK, 0);
    (void)rig_said();
    (void)rig_calls();
    CALL(cr_assert(broker_channel_leave(rig.ch, false, rig_done, "left")));
    rig_reply("q", QUEUE_OK, 0); /* no consumers are left */
    EXPECT_CALLS("q settle requeue 0.1+1\nq detach 0 flags=0\n");
    EXPECT_SAID("left ok '' 0 0\n");
}

Test(broker_consume, a_channel_with_nothing_unacked_waits_for_nothing)
{
    rig_queue("q");
    attached("q", "t");
    rig_deliver("q", 1, 1, 1, 0, 0);
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_reply("q", QUEUE_OK, 0);
    settle(0, 1, 1, 1, QUEUE_ACK);
    CALL(cr_assert_not(broker_channel_leave(rig.ch, false, rig_done, "left")));
    (void)rig_said();
}

Test(broker_consume, a_channel_may_be_closed_while_it_leaves)
{
    rig_auto_delete("q");
    attached("q", "1");
    rig.hold = true;
    CALL(cr_assert(broker_channel_leave(rig.ch, true, rig_done, "left")));
    CALL(broker_channel_close(rig.ch));
    rig_turn();
    EXPECT_SAID("");
    struct broker_channel *ch = rig.ch = rig_channel(rig.session, 1);
    rig_auto_delete("r");
    attached("r", "1");
    CALL(cr_assert(broker_channel_leave(ch, true, rig_done, "left")));
    rig_reply("r", QUEUE_OK, 0);
    CALL(broker_channel_close(ch));
    rig.ch = rig_channel(rig.session, 1);
    rig_catalog();
    EXPECT_SAID("");
}

Test(broker_consume, cancel_of_a_queue_that_goes)
{
    rig_queue("q");
    attached("q", "t");
    CALL(broker_cancel(rig.ch, B("t"), rig_done, "cancel"));
    rig_delete("q");
    EXPECT_SAID("cancel 't'\ncancel ok 't' 0 0\n"); /* the first is the broker's own */
}

Test(broker_consume, a_consumer_ends_with_its_queue)
{
    rig_queue("q");
    rig_queue("r");
    attached("q", "t");
    rig_deliver("q", 1, 1, 1, 0, 0);
    (void)rig_said();
    rig_delete("q");
    EXPECT_SAID("cancel 't'\n");
    settle(0, 1, 1, 1, QUEUE_ACK); /* nothing is left to settle */
    attached("r", "t");            /* another queue, the same tag */
    rig_deliver("r", 1, 1, 1, 0, 0);
    EXPECT_SAID("deliver 't' 1.1.1 'm'\n"); /* a number of its own: an old ack must not settle it */
    (void)rig_calls();
    settle(0, 1, 1, 1, QUEUE_ACK);
    EXPECT_CALLS("");
    cr_assert_eq(rig.ch->outstanding, 1);
}

/* --- get -------------------------------------------------------------------------------------- */

static void get(bool no_ack)
{
    CALL(broker_get(rig.ch, B("q"), no_ack, rig_on_get, rig_done, "get"));
    rig_turn();
}

Test(broker_consume, get)
{
    rig_queue("q");
    get(false);
    EXPECT_CALLS("q open\nq get\n");
    rig_reply("q", QUEUE_EMPTY, 0);
    EXPECT_SAID("get ok 'q' 0 0\n");
    get(false);
    rig_deliver("q", 0, 1, 1, 1, 0);
    rig_reply("q", QUEUE_OK, 41);
    EXPECT_SAID("got 0.0.1 redelivered 1 'm' left=41\nget ok 'q' 1 41\n");
    get(true);
    rig_deliver("q", 0, 2, 1, 0, QUEUE_NO_ACK);
    rig_reply("q", QUEUE_OK, 40);
    EXPECT_SAID("got 0.0.0 0 'm' left=40\nget ok 'q' 1 40\n");
    (void)rig_calls();
    settle(0, 0, 1, 1, QUEUE_ACK);
    EXPECT_CALLS("q settle ack 0.1+1\n");
}

Test(broker_consume, a_get_that_came_too_late_gives_its_message_back)
{
    rig_queue("q");
    get(false);
    rig.now_ms += 15001;
    EXPECT_SAID("get 541! timed out waiting for queue 'q' in vhost '/': it has no leader\n");
    rig_deliver("q", 0, 1, 1, 0, 0);
    rig_reply("q", QUEUE_OK, 0);
    get(false);
    rig_deliver("q", 0, 2, 1, 0, 0);
    EXPECT_CALLS("q open\nq get\nq get\nq settle release 0.1+1\n");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("got 0.0.2 0 'm' left=0\nget ok 'q' 1 0\n");
}

Test(broker_consume, get_from_a_queue_that_goes)
{
    rig_queue("q");
    get(false);
    rig_deliver("q", 0, 1, 1, 0, 0);
    rig_delete("q");
    EXPECT_SAID("get 404 no queue 'q' in vhost '/'\n");
}

/* --- credit ----------------------------------------------------------------------------------- */

/* It begins small and doubles: who never reads has little on the way. */
Test(broker_consume, the_window_is_renewed_as_messages_are_handed_on)
{
    rig_queue("q");
    attached("q", "t");
    uint64_t at = 1;
    uint64_t window = 0;
    while (window < 8192) { /* of small ones: the largest */
        rig_deliver("q", 1, at, 1, 0, 0);
        unsigned long long credit = 0;
        if (sscanf(rig_calls(), "q credit 1 %llu", &credit) == 1) {
            cr_assert_geq(credit - at, window);
            cr_assert_leq(credit - at, window == 0 ? 2000 : 2 * window + 1);
            window = credit - at;
        }
        (void)rig_said();
        at++;
    }
    cr_assert_eq(window, 8192);
    for (uint64_t i = 1; i < window / 2; i++, at++) {
        rig_deliver("q", 1, at, 1, 0, 0);
        if (i % 64 == 0) {
            (void)rig_said();
        }
    }
    EXPECT_CALLS("");
    rig_deliver("q", 1, at, 1, 0, 0);
    rig_deliver("q", 1, at + 1, 1, 0, 0);
    char expected[64];
    (void)snprintf(expected, sizeof expected, "q credit 1 %llu\n",
                   (unsigned long long)(at + 1 + window));
    EXPECT_CALLS(expected);
    (void)rig_said();
}

Test(broker_consume, the_window_counts_bytes_and_is_halved_by_a_slow_socket)
{
    rig_queue("q");
    attached("q", "t");
    struct consumer *c = map_get(&rig.ch->consumers, bytes_from_cstr("t"));
    c->average = 16u << 20;
    c->window_bytes = WINDOW_BYTES;
    c->ordinal = c->credit = 10;
    consumer_renew(c);
    EXPECT_CALLS("q credit 1 12\n");
    broker_channel_hold(rig.ch, true);
    cr_assert_eq(c->window_bytes, WINDOW_BYTES / 2);
    broker_channel_hold(rig.ch, false);
    for (int i = 0; i < 20; i++) {
        broker_channel_hold(rig.ch, true);
    }
    cr_assert_eq(c->window_bytes, WINDOW_BYTES_LEAST);
}

/* The first window is granted before anybody knows how large the messages are. */
Test(broker_consume, what_is_too_large_for_a_slow_socket_is_given_back)
{
    rig_queue("q");
    attached("q", "t");
    struct consumer *c = map_get(&rig.ch->consumers, bytes_from_cstr("t"));
    c->average = 4u << 20;
    c->ordinal = 1;
    consumer_renew(c);
    EXPECT_CALLS("q credit 1 3\n");
    broker_channel_hold(rig.ch, true);
    rig.ch->held_bytes = WINDOW_BYTES + 1; /* as after five of them */
    rig_deliver("q", 1, 2, 1, 0, 0);
    EXPECT_SAID("");
    EXPECT_CALLS("q settle release 1.2+1\nq credit 1 2\n");
    broker_channel_hold(rig.ch, false);
    EXPECT_CALLS("q credit 1 4\n");
    rig_deliver("q", 1, 3, 1, 0, 0);
    (void)rig_said();
}

/* What it has no credit for would go to those of a lower priority. Large messages take the credit
 * back; of a queue that has messages it is not given, before their sizes are known. */
Test(broker_consume, who_has_a_higher_priority_begins_with_a_large_window)
{
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "x-priority", 3);
    rig_queue("q");
    CALL(broker_consume(rig.ch, B("q"), B("t"), 0, writer_bytes(&w), rig_done, "consume"));
    rig_turn();
    EXPECT_CALLS("q open\nq attach 1 't' flags=0 prefetch=0 credit=32 priority=3 args=16\n");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("consume ok 't' 0 0\n");
    EXPECT_CALLS("q credit 1 8192\n");
    struct consumer *c = map_get(&rig.ch->consumers, bytes_from_cstr("t"));
    c->average = 1u << 20; /* as after the first */
    c->ordinal = 1;
    consumer_renew(c);
    EXPECT_CALLS("q credit 1 16\n");
    CALL(broker_consume(rig.ch, B("q"), B("u"), 0, writer_bytes(&w), rig_done, "consume"));
    rig_turn();
    rig_reply("q", QUEUE_OK, 1);
    EXPECT_SAID("consume ok 'u' 0 0\n");
    EXPECT_CALLS("q attach 2 'u' flags=0 prefetch=0 credit=32 priority=3 args=16\n");
    writer_deinit(&w);
}

/* What is delivered without acknowledgement cannot be given back: of a queue that has messages two
 * at first, whatever their size; an empty one is no risk. */
Test(broker_consume, a_no_ack_consumer_of_a_full_queue_begins_small)
{
    rig_queue("q");
    consume("q", "t", BROKER_NO_ACK);
    rig_reply("q", QUEUE_OK, 50);
    EXPECT_CALLS("q open\nq attach 1 't' flags=1 prefetch=0 credit=2 priority=0 args=0\n");
    struct consumer *c = map_get(&rig.ch->consumers, bytes_from_cstr("t"));
    broker_channel_hold(rig.ch, true);
    broker_channel_hold(rig.ch, false);
    EXPECT_CALLS("");
    c->average = 16u << 20; /* as after the first */
    c->ordinal = 1;
    consumer_renew(c);
    EXPECT_CALLS("");
    c->ordinal = 2;
    consumer_renew(c);
    EXPECT_CALLS("q credit 1 4\n");
    consume("q", "u", BROKER_NO_ACK);
    (void)rig_calls();
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_CALLS("q credit 2 32\n");
    (void)rig_said();
}

/* A partition: everything up to the limit was handed out and returned again, and nothing of it
 * came. */
Test(broker_consume, after_a_resume_there_is_credit_again)
{
    rig_queue("q");
    attached("q", "t");
    struct queue_client *q = rig_client("q");
    q->sink->on_resumed(q->ctx);
    EXPECT_CALLS("q credit 1 64\n");
    for (int i = 0; i < 100; i++) { /* but not without bound */
        q->sink->on_resumed(q->ctx);
    }
    (void)rig_calls();
    cr_assert_leq(rig_client("q")->next_seq, 12);
    rig_deliver("q", 1, 64001, 1, 0, 0); /* the ordinals in between are lost */
    EXPECT_CALLS("q credit 1 65410\n");
    broker_channel_hold(rig.ch, true);
    q->sink->on_resumed(q->ctx);
    EXPECT_CALLS("");
    broker_channel_hold(rig.ch, false);
    EXPECT_CALLS("q credit 1 66114\n");
    (void)rig_said();
}

/* Sim seed 363: what the attach itself was given was lost with a node that was taken for dead, and
 * the client resumed before the answer to the attach came. */
Test(broker_consume, a_resume_before_the_answer_to_the_attach_grants_more_too)
{
    rig_queue("q");
    consume("q", "t", 0);
    struct queue_client *q = rig_client("q");
    (void)rig_calls();
    q->sink->on_resumed(q->ctx);
    EXPECT_CALLS("");
    rig_reply("q", QUEUE_OK, 0);
    EXPECT_SAID("consume ok 't' 0 0\n");
    EXPECT_CALLS("q credit 1 64\n");
}

Test(broker_consume, a_channel_that_is_held_gets_no_new_credit)
{
    rig_queue("q");
    attached("q", "t");
    broker_channel_hold(rig.ch, true);
    rig_deliver("q", 1, 1, 64, 0, 0);
    rig_deliver("q", 1, 65, 64, 0, 0);
    EXPECT_CALLS("");
    broker_channel_hold(rig.ch, false);
    EXPECT_CALLS("q credit 1 1537\n");
    (void)rig_said();
}

/* --- the limit over a channel ----------------------------------------------------------------- */

Test(broker_consume, a_limit_is_told_to_the_queues_of_the_channel)
{
    rig_queue("a");
    rig_queue("b");
    rig_queue("c");
    attached("a", "ta");
    broker_qos(rig.ch, 3, true);
    EXPECT_CALLS("a limit 3\n");
    consume("b", "tb", 0);
    EXPECT_CALLS(
        "b open\nb limit 3\nb attach 1 'tb' flags=0 prefetch=0 credit=32 priority=0 args=0\n");
    rig_reply("b", QUEUE_OK, 0);
    rig_publish("", "c", BYTES_NONE, 0); /* only published to: no limit */
    broker_qos(rig.ch, 5, true);
    broker_qos(rig.ch, 0, true);
    EXPECT_CALLS("c open\nc publish 'm' props=2\na limit 5\nb limit 5\na limit 0\nb limit 0\n");
    (void)rig_said();
}

/* The last word counts, whichever kind of limit it sets. */
Test(broker_consume, a_limit_per_consumer_lifts_that_over_the_channel)
{
    rig_queue("a");
    attached("a", "ta");
    broker_qos(rig.ch, 3, true);
    EXPECT_CALLS("a limit 3\n");
    broker_qos(rig.ch, 7, false);
    EXPECT_CALLS("a limit 0\n");
    broker_qos(rig.ch, 8, false);
    EXPECT_CALLS("");
    (void)rig_said();
}

/* Two queues that each keep the limit on their own may together exceed it: the surplus goes back,
 * and comes again when there is room. */
Test(broker_consume, what_comes_over_the_limit_is_given_back)
{
    rig_queue("a");
    rig_queue("b");
    broker_qos(rig.ch, 2, true);
    attached("a", "ta");
    attached("b", "tb");
    rig_deliver("a", 1, 1, 2, 0, 0);
    rig_deliver("b", 1, 1, 2, 0, 0);
    EXPECT_SAID("deliver 'ta' 0.1.1 'm'\ndeliver 'ta' 0.1.2 'm'\n");
    EXPECT_CALLS("a credit 1 1411\nb settle release 1.1+1\nb credit 1 1\nb settle release 1.2+1\n");
    settle(0, 1, 1, 1, QUEUE_ACK);
    /* As many as there is room for, and whose message it was goes last. */
    EXPECT_CALLS("a credit 1 2\na settle ack 1.1+1\nb credit 1 3\na credit 1 3\n");
    rig_deliver("b", 1, 3, 1, 0, 0);
    EXPECT_SAID("deliver 'tb' 1.1.3 'm'\n");
    (void)rig_calls();
    cr_assert_eq(rig.ch->outstanding, 2);
}

Test(broker_consume, with_room_every_stopped_consumer_asks_again)
{
    rig_queue("a");
    rig_queue("b");
    rig_queue("c");
    broker_qos(rig.ch, 1, true);
    attached("a", "ta");
    attached("b", "tb");
    attached("c", "tc");
    rig_deliver("a", 1, 1, 1, 0, 0);
    rig_deliver("b", 1, 1, 1, 0, 0);
    rig_deliver("c", 1, 1, 1, 0, 0);
    (void)rig_calls();
    settle(0, 1, 1, 1, QUEUE_ACK); /* b may be empty by now: c must not starve behind it */
    EXPECT_CALLS("a credit 1 1\na settle ack 1.1+1\nb credit 1 2\nc credit 1 2\na credit 1 2\n");
    (void)rig_said();
}

Test(broker_consume, consumers_of_a_full_channel_take_turns)
{
    rig_queue("a");
    rig_queue("b");
    broker_qos(rig.ch, 1, true);
    attached("a", "ta");
    attached("b", "tb");
    rig_deliver("a", 1, 1, 1, 0, 0);
    rig_deliver("b", 1, 1, 1, 0, 0); /* given back, stopped */
    (void)rig_calls();
    CALL(broker_settle(rig.ch, &(struct broker_delivery){0, 1, 1, false}, 1, QUEUE_ACK));
    rig_deliver("b", 1, 2, 1, 0, 0); /* before the next turn */
    EXPECT_CALLS("a credit 1 1\na settle ack 1.1+1\nb credit 1 2\nb credit 1 1411\n");
    EXPECT_SAID("deliver 'ta' 0.1.1 'm'\ndeliver 'tb' 1.1.2 'm'\n");
    CALL(broker_settle(rig.ch, &(struct broker_delivery){1, 1, 2, false}, 1, QUEUE_ACK));
    rig_deliver("a", 1, 2, 1, 0, 0);
    EXPECT_CALLS("b credit 1 2\nb settle ack 1.2+1\na credit 1 2\na credit 1 2820\n");
    EXPECT_SAID("deliver 'ta' 0.1.2 'm'\n");
}

/* Turns are for those who are equal: of two consumers of one queue the one with the higher priority
 * has it, whatever it has had. */
Test(broker_consume, consumers_of_a_full_channel_take_no_turns_with_a_lower_priority)
{
    rig_queue("a");
    rig_queue("b");
    broker_qos(rig.ch, 1, true);
    struct writer w;
    writer_init(&w, 64);
    wire_table_put_int32(&w, "x-priority", 5);
    attached("a", "low");
    CALL(broker_consume(rig.ch, B("a"), B("high"), 0, writer_bytes(&w), rig_done, "consume"));
    rig_reply("a", QUEUE_OK, 0);
    writer_deinit(&w);
    rig_deliver("a", 2, 1, 1, 0, 0);
    (void)rig_calls();
    settle(0, 2, 1, 1, QUEUE_REQUEUE);
    EXPECT_CALLS("a settle requeue 2.1+1\n");
    attached("b", "equal");
    rig_deliver("a", 2, 2, 1, 0, 0);
    (void)rig_calls();
    settle(0, 2, 2, 1, QUEUE_REQUEUE); /* b's first, then both of a */
    EXPECT_CALLS(
        "a credit 2 2\na credit 1 0\na settle requeue 2.2+1\na credit 1 1\na credit 2 3\n");
    (void)rig_said();
}

Test(broker_consume, who_had_to_give_back_is_first_when_there_is_room)
{
    rig_queue("a");
    rig_queue("b");
    rig_queue("c");
    broker_qos(rig.ch, 1, true);
    attached("a", "ta");
    attached("b", "tb");
    attached("c", "tc");
    rig_deliver("a", 1, 1, 1, 0, 0);
    rig_deliver("c", 1, 1, 1, 0, 0);
    rig_deliver("b", 1, 1, 1, 0, 0);
    CALL(broker_settle(rig.ch, &(struct broker_delivery){0, 1, 1, false}, 1, QUEUE_ACK));
    rig_deliver("b", 1, 2, 1, 0, 0);
    rig_deliver("c", 1, 2, 1, 0, 0);
    (void)rig_calls();
    (void)rig_said();
    settle(1, 1, 2, 1, QUEUE_ACK);
    EXPECT_CALLS("b credit 1 2\nb settle ack 1.2+1\nc credit 1 3\na credit 1 2\nb credit 1 3\n");
}

/* A queue sends a second message under a limit of two: its consumer is stopped when the first is
 * acked, and yet the others go first. */
Test(broker_consume, who_gave_one_back_and_is_acked_goes_behind_the_others)
{
    rig_queue("a");
    rig_queue("b");
    rig_queue("c");
    broker_qos(rig.ch, 2, true);
    attached("a", "ta");
    attached("b", "tb");
    attached("c", "tc");
    rig_deliver("a", 1, 1, 1, 0, 0);
    rig_deliver("b", 1, 1, 1, 0, 0);
    rig_deliver("a", 1, 2, 1, 0, 0);
    rig_deliver("c", 1, 1, 1, 0, 0);
    (void)rig_calls();
    CALL(broker_settle(rig.ch, &(struct broker_delivery){0, 1, 1, false}, 1, QUEUE_ACK));
    rig_deliver("c", 1, 2, 1, 0, 0);
    const char *calls = rig_calls();
    cr_assert_str_eq(calls, "a settle ack 1.1+1\nc credit 1 2\nc credit 1 1411\n", "%s", calls);
    (void)rig_said();
}

Test(broker_consume, all_that_are_acked_in_a_turn_go_behind_the_others)
{
    rig_queue("a");
    rig_queue("b");
    rig_queue("c");
    broker_qos(rig.ch, 2, true);
    attached("a", "ta");
    attached("b", "tb");
    attached("c", "tc");
    rig_deliver("a", 1, 1, 1, 0, 0);
    rig_deliver("b", 1, 1, 1, 0, 0);
    rig_deliver("c", 1, 1, 1, 0, 0);
    (void)rig_calls();
    CALL(broker_settle(rig.ch, &(struct broker_delivery){0, 1, 1, false}, 1, QUEUE_ACK));
    CALL(broker_settle(rig.ch, &(struct broker_delivery){1, 1, 1, false}, 1, QUEUE_ACK));
    EXPECT_CALLS("a credit 1 1\na settle ack 1.1+1\nc credit 1 2\nb credit 1 1\n"
                 "b settle ack 1.1+1\na credit 1 3\nb credit 1 3\n");
    (void)rig_said();
}

Test(broker_consume, a_full_channel_stops_its_no_ack_consumers)
{
    rig_queue("a");
    rig_queue("b");
    broker_qos(rig.ch, 1, true);
    attached("a", "ta");
    consume("b", "tb", BROKER_NO_ACK);
    rig_reply("b", QUEUE_OK, 0);
    (void)rig_said();
    (void)rig_calls();
    rig_deliver("a", 1, 1, 1, 0, 0);
    EXPECT_CALLS("b credit 1 0\na credit 1 1410\n");
    consume("b", "tc", BROKER_NO_ACK); /* one that begins now has none */
    EXPECT_CALLS("b attach 2 'tc' flags=1 prefetch=0 credit=0 priority=0 args=0\n");
    rig_reply("b", QUEUE_OK, 0);
    (void)rig_said();
    settle(0, 1, 1, 1, QUEUE_ACK);
    const char *calls = rig_calls();
    cr_assert_not_null(strstr(calls, "b credit 1 1\n"), "%s", calls);
    cr_assert_not_null(strstr(calls, "b credit 2 1\n"), "%s", calls);
}

Test(broker_consume, unacked_messages_of_a_deleted_queue_make_room)
{
    rig_queue("a");
    rig_queue("b");
    broker_qos(rig.ch, 1, true);
    attached("a", "ta");
    attached("b", "tb");
    rig_deliver("a", 1, 1, 1, 0, 0);
    rig_deliver("b", 1, 1, 1, 0, 0);
    cr_assert_eq(rig.ch->outstanding, 1);
    (void)rig_calls();
    rig_delete("a");
    cr_assert_eq(rig.ch->outstanding, 0);
    const char *calls = rig_calls();
    cr_assert_not_null(strstr(calls, "b credit 1 2\n"), "%s", calls);
    (void)rig_said();
}
