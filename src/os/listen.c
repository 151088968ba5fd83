/*
 * What: listening sockets, and sockets on their way between contexts.
 *
 * Happy path: shard 0 polls the listening sockets, accepts in a loop and gives each descriptor to a
 * shard (clients round robin, cluster peers to itself). A connection that is moved travels the same
 * way, as a descriptor in a piece of mail.
 *
 * Failure modes: out of descriptors or buffers: accepting rests for ACCEPT_REST_MS (the backlog
 * keeps the client waiting; the socket stays readable, so that going on at once would only burn the
 * processor), and one warning is logged until it works again. It hardly comes to that: a part of
 * the descriptors is not for connections. Without one the log cannot make a segment, and the node
 * ends; nobody may bring that about by connecting often enough.
 *
 * Threads: listeners belong to shard 0; a descriptor in mail to nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"

#define ACCEPT_BATCH   64
#define ACCEPT_REST_MS 100
#define RESERVE_MAX    512u /* descriptors that clients never get */

struct os_listener {
    uv_poll_t poll;
    uv_timer_t rest;
    struct list link;
    struct os_context *context;
    enum env_listener kind;
    int fd;
    bool starved;
};

struct socket_mail {
    struct mail mail;
    int fd; /* -1: it failed on the way */
    enum env_listener kind;
    struct net_addr peer, local;
    void *user; /* moved */
};

static void addr_fill(struct net_addr *out, const struct sockaddr_storage *sa)
{
    if (sa->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)sa;
        (void)uv_ip4_name(in, out->host, sizeof out->host);
        out->port = ntohs(in->sin_port);
        return;
    }
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)(const void *)sa;
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) { /* a client of IPv4 on a socket for both */
        struct sockaddr_in in = {.sin_family = AF_INET};
        memcpy(&in.sin_addr, in6->sin6_addr.s6_addr + 12, sizeof in.sin_addr);
        (void)uv_ip4_name(&in, out->host, sizeof out->host);
    } else {
        (void)uv_ip6_name(in6, out->host, sizeof out->host);
    }
    out->port = ntohs(in6->sin6_port);
}

/* --- sockets in mail -------------------------------------------------------------------------- */

static void socket_mail_destroy(struct mail *mail)
{
    struct socket_mail *m = (struct socket_mail *)(void *)mail;
    if (m->fd >= 0) {
        (void)close(m->fd);
    }
    wr_free(m);
}

void os_listen_post_moved(struct os_context *from, uint32_t to, int fd, void *user)
{
    struct socket_mail *m = wr_calloc(1, sizeof *m);
    m->mail.kind = OS_MAIL_MOVED;
    m->mail.destroy = socket_mail_destroy;
    m->mail.from = from->env.context;
    m->fd = fd;
    m->user = user;
    os_post(&from->node->contexts[to], &m->mail);
}

static void take_over(struct os_context *context, struct socket_mail *owned)
{
    struct env_conn *conn = os_tcp_adopt(context, owned->fd, owned->user);
    context->dirty = true;
    if (owned->mail.kind != OS_MAIL_MOVED && owned->kind == ENV_LISTEN_AMQPS) {
        os_tcp_begin_tls(conn, &owned->peer);
    }
    if (owned->mail.kind == OS_MAIL_MOVED) {
        context->sink->on_moved(context->sink_ctx, conn, owned->user);
    } else {
        context->sink->on_accept(context->sink_ctx, conn, owned->kind, &owned->peer, &owned->local);
    }
    wr_free(owned);
}

void os_listen_on_mail(struct os_context *context, struct mail *owned_mail)
{
    take_over(context, (struct socket_mail *)(void *)owned_mail);
}

/* --- accepting -------------------------------------------------------------------------------- */

static void hand_out(struct os_listener *listener, int fd)
{
    struct os_context *context = listener->context;
    struct os_node *node = context->node;
    struct socket_mail *m = wr_calloc(1, sizeof *m);
    struct sockaddr_storage sa;
    socklen_t size = sizeof sa;
    m->mail.kind = OS_MAIL_ACCEPTED;
    m->mail.destroy = socket_mail_destroy;
    m->mail.from = context->env.context;
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
        take_over(context, m);
    } else {
        os_post(&node->contexts[shard], &m->mail);
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events);

static void on_rested(uv_timer_t *timer)
{
    struct os_listener *listener = timer->data;
    (void)uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
}

static void starve(struct os_listener *listener, int error)
{
    if (!listener->starved) {
        listener->starved = true;
        wr_log(listener->context->node->logger, LOG_LEVEL_WARNING, "listener",
               "cannot accept connections: %s; raise the limit of open files (ulimit -n)",
               strerror(error));
    }
    (void)uv_poll_stop(&listener->poll);
    (void)uv_timer_start(&listener->rest, on_rested, ACCEPT_REST_MS, 0);
}

uint32_t os_descriptors_for(const struct os_node *node, enum env_listener kind)
{
    uint32_t max = node->descriptors_max;
    uint32_t reserve = max / 3 < RESERVE_MAX ? max / 3 : RESERVE_MAX;
    if (kind == ENV_LISTEN_CLUSTER) {
        reserve /= 2; /* clients do not keep other nodes out, nor do those keep us from our files */
    }
    return max - reserve;
}

/* Descriptors are given out from the lowest: this one tells how many there are. */
static bool is_one_too_many(const struct os_listener *listener, int fd)
{
    return (uint32_t)fd >= os_descriptors_for(listener->context->node, listener->kind);
}

static void turn_away(struct os_listener *listener, int fd)
{
    (void)close(fd);
    if (!listener->starved) {
        listener->starved = true;
        wr_log(listener->context->node->logger, LOG_LEVEL_WARNING, "listener",
               "connections are turned away: the rest of the %u descriptors is for files and other "
               "nodes; raise the limit of open files (ulimit -n)",
               listener->context->node->descriptors_max);
    }
}

static void on_acceptable(uv_poll_t *poll, int status, int events)
{
    struct os_listener *listener = poll->data;
    (void)status;
    (void)events;
    if (os_is_silent(listener->context)) {
        return;
    }
    for (int i = 0; i < ACCEPT_BATCH && !uv_is_closing((uv_handle_t *)poll);
         i++) { /* an upcall may unlisten */
        int fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && is_one_too_many(listener, fd)) {
            turn_away(listener, fd);
        } else if (fd >= 0) {
            listener->starved = listener->starved && is_one_too_many(listener, fd + 16);
            hand_out(listener, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            starve(listener, errno);
            return;
        } else if (errno == EAGAIN) {
            return;
        } /* otherwise that one client is gone again, or we were interrupted */
    }
}

/* --- listeners -------------------------------------------------------------------------------- */

static int listener_socket(const struct sockaddr *sa, socklen_t size, char *errmsg,
                           const struct net_addr *addr)
{
    int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    int zero = 0;
    if (fd >= 0 &&
        sa->sa_family == AF_INET6) { /* "::" is for both, whatever the system's default */
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    }
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        bind(fd, sa, size) == 0 && listen(fd, 1024) == 0) {
        return fd;
    }
    int error = os_error(-errno);
    (void)snprintf(errmsg, 256, "cannot listen on %.100s:%u: %s", addr->host, addr->port,
                   strerror(errno));
    if (fd >= 0) {
        (void)close(fd);
    }
    return error;
}

static const struct addrinfo *of_family(const struct addrinfo *list, int family)
{
    while (list != NULL && list->ai_family != family) {
        list = list->ai_next;
    }
    return list;
}

/* "" = every address: the IPv6 wildcard, which takes IPv4 too, where IPv6 exists. */
static int open_listener(const struct net_addr *addr, char *errmsg)
{
    char port[8];
    (void)snprintf(port, sizeof port, "%u", addr->port);
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    bool any = addr->host[0] == 0;
    int rc = getaddrinfo(any ? NULL : addr->host, port, &hints, &found);
    if (rc != 0) {
        (void)snprintf(errmsg, 256, "cannot listen on %.100s:%u: %s", addr->host, addr->port,
                       gai_strerror(rc));
        return WR_E_INVALID;
    }
    const struct addrinfo *v6 = any ? of_family(found, AF_INET6) : NULL;
    const struct addrinfo *v4 = any ? of_family(found, AF_INET) : NULL;
    const struct addrinfo *best = v6 != NULL ? v6 : found;
    int fd = listener_socket(best->ai_addr, best->ai_addrlen, errmsg, addr);
    if (fd < 0 && fd != WR_E_INUSE && best == v6 && v4 != NULL) {
        fd = listener_socket(v4->ai_addr, v4->ai_addrlen, errmsg, addr);
    }
    freeaddrinfo(found);
    return fd;
}

static int env_listen(struct env *env, enum env_listener kind, const struct net_addr *addr,
                      char *errmsg)
{
    struct os_context *context = os_context_of(env);
    WR_ASSERT(env->context == 0);
    if (kind == ENV_LISTEN_AMQPS && context->node->tls == NULL) {
        (void)snprintf(errmsg, 256, "TLS is not set up");
        return WR_E_STATE;
    }
    if (addr->port == 0) {
        (void)snprintf(errmsg, 256, "port 0 is not a port to listen on");
        return WR_E_INVALID;
    }
    int fd = open_listener(addr, errmsg);
    if (fd < 0) {
        return fd;
    }
    struct os_listener *listener = wr_calloc(1, sizeof *listener);
    listener->context = context;
    listener->kind = kind;
    listener->fd = fd;
    (void)uv_timer_init(&context->loop, &listener->rest);
    (void)uv_poll_init(&context->loop, &listener->poll, fd);
    listener->poll.data = listener->rest.data = listener;
    (void)uv_poll_start(&listener->poll, UV_READABLE, on_acceptable);
    list_push_back(&context->listeners, &listener->link);
    return 0;
}

static void on_rest_closed(uv_handle_t *handle)
{
    wr_free(handle->data);
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct os_listener *listener = handle->data;
    uv_close((uv_handle_t *)&listener->rest, on_rest_closed);
}

/* The port is free for the next process, or listener, from now on. */
static void listener_close(struct os_listener *listener)
{
    list_remove(&listener->link);
    (void)uv_timer_stop(&listener->rest);
    uv_close((uv_handle_t *)&listener->poll, on_poll_closed);
    (void)close(listener->fd);
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

void os_listen_close_all(struct os_context *context)
{
    LIST_FOREACH_SAFE(link, &context->listeners) {
        listener_close(WR_CONTAINER_OF(link, struct os_listener, link));
    }
}

void os_listen_ops(struct env_ops *ops)
{
    ops->listen = env_listen;
    ops->unlisten = env_unlisten;
}
