/*
 * What: how a blank node becomes a member of a cluster, and how a member comes up; shard 0 only
 * (docs/clustering.md).
 *
 * Blank: asks every peer of the configuration, again and again, to let it in. A member proposes
 * JOIN_NODE and answers with the cluster's id; the catalog's leader then makes the new node a
 * learner and, once it has caught up, a voter. Only the first of the configured names may found a
 * cluster, and only after a majority of the configured nodes (itself included) said within the last
 * moments that they are blank, and while none in reach is a member of a cluster: so any start order
 * works and two clusters can arise from one list only if a majority of its data directories was
 * wiped while the others were out of reach.
 *
 * Member: waits for a catalog view that has this node, then proposes NODE_BOOT; with the boot
 * number the shards may serve clients. A node that finds its boot ended by the others (it was
 * thought dead) closes its clients and boots anew. One that was forgotten is told nothing by the
 * catalog, whose group it has left: when it hears of no leader, it asks whether it is still in.
 *
 * Invariants: I1 a node that has a catalog replica never says it is blank. I2 listeners are open
 * only with a valid boot number.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "warren/crypto.h"
#include "warren/err.h"
#include "warren/mem.h"
#include "warren/pack.h"

#include "node_internal.h"

#define ASK_NS         UINT64_C(100000000)
#define ASK_AGAIN_NS   UINT64_C(1000000000)
#define BLANK_FRESH_NS UINT64_C(2000000000)
#define STRANGER_NS    UINT64_C(10000000000)
#define BOOT_MS        5000u
#define NAME_TEXT      255u

enum control_kind {                       /* frozen */
                    CONTROL_ASK = 1,      /* blank node -> peer: let me in {node info} */
                    CONTROL_BLANK = 2,    /* answer: I am blank too */
                    CONTROL_WAIT = 3,     /* answer: I am a member but cannot say yes yet */
                    CONTROL_JOINED = 4,   /* answer: you are in {cluster id} */
                    CONTROL_REFUSED = 5,  /* answer: {text} */
                    CONTROL_STILL_IN = 6, /* member -> peer: am I still one? {node info} */
                    CONTROL_STRANGER = 7, /* answer: you are none (of a member: nothing) */
};

/* What a configured node said of itself, and when. */
struct blank_peer {
    char name[256];
    uint64_t said_ns;
};

struct formation {
    struct shard *shard;
    bool member; /* has a catalog replica */
    bool boot_proposed, founded;
    struct uid member_id, start, cluster_id;
    uint64_t next_ns, asked_ns;
    struct blank_peer blank[CONFIG_PEERS_MAX];
    uint32_t blank_count;
    uint64_t member_seen_ns; /* a configured node was a member of a cluster then; 0 = never */
    struct list joins;       /* struct join_request: proposals under way */
    uint64_t led_ns;         /* all was well with the catalog's replica here, or it began */
    uint64_t stranger_ns;    /* a member of the cluster said then that we are none; 0 = never */
    char refusal[200];
    char state[300];
};

/* Who asked to join, while the catalog decides. Holds a copy: the link may be gone when the answer
 * is there. */
struct join_request {
    struct list link; /* formation->joins */
    struct shard *shard;
    struct uid node_id, member;
};

static uint64_t now_ns(const struct shard *shard)
{
    return shard->env->ops->mono_ns(shard->env);
}

static struct uid random_uid(struct shard *shard)
{
    struct uid id;
    shard->env->ops->random_secret(shard->env, &id, sizeof id);
    return id;
}

static struct catalog_node_info own_info(const struct shard *shard)
{
    const struct config *c = shard->config;
    return (struct catalog_node_info){.id = node_id_of(shard->node),
                                      .member = shard->formation->member_id,
                                      .name = bytes_from_cstr(c->nodename),
                                      .host = bytes_from_cstr(node_host(shard->node)),
                                      .cluster_port = c->cluster_listener.port,
                                      .amqp_port =
                                          c->tcp.count > 0 ? c->tcp.addrs[0].port : (uint16_t)0};
}

void formation_start(struct shard *shard)
{
    struct formation *f = wr_calloc(1, sizeof *f);
    f->shard = shard;
    list_init(&f->joins);
    shard->formation = f;
    f->start = random_uid(shard);
    f->member_id = random_uid(shard);
    f->next_ns = f->led_ns = now_ns(shard);
    (void)snprintf(f->state, sizeof f->state, "starting");
}

void formation_recovered(struct shard *shard)
{
    struct formation *f = shard->formation;
    f->member = host_catalog_exists(shard->host, &f->member_id);
}

void formation_free(struct shard *shard)
{
    if (shard->formation == NULL) {
        return;
    }
    LIST_FOREACH_SAFE(at, &shard->formation->joins) {
        struct join_request *j = WR_CONTAINER_OF(at, struct join_request, link);
        list_remove(&j->link);
        wr_free(j);
    }
    wr_free(shard->formation);
    shard->formation = NULL;
}

bool formation_is_member(const struct shard *shard)
{
    return shard->formation != NULL && shard->formation->member;
}

const char *formation_state(const struct shard *shard)
{
    return shard->formation->state;
}

struct uid formation_cluster_id(const struct shard *shard)
{
    return shard->formation == NULL ? (struct uid){0, 0} : shard->formation->cluster_id;
}

/* --- founding --------------------------------------------------------------------------------- */

static bool is_first_name(const struct config *config)
{
    for (uint32_t i = 0; i < config->peer_count; i++) {
        if (strcmp(config->peers[i].name, config->nodename) < 0) {
            return false;
        }
    }
    return true;
}

static void note_blank(struct formation *f, const char *name)
{
    for (uint32_t i = 0; i < f->blank_count; i++) {
        if (strcmp(f->blank[i].name, name) == 0) {
            f->blank[i].said_ns = now_ns(f->shard);
            return;
        }
    }
    if (f->blank_count < CONFIG_PEERS_MAX) {
        (void)snprintf(f->blank[f->blank_count].name, sizeof f->blank[0].name, "%s", name);
        f->blank[f->blank_count++].said_ns = now_ns(f->shard);
    }
}

static uint32_t fresh_blanks(const struct formation *f)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < f->blank_count; i++) {
        n += now_ns(f->shard) - f->blank[i].said_ns < BLANK_FRESH_NS;
    }
    return n;
}

/* A configured node that belongs to a cluster already: what it waits for, we wait for; a second
 * cluster is the last thing anybody wants. */
static bool member_in_reach(const struct formation *f)
{
    if (f->member_seen_ns != 0 && now_ns(f->shard) - f->member_seen_ns < BLANK_FRESH_NS) {
        return true;
    }
    LIST_FOREACH(at, &f->shard->links.peers) {
        const struct peer *peer = WR_CONTAINER_OF_CONST(at, struct peer, link);
        if (peer->ready && !uid_is_zero(peer->cluster_id)) {
            return true;
        }
    }
    return false;
}

static void on_init(void *ctx, int status, const struct catalog_result *result)
{
    struct shard *shard = ctx;
    (void)result;
    if (status < 0) {
        shard->formation->founded = false; /* formation_turn proposes again */
    }
}

static void password_hash(struct shard *shard, const char *password, uint8_t out[36])
{
    uint8_t salted[4 + 256];
    size_t size = strlen(password);
    shard->env->ops->random_secret(shard->env, salted, 4);
    memcpy(salted + 4, password, size);
    memcpy(out, salted, 4);
    crypto_sha256(salted, 4 + size, out + 4);
}

static void propose_init(struct shard *shard)
{
    static const struct bytes administrator = BYTES_INIT("administrator");
    const struct config *c = shard->config;
    struct formation *f = shard->formation;
    uint8_t hash[36];
    struct catalog_command command = {.kind = CATALOG_CLUSTER_INIT};
    password_hash(shard, c->default_pass, hash);
    command.u.init.cluster = f->cluster_id;
    command.u.init.name = bytes_from_cstr(c->cluster_name[0] != 0 ? c->cluster_name : c->nodename);
    command.u.init.node = own_info(shard);
    command.u.init.vhost = bytes_from_cstr(c->default_vhost);
    command.u.init.user = (struct catalog_user_spec){
        .name = bytes_from_cstr(c->default_user),
        .password_hash = bytes_make(hash, sizeof hash),
        .hashing = CATALOG_HASHING_SHA256,
        .parts = CATALOG_USER_PASSWORD | CATALOG_USER_TAGS | CATALOG_USER_CREATE,
        .tags = {.count = 1, .items = &administrator}};
    f->founded = true;
    host_catalog_propose(shard->host, &command, BOOT_MS, on_init, shard);
}

static void found_cluster(struct shard *shard)
{
    struct formation *f = shard->formation;
    f->cluster_id = random_uid(shard);
    f->member = true;
    wr_log(shard->logger, LOG_LEVEL_INFO, "cluster", "founding a new cluster node=%s",
           shard->config->nodename);
    host_catalog_bootstrap(shard->host, f->cluster_id,
                           (struct raft_id){f->member_id.hi, f->member_id.lo});
    propose_init(shard);
    links_update_peers(shard);
}

static const char STRANGER_TEXT[] =
    "the cluster has forgotten this node, and serves without it: stop it, move its data directory "
    "away, and start it again to have it join as a new one";

/* --- asking and answering --------------------------------------------------------------------- */

static void send_control(struct link_conn *link, enum control_kind kind,
                         const struct catalog_node_info *info, struct uid id, const char *text)
{
    struct buf *out = buf_new(512);
    struct pack_writer w = pack_writer_make(&out);
    pack_put_array(&w, 9);
    pack_put_uint(&w, kind);
    pack_put_uid(&w, id);
    pack_put_str(&w, bytes_from_cstr(text));
    pack_put_uid(&w, info != NULL ? info->id : (struct uid){0, 0});
    pack_put_uid(&w, info != NULL ? info->member : (struct uid){0, 0});
    pack_put_str(&w, info != NULL ? info->name : BYTES_NONE);
    pack_put_str(&w, info != NULL ? info->host : BYTES_NONE);
    pack_put_uint(&w, info != NULL ? info->cluster_port : 0);
    pack_put_uint(&w, info != NULL ? info->amqp_port : 0);
    link_conn_send(link, LINK_CONTROL, bytes_make(out->data, out->size));
    buf_unref(out);
}

static void ask_peers(struct shard *shard, enum control_kind kind)
{
    struct catalog_node_info info = own_info(shard);
    LIST_FOREACH(at, &shard->links.peers) {
        struct peer *peer = WR_CONTAINER_OF(at, struct peer, link);
        if (peer->ready) {
            send_control(peer->conn, kind, &info, (struct uid){0, 0}, "");
        }
    }
}

/* An incoming link of that node on this shard: the way back for an answer. */
static struct link_conn *link_of(struct shard *shard, struct uid node_id)
{
    LIST_FOREACH(at, &shard->links.conns) {
        struct link_conn *link = WR_CONTAINER_OF(at, struct link_conn, link);
        const struct link_identity *peer = link_session_peer(link->session);
        if (link->incoming && !link->closing && peer != NULL &&
            link_session_is_ready(link->session) && uid_eq(peer->node_id, node_id)) {
            return link;
        }
    }
    return NULL;
}

static bool is_in(const struct shard *shard, struct uid node_id, struct uid member)
{
    const struct catalog_node *node =
        shard->view == NULL ? NULL : catalog_node(shard->view, node_id);
    return node != NULL && uid_eq(node->info.member, member);
}

static bool is_joining(const struct formation *f, struct uid node_id)
{
    LIST_FOREACH(at, &f->joins) {
        if (uid_eq(WR_CONTAINER_OF_CONST(at, struct join_request, link)->node_id, node_id)) {
            return true;
        }
    }
    return false;
}

static void on_join_decided(void *ctx, int status, const struct catalog_result *result)
{
    struct join_request *j = ctx;
    struct link_conn *link = link_of(j->shard, j->node_id);
    (void)result;
    if (link == NULL) {
        /* it will ask again */
    } else if (status == CATALOG_REFUSED || status == CATALOG_LIMIT) {
        send_control(link, CONTROL_REFUSED, NULL, (struct uid){0, 0},
                     status == CATALOG_LIMIT ? "the cluster has as many nodes as it can have"
                                             : "the cluster has a node with this name, or with "
                                               "this node's identity and other data; "
                                               "forget that one first, or give this node another "
                                               "name and an empty data directory");
    } else {
        /* Also when it worked: the view is what tells the node that it is in, with this very
         * member, when it asks next. */
        send_control(link, is_in(j->shard, j->node_id, j->member) ? CONTROL_JOINED : CONTROL_WAIT,
                     NULL, node_cluster_id(j->shard), "");
    }
    list_remove(&j->link);
    wr_free(j);
}

static void on_ask(struct shard *shard, struct link_conn *link,
                   const struct catalog_node_info *info)
{
    struct formation *f = shard->formation;
    if (!f->member) {
        send_control(link, CONTROL_BLANK, NULL, (struct uid){0, 0}, "");
        return;
    }
    if (shard->view == NULL || uid_is_zero(catalog_cluster_id(shard->view))) {
        send_control(link, CONTROL_WAIT, NULL, (struct uid){0, 0}, "");
        return;
    }
    if (is_in(shard, info->id, info->member)) {
        send_control(link, CONTROL_JOINED, NULL, node_cluster_id(shard), "");
        return;
    }
    if (is_joining(f, info->id)) { /* it asks ten times a second */
        send_control(link, CONTROL_WAIT, NULL, (struct uid){0, 0}, "");
        return;
    }
    struct join_request *j = wr_calloc(1, sizeof *j);
    struct catalog_command command = {.kind = CATALOG_JOIN_NODE};
    j->shard = shard;
    j->node_id = info->id;
    j->member = info->member;
    list_push_back(&f->joins, &j->link);
    command.u.join = *info;
    host_catalog_propose(shard->host, &command, BOOT_MS, on_join_decided, j);
}

static void on_still_in_known(void *ctx, int status, const struct catalog_result *result)
{
    struct join_request *j = ctx;
    struct link_conn *link = link_of(j->shard, j->node_id);
    (void)result;
    if (link != NULL && status == 0 && catalog_node(j->shard->view, j->node_id) == NULL) {
        send_control(link, CONTROL_STRANGER, NULL, node_cluster_id(j->shard), "");
    }
    list_remove(&j->link);
    wr_free(j);
}

/* Who asks has a replica of the catalog with something in it, so it was in. Whether it is, a view
 * may not know yet. */
static void on_still_in(struct shard *shard, const struct catalog_node_info *info)
{
    struct formation *f = shard->formation;
    if (shard->view == NULL || uid_is_zero(catalog_cluster_id(shard->view)) ||
        catalog_node(shard->view, info->id) != NULL || is_joining(f, info->id)) {
        return;
    }
    struct join_request *j = wr_calloc(1, sizeof *j);
    j->shard = shard;
    j->node_id = info->id;
    list_push_back(&f->joins, &j->link);
    host_catalog_barrier(shard->host, BOOT_MS, on_still_in_known, j);
}

/* The state says what to do, and goes on to be asked for: it is the members' word that counts, and
 * not that of a node of another cluster, which of course does not know this one. (Who has not heard
 * enough to know its own cluster has no clients either.) */
static void on_stranger(struct shard *shard, struct uid cluster_id)
{
    struct formation *f = shard->formation;
    const struct uid own = node_cluster_id(shard);
    if (!uid_is_zero(own) && !uid_eq(cluster_id, own)) {
        return;
    }
    if (f->stranger_ns == 0) {
        wr_log(shard->logger, LOG_LEVEL_ERROR, "cluster", "%s", STRANGER_TEXT);
    }
    f->stranger_ns = now_ns(shard);
    f->next_ns = f->stranger_ns;
    if (shard->boot != 0) {
        f->start = random_uid(shard);
        shard_set_boot(shard, 0); /* what its clients do reaches nobody any more */
    }
}

static void on_joined(struct shard *shard, struct uid cluster_id)
{
    struct formation *f = shard->formation;
    if (f->member || uid_is_zero(cluster_id)) {
        return;
    }
    f->cluster_id = cluster_id;
    f->member = true;
    wr_log(shard->logger, LOG_LEVEL_INFO, "cluster", "joined a cluster node=%s",
           shard->config->nodename);
    host_catalog_join(shard->host, cluster_id, (struct raft_id){f->member_id.hi, f->member_id.lo});
}

static void on_answer(struct shard *shard, const struct peer *peer, uint64_t kind,
                      struct uid cluster_id, struct bytes text)
{
    struct formation *f = shard->formation;
    if (kind == CONTROL_BLANK) {
        note_blank(f, peer->name);
        return;
    }
    f->member_seen_ns = now_ns(shard);
    if (kind == CONTROL_JOINED) {
        on_joined(shard, cluster_id);
    } else if (kind == CONTROL_REFUSED && f->refusal[0] == 0) {
        (void)snprintf(f->refusal, sizeof f->refusal, "%.*s", (int)text.size,
                       (const char *)text.data);
        wr_log(shard->logger, LOG_LEVEL_ERROR, "cluster", "the cluster refuses this node: %s",
               f->refusal);
    } /* WAIT, or of a newer version */
}

void formation_on_control(struct shard *shard, struct link_conn *link, struct bytes payload)
{
    struct pack_reader r = pack_reader_make(payload);
    struct catalog_node_info info = {0};
    pack_expect_array(&r, 9);
    uint64_t kind = pack_get_uint(&r, 255);
    struct uid id = pack_get_uid(&r);
    struct bytes text = pack_get_str(&r, NAME_TEXT);
    info.id = pack_get_uid(&r);
    info.member = pack_get_uid(&r);
    info.name = pack_get_str(&r, NAME_TEXT);
    info.host = pack_get_str(&r, NAME_TEXT);
    info.cluster_port = (uint16_t)pack_get_uint(&r, 65535);
    info.amqp_port = (uint16_t)pack_get_uint(&r, 65535);
    if (!pack_done(&r)) {
        wr_log(shard->logger, LOG_LEVEL_WARNING, "cluster",
               "a control message from %s could not be read; ignored", link->remote.host);
        return;
    }
    if (link->incoming && kind == CONTROL_ASK &&
        uid_eq(info.id, link_session_peer(link->session)->node_id)) {
        on_ask(shard, link, &info);
    } else if (link->incoming && kind == CONTROL_STILL_IN &&
               uid_eq(info.id, link_session_peer(link->session)->node_id)) {
        on_still_in(shard, &info);
    } else if (!link->incoming && kind == CONTROL_STRANGER && shard->formation->member) {
        on_stranger(shard, id);
    } else if (!link->incoming && link->peer != NULL && !shard->formation->member) {
        on_answer(shard, link->peer, kind, id, text);
    }
}

void formation_on_peer(struct shard *shard, struct peer *peer)
{
    struct group_status status;
    if (!shard->formation->member) {
        shard->formation->next_ns = now_ns(shard); /* ask at once */
    } else if (host_group_status(shard->host, 1, &status) && status.last > 0) {
        /* Whom we take for the leader may have removed us while we heard nothing, and says no more.
         */
        struct catalog_node_info info = own_info(shard);
        send_control(peer->conn, CONTROL_STILL_IN, &info, (struct uid){0, 0}, "");
    }
}

/* --- coming up -------------------------------------------------------------------------------- */

static void on_booted(void *ctx, int status, const struct catalog_result *result)
{
    struct shard *shard = ctx;
    struct formation *f = shard->formation;
    f->boot_proposed = false;
    if (status != CATALOG_OK && status != CATALOG_EXISTS) {
        f->next_ns = now_ns(shard) + ASK_NS;
        return;
    }
    const struct catalog_node *self =
        shard->view == NULL ? NULL : catalog_node(shard->view, node_id_of(shard->node));
    if (self != NULL && (self->boot > result->id || (self->boot == result->id && !self->running))) {
        f->start = random_uid(shard); /* ended by the others before we heard of it */
        f->next_ns = now_ns(shard);
        return;
    }
    wr_log(shard->logger, LOG_LEVEL_INFO, "cluster", "node %s is up boot=%llu",
           shard->config->nodename, (unsigned long long)result->id);
    shard_set_boot(shard, (uint32_t)result->id);
}

/* With the member that it is, whatever the catalog has: an ASK of a start before this one may have
 * been heard last, and nobody else knows that its member is not. */
static void propose_boot(struct shard *shard)
{
    struct formation *f = shard->formation;
    struct catalog_command command = {.kind = CATALOG_NODE_BOOT};
    command.u.boot.node = own_info(shard);
    command.u.boot.start = f->start;
    f->boot_proposed = true;
    host_catalog_propose(shard->host, &command, BOOT_MS, on_booted, shard);
}

void formation_on_view(struct shard *shard)
{
    struct formation *f = shard->formation;
    if (uid_is_zero(f->cluster_id)) {
        f->cluster_id = catalog_cluster_id(shard->view);
    }
    const struct catalog_node *self = catalog_node(shard->view, node_id_of(shard->node));
    if (shard->boot != 0 && (self == NULL || self->boot != shard->boot || !self->running)) {
        wr_log(shard->logger, LOG_LEVEL_WARNING, "cluster",
               "the cluster took this node for dead (boot %u ended); its clients are closed and it "
               "starts anew",
               shard->boot);
        f->start = random_uid(shard);
        shard_set_boot(shard, 0);
    }
    f->next_ns = now_ns(shard);
}

/* Whether the others have said of late that this node is none of them. It asks when it hears of no
 * leader, or when its view is one without it: it may be on the way in, or out. */
static bool is_stranger(struct shard *shard)
{
    struct formation *f = shard->formation;
    const uint64_t now = now_ns(shard);
    struct group_status status;
    const bool known = host_group_status(shard->host, 1, &status);
    const bool left_out = shard->view != NULL && !uid_is_zero(catalog_cluster_id(shard->view)) &&
                          catalog_node(shard->view, node_id_of(shard->node)) == NULL;
    const bool said = f->stranger_ns != 0 && now - f->stranger_ns < STRANGER_NS;
    if (!known || (!said && !left_out && !uid_is_zero(status.leader_node))) {
        f->led_ns = now;
        f->stranger_ns = 0;
    } else if (status.last > 0 && now - f->led_ns >= ASK_AGAIN_NS &&
               now - f->asked_ns >= ASK_AGAIN_NS) {
        f->asked_ns = now;
        ask_peers(shard, CONTROL_STILL_IN);
    }
    return said;
}

static void member_turn(struct shard *shard)
{
    struct formation *f = shard->formation;
    if (is_stranger(shard)) {
        (void)snprintf(f->state, sizeof f->state, "%s", STRANGER_TEXT);
        return;
    }
    const struct catalog_node *self =
        shard->view == NULL ? NULL : catalog_node(shard->view, node_id_of(shard->node));
    if (self == NULL) {
        struct group_status status;
        bool known = host_group_status(shard->host, 1, &status);
        if (known && status.leading && !f->founded && shard->view != NULL &&
            uid_is_zero(catalog_cluster_id(shard->view))) {
            if (uid_is_zero(f->cluster_id)) {
                f->cluster_id =
                    random_uid(shard); /* it crashed between founding and the first command */
            }
            propose_init(shard);
        }
        if (known && status.last == 0 && now_ns(shard) - f->asked_ns >= ASK_AGAIN_NS) {
            /* Nobody has told its replica anything. A start before this one may have asked with
             * another member, and been heard last: the catalog then waits for that one. */
            f->asked_ns = now_ns(shard);
            ask_peers(shard, CONTROL_ASK);
        }
        (void)snprintf(f->state, sizeof f->state, "waiting for the catalog: %s",
                       known && status.why[0] != 0 ? status.why : "this node is not in it yet");
        return;
    }
    if (shard->boot == 0) {
        (void)snprintf(f->state, sizeof f->state,
                       "waiting for the catalog to take note of this start");
        if (!f->boot_proposed) {
            propose_boot(shard);
        }
        return;
    }
    (void)snprintf(f->state, sizeof f->state, "running");
}

void formation_turn(struct shard *shard)
{
    struct formation *f = shard->formation;
    uint64_t now = now_ns(shard);
    if (now < f->next_ns || shard->shutting) {
        return;
    }
    f->next_ns = now + ASK_NS;
    if (f->member) {
        member_turn(shard);
        return;
    }
    const struct config *c = shard->config;
    uint32_t blank = fresh_blanks(f);
    bool majority = is_first_name(c) && 2 * (blank + 1) > c->peer_count;
    if (c->peer_count <= 1 || (majority && !member_in_reach(f))) {
        found_cluster(shard);
        return;
    }
    ask_peers(shard, CONTROL_ASK);
    if (f->refusal[0] != 0) {
        (void)snprintf(f->state, sizeof f->state, "refused by the cluster: %s", f->refusal);
    } else {
        (void)snprintf(f->state, sizeof f->state,
                       "blank: waiting for a member of the cluster among %u configured nodes, or "
                       "for a majority of them to found one "
                       "(%u of them blank and in reach)",
                       c->peer_count, blank + 1);
    }
}

uint64_t formation_deadline_ns(const struct shard *shard)
{
    const struct formation *f = shard->formation;
    if (shard->shutting) {
        return UINT64_MAX;
    }
    return f->member && shard->boot != 0 && shard->view != NULL ? UINT64_MAX : f->next_ns;
}
