/*
 * What: hash map from uint64_t to pointers: items in one array, linked by index in order of
 * insertion, found through a table of indexes with linear probing that is at most half full.
 * Invariants: I1 an item is reached from its home slot without crossing an empty slot. I2 items
 * below items_used are either linked from first or on the free list. Ownership: both arrays are the
 * map's; values the caller's.
 */
#include "warren/map.h"

#define UMAP_SLOTS_MIN 8
#define UMAP_ITEMS_MIN 4

void umap_init(struct umap *m, struct hash_seed seed)
{
    *m = (struct umap){
        .free = UMAP_NONE,
        .first = UMAP_NONE,
        .last = UMAP_NONE,
        .seed = seed,
    };
}

void umap_deinit(struct umap *m)
{
    wr_free(m->items);
    wr_free(m->slots);
    umap_init(m, m->seed);
}

static uint32_t home_slot(const struct umap *m, uint64_t key)
{
    return (uint32_t)hash_u64(m->seed, key) & m->mask;
}

/* The slot that holds the key, or the empty one where it belongs. Needs slots. */
static uint32_t find_slot(const struct umap *m, uint64_t key)
{
    uint32_t slot = home_slot(m, key);
    while (m->slots[slot] != 0 && m->items[m->slots[slot] - 1].key != key) {
        slot = (slot + 1) & m->mask;
    }
    return slot;
}

static void resize(struct umap *m, uint32_t slots_count)
{
    wr_free(m->slots);
    m->slots = wr_calloc(slots_count, sizeof(uint32_t));
    m->mask = slots_count - 1;
    for (uint32_t i = m->first; i != UMAP_NONE; i = m->items[i].next) {
        m->slots[find_slot(m, m->items[i].key)] = i + 1;
    }
}

/* The item of the key, or UMAP_NONE. */
static uint32_t find_item(const struct umap *m, uint64_t key)
{
    return m->count == 0 ? UMAP_NONE : m->slots[find_slot(m, key)] - 1;
}

static_assert((uint32_t)0 - 1 == UMAP_NONE, "an empty slot minus one is no item");

void *umap_get(const struct umap *m, uint64_t key)
{
    const uint32_t index = find_item(m, key);
    return index == UMAP_NONE ? NULL : m->items[index].value;
}

bool umap_contains(const struct umap *m, uint64_t key)
{
    return find_item(m, key) != UMAP_NONE;
}

/* An unused item, not linked. */
static uint32_t take_item(struct umap *m)
{
    if (m->free != UMAP_NONE) {
        const uint32_t index = m->free;
        m->free = m->items[index].next;
        return index;
    }
    if (m->items_used == m->items_capacity) {
        WR_ASSERT_OP(m->items_capacity, <, UINT32_MAX / 2);
        m->items_capacity = m->items_capacity == 0 ? UMAP_ITEMS_MIN : m->items_capacity * 2;
        m->items = wr_realloc_array(m->items, m->items_capacity, sizeof(struct umap_item));
    }
    return m->items_used++;
}

static uint32_t item_new(struct umap *m, uint64_t key)
{
    const uint32_t index = take_item(m);
    m->items[index] = (struct umap_item){key, NULL, m->last, UMAP_NONE};
    if (m->last == UMAP_NONE) {
        m->first = index;
    } else {
        m->items[m->last].next = index;
    }
    m->last = index;
    return index;
}

void **umap_entry(struct umap *m, uint64_t key, bool *ret_new)
{
    if (m->slots == NULL) {
        resize(m, UMAP_SLOTS_MIN);
    }
    uint32_t slot = find_slot(m, key);
    const bool new = m->slots[slot] == 0;
    if (new) {
        if (m->count >= (m->mask + 1) / 2) {
            WR_ASSERT_OP(m->mask, <, UINT32_MAX / 2);
            resize(m, (m->mask + 1) * 2);
            slot = find_slot(m, key);
        }
        m->slots[slot] = item_new(m, key) + 1;
        m->count++;
    }
    if (ret_new != NULL) {
        *ret_new = new;
    }
    return &m->items[m->slots[slot] - 1].value;
}

void *umap_put(struct umap *m, uint64_t key, void *value)
{
    void **place = umap_entry(m, key, NULL);
    void *before = *place;
    *place = value;
    return before;
}

/* Empty the slot, moving back whatever was pushed past it. */
static void vacate(struct umap *m, uint32_t hole)
{
    uint32_t slot = hole;
    for (;;) {
        slot = (slot + 1) & m->mask;
        if (m->slots[slot] == 0) {
            break;
        }
        const uint32_t home = home_slot(m, m->items[m->slots[slot] - 1].key);
        if (((slot - home) & m->mask) >= ((slot - hole) & m->mask)) {
            m->slots[hole] = m->slots[slot];
            hole = slot;
        }
    }
    m->slots[hole] = 0;
}

void *umap_remove(struct umap *m, uint64_t key)
{
    if (m->count == 0) {
        return NULL;
    }
    const uint32_t slot = find_slot(m, key);
    if (m->slots[slot] == 0) {
        return NULL;
    }
    const uint32_t index = m->slots[slot] - 1;
    vacate(m, slot);
    struct umap_item *item = &m->items[index];
    if (item->prev == UMAP_NONE) {
        m->first = item->next;
    } else {
        m->items[item->prev].next = item->next;
    }
    if (item->next == UMAP_NONE) {
        m->last = item->prev;
    } else {
        m->items[item->next].prev = item->prev;
    }
    item->next = m->free;
    m->free = index;
    m->count--;
    m->removals++;
    return item->value;
}

bool umap_next(struct umap_iter *it)
{
    const struct umap *m = it->map;
    if (it->index == UMAP_NONE) {
        it->index = m->first;
    } else if (it->removals != m->removals) {
        it->index = it->prev == UMAP_NONE ? m->first : m->items[it->prev].next;
    } else {
        it->prev = it->index;
        it->index = m->items[it->index].next;
    }
    it->removals = m->removals;
    if (it->index == UMAP_NONE) {
        return false;
    }
    it->key = m->items[it->index].key;
    it->value = m->items[it->index].value;
    return true;
}
