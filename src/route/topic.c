/*
 * What: topic exchanges: a trie over the words of binding keys, with `*` and `#` as children of
 * their own beside the literal words. Happy path: the routing key is read word by word with the set
 * of nodes that can be active behind the words so far. A `#` node, once active, stays active to the
 * end (it may swallow any word), so nothing is ever tried twice: time is words x active nodes, and
 * there is no backtracking. Invariants T1  No `#` has a `#` below it: runs of `#` are one (they
 * match the same). T2  A node is the end of a binding or has children; except for an empty trie,
 * which is NULL. T3  A node is active at most once per word. A plain node has one parent; a `#`
 * node could be entered again by its parent only when the parent has a `#` above it (`nested`), and
 * then is marked. T4  Nodes are immutable once in an index; bind and unbind copy the path, at most
 * 257 nodes. Threads: any may read; made by the catalog's. Spec: AMQP reference §7.
 */
#include "internal.h"

/* A key of 255 bytes has at most 256 words. */
#define WORDS_MAX (CATALOG_NAME_MAX + 1)

struct topic_node {
    struct pref ref;
    uint64_t id;        /* Unique within the trie: binding that made it, and depth. */
    bool nested;        /* A `#` node below another one. */
    struct pmap *words; /* literal word -> struct topic_node */
    struct topic_node *star;
    struct topic_node *hash;
    struct target_set *targets; /* Bindings that end here. */
};

enum word_kind { WORD_LITERAL, WORD_STAR, WORD_HASH };

static enum word_kind word_kind(struct bytes word)
{
    if (word.size == 1 && word.data[0] == '*') {
        return WORD_STAR;
    }
    return word.size == 1 && word.data[0] == '#' ? WORD_HASH : WORD_LITERAL;
}

/* Takes the next word off *rest; false when there is none. Start with *rest = the key and
 * *more = (the key is not empty): an empty key has no words, as RabbitMQ has it. */
static bool next_word(struct bytes *rest, bool *more, struct bytes *ret_word)
{
    if (!*more) {
        return false;
    }
    const uint8_t *dot = rest->size == 0 ? NULL : memchr(rest->data, '.', rest->size);
    if (dot == NULL) {
        *ret_word = *rest;
        *more = false;
        return true;
    }
    const size_t size = (size_t)(dot - rest->data);
    *ret_word = (struct bytes){rest->data, size};
    *rest = (struct bytes){dot + 1, rest->size - size - 1};
    return true;
}

/* The words of a binding key, runs of `#` as one (T1). */
static uint32_t split_pattern(struct bytes key, struct bytes words[WORDS_MAX])
{
    uint32_t count = 0;
    struct bytes word;
    bool more = key.size > 0;
    while (next_word(&key, &more, &word)) {
        if (count > 0 && word_kind(word) == WORD_HASH && word_kind(words[count - 1]) == WORD_HASH) {
            continue;
        }
        WR_ASSERT_OP(count, <, WORDS_MAX);
        words[count++] = word;
    }
    return count;
}

/* --- the trie ----------------------------------------------------------------------------------
 */

static struct topic_node *node_ref(struct topic_node *node)
{
    if (node != NULL) {
        (void)pref_ref(&node->ref);
    }
    return node;
}

static void node_unref(struct topic_node *owned_node)
{
    if (owned_node != NULL) {
        pref_unref(&owned_node->ref);
    }
}

/* Recursion through the children: at most WORDS_MAX levels. */
static void node_free(struct pref *owned_ref)
{
    struct topic_node *node = (struct topic_node *)owned_ref;
    pmap_unref(node->words);
    node_unref(node->star);
    node_unref(node->hash);
    if (node->targets != NULL) {
        pref_unref(&node->targets->ref);
    }
    wr_free(node);
}

/* A copy to be changed, or a new empty node when there is none. */
static struct topic_node *node_open(const struct topic_node *node, uint64_t id, bool nested)
{
    struct topic_node *copy = wr_calloc(1, sizeof(*copy));
    pref_init(&copy->ref, node_free);
    copy->id = id;
    copy->nested = nested;
    if (node != NULL) {
        copy->id = node->id;
        copy->nested = node->nested;
        copy->words = pmap_ref(node->words);
        copy->star = node_ref(node->star);
        copy->hash = node_ref(node->hash);
        if (node->targets != NULL) {
            (void)pref_ref(&node->targets->ref);
            copy->targets = node->targets;
        }
    }
    return copy;
}

static bool node_is_empty(const struct topic_node *node)
{
    return node->words == NULL && node->star == NULL && node->hash == NULL && node->targets == NULL;
}

static struct topic_node *node_child(const struct topic_node *node, struct bytes word)
{
    switch (word_kind(word)) {
    case WORD_STAR:
        return node->star;
    case WORD_HASH:
        return node->hash;
    case WORD_LITERAL:
    default:
        return node->words == NULL ? NULL : (struct topic_node *)pmap_get(node->words, word);
    }
}

/* Replaces a child of a node that is being made; NULL takes it away. */
static void node_set_child(struct topic_node *node, struct bytes word,
                           struct topic_node *owned_child)
{
    const enum word_kind kind = word_kind(word);
    if (kind == WORD_LITERAL) {
        if (owned_child == NULL) {
            pmap_remove_in(&node->words, word);
        } else {
            pmap_set_in(&node->words, word, &owned_child->ref);
            node_unref(owned_child);
        }
        return;
    }
    struct topic_node **child = kind == WORD_STAR ? &node->star : &node->hash;
    node_unref(*child);
    *child = owned_child;
}

/* The nodes along the words, NULL from where there are none. */
static void find_path(struct topic_node *root, const struct bytes *words, uint32_t count,
                      struct topic_node *path[WORDS_MAX + 1])
{
    path[0] = root;
    for (uint32_t i = 0; i < count; i++) {
        path[i + 1] = path[i] == NULL ? NULL : node_child(path[i], words[i]);
    }
}

static struct pref *topic_add(struct pref *index, struct catalog_binding *binding)
{
    struct bytes words[WORDS_MAX];
    struct topic_node *path[WORDS_MAX + 1];
    bool nested[WORDS_MAX + 1];
    const uint32_t count = split_pattern(binding->key, words);
    find_path((struct topic_node *)index, words, count, path);
    bool below_hash = false;
    nested[0] = false;
    for (uint32_t i = 0; i < count; i++) {
        nested[i + 1] = below_hash;
        below_hash |= word_kind(words[i]) == WORD_HASH;
    }
    const uint64_t id = binding->id << 9; /* Depth is at most 256; ids are below 2^54. */
    struct topic_node *node = node_open(path[count], id | count, nested[count]);
    struct target_set *targets = targets_add(node->targets, binding);
    if (node->targets != NULL) {
        pref_unref(&node->targets->ref);
    }
    node->targets = targets;
    for (uint32_t i = count; i > 0; i--) {
        struct topic_node *parent = node_open(path[i - 1], id | (i - 1), nested[i - 1]);
        node_set_child(parent, words[i - 1], node);
        node = parent;
    }
    return &node->ref;
}

static struct pref *topic_remove(struct pref *index, struct catalog_binding *binding)
{
    struct bytes words[WORDS_MAX];
    struct topic_node *path[WORDS_MAX + 1];
    const uint32_t count = split_pattern(binding->key, words);
    find_path((struct topic_node *)index, words, count, path);
    WR_ASSERT(path[count] != NULL && path[count]->targets != NULL);
    struct topic_node *node = node_open(path[count], 0, false);
    struct target_set *targets = targets_remove(node->targets, binding);
    pref_unref(&node->targets->ref);
    node->targets = targets;
    for (uint32_t i = count;; i--) {
        if (node_is_empty(node)) { /* T2 */
            node_unref(node);
            node = NULL;
        }
        if (i == 0) {
            return node == NULL ? NULL : &node->ref;
        }
        struct topic_node *parent = node_open(path[i - 1], 0, false);
        node_set_child(parent, words[i - 1], node);
        node = parent;
    }
}

/* --- matching ------------------------------------------------------------------------------------
 */

/* The node is active behind the words so far, and its `#` with it: that matches no word, too. */
static void enter_hash(struct route_scratch *s, const struct topic_node *node)
{
    const struct topic_node *hash = node->hash;
    if (hash != NULL && (!hash->nested || route__marks_add(&s->entered, hash->id))) {
        vec_push(&s->hashes, hash);
    }
}

/* Adds the children of an active node that the word leads to. */
static void step(struct route_scratch *s, const struct topic_node *node, struct bytes word)
{
    if (node->words != NULL) {
        const struct topic_node *child = (const struct topic_node *)pmap_get(node->words, word);
        if (child != NULL) {
            vec_push(&s->next, child);
            enter_hash(s, child);
        }
    }
    if (node->star != NULL) {
        vec_push(&s->next, node->star);
        enter_hash(s, node->star);
    }
}

static void swap_lists(struct route_scratch *s)
{
    const struct topic_node **items = s->current.items;
    const size_t capacity = s->current.capacity;
    s->current.items = s->next.items;
    s->current.count = s->next.count;
    s->current.capacity = s->next.capacity;
    s->next.items = items;
    s->next.count = 0;
    s->next.capacity = capacity;
}

static void topic_route(const struct catalog_exchange *exchange, struct bytes key,
                        struct route_result *result)
{
    struct route_scratch *s = result->scratch;
    const struct topic_node *root = (const struct topic_node *)exchange->index;
    vec_clear(&s->current);
    vec_clear(&s->next);
    vec_clear(&s->hashes);
    route__marks_clear(&s->entered);
    vec_push(&s->current, root);
    enter_hash(s, root);
    struct bytes word;
    bool more = key.size > 0;
    while (s->current.count + s->hashes.count > 0 && next_word(&key, &more, &word)) {
        /* What becomes active by this word does not consume it. */
        const size_t hash_count = s->hashes.count;
        for (size_t i = 0; i < s->current.count; i++) {
            step(s, s->current.items[i], word);
        }
        for (size_t i = 0; i < hash_count; i++) {
            step(s, s->hashes.items[i], word);
        }
        swap_lists(s);
    }
    for (size_t i = 0; i < s->current.count; i++) {
        if (s->current.items[i]->targets != NULL) {
            targets_emit(s->current.items[i]->targets, result);
        }
    }
    for (size_t i = 0; i < s->hashes.count; i++) {
        if (s->hashes.items[i]->targets != NULL) {
            targets_emit(s->hashes.items[i]->targets, result);
        }
    }
}

bool route_topic_matches(struct bytes pattern, struct bytes key)
{
    /* can[i]: the first i words of the pattern match the words of the key so far. */
    struct bytes words[WORDS_MAX];
    bool can[WORDS_MAX + 1] = {true};
    if (pattern.size > CATALOG_NAME_MAX) {
        return false;
    }
    const uint32_t count = split_pattern(pattern, words);
    for (uint32_t i = 0; i < count; i++) {
        can[i + 1] = can[i] && word_kind(words[i]) == WORD_HASH;
    }
    struct bytes word;
    bool more = key.size > 0;
    while (next_word(&key, &more, &word)) {
        for (uint32_t i = count; i > 0; i--) {
            const enum word_kind kind = word_kind(words[i - 1]);
            if (kind == WORD_HASH) {
                can[i] = can[i] || can[i - 1];
            } else {
                can[i] = can[i - 1] && (kind == WORD_STAR || bytes_eq(words[i - 1], word));
            }
        }
        can[0] = false;
        /* A `#` also matches nothing, behind what has just become possible. */
        for (uint32_t i = 0; i < count; i++) {
            can[i + 1] = can[i + 1] || (can[i] && word_kind(words[i]) == WORD_HASH);
        }
    }
    return can[count];
}

const struct exchange_type route__topic = {
    .name = "topic",
    .by_key = true,
    .add = topic_add,
    .remove = topic_remove,
    .route = topic_route,
};
