/*
 * What: how far publishers of a replicated queue may be ahead while its consumers wait for it.
 * Whoever has used up his prefetch gets more when what he acknowledged is committed, and that is
 * behind all that was published before: a publisher that is free to send puts a window of some
 * thousand messages into every round of the log, and the consumer sees one prefetch per round. So
 * while consumers are hungry a publisher has only so much on its way that a round is about as long
 * as the sync in it; what is more waits with its client, and goes on with the next commit.
 *
 * Happy path: a batch is applied, and what is left is at least what it let go out: hungry for
 * PACE_NS -> the next APPLIED of each publisher carries its part -> client_send.c keeps to it ->
 * hungry no more: the next one lifts it. Failure modes: none; a client that does not know of it (an
 * older release) sends as before. A new session, as after a change of leader, begins without.
 *
 * Invariants: I1 who is paced has something on its way or may send: the answer that lifts its pace
 * comes. I2 enqueues only: nothing that gives credit back is held up but behind its own client's.
 * Threads: the host's shard. Spec: docs/flow.md, "Publishers ahead of hungry consumers".
 */
#include "home.h"
#include "host_internal.h"

#define PACE_NS     (UINT64_C(5) * 1000 * 1000)
#define PACE_BYTES  (UINT64_C(128) << 10) /* of all publishers together, ... */
#define PACE_RATE   UINT64_C(64)          /* ... but no less a rate than that, bytes per us */
#define PACE_LEAST  (UINT64_C(4) << 10)   /* of each */
#define PACE_PERIOD (UINT64_C(1000) * 1000 * 1000)

static uint64_t now_ns(const struct home *home)
{
    return home->host->env->ops->mono_ns(home->host->env);
}

static bool is_hungry(const struct home *home)
{
    uint64_t out = 0;
    for (size_t i = 0; i < home->effects.count; i++) {
        const struct queue_effect *effect = &home->effects.items[i];
        out += effect->kind == QUEUE_EFFECT_DELIVER ? effect->count : 0;
    }
    return out > 0 && queue_ready(home->queue) >= out;
}

void pace_proposed(struct home *home, uint64_t index)
{
    if (home->pacing.sample == 0) {
        home->pacing.sample = index;
        home->pacing.sampled_ns = now_ns(home);
    }
}

/* What a commit takes, of late: the mean of some eight samples, one at a time. */
static void sample(struct pacing *pacing, uint64_t now)
{
    const uint64_t took = now - pacing->sampled_ns;
    pacing->commit_ns =
        pacing->commit_ns == 0 ? took : pacing->commit_ns - pacing->commit_ns / 8 + took / 8;
    pacing->sample = 0;
}

void pace_committed(struct home *home, uint64_t index)
{
    struct pacing *pacing = &home->pacing;
    if (pacing->sample != 0 && index >= pacing->sample) {
        sample(pacing, now_ns(home));
    }
}

void pace_applied(struct home *home, const struct queue_batch *batch)
{
    struct pacing *pacing = &home->pacing;
    if (!home->ahead) {
        pace_committed(home, home->entry_index);
    }
    pacing->enqueued = batch->count > 0 && batch->ops[batch->count - 1].kind == QUEUE_OP_ENQUEUE;
    if (home->group != NULL && home->serving && home->effects.count > 0 &&
        queue_ready(home->queue) > 0 && is_hungry(home)) {
        pacing->until_ns = now_ns(home) + PACE_NS;
    }
}

/* Counted anew every period: who has gone is still counted in the next one. */
static uint64_t publishers(struct pacing *pacing, struct route *route, uint64_t now)
{
    const uint64_t period = now / PACE_PERIOD + 1; /* 0: a route that was not counted yet */
    if (period != pacing->period) {
        pacing->before = period == pacing->period + 1 ? pacing->now : 0;
        pacing->now = 0;
        pacing->period = period;
    }
    if (route->pace_period != period) {
        route->pace_period = period;
        pacing->now++;
    }
    return pacing->now > pacing->before ? pacing->now : pacing->before;
}

bool pace_changes(struct home *home, struct route *route, struct queue_effect *ret_effect)
{
    struct pacing *pacing = &home->pacing;
    if (!pacing->enqueued || (pacing->until_ns == 0 && route->pace == 0)) {
        return false;
    }
    const uint64_t now = now_ns(home);
    uint64_t pace = 0;
    if (now < pacing->until_ns) {
        const uint64_t bytes = pacing->commit_ns / 1000 * PACE_RATE;
        pace = (bytes > PACE_BYTES ? bytes : PACE_BYTES) / publishers(pacing, route, now);
        pace = pace > PACE_LEAST ? pace : PACE_LEAST;
    }
    if (pace == route->pace) {
        return false;
    }
    route->pace = pace;
    *ret_effect =
        (struct queue_effect){.kind = QUEUE_EFFECT_NACKED, .client = route->client, .seq = pace};
    return true;
}
