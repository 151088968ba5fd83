/*
 * What: wait: until the process that a PID file names, or that was named, serves clients as this
 * node. For init scripts that start a server and want to know when it is there. Failure modes: the
 * process ends meanwhile (69), the file holds no process id (69), the time is over (75). A node
 * that does not answer yet, or refuses us, is asked again: it may be another one that still has the
 * port.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "invocation.h"

#define DEFAULT_S 10 /* as rabbitmqctl's */

struct waiting {
    struct invocation *v;
    time_t until;
    json_t *said; /* what the JSON formatter shows at the end */
    char why[512];
};

static void say(struct waiting *w, json_t *owned_text)
{
    if (w->v->out.format != OUTPUT_JSON) {
        ctl_say(w->v, "%s", json_string_value(owned_text));
        (void)fflush(stdout);
    }
    (void)json_array_append_new(w->said, json_pack("{s:o}", "message", owned_text));
}

/* False: no time is left. */
static bool pause_a_while(const struct waiting *w)
{
    if (time(NULL) >= w->until) {
        return false;
    }
    ctl_pause_ms(100);
    return true;
}

static int out_of_time(struct waiting *w)
{
    w->v->ctl.timed_out = true;
    w->v->ctl.timeout_s = w->v->timeout_s > 0 ? w->v->timeout_s : DEFAULT_S;
    const int code = ctl_fail_unreachable(w->v, w->why);
    if (w->why[0] != 0) {
        (void)fprintf(stderr, "%s: %s\n", w->v->ctl.node, w->why);
    }
    return code;
}

static bool is_alive(long pid)
{
    return kill((pid_t)pid, 0) == 0 || errno == EPERM;
}

/* Of the file, once it is there and names a living process: who writes it may be at it, or an
 * earlier run has left it behind. 0: it holds no process id; -1: no time is left. */
static long read_pid(struct waiting *w, const char *path)
{
    for (;;) {
        char text[64] = "";
        FILE *file = fopen(path, "r");
        const bool there = file != NULL && fgets(text, sizeof text, file) != NULL;
        if (file != NULL) {
            (void)fclose(file);
        }
        char *end = text;
        const long pid = strtol(text, &end, 10);
        if (there && (end == text || (*end != 0 && *end != '\n') || pid <= 0)) {
            return 0;
        }
        if (there && is_alive(pid)) {
            return pid;
        }
        if (!pause_a_while(w)) {
            return -1;
        }
    }
}

/* The state that the node says it is in, for free(); NULL: it does not answer. */
static char *state_of(struct waiting *w)
{
    const time_t left = w->until - time(NULL);
    w->v->ctl.timeout_s = left > 1 ? (int)left : 1;
    w->v->ctl.timed_out = false;
    char *answer = ctl_ask(&w->v->ctl, "{\"command\":\"status\"}", false, w->why);
    json_t *reply = answer != NULL ? json_loads(answer, JSON_ALLOW_NUL, NULL) : NULL;
    const char *state =
        json_string_value(json_object_get(json_object_get(reply, "result"), "state"));
    char *copy = answer != NULL ? strdup(state != NULL ? state : "") : NULL;
    json_decref(reply);
    free(answer);
    return copy;
}

static int wait_for(struct waiting *w, long pid)
{
    const char *node = w->v->ctl.node;
    bool answers = false;
    say(w, json_sprintf("Waiting for erlang distribution on node '%s' while OS process '%ld' is "
                        "running",
                        node, pid));
    for (;;) {
        if (!is_alive(pid)) {
            return ctl_fail(w->v, EXIT_UNAVAILABLE, false, "process_not_running");
        }
        char *state = state_of(w);
        const bool running = state != NULL && strcmp(state, "running") == 0;
        if (state != NULL && !answers) {
            answers = true;
            say(w,
                json_sprintf("Waiting for applications 'rabbit_and_plugins' to start on node '%s'",
                             node));
        }
        free(state);
        if (running) {
            say(w,
                json_sprintf("Applications 'rabbit_and_plugins' are running on node '%s'", node));
            return 0;
        }
        if (w->v->ctl.interrupted) {
            return ctl_fail_interrupted(w->v);
        }
        if (!pause_a_while(w)) {
            return out_of_time(w);
        }
    }
}

static int wait_for_file(struct waiting *w, const char *path)
{
    char text[400];
    say(w, json_sprintf("Waiting for pid file '%s' to appear", path));
    const long pid = read_pid(w, path);
    if (pid < 0) {
        return out_of_time(w);
    }
    if (pid == 0) {
        (void)snprintf(text, sizeof text, "the file %.300s holds no process id", path);
        return ctl_fail(w->v, EXIT_UNAVAILABLE, false, text);
    }
    say(w, json_sprintf("pid is %ld", pid));
    return wait_for(w, pid);
}

int ctl_wait(struct invocation *v, const struct command *c)
{
    struct waiting w = {.v = v,
                        .until = time(NULL) + (v->timeout_s > 0 ? v->timeout_s : DEFAULT_S),
                        .said = json_array()};
    const char *path = v->word_count > 1 ? v->words[1] : NULL;
    if (path == NULL && !v->given[O_PID]) {
        invocation_refuse(v, c, EXIT_USAGE, "\"No pid or pidfile specified\"");
    }
    if (path != NULL && v->given[O_PID]) {
        invocation_refuse(v, c, EXIT_USAGE, "\"Cannot specify both pid and pidfile\"");
    }
    const int code =
        path != NULL ? wait_for_file(&w, path) : wait_for(&w, invocation_count(v, O_PID, 0));
    if (code == 0 && v->out.format == OUTPUT_JSON) {
        json_t *columns = json_pack("[s]", "message");
        output_rows(&v->out, columns, w.said);
        json_decref(columns);
    }
    json_decref(w.said);
    return code;
}
