/*
 * What: heartbeats both ways. One is sent when nothing else was for half the interval; the
 * connection is cut without a frame when nothing came for two whole intervals (AMQP 0-9-1 §4.2.7,
 * with RabbitMQ's timing). A client whose input we have paused, or that an alarm holds back, is not
 * judged: many do nothing else while they wait.
 */
#include "amqp_internal.h"

static void on_heartbeat(struct timer *t)
{
    struct amqp_conn *conn = WR_CONTAINER_OF(t, struct amqp_conn, heartbeat_timer);
    struct amqp_server *server = conn->server;
    uint64_t now = conn_now_ms(server);
    uint64_t interval = (uint64_t)conn->heartbeat_s * 1000;
    if (conn->paused || conn->alarmed) {
        conn->received_ms = now;
    }
    if (now - conn->received_ms > 2 * interval) {
        wr_log(server->options.logger, LOG_LEVEL_WARNING, "connection",
               "missed heartbeats from client %s:%u user=%s, timeout %u s; connection closed",
               conn->peer.host, conn->peer.port, conn->user, conn->heartbeat_s);
        conn_abort(conn);
        return;
    }
    if (conn->state <= CONN_FINISHING && now - conn->sent_ms >= interval / 2) {
        wire_send_heartbeat(&conn->out);
        conn_dirty(conn);
    }
    uint64_t step = interval / 4 > 0 ? interval / 4 : 1;
    timer_add(&server->timers, &conn->heartbeat_timer, now + step, on_heartbeat);
}

void heartbeat_start(struct amqp_conn *conn)
{
    if (conn->heartbeat_s > 0) {
        uint64_t now = conn_now_ms(conn->server);
        conn->received_ms = now;
        timer_add(&conn->server->timers, &conn->heartbeat_timer,
                  now + (uint64_t)conn->heartbeat_s * 250, on_heartbeat);
    }
}
