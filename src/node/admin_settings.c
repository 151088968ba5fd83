/*
 * What: the commands of warrenctl that are about the node that is asked and nobody else: what can
 * be set while it runs (until it is started again: the configuration counts then), and what it runs
 * with. No leader is needed, and a node that has not joined yet answers too.
 *
 * Threads: shard 0. Spec: docs/warrenctl.md, docs/flow.md.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "warren/log.h"

#include "admin.h"

static void set_watermark(struct admin *admin)
{
    struct shard *shard = admin->shard;
    uint32_t part = 0;
    uint64_t bytes = CONFIG_NOT_GIVEN;
    if (admin->count == 2 && !bytes_eq_cstr(admin->args[0], "absolute")) {
        admin_refuse(admin, EXIT_USAGE, "too many arguments.");
    } else if (admin->count == 2 &&
               (str_parse_size(admin->args[1], &bytes) != 0 || bytes == CONFIG_NOT_GIVEN)) {
        admin_refuse(admin, EXIT_DATA, "Bad argument: Invalid units.");
    } else if (admin->count == 1 && str_parse_millionths(admin->args[0], 1000000, &part) != 0) {
        admin_refuse(admin, EXIT_DATA,
                     "Bad argument: The threshold should be a fraction between 0.0 and 1.0");
    } else if (!alarm_set_watermark(shard, part, bytes)) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "this node cannot tell how much memory it uses");
    } else {
        admin_ok(admin);
    }
}

static void set_disk_free_limit(struct admin *admin)
{
    struct shard *shard = admin->shard;
    const uint64_t total = alarm_memory(shard).total;
    uint64_t bytes = 0;
    uint32_t part = 0;
    if (admin->count == 2 && !bytes_eq_cstr(admin->args[0], "mem_relative")) {
        admin_refuse(admin, EXIT_USAGE, "too many arguments.");
        return;
    }
    if (admin->count == 2 ? str_parse_millionths(admin->args[1], UINT32_MAX, &part) != 0
                          : str_parse_size(admin->args[0], &bytes) != 0 || bytes > INT64_MAX) {
        admin_refuse(admin, EXIT_DATA, "Bad argument.");
        return;
    }
    if (admin->count == 2 && total == 0) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "this node cannot tell how much memory there is");
        return;
    }
    shard->settings.disk_free_limit = admin->count == 2 ? alarm_part_of(total, part) : bytes;
    log_set_disk_free_limit(shard->env, shard->settings.disk_free_limit);
    admin_ok(admin);
}

static void set_log_level(struct admin *admin)
{
    char name[16];
    enum log_level level = LOG_LEVEL_INFO;
    const size_t size = admin->args[0].size;
    if (size < sizeof name) {
        memcpy(name, admin->args[0].data, size);
        name[size] = 0;
    }
    if (size >= sizeof name || log_level_parse(name, &level) != 0) {
        admin_refuse(admin, EXIT_UNAVAILABLE,
                     "level %.*s is not supported. Try one of debug, info, warning, error, "
                     "critical, none",
                     size > 200 ? 200 : (int)size, (const char *)admin->args[0].data);
        return;
    }
    node_set_log_level(admin->shard->node, level);
    admin->shard->settings.log_level = level;
    admin_ok(admin);
}

static void rotate_logs(struct admin *admin)
{
    node_reopen_log(admin->shard->node);
    admin_ok(admin);
}

/* --- what it runs with ------------------------------------------------------------------------ */

json_t *settings_watermark_json(const struct shard *shard)
{
    const struct settings *s = &shard->settings;
    return s->memory_absolute != CONFIG_NOT_GIVEN
               ? json_pack("{s:I}", "absolute", (json_int_t)s->memory_absolute)
               : json_pack("{s:f}", "relative", (double)s->memory_relative_ppm / 1000000.0);
}

static json_t *ports_json(const struct config_listeners *listeners)
{
    json_t *ports = json_array();
    for (uint32_t i = 0; i < listeners->count; i++) {
        (void)json_array_append_new(ports, json_integer(listeners->addrs[i].port));
    }
    return ports;
}

static json_t *rabbit_json(const struct shard *shard)
{
    const struct config *config = shard->config;
    return json_pack(
        "{s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:o, s:o, s:o}",
        "channel_max", (json_int_t)config->channel_max, "consumer_max_per_channel",
        (json_int_t)config->consumers_max, "consumer_timeout",
        (json_int_t)config->consumer_timeout_ms, "default_user", config->default_user,
        "default_vhost", config->default_vhost, "disk_free_limit",
        (json_int_t)shard->settings.disk_free_limit, "frame_max", (json_int_t)config->frame_max,
        "handshake_timeout", (json_int_t)config->handshake_timeout_ms, "heartbeat",
        (json_int_t)config->heartbeat_s, "log_level", log_level_name(shard->settings.log_level),
        "max_message_size", (json_int_t)config->message_size_max, "memory_monitor_interval",
        (json_int_t)config->memory_interval_ms, "quorum_cluster_size",
        (json_int_t)config->quorum_initial_size, "ssl_listeners", ports_json(&config->ssl),
        "tcp_listeners", ports_json(&config->tcp), "vm_memory_high_watermark",
        settings_watermark_json(shard));
}

/* Without what is secret: cookie, default password. */
static void environment(struct admin *admin)
{
    const struct shard *shard = admin->shard;
    const struct config *config = shard->config;
    admin_result(admin,
                 json_pack("{s:o, s:{s:s, s:I, s:s, s:I, s:I, s:b, s:I}}", "rabbit",
                           rabbit_json(shard), "warren", "data_dir", config->data_dir,
                           "liveness_timeout", (json_int_t)config->liveness_timeout_ms, "log_file",
                           config->log_file, "segment_size", (json_int_t)config->segment_size,
                           "segments_max", (json_int_t)config->segments_max, "sync",
                           config->log_sync ? 1 : 0, "shards", (json_int_t)config->shards));
}

const struct admin_command admin_settings_commands[] = {
    {"set_vm_memory_high_watermark", set_watermark, 1, 2, ADMIN_THIS_NODE, false},
    {"set_disk_free_limit", set_disk_free_limit, 1, 2, ADMIN_THIS_NODE, false},
    {"set_log_level", set_log_level, 1, 1, ADMIN_THIS_NODE, false},
    {"rotate_logs", rotate_logs, 0, 0, ADMIN_THIS_NODE, false},
    {"environment", environment, 0, 0, ADMIN_THIS_NODE, true},
    {.name = NULL}};
