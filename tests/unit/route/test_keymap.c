/*
 * What: the persistent map of keyed values against a plain array, with hashes that collide in all
 * or many bits; old versions; the shape follows from the content.
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "warren/map.h"
#include "warren/mem.h"
#include "warren/prng.h"

/* The code under test, with a hash of our choice and names of its own. */
static uint64_t hash_mask;
static uint64_t hash_shift;

static uint64_t weak_hash_bytes(struct hash_seed seed, struct bytes key)
{
    return (hash_bytes(seed, key) & hash_mask) << hash_shift;
}

#define hash_bytes    weak_hash_bytes
#define keymap_hash   weak_keymap_hash
#define keymap_get    weak_keymap_get
#define keymap_set    weak_keymap_set
#define keymap_remove weak_keymap_remove
#define keymap_sole   weak_keymap_sole
#define keymap_ref    weak_keymap_ref
#define keymap_unref  weak_keymap_unref
#include "keymap.c"

struct item {
    struct keyed keyed;
    int number;
    char key[16];
};

static int live;

static void item_free(struct pref *owned_ref)
{
    live--;
    wr_free(owned_ref);
}

static struct item *item_new(int number, int key)
{
    struct item *item = wr_calloc(1, sizeof(*item));
    pref_init(&item->keyed.ref, item_free);
    item->number = number;
    snprintf(item->key, sizeof(item->key), "key%d", key);
    item->keyed.key_offset = offsetof(struct item, key);
    item->keyed.key_size = (uint16_t)strlen(item->key);
    live++;
    return item;
}

static int number_of(const struct keymap *map, int key)
{
    char text[16];
    snprintf(text, sizeof(text), "key%d", key);
    const struct bytes b = bytes_from_cstr(text);
    const struct item *item = (const struct item *)keymap_get(map, keymap_hash(b), b);
    return item == NULL ? -1 : item->number;
}

/* K2, dense or sparse by the count, and the number of values. */
static uint32_t check_node(const struct keymap *node, bool root, uint32_t level)
{
    uint32_t values = 0;
    uint32_t children = 0;
    for (uint32_t i = 0; i < node_size(node); i++) {
        const child_t child = node->children[i];
        children += child.bits != 0;
        if (is_value(child)) {
            values++;
        } else if (child.bits != 0) {
            cr_assert_eq((child.bits & TAG_DENSE) != 0, as_node(child)->dense);
            values += check_node(as_node(child), false, level + 1);
        }
    }
    cr_assert_eq(children, node->count);
    cr_assert_eq(node->dense, level < LEVEL_COLLISION && node->count > SPARSE_MAX);
    cr_assert(root || values >= 2);
    return values;
}

enum { KEY_COUNT = 300 };

static void random_changes(uint64_t seed, uint64_t mask, uint64_t shift)
{
    struct prng p;
    prng_init(&p, seed);
    hash_mask = mask;
    hash_shift = shift;
    int model[KEY_COUNT];
    int old_model[KEY_COUNT];
    struct keymap *map = NULL;
    struct keymap *old = NULL;
    memset(model, -1, sizeof(model));
    memset(old_model, -1, sizeof(old_model));
    uint32_t count = 0;
    for (int round = 0; round < 3000; round++) {
        const int key = (int)prng_below(&p, round % 600 < 300 ? KEY_COUNT : 20);
        struct keymap *after = NULL;
        if (model[key] >= 0 && prng_ratio(&p, 2, 3)) {
            char text[16];
            snprintf(text, sizeof(text), "key%d", key);
            const struct bytes b = bytes_from_cstr(text);
            after = keymap_remove(map, keymap_hash(b), b);
            model[key] = -1;
            count--;
        } else {
            struct item *item = item_new(round, key);
            after = keymap_set(map, keymap_hash(keyed_key(&item->keyed)), &item->keyed);
            pref_unref(&item->keyed.ref);
            count += model[key] < 0;
            model[key] = round;
        }
        keymap_unref(map);
        map = after;
        cr_assert_eq(map == NULL ? 0 : check_node(map, true, 0), count);
        cr_assert_eq(keymap_sole(map) != NULL, count == 1);
        for (int i = 0; i < KEY_COUNT && round % 50 == 0; i++) {
            cr_assert_eq(number_of(map, i), model[i]);
            cr_assert_eq(number_of(old, i), old_model[i]);
        }
        if (round % 500 == 0) {
            keymap_unref(old);
            old = keymap_ref(map);
            memcpy(old_model, model, sizeof(model));
        }
    }
    keymap_unref(map);
    keymap_unref(old);
    cr_assert_eq(live, 0);
}

Test(keymap, agrees_with_an_array)
{
    random_changes(1, UINT64_MAX, 0);
}

Test(keymap, hashes_that_differ_in_few_bits)
{
    random_changes(2, 0x0f, 0);
    random_changes(3, 0xff, 20);
    random_changes(4, 0x0f, 60); /* in the last level only */
}

Test(keymap, hashes_that_are_all_the_same)
{
    random_changes(5, 0, 0);
    random_changes(6, 1, 63);
}
