#ifndef WR_NODE_INTERNAL_H
#define WR_NODE_INTERNAL_H
/*
 * What the files of src/node share: one struct shard per shard context, holding everything that
 * runs there, and the mail that shards of a node send each other. See docs/architecture.md, "A
 * node".
 */
#include "warren/amqp.h"
#include "warren/broker.h"
#include "warren/catalog.h"
#include "warren/env.h"
#include "warren/link.h"
#include "warren/list.h"
#include "warren/log.h"
#include "warren/logger.h"
#include "warren/node.h"
#include "warren/prng.h"
#include "warren/replica.h"
#include "warren/vec.h"

#include "config.h"

/* Tag at the start of every object that is the user of an env_conn. amqp's objects carry CONN_AMQP
 * themselves. */
enum conn_tag { CONN_AMQP = ENV_LISTEN_AMQP, CONN_LINK = ENV_LISTEN_CLUSTER };

enum node_mail {
    NODE_MAIL_PARCEL = 0x4e01,
    NODE_MAIL_VIEW = 0x4e02,   /* shard 0 -> others: a newer catalog view */
    NODE_MAIL_BOOT = 0x4e03,   /* shard 0 -> others: boot number of this start */
    NODE_MAIL_QUERY = 0x4e04,  /* shard 0 -> others and back: rows for a listing */
    NODE_MAIL_UNUSED = 0x4e05, /* any -> shard 0: an auto-delete queue is due */
    NODE_MAIL_SHUT = 0x4e06,   /* shard 0 -> others: close clients; back when done */
    NODE_MAIL_ALARM = 0x4e07,  /* shard 0 -> others: this node is short of memory, or no longer */
};

struct shard;
struct formation;
struct control;
struct placement;

/* --- links (links.c, link_conn.c) ------------------------------------------------------------- */

/* One connection on the cluster port, incoming or outgoing. */
struct link_conn {
    uint32_t tag; /* CONN_LINK */
    bool incoming, dirty, move_pending, closing;
    struct shard *shard;
    struct env_conn *conn;
    struct link_session *session;
    struct outq out;
    struct peer *peer; /* outgoing only */
    struct list link;  /* shard->links.conns */
    uint64_t accepted_ns;
    uint64_t bytes_given; /* to the connection; some may not be out yet */
    struct net_addr remote;
};

/* Another node as this shard sees it. */
struct peer {
    struct list link;   /* shard->links.peers */
    struct uid node_id; /* zero until known: a name from the configuration */
    char name[256];
    struct net_addr addr;
    struct link_conn *conn;        /* outgoing, or NULL */
    bool ready;                    /* its handshake is over */
    uint32_t alarms, alarms_noted; /* enum broker_alarm: what it said with its last pong; what of it
                                      is in the event log */
    bool reported_up, reported_down;
    bool refused;          /* the last attempt to connect was refused: its process is gone */
    bool wanted;           /* in the catalog or the configuration; otherwise dropped */
    bool certain;          /* node_id comes from the catalog; otherwise from the last handshake */
    bool complained;       /* the current trouble is in the log already */
    struct uid cluster_id; /* what it said; zero = blank */
    uint64_t heard_ns;     /* last sign of life: a pong, or it takes of our backlog */
    uint64_t ping_ns, attempt_ns, lost_ns;
    size_t backlog;       /* towards it when last looked at */
    uint64_t bytes_taken; /* by the other end then */
    uint64_t ping_end;    /* of all bytes, where the oldest ping without a pong ends; 0 = none */
    uint32_t backoff_ms;
};

struct links {
    struct list conns, peers;
    bool somebody_came; /* another node has a link to us: see whether it is one that we do not know
                         */
    uint64_t bytes_out;
    uint64_t due_ns; /* when the next turn has to run at the latest; 0 = not known */
};

void links_init(struct shard *shard);
void links_deinit(struct shard *shard);
/* Peers are those of the catalog view, or of the configuration while there is none. */
void links_update_peers(struct shard *shard);
void links_send(struct shard *shard, struct parcel *owned);
/* enum broker_alarm: those of the nodes with which this shard has a link. */
uint32_t links_alarms(const struct shard *shard);
size_t links_backlog(struct shard *shard, struct uid node);
void links_turn(struct shard *shard);
void links_flush(struct shard *shard); /* sends what gathered on all links */
uint64_t links_deadline_ns(const struct shard *shard);
struct peer *links_peer(struct shard *shard, struct uid node);
void link_conn_accept(struct shard *shard, struct env_conn *conn, const struct net_addr *remote);
void link_conn_moved(struct shard *shard, struct env_conn *conn, struct link_conn *link);
void link_conn_connected(struct link_conn *link, int error);
void link_conn_bytes(struct link_conn *link, const uint8_t *data, size_t size);
void link_conn_closed(struct link_conn *link, int error);
void link_conn_send(struct link_conn *link, uint8_t type, struct bytes payload);
void link_conn_close(struct link_conn *link);
void link_conn_flush(struct link_conn *link);
struct link_conn *link_conn_connect(struct shard *shard, struct peer *peer);
/* What a link_conn tells about the peer it was opened for. peer_ready returns a text to refuse it
 * with, or NULL. */
const char *peer_ready(struct peer *peer, struct shard *shard,
                       const struct link_identity *identity);
void peer_connect_failed(struct peer *peer, struct shard *shard, int error);
void peer_lost(struct peer *peer, struct shard *shard, int error);
void parcel_arrived(struct shard *shard,
                    struct parcel *owned); /* from a link: to this shard or, by mail, to another */

/* --- formation (formation.c): from a blank node to a member, shard 0 -------------------------- */
void formation_start(struct shard *shard);
void formation_free(struct shard *shard);
void formation_on_control(struct shard *shard, struct link_conn *link, struct bytes payload);
void formation_on_peer(struct shard *shard, struct peer *peer); /* its handshake is over */
void formation_on_view(struct shard *shard);
void formation_recovered(struct shard *shard); /* the log has been read: member or blank? */
struct uid formation_cluster_id(const struct shard *shard); /* zero when not known */
void formation_turn(struct shard *shard);
uint64_t formation_deadline_ns(const struct shard *shard);
bool formation_is_member(const struct shard *shard);
const char *
formation_state(const struct shard *shard); /* one line: what this node waits for, or "running" */

/* --- placement (placement.c): the catalog leader's reconciliation loop, shard 0 --------------- */
void placement_init(struct shard *shard);
void placement_free(struct shard *shard);
void placement_on_leader(struct shard *shard, bool leading);
void placement_turn(struct shard *shard);
uint64_t placement_deadline_ns(const struct shard *shard);
/* Any shard: this replica is to be replaced; the catalog's leader adds another one. */
void placement_drop_replica(struct shard *shard, uint64_t queue, struct uid member);

/* --- control (control.c): requests of warrenctl, shard 0 -------------------------------------- */
void control_request(struct shard *shard, struct link_conn *link, struct bytes json);
void control_on_reply(struct shard *shard,
                      struct bytes json); /* of another node, to a request passed on */
void control_link_closed(struct shard *shard, struct link_conn *link);
void control_on_query(struct shard *shard, struct mail *owned_mail);
void control_turn(struct shard *shard);
uint64_t control_deadline_ns(const struct shard *shard);
void control_free(struct shard *shard);

/* --- alarms (alarm.c) ------------------------------------------------------------------------- */
/* What there is to say in `warrenctl status`; limit 0 = memory is not watched. */
struct alarm_memory {
    uint64_t used, limit, total;
};
/* Watermark and memory there is; false where memory is not watched. */
bool alarm_limit(struct env *env, const struct config *config, struct alarm_memory *ret_memory);
/* Shard 0: another watermark, a number of bytes or (absolute == CONFIG_NOT_GIVEN) a part of the
 * memory, counts from now on. False where memory is not watched. */
bool alarm_set_watermark(struct shard *shard, uint32_t relative_ppm, uint64_t absolute);
void alarm_init(struct shard *shard);          /* shard 0 */
uint32_t alarm_own(const struct shard *shard); /* enum broker_alarm: this node's; any shard */
void alarm_on_exec(struct shard *shard, uint64_t token, int result);
void alarm_turn(struct shard *shard); /* any shard: the brokers hear of what has changed */
uint64_t alarm_deadline_ns(const struct shard *shard);
struct alarm_memory alarm_memory(const struct shard *shard);
/* Millionths (also more than a million) of the memory there is. */
uint64_t alarm_part_of(uint64_t total, uint32_t millionths);

/* What can be set while the node runs (admin_settings.c); begins as the configuration has it. */
struct settings {
    uint32_t memory_relative_ppm;
    uint64_t memory_absolute; /* CONFIG_NOT_GIVEN: the relative one counts */
    uint64_t disk_free_limit;
    enum log_level log_level;
};

/* --- a shard ---------------------------------------------------------------------------------- */
struct shard {
    struct env *env;
    struct node *node;
    const struct config *config;
    const struct logger *logger;
    uint32_t number, count;
    struct prng prng;
    struct host *host;
    struct log_reader *reader;
    struct broker *broker;
    struct amqp_server *amqp;
    struct catalog_view *view; /* held; NULL before there is one */
    uint32_t boot;             /* 0 = not known yet */
    uint64_t started_ns;       /* for the uptime */
    struct settings settings;  /* shard 0 */
    struct links links;
    struct formation *formation; /* shard 0 */
    struct control *control;     /* shard 0 */
    struct placement *placement; /* shard 0 */
    struct {
        bool memory_high;           /* all shards: this node is short of memory */
        bool trimming;              /* the rest: shard 0 */
        uint64_t next_ns;           /* of the next look; 0 = memory is not watched */
        struct alarm_memory memory; /* at the last one */
        uint64_t trimmed;           /* what was used after the last trim */
        uint64_t idle_ns;           /* not before that is it asked again what is free */
    } alarm;
    bool listening, shutting, shut_told;
    uint64_t shut_deadline_ns;
    uint32_t shut_answers;
};

/* For the simulator's checks, and tests. */
struct shard *node_shard(struct node *node, uint32_t shard);
struct host *node_shard_host(struct node *node, uint32_t shard);
struct uid node_id_of(const struct node *node);
const char *node_host(
    const struct node *node); /* where other nodes reach this one: the host part of its name */
struct uid node_cluster_id(const struct shard *shard); /* zero while blank */
void node_set_log_level(struct node *node, enum log_level level);
void node_reopen_log(struct node *node);
void shard_set_boot(struct shard *shard, uint32_t boot);
void shard_set_view(struct shard *shard, struct catalog_view *owned_ref, uint64_t index);
struct host_transport shard_transport(struct shard *shard);
void shard_connect_host(struct shard *shard);
extern const struct env_sink shard_sink;
void shard_start_shutdown(struct shard *shard, const char *why);

/* What every mail of the node layer that carries a number or a pointer looks like. */
struct node_mail_value {
    struct mail mail;
    uint64_t number;
    void *pointer;
};
struct node_mail_value *node_mail_new(uint32_t kind, uint64_t number, void *pointer);

#endif
