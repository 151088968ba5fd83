/* Binary heap against a naive search for the least. */
#include <criterion/criterion.h>

#include "warren/heap.h"
#include "warren/prng.h"

struct element {
    struct heap_node node;
    uint64_t key;
};

static bool less(const struct heap_node *a, const struct heap_node *b)
{
    return WR_CONTAINER_OF_CONST(a, struct element, node)->key <
           WR_CONTAINER_OF_CONST(b, struct element, node)->key;
}

enum { COUNT = 200 };

static uint64_t least(const struct element *elements)
{
    uint64_t found = UINT64_MAX;
    for (int i = 0; i < COUNT; i++) {
        if (heap_contains(&elements[i].node) && elements[i].key < found) {
            found = elements[i].key;
        }
    }
    return found;
}

Test(heap, always_gives_the_least)
{
    static struct element elements[COUNT];
    struct prng prng;
    prng_init(&prng, 3);
    struct heap h;
    heap_init(&h, less);
    for (int i = 0; i < COUNT; i++) {
        heap_node_init(&elements[i].node);
    }
    for (int round = 0; round < 20000; round++) {
        struct element *e = &elements[prng_below(&prng, COUNT)];
        if (!heap_contains(&e->node)) {
            e->key = prng_below(&prng, 1000);
            heap_insert(&h, &e->node);
        } else if (prng_ratio(&prng, 1, 2)) {
            e->key = prng_below(&prng, 1000);
            heap_update(&h, &e->node);
        } else {
            heap_remove(&h, &e->node);
        }
        const struct heap_node *first = heap_first(&h);
        const uint64_t key =
            first == NULL ? UINT64_MAX : WR_CONTAINER_OF_CONST(first, struct element, node)->key;
        cr_assert_eq(key, least(elements));
    }
    uint64_t before = 0;
    for (struct heap_node *n = heap_pop(&h); n != NULL; n = heap_pop(&h)) {
        cr_assert_not(heap_contains(n));
        cr_assert_geq(WR_CONTAINER_OF(n, struct element, node)->key, before);
        before = WR_CONTAINER_OF(n, struct element, node)->key;
    }
    cr_assert_eq(h.count, 0);
    heap_deinit(&h);
}
