/*
 * What: binary heap of intrusive nodes in an array.
 * Invariants: I1 nodes[i]->position == i. I2 no node is less than its parent.
 * Ownership: the array is the heap's, nodes are the caller's.
 */
#include "warren/heap.h"

#include "warren/mem.h"

#define HEAP_CAPACITY_MIN 16

void heap_init(struct heap *h, heap_less_fn less)
{
    *h = (struct heap){NULL, 0, 0, less};
}

void heap_deinit(struct heap *h)
{
    wr_free(h->nodes);
    *h = (struct heap){NULL, 0, 0, h->less};
}

static void place(struct heap *h, uint32_t position, struct heap_node *node)
{
    h->nodes[position] = node;
    node->position = position;
}

/* Move the node from the hole at `position` up to where its parent is not greater. */
static void sift_up(struct heap *h, uint32_t position, struct heap_node *node)
{
    while (position > 0) {
        const uint32_t parent = (position - 1) / 2;
        if (!h->less(node, h->nodes[parent])) {
            break;
        }
        place(h, position, h->nodes[parent]);
        position = parent;
    }
    place(h, position, node);
}

/* Move the node from the hole at `position` down to where no child is less. */
static void sift_down(struct heap *h, uint32_t position, struct heap_node *node)
{
    for (;;) {
        uint32_t child = position * 2 + 1;
        if (child >= h->count) {
            break;
        }
        if (child + 1 < h->count && h->less(h->nodes[child + 1], h->nodes[child])) {
            child++;
        }
        if (!h->less(h->nodes[child], node)) {
            break;
        }
        place(h, position, h->nodes[child]);
        position = child;
    }
    place(h, position, node);
}

static void settle(struct heap *h, uint32_t position, struct heap_node *node)
{
    if (position > 0 && h->less(node, h->nodes[(position - 1) / 2])) {
        sift_up(h, position, node);
    } else {
        sift_down(h, position, node);
    }
}

void heap_insert(struct heap *h, struct heap_node *node)
{
    WR_ASSERT(!heap_contains(node));
    /* Half of the range keeps position * 2 + 2 from overflowing. */
    WR_ASSERT_OP(h->count, <, UINT32_MAX / 2 - 1);
    if (h->count == h->capacity) {
        h->capacity = h->capacity == 0 ? HEAP_CAPACITY_MIN : h->capacity * 2;
        h->nodes = wr_realloc_array(h->nodes, h->capacity, sizeof(struct heap_node *));
    }
    h->count++;
    sift_up(h, h->count - 1, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    const uint32_t position = node->position;
    WR_ASSERT_OP(position, <, h->count);
    WR_ASSERT(h->nodes[position] == node);
    h->count--;
    struct heap_node *last = h->nodes[h->count];
    if (last != node) {
        settle(h, position, last);
    }
    node->position = HEAP_NOT_IN;
}

void heap_update(struct heap *h, struct heap_node *node)
{
    WR_ASSERT_OP(node->position, <, h->count);
    WR_ASSERT(h->nodes[node->position] == node);
    settle(h, node->position, node);
}

struct heap_node *heap_pop(struct heap *h)
{
    struct heap_node *node = heap_first(h);
    if (node != NULL) {
        heap_remove(h, node);
    }
    return node;
}
