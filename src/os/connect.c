/* Connecting: the addresses of a name are tried one after the other. One that cannot be connected
 * to gets on_connected(error) when its handle is closed, and nothing else. */
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

#include "warren/err.h"

#include "tcp_internal.h"

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
        os_conn_on_handle_closed(handle);
        return;
    }
    (void)uv_tcp_init(&conn->context->loop, &conn->uv.tcp);
    conn->uv.handle.data = conn;
    int rc = connect_next(conn);
    if (rc != 0) {
        os_conn_destroy(conn, os_error(rc));
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
        os_conn_destroy(conn,
                        os_error(status)); /* connecting stays set: on_connected(error) follows */
        return;
    }
    conn->connecting = false;
    os_conn_start(conn);
    if (conn->queue.size > 0) {
        os_conn_schedule_flush(conn);
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
        uv_close(&conn->uv.handle, os_conn_on_handle_closed);
        return;
    }
    int rc = status != 0 || result == NULL ? UV_EHOSTUNREACH : connect_next(conn);
    if (rc != 0) {
        os_conn_destroy(conn, os_error(rc));
    }
}

struct env_conn *os_tcp_connect(struct env *env, const struct net_addr *addr, void *user)
{
    struct os_context *context = os_context_of(env);
    struct env_conn *conn = os_conn_new(context);
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
