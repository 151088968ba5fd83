/*
 * What: parser of rabbitmq.conf's format: "key = value" lines, '#' comments, blank lines, later
 * duplicates win, quotes optional. One table of keys, one setter per kind of value. Failure modes:
 * every error names the line and says what was expected.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "warren/err.h"
#include "warren/str.h"

#include "config.h"
#include "config_internal.h"

enum value_kind {
    VALUE_TEXT,
    VALUE_U32,
    VALUE_U64,
    VALUE_SIZE,
    VALUE_FLAG,
    VALUE_LEVEL,
    VALUE_SPECIAL
};

struct config_key {
    const char *name; /* a trailing '*' stands for any rest */
    enum value_kind kind;
    size_t offset, size; /* of the field; size of texts */
    uint64_t min, max;
    int (*special)(struct config *config, struct bytes rest, struct bytes value, char *why);
};

struct parse {
    struct config *config;
    uint32_t line;
    char *errmsg;
};

int config__invalid(char *why, const char *text)
{
    (void)snprintf(why, 200, "%s", text);
    return WR_E_INVALID;
}

bool config__u64(struct bytes text, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (text.size == 0 || text.size > 19) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        value = value * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret_value = value;
    return true;
}

bool config__flag(struct bytes text, bool *ret_value)
{
    if (bytes_eq_cstr(text, "true") || bytes_eq_cstr(text, "on") || bytes_eq_cstr(text, "yes")) {
        *ret_value = true;
        return true;
    }
    if (bytes_eq_cstr(text, "false") || bytes_eq_cstr(text, "off") || bytes_eq_cstr(text, "no")) {
        *ret_value = false;
        return true;
    }
    return false;
}

bool config__text(char *out, size_t capacity, struct bytes text)
{
    if (text.size >= capacity) {
        return false;
    }
    if (text.size > 0) {
        if (memchr(text.data, 0, text.size) != NULL) {
            return false;
        }
        memcpy(out, text.data, text.size);
    }
    out[text.size] = 0;
    return true;
}

/* "5672", "127.0.0.1:5672", "[::1]:5672". */
static bool parse_listener(struct bytes text, struct net_addr *ret_addr)
{
    struct net_addr addr = {.host = ""};
    uint64_t port = 0;
    size_t colon = text.size;
    for (size_t i = text.size; i > 0; i--) {
        if (text.data[i - 1] == ':') {
            colon = i - 1;
            break;
        }
    }
    struct bytes digits = text;
    if (colon < text.size) {
        struct bytes host = {text.data, colon};
        digits = (struct bytes){text.data + colon + 1, text.size - colon - 1};
        if (host.size >= 2 && host.data[0] == '[' && host.data[host.size - 1] == ']') {
            host = (struct bytes){host.data + 1, host.size - 2};
        }
        if (!config__text(addr.host, sizeof addr.host, host)) {
            return false;
        }
    }
    if (!config__u64(digits, &port) || port == 0 || port > 65535) {
        return false;
    }
    addr.port = (uint16_t)port;
    *ret_addr = addr;
    return true;
}

/* --- special keys ----------------------------------------------------------------------------- */

static int put_listener(struct config_listeners *listeners, struct bytes rest, struct bytes value,
                        char *why)
{
    struct net_addr addr;
    char name[CONFIG_NAME_MAX];
    if (!config__text(name, sizeof name, rest)) {
        return config__invalid(why, "the listener's name is too long");
    }
    if (!parse_listener(value, &addr)) {
        return config__invalid(why, "expected a port or address:port");
    }
    uint32_t i = 0;
    while (i < listeners->count && strcmp(listeners->keys[i], name) != 0) {
        i++;
    }
    if (i == CONFIG_LISTENERS_MAX) {
        return config__invalid(why, "too many listeners (at most 16)");
    }
    listeners->count += i == listeners->count;
    listeners->addrs[i] = addr;
    memcpy(listeners->keys[i], name, sizeof name);
    return 0;
}

static int set_listener(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    config->listeners_given = true;
    return put_listener(&config->tcp, rest, value, why);
}

static int set_tls_listener(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    return put_listener(&config->ssl, rest, value, why);
}

static int set_no_listener(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)rest;
    if (!bytes_eq_cstr(value, "none")) {
        return config__invalid(why, "expected none");
    }
    config->listeners_given = true;
    config->tcp.count = 0;
    return 0;
}

static int set_no_tls_listener(struct config *config, struct bytes rest, struct bytes value,
                               char *why)
{
    (void)rest;
    if (!bytes_eq_cstr(value, "none")) {
        return config__invalid(why, "expected none");
    }
    config->ssl.count = 0;
    return 0;
}

static int set_port(struct bytes value, uint16_t *field, char *why)
{
    uint64_t port = 0;
    if (!config__u64(value, &port) || port == 0 || port > 65535) {
        return config__invalid(why, "expected a port, 1 to 65535");
    }
    *field = (uint16_t)port;
    return 0;
}

static int set_cluster_port(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)rest;
    return set_port(value, &config->cluster_listener.port, why);
}

static int set_cluster_port_max(struct config *config, struct bytes rest, struct bytes value,
                                char *why)
{
    (void)rest;
    return set_port(value, &config->cluster_port_max, why);
}

/* RabbitMQ takes "false" for: no file. */
static int set_log_file(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)rest;
    struct bytes path = bytes_eq_cstr(value, "false") ? BYTES_NONE : value;
    return config__text(config->log_file, sizeof config->log_file, path)
               ? 0
               : config__invalid(why, "the value is too long");
}

/* 0 = no limit; otherwise at least what the handshake needs. */
static int set_frame_max(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    uint64_t size = 0;
    (void)rest;
    if (str_parse_size(value, &size) != 0 || (size != 0 && size < 4096) || size > 16777216) {
        return config__invalid(why, "expected 0 or a size of 4096 to 16777216");
    }
    config->frame_max = (uint32_t)size;
    return 0;
}

static int set_cluster_host(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)rest;
    return config__text(config->cluster_listener.host, sizeof config->cluster_listener.host, value)
               ? 0
               : config__invalid(why, "address too long");
}

/* "warren2@host-b", "warren2@host-b:25672": the part before a port is the name. */
static bool parse_peer(struct bytes value, struct config_peer *peer)
{
    const uint8_t *at = memchr(value.data, '@', value.size);
    if (at == NULL || at == value.data) {
        return false;
    }
    struct bytes host = {at + 1, (size_t)(value.data + value.size - at - 1)};
    struct bytes name = value;
    const uint8_t *colon = memchr(host.data, ':', host.size);
    uint64_t port = 0;
    if (colon != NULL) {
        struct bytes digits = {colon + 1, (size_t)(host.data + host.size - colon - 1)};
        host.size = (size_t)(colon - host.data);
        name.size = (size_t)(colon - value.data);
        if (!config__u64(digits, &port) || port == 0 || port > 65535) {
            return false;
        }
    }
    peer->addr.port = (uint16_t)port; /* 0: the same port as ours, see config_finish */
    return host.size > 0 && config__text(peer->name, sizeof peer->name, name) &&
           config__text(peer->addr.host, sizeof peer->addr.host, host);
}

static int set_peer(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    struct config_peer peer = {.key = ""};
    if (!config__text(peer.key, sizeof peer.key, rest)) {
        return config__invalid(why, "the line's name is too long");
    }
    if (!parse_peer(value, &peer)) {
        return config__invalid(why,
                               "expected name@host or name@host:port, with a port of 1 to 65535");
    }
    uint32_t i = 0;
    while (i < config->peer_count && strcmp(config->peers[i].key, peer.key) != 0) {
        i++;
    }
    if (i == CONFIG_PEERS_MAX) {
        return config__invalid(why, "too many nodes (at most 64)");
    }
    config->peer_count += i == config->peer_count;
    config->peers[i] = peer;
    return 0;
}

static int set_backend(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    (void)config;
    (void)rest;
    if (bytes_eq_cstr(value, "classic_config") ||
        bytes_eq_cstr(value, "rabbit_peer_discovery_classic_config")) {
        return 0;
    }
    return config__invalid(why, "only classic_config is supported in this version");
}

static int set_loopback(struct config *config, struct bytes rest, struct bytes value, char *why)
{
    if (rest.size == 0) { /* loopback_users = none */
        if (!bytes_eq_cstr(value, "none")) {
            return config__invalid(why, "expected none");
        }
        config->guest_loopback_only = false;
        return 0;
    }
    if (!bytes_eq_cstr(rest, "guest")) {
        return config__invalid(why, "only loopback_users.guest is supported in this version");
    }
    return config__flag(value, &config->guest_loopback_only)
               ? 0
               : config__invalid(why, "expected true or false");
}

static int set_partition_handling(struct config *config, struct bytes rest, struct bytes value,
                                  char *why)
{
    (void)config;
    (void)rest;
    return bytes_eq_cstr(value, "ignore")
               ? 0
               : config__invalid(why, "only ignore is supported in this version");
}

static int set_consumers_max(struct config *config, struct bytes rest, struct bytes value,
                             char *why)
{
    uint64_t number = 0;
    (void)rest;
    if (!bytes_eq_cstr(value, "infinity") &&
        (!config__u64(value, &number) || number == 0 || number > UINT32_MAX)) {
        return config__invalid(why, "expected a whole number above 0, or infinity");
    }
    config->consumers_max = (uint32_t)number;
    return 0;
}

static int set_memory_relative(struct config *config, struct bytes rest, struct bytes value,
                               char *why)
{
    (void)rest;
    return str_parse_millionths(value, 1000000, &config->memory_relative_ppm) == 0
               ? 0
               : config__invalid(why, "expected a number from 0 to 1, such as 0.6");
}

#define FIELD(field) offsetof(struct config, field), sizeof(((struct config *)0)->field)

static const struct config_key keys[] = {
    {"nodename", VALUE_TEXT, FIELD(nodename), 0, 0, NULL},
    {"listeners.tcp", VALUE_SPECIAL, 0, 0, 0, 0, set_no_listener},
    {"listeners.tcp.*", VALUE_SPECIAL, 0, 0, 0, 0, set_listener},
    {"listeners.ssl", VALUE_SPECIAL, 0, 0, 0, 0, set_no_tls_listener},
    {"listeners.ssl.*", VALUE_SPECIAL, 0, 0, 0, 0, set_tls_listener},
    {"ssl_options.cacertfile", VALUE_TEXT, FIELD(tls.cacertfile), 0, 0, NULL},
    {"ssl_options.certfile", VALUE_TEXT, FIELD(tls.certfile), 0, 0, NULL},
    {"ssl_options.keyfile", VALUE_TEXT, FIELD(tls.keyfile), 0, 0, NULL},
    {"ssl_options.password", VALUE_TEXT, FIELD(tls.password), 0, 0, NULL},
    {"ssl_options.verify", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_verify},
    {"ssl_options.fail_if_no_peer_cert", VALUE_FLAG, FIELD(tls.fail_if_no_peer_cert), 0, 0, NULL},
    {"ssl_options.depth", VALUE_U32, FIELD(tls.depth), 0, 255, NULL},
    {"ssl_options.honor_cipher_order", VALUE_FLAG, FIELD(tls.honor_cipher_order), 0, 0, NULL},
    {"ssl_options.honor_ecc_order", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_ecc_order},
    {"ssl_options.reuse_sessions", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_always_false},
    {"ssl_options.versions.*", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_version},
    {"ssl_options.ciphers.*", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_cipher},
    {"ssl_options.client_renegotiation", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_always_false},
    {"ssl_options.secure_renegotiate", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_always_true},
    {"ssl_cert_login_from", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_login_from},
    {"ssl_cert_login_san_type", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_san_type},
    {"ssl_cert_login_san_index", VALUE_U32, FIELD(tls.san_index), 0, 1000, NULL},
    {"auth_mechanisms.*", VALUE_SPECIAL, 0, 0, 0, 0, config__mechanism},
    {"distribution.listener.port_range.min", VALUE_SPECIAL, 0, 0, 0, 0, set_cluster_port},
    {"distribution.listener.port_range.max", VALUE_SPECIAL, 0, 0, 0, 0, set_cluster_port_max},
    {"distribution.listener.interface", VALUE_SPECIAL, 0, 0, 0, 0, set_cluster_host},
    {"erlang.cookie", VALUE_TEXT, FIELD(cookie), 0, 0, NULL},
    {"cluster.cookie", VALUE_TEXT, FIELD(cookie), 0, 0, NULL},
    {"data_dir", VALUE_TEXT, FIELD(data_dir), 0, 0, NULL},
    {"log.file", VALUE_SPECIAL, 0, 0, 0, 0, set_log_file},
    {"log.file.level", VALUE_LEVEL, FIELD(log_level), 0, 0, NULL},
    {"log.default.level", VALUE_LEVEL, FIELD(log_level), 0, 0, NULL},
    {"log.console", VALUE_FLAG, FIELD(log_console), 0, 0, NULL},
    {"log.console.level", VALUE_LEVEL, FIELD(log_level), 0, 0, NULL},
    {"cluster_name", VALUE_TEXT, FIELD(cluster_name), 0, 0, NULL},
    {"cluster_formation.peer_discovery_backend", VALUE_SPECIAL, 0, 0, 0, 0, set_backend},
    {"cluster_formation.classic_config.nodes.*", VALUE_SPECIAL, 0, 0, 0, 0, set_peer},
    {"cluster_partition_handling", VALUE_SPECIAL, 0, 0, 0, 0, set_partition_handling},
    {"shards", VALUE_U32, FIELD(shards), 1, 64, NULL},
    {"heartbeat", VALUE_U32, FIELD(heartbeat_s), 0, 65535, NULL},
    {"frame_max", VALUE_SPECIAL, 0, 0, 0, 0, set_frame_max},
    {"initial_frame_max", VALUE_SIZE, FIELD(initial_frame_max), 4096, 1048576, NULL},
    {"channel_max", VALUE_U32, FIELD(channel_max), 0, 65535, NULL},
    {"handshake_timeout", VALUE_U32, FIELD(handshake_timeout_ms), 100, 3600000, NULL},
    {"consumer_timeout", VALUE_U64, FIELD(consumer_timeout_ms), 0, 315360000000, NULL},
    {"consumer_max_per_channel", VALUE_SPECIAL, 0, 0, 0, 0, set_consumers_max},
    {"max_message_size", VALUE_SIZE, FIELD(message_size_max), 1, 536870912, NULL},
    {"auth_backends.*", VALUE_SPECIAL, 0, 0, 0, 0, config__auth_backend},
    {"password_hashing_module", VALUE_SPECIAL, 0, 0, 0, 0, config__hashing},
    {"proxy_protocol", VALUE_SPECIAL, 0, 0, 0, 0, config__tls_always_false},
    {"loopback_users", VALUE_SPECIAL, 0, 0, 0, 0, set_loopback},
    {"loopback_users.*", VALUE_SPECIAL, 0, 0, 0, 0, set_loopback},
    {"default_user", VALUE_TEXT, FIELD(default_user), 0, 0, NULL},
    {"default_pass", VALUE_TEXT, FIELD(default_pass), 0, 0, NULL},
    {"default_vhost", VALUE_TEXT, FIELD(default_vhost), 0, 0, NULL},
    {"product.name", VALUE_TEXT, FIELD(product), 0, 0, NULL},
    {"quorum_queue.initial_cluster_size", VALUE_U32, FIELD(quorum_initial_size), 1, 64, NULL},
    {"log.sync", VALUE_FLAG, FIELD(log_sync), 0, 0, NULL},
    {"log.segment_size", VALUE_SIZE, FIELD(segment_size), 65536, 1073741824, NULL},
    {"disk_free_limit.absolute", VALUE_SIZE, FIELD(disk_free_limit), 0, INT64_MAX, NULL},
    {"vm_memory_high_watermark.relative", VALUE_SPECIAL, 0, 0, 0, 0, set_memory_relative},
    {"vm_memory_high_watermark.absolute", VALUE_SIZE, FIELD(memory_absolute), 0, INT64_MAX, NULL},
    {"total_memory_available_override_value", VALUE_SIZE, FIELD(memory_total), 1, INT64_MAX, NULL},
    {"memory_monitor_interval", VALUE_U32, FIELD(memory_interval_ms), 10, 3600000, NULL},
    {"log.segments_max", VALUE_U32, FIELD(segments_max), 2, 4096, NULL},
    {"cluster.liveness_timeout", VALUE_U32, FIELD(liveness_timeout_ms), 100, 600000, NULL},
    {"raft.election_timeout.min", VALUE_U32, FIELD(election_min_ms), 5, 60000, NULL},
    {"raft.election_timeout.max", VALUE_U32, FIELD(election_max_ms), 5, 60000, NULL},
};

/* Keys of RabbitMQ that name things which do not exist here or come in a later version: accepted,
 * reported, without effect. */
static const char *const ignored_keys[] = {
    "vm_memory_high_watermark_paging_ratio",
    "vm_memory_calculation_strategy",
    "disk_free_limit.*",
    "num_acceptors.*",
    "tcp_listen_options.*",
    "management.*",
    "prometheus.*",
    "collect_statistics*",
    "queue_index_embed_msgs_below",
    "mirroring_sync_batch_size",
    "hipe_compile",
    "queue_leader_locator",
    "queue_master_locator",
    "classic_queue.*",
    "raft.*",
    "net_ticktime",
    "cluster_keepalive_interval",
    "mnesia_table_loading_retry_*",
    "cluster_formation.*",
    "channel_operation_timeout",
    "background_gc_*",
    "deprecated_features.*",
    "log.*",
    "default_user_tags.*",
    "default_permissions.*",
    "quorum_queue.*",
    "reverse_dns_lookups",
    "socket_writer.*",
    "delegate_count",
    "ssl_handshake_timeout",
    "ssl_options.hibernate_after",
    "ssl_options.log_alert",
};

bool config__key_matches(const char *pattern, struct bytes key, struct bytes *ret_rest)
{
    size_t n = strlen(pattern);
    *ret_rest = (struct bytes){key.data + key.size, 0};
    if (n > 0 && pattern[n - 1] == '*') {
        n--;
        if (key.size <= n || memcmp(key.data, pattern, n) != 0) {
            return false;
        }
        *ret_rest = (struct bytes){key.data + n, key.size - n};
        return true;
    }
    return key.size == n && memcmp(key.data, pattern, n) == 0;
}

static int set_number(const struct config_key *key, void *field, uint64_t value, char *why)
{
    if (value < key->min || value > key->max) {
        (void)snprintf(why, 200, "expected a value of %llu to %llu", (unsigned long long)key->min,
                       (unsigned long long)key->max);
        return WR_E_INVALID;
    }
    if (key->size == sizeof(uint32_t)) {
        uint32_t small = (uint32_t)value;
        memcpy(field, &small, sizeof small);
    } else {
        WR_ASSERT_OP(key->size, ==, sizeof value);
        memcpy(field, &value, sizeof value);
    }
    return 0;
}

static int set_value(struct config *config, const struct config_key *key, struct bytes rest,
                     struct bytes value, char *why)
{
    void *field = (char *)config + key->offset;
    uint64_t number = 0;
    char level[32];
    switch (key->kind) {
    case VALUE_TEXT:
        return config__text(field, key->size, value)
                   ? 0
                   : config__invalid(why, "the value is too long");
    case VALUE_U32:
        return config__u64(value, &number) ? set_number(key, field, number, why)
                                           : config__invalid(why, "expected a whole number");
    case VALUE_U64:
        return config__u64(value, &number) ? set_number(key, field, number, why)
                                           : config__invalid(why, "expected a whole number");
    case VALUE_SIZE:
        return str_parse_size(value, &number) == 0
                   ? set_number(key, field, number, why)
                   : config__invalid(why, "expected a size such as 1048576, 64MiB or 500MB");
    case VALUE_FLAG:
        return config__flag(value, field) ? 0 : config__invalid(why, "expected true or false");
    case VALUE_LEVEL:
        if (!config__text(level, sizeof level, value) || log_level_parse(level, field) != 0) {
            return config__invalid(
                why, "expected debug, info, notice, warning, error, critical or none");
        }
        return 0;
    case VALUE_SPECIAL:
        return key->special(config, rest, value, why);
    }
    WR_UNREACHABLE();
}

static int parse_line(struct parse *p, struct bytes line,
                      void (*ignored)(void *ctx, uint32_t line, const char *key), void *ctx)
{
    const uint8_t *equals = memchr(line.data, '=', line.size);
    char why[200];
    char name[256];
    if (equals == NULL) {
        (void)snprintf(p->errmsg, 512, "line %u: expected key = value", p->line);
        return WR_E_INVALID;
    }
    struct bytes key = str_trim((struct bytes){line.data, (size_t)(equals - line.data)});
    struct bytes value =
        str_trim((struct bytes){equals + 1, (size_t)(line.data + line.size - equals - 1)});
    if (value.size >= 2 && (value.data[0] == '\'' || value.data[0] == '"') &&
        value.data[value.size - 1] == value.data[0]) {
        value = (struct bytes){value.data + 1, value.size - 2};
    }
    struct bytes rest;
    if (!config__text(name, sizeof name, key)) {
        (void)snprintf(p->errmsg, 512, "line %u: the key is too long", p->line);
        return WR_E_INVALID;
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(keys); i++) {
        if (config__key_matches(keys[i].name, key, &rest)) {
            int rc = set_value(p->config, &keys[i], rest, value, why);
            if (rc != 0) {
                (void)snprintf(p->errmsg, 512, "line %u: bad value for '%s': %s", p->line, name,
                               why);
            }
            return rc;
        }
    }
    for (size_t i = 0; i < WR_ARRAY_SIZE(ignored_keys); i++) {
        if (config__key_matches(ignored_keys[i], key, &rest)) {
            if (ignored != NULL) {
                ignored(ctx, p->line, name);
            }
            return 0;
        }
    }
    const char *refused = config__tls_refused(key);
    if (refused != NULL) {
        (void)snprintf(p->errmsg, 512, "line %u: '%s' is not supported: %s", p->line, name,
                       refused);
        return WR_E_INVALID;
    }
    (void)snprintf(p->errmsg, 512, "line %u: unknown key '%s'", p->line, name);
    return WR_E_INVALID;
}

void config_defaults(struct config *config)
{
    *config = (struct config){
        .nodename = "warren@localhost",
        .cluster_listener = {.host = "", .port = 25672},
        .log_level = LOG_LEVEL_INFO,
        .heartbeat_s = 60,
        .frame_max = 131072,
        .channel_max = 2047,
        .initial_frame_max = 8192,
        .handshake_timeout_ms = 10000,
        .message_size_max = 16777216,
        .consumer_timeout_ms = 1800000,
        .guest_loopback_only = true,
        .tls = {.depth = 10},
        .default_user = "guest",
        .default_pass = "guest",
        .default_vhost = "/",
        .product = "Warren",
        .quorum_initial_size = 3,
        .log_sync = true,
        .segment_size = 64u << 20,
        .segments_max = 8,
        .disk_free_limit = 50000000,
        .memory_relative_ppm = 600000,
        .memory_absolute = CONFIG_NOT_GIVEN,
        .memory_interval_ms = 2500,
        .liveness_timeout_ms = 1000,
        .election_min_ms = 50,
        .election_max_ms = 150,
    };
}

int config_parse(struct config *config, struct bytes text,
                 void (*ignored)(void *ctx, uint32_t line, const char *key), void *ctx,
                 char *errmsg)
{
    struct parse p = {.config = config, .line = 0, .errmsg = errmsg};
    /* Some editors put a byte order mark before the first key, where nobody sees it. */
    size_t at = text.size >= 3 && memcmp(text.data, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    while (at < text.size) {
        const uint8_t *end = memchr(text.data + at, '\n', text.size - at);
        size_t size = end == NULL ? text.size - at : (size_t)(end - text.data - at);
        struct bytes line = str_trim((struct bytes){text.data + at, size});
        at += size + 1;
        p.line++;
        if (line.size == 0 || line.data[0] == '#') {
            continue;
        }
        int rc = parse_line(&p, line, ignored, ctx);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static int finish_peers(struct config *config, char *errmsg)
{
    bool found = config->peer_count == 0;
    for (uint32_t i = 0; i < config->peer_count; i++) {
        struct config_peer *peer = &config->peers[i];
        if (peer->addr.port == 0) {
            peer->addr.port = config->cluster_listener.port;
        }
        found = found || strcmp(peer->name, config->nodename) == 0;
        for (uint32_t k = 0; k < i;
             k++) { /* they are counted: a majority of names must be one of nodes */
            if (strcmp(config->peers[k].name, peer->name) == 0) {
                (void)snprintf(errmsg, 512,
                               "cluster_formation.classic_config.nodes names %.200s twice",
                               peer->name);
                return WR_E_INVALID;
            }
        }
    }
    if (!found) {
        (void)snprintf(errmsg, 512,
                       "cluster_formation.classic_config.nodes does not contain this node, %.200s",
                       config->nodename);
        return WR_E_INVALID;
    }
    if (config->peer_count > 1 && config->cookie[0] == 0) {
        (void)snprintf(
            errmsg, 512,
            "a cluster needs a cookie: set erlang.cookie to the same secret on every node");
        return WR_E_INVALID;
    }
    return 0;
}

int config_finish(struct config *config, char *errmsg)
{
    const char *at = strchr(config->nodename, '@');
    const char *wrong = NULL;
    if (!config->listeners_given) {
        config->tcp.addrs[0] = (struct net_addr){.host = "", .port = 5672};
        config->tcp.count = 1;
    }
    if (at == NULL || at == config->nodename || at[1] == 0 || strchr(at + 1, '@') != NULL) {
        (void)snprintf(errmsg, 512, "nodename '%.200s' is not of the form name@host",
                       config->nodename);
        return WR_E_INVALID;
    }
    if (config->data_dir[0] == 0) {
        wrong = "no data directory: give data_dir in the file or --data DIR";
    } else if (config->election_min_ms > config->election_max_ms) {
        wrong = "raft.election_timeout.min is greater than raft.election_timeout.max";
    } else if (config->cluster_port_max != 0 &&
               config->cluster_port_max < config->cluster_listener.port) {
        wrong = "distribution.listener.port_range.max is less than "
                "distribution.listener.port_range.min";
    } else if (config->default_user[0] == 0 || config->default_vhost[0] == 0) {
        wrong = "default_user and default_vhost cannot be empty";
    }
    if (wrong != NULL) {
        (void)snprintf(errmsg, 512, "%s", wrong);
        return WR_E_INVALID;
    }
    int rc = config__tls_finish(config, errmsg);
    return rc != 0 ? rc : finish_peers(config, errmsg);
}
