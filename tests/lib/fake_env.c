/*
 * What: a test's env over the simulated disk and store (contract in fake_env.h).
 *
 * Upcalls are made only from fake_env_step, _run, _sleep and _deliver, each followed by one turn.
 * Everything random comes from one generator, so a seed repeats a run exactly.
 */
#include "fake_env.h"

#include <stdio.h>
#include <string.h>

#include "warren/err.h"
#include "warren/list.h"
#include "warren/mem.h"

struct env_file {
    struct list link;
    struct fake_env *fake;
    struct sim_handle *handle;
};

struct exec {
    struct list link;
    int (*work)(void *arg);
    void *arg;
    uint64_t token;
};

struct taken {
    struct list link;
    uint64_t token;
    struct buf *data;
};

static struct fake_env *fake_of(struct env *env)
{
    return (struct fake_env *)(void *)env;
}

/* --- time, mail, other --------------------------------------------------------------------- */

static uint64_t op_mono_ns(struct env *env)
{
    return fake_of(env)->mono_ns;
}

static uint64_t op_mono_now_ns(struct env *env)
{
    return fake_of(env)->mono_ns + fake_of(env)->turn_ms * 1000000;
}

static uint64_t op_wall_ms(struct env *env)
{
    return fake_of(env)->wall_ms + fake_of(env)->turn_ms;
}

static void op_wake_at(struct env *env, uint64_t mono_ns)
{
    fake_of(env)->wake_at = mono_ns;
}

static void op_post(struct env *env, uint32_t context, struct mail *owned_mail)
{
    struct fake_env *fake = fake_of(env);
    WR_ASSERT_OP(context, <, env->context_count);
    owned_mail->from = env->context;
    owned_mail->next = NULL;
    if (fake->post != NULL) {
        fake->post(fake->post_ctx, fake, context, owned_mail);
        return;
    }
    struct fake_mailbox *box = &fake->mailboxes[context];
    *box->tail = owned_mail;
    box->tail = &owned_mail->next;
    box->count++;
}

static void op_exec(struct env *env, int (*work)(void *arg), void *arg, uint64_t token)
{
    struct exec *exec = wr_calloc(1, sizeof(*exec));
    exec->work = work;
    exec->arg = arg;
    exec->token = token;
    list_push_back(&fake_of(env)->execs, &exec->link);
}

static void op_random_secret(struct env *env, void *out, size_t size)
{
    prng_fill(&fake_of(env)->prng, out, size);
}

static uint64_t op_seed(struct env *env)
{
    return prng_u64(&fake_of(env)->prng);
}

static void op_stop(struct env *env, int exit_code, const char *why)
{
    struct fake_env *fake = fake_of(env);
    if (!fake->stopped) {
        fake->stopped = true;
        fake->exit_code = exit_code;
        (void)snprintf(fake->stop_why, sizeof(fake->stop_why), "%s", why);
    }
}

/* --- files --------------------------------------------------------------------------------- */

static int op_dir_list(struct env *env, const char *dir, char ***ret_names, uint32_t *ret_count)
{
    return sim_dir_list(fake_of(env)->disk, dir, ret_names, ret_count);
}

static int op_dir_make(struct env *env, const char *dir)
{
    return sim_dir_make(fake_of(env)->disk, dir);
}

static int op_dir_sync(struct env *env, const char *dir)
{
    return sim_dir_sync(fake_of(env)->disk, dir);
}

static int op_file_open(struct env *env, const char *path, uint32_t flags,
                        struct env_file **ret_file)
{
    struct fake_env *fake = fake_of(env);
    struct sim_handle *handle;
    const int error = sim_file_open(fake->disk, path, flags, fake, &handle);
    if (error != 0) {
        return error;
    }
    struct env_file *file = wr_calloc(1, sizeof(*file));
    file->fake = fake;
    file->handle = handle;
    list_push_back(&fake->files, &file->link);
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
}

static void op_file_sync(struct env_file *file, uint64_t token)
{
    sim_file_sync(file->handle, token);
}

static void op_file_read(struct env *env, struct env_file *file, uint64_t offset, uint32_t size,
                         uint64_t token)
{
    WR_ASSERT(&file->fake->env == env);
    sim_file_read(file->handle, offset, size, token);
}

static struct buf *op_file_take(struct env *env, uint64_t token)
{
    LIST_FOREACH_SAFE(link, &fake_of(env)->buffers) {
        struct taken *taken = WR_CONTAINER_OF(link, struct taken, link);
        if (taken->token == token) {
            struct buf *data = taken->data;
            list_remove(&taken->link);
            wr_free(taken);
            return data;
        }
    }
    return NULL;
}

static int op_file_unlink(struct env *env, const char *path)
{
    return sim_file_unlink(fake_of(env)->disk, path);
}

static int op_file_rename(struct env *env, const char *from, const char *to)
{
    return sim_file_rename(fake_of(env)->disk, from, to);
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
    *ret_bytes = sim_disk_free_bytes(fake_of(env)->disk);
    return 0;
}

static int op_memory(struct env *env, uint64_t *ret_bytes)
{
    (void)env;
    (void)ret_bytes;
    return WR_E_UNSUPPORTED;
}

static void op_memory_trim(struct env *env, uint64_t least, uint64_t token)
{
    (void)env;
    (void)least;
    (void)token;
    WR_UNREACHABLE(); /* nobody trims what cannot be measured */
}

/* --- store --------------------------------------------------------------------------------- */

static void op_kv_write(struct env *env, struct kv_op *owned_ops, uint32_t count, uint64_t token)
{
    sim_kv_write(fake_of(env)->kv, env, owned_ops, count, token);
}

static void op_kv_flush(struct env *env, uint64_t token)
{
    sim_kv_flush(fake_of(env)->kv, env, token);
}

static void op_kv_get(struct env *env, struct slice *owned_keys, uint32_t count, uint64_t token)
{
    sim_kv_get(fake_of(env)->kv, env, owned_keys, count, token);
}

static void op_kv_scan(struct env *env, struct slice owned_begin, struct slice owned_end,
                       uint32_t limit, uint32_t bytes, uint64_t token)
{
    sim_kv_scan(fake_of(env)->kv, env, owned_begin, owned_end, limit, bytes, token);
}

static int op_kv_get_now(struct env *env, struct slice key, struct slice *ret_value)
{
    return sim_kv_get_now(fake_of(env)->kv, key, ret_value);
}

/* --- life ---------------------------------------------------------------------------------- */

static void set_ops(struct env_ops *ops)
{
    ops->mono_ns = op_mono_ns;
    ops->mono_now_ns = op_mono_now_ns;
    ops->wall_ms = op_wall_ms;
    ops->wake_at = op_wake_at;
    ops->post = op_post;
    ops->dir_list = op_dir_list;
    ops->dir_make = op_dir_make;
    ops->dir_sync = op_dir_sync;
    ops->file_open = op_file_open;
    ops->file_size = op_file_size;
    ops->file_allocate = op_file_allocate;
    ops->file_truncate = op_file_truncate;
    ops->file_pread = op_file_pread;
    ops->file_settle = op_file_settle;
    ops->file_write = op_file_write;
    ops->file_sync = op_file_sync;
    ops->file_read = op_file_read;
    ops->file_take = op_file_take;
    ops->file_unlink = op_file_unlink;
    ops->file_rename = op_file_rename;
    ops->file_close = op_file_close;
    ops->disk_free = op_disk_free;
    ops->kv_write = op_kv_write;
    ops->kv_flush = op_kv_flush;
    ops->kv_get = op_kv_get;
    ops->kv_scan = op_kv_scan;
    ops->kv_get_now = op_kv_get_now;
    ops->memory_used = op_memory;
    ops->memory_total = op_memory;
    ops->memory_trim = op_memory_trim;
    ops->exec = op_exec;
    ops->random_secret = op_random_secret;
    ops->seed = op_seed;
    ops->stop = op_stop;
}

void fake_env_init(struct fake_env *fake, uint64_t seed, uint32_t context, uint32_t context_count,
                   struct sim_disk *disk, struct sim_kv *kv)
{
    *fake = (struct fake_env){0};
    set_ops(&fake->ops);
    fake->env.ops = &fake->ops;
    fake->env.context = context;
    fake->env.context_count = context_count;
    prng_init(&fake->prng, seed);
    fake->owns_disk = disk == NULL;
    fake->owns_kv = kv == NULL;
    fake->disk = disk != NULL ? disk : sim_disk_new(prng_u64(&fake->prng));
    fake->kv = kv != NULL ? kv : sim_kv_new(prng_u64(&fake->prng));
    fake->mono_ns = UINT64_C(1000000000);
    fake->wall_ms = UINT64_C(1700000000000);
    fake->wake_at = UINT64_MAX;
    fake->mailboxes = wr_calloc(context_count, sizeof(*fake->mailboxes));
    for (uint32_t i = 0; i < context_count; i++) {
        fake->mailboxes[i].tail = &fake->mailboxes[i].head;
    }
    list_init(&fake->files);
    list_init(&fake->execs);
    list_init(&fake->buffers);
}

void fake_env_set_sink(struct fake_env *fake, const struct env_sink *sink, void *ctx)
{
    fake->sink = sink;
    fake->sink_ctx = ctx;
}

void fake_env_die(struct fake_env *fake)
{
    LIST_FOREACH_SAFE(link, &fake->files) {
        op_file_close(WR_CONTAINER_OF(link, struct env_file, link));
    }
    LIST_FOREACH_SAFE(link, &fake->execs) {
        list_remove(link);
        wr_free(WR_CONTAINER_OF(link, struct exec, link));
    }
    LIST_FOREACH_SAFE(link, &fake->buffers) {
        struct taken *taken = WR_CONTAINER_OF(link, struct taken, link);
        list_remove(link);
        buf_unref(taken->data);
        wr_free(taken);
    }
    for (uint32_t i = 0; i < fake->env.context_count; i++) {
        struct mail *mail;
        while ((mail = fake_env_take_mail(fake, i)) != NULL) {
            if (mail->destroy != NULL) {
                mail->destroy(mail);
            }
        }
    }
    fake->wake_at = UINT64_MAX;
}

void fake_env_deinit(struct fake_env *fake)
{
    fake_env_die(fake);
    wr_free(fake->mailboxes);
    if (fake->owns_disk) {
        sim_disk_free(fake->disk);
    }
    if (fake->owns_kv) {
        sim_kv_free(fake->kv);
    }
    *fake = (struct fake_env){0};
}

/* --- stepping ------------------------------------------------------------------------------ */

static void turn(struct fake_env *fake)
{
    fake->upcalls++;
    fake->sink->turn(fake->sink_ctx);
}

struct mail *fake_env_take_mail(struct fake_env *fake, uint32_t context)
{
    struct fake_mailbox *box = &fake->mailboxes[context];
    struct mail *mail = box->head;
    if (mail != NULL) {
        box->head = mail->next;
        if (box->head == NULL) {
            box->tail = &box->head;
        }
        box->count--;
        mail->next = NULL;
    }
    return mail;
}

void fake_env_deliver(struct fake_env *fake, uint32_t from, struct mail *owned_mail)
{
    owned_mail->from = from;
    fake->sink->on_mail(fake->sink_ctx, owned_mail);
    turn(fake);
}

static void step_file(struct fake_env *fake)
{
    struct sim_file_done done;
    WR_ASSERT(sim_disk_step(fake->disk, &done));
    struct fake_env *to = done.user;
    if (done.owned_data != NULL) {
        struct taken *taken = wr_calloc(1, sizeof(*taken));
        taken->token = done.token;
        taken->data = done.owned_data;
        list_push_back(&to->buffers, &taken->link);
    }
    to->sink->on_file(to->sink_ctx, done.token, done.result);
    buf_unref(op_file_take(&to->env, done.token)); /* not taken in the upcall: not wanted */
    turn(to);
}

static void step_kv(struct fake_env *fake)
{
    struct sim_kv_done done;
    WR_ASSERT(sim_kv_step(fake->kv, &done));
    struct fake_env *to = done.user;
    to->sink->on_kv(to->sink_ctx, done.token, done.result, done.owned_reply);
    turn(to);
}

static void step_exec(struct fake_env *fake)
{
    struct exec *exec = WR_CONTAINER_OF(list_pop_front(&fake->execs), struct exec, link);
    const int result = exec->work(exec->arg);
    fake->sink->on_exec(fake->sink_ctx, exec->token, result);
    wr_free(exec);
    turn(fake);
}

bool fake_env_step(struct fake_env *fake)
{
    struct fake_mailbox *own = &fake->mailboxes[fake->env.context];
    const uint32_t due[5] = {
        sim_disk_pending(fake->disk),           sim_kv_pending(fake->kv),
        list_is_empty(&fake->execs) ? 0 : 1,    own->head != NULL ? 1 : 0,
        fake->wake_at <= fake->mono_ns ? 1 : 0,
    };
    uint64_t total = 0;
    for (size_t i = 0; i < 5; i++) {
        total += due[i];
    }
    if (total == 0) {
        return false;
    }
    uint64_t draw = prng_below(&fake->prng, total);
    size_t kind = 0;
    while (draw >= due[kind]) {
        draw -= due[kind++];
    }
    if (kind == 0) {
        step_file(fake);
    } else if (kind == 1) {
        step_kv(fake);
    } else if (kind == 2) {
        step_exec(fake);
    } else if (kind == 3) {
        fake_env_deliver(fake, fake->env.context, fake_env_take_mail(fake, fake->env.context));
    } else {
        fake->wake_at = UINT64_MAX;
        turn(fake);
    }
    return true;
}

void fake_env_run(struct fake_env *fake, uint32_t steps_max)
{
    uint32_t steps = 0;
    while (fake_env_step(fake)) {
        WR_ASSERT_OP(++steps, <=, steps_max);
    }
}

bool fake_env_sleep(struct fake_env *fake)
{
    if (fake->wake_at == UINT64_MAX) {
        return false;
    }
    if (fake->wake_at > fake->mono_ns) {
        fake->wall_ms += (fake->wake_at - fake->mono_ns) / 1000000;
        fake->mono_ns = fake->wake_at;
    }
    fake->wake_at = UINT64_MAX;
    turn(fake);
    return true;
}
