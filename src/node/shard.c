/*
 * What: one shard: dispatches upcalls to what runs there, hands views and the boot number on, takes
 * its turn.
 *
 * Order of a turn: timers and links in, formation, host (apply, propose, log), broker
 * (completions), front ends (flush), host again when that produced ops, links out. Failure modes:
 * none of its own.
 */
#include <stdio.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "node_internal.h"

#define SHUT_NS UINT64_C(5000000000)

/* --- views and boot --------------------------------------------------------------------------- */

static void view_mail_destroy(struct mail *mail)
{
    struct node_mail_value *m = (struct node_mail_value *)(void *)mail;
    catalog_view_unref(m->pointer);
    wr_free(m);
}

static void value_mail_destroy(struct mail *mail)
{
    wr_free(mail);
}

static bool open_some(struct shard *shard, enum env_listener kind, const char *what,
                      const struct config_listeners *listeners)
{
    char errmsg[256];
    for (uint32_t i = 0; i < listeners->count; i++) {
        const struct net_addr *addr = &listeners->addrs[i];
        if (shard->env->ops->listen(shard->env, kind, addr, errmsg) != 0) {
            shard->env->ops->stop(shard->env, 1, errmsg);
            return false;
        }
        wr_log(shard->logger, LOG_LEVEL_INFO, "listener", "started %s listener on %s:%u", what,
               addr->host[0] == 0 ? "[::]" : addr->host, addr->port);
    }
    return true;
}

static void open_listeners(struct shard *shard)
{
    if (shard->listening || shard->shutting) {
        return;
    }
    shard->listening = true;
    if (open_some(shard, ENV_LISTEN_AMQP, "TCP", &shard->config->tcp)) {
        (void)open_some(shard, ENV_LISTEN_AMQPS, "TLS", &shard->config->ssl);
    }
}

static void close_listeners(struct shard *shard)
{
    shard->env->ops->unlisten(shard->env, ENV_LISTEN_AMQP);
    shard->env->ops->unlisten(shard->env, ENV_LISTEN_AMQPS);
}

static void apply_boot(struct shard *shard, uint32_t boot)
{
    if (boot == 0 && shard->boot != 0) {
        amqp_close_all(shard->amqp, "the cluster took this node for dead");
    }
    shard->boot = boot;
    if (boot != 0) {
        host_set_boot(shard->host, boot);
        broker_set_boot(shard->broker, boot);
    }
}

void shard_set_boot(struct shard *shard, uint32_t boot)
{
    for (uint32_t i = 1; i < shard->count; i++) {
        struct node_mail_value *m = node_mail_new(NODE_MAIL_BOOT, boot, NULL);
        m->mail.destroy = value_mail_destroy;
        shard->env->ops->post(shard->env, i, &m->mail);
    }
    apply_boot(shard, boot);
    if (boot != 0) {
        open_listeners(shard);
    } else {
        close_listeners(shard);
        shard->listening = false;
    }
}

static void apply_view(struct shard *shard, struct catalog_view *owned, uint64_t index)
{
    struct catalog_view *old = shard->view;
    shard->view = owned;
    if (shard->number != 0) {
        host_set_view(shard->host, owned);
    }
    broker_set_view(shard->broker, owned, index);
    catalog_view_unref(old);
    links_update_peers(shard);
}

void shard_set_view(struct shard *shard, struct catalog_view *owned_ref, uint64_t index)
{
    for (uint32_t i = 1; i < shard->count; i++) {
        struct node_mail_value *m =
            node_mail_new(NODE_MAIL_VIEW, index, catalog_view_ref(owned_ref));
        m->mail.destroy = view_mail_destroy;
        shard->env->ops->post(shard->env, i, &m->mail);
    }
    host_set_view(shard->host, owned_ref);
    apply_view(shard, owned_ref, index);
    formation_on_view(shard);
}

/* --- upcalls of the host ---------------------------------------------------------------------- */

static void on_catalog_view(void *ctx, struct catalog_view *owned_view_ref, uint64_t index)
{
    shard_set_view(ctx, owned_view_ref, index);
}

static void on_catalog_leader(void *ctx, bool leading)
{
    struct shard *shard = ctx;
    wr_log(shard->logger, LOG_LEVEL_INFO, "catalog",
           leading ? "this node leads the catalog" : "this node no longer leads the catalog");
    placement_on_leader(shard, leading);
}

static void on_queue_dead(void *ctx, uint64_t queue_id)
{
    struct shard *shard = ctx;
    broker_queue_dead(shard->broker, queue_id);
}

static void on_queue_unused(void *ctx, uint64_t queue_id)
{
    struct shard *shard = ctx;
    broker_queue_unused(shard->broker, queue_id);
}

static void on_replica_divergent(void *ctx, uint64_t queue_id, struct uid member)
{
    placement_drop_replica(ctx, queue_id, member);
}

static void on_letter(void *ctx, struct uid node, uint32_t from, const struct host_letter *letter)
{
    struct shard *shard = ctx;
    broker_on_letter(shard->broker, node, from, letter);
}

static void transport_send(void *ctx, struct parcel *owned)
{
    links_send(ctx, owned);
}

static size_t transport_backlog(void *ctx, struct uid node)
{
    return links_backlog(ctx, node);
}

struct host_transport shard_transport(struct shard *shard)
{
    return (struct host_transport){
        .send = transport_send, .backlog = transport_backlog, .ctx = shard};
}

void shard_connect_host(struct shard *shard)
{
    struct host_sink sink = {.on_catalog_view = on_catalog_view,
                             .on_catalog_leader = on_catalog_leader,
                             .on_queue_unused = on_queue_unused,
                             .on_queue_dead = on_queue_dead,
                             .on_replica_divergent = on_replica_divergent,
                             .on_letter = on_letter,
                             .ctx = shard};
    host_set_sink(shard->host, &sink);
}

/* --- shutting down ---------------------------------------------------------------------------- */

static void shut_clients(struct shard *shard)
{
    shard->shutting = true;
    shard->shut_deadline_ns = shard->env->ops->mono_ns(shard->env) + SHUT_NS;
    amqp_close_all(shard->amqp, "shutdown");
    host_transfer_leaders_away(shard->host);
}

void shard_start_shutdown(struct shard *shard, const char *why)
{
    if (shard->shutting) {
        return;
    }
    WR_ASSERT(shard->number == 0);
    wr_log(shard->logger, LOG_LEVEL_INFO, "node", "shutting down: %s", why);
    close_listeners(shard);
    for (uint32_t i = 1; i < shard->count; i++) {
        struct node_mail_value *m = node_mail_new(NODE_MAIL_SHUT, 0, NULL);
        m->mail.destroy = value_mail_destroy;
        shard->env->ops->post(shard->env, i, &m->mail);
    }
    shut_clients(shard);
}

static bool is_quiet(const struct shard *shard, uint64_t now)
{
    return now >= shard->shut_deadline_ns || amqp_connections(shard->amqp) == 0;
}

static void shutdown_turn(struct shard *shard)
{
    uint64_t now = shard->env->ops->mono_ns(shard->env);
    if (!shard->shutting || shard->shut_told || !is_quiet(shard, now)) {
        return;
    }
    if (shard->number != 0) {
        struct node_mail_value *m = node_mail_new(NODE_MAIL_SHUT, 1, NULL);
        m->mail.destroy = value_mail_destroy;
        shard->shut_told = true;
        shard->env->ops->post(shard->env, 0, &m->mail);
    } else if (shard->shut_answers + 1 == shard->count) {
        shard->shut_told = true;
        shard->env->ops->stop(shard->env, 0, "orderly shutdown is complete");
    }
}

static void on_shut_mail(struct shard *shard, bool answer)
{
    if (answer) {
        shard->shut_answers++;
    } else {
        shut_clients(shard);
    }
}

/* --- upcalls of the env ----------------------------------------------------------------------- */

static void on_accept(void *ctx, struct env_conn *conn, enum env_listener kind,
                      const struct net_addr *peer, const struct net_addr *local)
{
    struct shard *shard = ctx;
    if (kind == ENV_LISTEN_CLUSTER) {
        link_conn_accept(shard, conn, peer);
    } else if (shard->boot == 0 || shard->shutting) {
        /* between two boots: amqp must not see it, and its upcalls have nowhere to go: it gets a
         * link's tag-less end */
        shard->env->ops->conn_set_user(conn, NULL);
        shard->env->ops->conn_close(conn, false, 0);
    } else {
        amqp_accept(shard->amqp, conn, peer, local);
    }
}

static uint32_t tag_of(const void *user)
{
    return user == NULL ? 0 : *(const uint32_t *)user;
}

static void on_connected(void *ctx, struct env_conn *conn, int error)
{
    struct shard *shard = ctx;
    link_conn_connected(shard->env->ops->conn_user(conn), error);
}

static void on_bytes(void *ctx, struct env_conn *conn, const uint8_t *data, size_t size)
{
    struct shard *shard = ctx;
    void *user = shard->env->ops->conn_user(conn);
    if (WR_LIKELY(tag_of(user) == CONN_AMQP)) {
        amqp_on_bytes(shard->amqp, user, data, size);
    } else if (tag_of(user) == CONN_LINK) {
        link_conn_bytes(user, data, size);
    }
}

static void on_drained(void *ctx, struct env_conn *conn)
{
    struct shard *shard = ctx;
    void *user = shard->env->ops->conn_user(conn);
    if (tag_of(user) == CONN_AMQP) {
        amqp_on_drained(shard->amqp, user);
    }
}

static void on_closed(void *ctx, struct env_conn *conn, int error)
{
    struct shard *shard = ctx;
    void *user = shard->env->ops->conn_user(conn);
    if (tag_of(user) == CONN_AMQP) {
        amqp_on_closed(shard->amqp, user, error);
    } else if (tag_of(user) == CONN_LINK) {
        link_conn_closed(user, error);
    }
}

static void on_moved(void *ctx, struct env_conn *conn, void *user)
{
    link_conn_moved(ctx, conn, user);
}

static void on_mail(void *ctx, struct mail *owned)
{
    struct shard *shard = ctx;
    struct node_mail_value *m = (struct node_mail_value *)(void *)owned;
    switch (owned->kind) {
    case NODE_MAIL_PARCEL:
        host_on_parcel(shard->host, m->pointer);
        break;
    case NODE_MAIL_VIEW:
        apply_view(shard, m->pointer, m->number);
        break;
    case NODE_MAIL_BOOT:
        apply_boot(shard, (uint32_t)m->number);
        break;
    case NODE_MAIL_SHUT:
        on_shut_mail(shard, m->number != 0);
        break;
    case NODE_MAIL_ALARM:
        shard->alarm.memory_high = m->number != 0;
        break;
    case NODE_MAIL_QUERY:
        control_on_query(shard, owned);
        return;
    default:
        if (!host_on_mail(shard->host, owned)) {
            WR_UNREACHABLE();
        }
        return;
    }
    wr_free(m);
}

static void on_file(void *ctx, uint64_t token, int64_t result)
{
    struct shard *shard = ctx;
    if (!log_reader_on_file(shard->reader, token, result)) {
        (void)host_on_file(shard->host, token, result);
    }
}

static void on_kv(void *ctx, uint64_t token, int result, void *reply)
{
    struct shard *shard = ctx;
    if (!host_on_kv(shard->host, token, result, reply)) {
        kv_reply_free(reply);
    }
}

static void on_exec(void *ctx, uint64_t token, int result)
{
    alarm_on_exec(ctx, token, result);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void turn(void *ctx)
{
    struct shard *shard = ctx;
    links_turn(shard);
    if (shard->number == 0) {
        formation_turn(shard);
        placement_turn(shard);
    }
    host_turn(shard->host);
    alarm_turn(shard);
    broker_turn(shard->broker);
    amqp_turn(shard->amqp);
    shutdown_turn(shard);
    host_turn(shard->host); /* what completions and acks of this turn produced goes out now, not
                               with the next input */
    broker_turn(shard->broker);
    amqp_turn(shard->amqp);
    if (shard->number == 0) {
        control_turn(shard); /* after the hosts: they may have brought what a request waits for */
    }
    links_flush(shard);
    uint64_t next = least(least(host_deadline_ns(shard->host), broker_deadline_ns(shard->broker)),
                          least(amqp_deadline_ns(shard->amqp), links_deadline_ns(shard)));
    if (shard->number == 0) {
        next = least(next, least(least(formation_deadline_ns(shard), placement_deadline_ns(shard)),
                                 least(control_deadline_ns(shard), alarm_deadline_ns(shard))));
    }
    if (shard->shutting && !shard->shut_told) {
        next = least(next, shard->shut_deadline_ns);
    }
    shard->env->ops->wake_at(shard->env, next);
}

const struct env_sink shard_sink = {
    .on_accept = on_accept,
    .on_connected = on_connected,
    .on_bytes = on_bytes,
    .on_drained = on_drained,
    .on_closed = on_closed,
    .on_moved = on_moved,
    .on_mail = on_mail,
    .on_file = on_file,
    .on_kv = on_kv,
    .on_exec = on_exec,
    .turn = turn,
};
