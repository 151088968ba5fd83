/* Assertions are always on, print what failed, and reach the hook. */
#include <criterion/criterion.h>
#include <signal.h>

#include "warren/assert.h"
#include "panic.h"

Test(assert, passing_assertions_do_nothing)
{
    WR_ASSERT(1 + 1 == 2);
    WR_ASSERT_OP(2, >, 1);
    WR_ASSERT_SLOW(true);
}

Test(assert, failure_names_expression_and_file)
{
    static struct panic_catch caught;
    WR_EXPECT_PANIC(&caught, WR_ASSERT(1 + 1 == 3));
    cr_assert_not_null(strstr(caught.message, "1 + 1 == 3"));
    cr_assert_not_null(strstr(caught.message, "test_assert.c:"));
}

Test(assert, op_prints_both_operands_and_evaluates_once)
{
    static struct panic_catch caught;
    static int calls;
    WR_EXPECT_PANIC(&caught, WR_ASSERT_OP(40 + ++calls, ==, 42));
    cr_assert_eq(calls, 1);
    cr_assert_not_null(strstr(caught.message, "(41, 42)"));
}

Test(assert, unreachable_panics)
{
    static struct panic_catch caught;
    WR_EXPECT_PANIC(&caught, WR_UNREACHABLE());
    cr_assert_not_null(strstr(caught.message, "unreachable"));
}

static void returning_handler(void *ctx, const char *message)
{
    (void)ctx;
    (void)message;
}

Test(assert, a_handler_that_returns_does_not_stop_the_abort, .signal = SIGABRT)
{
    wr_set_panic_handler(returning_handler, NULL);
    wr_panic("deliberate %d", 1);
}
