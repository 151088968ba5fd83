/*
 * What: the shard's side of the log: batches, and the mails to the log context. Ownership: a batch
 * belongs to the shard until log_submit and again from LOG_MAIL_DONE on. Threads: the shard's.
 */
#include "warren/log.h"

#include "warren/mem.h"

static void batch_destroy(struct mail *mail)
{
    log_batch_free(WR_CONTAINER_OF(mail, struct log_batch, mail));
}

struct log_batch *log_batch_new(void)
{
    struct log_batch *batch = wr_calloc(1, sizeof(*batch));
    batch->mail.kind = LOG_MAIL_BATCH;
    batch->mail.destroy = batch_destroy;
    return batch;
}

void log_batch_free(struct log_batch *batch)
{
    if (batch == NULL) {
        return;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        slice_unref(&batch->items[i].payload);
    }
    wr_free(batch->items);
    wr_free(batch);
}

void log_batch_add(struct log_batch *batch, const struct log_item *item)
{
    WR_ASSERT_OP(item->payload.size, <=, LOG_PAYLOAD_MAX);
    WR_ASSERT(item->kind >= LOG_ENTRY && item->kind <= LOG_TRUNCATE);
    if (batch->count == batch->capacity) {
        batch->capacity = batch->capacity == 0 ? 8 : batch->capacity * 2;
        batch->items = wr_realloc_array(batch->items, batch->capacity, sizeof(*batch->items));
    }
    batch->items[batch->count++] = *item;
}

void log_submit(struct env *env, struct log_batch *owned_batch)
{
    WR_ASSERT_OP(owned_batch->count, >=, 1);
    owned_batch->mail.kind = LOG_MAIL_BATCH;
    owned_batch->result = 0;
    env->ops->post(env, env->context_count - 1, &owned_batch->mail);
}

static void hurry_destroy(struct mail *mail)
{
    wr_free(mail);
}

void log_hurry(struct env *env)
{
    struct mail *hurry = wr_calloc(1, sizeof(*hurry));
    hurry->kind = LOG_MAIL_HURRY;
    hurry->destroy = hurry_destroy;
    env->ops->post(env, env->context_count - 1, hurry);
}

static void mail_destroy(struct mail *mail)
{
    wr_free(WR_CONTAINER_OF(mail, struct log_retire_mail, mail));
}

static void limit_destroy(struct mail *mail)
{
    wr_free(WR_CONTAINER_OF(mail, struct log_limit_mail, mail));
}

void log_set_disk_free_limit(struct env *env, uint64_t bytes)
{
    struct log_limit_mail *limit = wr_calloc(1, sizeof(*limit));
    limit->mail.kind = LOG_MAIL_LIMIT;
    limit->mail.destroy = limit_destroy;
    limit->disk_free_limit = bytes;
    env->ops->post(env, env->context_count - 1, &limit->mail);
}

void log_release(struct env *env, uint32_t segment)
{
    struct log_retire_mail *released = wr_calloc(1, sizeof(*released));
    released->mail.kind = LOG_MAIL_RELEASED;
    released->mail.destroy = mail_destroy;
    released->segment = segment;
    env->ops->post(env, env->context_count - 1, &released->mail);
}
