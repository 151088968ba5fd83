/*
 * What: one hierarchical timer wheel over monotonic milliseconds (any tick will do, the wheel never
 * asks a clock). Adding and cancelling are O(1). Timers fire in order of deadline, those of one
 * deadline in the order in which they were added. Never before the deadline that was asked for.
 * Ownership: `struct timer` is the caller's (intrusive), zero-initialised or timer_init'ed, and
 * must be cancelled before it is freed. Callbacks run from timers_run only and may add or cancel
 * any timer. Threads: a wheel and its timers belong to one thread.
 */
#ifndef WR_TIMER_H
#define WR_TIMER_H

#include "warren/list.h"

#define TIMER_LEVELS      8
#define TIMER_SLOTS       64
#define TIMER_NO_DEADLINE UINT64_MAX

struct timer;

/* Get the object around it with WR_CONTAINER_OF. The timer is no longer pending and may be added
 * again. */
typedef void (*timer_fn)(struct timer *t);

struct timer {
    struct list link;
    uint64_t deadline_ms;
    timer_fn callback;
    uint16_t place; /* 0: not pending; else where it hangs (internal). */
};

struct timers {
    uint64_t now_ms;                 /* How far timers_run has come. */
    uint64_t run_ms;                 /* Where the running timers_run will end; else now_ms. */
    uint64_t occupied[TIMER_LEVELS]; /* Bit s: slot s of that level is not empty. */
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
    struct list due;    /* Added when already due: fire at the next timers_run. */
    struct list firing; /* Taken off the wheel by timers_run, callback not called yet. */
    struct list far;    /* Beyond the wheel's reach (2^48 ms). */
    uint64_t count;     /* Pending timers. */
};

/* Lists point into themselves: a wheel does not move. */
void timers_init(struct timers *wheel, uint64_t now_ms);

/* Cancels everything that is pending. */
void timers_deinit(struct timers *wheel);

static inline void timer_init(struct timer *t)
{
    *t = (struct timer){.place = 0};
}

static inline bool timer_is_pending(const struct timer *t)
{
    return t->place != 0;
}

/* Arrange for callback(t) once timers_run is called with now_ms >= deadline_ms. A pending timer is
 * moved. One that is due already fires at the next timers_run, not from inside this one. */
void timer_add(struct timers *wheel, struct timer *t, uint64_t deadline_ms, timer_fn callback);

/* Nothing happens when it is not pending. */
void timer_cancel(struct timers *wheel, struct timer *t);

/*
 * When timers_run should be called next: never later than the earliest deadline, but it may be
 * earlier (then timers_run fires nothing and the next answer is closer; at most TIMER_LEVELS times
 * per timer). TIMER_NO_DEADLINE when nothing is pending. What is <= now is due at once.
 */
uint64_t timers_next_deadline(const struct timers *wheel);

/* Fire all that is due at now_ms. A now_ms before the last one is taken as the last one. Returns
 * the number of timers fired. Not re-entrant. */
uint64_t timers_run(struct timers *wheel, uint64_t now_ms);

#endif
