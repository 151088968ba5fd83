/*
 * What: assertions that are always on (release too), and the one way a Warren process dies on a
 * bug. Use only for bugs of ours: never for anything that a client, a peer or a disk can cause.
 */
#ifndef WR_ASSERT_H
#define WR_ASSERT_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WR_LIKELY(x)   __builtin_expect(!!(x), 1)
#define WR_UNLIKELY(x) __builtin_expect(!!(x), 0)

/* A result that must not be ignored: put it in front of every function that returns WR_E_*. */
#define WR_MUST_USE           __attribute__((warn_unused_result))
#define WR_PRINTF(fmt, first) __attribute__((format(printf, fmt, first)))
#define WR_UNUSED             __attribute__((unused))
#define WR_NORETURN           __attribute__((noreturn))
#define WR_COLD               __attribute__((cold, noinline))

#define WR_ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

/* The struct of `type` whose field `member` is at `pointer` (intrusive containers). */
#define WR_CONTAINER_OF(pointer, type, member)                                                     \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

/* Like WR_CONTAINER_OF, for a pointer to const. */
#define WR_CONTAINER_OF_CONST(pointer, type, member)                                               \
    ((const type *)(const void *)((const char *)(pointer)-offsetof(type, member)))

/*
 * Called with the finished one-line message before the process aborts; it may write the message
 * elsewhere or leave by longjmp (tests). If it returns, the process aborts. Any thread.
 */
typedef void (*wr_panic_fn)(void *ctx, const char *message);

/* Set the handler (NULL: none). Set once at start, before other threads exist. */
void wr_set_panic_handler(wr_panic_fn handler, void *ctx);

/* Hand the message to the handler (without one: print it to stderr), then abort. Any thread. */
WR_NORETURN WR_COLD void wr_panic(const char *fmt, ...) WR_PRINTF(1, 2);

/* Implementation of the macros below. */
WR_NORETURN WR_COLD void wr_assert_failed(const char *expression, const char *file, int line);
WR_NORETURN WR_COLD void wr_assert_op_failed(const char *expression, unsigned long long a,
                                             unsigned long long b, const char *file, int line);

#define WR_ASSERT(x)                                                                               \
    do {                                                                                           \
        if (WR_UNLIKELY(!(x))) {                                                                   \
            wr_assert_failed(#x, __FILE__, __LINE__);                                              \
        }                                                                                          \
    } while (0)

/* WR_ASSERT_OP(size, <=, max): compares unsigned integers and prints both when it fails. */
#define WR_ASSERT_OP(a, op, b)                                                                     \
    do {                                                                                           \
        const unsigned long long wr_a_ = (unsigned long long)(a);                                  \
        const unsigned long long wr_b_ = (unsigned long long)(b);                                  \
        if (WR_UNLIKELY(!(wr_a_ op wr_b_))) {                                                      \
            wr_assert_op_failed(#a " " #op " " #b, wr_a_, wr_b_, __FILE__, __LINE__);              \
        }                                                                                          \
    } while (0)

/* Costly checks: compiled in only with WR_SLOW_CHECKS (debug and simulation builds). */
#ifdef WR_SLOW_CHECKS
#define WR_ASSERT_SLOW(x) WR_ASSERT(x)
#else
#define WR_ASSERT_SLOW(x) ((void)sizeof(!(x)))
#endif

#define WR_UNREACHABLE() wr_panic("%s:%d: unreachable code reached", __FILE__, __LINE__)

#endif
