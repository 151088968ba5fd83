/*
 * What: the composition root of a real node: arguments, configuration file, event log, identity of
 * the data directory, then envs (src/os) + node (src/node). Exit codes: 0 orderly stop, 1 could not
 * start or had to stop, 64 wrong usage, 78 bad configuration.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"
#include "warren/node.h"
#include "warren/os.h"
#include "warren/uid.h"

#include "node/config.h"

#define CONFIG_FILE_MAX (1u << 20)

struct program {
    struct config config;
    struct os_log *log;
    struct logger logger;
    struct os_node *os;
    struct node *node;
    struct uid node_id;
    int lock_fd;
};

static void usage(FILE *out)
{
    (void)fprintf(out, "Usage: warren --config FILE [--data DIR]\n"
                       "  --config FILE   configuration in rabbitmq.conf's format\n"
                       "  --data DIR      data directory (overrides data_dir)\n"
                       "  --version       print the version\n"
                       "  --help          print this\n");
}

static void on_ignored(void *ctx, uint32_t line, const char *key)
{
    (void)ctx;
    (void)fprintf(stderr, "warren: line %u: '%s' is accepted and has no effect in this version\n",
                  line, key);
}

/* From the file, or the environment. A node that stands alone gets one of its own for this start,
 * so that its cluster port is never open to everybody; warrenctl finds it in the node's note. */
static int choose_cookie(struct config *config, char *errmsg)
{
    const char *cookie = getenv("RABBITMQ_ERLANG_COOKIE");
    uint8_t secret[16];
    if (config->cookie[0] != 0) {
        return 0;
    }
    if (cookie != NULL && cookie[0] != 0) {
        if ((size_t)snprintf(config->cookie, sizeof config->cookie, "%s", cookie) >=
            sizeof config->cookie) {
            (void)snprintf(errmsg, 512, "RABBITMQ_ERLANG_COOKIE is longer than 255 bytes");
            return WR_E_TOOBIG;
        }
        return 0;
    }
    if (config->peer_count > 1) {
        return 0; /* config_finish refuses that */
    }
    if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret) {
        (void)snprintf(errmsg, 512, "no random numbers to be had from the system");
        return WR_E_IO;
    }
    for (size_t i = 0; i < sizeof secret; i++) {
        (void)snprintf(config->cookie + 2 * i, 3, "%02x", secret[i]);
    }
    return 0;
}

static int load_config(struct config *config, const char *path, const char *data_dir, char *errmsg)
{
    config_defaults(config);
    (void)snprintf(config->file, sizeof config->file, "%s", path);
    char *text = NULL;
    size_t size = 0;
    char why[512];
    int rc = os_read_file(path, CONFIG_FILE_MAX, &text, &size, errmsg);
    if (rc != 0) {
        return rc;
    }
    rc = config_parse(config, bytes_make(text, size), on_ignored, NULL, why);
    wr_free(text);
    if (rc != 0) {
        (void)snprintf(errmsg, 512, "%.180s: %.300s", path, why);
        return rc;
    }
    if (data_dir != NULL && (size_t)snprintf(config->data_dir, sizeof config->data_dir, "%s",
                                             data_dir) >= sizeof config->data_dir) {
        (void)snprintf(errmsg, 512, "the path given with --data is too long");
        return WR_E_TOOBIG;
    }
    rc = choose_cookie(config, errmsg);
    if (rc != 0) {
        return rc;
    }
    if (config->shards == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        config->shards = cores < 1 ? 1 : cores > 64 ? 64 : (uint32_t)cores;
    }
    return config_finish(config, errmsg);
}

static void reopen_log(void *ctx)
{
    os_log_reopen(((struct program *)ctx)->log);
}

static void on_signal(void *ctx, int signal_number)
{
    struct program *program = ctx;
    if (signal_number == SIGHUP) {
        reopen_log(program);
    } else if (program->node != NULL) {
        node_stop(program->node,
                  signal_number == SIGINT ? "interrupted (SIGINT)" : "asked to stop (SIGTERM)");
    }
}

static struct os_tls_options tls_options(const struct config *config)
{
    static const enum os_tls_login logins[] = {[CONFIG_LOGIN_DN] = OS_TLS_LOGIN_DN,
                                               [CONFIG_LOGIN_CN] = OS_TLS_LOGIN_CN,
                                               [CONFIG_LOGIN_SAN] = OS_TLS_LOGIN_SAN};
    static const enum os_tls_san sans[] = {[CONFIG_SAN_DNS] = OS_TLS_SAN_DNS,
                                           [CONFIG_SAN_IP] = OS_TLS_SAN_IP,
                                           [CONFIG_SAN_EMAIL] = OS_TLS_SAN_EMAIL,
                                           [CONFIG_SAN_URI] = OS_TLS_SAN_URI,
                                           [CONFIG_SAN_OTHER] = OS_TLS_SAN_OTHER};
    const struct config_tls *tls = &config->tls;
    return (struct os_tls_options){.cacertfile = tls->cacertfile,
                                   .certfile = tls->certfile,
                                   .keyfile = tls->keyfile,
                                   .password = tls->password,
                                   .ciphers = tls->cipher_names,
                                   .verify_peer = tls->verify_peer,
                                   .fail_if_no_peer_cert = tls->fail_if_no_peer_cert,
                                   .depth = tls->depth,
                                   .tls12 = tls->tls12,
                                   .tls13 = tls->tls13,
                                   .honor_cipher_order = tls->honor_cipher_order,
                                   .login_from = logins[tls->login_from],
                                   .san_type = sans[tls->san_type],
                                   .san_index = tls->san_index};
}

static int start(struct program *program, char *errmsg)
{
    struct config *config = &program->config;
    char kv_dir[1100];
    int rc = os_data_dir_identity(config->data_dir, &program->node_id, errmsg);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(kv_dir, sizeof kv_dir, "%s/checkpoints", config->data_dir);
    struct os_tls_options tls = tls_options(config);
    struct os_options options = {.shards = config->shards,
                                 .tls = config->ssl.count > 0 ? &tls : NULL,
                                 .kv_dir = kv_dir,
                                 .logger = &program->logger,
                                 .on_signal = on_signal,
                                 .signal_ctx = program};
    rc = os_node_new(&options, &program->os, errmsg);
    if (rc != 0) {
        return rc;
    }
    struct env *envs[65];
    for (uint32_t i = 0; i <= config->shards; i++) {
        envs[i] = os_env(program->os, i);
    }
    struct node_options node_options = {.config = config,
                                        .logger = &program->logger,
                                        .envs = envs,
                                        .node_id = program->node_id,
                                        .reopen_log = reopen_log,
                                        .reopen_ctx = program};
    rc = node_new(&node_options, &program->node, errmsg);
    if (rc != 0) {
        return rc;
    }
    for (uint32_t i = 0; i <= config->shards; i++) {
        void *ctx = NULL;
        const struct env_sink *sink = node_sink(program->node, i, &ctx);
        os_set_sink(program->os, i, sink, ctx);
    }
    return 0;
}

static int open_files(struct program *program, char *errmsg)
{
    struct config *config = &program->config;
    program->lock_fd = -1;
    int rc = os_data_dir_lock(config->data_dir, &program->lock_fd, errmsg);
    if (rc != 0) {
        return rc;
    }
    program->log = os_log_open(config->log_file[0] == 0 ? NULL : config->log_file,
                               config->log_console, errmsg);
    if (program->log == NULL) {
        return WR_E_IO;
    }
    program->logger =
        (struct logger){.sink = os_log_sink, .ctx = program->log, .level = config->log_level};
    return 0;
}

/* Where warrenctl finds this node. Without it only --config helps, so a failure is no reason not to
 * run. */
static struct os_note leave_note(struct program *program)
{
    const struct config *config = &program->config;
    char errmsg[512];
    struct os_note note = {.home = getenv("HOME"),
                           .node = config->nodename,
                           .host = config->cluster_listener.host,
                           .port = config->cluster_listener.port,
                           .cookie = config->cookie,
                           .node_id = program->node_id};
    bool replaced = false;
    if (os_note_write(&note, &replaced, errmsg) != 0) {
        wr_log(&program->logger, LOG_LEVEL_WARNING, "node", "warrenctl will need --config: %s",
               errmsg);
    } else if (replaced) {
        wr_log(&program->logger, LOG_LEVEL_WARNING, "node",
               "there was a note for warrenctl of another node '%s': if that one still runs, it is "
               "reached with --config only",
               config->nodename);
    }
    return note;
}

static int run(struct program *program)
{
    char errmsg[512] = "";
    struct config *config = &program->config;
    int code = 1;
    if (open_files(program, errmsg) != 0) {
        (void)fprintf(stderr, "warren: %s\n", errmsg);
        if (program->lock_fd >= 0) {
            (void)close(program->lock_fd);
        }
        return code;
    }
    wr_log(&program->logger, LOG_LEVEL_INFO, "node",
           "starting node=%s version=%s data=%s shards=%u pid=%ld", config->nodename,
           WARREN_VERSION, config->data_dir, config->shards, (long)getpid());
    int rc = start(program, errmsg);
    if (rc == 0) {
        struct os_note note = leave_note(program);
        code = os_node_run(program->os);
        if (os_data_dir_begun(config->data_dir, errmsg) != 0) {
            wr_log(&program->logger, LOG_LEVEL_WARNING, "node", "%s", errmsg);
        }
        if (code == 0) {
            os_note_remove(&note);
        }
    } else {
        wr_log(&program->logger, LOG_LEVEL_CRITICAL, "node", "cannot start: %s", errmsg);
    }
    node_free(program->node);
    os_node_free(program->os);
    wr_log(&program->logger, LOG_LEVEL_INFO, "node", "stopped node=%s exit_code=%d",
           config->nodename, code);
    os_log_close(program->log);
    (void)close(program->lock_fd);
    return code;
}

int main(int argc, char **argv)
{
    const char *config_path = NULL;
    const char *data_dir = NULL;
    char errmsg[512] = "";
    os_signals_hold();
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
            config_path = argv[++i];
        } else if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) {
            data_dir = argv[++i];
        } else if (strcmp(argv[i], "--version") == 0) {
            (void)printf("%s\n", WARREN_VERSION);
            return 0;
        } else if (strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            return 0;
        } else {
            (void)fprintf(stderr, "warren: what is '%s'?\n", argv[i]);
            usage(stderr);
            return 64;
        }
    }
    if (config_path == NULL) {
        usage(stderr);
        return 64;
    }
    struct program *program = wr_calloc(1, sizeof *program);
    if (load_config(&program->config, config_path, data_dir, errmsg) != 0) {
        (void)fprintf(stderr, "warren: %s\n", errmsg);
        wr_free(program);
        return 78;
    }
    int code = run(program);
    wr_free(program);
    return code;
}
