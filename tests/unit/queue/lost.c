/* Batches that are lost after they were applied. See lost.h. */
#include "lost.h"

#include <criterion/criterion.h>
#include <string.h>

#include "rig.h"
#include "warren/buf.h"

static void ignore(void *ctx, const struct queue_effect *effect)
{
    (void)ctx;
    (void)effect;
}

struct look {
    struct lost *lost;
    uint64_t seed;
};

static void expect_marked(void *ctx, const struct queue_effect *effect)
{
    const struct look *look = ctx;
    if (effect->kind != QUEUE_EFFECT_PEEK) {
        return;
    }
    for (uint64_t i = 0; i < effect->count; i++) {
        const uint64_t position = effect->position + i;
        cr_assert(!look->lost->out[position] || effect->delivery_count > 0,
                  "seed %lu: %lu was handed out, and is not marked", look->seed, position);
    }
}

void lost_end(struct lost *lost, uint64_t seed)
{
    if (lost->before == NULL) {
        return;
    }
    const struct queue_op suspect = {.kind = QUEUE_OP_SUSPECT, .count = lost->handed_out};
    const struct queue_batch host = {.count = 1, .ops = &suspect};
    const struct queue_sink nothing = {ignore, NULL};
    queue_apply(lost->before, lost->now, &host, NULL, &nothing);
    queue_check(lost->before);
    const struct queue_op peek = {
        .kind = QUEUE_OP_PEEK, .seq = 1, .count = LOST_POSITIONS, .outcome = QUEUE_PLACE_READY};
    const struct queue_batch look = {.client = CLIENT(99, 1), .count = 1, .ops = &peek};
    struct look ctx = {lost, seed};
    const struct queue_sink sink = {expect_marked, &ctx};
    queue_apply(lost->before, lost->now, &look, NULL, &sink);
    queue_free(lost->before);
    lost->before = NULL;
    lost->runs++;
    lost->messages += lost->handed_out;
    lost->handed_out = 0;
    memset(lost->out, 0, sizeof(lost->out));
}

void lost_look(struct lost *lost, const struct queue *queue, uint64_t now,
               const struct queue_batch *batch, uint64_t seed)
{
    uint64_t most = 0;
    if (!queue_takes(queue, batch, &most)) {
        lost_end(lost, seed);
        return;
    }
    if (lost->before == NULL) {
        struct buf *snapshot = buf_new(0);
        queue_snapshot(queue, &snapshot);
        cr_assert_eq(queue_restore(bytes_make(snapshot->data, snapshot->size), &lost->before), 0);
        buf_unref(snapshot);
        lost->now = 0;
    }
    /* What is to mark them is looked for in the machine of before, as by who starts again. */
    cr_assert(most == 0 || queue_boot_takes(lost->before, batch->client >> 32), "seed %lu", seed);
    lost->now = now > lost->now ? now : lost->now;
    lost->most = lost->handed_out + most;
}

void lost_effect(struct lost *lost, const struct queue_effect *effect)
{
    if (lost->before == NULL || effect->kind != QUEUE_EFFECT_DELIVER ||
        (effect->flags & QUEUE_DEAD) != 0) {
        return;
    }
    for (uint64_t i = 0; i < effect->count; i++) {
        lost->out[effect->position + i] = true;
    }
    lost->handed_out += effect->count;
}

void lost_check_most(struct lost *lost, uint64_t seed)
{
    cr_assert(lost->before == NULL || lost->handed_out <= lost->most,
              "seed %lu: %lu handed out, at most %lu", seed, lost->handed_out, lost->most);
}
