/* Timer wheel against a naive list of (deadline, order of adding). */
#include <criterion/criterion.h>

#include "warren/prng.h"
#include "warren/timer.h"

enum { COUNT = 300 };

struct probe {
    struct timer timer;
    uint64_t deadline_ms;
    uint64_t added;
    bool armed;
};

static struct probe probes[COUNT];
static struct timers wheel;
static uint64_t adds;
static uint64_t run_to;
static uint64_t run_adds; /* adds when the run began. */
static uint64_t fired_now;
static struct probe *last_fired;
static struct prng prng;

static void on_fire(struct timer *t);

static void arm(struct probe *probe, uint64_t deadline_ms)
{
    timer_add(&wheel, &probe->timer, deadline_ms, on_fire);
    probe->deadline_ms = deadline_ms;
    probe->added = adds++;
    probe->armed = true;
}

static uint64_t some_deadline(uint64_t now_ms)
{
    const uint64_t bits = prng_below(&prng, 52);
    const uint64_t offset = prng_below(&prng, UINT64_C(1) << bits);
    return prng_ratio(&prng, 1, 10) ? now_ms - (offset < now_ms ? offset : now_ms)
                                    : now_ms + offset;
}

static void on_fire(struct timer *t)
{
    struct probe *probe = WR_CONTAINER_OF(t, struct probe, timer);
    cr_assert(probe->armed);
    cr_assert_not(timer_is_pending(t));
    cr_assert_leq(probe->deadline_ms, run_to);
    /* What a callback adds waits for the next run, so that no run is endless. */
    cr_assert_lt(probe->added, run_adds);
    /* In order of deadline, then of adding; what was late when it was added may be out of order. */
    if (last_fired != NULL && last_fired->deadline_ms == probe->deadline_ms) {
        cr_assert_lt(last_fired->added, probe->added);
    }
    probe->armed = false;
    last_fired = probe;
    fired_now++;
    /* Callbacks change other timers too. */
    struct probe *other = &probes[prng_below(&prng, COUNT)];
    switch (prng_below(&prng, 4)) {
    case 0:
        timer_cancel(&wheel, &other->timer);
        other->armed = false;
        break;
    case 1:
        /* Also deadlines that this run has still to come to. */
        last_fired = last_fired == other ? NULL : last_fired;
        arm(other, prng_ratio(&prng, 1, 4) ? prng_between(&prng, wheel.now_ms, run_to)
                                           : some_deadline(run_to));
        break;
    default:
        break;
    }
}

static uint64_t earliest(void)
{
    uint64_t found = UINT64_MAX;
    for (int i = 0; i < COUNT; i++) {
        if (probes[i].armed && probes[i].deadline_ms < found) {
            found = probes[i].deadline_ms;
        }
    }
    return found;
}

static void check_all(uint64_t now_ms, uint64_t adds_before)
{
    uint64_t pending = 0;
    for (int i = 0; i < COUNT; i++) {
        cr_assert_eq(timer_is_pending(&probes[i].timer), probes[i].armed);
        pending += probes[i].armed;
        /* Only what was added by a callback may still be due. */
        if (probes[i].armed && probes[i].deadline_ms <= now_ms) {
            cr_assert_geq(probes[i].added, adds_before);
        }
    }
    cr_assert_eq(wheel.count, pending);
    const uint64_t first = earliest();
    const uint64_t next = timers_next_deadline(&wheel);
    if (pending == 0) {
        cr_assert_eq(next, TIMER_NO_DEADLINE);
    } else {
        cr_assert_leq(next, first > now_ms ? first : now_ms);
    }
}

static void run_model(uint64_t start_ms)
{
    uint64_t now_ms = start_ms;
    timers_init(&wheel, now_ms);
    memset(probes, 0, sizeof(probes));
    adds = 0;
    for (int round = 0; round < 30000; round++) {
        struct probe *probe = &probes[prng_below(&prng, COUNT)];
        if (prng_ratio(&prng, 3, 4)) {
            arm(probe, some_deadline(now_ms));
        } else {
            timer_cancel(&wheel, &probe->timer);
            probe->armed = false;
        }
        if (prng_ratio(&prng, 1, 3)) {
            const uint64_t bits = prng_below(&prng, 44);
            now_ms += prng_below(&prng, UINT64_C(1) << bits);
            run_to = now_ms;
            fired_now = 0;
            last_fired = NULL;
            run_adds = adds;
            cr_assert_eq(timers_run(&wheel, now_ms), fired_now);
            check_all(now_ms, run_adds);
        }
    }
    timers_deinit(&wheel);
    cr_assert_eq(wheel.count, 0);
}

Test(timer, behaves_like_a_sorted_list)
{
    prng_init(&prng, 13);
    run_model(0);
    run_model(123456789);
    run_model((UINT64_C(1) << 48) - 1000);
    run_model((UINT64_C(3) << 48) - (UINT64_C(1) << 43));
}

static unsigned order[8];
static unsigned order_count;
static struct timer sequence[8];

static void note_order(struct timer *t)
{
    order[order_count++] = (unsigned)(t - sequence);
}

/* One deadline reached by different ways down the wheel: still in order of adding. */
Test(timer, equal_deadlines_fire_in_order_of_adding)
{
    timers_init(&wheel, 0);
    timer_add(&wheel, &sequence[0], 5000, note_order);
    timers_run(&wheel, 1000);
    timer_add(&wheel, &sequence[1], 5000, note_order);
    timers_run(&wheel, 4900);
    timer_add(&wheel, &sequence[2], 5000, note_order);
    timers_run(&wheel, 4999);
    timer_add(&wheel, &sequence[3], 5000, note_order);
    timer_add(&wheel, &sequence[4], 4500, note_order);
    cr_assert_eq(order_count, 0);
    cr_assert_eq(timers_next_deadline(&wheel), 4999);
    cr_assert_eq(timers_run(&wheel, 9000), 5);
    static const unsigned expected[] = {4, 0, 1, 2, 3};
    cr_assert_eq(memcmp(order, expected, sizeof(expected)), 0);
    timers_deinit(&wheel);
}

/* Following timers_next_deadline step by step fires everything, each exactly at its deadline. */
Test(timer, next_deadline_leads_to_every_timer)
{
    prng_init(&prng, 14);
    timers_init(&wheel, 77);
    for (int round = 0; round < 200; round++) {
        const uint64_t deadline = wheel.now_ms + 1 + prng_below(&prng, UINT64_C(1) << 50);
        order_count = 0;
        timer_add(&wheel, &sequence[0], deadline, note_order);
        int steps = 0;
        while (timer_is_pending(&sequence[0])) {
            const uint64_t next = timers_next_deadline(&wheel);
            cr_assert_leq(next, deadline);
            timers_run(&wheel, next);
            cr_assert_eq(order_count, next == deadline ? 1 : 0);
            steps++;
            cr_assert_leq(steps, TIMER_LEVELS + 4);
        }
    }
    timers_deinit(&wheel);
}

Test(timer, time_going_back_is_ignored)
{
    timers_init(&wheel, 1000);
    timer_add(&wheel, &sequence[0], 1500, note_order);
    cr_assert_eq(timers_run(&wheel, 10), 0);
    cr_assert_eq(wheel.now_ms, 1000);
    cr_assert_eq(timers_run(&wheel, 1500), 1);
    timer_cancel(&wheel, &sequence[0]);
    timers_deinit(&wheel);
}
