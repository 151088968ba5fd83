/* Allocation: never NULL from wr_alloc, failure on demand from wr_try_*, overflow is a panic. */
#include <criterion/criterion.h>

#include "warren/mem.h"
#include "panic.h"

Test(mem, zero_size_gives_a_pointer)
{
    void *a = wr_alloc(0);
    void *b = wr_calloc(0, 8);
    cr_assert_not_null(a);
    cr_assert_not_null(b);
    wr_free(a);
    wr_free(b);
    wr_free(NULL);
}

Test(mem, calloc_clears)
{
    uint8_t *memory = wr_calloc(100, 3);
    for (int i = 0; i < 300; i++) {
        cr_assert_eq(memory[i], 0);
    }
    wr_free(memory);
}

Test(mem, realloc_keeps_content)
{
    char *text = wr_strdup("abc");
    text = wr_realloc(text, 1000);
    cr_assert_str_eq(text, "abc");
    wr_free(text);
}

Test(mem, copies)
{
    char *part = wr_strndup("hello world", 5);
    cr_assert_str_eq(part, "hello");
    char *same = wr_memdup("xyz", 4);
    cr_assert_str_eq(same, "xyz");
    void *nothing = wr_memdup(NULL, 0);
    cr_assert_not_null(nothing);
    wr_free(part);
    wr_free(same);
    wr_free(nothing);
}

Test(mem, product_overflow_panics)
{
    static struct panic_catch caught;
    static volatile size_t huge = SIZE_MAX / 2;
    WR_EXPECT_PANIC(&caught, wr_free(wr_calloc(huge, 3)));
    cr_assert_not_null(strstr(caught.message, "out of memory"));
    WR_EXPECT_PANIC(&caught, wr_free(wr_realloc_array(NULL, huge, 3)));
}

Test(mem, nth_try_alloc_fails_on_demand)
{
    wr_mem_fail_try_alloc(2);
    void *first = wr_try_alloc(10);
    cr_assert_not_null(first);
    cr_assert_null(wr_try_alloc(10));
    cr_assert_null(wr_try_realloc(first, 20));
    cr_assert_eq(wr_mem_try_count(), 3);
    wr_mem_fail_try_alloc(0);
    first = wr_try_realloc(first, 20);
    cr_assert_not_null(first);
    wr_free(first);
}
