/*
 * What: the queue machine: batches of ops in, effects out.
 * Happy path: queue_apply takes the ops of one client that come next in its sequence, one by one;
 * then it says APPLIED, and then hands out what is ready. What the time has brought (expiry.c)
 * comes before the ops. Consecutive enqueues cost a few instructions each: they are gathered into a
 * run (enqueue.c). Failure modes: ops that were applied before are answered again; those after a
 * gap are ignored; so are those of a client that is not known, unless they begin with its first.
 * Invariants: I1 to I5 of queue.h. No clock, no I/O, no randomness, no order that depends on
 * addresses.
 * Ownership: the queue owns all its state; the ops and their messages are borrowed.
 * Threads: one at a time.
 * Spec: docs/queue-machine.md.
 */
#include "queue_internal.h"

#include "warren/plant.h"

#include "warren/err.h"

struct queue *queue_new(const struct queue_config *config)
{
    struct queue *q = wr_calloc(1, sizeof(*q));
    q->config = *config;
    q->next_position = 1;
    q->next_release = 1;
    q->next_attach = 1;
    q->levels = wr_calloc((size_t)config->priority_max + 1, sizeof(*q->levels));
    for (uint32_t i = 0; i <= config->priority_max; i++) {
        rangemap_init(&q->levels[i].ready);
        rangemap_init(&q->levels[i].released);
    }
    rangemap_init(&q->delayed);
    rangemap_init(&q->dead);
    rangemap_init(&q->live);
    rangemap_init(&q->gone);
    queue__publishers_init(q);
    queue__ids_init(q);
    return q;
}

void queue_free(struct queue *queue)
{
    if (queue == NULL) {
        return;
    }
    for (size_t i = 0; i < queue->clients.count; i++) {
        queue__client_free(queue->clients.items[i]);
    }
    for (size_t i = 0; i < queue->groups.count; i++) {
        wr_free(queue->groups.items[i]);
    }
    for (uint32_t i = 0; i <= queue->config.priority_max; i++) {
        rangemap_deinit(&queue->levels[i].ready);
        rangemap_deinit(&queue->levels[i].released);
    }
    queue__timeline_deinit(&queue->expiry);
    queue__timeline_deinit(&queue->due);
    queue__publishers_deinit(queue);
    queue__ids_deinit(queue);
    rangemap_deinit(&queue->delayed);
    rangemap_deinit(&queue->dead);
    wr_free(queue->levels);
    wr_free(queue->closed);
    rangemap_deinit(&queue->live);
    rangemap_deinit(&queue->gone);
    vec_deinit(&queue->clients);
    vec_deinit(&queue->groups);
    vec_deinit(&queue->takers);
    vec_deinit(&queue->suspended);
    vec_deinit(&queue->fresh);
    vec_deinit(&queue->drops);
    wr_free(queue);
}

static void purge(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    const bool sealed = queue_sealed(a->queue);
    uint64_t removed = 0;
    if (!sealed) {
        removed = queue__ready_purge(a);
        removed += queue__delayed_purge(a);
    }
    queue__emit_reply(a, client, op->seq, sealed ? QUEUE_SEALED : QUEUE_OK, removed);
}

/* What is fixed at the declaration stays: the rest may change with a policy. */
static void configure(struct queue_apply *a, const struct queue_op *op)
{
    struct queue *q = a->queue;
    struct queue_config config;
    if (queue__config_decode(op->args, &config) != 0) {
        return;
    }
    config.auto_delete = q->config.auto_delete;
    config.single_active_consumer = q->config.single_active_consumer;
    config.active_stays = q->config.active_stays;
    config.priority_max = q->config.priority_max;
    if (config.expires_ms != q->config.expires_ms) {
        queue__used(q);
    }
    q->config = config;
    if (!config.dead_letter) {
        queue__dead_clear(a);
    }
    queue__ids_forget(q);
}

/* Any op of a client but ENQUEUE and CLOSE. */
static void apply_client_op(struct queue_apply *a, struct queue_client *client,
                            const struct queue_op *op)
{
    switch (op->kind) {
    case QUEUE_OP_ATTACH:
        queue__attach(a, client, op);
        break;
    case QUEUE_OP_DETACH:
        queue__detach(a, client, op);
        break;
    case QUEUE_OP_CREDIT:
        queue__credit(client, op);
        break;
    case QUEUE_OP_SETTLE:
        queue__settle(a, client, op);
        break;
    case QUEUE_OP_GET:
        queue__get(a, client, op);
        break;
    case QUEUE_OP_PURGE:
        purge(a, client, op);
        break;
    case QUEUE_OP_LIMIT:
        queue__limit(client, op);
        break;
    case QUEUE_OP_SEAL:
        queue__seal(a, client, op);
        break;
    case QUEUE_OP_UNSEAL:
        queue__unseal(a->queue, client);
        break;
    case QUEUE_OP_TAKE:
        queue__take(a, client, op);
        break;
    case QUEUE_OP_PEEK:
        queue__peek(a, client, op);
        break;
    case QUEUE_OP_TOUCH:
        queue__used(a->queue);
        break;
    default:
        WR_UNREACHABLE(); /* The codec lets no other kind of op of a client in. */
    }
}

static void apply_host_op(struct queue_apply *a, const struct queue_op *op)
{
    switch (op->kind) {
    case QUEUE_OP_NODE_DOWN:
        queue__node_down(a, op->first);
        break;
    case QUEUE_OP_NODE_UP:
        queue__node_up(a->queue, op->first);
        break;
    case QUEUE_OP_NODE_GONE:
        queue__node_gone(a, op->first);
        break;
    case QUEUE_OP_EXPIRE:
        break; /* The time has passed already. */
    case QUEUE_OP_RENEW:
        queue__used(a->queue);
        break;
    case QUEUE_OP_SUSPECT:
        queue__suspect(a, op->count);
        break;
    case QUEUE_OP_CONFIG:
        configure(a, op);
        break;
    default:
        WR_UNREACHABLE();
    }
}

static void repeat_piece(void *ctx, uint64_t ordinal, const struct range_run *piece)
{
    struct queue_apply *a = ctx;
    if (a->redeliver->dead) {
        queue__emit_deliver_dead(a, a->redeliver, ordinal, piece);
    } else {
        queue__emit_deliver(a, a->redeliver, false, ordinal, piece);
    }
}

/* Emits again what the consumer has unacked from `first` to `last`. */
static void repeat(struct queue_apply *a, const struct queue_consumer *consumer, uint64_t first,
                   uint64_t last)
{
    a->redeliver = consumer;
    queue__each_unacked(consumer, first, last, repeat_piece, a);
    a->redeliver = NULL;
}

/* The answer to an op that came before: that it was refused; its reply, when that is the last one,
 * with the messages that a basic.get took, as far as they are unacked. PEEK looks again. */
static void answer_again(struct queue_apply *a, struct queue_client *client,
                         const struct queue_op *op)
{
    const struct queue_reply *reply = &client->reply;
    if (op->kind == QUEUE_OP_ENQUEUE && rangemap_find(&client->nacked, op->seq) != NULL) {
        queue__emit_nacked(a, client->id, op->seq, 1);
    }
    if (reply->seq != op->seq || op->seq == 0) {
        return;
    }
    if (op->kind == QUEUE_OP_PEEK) {
        queue__flush_enqueued(a);
        queue__peek(a, client, op);
        return;
    }
    if (reply->ordinal != 0) {
        repeat(a, queue__consumer_find(client, 0), reply->ordinal,
               reply->ordinal + reply->taken - 1);
    }
    const struct queue_effect effect = {
        .kind = QUEUE_EFFECT_REPLY,
        .status = reply->status,
        .client = client->id,
        .seq = op->seq,
        .value = reply->value,
        .value2 = reply->value2,
    };
    queue__emit(a, &effect);
}

/* The record for a client that has none: a new one when the batch begins with its first op, NULL
 * when the batch is not to be applied (any more). */
static struct queue_client *admit(struct queue_apply *a, const struct queue_batch *batch)
{
    struct queue *q = a->queue;
    if (batch->count == 0 || rangemap_find(&q->gone, queue__client_boot(batch->client)) != NULL) {
        return NULL;
    }
    if (queue__client_was_closed(q, batch->client)) {
        /* Its CLOSE was the last op: all of these were applied before. */
        queue__emit_applied(a, batch->client, batch->ops[batch->count - 1].seq);
        return NULL;
    }
    if (batch->ops[0].seq == 1) {
        return queue__client_add(q, batch->client);
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        if (batch->ops[i].kind == QUEUE_OP_CLOSE) {
            queue__emit_applied(a, batch->client, batch->ops[i].seq);
            break;
        }
    }
    return NULL;
}

static void apply_client_batch(struct queue_apply *a, const struct queue_batch *batch)
{
    struct queue_client *client = queue__client_find(a->queue, batch->client);
    bool heard = false;
    if (client == NULL) {
        client = admit(a, batch);
    }
    if (client == NULL) {
        return;
    }
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct queue_op *op = &batch->ops[i];
        if (op->seq > client->last_seq + 1) {
            break; /* A gap: it and what follows will be sent again. */
        }
        heard = true;
        if (op->seq <= client->last_seq && !wr_planted(WR_PLANT_dedup_dropped)) {
            answer_again(a, client, op);
            continue;
        }
        client->last_seq = op->seq;
        if (WR_LIKELY(op->kind == QUEUE_OP_ENQUEUE)) {
            queue__enqueue(a, client, op);
            continue;
        }
        queue__flush_enqueued(a);
        if (op->kind == QUEUE_OP_CLOSE) {
            queue__client_close(a, client);
            queue__choose_active(a->queue);
            queue__remember_closed(a->queue, batch->client);
            queue__emit_applied(a, batch->client, op->seq);
            return;
        }
        apply_client_op(a, client, op);
        if (WR_UNLIKELY(a->queue->active_stale)) {
            queue__choose_active(a->queue);
        }
    }
    if (heard) {
        queue__forget_nacked(client);
        queue__emit_applied(a, client->id, client->last_seq);
    }
}

static void emit_alone(struct queue_apply *a, enum queue_effect_kind kind)
{
    const struct queue_effect effect = {.kind = (uint8_t)kind};
    queue__emit(a, &effect);
}

/* What follows from what the ops did. */
static void finish(struct queue_apply *a)
{
    if (a->live_first != 0) {
        queue__deliver_gathered(a);
    }
    queue__deliver(a);
    queue__expire(a);
    queue__drop_over(a);
    queue__deliver_dead(a);
    queue__lease_check(a);
    if (!a->dead_due && queue_dead_due(a->queue)) {
        emit_alone(a, QUEUE_EFFECT_DEAD);
    }
    if (a->unused) {
        emit_alone(a, QUEUE_EFFECT_UNUSED);
    }
    queue__flush_effects(a);
    queue__timelines_tidy(a->queue);
}

/* A new leader comes, perhaps after a time without any: the lease must not end before it says so.
 */
static bool renews(const struct queue_batch *batch)
{
    return batch->client == 0 && batch->count > 0 && batch->ops[0].kind == QUEUE_OP_RENEW;
}

void queue_apply(struct queue *queue, uint64_t now_ms, const struct queue_batch *batch,
                 const struct queue_store_ops *store, const struct queue_sink *sink)
{
    struct queue_apply a = {.queue = queue, .store = store, .sink = sink, .run_size = QUEUE_NO_RUN};
    WR_ASSERT(sink != NULL && sink->effect != NULL);
    a.dead_due = queue_dead_due(queue);
    queue__pass_time(&a, now_ms);
    if (!renews(batch)) {
        queue__lease_check(&a);
    }
    if (batch->client != 0) {
        apply_client_batch(&a, batch);
    } else {
        for (uint32_t i = 0; i < batch->count; i++) {
            apply_host_op(&a, &batch->ops[i]);
            queue__choose_active(queue);
        }
    }
    finish(&a);
    WR_ASSERT_OP(a.live_first, ==, 0);
}

void queue_redeliver(const struct queue *queue, uint64_t client, uint32_t consumer, uint64_t from,
                     const struct queue_sink *sink)
{
    struct queue_apply a = {.sink = sink};
    const struct queue_client *found = queue__client_find(queue, client);
    const struct queue_consumer *owner =
        found == NULL ? NULL : queue__consumer_find(found, consumer);
    if (owner != NULL) {
        repeat(&a, owner, from, UINT64_MAX);
        queue__flush_effects(&a);
    }
}
