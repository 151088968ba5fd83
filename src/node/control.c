/*
 * What: requests of warrenctl over the cluster port: JSON in, JSON out; shard 0.
 *
 * A request is {"command": NAME, ...}; the answer {"result": ...} or {"error": TEXT, "code": exit
 * code}. What must be gathered (connections of all shards and nodes, reports of queues from their
 * leaders) is counted down in a struct job; parts that do not answer within the time limit are left
 * out, and the answer says so in "missing". For connections on other nodes the request is passed on
 * as LINK_REQUEST with "local" on our outgoing links; the answers come back there, with "for"
 * telling which job they belong to.
 *
 * Ownership: a job lives until it is answered; the link it came on may go before (then nobody is
 * told).
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"
#include "warren/str.h"

#include "admin_json.h"
#include "control.h"
#include "listing.h"

#define JOB_MS           5000u
#define BARRIER_MS       1500u
#define TOOL_JOBS_MAX    64u                 /* requests of one tool that are being answered */
#define TOOL_ANSWERS_MAX (64u * 1024 * 1024) /* bytes of answers that it has not read */

enum listing_kind {
    LISTS_QUEUES,
    LISTS_EXCHANGES,
    LISTS_BINDINGS,
    LISTS_CONSUMERS,
    LISTS_SESSIONS
};

struct job {
    struct list link; /* control->jobs */
    struct shard *shard;
    struct link_conn *from; /* NULL when it closed */
    uint64_t id;
    json_t *rows;     /* array of objects */
    json_t *status;   /* the answer, but for the number of rows; NULL: the rows are the answer */
    json_t *channels; /* rows of channels, to be joined with those; NULL: none are wanted */
    uint32_t waiting; /* answers still to come */
    uint32_t missing;
    uint64_t deadline_ns;
    bool starting;      /* requests are still being sent: not to be finished yet */
    bool until_running; /* await_startup */
    bool consumers;
    enum listing_kind lists; /* once the barrier has come: */
    json_t *request;
    bool stale; /* the catalog has no leader in reach: what this node knows */
    bool local; /* asked by another node for its job `reply_for` */
    uint64_t reply_for;
    /* Of admin*.c: NULL for all others. */
    void *state;
    void (*free_state)(void *state);
    bool over; /* answered: freed in the control turn, so that whoever answered may still look */
};

struct control {
    struct list jobs;
    uint64_t next_id;
};

enum row_kind {
    ROWS_CONNECTIONS,
    ROWS_CHANNELS,
    ROWS_CLOSE,     /* no list: closes those that are named, and says which were there */
    ROWS_CONSUMING, /* only what is joined with queues and consumers: of a million idle ones nothing
                     */
};

/* Rows wanted from another shard, and back with them. */
struct query_mail {
    struct mail mail;
    uint64_t job;
    enum row_kind what;
    bool answer;
    char *json; /* array; of ROWS_CLOSE also the request */
};

static struct control *control_of(struct shard *shard)
{
    if (shard->control == NULL) {
        shard->control = wr_calloc(1, sizeof *shard->control);
        list_init(&shard->control->jobs);
        shard->control->next_id = 1;
    }
    return shard->control;
}

/* --- answers ---------------------------------------------------------------------------------- */

static void send_json(struct link_conn *link, json_t *owned)
{
    char *text = owned == NULL ? NULL : json_dumps(owned, JSON_COMPACT);
    if (link !=
        NULL) { /* a text that is not UTF-8 is no JSON: an answer there must be all the same */
        link_conn_send(
            link, LINK_REPLY,
            bytes_from_cstr(
                text != NULL ? text
                             : "{\"error\":\"the answer cannot be written as JSON\",\"code\":70}"));
    }
    free(text);
    json_decref(owned);
}

static void answer_error(struct link_conn *link, int code, const char *text)
{
    send_json(link, json_pack("{s:s, s:i}", "error", text, "code", code));
}

static void job_free(struct job *job)
{
    list_remove(&job->link);
    json_decref(job->rows);
    json_decref(job->channels);
    json_decref(job->status);
    json_decref(job->request);
    if (job->free_state != NULL) {
        job->free_state(job->state);
    }
    wr_free(job);
}

static void job_finish(struct job *job)
{
    if (job->channels != NULL) {
        listing_join_channels(job->rows, job->channels);
    }
    if (job->status != NULL) {
        (void)json_object_set_new(json_object_get(job->status, "totals"), "connection_count",
                                  json_integer((json_int_t)json_array_size(job->rows)));
    }
    json_t *reply = json_pack("{s:O, s:i}", "result", job->status != NULL ? job->status : job->rows,
                              "missing", (int)job->missing);
    if (job->stale) {
        (void)json_object_set_new(reply, "stale", json_true());
    }
    if (job->local) {
        (void)json_object_set_new(reply, "for", json_integer((json_int_t)job->reply_for));
    }
    send_json(job->from, reply);
    job_free(job);
}

static void job_progress(struct job *job)
{
    if (!job->starting && job->waiting == 0 && !job->until_running) {
        job_finish(job);
    }
}

/* One answer more than was asked for must not make the count wrap. */
static void job_answered(struct job *job)
{
    job->waiting -= job->waiting > 0;
    job_progress(job);
}

static struct job *job_new(struct shard *shard, struct link_conn *from)
{
    struct control *c = control_of(shard);
    struct job *job = wr_calloc(1, sizeof *job);
    job->shard = shard;
    job->from = from;
    job->id = c->next_id++;
    job->rows = json_array();
    job->deadline_ns = shard->env->ops->mono_ns(shard->env) + (uint64_t)JOB_MS * 1000000;
    job->starting = true;
    list_push_back(&c->jobs, &job->link);
    return job;
}

struct job *control_job_new(struct shard *shard, struct link_conn *link, void *owned_state,
                            void (*free_state)(void *state))
{
    struct job *job = job_new(shard, link);
    job->state = owned_state;
    job->free_state = free_state;
    job->deadline_ns = UINT64_MAX;
    return job;
}

void control_job_answer(struct job *job, json_t *owned_reply)
{
    WR_ASSERT(!job->over);
    send_json(job->from, owned_reply);
    job->over = true;
    job->from = NULL;
}

static struct job *job_find(struct shard *shard, uint64_t id)
{
    LIST_FOREACH(at, &control_of(shard)->jobs) {
        struct job *job = WR_CONTAINER_OF(at, struct job, link);
        if (job->id == id) {
            return job;
        }
    }
    return NULL;
}

/* --- queues ----------------------------------------------------------------------------------- */

struct report_ctx {
    struct shard *shard;
    uint64_t job;
};

static void on_report(void *ctx, uint64_t queue_id, const struct queue_report *report)
{
    struct report_ctx *r = ctx;
    struct job *job = job_find(r->shard, r->job);
    struct shard *shard = r->shard;
    wr_free(r);
    if (job == NULL) {
        return;
    }
    const struct catalog_queue *q = catalog_queue_by_id(shard->view, queue_id);
    if (q != NULL && job->consumers) {
        if (report->error == 0) {
            listing_consumers(q, report, job->rows);
        } else {
            job->missing++;
        }
    } else if (q != NULL) {
        json_t *row = listing_queue(shard, q);
        if (report->error == 0) {
            listing_put_report(row, shard, q, report);
        } else {
            (void)json_object_set_new(row, "state", json_string("down"));
            (void)json_object_set_new(
                row, "why",
                json_string(report->why != NULL ? report->why : wr_err_text(report->error)));
        }
        (void)json_array_append_new(job->rows, row);
    }
    job_answered(job);
}

static void list_queues(struct job *job, const struct catalog_vhost *vhost, bool consumers,
                        json_t *request)
{
    const json_int_t wanted_ms = json_integer_value(json_object_get(request, "queue_timeout"));
    const uint32_t timeout_ms =
        wanted_ms > 0 && wanted_ms < JOB_MS - 1000 ? (uint32_t)wanted_ms : JOB_MS - 1000;
    struct shard *shard = job->shard;
    struct catalog_iter it;
    catalog_iter_queues(&it, shard->view, vhost);
    for (const struct catalog_queue *q; (q = catalog_iter_next(&it)) != NULL;) {
        struct report_ctx *r = wr_calloc(1, sizeof *r);
        r->shard = shard;
        r->job = job->id;
        job->waiting++;
        host_queue_report(shard->host, q->id, consumers, timeout_ms, on_report, r);
    }
}

/* --- connections and channels: every shard of every node -------------------------------------- */

struct rows_ctx {
    json_t *rows;
    const char *node;
    bool consuming;
};

static void on_row(void *ctx, const char *const *names, const char *const *values, uint32_t count)
{
    struct rows_ctx *r = ctx;
    json_t *row = json_object();
    for (uint32_t i = 0; i < count; i++) {
        json_t *value = json_loads(values[i], JSON_DECODE_ANY, NULL);
        if (strcmp(names[i], "pid") == 0 || strcmp(names[i], "connection") == 0) {
            value = listing_full_pid(value, r->node);
        }
        (void)json_object_set_new(row, names[i], value != NULL ? value : json_null());
    }
    if (r->consuming) {
        json_t *pair =
            json_pack("{s:O, s:O, s:O}", "pid", json_object_get(row, "pid"), "clients",
                      json_object_get(row, "clients"), "flow", json_object_get(row, "flow"));
        bool consumes = json_integer_value(json_object_get(row, "consumer_count")) > 0 ||
                        json_array_size(json_object_get(row, "flow")) > 0;
        json_decref(row);
        if (!consumes) {
            json_decref(pair);
            return;
        }
        row = pair;
    } else {
        (void)json_object_set_new(row, "node", json_string(r->node));
    }
    (void)json_array_append_new(r->rows, row);
}

/* Connections of this shard among "pids": <NODE.BOOT.CONNECTION.0>. */
static void close_own(struct shard *shard, json_t *request, json_t *rows)
{
    const char *reason = json_string_value(json_object_get(request, "reason"));
    char prefix[LISTING_PID_MAX];
    size_t i;
    json_t *item;
    (void)snprintf(prefix, sizeof prefix, "<%s.%u.", shard->config->nodename, shard->boot);
    json_array_foreach(json_object_get(request, "pids"), i, item) {
        const char *pid = json_string_value(item);
        struct bytes number;
        struct bytes rest;
        uint64_t id;
        if (pid == NULL || strncmp(pid, prefix, strlen(prefix)) != 0) {
            continue;
        }
        if (str_split(bytes_from_cstr(pid + strlen(prefix)), '.', &number, &rest) &&
            bytes_eq_cstr(rest, "0>") && str_parse_u64(number, UINT64_MAX, &id) == 0 &&
            broker_close_connection(shard->broker, id, reason != NULL ? reason : "")) {
            (void)json_array_append(rows, item);
        }
    }
}

static void own_rows(struct shard *shard, enum row_kind what, json_t *request, json_t *rows)
{
    if (what == ROWS_CLOSE) {
        close_own(shard, request, rows);
        return;
    }
    struct rows_ctx r = {
        .rows = rows, .node = shard->config->nodename, .consuming = what == ROWS_CONSUMING};
    if (what == ROWS_CONNECTIONS) {
        broker_list_connections(shard->broker, on_row, &r);
    } else {
        broker_list_channels(shard->broker, on_row, &r);
    }
}

static void query_destroy(struct mail *mail)
{
    struct query_mail *q = (struct query_mail *)(void *)mail;
    free(q->json);
    wr_free(q);
}

/* Rows of sessions: what was asked for, or what is to be joined with it. */
static json_t *session_rows(struct job *job)
{
    return job->channels != NULL ? job->channels : job->rows;
}

static void append_rows(struct job *job, const char *text)
{
    json_t *rows = text == NULL ? NULL : json_loads(text, 0, NULL);
    if (rows != NULL) {
        (void)json_array_extend(session_rows(job), rows);
        json_decref(rows);
    }
}

void control_on_query(struct shard *shard, struct mail *owned_mail)
{
    struct query_mail *q = (struct query_mail *)(void *)owned_mail;
    if (!q->answer) {
        json_t *rows = json_array();
        json_t *request = q->json == NULL ? NULL : json_loads(q->json, 0, NULL);
        own_rows(shard, q->what, request, rows);
        free(q->json);
        q->json = json_dumps(rows, JSON_COMPACT);
        q->answer = true;
        json_decref(request);
        json_decref(rows);
        shard->env->ops->post(shard->env, 0, &q->mail);
        return;
    }
    struct job *job = job_find(shard, q->job);
    if (job != NULL) {
        append_rows(job, q->json);
        job_answered(job);
    }
    query_destroy(&q->mail);
}

/* The same request, for the other nodes to answer to this job. */
static char *passed_on(const struct job *job, enum row_kind what, json_t *request)
{
    json_t *copy = what == ROWS_CLOSE ? json_copy(request) : json_object();
    const char *command = what == ROWS_CLOSE         ? "close_connections"
                          : what == ROWS_CONNECTIONS ? "list_connections"
                                                     : "list_channels";
    (void)json_object_set_new(copy, "command", json_string(command));
    (void)json_object_set_new(copy, "local", json_true());
    (void)json_object_set_new(copy, "consuming", json_boolean(what == ROWS_CONSUMING));
    (void)json_object_set_new(copy, "for", json_integer((json_int_t)job->id));
    char *text = json_dumps(copy, JSON_COMPACT);
    json_decref(copy);
    return text;
}

static void list_sessions(struct job *job, enum row_kind what, json_t *request, bool local)
{
    struct shard *shard = job->shard;
    own_rows(shard, what, request, session_rows(job));
    for (uint32_t i = 1; i < shard->count; i++) {
        struct query_mail *q = wr_calloc(1, sizeof *q);
        q->mail.kind = NODE_MAIL_QUERY;
        q->mail.destroy = query_destroy;
        q->job = job->id;
        q->what = what;
        q->json = what == ROWS_CLOSE ? json_dumps(request, JSON_COMPACT) : NULL;
        job->waiting++;
        shard->env->ops->post(shard->env, i, &q->mail);
    }
    if (local) {
        return;
    }
    char *text = passed_on(job, what, request);
    LIST_FOREACH(at, &shard->links.peers) {
        struct peer *peer = WR_CONTAINER_OF(at, struct peer, link);
        if (peer->ready && text != NULL) {
            link_conn_send(peer->conn, LINK_REQUEST, bytes_from_cstr(text));
            job->waiting++;
        }
    }
    free(text);
}

/* The answer of another node to a request that was passed on. */
void control_on_reply(struct shard *shard, struct bytes text)
{
    json_t *reply = json_loadb((const char *)text.data, text.size, 0, NULL);
    struct job *job = job_find(shard, (uint64_t)json_integer_value(json_object_get(reply, "for")));
    if (job != NULL) {
        json_t *rows = json_object_get(reply, "result");
        if (json_is_array(rows)) {
            (void)json_array_extend(session_rows(job), rows);
            job->missing += (uint32_t)json_integer_value(json_object_get(reply, "missing"));
        } else {
            job->missing++;
        }
        job_answered(job);
    }
    json_decref(reply);
}

/* --- status ----------------------------------------------------------------------------------- */

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
static void put_memory(json_t *status, const struct shard *shard)
{
    struct alarm_memory memory = alarm_memory(shard);
    const struct config *config = shard->config;
    json_t *setting =
        config->memory_absolute != CONFIG_NOT_GIVEN
            ? json_pack("{s:I}", "absolute", (json_int_t)config->memory_absolute)
            : json_pack("{s:f}", "relative", (double)config->memory_relative_ppm / 1000000.0);
    (void)json_object_set_new(
        status, "memory",
        json_pack("{s:{s:I}, s:s}", "total", "rss", (json_int_t)memory.used, "strategy", "rss"));
    (void)json_object_set_new(status, "vm_memory_high_watermark_setting", setting);
    (void)json_object_set_new(status, "vm_memory_high_watermark_limit",
                              json_integer((json_int_t)memory.limit));
    (void)json_object_set_new(status, "disk_free_limit",
                              json_integer((json_int_t)config->disk_free_limit));
}

static void add_listener(json_t *list, const char *node, const char *host, uint16_t port, bool amqp)
{
    (void)json_array_append_new(
        list, json_pack("{s:s, s:s, s:i, s:s, s:s}", "node", node, "interface",
                        host[0] == 0 ? "[::]" : host, "port", (int)port, "protocol",
                        amqp ? "amqp" : "clustering", "purpose",
                        amqp ? "AMQP 0-9-1" : "inter-node and CLI tool communication"));
}

static json_t *own_listeners(const struct config *config)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < config->listener_count; i++) {
        add_listener(list, config->nodename, config->listeners[i].host, config->listeners[i].port,
                     true);
    }
    add_listener(list, config->nodename, config->cluster_listener.host,
                 config->cluster_listener.port, false);
    return list;
}

/* What the catalog knows of another node: where it is reached, and its first port for clients. */
static json_t *listeners_of(const char *name, const struct catalog_node_info *info)
{
    json_t *list = json_array();
    char host[256];
    (void)snprintf(host, sizeof host, "%.*s", (int)info->host.size, (const char *)info->host.data);
    if (info->amqp_port != 0) {
        add_listener(list, name, host, info->amqp_port, true);
    }
    add_listener(list, name, host, info->cluster_port, false);
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

static json_t *cluster_status(struct shard *shard)
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
static void begin_status(struct shard *shard, struct link_conn *link)
{
    struct job *job = job_new(shard, link);
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
    job->status =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:[s], s:i, s:I, s:b, s:o, s:o, s:I, s:I, s:o}",
                  "node", config->nodename, "state", formation_state(shard), "rabbitmq_version",
                  "4.1.0", "warren_version", WARREN_VERSION, "data_directory", config->data_dir,
                  "log_files", config->log_file[0] != 0 ? config->log_file : "<stderr>", "shards",
                  (int)shard->count, "uptime", (json_int_t)((now - shard->started_ns) / 1000000000),
                  "is_under_maintenance", 0, "alarms", alarms_json(shard), "totals", total,
                  "groups_on_shard_0", (json_int_t)groups.groups, "groups_led_on_shard_0",
                  (json_int_t)groups.leading, "listeners", own_listeners(config));
    put_memory(job->status, shard);
    list_sessions(job, ROWS_CONNECTIONS, NULL, true);
    job->starting = false;
    job_progress(job);
}

/* --- dispatch --------------------------------------------------------------------------------- */

/* Of the catalog, and of queues. */
static void list_definitions(struct job *job)
{
    struct shard *shard = job->shard;
    json_t *request = job->request;
    const enum listing_kind kind = job->lists;
    const char *name = json_string_value(json_object_get(request, "vhost"));
    const struct catalog_vhost *vhost =
        name == NULL ? NULL : catalog_vhost(shard->view, bytes_from_cstr(name));
    const bool consumers =
        kind == LISTS_CONSUMERS || json_is_true(json_object_get(request, "consumers"));
    if (name != NULL && vhost == NULL) {
        char text[320];
        (void)snprintf(text, sizeof text, "Virtual host '%.256s' does not exist", name);
        answer_error(job->from, EXIT_DATA, text);
        job_free(job);
        return;
    }
    if (kind == LISTS_EXCHANGES) {
        listing_exchanges(shard, vhost, job->rows);
    } else if (kind == LISTS_BINDINGS) {
        listing_bindings(shard, vhost, job->rows);
    } else {
        job->consumers = kind == LISTS_CONSUMERS;
        list_queues(job, vhost, consumers, request);
        /* Consumers' channels, and those that a queue holds back, may be on any node. */
        if (consumers || json_is_true(json_object_get(request, "flow"))) {
            job->channels = json_array();
            list_sessions(job, ROWS_CONSUMING, NULL, false);
        }
    }
    job->starting = false;
    job_progress(job);
}

static void on_listing_barrier(void *ctx, int status, const struct catalog_result *result)
{
    struct job *job = ctx;
    const struct env *env = job->shard->env;
    (void)result;
    job->stale = status < 0;
    job->deadline_ns = env->ops->mono_ns(job->shard->env) + (uint64_t)JOB_MS * 1000000;
    list_definitions(job);
}

/* What was declared through another node a moment ago belongs into a list. The barrier answers
 * within its time limit: until then the job has none. */
static void list_after_barrier(struct job *job, enum listing_kind kind, json_t *request)
{
    job->lists = kind;
    job->request = json_incref(request);
    job->deadline_ns = UINT64_MAX;
    host_catalog_barrier(job->shard->host, BARRIER_MS, on_listing_barrier, job);
}

static bool listing(struct shard *shard, struct link_conn *link, const char *command,
                    json_t *request)
{
    static const struct {
        const char *command;
        enum listing_kind kind;
        enum row_kind rows;
    } known[] = {{"list_queues", LISTS_QUEUES, 0},
                 {"list_exchanges", LISTS_EXCHANGES, 0},
                 {"list_bindings", LISTS_BINDINGS, 0},
                 {"list_consumers", LISTS_CONSUMERS, 0},
                 {"list_connections", LISTS_SESSIONS, ROWS_CONNECTIONS},
                 {"list_channels", LISTS_SESSIONS, ROWS_CHANNELS},
                 {"close_connections", LISTS_SESSIONS, ROWS_CLOSE}};
    size_t i = 0;
    while (i < WR_ARRAY_SIZE(known) && strcmp(command, known[i].command) != 0) {
        i++;
    }
    if (i == WR_ARRAY_SIZE(known)) {
        return false;
    }
    if (shard->view == NULL || shard->boot == 0) {
        json_t *reply =
            json_pack("{s:s, s:i}", "error", formation_state(shard), "code", EXIT_UNAVAILABLE);
        (void)json_object_set(reply, "for", json_object_get(request, "for"));
        send_json(link, reply);
        return true;
    }
    struct job *job = job_new(shard, link);
    if (known[i].kind != LISTS_SESSIONS) {
        list_after_barrier(job, known[i].kind, request);
        return true;
    }
    const bool consuming = json_is_true(json_object_get(request, "consuming"));
    job->local = json_is_true(json_object_get(request, "local"));
    job->reply_for = (uint64_t)json_integer_value(json_object_get(request, "for"));
    list_sessions(job, consuming && known[i].rows == ROWS_CHANNELS ? ROWS_CONSUMING : known[i].rows,
                  request, job->local);
    job->starting = false;
    job_progress(job);
    return true;
}

static void await_startup(struct shard *shard, struct link_conn *link, json_t *request)
{
    struct job *job = job_new(shard, link);
    json_int_t timeout_s = json_integer_value(json_object_get(request, "timeout"));
    timeout_s = timeout_s > 86400 ? 86400 : timeout_s;
    job->starting = false;
    job->until_running = true;
    job->deadline_ns = shard->env->ops->mono_ns(shard->env) +
                       (uint64_t)(timeout_s > 0 ? timeout_s : 300) * 1000000000;
}

/* A listing is work for shard 0, which has links and clients to serve: a tool that asks without end
 * would keep it from them. (Nodes pass on what tools ask.) */
static bool asks_too_much(struct shard *shard, const struct link_conn *link)
{
    uint32_t jobs = 0;
    if (link_session_peer(link->session)->kind != LINK_KIND_TOOL) {
        return false;
    }
    LIST_FOREACH(at, &control_of(shard)->jobs) {
        jobs += WR_CONTAINER_OF(at, struct job, link)->from == link;
    }
    return jobs >= TOOL_JOBS_MAX ||
           outq_size(&link->out) + shard->env->ops->conn_backlog(link->conn) > TOOL_ANSWERS_MAX;
}

void control_request(struct shard *shard, struct link_conn *link, struct bytes text)
{
    if (link->closing) {
        return;
    }
    if (asks_too_much(shard, link)) {
        wr_log(shard->logger, LOG_LEVEL_WARNING, "link",
               "peer %s port=%u: too many requests at once; connection closed", link->remote.host,
               link->remote.port);
        link_conn_close(link);
        return;
    }
    json_t *request = json_loadb((const char *)text.data, text.size, 0, NULL);
    const char *command = json_string_value(json_object_get(request, "command"));
    if (command == NULL) {
        answer_error(link, EXIT_USAGE, "the request is not JSON with a command");
    } else if (strcmp(command, "ping") == 0) {
        send_json(link, json_pack("{s:s}", "result", "Ping succeeded"));
    } else if (strcmp(command, "status") == 0) {
        begin_status(shard, link);
    } else if (strcmp(command, "cluster_status") == 0) {
        send_json(link, json_pack("{s:o}", "result", cluster_status(shard)));
    } else if (strcmp(command, "await_startup") == 0) {
        await_startup(shard, link, request);
    } else if (strcmp(command, "stop") == 0) {
        send_json(link, json_pack("{s:s}", "result", "ok"));
        shard_start_shutdown(shard, "asked to stop by warrenctl");
    } else if (!listing(shard, link, command, request) &&
               !admin_request(shard, link, command, request)) {
        char error[128];
        (void)snprintf(error, sizeof error, "Command '%.80s' not found.", command);
        answer_error(link, EXIT_USAGE, error);
    }
    json_decref(request);
}

/* --- turn ------------------------------------------------------------------------------------- */

void control_link_closed(struct shard *shard, struct link_conn *link)
{
    LIST_FOREACH(at, &control_of(shard)->jobs) {
        struct job *job = WR_CONTAINER_OF(at, struct job, link);
        if (job->from == link) {
            job->from = NULL;
        }
    }
}

void control_turn(struct shard *shard)
{
    uint64_t now = shard->env->ops->mono_ns(shard->env);
    LIST_FOREACH_SAFE(at, &control_of(shard)->jobs) {
        struct job *job = WR_CONTAINER_OF(at, struct job, link);
        if (job->over) {
            job_free(job);
        } else if (job->state != NULL) {
            ; /* somebody will answer it */
        } else if (job->until_running && shard->boot != 0) {
            send_json(job->from, json_pack("{s:s}", "result", "ok"));
            job_free(job);
        } else if (now >= job->deadline_ns) {
            if (job->until_running) {
                answer_error(job->from, 75, formation_state(shard));
                job_free(job);
            } else {
                job->missing += job->waiting;
                job_finish(job);
            }
        }
    }
}

uint64_t control_deadline_ns(const struct shard *shard)
{
    uint64_t best = UINT64_MAX;
    if (shard->control != NULL) {
        LIST_FOREACH(at, &shard->control->jobs) {
            const struct job *job = WR_CONTAINER_OF_CONST(at, struct job, link);
            best = job->over ? 0 : job->deadline_ns < best ? job->deadline_ns : best;
        }
    }
    return best;
}

void control_free(struct shard *shard)
{
    if (shard->control == NULL) {
        return;
    }
    LIST_FOREACH_SAFE(at, &shard->control->jobs) {
        job_free(WR_CONTAINER_OF(at, struct job, link));
    }
    wr_free(shard->control);
    shard->control = NULL;
}
