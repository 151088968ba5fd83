/*
 * What: connections and channels of all shards and nodes, for control.c: rows of them, and closing
 * those that were named.
 *
 * Other shards of this node get a NODE_MAIL_QUERY, other nodes the request with "local" as
 * LINK_REQUEST on our outgoing links; their answers come back there, with "for" telling which job
 * they belong to. Failure modes: whoever does not answer in time is counted in the job's `missing`.
 * Threads: control_on_query in every shard, the rest in shard 0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "warren/mem.h"
#include "warren/str.h"

#include "control_internal.h"
#include "listing.h"

/* Rows wanted from another shard, and back with them. */
struct query_mail {
    struct mail mail;
    uint64_t job;
    enum row_kind what;
    bool answer;
    char *json; /* array; of ROWS_CLOSE and ROWS_REPLICAS also the request */
};

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
        json_t *value = json_loads(values[i], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
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

/* The replica that this shard has of the queue, if it has one. */
static void own_replica(struct shard *shard, json_t *request, json_t *rows)
{
    const uint64_t id = (uint64_t)json_integer_value(json_object_get(request, "group"));
    struct group_status status;
    if (host_group_status(shard->host, id, &status)) {
        (void)json_array_append_new(rows, listing_replica(shard->config->nodename, &status));
    }
}

static void own_rows(struct shard *shard, enum row_kind what, json_t *request, json_t *rows)
{
    if (what == ROWS_REPLICAS) {
        own_replica(shard, request, rows);
        return;
    }
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
    json_t *rows = text == NULL ? NULL : json_loads(text, JSON_ALLOW_NUL, NULL);
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
    struct job *job = control__job_find(shard, q->job);
    if (job != NULL) {
        append_rows(job, q->json);
        control__job_answered(job);
    }
    query_destroy(&q->mail);
}

/* The same request, for the other nodes to answer to this job. */
static char *passed_on(const struct job *job, enum row_kind what, json_t *request)
{
    const bool whole = what == ROWS_CLOSE || what == ROWS_REPLICAS;
    json_t *copy = whole ? json_copy(request) : json_object();
    const char *command = what == ROWS_CLOSE         ? "close_connections"
                          : what == ROWS_REPLICAS    ? "list_replicas"
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

void control__list_sessions(struct job *job, enum row_kind what, json_t *request, bool local)
{
    struct shard *shard = job->shard;
    own_rows(shard, what, request, session_rows(job));
    for (uint32_t i = 1; i < shard->count; i++) {
        struct query_mail *q = wr_calloc(1, sizeof *q);
        q->mail.kind = NODE_MAIL_QUERY;
        q->mail.destroy = query_destroy;
        q->job = job->id;
        q->what = what;
        q->json =
            what == ROWS_CLOSE || what == ROWS_REPLICAS ? json_dumps(request, JSON_COMPACT) : NULL;
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
            (void)json_object_set_new(job->asked, peer->name, json_true());
            job->waiting++;
        } else if (!peer->refused && peer->certain) {
            /* Its process may be there, with connections. (Where a connect is refused there is
             * none.) */
            (void)json_array_append_new(job->silent, json_string(peer->name));
            job->missing++;
        }
    }
    free(text);
}

static bool is_in_reach(const struct shard *shard, const char *name)
{
    LIST_FOREACH(at, &shard->links.peers) {
        const struct peer *peer = WR_CONTAINER_OF_CONST(at, struct peer, link);
        if (strcmp(peer->name, name) == 0) {
            return peer->ready;
        }
    }
    return false;
}

void control__watch_asked(struct job *job)
{
    const char *name;
    void *next;
    json_t *value;
    bool lost = false;
    json_object_foreach_safe(job->asked, next, name, value)
    {
        if (!is_in_reach(job->shard, name)) {
            (void)json_array_append_new(job->silent, json_string(name));
            (void)json_object_del(job->asked, name);
            job->missing++;
            job->waiting -= job->waiting > 0;
            lost = true;
        }
    }
    if (lost) {
        control__job_progress(job);
    }
}

/* The answer of another node to a request that was passed on. */
void control_on_reply(struct shard *shard, struct bytes text)
{
    json_t *reply = json_loadb((const char *)text.data, text.size, JSON_ALLOW_NUL, NULL);
    struct job *job =
        control__job_find(shard, (uint64_t)json_integer_value(json_object_get(reply, "for")));
    if (job != NULL) {
        const char *name = json_string_value(json_object_get(reply, "node"));
        json_t *rows = json_object_get(reply, "result");
        if (name != NULL) {
            (void)json_object_del(job->asked, name);
        }
        if (json_is_array(rows)) {
            (void)json_array_extend(session_rows(job), rows);
            job->missing += (uint32_t)json_integer_value(json_object_get(reply, "missing"));
        } else {
            job->missing++;
        }
        control__job_answered(job);
    }
    json_decref(reply);
}
