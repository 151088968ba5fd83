/* Contents: method, header, body, and everything that may come in between. */
#include "rig.h"

TestSuite(amqp_content, .init = rig_init, .fini = rig_deinit);

#define CLOSE(code, text)                                                                          \
    "0 connection.close reply-code=" code " reply-text=\"" text "\" class-id=60 method-id=40\n"

static void begin(void)
{
    struct wire_method m = rig_publish("x", "k");
    rig_send(1, &m);
}

static void header(uint16_t class_id, uint16_t weight, uint64_t size, const void *props,
                   size_t props_size)
{
    uint8_t payload[300];
    bytes_store_be16(payload, class_id);
    bytes_store_be16(payload + 2, weight);
    bytes_store_be64(payload + 4, size);
    memcpy(payload + 12, props, props_size);
    rig_frame(WIRE_FRAME_HEADER, 1, payload, 12 + props_size);
}

static void again(void)
{
    rig_hang_up();
    (void)rig_calls();
    wire_frame_reader_deinit(&rig.reader);
    buf_unref(rig.conn.out);
    rig.conn.out = NULL;
}

Test(amqp_content, is_published_when_whole)
{
    rig_open();
    rig_channel(1);
    begin();
    rig_content(1, 5);
    rig_frame(WIRE_FRAME_BODY, 1, "he", 2);
    EXPECT_CALLS("");
    rig_frame(WIRE_FRAME_BODY, 1, "", 0); /* an empty body frame is nothing */
    rig_frame(WIRE_FRAME_BODY, 1, "llo", 3);
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body='hello'\n");
    begin();
    rig_content(1, 0); /* no body frame for an empty body */
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body=''\n");
    EXPECT_OUT("");
}

Test(amqp_content, expirations_are_numbers_as_rabbitmq_reads_them)
{
    static const struct {
        const char *text, *ttl;
    } rows[] = {{"250", "ttl=250 "},
                {"+250", "ttl=250 "},
                {"-0", "ttl=0 "},
                {"00000000000000000000250", "ttl=250 "},
                {"", ""},
                {"+", ""},
                {"x", ""},
                {"99999999999999999999999", ""}};
    rig_open();
    rig_channel(1);
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        uint8_t props[64] = {0x01, 0x00, (uint8_t)strlen(rows[i].text)};
        char wanted[120];
        memcpy(props + 3, rows[i].text, strlen(rows[i].text));
        (void)snprintf(wanted, sizeof wanted,
                       "1 publish 'x' 'k' token=0  priority=0 props=%zu %sbody=''\n",
                       3 + strlen(rows[i].text), rows[i].ttl);
        begin();
        header(60, 0, 0, props, 3 + strlen(rows[i].text));
        cr_assert_str_eq(rig_calls(), wanted, "row %zu", i);
    }
}

Test(amqp_content, properties_that_the_broker_needs_are_taken_out)
{
    rig_open();
    rig_channel(1);
    begin();
    header(60, 0, 1,
           "\x19\x00\x02\x07\x03"
           "250",
           8); /* delivery-mode 2, priority 7, expiration 250 */
    rig_frame(WIRE_FRAME_BODY, 1, "x", 1);
    EXPECT_CALLS("1 publish 'x' 'k' token=0 persistent priority=7 props=8 ttl=250 body='x'\n");
    begin();
    header(60, 0, 0,
           "\x11\x00\x01\x03"
           "25x",
           7); /* the broker complains about such an expiration */
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=7 body=''\n");
}

Test(amqp_content, every_frame_in_every_state)
{
    enum { METHOD, HEADER, BODY, KINDS };
    static const char *const expected[2][KINDS] = {
        {CLOSE("505", "UNEXPECTED_FRAME - expected content header for class 60, got non content "
                      "header frame instead"),
         "",
         CLOSE("505", "UNEXPECTED_FRAME - expected content header for class 60, got non content "
                      "header frame instead")},
        {CLOSE("505",
               "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
         CLOSE("505",
               "UNEXPECTED_FRAME - expected content body, got non content body frame instead"),
         ""},
    };
    for (int state = 0; state < 2; state++) {
        for (int kind = 0; kind < KINDS; kind++) {
            rig_open();
            rig_channel(1);
            begin();
            if (state == 1) {
                rig_content(1, 5);
            }
            if (kind == METHOD) {
                struct wire_method m = {.id = WIRE_BASIC_ACK};
                rig_send(1, &m);
            } else if (kind == HEADER) {
                rig_content(1, 5);
            } else {
                rig_frame(WIRE_FRAME_BODY, 1, "abc", 3);
            }
            cr_assert_str_eq(rig_out(), expected[state][kind], "state %d kind %d", state, kind);
            again();
        }
    }
}

Test(amqp_content, other_channels_may_speak_in_between)
{
    struct wire_method m = rig_publish("x", "two");
    rig_open();
    rig_channel(1);
    rig_channel(2);
    begin();
    rig_send(2, &m);
    rig_content(2, 1);
    rig_content(1, 1);
    rig_frame(WIRE_FRAME_BODY, 1, "a", 1);
    rig_frame(WIRE_FRAME_BODY, 2, "b", 1);
    EXPECT_CALLS("1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\n2 publish 'x' 'two' "
                 "token=0  priority=0 props=2 body='b'\n");
}

Test(amqp_content, wrong_headers)
{
    static const struct {
        uint16_t class_id, weight;
        uint64_t size;
        const char *props;
        size_t props_size;
        const char *out;
    } rows[] = {
        {50, 0, 1, "\0\0", 2,
         CLOSE("505", "UNEXPECTED_FRAME - expected content header for class 60, got one for class "
                      "50 instead")},
        {60, 1, 1, "\0\0", 2,
         CLOSE("505", "UNEXPECTED_FRAME - expected content header for class 60, got non content "
                      "header frame instead")},
        {60, 0, 536870913, "\0\0", 2,
         CLOSE("501",
               "FRAME_ERROR - content body size 536870913 exceeds maximum allowed size 536870912")},
        {60, 0, UINT64_MAX, "\0\0", 2,
         CLOSE("501", "FRAME_ERROR - content body size 18446744073709551615 exceeds maximum "
                      "allowed size 536870912")},
        {60, 0, UINT64_C(1) << 63, "\0\0", 2,
         CLOSE("501", "FRAME_ERROR - content body size 9223372036854775808 exceeds maximum allowed "
                      "size 536870912")},
        {60, 0, 1, "", 0, CLOSE("501", "FRAME_ERROR - arguments end too early")},
        {60, 0, 1, "\0\1\0\0", 4,
         CLOSE("501", "FRAME_ERROR - more than one word of property flags")},
        {60, 0, 1, "\x80\0\5ab", 5, CLOSE("501", "FRAME_ERROR - arguments end too early")},
        {60, 0, 1, "\x80\0\1ab", 5, CLOSE("501", "FRAME_ERROR - bytes left after the arguments")},
        {60, 0, 1, "\x20\0\0\0\0\3\1a?", 9,
         CLOSE("502", "SYNTAX_ERROR - unknown field type in table")},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        rig_open();
        rig_channel(1);
        begin();
        header(rows[i].class_id, rows[i].weight, rows[i].size, rows[i].props, rows[i].props_size);
        cr_assert_str_eq(rig_out(), rows[i].out, "row %zu", i);
        again();
    }
}

Test(amqp_content, more_body_than_announced)
{
    rig_open();
    rig_channel(1);
    begin();
    rig_content(1, 3);
    rig_frame(WIRE_FRAME_BODY, 1, "ab", 2);
    rig_frame(WIRE_FRAME_BODY, 1, "cd", 2);
    EXPECT_OUT(CLOSE("501", "FRAME_ERROR - content body frame exceeds remaining content size"));
    EXPECT_CALLS("1 channel_close\nsession_close\n");
}

Test(amqp_content, a_body_after_an_empty_one_is_no_method)
{
    rig_open();
    rig_channel(1);
    begin();
    rig_content(1, 0);
    rig_frame(WIRE_FRAME_BODY, 1, "", 0);
    EXPECT_OUT("0 connection.close reply-code=505 reply-text=\"UNEXPECTED_FRAME - expected method "
               "frame, got non method frame instead\" "
               "class-id=0 method-id=0\n");
}

Test(amqp_content, too_large_a_message_closes_the_channel_when_it_is_announced)
{
    rig_open();
    rig_channel(1);
    begin();
    rig_content(1, (1u << 20) + 1);
    rig_frame(WIRE_FRAME_BODY, 1, "abc", 3); /* on its way already: dropped with the channel */
    EXPECT_OUT("1 channel.close reply-code=406 reply-text=\"PRECONDITION_FAILED - message size "
               "1048577 is larger than configured max size "
               "1048576\" class-id=60 method-id=40\n");
    struct wire_method ok = {.id = WIRE_CHANNEL_CLOSE_OK};
    rig_send(1, &ok);
    rig_channel(1);
    begin();
    rig_content(1, 1);
    rig_frame(WIRE_FRAME_BODY, 1, "a", 1);
    EXPECT_CALLS("1 channel_close\n1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\n");
}

Test(amqp_content, bodies_of_all_sizes_arrive_whole)
{
    static const uint32_t sizes[] = {33,    4088,   4089,   16384,  16385,
                                     65536, 131072, 131073, 300000, 1u << 20};
    static uint8_t body[1 << 20];
    rig_open_with(4096, 0);
    rig_channel(1);
    for (size_t i = 0; i < sizeof body; i++) {
        body[i] = (uint8_t)(i * 7 + i / 251);
    }
    for (size_t k = 0; k < WR_ARRAY_SIZE(sizes); k++) {
        char expected[200];
        uint32_t sum = 0;
        begin();
        rig_content(1, sizes[k]);
        for (uint32_t at = 0; at < sizes[k]; at += 4088) {
            rig_frame(WIRE_FRAME_BODY, 1, body + at, sizes[k] - at < 4088 ? sizes[k] - at : 4088);
        }
        for (uint32_t i = 0; i < sizes[k]; i++) {
            sum = sum * 31 + body[i];
        }
        (void)snprintf(expected, sizeof expected,
                       "1 publish 'x' 'k' token=0  priority=0 props=2 body=%u sum=%x\n", sizes[k],
                       sum);
        EXPECT_CALLS(expected);
    }
}

Test(amqp_content, deliveries_are_split_at_the_frame_max_of_the_client)
{
    static char body[9001];
    memset(body, 'b', sizeof body - 1);
    rig_open_with(4096, 0);
    rig_channel(1);
    rig_deliver(1, "t", 0, 1, 1, true, body);
    EXPECT_OUT("1 basic.deliver consumer-tag=\"t\" delivery-tag=1 redelivered=false exchange=\"x\" "
               "routing-key=\"k\"\n"
               "1 header 9000 \n1 body 4088\n1 body 4088\n1 body 824\n");
}

Test(amqp_content, a_refused_publish_closes_the_channel)
{
    struct wire_method m = rig_publish("missing", "k");
    rig_open();
    rig_channel(1);
    rig_send(1, &m);
    rig_content(1, 0);
    EXPECT_OUT("1 channel.close reply-code=404 reply-text=\"NOT_FOUND - no exchange 'missing' in "
               "vhost '/'\" class-id=60 method-id=40\n");
    begin(); /* dropped until close-ok */
    rig_content(1, 0);
    EXPECT_CALLS("1 publish 'missing' 'k' token=0  priority=0 props=2 body=''\n1 channel_close\n");
}

Test(amqp_content, a_mandatory_message_comes_back_before_its_ack)
{
    struct wire_method select = {.id = WIRE_CONFIRM_SELECT};
    struct wire_method m = rig_publish("x", "nowhere");
    rig_open();
    rig_channel(1);
    rig_send(1, &select);
    EXPECT_OUT("1 confirm.select-ok\n");
    m.basic_publish.mandatory = true;
    rig_send(1, &m);
    header(60, 0, 3, "\x10\0\x02", 3);
    rig_frame(WIRE_FRAME_BODY, 1, "abc", 3);
    m.basic_publish.mandatory = false;
    rig_send(1, &m);
    rig_content(1, 0);
    EXPECT_OUT("1 basic.return reply-code=312 reply-text=\"NO_ROUTE\" exchange=\"x\" "
               "routing-key=\"nowhere\"\n1 header 3  "
               "delivery-mode=2\n1 body 'abc'\n1 basic.ack delivery-tag=2 multiple=true\n");
}

Test(amqp_content, a_publish_that_waits_keeps_the_channel_in_order)
{
    struct wire_method get = {.id = WIRE_BASIC_GET};
    get.basic_get.queue = B("q");
    rig_open();
    rig_channel(1);
    rig.publish_waits = true;
    begin();
    rig_content(1, 1);
    rig_frame(WIRE_FRAME_BODY, 1, "a", 1);
    rig_send(1, &get);
    EXPECT_CALLS("1 publish waits\n");
    rig.publish_waits = false;
    rig.retry(rig.retry_ctx);
    EXPECT_CALLS("1 looked\n1 publish 'x' 'k' token=0  priority=0 props=2 body='a'\n1 get 'q'\n");
    EXPECT_OUT("1 basic.get-empty\n");
}

Test(amqp_content, only_what_came_before_a_look_up_may_share_it)
{
    rig_open();
    rig_channel(1);
    rig.publish_waits = true;
    begin();
    rig_content(1, 0);
    EXPECT_CALLS("1 publish waits\n");
    begin();
    rig_content(1, 0); /* comes while the first one waits */
    rig.retry(rig.retry_ctx);
    EXPECT_CALLS("1 looked\n1 publish waits\n"); /* a second look-up: the other was there by then */
    begin();
    rig_content(1, 0); /* but not this one */
    rig.publish_waits = false;
    rig.retry(rig.retry_ctx);
    EXPECT_CALLS("1 looked\n1 publish 'x' 'k' token=0  priority=0 props=2 body=''\n"
                 "1 looked\n1 publish 'x' 'k' token=0  priority=0 props=2 body=''\n"
                 "1 publish 'x' 'k' token=0  priority=0 props=2 body=''\n");
}

Test(amqp_content, a_publish_that_waits_may_lose_its_channel)
{
    rig_open();
    rig_channel(1);
    rig.publish_waits = true;
    begin();
    rig_content(1, 0);
    struct broker_fault fault = {.code = 541, .connection = true, .text = "no leader"};
    rig_turn();
    rig.channels[1].sink->on_fault(rig.channels[1].ctx, &fault, 60, 40);
    EXPECT_OUT(CLOSE("541", "INTERNAL_ERROR - no leader"));
    EXPECT_CALLS("1 publish waits\n1 channel_close\nsession_close\n");
}
