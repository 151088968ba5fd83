/*
 * What: the single active consumer: of a queue that wants one, only one consumer at a time gets
 * messages: that of the highest x-priority, and of these the one attached for longest.
 * Failure modes: when the active one leaves or its node goes down the next takes over at once. One
 * that comes with a higher priority takes over when the active one has nothing unacked, and
 * meanwhile nobody gets anything new; where the active one stays (classic queues) it waits as all
 * others. One whose node comes back waits for its turn. Invariants: all attached consumers but the
 * active are barred, and the active too while another one waits for it (draining). Spec: reference
 * queues.md section 7.
 */
#include "queue_internal.h"

bool queue__is_active(const struct queue *q, const struct queue_consumer *consumer)
{
    return !consumer->client->suspended &&
           (!q->config.single_active_consumer || q->active == consumer);
}

static bool is_better(const struct queue_consumer *one, const struct queue_consumer *other)
{
    return other == NULL || one->priority > other->priority ||
           (one->priority == other->priority && one->attach < other->attach);
}

struct queue_consumer *queue__best_consumer(const struct queue *q)
{
    struct queue_consumer *best = NULL;
    for (size_t i = 0; i < q->clients.count; i++) {
        const struct queue_client *client = q->clients.items[i];
        for (size_t k = 0; k < client->consumers.count && !client->suspended; k++) {
            struct queue_consumer *consumer = client->consumers.items[k];
            if (consumer->attached && !consumer->dead && is_better(consumer, best)) {
                best = consumer;
            }
        }
    }
    return best;
}

bool queue__is_outranked(const struct queue *q, const struct queue_consumer *best)
{
    return !q->config.active_stays && q->active != NULL && best != NULL &&
           best->priority > q->active->priority;
}

/* Who is barred follows from who is active and who would be. */
void queue__bar_others(struct queue *q)
{
    const struct queue_consumer *best = queue__best_consumer(q);
    q->draining = queue__is_outranked(q, best);
    for (size_t i = 0; i < q->clients.count; i++) {
        const struct queue_client *client = q->clients.items[i];
        for (size_t k = 0; k < client->consumers.count; k++) {
            struct queue_consumer *consumer = client->consumers.items[k];
            if (consumer->attached && !consumer->dead) {
                consumer->barred = q->draining || consumer != q->active;
            }
        }
    }
}

static void update_all(struct queue *q)
{
    for (size_t i = 0; i < q->clients.count; i++) {
        queue__client_update(q->clients.items[i]);
    }
}

/* After anything that may change who is active. */
void queue__choose_active(struct queue *q)
{
    if (!q->active_stale) {
        return;
    }
    struct queue_consumer *best = queue__best_consumer(q);
    struct queue_consumer *active = q->active;
    q->active_stale = false;
    if (active == NULL || active->client->suspended ||
        (queue__is_outranked(q, best) && rangemap_is_empty(&active->unacked))) {
        q->active = best;
    }
    queue__bar_others(q);
    update_all(q);
}
