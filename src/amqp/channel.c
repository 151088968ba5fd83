/*
 * What: channels: dispatch in order, waiting for broker calls, closing in both directions.
 *
 * Happy path: a frame goes to the content assembly (header, body) or to the handler of its class. A
 * method that needs the cluster makes the channel busy; frames that arrive meanwhile, or while
 * publishing is blocked, are kept (kept.c).
 *
 * Failure modes: a channel error sends channel.close and drops everything until close-ok; errors
 * that concern the connection are passed on.
 *
 * Invariants: I1 the broker channel is closed in the turn or directly below a frame from the
 * socket, never below a broker upcall.
 */
#include <stdarg.h>
#include <stdio.h>

#include "amqp_internal.h"

struct amqp_channel *channel_new(struct amqp_conn *conn, uint16_t number)
{
    struct amqp_channel *ch = wr_calloc(1, sizeof *ch);
    ch->conn = conn;
    ch->number = number;
    ch->next_token = 1;
    ch->confirmed_below = 1;
    ch->leaving = conn->state == CONN_FINISHING; /* its number's next life, behind a close */
    ch->next_tag = 1;
    list_init(&ch->touched_link);
    list_init(&ch->room_link);
    rangemap_init(&ch->confirmed_ahead);
    rangemap_init(&ch->unacked);
    ch->broker = broker_channel_open(conn->session, number, &deliver_sink, ch);
    if (conn->held) {
        broker_channel_hold(ch->broker, true);
    }
    return ch;
}

static void close_broker(struct amqp_channel *ch)
{
    if (ch->broker != NULL) {
        struct broker_channel *broker = ch->broker;
        ch_settle_flush(ch);
        ch->broker = NULL;
        broker_channel_close(broker);
    }
    content_reset(ch);
    kept_drop(ch);
    deliver_late_cancels(ch, false);
    rangemap_clear(&ch->unacked);
    vec_clear(&ch->tx_acks);
    ch->tx_ack_count = 0;
    vec_clear(&ch->calls);
    ch->blocked = ch->waiting_publish = ch->committing = ch->leaving = false;
}

void channel_free(struct amqp_channel *ch)
{
    close_broker(ch);
    list_remove(&ch->touched_link);
    vec_deinit(&ch->queued);
    vec_deinit(&ch->calls);
    vec_deinit(&ch->confirms);
    vec_deinit(&ch->tx_acks);
    vec_deinit(&ch->late_cancels);
    wr_free(ch->late_close);
    rangemap_deinit(&ch->confirmed_ahead);
    rangemap_deinit(&ch->unacked);
    wr_free(ch);
}

void channel_touch(struct amqp_channel *ch)
{
    if (list_is_empty(&ch->touched_link)) {
        list_push_back(&ch->conn->server->touched, &ch->touched_link);
    }
}

static void remove_channel(struct amqp_channel *ch)
{
    struct amqp_conn *conn = ch->conn;
    (void)umap_remove(&conn->channels, ch->number);
    if (conn->last_channel == ch) {
        conn->last_channel = NULL;
    }
    channel_free(ch);
}

/* The client closes: what it settled and what is confirmed so far counts, then the number is free
 * again. Frees the channel. Frames that were kept behind the close are for the number's next life:
 * a client need not wait for close-ok. */
static void finish_client_close(struct amqp_channel *ch)
{
    struct wire_method ok = {.id = WIRE_CHANNEL_CLOSE_OK};
    struct amqp_conn *conn = ch->conn;
    uint16_t number = ch->number;
    struct saved_vec later = ch->queued;
    size_t at = ch->queued_head;
    vec_init(&ch->queued);
    ch->queued_head = 0;
    confirm_flush(ch);
    remove_channel(ch);
    if (conn_works(conn)) {
        conn_send(conn, number, &ok);
    }
    for (; at < later.count; at++) {
        struct saved_frame *saved = &later.items[at];
        struct wire_frame frame = {
            .type = saved->type, .channel = number, .payload = bytes_from_slice(&saved->payload)};
        if (conn_works(conn)) {
            conn_channel_frame(conn, &frame);
        }
        slice_unref(&saved->payload);
    }
    vec_deinit(&later);
}

/* The close that waited for the end of queues, or does no longer: whatever else is answered on the
 * channel comes behind it. */
static void send_late_close(struct amqp_channel *ch)
{
    if (ch->late_close != NULL) {
        conn_send(ch->conn, ch->number, &ch->late_close->method);
        wr_free(ch->late_close);
        ch->late_close = NULL;
    }
}

static bool decodes_to(const struct wire_frame *frame, enum wire_method_id id)
{
    struct wire_method method;
    return frame->type == WIRE_FRAME_METHOD &&
           wire_method_decode(frame->payload, &method) == WIRE_OK && method.id == id;
}

static void send_close_ok(struct amqp_channel *ch)
{
    struct wire_method ok = {.id = WIRE_CHANNEL_CLOSE_OK};
    conn_send(ch->conn, ch->number, &ok);
}

/* A channel.close that was kept when the error came crosses ours: its sender waits for close-ok,
 * and some clients without a time limit. */
static void answer_kept_close(struct amqp_channel *ch)
{
    if (ch->calls.count > 0 && ch->calls.items[0].method == WIRE_CHANNEL_CLOSE) {
        send_close_ok(ch); /* it waited for queues to end */
    }
    for (size_t i = ch->queued_head; i < ch->queued.count && conn_works(ch->conn); i++) {
        const struct saved_frame *saved = &ch->queued.items[i];
        const struct wire_frame frame = {.type = saved->type,
                                         .channel = ch->number,
                                         .payload = bytes_from_slice(&saved->payload)};
        if (decodes_to(&frame, WIRE_CHANNEL_CLOSE)) {
            send_close_ok(ch);
        }
    }
}

void channel_flush(struct amqp_channel *ch)
{
    if (ch->client_closed) {
        finish_client_close(ch);
        return;
    }
    if (ch->closing) {
        if (ch->late_close == NULL) {
            answer_kept_close(ch);
            close_broker(ch);
        }
        return;
    }
    ch_settle_flush(ch);
    confirm_flush(ch);
}

/* --- errors ----------------------------------------------------------------------------------- */

static void on_left_by_fault(void *ctx, const struct broker_fault *fault, struct bytes name,
                             uint64_t a, uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)fault;
    (void)name;
    (void)a;
    (void)b;
    send_late_close(ch);
    channel_touch(ch); /* a broker upcall is above us on the stack: see I1 */
}

/* What ends with its last consumer is gone before the client hears that the channel is. */
static void tell_close(struct amqp_channel *ch, const struct wire_method *close)
{
    const uint32_t first = ch->calls.count > 0 ? (uint32_t)ch->calls.items[0].method : 0;
    if (first == WIRE_CHANNEL_CLOSE || first == WIRE_CONNECTION_CLOSE || /* it leaves already */
        ch->broker == NULL || !broker_channel_leave(ch->broker, false, on_left_by_fault, ch)) {
        conn_send(ch->conn, ch->number, close);
        return;
    }
    const struct bytes text = close->channel_close.reply_text;
    ch->late_close = wr_alloc(sizeof *ch->late_close);
    ch->late_close->method = *close;
    memcpy(ch->late_close->text, text.data, text.size);
    ch->late_close->method.channel_close.reply_text = bytes_make(ch->late_close->text, text.size);
}

void channel_fault(struct amqp_channel *ch, uint16_t code, uint16_t class_id, uint16_t method_id,
                   const char *fmt, ...)
{
    char explanation[512];
    char text[WIRE_REPLY_TEXT_SIZE];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(explanation, sizeof explanation, fmt, args);
    va_end(args);
    if (ch->closing || ch->client_closed || !conn_works(ch->conn)) {
        return;
    }
    if (wire_reply_is_connection_error(code)) {
        conn_fault(ch->conn, code, class_id, method_id, "%s", explanation);
        return;
    }
    struct wire_method close = {.id = WIRE_CHANNEL_CLOSE};
    close.channel_close.reply_code = code;
    close.channel_close.reply_text = wire_reply_text(text, code, "%s", explanation);
    close.channel_close.class_id = class_id;
    close.channel_close.method_id = method_id;
    wr_log(ch->conn->server->options.logger, LOG_LEVEL_ERROR, "channel",
           "error on %s:%u channel=%u user=%s: %.*s", ch->conn->peer.host, ch->conn->peer.port,
           ch->number, ch->conn->user, (int)close.channel_close.reply_text.size,
           (const char *)close.channel_close.reply_text.data);
    ch_settle_flush(ch); /* what was settled or confirmed before the error counts */
    confirm_flush(ch);
    ch->closing = true;
    tell_close(ch, &close);
    content_give_back_room(ch);
    channel_touch(ch);
}

void channel_broker_fault(struct amqp_channel *ch, const struct broker_fault *fault,
                          enum wire_method_id method)
{
    uint16_t class_id = wire_class_of(method);
    uint16_t method_id = wire_method_of(method);
    if (fault->connection) {
        if (!ch->closing) {
            conn_fault(ch->conn, fault->code, class_id, method_id, "%s", fault->text);
        }
    } else {
        channel_fault(ch, fault->code, class_id, method_id, "%s", fault->text);
    }
}

/* --- waiting ---------------------------------------------------------------------------------- */

void channel_begin(struct amqp_channel *ch, enum wire_method_id method, bool no_wait)
{
    ch_settle_flush(ch);
    vec_push(&ch->calls, ((struct channel_call){method, no_wait}));
    ch->request = method;
    ch->no_wait = no_wait;
}

bool channel_finish(struct amqp_channel *ch, const struct broker_fault *fault)
{
    WR_ASSERT_OP(ch->calls.count, >, 0);
    ch->request = ch->calls.items[0].method;
    ch->no_wait = ch->calls.items[0].no_wait;
    vec_remove(&ch->calls, 0);
    ch->ahead_refused = ch->ahead_refused && ch->calls.count > 0;
    if (fault->code != 0) {
        channel_broker_fault(ch, fault, ch->request);
        return false;
    }
    return conn_works(ch->conn) && !ch->closing;
}

/* --- leaving its queues ----------------------------------------------------------------------- */

/* A broker upcall is above us on the stack: the close goes on in the turn, see I1. */
static void on_left(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                    uint64_t b)
{
    struct amqp_channel *ch = ctx;
    (void)name;
    (void)a;
    (void)b;
    const bool close = ch->calls.items[0].method == WIRE_CHANNEL_CLOSE;
    if (channel_finish(ch, fault) && close) {
        ch->client_closed = true;
        channel_touch(ch);
    }
    channel_resume(ch);
}

/* What ends with its last consumer is gone before anybody hears that this channel is. */
static bool leave_queues(struct amqp_channel *ch, enum wire_method_id close)
{
    ch_settle_flush(ch);
    const bool waits =
        broker_channel_leave(ch->broker, close == WIRE_CONNECTION_CLOSE, on_left, ch);
    if (waits) {
        channel_begin(ch, close, false);
    }
    return waits;
}

bool channel_leave_queues(struct amqp_channel *ch)
{
    if (ch->left || ch->closing || ch->broker == NULL) {
        return false;
    }
    ch->left = true;
    return leave_queues(ch, WIRE_CONNECTION_CLOSE);
}

static void on_client_close(struct amqp_channel *ch)
{
    if (leave_queues(ch, WIRE_CHANNEL_CLOSE)) {
        return;
    }
    ch->client_closed = true;
    if (ch->draining) {
        channel_touch(ch); /* a broker upcall may be above us on the stack: see I1 */
    } else {
        finish_client_close(ch);
    }
}

/* --- dispatch --------------------------------------------------------------------------------- */

static void on_channel_method(struct amqp_channel *ch, const struct wire_method *method)
{
    switch ((uint32_t)method->id) {
    case WIRE_CHANNEL_CLOSE:
        on_client_close(ch);
        break;
    case WIRE_CHANNEL_OPEN:
        conn_fault(ch->conn, 504, 20, 10, "second 'channel.open' seen");
        break;
    case WIRE_CHANNEL_FLOW:
        if (!method->channel_flow.active) {
            conn_fault(ch->conn, 540, 20, 20, "active=false");
        } else {
            struct wire_method ok = {.id = WIRE_CHANNEL_FLOW_OK};
            ok.channel_flow_ok.active = true;
            conn_send(ch->conn, ch->number, &ok);
        }
        break;
    default:
        conn_fault(ch->conn, 503, 20, wire_method_of(method->id), "unimplemented method");
    }
}

static void on_method(struct amqp_channel *ch, const struct wire_method *method)
{
    bool known = true;
    switch (wire_class_of(method->id)) {
    case 20:
        on_channel_method(ch, method);
        break;
    case 30: {
        struct wire_method ok = {.id = WIRE_ACCESS_REQUEST_OK};
        ok.access_request_ok.ticket = 1;
        known = method->id == WIRE_ACCESS_REQUEST;
        if (known) {
            conn_send(ch->conn, ch->number, &ok);
        }
        break;
    }
    case 40:
        known = ch_exchange_method(ch, method);
        break;
    case 50:
        known = ch_queue_method(ch, method);
        break;
    case 60:
        known = ch_settle_method(ch, method) || ch_basic_method(ch, method);
        break;
    case 85:
        known = method->id == WIRE_CONFIRM_SELECT;
        if (known) {
            confirm_select(ch, method->confirm_select.no_wait);
        }
        break;
    case 90:
        known = ch_tx_method(ch, method);
        break;
    default:
        known = false;
    }
    if (!known) {
        conn_fault(ch->conn, 503, wire_class_of(method->id), wire_method_of(method->id),
                   "unimplemented method");
    }
}

void channel_work_method(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct wire_method method;
    enum wire_fault fault = wire_method_decode(frame->payload, &method);
    if (WR_UNLIKELY(fault != WIRE_OK)) {
        conn_decode_fault(ch->conn, fault, frame->payload, method.id);
        return;
    }
    if (WR_LIKELY(method.id == WIRE_BASIC_PUBLISH)) {
        content_publish(ch, &method.basic_publish);
        return;
    }
    on_method(ch, &method);
}

void channel_work(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (ch->content.state != CONTENT_NONE) {
        content_frame(ch, frame);
        return;
    }
    if (frame->type != WIRE_FRAME_METHOD) {
        conn_fault(ch->conn, 505, 0, 0, "expected method frame, got non method frame instead");
        return;
    }
    channel_work_method(ch, frame);
}

/* Frames of a channel for which we sent channel.close: only close-ok and close count. */
static void closing_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (decodes_to(frame, WIRE_CHANNEL_CLOSE_OK)) {
        remove_channel(ch);
    } else if (decodes_to(frame, WIRE_CHANNEL_CLOSE)) {
        send_late_close(ch);
        channel_touch(ch);
        send_close_ok(ch);
    }
}

void channel_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (WR_UNLIKELY(ch->closing)) {
        closing_frame(ch, frame);
        return;
    }
    if (WR_UNLIKELY(ch->committing) && ch->queued_head == ch->queued.count &&
        !kept_may_follow_commit(ch, frame)) {
        return;
    }
    if (WR_UNLIKELY(kept_waits(ch) || ch->client_closed || ch->queued_head < ch->queued.count ||
                    kept_alarm_holds(ch, frame->type, frame->payload))) {
        kept_frame(ch, frame);
        return;
    }
    ch->received_at = ch->conn->received_bytes;
    channel_work(ch, frame);
}
