/* Snapshots: canonical, complete, and safe to read whatever the bytes are. */
#include <criterion/criterion.h>

#include "rig.h"
#include "queue_internal.h"
#include "warren/err.h"
#include "warren/prng.h"

#define A CLIENT(1, 1)
#define B CLIENT(1, 2)
#define C CLIENT(2, 3)

/* A state with something of everything that the first version had. */
static void build_first(struct rig *rig)
{
    struct queue_config config;
    queue_config_default(&config);
    config.priority_max = 3;
    config.ttl_ms = 1000;
    rig_init(rig, &config);
    rig_attach(rig, B, 1, 0, 3);
    rig_attach(rig, C, 7, 0, 0);
    rig_attach(rig, B, 2, QUEUE_NO_ACK, 0);
    rig_publish(rig, A, 9);
    rig_publish_one(rig, A, 5, 2);
    rig_simple(rig, C, QUEUE_OP_GET, 0);
    rig_settle(rig, C, 7, 1, 1, QUEUE_REQUEUE);
    rig_op(rig, B, (struct queue_op){.kind = QUEUE_OP_LIMIT, .limit = 2});
    rig_op(rig, C, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 7});
    rig_op(rig, B, (struct queue_op){.kind = QUEUE_OP_DETACH, .consumer = 2});
    rig_publish(rig, A, 4);
    rig_publish_one(rig, A, 5, 9);
    rig_simple(rig, CLIENT(2, 4), QUEUE_OP_CLOSE, 0);
    rig_publish(rig, CLIENT(3, 5), 1);
    rig_host(rig, QUEUE_OP_NODE_GONE, 3);
    rig_publish(rig, CLIENT(4, 6), 1);
    rig_host(rig, QUEUE_OP_NODE_DOWN, 4);
    rig_simple(rig, A, QUEUE_OP_SEAL, 0);
    (void)rig_take(rig);
}

/* And of everything that came later. */
static void build(struct rig *rig)
{
    struct queue_config config;
    build_first(rig);
    config = rig->queue->config;
    config.dead_letter = true;
    config.dedup_window_ms = 5000;
    config.overflow = QUEUE_REJECT_PUBLISH;
    config.length_max = 12;
    config.expires_ms = 9000;
    rig_simple(rig, A, QUEUE_OP_UNSEAL, 0);
    rig_at(rig, 1000);
    rig_configure(rig, &config);
    rig_publish_ttl(rig, A, 300);
    rig_publish_as(rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = 50});
    rig_publish_as(rig, A, (struct queue_op){.flags = QUEUE_HAS_DELAY, .limit = 70});
    rig_publish_as(rig, A,
                   (struct queue_op){.flags = QUEUE_HAS_PUBLISHER | QUEUE_HAS_ID,
                                     .name = BYTES_LITERAL("p"),
                                     .first = 7,
                                     .args = BYTES_LITERAL("id")});
    rig_at(rig, 1050);
    rig_publish(rig, A, 4);
    rig_attach(rig, CLIENT(5, 7), 4, QUEUE_DEAD, 1);
    rig_settle(rig, B, 1, 1, 2, QUEUE_REJECT);
    rig_op(rig, C, (struct queue_op){.kind = QUEUE_OP_TAKE, .first = 13, .count = 2});
    rig_simple(rig, A, QUEUE_OP_SEAL, 0);
    (void)rig_take(rig);
}

static struct buf *snapshot_of(const struct queue *queue)
{
    struct buf *out = buf_new(0);
    queue_snapshot(queue, &out);
    return out;
}

static int restore(const struct buf *bytes, size_t size, struct queue **ret_queue)
{
    return queue_restore(bytes_make(bytes->data, size), ret_queue);
}

Test(queue_snapshot, restores_to_the_same_state)
{
    struct rig rig;
    build(&rig);
    struct buf *bytes = snapshot_of(rig.queue);
    struct queue *again = NULL;
    cr_assert_eq(restore(bytes, bytes->size, &again), 0);
    queue_check(again);
    char left[4096];
    char right[4096];
    queue_describe(rig.queue, left, sizeof(left));
    queue_describe(again, right, sizeof(right));
    cr_assert_str_eq(left, right);
    cr_assert_eq(queue_hash(again), queue_hash(rig.queue));
    queue_free(rig.queue);
    rig.queue = again;
    rig_simple(&rig, A, QUEUE_OP_UNSEAL, 0);
    rig_settle(&rig, B, 1, 1, 9, QUEUE_ACK);
    cr_assert_gt(strlen(rig_take(&rig)), 0);
    buf_unref(bytes);
    rig_deinit(&rig);
}

Test(queue_snapshot, an_empty_queue_has_frozen_bytes)
{
    static const uint8_t wanted[] = {
        2,                /* version */
        2, 1, 2, 0,       /* config: auto-delete */
        0, 0, 0, 0, 0, 0, /* limits: none */
        0, 0, 1, 0, 0, 0, /* flags to totals */
        0, 0, 0, 0, 0, 0, /* clock to duplicates */
        1, 1, 0, 0,       /* attach, release, active */
        0, 0, 0, 0,       /* boots, closed, clients */
        0, 0, 0, 0,       /* groups, levels, delayed, dead */
        0, 0,             /* publishers, ids */
    };
    struct queue_config config;
    queue_config_default(&config);
    config.auto_delete = true;
    config.priority_max = 2;
    struct queue *queue = queue_new(&config);
    struct buf *bytes = snapshot_of(queue);
    cr_assert_eq(bytes->size, sizeof(wanted));
    cr_assert_eq(memcmp(bytes->data, wanted, sizeof(wanted)), 0);
    buf_unref(bytes);
    queue_free(queue);
}

/* Written by version 1: a state as that of build_first. */
static const uint8_t first_version[] = {
    0x01, 0x01, 0x00, 0x03, 0xe8, 0x07, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0x01, 0x00, 0x00, 0x81, 0x80, 0x80, 0x80, 0x10, 0x12, 0x0b, 0x00, 0x01, 0x01,
    0x03, 0x01, 0x01, 0x04, 0x01, 0x84, 0x80, 0x80, 0x80, 0x20, 0x04, 0x81, 0x80, 0x80, 0x80, 0x10,
    0x10, 0x00, 0x10, 0x00, 0x07, 0x01, 0x00, 0x00, 0x82, 0x80, 0x80, 0x80, 0x10, 0x04, 0x02, 0x04,
    0x00, 0x00, 0x01, 0x00, 0x01, 0x01, 0x01, 0x03, 0x00, 0x00, 0x03, 0x03, 0x74, 0x61, 0x67, 0x00,
    0x03, 0x01, 0x01, 0x02, 0x0a, 0x00, 0x00, 0x00, 0x01, 0x04, 0x0a, 0x00, 0x00, 0x00, 0x01, 0x04,
    0x0a, 0x00, 0x00, 0x83, 0x80, 0x80, 0x80, 0x20, 0x04, 0x00, 0x04, 0x00, 0x00, 0x02, 0x00, 0x01,
    0x07, 0x00, 0x00, 0x00, 0x00, 0x04, 0x03, 0x74, 0x61, 0x67, 0x00, 0x03, 0x02, 0x01, 0x0a, 0x0a,
    0x00, 0x00, 0x00, 0x01, 0x04, 0x0a, 0x00, 0x00, 0x00, 0x01, 0x02, 0x05, 0x00, 0x02, 0x86, 0x80,
    0x80, 0x80, 0x40, 0x01, 0x00, 0x00, 0x00, 0x01, 0x00, 0x02, 0x00, 0x02, 0x0b, 0x04, 0x0a, 0x00,
    0x01, 0x02, 0x0a, 0x00, 0x03, 0x01, 0x0f, 0x01, 0x05, 0x00};

Test(queue_snapshot, version_1_is_read)
{
    static const char wanted[] =
        "queue next=18 ready=7 unacked=6 consumers=1 sealed\n"
        "level 3: 15+1\n"
        "level 0: 11+4 16+2\n"
        "client 1.1 seq=16\n"
        "client 1.2 seq=4 limit=2\n"
        "  consumer 1 delivered=3 priority=0 prefetch=3 capacity=0 \"tag\" unacked 1=1+1 2=4+1 "
        "3=7+1\n"
        "client 2.3 seq=4\n"
        "  consumer 7 detached delivered=4 \"tag\" unacked 2=5+1 3=8+1 4=10+1\n"
        "client 4.6 seq=1 suspended\n";
    struct rig rig;
    char text[4096];
    rig_init(&rig, NULL);
    queue_free(rig.queue);
    rig.queue = NULL;
    cr_assert_eq(queue_restore(bytes_make(first_version, sizeof(first_version)), &rig.queue), 0);
    queue_check(rig.queue);
    queue_describe(rig.queue, text, sizeof(text));
    cr_assert_str_eq(text, wanted);
    rig.now = 77;
    rig.seqs[1] = queue_client_last_seq(rig.queue, A);
    rig.seqs[2] = queue_client_last_seq(rig.queue, B);
    rig_simple(&rig, A, QUEUE_OP_UNSEAL, 0);
    rig_settle(&rig, B, 1, 1, 1, QUEUE_ACK);
    RIG_EXPECT(&rig, "APPLIED 1.1 seq=17\n"
                     "APPLIED 1.2 seq=5\nDROP 1+1");
    cr_assert_eq(rig.queue->clock_ms, 77);
    rig_deinit(&rig);
}

Test(queue_snapshot, version_1_that_is_cut_off_is_refused)
{
    struct queue *old = NULL;
    for (size_t size = 0; size < sizeof(first_version); size++) {
        cr_assert_eq(queue_restore(bytes_make(first_version, size), &old), WR_E_CORRUPT);
    }
}

/* Stored snapshots and the hashes that replicas compare must not change by accident: if this fails,
 * QUEUE_MACHINE_VERSION has to rise and the old layout to stay readable. */
Test(queue_snapshot, the_hash_of_a_known_state_is_frozen)
{
    struct rig rig;
    build(&rig);
    cr_assert_eq(queue_hash(rig.queue), UINT64_C(0x4b1591a6e9b3d293), "%016lx",
                 queue_hash(rig.queue));
    rig_deinit(&rig);
}

Test(queue_snapshot, cut_off_or_longer_bytes_are_refused)
{
    struct rig rig;
    build(&rig);
    struct buf *bytes = snapshot_of(rig.queue);
    struct queue *again = NULL;
    for (uint32_t size = 0; size < bytes->size; size++) {
        cr_assert_eq(restore(bytes, size, &again), WR_E_CORRUPT, "size %u", size);
    }
    buf_append(&bytes, "", 1);
    cr_assert_eq(restore(bytes, bytes->size, &again), WR_E_CORRUPT);
    cr_assert_null(again);
    buf_unref(bytes);
    rig_deinit(&rig);
}

Test(queue_snapshot, a_later_version_is_named_as_such)
{
    struct rig rig;
    build(&rig);
    struct buf *bytes = snapshot_of(rig.queue);
    struct queue *again = NULL;
    bytes->data[0] = QUEUE_MACHINE_VERSION + 1;
    cr_assert_eq(restore(bytes, bytes->size, &again), WR_E_VERSION);
    bytes->data[0] = 0;
    cr_assert_eq(restore(bytes, bytes->size, &again), WR_E_CORRUPT);
    buf_unref(bytes);
    rig_deinit(&rig);
}

/* What is accepted must be a state that works, and encode to the same bytes. */
static void try_damaged(const struct buf *bytes)
{
    struct rig rig = {.queue = NULL};
    if (restore(bytes, bytes->size, &rig.queue) != 0) {
        cr_assert_null(rig.queue);
        return;
    }
    queue_check(rig.queue);
    struct buf *again = snapshot_of(rig.queue);
    cr_assert(bytes_eq(bytes_make(again->data, again->size), bytes_make(bytes->data, bytes->size)));
    buf_unref(again);
    rig.seqs[1] = queue_client_last_seq(rig.queue, A);
    rig_publish(&rig, A, 3);
    rig_simple(&rig, A, QUEUE_OP_UNSEAL, 0);
    rig_attach(&rig, CLIENT(9, 9), 1, QUEUE_NO_ACK, 0);
    rig_host(&rig, QUEUE_OP_NODE_UP, 4);
    rig_host(&rig, QUEUE_OP_NODE_GONE, 1);
    rig_host(&rig, QUEUE_OP_NODE_GONE, 2);
    rig_deinit(&rig);
}

Test(queue_snapshot, each_single_damaged_byte_is_refused_or_harmless)
{
    struct rig rig;
    build(&rig);
    struct buf *bytes = snapshot_of(rig.queue);
    static const uint8_t values[] = {0, 1, 2, 3, 5, 0x7f, 0x80, 0xff};
    for (uint32_t i = 0; i < bytes->size; i++) {
        const uint8_t good = bytes->data[i];
        for (size_t v = 0; v < WR_ARRAY_SIZE(values); v++) {
            bytes->data[i] = values[v];
            try_damaged(bytes);
        }
        for (uint8_t bit = 1; bit != 0; bit = (uint8_t)(bit << 1)) {
            bytes->data[i] = good ^ bit;
            try_damaged(bytes);
        }
        bytes->data[i] = good;
    }
    buf_unref(bytes);
    rig_deinit(&rig);
}

Test(queue_snapshot, random_damage_is_refused_or_harmless)
{
    struct rig rig;
    struct prng prng;
    build(&rig);
    prng_init(&prng, 99);
    struct buf *bytes = snapshot_of(rig.queue);
    for (int round = 0; round < 20000; round++) {
        struct buf *bad = buf_from(bytes->data, bytes->size);
        for (uint64_t n = prng_between(&prng, 1, 3); n > 0; n--) {
            const uint64_t at = prng_below(&prng, bad->size);
            bad->data[at] = (uint8_t)(bad->data[at] + prng_below(&prng, 5) - 2);
        }
        try_damaged(bad);
        buf_unref(bad);
    }
    buf_unref(bytes);
    rig_deinit(&rig);
}
