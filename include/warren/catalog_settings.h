/*
 * What: what is in force for a queue: its arguments, its policy and its operator policy, merged as
 * RabbitMQ does. Derived by the catalog at declaration and whenever a policy of the vhost changes;
 * in every catalog_queue of a view. Ownership: `bytes` here are views into the queue object or into
 * a policy that it holds. Threads: as catalog_queue: immutable. Spec: docs/policies.md.
 */
#ifndef WR_CATALOG_SETTINGS_H
#define WR_CATALOG_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

#include "warren/bytes.h"
#include "warren/str.h"

struct catalog_queue;
struct catalog_queue_spec;
struct catalog_policy;
struct catalog_view;
struct queue_config;

#define QUEUE_DELIVERY_LIMIT_DEFAULT 20 /* of quorum queues, as RabbitMQ from 4.0 */

/* settings.overflow; the same numbers as the queue machine's enum queue_overflow. */
enum queue_settings_overflow {
    SETTINGS_DROP_HEAD = 0,
    SETTINGS_REJECT_PUBLISH = 1,
    SETTINGS_REJECT_PUBLISH_DLX = 2,
};

enum queue_settings_strategy { /* dead_letter_strategy */
                               SETTINGS_STRATEGY_DEFAULT = 0,
                               SETTINGS_AT_MOST_ONCE = 1,
                               SETTINGS_AT_LEAST_ONCE = 2,
};

enum queue_settings_ha { /* ha_mode */
                         SETTINGS_HA_NONE = 0,
                         SETTINGS_HA_ALL = 1,
                         SETTINGS_HA_EXACTLY = 2,
                         SETTINGS_HA_NODES = 3,
};

struct queue_settings {
    uint64_t ttl_ms, expires_ms, length_max, bytes_max; /* UINT64_MAX = none */
    int64_t delivery_limit;                             /* -1 = none */
    uint8_t overflow;                                   /* enum queue_settings_overflow */
    uint8_t dead_letter_strategy;                       /* enum queue_settings_strategy */
    bool has_dead_letter_exchange;
    bool has_dead_letter_key; /* only with an exchange */
    struct bytes dead_letter_exchange, dead_letter_key;
    uint8_t priority_max; /* 0 = no priorities */
    bool single_active_consumer;
    bool lazy;                    /* shown only */
    uint64_t consumer_timeout_ms; /* UINT64_MAX = the node's; 0 is a value */
    uint64_t dedup_window_ms;     /* x-dedup-window; 0 = none */
    bool delays;                  /* x-delayed-messages: obeys x-delay of any message */
    uint8_t ha_mode;              /* enum queue_settings_ha; classic queues only */
    uint32_t ha_count;            /* SETTINGS_HA_EXACTLY: replicas, at least 1 */
    struct bytes ha_nodes;        /* SETTINGS_HA_NODES: content of a field array of longstr */
    uint32_t target_group_size;   /* 0 = not set */
};

/* The queue machine's part of what is in force: what a local queue is made with, and what a leader
 * proposes to its machine when it differs from what that has. */
void queue_settings_config(const struct catalog_queue *queue, struct queue_config *ret);

/* The same of the arguments alone, which never change: what a replica's machine is made with. All
 * replicas must be made alike, whichever policies their nodes know of by then. */
void queue_declared_config(const struct catalog_queue *queue, struct queue_config *ret);

/* What will be in force for a queue that is declared like this, as far as the view knows. *ret has
 * views into *spec and *view. */
void catalog_settings_of_new(const struct catalog_view *view, const struct catalog_queue_spec *spec,
                             struct queue_settings *ret);

/* SETTINGS_HA_NODES: is the node of this name one of them? */
bool queue_settings_names_node(const struct queue_settings *settings, struct bytes node_name);

/* The same settings? Compares the bytes, not where they are. */
bool queue_settings_equal(const struct queue_settings *a, const struct queue_settings *b);

/* The definition in force (effective_policy_definition): policy and operator policy merged, as a
 * raw field table appended to *w. Either may be NULL. Keys in order of their bytes. */
void policy_put_effective(struct writer *w, const struct catalog_policy *policy,
                          const struct catalog_policy *operator_policy);

/*
 * Is it a definition that RabbitMQ would take? False: appends the reason, without the line
 * "Validation failed" that goes before it. definition: raw field table, any bytes.
 */
bool policy_validate(struct bytes definition, bool operator_policy, struct strbuf *text);

#endif
