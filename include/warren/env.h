#ifndef WR_ENV_H
#define WR_ENV_H
/*
 * The seam between Warren and the world (docs/architecture.md, "The seam").
 *
 * Everything between "bytes arrived" and "bytes to send / to disk" runs against this header. src/os
 * implements it with libuv, files, RocksDB and threads; tests/sim implements it with one seeded
 * scheduler. Nothing above knows which.
 *
 * A node is a set of *contexts*: shards 0..N-1 and one log context (number N). A context is
 * single-threaded: all calls on a `struct env` are made from its own context, and all upcalls
 * (struct env_sink) arrive in that context, one at a time, never from inside a call into the env.
 * After one or more upcalls the env calls sink->turn() once: that is where a context flushes what
 * it gathered ("work is done in batches per loop turn").
 *
 * Invariants
 * I1  No upcall happens during a call into the env.
 * I2  Every turn is preceded by at least one upcall or by an expired wake_at().
 * I3  Each token handed in comes back in exactly one completion upcall, also on failure, unless the
 * env is destroyed. I4  Mail to a context arrives, once, in the order posted, whoever posted it. I5
 * A file_write is durable only after a file_sync of that file that was requested after it has
 * completed with 0. I6  Bytes do not overtake mail: what a context was posted before bytes to it
 * were sent arrives before these, on whatever connection. So who answers a client need not wait
 * until the other contexts have what they were posted: whatever the client does next comes after
 * it.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "warren/buf.h"

struct env;
struct env_conn; /* one byte-stream connection; lives from on_accept/connect() to on_closed */
struct env_file; /* one open file */

/* A piece of mail between contexts. Embedded as first member; ownership moves to the receiver with
 * post(). */
struct mail {
    struct mail *next; /* used by the mailbox only */
    uint32_t kind;     /* chosen by the layer that defines it, see src/node/mail_kinds in
                          docs/architecture.md */
    uint32_t from;     /* context number of the sender, set by post() */
    void (*destroy)(struct mail *mail); /* frees an undelivered mail at shutdown */
};

struct net_addr {
    char host[256]; /* numeric address or name; "" or "0.0.0.0"/"::" = any when listening */
    uint16_t port;
};

enum env_listener {
    ENV_LISTEN_AMQP = 1,
    ENV_LISTEN_CLUSTER = 2,
    ENV_LISTEN_HTTP = 3,
    ENV_LISTEN_AMQPS = 4 /* AMQP over TLS; on_accept comes before the TLS handshake */
};

/* What a TLS connection has negotiated, in the words of RabbitMQ's listings, and who its peer is.
 */
struct env_tls {
    char protocol[12]; /* "tlsv1.3" */
    char key_exchange[16], cipher[24], hash[12];
    bool verified;                          /* the peer has shown a certificate, which is good */
    struct slice subject, issuer, validity; /* of that: texts; otherwise SLICE_NONE */
    struct slice login; /* the user's name by it and the configuration; size 0: it has none */
};

/* Gives the texts back; not the structure. */
static inline void env_tls_deinit(struct env_tls *tls)
{
    slice_unref(&tls->subject);
    slice_unref(&tls->issuer);
    slice_unref(&tls->validity);
    slice_unref(&tls->login);
}

/* What the system knows of this process. */
struct env_process {
    uint64_t pid;
    uint64_t descriptors, descriptors_max;   /* in use; how many there may be */
    uint64_t descriptors_clients;            /* at how many clients are turned away */
    uint64_t memory_anonymous, memory_files; /* parts of what is resident */
};

/* The certificate that this node's listeners with TLS show. */
struct env_certificate {
    char subject[256], issuer[256];       /* distinguished names as in struct env_tls; may be cut */
    char valid_from[24], valid_until[24]; /* "2026-07-01T12:00:00Z" */
    int64_t from_s, until_s;              /* the same in Unix time */
    char problem[256]; /* why the files that are there now are not used; "": they are */
};

/* Upcalls. Slices and strings are borrowed for the duration of the call. */
struct env_sink {
    /* A connection was accepted and given to this context. The sink sets its user pointer with
     * conn_set_user(). */
    void (*on_accept)(void *ctx, struct env_conn *conn, enum env_listener kind,
                      const struct net_addr *peer, const struct net_addr *local);
    /* Outcome of connect(): error 0 = established; otherwise on_closed is NOT called and conn is
     * dead after the call. */
    void (*on_connected)(void *ctx, struct env_conn *conn, int error);
    void (*on_bytes)(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size);
    /* The output backlog of conn fell to or below its low watermark after having been above the
     * high one. */
    void (*on_drained)(void *ctx, struct env_conn *conn);
    /* The connection is gone (peer closed: 0, or a WR_E_*; also after our own close()). conn is
     * dead after this call. */
    void (*on_closed)(void *ctx, struct env_conn *conn, int error);
    /* A connection came from another context of this node by conn_move(); user is what was given
     * there. */
    void (*on_moved)(void *ctx, struct env_conn *conn, void *user);
    void (*on_mail)(void *ctx, struct mail *owned_mail);
    void (*on_file)(void *ctx, uint64_t token, int64_t result); /* bytes or 0, or negative WR_E_* */
    void (*on_kv)(void *ctx, uint64_t token, int result, void *reply); /* reply: see kv_* below */
    void (*on_exec)(void *ctx, uint64_t token, int result);
    void (*turn)(void *ctx);
};

/* One key range or key of the checkpoint store. Keys are ordered bytewise. */
struct kv_op {
    enum { KV_PUT = 1, KV_DELETE = 2, KV_DELETE_RANGE = 3 } kind;
    struct slice key;   /* owned by the op until the completion */
    struct slice value; /* KV_PUT: the value; KV_DELETE_RANGE: end key (exclusive) */
};
struct kv_pair {
    struct slice key, value; /* value.buf == NULL in a get reply: not found */
};
struct kv_reply { /* handed to on_kv for kv_get and kv_scan; freed by the receiver with
                     kv_reply_free() */
    uint32_t count;
    bool more; /* scan: the limit stopped it */
    struct kv_pair pairs[];
};
void kv_reply_free(struct kv_reply *reply); /* accepts NULL; any thread */

enum env_open {
    ENV_OPEN_READ = 1,
    ENV_OPEN_WRITE = 2,
    ENV_OPEN_CREATE = 4,
    ENV_OPEN_EXCLUSIVE = 8
};

struct env_ops {
    /* --- time --------------------------------------------------------------------------------- */
    uint64_t (*mono_ns)(struct env *env);     /* monotonic; constant within one turn is allowed */
    uint64_t (*mono_now_ns)(struct env *env); /* the same clock, read anew */
    uint64_t (*wall_ms)(struct env *env);     /* Unix time, read anew; may jump */
    /* One wish per context: turn() is called at or soon after mono_ns. A new wish replaces the old
     * one. UINT64_MAX = none. */
    void (*wake_at)(struct env *env, uint64_t mono_ns);

    /* --- mail --------------------------------------------------------------------------------- */
    void (*post)(struct env *env, uint32_t context, struct mail *owned_mail);

    /* --- network ------------------------------------------------------------------------------ */
    /* Listens; accepted connections of AMQP/HTTP are spread over the shards by the env, cluster
     * ones stay on shard 0. 0 or WR_E_* with text in errmsg (256 bytes). Call on shard 0. Port 0 is
     * refused. */
    int (*listen)(struct env *env, enum env_listener kind, const struct net_addr *addr,
                  char *errmsg);
    void (*unlisten)(struct env *env,
                     enum env_listener kind); /* closes all listeners of the kind */
    /* Starts to connect; on_connected tells. Never fails at once. */
    struct env_conn *(*connect)(struct env *env, const struct net_addr *addr, void *user);
    /* Queues slices for writing, in order; takes over the caller's references. Flushed at the end
     * of the turn. */
    void (*conn_send)(struct env_conn *conn, struct slice *owned, uint32_t count);
    size_t (*conn_backlog)(
        const struct env_conn *conn); /* bytes queued and not yet given to the kernel */
    /* Bytes that the kernel was given and the peer's has not acknowledged; 0 where that is not
     * known. */
    size_t (*conn_unacked)(const struct env_conn *conn);
    void (*conn_set_watermarks)(struct env_conn *conn, size_t low, size_t high);
    void (*conn_pause)(struct env_conn *conn, bool paused); /* stops/resumes reading */
    /* Closes. graceful: what is queued is sent first (at most linger_ms), then FIN; otherwise reset
     * at once. on_closed follows in a later upcall. Further sends are dropped. */
    void (*conn_close)(struct env_conn *conn, bool graceful, uint32_t linger_ms);
    void *(*conn_user)(const struct env_conn *conn);
    void (*conn_set_user)(struct env_conn *conn, void *user);
    /* NULL: the connection is not one over TLS, or its handshake is not over (what on_bytes brings
     * comes after it). Valid until on_closed. */
    const struct env_tls *(*conn_tls)(const struct env_conn *conn);
    /* false: there is none, for nobody listens with TLS. Any context. */
    bool (*certificate)(struct env *env, struct env_certificate *ret);
    /* Gives a connection to another context of the node: there on_moved(user) is called; here it is
     * dead after the call. Only legal without TLS, when nothing is queued for sending and
     * everything that on_bytes brought was consumed. */
    void (*conn_move)(struct env_conn *conn, uint32_t context, void *user);

    /* --- files (log context; reads from any shard) -------------------------------------------- */
    int (*dir_list)(
        struct env *env, const char *dir, char ***ret_names,
        uint32_t *ret_count); /* sorted; caller frees each name and the array with wr_free */
    int (*dir_make)(struct env *env, const char *dir); /* with parents; exists = ok */
    int (*dir_sync)(struct env *env,
                    const char *dir); /* blocking; only at open, segment roll and recovery */
    int (*file_open)(struct env *env, const char *path, uint32_t flags, struct env_file **ret_file);
    int (*file_size)(struct env_file *file, uint64_t *ret_size);
    int (*file_allocate)(struct env_file *file,
                         uint64_t size); /* preallocates and extends; blocking */
    int (*file_truncate)(struct env_file *file, uint64_t size); /* blocking */
    /* Blocking read, for start-up and tools only. Returns bytes read (short only at end of file) or
     * WR_E_*. */
    int64_t (*file_pread)(struct env_file *file, void *data, size_t size, uint64_t offset);
    /* Blocking; start-up only. Syncs the file, then drops what the OS caches of it, so that what is
     * read afterwards comes from the disk (a failed sync of an earlier process may have left clean
     * pages that never reached it). 0 or WR_E_*. */
    int (*file_settle)(struct env_file *file);
    /* Gathers and writes owned slices at offset; on_file(token, bytes). Order of writes to one file
     * is kept. */
    void (*file_write)(struct env_file *file, struct slice *owned, uint32_t count, uint64_t offset,
                       uint64_t token);
    void (*file_sync)(struct env_file *file, uint64_t token); /* fdatasync; on_file(token, 0) */
    /* Asynchronous read into a new buf of `size` bytes; on_file(token, n); the buf is fetched with
     * file_take(token). */
    void (*file_read)(struct env *env, struct env_file *file, uint64_t offset, uint32_t size,
                      uint64_t token);
    struct buf *(*file_take)(
        struct env *env,
        uint64_t token); /* the buf of a completed read; caller owns it; NULL if failed */
    int (*file_unlink)(struct env *env, const char *path);                 /* blocking */
    int (*file_rename)(struct env *env, const char *from, const char *to); /* blocking */
    void (*file_close)(struct env_file *file);
    int (*disk_free)(struct env *env, const char *dir, uint64_t *ret_bytes);

    /* --- checkpoint store (any shard) --------------------------------------------------------- */
    /* Applies a batch atomically, without sync; ops are owned by the env until on_kv(token, result,
     * NULL). */
    void (*kv_write)(struct env *env, struct kv_op *owned_ops, uint32_t count, uint64_t token);
    void (*kv_flush)(struct env *env,
                     uint64_t token); /* all writes completed before are durable afterwards */
    void (*kv_get)(struct env *env, struct slice *owned_keys, uint32_t count,
                   uint64_t token); /* reply: pairs in order of the keys */
    /* Pairs with begin <= key < end, in order, at most `limit` pairs and about `bytes` bytes. */
    void (*kv_scan)(struct env *env, struct slice owned_begin, struct slice owned_end,
                    uint32_t limit, uint32_t bytes, uint64_t token);
    int (*kv_get_now)(struct env *env, struct slice key,
                      struct slice *ret_value); /* blocking; start-up only; WR_E_NOTFOUND */

    /* --- memory (shard 0) --------------------------------------------------------------------- */
    /* Resident memory of this process; memory there is for it: the machine's, or what its cgroups
     * leave it. 0, or WR_E_UNSUPPORTED where nobody can say (the simulator). */
    int (*memory_used)(struct env *env, uint64_t *ret_bytes);
    int (*memory_total)(struct env *env, uint64_t *ret_bytes);
    /* 0, or WR_E_UNSUPPORTED as above. */
    int (*process)(struct env *env, struct env_process *ret);
    /* Gives free memory that the allocator keeps back to the system, on another thread, unless that
     * is less than `least` bytes; then on_exec(token, 0; 1: it was less). */
    void (*memory_trim)(struct env *env, uint64_t least, uint64_t token);

    /* --- other -------------------------------------------------------------------------------- */
    /* Runs work(arg) on another thread (or, in simulation, later); then on_exec(token, work's
     * result). */
    void (*exec)(struct env *env, int (*work)(void *arg), void *arg, uint64_t token);
    void (*random_secret)(struct env *env, void *out,
                          size_t size); /* the OS's CSPRNG; the seed in simulation */
    uint64_t (*seed)(struct env *env);  /* seed for this context's prng (hash seeds, jitter, ids) */
    /* Ends the node: production exits with the code once the current turn is over, the simulator
     * records a node stop. */
    void (*stop)(struct env *env, int exit_code, const char *why);
};

struct env {
    const struct env_ops *ops;
    uint32_t context;       /* number of this context */
    uint32_t context_count; /* shards + 1; the log context is context_count - 1 */
};

#endif
