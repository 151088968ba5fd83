/*
 * What: the content header of class basic: raw as it came, decoded when somebody needs a property,
 * rebuilt when the broker changes one. `raw` below is the header from the property flags on, as in
 * struct message (u16 flags, then the properties that are present).
 * Threads: pure functions. Spec: docs/amqp-0-9-1.md, "Content header".
 */
#ifndef WR_WIRE_PROPS_H
#define WR_WIRE_PROPS_H

#include "warren/wire.h"

#define WIRE_CLASS_BASIC 60

/* Payload of a content header frame. */
struct wire_header {
    uint16_t class_id;
    uint16_t weight; /* Must be 0: the channel says 505 otherwise. */
    uint64_t body_size;
    struct bytes props; /* Flags and properties, not validated; a view into the payload. */
};

/* WIRE_FAULT_TRUNCATED when it is shorter than the fixed part and the flags. */
WR_MUST_USE enum wire_fault wire_header_decode(struct bytes payload,
                                               struct wire_header *ret_header);

/* Properties in the order of the wire: X(UPPER, lower, bit, kind). */
#define WIRE_PROPS_TABLE(X)                                                                        \
    X(CONTENT_TYPE, content_type, 15, SHORTSTR)                                                    \
    X(CONTENT_ENCODING, content_encoding, 14, SHORTSTR)                                            \
    X(HEADERS, headers, 13, TABLE)                                                                 \
    X(DELIVERY_MODE, delivery_mode, 12, OCTET)                                                     \
    X(PRIORITY, priority, 11, OCTET)                                                               \
    X(CORRELATION_ID, correlation_id, 10, SHORTSTR)                                                \
    X(REPLY_TO, reply_to, 9, SHORTSTR)                                                             \
    X(EXPIRATION, expiration, 8, SHORTSTR)                                                         \
    X(MESSAGE_ID, message_id, 7, SHORTSTR)                                                         \
    X(TIMESTAMP, timestamp, 6, TIMESTAMP)                                                          \
    X(TYPE, type, 5, SHORTSTR)                                                                     \
    X(USER_ID, user_id, 4, SHORTSTR)                                                               \
    X(APP_ID, app_id, 3, SHORTSTR)                                                                 \
    X(CLUSTER_ID, cluster_id, 2, SHORTSTR)

/* WIRE_PROP_HEADERS = 1 << 13 and so on: the bits of wire_props.flags. */
enum wire_prop {
#define WIRE_PROP_ENUM(upper, lower, bit, kind) WIRE_PROP_##upper = 1 << bit,
    WIRE_PROPS_TABLE(WIRE_PROP_ENUM)
#undef WIRE_PROP_ENUM
};

/*
 * Decoded properties. A field counts only when its bit is set in flags (all others are zero or
 * empty after decoding). Views into the input.
 */
struct wire_props {
    uint16_t flags;
    uint8_t delivery_mode; /* 2 = persistent, all else transient */
    uint8_t priority;
    uint64_t timestamp;   /* seconds */
    struct bytes headers; /* Content of the table, not validated. */
    struct bytes content_type, content_encoding, correlation_id, reply_to, expiration, message_id,
        type, user_id, app_id, cluster_id;
};

#define WIRE_PROPS_NONE ((struct wire_props){0})

/* The raw form of "no properties": two zero bytes. */
extern const struct bytes wire_props_empty;

static inline bool wire_props_has(const struct wire_props *props, enum wire_prop prop)
{
    return (props->flags & (uint16_t)prop) != 0;
}

/*
 * Decode all. The properties must fill `raw` exactly. The headers table is not looked into:
 * validate it with wire_table_validate where it comes from a client. On a fault *ret_props is
 * unchanged.
 */
WR_MUST_USE enum wire_fault wire_props_decode(struct bytes raw, struct wire_props *ret_props);

/* wire_props_decode, then the headers table within `limits` (NULL: the defaults). For a publish. */
struct wire_table_limits;
WR_MUST_USE enum wire_fault wire_props_validate(struct bytes raw,
                                                const struct wire_table_limits *limits,
                                                struct wire_props *ret_props);

/*
 * Getters for one property without decoding the ones behind it: false when it is absent or the raw
 * form is broken before it. For strings and the headers table.
 */
bool wire_props_get(struct bytes raw, enum wire_prop prop, struct bytes *ret_value);

/* Octets (delivery mode, priority) and the timestamp as a number. */
bool wire_props_get_number(struct bytes raw, enum wire_prop prop, uint64_t *ret_value);

static inline struct bytes wire_props_headers(struct bytes raw)
{
    struct bytes headers = BYTES_NONE;
    (void)wire_props_get(raw, WIRE_PROP_HEADERS, &headers);
    return headers;
}

/*
 * Rebuilding: decode, set or clear bits of flags and their fields, encode. Properties not touched
 * come out byte for byte. Asserts that strings fit in 255 bytes.
 */
size_t wire_props_size(const struct wire_props *props);
uint8_t *wire_props_write(uint8_t *out, const struct wire_props *props);
void wire_props_put(struct writer *w, const struct wire_props *props);

/* One line: "delivery-mode=2 headers={a=signedint 1}". */
void wire_describe_props(struct strbuf *s, const struct wire_props *props);

#endif
