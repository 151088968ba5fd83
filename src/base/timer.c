/*
 * What: hierarchical timer wheel: 8 levels of 64 slots; a slot of level l spans 64^l ms. A timer
 * hangs in the level of the highest base-64 digit in which its deadline differs from now, in the
 * slot of its own digit there; when now reaches that slot's start, the slot is dealt out to lower
 * levels. So level 0 slots hold timers of one deadline each, in the order in which they were added.
 * Invariants: I1 every timer on the wheel has deadline > now_ms, and shares with now_ms all digits
 * above its level (hence any timer of a lower level is due before any of a higher one). I2 bit s of
 * occupied[l] is set exactly when slot s of level l is not empty. I3 run_ms >= now_ms.
 * Ownership: timers are the caller's. Threads: one.
 */
#include "warren/timer.h"

#define LEVEL_BITS 6
#define SLOT_MASK  (TIMER_SLOTS - 1)
#define WHEEL_BITS (TIMER_LEVELS * LEVEL_BITS)

/* Values of timer.place. */
#define PLACE_NONE   0
#define PLACE_SLOT   1 /* + level * TIMER_SLOTS + slot */
#define PLACE_DUE    (PLACE_SLOT + TIMER_LEVELS * TIMER_SLOTS)
#define PLACE_FIRING (PLACE_DUE + 1)
#define PLACE_FAR    (PLACE_DUE + 2)

static unsigned digit(uint64_t time_ms, unsigned level)
{
    return (unsigned)(time_ms >> (level * LEVEL_BITS)) & SLOT_MASK;
}

void timers_init(struct timers *wheel, uint64_t now_ms)
{
    wheel->now_ms = now_ms;
    wheel->run_ms = now_ms;
    wheel->count = 0;
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < TIMER_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
    list_init(&wheel->due);
    list_init(&wheel->firing);
    list_init(&wheel->far);
}

static void hang(struct list *head, struct timer *t, unsigned place)
{
    list_push_back(head, &t->link);
    t->place = (uint16_t)place;
}

/* Put a timer with deadline >= now_ms where it belongs. deadline == now_ms happens only while a
 * slot is dealt out: level 0's slot of now is fired right after that. */
static void hang_on_wheel(struct timers *wheel, struct timer *t)
{
    const uint64_t differs = t->deadline_ms ^ wheel->now_ms;
    if ((differs >> WHEEL_BITS) != 0) {
        hang(&wheel->far, t, PLACE_FAR);
        return;
    }
    const unsigned level =
        differs == 0 ? 0 : (63U - (unsigned)__builtin_clzll(differs)) / LEVEL_BITS;
    const unsigned slot = digit(t->deadline_ms, level);
    hang(&wheel->slots[level][slot], t, PLACE_SLOT + level * TIMER_SLOTS + slot);
    wheel->occupied[level] |= UINT64_C(1) << slot;
}

/* Take the timer off its list and forget its place. */
static void unhang(struct timers *wheel, struct timer *t)
{
    list_remove(&t->link);
    if (t->place < PLACE_DUE) {
        const unsigned level = (t->place - PLACE_SLOT) / TIMER_SLOTS;
        const unsigned slot = (t->place - PLACE_SLOT) % TIMER_SLOTS;
        if (list_is_empty(&wheel->slots[level][slot])) {
            wheel->occupied[level] &= ~(UINT64_C(1) << slot);
        }
    }
    t->place = PLACE_NONE;
}

void timer_add(struct timers *wheel, struct timer *t, uint64_t deadline_ms, timer_fn callback)
{
    WR_ASSERT(callback != NULL);
    timer_cancel(wheel, t);
    t->deadline_ms = deadline_ms;
    t->callback = callback;
    wheel->count++;
    if (deadline_ms <= wheel->run_ms) {
        hang(&wheel->due, t, PLACE_DUE);
    } else {
        hang_on_wheel(wheel, t);
    }
}

void timer_cancel(struct timers *wheel, struct timer *t)
{
    if (timer_is_pending(t)) {
        WR_ASSERT_OP(wheel->count, >, 0);
        unhang(wheel, t);
        wheel->count--;
    }
}

static void cancel_list(struct timers *wheel, struct list *head)
{
    for (struct list *link = list_first(head); link != NULL; link = list_first(head)) {
        timer_cancel(wheel, WR_CONTAINER_OF(link, struct timer, link));
    }
}

void timers_deinit(struct timers *wheel)
{
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        for (unsigned slot = 0; slot < TIMER_SLOTS; slot++) {
            cancel_list(wheel, &wheel->slots[level][slot]);
        }
    }
    cancel_list(wheel, &wheel->due);
    cancel_list(wheel, &wheel->firing);
    cancel_list(wheel, &wheel->far);
    WR_ASSERT_OP(wheel->count, ==, 0);
}

/* The next moment after now_ms at which a slot must be looked at. */
static uint64_t next_stop(const struct timers *wheel)
{
    for (unsigned level = 0; level < TIMER_LEVELS; level++) {
        /* By I1 slots up to now's own digit are empty; shifting by 64 is avoided by two steps. */
        const uint64_t after = ~UINT64_C(0) << digit(wheel->now_ms, level) << 1;
        const uint64_t ahead = wheel->occupied[level] & after;
        if (ahead != 0) {
            const unsigned shift = level * LEVEL_BITS;
            const uint64_t base = wheel->now_ms >> (shift + LEVEL_BITS) << (shift + LEVEL_BITS);
            return base | ((uint64_t)__builtin_ctzll(ahead) << shift);
        }
    }
    if (!list_is_empty(&wheel->far)) {
        return ((wheel->now_ms >> WHEEL_BITS) + 1) << WHEEL_BITS;
    }
    return TIMER_NO_DEADLINE;
}

uint64_t timers_next_deadline(const struct timers *wheel)
{
    if (!list_is_empty(&wheel->due) || !list_is_empty(&wheel->firing)) {
        return wheel->now_ms;
    }
    return next_stop(wheel);
}

/* Deal the timers of a list out again, in order. */
static void deal_out(struct timers *wheel, struct list *head)
{
    struct list all;
    list_init(&all);
    list_splice_back(&all, head);
    for (struct list *link = list_pop_front(&all); link != NULL; link = list_pop_front(&all)) {
        hang_on_wheel(wheel, WR_CONTAINER_OF(link, struct timer, link));
    }
}

/* now_ms has just become the start of some slots: deal them out, the widest first. */
static void cascade(struct timers *wheel)
{
    if ((wheel->now_ms & ((UINT64_C(1) << WHEEL_BITS) - 1)) == 0) {
        deal_out(wheel, &wheel->far);
    }
    for (unsigned level = TIMER_LEVELS - 1; level > 0; level--) {
        const unsigned slot = digit(wheel->now_ms, level);
        if ((wheel->now_ms & ((UINT64_C(1) << (level * LEVEL_BITS)) - 1)) == 0) {
            wheel->occupied[level] &= ~(UINT64_C(1) << slot);
            deal_out(wheel, &wheel->slots[level][slot]);
        }
    }
}

/* Fire a whole list. Its timers wait on `firing` meanwhile, so that callbacks may cancel them. */
static uint64_t fire(struct timers *wheel, struct list *head)
{
    uint64_t fired = 0;
    LIST_FOREACH(link, head) {
        WR_CONTAINER_OF(link, struct timer, link)->place = PLACE_FIRING;
    }
    list_splice_back(&wheel->firing, head);
    for (struct list *link = list_first(&wheel->firing); link != NULL;
         link = list_first(&wheel->firing)) {
        struct timer *t = WR_CONTAINER_OF(link, struct timer, link);
        timer_cancel(wheel, t);
        t->callback(t);
        fired++;
    }
    return fired;
}

uint64_t timers_run(struct timers *wheel, uint64_t now_ms)
{
    WR_ASSERT(list_is_empty(&wheel->firing));
    WR_ASSERT_OP(wheel->run_ms, ==, wheel->now_ms);
    if (now_ms < wheel->now_ms) {
        now_ms = wheel->now_ms;
    }
    wheel->run_ms = now_ms;
    uint64_t fired = fire(wheel, &wheel->due);
    for (uint64_t stop = next_stop(wheel); stop <= now_ms && stop != TIMER_NO_DEADLINE;
         stop = next_stop(wheel)) {
        wheel->now_ms = stop;
        cascade(wheel);
        const unsigned slot = digit(stop, 0);
        wheel->occupied[0] &= ~(UINT64_C(1) << slot);
        fired += fire(wheel, &wheel->slots[0][slot]);
    }
    wheel->now_ms = now_ms;
    return fired;
}
