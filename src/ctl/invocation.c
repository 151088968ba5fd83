/*
 * What: reading warrenctl's command line, and what all of its commands say when something is wrong
 * with it, or with the answer.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "invocation.h"

/* --- the command line ------------------------------------------------------------------------- */

void invocation_refuse(const struct invocation *v, const struct command *c, int code,
                       const char *what)
{
    (void)fprintf(stderr, "Error (argument validation): %s\nArguments given:\n\t", what);
    for (int i = 1; i < v->argc; i++) {
        (void)fprintf(stderr, "%s%s", i == 1 ? "" : " ", v->argv[i]);
    }
    (void)fputc('\n', stderr);
    command_usage(stderr, c);
    exit(code);
}

static void mark_invalid(struct invocation *v, const char *option, const char *value)
{
    if (v->invalid[0] == NULL) {
        /* Without the value that it came with. It lives as long as the program. */
        v->invalid[0] = option[0] == '-' ? strndup(option, strcspn(option, "=")) : option;
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

static bool is_number(const char *text, long long least)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    return end != text && *end == 0 && errno == 0 && value >= least;
}

#define TIMEOUT_MAX_S 2000000 /* three weeks, as of a pod that is to end: in ms it fits an int */

static void parse_timeout(struct invocation *v, const struct option *o, const char *text)
{
    v->no_time = is_number(text, 0) && strtoll(text, NULL, 10) == 0;
    if (v->no_time) {
        return;
    }
    if (!is_number(text, 1) || strtoll(text, NULL, 10) > TIMEOUT_MAX_S) {
        mark_invalid(v, o->text, text);
        return;
    }
    v->timeout_s = (int)strtoll(text, NULL, 10);
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
        v->formatted = true;
        v->out.stream = strcmp(name, "json_stream") == 0;
        if (v->out.stream || strcmp(name, "json_array") == 0) {
            v->out.format = OUTPUT_JSON;
        } else if (!output_parse_format(name, &v->out.format)) {
            mark_invalid(v, o->text, name);
        }
    } else if (is(o, NULL, "--script-name")) {
        (void)value_of(v, o, i); /* for rabbitmqctl's wrappers */
    } else {
        return false;
    }
    return true;
}

/* A switch may be said to be true or false. False: it is said to be something else. */
static bool parse_switch(const struct option *o, bool *ret_on)
{
    const bool on = o->attached == NULL || strcmp(o->attached, "true") == 0;
    if (!on && strcmp(o->attached, "false") != 0) {
        return false;
    }
    *ret_on = on;
    return true;
}

/* One of those that only some commands have. */
static bool parse_command_option(struct invocation *v, const struct option *o, int *i)
{
    for (int id = 0; id < O_ALL; id++) {
        const struct option_info *info = &command_options[id];
        if (!is(o, info->brief, info->name)) {
            continue;
        }
        if (info->kind == OPTION_FLAG) {
            if (!parse_switch(o, &v->given[id])) {
                mark_invalid(v, o->text, o->attached);
            }
            return true;
        }
        v->given[id] = true;
        v->values[id] = value_of(v, o, i);
        if ((info->kind == OPTION_NUMBER && !is_number(v->values[id], INT32_MIN)) ||
            (info->kind == OPTION_COUNT && !is_number(v->values[id], 0))) {
            mark_invalid(v, o->text, v->values[id]);
        }
        return true;
    }
    return false;
}

/* False: there is no such option. */
static bool parse_one(struct invocation *v, const struct option *o, int *i)
{
    if (parse_value(v, o, i) || parse_command_option(v, o, i)) {
        return true;
    }
    const struct {
        const char *brief, *full;
        bool *flag, *also;
    } switches[] = {{"-q", "--quiet", &v->out.quiet, NULL},
                    {"-s", "--silent", &v->out.quiet, &v->out.silent},
                    {NULL, "--no-table-headers", &v->out.no_headers, NULL},
                    {"-?", "--help", &v->help, NULL},
                    {NULL, "--version", &v->version, NULL},
                    {"-l", "--longnames", NULL, NULL}, /* names are taken as they are */
                    {NULL, "--print-stacktrace", NULL, NULL}};
    for (size_t k = 0; k < sizeof switches / sizeof switches[0]; k++) {
        bool on = false;
        if (!is(o, switches[k].brief, switches[k].full)) {
            continue;
        }
        if (!parse_switch(o, &on)) {
            mark_invalid(v, o->text, o->attached);
            return true;
        }
        *(switches[k].flag != NULL ? switches[k].flag : &(bool){false}) = on;
        *(switches[k].also != NULL ? switches[k].also : &(bool){false}) = on;
        return true;
    }
    return false;
}

static void parse_option(struct invocation *v, int *i)
{
    const char *text = v->argv[*i];
    const size_t size = strlen(text);
    struct option o = {text, strcspn(text, "="), strchr(text, '=')};
    o.attached = o.attached != NULL ? o.attached + 1 : NULL;
    if (text[1] == '-' || o.name_size == 2 || o.attached != NULL) {
        if (!parse_one(v, &o, i)) {
            mark_invalid(v, text, NULL);
        }
        return;
    }
    for (size_t k = 1; k < size; k++) { /* -qs: letters in one word, the last may have a value */
        const int before = *i;
        const char letter[3] = {'-', text[k], 0};
        if (!parse_one(v, &(struct option){letter, 2, NULL}, i) || (*i > before && k + 1 < size)) {
            mark_invalid(v, text, NULL);
            return;
        }
    }
}

void invocation_parse(struct invocation *v)
{
    bool options = true;
    int first = 1;
    if (v->argc > 1 && strcmp(v->argv[1], "--auto-complete") == 0) { /* what shells' scripts say */
        v->words[v->word_count++] = "autocomplete";
        first = 2;
    }
    for (int i = first; i < v->argc; i++) {
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

static bool is_text(const char *argument)
{
    json_t *text = argument != NULL ? json_string(argument) : json_null();
    const bool valid = text != NULL;
    json_decref(text);
    return valid;
}

/* A request is JSON. What cannot be in it must not be left out of it in silence: without its filter
 * delete_messages would remove everything, without its vhost a command would be about "/". */
static void check_text(const struct invocation *v, const struct command *c)
{
    bool valid = is_text(v->vhost);
    for (int i = 1; i < v->word_count && strcmp(c->name, "stop") != 0; i++) { /* it takes a path */
        valid = valid && is_text(v->words[i]);
    }
    for (int id = 0; id < O_ALL; id++) {
        valid = valid && is_text(v->values[id]);
    }
    if (!valid) {
        exit(ctl_fail(v, EXIT_DATA, false, "an argument is not UTF-8"));
    }
}

void invocation_check(const struct invocation *v, const struct command *c)
{
    char what[512];
    const char *invalid[2] = {v->invalid[0], v->invalid[1]};
    const int args = v->word_count - 1;
    const int least = c->args_min - (c->password ? 1 : 0);
    if (v->version && invalid[0] == NULL) {
        invalid[0] = "--version";
    }
    for (int id = 0; id < O_ALL && invalid[0] == NULL; id++) {
        if (v->given[id] && (c->options >> id & 1) == 0 && id != O_DRY_RUN) {
            invalid[0] = command_options[id].name;
            invalid[1] = v->values[id];
        }
    }
    if (invalid[0] != NULL) {
        (void)snprintf(what, sizeof what, "Invalid options for this command:\n%.200s : %.200s",
                       invalid[0], invalid[1] != NULL ? invalid[1] : "");
        invocation_refuse(v, c, EXIT_USAGE, what);
    }
    if (args < least) {
        invocation_refuse(v, c, EXIT_USAGE, "not enough arguments.");
    }
    if (!c->picks && args > c->args_max) {
        invocation_refuse(v, c, EXIT_USAGE, "too many arguments.");
    }
    if (strcmp(c->name, "add_user") == 0 && v->words[1][0] == 0) {
        invocation_refuse(v, c, EXIT_DATA, "Bad argument: user cannot be an empty string");
    }
    if (strcmp(c->name, "enable_feature_flag") == 0 && v->words[1][0] == 0) {
        invocation_refuse(v, c, EXIT_DATA, "Bad argument: feature_flag cannot be an empty string.");
    }
    if (v->given[O_UNIT] && (c->options & OPTION_BIT(WITHIN)) == 0 &&
        !output_unit_known(v->values[O_UNIT])) {
        (void)snprintf(what, sizeof what,
                       "\"unit '%.100s' is not supported. Please use one of: bytes, mb, gb\"",
                       v->values[O_UNIT]);
        invocation_refuse(v, c, EXIT_USAGE, what);
    }
    check_text(v, c);
}

long long invocation_count(const struct invocation *v, enum option_id id, long long otherwise)
{
    return v->given[id] ? strtoll(v->values[id], NULL, 10) : otherwise;
}

/* --- what is said ----------------------------------------------------------------------------- */

static int fail(const struct invocation *v, int code, const char *before, const char *text)
{
    if (v->out.format == OUTPUT_JSON) {
        json_t *error =
            json_pack("{s:s, s:s, s:s}", "error", text, "node", v->ctl.node, "result", "error");
        (void)json_dumpf(error, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(error);
    }
    (void)fflush(stdout); /* the banner goes before it, also where both end in one file */
    (void)fprintf(stderr, "%s%s\n", before, text);
    return code;
}

int ctl_fail(const struct invocation *v, int code, bool bare, const char *text)
{
    return fail(v, code, bare ? "" : "Error:\n", text);
}

int ctl_fail_reply(const struct invocation *v, json_t *reply)
{
    const char *text = json_string_value(json_object_get(reply, "error"));
    const json_int_t code = json_integer_value(json_object_get(reply, "code"));
    return ctl_fail(v, code > 0 && code < 256 ? (int)code : EXIT_SOFTWARE,
                    json_is_true(json_object_get(reply, "bare")),
                    text != NULL ? text : "the node's answer makes no sense");
}

int ctl_fail_interrupted(const struct invocation *v)
{
    return ctl_fail(
        v, EXIT_INTERRUPTED, false,
        "stopped before the node had answered: what it was asked last may have been done");
}

/* No answer: said in the words that scripts look for. */
int ctl_fail_unreachable(const struct invocation *v, const char *why)
{
    if (v->ctl.timed_out) {
        char text[512];
        (void)snprintf(text, sizeof text,
                       "operation %.100s on node %.256s timed out. Timeout value used: %lld",
                       v->words[0], v->ctl.node, (long long)v->ctl.timeout_s * 1000);
        return fail(v, EXIT_TEMPORARY, "Error: ", text);
    }
    if (v->out.format == OUTPUT_JSON) {
        json_t *error = json_pack("{s:s, s:s, s:s, s:s}", "error", "nodedown", "message", why,
                                  "node", v->ctl.node, "result", "error");
        (void)json_dumpf(error, stdout, JSON_COMPACT);
        (void)printf("\n");
        json_decref(error);
    }
    (void)fflush(stdout);
    (void)fprintf(stderr,
                  "Error: unable to perform an operation on node '%s'. Please see diagnostics "
                  "information and suggestions below.\n\nDIAGNOSTICS\n===========\n\nattempted to "
                  "contact: [%s]\n\n%s:\n  * %s\n",
                  v->ctl.node, v->ctl.node, v->ctl.node, why);
    return EXIT_UNAVAILABLE;
}

void ctl_warn_stale(json_t *reply)
{
    if (json_is_true(json_object_get(reply, "stale"))) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "Warning: the cluster's catalog has no leader in reach; this is what "
                              "the node knows\n");
    }
}

void ctl_warn_missing(json_t *reply)
{
    json_t *silent = json_object_get(reply, "silent");
    const json_int_t parts =
        json_integer_value(json_object_get(reply, "missing")) - (json_int_t)json_array_size(silent);
    size_t i;
    json_t *name;
    (void)fflush(stdout);
    json_array_foreach(silent, i, name) {
        (void)fprintf(stderr,
                      "Warning: node '%s' did not answer in time; the listing is not complete\n",
                      json_string_value(name));
    }
    if (parts > 0) {
        (void)fprintf(stderr,
                      "Warning: %d part(s) of the cluster did not answer in time; the listing is "
                      "not complete\n",
                      (int)parts);
    }
}

static bool is_talkative(const struct invocation *v)
{
    return !v->out.quiet && !output_is_for_machines(v->out.format);
}

static void put_rest(const struct invocation *v)
{
    for (int i = 2; i < v->word_count; i++) {
        (void)printf("%s%s", i == 2 ? "" : ", ", v->words[i]);
    }
}

void ctl_banner(const struct invocation *v, const struct command *c)
{
    if (!is_talkative(v) || c->banner == NULL) {
        return;
    }
    for (const char *at = c->banner; *at != 0; at++) {
        if (at[0] != '%') {
            (void)putchar(*at);
            continue;
        }
        at++;
        if (*at == 'v') {
            (void)fputs(v->vhost, stdout);
        } else if (*at == 'n') {
            (void)fputs(v->ctl.node, stdout);
        } else if (*at == 'r') {
            put_rest(v);
        } else if (*at == 'q') {
            (void)fputs(v->word_count > 4      ? v->words[4]
                        : v->given[O_PRIORITY] ? v->values[O_PRIORITY]
                                               : "0",
                        stdout);
        } else if (*at - '0' < v->word_count) {
            (void)fputs(v->words[*at - '0'], stdout);
        }
    }
    (void)putchar('\n');
}

void ctl_say(const struct invocation *v, const char *fmt, ...)
{
    va_list args;
    if (!is_talkative(v)) {
        return;
    }
    va_start(args, fmt);
    (void)vprintf(fmt, args);
    va_end(args);
    (void)putchar('\n');
}

void ctl_pause_ms(long ms)
{
    (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

void ctl_put_timeout(struct invocation *v, json_t *request)
{
    v->ctl.timeout_s = (v->timeout_s > 0 ? v->timeout_s : 60) + v->patience_s;
    if (v->timeout_s > 0) {
        (void)json_object_set_new(request, "within", json_integer((json_int_t)v->timeout_s * 1000));
    }
}

json_t *ctl_request(struct invocation *v, json_t *owned_request, int *ret_code)
{
    char errmsg[512] = "";
    ctl_put_timeout(v, owned_request);
    char *text = json_dumps(owned_request, JSON_COMPACT);
    json_decref(owned_request);
    if (text == NULL) {
        *ret_code = ctl_fail(v, EXIT_DATA, false, "an argument is not UTF-8");
        return NULL;
    }
    char *answer = ctl_ask(&v->ctl, text, false, errmsg);
    free(text);
    if (answer == NULL) {
        *ret_code = v->ctl.interrupted ? ctl_fail_interrupted(v) : ctl_fail_unreachable(v, errmsg);
        return NULL;
    }
    json_t *reply = json_loads(answer, JSON_ALLOW_NUL, NULL);
    free(answer);
    if (!json_is_object(reply)) {
        json_decref(reply);
        *ret_code = ctl_fail(v, EXIT_SOFTWARE, false, "the node's answer is not JSON");
        return NULL;
    }
    *ret_code = 0;
    return reply;
}
