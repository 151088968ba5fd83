/*
 * What: bytes -> bindings: a keymap whose values are sets of bindings.
 * Threads: immutable; any may read and drop.
 */
#include "keyed_targets.h"

static void entry_free(struct pref *owned_ref)
{
    struct keyed_targets *entry = (struct keyed_targets *)owned_ref;
    targets_drop(&entry->targets);
    wr_free(entry);
}

static struct keyed_targets *entry_new(struct bytes key, struct targets owned_targets)
{
    WR_ASSERT_OP(key.size, <=, UINT16_MAX);
    struct keyed_targets *entry = wr_calloc(1, sizeof(*entry) + key.size);
    pref_init(&entry->keyed.ref, entry_free);
    entry->keyed.key_offset = offsetof(struct keyed_targets, key);
    entry->keyed.key_size = (uint16_t)key.size;
    entry->targets = owned_targets;
    if (key.size > 0) {
        memcpy(entry->key, key.data, key.size);
    }
    return entry;
}

/* The map with these targets for the key. */
static struct keymap *set(struct keymap *map, uint64_t hash, struct bytes key,
                          struct targets owned_targets)
{
    struct keyed_targets *entry = entry_new(key, owned_targets);
    struct keymap *after = keymap_set(map, hash, &entry->keyed);
    pref_unref(&entry->keyed.ref);
    return after;
}

struct keymap *keyed_targets_add(struct keymap *map, struct bytes key,
                                 struct catalog_binding *binding)
{
    const uint64_t hash = keymap_hash(key);
    const struct keyed_targets *before = (const struct keyed_targets *)keymap_get(map, hash, key);
    struct targets targets = {0};
    if (before != NULL) {
        targets = targets_copy(&before->targets);
    }
    targets_put(&targets, binding);
    return set(map, hash, key, targets);
}

struct keymap *keyed_targets_remove(struct keymap *map, struct bytes key,
                                    const struct catalog_binding *binding)
{
    const uint64_t hash = keymap_hash(key);
    const struct keyed_targets *before = (const struct keyed_targets *)keymap_get(map, hash, key);
    WR_ASSERT(before != NULL);
    struct targets targets = targets_copy(&before->targets);
    targets_take(&targets, binding);
    return targets_empty(&targets) ? keymap_remove(map, hash, key) : set(map, hash, key, targets);
}

void keyed_targets_emit(const struct keymap *map, struct bytes key, struct route_result *result)
{
    const struct keyed_targets *found =
        (const struct keyed_targets *)keymap_get(map, keymap_hash(key), key);
    if (found != NULL) {
        targets_emit_each(&found->targets, result);
    }
}
