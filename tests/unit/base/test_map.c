/* Hash maps against a naive model; order of iteration; removal while iterating. */
#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/map.h"
#include "warren/prng.h"

static const struct hash_seed seed = {1, 2};

/* Key 00 01 .. 0f, input 00 01 ..: the first outputs of the published table for SipHash-1-3. */
Test(map, hash_is_siphash_1_3)
{
    static const struct hash_seed key = {UINT64_C(0x0706050403020100),
                                         UINT64_C(0x0f0e0d0c0b0a0908)};
    static const uint8_t data[] = {0, 1};
    static const uint64_t expected[] = {UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93),
                                        UINT64_C(0x82cb9b024dc7d44d)};
    for (size_t size = 0; size < 3; size++) {
        cr_assert_eq(hash_bytes(key, bytes_make(data, size)), expected[size]);
    }
    static const struct hash_seed zero = {0, 0};
    cr_assert_eq(hash_bytes(zero, BYTES_LITERAL("siphash")), UINT64_C(0x8264ceeccb16bcbe));
}

Test(map, hash_depends_on_every_byte_size_and_seed)
{
    uint8_t data[40] = {0};
    for (size_t size = 0; size <= sizeof(data); size++) {
        const uint64_t whole = hash_bytes(seed, bytes_make(data, size));
        for (size_t i = 0; i < size; i++) {
            data[i] ^= 1;
            cr_assert_neq(hash_bytes(seed, bytes_make(data, size)), whole);
            data[i] ^= 1;
        }
        if (size > 0) {
            cr_assert_neq(hash_bytes(seed, bytes_make(data, size - 1)), whole);
        }
        cr_assert_neq(hash_bytes((struct hash_seed){1, 3}, bytes_make(data, size)), whole);
    }
}

static struct bytes key_of(uint64_t number, char text[24])
{
    const int size = snprintf(text, 24, "key-%llu", (unsigned long long)number);
    return bytes_make(text, (size_t)size);
}

enum { KEYS = 500 };

Test(map, behaves_like_a_plain_array)
{
    static void *model[KEYS];
    static int values[1000];
    struct prng p;
    prng_init(&p, 11);
    struct map m;
    map_init(&m, seed);
    uint32_t count = 0;
    char text[24];
    for (int round = 0; round < 100000; round++) {
        const uint64_t k = prng_below(&p, KEYS);
        const struct bytes key = key_of(k, text);
        /* Long phases of mostly adding and mostly removing. */
        if (prng_ratio(&p, (round / 5000) % 2 == 0 ? 3 : 1, 4)) {
            void *value = &values[prng_below(&p, 1000)];
            count += model[k] == NULL;
            cr_assert_eq(map_put(&m, key, value), model[k]);
            model[k] = value;
        } else {
            count -= model[k] != NULL;
            cr_assert_eq(map_remove(&m, key), model[k]);
            model[k] = NULL;
        }
        const uint64_t probe = prng_below(&p, KEYS);
        cr_assert_eq(map_get(&m, key_of(probe, text)), model[probe]);
        cr_assert_eq(m.count, count);
    }
    for (uint64_t k = 0; k < KEYS; k++) {
        cr_assert_eq(map_get(&m, key_of(k, text)), model[k]);
    }
    map_deinit(&m);
    cr_assert_eq(m.count, 0);
    cr_assert_null(map_get(&m, BYTES_LITERAL("key-1")));
    map_deinit(&m);
}

/* Order is that of insertion, whatever the seed, and a second put keeps the place. */
Test(map, iterates_in_order_of_insertion)
{
    for (uint64_t s = 0; s < 20; s++) {
        struct map m;
        char text[24];
        int value;
        map_init(&m, (struct hash_seed){s, s * 7});
        for (uint64_t k = 0; k < 100; k++) {
            map_put(&m, key_of(k * 31 % 100, text), &value);
        }
        map_put(&m, key_of(0, text), &value);
        uint64_t k = 0;
        for (struct map_iter it = map_iterate(&m); map_next(&it); k++) {
            cr_assert(bytes_eq(map_key(it.item), key_of(k * 31 % 100, text)));
        }
        cr_assert_eq(k, 100);
        map_deinit(&m);
    }
}

Test(map, current_item_may_be_removed_and_others_inserted)
{
    struct map m;
    char text[24];
    static int value;
    map_init(&m, seed);
    for (uint64_t k = 0; k < 50; k++) {
        map_put(&m, key_of(k, text), &value);
    }
    uint64_t visited = 0;
    for (struct map_iter it = map_iterate(&m); map_next(&it);) {
        cr_assert(bytes_eq(map_key(it.item), key_of(visited, text)));
        /* Remove two of three, the last ones too; each removal inserts one while numbers last. */
        if (visited % 3 != 0 || visited >= 98) {
            cr_assert_eq(map_remove_item(&m, it.item), &value);
            if (m.count + visited < 200 && visited < 60) {
                map_put(&m, key_of(50 + (visited - visited / 3 - 1), text), &value);
            }
        }
        visited++;
    }
    cr_assert_gt(visited, 80);
    map_deinit(&m);
}

Test(map, removing_everything_while_iterating)
{
    struct map m;
    char text[24];
    static int value;
    map_init(&m, seed);
    for (uint64_t k = 0; k < 1000; k++) {
        map_put(&m, key_of(k, text), &value);
    }
    unsigned visited = 0;
    for (struct map_iter it = map_iterate(&m); map_next(&it); visited++) {
        cr_assert_eq(it.value, &value);
        map_remove_item(&m, it.item);
    }
    cr_assert_eq(visited, 1000);
    cr_assert_eq(m.count, 0);
    map_deinit(&m);
}

Test(map, entry_tells_new_from_old_and_empty_keys_work)
{
    struct map m;
    bool new;
    map_init(&m, seed);
    cr_assert_null(map_find(&m, BYTES_NONE));
    struct map_item *item = map_entry(&m, BYTES_NONE, &new);
    cr_assert(new);
    cr_assert_null(item->value);
    cr_assert_eq(map_entry(&m, BYTES_NONE, &new), item);
    cr_assert_not(new);
    cr_assert_eq(map_find(&m, BYTES_LITERAL("")), item);
    cr_assert_null(map_remove(&m, BYTES_LITERAL("x")));
    map_deinit(&m);
}

Test(umap, behaves_like_a_plain_array)
{
    static void *model[KEYS];
    static int values[1000];
    struct prng p;
    prng_init(&p, 12);
    struct umap m;
    umap_init(&m, seed);
    uint32_t count = 0;
    for (int round = 0; round < 100000; round++) {
        const uint64_t k = prng_below(&p, KEYS);
        if (prng_ratio(&p, (round / 5000) % 2 == 0 ? 3 : 1, 4)) {
            void *value = &values[prng_below(&p, 1000)];
            count += model[k] == NULL;
            cr_assert_eq(umap_put(&m, k << 40, value), model[k]);
            model[k] = value;
        } else {
            count -= model[k] != NULL;
            cr_assert_eq(umap_remove(&m, k << 40), model[k]);
            model[k] = NULL;
        }
        const uint64_t probe = prng_below(&p, KEYS);
        cr_assert_eq(umap_get(&m, probe << 40), model[probe]);
        cr_assert_eq(umap_contains(&m, probe << 40), model[probe] != NULL);
        cr_assert_eq(m.count, count);
    }
    umap_deinit(&m);
    cr_assert_null(umap_get(&m, 0));
    umap_deinit(&m);
}

Test(umap, iterates_in_order_of_insertion_also_after_removals)
{
    struct umap m;
    static int value;
    umap_init(&m, seed);
    for (uint64_t k = 0; k < 100; k++) {
        umap_put(&m, k, &value);
    }
    for (uint64_t k = 0; k < 100; k += 2) {
        umap_remove(&m, k);
    }
    /* These reuse the free places, but come last. */
    for (uint64_t k = 200; k < 250; k++) {
        umap_put(&m, k, NULL);
    }
    uint64_t expected = 1;
    for (struct umap_iter it = umap_iterate(&m); umap_next(&it);) {
        cr_assert_eq(it.key, expected);
        cr_assert_eq(it.value, expected < 100 ? &value : NULL);
        expected = expected < 99 ? expected + 2 : expected == 99 ? 200 : expected + 1;
    }
    cr_assert_eq(expected, 250);
    cr_assert(umap_contains(&m, 249));
    umap_deinit(&m);
}

/* The freed place is reused at once by what the body inserts: the cursor must not be confused. */
Test(umap, body_may_replace_the_current_item)
{
    struct umap m;
    static int value;
    umap_init(&m, seed);
    umap_put(&m, 0, &value);
    umap_put(&m, 1, &value);
    uint64_t expected = 0;
    for (struct umap_iter it = umap_iterate(&m); umap_next(&it); expected++) {
        cr_assert_eq(it.key, expected);
        cr_assert_eq(umap_remove(&m, it.key), &value);
        if (it.key < 500) {
            bool new;
            *umap_entry(&m, it.key + 2, &new) = &value;
            cr_assert(new);
        }
    }
    cr_assert_eq(expected, 502);
    cr_assert_eq(m.count, 0);
    umap_deinit(&m);
}
