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

int check_failed(const struct check *check, json_t *owned_json, bool bare, const char *text)
{
    if (check->v->out.format != OUTPUT_JSON) {
        json_decref(owned_json);
        return ctl_fail(check->v, EXIT_UNAVAILABLE, bare, text);
    }
    (void)json_object_set_new(owned_json, "result", json_string("error"));
    (void)fflush(stdout);
    (void)json_dumpf(owned_json, stderr, JSON_COMPACT);
    (void)fputc('\n', stderr);
    json_decref(owned_json);
    return EXIT_UNAVAILABLE;
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

bool check_started(const struct check *check, int *ret_code)
{
    if (!is_running(check)) {
        *ret_code = check_bad(check, NOT_RUNNING, check->node);
    }
    return is_running(check);
}

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

/* "Memory alarm on node a". */
static json_t *alarm_texts(json_t *alarms)
{
    json_t *texts = json_array();
    size_t i;
    json_t *alarm;
    json_array_foreach(alarms, i, alarm) {
        (void)json_array_append_new(
            texts, json_sprintf("%s on node %s", alarm_title(alarm), check_text(alarm, "node")));
    }
    return texts;
}

/* One a line. */
static const char *joined_lines(json_t *texts, char lines[2048])
{
    size_t i;
    size_t used = 0;
    json_t *text;
    lines[0] = 0;
    json_array_foreach(texts, i, text) {
        const int n =
            snprintf(lines + used, 2048 - used, "%s%s", i > 0 ? "\n" : "", json_string_value(text));
        used = n > 0 && used + (size_t)n < 2048 ? used + (size_t)n : 2047;
    }
    return lines;
}

/* What the JSON formatter shows of alarms that are there. */
static json_t *alarms_json(const struct check *check, bool local_only)
{
    json_t *all = alarms_of(check, false);
    json_t *local = json_array();
    json_t *others = json_array();
    size_t i;
    json_t *alarm;
    json_array_foreach(all, i, alarm) {
        const bool own = strcmp(check_text(alarm, "node"), check->node) == 0;
        (void)json_array_append(own ? local : others, alarm);
    }
    json_t *json = json_object();
    (void)json_object_set_new(
        json, "message",
        json_sprintf(local_only ? "Node %s reported local alarms" : "Node %s reported alarms",
                     check->node));
    (void)json_object_set_new(json, "local", alarm_texts(local));
    if (!local_only) {
        (void)json_object_set_new(json, "global", alarm_texts(others));
    }
    json_decref(all);
    json_decref(local);
    json_decref(others);
    return json;
}

static int check_alarms_of(const struct check *check, bool local)
{
    json_t *alarms = alarms_of(check, local);
    json_t *texts = alarm_texts(alarms);
    char lines[2048];
    int code = 0;
    if (json_array_size(alarms) > 0) {
        code = check->v->out.silent ? EXIT_UNAVAILABLE
                                    : check_failed(check, alarms_json(check, local), !local,
                                                   joined_lines(texts, lines));
    } else if (!is_running(check)) {
        code = check_bad(check, NOT_RUNNING, check->node);
    } else if (!check->v->out.silent) {
        (void)check_good(check, check_ok_json(),
                         local ? "Node %s reported no local alarms"
                               : "Node %s reported no alarms, local or clusterwide",
                         check->node);
    }
    json_decref(texts);
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
    int not_started = 0;
    if (!check_started(check, &not_started)) {
        return not_started;
    }
    json_t *alarms = alarms_of(check, false);
    json_t *texts = alarm_texts(alarms);
    char lines[2048];
    int code;
    if (json_array_size(alarms) == 0) {
        code = check_good(
            check, json_pack("{s:[], s:s, s:s}", "alarms", "node", check->node, "result", "ok"),
            "Node %s reported no alarms, local or clusterwide", check->node);
    } else {
        json_t *json = alarms_json(check, false);
        (void)json_object_set_new(json, "result", json_string("ok"));
        code = check_good(check, json, "%s", joined_lines(texts, lines));
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
        char what[1024];
        (void)snprintf(what, sizeof what,
                       "Connection to ports of the following listeners on node %.256s failed: %s",
                       check->node, joined(failed, "port", text));
        code = check_failed(check, json_pack("{s:O}", "failures", failed), false, what);
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

/* No listener has that port or protocol: those that there are, and theirs. */
static json_t *missing_json(json_t *listeners, const char *wanted, const char *what)
{
    json_t *found = json_array();
    json_t *json = json_pack("{s:O, s:s}", "listeners", listeners, "missing", wanted);
    size_t i;
    json_t *listener;
    json_array_foreach(listeners, i, listener) {
        (void)json_array_append(found, json_object_get(listener, what));
    }
    (void)json_object_set_new(json, strcmp(what, "port") == 0 ? "ports" : "protocols", found);
    return json;
}

static int check_port(const struct check *check)
{
    char what[1024];
    const char *wanted = check->v->words[1];
    json_t *listeners = json_object_get(check->status, "listeners");
    char text[512];
    size_t i;
    json_t *listener;
    int code = 0;
    if (!check_started(check, &code)) {
        return code; /* what it will listen on is known before it does */
    }
    json_array_foreach(listeners, i, listener) {
        if (json_integer_value(json_object_get(listener, "port")) == strtoll(wanted, NULL, 10)) {
            return check_good(
                check,
                json_pack("{s:s, s:s, s:s}", "node", check->node, "port", wanted, "result", "ok"),
                "A listener for port %s is running on node %s.", wanted, check->node);
        }
    }
    (void)snprintf(what, sizeof what,
                   "No listener for port %.20s is active on node %.256s. Found listeners that use "
                   "the following ports: %s",
                   wanted, check->node, joined(listeners, "port", text));
    return check_failed(check, missing_json(listeners, wanted, "port"), false, what);
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
    char what[1024];
    const char *wanted = protocol_of(check->v->words[1]);
    json_t *listeners = json_object_get(check->status, "listeners");
    char text[512];
    size_t i;
    json_t *listener;
    int code = 0;
    if (!check_started(check, &code)) {
        return code; /* what it will listen on is known before it does */
    }
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
    (void)snprintf(what, sizeof what,
                   "No listener for protocol %.40s is active on node %.256s. Found listeners for "
                   "the following protocols: %s",
                   wanted, check->node, joined(listeners, "protocol", text));
    return check_failed(check, missing_json(listeners, wanted, "protocol"), false, what);
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
              {"await_online_quorum_plus_one", await_quorum},
              {"await_online_synchronized_mirror", await_mirrors},
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
