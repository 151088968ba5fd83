/*
 * What: the cluster-wide definitions as values: nodes, vhosts, users, permissions, exchanges,
 * queues, bindings. Every object is immutable once it is in a view; a change puts a new object in
 * its place. Ownership: objects are reference-counted (`ref`, pmap.h); what a look-up returns is
 * borrowed as long as the view it came from is held. Strings and tables are views into the object
 * itself. Threads: any thread may read what its view holds. Spec: docs/catalog.md.
 */
#ifndef WR_CATALOG_TYPES_H
#define WR_CATALOG_TYPES_H

#include "warren/bytes.h"
#include "warren/pmap.h"
#include "warren/uid.h"

#define CATALOG_NAME_MAX      255u                /* Names, routing keys: AMQP's shortstr. */
#define CATALOG_ARGUMENTS_MAX (UINT32_C(1) << 20) /* Bytes of one argument table. */
#define CATALOG_TEXT_MAX      4096u               /* Descriptions, permission patterns. */
#define CATALOG_REPLICAS_MAX  32u                 /* Members of one queue's group. */
#define CATALOG_TAGS_MAX      32u                 /* Tags of a user or vhost. */
#define CATALOG_NODES_MAX     64u

/* Log indexes of commands are below this: ids that are made of one have bits to spare. */
#define CATALOG_INDEX_MAX (UINT64_C(1) << 54)

/* --- nodes ------------------------------------------------------------------------------------ */

/* What a node says about itself, in commands and in its record. */
struct catalog_node_info {
    struct uid id;
    struct uid member; /* Its member id in the catalog's group. */
    struct bytes name; /* "warren1@localhost" */
    struct bytes host; /* Address for other nodes. */
    uint16_t cluster_port;
    uint16_t amqp_port;
    bool ram; /* Shown only; durability is the same. */
};

struct catalog_node {
    struct pref ref;
    struct catalog_node_info info;
    uint32_t boot; /* Number of its newest start, unique in the cluster; 0 = never started. */
    bool running;  /* Between NODE_BOOT and NODE_DOWN. What the cluster agreed on, not liveness. */
    struct uid start; /* Token of that start: a repeated NODE_BOOT is recognised by it. */
    uint64_t joined;  /* Log index of the command that made it a member. */
    /* Derived load, for placement. */
    uint32_t replica_count; /* Members of groups on it. */
    uint32_t leader_count;  /* Groups that prefer to be led by it. */
    uint32_t local_count;   /* LOCAL queues on it. */
};

/* --- vhosts, users, permissions --------------------------------------------------------------- */

struct catalog_tags {
    uint32_t count;
    const struct bytes *items;
};

struct catalog_vhost {
    struct pref ref;
    uint64_t id;
    struct bytes name;
    struct bytes description;
    struct bytes default_queue_type; /* "" = not set */
    struct catalog_tags tags;
    struct pmap *exchanges; /* name -> struct catalog_exchange; use the look-ups of catalog.h. */
    struct pmap *queues;    /* name -> struct catalog_queue */
};

enum catalog_hashing { CATALOG_HASHING_SHA256 = 1 }; /* rabbit_password_hashing_sha256 */

struct catalog_user {
    struct pref ref;
    struct bytes name;
    struct bytes
        password_hash; /* Raw: 4 bytes of salt, then the digest. Empty: no log-in by password. */
    uint8_t hashing;   /* enum catalog_hashing */
    struct catalog_tags tags;
    struct pmap *permissions; /* vhost name -> struct catalog_permission */
};

struct catalog_permission {
    struct pref ref;
    struct bytes user;
    struct bytes vhost;
    struct bytes configure, write, read; /* Patterns, as given. */
};

/* --- exchanges -------------------------------------------------------------------------------- */

struct exchange_type; /* route.h */

struct catalog_exchange {
    struct pref ref;
    uint64_t id; /* Never used again. */
    uint64_t vhost_id;
    struct bytes vhost;
    struct bytes name;
    struct bytes type;      /* "direct" ... */
    struct bytes arguments; /* Raw field table, content only. */
    bool durable;
    bool auto_delete;
    bool internal;
    bool predeclared;                   /* Made with the vhost. */
    const struct exchange_type *router; /* NULL: no such type in this build; routes nothing. */
    struct pmap *bindings;              /* With this exchange as source: identity -> binding. */
    struct pref *index;                 /* The router's own structure over the same bindings. */
};

/* --- queues ----------------------------------------------------------------------------------- */

enum catalog_queue_type { /* Frozen. */
                          CATALOG_CLASSIC = 1,
                          CATALOG_QUORUM = 2,
                          CATALOG_STREAM = 3,
};

enum catalog_run {                        /* Where the queue's machine runs (DESIGN §4). Frozen. */
                   CATALOG_RUN_LOCAL = 1, /* In the memory of one shard of one start of one node. */
                   CATALOG_RUN_GROUP = 2, /* A Raft group; its id is the queue's id. */
};

/* One replica. */
struct catalog_member {
    struct uid id; /* Member id within the group. */
    struct uid node;
    bool learner; /* Wanted as a learner, not (yet) as a voter. */
};

/* What the proposer decides about a queue and what the record keeps. */
struct catalog_queue_spec {
    struct bytes vhost;
    struct bytes name;
    struct bytes arguments; /* Raw field table, content only. */
    uint8_t type;           /* enum catalog_queue_type */
    uint8_t run;            /* enum catalog_run */
    bool durable;
    bool exclusive;
    bool auto_delete;
    struct { /* exclusive: the connection that owns it; zero otherwise */
        uint32_t boot;
        uint64_t connection;
    } owner;
    struct { /* CATALOG_RUN_LOCAL */
        struct uid node;
        uint32_t boot;
        uint32_t shard;
    } local;
    struct { /* CATALOG_RUN_GROUP */
        const struct catalog_member
            *members;          /* Sorted by id in a record; in any order in a command. */
        uint32_t member_count; /* 1 .. CATALOG_REPLICAS_MAX */
        uint32_t target_size;  /* Wanted number of voters. */
        struct uid preferred;  /* Node that should lead; zero = any. */
    } group;
};

struct catalog_queue {
    struct pref ref;
    uint64_t id; /* Log index of its declaration: never used again. */
    uint64_t vhost_id;
    uint64_t replicas_version; /* Log index of the last change of its members. */
    struct catalog_queue_spec spec;
};

/* --- bindings --------------------------------------------------------------------------------- */

enum catalog_destination { CATALOG_TO_QUEUE = 1, CATALOG_TO_EXCHANGE = 2 }; /* Frozen. */

/* Identity: source, destination, key and the bytes of the arguments. */
struct catalog_binding {
    struct pref ref;
    uint64_t id;              /* Log index of the command that made it: order of creation. */
    uint64_t source_id;       /* Exchange. */
    uint64_t destination_id;  /* Queue or exchange. */
    uint8_t destination_kind; /* enum catalog_destination */
    bool durable;             /* Both ends are durable. */
    struct bytes vhost;
    struct bytes source;      /* Name of the exchange. */
    struct bytes destination; /* Name of the queue or exchange. */
    struct bytes key;
    struct bytes arguments; /* Raw field table, content only. */
};

#endif
