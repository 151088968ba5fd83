/*
 * What: type-safe growable array as macros. A field or variable `VEC(struct item) items;` zeroed is
 * empty. For parameters name the type: `VEC_TYPE(item_vec, struct item);`.
 * Ownership: the vector owns its array, not what items point to. Items move when it grows.
 */
#ifndef WR_VEC_H
#define WR_VEC_H

#include <string.h>

#include "warren/assert.h"
#include "warren/mem.h"

#define VEC(type)                                                                                  \
    struct {                                                                                       \
        type *items;                                                                               \
        size_t count;                                                                              \
        size_t capacity;                                                                           \
    }

#define VEC_TYPE(name, type)                                                                       \
    struct name {                                                                                  \
        type *items;                                                                               \
        size_t count;                                                                              \
        size_t capacity;                                                                           \
    }

/* Implementation of growth: new array with room for at least count + extra items. */
void *vec__grow(void *owned_items, size_t count, size_t extra, size_t *capacity, size_t item_size);

#define vec_init(v) ((v)->items = NULL, (v)->count = 0, (v)->capacity = 0)

/* Free the array; the vector is then empty and usable. */
#define vec_deinit(v) (wr_free((v)->items), vec_init(v), (void)0)

/* Room for `extra` more items. */
#define vec_reserve(v, extra)                                                                      \
    ((v)->capacity - (v)->count < (size_t)(extra)                                                  \
         ? (void)((v)->items = vec__grow((v)->items, (v)->count, (size_t)(extra), &(v)->capacity,  \
                                         sizeof(*(v)->items)))                                     \
         : (void)0)

/* Append one item (evaluated after the array has grown). */
#define vec_push(v, ...) (vec_reserve((v), 1), (void)((v)->items[(v)->count++] = (__VA_ARGS__)))

/* Append a zeroed item and give a pointer to it, valid until the next growth. */
#define vec_add(v)                                                                                 \
    (vec_reserve((v), 1), memset(&(v)->items[(v)->count], 0, sizeof(*(v)->items)),                 \
     &(v)->items[(v)->count++])

/* The last item (there must be one), as an lvalue; and take it off, as a value. */
#define vec_last(v) ((v)->items[vec__check((v)->count) - 1])
#define vec_pop(v)  ((v)->items[((v)->count = vec__check((v)->count) - 1)])

/* The item at index, checked, as an lvalue. */
#define vec_at(v, index) ((v)->items[vec__check_index((size_t)(index), (v)->count)])

#define vec_clear(v) ((void)((v)->count = 0))

/* Keep only the first n items (n <= count). */
#define vec_truncate(v, n) ((void)((v)->count = vec__check_index((size_t)(n), (v)->count + 1)))

/* Insert one item before index (index <= count), keeping the order: O(n). */
#define vec_insert(v, index, ...)                                                                  \
    do {                                                                                           \
        const size_t vec_at_ = vec__check_index((size_t)(index), (v)->count + 1);                  \
        vec_reserve((v), 1);                                                                       \
        memmove(&(v)->items[vec_at_ + 1], &(v)->items[vec_at_],                                    \
                ((v)->count - vec_at_) * sizeof(*(v)->items));                                     \
        (v)->items[vec_at_] = (__VA_ARGS__);                                                       \
        (v)->count++;                                                                              \
    } while (0)

/* Remove the item at index, keeping the order: O(n). */
#define vec_remove(v, index)                                                                       \
    do {                                                                                           \
        const size_t vec_at_ = vec__check_index((size_t)(index), (v)->count);                      \
        (v)->count--;                                                                              \
        memmove(&(v)->items[vec_at_], &(v)->items[vec_at_ + 1],                                    \
                ((v)->count - vec_at_) * sizeof(*(v)->items));                                     \
    } while (0)

/* Remove the item at index by moving the last one there: O(1). */
#define vec_remove_swap(v, index)                                                                  \
    do {                                                                                           \
        const size_t vec_at_ = vec__check_index((size_t)(index), (v)->count);                      \
        (v)->count--;                                                                              \
        if (vec_at_ != (v)->count) {                                                               \
            (v)->items[vec_at_] = (v)->items[(v)->count];                                          \
        }                                                                                          \
    } while (0)

static inline size_t vec__check(size_t count)
{
    WR_ASSERT(count > 0);
    return count;
}

static inline size_t vec__check_index(size_t index, size_t count)
{
    WR_ASSERT_OP(index, <, count);
    return index;
}

#endif
