/*
 * What: writes and checks message records (layout in warren/message.h); the getters there are
 * inline. Failure modes: message_check is the only gate for records from a link or a file: after it
 * every getter stays inside the record.
 */
#include "warren/message.h"

#include "warren/err.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the inline getters of message.h read little-endian fields in place");

uint8_t *message_write(uint8_t *out, const struct message_parts *parts, uint32_t body_size)
{
    const uint64_t record_size = message_record_size(parts, body_size);
    WR_ASSERT_OP(parts->exchange.size, <=, UINT8_MAX);
    WR_ASSERT_OP(parts->key.size, <=, UINT8_MAX);
    WR_ASSERT_OP(parts->props.size, <=, UINT32_MAX);
    WR_ASSERT_OP(record_size, <=, UINT32_MAX);
    bytes_store_le32(out, (uint32_t)record_size);
    bytes_store_le32(out + 4, body_size);
    bytes_store_le32(out + 8, (uint32_t)parts->props.size);
    out[12] = (uint8_t)parts->exchange.size;
    out[13] = (uint8_t)parts->key.size;
    out[14] = parts->flags;
    out[15] = parts->priority;
    bytes_store_le64(out + 16, parts->ttl_ms);
    uint8_t *at = out + MESSAGE_HEADER_SIZE;
    const struct bytes pieces[] = {parts->exchange, parts->key, parts->props};
    for (size_t i = 0; i < WR_ARRAY_SIZE(pieces); i++) {
        if (pieces[i].size > 0) {
            memcpy(at, pieces[i].data, pieces[i].size);
            at += pieces[i].size;
        }
    }
    return at;
}

int message_check(struct bytes record)
{
    struct reader r = reader_from(record);
    const uint32_t record_size = rd_le32(&r);
    const uint32_t body_size = rd_le32(&r);
    const uint32_t props_size = rd_le32(&r);
    const uint8_t exchange_size = rd_u8(&r);
    const uint8_t key_size = rd_u8(&r);
    (void)rd_skip(&r, 2 + 8); /* Flags, priority, ttl_ms: any value will do. */
    const uint64_t rest = (uint64_t)exchange_size + key_size + props_size + body_size;
    if (r.failed || record_size != record.size || rest != rd_left(&r) ||
        body_size > MESSAGE_BODY_MAX) {
        return WR_E_CORRUPT;
    }
    return 0;
}
