/*
 * What: x-local-random: a random one of the bound queues that run on the node that routes. Where a
 * queue runs is in its own record and changes without the binding, so all bindings are looked at.
 * Failure modes: none local: nothing matched.
 * Threads: indexes are immutable; any may read. Spec: AMQP reference §7, "Plugin types".
 */
#include "internal.h"

static int local_validate_binding(const struct route_binding *binding, struct strbuf *text)
{
    if (binding->key.size > 0) {
        strbuf_add_cstr(text, "Non empty binding '");
        strbuf_add(text, binding->key.data, binding->key.size);
        strbuf_add_cstr(text, "' key not permitted");
        return WR_E_INVALID;
    }
    if (binding->queue == NULL) {
        strbuf_add_cstr(text, "Destination not found");
        return WR_E_INVALID;
    }
    if (binding->queue->spec.type != CATALOG_CLASSIC) {
        const bool quorum = binding->queue->spec.type == CATALOG_QUORUM;
        strbuf_printf(text, "Queue type %s not valid for this exchange type",
                      quorum ? "rabbit_quorum_queue" : "rabbit_stream_queue");
        return WR_E_INVALID;
    }
    return 0;
}

static bool is_local(const struct catalog_queue_spec *spec, struct uid node)
{
    if (spec->run == CATALOG_RUN_LOCAL) {
        return uid_eq(spec->local.node, node);
    }
    if (!uid_is_zero(spec->group.preferred)) {
        return uid_eq(spec->group.preferred, node);
    }
    for (uint32_t i = 0; i < spec->group.member_count; i++) {
        if (uid_eq(spec->group.members[i].node, node)) {
            return true;
        }
    }
    return false;
}

static struct pref *local_add(struct pref *index, struct catalog_binding *binding)
{
    return &targets_add((const struct target_set *)index, binding)->ref;
}

static struct pref *local_remove(struct pref *index, struct catalog_binding *binding)
{
    WR_ASSERT(index != NULL);
    struct target_set *after = targets_remove((const struct target_set *)index, binding);
    return after == NULL ? NULL : &after->ref;
}

static void local_route(const struct catalog_exchange *exchange, struct bytes key,
                        struct route_result *result)
{
    (void)key;
    const struct uid node = route__input(result)->node;
    struct route_scratch *s = result->scratch;
    if (uid_is_zero(node)) {
        return;
    }
    vec_clear(&s->candidates);
    targets_collect((const struct target_set *)exchange->index, &s->candidates);
    uint32_t count = 0;
    for (size_t i = 0; i < s->candidates.count; i++) {
        const struct catalog_binding *binding = s->candidates.items[i];
        if (binding->destination_kind == CATALOG_TO_QUEUE &&
            is_local(&route__queue(s, binding->destination_id)->spec, node)) {
            s->candidates.items[count++] = binding;
        }
    }
    if (count > 0) {
        const uint32_t at = route__below(route__random_for(result, exchange), count);
        route__emit(result, s->candidates.items[at]);
    }
}

const struct exchange_type route__local_random = {
    .name = "x-local-random",
    .by_key = false,
    .validate_binding = local_validate_binding,
    .add = local_add,
    .remove = local_remove,
    .route = local_route,
};
