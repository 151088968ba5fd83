/*
 * What: changing the present view: copy on write of the set of tables, replacing objects in them,
 * and gathering upcalls.
 * Invariants: a view whose count is over one is never written (I2 of catalog.h). Only who holds a
 * reference can add one, so a count of one seen by the machine, which holds it, stays one.
 * Threads: the machine's.
 */
#include "internal.h"

struct catalog_view *catalog__view_new(uint64_t serial)
{
    struct catalog_view *v = wr_calloc(1, sizeof(*v));
    atomic_init(&v->refs, 1);
    v->serial = serial;
    v->boot_next = 1;
    return v;
}

struct catalog_view *catalog__edit(struct catalog *c)
{
    struct catalog_view *old = c->view;
    c->serial++;
    if (atomic_load_explicit(&old->refs, memory_order_acquire) == 1) {
        old->serial = c->serial;
        old->index = c->applied;
        return old;
    }
    struct catalog_view *v = catalog__view_new(c->serial);
    v->index = c->applied;
    v->access_serial = old->access_serial;
    v->cluster = old->cluster;
    v->name = old->name;
    if (v->name != NULL) {
        (void)pref_ref(&v->name->ref);
    }
    v->boot_next = old->boot_next;
    v->nodes = pmap_ref(old->nodes);
    v->vhosts = pmap_ref(old->vhosts);
    v->users = pmap_ref(old->users);
    v->queues = pmap_ref(old->queues);
    v->destinations = pmap_ref(old->destinations);
    v->parameters = pmap_ref(old->parameters);
    v->seats = pmap_ref(old->seats);
    v->exchange_count = old->exchange_count;
    v->binding_count = old->binding_count;
    c->view = v;
    catalog_view_unref(old);
    return v;
}

void catalog__event(struct catalog *c, enum event_kind kind, struct pref *before,
                    struct pref *after)
{
    c->access_changed |= kind == EVENT_USER_CHANGED || kind == EVENT_USER_REMOVED ||
                         kind == EVENT_VHOST_CREATED || kind == EVENT_VHOST_REMOVED;
    if (c->sink == NULL) {
        return;
    }
    vec_push(&c->events, (struct event){kind, before == NULL ? NULL : pref_ref(before),
                                        after == NULL ? NULL : pref_ref(after)});
}

/* One upcall, if the sink wants it. */
static void tell(const struct catalog_sink *s, void *ctx, const struct event *e)
{
    switch (e->kind) {
    case EVENT_QUEUE_CREATED:
        if (s->on_queue_created != NULL) {
            s->on_queue_created(ctx, (const struct catalog_queue *)e->after);
        }
        break;
    case EVENT_QUEUE_REMOVED:
        if (s->on_queue_removed != NULL) {
            s->on_queue_removed(ctx, (const struct catalog_queue *)e->before);
        }
        break;
    case EVENT_REPLICAS_CHANGED:
        if (s->on_replicas_changed != NULL) {
            s->on_replicas_changed(ctx, (const struct catalog_queue *)e->before,
                                   (const struct catalog_queue *)e->after);
        }
        break;
    case EVENT_QUEUE_POLICY_CHANGED:
        if (s->on_queue_policy_changed != NULL) {
            s->on_queue_policy_changed(ctx, (const struct catalog_queue *)e->before,
                                       (const struct catalog_queue *)e->after);
        }
        break;
    case EVENT_EXCHANGE_CREATED:
        if (s->on_exchange_created != NULL) {
            s->on_exchange_created(ctx, (const struct catalog_exchange *)e->after);
        }
        break;
    case EVENT_EXCHANGE_REMOVED:
        if (s->on_exchange_removed != NULL) {
            s->on_exchange_removed(ctx, (const struct catalog_exchange *)e->before);
        }
        break;
    case EVENT_NODE_CHANGED:
        if (s->on_node_changed != NULL) {
            s->on_node_changed(ctx, (const struct catalog_node *)e->before,
                               (const struct catalog_node *)e->after);
        }
        break;
    case EVENT_VHOST_CREATED:
        if (s->on_vhost_created != NULL) {
            s->on_vhost_created(ctx, (const struct catalog_vhost *)e->after);
        }
        break;
    case EVENT_VHOST_REMOVED:
        if (s->on_vhost_removed != NULL) {
            s->on_vhost_removed(ctx, (const struct catalog_vhost *)e->before);
        }
        break;
    case EVENT_USER_CHANGED:
        if (s->on_user_changed != NULL) {
            s->on_user_changed(ctx, (const struct catalog_user *)e->after);
        }
        break;
    case EVENT_USER_REMOVED:
        if (s->on_user_removed != NULL) {
            s->on_user_removed(ctx, (const struct catalog_user *)e->before);
        }
        break;
    }
}

void catalog__events_tell(struct catalog *c)
{
    for (size_t i = 0; i < c->events.count; i++) {
        const struct event e = c->events.items[i];
        tell(c->sink, c->sink_ctx, &e);
        pref_unref(e.before);
        pref_unref(e.after);
    }
    vec_clear(&c->events);
}

void catalog__put_node(struct catalog_view *v, struct catalog_node *owned_node)
{
    const struct catalog_key key = catalog__key_uid(owned_node->info.id);
    pmap_set_in(&v->nodes, catalog__key_bytes(&key), &owned_node->ref);
    pref_unref(&owned_node->ref);
}

void catalog__put_vhost(struct catalog_view *v, struct catalog_vhost *owned_vhost)
{
    pmap_set_in(&v->vhosts, owned_vhost->name, &owned_vhost->ref);
    pref_unref(&owned_vhost->ref);
}

void catalog__put_user(struct catalog_view *v, struct catalog_user *owned_user)
{
    pmap_set_in(&v->users, owned_user->name, &owned_user->ref);
    pref_unref(&owned_user->ref);
}

/* A copy of the vhost, to be changed and put back. It exists: its objects do. */
static struct catalog_vhost *open_vhost(const struct catalog_view *v, struct bytes name)
{
    const struct catalog_vhost *vhost = catalog_vhost(v, name);
    WR_ASSERT(vhost != NULL);
    return catalog__vhost_copy(vhost);
}

void catalog__put_exchange(struct catalog_view *v, struct catalog_exchange *owned_exchange)
{
    struct catalog_vhost *vhost = open_vhost(v, owned_exchange->vhost);
    const size_t before = pmap_count(vhost->exchanges);
    pmap_set_in(&vhost->exchanges, owned_exchange->name, &owned_exchange->ref);
    v->exchange_count += pmap_count(vhost->exchanges) - before;
    catalog__put_vhost(v, vhost);
    pref_unref(&owned_exchange->ref);
}

void catalog__drop_exchange(struct catalog_view *v, const struct catalog_exchange *exchange)
{
    struct catalog_vhost *vhost = open_vhost(v, exchange->vhost);
    pmap_remove_in(&vhost->exchanges, exchange->name);
    v->exchange_count--;
    catalog__put_vhost(v, vhost);
}

void catalog__count_load(struct catalog_view *v, const struct catalog_queue *queue, int sign)
{
    const struct catalog_queue_spec *spec = &queue->spec;
    const bool local = spec->run == CATALOG_RUN_LOCAL;
    const uint32_t count = local ? 1 : spec->group.member_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct uid id = local ? spec->local.node : spec->group.members[i].node;
        const struct catalog_node *node = catalog_node(v, id);
        if (node == NULL) {
            continue; /* It is being forgotten. */
        }
        struct catalog_node *copy = catalog__node_copy(node);
        if (local) {
            copy->local_count += (uint32_t)sign;
        } else {
            copy->replica_count += (uint32_t)sign;
            copy->leader_count += uid_eq(id, spec->group.preferred) ? (uint32_t)sign : 0;
        }
        catalog__put_node(v, copy);
    }
}

struct pmap **catalog__queue_table(struct catalog_vhost *vhost, uint8_t type)
{
    return type == CATALOG_HISTORY ? &vhost->histories : &vhost->queues;
}

void catalog__put_queue(struct catalog_view *v, struct catalog_queue *owned_queue)
{
    const struct catalog_key key = catalog__key_id(owned_queue->id);
    const struct catalog_queue *before = catalog_queue_by_id(v, owned_queue->id);
    if (before != NULL) {
        catalog__count_load(v, before, -1);
    }
    catalog__count_load(v, owned_queue, 1);
    struct catalog_vhost *vhost = open_vhost(v, owned_queue->spec.vhost);
    pmap_set_in(catalog__queue_table(vhost, owned_queue->spec.type), owned_queue->spec.name,
                &owned_queue->ref);
    catalog__put_vhost(v, vhost);
    pmap_set_in(&v->queues, catalog__key_bytes(&key), &owned_queue->ref);
    pref_unref(&owned_queue->ref);
}

void catalog__drop_queue(struct catalog_view *v, const struct catalog_queue *queue)
{
    const struct catalog_key key = catalog__key_id(queue->id);
    catalog__count_load(v, queue, -1);
    struct catalog_vhost *vhost = open_vhost(v, queue->spec.vhost);
    pmap_remove_in(catalog__queue_table(vhost, queue->spec.type), queue->spec.name);
    catalog__put_vhost(v, vhost);
    pmap_remove_in(&v->queues, catalog__key_bytes(&key));
}
