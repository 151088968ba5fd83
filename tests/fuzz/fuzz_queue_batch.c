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

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue_config config;
    queue_config_default(&config);
    config.priority_max = size > 0 ? data[0] % 8 : 0;
    config.auto_delete = size > 0 && data[0] >= 128;
    struct queue *queue = queue_new(&config);
    struct buf *bytes = buf_from(data, size);
    const struct queue_sink sink = {ignore, NULL};
    struct queue_batch_reader reader;
    struct queue_batch batch;
    queue_batch_reader_init(&reader, bytes, size > 0 ? 1 : 0, (uint32_t)size);
    while (queue_batch_reader_next(&reader, &batch) == 1) {
        encode_again(&batch);
        queue_apply(queue, 0, &batch, NULL, &sink);
        queue_check(queue);
    }
    queue_batch_reader_deinit(&reader);
    buf_unref(bytes);
    queue_free(queue);
    return 0;
}
