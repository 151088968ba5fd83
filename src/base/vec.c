/*
 * What: growth of vectors: doubling, at least eight items.
 */
#include "warren/vec.h"

#define VEC_CAPACITY_MIN 8

void *vec__grow(void *owned_items, size_t count, size_t extra, size_t *capacity, size_t item_size)
{
    WR_ASSERT_OP(count, <=, *capacity);
    WR_ASSERT_OP(extra, <=, SIZE_MAX / 2 - count);
    size_t grown = *capacity * 2;
    if (grown < count + extra) {
        grown = count + extra;
    }
    if (grown < VEC_CAPACITY_MIN) {
        grown = VEC_CAPACITY_MIN;
    }
    void *items = wr_realloc_array(owned_items, grown, item_size);
    *capacity = grown;
    return items;
}
