/*
 * What: quorum_status: what each replica of a queue says of itself. The nodes that hold one are
 * asked; of a member that says nothing there is a row all the same, with the reason. Exit codes: 69
 * when there is no such queue, or it has no replicas.
 */
#include <string.h>

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

int ctl_quorum_status(struct invocation *v, const struct command *c)
{
    int code = 0;
    json_t *request = json_pack("{s:s, s:s, s:s}", "command", "list_replicas", "vhost", v->vhost,
                                "queue", v->words[1]);
    json_t *reply = ctl_request(v, request, &code);
    if (reply == NULL) {
        return code;
    }
    ctl_banner(v, c);
    if (json_object_get(reply, "error") != NULL) {
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
