/*
 * What: exchanges: declare, delete, and the end of auto-delete exchanges whose last binding as a
 * source has gone (which may empty others in turn: a worklist, not recursion, because clients
 * choose how long the chain is). Threads: the machine's. Spec: AMQP reference §7.
 */
#include "internal.h"

void catalog__find_router(const struct catalog *c, struct catalog_exchange *exchange)
{
    exchange->router =
        c->ops == NULL ? NULL : c->ops->find_type(exchange->type, exchange->arguments);
}

int catalog__apply_declare_exchange(struct catalog *c, uint64_t index,
                                    const struct catalog_exchange_spec *spec, uint64_t *ret_id)
{
    const struct catalog_vhost *vhost = catalog_vhost(c->view, spec->vhost);
    if (vhost == NULL) {
        return CATALOG_NO_VHOST;
    }
    const struct catalog_exchange *existing = catalog_vhost_exchange(vhost, spec->name);
    if (existing != NULL) {
        *ret_id = existing->id;
        return CATALOG_EXISTS;
    }
    *ret_id = index << 4;
    struct catalog_exchange *e = catalog__exchange_new(*ret_id, vhost->id, spec);
    catalog__find_router(c, e);
    catalog__match_exchange(vhost, e);
    catalog__event(c, EVENT_EXCHANGE_CREATED, NULL, &e->ref);
    catalog__put_exchange(catalog__edit(c), e);
    return CATALOG_OK;
}

void catalog__remove_exchange(struct catalog *c, const struct catalog_exchange *exchange,
                              struct exchange_vec *emptied)
{
    struct catalog_exchange *held = (struct catalog_exchange *)(uintptr_t)exchange;
    (void)pref_ref(&held->ref);
    const struct catalog_queue *history =
        catalog_vhost_history(catalog_vhost(c->view, held->vhost), held->name);
    if (history != NULL) { /* Nothing is bound to it: this ends no other exchange. */
        catalog__remove_queue(c, history);
    }
    catalog__unbind_destination(c, CATALOG_TO_EXCHANGE, held->id, emptied);
    struct catalog_view *v = catalog__edit(c);
    /* A binding of the exchange to itself has gone with that. */
    const struct catalog_exchange *now = catalog_exchange(v, held->vhost, held->name);
    WR_ASSERT(now != NULL && now->id == held->id);
    struct catalog_exchange *last = (struct catalog_exchange *)(uintptr_t)now;
    (void)pref_ref(&last->ref);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, last->bindings); more; more = pmap_next(&it)) {
        catalog__unlink_destination(v, (const struct catalog_binding *)it.value);
        v->binding_count--;
    }
    catalog__drop_exchange(v, last);
    catalog__event(c, EVENT_EXCHANGE_REMOVED, &last->ref, NULL);
    pref_unref(&last->ref);
    pref_unref(&held->ref);
}

void catalog__collect_exchanges(struct catalog *c, struct exchange_vec *emptied)
{
    while (emptied->count > 0) {
        struct catalog_exchange *e = vec_pop(emptied);
        const struct catalog_exchange *now = catalog_exchange(c->view, e->vhost, e->name);
        if (now != NULL && now->id == e->id && now->auto_delete && now->bindings == NULL) {
            catalog__remove_exchange(c, now, emptied);
        }
        pref_unref(&e->ref);
    }
    vec_deinit(emptied);
}

int catalog__apply_delete_exchange(struct catalog *c, const struct catalog_command *command,
                                   uint64_t *ret_id)
{
    const struct catalog_vhost *vhost = catalog_vhost(c->view, command->u.delete_exchange.vhost);
    if (vhost == NULL) {
        return CATALOG_NO_VHOST;
    }
    const struct catalog_exchange *e =
        catalog_vhost_exchange(vhost, command->u.delete_exchange.name);
    if (e == NULL) {
        return CATALOG_NOT_FOUND;
    }
    if (e->predeclared) {
        return CATALOG_REFUSED;
    }
    *ret_id = e->id;
    if (command->u.delete_exchange.if_unused && catalog_exchange_in_use(e)) {
        return CATALOG_IN_USE;
    }
    struct exchange_vec emptied = {0};
    catalog__remove_exchange(c, e, &emptied);
    catalog__collect_exchanges(c, &emptied);
    return CATALOG_OK;
}
