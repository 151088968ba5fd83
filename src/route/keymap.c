/*
 * What: a hash array mapped trie whose leaves are the values. Each level takes six bits of the
 * hash: the slot. A child is a value or a node. A sparse node has a bitmap and the children that
 * are there, in order of slots; a dense one has 64, by slot. Which of the two follows from the
 * count, and a pointer tells which it points to: the way down does not read the nodes' heads.
 * Values with equal hashes share a node below the last level, ordered by key.
 * Invariants: K1 what is linked is never changed. K2 a node other than the root has two values or
 * more below it. Recursion: at most LEVEL_COLLISION + 1 levels, whatever the input.
 */
#include "keymap.h"

#include "warren/assert.h"
#include "warren/map.h"
#include "warren/mem.h"

#define LEVEL_BITS      6
#define LEVEL_COLLISION 11 /* Eleven levels use up 64 bits. */
#define SLOTS           64u
#define SPARSE_MAX      16u /* Children of a sparse node. */

enum { TAG_VALUE = 1, TAG_DENSE = 2, TAGS = 3 };

typedef struct {
    uintptr_t bits; /* 0: nothing */
} child_t;

struct keymap {
    struct pref ref;
    uint64_t bitmap; /* Sparse: the slots of the children. 0 in a collision node. */
    uint32_t count;
    bool dense;
    child_t children[];
};

uint64_t keymap_hash(struct bytes key)
{
    /* Fixed, for the order to be the same on all nodes: see pmap.c. */
    static const struct hash_seed seed = {UINT64_C(0x6b6579206f662061),
                                          UINT64_C(0x2062696e64696e67)};
    return hash_bytes(seed, key);
}

static bool is_value(child_t child)
{
    return (child.bits & TAG_VALUE) != 0;
}

static struct keyed *as_value(child_t child)
{
    return (struct keyed *)(child.bits & ~(uintptr_t)TAGS);
}

static struct keymap *as_node(child_t child)
{
    return (struct keymap *)(child.bits & ~(uintptr_t)TAGS);
}

static child_t child_of_value(struct keyed *owned_value)
{
    return (child_t){(uintptr_t)owned_value | TAG_VALUE};
}

static child_t child_of_node(struct keymap *owned_node)
{
    return (child_t){(uintptr_t)owned_node | (owned_node->dense ? TAG_DENSE : 0u)};
}

/* Both kinds begin with the count of references. */
static struct pref *child_pref(child_t child)
{
    return (struct pref *)(child.bits & ~(uintptr_t)TAGS);
}

static child_t child_ref(child_t child)
{
    (void)pref_ref(child_pref(child));
    return child;
}

static uint32_t node_size(const struct keymap *node)
{
    return node->dense ? SLOTS : node->count;
}

static void node_free(struct pref *owned_ref)
{
    struct keymap *node = (struct keymap *)owned_ref;
    for (uint32_t i = 0; i < node_size(node); i++) {
        pref_unref(child_pref(node->children[i])); /* NULL where there is none. */
    }
    wr_free(node);
}

/* Children are still to be set; those of a dense node are nothing. */
static struct keymap *node_new(uint64_t bitmap, uint32_t count, bool dense)
{
    struct keymap *node = wr_calloc(1, sizeof(*node) + (dense ? SLOTS : count) * sizeof(child_t));
    pref_init(&node->ref, node_free);
    node->bitmap = bitmap;
    node->count = count;
    node->dense = dense;
    return node;
}

static uint32_t slot_of(uint64_t hash, uint32_t level)
{
    return (uint32_t)(hash >> (level * LEVEL_BITS)) & (SLOTS - 1);
}

/* Without the instruction, which not every x86-64 has, the compiler calls a function. */
static inline uint32_t count_bits(uint64_t x)
{
    x -= (x >> 1) & UINT64_C(0x5555555555555555);
    x = (x & UINT64_C(0x3333333333333333)) + ((x >> 2) & UINT64_C(0x3333333333333333));
    x = (x + (x >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (uint32_t)((x * UINT64_C(0x0101010101010101)) >> 56);
}

/* The place of a slot in a sparse node, whether there is something or not. */
static inline uint32_t place_of(const struct keymap *node, uint32_t slot)
{
    return count_bits(node->bitmap & ((UINT64_C(1) << slot) - 1));
}

static inline child_t child_at(const struct keymap *node, bool dense, uint32_t slot)
{
    if (dense) {
        return node->children[slot];
    }
    return (node->bitmap >> slot & 1) != 0 ? node->children[place_of(node, slot)] : (child_t){0};
}

/* In a collision node: the first whose key is not less. */
static uint32_t collision_place(const struct keymap *node, struct bytes key)
{
    uint32_t at = 0;
    while (at < node->count && bytes_cmp(keyed_key(as_value(node->children[at])), key) < 0) {
        at++;
    }
    return at;
}

static struct keyed *collision_get(const struct keymap *node, struct bytes key)
{
    const uint32_t at = collision_place(node, key);
    return at < node->count && bytes_eq(keyed_key(as_value(node->children[at])), key)
               ? as_value(node->children[at])
               : NULL;
}

struct keyed *keymap_get(const struct keymap *map, uint64_t hash, struct bytes key)
{
    if (map == NULL) {
        return NULL;
    }
    const struct keymap *node = map;
    bool dense = map->dense;
    for (uint32_t level = 0; level < LEVEL_COLLISION; level++) {
        const child_t child = child_at(node, dense, slot_of(hash, level));
        if (is_value(child)) {
            struct keyed *value = as_value(child);
            return bytes_eq(keyed_key(value), key) ? value : NULL;
        }
        if (child.bits == 0) {
            return NULL;
        }
        node = as_node(child);
        dense = (child.bits & TAG_DENSE) != 0;
    }
    return collision_get(node, key);
}

/* --- changes ---------------------------------------------------------------------------------- */

/* A copy with another child in a slot; bits 0: with none. Sparse or dense as the count wants it. */
static struct keymap *node_with(const struct keymap *node, uint32_t slot, child_t owned_child)
{
    const bool was = child_at(node, node->dense, slot).bits != 0;
    const bool is = owned_child.bits != 0;
    const uint32_t count = node->count - was + is;
    const uint64_t bit = UINT64_C(1) << slot;
    const bool dense = count > SPARSE_MAX;
    struct keymap *copy = node_new(is ? node->bitmap | bit : node->bitmap & ~bit, count, dense);
    uint32_t to = 0;
    for (uint64_t left = copy->bitmap; left != 0; left &= left - 1) {
        const uint32_t at = (uint32_t)__builtin_ctzll(left);
        copy->children[dense ? at : to++] =
            at == slot ? owned_child : child_ref(child_at(node, node->dense, at));
    }
    return copy;
}

/* The smallest trie from `level` on with two values of different keys. */
static struct keymap *node_pair(uint32_t level, uint64_t hash_a, struct keyed *owned_a,
                                uint64_t hash_b, struct keyed *owned_b)
{
    if (level == LEVEL_COLLISION) {
        const bool a_first = bytes_cmp(keyed_key(owned_a), keyed_key(owned_b)) < 0;
        struct keymap *node = node_new(0, 2, false);
        node->children[0] = child_of_value(a_first ? owned_a : owned_b);
        node->children[1] = child_of_value(a_first ? owned_b : owned_a);
        return node;
    }
    const uint32_t slot_a = slot_of(hash_a, level);
    const uint32_t slot_b = slot_of(hash_b, level);
    const uint64_t bitmap = UINT64_C(1) << slot_a | UINT64_C(1) << slot_b;
    if (slot_a == slot_b) {
        struct keymap *node = node_new(bitmap, 1, false);
        node->children[0] = child_of_node(node_pair(level + 1, hash_a, owned_a, hash_b, owned_b));
        return node;
    }
    struct keymap *node = node_new(bitmap, 2, false);
    node->children[slot_a < slot_b ? 0 : 1] = child_of_value(owned_a);
    node->children[slot_a < slot_b ? 1 : 0] = child_of_value(owned_b);
    return node;
}

/* A copy of a collision node with the value in place of what is there with its key. */
static struct keymap *collision_set(const struct keymap *node, struct keyed *owned_value)
{
    const struct bytes key = keyed_key(owned_value);
    const uint32_t at = collision_place(node, key);
    const uint32_t replaced = collision_get(node, key) != NULL ? 1 : 0;
    struct keymap *copy = node_new(0, node->count + 1 - replaced, false);
    for (uint32_t i = 0; i < at; i++) {
        copy->children[i] = child_ref(node->children[i]);
    }
    copy->children[at] = child_of_value(owned_value);
    for (uint32_t i = at + replaced; i < node->count; i++) {
        copy->children[i + 1 - replaced] = child_ref(node->children[i]);
    }
    return copy;
}

static struct keymap *node_set(const struct keymap *node, uint32_t level, uint64_t hash,
                               struct keyed *owned_value)
{
    if (level == LEVEL_COLLISION) {
        return collision_set(node, owned_value);
    }
    const uint32_t slot = slot_of(hash, level);
    const child_t child = child_at(node, node->dense, slot);
    child_t after = child_of_value(owned_value);
    if (child.bits != 0 && !is_value(child)) {
        after = child_of_node(node_set(as_node(child), level + 1, hash, owned_value));
    } else if (child.bits != 0 && !bytes_eq(keyed_key(as_value(child)), keyed_key(owned_value))) {
        struct keyed *other = as_value(child_ref(child));
        after = child_of_node(
            node_pair(level + 1, keymap_hash(keyed_key(other)), other, hash, owned_value));
    }
    return node_with(node, slot, after);
}

struct keymap *keymap_set(struct keymap *map, uint64_t hash, struct keyed *value)
{
    (void)pref_ref(&value->ref);
    if (map == NULL) {
        struct keymap *node = node_new(UINT64_C(1) << slot_of(hash, 0), 1, false);
        node->children[0] = child_of_value(value);
        return node;
    }
    return node_set(map, 0, hash, value);
}

/* The only child of a node that has one, if it is a value; bits 0 otherwise. */
static child_t sole_value(const struct keymap *node)
{
    return node->count == 1 && is_value(node->children[0]) ? node->children[0] : (child_t){0};
}

/* What is put in the place of a node that is not the root (K2). */
static child_t settle(struct keymap *owned_node)
{
    const child_t sole = sole_value(owned_node);
    if (sole.bits == 0) {
        return child_of_node(owned_node);
    }
    (void)child_ref(sole);
    pref_unref(&owned_node->ref);
    return sole;
}

static struct keymap *collision_remove(const struct keymap *node, struct bytes key)
{
    const uint32_t at = collision_place(node, key);
    struct keymap *copy = node_new(0, node->count - 1, false);
    for (uint32_t i = 0; i < copy->count; i++) {
        copy->children[i] = child_ref(node->children[i < at ? i : i + 1]);
    }
    return copy;
}

/* The node without the key, which is there. It may be left with one child, or (the root) none. */
static struct keymap *node_remove(const struct keymap *node, uint32_t level, uint64_t hash,
                                  struct bytes key)
{
    if (level == LEVEL_COLLISION) {
        return collision_remove(node, key);
    }
    const uint32_t slot = slot_of(hash, level);
    const child_t child = child_at(node, node->dense, slot);
    child_t after = {0};
    if (!is_value(child)) {
        WR_ASSERT(child.bits != 0);
        after = settle(node_remove(as_node(child), level + 1, hash, key));
    } else {
        WR_ASSERT(bytes_eq(keyed_key(as_value(child)), key));
    }
    return node_with(node, slot, after);
}

struct keymap *keymap_remove(struct keymap *map, uint64_t hash, struct bytes key)
{
    WR_ASSERT(map != NULL);
    struct keymap *after = node_remove(map, 0, hash, key);
    if (after->count > 0) {
        return after;
    }
    pref_unref(&after->ref);
    return NULL;
}

struct keyed *keymap_sole(const struct keymap *map)
{
    /* By K2 a node below the root would hold two. */
    const child_t sole = map == NULL ? (child_t){0} : sole_value(map);
    return sole.bits == 0 ? NULL : as_value(sole);
}

struct keymap *keymap_ref(struct keymap *map)
{
    if (map != NULL) {
        (void)pref_ref(&map->ref);
    }
    return map;
}

void keymap_unref(struct keymap *owned_map)
{
    if (owned_map != NULL) {
        pref_unref(&owned_map->ref);
    }
}
