/*
 * What: vhosts: with their predeclared exchanges, and the end of all that is in one.
 * Threads: the machine's. Spec: docs/catalog.md; AMQP reference §7 (predeclared exchanges).
 */
#include "internal.h"

struct predeclared {
    const char *name;
    const char *type;
    bool internal;
};

/* The order gives their ids: frozen. */
static const struct predeclared predeclared[] = {
    {"", "direct", false},
    {"amq.direct", "direct", false},
    {"amq.topic", "topic", false},
    {"amq.match", "headers", false},
    {"amq.headers", "headers", false},
    {"amq.fanout", "fanout", false},
    {"amq.rabbitmq.trace", "topic", true},
};

static_assert(sizeof(predeclared) / sizeof(predeclared[0]) < 16, "four bits of an exchange's id");

void catalog__create_vhost(struct catalog *c, uint64_t id, const struct catalog_vhost_spec *spec)
{
    struct catalog_view *v = catalog__edit(c);
    struct catalog_vhost *vhost = catalog__vhost_new(id, spec);
    for (size_t i = 0; i < sizeof(predeclared) / sizeof(predeclared[0]); i++) {
        const struct catalog_exchange_spec x = {
            .vhost = spec->name,
            .name = bytes_from_cstr(predeclared[i].name),
            .type = bytes_from_cstr(predeclared[i].type),
            .durable = true,
            .internal = predeclared[i].internal,
        };
        struct catalog_exchange *e = catalog__exchange_new(id << 4 | (i + 1), id, &x);
        e->predeclared = true;
        catalog__find_router(c, e);
        pmap_set_in(&vhost->exchanges, e->name, &e->ref);
        v->exchange_count++;
        pref_unref(&e->ref);
    }
    catalog__event(c, EVENT_VHOST_CREATED, NULL, &vhost->ref);
    catalog__put_vhost(v, vhost);
}

int catalog__apply_put_vhost(struct catalog *c, uint64_t index,
                             const struct catalog_vhost_spec *spec, uint64_t *ret_id)
{
    const struct catalog_vhost *before = catalog_vhost(c->view, spec->name);
    if (before == NULL) {
        catalog__create_vhost(c, index, spec);
        *ret_id = index;
        return CATALOG_OK;
    }
    *ret_id = before->id;
    if (spec->create) {
        return CATALOG_EXISTS;
    }
    struct catalog_vhost *after = catalog__vhost_with(before, spec);
    catalog__put_vhost(catalog__edit(c), after);
    return CATALOG_OK;
}

int catalog__apply_change_vhost(struct catalog *c, const struct catalog_command *command,
                                uint64_t *ret_id)
{
    const struct catalog_vhost *before = catalog_vhost(c->view, command->u.change_vhost.spec.name);
    if (before == NULL) {
        return CATALOG_NO_VHOST;
    }
    const uint8_t parts = command->u.change_vhost.parts;
    struct catalog_vhost_spec spec = catalog__vhost_spec(before);
    if ((parts & CATALOG_VHOST_DESCRIPTION) != 0) {
        spec.description = command->u.change_vhost.spec.description;
    }
    if ((parts & CATALOG_VHOST_TAGS) != 0) {
        spec.tags = command->u.change_vhost.spec.tags;
    }
    if ((parts & CATALOG_VHOST_QUEUE_TYPE) != 0) {
        spec.default_queue_type = command->u.change_vhost.spec.default_queue_type;
    }
    *ret_id = before->id;
    struct catalog_vhost *after = catalog__vhost_with(before, &spec);
    catalog__put_vhost(catalog__edit(c), after);
    return CATALOG_OK;
}

static void drop_destination(struct catalog_view *v, uint8_t kind, uint64_t id)
{
    const struct catalog_key key = catalog__key_destination(kind, id);
    pmap_remove_in(&v->destinations, catalog__key_bytes(&key));
}

static void remove_queues(struct catalog *c, struct catalog_view *v, const struct pmap *queues)
{
    struct pmap_iter it;
    for (bool more = pmap_first(&it, queues); more; more = pmap_next(&it)) {
        const struct catalog_queue *q = (const struct catalog_queue *)it.value;
        const struct catalog_key key = catalog__key_id(q->id);
        catalog__count_load(v, q, -1);
        pmap_remove_in(&v->queues, catalog__key_bytes(&key));
        drop_destination(v, CATALOG_TO_QUEUE, q->id);
        catalog__event(c, EVENT_QUEUE_REMOVED, it.value, NULL);
    }
}

static void remove_content(struct catalog *c, struct catalog_view *v,
                           const struct catalog_vhost *vhost)
{
    struct pmap_iter it;
    remove_queues(c, v, vhost->queues);
    remove_queues(c, v, vhost->histories);
    for (bool more = pmap_first(&it, vhost->exchanges); more; more = pmap_next(&it)) {
        const struct catalog_exchange *e = (const struct catalog_exchange *)it.value;
        drop_destination(v, CATALOG_TO_EXCHANGE, e->id);
        v->binding_count -= pmap_count(e->bindings);
        v->exchange_count--;
        catalog__event(c, EVENT_EXCHANGE_REMOVED, it.value, NULL);
    }
}

static void remove_permissions(struct catalog *c, struct catalog_view *v, struct bytes vhost)
{
    struct pmap *users = pmap_ref(v->users);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, users); more; more = pmap_next(&it)) {
        const struct catalog_user *user = (const struct catalog_user *)it.value;
        if (pmap_get(user->permissions, vhost) != NULL ||
            catalog__has_topic_permissions(user, vhost)) {
            struct catalog_user *after = catalog__user_copy(user);
            pmap_remove_in(&after->permissions, vhost);
            catalog__clear_topic_permissions(after, vhost);
            catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
            catalog__put_user(v, after);
        }
    }
    pmap_unref(users);
}

int catalog__apply_delete_vhost(struct catalog *c, struct bytes name, uint64_t *ret_id)
{
    const struct catalog_vhost *found = catalog_vhost(c->view, name);
    if (found == NULL) {
        return CATALOG_NOT_FOUND;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_vhost *vhost = (struct catalog_vhost *)(uintptr_t)found;
    (void)pref_ref(&vhost->ref);
    *ret_id = vhost->id;
    pmap_remove_in(&v->vhosts, name);
    remove_content(c, v, vhost);
    remove_permissions(c, v, name);
    catalog__drop_seats(c, 0, &name, NULL, false);
    catalog__event(c, EVENT_VHOST_REMOVED, &vhost->ref, NULL);
    pref_unref(&vhost->ref);
    return CATALOG_OK;
}
