/*
 * What: what happens to the clients of a node when it is down, up again, or gone for good. A boot
 * number names one start of one node; it is the upper half of the client ids.
 * Happy path: NODE_DOWN returns what its consumers have unacked and passes them over from then on;
 * NODE_UP lets them take part again, with new ordinals; NODE_GONE closes them.
 * Failure modes: ops of a boot that is down may still arrive (they were under way): they are
 * applied, without deliveries. Those of a boot that is gone are ignored.
 * Invariants: a boot is in `suspended` only while it has clients, so the list is bounded by them;
 * the host compares queue_boots() with what it knows of the nodes and repeats NODE_DOWN where
 * needed.
 */
#include "queue_internal.h"

uint64_t queue__client_boot(uint64_t client)
{
    return client >> 32;
}

/* Number of the first client of the boot, or where it would be. */
static size_t boot_place(const struct queue *q, uint64_t boot)
{
    return queue__client_place(q, boot << 32);
}

static bool boot_at(const struct queue *q, size_t place, uint64_t boot)
{
    return place < q->clients.count && queue__client_boot(q->clients.items[place]->id) == boot;
}

/* Where the boot is in the list of suspended ones, or would be inserted. */
static size_t suspended_place(const struct queue *q, uint64_t boot)
{
    size_t place = 0;
    while (place < q->suspended.count && q->suspended.items[place] < boot) {
        place++;
    }
    return place;
}

bool queue__boot_is_suspended(const struct queue *q, uint64_t boot)
{
    const size_t place = suspended_place(q, boot);
    return place < q->suspended.count && q->suspended.items[place] == boot;
}

static void forget_suspended(struct queue *q, uint64_t boot)
{
    if (queue__boot_is_suspended(q, boot)) {
        vec_remove(&q->suspended, suspended_place(q, boot));
    }
}

void queue__boot_settle(struct queue *q, uint64_t boot)
{
    if (!boot_at(q, boot_place(q, boot), boot)) {
        forget_suspended(q, boot);
    }
}

static void suspend(struct queue_apply *a, struct queue_client *client)
{
    struct queue *q = a->queue;
    client->suspended = true;
    /* From the end: a detached consumer goes when it has nothing left. */
    for (size_t i = client->consumers.count; i-- > 0;) {
        struct queue_consumer *consumer = client->consumers.items[i];
        queue__return_all(a, consumer);
        queue__consumer_update(consumer);
        queue__consumer_reap(consumer);
    }
    queue__unseal(q, client);
}

/* May be repeated: what a basic.get of a suspended client took is returned then. */
void queue__node_down(struct queue_apply *a, uint64_t boot)
{
    struct queue *q = a->queue;
    size_t i = boot_place(q, boot);
    if (boot > UINT32_MAX || !boot_at(q, i, boot)) {
        return;
    }
    if (!queue__boot_is_suspended(q, boot)) {
        vec_insert(&q->suspended, suspended_place(q, boot), boot);
    }
    q->active_stale = q->config.single_active_consumer;
    for (; boot_at(q, i, boot); i++) {
        suspend(a, q->clients.items[i]);
    }
}

void queue__node_up(struct queue *q, uint64_t boot)
{
    if (!queue__boot_is_suspended(q, boot)) {
        return;
    }
    forget_suspended(q, boot);
    q->active_stale = q->config.single_active_consumer;
    for (size_t i = boot_place(q, boot); boot_at(q, i, boot); i++) {
        q->clients.items[i]->suspended = false;
        queue__client_update(q->clients.items[i]);
    }
}

void queue__node_gone(struct queue_apply *a, uint64_t boot)
{
    struct queue *q = a->queue;
    if (boot > UINT32_MAX) {
        return;
    }
    if (rangemap_find(&q->gone, boot) == NULL) {
        const struct range_attr attr = {.value = boot};
        rangemap_insert(&q->gone, boot, 1, &attr);
    }
    const size_t begin = boot_place(q, boot);
    size_t end = begin;
    while (boot_at(q, end, boot)) {
        end++;
    }
    for (size_t i = end; i-- > begin;) {
        queue__client_close(a, q->clients.items[i]);
    }
}
