/*
 * What: operator's log: levels and a sink. Library code does not log errors, it returns them; the
 * owner of a decision logs once. An event is one line: line breaks and control bytes in it are
 * escaped. Threads: a logger is immutable once in use, but for its level; its sink must cope with
 * the threads that call it.
 */
#ifndef WR_LOGGER_H
#define WR_LOGGER_H

#include <stdarg.h>
#include <stdatomic.h>

#include "warren/assert.h"

/* RabbitMQ's levels (log.*.level in the configuration). */
enum log_level {
    LOG_LEVEL_DEBUG = 0,
    LOG_LEVEL_INFO = 1,
    LOG_LEVEL_NOTICE = 2,
    LOG_LEVEL_WARNING = 3,
    LOG_LEVEL_ERROR = 4,
    LOG_LEVEL_CRITICAL = 5,
    LOG_LEVEL_NONE = 6, /* As a logger's level: nothing at all. Not for events. */
};

/* One event. component ("raft", "connection") and line are borrowed for the call; line has no
 * newline. */
typedef void (*log_sink_fn)(void *ctx, enum log_level level, const char *component,
                            const char *line);

struct logger {
    log_sink_fn sink; /* NULL: nothing is logged. */
    void *ctx;
    _Atomic enum log_level level; /* Events below it are dropped before they are formatted. */
};

#define LOG_LINE_MAX 2048 /* Longer events are cut and end in "...". */

static inline bool logger_enabled(const struct logger *lg, enum log_level level)
{
    return lg != NULL && lg->sink != NULL &&
           level >= atomic_load_explicit(&lg->level, memory_order_relaxed) &&
           level < LOG_LEVEL_NONE;
}

/* Any thread; the others follow with their next events. */
static inline void logger_set_level(struct logger *lg, enum log_level level)
{
    atomic_store_explicit(&lg->level, level, memory_order_relaxed);
}

/* Format and hand to the sink, whatever the level. */
void logger_write(const struct logger *lg, enum log_level level, const char *component,
                  const char *fmt, ...) WR_PRINTF(4, 5);
void logger_vwrite(const struct logger *lg, enum log_level level, const char *component,
                   const char *fmt, va_list args) WR_PRINTF(4, 0);

/* wr_log(lg, LOG_LEVEL_INFO, "catalog", "vhost %s made", name): arguments are evaluated only if the
 * level is on. lg may be NULL. */
#define wr_log(lg, level, ...)                                                                     \
    do {                                                                                           \
        if (logger_enabled((lg), (level))) {                                                       \
            logger_write((lg), (level), __VA_ARGS__);                                              \
        }                                                                                          \
    } while (0)

/* "debug" ... "none"; parse takes exactly these, else WR_E_INVALID. */
const char *log_level_name(enum log_level level);
WR_MUST_USE int log_level_parse(const char *name, enum log_level *ret_level);

#endif
