/*
 * What: sessions (client connections): opening, closing with their exclusive queues, and channels'
 * life.
 *
 * Invariant: a session that closes stays in broker->ending until its exclusive queues are gone
 * cluster-wide and its seat is given back, or the time limit has passed; both are done anyway,
 * however long it takes (broker.c, deletions; seat.c).
 */
#include <stdio.h>

#include "broker_internal.h"

#include "warren/plant.h"

#define SESSION_CLOSE_MS 10000u

struct bytes session_vhost(const struct broker_session *session)
{
    return bytes_from_cstr(session->vhost);
}

struct bytes session_user(const struct broker_session *session)
{
    return bytes_from_cstr(session->user);
}

static bool copy(char *out, size_t capacity, struct bytes text)
{
    if (text.size >= capacity) {
        return false;
    }
    if (text.size > 0) {
        memcpy(out, text.data, text.size);
    }
    out[text.size] = 0;
    return true;
}

static bool may_open(struct broker *broker, const struct broker_session_info *info,
                     struct broker_fault *fault)
{
    if (broker->view == NULL || catalog_vhost(broker->view, info->vhost) == NULL) {
        fault_set(fault, 530, true, "vhost %.*s not found", FMT(info->vhost));
        return false;
    }
    if (!seat_may_open(broker, info->vhost, info->user, fault)) {
        return false;
    }
    if (catalog_permission(broker->view, info->user, info->vhost) == NULL) {
        fault_set(fault, 530, true, "access to vhost '%.*s' refused for user '%.*s'",
                  FMT(info->vhost), FMT(info->user));
        return false;
    }
    return true;
}

static struct env_tls *tls_copy(const struct env_tls *tls)
{
    struct env_tls *copied = wr_alloc(sizeof *copied);
    *copied = *tls;
    (void)slice_ref(&tls->subject);
    (void)slice_ref(&tls->issuer);
    (void)slice_ref(&tls->validity);
    (void)slice_ref(&tls->login);
    return copied;
}

void session_free_tls(struct broker_session *session)
{
    struct env_tls *tls = session->tls;
    if (tls != NULL) {
        env_tls_deinit(tls);
        wr_free(tls);
    }
}

struct broker_session *broker_session_open(struct broker *broker,
                                           const struct broker_session_info *info,
                                           void (*on_close)(void *ctx, const char *reason),
                                           void *ctx, struct broker_fault *fault)
{
    if (!may_open(broker, info, fault)) {
        return NULL;
    }
    struct broker_session *session = wr_calloc(1, sizeof *session);
    session->broker = broker;
    session->id = ((uint64_t)broker->options.shard << SESSION_SHARD_SHIFT) | broker->next_session++;
    if (!copy(session->vhost, sizeof session->vhost, info->vhost) ||
        !copy(session->user, sizeof session->user, info->user) ||
        !copy(session->provided_name, sizeof session->provided_name, info->provided_name)) {
        WR_UNREACHABLE(); /* shortstr and checked names: at most 255 bytes */
    }
    session->peer = info->peer;
    session->local = info->local;
    (void)snprintf(session->name, sizeof session->name, "%s:%u -> %s:%u", info->peer.host,
                   info->peer.port, info->local.host, info->local.port);
    (void)snprintf(session->auth_mechanism, sizeof session->auth_mechanism, "%s",
                   info->auth_mechanism);
    session->protocol = info->protocol;
    session->tls = info->tls != NULL ? tls_copy(info->tls) : NULL;
    session->client_properties =
        slice_copy(info->client_properties.data, info->client_properties.size);
    if (!wire_table_get_string(bytes_from_slice(&session->client_properties), "x-publisher-id",
                               &session->publisher) ||
        session->publisher.size > NAME_MAX_SIZE) {
        session->publisher = BYTES_NONE;
    }
    session->channel_max = info->channel_max;
    session->frame_max = info->frame_max;
    session->heartbeat_s = info->heartbeat_s;
    session->connected_ms = broker->env->ops->wall_ms(broker->env);
    session->state = "running";
    session->on_close = on_close;
    session->ctx = ctx;
    list_init(&session->channels);
    umap_init(&session->exclusive, broker->hash);
    timer_init(&session->timeout);
    timer_init(&session->ready_timer);
    session->vhost_id = catalog_vhost(broker->view, info->vhost)->id;
    session->user_created = catalog_user(broker->view, info->user)->created;
    list_push_back(&broker->sessions, &session->link);
    (void)umap_put(&broker->session_ids, session->id, session);
    seat_update(session);
    session->opened = true;
    return session;
}

static void session_end(struct broker_session *session)
{
    void (*done)(void *ctx) = session->done;
    void *ctx = session->done_ctx;
    timer_cancel(&session->broker->timers, &session->timeout);
    session->done = NULL;
    if (session->deletions == 0) {
        list_remove(&session->link);
        slice_unref(&session->client_properties);
        session_free_tls(session);
        umap_deinit(&session->exclusive);
        wr_free(session);
    }
    if (done != NULL) {
        done(ctx);
    }
}

static void on_close_timeout(struct timer *t)
{
    session_end(
        WR_CONTAINER_OF(t, struct broker_session, timeout)); /* tells; the deletions go on */
}

void session_deleted(struct broker_session *session)
{
    WR_ASSERT(session->deletions > 0);
    if (--session->deletions == 0) {
        session_end(session);
    }
}

void broker_session_leave(struct broker_session *session)
{
    LIST_FOREACH(link, &session->channels) {
        consumers_take_no_more(WR_CONTAINER_OF(link, struct broker_channel, link));
    }
}

void broker_session_close(struct broker_session *session, void (*done)(void *ctx), void *ctx)
{
    struct broker *broker = session->broker;
    struct list *link;
    session->on_ready = NULL;
    timer_cancel(&broker->timers, &session->ready_timer);
    const bool seated = seat_end(session);
    while ((link = list_first(&session->channels)) != NULL) {
        broker_channel_close(WR_CONTAINER_OF(link, struct broker_channel, link));
    }
    session->done = done;
    session->done_ctx = ctx;
    list_remove(&session->link);
    (void)umap_remove(&broker->session_ids, session->id);
    list_push_back(&broker->ending, &session->link);
    uint64_t wait_ms = seated ? SEAT_WAIT_MS : 0;
    struct umap_iter it = umap_iterate(&session->exclusive);
    while (!wr_planted(WR_PLANT_exclusive_survives) && umap_next(&it)) {
        wait_ms = SESSION_CLOSE_MS;
        session->deletions++;
        broker_delete_queue(broker, it.key, session);
    }
    /* Also when there is nothing to delete: done never runs inside this call. */
    timer_add(&broker->timers, &session->timeout, broker_now_ms(broker) + wait_ms,
              on_close_timeout);
}

void session_force_close(struct broker_session *session, const char *reason)
{
    if (!session->told_close) {
        session->told_close = true;
        session->on_close(session->ctx, reason);
    }
}

void sessions_check_access(struct broker *broker)
{
    LIST_FOREACH_SAFE(link, &broker->sessions) {
        struct broker_session *session = WR_CONTAINER_OF(link, struct broker_session, link);
        const struct catalog_vhost *vhost = catalog_vhost(broker->view, session_vhost(session));
        const struct catalog_user *user = catalog_user(broker->view, session_user(session));
        char reason[300];
        if (vhost == NULL || vhost->id != session->vhost_id) {
            (void)snprintf(reason, sizeof reason, "vhost '%s' is deleted", session->vhost);
            session_force_close(session, reason);
        } else if (user == NULL || user->created != session->user_created) {
            (void)snprintf(reason, sizeof reason, "user '%s' is deleted", session->user);
            session_force_close(session, reason);
        } else {
            seat_update(session);
        }
    }
}

bool broker_session_update_secret(struct broker_session *session, struct bytes secret,
                                  struct broker_fault *fault)
{
    const struct broker *broker = session->broker;
    (void)
        secret; /* the internal users' passwords do not expire: as RabbitMQ, it is not looked at */
    if (catalog_user(broker->view, session_user(session)) == NULL) {
        fault_set(fault, 530, true, "New secret was refused by one of the backends");
        return false;
    }
    if (catalog_permission(broker->view, session_user(session), session_vhost(session)) == NULL) {
        fault_set(fault, 530, true, "access to vhost '%s' refused for user '%s'", session->vhost,
                  session->user);
        return false;
    }
    return true;
}

void broker_session_count(struct broker_session *session, uint64_t recv_bytes, uint64_t send_bytes,
                          const char *state)
{
    session->recv_bytes = recv_bytes;
    session->send_bytes = send_bytes;
    session->state = state;
}

/* --- channels --------------------------------------------------------------------------------- */

bool broker_channel_may_open(struct broker_session *session, struct broker_fault *fault)
{
    return seat_may_open_channel(session, fault);
}

struct broker_channel *broker_channel_open(struct broker_session *session, uint16_t number,
                                           const struct broker_channel_sink *sink, void *ctx)
{
    struct broker_channel *ch = wr_calloc(1, sizeof *ch);
    ch->broker = session->broker;
    ch->session = session;
    ch->sink = sink;
    ch->ctx = ctx;
    ch->number = number;
    list_init(&ch->unblock_link);
    list_init(&ch->yield_link);
    list_init(&ch->stopped);
    timer_init(&ch->overdue);
    umap_init(&ch->by_handle, session->broker->hash);
    umap_init(&ch->by_id, session->broker->hash);
    umap_init(&ch->multi, session->broker->hash);
    umap_init(&ch->nacked, session->broker->hash);
    map_init(&ch->consumers, session->broker->hash);
    list_init(&ch->requests);
    list_init(&ch->death_waits);
    list_push_back(&session->channels, &ch->link);
    seat_update(session);
    return ch;
}

void broker_channel_close(struct broker_channel *ch)
{
    struct list *link;
    ch->closed = true;
    while ((link = list_first(&ch->requests)) != NULL) {
        request_abandon(WR_CONTAINER_OF(link, struct request, link));
    }
    struct umap_iter it = umap_iterate(&ch->by_id);
    while (umap_next(&it)) {
        ch_queue_close(it.value);
    }
    timer_cancel(&ch->broker->timers, &ch->overdue);
    tx_free(ch);
    reply_close(ch);
    channel_free_slots(ch);
    list_remove(&ch->link);
    list_remove(&ch->unblock_link);
    list_remove(&ch->yield_link);
    umap_deinit(&ch->by_handle);
    umap_deinit(&ch->by_id);
    umap_deinit(&ch->multi);
    umap_deinit(&ch->nacked);
    map_deinit(&ch->consumers);
    struct broker_session *session = ch->session;
    wr_free(ch);
    seat_update(session);
}

void broker_channel_hold(struct broker_channel *ch, bool hold)
{
    ch->held = hold;
    ch->held_bytes = 0;
    if (!hold) {
        reply_resume(ch);
        deliver_resume(ch);
    }
    struct map_iter it = map_iterate(&ch->consumers);
    while (map_next(&it)) {
        struct consumer *c = it.value;
        if (!hold) {
            consumer_renew(c);
        } else if (c->window_bytes > WINDOW_BYTES_LEAST) {
            c->window_bytes /= 2;
        }
    }
}
