/*
 * What: a crit-bit trie over bindings with counts and weights in its nodes. A key is hash, kind,
 * size of name, name of the destination, and the binding's id, so that the bindings of one
 * destination are a subtree of their own, the oldest leftmost. An inner node is known by the bits
 * that all keys below it share (`salt` is made of them): it stays itself, and goes on deciding the
 * same way, when other parts of the trie change.
 * Invariants: S1 An inner node has two children that differ first in `bit`, the left one's being 0.
 * S2 Below an inner node whose bit is in the id is one destination only (`same`): it weighs what
 * its left child does. S3 The shape follows from the content. Recursion: one level per bit of a
 * key, so at most SHARE_KEY_MAX * 8; with other than forged hashes, some 60.
 * Threads: immutable once made. Spec: docs/routing.md, "Shares".
 */
#include "shares.h"

#include "warren/map.h"

#define SHARE_HEAD    10u /* hash, kind, size */
#define SHARE_KEY_MAX (SHARE_HEAD + CATALOG_NAME_MAX + 8u)

struct share_node {
    struct pref ref;
    uint64_t weight;
    uint64_t weight_left; /* Of the left child: 0 in a leaf. */
    uint32_t count;
    uint32_t count_left;
    uint16_t bit;
    bool leaf, same;
    union {
        struct {
            struct share_node *child[2];
            uint64_t salt;
        } inner;
        struct catalog_binding *binding;
    } u;
};

struct share_key {
    size_t size;
    uint64_t hash;
    uint8_t data[SHARE_KEY_MAX];
};

/* Fixed: all nodes must choose alike. */
static const struct hash_seed name_seed = {UINT64_C(0x7368617265206f66),
                                           UINT64_C(0x20612071756575)};
#define STEP_SEED UINT64_C(0x6c656674206f7220)

static void key_make(const struct catalog_binding *binding, struct share_key *ret_key)
{
    uint8_t *at = ret_key->data + SHARE_HEAD;
    WR_ASSERT_OP(binding->destination.size, <=, CATALOG_NAME_MAX);
    ret_key->data[8] = binding->destination_kind;
    ret_key->data[9] = (uint8_t)binding->destination.size;
    if (binding->destination.size > 0) {
        memcpy(at, binding->destination.data, binding->destination.size);
    }
    at += binding->destination.size;
    ret_key->hash =
        hash_bytes(name_seed, bytes_make(ret_key->data + 8, 2 + binding->destination.size));
    bytes_store_be64(ret_key->data, ret_key->hash);
    bytes_store_be64(at, binding->id);
    ret_key->size = SHARE_HEAD + binding->destination.size + 8;
}

/* A key that is too short for the bit is not below the node anyway: any answer will do. */
static uint32_t key_bit(const struct share_key *key, uint32_t bit)
{
    const uint32_t byte = bit / 8;
    return byte < key->size ? (key->data[byte] >> (7 - bit % 8)) & 1u : 0;
}

static uint32_t first_difference(const struct share_key *a, const struct share_key *b)
{
    size_t i = 0;
    while (a->data[i] == b->data[i]) {
        i++;
        WR_ASSERT(i < a->size && i < b->size); /* Ids differ, and no key is the beginning of one. */
    }
    const uint32_t bits = (uint32_t)(a->data[i] ^ b->data[i]);
    return (uint32_t)i * 8 + (uint32_t)__builtin_clz(bits) - 24;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static void node_free(struct pref *owned_ref)
{
    struct share_node *node = (struct share_node *)owned_ref;
    if (node->leaf) {
        pref_unref(&node->u.binding->ref);
    } else {
        pref_unref(&node->u.inner.child[0]->ref);
        pref_unref(&node->u.inner.child[1]->ref);
    }
    wr_free(node);
}

static struct share_node *node_ref(struct share_node *node)
{
    (void)pref_ref(&node->ref);
    return node;
}

static struct share_node *leaf_new(struct catalog_binding *binding, uint64_t weight)
{
    struct share_node *node = wr_calloc(1, sizeof(*node));
    pref_init(&node->ref, node_free);
    node->leaf = true;
    node->weight = weight;
    node->count = 1;
    node->u.binding = binding;
    (void)pref_ref(&binding->ref);
    return node;
}

static struct share_node *inner_new(uint16_t bit, bool same, uint64_t salt,
                                    struct share_node *owned_left, struct share_node *owned_right)
{
    struct share_node *node = wr_calloc(1, sizeof(*node));
    pref_init(&node->ref, node_free);
    node->bit = bit;
    node->same = same;
    node->u.inner.salt = salt;
    node->u.inner.child[0] = owned_left;
    node->u.inner.child[1] = owned_right;
    node->weight_left = owned_left->weight;
    node->weight = owned_left->weight + (same ? 0 : owned_right->weight);
    node->count_left = owned_left->count;
    node->count = owned_left->count + owned_right->count;
    return node;
}

/* The node with another child in place of one. */
static struct share_node *inner_replace(const struct share_node *node, uint32_t side,
                                        struct share_node *owned_child)
{
    struct share_node *other = node_ref(node->u.inner.child[1 - side]);
    return inner_new(node->bit, node->same, node->u.inner.salt, side == 0 ? owned_child : other,
                     side == 0 ? other : owned_child);
}

/* --- changes ---------------------------------------------------------------------------------- */

/* The leaf goes in where the trie decides a bit behind `bit`, or nothing any more. */
static struct share_node *insert(struct share_node *node, const struct share_key *key, uint32_t bit,
                                 struct share_node *owned_leaf)
{
    if (!node->leaf && node->bit < bit) {
        const uint32_t side = key_bit(key, node->bit);
        return inner_replace(node, side, insert(node->u.inner.child[side], key, bit, owned_leaf));
    }
    const uint64_t shared = bit == 0 ? 0 : key->hash >> (bit < 64 ? 64 - bit : 0);
    const uint64_t salt = hash_u64((struct hash_seed){STEP_SEED, bit}, shared);
    const bool same = bit >= (key->size - 8) * 8;
    const bool right = key_bit(key, bit) != 0;
    return inner_new((uint16_t)bit, same, salt, right ? node_ref(node) : owned_leaf,
                     right ? owned_leaf : node_ref(node));
}

struct pref *shares_add(struct pref *tree, struct catalog_binding *binding, uint64_t weight)
{
    struct share_node *leaf = leaf_new(binding, weight);
    struct share_node *root = (struct share_node *)tree;
    if (root == NULL) {
        return &leaf->ref;
    }
    struct share_key key;
    struct share_key other;
    key_make(binding, &key);
    const struct share_node *nearest = root;
    while (!nearest->leaf) {
        nearest = nearest->u.inner.child[key_bit(&key, nearest->bit)];
    }
    key_make(nearest->u.binding, &other);
    return &insert(root, &key, first_difference(&key, &other), leaf)->ref;
}

/* NULL when nothing is left. */
static struct share_node *without(struct share_node *node, const struct share_key *key, uint64_t id)
{
    if (node->leaf) {
        WR_ASSERT(node->u.binding->id == id);
        return NULL;
    }
    const uint32_t side = key_bit(key, node->bit);
    struct share_node *below = without(node->u.inner.child[side], key, id);
    return below == NULL ? node_ref(node->u.inner.child[1 - side])
                         : inner_replace(node, side, below);
}

struct pref *shares_remove(struct pref *tree, const struct catalog_binding *binding)
{
    WR_ASSERT(tree != NULL);
    struct share_key key;
    key_make(binding, &key);
    struct share_node *after = without((struct share_node *)tree, &key, binding->id);
    return after == NULL ? NULL : &after->ref;
}

/* --- choice ----------------------------------------------------------------------------------- */

uint32_t shares_count(const struct pref *tree)
{
    return tree == NULL ? 0 : ((const struct share_node *)tree)->count;
}

uint64_t shares_weight(const struct pref *tree)
{
    return tree == NULL ? 0 : ((const struct share_node *)tree)->weight;
}

const struct catalog_binding *shares_at(const struct pref *tree, uint32_t rank)
{
    WR_ASSERT_OP(rank, <, shares_count(tree));
    const struct share_node *node = (const struct share_node *)tree;
    while (!node->leaf) {
        const bool right = rank >= node->count_left;
        rank -= right ? node->count_left : 0;
        node = node->u.inner.child[right ? 1 : 0];
    }
    return node->u.binding;
}

const struct catalog_binding *shares_choose(const struct pref *tree, uint64_t hash)
{
    __extension__ typedef unsigned __int128 wide;
    WR_ASSERT(shares_weight(tree) > 0);
    const struct share_node *node = (const struct share_node *)tree;
    while (!node->leaf) {
        bool left = node->same;
        if (!left) {
            const struct hash_seed seed = {node->u.inner.salt, STEP_SEED};
            const wide scaled = (wide)hash_u64(seed, hash) * node->weight;
            left = (uint64_t)(scaled >> 64) < node->weight_left;
        }
        node = node->u.inner.child[left ? 0 : 1];
    }
    return node->u.binding;
}
