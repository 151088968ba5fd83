/* What: cold reads: contents, merging, damage, release, files that go away. */
#include "harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/err.h"

/* A shard of its own on the same disk as the log's harness. */
struct shard {
    struct harness h;
    struct fake_env fake;
    struct log_reader *reader;
    struct log_location wanted[64];
    uint64_t indexes[64];
    uint32_t calls;
    int error;
    struct slice kept;
};

static void on_file(void *ctx, uint64_t token, int64_t result)
{
    struct shard *s = ctx;
    cr_assert(!log_reader_on_file(s->reader, 5, 0), "not the reader's token");
    cr_assert(log_reader_on_file(s->reader, token, result));
}

static void on_turn(void *ctx)
{
    (void)ctx;
}

static const struct env_sink sink = {.on_file = on_file, .turn = on_turn};

static void setup(struct shard *s, uint64_t seed, uint32_t segments)
{
    *s = (struct shard){0};
    harness_init(&s->h, seed, 1, 16384);
    s->h.options.segments_max = 1000;
    cr_assert_eq(harness_open(&s->h), 0);
    struct log_statistics stat;
    do {
        harness_submit_random(&s->h, prng_ratio(&s->h.prng, 1, 30) ? 20000 : 1500);
        harness_run(&s->h);
        log_statistics(s->h.log, &stat);
    } while (stat.segments_live < segments);
    fake_env_init(&s->fake, seed, 0, 2, s->h.disk, s->h.kv);
    fake_env_set_sink(&s->fake, &sink, s);
    s->reader = log_reader_new(&s->fake.env, HARNESS_DIR);
}

static void teardown(struct shard *s)
{
    log_reader_free(s->reader);
    fake_env_deinit(&s->fake);
    harness_deinit(&s->h);
}

/* The location of a record, as the shard's index would have it: from the completion, or here from
 * the file itself. False: it is no entry. */
static bool locate(struct shard *s, uint64_t index, struct log_location *ret)
{
    const struct record_state *record = &vec_at(&s->h.records, index - 1);
    char path[64], name[SEGMENT_NAME_SIZE];
    (void)snprintf(path, sizeof(path), HARNESS_DIR "/log/%s",
                   segment_name(name, SEGMENT_PREFIX, record->position.segment));
    struct buf *file = sim_disk_get(s->h.disk, path);
    struct record_header header;
    record_header_decode(file->data + record->position.offset - RECORD_HEADER_SIZE, &header);
    buf_unref(file);
    *ret = (struct log_location){record->position, header.size, header.term, header.flags};
    return header.kind == LOG_ENTRY;
}

static void done(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct shard *s = ctx;
    s->calls++;
    s->error = error;
    if (error != 0) {
        cr_assert_null(payloads);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct buf *expected = harness_payload(&s->h, s->indexes[i]);
        cr_assert(
            bytes_eq(bytes_from_slice(&payloads[i]), bytes_make(expected->data, expected->size)));
        buf_unref(expected);
    }
    slice_unref(&s->kept);
    s->kept = slice_ref(&payloads[0]);
}

static uint32_t choose(struct shard *s, uint64_t first, bool scattered)
{
    const uint32_t count = 1 + (uint32_t)prng_below(&s->h.prng, 64);
    uint32_t n = 0;
    for (uint64_t i = first; n < count && i <= s->h.records.count; i++) {
        const uint64_t index = scattered ? 1 + prng_below(&s->h.prng, s->h.records.count) : i;
        if (locate(s, index, &s->wanted[n])) {
            s->indexes[n++] = index;
        }
    }
    return n;
}

Test(log_reader, random_reads_bring_what_was_written)
{
    struct shard s;
    setup(&s, 3, 40);
    for (uint32_t round = 1; round <= 200; round++) {
        const uint64_t first = 1 + prng_below(&s.h.prng, s.h.records.count);
        const uint32_t count = choose(&s, first, round % 2 == 0);
        if (count == 0) {
            continue;
        }
        const uint32_t calls = s.calls;
        cr_assert_eq(log_reader_read(s.reader, s.wanted, count, done, &s), 0);
        cr_assert_eq(s.calls, calls, "never from inside the call");
        fake_env_run(&s.fake, 1000);
        cr_assert_eq(s.calls, calls + 1);
        cr_assert_eq(s.error, 0);
    }
    slice_unref(&s.kept);
    teardown(&s);
}

static void count_done(void *ctx, int error, const struct slice *payloads, uint32_t count)
{
    struct shard *s = ctx;
    cr_assert_eq(error, 0);
    cr_assert_not_null(payloads);
    cr_assert_eq(count, 1);
    s->calls++;
}

/* As after a start, when every group reads its entries: what comes back in whatever order belongs
 * to the right request, and costs no look at all the others. */
Test(log_reader, very_many_at_once)
{
    enum { MANY = 40000 };
    struct shard s;
    setup(&s, 8, 10);
    for (uint32_t i = 0; i < MANY; i++) {
        uint64_t index;
        do {
            index = 1 + prng_below(&s.h.prng, s.h.records.count);
        } while (!locate(&s, index, &s.wanted[0]));
        cr_assert_eq(log_reader_read(s.reader, s.wanted, 1, count_done, &s), 0);
    }
    fake_env_run(&s.fake, 2 * MANY);
    cr_assert_eq(s.calls, MANY);
    teardown(&s);
}

Test(log_reader, neighbours_are_one_read)
{
    struct shard s;
    setup(&s, 4, 3);
    uint32_t count = 0;
    for (uint64_t i = 1; count < 8; i++) {
        if (locate(&s, i, &s.wanted[count]) &&
            s.wanted[count].position.segment == s.wanted[0].position.segment) {
            s.indexes[count++] = i;
        }
        cr_assert_lt(i, s.h.records.count);
    }
    cr_assert_eq(log_reader_read(s.reader, s.wanted, count, done, &s), 0);
    cr_assert_eq(sim_disk_pending(s.h.disk), 2, "the header and one extent");
    fake_env_run(&s.fake, 10);
    cr_assert_eq(s.error, 0);
    cr_assert_eq(log_reader_read(s.reader, s.wanted, count, done, &s), 0);
    cr_assert_eq(sim_disk_pending(s.h.disk), 1);
    fake_env_run(&s.fake, 10);
    slice_unref(&s.kept);
    teardown(&s);
}

Test(log_reader, damage_and_io_errors_are_reported)
{
    struct shard s;
    setup(&s, 5, 3);
    char path[64], name[SEGMENT_NAME_SIZE];
    uint64_t index = 1;
    while (!locate(&s, index, &s.wanted[0]) || s.wanted[0].size < 10) {
        index++;
    }
    s.indexes[0] = index;
    (void)snprintf(path, sizeof(path), HARNESS_DIR "/log/%s",
                   segment_name(name, SEGMENT_PREFIX, s.wanted[0].position.segment));
    const uint32_t payload = s.wanted[0].position.offset;
    const uint32_t flips[] = {payload, payload + 5, payload - 1, payload - RECORD_HEADER_SIZE, 40};
    for (size_t i = 0; i < WR_ARRAY_SIZE(flips); i++) {
        log_reader_free(s.reader); /* the header is verified once per open file */
        s.reader = log_reader_new(&s.fake.env, HARNESS_DIR);
        cr_assert(sim_disk_flip(s.h.disk, path, flips[i], 0x10));
        cr_assert_eq(log_reader_read(s.reader, s.wanted, 1, done, &s), 0);
        fake_env_run(&s.fake, 10);
        cr_assert_eq(s.error, WR_E_CORRUPT, "flip %zu", i);
        cr_assert(sim_disk_flip(s.h.disk, path, flips[i], 0x10));
    }
    for (uint32_t nth = 1; nth <= 2; nth++) {
        log_reader_release(s.reader, UINT32_MAX);
        sim_disk_fail(s.h.disk, SIM_FILE_READ, nth, 1, WR_E_IO);
        cr_assert_eq(log_reader_read(s.reader, s.wanted, 1, done, &s), 0);
        fake_env_run(&s.fake, 10);
        cr_assert_eq(s.error, WR_E_IO);
    }
    cr_assert_eq(log_reader_read(s.reader, s.wanted, 1, done, &s), 0);
    fake_env_run(&s.fake, 10);
    cr_assert_eq(s.error, 0, "all is well again");
    struct log_location wrong = s.wanted[0];
    wrong.term++;
    cr_assert_eq(log_reader_read(s.reader, &wrong, 1, done, &s), 0);
    fake_env_run(&s.fake, 10);
    cr_assert_eq(s.error, WR_E_CORRUPT);
    wrong.position.segment = 9999;
    cr_assert_eq(log_reader_read(s.reader, &wrong, 1, done, &s), WR_E_NOTFOUND);
    slice_unref(&s.kept);
    teardown(&s);
}

/* Released while a read is under way: the read still comes back; the file is closed after it. */
Test(log_reader, release_closes_when_the_last_read_is_back)
{
    struct shard s;
    setup(&s, 6, 3);
    uint64_t index = 1;
    while (!locate(&s, index, &s.wanted[0])) {
        index++;
    }
    s.indexes[0] = index;
    cr_assert_eq(log_reader_read(s.reader, s.wanted, 1, done, &s), 0);
    log_reader_release(s.reader, s.wanted[0].position.segment);
    cr_assert(!list_is_empty(&s.fake.files));
    fake_env_run(&s.fake, 10);
    cr_assert_eq(s.error, 0);
    cr_assert(list_is_empty(&s.fake.files));
    cr_assert_eq(log_reader_read(s.reader, s.wanted, 1, done, &s), 0);
    fake_env_run(&s.fake, 10);
    cr_assert(!list_is_empty(&s.fake.files));
    log_reader_release(s.reader, s.wanted[0].position.segment);
    cr_assert(list_is_empty(&s.fake.files));
    slice_unref(&s.kept);
    teardown(&s);
}

Test(log_reader, freed_with_reads_under_way)
{
    struct shard s;
    setup(&s, 7, 3);
    const uint32_t count = choose(&s, 1, true);
    cr_assert_gt(count, 0);
    cr_assert_eq(log_reader_read(s.reader, s.wanted, count, done, &s), 0);
    log_reader_free(s.reader);
    s.reader = NULL;
    cr_assert_eq(s.calls, 0);
    teardown(&s);
}
