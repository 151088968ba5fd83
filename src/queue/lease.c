/*
 * What: x-expires: a queue that nobody has used for that long is to be deleted. Used means: a
 * consumer is attached (a suspended one too; one for dead letters does not count), or was; a
 * basic.get; a declare; and it begins anew with a new leader and with another length of it.
 * Failure modes: a queue that has not heard the time yet (clock 0) does not expire: it counts from
 * the first time it hears.
 * Spec: reference queues.md section 3.
 */
#include "queue_internal.h"

void queue__used(struct queue *q)
{
    q->used_ms = q->clock_ms;
}

/* When the lease ends if nobody uses the queue before; UINT64_MAX = it does not. 0 = it has not
 * begun yet. */
uint64_t queue__lease_deadline(const struct queue *q)
{
    const uint64_t length = q->config.expires_ms;
    if (q->unused || q->consumers > 0 || length > QUEUE_TIME_MAX) {
        return UINT64_MAX;
    }
    return q->clock_ms == 0 ? 0 : q->used_ms + length;
}

void queue__lease_check(struct queue_apply *a)
{
    struct queue *q = a->queue;
    if (q->clock_ms > 0 && queue__lease_deadline(q) <= q->clock_ms) {
        q->unused = true;
        a->unused = true;
    }
}
