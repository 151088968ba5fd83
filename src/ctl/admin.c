/*
 * What: the commands of warrenctl that the node carries out as they are: arguments and options go
 * there as texts, and what comes back is shown in the command's columns, or as what was done.
 */
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "invocation.h"

/* --- passwords -------------------------------------------------------------------------------- */

/* A line of standard input, not shown when it is typed. NULL: there is none. */
static char *read_password(const struct invocation *v)
{
    struct termios before;
    char *line = NULL;
    size_t room = 0;
    const bool typed = tcgetattr(STDIN_FILENO, &before) == 0;
    if (!v->out.quiet && !output_is_for_machines(v->out.format)) {
        (void)printf("Password: ");
        (void)fflush(stdout);
    }
    if (typed) {
        struct termios silent = before;
        silent.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent);
    }
    ssize_t size = getline(&line, &room, stdin);
    if (typed) {
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    }
    if (!v->out.quiet && !output_is_for_machines(v->out.format)) {
        (void)putchar('\n');
    }
    if (size < 0) {
        free(line);
        return NULL;
    }
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

/* --- the request ------------------------------------------------------------------------------ */

static json_t *arguments_json(const struct invocation *v, const struct command *c)
{
    json_t *args = json_array();
    for (int i = 1; i < v->word_count && !c->picks; i++) {
        if (json_array_append_new(args, json_string(v->words[i])) != 0) {
            json_decref(args);
            return NULL; /* not UTF-8 */
        }
    }
    return args;
}

static json_t *options_json(const struct invocation *v)
{
    json_t *options = json_object();
    for (int id = 0; id < O_ALL; id++) {
        const char *name = command_options[id].name + 2;
        if (v->given[id]) {
            (void)json_object_set_new(
                options, name,
                command_options[id].kind == OPTION_FLAG ? json_true() : json_string(v->values[id]));
        }
    }
    return options;
}

void ctl_admin_banner(const struct invocation *v, const struct command *c)
{
    const char *name = c->name;
    if (ctl_setting_banner(v, c)) {
        return;
    }
    if (strcmp(name, "clear_topic_permissions") == 0 && v->word_count > 2) {
        ctl_say(v, "Clearing topic permissions on \"%s\" for user \"%s\" in vhost \"%s\" ...",
                v->words[2], v->words[1], v->vhost);
    } else if (strcmp(name, "clear_topic_permissions") == 0) {
        ctl_say(v, "Clearing topic permissions for user \"%s\" in vhost \"%s\" ...", v->words[1],
                v->vhost);
    } else if (strcmp(name, "clear_user_limits") == 0 && strcmp(v->words[2], "all") == 0) {
        ctl_say(v, "Clearing all limits for user \"%s\" ...", v->words[1]);
    } else if (strcmp(name, "delete_queue") == 0) {
        ctl_say(v, "Deleting queue '%s' on vhost '%s' %s%s%s...", v->words[1], v->vhost,
                v->given[O_IF_EMPTY] ? "if queue is empty " : "",
                v->given[O_IF_EMPTY] && v->given[O_IF_UNUSED] ? "and " : "",
                v->given[O_IF_UNUSED] ? "if queue is unused " : "");
    } else if (strcmp(name, "list_vhost_limits") == 0 && v->given[O_GLOBAL]) {
        ctl_say(v, "Listing limits for all vhosts ...");
    } else if (strcmp(name, "list_vhost_limits") == 0) {
        ctl_say(v, "Listing limits for vhost \"%s\" ...", v->vhost);
    } else if (strcmp(name, "list_user_limits") == 0 && v->given[O_GLOBAL]) {
        ctl_say(v, "Listing limits for all users ...");
    } else if (strcmp(name, "list_user_limits") == 0) {
        ctl_say(v, "Listing limits for user \"%s\" ...",
                v->given[O_USER] ? v->values[O_USER] : "guest");
    } else if (strcmp(name, "enable_feature_flag") == 0 && strcmp(v->words[1], "all") == 0) {
        ctl_say(v, "Enabling all feature flags ...");
    } else if (strcmp(name, "enable_feature_flag") == 0) {
        ctl_say(v, "Enabling feature flag \"%s\" ...", v->words[1]);
    } else {
        ctl_banner(v, c);
    }
}

/* --- the answer ------------------------------------------------------------------------------- */

static void print_json(json_t *owned)
{
    (void)json_dumpf(owned, stdout, JSON_COMPACT);
    (void)putchar('\n');
    json_decref(owned);
}

/* What was done, in words. */
static void say_done(const struct invocation *v, const struct command *c, json_t *result)
{
    char text[128];
    const char *message = c->done;
    json_t *messages = json_object_get(result, "messages");
    const bool json = v->out.format == OUTPUT_JSON;
    if (messages != NULL) {
        (void)snprintf(text, sizeof text, "Queue was successfully deleted with %lld ready messages",
                       (long long)json_integer_value(messages));
        message = text;
    } else if (json_is_string(result) && strcmp(json_string_value(result), "ok") != 0) {
        message = json_string_value(result);
    }
    if (json && strcmp(c->name, "add_user") == 0) { /* RabbitMQ's exception */
        print_json(
            json_pack("{s:s, s:s, s:s}", "message", message, "node", v->ctl.node, "status", "ok"));
    } else if (json && message != NULL) {
        print_json(json_pack("{s:s}", "message", message));
    } else if (json) {
        print_json(json_pack("{s:s, s:s}", "node", v->ctl.node, "result", "ok"));
    } else if (message != NULL && !(v->out.quiet && strcmp(c->name, "add_user") == 0)) {
        (void)printf("%s\n", message);
    }
}

static void show_rows(const struct invocation *v, const struct command *c, json_t *rows)
{
    struct output_options out = v->out;
    json_t *columns = json_array();
    if (c->picks && v->word_count > 1) {
        for (int i = 1; i < v->word_count; i++) {
            output_add_words(columns, v->words[i], ",");
        }
    }
    if (json_array_size(columns) == 0) {
        output_add_words(columns, c->columns, " ");
    }
    out.no_headers = out.no_headers || (c->no_header && out.format == OUTPUT_TABLE);
    const bool limits = strstr(c->name, "_limits") != NULL;
    if (limits && out.format == OUTPUT_TABLE && json_array_size(rows) == 0) {
        (void)puts(""); /* as of one vhost that has none */
    }
    output_rows(&out, columns, rows);
    json_decref(columns);
}

/* RabbitMQ has another form for each. */
static void print_limits_json(const struct invocation *v, const struct command *c, json_t *value)
{
    if (strcmp(c->name, "list_user_limits") == 0) {
        print_json(json_pack("{s:O}", "message", value));
    } else if (json_string_length(value) == 0) {
        (void)puts("[]");
    } else {
        print_json(
            json_pack("{s:s, s:s, s:O}", "node", v->ctl.node, "result", "ok", "value", value));
    }
}

static int show(const struct invocation *v, const struct command *c, json_t *reply)
{
    json_t *result = json_object_get(reply, "result");
    json_t *value = json_object_get(result, "value");
    if (json_object_get(reply, "error") != NULL || result == NULL) {
        return ctl_fail_reply(v, reply);
    }
    if (strcmp(c->name, "environment") == 0) {
        ctl_print_environment(v, result);
    } else if (value != NULL && v->out.format == OUTPUT_JSON) {
        print_limits_json(v, c, value);
    } else if (value != NULL) {
        (void)printf("%s\n", json_string_value(value));
    } else if (json_is_array(result)) {
        show_rows(v, c, result);
    } else {
        say_done(v, c, result);
    }
    ctl_warn_stale(reply);
    return 0;
}

static bool is_there(struct invocation *v, int *ret_code)
{
    json_t *reply = ctl_request(v, json_pack("{s:s}", "command", "ping"), ret_code);
    const bool there = reply != NULL;
    json_decref(reply);
    return there;
}

int ctl_admin(struct invocation *v, const struct command *c)
{
    int code = 0;
    char *password = NULL;
    const bool asks = c->password && v->word_count - 1 < c->args_min;
    if (asks) {
        if (!is_there(v, &code)) { /* nobody is to type a password for a node that is down */
            return code;
        }
        ctl_admin_banner(v, c);
        password = read_password(v);
        if (password == NULL) {
            return ctl_fail(v, EXIT_DATA, false, "Password is not provided via argument or stdin");
        }
        v->words[v->word_count++] = password;
    }
    json_t *args = arguments_json(v, c);
    free(password);
    if (args == NULL) {
        return ctl_fail(v, EXIT_DATA, false, "an argument is not UTF-8");
    }
    json_t *request = json_pack("{s:s, s:s, s:o, s:o}", "command", c->name, "vhost", v->vhost,
                                "args", args, "options", options_json(v));
    json_t *reply = ctl_request(v, request, &code);
    if (reply != NULL) {
        if (!asks) { /* of a node that is down nothing is said that looks like a beginning */
            ctl_admin_banner(v, c);
        }
        code = show(v, c, reply);
        json_decref(reply);
    }
    return code;
}
