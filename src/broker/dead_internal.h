#ifndef WR_BROKER_DEAD_INTERNAL_H
#define WR_BROKER_DEAD_INTERNAL_H
/*
 * What dead_worker.c (a queue's dead letters, one by one) and dead_target.c (the queues that they
 * go to) share.
 */
#include "broker_internal.h"

struct dead_flight {
    struct list link;  /* worker->flights */
    struct list retry; /* worker->looks or ->retries, or alone */
    struct message message;
    uint64_t ordinal, died_ms;
    enum queue_death reason;
    uint32_t waiting;   /* targets that have not answered, or where it is parked */
    bool refused;       /* not taken by one of them, in this attempt */
    uint64_t look;      /* number of the barrier behind which it is routed; 0 = none */
    VEC(uint64_t) done; /* ids of the queues that have it */
    VEC(uint64_t) busy; /* of those that it waits for */
};

struct dead_wait {
    uint64_t seq;
    struct dead_flight *flight;
    bool refused;
};

struct dead_target {
    struct dead_worker *worker;
    uint64_t queue_id;
    struct queue_client *client;
    VEC(struct dead_wait) waits; /* from `first` on, ascending by seq */
    size_t first;
    VEC(struct dead_flight *) parked; /* ascending by ordinal */
    struct timer timer;               /* pending: the parked wait for it */
    uint64_t delay_ms;                /* of the last one; 0: not held */
    uint32_t window;                  /* so many of the parked are given to it at a time */
    uint32_t taken;                   /* since the timer was up */
    bool held;                        /* has parked ones: who comes now stands behind them */
    bool refuses;                     /* one of those that it was given last */
    bool blocked, gone;
};

struct dead_worker {
    struct list link;  /* broker->dead_workers */
    struct list dirty; /* broker->dead_dirty */
    struct broker *broker;
    uint64_t queue_id;
    struct queue_client *client;
    VEC(struct dead_target *) targets;
    struct list flights;
    struct list looks, retries; /* wait for a barrier; for the timer */
    uint64_t last, granted;     /* ordinals */
    uint64_t settle_first, settle_count;
    uint32_t average;              /* bytes of a message, moving */
    uint32_t blocked;              /* targets that are */
    struct dead_target *releasing; /* its parked ones are being given to it; NULL: none's */
    bool barrier;                  /* one is under way: the worker must not be freed */
    uint64_t barriers,
        looked;  /* number of the newest barrier begun; of the newest that succeeded */
    bool ending; /* closes in the turn */
    bool complained;
    struct timer timer; /* retries, or idle */
};

/* To be looked at in dead_workers_turn. */
void dead__mark(struct dead_worker *w);
/* Routes it and gives it to all queues that have neither had it nor been given it. May end it. */
void dead__attempt(struct dead_worker *w, struct dead_flight *flight);
/* All targets have answered: it is settled, or tried again. */
void dead__answered(struct dead_worker *w, struct dead_flight *flight);
/* What is refused waits (strategy), instead of being dropped. */
bool dead__keeps_refused(const struct dead_worker *w);

struct dead_target *dead__target_of(struct dead_worker *w, const struct catalog_queue *queue);
void dead__target_free(struct dead_target *t);
/* Publishes it there (0: without delay), or parks it behind those that wait already. letter:
 * borrowed. */
void dead__target_give(struct dead_target *t, struct dead_flight *flight,
                       const struct message *letter, uint64_t delay_ms);

#endif
