/*
 * What: when a change of the catalog is known everywhere. Whoever changed something hears of it
 * when all nodes in reach, and all their shards, have the view with it: a client may go on through
 * any other node at once, and finds what it made there, as it does with RabbitMQ.
 *
 * Happy path: applied here, the view is in the mailboxes of the other shards -> VIEW_ASK to the
 * nodes that have not told of that index -> their shard 0 has applied it and posted it likewise ->
 * VIEW_AT -> done. One question and one answer serve all that waits. Nobody waits for the shards:
 * no bytes of a client overtake what is in a mailbox (env.h, I6).
 * Failure modes: a node is out of reach, or becomes so: nobody waits for it. A parcel is lost, or a
 * node does not answer: SPREAD_MS, then the outcome is told all the same; it was true before.
 *
 * Invariants: S1 what a node says it has, was posted to all its shards. S2 no question is under way
 * to a node that is known to have it. Threads: shard 0. Spec: docs/catalog.md, "Answered when
 * known".
 */
#include "host_internal.h"
#include "parcel.h"

static void send(struct host *host, uint8_t kind, struct uid node, uint64_t index)
{
    struct parcel *parcel = parcel_make(host, kind, 1, HOST_CATALOG_GROUP, node, 0);
    numbers_pack(parcel, &index, 1, SLICE_NONE);
    parcel_send(host, parcel);
}

static void tell(struct host *host)
{
    const uint64_t index = host->catalog_posted;
    for (size_t i = 0; i < host->nodes.count; i++) {
        struct node_state *n = &host->nodes.items[i];
        if (n->view_wants > n->view_told && index > n->view_told) {
            n->view_told = index;
            send(host, PARCEL_VIEW_AT, n->node, index);
        }
    }
}

void spread_posted(struct host *host, uint64_t index)
{
    host->catalog_posted = index;
    tell(host);
}

void spread_wants(struct host *host, uint64_t index)
{
    for (size_t i = 0; i < host->nodes.count; i++) {
        struct node_state *n = &host->nodes.items[i];
        if (n->reach == NODE_UP && n->view_at < index && n->view_asked < index) {
            n->view_asked = index;
            send(host, PARCEL_VIEW_ASK, n->node, index);
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
    return host->catalog_posted >= index;
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
    struct node_state *n = node_state_of(host, parcel->from_node);
    const int error = numbers_unpack(parcel, &index, 1, &raw);
    if (error != 0) {
        parcel_refused(host, parcel, "a word on views", error);
        return;
    }
    if (host->options.shard != 0 || n == NULL) {
        return;
    }
    if (parcel->kind == PARCEL_VIEW_ASK) {
        n->view_wants = index > n->view_wants ? index : n->view_wants;
        if (host->catalog_posted >= index) {
            n->view_told = host->catalog_posted;
            send(host, PARCEL_VIEW_AT, n->node, n->view_told);
        }
    } else if (parcel->kind == PARCEL_VIEW_AT && index > n->view_at) {
        n->view_at = index;
        host->catalog_answers = true;
    }
    host_mark_now(host);
}
