/*
 * What: quorum_status: what each replica of a queue says of itself. The nodes that hold one are
 * asked; of a member that says nothing there is a row all the same, with the reason. sync_queue:
 * until all mirrors of a queue have all of it, which they get without being told. Exit codes: 69
 * when there is no such queue, or it has no replicas.
 */
#include <string.h>
#include <time.h>

#include "invocation.h"

static const char *const names[] = {"Node Name",      "Raft State",     "Log Index",
                                    "Commit Index",   "Snapshot Index", "Term",
                                    "Machine Version"};

static const char *node_of(json_t *row)
{
    return json_string_value(json_object_get(row, names[0]));
}

static json_t *find(json_t *rows, const char *node)
{
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) {
        if (strcmp(node_of(row), node) == 0) {
            return row;
        }
    }
    return NULL;
}

static bool is_among(json_t *list, json_t *name)
{
    size_t i;
    json_t *item;
    bool found = false;
    json_array_foreach(list, i, item) {
        found = found || json_equal(item, name);
    }
    return found;
}

/* One row for each member, by name. */
static json_t *by_member(json_t *reply)
{
    json_t *members = json_object_get(reply, "members");
    json_t *online = json_object_get(reply, "online");
    json_t *silent = json_object_get(reply, "silent");
    json_t *rows = json_object_get(reply, "result");
    json_t *all = json_array();
    size_t i;
    json_t *member;
    json_array_foreach(members, i, member) {
        const char *node = json_string_value(member);
        json_t *row = json_incref(find(rows, node));
        size_t at = 0;
        if (row == NULL) {
            row = json_pack("{s:s, s:s}", names[0], node, names[1],
                            is_among(silent, member)   ? "timeout"
                            : is_among(online, member) ? "noproc"
                                                       : "nodedown");
        }
        while (at < json_array_size(all) && strcmp(node_of(json_array_get(all, at)), node) < 0) {
            at++;
        }
        (void)json_array_insert_new(all, at, row);
    }
    return all;
}

static void show(const struct invocation *v, json_t *reply)
{
    json_t *columns = json_array();
    json_t *rows = by_member(reply);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        (void)json_array_append_new(columns, json_string(names[i]));
    }
    output_rows(&v->out, columns, rows);
    json_decref(rows);
    json_decref(columns);
}

static int quorum_status(struct invocation *v, const struct command *c)
{
    int code = 0;
    json_t *request = json_pack("{s:s, s:s, s:s}", "command", "list_replicas", "vhost", v->vhost,
                                "queue", v->words[1]);
    json_t *reply = ctl_request(v, request, &code);
    if (reply == NULL) {
        return code;
    }
    ctl_banner(v, c);
    if (json_integer_value(json_object_get(reply, "code")) == EXIT_USAGE) {
        code = ctl_fail(v, EXIT_UNAVAILABLE, false,
                        "the node is of an earlier version, which does not say this");
    } else if (json_object_get(reply, "error") != NULL) {
        code = ctl_fail_reply(v, reply);
    } else {
        if (!v->formatted) {
            v->out.format = OUTPUT_PRETTY; /* as rabbitmq-queues shows it */
        }
        show(v, reply);
        ctl_warn_stale(reply);
        ctl_warn_missing(reply);
    }
    json_decref(reply);
    return code;
}

/* The queue's row of list_queues; NULL with *ret_code, which is 0 when there is no such queue. */
static json_t *queue_row(struct invocation *v, int *ret_code)
{
    json_t *reply = ctl_request(
        v, json_pack("{s:s, s:s}", "command", "list_queues", "vhost", v->vhost), ret_code);
    json_t *found = NULL;
    size_t i;
    json_t *row;
    if (reply != NULL && json_object_get(reply, "error") != NULL) {
        *ret_code = ctl_fail_reply(v, reply);
    }
    json_array_foreach(json_object_get(reply, "result"), i, row) {
        if (strcmp(json_string_value(json_object_get(row, "name")), v->words[1]) == 0) {
            found = json_incref(row);
        }
    }
    json_decref(reply);
    return found;
}

static bool is_quorum(json_t *row)
{
    const char *type = json_string_value(json_object_get(row, "type"));
    return type != NULL && strcmp(type, "quorum") == 0;
}

/* Where there is nothing to wait for; *ret_code says what that means. */
static bool is_settled(struct invocation *v, int *ret_code)
{
    *ret_code = 0;
    json_t *row = queue_row(v, ret_code);
    json_t *mirrors = json_object_get(row, "mirror_pids");
    const bool down = row != NULL && json_object_get(row, "leader") == NULL;
    const bool behind = json_array_size(mirrors) >
                        json_array_size(json_object_get(row, "synchronised_mirror_pids"));
    const bool mirrored = mirrors != NULL;
    const bool there = row != NULL;
    const bool quorum = is_quorum(row);
    json_decref(row);
    if (*ret_code == 0 && !there) {
        *ret_code = ctl_fail(v, EXIT_UNAVAILABLE, false, "not_found");
    } else if (*ret_code == 0 && quorum) {
        *ret_code = ctl_fail(v, EXIT_UNAVAILABLE, false, "quorum_queue_not_supported");
    } else if (*ret_code == 0 && !mirrored && !down) {
        *ret_code = ctl_fail(v, EXIT_UNAVAILABLE, false, "not_mirrored");
    }
    return *ret_code != 0 || !(behind || down);
}

static int sync_queue(struct invocation *v, const struct command *c)
{
    const time_t end = time(NULL) + (v->timeout_s > 0 ? v->timeout_s : 60);
    int code = 0;
    ctl_banner(v, c);
    (void)fflush(stdout);
    while (!is_settled(v, &code)) {
        if (time(NULL) >= end) {
            v->ctl.timed_out = true;
            return ctl_fail_unreachable(v, "");
        }
        ctl_pause_ms(200);
    }
    if (code == 0) {
        output_text(&v->out, v->ctl.node, "ok");
    }
    return code;
}

static int cancel_sync(struct invocation *v, const struct command *c)
{
    int code = 0;
    json_t *row = queue_row(v, &code);
    if (code == 0) {
        ctl_banner(v, c);
    }
    if (code == 0 && row == NULL) {
        code = ctl_fail(v, EXIT_UNAVAILABLE, false, "not_found");
    } else if (code == 0 && is_quorum(row)) {
        code = ctl_fail(v, EXIT_UNAVAILABLE, false, "quorum_queue_not_supported");
    } else if (code == 0 && v->out.format == OUTPUT_JSON) {
        json_t *json = json_pack("{s:s, s:s, s:s}", "node", v->ctl.node, "result", "ok", "value",
                                 "not_syncing");
        output_json(json);
        json_decref(json);
    } else if (code == 0) {
        (void)puts("not_syncing");
    }
    json_decref(row);
    return code;
}

int ctl_replicas(struct invocation *v, const struct command *c)
{
    return strcmp(c->name, "sync_queue") == 0          ? sync_queue(v, c)
           : strcmp(c->name, "cancel_sync_queue") == 0 ? cancel_sync(v, c)
                                                       : quorum_status(v, c);
}
