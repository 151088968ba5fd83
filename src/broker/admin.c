/*
 * What: changes of users, vhosts, permissions, policies, limits and parameters, for whoever
 * administers the cluster (warren/broker_admin.h).
 *
 * Happy path: a call checks what it can, builds a command and proposes it; when this shard's view
 * has it, the caller hears. Failure modes: what the machine refuses becomes RabbitMQ's text;
 * without a leader BROKER_ADMIN_UNAVAILABLE, and the command may be applied all the same.
 * Ownership: a call lives in broker->admin until it is answered; broker_free drops those that never
 * are. Threads: the shard's. Spec: docs/access.md, docs/policies.md.
 */
#include <stdarg.h>

#include "admin.h"

struct admin_call *admin_new(struct broker *broker, broker_done_fn done, void *ctx,
                             struct bytes user, struct bytes vhost, struct bytes name)
{
    struct admin_call *call = wr_calloc(1, sizeof *call);
    call->broker = broker;
    call->done = done;
    call->ctx = ctx;
    call->text = buf_new(user.size + vhost.size + name.size + 1);
    const struct bytes parts[] = {user, vhost, name};
    struct bytes *kept[] = {&call->user, &call->vhost, &call->name};
    for (size_t i = 0; i < 3; i++) {
        *kept[i] = bytes_make(call->text->data + call->text->size, parts[i].size);
        buf_append(&call->text, parts[i].data, parts[i].size); /* has the room: it stays */
    }
    timer_init(&call->delay);
    list_push_back(&broker->admin, &call->link);
    return call;
}

static void admin_free(struct admin_call *call)
{
    timer_cancel(&call->broker->timers, &call->delay);
    if (call->client != NULL) {
        queue_client_close(call->client);
    }
    list_remove(&call->link);
    buf_unref(call->text);
    wr_free(call);
}

void admin_free_all(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->admin) {
        admin_free(WR_CONTAINER_OF(link, struct admin_call, link));
    }
}

static void answer(struct admin_call *call)
{
    broker_done_fn done = call->done;
    void *ctx = call->ctx;
    const struct broker_fault fault = call->fault;
    const struct bytes name = call->name;
    const uint64_t a = call->a;
    struct buf *text = buf_ref(call->text);
    admin_free(call);
    if (done != NULL) {
        done(ctx, &fault, name, a, 0);
    }
    buf_unref(text);
}

void admin_answer(struct admin_call *call)
{
    call->ready = true; /* in the turn */
}

void admin_fail(struct admin_call *call, enum broker_admin_fault code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    struct strbuf s;
    strbuf_init(&s, call->fault.text, sizeof call->fault.text);
    strbuf_vprintf(&s, fmt, args);
    va_end(args);
    call->fault.code = (uint16_t)code;
    admin_answer(call);
}

void admin_turn(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->admin) {
        struct admin_call *call = WR_CONTAINER_OF(link, struct admin_call, link);
        if (call->ready || (call->wait_index != 0 && call->wait_index <= broker->view_index)) {
            answer(call);
        }
    }
}

bool admin_is_due(const struct broker *broker)
{
    LIST_FOREACH(link, &broker->admin) {
        const struct admin_call *call = WR_CONTAINER_OF(link, struct admin_call, link);
        if (call->ready || (call->wait_index != 0 && call->wait_index <= broker->view_index)) {
            return true;
        }
    }
    return false;
}

/* --- what the machine says -------------------------------------------------------------------- */

static void translate(struct admin_call *call, int status)
{
    switch (status) {
    case CATALOG_NO_USER:
        admin_fail(call, BROKER_ADMIN_NO_USER, "User \"%.*s\" does not exist", FMT(call->user));
        break;
    case CATALOG_NO_VHOST:
        admin_fail(call, BROKER_ADMIN_NO_VHOST, "Virtual host '%.*s' does not exist",
                   FMT(call->vhost));
        break;
    case CATALOG_EXISTS:
        admin_fail(call, BROKER_ADMIN_EXISTS, "User \"%.*s\" already exists", FMT(call->user));
        break;
    case CATALOG_LIMIT:
        admin_fail(call, BROKER_ADMIN_LIMIT, "%s", catalog_status_text(status));
        break;
    default:
        admin_fail(call, BROKER_ADMIN_INVALID, "%s", catalog_status_text(status));
        break;
    }
}

void admin_unavailable(struct admin_call *call)
{
    admin_fail(call, BROKER_ADMIN_UNAVAILABLE,
               "the cluster's catalog cannot be changed: no leader was reached within %u ms",
               call->broker->options.operation_timeout_ms);
}

static void on_proposed(void *ctx, int status, const struct catalog_result *result)
{
    struct admin_call *call = ctx;
    if (status < 0) {
        admin_unavailable(call);
        return;
    }
    /* What is cleared in a vhost that is not there is not there either: RabbitMQ does not look. */
    if ((status == CATALOG_NOT_FOUND || status == CATALOG_NO_VHOST) && call->missing != NULL) {
        admin_fail(call, call->missing_code, "%s", call->missing);
        return;
    }
    if (status == CATALOG_NOT_FOUND && call->user_missing) {
        status = CATALOG_NO_USER;
    }
    if (status == CATALOG_NOT_FOUND && call->vhost_missing) {
        status = CATALOG_NO_VHOST;
    }
    const bool fine = status == CATALOG_OK || status == CATALOG_NOT_FOUND ||
                      (status == CATALOG_EXISTS && call->may_exist);
    if (!fine) {
        translate(call, status);
        return;
    }
    call->a = status == CATALOG_OK;
    call->wait_index = result == NULL ? 0 : result->index;
    if (call->wait_index == 0) {
        admin_answer(call);
    }
}

void admin_propose(struct admin_call *call, const struct catalog_command *command)
{
    if (!catalog_command_valid(command)) {
        admin_fail(call, BROKER_ADMIN_INVALID, "a name or a value is too long, or empty");
        return;
    }
    host_catalog_propose(call->broker->host, command, call->broker->options.operation_timeout_ms,
                         on_proposed, call);
}

/* --- vhosts ----------------------------------------------------------------------------------- */

static bool queue_type_ok(struct admin_call *call, const struct bytes *type)
{
    if (type == NULL || type->size == 0 || bytes_eq_cstr(*type, "classic") ||
        bytes_eq_cstr(*type, "quorum") || bytes_eq_cstr(*type, "undefined")) {
        return true;
    }
    admin_fail(call, BROKER_ADMIN_INVALID, "Unsupported default queue type");
    return false;
}

static struct catalog_vhost_spec vhost_spec(struct bytes name,
                                            const struct broker_vhost_change *change)
{
    struct catalog_vhost_spec spec = {.name = name};
    if (change != NULL && change->description != NULL) {
        spec.description = *change->description;
    }
    if (change != NULL && change->default_queue_type != NULL &&
        !bytes_eq_cstr(*change->default_queue_type, "undefined")) {
        spec.default_queue_type = *change->default_queue_type;
    }
    if (change != NULL && change->tags != NULL) {
        spec.tags = *change->tags;
    }
    return spec;
}

void broker_vhost_add(struct broker *broker, struct bytes name,
                      const struct broker_vhost_change *change, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, name, name);
    if (name.size == 0) {
        admin_fail(call, BROKER_ADMIN_INVALID, "vhost cannot be an empty string");
        return;
    }
    if (!queue_type_ok(call, change == NULL ? NULL : change->default_queue_type)) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_PUT_VHOST};
    command.u.vhost = vhost_spec(name, change);
    command.u.vhost.create = true;
    call->may_exist = true;
    admin_propose(call, &command);
}

void broker_vhost_change(struct broker *broker, struct bytes name,
                         const struct broker_vhost_change *change, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, name, name);
    if (!queue_type_ok(call, change->default_queue_type)) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_CHANGE_VHOST};
    command.u.change_vhost.spec = vhost_spec(name, change);
    command.u.change_vhost.parts =
        (uint8_t)((change->description != NULL ? CATALOG_VHOST_DESCRIPTION : 0) |
                  (change->tags != NULL ? CATALOG_VHOST_TAGS : 0) |
                  (change->default_queue_type != NULL ? CATALOG_VHOST_QUEUE_TYPE : 0));
    admin_propose(call, &command);
}

void broker_vhost_delete(struct broker *broker, struct bytes name, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, name, name);
    struct catalog_command command = {.kind = CATALOG_DELETE_VHOST};
    command.u.delete_vhost.name = name;
    call->vhost_missing = true;
    admin_propose(call, &command);
}

/* --- permissions ------------------------------------------------------------------------------ */

/* Refuses a pattern that does not compile. */
static bool pattern_ok(struct admin_call *call, struct bytes pattern)
{
    char why[200];
    struct strbuf s;
    strbuf_init(&s, why, sizeof why);
    if (pattern_check(pattern, &s)) {
        return true;
    }
    admin_fail(call, BROKER_ADMIN_INVALID, "invalid regular expression '%.*s': %s", FMT(pattern),
               why);
    return false;
}

void broker_permissions_set(struct broker *broker, struct bytes user, struct bytes vhost,
                            struct bytes configure, struct bytes write, struct bytes read,
                            broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, user, vhost, user);
    if (!pattern_ok(call, configure) || !pattern_ok(call, write) || !pattern_ok(call, read)) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_SET_PERMISSION};
    command.u.permission.user = user;
    command.u.permission.vhost = vhost;
    command.u.permission.configure = configure;
    command.u.permission.write = write;
    command.u.permission.read = read;
    admin_propose(call, &command);
}

void broker_permissions_clear(struct broker *broker, struct bytes user, struct bytes vhost,
                              broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, user, vhost, user);
    struct catalog_command command = {.kind = CATALOG_CLEAR_PERMISSION};
    command.u.permission.user = user;
    command.u.permission.vhost = vhost;
    admin_propose(call, &command);
}

void broker_topic_permissions_set(struct broker *broker, struct bytes user, struct bytes vhost,
                                  struct bytes exchange, struct bytes write, struct bytes read,
                                  broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, user, vhost, user);
    if (!pattern_ok(call, write) || !pattern_ok(call, read)) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_SET_TOPIC_PERMISSION};
    command.u.topic_permission.user = user;
    command.u.topic_permission.vhost = vhost;
    command.u.topic_permission.exchange = exchange;
    command.u.topic_permission.write = write;
    command.u.topic_permission.read = read;
    admin_propose(call, &command);
}

void broker_topic_permissions_clear(struct broker *broker, struct bytes user, struct bytes vhost,
                                    struct bytes exchange, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, user, vhost, user);
    struct catalog_command command = {.kind = CATALOG_CLEAR_TOPIC_PERMISSION};
    command.u.topic_permission.user = user;
    command.u.topic_permission.vhost = vhost;
    command.u.topic_permission.exchange = exchange;
    admin_propose(call, &command);
}

/* --- policies --------------------------------------------------------------------------------- */

static const char *const apply_to_names[] = {
    [CATALOG_APPLY_ALL] = "all",
    [CATALOG_APPLY_QUEUES] = "queues",
    [CATALOG_APPLY_CLASSIC_QUEUES] = "classic_queues",
    [CATALOG_APPLY_QUORUM_QUEUES] = "quorum_queues",
    [CATALOG_APPLY_STREAMS] = "streams",
    [CATALOG_APPLY_EXCHANGES] = "exchanges",
};

bool broker_apply_to_find(struct bytes name, uint8_t *ret_apply_to)
{
    for (uint8_t i = 0; i < WR_ARRAY_SIZE(apply_to_names); i++) {
        if (bytes_eq_cstr(name, apply_to_names[i])) {
            *ret_apply_to = i;
            return true;
        }
    }
    *ret_apply_to = CATALOG_APPLY_ALL;
    return name.size == 0;
}

const char *broker_apply_to_name(uint8_t apply_to)
{
    return apply_to < WR_ARRAY_SIZE(apply_to_names) ? apply_to_names[apply_to] : "unknown";
}

void broker_apply_to_refusal(struct bytes name, struct strbuf *text)
{
    strbuf_printf(text,
                  "Validation failed\n\napply-to '%.*s' unrecognised; should be one of: 'queues', "
                  "'classic_queues',  'quorum_queues', 'streams', 'exchanges', or 'all'",
                  FMT(name));
}

/* In RabbitMQ's order: the pattern, what it applies to, the definition. */
static bool policy_ok(struct admin_call *call, const struct catalog_policy_spec *policy)
{
    char why[400];
    struct strbuf s;
    strbuf_init(&s, why, sizeof why);
    if (!pattern_check(policy->pattern, &s)) {
        admin_fail(call, BROKER_ADMIN_INVALID,
                   "Validation failed\n\npattern should be regular expression but is invalid: %s",
                   why);
        return false;
    }
    if (policy->apply_to > CATALOG_APPLY_EXCHANGES) {
        broker_apply_to_refusal(BYTES_LITERAL("unknown"), &s);
        admin_fail(call, BROKER_ADMIN_INVALID, "%s", why);
        return false;
    }
    if (!policy_validate(policy->definition, policy->operator_policy, &s)) {
        admin_fail(call, BROKER_ADMIN_INVALID, "Validation failed\n\n%s", why);
        return false;
    }
    return true;
}

/* After all that is wrong with what is to be set, as in RabbitMQ; one whose name no vhost can have
 * is not there either. */
static bool vhost_ok(struct admin_call *call)
{
    if (call->broker->view == NULL || catalog_vhost(call->broker->view, call->vhost) != NULL) {
        return true;
    }
    translate(call, CATALOG_NO_VHOST);
    return false;
}

void broker_policy_set(struct broker *broker, const struct catalog_policy_spec *policy,
                       broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, policy->vhost, policy->name);
    if (policy->name.size == 0) {
        admin_fail(call, BROKER_ADMIN_INVALID, "policy name cannot be an empty string");
        return;
    }
    if (policy_ok(call, policy) && vhost_ok(call)) {
        struct catalog_command command = {.kind = CATALOG_PUT_POLICY};
        command.u.policy = *policy;
        admin_propose(call, &command);
    }
}

/* A policy or a parameter. No command can have a name that is empty or too long. */
static void propose_clearing(struct admin_call *call, const struct catalog_command *command)
{
    call->missing = "Parameter does not exist";
    call->missing_code = BROKER_ADMIN_NOT_FOUND;
    if (catalog_command_valid(command)) {
        admin_propose(call, command);
    } else {
        admin_fail(call, call->missing_code, "%s", call->missing);
    }
}

void broker_policy_clear(struct broker *broker, struct bytes vhost, struct bytes name,
                         bool operator_policy, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, vhost, name);
    struct catalog_command command = {.kind = CATALOG_DELETE_POLICY};
    command.u.policy.vhost = vhost;
    command.u.policy.name = name;
    command.u.policy.operator_policy = operator_policy;
    propose_clearing(call, &command);
}

/* --- limits and parameters -------------------------------------------------------------------- */

void broker_vhost_limits_set(struct broker *broker, struct bytes vhost,
                             const struct catalog_vhost_limits *limits, broker_done_fn done,
                             void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, vhost, vhost);
    struct catalog_command command = {.kind = CATALOG_SET_VHOST_LIMITS};
    command.u.vhost_limits.vhost = vhost;
    command.u.vhost_limits.limits = *limits;
    admin_propose(call, &command);
}

void broker_user_limits_set(struct broker *broker, struct bytes user,
                            const struct catalog_user_limits *limits, broker_done_fn done,
                            void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, user, BYTES_NONE, user);
    struct catalog_command command = {.kind = CATALOG_SET_USER_LIMITS};
    command.u.user_limits.user = user;
    command.u.user_limits.limits = *limits;
    admin_propose(call, &command);
}

void broker_parameter_set(struct broker *broker, struct bytes vhost, struct bytes component,
                          struct bytes name, struct bytes value, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, vhost, name);
    if (bytes_eq_cstr(component, "policy") || bytes_eq_cstr(component, "operator_policy")) {
        admin_fail(call, BROKER_ADMIN_INVALID, "policies may not be set using this method");
        return;
    }
    struct catalog_command command = {.kind = CATALOG_PUT_PARAMETER};
    command.u.parameter = (struct catalog_parameter_spec){vhost, component, name, value};
    admin_propose(call, &command);
}

void broker_parameter_clear(struct broker *broker, struct bytes vhost, struct bytes component,
                            struct bytes name, broker_done_fn done, void *ctx)
{
    struct admin_call *call = admin_new(broker, done, ctx, BYTES_NONE, vhost, name);
    if (bytes_eq_cstr(component, "policy") || bytes_eq_cstr(component, "operator_policy")) {
        admin_fail(call, BROKER_ADMIN_INVALID, "policies may not be cleared using this method");
        return;
    }
    struct catalog_command command = {.kind = CATALOG_DELETE_PARAMETER};
    command.u.parameter =
        (struct catalog_parameter_spec){.vhost = vhost, .component = component, .name = name};
    propose_clearing(call, &command);
}
