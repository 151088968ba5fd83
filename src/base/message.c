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
    out[14] = (uint8_t)((parts->flags & ~MESSAGE_BCC) | (parts->bcc.size > 0 ? MESSAGE_BCC : 0));
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
    if (parts->bcc.size > 0) {
        memcpy(at + body_size, parts->bcc.data, parts->bcc.size);
    }
    return at;
}

/* At least one key, and nothing behind the last. */
static bool are_keys(struct reader *r)
{
    do {
        (void)rd_skip(r, rd_u8(r));
    } while (!r->failed && rd_left(r) > 0);
    return !r->failed;
}

int message_check(struct bytes record)
{
    struct reader r = reader_from(record);
    const uint32_t record_size = rd_le32(&r);
    const uint32_t body_size = rd_le32(&r);
    const uint32_t props_size = rd_le32(&r);
    const uint8_t exchange_size = rd_u8(&r);
    const uint8_t key_size = rd_u8(&r);
    const bool has_keys = (rd_u8(&r) & MESSAGE_BCC) != 0;
    (void)rd_skip(&r, 1 + 8); /* Priority, ttl_ms and the other flags: any value will do. */
    const uint64_t rest = (uint64_t)exchange_size + key_size + props_size + body_size;
    if (r.failed || record_size != record.size || body_size > MESSAGE_BODY_MAX ||
        (has_keys ? rest >= rd_left(&r) : rest != rd_left(&r))) {
        return WR_E_CORRUPT;
    }
    (void)rd_skip(&r, rest);
    return has_keys && !are_keys(&r) ? WR_E_CORRUPT : 0;
}
