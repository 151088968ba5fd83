/*
 * What: byte-stream connections over TCP with libuv, once they are there (accepting them: listen.c,
 * connecting: connect.c, TLS: conn_tls.c).
 *
 * Happy path: conn_send() queues slices; at the end of the turn everything queued on a connection
 * goes out with one uv_try_write of up to OS_IOV_MAX buffers. What the kernel does not take is
 * written with uv_write; meanwhile the queue gathers more.
 *
 * Closing: at once (os_conn_destroy), or gracefully: what is queued, then FIN, then what the peer
 * still sends is read and thrown away until it closes too or the linger time is over. (A socket
 * that is closed with unread bytes is reset, and the reset may overtake the last words.)
 *
 * Failure modes: a read or write error closes the connection: on_closed(error) from the loop.
 *
 * Invariants and threads: tcp_internal.h.
 */
#include <fcntl.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "tcp_internal.h"

#define OS_IOV_MAX 256

/* --- life of a connection --------------------------------------------------------------------- */

struct env_conn *os_conn_new(struct os_context *context)
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

static void conn_free(struct env_conn *conn)
{
    if (conn->tls != NULL) {
        os_conn_tls_free(conn->tls);
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

void os_conn_on_handle_closed(uv_handle_t *handle)
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

void os_conn_destroy(struct env_conn *conn, int error)
{
    if (!conn->closing) {
        conn->closing = true;
        conn->close_error = conn->close_error != 0 ? conn->close_error : error;
        list_remove(&conn->flush_link);
        os_conn_tls_over(conn, "");
        if (!conn->resolving && !conn->reopening) {
            uv_close(&conn->uv.handle, os_conn_on_handle_closed);
        }
    }
}

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
    os_mail_first(context);
    if (conn->closing) {
        return; /* by what was in it */
    }
    if (n > 0) {
        context->dirty = true;
        if (!conn->close_after_flush && conn->tls == NULL) {
            context->sink->on_bytes(context->sink_ctx, conn, (const uint8_t *)buf->base, (size_t)n);
        } else if (!conn->close_after_flush) {
            os_conn_tls_received(conn, (const uint8_t *)buf->base, (size_t)n);
        }
        if ((size_t)n == OS_RECEIVE_SIZE && !conn->closing && !conn->paused) {
            /* A full buffer: libuv would go on reading many more of them before anything else of
             * this shard gets its turn. */
            (void)uv_read_stop(&conn->uv.stream);
            list_remove(&conn->read_link); /* a pause in between may have let it be read twice */
            list_push_back(&context->to_read, &conn->read_link);
        }
    } else if (n < 0) {
        os_conn_destroy(conn, os_error((int)n));
    }
}

void os_conn_start(struct env_conn *conn)
{
    (void)uv_tcp_nodelay(&conn->uv.tcp, 1);
    if (!conn->paused) {
        (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
    }
}

/* --- writing ---------------------------------------------------------------------------------- */

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
        os_conn_destroy(conn, 0);
    } else if (!conn->closing && conn->paused) { /* reading goes on until the peer closes, too */
        (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
    }
}

static void on_written(uv_write_t *request, int status)
{
    struct env_conn *conn = request->data;
    conn->writing = false;
    if (status != 0) {
        os_conn_destroy(conn, os_error(status));
        return;
    }
    const size_t bytes = conn->write_bytes;
    conn->write_bytes = 0;
    sendq_consume(conn->wire, bytes);
    os_conn_flush(conn);
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
        os_conn_tls_fill(conn);
    }
    return conn->wire->size > 0;
}

void os_conn_flush(struct env_conn *conn)
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
            os_conn_destroy(conn, os_error(rc));
            return;
        }
        conn->write_request.data = conn;
        rc = uv_write(&conn->write_request, &conn->uv.stream, bufs, n, on_written);
        if (rc != 0) {
            os_conn_destroy(conn, os_error(rc));
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
            os_conn_destroy(conn, 0);
        }
    }
}

void os_tcp_flush(struct os_context *context)
{
    struct list *link;
    while ((link = list_pop_front(&context->to_flush)) != NULL) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, flush_link);
        os_conn_flush(conn);
        conn_check_drained(conn);
    }
    while ((link = list_pop_front(&context->to_read)) != NULL) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, read_link);
        if (!conn->closing && !conn->paused) {
            (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
        }
    }
}

void os_conn_schedule_flush(struct env_conn *conn)
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
    os_conn_schedule_flush(conn);
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
    os_conn_destroy(timer->data, WR_E_TIMEOUT);
}

void os_conn_close_gracefully(struct env_conn *conn, uint32_t linger_ms)
{
    if (!conn->close_after_flush) {
        conn->close_after_flush = true;
        conn->linger_open = true;
        conn->linger.data = conn;
        (void)uv_timer_init(&conn->context->loop, &conn->linger);
        (void)uv_timer_start(&conn->linger, on_linger, linger_ms, 0);
        os_conn_schedule_flush(conn);
    }
}

/* --- closing ---------------------------------------------------------------------------------- */

static void env_conn_close(struct env_conn *conn, bool graceful, uint32_t linger_ms)
{
    if (conn->closing) {
        return;
    }
    if (!graceful || conn->connecting) {
        os_conn_tls_goodbye(conn);
        os_conn_destroy(conn, 0);
        return;
    }
    os_conn_close_gracefully(conn, linger_ms);
}

static void *env_conn_user(const struct env_conn *conn)
{
    return conn->user;
}

static void env_conn_set_user(struct env_conn *conn, void *user)
{
    conn->user = user;
}

void os_tcp_connected_later(struct os_context *context, struct env_conn *conn, int error)
{
    (void)context;
    os_conn_destroy(conn, error);
}

struct env_conn *os_tcp_adopt(struct os_context *context, int fd, void *user)
{
    struct env_conn *conn = os_conn_new(context);
    int rc = fd < 0 ? UV_EIO : uv_tcp_open(&conn->uv.tcp, fd);
    conn->user = user;
    if (rc == 0) {
        os_conn_start(conn);
        return conn;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    os_conn_destroy(conn, os_error(rc));
    return conn;
}

static int copy_of(uv_os_fd_t fd)
{
#ifdef __SANITIZE_THREAD__
    /* It does not follow the other way of copying: it takes the copy for an older socket of that
     * number, which another thread may have used. */
    int copy = dup(fd);
    if (copy >= 0) {
        (void)fcntl(copy, F_SETFD, FD_CLOEXEC);
    }
    return copy;
#else
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
#endif
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
            copy = copy_of(fd);
        }
    }
    conn->moved = true;
    os_conn_destroy(conn, 0);
    os_listen_post_moved(context, to, copy, user);
}

void os_tcp_close_all(struct os_context *context)
{
    LIST_FOREACH_SAFE(link, &context->connections) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, link);
        conn->moved = true; /* no upcalls any more */
        os_conn_destroy(conn, WR_E_CLOSED);
    }
}

void os_tcp_ops(struct env_ops *ops)
{
    ops->connect = os_tcp_connect;
    ops->conn_send = env_conn_send;
    ops->conn_backlog = env_conn_backlog;
    ops->conn_unacked = env_conn_unacked;
    ops->conn_set_watermarks = env_conn_set_watermarks;
    ops->conn_pause = env_conn_pause;
    ops->conn_close = env_conn_close;
    ops->conn_user = env_conn_user;
    ops->conn_set_user = env_conn_set_user;
    ops->conn_tls = os_conn_tls_info;
    ops->conn_move = env_conn_move;
}
