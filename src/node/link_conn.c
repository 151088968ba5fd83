/*
 * What: one connection on the cluster port: feeds its session, answers pings, hands frames to whom
 * they are for.
 *
 * Happy path: accepted on shard 0 -> handshake -> moved to the shard that matches the peer's shard
 * -> parcels. Failure modes: a failed handshake or a damaged frame is logged once with the peer's
 * address and the connection is closed; nothing else is disturbed.
 *
 * Ownership: a link_conn lives from accept/connect to on_closed. Threads: the shard that holds it.
 */
#include <stdio.h>
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "node_internal.h"

#define LINK_TAKE_MAX 64
#define PING_SIZE     8u
/* The flags of a pong are alarms: their numbers are frozen. */
#define PONG_ALARMS        (BROKER_ALARM_DISK | BROKER_ALARM_MEMORY)
#define LINK_STRANGERS_MAX 512u /* incoming connections that have not proved anything yet */

static const char *on_ready(void *ctx, const struct link_identity *peer);
static void on_frame(void *ctx, uint8_t type, const struct slice *payload);

static const struct link_sink session_sink = {.on_ready = on_ready, .on_frame = on_frame};

static struct link_conn *link_new(struct shard *shard, bool incoming)
{
    struct link_conn *link = wr_calloc(1, sizeof *link);
    const struct config *config = shard->config;
    struct link_identity own = {.node_id = node_id_of(shard->node),
                                .cluster_id = node_cluster_id(shard),
                                .cluster_port = config->cluster_listener.port,
                                .kind = LINK_KIND_NODE,
                                .shard = shard->number,
                                .shard_count = shard->count};
    (void)snprintf(own.name, sizeof own.name, "%s", config->nodename);
    (void)snprintf(own.host, sizeof own.host, "%s", node_host(shard->node));
    own.amqp_port = config->tcp.count > 0 ? config->tcp.addrs[0].port : 0;
    uint8_t nonce[32];
    shard->env->ops->random_secret(shard->env, nonce, sizeof nonce);
    link->tag = CONN_LINK;
    link->incoming = incoming;
    link->shard = shard;
    outq_init(&link->out);
    link->session = link_session_new(!incoming, bytes_from_cstr(config->cookie), &own, nonce,
                                     &link->out, &session_sink, link);
    link->accepted_ns = shard->env->ops->mono_ns(shard->env);
    list_push_back(&shard->links.conns, &link->link);
    return link;
}

static void link_free(struct link_conn *link)
{
    list_remove(&link->link);
    link_session_free(link->session);
    outq_deinit(&link->out);
    wr_free(link);
}

static uint32_t count_strangers(const struct shard *shard)
{
    uint32_t n = 0;
    LIST_FOREACH(at, &shard->links.conns) {
        const struct link_conn *link = WR_CONTAINER_OF_CONST(at, struct link_conn, link);
        n += link->incoming && !link_session_is_ready(link->session);
    }
    return n;
}

void link_conn_accept(struct shard *shard, struct env_conn *conn, const struct net_addr *remote)
{
    if (count_strangers(shard) >= LINK_STRANGERS_MAX) {
        shard->env->ops->conn_set_user(conn, NULL);
        shard->env->ops->conn_close(conn, false, 0);
        return;
    }
    struct link_conn *link = link_new(shard, true);
    link->conn = conn;
    link->remote = *remote;
    shard->env->ops->conn_set_user(conn, link);
}

void link_conn_moved(struct shard *shard, struct env_conn *conn, struct link_conn *link)
{
    link->shard = shard;
    link->conn = conn;
    list_push_back(&shard->links.conns, &link->link);
    shard->links.somebody_came = true;
}

struct link_conn *link_conn_connect(struct shard *shard, struct peer *peer)
{
    struct link_conn *link = link_new(shard, false);
    link->peer = peer;
    link->remote = peer->addr;
    link->conn = shard->env->ops->connect(shard->env, &peer->addr, link);
    return link;
}

void link_conn_close(struct link_conn *link)
{
    if (!link->closing) {
        link->closing = true;
        link_conn_flush(link);
        link->shard->env->ops->conn_close(link->conn, true, 1000);
    }
}

void link_conn_flush(struct link_conn *link)
{
    struct slice pieces[LINK_TAKE_MAX];
    link->dirty = false;
    for (;;) {
        int n = outq_take(&link->out, pieces, LINK_TAKE_MAX);
        if (n == 0) {
            return;
        }
        for (int i = 0; i < n; i++) {
            link->bytes_given += pieces[i].size;
        }
        link->shard->env->ops->conn_send(link->conn, pieces, (uint32_t)n);
    }
}

void link_conn_send(struct link_conn *link, uint8_t type, struct bytes payload)
{
    if (!link->closing) {
        link_session_send_bytes(link->session, type, payload);
        link->dirty = true;
    }
}

void link_conn_connected(struct link_conn *link, int error)
{
    if (error != 0) {
        peer_connect_failed(link->peer, link->shard, error);
        link_free(link);
        return;
    }
    link_session_start(link->session);
    link->dirty = true;
}

static const char *on_ready(void *ctx, const struct link_identity *peer)
{
    struct link_conn *link = ctx;
    struct shard *shard = link->shard;
    if (!link->incoming) {
        return peer_ready(link->peer, shard, peer);
    }
    if (peer->kind == LINK_KIND_NODE && peer->shard % shard->count != shard->number) {
        link->move_pending = true; /* once WELCOME is out, see links_turn */
        shard->env->ops->conn_pause(link->conn, true);
    } else if (peer->kind == LINK_KIND_NODE) {
        shard->links.somebody_came = true;
    }
    return NULL;
}

static void on_parcel(struct link_conn *link, const struct slice *payload)
{
    const struct link_identity *peer = link_session_peer(link->session);
    struct reader r = reader_make(slice_data(payload), payload->size);
    struct parcel *parcel = parcel_new();
    parcel->kind = rd_u8(&r);
    parcel->priority = rd_u8(&r);
    parcel->to_shard = rd_le32(&r);
    parcel->from_shard = rd_le32(&r);
    parcel->group = rd_le64(&r);
    if (r.failed || peer->kind != LINK_KIND_NODE) {
        parcel_free(parcel);
        return;
    }
    parcel->from_node = peer->node_id;
    parcel->to_node = node_id_of(link->shard->node);
    struct slice body =
        slice_sub(payload, payload->size - (uint32_t)rd_left(&r), (uint32_t)rd_left(&r));
    if (body.size > 0) {
        parcel->slices = wr_alloc(sizeof *parcel->slices);
        parcel->slices[0] = slice_ref(&body);
        parcel->slice_count = 1;
    }
    parcel_arrived(link->shard, parcel);
}

/* The ping's bytes, and a byte of flags: how this node is. */
static void send_pong(struct link_conn *link, struct bytes ping)
{
    uint8_t pong[PING_SIZE + 1];
    if (ping.size != PING_SIZE) {
        link_conn_send(link, LINK_PONG, ping);
        return;
    }
    memcpy(pong, ping.data, PING_SIZE);
    pong[PING_SIZE] = (uint8_t)alarm_own(link->shard);
    link_conn_send(link, LINK_PONG, bytes_make(pong, sizeof pong));
}

static void on_frame(void *ctx, uint8_t type, const struct slice *payload)
{
    struct link_conn *link = ctx;
    struct bytes bytes = bytes_from_slice(payload);
    const struct link_identity *peer = link_session_peer(link->session);
    switch (type) {
    case LINK_PING:
        send_pong(link, bytes);
        break;
    case LINK_PONG:
        if (link->peer != NULL) {
            link->peer->heard_ns = link->shard->env->ops->mono_ns(link->shard->env);
            link->peer->ping_end = 0;
            link->peer->alarms = bytes.size > PING_SIZE ? bytes.data[PING_SIZE] & PONG_ALARMS : 0;
        }
        break;
    case LINK_PARCEL:
        on_parcel(link, payload);
        break;
    case LINK_CONTROL:
        if (link->shard->number == 0 && peer->kind == LINK_KIND_NODE) {
            formation_on_control(link->shard, link, bytes);
        }
        break;
    case LINK_REQUEST:
        /* Not while it is on its way to another shard: an answer would not find it there. */
        if (link->incoming && link->shard->number == 0 && !link->move_pending) {
            control_request(link->shard, link, bytes);
        }
        break;
    case LINK_REPLY:
        if (!link->incoming && link->shard->number == 0) {
            control_on_reply(link->shard, bytes);
        }
        break;
    default: /* a newer peer's frame: of no use to us, harmless */
        break;
    }
}

void link_conn_bytes(struct link_conn *link, const uint8_t *data, size_t size)
{
    if (link->closing) {
        return;
    }
    int rc = link_session_feed(link->session, data, size);
    link->dirty = true;
    if (rc != 0) {
        if (link->peer == NULL || !link->peer->complained) {
            wr_log(link->shard->logger, LOG_LEVEL_ERROR, "link",
                   "%s %s port=%u: %s; connection closed", link->incoming ? "peer" : "to",
                   link->remote.host, link->remote.port, link_session_error(link->session));
        }
        if (link->peer != NULL) {
            link->peer->complained = true;
        }
        link_conn_close(link);
    }
}

void link_conn_closed(struct link_conn *link, int error)
{
    if (link->peer != NULL) {
        peer_lost(link->peer, link->shard, error);
    } else if (link->shard->number == 0) {
        control_link_closed(link->shard, link);
    }
    link_free(link);
}
