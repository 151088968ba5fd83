/*
 * What: fuzz target of the content header: the decoder, the getters and the encoder must agree, and
 * what was decoded must encode to the bytes it came from (but for one flag bit without a meaning).
 */
#include "fuzz.h"

#include "warren/wire_props.h"

static void check_getters(struct bytes raw, const struct wire_props *props)
{
    struct bytes view;
    uint64_t number;
#define GET_SHORTSTR(prop, field)                                                                  \
    WR_ASSERT(wire_props_get(raw, prop, &view) && bytes_eq(view, props->field))
#define GET_TABLE(prop, field) GET_SHORTSTR(prop, field)
#define GET_OCTET(prop, field)                                                                     \
    WR_ASSERT(wire_props_get_number(raw, prop, &number) && number == props->field)
#define GET_TIMESTAMP(prop, field) GET_OCTET(prop, field)
#define GET(upper, lower, bit, kind)                                                               \
    if (wire_props_has(props, WIRE_PROP_##upper)) {                                                \
        GET_##kind(WIRE_PROP_##upper, lower);                                                      \
    }
    WIRE_PROPS_TABLE(GET)
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_header header;
    if (wire_header_decode(bytes_make(data, size), &header) != WIRE_OK) {
        return 0;
    }
    (void)wire_props_headers(header.props);
    struct wire_props props;
    (void)!wire_props_validate(header.props, NULL, &props);
    if (wire_props_decode(header.props, &props) != WIRE_OK) {
        return 0;
    }
    check_getters(header.props, &props);
    char array[512];
    struct strbuf text;
    strbuf_init(&text, array, sizeof(array));
    wire_describe_props(&text, &props);

    struct writer w;
    writer_init(&w, size);
    wire_props_put(&w, &props);
    WR_ASSERT_OP(writer_size(&w), ==, header.props.size);
    WR_ASSERT(memcmp(writer_bytes(&w).data + 2, header.props.data + 2, header.props.size - 2) == 0);
    writer_deinit(&w);
    return 0;
}
