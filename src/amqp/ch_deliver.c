/*
 * What: what the broker says to a channel: deliveries, get-ok, returns, confirms, cancels, faults,
 * back-pressure.
 */
#include "amqp_internal.h"

static uint64_t take_tag(struct amqp_channel *ch, const struct broker_delivery *delivery,
                         bool no_ack)
{
    uint64_t tag = ch->next_tag++;
    if (!no_ack) {
        struct range_attr attr = {
            .value = delivery->ordinal, .a = delivery->queue, .b = delivery->consumer};
        rangemap_insert(&ch->unacked, tag, 1, &attr);
    }
    return tag;
}

/* The body as a slice of the record. */
static struct slice body_of(const struct message *message)
{
    const struct bytes body = message_body(message); /* something may be behind it */
    return slice_sub(&message->record, (uint32_t)(body.data - slice_data(&message->record)),
                     (uint32_t)body.size);
}

/* What goes out as the properties of a message: its own, or for a redelivery from a quorum queue
 * those with x-delivery-count, in memory of `space`. Where that would not fit into a frame of the
 * client's it is left out. */
static struct bytes props_of(const struct amqp_channel *ch, const struct message *message,
                             const struct broker_delivery *delivery, uint32_t delivery_count,
                             struct writer *space)
{
    struct bytes raw = message_props(message);
    struct wire_props props;
    if (WR_LIKELY(!delivery->counted || delivery_count == 0) ||
        wire_props_decode(raw, &props) != WIRE_OK) {
        return raw;
    }
    struct writer headers;
    writer_init(&headers, props.headers.size + 32);
    wire_table_put_without(&headers, props.headers, bytes_from_cstr("x-delivery-count"));
    wire_table_put_int64(&headers, "x-delivery-count", delivery_count);
    props.headers = writer_bytes(&headers);
    props.flags |= WIRE_PROP_HEADERS;
    uint32_t frame_max = ch->conn->frame_max;
    if (frame_max == 0 || wire_header_frame_size(wire_props_size(&props)) <= frame_max) {
        writer_init(space, wire_props_size(&props));
        wire_props_put(space, &props);
        raw = writer_bytes(space);
    }
    writer_deinit(&headers);
    return raw;
}

static void on_deliver(void *ctx, struct bytes consumer_tag, const struct broker_delivery *delivery,
                       bool redelivered, uint32_t delivery_count, bool no_ack,
                       const struct message *message)
{
    struct amqp_channel *ch = ctx;
    if (WR_UNLIKELY(ch->closing || ch->client_closed ||
                    ch->conn->state != CONN_RUNNING)) { /* nor while finishing */
        return; /* the channel is being closed: it goes back with everything unacked */
    }
    struct wire_basic_deliver deliver = {.consumer_tag = consumer_tag,
                                         .delivery_tag = take_tag(ch, delivery, no_ack),
                                         .redelivered = redelivered,
                                         .exchange = message_exchange(message),
                                         .routing_key = message_key(message)};
    struct slice body = body_of(message);
    struct writer space = {.buf = NULL};
    struct wire_content content = {.props = props_of(ch, message, delivery, delivery_count, &space),
                                   .body = &body,
                                   .frame_max = ch->conn->frame_max};
    uint64_t before = outq_size(&ch->conn->out);
    wire_send_deliver(&ch->conn->out, ch->number, &deliver, &content);
    ch->conn->delivered_bytes += outq_size(&ch->conn->out) - before;
    writer_deinit(&space);
    conn_dirty(ch->conn);
}

void deliver_get(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                 uint32_t delivery_count, const struct message *message, uint64_t left)
{
    struct amqp_channel *ch = ctx;
    if (ch->closing || ch->client_closed || ch->conn->state != CONN_RUNNING) {
        return;
    }
    bool no_ack = delivery->ordinal == 0;
    struct wire_method ok = {.id = WIRE_BASIC_GET_OK};
    ok.basic_get_ok.delivery_tag = take_tag(ch, delivery, no_ack);
    ok.basic_get_ok.redelivered = redelivered;
    ok.basic_get_ok.exchange = message_exchange(message);
    ok.basic_get_ok.routing_key = message_key(message);
    ok.basic_get_ok.message_count = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left;
    struct slice body = body_of(message);
    struct writer space = {.buf = NULL};
    struct wire_content content = {.props = props_of(ch, message, delivery, delivery_count, &space),
                                   .body = &body,
                                   .frame_max = ch->conn->frame_max};
    wire_send_content(&ch->conn->out, ch->number, &ok, &content);
    writer_deinit(&space);
    conn_dirty(ch->conn);
}

void deliver_return(struct amqp_channel *ch, const struct message *message)
{
    struct wire_method ret = {.id = WIRE_BASIC_RETURN};
    ret.basic_return.reply_code = 312;
    ret.basic_return.reply_text = bytes_from_cstr("NO_ROUTE");
    ret.basic_return.exchange = message_exchange(message);
    ret.basic_return.routing_key = message_key(message);
    struct slice body = body_of(message);
    struct wire_content content = {
        .props = message_props(message), .body = &body, .frame_max = ch->conn->frame_max};
    wire_send_content(&ch->conn->out, ch->number, &ret, &content);
    conn_dirty(ch->conn);
}

static void on_return(void *ctx, const struct message *message)
{
    struct amqp_channel *ch = ctx;
    if (!ch->closing && !ch->client_closed && conn_works(ch->conn)) {
        deliver_return(ch, message);
    }
}

static void on_confirm(void *ctx, uint64_t first_token, uint64_t count, bool ack)
{
    confirm_add(ctx, first_token, count, ack);
}

static void send_cancel(struct amqp_channel *ch, struct bytes tag)
{
    struct wire_method cancel = {.id = WIRE_BASIC_CANCEL};
    cancel.basic_cancel.consumer_tag = tag;
    cancel.basic_cancel.no_wait = true;
    conn_send(ch->conn, ch->number, &cancel);
}

/* Who deletes the queue that it consumes from hears of that first, as from RabbitMQ: some clients
 * close the channel when they see the cancel, and miss the reply then. */
static void on_cancel(void *ctx, struct bytes tag)
{
    struct amqp_channel *ch = ctx;
    if (!ch->conn->cancel_notify || ch->closing || ch->client_closed || !conn_works(ch->conn)) {
        return;
    }
    if (ch->calls.count > 0 && ch->request == WIRE_QUEUE_DELETE) {
        vec_push(&ch->late_cancels, slice_copy(tag.data, tag.size));
        return;
    }
    send_cancel(ch, tag);
}

void deliver_late_cancels(struct amqp_channel *ch, bool send)
{
    for (size_t i = 0; i < ch->late_cancels.count; i++) {
        if (send) {
            send_cancel(ch, bytes_from_slice(&ch->late_cancels.items[i]));
        }
        slice_unref(&ch->late_cancels.items[i]);
    }
    vec_clear(&ch->late_cancels);
}

static void on_overdue(void *ctx, struct bytes tag, uint64_t timeout_ms)
{
    struct amqp_channel *ch = ctx;
    if (ch->conn->cancel_notify) {
        on_cancel(ctx, tag);
        return;
    }
    channel_fault(ch, 406, 0, 0,
                  "delivery acknowledgement on channel %u timed out. Timeout value used: %llu ms. "
                  "This timeout value can be configured, see consumers doc guide to learn more",
                  ch->number, (unsigned long long)timeout_ms);
}

static void on_fault(void *ctx, const struct broker_fault *fault, uint16_t class_id,
                     uint16_t method_id)
{
    channel_broker_fault(ctx, fault, (enum wire_method_id)WIRE_METHOD_ID(class_id, method_id));
}

static void on_blocked(void *ctx, bool blocked)
{
    struct amqp_channel *ch = ctx;
    ch->blocked = blocked;
    if (!blocked) {
        channel_resume(ch);
    }
}

/* Told once per connection, however many of its channels publish, and whatever comes to the reason.
 */
static void on_alarm(void *ctx, const char *reason)
{
    struct amqp_conn *conn = ((struct amqp_channel *)ctx)->conn;
    conn->alarmed = true;
    if (conn->blocked_notify && conn_works(conn) && !conn->blocked_told) {
        struct wire_method method = {.id = WIRE_CONNECTION_BLOCKED};
        method.connection_blocked.reason = bytes_from_cstr(reason);
        conn->blocked_told = true;
        conn_send(conn, 0, &method);
    }
}

const struct broker_channel_sink deliver_sink = {
    .on_confirm = on_confirm,
    .on_deliver = on_deliver,
    .on_cancel = on_cancel,
    .on_overdue = on_overdue,
    .on_fault = on_fault,
    .on_blocked = on_blocked,
    .on_alarm = on_alarm,
    .on_return = on_return,
};
