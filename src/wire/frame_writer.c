/*
 * What: frames written to memory or to a connection's output queue.
 *
 *      0      1         3             7                  size+7
 *      +------+---------+-------------+  +------------+  +-----------+
 *      | type | channel |    size     |  |  payload   |  |    0xCE   |
 *      +------+---------+-------------+  +------------+  +-----------+
 *
 * A content-bearing method is followed by one header frame and as many body frames as frame_max
 * asks for, all on the same channel with nothing of that channel in between. Happy path of a
 * delivery: the sizes are known, so one reservation in the tail chunk takes all frames. Ownership:
 * large bodies are referenced by the queue, never copied. Spec: AMQP 0-9-1 section 4.2.
 */
#include "warren/wire_frame.h"

#include "wire_internal.h"

/* Up to this many body bytes a content is written into the tail chunk in one piece. */
#define CONTENT_COPY_MAX 4096u

static inline uint8_t *frame_end(uint8_t *out)
{
    *out = WIRE_FRAME_END;
    return out + 1;
}

/* Most body bytes that one frame takes. */
static inline uint32_t body_frame_max(uint32_t frame_max)
{
    if (frame_max == 0) {
        return WIRE_FRAME_SIZE_MAX;
    }
    WR_ASSERT_OP(frame_max, >, WIRE_FRAME_OVERHEAD);
    return frame_max - WIRE_FRAME_OVERHEAD;
}

uint8_t *wire_method_frame_write(uint8_t *out, uint16_t channel, const struct wire_method *method)
{
    uint8_t *end = wire_method_write(out + WIRE_FRAME_HEADER_SIZE, method);
    const size_t size = (size_t)(end - out) - WIRE_FRAME_HEADER_SIZE;
    WR_ASSERT_OP(size, <=, UINT32_MAX);
    (void)wire_frame_begin(out, WIRE_FRAME_METHOD, channel, (uint32_t)size);
    return frame_end(end);
}

uint8_t *wire_header_frame_write(uint8_t *out, uint16_t channel, uint64_t body_size,
                                 struct bytes props)
{
    WR_ASSERT(props.size >= 2 && props.size <= UINT32_MAX - 12);
    out = wire_frame_begin(out, WIRE_FRAME_HEADER, channel, 12 + (uint32_t)props.size);
    bytes_store_be32(out, UINT32_C(60) << 16); /* class basic, weight 0 */
    bytes_store_be64(out + 4, body_size);
    return frame_end(wire__store_bytes(out + 12, props));
}

uint64_t wire_body_frames_size(uint64_t body_size, uint32_t frame_max)
{
    const uint32_t max = body_frame_max(frame_max);
    if (WR_LIKELY(body_size <= max)) {
        return body_size == 0 ? 0 : body_size + WIRE_FRAME_OVERHEAD;
    }
    return body_size + (body_size + max - 1) / max * WIRE_FRAME_OVERHEAD;
}

uint8_t *wire_body_frames_write(uint8_t *out, uint16_t channel, struct bytes body,
                                uint32_t frame_max)
{
    const uint32_t max = body_frame_max(frame_max);
    while (body.size > 0) {
        const uint32_t size = body.size < max ? (uint32_t)body.size : max;
        out = wire_frame_begin(out, WIRE_FRAME_BODY, channel, size);
        memcpy(out, body.data, size);
        out = frame_end(out + size);
        body.data += size;
        body.size -= size;
    }
    return out;
}

uint8_t *wire_heartbeat_write(uint8_t *out)
{
    return frame_end(wire_frame_begin(out, WIRE_FRAME_HEARTBEAT, 0, 0));
}

/* basic.ack, basic.nack: 13 bytes of payload. */
static inline uint8_t *settle_write(uint8_t *out, uint16_t channel, enum wire_method_id id,
                                    uint64_t delivery_tag, uint8_t bits)
{
    out = wire_frame_begin(out, WIRE_FRAME_METHOD, channel, 13);
    bytes_store_be32(out, (uint32_t)id);
    bytes_store_be64(out + 4, delivery_tag);
    out[12] = bits;
    return frame_end(out + 13);
}

uint8_t *wire_ack_frame_write(uint8_t *out, uint16_t channel, uint64_t delivery_tag, bool multiple)
{
    return settle_write(out, channel, WIRE_BASIC_ACK, delivery_tag, multiple ? 1 : 0);
}

uint8_t *wire_nack_frame_write(uint8_t *out, uint16_t channel, uint64_t delivery_tag, bool multiple,
                               bool requeue)
{
    const uint8_t bits = (uint8_t)((multiple ? 1 : 0) | (requeue ? 2 : 0));
    return settle_write(out, channel, WIRE_BASIC_NACK, delivery_tag, bits);
}

void wire_send_method(struct outq *q, uint16_t channel, const struct wire_method *method)
{
    const size_t size = wire_method_frame_size(method);
    WR_ASSERT_OP(size, <=, UINT32_MAX);
    uint8_t *out = outq_reserve(q, (uint32_t)size);
    const uint8_t *end = wire_method_frame_write(out, channel, method);
    WR_ASSERT(end == out + size);
    outq_commit(q, (uint32_t)size);
}

void wire_send_heartbeat(struct outq *q)
{
    (void)wire_heartbeat_write(outq_reserve(q, WIRE_FRAME_OVERHEAD));
    outq_commit(q, WIRE_FRAME_OVERHEAD);
}

void wire_send_ack(struct outq *q, uint16_t channel, uint64_t delivery_tag, bool multiple)
{
    uint8_t *out = outq_reserve(q, WIRE_ACK_FRAME_SIZE);
    (void)wire_ack_frame_write(out, channel, delivery_tag, multiple);
    outq_commit(q, WIRE_ACK_FRAME_SIZE);
}

void wire_send_nack(struct outq *q, uint16_t channel, uint64_t delivery_tag, bool multiple,
                    bool requeue)
{
    uint8_t *out = outq_reserve(q, WIRE_ACK_FRAME_SIZE);
    (void)wire_nack_frame_write(out, channel, delivery_tag, multiple, requeue);
    outq_commit(q, WIRE_ACK_FRAME_SIZE);
}

/* Body frames of a large body: frame headers in the chunk, the bytes by reference. The end octet of
 * a frame and the header of the next are one piece. */
static void send_body_frames(struct outq *q, uint16_t channel, const struct slice *body,
                             uint32_t frame_max)
{
    const uint32_t max = body_frame_max(frame_max);
    uint32_t at = 0;
    while (at < body->size) {
        const uint32_t left = body->size - at;
        const uint32_t size = left < max ? left : max;
        const struct slice part = slice_sub(body, at, size);
        (void)wire_frame_begin(outq_reserve(q, WIRE_FRAME_HEADER_SIZE), WIRE_FRAME_BODY, channel,
                               size);
        outq_commit(q, WIRE_FRAME_HEADER_SIZE);
        outq_append_slice(q, &part);
        (void)frame_end(outq_reserve(q, 1));
        outq_commit(q, 1);
        at += size;
    }
}

/* Whether the whole content goes into the chunk, and then the bytes of header and body frames. */
static inline bool content_is_small(const struct wire_content *content, size_t *ret_size)
{
    const uint32_t body_size = content->body->size;
    if (body_size > CONTENT_COPY_MAX || content->props.size > CONTENT_COPY_MAX) {
        return false;
    }
    *ret_size = wire_header_frame_size(content->props.size) +
                (size_t)wire_body_frames_size(body_size, content->frame_max);
    return true;
}

static inline uint8_t *small_content_write(uint8_t *out, uint16_t channel,
                                           const struct wire_content *content)
{
    out = wire_header_frame_write(out, channel, content->body->size, content->props);
    return wire_body_frames_write(out, channel, bytes_from_slice(content->body),
                                  content->frame_max);
}

static void send_large_content(struct outq *q, uint16_t channel, const struct wire_content *content)
{
    const size_t size = wire_header_frame_size(content->props.size);
    WR_ASSERT_OP(size, <=, UINT32_MAX);
    uint8_t *out = outq_reserve(q, (uint32_t)size);
    (void)wire_header_frame_write(out, channel, content->body->size, content->props);
    outq_commit(q, (uint32_t)size);
    send_body_frames(q, channel, content->body, content->frame_max);
}

void wire_send_content(struct outq *q, uint16_t channel, const struct wire_method *method,
                       const struct wire_content *content)
{
    const struct wire_method_info *info = wire_method_info((uint32_t)method->id);
    WR_ASSERT(info != NULL && (info->flags & WIRE_HAS_CONTENT) != 0);
    size_t content_size;
    if (!content_is_small(content, &content_size)) {
        wire_send_method(q, channel, method);
        send_large_content(q, channel, content);
        return;
    }
    const size_t size = wire_method_frame_size(method) + content_size;
    uint8_t *out = outq_reserve(q, (uint32_t)size);
    const uint8_t *end =
        small_content_write(wire_method_frame_write(out, channel, method), channel, content);
    WR_ASSERT(end == out + size);
    outq_commit(q, (uint32_t)size);
}

void wire_send_deliver(struct outq *q, uint16_t channel, const struct wire_basic_deliver *deliver,
                       const struct wire_content *content)
{
    /* ids 4, tag 8, redelivered 1, three string sizes */
    const size_t payload_size =
        16 + deliver->consumer_tag.size + deliver->exchange.size + deliver->routing_key.size;
    size_t content_size = 0;
    const bool small = content_is_small(content, &content_size);
    const size_t size = payload_size + WIRE_FRAME_OVERHEAD + content_size;
    uint8_t *begin = outq_reserve(q, (uint32_t)size);
    uint8_t *out = wire_frame_begin(begin, WIRE_FRAME_METHOD, channel, (uint32_t)payload_size);
    bytes_store_be32(out, WIRE_BASIC_DELIVER);
    out = wire__store_shortstr(out + 4, deliver->consumer_tag);
    bytes_store_be64(out, deliver->delivery_tag);
    out[8] = deliver->redelivered ? 1 : 0;
    out = wire__store_shortstr(out + 9, deliver->exchange);
    out = wire__store_shortstr(out, deliver->routing_key);
    out = frame_end(out);
    if (WR_LIKELY(small)) {
        out = small_content_write(out, channel, content);
    }
    WR_ASSERT(out == begin + size);
    outq_commit(q, (uint32_t)size);
    if (WR_UNLIKELY(!small)) {
        send_large_content(q, channel, content);
    }
}

size_t wire_publish_size(const struct wire_basic_publish *publish, size_t props_size,
                         uint64_t body_size, uint32_t frame_max)
{
    /* ids 4, ticket 2, two string sizes, bits */
    return WIRE_FRAME_OVERHEAD + 9 + publish->exchange.size + publish->routing_key.size +
           wire_header_frame_size(props_size) + (size_t)wire_body_frames_size(body_size, frame_max);
}

uint8_t *wire_publish_write(uint8_t *out, uint16_t channel,
                            const struct wire_basic_publish *publish, struct bytes props,
                            struct bytes body, uint32_t frame_max)
{
    const size_t size = 9 + publish->exchange.size + publish->routing_key.size;
    out = wire_frame_begin(out, WIRE_FRAME_METHOD, channel, (uint32_t)size);
    bytes_store_be32(out, WIRE_BASIC_PUBLISH);
    bytes_store_be16(out + 4, 0);
    out = wire__store_shortstr(out + 6, publish->exchange);
    out = wire__store_shortstr(out, publish->routing_key);
    *out = (uint8_t)((publish->mandatory ? 1 : 0) | (publish->immediate ? 2 : 0));
    out = frame_end(out + 1);
    out = wire_header_frame_write(out, channel, body.size, props);
    return wire_body_frames_write(out, channel, body, frame_max);
}
