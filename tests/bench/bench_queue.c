/*
 * Benchmark, not a test: how many 16-byte messages per second go through queue_apply on one core.
 * Usage: bench-queue [messages [number of the case]]. Each line: what, messages per second,
 * nanoseconds per message. Instructions instead of time, on a busy machine:
 * valgrind --tool=callgrind --toggle-collect=queue_apply bench-queue 100000 N
 */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "warren/queue.h"

#define BATCH  500u
#define CLIENT ((UINT64_C(1) << 32) | 1)

/* What is measured. */
struct bench_case {
    const char *name;
    uint32_t consumers;
    uint32_t step; /* Ordinals per ack, 0 = no_ack. */
    uint32_t batch;
    bool ttl;            /* A config.ttl_ms that nothing reaches; each batch a ms later. */
    bool own_ttl;        /* Of each message, of many different ones. */
    uint8_t priorities;  /* x-max-priority; messages of all of them in turn. */
    uint64_t length_max; /* 0 none. */
    uint8_t overflow;
    bool publisher, ids, single;
    bool sizes; /* Bodies of many sizes: no two neighbours are of one run. */
};

struct bench {
    struct queue *queue;
    struct queue_op ops[BATCH];
    struct chunk_arena arena;
    uint64_t ids[BATCH][4];
    const struct bench_case *what;
    uint64_t seq;
    uint64_t now;
    uint64_t stored;
    uint64_t delivered;
    uint64_t delivered_to[8]; /* Last ordinal of each consumer. */
    uint64_t effects;
};

static void on_store(void *ctx, uint64_t position, const struct message *message)
{
    struct bench *b = ctx;
    b->stored += position > 0 && message->record.size > 0 ? 1 : 0;
}

static void on_effect(void *ctx, const struct queue_effect *effect)
{
    struct bench *b = ctx;
    b->effects++;
    if (effect->kind == QUEUE_EFFECT_DELIVER) {
        b->delivered += effect->count;
        b->delivered_to[effect->consumer] = effect->ordinal + effect->count - 1;
    }
}

static void apply(struct bench *b, const struct queue_op *ops, uint32_t count)
{
    const struct queue_batch batch = {CLIENT, count, ops};
    const struct queue_store_ops store = {on_store, b};
    const struct queue_sink sink = {on_effect, b};
    queue_apply(b->queue, b->now, &batch, &store, &sink);
}

/* CPU time: other programs on the machine count less. */
static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static void attach(struct bench *b, uint32_t consumer, uint8_t flags)
{
    const struct queue_op op = {
        .kind = QUEUE_OP_ATTACH,
        .flags = flags,
        .consumer = consumer,
        .seq = ++b->seq,
        .limit = UINT64_MAX,
    };
    apply(b, &op, 1);
}

static void enqueue(struct bench *b)
{
    static const char ids[] = "0123456789abcdef0123456789abcdef";
    const struct bench_case *what = b->what;
    for (uint32_t i = 0; i < what->batch; i++) {
        struct queue_op *op = &b->ops[i];
        *op = (struct queue_op){.kind = QUEUE_OP_ENQUEUE, .seq = ++b->seq};
        const struct message_parts parts = {
            .ttl_ms = what->own_ttl ? 100000000 + b->seq * 7919 % 1000 : MESSAGE_TTL_NONE,
            .key = BYTES_LITERAL("queue"),
            .priority = what->priorities == 0 ? 0 : (uint8_t)(b->seq % (what->priorities + 1u)),
        };
        const uint32_t body = what->sizes ? 16 + (uint32_t)(b->seq * 7919 % 100) : 16;
        const uint32_t size = (uint32_t)message_record_size(&parts, body);
        memset(message_write(chunk_alloc(&b->arena, size, &op->message.record), &parts, body), 7,
               body);
        if (what->publisher) {
            op->flags |= QUEUE_HAS_PUBLISHER;
            op->name = BYTES_LITERAL("publisher");
            op->first = b->seq;
        }
        if (what->ids) {
            uint64_t *id = &b->ids[i][0];
            memcpy(id, ids, sizeof(b->ids[i]));
            *id = b->seq;
            op->flags |= QUEUE_HAS_ID;
            op->args = bytes_make(id, sizeof(b->ids[i]));
        }
    }
    b->now++;
}

static void forget(struct bench *b)
{
    for (uint32_t i = 0; i < b->what->batch; i++) {
        message_unref(b->ops[i].message);
    }
}

/* Acks all that consumers 1..n got, in ops of `step` ordinals; returns the time. */
static uint64_t settle(struct bench *b, uint64_t *settled)
{
    uint64_t ns = 0;
    for (uint32_t c = 1; c <= b->what->consumers; c++) {
        while (settled[c] < b->delivered_to[c]) {
            uint32_t count = 0;
            for (; count < b->what->batch && settled[c] < b->delivered_to[c]; count++) {
                const uint64_t left = b->delivered_to[c] - settled[c];
                const uint64_t n = left < b->what->step ? left : b->what->step;
                b->ops[count] = (struct queue_op){
                    .kind = QUEUE_OP_SETTLE,
                    .outcome = QUEUE_ACK,
                    .consumer = c,
                    .seq = ++b->seq,
                    .first = settled[c] + 1,
                    .count = n,
                };
                settled[c] += n;
            }
            const uint64_t begin = now_ns();
            apply(b, b->ops, count);
            ns += now_ns() - begin;
        }
    }
    return ns;
}

static struct queue *new_queue(const struct bench_case *what)
{
    struct queue_config config;
    queue_config_default(&config);
    config.priority_max = what->priorities;
    config.ttl_ms = what->ttl ? 100000000 : UINT64_MAX;
    config.length_max = what->length_max == 0 ? UINT64_MAX : what->length_max;
    config.overflow = what->overflow;
    config.dedup_window_ms = what->ids ? 1000 : 0;
    config.single_active_consumer = what->single;
    return queue_new(&config);
}

static uint64_t snapshot_size(const struct queue *queue)
{
    struct buf *out = buf_new(1024);
    queue_snapshot(queue, &out);
    const uint64_t size = out->size;
    buf_unref(out);
    return size;
}

static size_t memory_in_use(void)
{
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

/* Only queue_apply is timed. */
static void run(const struct bench_case *what, uint64_t messages)
{
    struct bench *b = calloc(1, sizeof(*b));
    uint64_t settled[8] = {0};
    uint64_t ns = 0;
    const size_t before = memory_in_use();
    b->what = what;
    b->now = 1000000;
    b->queue = new_queue(what);
    for (uint32_t c = 1; c <= what->consumers; c++) {
        attach(b, c, what->step == 0 ? QUEUE_NO_ACK : 0);
    }
    uint64_t sent = 0;
    for (; sent < messages; sent += what->batch) {
        enqueue(b);
        const uint64_t begin = now_ns();
        apply(b, b->ops, what->batch);
        ns += now_ns() - begin;
        forget(b);
        if (what->step > 0) {
            ns += settle(b, settled);
        }
    }
    chunk_arena_deinit(&b->arena);
    const size_t memory = memory_in_use() - before;
    printf("%-44s %8.2f M/s %7.1f ns  (%" PRIu64 " delivered, %" PRIu64 " effects", what->name,
           (double)sent * 1000.0 / (double)ns, (double)ns / (double)sent, b->delivered, b->effects);
    printf(", %zu bytes, snapshot %" PRIu64 ")\n", memory, snapshot_size(b->queue));
    queue_free(b->queue);
    free(b);
}

static const struct bench_case cases[] = {
    {.name = "no consumer (backlog)", .batch = BATCH},
    {.name = "1 no_ack consumer", .batch = BATCH, .consumers = 1},
    {.name = "1 consumer, multiple-ack of 500", .batch = BATCH, .consumers = 1, .step = 500},
    {.name = "1 consumer, ack of each", .batch = BATCH, .consumers = 1, .step = 1},
    {.name = "2 no_ack consumers", .batch = BATCH, .consumers = 2},
    {.name = "4 consumers, ack of each", .batch = BATCH, .consumers = 4, .step = 1},
    /* Batches of 100, as of a busy queue: what a feature costs. */
    {.name = "backlog, 100", .batch = 100},
    {.name = "backlog, 100, one TTL", .batch = 100, .ttl = true},
    {.name = "backlog, 100, 10 priorities", .batch = 100, .priorities = 9},
    {.name = "full, 100, drop-head", .batch = 100, .length_max = 10000},
    {.name = "backlog, 100, reject-publish",
     .batch = 100,
     .length_max = UINT64_MAX / 2,
     .overflow = QUEUE_REJECT_PUBLISH},
    {.name = "full, 100, reject-publish",
     .batch = 100,
     .length_max = 10000,
     .overflow = QUEUE_REJECT_PUBLISH},
    {.name = "ack of 10, 100", .batch = 100, .consumers = 1, .step = 10},
    {.name = "ack of 10, 100, one TTL", .batch = 100, .consumers = 1, .step = 10, .ttl = true},
    {.name = "ack of 10, 100, TTL of each",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .own_ttl = true},
    {.name = "ack of 10, 100, 10 priorities",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .priorities = 9},
    {.name = "ack of 10, 100, length limit",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .length_max = 10000},
    {.name = "ack of 10, 100, reject-publish",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .length_max = 10000,
     .overflow = QUEUE_REJECT_PUBLISH},
    {.name = "ack of 10, 100, publisher",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .publisher = true},
    {.name = "ack of 10, 100, message ids", .batch = 100, .consumers = 1, .step = 10, .ids = true},
    /* The same where a run is one message anyway, as with most real messages. */
    {.name = "sizes, ack of 10, 100", .batch = 100, .consumers = 1, .step = 10, .sizes = true},
    {.name = "sizes, ack of 10, 100, one TTL",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .sizes = true,
     .ttl = true},
    {.name = "sizes, ack of 10, 100, TTL of each",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .sizes = true,
     .own_ttl = true},
    {.name = "sizes, ack of 10, 100, 10 priorities",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .sizes = true,
     .priorities = 9},
    {.name = "sizes, ack of 10, 100, length limit",
     .batch = 100,
     .consumers = 1,
     .step = 10,
     .sizes = true,
     .length_max = 10000},
    {.name = "no_ack, 100", .batch = 100, .consumers = 1},
    {.name = "no_ack, 100, one TTL", .batch = 100, .consumers = 1, .ttl = true},
    {.name = "no_ack, 100, 10 priorities", .batch = 100, .consumers = 1, .priorities = 9},
    {.name = "no_ack, 100, TTL of each", .batch = 100, .consumers = 1, .own_ttl = true},
    {.name = "ack of 10, 100, 4 consumers, 1 active",
     .batch = 100,
     .consumers = 4,
     .step = 10,
     .single = true},
};

int main(int argc, char **argv)
{
    const uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000000;
    const size_t only = argc > 2 ? strtoull(argv[2], NULL, 10) : SIZE_MAX;
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        if (only == SIZE_MAX || only == i) {
            run(&cases[i], messages);
        }
    }
    return 0;
}
