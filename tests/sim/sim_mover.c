/*
 * What: an operator who looks through a queue and moves messages out of it, copies them or deletes
 * small ones, page by page, as warrenctl does (warren/broker_messages.h), through some node each
 * time. His queue, the attic, has publishers and no consumer; what is moved or copied goes to the
 * graves, which have one.
 *
 * Checked here and by the ledger: what a peek shows is intact and in order of position; what is
 * confirmed arrives, whichever node dies in the middle of a page; without any faults as many arrive
 * as pages said they moved and copied, and as many do not as they said they deleted. A page ends by
 * itself within its time limit and a little, unless its node does.
 */
#include <inttypes.h>
#include <stdio.h>

#include "sim.h"

#include "warren/broker_messages.h"

#include "node/node_internal.h"
#include "replica/host_internal.h"

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
    uint64_t moved, copied, deleted;
    bool faults;
    bool cut_short; /* some page ended by its time limit */
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
    mover->cut_short = mover->cut_short || fault->code == 541;
    mover->moved += mover->what == BROKER_PAGE_MOVE ? result->done : 0;
    mover->copied += mover->what == BROKER_PAGE_COPY ? result->done : 0;
    mover->deleted += mover->what == BROKER_PAGE_DELETE ? result->done : 0;
    SIM_SOMETIMES(sim, mover->moved > 0, SIM_SEEN_MOVED);
    SIM_SOMETIMES(sim, mover->copied > 0, SIM_SEEN_COPIED);
    SIM_SOMETIMES(sim, mover->deleted > 0, SIM_SEEN_DELETED);
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

static enum broker_page_what draw_what(struct sim *sim)
{
    struct prng *prng = &sim->mover->prng;
    if (!prng_ratio(prng, 3, 4)) {
        return BROKER_PAGE_PEEK;
    }
    if (sim->options.deletes && prng_ratio(prng, 1, 3)) {
        return BROKER_PAGE_DELETE;
    }
    return sim->options.copies && prng_ratio(prng, 1, 3) ? BROKER_PAGE_COPY : BROKER_PAGE_MOVE;
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
        mover->what = sim->liveness ? BROKER_PAGE_MOVE : draw_what(sim);
        mover->position = 0;
    }
    char doomed[32];
    (void)snprintf(doomed, sizeof doomed, "size < %u", SIM_DOOMED_SIZE);
    const struct broker_page_options options = {
        .what = mover->what,
        .vhost = BYTES_LITERAL("/"),
        .queue = bytes_from_cstr(attic_of(sim)->name),
        .target = bytes_from_cstr(sim->ledger.queues[sim->options.queues + SIM_AT_GRAVES].name),
        .filter = mover->what == BROKER_PAGE_DELETE ? bytes_from_cstr(doomed)
                  : prng_ratio(&mover->prng, 1, 2) && !sim->liveness
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
    if (sim->options.faults[SIM_FAULT_KILL] && !sim->liveness && prng_ratio(&mover->prng, 1, 4)) {
        sim_at(sim, sim->now + prng_below(&mover->prng, 10 * SIM_MS), on_kill, NULL, node,
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

bool sim_mover_was_cut_short(const struct sim *sim)
{
    return sim->mover != NULL && sim->mover->cut_short;
}

void sim_mover_check(struct sim *sim)
{
    const struct sim_mover *mover = sim->mover;
    const uint32_t attic = sim->options.queues + SIM_AT_ATTIC;
    const uint64_t left = mover->moved + mover->deleted;
    uint64_t stored = 0; /* and maybe some whose channel was closed before their confirm */
    uint64_t sent = 0;
    uint64_t came = 0;
    uint64_t first = 0; /* but for those that were first on their way to a channel that closed */
    const uint64_t given = mover->moved + mover->copied;
    if (!sim->options.moves || mover->faults || mover->cut_short) {
        return; /* a page that ended early (the network may be slow) may have done more than it told
                 */
    }
    for (size_t i = 0; i < sim->ledger.publishers.count; i++) {
        const struct sim_publisher *p = &sim->ledger.publishers.items[i];
        for (size_t k = 0; k < p->records.count; k++) {
            const struct sim_record *record = &p->records.items[k];
            sent += record->queue == attic ? 1 : 0;
            stored += record->queue == attic && record->confirmed ? 1 : 0;
            came += record->queue == attic ? record->buried : 0;
            first += record->queue == attic ? record->buried_first : 0;
        }
    }
    if (first > given || came < given || stored > left || left > sent) {
        sim_fail(sim,
                 "of %" PRIu64 " messages %" PRIu64 " are confirmed; %" PRIu64 " came, %" PRIu64
                 " of them first; %" PRIu64 " were moved, %" PRIu64 " copied and %" PRIu64
                 " deleted",
                 sent, stored, came, first, mover->moved, mover->copied, mover->deleted);
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
