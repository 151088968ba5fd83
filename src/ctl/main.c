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

#include "commands.h"
#include "connect.h"
#include "output.h"

enum { EXIT_USAGE = 64, EXIT_DATA = 65, EXIT_UNAVAILABLE = 69, WORDS_MAX = 128 };

struct invocation {
    struct ctl_options ctl;
    struct output_options out;
    const char *vhost;
    char node[320];         /* when the name was given without a host */
    const char *invalid[2]; /* the first option that makes no sense, and its value */
    const char *words[WORDS_MAX];
    int word_count;
    int timeout_s; /* 0 = not given */
    bool idempotent, help, online, offline, local;
    int argc;
    char **argv;
};

/* --- the command line ---------------------------------------------------------------------------
 */

/* Says what is wrong with the command line, shows it and the usage. */
static _Noreturn void refuse(const struct invocation *v, const struct command *c, const char *what)
{
    (void)fprintf(stderr, "Error (argument validation): %s\nArguments given:\n\t", what);
    for (int i = 1; i < v->argc; i++) {
        (void)fprintf(stderr, "%s%s", i == 1 ? "" : " ", v->argv[i]);
    }
    (void)fputc('\n', stderr);
    command_usage(stderr, c);
    exit(EXIT_USAGE);
}

static void mark_invalid(struct invocation *v, const char *option, const char *value)
{
    if (v->invalid[0] == NULL) {
        v->invalid[0] = option;
        v->invalid[1] = value != NULL ? value : "";
    }
}

/* An option at argv[*i], as "-o value", "--option value" or "--option=value". */
struct option {
    const char *text;
    size_t name_size;
    const char *attached; /* what follows '=', or NULL */
};

static bool is(const struct option *o, const char *brief, const char *full)
{
    return (brief != NULL && strlen(brief) == o->name_size &&
            strncmp(o->text, brief, o->name_size) == 0) ||
           (strlen(full) == o->name_size && strncmp(o->text, full, o->name_size) == 0);
}

static const char *value_of(struct invocation *v, const struct option *o, int *i)
{
    if (o->attached != NULL) {
        return o->attached;
    }
    if (*i + 1 >= v->argc) {
        mark_invalid(v, o->text, NULL);
        return "";
    }
    return v->argv[++*i];
}

static void parse_timeout(struct invocation *v, const struct option *o, const char *text)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != 0 || value < 1 || value > 86400) {
        mark_invalid(v, o->text, text);
        return;
    }
    v->timeout_s = (int)value;
}

static bool parse_value(struct invocation *v, const struct option *o, int *i)
{
    if (is(o, "-n", "--node")) {
        v->ctl.node = value_of(v, o, i);
    } else if (is(o, "-p", "--vhost")) {
        v->vhost = value_of(v, o, i);
    } else if (is(o, NULL, "--config")) {
        v->ctl.config = value_of(v, o, i);
    } else if (is(o, NULL, "--erlang-cookie")) {
        v->ctl.cookie = value_of(v, o, i);
    } else if (is(o, "-t", "--timeout")) {
        parse_timeout(v, o, value_of(v, o, i));
    } else if (is(o, NULL, "--formatter")) {
        const char *name = value_of(v, o, i);
        if (!output_parse_format(name, &v->out.format)) {
            mark_invalid(v, o->text, name);
        }
    } else if (is(o, NULL, "--script-name")) {
        (void)value_of(v, o, i); /* for rabbitmqctl's wrappers */
    } else {
        return false;
    }
    return true;
}

static void parse_option(struct invocation *v, int *i)
{
    const char *text = v->argv[*i];
    struct option o = {text, strcspn(text, "="), strchr(text, '=')};
    o.attached = o.attached != NULL ? o.attached + 1 : NULL;
    if (parse_value(v, &o, i)) {
        return;
    }
    const struct {
        const char *brief, *full;
        bool *flag, *also;
    } switches[] = {{"-q", "--quiet", &v->out.quiet, NULL},
                    {"-s", "--silent", &v->out.quiet, &v->out.no_headers},
                    {NULL, "--no-table-headers", &v->out.no_headers, NULL},
                    {NULL, "--idempotent", &v->idempotent, NULL},
                    {NULL, "--online", &v->online, NULL},
                    {NULL, "--offline", &v->offline, NULL},
                    {NULL, "--local", &v->local, NULL},
                    {"-?", "--help", &v->help, NULL},
                    {"-l", "--longnames", NULL, NULL}, /* names are taken as they are */
                    {NULL, "--print-stacktrace", NULL, NULL}};
    for (size_t k = 0; k < sizeof switches / sizeof switches[0]; k++) {
        if (is(&o, switches[k].brief, switches[k].full) && o.attached == NULL) {
            *(switches[k].flag != NULL ? switches[k].flag : &(bool){false}) = true;
            *(switches[k].also != NULL ? switches[k].also : &(bool){false}) = true;
            return;
        }
    }
    mark_invalid(v, text, NULL);
}

static void parse(struct invocation *v)
{
    bool options = true;
    for (int i = 1; i < v->argc; i++) {
        if (options && strcmp(v->argv[i], "--") == 0) {
            options = false;
        } else if (options && v->argv[i][0] == '-' && v->argv[i][1] != 0) {
            parse_option(v, &i);
        } else if (v->word_count == WORDS_MAX) {
            mark_invalid(v, v->argv[i], "too many arguments");
        } else {
            v->words[v->word_count++] = v->argv[i];
        }
    }
}

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
        (void)fprintf(stderr, "\nCommand '%s' not found. \n", word);
        if (near != NULL) {
            (void)fprintf(stderr, "Did you mean '%s'? \n", near->name);
        } else {
            command_usage(stderr, NULL);
        }
        exit(EXIT_USAGE);
    }
    if (helping || v->help) {
        command_usage(stdout, c);
        return NULL;
    }
    return c;
}

static void check(const struct invocation *v, const struct command *c)
{
    char what[512];
    int words_max = strcmp(c->name, "stop") == 0 ? 2 : 1;
    const char *invalid = v->invalid[0];
    if (invalid == NULL && strcmp(c->name, "list_queues") != 0 &&
        (v->online || v->offline || v->local)) {
        invalid = v->online ? "--online" : v->offline ? "--offline" : "--local";
    }
    if (invalid == NULL && v->idempotent && strcmp(c->name, "stop") != 0) {
        invalid = "--idempotent";
    }
    if (invalid != NULL) {
        (void)snprintf(what, sizeof what, "Invalid options for this command:\n%.200s : %.200s",
                       invalid, v->invalid[1] != NULL ? v->invalid[1] : "");
        refuse(v, c, what);
    }
    if (c->columns == NULL && v->word_count > words_max) {
        refuse(v, c, "too many arguments.");
    }
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

/* Splits at a separator; empty parts are left out. */
static void add_words(json_t *list, const char *words, const char *separator)
{
    for (const char *at = words; *at != 0;) {
        size_t size = strcspn(at, separator);
        if (size > 0) {
            (void)json_array_append_new(list, json_stringn(at, size));
        }
        at += size + (at[size] != 0);
    }
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
    add_words(all, c->all, " ");
    json_array_foreach(all, i, column) {
        if (has_column(owned_columns, json_string_value(column))) {
            (void)json_array_append(columns, column);
        }
    }
    json_decref(all);
    json_decref(owned_columns);
    return columns;
}

/* Columns asked for, or the default ones, as a JSON array; unknown ones end the program. */
static json_t *choose_columns(const struct command *c, const struct invocation *v)
{
    json_t *columns = json_array();
    char unknown[400] = "";
    size_t i;
    json_t *column;
    for (int k = 1; k < v->word_count; k++) {
        add_words(columns, v->words[k], ",");
    }
    json_array_foreach(columns, i, column) {
        const char *name = json_string_value(column);
        if (!in_words(c->all, name, json_string_length(column))) {
            size_t used = strlen(unknown);
            (void)snprintf(unknown + used, sizeof unknown - used, "%s%s", used > 0 ? "," : "",
                           name);
        }
    }
    if (unknown[0] != 0) {
        char what[512];
        (void)snprintf(what, sizeof what, "Info key(s) %s are not supported", unknown);
        json_decref(columns);
        refuse(v, c, what);
    }
    if (json_array_size(columns) == 0) {
        add_words(columns, c->columns, " ");
    }
    return c->fixed_order ? in_fixed_order(c, columns) : columns;
}

/* --- output -------------------------------------------------------------------------------------
 */

static int fail(const struct invocation *v, int code, const char *text)
{
    if (v->out.format == OUTPUT_JSON) {
        json_t *error =
            json_pack("{s:s, s:s, s:s}", "error", text, "node", v->ctl.node, "result", "error");
        (void)json_dumpf(error, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(error);
    }
    (void)fprintf(stderr, "Error:\n%s\n", text);
    return code;
}

/* No answer: said in the words that scripts look for. */
static int fail_unreachable(const struct invocation *v, const char *why)
{
    if (v->out.format == OUTPUT_JSON) {
        json_t *error = json_pack("{s:s, s:s, s:s, s:s}", "error", "nodedown", "message", why,
                                  "node", v->ctl.node, "result", "error");
        (void)json_dumpf(error, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(error);
    }
    (void)fprintf(stderr,
                  "Error: unable to perform an operation on node '%s'. Please see diagnostics "
                  "information and suggestions below.\n\nDIAGNOSTICS\n===========\n\nattempted to "
                  "contact: [%s]\n\n%s:\n  * %s\n",
                  v->ctl.node, v->ctl.node, v->ctl.node, why);
    return EXIT_UNAVAILABLE;
}

static void banner(const struct command *c, const struct invocation *v)
{
    if (v->out.quiet || c->banner == NULL || output_is_for_machines(v->out.format)) {
        return;
    }
    if (strcmp(c->name, "list_queues") == 0) {
        (void)printf("Timeout: %d.0 seconds ...\n", v->ctl.timeout_s);
    }
    const char *subject = c->per_vhost ? v->vhost : v->ctl.node;
    for (const char *at = c->banner; *at != 0; at++) {
        if (at[0] == '%' && at[1] == 's') {
            (void)fputs(subject, stdout);
            at++;
        } else {
            (void)putchar(*at);
        }
    }
    (void)putchar('\n');
}

/* --online, --offline and --local of list_queues: a queue is kept when one of them that was given
 * holds for it. */
static void filter_queues(const struct invocation *v, json_t *rows)
{
    if (!v->online && !v->offline && !v->local) {
        return;
    }
    for (size_t i = json_array_size(rows); i-- > 0;) {
        json_t *row = json_array_get(rows, i);
        const char *state = json_string_value(json_object_get(row, "state"));
        const char *leader = json_string_value(json_object_get(row, "leader"));
        bool down = state != NULL && strcmp(state, "down") == 0;
        if (!(v->online && !down) && !(v->offline && down) &&
            !(v->local && leader != NULL && strcmp(leader, v->ctl.node) == 0)) {
            (void)json_array_remove(rows, i);
        }
    }
}

static int show(const struct command *c, const struct invocation *v, json_t *columns, json_t *reply)
{
    json_t *result = json_object_get(reply, "result");
    json_t *error = json_object_get(reply, "error");
    if (error != NULL) {
        return fail(v, (int)json_integer_value(json_object_get(reply, "code")),
                    json_string_value(error));
    }
    if (columns != NULL) {
        filter_queues(v, result);
        output_rows(&v->out, columns, result);
        json_int_t missing = json_integer_value(json_object_get(reply, "missing"));
        if (missing > 0) {
            (void)fprintf(stderr,
                          "Warning: %d part(s) of the cluster did not answer in time; the listing "
                          "is not complete\n",
                          (int)missing);
        }
    } else if (json_is_string(result)) {
        output_text(&v->out, v->ctl.node, json_string_value(result));
    } else if (strcmp(c->name, "cluster_status") == 0) {
        output_cluster_status(&v->out, result);
    } else {
        output_status(&v->out, result);
    }
    return 0;
}

/* --- asking -------------------------------------------------------------------------------------
 */

static void pause_briefly(void)
{
    (void)nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
}

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
        pause_briefly();
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
            return fail(v, 75, "the node's process has not ended in time");
        }
        pause_briefly();
    }
    return 0;
}

static char *build_request(struct invocation *v, const struct command *c, json_t *columns)
{
    json_t *request = json_pack("{s:s}", "command", c->name);
    bool waiting = strcmp(c->name, "await_startup") == 0;
    if (c->per_vhost) {
        (void)json_object_set_new(request, "vhost", json_string(v->vhost));
    }
    if (has_column(columns, "exclusive_consumer_pid") ||
        has_column(columns, "exclusive_consumer_tag")) {
        (void)json_object_set_new(request, "consumers", json_true()); /* costs more */
    }
    if (strcmp(c->name, "list_queues") == 0 && has_column(columns, "state")) {
        (void)json_object_set_new(request, "flow",
                                  json_true()); /* channels of all nodes are asked */
    }
    v->ctl.timeout_s = v->timeout_s > 0 ? v->timeout_s : waiting ? 300 : 60;
    if (waiting) {
        (void)json_object_set_new(request, "timeout", json_integer(v->ctl.timeout_s));
        v->ctl.timeout_s += 5;
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
        code = fail(v, EXIT_DATA, errmsg);
    } else {
        bool ping = strcmp(c->name, "ping") == 0; /* says what it will do; the others what it is */
        if (ping) {
            banner(c, v);
        }
        char *answer = ask(v, c->name, request, errmsg);
        json_t *reply = answer != NULL ? json_loads(answer, 0, NULL) : NULL;
        if (answer == NULL && v->idempotent) {
            output_text(&v->out, v->ctl.node, "the node is not running");
        } else if (answer == NULL) {
            code = fail_unreachable(v, errmsg);
        } else if (reply == NULL) {
            code = fail(v, 70, "the node's answer is not JSON");
        } else {
            if (!ping && json_object_get(reply, "error") == NULL) {
                banner(c, v);
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

int main(int argc, char **argv)
{
    struct invocation v = {.argc = argc, .argv = argv, .vhost = "/"};
    parse(&v);
    const struct command *c = choose_command(&v);
    if (c == NULL) {
        return 0;
    }
    choose_node(&v);
    check(&v, c);
    if (strcmp(c->name, "version") == 0) {
        (void)printf("4.1.0\n");
        return 0;
    }
    return run(&v, c);
}
