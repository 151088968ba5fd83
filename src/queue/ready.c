/*
 * What: the ready messages: per priority level a map of runs by position, and one of runs by
 * release number, of what was delayed before. How the next one of a level is found: a released
 * message stands behind all that had been enqueued when it was released (it knows how far the queue
 * had come) and before all that came later. Invariants: I1, I5 of queue.h; level_used has a bit for
 * each level that is not empty.
 */
#include "queue_internal.h"

#define BITS 64u

struct rangemap *queue__ready_map(const struct queue *q, uint32_t place)
{
    struct queue_level *level = &q->levels[place / 2];
    return place % 2 == 0 ? &level->ready : &level->released;
}

/* next_position when it was released. */
uint64_t queue__released_before(const struct range_attr *attr)
{
    return attr->c | (uint64_t)attr->d << 32;
}

struct range_run queue__ready_piece(uint32_t place, const struct range_run *run)
{
    struct range_run piece = *run;
    if (place % 2 != 0) {
        piece.first = run->attr.value;
        piece.attr.c = 0;
        piece.attr.d = place / 2;
    }
    return piece;
}

static void note_placed(struct queue *q, uint32_t place, const struct range_run *run)
{
    const uint32_t level = place / 2;
    q->level_used[level / BITS] |= UINT64_C(1) << (level % BITS);
    if (run->attr.b != 0) {
        const struct queue_moment moment = {run->attr.b - 1, run->first, run->count, place};
        queue__timeline_add(&q->expiry, &moment);
    }
}

void queue__ready_place(struct queue *q, const struct range_run *piece)
{
    const uint32_t level = piece->attr.d;
    WR_ASSERT_OP(level, <=, q->config.priority_max);
    WR_ASSERT_OP(piece->first, ==, piece->attr.value);
    rangemap_insert(&q->levels[level].ready, piece->first, piece->count, &piece->attr);
    note_placed(q, QUEUE_PLACE_OF(level, false), piece);
}

/* Puts messages in their place by position. */
void queue__ready_put(struct queue *q, const struct range_run *piece)
{
    queue__ready_count(q, piece);
    queue__ready_place(q, piece);
}

void queue__released_put(struct queue *q, uint32_t level, const struct range_run *run)
{
    WR_ASSERT_OP(level, <=, q->config.priority_max);
    rangemap_insert(&q->levels[level].released, run->first, run->count, &run->attr);
    queue__ready_count(q, run);
    note_placed(q, QUEUE_PLACE_OF(level, true), run);
}

/* The highest level that has a message, or -1. */
static int top_level(const struct queue *q)
{
    for (int word = (int)WR_ARRAY_SIZE(q->level_used) - 1; word >= 0; word--) {
        if (q->level_used[word] != 0) {
            return word * (int)BITS + (int)BITS - 1 - __builtin_clzll(q->level_used[word]);
        }
    }
    return -1;
}

static void note_taken(struct queue *q, uint32_t level, const struct range_run *piece)
{
    queue__ready_uncount(q, piece);
    if (rangemap_is_empty(&q->levels[level].ready) &&
        rangemap_is_empty(&q->levels[level].released)) {
        q->level_used[level / BITS] &= ~(UINT64_C(1) << (level % BITS));
    }
}

static bool released_is_next(const struct queue_level *level)
{
    const struct range_run *ready = rangemap_first(&level->ready);
    const struct range_run *released = rangemap_first(&level->released);
    return released != NULL &&
           (ready == NULL || queue__released_before(&released->attr) <= ready->first);
}

uint64_t queue__ready_next_size(const struct queue *q)
{
    const int top = top_level(q);
    WR_ASSERT_OP(top, >=, 0);
    const struct queue_level *level = &q->levels[top];
    return rangemap_first(released_is_next(level) ? &level->released : &level->ready)->attr.a;
}

uint64_t queue__ready_next(const struct queue *q)
{
    const int top = top_level(q);
    if (top < 0) {
        return 0;
    }
    const struct queue_level *level = &q->levels[top];
    return rangemap_first(released_is_next(level) ? &level->released : &level->ready)->attr.value;
}

/* The next messages of a level that has released ones. */
static void pop_with_released(struct queue_level *level, uint32_t number, uint64_t max,
                              struct range_run *ret_piece)
{
    if (!released_is_next(level)) {
        const uint64_t before = queue__released_before(&rangemap_first(&level->released)->attr);
        const uint64_t older = before - rangemap_first(&level->ready)->first;
        (void)rangemap_pop_front(&level->ready, older < max ? older : max, ret_piece);
        return;
    }
    struct range_run run;
    (void)rangemap_pop_front(&level->released, max, &run);
    *ret_piece = queue__ready_piece(QUEUE_PLACE_OF(number, true), &run);
}

/* Takes up to `max` messages of one run, the next ones to be delivered; false when none is ready.
 */
bool queue__ready_pop(struct queue *q, uint64_t max, struct range_run *ret_piece)
{
    const int top = top_level(q);
    if (top < 0) {
        return false;
    }
    struct queue_level *level = &q->levels[top];
    if (WR_LIKELY(rangemap_is_empty(&level->released))) {
        const bool found = rangemap_pop_front(&level->ready, max, ret_piece);
        WR_ASSERT(found);
    } else {
        pop_with_released(level, (uint32_t)top, max, ret_piece);
    }
    note_taken(q, (uint32_t)top, ret_piece);
    return true;
}

struct taking {
    struct queue_pieces *pieces;
    uint32_t place;
    size_t before;
};

static void take_piece(void *ctx, const struct range_run *run)
{
    struct taking *taking = ctx;
    vec_push(taking->pieces, queue__ready_piece(taking->place, run));
}

void queue__ready_take(struct queue *q, uint32_t place, uint64_t first, uint64_t count,
                       struct queue_pieces *pieces)
{
    struct taking taking = {pieces, place, pieces->count};
    (void)rangemap_remove(queue__ready_map(q, place), first, count, take_piece, &taking);
    for (size_t i = taking.before; i < pieces->count; i++) {
        note_taken(q, place / 2, &pieces->items[i]);
    }
}

/* Removes all ready messages; returns how many there were. */
uint64_t queue__ready_purge(struct queue_apply *a)
{
    const uint64_t count = a->queue->ready;
    struct range_run piece;
    while (queue__ready_pop(a->queue, UINT64_MAX, &piece)) {
        queue__remove(a, piece.first, piece.count);
    }
    WR_ASSERT_OP(a->queue->ready, ==, 0);
    return count;
}
