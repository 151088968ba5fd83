/*
 * What: AMQP connections after the handshake: frames, closing in both directions, output.
 *
 * Happy path: a frame of channel 0 is worked on here, others go to their channel; output gathers in
 * conn->out and leaves once per turn.
 *
 * Closing by the client: channels work off what came before its connection.close (they may be
 * waiting for the cluster), then the session is closed, which deletes exclusive queues, then
 * close-ok goes out. Closing by an error: the session is closed, then close goes out and everything
 * but close-ok is dropped. So a client that hears of the end can declare its exclusive queues again
 * at once.
 *
 * Failure modes: errors before the connection runs end the socket without a frame, as RabbitMQ does
 * (but those of tune and open, which are told). Every waiting has a time limit.
 *
 * Invariants: I1 in CONN_CLOSED nothing is sent. I2 the session is closed exactly once, in the turn
 * or from an upcall of the env, never below a channel's frame. I3 conn->kept_bytes is the sum over
 * its channels' queued_bytes; reading is paused iff it is over the limit or answers are unread.
 */
#include <stdarg.h>
#include <stdio.h>

#include "amqp_internal.h"

#define OUT_TAKE 64
/* Of a payload that is no method, in a reply text. */
#define OCTETS_SHOWN 48u

void conn_dirty(struct amqp_conn *conn)
{
    if (list_is_empty(&conn->dirty_link)) {
        list_push_back(&conn->server->dirty, &conn->dirty_link);
    }
}

void conn_send(struct amqp_conn *conn, uint16_t channel, const struct wire_method *method)
{
    if (conn->state != CONN_CLOSED) {
        wire_send_method(&conn->out, channel, method);
        conn_dirty(conn);
    }
}

void conn_set_timer(struct amqp_conn *conn, uint32_t delay_ms, timer_fn fn)
{
    timer_add(&conn->server->timers, &conn->timer, conn_now_ms(conn->server) + delay_ms, fn);
}

static bool memory_is_low(const struct amqp_server *server)
{
    return (broker_alarms(server->broker) & BROKER_ALARM_MEMORY) != 0;
}

static uint64_t kept_all(const struct amqp_server *server)
{
    return memory_is_low(server) ? AMQP_KEPT_ALL_LOW : AMQP_KEPT_ALL;
}

/*
 * A channel whose publishes are held back shares its socket with channels that have nothing to do
 * with it: as long as there is room for what it goes on sending, they are listened to.
 */
static uint64_t kept_max(const struct amqp_server *server)
{
    if (server->kept_bytes > kept_all(server)) {
        return AMQP_KEPT_LEAST;
    }
    return memory_is_low(server) ? AMQP_KEPT_MAX_LOW : AMQP_KEPT_MAX;
}

static void pause_if_due(struct amqp_conn *conn)
{
    bool pause = conn->unread || conn->kept_bytes > kept_max(conn->server);
    if (pause != conn->paused) {
        conn->paused = pause;
        if (conn->state != CONN_CLOSED && !conn->gone) {
            conn->server->env->ops->conn_pause(conn->conn, pause);
        }
    }
}

void conn_kept(struct amqp_conn *conn, size_t more, size_t less)
{
    WR_ASSERT_OP(less, <=, conn->kept_bytes + more);
    struct amqp_server *server = conn->server;
    uint64_t all = kept_all(server);
    bool over = server->kept_bytes > all;
    conn->kept_bytes += more;
    conn->kept_bytes -= less;
    server->kept_bytes += more;
    server->kept_bytes -= less;
    server->kept_less = server->kept_less || (over && server->kept_bytes <= all);
    pause_if_due(conn);
}

void conn_look_at_pause(struct amqp_conn *conn)
{
    if (conn->state != CONN_CLOSED) {
        pause_if_due(conn);
    }
}

/* --- output ----------------------------------------------------------------------------------- */

static void send_out(struct amqp_conn *conn)
{
    struct slice pieces[OUT_TAKE];
    const struct env_ops *ops = conn->server->env->ops;
    if (conn->gone) {
        outq_deinit(&conn->out);
        return;
    }
    int n;
    while ((n = outq_take(&conn->out, pieces, OUT_TAKE)) > 0) {
        for (int i = 0; i < n; i++) {
            conn->sent_bytes += pieces[i].size;
        }
        ops->conn_send(conn->conn, pieces, (uint32_t)n);
        conn->sent_ms = conn_now_ms(conn->server);
    }
}

static void hold_deliveries(struct amqp_conn *conn)
{
    conn->held = true;
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        struct amqp_channel *ch = it.value;
        if (ch->broker != NULL) {
            broker_channel_hold(ch->broker, true);
        }
    }
}

static bool is_finished(const struct amqp_conn *conn)
{
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        if (!channel_is_quiet(it.value)) {
            return false;
        }
    }
    return true;
}

/* All channels have worked off what came before connection.close: now they leave their queues. */
static bool has_left(struct amqp_conn *conn)
{
    bool left = true;
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        left = !channel_leave_queues(it.value) && left;
    }
    return left;
}

static uint64_t answered_bytes(const struct amqp_conn *conn)
{
    return conn->sent_bytes + outq_size(&conn->out) - conn->delivered_bytes;
}

/*
 * A client that asks and does not read (returns of unroutable messages, confirms, answers) would
 * fill our memory with answers: it is not listened to until it has read them. Deliveries do not
 * count: they are held back by themselves, and a consumer that is slow must be able to settle.
 */
static void limit_answers(struct amqp_conn *conn, size_t backlog)
{
    uint64_t answers = answered_bytes(conn);
    if (backlog <= AMQP_HOLD_LOW) {
        conn->answers_read = answers;
    } else if (!conn->unread && conn->state == CONN_RUNNING && backlog > AMQP_ANSWERS_MAX &&
               answers - conn->answers_read > AMQP_ANSWERS_MAX) {
        conn->unread = true;
        pause_if_due(conn);
    }
}

void conn_answers_read(struct amqp_conn *conn)
{
    if (!conn->unread) {
        return;
    }
    conn->unread = false;
    conn->answers_read = answered_bytes(conn);
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        channel_resume(it.value);
    }
    pause_if_due(conn);
}

void conn_flush(struct amqp_conn *conn)
{
    if (conn->state == CONN_FINISHING && is_finished(conn) && has_left(conn)) {
        conn->state = CONN_ENDING;
        conn->drop_pending = true;
    }
    if (conn->drop_pending) {
        conn->drop_pending = false;
        conn_drop_session(conn);
    }
    if (conn->state == CONN_CLOSED) {
        return;
    }
    send_out(conn);
    if (conn->session != NULL) {
        broker_session_count(conn->session, conn->received_bytes, conn->sent_bytes, "running");
    }
    if (conn->gone) {
        return;
    }
    size_t backlog = conn->server->env->ops->conn_backlog(conn->conn);
    if (!conn->held && backlog > AMQP_HOLD_HIGH) {
        hold_deliveries(conn);
    }
    limit_answers(conn, backlog);
}

/* --- closing ---------------------------------------------------------------------------------- */

/* Ends the socket once what is queued is out. */
void conn_end(struct amqp_conn *conn, uint32_t linger_ms)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    send_out(conn);
    conn->state = CONN_CLOSED;
    conn->drop_pending = false;
    list_remove(&conn->dirty_link);
    timer_cancel(&conn->server->timers, &conn->timer);
    timer_cancel(&conn->server->timers, &conn->heartbeat_timer);
    conn_drop_session(conn);
    if (!conn->gone) {
        conn->server->env->ops->conn_close(conn->conn, linger_ms > 0, linger_ms);
    }
}

void conn_abort(struct amqp_conn *conn)
{
    conn_end(conn, 0);
}

static void on_close_timeout(struct timer *t)
{
    conn_end(WR_CONTAINER_OF(t, struct amqp_conn, timer), AMQP_CLOSE_LINGER_MS);
}

static void send_close_ok(struct amqp_conn *conn)
{
    struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
    conn_send(conn, 0, &ok);
}

static void send_failure(struct amqp_conn *conn)
{
    struct wire_method close = {.id = WIRE_CONNECTION_CLOSE};
    close.connection_close.reply_code = conn->failure.code;
    close.connection_close.reply_text = bytes_make(conn->failure.text, conn->failure.text_size);
    close.connection_close.class_id = conn->failure.class_id;
    close.connection_close.method_id = conn->failure.method_id;
    conn_send(conn, 0, &close);
    if (conn->failure.crossed) {
        send_close_ok(conn);
    }
    conn->state = CONN_CLOSING;
    conn_set_timer(conn, conn->reader.fault == WIRE_OK ? AMQP_CLOSE_WAIT_MS : AMQP_LOST_WAIT_MS,
                   on_close_timeout);
}

/*
 * The end of the stream must not come with close-ok. A client whose reader sees both before the
 * thread that closes takes it for a connection lost, and tells the application so; as in RabbitMQ
 * it is given time to hang up first.
 */
static void let_leave(struct amqp_conn *conn)
{
    send_close_ok(conn);
    conn->state = CONN_LEAVING;
    conn_set_timer(conn, AMQP_CLOSE_LINGER_MS, on_close_timeout);
}

/* The session is closed, or there was none: what was put off until then. */
static void after_session(struct amqp_conn *conn)
{
    if (conn->state == CONN_ENDING && conn->gone) {
        conn_end(conn, 0);
    } else if (conn->state == CONN_ENDING) {
        let_leave(conn);
    } else if (conn->state == CONN_FAILING) {
        send_failure(conn);
    }
    if (conn->gone && !conn->session_busy) {
        conn_bury(conn);
    }
}

static void on_session_closed(void *ctx)
{
    struct amqp_conn *conn = ctx;
    WR_ASSERT(conn->session_busy);
    conn->session_busy = false;
    after_session(conn);
}

void conn_drop_session(struct amqp_conn *conn)
{
    struct broker_session *session = conn->session;
    if (session != NULL && conn->channels.count > 1) {
        broker_session_leave(session);
    }
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        channel_free(it.value);
    }
    umap_deinit(&conn->channels);
    umap_init(&conn->channels, conn->server->hash_seed);
    conn->last_channel = NULL;
    conn->session = NULL;
    if (session != NULL) {
        conn->session_busy = true;
        broker_session_close(session, on_session_closed, conn);
    } else if (conn->state == CONN_ENDING || conn->state == CONN_FAILING) {
        after_session(conn);
    }
}

static void on_session_timeout(struct timer *t)
{
    struct amqp_conn *conn = WR_CONTAINER_OF(t, struct amqp_conn, timer);
    if (conn->state == CONN_FAILING) { /* its exclusive queues will go when they can */
        conn->drop_pending = false;
        conn_drop_session(conn);
        if (conn->state == CONN_FAILING) {
            send_failure(conn);
        }
    }
}

void conn_fault(struct amqp_conn *conn, uint16_t code, uint16_t class_id, uint16_t method_id,
                const char *fmt, ...)
{
    char explanation[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(explanation, sizeof explanation, fmt, args);
    va_end(args);
    if (conn->state > CONN_FINISHING) {
        return;
    }
    struct bytes reply = wire_reply_text(conn->failure.text, code, "%s", explanation);
    wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
           "closing %s:%u -> %s:%u user=%s: %.*s", conn->peer.host, conn->peer.port,
           conn->local.host, conn->local.port, conn->user, (int)reply.size,
           (const char *)reply.data);
    conn->failure.text_size = (uint32_t)reply.size;
    conn->failure.code = code;
    conn->failure.class_id = class_id;
    conn->failure.method_id = method_id;
    /* A client that has sent its own close gets close-ok and not a close of ours. */
    conn->state = conn->state == CONN_FINISHING ? CONN_ENDING : CONN_FAILING;
    conn->drop_pending = true; /* in the turn: a channel may be at work above us on the stack */
    conn_dirty(conn);
    conn_set_timer(conn, AMQP_SESSION_WAIT_MS, on_session_timeout);
}

static void on_finish_timeout(struct timer *t)
{
    struct amqp_conn *conn = WR_CONTAINER_OF(t, struct amqp_conn, timer);
    conn->state = CONN_ENDING;
    conn->drop_pending = true;
    conn_dirty(conn);
}

static void client_closes(struct amqp_conn *conn)
{
    wr_log(conn->server->options.logger, LOG_LEVEL_DEBUG, "connection", "closed by client %s:%u",
           conn->peer.host, conn->peer.port);
    conn->state = CONN_FINISHING;
    conn_dirty(conn);
    conn_set_timer(conn, AMQP_CLOSE_WAIT_MS, on_finish_timeout);
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        channel_leave(it.value);
    }
}

/* --- channel 0 -------------------------------------------------------------------------------- */

static void update_secret(struct amqp_conn *conn,
                          const struct wire_connection_update_secret *update)
{
    struct broker_fault fault = {0};
    if (!broker_session_update_secret(conn->session, update->new_secret, &fault)) {
        conn_fault(conn, fault.code, 10, 70, "%s", fault.text);
        return;
    }
    struct wire_method ok = {.id = WIRE_CONNECTION_UPDATE_SECRET_OK};
    conn_send(conn, 0, &ok);
}

static void on_channel0_method(struct amqp_conn *conn, const struct wire_method *method)
{
    if (method->id == WIRE_CONNECTION_CLOSE) {
        client_closes(conn);
    } else if (conn->state < CONN_RUNNING) {
        start_on_method(conn, method);
    } else if (method->id == WIRE_CONNECTION_UPDATE_SECRET) {
        update_secret(conn, &method->connection_update_secret);
    } else {
        conn_fault(conn, 504, wire_class_of(method->id), wire_method_of(method->id),
                   "unexpected method in connection state running");
    }
}

/* Who has not yet said who it is, and agreed on how to speak, is told nothing, as by RabbitMQ. */
static bool is_stranger(const struct amqp_conn *conn)
{
    return conn->state < CONN_OPEN;
}

void conn_decode_fault(struct amqp_conn *conn, enum wire_fault fault, struct bytes payload,
                       enum wire_method_id id)
{
    char text[300];
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    if (is_stranger(conn)) {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
               "%s:%u: %s during handshake", conn->peer.host, conn->peer.port,
               wire_fault_text(fault));
        conn_abort(conn);
        return;
    }
    if (payload.size < 4) {
        strbuf_add_cstr(&s, "type 1, all octets = ");
        wire_describe_binary(&s, payload, 16);
        strbuf_add_cstr(&s, ": unknown_frame");
    } else if (fault == WIRE_FAULT_TRUNCATED || fault == WIRE_FAULT_TRAILING) {
        strbuf_add_cstr(&s, "cannot decode ");
        wire_describe_binary(&s, bytes_make(payload.data + 4, payload.size - 4), OCTETS_SHOWN);
    } else {
        strbuf_add_cstr(&s, wire_fault_text(fault));
    }
    conn_fault(conn, wire_fault_code(fault), wire_class_of(id), wire_method_of(id), "%s", text);
}

/* A heartbeat needs no work: any bytes count as a sign of life. But it has to be one. */
static void on_heartbeat_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    if (frame->channel == 0 && frame->payload.size == 0) {
        return;
    }
    if (is_stranger(conn)) {
        conn_abort(conn);
    } else if (frame->channel != 0) {
        conn_fault(conn, 505, 0, 0, "type 8, all octets = <<>>");
    } else {
        conn_fault(conn, 501, 0, 0, "type 8, all octets = %u bytes: unknown_frame",
                   (uint32_t)frame->payload.size);
    }
}

static void on_channel0_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    struct wire_method method;
    if (frame->type != WIRE_FRAME_METHOD) {
        if (is_stranger(conn)) {
            conn_abort(conn);
        } else {
            conn_fault(conn, 505, 0, 0, "expected method frame, got non method frame instead");
        }
        return;
    }
    enum wire_fault fault = wire_method_decode(frame->payload, &method);
    if (fault != WIRE_OK) {
        conn_decode_fault(conn, fault, frame->payload, method.id);
        return;
    }
    on_channel0_method(conn, &method);
}

/* --- frames ----------------------------------------------------------------------------------- */

static struct amqp_channel *find_channel(struct amqp_conn *conn, uint16_t number)
{
    if (conn->last_channel != NULL && conn->last_channel->number == number) {
        return conn->last_channel;
    }
    struct amqp_channel *ch = umap_get(&conn->channels, number);
    if (ch != NULL) {
        conn->last_channel = ch;
    }
    return ch;
}

static void on_new_channel(struct amqp_conn *conn, const struct wire_frame *frame)
{
    struct wire_method method = {.id = WIRE_METHOD_NONE};
    if (frame->type == WIRE_FRAME_METHOD) {
        enum wire_fault fault = wire_method_decode(frame->payload, &method);
        if (fault != WIRE_OK) {
            conn_decode_fault(conn, fault, frame->payload, method.id);
            return;
        }
    } else if (frame->type != WIRE_FRAME_HEARTBEAT) {
        conn_fault(conn, 505, 0, 0, "expected method frame, got non method frame instead");
        return;
    }
    if (method.id != WIRE_CHANNEL_OPEN) {
        conn_fault(conn, 504, wire_class_of(method.id), wire_method_of(method.id),
                   "expected 'channel.open'");
        return;
    }
    uint32_t count = (uint32_t)conn->channels.count;
    if (conn->channel_max != 0 && count >= conn->channel_max) {
        conn_fault(conn, 530, 0, 0,
                   "number of channels opened (%u) has reached the negotiated channel_max (%u)",
                   count, conn->channel_max);
        return;
    }
    struct broker_fault fault = {0};
    if (!broker_channel_may_open(conn->session, &fault)) {
        conn_fault(conn, fault.code, 0, 0, "%s", fault.text);
        return;
    }
    struct amqp_channel *ch = channel_new(conn, frame->channel);
    (void)umap_put(&conn->channels, frame->channel, ch);
    struct wire_method ok = {.id = WIRE_CHANNEL_OPEN_OK};
    conn_send(conn, frame->channel, &ok);
}

/* The connection is on its way out: only close and close-ok matter. */
static void on_late_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    struct wire_method method;
    if (frame->type != WIRE_FRAME_METHOD || frame->channel != 0 ||
        wire_method_decode(frame->payload, &method) != WIRE_OK) {
        return;
    }
    if (conn->state == CONN_CLOSING && method.id == WIRE_CONNECTION_CLOSE_OK) {
        conn_end(conn, AMQP_CLOSE_LINGER_MS);
    } else if (conn->state == CONN_CLOSING && method.id == WIRE_CONNECTION_CLOSE) {
        send_close_ok(conn);
    } else if (conn->state == CONN_FAILING && method.id == WIRE_CONNECTION_CLOSE) {
        /* As in RabbitMQ the error is told first: a client that publishes nonsense and closes in
         * one breath would else take it for done. */
        conn->failure.crossed = true;
    }
}

void conn_channel_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    struct amqp_channel *ch = find_channel(conn, frame->channel);
    if (ch == NULL) {
        on_new_channel(conn, frame);
    } else {
        channel_frame(ch, frame);
    }
}

/* For a channel, before there can be any. */
static void on_early_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    char text[256];
    struct strbuf s;
    if (is_stranger(conn)) {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
               "%s:%u: frame on channel %u during handshake", conn->peer.host, conn->peer.port,
               frame->channel);
        conn_abort(conn);
        return;
    }
    strbuf_init(&s, text, sizeof text);
    wire_describe_binary(&s, frame->payload, OCTETS_SHOWN);
    conn_fault(conn, 505, 0, 0, "type %u, all octets = %s", frame->type, text);
}

void conn_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    if (WR_UNLIKELY(conn->state != CONN_RUNNING)) {
        if (conn->state > CONN_RUNNING) {
            on_late_frame(conn, frame);
            return;
        }
        if (conn->state == CONN_REFUSING) {
            return;
        }
        if (frame->channel != 0) {
            on_early_frame(conn, frame);
            return;
        }
    }
    if (WR_UNLIKELY(frame->type == WIRE_FRAME_HEARTBEAT)) {
        on_heartbeat_frame(conn, frame);
        return;
    }
    if (frame->channel == 0) {
        on_channel0_frame(conn, frame);
    } else {
        conn_channel_frame(conn, frame);
    }
}

void conn_reader_fault(struct amqp_conn *conn)
{
    char text[256];
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    wire_frame_reader_describe_fault(&conn->reader, &s);
    if (is_stranger(conn)) {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
               "%s:%u: %s during handshake", conn->peer.host, conn->peer.port, text);
        conn_abort(conn);
        return;
    }
    conn_fault(conn, 501, 0, 0, "%s", text);
}
