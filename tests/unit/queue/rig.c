/* A queue for tests: see rig.h. */
#include "rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

static void on_effect(void *ctx, const struct queue_effect *effect)
{
    struct rig *rig = ctx;
    char line[256];
    queue_describe_effect(effect, line, sizeof(line));
    const int n = snprintf(rig->text + rig->text_size, sizeof(rig->text) - rig->text_size, "%s%s",
                           rig->text_size == 0 ? "" : "\n", line);
    rig->text_size += (size_t)n;
    cr_assert_lt(rig->text_size, sizeof(rig->text));
}

static void on_store(void *ctx, uint64_t position, const struct message *message)
{
    struct rig *rig = ctx;
    cr_assert_gt(message->record.size, 0);
    if (rig->stored_count++ == 0) {
        rig->stored_first = position;
    } else {
        cr_assert_eq(position, rig->stored_last + 1);
    }
    rig->stored_last = position;
}

void rig_init(struct rig *rig, const struct queue_config *config)
{
    struct queue_config fallback;
    queue_config_default(&fallback);
    *rig = (struct rig){.queue = queue_new(config == NULL ? &fallback : config)};
}

void rig_deinit(struct rig *rig)
{
    queue_free(rig->queue);
    rig->queue = NULL;
}

const char *rig_take(struct rig *rig)
{
    memcpy(rig->taken, rig->text, sizeof(rig->text));
    rig->text[0] = '\0';
    rig->text_size = 0;
    return rig->taken;
}

struct message rig_message(uint32_t body_size, uint8_t priority)
{
    return rig_message_ttl(body_size, priority, MESSAGE_TTL_NONE);
}

struct message rig_message_ttl(uint32_t body_size, uint8_t priority, uint64_t ttl_ms)
{
    const struct message_parts parts = {
        .ttl_ms = ttl_ms, .key = BYTES_LITERAL("k"), .priority = priority};
    const uint32_t size = (uint32_t)message_record_size(&parts, body_size);
    struct buf *buf = buf_new(size);
    memset(message_write(buf->data, &parts, body_size), 'x', body_size);
    buf->size = size;
    return (struct message){slice_of_buf(buf)};
}

void rig_batch(struct rig *rig, uint64_t client, const struct queue_op *ops, uint32_t count)
{
    const struct queue_batch batch = {client, count, ops};
    const struct queue_store_ops store = {on_store, rig};
    const struct queue_sink sink = {on_effect, rig};
    queue_apply(rig->queue, rig->now, &batch, &store, &sink);
    queue_check(rig->queue);
}

void rig_op(struct rig *rig, uint64_t client, struct queue_op op)
{
    op.seq = ++rig->seqs[client % 64];
    rig_batch(rig, client, &op, 1);
}

void rig_host(struct rig *rig, uint8_t kind, uint64_t boot)
{
    const struct queue_op op = {.kind = kind, .first = boot};
    rig_batch(rig, 0, &op, 1);
}

void rig_publish_one(struct rig *rig, uint64_t client, uint32_t body_size, uint8_t priority)
{
    struct message message = rig_message(body_size, priority);
    rig_op(rig, client, (struct queue_op){.kind = QUEUE_OP_ENQUEUE, .message = message});
    message_unref(message);
}

void rig_publish(struct rig *rig, uint64_t client, uint32_t count)
{
    struct message message = rig_message(10, 0);
    struct queue_op ops[32];
    cr_assert_leq(count, 32);
    for (uint32_t i = 0; i < count; i++) {
        ops[i] = (struct queue_op){
            .kind = QUEUE_OP_ENQUEUE, .message = message, .seq = ++rig->seqs[client % 64]};
    }
    rig_batch(rig, client, ops, count);
    message_unref(message);
}

void rig_publish_as(struct rig *rig, uint64_t client, struct queue_op op)
{
    struct message message = rig_message(10, 0);
    op.kind = QUEUE_OP_ENQUEUE;
    op.message = message;
    rig_op(rig, client, op);
    message_unref(message);
}

void rig_publish_ttl(struct rig *rig, uint64_t client, uint64_t ttl_ms)
{
    struct message message = rig_message_ttl(10, 0, ttl_ms);
    rig_op(rig, client, (struct queue_op){.kind = QUEUE_OP_ENQUEUE, .message = message});
    message_unref(message);
}

void rig_configure(struct rig *rig, const struct queue_config *config)
{
    struct buf *args = buf_new(16);
    queue_config_encode(&args, config);
    const struct queue_op op = {.kind = QUEUE_OP_CONFIG, .args = {args->data, args->size}};
    rig_batch(rig, 0, &op, 1);
    buf_unref(args);
}

void rig_redeliver(struct rig *rig, uint64_t client, uint32_t consumer, uint64_t from)
{
    const struct queue_sink sink = {on_effect, rig};
    queue_redeliver(rig->queue, client, consumer, from, &sink);
}

void rig_repeat_nacked(struct rig *rig, uint64_t client, uint64_t from)
{
    const struct queue_sink sink = {on_effect, rig};
    queue_repeat_nacked(rig->queue, client, from, &sink);
}

void rig_at(struct rig *rig, uint64_t now)
{
    rig->now = now;
    rig_host(rig, QUEUE_OP_EXPIRE, 0);
}

void rig_attach(struct rig *rig, uint64_t client, uint32_t consumer, uint8_t flags,
                uint32_t prefetch)
{
    rig_op(rig, client,
           (struct queue_op){.kind = QUEUE_OP_ATTACH,
                             .consumer = consumer,
                             .flags = flags,
                             .prefetch = prefetch,
                             .limit = UINT64_MAX,
                             .name = BYTES_LITERAL("tag")});
}

void rig_settle(struct rig *rig, uint64_t client, uint32_t consumer, uint64_t first, uint64_t count,
                uint8_t outcome)
{
    rig_op(rig, client,
           (struct queue_op){.kind = QUEUE_OP_SETTLE,
                             .consumer = consumer,
                             .first = first,
                             .count = count,
                             .outcome = outcome});
}

void rig_simple(struct rig *rig, uint64_t client, uint8_t kind, uint8_t flags)
{
    rig_op(rig, client, (struct queue_op){.kind = kind, .flags = flags});
}
