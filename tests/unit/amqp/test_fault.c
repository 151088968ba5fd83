/* Every mistake of a client on an open connection: the code, the text, the method it is blamed on.
 */
#include "rig.h"

TestSuite(amqp_fault, .init = rig_init, .fini = rig_deinit);

static const char *closes(uint16_t code, const char *text, int class_id, int method_id)
{
    static char line[600];
    (void)snprintf(line, sizeof line,
                   "0 connection.close reply-code=%u reply-text=\"%s\" class-id=%d method-id=%d\n",
                   code, text, class_id, method_id);
    return line;
}

/* A frame with the given bytes as payload, on an open connection with channel 1 open. */
struct row {
    uint8_t type;
    uint16_t channel;
    const char *payload;
    size_t size;
    uint16_t code;
    const char *text;
    int class_id, method_id;
};
#define BYTES(text) text, sizeof(text) - 1

static const struct row rows[] = {
    /* frames */
    {WIRE_FRAME_METHOD, 1, BYTES(""), 501, "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame",
     0, 0},
    {WIRE_FRAME_METHOD, 0, BYTES(""), 501, "FRAME_ERROR - type 1, all octets = <<>>: unknown_frame",
     0, 0},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x32"), 501,
     "FRAME_ERROR - type 1, all octets = <<0,50>>: unknown_frame", 0, 0},
    {WIRE_FRAME_HEARTBEAT, 1, BYTES(""), 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>", 0, 0},
    {WIRE_FRAME_HEARTBEAT, 0, BYTES("x"), 501,
     "FRAME_ERROR - type 8, all octets = 1 bytes: unknown_frame", 0, 0},
    {WIRE_FRAME_HEADER, 0, BYTES("x"), 505,
     "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0, 0},
    {WIRE_FRAME_BODY, 0, BYTES("x"), 505,
     "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0, 0},
    {WIRE_FRAME_BODY, 1, BYTES("x"), 505,
     "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0, 0},
    {WIRE_FRAME_HEADER, 1, BYTES("x"), 505,
     "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0, 0},
    {0, 1, BYTES("x"), 501, "FRAME_ERROR - type 0, all octets = <<>>: unknown_frame", 0, 0},
    {4, 1, BYTES("x"), 501, "FRAME_ERROR - type 4, all octets = <<>>: unknown_frame", 0, 0},
    {255, 0, BYTES("x"), 501, "FRAME_ERROR - type 255, all octets = <<>>: unknown_frame", 0, 0},
    /* arguments */
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x32\0\x0a\0"), 501, "FRAME_ERROR - cannot decode <<0>>", 50,
     10},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x50\0\0\0\0\0\0\0\1\0\xff"), 501,
     "FRAME_ERROR - cannot decode <<0,0,0,0,0,0,0,1,0,255>>", 60, 80},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x1e\2\xff\xfe\0"), 501,
     "FRAME_ERROR - Malformed UTF-8 in shortstr", 60, 30},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x32\0\x0a\0\0\1q\0\0\0\0\3\1a?"), 502,
     "SYNTAX_ERROR - unknown field type in table", 50, 10},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x14\0\0\1q\0\0\0\0\0\2\1a"), 502,
     "SYNTAX_ERROR - table ends inside a field", 60, 20},
    /* methods that are none, or not a client's */
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x63\0\1"), 503, "COMMAND_INVALID - unimplemented method", 99,
     1},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x32\0\x63"), 503, "COMMAND_INVALID - unimplemented method", 50,
     99},
    {WIRE_FRAME_METHOD, 0, BYTES("\0\x63\0\1"), 503, "COMMAND_INVALID - unimplemented method", 99,
     1},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x1f\1t"), 503, "COMMAND_INVALID - unimplemented method",
     60, 31},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x14\0\x29"), 503, "COMMAND_INVALID - unimplemented method", 20,
     41},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x14\0\x15\1"), 503, "COMMAND_INVALID - unimplemented method",
     20, 21},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x55\0\x0b"), 503, "COMMAND_INVALID - unimplemented method", 85,
     11},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x1e\0\x0b\0\1"), 503, "COMMAND_INVALID - unimplemented method",
     30, 11},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x0a\0\x29\0"), 503, "COMMAND_INVALID - unimplemented method",
     10, 41},
    /* channels */
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x14\0\x0a\0"), 504,
     "CHANNEL_ERROR - second 'channel.open' seen", 20, 10},
    {WIRE_FRAME_METHOD, 2, BYTES("\0\x14\0\x29"), 504, "CHANNEL_ERROR - expected 'channel.open'",
     20, 41},
    {WIRE_FRAME_METHOD, 2, BYTES("\0\x3c\0\x6e\1"), 504, "CHANNEL_ERROR - expected 'channel.open'",
     60, 110},
    {WIRE_FRAME_METHOD, 65535, BYTES("\0\x14\0\x28\0\0\0\0\0\0\0"), 504,
     "CHANNEL_ERROR - expected 'channel.open'", 20, 40},
    {WIRE_FRAME_BODY, 2, BYTES("x"), 505,
     "UNEXPECTED_FRAME - expected method frame, got non method frame instead", 0, 0},
    {WIRE_FRAME_METHOD, 0, BYTES("\0\x14\0\x0a\0"), 504,
     "CHANNEL_ERROR - unexpected method in connection state running", 20, 10},
    {WIRE_FRAME_METHOD, 0, BYTES("\0\x0a\0\x28\1/\0\0"), 504,
     "CHANNEL_ERROR - unexpected method in connection state running", 10, 40},
    {WIRE_FRAME_METHOD, 0, BYTES("\0\x0a\0\x33"), 504,
     "CHANNEL_ERROR - unexpected method in connection state running", 10, 51},
    /* what is not supported */
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x28\0\0\0\0\2"), 540, "NOT_IMPLEMENTED - immediate=true",
     60, 40},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x0a\0\0\0\5\0\0\0"), 540,
     "NOT_IMPLEMENTED - prefetch_size!=0 (5)", 60, 10},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x6e\0"), 540, "NOT_IMPLEMENTED - requeue=false", 60,
     110},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x3c\0\x64\0"), 540, "NOT_IMPLEMENTED - requeue=false", 60,
     100},
    {WIRE_FRAME_METHOD, 1, BYTES("\0\x14\0\x14\0"), 540, "NOT_IMPLEMENTED - active=false", 20, 20},
};

Test(amqp_fault, each_mistake_has_its_code_text_and_method)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        const struct row *r = &rows[i];
        rig_open();
        rig_channel(1);
        rig_frame(r->type, r->channel, r->payload, r->size);
        cr_assert_str_eq(rig_out(), closes(r->code, r->text, r->class_id, r->method_id), "row %zu",
                         i);
        cr_assert_str_eq(rig_calls(), "1 channel_close\nsession_close\n", "row %zu", i);
        struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
        rig_frame(r->type, r->channel, r->payload, r->size); /* again: nobody listens any more */
        rig_send(0, &ok);
        bool lost = r->type != WIRE_FRAME_METHOD && r->type != WIRE_FRAME_HEADER &&
                    r->type != WIRE_FRAME_BODY && r->type != WIRE_FRAME_HEARTBEAT;
        if (lost) { /* the stream cannot be trusted: its end is not read any more */
            rig_pass(3001);
        }
        cr_assert_str_eq(rig_out(), "end\n", "row %zu", i);
        cr_assert_eq(amqp_connections(rig.server), 0);
        wire_frame_reader_deinit(&rig.reader);
        buf_unref(rig.conn.out);
        rig.conn.out = NULL;
    }
}

Test(amqp_fault, a_frame_may_be_eight_bytes_longer_than_the_rule_and_not_one_more)
{
    static uint8_t payload[4097];
    struct wire_method m = rig_publish("x", "k");
    rig_open_with(4096, 0);
    rig_channel(1);
    rig_send(1, &m);
    rig_content(1, 4096 + 4097);
    rig_frame(WIRE_FRAME_BODY, 1, payload, 4096);
    EXPECT_OUT("");
    rig_frame(WIRE_FRAME_BODY, 1, payload, 4097);
    EXPECT_OUT(
        closes(501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}", 0, 0));
    rig_pass(2999);
    EXPECT_OUT("");
    rig_pass(2);
    EXPECT_OUT("end\n");
}

Test(amqp_fault, a_wrong_end_octet_is_told)
{
    rig_open();
    rig_feed("\x08\0\0\0\0\0\0\xcd", 8);
    EXPECT_OUT(closes(
        501, "FRAME_ERROR - type 8, all octets = <<>>: {invalid_frame_end_marker,205}", 0, 0));
}

Test(amqp_fault, a_size_of_four_gigabytes_costs_nothing)
{
    rig_open();
    rig_feed("\3\0\1\xff\xff\xff\xff", 7);
    EXPECT_OUT(closes(
        501, "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4294967295,131064}", 0, 0));
}

Test(amqp_fault, channel_max_counts_open_channels_not_their_numbers)
{
    struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
    struct wire_method close = {.id = WIRE_CHANNEL_CLOSE};
    rig_open();
    for (uint16_t i = 0; i < 8; i++) {
        rig_channel((uint16_t)(20 + i));
    }
    rig_send(20, &close);
    EXPECT_OUT("20 channel.close-ok\n");
    rig_channel(1);
    rig_send(2, &open);
    EXPECT_OUT(closes(
        530,
        "NOT_ALLOWED - number of channels opened (8) has reached the negotiated channel_max (8)", 0,
        0));
}

Test(amqp_fault, every_method_of_a_server_is_refused)
{
    for (size_t i = 0; i < wire_method_count(); i++) {
        enum wire_method_id id = wire_method_at(i);
        if ((wire_method_info((uint32_t)id)->flags & WIRE_FROM_CLIENT) != 0) {
            continue;
        }
        for (uint16_t channel = 0; channel < 2; channel++) {
            struct wire_method m = {.id = id};
            rig_open();
            rig_channel(1);
            rig_send(channel, &m);
            const char *text = channel == 0
                                   ? "CHANNEL_ERROR - unexpected method in connection state running"
                                   : "COMMAND_INVALID - unimplemented method";
            cr_assert_str_eq(
                rig_out(),
                closes(channel == 0 ? 504 : 503, text, wire_class_of(id), wire_method_of(id)), "%s",
                wire_method_name((uint32_t)id));
            rig_hang_up();
            wire_frame_reader_deinit(&rig.reader);
            buf_unref(rig.conn.out);
            rig.conn.out = NULL;
        }
    }
}
