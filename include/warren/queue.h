#ifndef WR_QUEUE_H
#define WR_QUEUE_H
/*
 * The queue machine: one deterministic state machine for every kind of queue (DESIGN §4,
 * docs/queue-machine.md).
 *
 * A pure function of its commands: no clock (each command carries the leader's time), no I/O, no
 * randomness. It does not hold message bytes: it knows messages by *position* (assigned 1, 2, 3 ...
 * as they are enqueued) and by a few attributes; the bytes are kept beside it by the host (position
 * -> message). It answers with *effects*; all replicas compute them, all obey QUEUE_EFFECT_DROP,
 * only the leader (or the single owner of a local queue) carries out the others.
 *
 * Words:
 * - client: the sending side: one (channel, queue) pair, named by a cluster-unique u64: boot number
 *   << 32 | counter, where the boot number is unique to one start of one node. Each client numbers
 *   its ops 1, 2, 3 ... (seq).
 * - consumer: named by a u32 within its client; consumer 0 is the implicit one of basic.get. An id
 *   must not be used again while messages of its former holder are unacked.
 * - ordinal: deliveries of a consumer are numbered 1, 2, 3 ...; an unacked message is (client,
 *   consumer, ordinal).
 *
 * Invariants (checked by queue_check):
 * - I1: a message is in exactly one place: ready, delayed, dead, or unacked by exactly one
 *   consumer; enqueued = ready + delayed + dead + unacked + removed.
 * - I2: an op is applied once: seq == last + 1 is applied; seq <= last is a duplicate and only
 *   answered again; seq > last + 1 is ignored (the client resends from the gap).
 * - I3: unacked of a consumer <= its prefetch when it has one; ordinals delivered <= its credit
 *   limit.
 * - I4: equal commands from equal states give equal states (queue_hash) and equal effects.
 * - I5: ready messages of one priority are ordered by position; a returned message goes back to its
 *   position. One that was delayed stands behind all that was enqueued before it was due, and
 * before all that came later.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/bytes.h"
#include "warren/message.h"

struct queue; /* a machine */

#define QUEUE_MACHINE_VERSION 2u

/* Frozen numbers: they are in the log. Behind each: the fields of struct queue_op that count. */
enum queue_op_kind {
    /* message; flags QUEUE_HAS_*: what else the publisher said (below). */
    QUEUE_OP_ENQUEUE = 1,
    /* consumer, flags, prefetch, limit (credit), priority, name (tag), args. */
    QUEUE_OP_ATTACH = 2,
    /* consumer: no more deliveries, unacked stay ackable; QUEUE_DETACH_RETURN returns them. */
    QUEUE_OP_DETACH = 3,
    /* consumer, limit = highest ordinal that may be delivered. */
    QUEUE_OP_CREDIT = 4,
    /* consumer, first, count (ordinals), outcome. What is not outstanding is ignored. */
    QUEUE_OP_SETTLE = 5,
    /* One message to consumer 0; flags & QUEUE_NO_ACK. */
    QUEUE_OP_GET = 6,
    /* Removes the ready and the delayed messages. */
    QUEUE_OP_PURGE = 7,
    /* limit = most unacked of this client over its consumers (global qos), 0 = none. What
     * basic.get took does not count. */
    QUEUE_OP_LIMIT = 8,
    /* First half of a delete: flags QUEUE_IF_UNUSED, QUEUE_IF_EMPTY. When sealed, nothing is
     * accepted any more (an enqueue is confirmed and dropped) nor handed out. The seal is the
     * client's: it breaks when the client unseals or closes or its node goes down. Keep the client
     * open until the delete is done. */
    QUEUE_OP_SEAL = 9,
    /* The delete was given up. */
    QUEUE_OP_UNSEAL = 10,
    /* The client is gone: consumers removed, unacked returned, record dropped. Its last op. */
    QUEUE_OP_CLOSE = 11,
    /* first, count (positions): those of them that are ready go to consumer 0, unacked, in order of
     * position (DELIVER, then REPLY with their number). With QUEUE_NO_ACK they are removed instead,
     * without a DELIVER and without dying; `outcome` says in which places to look then. */
    QUEUE_OP_TAKE = 12,
    /* first (position), count, outcome (enum queue_place, or-ed): up to `count` messages of these
     * places with positions >= first, ascending, as PEEK effects; nothing changes. REPLY: value =
     * the position to go on from, 0 = that was all. */
    QUEUE_OP_PEEK = 13,
    /* The queue was declared again: its lease (x-expires) begins anew. No reply. */
    QUEUE_OP_TOUCH = 14,

    /* From the host, without client and seq. first = boot: its consumers are suspended and their
     * unacked messages returned. This is forgotten when the boot's last client goes: send it
     * whenever queue_boots names a boot that is down and not suspended. May be repeated. */
    QUEUE_OP_NODE_DOWN = 20,
    /* first = boot: its consumers take part again. */
    QUEUE_OP_NODE_UP = 21,
    /* first = boot: it never comes back; all its clients are closed. */
    QUEUE_OP_NODE_GONE = 22,
    /* Nothing but the passing of time: see queue_deadline_ms. */
    QUEUE_OP_EXPIRE = 23,
    /* args = encoded queue_config (policy change); what is fixed at declaration stays. */
    QUEUE_OP_CONFIG = 24,
    /* A new leader: the lease (x-expires) begins anew, since nobody could use the queue before. To
     * be the leader's first command, and the first op of its batch: then the lease does not end
     * before it. */
    QUEUE_OP_RENEW = 25,
    /* count: the next so many ready messages may have been handed out without the log's knowledge
     * (queue_takes): they go back to their place as if they had been returned, once at least. */
    QUEUE_OP_SUSPECT = 26,
};
static inline bool queue_op_is_of_client(uint8_t kind)
{
    return kind >= QUEUE_OP_ENQUEUE && kind <= QUEUE_OP_TOUCH;
}
static inline bool queue_op_is_of_host(uint8_t kind)
{
    return kind >= QUEUE_OP_NODE_DOWN && kind <= QUEUE_OP_SUSPECT;
}

enum queue_flag {
    QUEUE_NO_ACK = 1,
    QUEUE_EXCLUSIVE_CONSUMER = 2,
    QUEUE_IF_UNUSED = 4,
    QUEUE_IF_EMPTY = 8,
    QUEUE_DETACH_RETURN = 16,
    /* ATTACH: takes the dead letters, and nothing else. It counts as no consumer (auto-delete,
     * if-unused, exclusive, single active, x-expires); IN_EXCLUSIVE_USE while another one of a
     * boot that is not suspended is attached. SETTLE: ACK removes, all else puts back among the
     * dead. On its DELIVER effects too. */
    QUEUE_DEAD = 32,
    /* ATTACH with NO_ACK: what it gets is not settled by that, but unacked until the consumer's
     * node, which has it, says so (SETTLE): if that does not get there, it is not lost. As for any
     * NO_ACK consumer, prefetch and limit mean nothing to it. */
    QUEUE_SETTLES = 64,
};

/* Flags of ENQUEUE. */
enum queue_enqueue_flag {
    /* name = the publisher's own id (1 to 255 bytes), first = its number of the message (1 to
     * INT64_MAX): a number that this queue has stored before is confirmed and dropped. */
    QUEUE_HAS_PUBLISHER = 1,
    /* args = message id (1 to 255 bytes): the same within config.dedup_window_ms is confirmed and
     * dropped. */
    QUEUE_HAS_ID = 2,
    /* limit = delay in ms (> 0): not ready before that time has passed. */
    QUEUE_HAS_DELAY = 4,
};

/* Where a message can be. */
enum queue_place {
    QUEUE_PLACE_READY = 1,
    QUEUE_PLACE_DELAYED = 2,
    QUEUE_PLACE_DEAD = 4, /* waits for the dead-letter exchange's queues to have it */
};

/* Why a message became a dead letter. */
enum queue_death {
    QUEUE_DIED_REJECTED = 1,
    QUEUE_DIED_EXPIRED = 2,
    QUEUE_DIED_MAXLEN = 3,
    QUEUE_DIED_DELIVERY_LIMIT = 4,
};

/* What happens to a publish that would exceed a length limit. */
enum queue_overflow {
    QUEUE_DROP_HEAD = 0, /* it is taken; the next ones to be delivered go */
    QUEUE_REJECT_PUBLISH = 1,
    QUEUE_REJECT_PUBLISH_DLX = 2, /* ... and it becomes a dead letter */
};

enum queue_outcome {
    QUEUE_ACK = 1,
    QUEUE_REQUEUE = 2, /* returned; redelivered flag set, delivery count + 1 */
    QUEUE_REJECT = 3,  /* dropped, or a dead letter */
    QUEUE_RELEASE = 4, /* returned as if never delivered (it did not reach the application) */
};

struct queue_op {
    uint8_t kind;    /* enum queue_op_kind */
    uint8_t flags;   /* enum queue_flag */
    uint8_t outcome; /* SETTLE; TAKE, PEEK: enum queue_place, or-ed */
    uint8_t pad;
    uint32_t consumer;
    uint64_t seq;           /* 0 for host-originated ops */
    uint64_t first;         /* SETTLE: first ordinal; NODE_*: boot; TAKE, PEEK: position; ENQUEUE */
    uint64_t count;         /* SETTLE, TAKE, PEEK, SUSPECT */
    uint64_t limit;         /* ATTACH, CREDIT: credit limit (UINT64_MAX none); LIMIT; ENQUEUE */
    uint32_t prefetch;      /* ATTACH: 0 = unlimited */
    int32_t priority;       /* ATTACH: x-priority */
    struct message message; /* ENQUEUE; borrowed by queue_apply */
    struct bytes name;      /* ATTACH: consumer tag; ENQUEUE */
    struct bytes args;      /* ATTACH: consumer arguments, raw field table; CONFIG; ENQUEUE */
};

/* Ops of one client, in order of seq (or of the host: client 0). The unit that travels and that one
 * log entry holds (an entry may hold several batches). */
struct queue_batch {
    uint64_t client;
    uint32_t count;
    const struct queue_op *ops;
};

/* --- codec of batches (src/queue/codec.c): the same bytes on links and in the log ------------- */
/* Appends the encoded batch to *out (grows it); message records are copied in. */
void queue_batch_encode(struct buf **out, const struct queue_batch *batch);
/* Iterates an encoded run of batches. Messages of decoded ops are slices of `owner` at the right
 * offset and are borrowed (ref them to keep them). Untrusted input: WR_E_CORRUPT. */
struct queue_batch_reader {
    struct buf *owner;
    uint32_t at, end;     /* offsets into owner->data */
    struct queue_op *ops; /* scratch, reused */
    uint32_t capacity;
};
void queue_batch_reader_init(struct queue_batch_reader *r, struct buf *owner, uint32_t begin,
                             uint32_t end);
/* 1: a batch (valid until the next call); 0: the end; WR_E_CORRUPT; WR_E_NOMEM. */
int queue_batch_reader_next(struct queue_batch_reader *r, struct queue_batch *ret_batch);
void queue_batch_reader_deinit(struct queue_batch_reader *r);

/* --- configuration ---------------------------------------------------------------------------- */
/* What the machine needs of the declaration and the policies; part of its replicated state. Fixed
 * at the declaration: auto_delete, single_active_consumer, active_stays, priority_max. */
struct queue_config {
    bool auto_delete;            /* delete once the last consumer of at least one has gone */
    bool single_active_consumer; /* x-single-active-consumer */
    bool active_stays;           /* its place, also when one of a higher priority comes */
    bool dead_letter; /* there is a dead-letter exchange: what dies waits for its queues to have it
                       */
    uint8_t priority_max;           /* x-max-priority, 0 = none */
    uint8_t overflow;               /* enum queue_overflow */
    uint64_t ttl_ms;                /* x-message-ttl, UINT64_MAX none; for what is enqueued later */
    uint64_t length_max, bytes_max; /* of what is ready, UINT64_MAX none */
    uint64_t expires_ms;            /* x-expires, UINT64_MAX none */
    uint64_t dedup_window_ms;       /* x-dedup-window, 0 none */
    int64_t delivery_limit;         /* -1 none: a message returned more often than that dies */
};
void queue_config_default(struct queue_config *config);
/* What is in force: of queue_new, and of the CONFIG ops since. */
void queue_get_config(const struct queue *queue, struct queue_config *ret_config);
/* Appends the encoding that QUEUE_OP_CONFIG carries to *out (not NULL; grows it). */
void queue_config_encode(struct buf **out, const struct queue_config *config);

/* --- effects ---------------------------------------------------------------------------------- */
enum queue_effect_kind {
    /* client, seq: all its ops up to seq are applied (confirms its enqueues). */
    QUEUE_EFFECT_APPLIED = 1,
    /* client, seq, count: the enqueues seq .. seq + count - 1 were refused (length limit). Before
     * APPLIED >= seq. */
    QUEUE_EFFECT_NACKED = 2,
    /* client, seq, status, value, value2: outcome of ATTACH, DETACH, GET, PURGE, SEAL, TAKE, PEEK.
     * Before APPLIED. */
    QUEUE_EFFECT_REPLY = 3,
    /* client, consumer, ordinal, position, count, delivery_count, flags: the messages at position..
     * go out as ordinals ordinal.. Of dead letters (flags & QUEUE_DEAD): status = enum queue_death,
     * value = time of death, ms. */
    QUEUE_EFFECT_DELIVER = 4,
    /* position, count: their bytes are not needed any more. All replicas obey. */
    QUEUE_EFFECT_DROP = 5,
    /* client, consumer: cancelled by the queue. Not in this version. */
    QUEUE_EFFECT_CANCEL = 6,
    /* The last consumer of an auto-delete queue has gone, or x-expires has passed (the machine has
     * sealed itself): delete me. */
    QUEUE_EFFECT_UNUSED = 7,
    /* There are dead letters, and nobody attached who takes them: somebody should. Said when it
     * becomes so. */
    QUEUE_EFFECT_DEAD = 8,
    /* client, position, count, delivery_count, status = enum queue_place, value = ms when it
     * expires (ready; UINT64_MAX never), is due (delayed), died (dead): what PEEK found. */
    QUEUE_EFFECT_PEEK = 9,
};

/* REPLY.status. */
enum queue_status {
    QUEUE_OK = 0,
    QUEUE_EMPTY = 1,            /* GET. */
    QUEUE_IN_EXCLUSIVE_USE = 2, /* ATTACH: 403. */
    QUEUE_IN_USE = 3,           /* SEAL if-unused: 406. */
    QUEUE_NOT_EMPTY = 4,        /* SEAL if-empty: 406. */
    QUEUE_SEALED = 5, /* ATTACH, GET, PURGE, SEAL, TAKE, PEEK: being deleted, as if not found. */
    QUEUE_EXISTS = 6, /* ATTACH: the id is 0, attached, or has messages unacked. */
};

struct queue_effect {
    uint8_t kind;
    uint8_t status;
    uint8_t flags; /* DELIVER: QUEUE_NO_ACK when it is settled by being delivered; QUEUE_DEAD */
    uint8_t pad;
    uint32_t consumer;
    uint64_t client;
    uint64_t seq;
    uint64_t ordinal;  /* DELIVER: first */
    uint64_t position; /* DELIVER, DROP, PEEK: first */
    uint64_t count;    /* DELIVER, DROP, PEEK, NACKED */
    uint64_t value;    /* REPLY: ATTACH: ready messages before it; GET: those left; PURGE: removed;
                          TAKE: taken; PEEK: where to go on; others: ready messages */
    uint64_t value2;   /* REPLY: number of consumers */
    uint32_t delivery_count; /* DELIVER: earlier deliveries of these messages; > 0: redelivered */
};

/* Receives effects in order during queue_apply. A DELIVER with QUEUE_NO_ACK precedes the DROP of
 * its messages, so that a host can fetch the bytes when the DELIVER arrives. `effect` is borrowed.
 */
struct queue_sink {
    void (*effect)(void *ctx, const struct queue_effect *effect);
    void *ctx;
};

/* --- the machine ------------------------------------------------------------------------------ */
struct queue *queue_new(const struct queue_config *config); /* caller owns */
void queue_free(struct queue *queue);                       /* accepts NULL */

/* Takes the bytes of the enqueued: called in queue_apply, with ascending positions, before any
 * effect that names them. The message is borrowed: ref to keep it. */
struct queue_store_ops {
    void (*store)(void *ctx, uint64_t position, const struct message *message);
    void *ctx;
};

/*
 * Applies one batch at the leader's time now_ms. `store` may be NULL. Neither callback may call
 * back into the queue. The ops are as the batch reader gives them: of the kinds that batch->client
 * (0 or not) may have; another kind is a bug.
 *
 * Order of effects: per op, a GET's or TAKE's DELIVERs or a PEEK's PEEKs, then its REPLY; then
 * APPLIED; then the DELIVERs to consumers; then those of dead letters; then DEAD; then UNUSED. A
 * NACKED comes anywhere before APPLIED, a DROP anywhere after the DELIVER of its messages. DELIVERs
 * to consumers come before APPLIED when something in the batch has to know what is left: an ENQUEUE
 * that a reject-publish queue may have to refuse, a GET, TAKE or PEEK behind a message with a TTL
 * of 0. The time passes before the ops are applied, whatever they are (none, duplicates).
 *
 * Duplicates: the last op of the client that had a REPLY gets it again, and a GET or TAKE its
 * DELIVERs, as far as the messages are still unacked; a PEEK looks again; an ENQUEUE that was
 * refused is NACKED again. So a GET may see REPLY OK though no DELIVER has ever arrived: its
 * message was lost with the connection to the leader (no_ack) or has been returned (the node was
 * down). Treat it as empty.
 *
 * There is no limit to what one call hands out but the prefetch and the credit of the consumers.
 */
void queue_apply(struct queue *queue, uint64_t now_ms, const struct queue_batch *batch,
                 const struct queue_store_ops *store, const struct queue_sink *sink);

/* Whether the batch does nothing but acknowledge and basic.get, in a queue where each of these
 * hands out one message at the most: then *ret_most = how many it hands out at the most. Such a
 * batch makes no promise, and if it is lost, and all that came behind it, then QUEUE_OP_SUSPECT
 * makes up for what was handed out. A get counts only when its client has got something before:
 * so that is known. */
bool queue_takes(const struct queue *queue, const struct queue_batch *batch, uint64_t *ret_most);
/* Whether clients of that boot may have had messages handed out by batches that only take. */
bool queue_boot_takes(const struct queue *queue, uint64_t boot);

/* When the machine next wants a QUEUE_OP_EXPIRE (ms, in the leader's time): a message expires or is
 * due, or the queue itself expires; UINT64_MAX = never; 0 = at once (it is to expire, has not heard
 * the time yet, and must). Exact: there is something to do then. Any other command at that time
 * does as well. */
uint64_t queue_deadline_ms(const struct queue *queue);
/* The latest time it has heard; 0 = none yet. */
uint64_t queue_clock_ms(const struct queue *queue);

/* --- failover: what a new leader must know, without changing state ---------------------------- */
uint64_t queue_client_last_seq(const struct queue *queue, uint64_t client); /* 0 = unknown client */
/* Emits again, as DELIVER effects, what `client`'s consumer has unacked with ordinal >= from
 * (deliveries the old leader may not have sent). no_ack deliveries are not repeated. */
void queue_redeliver(const struct queue *queue, uint64_t client, uint32_t consumer, uint64_t from,
                     const struct queue_sink *sink);
/* Each distinct boot number that has clients here, ascending; returns how many there are (may
 * exceed `max`). */
uint32_t queue_boots(const struct queue *queue, uint64_t *boots, uint32_t max);
/* Each client id, ascending, of one boot. */
uint32_t queue_clients(const struct queue *queue, uint64_t boot, uint64_t *clients, uint32_t max);
bool queue_boot_suspended(const struct queue *queue, uint64_t boot);
bool queue_sealed(const struct queue *queue);
/* Sealed itself: a new leader repeats the UNUSED effect. */
bool queue_auto_delete_due(const struct queue *queue);
/* There are dead letters, and nobody attached who takes them: a new leader repeats DEAD. */
bool queue_dead_due(const struct queue *queue);
/* Emits again, as NACKED effects, which of the client's enqueues with numbers >= from were refused.
 * Remembered: those among the last QUEUE_NACKED_KEPT ops of the client. */
#define QUEUE_NACKED_KEPT 65536u
void queue_repeat_nacked(const struct queue *queue, uint64_t client, uint64_t from,
                         const struct queue_sink *sink);

/* --- reading ---------------------------------------------------------------------------------- */
struct queue_totals {
    uint64_t ready, unacked, consumers, bytes_ready, bytes_unacked; /* bytes = bodies */
    uint64_t delayed, dead; /* not in ready; dead ones being handed over count as dead */
    uint64_t expired, dropped, refused,
        duplicates;           /* since creation: by TTL, by length, not taken */
    uint64_t next_position;   /* position of the next enqueue */
    uint64_t lowest_position; /* lowest live position, or next_position when empty */
    uint64_t published, delivered, acked, redelivered; /* since creation */
};
/* Messages that wait for a consumer. O(1). */
uint64_t queue_ready(const struct queue *queue);
void queue_totals(const struct queue *queue, struct queue_totals *ret_totals);
/* The positions of the message that is to be delivered next, and of the oldest one that a consumer
 * has; 0 = there is none. O(runs of what is unacked). */
void queue_heads(const struct queue *queue, uint64_t *ret_ready, uint64_t *ret_unacked);
struct queue_consumer_info {
    uint64_t client;
    uint32_t consumer, prefetch;
    int32_t priority;
    uint64_t unacked;
    bool no_ack, exclusive;
    bool
        active; /* may get messages: its node is up and, where only one is active, it is that one */
    bool single_active;      /* the queue has one active consumer at a time */
    struct bytes name, args; /* borrowed */
};
void queue_each_consumer(const struct queue *queue,
                         void (*fn)(void *ctx, const struct queue_consumer_info *info), void *ctx);
/* Calls fn for each maximal run of live positions (in any place), ascending: what a checkpoint must
 * keep. */
void queue_each_live(const struct queue *queue,
                     void (*fn)(void *ctx, uint64_t position, uint64_t count), void *ctx);
bool queue_is_live(const struct queue *queue, uint64_t position);

/* --- snapshots -------------------------------------------------------------------------------- */
/* Canonical encoding: equal states give equal bytes on every machine. Appends to *out. */
void queue_snapshot(const struct queue *queue, struct buf **out);
/* Untrusted bytes: WR_E_CORRUPT, or WR_E_VERSION when they are of a later version. The caller owns
 * the queue. */
int queue_restore(struct bytes snapshot, struct queue **ret_queue);
uint64_t queue_hash(const struct queue *queue); /* of the canonical encoding */
/* About what a snapshot costs, the same for equal states: runs, clients and consumers. Cheap. */
uint64_t queue_weight(const struct queue *queue);

void queue_check(const struct queue *queue); /* asserts I1..I5; slow */
/* For golden tests and traces: the state in lines, an effect in one. Cut to size (> 0), NUL at the
 * end. */
void queue_describe(const struct queue *queue, char *out, size_t size);
void queue_describe_effect(const struct queue_effect *effect, char *out, size_t size);

#endif
