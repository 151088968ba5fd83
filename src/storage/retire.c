/*
 * What: the end of segments: asks the shards to release the oldest when there are too many, removes
 * what every shard has released, keeps a few of the files for reuse.
 *
 * Invariants
 * I1  A segment is removed only when every shard has released it; never the active one.
 * I2  Segments are removed oldest first, each removal durable before the next begins, so that after
 *     a crash the numbers of those that are left are contiguous.
 * I3  A retired file gets its spare name, durably, before anything is written to it.
 */
#include "log_internal.h"

#include "warren/err.h"

static void mail_destroy(struct mail *mail)
{
    wr_free(WR_CONTAINER_OF(mail, struct log_retire_mail, mail));
}

static void ask(struct log *log, uint32_t segment, bool cheaply)
{
    for (uint32_t shard = 0; shard < log->options.shard_count; shard++) {
        struct log_retire_mail *retire = wr_calloc(1, sizeof(*retire));
        retire->mail.kind = LOG_MAIL_RETIRE;
        retire->mail.destroy = mail_destroy;
        retire->segment = segment;
        retire->bytes = (uint64_t)(segment - log->first + 1) * log->options.segment_size;
        retire->cheaply = cheaply;
        log->env->ops->post(log->env, shard, &retire->mail);
    }
}

void retire__request(struct log *log)
{
    if (log->active.number == 0 || log->active.number - log->first < log->options.segments_max) {
        return;
    }
    uint32_t segment = log->active.number - log->options.segments_max;
    if (log->head_items > 0) {
        /* A batch so big that it began in a segment that is old by now: its shard does not know yet
         * where its records lie, and would release them. */
        const uint32_t head = log__batch(log->waiting)->items[0].position.segment;
        segment = segment < head ? segment : head - 1;
    }
    if (segment <= log->retire_requested) {
        return;
    }
    log->retire_requested = segment;
    ask(log, segment, false);
}

/* The disk is nearly full. To make room by copying would need room first; but what nobody needs any
 * more can go, also while there are less segments than are kept otherwise. (Also asked when only
 * the active one is left: the shards then give back what the checkpoint store wastes.) */
void retire__cheaply(struct log *log)
{
    if (log->active.number > 1 && log->head_items == 0) {
        ask(log, log->active.number - 1, true);
    }
}

/* Is it worth keeping? Spares are of segment_size, and there are not too many. */
static bool can_reuse(const struct log *log, const char *path)
{
    struct env_file *file;
    uint64_t size = 0;
    if (log->spares.count >= log->options.recycle_max ||
        log->env->ops->file_open(log->env, path, ENV_OPEN_READ, &file) != 0) {
        return false;
    }
    const int error = log->env->ops->file_size(file, &size);
    log->env->ops->file_close(file);
    return error == 0 && size == log->options.segment_size;
}

static int retire_first(struct log *log)
{
    char from[SEGMENT_PATH_SIZE], to[SEGMENT_PATH_SIZE], name[SEGMENT_NAME_SIZE];
    const struct env_ops *ops = log->env->ops;
    (void)segment_name(name, SEGMENT_PREFIX, log->first);
    (void)segment_path(from, sizeof(from), log->log_dir, name);
    (void)segment_name(name, SPARE_PREFIX, log->first);
    (void)segment_path(to, sizeof(to), log->log_dir, name);
    const bool reuse = can_reuse(log, from);
    int error = reuse ? ops->file_rename(log->env, from, to) : ops->file_unlink(log->env, from);
    if (error == 0) {
        error = ops->dir_sync(log->env, log->log_dir);
    }
    if (error == 0 && reuse) {
        vec_push(&log->spares, log->first);
    }
    return error;
}

void retire__released(struct log *log)
{
    uint32_t released = log->active.number == 0 ? 0 : log->active.number - 1;
    for (uint32_t shard = 0; shard < log->options.shard_count; shard++) {
        released = released < log->released[shard] ? released : log->released[shard];
    }
    while (log->first != 0 && log->first <= released && !log->failed) {
        const int error = retire_first(log);
        if (error != 0) {
            log__fail(log, "an old segment cannot be removed", error);
            return;
        }
        log->first++;
        log->statistics.segments_retired++;
        /* There is room again: what waits for it need not wait any longer. */
        log->round_retry_at = log->round_retry_at == UINT64_MAX ? UINT64_MAX : 0;
        log->prepare_retry_at = log->prepare_retry_at == UINT64_MAX ? UINT64_MAX : 0;
    }
}

int retire__keep_spares(struct log *log, struct number_vec *owned_spares)
{
    int error = 0;
    for (size_t i = 0; i < owned_spares->count && error == 0; i++) {
        char path[SEGMENT_PATH_SIZE], name[SEGMENT_NAME_SIZE];
        (void)segment_name(name, SPARE_PREFIX, owned_spares->items[i]);
        (void)segment_path(path, sizeof(path), log->log_dir, name);
        if (can_reuse(log, path)) {
            vec_push(&log->spares, owned_spares->items[i]);
        } else {
            error = log->env->ops->file_unlink(log->env, path);
        }
    }
    vec_deinit(owned_spares);
    return error;
}
