/*
 * What: warrenctl: rabbitmqctl's commands and output for a Warren node. Exit codes follow sysexits
 * as rabbitmqctl's do: 0 ok, 64 usage, 65 data, 69 unavailable, 75 time-out.
 */
#include <errno.h>
#include <jansson.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "invocation.h"

/* The command; NULL when its help was asked for and shown. */
static const struct command *choose_command(const struct invocation *v)
{
    bool helping = v->word_count > 0 && strcmp(v->words[0], "help") == 0;
    const char *word = helping ? v->words[1] : v->words[0];
    if (word == NULL) {
        command_usage(helping || v->help ? stdout : stderr, NULL);
        if (helping || v->help) {
            return NULL;
        }
        exit(EXIT_USAGE);
    }
    const struct command *c = command_find(word);
    if (c == NULL) {
        const struct command *near = command_nearest(word);
        const char *instead = command_absent(word);
        if (instead != NULL) {
            (void)fprintf(stderr, "Error:\nThere is no '%s' in Warren: %s\n", word, instead);
            exit(EXIT_UNAVAILABLE);
        }
        (void)fprintf(stderr, "\nCommand '%s' not found. \n", word);
        if (near != NULL) {
            (void)fprintf(stderr, "Did you mean '%s'? \n", near->name);
        } else {
            command_usage(stderr, NULL);
        }
        exit(EXIT_USAGE);
    }
    if (helping || v->help) {
        command_help(stdout, c);
        return NULL;
    }
    return c;
}

/* --- columns ------------------------------------------------------------------------------------
 */

static bool in_words(const char *words, const char *word, size_t size)
{
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += size) {
        if ((at == words || at[-1] == ' ') && (at[size] == ' ' || at[size] == 0)) {
            return true;
        }
    }
    return false;
}

static bool has_column(json_t *columns, const char *name)
{
    size_t i;
    json_t *column;
    json_array_foreach(columns, i, column) {
        if (strcmp(json_string_value(column), name) == 0) {
            return true;
        }
    }
    return false;
}

/* All of the command's columns that were asked for, in its own order. */
static json_t *in_fixed_order(const struct command *c, json_t *owned_columns)
{
    json_t *all = json_array();
    json_t *columns = json_array();
    size_t i;
    json_t *column;
    output_add_words(all, c->all, " ");
    json_array_foreach(all, i, column) {
        if (has_column(owned_columns, json_string_value(column))) {
            (void)json_array_append(columns, column);
        }
    }
    json_decref(all);
    json_decref(owned_columns);
    return columns;
}

static void put_in_order(json_t *names, json_t *name)
{
    size_t at = 0;
    while (at < json_array_size(names) &&
           strcmp(json_string_value(json_array_get(names, at)), json_string_value(name)) < 0) {
        at++;
    }
    (void)json_array_insert(names, at, name);
}

static _Noreturn void refuse_columns(const struct command *c, const struct invocation *v,
                                     json_t *unknown)
{
    char names[400] = "";
    char what[512];
    size_t i;
    json_t *name;
    json_array_foreach(unknown, i, name) {
        const size_t used = strlen(names);
        (void)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? "," : "",
                       json_string_value(name));
    }
    (void)snprintf(what, sizeof what, "Info key(s) %s are not supported", names);
    invocation_refuse(v, c, EXIT_USAGE, what);
}

/* Columns asked for, or the default ones, as a JSON array; unknown ones end the program. */
static json_t *choose_columns(const struct command *c, const struct invocation *v)
{
    json_t *columns = json_array();
    size_t i;
    json_t *column;
    for (int k = 1; k < v->word_count; k++) {
        output_add_words(columns, v->words[k], ",");
    }
    json_t *unknown = json_array();
    json_array_foreach(columns, i, column) {
        if (!in_words(c->all, json_string_value(column), json_string_length(column))) {
            put_in_order(unknown, column);
        }
    }
    if (json_array_size(unknown) > 0) {
        refuse_columns(c, v, unknown);
    }
    json_decref(unknown);
    if (json_array_size(columns) == 0) {
        output_add_words(columns, c->columns, " ");
    }
    return c->fixed_order ? in_fixed_order(c, columns) : columns;
}

/* Of a command that the node carries out: unknown ones end the program. */
static void check_columns(const struct invocation *v, const struct command *c)
{
    if (c->picks) {
        json_decref(choose_columns(c, v));
    }
}

/* --- output ---------------------------------------------------------------------------------- */

static void banner(const struct invocation *v, const struct command *c)
{
    if (strcmp(c->name, "list_queues") == 0) {
        ctl_say(v, "Timeout: %d.0 seconds ...", v->ctl.timeout_s);
    }
    ctl_banner(v, c);
}

/* --online, --offline and --local of list_queues: a queue is kept when one of them that was given
 * holds for it. */
static void filter_queues(const struct invocation *v, json_t *rows, bool unresponsive)
{
    const bool online = v->given[O_ONLINE];
    const bool offline = v->given[O_OFFLINE] || unresponsive;
    const bool local = v->given[O_LOCAL] && !unresponsive;
    if (!online && !offline && !local) {
        return;
    }
    for (size_t i = json_array_size(rows); i-- > 0;) {
        json_t *row = json_array_get(rows, i);
        const char *state = json_string_value(json_object_get(row, "state"));
        const char *leader = json_string_value(json_object_get(row, "leader"));
        bool down = state != NULL && strcmp(state, "down") == 0;
        if (!(online && !down) && !(offline && down) &&
            !(local && leader != NULL && strcmp(leader, v->ctl.node) == 0)) {
            (void)json_array_remove(rows, i);
        }
    }
}

/* What a node that does not run yet says is shown; probes look at the exit code. */
static int judge_state(const struct invocation *v, json_t *status)
{
    char text[600];
    const char *state = json_string_value(json_object_get(status, "state"));
    if (state == NULL || strcmp(state, "running") == 0) {
        return 0;
    }
    (void)snprintf(text, sizeof text, "node %s is not running yet: %.400s", v->ctl.node, state);
    return ctl_fail(v, EXIT_USAGE, false, text);
}

static int show(const struct command *c, const struct invocation *v, json_t *columns, json_t *reply)
{
    json_t *result = json_object_get(reply, "result");
    const bool unresponsive = strcmp(c->name, "list_unresponsive_queues") == 0;
    if (json_object_get(reply, "error") != NULL) {
        return ctl_fail_reply(v, reply);
    }
    if (columns != NULL) {
        filter_queues(v, result, unresponsive);
        output_rows(&v->out, columns, result);
        ctl_warn_stale(reply);
        ctl_warn_missing(reply);
    } else if (json_is_string(result)) {
        output_text(&v->out, v->ctl.node, json_string_value(result));
    } else if (strcmp(c->name, "cluster_status") == 0) {
        output_cluster_status(&v->out, result);
        return judge_state(v, result);
    } else {
        output_status(&v->out, result);
        return judge_state(v, result);
    }
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------
 */

/* A node that is starting does not answer yet, and has not left its note: that is what is waited
 * for. */
static char *ask(struct invocation *v, const char *name, const char *request, char *errmsg)
{
    bool waiting = strcmp(name, "await_startup") == 0;
    time_t begun = time(NULL);
    for (;;) {
        char *answer = ctl_ask(&v->ctl, request, strcmp(name, "stop") == 0, errmsg);
        if (answer != NULL || !waiting || time(NULL) - begun >= v->ctl.timeout_s) {
            return answer;
        }
        ctl_pause_ms(100);
    }
}

/* The process that a PID file names; 0 when it names none. */
static pid_t read_pid_file(const char *path)
{
    FILE *file = fopen(path, "r");
    long pid = 0;
    if (file != NULL) {
        if (fscanf(file, "%ld", &pid) != 1 || pid < 2 || pid > INT32_MAX) {
            pid = 0;
        }
        (void)fclose(file);
    }
    return (pid_t)pid;
}

static int wait_for_end(const struct invocation *v, pid_t pid)
{
    time_t begun = time(NULL);
    while (kill(pid, 0) == 0 || errno == EPERM) {
        if (time(NULL) - begun >= v->ctl.timeout_s) {
            return ctl_fail(v, EXIT_TEMPORARY, false, "the node's process has not ended in time");
        }
        ctl_pause_ms(100);
    }
    return 0;
}

static char *build_request(struct invocation *v, const struct command *c, json_t *columns)
{
    const bool unresponsive = strcmp(c->name, "list_unresponsive_queues") == 0;
    json_t *request = json_pack("{s:s}", "command", unresponsive ? "list_queues" : c->name);
    bool waiting = strcmp(c->name, "await_startup") == 0;
    if (c->per_vhost) {
        (void)json_object_set_new(request, "vhost", json_string(v->vhost));
    }
    if (has_column(columns, "exclusive_consumer_pid") ||
        has_column(columns, "exclusive_consumer_tag")) {
        (void)json_object_set_new(request, "consumers", json_true()); /* costs more */
    }
    if (has_column(columns, "head_message_timestamp")) {
        (void)json_object_set_new(request, "head", json_true()); /* may be read from disk */
    }
    if (strcmp(c->name, "list_queues") == 0 && has_column(columns, "state")) {
        (void)json_object_set_new(request, "flow",
                                  json_true()); /* channels of all nodes are asked */
    }
    if (unresponsive) {
        (void)json_object_set_new(request, "queue_timeout",
                                  json_integer(invocation_count(v, O_QUEUE_TIMEOUT, 3000)));
    }
    ctl_put_timeout(v, request);
    if (waiting) {
        v->ctl.timeout_s = v->timeout_s > 0 ? v->timeout_s : 300;
        /* The node's answer, which says what it waits for, has to come before our time is up. */
        (void)json_object_set_new(
            request, "timeout",
            json_integer(v->ctl.timeout_s > 1 ? v->ctl.timeout_s - 1 : v->ctl.timeout_s));
    }
    char *text = json_dumps(request, JSON_COMPACT);
    json_decref(request);
    return text;
}

static int run(struct invocation *v, const struct command *c)
{
    char errmsg[512] = "";
    json_t *columns = c->columns != NULL ? choose_columns(c, v) : NULL;
    char *request = build_request(v, c, columns);
    const char *pid_file = c->columns == NULL && v->word_count > 1 ? v->words[1] : NULL;
    pid_t pid = pid_file != NULL ? read_pid_file(pid_file) : 0;
    int code = 0;
    if (pid_file != NULL && pid == 0) {
        (void)snprintf(errmsg, sizeof errmsg, "could not read a process id from %.300s", pid_file);
        code = ctl_fail(v, EXIT_DATA, false, errmsg);
    } else {
        bool ping = strcmp(c->name, "ping") == 0; /* says what it will do; the others what it is */
        if (ping) {
            banner(v, c);
        }
        char *answer = ask(v, c->name, request, errmsg);
        json_t *reply = answer != NULL ? json_loads(answer, JSON_ALLOW_NUL, NULL) : NULL;
        if (answer == NULL && v->given[O_IDEMPOTENT]) {
            output_text(&v->out, v->ctl.node, "the node is not running");
        } else if (answer == NULL) {
            code = ctl_fail_unreachable(v, errmsg);
        } else if (reply == NULL) {
            code = ctl_fail(v, EXIT_SOFTWARE, false, "the node's answer is not JSON");
        } else {
            if (!ping && json_object_get(reply, "error") == NULL) {
                banner(v, c);
            }
            code = show(c, v, columns, reply);
        }
        if (code == 0 && pid != 0) {
            code = wait_for_end(v, pid);
        }
        json_decref(reply);
        free(answer);
    }
    free(request);
    json_decref(columns);
    return code;
}

/* RABBITMQ_NODENAME counts when --node was not given; a name without host is of this host. */
static void choose_node(struct invocation *v)
{
    if (v->ctl.node == NULL) {
        v->ctl.node = getenv("RABBITMQ_NODENAME");
    }
    v->ctl.any_node = v->ctl.node == NULL && v->ctl.config != NULL;
    if (v->ctl.node == NULL) {
        v->ctl.node = "warren1@localhost";
    }
    if (strchr(v->ctl.node, '@') == NULL) {
        char host[256] = "localhost";
        (void)gethostname(host, sizeof host - 1);
        host[strcspn(host, ".")] = 0;
        (void)snprintf(v->node, sizeof v->node, "%.60s@%s", v->ctl.node, host);
        v->ctl.node = v->node;
    }
}

static int dispatch(struct invocation *v, const struct command *c)
{
    switch (c->kind) {
    case COMMAND_ADMIN:
        check_columns(v, c);
        ctl_check_setting(v, c);
        return ctl_admin(v, c);
    case COMMAND_CLOSE:
        return ctl_close(v, c);
    case COMMAND_MESSAGES:
        return ctl_messages(v, c);
    case COMMAND_REPORT:
        return ctl_report(v, dispatch);
    case COMMAND_CHECK:
        return ctl_check(v, c);
    case COMMAND_WAIT:
        return ctl_wait(v, c);
    case COMMAND_REPLICAS:
        return ctl_replicas(v, c);
    case COMMAND_OWN:
        break;
    }
    return strcmp(c->name, "await_online_nodes") == 0 ? ctl_await_nodes(v, c) : run(v, c);
}

static int show_version(void)
{
    (void)printf("4.1.0\n");
    return 0;
}

/* Who asks for a list into a file must not take half of it for all of it. */
static int written(const struct invocation *v, int code)
{
    char text[256];
    const bool flushed = fflush(stdout) == 0;
    if (flushed && ferror(stdout) == 0) {
        return code;
    }
    (void)snprintf(text, sizeof text, "standard output: %s",
                   flushed ? "not all of it could be written" : strerror(errno));
    const int failed = ctl_fail(v, EXIT_IO, false, text);
    return code != 0 ? code : failed;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int complete(const char *prefix)
{
    const char *names[256]; /* more than there are commands: the table is in the program */
    size_t count = 0;
    const struct command *c;
    for (size_t i = 0; (c = command_at(i)) != NULL && count < sizeof names / sizeof names[0]; i++) {
        if (strncmp(c->name, prefix, strlen(prefix)) == 0) {
            names[count++] = c->name;
        }
    }
    qsort(names, count, sizeof names[0], by_text);
    for (size_t i = 0; i < count; i++) {
        (void)puts(names[i]);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct invocation v = {.argc = argc, .argv = argv, .vhost = "/"};
    invocation_parse(&v);
    if (v.version && v.argc == 2) {
        return show_version();
    }
    const struct command *c = choose_command(&v);
    if (c == NULL) {
        return 0;
    }
    choose_node(&v);
    invocation_check(&v, c);
    v.out.unit = v.values[O_UNIT];
    if (strcmp(c->name, "version") == 0) {
        return show_version();
    }
    if (strcmp(c->name, "autocomplete") == 0) {
        return complete(v.words[1]);
    }
    if (v.no_time) {
        v.ctl.timed_out = true;
        return ctl_fail_unreachable(&v, "");
    }
    if (v.given[O_DRY_RUN] && (c->options & OPTION_BIT(DRY_RUN)) == 0) {
        ctl_admin_banner(&v, c); /* what would be done */
        return written(&v, 0);
    }
    return written(&v, dispatch(&v, c));
}
