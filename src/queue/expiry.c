/*
 * What: the clock, and messages that expire. When a message expires is fixed when it is enqueued
 * (of a delayed one: when it is due). What is ready and has expired goes before the ops of the next
 * command, and again after handing out at its end: a TTL of 0 means "to somebody who takes it at
 * once". Any message goes on time, whatever stands before it.
 * How: a timeline of the runs that expire. A message is in it from when it becomes ready; it stays
 * in it when the message leaves, until that moment comes first, or there are so many such moments
 * that the timeline is made anew.
 * Invariants: after a command nothing ready has expired, and the first moment of a timeline has a
 * message. Unacked messages do not expire; one that comes back too late dies then.
 */
#include "queue_internal.h"

/* Moments over twice the runs that are ready: free for short queues. */
#define SPARE_MOMENTS 1024u

bool queue__is_expired(const struct queue *q, uint64_t expiry)
{
    return expiry != 0 && expiry - 1 <= q->clock_ms;
}

/* What is ready and has expired dies, the earliest first. */
void queue__expire(struct queue_apply *a)
{
    struct queue *q = a->queue;
    struct queue_moment moment;
    struct queue_pieces pieces = {.count = 0};
    if (WR_LIKELY(queue__timeline_next(&q->expiry) > q->clock_ms)) {
        return;
    }
    while (queue__timeline_pop(&q->expiry, q->clock_ms, &moment)) {
        queue__ready_take(q, moment.place, moment.first, moment.count, &pieces);
    }
    queue__pieces_sort_by_time(&pieces);
    for (size_t i = 0; i < pieces.count; i++) {
        queue__die(a, &pieces.items[i], QUEUE_DIED_EXPIRED);
    }
    vec_deinit(&pieces);
}

/* Moves the clock, and does what was to happen up to then. */
void queue__pass_time(struct queue_apply *a, uint64_t now_ms)
{
    struct queue *q = a->queue;
    const uint64_t now = now_ms < QUEUE_TIME_MAX ? now_ms : QUEUE_TIME_MAX;
    if (now > q->clock_ms) {
        if (q->clock_ms == 0) {
            q->used_ms = now;
        }
        q->clock_ms = now;
        queue__release_due(q);
        queue__expire(a);
        queue__ids_forget(q);
    }
}

static uint64_t ready_runs(const struct queue *q)
{
    uint64_t runs = 0;
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        runs += rangemap_runs(&q->levels[level].ready) + rangemap_runs(&q->levels[level].released);
    }
    return runs;
}

static void add_moments(struct queue *q, uint32_t place)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(queue__ready_map(q, place), 0, &cursor);
    for (; run != NULL; run = rangemap_next(&cursor)) {
        if (run->attr.b != 0) {
            const struct queue_moment moment = {run->attr.b - 1, run->first, run->count, place};
            queue__timeline_add(&q->expiry, &moment);
        }
    }
}

/* Looking through all levels is only done when there are many moments more than the last time. */
static void renew_expiry(struct queue *q)
{
    if (queue__timeline_size(&q->expiry) <= q->expiry_size_max) {
        return;
    }
    q->expiry_size_max = 2 * ready_runs(q) + SPARE_MOMENTS;
    if (queue__timeline_size(&q->expiry) <= q->expiry_size_max) {
        return;
    }
    queue__timeline_clear(&q->expiry);
    for (uint32_t level = 0; level <= q->config.priority_max; level++) {
        add_moments(q, QUEUE_PLACE_OF(level, false));
        add_moments(q, QUEUE_PLACE_OF(level, true));
    }
}

static bool has_any(const struct rangemap *map, const struct queue_moment *moment)
{
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(map, moment->first, &cursor);
    return run != NULL && run->first < moment->first + moment->count;
}

static void tidy_expiry(struct queue *q)
{
    struct queue_moment moment;
    if (q->ready == 0) {
        queue__timeline_clear(&q->expiry);
    }
    while (queue__timeline_first(&q->expiry, &moment) &&
           !has_any(queue__ready_map(q, moment.place), &moment)) {
        (void)queue__timeline_pop(&q->expiry, UINT64_MAX, &moment);
    }
}

/* Whether something that is ready has expired: really, not only by a moment without messages. */
bool queue__has_expired(struct queue *q)
{
    if (WR_LIKELY(queue__timeline_next(&q->expiry) > q->clock_ms)) {
        return false;
    }
    tidy_expiry(q);
    return queue__timeline_next(&q->expiry) <= q->clock_ms;
}

/* At the end of a command: moments that come first and have no message any more go. */
void queue__timelines_tidy(struct queue *q)
{
    struct queue_moment moment;
    tidy_expiry(q);
    renew_expiry(q);
    while (queue__timeline_first(&q->due, &moment) && !has_any(&q->delayed, &moment)) {
        (void)queue__timeline_pop(&q->due, UINT64_MAX, &moment);
    }
}
