/* What: tests of the method codec, the fault and reply tables and the text form. */
#include <criterion/criterion.h>

#include "wire_test.h"

/* The example frames of the RabbitMQ reference: bytes and what they mean as text. */
struct example {
    const char *hex;
    const char *text;
};

static const struct example examples[] = {
    {"01 00 00 00 00 00 43 00 0a 00 0b 00 00 00 1f 0c 63 61 70 61 62 69 6c 69 74 69 65 73 46 00 00 "
     "00 0d 0a 62 61 73 69 63 2e 6e 61 63 6b 74 01 05 50 4c 41 49 4e 00 00 00 0c 00 67 75 65 73 74 "
     "00 67 75 65 73 74 05 65 6e 5f 55 53 ce",
     "0 connection.start-ok client-properties={capabilities=table {basic.nack=bool true}} "
     "mechanism=\"PLAIN\" response=\"\\x00guest\\x00guest\" locale=\"en_US\""},
    {"01 00 00 00 00 00 0c 00 0a 00 1f 07 ff 00 02 00 00 00 3c ce",
     "0 connection.tune-ok channel-max=2047 frame-max=131072 heartbeat=60"},
    {"01 00 01 00 00 00 05 00 14 00 0a 00 ce", "1 channel.open"},
    {"01 00 01 00 00 00 0d 00 32 00 0a 00 00 01 71 02 00 00 00 00 ce",
     "1 queue.declare queue=\"q\" passive=false durable=true exclusive=false auto-delete=false "
     "no-wait=false arguments={}"},
    {"01 00 01 00 00 00 0e 00 32 00 0b 01 71 00 00 00 00 00 00 00 00 ce",
     "1 queue.declare-ok queue=\"q\" message-count=0 consumer-count=0"},
    {"01 00 01 00 00 00 0a 00 3c 00 28 00 00 00 01 71 01 ce",
     "1 basic.publish exchange=\"\" routing-key=\"q\" mandatory=true immediate=false"},
};

Test(method, reference_examples_decode_and_encode_to_the_same_bytes)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(examples); i++) {
        uint8_t raw[256];
        const struct bytes frame_bytes = test_hex(examples[i].hex, raw, sizeof(raw));
        struct wire_frame_reader reader;
        wire_frame_reader_init(&reader, 4096);
        struct bytes input = frame_bytes;
        struct wire_frame frame;
        cr_assert_eq(wire_frame_next(&reader, &input, &frame), WIRE_READ_FRAME);
        cr_assert_eq(frame.type, WIRE_FRAME_METHOD);
        struct wire_method method;
        cr_assert_eq(wire_method_decode(frame.payload, &method), WIRE_OK);

        char array[512];
        struct strbuf text;
        strbuf_init(&text, array, sizeof(array));
        strbuf_printf(&text, "%u ", frame.channel);
        wire_describe_method(&text, &method);
        cr_assert_str_eq(text.data, examples[i].text);

        uint8_t out[256];
        cr_assert_eq(wire_method_frame_size(&method), frame_bytes.size);
        const uint8_t *end = wire_method_frame_write(out, frame.channel, &method);
        cr_assert(bytes_eq(bytes_make(out, (size_t)(end - out)), frame_bytes));
        wire_frame_reader_deinit(&reader);
    }
}

Test(method, every_method_survives_a_round_trip_with_random_fields)
{
    struct prng p;
    prng_init(&p, 7);
    uint8_t *out = wr_alloc(1 << 16);
    for (size_t i = 0; i < wire_method_count(); i++) {
        for (int round = 0; round < 100; round++) {
            const struct wire_method method = test_random_method(&p, wire_method_at(i));
            const size_t size = wire_method_size(&method);
            cr_assert_lt(size, 1u << 16);
            out[size] = 0xa5;
            cr_assert_eq(wire_method_write(out, &method), out + size);
            cr_assert_eq(out[size], 0xa5);
            struct wire_method again;
            cr_assert_eq(wire_method_decode(bytes_make(out, size), &again), WIRE_OK);
            cr_assert(test_method_equal(&method, &again), "%s",
                      wire_method_name((uint32_t)method.id));
        }
    }
    wr_free(out);
}

Test(method, every_shortened_or_lengthened_payload_is_a_fault_that_names_the_method)
{
    struct prng p;
    prng_init(&p, 8);
    uint8_t *out = wr_alloc(1 << 16);
    for (size_t i = 0; i < wire_method_count(); i++) {
        const struct wire_method method = test_random_method(&p, wire_method_at(i));
        const size_t size = wire_method_size(&method);
        wire_method_write(out, &method);
        struct wire_method again;
        for (size_t cut = 0; cut < size; cut++) {
            /* A copy of exactly that size, so that the sanitizer sees any read past it. */
            uint8_t *copy = wr_memdup(out, cut);
            const enum wire_fault fault = wire_method_decode(bytes_make(copy, cut), &again);
            cr_assert(fault == WIRE_FAULT_TRUNCATED, "%s", wire_fault_text(fault));
            cr_assert_eq(again.id, cut < 4 ? WIRE_METHOD_NONE : method.id);
            wr_free(copy);
        }
        out[size] = 0;
        cr_assert_eq(wire_method_decode(bytes_make(out, size + 1), &again), WIRE_FAULT_TRAILING);
        cr_assert_eq(again.id, method.id);
    }
    wr_free(out);
}

Test(method, ids_that_do_not_exist_are_unknown)
{
    static const uint16_t ids[][2] = {{60, 0}, {60, 999}, {0, 0}, {10, 12}, {40, 41}, {91, 10}};
    for (size_t i = 0; i < WR_ARRAY_SIZE(ids); i++) {
        uint8_t raw[4];
        bytes_store_be16(raw, ids[i][0]);
        bytes_store_be16(raw + 2, ids[i][1]);
        struct wire_method method;
        cr_assert_eq(wire_method_decode(bytes_make(raw, 4), &method), WIRE_FAULT_UNKNOWN_METHOD);
        cr_assert_eq(wire_class_of(method.id), ids[i][0]);
        cr_assert_eq(wire_method_of(method.id), ids[i][1]);
        cr_assert_null(wire_method_info((uint32_t)method.id));
        cr_assert_str_eq(wire_method_name((uint32_t)method.id), "unknown");
    }
    cr_assert_eq(wire_fault_code(WIRE_FAULT_UNKNOWN_METHOD), 503);
}

Test(method, bad_utf8_is_refused_in_shortstr_only)
{
    uint8_t raw[64];
    struct wire_method method;
    /* queue.purge-like: basic.consume-ok with a tag of two bytes that are no UTF-8 */
    struct bytes payload = test_hex("00 3c 00 15 02 c3 28", raw, sizeof(raw));
    cr_assert_eq(wire_method_decode(payload, &method), WIRE_FAULT_UTF8);
    cr_assert_eq(method.id, WIRE_BASIC_CONSUME_OK);
    cr_assert_str_eq(wire_fault_text(WIRE_FAULT_UTF8), "Malformed UTF-8 in shortstr");
    payload = test_hex("00 3c 00 15 02 c3 a4", raw, sizeof(raw));
    cr_assert_eq(wire_method_decode(payload, &method), WIRE_OK);
    /* RabbitMQ takes any octets as the exchange and the key of a message. */
    payload = test_hex("00 3c 00 28 00 00 00 02 c3 28 00", raw, sizeof(raw));
    cr_assert_eq(wire_method_decode(payload, &method), WIRE_OK);
    cr_assert_eq(method.basic_publish.routing_key.size, 2);
    /* The same two bytes are fine in a longstr. */
    payload = test_hex("00 0a 00 15 00 00 00 02 c3 28", raw, sizeof(raw));
    cr_assert_eq(wire_method_decode(payload, &method), WIRE_OK);
    cr_assert_eq(method.connection_secure_ok.response.size, 2);
}

Test(method, bits_are_packed_from_the_lowest_one)
{
    struct wire_method method = {.id = WIRE_QUEUE_DECLARE};
    static const uint8_t expected[] = {1, 2, 4, 8, 16};
    bool *const bits[] = {&method.queue_declare.passive, &method.queue_declare.durable,
                          &method.queue_declare.exclusive, &method.queue_declare.auto_delete,
                          &method.queue_declare.no_wait};
    for (size_t i = 0; i < WR_ARRAY_SIZE(bits); i++) {
        *bits[i] = true;
        uint8_t out[32];
        cr_assert_eq(wire_method_size(&method), 12);
        wire_method_write(out, &method);
        cr_assert_eq(out[7], expected[i]);
        *bits[i] = false;
    }
}

Test(method, table_flags_say_who_sends_and_what_carries_content)
{
    size_t with_content = 0;
    for (size_t i = 0; i < wire_method_count(); i++) {
        const struct wire_method_info *info = wire_method_info((uint32_t)wire_method_at(i));
        cr_assert_not_null(info);
        cr_assert_neq(info->flags & WIRE_FROM_BOTH, 0);
        with_content += (info->flags & WIRE_HAS_CONTENT) != 0;
    }
    cr_assert_eq(with_content, 4); /* publish, return, deliver, get-ok */
    cr_assert_eq(WIRE_EXCHANGE_UNBIND_OK, WIRE_METHOD_ID(40, 51));
}

Test(method, reply_codes_have_names_and_levels)
{
    cr_assert_str_eq(wire_reply_name(404), "NOT_FOUND");
    cr_assert_str_eq(wire_reply_name(WIRE_NOT_IMPLEMENTED), "NOT_IMPLEMENTED");
    cr_assert_str_eq(wire_reply_name(999), "UNKNOWN");
    cr_assert(!wire_reply_is_connection_error(406));
    cr_assert(wire_reply_is_connection_error(530));
    cr_assert(wire_reply_is_connection_error(999));
    cr_assert_eq(wire_fault_code(WIRE_OK), 200);
}

Test(method, reply_text_is_cut_to_255_bytes_with_dots)
{
    char out[WIRE_REPLY_TEXT_SIZE];
    struct bytes text = wire_reply_text(out, 404, "no queue '%s' in vhost '/'", "q");
    cr_assert(bytes_eq_cstr(text, "NOT_FOUND - no queue 'q' in vhost '/'"));
    char name[300];
    memset(name, 'n', sizeof(name));
    text = wire_reply_text(out, 404, "no queue '%.*s' in vhost '/'", 255, name);
    cr_assert_eq(text.size, 255);
    cr_assert(bytes_eq_cstr(bytes_make(text.data + 252, 3), "..."));
    /* Two-byte letters: none is cut in two. */
    for (size_t i = 0; i + 1 < sizeof(name); i += 2) {
        memcpy(name + i, "\xc3\xa4", 2);
    }
    for (int shift = 0; shift < 4; shift++) {
        text = wire_reply_text(out, 404, "%.*s%.*s", shift, "xxxx", 290, name);
        cr_assert_leq(text.size, 255);
        cr_assert(str_is_utf8(text));
    }
}

Test(method, shortstr_cut_never_splits_a_sequence)
{
    uint8_t text[400];
    memset(text, 'a', sizeof(text));
    cr_assert_eq(wire_shortstr_cut(bytes_make(text, 255)).size, 255);
    cr_assert_eq(wire_shortstr_cut(bytes_make(text, 256)).size, 255);
    memcpy(text + 253, "\xe2\x82\xac", 3);
    cr_assert_eq(wire_shortstr_cut(bytes_make(text, 300)).size, 253);
    memset(text, 0x80, sizeof(text)); /* no UTF-8 at all */
    cr_assert_eq(wire_shortstr_cut(bytes_make(text, 300)).size, 255);
}

Test(method, binaries_print_as_erlang_prints_them)
{
    char array[64];
    struct strbuf s;
    strbuf_init(&s, array, sizeof(array));
    wire_describe_binary(&s, BYTES_NONE, 10);
    strbuf_add_char(&s, ' ');
    wire_describe_binary(&s, BYTES_LITERAL("ab"), 10);
    strbuf_add_char(&s, ' ');
    wire_describe_binary(&s, bytes_make("\0\1\377", 3), 10);
    strbuf_add_char(&s, ' ');
    wire_describe_binary(&s, bytes_make("\0\1\377", 3), 2);
    cr_assert_str_eq(s.data, "<<>> <<\"ab\">> <<0,1,255>> <<0,1,...>>");
}
