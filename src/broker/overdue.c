/*
 * What: what the consumers of a channel hold (delivered and not settled), since when, and taking it
 * away: from one that holds a message for too long, and from one that asked for it when its queue
 * is led by another node.
 *
 * Happy path: a delivery counts in the newest run of its consumer, or begins one when a sixteenth
 * of the limit has passed since that began; a settle takes from the runs it covers, and empty runs
 * go. The channel's timer looks at the oldest run of each consumer. So there are about 17 runs per
 * consumer, and nothing to do per message but to count. Failure modes: none; a settle of what was
 * taken away finds nothing here, and the queue machine ignores it.
 *
 * Invariants: I1 left of a holding is the sum of its runs' left, and no run but the last has none.
 * I2 unacked of a queue is the sum of left over its holdings. I3 nothing is taken away before its
 * limit has passed: a run is due by the time of its last possible delivery. Ownership: the ch_queue
 * owns its holdings; one outlives its consumer while something is left of it. Threads: the shard's.
 * Spec: docs/broker.md, "Consumers that hold a message too long".
 */
#include "broker_internal.h"
#include "warren/plant.h"

#define RUNS_PER_TIMEOUT 16u
#define TIMEOUT_MAX      UINT64_C(315360000000)

struct held_run {
    uint64_t first, count; /* ordinals */
    uint64_t left;         /* of them not settled */
    uint64_t begun_ms;
};

struct holding {
    struct list link; /* queue->holdings */
    struct ch_queue *queue;
    struct consumer *consumer; /* NULL: it was cancelled */
    uint32_t id;
    uint64_t timeout_ms; /* 0: none */
    uint64_t left;
    VEC(struct held_run) runs;
};

static uint64_t run_ms(const struct holding *h)
{
    return h->timeout_ms / RUNS_PER_TIMEOUT + 1;
}

static uint64_t due_ms(const struct holding *h, uint64_t begun_ms)
{
    return begun_ms + run_ms(h) + h->timeout_ms;
}

static void holding_free(struct holding *h)
{
    list_remove(&h->link);
    if (h->consumer != NULL) {
        h->consumer->holding = NULL;
    }
    vec_deinit(&h->runs);
    wr_free(h);
}

void holding_open(struct consumer *c, uint64_t timeout_ms)
{
    struct holding *h = wr_calloc(1, sizeof *h);
    h->queue = c->queue;
    h->consumer = c;
    h->id = c->id;
    h->timeout_ms = timeout_ms < TIMEOUT_MAX ? timeout_ms : TIMEOUT_MAX;
    c->holding = h;
    list_push_back(&c->queue->holdings, &h->link);
}

/* The consumer goes; what it holds can still be settled. */
void holding_leave(struct consumer *c)
{
    struct holding *h = c->holding;
    if (h == NULL) {
        return;
    }
    c->holding = NULL;
    h->consumer = NULL;
    if (h->left == 0) {
        holding_free(h);
    }
}

void holdings_free(struct ch_queue *q)
{
    LIST_FOREACH_SAFE(link, &q->holdings) {
        holding_free(WR_CONTAINER_OF(link, struct holding, link));
    }
}

uint64_t holdings_of_cancelled_return(struct ch_queue *q)
{
    uint64_t seq = 0;
    LIST_FOREACH(link, &q->holdings) {
        const struct holding *h = WR_CONTAINER_OF(link, struct holding, link);
        if (h->consumer == NULL && h->left > 0) {
            seq = queue_client_detach(q->client, h->id, QUEUE_DETACH_RETURN);
        }
    }
    return seq;
}

/* --- counting --------------------------------------------------------------------------------- */

static void on_due(struct timer *t);

static void arm(struct broker_channel *ch, uint64_t deadline_ms)
{
    if (!timer_is_pending(&ch->overdue) || ch->overdue.deadline_ms > deadline_ms) {
        timer_add(&ch->broker->timers, &ch->overdue, deadline_ms, on_due);
    }
}

void holding_delivered(struct consumer *c, uint64_t ordinal, uint64_t now_ms)
{
    struct holding *h = c->holding;
    struct held_run *last = h->runs.count == 0 ? NULL : &vec_last(&h->runs);
    bool fresh = last == NULL || last->left == 0;
    if (fresh && last != NULL) {
        *last = (struct held_run){.first = ordinal, .begun_ms = now_ms};
    } else if (fresh || (h->timeout_ms > 0 && now_ms >= last->begun_ms + run_ms(h))) {
        vec_push(&h->runs, ((struct held_run){.first = ordinal, .begun_ms = now_ms}));
        last = &vec_last(&h->runs);
    }
    last->count = ordinal - last->first + 1;
    last->left++;
    h->left++;
    h->queue->unacked++;
    if (h->timeout_ms > 0 && WR_UNLIKELY(last->left == 1)) {
        arm(h->queue->channel, due_ms(h, now_ms));
    }
}

static struct holding *find(const struct ch_queue *q, uint32_t id)
{
    const struct consumer *c = id < q->consumers.count ? q->consumers.items[id] : NULL;
    if (c != NULL) {
        return c->holding;
    }
    LIST_FOREACH(link, &q->holdings) {
        struct holding *h = WR_CONTAINER_OF(link, struct holding, link);
        if (h->id == id) {
            return h;
        }
    }
    return NULL;
}

static uint64_t overlap(const struct held_run *run, uint64_t first, uint64_t count)
{
    uint64_t begin = first > run->first ? first : run->first;
    uint64_t end =
        first + count < run->first + run->count ? first + count : run->first + run->count;
    uint64_t n = end > begin ? end - begin : 0;
    return n < run->left ? n : run->left;
}

uint64_t holding_settled(struct ch_queue *q, uint32_t id, uint64_t first, uint64_t count)
{
    struct holding *h = find(q, id);
    uint64_t sum = 0;
    if (h == NULL) {
        return 0;
    }
    for (size_t i = 0; i < h->runs.count; i++) {
        struct held_run *run = &h->runs.items[i];
        uint64_t n = overlap(run, first, count);
        run->left -= n;
        sum += n;
        if (run->left == 0 && i + 1 < h->runs.count) {
            vec_remove(&h->runs, i);
            i--;
        }
    }
    h->left -= sum;
    q->unacked -= sum;
    if (h->left == 0 && h->consumer == NULL) {
        holding_free(h);
    }
    return sum;
}

/* --- taking away ------------------------------------------------------------------------------ */

/* The consumer is cancelled and all that it holds goes back to the queue. */
static void revoke(struct holding *h)
{
    struct ch_queue *q = h->queue;
    struct consumer *c = h->consumer;
    q->unacked -= h->left;
    q->channel->outstanding -= h->left;
    for (size_t i = 0; i < h->runs.count && wr_planted(WR_PLANT_timeout_settles); i++) {
        const struct held_run *run = &h->runs.items[i];
        (void)queue_client_settle(q->client, h->id, run->first, run->count, QUEUE_ACK);
    }
    if (c != NULL) {
        (void)queue_client_detach(q->client, c->id, QUEUE_DETACH_RETURN);
        holding_free(h);
        consumer_free(c); /* its basic.cancel may cross ours */
        return;
    }
    for (size_t i = 0; i < h->runs.count; i++) { /* what of it is settled the machine ignores */
        const struct held_run *run = &h->runs.items[i];
        (void)queue_client_settle(q->client, h->id, run->first, run->count, QUEUE_REQUEUE);
    }
    holding_free(h);
}

/* A copy: it is told when the consumer is gone. */
static struct bytes tag_of(const struct consumer *c, uint8_t space[255])
{
    memcpy(space, c->tag, c->tag_size);
    return bytes_make(space, c->tag_size);
}

static void take_overdue(struct holding *h)
{
    struct broker_channel *ch = h->queue->channel;
    uint8_t space[255];
    bool told = h->consumer != NULL;
    struct bytes tag = told ? tag_of(h->consumer, space) : BYTES_NONE;
    uint64_t timeout_ms = h->timeout_ms;
    wr_log(ch->broker->logger, LOG_LEVEL_WARNING, "channel",
           "consumer '%.*s' of %s (%u) has held a message of queue '%s' for more than %llu ms: "
           "it is cancelled and what it held is requeued",
           FMT(tag), ch->session->name, ch->number, h->queue->name, (unsigned long long)timeout_ms);
    revoke(h);
    if (told) {
        ch->sink->on_overdue(ch->ctx, tag, timeout_ms);
    }
}

/* The one that is due first, and when. */
static struct holding *first_due(const struct broker_channel *ch, uint64_t *ret_due_ms)
{
    struct holding *first = NULL;
    struct umap_iter it = umap_iterate(&ch->by_id);
    while (umap_next(&it)) {
        const struct ch_queue *q = it.value;
        LIST_FOREACH(link, &q->holdings) {
            struct holding *h = WR_CONTAINER_OF(link, struct holding, link);
            uint64_t due = h->timeout_ms > 0 && h->left > 0 ? due_ms(h, h->runs.items[0].begun_ms)
                                                            : UINT64_MAX;
            if (due != UINT64_MAX && (first == NULL || due < *ret_due_ms)) {
                first = h;
                *ret_due_ms = due;
            }
        }
    }
    return first;
}

static void on_due(struct timer *t)
{
    struct broker_channel *ch = WR_CONTAINER_OF(t, struct broker_channel, overdue);
    uint64_t now = broker_now_ms(ch->broker);
    uint64_t due = UINT64_MAX;
    struct holding *h;
    if (wr_planted(WR_PLANT_timeout_ignored)) {
        return;
    }
    /* One at a time: the front end, when it hears of it, may settle others. */
    while ((h = first_due(ch, &due)) != NULL && due <= now) {
        take_overdue(h);
    }
    if (h != NULL) {
        arm(ch, due);
    }
    if (ch->global_limit > 0) {
        deliver_resume(ch);
    }
}

void consumers_moved(struct ch_queue *q)
{
    struct broker_channel *ch = q->channel;
    uint8_t space[255];
    for (size_t i = 1; i < q->consumers.count; i++) {
        struct consumer *c = q->consumers.items[i];
        if (c == NULL || !c->attached || !c->cancel_on_move) {
            continue;
        }
        struct bytes tag = tag_of(c, space);
        if (c->holding != NULL) {
            revoke(c->holding);
        } else { /* it needs no acks */
            (void)queue_client_detach(q->client, c->id, QUEUE_DETACH_RETURN);
            consumer_free(c);
        }
        ch->sink->on_cancel(ch->ctx, tag);
    }
    if (ch->global_limit > 0) {
        deliver_resume(ch);
    }
}
