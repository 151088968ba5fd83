/*
 * What: fuzz target of what a publish's properties say (src/broker/publish_props.c): expiration,
 * user-id, reply-to, CC, BCC, x-delay, publishers' numbers. The first byte: bit 0 whether the
 * channel has a reply consumer, bit 1 whether the client named itself as a publisher. The rest is
 * raw properties that a client may send. What is taken can be rebuilt; what is not has a reason.
 */
#include <string.h>

#include "fuzz.h"

#include "publish_internal.h"

static struct message message_of(struct bytes props)
{
    const struct message_parts parts = {.exchange = BYTES_LITERAL("x"),
                                        .key = BYTES_LITERAL("key"),
                                        .props = props,
                                        .ttl_ms = MESSAGE_TTL_NONE};
    const uint32_t size = (uint32_t)message_record_size(&parts, 4);
    struct buf *record = buf_new(size);
    memcpy(message_write(record->data, &parts, 4), "body", 4);
    record->size = size;
    return (struct message){.record = slice_of_buf(record)};
}

static void check_message(struct message owned)
{
    struct wire_props props;
    WR_ASSERT(message_check(bytes_make(slice_data(&owned.record), owned.record.size)) == 0);
    WR_ASSERT(wire_props_validate(message_props(&owned), NULL, &props) == WIRE_OK);
    WR_ASSERT(bytes_eq_cstr(message_body(&owned), "body"));
    message_unref(owned);
}

static void check_taken(const struct broker_channel *ch, struct bytes props,
                        const struct routing *routing)
{
    struct bytes value;
    const struct message message = message_of(props);
    WR_ASSERT(routing->extra_count == ch->broker->extra_keys.count || routing->extra_count == 0);
    WR_ASSERT(routing->more.publish_seq == 0 || routing->more.publisher.size > 0);
    if (wire_props_get(props, WIRE_PROP_EXPIRATION, &value)) {
        WR_ASSERT(publish_expiration_ms(value) <= UINT64_C(315360000000));
    }
    check_message(publish_rebuild(ch, message, routing->has_bcc, false));
    check_message(publish_with_delay_over(message));
    check_message(publish_with_parts(message, props, 7));
    /* The reply consumer of the channel is none whose name could be told. */
    const struct broker_channel without = {.broker = ch->broker, .session = ch->session};
    message_ref(message);
    check_message(broker_returned(&without, message));
    message_unref(message);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct broker_session session;
    static struct broker broker;
    struct reply_consumer *consumer = (struct reply_consumer *)(void *)&session;
    struct catalog *catalog = catalog_new(NULL, NULL, NULL);
    struct broker_fault fault = {0};
    struct wire_props decoded;
    struct routing routing;
    if (size > 0) {
        const struct bytes props = bytes_make(data + 1, size - 1);
        broker = (struct broker){.view = catalog_view_take(catalog)};
        session = (struct broker_session){.broker = &broker, .user = "guest", .vhost = "/"};
        session.publisher = (data[0] & 2) != 0 ? BYTES_LITERAL("me") : BYTES_NONE;
        const struct broker_channel ch = {
            .broker = &broker, .session = &session, .reply = (data[0] & 1) != 0 ? consumer : NULL};
        if (wire_props_validate(props, NULL, &decoded) == WIRE_OK) {
            if (publish_check_props(&ch, props, &routing, &fault)) {
                check_taken(&ch, props, &routing);
            } else {
                WR_ASSERT(fault.code == 406 && fault.text[0] != 0 && !fault.connection);
            }
        }
        vec_deinit(&broker.extra_keys);
        catalog_view_unref(broker.view);
    }
    catalog_free(catalog);
    return 0;
}
