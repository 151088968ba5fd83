/*
 * What: the content header and the properties of class basic, generated from WIRE_PROPS_TABLE.
 * Invariants: I1 decoding what wire_props_write wrote gives the same fields; encoding what was
 * decoded gives the same bytes (bit 1 of the flags, which means nothing, apart). I2 only the cursor
 * of bytes.h reads input. Spec: AMQP 0-9-1 section 4.2.6.1; docs/amqp-0-9-1.md, "Content header".
 * Bit 0 of the flags would announce a second flag word, which no property of class basic needs: it
 * is refused.
 */
#include "warren/wire_props.h"

#include "warren/wire_table.h"
#include "wire_internal.h"

static const uint8_t no_props[2] = {0, 0};
const struct bytes wire_props_empty = {no_props, sizeof(no_props)};

#define ALL_PROPS UINT16_C(0xfffc)

enum wire_fault wire_header_decode(struct bytes payload, struct wire_header *ret_header)
{
    struct reader r = reader_from(payload);
    struct wire_header h;
    h.class_id = rd_be16(&r);
    h.weight = rd_be16(&r);
    h.body_size = rd_be64(&r);
    h.props = rd_bytes(&r, rd_left(&r));
    if (WR_UNLIKELY(r.failed || h.props.size < 2)) {
        return WIRE_FAULT_TRUNCATED;
    }
    *ret_header = h;
    return WIRE_OK;
}

static inline struct bytes read_SHORTSTR(struct reader *r)
{
    const uint8_t size = rd_u8(r);
    return rd_bytes(r, size);
}

static inline struct bytes read_TABLE(struct reader *r)
{
    const uint32_t size = rd_be32(r);
    return rd_bytes(r, size);
}

static inline uint8_t read_OCTET(struct reader *r)
{
    return rd_u8(r);
}

static inline uint64_t read_TIMESTAMP(struct reader *r)
{
    return rd_be64(r);
}

enum wire_fault wire_props_decode(struct bytes raw, struct wire_props *ret_props)
{
    struct reader r = reader_from(raw);
    struct wire_props p = {.flags = rd_be16(&r)};
    if (WR_UNLIKELY((p.flags & 1) != 0)) {
        return WIRE_FAULT_PROPERTY_FLAGS;
    }
    p.flags &= ALL_PROPS;
#define READ_PROP(upper, lower, bit, kind)                                                         \
    if ((p.flags & WIRE_PROP_##upper) != 0) {                                                      \
        p.lower = read_##kind(&r);                                                                 \
    }
    if (p.flags != 0) {
        WIRE_PROPS_TABLE(READ_PROP)
    }
#undef READ_PROP
    if (WR_UNLIKELY(r.failed)) {
        return WIRE_FAULT_TRUNCATED;
    }
    if (WR_UNLIKELY(!rd_done(&r))) {
        return WIRE_FAULT_TRAILING;
    }
    *ret_props = p;
    return WIRE_OK;
}

enum wire_fault wire_props_validate(struct bytes raw, const struct wire_table_limits *limits,
                                    struct wire_props *ret_props)
{
    struct wire_props p;
    enum wire_fault fault = wire_props_decode(raw, &p);
    if (fault == WIRE_OK && p.headers.size > 0) {
        fault = wire_table_validate(p.headers, limits);
    }
    if (fault == WIRE_OK) {
        *ret_props = p;
    }
    return fault;
}

/* The encoded value of one property: strings and tables without their length. */
static bool find_raw(struct bytes raw, enum wire_prop prop, struct bytes *ret_value)
{
    struct reader r = reader_from(raw);
    const uint16_t flags = rd_be16(&r);
    if ((flags & (uint16_t)prop) == 0 || (flags & 1) != 0) {
        return false;
    }
#define FIND_SHORTSTR  read_SHORTSTR(&r)
#define FIND_TABLE     read_TABLE(&r)
#define FIND_OCTET     rd_bytes(&r, 1)
#define FIND_TIMESTAMP rd_bytes(&r, 8)
#define FIND_PROP(upper, lower, bit, kind)                                                         \
    if ((flags & WIRE_PROP_##upper) != 0) {                                                        \
        const struct bytes value = FIND_##kind;                                                    \
        if (WIRE_PROP_##upper == prop) {                                                           \
            *ret_value = value;                                                                    \
            return !r.failed;                                                                      \
        }                                                                                          \
    }
    WIRE_PROPS_TABLE(FIND_PROP)
#undef FIND_PROP
    return false;
}

bool wire_props_get(struct bytes raw, enum wire_prop prop, struct bytes *ret_value)
{
    WR_ASSERT(prop != WIRE_PROP_DELIVERY_MODE && prop != WIRE_PROP_PRIORITY &&
              prop != WIRE_PROP_TIMESTAMP);
    struct bytes value = BYTES_NONE;
    if (!find_raw(raw, prop, &value)) {
        return false;
    }
    *ret_value = value;
    return true;
}

bool wire_props_get_number(struct bytes raw, enum wire_prop prop, uint64_t *ret_value)
{
    WR_ASSERT(prop == WIRE_PROP_DELIVERY_MODE || prop == WIRE_PROP_PRIORITY ||
              prop == WIRE_PROP_TIMESTAMP);
    struct bytes value = BYTES_NONE;
    if (!find_raw(raw, prop, &value)) {
        return false;
    }
    *ret_value = value.size == 1 ? value.data[0] : bytes_load_be64(value.data);
    return true;
}

static inline size_t size_SHORTSTR(struct bytes text)
{
    WR_ASSERT_OP(text.size, <=, 255);
    return 1 + text.size;
}

static inline size_t size_TABLE(struct bytes table)
{
    WR_ASSERT_OP(table.size, <=, UINT32_MAX);
    return 4 + table.size;
}

static inline size_t size_OCTET(uint8_t value)
{
    (void)value;
    return 1;
}

static inline size_t size_TIMESTAMP(uint64_t value)
{
    (void)value;
    return 8;
}

size_t wire_props_size(const struct wire_props *props)
{
    size_t size = 2;
#define SIZE_PROP(upper, lower, bit, kind)                                                         \
    if ((props->flags & WIRE_PROP_##upper) != 0) {                                                 \
        size += size_##kind(props->lower);                                                         \
    }
    WIRE_PROPS_TABLE(SIZE_PROP)
#undef SIZE_PROP
    return size;
}

static inline uint8_t *store_SHORTSTR(uint8_t *out, struct bytes text)
{
    return wire__store_shortstr(out, text);
}

static inline uint8_t *store_TABLE(uint8_t *out, struct bytes table)
{
    bytes_store_be32(out, (uint32_t)table.size);
    return wire__store_bytes(out + 4, table);
}

static inline uint8_t *store_OCTET(uint8_t *out, uint8_t value)
{
    *out = value;
    return out + 1;
}

static inline uint8_t *store_TIMESTAMP(uint8_t *out, uint64_t value)
{
    bytes_store_be64(out, value);
    return out + 8;
}

uint8_t *wire_props_write(uint8_t *out, const struct wire_props *props)
{
    bytes_store_be16(out, props->flags & ALL_PROPS);
    out += 2;
#define STORE_PROP(upper, lower, bit, kind)                                                        \
    if ((props->flags & WIRE_PROP_##upper) != 0) {                                                 \
        out = store_##kind(out, props->lower);                                                     \
    }
    WIRE_PROPS_TABLE(STORE_PROP)
#undef STORE_PROP
    return out;
}

void wire_props_put(struct writer *w, const struct wire_props *props)
{
    const size_t size = wire_props_size(props);
    uint8_t *out = put_space(w, size);
    const uint8_t *end = wire_props_write(out, props);
    WR_ASSERT(end == out + size);
}
