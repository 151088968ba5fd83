/* What: recovery. Random crashes at any point keep what was reported durable; a single changed byte
 * is damage exactly when something on the disk proves that it was durable (docs/storage.md). */
#include "harness.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/err.h"

static char *path_of(char path[64], const char *prefix, uint32_t number)
{
    char name[SEGMENT_NAME_SIZE];
    (void)snprintf(path, 64, HARNESS_DIR "/log/%s", segment_name(name, prefix, number));
    return path;
}

static void reopen(struct harness *h, bool power)
{
    harness_crash(h, power);
    cr_assert_eq(harness_open(h), 0, "%s", h->errmsg);
}

static void random_work(struct harness *h, uint32_t actions)
{
    for (uint32_t i = 0; i < actions; i++) {
        const uint64_t draw = prng_below(&h->prng, 100);
        if (draw < 30) {
            harness_submit_random(h, draw < 2 ? 12000 : draw < 10 ? 3000 : 300);
        } else if (draw < 98) {
            (void)harness_step(h);
        } else {
            (void)fake_env_sleep(&h->fake);
            harness_mail(h);
        }
    }
}

/* 10,000 crashes, of the machine and of the process, with names, sizes and sectors lost or torn. */
Test(recovery, random_crashes_keep_what_was_durable, .timeout = 170)
{
    uint64_t recovered = 0;
    for (uint64_t seed = 0; seed < 1000; seed++) {
        struct harness h;
        const uint32_t segment = 5632 + 512 * (uint32_t)(seed % 40);
        harness_init(&h, seed, 1 + (uint32_t)(seed % 3), segment);
        h.options.segments_max = 1 + (uint32_t)(seed % 4);
        h.options.recycle_max = (uint32_t)(seed / 4 % 3);
        cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
        for (uint32_t crash = 0; crash < 10; crash++) {
            random_work(&h, 1 + (uint32_t)prng_below(&h.prng, 60));
            harness_crash(&h, prng_ratio(&h.prng, 2, 3));
            const int error = harness_open(&h);
            cr_assert_eq(error, 0, "seed %llu crash %u: %s", (unsigned long long)seed, crash,
                         h.errmsg);
            recovered += h.recovered_count;
        }
        harness_quiet(&h);
        cr_assert_eq(h.durable, h.records.count);
        harness_deinit(&h);
    }
    cr_assert_gt(recovered, 100000);
}

/* With sync off a power failure may lose what was reported, but never more than the end of the
 * log, and it is no damage; a crash of the process alone loses nothing. */
Test(recovery, sync_off_loses_only_a_tail, .timeout = 100)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        struct harness h;
        harness_init(&h, seed, 2, 8192 + 512 * (uint32_t)(seed % 20));
        h.options.sync = false;
        h.options.segments_max = 100;
        cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
        for (uint32_t crash = 0; crash < 8; crash++) {
            random_work(&h, 1 + (uint32_t)prng_below(&h.prng, 60));
            const bool power = prng_ratio(&h.prng, 1, 2);
            h.check_off = power;
            harness_crash(&h, power);
            const int error = harness_open(&h);
            cr_assert_eq(error, 0, "seed %llu crash %u: %s", (unsigned long long)seed, crash,
                         h.errmsg);
            cr_assert(h.recovered_count == 0 || h.recovered_first == 1);
        }
        harness_deinit(&h);
    }
}

/* --- what one changed byte must lead to, worked out from the bytes alone --------------------- */

enum verdict { UNSEEN, CUT, DAMAGE };

struct oracle {
    uint32_t first, count; /* segments */
    struct buf *files[64];
};

static void oracle_load(struct oracle *o, struct harness *h)
{
    char path[64];
    *o = (struct oracle){0};
    for (uint32_t number = 1; number < 4096 && o->count < 64; number++) {
        struct buf *file = sim_disk_get(h->disk, path_of(path, SEGMENT_PREFIX, number));
        if (file != NULL) {
            o->first = o->count == 0 ? number : o->first;
            o->files[o->count++] = file;
        } else if (o->count > 0) {
            break;
        }
    }
}

static void oracle_free(struct oracle *o)
{
    for (uint32_t i = 0; i < o->count; i++) {
        buf_unref(o->files[i]);
    }
}

static bool header_at(const struct buf *file, uint32_t at, struct round_header *ret)
{
    struct segment_header segment;
    return at + ROUND_HEADER_SIZE <= file->size &&
           segment_header_decode(file->data, &segment) == 0 &&
           round_header_decode(file->data + at, segment.salt, at, ret);
}

static bool in_use(const struct oracle *o, uint32_t i)
{
    struct round_header round;
    return i < o->count && header_at(o->files[i], SEGMENT_HEADER_SIZE, &round);
}

/* Is the round at [begin, ..) of file i proven to have been durable, the byte at `flipped` (which
 * breaks the round it is in) not counting as a proof? Only for logs without a torn tail. */
static bool proven(const struct oracle *o, uint32_t i, uint32_t begin)
{
    struct round_header round;
    if (in_use(o, i + 1)) {
        return true;
    }
    for (uint32_t at = begin + SEGMENT_ALIGN; at < o->files[i]->size; at += SEGMENT_ALIGN) {
        if (header_at(o->files[i], at, &round) && round.durable > begin) {
            return true;
        }
    }
    return false;
}

static enum verdict judge(const struct oracle *o, uint32_t i, uint32_t offset)
{
    struct round_header round;
    if (offset < SEGMENT_HEADER_SIZE) {
        return offset < 64 ? DAMAGE : UNSEEN;
    }
    uint32_t at = SEGMENT_HEADER_SIZE;
    while (header_at(o->files[i], at, &round)) {
        if (offset < at + round.size) {
            return offset < at ? UNSEEN : proven(o, i, at) ? DAMAGE : CUT;
        }
        if ((round.flags & ROUND_END) != 0) {
            return UNSEEN;
        }
        at = (uint32_t)segment_align((uint64_t)at + round.size);
    }
    return UNSEEN;
}

static void check_flip(struct harness *h, const struct oracle *o, uint32_t i, uint32_t offset,
                       uint8_t mask)
{
    char path[64];
    (void)path_of(path, SEGMENT_PREFIX, o->first + i);
    const enum verdict expected = judge(o, i, offset);
    const uint64_t before = h->records.count;
    cr_assert(sim_disk_flip(h->disk, path, offset, mask));
    h->check_off = expected == CUT; /* the last round may go: nothing says that it was durable */
    harness_crash(h, false);
    const int error = harness_open(h);
    if (expected == DAMAGE) {
        cr_assert_eq(error, WR_E_CORRUPT, "%s offset %u mask %u: taken for torn", path, offset,
                     mask);
        cr_assert(strstr(h->errmsg, "segment-") != NULL, "%s", h->errmsg);
        cr_assert(strstr(h->errmsg, "offset") != NULL, "%s", h->errmsg);
    } else {
        cr_assert_eq(error, 0, "%s offset %u mask %u: %s", path, offset, mask, h->errmsg);
        if (expected == UNSEEN) {
            cr_assert_eq(h->records.count, before);
        }
    }
}

/* Every byte of a small log, changed in two ways. */
Test(recovery, every_byte_of_a_three_record_log, .timeout = 100)
{
    for (uint32_t marked = 0; marked < 2; marked++) {
        struct harness h;
        harness_init(&h, 5, 1, 8192);
        cr_assert_eq(harness_open(&h), 0);
        for (uint32_t i = 0; i < 3; i++) {
            harness_submit(&h, 0, 1, 20 + 300 * i);
            harness_run(&h);
        }
        if (marked == 1) {
            harness_quiet(&h);
        }
        struct oracle o;
        oracle_load(&o, &h);
        uint32_t verdicts[3] = {0};
        const struct record_state saved[3] = {h.records.items[0], h.records.items[1],
                                              h.records.items[2]};
        for (uint32_t offset = 0; offset < 8192; offset++) {
            const uint8_t mask = offset % 2 == 0 ? 1 : 0x80;
            verdicts[judge(&o, 0, offset)]++;
            check_flip(&h, &o, 0, offset, mask);
            /* Everything back as it was. */
            char path[64];
            sim_disk_put(h.disk, path_of(path, SEGMENT_PREFIX, 1), o.files[0]->data,
                         o.files[0]->size);
            vec_clear(&h.records);
            for (uint32_t i = 0; i < 3; i++) {
                vec_push(&h.records, saved[i]);
            }
            h.durable = 3;
        }
        cr_assert_gt(verdicts[UNSEEN], 0);
        cr_assert_gt(verdicts[CUT], 0);
        cr_assert_gt(verdicts[DAMAGE], 64 + 2 * ROUND_HEADER_SIZE);
        oracle_free(&o);
        harness_deinit(&h);
    }
}

/* 10,000 single flips in logs of many segments, with and without crashes before. */
Test(recovery, random_flips_are_classified_right, .timeout = 170)
{
    uint32_t verdicts[3] = {0};
    for (uint64_t seed = 0; seed < 10000; seed++) {
        struct harness h;
        harness_init(&h, seed, 1, 6144 + 512 * (uint32_t)(seed % 10));
        cr_assert_eq(harness_open(&h), 0);
        random_work(&h, 5 + (uint32_t)(seed % 100));
        if (seed % 3 == 0) {
            reopen(&h, true);
            random_work(&h, 30);
        }
        harness_run(&h);
        if (seed % 2 == 0) {
            harness_quiet(&h);
        }
        struct oracle o;
        oracle_load(&o, &h);
        if (o.count > 0) {
            const uint32_t i = (uint32_t)prng_below(&h.prng, o.count);
            const uint32_t offset =
                prng_ratio(&h.prng, 1, 8)
                    ? (uint32_t)prng_below(&h.prng, 64)
                    : SEGMENT_HEADER_SIZE +
                          (uint32_t)prng_below(&h.prng, o.files[i]->size - SEGMENT_HEADER_SIZE);
            verdicts[judge(&o, i, offset)]++;
            check_flip(&h, &o, i, offset, (uint8_t)(1 + prng_below(&h.prng, 255)));
        }
        oracle_free(&o);
        harness_deinit(&h);
    }
    cr_assert_gt(verdicts[UNSEEN], 1000);
    cr_assert_gt(verdicts[CUT], 100);
    cr_assert_gt(verdicts[DAMAGE], 1000);
}

/* A crash while a round was in flight, and after it a changed byte in what was durable before the
 * last round that the disk can prove: damage all the same; and a torn tail alone never is. */
Test(recovery, torn_tail_does_not_hide_damage, .timeout = 100)
{
    uint32_t damaged = 0;
    for (uint64_t seed = 0; seed < 2000; seed++) {
        struct harness h;
        harness_init(&h, seed, 1, 64 << 10);
        cr_assert_eq(harness_open(&h), 0);
        for (uint32_t i = 0; i < 4; i++) {
            harness_submit(&h, 0, 2, 50 + (uint32_t)prng_below(&h.prng, 600));
            harness_run(&h);
        }
        const struct log_position third = h.records.items[4].position;
        harness_submit(&h, 0, 4, 900);
        (void)harness_step(&h); /* in flight, or written and not synced */
        reopen(&h, true);       /* a torn tail alone is no damage */
        char path[64];
        const uint32_t range = third.offset - SEGMENT_HEADER_SIZE;
        struct oracle o;
        oracle_load(&o, &h);
        const uint32_t offset = SEGMENT_HEADER_SIZE + (uint32_t)prng_below(&h.prng, range);
        const bool seen = judge(&o, 0, offset) == DAMAGE;
        oracle_free(&o);
        cr_assert(sim_disk_flip(h.disk, path_of(path, SEGMENT_PREFIX, 1), offset, 4));
        harness_crash(&h, false);
        cr_assert_eq(harness_open(&h), seen ? WR_E_CORRUPT : 0, "seed %llu offset %u",
                     (unsigned long long)seed, offset);
        damaged += seen ? 1 : 0;
        harness_deinit(&h);
    }
    cr_assert_gt(damaged, 500);
}

/* --- single cases --------------------------------------------------------------------------- */

static void fill_segments(struct harness *h, uint32_t segments)
{
    harness_init(h, 9, 1, 8192);
    h->options.segments_max = 100;
    cr_assert_eq(harness_open(h), 0);
    struct log_statistics s;
    do {
        harness_submit(h, 0, 1, 900);
        harness_run(h);
        log_statistics(h->log, &s);
    } while (s.segments_live < segments);
    harness_crash(h, false);
}

static void expect_corrupt(struct harness *h, const char *text)
{
    cr_assert_eq(harness_open(h), WR_E_CORRUPT);
    cr_assert(strstr(h->errmsg, text) != NULL, "\"%s\" is not in \"%s\"", text, h->errmsg);
}

Test(recovery, missing_segment_is_damage)
{
    struct harness h;
    char path[64];
    fill_segments(&h, 4);
    cr_assert_eq(sim_file_unlink(h.disk, path_of(path, SEGMENT_PREFIX, 2)), 0);
    expect_corrupt(&h, "segment-0000000000000002.log is missing");
    harness_deinit(&h);
}

Test(recovery, missing_last_segment_is_damage)
{
    struct harness h;
    char path[64];
    fill_segments(&h, 3);
    cr_assert_eq(sim_file_unlink(h.disk, path_of(path, SEGMENT_PREFIX, 3)), 0);
    (void)sim_file_unlink(h.disk, path_of(path, SEGMENT_PREFIX, 4)); /* prepared, if at all */
    expect_corrupt(&h, "segment-0000000000000003.log is missing");
    harness_deinit(&h);
}

Test(recovery, swapped_and_foreign_segments_are_damage)
{
    struct harness h;
    char path[64];
    fill_segments(&h, 4);
    struct buf *second = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 2));
    struct buf *third = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 3));
    sim_disk_put(h.disk, path_of(path, SEGMENT_PREFIX, 3), second->data, second->size);
    expect_corrupt(&h, "segment-0000000000000003.log: offset 0: the header is that of segment 2");
    sim_disk_put(h.disk, path_of(path, SEGMENT_PREFIX, 3), third->data, third->size);
    h.options.node_id.lo++;
    expect_corrupt(&h, "belongs to node");
    buf_unref(second);
    buf_unref(third);
    harness_deinit(&h);
}

/* A stale copy of the active segment's predecessor, put back: it does not end where it did. */
Test(recovery, stale_copy_of_a_segment_is_damage)
{
    struct harness h;
    char path[64];
    harness_init(&h, 10, 1, 8192);
    h.options.segments_max = 100;
    cr_assert_eq(harness_open(&h), 0);
    harness_submit(&h, 0, 1, 900);
    harness_run(&h);
    struct buf *stale = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 1));
    for (uint32_t i = 0; i < 10; i++) {
        harness_submit(&h, 0, 1, 900);
        harness_run(&h);
    }
    harness_crash(&h, false);
    sim_disk_put(h.disk, path, stale->data, stale->size);
    expect_corrupt(&h, "segment-0000000000000001.log: offset");
    buf_unref(stale);
    harness_deinit(&h);
}

Test(recovery, zeroed_block_in_the_middle_is_damage)
{
    struct harness h;
    char path[64];
    fill_segments(&h, 3);
    struct buf *file = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 1));
    memset(file->data + SEGMENT_HEADER_SIZE + 1024, 0, 512);
    sim_disk_put(h.disk, path, file->data, file->size);
    expect_corrupt(&h, "shows that it was durable");
    buf_unref(file);
    harness_deinit(&h);
}

/* A record that verifies but belongs to another round (a sector left over from a round that was cut
 * off, at the same place) does not make a round valid. */
Test(recovery, record_of_another_round_is_not_taken)
{
    struct harness h;
    char path[64];
    harness_init(&h, 12, 1, 16384);
    cr_assert_eq(harness_open(&h), 0);
    for (uint32_t i = 0; i < 2; i++) {
        harness_submit(&h, 0, 2, 700);
        harness_run(&h);
    }
    struct buf *file = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 1));
    memcpy(file->data + h.records.items[3].position.offset - RECORD_HEADER_SIZE,
           file->data + h.records.items[1].position.offset - RECORD_HEADER_SIZE,
           RECORD_HEADER_SIZE + 700);
    harness_crash(&h, false);
    sim_disk_put(h.disk, path, file->data, file->size);
    h.check_off = true; /* the last round, which nothing proves, goes */
    cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
    cr_assert_eq(h.recovered_count, 2);
    buf_unref(file);
    harness_deinit(&h);
}

/* Two segments without a valid round, and one after them: none of them can be the end. */
Test(recovery, later_segments_prove_even_if_their_neighbours_are_void)
{
    struct harness h;
    char path[64];
    fill_segments(&h, 4);
    for (uint32_t number = 2; number <= 3; number++) {
        struct buf *file = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, number));
        memset(file->data + SEGMENT_HEADER_SIZE, 0, file->size - SEGMENT_HEADER_SIZE);
        sim_disk_put(h.disk, path, file->data, file->size);
        buf_unref(file);
    }
    expect_corrupt(&h, "segment-0000000000000002.log: offset 4096: no valid round header; segment "
                       "4 shows that it was durable");
    harness_deinit(&h);
}

Test(recovery, truncated_files)
{
    struct harness h;
    char path[64];
    fill_segments(&h, 3);
    struct buf *file = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 1));
    for (uint32_t size = 0; size < file->size - 1024; size += 300) {
        sim_disk_put(h.disk, path, file->data, size);
        expect_corrupt(&h, "segment-0000000000000001.log: offset");
    }
    buf_unref(file);
    harness_deinit(&h);
}

Test(recovery, unreadable_segment_is_an_error_with_its_place)
{
    struct harness h;
    fill_segments(&h, 2);
    sim_disk_fail(h.disk, SIM_FILE_READ, 1, 1, WR_E_IO);
    cr_assert_eq(harness_open(&h), WR_E_IO);
    cr_assert(strstr(h.errmsg, "segment-0000000000000001.log: offset 0") != NULL, "%s", h.errmsg);
    cr_assert_eq(harness_open(&h), 0);
    harness_deinit(&h);
}

static uint64_t progress_last, progress_calls;

static void progress(void *ctx, uint64_t done, uint64_t total)
{
    (void)ctx;
    cr_assert_geq(total, done);
    cr_assert_geq(done, progress_last);
    progress_last = done;
    progress_calls++;
}

static void ignore(void *ctx, const struct log_item *item)
{
    (void)ctx;
    (void)item;
}

Test(recovery, progress_goes_up)
{
    struct harness h;
    fill_segments(&h, 4);
    const struct log_recovery_sink sink = {.record = ignore, .progress = progress};
    struct log *log;
    char errmsg[256];
    cr_assert_eq(log_open(&h.fake.env, HARNESS_DIR, &h.options, &sink, &log, errmsg), 0);
    cr_assert_geq(progress_calls, 4);
    log_close(log);
    harness_deinit(&h);
}

/* One file per format version, written once and for ever (regenerate: never; add a new one). */
Test(recovery, stored_segment_of_version_1)
{
    struct harness h;
    char path[64];
    uint8_t data[16384];
    FILE *file = fopen(WR_TEST_FORMATS "/log-segment-v1.bin", "rb");
    cr_assert_not_null(file);
    const size_t size = fread(data, 1, sizeof(data), file);
    (void)fclose(file);
    /* Written by: seed 1, one shard, 6144-byte segment, batches of 2, 1 and 3 records. */
    harness_init(&h, 1, 1, 6144);
    for (uint32_t i = 0; i < 6; i++) {
        static const uint32_t sizes[6] = {10, 10, 0, 100, 100, 100};
        vec_push(&h.records, (struct record_state){.salt = 1000 + i, .size = sizes[i]});
    }
    sim_disk_put(h.disk, path_of(path, SEGMENT_PREFIX, 1), data, size);
    cr_assert_eq(sim_dir_make(h.disk, HARNESS_DIR "/log"), 0);
    cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
    cr_assert_eq(h.recovered_first, 1);
    cr_assert_eq(h.recovered_count, 6);
    harness_submit(&h, 0, 1, 100);
    harness_run(&h);
    reopen(&h, true);
    cr_assert_eq(h.recovered_count, 7);
    harness_deinit(&h);
}

#ifdef WR_WRITE_FORMATS
Test(recovery, write_formats)
{
    struct harness h;
    char path[64];
    harness_init(&h, 1, 1, 6144);
    cr_assert_eq(harness_open(&h), 0);
    static const uint32_t sizes[6] = {10, 10, 0, 100, 100, 100};
    static const uint32_t counts[3] = {2, 1, 3};
    for (uint32_t i = 0, at = 0; i < 3; at += counts[i++]) {
        h.force_salt = 1000 + at;
        harness_submit(&h, 0, counts[i], sizes[at]);
        harness_run(&h);
    }
    struct buf *file = sim_disk_get(h.disk, path_of(path, SEGMENT_PREFIX, 1));
    FILE *out = fopen(WR_TEST_FORMATS "/log-segment-v1.bin", "wb");
    cr_assert_not_null(out);
    cr_assert_eq(fwrite(file->data, 1, file->size, out), file->size);
    (void)fclose(out);
    buf_unref(file);
    harness_deinit(&h);
}
#endif
