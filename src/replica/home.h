#ifndef WR_REPLICA_HOME_H
#define WR_REPLICA_HOME_H
/*
 * Where one queue is served, or a replica of it is: its machine, its store of message bytes, its
 * routes (home.c, effects.c, ahead.c, pace.c, upkeep.c, down.c, relay.c, local.c). A route is the
 * serving side of one client: where its effects go, and those that wait for bytes.
 */
#include "warren/list.h"
#include "warren/map.h"
#include "warren/rangemap.h"
#include "warren/timer.h"
#include "warren/vec.h"

#include "parcel.h"
#include "store.h"

struct group;
struct report_wait;

struct pacing {        /* pace.c */
    uint64_t until_ns; /* consumers are hungry until then; 0: they never were */
    uint64_t period;   /* in which publishers are counted: */
    uint32_t now, before;
    uint64_t sample, sampled_ns, commit_ns; /* an entry that was proposed (0: none), and when */
    bool enqueued;                          /* the batch whose effects go out published something */
};
struct route {
    struct list link; /* in home->routes_list, for an order that does not depend on hashing */
    uint64_t client;
    struct uid node;
    uint32_t shard;
    uint32_t session;
    uint64_t number;                  /* of the next item */
    uint64_t received;                /* highest seq accepted in this term */
    VEC(struct queue_effect) waiting; /* from waiting_first on */
    size_t waiting_first;
    uint64_t pace, pace_period; /* what its client was told last; pace.c */
    bool blocked;               /* waiting is not empty */
    bool via; /* its node has a replica: deliveries may name positions instead of carrying bytes */
    bool remote; /* counted in home->remote_routes */
};
struct behind_effect { /* of an entry that was applied before the log had it (ahead.c) */
    uint64_t index;
    struct queue_effect effect;
};
struct home {
    struct host *host;
    uint64_t id;
    uint64_t incarnation;
    struct queue *queue;
    struct store store;
    struct group *group; /* NULL: local */
    bool serving; /* local: always; group: leader that has applied an entry of its own term */
    struct umap routes;
    struct list routes_list;
    struct route *last_route;
    VEC(struct queue_effect) effects;
    struct rangemap held_drops; /* looked at for every message that is loaded: a map */
    uint32_t blocked_routes;
    uint32_t remote_routes; /* to other nodes */
    /* ahead.c: */
    bool ahead;                       /* what is applied now, the log does not have yet */
    uint64_t ahead_out;               /* messages handed out by such entries */
    VEC(struct behind_effect) behind; /* what waits for their commit; from behind_first on */
    size_t behind_first;
    struct pacing pacing;
    VEC(uint64_t) untold; /* boots of clients that the view does not know yet (down.c) */
    bool loading;
    uint64_t load_serial;
    uint64_t load_next;           /* behind what was loaded last */
    uint64_t missing;             /* a load found no bytes for this position; 0 = none */
    uint64_t time_ms, time_at_ns; /* highest time heard, and when (monotonic clock, read anew) */
    /* upkeep.c: */
    struct timer expire, dead_again;
    bool expire_asked;      /* an EXPIRE is under way */
    bool config_due;        /* it is in host->configs_due */
    uint32_t configs_asked; /* CONFIGs under way, the last of them: */
    struct queue_config config_asked;
    /* while one batch is applied: */
    struct queue_op *applying; /* its ops, when the bytes may be taken over; else NULL */
    const struct queue_op *count_from;
    uint64_t entry_index;
    uint32_t enqueues;
    bool unused_told;
    struct heads *heads; /* report_head.c; NULL until one was read */
    struct list dirty;   /* in host->dirty_homes: routes to pump */
    VEC(struct effect_bundle *)
    relay; /* not serving: effects whose bytes are taken from here, in order (relay.c) */
    size_t relay_first;
};
struct home *home_new(struct host *host, uint64_t id, struct queue *owned_queue,
                      struct group *group);
void home_free(struct home *home);
struct home *home_find(struct host *host, uint64_t id);
void home_stop_serving(struct home *home); /* routes end; held drops are done */
/* Applies and carries out. `moves`: ops are ours and stored records may be taken out of them
 * (op->pad is set then). */
void home_apply(struct home *home, uint64_t time_ms, const struct queue_batch *batch,
                uint64_t index, bool moves);
void home_carry_out(struct home *home); /* home->effects */
void home_pump(struct home *home);
/* ahead.c. Applies what may be applied before it is in the log, of what was proposed. */
void ahead_apply(struct group *group);
/* Of an entry that is applied now: does the effect go out already? Else it was put aside. */
bool ahead_takes_effect(struct home *home, const struct queue_effect *effect);
/* An entry <= group->ahead is committed: what it held back goes out. */
void ahead_committed(struct group *group, uint64_t index);
/* It serves for the first time since it was read from the disk. */
void ahead_recovered(struct home *home);
/* pace.c: an entry of the queue was proposed; the machine has applied the batch, its effects are
 * about to go out. */
void pace_proposed(struct home *home, uint64_t index);
void pace_applied(struct home *home, const struct queue_batch *batch);
void pace_committed(struct home *home, uint64_t index);
/* Whether the client of an APPLIED is to be told another pace before: with that effect. */
bool pace_changes(struct home *home, struct route *route, struct queue_effect *ret_effect);
void home_mark(struct home *home);
void home_drops_flush(struct home *home);
/* The bytes may be asked for still: it is live, or done with, and its delivery, or the log's word
 * that it is done with, is waited for. */
bool home_wants(const struct home *home, uint64_t position);
struct route *route_open(struct home *home, uint64_t client, struct uid node, uint32_t shard,
                         uint32_t session);
void route_close(struct home *home, uint64_t client);
/* One host-originated op: proposed by a group, applied at once by a local home. */
void home_host_op(struct home *home, const struct queue_op *op);
void home_on_parcel(struct host *host, struct parcel *owned);
void home_on_ops(struct home *home, struct uid node, uint32_t shard,
                 struct ops_bundle *owned_bundle, struct slice raw);
/* Ops of one client. A local home moves their messages into its store (the records are then empty);
 * a group copies them. */
void home_take_ops(struct home *home, struct uid node, uint32_t shard,
                   const struct ops_section *section, struct queue_op *ops, uint32_t count);
void home_on_resume(struct home *home, struct uid node, uint32_t shard,
                    const struct resume_body *body);
/* upkeep.c: the queue's time, configuration, dead letters. */
uint64_t home_time(struct home *home); /* now; never falls */
void home_heard_time(struct home *home, uint64_t time_ms);
void home_arm_expire(struct home *home);
void home_config_due(struct home *home); /* its record may have changed */
void home_tell_dead(struct home *home);
void home_booted(struct home *home); /* the node has a boot: its dead letters can be told of */
void home_upkeep_begin(struct home *home); /* it serves from now on */
void home_upkeep_end(struct home *home);
void home_upkeep_applied(struct home *home, const struct queue_batch *batch);
void configs_turn(struct host *host);
void home_answer_report(struct home *home, const struct report_wait *wait);
void home_announce_to(struct home *home, struct uid node);
void home_check_boots(struct home *home);
/* down.c: the view knows no node of this boot yet; when it does, that is told who leads. */
void home_note_untold(struct home *home, uint64_t boot);
void route_effect(struct home *home, struct route *route, const struct queue_effect *effect);
/* Messages that are delivered one after the other but lie apart, as by priority, go as one item.
 * Returns how many of the effects that were; 0: the first one goes alone. */
size_t route_deliver_apart(struct home *home, struct route *route,
                           const struct queue_effect *effects, size_t count);
void effects_flush(struct host *host);
void effects_drop(struct host *host);
void relay_take(struct host *host, uint64_t queue, struct effect_bundle *owned_bundle);
void relay_pump(struct home *home);
void relay_give_up(struct home *home); /* the replica ends: clients are to ask for the bytes */
void relay_drop(struct home *home);    /* nobody waits for it any more */
void effects_hand_over(struct host *host, struct uid from, const struct effect_bundle *bundle);
/* local.c */
void local_view_changed(struct host *host, const struct catalog_queue *before,
                        const struct catalog_queue *after);

#endif
