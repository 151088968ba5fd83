/*
 * What: queue clients inside nodes, for what AMQP does not reach: they call the host of a shard as
 * its broker does, and die with its process.
 *
 * A *numberer* publishes with numbers of its own, some of them delayed, and
 * sends all that is not confirmed again, from another node, when its client is gone.
 *
 * The checks are the ledger's: nothing that is confirmed is missing, no number comes twice without
 * the redelivered flag, nothing comes before it is due.
 */
#include <string.h>

#include "sim.h"

#include "node/node_internal.h"
#include "replica/host_internal.h"
#include "sim_client.h"
#include "sim_durable.h"

#define TICK_NS       (50 * SIM_MS)
#define NUMBERERS_MAX 2u
#define PENDING_MAX   20u

struct site { /* a shard of a process; forgotten with it (sim_inner_node_gone) */
    uint32_t node, shard;
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
                                                     .on_deliver = number_deliver,
                                                     .on_gone = number_gone};

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
        if (is_plain(&sim->ledger.queues[i]) && inner->numberer_count < NUMBERERS_MAX &&
            prng_ratio(&inner->prng, 1, 2)) {
            add_numberer(sim, i);
        }
    }
    if (inner->numberer_count > 0) {
        sim_at(sim, sim->now + TICK_NS, on_tick, NULL, 0, 0);
    }
}

void sim_inner_deinit(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->inner->numberer_count; i++) {
        vec_deinit(&sim->inner->numberers[i].pending);
    }
    wr_free(sim->inner);
    sim->inner = NULL;
}

void sim_inner_node_gone(struct sim *sim, uint32_t node)
{
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
