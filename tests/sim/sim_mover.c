/*
 * What: an operator who looks through a queue and moves messages out of it, page by page, as
 * warrenctl does (warren/broker_messages.h), through some node each time. His queue, the attic, has
 * publishers and no consumer; what is moved goes to the graves, which have one.
 *
 * Checked here and by the ledger: what a peek shows is intact and in order of position; what is
 * confirmed arrives, whichever node dies in the middle of a page; without any faults it arrives
 * once. A page ends by itself within its time limit and a little, unless its node does.
 */
#include <inttypes.h>

#include "sim.h"

#include "warren/broker_messages.h"

#include "node/node_internal.h"
#include "replica/replica_internal.h"

#define TICK_NS    (150 * SIM_MS)
#define TIMEOUT_MS 4000u
#define LATE_NS    (3 * SIM_S)

struct sim_mover {
    struct prng prng;
    struct broker_page *page; /* NULL: none is under way */
    uint32_t node;
    enum broker_page_what what;
    uint64_t next, end; /* of the pages that belong together */
    uint64_t position;  /* of the last that was shown */
    uint64_t begun_at;
    bool faults;
};

static struct sim_queue *attic_of(struct sim *sim)
{
    return &sim->ledger.queues[sim->options.queues + SIM_AT_ATTIC];
}

static void on_message(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                       uint32_t delivery_count, const struct message *message)
{
    struct sim *sim = ctx;
    struct sim_mover *mover = sim->mover;
    uint32_t publisher;
    uint64_t seq;
    (void)at_ms;
    (void)delivery_count;
    (void)sim_ledger_recognise(sim, message_body(message), sim->options.queues + SIM_AT_ATTIC,
                               &publisher, &seq);
    if (place != QUEUE_PLACE_READY || position <= mover->position) {
        sim_fail(sim, "a peek shows position %" PRIu64 " after %" PRIu64 ", in place %d", position,
                 mover->position, (int)place);
    }
    mover->position = position;
    SIM_SOMETIMES(sim, true, SIM_SEEN_PEEKED);
}

static void on_done(void *ctx, const struct broker_fault *fault,
                    const struct broker_page_result *result)
{
    struct sim *sim = ctx;
    struct sim_mover *mover = sim->mover;
    sim_trace(sim, "mover: %" PRIu64 " of %" PRIu64 " seen are done%s%s", result->done,
              result->seen, fault->code != 0 ? ": " : "", fault->text);
    if (fault->code != 0 && fault->code != 404 && fault->code != 541) {
        sim_fail(sim, "a page ends with %u %s", fault->code, fault->text);
    }
    SIM_SOMETIMES(sim, mover->what == BROKER_PAGE_MOVE && result->done > 0, SIM_SEEN_MOVED);
    mover->page = NULL;
    mover->next = fault->code == 0 ? result->next : 0;
    mover->end = mover->next == 0 ? 0 : result->end;
}

/* In the middle of a page. */
static void on_kill(struct sim *sim, void *arg, uint64_t node, uint64_t incarnation)
{
    (void)arg;
    if (sim->hosts[node].running && sim->hosts[node].incarnation == incarnation && !sim->ending) {
        sim_node_end(sim, (uint32_t)node, SIM_END_KILL);
    }
}

static void begin_page(struct sim *sim)
{
    static const struct broker_page_sink sink = {.on_message = on_message, .on_done = on_done};
    struct sim_mover *mover = sim->mover;
    const uint32_t node = (uint32_t)prng_below(&mover->prng, sim->node_count);
    const struct sim_host *host = &sim->hosts[node];
    if (!host->running || host->stop_asked || host->paused_until > sim->now) {
        return;
    }
    struct shard *shard = node_shard(host->node, 0);
    if (shard->view == NULL || shard->boot == 0) {
        return;
    }
    if (mover->next == 0 || (sim->liveness && mover->what == BROKER_PAGE_PEEK)) {
        mover->next = mover->end = 0; /* who only looks keeps nobody waiting in the end */
        mover->what =
            sim->liveness || prng_ratio(&mover->prng, 3, 4) ? BROKER_PAGE_MOVE : BROKER_PAGE_PEEK;
        mover->position = 0;
    }
    const struct broker_page_options options = {
        .what = mover->what,
        .vhost = BYTES_LITERAL("/"),
        .queue = bytes_from_cstr(attic_of(sim)->name),
        .target = bytes_from_cstr(sim->ledger.queues[sim->options.queues + SIM_AT_GRAVES].name),
        .filter = prng_ratio(&mover->prng, 1, 2) && !sim->liveness
                      ? BYTES_LITERAL("size > 100 and delivery_count < 3")
                      : BYTES_NONE,
        .places = QUEUE_PLACE_READY,
        .from = mover->next,
        .end = mover->end,
        .count = 1 + (uint32_t)prng_below(&mover->prng, sim->liveness ? 500 : 50),
        .limit = UINT64_MAX,
        .timeout_ms = TIMEOUT_MS};
    host_refresh(shard->host);
    mover->node = node;
    mover->begun_at = sim->now;
    mover->page = broker_page_start(shard->broker, &options, &sink, sim);
    if (sim->options.faults[SIM_FAULT_KILL] && !sim->liveness && prng_ratio(&mover->prng, 1, 10)) {
        sim_at(sim, sim->now + prng_below(&mover->prng, 30 * SIM_MS), on_kill, NULL, node,
               host->incarnation);
    }
    sim_context_schedule(&sim->hosts[node].contexts[0], true);
}

static void look_at_page(struct sim *sim)
{
    struct sim_mover *mover = sim->mover;
    const struct sim_host *host = &sim->hosts[mover->node];
    if (host->paused_until > sim->now) {
        mover->begun_at = sim->now; /* its time stands still too */
    } else if (sim->now > mover->begun_at + TIMEOUT_MS * SIM_MS + LATE_NS && !host->stop_asked) {
        sim_fail(sim, "a page on node %u does not end", mover->node);
    } else if (mover->faults && !sim->liveness && prng_ratio(&mover->prng, 1, 20)) {
        broker_page_abandon(mover->page); /* Ctrl-C: what it took goes back */
        sim_context_schedule(&sim->hosts[mover->node].contexts[0], true);
        mover->page = NULL;
        mover->next = mover->end = 0;
    }
}

static void on_tick(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    (void)arg;
    (void)a;
    (void)b;
    if (sim->ending) {
        return;
    }
    if (sim->mover->page == NULL) {
        begin_page(sim);
    } else {
        look_at_page(sim);
    }
    sim_at(sim, sim->now + TICK_NS, on_tick, NULL, 0, 0);
}

void sim_mover_init(struct sim *sim)
{
    sim->mover = wr_calloc(1, sizeof *sim->mover);
    sim->mover->prng = prng_fork(&sim->prng, "mover");
    for (uint32_t i = 0; i < SIM_FAULT_KIND_COUNT; i++) {
        sim->mover->faults = sim->mover->faults || sim->options.faults[i];
    }
    if (sim->options.moves) {
        sim_at(sim, sim->now + SIM_S, on_tick, NULL, 0, 0);
    }
}

void sim_mover_deinit(struct sim *sim)
{
    wr_free(sim->mover);
    sim->mover = NULL;
}

void sim_mover_node_gone(struct sim *sim, uint32_t node)
{
    if (sim->mover->page != NULL && sim->mover->node == node) {
        sim->mover->page = NULL; /* it is freed with its broker */
        sim->mover->next = sim->mover->end = 0;
    }
}
