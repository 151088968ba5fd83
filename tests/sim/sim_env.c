/*
 * What: struct env_ops for the contexts of every process in the simulation, and their turns.
 *
 * Happy path: whatever happens to a context (mail, bytes, a completion) becomes an item in its list
 * and a step is scheduled a little later; the step hands over what has gathered (all, or a part),
 * makes one turn, and lets the connections send. So batches of all sizes and orders across contexts
 * happen.
 *
 * Invariants: those of env.h. I1 no upcall from inside a call into the env (asserted by in_upcall
 * only growing in steps). I4 mail to one context keeps its order (mailbox). I6 each post has a
 * number; bytes under way know how many there were when they were sent.
 */
#include <string.h>

#include "sim.h"

#include "warren/err.h"
#include "warren/mem.h"

struct env_file {
    struct list link;
    struct sim_context *context;
    struct sim_handle *handle;
};

struct sim_mail {
    struct list link;
    struct mail *mail;
    uint64_t number; /* of the post, in the whole simulation */
};

struct exec_job {
    int (*work)(void *arg);
    void *arg;
};

static struct sim_context *context_of(const struct env *env)
{
    return (struct sim_context *)(uintptr_t)(const void *)env;
}

/* Drift: nanoseconds gained per millisecond. */
static int64_t drifted(const struct sim_host *host, int64_t now)
{
    return now + now * host->drift_ppm / 1000000;
}

uint64_t sim_host_mono(const struct sim_host *host)
{
    return host->mono_base + (uint64_t)drifted(host, (int64_t)host->sim->now);
}

/* The first time at which the host's monotonic clock shows at least `mono`. */
static uint64_t time_of_mono(const struct sim_host *host, uint64_t mono)
{
    int64_t t = (int64_t)host->sim->now;
    if (mono > sim_host_mono(host)) {
        const int64_t wanted = (int64_t)(mono - host->mono_base);
        while (drifted(host, t) < wanted) {
            t += wanted - drifted(host, t);
        }
    }
    return (uint64_t)t;
}

uint64_t sim_host_wall(const struct sim_host *host)
{
    return (uint64_t)(INT64_C(1750000000000) + (int64_t)(host->sim->now / SIM_MS) +
                      host->wall_offset_ms);
}

/* --- steps
 * ------------------------------------------------------------ */

struct sim_item *sim_item_push(struct sim_context *context, enum sim_item_kind kind)
{
    struct sim_item *item = wr_calloc(1, sizeof *item);
    item->kind = kind;
    list_push_back(&context->items, &item->link);
    sim_context_schedule(context, false);
    return item;
}

static void item_destroy(struct sim_item *item)
{
    switch (item->kind) {
    case SIM_ITEM_FILE:
        buf_unref(item->pointer);
        break;
    case SIM_ITEM_KV:
        kv_reply_free(item->pointer);
        break;
    case SIM_ITEM_EXEC:
        wr_free(item->pointer);
        break;
    case SIM_ITEM_MAIL:
    case SIM_ITEM_ACCEPT:
    case SIM_ITEM_CONNECTED:
    case SIM_ITEM_READABLE:
    case SIM_ITEM_DRAINED:
    case SIM_ITEM_CLOSED:
    case SIM_ITEM_MOVED:
        break;
    }
    wr_free(item);
}

static struct mail *mail_take(struct sim_context *context)
{
    struct list *link = list_pop_front(&context->mailbox);
    WR_ASSERT(link != NULL);
    struct sim_mail *m = WR_CONTAINER_OF(link, struct sim_mail, link);
    struct mail *mail = m->mail;
    wr_free(m);
    return mail;
}

static void mail_deliver(struct sim_context *context)
{
    struct mail *mail = mail_take(context);
    sim_mix(context->sim, (uint64_t)mail->kind << 8 | mail->from);
    mail->next = NULL;
    context->sink->on_mail(context->sink_ctx, mail);
}

void sim_mail_first(struct sim_context *context, uint64_t posts)
{
    for (;;) {
        struct list *link = list_first(&context->mailbox);
        if (link == NULL || WR_CONTAINER_OF(link, struct sim_mail, link)->number > posts) {
            return;
        }
        SIM_SOMETIMES(context->sim, true, SIM_SEEN_MAIL_FIRST);
        context->mail_early++;
        mail_deliver(context);
    }
}

static void deliver(struct sim_context *context, struct sim_item *item)
{
    const struct env_sink *sink = context->sink;
    sim_mix(context->sim, (uint64_t)item->kind << 56 ^ item->token ^ (uint64_t)item->result << 20);
    switch (item->kind) {
    case SIM_ITEM_MAIL:
        if (context->mail_early >
            0) { /* it was the first that was due: its turn has come and gone */
            context->mail_early--;
        } else {
            mail_deliver(context);
        }
        break;
    case SIM_ITEM_FILE:
        context->taken = item->pointer;
        context->taken_token = item->token;
        sink->on_file(context->sink_ctx, item->token, item->result);
        buf_unref(context->taken); /* what was not taken in the upcall is not wanted */
        context->taken = NULL;
        break;
    case SIM_ITEM_KV:
        sink->on_kv(context->sink_ctx, item->token, (int)item->result, item->pointer);
        break;
    case SIM_ITEM_EXEC: {
        struct exec_job *job = item->pointer;
        const int result = job->work(job->arg);
        wr_free(job);
        sink->on_exec(context->sink_ctx, item->token, result);
        break;
    }
    case SIM_ITEM_ACCEPT:
    case SIM_ITEM_CONNECTED:
    case SIM_ITEM_READABLE:
    case SIM_ITEM_DRAINED:
    case SIM_ITEM_CLOSED:
    case SIM_ITEM_MOVED:
        sim_net_item(context, item);
        break;
    }
    wr_free(item);
    context->dirty = true;
}

static void after_step(struct sim_context *context)
{
    struct sim *sim = context->sim;
    struct sim_host *host = context->host;
    if (!host->is_node) {
        return;
    }
    sim_check_step(context);
    if (host->stopped) {
        if (host->exit_code != 0) {
            sim_fail(sim, "node %u stopped with exit code %d: %s", host->index, host->exit_code,
                     host->stop_why);
        }
        sim_node_end(sim, host->index, SIM_END_EXIT); /* frees the context */
    }
}

static void context_step(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    struct sim_context *context = arg;
    struct sim_host *host = context->host;
    (void)a;
    (void)b;
    context->step_scheduled = false;
    if (host->paused_until > sim->now) {
        context->step_scheduled = true;
        sim_at_host(sim, host, host->paused_until + prng_below(&host->prng, SIM_MS), context_step,
                    context, 0, 0, NULL);
        return;
    }
    sim->steps++;
    context->steps++;
    sim_mix(sim, (uint64_t)host->index << 40 | (uint64_t)context->env.context << 32);
    sim_mix(sim, sim->now);
    uint32_t most = prng_ratio(&host->prng, 1, 8) ? 1 + (uint32_t)prng_below(&host->prng, 4) : 1000;
    for (uint32_t i = 0; i < most && !list_is_empty(&context->items); i++) {
        deliver(context, WR_CONTAINER_OF(list_pop_front(&context->items), struct sim_item, link));
    }
    if (context->wake_at <= sim_host_mono(host)) {
        context->wake_at = UINT64_MAX;
        context->dirty = true;
    }
    if (context->dirty) {
        context->dirty = false;
        context->sink->turn(context->sink_ctx);
        sim_net_flush(context);
    }
    if (!list_is_empty(&context->items)) {
        sim_context_schedule(context, false);
    }
    after_step(context);
}

void sim_context_schedule(struct sim_context *context, bool with_turn)
{
    context->dirty = context->dirty || with_turn;
    if (!context->step_scheduled && context->sink != NULL) {
        struct sim_host *host = context->host;
        uint64_t delay = prng_below(&host->prng, 16) == 0 ? prng_below(&host->prng, SIM_MS)
                                                          : prng_below(&host->prng, 40 * SIM_US);
        context->step_scheduled = true;
        sim_at_host(context->sim, host, context->sim->now + delay, context_step, context, 0, 0,
                    NULL);
    }
}

/* --- time
 * ------------------------------------------------------------
 */

static uint64_t op_mono_ns(struct env *env)
{
    return sim_host_mono(context_of(env)->host);
}

static uint64_t op_wall_ms(struct env *env)
{
    return sim_host_wall(context_of(env)->host);
}

static void on_wake(struct sim *sim, void *arg, uint64_t serial, uint64_t b)
{
    struct sim_context *context = arg;
    (void)sim;
    (void)b;
    if (context->wake_serial == serial && context->wake_at != UINT64_MAX) {
        sim_context_schedule(context, false);
    }
}

static void op_wake_at(struct env *env, uint64_t mono_ns)
{
    struct sim_context *context = context_of(env);
    if (mono_ns == context->wake_at) {
        return;
    }
    context->wake_at = mono_ns;
    context->wake_serial++;
    if (mono_ns < sim_host_mono(context->host) + 1000000 * SIM_S) {
        /* A real timer is rounded up to the next millisecond. */
        uint64_t at = time_of_mono(context->host, mono_ns);
        uint64_t late = prng_below(&context->host->prng, SIM_MS);
        sim_at_host(context->sim, context->host, at + late, on_wake, context, context->wake_serial,
                    0, NULL);
    }
}

/* --- mail, exec, other
 * ------------------------------------------------------------ */

bool sim_mail_waits(const struct sim_context *context,
                    bool (*fits)(const struct mail *mail, uint64_t number), uint64_t number)
{
    LIST_FOREACH(link, &context->mailbox) {
        if (fits(WR_CONTAINER_OF(link, struct sim_mail, link)->mail, number)) {
            return true;
        }
    }
    return false;
}

static void on_mail_due(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    (void)sim, (void)a, (void)b;
    (void)sim_item_push(arg, SIM_ITEM_MAIL);
}

static void op_post(struct env *env, uint32_t number, struct mail *owned_mail)
{
    struct sim_context *context = context_of(env);
    struct sim_host *host = context->host;
    WR_ASSERT_OP(number, <, host->context_count);
    owned_mail->from = env->context;
    uint64_t delay = prng_below(&host->prng, 32) == 0 ? prng_below(&host->prng, 2 * SIM_MS)
                                                      : prng_below(&host->prng, 20 * SIM_US);
    struct sim_context *to = &host->contexts[number];
    const uint64_t at = context->sim->now + delay;
    struct sim_mail *m = wr_alloc(sizeof *m);
    m->mail = owned_mail;
    m->number = ++context->sim->posts;
    list_push_back(&to->mailbox, &m->link);
    to->mail_at = at < to->mail_at ? to->mail_at : at;
    sim_at_host(context->sim, host, to->mail_at, on_mail_due, to, 0, 0, NULL);
}

static void on_exec_due(struct sim *sim, void *arg, uint64_t context_number, uint64_t token)
{
    struct exec_job *job = arg;
    struct sim_host *host = &sim->hosts[context_number >> 32];
    struct sim_item *item =
        sim_item_push(&host->contexts[context_number & 0xffffffff], SIM_ITEM_EXEC);
    item->token = token;
    item->pointer = job;
}

static void op_exec(struct env *env, int (*work)(void *arg), void *arg, uint64_t token)
{
    struct sim_context *context = context_of(env);
    struct exec_job *job = wr_calloc(1, sizeof *job);
    job->work = work;
    job->arg = arg;
    sim_at_host(context->sim, context->host,
                context->sim->now + prng_below(&context->host->prng, 5 * SIM_MS), on_exec_due, job,
                (uint64_t)context->host->index << 32 | env->context, token, wr_free);
}

static void op_random_secret(struct env *env, void *out, size_t size)
{
    prng_fill(&context_of(env)->host->prng, out, size);
}

static uint64_t op_seed(struct env *env)
{
    return prng_u64(&context_of(env)->host->prng);
}

static void op_stop(struct env *env, int exit_code, const char *why)
{
    struct sim_host *host = context_of(env)->host;
    if (!host->stopped) {
        host->stopped = true;
        host->exit_code = exit_code;
        (void)snprintf(host->stop_why, sizeof host->stop_why, "%s", why);
        sim_trace(host->sim, "node %u stops, exit code %d: %s", host->index, exit_code, why);
    }
}

/* --- files
 * ------------------------------------------------------------
 */

static struct sim_disk *disk_of(struct env *env)
{
    return context_of(env)->host->disk;
}

static int op_dir_list(struct env *env, const char *dir, char ***ret_names, uint32_t *ret_count)
{
    return sim_dir_list(disk_of(env), dir, ret_names, ret_count);
}

static int op_dir_make(struct env *env, const char *dir)
{
    return sim_dir_make(disk_of(env), dir);
}

static int op_dir_sync(struct env *env, const char *dir)
{
    return sim_dir_sync(disk_of(env), dir);
}

static int op_file_open(struct env *env, const char *path, uint32_t flags,
                        struct env_file **ret_file)
{
    struct sim_context *context = context_of(env);
    struct sim_handle *handle;
    const int error = sim_file_open(context->host->disk, path, flags, context, &handle);
    if (error != 0) {
        return error;
    }
    struct env_file *file = wr_calloc(1, sizeof *file);
    file->context = context;
    file->handle = handle;
    list_push_back(&context->files, &file->link);
    *ret_file = file;
    return 0;
}

static int op_file_size(struct env_file *file, uint64_t *ret_size)
{
    return sim_file_size(file->handle, ret_size);
}

static int op_file_allocate(struct env_file *file, uint64_t size)
{
    return sim_file_allocate(file->handle, size);
}

static int op_file_truncate(struct env_file *file, uint64_t size)
{
    return sim_file_truncate(file->handle, size);
}

static int64_t op_file_pread(struct env_file *file, void *data, size_t size, uint64_t offset)
{
    return sim_file_pread(file->handle, data, size, offset);
}

static int op_file_settle(struct env_file *file)
{
    return sim_file_settle(file->handle);
}

static void op_file_write(struct env_file *file, struct slice *owned, uint32_t count,
                          uint64_t offset, uint64_t token)
{
    sim_file_write(file->handle, owned, count, offset, token);
    sim_disk_event(file->context->host, false);
}

static void op_file_sync(struct env_file *file, uint64_t token)
{
    sim_file_sync(file->handle, token);
    sim_disk_event(file->context->host, true);
}

static void op_file_read(struct env *env, struct env_file *file, uint64_t offset, uint32_t size,
                         uint64_t token)
{
    WR_ASSERT(&file->context->env == env);
    sim_file_read(file->handle, offset, size, token);
    sim_disk_event(file->context->host, false);
}

static struct buf *op_file_take(struct env *env, uint64_t token)
{
    struct sim_context *context = context_of(env);
    if (context->taken == NULL || context->taken_token != token) {
        return NULL;
    }
    struct buf *data = context->taken;
    context->taken = NULL;
    return data;
}

static int op_file_unlink(struct env *env, const char *path)
{
    return sim_file_unlink(disk_of(env), path);
}

static int op_file_rename(struct env *env, const char *from, const char *to)
{
    return sim_file_rename(disk_of(env), from, to);
}

static void op_file_close(struct env_file *file)
{
    sim_file_close(file->handle);
    list_remove(&file->link);
    wr_free(file);
}

static int op_disk_free(struct env *env, const char *dir, uint64_t *ret_bytes)
{
    (void)dir;
    *ret_bytes = sim_disk_free_bytes(disk_of(env));
    return 0;
}

#define MEMORY_TOTAL (UINT64_C(1) << 30)

static bool op_certificate(struct env *env, struct env_certificate *ret)
{
    (void)env, (void)ret;
    return false;
}

static int op_memory_total(struct env *env, uint64_t *ret_bytes)
{
    (void)env;
    *ret_bytes = MEMORY_TOTAL;
    return 0;
}

/* All of it, or a third, which is below every watermark. */
static int op_memory_used(struct env *env, uint64_t *ret_bytes)
{
    const struct sim_context *context = context_of(env);
    *ret_bytes =
        context->host->memory_high_until > context->sim->now ? MEMORY_TOTAL : MEMORY_TOTAL / 3;
    return 0;
}

static int op_process(struct env *env, struct env_process *ret)
{
    (void)env, (void)ret;
    return WR_E_UNSUPPORTED;
}

static int trim(void *arg)
{
    (void)arg;
    return 0;
}

static void op_memory_trim(struct env *env, uint64_t least, uint64_t token)
{
    (void)least;
    op_exec(env, trim, NULL, token);
}

/* --- checkpoint store
 * ------------------------------------------------------------ */

static void op_kv_write(struct env *env, struct kv_op *owned_ops, uint32_t count, uint64_t token)
{
    struct sim_host *host = context_of(env)->host;
    sim_kv_write(host->kv, env, owned_ops, count, token); /* which copies the array */
    wr_free(owned_ops);
    sim_kv_event(host);
}

static void op_kv_flush(struct env *env, uint64_t token)
{
    struct sim_host *host = context_of(env)->host;
    sim_kv_flush(host->kv, env, token);
    sim_kv_event(host);
}

static void op_kv_get(struct env *env, struct slice *owned_keys, uint32_t count, uint64_t token)
{
    struct sim_host *host = context_of(env)->host;
    sim_kv_get(host->kv, env, owned_keys, count, token);
    wr_free(owned_keys);
    sim_kv_event(host);
}

static void op_kv_scan(struct env *env, struct slice owned_begin, struct slice owned_end,
                       uint32_t limit, uint32_t bytes, uint64_t token)
{
    struct sim_host *host = context_of(env)->host;
    sim_kv_scan(host->kv, env, owned_begin, owned_end, limit, bytes, token);
    sim_kv_event(host);
}

static int op_kv_get_now(struct env *env, struct slice key, struct slice *ret_value)
{
    return sim_kv_get_now(context_of(env)->host->kv, key, ret_value);
}

/* --- life
 * ------------------------------------------------------------
 */

const struct env_ops sim_env_ops = {
    .mono_ns = op_mono_ns,
    .mono_now_ns = op_mono_ns, /* no time passes within a turn */
    .wall_ms = op_wall_ms,
    .wake_at = op_wake_at,
    .post = op_post,
    .listen = sim_listen,
    .unlisten = sim_unlisten,
    .connect = sim_connect,
    .conn_send = sim_conn_send,
    .conn_backlog = sim_conn_backlog,
    .conn_unacked = sim_conn_unacked,
    .conn_set_watermarks = sim_conn_set_watermarks,
    .conn_pause = sim_conn_pause,
    .conn_close = sim_conn_close,
    .conn_user = sim_conn_user,
    .conn_set_user = sim_conn_set_user,
    .conn_tls = sim_conn_tls,
    .certificate = op_certificate,
    .conn_move = sim_conn_move,
    .dir_list = op_dir_list,
    .dir_make = op_dir_make,
    .dir_sync = op_dir_sync,
    .file_open = op_file_open,
    .file_size = op_file_size,
    .file_allocate = op_file_allocate,
    .file_truncate = op_file_truncate,
    .file_pread = op_file_pread,
    .file_settle = op_file_settle,
    .file_write = op_file_write,
    .file_sync = op_file_sync,
    .file_read = op_file_read,
    .file_take = op_file_take,
    .file_unlink = op_file_unlink,
    .file_rename = op_file_rename,
    .file_close = op_file_close,
    .disk_free = op_disk_free,
    .kv_write = op_kv_write,
    .kv_flush = op_kv_flush,
    .kv_get = op_kv_get,
    .kv_scan = op_kv_scan,
    .kv_get_now = op_kv_get_now,
    .memory_used = op_memory_used,
    .memory_total = op_memory_total,
    .process = op_process,
    .memory_trim = op_memory_trim,
    .exec = op_exec,
    .random_secret = op_random_secret,
    .seed = op_seed,
    .stop = op_stop,
};

void sim_context_init(struct sim_context *context, struct sim_host *host, uint32_t number,
                      uint32_t count)
{
    *context = (struct sim_context){
        .env = {.ops = &sim_env_ops, .context = number, .context_count = count},
        .sim = host->sim,
        .host = host,
        .wake_at = UINT64_MAX,
    };
    list_init(&context->items);
    list_init(&context->mailbox);
    list_init(&context->conns);
    list_init(&context->files);
}

void sim_context_deinit(struct sim_context *context)
{
    struct list *link;
    while ((link = list_pop_front(&context->items)) != NULL) {
        item_destroy(WR_CONTAINER_OF(link, struct sim_item, link));
    }
    while (!list_is_empty(&context->mailbox)) {
        struct mail *mail = mail_take(context);
        if (mail->destroy != NULL) {
            mail->destroy(mail);
        }
    }
    sim_conn_free_all(context);
    if (!list_is_empty(&context->files)) {
        sim_fail(context->sim, "node %u left a file open", context->host->index);
    }
    context->sink = NULL;
}
