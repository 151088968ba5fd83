/*
 * What: requests of warrenctl over the cluster port: JSON in, JSON out; shard 0.
 *
 * A request is {"command": NAME, ...}; the answer {"result": ...} or {"error": TEXT, "code": exit
 * code}. What must be gathered (connections of all shards and nodes, reports of queues from their
 * leaders) is counted down in a struct job; parts that do not answer within the time limit are left
 * out, and the answer says so in "missing".
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

#include "control_internal.h"
#include "listing.h"

#define TOOL_JOBS_MAX    64u                 /* requests of one tool that are being answered */
#define TOOL_ANSWERS_MAX (64u * 1024 * 1024) /* bytes of answers that it has not read */

struct control {
    struct list jobs;
    struct list reports; /* struct report_ctx: what queues were asked for and have not said */
    uint64_t next_id;
};

static struct control *control_of(struct shard *shard)
{
    if (shard->control == NULL) {
        shard->control = wr_calloc(1, sizeof *shard->control);
        list_init(&shard->control->jobs);
        list_init(&shard->control->reports);
        shard->control->next_id = 1;
    }
    return shard->control;
}

/* --- answers ---------------------------------------------------------------------------------- */

void control__send(struct link_conn *link, json_t *owned)
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
    control__send(link, json_pack("{s:s, s:i}", "error", text, "code", code));
}

void control__job_free(struct job *job)
{
    list_remove(&job->link);
    json_decref(job->rows);
    json_decref(job->channels);
    json_decref(job->status);
    json_decref(job->request);
    json_decref(job->asked);
    json_decref(job->silent);
    json_decref(job->rest);
    catalog_view_unref(job->walk.view);
    if (job->writing) {
        writer_deinit(&job->text);
    }
    if (job->free_state != NULL) {
        job->free_state(job->state);
    }
    wr_free(job);
}

/* Places become rows: none of a queue that did not answer, all of its consumers of another. */
static void gather_rows(struct job *job)
{
    json_t *rows = json_array();
    size_t i;
    json_t *item;
    json_array_foreach(job->rows, i, item) {
        if (json_is_array(item)) {
            (void)json_array_extend(rows, item);
        } else if (!json_is_null(item)) {
            (void)json_array_append(rows, item);
        }
    }
    json_decref(job->rows);
    job->rows = rows;
}

static void job_finish(struct job *job)
{
    gather_rows(job);
    if (job->channels != NULL) {
        listing_join_channels(job->rows, job->channels);
    }
    if (job->status != NULL) {
        json_t *descriptors = json_object_get(job->status, "file_descriptors");
        json_t *count = json_integer((json_int_t)json_array_size(job->rows));
        (void)json_object_set(json_object_get(job->status, "totals"), "connection_count", count);
        if (descriptors != NULL) {
            (void)json_object_set(descriptors, "sockets_used", count);
        }
        json_decref(count);
    }
    json_t *reply = json_pack("{s:i}", "missing", (int)job->missing);
    const char *name;
    json_t *value;
    json_object_foreach(job->asked, name, value) {
        (void)json_array_append_new(job->silent, json_string(name));
    }
    if (json_array_size(job->silent) > 0) {
        (void)json_object_set(reply, "silent", job->silent);
    }
    if (job->stale) {
        (void)json_object_set_new(reply, "stale", json_true());
    }
    if (job->lists == LISTS_REPLICAS) {
        (void)json_object_set(reply, "members", json_object_get(job->request, "members"));
        (void)json_object_set(reply, "online", json_object_get(job->request, "online"));
    }
    if (job->local) {
        (void)json_object_set_new(reply, "node", json_string(job->shard->config->nodename));
        (void)json_object_set_new(reply, "for", json_integer((json_int_t)job->reply_for));
    }
    if (job->status == NULL && control__is_long(job)) {
        control__write_begin(job, reply);
        return;
    }
    (void)json_object_set(reply, "result", job->status != NULL ? job->status : job->rows);
    control__send(job->from, reply);
    control__job_free(job);
}

void control__job_progress(struct job *job)
{
    if (!job->starting && job->waiting == 0 && !job->until_running) {
        job_finish(job);
    }
}

/* One answer more than was asked for must not make the count wrap. */
void control__job_answered(struct job *job)
{
    job->waiting -= job->waiting > 0;
    control__job_progress(job);
}

struct job *control__job_new(struct shard *shard, struct link_conn *from)
{
    struct control *c = control_of(shard);
    struct job *job = wr_calloc(1, sizeof *job);
    job->shard = shard;
    job->from = from;
    job->id = c->next_id++;
    job->rows = json_array();
    job->asked = json_object();
    job->silent = json_array();
    job->barrier_ms = CONTROL_BARRIER_MS;
    job->rows_ms = CONTROL_JOB_MS;
    job->deadline_ns = shard->env->ops->mono_ns(shard->env) + (uint64_t)CONTROL_JOB_MS * 1000000;
    job->starting = true;
    list_push_back(&c->jobs, &job->link);
    return job;
}

void control__job_within(struct job *job, json_t *request)
{
    const json_int_t within_ms = json_integer_value(json_object_get(request, "within"));
    if (within_ms <= 0 || within_ms / 4 * 3 >= CONTROL_BARRIER_MS + CONTROL_JOB_MS) {
        return;
    }
    const uint32_t all_ms = (uint32_t)(within_ms / 4 * 3);
    job->barrier_ms = all_ms / 3 < CONTROL_BARRIER_MS ? all_ms / 3 : CONTROL_BARRIER_MS;
    job->rows_ms =
        all_ms - job->barrier_ms < CONTROL_JOB_MS ? all_ms - job->barrier_ms : CONTROL_JOB_MS;
    job->deadline_ns =
        job->shard->env->ops->mono_ns(job->shard->env) + (uint64_t)job->rows_ms * 1000000;
}

struct job *control_job_new(struct shard *shard, struct link_conn *link, void *owned_state,
                            void (*free_state)(void *state))
{
    struct job *job = control__job_new(shard, link);
    job->state = owned_state;
    job->free_state = free_state;
    job->deadline_ns = UINT64_MAX;
    return job;
}

void control_job_answer(struct job *job, json_t *owned_reply)
{
    WR_ASSERT(!job->over);
    control__send(job->from, owned_reply);
    job->over = true;
    job->from = NULL;
}

struct job *control__job_find(struct shard *shard, uint64_t id)
{
    LIST_FOREACH(at, &control_of(shard)->jobs) {
        struct job *job = WR_CONTAINER_OF(at, struct job, link);
        if (job->id == id && !job->writing) {
            return job;
        }
    }
    return NULL;
}

/* --- queues ----------------------------------------------------------------------------------- */

struct report_ctx {
    struct list link; /* control->reports: the job may end before, and the node too */
    struct shard *shard;
    uint64_t job;
    size_t place; /* among the job's rows */
};

static void report_free(struct report_ctx *r)
{
    list_remove(&r->link);
    wr_free(r);
}

static void on_report(void *ctx, uint64_t queue_id, const struct queue_report *report)
{
    struct report_ctx *r = ctx;
    struct job *job = control__job_find(r->shard, r->job);
    struct shard *shard = r->shard;
    const size_t place = r->place;
    report_free(r);
    if (job == NULL) {
        return;
    }
    const struct catalog_queue *q = catalog_queue_by_id(shard->view, queue_id);
    if (q != NULL && job->consumers) {
        if (report->error == 0) {
            json_t *rows = json_array();
            listing_consumers(q, report, rows);
            (void)json_array_set_new(job->rows, place, rows);
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
        (void)json_array_set_new(job->rows, place, row);
    }
    control__job_answered(job);
}

/* Answers come in any order, rows in that of the catalog: each queue has its place. */
void control__ask_queue(struct job *job, const struct catalog_queue *q)
{
    struct report_ctx *r = wr_calloc(1, sizeof *r);
    r->shard = job->shard;
    r->job = job->id;
    r->place = json_array_size(job->rows);
    list_push_back(&control_of(job->shard)->reports, &r->link);
    (void)json_array_append_new(job->rows, json_null());
    job->waiting++;
    host_queue_report(job->shard->host, q->id, job->walk.what, job->walk.timeout_ms, on_report, r);
}

static uint32_t queue_timeout_ms(const struct job *job)
{
    const json_int_t wanted_ms = json_integer_value(json_object_get(job->request, "queue_timeout"));
    const uint32_t most_ms = job->rows_ms / 5 * 4;
    return wanted_ms > 0 && wanted_ms < most_ms ? (uint32_t)wanted_ms : most_ms;
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
    const bool head = json_is_true(json_object_get(request, "head")); /* may be read from disk */
    if (name != NULL && vhost == NULL) {
        char text[320];
        (void)snprintf(text, sizeof text, "Virtual host '%.256s' does not exist", name);
        answer_error(job->from, EXIT_DATA, text);
        control__job_free(job);
        return;
    }
    if (kind == LISTS_QUEUES || kind == LISTS_CONSUMERS) {
        job->consumers = kind == LISTS_CONSUMERS;
        /* Consumers' channels, and those that a queue holds back, may be on any node. */
        if (consumers || json_is_true(json_object_get(request, "flow"))) {
            job->channels = json_array();
            control__list_sessions(job, ROWS_CONSUMING, NULL, false);
        }
    }
    control__walk_begin(job, vhost,
                        (consumers ? QUEUE_REPORT_CONSUMERS : 0) | (head ? QUEUE_REPORT_HEAD : 0),
                        queue_timeout_ms(job));
    control__walk_step(job);
}

/* A queue that is not a group has one place and no replicas. */
static const struct catalog_queue *replicated_queue(struct job *job)
{
    struct shard *shard = job->shard;
    const char *vhost = json_string_value(json_object_get(job->request, "vhost"));
    const char *name = json_string_value(json_object_get(job->request, "queue"));
    const struct catalog_queue *q =
        vhost == NULL || name == NULL
            ? NULL
            : catalog_queue(shard->view, bytes_from_cstr(vhost), bytes_from_cstr(name));
    if (q != NULL && q->spec.run == CATALOG_RUN_GROUP) {
        return q;
    }
    answer_error(job->from, EXIT_UNAVAILABLE,
                 q == NULL
                     ? "not_found"
                     : "Cannot get quorum status of a classic queue in the memory of one node");
    control__job_free(job);
    return NULL;
}

static void list_replicas(struct job *job)
{
    const struct catalog_queue *q = replicated_queue(job);
    if (q == NULL) {
        return;
    }
    json_t *row = listing_queue(job->shard, q);
    (void)json_object_set_new(job->request, "group", json_integer((json_int_t)q->id));
    (void)json_object_set(job->request, "members", json_object_get(row, "members"));
    (void)json_object_set(job->request, "online", json_object_get(row, "online"));
    json_decref(row);
    control__list_sessions(job, ROWS_REPLICAS, job->request, false);
    job->starting = false;
    control__job_progress(job);
}

static void on_listing_barrier(void *ctx, int status, const struct catalog_result *result)
{
    struct job *job = ctx;
    const struct env *env = job->shard->env;
    (void)result;
    job->stale = status < 0;
    job->deadline_ns = env->ops->mono_ns(job->shard->env) + (uint64_t)job->rows_ms * 1000000;
    if (job->lists == LISTS_REPLICAS) {
        list_replicas(job);
    } else {
        list_definitions(job);
    }
}

/* What was declared through another node a moment ago belongs into a list. The barrier answers
 * within its time limit: until then the job has none. */
static void list_after_barrier(struct job *job, enum listing_kind kind, json_t *request)
{
    job->lists = kind;
    job->request = json_incref(request);
    job->deadline_ns = UINT64_MAX;
    host_catalog_barrier(job->shard->host, job->barrier_ms, on_listing_barrier, job);
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
                 {"list_replicas", LISTS_REPLICAS, ROWS_REPLICAS},
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
        (void)json_object_set_new(reply, "node", json_string(shard->config->nodename));
        control__send(link, reply);
        return true;
    }
    struct job *job = control__job_new(shard, link);
    control__job_within(job, request);
    job->local = json_is_true(json_object_get(request, "local"));
    if (known[i].kind != LISTS_SESSIONS && !job->local) {
        list_after_barrier(job, known[i].kind, request);
        return true;
    }
    const bool consuming = json_is_true(json_object_get(request, "consuming"));
    job->reply_for = (uint64_t)json_integer_value(json_object_get(request, "for"));
    control__list_sessions(
        job, consuming && known[i].rows == ROWS_CHANNELS ? ROWS_CONSUMING : known[i].rows, request,
        job->local);
    job->starting = false;
    control__job_progress(job);
    return true;
}

static void await_startup(struct shard *shard, struct link_conn *link, json_t *request)
{
    struct job *job = control__job_new(shard, link);
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
        control__send(link, json_pack("{s:s}", "result", "Ping succeeded"));
    } else if (strcmp(command, "status") == 0) {
        control__begin_status(shard, link);
    } else if (strcmp(command, "cluster_status") == 0) {
        control__send(link, json_pack("{s:o}", "result", control__cluster_status(shard)));
    } else if (strcmp(command, "await_startup") == 0) {
        await_startup(shard, link, request);
    } else if (strcmp(command, "stop") == 0) {
        control__send(link, json_pack("{s:s}", "result", "ok"));
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
            control__job_free(job);
        } else if (job->state != NULL) {
            ; /* somebody will answer it */
        } else if (job->writing) {
            control__write_step(job);
        } else if (job->until_running && shard->boot != 0) {
            control__send(job->from, json_pack("{s:s}", "result", "ok"));
            control__job_free(job);
        } else if (now < job->deadline_ns && job->walk.view != NULL) {
            control__walk_step(job);
        } else if (now < job->deadline_ns) {
            control__watch_asked(job);
        } else {
            if (job->until_running) {
                answer_error(job->from, 75, formation_state(shard));
                control__job_free(job);
            } else {
                control__walk_cut(job);
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
            const bool due = job->over || job->writing || job->walk.view != NULL;
            best = due ? 0 : job->deadline_ns < best ? job->deadline_ns : best;
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
        control__job_free(WR_CONTAINER_OF(at, struct job, link));
    }
    LIST_FOREACH_SAFE(at, &shard->control->reports) {
        report_free(WR_CONTAINER_OF(at, struct report_ctx, link));
    }
    wr_free(shard->control);
    shard->control = NULL;
}
