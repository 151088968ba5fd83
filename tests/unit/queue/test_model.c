/*
 * Random commands against the naive model: equal effects, equal totals, invariants after each
 * command; a second machine that is fed by the codec and now and then goes through a snapshot stays
 * equal (I4). A failure names the seed.
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "lost.h"
#include "model.h"
#include "warren/prng.h"
#include "warren/vec.h"
#include "rig.h"

#define STEPS   120u
#define OPS_MAX 8u
#ifndef SEEDS /* More, for a long run by hand: -DSEEDS=... */
#define SEEDS 1500u
#endif
#ifndef FIRST_SEED
#define FIRST_SEED 1u
#endif
#define SIZES  3u
#define LEVELS 6u
#define TTLS   4u

struct run {
    struct prng prng;
    uint64_t seed;
    struct model *model;
    struct model_events *wanted;
    struct model_events *got;
    struct queue *queue;
    struct queue *replica;
    struct message messages[SIZES][LEVELS][TTLS];
    struct buf *config; /* What the CONFIG of this step carries. */
    uint64_t now;
    bool applied;
    bool plain;                       /* Nothing because of which no batch only takes. */
    bool uniform;                     /* Messages have one size, priority and TTL: long runs. */
    VEC(struct queue_effect) effects; /* What the queue said in this step. */
    size_t repeated;                  /* How many of these the replica has said. */
    struct queue_totals sum;          /* Over all histories. */
    uint64_t seqs[MODEL_CLIENTS];     /* Last seq that each client has used. */
    uint64_t stored;                  /* Last position that the store callback saw. */
    struct lost lost;
};

static void record_set(struct run *run, const struct queue_effect *e)
{
    struct model_events *got = run->got;
    for (uint64_t i = 0; i < e->count; i++) {
        if (e->kind == QUEUE_EFFECT_DROP) {
            cr_assert_not(got->dropped[e->position + i], "seed %lu: dropped twice", run->seed);
            got->dropped[e->position + i] = 1;
        } else {
            cr_assert_not(run->applied, "seed %lu: refused after APPLIED", run->seed);
            cr_assert_lt(e->seq + i, MODEL_SEQS);
            got->nacked[e->seq + i] = 1;
        }
    }
}

static void record(void *ctx, const struct queue_effect *e)
{
    struct run *run = ctx;
    struct model_events *got = run->got;
    const bool deliver = e->kind == QUEUE_EFFECT_DELIVER;
    const bool about_messages = deliver || e->kind == QUEUE_EFFECT_PEEK;
    if (e->kind == QUEUE_EFFECT_DROP || e->kind == QUEUE_EFFECT_NACKED) {
        record_set(run, e);
        return;
    }
    run->applied = run->applied || e->kind == QUEUE_EFFECT_APPLIED;
    const uint64_t count = about_messages ? e->count : 1;
    for (uint64_t i = 0; i < count; i++) {
        cr_assert_lt(got->count, MODEL_EVENTS);
        got->items[got->count++] = (struct model_event){
            .kind = e->kind,
            .status = e->status,
            .flags = e->flags,
            .consumer = e->consumer,
            .delivery_count = e->delivery_count,
            .client = e->client,
            .seq = e->seq,
            .ordinal = deliver ? e->ordinal + i : 0,
            .position = about_messages ? e->position + i : 0,
            .value = e->value,
            .value2 = e->value2,
        };
        cr_assert(!deliver || got->dropped[e->position + i] == 0,
                  "seed %lu: delivered after its drop", run->seed);
    }
}

static void store(void *ctx, uint64_t position, const struct message *message)
{
    struct run *run = ctx;
    cr_assert_eq(position, run->stored + 1, "seed %lu", run->seed);
    cr_assert_gt(message->record.size, 0);
    run->stored = position;
}

static void record_all(void *ctx, const struct queue_effect *effect)
{
    struct run *run = ctx;
    vec_push(&run->effects, *effect);
    lost_effect(&run->lost, effect);
    record(ctx, effect);
}

/* The replica has the very same effects, in this order and cut in this way. */
static void expect_same(void *ctx, const struct queue_effect *e)
{
    struct run *run = ctx;
    cr_assert_lt(run->repeated, run->effects.count, "seed %lu: effect", run->seed);
    const struct queue_effect *first = &run->effects.items[run->repeated++];
    cr_assert(e->kind == first->kind && e->status == first->status && e->flags == first->flags &&
                  e->consumer == first->consumer && e->client == first->client &&
                  e->seq == first->seq && e->ordinal == first->ordinal &&
                  e->position == first->position && e->count == first->count &&
                  e->value == first->value && e->value2 == first->value2 &&
                  e->delivery_count == first->delivery_count,
              "seed %lu: other effect", run->seed);
}

static bool event_eq(const struct model_event *a, const struct model_event *b)
{
    return a->kind == b->kind && a->status == b->status && a->flags == b->flags &&
           a->consumer == b->consumer && a->delivery_count == b->delivery_count &&
           a->client == b->client && a->seq == b->seq && a->ordinal == b->ordinal &&
           a->position == b->position && a->value == b->value && a->value2 == b->value2;
}

static void compare_heads(const struct run *run, uint32_t step)
{
    const struct model *m = run->model;
    uint64_t ready;
    uint64_t unacked;
    uint64_t p = 1;
    while (p < m->next_position &&
           (m->messages[p].place != MODEL_UNACKED || m->messages[p].death != 0)) {
        p++;
    }
    queue_heads(run->queue, &ready, &unacked);
    cr_assert_eq(ready, model_next_message(m), "seed %lu step %u: the next", run->seed, step);
    cr_assert_eq(unacked, p < m->next_position ? p : 0, "seed %lu step %u: the oldest that is out",
                 run->seed, step);
}

static void compare(const struct run *run, uint32_t step)
{
    for (uint32_t i = 0; i < run->wanted->count && i < run->got->count; i++) {
        cr_assert(event_eq(&run->wanted->items[i], &run->got->items[i]),
                  "seed %lu step %u: effect %u: kind %u position %lu ordinal %lu, not kind %u "
                  "position %lu ordinal %lu",
                  run->seed, step, i, run->got->items[i].kind, run->got->items[i].position,
                  run->got->items[i].ordinal, run->wanted->items[i].kind,
                  run->wanted->items[i].position, run->wanted->items[i].ordinal);
    }
    cr_assert_eq(run->wanted->count, run->got->count, "seed %lu step %u: %u effects, not %u",
                 run->seed, step, run->got->count, run->wanted->count);
    cr_assert_eq(memcmp(run->wanted->dropped, run->got->dropped, MODEL_MESSAGES), 0,
                 "seed %lu step %u: drops", run->seed, step);
    cr_assert_eq(memcmp(run->wanted->nacked, run->got->nacked, MODEL_SEQS), 0,
                 "seed %lu step %u: refused", run->seed, step);
    cr_assert_eq(queue_deadline_ms(run->queue), model_deadline(run->model),
                 "seed %lu step %u: deadline", run->seed, step);
    cr_assert_eq(queue_dead_due(run->queue), model_dead_due(run->model));
    struct queue_totals wanted;
    struct queue_totals got;
    model_totals(run->model, &wanted);
    queue_totals(run->queue, &got);
    cr_assert_eq(memcmp(&wanted, &got, sizeof(got)), 0, "seed %lu step %u: totals", run->seed,
                 step);
    compare_heads(run, step);
    for (uint64_t p = 1; p < wanted.next_position; p++) {
        cr_assert_eq(queue_is_live(run->queue, p), run->model->messages[p].place != MODEL_REMOVED,
                     "seed %lu step %u: live", run->seed, step);
    }
}

static struct queue_op random_settle(struct run *run, uint32_t client, struct queue_op op)
{
    op.consumer = (uint32_t)prng_below(&run->prng, MODEL_CONSUMERS);
    const uint64_t delivered = run->model->clients[client].consumers[op.consumer].delivered;
    op.first = prng_below(&run->prng, delivered + 2);
    op.count = prng_ratio(&run->prng, 1, 20) ? UINT64_MAX : prng_below(&run->prng, 5);
    op.outcome = (uint8_t)prng_between(&run->prng, QUEUE_ACK, QUEUE_RELEASE);
    return op;
}

struct listing {
    const struct run *run;
    uint32_t count;
};

static void compare_consumer(void *ctx, const struct queue_consumer_info *info)
{
    struct listing *listing = ctx;
    const struct model *m = listing->run->model;
    const uint32_t c = (uint32_t)((info->client >> 32) - 1) * MODEL_NUMBERS +
                       (uint32_t)(info->client & UINT32_MAX) - 1;
    const struct model_consumer *k = &m->clients[c].consumers[info->consumer];
    const bool active =
        !m->suspended[info->client >> 32] && (!m->config.single_active_consumer || m->active == k);
    listing->count++;
    cr_assert(k->attached && !k->dead, "seed %lu: listed", listing->run->seed);
    cr_assert_eq(info->active, active, "seed %lu: active", listing->run->seed);
    cr_assert_eq(info->unacked, model_unacked(m, c, info->consumer));
}

/* What a new leader asks for: deliveries and refusals again. */
static void compare_repeats(struct run *run)
{
    const struct queue_sink sink = {record, run};
    const uint32_t c = (uint32_t)prng_below(&run->prng, MODEL_CLIENTS);
    const uint32_t i = (uint32_t)prng_below(&run->prng, MODEL_CONSUMERS);
    const uint64_t from = prng_below(&run->prng, 8);
    const struct model_client *client = &run->model->clients[c];
    uint64_t count = 0;
    run->applied = false;
    run->got->count = 0;
    memset(run->got->dropped, 0, sizeof(run->got->dropped));
    memset(run->got->nacked, 0, sizeof(run->got->nacked));
    queue_repeat_nacked(run->queue, model_client_id(c), from, &sink);
    for (uint64_t seq = 0; seq < MODEL_SEQS; seq++) {
        cr_assert_eq(run->got->nacked[seq], seq >= from ? client->refused[seq] : 0,
                     "seed %lu: refused", run->seed);
    }
    queue_redeliver(run->queue, model_client_id(c), i, from, &sink);
    for (uint64_t p = 1; p < run->model->next_position; p++) {
        const struct model_message *x = &run->model->messages[p];
        count +=
            x->place == MODEL_UNACKED && x->client == c && x->consumer == i && x->ordinal >= from;
    }
    cr_assert_eq(run->got->count, count, "seed %lu: repeated", run->seed);
    for (uint32_t n = 0; n < run->got->count; n++) {
        const struct model_event *e = &run->got->items[n];
        const struct model_message *x = &run->model->messages[e->position];
        cr_assert(x->place == MODEL_UNACKED && x->ordinal == e->ordinal && x->client == c &&
                      x->consumer == i && e->status == x->death &&
                      e->value == (x->death == 0 ? 0 : x->died) &&
                      e->delivery_count == (x->death == 0 ? x->delivery_count : 0),
                  "seed %lu: repeated otherwise", run->seed);
    }
}

/* Limits that are met within a history. */
static uint64_t some_limit(struct run *run, uint64_t chance, uint64_t low, uint64_t high)
{
    return prng_ratio(&run->prng, 1, chance) ? prng_between(&run->prng, low, high) : UINT64_MAX;
}

static void random_config(struct run *run, struct queue_config *config)
{
    struct prng *p = &run->prng;
    config->dead_letter = prng_ratio(p, 1, 2);
    config->ttl_ms = some_limit(run, 3, 0, 40);
    config->length_max = some_limit(run, 3, 0, 12);
    config->bytes_max = some_limit(run, 6, 0, 1200);
    if (config->bytes_max != UINT64_MAX && prng_ratio(p, 1, 2)) {
        config->bytes_max -= config->bytes_max % 300; /* A number of the large messages. */
    }
    config->overflow = (uint8_t)prng_below(p, 3);
    config->expires_ms = some_limit(run, 8, 0, 300);
    config->dedup_window_ms = prng_ratio(p, 1, 2) ? prng_below(p, 30) : 0;
    config->delivery_limit = !run->plain && prng_ratio(p, 1, 2) ? (int64_t)prng_below(p, 4) : -1;
}

static struct queue_op random_enqueue(struct run *run, struct queue_op op)
{
    static const char letters[] = "ABCabcdefgh";
    struct prng *p = &run->prng;
    op.message = run->messages[prng_below(p, SIZES)][prng_below(p, LEVELS)][prng_below(p, TTLS)];
    if (run->uniform) {
        op.message = run->messages[SIZES - 1][0][0];
    }
    if (prng_ratio(p, 1, 8)) {
        op.flags |= QUEUE_HAS_PUBLISHER;
        op.name = bytes_make((const uint8_t *)letters + prng_below(p, MODEL_PUBLISHERS), 1);
        op.first = prng_between(p, 1, MODEL_PUBLISHED - 1);
    }
    if (prng_ratio(p, 1, 8)) {
        op.flags |= QUEUE_HAS_ID;
        op.args = bytes_make((const uint8_t *)letters + 3 + prng_below(p, MODEL_IDS), 1);
    }
    if (!run->plain && prng_ratio(p, 1, 6)) {
        op.flags |= QUEUE_HAS_DELAY;
        op.limit = prng_between(p, 1, 20);
    }
    return op;
}

static struct queue_op random_look(struct run *run, struct queue_op op)
{
    struct prng *p = &run->prng;
    const uint64_t next = run->model->next_position;
    op.kind = prng_ratio(p, 1, 2) ? QUEUE_OP_PEEK : QUEUE_OP_TAKE;
    op.flags = op.kind == QUEUE_OP_TAKE && prng_ratio(p, 1, 3) ? QUEUE_NO_ACK : 0;
    op.first = prng_below(p, next + 1);
    op.count = prng_ratio(p, 1, 8) ? UINT64_MAX : prng_below(p, next / 4 + 2);
    op.outcome = (uint8_t)prng_below(p, 8);
    return op;
}

static struct queue_op random_attach(struct run *run, struct queue_op op)
{
    op.consumer = (uint32_t)prng_below(&run->prng, MODEL_CONSUMERS);
    op.flags = (uint8_t)(prng_ratio(&run->prng, 1, 3) ? QUEUE_NO_ACK : 0);
    op.flags |= (uint8_t)(prng_ratio(&run->prng, 1, 2) ? QUEUE_SETTLES : 0);
    op.flags |= (uint8_t)(prng_ratio(&run->prng, 1, 12) ? QUEUE_EXCLUSIVE_CONSUMER : 0);
    op.flags |= (uint8_t)(prng_ratio(&run->prng, 1, 5) ? QUEUE_DEAD : 0);
    op.prefetch = (uint32_t)prng_below(&run->prng, 5);
    op.limit = prng_ratio(&run->prng, 2, 3) ? UINT64_MAX : prng_below(&run->prng, 6);
    op.priority = prng_ratio(&run->prng, 1, 4) ? (int32_t)prng_below(&run->prng, 3) - 1 : 0;
    op.name = BYTES_LITERAL("name");
    op.args = prng_ratio(&run->prng, 1, 2) ? BYTES_LITERAL("args") : BYTES_NONE;
    return op;
}

static struct queue_op random_op(struct run *run, uint32_t client)
{
    struct prng *p = &run->prng;
    struct queue_op op = {.kind = QUEUE_OP_ENQUEUE};
    const uint64_t dice = prng_below(p, 100);
    if (dice < 40 && run->model->next_position < MODEL_MESSAGES - 2 * OPS_MAX) {
        return random_enqueue(run, op);
    }
    op.consumer = (uint32_t)prng_below(p, MODEL_CONSUMERS);
    if (dice < 65) {
        op.kind = QUEUE_OP_SETTLE;
        return random_settle(run, client, op);
    } else if (dice < 76) {
        op.kind = QUEUE_OP_ATTACH;
        return random_attach(run, op);
    } else if (dice < 81) {
        op.kind = QUEUE_OP_DETACH;
        op.flags = prng_ratio(p, 1, 2) ? QUEUE_DETACH_RETURN : 0;
    } else if (dice < 85) {
        op.kind = QUEUE_OP_CREDIT;
        op.limit = prng_below(p, 20);
    } else if (dice < 91) {
        op.kind = QUEUE_OP_GET;
        op.flags = prng_ratio(p, 1, 3) ? QUEUE_NO_ACK : 0;
    } else if (dice < 92) {
        return random_look(run, op);
    } else if (dice < 94) {
        op.kind = QUEUE_OP_LIMIT;
        op.limit = prng_below(p, 6);
    } else if (dice < 95) {
        op.kind = QUEUE_OP_PURGE;
    } else if (dice < 97) {
        op.kind = QUEUE_OP_SEAL;
        op.flags = (uint8_t)(prng_below(p, 4) * QUEUE_IF_UNUSED);
    } else if (dice < 98) {
        op.kind = QUEUE_OP_TOUCH;
        op.consumer = 0;
    } else if (dice < 99) {
        op.kind = QUEUE_OP_UNSEAL;
    } else {
        op.kind = QUEUE_OP_CLOSE;
    }
    return op;
}

/* What only takes (queue_takes). */
static struct queue_op random_take(struct run *run, uint32_t client)
{
    struct prng *p = &run->prng;
    struct queue_op op = {.kind = QUEUE_OP_GET};
    if (prng_ratio(p, 1, 3)) {
        op.flags = prng_ratio(p, 1, 3) ? QUEUE_NO_ACK : 0;
        return op;
    }
    op.kind = QUEUE_OP_SETTLE;
    op.consumer = (uint32_t)prng_below(p, MODEL_CONSUMERS);
    op = random_settle(run, client, op);
    op.outcome = QUEUE_ACK;
    return op;
}

static struct queue_op random_host_op(struct run *run)
{
    struct prng *p = &run->prng;
    struct queue_op op = {.kind = QUEUE_OP_EXPIRE};
    const uint64_t dice = prng_below(p, 62);
    if (dice >= 60) {
        op.kind = QUEUE_OP_SUSPECT;
        op.count = prng_below(p, 6);
    } else if (dice < 20) {
        op.kind = dice < 19 ? QUEUE_OP_EXPIRE : QUEUE_OP_RENEW;
    } else if (dice < 28) {
        random_config(run, &run->model->next_config);
        run->config->size = 0;
        queue_config_encode(&run->config, &run->model->next_config);
        op.kind = QUEUE_OP_CONFIG;
        op.args = bytes_make(run->config->data, run->config->size);
    } else {
        op.first = prng_between(p, 1, MODEL_BOOTS);
        op.kind = dice < 29   ? QUEUE_OP_NODE_GONE
                  : dice < 44 ? QUEUE_OP_NODE_DOWN
                              : QUEUE_OP_NODE_UP;
    }
    return op;
}

/* Mostly a little later, sometimes much, now and then (another leader) before. */
static void pass_time(struct run *run)
{
    struct prng *p = &run->prng;
    const uint64_t dice = prng_below(p, 40);
    if (dice == 0) {
        run->now -= prng_below(p, run->now < 20 ? run->now + 1 : 20);
    } else {
        run->now += dice == 1 ? prng_below(p, 100) : prng_below(p, 4);
    }
}

/* Mostly the next ops of a client; sometimes old ones again, or with a gap. */
static uint32_t random_batch(struct run *run, uint64_t *ret_client, struct queue_op *ops)
{
    struct prng *p = &run->prng;
    if (prng_ratio(p, 1, 8)) {
        *ret_client = 0;
        ops[0] = random_host_op(run);
        return 1;
    }
    const uint32_t client = (uint32_t)prng_below(p, run->plain ? 4 : MODEL_CLIENTS);
    const uint32_t count = (uint32_t)prng_between(p, 1, OPS_MAX);
    uint64_t seq = run->seqs[client];
    if (prng_ratio(p, 1, 8)) {
        const uint64_t back = prng_below(p, 5);
        seq = seq > back ? seq - back : 0;
    } else if (prng_ratio(p, 1, 30)) {
        seq += 2;
    }
    const bool takes = run->plain && prng_ratio(p, 1, 2);
    for (uint32_t i = 0; i < count; i++) {
        ops[i] = takes ? random_take(run, client) : random_op(run, client);
        ops[i].seq = ++seq;
    }
    *ret_client = model_client_id(client);
    return count;
}

/* The replica is given the encoded batch, in pieces of other bytes. */
static void apply_to_replica(struct run *run, const struct queue_batch *batch)
{
    struct buf *encoded = buf_from("junk", 4);
    queue_batch_encode(&encoded, batch);
    const uint32_t end = encoded->size;
    buf_append(&encoded, "junk", 4);
    struct queue_batch_reader reader;
    struct queue_batch decoded;
    queue_batch_reader_init(&reader, encoded, 4, end);
    const struct queue_sink sink = {expect_same, run};
    cr_assert_eq(queue_batch_reader_next(&reader, &decoded), 1);
    run->repeated = 0;
    queue_apply(run->replica, run->now, &decoded, NULL, &sink);
    cr_assert_eq(run->repeated, run->effects.count, "seed %lu: effects", run->seed);
    cr_assert_eq(queue_batch_reader_next(&reader, &decoded), 0);
    queue_batch_reader_deinit(&reader);
    buf_unref(encoded);
}

static void restart_replica(struct run *run, uint32_t step)
{
    struct buf *snapshot = buf_new(0);
    queue_snapshot(run->replica, &snapshot);
    struct queue *restored = NULL;
    cr_assert_eq(queue_restore(bytes_make(snapshot->data, snapshot->size), &restored), 0,
                 "seed %lu step %u: restore", run->seed, step);
    queue_check(restored);
    cr_assert_eq(queue_hash(restored), queue_hash(run->replica));
    queue_free(run->replica);
    run->replica = restored;
    buf_unref(snapshot);
}

static void one_step(struct run *run, uint32_t step)
{
    struct queue_op ops[OPS_MAX];
    struct queue_batch batch = {.ops = ops};
    pass_time(run);
    batch.count = random_batch(run, &batch.client, ops);
    const struct queue_store_ops store_ops = {store, run};
    const struct queue_sink sink = {record_all, run};
    run->got->count = 0;
    vec_clear(&run->effects);
    run->applied = false;
    memset(run->got->dropped, 0, sizeof(run->got->dropped));
    memset(run->got->nacked, 0, sizeof(run->got->nacked));
    model_apply(run->model, run->now, &batch, run->wanted);
    lost_look(&run->lost, run->queue, run->now, &batch, run->seed);
    queue_apply(run->queue, run->now, &batch, &store_ops, &sink);
    lost_check_most(&run->lost, run->seed);
    queue_check(run->queue);
    compare(run, step);
    cr_assert_eq(run->stored, run->model->next_position - 1, "seed %lu", run->seed);
    apply_to_replica(run, &batch);
    cr_assert_eq(queue_hash(run->queue), queue_hash(run->replica), "seed %lu step %u: hash",
                 run->seed, step);
    if (prng_ratio(&run->prng, 1, 10)) {
        restart_replica(run, step);
    }
    if (prng_ratio(&run->prng, 1, 5)) {
        struct listing listing = {run, 0};
        queue_each_consumer(run->queue, compare_consumer, &listing);
        cr_assert_eq(listing.count, model_attached(run->model));
        compare_repeats(run);
    }
    for (uint32_t c = 0; c < MODEL_CLIENTS; c++) {
        if (run->model->clients[c].state == MODEL_OPEN) {
            run->seqs[c] = run->model->clients[c].last_seq;
            cr_assert_eq(queue_client_last_seq(run->queue, model_client_id(c)), run->seqs[c]);
        }
    }
}

static void one_run(struct run *run, uint64_t seed)
{
    struct queue_config config;
    prng_init(&run->prng, seed);
    queue_config_default(&config);
    config.priority_max = prng_ratio(&run->prng, 1, 2) ? 3 : 0;
    config.auto_delete = prng_ratio(&run->prng, 1, 10);
    config.single_active_consumer = !run->plain && prng_ratio(&run->prng, 1, 4);
    config.active_stays = config.single_active_consumer && prng_ratio(&run->prng, 1, 2);
    if (prng_ratio(&run->prng, 4, 5)) {
        random_config(run, &config);
    }
    run->uniform = prng_ratio(&run->prng, 1, 3);
    run->seed = seed;
    run->now = prng_ratio(&run->prng, 1, 4) ? 0 : prng_below(&run->prng, 1000);
    run->stored = 0;
    memset(run->seqs, 0, sizeof(run->seqs));
    model_init(run->model, &config);
    run->queue = queue_new(&config);
    run->replica = queue_new(&config);
    for (uint32_t step = 0; step < STEPS; step++) {
        one_step(run, step);
    }
    lost_end(&run->lost, run->seed);
    struct queue_totals t;
    queue_totals(run->queue, &t);
    run->sum.delivered += t.delivered;
    run->sum.redelivered += t.redelivered;
    run->sum.expired += t.expired;
    run->sum.dropped += t.dropped;
    run->sum.refused += t.refused;
    run->sum.duplicates += t.duplicates;
    run->sum.dead += t.dead;
    run->sum.delayed += run->model->releases;
    queue_free(run->queue);
    queue_free(run->replica);
}

static void run_init(struct run *run)
{
    static const uint32_t sizes[SIZES] = {0, 1, 300};
    static const uint64_t ttls[TTLS] = {MESSAGE_TTL_NONE, 0, 5, 30};
    *run = (struct run){
        .model = malloc(sizeof(struct model)),
        .wanted = malloc(sizeof(struct model_events)),
        .got = malloc(sizeof(struct model_events)),
        .config = buf_new(64),
    };
    for (uint32_t s = 0; s < SIZES * LEVELS * TTLS; s++) {
        run->messages[s / TTLS / LEVELS][s / TTLS % LEVELS][s % TTLS] =
            rig_message_ttl(sizes[s / TTLS / LEVELS], (uint8_t)(s / TTLS % LEVELS), ttls[s % TTLS]);
    }
}

static void run_deinit(struct run *run)
{
    for (uint32_t s = 0; s < SIZES * LEVELS * TTLS; s++) {
        message_unref(run->messages[s / TTLS / LEVELS][s / TTLS % LEVELS][s % TTLS]);
    }
    vec_deinit(&run->effects);
    buf_unref(run->config);
    free(run->model);
    free(run->wanted);
    free(run->got);
}

Test(queue_model, random_commands_have_the_effects_that_the_model_has, .timeout = 170)
{
    struct run run;
    run_init(&run);
    for (uint64_t seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        one_run(&run, seed);
    }
    /* The histories reach what they are to test. */
    cr_assert_gt(run.sum.delivered, SEEDS * 20);
    cr_assert_gt(run.sum.redelivered, SEEDS * 2);
    cr_assert_gt(run.sum.expired, SEEDS * 5);
    cr_assert_gt(run.sum.dropped, SEEDS * 2);
    cr_assert_gt(run.sum.refused, SEEDS * 2);
    cr_assert_gt(run.sum.duplicates, SEEDS);
    cr_assert_gt(run.sum.dead, SEEDS);
    cr_assert_gt(run.sum.delayed, SEEDS * 2);
    run_deinit(&run);
}

Test(queue_model, batches_that_only_take_may_be_lost, .timeout = 170)
{
    struct run run;
    run_init(&run);
    run.plain = true;
    for (uint64_t seed = FIRST_SEED; seed < FIRST_SEED + SEEDS / 3; seed++) {
        one_run(&run, seed);
    }
    cr_assert(run.lost.runs > SEEDS && run.lost.messages > SEEDS / 2, "%lu runs, %lu messages",
              run.lost.runs, run.lost.messages);
    run_deinit(&run);
}
