/*
 * What: the commands of the catalog's machine, their results and their encoding. A command is one
 * entry of the catalog's group. Deciding (passwords, placement, names, RabbitMQ's equivalence and
 * permission checks) is the proposer's; the machine only checks what must hold in the replicated
 * state. A proposal is repeated when its outcome was not heard: with `by` it is applied once, and
 * answers the same again; without, the second time answers EXISTS, NOT_FOUND or the same id.
 * Ownership: all pointers in a command are borrowed: by encode and apply for the call, by decode
 * from the input bytes and from the command's own `storage`. Spec: docs/catalog.md, "Commands".
 */
#ifndef WR_CATALOG_COMMAND_H
#define WR_CATALOG_COMMAND_H

#include "warren/catalog_types.h"
#include "warren/err.h"

#define CATALOG_COMMAND_VERSION 4u /* the highest; each command has the lowest that knows it */

/* Frozen numbers. */
enum catalog_command_kind {
    CATALOG_CLUSTER_INIT = 1, /* once; later ones: EXISTS. result id = first boot-less node */
    CATALOG_SET_CLUSTER_NAME = 2,
    CATALOG_JOIN_NODE = 3,     /* EXISTS: member already; REFUSED: another member has the name */
    CATALOG_NODE_BOOT = 4,     /* result.id = boot number; ends the node's boots before */
    CATALOG_NODE_DOWN = 5,     /* STALE unless boot is its newest; ends that boot */
    CATALOG_FORGET_NODE = 6,   /* the node is no member any more; its replicas are taken off */
    CATALOG_PUT_VHOST = 10,    /* creates with the predeclared exchanges, or changes texts */
    CATALOG_DELETE_VHOST = 11, /* with all that is in it, and the permissions on it */
    CATALOG_PUT_USER = 12,
    CATALOG_DELETE_USER = 13,    /* with its permissions */
    CATALOG_SET_PERMISSION = 14, /* NO_USER, NO_VHOST */
    CATALOG_CLEAR_PERMISSION = 15,
    CATALOG_DECLARE_EXCHANGE = 20, /* EXISTS + id: compare with what the view has */
    CATALOG_DELETE_EXCHANGE = 21,
    CATALOG_DECLARE_QUEUE = 22, /* EXISTS + id; STALE: its boot or owner's boot is over; NO_NODE. A
                                   history: NO_EXCHANGE, STALE: the exchange is another one */
    CATALOG_DELETE_QUEUE = 23,  /* by id: NOT_FOUND when that queue is gone */
    CATALOG_SET_REPLICAS = 24,  /* STALE unless `version` is the queue's replicas_version;
                                   REFUSED: no voter stays one, or the queue is local */
    CATALOG_BIND = 25,          /* EXISTS: was bound; NO_EXCHANGE, NO_QUEUE */
    CATALOG_UNBIND = 26,        /* NOT_FOUND: was not bound */
    CATALOG_PUT_POLICY = 40,    /* in place of one of that name; NO_VHOST, INVALID */
    CATALOG_DELETE_POLICY = 41, /* NO_VHOST, NOT_FOUND */
    CATALOG_PUT_PARAMETER = 42,
    CATALOG_DELETE_PARAMETER = 43,
    CATALOG_SET_VHOST_LIMITS = 44, /* all of them at once */
    CATALOG_SET_USER_LIMITS = 45,  /* all of them at once */
    CATALOG_SET_TOPIC_PERMISSION = 46,
    CATALOG_CLEAR_TOPIC_PERMISSION = 47, /* exchange "": all of the user in the vhost */
    CATALOG_CHANGE_VHOST = 48,           /* some of its texts; NO_VHOST */
    CATALOG_PUT_SEAT = 49,  /* LIMIT; STALE: its boot is over; NO_VHOST, NO_USER; result.id = 1: it
                               is kept, 0: nothing counts it (any more) */
    CATALOG_DROP_SEAT = 50, /* NOT_FOUND */
};

/* Numbers are frozen: nodes of different versions tell them to each other. */
#define CATALOG_STATUS_TABLE(X)                                                                    \
    X(CATALOG_OK, 0, "ok")                                                                         \
    X(CATALOG_EXISTS, 1, "exists already")                                                         \
    X(CATALOG_NOT_FOUND, 2, "not found")                                                           \
    X(CATALOG_IN_USE, 3, "in use")                                                                 \
    X(CATALOG_NOT_EMPTY, 4, "not empty")                                                           \
    X(CATALOG_NO_VHOST, 5, "no such vhost")                                                        \
    X(CATALOG_NO_EXCHANGE, 6, "no such exchange")                                                  \
    X(CATALOG_NO_QUEUE, 7, "no such queue")                                                        \
    X(CATALOG_NO_USER, 8, "no such user")                                                          \
    X(CATALOG_NO_NODE, 9, "no such node")                                                          \
    X(CATALOG_REFUSED, 10, "refused")                                                              \
    X(CATALOG_STALE, 11, "decided on an outdated state")                                           \
    X(CATALOG_INVALID, 12, "invalid command")                                                      \
    X(CATALOG_LIMIT, 13, "limit reached")                                                          \
    X(CATALOG_NOT_FORMED, 14, "the cluster is not formed yet")                                     \
    X(CATALOG_LATE, 15, "came too late")

enum catalog_status {
#define CATALOG_STATUS_ENUM(name, number, text) name = number,
    CATALOG_STATUS_TABLE(CATALOG_STATUS_ENUM)
#undef CATALOG_STATUS_ENUM
};

/* Static text of a status; "unknown" for other numbers. */
const char *catalog_status_text(int status);

struct catalog_result {
    int status;  /* enum catalog_status */
    uint64_t id; /* Of what was created, changed, removed or exists; NODE_BOOT: the boot number. */
    uint64_t index; /* Log index at which the command was applied. */
};

enum catalog_user_part { /* PUT_USER.parts */
                         CATALOG_USER_PASSWORD = 1,
                         CATALOG_USER_TAGS = 2,
                         CATALOG_USER_CREATE = 4, /* must not exist yet (EXISTS); without it:
                                                     NO_USER unless it exists, */
                         CATALOG_USER_UPSERT =
                             8, /* or, with this, created when it does not exist */
};

struct catalog_user_spec {
    struct bytes name;
    struct bytes password_hash;
    uint8_t hashing; /* enum catalog_hashing; 0 when no password is set */
    uint8_t parts;   /* enum catalog_user_part: what is set */
    struct catalog_tags tags;
};

struct catalog_vhost_spec {
    struct bytes name;
    struct bytes description;
    struct bytes default_queue_type;
    struct catalog_tags tags;
    bool create; /* must not exist yet (EXISTS); false: created, or its texts changed */
};

enum catalog_vhost_part { /* CHANGE_VHOST.parts */
                          CATALOG_VHOST_DESCRIPTION = 1,
                          CATALOG_VHOST_TAGS = 2,
                          CATALOG_VHOST_QUEUE_TYPE = 4,
};

/* Component and name of a parameter; vhost "" = global. */
struct catalog_parameter_spec {
    struct bytes vhost, component, name;
    struct bytes value; /* type letter and encoding of one field-table value; PUT only */
};

struct catalog_exchange_spec {
    struct bytes vhost, name, type, arguments;
    bool durable, auto_delete, internal;
};

struct catalog_binding_spec {
    struct bytes vhost, source, destination, key, arguments;
    uint8_t destination_kind; /* enum catalog_destination */
};

/* Who proposes it, for a command to count once however often it gets into the log. boot 0: nobody
 * (the formation of the cluster and of boots, whose commands may be applied again). */
struct catalog_proposer {
    uint32_t boot;    /* of its node: running, or LATE */
    uint32_t shard;   /* of that */
    uint64_t number;  /* of the command there; what was applied answers again what it answered */
    uint64_t settled; /* the proposer waits for none below, and proposes none of them again: LATE */
};

struct catalog_command {
    uint8_t kind; /* enum catalog_command_kind */
    struct catalog_proposer by;
    union {
        struct {
            struct uid cluster;
            struct bytes name;
            struct catalog_node_info node; /* the first member */
            struct bytes vhost;            /* default vhost, "/" */
            struct catalog_user_spec user; /* default user, gets ".*" everywhere; name "": none */
        } init;
        struct {
            struct bytes name;
        } cluster_name;
        struct catalog_node_info join;
        struct {
            struct catalog_node_info node;
            struct uid start; /* random, one per start of the process */
        } boot;
        struct {
            struct uid node;
            uint32_t boot;
        } down;
        struct {
            struct uid node;
        } forget;
        struct catalog_vhost_spec vhost;
        struct {
            struct bytes name;
        } delete_vhost;
        struct catalog_user_spec user;
        struct {
            struct bytes name;
        } delete_user;
        struct {
            struct bytes user, vhost, configure, write, read;
        } permission; /* SET_ and CLEAR_PERMISSION (user and vhost only) */
        struct catalog_exchange_spec exchange;
        struct {
            struct bytes vhost, name;
            bool if_unused; /* IN_USE when it is the source of a binding */
        } delete_exchange;
        struct catalog_queue_spec queue;
        struct {
            uint64_t id;
        } delete_queue;
        struct {
            uint64_t id;
            uint64_t version; /* replicas_version that the decision is based on */
            const struct catalog_member *members;
            uint32_t member_count;
            uint32_t target_size;
            struct uid preferred;
        } replicas;
        struct catalog_binding_spec binding; /* BIND, UNBIND */
        struct catalog_policy_spec policy;   /* PUT_POLICY; DELETE_: vhost, name, operator_policy */
        struct catalog_parameter_spec parameter; /* PUT_ and DELETE_PARAMETER */
        struct {
            struct bytes vhost;
            struct catalog_vhost_limits limits;
        } vhost_limits;
        struct {
            struct bytes user;
            struct catalog_user_limits limits;
        } user_limits;
        struct {
            struct bytes user, vhost, exchange, write, read;
        } topic_permission; /* SET_ and CLEAR_TOPIC_PERMISSION (user, vhost, exchange) */
        struct {
            struct catalog_vhost_spec spec; /* create is not used */
            uint8_t parts;                  /* enum catalog_vhost_part: what is set */
        } change_vhost;
        struct {
            uint32_t boot;
            uint64_t connection;
            struct bytes vhost, user;
            uint32_t channels;
            bool open; /* It was open before there was a limit: counted, never refused. */
        } seat;        /* PUT_ and DROP_SEAT (boot, connection) */
    } u;
    struct { /* Where decode puts arrays; otherwise unused. A decoded command must not be moved. */
        struct catalog_member members[CATALOG_REPLICAS_MAX];
        struct bytes tags[CATALOG_TAGS_MAX];
    } storage;
};

/* Appends the encoding to *out. Asserts the limits of catalog_types.h: check client input before.
 */
void catalog_command_encode(struct buf **out, const struct catalog_command *command);

/*
 * Decodes untrusted bytes; *ret_command is a view into them and into itself. WR_E_VERSION: of a
 * newer version or an unknown kind; WR_E_CORRUPT: anything else that is not an encoded command.
 */
WR_MUST_USE int catalog_command_decode(struct bytes input, struct catalog_command *ret_command);

/* True when names, counts and enums of the command are within the limits (what encode asserts). */
bool catalog_command_valid(const struct catalog_command *command);

#endif
