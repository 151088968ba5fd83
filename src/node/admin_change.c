/*
 * What: the commands of warrenctl that change users, vhosts, permissions, policies, limits and
 * parameters. Each hands plain values to the broker (warren/broker_admin.h), whose answer ends it;
 * JSON becomes field tables here. Threads: shard 0. Spec: docs/warrenctl.md, docs/access.md,
 * docs/policies.md.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "admin.h"
#include "admin_json.h"

/* --- users ------------------------------------------------------------------------------------ */

static void add_user(struct admin *admin)
{
    uint8_t hash[128];
    struct broker_user_change change = {.has_password = true, .password = admin->args[1]};
    size_t size;
    if (admin_flag(admin, "pre-hashed-password")) {
        if (!admin_unbase64(admin->args[1], hash, sizeof hash, &size)) {
            admin_refuse(admin, EXIT_DATA, "Could not Base64 decode provided password hash value");
            return;
        }
        const char *hashing = admin_option(admin, "hashing-algorithm");
        change = (struct broker_user_change){
            .has_hash = true,
            .hash = bytes_make(hash, size),
            .hashing = hashing == NULL ? (uint8_t)CATALOG_HASHING_SHA256
                                       : broker_hashing_find(bytes_from_cstr(hashing))};
    }
    broker_user_add(admin->shard->broker, admin->args[0], &change, admin_done, admin);
}

static void delete_user(struct admin *admin)
{
    broker_user_delete(admin->shard->broker, admin->args[0], admin_done, admin);
}

static void change_password(struct admin *admin)
{
    const struct broker_user_change change = {.has_password = true, .password = admin->args[1]};
    broker_user_change(admin->shard->broker, admin->args[0], &change, admin_done, admin);
}

static void clear_password(struct admin *admin)
{
    const struct broker_user_change change = {.has_password = true, .password = BYTES_NONE};
    broker_user_change(admin->shard->broker, admin->args[0], &change, admin_done, admin);
}

static void authenticate_user(struct admin *admin)
{
    broker_user_authenticate(admin->shard->broker, admin->args[0], admin->args[1], admin_done,
                             admin);
}

static void hash_password(struct admin *admin)
{
    uint8_t hash[BROKER_HASH_SIZE];
    broker_hash_password(admin->shard->broker, admin->args[0], hash);
    admin_result(admin, admin_base64(bytes_make(hash, sizeof hash)));
}

/* Tags are the arguments from `first` on. */
static bool tags_of(struct admin *admin, uint32_t first, struct catalog_tags *ret)
{
    *ret = (struct catalog_tags){admin->count - first, &admin->args[first]};
    if (ret->count > CATALOG_TAGS_MAX) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "too many tags");
        return false;
    }
    return true;
}

static void set_user_tags(struct admin *admin)
{
    struct catalog_tags tags;
    if (tags_of(admin, 1, &tags)) {
        const struct broker_user_change change = {.tags = &tags};
        broker_user_change(admin->shard->broker, admin->args[0], &change, admin_done, admin);
    }
}

/* --- vhosts ----------------------------------------------------------------------------------- */

/* What --description, --tags and --default-queue-type say. */
struct vhost_options {
    struct broker_vhost_change change;
    struct bytes description, type;
    struct catalog_tags tags;
    struct bytes items[CATALOG_TAGS_MAX];
};

static bool vhost_options(struct admin *admin, struct vhost_options *o)
{
    const char *description = admin_option(admin, "description");
    const char *type = admin_option(admin, "default-queue-type");
    const char *tags = admin_option(admin, "tags");
    *o = (struct vhost_options){.tags.items = o->items};
    if (description != NULL) {
        o->description = bytes_from_cstr(description);
        o->change.description = &o->description;
    }
    if (type != NULL) {
        o->type = bytes_from_cstr(type);
        o->change.default_queue_type = &o->type;
    }
    for (struct bytes tag, rest = bytes_from_cstr(tags != NULL ? tags : ""); rest.size > 0;) {
        (void)str_split(rest, ',', &tag, &rest);
        if (tag.size > 0 && o->tags.count == CATALOG_TAGS_MAX) {
            admin_refuse(admin, EXIT_UNAVAILABLE, "too many tags");
            return false;
        }
        if (tag.size > 0) {
            o->items[o->tags.count++] = tag;
        }
    }
    o->change.tags = tags != NULL ? &o->tags : NULL;
    return true;
}

static void add_vhost(struct admin *admin)
{
    struct vhost_options o;
    if (vhost_options(admin, &o)) {
        broker_vhost_add(admin->shard->broker, admin->args[0], &o.change, admin_done, admin);
    }
}

static void update_vhost_metadata(struct admin *admin)
{
    struct vhost_options o;
    if (vhost_options(admin, &o)) {
        broker_vhost_change(admin->shard->broker, admin->args[0], &o.change, admin_done, admin);
    }
}

static void set_vhost_tags(struct admin *admin)
{
    struct catalog_tags tags;
    if (catalog_vhost(admin->shard->view, admin->args[0]) == NULL) {
        admin_refuse(admin, EXIT_DATA, "Virtual host \"%.*s\" does not exist",
                     BYTES_PRINTF(admin->args[0]));
    } else if (tags_of(admin, 1, &tags)) {
        const struct broker_vhost_change change = {.tags = &tags};
        broker_vhost_change(admin->shard->broker, admin->args[0], &change, admin_done, admin);
    }
}

static void delete_vhost(struct admin *admin)
{
    broker_vhost_delete(admin->shard->broker, admin->args[0], admin_done, admin);
}

bool admin_vhost_there(struct admin *admin, struct bytes name)
{
    if (catalog_vhost(admin->shard->view, name) != NULL) {
        return true;
    }
    struct broker_fault fault = {.code = BROKER_ADMIN_NO_VHOST};
    (void)snprintf(fault.text, sizeof fault.text, "Virtual host '%.*s' does not exist",
                   BYTES_PRINTF(name));
    admin_fault(admin, &fault);
    return false;
}

static bool user_there(struct admin *admin, struct bytes name)
{
    if (catalog_user(admin->shard->view, name) != NULL) {
        return true;
    }
    struct broker_fault fault = {.code = BROKER_ADMIN_NO_USER};
    (void)snprintf(fault.text, sizeof fault.text, "User \"%.*s\" does not exist",
                   BYTES_PRINTF(name));
    admin_fault(admin, &fault);
    return false;
}

/* Vhosts do not fail here: nothing to be done. */
static void restart_vhost(struct admin *admin)
{
    char text[700];
    if (catalog_vhost(admin->shard->view, admin->vhost) == NULL) {
        admin_refuse(admin, EXIT_SOFTWARE,
                     "Failed to start vhost '%.*s' on node '%s': it does not exist",
                     BYTES_PRINTF(admin->vhost), admin->shard->config->nodename);
        return;
    }
    (void)snprintf(text, sizeof text, "Vhost '%.*s' is already running on node '%s'",
                   BYTES_PRINTF(admin->vhost), admin->shard->config->nodename);
    json_t *result = json_string(text);
    admin_result(admin, result != NULL ? result : json_string("ok"));
}

/* --- permissions ------------------------------------------------------------------------------ */

static void set_permissions(struct admin *admin)
{
    broker_permissions_set(admin->shard->broker, admin->args[0], admin->vhost, admin->args[1],
                           admin->args[2], admin->args[3], admin_done, admin);
}

/* One vhost after the other; those that came before a failure keep what they got. */
static void globally_done(void *ctx, const struct broker_fault *fault, struct bytes name,
                          uint64_t a, uint64_t b)
{
    struct admin *admin = ctx;
    (void)name;
    (void)a;
    (void)b;
    if (fault->code != 0 && fault->code != BROKER_ADMIN_NO_VHOST) { /* one deleted meanwhile */
        admin_fault(admin, fault);
        return;
    }
    const size_t next = json_array_size(admin->rows);
    if (next == 0) {
        admin_ok(admin);
        return;
    }
    json_t *vhost = json_incref(json_array_get(admin->rows, next - 1));
    (void)json_array_remove(admin->rows, next - 1);
    broker_permissions_set(admin->shard->broker, admin->args[0],
                           bytes_from_cstr(json_string_value(vhost)), admin->args[1],
                           admin->args[2], admin->args[3], globally_done, admin);
    json_decref(vhost);
}

static void add_vhost_name(void *ctx, const struct catalog_vhost *vhost)
{
    struct admin *admin = ctx;
    json_t *name = json_stringn((const char *)vhost->name.data, vhost->name.size);
    if (name != NULL) {
        (void)json_array_append_new(admin->rows, name);
    }
}

static void set_permissions_globally(struct admin *admin)
{
    if (user_there(admin, admin->args[0])) {
        broker_list_vhosts(admin->shard->broker, add_vhost_name, admin);
        globally_done(admin, &(struct broker_fault){.code = 0}, BYTES_NONE, 0, 0);
    }
}

static void clear_permissions(struct admin *admin)
{
    broker_permissions_clear(admin->shard->broker, admin->args[0], admin->vhost, admin_done, admin);
}

static void set_topic_permissions(struct admin *admin)
{
    broker_topic_permissions_set(admin->shard->broker, admin->args[0], admin->vhost, admin->args[1],
                                 admin->args[2], admin->args[3], admin_done, admin);
}

static void clear_topic_permissions(struct admin *admin)
{
    broker_topic_permissions_clear(admin->shard->broker, admin->args[0], admin->vhost,
                                   admin->count > 1 ? admin->args[1] : BYTES_NONE, admin_done,
                                   admin);
}

/* --- policies, limits, parameters ------------------------------------------------------------- */

/* NULL: answered. */
static json_t *parse(struct admin *admin, struct bytes text)
{
    json_t *value =
        json_loadb((const char *)text.data, text.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value == NULL) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "JSON decoding error. Reason: badarg");
    }
    return value;
}

static void refuse_json(struct admin *admin)
{
    admin_refuse(
        admin, EXIT_UNAVAILABLE,
        "Validation failed\n\nthe value is nested too deep, or a name in it is too long\n");
}

static void policy_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
                        uint64_t b)
{
    struct broker_fault longer = *fault;
    struct strbuf text;
    strbuf_init(&text, longer.text, sizeof longer.text);
    strbuf_add_cstr(&text, fault->text);
    /* RabbitMQ ends a reason of several lines with an empty one. */
    if (fault->code == BROKER_ADMIN_INVALID && strncmp(fault->text, "Validation failed", 17) == 0) {
        strbuf_add_char(&text, '\n');
    }
    admin_done(ctx, &longer, name, a, b);
}

static bool priority_of(struct admin *admin, int64_t *ret)
{
    const char *text = admin_option(admin, "priority");
    *ret = 0;
    if (admin->count > 3) { /* as before RabbitMQ 3.0 */
        return str_parse_i64(admin->args[3], INT32_MIN, INT32_MAX, ret) == 0;
    }
    return text == NULL || str_parse_i64(bytes_from_cstr(text), INT32_MIN, INT32_MAX, ret) == 0;
}

static void put_policy(struct admin *admin, bool operator_policy)
{
    struct catalog_policy_spec spec = {.vhost = admin->vhost,
                                       .name = admin->args[0],
                                       .pattern = admin->args[1],
                                       .operator_policy = operator_policy};
    const char *apply_to = admin_option(admin, "apply-to");
    const struct bytes apply = apply_to == NULL ? BYTES_NONE : bytes_from_cstr(apply_to);
    struct strbuf text;
    struct broker_fault fault = {.code = BROKER_ADMIN_INVALID};
    struct writer w;
    json_t *definition = parse(admin, admin->args[2]);
    if (definition == NULL) {
        return;
    }
    strbuf_init(&text, fault.text, sizeof fault.text);
    writer_init(&w, 256);
    if (!priority_of(admin, &spec.priority)) {
        admin_refuse(admin, EXIT_UNAVAILABLE,
                     "Validation failed\n\npriority should be a number, actually was something "
                     "else\n");
    } else if (!json_is_object(definition)) {
        admin_refuse(admin, EXIT_UNAVAILABLE,
                     "Validation failed\n\ndefinition should be a JSON object\n");
    } else if (!broker_apply_to_find(apply, &spec.apply_to)) {
        broker_apply_to_refusal(apply, &text);
        policy_done(admin, &fault, BYTES_NONE, 0, 0);
    } else if (!admin_put_fields(&w, definition)) {
        refuse_json(admin);
    } else {
        spec.definition = writer_bytes(&w);
        broker_policy_set(admin->shard->broker, &spec, policy_done, admin);
    }
    writer_deinit(&w);
    json_decref(definition);
}

static void set_policy(struct admin *admin)
{
    put_policy(admin, false);
}

static void set_operator_policy(struct admin *admin)
{
    put_policy(admin, true);
}

static void clear_policy(struct admin *admin)
{
    broker_policy_clear(admin->shard->broker, admin->vhost, admin->args[0], false, admin_done,
                        admin);
}

static void clear_operator_policy(struct admin *admin)
{
    broker_policy_clear(admin->shard->broker, admin->vhost, admin->args[0], true, admin_done,
                        admin);
}

/* What was set is remembered, though it is no limit: lists show it. */
static int64_t limit_of(int64_t value)
{
    return value < 0 && value > INT64_MIN ? value - 1 : value;
}

/* One of two limits from JSON; false: answered. */
static bool limits_of(struct admin *admin, struct bytes text, const char *const names[2],
                      const char *where, int64_t ret[2])
{
    const bool of_vhost = strcmp(where, "limits") == 0;
    const char *prefix = of_vhost ? "Validation failed\n\n" : "";
    const char *suffix = of_vhost ? "\n" : "";
    const char *key;
    json_t *value;
    json_t *limits = parse(admin, text);
    bool good = limits != NULL;
    if (good && !json_is_object(limits)) {
        char *shown = json_dumps(limits, JSON_ENCODE_ANY | JSON_COMPACT);
        admin_refuse(admin, EXIT_UNAVAILABLE, "%s%s not a list %.100s%s", prefix, where,
                     shown == NULL ? "" : shown, suffix);
        free(shown);
        good = false;
    }
    json_object_foreach(limits, key, value) {
        const size_t which = strcmp(key, names[0]) == 0 ? 0 : 1;
        char *shown = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
        if (good && strcmp(key, names[which]) != 0) {
            admin_refuse(admin, EXIT_UNAVAILABLE,
                         "%sUnrecognised terms [{<<\"%.100s\">>,%.100s}] in %s%s", prefix, key,
                         shown == NULL ? "" : shown, where, suffix);
            good = false;
        } else if (good && !json_is_integer(value)) {
            const bool is_text = json_is_string(value);
            admin_refuse(admin, EXIT_UNAVAILABLE,
                         "%s%s should be a number, actually was %s%.100s%s%s", prefix, key,
                         is_text ? "<<" : "", shown == NULL ? "" : shown, is_text ? ">>" : "",
                         suffix);
            good = false;
        } else if (good) {
            ret[which] = limit_of(json_integer_value(value));
        }
        free(shown);
    }
    json_decref(limits);
    return good;
}

static void set_vhost_limits(struct admin *admin)
{
    static const char *const names[2] = {"max-connections", "max-queues"};
    int64_t values[2] = {CATALOG_LIMIT_UNSET, CATALOG_LIMIT_UNSET};
    if (limits_of(admin, admin->args[0], names, "limits", values) &&
        admin_vhost_there(admin, admin->vhost)) {
        const struct catalog_vhost_limits limits = {values[0], values[1]};
        broker_vhost_limits_set(admin->shard->broker, admin->vhost, &limits, admin_done, admin);
    }
}

static void clear_vhost_limits(struct admin *admin)
{
    const struct catalog_vhost_limits limits = {CATALOG_LIMIT_UNSET, CATALOG_LIMIT_UNSET};
    const struct catalog_vhost *vhost = catalog_vhost(admin->shard->view, admin->vhost);
    if (vhost == NULL || (vhost->limits.connections_max == CATALOG_LIMIT_UNSET &&
                          vhost->limits.queues_max == CATALOG_LIMIT_UNSET)) {
        admin_refuse(admin, EXIT_UNAVAILABLE, "Parameter does not exist");
        return;
    }
    broker_vhost_limits_set(admin->shard->broker, admin->vhost, &limits, admin_done, admin);
}

/* What is not named stays: as RabbitMQ merges them. */
static void set_user_limits(struct admin *admin)
{
    static const char *const names[2] = {"max-connections", "max-channels"};
    if (!user_there(admin, admin->args[0])) {
        return;
    }
    const struct catalog_user *user = catalog_user(admin->shard->view, admin->args[0]);
    int64_t values[2] = {user->limits.connections_max, user->limits.channels_max};
    if (limits_of(admin, admin->args[1], names, "user-limits", values)) {
        const struct catalog_user_limits limits = {values[0], values[1]};
        broker_user_limits_set(admin->shard->broker, admin->args[0], &limits, admin_done, admin);
    }
}

static void clear_user_limits(struct admin *admin)
{
    if (!user_there(admin, admin->args[0])) {
        return;
    }
    struct catalog_user_limits limits = catalog_user(admin->shard->view, admin->args[0])->limits;
    const struct bytes which = admin->args[1];
    const bool all = bytes_eq_cstr(which, "all");
    if (all || bytes_eq_cstr(which, "max-connections")) {
        limits.connections_max = CATALOG_LIMIT_UNSET;
    }
    if (all || bytes_eq_cstr(which, "max-channels")) {
        limits.channels_max = CATALOG_LIMIT_UNSET;
    }
    broker_user_limits_set(admin->shard->broker, admin->args[0], &limits, admin_done, admin);
}

static void put_parameter(struct admin *admin, struct bytes vhost, struct bytes component,
                          struct bytes name, json_t *owned_value)
{
    struct writer w;
    writer_init(&w, 256);
    if (owned_value == NULL) {
        ; /* answered */
    } else if (!admin_put_value(&w, owned_value)) {
        refuse_json(admin);
    } else {
        broker_parameter_set(admin->shard->broker, vhost, component, name, writer_bytes(&w),
                             admin_done, admin);
    }
    writer_deinit(&w);
    json_decref(owned_value);
}

static void set_parameter(struct admin *admin)
{
    if (admin->vhost.size == 0) { /* is what a global one has */
        (void)admin_vhost_there(admin, admin->vhost);
        return;
    }
    put_parameter(admin, admin->vhost, admin->args[0], admin->args[1],
                  parse(admin, admin->args[2]));
}

static void clear_parameter(struct admin *admin)
{
    if (admin->vhost.size == 0) { /* is what a global one has */
        admin_refuse(admin, EXIT_UNAVAILABLE, "Parameter does not exist");
        return;
    }
    broker_parameter_clear(admin->shard->broker, admin->vhost, admin->args[0], admin->args[1],
                           admin_done, admin);
}

static void set_global_parameter(struct admin *admin)
{
    put_parameter(admin, BYTES_NONE, BYTES_NONE, admin->args[0], parse(admin, admin->args[1]));
}

static void clear_global_parameter(struct admin *admin)
{
    broker_parameter_clear(admin->shard->broker, BYTES_NONE, BYTES_NONE, admin->args[0], admin_done,
                           admin);
}

static void set_cluster_name(struct admin *admin)
{
    put_parameter(admin, BYTES_NONE, BYTES_NONE, BYTES_LITERAL("cluster_name"),
                  json_stringn((const char *)admin->args[0].data, admin->args[0].size));
}

/* --- what is not there yet -------------------------------------------------------------------- */

static void not_yet(struct admin *admin)
{
    admin_refuse(admin, EXIT_UNAVAILABLE, "%s is not there yet", admin->command->name);
}

const struct admin_command admin_change_commands[] = {
    {"add_user", add_user, 2, 2, 0, false},
    {"delete_user", delete_user, 1, 1, 0, false},
    {"change_password", change_password, 2, 2, 0, false},
    {"clear_password", clear_password, 1, 1, ADMIN_USER_69, false},
    {"authenticate_user", authenticate_user, 2, 2, 0, false},
    {"hash_password", hash_password, 1, 1, 0, true},
    {"set_user_tags", set_user_tags, 1, ADMIN_ARGS_MAX, 0, false},
    {"add_vhost", add_vhost, 1, 1, 0, false},
    {"update_vhost_metadata", update_vhost_metadata, 1, 1, ADMIN_VHOST_BARE, false},
    {"set_vhost_tags", set_vhost_tags, 1, ADMIN_ARGS_MAX, ADMIN_VHOST_BARE, false},
    {"delete_vhost", delete_vhost, 1, 1, ADMIN_VHOST_BARE, false},
    {"restart_vhost", restart_vhost, 0, 0, ADMIN_VHOST_BARE, false},
    {"set_permissions", set_permissions, 4, 4, ADMIN_PERMISSION, false},
    {"set_permissions_globally", set_permissions_globally, 4, 4, ADMIN_PERMISSION, false},
    {"clear_permissions", clear_permissions, 1, 1, ADMIN_PERMISSION, false},
    {"set_topic_permissions", set_topic_permissions, 4, 4, ADMIN_PERMISSION, false},
    {"clear_topic_permissions", clear_topic_permissions, 1, 2, ADMIN_PERMISSION, false},
    {"set_policy", set_policy, 3, 4, ADMIN_VHOST_BARE, false},
    {"clear_policy", clear_policy, 1, 1, ADMIN_VHOST_BARE, false},
    {"set_operator_policy", set_operator_policy, 3, 4, ADMIN_VHOST_BARE, false},
    {"clear_operator_policy", clear_operator_policy, 1, 1, ADMIN_VHOST_BARE, false},
    {"set_vhost_limits", set_vhost_limits, 1, 1, ADMIN_VHOST_BARE, false},
    {"clear_vhost_limits", clear_vhost_limits, 0, 0, ADMIN_VHOST_BARE, false},
    {"set_user_limits", set_user_limits, 2, 2, ADMIN_USER_69, false},
    {"clear_user_limits", clear_user_limits, 2, 2, ADMIN_USER_69, false},
    {"set_parameter", set_parameter, 3, 3, ADMIN_VHOST_BARE, false},
    {"clear_parameter", clear_parameter, 2, 2, ADMIN_VHOST_BARE, false},
    {"set_global_parameter", set_global_parameter, 2, 2, 0, false},
    {"clear_global_parameter", clear_global_parameter, 1, 1, 0, false},
    {"set_cluster_name", set_cluster_name, 1, 1, 0, false},
    {"trace_on", not_yet, 0, 0, 0, true},
    {"trace_off", not_yet, 0, 0, 0, true},
    {.name = NULL}};
