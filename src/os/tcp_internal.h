#ifndef WR_OS_TCP_INTERNAL_H
#define WR_OS_TCP_INTERNAL_H
/*
 * A connection, as tcp.c, connect.c and conn_tls.c share it.
 *
 * Invariants: I1 every env_conn gets exactly one on_closed, unless it was moved or its connect
 * failed. I2 references of slices are held until the kernel has the bytes. I3 no upcall from inside
 * an env call. I4 the libuv handle is closed once: by os_conn_destroy, or, while a name is being
 * looked up or the handle is between two addresses, by whoever comes back from that.
 *
 * Threads: a connection belongs to one context.
 */
#include "os_internal.h"
#include "sendq.h"

struct os_tls;

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

/* --- tcp.c ------------------------------------------------------------------------------------ */

struct env_conn *os_conn_new(struct os_context *context);
/* It is connected: reading begins. */
void os_conn_start(struct env_conn *conn);
/* At the end of the turn what is queued goes to the kernel. */
void os_conn_schedule_flush(struct env_conn *conn);
/* Now. The connection may be destroyed by it. */
void os_conn_flush(struct env_conn *conn);
/* The error is for on_closed, unless there is one already. Freed when the handle is closed. */
void os_conn_destroy(struct env_conn *conn, int error);
void os_conn_close_gracefully(struct env_conn *conn, uint32_t linger_ms);
/* For whoever closes the handle himself (I4): tells the user and frees. */
void os_conn_on_handle_closed(uv_handle_t *handle);

/* --- conn_tls.c: of connections whose `tls` is not NULL, but for over, goodbye and info ---------
 */

void os_conn_tls_free(struct conn_tls *tls);
/* Encrypts what is queued, until there is enough for the kernel. */
void os_conn_tls_fill(struct env_conn *conn);
/* Bytes have come. The connection may be destroyed by it. */
void os_conn_tls_received(struct env_conn *conn, const uint8_t *data, size_t size);
/* It is not in the handshake any more; `why` is added to what the log says of one that was. */
void os_conn_tls_over(struct env_conn *conn, const char *why);
/* close_notify, if the kernel takes it now. */
void os_conn_tls_goodbye(struct env_conn *conn);
const struct env_tls *os_conn_tls_info(const struct env_conn *conn); /* NULL: none */

/* --- connect.c -------------------------------------------------------------------------------- */

struct env_conn *os_tcp_connect(struct env *env, const struct net_addr *addr, void *user);

#endif
