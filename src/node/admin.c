/*
 * What: the requests of warrenctl that change or list something: {"command": NAME, "vhost": V,
 * "args": [text, ...], "options": {...}}.
 *
 * Happy path: args are checked against the table -> a read barrier on the catalog, so that what was
 * changed through another node a moment ago counts -> the command's function -> the broker's call
 * (warren/broker_admin.h) -> its outcome, with rabbitmqctl's exit code. Failure modes: any JSON may
 * come; without a leader changes answer 69 and lists answer what this node knows, with a warning.
 * Ownership: a request belongs to its job (control.h). Threads: shard 0. Spec: docs/warrenctl.md.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "warren/mem.h"

#include "admin.h"

#define BARRIER_MS 5000u

/* --- answers ---------------------------------------------------------------------------------- */

/* Changes leave a line in the event log. Of the arguments only the first: others may be secrets. */
static void note(const struct admin *admin, const char *outcome)
{
    char line[1024];
    struct strbuf s;
    const bool later_page = json_integer_value(json_object_get(admin->options, "from")) > 0;
    if (admin->command->lists || later_page || admin_flag(admin, "dry-run")) {
        return;
    }
    strbuf_init(&s, line, sizeof line);
    strbuf_printf(&s, "%s", admin->command->name);
    const bool own = (admin->command->style & ADMIN_THIS_NODE) != 0; /* those have no secrets */
    for (uint32_t i = 0; i < admin->count && (i == 0 || own); i++) {
        strbuf_add_cstr(&s, " '");
        strbuf_add_line(&s, admin->args[i]);
        strbuf_add_char(&s, '\'');
    }
    if (!own) {
        strbuf_add_cstr(&s, ", vhost '");
        strbuf_add_line(&s, admin->vhost);
        strbuf_add_char(&s, '\'');
    }
    strbuf_add_cstr(&s, ": ");
    strbuf_add_line(&s, bytes_from_cstr(outcome));
    wr_log(admin->shard->logger, LOG_LEVEL_INFO, "control", "%s", line);
}

void admin_result(struct admin *admin, json_t *owned_result)
{
    note(admin, "done");
    json_t *reply = json_pack("{s:o}", "result", owned_result);
    if (admin->stale) {
        (void)json_object_set_new(reply, "stale", json_true());
    }
    control_job_answer(admin->job, reply);
}

void admin_ok(struct admin *admin)
{
    admin_result(admin, json_string("ok"));
}

/* By what a row is about: views list in no order that anybody could use. */
static int by_names(const void *a, const void *b)
{
    static const char *const names[] = {"component", "user", "vhost", "name", "exchange"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(names); i++) {
        const char *left = json_string_value(json_object_get(*(json_t *const *)a, names[i]));
        const char *right = json_string_value(json_object_get(*(json_t *const *)b, names[i]));
        const int order = left == NULL || right == NULL ? 0 : strcmp(left, right);
        if (order != 0) {
            return order;
        }
    }
    return 0;
}

void admin_sort(struct admin *admin)
{
    const size_t count = json_array_size(admin->rows);
    json_t **rows = wr_calloc(count + 1, sizeof *rows);
    for (size_t i = 0; i < count; i++) {
        rows[i] = json_incref(json_array_get(admin->rows, i));
    }
    qsort(rows, count, sizeof *rows, by_names);
    (void)json_array_clear(admin->rows);
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(admin->rows, rows[i]);
    }
    wr_free(rows);
}

void admin_rows(struct admin *admin)
{
    admin_result(admin, json_incref(admin->rows));
}

static void fail(struct admin *admin, int code, bool bare, const char *text)
{
    note(admin, text);
    json_t *error = json_string(text);
    control_job_answer(admin->job, json_pack("{s:o, s:i, s:b}", "error",
                                             error != NULL ? error : json_string("(not UTF-8)"),
                                             "code", code, "bare", bare ? 1 : 0));
}

void admin_refuse(struct admin *admin, int code, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    fail(admin, code, false, text);
}

/* "User \"u\" does not exist" in the words of the permissions' commands: without the quotes. */
static void fail_unquoted(struct admin *admin, int code, const char *text)
{
    char plain[512];
    size_t n = 0;
    const char *first = strpbrk(text, "'\"");
    const char *last = first == NULL ? NULL : strrchr(text, *first);
    for (const char *at = text; *at != 0 && n + 1 < sizeof plain; at++) {
        if (at != first && at != last) {
            plain[n++] = *at;
        }
    }
    plain[n] = 0;
    fail(admin, code, false, plain);
}

void admin_fault(struct admin *admin, const struct broker_fault *fault)
{
    const uint32_t style = admin->command->style;
    int code = EXIT_UNAVAILABLE;
    switch (fault->code) {
    case BROKER_ADMIN_NO_USER:
        code = (style & ADMIN_USER_69) != 0 ? EXIT_UNAVAILABLE : EXIT_NO_USER;
        break;
    case BROKER_ADMIN_NO_VHOST:
        code = (style & ADMIN_VHOST_BARE) != 0 ? EXIT_DATA : EXIT_UNAVAILABLE;
        break;
    case BROKER_ADMIN_EXISTS:
        code = EXIT_SOFTWARE;
        break;
    case BROKER_ADMIN_REFUSED:
        code = EXIT_DATA;
        break;
    default:
        break;
    }
    if ((style & ADMIN_PERMISSION) != 0 &&
        (fault->code == BROKER_ADMIN_NO_USER || fault->code == BROKER_ADMIN_NO_VHOST)) {
        fail_unquoted(admin, code, fault->text);
        return;
    }
    fail(admin, code, fault->code == BROKER_ADMIN_NO_VHOST && (style & ADMIN_VHOST_BARE) != 0,
         fault->text);
}

void admin_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                uint64_t b)
{
    struct admin *admin = ctx;
    (void)name;
    (void)a;
    (void)b;
    if (fault->code != 0) {
        admin_fault(admin, fault);
    } else {
        admin_ok(admin);
    }
}

json_t *admin_row(struct admin *admin)
{
    json_t *row = json_object();
    (void)json_array_append_new(admin->rows, row);
    return row;
}

const char *admin_option(const struct admin *admin, const char *name)
{
    return json_string_value(json_object_get(admin->options, name));
}

bool admin_flag(const struct admin *admin, const char *name)
{
    return json_is_true(json_object_get(admin->options, name));
}

/* --- dispatch --------------------------------------------------------------------------------- */

static const struct admin_command *find(const char *name)
{
    const struct admin_command *const tables[] = {admin_change_commands,   admin_list_commands,
                                                  admin_queue_commands,    admin_message_commands,
                                                  admin_settings_commands, admin_flag_commands};
    for (size_t i = 0; i < WR_ARRAY_SIZE(tables); i++) {
        for (const struct admin_command *c = tables[i]; c->name != NULL; c++) {
            if (strcmp(c->name, name) == 0) {
                return c;
            }
        }
    }
    return NULL;
}

static void admin_free(void *state)
{
    struct admin *admin = state;
    json_decref(admin->request);
    json_decref(admin->rows);
    wr_free(admin);
}

static void on_barrier(void *ctx, int status, const struct catalog_result *result)
{
    struct admin *admin = ctx;
    (void)result;
    if (status < 0 && !admin->command->lists) {
        admin_refuse(admin, EXIT_UNAVAILABLE,
                     "the cluster's catalog cannot be changed: no leader was reached within %u ms",
                     BARRIER_MS);
    } else if (admin->shard->view == NULL) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "%s", formation_state(admin->shard));
    } else {
        admin->stale = status < 0;
        admin->command->run(admin);
    }
}

/* False: the arguments are not texts, or not as many as the command takes. */
static bool take_arguments(struct admin *admin)
{
    json_t *args = json_object_get(admin->request, "args");
    json_t *vhost = json_object_get(admin->request, "vhost");
    size_t i;
    json_t *arg;
    if (json_array_size(args) < admin->command->args_min ||
        json_array_size(args) > admin->command->args_max) {
        return false;
    }
    json_array_foreach(args, i, arg) {
        if (!json_is_string(arg)) {
            return false;
        }
        admin->args[admin->count++] = bytes_make(json_string_value(arg), json_string_length(arg));
    }
    admin->options = json_object_get(admin->request, "options");
    admin->vhost = json_is_string(vhost)
                       ? bytes_make(json_string_value(vhost), json_string_length(vhost))
                       : BYTES_LITERAL("/");
    return true;
}

bool admin_request(struct shard *shard, struct link_conn *link, const char *command,
                   json_t *request)
{
    const struct admin_command *c = find(command);
    if (c == NULL) {
        return false;
    }
    struct admin *admin = wr_calloc(1, sizeof *admin);
    admin->shard = shard;
    admin->command = c;
    admin->request = json_incref(request);
    admin->rows = json_array();
    admin->job = control_job_new(shard, link, admin, admin_free);
    if (!take_arguments(admin)) {
        admin_refuse(admin, EXIT_USAGE, "%s: not the arguments that it takes", c->name);
    } else if ((c->style & ADMIN_THIS_NODE) != 0) {
        c->run(admin);
    } else if (shard->view == NULL || shard->boot == 0) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "%s", formation_state(shard));
    } else {
        host_catalog_barrier(shard->host, BARRIER_MS, on_barrier, admin);
    }
    return true;
}
