#ifndef WR_BROKER_ADMIN_H
#define WR_BROKER_ADMIN_H
/*
 * What administers a cluster: users, vhosts, permissions, policies, limits, parameters, for
 * warrenctl now and the HTTP API later (docs/access.md, docs/policies.md). They take plain values;
 * whoever calls has parsed JSON or a command line into them.
 *
 * Each change answers through a broker_done_fn, in a later turn, once this shard's view has it:
 * fault->code == 0, or one of enum broker_admin_fault with RabbitMQ's text. A change that the
 * cluster may have made all the same answers BROKER_ADMIN_UNAVAILABLE: look again. name is what the
 * call named, a and b are 0 unless said. Parameters are borrowed for the call. Lists are read from
 * this shard's view at once; objects are borrowed until the callback returns. Nobody's permissions
 * are asked: who may call is the caller's business. Threads: the shard that owns the broker.
 */
#include "warren/broker.h"

enum broker_admin_fault { /* broker_fault.code here; with warrenctl's exit code */
                          BROKER_ADMIN_INVALID =
                              1, /* a value that will not do; "Validation failed\n\n..." (69, 65) */
                          BROKER_ADMIN_NO_USER = 2,   /* User "u" does not exist (67) */
                          BROKER_ADMIN_NO_VHOST = 3,  /* Virtual host 'v' does not exist (65) */
                          BROKER_ADMIN_NOT_FOUND = 4, /* no such policy, parameter ... (69) */
                          BROKER_ADMIN_EXISTS = 5,    /* (70) */
                          BROKER_ADMIN_REFUSED = 6,   /* wrong password (65) */
                          BROKER_ADMIN_LIMIT = 7,     /* (69) */
                          BROKER_ADMIN_UNAVAILABLE =
                              8,                       /* no leader: of the catalog, a queue (69) */
                          BROKER_ADMIN_IN_USE = 9,     /* the queue has consumers (64) */
                          BROKER_ADMIN_NOT_EMPTY = 10, /* the queue has messages (64) */
};

/* --- users ------------------------------------------------------------------------------------ */

/* What a change of a user may set. Absent: has_... false, NULL. */
struct broker_user_change {
    bool has_password; /* clear text; "": no log-in by password */
    struct bytes password;
    bool has_hash; /* as RabbitMQ exports it, decoded from base64: salt and digest */
    struct bytes hash;
    uint8_t hashing;                 /* enum catalog_hashing, for `hash` */
    const struct catalog_tags *tags; /* NULL: as they are */
};

/* EXISTS if it does, INVALID for an empty name. */
void broker_user_add(struct broker *broker, struct bytes name,
                     const struct broker_user_change *change, broker_done_fn done, void *ctx);
/* NO_USER unless it exists. */
void broker_user_change(struct broker *broker, struct bytes name,
                        const struct broker_user_change *change, broker_done_fn done, void *ctx);
/* Makes it, or changes it (imports, HTTP PUT). */
void broker_user_put(struct broker *broker, struct bytes name,
                     const struct broker_user_change *change, broker_done_fn done, void *ctx);
void broker_user_delete(struct broker *broker, struct bytes name, broker_done_fn done, void *ctx);
/* REFUSED with the text. Slow on failure, as log-ins are, and logged. */
void broker_user_authenticate(struct broker *broker, struct bytes name, struct bytes password,
                              broker_done_fn done, void *ctx);
/* Salt and digest of a password, for hash_password: 36 bytes (SHA-256). */
#define BROKER_HASH_SIZE 36u
void broker_hash_password(struct broker *broker, struct bytes password,
                          uint8_t ret_hash[BROKER_HASH_SIZE]);
/* "rabbit_password_hashing_sha256" and so on; NULL, 0: no such. */
const char *broker_hashing_name(uint8_t hashing);
uint8_t broker_hashing_find(struct bytes name);
void broker_list_users(struct broker *broker,
                       void (*fn)(void *ctx, const struct catalog_user *user), void *ctx);

/* --- vhosts ----------------------------------------------------------------------------------- */

/* NULL members: as they are (a new one: empty). */
struct broker_vhost_change {
    const struct bytes *description;
    const struct bytes *default_queue_type; /* "classic", "quorum", ""; others are INVALID */
    const struct catalog_tags *tags;
};

/* An existing vhost is kept as it is: no error, as in RabbitMQ; a = 1 when it was made. */
void broker_vhost_add(struct broker *broker, struct bytes name,
                      const struct broker_vhost_change *change, broker_done_fn done, void *ctx);
void broker_vhost_change(struct broker *broker, struct bytes name,
                         const struct broker_vhost_change *change, broker_done_fn done, void *ctx);
/* Its connections are closed: "vhost 'v' is deleted". */
void broker_vhost_delete(struct broker *broker, struct bytes name, broker_done_fn done, void *ctx);
void broker_list_vhosts(struct broker *broker,
                        void (*fn)(void *ctx, const struct catalog_vhost *vhost), void *ctx);

/* --- permissions ------------------------------------------------------------------------------ */

void broker_permissions_set(struct broker *broker, struct bytes user, struct bytes vhost,
                            struct bytes configure, struct bytes write, struct bytes read,
                            broker_done_fn done, void *ctx);
/* None there: no error. */
void broker_permissions_clear(struct broker *broker, struct bytes user, struct bytes vhost,
                              broker_done_fn done, void *ctx);
/* user NULL: of all users; vhost NULL: in all vhosts. NO_USER, NO_VHOST: returned, with its text;
 * 0 = ok. */
uint16_t broker_list_permissions(struct broker *broker, const struct bytes *user,
                                 const struct bytes *vhost,
                                 void (*fn)(void *ctx, const struct catalog_permission *permission),
                                 void *ctx, struct broker_fault *fault);
void broker_topic_permissions_set(struct broker *broker, struct bytes user, struct bytes vhost,
                                  struct bytes exchange, struct bytes write, struct bytes read,
                                  broker_done_fn done, void *ctx);
/* exchange "": all of the user in the vhost. None there: no error. */
void broker_topic_permissions_clear(struct broker *broker, struct bytes user, struct bytes vhost,
                                    struct bytes exchange, broker_done_fn done, void *ctx);
uint16_t broker_list_topic_permissions(
    struct broker *broker, const struct bytes *user, const struct bytes *vhost,
    void (*fn)(void *ctx, const struct catalog_topic_permission *permission), void *ctx,
    struct broker_fault *fault);

/* --- queues ----------------------------------------------------------------------------------- */

/* NOT_FOUND; a = messages removed. An exclusive queue's owner is not asked. */
void broker_admin_purge(struct broker *broker, struct bytes vhost, struct bytes name,
                        broker_done_fn done, void *ctx);
/* flags: BROKER_IF_UNUSED (else IN_USE), BROKER_IF_EMPTY (else NOT_EMPTY). NOT_FOUND; a = messages
 * removed. */
void broker_admin_delete(struct broker *broker, struct bytes vhost, struct bytes name,
                         uint32_t flags, broker_done_fn done, void *ctx);

/* --- policies --------------------------------------------------------------------------------- */

/* "all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"; "" is all. False:
 * none of them. */
bool broker_apply_to_find(struct bytes name, uint8_t *ret_apply_to);
/* The text that refuses such a name, "Validation failed" included. */
void broker_apply_to_refusal(struct bytes name, struct strbuf *text);
const char *broker_apply_to_name(uint8_t apply_to);

/* Sets a policy or an operator policy, in place of one of that name. INVALID: "Validation
 * failed\n\n...". The definition is a raw field table: strings S, integers l, booleans t, lists A,
 * objects F, numbers with a fraction d, null V. */
void broker_policy_set(struct broker *broker, const struct catalog_policy_spec *policy,
                       broker_done_fn done, void *ctx);
void broker_policy_clear(struct broker *broker, struct bytes vhost, struct bytes name,
                         bool operator_policy, broker_done_fn done, void *ctx);
/* vhost NULL: of all vhosts. Within a vhost best first. */
uint16_t broker_list_policies(struct broker *broker, const struct bytes *vhost,
                              bool operator_policy,
                              void (*fn)(void *ctx, const struct catalog_policy *policy), void *ctx,
                              struct broker_fault *fault);

/* --- limits ----------------------------------------------------------------------------------- */

/* All limits of the vhost at once. */
void broker_vhost_limits_set(struct broker *broker, struct bytes vhost,
                             const struct catalog_vhost_limits *limits, broker_done_fn done,
                             void *ctx);
void broker_user_limits_set(struct broker *broker, struct bytes user,
                            const struct catalog_user_limits *limits, broker_done_fn done,
                            void *ctx);
/* The lists of vhosts and users have them. */

/* --- runtime parameters ----------------------------------------------------------------------- */

/* vhost "": global, component "". value: type letter and encoding of one field-table value. */
void broker_parameter_set(struct broker *broker, struct bytes vhost, struct bytes component,
                          struct bytes name, struct bytes value, broker_done_fn done, void *ctx);
void broker_parameter_clear(struct broker *broker, struct bytes vhost, struct bytes component,
                            struct bytes name, broker_done_fn done, void *ctx);
/* vhost NULL: the global ones. */
uint16_t broker_list_parameters(struct broker *broker, const struct bytes *vhost,
                                void (*fn)(void *ctx, const struct catalog_parameter *parameter),
                                void *ctx, struct broker_fault *fault);

#endif
