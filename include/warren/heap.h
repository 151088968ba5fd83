/*
 * What: intrusive binary heap (least element first). A `struct heap_node` inside the element knows
 * its place, so removal and re-ordering need no search. O(log n). Elements that compare equal come
 * out in an order that depends only on the operations made (deterministic), but not in order of
 * insertion. Ownership: the heap owns its array; elements are the caller's and must leave before
 * they are freed.
 */
#ifndef WR_HEAP_H
#define WR_HEAP_H

#include "warren/assert.h"

#define HEAP_NOT_IN UINT32_MAX

struct heap_node {
    uint32_t position; /* Index in the array, or HEAP_NOT_IN. */
};

/* True when a must come out before b. Must be a strict weak order. */
typedef bool (*heap_less_fn)(const struct heap_node *a, const struct heap_node *b);

struct heap {
    struct heap_node **nodes;
    uint32_t count;
    uint32_t capacity;
    heap_less_fn less;
};

void heap_init(struct heap *h, heap_less_fn less);

/* Free the array. Elements still in it are forgotten (their nodes are not touched). */
void heap_deinit(struct heap *h);

static inline void heap_node_init(struct heap_node *node)
{
    node->position = HEAP_NOT_IN;
}

static inline bool heap_contains(const struct heap_node *node)
{
    return node->position != HEAP_NOT_IN;
}

/* Put a node that is in no heap. */
void heap_insert(struct heap *h, struct heap_node *node);

/* Take a node that is in this heap out. */
void heap_remove(struct heap *h, struct heap_node *node);

/* The node's key has changed: restore the order. */
void heap_update(struct heap *h, struct heap_node *node);

/* The least node, or NULL. */
static inline struct heap_node *heap_first(const struct heap *h)
{
    return h->count == 0 ? NULL : h->nodes[0];
}

/* Take the least node out, or NULL. */
struct heap_node *heap_pop(struct heap *h);

#endif
