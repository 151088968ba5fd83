/*
 * What: the catalog's machine: life, dispatch of commands, formation of the cluster.
 * Happy path: catalog_apply checks the command, the handler of its kind decides on the present view
 * and edits it, upcalls are made, the result is given.
 * Failure modes: a command that cannot be applied has a status and changes nothing (I1 of
 * catalog.h: on every node alike). Threads: one. Spec: docs/catalog.md.
 */
#include "internal.h"

#include "warren/map.h"

struct catalog *catalog_new(const struct catalog_index_ops *ops, const struct catalog_sink *sink,
                            void *sink_ctx)
{
    struct catalog *c = wr_calloc(1, sizeof(*c));
    c->serial = 1;
    c->view = catalog__view_new(c->serial);
    c->ops = ops;
    c->sink = sink;
    c->sink_ctx = sink_ctx;
    return c;
}

void catalog_free(struct catalog *owned_catalog)
{
    if (owned_catalog == NULL) {
        return;
    }
    WR_ASSERT(owned_catalog->events.count == 0);
    catalog_view_unref(owned_catalog->view);
    catalog__proposers_free(&owned_catalog->proposers);
    vec_deinit(&owned_catalog->events);
    wr_free(owned_catalog);
}

struct catalog_view *catalog_view_take(struct catalog *catalog)
{
    return catalog_view_ref(catalog->view);
}

const struct catalog_view *catalog_view_peek(const struct catalog *catalog)
{
    return catalog->view;
}

uint64_t catalog_applied(const struct catalog *catalog)
{
    return catalog->applied;
}

int catalog__apply_init(struct catalog *c, uint64_t index, const struct catalog_command *command)
{
    struct catalog_view *v = catalog__edit(c);
    v->cluster = command->u.init.cluster;
    v->name = catalog__text_new(command->u.init.name);
    const int joined = catalog__apply_join(c, index, &command->u.init.node);
    WR_ASSERT(joined == CATALOG_OK);
    const struct catalog_vhost_spec vhost = {.name = command->u.init.vhost,
                                             .description = BYTES_LITERAL("Default virtual host")};
    catalog__create_vhost(c, index, &vhost);
    if (command->u.init.user.name.size > 0) {
        const struct bytes everything = BYTES_LITERAL(".*");
        catalog__create_user(c, &command->u.init.user);
        catalog__grant(c, catalog_user(v, command->u.init.user.name),
                       catalog__permission_new(command->u.init.user.name, vhost.name, everything,
                                               everything, everything));
    }
    return CATALOG_OK;
}

static int apply_cluster_name(struct catalog *c, struct bytes name)
{
    if (bytes_eq(c->view->name->text, name)) {
        return CATALOG_OK;
    }
    struct catalog_view *v = catalog__edit(c);
    pref_unref(&v->name->ref);
    v->name = catalog__text_new(name);
    return CATALOG_OK;
}

/* The kinds that concern members of the cluster. */
static int apply_node_command(struct catalog *c, uint64_t index,
                              const struct catalog_command *command, uint64_t *ret_id)
{
    switch (command->kind) {
    case CATALOG_SET_CLUSTER_NAME:
        return apply_cluster_name(c, command->u.cluster_name.name);
    case CATALOG_JOIN_NODE:
        return catalog__apply_join(c, index, &command->u.join);
    case CATALOG_NODE_BOOT:
        return catalog__apply_boot(c, command, ret_id);
    case CATALOG_NODE_DOWN:
        return catalog__apply_down(c, command);
    case CATALOG_FORGET_NODE:
        return catalog__apply_forget(c, index, command->u.forget.node);
    default:
        return CATALOG_INVALID;
    }
}

/* The kinds from 40 on. */
static int apply_late_command(struct catalog *c, uint64_t index,
                              const struct catalog_command *command, uint64_t *ret_id)
{
    switch (command->kind) {
    case CATALOG_PUT_POLICY:
        return catalog__apply_put_policy(c, &command->u.policy);
    case CATALOG_DELETE_POLICY:
        return catalog__apply_delete_policy(c, &command->u.policy);
    case CATALOG_PUT_PARAMETER:
        return catalog__apply_put_parameter(c, &command->u.parameter);
    case CATALOG_DELETE_PARAMETER:
        return catalog__apply_delete_parameter(c, &command->u.parameter);
    case CATALOG_SET_VHOST_LIMITS:
        return catalog__apply_vhost_limits(c, command);
    case CATALOG_SET_USER_LIMITS:
        return catalog__apply_user_limits(c, command);
    case CATALOG_SET_TOPIC_PERMISSION:
    case CATALOG_CLEAR_TOPIC_PERMISSION:
        return catalog__apply_topic_permission(c, command);
    case CATALOG_CHANGE_VHOST:
        return catalog__apply_change_vhost(c, command, ret_id);
    case CATALOG_PUT_SEAT:
        return catalog__apply_put_seat(c, command, ret_id);
    case CATALOG_DROP_SEAT:
        return catalog__apply_drop_seat(c, command);
    default:
        return apply_node_command(c, index, command, ret_id);
    }
}

static int apply_formed(struct catalog *c, uint64_t index, const struct catalog_command *command,
                        uint64_t *ret_id)
{
    switch (command->kind) {
    case CATALOG_CLUSTER_INIT:
        return CATALOG_EXISTS;
    case CATALOG_PUT_VHOST:
        return catalog__apply_put_vhost(c, index, &command->u.vhost, ret_id);
    case CATALOG_DELETE_VHOST:
        return catalog__apply_delete_vhost(c, command->u.delete_vhost.name, ret_id);
    case CATALOG_PUT_USER:
        return catalog__apply_put_user(c, &command->u.user);
    case CATALOG_DELETE_USER:
        return catalog__apply_delete_user(c, command->u.delete_user.name);
    case CATALOG_SET_PERMISSION:
    case CATALOG_CLEAR_PERMISSION:
        return catalog__apply_permission(c, command);
    case CATALOG_DECLARE_EXCHANGE:
        return catalog__apply_declare_exchange(c, index, &command->u.exchange, ret_id);
    case CATALOG_DELETE_EXCHANGE:
        return catalog__apply_delete_exchange(c, command, ret_id);
    case CATALOG_DECLARE_QUEUE:
        return catalog__apply_declare_queue(c, index, &command->u.queue, ret_id);
    case CATALOG_DELETE_QUEUE:
        return catalog__apply_delete_queue(c, command->u.delete_queue.id, ret_id);
    case CATALOG_SET_REPLICAS:
        return catalog__apply_replicas(c, index, command, ret_id);
    case CATALOG_BIND:
        return catalog__apply_bind(c, index, &command->u.binding, ret_id);
    case CATALOG_UNBIND:
        return catalog__apply_unbind(c, &command->u.binding, ret_id);
    default:
        return apply_late_command(c, index, command, ret_id);
    }
}

void catalog_apply(struct catalog *catalog, uint64_t index, const struct catalog_command *command,
                   struct catalog_result *ret_result)
{
    WR_ASSERT_OP(index, >, catalog->applied);
    WR_ASSERT_OP(index, <, CATALOG_INDEX_MAX);
    catalog->applied = index;
    uint64_t id = 0;
    int status;
    const bool numbered = command->by.boot != 0 && catalog->view->name != NULL;
    if (numbered && catalog__proposer_answers(catalog, &command->by, ret_result)) {
        ret_result->index = index;
        return;
    }
    if (!catalog_command_valid(command)) {
        status = CATALOG_INVALID;
    } else if (catalog->view->name != NULL) {
        status = apply_formed(catalog, index, command, &id);
    } else if (command->kind == CATALOG_CLUSTER_INIT) {
        status = catalog__apply_init(catalog, index, command);
    } else {
        status = CATALOG_NOT_FORMED;
    }
    if (catalog->access_changed) {
        struct catalog_view *v = catalog__edit(catalog);
        v->access_serial = v->serial;
        catalog->access_changed = false;
    }
    catalog__events_tell(catalog);
    *ret_result = (struct catalog_result){status, id, index};
    if (numbered) {
        catalog__proposer_note(catalog, &command->by, ret_result);
    }
}

int catalog_apply_bytes(struct catalog *catalog, uint64_t index, struct bytes command,
                        struct catalog_result *ret_result)
{
    struct catalog_command decoded;
    const int error = catalog_command_decode(command, &decoded);
    if (error == WR_E_VERSION) {
        return error;
    }
    if (error != 0) {
        WR_ASSERT_OP(index, >, catalog->applied);
        catalog->applied = index;
        *ret_result = (struct catalog_result){CATALOG_INVALID, 0, index};
        return 0;
    }
    catalog_apply(catalog, index, &decoded, ret_result);
    return 0;
}

int catalog_restore(struct catalog *catalog, uint64_t index, struct bytes snapshot)
{
    if (index >= CATALOG_INDEX_MAX) {
        return WR_E_CORRUPT;
    }
    int error = 0;
    struct proposer_vec proposers = {0};
    struct catalog_view *v = catalog__view_decode(catalog, index, snapshot, &proposers, &error);
    if (v == NULL) {
        catalog__proposers_free(&proposers);
        return error;
    }
    catalog__proposers_free(&catalog->proposers);
    catalog->proposers = proposers;
    v->serial = ++catalog->serial;
    v->access_serial = v->serial;
    v->index = index;
    catalog_view_unref(catalog->view);
    catalog->view = v;
    catalog->applied = index;
    return 0;
}

uint64_t catalog_hash(const struct catalog *catalog)
{
    static const struct hash_seed seed = {UINT64_C(0x636174616c6f6721), UINT64_C(0x7761727265)};
    struct buf *out = buf_new(4096);
    catalog_snapshot(catalog, &out);
    const uint64_t hash = hash_bytes(seed, bytes_make(out->data, out->size));
    buf_unref(out);
    return hash;
}
