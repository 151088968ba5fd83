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

/* Names with their vhosts, of those that are; NULL with *ret_code. */
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
                (void)json_array_append_new(found,
                                            json_sprintf("%s in vhost %s", check_text(row, "name"),
                                                         check_text(vhost, "name")));
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

static int tell_critical(const struct check *check, json_t *found, const char *what)
{
    char text[400];
    size_t i;
    json_t *name;
    if (json_array_size(found) == 0) {
        return check->v->out.silent ? 0
                                    : check_good(check, check_ok_json(), "Node %s reported no %s",
                                                 check->node, what);
    }
    (void)snprintf(text, sizeof text, "Node %s reported %s:", check->node, what);
    const int code = ctl_fail(check->v, EXIT_UNAVAILABLE, false, text);
    json_array_foreach(found, i, name) {
        (void)fprintf(stderr, "%s\n", json_string_value(name));
    }
    return code;
}

static int check_critical(const struct check *check, bool quorum)
{
    static const char alone[] =
        "seems to be the only one in a single node cluster, the check does not apply";
    int code = 0;
    json_t *reply = check_ask(check->v, json_pack("{s:s}", "command", "cluster_status"), &code);
    json_t *nodes = json_object_get(json_object_get(reply, "result"), "disk_nodes");
    json_t *running = json_object_get(json_object_get(reply, "result"), "running_nodes");
    if (reply != NULL && json_array_size(nodes) < 2) {
        json_t *json = json_object();
        (void)json_object_set_new(json, "message", json_sprintf("Target node %s", alone));
        (void)json_object_set_new(json, "result", json_string("ok"));
        code = check_good(check, json, "Node %s %s", check->node, alone);
    } else if (reply != NULL) {
        json_t *found =
            critical_queues(check, quorum ? is_quorum_critical : is_mirror_critical, &code);
        if (found != NULL && quorum && needs_node(check, nodes, running)) {
            (void)json_array_append_new(
                found, json_string("the catalog: users, vhosts, declarations of the cluster"));
        }
        code = found == NULL
                   ? code
                   : tell_critical(check, found,
                                   quorum ? "queues with minimum online quorum"
                                          : "mirrored queues without a synchronised mirror");
        json_decref(found);
    }
    json_decref(reply);
    return code;
}

int check_quorum(const struct check *check)
{
    return check_critical(check, true);
}

int check_mirrors(const struct check *check)
{
    return check_critical(check, false);
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
