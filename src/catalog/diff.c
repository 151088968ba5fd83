/*
 * What: what differs between two views, at the cost of what differs (pmap_diff skips what both
 * share). Threads: whoever holds both views.
 */
#include "internal.h"

struct queue_diff {
    catalog_queue_diff_fn fn;
    void *ctx;
};

static void on_queue(void *ctx, struct bytes key, struct pref *before, struct pref *after)
{
    (void)key;
    const struct queue_diff *d = ctx;
    d->fn(d->ctx, (const struct catalog_queue *)before, (const struct catalog_queue *)after);
}

void catalog_diff_queues(const struct catalog_view *before, const struct catalog_view *after,
                         catalog_queue_diff_fn fn, void *ctx)
{
    struct queue_diff d = {fn, ctx};
    pmap_diff(before == NULL ? NULL : before->queues, after == NULL ? NULL : after->queues,
              on_queue, &d);
}

struct node_diff {
    catalog_node_diff_fn fn;
    void *ctx;
};

static bool same_outside(const struct catalog_node *a, const struct catalog_node *b)
{
    return a->boot == b->boot && a->running == b->running && uid_eq(a->start, b->start) &&
           uid_eq(a->info.member, b->info.member) && bytes_eq(a->info.name, b->info.name) &&
           bytes_eq(a->info.host, b->info.host) && a->info.cluster_port == b->info.cluster_port &&
           a->info.amqp_port == b->info.amqp_port && a->info.ram == b->info.ram;
}

static void on_node(void *ctx, struct bytes key, struct pref *before, struct pref *after)
{
    (void)key;
    const struct node_diff *d = ctx;
    const struct catalog_node *a = (const struct catalog_node *)before;
    const struct catalog_node *b = (const struct catalog_node *)after;
    if (a == NULL || b == NULL || !same_outside(a, b)) {
        d->fn(d->ctx, a, b);
    }
}

void catalog_diff_nodes(const struct catalog_view *before, const struct catalog_view *after,
                        catalog_node_diff_fn fn, void *ctx)
{
    struct node_diff d = {fn, ctx};
    pmap_diff(before == NULL ? NULL : before->nodes, after == NULL ? NULL : after->nodes, on_node,
              &d);
}
