/*
 * What: the node's shared log, log context's side: takes batches, runs rounds, sends batches back.
 *
 * Happy path: IDLE; batches arrive; log_turn gathers them into a round and writes it (WRITING);
 * the write completes, the sync begins (SYNCING); the sync completes, the batches that the round
 * finished go back, the next round is gathered from what arrived meanwhile. A round is begun at
 * once when a batch is there that somebody waits for; for lazy ones alone a little later, so that
 * they do not make the next one that somebody waits for wait for a sync of theirs. A round that
 * fills its segment is marked as its end; the prepared segment then becomes the active one. Failure
 * modes: a failed write or sync stops the node, nothing more is reported. No space for the next
 * segment: batches wait, the shards are told, it is tried again.
 *
 * Invariants (beside those of log.h)
 * I1  One round is under way at most: a round is written only after the one before is durable (with
 *     sync on). So everything below the round under way is durable, and `durable` says so.
 * I2  Batches go back in the order in which they arrived.
 * I3  Waiting batches stay in the list until they are durable: nothing that fails loses one.
 *
 * With sync off a batch goes back when its write has completed; segments are still synced at their
 * end, so that only the last one can be torn.
 *
 * Threads: the log context, but for log_open (start-up).
 */
#include "log_internal.h"

#include "warren/plant.h"

#include <stdio.h>

#include "warren/err.h"

struct log_batch *log__batch(struct mail *mail)
{
    return WR_CONTAINER_OF(mail, struct log_batch, mail);
}

void log__fail(struct log *log, const char *what, int error)
{
    char text[256];
    if (log->failed) {
        return;
    }
    log->failed = true;
    (void)snprintf(text, sizeof(text), "the log has failed (segment %u): %s: %s",
                   log->active.number, what, wr_err_text(error));
    log->env->ops->stop(log->env, 1, text);
}

uint64_t log__no_space(struct log *log, const char *what)
{
    (void)snprintf(log->why, sizeof(log->why), "%s: %s", what, wr_err_text(WR_E_NOSPACE));
    return log->env->ops->mono_ns(log->env) + LOG_RETRY_NS;
}

/* --- life ---------------------------------------------------------------------------------- */

/* What scan found becomes what is appended to. */
static void adopt(struct log *log, struct scan_result *result)
{
    log->first = result->first;
    log->active = result->active;
    log->prepared = result->prepared;
    result->active.file = NULL;
    result->prepared.file = NULL;
    log->durable = log->active.offset; /* scan settled it */
    log->unmarked = log->options.sync && log->first != 0;
    log->mark_at = log->unmarked ? log->env->ops->mono_ns(log->env) + LOG_MARK_NS : UINT64_MAX;
    log->round_number = ((result->last_round >> 32) + 1) << 32;
}

static int open_dir(struct log *log, char *errmsg)
{
    const struct env_ops *ops = log->env->ops;
    int error = ops->dir_make(log->env, log->log_dir);
    if (error == 0) {
        error = ops->dir_sync(log->env, log->dir);
    }
    if (error == 0) {
        /* Names that an earlier process left in the cache: durable before they are relied on. */
        error = ops->dir_sync(log->env, log->log_dir);
    }
    if (error != 0) {
        (void)snprintf(errmsg, 256, "%.160s: cannot be made or synced: %s", log->log_dir,
                       wr_err_text(error));
    }
    return error;
}

int log_open(struct env *env, const char *dir, const struct log_options *options,
             const struct log_recovery_sink *sink, struct log **ret_log, char *errmsg)
{
    WR_ASSERT(env->ops->file_settle != NULL);
    WR_ASSERT_OP(options->segment_size, >=, SEGMENT_HEADER_SIZE + 3 * SEGMENT_ALIGN);
    WR_ASSERT_OP(options->segments_max, >=, 1);
    const size_t size = strlen(dir) + sizeof("/log");
    struct log *log = wr_calloc(1, sizeof(*log));
    log->env = env;
    log->dir = wr_strdup(dir);
    log->log_dir = wr_alloc(size);
    WR_ASSERT_OP(options->shard_count, <=, 64); /* send_back_round */
    (void)snprintf(log->log_dir, size, "%s/log", dir);
    log->options = *options;
    log->options.sync = options->sync && !wr_planted(WR_PLANT_ack_before_sync);
    log->waiting_tail = &log->waiting;
    log->due_at = UINT64_MAX;
    log->round_retry_at = UINT64_MAX;
    log->prepare_retry_at = UINT64_MAX;
    log->mark_at = UINT64_MAX;
    log->released = wr_calloc(options->shard_count, sizeof(*log->released));
    env->ops->random_secret(env, &log->nonce, sizeof(log->nonce));

    struct scan_result result;
    int error = open_dir(log, errmsg);
    if (error == 0) {
        error = scan_log(env, log->log_dir, options->node_id, sink, &result, errmsg);
    }
    if (error == 0) {
        adopt(log, &result);
        error = retire__keep_spares(log, &result.spares);
        if (error != 0) {
            (void)snprintf(errmsg, 256, "a spare segment cannot be removed: %s",
                           wr_err_text(error));
        }
    }
    if (error != 0) {
        log_close(log);
        return error;
    }
    env->ops->wake_at(env, env->ops->mono_ns(env));
    *ret_log = log;
    return 0;
}

static void close_segment(struct log *log, struct scan_segment *segment)
{
    if (segment->file != NULL) {
        log->env->ops->file_close(segment->file);
    }
    *segment = (struct scan_segment){0};
}

void log_close(struct log *log)
{
    if (log == NULL) {
        return;
    }
    close_segment(log, &log->active);
    close_segment(log, &log->prepared);
    close_segment(log, &log->preparing);
    while (log->waiting != NULL) {
        struct mail *mail = log->waiting;
        log->waiting = mail->next;
        log_batch_free(log__batch(mail));
    }
    vec_deinit(&log->slices);
    vec_deinit(&log->spares);
    buf_unref(log->buffer);
    wr_free(log->released);
    wr_free(log->log_dir);
    wr_free(log->dir);
    wr_free(log);
}

/* --- mail ---------------------------------------------------------------------------------- */

/* Everything that waits goes into the next round, so one time does for all of it. */
static void note_due(struct log *log, bool lazy)
{
    const uint64_t at = lazy ? log->env->ops->mono_ns(log->env) + LOG_LAZY_NS : 0;
    log->due_at = at < log->due_at ? at : log->due_at;
}

void log_on_mail(struct log *log, struct mail *owned_mail)
{
    if (owned_mail->kind == LOG_MAIL_BATCH) {
        WR_ASSERT_OP(owned_mail->from, <, log->options.shard_count);
        note_due(log, log__batch(owned_mail)->lazy);
        owned_mail->next = NULL;
        *log->waiting_tail = owned_mail;
        log->waiting_tail = &owned_mail->next;
        log->waiting_count++;
        return;
    }
    if (owned_mail->kind == LOG_MAIL_LIMIT) {
        struct log_limit_mail *limit = WR_CONTAINER_OF(owned_mail, struct log_limit_mail, mail);
        log->options.disk_free_limit = limit->disk_free_limit;
        log->space_at = 0;
        wr_free(limit);
        return;
    }
    if (owned_mail->kind == LOG_MAIL_HURRY) {
        log->due_at = log->due_at == UINT64_MAX ? UINT64_MAX : 0; /* if not under way already */
        wr_free(owned_mail);
        return;
    }
    WR_ASSERT_OP(owned_mail->kind, ==, LOG_MAIL_RELEASED);
    WR_ASSERT_OP(owned_mail->from, <, log->options.shard_count);
    struct log_retire_mail *released = WR_CONTAINER_OF(owned_mail, struct log_retire_mail, mail);
    uint32_t *known = &log->released[owned_mail->from];
    *known = *known > released->segment ? *known : released->segment;
    wr_free(released);
}

static void state_destroy(struct mail *mail)
{
    wr_free(WR_CONTAINER_OF(mail, struct log_state_mail, mail));
}

static void set_state(struct log *log, bool blocked, bool low)
{
    if (blocked == log->blocked && low == log->low) {
        return;
    }
    log->blocked = blocked;
    log->low = low;
    for (uint32_t shard = 0; shard < log->options.shard_count; shard++) {
        struct log_state_mail *state = wr_calloc(1, sizeof(*state));
        state->mail.kind = LOG_MAIL_STATE;
        state->mail.destroy = state_destroy;
        state->blocked = blocked;
        state->low = low;
        if (blocked || low) {
            (void)snprintf(state->why, sizeof(state->why), "%s", log->why);
        }
        log->env->ops->post(log->env, shard, &state->mail);
    }
}

/* Also without a limit as long as an alarm of one that was set before has not ended. */
static bool watches_space(const struct log *log)
{
    return log->options.disk_free_limit != 0 || log->low;
}

/* Space is low when less than the limit is free, or when the next segment cannot be made: then
 * there is still the rest of the active one, for settles. */
static void look_at_space(struct log *log)
{
    const uint64_t now = log->env->ops->mono_ns(log->env);
    uint64_t bytes = 0;
    if (now < log->space_at || !watches_space(log)) {
        return;
    }
    log->space_at = now + LOG_SPACE_NS;
    bool low = log->prepare_retry_at != UINT64_MAX || log->round_retry_at != UINT64_MAX;
    if (log->env->ops->disk_free(log->env, log->log_dir, &bytes) == 0 &&
        bytes < log->options.disk_free_limit) {
        if (!low) {
            (void)snprintf(log->why, sizeof(log->why),
                           "free disk space is low: %llu MiB, the limit is %llu MiB",
                           (unsigned long long)(bytes >> 20),
                           (unsigned long long)(log->options.disk_free_limit >> 20));
        }
        low = true;
    }
    set_state(log, log->blocked, low);
    if (low) {
        retire__cheaply(log);
    }
}

/* --- completions --------------------------------------------------------------------------- */

static struct mail *take_waiting(struct log *log)
{
    struct mail *mail = log->waiting;
    log->waiting = mail->next;
    if (log->waiting == NULL) {
        log->waiting_tail = &log->waiting;
    }
    log->waiting_count--;
    return mail;
}

static void send_back(struct log *log, struct mail *mail)
{
    const uint32_t shard = mail->from;
    log->statistics.batches++;
    log__batch(mail)->result = 0;
    mail->kind = LOG_MAIL_DONE;
    mail->next = NULL;
    log->env->ops->post(log->env, shard, mail);
}

static uint64_t shard_bit(const struct mail *mail)
{
    return UINT64_C(1) << mail->from;
}

/* First to the shards where somebody waits: whoever is woken first may have the CPU first. */
static void send_back_round(struct log *log, uint32_t count)
{
    uint64_t urgent = 0;
    struct mail *rest = NULL, **rest_tail = &rest;
    struct mail *mail = log->waiting;
    for (uint32_t i = 0; i < count; i++, mail = mail->next) {
        urgent |= log__batch(mail)->lazy ? 0 : shard_bit(mail);
    }
    for (uint32_t i = 0; i < count; i++) {
        mail = take_waiting(log);
        if ((urgent & shard_bit(mail)) != 0) {
            send_back(log, mail);
        } else {
            mail->next = NULL;
            *rest_tail = mail;
            rest_tail = &mail->next;
        }
    }
    while (rest != NULL) {
        mail = rest;
        rest = mail->next;
        send_back(log, mail);
    }
}

/* The active segment is complete and durable: the prepared one takes its place. */
static void roll(struct log *log)
{
    WR_ASSERT(log->prepared.number == log->active.number + 1);
    close_segment(log, &log->active);
    log->active = log->prepared;
    log->prepared = (struct scan_segment){0};
    log->durable = SEGMENT_HEADER_SIZE;
}

/* The round is as durable as it gets: report what it completes. */
static void round_done(struct log *log, bool synced)
{
    struct round *round = &log->round;
    log->statistics.bytes_written += segment_align(round->header.size);
    log->statistics.records += round->records;
    log->round_number++;
    log->active.offset += (uint32_t)segment_align(round->header.size);
    if (synced) {
        log->durable = log->active.offset;
    }
    log->unmarked = log->options.sync && round->records > 0;
    log->mark_at = log->unmarked ? log->env->ops->mono_ns(log->env) + LOG_MARK_NS : UINT64_MAX;
    if ((round->header.flags & ROUND_END) != 0) {
        roll(log);
    }
    log->head_items = round->items;
    round->state = ROUND_IDLE;
    send_back_round(log, round->batches);
    set_state(log, false, log->low);
}

static void on_round_write(struct log *log, int64_t result)
{
    struct round *round = &log->round;
    WR_ASSERT(round->state == ROUND_WRITING);
    if (result == WR_E_NOSPACE) {
        round->state = ROUND_IDLE; /* it is gathered and written again, at the same place */
        log->due_at = 0;
        log->round_retry_at = log__no_space(log, "a segment cannot be written");
        return;
    }
    if (result != (int64_t)segment_align(round->header.size)) {
        log__fail(log, "a write failed", result < 0 ? (int)result : WR_E_IO);
        return;
    }
    if (!log->options.sync && (round->header.flags & ROUND_END) == 0) {
        round_done(log, false);
        return;
    }
    round->state = ROUND_SYNCING;
    round->sync_began_ns = log->env->ops->mono_ns(log->env);
    log->env->ops->file_sync(log->active.file, TOKEN_ROUND_SYNC);
}

static void on_round_sync(struct log *log, int64_t result)
{
    WR_ASSERT(log->round.state == ROUND_SYNCING);
    if (result != 0) {
        log__fail(log, "a sync failed", (int)result);
        return;
    }
    log->statistics.syncs++;
    log->statistics.sync_ns_total += log->env->ops->mono_ns(log->env) - log->round.sync_began_ns;
    round_done(log, true);
}

void log_on_file(struct log *log, uint64_t token, int64_t result)
{
    if (log->failed) {
        return;
    }
    switch ((enum log_token)token) {
    case TOKEN_ROUND_WRITE:
        on_round_write(log, result);
        return;
    case TOKEN_ROUND_SYNC:
        on_round_sync(log, result);
        return;
    case TOKEN_PREPARE_WRITE:
        prepare__on_write(log, result);
        return;
    case TOKEN_PREPARE_SYNC:
        prepare__on_sync(log, result);
        return;
    }
    WR_UNREACHABLE();
}

/* --- turn ---------------------------------------------------------------------------------- */

/* Nothing is active at the very first start: the first prepared segment is. */
static void activate_first(struct log *log)
{
    if (log->active.number == 0 && log->prepared.number != 0) {
        log->active = log->prepared;
        log->prepared = (struct scan_segment){0};
        log->first = log->active.number;
        log->durable = SEGMENT_HEADER_SIZE;
    }
}

/* Starts a round if there is one to start; true when batches wait for space. */
static bool pump_round(struct log *log, uint64_t now)
{
    const bool mark = log->unmarked && now >= log->mark_at;
    log->mark_at = mark ? UINT64_MAX : log->mark_at; /* one attempt; any other round does as well */
    if (log->round_retry_at != UINT64_MAX && now < log->round_retry_at) {
        return log->waiting != NULL;
    }
    log->round_retry_at = UINT64_MAX;
    log->postponed = log->waiting != NULL && now < log->due_at && !mark;
    if (log->postponed) {
        return false;
    }
    switch (round__start(log, mark)) {
    case ROUND_STARTED:
        log->due_at = log->round.batches < log->waiting_count ? 0 : UINT64_MAX;
        return false;
    case ROUND_NOTHING:
        return false;
    case ROUND_NO_SPACE:
        log->round_retry_at = log__no_space(log, "no room for a big record");
        return true;
    case ROUND_NO_SEGMENT:
        prepare__start(log);
        return log->prepare_retry_at != UINT64_MAX;
    }
    WR_UNREACHABLE();
}

static void pump(struct log *log)
{
    const uint64_t now = log->env->ops->mono_ns(log->env);
    activate_first(log);
    if (log->round.state == ROUND_IDLE && pump_round(log, now) && !log->failed) {
        set_state(log, true, log->low);
    }
    if (!log->failed && (log->active.number == 0 || log->active.offset >= log->active.size / 2)) {
        prepare__start(log);
    }
    if (log->prepare_retry_at <= now) {
        log->prepare_retry_at = UINT64_MAX; /* no longer wanted, or it would have been tried */
    }
}

void log_turn(struct log *log)
{
    if (log->failed) {
        return;
    }
    pump(log);
    retire__request(log);
    retire__released(log);
    look_at_space(log);
    uint64_t wake = watches_space(log) ? log->space_at : UINT64_MAX;
    wake = wake < log->mark_at ? wake : log->mark_at;
    wake = wake < log->round_retry_at ? wake : log->round_retry_at;
    wake = wake < log->prepare_retry_at ? wake : log->prepare_retry_at;
    wake = log->postponed && log->due_at < wake ? log->due_at : wake;
    log->env->ops->wake_at(log->env, wake);
}

void log_statistics(const struct log *log, struct log_statistics *ret_statistics)
{
    *ret_statistics = log->statistics;
    ret_statistics->segments_live =
        log->active.number == 0 ? 0 : log->active.number - log->first + 1;
    ret_statistics->batches_waiting = log->waiting_count;
    ret_statistics->blocked = log->blocked;
}
