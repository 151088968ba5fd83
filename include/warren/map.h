/*
 * What: hash maps with a secret seed (clients choose keys) and iteration in order of insertion, so
 * that nothing observable depends on the seed. `struct map`: keys are bytes, copied. `struct umap`:
 * keys are uint64_t. Values are void pointers, the caller's. All operations O(1) amortised.
 * Iteration: the body may remove the current item and may insert (what is inserted is visited too);
 * it must not remove other items. Putting a new value for a key keeps the key's place in the order.
 */
#ifndef WR_MAP_H
#define WR_MAP_H

#include "warren/bytes.h"

struct hash_seed {
    uint64_t k0;
    uint64_t k1;
};

/* SipHash-1-3 of the bytes. */
uint64_t hash_bytes(struct hash_seed seed, struct bytes b);

/* A seeded mix of one integer. */
static inline uint64_t hash_u64(struct hash_seed seed, uint64_t key)
{
    __extension__ typedef unsigned __int128 wide;
    const wide a = (wide)(key ^ seed.k0) * UINT64_C(0x9e3779b97f4a7c15);
    const uint64_t folded = (uint64_t)a ^ (uint64_t)(a >> 64) ^ seed.k1;
    const wide b = (wide)folded * UINT64_C(0xd6e8feb86659fd93);
    return (uint64_t)b ^ (uint64_t)(b >> 64);
}

/* One item; its address is stable until it is removed. Read only, but `value` may be assigned. */
struct map_item {
    struct map_item *prev;
    struct map_item *next;
    void *value;
    uint64_t hash;
    size_t key_size;
    uint8_t key[];
};

struct map {
    struct map_item **slots; /* Open addressing, linear probing; NULL while empty. */
    uint32_t mask;           /* Slots minus one. */
    uint32_t count;
    struct map_item *first;
    struct map_item *last;
    uint32_t removals; /* Changes with every removal: tells a cursor that its item is gone. */
    struct hash_seed seed;
};

/* An empty map; allocates nothing. */
void map_init(struct map *m, struct hash_seed seed);

/* Free items and slots, not what the values point to. The map is then empty and usable. */
void map_deinit(struct map *m);

/* The value of a key, or NULL. */
void *map_get(const struct map *m, struct bytes key);

/* The item of a key, or NULL. */
struct map_item *map_find(const struct map *m, struct bytes key);

/* Set; returns the value that was there before, or NULL. The key is copied. value may be NULL only
 * when the caller uses map_find to ask. */
void *map_put(struct map *m, struct bytes key, void *value);

/* Find the item or insert one with value NULL; *ret_new (may be NULL) tells which. */
struct map_item *map_entry(struct map *m, struct bytes key, bool *ret_new);

/* Remove; returns the value that was there, or NULL. */
void *map_remove(struct map *m, struct bytes key);

/* Remove an item that is in this map; returns its value. */
void *map_remove_item(struct map *m, struct map_item *item);

static inline struct bytes map_key(const struct map_item *item)
{
    return (struct bytes){item->key, item->key_size};
}

/* Cursor that survives removal of the current item: `item` is the current one, `value` its value.
 */
struct map_iter {
    const struct map *map;
    struct map_item *item;
    void *value;
    struct map_item *prev; /* The item before the current one, to go on from when it is removed. */
    uint32_t removals;
};

/* Start before the first item; map_next moves on and is false at the end (then do not go on).
 * for (struct map_iter it = map_iterate(m); map_next(&it);) { map_key(it.item), it.value } */
static inline struct map_iter map_iterate(const struct map *m)
{
    return (struct map_iter){m, NULL, NULL, NULL, m->removals};
}

bool map_next(struct map_iter *it);

/* Integers. */

#define UMAP_NONE UINT32_MAX

struct umap_item {
    uint64_t key;
    void *value;
    uint32_t prev; /* Neighbours in order of insertion, or UMAP_NONE. next also links free items. */
    uint32_t next;
};

struct umap {
    struct umap_item *items;
    uint32_t *slots; /* Item index plus one; 0 = empty. */
    uint32_t mask;   /* Slots minus one. */
    uint32_t count;
    uint32_t items_used; /* Items ever used: what follows is untouched memory. */
    uint32_t items_capacity;
    uint32_t free; /* First free item, or UMAP_NONE. */
    uint32_t first;
    uint32_t last;
    uint32_t removals; /* Changes with every removal: tells a cursor that its item is gone. */
    struct hash_seed seed;
};

void umap_init(struct umap *m, struct hash_seed seed);

/* Free all memory, not what the values point to. The map is then empty and usable. */
void umap_deinit(struct umap *m);

/* The value of a key, or NULL. */
void *umap_get(const struct umap *m, uint64_t key);

/* True when the key is there (for maps that keep NULL values). */
bool umap_contains(const struct umap *m, uint64_t key);

/* Set; returns the value before, or NULL. */
void *umap_put(struct umap *m, uint64_t key, void *value);

/* Where the value of the key is, inserted as NULL if new (*ret_new, may be NULL, tells); valid
 * until the next insertion. */
void **umap_entry(struct umap *m, uint64_t key, bool *ret_new);

/* Remove; returns the value that was there, or NULL. */
void *umap_remove(struct umap *m, uint64_t key);

struct umap_iter {
    const struct umap *map;
    uint64_t key;
    void *value;
    uint32_t index; /* Current item. */
    uint32_t prev;  /* The one before it. */
    uint32_t removals;
};

static inline struct umap_iter umap_iterate(const struct umap *m)
{
    return (struct umap_iter){m, 0, NULL, UMAP_NONE, UMAP_NONE, m->removals};
}

bool umap_next(struct umap_iter *it);

#endif
