/* What a delivery looks like on the wire: x-delivery-count. */
#include "amqp_internal.h"
#include "rig.h"

TestSuite(amqp_deliver, .init = rig_init, .fini = rig_deinit);

static struct message with_headers(struct bytes headers, uint8_t priority)
{
    struct wire_props props = {
        .flags = WIRE_PROP_HEADERS | WIRE_PROP_PRIORITY, .headers = headers, .priority = priority};
    struct writer raw;
    writer_init(&raw, 64);
    wire_props_put(&raw, &props);
    struct message m = rig_message_with("x", "k", writer_bytes(&raw), "a", 1);
    writer_deinit(&raw);
    return m;
}

static void deliver(bool counted, uint32_t delivery_count, struct message owned)
{
    struct broker_delivery d = {.consumer = 1, .ordinal = 1, .counted = counted};
    rig_deliver_message(1, "t", &d, delivery_count, false, owned);
}

static bool said(const char *what)
{
    return strstr(rig_out(), what) != NULL;
}

Test(amqp_deliver, redeliveries_from_a_counted_queue_tell_how_many_came_before)
{
    rig_open();
    rig_channel(1);
    deliver(true, 0, rig_message("x", "k", "a", 1));
    cr_assert_not(said("x-delivery-count"));
    deliver(true, 1, rig_message("x", "k", "a", 1));
    cr_assert(said("headers={x-delivery-count=long 1}"));
    deliver(false, 3, rig_message("x", "k", "a", 1));
    cr_assert_not(said("x-delivery-count"), "a classic queue does not");
}

Test(amqp_deliver, other_properties_stay_and_an_older_count_is_replaced)
{
    struct writer headers;
    rig_open();
    rig_channel(1);
    writer_init(&headers, 64);
    wire_table_put_int32(&headers, "a", 7);
    wire_table_put_cstr(&headers, "x-delivery-count", "mine");
    wire_table_put_bool(&headers, "b", true);
    deliver(true, 5, with_headers(writer_bytes(&headers), 3));
    const char *out = rig_out();
    cr_assert(strstr(out, "headers={a=signedint 7, b=bool true, x-delivery-count=long 5}") != NULL,
              "%s", out);
    cr_assert(strstr(out, "priority=3") != NULL, "%s", out);
    writer_deinit(&headers);
}

Test(amqp_deliver, a_count_that_does_not_fit_into_a_frame_is_left_out)
{
    static char long_text[4096 - 8 - 14 - 4 - 8 - 1];
    struct writer headers;
    rig_open_with(4096, 0);
    rig_channel(1);
    memset(long_text, 'x', sizeof long_text);
    writer_init(&headers, 8192);
    wire_table_put_string(&headers, "l", bytes_make(long_text, sizeof long_text - 1));
    deliver(true, 5, with_headers(writer_bytes(&headers), 3));
    const char *out = rig_out();
    cr_assert(strstr(out, "basic.deliver") != NULL && strstr(out, "x-delivery-count") == NULL);
    writer_deinit(&headers);
}

Test(amqp_deliver, get_tells_it_too)
{
    struct wire_method m = {.id = WIRE_BASIC_GET};
    m.basic_get.queue = B("q");
    rig_open();
    rig_channel(1);
    rig.answer = false;
    rig_send(1, &m);
    struct fake_call *c = &rig.waiting.items[0];
    struct message message = rig_message("x", "k", "a", 1);
    struct broker_delivery d = {.ordinal = 4, .counted = true};
    c->on_get(c->ctx, &d, true, 2, &message, 0);
    message_unref(message);
    rig_answer(0, false, NULL, 1, 0);
    cr_assert(said("headers={x-delivery-count=long 2}"));
}

Test(amqp_deliver, a_consumer_that_held_a_message_too_long)
{
    rig_open();
    rig_channel(1);
    rig_deliver(1, "t", 0, 1, 1, false, "a");
    (void)rig_out();
    rig.channels[1].sink->on_overdue(rig.channels[1].ctx, B("t"), 1800000);
    EXPECT_OUT("1 basic.cancel consumer-tag=\"t\" no-wait=true\n");
    ((struct amqp_conn *)rig.conn.user)->cancel_notify = false; /* who would not understand that */
    rig.channels[1].sink->on_overdue(rig.channels[1].ctx, B("t"), 1800000);
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - delivery "
               "acknowledgement on channel 1 timed out. Timeout value used: 1800000 ms. This "
               "timeout value can be configured, see consumers doc guide to learn more\" "
               "class-id=0 method-id=0\n");
}
