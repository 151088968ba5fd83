/* The client suite of tests/compat/README.md for rabbitmq-c: options, the loop over the checks, the
 * report. */
#include "harness.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct check *const tables[] = {declaring_checks, message_checks, consuming_checks};

static bool run_one(struct test *t, const struct check *check)
{
    volatile bool ok = false;
    char why[600] = "";
    if (setjmp(t->out) == 0) {
        check->run(t);
        ok = true;
    } else {
        (void)snprintf(why, sizeof why, "%s", t->why);
    }
    if (setjmp(t->out) == 0) {
        clean(t);
    } else if (ok) {
        ok = false;
        (void)snprintf(why, sizeof why, "cleaning up: %.500s", t->why);
    }
    for (char *at = why; *at != 0; at++) {
        *at = *at == '\n' || *at == '\r' ? ' ' : *at;
    }
    (void)printf(ok ? "ok %s\n" : "not ok %s: %s\n", check->name, why);
    (void)fflush(stdout);
    return ok;
}

/* Is the check named in COMPAT_EXCEPT, a list with spaces? */
static bool left_out(const char *name)
{
    const char *list = getenv("COMPAT_EXCEPT");
    size_t size = strlen(name);
    while (list != NULL && *list != 0) {
        size_t length = strcspn(list, " ");
        if (length == size && memcmp(list, name, size) == 0) {
            return true;
        }
        list += length;
        list += strspn(list, " ");
    }
    return false;
}

static int run_all(char **uris, int uri_count, const char *queue_type, const char *pattern)
{
    int number = 0;
    int failures = 0;
    struct test *t = calloc(1, sizeof *t);
    if (t == NULL) {
        return 2;
    }
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const struct check *check = tables[i]; check->name != NULL; check++, number++) {
            if (fnmatch(pattern, check->name, 0) != 0 || left_out(check->name)) {
                continue;
            }
            memset(t, 0, sizeof *t);
            t->uris = uris;
            t->uri_count = uri_count;
            t->queue_type = queue_type;
            t->number = number;
            failures += run_one(t, check) ? 0 : 1;
        }
    }
    free(t);
    return failures == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    const char *queue_type = "classic";
    const char *pattern = "*";
    char *uris[16];
    int uri_count = 0;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--uris") == 0) {
            char *rest = argv[i + 1];
            for (char *one; (one = strsep(&rest, ",")) != NULL && uri_count < 16;) {
                uris[uri_count++] = one;
            }
        } else if (strcmp(argv[i], "--queue-type") == 0) {
            queue_type = argv[i + 1];
        } else if (strcmp(argv[i], "--check") == 0) {
            pattern = argv[i + 1];
        }
    }
    if (uri_count == 0) {
        (void)fprintf(
            stderr,
            "usage: suite --uris URI,... [--queue-type classic|quorum] [--check PATTERN]\n");
        return 2;
    }
    int chosen = 0;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        for (const struct check *check = tables[i]; check->name != NULL; check++) {
            chosen += fnmatch(pattern, check->name, 0) == 0;
        }
    }
    (void)printf("1..%d\n", chosen);
    return run_all(uris, uri_count, queue_type, pattern);
}
