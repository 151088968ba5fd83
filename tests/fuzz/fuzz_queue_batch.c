/*
 * libFuzzer target: any bytes, read as encoded batches, are refused or can be applied; the state
 * stays sound, and what is applied encodes to something that is read back.
 */
#include "warren/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *ctx, const struct queue_effect *effect)
{
    (void)ctx;
    (void)effect;
}

static void encode_again(const struct queue_batch *batch)
{
    struct buf *bytes = buf_new(64);
    struct queue_batch_reader reader;
    struct queue_batch again;
    queue_batch_encode(&bytes, batch);
    queue_batch_reader_init(&reader, bytes, 0, bytes->size);
    WR_ASSERT(queue_batch_reader_next(&reader, &again) == 1);
    WR_ASSERT_OP(again.client, ==, batch->client);
    WR_ASSERT_OP(again.count, ==, batch->count);
    WR_ASSERT(queue_batch_reader_next(&reader, &again) == 0);
    queue_batch_reader_deinit(&reader);
    buf_unref(bytes);
}

/* Two bytes say what kind of queue it is. */
static void configure(struct queue_config *config, uint8_t kind, uint8_t limits)
{
    queue_config_default(config);
    config->priority_max = kind % 4;
    config->auto_delete = (kind & 4) != 0;
    config->single_active_consumer = (kind & 8) != 0;
    config->dead_letter = (kind & 16) != 0;
    config->overflow = (kind >> 5) % 3;
    config->ttl_ms = (limits & 1) != 0 ? 3 : UINT64_MAX;
    config->length_max = (limits & 2) != 0 ? limits >> 6 : UINT64_MAX;
    config->bytes_max = (limits & 4) != 0 ? 40 : UINT64_MAX;
    config->expires_ms = (limits & 8) != 0 ? 9 : UINT64_MAX;
    config->dedup_window_ms = (limits & 16) != 0 ? 4 : 0;
    config->delivery_limit = (limits & 32) != 0 ? limits >> 6 : -1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue_config config;
    if (size < 2) {
        return 0;
    }
    configure(&config, data[0], data[1]);
    struct queue *queue = queue_new(&config);
    struct buf *bytes = buf_from(data, size);
    const struct queue_sink sink = {ignore, NULL};
    struct queue_batch_reader reader;
    struct queue_batch batch;
    uint64_t now = 0;
    queue_batch_reader_init(&reader, bytes, 2, (uint32_t)size);
    while (queue_batch_reader_next(&reader, &batch) == 1) {
        encode_again(&batch);
        now += batch.count % 4; /* The input says how time passes. */
        queue_apply(queue, now, &batch, NULL, &sink);
        queue_check(queue);
        WR_ASSERT(queue_deadline_ms(queue) > now || now == 0);
    }
    queue_batch_reader_deinit(&reader);
    buf_unref(bytes);
    queue_free(queue);
    return 0;
}
