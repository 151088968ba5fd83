/*
 * What: queue.declare, purge, delete.
 *
 * Declaring: checks -> look-up (one read barrier on a miss of a passive declare) -> proposal with
 * the placement decided here -> the view -> equivalence with what is there now -> counts from the
 * queue's leader. Many may be under way on one channel (broker_queue_declare_ahead). Deleting: the
 * queue machine is sealed first (that decides if-unused and if-empty atomically and gives the
 * count), then the catalog forgets it. Who finds it gone looks again.
 */
#include "broker_internal.h"

#define REPORT_MS 5000u
#define SEALED_MS 20u

static void declare_step(struct request *r);

/* --- counts ----------------------------------------------------------------------------------- */

static void on_sealed_wait(struct timer *t)
{
    struct request *r = WR_CONTAINER_OF(t, struct request, timeout);
    if (r->channel == NULL) {
        request_finish(r);
    } else {
        declare_step(r);
    }
}

/* What it found does not count: the queue is gone, or soon will be. */
static void forget_found(struct request *r)
{
    r->fault = (struct broker_fault){0};
    r->result.index = 0;
    r->created = false;
}

/* The queue's node does not have it: deleted there already, before this shard's view said so, or
 * not made there yet. */
static void after_not_found(struct request *r)
{
    const struct catalog_queue *queue =
        catalog_queue(r->broker->view, session_vhost(r->channel->session), r->name);
    if (queue != NULL && queue->id == r->queue_id) {
        request_defer_finish(r);
        return;
    }
    forget_found(r);
    declare_step(r);
}

static void on_report(void *ctx, uint64_t queue_id, const struct queue_report *report)
{
    struct request *r = ctx;
    (void)queue_id;
    if (r->channel == NULL) {
        request_finish(r);
        return;
    }
    if (report->error == 0 && report->sealed) {
        if ((r->flags & BROKER_PASSIVE) != 0) {
            request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(r->name),
                         r->channel->session->vhost);
        } else { /* on its way out: declared anew once it is gone */
            forget_found(r);
            timer_add(&r->broker->timers, &r->timeout, broker_now_ms(r->broker) + SEALED_MS,
                      on_sealed_wait);
        }
        return;
    }
    if (report->error == WR_E_NOTFOUND) {
        request_barrier(r, after_not_found);
        return;
    }
    if (report->error == 0) {
        r->count = report->totals.ready;
        r->consumers = report->totals.consumers;
    } /* a queue without a leader can be declared all the same: its counts are then not known */
    request_defer_finish(r); /* what it is refused for, if it is, is in its fault */
}

static void finish_declared(struct request *r, const struct catalog_queue *queue)
{
    struct broker_channel *ch = r->channel;
    r->is_last = true;
    if (r->created) { /* nothing can be in it; its leader need not be found yet */
        request_defer_finish(r);
        return;
    }
    r->queue_id = queue->id;
    /* It goes when nobody uses it for a while; being declared again is use, on classic queues. */
    if (queue->spec.type == CATALOG_CLASSIC && queue->settings.expires_ms != UINT64_MAX) {
        (void)queue_client_touch(ch_queue_open(ch, queue)->client);
    }
    host_queue_report(r->broker->host, queue->id, QUEUE_REPORT_TOTALS, REPORT_MS, on_report, r);
}

/* --- declare ---------------------------------------------------------------------------------- */

static void set_limit_fault(struct request *r)
{
    const struct catalog_vhost *vhost =
        catalog_vhost(r->broker->view, session_vhost(r->channel->session));
    fault_set(&r->fault, 406, false,
              "cannot declare queue '%.*s': queue limit in vhost '%s' (%lld) is reached",
              FMT(r->name), r->channel->session->vhost,
              vhost == NULL ? -1 : (long long)vhost->limits.queues_max);
}

static void declared(struct request *r)
{
    if (request_unavailable(r)) {
        return;
    }
    if (r->status == CATALOG_OK || r->status == CATALOG_EXISTS) {
        r->looked = true;
        r->created = r->status == CATALOG_OK;
        r->sure = r->created;
        declare_step(r);
        return;
    }
    if (r->status == CATALOG_LIMIT) {
        set_limit_fault(r);
        request_defer_finish(r);
        return;
    }
    request_fail(r, 541, true, "queue '%.*s' in vhost '%s' could not be declared: %s", FMT(r->name),
                 r->channel->session->vhost, catalog_status_text(r->status));
}

/* Only the catalog knows how many queues there will be when it comes to this one. */
static bool has_limit(const struct broker_session *session)
{
    const struct catalog_vhost *vhost =
        catalog_vhost(session->broker->view, session_vhost(session));
    return vhost == NULL || vhost->limits.queues_max >= 0;
}

static void propose_queue(struct request *r, uint8_t type)
{
    struct broker *broker = r->broker;
    struct broker_session *session = r->channel->session;
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    bool exclusive = (r->flags & BROKER_EXCLUSIVE) != 0;
    struct catalog_command command = {.kind = CATALOG_DECLARE_QUEUE};
    struct catalog_queue_spec *spec = &command.u.queue;
    *spec = (struct catalog_queue_spec){.vhost = session_vhost(session),
                                        .name = r->name,
                                        .arguments = r->args,
                                        .type = type,
                                        .durable = (r->flags & BROKER_DURABLE) != 0 && !exclusive,
                                        .exclusive = exclusive,
                                        .auto_delete = (r->flags & BROKER_AUTO_DELETE) != 0};
    r->made_exclusive = exclusive;
    if (exclusive) {
        spec->owner.boot = broker->boot;
        spec->owner.connection = session->id;
    }
    if (spec->durable) {
        spec->run = CATALOG_RUN_GROUP;
        queue_place_group(r, spec, members);
        if (spec->group.member_count == 0) {
            request_fail(r, 541, true, "no node can take a replica of queue '%.*s'", FMT(r->name));
            return;
        }
    } else {
        spec->run = CATALOG_RUN_LOCAL;
        spec->local.node = broker->options.node_id;
        spec->local.boot = broker->boot;
        spec->local.shard = broker->options.shard;
    }
    r->sure = !has_limit(session);
    request_propose(r, &command, declared);
}

/* Permissions on where dead letters go are looked at before the arguments. */
static bool may_declare_new(struct broker_session *session, struct bytes name, struct bytes args,
                            uint32_t flags, uint8_t *ret_type, struct broker_fault *fault)
{
    struct bytes letters;
    const bool dies = wire_table_get_string(args, "x-dead-letter-exchange", &letters);
    return (!dies || (auth_check(session, PERMISSION_READ, "queue", name, fault) &&
                      auth_check(session, PERMISSION_WRITE, "exchange", letters, fault))) &&
           args_check_queue(session_vhost(session), name, args, flags, ret_type, fault);
}

/* Of a limit that is reached and something else the limit is told. Whether it is reached is for the
 * catalog to say; but when the queue cannot be made anyhow our view will do. */
static void tell_limit_first(struct request *r)
{
    const struct catalog_vhost *vhost =
        catalog_vhost(r->broker->view, session_vhost(r->channel->session));
    if (vhost != NULL && vhost->limits.queues_max >= 0 &&
        pmap_count(vhost->queues) >= (uint64_t)vhost->limits.queues_max) {
        set_limit_fault(r);
    }
}

/* From here on the session answers for its deletion. */
static void note_exclusive(struct request *r, const struct catalog_queue *queue)
{
    struct broker_session *session = r->channel->session;
    if (queue->spec.exclusive) { /* and ours: checked */
        (void)umap_put(&session->exclusive, queue->id, session);
    }
    r->made_exclusive = false;
}

static void declare_step(struct request *r)
{
    struct broker_session *session = r->channel->session;
    const struct catalog_queue *queue =
        catalog_queue(r->broker->view, session_vhost(session), r->name);
    bool passive = (r->flags & BROKER_PASSIVE) != 0;
    uint8_t type = CATALOG_CLASSIC;
    if (!r->looked && (queue != NULL || passive)) {
        request_barrier(
            r, declare_step); /* what another node deleted or declared a moment ago counts */
        return;
    }
    if (queue != NULL) {
        bool ok = passive ? owner_check(session, queue, &r->fault)
                          : equivalent_queue(session, queue, r->flags, r->args, &r->fault);
        if (!ok && !passive && r->fault.code == 406) {
            /* It may have lost its last consumer and be on its way out: then nothing speaks against
             * declaring another one, and whoever has heard of its end counts on that. */
            r->queue_id = queue->id;
            host_queue_report(r->broker->host, queue->id, QUEUE_REPORT_TOTALS, REPORT_MS, on_report,
                              r);
            return;
        }
        if (!ok) {
            request_defer_finish(r);
            return;
        }
        note_exclusive(r, queue);
        finish_declared(r, queue);
        return;
    }
    if (r->created) { /* and gone again: it expires at once, or somebody has deleted it */
        r->made_exclusive = false;
        r->is_last = true;
        request_defer_finish(r);
        return;
    }
    if (passive ||
        r->result.index != 0) { /* the latter: there when it was declared, and deleted since */
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(r->name), session->vhost);
        return;
    }
    if (!may_declare_new(session, r->name, r->args, r->flags, &type, &r->fault)) {
        tell_limit_first(r);
        request_defer_finish(r);
        return;
    }
    propose_queue(r, type);
}

/* Arguments without x-queue-type get the vhost's default, where a queue with these properties can
 * be of that type. `w` holds the result. */
static struct bytes with_default_type(const struct broker_channel *ch, uint32_t flags,
                                      struct bytes args, struct writer *w)
{
    const struct catalog_vhost *vhost =
        ch->broker->view == NULL ? NULL
                                 : catalog_vhost(ch->broker->view, session_vhost(ch->session));
    struct wire_value v;
    const uint32_t transient = BROKER_PASSIVE | BROKER_EXCLUSIVE | BROKER_AUTO_DELETE;
    if (vhost == NULL || vhost->default_queue_type.size == 0 ||
        wire_table_find(args, "x-queue-type", &v)) {
        return args;
    }
    const bool classic = bytes_eq_cstr(vhost->default_queue_type, "classic");
    if ((flags & BROKER_PASSIVE) != 0 ||
        (!classic && ((flags & transient) != 0 || (flags & BROKER_DURABLE) == 0))) {
        return args;
    }
    put_view(w, args);
    wire_table_put_string(w, "x-queue-type", vhost->default_queue_type);
    return writer_bytes(w);
}

static bool is_reserved(struct bytes name)
{
    return bytes_starts_with(name, bytes_from_cstr("amq."));
}

static void declare(struct broker_channel *ch, struct bytes name, uint32_t flags, struct bytes args,
                    bool ahead, broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->declares = true;
    r->family = FAMILY_MAKE;
    r->ahead = ahead;
    char generated[64];
    uint8_t type = CATALOG_CLASSIC;
    bool passive = (flags & BROKER_PASSIVE) != 0;
    r->flags = flags;
    bool generate = name.size == 0 && !passive;
    bool bad_type =
        generate && (!args_queue_type(session_vhost(ch->session), name, args, &type, &r->fault) ||
                     type != CATALOG_CLASSIC);
    if (generate) {
        broker_make_name(ch->broker, "amq.gen-", generated);
        name = bytes_from_cstr(generated);
        r->generated = true;
    }
    request_keep(r, name, BYTES_NONE, BYTES_NONE, args, BYTES_NONE);
    if (bad_type && r->fault.code != 0) {
        request_defer_finish(r);
    } else if (bad_type) {
        request_fail(r, 406, false,
                     "Cannot declare a server-named queue for type rabbit_quorum_queue");
    } else if (name.size == 0) { /* here, alone, it does not stand for the last one declared */
        request_fail(r, 404, false, "no queue '' in vhost '%s'", ch->session->vhost);
    } else if (reply_is_queue(name)) {
        reply_declare(r);
    } else if (!passive && !generate && is_reserved(name)) {
        request_fail(r, 403, false, "queue name '%.*s' contains reserved prefix 'amq.*'",
                     FMT(name));
    } else if (args.size > CATALOG_ARGUMENTS_MAX) {
        request_fail(r, 406, false, "the arguments of queue '%.*s' are too large", FMT(name));
    } else if (!passive &&
               !auth_check(ch->session, PERMISSION_CONFIGURE, "queue", name, &r->fault)) {
        request_defer_finish(r);
    } else {
        declare_step(r);
    }
}

void broker_queue_declare(struct broker_channel *ch, struct bytes name, uint32_t flags,
                          struct bytes args, broker_done_fn done, void *ctx)
{
    struct writer w;
    writer_init(&w, 64);
    declare(ch, name, flags, with_default_type(ch, flags, args, &w), false, done, ctx);
    writer_deinit(&w);
}

/* A new queue for sure, unless somebody else makes it meanwhile. */
static bool declares_new(struct broker_channel *ch, struct bytes name, uint32_t flags,
                         struct bytes args)
{
    struct broker_session *session = ch->session;
    struct broker_fault fault = {0};
    uint8_t type = CATALOG_CLASSIC;
    return name.size > 0 && (flags & BROKER_PASSIVE) == 0 && !reply_is_queue(name) &&
           !is_reserved(name) && args.size <= CATALOG_ARGUMENTS_MAX &&
           auth_check(session, PERMISSION_CONFIGURE, "queue", name, &fault) &&
           catalog_queue(ch->broker->view, session_vhost(session), name) == NULL &&
           !has_limit(session) && !request_is_declaring(ch, name) &&
           may_declare_new(session, name, args, flags, &type, &fault);
}

bool broker_queue_declare_ahead(struct broker_channel *ch, struct bytes name, uint32_t flags,
                                struct bytes args, broker_done_fn done, void *ctx)
{
    bool begins = request_may_begin_ahead(ch, FAMILY_MAKE);
    if (begins) {
        struct writer w;
        writer_init(&w, 64);
        struct bytes all = with_default_type(ch, flags, args, &w);
        begins = declares_new(ch, name, flags, all);
        if (begins) {
            declare(ch, name, flags, all, true, done, ctx);
        }
        writer_deinit(&w);
    }
    return begins;
}

/* --- purge ------------------------------------------------------------------------------------ */

static void on_purged(struct request *r, enum queue_status status, uint64_t value, uint64_t value2)
{
    (void)value2;
    if (status != QUEUE_OK) { /* it is being deleted */
        request_fail(r, 404, false, "no queue '%.*s' in vhost '%s'", FMT(request_queue_name(r)),
                     r->channel->session->vhost);
        return;
    }
    r->count = value;
    request_finish(r);
}

static void purge_step(struct request *r)
{
    const struct catalog_queue *queue = request_find_queue(r, purge_step);
    if (queue == NULL) {
        return;
    }
    struct ch_queue *q = ch_queue_open(r->channel, queue);
    request_await_reply(r, q, queue_client_purge(q->client), on_purged);
}

void broker_queue_purge(struct broker_channel *ch, struct bytes queue, broker_done_fn done,
                        void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    request_keep(r, queue, BYTES_NONE, BYTES_NONE, BYTES_NONE, BYTES_NONE);
    purge_step(r);
}

/* --- delete ----------------------------------------------------------------------------------- */

static void delete_step(struct request *r);

static void on_catalog_deleted(struct request *r)
{
    if (request_unavailable(r)) {
        return;
    }
    (void)umap_remove(&r->channel->session->exclusive, r->queue_id);
    if (r->status == CATALOG_NOT_FOUND && !r->sealed) {
        /* Deleted by somebody else, maybe long ago: our view was behind. By now another queue may
         * have the name, and whoever asks may know that one. */
        r->looked = true;
        delete_step(r);
        return;
    }
    request_defer_finish(r);
}

static void propose_delete(struct request *r)
{
    struct catalog_command command = {.kind = CATALOG_DELETE_QUEUE};
    command.u.delete_queue.id = r->queue_id;
    request_propose(r, &command, on_catalog_deleted);
}

static void on_sealed(struct request *r, enum queue_status status, uint64_t value, uint64_t value2)
{
    (void)value2;
    const bool not_empty = /* which is told when it is in use, too */
        status == QUEUE_NOT_EMPTY ||
        (status == QUEUE_IN_USE && (r->flags & BROKER_IF_EMPTY) != 0 && value > 0);
    if (status == QUEUE_IN_USE && !not_empty) {
        request_fail(r, 406, false, "queue '%.*s' in vhost '%s' in use", FMT(request_queue_name(r)),
                     r->channel->session->vhost);
    } else if (not_empty) {
        request_fail(r, 406, false, "queue '%.*s' in vhost '%s' not empty",
                     FMT(request_queue_name(r)), r->channel->session->vhost);
    } else {
        r->sealed = status == QUEUE_OK;
        r->count = r->sealed ? value : 0;
        propose_delete(r);
    }
}

static void delete_step(struct request *r)
{
    struct broker_channel *ch = r->channel;
    struct bytes vhost = session_vhost(ch->session);
    struct bytes name = r->name.size == 0 && ch->has_last_queue ? channel_last_queue(ch) : r->name;
    if (name.size == 0) {
        request_fail(r, 404, false, "no previously declared queue");
        return;
    }
    if (!auth_check(ch->session, PERMISSION_CONFIGURE, "queue", name, &r->fault)) {
        request_defer_finish(r);
        return;
    }
    const struct catalog_queue *queue = catalog_queue(r->broker->view, vhost, name);
    if (queue == NULL && !r->looked) {
        request_barrier(r, delete_step);
        return;
    }
    if (queue == NULL) { /* deleting what does not exist is fine */
        request_defer_finish(r);
        return;
    }
    if (!owner_check(ch->session, queue, &r->fault)) {
        request_defer_finish(r);
        return;
    }
    if (queue->spec.type == CATALOG_QUORUM &&
        (r->flags & (BROKER_IF_UNUSED | BROKER_IF_EMPTY)) != 0) {
        request_fail(r, 540, true,
                     "cannot delete queue '%.*s' in vhost '%.*s'. queue.delete operations with %s "
                     "flag set are not supported by "
                     "quorum queues",
                     FMT(name), FMT(vhost),
                     (r->flags & BROKER_IF_UNUSED) != 0 ? "if-unused" : "if-empty");
        return;
    }
    r->queue_id = queue->id;
    uint8_t flags = (uint8_t)(((r->flags & BROKER_IF_UNUSED) != 0 ? QUEUE_IF_UNUSED : 0) |
                              ((r->flags & BROKER_IF_EMPTY) != 0 ? QUEUE_IF_EMPTY : 0));
    struct ch_queue *q = ch_queue_open(ch, queue);
    r->sure = r->flags == 0;
    request_await_reply(r, q, queue_client_seal(q->client, flags), on_sealed);
}

static void delete_queue(struct broker_channel *ch, struct bytes queue, uint32_t flags, bool ahead,
                         broker_done_fn done, void *ctx)
{
    struct request *r = request_new(ch, done, ctx);
    r->flags = flags;
    r->family = FAMILY_DELETE;
    r->ahead = ahead;
    request_keep(r, queue, BYTES_NONE, BYTES_NONE, BYTES_NONE, BYTES_NONE);
    delete_step(r);
}

void broker_queue_delete(struct broker_channel *ch, struct bytes queue, uint32_t flags,
                         broker_done_fn done, void *ctx)
{
    delete_queue(ch, queue, flags, false, done, ctx);
}

/* The channel's own consumers hear of the end behind delete-ok: that is for one at a time. */
static bool consumes_from(const struct broker_channel *ch, uint64_t queue_id)
{
    const struct ch_queue *q = umap_get(&ch->by_id, queue_id);
    for (size_t i = 1; q != NULL && i < q->consumers.count; i++) {
        if (q->consumers.items[i] != NULL) {
            return true;
        }
    }
    return false;
}

bool broker_queue_delete_ahead(struct broker_channel *ch, struct bytes name, uint32_t flags,
                               broker_done_fn done, void *ctx)
{
    struct broker_fault fault = {0};
    const struct catalog_queue *queue =
        catalog_queue(ch->broker->view, session_vhost(ch->session), name);
    const bool begins = flags == 0 && request_may_begin_ahead(ch, FAMILY_DELETE) && queue != NULL &&
                        !request_names(ch, name) && !consumes_from(ch, queue->id) &&
                        auth_check(ch->session, PERMISSION_CONFIGURE, "queue", name, &fault) &&
                        owner_check(ch->session, queue, &fault);
    if (begins) {
        delete_queue(ch, name, flags, true, done, ctx);
    }
    return begins;
}
