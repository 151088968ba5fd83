/* Batches as bytes: what goes in comes out, and damaged bytes are refused or harmless. */
#include <criterion/criterion.h>

#include "rig.h"
#include "queue_internal.h"
#include "warren/err.h"
#include "warren/prng.h"

#define CLIENT_A CLIENT(7, 3)

static bool op_eq(const struct queue_op *a, const struct queue_op *b)
{
    return a->kind == b->kind && a->flags == b->flags && a->outcome == b->outcome &&
           a->consumer == b->consumer && a->seq == b->seq && a->first == b->first &&
           a->count == b->count && a->limit == b->limit && a->prefetch == b->prefetch &&
           a->priority == b->priority && bytes_eq(a->name, b->name) && bytes_eq(a->args, b->args) &&
           bytes_eq(bytes_from_slice(&a->message.record), bytes_from_slice(&b->message.record));
}

static struct buf *encode(uint64_t client, const struct queue_op *ops, uint32_t count)
{
    struct buf *out = buf_new(0);
    const struct queue_batch batch = {client, count, ops};
    queue_batch_encode(&out, &batch);
    return out;
}

static void expect_round_trip(uint64_t client, const struct queue_op *ops, uint32_t count)
{
    struct buf *out = encode(client, ops, count);
    struct queue_batch_reader reader;
    struct queue_batch batch;
    queue_batch_reader_init(&reader, out, 0, out->size);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 1);
    cr_assert_eq(batch.client, client);
    cr_assert_eq(batch.count, count);
    for (uint32_t i = 0; i < count; i++) {
        cr_assert(op_eq(&ops[i], &batch.ops[i]), "op %u", i);
        cr_assert(batch.ops[i].kind != QUEUE_OP_ENQUEUE || batch.ops[i].message.record.buf == out);
    }
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 0);
    queue_batch_reader_deinit(&reader);
    buf_unref(out);
}

/* One op of each kind that a client has, with odd values. */
static uint32_t all_client_ops(struct queue_op *ops, struct message message)
{
    const struct queue_op list[] = {
        {.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message},
        {.kind = QUEUE_OP_ENQUEUE,
         .seq = 2,
         .flags = QUEUE_HAS_PUBLISHER | QUEUE_HAS_ID | QUEUE_HAS_DELAY,
         .name = BYTES_LITERAL("publisher"),
         .first = INT64_MAX,
         .args = BYTES_LITERAL("id"),
         .limit = UINT64_MAX,
         .message = message},
        {.kind = QUEUE_OP_ATTACH,
         .seq = 9,
         .consumer = UINT32_MAX,
         .flags = QUEUE_NO_ACK,
         .prefetch = UINT32_MAX,
         .limit = UINT64_MAX,
         .priority = INT32_MIN,
         .name = BYTES_LITERAL("a tag"),
         .args = BYTES_LITERAL("\0\1\2")},
        {.kind = QUEUE_OP_ATTACH, .seq = 10, .priority = INT32_MAX, .limit = 0},
        {.kind = QUEUE_OP_DETACH, .seq = 11, .consumer = 3, .flags = QUEUE_DETACH_RETURN},
        {.kind = QUEUE_OP_CREDIT, .seq = 12, .consumer = 3, .limit = UINT64_MAX - 1},
        {.kind = QUEUE_OP_SETTLE,
         .seq = 13,
         .consumer = 3,
         .first = UINT64_MAX,
         .count = UINT64_MAX,
         .outcome = QUEUE_RELEASE},
        {.kind = QUEUE_OP_GET, .seq = 14, .flags = QUEUE_NO_ACK},
        {.kind = QUEUE_OP_PURGE, .seq = 15},
        {.kind = QUEUE_OP_LIMIT, .seq = 16, .limit = UINT64_MAX},
        {.kind = QUEUE_OP_SEAL, .seq = 17, .flags = QUEUE_IF_EMPTY},
        {.kind = QUEUE_OP_UNSEAL, .seq = 18},
        {.kind = QUEUE_OP_TAKE,
         .seq = 19,
         .flags = QUEUE_NO_ACK,
         .first = 1,
         .count = 2,
         .outcome = 7},
        {.kind = QUEUE_OP_PEEK, .seq = 20, .first = UINT64_MAX, .count = UINT64_MAX},
        {.kind = QUEUE_OP_TOUCH, .seq = 21},
        {.kind = QUEUE_OP_CLOSE, .seq = UINT64_MAX},
    };
    memcpy(ops, list, sizeof(list));
    return WR_ARRAY_SIZE(list);
}

Test(queue_codec, every_kind_of_op_survives)
{
    struct message message = rig_message(100, 4);
    struct queue_op ops[24];
    expect_round_trip(CLIENT_A, ops, all_client_ops(ops, message));
    struct queue_config config;
    queue_config_default(&config);
    struct buf *args = buf_new(0);
    queue_config_encode(&args, &config);
    const struct queue_op host[] = {
        {.kind = QUEUE_OP_NODE_DOWN, .first = UINT32_MAX},
        {.kind = QUEUE_OP_NODE_UP, .first = 0},
        {.kind = QUEUE_OP_NODE_GONE, .first = 77},
        {.kind = QUEUE_OP_EXPIRE},
        {.kind = QUEUE_OP_RENEW},
        {.kind = QUEUE_OP_SUSPECT, .count = 256},
        {.kind = QUEUE_OP_CONFIG, .args = {args->data, args->size}},
    };
    expect_round_trip(0, host, WR_ARRAY_SIZE(host));
    buf_unref(args);
    message_unref(message);
}

Test(queue_codec, the_bytes_are_frozen)
{
    const struct queue_op ops[] = {
        {.kind = QUEUE_OP_SETTLE, .seq = 300, .consumer = 1, .first = 5, .count = 2, .outcome = 1},
        {.kind = QUEUE_OP_GET, .seq = 301, .flags = QUEUE_NO_ACK},
        {.kind = QUEUE_OP_CREDIT, .seq = 302, .consumer = 1, .limit = UINT64_MAX},
    };
    static const uint8_t wanted[] = {0x83, 0x80, 0x80, 0x80, 0x70,       /* client 7 << 32 | 3 */
                                     3,                                  /* ops */
                                     0x85, 0xac, 0x02, 1,    5,    2, 1, /* SETTLE, seq 300 */
                                     0x26, 1,                            /* GET, flags */
                                     4,    1,    0};                     /* CREDIT */
    struct buf *out = encode(CLIENT_A, ops, 3);
    cr_assert_eq(out->size, sizeof(wanted));
    cr_assert_eq(memcmp(out->data, wanted, sizeof(wanted)), 0);
    buf_unref(out);
}

Test(queue_codec, the_bytes_of_version_2_are_frozen)
{
    struct message message = rig_message(0, 0);
    const struct queue_op ops[] = {
        {.kind = QUEUE_OP_TAKE,
         .seq = 1,
         .flags = QUEUE_NO_ACK,
         .first = 3,
         .count = 4,
         .outcome = 5},
        {.kind = QUEUE_OP_PEEK, .seq = 2, .first = 1, .count = 200, .outcome = 7},
        {.kind = QUEUE_OP_TOUCH, .seq = 3},
        {.kind = QUEUE_OP_ENQUEUE,
         .seq = 4,
         .flags = QUEUE_HAS_PUBLISHER | QUEUE_HAS_ID | QUEUE_HAS_DELAY,
         .name = BYTES_LITERAL("p"),
         .first = 300,
         .args = BYTES_LITERAL("id"),
         .limit = 5,
         .message = message},
    };
    static const uint8_t wanted[] = {
        0x83, 0x80, 0x80, 0x80, 0x70, 4,                /* client 7 << 32 | 3, ops */
        0x2c, 1,    3,    4,    5,                      /* TAKE */
        0x0d, 1,    0xc8, 1,    7,                      /* PEEK */
        0x0e,                                           /* TOUCH */
        0x21, 7,    1,    'p',  0xac, 2, 2, 'i', 'd', 5 /* ENQUEUE, up to the record */
    };
    struct buf *out = encode(CLIENT_A, ops, 4);
    cr_assert_eq(out->size, sizeof(wanted) + message.record.size);
    cr_assert_eq(memcmp(out->data, wanted, sizeof(wanted)), 0);
    buf_unref(out);
    message_unref(message);
}

static void expect_config(const uint8_t *bytes, size_t size, const struct queue_config *wanted)
{
    struct queue_config got;
    memset(&got, 0, sizeof(got));
    cr_assert_eq(queue__config_decode(bytes_make(bytes, size), &got), 0);
    cr_assert(got.auto_delete == wanted->auto_delete && got.dead_letter == wanted->dead_letter &&
              got.single_active_consumer == wanted->single_active_consumer &&
              got.active_stays == wanted->active_stays &&
              got.priority_max == wanted->priority_max && got.overflow == wanted->overflow &&
              got.ttl_ms == wanted->ttl_ms && got.length_max == wanted->length_max &&
              got.bytes_max == wanted->bytes_max && got.expires_ms == wanted->expires_ms &&
              got.dedup_window_ms == wanted->dedup_window_ms &&
              got.delivery_limit == wanted->delivery_limit);
}

Test(queue_codec, both_versions_of_a_configuration_are_read)
{
    static const uint8_t first[] = {1, 3, 9, 4, 5, 6, 7, 8};
    static const uint8_t second[] = {2, 15, 9, 2, 5, 6, 7, 8, 9, 0};
    static const uint8_t all_default[] = {2, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    struct queue_config config = {
        .auto_delete = true,
        .single_active_consumer = true,
        .priority_max = 9,
        .ttl_ms = 4,
        .length_max = 5,
        .bytes_max = 6,
        .expires_ms = 7,
        .delivery_limit = 7,
    };
    expect_config(first, sizeof(first), &config);
    config.dead_letter = true;
    config.active_stays = true;
    config.overflow = QUEUE_REJECT_PUBLISH_DLX;
    config.dedup_window_ms = 9;
    config.delivery_limit = -1;
    expect_config(second, sizeof(second), &config);
    struct buf *out = buf_new(0);
    queue_config_encode(&out, &config);
    cr_assert(bytes_eq(bytes_make(out->data, out->size), bytes_make(second, sizeof(second))));
    buf_unref(out);
    queue_config_default(&config);
    expect_config(all_default, sizeof(all_default), &config);
}

Test(queue_codec, several_batches_follow_each_other)
{
    struct buf *out = buf_new(0);
    const struct queue_op get = {.kind = QUEUE_OP_GET, .seq = 5};
    const struct queue_op up = {.kind = QUEUE_OP_NODE_UP, .first = 2};
    const struct queue_batch batches[] = {{CLIENT_A, 1, &get}, {0, 1, &up}, {CLIENT_A, 0, NULL}};
    for (uint32_t i = 0; i < 3; i++) {
        queue_batch_encode(&out, &batches[i]);
    }
    struct queue_batch_reader reader;
    struct queue_batch batch;
    queue_batch_reader_init(&reader, out, 0, out->size);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 1);
    cr_assert_eq(batch.ops[0].kind, QUEUE_OP_GET);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 1);
    cr_assert_eq(batch.client, 0);
    cr_assert_eq(batch.ops[0].kind, QUEUE_OP_NODE_UP);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 0);
    queue_batch_reader_deinit(&reader);
    buf_unref(out);
}

Test(queue_codec, too_many_ops_for_one_batch_become_several)
{
    const uint32_t count = QUEUE_BATCH_OPS_MAX + 10;
    struct queue_op *ops = wr_calloc(count, sizeof(*ops));
    for (uint32_t i = 0; i < count; i++) {
        ops[i] = (struct queue_op){.kind = QUEUE_OP_GET, .seq = i + 1};
    }
    struct buf *out = encode(CLIENT_A, ops, count);
    struct queue_batch_reader reader;
    struct queue_batch batch;
    queue_batch_reader_init(&reader, out, 0, out->size);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 1);
    cr_assert_eq(batch.count, QUEUE_BATCH_OPS_MAX);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 1);
    cr_assert_eq(batch.count, 10);
    cr_assert_eq(batch.ops[9].seq, count);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), 0);
    queue_batch_reader_deinit(&reader);
    buf_unref(out);
    wr_free(ops);
}

/* Reads all batches of the bytes and applies them; returns the last result of the reader. */
static int swallow(struct buf *bytes, uint32_t end, struct rig *rig)
{
    struct queue_batch_reader reader;
    struct queue_batch batch;
    int result;
    queue_batch_reader_init(&reader, bytes, 0, end);
    while ((result = queue_batch_reader_next(&reader, &batch)) == 1) {
        rig->stored_count = 0;
        rig_batch(rig, batch.client, batch.ops, batch.count);
        (void)rig_take(rig);
    }
    queue_batch_reader_deinit(&reader);
    return result;
}

Test(queue_codec, cut_off_bytes_are_refused)
{
    struct message message = rig_message(20, 0);
    struct queue_op ops[24];
    struct rig rig;
    rig_init(&rig, NULL);
    struct buf *out = encode(CLIENT_A, ops, all_client_ops(ops, message));
    cr_assert_eq(swallow(out, 0, &rig), 0);
    for (uint32_t end = 1; end < out->size; end++) {
        cr_assert_eq(swallow(out, end, &rig), WR_E_CORRUPT, "cut at %u", end);
    }
    buf_unref(out);
    message_unref(message);
    rig_deinit(&rig);
}

static void expect_corrupt(const uint8_t *bytes, size_t size)
{
    struct buf *buf = buf_from(bytes, size);
    struct queue_batch_reader reader;
    struct queue_batch batch;
    queue_batch_reader_init(&reader, buf, 0, (uint32_t)size);
    cr_assert_eq(queue_batch_reader_next(&reader, &batch), WR_E_CORRUPT);
    queue_batch_reader_deinit(&reader);
    buf_unref(buf);
}

Test(queue_codec, what_cannot_be_is_refused)
{
    static const struct {
        uint8_t bytes[16];
        size_t size;
    } cases[] = {
        {{1, 0}, 2},                                         /* no ops */
        {{1, 5, 6}, 3},                                      /* more ops than bytes */
        {{1, 0xff, 0xff, 0xff, 0x7f, 6}, 6},                 /* far too many */
        {{1, 1, 0}, 3},                                      /* kind 0 */
        {{1, 1, 15}, 3},                                     /* no such kind */
        {{0, 1, 26}, 3},                                     /* nor this */
        {{1, 1, 12, 1, 1, 8}, 6},                            /* TAKE from no place that there is */
        {{1, 1, 0x21, 8, 1, 1, 1, 1}, 8},                    /* ENQUEUE with an unknown flag */
        {{1, 1, 0x21, 1, 0, 1}, 6},                          /* a publisher without a name */
        {{1, 1, 0x21, 1, 1, 'p', 0}, 7},                     /* its number is 0 */
        {{1, 1, 0x21, 4, 0}, 5},                             /* no delay */
        {{1, 1, 13, 1, 1}, 5},                               /* PEEK cut off */
        {{1, 1, 20, 1}, 4},                                  /* the host's op from a client */
        {{0, 1, 6}, 3},                                      /* a client's op from the host */
        {{0, 1, 20 | 0x80, 1, 1}, 5},                        /* the host's with a seq */
        {{1, 1, 6 | 0x80, 0}, 4},                            /* seq 0 */
        {{1, 1, 6 | 0x40}, 3},                               /* unknown bit */
        {{1, 1, 5, 1, 1, 1, 0}, 7},                          /* outcome 0 */
        {{1, 1, 5, 1, 1, 1, 5}, 7},                          /* outcome 5 */
        {{1, 1, 3, 0x80, 0x80, 0x80, 0x80, 0x10}, 8},        /* consumer over 32 bits */
        {{1, 1, 2, 1, 0, 0, 0, 9, 'x'}, 9},                  /* name longer than the rest */
        {{0, 1, 20, 0x80, 0x80, 0x80, 0x80, 0x10}, 8},       /* boot over 32 bits */
        {{0, 1, 24, 1, 1}, 5},                               /* config cut off */
        {{0, 1, 24, 8, 1, 4, 0, 0, 0, 0, 0, 0}, 12},         /* config with an unknown flag */
        {{0, 1, 24, 8, 3, 0, 0, 0, 0, 0, 0, 0}, 12},         /* config of a later version */
        {{0, 1, 24, 10, 2, 16, 0, 0, 0, 0, 0, 0, 0, 0}, 14}, /* version 2 with an unknown flag */
        {{0, 1, 24, 10, 2, 0, 0, 3, 0, 0, 0, 0, 0, 0}, 14},  /* no such overflow */
        {{1, 2, 6 | 0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 6}, 14},
    };
    for (size_t i = 0; i < WR_ARRAY_SIZE(cases); i++) {
        expect_corrupt(cases[i].bytes, cases[i].size);
    }
}

Test(queue_codec, a_record_that_lies_about_its_parts_is_refused)
{
    struct message message = rig_message(8, 0);
    const struct queue_op op = {.kind = QUEUE_OP_ENQUEUE, .seq = 1, .message = message};
    struct buf *out = encode(CLIENT_A, &op, 1);
    const uint32_t record = out->size - message.record.size;
    for (uint32_t i = 0; i < 14; i++) {
        out->data[record + i] ^= 1;
        expect_corrupt(out->data, out->size);
        out->data[record + i] ^= 1;
    }
    buf_unref(out);
    message_unref(message);
}

/* A small fuzzer that always runs; tests/fuzz has the big one. */
Test(queue_codec, damaged_bytes_never_crash_the_machine)
{
    struct message message = rig_message(20, 0);
    struct queue_op ops[24];
    struct prng prng;
    struct rig rig;
    prng_init(&prng, 4711);
    rig_init(&rig, NULL);
    struct buf *good = encode(CLIENT_A, ops, all_client_ops(ops, message));
    for (int round = 0; round < 20000; round++) {
        struct buf *bad = buf_from(good->data, good->size);
        for (uint64_t n = prng_between(&prng, 1, 4); n > 0; n--) {
            bad->data[prng_below(&prng, bad->size)] = (uint8_t)prng_u64(&prng);
        }
        cr_assert_leq(swallow(bad, bad->size, &rig), 0);
        buf_unref(bad);
    }
    buf_unref(good);
    message_unref(message);
    rig_deinit(&rig);
}
