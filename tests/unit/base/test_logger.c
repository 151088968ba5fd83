/* One event, one line; levels; nothing evaluated when off. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/err.h"
#include "warren/logger.h"
#include "warren/mem.h"

struct capture {
    int events;
    enum log_level level;
    char component[32];
    char line[LOG_LINE_MAX + 16];
};

static void sink(void *ctx, enum log_level level, const char *component, const char *line)
{
    struct capture *c = ctx;
    c->events++;
    c->level = level;
    (void)snprintf(c->component, sizeof(c->component), "%s", component);
    (void)snprintf(c->line, sizeof(c->line), "%s", line);
}

Test(logger, line_breaks_are_escaped)
{
    static struct capture c;
    const struct logger lg = {sink, &c, LOG_LEVEL_INFO};
    wr_log(&lg, LOG_LEVEL_WARNING, "raft", "lost \"%s\"\nforged: x", "a\r\x1b");
    cr_assert_eq(c.events, 1);
    cr_assert_eq(c.level, LOG_LEVEL_WARNING);
    cr_assert_str_eq(c.component, "raft");
    cr_assert_str_eq(c.line, "lost \"a\\r\\x1b\"\\nforged: x");
}

Test(logger, events_below_the_level_are_not_evaluated)
{
    static struct capture c;
    int evaluated = 0;
    struct logger lg = {sink, &c, LOG_LEVEL_INFO};
    wr_log(&lg, LOG_LEVEL_DEBUG, "x", "%d", ++evaluated);
    lg.level = LOG_LEVEL_NONE;
    wr_log(&lg, LOG_LEVEL_CRITICAL, "x", "%d", ++evaluated);
    lg = (struct logger){NULL, NULL, LOG_LEVEL_DEBUG};
    wr_log(&lg, LOG_LEVEL_CRITICAL, "x", "%d", ++evaluated);
    wr_log((const struct logger *)NULL, LOG_LEVEL_CRITICAL, "x", "%d", ++evaluated);
    cr_assert_eq(evaluated, 0);
    cr_assert_eq(c.events, 0);
}

Test(logger, long_events_are_cut_and_marked)
{
    static struct capture c;
    const struct logger lg = {sink, &c, LOG_LEVEL_DEBUG};
    char *text = wr_alloc(10001);
    memset(text, 'a', 10000);
    text[10000] = '\0';
    wr_log(&lg, LOG_LEVEL_INFO, "x", "%s", text);
    cr_assert_eq(strlen(c.line), LOG_LINE_MAX - 1 + 3);
    cr_assert_str_eq(c.line + LOG_LINE_MAX - 1, "...");
    memset(text, '\n', 1500);
    text[1500] = '\0';
    wr_log(&lg, LOG_LEVEL_INFO, "x", "%s", text);
    cr_assert_str_eq(c.line + strlen(c.line) - 5, "\\n...");
    wr_free(text);
}

Test(logger, level_names_round_trip)
{
    for (int i = LOG_LEVEL_DEBUG; i <= LOG_LEVEL_NONE; i++) {
        enum log_level level;
        cr_assert_eq(log_level_parse(log_level_name((enum log_level)i), &level), 0);
        cr_assert_eq((int)level, i);
    }
    enum log_level level = LOG_LEVEL_INFO;
    cr_assert_eq(log_level_parse("Info", &level), WR_E_INVALID);
}
