/*
 * What: encoding of the catalog's commands: [version, kind, body], or [3, kind, body,
 * boot, shard, number, settled] with the proposer, and the texts of statuses.
 * Failure modes: decode of anything but an encoded command gives WR_E_CORRUPT or WR_E_VERSION, and
 * reads nothing outside the input. A new field or kind needs a new version and, while nodes of the
 * old one are members, a feature flag: all nodes must apply the same.
 * Threads: pure functions. Spec: docs/catalog.md, "Commands".
 */
#include "warren/catalog_command.h"

#include "walk.h"

const char *catalog_status_text(int status)
{
    switch (status) {
#define STATUS_CASE(name, number, text)                                                            \
    case number:                                                                                   \
        return text;
        CATALOG_STATUS_TABLE(STATUS_CASE)
#undef STATUS_CASE
    default:
        return "unknown";
    }
}

static void walk_init(struct walk *k, struct catalog_command *c)
{
    walk_record(k, 5);
    walk_uid(k, &c->u.init.cluster);
    walk_name(k, &c->u.init.name);
    walk_node_info(k, &c->u.init.node);
    walk_name(k, &c->u.init.vhost);
    walk_user_spec(k, &c->u.init.user);
    if (uid_is_zero(c->u.init.cluster)) {
        walk_fail(k);
    }
}

static void walk_permission(struct walk *k, struct catalog_command *c)
{
    const bool set = c->kind == CATALOG_SET_PERMISSION;
    walk_record(k, set ? 5 : 2);
    walk_name(k, &c->u.permission.user);
    walk_name(k, &c->u.permission.vhost);
    if (set) {
        walk_bytes(k, &c->u.permission.configure, CATALOG_TEXT_MAX);
        walk_bytes(k, &c->u.permission.write, CATALOG_TEXT_MAX);
        walk_bytes(k, &c->u.permission.read, CATALOG_TEXT_MAX);
    }
}

static void walk_replicas(struct walk *k, struct catalog_command *c)
{
    walk_record(k, 5);
    walk_u64(k, &c->u.replicas.id);
    walk_u64(k, &c->u.replicas.version);
    walk_members(k, &c->u.replicas.members, &c->u.replicas.member_count);
    walk_u32(k, &c->u.replicas.target_size);
    walk_uid(k, &c->u.replicas.preferred);
}

/* A body of one name. */
static void walk_one_name(struct walk *k, struct bytes *name)
{
    walk_record(k, 1);
    walk_name(k, name);
}

/* Bodies of the members of the cluster; false: another kind. */
static bool walk_node_body(struct walk *k, struct catalog_command *c)
{
    switch (c->kind) {
    case CATALOG_CLUSTER_INIT:
        walk_init(k, c);
        return true;
    case CATALOG_SET_CLUSTER_NAME:
        walk_one_name(k, &c->u.cluster_name.name);
        return true;
    case CATALOG_JOIN_NODE:
        walk_node_info(k, &c->u.join);
        return true;
    case CATALOG_NODE_BOOT:
        walk_record(k, 2);
        walk_node_info(k, &c->u.boot.node);
        walk_uid(k, &c->u.boot.start);
        return true;
    case CATALOG_NODE_DOWN:
        walk_record(k, 2);
        walk_uid(k, &c->u.down.node);
        walk_u32(k, &c->u.down.boot);
        return true;
    case CATALOG_FORGET_NODE:
        walk_record(k, 1);
        walk_uid(k, &c->u.forget.node);
        return true;
    default:
        return false;
    }
}

static void walk_topic_permission(struct walk *k, struct catalog_command *c)
{
    const bool set = c->kind == CATALOG_SET_TOPIC_PERMISSION;
    walk_record(k, set ? 5 : 3);
    walk_name(k, &c->u.topic_permission.user);
    walk_name(k, &c->u.topic_permission.vhost);
    walk_bytes(k, &c->u.topic_permission.exchange, CATALOG_NAME_MAX);
    if (set) {
        walk_bytes(k, &c->u.topic_permission.write, CATALOG_TEXT_MAX);
        walk_bytes(k, &c->u.topic_permission.read, CATALOG_TEXT_MAX);
    }
}

static void walk_seat(struct walk *k, struct catalog_command *c)
{
    const bool put = c->kind == CATALOG_PUT_SEAT;
    walk_record(k, put ? 6 : 2);
    walk_u32(k, &c->u.seat.boot);
    walk_u64(k, &c->u.seat.connection);
    if (put) {
        walk_name(k, &c->u.seat.vhost);
        walk_name(k, &c->u.seat.user);
        walk_u32(k, &c->u.seat.channels);
        walk_bool(k, &c->u.seat.open);
    }
}

/* Bodies of the kinds from 40 on; false: another kind. */
static bool walk_late_body(struct walk *k, struct catalog_command *c)
{
    switch (c->kind) {
    case CATALOG_PUT_POLICY:
        walk_policy_spec(k, &c->u.policy);
        return true;
    case CATALOG_DELETE_POLICY:
        walk_record(k, 3);
        walk_name(k, &c->u.policy.vhost);
        walk_name(k, &c->u.policy.name);
        walk_bool(k, &c->u.policy.operator_policy);
        return true;
    case CATALOG_PUT_PARAMETER:
        walk_parameter_spec(k, &c->u.parameter);
        return true;
    case CATALOG_DELETE_PARAMETER:
        walk_record(k, 3);
        walk_bytes(k, &c->u.parameter.vhost, CATALOG_NAME_MAX);
        walk_bytes(k, &c->u.parameter.component, CATALOG_NAME_MAX);
        walk_name(k, &c->u.parameter.name);
        return true;
    case CATALOG_SET_VHOST_LIMITS:
        walk_record(k, 2);
        walk_name(k, &c->u.vhost_limits.vhost);
        walk_vhost_limits(k, &c->u.vhost_limits.limits);
        return true;
    case CATALOG_SET_USER_LIMITS:
        walk_record(k, 2);
        walk_name(k, &c->u.user_limits.user);
        walk_user_limits(k, &c->u.user_limits.limits);
        return true;
    case CATALOG_SET_TOPIC_PERMISSION:
    case CATALOG_CLEAR_TOPIC_PERMISSION:
        walk_topic_permission(k, c);
        return true;
    case CATALOG_CHANGE_VHOST:
        walk_record(k, 2);
        walk_vhost_spec(k, &c->u.change_vhost.spec);
        walk_u8(k, &c->u.change_vhost.parts, 0, 7);
        return true;
    case CATALOG_PUT_SEAT:
    case CATALOG_DROP_SEAT:
        walk_seat(k, c);
        return true;
    default:
        return walk_node_body(k, c);
    }
}

/* The other bodies; false: unknown kind. */
static bool walk_body(struct walk *k, struct catalog_command *c)
{
    switch (c->kind) {
    case CATALOG_PUT_VHOST:
        walk_vhost_spec(k, &c->u.vhost);
        return true;
    case CATALOG_DELETE_VHOST:
        walk_one_name(k, &c->u.delete_vhost.name);
        return true;
    case CATALOG_PUT_USER:
        walk_user_spec(k, &c->u.user);
        return true;
    case CATALOG_DELETE_USER:
        walk_one_name(k, &c->u.delete_user.name);
        return true;
    case CATALOG_SET_PERMISSION:
    case CATALOG_CLEAR_PERMISSION:
        walk_permission(k, c);
        return true;
    case CATALOG_DECLARE_EXCHANGE:
        walk_exchange_spec(k, &c->u.exchange);
        return true;
    case CATALOG_DELETE_EXCHANGE:
        walk_record(k, 3);
        walk_name(k, &c->u.delete_exchange.vhost);
        walk_bytes(k, &c->u.delete_exchange.name, CATALOG_NAME_MAX);
        walk_bool(k, &c->u.delete_exchange.if_unused);
        return true;
    case CATALOG_DECLARE_QUEUE:
        walk_queue_spec(k, &c->u.queue);
        return true;
    case CATALOG_DELETE_QUEUE:
        walk_record(k, 1);
        walk_u64(k, &c->u.delete_queue.id);
        return true;
    case CATALOG_SET_REPLICAS:
        walk_replicas(k, c);
        return true;
    case CATALOG_BIND:
    case CATALOG_UNBIND:
        walk_binding_spec(k, &c->u.binding);
        return true;
    default:
        return walk_late_body(k, c);
    }
}

bool catalog_command_valid(const struct catalog_command *command)
{
    struct walk k = walk_check();
    /* Only WALK_GET writes into what it walks over. */
    const bool known = walk_body(&k, (struct catalog_command *)(uintptr_t)command);
    return known && walk_ok(&k);
}

#define PROPOSED_FIELDS 7u

static void walk_proposer(struct walk *k, struct catalog_proposer *by)
{
    walk_u32(k, &by->boot);
    walk_u32(k, &by->shard);
    walk_u64(k, &by->number);
    walk_u64(k, &by->settled);
}

/* A limit that was set, and is none. */
static bool has_set_none(const struct catalog_command *command)
{
    const struct catalog_vhost_limits *vhost = &command->u.vhost_limits.limits;
    const struct catalog_user_limits *user = &command->u.user_limits.limits;
    if (command->kind == CATALOG_SET_VHOST_LIMITS) {
        return vhost->connections_max < CATALOG_LIMIT_UNSET ||
               vhost->queues_max < CATALOG_LIMIT_UNSET;
    }
    return command->kind == CATALOG_SET_USER_LIMITS &&
           (user->connections_max < CATALOG_LIMIT_UNSET ||
            user->channels_max < CATALOG_LIMIT_UNSET);
}

/* The lowest version that knows it: a history is of version 2, a proposer of 3, a limit that was
 * set to none of 4. Nodes that do not know that stop there, rather than skip what the others apply.
 */
static uint64_t version_of(const struct catalog_command *command)
{
    if (has_set_none(command)) {
        return 4;
    }
    if (command->by.boot != 0) {
        return 3;
    }
    return command->kind == CATALOG_DECLARE_QUEUE && command->u.queue.type == CATALOG_HISTORY ? 2
                                                                                              : 1;
}

void catalog_command_encode(struct buf **out, const struct catalog_command *command)
{
    WR_ASSERT(catalog_command_valid(command));
    struct walk k = walk_put(out);
    const bool proposed = command->by.boot != 0;
    walk_record(&k, proposed ? PROPOSED_FIELDS : 3);
    pack_put_uint(&k.writer, version_of(command));
    pack_put_uint(&k.writer, command->kind);
    const bool known = walk_body(&k, (struct catalog_command *)(uintptr_t)command);
    WR_ASSERT(known);
    if (proposed) {
        struct catalog_proposer by = command->by;
        walk_proposer(&k, &by);
    }
}

int catalog_command_decode(struct bytes input, struct catalog_command *ret_command)
{
    struct catalog_command *c = ret_command;
    memset(c, 0, sizeof(*c));
    struct walk k = walk_get(input, c->storage.members, c->storage.tags);
    const uint32_t fields = pack_get_array(&k.reader, UINT32_MAX);
    const uint64_t version = pack_get_uint(&k.reader, UINT64_MAX);
    const uint64_t kind = pack_get_uint(&k.reader, UINT64_MAX);
    if (pack_failed(&k.reader)) {
        return WR_E_CORRUPT;
    }
    if (version < 1 || version > CATALOG_COMMAND_VERSION || kind > UINT8_MAX) {
        return WR_E_VERSION;
    }
    c->kind = (uint8_t)kind;
    const bool proposed = fields == PROPOSED_FIELDS;
    if (fields != (proposed ? PROPOSED_FIELDS : 3) || (version < 4 && proposed != (version == 3))) {
        return WR_E_CORRUPT;
    }
    if (!walk_body(&k, c)) {
        return WR_E_VERSION;
    }
    if (proposed) {
        walk_proposer(&k, &c->by);
        if (c->by.boot == 0 || c->by.settled > c->by.number || c->by.number == UINT64_MAX) {
            return WR_E_CORRUPT;
        }
    }
    return walk_ok(&k) && pack_done(&k.reader) && version == version_of(c) ? 0 : WR_E_CORRUPT;
}
