/* What: see harness.h. */
#include "harness.h"

#include <criterion/criterion.h>

#include "warren/err.h"

static void fill(const struct harness *h, uint64_t index, struct log_item *item)
{
    const struct record_state *record = &vec_at(&h->records, index - 1);
    struct prng p;
    prng_init(&p, record->salt);
    *item = (struct log_item){.index = index};
    item->group = prng_u64(&p);
    item->term = prng_below(&p, 1000);
    item->flags = (uint8_t)prng_below(&p, 3);
    item->kind = (uint8_t)(prng_ratio(&p, 3, 4) ? LOG_ENTRY : 1 + prng_below(&p, 6));
}

struct buf *harness_payload(const struct harness *h, uint64_t index)
{
    const struct record_state *record = &vec_at(&h->records, index - 1);
    struct prng p;
    prng_init(&p, record->salt ^ UINT64_C(0x5bd1e995));
    struct buf *b = buf_new(record->size);
    prng_fill(&p, b->data, record->size);
    b->size = record->size;
    return b;
}

static void on_mail(void *ctx, struct mail *mail)
{
    struct harness *h = ctx;
    log_on_mail(h->log, mail);
}

static void on_file(void *ctx, uint64_t token, int64_t result)
{
    struct harness *h = ctx;
    log_on_file(h->log, token, result);
}

static void on_turn(void *ctx)
{
    struct harness *h = ctx;
    log_turn(h->log);
}

static const struct env_sink sink = {.on_mail = on_mail, .on_file = on_file, .turn = on_turn};

void harness_init(struct harness *h, uint64_t seed, uint32_t shards, uint32_t segment_size)
{
    *h = (struct harness){0};
    prng_init(&h->prng, seed);
    h->disk = sim_disk_new(prng_u64(&h->prng));
    h->kv = sim_kv_new(prng_u64(&h->prng));
    h->options = (struct log_options){.segment_size = segment_size,
                                      .segments_max = 3,
                                      .recycle_max = 2,
                                      .shard_count = shards,
                                      .sync = true,
                                      .node_id = {1, 2}};
    h->auto_release = true;
    fake_env_init(&h->fake, prng_u64(&h->prng), shards, shards + 1, h->disk, h->kv);
    fake_env_set_sink(&h->fake, &sink, h);
}

void harness_deinit(struct harness *h)
{
    log_close(h->log);
    fake_env_deinit(&h->fake);
    sim_disk_free(h->disk);
    sim_kv_free(h->kv);
    vec_deinit(&h->records);
}

void harness_crash(struct harness *h, bool power)
{
    const uint32_t shards = h->options.shard_count;
    const uint64_t now = h->fake.mono_ns;
    log_close(h->log);
    h->log = NULL;
    fake_env_deinit(&h->fake);
    if (power) {
        sim_disk_crash(h->disk);
        sim_kv_crash(h->kv);
    } else {
        sim_disk_kill(h->disk);
        sim_kv_kill(h->kv);
    }
    fake_env_init(&h->fake, prng_u64(&h->prng), shards, shards + 1, h->disk, h->kv);
    h->fake.mono_ns = now;
    fake_env_set_sink(&h->fake, &sink, h);
    h->batches_out = h->batches_back = 0;
    memset(h->last_of_shard, 0, sizeof(h->last_of_shard));
}

static void recovered(void *ctx, const struct log_item *item)
{
    struct harness *h = ctx;
    if (h->recovered_count == 0) {
        h->recovered_first = item->index;
    }
    const bool known = item->index == h->recovered_first + h->recovered_count && item->index >= 1 &&
                       item->index <= h->records.count;
    h->recovered_count++;
    if (!known) {
        h->recovering_bad = true;
        return;
    }
    struct log_item expected;
    fill(h, item->index, &expected);
    struct buf *payload = harness_payload(h, item->index);
    const struct record_state *record = &vec_at(&h->records, item->index - 1);
    const bool same =
        item->group == expected.group && item->term == expected.term &&
        item->kind == expected.kind && item->flags == expected.flags &&
        bytes_eq(bytes_from_slice(&item->payload), bytes_make(payload->data, payload->size)) &&
        (!record->durable || (record->position.segment == item->position.segment &&
                              record->position.offset == item->position.offset));
    buf_unref(payload);
    h->recovering_bad = h->recovering_bad || !same;
    vec_at(&h->records, item->index - 1).position = item->position;
}

int harness_open(struct harness *h)
{
    const struct log_recovery_sink recovery = {.record = recovered, .ctx = h};
    h->recovered_first = h->recovered_count = 0;
    h->recovering_bad = false;
    const int error =
        log_open(&h->fake.env, HARNESS_DIR, &h->options, &recovery, &h->log, h->errmsg);
    if (error != 0) {
        return error;
    }
    cr_assert(!h->recovering_bad, "a recovered record is wrong");
    uint64_t last = h->recovered_count == 0 ? 0 : h->recovered_first + h->recovered_count - 1;
    if (!h->check_off) {
        /* With nothing recovered, everything durable must have been released. */
        uint64_t needed = 1;
        while (needed <= h->durable &&
               vec_at(&h->records, needed - 1).position.segment <= h->released) {
            needed++;
        }
        if (needed <= h->durable) {
            cr_assert(h->recovered_count > 0 && h->recovered_first <= needed,
                      "begins at %llu, needed %llu", (unsigned long long)h->recovered_first,
                      (unsigned long long)needed);
            cr_assert(last >= h->durable, "ends at %llu, durable %llu", (unsigned long long)last,
                      (unsigned long long)h->durable);
        }
    }
    last = last > h->durable || h->check_off ? last : h->durable;
    /* What did not come back never happened; what did is durable now. */
    vec_truncate(&h->records, last);
    for (size_t i = 0; i < h->records.count; i++) {
        h->records.items[i].durable = true;
    }
    h->durable = last;
    return 0;
}

void harness_submit(struct harness *h, uint32_t shard, uint32_t count, uint32_t size)
{
    struct log_batch *batch = log_batch_new();
    for (uint32_t i = 0; i < count; i++) {
        struct log_item item;
        vec_push(&h->records, (struct record_state){.salt = h->force_salt != 0 ? h->force_salt++
                                                                               : prng_u64(&h->prng),
                                                    .size = size});
        const uint64_t index = h->records.count;
        fill(h, index, &item);
        if (size > 0) {
            item.payload = slice_of_buf(harness_payload(h, index));
        }
        item.generation = index * 7;
        log_batch_add(batch, &item);
    }
    batch->user = h;
    batch->lazy = h->lazy;
    h->batches_out++;
    batch->mail.kind = LOG_MAIL_BATCH;
    fake_env_deliver(&h->fake, shard, &batch->mail);
}

void harness_submit_random(struct harness *h, uint32_t size_max)
{
    const uint32_t shard = (uint32_t)prng_below(&h->prng, h->options.shard_count);
    const uint32_t count = 1 + (uint32_t)prng_below(&h->prng, 6);
    harness_submit(h, shard, count, (uint32_t)prng_below(&h->prng, size_max + 1));
}

static void batch_back(struct harness *h, struct log_batch *batch, uint32_t shard)
{
    cr_assert_eq(batch->result, 0);
    cr_assert_eq(batch->user, h);
    h->batches_back++;
    for (uint32_t i = 0; i < batch->count; i++) {
        const struct log_item *item = &batch->items[i];
        struct record_state *record = &vec_at(&h->records, item->index - 1);
        cr_assert(!record->durable);
        cr_assert_gt(item->index, h->last_of_shard[shard]); /* log.h I2 */
        h->last_of_shard[shard] = item->index;
        cr_assert_eq(item->generation, item->index * 7);
        record->durable = true;
        record->position = item->position;
    }
    log_batch_free(batch);
}

static void release(struct harness *h, uint32_t shard, uint32_t segment)
{
    struct log_retire_mail *released = wr_calloc(1, sizeof(*released));
    released->mail.kind = LOG_MAIL_RELEASED;
    released->segment = segment;
    fake_env_deliver(&h->fake, shard, &released->mail);
}

/* Across shards too, what is durable is a prefix of what was submitted. */
static void advance(struct harness *h)
{
    uint64_t i = h->durable;
    while (i < h->records.count && h->records.items[i].durable) {
        i++;
    }
    h->durable = i;
    for (; i < h->records.count; i++) {
        cr_assert(!h->records.items[i].durable);
    }
}

void harness_mail(struct harness *h)
{
    for (uint32_t shard = 0; shard < h->options.shard_count; shard++) {
        struct mail *mail;
        while ((mail = fake_env_take_mail(&h->fake, shard)) != NULL) {
            if (mail->kind == LOG_MAIL_DONE) {
                batch_back(h, WR_CONTAINER_OF(mail, struct log_batch, mail), shard);
            } else if (mail->kind == LOG_MAIL_RETIRE) {
                const uint32_t segment =
                    WR_CONTAINER_OF(mail, struct log_retire_mail, mail)->segment;
                const bool cheaply = WR_CONTAINER_OF(mail, struct log_retire_mail, mail)->cheaply;
                mail->destroy(mail);
                h->cheap_mails += cheaply;
                if (cheaply) {
                    continue;
                }
                h->retire_wanted = segment > h->retire_wanted ? segment : h->retire_wanted;
                if (h->auto_release) {
                    h->released = segment > h->released ? segment : h->released;
                    release(h, shard, segment);
                }
            } else {
                cr_assert_eq(mail->kind, LOG_MAIL_STATE);
                const struct log_state_mail *state =
                    WR_CONTAINER_OF(mail, struct log_state_mail, mail);
                h->blocked_mails += state->blocked ? 1 : 0;
                h->low_mails += state->low ? 1 : 0;
                h->resumed_mails += state->blocked || state->low ? 0 : 1;
                cr_assert_eq(state->why[0] != 0, state->blocked || state->low);
                mail->destroy(mail);
            }
        }
    }
    advance(h);
}

bool harness_step(struct harness *h)
{
    const bool any = fake_env_step(&h->fake);
    harness_mail(h);
    return any;
}

void harness_run(struct harness *h)
{
    for (uint32_t steps = 0; harness_step(h); steps++) {
        cr_assert_lt(steps, 1000000);
    }
}

void harness_quiet(struct harness *h)
{
    harness_run(h);
    for (uint32_t i = 0; fake_env_sleep(&h->fake); i++) {
        harness_run(h);
        cr_assert_lt(i, 1000);
    }
}
