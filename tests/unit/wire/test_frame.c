/* What: tests of the protocol header, the incremental frame reader and the frame writers. */
#include <criterion/criterion.h>

#include "wire_test.h"

Test(protocol, headers_are_told_apart)
{
    static const struct {
        const char *hex;
        enum wire_protocol protocol;
        uint8_t major, minor;
    } rows[] = {
        {"41 4d 51 50 00 00 09 01", WIRE_PROTOCOL_AMQP, 0, 9},
        {"41 4d 51 50 01 01 00 09", WIRE_PROTOCOL_AMQP, 0, 9},
        {"41 4d 51 50 01 01 08 00", WIRE_PROTOCOL_AMQP, 8, 0},
        {"41 4d 51 50 01 01 09 01", WIRE_PROTOCOL_AMQP, 8, 0},
        {"41 4d 51 50 00 01 00 00", WIRE_PROTOCOL_AMQP_1_0, 0, 0},
        {"41 4d 51 50 02 01 00 00", WIRE_PROTOCOL_AMQP_1_0_TLS, 0, 0},
        {"41 4d 51 50 03 01 00 00", WIRE_PROTOCOL_AMQP_1_0_SASL, 0, 0},
        {"41 4d 51 50 00 00 0a 00", WIRE_PROTOCOL_BAD, 0, 0},
        {"16 03 01 02 00 01 00 01", WIRE_PROTOCOL_TLS, 0, 0},
        {"47 45 54 20 2f 20 48 54", WIRE_PROTOCOL_HTTP, 0, 0},
        {"00 00 00 00 00 00 00 00", WIRE_PROTOCOL_BAD, 0, 0},
        {"41 4d 51 50 00 00 09", WIRE_PROTOCOL_INCOMPLETE, 0, 0},
        {"", WIRE_PROTOCOL_INCOMPLETE, 0, 0},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(rows); i++) {
        uint8_t raw[16];
        uint8_t major = 0;
        uint8_t minor = 0;
        const struct bytes input = test_hex(rows[i].hex, raw, sizeof(raw));
        cr_assert_eq(wire_protocol_parse(input, &major, &minor), rows[i].protocol, "%s",
                     rows[i].hex);
        cr_assert(major == rows[i].major && minor == rows[i].minor);
    }
    cr_assert_eq(memcmp(wire_protocol_header, "AMQP\0\0\11\1", 8), 0);
}

/* A stream of frames of many sizes, and what the reader must give back. */
struct stream {
    struct writer w;
    unsigned count;
    uint8_t types[64];
    uint16_t channels[64];
    uint32_t sizes[64];
};

static void stream_init(struct stream *s, struct prng *p, uint32_t size_max)
{
    static const uint8_t types[] = {1, 2, 3, 8};
    writer_init(&s->w, 4096);
    s->count = 64;
    for (unsigned i = 0; i < s->count; i++) {
        s->types[i] = types[prng_below(p, 4)];
        s->channels[i] = (uint16_t)prng_u64(p);
        s->sizes[i] = (uint32_t)prng_below(p, prng_ratio(p, 1, 4) ? size_max : 40);
        uint8_t *out = put_space(&s->w, s->sizes[i] + WIRE_FRAME_OVERHEAD);
        out = wire_frame_begin(out, s->types[i], s->channels[i], s->sizes[i]);
        memset(out, (int)(uint8_t)i, s->sizes[i]);
        out[s->sizes[i]] = WIRE_FRAME_END;
    }
}

static void check_frame(const struct stream *s, unsigned i, const struct wire_frame *frame)
{
    cr_assert_lt(i, s->count);
    cr_assert_eq(frame->type, s->types[i]);
    cr_assert_eq(frame->channel, s->channels[i]);
    cr_assert_eq(frame->payload.size, s->sizes[i]);
    for (uint32_t j = 0; j < s->sizes[i]; j++) {
        cr_assert_eq(frame->payload.data[j], (uint8_t)i);
    }
}

Test(reader, frames_are_the_same_however_the_stream_is_cut)
{
    struct prng p;
    prng_init(&p, 11);
    for (int round = 0; round < 200; round++) {
        struct stream s;
        stream_init(&s, &p, 3000);
        struct wire_frame_reader reader;
        wire_frame_reader_init(&reader, 4096);
        const struct bytes all = writer_bytes(&s.w);
        const uint64_t piece_max = round % 10 == 0 ? 1 : prng_between(&p, 1, 6000);
        unsigned seen = 0;
        for (size_t at = 0; at < all.size;) {
            size_t size = prng_between(&p, 1, piece_max);
            size = size < all.size - at ? size : all.size - at;
            /* The piece's memory is gone after the loop: nothing may point into it any more. */
            uint8_t *copy = wr_memdup(all.data + at, size);
            struct bytes input = bytes_make(copy, size);
            struct wire_frame frame;
            enum wire_read result;
            while ((result = wire_frame_next(&reader, &input, &frame)) == WIRE_READ_FRAME) {
                check_frame(&s, seen++, &frame);
            }
            cr_assert_eq(result, WIRE_READ_MORE);
            cr_assert_eq(input.size, 0);
            wr_free(copy);
            at += size;
        }
        cr_assert_eq(seen, s.count);
        cr_assert_null(reader.partial);
        wire_frame_reader_deinit(&reader);
        writer_deinit(&s.w);
    }
}

Test(reader, whole_frames_are_views_into_the_input)
{
    uint8_t raw[64];
    struct bytes input = test_hex("03 00 01 00 00 00 02 68 69 ce 08 00 00 00 00 00 00 ce", raw, 64);
    struct wire_frame_reader reader;
    wire_frame_reader_init(&reader, 4096);
    struct wire_frame frame;
    cr_assert_eq(wire_frame_next(&reader, &input, &frame), WIRE_READ_FRAME);
    cr_assert_eq(frame.payload.data, raw + 7);
    cr_assert_eq(wire_frame_next(&reader, &input, &frame), WIRE_READ_FRAME);
    cr_assert_eq(frame.type, WIRE_FRAME_HEARTBEAT);
    cr_assert_eq(wire_frame_next(&reader, &input, &frame), WIRE_READ_MORE);
    cr_assert_null(reader.partial);
}

/* Feed the bytes at once and one by one: the same fault each time, and it stays. */
static void expect_fault(const char *hex, uint32_t frame_max, enum wire_fault fault,
                         const char *text)
{
    for (int one_by_one = 0; one_by_one < 2; one_by_one++) {
        uint8_t raw[64];
        const struct bytes all = test_hex(hex, raw, sizeof(raw));
        struct wire_frame_reader reader;
        wire_frame_reader_init(&reader, frame_max);
        struct wire_frame frame;
        enum wire_read result = WIRE_READ_MORE;
        const size_t step = one_by_one != 0 ? 1 : all.size;
        for (size_t at = 0; at < all.size && result == WIRE_READ_MORE; at += step) {
            struct bytes input = bytes_make(all.data + at, step);
            result = wire_frame_next(&reader, &input, &frame);
        }
        cr_assert_eq(result, WIRE_READ_FAULT);
        cr_assert_eq(reader.fault, fault);
        char array[128];
        struct strbuf s;
        strbuf_init(&s, array, sizeof(array));
        wire_frame_reader_describe_fault(&reader, &s);
        cr_assert_str_eq(s.data, text);
        struct bytes good = bytes_make(wire_protocol_header, 8);
        cr_assert_eq(wire_frame_next(&reader, &good, &frame), WIRE_READ_FAULT);
        cr_assert_eq(good.size, 8);
        wire_frame_reader_deinit(&reader);
    }
}

Test(reader, faults_are_found_and_described_as_rabbitmq_does)
{
    expect_fault("03 00 01 00 00 10 01", 4096, WIRE_FAULT_FRAME_SIZE,
                 "type 3, all octets = <<>>: {frame_too_large,4097,4088}");
    expect_fault("03 00 01 ff ff ff ff", 0, WIRE_FAULT_FRAME_SIZE,
                 "type 3, all octets = <<>>: {frame_too_large,4294967295,536875000}");
    expect_fault("03 00 01 00 00 00 01 41 cd", 4096, WIRE_FAULT_FRAME_END,
                 "type 3, all octets = <<>>: {invalid_frame_end_marker,205}");
    expect_fault("00 00 01 00 00 00 00", 4096, WIRE_FAULT_FRAME_TYPE,
                 "type 0, all octets = <<>>: unknown_frame");
    expect_fault("04 00 01 00 00 00 00", 4096, WIRE_FAULT_FRAME_TYPE,
                 "type 4, all octets = <<>>: unknown_frame");
    expect_fault("47 45 54 20 2f 20 48", 4096,
                 WIRE_FAULT_FRAME_SIZE, /* the size is looked at first */
                 "type 71, all octets = <<>>: {frame_too_large,539959368,4088}");
}

Test(reader, eight_bytes_over_the_strict_limit_pass)
{
    struct wire_frame_reader reader;
    wire_frame_reader_init(&reader, 8192);
    wire_frame_reader_set_max(&reader, 4096);
    uint8_t *raw = wr_calloc(1, 4096 + WIRE_FRAME_OVERHEAD);
    wire_frame_begin(raw, WIRE_FRAME_BODY, 1, 4096);
    raw[4096 + 7] = WIRE_FRAME_END;
    struct bytes input = bytes_make(raw, 4096 + WIRE_FRAME_OVERHEAD);
    struct wire_frame frame;
    cr_assert_eq(wire_frame_next(&reader, &input, &frame), WIRE_READ_FRAME);
    cr_assert_eq(frame.payload.size, 4096);
    wr_free(raw);
}

Test(reader, memory_grows_with_what_arrives_and_not_with_what_is_announced)
{
    struct wire_frame_reader reader;
    wire_frame_reader_init(&reader, 0);
    uint8_t raw[64];
    /* 256 MiB announced, two bytes sent */
    struct bytes input = test_hex("03 00 01 10 00 00 00 41 42", raw, sizeof(raw));
    struct wire_frame frame;
    cr_assert_eq(wire_frame_next(&reader, &input, &frame), WIRE_READ_MORE);
    cr_assert_leq(reader.partial->capacity, 4096);
    wire_frame_reader_deinit(&reader);
}

/* All that is queued, in one piece. */
static struct bytes drain(struct outq *q, struct writer *w)
{
    writer_clear(w);
    struct slice parts[8];
    int count;
    while ((count = outq_take(q, parts, 8)) > 0) {
        for (int i = 0; i < count; i++) {
            put_view(w, bytes_from_slice(&parts[i]));
            slice_unref(&parts[i]);
        }
    }
    return writer_bytes(w);
}

/* Read back method, header and body frames; checks order, sizes and the body's bytes. */
static void check_content(struct bytes sent, const struct wire_method *method, struct bytes props,
                          struct bytes body, uint32_t frame_max)
{
    struct wire_frame_reader reader;
    wire_frame_reader_init(&reader, frame_max == 0 ? 0 : frame_max - WIRE_FRAME_OVERHEAD);
    struct wire_frame frame;
    cr_assert_eq(wire_frame_next(&reader, &sent, &frame), WIRE_READ_FRAME);
    cr_assert(frame.type == WIRE_FRAME_METHOD && frame.channel == 5);
    struct wire_method got;
    cr_assert_eq(wire_method_decode(frame.payload, &got), WIRE_OK);
    cr_assert(test_method_equal(method, &got));
    cr_assert_eq(wire_frame_next(&reader, &sent, &frame), WIRE_READ_FRAME);
    cr_assert(frame.type == WIRE_FRAME_HEADER && frame.channel == 5);
    struct wire_header header;
    cr_assert_eq(wire_header_decode(frame.payload, &header), WIRE_OK);
    cr_assert(header.class_id == 60 && header.weight == 0 && header.body_size == body.size);
    cr_assert(bytes_eq(header.props, props));
    while (body.size > 0) {
        cr_assert_eq(wire_frame_next(&reader, &sent, &frame), WIRE_READ_FRAME);
        cr_assert(frame.type == WIRE_FRAME_BODY && frame.channel == 5);
        cr_assert(frame.payload.size > 0 && frame.payload.size <= body.size);
        cr_assert_eq(memcmp(frame.payload.data, body.data, frame.payload.size), 0);
        body.data += frame.payload.size;
        body.size -= frame.payload.size;
    }
    cr_assert_eq(sent.size, 0);
    wire_frame_reader_deinit(&reader);
}

Test(writer, contents_of_all_sizes_and_frame_limits_read_back_the_same)
{
    static const uint32_t sizes[] = {0,    1,    2,    511,  512,  513,   4087,   4088,  4089,
                                     4096, 4097, 8176, 8177, 9000, 70000, 131064, 400000};
    static const uint32_t limits[] = {0, 9, 4096, 8192, 131072};
    struct prng p;
    prng_init(&p, 3);
    struct outq q;
    outq_init(&q);
    struct writer w;
    writer_init(&w, 1 << 20);
    uint8_t *memory = wr_alloc(8 << 20);
    for (size_t i = 0; i < WR_ARRAY_SIZE(sizes); i++) {
        for (size_t j = 0; j < WR_ARRAY_SIZE(limits); j++) {
            if (limits[j] == 9 && sizes[i] > 9000) {
                continue;
            }
            struct buf *b = buf_new(sizes[i] + 1);
            prng_fill(&p, b->data, sizes[i]);
            b->size = sizes[i];
            const struct slice body = {b, 0, sizes[i]};
            const struct bytes view = bytes_from_slice(&body);
            const struct wire_content content = {wire_props_empty, &body, limits[j]};
            /* The reader of the test takes no frame over the strict limit; 9 is for bodies only. */
            const uint32_t check_max = limits[j] == 9 ? 0 : limits[j];
            struct wire_method m = test_random_method(&p, WIRE_BASIC_DELIVER);
            wire_send_deliver(&q, 5, &m.basic_deliver, &content);
            check_content(drain(&q, &w), &m, content.props, view, check_max);
            m = test_random_method(&p, WIRE_BASIC_GET_OK);
            wire_send_content(&q, 5, &m, &content);
            check_content(drain(&q, &w), &m, content.props, view, check_max);
            m = test_random_method(&p, WIRE_BASIC_PUBLISH);
            const size_t size = wire_publish_size(&m.basic_publish, 2, view.size, limits[j]);
            cr_assert_eq(
                wire_publish_write(memory, 5, &m.basic_publish, content.props, view, limits[j]),
                memory + size);
            check_content(bytes_make(memory, size), &m, content.props, view, check_max);
            buf_unref(b);
        }
    }
    wr_free(memory);
    writer_deinit(&w);
    outq_deinit(&q);
}

Test(writer, a_large_body_is_referenced_and_released)
{
    struct outq q;
    outq_init(&q);
    struct buf *b = buf_new(100000);
    memset(b->data, 'b', 100000);
    b->size = 100000;
    const struct slice body = {b, 0, 100000};
    const struct wire_content content = {wire_props_empty, &body, 131072};
    const struct wire_basic_deliver deliver = {.consumer_tag = BYTES_LITERAL("c")};
    wire_send_deliver(&q, 1, &deliver, &content);
    cr_assert(buf_is_shared(b));
    outq_deinit(&q);
    cr_assert(!buf_is_shared(b));
    buf_unref(b);
}

Test(writer, small_frames_have_the_reference_bytes)
{
    uint8_t raw[64];
    uint8_t out[64];
    struct bytes expected = test_hex("08 00 00 00 00 00 00 ce", raw, sizeof(raw));
    cr_assert_eq(wire_heartbeat_write(out), out + 8);
    cr_assert_eq(memcmp(out, expected.data, 8), 0);
    const struct bytes hi = BYTES_LITERAL("hi");
    expected = test_hex("03 00 01 00 00 00 02 68 69 ce", raw, sizeof(raw));
    cr_assert_eq(wire_body_frames_write(out, 1, hi, 4096), out + 10);
    cr_assert_eq(memcmp(out, expected.data, 10), 0);

    struct wire_method ack = {.id = WIRE_BASIC_ACK, .basic_ack = {.delivery_tag = 7}};
    uint8_t generic[32];
    for (int multiple = 0; multiple < 2; multiple++) {
        ack.basic_ack.multiple = multiple != 0;
        wire_method_frame_write(generic, 9, &ack);
        cr_assert_eq(wire_ack_frame_write(out, 9, 7, multiple != 0), out + WIRE_ACK_FRAME_SIZE);
        cr_assert_eq(memcmp(out, generic, WIRE_ACK_FRAME_SIZE), 0);
    }
    for (int bits = 0; bits < 4; bits++) {
        const struct wire_method nack = {.id = WIRE_BASIC_NACK,
                                         .basic_nack = {77, (bits & 1) != 0, (bits & 2) != 0}};
        wire_method_frame_write(generic, 9, &nack);
        wire_nack_frame_write(out, 9, 77, (bits & 1) != 0, (bits & 2) != 0);
        cr_assert_eq(memcmp(out, generic, WIRE_ACK_FRAME_SIZE), 0);
    }
    struct outq q;
    outq_init(&q);
    struct writer w;
    writer_init(&w, 64);
    wire_send_heartbeat(&q);
    wire_send_ack(&q, 9, 7, true);
    wire_send_nack(&q, 9, 77, true, true);
    const struct wire_method open = {.id = WIRE_CHANNEL_OPEN};
    wire_send_method(&q, 1, &open);
    cr_assert_eq(drain(&q, &w).size, 8 + 21 + 21 + 13);
    writer_deinit(&w);
    outq_deinit(&q);
}

Test(writer, body_frames_size_counts_every_frame)
{
    cr_assert_eq(wire_body_frames_size(0, 4096), 0);
    cr_assert_eq(wire_body_frames_size(1, 4096), 9);
    cr_assert_eq(wire_body_frames_size(4088, 4096), 4096);
    cr_assert_eq(wire_body_frames_size(4089, 4096), 4089 + 16);
    cr_assert_eq(wire_body_frames_size(1000000, 0), 1000008);
}
