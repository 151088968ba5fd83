/*
 * What: fanout exchanges: one set of bindings; keys and headers do not matter.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7.
 */
#include "internal.h"

static struct pref *fanout_add(struct pref *index, struct catalog_binding *binding)
{
    return &targets_add((const struct target_set *)index, binding)->ref;
}

static struct pref *fanout_remove(struct pref *index, struct catalog_binding *binding)
{
    WR_ASSERT(index != NULL);
    struct target_set *after = targets_remove((const struct target_set *)index, binding);
    return after == NULL ? NULL : &after->ref;
}

static void fanout_route(const struct catalog_exchange *exchange, struct bytes key,
                         struct route_result *result)
{
    (void)key;
    targets_emit((const struct target_set *)exchange->index, result);
}

const struct exchange_type route__fanout = {
    .name = "fanout",
    .by_key = false,
    .add = fanout_add,
    .remove = fanout_remove,
    .route = fanout_route,
};
