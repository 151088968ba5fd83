#ifndef WR_QUEUE_INTERNAL_H
#define WR_QUEUE_INTERNAL_H
/*
 * The state of a queue machine and the functions that its files share. Everything that can be
 * computed from the rest is marked "derived": it is not in the snapshot, and queue__fault compares
 * it with what it is derived from.
 */
#include "warren/list.h"
#include "warren/queue.h"
#include "warren/rangemap.h"
#include "warren/vec.h"

/* Priorities 0 to 255. */
#define QUEUE_LEVELS_MAX 256u

/* How many closed clients are remembered, so that an op sent again after a failover is not taken
 * for the first op of a new client. Part of the replicated behaviour: frozen. */
#define QUEUE_CLOSED_MAX 512u

/* Ops per encoded batch; bounds the memory that a reader of untrusted bytes needs. */
#define QUEUE_BATCH_OPS_MAX 65536u

/*
 * Attributes of a run of messages, in `ready` (key = value = position) and in `unacked` (key =
 * ordinal, value = position): a = body size, b = 0 (expiry, when there is one), c = delivery count,
 * d = priority level. In `live` (key = value = position) all are 0.
 */

/* Consumers of one x-priority; ring = those that can take a message now, the next one first. */
struct queue_group {
    int32_t priority;
    uint32_t members;  /* Attached consumers of this priority; derived. A group without is freed. */
    uint32_t eligible; /* Length of ring; derived. */
    struct list ring;  /* The order is state; who is in it is derived. */
};

struct queue_client;

/*
 * A consumer is attached (gets deliveries), detached (only waits for its last unacked to be
 * settled, then goes), or number 0 (basic.get's: never attached, lives as long as its client).
 */
struct queue_consumer {
    struct queue_client *client;
    uint32_t id;
    uint32_t prefetch; /* 0 = unlimited. */
    int32_t priority;
    bool attached;
    bool no_ack;
    bool exclusive;
    bool in_ring;              /* Derived: equals queue__capacity() > 0. */
    uint64_t limit;            /* Highest ordinal that may be delivered. */
    uint64_t delivered;        /* Last ordinal given out. */
    struct rangemap unacked;   /* Ordinal -> position. */
    struct list link;          /* In group->ring when in_ring. */
    struct queue_group *group; /* NULL unless attached. */
    struct bytes name;         /* Owned copies. */
    struct bytes args;
};

/* The last reply of a client, for the case that its op comes again. seq 0 = none. */
struct queue_reply {
    uint64_t seq;
    uint64_t value;
    uint64_t value2;
    uint64_t ordinal; /* GET: the ordinal of consumer 0 that it delivered, 0 = none. */
    uint8_t status;
};

struct queue_client {
    uint64_t id;
    uint64_t last_seq;
    uint64_t limit; /* Most unacked of its consumers (0 = none); GET's do not count. */
    uint64_t held;  /* Unacked of its consumers without consumer 0; derived. */
    bool suspended; /* Its boot is in queue->suspended; derived. */
    struct queue_reply reply;
    VEC(struct queue_consumer *) consumers; /* Ascending by id. */
};

struct queue {
    struct queue_config config;
    uint64_t next_position;
    uint64_t delivered; /* Totals since creation. */
    uint64_t acked;
    uint64_t redelivered;
    uint64_t sealed_by; /* Client that sealed it, 0 = none. */
    bool unused;        /* Auto-delete is due: sealed for good. */
    bool exclusive;     /* The one attached consumer is exclusive; derived. */
    uint32_t consumers; /* Attached; derived. */

    struct rangemap *levels;                    /* Ready messages: config.priority_max + 1 maps. */
    uint64_t level_used[QUEUE_LEVELS_MAX / 64]; /* Bit n: level n is not empty; derived. */
    struct rangemap live;                       /* All positions ready or unacked; derived. */
    uint64_t ready;                             /* Derived, like the next three. */
    uint64_t unacked;
    uint64_t bytes_ready;
    uint64_t bytes_unacked;

    VEC(struct queue_client *) clients; /* Ascending by id. */
    VEC(struct queue_group *) groups;   /* Descending by priority; derived but for their rings. */
    VEC(uint64_t) suspended;            /* Boots that are down and have clients here, ascending. */
    struct rangemap gone;               /* Boots that never come back (key = value = boot). */
    uint64_t *closed;                   /* Ring buffer of QUEUE_CLOSED_MAX ids, or NULL. */
    uint32_t closed_begin;
    uint32_t closed_count;
};

/* One call of queue_apply: where effects go, and what is gathered before it is passed on. */
struct queue_apply {
    struct queue *queue;
    const struct queue_store_ops *store;
    const struct queue_sink *sink;
    struct queue_effect deliver; /* Gathered DELIVER; count 0 = none. */
    uint64_t drop_first;         /* Gathered DROP. */
    uint64_t drop_count;
    uint64_t run_first; /* Enqueued messages not yet in their level; equal attributes. */
    uint64_t run_count;
    uint32_t run_size;
    uint32_t run_level;
    bool unused;                            /* Auto-delete fell due in this call. */
    const struct queue_consumer *redeliver; /* Whose deliveries are being repeated. */
};

/* config.c */
void queue__config_put(struct writer *w, const struct queue_config *config);
bool queue__config_get(struct reader *r, struct queue_config *ret_config);
int queue__config_decode(struct bytes encoded, struct queue_config *ret_config) WR_MUST_USE;

/* effects.c */
void queue__emit(struct queue_apply *a, const struct queue_effect *effect);
void queue__emit_deliver(struct queue_apply *a, const struct queue_consumer *consumer, bool no_ack,
                         uint64_t ordinal, const struct range_run *piece);
void queue__emit_drop(struct queue_apply *a, uint64_t position, uint64_t count);
void queue__emit_reply(struct queue_apply *a, struct queue_client *client, uint64_t seq,
                       enum queue_status status, uint64_t value, uint64_t ordinal);
void queue__emit_applied(struct queue_apply *a, uint64_t client, uint64_t seq);
void queue__flush_effects(struct queue_apply *a);

/* ready.c */
void queue__enqueue(struct queue_apply *a, const struct queue_op *op);
void queue__flush_enqueued(struct queue_apply *a);
bool queue__ready_pop(struct queue *q, uint64_t max, struct range_run *ret_piece);
void queue__ready_put(struct queue *q, const struct range_run *piece);
uint64_t queue__ready_purge(struct queue_apply *a);
/* Messages that are in no place any more: forget them and let their bytes go. */
void queue__remove(struct queue_apply *a, uint64_t position, uint64_t count);

/* consumer.c */
uint64_t queue__capacity(const struct queue_consumer *consumer);
void queue__consumer_update(struct queue_consumer *consumer);
void queue__client_update(struct queue_client *client);
struct queue_consumer *queue__consumer_find(const struct queue_client *client, uint32_t id);
struct queue_consumer *queue__consumer_add(struct queue_client *client, uint32_t id);
void queue__consumer_join(struct queue *q, struct queue_consumer *consumer);
void queue__consumer_leave(struct queue_apply *a, struct queue_consumer *consumer);
void queue__consumer_free(struct queue_consumer *consumer);
void queue__consumer_reap(struct queue_consumer *consumer);
void queue__attach(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__detach(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__credit(struct queue_client *client, const struct queue_op *op);

/* deliver.c */
void queue__deliver(struct queue_apply *a);
void queue__get(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);

/* unacked.c */
void queue__unacked_put(struct queue *q, struct queue_consumer *consumer,
                        const struct range_run *piece);
void queue__settle(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__return_all(struct queue *q, struct queue_consumer *consumer);
typedef void (*queue__unacked_fn)(void *ctx, uint64_t ordinal, const struct range_run *piece);
void queue__each_unacked(const struct queue_consumer *consumer, uint64_t first, uint64_t last,
                         queue__unacked_fn fn, void *ctx);

/* client.c */
size_t queue__client_place(const struct queue *q, uint64_t id);
struct queue_client *queue__client_find(const struct queue *q, uint64_t id);
struct queue_client *queue__client_add(struct queue *q, uint64_t id);
void queue__client_close(struct queue_apply *a, struct queue_client *owned_client);
void queue__client_free(struct queue_client *client);
bool queue__client_was_closed(const struct queue *q, uint64_t id);
void queue__remember_closed(struct queue *q, uint64_t id);
void queue__limit(struct queue_client *client, const struct queue_op *op);
void queue__seal(struct queue_apply *a, struct queue_client *client, const struct queue_op *op);
void queue__unseal(struct queue *q, const struct queue_client *client);

/* boot.c */
uint64_t queue__client_boot(uint64_t client);
bool queue__boot_is_suspended(const struct queue *q, uint64_t boot);
void queue__node_down(struct queue_apply *a, uint64_t boot);
void queue__node_up(struct queue *q, uint64_t boot);
void queue__node_gone(struct queue_apply *a, uint64_t boot);
/* After a client left: forget the suspension of a boot without clients. */
void queue__boot_settle(struct queue *q, uint64_t boot);

/* check.c: what is wrong with the state, or NULL. */
const char *queue__fault(const struct queue *q);

#endif
