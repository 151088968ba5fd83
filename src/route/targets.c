/*
 * What: persistent sets of bindings, by id: a sorted array while small, a map above.
 * Invariants: immutable once made; array or map by the count alone.
 * Ownership: a set holds a reference of each binding.
 * Threads: any may read and drop; made by the catalog's.
 */
#include "internal.h"

struct target_key {
    uint8_t data[8];
};

static struct target_key key_of(const struct catalog_binding *binding)
{
    struct target_key key;
    bytes_store_be64(key.data, binding->id);
    return key;
}

static void targets_free(struct pref *owned_ref)
{
    struct target_set *set = (struct target_set *)owned_ref;
    if (set->map != NULL) {
        pmap_unref(set->map);
    } else {
        for (uint32_t i = 0; i < set->count; i++) {
            pref_unref(&set->items[i].binding->ref);
        }
    }
    wr_free(set);
}

static struct target_set *targets_new(uint32_t count, uint32_t inline_count)
{
    struct target_set *set = wr_alloc(sizeof(*set) + inline_count * sizeof(struct target));
    pref_init(&set->ref, targets_free);
    set->count = count;
    set->map = NULL;
    return set;
}

static struct target_set *from_map(struct pmap *owned_map)
{
    struct target_set *set = targets_new((uint32_t)pmap_count(owned_map), 0);
    set->map = owned_map;
    return set;
}

static struct target target_of(struct catalog_binding *binding)
{
    const bool to_queue = binding->destination_kind == CATALOG_TO_QUEUE;
    return (struct target){to_queue ? binding->destination_id : 0, binding};
}

/* Puts a binding into items [0, count), keeping the order by id. */
static void insert_sorted(struct target_set *set, uint32_t count, struct catalog_binding *binding)
{
    uint32_t at = count;
    for (; at > 0 && set->items[at - 1].binding->id > binding->id; at--) {
        set->items[at] = set->items[at - 1];
    }
    (void)pref_ref(&binding->ref);
    set->items[at] = target_of(binding);
}

struct target_set *targets_add(const struct target_set *set, struct catalog_binding *binding)
{
    const uint32_t count = set == NULL ? 0 : set->count;
    const struct target_key key = key_of(binding);
    if (count > TARGETS_INLINE_MAX) {
        return from_map(pmap_set(set->map, bytes_make(key.data, 8), &binding->ref));
    }
    if (count == TARGETS_INLINE_MAX) {
        struct pmap *map = NULL;
        for (uint32_t i = 0; i < count; i++) {
            const struct target_key each = key_of(set->items[i].binding);
            pmap_set_in(&map, bytes_make(each.data, 8), &set->items[i].binding->ref);
        }
        pmap_set_in(&map, bytes_make(key.data, 8), &binding->ref);
        return from_map(map);
    }
    struct target_set *after = targets_new(count + 1, count + 1);
    for (uint32_t i = 0; i < count; i++) {
        (void)pref_ref(&set->items[i].binding->ref);
        after->items[i] = set->items[i];
    }
    insert_sorted(after, count, binding);
    return after;
}

struct target_set *targets_remove(const struct target_set *set,
                                  const struct catalog_binding *binding)
{
    if (set->count == 1) {
        return NULL;
    }
    const struct target_key key = key_of(binding);
    if (set->map == NULL) {
        struct target_set *after = targets_new(set->count - 1, set->count - 1);
        uint32_t to = 0;
        for (uint32_t i = 0; i < set->count; i++) {
            if (set->items[i].binding->id != binding->id) {
                (void)pref_ref(&set->items[i].binding->ref);
                after->items[to++] = set->items[i];
            }
        }
        WR_ASSERT_OP(to, ==, after->count);
        return after;
    }
    struct pmap *map = pmap_remove(set->map, bytes_make(key.data, 8));
    if (pmap_count(map) > TARGETS_INLINE_MAX) {
        return from_map(map);
    }
    struct target_set *after = targets_new(TARGETS_INLINE_MAX, TARGETS_INLINE_MAX);
    uint32_t count = 0;
    struct pmap_iter it;
    for (bool more = pmap_first(&it, map); more; more = pmap_next(&it)) {
        insert_sorted(after, count++, (struct catalog_binding *)it.value);
    }
    WR_ASSERT_OP(count, ==, after->count);
    pmap_unref(map);
    return after;
}

void targets_emit(const struct target_set *set, struct route_result *result)
{
    if (set->map == NULL) {
        for (uint32_t i = 0; i < set->count; i++) {
            if (set->items[i].queue_id != 0) {
                route__emit_to(result, set->items[i].queue_id);
            } else {
                route__emit(result, set->items[i].binding);
            }
        }
        return;
    }
    struct pmap_iter it;
    for (bool more = pmap_first(&it, set->map); more; more = pmap_next(&it)) {
        route__emit(result, (const struct catalog_binding *)it.value);
    }
}

void targets_collect(const struct target_set *set, struct binding_vec *out)
{
    if (set->map == NULL) {
        for (uint32_t i = 0; i < set->count; i++) {
            vec_push(out, set->items[i].binding);
        }
        return;
    }
    struct pmap_iter it;
    for (bool more = pmap_first(&it, set->map); more; more = pmap_next(&it)) {
        vec_push(out, (const struct catalog_binding *)it.value);
    }
}

/* --- as a value ------------------------------------------------------------------------------- */

void targets_put(struct targets *targets, struct catalog_binding *binding)
{
    if (targets_empty(targets)) {
        (void)pref_ref(&binding->ref);
        *targets = (struct targets){target_of(binding).queue_id, &binding->ref};
        return;
    }
    struct target_set *set = NULL;
    if (targets->queue_id == TARGETS_MANY) {
        set = targets_add((const struct target_set *)targets->object, binding);
    } else {
        struct target_set *one = targets_add(NULL, (struct catalog_binding *)targets->object);
        set = targets_add(one, binding);
        pref_unref(&one->ref);
    }
    pref_unref(targets->object);
    *targets = (struct targets){TARGETS_MANY, &set->ref};
}

void targets_take(struct targets *targets, const struct catalog_binding *binding)
{
    WR_ASSERT(!targets_empty(targets));
    struct pref *before = targets->object;
    if (targets->queue_id != TARGETS_MANY) {
        WR_ASSERT_OP(((const struct catalog_binding *)before)->id, ==, binding->id);
        *targets = (struct targets){0};
    } else {
        struct target_set *set = targets_remove((const struct target_set *)before, binding);
        WR_ASSERT(set != NULL); /* Of one it is no set. */
        *targets = (struct targets){TARGETS_MANY, &set->ref};
        if (set->count == 1) {
            const struct target last = set->items[0];
            *targets = (struct targets){last.queue_id, pref_ref(&last.binding->ref)};
            pref_unref(&set->ref);
        }
    }
    pref_unref(before);
}

struct targets targets_copy(const struct targets *targets)
{
    if (!targets_empty(targets)) {
        (void)pref_ref(targets->object);
    }
    return *targets;
}

void targets_drop(struct targets *owned_targets)
{
    pref_unref(owned_targets->object);
}
