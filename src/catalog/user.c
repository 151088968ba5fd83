/*
 * What: users and their permissions. The machine stores hashes; hashing and checking are the
 * proposer's.
 * Threads: the machine's. Spec: docs/catalog.md.
 */
#include "internal.h"

void catalog__create_user(struct catalog *c, const struct catalog_user_spec *spec)
{
    struct catalog_user *user = catalog__user_new(spec);
    user->created = c->applied;
    catalog__event(c, EVENT_USER_CHANGED, NULL, &user->ref);
    catalog__put_user(catalog__edit(c), user);
}

int catalog__apply_put_user(struct catalog *c, const struct catalog_user_spec *spec)
{
    if (spec->name.size == 0) {
        return CATALOG_INVALID;
    }
    const struct catalog_user *before = catalog_user(c->view, spec->name);
    const bool may_create = (spec->parts & (CATALOG_USER_CREATE | CATALOG_USER_UPSERT)) != 0;
    if (before == NULL && !may_create) {
        return CATALOG_NO_USER;
    }
    if (before != NULL && (spec->parts & CATALOG_USER_CREATE) != 0) {
        return CATALOG_EXISTS;
    }
    if ((spec->parts & CATALOG_USER_PASSWORD) != 0 && spec->hashing == 0) {
        return CATALOG_INVALID;
    }
    struct catalog_user_spec merged = *spec;
    if ((spec->parts & CATALOG_USER_PASSWORD) == 0) {
        merged.password_hash = before == NULL ? BYTES_NONE : before->password_hash;
        merged.hashing = before == NULL ? CATALOG_HASHING_SHA256 : before->hashing;
    }
    if ((spec->parts & CATALOG_USER_TAGS) == 0) {
        merged.tags = before == NULL ? (struct catalog_tags){0, NULL} : before->tags;
    }
    struct catalog_user *after =
        before == NULL ? catalog__user_new(&merged) : catalog__user_with(before, &merged);
    after->created = before == NULL ? c->applied : before->created;
    catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
    catalog__put_user(catalog__edit(c), after);
    return CATALOG_OK;
}

int catalog__apply_delete_user(struct catalog *c, struct bytes name)
{
    const struct catalog_user *user = catalog_user(c->view, name);
    if (user == NULL) {
        return CATALOG_NOT_FOUND;
    }
    struct catalog_view *v = catalog__edit(c);
    catalog__event(c, EVENT_USER_REMOVED, (struct pref *)(uintptr_t)user, NULL);
    pmap_remove_in(&v->users, name);
    catalog__drop_seats(c, 0, NULL, &name, false);
    return CATALOG_OK;
}

void catalog__grant(struct catalog *c, const struct catalog_user *user,
                    struct catalog_permission *owned_permission)
{
    struct catalog_view *v = catalog__edit(c);
    struct catalog_user *after = catalog__user_copy(user);
    pmap_set_in(&after->permissions, owned_permission->vhost, &owned_permission->ref);
    pref_unref(&owned_permission->ref);
    catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
    catalog__put_user(v, after);
}

int catalog__apply_permission(struct catalog *c, const struct catalog_command *command)
{
    const struct catalog_user *user = catalog_user(c->view, command->u.permission.user);
    if (user == NULL) {
        return CATALOG_NO_USER;
    }
    const struct bytes vhost = command->u.permission.vhost;
    if (catalog_vhost(c->view, vhost) == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (command->kind == CATALOG_SET_PERMISSION) {
        catalog__grant(c, user,
                       catalog__permission_new(user->name, vhost, command->u.permission.configure,
                                               command->u.permission.write,
                                               command->u.permission.read));
        return CATALOG_OK;
    }
    if (pmap_get(user->permissions, vhost) == NULL) {
        return CATALOG_NOT_FOUND;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_user *after = catalog__user_copy(user);
    pmap_remove_in(&after->permissions, vhost);
    catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
    catalog__put_user(v, after);
    return CATALOG_OK;
}

/* --- topic permissions ------------------------------------------------------------------------ */

bool catalog__has_topic_permissions(const struct catalog_user *user, struct bytes vhost)
{
    struct pmap_iter it;
    for (bool more = pmap_first(&it, user->topic_permissions); more; more = pmap_next(&it)) {
        if (bytes_eq(((const struct catalog_topic_permission *)it.value)->vhost, vhost)) {
            return true;
        }
    }
    return false;
}

void catalog__clear_topic_permissions(struct catalog_user *user, struct bytes vhost)
{
    struct pmap *all = pmap_ref(user->topic_permissions);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, all); more; more = pmap_next(&it)) {
        if (bytes_eq(((const struct catalog_topic_permission *)it.value)->vhost, vhost)) {
            pmap_remove_in(&user->topic_permissions, it.key);
        }
    }
    pmap_unref(all);
}

static int clear_topics(struct catalog *c, const struct catalog_user *user, struct bytes vhost,
                        struct bytes exchange)
{
    if (exchange.size == 0
            ? !catalog__has_topic_permissions(user, vhost)
            : catalog_topic_permission(c->view, user->name, vhost, exchange) == NULL) {
        return CATALOG_NOT_FOUND;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_user *after = catalog__user_copy(user);
    if (exchange.size == 0) {
        catalog__clear_topic_permissions(after, vhost);
    } else {
        struct writer w;
        writer_init(&w, 4 + vhost.size + exchange.size);
        catalog__key_pair(&w, vhost, exchange);
        pmap_remove_in(&after->topic_permissions, writer_bytes(&w));
        writer_deinit(&w);
    }
    catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
    catalog__put_user(v, after);
    return CATALOG_OK;
}

void catalog__add_topic_permission(struct catalog_user *user,
                                   struct catalog_topic_permission *owned_permission)
{
    struct writer w;
    writer_init(&w, 4 + owned_permission->vhost.size + owned_permission->exchange.size);
    catalog__key_pair(&w, owned_permission->vhost, owned_permission->exchange);
    pmap_set_in(&user->topic_permissions, writer_bytes(&w), &owned_permission->ref);
    writer_deinit(&w);
    pref_unref(&owned_permission->ref);
}

int catalog__apply_topic_permission(struct catalog *c, const struct catalog_command *command)
{
    const struct catalog_user *user = catalog_user(c->view, command->u.topic_permission.user);
    if (user == NULL) {
        return CATALOG_NO_USER;
    }
    const struct bytes vhost = command->u.topic_permission.vhost;
    const struct bytes exchange = command->u.topic_permission.exchange;
    if (catalog_vhost(c->view, vhost) == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (command->kind == CATALOG_CLEAR_TOPIC_PERMISSION) {
        return clear_topics(c, user, vhost, exchange);
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_user *after = catalog__user_copy(user);
    catalog__add_topic_permission(after,
                                  catalog__topic_permission_new(user->name, vhost, exchange,
                                                                command->u.topic_permission.write,
                                                                command->u.topic_permission.read));
    catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
    catalog__put_user(v, after);
    return CATALOG_OK;
}
