/*
 * What: the links of one shard: one outgoing connection to every other node, over which this
 * shard's parcels go; liveness.
 *
 * Each shard of each node keeps its own outgoing link to the matching shard of every peer; parcels
 * towards us come over the peer's outgoing link. So no two ends ever negotiate which connection to
 * keep, and order holds per pair of shards.
 *
 * Happy path: connect -> handshake -> peer_ready (host_node_up) -> parcels and a ping every PING_NS
 * that the peer answers. Failure modes: connection closed -> host_node_lost at once (elections
 * start); connect refused, or no sign of life for the liveness timeout -> host_node_down (its
 * consumers' messages are returned). Reconnecting backs off from 20 ms to 1 s.
 *
 * Invariants: I1 up and lost alternate per peer. I2 down is reported once per loss. I3 a parcel for
 * an unknown or unconnected node is dropped, as a lost packet would be: the hosts repeat what
 * matters when the node is up again.
 */
#include <stdio.h>
#include <string.h>

#include "warren/err.h"
#include "warren/mem.h"

#include "node_internal.h"

#define PING_NS        UINT64_C(100000000)
#define BACKOFF_MIN_MS 20u
#define BACKOFF_MAX_MS 1000u
#define HANDSHAKE_NS   UINT64_C(5000000000)
#define STALL_NS       UINT64_C(300000000)
#define PARCEL_HEADER  18u

struct node_mail_value *node_mail_new(uint32_t kind, uint64_t number, void *pointer)
{
    struct node_mail_value *m = wr_calloc(1, sizeof *m);
    m->mail.kind = kind;
    m->number = number;
    m->pointer = pointer;
    return m;
}

void links_init(struct shard *shard)
{
    list_init(&shard->links.conns);
    list_init(&shard->links.peers);
}

void links_deinit(struct shard *shard)
{
    LIST_FOREACH_SAFE(at, &shard->links.conns) {
        struct link_conn *link = WR_CONTAINER_OF(at, struct link_conn, link);
        list_remove(&link->link);
        link_session_free(link->session);
        outq_deinit(&link->out);
        wr_free(link);
    }
    LIST_FOREACH_SAFE(at, &shard->links.peers) {
        list_remove(at);
        wr_free(WR_CONTAINER_OF(at, struct peer, link));
    }
}

static uint64_t now_ns(const struct shard *shard)
{
    return shard->env->ops->mono_ns(shard->env);
}

/* --- peers ------------------------------------------------------------------------------------ */

struct peer *links_peer(struct shard *shard, struct uid node)
{
    LIST_FOREACH(at, &shard->links.peers) {
        struct peer *peer = WR_CONTAINER_OF(at, struct peer, link);
        if (uid_eq(peer->node_id, node)) {
            return peer;
        }
    }
    return NULL;
}

/* certain: of the catalog; two of them may follow each other under one name, so only the identity
 * counts. */
static struct peer *peer_by_name(struct shard *shard, const char *name, bool certain)
{
    LIST_FOREACH(at, &shard->links.peers) {
        struct peer *peer = WR_CONTAINER_OF(at, struct peer, link);
        if (strcmp(peer->name, name) == 0 && (certain || !peer->certain)) {
            return peer;
        }
    }
    return NULL;
}

static void peer_want(struct shard *shard, struct uid node_id, const char *name,
                      const struct net_addr *addr)
{
    bool certain = !uid_is_zero(node_id);
    struct peer *peer = certain ? links_peer(shard, node_id) : peer_by_name(shard, name, true);
    if (peer == NULL && certain) {
        peer = peer_by_name(shard, name, false);
        if (peer != NULL && !uid_is_zero(peer->node_id)) {
            peer = NULL; /* who answered there so far is somebody else */
        }
    }
    if (peer == NULL) {
        peer = wr_calloc(1, sizeof *peer);
        (void)snprintf(peer->name, sizeof peer->name, "%s", name);
        peer->backoff_ms = BACKOFF_MIN_MS;
        peer->lost_ns = now_ns(shard);
        list_push_back(&shard->links.peers, &peer->link);
    }
    if (certain) {
        peer->node_id = node_id;
        peer->certain = true;
    }
    peer->addr = *addr;
    peer->wanted = true;
}

/* Closes what is not wanted any more, and forgets it once its connection is gone. */
static void drop_unwanted(struct shard *shard)
{
    LIST_FOREACH_SAFE(at, &shard->links.peers) {
        struct peer *peer = WR_CONTAINER_OF(at, struct peer, link);
        if (peer->wanted) {
            continue;
        }
        if (peer->conn != NULL) {
            link_conn_close(peer->conn);
            continue;
        }
        if (!uid_is_zero(peer->node_id) && !peer->reported_down) {
            host_node_down(shard->host, peer->node_id);
        }
        list_remove(&peer->link);
        wr_free(peer);
    }
}

/* A member that is newer than what this node knows of the catalog has a link to us, and needs one
 * back: its leader's entries are what we would learn of it from, and our answers to them travel on
 * ours. One that has just started may not know its cluster yet when it comes: it looks blank, and a
 * link to a node that is blank does no harm. */
static void want_those_who_came(struct shard *shard)
{
    const struct uid cluster = node_cluster_id(shard);
    LIST_FOREACH(at, &shard->links.conns) {
        const struct link_conn *link = WR_CONTAINER_OF(at, struct link_conn, link);
        const struct link_identity *id = link_session_peer(link->session);
        if (link->incoming && !link->closing && !link->move_pending &&
            link_session_is_ready(link->session) && id->kind == LINK_KIND_NODE &&
            !uid_is_zero(cluster) &&
            (uid_is_zero(id->cluster_id) || uid_eq(id->cluster_id, cluster)) &&
            !uid_eq(id->node_id, node_id_of(shard->node))) {
            const struct peer *known = links_peer(shard, id->node_id);
            if (known == NULL || !known->wanted) {
                struct net_addr addr = {.port = id->cluster_port};
                (void)snprintf(addr.host, sizeof addr.host, "%s", id->host);
                peer_want(shard, id->node_id, id->name, &addr);
            }
        }
    }
}

void links_update_peers(struct shard *shard)
{
    shard->links.somebody_came = false;
    LIST_FOREACH(at, &shard->links.peers) {
        WR_CONTAINER_OF(at, struct peer, link)->wanted = false;
    }
    const struct uid own = node_id_of(shard->node);
    if (shard->view != NULL) {
        const struct catalog_node *nodes[CATALOG_NODES_MAX];
        uint32_t count = catalog_nodes(shard->view, nodes);
        for (uint32_t i = 0; i < count; i++) {
            const struct catalog_node_info *info = &nodes[i]->info;
            if (!uid_eq(info->id, own)) {
                struct net_addr addr = {.port = info->cluster_port};
                char name[256];
                (void)snprintf(addr.host, sizeof addr.host, "%.*s", (int)info->host.size,
                               (const char *)info->host.data);
                (void)snprintf(name, sizeof name, "%.*s", (int)info->name.size,
                               (const char *)info->name.data);
                peer_want(shard, info->id, name, &addr);
            }
        }
    }
    if (shard->number == 0 && (!formation_is_member(shard) || shard->view == NULL ||
                               uid_is_zero(catalog_cluster_id(shard->view)))) {
        for (uint32_t i = 0; i < shard->config->peer_count; i++) {
            const struct config_peer *peer = &shard->config->peers[i];
            if (strcmp(peer->name, shard->config->nodename) != 0) {
                peer_want(shard, (struct uid){0, 0}, peer->name, &peer->addr);
            }
        }
    }
    want_those_who_came(shard);
    drop_unwanted(shard);
}

const char *peer_ready(struct peer *peer, struct shard *shard, const struct link_identity *identity)
{
    bool changed = !uid_is_zero(peer->node_id) && !uid_eq(peer->node_id, identity->node_id);
    if (changed && peer->certain) {
        return "another node than the catalog knows answers at this address (was its data "
               "directory replaced?)";
    }
    if (!peer->certain && strcmp(peer->name, identity->name) != 0) {
        return "another name than the configuration's answers at this address";
    }
    if (changed && !peer->reported_down) {
        host_node_down(shard->host, peer->node_id); /* nobody will hear of that one again */
    }
    struct peer *known = links_peer(shard, identity->node_id);
    if (known != NULL && known != peer) {
        return "this node is connected already under another name";
    }
    peer->node_id = identity->node_id;
    peer->cluster_id = identity->cluster_id;
    peer->ready = true;
    peer->refused = false;
    peer->complained = false;
    peer->backoff_ms = BACKOFF_MIN_MS;
    peer->heard_ns = peer->ping_ns = now_ns(shard);
    peer->backlog = 0;
    peer->bytes_taken = 0;
    peer->ping_end = 0;
    peer->alarms = 0;
    peer->reported_down = false;
    if (!peer->reported_up) {
        peer->reported_up = true;
        wr_log(shard->logger, shard->number == 0 ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG, "link",
               "node '%s' up", peer->name);
        host_node_up(shard->host, peer->node_id);
    }
    if (shard->number == 0) {
        formation_on_peer(shard, peer);
    }
    return NULL;
}

static void report_down(struct peer *peer, struct shard *shard, const char *why)
{
    if (!peer->reported_down && !uid_is_zero(peer->node_id)) {
        peer->reported_down = true;
        wr_log(shard->logger, shard->number == 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "link",
               "node '%s' down: %s", peer->name, why);
        host_node_down(shard->host, peer->node_id);
    }
}

static void peer_back_off(struct peer *peer, struct shard *shard)
{
    peer->attempt_ns = now_ns(shard) + (uint64_t)peer->backoff_ms * 1000000;
    peer->backoff_ms =
        peer->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : peer->backoff_ms * 2;
}

void peer_connect_failed(struct peer *peer, struct shard *shard, int error)
{
    peer->conn = NULL;
    peer->refused = error == WR_E_REFUSED;
    if (peer->refused) {
        report_down(peer, shard, "connection refused");
    }
    peer_back_off(peer, shard);
}

void peer_lost(struct peer *peer, struct shard *shard, int error)
{
    peer->conn = NULL;
    peer->ready = false;
    if (peer->reported_up) {
        peer->reported_up = false;
        peer->lost_ns = now_ns(shard);
        wr_log(shard->logger, LOG_LEVEL_DEBUG, "link", "link to '%s' lost: %s", peer->name,
               wr_err_text(error));
        host_node_lost(shard->host, peer->node_id);
        peer->backoff_ms = BACKOFF_MIN_MS;
    }
    peer_back_off(peer, shard);
}

static uint64_t limit_ns(const struct shard *shard)
{
    return (uint64_t)shard->config->liveness_timeout_ms * 1000000;
}

static void peer_silent(struct peer *peer, struct shard *shard)
{
    wr_log(shard->logger, LOG_LEVEL_WARNING, "link", "node '%s' silent for %u ms", peer->name,
           shard->config->liveness_timeout_ms);
    peer->reported_up = false;
    peer->ready = false;
    peer->lost_ns = peer->heard_ns;
    host_node_lost(shard->host, peer->node_id);
    report_down(peer, shard, "no sign of life");
    peer->conn->closing = true; /* at once, and without waiting for what is queued */
    shard->env->ops->conn_close(peer->conn->conn, false, 0);
}

static void peer_watch(struct peer *peer, struct shard *shard, uint64_t now)
{
    /* A ping waits behind what is queued: as long as the other end takes of that, it lives, however
     * much is added meanwhile. What its kernel has acknowledged tells it sooner than our backlog: a
     * kernel asks for more only when much of what it has is gone. Where nothing was queued, and the
     * ping is in the other end's kernel, it means nothing: a kernel takes the first megabytes in
     * any case. But ours does, too, and a ping that waits in there has not been heard yet. */
    const struct env_ops *ops = shard->env->ops;
    const size_t backlog = ops->conn_backlog(peer->conn->conn);
    const uint64_t left = backlog + ops->conn_unacked(peer->conn->conn);
    const uint64_t given = peer->conn->bytes_given;
    const uint64_t taken = left < given ? given - left : 0;
    const bool unheard = peer->bytes_taken < peer->ping_end;
    if ((peer->backlog > 0 || unheard) && taken > peer->bytes_taken) {
        peer->heard_ns = now;
    }
    peer->backlog = backlog;
    peer->bytes_taken = taken;
    if (now - peer->heard_ns > limit_ns(shard)) {
        peer_silent(peer, shard);
    } else if (now - peer->ping_ns >= PING_NS) {
        uint8_t stamp[8];
        bytes_store_le64(stamp, now);
        peer->ping_ns = now;
        link_conn_send(peer->conn, LINK_PING, bytes_make(stamp, sizeof stamp));
        if (peer->ping_end == 0) {
            peer->ping_end = peer->conn->bytes_given + outq_size(&peer->conn->out);
        }
    }
}

static void peer_tend(struct peer *peer, struct shard *shard, uint64_t now)
{
    if (peer->conn == NULL) {
        if (now >= peer->attempt_ns && !shard->shutting) {
            peer->conn = link_conn_connect(shard, peer);
            peer->ping_ns = now; /* when this attempt began */
        }
    } else if (peer->conn->closing) {
        /* until on_closed */
    } else if (peer->ready) {
        peer_watch(peer, shard, now);
    } else if (now - peer->ping_ns > HANDSHAKE_NS) {
        peer->conn->closing = true;
        shard->env->ops->conn_close(peer->conn->conn, false, 0);
    }
    if (!peer->ready && now - peer->lost_ns > limit_ns(shard)) {
        report_down(peer, shard, "no sign of life");
    }
}

static uint64_t peer_deadline_ns(const struct peer *peer, const struct shard *shard)
{
    uint64_t best = UINT64_MAX;
    if (peer->conn == NULL) {
        best = shard->shutting ? UINT64_MAX : peer->attempt_ns;
    } else if (peer->conn->closing) {
        best = UINT64_MAX;
    } else if (peer->ready) {
        best = peer->ping_ns + PING_NS;
    } else {
        best = peer->ping_ns + HANDSHAKE_NS + 1;
    }
    uint64_t down = peer->lost_ns + limit_ns(shard) + 1;
    if (!peer->ready && !peer->reported_down && !uid_is_zero(peer->node_id) && down < best) {
        best = down;
    }
    return best;
}

/* --- parcels ---------------------------------------------------------------------------------- */

static void parcel_mail_destroy(struct mail *mail)
{
    struct node_mail_value *m = (struct node_mail_value *)(void *)mail;
    parcel_free(m->pointer);
    wr_free(m);
}

static void parcel_to_shard(struct shard *shard, struct parcel *parcel, uint32_t to)
{
    struct node_mail_value *m = node_mail_new(NODE_MAIL_PARCEL, 0, parcel);
    m->mail.destroy = parcel_mail_destroy;
    shard->env->ops->post(shard->env, to, &m->mail);
}

static uint32_t parcel_target(const struct shard *shard, const struct parcel *parcel)
{
    return parcel->to_shard == HOST_SHARD_BY_GROUP
               ? host_shard_of_group(parcel->group, shard->count)
               : parcel->to_shard;
}

void parcel_arrived(struct shard *shard, struct parcel *owned)
{
    uint32_t to = parcel_target(shard, owned);
    if (to >= shard->count) {
        parcel_free(owned); /* a peer that believes we have more shards */
    } else if (to == shard->number) {
        host_on_parcel(shard->host, owned);
    } else {
        parcel_to_shard(shard, owned, to);
    }
}

static void parcel_encode(struct link_conn *link, const struct parcel *parcel)
{
    struct slice pieces[33];
    struct buf *header = buf_new(PARCEL_HEADER);
    uint8_t *p = header->data;
    p[0] = parcel->kind;
    p[1] = parcel->priority;
    bytes_store_le32(p + 2, parcel->to_shard);
    bytes_store_le32(p + 6, parcel->from_shard);
    bytes_store_le64(p + 10, parcel->group);
    header->size = PARCEL_HEADER;
    pieces[0] = slice_of_buf(header);
    struct slice *all = pieces;
    if (parcel->slice_count + 1 > WR_ARRAY_SIZE(pieces)) {
        all = wr_alloc((parcel->slice_count + 1) * sizeof *all);
        all[0] = pieces[0];
    }
    for (uint32_t i = 0; i < parcel->slice_count; i++) {
        all[i + 1] = parcel->slices[i];
    }
    link_session_send(link->session, LINK_PARCEL, all, parcel->slice_count + 1);
    link->dirty = true;
    slice_unref(&pieces[0]);
    if (all != pieces) {
        wr_free(all);
    }
}

void links_send(struct shard *shard, struct parcel *owned)
{
    if (uid_eq(owned->to_node, node_id_of(shard->node))) {
        uint32_t to = parcel_target(shard, owned);
        WR_ASSERT_OP(to, <, shard->count);
        parcel_to_shard(shard, owned,
                        to); /* also to itself: parcels never arrive inside the call */
        return;
    }
    WR_ASSERT(owned->local == NULL);
    struct peer *peer = links_peer(shard, owned->to_node);
    if (peer != NULL && peer->ready && !peer->conn->closing) {
        parcel_encode(peer->conn, owned);
    }
    parcel_free(owned);
}

size_t links_backlog(struct shard *shard, struct uid node)
{
    struct peer *peer = links_peer(shard, node);
    if (peer == NULL || !peer->ready) {
        return 0;
    }
    return shard->env->ops->conn_backlog(peer->conn->conn) + (size_t)outq_size(&peer->conn->out);
}

uint32_t links_alarms(const struct shard *shard)
{
    uint32_t alarms = 0;
    LIST_FOREACH(at, &shard->links.peers) {
        const struct peer *peer = WR_CONTAINER_OF_CONST(at, struct peer, link);
        alarms |= peer->ready ? peer->alarms : 0;
    }
    return alarms;
}

/* --- turn ------------------------------------------------------------------------------------- */

static void conn_tend(struct link_conn *link, struct shard *shard, uint64_t now)
{
    const struct env_ops *ops = shard->env->ops;
    if (link->move_pending && !link->closing && ops->conn_backlog(link->conn) == 0) {
        struct env_conn *conn = link->conn;
        link->move_pending = false;
        list_remove(&link->link);
        ops->conn_move(conn, link_session_peer(link->session)->shard % shard->count, link);
        return;
    }
    if (link->incoming && !link_session_is_ready(link->session) && !link->closing &&
        now - link->accepted_ns > HANDSHAKE_NS) {
        link->closing = true;
        ops->conn_close(link->conn, false, 0);
    }
}

void links_flush(struct shard *shard)
{
    LIST_FOREACH(at, &shard->links.conns) {
        struct link_conn *link = WR_CONTAINER_OF(at, struct link_conn, link);
        if (link->dirty && !link->closing) {
            link_conn_flush(link);
        }
    }
}

static uint64_t no_later(uint64_t time_ns, uint64_t now)
{
    return time_ns < now ? time_ns
                         : now; /* what was heard in this very turn came after the stall */
}

/* A shard that did not run (a stopped process, a suspended machine, a very long turn) has not
 * listened either: the time it lost is nobody's silence. Without this, a node that was stopped for
 * longer than the limits takes all others for dead when it goes on. */
static void forgive_own_stall(struct shard *shard, uint64_t now)
{
    const uint64_t due = shard->links.due_ns;
    if (due == 0 || now < due || now - due < STALL_NS) {
        return;
    }
    wr_log(shard->logger, shard->number == 0 ? LOG_LEVEL_WARNING : LOG_LEVEL_DEBUG, "link",
           "this node did not run for %llu ms", (unsigned long long)((now - due) / 1000000));
    LIST_FOREACH(at, &shard->links.peers) {
        struct peer *peer = WR_CONTAINER_OF(at, struct peer, link);
        peer->heard_ns = no_later(peer->heard_ns + (now - due), now);
        peer->lost_ns = no_later(peer->lost_ns + (now - due), now);
    }
}

void links_turn(struct shard *shard)
{
    uint64_t now = now_ns(shard);
    forgive_own_stall(shard, now);
    if (shard->links.somebody_came) {
        links_update_peers(shard);
    }
    drop_unwanted(shard);
    LIST_FOREACH(at, &shard->links.peers) {
        peer_tend(WR_CONTAINER_OF(at, struct peer, link), shard, now);
    }
    LIST_FOREACH_SAFE(at, &shard->links.conns) {
        conn_tend(WR_CONTAINER_OF(at, struct link_conn, link), shard, now);
    }
    shard->links.due_ns = links_deadline_ns(shard);
}

uint64_t links_deadline_ns(const struct shard *shard)
{
    uint64_t best = UINT64_MAX;
    LIST_FOREACH(at, &shard->links.peers) {
        const struct peer *peer = WR_CONTAINER_OF_CONST(at, struct peer, link);
        uint64_t next = peer_deadline_ns(peer, shard);
        best = next < best ? next : best;
    }
    LIST_FOREACH(at, &shard->links.conns) {
        const struct link_conn *link = WR_CONTAINER_OF_CONST(at, struct link_conn, link);
        if (link->closing) {
            continue;
        }
        if (link->move_pending) {
            return 0; /* look again as soon as what is queued (one frame) is out */
        }
        if (link->incoming && !link_session_is_ready(link->session)) {
            uint64_t next = link->accepted_ns + HANDSHAKE_NS + 1;
            best = next < best ? next : best;
        }
    }
    return best;
}
