/* Declares and binds that begin while others of their channel are under way. */
#include "amqp_internal.h"
#include "rig.h"

static void begin(void)
{
    rig_init();
    rig_open();
    rig_channel(1);
    rig.answer = false;
    rig.ahead = true;
}

TestSuite(amqp_ahead, .init = begin, .fini = rig_deinit);

static void declare(const char *queue, bool no_wait)
{
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    m.queue_declare.queue = B(queue);
    m.queue_declare.no_wait = no_wait;
    rig_send(1, &m);
}

static void bind(const char *queue, bool no_wait)
{
    struct wire_method m = {.id = WIRE_QUEUE_BIND};
    m.queue_bind.queue = B(queue);
    m.queue_bind.exchange = B("x");
    m.queue_bind.routing_key = B("k");
    m.queue_bind.no_wait = no_wait;
    rig_send(1, &m);
}

static void publish(const char *key)
{
    struct wire_method p = rig_publish("x", key);
    rig_send(1, &p);
    rig_content(1, 0);
}

static void answer(void)
{
    rig_answer(0, false, NULL, 0, 0);
}

Test(amqp_ahead, all_begin_at_once_and_are_answered_in_order)
{
    declare("a", false);
    bind("a", true);
    declare("b", true);
    bind("b", false);
    EXPECT_CALLS(
        "1 queue_declare 'a' flags=0 args=0\n1 queue_bind_ahead 'a' 'x' 'k' args=0\n"
        "1 queue_declare_ahead 'b' flags=0 args=0\n1 queue_bind_ahead 'b' 'x' 'k' args=0\n");
    answer();
    EXPECT_OUT("1 queue.declare-ok queue=\"a\" message-count=0 consumer-count=0\n");
    answer();
    answer();
    EXPECT_OUT("");
    answer();
    EXPECT_OUT("1 queue.bind-ok\n");
}

Test(amqp_ahead, what_is_behind_waits_for_all_of_them)
{
    declare("a", true);
    bind("a", true);
    publish("one");
    declare("b", true); /* not before the publish */
    EXPECT_CALLS("1 queue_declare 'a' flags=0 args=0\n1 queue_bind_ahead 'a' 'x' 'k' args=0\n");
    answer();
    EXPECT_CALLS("");
    answer();
    EXPECT_CALLS("1 publish 'x' 'one' token=0  priority=0 props=2 body=''\n"
                 "1 queue_declare 'b' flags=0 args=0\n");
}

Test(amqp_ahead, one_that_could_fail_waits_until_it_is_alone)
{
    rig.ahead = false;
    declare("a", false);
    bind("a", false);
    rig.ahead = true; /* asked once: it does not matter what would be said now */
    declare("b", false);
    EXPECT_CALLS("1 queue_declare 'a' flags=0 args=0\n");
    answer();
    EXPECT_CALLS("1 queue_bind 'a' 'x' 'k' args=0\n1 queue_declare_ahead 'b' flags=0 args=0\n");
    answer();
    answer();
    EXPECT_OUT("1 queue.declare-ok queue=\"a\" message-count=0 consumer-count=0\n"
               "1 queue.bind-ok\n"
               "1 queue.declare-ok queue=\"b\" message-count=0 consumer-count=0\n");
}

Test(amqp_ahead, there_are_not_too_many_at_once)
{
    for (int i = 0; i < 100; i++) {
        declare("q", true);
    }
    cr_assert_eq(rig.waiting.count, 32);
    for (int i = 0; i < 100 - 32; i++) {
        answer();
        cr_assert_eq(rig.waiting.count, 32);
    }
    for (int i = 0; i < 32; i++) {
        answer();
    }
    cr_assert_eq(rig.waiting.count, 0);
    cr_assert_eq(rig.server->kept_bytes, 0);
}

Test(amqp_ahead, nothing_is_answered_behind_an_error)
{
    declare("a", false);
    declare("b", false);
    declare("c", false);
    publish("k");
    rig_answer(406, false, "no", 0, 0);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - no\" class-id=50 "
               "method-id=10\n");
    EXPECT_CALLS("1 queue_declare 'a' flags=0 args=0\n1 queue_declare_ahead 'b' flags=0 args=0\n"
                 "1 queue_declare_ahead 'c' flags=0 args=0\n1 channel_close\n");
    cr_assert_eq(rig.waiting.count, 0);
}

Test(amqp_ahead, a_broken_table_is_an_error_in_its_turn)
{
    static const uint8_t broken[] = {1, 'k', '?'};
    struct wire_method m = {.id = WIRE_QUEUE_DECLARE};
    m.queue_declare.queue = B("b");
    m.queue_declare.arguments = bytes_make(broken, sizeof broken);
    declare("a", false);
    rig_send(1, &m);
    EXPECT_CALLS("1 queue_declare 'a' flags=0 args=0\n");
    EXPECT_OUT("");
    answer();
    const char *out = rig_out();
    cr_assert(strstr(out, "declare-ok") != NULL);
}

Test(amqp_ahead, a_close_waits_for_them)
{
    struct wire_method close = {.id = WIRE_CHANNEL_CLOSE};
    declare("a", false);
    bind("a", false);
    rig_send(1, &close);
    answer();
    EXPECT_OUT("1 queue.declare-ok queue=\"a\" message-count=0 consumer-count=0\n");
    answer();
    EXPECT_OUT("1 queue.bind-ok\n1 channel.close-ok\n");
}

Test(amqp_ahead, others_that_may_begin)
{
    struct wire_method consume = {.id = WIRE_BASIC_CONSUME};
    struct wire_method cancel = {.id = WIRE_BASIC_CANCEL};
    struct wire_method unbind = {.id = WIRE_QUEUE_UNBIND};
    struct wire_method delete = {.id = WIRE_QUEUE_DELETE};
    consume.basic_consume.queue = unbind.queue_unbind.queue = delete.queue_delete.queue = B("q");
    consume.basic_consume.consumer_tag = cancel.basic_cancel.consumer_tag = B("t");
    unbind.queue_unbind.exchange = B("x");
    delete.queue_delete.no_wait = true;
    declare("a", true);
    rig_send(1, &consume);
    rig_send(1, &cancel);
    rig_send(1, &unbind);
    rig_send(1, &delete);
    EXPECT_CALLS("1 queue_declare 'a' flags=0 args=0\n1 consume_ahead 'q' 't' flags=0 args=0\n"
                 "1 cancel_ahead 't'\n1 queue_unbind_ahead 'q' 'x' '' args=0\n"
                 "1 queue_delete_ahead 'q' flags=0\n");
    for (int i = 0; i < 5; i++) {
        answer();
    }
    EXPECT_OUT("1 basic.consume-ok consumer-tag=\"q\"\n1 basic.cancel-ok consumer-tag=\"t\"\n"
               "1 queue.unbind-ok\n");
}
