/*
 * What: the contexts of a real node: threads, loops, mailboxes, timers, and the order of upcalls.
 *
 * Happy path: a shard is a libuv loop, woken by an eventfd. I/O callbacks make upcalls and mark the
 * context dirty; the check and prepare handles (after poll, before blocking) run one turn when it
 * is dirty: sink->turn(), then all connections with output are flushed. The log context has no loop
 * library: it sleeps in poll() on its eventfd, takes its mail, runs turns until no completion is
 * left. What is posted is there at once; its receiver is woken when the sender's turn is over (the
 * log's: when what is completed is told), so that an answer on its way is not kept waiting by
 * whoever wakes on the same CPU, and one wake-up serves all that a turn posts.
 *
 * Failure modes: stop() sets the exit code and wakes every context; each leaves its loop after the
 * current turn. Undelivered mail is destroyed in os_node_free.
 *
 * Invariants: I1 completions of work that was done at once (file writes of the log context, failed
 * connects) are queued and delivered from the loop, never from inside the call. I2 one wake-up per
 * batch of mail: the sender that finds wake_pending false sends it. I3 a turn that posted something
 * ends with wake_others(), before anything that may block.
 *
 * Threads: a context is touched by its own thread only, but for mail_head/mail_tail/wake_pending.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"
#include "tls.h"

/* TSan does not see that the mailbox orders what is written before post() before what is read after
 * receipt: it is told. */
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#define MAIL_RELEASE(mail) __tsan_release(mail)
#define MAIL_ACQUIRE(mail) __tsan_acquire(mail)
#else
#define MAIL_RELEASE(mail) ((void)(mail))
#define MAIL_ACQUIRE(mail) ((void)(mail))
#endif

#define DESCRIPTORS_MAX (1u << 20)
#define POOL_THREADS    4 /* for files, and what else is not a shard's one job of the store */
#define OS_TURNS_MAX    8 /* in one round of the loop, before sockets are looked at again */

/* The mailbox's node is laid over struct mail's link. */
static_assert(sizeof(struct cds_wfcq_node) <= sizeof(struct mail *),
              "mail link holds a wfcqueue node");
static_assert(offsetof(struct mail, next) == 0, "mail link comes first");

uint64_t os_now_ns(void)
{
    struct timespec ts;
    (void)clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * UINT64_C(1000000000) + (uint64_t)ts.tv_nsec;
}

static uint64_t env_mono_ns(struct env *env)
{
    struct os_context *context = os_context_of(env);
    if (context->now_ns == 0) {
        context->now_ns = os_now_ns();
    }
    return context->now_ns;
}

static uint64_t env_mono_now_ns(struct env *env)
{
    (void)env;
    return os_now_ns();
}

static uint64_t env_wall_ms(struct env *env)
{
    struct timespec ts;
    (void)env;
    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* --- mail ------------------------------------------------------------------------------------- */

/* Not with uv_async_send: whoever is woken by that spins until the sender is back from its write,
 * and the scheduler likes to put the two on one CPU. */
static void wake_context(struct os_context *context)
{
    uint64_t one = 1;
    ssize_t n;
    do {
        n = write(context->event_fd, &one, sizeof one);
    } while (n < 0 && errno == EINTR);
}

static void enqueue(struct os_context *to, struct mail *mail)
{
    struct cds_wfcq_node *node = (struct cds_wfcq_node *)(void *)mail;
    cds_wfcq_node_init(node);
    MAIL_RELEASE(mail);
    (void)cds_wfcq_enqueue(&to->mail_head, &to->mail_tail, node);
}

static void wake(struct os_context *to)
{
    if (!atomic_exchange_explicit(&to->wake_pending, true, memory_order_seq_cst)) {
        wake_context(to);
    }
}

void os_post(struct os_context *to, struct mail *mail)
{
    enqueue(to, mail);
    wake(to);
}

static void env_post(struct env *env, uint32_t context, struct mail *owned_mail)
{
    struct os_context *from = os_context_of(env);
    WR_ASSERT_OP(context, <, from->node->context_count);
    owned_mail->from = env->context;
    enqueue(&from->node->contexts[context], owned_mail);
    if (!from->wakes[context]) {
        from->wakes[context] = true;
        from->to_wake[from->wake_count++] = (uint8_t)context;
    }
}

static void wake_others(struct os_context *context)
{
    for (uint32_t i = 0; i < context->wake_count; i++) {
        const uint32_t to = context->to_wake[i];
        context->wakes[to] = false;
        wake(&context->node->contexts[to]);
    }
    context->wake_count = 0;
}

static void deliver_mail(struct os_context *context, struct mail *mail)
{
    switch (mail->kind) {
    case OS_MAIL_ACCEPTED:
    case OS_MAIL_MOVED:
        os_listen_on_mail(context, mail);
        break;
    case OS_MAIL_WORK: {
        struct os_work *work = WR_CONTAINER_OF(mail, struct os_work, mail);
        WR_ASSERT_OP(context->works, >, 0);
        context->works--;
        context->dirty = true;
        work->finish(work);
        break;
    }
    case OS_MAIL_STOP:
        wr_free(mail);
        context->stopping = true;
        break;
    default:
        context->dirty = true;
        context->sink->on_mail(context->sink_ctx, mail);
    }
}

/* What is there now, no more: a busy peer must not keep this context from its turn. */
static void drain_mail(struct os_context *context)
{
    struct cds_wfcq_head head;
    struct cds_wfcq_tail tail;
    cds_wfcq_init(&head, &tail);
    enum cds_wfcq_ret ret =
        __cds_wfcq_splice_blocking(&head, &tail, &context->mail_head, &context->mail_tail);
    if (ret == CDS_WFCQ_RET_SRC_EMPTY) {
        return;
    }
    for (;;) {
        struct cds_wfcq_node *node = __cds_wfcq_dequeue_blocking(&head, &tail);
        if (node == NULL) {
            break;
        }
        MAIL_ACQUIRE(node);
        deliver_mail(context, (struct mail *)(void *)node);
    }
}

void os_mail_first(struct os_context *context)
{
    if (!cds_wfcq_empty(&context->mail_head, &context->mail_tail)) {
        drain_mail(context); /* and whoever posted it wakes us for nothing, or has */
    }
}

/* --- completions of work that was done at once ------------------------------------------------ */

void os_complete(struct os_context *context, struct os_done done)
{
    if (context->done_count == context->done_capacity) {
        context->done_capacity = context->done_capacity == 0 ? 16 : context->done_capacity * 2;
        context->done =
            wr_realloc_array(context->done, context->done_capacity, sizeof *context->done);
    }
    context->done[context->done_count++] = done;
}

void os_deliver_done(struct os_context *context)
{
    while (context->done_count > 0) {
        struct os_done *batch = context->done;
        uint32_t count = context->done_count;
        context->done = NULL;
        context->done_count = context->done_capacity = 0;
        for (uint32_t i = 0; i < count; i++) {
            context->dirty = true;
            if (batch[i].kind == OS_DONE_FILE) {
                context->sink->on_file(context->sink_ctx, batch[i].token, batch[i].result);
            } else {
                os_tcp_connected_later(context, batch[i].conn, (int)batch[i].result);
            }
        }
        wr_free(batch);
        if (context->is_log) { /* its next round keeps it for as long as a sync takes */
            wake_others(context);
        }
    }
}

static void on_idle(uv_idle_t *handle)
{
    (void)uv_idle_stop(handle);
}

void os_turn(struct os_context *context)
{
    os_deliver_done(context);
    for (uint32_t i = 0; context->dirty; i++) {
        if (!context->is_log && i == OS_TURNS_MAX) {
            /* A peer that reads as fast as we write makes every flush an upcall: the other
             * connections come first now. */
            (void)uv_idle_start(&context->idle, on_idle);
            break;
        }
        context->dirty = false;
        context->sink->turn(context->sink_ctx);
        if (!context->is_log) {
            os_tcp_flush(context);
        }
        wake_others(context);
        os_deliver_done(context);
    }
    wake_others(context);
    context->now_ns = 0;
}

/* --- shard loops ------------------------------------------------------------------------------ */

static void on_check(uv_check_t *handle)
{
    os_turn(handle->data);
}

static void leave_if_stopping(struct os_context *context)
{
    if (context->stopping || atomic_load(&context->node->stop)) {
        uv_stop(&context->loop);
    }
}

static void on_prepare(uv_prepare_t *handle)
{
    struct os_context *context = handle->data;
    os_turn(context);
    leave_if_stopping(context);
}

static void take_mail(struct os_context *context)
{
    uint64_t count;
    ssize_t got = read(context->event_fd, &count, sizeof count);
    (void)got;
    atomic_store_explicit(&context->wake_pending, false, memory_order_seq_cst);
    /* The queue must not be looked at before that store is seen: a sender that still read true
     * sends no wake-up. */
    cmm_smp_mb();
    drain_mail(context);
}

static void on_mail(uv_poll_t *handle, int status, int events)
{
    (void)status, (void)events;
    take_mail(handle->data);
}

static void on_timer(uv_timer_t *handle)
{
    struct os_context *context = handle->data;
    context->wake_at_ns = UINT64_MAX;
    context->now_ns = 0;
    context->dirty = true;
}

static void env_wake_at(struct env *env, uint64_t mono_ns)
{
    struct os_context *context = os_context_of(env);
    if (mono_ns == context->wake_at_ns) {
        return;
    }
    context->wake_at_ns = mono_ns;
    if (context->is_log) {
        return;
    }
    if (mono_ns == UINT64_MAX) {
        (void)uv_timer_stop(&context->timer);
        return;
    }
    /* libuv counts whole milliseconds of the same clock, cached once per round: refresh that, and
     * round up so as never to wake early. */
    uv_update_time(&context->loop);
    uint64_t now_ms = uv_now(&context->loop);
    uint64_t due_ms = mono_ns / 1000000 + (mono_ns % 1000000 != 0);
    (void)uv_timer_start(&context->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static int shard_init(struct os_context *context)
{
    int rc = uv_loop_init(&context->loop);
    if (rc != 0) {
        return os_error(rc);
    }
    context->loop.data = context;
    rc = uv_poll_init(&context->loop, &context->mail, context->event_fd);
    if (rc != 0) {
        (void)uv_loop_close(&context->loop);
        return os_error(rc);
    }
    (void)uv_check_init(&context->loop, &context->check);
    (void)uv_prepare_init(&context->loop, &context->prepare);
    (void)uv_idle_init(&context->loop, &context->idle);
    (void)uv_timer_init(&context->loop, &context->timer);
    context->mail.data = context->check.data = context->prepare.data = context->timer.data =
        context;
    (void)uv_poll_start(&context->mail, UV_READABLE, on_mail);
    (void)uv_check_start(&context->check, on_check);
    (void)uv_prepare_start(&context->prepare, on_prepare);
    context->receive_buffer = wr_alloc(OS_RECEIVE_SIZE);
    return 0;
}

/* Connections, listeners and work on the pool end by themselves, silently; then the loop has
 * nothing left. */
static void shard_deinit(struct os_context *context)
{
    os_listen_close_all(context);
    os_tcp_close_all(context);
    uv_close((uv_handle_t *)&context->mail, NULL);
    uv_close((uv_handle_t *)&context->check, NULL);
    uv_close((uv_handle_t *)&context->prepare, NULL);
    uv_close((uv_handle_t *)&context->idle, NULL);
    uv_close((uv_handle_t *)&context->timer, NULL);
    if (context->env.context == 0) {
        os_tls_watch_stop(context->node->tls_watch);
        os_signals_stop(context->node);
    }
    (void)uv_run(&context->loop, UV_RUN_DEFAULT);
    int rc = uv_loop_close(&context->loop);
    WR_ASSERT_OP(rc, ==, 0);
    wr_free(context->receive_buffer);
    wr_free(context->tls_buffer);
}

static void shard_run(struct os_context *context)
{
    context->dirty = true; /* the first turn sets timers */
    (void)uv_run(&context->loop, UV_RUN_DEFAULT);
}

/* --- the log context -------------------------------------------------------------------------- */

static void log_run(struct os_context *context)
{
    context->dirty = true;
    while (!context->stopping && !atomic_load(&context->node->stop)) {
        os_turn(context);
        struct timespec timeout = {0};
        if (context->wake_at_ns != UINT64_MAX) {
            const uint64_t now = os_now_ns();
            const uint64_t wait = context->wake_at_ns <= now ? 0 : context->wake_at_ns - now;
            timeout.tv_sec = (time_t)(wait / 1000000000);
            timeout.tv_nsec = (long)(wait % 1000000000);
        }
        struct pollfd fd = {.fd = context->event_fd, .events = POLLIN};
        int n = ppoll(&fd, 1, context->wake_at_ns != UINT64_MAX ? &timeout : NULL, NULL);
        if (n > 0) {
            take_mail(context);
        }
        if (context->wake_at_ns != UINT64_MAX && os_now_ns() >= context->wake_at_ns) {
            context->wake_at_ns = UINT64_MAX;
            context->dirty = true;
        }
    }
}

static void *context_thread(void *arg)
{
    struct os_context *context = arg;
    char name[32];
    if (context->is_log) {
        (void)snprintf(name, sizeof name, "log");
        (void)pthread_setname_np(pthread_self(), name);
        log_run(context);
    } else {
        if (context->env.context > 0) { /* shard 0 is the main thread: its name is the process's */
            (void)snprintf(name, sizeof name, "shard-%u", context->env.context);
            (void)pthread_setname_np(pthread_self(), name);
        }
        shard_run(context);
    }
    context->silent = true;
    return NULL;
}

/* --- other ops -------------------------------------------------------------------------------- */

struct exec_job {
    struct os_work work;
    int (*fn)(void *arg);
    void *arg;
    uint64_t token;
    int result;
};

static void work_thread(uv_work_t *request)
{
    struct os_work *work = WR_CONTAINER_OF(request, struct os_work, request);
    work->run(work);
}

static void work_done(uv_work_t *request, int status)
{
    struct os_work *work = WR_CONTAINER_OF(request, struct os_work, request);
    (void)status; /* nothing is ever cancelled */
    work->context->dirty = true;
    work->finish(work);
}

static void *log_work_thread(void *arg)
{
    struct os_work *work = arg;
    work->run(work);
    os_post(work->context, &work->mail);
    return NULL;
}

void os_work_start(struct os_context *context, struct os_work *work)
{
    work->context = context;
    if (!context->is_log) {
        int rc = uv_queue_work(&context->loop, &work->request, work_thread, work_done);
        WR_ASSERT(rc == 0);
        return;
    }
    /* The log context has no loop whose pool could be used; it asks for work once per segment, so a
     * thread each time is fine. */
    context->works++;
    work->mail.kind = OS_MAIL_WORK;
    work->mail.destroy = NULL;
    pthread_t thread;
    pthread_attr_t attr;
    (void)pthread_attr_init(&attr);
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attr, log_work_thread, work) != 0) {
        work->run(work); /* no thread to be had: do it here, it only takes longer */
        os_post(context, &work->mail);
    }
    (void)pthread_attr_destroy(&attr);
}

static void exec_run(struct os_work *work)
{
    struct exec_job *job = (struct exec_job *)(void *)work;
    job->result = job->fn(job->arg);
}

static void exec_finish(struct os_work *work)
{
    struct exec_job *job = (struct exec_job *)(void *)work;
    struct os_context *context = work->context;
    if (!os_is_silent(context)) {
        context->sink->on_exec(context->sink_ctx, job->token, job->result);
    }
    wr_free(job);
}

static void env_exec(struct env *env, int (*fn)(void *arg), void *arg, uint64_t token)
{
    struct exec_job *job = wr_calloc(1, sizeof *job);
    job->work.run = exec_run;
    job->work.finish = exec_finish;
    job->fn = fn;
    job->arg = arg;
    job->token = token;
    os_work_start(os_context_of(env), &job->work);
}

static void random_bytes(void *out, size_t size)
{
    uint8_t *at = out;
    while (size > 0) {
        ssize_t n = getrandom(at, size, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        WR_ASSERT(n > 0);
        at += n;
        size -= (size_t)n;
    }
}

static void env_random_secret(struct env *env, void *out, size_t size)
{
    (void)env;
    random_bytes(out, size);
}

static uint64_t env_seed(struct env *env)
{
    uint64_t seed;
    (void)env;
    random_bytes(&seed, sizeof seed);
    return seed;
}

static void env_stop(struct env *env, int exit_code, const char *why)
{
    struct os_node *node = os_context_of(env)->node;
    wr_log(node->logger, exit_code == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_CRITICAL, "node",
           "stopping: %s", why);
    atomic_store(&node->exit_code, exit_code);
    atomic_store(&node->stop, true);
    for (uint32_t i = 0; i < node->context_count; i++) {
        struct mail *mail = wr_calloc(1, sizeof *mail);
        mail->kind = OS_MAIL_STOP;
        os_post(&node->contexts[i], mail);
    }
}

/* --- node ------------------------------------------------------------------------------------- */

static void ops_fill(struct env_ops *ops)
{
    *ops = (struct env_ops){
        .mono_ns = env_mono_ns,
        .mono_now_ns = env_mono_now_ns,
        .wall_ms = env_wall_ms,
        .wake_at = env_wake_at,
        .post = env_post,
        .exec = env_exec,
        .random_secret = env_random_secret,
        .seed = env_seed,
        .stop = env_stop,
    };
    os_tcp_ops(ops);
    os_listen_ops(ops);
    os_tls_watch_ops(ops);
    os_file_ops(ops);
    os_kv_ops(ops);
    os_memory_ops(ops);
    os_process_ops(ops);
}

static int context_init(struct os_node *node, uint32_t number)
{
    struct os_context *context = &node->contexts[number];
    context->env =
        (struct env){.ops = &node->ops, .context = number, .context_count = node->context_count};
    context->node = node;
    context->is_log = number + 1 == node->context_count;
    context->wake_at_ns = UINT64_MAX;
    cds_wfcq_init(&context->mail_head, &context->mail_tail);
    list_init(&context->connections);
    list_init(&context->to_flush);
    list_init(&context->to_read);
    list_init(&context->listeners);
    list_init(&context->tls_handshakes);
    list_init(&context->reads);
    list_init(&context->kv_writes);
    context->event_fd = eventfd(0, EFD_CLOEXEC);
    if (context->event_fd < 0) {
        return os_error(-errno);
    }
    int rc = context->is_log ? 0 : shard_init(context);
    if (rc != 0) {
        (void)close(context->event_fd);
    }
    context->ready = rc == 0;
    return rc;
}

/* As many descriptors as we may have: each connection costs one. */
static uint32_t raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024;
    }
    rlim_t had = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    if (limit.rlim_cur != had && setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        limit.rlim_cur = had;
    }
    return limit.rlim_cur > DESCRIPTORS_MAX ? DESCRIPTORS_MAX : (uint32_t)limit.rlim_cur;
}

/* One job of each shard may wait for space (kv_space.c): others are not to wait with it. Before the
 * first one, and before there are threads. */
static void size_thread_pool(uint32_t shards)
{
    char text[16];
    (void)snprintf(text, sizeof text, "%u", shards + POOL_THREADS);
    (void)setenv("UV_THREADPOOL_SIZE", text, 0);
}

int os_node_new(const struct os_options *options, struct os_node **ret_node, char *errmsg)
{
    WR_ASSERT(options->shards >= 1 && options->shards <= OS_SHARDS_MAX);
    struct os_node *node = wr_calloc(1, sizeof *node);
    os_memory_init();
    ops_fill(&node->ops);
    node->logger = options->logger;
    node->on_signal = options->on_signal;
    node->signal_ctx = options->signal_ctx;
    node->context_count = options->shards + 1;
    node->descriptors_max = raise_descriptors();
    size_thread_pool(options->shards);
    node->contexts = wr_calloc(node->context_count, sizeof *node->contexts);
    for (uint32_t i = 0; i < node->context_count; i++) {
        int rc = context_init(node, i);
        if (rc != 0) {
            (void)snprintf(errmsg, 256, "cannot make context %u: %s", i, wr_err_text(rc));
            os_node_free(node);
            return rc;
        }
    }
    int rc = options->tls != NULL ? os_tls_server_new(options->tls, &node->tls, errmsg) : 0;
    os_kv_space_watch(options->kv_dir, options->logger);
    rc = rc != 0 ? rc : os_kv_open(options->kv_dir, &node->kv, errmsg);
    if (rc != 0) {
        os_node_free(node);
        return rc;
    }
    if (node->tls != NULL) {
        os_tls_watch_start(&node->contexts[0]);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file over `ulimit -f` is an error with a text, too */
    *ret_node = node;
    return 0;
}

struct env *os_env(struct os_node *node, uint32_t context)
{
    WR_ASSERT_OP(context, <, node->context_count);
    return &node->contexts[context].env;
}

void os_set_sink(struct os_node *node, uint32_t context, const struct env_sink *sink, void *ctx)
{
    node->contexts[context].sink = sink;
    node->contexts[context].sink_ctx = ctx;
}

/* What was posted and will not be received any more. A connection on its way to another context is
 * handed over after all, so that whoever frees the node's objects finds its user. */
static void settle_mail(struct os_context *context)
{
    for (;;) {
        struct cds_wfcq_node *node =
            __cds_wfcq_dequeue_blocking(&context->mail_head, &context->mail_tail);
        if (node == NULL) {
            return;
        }
        MAIL_ACQUIRE(node);
        struct mail *mail = (struct mail *)(void *)node;
        bool own = mail->kind == OS_MAIL_STOP || mail->kind == OS_MAIL_WORK ||
                   (mail->kind == OS_MAIL_MOVED && context->sink != NULL);
        if (own) {
            deliver_mail(context, mail);
        } else if (mail->destroy != NULL) {
            mail->destroy(mail);
        }
    }
}

int os_node_run(struct os_node *node)
{
    os_signals_start(node);
    for (uint32_t i = 1; i < node->context_count; i++) {
        int rc =
            pthread_create(&node->contexts[i].thread, NULL, context_thread, &node->contexts[i]);
        WR_ASSERT(rc == 0);
    }
    (void)context_thread(&node->contexts[0]);
    for (uint32_t i = 1; i < node->context_count; i++) {
        (void)pthread_join(node->contexts[i].thread, NULL);
    }
    for (uint32_t i = 0; i < node->context_count; i++) {
        settle_mail(&node->contexts[i]);
    }
    return atomic_load(&node->exit_code);
}

/* Threads that still work for the log context report by mail, whose memory is theirs. */
static void log_deinit(struct os_context *context)
{
    settle_mail(context);
    while (context->works > 0) {
        uint64_t count;
        ssize_t got = read(context->event_fd, &count, sizeof count);
        (void)got;
        atomic_store(&context->wake_pending, false);
        cmm_smp_mb();
        settle_mail(context);
    }
}

void os_node_free(struct os_node *node)
{
    if (node == NULL) {
        return;
    }
    atomic_store(&node->stop, true);
    os_kv_space_leave(atomic_load(&node->exit_code));
    for (uint32_t i = 0; i < node->context_count; i++) {
        node->contexts[i].silent = true; /* of those that never ran, too */
    }
    for (uint32_t i = 0; i < node->context_count; i++) {
        struct os_context *context = &node->contexts[i];
        if (context->ready && context->is_log) {
            log_deinit(context);
        } else if (context->ready) {
            shard_deinit(context);
        }
    }
    for (uint32_t i = 0; i < node->context_count; i++) {
        if (node->contexts[i].ready) {
            settle_mail(&node->contexts[i]);
            (void)close(node->contexts[i].event_fd);
        }
        wr_free(node->contexts[i].done);
    }
    os_kv_close(node->kv);
    os_tls_watch_free(node->tls_watch);
    os_tls_server_free(node->tls);
    wr_free(node->contexts);
    wr_free(node);
}
