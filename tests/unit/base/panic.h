/*
 * What: lets a test see that code panics: WR_EXPECT_PANIC(statement) runs it with a handler that
 * jumps back and returns the message, or fails the test when it does not panic.
 */
#ifndef WR_TEST_PANIC_H
#define WR_TEST_PANIC_H

#include <setjmp.h>
#include <stdio.h>

#include "warren/assert.h"

struct panic_catch {
    jmp_buf back;
    char message[1024];
};

static inline void panic_catch_handler(void *ctx, const char *message)
{
    struct panic_catch *caught = ctx;
    (void)snprintf(caught->message, sizeof(caught->message), "%s", message);
    longjmp(caught->back, 1);
}

#define WR_EXPECT_PANIC(caught, statement)                                                         \
    do {                                                                                           \
        wr_set_panic_handler(panic_catch_handler, (caught));                                       \
        if (setjmp((caught)->back) == 0) {                                                         \
            statement;                                                                             \
            cr_assert_fail("no panic from: %s", #statement);                                       \
        }                                                                                          \
        wr_set_panic_handler(NULL, NULL);                                                          \
    } while (0)

#endif
