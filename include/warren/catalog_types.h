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
#include "warren/catalog_settings.h"
#include "warren/pattern.h"
#include "warren/pmap.h"
#include "warren/uid.h"

#define CATALOG_NAME_MAX       255u                /* Names, routing keys: AMQP's shortstr. */
#define CATALOG_ARGUMENTS_MAX  (UINT32_C(1) << 20) /* Bytes of one argument table. */
#define CATALOG_TEXT_MAX       4096u               /* Descriptions, patterns. */
#define CATALOG_DEFINITION_MAX 65536u              /* Bytes of a policy's definition. */
#define CATALOG_REPLICAS_MAX   32u                 /* Members of one queue's group. */
#define CATALOG_TAGS_MAX       32u                 /* Tags of a user or vhost. */
#define CATALOG_NODES_MAX      64u

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

/* Below 0 = no limit: CATALOG_LIMIT_UNSET, or what was set less one, as lists show it. */
#define CATALOG_LIMIT_UNSET (-1)
struct catalog_vhost_limits {
    int64_t connections_max; /* open connections to it, over the cluster */
    int64_t queues_max;
};

struct catalog_user_limits {
    int64_t connections_max; /* open connections of the user, over the cluster */
    int64_t channels_max;    /* open channels over all its connections */
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
    struct pmap *histories; /* name of the exchange -> struct catalog_queue */
    struct catalog_vhost_limits limits;
    struct pmap *policies;                    /* name -> struct catalog_policy */
    struct pmap *operator_policies;           /* name -> struct catalog_policy */
    struct pmap *parameters;                  /* component, name -> struct catalog_parameter */
    struct catalog_ranking *ranking;          /* Derived: policies in the order they are tried. */
    struct catalog_ranking *operator_ranking; /* NULL: none */
    uint32_t connection_count;                /* Derived, see struct catalog_seat. */
};

enum catalog_hashing { /* RabbitMQ's rabbit_password_hashing_... Frozen. */
                       CATALOG_HASHING_SHA256 = 1,
                       CATALOG_HASHING_SHA512 = 2,
                       CATALOG_HASHING_MD5 = 3,
};

struct catalog_user {
    struct pref ref;
    struct bytes name;
    struct bytes
        password_hash; /* Raw: 4 bytes of salt, then the digest. Empty: no log-in by password. */
    uint8_t hashing;   /* enum catalog_hashing */
    struct catalog_tags tags;
    struct pmap *permissions; /* vhost name -> struct catalog_permission */
    uint64_t created; /* Of this node alone: another number when it was deleted and made again. */
    struct catalog_user_limits limits;
    struct pmap *topic_permissions; /* vhost, exchange -> struct catalog_topic_permission */
    uint32_t connection_count;      /* Derived, see struct catalog_seat. */
    uint32_t channel_count;
};

struct catalog_permission {
    struct pref ref;
    struct bytes user;
    struct bytes vhost;
    struct bytes configure, write, read; /* Patterns, as given. */
};

/* Which routing keys of one topic exchange a user may write and read. The exchange need not exist.
 */
struct catalog_topic_permission {
    struct pref ref;
    struct bytes user;
    struct bytes vhost;
    struct bytes exchange;
    struct bytes write, read; /* Patterns, as given: with {username} and {vhost}. */
};

/*
 * One open connection, known to the catalog only while its vhost or its user has a limit that
 * counts connections or channels: so that two nodes cannot race past it. Ends with the node's boot.
 */
struct catalog_seat {
    struct pref ref;
    uint32_t boot;
    uint64_t connection; /* Unique within the boot. */
    struct bytes vhost;
    struct bytes user;
    uint32_t channels; /* Open now; 0 while its user has no limit of channels. */
};

/* --- policies and parameters ------------------------------------------------------------------ */

enum catalog_apply_to { /* Frozen. */
                        CATALOG_APPLY_ALL = 0,
                        CATALOG_APPLY_QUEUES = 1,
                        CATALOG_APPLY_CLASSIC_QUEUES = 2,
                        CATALOG_APPLY_QUORUM_QUEUES = 3,
                        CATALOG_APPLY_STREAMS = 4,
                        CATALOG_APPLY_EXCHANGES = 5,
};

struct catalog_policy_spec {
    struct bytes vhost;
    struct bytes name;
    struct bytes pattern;
    struct bytes definition; /* Raw field table, content only: fields of S, l, t, A, F. */
    int64_t priority;
    uint8_t apply_to;     /* enum catalog_apply_to */
    bool operator_policy; /* false: a user's policy */
};

struct catalog_policy {
    struct pref ref;
    struct catalog_policy_spec spec;
    struct pattern *pattern; /* Compiled; shared by all threads. */
    uint8_t applicable;      /* Bit 1 << enum catalog_queue_type: it has no key that the type has
                                not; bit 0: exchanges. */
};

/* Policies of one vhost, best first: by priority, then by name. */
struct catalog_ranking {
    struct pref ref;
    uint32_t count;
    struct catalog_policy *items[];
};

/* A runtime parameter (federation, shovel ...): stored and shown; who uses it looks it up. */
struct catalog_parameter {
    struct pref ref;
    struct bytes vhost; /* "" = global */
    struct bytes component;
    struct bytes name;
    struct bytes value; /* One field-table value: type letter and encoding. */
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
    struct catalog_policy *policy;      /* Derived: the policy that applies; NULL = none. */
    bool has_alternate;                 /* Derived: an alternate exchange is named, */
    struct bytes alternate;             /* in the arguments or else in the policy. */
};

/* The type whose exchanges have a history (CATALOG_HISTORY), and how long it is. */
#define CATALOG_HISTORY_EXCHANGE "x-recent-history"
#define CATALOG_HISTORY_LENGTH   "x-recent-history-length"
#define CATALOG_HISTORY_DEFAULT  20

/* --- queues ----------------------------------------------------------------------------------- */

enum catalog_queue_type { /* Frozen. */
                          CATALOG_CLASSIC = 1,
                          CATALOG_QUORUM = 2,
                          CATALOG_STREAM = 3,
                          /* What an x-recent-history exchange keeps. It has the exchange's name,
                           * arguments and durability, and is in a table of its own: no client and
                           * no policy can name it. */
                          CATALOG_HISTORY = 4,
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

struct catalog_members {
    const struct catalog_member *items; /* Sorted by id. */
    uint32_t count;
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
    /* The members it was declared with, if others are wanted since: catalog_queue_founders(). */
    struct catalog_members founders;
    /* Derived from the policies of the vhost; a change of any of them gives a new object. */
    struct catalog_policy *policy;          /* NULL = none applies */
    struct catalog_policy *operator_policy; /* NULL = none applies */
    struct queue_settings settings;         /* what is in force */
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
