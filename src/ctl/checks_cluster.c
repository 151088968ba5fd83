/*
 * What: health checks that are about all nodes: what would be lost if this one was stopped, and how
 * many there are. Exit codes: 0 healthy, 69 not, 70 not so many nodes in time.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "checks.h"

/* --- what would be lost ----------------------------------------------------------------------- */

static bool has_text(json_t *list, const char *text)
{
    size_t i;
    json_t *item;
    bool found = false;
    json_array_foreach(list, i, item) {
        found = found || strcmp(json_string_value(item), text) == 0;
    }
    return found;
}

/* Without this node no majority of those that are members would be in reach. */
static bool needs_node(const struct check *check, json_t *members, json_t *online)
{
    return json_array_size(members) > 1 && has_text(online, check->node) &&
           2 * (json_array_size(online) - 1) <= json_array_size(members);
}

/* A classic queue of two replicas is never without need of both: no waiting makes that better, and
 * who waits for it before a restart would wait for ever. */
static bool is_quorum_critical(const struct check *check, json_t *row)
{
    const bool pair = strcmp(check_text(row, "type"), "quorum") != 0 &&
                      json_array_size(json_object_get(row, "members")) == 2;
    return !pair &&
           needs_node(check, json_object_get(row, "members"), json_object_get(row, "online"));
}

/* A mirrored queue that this node leads, and nobody else has all of it. */
static bool is_mirror_critical(const struct check *check, json_t *row)
{
    json_t *mirrors = json_object_get(row, "synchronised_slave_pids");
    return json_is_array(mirrors) && json_array_size(mirrors) == 0 &&
           strcmp(check_text(row, "leader"), check->node) == 0;
}

/* As RabbitMQ's checks name a queue. */
static json_t *queue_json(json_t *row, const char *vhost)
{
    const char *name = check_text(row, "name");
    return json_pack("{s:s, s:o, s:s, s:s}", "name", name, "readable_name",
                     json_sprintf("queue '%s' in vhost '%s'", name, vhost), "type",
                     check_text(row, "type"), "virtual_host", vhost);
}

/* Those that are; NULL with *ret_code. */
static json_t *critical_queues(const struct check *check,
                               bool (*is_critical)(const struct check *check, json_t *row),
                               int *ret_code)
{
    json_t *reply = check_ask(
        check->v, json_pack("{s:s, s:[], s:{}}", "command", "list_vhosts", "args", "options"),
        ret_code);
    json_t *found = reply == NULL ? NULL : json_array();
    size_t i;
    size_t k;
    json_t *vhost;
    json_t *row;
    json_array_foreach(json_object_get(reply, "result"), i, vhost) {
        json_t *rows = check_ask(
            check->v,
            json_pack("{s:s, s:s}", "command", "list_queues", "vhost", check_text(vhost, "name")),
            ret_code);
        json_array_foreach(json_object_get(rows, "result"), k, row) {
            if (is_critical(check, row)) {
                (void)json_array_append_new(found, queue_json(row, check_text(vhost, "name")));
            }
        }
        json_decref(rows);
        if (*ret_code != 0) {
            break;
        }
    }
    json_decref(reply);
    if (*ret_code != 0) {
        json_decref(found);
        return NULL;
    }
    return found;
}

/* What one of the two kinds of checks says. */
struct danger {
    bool (*is_critical)(const struct check *check, json_t *row);
    const char *none, *some, *would_lose; /* what was found; what happens when the node ends */
    const char *waiting, *time_is_up;
    bool quorum; /* the catalog counts, too */
};

static const struct danger quorum_danger = {
    is_quorum_critical,
    "quorum queues with minimum quorum",
    "local queues with minimum online quorum",
    "quorum",
    "a quorum + 1 of nodes to be online for all quorum queues",
    "time is up, no quorum + 1 online replicas came online for at least some quorum queues",
    true};
static const struct danger mirror_danger = {
    is_mirror_critical,
    "classic mirrored queues without online synchronised mirrors",
    "local classic mirrored queues without online synchronised mirrors",
    "its only synchronised replica (master)",
    "a synchronised mirror be online for all classic mirrored queues",
    "time is up, no synchronised mirror came online for at least some classic mirrored queues",
    false};

static int tell_critical(const struct check *check, const struct danger *danger, json_t *found)
{
    size_t i;
    json_t *queue;
    if (json_array_size(found) == 0) {
        return check->v->out.silent ? 0
                                    : check_good(check, check_ok_json(), "Node %s reported no %s",
                                                 check->node, danger->none);
    }
    if (check->v->out.silent) {
        return EXIT_UNAVAILABLE;
    }
    if (check->v->out.format == OUTPUT_JSON) {
        json_t *json = json_pack("{s:o, s:O}", "message",
                                 json_sprintf("Node %s reported %s", check->node, danger->some),
                                 "queues", found);
        return check_failed(check, json, true, "");
    }
    (void)fflush(stdout);
    json_array_foreach(found, i, queue) {
        (void)fprintf(stderr, "%s would lose %s if node %s is stopped\n",
                      check_text(queue, "readable_name"), danger->would_lose, check->node);
    }
    return EXIT_UNAVAILABLE;
}

/* What would be in danger; NULL with *ret_code. *ret_alone: there is no other node. */
static json_t *in_danger(const struct check *check, const struct danger *danger, bool *ret_alone,
                         int *ret_code)
{
    if (!check_started(check, ret_code)) {
        return NULL;
    }
    json_t *reply = check_ask(check->v, json_pack("{s:s}", "command", "cluster_status"), ret_code);
    json_t *nodes = json_object_get(json_object_get(reply, "result"), "disk_nodes");
    json_t *running = json_object_get(json_object_get(reply, "result"), "running_nodes");
    json_t *found = NULL;
    *ret_alone = json_array_size(nodes) < 2;
    if (reply != NULL) {
        found = *ret_alone ? json_array() : critical_queues(check, danger->is_critical, ret_code);
    }
    if (found != NULL && danger->quorum && needs_node(check, nodes, running)) {
        (void)json_array_append_new(
            found, json_pack("{s:s, s:s, s:s, s:s}", "name", "", "readable_name",
                             "the catalog (users, vhosts, declarations of the cluster)", "type",
                             "catalog", "virtual_host", ""));
    }
    json_decref(reply);
    return found;
}

#define ALONE " seems to be the only one in a single node cluster, the check does not apply"

static json_t *alone_json(void)
{
    return json_pack("{s:s, s:s}", "message", "Target node" ALONE, "result", "ok");
}

static int check_critical(const struct check *check, const struct danger *danger)
{
    int code = 0;
    bool alone = false;
    json_t *found = in_danger(check, danger, &alone, &code);
    if (found != NULL) {
        code = alone ? check_good(check, alone_json(), "Node %s" ALONE, check->node)
                     : tell_critical(check, danger, found);
    }
    json_decref(found);
    return code;
}

#define ASK_LEAST_S 5
#define PATIENCE_S  10

/* Before a node is stopped for an upgrade: until nothing would be in danger. */
static int await_safety(const struct check *check, const struct danger *danger)
{
    const int limit_s = check->v->timeout_s > 0 ? check->v->timeout_s : 120;
    const time_t begun = time(NULL);
    ctl_say(check->v, "Will wait for %s for %d seconds...", danger->waiting, limit_s);
    (void)fflush(stdout);
    for (;;) {
        int code = 0;
        bool alone = false;
        const time_t left = begun + limit_s - time(NULL);
        /* That time is up is an answer of its own: a question asked late gets its time, too, and a
         * node that takes all of it, since a queue has no leader, is heard. */
        check->v->timeout_s = left > ASK_LEAST_S ? (int)left : ASK_LEAST_S;
        check->v->patience_s = PATIENCE_S;
        json_t *found = in_danger(check, danger, &alone, &code);
        const size_t count = json_array_size(found);
        json_decref(found);
        if (found == NULL) {
            return code;
        }
        if (alone && check->v->out.format == OUTPUT_JSON) {
            return check_good(check, alone_json(), "%s", "");
        }
        if (alone) { /* -q keeps it quiet, which it does not for the checks */
            ctl_say(check->v, "Target node seems to be the only one in a single node cluster, the "
                              "command does not apply");
            return 0;
        }
        if (count == 0) {
            output_text(&check->v->out, check->node, "ok");
            return 0;
        }
        if (time(NULL) - begun >= limit_s) {
            return check_failed(
                check, json_pack("{s:s, s:s}", "message", danger->time_is_up, "node", check->node),
                false, danger->time_is_up);
        }
        ctl_pause_ms(500);
    }
}

int check_quorum(const struct check *check)
{
    return check_critical(check, &quorum_danger);
}

int check_mirrors(const struct check *check)
{
    return check_critical(check, &mirror_danger);
}

int await_quorum(const struct check *check)
{
    return await_safety(check, &quorum_danger);
}

int await_mirrors(const struct check *check)
{
    return await_safety(check, &mirror_danger);
}

/* --- waiting for nodes ------------------------------------------------------------------------ */

int ctl_await_nodes(struct invocation *v, const struct command *c)
{
    const int limit_s = v->timeout_s > 0 ? v->timeout_s : 300;
    const time_t begun = time(NULL);
    if (!check_is_number(v->words[1])) {
        invocation_refuse(v, c, EXIT_DATA, "Bad argument: Argument must be a positive integer");
    }
    const size_t wanted = (size_t)strtoll(v->words[1], NULL, 10);
    ctl_say(v, "Will wait for at least %zu nodes to join the cluster of %s. Timeout: %d seconds.",
            wanted, v->ctl.node, limit_s);
    for (;;) {
        int code = 0;
        json_t *reply = check_ask(v, json_pack("{s:s}", "command", "cluster_status"), &code);
        if (reply == NULL) {
            return code;
        }
        const size_t running =
            json_array_size(json_object_get(json_object_get(reply, "result"), "running_nodes"));
        json_decref(reply);
        if (running >= wanted) {
            return 0;
        }
        if (time(NULL) - begun >= limit_s) {
            char text[400];
            (void)snprintf(text, sizeof text,
                           "Error: timed out while waiting. Not enough nodes joined %.256s's "
                           "cluster.",
                           v->ctl.node);
            return ctl_fail(v, EXIT_SOFTWARE, false, text);
        }
        ctl_pause_ms(200);
    }
}
