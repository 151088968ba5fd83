/*
 * What: signals that are for the whole process: the two that end it in order, and SIGHUP.
 *
 * Happy path: taken by shard 0's loop while the node runs; ignored from when that loop is over.
 * SIGHUP is held from the first line of main() until that loop takes it.
 *
 * Failure modes: none. SIGTERM and SIGINT end a node that has not begun to run at once, which is
 * what somebody wants who waits for a recovery in vain; it has promised nothing yet. SIGHUP, whose
 * default is to end the process, comes from whoever rotates logs and knows nothing of starts: it
 * waits until there is a loop that takes it. What comes while the node is being freed would leave
 * an orderly end with the wrong exit code, and is too late to change anything.
 *
 * Threads: the main thread. Threads that were made before the node runs have SIGHUP blocked.
 */
#include <pthread.h>

#include "warren/assert.h"

#include "os_internal.h"

static const int os_signal_numbers[] = {SIGTERM, SIGINT, SIGHUP};
static_assert(WR_ARRAY_SIZE(os_signal_numbers) == OS_SIGNALS, "a handle for each");

static void mask_hangup(int how)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGHUP);
    int rc = pthread_sigmask(how, &set, NULL);
    WR_ASSERT_OP(rc, ==, 0);
}

void os_signals_hold(void)
{
    mask_hangup(SIG_BLOCK);
}

static void on_signal(uv_signal_t *handle, int signal_number)
{
    struct os_context *context = handle->data;
    if (context->node->on_signal != NULL && !os_is_silent(context)) {
        context->dirty = true;
        context->node->on_signal(context->node->signal_ctx, signal_number);
    }
}

void os_signals_start(struct os_node *node)
{
    struct os_context *context = &node->contexts[0];
    for (uint32_t i = 0; i < OS_SIGNALS; i++) {
        uv_signal_t *handle = &node->signals[i];
        int rc = uv_signal_init(&context->loop, handle);
        WR_ASSERT_OP(rc, ==, 0);
        node->signal_count++;
        handle->data = context;
        (void)uv_signal_start(handle, on_signal, os_signal_numbers[i]);
        uv_unref((uv_handle_t *)handle);
    }
    mask_hangup(SIG_UNBLOCK);
}

void os_signals_stop(struct os_node *node)
{
    for (uint32_t i = 0; i < node->signal_count; i++) {
        uv_close((uv_handle_t *)&node->signals[i], NULL);
        /* libuv has set the default just now. */
        (void)signal(os_signal_numbers[i], SIG_IGN);
    }
}
