/* What: the simulated disk and store keep the promises of their headers; what is built on them is
 * worth no more than this. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "sim_file.h"
#include "sim_kv.h"

#include "warren/err.h"

static void write_all(struct sim_disk *disk, struct sim_handle *handle, const void *data,
                      uint32_t size, uint64_t offset, bool sync)
{
    struct sim_file_done done;
    struct slice slice = slice_copy(data, size);
    sim_file_write(handle, &slice, 1, offset, 1);
    cr_assert(sim_disk_step(disk, &done));
    cr_assert_eq(done.result, size);
    if (sync) {
        sim_file_sync(handle, 2);
        cr_assert(sim_disk_step(disk, &done));
        cr_assert_eq(done.result, 0);
    }
}

static struct sim_handle *create(struct sim_disk *disk, const char *path)
{
    struct sim_handle *handle;
    cr_assert_eq(sim_dir_make(disk, "/d"), 0);
    cr_assert_eq(
        sim_file_open(disk, path, ENV_OPEN_READ | ENV_OPEN_WRITE | ENV_OPEN_CREATE, NULL, &handle),
        0);
    return handle;
}

Test(sim_file, synced_stays_and_unsynced_may_do_anything_but_touch_it)
{
    uint32_t kept = 0, dropped = 0, torn = 0;
    for (uint64_t seed = 0; seed < 500; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct sim_handle *handle = create(disk, "/d/a");
        uint8_t old[2048], new[2048], zero[1024] = {0};
        memset(old, 'o', sizeof(old));
        memset(new, 'n', sizeof(new));
        write_all(disk, handle, old, 2048, 0, true);
        cr_assert_eq(sim_dir_sync(disk, "/d"), 0);
        write_all(disk, handle, new, 2048, 1024, false); /* half of it over what is synced */
        struct buf *cache = sim_disk_get(disk, "/d/a");
        cr_assert_eq(memcmp(cache->data + 1024, new, 2048), 0);
        buf_unref(cache);
        sim_disk_crash(disk);
        struct buf *left = sim_disk_get(disk, "/d/a");
        cr_assert_eq(memcmp(left->data, old, 1024), 0);
        if (left->size == 3072 && memcmp(left->data + 1024, new, 2048) == 0) {
            kept++;
        } else if (memcmp(left->data + 1024, old, 1024) == 0 &&
                   (left->size == 2048 ||
                    memcmp(left->data + 2048, zero, left->size - 2048) == 0)) {
            dropped++;
        } else {
            torn++;
        }
        buf_unref(left);
        sim_disk_free(disk);
    }
    cr_assert_gt(kept, 30);
    cr_assert_gt(dropped, 30);
    cr_assert_gt(torn, 200);
}

Test(sim_file, sync_covers_only_what_had_completed)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct sim_handle *handle = create(disk, "/d/a");
    struct sim_file_done done;
    cr_assert_eq(sim_dir_sync(disk, "/d"), 0);
    sim_file_sync(handle, 1);
    struct slice slice = slice_copy("x", 1);
    sim_file_write(handle, &slice, 1, 0, 2);
    while (sim_disk_step(disk, &done)) {
    }
    struct buf *durable = sim_disk_get_durable(disk, "/d/a");
    cr_assert_eq(durable->size, 0);
    buf_unref(durable);
    sim_disk_free(disk);
}

Test(sim_file, names_need_a_directory_sync)
{
    uint32_t lost = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct sim_handle *handle = create(disk, "/d/a");
        write_all(disk, handle, "x", 1, 0, true);
        cr_assert_null(sim_disk_get_durable(disk, "/d/a"));
        cr_assert_eq(sim_dir_sync(disk, "/d"), 0);
        cr_assert_eq(sim_file_rename(disk, "/d/a", "/d/b"), 0);
        sim_disk_crash(disk);
        struct buf *a = sim_disk_get(disk, "/d/a");
        struct buf *b = sim_disk_get(disk, "/d/b");
        cr_assert_neq(a == NULL, b == NULL, "old or new, never neither");
        lost += a != NULL ? 1 : 0;
        buf_unref(a);
        buf_unref(b);
        sim_disk_free(disk);
    }
    cr_assert(lost > 10 && lost < 90);
}

Test(sim_file, failed_sync_forgets)
{
    struct sim_disk *disk = sim_disk_new(3);
    struct sim_handle *handle = create(disk, "/d/a");
    struct sim_file_done done;
    uint8_t data[8192];
    memset(data, 'n', sizeof(data));
    cr_assert_eq(sim_dir_sync(disk, "/d"), 0);
    write_all(disk, handle, data, sizeof(data), 0, false);
    sim_disk_fail(disk, SIM_FILE_SYNC, 1, 1, WR_E_IO);
    sim_file_sync(handle, 1);
    cr_assert(sim_disk_step(disk, &done));
    cr_assert_eq(done.result, WR_E_IO);
    sim_file_sync(handle, 1);
    cr_assert(sim_disk_step(disk, &done));
    cr_assert_eq(done.result, 0);
    struct buf *durable = sim_disk_get_durable(disk, "/d/a");
    cr_assert(durable->size < sizeof(data) || memcmp(durable->data, data, sizeof(data)) != 0);
    struct buf *cache = sim_disk_get(disk, "/d/a");
    cr_assert_eq(memcmp(cache->data, data, sizeof(data)), 0);
    buf_unref(durable);
    buf_unref(cache);
    sim_disk_free(disk);
}

Test(sim_file, capacity_holds)
{
    struct sim_disk *disk = sim_disk_new(4);
    struct sim_handle *handle = create(disk, "/d/a");
    sim_disk_set_capacity(disk, 1000);
    cr_assert_eq(sim_file_allocate(handle, 1001), WR_E_NOSPACE);
    cr_assert_eq(sim_file_allocate(handle, 900), 0);
    cr_assert_eq(sim_disk_free_bytes(disk), 100);
    cr_assert_eq(sim_file_unlink(disk, "/d/a"), 0);
    sim_file_close(handle);
    cr_assert_eq(sim_dir_sync(disk, "/d"), 0);
    cr_assert_eq(sim_disk_used(disk), 0);
    sim_disk_free(disk);
}

/* --- store ----------------------------------------------------------------------------------- */

static struct slice key_of(uint64_t n)
{
    char text[32];
    return slice_copy(text, (size_t)snprintf(text, sizeof(text), "%05llu", (unsigned long long)n));
}

#define KEYS 50u

/* Batches of random puts, deletes and range deletes against an array; after a crash the state is
 * that after some prefix of the batches, at least those that were flushed. */
Test(sim_kv, crash_keeps_a_prefix_that_covers_the_flush)
{
    for (uint64_t seed = 0; seed < 300; seed++) {
        static uint32_t states[41][KEYS]; /* after batch i: value of each key, 0 = none */
        struct prng p;
        struct sim_kv_done done;
        prng_init(&p, seed);
        struct sim_kv *kv = sim_kv_new(seed);
        uint32_t flushed = 0;
        memset(states, 0, sizeof(states));
        for (uint32_t i = 1; i <= 40; i++) {
            struct kv_op ops[4];
            memcpy(states[i], states[i - 1], sizeof(states[i]));
            for (uint32_t k = 0; k < 4; k++) {
                const uint32_t key = (uint32_t)prng_below(&p, KEYS);
                const uint32_t end = key + (uint32_t)prng_below(&p, 6);
                const uint32_t value = i * 10 + k;
                const uint64_t draw = prng_below(&p, 4);
                if (draw < 2) {
                    ops[k] = (struct kv_op){KV_PUT, key_of(key), slice_copy(&value, 4)};
                    states[i][key] = value;
                } else if (draw == 2) {
                    ops[k] = (struct kv_op){KV_DELETE, key_of(key), SLICE_NONE};
                    states[i][key] = 0;
                } else {
                    ops[k] = (struct kv_op){KV_DELETE_RANGE, key_of(key), key_of(end)};
                    for (uint32_t n = key; n < end && n < KEYS; n++) {
                        states[i][n] = 0;
                    }
                }
            }
            sim_kv_write(kv, NULL, ops, 4, i);
            if (prng_ratio(&p, 1, 5)) {
                sim_kv_flush(kv, NULL, 1000 + i);
            }
            while (prng_ratio(&p, 2, 3) && sim_kv_step(kv, &done)) {
                if (done.op == SIM_KV_FLUSH) {
                    flushed = (uint32_t)done.token - 1000 > flushed ? (uint32_t)done.token - 1000
                                                                    : flushed;
                }
            }
        }
        sim_kv_crash(kv);
        uint32_t state[KEYS] = {0};
        for (uint32_t n = 0; n < KEYS; n++) {
            struct slice key = key_of(n), value;
            if (sim_kv_get_now(kv, key, &value) == 0) {
                memcpy(&state[n], slice_data(&value), 4);
                slice_unref(&value);
            }
            slice_unref(&key);
        }
        bool found = false;
        for (uint32_t i = flushed; i <= 40 && !found; i++) {
            found = memcmp(state, states[i], sizeof(state)) == 0;
        }
        cr_assert(found, "seed %llu: no prefix from %u on", (unsigned long long)seed, flushed);
        sim_kv_free(kv);
    }
}

Test(sim_kv, get_and_scan)
{
    struct sim_kv *kv = sim_kv_new(1);
    struct sim_kv_done done;
    struct kv_op ops[100];
    for (uint32_t i = 0; i < 100; i++) {
        ops[i] = (struct kv_op){KV_PUT, key_of(i * 2), slice_copy("0123456789", 10)};
    }
    sim_kv_write(kv, NULL, ops, 100, 1);
    struct slice keys[2] = {key_of(4), key_of(5)};
    sim_kv_get(kv, &done, keys, 2, 2);
    sim_kv_scan(kv, NULL, key_of(10), key_of(50), 7, 1000000, 3);
    sim_kv_scan(kv, NULL, key_of(10), key_of(50), 1000, 30, 4);
    sim_kv_scan(kv, NULL, key_of(10), key_of(50), 1000, 1000000, 5);
    sim_kv_fail(kv, SIM_KV_FLUSH, 1, 1, WR_E_IO);
    sim_kv_flush(kv, NULL, 6);
    while (sim_kv_step(kv, &done)) {
        cr_assert_eq(done.result, done.token == 6 ? WR_E_IO : 0);
        if (done.token == 2) {
            cr_assert_eq(done.user, &done);
            cr_assert_eq(done.owned_reply->count, 2);
            cr_assert_not_null(done.owned_reply->pairs[0].value.buf);
            cr_assert_null(done.owned_reply->pairs[1].value.buf);
        } else if (done.token == 3) {
            cr_assert_eq(done.owned_reply->count, 7);
            cr_assert(done.owned_reply->more);
        } else if (done.token == 4) {
            cr_assert_eq(done.owned_reply->count, 2);
            cr_assert(done.owned_reply->more);
        } else if (done.token == 5) {
            cr_assert_eq(done.owned_reply->count, 20);
            cr_assert(!done.owned_reply->more);
        }
        kv_reply_free(done.owned_reply);
    }
    cr_assert_eq(sim_kv_count(kv), 100);
    sim_kv_wipe(kv);
    cr_assert_eq(sim_kv_count(kv), 0);
    sim_kv_free(kv);
}
