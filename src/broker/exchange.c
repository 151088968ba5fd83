/*
 * What: exchange.declare, delete, bind, unbind; queue.bind and unbind (both bind something to an
 * exchange).
 *
 * Each is: checks that need no look-up, the look-up (with one read barrier when it misses), the
 * proposal, and the look at its outcome.
 */
#include "warren/plant.h"

#include "broker_internal.h"

static const char default_refusal[] = "operation not permitted on the default exchange";

static void exchange_declare_step(struct request *r);

static void exchange_declared(struct request *r)
{
    if (request_unavailable(r)) {
        return;
    }
    if (r->status == CATALOG_OK || r->status == CATALOG_EXISTS) {
        r->looked = true; /* it is in the view: compare */
        exchange_declare_step(r);
        return;
    }
    request_fail(r, 541, true, "exchange '%.*s' in vhost '%s' could not be declared: %s",
                 FMT(r->name), r->channel->session->vhost, catalog_status_text(r->status));
}

/* What the type itself asks of the arguments. */
static bool suits_type(struct request *r)
{
    char why[300];
    struct strbuf s;
    strbuf_init(&s, why, sizeof why);
    if (exchange_type_validate(exchange_type_find(r->type), r->args, &s) != 0) {
        request_fail(r, 406, false, "%.*s", FMT(strbuf_bytes(&s)));
        return false;
    }
    return true;
}

static bool may_create(struct request *r)
{
    struct broker_session *session = r->channel->session;
    struct wire_value v;
    if (bytes_starts_with(r->name, bytes_from_cstr("amq."))) {
        request_fail(r, 403, false, "exchange name '%.*s' contains reserved prefix 'amq.*'",
                     FMT(r->name));
        return false;
    }
    if (wire_table_find(r->args, "alternate-exchange", &v)) {
        if (v.type != WIRE_FIELD_LONGSTR) {
            request_fail(
                r, 406, false,
                "invalid type '%s' for arg 'alternate-exchange' in exchange '%.*s' in vhost '%s'",
                wire_field_name(v.type), FMT(r->name), session->vhost);
            return false;
        }
        if (!auth_check(session, PERMISSION_READ, "exchange", r->name, &r->fault) ||
            !auth_check(session, PERMISSION_WRITE, "exchange", v.bytes, &r->fault)) {
            request_defer_finish(r);
            return false;
        }
    }
    return suits_type(r);
}

static void exchange_declare_step(struct request *r)
{
    struct broker_session *session = r->channel->session;
    const struct catalog_exchange *x =
        catalog_exchange(r->broker->view, session_vhost(session), r->name);
    bool passive = (r->flags & BROKER_PASSIVE) != 0;
    if (!r->looked && (x != NULL || passive)) {
        request_barrier(
            r,
            exchange_declare_step); /* what another node deleted or declared a moment ago counts */
        return;
    }
    if (x != NULL) {
        if ((!passive && !equivalent_exchange(x, r->type, r->flags, r->args, &r->fault)) ||
            !history_make(r, x)) {
            request_defer_finish(r);
        }
        return;
    }
    if (passive) {
        request_fail(r, 404, false, "no exchange '%.*s' in vhost '%s'", FMT(r->name),
                     session->vhost);
        return;
    }
    if (r->result.index != 0) { /* declared by us and gone again at once: somebody deleted it */
        request_defer_finish(r);
        return;
    }
    if (!may_create(r)) {
        return;
    }
    struct catalog_command command = {.kind = CATALOG_DECLARE_EXCHANGE};
    command.u.exchange =
        (struct catalog_exchange_spec){.vhost = session_vhost(session),
                                       .name = r->name,
                                       .type = r->type,
                                       .arguments = r->args,
                                       .durable = (r->flags & BROKER_DURABLE) != 0,
                                       .auto_delete = (r->flags & BROKER_AUTO_DELETE) != 0,
                                       .internal = (r->flags & BROKER_INTERNAL) != 0};
    request_propose(r, &command, exchange_declared);
}

void broker_exchange_declare(struct broker_channel *ch, struct bytes name, struct bytes type,
                             uint32_t flags, struct bytes args, broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->flags = flags;
    request_keep(r, name, BYTES_NONE, BYTES_NONE, args, type);
    const bool passive = (flags & BROKER_PASSIVE) != 0;
    if (!passive && exchange_type_find(type) == NULL) {
        request_fail(r, 406, false, "unknown exchange type '%.*s'", FMT(type));
        return;
    }
    if (name.size == 0) {
        request_fail(r, 403, false, "%s", default_refusal);
        return;
    }
    if (!passive) {
        if (args.size > CATALOG_ARGUMENTS_MAX) {
            request_fail(r, 406, false, "the arguments of exchange '%.*s' are too large",
                         FMT(name));
            return;
        }
        if (!auth_check(ch->session, PERMISSION_CONFIGURE, "exchange", name, &r->fault)) {
            request_defer_finish(r);
            return;
        }
    }
    exchange_declare_step(r);
}

static void exchange_deleted(struct request *r)
{
    if (request_unavailable(r)) {
        return;
    }
    if (r->status == CATALOG_IN_USE) {
        request_fail(r, 406, false, "exchange '%.*s' in vhost '%s' in use", FMT(r->name),
                     r->channel->session->vhost);
        return;
    }
    if (r->status != CATALOG_OK && r->status != CATALOG_NOT_FOUND &&
        r->status != CATALOG_NO_EXCHANGE) {
        request_fail(r, 541, true, "exchange '%.*s' in vhost '%s' could not be deleted: %s",
                     FMT(r->name), r->channel->session->vhost, catalog_status_text(r->status));
        return;
    }
    request_defer_finish(r); /* deleted, or there was none: both are fine */
}

void broker_exchange_delete(struct broker_channel *ch, struct bytes name, uint32_t flags,
                            broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    request_keep(r, name, BYTES_NONE, BYTES_NONE, BYTES_NONE, BYTES_NONE);
    if (name.size == 0) {
        request_fail(r, 403, false, "%s", default_refusal);
        return;
    }
    if (bytes_starts_with(name, bytes_from_cstr("amq."))) {
        request_fail(r, 403, false, "deletion of system exchange '%.*s' in vhost '%s' not allowed",
                     FMT(name), ch->session->vhost);
        return;
    }
    if (!auth_check(ch->session, PERMISSION_CONFIGURE, "exchange", name, &r->fault)) {
        request_defer_finish(r);
        return;
    }
    struct catalog_command command = {.kind = CATALOG_DELETE_EXCHANGE};
    command.u.delete_exchange.vhost = session_vhost(ch->session);
    command.u.delete_exchange.name = r->name;
    command.u.delete_exchange.if_unused = (flags & BROKER_IF_UNUSED) != 0;
    request_propose(r, &command, exchange_deleted);
}

/* --- bindings --------------------------------------------------------------------------------- */

enum { BIND_QUEUE = 1, BIND_EXCHANGE = 2 };

/* What is newly bound gets the exchange's history, if it has one. It may lack one that it should
 * have: its declarer died. */
static void binding_made(struct request *r)
{
    const struct catalog_exchange *x =
        r->unbind
            ? NULL
            : catalog_exchange(r->broker->view, session_vhost(r->channel->session), r->exchange);
    if (x != NULL && history_make(r, x)) {
        return;
    }
    if (x == NULL || !r->newly || !history_replay(r, r->kind == BIND_QUEUE)) {
        request_defer_finish(r);
    }
}

static void bind_step(struct request *r);

/* What a binding is identified by: its arguments in the order of their names, since clients whose
 * tables have no order would bind twice and never unbind. As given they are kept as well (`type`):
 * a binding of before it was so is found by them. */
static void keep_binding(struct request *r, struct bytes name, struct bytes exchange,
                         struct bytes key, struct bytes args)
{
    struct writer w;
    if (args.size == 0) {
        request_keep(r, name, exchange, key, args, BYTES_NONE);
        return;
    }
    writer_init(&w, args.size);
    wire_table_put_sorted(&w, args);
    const bool same = bytes_eq(writer_bytes(&w), args);
    request_keep(r, name, exchange, key, writer_bytes(&w), same ? BYTES_NONE : args);
    writer_deinit(&w);
}

static void find_as_given(const struct request *r, struct catalog_binding_spec *spec)
{
    struct catalog_binding_spec given = *spec;
    given.arguments = r->type;
    if (r->type.size > 0 && catalog_binding(r->broker->view, spec) == NULL &&
        catalog_binding(r->broker->view, &given) != NULL) {
        *spec = given;
    }
}

static void binding_done(struct request *r)
{
    if (request_unavailable(r)) {
        return;
    }
    r->sure = r->status == CATALOG_OK || r->status == CATALOG_EXISTS;
    if (r->status == CATALOG_NO_QUEUE && r->behind && !wr_planted(WR_PLANT_binding_refused)) {
        /* It was applied before its queue's declare. */
        r->behind = false;
        request_in_turn(r, bind_step);
        return;
    }
    if (r->status == CATALOG_NO_EXCHANGE && !r->unbind) {
        request_fail(r, 404, false, "no exchange '%.*s' in vhost '%s'", FMT(r->exchange),
                     r->channel->session->vhost);
    } else if (r->status == CATALOG_NO_QUEUE && !r->unbind) {
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(r->name),
                     r->channel->session->vhost);
    } else if (r->status != CATALOG_OK && !r->unbind && r->status != CATALOG_EXISTS) {
        request_fail(r, 541, true, "the binding could not be made: %s",
                     catalog_status_text(r->status));
    } else {
        binding_made(r);
    }
}

/* The destination must exist. false = the request has ended or waits. */
static bool check_destination(struct request *r)
{
    struct broker_session *session = r->channel->session;
    if (r->kind == BIND_QUEUE) {
        const struct catalog_queue *queue =
            catalog_queue(r->broker->view, session_vhost(session), r->name);
        if (queue == NULL && r->behind) {
            return true;
        }
        if (queue == NULL && !r->looked) {
            request_barrier(r, bind_step);
            return false;
        }
        if (queue == NULL && !r->unbind) {
            request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(r->name),
                         session->vhost);
            return false;
        }
        return true;
    }
    const struct catalog_exchange *x =
        catalog_exchange(r->broker->view, session_vhost(session), r->name);
    if (x == NULL && !r->looked) {
        request_barrier(r, bind_step);
        return false;
    }
    if (x == NULL && !r->unbind) {
        request_fail(r, 404, false, "no exchange '%.*s' in vhost '%s'", FMT(r->name),
                     session->vhost);
        return false;
    }
    return true;
}

static bool check_binding(struct request *r, const struct catalog_exchange *x)
{
    struct broker_session *session = r->channel->session;
    char why[300];
    struct strbuf s;
    strbuf_init(&s, why, sizeof why);
    const struct route_binding binding = {
        .key = r->key,
        .arguments = r->args,
        .queue = r->kind == BIND_QUEUE
                     ? catalog_queue(r->broker->view, session_vhost(session), r->name)
                     : NULL};
    if (!r->unbind && x->router != NULL && route_validate_binding(x->router, &binding, &s) != 0) {
        request_fail(r, 406, false, "%.*s", FMT(strbuf_bytes(&s)));
        return false;
    }
    return true;
}

/* Somebody else's exclusive queue, which is looked at last. Unbinding from it is refused only if
 * the binding exists. */
static bool check_owner(struct request *r, const struct catalog_binding_spec *spec)
{
    if (r->kind != BIND_QUEUE) {
        return true;
    }
    const struct catalog_queue *queue =
        catalog_queue(r->broker->view, spec->vhost, spec->destination);
    if (queue != NULL && (!r->unbind || catalog_binding(r->broker->view, spec) != NULL) &&
        !owner_check(r->channel->session, queue, &r->fault)) {
        request_defer_finish(r);
        return false;
    }
    return true;
}

/* A type whose bindings want nothing of the queue, and nothing to be done when they are made. */
static bool is_plain(const struct catalog_exchange *x)
{
    static const char *const types[] = {"direct", "fanout", "topic", "headers"};
    for (size_t i = 0; i < WR_ARRAY_SIZE(types); i++) {
        if (bytes_eq_cstr(x->type, types[i])) {
            return true;
        }
    }
    return false;
}

static void bind_step(struct request *r)
{
    struct broker_session *session = r->channel->session;
    const struct catalog_exchange *x =
        catalog_exchange(r->broker->view, session_vhost(session), r->exchange);
    if (x == NULL && !r->looked) {
        request_barrier(r, bind_step);
        return;
    }
    if (x == NULL) {
        if (r->unbind) {
            request_defer_finish(r);
        } else {
            request_fail(r, 404, false, "no exchange '%.*s' in vhost '%s'", FMT(r->exchange),
                         session->vhost);
        }
        return;
    }
    if (!auth_check_topic(session, PERMISSION_READ, x, r->key, &r->fault)) {
        request_defer_finish(r);
        return;
    }
    if (!check_destination(r)) {
        return;
    }
    struct catalog_command command = {.kind = r->unbind ? CATALOG_UNBIND : CATALOG_BIND};
    command.u.binding = (struct catalog_binding_spec){
        .vhost = session_vhost(session),
        .source = r->exchange,
        .destination = r->name,
        .key = r->key,
        .arguments = r->args,
        .destination_kind = r->kind == BIND_QUEUE ? CATALOG_TO_QUEUE : CATALOG_TO_EXCHANGE};
    find_as_given(r, &command.u.binding);
    r->newly = catalog_binding(r->broker->view, &command.u.binding) == NULL;
    if (check_binding(r, x) && check_owner(r, &command.u.binding)) {
        r->sure = r->unbind || is_plain(x);
        request_propose(r, &command, binding_done);
    }
}

/* What may not be written to is told before that it is the default exchange. */
static bool may_be_bound(struct broker_channel *ch, uint8_t kind, struct bytes destination,
                         struct bytes source, struct broker_fault *fault)
{
    const char *what = kind == BIND_QUEUE ? "queue" : "exchange";
    if (!auth_check(ch->session, PERMISSION_WRITE, what, destination, fault)) {
        return false;
    }
    if (source.size == 0 || (kind == BIND_EXCHANGE && destination.size == 0)) {
        fault_set(fault, 403, false, "%s", default_refusal);
        return false;
    }
    return auth_check(ch->session, PERMISSION_READ, "exchange", source, fault);
}

void broker_exchange_bind(struct broker_channel *ch, struct bytes destination, struct bytes source,
                          struct bytes key, struct bytes args, bool unbind, broker_done_fn done,
                          void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->kind = BIND_EXCHANGE;
    r->unbind = unbind;
    keep_binding(r, destination, source, key, args);
    if (args.size > CATALOG_ARGUMENTS_MAX) {
        request_fail(r, 406, false, "the arguments of the binding are too large");
    } else if (!may_be_bound(ch, r->kind, destination, source, &r->fault)) {
        request_defer_finish(r);
    } else {
        bind_step(r);
    }
}

static void queue_bind(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                       struct bytes key, struct bytes args, bool unbind, bool ahead,
                       broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->kind = BIND_QUEUE;
    r->unbind = unbind;
    r->family = unbind ? FAMILY_UNBIND : FAMILY_MAKE;
    r->behind = ahead && !unbind;
    r->ahead = ahead;
    if (queue.size == 0 && ch->has_last_queue) {
        queue = channel_last_queue(ch);
        if (key.size == 0) {
            key = queue; /* both empty: the key becomes the queue's name too */
        }
    }
    keep_binding(r, queue, exchange, key, args);
    if (queue.size == 0) {
        request_fail(r, 404, false, "no previously declared queue");
    } else if (args.size > CATALOG_ARGUMENTS_MAX) {
        request_fail(r, 406, false, "the arguments of the binding are too large");
    } else if (!may_be_bound(ch, r->kind, queue, exchange, &r->fault)) {
        request_defer_finish(r);
    } else {
        bind_step(r);
    }
}

void broker_queue_bind(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                       struct bytes key, struct bytes args, bool unbind, broker_done_fn done,
                       void *ctx)
{
    queue_bind(ch, queue, exchange, key, args, unbind, false, done, ctx);
}

/* Nothing stands against the binding, unless others change something meanwhile. */
static bool binds_for_sure(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                           struct bytes key, struct bytes args)
{
    struct broker_session *session = ch->session;
    const struct catalog_view *view = ch->broker->view;
    const struct bytes vhost = session_vhost(session);
    const struct catalog_exchange *x = catalog_exchange(view, vhost, exchange);
    const struct catalog_queue *known = catalog_queue(view, vhost, queue);
    struct broker_fault fault = {0};
    char why[300];
    struct strbuf s;
    strbuf_init(&s, why, sizeof why);
    const struct route_binding binding = {.key = key, .arguments = args, .queue = known};
    return queue.size > 0 && exchange.size > 0 && args.size <= CATALOG_ARGUMENTS_MAX && x != NULL &&
           is_plain(x) && may_be_bound(ch, BIND_QUEUE, queue, exchange, &fault) &&
           auth_check_topic(session, PERMISSION_READ, x, key, &fault) &&
           (known == NULL ? request_is_declaring(ch, queue)
                          : owner_check(session, known, &fault)) &&
           route_validate_binding(x->router, &binding, &s) == 0;
}

bool broker_queue_bind_ahead(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                             struct bytes key, struct bytes args, broker_done_fn done, void *ctx)
{
    const bool begins =
        request_may_begin_ahead(ch, FAMILY_MAKE) && binds_for_sure(ch, queue, exchange, key, args);
    if (begins) {
        queue_bind(ch, queue, exchange, key, args, false, true, done, ctx);
    }
    return begins;
}

/* What is not there any more by then was not bound: nothing is refused. */
bool broker_queue_unbind_ahead(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                               struct bytes key, struct bytes args, broker_done_fn done, void *ctx)
{
    struct broker_session *session = ch->session;
    const struct bytes vhost = session_vhost(session);
    const struct catalog_exchange *x = catalog_exchange(ch->broker->view, vhost, exchange);
    const struct catalog_queue *known = catalog_queue(ch->broker->view, vhost, queue);
    struct broker_fault fault = {0};
    const bool begins = request_may_begin_ahead(ch, FAMILY_UNBIND) && exchange.size > 0 &&
                        args.size <= CATALOG_ARGUMENTS_MAX && x != NULL && known != NULL &&
                        may_be_bound(ch, BIND_QUEUE, queue, exchange, &fault) &&
                        auth_check_topic(session, PERMISSION_READ, x, key, &fault) &&
                        owner_check(session, known, &fault);
    if (begins) {
        queue_bind(ch, queue, exchange, key, args, true, true, done, ctx);
    }
    return begins;
}
