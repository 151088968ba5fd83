/*
 * What: looking at messages by position, and taking or removing some of them: what an operator does
 * with a live queue.
 * Invariants: PEEK changes nothing. What TAKE hands out is unacked by consumer 0 as with basic.get;
 * what it removes does not die.
 */
#include "queue_internal.h"

/* Which part of the positions is wanted. */
struct window {
    uint64_t first;
    uint64_t end;
    uint64_t left; /* Messages that are still wanted of the map that is being looked through. */
    struct queue_pieces *pieces;
};

/* Adds what of the piece (key = position) is in the window. */
static void add(struct window *w, const struct range_run *piece)
{
    struct range_run part = *piece;
    const uint64_t end = range_run_end(piece) < w->end ? range_run_end(piece) : w->end;
    part.first = piece->first > w->first ? piece->first : w->first;
    if (part.first >= end || w->left == 0) {
        return;
    }
    part.count = end - part.first < w->left ? end - part.first : w->left;
    part.attr.value = part.first;
    w->left -= part.count;
    vec_push(w->pieces, part);
}

/* Adds up to `max` messages of a map whose keys are positions. */
static void add_map(struct window *w, const struct rangemap *map, uint64_t max)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(map, w->first, &cursor);
    w->left = max;
    for (; run != NULL && run->first < w->end && w->left > 0; run = rangemap_next(&cursor)) {
        add(w, run);
    }
}

/* All of a level's released messages in the window: they are not in order of position. */
static void add_released(struct window *w, const struct queue *q, uint32_t level)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&q->levels[level].released, 0, &cursor);
    w->left = UINT64_MAX;
    for (; run != NULL; run = rangemap_next(&cursor)) {
        const struct range_run piece = queue__ready_piece(QUEUE_PLACE_OF(level, true), run);
        add(w, &piece);
    }
}

static void take_released(struct queue *q, uint32_t level, const struct window *w)
{
    VEC(struct range_run) keys = {.count = 0};
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&q->levels[level].released, 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        const uint64_t begin = run->attr.value > w->first ? run->attr.value : w->first;
        const uint64_t run_end = run->attr.value + run->count;
        const uint64_t end = run_end < w->end ? run_end : w->end;
        if (begin < end) {
            const struct range_run part = {.first = run->first + (begin - run->attr.value),
                                           .count = end - begin};
            vec_push(&keys, part);
        }
    }
    for (size_t i = 0; i < keys.count; i++) {
        queue__ready_take(q, QUEUE_PLACE_OF(level, true), keys.items[i].first, keys.items[i].count,
                          w->pieces);
    }
    vec_deinit(&keys);
}

static void take_ready(struct queue *q, const struct window *w)
{
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        queue__ready_take(q, QUEUE_PLACE_OF(level, false), w->first, w->end - w->first, w->pieces);
        take_released(q, level, w);
    }
}

static void collect(void *ctx, const struct range_run *piece)
{
    struct queue_pieces *pieces = ctx;
    vec_push(pieces, *piece);
}

static uint64_t sum(const struct queue_pieces *pieces)
{
    uint64_t count = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        count += pieces->items[i].count;
    }
    return count;
}

/* Removes what there is in the window of the places; returns how many. */
static uint64_t discard(struct queue_apply *a, struct window *w, uint8_t places)
{
    struct queue *q = a->queue;
    if ((places & QUEUE_PLACE_READY) != 0) {
        take_ready(q, w);
    }
    if ((places & QUEUE_PLACE_DELAYED) != 0) {
        (void)rangemap_remove(&q->delayed, w->first, w->end - w->first, collect, w->pieces);
    }
    if ((places & QUEUE_PLACE_DEAD) != 0) {
        (void)rangemap_remove(&q->dead, w->first, w->end - w->first, collect, w->pieces);
    }
    queue__pieces_sort(w->pieces);
    for (size_t i = 0; i < w->pieces->count; i++) {
        queue__remove(a, w->pieces->items[i].first, w->pieces->items[i].count);
    }
    return sum(w->pieces);
}

static uint64_t check_out(struct queue_apply *a, struct queue_client *client, struct window *w)
{
    take_ready(a->queue, w);
    queue__pieces_sort(w->pieces);
    if (w->pieces->count == 0) {
        return 0;
    }
    struct queue_consumer *consumer = queue__getter(client);
    for (size_t i = 0; i < w->pieces->count; i++) {
        queue__give(a, consumer, false, &w->pieces->items[i]);
    }
    return sum(w->pieces);
}

static uint64_t end_of(uint64_t first, uint64_t count)
{
    return count > UINT64_MAX - first ? UINT64_MAX : first + count;
}

void queue__take(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue_pieces pieces = {.count = 0};
    struct window w = {op->first, end_of(op->first, op->count), 0, &pieces};
    if (queue_sealed(a->queue)) {
        queue__emit_reply(a, client, op->seq, QUEUE_SEALED, 0);
        return;
    }
    queue__see_ready(a);
    const bool removes = (op->flags & QUEUE_NO_ACK) != 0;
    const uint64_t count = removes ? discard(a, &w, op->outcome) : check_out(a, client, &w);
    queue__emit_reply(a, client, op->seq, QUEUE_OK, count);
    if (!removes && count > 0) {
        client->reply.taken = count;
        client->reply.ordinal = queue__consumer_find(client, 0)->delivered - count + 1;
    }
    vec_deinit(&pieces);
}

static void emit_peek(struct queue_apply *a, uint64_t client, uint8_t place,
                      const struct range_run *piece)
{
    const struct queue_effect effect = {
        .kind = QUEUE_EFFECT_PEEK,
        .status = place,
        .client = client,
        .position = piece->first,
        .count = piece->count,
        .value = place == QUEUE_PLACE_READY ? piece->attr.b - 1 : piece->attr.b,
        .delivery_count = place == QUEUE_PLACE_READY ? piece->attr.c : 0,
    };
    queue__emit(a, &effect);
}

/* Where a piece was found is kept in attribute a: its size does not matter here. */
static void mark(struct queue_pieces *pieces, size_t from, uint8_t place)
{
    for (size_t i = from; i < pieces->count; i++) {
        pieces->items[i].attr.a = place;
    }
}

/* What the window has in the places, of each map no more than `max`. */
static void look(const struct queue *q, struct window *w, uint8_t places, uint64_t max)
{
    if ((places & QUEUE_PLACE_READY) != 0) {
        for (uint32_t level = 0; level <= q->config.priority_max; level++) {
            add_map(w, &q->levels[level].ready, max);
            add_released(w, q, level);
        }
    }
    mark(w->pieces, 0, QUEUE_PLACE_READY);
    const size_t ready = w->pieces->count;
    if ((places & QUEUE_PLACE_DELAYED) != 0) {
        add_map(w, &q->delayed, max);
    }
    mark(w->pieces, ready, QUEUE_PLACE_DELAYED);
    const size_t delayed = w->pieces->count;
    if ((places & QUEUE_PLACE_DEAD) != 0) {
        add_map(w, &q->dead, max);
    }
    mark(w->pieces, delayed, QUEUE_PLACE_DEAD);
    queue__pieces_sort(w->pieces);
}

void queue__peek(struct queue_apply *a, struct queue_client *client, const struct queue_op *op)
{
    struct queue_pieces pieces = {.count = 0};
    struct window w = {op->first, UINT64_MAX, 0, &pieces};
    if (queue_sealed(a->queue)) {
        queue__emit_reply(a, client, op->seq, QUEUE_SEALED, 0);
        return;
    }
    queue__see_ready(a);
    look(a->queue, &w, op->outcome, op->count == UINT64_MAX ? op->count : op->count + 1);
    uint64_t left = op->count;
    uint64_t next = 0;
    for (size_t i = 0; i < pieces.count && next == 0; i++) {
        struct range_run piece = pieces.items[i];
        if (piece.count > left) {
            next = piece.first + left;
            piece.count = left;
        }
        left -= piece.count;
        if (piece.count > 0) {
            emit_peek(a, client->id, (uint8_t)piece.attr.a, &piece);
        }
    }
    queue__emit_reply(a, client, op->seq, QUEUE_OK, next);
    vec_deinit(&pieces);
}
