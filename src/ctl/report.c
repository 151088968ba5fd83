/*
 * What: report: status, settings and listings of a cluster one after the other. Failure modes: a
 * part that fails says so on standard error, the others follow; the exit code is that of the first
 * that failed.
 */
#include <string.h>

#include "invocation.h"

/* Every column, as RabbitMQ's report has them; NULL: the command has none. */
static int part(const struct invocation *v, const char *name, const char *vhost,
                int (*run)(struct invocation *v, const struct command *c))
{
    const struct command *c = command_find(name);
    struct invocation own = *v;
    char columns[1024];
    own.words[0] = name;
    own.word_count = 1;
    own.vhost = vhost;
    if (c->picks && c->all != NULL) {
        (void)snprintf(columns, sizeof columns, "%s", c->all);
        for (char *at = columns; *at != 0; at++) {
            *at = *at == ' ' ? ',' : *at;
        }
        own.words[own.word_count++] = columns;
    }
    (void)putchar('\n');
    return run(&own, c);
}

int ctl_report(struct invocation *v, int (*run)(struct invocation *v, const struct command *c))
{
    static const char *const of_node[] = {"status", "cluster_status", "environment",
                                          "list_connections", "list_channels"};
    static const char *const of_vhost[] = {"list_queues",    "list_exchanges",   "list_bindings",
                                           "list_consumers", "list_permissions", "list_policies",
                                           "list_parameters"};
    int code = 0;
    size_t i;
    json_t *row;
    json_t *request = json_pack("{s:s, s:[], s:{}}", "command", "list_vhosts", "args", "options");
    json_t *reply = ctl_request(v, request, &code);
    if (reply == NULL) {
        return code;
    }
    ctl_banner(v, command_find("report"));
    for (i = 0; i < sizeof of_node / sizeof of_node[0]; i++) {
        const int own = part(v, of_node[i], "/", run);
        code = code != 0 ? code : own;
    }
    json_array_foreach(json_object_get(reply, "result"), i, row) {
        for (size_t k = 0; k < sizeof of_vhost / sizeof of_vhost[0]; k++) {
            const int own =
                part(v, of_vhost[k], json_string_value(json_object_get(row, "name")), run);
            code = code != 0 ? code : own;
        }
    }
    const int own = part(v, "list_global_parameters", "/", run);
    json_decref(reply);
    return code != 0 ? code : own;
}
