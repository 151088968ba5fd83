/* Range map against a naive array of keys. */
#include <criterion/criterion.h>

#include "warren/mem.h"
#include "warren/prng.h"
#include "warren/rangemap.h"
#include "panic.h"

struct cell {
    bool there;
    struct range_attr attr;
};

struct model {
    struct rangemap map;
    struct cell *cells;
    uint64_t size;
    uint64_t base; /* Key of cells[0]. */
    struct prng prng;
};

static bool attr_eq(const struct range_attr *a, const struct range_attr *b)
{
    return a->value == b->value && a->a == b->a && a->b == b->b && a->c == b->c && a->d == b->d;
}

static struct range_attr advance(struct range_attr attr, uint64_t by)
{
    attr.value += by;
    return attr;
}

/* Attributes that often agree and often continue. */
static struct range_attr some_attr(struct model *m, uint64_t key)
{
    struct range_attr attr = {0};
    attr.value = key + 1000 * prng_below(&m->prng, 2);
    switch (prng_below(&m->prng, 8)) {
    case 0:
        attr.a = 1;
        break;
    case 1:
        attr.b = 1;
        break;
    case 2:
        attr.c = 1;
        break;
    case 3:
        attr.d = 1;
        break;
    default:
        break;
    }
    return attr;
}

/* Runs that the cells make when they are joined wherever possible. */
static void check_runs(const struct model *m)
{
    rangemap_check(&m->map);
    struct rangemap_cursor cursor;
    const struct range_run *run = rangemap_lower_bound(&m->map, 0, &cursor);
    uint64_t keys = 0;
    uint64_t runs = 0;
    for (uint64_t i = 0; i < m->size;) {
        if (!m->cells[i].there) {
            i++;
            continue;
        }
        uint64_t end = i + 1;
        while (end < m->size && m->cells[end].there) {
            const struct range_attr next = advance(m->cells[end - 1].attr, 1);
            if (!attr_eq(&next, &m->cells[end].attr)) {
                break;
            }
            end++;
        }
        cr_assert_not_null(run);
        cr_assert_eq(run->first, m->base + i);
        cr_assert_eq(run->count, end - i);
        cr_assert(attr_eq(&run->attr, &m->cells[i].attr));
        keys += end - i;
        runs++;
        i = end;
        run = rangemap_next(&cursor);
    }
    cr_assert_null(run);
    cr_assert_eq(rangemap_keys(&m->map), keys);
    cr_assert_eq(rangemap_runs(&m->map), runs);
    cr_assert_eq(rangemap_is_empty(&m->map), keys == 0);
}

static void do_insert(struct model *m)
{
    const uint64_t i = prng_below(&m->prng, m->size);
    uint64_t max = prng_ratio(&m->prng, 1, 20) ? 200 : 4;
    uint64_t count = 0;
    while (i + count < m->size && !m->cells[i + count].there && count < max) {
        count++;
    }
    if (count == 0) {
        return;
    }
    count = prng_between(&m->prng, 1, count);
    const struct range_attr attr = some_attr(m, m->base + i);
    rangemap_insert(&m->map, m->base + i, count, &attr);
    for (uint64_t n = 0; n < count; n++) {
        m->cells[i + n] = (struct cell){true, advance(attr, n)};
    }
}

struct removal {
    struct model *model;
    uint64_t next;
    uint64_t keys;
};

static void on_piece(void *ctx, const struct range_run *piece)
{
    struct removal *r = ctx;
    cr_assert_geq(piece->first, r->next);
    cr_assert_gt(piece->count, 0);
    for (uint64_t n = 0; n < piece->count; n++) {
        struct cell *cell = &r->model->cells[piece->first - r->model->base + n];
        const struct range_attr attr = advance(piece->attr, n);
        cr_assert(cell->there);
        cr_assert(attr_eq(&cell->attr, &attr));
        cell->there = false;
    }
    r->next = piece->first + piece->count;
    r->keys += piece->count;
}

static void do_remove(struct model *m)
{
    const uint64_t i = prng_below(&m->prng, m->size);
    const uint64_t count = prng_below(&m->prng, prng_ratio(&m->prng, 1, 20) ? m->size / 4 : 10);
    struct removal r = {m, m->base + i, 0};
    const bool all = prng_ratio(&m->prng, 1, 2000);
    const uint64_t removed =
        rangemap_remove(&m->map, m->base + i, all ? UINT64_MAX : count, on_piece, &r);
    cr_assert_eq(removed, r.keys);
    for (uint64_t n = i; n < m->size && (all || n < i + count); n++) {
        cr_assert_not(m->cells[n].there);
    }
}

static void do_remove_key(struct model *m)
{
    const uint64_t i = prng_below(&m->prng, m->size);
    struct range_attr attr;
    cr_assert_eq(rangemap_remove_key(&m->map, m->base + i, &attr), m->cells[i].there);
    if (m->cells[i].there) {
        cr_assert(attr_eq(&attr, &m->cells[i].attr));
        m->cells[i].there = false;
    }
}

static void do_pop(struct model *m, bool front)
{
    struct range_run piece;
    const uint64_t max = prng_between(&m->prng, 1, 5);
    const uint64_t runs = rangemap_runs(&m->map);
    const struct range_run *end = front ? rangemap_first(&m->map) : rangemap_last(&m->map);
    const struct range_run before = end == NULL ? (struct range_run){0} : *end;
    const bool popped =
        front ? rangemap_pop_front(&m->map, max, &piece) : rangemap_pop_back(&m->map, max, &piece);
    cr_assert_eq(popped, runs > 0);
    if (popped) {
        cr_assert_eq(piece.count, max < before.count ? max : before.count);
        cr_assert(front ? piece.first == before.first
                        : range_run_end(&piece) == range_run_end(&before));
        struct removal r = {m, 0, 0};
        on_piece(&r, &piece);
    }
}

static void check_queries(struct model *m)
{
    const uint64_t i = prng_below(&m->prng, m->size);
    const uint64_t key = m->base + i;
    struct range_attr attr;
    const struct range_run *run = rangemap_find(&m->map, key);
    cr_assert_eq(run != NULL, m->cells[i].there);
    cr_assert_eq(rangemap_get(&m->map, key, &attr), m->cells[i].there);
    if (run != NULL) {
        cr_assert(run->first <= key && key < range_run_end(run));
        cr_assert(attr_eq(&attr, &m->cells[i].attr));
        cr_assert_eq(range_run_value(run, key), attr.value);
    }
    struct rangemap_cursor cursor;
    const struct range_run *bound = rangemap_lower_bound(&m->map, key, &cursor);
    uint64_t next = i;
    while (next < m->size && !m->cells[next].there) {
        next++;
    }
    cr_assert_eq(bound != NULL, next < m->size);
    if (bound != NULL) {
        cr_assert(bound->first <= m->base + next && m->base + next < range_run_end(bound));
        const struct range_run *before = rangemap_prev(&cursor);
        cr_assert(before == NULL || range_run_end(before) <= key);
        if (before != NULL) {
            cr_assert_eq(rangemap_next(&cursor), bound);
        }
    }
}

static void run_model(uint64_t seed, uint64_t size, uint64_t base, int rounds)
{
    struct model m = {.size = size, .base = base};
    m.cells = wr_calloc(size, sizeof(struct cell));
    rangemap_init(&m.map);
    prng_init(&m.prng, seed);
    for (int round = 0; round < rounds; round++) {
        /* Phases of growing and of shrinking, so that chunks split and join. */
        const bool growing = (round / (rounds / 6 + 1)) % 2 == 0;
        const uint64_t dice = prng_below(&m.prng, growing ? 12 : 40);
        if (dice < 8) {
            do_insert(&m);
        } else if (dice == 8) {
            do_pop(&m, true);
        } else if (dice == 9) {
            do_pop(&m, false);
        } else if (dice == 10 && !growing) {
            do_remove(&m);
        } else {
            do_remove_key(&m);
        }
        check_queries(&m);
        if (round % 500 == 0) {
            check_runs(&m);
        }
    }
    check_runs(&m);
    rangemap_clear(&m.map);
    cr_assert_eq(rangemap_memory(&m.map), 0);
    wr_free(m.cells);
}

Test(rangemap, behaves_like_an_array_small)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        run_model(seed, 50, seed, 3000);
    }
}

Test(rangemap, behaves_like_an_array_many_chunks)
{
    run_model(100, 20000, 1, 60000);
}

Test(rangemap, works_at_the_end_of_the_key_space)
{
    run_model(101, 3000, UINT64_MAX - 3000, 20000);
}

/* A million consecutive messages are one run. */
Test(rangemap, consecutive_keys_are_one_run)
{
    struct rangemap m;
    rangemap_init(&m);
    for (uint64_t k = 0; k < 1000000; k++) {
        rangemap_insert(&m, k, 1, &(struct range_attr){.value = 5000 + k, .a = 7});
    }
    cr_assert_eq(rangemap_runs(&m), 1);
    cr_assert_eq(rangemap_keys(&m), 1000000);
    cr_assert_lt(rangemap_memory(&m), 512);
    struct range_run piece;
    uint64_t popped = 0;
    while (rangemap_pop_front(&m, 100, &piece)) {
        cr_assert_eq(piece.first, popped);
        cr_assert_eq(piece.attr.value, 5000 + popped);
        popped += piece.count;
    }
    cr_assert_eq(popped, 1000000);
    rangemap_deinit(&m);
}

/* Worst case for memory and for both ends: nothing can be joined. */
Test(rangemap, a_queue_of_single_keys_is_compact_and_drains_from_the_front)
{
    enum { RUNS = 200000 };
    struct rangemap m;
    rangemap_init(&m);
    for (uint64_t k = 0; k < RUNS; k++) {
        rangemap_insert(&m, k * 2, 1, &(struct range_attr){.value = k});
    }
    cr_assert_eq(rangemap_runs(&m), RUNS);
    cr_assert_lt(rangemap_memory(&m), RUNS * 56);
    rangemap_check(&m);
    for (uint64_t k = 0; k < RUNS; k++) {
        /* Steady state: one in, one out. */
        struct range_run piece;
        cr_assert(rangemap_pop_front(&m, 10, &piece));
        cr_assert_eq(piece.first, k * 2);
        rangemap_insert(&m, (RUNS + k) * 2, 1, &(struct range_attr){.value = k});
    }
    rangemap_check(&m);
    cr_assert_lt(rangemap_memory(&m), RUNS * 56);
    rangemap_deinit(&m);
}

Test(rangemap, descending_insertion_fills_chunks)
{
    enum { RUNS = 100000 };
    struct rangemap m;
    rangemap_init(&m);
    for (uint64_t k = RUNS; k-- > 0;) {
        rangemap_insert(&m, k * 2, 1, &(struct range_attr){.value = k});
    }
    rangemap_check(&m);
    cr_assert_lt(rangemap_memory(&m), RUNS * 56);
    rangemap_deinit(&m);
}

Test(rangemap, overlap_is_a_bug)
{
    static struct panic_catch caught;
    static struct rangemap m;
    static const struct range_attr attr;
    rangemap_init(&m);
    rangemap_insert(&m, 10, 10, &attr);
    rangemap_insert(&m, 30, 10, &attr);
    WR_EXPECT_PANIC(&caught, rangemap_insert(&m, 19, 1, &attr));
    WR_EXPECT_PANIC(&caught, rangemap_insert(&m, 5, 6, &attr));
    WR_EXPECT_PANIC(&caught, rangemap_insert(&m, 25, 6, &attr));
    WR_EXPECT_PANIC(&caught, rangemap_insert(&m, 39, 1, &attr));
    WR_EXPECT_PANIC(&caught, rangemap_insert(&m, 50, 0, &attr));
    WR_EXPECT_PANIC(&caught, rangemap_insert(&m, 50, UINT64_MAX, &attr));
    rangemap_deinit(&m);
}
