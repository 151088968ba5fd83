/*
 * What: looks at the files of TLS once a second and says in the log what became of it.
 *
 * Happy path: a timer of shard 0 gives the look to a thread of the pool; when that is back, the log
 * gets its line, and the timer starts again. So there is one look at a time, and one that a file
 * system lets wait holds up no shard.
 *
 * Failure modes: files that are no good are a warning, once for each change of them.
 *
 * Threads: shard 0; run() on a thread of the pool.
 */
#include <stdio.h>
#include <time.h>

#include "warren/mem.h"

#include "os_internal.h"
#include "tls_internal.h"

#define LOOK_MS   1000u
#define SOON_DAYS 30
#define DAY_S     86400

struct os_tls_watch {
    struct os_work work; /* first */
    struct os_context *context;
    uv_timer_t timer;
    enum os_tls_look look;
    char errmsg[256];
};

static void tell_certificate(const struct os_node *node)
{
    struct env_certificate c;
    char text[160];
    int64_t now = (int64_t)time(NULL);
    enum log_level level = LOG_LEVEL_WARNING;
    os_tls_server_certificate(node->tls, &c);
    int64_t days = (c.until_s - now) / DAY_S;
    if (c.until_s <= now) {
        (void)snprintf(text, sizeof text, "has expired: it was valid until %s", c.valid_until);
    } else if (c.from_s > now) {
        (void)snprintf(text, sizeof text, "is not valid yet: it will be from %s", c.valid_from);
    } else if (days < SOON_DAYS) {
        (void)snprintf(text, sizeof text, "expires in %lld days: it is valid until %s",
                       (long long)days, c.valid_until);
    } else {
        level = LOG_LEVEL_INFO;
        (void)snprintf(text, sizeof text, "is valid until %s", c.valid_until);
    }
    wr_log(node->logger, level, "listener", "the certificate in %s, of '%s' by '%s', %s",
           os_tls_server_options(node->tls)->certfile, c.subject, c.issuer, text);
}

static void look_run(struct os_work *work)
{
    struct os_tls_watch *watch = (struct os_tls_watch *)(void *)work;
    watch->look = os_tls_server_look(watch->context->node->tls, watch->errmsg);
}

static void on_look_due(uv_timer_t *timer)
{
    struct os_tls_watch *watch = timer->data;
    os_work_start(watch->context, &watch->work);
}

static void look_finish(struct os_work *work)
{
    struct os_tls_watch *watch = (struct os_tls_watch *)(void *)work;
    const struct os_node *node = watch->context->node;
    if (uv_is_closing((uv_handle_t *)&watch->timer) || os_is_silent(watch->context)) {
        return;
    }
    switch (watch->look) {
    case OS_TLS_LOOK_NOTHING:
        break;
    case OS_TLS_LOOK_LOADED:
        wr_log(node->logger, LOG_LEVEL_INFO, "listener",
               "the files of TLS have changed and are in use from now on");
        tell_certificate(node);
        break;
    case OS_TLS_LOOK_REFUSED:
        wr_log(node->logger, LOG_LEVEL_WARNING, "listener", "%s; what was read before stays in use",
               watch->errmsg);
        break;
    }
    (void)uv_timer_start(&watch->timer, on_look_due, LOOK_MS, 0);
}

void os_tls_watch_start(struct os_context *context)
{
    struct os_tls_watch *watch = wr_calloc(1, sizeof *watch);
    watch->context = context;
    watch->work.run = look_run;
    watch->work.finish = look_finish;
    context->node->tls_watch = watch;
    tell_certificate(context->node);
    (void)uv_timer_init(&context->loop, &watch->timer);
    watch->timer.data = watch;
    (void)uv_timer_start(&watch->timer, on_look_due, LOOK_MS, 0);
}

void os_tls_watch_stop(struct os_tls_watch *watch)
{
    if (watch != NULL) {
        uv_close((uv_handle_t *)&watch->timer, NULL);
    }
}

void os_tls_watch_free(struct os_tls_watch *watch)
{
    wr_free(watch);
}

static bool env_certificate(struct env *env, struct env_certificate *ret)
{
    struct os_tls_server *server = os_context_of(env)->node->tls;
    if (server == NULL) {
        return false;
    }
    os_tls_server_certificate(server, ret);
    return true;
}

void os_tls_watch_ops(struct env_ops *ops)
{
    ops->certificate = env_certificate;
}
