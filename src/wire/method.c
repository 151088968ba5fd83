/*
 * What: decoder, encoder and registry of the AMQP methods, all generated from wire_spec.def: for
 * each method the table expands to one straight-line function per job, which the compiler turns
 * into plain loads and stores. Invariants: I1 wire_method_write writes exactly wire_method_size
 * bytes. I2 the decoder reads only by the cursor of bytes.h and accepts exactly what the encoder
 * can write (reserved fields apart). Spec: AMQP 0-9-1 section 4.2.5 and the method tables of
 * docs/amqp-0-9-1.md.
 */
#include "warren/wire.h"

#include "wire_internal.h"

/* ---- decoding ---- */

/* State of the decoder: the cursor, and which bit of which octet comes next. */
struct decoder {
    struct reader r;
    unsigned bit; /* 0 = no octet of bits is open */
    uint8_t bits;
    bool bad_utf8;
};

static inline bool decode_bit(struct decoder *d)
{
    if (d->bit == 0 || d->bit == 8) {
        d->bits = rd_u8(&d->r);
        d->bit = 0;
    }
    return ((d->bits >> d->bit++) & 1) != 0;
}

static inline struct bytes decode_shortstr(struct decoder *d)
{
    const uint8_t size = rd_u8(&d->r);
    const struct bytes text = rd_bytes(&d->r, size);
    if (WR_UNLIKELY(!wire__is_ascii(text)) && !str_is_utf8(text)) {
        d->bad_utf8 = true;
    }
    return text;
}

static inline struct bytes decode_longstr(struct decoder *d)
{
    const uint32_t size = rd_be32(&d->r);
    return rd_bytes(&d->r, size);
}

#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    static inline void decode_##lower(struct decoder *d, struct wire_##lower *a)                   \
    {
#define METHOD_END(upper, lower) }
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    static inline void decode_##lower(struct decoder *d)                                           \
    {                                                                                              \
        d->bit = 0;
#define BARE_END(upper, lower) }
#define OCTET(name)                                                                                \
    d->bit = 0;                                                                                    \
    a->name = rd_u8(&d->r);
#define SHORT(name)                                                                                \
    d->bit = 0;                                                                                    \
    a->name = rd_be16(&d->r);
#define LONG(name)                                                                                 \
    d->bit = 0;                                                                                    \
    a->name = rd_be32(&d->r);
#define LONGLONG(name)                                                                             \
    d->bit = 0;                                                                                    \
    a->name = rd_be64(&d->r);
#define SHORTSTR(name)                                                                             \
    d->bit = 0;                                                                                    \
    a->name = decode_shortstr(d);
#define LONGSTR(name)                                                                              \
    d->bit = 0;                                                                                    \
    a->name = decode_longstr(d);
#define TABLE(name) LONGSTR(name)
#define BIT(name)   a->name = decode_bit(d);
#define RESERVED_SHORT                                                                             \
    d->bit = 0;                                                                                    \
    (void)rd_be16(&d->r);
#define RESERVED_SHORTSTR                                                                          \
    d->bit = 0;                                                                                    \
    (void)decode_shortstr(d);
#define RESERVED_LONGSTR                                                                           \
    d->bit = 0;                                                                                    \
    (void)decode_longstr(d);
#define RESERVED_BIT (void)decode_bit(d);
#include "warren/wire_spec.def"

/* Decode the arguments of a known method; false when the id is not in the table. */
static bool decode_arguments(struct decoder *d, struct wire_method *m)
{
    switch ((uint32_t)m->id) {
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    case WIRE_##upper:                                                                             \
        decode_##lower(d, &m->lower);                                                              \
        return true;
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    case WIRE_##upper:                                                                             \
        decode_##lower(d);                                                                         \
        return true;
#include "warren/wire_spec.def"
    default:
        return false;
    }
}

/* RabbitMQ lets any octets pass as the exchange and the key of a message. */
static bool carries_content(uint32_t id)
{
    return id == WIRE_BASIC_PUBLISH || id == WIRE_BASIC_DELIVER || id == WIRE_BASIC_GET_OK ||
           id == WIRE_BASIC_RETURN;
}

enum wire_fault wire_method_decode(struct bytes payload, struct wire_method *ret_method)
{
    struct decoder d = {.r = reader_from(payload)};
    const uint32_t id = rd_be32(&d.r);
    ret_method->id = d.r.failed ? WIRE_METHOD_NONE : (enum wire_method_id)id;
    if (WR_UNLIKELY(d.r.failed)) {
        return WIRE_FAULT_TRUNCATED;
    }
    /* The methods of every message first: a compare each instead of a search. */
    if (id == WIRE_BASIC_PUBLISH) {
        decode_basic_publish(&d, &ret_method->basic_publish);
    } else if (id == WIRE_BASIC_ACK) {
        decode_basic_ack(&d, &ret_method->basic_ack);
    } else if (id == WIRE_BASIC_DELIVER) {
        decode_basic_deliver(&d, &ret_method->basic_deliver);
    } else if (!decode_arguments(&d, ret_method)) {
        return WIRE_FAULT_UNKNOWN_METHOD;
    }
    if (WR_UNLIKELY(d.r.failed)) {
        return WIRE_FAULT_TRUNCATED;
    }
    if (WR_UNLIKELY(d.bad_utf8) && !carries_content(id)) {
        return WIRE_FAULT_UTF8;
    }
    if (WR_UNLIKELY(!rd_done(&d.r))) {
        return WIRE_FAULT_TRAILING;
    }
    return WIRE_OK;
}

/* ---- sizes ---- */

static inline size_t shortstr_size(struct bytes text)
{
    WR_ASSERT_OP(text.size, <=, 255);
    return 1 + text.size;
}

static inline size_t longstr_size(struct bytes text)
{
    WR_ASSERT_OP(text.size, <=, UINT32_MAX);
    return 4 + text.size;
}

/* Octets of bits are counted when they are opened. */
static inline size_t bit_size(unsigned *bit)
{
    const size_t size = *bit == 0 || *bit == 8 ? 1 : 0;
    *bit = size == 1 ? 1 : *bit + 1;
    return size;
}

#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    static inline size_t size_##lower(const struct wire_##lower *a)                                \
    {                                                                                              \
        size_t size = 0;                                                                           \
        unsigned bit = 0;                                                                          \
        (void)bit;                                                                                 \
        (void)a;
#define METHOD_END(upper, lower)                                                                   \
    return size;                                                                                   \
    }
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    static inline size_t size_##lower(void)                                                        \
    {                                                                                              \
        size_t size = 0;
#define BARE_END(upper, lower)                                                                     \
    return size;                                                                                   \
    }
#define OCTET(name)                                                                                \
    bit = 0;                                                                                       \
    size += 1;
#define SHORT(name)                                                                                \
    bit = 0;                                                                                       \
    size += 2;
#define LONG(name)                                                                                 \
    bit = 0;                                                                                       \
    size += 4;
#define LONGLONG(name)                                                                             \
    bit = 0;                                                                                       \
    size += 8;
#define SHORTSTR(name)                                                                             \
    bit = 0;                                                                                       \
    size += shortstr_size(a->name);
#define LONGSTR(name)                                                                              \
    bit = 0;                                                                                       \
    size += longstr_size(a->name);
#define TABLE(name)       LONGSTR(name)
#define BIT(name)         size += bit_size(&bit);
#define RESERVED_SHORT    size += 2;
#define RESERVED_SHORTSTR size += 1;
#define RESERVED_LONGSTR  size += 4;
#define RESERVED_BIT      size += bit_size(&bit);
#include "warren/wire_spec.def"

size_t wire_method_size(const struct wire_method *method)
{
    switch ((uint32_t)method->id) {
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    case WIRE_##upper:                                                                             \
        return 4 + size_##lower(&method->lower);
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    case WIRE_##upper:                                                                             \
        return 4 + size_##lower();
#include "warren/wire_spec.def"
    default:
        wr_panic("encoding a method that does not exist: %08x", (unsigned)method->id);
    }
}

/* ---- encoding ---- */

struct encoder {
    uint8_t *out;
    uint8_t *bits; /* the octet of bits that is open */
    unsigned bit;
};

static inline void encode_bit(struct encoder *e, bool value)
{
    if (e->bit == 0 || e->bit == 8) {
        e->bits = e->out++;
        *e->bits = 0;
        e->bit = 0;
    }
    *e->bits = (uint8_t)(*e->bits | ((value ? 1u : 0u) << e->bit));
    e->bit++;
}

static inline void encode_shortstr(struct encoder *e, struct bytes text)
{
    e->out = wire__store_shortstr(e->out, text);
}

static inline void encode_longstr(struct encoder *e, struct bytes text)
{
    bytes_store_be32(e->out, (uint32_t)text.size);
    e->out = wire__store_bytes(e->out + 4, text);
}

#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    static inline void encode_##lower(struct encoder *e, const struct wire_##lower *a)             \
    {
#define METHOD_END(upper, lower) }
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    static inline void encode_##lower(struct encoder *e)                                           \
    {                                                                                              \
        e->bit = 0;
#define BARE_END(upper, lower) }
#define OCTET(name)                                                                                \
    e->bit = 0;                                                                                    \
    *e->out++ = a->name;
#define SHORT(name)                                                                                \
    e->bit = 0;                                                                                    \
    bytes_store_be16(e->out, a->name);                                                             \
    e->out += 2;
#define LONG(name)                                                                                 \
    e->bit = 0;                                                                                    \
    bytes_store_be32(e->out, a->name);                                                             \
    e->out += 4;
#define LONGLONG(name)                                                                             \
    e->bit = 0;                                                                                    \
    bytes_store_be64(e->out, a->name);                                                             \
    e->out += 8;
#define SHORTSTR(name)                                                                             \
    e->bit = 0;                                                                                    \
    encode_shortstr(e, a->name);
#define LONGSTR(name)                                                                              \
    e->bit = 0;                                                                                    \
    encode_longstr(e, a->name);
#define TABLE(name) LONGSTR(name)
#define BIT(name)   encode_bit(e, a->name);
#define RESERVED_SHORT                                                                             \
    e->bit = 0;                                                                                    \
    bytes_store_be16(e->out, 0);                                                                   \
    e->out += 2;
#define RESERVED_SHORTSTR                                                                          \
    e->bit = 0;                                                                                    \
    *e->out++ = 0;
#define RESERVED_LONGSTR                                                                           \
    e->bit = 0;                                                                                    \
    bytes_store_be32(e->out, 0);                                                                   \
    e->out += 4;
#define RESERVED_BIT encode_bit(e, false);
#include "warren/wire_spec.def"

uint8_t *wire_method_write(uint8_t *out, const struct wire_method *method)
{
    struct encoder e = {.out = out + 4};
    bytes_store_be32(out, (uint32_t)method->id);
    switch ((uint32_t)method->id) {
#define METHOD(upper, lower, name, class_id, method_id, flags)                                     \
    case WIRE_##upper:                                                                             \
        encode_##lower(&e, &method->lower);                                                        \
        break;
#define BARE(upper, lower, name, class_id, method_id, flags)                                       \
    case WIRE_##upper:                                                                             \
        encode_##lower(&e);                                                                        \
        break;
#include "warren/wire_spec.def"
    default:
        wr_panic("encoding a method that does not exist: %08x", (unsigned)method->id);
    }
    return e.out;
}

/* ---- registry ---- */

const struct wire_method_info *wire_method_info(uint32_t id)
{
    switch (id) {
#define METHOD(upper, lower, text, class_id, method_id, bits)                                      \
    case WIRE_##upper: {                                                                           \
        static const struct wire_method_info info = {.name = text, .flags = (bits)};               \
        return &info;                                                                              \
    }
#define BARE(upper, lower, text, class_id, method_id, bits)                                        \
    METHOD(upper, lower, text, class_id, method_id, bits)
#include "warren/wire_spec.def"
    default:
        return NULL;
    }
}

const char *wire_method_name(uint32_t id)
{
    const struct wire_method_info *info = wire_method_info(id);
    return info == NULL ? "unknown" : info->name;
}

static const enum wire_method_id method_ids[] = {
#define METHOD(upper, lower, name, class_id, method_id, flags) WIRE_##upper,
#define BARE(upper, lower, name, class_id, method_id, flags)   WIRE_##upper,
#include "warren/wire_spec.def"
};

size_t wire_method_count(void)
{
    return WR_ARRAY_SIZE(method_ids);
}

enum wire_method_id wire_method_at(size_t index)
{
    WR_ASSERT_OP(index, <, WR_ARRAY_SIZE(method_ids));
    return method_ids[index];
}
