/*
 * What: makes the file of the next segment before it is needed.
 *
 * Happy path: take a spare (retired) file or make and preallocate a new one, both under a spare
 * name; write the segment header with a new salt; sync; rename to the segment name; sync the
 * directory; the segment is prepared.
 * Failure modes: no space: the file is removed or kept as it was, and it is tried again after
 * LOG_RETRY_NS, or at once when a segment has been retired. Anything else stops the node.
 *
 * Invariants
 * I1  A file has a segment name only after its header is durable: a segment file whose header does
 *     not verify is damage, never a crash.
 * I2  The old contents of a spare carry another salt and so are void in the new segment.
 */
#include "log_internal.h"

#include "warren/err.h"

static char *preparing_path(const struct log *log, char *path)
{
    return segment_path(path, SEGMENT_PATH_SIZE, log->log_dir, log->preparing_name);
}

/* Gives up the file under preparation, and its space. */
static void give_up(struct log *log)
{
    char path[SEGMENT_PATH_SIZE];
    if (log->preparing.file != NULL) {
        log->env->ops->file_close(log->preparing.file);
    }
    /* The name may not exist: creating it may be what failed. The file is void in any case. */
    (void)log->env->ops->file_unlink(log->env, preparing_path(log, path));
    log->preparing = (struct scan_segment){0};
    log->prepare = PREPARE_IDLE;
}

static void failed(struct log *log, const char *what, int error)
{
    if (error == WR_E_NOSPACE) {
        give_up(log);
        log->prepare_retry_at = log__no_space(log, what);
        log->space_at = 0;
    } else {
        log__fail(log, what, error);
    }
}

static int open_file(struct log *log, bool spare)
{
    char path[SEGMENT_PATH_SIZE];
    const struct env_ops *ops = log->env->ops;
    const uint32_t flags =
        ENV_OPEN_READ | ENV_OPEN_WRITE | (spare ? 0u : (uint32_t)ENV_OPEN_CREATE);
    int error = ops->file_open(log->env, preparing_path(log, path), flags, &log->preparing.file);
    if (error != 0) {
        log->preparing.file = NULL;
        return error;
    }
    if (!spare) {
        error = ops->file_allocate(log->preparing.file, log->options.segment_size);
    }
    return error;
}

void prepare__start(struct log *log)
{
    const uint64_t now = log->env->ops->mono_ns(log->env);
    if (log->prepare != PREPARE_IDLE || log->prepared.number != 0 ||
        (log->prepare_retry_at != UINT64_MAX && now < log->prepare_retry_at)) {
        return;
    }
    log->prepare_retry_at = UINT64_MAX;
    const uint32_t number = log->active.number + 1;
    const bool spare = log->spares.count > 0;
    log->preparing = (struct scan_segment){
        .number = number, .size = log->options.segment_size, .offset = SEGMENT_HEADER_SIZE};
    (void)segment_name(log->preparing_name, SPARE_PREFIX, spare ? vec_pop(&log->spares) : number);
    const int error = open_file(log, spare);
    if (error != 0) {
        failed(log, "a new segment cannot be made", error);
        return;
    }
    do {
        log->env->ops->random_secret(log->env, &log->preparing.salt, sizeof(log->preparing.salt));
    } while (log->preparing.salt == 0);
    const struct segment_header header = {log->options.node_id, number, log->preparing.salt};
    struct buf *data = buf_new(SEGMENT_HEADER_SIZE);
    segment_header_encode(&header, data->data);
    data->size = SEGMENT_HEADER_SIZE;
    struct slice slice = slice_of_buf(data);
    log->prepare = PREPARE_WRITING;
    log->env->ops->file_write(log->preparing.file, &slice, 1, 0, TOKEN_PREPARE_WRITE);
}

void prepare__on_write(struct log *log, int64_t result)
{
    WR_ASSERT(log->prepare == PREPARE_WRITING);
    if (result != (int64_t)SEGMENT_HEADER_SIZE) {
        failed(log, "a segment header cannot be written", result < 0 ? (int)result : WR_E_IO);
        return;
    }
    log->prepare = PREPARE_SYNCING;
    log->env->ops->file_sync(log->preparing.file, TOKEN_PREPARE_SYNC);
}

void prepare__on_sync(struct log *log, int64_t result)
{
    char from[SEGMENT_PATH_SIZE], to[SEGMENT_PATH_SIZE], name[SEGMENT_NAME_SIZE];
    const struct env_ops *ops = log->env->ops;
    WR_ASSERT(log->prepare == PREPARE_SYNCING);
    /* A failed sync is fatal for any file (log.h I4), but "no space" in a file that holds nothing
     * is not: the file is thrown away. */
    int error = (int)result;
    if (error == 0) {
        (void)segment_name(name, SEGMENT_PREFIX, log->preparing.number);
        (void)segment_path(to, sizeof(to), log->log_dir, name);
        error = ops->file_rename(log->env, preparing_path(log, from), to);
    }
    if (error != 0) {
        failed(log, "a new segment cannot be made durable", error);
        return;
    }
    error = ops->dir_sync(log->env, log->log_dir);
    if (error != 0) {
        log__fail(log, "the log directory cannot be synced", error);
        return;
    }
    log->space_at = 0; /* it took space: look again */
    log->prepared = log->preparing;
    log->preparing = (struct scan_segment){0};
    log->prepare = PREPARE_IDLE;
}
