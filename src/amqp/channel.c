/*
 * What: channels: dispatch in order, waiting for broker calls, closing in both directions.
 *
 * Happy path: a frame goes to the content assembly (header, body) or to the handler of its class. A
 * method that needs the cluster makes the channel busy; frames that arrive meanwhile are kept
 * (copied) and worked off when the call has ended. While publishing is blocked, frames are kept
 * too, but some pass those that are kept (no alarm deadlock; docs/flow.md):
 *   acks                    all but another settle, recover, tx.* and a close
 *   requeues                publishes
 *   cancel, qos, recover    publishes; under an alarm consume and get as well
 *   a close                 nothing, but what is kept before it is then worked off at once
 *
 * Failure modes: a channel error sends channel.close and drops everything until close-ok; errors
 * that concern the connection are passed on.
 *
 * Invariants: I1 frames of a channel are worked on in order, but for those that pass held
 * publishes. I2 the broker channel is closed in the turn or directly below a frame from the socket,
 * never below a broker upcall. I3 the kept frames of a connection cost at most kept_max() plus
 * one read: then the socket is paused.
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

static void drop_queued(struct amqp_channel *ch)
{
    for (size_t i = ch->queued_head; i < ch->queued.count; i++) {
        slice_unref(&ch->queued.items[i].payload);
    }
    vec_clear(&ch->queued);
    conn_kept(ch->conn, 0, ch->queued_bytes);
    ch->queued_head = 0;
    ch->queued_bytes = 0;
    memset(ch->queued_kinds, 0, sizeof ch->queued_kinds);
    ch->let_through = 0;
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
    drop_queued(ch);
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
    channel_touch(ch); /* a broker upcall is above us on the stack: see I2 */
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

static bool is_held(const struct amqp_channel *ch)
{
    return (ch->blocked && !ch->leaving && ch->let_through == 0) || ch->waiting_publish ||
           ch->waiting_room || ch->conn->unread;
}

static bool waits(const struct amqp_channel *ch)
{
    return ch->calls.count > 0 || is_held(ch);
}

static bool may_begin_ahead(uint32_t id)
{
    return id == (uint32_t)WIRE_QUEUE_DECLARE || id == (uint32_t)WIRE_QUEUE_BIND ||
           id == (uint32_t)WIRE_QUEUE_UNBIND || id == (uint32_t)WIRE_QUEUE_DELETE ||
           id == (uint32_t)WIRE_BASIC_CONSUME || id == (uint32_t)WIRE_BASIC_CANCEL;
}

/* Declares, binds and others begin while such as they are under way, where nothing but the cluster
 * decides about them: a commit takes a sync, and one serves many. True: it has begun. */
static bool begins_ahead(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct wire_method method;
    if (ch->calls.count == 0 || ch->calls.count >= AMQP_AHEAD_MAX || ch->ahead_refused ||
        is_held(ch) || ch->client_closed || frame->type != WIRE_FRAME_METHOD ||
        frame->payload.size < 4) {
        return false;
    }
    if (!may_begin_ahead(bytes_load_be32(frame->payload.data))) {
        return false;
    }
    const bool begins = wire_method_decode(frame->payload, &method) == WIRE_OK &&
                        (ch_queue_ahead(ch, &method) || ch_basic_ahead(ch, &method));
    ch->ahead_refused = !begins;
    return begins;
}

/* Would a publish begin while there is an alarm? Then the channel is held back before it, as with
 * RabbitMQ, and not only behind it: memory is short already. */
static bool alarm_holds(struct amqp_channel *ch, uint8_t type, struct bytes payload)
{
    if (WR_LIKELY(broker_alarms(ch->conn->server->broker) == 0) || ch->leaving ||
        ch->let_through > 0 || type != WIRE_FRAME_METHOD || payload.size < 4 ||
        bytes_load_be32(payload.data) != WIRE_BASIC_PUBLISH) {
        return false;
    }
    broker_channel_alarm(ch->broker);
    return ch->blocked;
}

static bool alarm_holds_kept(struct amqp_channel *ch)
{
    const struct saved_frame *next = &ch->queued.items[ch->queued_head];
    return alarm_holds(ch, next->type, bytes_from_slice(&next->payload));
}

bool channel_is_quiet(const struct amqp_channel *ch)
{
    return (ch->closing && ch->late_close == NULL) ||
           (!ch->closing && !ch->client_closed && !waits(ch) &&
            ch->queued_head == ch->queued.count);
}

static bool requeues(const struct wire_frame *frame)
{
    struct wire_method method;
    if (wire_method_decode(frame->payload, &method) != WIRE_OK) {
        return true;
    }
    return method.id == WIRE_BASIC_NACK ? method.basic_nack.requeue : method.basic_reject.requeue;
}

/* What the frame may pass. Under an alarm consumers may be what ends it. */
static enum kept_kind kind_of(const struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (frame->type != WIRE_FRAME_METHOD) {
        return KEPT_CONTENT;
    }
    if (frame->payload.size < 4) {
        return KEPT_BARRIER;
    }
    uint32_t id = bytes_load_be32(frame->payload.data);
    switch (id) {
    case WIRE_BASIC_PUBLISH:
        return KEPT_CONTENT;
    case WIRE_BASIC_ACK:
        return KEPT_ACK;
    case WIRE_BASIC_NACK:
    case WIRE_BASIC_REJECT:
        return requeues(frame) ? KEPT_REQUEUE : KEPT_ACK;
    case WIRE_BASIC_QOS:
    case WIRE_BASIC_CANCEL:
        return KEPT_ASKING;
    case WIRE_BASIC_RECOVER:
    case WIRE_BASIC_RECOVER_ASYNC:
        return ch->queued_kinds[KEPT_REQUEST] + ch->queued_kinds[KEPT_ASKING] == 0 ? KEPT_ASKING
                                                                                   : KEPT_BARRIER;
    case WIRE_BASIC_CONSUME:
    case WIRE_BASIC_GET:
        return ch->conn->alarmed ? KEPT_ASKING : KEPT_REQUEST;
    case WIRE_CHANNEL_CLOSE:
    case WIRE_TX_SELECT:
    case WIRE_TX_COMMIT:
    case WIRE_TX_ROLLBACK:
        return KEPT_BARRIER;
    default:
        return KEPT_REQUEST;
    }
}

/* How many there are before the frame that it may not pass. */
struct ahead {
    uint32_t settles, requests, barriers;
};

static void count_ahead(struct ahead *ahead, enum kept_kind kind, uint32_t count)
{
    ahead->settles += kind == KEPT_ACK || kind == KEPT_REQUEUE ? count : 0;
    ahead->requests += kind == KEPT_ASKING || kind == KEPT_REQUEST ? count : 0;
    ahead->barriers += kind == KEPT_BARRIER ? count : 0;
}

static bool may_pass(const struct ahead *ahead, enum kept_kind kind)
{
    bool first = ahead->settles == 0 && ahead->barriers == 0;
    return (kind == KEPT_ACK && first) ||
           ((kind == KEPT_REQUEUE || kind == KEPT_ASKING) && first && ahead->requests == 0);
}

static bool passes(const struct amqp_channel *ch)
{
    return ch->blocked && !ch->leaving && ch->let_through == 0 && ch->calls.count == 0 &&
           !ch->waiting_publish && !ch->closing && !ch->client_closed && !ch->conn->unread &&
           conn_works(ch->conn);
}

/*
 * What is kept before a close is worked off. So is a transaction that acknowledges something, with
 * its publishes: whoever takes from one queue what it puts into another would otherwise wait for
 * ever, its acks being part of what waits.
 */
static void after_kept(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (frame->type != WIRE_FRAME_METHOD || frame->payload.size < 4) {
        return;
    }
    uint32_t id = bytes_load_be32(frame->payload.data);
    if (id == (uint32_t)WIRE_CHANNEL_CLOSE) {
        channel_leave(ch);
    } else if (id == (uint32_t)WIRE_TX_COMMIT || id == (uint32_t)WIRE_TX_ROLLBACK) {
        if (ch->settled) {
            ch->let_through = ch->queued.count - ch->queued_head;
            channel_resume(ch);
        }
        ch->settled = false;
    }
}

static uint32_t count_others(const struct amqp_channel *ch)
{
    uint32_t count = 0;
    for (enum kept_kind kind = KEPT_ACK; kind < KEPT_KINDS; kind++) {
        count += ch->queued_kinds[kind];
    }
    return count;
}

static void keep_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct saved_frame saved = {.type = frame->type,
                                .kind = (uint8_t)kind_of(ch, frame),
                                .received_at = ch->conn->received_bytes,
                                .payload = slice_copy(frame->payload.data, frame->payload.size)};
    size_t cost = frame->payload.size + sizeof saved + sizeof(struct buf);
    if (saved.kind != KEPT_CONTENT && count_others(ch) == 0) {
        ch->queued_other = ch->queued.count;
    }
    vec_push(&ch->queued, saved);
    ch->queued_kinds[saved.kind]++;
    ch->queued_bytes += cost;
    conn_kept(ch->conn, cost, 0);
    after_kept(ch, frame);
}

/* While publishes of a tx.commit are being confirmed RabbitMQ lets nothing but channel.close come,
 * and what is behind that. False: the connection ends. */
static bool may_follow_commit(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct wire_method method;
    uint32_t id = 0;
    if (frame->type == WIRE_FRAME_METHOD &&
        wire_method_decode(frame->payload, &method) == WIRE_OK) {
        id = (uint32_t)method.id;
    }
    if (id == WIRE_CHANNEL_CLOSE) {
        return true;
    }
    conn_fault(ch->conn, 504, (uint16_t)(id >> 16), (uint16_t)(id & 0xffff),
               "unexpected command while processing 'tx.commit'");
    return false;
}

static void work_frame(struct amqp_channel *ch, const struct wire_frame *frame);
static void work_method(struct amqp_channel *ch, const struct wire_frame *frame);

/* Takes a kept frame out, and works it off. What passes does so in the middle of a held content,
 * too. */
static void work_kept(struct amqp_channel *ch, size_t at,
                      void (*work)(struct amqp_channel *ch, const struct wire_frame *frame))
{
    struct saved_frame saved = ch->queued.items[at];
    struct wire_frame frame = {
        .type = saved.type, .channel = ch->number, .payload = bytes_from_slice(&saved.payload)};
    size_t cost = saved.payload.size + sizeof saved + sizeof(struct buf);
    ch->queued.items[at].type = 0;
    ch->queued.items[at].payload = SLICE_NONE;
    ch->queued_kinds[saved.kind]--;
    ch->queued_bytes -= cost;
    conn_kept(ch->conn, 0, cost);
    ch->received_at = saved.received_at;
    work(ch, &frame);
    slice_unref(&saved.payload);
}

static void note_settled(struct amqp_channel *ch, enum kept_kind kind)
{
    ch->settled = ch->settled || kind == KEPT_ACK || kind == KEPT_REQUEUE;
}

/* Publishing is held back: what may pass the publishes does. */
static void pass_kept(struct amqp_channel *ch)
{
    struct ahead ahead = {0};
    uint32_t left = count_others(ch);
    size_t from = ch->queued_other > ch->queued_head ? ch->queued_other : ch->queued_head;
    for (size_t i = from; left > 0 && i < ch->queued.count && passes(ch); i++) {
        struct saved_frame *saved = &ch->queued.items[i];
        if (saved->type == 0 || saved->kind == KEPT_CONTENT) {
            continue;
        }
        left--;
        if (may_pass(&ahead, saved->kind)) {
            note_settled(ch, saved->kind);
            work_kept(ch, i, work_method);
        } else {
            count_ahead(&ahead, saved->kind, 1);
        }
    }
}

/* A commit is under way: what was kept behind it must be allowed to be there. */
static void check_next_kept(struct amqp_channel *ch)
{
    for (size_t i = ch->queued_head; i < ch->queued.count; i++) {
        const struct saved_frame *next = &ch->queued.items[i];
        if (next->type != 0) { /* else it passed, and was worked off */
            const struct wire_frame frame = {.type = next->type,
                                             .channel = ch->number,
                                             .payload = bytes_from_slice(&next->payload)};
            (void)may_follow_commit(ch, &frame);
            return;
        }
    }
}

/* The next of the kept frames, or what is left in the place of one that passed. */
static bool kept_begins_ahead(struct amqp_channel *ch)
{
    const struct saved_frame *next = &ch->queued.items[ch->queued_head];
    const struct wire_frame frame = {
        .type = next->type, .channel = ch->number, .payload = bytes_from_slice(&next->payload)};
    return next->type == 0 || begins_ahead(ch, &frame);
}

static void work_nothing(struct amqp_channel *ch, const struct wire_frame *frame)
{
    (void)ch, (void)frame; /* it has begun */
}

void channel_resume(struct amqp_channel *ch)
{
    if (ch->draining) {
        return;
    }
    ch->draining = true;
    if (passes(ch)) {
        pass_kept(ch);
    }
    while (!ch->closing && !ch->client_closed && conn_works(ch->conn) &&
           ch->queued_head < ch->queued.count) {
        size_t at = ch->queued_head;
        const bool ahead = ch->calls.count > 0;
        if (ahead ? !kept_begins_ahead(ch) : waits(ch) || alarm_holds_kept(ch)) {
            break;
        }
        ch->queued_head++;
        ch->let_through -= ch->let_through > 0;
        if (ch->queued.items[at].type != 0) {
            work_kept(ch, at, ahead ? work_nothing : work_frame);
        }
    }
    ch->draining = false;
    if (ch->committing) {
        check_next_kept(ch);
    }
    if (ch->queued_head == ch->queued.count) {
        vec_clear(&ch->queued);
        ch->queued_head = 0;
    } else if (ch->queued_head > 256 && ch->queued_head > ch->queued.count / 2) {
        ch->queued.count -= ch->queued_head;
        memmove(ch->queued.items, ch->queued.items + ch->queued_head,
                ch->queued.count * sizeof *ch->queued.items);
        ch->queued_other -= ch->queued_other > ch->queued_head ? ch->queued_head : ch->queued_other;
        ch->queued_head = 0;
    }
    if (ch->conn->state == CONN_FINISHING) {
        conn_dirty(ch->conn); /* it may have waited for this channel */
    }
}

void channel_leave(struct amqp_channel *ch)
{
    if (!ch->leaving) {
        ch->leaving = true;
        channel_resume(ch);
    }
}

/* --- leaving its queues ----------------------------------------------------------------------- */

/* A broker upcall is above us on the stack: the close goes on in the turn, see I2. */
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
        channel_touch(ch); /* a broker upcall may be above us on the stack: see I2 */
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

static void work_method(struct amqp_channel *ch, const struct wire_frame *frame)
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

static void work_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (ch->content.state != CONTENT_NONE) {
        content_frame(ch, frame);
        return;
    }
    if (frame->type != WIRE_FRAME_METHOD) {
        conn_fault(ch->conn, 505, 0, 0, "expected method frame, got non method frame instead");
        return;
    }
    work_method(ch, frame);
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

/* While publishing is held back: worked off at once, past what is kept, without being kept itself.
 */
static bool overtakes(struct amqp_channel *ch, const struct wire_frame *frame)
{
    struct ahead ahead = {0};
    if (!passes(ch) || ch->draining) {
        return false;
    }
    for (enum kept_kind k = KEPT_CONTENT; k < KEPT_KINDS; k++) {
        count_ahead(&ahead, k, ch->queued_kinds[k]);
    }
    enum kept_kind kind = kind_of(ch, frame);
    if (!may_pass(&ahead, kind)) {
        return false;
    }
    note_settled(ch, kind);
    ch->received_at = ch->conn->received_bytes;
    work_method(ch, frame);
    return true;
}

void channel_frame(struct amqp_channel *ch, const struct wire_frame *frame)
{
    if (WR_UNLIKELY(ch->closing)) {
        closing_frame(ch, frame);
        return;
    }
    if (WR_UNLIKELY(ch->committing) && ch->queued_head == ch->queued.count &&
        !may_follow_commit(ch, frame)) {
        return;
    }
    if (WR_UNLIKELY(waits(ch) || ch->client_closed || ch->queued_head < ch->queued.count ||
                    alarm_holds(ch, frame->type, frame->payload))) {
        const bool next = ch->queued_head == ch->queued.count && !ch->draining;
        if (!overtakes(ch, frame) && !(next && begins_ahead(ch, frame))) {
            keep_frame(ch, frame);
        }
        return;
    }
    ch->received_at = ch->conn->received_bytes;
    work_frame(ch, frame);
}
