#ifndef WR_QUEUE_STATE_H
#define WR_QUEUE_STATE_H
/*
 * The state of a queue machine. Everything that can be computed from the rest is marked "derived":
 * it is not in the snapshot, and queue__fault compares it with what it is derived from.
 */
#include "warren/list.h"
#include "warren/map.h"
#include "warren/queue.h"
#include "warren/rangemap.h"
#include "warren/vec.h"

/* Priorities 0 to 255. */
#define QUEUE_LEVELS_MAX 256u

/* How many closed clients are remembered, so that an op sent again after a failover is not taken
 * for the first op of a new client. Part of the replicated behaviour: frozen, as all that follow.
 */
#define QUEUE_CLOSED_MAX 512u

/* Ops per encoded batch; bounds the memory that a reader of untrusted bytes needs. */
#define QUEUE_BATCH_OPS_MAX 65536u

/* Publishers that are remembered, the runs of numbers of each, and message ids. */
#define QUEUE_PUBLISHERS_MAX     1024u
#define QUEUE_PUBLISHER_RUNS_MAX 1024u
#define QUEUE_IDS_MAX            262144u

/* A later time, and a longer delay, count as this: sums do not overflow. */
#define QUEUE_TIME_MAX (UINT64_C(1) << 61)

/* A longer time to live (34 years) counts as none: 40 bits of a delayed message hold it. */
#define QUEUE_TTL_MAX ((UINT64_C(1) << 40) - 2)

/*
 * Attributes of a run of messages (struct range_attr), by where it is:
 * - ready (key = value = position) and unacked (key = ordinal, value = position): a = body size, b
 * = expiry + 1 (0 = never), c = delivery count, d = priority level.
 * - released (key = release number, value = position): a, b the same; c and d are the lower and the
 *   upper half of next_position when it was released. It was never delivered.
 * - delayed (key = value = position): a = body size, b = when it is due, c and the upper 24 bits of
 *   d are the lower 32 and the upper 8 bits of ttl + 1 (0 = none), the lower 8 bits of d the level.
 * - dead (key = value = position) and unacked of a dead-letter consumer: b = time of death, c =
 * enum queue_death; a, d = 0.
 * - live (key = value = position): all 0.
 */
struct queue_level {
    struct rangemap ready;
    struct rangemap released; /* Were delayed: each stands behind what was enqueued before. */
};

/* Something that will be due for the messages with the keys [first, first + count) of a place, as
 * far as they are still there. */
struct queue_moment {
    uint64_t when;
    uint64_t first;
    uint64_t count;
    uint32_t place; /* For the user. */
};

/* Moments, the earliest first: a binary heap, and the moment added last, which grows while what is
 * added continues it. Derived, and with entries that are out of date. */
struct queue_timeline {
    VEC(struct queue_moment) heap;
    struct queue_moment tail; /* count 0 = none. */
};

/* Runs of messages, each with key = value = position. */
VEC_TYPE(queue_pieces, struct range_run);

/* Positions [first, first + count). */
struct queue_span {
    uint64_t first;
    uint64_t count;
};

VEC_TYPE(queue_spans, struct queue_span);

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
    bool settles; /* QUEUE_SETTLES; only with no_ack. */
    bool exclusive;
    bool dead;                 /* Takes the dead letters: is in no group and counts as none. */
    bool in_ring;              /* Derived: equals queue__capacity() > 0. */
    bool barred;               /* Another one is the single active consumer; derived. */
    uint64_t attach;           /* Number of the attach, ascending over the queue. */
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
    uint64_t ordinal; /* GET, TAKE: the first ordinal of consumer 0 that it delivered, 0 = none, */
    uint64_t taken;   /* and how many. */
    uint8_t status;
};

struct queue_client {
    uint64_t id;
    uint64_t last_seq;
    uint64_t limit; /* Most `held` (0 = none). */
    uint64_t held;  /* Unacked of its consumers, without consumer 0, no_ack ones and dead letters;
                       derived. */
    bool suspended; /* Its boot is in queue->suspended; derived. */
    struct queue_reply reply;
    struct rangemap nacked; /* Refused enqueues (key = value = seq), the last ones. */
    VEC(struct queue_consumer *) consumers; /* Ascending by id. */
};

/* Of a message id: 128 bits. */
#define QUEUE_ID_HASH_SIZE 16u
struct queue_id_hash {
    uint8_t bytes[QUEUE_ID_HASH_SIZE];
};

/* Somebody who numbers its messages: which of them are stored. */
struct queue_publisher {
    struct list link; /* In queue->publishers. */
    struct bytes id;  /* Owned. */
    struct rangemap numbers;
};

struct queue {
    struct queue_config config;
    uint64_t clock_ms;      /* The latest time heard, 0 = none yet. */
    uint64_t used_ms;       /* When the queue was last used (x-expires). */
    uint64_t next_position; /* Of the next message; */
    uint64_t next_release;  /* of the next one that is due; */
    uint64_t next_attach;   /* of the next consumer. */
    uint64_t delivered;     /* Totals since creation. */
    uint64_t acked;
    uint64_t redelivered;
    uint64_t expired;
    uint64_t dropped;
    uint64_t refused;
    uint64_t duplicates;
    uint64_t sealed_by; /* Client that sealed it, 0 = none. */
    bool unused;        /* It is to be deleted: sealed for good. */
    bool exclusive;     /* The one attached consumer is exclusive; derived. */
    uint32_t consumers; /* Attached; derived. */

    struct queue_level *levels;                 /* Ready messages: config.priority_max + 1. */
    uint64_t level_used[QUEUE_LEVELS_MAX / 64]; /* Bit n: level n is not empty; derived. */
    struct rangemap delayed;
    struct rangemap dead;
    struct rangemap live;         /* All positions, wherever they are; derived. */
    struct queue_timeline expiry; /* Place: level * 2, + 1 for released. */
    struct queue_timeline due;    /* Of what is delayed. */
    uint64_t expiry_size_max;     /* More moments: see whether to make the timeline anew. */
    uint64_t ready;               /* Derived, like all up to dead_out. */
    uint64_t unacked;             /* Without dead letters. */
    uint64_t bytes_ready;
    uint64_t bytes_unacked;
    uint64_t dead_out; /* Unacked dead letters. */

    VEC(struct queue_client *) clients;  /* Ascending by id. */
    VEC(struct queue_group *) groups;    /* Descending by priority; derived but for their rings. */
    VEC(struct queue_consumer *) takers; /* Attached dead-letter consumers; derived. */
    struct queue_consumer *active;       /* The single active consumer, or NULL. */
    bool active_stale;                   /* It must be chosen anew; false between commands. */
    bool draining;           /* A better one waits for the active to have no unacked; derived. */
    VEC(uint64_t) suspended; /* Boots that are down and have clients here, ascending. */
    struct rangemap gone;    /* Boots that never come back (key = value = boot). */
    uint64_t *closed;        /* Ring buffer of QUEUE_CLOSED_MAX ids, or NULL. */
    uint32_t closed_begin;
    uint32_t closed_count;
    struct list publishers;     /* The one that has not enqueued for longest first. */
    struct map publisher_index; /* By id; derived. */
    struct map ids;             /* Hash of a message id -> time of enqueue, in that order. */

    /* Empty between commands; here so that a command need not allocate them. */
    struct queue_pieces fresh; /* Enqueued, counted as ready, not yet in their levels. */
    struct queue_spans drops;  /* No longer in any place, but still in `live`. */
};

/* What fresh and drops keep allocated. */
#define QUEUE_SCRATCH_KEPT 64u

/* No message has this size. */
#define QUEUE_NO_RUN UINT32_MAX

/* One call of queue_apply: where effects go, and what is gathered before it is passed on. */
struct queue_apply {
    struct queue *queue;
    const struct queue_store_ops *store;
    const struct queue_sink *sink;
    struct queue_effect deliver; /* Gathered DELIVER; count 0 = none. */
    struct queue_effect nacked;  /* Gathered NACKED. */
    uint64_t drop_first;         /* The DROP that grows; those before it are in queue->drops. */
    uint64_t drop_count;
    uint64_t fresh_count; /* Messages in queue->fresh. */
    uint64_t live_first;  /* Positions from here on are not yet in `live`; 0 = all are. */
    uint64_t run_first;   /* Enqueued messages not yet in `fresh`; equal attributes. */
    uint64_t run_count;
    uint64_t run_expiry;
    uint32_t run_size; /* QUEUE_NO_RUN when run_count is 0. */
    uint32_t run_level;
    bool unused;                            /* The queue fell due to be deleted in this call. */
    bool dead_due;                          /* DEAD was said, or is not to be, before this call. */
    const struct queue_consumer *redeliver; /* Whose deliveries are being repeated. */
};

#endif
