/*
 * What: TLS (tls.h) of a connection, we being the server. What is read is decrypted before
 * on_bytes, what is queued is encrypted when it is flushed, never much more of it than the kernel
 * takes: so a backlog stays what the user gave us. A connection without pays for that with one look
 * at a pointer per read and per flush.
 *
 * Failure modes: a TLS error closes the connection gracefully, so that the alert arrives, and is
 * logged here, where it is known.
 */
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "tcp_internal.h"
#include "tls.h"

#define TLS_LINGER_MS  1000u
#define TLS_OUT_ENOUGH (64u * 1024u) /* ciphertext waiting for the kernel: no more is made */
#define TLS_OUT_MAX                                                                                \
    (256u * 1024u) /* ... and no more than this of what a peer makes us say without reading it */

void os_conn_tls_free(struct conn_tls *tls)
{
    os_tls_free(tls->session);
    sendq_deinit(&tls->out);
    list_remove(&tls->link);
    wr_free(tls);
}

/* One that ends in the middle is told of; nothing at all was only a look at the port. */
void os_conn_tls_over(struct env_conn *conn, const char *why)
{
    struct os_context *context = conn->context;
    struct conn_tls *tls = conn->tls;
    if (tls == NULL || list_is_empty(&tls->link)) {
        return;
    }
    list_remove(&tls->link);
    context->tls_handshake_count--;
    if (os_tls_state(tls->session) == OS_TLS_HANDSHAKE && !os_is_silent(context)) {
        wr_log(context->node->logger, LOG_LEVEL_WARNING, "connection",
               "%s:%u: TLS: closed in the middle of the handshake%s", tls->peer.host,
               tls->peer.port, why);
    }
}

/* The alert goes out first; the user hears of the end when the peer has closed, or lingered. */
static void tls_fail(struct env_conn *conn, const char *why)
{
    const struct conn_tls *tls = conn->tls;
    wr_log(conn->context->node->logger, LOG_LEVEL_WARNING, "connection", "%s:%u: TLS: %s",
           tls->peer.host, tls->peer.port, why);
    os_conn_tls_over(conn, "");
    sendq_deinit(&conn->queue);
    conn->close_error = WR_E_INVALID;
    os_conn_close_gracefully(conn, TLS_LINGER_MS);
}

/* The next piece of the queue, as one record: its own memory if it is large, otherwise gathered. */
static size_t tls_gather(struct env_conn *conn, const uint8_t **ret_data)
{
    const struct sendq *q = &conn->queue;
    const struct slice *s = &q->slices.items[q->head];
    uint8_t *scratch = conn->context->tls_buffer;
    if (s->size >= OS_TLS_RECORD || s->size == q->size) {
        *ret_data = slice_data(s);
        return s->size < OS_TLS_RECORD ? s->size : OS_TLS_RECORD;
    }
    size_t n = 0;
    for (size_t i = q->head; i < q->slices.count && n < OS_TLS_RECORD; i++) {
        s = &q->slices.items[i];
        size_t part = s->size < OS_TLS_RECORD - n ? s->size : OS_TLS_RECORD - n;
        memcpy(scratch + n, slice_data(s), part);
        n += part;
    }
    *ret_data = scratch;
    return n;
}

/* Encrypts what is queued, until there is enough for the kernel. */
void os_conn_tls_fill(struct env_conn *conn)
{
    struct conn_tls *tls = conn->tls;
    if (tls->session == NULL) {
        return;
    }
    while (os_tls_state(tls->session) == OS_TLS_OPEN && conn->queue.size > 0 &&
           tls->out.size < TLS_OUT_ENOUGH) {
        const uint8_t *data;
        size_t n = tls_gather(conn, &data);
        if (!os_tls_write(tls->session, data, n)) {
            tls_fail(conn, os_tls_failure(tls->session));
            return;
        }
        sendq_consume(&conn->queue, n);
    }
    if (conn->close_after_flush && conn->queue.size == 0) {
        os_tls_shutdown(tls->session);
    }
}

/* close_notify, if the kernel takes it now. */
void os_conn_tls_goodbye(struct env_conn *conn)
{
    if (conn->tls != NULL && conn->tls->session != NULL && !conn->writing) {
        sendq_deinit(&conn->queue);
        os_tls_shutdown(conn->tls->session);
        os_conn_flush(conn);
    }
}

/* A handshake costs memory and time before we know who asks: there are not too many at once, and
 * it is the oldest that goes, so that nobody keeps others out by holding on to his. */
static void tls_limit_handshakes(struct os_context *context)
{
    if (context->tls_handshake_count <= OS_TLS_HANDSHAKES_MAX) {
        return;
    }
    struct list *link = list_first(&context->tls_handshakes);
    struct conn_tls *oldest = WR_CONTAINER_OF(link, struct conn_tls, link);
    os_conn_tls_over(oldest->conn, ": too many have begun since");
    os_conn_destroy(oldest->conn, WR_E_LIMIT);
}

static struct os_tls *tls_session(struct env_conn *conn)
{
    struct conn_tls *tls = conn->tls;
    struct os_context *context = conn->context;
    if (context->tls_buffer == NULL) {
        context->tls_buffer = wr_alloc(OS_TLS_BUFFER);
    }
    if (tls->session == NULL) {
        tls->session = os_tls_new(context->node->tls, &tls->out);
        list_push_back(&context->tls_handshakes, &tls->link);
        context->tls_handshake_count++;
        tls_limit_handshakes(context);
    }
    return tls->session;
}

void os_conn_tls_received(struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct os_context *context = conn->context;
    struct os_tls *session = tls_session(conn);
    size_t n;
    os_tls_feed(session, data, size);
    while (!conn->closing && !conn->close_after_flush &&
           (n = os_tls_read(session, context->tls_buffer, OS_TLS_BUFFER)) > 0) {
        context->sink->on_bytes(context->sink_ctx, conn, context->tls_buffer, n);
    }
    os_tls_feed(session, NULL, 0);
    enum os_tls_state state = os_tls_state(session);
    if (state == OS_TLS_OPEN) {
        os_conn_tls_over(conn, "");
    }
    if (conn->closing || conn->close_after_flush) {
        return;
    }
    if (state == OS_TLS_FAILED) {
        tls_fail(conn, os_tls_failure(session));
    } else if (state == OS_TLS_ENDED) {
        os_conn_tls_goodbye(conn);
        os_conn_destroy(conn, 0);
        return;
    }
    if (conn->tls->out.size > TLS_OUT_MAX) {
        tls_fail(conn, "it makes us answer and does not read");
        os_conn_destroy(conn, 0);
    } else if (conn->tls->out.size > 0) {
        os_conn_flush(conn);
    }
}

const struct env_tls *os_conn_tls_info(const struct env_conn *conn)
{
    const struct conn_tls *tls = conn->tls;
    return tls != NULL && tls->session != NULL ? os_tls_info(tls->session) : NULL;
}

void os_tcp_begin_tls(struct env_conn *conn, const struct net_addr *peer)
{
    struct conn_tls *tls = wr_calloc(1, sizeof *tls);
    WR_ASSERT(conn->context->node->tls != NULL);
    tls->conn = conn;
    tls->peer = *peer;
    list_init(&tls->link);
    conn->tls = tls;
    conn->wire = &tls->out;
}
