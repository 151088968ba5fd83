/*
 * What: the health checks of rabbitmq-diagnostics and rabbitmq-queues, and what of their other
 * commands a status can answer, so that probes and scripts need not be changed. All is read from
 * the answers to status, cluster_status and list_queues. Exit codes: 0 healthy, 69 not.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "checks.h"

int check_good(const struct check *check, json_t *owned_json, const char *fmt, ...)
{
    va_list args;
    if (check->v->out.format == OUTPUT_JSON) {
        output_json(owned_json);
    } else {
        va_start(args, fmt);
        (void)vprintf(fmt, args);
        va_end(args);
        (void)putchar('\n');
    }
    json_decref(owned_json);
    return 0;
}

int check_bad(const struct check *check, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return ctl_fail(check->v, EXIT_UNAVAILABLE, false, text);
}

json_t *check_ok_json(void)
{
    return json_pack("{s:s}", "result", "ok");
}

const char *check_text(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL ? text : "";
}

static bool is_running(const struct check *check)
{
    return strcmp(check_text(check->status, "state"), "running") == 0;
}

json_t *check_ask(struct invocation *v, json_t *owned_request, int *ret_code)
{
    json_t *reply = ctl_request(v, owned_request, ret_code);
    if (reply != NULL && json_object_get(reply, "error") != NULL) {
        *ret_code = ctl_fail_reply(v, reply);
        json_decref(reply);
        return NULL;
    }
    return reply;
}

/* --- running ---------------------------------------------------------------------------------- */

#define BOOTING "RabbitMQ on node %s is booting"
#define BOOTED                                                                                     \
    "RabbitMQ on node %s is fully booted (check with is_running), stopped or has not started "     \
    "booting yet"
#define RUNNING "RabbitMQ on node %s is fully booted and running"
#define NOT_RUNNING                                                                                \
    "RabbitMQ on node %s is not running or has not fully booted yet (check with is_booting)"

static json_t *said(json_t *owned_message, json_t *owned_result)
{
    json_t *json = json_pack("{s:o}", "message", owned_message);
    if (owned_result != NULL) {
        (void)json_object_set_new(json, "result", owned_result);
    }
    return json;
}

static int check_running(const struct check *check)
{
    return is_running(check) ? check_good(check, said(json_sprintf(RUNNING, check->node), NULL),
                                          RUNNING, check->node)
                             : check_bad(check, NOT_RUNNING, check->node);
}

static int tell_running(const struct check *check)
{
    return is_running(check)
               ? check_good(check, said(json_sprintf(RUNNING, check->node), json_true()), RUNNING,
                            check->node)
               : check_good(check, said(json_sprintf(NOT_RUNNING, check->node), json_false()),
                            NOT_RUNNING, check->node);
}

static int tell_booting(const struct check *check)
{
    return is_running(check)
               ? check_good(check, said(json_sprintf(BOOTED, check->node), json_false()), BOOTED,
                            check->node)
               : check_good(check, said(json_sprintf(BOOTING, check->node), json_true()), BOOTING,
                            check->node);
}

/* A node that has no catalog yet knows of no alarms and serves nobody. */
static int check_vhosts(const struct check *check)
{
    if (!is_running(check)) {
        return check_bad(check, NOT_RUNNING, check->node);
    }
    return check->v->out.silent ? 0
                                : check_good(check, check_ok_json(),
                                             "Node %s reported all vhosts as running", check->node);
}

/* --- alarms ----------------------------------------------------------------------------------- */

static const char *alarm_title(json_t *alarm)
{
    return strcmp(check_text(alarm, "resource"), "disk") == 0 ? "Free disk space alarm"
                                                              : "Memory alarm";
}

/* Those of the node alone, or of all; borrowed in a new array. */
static json_t *alarms_of(const struct check *check, bool local)
{
    json_t *found = json_array();
    size_t i;
    json_t *alarm;
    json_array_foreach(json_object_get(check->status, "alarms"), i, alarm) {
        if (!local || strcmp(check_text(alarm, "node"), check->node) == 0) {
            (void)json_array_append(found, alarm);
        }
    }
    return found;
}

/* "Memory alarm on node a", one a line, or in an array. */
static json_t *alarm_texts(json_t *alarms, char *lines, size_t size)
{
    json_t *texts = json_array();
    size_t i;
    size_t used = 0;
    json_t *alarm;
    lines[0] = 0;
    json_array_foreach(alarms, i, alarm) {
        json_t *text = json_sprintf("%s on node %s", alarm_title(alarm), check_text(alarm, "node"));
        const int n =
            snprintf(lines + used, size - used, "%s%s", i > 0 ? "\n" : "", json_string_value(text));
        used = n > 0 && used + (size_t)n < size ? used + (size_t)n : size - 1;
        (void)json_array_append_new(texts, text);
    }
    return texts;
}

static int check_alarms_of(const struct check *check, bool local)
{
    json_t *alarms = alarms_of(check, local);
    char lines[2048];
    int code = 0;
    json_decref(alarm_texts(alarms, lines, sizeof lines));
    if (json_array_size(alarms) > 0) {
        code = check->v->out.silent ? EXIT_UNAVAILABLE
                                    : ctl_fail(check->v, EXIT_UNAVAILABLE, false, lines);
    } else if (!is_running(check)) {
        code = check_bad(check, NOT_RUNNING, check->node);
    } else if (!check->v->out.silent) {
        (void)check_good(check, check_ok_json(),
                         local ? "Node %s reported no local alarms"
                               : "Node %s reported no alarms, local or clusterwide",
                         check->node);
    }
    json_decref(alarms);
    return code;
}

static int check_local_alarms(const struct check *check)
{
    return check_alarms_of(check, true);
}

static int check_alarms(const struct check *check)
{
    return check_alarms_of(check, false);
}

static int tell_alarms(const struct check *check)
{
    json_t *alarms = alarms_of(check, false);
    char lines[2048];
    json_t *texts = alarm_texts(alarms, lines, sizeof lines);
    int code;
    if (json_array_size(alarms) == 0) {
        code = check_good(
            check, json_pack("{s:[], s:s, s:s}", "alarms", "node", check->node, "result", "ok"),
            "Node %s reported no alarms, local or clusterwide", check->node);
    } else {
        json_t *json =
            json_pack("{s:O, s:s, s:s}", "alarms", texts, "node", check->node, "result", "ok");
        (void)json_object_set_new(json, "message",
                                  json_sprintf("Node %s reported alarms", check->node));
        code = check_good(check, json, "%s", lines);
    }
    json_decref(texts);
    json_decref(alarms);
    return code;
}

/* --- listeners -------------------------------------------------------------------------------- */

/* The names or numbers of all, separated by commas. */
static const char *joined(json_t *listeners, const char *what, char text[512])
{
    size_t i;
    json_t *listener;
    size_t used = 0;
    text[0] = 0;
    json_array_foreach(listeners, i, listener) {
        json_t *value = json_object_get(listener, what);
        const char *comma = used > 0 ? ", " : "";
        const int n = json_is_integer(value) ? snprintf(text + used, 512 - used, "%s%lld", comma,
                                                        (long long)json_integer_value(value))
                                             : snprintf(text + used, 512 - used, "%s%s", comma,
                                                        json_string_value(value));
        used = n > 0 && used + (size_t)n < 512 ? used + (size_t)n : 511;
    }
    return text;
}

static int tell_listeners(const struct check *check)
{
    json_t *listeners = json_object_get(check->status, "listeners");
    if (check->v->out.format == OUTPUT_JSON) {
        return check_good(check,
                          json_pack("{s:O, s:s, s:s}", "listeners", listeners, "node", check->node,
                                    "result", "ok"),
                          "%s", "");
    }
    output_listeners(listeners, false);
    return 0;
}

/* From here, not from the node: where a probe runs is where it matters. */
static int check_connectivity(const struct check *check)
{
    json_t *listeners = json_object_get(check->status, "listeners");
    json_t *failed = json_array();
    char text[512];
    size_t i;
    json_t *listener;
    int code;
    json_array_foreach(listeners, i, listener) {
        if (!ctl_connects(check->node, check_text(listener, "interface"),
                          (int)json_integer_value(json_object_get(listener, "port")),
                          check->v->timeout_s > 0 ? check->v->timeout_s : 30)) {
            (void)json_array_append(failed, listener);
        }
    }
    if (json_array_size(failed) > 0) {
        code =
            check_bad(check, "Connection to ports of the following listeners on node %s failed: %s",
                      check->node, joined(failed, "port", text));
    } else {
        code = check_good(check,
                          json_pack("{s:O, s:s, s:s}", "listeners", listeners, "node", check->node,
                                    "result", "ok"),
                          "Successfully connected to ports %s on node %s.",
                          joined(listeners, "port", text), check->node);
    }
    json_decref(failed);
    return code;
}

static int check_port(const struct check *check)
{
    const char *wanted = check->v->words[1];
    json_t *listeners = json_object_get(check->status, "listeners");
    char text[512];
    size_t i;
    json_t *listener;
    json_array_foreach(listeners, i, listener) {
        if (json_integer_value(json_object_get(listener, "port")) == strtoll(wanted, NULL, 10)) {
            return check_good(
                check,
                json_pack("{s:s, s:s, s:s}", "node", check->node, "port", wanted, "result", "ok"),
                "A listener for port %s is running on node %s.", wanted, check->node);
        }
    }
    return check_bad(
        check,
        "No listener for port %.20s is active on node %s. Found listeners that use the "
        "following ports: %s",
        wanted, check->node, joined(listeners, "port", text));
}

/* Other names that rabbitmq-diagnostics takes for a protocol. */
static const char *protocol_of(const char *name)
{
    static const char *const others[][2] = {{"amqp091", "amqp"},      {"amqp0.9.1", "amqp"},
                                            {"amqp10", "amqp"},       {"amqp1.0", "amqp"},
                                            {"amqps", "amqp/ssl"},    {"amqp/tls", "amqp/ssl"},
                                            {"amqp091s", "amqp/ssl"}, {"amqp10s", "amqp/ssl"}};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (strcasecmp(name, others[i][0]) == 0) {
            return others[i][1];
        }
    }
    return name;
}

static int check_protocol(const struct check *check)
{
    const char *wanted = protocol_of(check->v->words[1]);
    json_t *listeners = json_object_get(check->status, "listeners");
    char text[512];
    size_t i;
    json_t *listener;
    json_array_foreach(listeners, i, listener) {
        const char *protocol = check_text(listener, "protocol");
        if (strcasecmp(protocol, wanted) == 0) {
            return check_good(check,
                              json_pack("{s:s, s:s, s:s}", "node", check->node, "protocol",
                                        protocol, "result", "ok"),
                              "A listener for protocol %s is running on node %s.", protocol,
                              check->node);
        }
    }
    return check_bad(check,
                     "No listener for protocol %.40s is active on node %s. Found listeners for the "
                     "following protocols: %s",
                     wanted, check->node, joined(listeners, "protocol", text));
}

/* --- certificate ------------------------------------------------------------------------------ */

static long long unit_seconds(const char *unit)
{
    static const struct {
        const char *name;
        long long seconds;
    } units[] = {{"days", 86400}, {"weeks", 604800}, {"months", 2592000LL}, {"years", 31536000LL}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(units[i].name, unit) == 0) {
            return units[i].seconds;
        }
    }
    return 0;
}

static int check_expiration(const struct check *check)
{
    const long long within = invocation_count(check->v, O_WITHIN, 4);
    const char *unit = check->v->given[O_UNIT] ? check->v->values[O_UNIT] : "weeks";
    json_t *certificate = json_object_get(check->status, "tls_certificate");
    const char *until = check_text(certificate, "valid_until");
    const time_t end = time(NULL) + (time_t)(within * unit_seconds(unit));
    struct tm tm;
    char text[32];
    (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&end, &tm));
    /* The same form: the order of the texts is that of the times. */
    if (until[0] != 0 && strcmp(until, text) <= 0) {
        return check_bad(check, "The certificate %.300s of node %s expires within %lld %s: %s",
                         check_text(certificate, "file"), check->node, within, unit, until);
    }
    return check_good(check, check_ok_json(), "No certificates are expiring within %lld %s.",
                      within, unit);
}

/* --- what the node says of itself ------------------------------------------------------------- */

static int tell_version(const struct check *check)
{
    const char *version = check_text(check->status, "rabbitmq_version");
    return check_good(check, json_pack("{s:s, s:s}", "result", "ok", "value", version), "%s",
                      version);
}

static int tell_memory(const struct check *check)
{
    if (check->v->out.format == OUTPUT_JSON) {
        output_json(json_object_get(check->status, "memory"));
    } else {
        output_memory_parts(&check->v->out, check->status, "%");
    }
    return 0;
}

static int tell_log(const struct check *check)
{
    json_t *files = json_object_get(check->status, "log_files");
    return check_good(
        check,
        json_pack("{s:s, s:s, s:O}", "node_name", check->node, "result", "ok", "paths", files),
        "%s", json_string_value(json_array_get(files, 0)));
}

/* --- the commands ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(const struct check *check);
} checks[] = {{"alarms", tell_alarms},
              {"check_alarms", check_alarms},
              {"check_certificate_expiration", check_expiration},
              {"check_if_node_is_mirror_sync_critical", check_mirrors},
              {"check_if_node_is_quorum_critical", check_quorum},
              {"check_local_alarms", check_local_alarms},
              {"check_port_connectivity", check_connectivity},
              {"check_port_listener", check_port},
              {"check_protocol_listener", check_protocol},
              {"check_running", check_running},
              {"check_virtual_hosts", check_vhosts},
              {"is_booting", tell_booting},
              {"is_running", tell_running},
              {"listeners", tell_listeners},
              {"log_location", tell_log},
              {"memory_breakdown", tell_memory},
              {"server_version", tell_version}};

bool check_is_number(const char *text)
{
    return text[0] >= '1' && text[0] <= '9' && text[strspn(text, "0123456789")] == 0 &&
           strlen(text) <= 5;
}

static void check_arguments(const struct invocation *v, const struct command *c)
{
    if (strcmp(c->name, "check_port_listener") == 0 && !check_is_number(v->words[1])) {
        invocation_refuse(v, c, EXIT_DATA, "Bad argument: Argument must be a positive integer");
    }
    if (strcmp(c->name, "check_certificate_expiration") == 0 && v->given[O_UNIT] &&
        unit_seconds(v->values[O_UNIT]) == 0) {
        char what[200];
        (void)snprintf(what, sizeof what,
                       "\"unit '%.100s' is not supported. Please use one of: days, weeks, months, "
                       "years\"",
                       v->values[O_UNIT]);
        invocation_refuse(v, c, EXIT_USAGE, what);
    }
}

int ctl_check(struct invocation *v, const struct command *c)
{
    int code = 0;
    size_t i = 0;
    check_arguments(v, c);
    json_t *reply = check_ask(v, json_pack("{s:s}", "command", "status"), &code);
    if (reply == NULL) {
        return code;
    }
    const struct check check = {
        .v = v, .status = json_object_get(reply, "result"), .node = v->ctl.node};
    while (strcmp(checks[i].name, c->name) != 0) {
        i++; /* every command of this kind is in the table */
    }
    ctl_banner(v, c);
    code = checks[i].run(&check);
    json_decref(reply);
    return code;
}
