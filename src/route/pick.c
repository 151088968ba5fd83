/*
 * What: exchanges that pick one of their bindings whatever its key is: x-modulus-hash by a hash of
 * all the routing keys together, x-random by chance.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7, "Plugin types".
 */
#include "shares.h"

static struct pref *pick_add(struct pref *index, struct catalog_binding *binding)
{
    return shares_add(index, binding, 1);
}

static struct pref *pick_remove(struct pref *index, struct catalog_binding *binding)
{
    return shares_remove(index, binding);
}

static void modulus_route(const struct catalog_exchange *exchange, struct bytes key,
                          struct route_result *result)
{
    (void)key;
    const uint64_t rank = route__digest_keys(result) % shares_count(exchange->index);
    route__emit(result, shares_at(exchange->index, (uint32_t)rank));
}

static void random_route(const struct catalog_exchange *exchange, struct bytes key,
                         struct route_result *result)
{
    (void)key;
    const uint32_t rank =
        route__below(route__random_for(result, exchange), shares_count(exchange->index));
    route__emit(result, shares_at(exchange->index, rank));
}

const struct exchange_type route__modulus_hash = {
    .name = "x-modulus-hash",
    .by_key = false,
    .add = pick_add,
    .remove = pick_remove,
    .route = modulus_route,
};

const struct exchange_type route__random = {
    .name = "x-random",
    .by_key = false,
    .add = pick_add,
    .remove = pick_remove,
    .route = random_route,
};
