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
    uint32_t size = message_body_size(message);
    return slice_sub(&message->record, message->record.size - size, size);
}

static void on_deliver(void *ctx, struct bytes consumer_tag, const struct broker_delivery *delivery,
                       bool redelivered, uint32_t delivery_count, bool no_ack,
                       const struct message *message)
{
    struct amqp_channel *ch = ctx;
    (void)delivery_count;
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
    struct wire_content content = {
        .props = message_props(message), .body = &body, .frame_max = ch->conn->frame_max};
    uint64_t before = outq_size(&ch->conn->out);
    wire_send_deliver(&ch->conn->out, ch->number, &deliver, &content);
    ch->conn->delivered_bytes += outq_size(&ch->conn->out) - before;
    conn_dirty(ch->conn);
}

void deliver_get(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                 uint32_t delivery_count, const struct message *message, uint64_t left)
{
    struct amqp_channel *ch = ctx;
    (void)delivery_count;
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
    struct wire_content content = {
        .props = message_props(message), .body = &body, .frame_max = ch->conn->frame_max};
    wire_send_content(&ch->conn->out, ch->number, &ok, &content);
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

static void on_confirm(void *ctx, uint64_t first_token, uint64_t count, bool ack)
{
    confirm_add(ctx, first_token, count, ack);
}

static void on_cancel(void *ctx, struct bytes tag)
{
    struct amqp_channel *ch = ctx;
    if (ch->conn->cancel_notify && !ch->closing && !ch->client_closed && conn_works(ch->conn)) {
        struct wire_method cancel = {.id = WIRE_BASIC_CANCEL};
        cancel.basic_cancel.consumer_tag = tag;
        cancel.basic_cancel.no_wait = true;
        conn_send(ch->conn, ch->number, &cancel);
    }
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
    .on_fault = on_fault,
    .on_blocked = on_blocked,
    .on_alarm = on_alarm,
};
