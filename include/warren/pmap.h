/*
 * What: persistent (immutable, structure-sharing) map from bytes to reference-counted values: a
 * hash array mapped trie of 32-way bitmap nodes. A change gives a new root and leaves the old one
 * as it was; both share all but O(log n) nodes. Order of iteration is the order of a fixed hash of
 * the keys: the same content gives the same order on every node and in every history. Root: `struct
 * pmap *`, NULL = empty. Threads: whoever holds a root may read it without any lock; pmap_ref,
 * pmap_unref and pref_* from any thread (values are then freed on the thread that drops the last
 * version holding them).
 */
#ifndef WR_PMAP_H
#define WR_PMAP_H

#include <stdatomic.h>

#include "warren/bytes.h"

/* First member of every value. */
struct pref {
    _Atomic uint32_t refs;
    void (*free)(struct pref *owned_ref); /* Called by whoever drops the last reference. */
};

/* One reference, the caller's. */
static inline void pref_init(struct pref *p, void (*free)(struct pref *owned_ref))
{
    atomic_init(&p->refs, 1);
    p->free = free;
}

static inline struct pref *pref_ref(struct pref *p)
{
    atomic_fetch_add_explicit(&p->refs, 1, memory_order_relaxed);
    return p;
}

/* NULL is allowed. */
static inline void pref_unref(struct pref *owned_p)
{
    if (owned_p != NULL &&
        atomic_fetch_sub_explicit(&owned_p->refs, 1, memory_order_acq_rel) == 1) {
        owned_p->free(owned_p);
    }
}

struct pmap;

/* The value, borrowed from the root, or NULL. */
struct pref *pmap_get(const struct pmap *root, struct bytes key);

/*
 * A new root (one reference, the caller's) that has the value for the key. Takes a reference of its
 * own on value (the caller keeps his) and copies the key. The old root is neither changed nor
 * dropped.
 */
struct pmap *pmap_set(struct pmap *root, struct bytes key, struct pref *value) WR_MUST_USE;

/* A new root without the key, NULL when that is empty; a new reference of the same root when the
 * key was not there. The old root is neither changed nor dropped. */
struct pmap *pmap_remove(struct pmap *root, struct bytes key) WR_MUST_USE;

/* The same, in place: *root is replaced and its reference dropped. */
void pmap_set_in(struct pmap **root, struct bytes key, struct pref *value);
void pmap_remove_in(struct pmap **root, struct bytes key);

/* Number of keys; 0 for NULL. */
size_t pmap_count(const struct pmap *root);

/* NULL is allowed in both. */
struct pmap *pmap_ref(struct pmap *root);
void pmap_unref(struct pmap *owned_root);

#define PMAP_DEPTH_MAX 15

struct pmap_node;

/* Cursor; the root must be held meanwhile.
 * for (bool more = pmap_first(&it, root); more; more = pmap_next(&it)) { it.key, it.value } */
struct pmap_iter {
    struct bytes key;   /* Borrowed from the root. */
    struct pref *value; /* Borrowed from the root. */
    const struct pmap_node *nodes[PMAP_DEPTH_MAX];
    uint32_t positions[PMAP_DEPTH_MAX]; /* Next child to visit in each node. */
    uint32_t depth;                     /* Nodes on the stack. */
};

bool pmap_first(struct pmap_iter *it, const struct pmap *root);
bool pmap_next(struct pmap_iter *it);

/*
 * Calls fn for every key whose value is not the same object in both: before NULL = added, after
 * NULL = removed. What both roots share is skipped, so the cost is that of the differences. Both
 * roots must be held meanwhile; either may be NULL. Order depends on the keys only.
 */
typedef void (*pmap_diff_fn)(void *ctx, struct bytes key, struct pref *before, struct pref *after);
void pmap_diff(const struct pmap *before, const struct pmap *after, pmap_diff_fn fn, void *ctx);

#endif
