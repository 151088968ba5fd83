/*
 * What: warrenctl: rabbitmqctl's commands and output for a Warren node. Exit codes follow sysexits
 * as rabbitmqctl's do: 0 ok, 64 usage, 65 data, 69 unavailable, 75 time-out.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "connect.h"
#include "output.h"

enum { EXIT_USAGE = 64, EXIT_UNAVAILABLE = 69 };

struct command {
    const char *name;
    const char *usage;
    const char *banner;  /* %s: vhost or node */
    const char *columns; /* default columns of a listing, or NULL */
    const char *all;     /* every column of a listing */
    bool per_vhost;
};

static const struct command commands[] = {
    {"status", "", "Status of node %s ...", NULL, NULL, false},
    {"cluster_status", "", "Cluster status of node %s ...", NULL, NULL, false},
    {"ping", "", "Will ping %s. This only checks if the OS process is running and can authenticate",
     NULL, NULL, false},
    {"stop", "", "Stopping and halting node %s ...", NULL, NULL, false},
    {"await_startup", "[--timeout seconds]", "Waiting for node %s to start ...", NULL, NULL, false},
    {"list_queues", "[-p vhost] [column ...]", "Listing queues for vhost %s ...", "name messages",
     "name durable auto_delete exclusive arguments policy pid messages_ready "
     "messages_unacknowledged messages message_bytes message_bytes_ready "
     "message_bytes_unacknowledged consumers state type leader members online id vhost why",
     true},
    {"list_exchanges", "[-p vhost] [column ...]", "Listing exchanges for vhost %s ...", "name type",
     "name type durable auto_delete internal arguments policy vhost", true},
    {"list_bindings", "[-p vhost] [column ...]", "Listing bindings for vhost %s...",
     "source_name source_kind destination_name destination_kind routing_key arguments",
     "source_name source_kind destination_name destination_kind routing_key arguments vhost", true},
    {"list_connections", "[column ...]", "Listing connections ...",
     "user peer_host peer_port state",
     "pid name user_provided_name user vhost state peer_host peer_port host port ssl protocol "
     "auth_mechanism timeout frame_max channel_max channels "
     "recv_oct send_oct connected_at client_properties node",
     false},
    {"list_channels", "[column ...]", "Listing channels ...",
     "pid user consumer_count messages_unacknowledged",
     "pid connection name number user vhost transactional confirm consumer_count "
     "messages_unacknowledged messages_uncommitted acks_uncommitted "
     "messages_unconfirmed prefetch_count global_prefetch_count state node",
     false},
    {"list_consumers", "[-p vhost] [column ...]", "Listing consumers in vhost %s ...",
     "queue_name channel_pid consumer_tag ack_required prefetch_count active arguments",
     "queue_name channel_pid consumer_tag ack_required prefetch_count active arguments "
     "activity_status vhost",
     true},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

struct invocation {
    struct ctl_options ctl;
    struct output_options out;
    const char *vhost;
    const char *words[64];
    int word_count;
    int timeout_s; /* 0 = not given */
};

static void usage(FILE *out)
{
    (void)fprintf(out,
                  "Usage: warrenctl [-n node] [-q] [-s] [--formatter table|pretty_table|json|csv] "
                  "[-t seconds] command [arguments]\n\nCommands:\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        (void)fprintf(out, "   %-18s %s\n", commands[i].name, commands[i].usage);
    }
    (void)fprintf(
        out,
        "\nOptions:\n"
        "   -n, --node NAME      node to talk to (default: RABBITMQ_NODENAME, else "
        "warren1@localhost)\n"
        "   -p, --vhost VHOST    virtual host (default /)\n"
        "   -q, --quiet          no banner     -s, --silent   no banner, no table header     "
        "--no-table-headers\n"
        "   --config FILE        the node's configuration file (where it listens, its cookie)\n"
        "   --erlang-cookie C    the cluster's cookie (else from RABBITMQ_ERLANG_COOKIE, --config "
        "or the node's note)\n"
        "   -t, --timeout SEC    how long to wait for the answer (default 60)\n");
}

static const char *option_value(int argc, char **argv, int *i)
{
    if (*i + 1 >= argc) {
        (void)fprintf(stderr, "Error (argument validation): option %s needs a value\n", argv[*i]);
        exit(EXIT_USAGE);
    }
    return argv[++*i];
}

static bool is(const char *arg, const char *brief, const char *full)
{
    return (brief != NULL && strcmp(arg, brief) == 0) || strcmp(arg, full) == 0;
}

static int parse_seconds(const char *text)
{
    char *end = NULL;
    long value = strtol(text, &end, 10);
    if (end == text || *end != 0 || value < 1 || value > 86400) {
        (void)fprintf(
            stderr,
            "Error (argument validation): the time-out is a number of seconds, 1 to 86400\n");
        exit(EXIT_USAGE);
    }
    return (int)value;
}

static void parse_option(struct invocation *v, int argc, char **argv, int *i)
{
    const char *arg = argv[*i];
    if (is(arg, "-n", "--node")) {
        v->ctl.node = option_value(argc, argv, i);
    } else if (is(arg, "-p", "--vhost")) {
        v->vhost = option_value(argc, argv, i);
    } else if (is(arg, "-q", "--quiet")) {
        v->out.quiet = true;
    } else if (is(arg, "-s", "--silent")) {
        v->out.quiet = v->out.no_headers = true;
    } else if (is(arg, NULL, "--no-table-headers")) {
        v->out.no_headers = true;
    } else if (is(arg, NULL, "--config")) {
        v->ctl.config = option_value(argc, argv, i);
    } else if (is(arg, NULL, "--erlang-cookie")) {
        v->ctl.cookie = option_value(argc, argv, i);
    } else if (is(arg, "-t", "--timeout")) {
        v->timeout_s = parse_seconds(option_value(argc, argv, i));
    } else if (is(arg, NULL, "--formatter")) {
        if (!output_parse_format(option_value(argc, argv, i), &v->out.format)) {
            (void)fprintf(stderr,
                          "Error (argument validation): unknown formatter '%s': table, "
                          "pretty_table, json or csv\n",
                          argv[*i]);
            exit(EXIT_USAGE);
        }
    } else {
        (void)fprintf(stderr, "Invalid options for this command:\n%s\n", arg);
        exit(EXIT_USAGE);
    }
}

static void parse(struct invocation *v, int argc, char **argv)
{
    bool options = true;
    for (int i = 1; i < argc; i++) {
        if (options && strcmp(argv[i], "--help") == 0) {
            usage(stdout);
            exit(0);
        } else if (options && strcmp(argv[i], "--") == 0) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1] != 0) {
            parse_option(v, argc, argv, &i);
        } else if (v->word_count < 64) {
            v->words[v->word_count++] = argv[i];
        }
    }
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static bool in_words(const char *words, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at += n) {
        if ((at == words || at[-1] == ' ') && (at[n] == ' ' || at[n] == 0)) {
            return true;
        }
    }
    return false;
}

/* Columns asked for, or the default ones, as a JSON array; unknown ones end the program. */
static json_t *choose_columns(const struct command *c, const struct invocation *v)
{
    json_t *columns = json_array();
    for (int i = 1; i < v->word_count; i++) {
        if (!in_words(c->all, v->words[i])) {
            (void)fprintf(stderr, "Error: Info key(s) %s are not supported\n", v->words[i]);
            exit(EXIT_USAGE);
        }
        (void)json_array_append_new(columns, json_string(v->words[i]));
    }
    for (const char *at = c->columns; v->word_count == 1 && *at != 0;) {
        size_t size = strcspn(at, " ");
        (void)json_array_append_new(columns, json_stringn(at, size));
        at += size + (at[size] == ' ');
    }
    return columns;
}

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

static void banner(const struct command *c, const struct invocation *v)
{
    if (v->out.quiet || v->out.format == OUTPUT_JSON || v->out.format == OUTPUT_CSV) {
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

static int show(const struct command *c, const struct invocation *v, json_t *columns, json_t *reply)
{
    json_t *result = json_object_get(reply, "result");
    json_t *error = json_object_get(reply, "error");
    if (error != NULL) {
        return fail(v, (int)json_integer_value(json_object_get(reply, "code")),
                    json_string_value(error));
    }
    if (columns != NULL) {
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

/* A node that is starting does not answer yet, and has not left its note: that is what is waited
 * for. */
static char *ask(const struct invocation *v, const char *name, const char *request, char *errmsg)
{
    bool waiting = strcmp(name, "await_startup") == 0;
    struct timespec pause = {.tv_nsec = 100000000};
    time_t begun = time(NULL);
    for (;;) {
        char *answer = ctl_ask(&v->ctl, request, strcmp(name, "stop") == 0, errmsg);
        if (answer != NULL || !waiting || time(NULL) - begun >= v->ctl.timeout_s) {
            return answer;
        }
        (void)nanosleep(&pause, NULL);
    }
}

int main(int argc, char **argv)
{
    struct invocation v = {.ctl = {.timeout_s = 60}, .vhost = "/"};
    char errmsg[512] = "";
    parse(&v, argc, argv);
    if (v.ctl.node == NULL) {
        const char *environment = getenv("RABBITMQ_NODENAME");
        v.ctl.node = environment != NULL ? environment : "warren1@localhost";
    }
    if (v.word_count == 0) {
        usage(stderr);
        return EXIT_USAGE;
    }
    const struct command *c = find_command(v.words[0]);
    if (c == NULL) {
        (void)fprintf(stderr, "Command '%s' not found.\n\n", v.words[0]);
        usage(stderr);
        return EXIT_USAGE;
    }
    if (c->columns == NULL && v.word_count > 1) {
        (void)fprintf(
            stderr, "Error (argument validation): too many arguments.\nArguments given:\n\t%s %s\n",
            v.words[0], v.words[1]);
        return EXIT_USAGE;
    }
    json_t *columns = c->columns != NULL ? choose_columns(c, &v) : NULL;
    json_t *request = json_pack("{s:s}", "command", c->name);
    if (c->per_vhost) {
        (void)json_object_set_new(request, "vhost", json_string(v.vhost));
    }
    bool waiting = strcmp(c->name, "await_startup") == 0;
    if (v.timeout_s > 0) {
        v.ctl.timeout_s = v.timeout_s;
    } else if (waiting) {
        v.ctl.timeout_s = 300;
    }
    if (waiting) {
        (void)json_object_set_new(request, "timeout", json_integer(v.ctl.timeout_s));
        v.ctl.timeout_s += 5;
    }
    banner(c, &v);
    char *text = json_dumps(request, JSON_COMPACT);
    char *answer = ask(&v, c->name, text, errmsg);
    int code = EXIT_UNAVAILABLE;
    if (answer == NULL) {
        code = fail(&v, EXIT_UNAVAILABLE, errmsg);
    } else {
        json_t *reply = json_loads(answer, 0, NULL);
        code = reply == NULL ? fail(&v, 70, "the node's answer is not JSON")
                             : show(c, &v, columns, reply);
        json_decref(reply);
    }
    free(answer);
    free(text);
    json_decref(request);
    json_decref(columns);
    return code;
}
