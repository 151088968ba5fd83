/*
 * What: warrenctl's lists of definitions: rows by RabbitMQ's column names. Values that are JSON in
 * RabbitMQ's tables (definitions, limits, parameters) are texts here as well, keys sorted.
 * Threads: shard 0. Spec: docs/warrenctl.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "warren/pattern.h"

#include "admin.h"
#include "admin_json.h"
#include "listing.h"

static json_t *tags_json(const struct catalog_tags *tags)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < tags->count; i++) {
        json_t *tag = json_stringn((const char *)tags->items[i].data, tags->items[i].size);
        if (tag != NULL) {
            (void)json_array_append_new(list, tag);
        }
    }
    return list;
}

static void add_user_row(void *ctx, const struct catalog_user *user)
{
    json_t *row = admin_row(ctx);
    listing_put_text(row, "user", user->name);
    (void)json_object_set_new(row, "tags", tags_json(&user->tags));
}

static void list_users(struct admin *admin)
{
    broker_list_users(admin->shard->broker, add_user_row, admin);
    admin_sort(admin);
    admin_rows(admin);
}

static json_t *cluster_state(struct shard *shard)
{
    const struct catalog_node *nodes[CATALOG_NODES_MAX];
    const uint32_t count = catalog_nodes(shard->view, nodes);
    json_t *state = json_array();
    for (uint32_t i = 0; i < count; i++) {
        if (nodes[i]->running) {
            (void)json_array_append_new(
                state, json_pack("[o, s, s]", listing_node_name(shard, nodes[i]->info.id),
                                 "longstr", "running"));
        }
    }
    return state;
}

static void add_vhost_row(void *ctx, const struct catalog_vhost *vhost)
{
    struct admin *admin = ctx;
    json_t *row = admin_row(admin);
    listing_put_text(row, "name", vhost->name);
    (void)json_object_set_new(row, "tracing", json_false());
    listing_put_text(row, "description", vhost->description);
    (void)json_object_set_new(row, "tags", tags_json(&vhost->tags));
    listing_put_text(row, "default_queue_type",
                     vhost->default_queue_type.size > 0 ? vhost->default_queue_type
                                                        : BYTES_LITERAL("undefined"));
    (void)json_object_set_new(row, "cluster_state", cluster_state(admin->shard));
}

static void list_vhosts(struct admin *admin)
{
    broker_list_vhosts(admin->shard->broker, add_vhost_row, admin);
    admin_sort(admin);
    admin_rows(admin);
}

/* --- permissions ------------------------------------------------------------------------------ */

static void add_permission_row(void *ctx, const struct catalog_permission *p)
{
    json_t *row = admin_row(ctx);
    listing_put_text(row, "user", p->user);
    listing_put_text(row, "vhost", p->vhost);
    listing_put_text(row, "configure", p->configure);
    listing_put_text(row, "write", p->write);
    listing_put_text(row, "read", p->read);
}

static void add_topic_row(void *ctx, const struct catalog_topic_permission *p)
{
    json_t *row = admin_row(ctx);
    listing_put_text(row, "user", p->user);
    listing_put_text(row, "vhost", p->vhost);
    listing_put_text(row, "exchange", p->exchange);
    listing_put_text(row, "write", p->write);
    listing_put_text(row, "read", p->read);
}

/* All rows are there, or there is no such user or vhost. */
static void finish(struct admin *admin, uint16_t code, const struct broker_fault *fault)
{
    if (code != 0) {
        admin_fault(admin, fault);
    } else {
        admin_sort(admin);
        admin_rows(admin);
    }
}

static void list_permissions(struct admin *admin)
{
    struct broker_fault fault = {.code = 0};
    finish(admin,
           broker_list_permissions(admin->shard->broker, NULL, &admin->vhost, add_permission_row,
                                   admin, &fault),
           &fault);
}

static void list_user_permissions(struct admin *admin)
{
    struct broker_fault fault = {.code = 0};
    finish(admin,
           broker_list_permissions(admin->shard->broker, &admin->args[0], NULL, add_permission_row,
                                   admin, &fault),
           &fault);
}

static void list_topic_permissions(struct admin *admin)
{
    struct broker_fault fault = {.code = 0};
    finish(admin,
           broker_list_topic_permissions(admin->shard->broker, NULL, &admin->vhost, add_topic_row,
                                         admin, &fault),
           &fault);
}

static void list_user_topic_permissions(struct admin *admin)
{
    struct broker_fault fault = {.code = 0};
    finish(admin,
           broker_list_topic_permissions(admin->shard->broker, &admin->args[0], NULL, add_topic_row,
                                         admin, &fault),
           &fault);
}

/* --- limits ----------------------------------------------------------------------------------- */

static void put_limit(json_t *limits, const char *name, int64_t value)
{
    if (value != CATALOG_LIMIT_UNSET) {
        (void)json_object_set_new(limits, name, json_integer(value < 0 ? value + 1 : value));
    }
}

static json_t *limits_json(const char *first, int64_t first_value, const char *second,
                           int64_t second_value)
{
    json_t *limits = json_object();
    put_limit(limits, first, first_value);
    put_limit(limits, second, second_value);
    return limits;
}

static json_t *vhost_limits(const struct catalog_vhost *vhost)
{
    return limits_json("max-connections", vhost->limits.connections_max, "max-queues",
                       vhost->limits.queues_max);
}

static json_t *user_limits(const struct catalog_user *user)
{
    return limits_json("max-channels", user->limits.channels_max, "max-connections",
                       user->limits.connections_max);
}

static void add_limits(struct admin *admin, const char *column, struct bytes name,
                       json_t *owned_limits)
{
    if (json_object_size(owned_limits) == 0) {
        json_decref(owned_limits);
        return;
    }
    json_t *row = admin_row(admin);
    listing_put_text(row, column, name);
    (void)json_object_set_new(row, "limits", admin_quoted_json(owned_limits));
}

static void add_vhost_limits(void *ctx, const struct catalog_vhost *vhost)
{
    add_limits(ctx, "vhost", vhost->name, vhost_limits(vhost));
}

static void add_user_limits(void *ctx, const struct catalog_user *user)
{
    add_limits(ctx, "user", user->name, user_limits(user));
}

static void answer_value(struct admin *admin, json_t *owned_text)
{
    admin_result(admin, json_pack("{s:o}", "value", owned_text));
}

static void list_vhost_limits(struct admin *admin)
{
    if (admin_flag(admin, "global")) {
        broker_list_vhosts(admin->shard->broker, add_vhost_limits, admin);
        admin_sort(admin);
        admin_rows(admin);
        return;
    }
    const struct catalog_vhost *vhost = catalog_vhost(admin->shard->view, admin->vhost);
    if (!admin_vhost_there(admin, admin->vhost)) {
        return;
    }
    json_t *limits = vhost_limits(vhost);
    if (json_object_size(limits) == 0) {
        json_decref(limits);
        answer_value(admin, json_string(""));
    } else {
        answer_value(admin, admin_quoted_json(limits));
    }
}

static void list_user_limits(struct admin *admin)
{
    const char *name = admin_option(admin, "user");
    if (admin_flag(admin, "global")) {
        broker_list_users(admin->shard->broker, add_user_limits, admin);
        admin_sort(admin);
        admin_rows(admin);
        return;
    }
    name = name != NULL ? name : "guest";
    const struct catalog_user *user = catalog_user(admin->shard->view, bytes_from_cstr(name));
    if (user == NULL) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "User \"%.300s\" does not exist", name);
        return;
    }
    answer_value(admin, admin_quoted_json(user_limits(user)));
}

/* --- policies and parameters ------------------------------------------------------------------ */

static void add_policy_row(void *ctx, const struct catalog_policy *policy)
{
    const struct catalog_policy_spec *spec = &policy->spec;
    json_t *row = admin_row(ctx);
    listing_put_text(row, "vhost", spec->vhost);
    listing_put_text(row, "name", spec->name);
    listing_put_text(row, "pattern", spec->pattern);
    (void)json_object_set_new(row, "apply-to", json_string(broker_apply_to_name(spec->apply_to)));
    (void)json_object_set_new(row, "definition",
                              admin_quoted_json(admin_table_json(spec->definition)));
    (void)json_object_set_new(row, "priority", json_integer(spec->priority));
}

/* Best first. */
static void put_policies(struct admin *admin, bool operator_policy)
{
    struct broker_fault fault = {.code = 0};
    if (broker_list_policies(admin->shard->broker, &admin->vhost, operator_policy, add_policy_row,
                             admin, &fault) != 0) {
        admin_fault(admin, &fault);
    } else {
        admin_rows(admin);
    }
}

static void list_policies(struct admin *admin)
{
    put_policies(admin, false);
}

static void list_operator_policies(struct admin *admin)
{
    put_policies(admin, true);
}

/* Does it apply to a thing of that name? bit: see struct catalog_policy.applicable; 0 = a queue
 * that there is not, of any type. */
static bool applies(const struct catalog_policy *policy, struct bytes name, bool exchange,
                    uint8_t type)
{
    const uint8_t to = policy->spec.apply_to;
    if (!pattern_matches(policy->pattern, name)) {
        return false;
    }
    if (exchange) {
        return to == CATALOG_APPLY_ALL || to == CATALOG_APPLY_EXCHANGES;
    }
    if (to == CATALOG_APPLY_EXCHANGES || (type != 0 && (policy->applicable >> type & 1) == 0)) {
        return false;
    }
    return type == 0 || to == CATALOG_APPLY_ALL || to == CATALOG_APPLY_QUEUES ||
           (to == CATALOG_APPLY_CLASSIC_QUEUES && type == CATALOG_CLASSIC) ||
           (to == CATALOG_APPLY_QUORUM_QUEUES && type == CATALOG_QUORUM) ||
           (to == CATALOG_APPLY_STREAMS && type == CATALOG_STREAM);
}

/* Best first: the first is the one in force. */
static void list_policies_that_match(struct admin *admin)
{
    const char *kind = admin_option(admin, "object-type");
    const bool exchange = kind != NULL && strcmp(kind, "exchange") == 0;
    const struct catalog_vhost *vhost = catalog_vhost(admin->shard->view, admin->vhost);
    if (!admin_vhost_there(admin, admin->vhost)) {
        return;
    }
    const struct catalog_queue *queue = catalog_vhost_queue(vhost, admin->args[0]);
    const uint8_t type = queue != NULL ? queue->spec.type : 0;
    for (uint32_t i = 0; vhost->ranking != NULL && i < vhost->ranking->count; i++) {
        if (applies(vhost->ranking->items[i], admin->args[0], exchange, type)) {
            add_policy_row(admin, vhost->ranking->items[i]);
        }
    }
    admin_rows(admin);
}

static void add_parameter_row(void *ctx, const struct catalog_parameter *parameter)
{
    json_t *row = admin_row(ctx);
    listing_put_text(row, "component", parameter->component);
    listing_put_text(row, "name", parameter->name);
    (void)json_object_set_new(row, "value", admin_quoted_json(admin_value_json(parameter->value)));
}

/* RabbitMQ counts operator policies among the parameters, but not policies. */
static void add_policy_parameter(void *ctx, const struct catalog_policy *policy)
{
    json_t *row = admin_row(ctx);
    json_t *value = json_pack(
        "{s:o, s:o, s:I, s:s}", "pattern", admin_text_json(policy->spec.pattern), "definition",
        admin_table_json(policy->spec.definition), "priority", (json_int_t)policy->spec.priority,
        "apply-to", broker_apply_to_name(policy->spec.apply_to));
    char *text = json_dumps(value, JSON_COMPACT);
    (void)json_object_set_new(row, "component", json_string("operator_policy"));
    listing_put_text(row, "name", policy->spec.name);
    (void)json_object_set_new(row, "value", json_string(text != NULL ? text : ""));
    free(text);
    json_decref(value);
}

static void list_parameters(struct admin *admin)
{
    struct broker_fault fault = {.code = 0};
    uint16_t code = broker_list_parameters(admin->shard->broker, &admin->vhost, add_parameter_row,
                                           admin, &fault);
    if (code == 0) {
        code = broker_list_policies(admin->shard->broker, &admin->vhost, true, add_policy_parameter,
                                    admin, &fault);
    }
    finish(admin, code, &fault);
}

static void list_global_parameters(struct admin *admin)
{
    struct broker_fault fault = {.code = 0};
    finish(admin,
           broker_list_parameters(admin->shard->broker, NULL, add_parameter_row, admin, &fault),
           &fault);
}

const struct admin_command admin_list_commands[] = {
    {"list_users", list_users, 0, 0, 0, true},
    {"list_vhosts", list_vhosts, 0, 0, 0, true},
    {"list_permissions", list_permissions, 0, 0, ADMIN_VHOST_BARE, true},
    {"list_user_permissions", list_user_permissions, 1, 1, ADMIN_USER_69, true},
    {"list_topic_permissions", list_topic_permissions, 0, 0, ADMIN_VHOST_BARE, true},
    {"list_user_topic_permissions", list_user_topic_permissions, 1, 1, ADMIN_USER_69, true},
    {"list_vhost_limits", list_vhost_limits, 0, 0, ADMIN_VHOST_BARE, true},
    {"list_user_limits", list_user_limits, 0, 0, ADMIN_USER_69, true},
    {"list_policies", list_policies, 0, 0, ADMIN_VHOST_BARE, true},
    {"list_operator_policies", list_operator_policies, 0, 0, ADMIN_VHOST_BARE, true},
    {"list_policies_that_match", list_policies_that_match, 1, 1, ADMIN_VHOST_BARE, true},
    {"list_parameters", list_parameters, 0, 0, ADMIN_VHOST_BARE, true},
    {"list_global_parameters", list_global_parameters, 0, 0, 0, true},
    {.name = NULL}};
