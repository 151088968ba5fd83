/*
 * What: formats one event into one line and hands it to the sink.
 * Failure modes: an event longer than LOG_LINE_MAX ends in "...".
 */
#include "warren/logger.h"

#include <string.h>

#include "warren/err.h"
#include "warren/str.h"

static const char *const level_names[] = {"debug", "info",     "notice", "warning",
                                          "error", "critical", "none"};

static_assert(WR_ARRAY_SIZE(level_names) == LOG_LEVEL_NONE + 1, "one name per level");

void logger_vwrite(const struct logger *lg, enum log_level level, const char *component,
                   const char *fmt, va_list args)
{
    static const char ellipsis[] = "...";
    if (lg == NULL || lg->sink == NULL) {
        return;
    }
    char text[LOG_LINE_MAX];
    struct strbuf raw;
    strbuf_init(&raw, text, sizeof(text));
    strbuf_vprintf(&raw, fmt, args);

    char line[LOG_LINE_MAX + sizeof(ellipsis)];
    struct strbuf out;
    strbuf_init(&out, line, LOG_LINE_MAX);
    strbuf_add_line(&out, strbuf_bytes(&raw));
    if (raw.truncated || out.truncated) {
        memcpy(line + out.size, ellipsis, sizeof(ellipsis));
    }
    lg->sink(lg->ctx, level, component, line);
}

void logger_write(const struct logger *lg, enum log_level level, const char *component,
                  const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    logger_vwrite(lg, level, component, fmt, args);
    va_end(args);
}

const char *log_level_name(enum log_level level)
{
    WR_ASSERT_OP((unsigned)level, <, WR_ARRAY_SIZE(level_names));
    return level_names[level];
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
    for (unsigned i = 0; i < WR_ARRAY_SIZE(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            *ret_level = (enum log_level)i;
            return 0;
        }
    }
    return WR_E_INVALID;
}
