/*
 * What: close_connection, close_all_connections, close_all_user_connections: the connections of the
 * cluster are listed, those that are meant are chosen here, and their pids go back.
 */
#include <string.h>

#include "invocation.h"

static const char *text_of(json_t *row, const char *column)
{
    const char *text = json_string_value(json_object_get(row, column));
    return text != NULL ? text : "";
}

static bool is_meant(const struct invocation *v, const struct command *c, json_t *row)
{
    if (strcmp(c->name, "close_connection") == 0) {
        return strcmp(text_of(row, "pid"), v->words[1]) == 0 ||
               strcmp(text_of(row, "name"), v->words[1]) == 0;
    }
    if (strcmp(c->name, "close_all_user_connections") == 0) {
        return strcmp(text_of(row, "user"), v->words[1]) == 0;
    }
    return v->given[O_GLOBAL] || strcmp(text_of(row, "vhost"), v->vhost) == 0;
}

static void banner(const struct invocation *v, const struct command *c)
{
    const long long limit = invocation_count(v, O_LIMIT, 0);
    if (c->banner != NULL) {
        ctl_banner(v, c);
    } else if (v->given[O_GLOBAL]) {
        ctl_say(v, "Closing all connections to node %s (across all vhosts), reason: %s...",
                v->ctl.node, v->words[1]);
    } else if (limit > 0) {
        ctl_say(v, "Closing %lld connections in vhost %s, reason: %s...", limit, v->vhost,
                v->words[1]);
    } else {
        ctl_say(v, "Closing all connections in vhost %s, reason: %s...", v->vhost, v->words[1]);
    }
}

/* Nodes that did not answer: their connections, if they have any, are as they were. */
static void add_silent(json_t *silent, json_t *reply)
{
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(reply, "silent"), i, name) {
        size_t k;
        json_t *known;
        bool there = false;
        json_array_foreach(silent, k, known) {
            there = there || json_equal(known, name);
        }
        if (!there) {
            (void)json_array_append(silent, name);
        }
    }
}

static int fail_silent(const struct invocation *v, json_t *silent)
{
    char text[1024];
    size_t used = 0;
    size_t i;
    json_t *name;
    json_array_foreach(silent, i, name) {
        const int n = snprintf(text + used, sizeof text - used, "%s'%.200s'", i == 0 ? "" : ", ",
                               json_string_value(name));
        used = used + (size_t)n < sizeof text - 100 ? used + (size_t)n : used;
    }
    (void)snprintf(text + used, sizeof text - used,
                   " did not answer in time: connections there were not closed");
    return ctl_fail(v, EXIT_UNAVAILABLE, false, text);
}

/* Pids of the connections that are meant; NULL with *ret_code. */
static json_t *choose(struct invocation *v, const struct command *c, json_t *silent, int *ret_code)
{
    const long long limit = invocation_count(v, O_LIMIT, 0);
    size_t i;
    json_t *row;
    json_t *reply = ctl_request(v, json_pack("{s:s}", "command", "list_connections"), ret_code);
    if (reply == NULL) {
        return NULL;
    }
    banner(v, c);
    json_t *pids = json_array();
    add_silent(silent, reply);
    if (json_object_get(reply, "error") != NULL) {
        *ret_code = ctl_fail_reply(v, reply);
    }
    json_array_foreach(json_object_get(reply, "result"), i, row) {
        if (is_meant(v, c, row) && (limit == 0 || json_array_size(pids) < (size_t)limit)) {
            (void)json_array_append(pids, json_object_get(row, "pid"));
        }
    }
    json_decref(reply);
    if (*ret_code != 0) {
        json_decref(pids);
        return NULL;
    }
    return pids;
}

/* Returns how many were closed, or -1 with *ret_code. */
static long long close_pids(struct invocation *v, json_t *owned_pids, json_t *silent, int *ret_code)
{
    const char *reason = v->words[v->word_count - 1];
    json_t *reply = ctl_request(v,
                                json_pack("{s:s, s:o, s:s}", "command", "close_connections", "pids",
                                          owned_pids, "reason", reason),
                                ret_code);
    if (reply == NULL) {
        return -1;
    }
    long long closed = (long long)json_array_size(json_object_get(reply, "result"));
    add_silent(silent, reply);
    if (json_object_get(reply, "error") != NULL) {
        *ret_code = ctl_fail_reply(v, reply);
        closed = -1;
    }
    json_decref(reply);
    return closed;
}

static bool looks_like_a_pid(const char *text)
{
    const size_t size = strlen(text);
    return size > 2 && text[0] == '<' && text[size - 1] == '>';
}

static void done(const struct invocation *v, const struct command *c, long long closed)
{
    char text[64];
    const bool all = strcmp(c->name, "close_all_connections") == 0;
    (void)snprintf(text, sizeof text, "Closed %lld connections", closed);
    if (v->out.format == OUTPUT_JSON && all) {
        json_t *value =
            json_pack("{s:s, s:s, s:s}", "node", v->ctl.node, "result", "ok", "value", text);
        (void)json_dumpf(value, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(value);
    } else if (v->out.format == OUTPUT_JSON || !all) {
        output_text(&v->out, v->ctl.node, "ok");
    } else {
        (void)printf("%s\n", text);
    }
}

/* Closes the connections; how many were. */
static long long close_all(struct invocation *v, json_t *pids, json_t *silent, int *ret_code)
{
    const long delay_ms = (long)invocation_count(v, O_DELAY, 0);
    const size_t count = json_array_size(pids);
    long long closed = 0;
    const size_t step = delay_ms > 0 ? 1 : 1000; /* in one request */
    for (size_t i = 0; i < count && *ret_code == 0; i += step) {
        json_t *some = json_array();
        for (size_t k = i; k < count && k < i + step; k++) {
            (void)json_array_append(some, json_array_get(pids, k));
        }
        const long long n = close_pids(v, some, silent, ret_code);
        closed += n > 0 ? n : 0;
        if (delay_ms > 0 && i + step < count) {
            ctl_pause_ms(delay_ms);
        }
    }
    return closed;
}

int ctl_close(struct invocation *v, const struct command *c)
{
    const bool one = strcmp(c->name, "close_connection") == 0;
    int code = 0;
    json_t *silent = json_array();
    json_t *pids = choose(v, c, silent, &code);
    const size_t count = json_array_size(pids);
    const long long closed = pids == NULL ? 0 : close_all(v, pids, silent, &code);
    /* One that was found and closed is all that there was to do. */
    if (code == 0 && json_array_size(silent) > 0 && !(one && closed > 0)) {
        code = fail_silent(v, silent);
    } else if (code == 0 && one && count == 0 && !looks_like_a_pid(v->words[1])) {
        code = ctl_fail(v, EXIT_UNAVAILABLE, false,
                        "there is no connection of that name, and it is not a pid");
    } else if (code == 0) {
        done(v, c, closed);
    }
    json_decref(pids);
    json_decref(silent);
    return code;
}
