/*
 * What: byte-stream connections over TCP with libuv (accepting them: listen.c).
 *
 * Happy path: conn_send() queues slices; at the end of the turn everything queued on a connection
 * goes out with one uv_try_write of up to OS_IOV_MAX buffers. What the kernel does not take is
 * written with uv_write; meanwhile the queue gathers more. connect() tries the addresses of a name
 * one after the other.
 *
 * With TLS (tls.h): what is read is decrypted before on_bytes, what is queued is encrypted when it
 * is flushed, never much more of it than the kernel takes: so a backlog stays what the user gave
 * us. A connection without pays for that with one look at a pointer per read and per flush.
 *
 * Closing: at once (conn_destroy), or gracefully: what is queued, then FIN, then what the peer
 * still sends is read and thrown away until it closes too or the linger time is over. (A socket
 * that is closed with unread bytes is reset, and the reset may overtake the last words.)
 *
 * Failure modes: a read or write error closes the connection: on_closed(error) from the loop. A TLS
 * error closes it gracefully, so that the alert arrives, and is logged here, where it is known.
 *
 * Invariants: I1 every env_conn gets exactly one on_closed, unless it was moved or its connect
 * failed. I2 references of slices are held until the kernel has the bytes. I3 no upcall from inside
 * an env call. I4 the libuv handle is closed once: by conn_destroy, or, while a name is being
 * looked up or the handle is between two addresses, by whoever comes back from that.
 *
 * Threads: a connection belongs to one context.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"
#include "tls.h"

#define OS_IOV_MAX     256
#define TLS_LINGER_MS  1000u
#define TLS_OUT_ENOUGH (64u * 1024u) /* ciphertext waiting for the kernel: no more is made */
#define TLS_OUT_MAX                                                                                \
    (256u * 1024u) /* ... and no more than this of what a peer makes us say without reading it */

/* What a connection with TLS has besides. */
struct conn_tls {
    struct env_conn *conn;
    struct os_tls *session; /* NULL until the first byte comes */
    struct sendq out;       /* ciphertext */
    struct list link;       /* context->tls_handshakes, while it is in the handshake */
    struct net_addr peer;
};

struct env_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
    } uv;
    struct os_context *context;
    struct list link;       /* context->connections */
    struct list flush_link; /* context->to_flush */
    struct list read_link;  /* context->to_read: stopped until the end of the turn */
    void *user;
    struct conn_tls *tls; /* NULL: plain */
    struct sendq queue;   /* queued by the user, not yet given to the kernel, or to TLS */
    struct sendq *wire;   /* what goes to the kernel: queue, or with TLS tls->out */
    size_t low, high;
    bool above_high;
    bool connecting, closing, paused, moved;
    bool resolving, reopening; /* the handle is not to be closed now, see I4 */
    bool close_after_flush;    /* graceful close under way */
    bool writing;              /* a uv_write or uv_shutdown is in flight */
    int close_error;
    uv_connect_t connect_request;
    uv_getaddrinfo_t resolve_request;
    uv_write_t write_request;
    uv_shutdown_t shutdown_request;
    uv_timer_t linger;
    bool linger_open;
    size_t write_bytes;                        /* how many of the queue are in the uv_write */
    struct addrinfo *addresses, *next_address; /* of the name that is being connected to */
};

int os_error(int code)
{
    switch (code) {
    case 0:
        return 0;
    case UV_EOF:
        return 0;
    case UV_ENOMEM:
        return WR_E_NOMEM;
    case UV_ENOSPC:
    case -EDQUOT:
        return WR_E_NOSPACE;
    case UV_ENOENT:
        return WR_E_NOTFOUND;
    case UV_EEXIST:
        return WR_E_EXISTS;
    case UV_ECONNREFUSED:
        return WR_E_REFUSED;
    case UV_ECONNRESET:
    case UV_EPIPE:
        return WR_E_RESET;
    case UV_ETIMEDOUT:
        return WR_E_TIMEOUT;
    case UV_EHOSTUNREACH:
    case UV_ENETUNREACH:
        return WR_E_UNREACHABLE;
    case UV_ECANCELED:
        return WR_E_CANCELLED;
    case UV_EADDRINUSE:
        return WR_E_INUSE;
    case UV_EMFILE:
    case UV_ENFILE:
        return WR_E_FILES;
    case UV_EFBIG:
        return WR_E_TOOBIG;
    case UV_EACCES:
    case UV_EPERM:
        return WR_E_PERMISSION;
    default:
        return WR_E_IO;
    }
}

/* --- life of a connection --------------------------------------------------------------------- */

static struct env_conn *conn_new(struct os_context *context)
{
    struct env_conn *conn = wr_calloc(1, sizeof *conn);
    conn->context = context;
    conn->high = 1024 * 1024;
    conn->low = 256 * 1024;
    conn->wire = &conn->queue;
    list_init(&conn->flush_link);
    list_init(&conn->read_link);
    list_insert_before(&context->connections, &conn->link);
    (void)uv_tcp_init(&context->loop, &conn->uv.tcp);
    conn->uv.handle.data = conn;
    return conn;
}

static void tls_free(struct conn_tls *tls)
{
    os_tls_free(tls->session);
    sendq_deinit(&tls->out);
    list_remove(&tls->link);
    wr_free(tls);
}

static void conn_free(struct env_conn *conn)
{
    if (conn->tls != NULL) {
        tls_free(conn->tls);
    }
    sendq_deinit(&conn->queue);
    uv_freeaddrinfo(conn->addresses);
    list_remove(&conn->link);
    list_remove(&conn->flush_link);
    list_remove(&conn->read_link);
    wr_free(conn);
}

static void on_linger_closed(uv_handle_t *handle)
{
    conn_free(handle->data);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct env_conn *conn = handle->data;
    struct os_context *context = conn->context;
    if (!conn->moved && !os_is_silent(context)) {
        context->dirty = true;
        if (conn->connecting) {
            context->sink->on_connected(context->sink_ctx, conn,
                                        conn->close_error != 0 ? conn->close_error
                                                               : WR_E_CANCELLED);
        } else {
            context->sink->on_closed(context->sink_ctx, conn, conn->close_error);
        }
    }
    if (conn->linger_open) {
        uv_close((uv_handle_t *)&conn->linger, on_linger_closed);
    } else {
        conn_free(conn);
    }
}

/* One that ends in the middle is told of; nothing at all was only a look at the port. */
static void tls_handshake_over(struct env_conn *conn, const char *why)
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

static void conn_destroy(struct env_conn *conn, int error)
{
    if (!conn->closing) {
        conn->closing = true;
        conn->close_error = conn->close_error != 0 ? conn->close_error : error;
        list_remove(&conn->flush_link);
        tls_handshake_over(conn, "");
        if (!conn->resolving && !conn->reopening) {
            uv_close(&conn->uv.handle, on_handle_closed);
        }
    }
}

static void tls_received(struct env_conn *conn, const uint8_t *data, size_t size);
static void tls_fill(struct env_conn *conn);
static void conn_close_gracefully(struct env_conn *conn, uint32_t linger_ms);

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    struct env_conn *conn = handle->data;
    (void)suggested;
    /* One buffer per shard: the bytes are consumed before the callback returns. */
    out->base = (char *)conn->context->receive_buffer;
    out->len = OS_RECEIVE_SIZE;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct env_conn *conn = stream->data;
    struct os_context *context = conn->context;
    if (n > 0) {
        context->dirty = true;
        if (!conn->close_after_flush && conn->tls == NULL) {
            context->sink->on_bytes(context->sink_ctx, conn, (const uint8_t *)buf->base, (size_t)n);
        } else if (!conn->close_after_flush) {
            tls_received(conn, (const uint8_t *)buf->base, (size_t)n);
        }
        if ((size_t)n == OS_RECEIVE_SIZE && !conn->closing && !conn->paused) {
            /* A full buffer: libuv would go on reading many more of them before anything else of
             * this shard gets its turn. */
            (void)uv_read_stop(&conn->uv.stream);
            list_remove(&conn->read_link); /* a pause in between may have let it be read twice */
            list_push_back(&context->to_read, &conn->read_link);
        }
    } else if (n < 0) {
        conn_destroy(conn, os_error((int)n));
    }
}

static void conn_start(struct env_conn *conn)
{
    (void)uv_tcp_nodelay(&conn->uv.tcp, 1);
    if (!conn->paused) {
        (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

static void conn_flush(struct env_conn *conn);

/* A slice leaves the queue when all that was written with it is with the kernel; what the kernel
 * has of it already does not count: whether the peer still reads shows in nothing else while a
 * message of many megabytes is on its way. */
static size_t backlog_of(const struct env_conn *conn)
{
    const size_t queued = conn->queue.size + (conn->tls != NULL ? conn->tls->out.size : 0);
    if (conn->write_bytes == 0) {
        return queued;
    }
    const size_t left = uv_stream_get_write_queue_size(&conn->uv.stream);
    const size_t taken = left < conn->write_bytes ? conn->write_bytes - left : 0;
    return taken < queued ? queued - taken : 1; /* not 0 before it has left the queue */
}

static void conn_check_drained(struct env_conn *conn)
{
    if (conn->above_high && backlog_of(conn) <= conn->low && !conn->closing) {
        conn->above_high = false;
        conn->context->dirty = true;
        conn->context->sink->on_drained(conn->context->sink_ctx, conn);
    }
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct env_conn *conn = request->data;
    if (status != 0) {
        conn_destroy(conn, 0);
    } else if (!conn->closing && conn->paused) { /* reading goes on until the peer closes, too */
        (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct env_conn *conn = request->data;
    conn->writing = false;
    if (status != 0) {
        conn_destroy(conn, os_error(status));
        return;
    }
    const size_t bytes = conn->write_bytes;
    conn->write_bytes = 0;
    sendq_consume(conn->wire, bytes);
    conn_flush(conn);
    conn_check_drained(conn);
}

static uint32_t conn_iov(const struct env_conn *conn, uv_buf_t *bufs)
{
    const struct sendq *wire = conn->wire;
    uint32_t n = 0;
    for (size_t i = wire->head; i < wire->slices.count && n < OS_IOV_MAX; i++, n++) {
        const struct slice *s = &wire->slices.items[i];
        bufs[n] = uv_buf_init((char *)(uintptr_t)slice_data(s), s->size);
    }
    return n;
}

/* Is there something for the kernel? */
static bool conn_prepare(struct env_conn *conn)
{
    if (conn->tls != NULL) {
        tls_fill(conn);
    }
    return conn->wire->size > 0;
}

static void conn_flush(struct env_conn *conn)
{
    uv_buf_t bufs[OS_IOV_MAX];
    while (!conn->writing && !conn->closing && !conn->connecting && conn_prepare(conn)) {
        uint32_t n = conn_iov(conn, bufs);
        int rc = uv_try_write(&conn->uv.stream, bufs, n);
        if (rc > 0) {
            sendq_consume(conn->wire, (size_t)rc);
            continue;
        }
        if (rc != UV_EAGAIN && rc < 0) {
            conn_destroy(conn, os_error(rc));
            return;
        }
        conn->write_request.data = conn;
        rc = uv_write(&conn->write_request, &conn->uv.stream, bufs, n, on_written);
        if (rc != 0) {
            conn_destroy(conn, os_error(rc));
            return;
        }
        conn->writing = true;
        for (uint32_t i = 0; i < n; i++) {
            conn->write_bytes += bufs[i].len;
        }
    }
    if (conn->close_after_flush && backlog_of(conn) == 0 && !conn->writing && !conn->closing) {
        conn->writing = true;
        conn->shutdown_request.data = conn;
        if (uv_shutdown(&conn->shutdown_request, &conn->uv.stream, on_shutdown) != 0) {
            conn_destroy(conn, 0);
        }
    }
}

void os_tcp_flush(struct os_context *context)
{
    struct list *link;
    while ((link = list_pop_front(&context->to_flush)) != NULL) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, flush_link);
        conn_flush(conn);
        conn_check_drained(conn);
    }
    while ((link = list_pop_front(&context->to_read)) != NULL) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, read_link);
        if (!conn->closing && !conn->paused) {
            (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
        }
    }
}

static void schedule_flush(struct env_conn *conn)
{
    if (list_is_empty(&conn->flush_link) && !conn->closing) {
        list_insert_before(&conn->context->to_flush, &conn->flush_link);
        conn->context->dirty = true;
    }
}

static void env_conn_send(struct env_conn *conn, struct slice *owned, uint32_t count)
{
    if (conn->closing || conn->close_after_flush) {
        for (uint32_t i = 0; i < count; i++) {
            slice_unref(&owned[i]);
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        sendq_push(&conn->queue, owned[i]);
    }
    if (backlog_of(conn) > conn->high) {
        conn->above_high = true;
    }
    schedule_flush(conn);
}

static size_t env_conn_backlog(const struct env_conn *conn)
{
    return backlog_of(conn);
}

static size_t env_conn_unacked(const struct env_conn *conn)
{
    uv_os_fd_t fd;
    int bytes = 0;
    if (conn->closing || conn->connecting || uv_fileno(&conn->uv.handle, &fd) != 0 ||
        ioctl(fd, SIOCOUTQ, &bytes) != 0) {
        return 0;
    }
    return (size_t)bytes;
}

static void env_conn_set_watermarks(struct env_conn *conn, size_t low, size_t high)
{
    conn->low = low;
    conn->high = high;
}

static void env_conn_pause(struct env_conn *conn, bool paused)
{
    if (conn->paused == paused || conn->closing || conn->close_after_flush) {
        return;
    }
    conn->paused = paused;
    if (conn->connecting) {
        return; /* conn_start looks */
    }
    if (paused) {
        (void)uv_read_stop(&conn->uv.stream);
    } else {
        (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
    }
}

static void on_linger(uv_timer_t *timer)
{
    conn_destroy(timer->data, WR_E_TIMEOUT);
}

static void conn_close_gracefully(struct env_conn *conn, uint32_t linger_ms)
{
    if (!conn->close_after_flush) {
        conn->close_after_flush = true;
        conn->linger_open = true;
        conn->linger.data = conn;
        (void)uv_timer_init(&conn->context->loop, &conn->linger);
        (void)uv_timer_start(&conn->linger, on_linger, linger_ms, 0);
        schedule_flush(conn);
    }
}

/* --- TLS -------------------------------------------------------------------------------------- */

/* The alert goes out first; the user hears of the end when the peer has closed, or lingered. */
static void tls_fail(struct env_conn *conn, const char *why)
{
    const struct conn_tls *tls = conn->tls;
    wr_log(conn->context->node->logger, LOG_LEVEL_WARNING, "connection", "%s:%u: TLS: %s",
           tls->peer.host, tls->peer.port, why);
    tls_handshake_over(conn, "");
    sendq_deinit(&conn->queue);
    conn->close_error = WR_E_INVALID;
    conn_close_gracefully(conn, TLS_LINGER_MS);
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
static void tls_fill(struct env_conn *conn)
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
static void tls_say_goodbye(struct env_conn *conn)
{
    if (conn->tls != NULL && conn->tls->session != NULL && !conn->writing) {
        sendq_deinit(&conn->queue);
        os_tls_shutdown(conn->tls->session);
        conn_flush(conn);
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
    tls_handshake_over(oldest->conn, ": too many have begun since");
    conn_destroy(oldest->conn, WR_E_LIMIT);
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

static void tls_received(struct env_conn *conn, const uint8_t *data, size_t size)
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
        tls_handshake_over(conn, "");
    }
    if (conn->closing || conn->close_after_flush) {
        return;
    }
    if (state == OS_TLS_FAILED) {
        tls_fail(conn, os_tls_failure(session));
    } else if (state == OS_TLS_ENDED) {
        tls_say_goodbye(conn);
        conn_destroy(conn, 0);
        return;
    }
    if (conn->tls->out.size > TLS_OUT_MAX) {
        tls_fail(conn, "it makes us answer and does not read");
        conn_destroy(conn, 0);
    } else if (conn->tls->out.size > 0) {
        conn_flush(conn);
    }
}

static const struct env_tls *env_conn_tls(const struct env_conn *conn)
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

/* --- closing ---------------------------------------------------------------------------------- */

static void env_conn_close(struct env_conn *conn, bool graceful, uint32_t linger_ms)
{
    if (conn->closing) {
        return;
    }
    if (!graceful || conn->connecting) {
        tls_say_goodbye(conn);
        conn_destroy(conn, 0);
        return;
    }
    conn_close_gracefully(conn, linger_ms);
}

static void *env_conn_user(const struct env_conn *conn)
{
    return conn->user;
}

static void env_conn_set_user(struct env_conn *conn, void *user)
{
    conn->user = user;
}

/* --- connecting ------------------------------------------------------------------------------- */

static void on_connect(uv_connect_t *request, int status);

static int connect_next(struct env_conn *conn)
{
    const struct addrinfo *address = conn->next_address;
    conn->next_address = address->ai_next;
    return uv_tcp_connect(&conn->connect_request, &conn->uv.tcp, address->ai_addr, on_connect);
}

/* The handle of the failed attempt is closed. */
static void on_reopen(uv_handle_t *handle)
{
    struct env_conn *conn = handle->data;
    conn->reopening = false;
    if (conn->closing) { /* closed meanwhile */
        on_handle_closed(handle);
        return;
    }
    (void)uv_tcp_init(&conn->context->loop, &conn->uv.tcp);
    conn->uv.handle.data = conn;
    int rc = connect_next(conn);
    if (rc != 0) {
        conn_destroy(conn, os_error(rc));
    }
}

static void on_connect(uv_connect_t *request, int status)
{
    struct env_conn *conn = request->data;
    if (conn->closing) {
        return;
    }
    if (status != 0 && conn->next_address != NULL) {
        conn->reopening = true;
        uv_close(&conn->uv.handle, on_reopen);
        return;
    }
    if (status != 0) {
        conn_destroy(conn,
                     os_error(status)); /* connecting stays set: on_connected(error) follows */
        return;
    }
    conn->connecting = false;
    conn_start(conn);
    if (conn->queue.size > 0) {
        schedule_flush(conn);
    }
    conn->context->dirty = true;
    conn->context->sink->on_connected(conn->context->sink_ctx, conn, 0);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *result)
{
    struct env_conn *conn = request->data;
    conn->resolving = false;
    conn->addresses = conn->next_address = result;
    if (conn->closing) { /* closed while resolving */
        uv_close(&conn->uv.handle, on_handle_closed);
        return;
    }
    int rc = status != 0 || result == NULL ? UV_EHOSTUNREACH : connect_next(conn);
    if (rc != 0) {
        conn_destroy(conn, os_error(rc));
    }
}

static struct env_conn *env_connect(struct env *env, const struct net_addr *addr, void *user)
{
    struct os_context *context = os_context_of(env);
    struct env_conn *conn = conn_new(context);
    conn->user = user;
    conn->connecting = true;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", addr->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct sockaddr_storage sa;
    int rc;
    conn->connect_request.data = conn;
    if (uv_ip4_addr(addr->host, addr->port, (struct sockaddr_in *)(void *)&sa) == 0 ||
        uv_ip6_addr(addr->host, addr->port, (struct sockaddr_in6 *)(void *)&sa) == 0) {
        rc = uv_tcp_connect(&conn->connect_request, &conn->uv.tcp, (struct sockaddr *)(void *)&sa,
                            on_connect);
    } else {
        conn->resolve_request.data = conn;
        rc = uv_getaddrinfo(&context->loop, &conn->resolve_request, on_resolved, addr->host, port,
                            &hints);
        conn->resolving = rc == 0;
    }
    if (rc != 0) {
        os_complete(context, (struct os_done){
                                 .kind = OS_DONE_CONNECT, .conn = conn, .result = os_error(rc)});
        context->dirty = true;
    }
    return conn;
}

void os_tcp_connected_later(struct os_context *context, struct env_conn *conn, int error)
{
    (void)context;
    conn_destroy(conn, error);
}

struct env_conn *os_tcp_adopt(struct os_context *context, int fd, void *user)
{
    struct env_conn *conn = conn_new(context);
    int rc = fd < 0 ? UV_EIO : uv_tcp_open(&conn->uv.tcp, fd);
    conn->user = user;
    if (rc == 0) {
        conn_start(conn);
        return conn;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    conn_destroy(conn, os_error(rc));
    return conn;
}

static void env_conn_move(struct env_conn *conn, uint32_t to, void *user)
{
    struct os_context *context = conn->context;
    WR_ASSERT_OP(to, <, context->node->context_count - 1);
    WR_ASSERT(!conn->connecting && !conn->close_after_flush && conn->tls == NULL);
    int copy = -1; /* of what has failed meanwhile: the other side sees it fail */
    uv_os_fd_t fd;
    if (!conn->closing) {
        WR_ASSERT_OP(conn->queue.size, ==, 0);
        WR_ASSERT(!conn->writing);
        if (uv_fileno(&conn->uv.handle, &fd) == 0) {
            copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        }
    }
    conn->moved = true;
    conn_destroy(conn, 0);
    os_listen_post_moved(context, to, copy, user);
}

void os_tcp_close_all(struct os_context *context)
{
    LIST_FOREACH_SAFE(link, &context->connections) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, link);
        conn->moved = true; /* no upcalls any more */
        conn_destroy(conn, WR_E_CLOSED);
    }
}

void os_tcp_ops(struct env_ops *ops)
{
    ops->connect = env_connect;
    ops->conn_send = env_conn_send;
    ops->conn_backlog = env_conn_backlog;
    ops->conn_unacked = env_conn_unacked;
    ops->conn_set_watermarks = env_conn_set_watermarks;
    ops->conn_pause = env_conn_pause;
    ops->conn_close = env_conn_close;
    ops->conn_user = env_conn_user;
    ops->conn_set_user = env_conn_set_user;
    ops->conn_tls = env_conn_tls;
    ops->conn_move = env_conn_move;
}
