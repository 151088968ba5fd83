/*
 * libFuzzer target: any bytes, read as a snapshot, are refused or give a sound state that encodes
 * to the same bytes and goes on working.
 */
#include "warren/queue.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *ctx, const struct queue_effect *effect)
{
    (void)ctx;
    (void)effect;
}

/* As much time passes with each op as until something is due, if that is soon. */
static uint64_t later(const struct queue *queue, uint64_t now)
{
    const uint64_t deadline = queue_deadline_ms(queue);
    return deadline > now && deadline < UINT64_MAX ? deadline : now + 1;
}

static void apply(struct queue *queue, uint64_t client, struct queue_op op)
{
    const struct queue_batch batch = {client, 1, &op};
    const struct queue_sink sink = {ignore, NULL};
    op.seq = client == 0 ? 0 : queue_client_last_seq(queue, client) + 1;
    if (client == 0 || op.seq != 0) { /* 0: a damaged last seq that cannot go on. */
        queue_apply(queue, later(queue, 1), &batch, NULL, &sink);
        queue_check(queue);
    }
}

/* A client that the snapshot does not have takes all dead letters. */
static void take_the_dead(struct queue *queue)
{
    const struct queue_op ops[] = {
        {.kind = QUEUE_OP_ATTACH, .seq = 1, .consumer = 1, .flags = QUEUE_DEAD, .limit = 7},
        {.kind = QUEUE_OP_SETTLE, .seq = 2, .consumer = 1, .count = 9, .outcome = QUEUE_ACK},
        {.kind = QUEUE_OP_CLOSE, .seq = 3},
    };
    const struct queue_sink sink = {ignore, NULL};
    for (uint32_t i = 0; i < WR_ARRAY_SIZE(ops); i++) {
        const struct queue_batch batch = {UINT64_C(0xfffffffffffffff0), 1, &ops[i]};
        queue_apply(queue, later(queue, 1), &batch, NULL, &sink);
        queue_check(queue);
    }
}

/* Each client settles all it has, then all nodes go. */
static void exercise(struct queue *queue)
{
    uint64_t boots[16];
    uint64_t clients[16];
    const uint32_t boot_count = queue_boots(queue, boots, 16);
    for (uint32_t b = 0; b < boot_count && b < 16; b++) {
        const uint32_t count = queue_clients(queue, boots[b], clients, 16);
        apply(queue, 0, (struct queue_op){.kind = QUEUE_OP_NODE_UP, .first = boots[b]});
        for (uint32_t c = 0; c < count && c < 16; c++) {
            apply(queue, clients[c], (struct queue_op){.kind = QUEUE_OP_GET});
            apply(queue, clients[c],
                  (struct queue_op){.kind = QUEUE_OP_SETTLE,
                                    .count = UINT64_MAX,
                                    .outcome = (uint8_t)(1 + c % 4)});
            apply(queue, clients[c], (struct queue_op){.kind = QUEUE_OP_LIMIT, .limit = c});
            apply(queue, clients[c],
                  (struct queue_op){.kind = QUEUE_OP_PEEK, .count = 3, .outcome = 7});
            apply(queue, clients[c], (struct queue_op){.kind = QUEUE_OP_TAKE, .count = 5});
            apply(queue, 0, (struct queue_op){.kind = QUEUE_OP_EXPIRE});
        }
    }
    take_the_dead(queue);
    for (uint32_t b = 0; b < boot_count && b < 16; b++) {
        apply(queue, 0, (struct queue_op){.kind = QUEUE_OP_NODE_DOWN, .first = boots[b]});
        apply(queue, 0, (struct queue_op){.kind = QUEUE_OP_NODE_GONE, .first = boots[b]});
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queue *queue = NULL;
    if (queue_restore(bytes_make(data, size), &queue) != 0) {
        return 0;
    }
    queue_check(queue);
    struct buf *again = buf_new(64);
    queue_snapshot(queue, &again);
    /* Version 1 is read and not written any more. */
    WR_ASSERT(data[0] == 1 ||
              bytes_eq(bytes_make(again->data, again->size), bytes_make(data, size)));
    buf_unref(again);
    exercise(queue);
    queue_free(queue);
    return 0;
}
