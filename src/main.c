/*
 * What: the composition root of a real node: arguments, configuration file, event log, identity of the data directory, then
 * envs (src/os) + node (src/node). Exit codes: 0 orderly stop, 1 could not start or had to stop, 64 wrong usage, 78 bad configuration.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
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

static char *read_file(const char *path, size_t *ret_size, char *errmsg)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)snprintf(errmsg, 512, "cannot open %.300s: %s", path, strerror(errno));
        return NULL;
    }
    char *text = wr_alloc(CONFIG_FILE_MAX);
    size_t size = fread(text, 1, CONFIG_FILE_MAX, file);
    bool failed = ferror(file) != 0 || size == CONFIG_FILE_MAX;
    (void)fclose(file);
    if (failed) {
        (void)snprintf(errmsg, 512, "cannot read %.300s: read error, or larger than 1 MiB", path);
        wr_free(text);
        return NULL;
    }
    *ret_size = size;
    return text;
}

static void on_ignored(void *ctx, uint32_t line, const char *key)
{
    (void)ctx;
    (void)fprintf(stderr, "warren: line %u: '%s' is accepted and has no effect in this version\n", line, key);
}

static int load_config(struct config *config, const char *path, const char *data_dir, char *errmsg)
{
    config_defaults(config);
    size_t size = 0;
    char *text = read_file(path, &size, errmsg);
    if (text == NULL) {
        return WR_E_NOTFOUND;
    }
    char why[512];
    int rc = config_parse(config, bytes_make(text, size), on_ignored, NULL, why);
    wr_free(text);
    if (rc != 0) {
        (void)snprintf(errmsg, 512, "%.180s: %.300s", path, why);
        return rc;
    }
    if (data_dir != NULL && (size_t)snprintf(config->data_dir, sizeof config->data_dir, "%s", data_dir) >= sizeof config->data_dir) {
        (void)snprintf(errmsg, 512, "the path given with --data is too long");
        return WR_E_TOOBIG;
    }
    const char *cookie = getenv("RABBITMQ_ERLANG_COOKIE");
    if (config->cookie[0] == 0 && cookie != NULL) {
        (void)snprintf(config->cookie, sizeof config->cookie, "%s", cookie);
    }
    if (config->shards == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        config->shards = cores < 1 ? 1 : cores > 64 ? 64 : (uint32_t)cores;
    }
    return config_finish(config, errmsg);
}

/* mkdir -p */
static int make_dir(const char *dir)
{
    char path[1200];
    (void)snprintf(path, sizeof path, "%s", dir);
    for (char *at = path + 1;; at++) {
        if (*at == '/' || *at == 0) {
            char kept = *at;
            *at = 0;
            if (mkdir(path, 0750) != 0 && errno != EEXIST) {
                return -errno;
            }
            *at = kept;
            if (kept == 0) {
                return 0;
            }
        }
    }
}

/* Keeps a second process out of the same directory for as long as this one lives. */
static int lock_data_dir(const char *dir, char *errmsg)
{
    char path[1200];
    int rc = make_dir(dir);
    if (rc != 0) {
        (void)snprintf(errmsg, 512, "cannot make data directory %.300s: %s", dir, strerror(-rc));
        return -1;
    }
    (void)snprintf(path, sizeof path, "%s/lock", dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0) {
        (void)snprintf(errmsg, 512, "cannot open %.300s: %s", path, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)snprintf(errmsg, 512, "data directory %.300s is in use by another process", dir);
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int write_identity(const char *dir, const char *path, struct uid id, char *errmsg)
{
    char temporary[1300];
    char text[64];
    (void)snprintf(temporary, sizeof temporary, "%s.new", path);
    int n = snprintf(text, sizeof text, "%016llx%016llx\n", (unsigned long long)id.hi, (unsigned long long)id.lo);
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n && fsync(fd) == 0;
    if (fd >= 0) {
        ok = close(fd) == 0 && ok;
    }
    ok = ok && rename(temporary, path) == 0;
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ok = dir_fd >= 0 && fsync(dir_fd) == 0 && ok;
    if (dir_fd >= 0) {
        (void)close(dir_fd);
    }
    if (!ok) {
        (void)snprintf(errmsg, 512, "cannot write %.300s: %s", path, strerror(errno));
        return WR_E_IO;
    }
    return 0;
}

/* The data directory's identity: made once, at random. A directory with a log but without it is damaged: a new identity would make
 * this node a stranger to the groups whose votes its log holds. */
static int load_identity(const char *dir, struct uid *ret_id, char *errmsg)
{
    char path[1200];
    char text[40] = {0};
    struct stat st;
    (void)snprintf(path, sizeof path, "%s/node.id", dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, text, sizeof text - 1);
        (void)close(fd);
        if (n < 32 || uid_parse(bytes_make(text, 32), ret_id) != 0) {
            (void)snprintf(errmsg, 512, "%.300s is damaged: expected 32 hexadecimal digits. Restore it from a backup, or remove the whole data "
                                        "directory to join the cluster as a new node", path);
            return WR_E_CORRUPT;
        }
        return 0;
    }
    char log_dir[1200];
    (void)snprintf(log_dir, sizeof log_dir, "%s/log", dir);
    if (stat(log_dir, &st) == 0) {
        (void)snprintf(errmsg, 512, "%.300s is missing but the directory holds a log: the data directory is damaged. Restore the file, or remove "
                                    "the whole data directory to join the cluster as a new node", path);
        return WR_E_CORRUPT;
    }
    if (getrandom(ret_id, sizeof *ret_id, 0) != (ssize_t)sizeof *ret_id) {
        (void)snprintf(errmsg, 512, "no random numbers to be had from the system");
        return WR_E_IO;
    }
    return write_identity(dir, path, *ret_id, errmsg);
}

static void on_signal(void *ctx, int signal_number)
{
    struct program *program = ctx;
    if (signal_number == SIGHUP) {
        os_log_reopen(program->log);
    } else if (program->node != NULL) {
        node_stop(program->node, signal_number == SIGINT ? "interrupted (SIGINT)" : "asked to stop (SIGTERM)");
    }
}

static int start(struct program *program, char *errmsg)
{
    struct config *config = &program->config;
    char kv_dir[1100];
    struct uid node_id;
    int rc = load_identity(config->data_dir, &node_id, errmsg);
    if (rc != 0) {
        return rc;
    }
    (void)snprintf(kv_dir, sizeof kv_dir, "%s/checkpoints", config->data_dir);
    struct os_options options = {.shards = config->shards,
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
    struct node_options node_options = {.config = config, .logger = &program->logger, .envs = envs, .node_id = node_id};
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

static int run(struct program *program)
{
    char errmsg[512] = "";
    struct config *config = &program->config;
    program->lock_fd = lock_data_dir(config->data_dir, errmsg);
    if (program->lock_fd < 0) {
        (void)fprintf(stderr, "warren: %s\n", errmsg);
        return 1;
    }
    program->log = os_log_open(config->log_file[0] == 0 ? NULL : config->log_file, errmsg);
    if (program->log == NULL) {
        (void)fprintf(stderr, "warren: %s\n", errmsg);
        return 1;
    }
    program->logger = (struct logger){.sink = os_log_sink, .ctx = program->log, .level = config->log_level};
    wr_log(&program->logger, LOG_LEVEL_INFO, "node", "starting node=%s version=%s data=%s shards=%u pid=%ld", config->nodename,
           WARREN_VERSION, config->data_dir, config->shards, (long)getpid());
    int code = 1;
    int rc = start(program, errmsg);
    if (rc == 0) {
        code = os_node_run(program->os);
    } else {
        wr_log(&program->logger, LOG_LEVEL_CRITICAL, "node", "cannot start: %s", errmsg);
        if (config->log_file[0] != 0) {
            (void)fprintf(stderr, "warren: cannot start: %s\n", errmsg);
        }
    }
    node_free(program->node);
    os_node_free(program->os);
    wr_log(&program->logger, LOG_LEVEL_INFO, "node", "stopped node=%s exit_code=%d", config->nodename, code);
    os_log_close(program->log);
    (void)close(program->lock_fd);
    return code;
}

int main(int argc, char **argv)
{
    const char *config_path = NULL;
    const char *data_dir = NULL;
    char errmsg[512] = "";
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
