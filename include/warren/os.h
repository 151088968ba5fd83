#ifndef WR_OS_H
#define WR_OS_H
/*
 * The real env: one libuv loop and thread per shard, one plain thread for the log context, RocksDB
 * for the checkpoint store.
 *
 * Order of use: os_node_new() -> os_env() for each context, to build and recover what runs there
 * (still single-threaded) -> os_set_sink() for each context -> os_node_run(), which starts the
 * threads, runs shard 0 in the calling thread and returns the exit code given to env->ops->stop()
 * -> os_node_free().
 */
#include <signal.h>

#include "warren/env.h"
#include "warren/logger.h"
#include "warren/uid.h"

/* --- TLS of the listeners for clients (src/os/tls*.c, docs/tls.md) -----------------------------
 */
enum os_tls_login { OS_TLS_LOGIN_DN, OS_TLS_LOGIN_CN, OS_TLS_LOGIN_SAN };
enum os_tls_san {
    OS_TLS_SAN_DNS,
    OS_TLS_SAN_IP,
    OS_TLS_SAN_EMAIL,
    OS_TLS_SAN_URI,
    OS_TLS_SAN_OTHER
};
struct os_tls_options {           /* texts are borrowed for the call; NULL or "" = not given */
    const char *cacertfile;       /* PEM; needed with verify_peer */
    const char *certfile;         /* PEM, with intermediate certificates */
    const char *keyfile;          /* PEM; not given: certfile */
    const char *password;         /* of the key */
    const char *ciphers;          /* names with ':' between, OpenSSL's or the standard's */
    bool verify_peer;             /* ask for a certificate, and refuse one that is no good */
    bool fail_if_no_peer_cert;    /* ... and whoever has none */
    uint32_t depth;               /* certificates between the peer's and an authority's, at most */
    bool tls12, tls13;            /* versions spoken */
    bool honor_cipher_order;      /* our order counts, not the client's */
    enum os_tls_login login_from; /* where the user's name of a certificate is */
    enum os_tls_san san_type;
    uint32_t san_index; /* among the names of that type, from 0 */
};

struct os_node;
struct os_options {
    uint32_t shards;
    const struct os_tls_options *tls; /* NULL: there are no listeners with TLS */
    const char *kv_dir;               /* directory of the checkpoint store; made when missing */
    const struct logger *logger;      /* borrowed */
    void (*on_signal)(void *ctx,
                      int signal_number); /* SIGTERM, SIGINT, SIGHUP; called in shard 0's context */
    void *signal_ctx;
};
/* To be called first of all, before there are threads: a SIGHUP waits until the node runs, instead
 * of ending the process. */
void os_signals_hold(void);
/* WR_E_* with text in errmsg[256]. */
int os_node_new(const struct os_options *options, struct os_node **ret_node, char *errmsg);
struct env *os_env(struct os_node *node, uint32_t context);
void os_set_sink(struct os_node *node, uint32_t context, const struct env_sink *sink, void *ctx);
int os_node_run(struct os_node *node);
void os_node_free(struct os_node *node);

/* A logger sink that appends lines "time [level] <component> text" to a file (or stderr when path
 * is NULL). Thread-safe. reopen after rotation by os_log_reopen. NULL and errmsg on failure. */
struct os_log;
struct os_log *os_log_open(const char *path, bool console,
                           char *errmsg); /* console: to stderr as well */
void os_log_reopen(struct os_log *log);
void os_log_close(struct os_log *log);
void os_log_sink(void *ctx, enum log_level level, const char *component,
                 const char *line); /* log_sink_fn; ctx = struct os_log */

/* --- files around a node (src/os/data_dir.c): blocking; before or after the node runs. WR_E_* with
 * text in errmsg[512]. ------------- */
/* The whole file, at most size_max bytes; the caller frees the text with wr_free. */
int os_read_file(const char *path, size_t size_max, char **ret_text, size_t *ret_size,
                 char *errmsg);
/* Makes the directory when missing and keeps other processes out of it for as long as the
 * descriptor is open. */
int os_data_dir_lock(const char *dir, int *ret_fd, char *errmsg);
/* The directory's identity; made at random the first time. WR_E_CORRUPT when it, the log or the
 * checkpoint store should be there and is not, or is damaged. */
int os_data_dir_identity(const char *dir, struct uid *ret_id, char *errmsg);
/* To be called once the node has run: notes that there is a log, if there is. */
int os_data_dir_begun(const char *dir, char *errmsg);

/* Where warrenctl finds a node that runs under the same user: HOME/.warren/nodes/NODE, readable by
 * its owner only. */
struct os_note {
    const char *home; /* $HOME; NULL = no note */
    const char *node; /* name@host */
    const char *host; /* the cluster port's address; "" = every address */
    uint16_t port;
    const char *cookie;
    struct uid node_id; /* so that another node of that name at that port is not taken for it */
};
/* ret_replaced: there was a note of another node of that name, which is not found any more. */
int os_note_write(const struct os_note *note, bool *ret_replaced, char *errmsg);
void os_note_remove(const struct os_note *note); /* if it is still this one */

#endif
