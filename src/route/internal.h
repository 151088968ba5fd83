/*
 * What: what the exchange types share: the table of types, sets of bindings, and the scratch memory
 * of one thread's routing.
 */
#ifndef WR_ROUTE_INTERNAL_H
#define WR_ROUTE_INTERNAL_H

#include "warren/route.h"
#include "warren/vec.h"
#include "warren/wire_table.h"

/* --- exchange types ------------------------------------------------------------------------------
 */

struct route_scratch;

/*
 * One type. add and remove are pure: a new index (one reference; NULL = empty) from a borrowed one.
 * route calls route__emit for every binding that matches (more than once does no harm); with
 * `by_key` it is called for each routing key, otherwise once. Whatever else of the message a type
 * wants it has from route__input, so that nobody can depend on more than the key unnoticed.
 */
struct exchange_type {
    const char *name;
    bool by_key;
    bool delays;                       /* What is reached from it is delayed. */
    bool keeps;                        /* It has a history. */
    const struct exchange_type *inner; /* Set: has all functions in place of this one's. */
    int (*validate)(struct bytes arguments, struct strbuf *text); /* A declaration; may be NULL. */
    int (*validate_binding)(const struct route_binding *binding,
                            struct strbuf *text); /* may be NULL */
    struct pref *(*add)(struct pref *index, struct catalog_binding *binding);
    struct pref *(*remove)(struct pref *index, struct catalog_binding *binding);
    void (*route)(const struct catalog_exchange *exchange, struct bytes key,
                  struct route_result *result);
};

extern const struct exchange_type route__direct;
extern const struct exchange_type route__fanout;
extern const struct exchange_type route__topic;
extern const struct exchange_type route__headers;
extern const struct exchange_type route__consistent_hash;
extern const struct exchange_type route__modulus_hash;
extern const struct exchange_type route__random;
extern const struct exchange_type route__local_random;
extern const struct exchange_type route__recent_history;
extern const struct exchange_type route__delayed; /* For declarations; routes nothing. */

/* The delayed type with the inner one that the exchange's arguments name; NULL: none. */
const struct exchange_type *route__delayed_find(struct bytes arguments);

/* The type whose functions count. */
static inline const struct exchange_type *route__core(const struct exchange_type *type)
{
    return type->inner == NULL ? type : type->inner;
}

/* --- sets of bindings: immutable, structure-sharing
 * ------------------------------------------------ */

#define TARGETS_INLINE_MAX 8

/* What is needed of the binding to reach a queue is copied: one cache line less for each. */
struct target {
    uint64_t queue_id; /* 0: it leads to an exchange. */
    struct catalog_binding *binding;
};

/* Up to TARGETS_INLINE_MAX: items, by id; above: map (id -> binding). Which one depends on the
 * number alone, so the order of routing depends on the content alone. */
struct target_set {
    struct pref ref;
    uint32_t count;
    struct pmap *map;
    struct target items[];
};

/* A new set (one reference); the old one (NULL = empty) is borrowed. remove: NULL when empty. */
struct target_set *targets_add(const struct target_set *set, struct catalog_binding *binding);
struct target_set *targets_remove(const struct target_set *set,
                                  const struct catalog_binding *binding);
void targets_emit(const struct target_set *set, struct route_result *result);

/* A set that mostly has one member, as a value inside of something else. */
struct targets {
    uint64_t queue_id;   /* TARGETS_MANY: object is a struct target_set; otherwise as in target */
    struct pref *object; /* That, or the only binding. NULL: empty. */
};

#define TARGETS_MANY UINT64_MAX

/* Of an object that is being made: it owns what it holds. */
void targets_put(struct targets *targets, struct catalog_binding *binding);
void targets_take(struct targets *targets, const struct catalog_binding *binding);
struct targets targets_copy(const struct targets *targets);
void targets_drop(struct targets *owned_targets);

static inline bool targets_empty(const struct targets *targets)
{
    return targets->object == NULL;
}

/* Not empty. */
static inline void targets_emit_each(const struct targets *targets, struct route_result *result);

VEC_TYPE(binding_vec, const struct catalog_binding *);
/* Appends all of them, in the order of routing. */
void targets_collect(const struct target_set *set, struct binding_vec *out);

/* --- scratch
 * ------------------------------------------------------------------------------------------ */

/* What is known of a queue: its object in the view of `serial`, and the last message it got. */
struct queue_slot {
    uint64_t id; /* 0 = free */
    uint64_t serial;
    uint64_t epoch;
    const struct catalog_queue *queue;
};

struct mark_slot {
    uint64_t id; /* 0 = free */
    uint64_t epoch;
};

/* A set of ids that is emptied by counting up its epoch. */
struct mark_set {
    struct mark_slot *slots;
    uint32_t mask;
    uint32_t used;
    uint64_t epoch;
};

/* An exchange on the way of a message. */
struct route_step {
    const struct catalog_exchange *exchange;
    bool delayed; /* It was reached from a delayed one. */
};

struct topic_node;

struct header_field {
    struct bytes key;
    struct wire_value value;
    uint32_t position;
};

struct route_scratch {
    const struct catalog_view *view; /* of the message that is routed */
    uint64_t serial;
    uint64_t epoch; /* of the message */
    struct queue_slot *slots;
    uint32_t slot_mask;
    uint32_t slot_used;
    const struct catalog_vhost *vhost; /* in the view of vhost_serial */
    uint64_t vhost_id;
    uint64_t vhost_serial;
    const struct route_input *input; /* of the message */
    bool matched;                    /* The exchange at work has matched something. */
    bool delayed;                    /* It was reached from a delayed one, or is one. */
    VEC(struct route_step) worklist;
    struct mark_set visited; /* ids of exchanges */
    /* topic.c */
    VEC(const struct topic_node *) current;
    VEC(const struct topic_node *) next;
    VEC(const struct topic_node *) hashes;
    struct mark_set entered; /* ids of nodes */
    uint64_t steps;          /* Nodes times words so far: the work, for tests. */
    /* local_random.c */
    struct binding_vec candidates;
    /* headers.c */
    VEC(struct header_field) headers;
};

struct route_scratch *route__scratch_new(void);
void route__scratch_free(struct route_scratch *owned_scratch);

/* Empties the set; adds an id (not 0) and says whether it was new. */
void route__marks_clear(struct mark_set *set);
bool route__marks_add(struct mark_set *set, uint64_t id);

/* The whole message, for a type that looks at more than the key: the result then is not key_only.
 */
static inline const struct route_input *route__input(struct route_result *result)
{
    result->key_only = false;
    return result->scratch->input;
}

/* --- digest.c: hashes of what a message says ------------------------------------------------- */

uint64_t route__digest_bytes(struct bytes text);
uint64_t route__digest_number(uint64_t number);
uint64_t route__digest_value(const struct wire_value *value);   /* Integers by value. */
uint64_t route__digest_keys(const struct route_result *result); /* All routing keys together. */

/* A random number of this exchange for the message that is routed; a number as one in [0, count).
 */
uint64_t route__random_for(struct route_result *result, const struct catalog_exchange *exchange);
uint32_t route__below(uint64_t number, uint32_t count);

/* --- results ---------------------------------------------------------------------------------- */

/* One binding matched: its queue goes into the result, its exchange onto the worklist; once each.
 */
void route__emit(struct route_result *result, const struct catalog_binding *binding);
/* The same for a binding that leads to this queue. */
void route__emit_to(struct route_result *result, uint64_t queue_id);
/* The queue of that id, which must be in the view. */
const struct catalog_queue *route__queue(struct route_scratch *s, uint64_t id);
/* Into the history of the exchange at work, if it is to be kept. */
void route__keep(struct route_result *result, const struct catalog_exchange *exchange);
/* A queue that was found otherwise. */
void route__emit_queue(struct route_result *result, const struct catalog_queue *queue);

static inline void targets_emit_each(const struct targets *targets, struct route_result *result)
{
    if (targets->queue_id == TARGETS_MANY) {
        targets_emit((const struct target_set *)targets->object, result);
    } else if (targets->queue_id != 0) {
        route__emit_to(result, targets->queue_id);
    } else {
        route__emit(result, (const struct catalog_binding *)targets->object);
    }
}

#endif
