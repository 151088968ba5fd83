/*
 * What: limits of vhosts and users, and the seats by which open connections and channels are
 * counted against them: one record per connection, but only while something counts it.
 * Invariants: every seat is in the boot of a running node, its vhost and user exist, and a limit
 * counts it; the counts in vhosts and users are those of their seats (catalog_check).
 * Threads: the machine's. Spec: docs/access.md, "Limits".
 */
#include "internal.h"

int catalog__apply_vhost_limits(struct catalog *c, const struct catalog_command *command)
{
    const struct bytes name = command->u.vhost_limits.vhost;
    const struct catalog_vhost *before = catalog_vhost(c->view, name);
    if (before == NULL) {
        return CATALOG_NO_VHOST;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_vhost *after = catalog__vhost_copy(before);
    after->limits = command->u.vhost_limits.limits;
    c->access_changed = true;
    catalog__put_vhost(v, after);
    catalog__drop_seats(c, 0, &name, NULL, true);
    return CATALOG_OK;
}

int catalog__apply_user_limits(struct catalog *c, const struct catalog_command *command)
{
    const struct bytes name = command->u.user_limits.user;
    const struct catalog_user *before = catalog_user(c->view, name);
    if (before == NULL) {
        return CATALOG_NO_USER;
    }
    struct catalog_view *v = catalog__edit(c);
    struct catalog_user *after = catalog__user_copy(before);
    after->limits = command->u.user_limits.limits;
    catalog__event(c, EVENT_USER_CHANGED, NULL, &after->ref);
    catalog__put_user(v, after);
    catalog__drop_seats(c, 0, NULL, &name, true);
    return CATALOG_OK;
}

/* --- seats ------------------------------------------------------------------------------------ */

bool catalog__seat_wanted(const struct catalog_view *v, struct bytes vhost_name, struct bytes name)
{
    const struct catalog_vhost *vhost = catalog_vhost(v, vhost_name);
    const struct catalog_user *user = catalog_user(v, name);
    return vhost != NULL && user != NULL &&
           (vhost->limits.connections_max >= 0 || user->limits.connections_max >= 0 ||
            user->limits.channels_max >= 0);
}

/* Adds the seat to (sign 1), or takes it off (-1), what its vhost and its user count. */
static void count_seat(struct catalog_view *v, const struct catalog_seat *seat, int sign)
{
    const struct catalog_vhost *vhost = catalog_vhost(v, seat->vhost);
    const struct catalog_user *user = catalog_user(v, seat->user);
    if (vhost != NULL) {
        struct catalog_vhost *after = catalog__vhost_copy(vhost);
        after->connection_count += (uint32_t)sign;
        catalog__put_vhost(v, after);
    }
    if (user != NULL) {
        struct catalog_user *after = catalog__user_copy(user);
        after->connection_count += (uint32_t)sign;
        after->channel_count += (uint32_t)sign * seat->channels;
        catalog__put_user(v, after);
    }
}

void catalog__put_seat(struct catalog_view *v, struct catalog_seat *owned_seat)
{
    const struct catalog_key key = catalog__key_seat(owned_seat->boot, owned_seat->connection);
    const struct catalog_seat *before = catalog_seat(v, owned_seat->boot, owned_seat->connection);
    if (before != NULL) {
        count_seat(v, before, -1);
    }
    count_seat(v, owned_seat, 1);
    pmap_set_in(&v->seats, catalog__key_bytes(&key), &owned_seat->ref);
    pref_unref(&owned_seat->ref);
}

static void drop_seat(struct catalog_view *v, const struct catalog_seat *seat)
{
    const struct catalog_key key = catalog__key_seat(seat->boot, seat->connection);
    count_seat(v, seat, -1);
    pmap_remove_in(&v->seats, catalog__key_bytes(&key));
}

void catalog__drop_seats(struct catalog *c, uint32_t boot, const struct bytes *vhost,
                         const struct bytes *user, bool unwanted_only)
{
    if (c->view->seats == NULL) {
        return;
    }
    struct catalog_view *v = catalog__edit(c);
    struct pmap *seats = pmap_ref(v->seats);
    struct pmap_iter it;
    for (bool more = pmap_first(&it, seats); more; more = pmap_next(&it)) {
        const struct catalog_seat *seat = (const struct catalog_seat *)it.value;
        if ((boot == 0 || seat->boot == boot) && (vhost == NULL || bytes_eq(*vhost, seat->vhost)) &&
            (user == NULL || bytes_eq(*user, seat->user)) &&
            !(unwanted_only && catalog__seat_wanted(v, seat->vhost, seat->user))) {
            drop_seat(v, seat);
        }
    }
    pmap_unref(seats);
}

/* Which limit forbids it: what result.id says; 0: none. */
enum { BY_VHOST = 1, BY_USER = 2, BY_CHANNELS = 3 };

static bool reached(int64_t max, uint64_t count)
{
    return max >= 0 && count >= (uint64_t)max;
}

static int seat_refused(const struct catalog_view *v, const struct catalog_seat *before,
                        struct bytes vhost_name, struct bytes name, uint32_t channels)
{
    const struct catalog_vhost *vhost = catalog_vhost(v, vhost_name);
    const struct catalog_user *user = catalog_user(v, name);
    if (before == NULL && reached(vhost->limits.connections_max, vhost->connection_count)) {
        return BY_VHOST;
    }
    if (before == NULL && reached(user->limits.connections_max, user->connection_count)) {
        return BY_USER;
    }
    const uint32_t has = before == NULL ? 0 : before->channels;
    if (channels > has && user->limits.channels_max >= 0 &&
        (uint64_t)user->channel_count + (channels - has) > (uint64_t)user->limits.channels_max) {
        return BY_CHANNELS;
    }
    return 0;
}

int catalog__apply_put_seat(struct catalog *c, const struct catalog_command *command,
                            uint64_t *ret_id)
{
    const uint32_t boot = command->u.seat.boot;
    const uint64_t connection = command->u.seat.connection;
    const struct bytes vhost = command->u.seat.vhost;
    const struct bytes user = command->u.seat.user;
    const struct catalog_node *node = catalog_node_by_boot(c->view, boot);
    if (node == NULL || !node->running) {
        return CATALOG_STALE;
    }
    if (catalog_vhost(c->view, vhost) == NULL) {
        return CATALOG_NO_VHOST;
    }
    if (catalog_user(c->view, user) == NULL) {
        return CATALOG_NO_USER;
    }
    if (!catalog__seat_wanted(c->view, vhost, user)) {
        return CATALOG_OK;
    }
    const struct catalog_seat *before = catalog_seat(c->view, boot, connection);
    if (before != NULL && (!bytes_eq(before->vhost, vhost) || !bytes_eq(before->user, user))) {
        return CATALOG_INVALID;
    }
    if (!command->u.seat.open) {
        const int by = seat_refused(c->view, before, vhost, user, command->u.seat.channels);
        if (by != 0) {
            *ret_id = (uint64_t)by;
            return CATALOG_LIMIT;
        }
    }
    *ret_id = 1;
    if (before == NULL || before->channels != command->u.seat.channels) {
        struct catalog_seat *after =
            catalog__seat_new(boot, connection, vhost, user, command->u.seat.channels);
        catalog__put_seat(catalog__edit(c), after);
    }
    return CATALOG_OK;
}

int catalog__apply_drop_seat(struct catalog *c, const struct catalog_command *command)
{
    const struct catalog_seat *seat =
        catalog_seat(c->view, command->u.seat.boot, command->u.seat.connection);
    if (seat == NULL) {
        return CATALOG_NOT_FOUND;
    }
    drop_seat(catalog__edit(c), seat);
    return CATALOG_OK;
}
