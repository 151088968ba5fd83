/*
 * Benchmark, not a test: how many 16-byte messages per second go through queue_apply on one core.
 * Usage: bench-queue [messages]. Each line: what, messages per second, nanoseconds per message.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "warren/queue.h"

#define BATCH  500u
#define CLIENT ((UINT64_C(1) << 32) | 1)

struct bench {
    struct queue *queue;
    struct queue_op ops[BATCH];
    struct chunk_arena arena;
    uint64_t seq;
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
    queue_apply(b->queue, 0, &batch, &store, &sink);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
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
    const struct message_parts parts = {.ttl_ms = MESSAGE_TTL_NONE, .key = BYTES_LITERAL("queue")};
    const uint32_t size = (uint32_t)message_record_size(&parts, 16);
    for (uint32_t i = 0; i < BATCH; i++) {
        struct queue_op *op = &b->ops[i];
        *op = (struct queue_op){.kind = QUEUE_OP_ENQUEUE, .seq = ++b->seq};
        memset(message_write(chunk_alloc(&b->arena, size, &op->message.record), &parts, 16), 7, 16);
    }
}

static void forget(struct bench *b)
{
    for (uint32_t i = 0; i < BATCH; i++) {
        message_unref(b->ops[i].message);
    }
}

/* Acks all that consumers 1..n got, in ops of `step` ordinals; returns the time. */
static uint64_t settle(struct bench *b, uint32_t consumers, uint64_t *settled, uint64_t step)
{
    uint64_t ns = 0;
    for (uint32_t c = 1; c <= consumers; c++) {
        while (settled[c] < b->delivered_to[c]) {
            uint32_t count = 0;
            for (; count < BATCH && settled[c] < b->delivered_to[c]; count++) {
                const uint64_t left = b->delivered_to[c] - settled[c];
                const uint64_t n = left < step ? left : step;
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

/* step 0 = no_ack. Only queue_apply is timed. */
static void run(const char *what, uint64_t messages, uint32_t consumers, uint64_t step)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct queue_config config;
    uint64_t settled[8] = {0};
    uint64_t ns = 0;
    queue_config_default(&config);
    b->queue = queue_new(&config);
    for (uint32_t c = 1; c <= consumers; c++) {
        attach(b, c, step == 0 ? QUEUE_NO_ACK : 0);
    }
    for (uint64_t done = 0; done < messages; done += BATCH) {
        enqueue(b);
        const uint64_t begin = now_ns();
        apply(b, b->ops, BATCH);
        ns += now_ns() - begin;
        forget(b);
        if (step > 0) {
            ns += settle(b, consumers, settled, step);
        }
    }
    printf("%-40s %8.2f M/s %7.1f ns  (%" PRIu64 " delivered, %" PRIu64 " effects)\n", what,
           (double)b->stored * 1000.0 / (double)ns, (double)ns / (double)b->stored, b->delivered,
           b->effects);
    queue_free(b->queue);
    chunk_arena_deinit(&b->arena);
    free(b);
}

int main(int argc, char **argv)
{
    const uint64_t messages = argc > 1 ? strtoull(argv[1], NULL, 10) : 5000000;
    run("no consumer (backlog)", messages, 0, 0);
    run("1 no_ack consumer", messages, 1, 0);
    run("1 consumer, multiple-ack of 500", messages, 1, 500);
    run("1 consumer, ack of each", messages, 1, 1);
    run("2 no_ack consumers", messages, 2, 0);
    run("4 consumers, ack of each", messages, 4, 1);
    return 0;
}
