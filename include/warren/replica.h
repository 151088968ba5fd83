#ifndef WR_REPLICA_H
#define WR_REPLICA_H
/*
 * Running machines: the host of one shard (docs/replica.md). A host runs many Raft groups and local
 * machines, and the clients that talk to them, wherever they run.
 *
 *   queue client (any shard, any node) --ops--> host of the leader --raft, log--> apply
 * --effects--> queue client
 *
 * The host is the same for every kind of queue: a local queue (exclusive, transient) applies ops at
 * once; a group proposes them, and applies them when committed. A client does not see the
 * difference.
 *
 * Invariants
 * I1  A message or vote leaves a host only after what makes it true is durable (raft emits it from
 * the PERSISTED event). I2  Effects other than DROP are carried out by the leader of the term in
 * which the entry was applied, only. I3  Ops of a client are sent in order; those not yet reported
 * applied are kept and sent again to a new leader. I4  A delivery reaches the client's sink once
 * per ordinal, in order of ordinals. I5  One turn: all ops read in a turn become at most one
 * proposal per group, one log batch per shard, one parcel per peer. Threads: everything here is
 * called on the shard that owns the host.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/catalog.h"
#include "warren/env.h"
#include "warren/log.h"
#include "warren/message.h"
#include "warren/queue.h"
#include "warren/raft.h"
#include "warren/uid.h"

struct host;
struct logger;

/* --- parcels: what hosts say to each other ---------------------------------------------------- */
/* The node layer carries parcels: to another shard of this node by mail, to another node over a
 * link (in order per pair of shards while the link lives; a broken link loses parcels and is
 * reported with host_node_lost). */
#define HOST_SHARD_BY_GROUP                                                                        \
    UINT32_MAX /* to_shard: let the receiving node choose, with host_shard_of_group */
struct parcel {
    struct uid to_node, from_node;
    uint32_t to_shard, from_shard;
    uint64_t group;
    uint8_t kind;     /* private to src/replica (parcel.h) */
    uint8_t priority; /* 0 raft, 1 ops and deliveries, 2 rest: back-pressure class on the link */
    bool proven;      /* private to src/replica: after it came, this leader proved that it leads */
    struct slice *slices; /* encoded body, scatter/gather; references owned by the parcel */
    uint32_t slice_count;
    void *local; /* same-node parcels may carry a structure instead of bytes ... */
    void (*local_free)(void *local); /* ... freed with this when undelivered */
};
/* The catalog's group (1) lives on shard 0, all others are spread. */
static inline uint32_t host_shard_of_group(uint64_t group, uint32_t shard_count)
{
    return group == 1 ? 0 : (uint32_t)(group % shard_count);
}
struct host_transport {
    void (*send)(void *ctx, struct parcel *owned); /* heap parcel; consumed */
    size_t (*backlog)(void *ctx, struct uid node); /* bytes waiting towards that node */
    void *ctx;
};
struct parcel *parcel_new(void);
void parcel_free(struct parcel *parcel);

/* --- host ------------------------------------------------------------------------------------- */
struct host_options {
    struct uid node_id;
    uint32_t shard, shard_count;
    uint32_t election_min_ms, election_max_ms;
    uint64_t seed;
    struct host_transport transport;
    struct log_reader *reader;
    const struct logger *logger;
    /* Machines are compared at applied indexes divisible by these, the same on all nodes. 0 = the
     * default (docs/replica.md, "Comparing replicas"). */
    uint32_t compare_queue_every, compare_catalog_every;
    /* Of messages that clients of this shard have pending, together; 0 = the default, 64 MiB. Each
     * may have the less the more the others have: who is stuck leaves room for the others. */
    uint64_t client_bytes_max;
};
struct host *host_new(struct env *env, const struct host_options *options);
void host_free(struct host *host);
/* Recovery: every record of the groups of this shard, in order; then host_recovered() starts the
 * replicas. */
void host_recover_record(struct host *host, const struct log_item *item);
int host_recovered(struct host *host, char *errmsg);
void host_set_boot(struct host *host,
                   uint32_t boot); /* this start's boot number; clients can be opened from now on */
/* The shard moves to a newer catalog view between turns: replicas of this node on this shard are
 * started, stopped, re-configured to match. */
void host_set_view(struct host *host, struct catalog_view *view);
void host_on_parcel(struct host *host, struct parcel *owned);
/* The log said that the disk is (nearly) full: publishers are to be held back. */
bool host_disk_is_low(const struct host *host);
/* What is left of client_bytes_max: large messages should not be taken in beyond it. */
uint64_t host_client_room(const struct host *host);
bool host_on_mail(struct host *host,
                  struct mail *owned); /* LOG_MAIL_DONE/RETIRE/STATE; false: not the host's */
bool host_on_file(struct host *host, uint64_t token, int64_t result);
bool host_on_kv(struct host *host, uint64_t token, int result, void *owned_reply);
void host_turn(struct host *host); /* gathers, proposes, submits, sends */
uint64_t host_deadline_ns(const struct host *host);
/* Liveness, from the node layer: lost = the link broke or fell silent (elections start); down = the
 * process is gone or silent for longer than the liveness limit (its consumers' messages are
 * returned); up = reachable again. */
void host_node_up(struct host *host, struct uid node);
void host_node_lost(struct host *host, struct uid node);
void host_node_down(struct host *host, struct uid node);

/* --- the catalog group (shard 0 only) --------------------------------------------------------- */
/* Outcome of a proposal or read. status: enum catalog_status or a negative WR_E_*
 * (WR_E_UNAVAILABLE: no leader within the time limit). */
typedef void (*catalog_done_fn)(void *ctx, int status, const struct catalog_result *result);
/* Creates the group with this node as only voter (formation) or as a member to be (join). Durable
 * before it acts. */
void host_catalog_bootstrap(struct host *host, struct uid cluster_id, struct raft_id member);
void host_catalog_join(struct host *host, struct uid cluster_id, struct raft_id member);
bool host_catalog_exists(const struct host *host, struct uid *ret_member);
/* Proposes through whichever node leads; done runs after commit AND local apply; retried within
 * timeout_ms. */
void host_catalog_propose(struct host *host, const struct catalog_command *command,
                          uint32_t timeout_ms, catalog_done_fn done, void *ctx);
/* For what only the catalog's leader may decide: never passed on to another node; WR_E_UNAVAILABLE
 * once this one does not lead (the command may have been committed nevertheless). */
void host_catalog_propose_leading(struct host *host, const struct catalog_command *command,
                                  catalog_done_fn done, void *ctx);
/* Read barrier: done(0) once this node has applied everything committed before the call. */
void host_catalog_barrier(struct host *host, uint32_t timeout_ms, catalog_done_fn done, void *ctx);
/* Leader only: membership of the catalog group follows these (add learner, promote when caught up,
 * remove). */
void host_catalog_set_members(struct host *host, const struct raft_id *members,
                              const struct uid *nodes, uint32_t count);
struct group_status { /* of any group this shard has a replica of, and the catalog */
    uint64_t group, term, commit, applied, last;
    uint64_t snapshot;        /* index of the newest checkpoint, 0 = none */
    uint32_t machine_version; /* of what is hashed: that of the queue machine */
    struct uid leader_node;   /* zero = unknown */
    bool exists, leading, is_voter;
    uint32_t voters, voters_up;
    char why[160]; /* why it is not serving, or "" */
};
bool host_group_status(const struct host *host, uint64_t group, struct group_status *ret_status);
void host_each_group(const struct host *host,
                     void (*fn)(void *ctx, const struct group_status *status), void *ctx);
void host_transfer_leaders_away(struct host *host); /* before an orderly stop */

/* --- letters: what brokers say to each other, fire and forget
 * --------------------------------------------------------------------------------- */
#define HOST_LETTER_NUMBERS 6u
struct host_letter {
    uint64_t numbers[HOST_LETTER_NUMBERS]; /* the brokers' own */
    struct slice raw;                      /* SLICE_NONE: none */
};

struct host_sink { /* upcalls of the catalog group to the node layer (shard 0) */
    void (*on_catalog_view)(void *ctx, struct catalog_view *owned_view_ref,
                            uint64_t index); /* after a batch of applies */
    void (*on_catalog_leader)(void *ctx, bool leading);
    void (*on_queue_unused)(void *ctx, uint64_t queue_id); /* any shard: auto-delete is due */
    /* Any shard, said again each second while it is so: the queue is served here, has dead letters,
     * and nobody takes them (QUEUE_DEAD). May be NULL. */
    void (*on_queue_dead)(void *ctx, uint64_t queue_id);
    /* Any shard, said again each second while it is so: the queue is led here, this member's state
     * is wrong, and the others can do without it: it is to be taken out of the record. */
    void (*on_replica_divergent)(void *ctx, uint64_t queue_id, struct uid member);
    /* Any shard. May be NULL. Borrowed; everything in it is what the other side, or who posed as
     * it, has put there. */
    void (*on_letter)(void *ctx, struct uid node, uint32_t shard, const struct host_letter *letter);
    void *ctx;
};
void host_set_sink(struct host *host, const struct host_sink *sink);

/* Takes over letter->raw. False: it was dropped here, because the node is out of reach or too much
 * waits for it already. True promises nothing. A shard of this node that does not exist: dropped.
 */
bool host_send_letter(struct host *host, struct uid node, uint32_t shard,
                      const struct host_letter *owned_letter);

/* --- local queues ----------------------------------------------------------------------------- */
/* A queue with run LOCAL and this node, boot and shard is created by host_set_view, and freed by
 * it. */

/* --- queue clients ---------------------------------------------------------------------------- */
struct queue_client;
/* Any member but on_gone may be NULL: nobody wants to hear of it. */
struct queue_client_sink {
    /* All ops up to seq are applied (enqueues: confirmed, but those that on_nacked named). */
    void (*on_applied)(void *ctx, uint64_t seq);
    /* That enqueue was refused. Once each, ascending, and before on_applied counts it: also when
     * the leader that refused it died before it could say so. */
    void (*on_nacked)(void *ctx, uint64_t seq);
    /* Of several that are under way only the newest reply outlives its leader: of the others that
     * died status is OK (EMPTY for a GET), and value2 UINT64_MAX: not known. Ask again. */
    void (*on_reply)(void *ctx, uint64_t seq, enum queue_status status, uint64_t value,
                     uint64_t value2);
    /* messages: count of them for ordinals first_ordinal..; borrowed. flags & QUEUE_NO_ACK: settled
     * already. A GET's message comes here (consumer 0) just before its on_reply. */
    void (*on_deliver)(void *ctx, uint32_t consumer, uint64_t first_ordinal,
                       uint32_t delivery_count, uint8_t flags, const struct message *messages,
                       uint32_t count);
    void (*on_cancel)(void *ctx, uint32_t consumer);
    /* The queue no longer exists (deleted, or its only home is gone): every op still pending is
     * settled by this call: lost = false -> pending enqueues count as confirmed (queue deleted),
     * true -> as nacked (home node down). No more upcalls; close the client. */
    void (*on_gone)(void *ctx, bool lost);
    /* Back-pressure: more than the limit of ops or bytes are pending (true), or no longer (false).
     */
    void (*on_blocked)(void *ctx, bool blocked);
    /* Contact with the queue was lost and is there again: ordinals may be skipped, and
     * with them the credit that they had taken. Ops may be sent from here. */
    void (*on_resumed)(void *ctx);
    /* Deliveries to a consumer attached with QUEUE_DEAD, instead of on_deliver: all of one reason
     * and time. */
    void (*on_dead)(void *ctx, uint32_t consumer, uint64_t first_ordinal, enum queue_death reason,
                    uint64_t died_ms, const struct message *messages, uint32_t count);
    /* What a PEEK found, before its on_reply; one or more messages side by side. at_ms: see
     * QUEUE_EFFECT_PEEK. */
    void (*on_peek)(void *ctx, uint64_t position, enum queue_place place, uint64_t at_ms,
                    uint32_t delivery_count, const struct message *messages, uint32_t count);
    /* Before on_resumed: another node serves the queue than the one that did. */
    void (*on_moved)(void *ctx);
};
/* Opens a client of a queue of the current view. Ops may be sent at once. */
struct queue_client *queue_client_open(struct host *host, const struct catalog_queue *queue,
                                       const struct queue_client_sink *sink, void *ctx);
/* Its number, unique in the cluster for all time: what a queue knows its consumers by. */
uint64_t queue_client_id(const struct queue_client *client);
/* The queue is served by this node, as far as is known: what is sent comes before what anybody
 * sends who hears of it. */
bool queue_client_is_near(const struct queue_client *client);
/* Closes: sends what is pending and a CLOSE, keeps resending until applied; no more upcalls; the
 * pointer is dead. */
void queue_client_close(struct queue_client *client);
/* Each returns the seq of the op. Sent at the end of the turn, or when the next leader is known. */
uint64_t queue_client_publish(struct queue_client *client,
                              struct message message); /* refs the message */
/* What is empty or 0 is not said. See enum queue_enqueue_flag. The caller checks the bounds. */
struct queue_publish_more {
    struct bytes publisher; /* its own id, at most 255 bytes ... */
    uint64_t publish_seq;   /* ... and its number of the message, to INT64_MAX; both or neither */
    struct bytes id;        /* message id, at most 255 bytes */
    uint64_t delay_ms;
};
/* refs the message, copies the strings */
uint64_t queue_client_publish_more(struct queue_client *client, struct message message,
                                   const struct queue_publish_more *more);
/* flags: enum queue_flag. With NO_ACK alone what is on its way is lost when contact is; with
 * SETTLES as well it comes again, and the caller settles what has come. */
uint64_t queue_client_attach(struct queue_client *client, uint32_t consumer, uint8_t flags,
                             uint32_t prefetch, uint64_t credit_limit, int32_t priority,
                             struct bytes tag, struct bytes args);
uint64_t queue_client_detach(struct queue_client *client, uint32_t consumer, uint8_t flags);
uint64_t queue_client_credit(struct queue_client *client, uint32_t consumer, uint64_t credit_limit);
uint64_t queue_client_settle(struct queue_client *client, uint32_t consumer, uint64_t first_ordinal,
                             uint64_t count, enum queue_outcome outcome);
uint64_t queue_client_get(struct queue_client *client, bool no_ack);
uint64_t queue_client_purge(struct queue_client *client);
uint64_t queue_client_limit(struct queue_client *client, uint32_t unacked_max);
uint64_t queue_client_seal(struct queue_client *client, uint8_t flags);
/* Those of `count` positions from `position` on that are ready: delivered to consumer 0 as a GET's,
 * then on_reply(value = how many the queue handed out; some may not have come when contact was lost
 * meanwhile and they were returned). flags QUEUE_NO_ACK: removed instead, from `places` (enum
 * queue_place, or-ed), and nothing is delivered. */
uint64_t queue_client_take(struct queue_client *client, uint64_t position, uint64_t count,
                           uint8_t flags, uint8_t places);
/* on_peek for up to `count` messages from `position` on that are in `places`, then on_reply(value =
 * the position to go on from, 0 = that was all). When contact was lost meanwhile value is where the
 * rest begins that has not come. */
uint64_t queue_client_peek(struct queue_client *client, uint64_t position, uint64_t count,
                           uint8_t places);
/* The queue was declared again. No reply. */
uint64_t queue_client_touch(struct queue_client *client);

/* Reads the totals and consumers of a queue from its leader, after all ops this host sent before.
 * `json`: false = totals only; true = consumers too. */
struct queue_report {
    int error; /* 0 or WR_E_UNAVAILABLE, WR_E_NOTFOUND */
    struct queue_totals totals;
    bool sealed; /* it is being deleted: as if not found */
    /* The timestamp that the publisher gave the next message, or the oldest one that a consumer has
     * if that is earlier; when asked for, and only if they have one. */
    bool has_head_timestamp;
    uint64_t head_timestamp;
    struct uid leader_node;
    uint32_t consumer_count;
    const struct queue_consumer_info *consumers; /* borrowed; filled when asked for */
    /* Groups: the nodes of voters that are in reach and have all that was committed when this was
     * asked, the leader's with them; and the record by which that was judged. Borrowed. */
    uint64_t replicas_version;
    const struct uid *ready;
    uint32_t ready_count;
    const char *why; /* not running: the reason */
};
typedef void (*queue_report_fn)(void *ctx, uint64_t queue_id, const struct queue_report *report);
enum queue_report_what { /* frozen: in requests between nodes */
                         QUEUE_REPORT_TOTALS = 0,
                         QUEUE_REPORT_CONSUMERS = 1,
                         QUEUE_REPORT_HEAD = 2,
};
/* what: or-ed; totals are always there. */
void host_queue_report(struct host *host, uint64_t queue_id, uint32_t what, uint32_t timeout_ms,
                       queue_report_fn done, void *ctx);

#endif
