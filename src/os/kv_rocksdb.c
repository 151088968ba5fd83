/*
 * What: the checkpoint store's seam over RocksDB (its own write-ahead log is off: the shared log is
 * ours, and what is in RocksDB counts only after kv_flush).
 *
 * Happy path: every operation is a job on the thread pool. Writes and flushes of one context run
 * one after the other in the order they were asked for (kv_writes: the first is running, the others
 * wait); gets and scans run at once. Bodies over 4 KiB go to blob files.
 *
 * Failure modes: RocksDB's error text is logged, the operation completes with WR_E_IO (WR_E_CORRUPT
 * when RocksDB says corruption, WR_E_NOSPACE when the disk is full; kv_space.c: a write into a full
 * disk waits instead).
 *
 * A flush that RocksDB calls a success may not have been one, once an earlier one has failed for
 * lack of space (7.8: what the earlier one had was still in memory only). Log segments go on our
 * word, so from the first error on a flush has to be proven: a mark of our own is written before
 * it, and must then be found where only persistent data is looked at.
 *
 * Threads: RocksDB handles are thread-safe; jobs touch nothing else.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include <rocksdb/c.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "os_internal.h"

#ifdef __SANITIZE_THREAD__
/* RocksDB is not built for the sanitizer, and orders its own memory where that cannot be seen. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void)
{
    return "called_from_lib:librocksdb.so\nrace:librocksdb.so\n"
           "called_from_lib:libstdc++.so\ncalled_from_lib:liblz4.so\ncalled_from_lib:libsnappy.so\n"
           "called_from_lib:libzstd.so\n";
}
#endif

#define LOG_LEVEL_WARN_OF_ROCKSDB 2                     /* rocksdb::InfoLogLevel::WARN_LEVEL */
#define PERSISTED_TIER_OF_ROCKSDB 2                     /* rocksdb::ReadTier::kPersistedTier */
#define OPEN_BYTES_MIN            (UINT64_C(4) << 20)   /* free: opening writes and flushes */
#define MARK_PREFIX               'f'                   /* of keys; the others are storage's */
#define COMPACT_BELOW             (UINT64_C(256) << 20) /* bytes free */

struct os_kv {
    rocksdb_t *db;
    rocksdb_options_t *options;
    rocksdb_writeoptions_t *write_options;
    rocksdb_readoptions_t *read_options;
    rocksdb_readoptions_t *persistent_options; /* reads pass by what is in memory only */
    rocksdb_flushoptions_t *flush_options;
    char dir[1200];
    _Atomic uint32_t deletes; /* of ranges, since the last compaction */
    _Atomic bool failed;      /* an operation has failed since the start */
    _Atomic uint64_t mark;    /* the last one that was given out; never one that an earlier process
                                 has made persistent */
};

enum kv_job_kind { KV_JOB_WRITE, KV_JOB_FLUSH, KV_JOB_GET, KV_JOB_SCAN };

struct kv_job {
    struct os_work work;
    struct list link; /* context->kv_writes, for writes and flushes */
    enum kv_job_kind kind;
    uint64_t token;
    int result;
    struct kv_op *ops;  /* write */
    struct slice *keys; /* get: count keys; scan: begin, end */
    uint32_t count, limit, bytes;
    struct kv_reply *reply;
};

void kv_reply_free(struct kv_reply *reply)
{
    if (reply == NULL) {
        return;
    }
    for (uint32_t i = 0; i < reply->count; i++) {
        slice_unref(&reply->pairs[i].key);
        slice_unref(&reply->pairs[i].value);
    }
    wr_free(reply);
}

static int kv_error(const struct os_context *context, const char *what, char *err)
{
    if (err == NULL) {
        return 0;
    }
    context->node->kv->failed = true;
    int code = strstr(err, "orruption") != NULL  ? WR_E_CORRUPT
               : strstr(err, "No space") != NULL ? WR_E_NOSPACE
                                                 : WR_E_IO;
    wr_log(context->node->logger, LOG_LEVEL_ERROR, "checkpoint_store", "%s failed: %s", what, err);
    rocksdb_free(err);
    return code;
}

static void run_write(struct os_kv *kv, struct kv_job *job)
{
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (uint32_t i = 0; i < job->count; i++) {
        const struct kv_op *op = &job->ops[i];
        const char *key = (const char *)slice_data(&op->key);
        const char *value = op->value.buf == NULL ? "" : (const char *)slice_data(&op->value);
        switch (op->kind) {
        case KV_PUT:
            rocksdb_writebatch_put(batch, key, op->key.size, value, op->value.size);
            break;
        case KV_DELETE:
            rocksdb_writebatch_delete(batch, key, op->key.size);
            break;
        case KV_DELETE_RANGE:
            rocksdb_writebatch_delete_range(batch, key, op->key.size, value, op->value.size);
            atomic_fetch_add(&kv->deletes, 1);
            break;
        }
    }
    char *err = NULL;
    rocksdb_write(kv->db, kv->write_options, batch, &err);
    rocksdb_writebatch_destroy(batch);
    job->result = kv_error(job->work.context, "write", err);
}

/* RocksDB gives the space of deleted ranges back when it happens to compact them; when little is
 * left it is made to. */
static bool space_is_low(const struct os_kv *kv)
{
    struct statvfs vfs;
    return statvfs(kv->dir, &vfs) == 0 &&
           (uint64_t)vfs.f_bavail * (uint64_t)vfs.f_frsize < COMPACT_BELOW;
}

/* Also those of its own threads, which nobody was told of. */
static bool has_failed(struct os_kv *kv)
{
    uint64_t errors = 0;
    return kv->failed ||
           (rocksdb_property_int(kv->db, "rocksdb.background-errors", &errors) == 0 && errors > 0);
}

/* One for each context, whose flushes come one after the other. */
static size_t mark_key(const struct os_context *context, char key[16])
{
    key[0] = MARK_PREFIX;
    return 1 + (size_t)snprintf(key + 1, 15, "%u", (uint32_t)(context - context->node->contexts));
}

static int put_mark(struct os_kv *kv, const struct os_context *context, uint64_t mark)
{
    char key[16];
    char *err = NULL;
    const size_t size = mark_key(context, key);
    rocksdb_put(kv->db, kv->write_options, key, size, (const char *)&mark, sizeof mark, &err);
    return kv_error(context, "write", err);
}

static int find_mark(struct os_kv *kv, const struct os_context *context, uint64_t mark)
{
    char key[16];
    char *err = NULL;
    size_t size = 0;
    uint64_t found = 0;
    char *value =
        rocksdb_get(kv->db, kv->persistent_options, key, mark_key(context, key), &size, &err);
    const int error = kv_error(context, "get", err);
    if (value != NULL && size == sizeof found) {
        memcpy(&found, value, sizeof found);
    }
    rocksdb_free(value);
    if (error != 0 || found == mark) {
        return error;
    }
    wr_log(context->node->logger, LOG_LEVEL_ERROR, "checkpoint_store",
           "flush failed: it was said to have succeeded after an earlier error, but what was "
           "written is still in memory only");
    return WR_E_NOSPACE; /* what kept the earlier one from succeeding: tried again */
}

static int flush(struct os_kv *kv, const struct os_context *context)
{
    for (;;) {
        const bool prove = has_failed(kv);
        const uint64_t mark = prove ? atomic_fetch_add(&kv->mark, 1) + 1 : 0;
        int error = prove ? put_mark(kv, context, mark) : 0;
        char *err = NULL;
        if (error == 0) {
            rocksdb_flush(kv->db, kv->flush_options, &err);
            error = kv_error(context, "flush", err);
        }
        if (error == 0 && prove) {
            error = find_mark(kv, context, mark);
        }
        if (error != 0 || prove || !has_failed(kv)) {
            return error;
        } /* the first error came just now: again, with proof */
    }
}

static void run_flush(struct os_kv *kv, struct kv_job *job)
{
    job->result = flush(kv, job->work.context);
    if (job->result == 0 && space_is_low(kv) && atomic_exchange(&kv->deletes, 0) > 0) {
        rocksdb_compact_range(kv->db, NULL, 0, NULL, 0);
    }
}

static struct kv_reply *reply_new(uint32_t capacity)
{
    return wr_calloc(1, sizeof(struct kv_reply) + capacity * sizeof(struct kv_pair));
}

static void run_get(struct os_kv *kv, struct kv_job *job)
{
    job->reply = reply_new(job->count);
    for (uint32_t i = 0; i < job->count && job->result == 0; i++) {
        char *err = NULL;
        size_t size = 0;
        char *value = rocksdb_get(kv->db, kv->read_options, (const char *)slice_data(&job->keys[i]),
                                  job->keys[i].size, &size, &err);
        job->result = kv_error(job->work.context, "get", err);
        struct kv_pair *pair = &job->reply->pairs[job->reply->count++];
        pair->key = slice_ref(&job->keys[i]);
        if (value != NULL) {
            pair->value = slice_copy(value, size);
            rocksdb_free(value);
        }
    }
}

static void run_scan(struct os_kv *kv, struct kv_job *job)
{
    job->reply = reply_new(job->limit);
    uint64_t bytes = 0;
    rocksdb_iterator_t *it = rocksdb_create_iterator(kv->db, kv->read_options);
    rocksdb_iter_seek(it, (const char *)slice_data(&job->keys[0]), job->keys[0].size);
    for (; rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t key_size = 0;
        size_t value_size = 0;
        const char *key = rocksdb_iter_key(it, &key_size);
        const struct slice *end = &job->keys[1];
        size_t shorter = key_size < end->size ? key_size : end->size;
        int order = memcmp(key, slice_data(end), shorter);
        if (order > 0 || (order == 0 && key_size >= end->size)) {
            break;
        }
        if (job->reply->count == job->limit || (bytes >= job->bytes && job->reply->count > 0)) {
            job->reply->more = true;
            break;
        }
        const char *value = rocksdb_iter_value(it, &value_size);
        struct kv_pair *pair = &job->reply->pairs[job->reply->count++];
        pair->key = slice_copy(key, key_size);
        pair->value = slice_copy(value, value_size);
        bytes += key_size + value_size;
    }
    char *err = NULL;
    rocksdb_iter_get_error(it, &err);
    job->result = kv_error(job->work.context, "scan", err);
    rocksdb_iter_destroy(it);
}

static void kv_run(struct os_work *work)
{
    struct kv_job *job = (struct kv_job *)(void *)work;
    struct os_kv *kv = work->context->node->kv;
    switch (job->kind) {
    case KV_JOB_WRITE:
        run_write(kv, job);
        break;
    case KV_JOB_FLUSH:
        run_flush(kv, job);
        break;
    case KV_JOB_GET:
        run_get(kv, job);
        break;
    case KV_JOB_SCAN:
        run_scan(kv, job);
        break;
    }
}

static void kv_finish(struct os_work *work)
{
    struct kv_job *job = (struct kv_job *)(void *)work;
    struct os_context *context = work->context;
    if (job->kind == KV_JOB_WRITE) {
        for (uint32_t i = 0; i < job->count; i++) {
            slice_unref(&job->ops[i].key);
            slice_unref(&job->ops[i].value);
        }
        wr_free(job->ops);
    } else if (job->keys != NULL) {
        for (uint32_t i = 0; i < job->count; i++) {
            slice_unref(&job->keys[i]);
        }
        wr_free(job->keys);
    }
    if (job->result != 0) {
        kv_reply_free(job->reply);
        job->reply = NULL;
    }
    if (!list_is_empty(&job->link)) {
        list_remove(&job->link);
        struct list *next = list_first(&context->kv_writes);
        if (next != NULL) {
            os_work_start(context, &WR_CONTAINER_OF(next, struct kv_job, link)->work);
        }
    }
    if (os_is_silent(context)) {
        kv_reply_free(job->reply);
    } else {
        context->sink->on_kv(context->sink_ctx, job->token, job->result, job->reply);
    }
    wr_free(job);
}

static struct kv_job *job_start(struct env *env, enum kv_job_kind kind, uint64_t token)
{
    struct kv_job *job = wr_calloc(1, sizeof *job);
    (void)env;
    list_init(&job->link);
    job->work.run = kv_run;
    job->work.finish = kv_finish;
    job->kind = kind;
    job->token = token;
    return job;
}

static void start_in_order(struct os_context *context, struct kv_job *job)
{
    bool first = list_is_empty(&context->kv_writes);
    list_push_back(&context->kv_writes, &job->link);
    if (first) {
        os_work_start(context, &job->work);
    }
}

static void env_kv_write(struct env *env, struct kv_op *owned_ops, uint32_t count, uint64_t token)
{
    struct kv_job *job = job_start(env, KV_JOB_WRITE, token);
    job->ops = owned_ops;
    job->count = count;
    start_in_order(os_context_of(env), job);
}

static void env_kv_flush(struct env *env, uint64_t token)
{
    start_in_order(os_context_of(env), job_start(env, KV_JOB_FLUSH, token));
}

static void env_kv_get(struct env *env, struct slice *owned_keys, uint32_t count, uint64_t token)
{
    struct kv_job *job = job_start(env, KV_JOB_GET, token);
    job->keys = owned_keys;
    job->count = count;
    os_work_start(os_context_of(env), &job->work);
}

static void env_kv_scan(struct env *env, struct slice owned_begin, struct slice owned_end,
                        uint32_t limit, uint32_t bytes, uint64_t token)
{
    struct kv_job *job = job_start(env, KV_JOB_SCAN, token);
    job->keys = wr_calloc(2, sizeof *job->keys);
    job->keys[0] = owned_begin;
    job->keys[1] = owned_end;
    job->count = 2;
    job->limit = limit;
    job->bytes = bytes;
    os_work_start(os_context_of(env), &job->work);
}

static int env_kv_get_now(struct env *env, struct slice key, struct slice *ret_value)
{
    struct os_context *context = os_context_of(env);
    struct os_kv *kv = context->node->kv;
    char *err = NULL;
    size_t size = 0;
    char *value = rocksdb_get(kv->db, kv->read_options, (const char *)slice_data(&key), key.size,
                              &size, &err);
    int rc = kv_error(context, "get", err);
    if (rc != 0) {
        return rc;
    }
    if (value == NULL) {
        return WR_E_NOTFOUND;
    }
    *ret_value = slice_copy(value, size);
    rocksdb_free(value);
    return 0;
}

/* Opening writes: without space it would wait for ever, with a node that says nothing yet. */
static bool has_room_to_open(const char *dir, char *errmsg)
{
    struct statvfs vfs;
    if (statvfs(dir, &vfs) != 0 || vfs.f_bavail * (uint64_t)vfs.f_frsize >= OPEN_BYTES_MIN) {
        return true;
    }
    (void)snprintf(errmsg, 256,
                   "cannot open the checkpoint store in %.120s: no space left on device (%llu KiB "
                   "are free): make room first",
                   dir, (unsigned long long)(vfs.f_bavail * (uint64_t)vfs.f_frsize >> 10));
    return false;
}

/* The highest mark that is there, of any context. */
static int read_marks(struct os_kv *kv, char *errmsg)
{
    static const char begin[] = {MARK_PREFIX};
    char *err = NULL;
    uint64_t highest = 0;
    rocksdb_iterator_t *it = rocksdb_create_iterator(kv->db, kv->read_options);
    for (rocksdb_iter_seek(it, begin, sizeof begin); rocksdb_iter_valid(it);
         rocksdb_iter_next(it)) {
        uint64_t mark = 0;
        size_t key_size = 0;
        size_t size = 0;
        const char *key = rocksdb_iter_key(it, &key_size);
        const char *value = rocksdb_iter_value(it, &size);
        if (key_size == 0 || key[0] != MARK_PREFIX) {
            break;
        }
        if (size == sizeof mark) {
            memcpy(&mark, value, sizeof mark);
        }
        highest = mark > highest ? mark : highest;
    }
    rocksdb_iter_get_error(it, &err);
    rocksdb_iter_destroy(it);
    kv->mark = highest;
    if (err == NULL) {
        return 0;
    }
    (void)snprintf(errmsg, 256, "cannot read the checkpoint store in %.90s: %.110s", kv->dir, err);
    rocksdb_free(err);
    return WR_E_CORRUPT;
}

int os_kv_open(const char *dir, struct os_kv **ret_kv, char *errmsg)
{
    if (!has_room_to_open(dir, errmsg)) {
        return WR_E_NOSPACE;
    }
    struct os_kv *kv = wr_calloc(1, sizeof *kv);
    (void)snprintf(kv->dir, sizeof kv->dir, "%s", dir);
    kv->options = rocksdb_options_create();
    rocksdb_options_set_create_if_missing(kv->options, 1);
    rocksdb_options_set_write_buffer_size(kv->options, 16u * 1024 * 1024);
    rocksdb_options_set_max_write_buffer_number(kv->options, 3);
    rocksdb_options_set_max_background_jobs(kv->options, 2);
    rocksdb_options_set_compression(kv->options, rocksdb_lz4_compression);
    rocksdb_options_set_enable_blob_files(kv->options, 1);
    rocksdb_options_set_min_blob_size(kv->options, 4096);
    rocksdb_options_set_enable_blob_gc(kv->options, 1);
    /* Its own log has some kilobytes for every flush, and no end otherwise; nor has its manifest.
     */
    rocksdb_options_set_info_log_level(kv->options, LOG_LEVEL_WARN_OF_ROCKSDB);
    rocksdb_options_set_max_log_file_size(kv->options, 1u * 1024 * 1024);
    rocksdb_options_set_keep_log_file_num(kv->options, 2);
    rocksdb_options_set_max_manifest_file_size(kv->options, (size_t)4 * 1024 * 1024);
    rocksdb_options_set_max_open_files(kv->options, 256);
    kv->write_options = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(kv->write_options, 1);
    kv->read_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_verify_checksums(kv->read_options, 1);
    kv->persistent_options = rocksdb_readoptions_create();
    rocksdb_readoptions_set_read_tier(kv->persistent_options, PERSISTED_TIER_OF_ROCKSDB);
    kv->flush_options = rocksdb_flushoptions_create();
    rocksdb_flushoptions_set_wait(kv->flush_options, 1);
    char *err = NULL;
    kv->db = rocksdb_open(kv->options, dir, &err);
    if (err != NULL) {
        (void)snprintf(errmsg, 256, "cannot open the checkpoint store in %.90s: %.110s", dir, err);
        int rc = strstr(err, "lock") != NULL         ? WR_E_INUSE
                 : strstr(err, "Corruption") != NULL ? WR_E_CORRUPT
                                                     : WR_E_IO;
        rocksdb_free(err);
        os_kv_close(kv);
        return rc;
    }
    const int error = read_marks(kv, errmsg);
    if (error != 0) {
        os_kv_close(kv);
        return error;
    }
    *ret_kv = kv;
    return 0;
}

void os_kv_close(struct os_kv *kv)
{
    if (kv == NULL) {
        return;
    }
    if (kv->db != NULL) {
        rocksdb_close(kv->db);
    }
    rocksdb_options_destroy(kv->options);
    rocksdb_writeoptions_destroy(kv->write_options);
    rocksdb_readoptions_destroy(kv->read_options);
    rocksdb_readoptions_destroy(kv->persistent_options);
    rocksdb_flushoptions_destroy(kv->flush_options);
    wr_free(kv);
}

void os_kv_ops(struct env_ops *ops)
{
    ops->kv_write = env_kv_write;
    ops->kv_flush = env_kv_flush;
    ops->kv_get = env_kv_get;
    ops->kv_scan = env_kv_scan;
    ops->kv_get_now = env_kv_get_now;
}
