/*
 * What: views: their life, and look-ups in them.
 * Ownership: a view owns references of its tables; what a look-up returns is borrowed.
 * Threads: counting from any thread; look-ups by whoever holds the view.
 */
#include "internal.h"

struct catalog_view *catalog_view_ref(struct catalog_view *view)
{
    atomic_fetch_add_explicit(&view->refs, 1, memory_order_relaxed);
    return view;
}

void catalog_view_unref(struct catalog_view *owned_view)
{
    struct catalog_view *v = owned_view;
    if (v == NULL || atomic_fetch_sub_explicit(&v->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    if (v->name != NULL) {
        pref_unref(&v->name->ref);
    }
    pmap_unref(v->nodes);
    pmap_unref(v->vhosts);
    pmap_unref(v->users);
    pmap_unref(v->queues);
    pmap_unref(v->destinations);
    pmap_unref(v->parameters);
    pmap_unref(v->seats);
    wr_free(v);
}

uint64_t catalog_view_index(const struct catalog_view *view)
{
    return view->index;
}

uint64_t catalog_view_serial(const struct catalog_view *view)
{
    return view->serial;
}

uint64_t catalog_access_serial(const struct catalog_view *view)
{
    return view->access_serial;
}

struct uid catalog_cluster_id(const struct catalog_view *view)
{
    return view->cluster;
}

struct bytes catalog_cluster_name(const struct catalog_view *view)
{
    return view->name == NULL ? BYTES_NONE : view->name->text;
}

struct catalog_key catalog__key_uid(struct uid id)
{
    struct catalog_key key = {.size = UID_SIZE};
    bytes_store_be64(key.data, id.hi);
    bytes_store_be64(key.data + 8, id.lo);
    return key;
}

struct catalog_key catalog__key_id(uint64_t id)
{
    struct catalog_key key = {.size = 8};
    bytes_store_be64(key.data, id);
    return key;
}

struct catalog_key catalog__key_destination(uint8_t kind, uint64_t id)
{
    struct catalog_key key = {.size = 9};
    key.data[0] = kind;
    bytes_store_be64(key.data + 1, id);
    return key;
}

struct catalog_key catalog__key_seat(uint32_t boot, uint64_t connection)
{
    struct catalog_key key = {.size = 12};
    bytes_store_be32(key.data, boot);
    bytes_store_be64(key.data + 4, connection);
    return key;
}

void catalog__key_pair(struct writer *w, struct bytes first, struct bytes second)
{
    writer_clear(w);
    put_be32(w, (uint32_t)first.size);
    put_view(w, first);
    put_view(w, second);
}

void catalog__binding_identity(struct writer *w, uint64_t source_id, uint8_t destination_kind,
                               uint64_t destination_id, struct bytes key, struct bytes arguments)
{
    writer_clear(w);
    put_be64(w, source_id);
    put_u8(w, destination_kind);
    put_be64(w, destination_id);
    put_varbytes(w, key);
    put_view(w, arguments);
}

const struct catalog_vhost *catalog_vhost(const struct catalog_view *view, struct bytes name)
{
    return (const struct catalog_vhost *)pmap_get(view->vhosts, name);
}

const struct catalog_exchange *catalog_vhost_exchange(const struct catalog_vhost *vhost,
                                                      struct bytes name)
{
    return (const struct catalog_exchange *)pmap_get(vhost->exchanges, name);
}

const struct catalog_queue *catalog_vhost_queue(const struct catalog_vhost *vhost,
                                                struct bytes name)
{
    return (const struct catalog_queue *)pmap_get(vhost->queues, name);
}

const struct catalog_queue *catalog_vhost_history(const struct catalog_vhost *vhost,
                                                  struct bytes exchange)
{
    return (const struct catalog_queue *)pmap_get(vhost->histories, exchange);
}

const struct catalog_exchange *catalog_exchange(const struct catalog_view *view, struct bytes vhost,
                                                struct bytes name)
{
    const struct catalog_vhost *v = catalog_vhost(view, vhost);
    return v == NULL ? NULL : catalog_vhost_exchange(v, name);
}

const struct catalog_queue *catalog_queue(const struct catalog_view *view, struct bytes vhost,
                                          struct bytes name)
{
    const struct catalog_vhost *v = catalog_vhost(view, vhost);
    return v == NULL ? NULL : catalog_vhost_queue(v, name);
}

const struct catalog_queue *catalog_queue_by_id(const struct catalog_view *view, uint64_t id)
{
    const struct catalog_key key = catalog__key_id(id);
    return (const struct catalog_queue *)pmap_get(view->queues, catalog__key_bytes(&key));
}

const struct catalog_user *catalog_user(const struct catalog_view *view, struct bytes name)
{
    return (const struct catalog_user *)pmap_get(view->users, name);
}

const struct catalog_permission *catalog_permission(const struct catalog_view *view,
                                                    struct bytes user, struct bytes vhost)
{
    const struct catalog_user *u = catalog_user(view, user);
    return u == NULL ? NULL : (const struct catalog_permission *)pmap_get(u->permissions, vhost);
}

static const struct pref *get_pair(const struct pmap *map, struct bytes first, struct bytes second)
{
    if (map == NULL) {
        return NULL;
    }
    struct writer w;
    writer_init(&w, 4 + first.size + second.size);
    catalog__key_pair(&w, first, second);
    const struct pref *found = pmap_get(map, writer_bytes(&w));
    writer_deinit(&w);
    return found;
}

const struct catalog_topic_permission *catalog_topic_permission(const struct catalog_view *view,
                                                                struct bytes user,
                                                                struct bytes vhost,
                                                                struct bytes exchange)
{
    const struct catalog_user *u = catalog_user(view, user);
    return u == NULL ? NULL
                     : (const struct catalog_topic_permission *)get_pair(u->topic_permissions,
                                                                         vhost, exchange);
}

const struct catalog_policy *catalog_policy(const struct catalog_view *view, struct bytes vhost,
                                            struct bytes name, bool operator_policy)
{
    const struct catalog_vhost *v = catalog_vhost(view, vhost);
    return v == NULL ? NULL
                     : (const struct catalog_policy *)pmap_get(
                           operator_policy ? v->operator_policies : v->policies, name);
}

const struct catalog_parameter *catalog_parameter(const struct catalog_view *view,
                                                  struct bytes vhost, struct bytes component,
                                                  struct bytes name)
{
    const struct catalog_vhost *v = vhost.size == 0 ? NULL : catalog_vhost(view, vhost);
    const struct pmap *map =
        vhost.size == 0 ? view->parameters : (v == NULL ? NULL : v->parameters);
    return (const struct catalog_parameter *)get_pair(map, component, name);
}

const struct catalog_seat *catalog_seat(const struct catalog_view *view, uint32_t boot,
                                        uint64_t connection)
{
    const struct catalog_key key = catalog__key_seat(boot, connection);
    return (const struct catalog_seat *)pmap_get(view->seats, catalog__key_bytes(&key));
}

const struct catalog_node *catalog_node(const struct catalog_view *view, struct uid id)
{
    const struct catalog_key key = catalog__key_uid(id);
    return (const struct catalog_node *)pmap_get(view->nodes, catalog__key_bytes(&key));
}

const struct catalog_node *catalog_node_by_name(const struct catalog_view *view, struct bytes name)
{
    struct pmap_iter it;
    for (bool more = pmap_first(&it, view->nodes); more; more = pmap_next(&it)) {
        const struct catalog_node *node = (const struct catalog_node *)it.value;
        if (bytes_eq(node->info.name, name)) {
            return node;
        }
    }
    return NULL;
}

const struct catalog_node *catalog_node_by_boot(const struct catalog_view *view, uint32_t boot)
{
    struct pmap_iter it;
    for (bool more = pmap_first(&it, view->nodes); more && boot != 0; more = pmap_next(&it)) {
        const struct catalog_node *node = (const struct catalog_node *)it.value;
        if (node->boot == boot) {
            return node;
        }
    }
    return NULL;
}

uint32_t catalog_boot_next(const struct catalog_view *view)
{
    return view->boot_next;
}

const struct catalog_binding *catalog_binding(const struct catalog_view *view,
                                              const struct catalog_binding_spec *spec)
{
    const struct catalog_vhost *vhost = catalog_vhost(view, spec->vhost);
    const struct catalog_exchange *source =
        vhost == NULL ? NULL : catalog_vhost_exchange(vhost, spec->source);
    uint64_t destination = 0;
    if (source != NULL && spec->destination_kind == CATALOG_TO_QUEUE) {
        const struct catalog_queue *q = catalog_vhost_queue(vhost, spec->destination);
        destination = q == NULL ? 0 : q->id;
    } else if (source != NULL) {
        const struct catalog_exchange *e = catalog_vhost_exchange(vhost, spec->destination);
        destination = e == NULL ? 0 : e->id;
    }
    if (destination == 0) {
        return NULL; /* Ids are never 0. */
    }
    struct writer w;
    writer_init(&w, 64 + spec->key.size + spec->arguments.size);
    catalog__binding_identity(&w, source->id, spec->destination_kind, destination, spec->key,
                              spec->arguments);
    const struct pref *found = pmap_get(source->bindings, writer_bytes(&w));
    writer_deinit(&w);
    return (const struct catalog_binding *)found;
}

const struct binding_set *catalog__bindings_to(const struct catalog_view *v, uint8_t kind,
                                               uint64_t id)
{
    const struct catalog_key key = catalog__key_destination(kind, id);
    return (const struct binding_set *)pmap_get(v->destinations, catalog__key_bytes(&key));
}

void catalog_count(const struct catalog_view *view, struct catalog_totals *ret_totals)
{
    *ret_totals = (struct catalog_totals){
        .nodes = pmap_count(view->nodes),
        .vhosts = pmap_count(view->vhosts),
        .users = pmap_count(view->users),
        .exchanges = view->exchange_count,
        .queues = pmap_count(view->queues),
        .bindings = view->binding_count,
        .parameters = pmap_count(view->parameters),
        .seats = pmap_count(view->seats),
    };
    struct pmap_iter it;
    for (bool more = pmap_first(&it, view->vhosts); more; more = pmap_next(&it)) {
        const struct catalog_vhost *vhost = (const struct catalog_vhost *)it.value;
        ret_totals->policies += pmap_count(vhost->policies) + pmap_count(vhost->operator_policies);
        ret_totals->parameters += pmap_count(vhost->parameters);
        ret_totals->histories += pmap_count(vhost->histories);
        ret_totals->queues -= pmap_count(vhost->histories);
    }
}

bool catalog_exchange_in_use(const struct catalog_exchange *exchange)
{
    return exchange->bindings != NULL;
}
