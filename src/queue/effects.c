/*
 * What: sends effects to the sink, gathering what can be said at once: DELIVERs of consecutive
 * positions and ordinals of one consumer with one delivery count (or death), NACKEDs of consecutive
 * ops, and all DROPs of the command: what leaves in the order of its priority is a few runs of
 * positions all the same.
 * Invariants: 1. a gathered DELIVER goes out before any other effect; 2. DROPs come last, by
 * position, no two of them neighbours, and only then are their messages taken out of `live`;
 * 3. nothing stays gathered when queue_apply returns.
 */
#include "queue_internal.h"

static void flush_deliver(struct queue_apply *a)
{
    if (a->deliver.count > 0) {
        a->sink->effect(a->sink->ctx, &a->deliver);
        a->deliver.count = 0;
    }
}

static void drop_span(struct queue_apply *a, uint64_t first, uint64_t count)
{
    const uint64_t removed = rangemap_remove(&a->queue->live, first, count, NULL, NULL);
    WR_ASSERT_OP(removed, ==, count);
    const struct queue_effect effect = {
        .kind = QUEUE_EFFECT_DROP, .position = first, .count = count};
    a->sink->effect(a->sink->ctx, &effect);
}

static void flush_drops(struct queue_apply *a)
{
    if (a->drop_count == 0) {
        return;
    }
    struct queue_spans *drops = &a->queue->drops;
    if (WR_LIKELY(drops->count == 0)) {
        drop_span(a, a->drop_first, a->drop_count);
        a->drop_count = 0;
        return;
    }
    vec_push(drops, (struct queue_span){a->drop_first, a->drop_count});
    a->drop_count = 0;
    queue__spans_join(drops);
    for (size_t i = 0; i < drops->count; i++) {
        drop_span(a, drops->items[i].first, drops->items[i].count);
    }
    vec_clear(drops);
    if (drops->capacity > QUEUE_SCRATCH_KEPT) {
        vec_deinit(drops);
    }
}

static void flush_nacked(struct queue_apply *a)
{
    if (a->nacked.count > 0) {
        a->sink->effect(a->sink->ctx, &a->nacked);
        a->nacked.count = 0;
    }
}

void queue__flush_effects(struct queue_apply *a)
{
    flush_deliver(a);
    flush_nacked(a);
    flush_drops(a);
}

/* Any effect but DELIVER and DROP. */
void queue__emit(struct queue_apply *a, const struct queue_effect *effect)
{
    WR_ASSERT(effect->kind != QUEUE_EFFECT_DELIVER);
    WR_ASSERT(effect->kind != QUEUE_EFFECT_DROP);
    flush_deliver(a);
    if (effect->kind != QUEUE_EFFECT_REPLY) {
        flush_nacked(a);
    }
    a->sink->effect(a->sink->ctx, effect);
}

/* The client's enqueues from `seq` were refused. */
void queue__emit_nacked(struct queue_apply *a, uint64_t client, uint64_t seq, uint64_t count)
{
    struct queue_effect *n = &a->nacked;
    if (n->count > 0 && n->client == client && n->seq + n->count == seq) {
        n->count += count;
        return;
    }
    flush_nacked(a);
    *n = (struct queue_effect){
        .kind = QUEUE_EFFECT_NACKED, .client = client, .seq = seq, .count = count};
}

/* The piece (key = position) goes to the consumer as ordinals from `ordinal`. */
void queue__emit_deliver(struct queue_apply *a, const struct queue_consumer *consumer, bool no_ack,
                         uint64_t ordinal, const struct range_run *piece)
{
    struct queue_effect *d = &a->deliver;
    const uint8_t flags = no_ack ? QUEUE_NO_ACK : 0;
    if (d->count > 0 && d->client == consumer->client->id && d->consumer == consumer->id &&
        d->position + d->count == piece->first && d->ordinal + d->count == ordinal &&
        d->delivery_count == piece->attr.c && d->flags == flags) {
        d->count += piece->count;
        return;
    }
    flush_deliver(a);
    *d = (struct queue_effect){
        .kind = QUEUE_EFFECT_DELIVER,
        .flags = flags,
        .consumer = consumer->id,
        .client = consumer->client->id,
        .ordinal = ordinal,
        .position = piece->first,
        .count = piece->count,
        .delivery_count = piece->attr.c,
    };
}

void queue__emit_deliver_dead(struct queue_apply *a, const struct queue_consumer *consumer,
                              uint64_t ordinal, const struct range_run *piece)
{
    struct queue_effect *d = &a->deliver;
    if (d->count > 0 && d->client == consumer->client->id && d->consumer == consumer->id &&
        d->position + d->count == piece->first && d->ordinal + d->count == ordinal &&
        d->flags == QUEUE_DEAD && d->status == piece->attr.c && d->value == piece->attr.b) {
        d->count += piece->count;
        return;
    }
    flush_deliver(a);
    *d = (struct queue_effect){
        .kind = QUEUE_EFFECT_DELIVER,
        .status = (uint8_t)piece->attr.c,
        .flags = QUEUE_DEAD,
        .consumer = consumer->id,
        .client = consumer->client->id,
        .ordinal = ordinal,
        .position = piece->first,
        .count = piece->count,
        .value = piece->attr.b,
    };
}

void queue__remove(struct queue_apply *a, uint64_t position, uint64_t count)
{
    WR_ASSERT_OP(count, >, 0);
    if (a->drop_count > 0 && a->drop_first + a->drop_count == position) {
        a->drop_count += count;
    } else if (a->drop_count > 0 && position + count == a->drop_first) {
        a->drop_first = position;
        a->drop_count += count;
    } else {
        if (a->drop_count > 0) {
            vec_push(&a->queue->drops, (struct queue_span){a->drop_first, a->drop_count});
        }
        a->drop_first = position;
        a->drop_count = count;
    }
}

/* Answers an op and keeps the answer, in case the op comes again; whoever delivered something for
 * it adds that to client->reply. */
void queue__emit_reply(struct queue_apply *a, struct queue_client *client, uint64_t seq,
                       enum queue_status status, uint64_t value)
{
    client->reply = (struct queue_reply){
        .seq = seq,
        .value = value,
        .value2 = a->queue->consumers,
        .status = (uint8_t)status,
    };
    const struct queue_effect effect = {
        .kind = QUEUE_EFFECT_REPLY,
        .status = (uint8_t)status,
        .client = client->id,
        .seq = seq,
        .value = value,
        .value2 = a->queue->consumers,
    };
    queue__emit(a, &effect);
}

void queue__emit_applied(struct queue_apply *a, uint64_t client, uint64_t seq)
{
    const struct queue_effect effect = {.kind = QUEUE_EFFECT_APPLIED, .client = client, .seq = seq};
    queue__emit(a, &effect);
}
