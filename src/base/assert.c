/*
 * What: how the process dies on a bug: one line to stderr, the hook, abort().
 * Happy path: none of this ever runs.
 * Threads: any; the hook is set once at start. Nothing here allocates: memory may be the trouble.
 */
#include "warren/assert.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PANIC_MESSAGE_MAX 1024

/* The hook is one of the two kinds of global state that the style allows. */
static wr_panic_fn panic_handler;
static void *panic_ctx;

void wr_set_panic_handler(wr_panic_fn handler, void *ctx)
{
    panic_handler = handler;
    panic_ctx = ctx;
}

WR_NORETURN static void panic_message(const char *message)
{
    const wr_panic_fn handler = panic_handler;
    if (handler == NULL) {
        (void)fprintf(stderr, "warren: panic: %s\n", message);
        (void)fflush(stderr);
    } else {
        handler(panic_ctx, message);
    }
    abort();
}

void wr_panic(const char *fmt, ...)
{
    char message[PANIC_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, args);
    va_end(args);
    panic_message(message);
}

void wr_assert_failed(const char *expression, const char *file, int line)
{
    wr_panic("%s:%d: assertion failed: %s", file, line, expression);
}

void wr_assert_op_failed(const char *expression, unsigned long long a, unsigned long long b,
                         const char *file, int line)
{
    wr_panic("%s:%d: assertion failed: %s (%llu, %llu)", file, line, expression, a, b);
}
