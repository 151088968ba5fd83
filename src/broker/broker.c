/*
 * What: the broker of one shard: views, deferred completions, queues that must be deleted,
 * sessions.
 *
 * Happy path: front ends call; work that can be answered at once is put off to broker_turn (no
 * completion runs inside the call that started it); work that needs the cluster waits in a struct
 * request. Failure modes: a proposal without a leader fails its request with 541 after the time
 * limit; queues that must go are proposed again until the catalog no longer has them.
 *
 * Invariants: I1 view_index never falls. I2 a request ends exactly once. Threads: the shard's.
 */
#include <stdarg.h>
#include <stdio.h>

#include "broker_internal.h"

uint64_t broker_now_ms(const struct broker *broker)
{
    return broker->env->ops->mono_ns(broker->env) / 1000000;
}

void fault_set(struct broker_fault *fault, uint16_t code, bool connection, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(fault->text, sizeof fault->text, fmt, args);
    va_end(args);
    fault->code = code;
    fault->connection = connection;
}

/* A prefix and 22 characters that hold 132 random bits in URL-safe base64, as RabbitMQ names what
 * it names. */
void broker_make_name(struct broker *broker, const char *prefix, char out[BROKER_NAME_SIZE])
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint8_t random[22];
    size_t n = strlen(prefix);
    WR_ASSERT_OP(n + sizeof random, <, BROKER_NAME_SIZE);
    broker->env->ops->random_secret(broker->env, random, sizeof random);
    memcpy(out, prefix, n);
    for (size_t i = 0; i < sizeof random; i++) {
        out[n + i] = digits[random[i] & 63];
    }
    out[n + sizeof random] = 0;
}

struct broker *broker_new(struct env *env, struct host *host, const struct broker_options *options)
{
    struct broker *broker = wr_calloc(1, sizeof *broker);
    broker->env = env;
    broker->host = host;
    broker->options = *options;
    broker->logger = options->logger;
    prng_init(&broker->prng, options->seed);
    broker->hash = (struct hash_seed){prng_u64(&broker->prng), prng_u64(&broker->prng)};
    broker->next_session = 1;
    timers_init(&broker->timers, broker_now_ms(broker));
    route_result_init(&broker->route);
    umap_init(&broker->reply_consumers, broker->hash);
    umap_init(&broker->probes, broker->hash);
    list_init(&broker->sessions);
    umap_init(&broker->session_ids, broker->hash);
    list_init(&broker->ending);
    list_init(&broker->deletions);
    umap_init(&broker->deleting, broker->hash);
    list_init(&broker->orphans);
    list_init(&broker->unblocked);
    list_init(&broker->yielding);
    list_init(&broker->view_waits);
    list_init(&broker->abandoned);
    list_init(&broker->dead_workers);
    list_init(&broker->dead_dirty);
    list_init(&broker->pages);
    list_init(&broker->pages_done);
    list_init(&broker->admin);
    list_init(&broker->seats);
    return broker;
}

static void free_session_list(struct list *sessions)
{
    LIST_FOREACH_SAFE(link, sessions) {
        struct broker_session *session = WR_CONTAINER_OF(link, struct broker_session, link);
        list_remove(&session->link);
        slice_unref(&session->client_properties);
        session_free_tls(session);
        umap_deinit(&session->exclusive);
        wr_free(session);
    }
}

void broker_free(struct broker *broker)
{
    if (broker == NULL) {
        return;
    }
    WR_ASSERT(list_is_empty(&broker->sessions)); /* the front ends are freed first */
    dead_workers_free(broker);
    pages_free(broker);
    timers_deinit(&broker->timers); /* before what the timers lie in */
    for (size_t i = 0; i < broker->deferred.count; i++) {
        broker->deferred.items[i].request->channel = NULL;
        request_finish(broker->deferred.items[i].request);
    }
    vec_deinit(&broker->deferred);
    LIST_FOREACH_SAFE(link, &broker->abandoned) {
        request_finish(WR_CONTAINER_OF(link, struct request, link));
    }
    LIST_FOREACH_SAFE(link, &broker->deletions) {
        wr_free(WR_CONTAINER_OF(link, struct deletion, link));
    }
    LIST_FOREACH_SAFE(link, &broker->orphans) {
        wr_free(WR_CONTAINER_OF(link, struct orphan, link));
    }
    free_session_list(&broker->ending);
    umap_deinit(&broker->session_ids);
    umap_deinit(&broker->deleting);
    admin_free_all(broker);
    seat_free_all(broker);
    route_result_deinit(&broker->route);
    vec_deinit(&broker->extra_keys);
    pattern_cache_deinit(&broker->patterns);
    vec_deinit(&broker->reply_to);
    umap_deinit(&broker->reply_consumers);
    umap_deinit(&broker->probes);
    catalog_view_unref(broker->view);
    wr_free(broker);
}

void broker_set_boot(struct broker *broker, uint32_t boot)
{
    broker->boot = boot;
}

void broker_defer(struct broker *broker, void (*run)(struct request *request),
                  struct request *request)
{
    vec_push(&broker->deferred, ((struct deferred){run, request}));
}

static void deletion_step(struct deletion *d);
static void orphan_step(struct broker *broker, struct orphan *orphan);

/* Exclusive queues of this shard's connections. A declaration is proposed until its outcome is
 * heard: it may be applied after its connection has ended, or once more after it was answered and
 * what it had made, or what had been in its way, was deleted. */
static void on_queue_diff(void *ctx, const struct catalog_queue *before,
                          const struct catalog_queue *after)
{
    struct broker *broker = ctx;
    const struct catalog_queue *any = after != NULL ? after : before;
    const uint64_t owner = any->spec.owner.connection;
    if ((before != NULL && after != NULL) || !any->spec.exclusive || broker->boot == 0 ||
        any->spec.owner.boot != broker->boot ||
        owner >> SESSION_SHARD_SHIFT != broker->options.shard) {
        return;
    }
    struct broker_session *session = umap_get(&broker->session_ids, owner);
    if (after == NULL && session != NULL) {
        (void)umap_remove(&session->exclusive, before->id);
    } else if (after != NULL && session != NULL) {
        (void)umap_put(&session->exclusive, after->id, session);
    } else if (after != NULL) {
        broker_delete_queue(broker, after->id, NULL);
    }
}

void broker_set_view(struct broker *broker, struct catalog_view *view, uint64_t index)
{
    struct catalog_view *old = broker->view;
    broker->view = catalog_view_ref(view);
    broker->view_serial = catalog_view_serial(view);
    broker->view_index = index;
    catalog_diff_queues(old, view, on_queue_diff, broker);
    catalog_view_unref(old);
    LIST_FOREACH_SAFE(link, &broker->view_waits) {
        struct request *request = WR_CONTAINER_OF(link, struct request, wait_link);
        if (request->wait_index <= index) {
            list_remove(&request->wait_link);
            broker_defer(broker, request->step, request);
        }
    }
    LIST_FOREACH_SAFE(link, &broker->orphans) {
        orphan_step(broker, WR_CONTAINER_OF(link, struct orphan, link));
    }
    LIST_FOREACH_SAFE(link, &broker->deletions) {
        deletion_step(WR_CONTAINER_OF(link, struct deletion, link));
    }
    if (broker->access_serial != catalog_access_serial(view)) {
        broker->access_serial = catalog_access_serial(view);
        sessions_check_access(broker);
    }
}

static void alarms_over(struct broker_session *session)
{
    LIST_FOREACH(link, &session->channels) {
        struct broker_channel *ch = WR_CONTAINER_OF(link, struct broker_channel, link);
        ch->alarmed = false;
        channel_check_blocked(ch);
    }
}

void broker_set_alarms(struct broker *broker, uint32_t alarms)
{
    bool over = alarms == 0 && broker->alarms != 0;
    broker->alarms = alarms; /* of new ones the channels hear as they publish */
    if (over) {
        LIST_FOREACH(at, &broker->sessions) {
            alarms_over(WR_CONTAINER_OF(at, struct broker_session, link));
        }
    }
}

uint32_t broker_alarms(const struct broker *broker)
{
    return broker->alarms;
}

static void tell_unblocked(struct broker *broker)
{
    struct list *link;
    struct list work; /* who gets tired again waits for the next turn */
    list_init(&work);
    list_splice_back(&work, &broker->unblocked);
    while ((link = list_pop_front(&work)) != NULL) {
        struct broker_channel *ch = WR_CONTAINER_OF(link, struct broker_channel, unblock_link);
        ch->tired = false;
        if (!channel_is_blocked(ch) && ch->told_blocked) {
            ch->told_blocked = false;
            ch->sink->on_blocked(ch->ctx, false);
        }
    }
}

static void yielding_go_on(struct broker *broker)
{
    struct list *link;
    while ((link = list_pop_front(&broker->yielding)) != NULL) {
        consumers_go_on(WR_CONTAINER_OF(link, struct broker_channel, yield_link));
    }
}

void broker_turn(struct broker *broker)
{
    broker->turn++;
    broker->extra = 0;
    (void)timers_run(&broker->timers, broker_now_ms(broker));
    tell_unblocked(broker);
    yielding_go_on(broker);
    /* What is deferred meanwhile runs in the same turn; every completion answers one method, so
     * this ends with the input. */
    size_t at = 0;
    while (at < broker->deferred.count) {
        struct deferred d = broker->deferred.items[at++];
        if (d.request->channel == NULL) {
            request_finish(d.request); /* closed meanwhile: nobody is told */
        } else {
            d.run(d.request);
        }
    }
    vec_clear(&broker->deferred);
    dead_workers_turn(broker);
    pages_turn(broker);
    admin_turn(broker);
}

uint64_t broker_deadline_ns(const struct broker *broker)
{
    if (broker->deferred.count > 0 || !list_is_empty(&broker->unblocked) ||
        !list_is_empty(&broker->yielding) || !list_is_empty(&broker->dead_dirty) ||
        !list_is_empty(&broker->pages_done) || admin_is_due(broker)) {
        return 0;
    }
    uint64_t next = timers_next_deadline(&broker->timers);
    return next == TIMER_NO_DEADLINE ? UINT64_MAX : next * 1000000;
}

/* --- queues that must go ---------------------------------------------------------------------- */

static void deletion_end(struct deletion *d)
{
    struct broker_session *session = d->session;
    timer_cancel(&d->broker->timers, &d->retry);
    list_remove(&d->link);
    if (umap_get(&d->broker->deleting, d->queue_id) == d) {
        (void)umap_remove(&d->broker->deleting, d->queue_id);
    }
    wr_free(d);
    if (session != NULL) {
        session_deleted(session);
    }
}

static void on_deletion_retry(struct timer *t)
{
    deletion_step(WR_CONTAINER_OF(t, struct deletion, retry));
}

static void on_deleted(void *ctx, int status, const struct catalog_result *result)
{
    struct deletion *d = ctx;
    (void)result;
    d->proposed = false;
    if (status < 0 ||
        (d->broker->view != NULL && catalog_queue_by_id(d->broker->view, d->queue_id) != NULL)) {
        /* No leader, or this shard's view lags behind: the next view or the timer looks again. */
        timer_add(&d->broker->timers, &d->retry, broker_now_ms(d->broker) + DELETE_RETRY_MS,
                  on_deletion_retry);
        return;
    }
    deletion_step(d);
}

/* Ends when the view no longer has the queue; otherwise sees to it that a proposal is under way. */
static void deletion_step(struct deletion *d)
{
    if (d->proposed) {
        return;
    }
    if (d->broker->view == NULL || catalog_queue_by_id(d->broker->view, d->queue_id) == NULL) {
        deletion_end(d);
        return;
    }
    if (timer_is_pending(&d->retry)) {
        return; /* it will look again */
    }
    struct catalog_command command = {.kind = CATALOG_DELETE_QUEUE};
    command.u.delete_queue.id = d->queue_id;
    d->proposed = true;
    host_catalog_propose(d->broker->host, &command, d->broker->options.operation_timeout_ms,
                         on_deleted, d);
}

static void on_first_step(struct timer *t)
{
    deletion_step(WR_CONTAINER_OF(t, struct deletion, retry));
}

void broker_delete_queue(struct broker *broker, uint64_t queue_id, struct broker_session *session)
{
    if (session == NULL && umap_get(&broker->deleting, queue_id) != NULL) {
        return; /* on its way */
    }
    struct deletion *d = wr_calloc(1, sizeof *d);
    d->broker = broker;
    d->queue_id = queue_id;
    d->session = session;
    timer_init(&d->retry);
    list_push_back(&broker->deletions, &d->link);
    (void)umap_put(&broker->deleting, queue_id, d);
    timer_add(&broker->timers, &d->retry, broker_now_ms(broker), on_first_step);
}

/* --- exclusive queues of connections that go on, of which nobody knows whether they were made
 * --------------------------------------------------------------------------- */

static void orphan_step(struct broker *broker, struct orphan *orphan)
{
    const struct catalog_queue *queue =
        catalog_queue(broker->view, bytes_from_cstr(orphan->vhost), bytes_from_cstr(orphan->name));
    bool found = queue != NULL && queue->spec.exclusive && queue->spec.owner.boot == broker->boot &&
                 queue->spec.owner.connection == orphan->connection;
    if (found) {
        broker_delete_queue(broker, queue->id, NULL);
    }
    if (found || broker_now_ms(broker) >= orphan->until_ms) {
        list_remove(&orphan->link);
        wr_free(orphan);
    }
}

void broker_watch_orphan(struct broker_session *session, struct bytes name)
{
    struct broker *broker = session->broker;
    struct orphan *orphan = wr_calloc(1, sizeof *orphan);
    WR_ASSERT_OP(name.size, <, sizeof orphan->name);
    orphan->connection = session->id;
    orphan->until_ms = broker_now_ms(broker) + ORPHAN_MS;
    memcpy(orphan->vhost, session->vhost, sizeof orphan->vhost);
    memcpy(orphan->name, name.data, name.size);
    list_push_back(&broker->orphans, &orphan->link);
    orphan_step(broker, orphan);
}

void broker_queue_unused(struct broker *broker, uint64_t queue_id)
{
    broker_delete_queue(broker, queue_id, NULL);
}

bool broker_close_connection(struct broker *broker, uint64_t id, const char *reason)
{
    struct broker_session *session = umap_get(&broker->session_ids, id);
    if (session == NULL) {
        return false;
    }
    session_force_close(session, reason);
    return true;
}
