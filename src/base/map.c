/*
 * What: hash map from bytes to pointers: items on the heap, linked in order of insertion, found
 * through a table with linear probing that is at most half full. Invariants: I1 an item is reached
 * from its home slot without crossing an empty slot (removal shifts back instead of leaving
 * tombstones). I2 the list holds exactly the items of the table. Ownership: items and slots are the
 * map's; values the caller's. Spec: SipHash-1-3 (Aumasson, Bernstein): one compression and three
 * finalisation rounds.
 */
#include "warren/map.h"

#define MAP_SLOTS_MIN 8

static uint64_t rotate_left(uint64_t x, unsigned bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[2] += v[3];
    v[1] = rotate_left(v[1], 13) ^ v[0];
    v[3] = rotate_left(v[3], 16) ^ v[2];
    v[0] = rotate_left(v[0], 32);
    v[2] += v[1];
    v[0] += v[3];
    v[1] = rotate_left(v[1], 17) ^ v[2];
    v[3] = rotate_left(v[3], 21) ^ v[0];
    v[2] = rotate_left(v[2], 32);
}

uint64_t hash_bytes(struct hash_seed seed, struct bytes b)
{
    uint64_t v[4] = {
        seed.k0 ^ UINT64_C(0x736f6d6570736575),
        seed.k1 ^ UINT64_C(0x646f72616e646f6d),
        seed.k0 ^ UINT64_C(0x6c7967656e657261),
        seed.k1 ^ UINT64_C(0x7465646279746573),
    };
    size_t at = 0;
    for (; b.size - at >= 8; at += 8) {
        const uint64_t word = bytes_load_le64(b.data + at);
        v[3] ^= word;
        sip_round(v);
        v[0] ^= word;
    }
    /* The last word: what is left, and the size in the top byte. */
    uint64_t word = (uint64_t)b.size << 56;
    for (unsigned shift = 0; at < b.size; at++, shift += 8) {
        word |= (uint64_t)b.data[at] << shift;
    }
    v[3] ^= word;
    sip_round(v);
    v[0] ^= word;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void map_init(struct map *m, struct hash_seed seed)
{
    *m = (struct map){.seed = seed};
}

void map_deinit(struct map *m)
{
    for (struct map_item *item = m->first; item != NULL;) {
        struct map_item *next = item->next;
        wr_free(item);
        item = next;
    }
    wr_free(m->slots);
    map_init(m, m->seed);
}

static bool item_is(const struct map_item *item, uint64_t hash, struct bytes key)
{
    return item->hash == hash && bytes_eq(map_key(item), key);
}

/* The slot that holds the key, or the empty one where it belongs. Needs slots. */
static uint32_t find_slot(const struct map *m, uint64_t hash, struct bytes key)
{
    uint32_t slot = (uint32_t)hash & m->mask;
    while (m->slots[slot] != NULL && !item_is(m->slots[slot], hash, key)) {
        slot = (slot + 1) & m->mask;
    }
    return slot;
}

static void resize(struct map *m, uint32_t slots_count)
{
    struct map_item **slots = wr_calloc(slots_count, sizeof(struct map_item *));
    const uint32_t mask = slots_count - 1;
    for (struct map_item *item = m->first; item != NULL; item = item->next) {
        uint32_t slot = (uint32_t)item->hash & mask;
        while (slots[slot] != NULL) {
            slot = (slot + 1) & mask;
        }
        slots[slot] = item;
    }
    wr_free(m->slots);
    m->slots = slots;
    m->mask = mask;
}

struct map_item *map_find(const struct map *m, struct bytes key)
{
    if (m->count == 0) {
        return NULL;
    }
    return m->slots[find_slot(m, hash_bytes(m->seed, key), key)];
}

void *map_get(const struct map *m, struct bytes key)
{
    const struct map_item *item = map_find(m, key);
    return item == NULL ? NULL : item->value;
}

static struct map_item *item_new(struct map *m, uint64_t hash, struct bytes key)
{
    struct map_item *item = wr_alloc(sizeof(struct map_item) + key.size);
    item->prev = m->last;
    item->next = NULL;
    item->value = NULL;
    item->hash = hash;
    item->key_size = key.size;
    if (key.size > 0) {
        memcpy(item->key, key.data, key.size);
    }
    if (m->last == NULL) {
        m->first = item;
    } else {
        m->last->next = item;
    }
    m->last = item;
    return item;
}

struct map_item *map_entry(struct map *m, struct bytes key, bool *ret_new)
{
    if (m->slots == NULL) {
        resize(m, MAP_SLOTS_MIN);
    }
    const uint64_t hash = hash_bytes(m->seed, key);
    uint32_t slot = find_slot(m, hash, key);
    const bool new = m->slots[slot] == NULL;
    if (new) {
        if (m->count >= (m->mask + 1) / 2) {
            WR_ASSERT_OP(m->mask, <, UINT32_MAX / 2);
            resize(m, (m->mask + 1) * 2);
            slot = find_slot(m, hash, key);
        }
        m->slots[slot] = item_new(m, hash, key);
        m->count++;
    }
    if (ret_new != NULL) {
        *ret_new = new;
    }
    return m->slots[slot];
}

void *map_put(struct map *m, struct bytes key, void *value)
{
    struct map_item *item = map_entry(m, key, NULL);
    void *before = item->value;
    item->value = value;
    return before;
}

/* Empty the slot, moving back whatever was pushed past it. */
static void vacate(struct map *m, uint32_t hole)
{
    uint32_t slot = hole;
    for (;;) {
        slot = (slot + 1) & m->mask;
        struct map_item *item = m->slots[slot];
        if (item == NULL) {
            break;
        }
        /* An item may move back if the hole is not before its home. */
        const uint32_t home = (uint32_t)item->hash & m->mask;
        if (((slot - home) & m->mask) >= ((slot - hole) & m->mask)) {
            m->slots[hole] = item;
            hole = slot;
        }
    }
    m->slots[hole] = NULL;
}

static void *remove_at(struct map *m, uint32_t slot)
{
    struct map_item *item = m->slots[slot];
    vacate(m, slot);
    if (item->prev == NULL) {
        m->first = item->next;
    } else {
        item->prev->next = item->next;
    }
    if (item->next == NULL) {
        m->last = item->prev;
    } else {
        item->next->prev = item->prev;
    }
    m->count--;
    m->removals++;
    void *value = item->value;
    wr_free(item);
    return value;
}

void *map_remove(struct map *m, struct bytes key)
{
    if (m->count == 0) {
        return NULL;
    }
    const uint32_t slot = find_slot(m, hash_bytes(m->seed, key), key);
    return m->slots[slot] == NULL ? NULL : remove_at(m, slot);
}

void *map_remove_item(struct map *m, struct map_item *item)
{
    WR_ASSERT_OP(m->count, >, 0);
    const uint32_t slot = find_slot(m, item->hash, map_key(item));
    WR_ASSERT(m->slots[slot] == item);
    return remove_at(m, slot);
}

bool map_next(struct map_iter *it)
{
    const struct map *m = it->map;
    if (it->item == NULL) {
        it->item = m->first;
    } else if (it->removals != m->removals) {
        it->item = it->prev == NULL ? m->first : it->prev->next;
    } else {
        it->prev = it->item;
        it->item = it->item->next;
    }
    it->removals = m->removals;
    it->value = it->item == NULL ? NULL : it->item->value;
    return it->item != NULL;
}
