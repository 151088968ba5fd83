/*
 * What: the server of one shard: connections come and go; turns.
 *
 * Happy path: accept -> bytes -> (frames, connection.c) -> turn: channels flush, connections send
 * -> closed -> freed.
 *
 * Invariants: I1 a connection is freed in amqp_turn only, never while its input or an upcall is
 * being worked on, and never while its session's callback is still to come. I2 every accepted
 * connection gets exactly one amqp_on_closed (the env's promise). Ownership: the server owns
 * connections; a connection owns its channels. Threads: the shard's.
 */
#include <stdio.h>

#include "amqp_internal.h"

uint64_t conn_now_ms(const struct amqp_server *server)
{
    return server->env->ops->mono_ns(server->env) / 1000000;
}

void conn_bury(struct amqp_conn *conn)
{
    list_remove(&conn->link);
    list_push_back(&conn->server->graveyard, &conn->link);
}

static void on_handshake_timeout(struct timer *t)
{
    struct amqp_conn *conn = WR_CONTAINER_OF(t, struct amqp_conn, timer);
    bool silent = conn->state == CONN_HEADER && conn->header_size == 0;
    wr_log(conn->server->options.logger, silent ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, "connection",
           "%s:%u: handshake_timeout after %u ms, connection closed", conn->peer.host,
           conn->peer.port, conn->server->options.handshake_timeout_ms);
    conn_abort(conn);
}

void amqp_accept(struct amqp_server *server, struct env_conn *env_conn, const struct net_addr *peer,
                 const struct net_addr *local)
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
    WR_ASSERT(conn->session == NULL && conn->channels.count == 0);
    list_remove(&conn->link);
    list_remove(&conn->dirty_link);
    timer_cancel(&conn->server->timers, &conn->timer);
    timer_cancel(&conn->server->timers, &conn->heartbeat_timer);
    wire_frame_reader_deinit(&conn->reader);
    buf_unref(conn->early);
    outq_deinit(&conn->out);
    umap_deinit(&conn->channels);
    slice_unref(&conn->client_properties);
    wr_free(conn);
}

/* --- upcalls of the env ----------------------------------------------------------------------- */

/* Who goes on before it has heard open-ok is heard after it. */
static void keep_early(struct amqp_conn *conn, struct bytes input)
{
    if (input.size + (conn->early == NULL ? 0 : conn->early->size) > AMQP_EARLY_MAX) {
        wr_log(
            conn->server->options.logger, LOG_LEVEL_ERROR, "connection",
            "%s:%u sent more than %u bytes before connection.open was answered; connection closed",
            conn->peer.host, conn->peer.port, AMQP_EARLY_MAX);
        conn_abort(conn);
        return;
    }
    if (conn->early == NULL) {
        conn->early = buf_new(input.size);
    }
    buf_append(&conn->early, input.data, input.size);
}

static void work_off(struct amqp_conn *conn, struct bytes input)
{
    while (conn->state != CONN_CLOSED && conn->state != CONN_HEADER &&
           conn->reader.fault == WIRE_OK) {
        struct wire_frame frame;
        if (conn->state == CONN_SEATING) {
            if (input.size > 0) {
                keep_early(conn, input);
            }
            break;
        }
        enum wire_read got = wire_frame_next(&conn->reader, &input, &frame);
        if (got == WIRE_READ_MORE) {
            break;
        }
        if (got == WIRE_READ_FAULT) {
            conn_reader_fault(conn);
            break;
        }
        conn_frame(conn, &frame);
    }
}

void conn_work_off_early(struct amqp_conn *conn)
{
    struct buf *early = conn->early;
    if (early != NULL && conn->state != CONN_SEATING) {
        conn->early = NULL;
        work_off(conn, bytes_make(early->data, early->size));
        buf_unref(early);
    }
}

void amqp_on_bytes(struct amqp_server *server, void *user, const uint8_t *data, size_t size)
{
    struct amqp_conn *conn = user;
    struct bytes input = bytes_make(data, size);
    conn->received_ms = conn_now_ms(server);
    conn->received_bytes += size;
    if (conn->state == CONN_HEADER) {
        start_on_header(conn, &input);
    }
    conn_work_off_early(conn);
    work_off(conn, input);
    if (conn->session != NULL) {
        conn_dirty(conn); /* the turn passes the octets on to the listings */
    }
}

void amqp_on_drained(struct amqp_server *server, void *user)
{
    struct amqp_conn *conn = user;
    (void)server;
    if (!conn->held) {
        return;
    }
    conn->held = false;
    struct umap_iter it = umap_iterate(&conn->channels);
    while (umap_next(&it)) {
        struct amqp_channel *ch = it.value;
        if (ch->broker != NULL) {
            broker_channel_hold(ch->broker, false);
        }
    }
    conn_answers_read(conn);
}

void amqp_on_closed(struct amqp_server *server, void *user, int error)
{
    struct amqp_conn *conn = user;
    if (conn->state == CONN_RUNNING) {
        wr_log(server->options.logger, LOG_LEVEL_WARNING, "connection",
               "client unexpectedly closed TCP connection %s:%u user=%s%s%s", conn->peer.host,
               conn->peer.port, conn->user, error != 0 ? ": " : "",
               error != 0 ? wr_err_text(error) : "");
    } else if (conn->state == CONN_HEADER && conn->header_size == 0) {
        wr_log(server->options.logger, LOG_LEVEL_DEBUG, "connection",
               "%s:%u closed before sending anything", conn->peer.host, conn->peer.port);
    }
    server->count--;
    conn->gone = true;
    timer_cancel(&server->timers, &conn->heartbeat_timer);
    if (conn->state == CONN_FINISHING) {
        conn_answers_read(conn);
        return; /* what the client sent before its close still counts: conn_flush ends it */
    }
    conn->state = CONN_CLOSED;
    timer_cancel(&server->timers, &conn->timer);
    list_remove(&conn->dirty_link);
    conn_drop_session(conn);
    if (!conn->session_busy) {
        conn_bury(conn);
    }
}

/* --- the server ------------------------------------------------------------------------------- */

struct amqp_server *amqp_server_new(struct env *env, struct broker *broker,
                                    const struct amqp_options *options)
{
    struct amqp_server *server = wr_calloc(1, sizeof *server);
    server->env = env;
    server->broker = broker;
    server->options = *options;
    if (options->mechanisms == 0) {
        server->options.mechanisms = AMQP_MECHANISM_PLAIN | AMQP_MECHANISM_AMQPLAIN;
    }
    list_init(&server->conns);
    list_init(&server->dirty);
    list_init(&server->touched);
    list_init(&server->graveyard);
    list_init(&server->room_waits);
    list_init(&server->room_holders);
    timer_init(&server->room_timer);
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
        conn->gone = true;
        conn->state = CONN_CLOSED;
        conn_drop_session(conn);
        conn_free(conn);
    }
    LIST_FOREACH_SAFE(link, &server->graveyard) {
        conn_free(WR_CONTAINER_OF(link, struct amqp_conn, link));
    }
    timer_cancel(&server->timers, &server->room_timer);
    timers_deinit(&server->timers);
    chunk_arena_deinit(&server->arena);
    wr_free(server);
}

/* Of the end of the last alarm every connection hears that heard of one, also when the channels
 * that published are closed. Whoever is paused may be listened to again when there is room. */
static void look_at_alarms(struct amqp_server *server)
{
    bool alarms = broker_alarms(server->broker) != 0;
    bool over = server->alarms && !alarms;
    bool look = server->kept_less || server->alarms != alarms;
    server->alarms = alarms;
    server->kept_less = false;
    if (!look) {
        return;
    }
    LIST_FOREACH(link, &server->conns) {
        struct amqp_conn *conn = WR_CONTAINER_OF(link, struct amqp_conn, link);
        conn_look_at_pause(conn);
        if (!over) {
            continue;
        }
        if (conn->blocked_told && conn_works(conn)) {
            struct wire_method method = {.id = WIRE_CONNECTION_UNBLOCKED};
            conn_send(conn, 0, &method);
        }
        if (conn->alarmed) {
            conn->received_ms = conn_now_ms(server); /* it is judged again from now on */
        }
        conn->alarmed = conn->blocked_told = false;
    }
}

void amqp_turn(struct amqp_server *server)
{
    look_at_alarms(server);
    (void)timers_run(&server->timers, conn_now_ms(server));
    content_give_room(server);
    struct list *link;
    while ((link = list_pop_front(&server->touched)) != NULL) {
        channel_flush(WR_CONTAINER_OF(link, struct amqp_channel, touched_link));
    }
    while ((link = list_pop_front(&server->dirty)) != NULL) {
        conn_flush(WR_CONTAINER_OF(link, struct amqp_conn, dirty_link));
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

void amqp_close_all(struct amqp_server *server, const char *reason)
{
    char text[200];
    (void)snprintf(text, sizeof text, "broker forced connection closure with reason '%s'", reason);
    LIST_FOREACH_SAFE(link, &server->conns) {
        struct amqp_conn *conn = WR_CONTAINER_OF(link, struct amqp_conn, link);
        if (conn->state == CONN_RUNNING) {
            conn_fault(conn, 320, 0, 0, "%s", text);
        } else if (conn->state < CONN_RUNNING) {
            conn_abort(conn);
        } else if (conn->state == CONN_LEAVING) {
            conn_end(conn, AMQP_CLOSE_LINGER_MS);
        }
    }
}

uint32_t amqp_connections(const struct amqp_server *server)
{
    return server->count;
}
