/*
 * What: bindings. Each is in two tables: its source exchange's (with the router's index over it)
 * and its destination's set, so that either end can be removed at the cost of its own bindings.
 * Invariants: I4 of catalog.h: a binding goes with either of its ends.
 * Threads: the machine's. Spec: AMQP reference §7, §8.
 */
#include "internal.h"

void catalog__link_destination(struct catalog_view *v, struct catalog_binding *binding)
{
    const struct catalog_key key =
        catalog__key_destination(binding->destination_kind, binding->destination_id);
    const struct binding_set *before =
        catalog__bindings_to(v, binding->destination_kind, binding->destination_id);
    const struct catalog_key id = catalog__key_id(binding->id);
    struct pmap *bindings =
        pmap_set(before == NULL ? NULL : before->bindings, catalog__key_bytes(&id), &binding->ref);
    struct binding_set *after = catalog__binding_set_new(bindings);
    pmap_unref(bindings);
    pmap_set_in(&v->destinations, catalog__key_bytes(&key), &after->ref);
    pref_unref(&after->ref);
}

void catalog__unlink_destination(struct catalog_view *v, const struct catalog_binding *binding)
{
    const struct catalog_key key =
        catalog__key_destination(binding->destination_kind, binding->destination_id);
    const struct binding_set *before =
        catalog__bindings_to(v, binding->destination_kind, binding->destination_id);
    WR_ASSERT(before != NULL);
    const struct catalog_key id = catalog__key_id(binding->id);
    struct pmap *bindings = pmap_remove(before->bindings, catalog__key_bytes(&id));
    if (bindings == NULL) {
        pmap_remove_in(&v->destinations, catalog__key_bytes(&key));
        return;
    }
    struct binding_set *after = catalog__binding_set_new(bindings);
    pmap_unref(bindings);
    pmap_set_in(&v->destinations, catalog__key_bytes(&key), &after->ref);
    pref_unref(&after->ref);
}

void catalog__exchange_add(const struct catalog *c, struct catalog_exchange *exchange,
                           struct bytes identity, struct catalog_binding *binding)
{
    pmap_set_in(&exchange->bindings, identity, &binding->ref);
    if (exchange->router != NULL) {
        struct pref *index = c->ops->add(exchange->router, exchange->index, binding);
        pref_unref(exchange->index);
        exchange->index = index;
    }
}

static void exchange_remove(const struct catalog *c, struct catalog_exchange *exchange,
                            struct bytes identity, struct catalog_binding *binding)
{
    if (exchange->router != NULL) {
        struct pref *index = c->ops->remove(exchange->router, exchange->index, binding);
        pref_unref(exchange->index);
        exchange->index = index;
    }
    pmap_remove_in(&exchange->bindings, identity);
}

/* Takes the binding off its source. Says whether the source may have to go for that. */
static void unbind_source(struct catalog *c, struct catalog_view *v,
                          struct catalog_binding *binding, struct exchange_vec *emptied)
{
    const struct catalog_exchange *source = catalog_exchange(v, binding->vhost, binding->source);
    WR_ASSERT(source != NULL && source->id == binding->source_id);
    struct writer w;
    writer_init(&w, 64 + binding->key.size + binding->arguments.size);
    catalog__binding_identity(&w, source->id, binding->destination_kind, binding->destination_id,
                              binding->key, binding->arguments);
    struct catalog_exchange *after = catalog__exchange_copy(source);
    exchange_remove(c, after, writer_bytes(&w), binding);
    writer_deinit(&w);
    v->binding_count--;
    if (after->bindings == NULL && after->auto_delete) {
        (void)pref_ref(&after->ref);
        vec_push(emptied, after);
    }
    catalog__put_exchange(v, after);
}

void catalog__unbind_destination(struct catalog *c, uint8_t kind, uint64_t id,
                                 struct exchange_vec *emptied)
{
    const struct binding_set *set = catalog__bindings_to(c->view, kind, id);
    if (set == NULL) {
        return;
    }
    struct catalog_view *v = catalog__edit(c);
    struct pmap *bindings = pmap_ref(set->bindings);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, bindings); more; more = pmap_next(&it)) {
        unbind_source(c, v, (struct catalog_binding *)it.value, emptied);
    }
    pmap_unref(bindings);
    const struct catalog_key key = catalog__key_destination(kind, id);
    pmap_remove_in(&v->destinations, catalog__key_bytes(&key));
}

int catalog__find_ends(const struct catalog_view *v, const struct catalog_binding_spec *spec,
                       const struct catalog_exchange **ret_source, uint64_t *ret_destination_id,
                       bool *ret_durable)
{
    const struct catalog_vhost *vhost = catalog_vhost(v, spec->vhost);
    if (vhost == NULL) {
        return CATALOG_NO_VHOST;
    }
    const bool to_exchange = spec->destination_kind == CATALOG_TO_EXCHANGE;
    if (spec->source.size == 0 || (to_exchange && spec->destination.size == 0)) {
        return CATALOG_REFUSED; /* The default exchange. */
    }
    const struct catalog_exchange *source = catalog_vhost_exchange(vhost, spec->source);
    if (source == NULL) {
        return CATALOG_NO_EXCHANGE;
    }
    if (to_exchange) {
        const struct catalog_exchange *e = catalog_vhost_exchange(vhost, spec->destination);
        if (e == NULL) {
            return CATALOG_NO_EXCHANGE;
        }
        *ret_destination_id = e->id;
        *ret_durable = source->durable && e->durable;
    } else {
        const struct catalog_queue *q = catalog_vhost_queue(vhost, spec->destination);
        if (q == NULL) {
            return CATALOG_NO_QUEUE;
        }
        *ret_destination_id = q->id;
        *ret_durable = source->durable && q->spec.durable;
    }
    *ret_source = source;
    return CATALOG_OK;
}

int catalog__apply_bind(struct catalog *c, uint64_t index, const struct catalog_binding_spec *spec,
                        uint64_t *ret_id)
{
    const struct catalog_exchange *source = NULL;
    uint64_t destination_id = 0;
    bool durable = false;
    const int status = catalog__find_ends(c->view, spec, &source, &destination_id, &durable);
    if (status != CATALOG_OK) {
        return status;
    }
    struct writer w;
    writer_init(&w, 64 + spec->key.size + spec->arguments.size);
    catalog__binding_identity(&w, source->id, spec->destination_kind, destination_id, spec->key,
                              spec->arguments);
    const struct catalog_binding *existing =
        (const struct catalog_binding *)pmap_get(source->bindings, writer_bytes(&w));
    if (existing != NULL) {
        *ret_id = existing->id;
        writer_deinit(&w);
        return CATALOG_EXISTS;
    }
    *ret_id = index;
    struct catalog_view *v = catalog__edit(c);
    struct catalog_binding *b =
        catalog__binding_new(index, spec, source->id, destination_id, durable);
    struct catalog_exchange *after = catalog__exchange_copy(source);
    catalog__exchange_add(c, after, writer_bytes(&w), b);
    writer_deinit(&w);
    catalog__put_exchange(v, after);
    catalog__link_destination(v, b);
    v->binding_count++;
    pref_unref(&b->ref);
    return CATALOG_OK;
}

int catalog__apply_unbind(struct catalog *c, const struct catalog_binding_spec *spec,
                          uint64_t *ret_id)
{
    const struct catalog_binding *found = catalog_binding(c->view, spec);
    if (found == NULL) {
        return CATALOG_NOT_FOUND;
    }
    struct catalog_binding *b = (struct catalog_binding *)(uintptr_t)found;
    (void)pref_ref(&b->ref);
    *ret_id = b->id;
    struct exchange_vec emptied = {0};
    struct catalog_view *v = catalog__edit(c);
    catalog__unlink_destination(v, b);
    unbind_source(c, v, b, &emptied);
    pref_unref(&b->ref);
    catalog__collect_exchanges(c, &emptied);
    return CATALOG_OK;
}
