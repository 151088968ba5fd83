/* Growable arrays. */
#include <criterion/criterion.h>

#include "warren/vec.h"
#include "panic.h"

struct pair {
    int a;
    int b;
};

VEC_TYPE(pair_vec, struct pair);

static int sum(const struct pair_vec *v)
{
    int total = 0;
    for (size_t i = 0; i < v->count; i++) {
        total += v->items[i].a * v->items[i].b;
    }
    return total;
}

Test(vec, push_pop_and_pass)
{
    struct pair_vec v = {0};
    for (int i = 0; i < 1000; i++) {
        vec_push(&v, (struct pair){i, 2});
    }
    cr_assert_eq(v.count, 1000);
    cr_assert_eq(sum(&v), 999000);
    cr_assert_eq(vec_last(&v).a, 999);
    cr_assert_eq(vec_pop(&v).a, 999);
    cr_assert_eq(v.count, 999);
    vec_add(&v)->b = 5;
    cr_assert_eq(vec_at(&v, 999).a, 0);
    vec_truncate(&v, 3);
    cr_assert_eq(v.count, 3);
    vec_clear(&v);
    cr_assert_eq(v.count, 0);
    vec_deinit(&v);
    cr_assert_null(v.items);
}

Test(vec, insert_and_remove_keep_order)
{
    VEC(int) v = {0};
    for (int i = 0; i < 10; i++) {
        vec_push(&v, i);
    }
    vec_insert(&v, 5, 100);
    vec_insert(&v, 11, 101);
    vec_insert(&v, 0, 102);
    vec_remove(&v, 1);
    static const int expected[] = {102, 1, 2, 3, 4, 100, 5, 6, 7, 8, 9, 101};
    cr_assert_eq(v.count, WR_ARRAY_SIZE(expected));
    cr_assert_eq(memcmp(v.items, expected, sizeof(expected)), 0);
    vec_remove_swap(&v, 0);
    cr_assert_eq(v.items[0], 101);
    vec_remove_swap(&v, v.count - 1);
    cr_assert_eq(v.count, 10);
    vec_reserve(&v, 1000);
    cr_assert_geq(v.capacity, 1010);
    vec_deinit(&v);
}

Test(vec, misuse_panics)
{
    static struct panic_catch caught;
    static VEC(int) v;
    WR_EXPECT_PANIC(&caught, (void)vec_pop(&v));
    WR_EXPECT_PANIC(&caught, (void)vec_at(&v, 0));
    WR_EXPECT_PANIC(&caught, vec_truncate(&v, 1));
}
