/*
 * What: puts spans of positions in order and joins those that touch. Happy path: they are in order
 * already (messages were taken by position), or lie close together (a batch was taken by priority):
 * then each is a few bits of a map, which is read from left to right. Otherwise they are sorted.
 * Threads: none of its own. No failure modes.
 */
#include "queue_internal.h"

#include <stdlib.h>

#define BITS      64u
#define WORDS_MAX 1024u

/* Reading a word of the map costs about as much as a span. */
#define WORDS_PER_SPAN 4u

static int compare_spans(const void *left, const void *right)
{
    const struct queue_span *a = left;
    const struct queue_span *b = right;
    return a->first < b->first ? -1 : a->first > b->first ? 1 : 0;
}

static void join_sorted(struct queue_spans *spans)
{
    size_t last = 0;
    for (size_t i = 1; i < spans->count; i++) {
        const struct queue_span span = spans->items[i];
        WR_ASSERT_OP(spans->items[last].first + spans->items[last].count, <=, span.first);
        if (spans->items[last].first + spans->items[last].count == span.first) {
            spans->items[last].count += span.count;
        } else {
            spans->items[++last] = span;
        }
    }
    vec_truncate(spans, last + 1);
}

static void set_bits(uint64_t *map, uint64_t from, uint64_t count)
{
    while (count > 0) {
        const uint64_t bit = from % BITS;
        const uint64_t n = count < BITS - bit ? count : BITS - bit;
        const uint64_t mask = (n == BITS ? UINT64_MAX : (UINT64_C(1) << n) - 1) << bit;
        WR_ASSERT((map[from / BITS] & mask) == 0);
        map[from / BITS] |= mask;
        from += n;
        count -= n;
    }
}

/* Where the next bit with that value is, from `from` on; `size` when there is none. */
static uint64_t next_bit(const uint64_t *map, uint64_t size, uint64_t from, bool value)
{
    const uint64_t flip = value ? 0 : UINT64_MAX;
    while (from < size) {
        const uint64_t rest = (map[from / BITS] ^ flip) >> (from % BITS);
        if (rest != 0) {
            return from + (uint64_t)__builtin_ctzll(rest);
        }
        from = (from / BITS + 1) * BITS;
    }
    return size;
}

static void join_by_map(struct queue_spans *spans, uint64_t low, uint64_t words)
{
    uint64_t map[WORDS_MAX];
    const uint64_t size = words * BITS;
    memset(map, 0, words * sizeof(map[0]));
    for (size_t i = 0; i < spans->count; i++) {
        set_bits(map, spans->items[i].first - low, spans->items[i].count);
    }
    vec_clear(spans);
    for (uint64_t at = next_bit(map, size, 0, true); at < size;) {
        const uint64_t end = next_bit(map, size, at, false);
        vec_push(spans, (struct queue_span){low + at, end - at});
        at = next_bit(map, size, end, true);
    }
}

void queue__spans_join(struct queue_spans *spans)
{
    uint64_t low = UINT64_MAX;
    uint64_t end = 0;
    bool sorted = true;
    for (size_t i = 0; i < spans->count; i++) {
        const struct queue_span *span = &spans->items[i];
        sorted = sorted && end <= span->first;
        low = span->first < low ? span->first : low;
        end = span->first + span->count > end ? span->first + span->count : end;
    }
    const uint64_t words = spans->count == 0 ? 0 : (end - low + BITS - 1) / BITS;
    if (!sorted && words <= WORDS_MAX && words <= WORDS_PER_SPAN * spans->count) {
        join_by_map(spans, low, words);
        return;
    }
    if (!sorted) {
        qsort(spans->items, spans->count, sizeof(*spans->items), compare_spans);
    }
    if (spans->count > 1) {
        join_sorted(spans);
    }
}
