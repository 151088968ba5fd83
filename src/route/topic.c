/*
 * What: topic exchanges: a trie over the words of binding keys, with `*` and `#` as children of
 * their own beside the literal words. A way that leads to one pattern only is not a chain of nodes
 * but one node with the rest of the pattern as its tail: few steps, and few cache lines, in a large
 * table. Happy path: the routing key is read word by word
 * with the set of nodes that can be active behind the words so far; a tail is compared with the
 * rest of the key at once, if it is literal as bytes. A `#` node, once active, stays active to the
 * end (it may swallow any word), so nothing is ever tried twice: time is words x active nodes, and
 * there is no backtracking. Invariants: T1 No `#` has a `#` below it: runs of `#` are one (they
 * match the same). T2 A node is the end of a binding or has children; except for an empty trie,
 * which is NULL. T3 A node is active at most once per word. A plain node has one parent; a `#` node
 * could be entered again by its parent only when the parent has a `#` above it (`nested`), and then
 * is marked. T4 Nodes are immutable once in an index; bind and unbind copy the path, at most 257
 * nodes. T5 A node behind a literal word, with one pattern below it that has words to come and
 * nothing else, is tailed, if none of these is a `#` but the last, and that one is the only `#` of
 * the pattern; no other node is. So the shape follows from the content. Recursion: over the words
 * of a pattern, at most WORDS_MAX levels. Threads: any may read; made by the catalog's. Spec: AMQP
 * reference §7.
 */
#include "internal.h"
#include "keymap.h"

/* A key of 255 bytes has at most 256 words. */
#define WORDS_MAX (CATALOG_NAME_MAX + 1)

/* What a node has below it. */
struct topic_below {
    struct keymap *words; /* literal word -> struct topic_node */
    struct topic_node *star;
    struct topic_node *hash;
    uint64_t id; /* Of a nested `#` node, unique within the trie. */
};

/* keyed: in the parent's words, by the word; extra is the size of the tail, which is in the text
 * behind the word. Most nodes are ends: they have no `below`, and fit into one cache line. */
struct topic_node {
    struct keyed keyed;
    struct targets targets; /* Bindings that end here. */
    struct topic_below *below;
    uint8_t text[]; /* word, tail */
};

enum node_flags {
    NODE_NESTED = 1, /* A `#` node below another one. It has a `below`, for the id. */
    NODE_TAILED = 2, /* T5: nothing below; the bindings end behind the tail, */
    NODE_WILD = 4,   /* which has a `*` or a `#`. */
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
        (void)pref_ref(&node->keyed.ref);
    }
    return node;
}

static void node_unref(struct topic_node *owned_node)
{
    if (owned_node != NULL) {
        pref_unref(&owned_node->keyed.ref);
    }
}

static void node_free(struct pref *owned_ref)
{
    struct topic_node *node = (struct topic_node *)owned_ref;
    if (node->below != NULL) {
        keymap_unref(node->below->words);
        node_unref(node->below->star);
        node_unref(node->below->hash);
        wr_free(node->below);
    }
    targets_drop(&node->targets);
    wr_free(node);
}

static bool node_is(const struct topic_node *node, enum node_flags flag)
{
    return (node->keyed.flags & flag) != 0;
}

/* A new node without anything. */
static struct topic_node *node_new(struct bytes word)
{
    struct topic_node *node = wr_calloc(1, sizeof(*node) + word.size);
    pref_init(&node->keyed.ref, node_free);
    node->keyed.key_offset = offsetof(struct topic_node, text);
    node->keyed.key_size = (uint16_t)word.size;
    if (word.size > 0) {
        memcpy(node->text, word.data, word.size);
    }
    return node;
}

static bool is_literal(struct bytes words)
{
    struct bytes word;
    bool more = true;
    while (next_word(&words, &more, &word)) {
        if (word_kind(word) != WORD_LITERAL) {
            return false;
        }
    }
    return true;
}

/* A new node with a tail, and nothing at the end of it yet. */
static struct topic_node *node_new_tailed(struct bytes word, struct bytes tail)
{
    struct topic_node *node = wr_calloc(1, sizeof(*node) + word.size + tail.size);
    pref_init(&node->keyed.ref, node_free);
    node->keyed.key_offset = offsetof(struct topic_node, text);
    node->keyed.key_size = (uint16_t)word.size;
    node->keyed.extra = (uint16_t)tail.size;
    node->keyed.flags = is_literal(tail) ? NODE_TAILED : NODE_TAILED | NODE_WILD;
    if (word.size > 0) {
        memcpy(node->text, word.data, word.size);
    }
    if (tail.size > 0) {
        memcpy(node->text + word.size, tail.data, tail.size);
    }
    return node;
}

static struct bytes node_tail(const struct topic_node *node)
{
    return (struct bytes){node->text + node->keyed.key_size, node->keyed.extra};
}

/* A copy to be changed. */
static struct topic_node *node_open(const struct topic_node *node)
{
    const struct bytes word = keyed_key(&node->keyed);
    struct topic_node *copy =
        node_is(node, NODE_TAILED) ? node_new_tailed(word, node_tail(node)) : node_new(word);
    copy->keyed.flags = node->keyed.flags;
    copy->targets = targets_copy(&node->targets);
    if (node->below != NULL) {
        copy->below = wr_alloc(sizeof(*copy->below));
        *copy->below = (struct topic_below){.words = keymap_ref(node->below->words),
                                            .star = node_ref(node->below->star),
                                            .hash = node_ref(node->below->hash),
                                            .id = node->below->id};
    }
    return copy;
}

/* Nothing below. */
static bool node_is_end(const struct topic_node *node)
{
    const struct topic_below *below = node->below;
    return below == NULL || (below->words == NULL && below->star == NULL && below->hash == NULL);
}

static struct topic_node *node_child(const struct topic_node *node, struct bytes word)
{
    if (node->below == NULL) {
        return NULL;
    }
    switch (word_kind(word)) {
    case WORD_STAR:
        return node->below->star;
    case WORD_HASH:
        return node->below->hash;
    case WORD_LITERAL:
    default:
        return (struct topic_node *)keymap_get(node->below->words, keymap_hash(word), word);
    }
}

/* Replaces a child of a node that is being made; NULL takes it away. */
static void node_set_child(struct topic_node *node, struct bytes word,
                           struct topic_node *owned_child)
{
    const enum word_kind kind = word_kind(word);
    if (node->below == NULL) {
        node->below = wr_calloc(1, sizeof(*node->below));
    }
    if (kind == WORD_LITERAL) {
        struct keymap *before = node->below->words;
        const uint64_t hash = keymap_hash(word);
        node->below->words = owned_child == NULL ? keymap_remove(before, hash, word)
                                                 : keymap_set(before, hash, &owned_child->keyed);
        node_unref(owned_child);
        keymap_unref(before);
    } else {
        struct topic_node **child = kind == WORD_STAR ? &node->below->star : &node->below->hash;
        node_unref(*child);
        *child = owned_child;
    }
    /* The shape follows from the content. */
    if (node_is_end(node) && !node_is(node, NODE_NESTED)) {
        wr_free(node->below);
        node->below = NULL;
    }
}

/* What is bound, and where in its pattern the change is at work. */
struct change {
    struct catalog_binding *binding;
    struct bytes words[WORDS_MAX];
    uint32_t count;
    uint32_t tail_from; /* The words from this one on may be a tail (T5). */
    uint64_t id;        /* Of new nodes: the binding's, with room for the depth. */
};

/* May the word be part of a tail, as far as `#` is concerned? */
static bool fits_tail(const struct change *ch, uint32_t at, uint32_t hashes)
{
    return word_kind(ch->words[at]) != WORD_HASH || (at + 1 == ch->count && hashes == 1);
}

static void change_init(struct change *ch, struct catalog_binding *binding)
{
    ch->binding = binding;
    ch->count = split_pattern(binding->key, ch->words);
    uint32_t hashes = 0;
    for (uint32_t i = 0; i < ch->count; i++) {
        hashes += word_kind(ch->words[i]) == WORD_HASH;
    }
    ch->tail_from = ch->count;
    while (ch->tail_from > 0 && fits_tail(ch, ch->tail_from - 1, hashes)) {
        ch->tail_from--;
    }
    ch->id = binding->id << 9; /* Depth is at most 256; ids are below 2^54. */
}

/* The words from `depth` on as they are in the key, a run of `#` at the end as one. There are some,
 * and they may be a tail. */
static struct bytes rest_of(const struct change *ch, uint32_t depth)
{
    const uint8_t *begin = ch->words[depth].data;
    const struct bytes last = ch->words[ch->count - 1];
    return (struct bytes){begin, (size_t)(last.data + last.size - begin)};
}

/* May a node that stands behind so many words have a tail (T5)? */
static bool may_have_tail(const struct change *ch, uint32_t depth)
{
    return depth > 0 && word_kind(ch->words[depth - 1]) == WORD_LITERAL;
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

/* A new node behind `depth` words. */
static struct topic_node *node_behind(const struct change *ch, uint32_t depth)
{
    const struct bytes word = depth == 0 ? BYTES_NONE : ch->words[depth - 1];
    if (depth == 0 || word_kind(word) == WORD_STAR) {
        return node_new(BYTES_NONE);
    }
    if (word_kind(word) == WORD_LITERAL) {
        return depth < ch->count && depth >= ch->tail_from
                   ? node_new_tailed(word, rest_of(ch, depth))
                   : node_new(word);
    }
    struct topic_node *node = node_new(BYTES_NONE);
    if (below_hash(ch, depth)) {
        node->keyed.flags = NODE_NESTED;
        node->below = wr_calloc(1, sizeof(*node->below));
        node->below->id = ch->id | depth;
    }
    return node;
}

/* Puts the words of a tail below a node that has nothing there: a node for each, up to the first
 * literal one, whose node has what is left as its tail. */
static void put_way(struct topic_node *node, struct bytes tail, const struct targets *targets)
{
    struct bytes word;
    bool more = true;
    (void)next_word(&tail, &more, &word);
    const bool literal = word_kind(word) == WORD_LITERAL;
    const struct bytes key = literal ? word : BYTES_NONE;
    struct topic_node *child = literal && more ? node_new_tailed(key, tail) : node_new(key);
    if (literal || !more) {
        child->targets = targets_copy(targets);
    } else {
        put_way(child, tail, targets);
    }
    node_set_child(node, word, child);
}

/* The node with what the tail says below it. */
static struct topic_node *untail(const struct topic_node *node)
{
    struct topic_node *copy = node_new(keyed_key(&node->keyed));
    put_way(copy, node_tail(node), &node->targets);
    return copy;
}

/* What takes the place of the node (NULL: none there yet) behind `depth` words. */
static struct topic_node *node_with(const struct topic_node *node, const struct change *ch,
                                    uint32_t depth)
{
    struct topic_node *after = NULL;
    if (node == NULL) {
        after = node_behind(ch, depth);
    } else if (node_is(node, NODE_TAILED) && !(depth < ch->count && depth >= ch->tail_from &&
                                               bytes_eq(node_tail(node), rest_of(ch, depth)))) {
        after = untail(node);
    } else {
        after = node_open(node);
    }
    if (depth == ch->count || node_is(after, NODE_TAILED)) {
        targets_put(&after->targets, ch->binding);
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
    return &node_with((struct topic_node *)index, &ch, 0)->keyed.ref;
}

/* The words of the only way below a node, as a tail. */
struct way {
    size_t size;
    uint8_t tail[CATALOG_NAME_MAX];
    const struct topic_node *end;
};

static void way_add(struct way *way, bool first, struct bytes words)
{
    WR_ASSERT_OP(way->size + !first + words.size, <=, sizeof(way->tail)); /* Of a binding key. */
    if (!first) {
        way->tail[way->size++] = '.';
    }
    if (words.size > 0) {
        memcpy(way->tail + way->size, words.data, words.size);
        way->size += words.size;
    }
}

/* The only child of a node, and the word to it; NULL when there are several. */
static const struct topic_node *sole_child(const struct topic_below *below, struct bytes *ret_word)
{
    if ((below->words != NULL) + (below->star != NULL) + (below->hash != NULL) != 1) {
        return NULL;
    }
    if (below->words == NULL) {
        *ret_word = below->star != NULL ? BYTES_LITERAL("*") : BYTES_LITERAL("#");
        return below->star != NULL ? below->star : below->hash;
    }
    const struct keyed *child = keymap_sole(below->words);
    *ret_word = child == NULL ? BYTES_NONE : keyed_key(child);
    return (const struct topic_node *)child;
}

/* Is one way all there is below the node, and may it be a tail (T5)? */
static bool find_way(const struct topic_node *node, struct way *way)
{
    bool first = true;
    way->size = 0;
    for (; !node_is_end(node); first = false) {
        struct bytes word;
        const struct topic_node *child =
            targets_empty(&node->targets) ? sole_child(node->below, &word) : NULL;
        if (child == NULL ||
            (child == node->below->hash && (!node_is_end(child) || node_is(child, NODE_NESTED)))) {
            return false;
        }
        way_add(way, first, word);
        if (node_is(child, NODE_TAILED)) {
            way_add(way, false, node_tail(child));
        }
        node = child;
    }
    way->end = node;
    return !first;
}

/* After something below the node has gone. */
static struct topic_node *node_close(struct topic_node *owned_node)
{
    struct way way;
    if (!find_way(owned_node, &way)) {
        return owned_node;
    }
    struct topic_node *node =
        node_new_tailed(keyed_key(&owned_node->keyed), bytes_make(way.tail, way.size));
    node->targets = targets_copy(&way.end->targets);
    node_unref(owned_node);
    return node;
}

/* What takes the place of the node behind `depth` words; NULL: nothing. */
static struct topic_node *node_without(const struct topic_node *node, const struct change *ch,
                                       uint32_t depth)
{
    WR_ASSERT(node != NULL);
    struct topic_node *after = node_open(node);
    if (depth == ch->count || node_is(node, NODE_TAILED)) {
        targets_take(&after->targets, ch->binding);
    } else {
        const struct bytes word = ch->words[depth];
        node_set_child(after, word, node_without(node_child(node, word), ch, depth + 1));
    }
    if (node_is_end(after) && targets_empty(&after->targets)) { /* T2 */
        node_unref(after);
        return NULL;
    }
    return may_have_tail(ch, depth) ? node_close(after) : after;
}

static struct pref *topic_remove(struct pref *index, struct catalog_binding *binding)
{
    struct change ch;
    change_init(&ch, binding);
    struct topic_node *after = node_without((struct topic_node *)index, &ch, 0);
    return after == NULL ? NULL : &after->keyed.ref;
}

/* --- matching ------------------------------------------------------------------------------------
 */

/* The part of the key that is being read. */
struct key_rest {
    struct bytes rest; /* Behind the word. */
    bool more;         /* There is another word. */
    struct bytes word;
    bool hashed; /* Many words are never looked up: */
    uint64_t hash;
};

/* The node is active behind the words so far, and its `#` with it: that matches no word, too. One
 * with nothing behind it matches whatever comes. */
static void enter_hash(struct route_result *result, const struct topic_node *hash)
{
    struct route_scratch *s = result->scratch;
    if (hash->below == NULL) {
        targets_emit_each(&hash->targets, result);
    } else if (!node_is(hash, NODE_NESTED) || route__marks_add(&s->entered, hash->below->id)) {
        vec_push(&s->hashes, hash);
    }
}

/* The words so far lead to the node, which has no tail. Behind the last one it counts what ends
 * there, before it what it has below. */
static void enter(struct route_result *result, const struct topic_node *node, bool more)
{
    const struct topic_below *below = node->below;
    if (!more && !targets_empty(&node->targets)) {
        targets_emit_each(&node->targets, result);
    }
    if (below == NULL) {
        return;
    }
    if (more && (below->words != NULL || below->star != NULL)) {
        vec_push(&result->scratch->next, node);
    }
    if (below->hash != NULL) {
        enter_hash(result, below->hash);
    }
}

/* Does the tail of the node match what comes behind the word? */
static bool tail_matches(struct route_scratch *s, const struct topic_node *node,
                         const struct key_rest *key)
{
    struct bytes tail = node_tail(node);
    struct bytes rest = key->rest;
    struct bytes pattern;
    struct bytes word;
    bool more = key->more;
    if (!node_is(node, NODE_WILD)) {
        return more && bytes_eq(tail, rest);
    }
    for (bool pattern_more = true; next_word(&tail, &pattern_more, &pattern);) {
        const enum word_kind kind = word_kind(pattern);
        s->steps++;
        if (kind == WORD_HASH) {
            return true; /* It is the last. */
        }
        if (!next_word(&rest, &more, &word) || (kind == WORD_LITERAL && !bytes_eq(pattern, word))) {
            return false;
        }
    }
    return !more;
}

static const struct topic_node *find_child(const struct topic_below *below, struct key_rest *key)
{
    if (below->words == NULL) {
        return NULL;
    }
    if (!key->hashed) {
        key->hash = keymap_hash(key->word);
        key->hashed = true;
    }
    return (const struct topic_node *)keymap_get(below->words, key->hash, key->word);
}

/* Enters the children of an active node that the word leads to. */
static void step(struct route_result *result, const struct topic_node *node, struct key_rest *key)
{
    const struct topic_below *below = node->below;
    result->scratch->steps++;
    const struct topic_node *child = find_child(below, key);
    if (child != NULL && !node_is(child, NODE_TAILED)) {
        enter(result, child, key->more);
    } else if (child != NULL && tail_matches(result->scratch, child, key)) {
        targets_emit_each(&child->targets, result);
    }
    if (below->star != NULL) {
        enter(result, below->star, key->more);
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
    struct key_rest at = {.rest = key, .more = key.size > 0};
    enter(result, root, at.more);
    swap_lists(s);
    while (s->current.count + s->hashes.count > 0 && next_word(&at.rest, &at.more, &at.word)) {
        /* What becomes active by this word does not consume it. */
        const size_t hash_count = s->hashes.count;
        at.hashed = false;
        for (size_t i = 0; i < s->current.count; i++) {
            step(result, s->current.items[i], &at);
        }
        for (size_t i = 0; i < hash_count; i++) {
            step(result, s->hashes.items[i], &at);
        }
        swap_lists(s);
    }
    for (size_t i = 0; i < s->hashes.count; i++) {
        if (!targets_empty(&s->hashes.items[i]->targets)) {
            targets_emit_each(&s->hashes.items[i]->targets, result);
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
