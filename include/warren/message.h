#ifndef WR_MESSAGE_H
#define WR_MESSAGE_H
/*
 * A message: an immutable, reference-counted record that keeps the publisher's bytes. The same
 * record bytes are what is written to the log, sent over a link and delivered. Built once by the
 * front end (message_build), never changed.
 *
 * Record layout, little-endian (frozen: it is on disk and on links; MESSAGE_VERSION tells changes):
 *   0  u32 record_size      whole record
 *   4  u32 body_size
 *   8  u32 props_size       AMQP content header from the property flags on, verbatim
 *  12  u8  exchange_size    13 u8 key_size     14 u8 flags (MESSAGE_*)     15 u8 priority (0 when
 * absent) 16  u64 ttl_ms           per-message expiration, UINT64_MAX = none 24  exchange bytes,
 * routing key bytes, props bytes, body bytes, and with MESSAGE_BCC until the record's end the keys
 * of its BCC header, each with its size (u8) before it
 *
 * A `struct message` is a slice of a shared buf: copying it copies no bytes (message_ref/unref
 * count the buf). Threads: the reference count is atomic, the bytes never change; a message may be
 * handed between contexts.
 */
#include <stdint.h>
#include <string.h>

#include "warren/assert.h"
#include "warren/buf.h"
#include "warren/bytes.h"

#define MESSAGE_HEADER_SIZE 24u
#define MESSAGE_TTL_NONE    UINT64_MAX
#define MESSAGE_BODY_MAX    536870912u /* RabbitMQ's hard cap */

enum message_flag {
    MESSAGE_PERSISTENT = 1,
    MESSAGE_DEATHS = 2, /* its headers x-death and x-first-death-* are the broker's own */
    MESSAGE_BCC = 4,    /* keys of a BCC header, which is taken out, are behind the body */
};

struct message {
    struct slice record;
};

struct message_parts {
    struct bytes exchange, key, props;
    struct bytes bcc; /* of message_bcc(); empty: none */
    uint64_t ttl_ms;
    uint8_t flags, priority;
};

static inline uint32_t message__u32(const struct message *m, uint32_t at)
{
    uint32_t v;
    memcpy(&v, slice_data(&m->record) + at, 4);
    return v; /* little-endian hosts only: static_assert in src/base/message.c */
}
static inline uint32_t message_body_size(const struct message *m)
{
    return message__u32(m, 4);
}
static inline uint32_t message_props_size(const struct message *m)
{
    return message__u32(m, 8);
}
static inline uint8_t message_flags(const struct message *m)
{
    return slice_data(&m->record)[14];
}
static inline uint8_t message_priority(const struct message *m)
{
    return slice_data(&m->record)[15];
}
static inline uint64_t message_ttl_ms(const struct message *m)
{
    uint64_t v;
    memcpy(&v, slice_data(&m->record) + 16, 8);
    return v;
}
static inline struct bytes message_exchange(const struct message *m)
{
    const uint8_t *p = slice_data(&m->record);
    return (struct bytes){p + MESSAGE_HEADER_SIZE, p[12]};
}
static inline struct bytes message_key(const struct message *m)
{
    const uint8_t *p = slice_data(&m->record);
    return (struct bytes){p + MESSAGE_HEADER_SIZE + p[12], p[13]};
}
static inline struct bytes message_props(const struct message *m)
{
    const uint8_t *p = slice_data(&m->record);
    return (struct bytes){p + MESSAGE_HEADER_SIZE + p[12] + p[13], message_props_size(m)};
}
static inline struct bytes message_body(const struct message *m)
{
    const uint8_t *p = slice_data(&m->record);
    return (struct bytes){p + MESSAGE_HEADER_SIZE + p[12] + p[13] + message_props_size(m),
                          message_body_size(m)};
}

/* Keys by which it is routed when it is dead, too: each with its size (u8) before it. */
static inline struct bytes message_bcc(const struct message *m)
{
    const uint8_t *p = slice_data(&m->record);
    const size_t at =
        MESSAGE_HEADER_SIZE + (size_t)p[12] + p[13] + message_props_size(m) + message_body_size(m);
    return (p[14] & MESSAGE_BCC) == 0 ? BYTES_NONE
                                      : (struct bytes){p + at, message__u32(m, 0) - at};
}

/* Size of the record for these parts and body. */
static inline uint64_t message_record_size(const struct message_parts *parts, uint64_t body_size)
{
    return MESSAGE_HEADER_SIZE + parts->exchange.size + parts->key.size + parts->props.size +
           body_size + parts->bcc.size;
}
/* Writes everything but the body, and MESSAGE_BCC among the flags when there are such keys, at
 * `out` (message_record_size bytes); returns where the body_size body bytes go. */
uint8_t *message_write(uint8_t *out, const struct message_parts *parts, uint32_t body_size);
/* Checks an untrusted record (from a link or a file): 0, or WR_E_CORRUPT. The slice is borrowed. */
int message_check(struct bytes record);

static inline void message_ref(struct message m)
{
    buf_ref(m.record.buf);
}
static inline void message_unref(struct message m)
{
    buf_unref(m.record.buf);
}

#endif
