/*
 * What: byte-stream connections over TCP with libuv.
 *
 * Happy path: shard 0 polls the listening sockets, accepts in a loop and gives each descriptor to a shard (clients round robin,
 * cluster peers to itself). conn_send() queues slices; at the end of the turn everything queued on a connection goes out with one
 * uv_try_write of up to OS_IOV_MAX buffers. What the kernel does not take is written with uv_write; meanwhile the queue gathers more.
 *
 * Failure modes: a read or write error closes the connection: on_closed(error) from the loop. Out of descriptors: accepting pauses
 * until the next readiness (the backlog keeps the client waiting), one warning is logged per pause. A shutdown (conn_close, graceful)
 * that is not finished after its linger time is cut.
 *
 * Invariants: I1 every env_conn gets exactly one on_closed, unless it was moved or its connect failed. I2 references of slices are held
 * until the kernel has the bytes. I3 no upcall from inside an env call.
 *
 * Threads: a connection belongs to one context.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"

#define OS_IOV_MAX 256

struct env_conn {
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
    } uv;
    struct os_context *context;
    struct list link;       /* context->connections */
    struct list flush_link; /* context->to_flush */
    void *user;
    VEC(struct slice) queue; /* queued, not yet given to the kernel */
    uint32_t queue_head;
    size_t backlog, low, high;
    bool above_high;
    bool connecting, resolving, closing, paused, moved;
    bool close_after_flush; /* graceful close under way */
    bool writing;           /* a uv_write or uv_shutdown is in flight */
    int close_error;
    uv_connect_t connect_request;
    uv_getaddrinfo_t resolve_request;
    uv_write_t write_request;
    uv_shutdown_t shutdown_request;
    uv_timer_t linger;
    bool linger_open;
    uint32_t write_slices;  /* how many of the queue are in the uv_write */
    struct net_addr target;
};

struct os_listener {
    uv_poll_t poll;
    struct list link;
    struct os_context *context;
    enum env_listener kind;
    int fd;
    bool starved;
};

struct accepted_mail {
    struct mail mail;
    int fd;
    enum env_listener kind;
    struct net_addr peer, local;
    void *user;
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
    case UV_EACCES:
    case UV_EPERM:
        return WR_E_PERMISSION;
    default:
        return WR_E_IO;
    }
}

static struct os_context *conn_context(struct env_conn *conn)
{
    return conn->context;
}

static void addr_fill(struct net_addr *out, const struct sockaddr_storage *sa)
{
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        (void)uv_ip4_name(in, out->host, sizeof out->host);
        out->port = ntohs(in->sin_port);
    } else {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
        (void)uv_ip6_name(in6, out->host, sizeof out->host);
        out->port = ntohs(in6->sin6_port);
    }
}

/* --- life of a connection ------------------------------------------------------------------------------------------------------ */

static struct env_conn *conn_new(struct os_context *context)
{
    struct env_conn *conn = wr_calloc(1, sizeof *conn);
    conn->context = context;
    conn->high = 1024 * 1024;
    conn->low = 256 * 1024;
    list_init(&conn->flush_link);
    list_insert_before(&context->connections, &conn->link);
    (void)uv_tcp_init(&context->loop, &conn->uv.tcp);
    conn->uv.handle.data = conn;
    return conn;
}

static void conn_free(struct env_conn *conn)
{
    for (uint32_t i = conn->queue_head; i < conn->queue.count; i++) {
        slice_unref(&conn->queue.items[i]);
    }
    vec_deinit(&conn->queue);
    list_remove(&conn->link);
    list_remove(&conn->flush_link);
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
    if (!conn->moved && context->sink != NULL && !atomic_load(&context->node->stop)) {
        context->dirty = true;
        if (conn->connecting) {
            context->sink->on_connected(context->sink_ctx, conn,
                                        conn->close_error != 0 ? conn->close_error : WR_E_CANCELLED);
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

static void conn_destroy(struct env_conn *conn, int error)
{
    if (!conn->closing) {
        conn->closing = true;
        conn->close_error = error;
        list_remove(&conn->flush_link);
        if (!conn->resolving) { /* otherwise on_resolved closes: the request still points here */
            uv_close(&conn->uv.handle, on_handle_closed);
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
    if (n > 0) {
        context->dirty = true;
        if (!conn->close_after_flush) {
            context->sink->on_bytes(context->sink_ctx, conn, (const uint8_t *)buf->base, (size_t)n);
        }
    } else if (n < 0) {
        conn_destroy(conn, os_error((int)n));
    }
}

static void conn_start(struct env_conn *conn)
{
    (void)uv_tcp_nodelay(&conn->uv.tcp, 1);
    (void)uv_read_start(&conn->uv.stream, on_alloc, on_read);
}

/* --- writing --------------------------------------------------------------------------------------------------------------------------- */

static void conn_flush(struct env_conn *conn);

static void conn_consumed(struct env_conn *conn, size_t bytes)
{
    conn->backlog -= bytes;
    while (bytes > 0) {
        struct slice *s = &conn->queue.items[conn->queue_head];
        if (bytes < s->size) {
            s->offset += (uint32_t)bytes;
            s->size -= (uint32_t)bytes;
            break;
        }
        bytes -= s->size;
        slice_unref(s);
        conn->queue_head++;
    }
    if (conn->queue_head == conn->queue.count) {
        conn->queue_head = 0;
        conn->queue.count = 0;
    }
}

static void conn_check_drained(struct env_conn *conn)
{
    if (conn->above_high && conn->backlog <= conn->low && !conn->closing) {
        conn->above_high = false;
        conn->context->dirty = true;
        conn->context->sink->on_drained(conn->context->sink_ctx, conn);
    }
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct env_conn *conn = request->data;
    (void)status;
    conn_destroy(conn, 0);
}

static void on_written(uv_write_t *request, int status)
{
    struct env_conn *conn = request->data;
    conn->writing = false;
    if (status != 0) {
        conn_destroy(conn, os_error(status));
        return;
    }
    size_t bytes = 0;
    for (uint32_t i = 0; i < conn->write_slices; i++) {
        bytes += conn->queue.items[conn->queue_head + i].size;
    }
    conn_consumed(conn, bytes);
    conn_flush(conn);
    conn_check_drained(conn);
}

static uint32_t conn_iov(const struct env_conn *conn, uv_buf_t *bufs)
{
    uint32_t n = 0;
    for (uint32_t i = conn->queue_head; i < conn->queue.count && n < OS_IOV_MAX; i++, n++) {
        const struct slice *s = &conn->queue.items[i];
        bufs[n] = uv_buf_init((char *)(uintptr_t)slice_data(s), s->size);
    }
    return n;
}

static void conn_flush(struct env_conn *conn)
{
    uv_buf_t bufs[OS_IOV_MAX];
    while (!conn->writing && !conn->closing && !conn->connecting && conn->backlog > 0) {
        uint32_t n = conn_iov(conn, bufs);
        int rc = uv_try_write(&conn->uv.stream, bufs, n);
        if (rc > 0) {
            conn_consumed(conn, (size_t)rc);
            continue;
        }
        if (rc != UV_EAGAIN && rc < 0) {
            conn_destroy(conn, os_error(rc));
            return;
        }
        conn->write_slices = n;
        conn->write_request.data = conn;
        rc = uv_write(&conn->write_request, &conn->uv.stream, bufs, n, on_written);
        if (rc != 0) {
            conn_destroy(conn, os_error(rc));
            return;
        }
        conn->writing = true;
    }
    if (conn->close_after_flush && conn->backlog == 0 && !conn->writing && !conn->closing) {
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
    if (conn->queue_head > 1024 && conn->queue_head > conn->queue.count / 2) {
        conn->queue.count -= conn->queue_head;
        memmove(conn->queue.items, conn->queue.items + conn->queue_head,
                conn->queue.count * sizeof *conn->queue.items);
        conn->queue_head = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (owned[i].size == 0) {
            slice_unref(&owned[i]);
            continue;
        }
        vec_push(&conn->queue, owned[i]);
        conn->backlog += owned[i].size;
    }
    if (conn->backlog > conn->high) {
        conn->above_high = true;
    }
    schedule_flush(conn);
}

static size_t env_conn_backlog(const struct env_conn *conn)
{
    return conn->backlog;
}

static void env_conn_set_watermarks(struct env_conn *conn, size_t low, size_t high)
{
    conn->low = low;
    conn->high = high;
}

static void env_conn_pause(struct env_conn *conn, bool paused)
{
    if (conn->paused == paused || conn->closing) {
        return;
    }
    conn->paused = paused;
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

static void env_conn_close(struct env_conn *conn, bool graceful, uint32_t linger_ms)
{
    if (conn->closing) {
        return;
    }
    if (!graceful || conn->connecting) {
        conn_destroy(conn, 0);
        return;
    }
    if (!conn->close_after_flush) {
        conn->close_after_flush = true;
        conn->linger_open = true;
        conn->linger.data = conn;
        (void)uv_timer_init(&conn->context->loop, &conn->linger);
        (void)uv_timer_start(&conn->linger, on_linger, linger_ms, 0);
        schedule_flush(conn);
    }
}

static void *env_conn_user(const struct env_conn *conn)
{
    return conn->user;
}

static void env_conn_set_user(struct env_conn *conn, void *user)
{
    conn->user = user;
}

/* --- connecting -------------------------------------------------------------------------------------------------------------------------- */

static void on_connect(uv_connect_t *request, int status)
{
    struct env_conn *conn = request->data;
    if (conn->closing) {
        return;
    }
    if (status != 0) {
        conn_destroy(conn, os_error(status)); /* connecting stays set: on_connected(error) follows */
        return;
    }
    conn->connecting = false;
    conn_start(conn);
    conn->context->dirty = true;
    conn->context->sink->on_connected(conn->context->sink_ctx, conn, 0);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *result)
{
    struct env_conn *conn = request->data;
    conn->resolving = false;
    if (conn->closing) { /* closed while resolving: the handle is already on its way out */
        uv_freeaddrinfo(result);
        uv_close(&conn->uv.handle, on_handle_closed);
        return;
    }
    int rc = status;
    if (rc == 0) {
        conn->connect_request.data = conn;
        rc = uv_tcp_connect(&conn->connect_request, &conn->uv.tcp, result->ai_addr, on_connect);
    } else {
        rc = UV_EHOSTUNREACH;
    }
    uv_freeaddrinfo(result);
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
    conn->target = *addr;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", addr->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct sockaddr_storage sa;
    int rc;
    conn->connect_request.data = conn;
    if (uv_ip4_addr(addr->host, addr->port, (struct sockaddr_in *)(void *)&sa) == 0 ||
        uv_ip6_addr(addr->host, addr->port, (struct sockaddr_in6 *)(void *)&sa) == 0) {
        rc = uv_tcp_connect(&conn->connect_request, &conn->uv.tcp, (struct sockaddr *)(void *)&sa, on_connect);
    } else {
        conn->resolve_request.data = conn;
        rc = uv_getaddrinfo(&context->loop, &conn->resolve_request, on_resolved, addr->host, port, &hints);
        conn->resolving = rc == 0;
    }
    if (rc != 0) {
        os_complete(context, (struct os_done){.kind = OS_DONE_CONNECT, .conn = conn, .result = os_error(rc)});
        context->dirty = true;
    }
    return conn;
}

void os_tcp_connected_later(struct os_context *context, struct env_conn *conn, int error)
{
    (void)context;
    conn_destroy(conn, error);
}

/* --- listening ---------------------------------------------------------------------------------------------------------------------------- */

static void adopt(struct os_context *context, struct accepted_mail *m)
{
    struct env_conn *conn = conn_new(context);
    int rc = uv_tcp_open(&conn->uv.tcp, m->fd);
    if (rc != 0) {
        (void)close(m->fd);
        conn->moved = true; /* nobody knows it: no upcall */
        conn_destroy(conn, os_error(rc));
        return;
    }
    context->dirty = true;
    conn_start(conn);
    if (m->mail.kind == OS_MAIL_MOVED) {
        conn->user = m->user;
        context->sink->on_moved(context->sink_ctx, conn, m->user);
    } else {
        context->sink->on_accept(context->sink_ctx, conn, m->kind, &m->peer, &m->local);
    }
}

static void accepted_destroy(struct mail *mail)
{
    struct accepted_mail *m = (struct accepted_mail *)(void *)mail;
    (void)close(m->fd);
    wr_free(m);
}

void os_tcp_on_mail(struct os_context *context, struct mail *mail)
{
    struct accepted_mail *m = (struct accepted_mail *)(void *)mail;
    adopt(context, m);
    wr_free(m);
}

static void hand_out(struct os_listener *listener, int fd)
{
    struct os_context *context = listener->context;
    struct os_node *node = context->node;
    struct accepted_mail *m = wr_calloc(1, sizeof *m);
    struct sockaddr_storage sa;
    socklen_t size = sizeof sa;
    m->mail.kind = OS_MAIL_ACCEPTED;
    m->mail.destroy = accepted_destroy;
    m->fd = fd;
    m->kind = listener->kind;
    if (getpeername(fd, (struct sockaddr *)(void *)&sa, &size) == 0) {
        addr_fill(&m->peer, &sa);
    }
    size = sizeof sa;
    if (getsockname(fd, (struct sockaddr *)(void *)&sa, &size) == 0) {
        addr_fill(&m->local, &sa);
    }
    uint32_t shard = 0;
    if (listener->kind != ENV_LISTEN_CLUSTER) {
        shard = node->next_accept++ % (node->context_count - 1);
    }
    if (shard == context->env.context) {
        adopt(context, m);
        wr_free(m);
    } else {
        m->mail.from = context->env.context;
        os_post(&node->contexts[shard], &m->mail);
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct os_listener *listener = poll->data;
    (void)status;
    (void)events;
    for (int i = 0; i < 64; i++) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            listener->starved = false;
            hand_out(listener, fd);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) {
            continue;
        }
        if (errno != EAGAIN && !listener->starved) {
            listener->starved = true;
            wr_log(listener->context->node->logger, LOG_LEVEL_WARNING, "listener",
                   "cannot accept connections: %s; raise the limit of open files (ulimit -n)", strerror(errno));
        }
        return;
    }
}

static int listener_socket(const struct sockaddr *sa, socklen_t size, char *errmsg, const struct net_addr *addr)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, sa, size) == 0 && listen(fd, 1024) == 0) {
        return fd;
    }
    int error = os_error(-errno);
    (void)snprintf(errmsg, 256, "cannot listen on %.100s:%u: %s", addr->host, addr->port, strerror(errno));
    if (fd >= 0) {
        (void)close(fd);
    }
    return error;
}

static int env_listen(struct env *env, enum env_listener kind, const struct net_addr *addr, char *errmsg)
{
    struct os_context *context = os_context_of(env);
    WR_ASSERT(env->context == 0);
    char port[8];
    (void)snprintf(port, sizeof port, "%u", addr->port);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    if (addr->port == 0) {
        (void)snprintf(errmsg, 256, "port 0 is not a port to listen on");
        return WR_E_INVALID;
    }
    int rc = getaddrinfo(addr->host[0] == 0 ? NULL : addr->host, port, &hints, &found);
    if (rc != 0) {
        (void)snprintf(errmsg, 256, "cannot listen on %.100s:%u: %s", addr->host, addr->port, gai_strerror(rc));
        return WR_E_INVALID;
    }
    /* "" = every address: the IPv6 wildcard takes IPv4 too where it exists. */
    struct addrinfo *best = found;
    for (struct addrinfo *ai = found; ai != NULL; ai = ai->ai_next) {
        if (addr->host[0] == 0 && ai->ai_family == AF_INET6) {
            best = ai;
        }
    }
    int fd = listener_socket(best->ai_addr, best->ai_addrlen, errmsg, addr);
    if (fd < 0 && addr->host[0] == 0 && best->ai_family == AF_INET6) {
        for (struct addrinfo *ai = found; fd < 0 && ai != NULL; ai = ai->ai_next) {
            if (ai->ai_family == AF_INET) {
                fd = listener_socket(ai->ai_addr, ai->ai_addrlen, errmsg, addr);
            }
        }
    }
    freeaddrinfo(found);
    if (fd < 0) {
        return fd;
    }
    struct os_listener *listener = wr_calloc(1, sizeof *listener);
    listener->context = context;
    listener->kind = kind;
    listener->fd = fd;
    (void)uv_poll_init(&context->loop, &listener->poll, fd);
    listener->poll.data = listener;
    (void)uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    list_insert_before(&context->listeners, &listener->link);
    return 0;
}

static void on_listener_closed(uv_handle_t *handle)
{
    struct os_listener *listener = handle->data;
    (void)close(listener->fd);
    wr_free(listener);
}

static void listener_close(struct os_listener *listener)
{
    list_remove(&listener->link);
    (void)uv_poll_stop(&listener->poll);
    uv_close((uv_handle_t *)&listener->poll, on_listener_closed);
}

static void env_unlisten(struct env *env, enum env_listener kind)
{
    struct os_context *context = os_context_of(env);
    LIST_FOREACH_SAFE(link, &context->listeners) {
        struct os_listener *listener = WR_CONTAINER_OF(link, struct os_listener, link);
        if (listener->kind == kind) {
            listener_close(listener);
        }
    }
}

static void env_conn_move(struct env_conn *conn, uint32_t to, void *user)
{
    struct os_context *context = conn_context(conn);
    WR_ASSERT_OP(to, <, context->node->context_count - 1);
    WR_ASSERT_OP(conn->backlog, ==, 0);
    WR_ASSERT(!conn->writing && !conn->closing);
    uv_os_fd_t fd;
    int rc = uv_fileno(&conn->uv.handle, &fd);
    int copy = rc == 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : -1;
    if (copy < 0) {
        conn_destroy(conn, WR_E_IO);
        return;
    }
    struct accepted_mail *m = wr_calloc(1, sizeof *m);
    m->mail.kind = OS_MAIL_MOVED;
    m->mail.destroy = accepted_destroy;
    m->mail.from = context->env.context;
    m->fd = copy;
    m->user = user;
    conn->moved = true;
    conn_destroy(conn, 0);
    os_post(&context->node->contexts[to], &m->mail);
}

void os_tcp_close_all(struct os_context *context)
{
    LIST_FOREACH_SAFE(link, &context->listeners) {
        listener_close(WR_CONTAINER_OF(link, struct os_listener, link));
    }
    LIST_FOREACH_SAFE(link, &context->connections) {
        struct env_conn *conn = WR_CONTAINER_OF(link, struct env_conn, link);
        conn->moved = true; /* no upcalls any more */
        conn_destroy(conn, WR_E_CLOSED);
    }
}

void os_tcp_ops(struct env_ops *ops)
{
    ops->listen = env_listen;
    ops->unlisten = env_unlisten;
    ops->connect = env_connect;
    ops->conn_send = env_conn_send;
    ops->conn_backlog = env_conn_backlog;
    ops->conn_set_watermarks = env_conn_set_watermarks;
    ops->conn_pause = env_conn_pause;
    ops->conn_close = env_conn_close;
    ops->conn_user = env_conn_user;
    ops->conn_set_user = env_conn_set_user;
    ops->conn_move = env_conn_move;
}
