#ifndef WR_OS_INTERNAL_H
#define WR_OS_INTERNAL_H
/* What the files of src/os share. One struct os_context per context of the node; only its own
 * thread touches it, but for the mailbox (any thread) and the work items of the thread pool (given
 * back through the loop or the mailbox). */
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>
#include <urcu/wfcqueue.h>

#include "warren/env.h"
#include "warren/list.h"
#include "warren/logger.h"
#include "warren/os.h"
#include "warren/vec.h"

#define OS_RECEIVE_SIZE       (128u * 1024u)
#define OS_TLS_BUFFER         (OS_RECEIVE_SIZE + 32u * 1024u) /* all plaintext of one read */
#define OS_TLS_HANDSHAKES_MAX 512u /* of one shard, begun and not ended */
#define OS_SHARDS_MAX         64u

/* Mail kinds of the os layer itself; consumed before the sink sees them. */
#define OS_MAIL_ACCEPTED 0x0501u
#define OS_MAIL_MOVED    0x0502u
#define OS_MAIL_WORK     0x0503u /* log context only: a thread-pool job is done */
#define OS_MAIL_STOP     0x0504u

struct os_kv;
struct os_node;
struct os_tls_server;
struct os_tls_watch;

/* A completion that is due in the next turn (work that was done at once). */
struct os_done {
    enum { OS_DONE_FILE, OS_DONE_CONNECT } kind;
    uint64_t token;
    int64_t result;
    struct env_conn *conn;
};

#define OS_SIGNALS 3

struct os_context {
    struct env env; /* first: env pointer = context pointer */
    struct os_node *node;
    const struct env_sink *sink;
    void *sink_ctx;
    bool ready; /* context_init went through */
    bool is_log;
    bool silent; /* no more upcalls; its own thread says so when it leaves its loop */
    bool dirty;  /* an upcall was made since the last turn */
    bool stopping;

    /* Mailbox: wait-free multi-producer queue of userspace-rcu; the wake-up is sent by whoever
     * makes it non-empty. */
    struct cds_wfcq_head mail_head;
    struct cds_wfcq_tail mail_tail;
    _Atomic bool wake_pending;
    /* Contexts that this one has posted something to since it woke them last, in that order. */
    uint32_t wake_count;
    uint8_t to_wake[OS_SHARDS_MAX + 1];
    bool wakes[OS_SHARDS_MAX + 1]; /* is it in to_wake? */

    /* Shards: libuv. */
    uv_loop_t loop;
    uv_poll_t mail; /* of event_fd */
    uv_check_t check;
    uv_prepare_t prepare;
    uv_idle_t idle; /* active while turns are left over for the next round of the loop: it then does
                       not block */
    uv_timer_t timer;
    uint64_t wake_at_ns;
    uint8_t *receive_buffer;
    struct list connections; /* all of this context */
    struct list to_flush;    /* connections with something to send this turn */
    struct list to_read;     /* connections that had a full buffer: read on after the turn */
    struct list listeners;
    uint8_t *tls_buffer;        /* plaintext; NULL until a connection has TLS */
    struct list tls_handshakes; /* connections in it, the oldest first */
    uint32_t tls_handshake_count;

    int event_fd; /* what others wake it by */
    /* Log context: a loop of its own around that. */
    uint32_t works; /* threads at work for it; their mail is still to come */

    struct os_done *done;
    uint32_t done_count, done_capacity;
    struct list kv_writes; /* checkpoint store writes and flushes, in order; the first is running */
    struct list reads;     /* completed file_read jobs waiting for file_take */
    pthread_t thread;
    uint64_t now_ns; /* time of this turn; 0 = not read yet */
};

struct os_node {
    struct env_ops ops;
    uint32_t context_count;
    struct os_context *contexts;
    const struct logger *logger;
    struct os_kv *kv;
    struct os_tls_server *tls; /* NULL: no listeners with TLS */
    struct os_tls_watch *tls_watch;
    uv_signal_t signals[OS_SIGNALS];
    uint32_t signal_count; /* of those that are open */
    void (*on_signal)(void *ctx, int signal_number);
    void *signal_ctx;
    _Atomic int exit_code;
    _Atomic bool stop;
    uint32_t next_accept;     /* round robin over the shards; shard 0 only */
    uint32_t descriptors_max; /* that this process may have */
};

static inline struct os_context *os_context_of(struct env *env)
{
    return (struct os_context *)(void *)env;
}

/* No more upcalls: the node has stopped, or never ran. What completes now only frees itself. Not
 * from the moment that some thread has stopped the node: a turn that comes after would find what
 * was freed meanwhile, and nobody told of it. */
static inline bool os_is_silent(const struct os_context *context)
{
    return context->sink == NULL || context->silent;
}

uint64_t os_now_ns(void);
void os_post(struct os_context *to, struct mail *mail); /* and wakes it at once; any thread */
void os_complete(struct os_context *context, struct os_done done); /* an upcall in the next turn */
void os_deliver_done(struct os_context *context);
void os_mail_first(struct os_context *context); /* before bytes are handed over: I6 of env.h */
void os_turn(struct os_context *context);

/* Thread-pool work: run() on a pool thread, then finish() in the context. Embedded first in a job.
 */
struct os_work {
    uv_work_t request; /* shards */
    struct mail mail;  /* log context: how it comes home */
    struct os_context *context;
    void (*run)(struct os_work *work);
    void (*finish)(struct os_work *work); /* frees the job */
};
void os_work_start(struct os_context *context, struct os_work *work);

/* tcp.c */
void os_tcp_ops(struct env_ops *ops);
void os_tcp_flush(struct os_context *context);
void os_tcp_close_all(struct os_context *context);
void os_tcp_connected_later(struct os_context *context, struct env_conn *conn, int error);
/* A connection of this context over a connected socket, which it takes over (also when it is no
 * good: then, or with -1, the connection fails as soon as it is there). Its user is set; reading
 * begins with the next round of the loop. */
struct env_conn *os_tcp_adopt(struct os_context *context, int fd, void *user);
/* conn_tls.c: what comes and goes over a connection that was just adopted is TLS. */
void os_tcp_begin_tls(struct env_conn *conn, const struct net_addr *peer);
/* tls_watch.c: of shard 0. free: when its loop is closed; stop and free accept NULL. */
void os_tls_watch_start(struct os_context *context);
void os_tls_watch_stop(struct os_tls_watch *watch);
void os_tls_watch_free(struct os_tls_watch *watch);
void os_tls_watch_ops(struct env_ops *ops);
/* listen.c */
void os_listen_ops(struct env_ops *ops);
/* From how many descriptors on connections of this kind are turned away. */
uint32_t os_descriptors_for(const struct os_node *node, enum env_listener kind);
void os_listen_on_mail(struct os_context *context, struct mail *owned_mail);
void os_listen_close_all(struct os_context *context);
/* Sends a connected socket (or -1) with its user to another context, as on_moved. */
void os_listen_post_moved(struct os_context *from, uint32_t to, int fd, void *user);
/* file.c */
void os_file_ops(struct env_ops *ops);
/* memory.c */
void os_memory_init(void); /* of the process, before it uses much */
void os_memory_ops(struct env_ops *ops);
/* signals.c: of shard 0. stop: when its loop is over; what comes from then on is ignored. */
void os_signals_start(struct os_node *node);
void os_signals_stop(struct os_node *node);
/* process.c */
void os_process_ops(struct env_ops *ops);
/* kv_rocksdb.c */
void os_kv_ops(struct env_ops *ops);
int os_kv_open(const char *dir, struct os_kv **ret_kv, char *errmsg);
void os_kv_close(struct os_kv *kv);
/* kv_space.c. Before the store in that folder, which is made, is opened. */
void os_kv_space_watch(const char *dir, const struct logger *logger);
/* From now on nothing waits for space: who would ends the process, with this code. */
void os_kv_space_leave(int exit_code);

/* error.c */
int os_error(int uv_or_errno); /* negative errno or libuv code -> WR_E_* */

#endif
