/*
 * What: composes a node: recovery of the log into the hosts, one shard per env, the log context.
 *
 * Happy path: hosts -> log_open feeds them every record -> host_recovered -> brokers, front ends ->
 * the cluster port is opened -> formation begins with the first turn. Failure modes: everything
 * that is wrong with the data directory is found here, before anything runs, and returned as text.
 */
#include <stdio.h>
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "node_internal.h"

#define PENDING_BYTES_MAX   (UINT64_C(128) << 20) /* of a node */
#define PENDING_BYTES_LEAST (UINT64_C(16) << 20)  /* of a shard */

struct node {
    const struct config *config;
    struct logger *logger;
    struct uid node_id;
    char host[256];
    uint32_t shard_count;
    struct shard *shards;
    struct log *log;
    struct env *log_env;
    char cluster_name[256];
    void (*reopen_log)(void *ctx);
    void *reopen_ctx;
};

struct uid node_id_of(const struct node *node)
{
    return node->node_id;
}

void node_reopen_log(struct node *node)
{
    if (node->reopen_log != NULL) {
        node->reopen_log(node->reopen_ctx);
    }
}

void node_set_log_level(struct node *node, enum log_level level)
{
    logger_set_level(node->logger, level);
}

const char *node_host(const struct node *node)
{
    return node->host;
}

struct uid node_cluster_id(const struct shard *shard)
{
    if (shard->view != NULL) {
        return catalog_cluster_id(shard->view);
    }
    return shard->number == 0 ? formation_cluster_id(shard) : (struct uid){0, 0};
}

/* --- the log context -------------------------------------------------------------------------- */

static void log_ctx_on_mail(void *ctx, struct mail *owned)
{
    struct node *node = ctx;
    log_on_mail(node->log, owned);
}

static void log_ctx_on_file(void *ctx, uint64_t token, int64_t result)
{
    struct node *node = ctx;
    log_on_file(node->log, token, result);
}

static void log_ctx_turn(void *ctx)
{
    struct node *node = ctx;
    log_turn(node->log);
}

static const struct env_sink log_sink = {
    .on_mail = log_ctx_on_mail,
    .on_file = log_ctx_on_file,
    .turn = log_ctx_turn,
};

/* --- recovery --------------------------------------------------------------------------------- */

static void on_record(void *ctx, const struct log_item *item)
{
    struct node *node = ctx;
    host_recover_record(node->shards[host_shard_of_group(item->group, node->shard_count)].host,
                        item);
}

static int recover(struct node *node, char *errmsg)
{
    char dir[1200];
    (void)snprintf(dir, sizeof dir, "%s/log", node->config->data_dir);
    struct log_options options = {.segment_size = node->config->segment_size,
                                  .segments_max = node->config->segments_max,
                                  .recycle_max = 2,
                                  .shard_count = node->shard_count,
                                  .sync = node->config->log_sync,
                                  .disk_free_limit = node->config->disk_free_limit,
                                  .node_id = node->node_id};
    struct log_recovery_sink sink = {.record = on_record, .ctx = node};
    int rc = log_open(node->log_env, dir, &options, &sink, &node->log, errmsg);
    if (rc == WR_E_CORRUPT) {
        size_t size = strlen(errmsg);
        (void)snprintf(errmsg + size, 512 - size,
                       ". Restore the data directory from a backup, or remove it whole and let "
                       "this node join the cluster as a new one, under another name");
    }
    for (uint32_t i = 0; rc == 0 && i < node->shard_count; i++) {
        rc = host_recovered(node->shards[i].host, errmsg);
    }
    return rc;
}

/* --- building --------------------------------------------------------------------------------- */

/* An eighth of the watermark for publishes that are pending, within bounds: they are in memory up
 * to three times (with the client, in an entry, and in the log's hands). */
static uint64_t client_bytes_max(const struct config *config, struct env *env)
{
    struct alarm_memory memory;
    if (!alarm_limit(env, config, &memory)) {
        return 0;
    }
    uint64_t bytes = memory.limit / 8;
    bytes = bytes > PENDING_BYTES_MAX ? PENDING_BYTES_MAX : bytes;
    bytes /= config->shards;
    return bytes < PENDING_BYTES_LEAST ? PENDING_BYTES_LEAST : bytes;
}

static void shard_build_host(struct node *node, uint32_t number, struct env *env)
{
    struct shard *shard = &node->shards[number];
    char dir[1200];
    shard->env = env;
    shard->started_ns = env->ops->mono_ns(env);
    shard->node = node;
    shard->config = node->config;
    shard->logger = node->logger;
    shard->number = number;
    shard->count = node->shard_count;
    prng_init(&shard->prng, env->ops->seed(env));
    links_init(shard);
    (void)snprintf(dir, sizeof dir, "%s/log", node->config->data_dir);
    shard->reader = log_reader_new(env, dir);
    struct host_options options = {.node_id = node->node_id,
                                   .shard = number,
                                   .shard_count = node->shard_count,
                                   .election_min_ms = node->config->election_min_ms,
                                   .election_max_ms = node->config->election_max_ms,
                                   .seed = prng_u64(&shard->prng),
                                   .transport = shard_transport(shard),
                                   .reader = shard->reader,
                                   .logger = node->logger,
                                   .compare_queue_every = node->config->compare_queue_every,
                                   .compare_catalog_every = node->config->compare_catalog_every,
                                   .client_bytes_max = client_bytes_max(node->config, env)};
    shard->host = host_new(env, &options);
    shard_connect_host(shard);
}

static uint32_t mechanisms_of(const struct config_list *list)
{
    uint32_t found = 0;
    for (uint32_t i = 0; i < list->count; i++) {
        const char *name = list->values[i]; /* one of these three, or the file was refused */
        found |= strcmp(name, "PLAIN") == 0      ? AMQP_MECHANISM_PLAIN
                 : strcmp(name, "AMQPLAIN") == 0 ? AMQP_MECHANISM_AMQPLAIN
                                                 : AMQP_MECHANISM_EXTERNAL;
    }
    return found;
}

static void shard_build_rest(struct node *node, struct shard *shard)
{
    const struct config *c = node->config;
    struct broker_options broker = {.node_id = node->node_id,
                                    .shard = shard->number,
                                    .shard_count = shard->count,
                                    .quorum_initial_size = c->quorum_initial_size,
                                    .guest_loopback_only = c->guest_loopback_only,
                                    .seed = prng_u64(&shard->prng),
                                    .operation_timeout_ms = 15000,
                                    .message_size_max = c->message_size_max,
                                    .consumer_timeout_ms = c->consumer_timeout_ms,
                                    .consumers_max = c->consumers_max,
                                    .logger = node->logger};
    shard->broker = broker_new(shard->env, shard->host, &broker);
    struct amqp_options amqp = {.handshake_timeout_ms = c->handshake_timeout_ms,
                                .heartbeat_s = c->heartbeat_s,
                                .frame_max = c->frame_max,
                                .initial_frame_max = c->initial_frame_max,
                                .channel_max = c->channel_max,
                                .message_size_max = c->message_size_max,
                                .guest_loopback_only = c->guest_loopback_only,
                                .mechanisms = mechanisms_of(&c->auth_mechanisms),
                                .product = c->product,
                                .version = WARREN_VERSION,
                                .platform = "C",
                                .cluster_name = node->cluster_name,
                                .node_name = c->nodename,
                                .logger = node->logger,
                                .seed = prng_u64(&shard->prng)};
    shard->amqp = amqp_server_new(shard->env, shard->broker, &amqp);
}

static int open_cluster_port(struct node *node, char *errmsg)
{
    struct env *env = node->shards[0].env;
    return env->ops->listen(env, ENV_LISTEN_CLUSTER, &node->config->cluster_listener, errmsg);
}

int node_new(const struct node_options *options, struct node **ret_node, char *errmsg)
{
    struct node *node = wr_calloc(1, sizeof *node);
    const struct config *config = options->config;
    node->config = config;
    node->logger = options->logger;
    node->reopen_log = options->reopen_log;
    node->reopen_ctx = options->reopen_ctx;
    node->node_id = options->node_id;
    node->shard_count = config->shards;
    (void)snprintf(node->host, sizeof node->host, "%s", strchr(config->nodename, '@') + 1);
    (void)snprintf(node->cluster_name, sizeof node->cluster_name, "%s",
                   config->cluster_name[0] != 0 ? config->cluster_name : config->nodename);
    node->log_env = options->envs[config->shards];
    node->shards = wr_calloc(config->shards, sizeof *node->shards);
    for (uint32_t i = 0; i < config->shards; i++) {
        shard_build_host(node, i, options->envs[i]);
    }
    /* Before recovery: a view that is recovered reaches the brokers, and formation. */
    for (uint32_t i = 0; i < config->shards; i++) {
        shard_build_rest(node, &node->shards[i]);
    }
    placement_init(&node->shards[0]);
    alarm_init(&node->shards[0]);
    formation_start(&node->shards[0]);
    int rc = recover(node, errmsg);
    if (rc == 0) {
        rc = open_cluster_port(node, errmsg);
    }
    if (rc != 0) {
        node_free(node);
        return rc;
    }
    formation_recovered(&node->shards[0]);
    links_update_peers(&node->shards[0]);
    *ret_node = node;
    return 0;
}

static void shard_free(struct shard *shard)
{
    amqp_server_free(shard->amqp);
    broker_free(shard->broker);
    host_free(shard->host);
    if (shard->number == 0) {
        control_free(shard);
        formation_free(shard);
        placement_free(shard);
    }
    links_deinit(shard);
    if (shard->reader != NULL) {
        log_reader_free(shard->reader);
    }
    catalog_view_unref(shard->view);
}

void node_free(struct node *node)
{
    if (node == NULL) {
        return;
    }
    for (uint32_t i = 0; i < node->shard_count; i++) {
        shard_free(&node->shards[i]);
    }
    if (node->log != NULL) {
        log_close(node->log);
    }
    wr_free(node->shards);
    wr_free(node);
}

const struct env_sink *node_sink(struct node *node, uint32_t context, void **ret_ctx)
{
    if (context == node->shard_count) {
        *ret_ctx = node;
        return &log_sink;
    }
    *ret_ctx = &node->shards[context];
    return &shard_sink;
}

void node_stop(struct node *node, const char *why)
{
    shard_start_shutdown(&node->shards[0], why);
}

struct shard *node_shard(struct node *node, uint32_t shard)
{
    return &node->shards[shard];
}

struct host *node_shard_host(struct node *node, uint32_t shard)
{
    return node->shards[shard].host;
}
