/*
 * What: direct exchanges: routing key -> bindings with that key.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7.
 */
#include "internal.h"
#include "keymap.h"

struct direct_key {
    struct keyed keyed;
    struct targets targets;
    uint8_t key[];
};

static void key_free(struct pref *owned_ref)
{
    struct direct_key *entry = (struct direct_key *)owned_ref;
    targets_drop(&entry->targets);
    wr_free(entry);
}

static struct direct_key *key_new(struct bytes key, struct targets owned_targets)
{
    struct direct_key *entry = wr_alloc(sizeof(*entry) + key.size);
    pref_init(&entry->keyed.ref, key_free);
    entry->keyed.key_offset = offsetof(struct direct_key, key);
    entry->keyed.key_size = (uint16_t)key.size;
    entry->targets = owned_targets;
    if (key.size > 0) {
        memcpy(entry->key, key.data, key.size);
    }
    return entry;
}

static const struct direct_key *direct_find(const struct pref *index, uint64_t hash,
                                            struct bytes key)
{
    return (const struct direct_key *)keymap_get((const struct keymap *)index, hash, key);
}

/* The index with these targets for the key. */
static struct pref *direct_set(struct pref *index, uint64_t hash, struct bytes key,
                               struct targets owned_targets)
{
    struct direct_key *entry = key_new(key, owned_targets);
    struct keymap *after = keymap_set((struct keymap *)index, hash, &entry->keyed);
    pref_unref(&entry->keyed.ref);
    return (struct pref *)after;
}

static struct pref *direct_add(struct pref *index, struct catalog_binding *binding)
{
    const uint64_t hash = keymap_hash(binding->key);
    const struct direct_key *before = direct_find(index, hash, binding->key);
    struct targets targets = {0};
    if (before != NULL) {
        targets = targets_copy(&before->targets);
    }
    targets_put(&targets, binding);
    return direct_set(index, hash, binding->key, targets);
}

static struct pref *direct_remove(struct pref *index, struct catalog_binding *binding)
{
    const uint64_t hash = keymap_hash(binding->key);
    const struct direct_key *before = direct_find(index, hash, binding->key);
    WR_ASSERT(before != NULL);
    struct targets targets = targets_copy(&before->targets);
    targets_take(&targets, binding);
    if (targets_empty(&targets)) {
        return (struct pref *)keymap_remove((struct keymap *)index, hash, binding->key);
    }
    return direct_set(index, hash, binding->key, targets);
}

static void direct_route(const struct catalog_exchange *exchange, struct bytes key,
                         struct route_result *result)
{
    const struct direct_key *found = direct_find(exchange->index, keymap_hash(key), key);
    if (found != NULL) {
        targets_emit_each(&found->targets, result);
    }
}

const struct exchange_type route__direct = {
    .name = "direct",
    .by_key = true,
    .add = direct_add,
    .remove = direct_remove,
    .route = direct_route,
};
