/* What: see rig.h. */
#include <arpa/inet.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "rig.h"
#include "warren/err.h"
#include "warren/mem.h"

void rig_fail(const char *what, const char *file, int line)
{
    (void)fprintf(stderr, "%s:%d: failed: %s\n", file, line, what);
    abort();
}

static void no_accept(void *ctx, struct env_conn *conn, enum env_listener kind,
                      const struct net_addr *peer, const struct net_addr *local)
{
    (void)ctx, (void)conn, (void)kind, (void)peer, (void)local;
    RIG_CHECK(!"unexpected on_accept");
}

static void no_connected(void *ctx, struct env_conn *conn, int error)
{
    (void)ctx, (void)conn, (void)error;
    RIG_CHECK(!"unexpected on_connected");
}

static void no_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    (void)ctx, (void)conn, (void)data, (void)size;
    RIG_CHECK(!"unexpected on_bytes");
}

static void any_drained(void *ctx, struct env_conn *conn)
{
    (void)ctx, (void)conn;
}

static void no_closed(void *ctx, struct env_conn *conn, int error)
{
    (void)ctx, (void)conn, (void)error;
    RIG_CHECK(!"unexpected on_closed");
}

static void no_moved(void *ctx, struct env_conn *conn, void *user)
{
    (void)ctx, (void)conn, (void)user;
    RIG_CHECK(!"unexpected on_moved");
}

static void no_mail(void *ctx, struct mail *mail)
{
    (void)ctx, (void)mail;
    RIG_CHECK(!"unexpected on_mail");
}

static void no_file(void *ctx, uint64_t token, int64_t result)
{
    (void)ctx, (void)token, (void)result;
    RIG_CHECK(!"unexpected on_file");
}

static void no_kv(void *ctx, uint64_t token, int result, void *reply)
{
    (void)ctx, (void)token, (void)result, (void)reply;
    RIG_CHECK(!"unexpected on_kv");
}

static void no_exec(void *ctx, uint64_t token, int result)
{
    (void)ctx, (void)token, (void)result;
    RIG_CHECK(!"unexpected on_exec");
}

static void any_turn(void *ctx)
{
    (void)ctx;
}

struct env_sink rig_sink(struct env_sink p)
{
#define DEFAULT(field, other) p.field = p.field != NULL ? p.field : (other)
    DEFAULT(on_accept, no_accept);
    DEFAULT(on_connected, no_connected);
    DEFAULT(on_bytes, no_bytes);
    DEFAULT(on_drained, any_drained);
    DEFAULT(on_closed, no_closed);
    DEFAULT(on_moved, no_moved);
    DEFAULT(on_mail, no_mail);
    DEFAULT(on_file, no_file);
    DEFAULT(on_kv, no_kv);
    DEFAULT(on_exec, no_exec);
    DEFAULT(turn, any_turn);
    return p;
}

static void count_warnings(void *ctx, enum log_level level, const char *component, const char *line)
{
    struct rig *rig = ctx;
    if (level >= LOG_LEVEL_WARNING && level != LOG_LEVEL_CRITICAL) {
        (void)fprintf(stderr, "<%s> %s\n", component, line);
        (void)snprintf(rig->last, sizeof rig->last, "%s", line);
        (void)__atomic_add_fetch(&rig->warnings, 1, __ATOMIC_SEQ_CST);
    }
}

static void count_hangups(void *ctx, int signal_number)
{
    struct rig *rig = ctx;
    rig->hangups += signal_number == SIGHUP;
}

void rig_path(const struct rig *rig, const char *name, char path[256])
{
    (void)snprintf(path, 256, "%s/%s", rig->dir, name);
}

void rig_init(struct rig *rig, uint32_t shards)
{
    rig_init_tls(rig, shards, NULL);
}

void rig_init_tls(struct rig *rig, uint32_t shards, const struct os_tls_options *tls)
{
    static struct env_sink quiet;
    const char *base = getenv("TMPDIR");
    char kv_dir[256];
    char errmsg[256] = "";
    *rig = (struct rig){.shards = shards};
    (void)snprintf(rig->dir, sizeof(rig->dir), "%s/warren-os-XXXXXX", base != NULL ? base : "/tmp");
    RIG_CHECK(mkdtemp(rig->dir) != NULL);
    rig->logger = (struct logger){.sink = count_warnings, .ctx = rig, .level = LOG_LEVEL_INFO};
    rig_path(rig, "kv", kv_dir);
    const struct os_options options = {.shards = shards,
                                       .tls = tls,
                                       .kv_dir = kv_dir,
                                       .logger = &rig->logger,
                                       .on_signal = count_hangups,
                                       .signal_ctx = rig};
    int rc = os_node_new(&options, &rig->os, errmsg);
    if (rc != 0) {
        rig_fail(errmsg, __FILE__, __LINE__);
    }
    quiet = rig_sink((struct env_sink){.turn = any_turn});
    for (uint32_t i = 0; i <= shards; i++) {
        os_set_sink(rig->os, i, &quiet, NULL);
    }
}

struct env *rig_env(struct rig *rig, uint32_t context)
{
    return os_env(rig->os, context);
}

void rig_set(struct rig *rig, uint32_t context, const struct env_sink *sink, void *ctx)
{
    os_set_sink(rig->os, context, sink, ctx);
}

int rig_run(struct rig *rig)
{
    return os_node_run(rig->os);
}

static int remove_entry(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

void rig_deinit(struct rig *rig)
{
    os_node_free(rig->os);
    RIG_CHECK(nftw(rig->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

void rig_done(struct env *env, int code)
{
    env->ops->stop(env, code, "the test is over");
}

struct net_addr rig_addr(const char *host, uint16_t port)
{
    struct net_addr addr = {.port = port};
    (void)snprintf(addr.host, sizeof(addr.host), "%s", host);
    return addr;
}

static uint16_t free_port(void)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(in);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    RIG_CHECK(fd >= 0);
    RIG_CHECK(bind(fd, (struct sockaddr *)(void *)&in, sizeof(in)) == 0);
    RIG_CHECK(getsockname(fd, (struct sockaddr *)(void *)&in, &size) == 0);
    (void)close(fd);
    return ntohs(in.sin_port);
}

uint16_t rig_listen(struct env *env, enum env_listener kind)
{
    for (;;) { /* somebody else may take the port in between */
        char errmsg[256];
        struct net_addr addr = rig_addr("127.0.0.1", free_port());
        int rc = env->ops->listen(env, kind, &addr, errmsg);
        if (rc == 0) {
            return addr.port;
        }
        RIG_CHECK(rc == WR_E_INUSE);
    }
}
