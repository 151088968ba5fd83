/*
 * What: a queue that dead letters of one queue go to, as its worker sees it: what is on its way
 * there, and what waits because it was refused.
 *
 * Happy path: given -> published -> applied -> the flight is told. Refused (the target is full): it
 * is parked, and so is whatever comes for this target from then on, in order of position. After
 * RETRY_MS as many as the window says are given to it. All are taken: twice as many at once, and so
 * on until none is parked. One is refused: the next time, as many as were taken meanwhile; if that
 * is none, one, after twice the time, RETRY_MAX_MS at most. So a target that stays full costs one
 * publish in RETRY_MAX_MS, however many letters wait, and one that has room is filled at the pace
 * of its answers.
 *
 * Invariants: 1. parked ones => the timer is pending, or `waits` has any, whose answers carry on;
 * 2. flight->waiting and flight->busy count each that is parked or on its way once.
 * Failure modes: the target is deleted: counts as having had it; its home is lost: the worker tries
 * again. Threads: the shard's. Spec: docs/dead-letters.md.
 */
#include "dead_internal.h"

#define RETRY_MS     1000u
#define RETRY_MAX_MS 8000u
#define WINDOW_MAX   512u /* the worker's prefetch: there are not more */

static void carry_on(struct dead_target *t);

static void forget(struct dead_target *t, struct dead_flight *flight)
{
    for (size_t i = 0; i < flight->busy.count; i++) {
        if (flight->busy.items[i] == t->queue_id) {
            vec_remove(&flight->busy, i);
            break;
        }
    }
    WR_ASSERT_OP(flight->waiting, >, 0);
    flight->waiting--;
}

/* --- parked ones ------------------------------------------------------------------------------ */

/* Answers come in order, but new ones may have come meanwhile. */
static void park(struct dead_target *t, struct dead_flight *flight)
{
    size_t at = t->parked.count;
    vec_push(&t->parked, flight);
    while (at > 0 && t->parked.items[at - 1]->ordinal > flight->ordinal) {
        t->parked.items[at] = t->parked.items[at - 1];
        at--;
    }
    t->parked.items[at] = flight;
    t->held = true;
}

/* Gives the first of them to it. */
static void release(struct dead_target *t)
{
    VEC(struct dead_flight *) some = {0};
    const size_t count = t->window < t->parked.count ? t->window : t->parked.count;
    for (size_t i = 0; i < count; i++) {
        vec_push(&some, t->parked.items[i]);
    }
    for (size_t i = count; i < t->parked.count; i++) {
        t->parked.items[i - count] = t->parked.items[i];
    }
    t->parked.count -= count;
    t->refuses = false;
    t->worker->releasing = t;
    for (size_t i = 0; i < count; i++) {
        forget(t, some.items[i]);
        dead__attempt(t->worker, some.items[i]); /* Routed anew: it may go elsewhere by now. */
    }
    t->worker->releasing = NULL;
    vec_deinit(&some);
}

static void on_timer(struct timer *timer)
{
    struct dead_target *t = WR_CONTAINER_OF(timer, struct dead_target, timer);
    t->taken = 0;
    release(t);
    carry_on(t);
    dead__mark(t->worker);
}

static void back_off(struct dead_target *t)
{
    struct broker *broker = t->worker->broker;
    const bool again = t->delay_ms != 0 && t->taken == 0;
    const uint64_t delay_ms = again ? t->delay_ms * 2 : RETRY_MS;
    t->delay_ms = delay_ms < RETRY_MAX_MS ? delay_ms : RETRY_MAX_MS;
    t->window = t->taken < 1 ? 1 : t->taken < WINDOW_MAX ? t->taken : WINDOW_MAX;
    timer_add(&broker->timers, &t->timer, broker_now_ms(broker) + t->delay_ms, on_timer);
}

/* All that it was given is answered: more, or later. */
static void carry_on(struct dead_target *t)
{
    while (t->first == t->waits.count && !timer_is_pending(&t->timer)) {
        if (t->parked.count == 0) {
            t->held = false;
            t->delay_ms = 0;
            t->taken = 0;
            t->refuses = false;
            return;
        }
        if (t->refuses) {
            back_off(t);
            return;
        }
        t->window = t->window < WINDOW_MAX / 2 ? t->window * 2 : WINDOW_MAX;
        release(t);
    }
}

/* --- its answers ------------------------------------------------------------------------------ */

static void answer(struct dead_target *t, struct dead_flight *flight, bool taken)
{
    forget(t, flight);
    if (taken) {
        vec_push(&flight->done, t->queue_id);
    } else {
        flight->refused = true;
    }
    if (flight->waiting == 0) {
        dead__answered(t->worker, flight);
    }
}

static void on_target_applied(void *ctx, uint64_t seq)
{
    struct dead_target *t = ctx;
    const bool keeps = dead__keeps_refused(t->worker);
    while (t->first < t->waits.count && t->waits.items[t->first].seq <= seq) {
        const struct dead_wait wait = t->waits.items[t->first++];
        t->taken += t->held && !wait.refused;
        if (wait.refused && keeps) {
            t->refuses = true;
            park(t, wait.flight);
        } else {
            answer(t, wait.flight, !wait.refused);
        }
    }
    if (t->first == t->waits.count) {
        vec_clear(&t->waits);
        t->first = 0;
        carry_on(t);
    }
}

static void on_target_nacked(void *ctx, uint64_t seq)
{
    struct dead_target *t = ctx;
    for (size_t i = t->first; i < t->waits.count && t->waits.items[i].seq <= seq; i++) {
        if (t->waits.items[i].seq == seq) {
            t->waits.items[i].refused = true; /* answered with the APPLIED that follows */
        }
    }
}

static void target_unblocked(struct dead_target *t)
{
    if (t->blocked) {
        t->blocked = false;
        t->worker->blocked--;
        dead__mark(t->worker);
    }
}

/* Deleted: as RabbitMQ, it counts as having taken the message. Its home is down: not. */
static void on_target_gone(void *ctx, bool lost)
{
    struct dead_target *t = ctx;
    t->gone = true;
    timer_cancel(&t->worker->broker->timers, &t->timer);
    target_unblocked(t);
    while (t->first < t->waits.count) {
        const struct dead_wait wait = t->waits.items[t->first++];
        answer(t, wait.flight, !lost && !wait.refused);
    }
    for (size_t i = 0; i < t->parked.count; i++) {
        answer(t, t->parked.items[i], !lost);
    }
    vec_clear(&t->parked);
    dead__mark(t->worker);
}

static void on_target_blocked(void *ctx, bool blocked)
{
    struct dead_target *t = ctx;
    if (blocked && !t->blocked) {
        t->blocked = true;
        t->worker->blocked++;
    } else if (!blocked) {
        target_unblocked(t);
    }
}

static const struct queue_client_sink target_sink = {
    .on_applied = on_target_applied,
    .on_nacked = on_target_nacked,
    .on_gone = on_target_gone,
    .on_blocked = on_target_blocked,
};

/* --- life ------------------------------------------------------------------------------------- */

struct dead_target *dead__target_of(struct dead_worker *w, const struct catalog_queue *queue)
{
    for (size_t i = 0; i < w->targets.count; i++) {
        struct dead_target *t = w->targets.items[i];
        if (t->queue_id == queue->id && !t->gone) {
            return t;
        }
    }
    struct dead_target *t = wr_calloc(1, sizeof *t);
    t->worker = w;
    t->queue_id = queue->id;
    t->window = 1;
    timer_init(&t->timer);
    t->client = queue_client_open(w->broker->host, queue, &target_sink, t);
    vec_push(&w->targets, t);
    return t;
}

void dead__target_free(struct dead_target *t)
{
    timer_cancel(&t->worker->broker->timers, &t->timer);
    queue_client_close(t->client);
    vec_deinit(&t->waits);
    vec_deinit(&t->parked);
    wr_free(t);
}

void dead__target_give(struct dead_target *t, struct dead_flight *flight,
                       const struct message *letter, uint64_t delay_ms)
{
    flight->waiting++;
    vec_push(&flight->busy, t->queue_id);
    if (t->held && t->worker->releasing != t) {
        park(t, flight);
        return;
    }
    const struct queue_publish_more more = {.delay_ms = delay_ms};
    const uint64_t seq = delay_ms == 0 ? queue_client_publish(t->client, *letter)
                                       : queue_client_publish_more(t->client, *letter, &more);
    vec_push(&t->waits, ((struct dead_wait){.seq = seq, .flight = flight}));
}
