/*
 * What: direct exchanges: routing key -> set of bindings.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7.
 */
#include "internal.h"

struct direct_index {
    struct pref ref;
    struct pmap *keys; /* routing key -> struct target_set */
};

static void direct_free(struct pref *owned_ref)
{
    struct direct_index *index = (struct direct_index *)owned_ref;
    pmap_unref(index->keys);
    wr_free(index);
}

static struct pref *direct_new(struct pmap *owned_keys)
{
    if (owned_keys == NULL) {
        return NULL;
    }
    struct direct_index *index = wr_alloc(sizeof(*index));
    pref_init(&index->ref, direct_free);
    index->keys = owned_keys;
    return &index->ref;
}

static const struct target_set *direct_find(const struct pref *index, struct bytes key)
{
    const struct pmap *keys = index == NULL ? NULL : ((const struct direct_index *)index)->keys;
    return keys == NULL ? NULL : (const struct target_set *)pmap_get(keys, key);
}

static struct pref *direct_add(struct pref *index, struct catalog_binding *binding)
{
    struct pmap *keys = index == NULL ? NULL : ((struct direct_index *)index)->keys;
    struct target_set *after = targets_add(direct_find(index, binding->key), binding);
    struct pmap *changed = pmap_set(keys, binding->key, &after->ref);
    pref_unref(&after->ref);
    return direct_new(changed);
}

static struct pref *direct_remove(struct pref *index, struct catalog_binding *binding)
{
    const struct target_set *before = direct_find(index, binding->key);
    WR_ASSERT(before != NULL);
    struct pmap *keys = ((struct direct_index *)index)->keys;
    struct target_set *after = targets_remove(before, binding);
    if (after == NULL) {
        return direct_new(pmap_remove(keys, binding->key));
    }
    struct pmap *changed = pmap_set(keys, binding->key, &after->ref);
    pref_unref(&after->ref);
    return direct_new(changed);
}

static void direct_route(const struct catalog_exchange *exchange, struct bytes key,
                         struct route_result *result)
{
    const struct target_set *targets = direct_find(exchange->index, key);
    if (targets != NULL) {
        targets_emit(targets, result);
    }
}

const struct exchange_type route__direct = {
    .name = "direct",
    .by_key = true,
    .add = direct_add,
    .remove = direct_remove,
    .route = direct_route,
};
