/*
 * What: fuzz target of message filters. Input: size of the expression (two bytes, big-endian), the
 * expression, raw properties of a message. An expression is taken or refused with a reason, always
 * the same way; one that is taken can be asked about any message.
 */
#include <string.h>

#include "fuzz.h"

#include "filter.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

static struct message message_of(struct bytes props)
{
    const struct message_parts parts = {.exchange = BYTES_LITERAL("an exchange"),
                                        .key = BYTES_LITERAL("order.eu.new"),
                                        .props = props,
                                        .ttl_ms = MESSAGE_TTL_NONE,
                                        .flags = MESSAGE_PERSISTENT,
                                        .priority = 3};
    const uint32_t size = (uint32_t)message_record_size(&parts, 5);
    struct buf *record = buf_new(size);
    memcpy(message_write(record->data, &parts, 5), "bytes", 5);
    record->size = size;
    return (struct message){.record = slice_of_buf(record)};
}

static struct filter *parse(struct bytes text, char *why, size_t size)
{
    struct strbuf s;
    strbuf_init(&s, why, size);
    struct filter *filter = filter_parse(text, &s);
    WR_ASSERT((filter == NULL) == (s.size > 0));
    return filter;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[300] = "";
    char again[300] = "";
    struct reader r = reader_make(data, size);
    const struct bytes text = rd_bytes(&r, rd_be16(&r));
    struct bytes props = rd_bytes(&r, rd_left(&r));
    if (r.failed) {
        return 0;
    }
    struct filter *filter = parse(text, why, sizeof why);
    struct filter *same = parse(text, again, sizeof again);
    WR_ASSERT((filter == NULL) == (same == NULL) && strcmp(why, again) == 0);
    if (filter != NULL) {
        /* Only what a client may have sent comes this far. */
        struct wire_props decoded;
        if (wire_props_validate(props, NULL, &decoded) != WIRE_OK) {
            props = wire_props_empty;
        }
        const struct message message = message_of(props);
        const bool matches = filter_matches(filter, &message, 2);
        WR_ASSERT(matches == filter_matches(same, &message, 2));
        message_unref(message);
    }
    filter_free(filter);
    filter_free(same);
    return 0;
}
