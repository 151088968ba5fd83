/*
 * What: persistent map from bytes to objects that carry their key themselves: a hash array mapped
 * trie, 64-way. The same idea as pmap.h for tables that every message is looked up in: no object
 * for the root, none between the trie and the value, half the levels, and a well filled node is an
 * array. At 100,000 keys a look-up touches two cache lines that are cold.
 * Root: NULL = empty. The shape depends on the content alone.
 * Threads: immutable; any may read and drop.
 */
#ifndef WR_ROUTE_KEYMAP_H
#define WR_ROUTE_KEYMAP_H

#include "warren/pmap.h"

/* First member of every value. The key is the `key_size` bytes at `key_offset` behind its begin. */
struct keyed {
    struct pref ref;
    uint16_t key_offset;
    uint16_t key_size;
    uint16_t extra; /* These two are the owner's: small things that would cost padding elsewhere. */
    uint16_t flags;
};

struct keymap;

uint64_t keymap_hash(struct bytes key);

static inline struct bytes keyed_key(const struct keyed *value)
{
    return (struct bytes){(const uint8_t *)value + value->key_offset, value->key_size};
}

/* Borrowed, or NULL. hash: keymap_hash of the key, here and below. */
struct keyed *keymap_get(const struct keymap *map, uint64_t hash, struct bytes key);

/* A new map (one reference); the old one is borrowed and unchanged. set takes a reference of its
 * own of the value and replaces the one with the same key. remove: the key must be there; NULL when
 * nothing is left. */
struct keymap *keymap_set(struct keymap *map, uint64_t hash, struct keyed *value) WR_MUST_USE;
struct keymap *keymap_remove(struct keymap *map, uint64_t hash, struct bytes key) WR_MUST_USE;

/* The only value, or NULL when there are none or several. */
struct keyed *keymap_sole(const struct keymap *map);

struct keymap *keymap_ref(struct keymap *map); /* NULL is allowed in both. */
void keymap_unref(struct keymap *owned_map);

#endif
