/*
 * What: users and their permissions. The machine stores hashes; hashing and checking are the
 * proposer's.
 * Threads: the machine's. Spec: docs/catalog.md.
 */
#include "internal.h"

void catalog__create_user(struct catalog *c, const struct catalog_user_spec *spec)
{
    struct catalog_user *user = catalog__user_new(spec);
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
    if ((spec->parts & CATALOG_USER_PASSWORD) != 0 && spec->hashing != CATALOG_HASHING_SHA256) {
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
    struct catalog_user *after = catalog__user_new(&merged);
    after->permissions = before == NULL ? NULL : pmap_ref(before->permissions);
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
