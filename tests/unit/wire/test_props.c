/* What: tests of the content header and the properties. */
#include <criterion/criterion.h>

#include "wire_test.h"

/* The reference's example: content-type, headers {a: int32 1}, delivery-mode 2, body of 2 bytes. */
static const char example[] =
    "00 3c 00 00 00 00 00 00 00 00 00 02 b0 00 0a 74 65 78 74 2f 70 6c 61 "
    "69 6e 00 00 00 07 01 61 49 00 00 00 01 02";

Test(props, reference_example_decodes_and_encodes_to_the_same_bytes)
{
    uint8_t raw[64];
    const struct bytes payload = test_hex(example, raw, sizeof(raw));
    struct wire_header header;
    cr_assert_eq(wire_header_decode(payload, &header), WIRE_OK);
    cr_assert(header.class_id == 60 && header.weight == 0 && header.body_size == 2);
    struct wire_props props;
    cr_assert_eq(wire_props_validate(header.props, NULL, &props), WIRE_OK);
    char array[128];
    struct strbuf s;
    strbuf_init(&s, array, sizeof(array));
    wire_describe_props(&s, &props);
    cr_assert_str_eq(s.data, "content-type=\"text/plain\" headers={a=signedint 1} delivery-mode=2");
    uint8_t out[128];
    const uint8_t *end = wire_header_frame_write(out, 1, 2, header.props);
    cr_assert_eq(end, out + wire_header_frame_size(header.props.size));
    cr_assert_eq(memcmp(out + 7, payload.data, payload.size), 0);
    cr_assert_eq(wire_props_size(&props), header.props.size);
    cr_assert_eq(wire_props_write(out, &props), out + header.props.size);
    cr_assert_eq(memcmp(out, header.props.data, header.props.size), 0);
}

Test(props, getters_find_each_property_without_decoding_all)
{
    uint8_t raw[64];
    const struct bytes payload = test_hex(example, raw, sizeof(raw));
    const struct bytes props = bytes_make(payload.data + 12, payload.size - 12);
    struct bytes view;
    uint64_t number = 0;
    cr_assert(wire_props_get(props, WIRE_PROP_CONTENT_TYPE, &view));
    cr_assert(bytes_eq_cstr(view, "text/plain"));
    cr_assert_eq(wire_props_headers(props).size, 7);
    cr_assert(wire_props_get_number(props, WIRE_PROP_DELIVERY_MODE, &number));
    cr_assert_eq(number, 2);
    cr_assert(!wire_props_get_number(props, WIRE_PROP_PRIORITY, &number));
    cr_assert(!wire_props_get(props, WIRE_PROP_REPLY_TO, &view));
    cr_assert_eq(wire_props_headers(wire_props_empty).size, 0);
    /* Broken before the property that is asked for. */
    cr_assert(!wire_props_get_number(bytes_make(props.data, 8), WIRE_PROP_DELIVERY_MODE, &number));
}

/* All properties, each present or not as the bits say. */
static struct wire_props random_props(struct prng *p, struct bytes headers)
{
    struct wire_props props = {.flags = (uint16_t)(prng_u64(p) & 0xfffc)};
#define FILL_SHORTSTR  test_text(p, 255)
#define FILL_TABLE     headers
#define FILL_OCTET     (uint8_t) prng_u64(p)
#define FILL_TIMESTAMP prng_u64(p)
#define FILL(upper, lower, bit, kind)                                                              \
    if (wire_props_has(&props, WIRE_PROP_##upper)) {                                               \
        props.lower = FILL_##kind;                                                                 \
    }
    WIRE_PROPS_TABLE(FILL)
    return props;
}

static bool props_equal(const struct wire_props *a, const struct wire_props *b)
{
    bool equal = a->flags == b->flags;
#define SAME_SHORTSTR(x, y)           bytes_eq(x, y)
#define SAME_TABLE(x, y)              bytes_eq(x, y)
#define SAME_OCTET(x, y)              ((x) == (y))
#define SAME_TIMESTAMP(x, y)          ((x) == (y))
#define SAME(upper, lower, bit, kind) equal = equal && SAME_##kind(a->lower, b->lower);
    WIRE_PROPS_TABLE(SAME)
    return equal;
}

Test(props, random_properties_survive_a_round_trip_and_every_cut_is_noticed)
{
    struct prng p;
    prng_init(&p, 4);
    struct writer w;
    struct writer headers;
    writer_init(&w, 4096);
    writer_init(&headers, 256);
    for (int round = 0; round < 500; round++) {
        writer_clear(&headers);
        test_random_table(&p, &headers, 2);
        const struct wire_props props = random_props(&p, writer_bytes(&headers));
        writer_clear(&w);
        wire_props_put(&w, &props);
        const struct bytes raw = writer_bytes(&w);
        struct wire_props again;
        cr_assert_eq(wire_props_validate(raw, NULL, &again), WIRE_OK);
        cr_assert(props_equal(&props, &again));
#define CHECK_SHORTSTR(prop, field)                                                                \
    cr_assert(wire_props_get(raw, prop, &view) && bytes_eq(view, props.field));
#define CHECK_TABLE(prop, field) CHECK_SHORTSTR(prop, field)
#define CHECK_OCTET(prop, field)                                                                   \
    cr_assert(wire_props_get_number(raw, prop, &number) && number == props.field);
#define CHECK_TIMESTAMP(prop, field) CHECK_OCTET(prop, field)
#define CHECK(upper, lower, bit, kind)                                                             \
    if (wire_props_has(&props, WIRE_PROP_##upper)) {                                               \
        CHECK_##kind(WIRE_PROP_##upper, lower)                                                     \
    }
        struct bytes view;
        uint64_t number = 0;
        WIRE_PROPS_TABLE(CHECK)
        const size_t cut = prng_below(&p, raw.size);
        uint8_t *part = wr_memdup(raw.data, cut);
        cr_assert_eq(wire_props_decode(bytes_make(part, cut), &again), WIRE_FAULT_TRUNCATED);
        wr_free(part);
        put_u8(&w, 0);
        cr_assert_eq(wire_props_decode(writer_bytes(&w), &again), WIRE_FAULT_TRAILING);
    }
    writer_deinit(&w);
    writer_deinit(&headers);
}

Test(props, one_property_can_be_changed_added_or_removed)
{
    uint8_t raw[64];
    const struct bytes payload = test_hex(example, raw, sizeof(raw));
    struct wire_props props;
    cr_assert_eq(wire_props_decode(bytes_make(payload.data + 12, payload.size - 12), &props),
                 WIRE_OK);
    props.flags &= (uint16_t)~WIRE_PROP_CONTENT_TYPE;
    props.flags |= WIRE_PROP_EXPIRATION;
    props.expiration = BYTES_LITERAL("60000");
    struct writer w;
    writer_init(&w, 64);
    wire_props_put(&w, &props);
    uint8_t expected[64];
    const struct bytes hex = test_hex("31 00 00 00 00 07 01 61 49 00 00 00 01 02 05 36 30 30 30 30",
                                      expected, sizeof(expected));
    cr_assert(bytes_eq(writer_bytes(&w), hex));
    writer_deinit(&w);
}

Test(props, broken_headers_are_faults)
{
    uint8_t raw[64];
    struct wire_header header;
    struct wire_props props;
    cr_assert_eq(
        wire_header_decode(test_hex("00 3c 00 00 00 00 00 00 00 00 00 02 b0", raw, 64), &header),
        WIRE_FAULT_TRUNCATED);
    cr_assert_eq(wire_header_decode(BYTES_NONE, &header), WIRE_FAULT_TRUNCATED);
    cr_assert_eq(wire_props_decode(test_hex("00 01", raw, 64), &props), WIRE_FAULT_PROPERTY_FLAGS);
    cr_assert_eq(wire_props_decode(BYTES_NONE, &props), WIRE_FAULT_TRUNCATED);
    /* A headers table with an unknown letter: decodes, but does not validate. */
    const struct bytes bad = test_hex("20 00 00 00 00 04 01 61 7a 00", raw, 64);
    cr_assert_eq(wire_props_decode(bad, &props), WIRE_OK);
    cr_assert_eq(wire_props_validate(bad, NULL, &props), WIRE_FAULT_TABLE_TYPE);
}
