/*
 * What: when a change of the catalog is known everywhere. Whoever changed something hears of it
 * when all nodes in reach, and all their shards, have the view with it: a client may go on through
 * any other node at once, and finds what it made there, as it does with RabbitMQ.
 *
 * Happy path: applied here -> VIEW_ASK to the nodes that have not told of that index -> their shard
 * 0 has applied it, their other shards answer VIEW_PASS (which comes behind the view in their
 * mailbox) with VIEW_PASSED -> VIEW_AT -> done. One question and one answer serve all that waits.
 * Failure modes: a node is out of reach, or becomes so: nobody waits for it. A parcel is lost, or a
 * node does not answer: SPREAD_MS, then the outcome is told all the same; it was true before.
 *
 * Invariants: S1 what a node says it has, all its shards have. S2 no question is under way to a
 * node that is known to have it. Threads: shard 0; PASS on the others. Spec: docs/catalog.md,
 * "Answered when known".
 */
#include "host_internal.h"
#include "parcel.h"

static struct spread *spread_of(struct host *host)
{
    if (host->spread == NULL) {
        host->spread = wr_calloc(1, sizeof *host->spread);
        host->spread->passed = wr_calloc(host->options.shard_count, sizeof *host->spread->passed);
    }
    return host->spread;
}

void spread_free(struct host *host)
{
    if (host->spread != NULL) {
        wr_free(host->spread->passed);
        wr_free(host->spread);
    }
}

/* What all shards of this node have. */
static uint64_t here(struct host *host)
{
    const struct spread *s = spread_of(host);
    uint64_t least = s->applied;
    for (uint32_t i = 1; i < host->options.shard_count; i++) {
        least = s->passed[i] < least ? s->passed[i] : least;
    }
    return least;
}

static void send(struct host *host, uint8_t kind, struct uid node, uint32_t shard, uint64_t index)
{
    struct parcel *parcel = parcel_make(host, kind, 1, HOST_CATALOG_GROUP, node, shard);
    numbers_pack(parcel, &index, 1, SLICE_NONE);
    parcel_send(host, parcel);
}

static void pass_on(struct host *host)
{
    struct spread *s = spread_of(host);
    if (s->wanted <= here(host) || s->passing >= s->applied) {
        return;
    }
    s->passing = s->applied;
    for (uint32_t i = 1; i < host->options.shard_count; i++) {
        send(host, PARCEL_VIEW_PASS, host->options.node_id, i, s->applied);
    }
}

static void tell(struct host *host)
{
    const uint64_t index = here(host);
    for (size_t i = 0; i < host->nodes.count; i++) {
        struct node_state *n = &host->nodes.items[i];
        if (n->view_wants > n->view_told && index > n->view_told) {
            n->view_told = index;
            send(host, PARCEL_VIEW_AT, n->node, 0, index);
        }
    }
}

void spread_applied(struct host *host, uint64_t index)
{
    struct spread *s = spread_of(host);
    s->applied = index;
    pass_on(host);
    tell(host);
}

void spread_wants(struct host *host, uint64_t index)
{
    struct spread *s = spread_of(host);
    s->wanted = index > s->wanted ? index : s->wanted;
    pass_on(host);
    for (size_t i = 0; i < host->nodes.count; i++) {
        struct node_state *n = &host->nodes.items[i];
        if (n->reach == NODE_UP && n->view_at < index && n->view_asked < index) {
            n->view_asked = index;
            send(host, PARCEL_VIEW_ASK, n->node, 0, index);
        }
    }
}

bool spread_reached(struct host *host, uint64_t index)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const struct catalog_view *view = catalog_view_peek(host->catalog);
    const uint32_t count = catalog_nodes(view, nodes);
    for (uint32_t i = 0; i < count; i++) {
        const struct node_state *n = node_state_of(host, nodes[i]->info.id);
        if (nodes[i]->running && n != NULL && n->reach == NODE_UP && n->view_at < index) {
            return false;
        }
    }
    return here(host) >= index;
}

/* What was asked or told over the link before may be lost. */
void spread_node_changed(struct host *host, struct uid node)
{
    struct node_state *n = node_state_of(host, node);
    if (n != NULL) {
        n->view_asked = n->view_wants = n->view_told = 0;
    }
    host->catalog_answers = true; /* nobody waits for one that is out of reach */
    host_mark_now(host);
}

void spread_on_parcel(struct host *host, struct parcel *parcel)
{
    uint64_t index;
    struct slice raw;
    const int error = numbers_unpack(parcel, &index, 1, &raw);
    const bool own = host_is_self(host, parcel->from_node);
    if (error != 0) {
        parcel_refused(host, parcel, "a word on views", error);
        return;
    }
    if (parcel->kind == PARCEL_VIEW_PASS) {
        if (own) {
            send(host, PARCEL_VIEW_PASSED, host->options.node_id, 0, index);
        }
        return;
    }
    if (host->options.shard != 0) {
        return;
    }
    struct spread *s = spread_of(host);
    struct node_state *n = node_state_of(host, parcel->from_node);
    if (parcel->kind == PARCEL_VIEW_PASSED) {
        if (own && parcel->from_shard < host->options.shard_count &&
            index > s->passed[parcel->from_shard]) {
            s->passed[parcel->from_shard] = index;
            host->catalog_answers = true;
            tell(host);
        }
    } else if (parcel->kind == PARCEL_VIEW_ASK && n != NULL) {
        n->view_wants = index > n->view_wants ? index : n->view_wants;
        if (here(host) >= index) {
            n->view_told = here(host);
            send(host, PARCEL_VIEW_AT, n->node, 0, n->view_told);
        } else {
            s->wanted = index > s->wanted ? index : s->wanted;
            pass_on(host);
        }
    } else if (parcel->kind == PARCEL_VIEW_AT && n != NULL && index > n->view_at) {
        n->view_at = index;
        host->catalog_answers = true;
    }
    host_mark_now(host);
}
