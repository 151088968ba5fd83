/* What: the log's behaviour when nothing breaks but space and devices: rounds, rolling, retiring,
 * reuse, full disks, failing writes and syncs. Crashes: test_recovery.c. */
#include "harness.h"

#include <criterion/criterion.h>

#include "warren/err.h"

static void open_new(struct harness *h, uint64_t seed, uint32_t shards, uint32_t segment_size)
{
    harness_init(h, seed, shards, segment_size);
    cr_assert_eq(harness_open(h), 0, "%s", h->errmsg);
}

static uint32_t count_files(struct harness *h, const char *prefix)
{
    char **names;
    uint32_t count, found = 0;
    cr_assert_eq(sim_dir_list(h->disk, HARNESS_DIR "/log", &names, &count), 0);
    for (uint32_t i = 0; i < count; i++) {
        found += segment_name_parse(names[i], prefix) != 0 ? 1 : 0;
        wr_free(names[i]);
    }
    wr_free(names);
    return found;
}

Test(log, batch_comes_back_after_write_and_sync)
{
    struct harness h;
    open_new(&h, 1, 1, 64 << 10);
    harness_run(&h);
    harness_submit(&h, 0, 3, 100);
    cr_assert_eq(h.durable, 0);
    harness_run(&h);
    cr_assert_eq(h.durable, 3);
    struct log_statistics s;
    log_statistics(h.log, &s);
    cr_assert_eq(s.records, 3);
    cr_assert_eq(s.batches, 1);
    cr_assert_eq(s.syncs, 1);
    cr_assert_eq(s.segments_live, 1);
    cr_assert_eq(s.batches_waiting, 0);
    harness_deinit(&h);
}

Test(log, batches_that_arrive_during_a_round_share_the_next)
{
    struct harness h;
    open_new(&h, 2, 4, 1 << 20);
    harness_submit(&h, 0, 1, 10);
    while (h.durable == 0) {
        cr_assert(harness_step(&h));
    }
    harness_submit(&h, 1, 1, 10); /* this one is written at once */
    for (uint32_t i = 0; i < 100; i++) {
        harness_submit(&h, i % 4, 2, 10);
    }
    harness_run(&h);
    struct log_statistics s;
    log_statistics(h.log, &s);
    cr_assert_eq(h.durable, 202);
    cr_assert_eq(s.syncs, 3);
    harness_deinit(&h);
}

static void pass(struct harness *h, uint64_t ns)
{
    h->fake.mono_ns += ns;
    harness_run(h);
}

static uint64_t syncs(const struct harness *h)
{
    struct log_statistics s;
    log_statistics(h->log, &s);
    return s.syncs;
}

static void submit_lazy(struct harness *h, uint32_t shard)
{
    h->lazy = true;
    harness_submit(h, shard, 1, 10);
    h->lazy = false;
}

static void hurry(struct harness *h, uint32_t shard)
{
    struct mail *mail = wr_calloc(1, sizeof *mail);
    mail->kind = LOG_MAIL_HURRY;
    fake_env_deliver(&h->fake, shard, mail);
}

Test(log, a_lazy_batch_waits_for_another_but_not_for_long)
{
    struct harness h;
    open_new(&h, 3, 2, 1 << 20);
    harness_run(&h);
    submit_lazy(&h, 0);
    pass(&h, LOG_LAZY_NS / 2);
    cr_assert_eq(h.durable, 0);
    submit_lazy(&h, 1); /* does not put it off */
    pass(&h, LOG_LAZY_NS / 2 - 1);
    cr_assert_eq(h.durable, 0);
    cr_assert_leq(h.fake.wake_at, h.fake.mono_ns + 1);
    pass(&h, 1);
    cr_assert_eq(h.durable, 2);
    cr_assert_eq(syncs(&h), 1);
    submit_lazy(&h, 0);
    harness_submit(&h, 1, 1, 10); /* somebody waits for this one, and both go */
    harness_run(&h);
    cr_assert_eq(h.durable, 4);
    cr_assert_eq(syncs(&h), 2);
    harness_quiet(&h);
    harness_deinit(&h);
}

Test(log, a_lazy_batch_that_is_waited_for_waits_no_longer)
{
    struct harness h;
    open_new(&h, 4, 2, 1 << 20);
    harness_run(&h);
    hurry(&h, 1); /* nothing is there */
    submit_lazy(&h, 0);
    harness_run(&h);
    cr_assert_eq(h.durable, 0);
    hurry(&h, 1);
    harness_run(&h);
    cr_assert_eq(h.durable, 1);
    /* One that comes during a round waits from when it came. */
    harness_submit(&h, 0, 1, 10);
    submit_lazy(&h, 1);
    harness_run(&h);
    cr_assert_eq(h.durable, 2);
    pass(&h, LOG_LAZY_NS);
    cr_assert_eq(h.durable, 3);
    harness_deinit(&h);
}

struct order {
    uint32_t shards[8], count;
};

static void note_order(void *ctx, struct fake_env *from, uint32_t context, struct mail *owned_mail)
{
    struct order *order = ctx;
    (void)from;
    cr_assert_eq(owned_mail->kind, LOG_MAIL_DONE);
    order->shards[order->count++] = context;
    log_batch_free(WR_CONTAINER_OF(owned_mail, struct log_batch, mail));
}

/* Whoever is woken first may have the CPU to itself. */
Test(log, a_shard_where_somebody_waits_hears_first)
{
    struct harness h;
    struct order order = {0};
    open_new(&h, 6, 3, 1 << 20);
    harness_run(&h);
    h.fake.post = note_order;
    h.fake.post_ctx = &order;
    submit_lazy(&h, 0);
    submit_lazy(&h, 2);
    submit_lazy(&h, 0);
    pass(&h, LOG_LAZY_NS); /* for nobody: in the order in which they came */
    harness_submit(&h, 0, 1, 10);
    submit_lazy(&h, 0); /* these come during the round */
    submit_lazy(&h, 2);
    harness_submit(&h, 1, 1, 10);
    harness_submit(&h, 2, 1, 10); /* what this one has sent before comes back before, too */
    harness_run(&h);
    const uint32_t expected[] = {0, 2, 0, 0, 2, 1, 2, 0};
    cr_assert_eq(order.count, WR_ARRAY_SIZE(expected));
    cr_assert_arr_eq(order.shards, expected, sizeof expected);
    cr_assert_eq(syncs(&h), 3);
    harness_deinit(&h);
}

Test(log, a_lazy_batch_that_does_not_fit_is_written_nonetheless)
{
    struct harness h;
    open_new(&h, 5, 1, 8192);
    h.auto_release = true;
    h.lazy = true;
    for (uint32_t i = 0; i < 30; i++) {
        harness_submit(&h, 0, 5, 700);
    }
    sim_disk_fail(h.disk, SIM_FILE_WRITE, 4, 3, WR_E_NOSPACE);
    harness_quiet(&h);
    cr_assert_eq(h.durable, 150);
    harness_deinit(&h);
}

Test(log, order_kinds_and_sizes_survive_rolls_and_reopen)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct harness h;
        open_new(&h, seed, 1 + (uint32_t)(seed % 3), 8192 + 512 * (uint32_t)(seed % 7));
        h.auto_release = false;
        for (uint32_t i = 0; i < 60; i++) {
            harness_submit_random(&h, i % 10 == 0 ? 9000 : 700);
            for (uint64_t n = prng_below(&h.prng, 6); n > 0; n--) {
                (void)harness_step(&h);
            }
        }
        harness_run(&h);
        cr_assert_eq(h.durable, h.records.count);
        cr_assert_eq(h.batches_back, h.batches_out);
        const uint64_t all = h.durable;
        harness_crash(&h, false);
        cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
        cr_assert_eq(h.recovered_first, 1);
        cr_assert_eq(h.recovered_count, all);
        harness_deinit(&h);
    }
}

Test(log, record_bigger_than_a_segment_gets_one_of_its_own)
{
    struct harness h;
    open_new(&h, 3, 1, 16384);
    h.auto_release = false;
    harness_submit(&h, 0, 2, 200);
    harness_submit(&h, 0, 1, 20 << 20);
    harness_submit(&h, 0, 3, 30000);
    harness_submit(&h, 0, 1, 10);
    harness_run(&h);
    cr_assert_eq(h.durable, 7);
    harness_crash(&h, true);
    cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
    cr_assert_eq(h.recovered_count, 7);
    harness_deinit(&h);
}

Test(log, oldest_segments_are_retired_and_reused)
{
    struct harness h;
    open_new(&h, 4, 2, 8192);
    for (uint32_t i = 0; i < 300; i++) {
        harness_submit(&h, i % 2, 1, 300);
        harness_run(&h);
        struct log_statistics s;
        log_statistics(h.log, &s);
        cr_assert_leq(s.segments_live, h.options.segments_max + 1);
    }
    struct log_statistics s;
    log_statistics(h.log, &s);
    cr_assert_gt(s.segments_retired, 10);
    cr_assert_leq(count_files(&h, SEGMENT_PREFIX), h.options.segments_max + 1);
    cr_assert_leq(count_files(&h, SPARE_PREFIX), h.options.recycle_max);
    cr_assert_leq(sim_disk_used(h.disk), 8192u * (h.options.segments_max + 1 + 2));
    harness_deinit(&h);
}

Test(log, segment_stays_until_every_shard_released_it)
{
    struct harness h;
    open_new(&h, 5, 2, 8192);
    h.auto_release = false;
    while (h.retire_wanted < 3) {
        harness_submit(&h, 0, 4, 500);
        harness_run(&h);
    }
    const uint32_t files = count_files(&h, SEGMENT_PREFIX);
    for (uint32_t shard = 0; shard < 2; shard++) {
        cr_assert_eq(count_files(&h, SEGMENT_PREFIX), files);
        struct log_retire_mail *released = wr_calloc(1, sizeof(*released));
        released->mail.kind = LOG_MAIL_RELEASED;
        released->segment = 2;
        fake_env_deliver(&h.fake, shard, &released->mail);
        harness_run(&h);
    }
    cr_assert_eq(count_files(&h, SEGMENT_PREFIX), files - 2);
    /* Far too much released: the active segment stays all the same. */
    for (uint32_t shard = 0; shard < 2; shard++) {
        struct log_retire_mail *released = wr_calloc(1, sizeof(*released));
        released->mail.kind = LOG_MAIL_RELEASED;
        released->segment = 1000000;
        fake_env_deliver(&h.fake, shard, &released->mail);
    }
    harness_run(&h);
    cr_assert_leq(count_files(&h, SEGMENT_PREFIX), 2);
    harness_submit(&h, 0, 1, 10);
    harness_run(&h);
    cr_assert_eq(h.durable, h.records.count);
    harness_deinit(&h);
}

Test(log, full_disk_holds_batches_and_recovers)
{
    struct harness h;
    open_new(&h, 6, 2, 8192);
    sim_disk_set_capacity(h.disk, 2 * 8192);
    h.auto_release = false;
    for (uint32_t i = 0; i < 60; i++) {
        harness_submit(&h, i % 2, 1, 600);
        harness_run(&h);
    }
    cr_assert_lt(h.durable, 60);
    cr_assert_eq(h.blocked_mails, 2, "one per shard");
    cr_assert_eq(h.resumed_mails, 0);
    struct log_statistics s;
    log_statistics(h.log, &s);
    cr_assert(s.blocked);
    for (uint32_t i = 0; i < 20; i++) { /* still full */
        cr_assert(fake_env_sleep(&h.fake));
        harness_run(&h);
    }
    cr_assert_eq(h.blocked_mails, 2);
    cr_assert(!h.fake.stopped);
    sim_disk_set_capacity(h.disk, UINT64_MAX);
    harness_quiet(&h);
    cr_assert_eq(h.durable, 60);
    cr_assert_eq(h.resumed_mails, 2);
    log_statistics(h.log, &s);
    cr_assert(!s.blocked);
    harness_deinit(&h);
}

/* Publishers are to stop before the disk is full, so that settles can still be written. */
Test(log, low_space_is_told_before_the_disk_is_full)
{
    struct harness h;
    open_new(&h, 10, 2, 8192);
    h.options.disk_free_limit = 3 * 8192;
    h.auto_release = false;
    harness_crash(&h, false);
    cr_assert_eq(harness_open(&h), 0);
    sim_disk_set_capacity(h.disk, 6 * 8192);
    uint32_t count = 0;
    while (h.low_mails == 0 && count < 100) {
        harness_submit(&h, 0, 1, 600);
        harness_run(&h);
        count++;
    }
    cr_assert_eq(h.low_mails, 2, "one per shard");
    cr_assert_eq(h.blocked_mails, 0);
    cr_assert_eq(h.durable, count);
    harness_submit(&h, 1, 1, 600); /* a settle */
    harness_run(&h);
    cr_assert_eq(h.durable, count + 1);
    cr_assert_geq(h.cheap_mails, 2, "what nobody needs may go");
    sim_disk_set_capacity(h.disk, UINT64_MAX);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert(fake_env_sleep(&h.fake));
        harness_run(&h);
    }
    cr_assert_eq(h.low_mails, 2);
    cr_assert_eq(h.resumed_mails, 2);
    harness_deinit(&h);
}

/* The limit is set while the log runs: what is low by it counts at once, and no longer does without
 * one. */
Test(log, the_limit_of_free_space_can_be_changed)
{
    struct harness h;
    open_new(&h, 11, 2, 8192);
    sim_disk_set_capacity(h.disk, 64 * 8192);
    harness_submit(&h, 0, 1, 600);
    harness_run(&h);
    cr_assert_eq(h.low_mails, 0);
    log_set_disk_free_limit(&h.fake.env, 1024 * 8192);
    harness_run(&h);
    cr_assert_eq(h.low_mails, 2, "one per shard");
    log_set_disk_free_limit(&h.fake.env, 8192);
    harness_run(&h);
    cr_assert_eq(h.resumed_mails, 2);
    log_set_disk_free_limit(&h.fake.env, 1024 * 8192);
    harness_run(&h);
    cr_assert_eq(h.low_mails, 4);
    log_set_disk_free_limit(&h.fake.env, 0);
    harness_run(&h);
    cr_assert_eq(h.resumed_mails, 4);
    harness_deinit(&h);
}

Test(log, full_disk_is_left_by_retiring)
{
    struct harness h;
    open_new(&h, 7, 1, 8192);
    sim_disk_set_capacity(h.disk, 3 * 8192);
    h.options.segments_max = 2;
    harness_crash(&h, false);
    cr_assert_eq(harness_open(&h), 0);
    for (uint32_t i = 0; i < 200; i++) {
        harness_submit(&h, 0, 1, 600);
        harness_quiet(&h);
    }
    cr_assert_eq(h.durable, 200);
    harness_deinit(&h);
}

Test(log, no_space_for_a_big_record_holds_it)
{
    struct harness h;
    open_new(&h, 8, 1, 8192);
    sim_disk_set_capacity(h.disk, 8 * 8192);
    harness_submit(&h, 0, 1, 10);
    harness_submit(&h, 0, 1, 1 << 20);
    harness_submit(&h, 0, 1, 10);
    harness_run(&h);
    cr_assert_eq(h.durable, 1);
    cr_assert_eq(h.blocked_mails, 1);
    sim_disk_set_capacity(h.disk, UINT64_MAX);
    harness_quiet(&h);
    cr_assert_eq(h.durable, 3);
    cr_assert_eq(h.resumed_mails, 1);
    harness_deinit(&h);
}

Test(log, write_without_space_is_repeated)
{
    struct harness h;
    open_new(&h, 9, 1, 65536);
    harness_submit(&h, 0, 2, 500);
    harness_run(&h);
    sim_disk_fail(h.disk, SIM_FILE_WRITE, 1, 3, WR_E_NOSPACE);
    harness_submit(&h, 0, 2, 500);
    harness_submit(&h, 0, 2, 500);
    harness_run(&h);
    cr_assert_eq(h.durable, 2);
    harness_quiet(&h);
    cr_assert_eq(h.durable, 6);
    cr_assert_eq(h.blocked_mails, 1);
    cr_assert_eq(h.resumed_mails, 1);
    harness_crash(&h, true);
    cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
    cr_assert_eq(h.recovered_count, 6);
    harness_deinit(&h);
}

/* Each operation of a run fails once: the node stops and reports nothing that is not durable. */
Test(log, any_failing_operation_stops_the_node)
{
    const enum sim_file_op ops[] = {SIM_FILE_OPEN,   SIM_FILE_WRITE,    SIM_FILE_SYNC,
                                    SIM_FILE_RENAME, SIM_FILE_DIR_SYNC, SIM_FILE_ALLOCATE,
                                    SIM_FILE_UNLINK};
    uint32_t stops = 0;
    for (size_t i = 0; i < WR_ARRAY_SIZE(ops); i++) {
        for (uint32_t nth = 1; nth < 40; nth++) {
            struct harness h;
            open_new(&h, 100 + nth, 1, 8192);
            h.options.recycle_max = 1;
            sim_disk_fail(h.disk, ops[i], nth, 1, WR_E_IO);
            uint64_t at_stop = 0;
            bool stopped = false;
            for (uint32_t n = 0; n < 50; n++) {
                harness_submit(&h, 0, 1, 700);
                for (uint32_t k = 0; k < 3; k++) {
                    (void)harness_step(&h);
                    if (h.fake.stopped && !stopped) {
                        stopped = true;
                        at_stop = h.durable;
                    }
                }
            }
            harness_quiet(&h);
            if (stopped) {
                stops++;
                cr_assert_eq(h.durable, at_stop, "reported after the failure");
                cr_assert_eq(h.fake.exit_code, 1);
                cr_assert_neq(h.fake.stop_why[0], 0);
            } else {
                cr_assert_eq(h.durable, h.records.count);
            }
            sim_disk_fail(h.disk, ops[i], 0, 0, 0);
            harness_crash(&h, nth % 2 == 0);
            cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
            harness_submit(&h, 0, 3, 100);
            harness_quiet(&h);
            cr_assert_eq(h.durable, h.records.count);
            harness_deinit(&h);
        }
    }
    cr_assert_gt(stops, 50);
}

/* After a failed sync the cache shows what the disk does not have: a restart must not believe it.
 */
Test(log, failed_sync_is_not_believed_after_restart)
{
    uint32_t lost = 0;
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct harness h;
        open_new(&h, seed, 1, 65536);
        harness_submit(&h, 0, 2, 300);
        harness_run(&h);
        sim_disk_fail(h.disk, SIM_FILE_SYNC, 1, 1, WR_E_IO);
        harness_submit(&h, 0, 4, 3000);
        harness_run(&h);
        cr_assert(h.fake.stopped);
        cr_assert_eq(h.durable, 2);
        harness_crash(&h, false);
        cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
        const uint64_t believed = h.durable;
        lost += believed == 2 ? 1 : 0;
        harness_crash(&h, true);
        cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
        cr_assert_geq(h.durable, believed);
        harness_deinit(&h);
    }
    cr_assert_gt(lost, 100, "the fault must bite");
}

Test(log, sync_off_reports_after_the_write_and_syncs_ends_only)
{
    struct harness h;
    harness_init(&h, 11, 1, 8192);
    h.options.sync = false;
    h.auto_release = false;
    cr_assert_eq(harness_open(&h), 0);
    for (uint32_t i = 0; i < 40; i++) {
        harness_submit(&h, 0, 1, 400);
        harness_run(&h);
    }
    struct log_statistics s;
    log_statistics(h.log, &s);
    cr_assert_eq(h.durable, 40);
    cr_assert_eq(s.syncs, s.segments_live - 1);
    harness_crash(&h, false);
    cr_assert_eq(harness_open(&h), 0, "%s", h.errmsg);
    cr_assert_eq(h.recovered_count, 40);
    harness_deinit(&h);
}

Test(log, submit_and_release_post_to_the_log_context)
{
    struct fake_env shard;
    fake_env_init(&shard, 1, 0, 3, NULL, NULL);
    struct log_batch *batch = log_batch_new();
    for (uint64_t i = 0; i < 100; i++) {
        log_batch_add(batch, &(struct log_item){.kind = LOG_TRUNCATE, .index = i});
    }
    log_submit(&shard.env, batch);
    log_release(&shard.env, 7);
    log_hurry(&shard.env);
    cr_assert_eq(shard.mailboxes[2].count, 3);
    cr_assert_eq(shard.mailboxes[2].head->kind, LOG_MAIL_BATCH);
    fake_env_deinit(&shard); /* destroys them: no leak */
}

Test(log, same_seed_same_disk)
{
    uint32_t hash[2];
    for (uint32_t run = 0; run < 2; run++) {
        struct harness h;
        open_new(&h, 77, 2, 8192);
        for (uint32_t i = 0; i < 100; i++) {
            harness_submit_random(&h, 2000);
            (void)harness_step(&h);
        }
        harness_crash(&h, true);
        hash[run] = sim_disk_hash(h.disk);
        harness_deinit(&h);
    }
    cr_assert_eq(hash[0], hash[1]);
}
