#ifndef WR_CLIENT_INTERNAL_H
#define WR_CLIENT_INTERNAL_H
/* A queue client, shared by client.c (the calls), client_send.c (ops on their way),
 * client_seek.c (finding the leader) and client_answer.c (what comes back). */
#include "warren/list.h"
#include "warren/map.h"
#include "warren/timer.h"
#include "warren/vec.h"

#include "parcel.h"

enum client_state {
    CLIENT_NEW = 0,   /* nothing of it was ever sent */
    CLIENT_RESUMING,  /* asks a leader where it stands */
    CLIENT_CONNECTED, /* sends as it goes */
};
struct client_reply {
    uint64_t seq;
    uint64_t next; /* PEEK: first position that has not come yet */
    uint32_t consumer;
    uint8_t kind;
};
struct client_sent {
    uint64_t last_seq, bytes;
};
struct queue_client {
    struct host *host;
    struct list dirty;    /* in host->dirty_clients */
    struct list of_queue; /* in client_link.clients */
    uint64_t id, queue;
    struct queue_client_sink sink;
    void *ctx;
    bool local;    /* a local queue ... */
    bool own_node; /* ... on this node: nothing can be lost, no copies are kept */
    bool closing, gone, blocked, freed;
    bool inlined; /* what was to come by way of the replica here did not */
    bool got;     /* the outstanding GET's message came */
    enum client_state state;
    struct uid node;      /* where it is served; zero = unknown */
    struct uid served_by; /* who answered last */
    uint32_t shard;
    uint32_t session;
    uint64_t number;   /* of the next item of the session */
    uint64_t next_seq; /* of the next op */
    uint64_t applied;  /* reported to the sink */
    uint64_t refused;  /* the highest that was reported as refused */
    uint64_t pace;     /* bytes of enqueues that may be on their way; 0: as many as there are */
    struct op_vec ops; /* from ops_first on: kept or not sent yet */
    size_t ops_first, ops_sent;
    uint64_t bytes; /* of pending messages */
    uint64_t unsent_bytes;
    VEC(struct client_sent) sent;
    size_t sent_first;
    VEC(struct consumer_expect) consumers;
    uint64_t get_next; /* expected ordinal of consumer 0 */
    VEC(struct client_reply) replies;
    struct timer retry;
    uint32_t backoff_ms;
    uint32_t patience_ms;     /* how long it hears nothing before it begins anew, while connected */
    uint64_t resuming_ms;     /* when this session was first asked for */
    uint32_t soon;            /* how often it was told in a row that nobody leads */
    uint64_t progress, heard; /* applied and number at the last retry */
    uint32_t candidate;
};
/* client->consumers are in order of their ids: where one is, or would be. */
size_t client_consumer_place(const struct queue_client *client, uint32_t consumer);
struct consumer_expect *client_expects(struct queue_client *client, uint32_t consumer);
struct client_link { /* clients of one queue */
    struct list clients;
};
struct ops_dest {
    struct uid node;
    uint32_t shard;
    uint64_t queue;
    struct ops_bundle *bundle;
};
void client_mark(struct queue_client *client);
void client_free(struct queue_client *client);
void client_settle(struct queue_client *client, uint64_t seq);
void client_seek(struct queue_client *client);
/* A new session there: RESUME is sent. */
void client_resume(struct queue_client *client, struct uid node, uint32_t shard);
/* Tells the sink when too much is pending, and when that is over. */
void client_check_blocked(struct queue_client *client);
void client_arm(struct queue_client *client);
#endif
