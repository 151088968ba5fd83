/* Files of the real env: what the log relies on. */
#include <criterion/criterion.h>
#include <string.h>

#include "rig.h"
#include "warren/err.h"
#include "warren/mem.h"

struct file_test {
    struct rig rig;
    struct env *env;
    struct env_file *file;
    uint32_t step, done;
    int64_t results[32];
    uint64_t tokens[32];
    struct buf *bufs[32]; /* of the reads whose token is even: the others are not fetched */
};

static void on_file(void *ctx, uint64_t token, int64_t result)
{
    struct file_test *t = ctx;
    RIG_CHECK(t->done < 32);
    t->tokens[t->done] = token;
    t->results[t->done] = result;
    if (token >= 100 && token % 2 == 0) {
        t->bufs[t->done] = t->env->ops->file_take(t->env, token);
    }
    t->done++;
}

static void init(struct file_test *t, struct env_sink *sink, uint32_t context, void (*turn)(void *))
{
    *t = (struct file_test){.step = 0};
    rig_init(&t->rig, 1);
    *sink = rig_sink((struct env_sink){.on_file = on_file, .turn = turn});
    t->env = rig_env(&t->rig, context);
    rig_set(&t->rig, context, sink, t);
}

static void open_file(struct file_test *t, const char *name, uint32_t flags, struct env_file **ret)
{
    char path[256];
    rig_path(&t->rig, name, path);
    RIG_CHECK(t->env->ops->file_open(t->env, path, flags, ret) == 0);
}

/* As the log does it: in the log context, a gathered write, a sync, both told in order. */
static void write_turn(void *ctx)
{
    struct file_test *t = ctx;
    const struct env_ops *ops = t->env->ops;
    if (t->step == 0) {
        t->step = 1;
        open_file(t, "f", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &t->file);
        RIG_CHECK(ops->file_allocate(t->file, 1u << 20) == 0);
        struct slice many[600]; /* more than one writev takes */
        for (uint32_t i = 0; i < 600; i++) {
            uint8_t value[7];
            memset(value, (int)(i & 0xff), sizeof(value));
            many[i] = slice_copy(value, i % 5 == 4 ? 0 : sizeof(value));
        }
        ops->file_write(t->file, many, 600, 10, 1);
        struct slice one = slice_copy("END", 3);
        ops->file_write(t->file, &one, 1, 0, 2);
        ops->file_sync(t->file, 3);
        RIG_CHECK(t->done == 0); /* never from inside the call */
    } else if (t->done == 3) {
        rig_done(t->env, 7);
    }
}

Test(file, writes_are_gathered_ordered_and_told_later, .timeout = 60)
{
    struct file_test t;
    struct env_sink sink;
    init(&t, &sink, 1, write_turn);
    cr_assert_eq(rig_run(&t.rig), 7);
    cr_assert_eq(t.results[0], 480 * 7);
    cr_assert_eq(t.results[1], 3);
    cr_assert_eq(t.results[2], 0);
    cr_assert(t.tokens[0] == 1 && t.tokens[1] == 2 && t.tokens[2] == 3);
    uint8_t data[16];
    uint64_t size = 0;
    const struct env_ops *ops = t.env->ops;
    cr_assert_eq(ops->file_size(t.file, &size), 0);
    cr_assert_eq(size, 1u << 20);
    cr_assert_eq(ops->file_pread(t.file, data, 4, 0), 4);
    cr_assert_eq(memcmp(data, "END\0", 4), 0);
    cr_assert_eq(ops->file_pread(t.file, data, 7, 10 + 7 * 479), 7);
    cr_assert_eq(data[0], 598 & 0xff);
    cr_assert_eq(ops->file_truncate(t.file, 100), 0);
    cr_assert_eq(ops->file_settle(t.file), 0);
    cr_assert_eq(ops->file_pread(t.file, data, 16, 95), 5); /* short at the end only */
    cr_assert_eq(ops->file_pread(t.file, data, 16, 100), 0);
    ops->file_close(t.file);
    rig_deinit(&t.rig);
}

/* Any shard, on the pool; the file is closed while reads are under way. */
static void read_turn(void *ctx)
{
    struct file_test *t = ctx;
    const struct env_ops *ops = t->env->ops;
    if (t->step == 0) {
        t->step = 1;
        struct env_file *file;
        open_file(t, "f", ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE, &file);
        RIG_CHECK(ops->file_truncate(file, 1000) == 0);
        for (uint64_t i = 0; i < 10; i++) {
            ops->file_read(t->env, file, i * 100, 150, 100 + i);
        }
        ops->file_close(file);
    } else if (t->done == 10) {
        rig_done(t->env, 7);
    }
}

Test(file, reads_come_back_each_with_its_buffer, .timeout = 60)
{
    struct file_test t;
    struct env_sink sink;
    init(&t, &sink, 0, read_turn);
    cr_assert_eq(rig_run(&t.rig), 7);
    for (uint32_t i = 0; i < 10; i++) {
        int64_t expected = t.tokens[i] == 109 ? 100 : 150;
        cr_assert_eq(t.results[i], expected);
        if (t.tokens[i] % 2 == 0) {
            cr_assert_not_null(t.bufs[i]);
            cr_assert_eq(t.bufs[i]->size, expected);
            buf_unref(t.bufs[i]);
        }
    }
    rig_deinit(&t.rig);
}

/* The node ends with reads under way: nobody is told, nothing is lost (ASan would say). */
static void read_and_stop(void *ctx)
{
    struct file_test *t = ctx;
    if (t->step == 0) {
        t->step = 1;
        struct env_file *file;
        open_file(t, "f", ENV_OPEN_WRITE | ENV_OPEN_CREATE, &file);
        RIG_CHECK(t->env->ops->file_truncate(file, 1000) == 0);
        for (uint64_t i = 0; i < 20; i++) {
            t->env->ops->file_read(t->env, file, 0, 1000, 100 + i);
        }
        t->env->ops->file_close(file);
        rig_done(t->env, 7);
    }
}

Test(file, a_stop_with_reads_under_way_is_clean, .timeout = 60)
{
    for (uint32_t context = 0; context < 2; context++) { /* a shard's pool; the log's own threads */
        struct file_test t;
        struct env_sink sink;
        init(&t, &sink, context, read_and_stop);
        cr_assert_eq(rig_run(&t.rig), 7);
        for (uint32_t i = 0; i < t.done; i++) {
            buf_unref(t.bufs[i]);
        }
        rig_deinit(&t.rig);
    }
}

Test(file, directories)
{
    struct rig rig;
    char path[256];
    char other[256];
    char **names = NULL;
    uint32_t count = 0;
    struct env_file *file = NULL;
    rig_init(&rig, 1);
    struct env *env = rig_env(&rig, 0);
    const struct env_ops *ops = env->ops;
    rig_path(&rig, "a/b/c", path);
    cr_assert_eq(ops->dir_list(env, path, &names, &count), WR_E_NOTFOUND);
    cr_assert_eq(ops->dir_make(env, path), 0);
    cr_assert_eq(ops->dir_make(env, path), 0);
    cr_assert_eq(ops->dir_list(env, path, &names, &count), 0);
    cr_assert_eq(count, 0);
    wr_free(names);
    static const char *const files[] = {"a/b/c/10", "a/b/c/2", "a/b/c/z", "a/b/c/A"};
    static const char *const sorted[] = {"10", "2", "A", "z"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(files); i++) {
        rig_path(&rig, files[i], other);
        cr_assert_eq(ops->file_open(env, other, ENV_OPEN_READ, &file), WR_E_NOTFOUND);
        const uint32_t flags = ENV_OPEN_WRITE | ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE;
        cr_assert_eq(ops->file_open(env, other, flags, &file), 0);
        ops->file_close(file);
        cr_assert_eq(ops->file_open(env, other, flags, &file), WR_E_EXISTS);
    }
    cr_assert_eq(ops->dir_sync(env, path), 0);
    cr_assert_eq(ops->dir_list(env, path, &names, &count), 0);
    cr_assert_eq(count, WR_ARRAY_SIZE(sorted));
    for (uint32_t i = 0; i < count; i++) {
        cr_assert_str_eq(names[i], sorted[i]);
        wr_free(names[i]);
    }
    wr_free(names);
    rig_path(&rig, "a/b/c/moved", path);
    cr_assert_eq(ops->file_rename(env, other, path), 0);
    cr_assert_eq(ops->file_unlink(env, other), WR_E_NOTFOUND);
    cr_assert_eq(ops->file_unlink(env, path), 0);
    uint64_t free_bytes = 0;
    cr_assert_eq(ops->disk_free(env, rig.dir, &free_bytes), 0);
    cr_assert_gt(free_bytes, 0);
    rig_deinit(&rig);
}
