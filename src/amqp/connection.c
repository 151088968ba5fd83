/*
 * What: AMQP connections: input, frames, closing in both directions, output.
 *
 * Happy path: bytes -> frame reader -> channel 0 here, others to their channel; output gathers in conn->out and leaves once per turn.
 *
 * Failure modes: a connection error sends connection.close, drops every further frame but close-ok, and ends the socket when the client
 * answers or after a time limit. Errors before the connection runs end the socket after a pause, as RabbitMQ does.
 *
 * Invariants: I1 after conn->state is CONN_CLOSED nothing is sent. I2 a connection is freed in amqp_turn only, never while its input is
 * being worked on. I3 the session is closed exactly once.
 */
#include <stdarg.h>
#include <stdio.h>

#include "amqp_internal.h"

#define OUT_TAKE 64

uint64_t conn_now_ms(const struct amqp_server *server)
{
    return server->env->ops->mono_ns(server->env) / 1000000;
}

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

void conn_pause(struct amqp_conn *conn, bool paused)
{
    WR_ASSERT(paused || conn->paused > 0);
    conn->paused += paused ? 1 : UINT32_MAX;
    if (conn->state != CONN_CLOSED && conn->paused == (paused ? 1u : 0u)) {
        conn->server->env->ops->conn_pause(conn->conn, paused);
    }
}

static void drop_session(struct amqp_conn *conn, void (*done)(void *ctx), void *ctx);

static void flush(struct amqp_conn *conn)
{
    struct slice pieces[OUT_TAKE];
    if (conn->drop_pending) {
        conn->drop_pending = false;
        drop_session(conn, NULL, NULL);
    }
    for (;;) {
        int n = outq_take(&conn->out, pieces, OUT_TAKE);
        if (n == 0) {
            break;
        }
        for (int i = 0; i < n; i++) {
            conn->sent_bytes += pieces[i].size;
        }
        conn->server->env->ops->conn_send(conn->conn, pieces, (uint32_t)n);
    }
    conn->sent_ms = conn_now_ms(conn->server);
    if (!conn->held && conn->server->env->ops->conn_backlog(conn->conn) > AMQP_HOLD_HIGH) {
        conn->held = true;
        struct umap_iter it = umap_iterate(&conn->channels);
        while (umap_next(&it)) {
            struct amqp_channel *ch = it.value;
            if (ch->broker != NULL) {
                broker_channel_hold(ch->broker, true);
            }
        }
    }
}

void conn_close_session(struct amqp_conn *conn)
{
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        channel_free(it.value);
    }
    umap_deinit(&conn->channels);
    umap_init(&conn->channels, conn->server->hash_seed);
    conn->last_channel = NULL;
}

static void drop_session(struct amqp_conn *conn, void (*done)(void *ctx), void *ctx)
{
    conn_close_session(conn);
    if (conn->session != NULL) {
        struct broker_session *session = conn->session;
        conn->session = NULL;
        broker_session_close(session, done, ctx);
    } else if (done != NULL) {
        done(ctx);
    }
}

/* Ends the socket once what is queued is out. */
void conn_end(struct amqp_conn *conn, uint32_t linger_ms)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    flush(conn);
    conn->state = CONN_CLOSED;
    list_remove(&conn->dirty_link);
    timer_cancel(&conn->server->timers, &conn->timer);
    timer_cancel(&conn->server->timers, &conn->heartbeat_timer);
    drop_session(conn, NULL, NULL);
    conn->server->env->ops->conn_close(conn->conn, linger_ms > 0, linger_ms);
}

void conn_abort(struct amqp_conn *conn)
{
    conn_end(conn, 0);
}

static void on_close_timeout(struct timer *t)
{
    conn_end(WR_CONTAINER_OF(t, struct amqp_conn, timer), AMQP_CLOSE_LINGER_MS);
}

static void send_close(struct amqp_conn *conn, uint16_t code, uint16_t class_id, uint16_t method_id, struct bytes text)
{
    struct wire_method close = {.id = WIRE_CONNECTION_CLOSE};
    close.connection_close.reply_code = code;
    close.connection_close.reply_text = text;
    close.connection_close.class_id = class_id;
    close.connection_close.method_id = method_id;
    conn_send(conn, 0, &close);
}

void conn_fault(struct amqp_conn *conn, uint16_t code, uint16_t class_id, uint16_t method_id, const char *fmt, ...)
{
    char explanation[512];
    char text[WIRE_REPLY_TEXT_SIZE];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(explanation, sizeof explanation, fmt, args);
    va_end(args);
    if (conn->state == CONN_CLOSING || conn->state == CONN_CLOSED || conn->state == CONN_ENDING) {
        return;
    }
    struct bytes reply = wire_reply_text(text, code, "%s", explanation);
    wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection", "closing %s:%u -> %s:%u user=%s: %.*s", conn->peer.host,
           conn->peer.port, conn->local.host, conn->local.port, conn->user, (int)reply.size, (const char *)reply.data);
    send_close(conn, code, class_id, method_id, reply);
    conn->state = CONN_CLOSING;
    conn->drop_pending = true; /* in the turn: a channel may be at work above us on the stack */
    conn_set_timer(conn, AMQP_CLOSE_WAIT_MS, on_close_timeout);
}

static void on_session_gone(void *ctx)
{
    struct amqp_conn *conn = ctx;
    if (conn->state == CONN_ENDING) {
        struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
        conn_send(conn, 0, &ok);
        conn_end(conn, AMQP_CLOSE_LINGER_MS);
    }
    if (conn->gone) { /* the socket went first: now it may be freed */
        list_remove(&conn->link);
        list_push_back(&conn->server->graveyard, &conn->link);
    }
}

static void client_closes(struct amqp_conn *conn)
{
    wr_log(conn->server->options.logger, LOG_LEVEL_DEBUG, "connection", "closed by client %s:%u", conn->peer.host, conn->peer.port);
    conn->state = CONN_ENDING;
    timer_cancel(&conn->server->timers, &conn->timer);
    drop_session(conn, on_session_gone, conn);
}

static void on_channel0(struct amqp_conn *conn, const struct wire_method *method)
{
    uint16_t class_id = wire_class_of(method->id);
    uint16_t method_id = wire_method_of(method->id);
    if (conn->state < CONN_RUNNING) {
        if (method->id == WIRE_CONNECTION_CLOSE) {
            client_closes(conn);
        } else {
            start_on_method(conn, method);
        }
        return;
    }
    switch ((uint32_t)method->id) {
    case WIRE_CONNECTION_CLOSE:
        client_closes(conn);
        break;
    case WIRE_CONNECTION_UPDATE_SECRET: {
        struct wire_method ok = {.id = WIRE_CONNECTION_UPDATE_SECRET_OK};
        conn_send(conn, 0, &ok);
        break;
    }
    default:
        if (class_id == 10) {
            conn_fault(conn, 504, class_id, method_id, "unexpected method in connection state running");
        } else {
            conn_fault(conn, 503, class_id, method_id, "unimplemented method");
        }
    }
}

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
            conn_fault(conn, wire_fault_code(fault), wire_class_of(method.id), wire_method_of(method.id), "%s", wire_fault_text(fault));
            return;
        }
    }
    if (method.id == WIRE_CHANNEL_CLOSE_OK || method.id == WIRE_CHANNEL_CLOSE) {
        conn_fault(conn, 504, wire_class_of(method.id), wire_method_of(method.id), "expected 'channel.open'");
        return;
    }
    if (method.id != WIRE_CHANNEL_OPEN) {
        conn_fault(conn, 504, wire_class_of(method.id), wire_method_of(method.id), "expected 'channel.open'");
        return;
    }
    uint32_t count = (uint32_t)conn->channels.count;
    if (conn->channel_max != 0 && count >= conn->channel_max) {
        conn_fault(conn, 530, 0, 0, "number of channels opened (%u) has reached the negotiated channel_max (%u)", count,
                   conn->channel_max);
        return;
    }
    struct amqp_channel *ch = channel_new(conn, frame->channel);
    (void)umap_put(&conn->channels, frame->channel, ch);
    struct wire_method ok = {.id = WIRE_CHANNEL_OPEN_OK};
    conn_send(conn, frame->channel, &ok);
}

static void on_channel0_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    struct wire_method method;
    if (frame->type == WIRE_FRAME_HEARTBEAT) {
        return; /* any bytes count as a sign of life */
    }
    if (frame->type != WIRE_FRAME_METHOD) {
        conn_fault(conn, 505, 0, 0, "expected method frame, got non method frame instead");
        return;
    }
    enum wire_fault fault = wire_method_decode(frame->payload, &method);
    if (fault != WIRE_OK) {
        if (conn->state < CONN_RUNNING) {
            wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection", "%s:%u: %s during handshake", conn->peer.host,
                   conn->peer.port, wire_fault_text(fault));
            conn_abort(conn);
            return;
        }
        conn_fault(conn, wire_fault_code(fault), wire_class_of(method.id), wire_method_of(method.id), "%s", wire_fault_text(fault));
        return;
    }
    on_channel0(conn, &method);
}

void conn_frame(struct amqp_conn *conn, const struct wire_frame *frame)
{
    if (conn->state == CONN_CLOSING) { /* only close and close-ok matter now */
        struct wire_method method;
        if (frame->type == WIRE_FRAME_METHOD && frame->channel == 0 && wire_method_decode(frame->payload, &method) == WIRE_OK) {
            if (method.id == WIRE_CONNECTION_CLOSE_OK) {
                conn_end(conn, AMQP_CLOSE_LINGER_MS);
            } else if (method.id == WIRE_CONNECTION_CLOSE) {
                struct wire_method ok = {.id = WIRE_CONNECTION_CLOSE_OK};
                conn_send(conn, 0, &ok);
            }
        }
        return;
    }
    if (conn->state == CONN_CLOSED || conn->state == CONN_ENDING || conn->state == CONN_REFUSING) {
        return;
    }
    if (frame->channel == 0) {
        on_channel0_frame(conn, frame);
        return;
    }
    if (conn->state != CONN_RUNNING) {
        conn_abort(conn);
        return;
    }
    if (frame->type == WIRE_FRAME_HEARTBEAT) {
        conn_fault(conn, 505, 0, 0, "heartbeat frame on channel %u", frame->channel);
        return;
    }
    struct amqp_channel *ch = find_channel(conn, frame->channel);
    if (ch == NULL) {
        on_new_channel(conn, frame);
    } else {
        channel_frame(ch, frame);
    }
}

/* --- input ------------------------------------------------------------------------------------------------------------------------- */

static void on_reader_fault(struct amqp_conn *conn)
{
    char text[256];
    struct strbuf s;
    strbuf_init(&s, text, sizeof text);
    wire_frame_reader_describe_fault(&conn->reader, &s);
    if (conn->state < CONN_RUNNING) {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection", "%s:%u: %s during handshake", conn->peer.host,
               conn->peer.port, text);
        conn_abort(conn);
        return;
    }
    conn_fault(conn, 501, 0, 0, "%s", text);
}

void amqp_on_bytes(struct amqp_server *server, void *user, const uint8_t *data, size_t size)
{
    struct amqp_conn *conn = user;
    struct bytes input = bytes_make(data, size);
    conn->received_ms = conn_now_ms(server);
    conn->received_bytes += size;
    conn->in_input = true;
    if (conn->state == CONN_HEADER) {
        start_on_header(conn, &input);
    }
    while (conn->state != CONN_CLOSED && conn->state != CONN_HEADER && conn->reader.fault == WIRE_OK) {
        struct wire_frame frame;
        enum wire_read got = wire_frame_next(&conn->reader, &input, &frame);
        if (got == WIRE_READ_MORE) {
            break;
        }
        if (got == WIRE_READ_FAULT) {
            on_reader_fault(conn);
            break;
        }
        conn_frame(conn, &frame);
    }
    conn->in_input = false;
}

/* --- life ---------------------------------------------------------------------------------------------------------------------------- */

static void on_handshake_timeout(struct timer *t)
{
    struct amqp_conn *conn = WR_CONTAINER_OF(t, struct amqp_conn, timer);
    if (conn->state == CONN_HEADER && conn->header_size == 0) {
        wr_log(conn->server->options.logger, LOG_LEVEL_DEBUG, "connection", "%s:%u: nothing received within the handshake timeout",
               conn->peer.host, conn->peer.port);
    } else {
        wr_log(conn->server->options.logger, LOG_LEVEL_ERROR, "connection", "%s:%u: handshake_timeout after %u ms, connection closed",
               conn->peer.host, conn->peer.port, conn->server->options.handshake_timeout_ms);
    }
    conn_abort(conn);
}

void amqp_accept(struct amqp_server *server, struct env_conn *env_conn, const struct net_addr *peer, const struct net_addr *local)
{
    struct amqp_conn *conn = wr_calloc(1, sizeof *conn);
    conn->tag = ENV_LISTEN_AMQP;
    conn->server = server;
    conn->conn = env_conn;
    conn->peer = *peer;
    conn->local = *local;
    list_init(&conn->dirty_link);
    list_push_back(&server->conns, &conn->link);
    wire_frame_reader_init(&conn->reader, server->options.initial_frame_max);
    outq_init(&conn->out);
    umap_init(&conn->channels, server->hash_seed);
    timer_init(&conn->timer);
    timer_init(&conn->heartbeat_timer);
    conn->received_ms = conn->sent_ms = conn_now_ms(server);
    server->count++;
    server->env->ops->conn_set_user(env_conn, conn);
    server->env->ops->conn_set_watermarks(env_conn, AMQP_HOLD_LOW, AMQP_HOLD_HIGH);
    conn_set_timer(conn, server->options.handshake_timeout_ms, on_handshake_timeout);
}

static void conn_free(struct amqp_conn *conn)
{
    list_remove(&conn->link);
    list_remove(&conn->dirty_link);
    timer_cancel(&conn->server->timers, &conn->timer);
    timer_cancel(&conn->server->timers, &conn->heartbeat_timer);
    wire_frame_reader_deinit(&conn->reader);
    outq_deinit(&conn->out);
    umap_deinit(&conn->channels);
    slice_unref(&conn->client_properties);
    wr_free(conn);
}

void amqp_on_drained(struct amqp_server *server, void *user)
{
    struct amqp_conn *conn = user;
    (void)server;
    if (conn->held) {
        conn->held = false;
        struct umap_iter it = umap_iterate(&conn->channels);
        while (umap_next(&it)) {
            struct amqp_channel *ch = it.value;
            if (ch->broker != NULL) {
                broker_channel_hold(ch->broker, false);
            }
        }
    }
}

void amqp_on_closed(struct amqp_server *server, void *user, int error)
{
    struct amqp_conn *conn = user;
    if (conn->state == CONN_RUNNING) {
        wr_log(server->options.logger, LOG_LEVEL_WARNING, "connection", "client unexpectedly closed TCP connection %s:%u user=%s%s%s",
               conn->peer.host, conn->peer.port, conn->user, error != 0 ? ": " : "", error != 0 ? wr_err_text(error) : "");
    } else if (conn->state == CONN_HEADER && conn->header_size == 0) {
        wr_log(server->options.logger, LOG_LEVEL_DEBUG, "connection", "%s:%u closed before sending anything", conn->peer.host, conn->peer.port);
    }
    bool ending = conn->state == CONN_ENDING; /* on_session_gone still points here */
    conn->state = CONN_CLOSED;
    conn->gone = true;
    server->count--;
    list_remove(&conn->dirty_link);
    timer_cancel(&server->timers, &conn->timer);
    timer_cancel(&server->timers, &conn->heartbeat_timer);
    if (!ending) {
        drop_session(conn, NULL, NULL);
        list_remove(&conn->link);
        list_push_back(&server->graveyard, &conn->link);
    }
}

struct amqp_server *amqp_server_new(struct env *env, struct broker *broker, const struct amqp_options *options)
{
    struct amqp_server *server = wr_calloc(1, sizeof *server);
    server->env = env;
    server->broker = broker;
    server->options = *options;
    list_init(&server->conns);
    list_init(&server->dirty);
    list_init(&server->touched);
    list_init(&server->graveyard);
    prng_init(&server->prng, options->seed);
    server->hash_seed.k0 = prng_u64(&server->prng);
    server->hash_seed.k1 = prng_u64(&server->prng);
    timers_init(&server->timers, conn_now_ms(server));
    return server;
}

void amqp_server_free(struct amqp_server *server)
{
    if (server == NULL) {
        return;
    }
    LIST_FOREACH_SAFE(link, &server->conns) {
        struct amqp_conn *conn = WR_CONTAINER_OF(link, struct amqp_conn, link);
        conn->state = CONN_CLOSED;
        drop_session(conn, NULL, NULL);
        conn_free(conn);
    }
    LIST_FOREACH_SAFE(link, &server->graveyard) {
        conn_free(WR_CONTAINER_OF(link, struct amqp_conn, link));
    }
    timers_deinit(&server->timers);
    chunk_arena_deinit(&server->arena);
    wr_free(server);
}

void amqp_turn(struct amqp_server *server)
{
    (void)timers_run(&server->timers, conn_now_ms(server));
    struct list *link;
    while ((link = list_pop_front(&server->touched)) != NULL) {
        channel_flush(WR_CONTAINER_OF(link, struct amqp_channel, touched_link));
    }
    while ((link = list_pop_front(&server->dirty)) != NULL) {
        flush(WR_CONTAINER_OF(link, struct amqp_conn, dirty_link));
    }
    while ((link = list_first(&server->graveyard)) != NULL) {
        conn_free(WR_CONTAINER_OF(link, struct amqp_conn, link));
    }
}

uint64_t amqp_deadline_ns(const struct amqp_server *server)
{
    uint64_t next = timers_next_deadline(&server->timers);
    return next == TIMER_NO_DEADLINE ? UINT64_MAX : next * 1000000;
}

static void forced_close(struct amqp_conn *conn, const char *reason)
{
    if (conn->state == CONN_RUNNING) {
        conn_fault(conn, 320, 0, 0, "%s", reason);
    } else if (conn->state < CONN_RUNNING) {
        conn_abort(conn);
    }
}

void amqp_close_all(struct amqp_server *server, const char *reason)
{
    char text[200];
    (void)snprintf(text, sizeof text, "broker forced connection closure with reason '%s'", reason);
    LIST_FOREACH_SAFE(link, &server->conns) {
        forced_close(WR_CONTAINER_OF(link, struct amqp_conn, link), text);
    }
}

uint32_t amqp_connections(const struct amqp_server *server)
{
    return server->count;
}
