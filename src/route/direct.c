/*
 * What: direct exchanges: routing key -> bindings with that key.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7.
 */
#include "keyed_targets.h"

static struct pref *direct_add(struct pref *index, struct catalog_binding *binding)
{
    return (struct pref *)keyed_targets_add((struct keymap *)index, binding->key, binding);
}

static struct pref *direct_remove(struct pref *index, struct catalog_binding *binding)
{
    return (struct pref *)keyed_targets_remove((struct keymap *)index, binding->key, binding);
}

static void direct_route(const struct catalog_exchange *exchange, struct bytes key,
                         struct route_result *result)
{
    keyed_targets_emit((const struct keymap *)exchange->index, key, result);
}

const struct exchange_type route__direct = {
    .name = "direct",
    .by_key = true,
    .add = direct_add,
    .remove = direct_remove,
    .route = direct_route,
};
