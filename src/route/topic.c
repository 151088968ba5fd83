/*
 * What: topic exchanges: a trie over the words of binding keys, with `*` and `#` as children of
 * their own beside the literal words. A way that leads to one pattern only and has no more
 * wildcards is not a chain of nodes but one node with the rest of the pattern as its tail: few
 * steps, and few cache lines, in a large table. Happy path: the routing key is read word by word
 * with the set of nodes that can be active behind the words so far; a tail is compared with the
 * rest of the key at once. A `#` node, once active, stays active to the end (it may swallow any
 * word), so nothing is ever tried twice: time is words x active nodes, and there is no
 * backtracking.
 * Invariants: T1 No `#` has a `#` below it: runs of `#` are one (they match the same). T2 A node is
 * the end of a binding or has children; except for an empty trie, which is NULL. T3 A node is
 * active at most once per word. A plain node has one parent; a `#` node could be entered again by
 * its parent only when the parent has a `#` above it (`nested`), and then is marked. T4 Nodes are
 * immutable once in an index; bind and unbind copy the path, at most 257 nodes. T5 A node other
 * than the top one and a `#`, with one pattern below it that has literal words to come and nothing
 * else, is tailed; no other is. So the shape follows from the content.
 * Recursion: over the words of a pattern, at most WORDS_MAX levels.
 * Threads: any may read; made by the catalog's. Spec: AMQP reference §7.
 */
#include "internal.h"

/* A key of 255 bytes has at most 256 words. */
#define WORDS_MAX (CATALOG_NAME_MAX + 1)

struct topic_node {
    struct pref ref;
    uint64_t id; /* Unique within the trie: binding that made it, and depth. */
    bool nested; /* A `#` node below another one. */
    bool tailed; /* T5: no children; the bindings end behind the tail. */
    uint16_t tail_size;
    struct pmap *words; /* literal word -> struct topic_node */
    struct topic_node *star;
    struct topic_node *hash;
    struct target_set *targets; /* Bindings that end here. */
    uint8_t tail[];
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

/* A new node without anything. */
static struct topic_node *node_new(uint64_t id, bool nested, struct bytes tail)
{
    struct topic_node *node = wr_calloc(1, sizeof(*node) + tail.size);
    pref_init(&node->ref, node_free);
    node->id = id;
    node->nested = nested;
    node->tail_size = (uint16_t)tail.size;
    if (tail.size > 0) {
        memcpy(node->tail, tail.data, tail.size);
    }
    return node;
}

static struct bytes node_tail(const struct topic_node *node)
{
    return (struct bytes){node->tail, node->tail_size};
}

static struct target_set *targets_ref(struct target_set *targets)
{
    if (targets != NULL) {
        (void)pref_ref(&targets->ref);
    }
    return targets;
}

/* A copy to be changed. */
static struct topic_node *node_open(const struct topic_node *node)
{
    struct topic_node *copy = node_new(node->id, node->nested, node_tail(node));
    copy->tailed = node->tailed;
    copy->words = pmap_ref(node->words);
    copy->star = node_ref(node->star);
    copy->hash = node_ref(node->hash);
    copy->targets = targets_ref(node->targets);
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

/* What is bound, and where in its pattern the change is at work. */
struct change {
    struct catalog_binding *binding;
    struct bytes words[WORDS_MAX];
    uint32_t count;
    uint32_t literal_from; /* All words from this one on are literal. */
    uint64_t id;           /* Of new nodes: the binding's, with room for the depth. */
};

static void change_init(struct change *ch, struct catalog_binding *binding)
{
    ch->binding = binding;
    ch->count = split_pattern(binding->key, ch->words);
    ch->literal_from = ch->count;
    while (ch->literal_from > 0 && word_kind(ch->words[ch->literal_from - 1]) == WORD_LITERAL) {
        ch->literal_from--;
    }
    ch->id = binding->id << 9; /* Depth is at most 256; ids are below 2^54. */
}

/* The words from `depth` on as they are in the key. There are some, and they are literal. */
static struct bytes rest_of(const struct change *ch, uint32_t depth)
{
    const uint8_t *begin = ch->words[depth].data;
    return (struct bytes){begin, (size_t)(ch->binding->key.data + ch->binding->key.size - begin)};
}

/* May a node that stands behind so many words have a tail (T5)? */
static bool may_have_tail(const struct change *ch, uint32_t depth)
{
    return depth > 0 && word_kind(ch->words[depth - 1]) != WORD_HASH;
}

static void add_target(struct topic_node *node, struct catalog_binding *binding)
{
    struct target_set *targets = targets_add(node->targets, binding);
    if (node->targets != NULL) {
        pref_unref(&node->targets->ref);
    }
    node->targets = targets;
}

static bool below_hash(const struct change *ch, uint32_t depth)
{
    for (uint32_t i = 0; i + 1 < depth; i++) {
        if (word_kind(ch->words[i]) == WORD_HASH) {
            return true;
        }
    }
    return false;
}

/* The node with one child in the place of its tail. */
static struct topic_node *untail(const struct topic_node *node)
{
    struct topic_node *copy = node_new(node->id, node->nested, BYTES_NONE);
    struct bytes rest = node_tail(node);
    struct bytes word;
    bool more = true;
    (void)next_word(&rest, &more, &word);
    /* Ids of nodes that are no `#` do not matter. */
    struct topic_node *child = node_new(node->id, false, more ? rest : BYTES_NONE);
    child->tailed = more;
    child->targets = targets_ref(node->targets);
    node_set_child(copy, word, child);
    return copy;
}

/* What takes the place of the node (NULL: none there yet) behind `depth` words. */
static struct topic_node *node_with(const struct topic_node *node, const struct change *ch,
                                    uint32_t depth)
{
    const bool tail_comes = depth < ch->count && depth >= ch->literal_from;
    struct topic_node *after = NULL;
    if (node == NULL) {
        const bool tailed = tail_comes && may_have_tail(ch, depth);
        after = node_new(ch->id | depth, below_hash(ch, depth),
                         tailed ? rest_of(ch, depth) : BYTES_NONE);
        after->tailed = tailed;
    } else if (node->tailed && !(tail_comes && bytes_eq(node_tail(node), rest_of(ch, depth)))) {
        after = untail(node);
    } else {
        after = node_open(node);
    }
    if (depth == ch->count || after->tailed) {
        add_target(after, ch->binding);
    } else {
        const struct bytes word = ch->words[depth];
        node_set_child(after, word, node_with(node_child(after, word), ch, depth + 1));
    }
    return after;
}

static struct pref *topic_add(struct pref *index, struct catalog_binding *binding)
{
    struct change ch;
    change_init(&ch, binding);
    return &node_with((struct topic_node *)index, &ch, 0)->ref;
}

/* The child that is all there is below a node, if the node can have the word to it as (the
 * beginning of) its tail. */
static const struct topic_node *sole_end(const struct topic_node *node, struct bytes *ret_word)
{
    if (node->targets != NULL || node->star != NULL || node->hash != NULL ||
        pmap_count(node->words) != 1) {
        return NULL;
    }
    struct pmap_iter it;
    (void)pmap_first(&it, node->words);
    const struct topic_node *child = (const struct topic_node *)it.value;
    *ret_word = it.key;
    return child->words == NULL && child->star == NULL && child->hash == NULL ? child : NULL;
}

/* T5, after something below the node has gone. */
static struct topic_node *node_close(struct topic_node *owned_node)
{
    struct bytes word;
    const struct topic_node *end = sole_end(owned_node, &word);
    if (end == NULL) {
        return owned_node;
    }
    uint8_t tail[CATALOG_NAME_MAX];
    const size_t size = word.size + (end->tailed ? 1u + end->tail_size : 0);
    WR_ASSERT_OP(size, <=, sizeof(tail)); /* It is part of a binding key. */
    if (word.size > 0) {
        memcpy(tail, word.data, word.size);
    }
    if (end->tailed) {
        tail[word.size] = '.';
        memcpy(tail + word.size + 1, end->tail, end->tail_size);
    }
    struct topic_node *node = node_new(owned_node->id, owned_node->nested, bytes_make(tail, size));
    node->tailed = true;
    node->targets = targets_ref(end->targets);
    node_unref(owned_node);
    return node;
}

/* What takes the place of the node behind `depth` words; NULL: nothing. */
static struct topic_node *node_without(const struct topic_node *node, const struct change *ch,
                                       uint32_t depth)
{
    WR_ASSERT(node != NULL);
    struct topic_node *after = node_open(node);
    if (depth == ch->count || node->tailed) {
        WR_ASSERT(node->targets != NULL);
        after->targets = targets_remove(node->targets, ch->binding);
        pref_unref(&node->targets->ref);
    } else {
        const struct bytes word = ch->words[depth];
        node_set_child(after, word, node_without(node_child(node, word), ch, depth + 1));
    }
    if (node_is_empty(after)) { /* T2 */
        node_unref(after);
        return NULL;
    }
    return !after->tailed && may_have_tail(ch, depth) ? node_close(after) : after;
}

static struct pref *topic_remove(struct pref *index, struct catalog_binding *binding)
{
    struct change ch;
    change_init(&ch, binding);
    struct topic_node *after = node_without((struct topic_node *)index, &ch, 0);
    return after == NULL ? NULL : &after->ref;
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

/* The part of the key that is being read. */
struct key_rest {
    struct bytes rest; /* Behind the word. */
    bool more;         /* There is another word. */
    struct bytes word;
};

/* The key so far leads to the node. */
static void enter(struct route_result *result, const struct topic_node *node,
                  const struct key_rest *key)
{
    if (!node->tailed) {
        vec_push(&result->scratch->next, node);
        enter_hash(result->scratch, node);
    } else if (key->more && bytes_eq(node_tail(node), key->rest)) {
        targets_emit(node->targets, result);
    }
}

/* Enters the children of an active node that the word leads to. */
static void step(struct route_result *result, const struct topic_node *node,
                 const struct key_rest *key)
{
    result->scratch->steps++;
    if (node->words != NULL) {
        const struct topic_node *child =
            (const struct topic_node *)pmap_get(node->words, key->word);
        if (child != NULL) {
            enter(result, child, key);
        }
    }
    if (node->star != NULL) {
        enter(result, node->star, key);
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
    struct key_rest at = {.rest = key, .more = key.size > 0};
    while (s->current.count + s->hashes.count > 0 && next_word(&at.rest, &at.more, &at.word)) {
        /* What becomes active by this word does not consume it. */
        const size_t hash_count = s->hashes.count;
        for (size_t i = 0; i < s->current.count; i++) {
            step(result, s->current.items[i], &at);
        }
        for (size_t i = 0; i < hash_count; i++) {
            step(result, s->hashes.items[i], &at);
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
