/*
 * What: fuzz target of the headers that dead-lettering makes. Input: a byte (bits 0-1 the reason,
 * 2 whether another key is set, 3 whether the message died before), the rest raw properties as a
 * client may send them. What comes out is a message again, with properties that a client could be
 * sent, in which this death is the newest; and however often it dies, it does not grow for ever.
 */
#include <string.h>

#include "fuzz.h"

#include "dead.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

static struct message message_of(struct bytes props, bool died)
{
    const struct message_parts parts = {.exchange = BYTES_LITERAL("x"),
                                        .key = BYTES_LITERAL("key"),
                                        .props = props,
                                        .ttl_ms = 5,
                                        .flags = died ? MESSAGE_DEATHS : 0};
    const uint32_t size = (uint32_t)message_record_size(&parts, 4);
    struct buf *record = buf_new(size);
    memcpy(message_write(record->data, &parts, 4), "body", 4);
    record->size = size;
    return (struct message){.record = slice_of_buf(record)};
}

static struct bytes record_of(const struct message *message)
{
    return bytes_make(slice_data(&message->record), message->record.size);
}

static struct bytes newest_death(const struct message *message)
{
    struct bytes deaths = BYTES_NONE;
    struct bytes none;
    struct wire_table_iter it;
    struct wire_value item;
    const bool any =
        wire_table_get_array(wire_props_headers(message_props(message)), "x-death", &deaths);
    WR_ASSERT(any);
    wire_array_iter_init(&it, deaths);
    const bool first = wire_table_iter_next(&it, &none, &item);
    WR_ASSERT(first && item.type == WIRE_FIELD_TABLE);
    return item.bytes;
}

static void check(const struct message *message, const struct dead_letter *death)
{
    const struct wire_table_limits limits = {WIRE_TABLE_DEPTH_MAX, 1u << 20, 1u << 30};
    struct wire_props props;
    struct bytes value;
    WR_ASSERT(message_check(record_of(message)) == 0);
    WR_ASSERT(wire_props_validate(message_props(message), &limits, &props) == WIRE_OK);
    WR_ASSERT(!wire_props_get(message_props(message), WIRE_PROP_EXPIRATION, &value));
    WR_ASSERT(message_ttl_ms(message) == MESSAGE_TTL_NONE);
    const struct bytes newest = newest_death(message);
    WR_ASSERT(wire_table_get_string(newest, "queue", &value) && bytes_eq(value, death->queue));
    WR_ASSERT(wire_table_get_string(newest, "reason", &value) &&
              bytes_eq_cstr(value, dead_letter_reason(death->reason)));
    (void)dead_letter_is_cycle(wire_props_headers(message_props(message)), death->queue);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum queue_death reasons[] = {QUEUE_DIED_REJECTED, QUEUE_DIED_EXPIRED,
                                               QUEUE_DIED_MAXLEN, QUEUE_DIED_DELIVERY_LIMIT};
    struct wire_props decoded;
    if (size == 0) {
        return 0;
    }
    const struct bytes props = bytes_make(data + 1, size - 1);
    if (wire_props_validate(props, NULL, &decoded) != WIRE_OK) {
        return 0;
    }
    const struct dead_letter death = {.queue = BYTES_LITERAL("q"),
                                      .reason = reasons[data[0] & 3],
                                      .time_s = 1700000000,
                                      .exchange = BYTES_LITERAL("graves"),
                                      .has_key = (data[0] & 4) != 0,
                                      .key = BYTES_LITERAL("another")};
    struct message message = message_of(props, (data[0] & 8) != 0);
    uint32_t last = 0;
    for (uint32_t i = 0; i < 4; i++) {
        const struct message next = dead_letter_make(&message, &death);
        check(&next, &death);
        WR_ASSERT(i < 2 || next.record.size <= last);
        last = next.record.size;
        message_unref(message);
        message = next;
    }
    message_unref(message);
    return 0;
}
