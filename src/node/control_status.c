/*
 * What: the answers of status and cluster_status. Threads: shard 0. Spec: docs/warrenctl.md.
 */
#include <stdio.h>
#include <string.h>

#include "admin_json.h"
#include "control_internal.h"
#include "listing.h"

static void add_alarms(json_t *list, const char *node, uint32_t alarms)
{
    if ((alarms & BROKER_ALARM_MEMORY) != 0) {
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s}", "node", node, "resource", "memory"));
    }
    if ((alarms & BROKER_ALARM_DISK) != 0) {
        (void)json_array_append_new(list,
                                    json_pack("{s:s, s:s}", "node", node, "resource", "disk"));
    }
}

static json_t *alarms_json(const struct shard *shard)
{
    json_t *alarms = json_array();
    add_alarms(alarms, shard->config->nodename, alarm_own(shard));
    LIST_FOREACH(at, &shard->links.peers) {
        const struct peer *peer = WR_CONTAINER_OF_CONST(at, struct peer, link);
        add_alarms(alarms, peer->name, peer->ready ? peer->alarms : 0);
    }
    return alarms;
}

/* RabbitMQ's names. */
static void put_process(json_t *status, const struct shard *shard, const struct env_process *p)
{
    uint64_t disk_free;
    (void)json_object_set_new(status, "pid", json_integer((json_int_t)p->pid));
    (void)json_object_set_new(
        status, "file_descriptors",
        json_pack("{s:I, s:I, s:I}", "total_limit", (json_int_t)p->descriptors_max, "total_used",
                  (json_int_t)p->descriptors, "sockets_limit", (json_int_t)p->descriptors_clients));
    if (shard->env->ops->disk_free(shard->env, shard->config->data_dir, &disk_free) == 0) {
        (void)json_object_set_new(status, "disk_free", json_integer((json_int_t)disk_free));
    }
}

static void put_memory(json_t *status, const struct shard *shard)
{
    struct alarm_memory memory = alarm_memory(shard);
    struct env_process p = {.pid = 0};
    const bool known = shard->env->ops->process(shard->env, &p) == 0;
    /* now, and not as the alarm saw it last: the parts are to add up */
    const uint64_t used = known ? p.memory_anonymous + p.memory_files : memory.used;
    (void)json_object_set_new(status, "memory",
                              json_pack("{s:{s:I}, s:I, s:I, s:s}", "total", "rss",
                                        (json_int_t)used, "anonymous",
                                        (json_int_t)p.memory_anonymous, "files",
                                        (json_int_t)p.memory_files, "strategy", "rss"));
    (void)json_object_set_new(status, "vm_memory_calculation_strategy", json_string("rss"));
    if (known) {
        put_process(status, shard, &p);
    }
    (void)json_object_set_new(status, "vm_memory_high_watermark_setting",
                              settings_watermark_json(shard));
    (void)json_object_set_new(status, "vm_memory_high_watermark_limit",
                              json_integer((json_int_t)memory.limit));
    (void)json_object_set_new(status, "disk_free_limit",
                              json_integer((json_int_t)shard->settings.disk_free_limit));
}

enum listener_kind { LISTENER_AMQP, LISTENER_AMQPS, LISTENER_CLUSTER };

static void add_listener(json_t *list, const char *node, const char *host, uint16_t port,
                         enum listener_kind kind)
{
    static const char *const words[][2] = {
        [LISTENER_AMQP] = {"amqp", "AMQP 0-9-1"},
        [LISTENER_AMQPS] = {"amqp/ssl", "AMQP 0-9-1 over TLS"},
        [LISTENER_CLUSTER] = {"clustering", "inter-node and CLI tool communication"}};
    (void)json_array_append_new(list,
                                json_pack("{s:s, s:s, s:i, s:s, s:s}", "node", node, "interface",
                                          host[0] == 0 ? "[::]" : host, "port", (int)port,
                                          "protocol", words[kind][0], "purpose", words[kind][1]));
}

static void add_listeners(json_t *list, const char *node, const struct config_listeners *listeners,
                          enum listener_kind kind)
{
    for (uint32_t i = 0; i < listeners->count; i++) {
        add_listener(list, node, listeners->addrs[i].host, listeners->addrs[i].port, kind);
    }
}

/* A list of one, or of none. */
static json_t *config_files(const struct config *config)
{
    return config->file[0] != 0 ? json_pack("[s]", config->file) : json_array();
}

static json_t *own_listeners(const struct config *config)
{
    json_t *list = json_array();
    add_listeners(list, config->nodename, &config->tcp, LISTENER_AMQP);
    add_listeners(list, config->nodename, &config->ssl, LISTENER_AMQPS);
    add_listener(list, config->nodename, config->cluster_listener.host,
                 config->cluster_listener.port, LISTENER_CLUSTER);
    return list;
}

/* The one that our listeners with TLS show; null: there are none. */
static json_t *certificate_json(const struct shard *shard)
{
    struct env_certificate c;
    if (!shard->env->ops->certificate(shard->env, &c)) {
        return json_null();
    }
    json_t *row = json_object();
    listing_put_text(row, "file", bytes_from_cstr(shard->config->tls.certfile));
    listing_put_text(row, "subject", bytes_from_cstr(c.subject));
    listing_put_text(row, "issuer", bytes_from_cstr(c.issuer));
    listing_put_text(row, "valid_from", bytes_from_cstr(c.valid_from));
    listing_put_text(row, "valid_until", bytes_from_cstr(c.valid_until));
    listing_put_text(row, "problem", bytes_from_cstr(c.problem));
    return row;
}

/* What the catalog knows of another node: where it is reached, and its first port for clients. */
static json_t *listeners_of(const char *name, const struct catalog_node_info *info)
{
    json_t *list = json_array();
    char host[256];
    (void)snprintf(host, sizeof host, "%.*s", (int)info->host.size, (const char *)info->host.data);
    if (info->amqp_port != 0) {
        add_listener(list, name, host, info->amqp_port, LISTENER_AMQP);
    }
    add_listener(list, name, host, info->cluster_port, LISTENER_CLUSTER);
    return list;
}

/* What set_cluster_name has set, else the name that it was formed with. */
static void put_cluster_name(json_t *result, const struct shard *shard)
{
    const struct catalog_parameter *set =
        shard->view == NULL
            ? NULL
            : catalog_parameter(shard->view, BYTES_NONE, BYTES_NONE, BYTES_LITERAL("cluster_name"));
    json_t *name = set != NULL ? admin_value_json(set->value) : NULL;
    if (json_is_string(name)) {
        (void)json_object_set_new(result, "cluster_name", name);
        return;
    }
    json_decref(name);
    listing_put_text(result, "cluster_name",
                     shard->view == NULL ? BYTES_NONE : catalog_cluster_name(shard->view));
}

json_t *control__cluster_status(struct shard *shard)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    uint32_t count = shard->view == NULL ? 0 : catalog_nodes(shard->view, nodes);
    json_t *disk = json_array();
    json_t *running = json_array();
    json_t *listeners = json_object();
    json_t *versions = json_object();
    json_t *maintenance = json_object();
    struct group_status status = {0};
    for (uint32_t i = 0; i < count; i++) {
        const struct peer *peer = links_peer(shard, nodes[i]->info.id);
        char name[256];
        bool self = uid_eq(nodes[i]->info.id, node_id_of(shard->node));
        (void)snprintf(name, sizeof name, "%.*s", (int)nodes[i]->info.name.size,
                       (const char *)nodes[i]->info.name.data);
        (void)json_array_append_new(disk, json_string(name));
        if (nodes[i]->running && (self || (peer != NULL && peer->ready))) {
            (void)json_array_append_new(running, json_string(name));
            (void)json_object_set_new(listeners, name,
                                      self ? own_listeners(shard->config)
                                           : listeners_of(name, &nodes[i]->info));
            (void)json_object_set_new(maintenance, name, json_string("not under maintenance"));
            (void)json_object_set_new(versions, name,
                                      json_pack("{s:s, s:s}", "rabbitmq_name",
                                                shard->config->product, "rabbitmq_version",
                                                "4.1.0"));
        }
    }
    (void)host_group_status(shard->host, 1, &status);
    json_t *result = json_object();
    put_cluster_name(result, shard);
    (void)json_object_set_new(result, "disk_nodes", disk);
    (void)json_object_set_new(result, "ram_nodes", json_array());
    (void)json_object_set_new(result, "running_nodes", running);
    (void)json_object_set_new(result, "partitions", json_object());
    (void)json_object_set_new(result, "alarms", alarms_json(shard));
    (void)json_object_set_new(result, "listeners", listeners);
    (void)json_object_set_new(result, "versions", versions);
    (void)json_object_set_new(result, "maintenance_status", maintenance);
    (void)json_object_set_new(result, "feature_flags", json_array());
    (void)json_object_set_new(result, "catalog_leader",
                              listing_node_name(shard, status.leader_node));
    (void)json_object_set_new(result, "state", json_string(formation_state(shard)));
    return result;
}

struct group_count {
    uint64_t groups, leading;
};

static void count_group(void *ctx, const struct group_status *status)
{
    struct group_count *c = ctx;
    c->groups++;
    c->leading += status->leading;
}

/* The connections of all shards are counted, so this is a job. */
void control__begin_status(struct shard *shard, struct link_conn *link)
{
    struct job *job = control__job_new(shard, link);
    struct catalog_totals totals = {0};
    struct group_count groups = {0};
    const struct config *config = shard->config;
    uint64_t now = shard->env->ops->mono_ns(shard->env);
    if (shard->view != NULL) {
        catalog_count(shard->view, &totals);
    }
    host_each_group(shard->host, count_group, &groups);
    json_t *total =
        json_pack("{s:I, s:I, s:I}", "virtual_host_count", (json_int_t)totals.vhosts, "queue_count",
                  (json_int_t)totals.queues, "exchange_count", (json_int_t)totals.exchanges);
    job->status = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:[], s:o, s:s, s:[s], s:i, s:I, s:b, "
        "s:o, s:o, s:I, s:I, s:o}",
        "node", config->nodename, "state", formation_state(shard), "os", "Linux", "product_name",
        "Warren", "product_version", WARREN_VERSION, "rabbitmq_version", "4.1.0", "warren_version",
        WARREN_VERSION, "active_plugins", "config_files", config_files(config), "data_directory",
        config->data_dir, "log_files", config->log_file[0] != 0 ? config->log_file : "<stderr>",
        "shards", (int)shard->count, "uptime", (json_int_t)((now - shard->started_ns) / 1000000000),
        "is_under_maintenance", 0, "alarms", alarms_json(shard), "totals", total,
        "groups_on_shard_0", (json_int_t)groups.groups, "groups_led_on_shard_0",
        (json_int_t)groups.leading, "listeners", own_listeners(config));
    (void)json_object_set_new(job->status, "tls_certificate", certificate_json(shard));
    put_memory(job->status, shard);
    control__list_sessions(job, ROWS_CONNECTIONS, NULL, true);
    job->starting = false;
    control__job_progress(job);
}
