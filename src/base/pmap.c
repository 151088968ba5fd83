/*
 * What: persistent hash array mapped trie. Each level consumes five bits of the key's hash; a node
 * has one child per set bit of its bitmap, in bit order. A child is a leaf (key and value) or a
 * node. Keys whose 64-bit hashes are equal share a node below the last level, ordered by key.
 * Invariants (I2 makes the shape, and so the order of iteration, depend on the content alone):
 * I1 nodes and leaves are never changed after they were linked. I2 a node other than the top one
 * holds at least two leaves below it: one that would hold one becomes that leaf. Ownership: roots,
 * nodes and leaves are reference-counted; a parent holds a reference of each child. Threads:
 * reference counts are atomic, everything else is immutable. Depth: at most 14 levels whatever the
 * input, so recursion is bounded.
 */
#include "pmap_internal.h"

#include "warren/map.h"

#define LEVEL_BITS      5
#define LEVEL_MASK      31
#define LEVEL_COLLISION 13 /* 13 levels of 5 bits use up 64; what is below has one hash. */

static_assert(LEVEL_COLLISION + 1 <= PMAP_DEPTH_MAX, "a cursor holds every level");

/* A child pointer whose lowest bit tells a leaf from a node. */
typedef struct {
    uintptr_t bits;
} child_t;

struct pmap_leaf {
    _Atomic uint32_t refs;
    uint32_t key_size;
    uint64_t hash;
    struct pref *value;
    uint8_t key[];
};

struct pmap_node {
    _Atomic uint32_t refs;
    uint32_t bitmap; /* 0 in a collision node. */
    uint32_t count;  /* Children. */
    child_t children[];
};

struct pmap {
    _Atomic uint32_t refs;
    size_t count; /* Keys; never 0. */
    struct pmap_node *top;
};

static uint64_t key_hash(struct bytes key)
{
    /* Fixed: the order of iteration must be the same on all nodes. A flood of equal hashes would
     * need collisions in all 64 bits; fewer equal bits only deepen the trie up to its bound. */
    static const struct hash_seed seed = {UINT64_C(0x57617272656e206d),
                                          UINT64_C(0x6170206f72646572)};
    return hash_bytes(seed, key);
}

static bool child_is_leaf(child_t child)
{
    return (child.bits & 1) != 0;
}

static struct pmap_leaf *child_leaf(child_t child)
{
    return (struct pmap_leaf *)(child.bits & ~(uintptr_t)1);
}

static struct pmap_node *child_node(child_t child)
{
    return (struct pmap_node *)child.bits;
}

static child_t child_of_leaf(struct pmap_leaf *leaf)
{
    return (child_t){(uintptr_t)leaf | 1};
}

static child_t child_of_node(struct pmap_node *node)
{
    return (child_t){(uintptr_t)node};
}

static struct bytes leaf_key(const struct pmap_leaf *leaf)
{
    return (struct bytes){leaf->key, leaf->key_size};
}

static child_t child_ref(child_t child)
{
    _Atomic uint32_t *refs =
        child_is_leaf(child) ? &child_leaf(child)->refs : &child_node(child)->refs;
    atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
    return child;
}

static bool drop_ref(_Atomic uint32_t *refs)
{
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static void node_unref(struct pmap_node *node);

static void child_unref(child_t child)
{
    if (!child_is_leaf(child)) {
        node_unref(child_node(child));
    } else if (drop_ref(&child_leaf(child)->refs)) {
        pref_unref(child_leaf(child)->value);
        wr_free(child_leaf(child));
    }
}

static void node_unref(struct pmap_node *node)
{
    if (drop_ref(&node->refs)) {
        for (uint32_t i = 0; i < node->count; i++) {
            child_unref(node->children[i]);
        }
        wr_free(node);
    }
}

static struct pmap_leaf *leaf_new(uint64_t hash, struct bytes key, struct pref *value)
{
    WR_ASSERT_OP(key.size, <=, UINT32_MAX);
    struct pmap_leaf *leaf = wr_alloc(sizeof(struct pmap_leaf) + key.size);
    atomic_init(&leaf->refs, 1);
    leaf->key_size = (uint32_t)key.size;
    leaf->hash = hash;
    leaf->value = pref_ref(value);
    if (key.size > 0) {
        memcpy(leaf->key, key.data, key.size);
    }
    return leaf;
}

/* A node whose children are still to be set. */
static struct pmap_node *node_new(uint32_t bitmap, uint32_t count)
{
    struct pmap_node *node = wr_alloc(sizeof(struct pmap_node) + count * sizeof(child_t));
    atomic_init(&node->refs, 1);
    node->bitmap = bitmap;
    node->count = count;
    return node;
}

static uint32_t level_bit(uint64_t hash, unsigned level)
{
    return UINT32_C(1) << ((hash >> (level * LEVEL_BITS)) & LEVEL_MASK);
}

/* Without the instruction, which not every x86-64 has, the compiler calls a function. */
static inline uint32_t count_bits(uint32_t x)
{
    x -= (x >> 1) & UINT32_C(0x55555555);
    x = (x & UINT32_C(0x33333333)) + ((x >> 2) & UINT32_C(0x33333333));
    x = (x + (x >> 4)) & UINT32_C(0x0f0f0f0f);
    return (x * UINT32_C(0x01010101)) >> 24;
}

/* Position of the child for `bit`, whether it is there or not. */
static uint32_t bit_position(const struct pmap_node *node, uint32_t bit)
{
    return count_bits(node->bitmap & (bit - 1));
}

/* In a collision node: the position of the first key that is not less. */
static uint32_t collision_position(const struct pmap_node *node, struct bytes key)
{
    uint32_t position = 0;
    while (position < node->count &&
           bytes_cmp(leaf_key(child_leaf(node->children[position])), key) < 0) {
        position++;
    }
    return position;
}

/* Where the way to (hash, key) goes on in this node; false when it ends here. */
static bool node_find(const struct pmap_node *node, unsigned level, uint64_t hash, struct bytes key,
                      uint32_t *ret_position)
{
    if (level == LEVEL_COLLISION) {
        *ret_position = collision_position(node, key);
        return *ret_position < node->count &&
               bytes_eq(leaf_key(child_leaf(node->children[*ret_position])), key);
    }
    const uint32_t bit = level_bit(hash, level);
    *ret_position = bit_position(node, bit);
    return (node->bitmap & bit) != 0;
}

/* Copies that share all children but one; they own the reference of the child given. */
static struct pmap_node *node_replace(const struct pmap_node *node, uint32_t position,
                                      child_t owned_child)
{
    struct pmap_node *copy = node_new(node->bitmap, node->count);
    for (uint32_t i = 0; i < node->count; i++) {
        copy->children[i] = i == position ? owned_child : child_ref(node->children[i]);
    }
    return copy;
}

static struct pmap_node *node_insert(const struct pmap_node *node, uint32_t bit, uint32_t position,
                                     child_t owned_child)
{
    struct pmap_node *copy = node_new(node->bitmap | bit, node->count + 1);
    for (uint32_t i = 0; i < position; i++) {
        copy->children[i] = child_ref(node->children[i]);
    }
    copy->children[position] = owned_child;
    for (uint32_t i = position; i < node->count; i++) {
        copy->children[i + 1] = child_ref(node->children[i]);
    }
    return copy;
}

static struct pmap_node *node_without(const struct pmap_node *node, uint32_t bit, uint32_t position)
{
    struct pmap_node *copy = node_new(node->bitmap & ~bit, node->count - 1);
    for (uint32_t i = 0, to = 0; i < node->count; i++) {
        if (i != position) {
            copy->children[to++] = child_ref(node->children[i]);
        }
    }
    return copy;
}

/* The smallest trie from `level` on that holds two leaves of different keys; owns both. */
static struct pmap_node *node_pair(unsigned level, struct pmap_leaf *owned_a,
                                   struct pmap_leaf *owned_b)
{
    if (level == LEVEL_COLLISION) {
        const bool a_first = bytes_cmp(leaf_key(owned_a), leaf_key(owned_b)) < 0;
        struct pmap_node *node = node_new(0, 2);
        node->children[0] = child_of_leaf(a_first ? owned_a : owned_b);
        node->children[1] = child_of_leaf(a_first ? owned_b : owned_a);
        return node;
    }
    const uint32_t bit_a = level_bit(owned_a->hash, level);
    const uint32_t bit_b = level_bit(owned_b->hash, level);
    if (bit_a == bit_b) {
        struct pmap_node *node = node_new(bit_a, 1);
        node->children[0] = child_of_node(node_pair(level + 1, owned_a, owned_b));
        return node;
    }
    struct pmap_node *node = node_new(bit_a | bit_b, 2);
    node->children[0] = child_of_leaf(bit_a < bit_b ? owned_a : owned_b);
    node->children[1] = child_of_leaf(bit_a < bit_b ? owned_b : owned_a);
    return node;
}

/* The node with the leaf in it, in place of one with the same key (*ret_added tells). */
static struct pmap_node *node_set(const struct pmap_node *node, unsigned level,
                                  struct pmap_leaf *owned_leaf, bool *ret_added)
{
    uint32_t position;
    if (!node_find(node, level, owned_leaf->hash, leaf_key(owned_leaf), &position)) {
        const uint32_t bit = level == LEVEL_COLLISION ? 0 : level_bit(owned_leaf->hash, level);
        *ret_added = true;
        return node_insert(node, bit, position, child_of_leaf(owned_leaf));
    }
    const child_t child = node->children[position];
    if (!child_is_leaf(child)) {
        struct pmap_node *below = node_set(child_node(child), level + 1, owned_leaf, ret_added);
        return node_replace(node, position, child_of_node(below));
    }
    if (bytes_eq(leaf_key(child_leaf(child)), leaf_key(owned_leaf))) {
        *ret_added = false;
        return node_replace(node, position, child_of_leaf(owned_leaf));
    }
    *ret_added = true;
    struct pmap_leaf *other = child_leaf(child_ref(child));
    return node_replace(node, position, child_of_node(node_pair(level + 1, other, owned_leaf)));
}

/* What takes the node's place without the key, which must be there: a node, or a leaf by I2. */
static child_t node_remove(const struct pmap_node *node, unsigned level, uint64_t hash,
                           struct bytes key)
{
    uint32_t position;
    const bool found = node_find(node, level, hash, key, &position);
    WR_ASSERT(found);
    const child_t child = node->children[position];
    if (!child_is_leaf(child)) {
        const child_t below = node_remove(child_node(child), level + 1, hash, key);
        if (child_is_leaf(below) && node->count == 1 && level > 0) {
            return below;
        }
        return child_of_node(node_replace(node, position, below));
    }
    if (node->count == 2 && level > 0 && child_is_leaf(node->children[1 - position])) {
        return child_ref(node->children[1 - position]);
    }
    const uint32_t bit = level == LEVEL_COLLISION ? 0 : level_bit(hash, level);
    return child_of_node(node_without(node, bit, position));
}

static struct pmap *root_new(size_t count, struct pmap_node *owned_top)
{
    struct pmap *root = wr_alloc(sizeof(struct pmap));
    atomic_init(&root->refs, 1);
    root->count = count;
    root->top = owned_top;
    return root;
}

struct pref *pmap__get(const struct pmap *root, uint64_t hash, struct bytes key)
{
    if (root == NULL) {
        return NULL;
    }
    const struct pmap_node *node = root->top;
    for (unsigned level = 0;; level++) {
        uint32_t position;
        if (!node_find(node, level, hash, key, &position)) {
            return NULL;
        }
        const child_t child = node->children[position];
        if (child_is_leaf(child)) {
            const struct pmap_leaf *leaf = child_leaf(child);
            return leaf->hash == hash && bytes_eq(leaf_key(leaf), key) ? leaf->value : NULL;
        }
        node = child_node(child);
    }
}

struct pmap *pmap__set(struct pmap *root, uint64_t hash, struct bytes key, struct pref *value)
{
    struct pmap_leaf *leaf = leaf_new(hash, key, value);
    if (root == NULL) {
        struct pmap_node *top = node_new(level_bit(hash, 0), 1);
        top->children[0] = child_of_leaf(leaf);
        return root_new(1, top);
    }
    bool added = false;
    struct pmap_node *top = node_set(root->top, 0, leaf, &added);
    return root_new(root->count + (added ? 1 : 0), top);
}

struct pmap *pmap__remove(struct pmap *root, uint64_t hash, struct bytes key)
{
    if (pmap__get(root, hash, key) == NULL) {
        return pmap_ref(root);
    }
    if (root->count == 1) {
        return NULL;
    }
    const child_t top = node_remove(root->top, 0, hash, key);
    WR_ASSERT(!child_is_leaf(top));
    return root_new(root->count - 1, child_node(top));
}

struct pref *pmap_get(const struct pmap *root, struct bytes key)
{
    return pmap__get(root, key_hash(key), key);
}

struct pmap *pmap_set(struct pmap *root, struct bytes key, struct pref *value)
{
    return pmap__set(root, key_hash(key), key, value);
}

struct pmap *pmap_remove(struct pmap *root, struct bytes key)
{
    return pmap__remove(root, key_hash(key), key);
}

void pmap_set_in(struct pmap **root, struct bytes key, struct pref *value)
{
    struct pmap *old = *root;
    *root = pmap_set(old, key, value);
    pmap_unref(old);
}

void pmap_remove_in(struct pmap **root, struct bytes key)
{
    struct pmap *old = *root;
    *root = pmap_remove(old, key);
    pmap_unref(old);
}

size_t pmap_count(const struct pmap *root)
{
    return root == NULL ? 0 : root->count;
}

struct pmap *pmap_ref(struct pmap *root)
{
    if (root != NULL) {
        atomic_fetch_add_explicit(&root->refs, 1, memory_order_relaxed);
    }
    return root;
}

void pmap_unref(struct pmap *owned_root)
{
    if (owned_root != NULL && drop_ref(&owned_root->refs)) {
        node_unref(owned_root->top);
        wr_free(owned_root);
    }
}

static void iter_push(struct pmap_iter *it, const struct pmap_node *node)
{
    WR_ASSERT_OP(it->depth, <, PMAP_DEPTH_MAX);
    it->nodes[it->depth] = node;
    it->positions[it->depth] = 0;
    it->depth++;
}

bool pmap_first(struct pmap_iter *it, const struct pmap *root)
{
    it->depth = 0;
    if (root != NULL) {
        iter_push(it, root->top);
    }
    return pmap_next(it);
}

bool pmap_next(struct pmap_iter *it)
{
    while (it->depth > 0) {
        const struct pmap_node *node = it->nodes[it->depth - 1];
        if (it->positions[it->depth - 1] == node->count) {
            it->depth--;
            continue;
        }
        const child_t child = node->children[it->positions[it->depth - 1]++];
        if (child_is_leaf(child)) {
            it->key = leaf_key(child_leaf(child));
            it->value = child_leaf(child)->value;
            return true;
        }
        iter_push(it, child_node(child));
    }
    it->key = BYTES_NONE;
    it->value = NULL;
    return false;
}

/* One side of a comparison: what differs below, told to the caller of pmap_diff. */
struct diff {
    pmap_diff_fn fn;
    void *ctx;
};

static void diff_leaf_pair(const struct diff *d, const struct pmap_leaf *before,
                           const struct pmap_leaf *after)
{
    struct pref *value_before = before == NULL ? NULL : before->value;
    struct pref *value_after = after == NULL ? NULL : after->value;
    if (value_before != value_after) {
        d->fn(d->ctx, leaf_key(before == NULL ? after : before), value_before, value_after);
    }
}

/* All leaves of `child` against at most one leaf of the other side. Returns whether that one's key
 * was met. */
static bool diff_against_leaf(const struct diff *d, child_t child, const struct pmap_leaf *other,
                              bool child_is_before)
{
    if (child_is_leaf(child)) {
        const struct pmap_leaf *leaf = child_leaf(child);
        const bool same = other != NULL && bytes_eq(leaf_key(leaf), leaf_key(other));
        const struct pmap_leaf *partner = same ? other : NULL;
        diff_leaf_pair(d, child_is_before ? leaf : partner, child_is_before ? partner : leaf);
        return same;
    }
    bool met = false;
    const struct pmap_node *node = child_node(child);
    for (uint32_t i = 0; i < node->count; i++) {
        met |= diff_against_leaf(d, node->children[i], other, child_is_before);
    }
    return met;
}

static void diff_collisions(const struct diff *d, const struct pmap_node *before,
                            const struct pmap_node *after)
{
    uint32_t i = 0;
    uint32_t k = 0;
    while (i < before->count || k < after->count) {
        const struct pmap_leaf *a = i < before->count ? child_leaf(before->children[i]) : NULL;
        const struct pmap_leaf *b = k < after->count ? child_leaf(after->children[k]) : NULL;
        const int order = a == NULL ? 1 : (b == NULL ? -1 : bytes_cmp(leaf_key(a), leaf_key(b)));
        diff_leaf_pair(d, order <= 0 ? a : NULL, order >= 0 ? b : NULL);
        i += order <= 0;
        k += order >= 0;
    }
}

static void diff_nodes(const struct diff *d, const struct pmap_node *before,
                       const struct pmap_node *after);

/* Either may be {0}: nothing there. */
static void diff_children(const struct diff *d, child_t before, child_t after)
{
    if (before.bits == after.bits) {
        return;
    }
    const bool node_before = before.bits != 0 && !child_is_leaf(before);
    const bool node_after = after.bits != 0 && !child_is_leaf(after);
    if (node_before && node_after) {
        diff_nodes(d, child_node(before), child_node(after));
        return;
    }
    const bool walk_before = node_before || after.bits == 0;
    const child_t walked = walk_before ? before : after;
    const child_t other = walk_before ? after : before;
    const struct pmap_leaf *leaf = other.bits == 0 ? NULL : child_leaf(other);
    if (!diff_against_leaf(d, walked, leaf, walk_before) && leaf != NULL) {
        diff_leaf_pair(d, walk_before ? NULL : leaf, walk_before ? leaf : NULL);
    }
}

static void diff_nodes(const struct diff *d, const struct pmap_node *before,
                       const struct pmap_node *after)
{
    if (before->bitmap == 0 || after->bitmap == 0) {
        diff_collisions(d, before, after);
        return;
    }
    uint32_t i = 0;
    uint32_t k = 0;
    for (uint32_t bits = before->bitmap | after->bitmap; bits != 0; bits &= bits - 1) {
        const uint32_t bit = bits & (~bits + 1);
        child_t a = {0};
        child_t b = {0};
        if ((before->bitmap & bit) != 0) {
            a = before->children[i++];
        }
        if ((after->bitmap & bit) != 0) {
            b = after->children[k++];
        }
        diff_children(d, a, b);
    }
}

void pmap_diff(const struct pmap *before, const struct pmap *after, pmap_diff_fn fn, void *ctx)
{
    const struct diff d = {fn, ctx};
    const child_t a = before == NULL ? (child_t){0} : child_of_node(before->top);
    const child_t b = after == NULL ? (child_t){0} : child_of_node(after->top);
    diff_children(&d, a, b);
}
