/*
 * What: what will be due when: a binary heap of moments. Times mostly ascend, so adding is O(1) as
 * a rule, and what continues the moment added last only makes that one longer. Invariants: nothing
 * observable depends on what is in a timeline beyond the messages that are really there: equal
 * times come out in any order, and whoever takes moments out sorts what they lead to.
 */
#include "queue_internal.h"

#include <stdlib.h>

static void sift_up(struct queue_timeline *t, size_t at)
{
    const struct queue_moment moment = t->heap.items[at];
    while (at > 0 && t->heap.items[(at - 1) / 2].when > moment.when) {
        t->heap.items[at] = t->heap.items[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->heap.items[at] = moment;
}

static void sift_down(struct queue_timeline *t)
{
    const size_t count = t->heap.count;
    const struct queue_moment moment = t->heap.items[0];
    size_t at = 0;
    for (size_t child = 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && t->heap.items[child + 1].when < t->heap.items[child].when) {
            child++;
        }
        if (t->heap.items[child].when >= moment.when) {
            break;
        }
        t->heap.items[at] = t->heap.items[child];
        at = child;
    }
    t->heap.items[at] = moment;
}

void queue__timeline_add(struct queue_timeline *t, const struct queue_moment *moment)
{
    struct queue_moment *tail = &t->tail;
    if (tail->count > 0) {
        if (tail->when == moment->when && tail->place == moment->place &&
            tail->first + tail->count == moment->first) {
            tail->count += moment->count;
            return;
        }
        vec_push(&t->heap, *tail);
        sift_up(t, t->heap.count - 1);
    }
    *tail = *moment;
}

static bool tail_is_first(const struct queue_timeline *t)
{
    return t->tail.count > 0 && (t->heap.count == 0 || t->tail.when < t->heap.items[0].when);
}

bool queue__timeline_first(const struct queue_timeline *t, struct queue_moment *ret_moment)
{
    if (tail_is_first(t)) {
        *ret_moment = t->tail;
        return true;
    }
    if (t->heap.count > 0) {
        *ret_moment = t->heap.items[0];
        return true;
    }
    return false;
}

uint64_t queue__timeline_next(const struct queue_timeline *t)
{
    struct queue_moment first;
    return queue__timeline_first(t, &first) ? first.when : UINT64_MAX;
}

/* Takes out the first moment if it is not after `until`. */
bool queue__timeline_pop(struct queue_timeline *t, uint64_t until, struct queue_moment *ret_moment)
{
    if (!queue__timeline_first(t, ret_moment) || ret_moment->when > until) {
        return false;
    }
    if (tail_is_first(t)) {
        t->tail.count = 0;
        return true;
    }
    const struct queue_moment last = vec_pop(&t->heap);
    if (t->heap.count > 0) {
        t->heap.items[0] = last;
        sift_down(t);
    }
    return true;
}

size_t queue__timeline_size(const struct queue_timeline *t)
{
    return t->heap.count + (t->tail.count > 0 ? 1 : 0);
}

void queue__timeline_clear(struct queue_timeline *t)
{
    vec_clear(&t->heap);
    t->tail.count = 0;
}

void queue__timeline_deinit(struct queue_timeline *t)
{
    vec_deinit(&t->heap);
    t->tail.count = 0;
}

/* Positions are different, so there is one order only. */
static int compare_positions(const void *left, const void *right)
{
    const struct range_run *a = left;
    const struct range_run *b = right;
    return a->first < b->first ? -1 : a->first > b->first ? 1 : 0;
}

static int compare_times(const void *left, const void *right)
{
    const struct range_run *a = left;
    const struct range_run *b = right;
    if (a->attr.b != b->attr.b) {
        return a->attr.b < b->attr.b ? -1 : 1;
    }
    return compare_positions(left, right);
}

void queue__pieces_sort_by_time(struct queue_pieces *pieces)
{
    if (pieces->count > 1) {
        qsort(pieces->items, pieces->count, sizeof(*pieces->items), compare_times);
    }
}

void queue__pieces_sort(struct queue_pieces *pieces)
{
    if (pieces->count > 1) {
        qsort(pieces->items, pieces->count, sizeof(*pieces->items), compare_positions);
    }
}
