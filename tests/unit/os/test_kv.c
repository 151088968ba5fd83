/* The checkpoint store over RocksDB: order, atomicity as seen from outside, scans, what is not
 * there. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <dlfcn.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "rig.h"
#include "warren/err.h"
#include "warren/mem.h"

struct kv_test {
    struct rig rig;
    struct env *env;
    uint32_t step, done, expected;
    int results[64];
    uint64_t tokens[64];
    struct kv_reply *replies[64]; /* by token */
    bool stop_at_once;
};

static void on_kv(void *ctx, uint64_t token, int result, void *reply)
{
    struct kv_test *t = ctx;
    RIG_CHECK(t->done < 64 && token < 64);
    t->tokens[t->done] = token;
    t->results[t->done] = result;
    t->done++;
    RIG_CHECK(t->replies[token] == NULL);
    t->replies[token] = reply;
}

static struct slice text(const char *s)
{
    return slice_copy(s, strlen(s));
}

static struct kv_op *op(struct kv_op *op, int kind, const char *key, const char *value)
{
    *op = (struct kv_op){.kind = kind, .key = text(key)};
    if (value != NULL) {
        op->value = text(value);
    }
    return op + 1;
}

static void put(struct kv_test *t, const char *key, const char *value, uint64_t token)
{
    struct kv_op *ops = wr_calloc(1, sizeof(*ops));
    (void)op(ops, KV_PUT, key, value);
    t->env->ops->kv_write(t->env, ops, 1, token);
}

static void write_step(struct kv_test *t)
{
    struct kv_op *ops = wr_calloc(30, sizeof(*ops));
    struct kv_op *at = ops;
    for (int i = 0; i < 26; i++) {
        char key[8];
        char value[16];
        (void)snprintf(key, sizeof(key), "k/%c", 'a' + i);
        (void)snprintf(value, sizeof(value), "v%d", i);
        at = op(at, KV_PUT, key, value);
    }
    at = op(at, KV_PUT, "empty", "");
    at = op(at, KV_DELETE, "k/b", NULL);
    at = op(at, KV_DELETE_RANGE, "k/x", "k/z");
    t->env->ops->kv_write(t->env, ops, (uint32_t)(at - ops), 1);
    for (uint64_t i = 0; i < 20; i++) { /* writes of one context are carried out in order */
        char value[16];
        (void)snprintf(value, sizeof(value), "%u", (unsigned)i);
        put(t, "last", value, 10 + i);
    }
    t->env->ops->kv_flush(t->env, 30);
    t->expected = 22;
}

static void read_step(struct kv_test *t)
{
    static const char *const keys[] = {"k/c", "k/b", "empty", "last", "k/x", "k/z", "nothing"};
    struct slice *owned = wr_calloc(WR_ARRAY_SIZE(keys), sizeof(*owned));
    for (size_t i = 0; i < WR_ARRAY_SIZE(keys); i++) {
        owned[i] = text(keys[i]);
    }
    t->env->ops->kv_get(t->env, owned, WR_ARRAY_SIZE(keys), 2);
    t->env->ops->kv_scan(t->env, text("k/"), text("k0"), 1000, 1u << 20, 3);
    t->env->ops->kv_scan(t->env, text("k/d"), text("k/j"), 4, 1u << 20, 4);
    t->env->ops->kv_scan(t->env, text("k/d"), text("k/f"), 2, 1u << 20, 5);
    t->env->ops->kv_scan(t->env, text("k/"), text("k0"), 1000, 1, 6);
    t->env->ops->kv_scan(t->env, text("zzz"), text("zzzz"), 10, 100, 7);
    t->expected += 6;
}

static void turn(void *ctx)
{
    struct kv_test *t = ctx;
    if (t->done == t->expected) {
        t->step++;
        if (t->step == 1) {
            write_step(t);
        } else if (t->step == 2) {
            read_step(t);
        } else {
            rig_done(t->env, 7);
        }
        if (t->stop_at_once) {
            rig_done(t->env, 7);
        }
    }
}

static void run(struct kv_test *t, uint32_t context, bool stop_at_once)
{
    *t = (struct kv_test){.stop_at_once = stop_at_once};
    rig_init(&t->rig, 1);
    struct env_sink sink = rig_sink((struct env_sink){.on_kv = on_kv, .turn = turn});
    t->env = rig_env(&t->rig, context);
    rig_set(&t->rig, context, &sink, t);
    cr_assert_eq(rig_run(&t->rig), 7);
}

static void finish(struct kv_test *t)
{
    for (size_t i = 0; i < WR_ARRAY_SIZE(t->replies); i++) {
        kv_reply_free(t->replies[i]);
    }
    rig_deinit(&t->rig);
}

static void expect_pair(const struct kv_pair *pair, const char *key, const char *value)
{
    cr_assert(bytes_eq_cstr(bytes_from_slice(&pair->key), key), "%s", key);
    if (value == NULL) {
        cr_assert_null(pair->value.buf);
    } else {
        cr_assert_not_null(pair->value.buf);
        cr_assert(bytes_eq_cstr(bytes_from_slice(&pair->value), value), "%s", key);
    }
}

static void check_replies(struct kv_test *t)
{
    for (uint32_t i = 0; i < t->done; i++) {
        cr_assert_eq(t->results[i], 0);
    }
    for (uint32_t i = 0; i < 21; i++) {
        cr_assert_eq(t->tokens[i], i == 0 ? 1 : 9 + i); /* told in order, too */
    }
    const struct kv_reply *get = t->replies[2];
    cr_assert_eq(get->count, 7);
    expect_pair(&get->pairs[0], "k/c", "v2");
    expect_pair(&get->pairs[1], "k/b", NULL);
    expect_pair(&get->pairs[2], "empty", "");
    expect_pair(&get->pairs[3], "last", "19");
    expect_pair(&get->pairs[4], "k/x", NULL);
    expect_pair(&get->pairs[5], "k/z", "v25"); /* the end of the range stays */
    expect_pair(&get->pairs[6], "nothing", NULL);
    cr_assert_eq(t->replies[3]->count, 23);
    cr_assert(!t->replies[3]->more);
    expect_pair(&t->replies[3]->pairs[0], "k/a", "v0");
    expect_pair(&t->replies[3]->pairs[22], "k/z", "v25");
    cr_assert_eq(t->replies[4]->count, 4);
    cr_assert(t->replies[4]->more);
    expect_pair(&t->replies[4]->pairs[3], "k/g", "v6");
    cr_assert_eq(t->replies[5]->count, 2);
    cr_assert(!t->replies[5]->more);
    cr_assert_eq(t->replies[6]->count, 1); /* at least one, however small the limit */
    cr_assert(t->replies[6]->more);
    cr_assert_eq(t->replies[7]->count, 0);
    cr_assert(!t->replies[7]->more);
}

Test(kv, what_is_written_is_read_from_a_shard_and_from_the_log, .timeout = 60)
{
    for (uint32_t context = 0; context < 2; context++) {
        struct kv_test t;
        struct slice value = SLICE_NONE;
        run(&t, context, false);
        check_replies(&t);
        struct slice key = text("last");
        cr_assert_eq(t.env->ops->kv_get_now(t.env, key, &value), 0);
        cr_assert(bytes_eq_cstr(bytes_from_slice(&value), "19"));
        slice_unref(&key);
        slice_unref(&value);
        key = text("nothing");
        cr_assert_eq(t.env->ops->kv_get_now(t.env, key, &value), WR_E_NOTFOUND);
        slice_unref(&key);
        finish(&t);
    }
}

static uint64_t own_log_bytes(const char *dir)
{
    uint64_t bytes = 0;
    DIR *entries = opendir(dir);
    cr_assert_not_null(entries);
    for (struct dirent *e; (e = readdir(entries)) != NULL;) {
        char path[600];
        struct stat st;
        (void)snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (strncmp(e->d_name, "LOG", 3) == 0 && stat(path, &st) == 0) {
            bytes += (uint64_t)st.st_size;
        }
    }
    (void)closedir(entries);
    return bytes;
}

static void flush_turn(void *ctx)
{
    struct kv_test *t = ctx;
    if (t->done < t->expected) {
        return;
    }
    if (t->step++ == 0) {
        for (uint64_t i = 0; i < 60; i += 2) {
            put(t, "k", "v", i);
            t->env->ops->kv_flush(t->env, i + 1);
        }
        t->expected = 60;
    } else {
        rig_done(t->env, 7);
    }
}

Test(kv, the_stores_own_log_does_not_grow_with_each_flush, .timeout = 60)
{
    struct kv_test t = {0};
    char dir[256];
    rig_init(&t.rig, 1);
    rig_path(&t.rig, "kv", dir);
    uint64_t before = own_log_bytes(dir);
    struct env_sink sink = rig_sink((struct env_sink){.on_kv = on_kv, .turn = flush_turn});
    t.env = rig_env(&t.rig, 0);
    rig_set(&t.rig, 0, &sink, &t);
    cr_assert_eq(rig_run(&t.rig), 7);
    uint64_t grown = own_log_bytes(dir) - before;
    cr_assert_lt(grown, 8192, "%llu", (unsigned long long)grown);
    finish(&t);
}

/* --- a full disk ------------------------------------------------------------------------------ */

/* What RocksDB's flush does next, in the place of the real one. */
enum flush_does { FLUSH_WORKS, FLUSH_HAS_NO_SPACE, FLUSH_LIES };
static _Atomic enum flush_does flush_does;

void rocksdb_flush(rocksdb_t *db, const rocksdb_flushoptions_t *options, char **errptr)
{
    void (*real)(rocksdb_t *, const rocksdb_flushoptions_t *, char **);
    *(void **)&real = dlsym(RTLD_NEXT, "rocksdb_flush");
    if (flush_does == FLUSH_WORKS) {
        real(db, options, errptr);
    } else if (flush_does == FLUSH_HAS_NO_SPACE) {
        *errptr = strdup("IO error: No space left on device: While appending to file: 1.sst");
    }
}

static void full_turn(void *ctx)
{
    static const enum flush_does next[] = {FLUSH_WORKS, FLUSH_HAS_NO_SPACE, FLUSH_LIES,
                                           FLUSH_LIES,  FLUSH_WORKS,        FLUSH_LIES};
    struct kv_test *t = ctx;
    if (t->done < t->expected) {
        return;
    }
    if (t->step == WR_ARRAY_SIZE(next)) {
        rig_done(t->env, 7);
        return;
    }
    flush_does = next[t->step++];
    put(t, "k", "v", t->expected);
    t->env->ops->kv_flush(t->env, t->expected + 1);
    t->expected += 2;
}

/* As RocksDB 7.8 does once a flush has failed for lack of space: segments of the log would go
 * although what replaces them is in memory only. */
Test(kv, a_flush_that_only_claims_to_have_succeeded_is_found_out, .timeout = 60)
{
    struct kv_test t = {0};
    const int expected[] = {0, WR_E_NOSPACE, WR_E_NOSPACE, WR_E_NOSPACE, 0, WR_E_NOSPACE};
    rig_init(&t.rig, 1);
    struct env_sink sink = rig_sink((struct env_sink){.on_kv = on_kv, .turn = full_turn});
    t.env = rig_env(&t.rig, 0);
    rig_set(&t.rig, 0, &sink, &t);
    cr_assert_eq(rig_run(&t.rig), 7);
    for (size_t i = 0; i < WR_ARRAY_SIZE(expected); i++) {
        cr_assert_eq(t.results[2 * i], 0, "write %zu", i);
        cr_assert_eq(t.results[2 * i + 1], expected[i], "flush %zu: %d", i, t.results[2 * i + 1]);
    }
    flush_does = FLUSH_WORKS;
    finish(&t);
}

Test(kv, a_stop_with_work_under_way_is_clean, .timeout = 60)
{
    for (uint32_t i = 0; i < 6; i++) {
        struct kv_test t;
        run(&t, i % 2, true);
        finish(&t);
    }
}

Test(kv, a_store_is_opened_once, .timeout = 60)
{
    struct rig rig;
    struct os_node *second = NULL;
    char dir[256];
    char errmsg[256] = "";
    rig_init(&rig, 1);
    rig_path(&rig, "kv", dir);
    const struct os_options options = {.shards = 2, .kv_dir = dir, .logger = &rig.logger};
    cr_assert_eq(os_node_new(&options, &second, errmsg), WR_E_INUSE);
    cr_assert(strstr(errmsg, dir) != NULL, "%s", errmsg);
    cr_assert_null(second);
    rig_deinit(&rig);
}
