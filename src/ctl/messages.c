/*
 * What: peek, copy, move, delete_messages: a queue is gone through page by page, so that progress
 * can be shown and Ctrl-C stops between two pages: then nothing is half done, and it is said what
 * was. Spec: docs/messages.md.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "invocation.h"

enum { PAGE = 1000, COUNT_DEFAULT = 10, BODY_SHOWN = 60, BAR = 30 };
enum { PLACE_READY = 1, PLACE_DELAYED = 2, PLACE_DEAD = 4 };

static volatile sig_atomic_t interrupted;

struct run {
    struct invocation *v;
    const struct command *command;
    bool peeks, dry_run;
    long long limit; /* what may still match; -1: no limit */
    long long from, end;
    long long total, seen, matched, done, refused;
    json_t *shown; /* rows of peek that cannot be printed page by page */
    size_t printed;
    long long told_ms;
    bool bar;
    bool begun; /* the banner is out */
};

static void on_interrupt(int number)
{
    (void)number;
    interrupted = interrupted == 0 ? 1 : 2;
}

/* --- options ---------------------------------------------------------------------------------- */

/* "ready,delayed,dead"; 0: something else. */
static int places_of(const char *text)
{
    static const struct {
        const char *name;
        int place;
    } names[] = {{"ready", PLACE_READY}, {"delayed", PLACE_DELAYED}, {"dead", PLACE_DEAD}};
    int places = 0;
    for (const char *at = text; *at != 0;) {
        const size_t size = strcspn(at, ",");
        int found = 0;
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            if (strlen(names[i].name) == size && strncmp(names[i].name, at, size) == 0) {
                found = names[i].place;
            }
        }
        if (found == 0) {
            return 0;
        }
        places |= found;
        at += size + (at[size] != 0);
    }
    return places;
}

static json_t *page_request(const struct run *r)
{
    const struct invocation *v = r->v;
    json_t *args = json_array();
    json_t *options = json_object();
    for (int i = 1; i < v->word_count; i++) {
        (void)json_array_append_new(args, json_string(v->words[i]));
    }
    (void)json_object_set_new(options, "page", json_integer(PAGE));
    (void)json_object_set_new(options, "from", json_integer(r->from));
    (void)json_object_set_new(options, "end", json_integer(r->end));
    (void)json_object_set_new(options, "dry-run", json_boolean(r->dry_run));
    (void)json_object_set_new(options, "bodies", json_boolean(v->out.format == OUTPUT_JSON));
    if (v->given[O_FILTER]) {
        (void)json_object_set_new(options, "filter", json_string(v->values[O_FILTER]));
    }
    if (v->given[O_PLACES]) {
        (void)json_object_set_new(options, "places", json_integer(places_of(v->values[O_PLACES])));
    }
    if (r->limit >= 0) {
        (void)json_object_set_new(options, "limit", json_integer(r->limit));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "command", r->command->name, "vhost", v->vhost, "args",
                     args, "options", options);
}

/* --- what is shown ---------------------------------------------------------------------------- */

static const char *verb(const struct run *r)
{
    return r->command->name[0] == 'c'   ? "copied"
           : r->command->name[0] == 'm' ? "moved"
           : r->command->name[0] == 'd' ? "deleted"
                                        : "shown";
}

static void end_bar(struct run *r)
{
    if (r->bar) {
        (void)fputs("\r\033[K", stderr);
        r->bar = false;
    }
}

static long long now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* The columns of the terminal that errors go to. */
static int width_of_terminal(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
}

/* One line of the terminal, for the next one begins where this one does: a line that is broken
 * could not be written over. What does not fit goes, the bar first. */
static void draw(struct run *r, int percent, long long total)
{
    const int width = width_of_terminal() - 1; /* in the last column some break the line */
    const long long done = r->dry_run ? r->matched : r->done;
    const char *what = r->dry_run ? "match" : verb(r);
    char bar[BAR + 1];
    char line[256];
    for (int i = 0; i < BAR; i++) {
        bar[i] = i < percent * BAR / 100 ? '#' : '.';
    }
    bar[BAR] = 0;
    int size = snprintf(line, sizeof line, "[%s] %3d%%  %lld of %lld looked at, %lld %s", bar,
                        percent, r->seen, total, done, what);
    if (size > width) {
        size = snprintf(line, sizeof line, "%3d%%  %lld of %lld looked at, %lld %s", percent,
                        r->seen, total, done, what);
    }
    if (size > width) {
        (void)snprintf(line, sizeof line, "%3d%%  %lld %s", percent, done, what);
    }
    (void)fprintf(stderr, "\r%.*s\033[K", width, line);
    r->bar = true;
}

/* A bar on a terminal, else a line a second while there is more to come; neither with -q. */
static void show_progress(struct run *r, bool more)
{
    const long long now = now_ms();
    const long long total = r->total > r->seen ? r->total : r->seen;
    const int percent = total > 0 ? (int)(r->seen * 100 / total) : 100;
    if (r->v->out.quiet || r->peeks) {
        return;
    }
    if (isatty(STDERR_FILENO)) {
        draw(r, percent, total);
    } else if (more && now - r->told_ms >= 1000) {
        r->told_ms = now;
        (void)fprintf(stderr, "%d%%: %lld of %lld looked at, %lld %s\n", percent, r->seen, total,
                      r->dry_run ? r->matched : r->done, r->dry_run ? "match" : verb(r));
    }
}

/* A body for a table: its beginning. */
static void shorten_body(json_t *row)
{
    const char *body = json_string_value(json_object_get(row, "body"));
    const char *encoding = json_string_value(json_object_get(row, "body_encoding"));
    char text[BODY_SHOWN + 64];
    if (body == NULL || encoding == NULL) {
        return;
    }
    const bool binary = strcmp(encoding, "base64") == 0;
    size_t size = json_string_length(json_object_get(row, "body"));
    bool cut = json_integer_value(json_object_get(row, "size")) > (json_int_t)size && !binary;
    if (size > BODY_SHOWN) {
        for (size = BODY_SHOWN; size > 0 && ((unsigned char)body[size] & 0xc0) == 0x80;) {
            size--; /* not in the middle of a character */
        }
        cut = true;
    }
    int before = snprintf(text, sizeof text, "%s", binary ? "base64:" : "");
    memcpy(text + before, body, size); /* there may be NULs in it */
    int after =
        snprintf(text + before + size, sizeof text - (size_t)before - size, "%s", cut ? "..." : "");
    (void)json_object_set_new(row, "body",
                              json_stringn(text, (size_t)before + size + (size_t)after));
}

static json_t *columns(void)
{
    json_t *names = json_array();
    output_add_words(names, "position place exchange routing_key size properties headers body",
                     " ");
    return names;
}

static void show_rows(struct run *r, json_t *rows)
{
    size_t i;
    json_t *row;
    json_t *names = columns();
    struct output_options out = r->v->out;
    json_array_foreach(rows, i, row) {
        if (out.format == OUTPUT_JSON) {
            (void)fputs(r->printed == 0 ? "" : ",", stdout);
            (void)json_dumpf(row, stdout, JSON_COMPACT);
            (void)putchar('\n');
        } else {
            shorten_body(row);
        }
        r->printed++;
    }
    if (out.format == OUTPUT_PRETTY || out.format == OUTPUT_ERLANG) {
        (void)json_array_extend(r->shown, rows); /* needs all of them */
    } else if (out.format != OUTPUT_JSON && json_array_size(rows) > 0) {
        out.no_headers = out.no_headers || r->printed > json_array_size(rows);
        output_rows(&out, names, rows);
    }
    json_decref(names);
}

static void summary(const struct run *r)
{
    const struct invocation *v = r->v;
    const bool stopped = interrupted != 0;
    if (v->out.format == OUTPUT_JSON) {
        json_t *s = json_pack("{s:s, s:I, s:I, s:I, s:I, s:b, s:b, s:s}", "node", v->ctl.node,
                              "looked_at", (json_int_t)r->seen, "matched", (json_int_t)r->matched,
                              verb(r), (json_int_t)r->done, "refused", (json_int_t)r->refused,
                              "dry_run", r->dry_run, "interrupted", stopped, "result", "ok");
        (void)json_dumpf(s, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(s);
        return;
    }
    if (r->dry_run) {
        (void)printf("%lld of %lld messages match; nothing was changed", r->matched, r->seen);
    } else {
        (void)printf("%lld of %lld messages %s", r->done, r->seen, verb(r));
    }
    if (r->refused > 0) {
        (void)printf(", %lld refused by the target", r->refused);
    }
    if (!r->dry_run && r->matched > r->done + r->refused) {
        (void)printf(", %lld gone before they could be taken", r->matched - r->done - r->refused);
    }
    (void)printf("%s\n", stopped ? "; stopped" : "");
}

/* --- the pages -------------------------------------------------------------------------------- */

static long long number(json_t *page, const char *name)
{
    return (long long)json_integer_value(json_object_get(page, name));
}

static void add_page(struct run *r, json_t *reply)
{
    json_t *result = json_object_get(reply, "result");
    json_t *page = json_object_get(result != NULL ? result : reply, "page");
    json_t *rows = json_object_get(result, "rows");
    const bool shows = r->peeks && !r->dry_run;
    const long long matched = shows ? (long long)json_array_size(rows) : number(page, "matched");
    r->total = r->from == 0 ? number(page, "total") : r->total;
    r->from = number(page, "next");
    r->end = number(page, "end");
    r->seen += number(page, "seen");
    r->matched += matched;
    r->done += number(page, "done");
    r->refused += number(page, "refused");
    if (r->limit >= 0) {
        r->limit = r->limit > matched ? r->limit - matched : 0;
    }
    if (shows) {
        show_rows(r, rows);
    }
}

/* Of a queue that cannot be asked nothing is said that looks like a beginning. */
static void begin(struct run *r, bool lists)
{
    if (r->begun) {
        return;
    }
    r->begun = true;
    ctl_banner(r->v, r->command);
    if (lists && r->peeks && !r->dry_run && r->v->out.format == OUTPUT_JSON) {
        (void)puts("[");
    }
}

static int finish(struct run *r)
{
    end_bar(r);
    if (!r->peeks || r->dry_run) {
        summary(r);
    } else if (r->v->out.format == OUTPUT_JSON) {
        (void)puts("]");
    } else if (json_array_size(r->shown) > 0) {
        json_t *names = columns();
        output_rows(&r->v->out, names, r->shown);
        json_decref(names);
    }
    return interrupted != 0 ? EXIT_INTERRUPTED : 0;
}

static int go_through(struct run *r)
{
    int code = 0;
    bool more;
    do {
        json_t *reply = ctl_request(r->v, page_request(r), &code);
        if (reply == NULL) {
            end_bar(r);
            if (r->seen > 0 && !r->peeks) {
                summary(r); /* of the pages before; the last one may have been done or not */
            }
            return code;
        }
        const bool failed = json_object_get(reply, "result") == NULL;
        begin(r, !failed);
        add_page(r, reply);
        if (failed) {
            end_bar(r);
            if (r->seen > 0 && !r->peeks) {
                summary(r);
            }
            code = ctl_fail_reply(r->v, reply);
            json_decref(reply);
            return code;
        }
        json_decref(reply);
        more = r->from != 0 && r->limit != 0 && interrupted == 0;
        show_progress(r, more);
    } while (more);
    return finish(r);
}

int ctl_messages(struct invocation *v, const struct command *c)
{
    struct run r = {.v = v,
                    .command = c,
                    .peeks = strcmp(c->name, "peek") == 0,
                    .dry_run = v->given[O_DRY_RUN],
                    .told_ms = now_ms()};
    r.limit = invocation_count(v, O_LIMIT, -1);
    if (r.peeks && !r.dry_run) { /* --count is peek's word for it */
        r.limit = invocation_count(v, O_COUNT, r.limit >= 0 ? r.limit : COUNT_DEFAULT);
    }
    if (v->given[O_PLACES] && places_of(v->values[O_PLACES]) == 0) {
        invocation_refuse(v, c, EXIT_USAGE,
                          "Bad argument: --places takes ready, delayed, dead, separated by commas");
    }
    const struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
    v->ctl.interrupts = &interrupted;
    r.shown = json_array();
    if (r.limit == 0) {
        begin(&r, true);
    }
    const int code = r.limit == 0 ? finish(&r) : go_through(&r);
    json_decref(r.shown);
    return code;
}
