/*
 * What: queue clients inside nodes, for what AMQP does not reach: they call the host of a shard as
 * its broker does, and die with its process.
 *
 * A *mover* plays the part of the broker's dead-letter consumer for one queue: where the queue is
 * served and has dead letters, it attaches, publishes what it gets to the graves, and settles it
 * when that is confirmed. A *numberer* publishes with numbers of its own, some of them delayed, and
 * sends all that is not confirmed again, from another node, when its client is gone.
 *
 * Checked here: a hand-over settles what was confirmed only. The rest is the ledger's: nothing that
 * is confirmed is missing, no number comes twice without the redelivered flag, nothing comes before
 * it is due.
 */
#include <string.h>

#include "sim.h"

#include "node/node_internal.h"
#include "replica/replica_internal.h"
#include "sim_client.h"
#include "sim_durable.h"

#define TICK_NS        (50 * SIM_MS)
#define NUMBERERS_MAX  2u
#define PENDING_MAX    20u
#define MOVER_PREFETCH 10u

struct site { /* a shard of a process; forgotten with it (sim_inner_node_gone) */
    uint32_t node, shard;
};
struct hand { /* under way to the graves */
    uint64_t seq, ordinal;
    bool refused;
};
struct mover {
    struct sim *sim;
    uint32_t queue;
    bool open, stale; /* stale: to be closed */
    uint32_t times;
    struct site site;
    struct queue_client *source, *target;
    VEC(struct hand) hands;
};
struct number {
    uint64_t record; /* in the ledger; its number is one more */
    uint64_t seq;    /* of the op that is under way; 0 = it is to be sent again */
    uint32_t delay_ms;
};
struct numberer {
    struct sim *sim;
    struct prng prng;
    uint32_t queue, publisher, epoch;
    bool open, stale;
    struct site site;
    struct queue_client *client;
    VEC(struct number) pending;
    char id[24];
};
struct sim_inner {
    struct prng prng;
    struct mover movers[SIM_QUEUES_MAX];
    uint32_t mover_count;
    struct numberer numberers[NUMBERERS_MAX];
    uint32_t numberer_count;
};

/* --- where
 * ------------------------------------------------------------ */

static bool is_awake(const struct sim *sim, uint32_t node)
{
    const struct sim_host *host = &sim->hosts[node];
    return host->running && !host->stop_asked && host->paused_until <= sim->now;
}

static struct host *host_at(struct sim *sim, const struct site *site)
{
    struct host *host = node_shard_host(sim->hosts[site->node].node, site->shard);
    host_refresh(host);
    sim_context_schedule(&sim->hosts[site->node].contexts[site->shard], true);
    return host;
}

static const struct catalog_queue *record_at(struct sim *sim, const struct host *host,
                                             uint32_t queue)
{
    const uint64_t group = sim_group_of_queue(sim, &sim->ledger.queues[queue]);
    return host->view != NULL && host->boot != 0 && group != 0
               ? catalog_queue_by_id(host->view, group)
               : NULL;
}

/* --- movers
 * ------------------------------------------------------------ */

static void source_applied(void *ctx, uint64_t seq)
{
    (void)ctx;
    (void)seq;
}

static void source_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                         uint64_t value2)
{
    struct mover *m = ctx;
    (void)seq;
    (void)value;
    (void)value2;
    m->stale = m->stale || status != QUEUE_OK; /* somebody else takes them, still */
}

static void source_deliver(void *ctx, uint32_t consumer, uint64_t first_ordinal,
                           uint32_t delivery_count, uint8_t flags, const struct message *messages,
                           uint32_t count)
{
    struct mover *m = ctx;
    (void)consumer;
    (void)first_ordinal;
    (void)delivery_count;
    (void)flags;
    (void)messages;
    (void)count;
    sim_fail(m->sim, "a consumer of dead letters gets one that is not dead");
}

static void source_dead(void *ctx, uint32_t consumer, uint64_t first_ordinal,
                        enum queue_death reason, uint64_t died_ms, const struct message *messages,
                        uint32_t count)
{
    struct mover *m = ctx;
    (void)consumer;
    (void)died_ms;
    if (reason < QUEUE_DIED_REJECTED || reason > QUEUE_DIED_DELIVERY_LIMIT) {
        sim_fail(m->sim, "a dead letter without a reason");
    }
    for (uint32_t i = 0; i < count && !m->stale; i++) {
        const struct hand hand = {.seq = queue_client_publish(m->target, messages[i]),
                                  .ordinal = first_ordinal + i};
        vec_push(&m->hands, hand);
    }
}

static void target_applied(void *ctx, uint64_t seq)
{
    struct mover *m = ctx;
    size_t done = 0;
    while (done < m->hands.count && m->hands.items[done].seq <= seq) {
        const struct hand *hand = &m->hands.items[done++];
        if (!m->stale) {
            (void)queue_client_settle(m->source, 1, hand->ordinal, 1,
                                      hand->refused ? QUEUE_REQUEUE : QUEUE_ACK);
        }
        SIM_SOMETIMES(m->sim, true, SIM_SEEN_DEAD);
        SIM_SOMETIMES(m->sim, m->times > 1, SIM_SEEN_DEAD_AGAIN);
    }
    m->hands.count -= done;
    memmove(m->hands.items, m->hands.items + done, m->hands.count * sizeof *m->hands.items);
}

static void target_nacked(void *ctx, uint64_t seq)
{
    struct mover *m = ctx;
    for (size_t i = 0; i < m->hands.count; i++) {
        m->hands.items[i].refused = m->hands.items[i].refused || m->hands.items[i].seq == seq;
    }
}

static void mover_gone(void *ctx, bool lost)
{
    struct mover *m = ctx;
    (void)lost;
    m->stale = true;
}

static void no_nacked(void *ctx, uint64_t seq)
{
    (void)ctx;
    (void)seq;
}

static void no_reply(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2)
{
    (void)ctx;
    (void)seq;
    (void)status;
    (void)value;
    (void)value2;
}

static void no_cancel(void *ctx, uint32_t consumer)
{
    (void)ctx;
    (void)consumer;
}

static void no_blocked(void *ctx, bool blocked)
{
    (void)ctx;
    (void)blocked;
}

static const struct queue_client_sink source_sink = {.on_applied = source_applied,
                                                     .on_nacked = no_nacked,
                                                     .on_reply = source_reply,
                                                     .on_deliver = source_deliver,
                                                     .on_cancel = no_cancel,
                                                     .on_gone = mover_gone,
                                                     .on_blocked = no_blocked,
                                                     .on_dead = source_dead};
static const struct queue_client_sink target_sink = {.on_applied = target_applied,
                                                     .on_nacked = target_nacked,
                                                     .on_reply = no_reply,
                                                     .on_deliver = source_deliver,
                                                     .on_cancel = no_cancel,
                                                     .on_gone = mover_gone,
                                                     .on_blocked = no_blocked};

static void mover_forget(struct mover *m)
{
    m->source = m->target = NULL;
    m->open = m->stale = false;
    vec_clear(&m->hands);
}

static void mover_close(struct mover *m)
{
    (void)host_at(m->sim, &m->site);
    queue_client_close(m->source);
    queue_client_close(m->target);
    mover_forget(m);
}

static bool has_dead_letters(const struct host *host, uint64_t id)
{
    const struct group *group = umap_get(&host->groups, id);
    return group != NULL && group->home != NULL && group->serving && !group->ended &&
           queue_dead_due(group->home->queue);
}

static void mover_open(struct mover *m)
{
    struct sim *sim = m->sim;
    const uint32_t graves = sim->ledger.queues[m->queue].graves - 1;
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t k = 0; is_awake(sim, i) && k < sim->options.shards; k++) {
            const struct site site = {i, k};
            const struct host *look = node_shard_host(sim->hosts[i].node, k);
            const struct catalog_queue *from = record_at(sim, look, m->queue);
            const struct catalog_queue *to = record_at(sim, look, graves);
            if (from == NULL || to == NULL || !has_dead_letters(look, from->id)) {
                continue;
            }
            struct host *host = host_at(sim, &site);
            m->site = site;
            m->open = true;
            m->times++;
            m->source = queue_client_open(host, from, &source_sink, m);
            m->target = queue_client_open(host, to, &target_sink, m);
            (void)queue_client_attach(m->source, 1, QUEUE_DEAD, MOVER_PREFETCH, UINT64_MAX, 0,
                                      BYTES_LITERAL("dead"), BYTES_NONE);
            return;
        }
    }
}

static void mover_tick(struct mover *m, struct prng *prng)
{
    struct sim *sim = m->sim;
    if (!m->open) {
        mover_open(m);
    } else if (is_awake(sim, m->site.node) &&
               (m->stale || (!sim->liveness && prng_ratio(prng, 1, 60)))) {
        mover_close(m); /* with what is under way */
    }
}

/* --- numberers
 * ------------------------------------------------------------ */

static void number_applied(void *ctx, uint64_t seq)
{
    struct numberer *n = ctx;
    size_t kept = 0;
    for (size_t i = 0; i < n->pending.count; i++) {
        const struct number item = n->pending.items[i];
        if (item.seq == 0 || item.seq > seq) {
            n->pending.items[kept++] = item;
            continue;
        }
        sim_ledger_confirm(n->sim, n->publisher, item.record, true);
        SIM_SOMETIMES(n->sim, item.delay_ms > 0, SIM_SEEN_DELAYED);
    }
    n->pending.count = kept;
}

static void number_nacked(void *ctx, uint64_t seq)
{
    struct numberer *n = ctx;
    for (size_t i = 0; i < n->pending.count; i++) {
        if (n->pending.items[i].seq == seq) {
            n->pending.items[i].seq = 0;
        }
    }
}

static void number_gone(void *ctx, bool lost)
{
    struct numberer *n = ctx;
    (void)lost;
    n->stale = true;
}

static void number_deliver(void *ctx, uint32_t consumer, uint64_t first_ordinal,
                           uint32_t delivery_count, uint8_t flags, const struct message *messages,
                           uint32_t count)
{
    (void)first_ordinal;
    (void)delivery_count;
    (void)flags;
    (void)messages;
    (void)count;
    const struct numberer *n = ctx;
    sim_fail(n->sim, "a publisher is delivered to, as consumer %u", consumer);
}

static const struct queue_client_sink number_sink = {.on_applied = number_applied,
                                                     .on_nacked = number_nacked,
                                                     .on_reply = no_reply,
                                                     .on_deliver = number_deliver,
                                                     .on_cancel = no_cancel,
                                                     .on_gone = number_gone,
                                                     .on_blocked = no_blocked};

static void send_number(struct numberer *n, struct number *item)
{
    struct sim *sim = n->sim;
    const struct sim_record *record = sim_ledger_record(sim, n->publisher, item->record);
    uint8_t props_bytes[64];
    const struct wire_props props = {.flags = WIRE_PROP_DELIVERY_MODE, .delivery_mode = 2};
    const struct message_parts parts = {
        .exchange = BYTES_LITERAL(""),
        .key = bytes_from_cstr(sim->ledger.queues[n->queue].name),
        .props =
            bytes_make(props_bytes, (size_t)(wire_props_write(props_bytes, &props) - props_bytes)),
        .ttl_ms = MESSAGE_TTL_NONE,
        .flags = MESSAGE_PERSISTENT};
    const struct queue_publish_more more = {.publisher = bytes_from_cstr(n->id),
                                            .publish_seq = item->record + 1,
                                            .delay_ms = item->delay_ms};
    const uint64_t size = message_record_size(&parts, record->size);
    struct buf *b = buf_new(size);
    uint8_t *body = message_write(b->data, &parts, record->size);
    sim_body_write(body, n->publisher, item->record, n->queue, record->size);
    b->size = (uint32_t)size;
    item->seq = queue_client_publish_more(n->client, (struct message){{b, 0, b->size}}, &more);
    buf_unref(b);
}

static void number_open(struct numberer *n)
{
    struct sim *sim = n->sim;
    const struct site before = n->site;
    const struct site site = {(uint32_t)prng_below(&n->prng, sim->node_count),
                              (uint32_t)prng_below(&n->prng, sim->options.shards)};
    if (!is_awake(sim, site.node)) {
        return;
    }
    n->site = site;
    const struct catalog_queue *record =
        record_at(sim, node_shard_host(sim->hosts[site.node].node, site.shard), n->queue);
    if (record == NULL) {
        return;
    }
    struct host *host = host_at(sim, &n->site);
    n->open = true;
    n->client = queue_client_open(host, record, &number_sink, n);
    for (size_t i = 0; i < n->pending.count; i++) {
        send_number(n, &n->pending.items[i]);
        SIM_SOMETIMES(sim, site.node != before.node, SIM_SEEN_NUMBER_AGAIN);
    }
}

static void publish_number(struct numberer *n)
{
    struct sim *sim = n->sim;
    const uint32_t size = SIM_BODY_MIN + (uint32_t)prng_below(&n->prng, 300);
    const uint32_t epoch = ++n->epoch; /* one each: they need not come in order */
    struct number item = {.record = sim_ledger_send(sim, n->publisher, n->queue, epoch, size)};
    if (prng_ratio(&n->prng, 1, 4)) {
        item.delay_ms = 1 + (uint32_t)prng_below(&n->prng, 3000);
    }
    sim_ledger_record(sim, n->publisher, item.record)->delay_ms = item.delay_ms;
    send_number(n, &item);
    vec_push(&n->pending, item);
}

static void number_tick(struct numberer *n)
{
    struct sim *sim = n->sim;
    if (!n->open) {
        number_open(n);
        return;
    }
    if (!is_awake(sim, n->site.node)) {
        return;
    }
    (void)host_at(sim, &n->site);
    if (n->stale || (!sim->liveness && prng_ratio(&n->prng, 1, 80))) {
        queue_client_close(n->client); /* what is under way may arrive, and comes again */
        n->open = n->stale = false;
        return;
    }
    for (size_t i = 0; i < n->pending.count; i++) {
        if (n->pending.items[i].seq == 0) {
            send_number(n, &n->pending.items[i]);
        }
    }
    for (uint64_t i = prng_below(&n->prng, 4);
         i > 0 && !sim->liveness && n->pending.count < PENDING_MAX; i--) {
        publish_number(n);
    }
}

/* --- all of them
 * ------------------------------------------------------------ */

static void on_tick(struct sim *sim, void *arg, uint64_t a, uint64_t b)
{
    struct sim_inner *inner = sim->inner;
    (void)arg;
    (void)a;
    (void)b;
    if (sim->ending) {
        return;
    }
    for (uint32_t i = 0; i < inner->mover_count; i++) {
        mover_tick(&inner->movers[i], &inner->prng);
    }
    for (uint32_t i = 0; i < inner->numberer_count; i++) {
        number_tick(&inner->numberers[i]);
    }
    sim_at(sim, sim->now + TICK_NS, on_tick, NULL, 0, 0);
}

static bool is_plain(const struct sim_queue *q)
{
    return q->kind != SIM_QUEUE_TRANSIENT && q->ttl_ms == 0 && q->length_max == 0 &&
           q->delivery_limit == 0;
}

static void add_numberer(struct sim *sim, uint32_t queue)
{
    struct sim_inner *inner = sim->inner;
    struct numberer *n = &inner->numberers[inner->numberer_count];
    n->sim = sim;
    n->prng = prng_fork_u64(&inner->prng, "numberer", inner->numberer_count);
    n->queue = queue;
    n->publisher = (uint32_t)sim->ledger.publishers.count;
    (void)vec_add(&sim->ledger.publishers);
    (void)snprintf(n->id, sizeof n->id, "numberer-%u", inner->numberer_count);
    inner->numberer_count++;
}

void sim_inner_init(struct sim *sim)
{
    struct sim_inner *inner = wr_calloc(1, sizeof *inner);
    sim->inner = inner;
    inner->prng = prng_fork(&sim->prng, "inner");
    for (uint32_t i = 0; i < sim->options.queues; i++) {
        if (sim->ledger.queues[i].graves > 0) {
            struct mover *m = &inner->movers[inner->mover_count++];
            m->sim = sim;
            m->queue = i;
        }
        if (is_plain(&sim->ledger.queues[i]) && inner->numberer_count < NUMBERERS_MAX &&
            prng_ratio(&inner->prng, 1, 2)) {
            add_numberer(sim, i);
        }
    }
    if (inner->mover_count + inner->numberer_count > 0) {
        sim_at(sim, sim->now + TICK_NS, on_tick, NULL, 0, 0);
    }
}

void sim_inner_deinit(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->inner->mover_count; i++) {
        vec_deinit(&sim->inner->movers[i].hands);
    }
    for (uint32_t i = 0; i < sim->inner->numberer_count; i++) {
        vec_deinit(&sim->inner->numberers[i].pending);
    }
    wr_free(sim->inner);
    sim->inner = NULL;
}

void sim_inner_node_gone(struct sim *sim, uint32_t node)
{
    for (uint32_t i = 0; i < sim->inner->mover_count; i++) {
        struct mover *m = &sim->inner->movers[i];
        if (m->open && m->site.node == node) {
            mover_forget(m);
        }
    }
    for (uint32_t i = 0; i < sim->inner->numberer_count; i++) {
        struct numberer *n = &sim->inner->numberers[i];
        if (n->open && n->site.node == node) {
            n->open = n->stale = false;
            n->client = NULL;
        }
    }
}

bool sim_inner_settled(struct sim *sim, char *why, size_t size)
{
    for (uint32_t i = 0; i < sim->inner->mover_count; i++) {
        const struct mover *m = &sim->inner->movers[i];
        if (m->hands.count > 0) {
            (void)snprintf(why, size, "%zu dead letters of %s are under way from node %u",
                           m->hands.count, sim->ledger.queues[m->queue].name, m->site.node);
            return false;
        }
    }
    for (uint32_t i = 0; i < sim->inner->numberer_count; i++) {
        const struct numberer *n = &sim->inner->numberers[i];
        if (n->pending.count > 0) {
            (void)snprintf(why, size, "%s at node %u waits for %zu confirms", n->id, n->site.node,
                           n->pending.count);
            return false;
        }
    }
    return true;
}
