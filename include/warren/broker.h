#ifndef WR_BROKER_H
#define WR_BROKER_H
/*
 * The broker interface: what every front end (AMQP 0-9-1 now; other protocols, HTTP, shovels later)
 * uses, and nothing else (DESIGN §9, docs/broker.md). It does permissions, equivalence checks,
 * routing, confirms, consumers and settlement in RabbitMQ's terms; below it are the catalog
 * (definitions), the router and queue clients (src/replica).
 *
 * One `struct broker` per shard. A session stands for one client connection, a channel for one
 * channel of it. Calls that need the cluster answer later through a completion; completions and
 * sink upcalls never run inside the call that started the work, always from broker_turn() or host
 * upcalls. A channel's front end issues one such call at a time per channel and keeps later methods
 * back.
 *
 * Errors are values: struct broker_fault carries RabbitMQ's reply code and text; the front end
 * decides how to send it. Threads: the shard that owns the broker.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/bytes.h"
#include "warren/catalog.h"
#include "warren/env.h"
#include "warren/message.h"
#include "warren/replica.h"

struct broker;
struct broker_session;
struct broker_channel;

struct broker_fault {
    uint16_t code;   /* 0 = none; 404, 403, 406 ... */
    bool connection; /* closes the connection rather than the channel */
    char text[512];  /* without the "NOT_FOUND - " prefix; the front end prefixes and cuts to 255
                        bytes */
};

/* --- life ------------------------------------------------------------------------------------- */
struct broker_options {
    struct uid node_id;
    uint32_t shard, shard_count;
    uint32_t quorum_initial_size; /* x-quorum-initial-group-size when not given; default 3 */
    bool guest_loopback_only;
    uint64_t seed;
    uint32_t
        operation_timeout_ms;     /* how long a declare etc. waits for the cluster, default 15000 */
    uint64_t message_size_max;    /* max_message_size, default 16 MiB */
    uint64_t consumer_timeout_ms; /* where neither queue nor consumer say; 0: none */
    uint32_t consumers_max;       /* of a channel; 0: no limit */
    const struct logger *logger;
};
struct broker *broker_new(struct env *env, struct host *host, const struct broker_options *options);
void broker_free(struct broker *broker);
/* A newer view, which holds all commands up to log index `index`; takes its own reference; between
 * turns. */
void broker_set_view(struct broker *broker, struct catalog_view *view, uint64_t index);
void broker_set_boot(struct broker *broker, uint32_t boot); /* before the first session */
/* A queue reached its auto-delete condition (host_sink.on_queue_unused): deletes it; repeated until
 * it worked. */
void broker_queue_unused(struct broker *broker, uint64_t queue_id);
/* A queue served on this shard has dead letters and nobody takes them (host_sink.on_queue_dead). */
void broker_queue_dead(struct broker *broker, uint64_t queue_id);
/* Alarms of all nodes: while there is any, channels that publish are held back after the publish
 * under way. */
enum broker_alarm { BROKER_ALARM_DISK = 1, BROKER_ALARM_MEMORY = 2 };
void broker_set_alarms(struct broker *broker, uint32_t alarms);
uint32_t broker_alarms(const struct broker *broker);
/* From the broker of another shard, or of this one (host_sink.on_letter). */
void broker_on_letter(struct broker *broker, struct uid node, uint32_t shard,
                      const struct host_letter *letter);
void broker_turn(struct broker *broker);
uint64_t broker_deadline_ns(const struct broker *broker);

/* --- sessions --------------------------------------------------------------------------------- */
struct broker_session_info { /* strings are copied */
    struct bytes vhost, user;
    struct net_addr peer, local;
    const char *protocol;           /* "AMQP 0-9-1" */
    struct bytes client_properties; /* raw field table, for listings */
    struct bytes provided_name;
    uint32_t channel_max, frame_max, heartbeat_s;
    const char *auth_mechanism;
    const struct env_tls *tls; /* NULL: without */
};
/* Checks a user's password (constant time, also for unknown users). loopback: the peer address is a
 * loopback one (guest is refused otherwise). Synchronous. true = accepted; user's name is then used
 * with broker_session_open. */
bool broker_authenticate(struct broker *broker, struct bytes user, struct bytes password,
                         bool loopback);
/* The same for a user whom a certificate has proved: he only has to be there. */
bool broker_authenticate_external(struct broker *broker, struct bytes user, bool loopback);
/* Opens a session: vhost exists, user may use it. NULL with fault (530) otherwise. on_close is
 * called when an operator or the node wants the connection closed (320 with text). */
struct broker_session *broker_session_open(struct broker *broker,
                                           const struct broker_session_info *info,
                                           void (*on_close)(void *ctx, const char *reason),
                                           void *ctx, struct broker_fault *fault);
/* A limit counts the session, and the cluster has not decided yet whether it may be: true, and
 * on_ready (with the session's ctx) follows in a later turn, unless the session is closed before:
 * fault->code 0, or 530 (close it then). Until then it is not to be used. False: it may be used. */
bool broker_session_wait(struct broker_session *session,
                         void (*on_ready)(void *ctx, const struct broker_fault *fault));
/* Its channels are about to be closed one after the other, and nothing of them matters any more:
 * its consumers without acks take no more, or what one channel gives back would be handed to
 * another one's, and be gone. */
void broker_session_leave(struct broker_session *session);
/* Closes all its channels, deletes its exclusive queues, then calls done (may be NULL) once they
 * are gone cluster-wide or the time limit passed. The session pointer is dead after the call. */
void broker_session_close(struct broker_session *session, void (*done)(void *ctx), void *ctx);
/* connection.update-secret: true, or a fault 530: the user is gone, or may not use the vhost. */
bool broker_session_update_secret(struct broker_session *session, struct bytes secret,
                                  struct broker_fault *fault);
/* Octets and state for listings. state is a static string: "running", "blocked", "flow" ... */
void broker_session_count(struct broker_session *session, uint64_t recv_bytes, uint64_t send_bytes,
                          const char *state);

/* --- channels --------------------------------------------------------------------------------- */
struct broker_delivery {
    uint32_t queue;    /* handle of the queue within the channel (for settle) */
    uint32_t consumer; /* broker's consumer number within that queue client */
    uint64_t ordinal;  /* 0 = settled already (basic.get without acknowledgement) */
    bool counted;      /* of a quorum queue: redeliveries are told their delivery count */
};
struct broker_channel_sink {
    /* Outcome of publishes: every publish token in [first, first+count) has it. Return (mandatory)
     * came before by broker_publish's result. */
    void (*on_confirm)(void *ctx, uint64_t first_token, uint64_t count, bool ack);
    /* One message for consumer `tag`. Borrowed. delivery tells how to settle it; already settled
     * when no_ack. */
    void (*on_deliver)(void *ctx, struct bytes tag, const struct broker_delivery *delivery,
                       bool redelivered, uint32_t delivery_count, bool no_ack,
                       const struct message *message);
    /* The consumer was cancelled by the broker (queue deleted ...). */
    void (*on_cancel)(void *ctx, struct bytes tag);
    /* An asynchronous channel or connection error. */
    void (*on_fault)(void *ctx, const struct broker_fault *fault, uint16_t class_id,
                     uint16_t method_id);
    /* Publishing should pause (true) because a target queue's pending ops are over the limit, or
     * may go on. */
    void (*on_blocked)(void *ctx, bool blocked);
    /* Publishing is held back cluster-wide, and why ("low on disk"): told to a channel that has
     * published or is about to (broker_channel_alarm), before on_blocked. It is over when
     * broker_alarms() is 0. May be NULL. */
    void (*on_alarm)(void *ctx, const char *reason);
    /* It held a message for longer than timeout_ms: it was cancelled and all of that requeued.
     * Later settles of it do nothing. */
    void (*on_overdue)(void *ctx, struct bytes tag, uint64_t timeout_ms);
    /* While a transaction is committed: this mandatory message has reached no queue. Borrowed. */
    void (*on_return)(void *ctx, const struct message *message);
};
/* One channel more? False with a fault 530: the user's limit of channels is reached. */
bool broker_channel_may_open(struct broker_session *session, struct broker_fault *fault);
struct broker_channel *broker_channel_open(struct broker_session *session, uint16_t number,
                                           const struct broker_channel_sink *sink, void *ctx);
/* Unacked deliveries are returned, consumers removed; no more upcalls; done (may be NULL) when
 * pending ops were handed over. */
void broker_channel_close(struct broker_channel *channel);

/* Completion of an asynchronous call. fault->code == 0 = ok. a, b: message count, consumer count;
 * name: queue name or consumer tag (borrowed). */
typedef void (*broker_done_fn)(void *ctx, const struct broker_fault *fault, struct bytes name,
                               uint64_t a, uint64_t b);

/* Before a close that is answered: the channel's consumers leave those queues that end with their
 * last consumer, and what ends by that is deleted; and they leave those that other nodes serve, and
 * what is unacked goes back there. True: done follows once the former are gone cluster-wide and the
 * latter have it, or the time limit passed, without a fault; close the channel then (or before:
 * done is not called). False: there is nothing to wait for. session_ends: its exclusive queues go
 * with it anyhow. */
bool broker_channel_leave(struct broker_channel *channel, bool session_ends, broker_done_fn done,
                          void *ctx);

enum broker_declare_flag {
    BROKER_PASSIVE = 1,
    BROKER_DURABLE = 2,
    BROKER_EXCLUSIVE = 4,
    BROKER_AUTO_DELETE = 8,
    BROKER_INTERNAL = 16,
    BROKER_IF_UNUSED = 32,
    BROKER_IF_EMPTY = 64,
    BROKER_NO_ACK = 128,
    BROKER_NO_LOCAL = 256,
};
/* All name/key/args parameters are borrowed for the call. args are raw field tables (already
 * validated as well-formed). */
void broker_exchange_declare(struct broker_channel *ch, struct bytes name, struct bytes type,
                             uint32_t flags, struct bytes args, broker_done_fn done, void *ctx);
void broker_exchange_delete(struct broker_channel *ch, struct bytes name, uint32_t flags,
                            broker_done_fn done, void *ctx);
void broker_exchange_bind(struct broker_channel *ch, struct bytes destination, struct bytes source,
                          struct bytes key, struct bytes args, bool unbind, broker_done_fn done,
                          void *ctx);
/* Empty name: server-named on declare; the channel's last declared queue elsewhere. done: name, a =
 * ready messages, b = consumers. */
void broker_queue_declare(struct broker_channel *ch, struct bytes name, uint32_t flags,
                          struct bytes args, broker_done_fn done, void *ctx);
void broker_queue_bind(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                       struct bytes key, struct bytes args, bool unbind, broker_done_fn done,
                       void *ctx);
/* The same while others of the two are under way on this channel: they share commits, and done is
 * called in the order of the calls. False: it must wait for them, because it could fail by what is
 * known here; nothing has happened. Whatever comes after a fault is not answered, but may be done.
 */
bool broker_queue_declare_ahead(struct broker_channel *ch, struct bytes name, uint32_t flags,
                                struct bytes args, broker_done_fn done, void *ctx);
bool broker_queue_bind_ahead(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                             struct bytes key, struct bytes args, broker_done_fn done, void *ctx);
/* Others whose families are told apart in the same way: only unbinds, only deletes, only consumes
 * or only cancels may be under way together. */
bool broker_queue_unbind_ahead(struct broker_channel *ch, struct bytes queue, struct bytes exchange,
                               struct bytes key, struct bytes args, broker_done_fn done, void *ctx);
bool broker_queue_delete_ahead(struct broker_channel *ch, struct bytes queue, uint32_t flags,
                               broker_done_fn done, void *ctx);
bool broker_consume_ahead(struct broker_channel *ch, struct bytes queue, struct bytes tag,
                          uint32_t flags, struct bytes args, broker_done_fn done, void *ctx);
bool broker_cancel_ahead(struct broker_channel *ch, struct bytes tag, broker_done_fn done,
                         void *ctx);
void broker_queue_purge(struct broker_channel *ch, struct bytes queue, broker_done_fn done,
                        void *ctx); /* a = messages removed */
void broker_queue_delete(struct broker_channel *ch, struct bytes queue, uint32_t flags,
                         broker_done_fn done, void *ctx); /* a = messages removed */

/* Publishes: checks, routes and hands to the queues, in order. Synchronous: returns the outcome at
 * once. BROKER_ROUTED: on_confirm(token) follows when confirm mode is on.  BROKER_UNROUTABLE: went
 * nowhere: the front end sends basic.return when mandatory and confirms at once.  BROKER_REFUSED:
 * *fault tells. BROKER_WAIT: the exchange is not known here yet: a read barrier is under way; the
 * front end keeps the message and calls again from `retry`. A message with several target queues is
 * shared, not copied. token: the front end's number for it, ascending; 0 = no confirm wanted. */
enum broker_publish_result {
    BROKER_ROUTED,
    BROKER_UNROUTABLE,
    BROKER_KEPT, /* by an exchange's history only: returned when mandatory, confirmed as if routed
                  */
    BROKER_REFUSED,
    BROKER_WAIT,
};
enum broker_publish_result broker_publish(struct broker_channel *ch, struct message message,
                                          uint64_t token, struct broker_fault *fault,
                                          void (*retry)(void *ctx), void *ctx);
/* Under an alarm: the channel is about to publish, and is held back before it (on_alarm,
 * on_blocked). Without one, or held back already: nothing. */
void broker_channel_alarm(struct broker_channel *ch);

/* An unroutable message as it goes back to its publisher: without BCC, and with the name of the
 * channel's reply consumer, as every message leaves. Consumes the reference, gives a new one. */
struct message broker_returned(const struct broker_channel *ch, struct message owned);
/* The next publish had come already when the barrier of the last BROKER_WAIT on this channel began:
 * where it cannot be routed it needs none of its own. */
void broker_publish_looked(struct broker_channel *ch);
/* How many bytes of messages may be taken in: what the queues of this shard's publishers have
 * pending counts against it. Large messages wait for it before they are received. */
uint64_t broker_publish_room(const struct broker *broker);

/* Transactions. From select on, publishes are checked and routed as ever (BROKER_ROUTED is then
 * said for those that reach no queue as well, and no token is answered), but kept until commit.
 * Settles are the front end's to keep: broker_settle goes on to act at once. May be repeated. */
void broker_tx_select(struct broker_channel *ch);
/* Of the next publish: whether sink.on_return is to hear when it reaches no queue. */
void broker_tx_mandatory(struct broker_channel *ch, bool mandatory);
/* For listings: how many deliveries the front end has settles for that wait for a commit. */
void broker_tx_note_acks(struct broker_channel *ch, uint64_t count);
/* Part of the commit that follows in the same call of the front end. */
void broker_tx_settle(struct broker_channel *ch, const struct broker_delivery *first,
                      uint64_t count, enum queue_outcome outcome);
/* Hands everything over; done once the queues have applied it, with a fault (406) when one refused.
 * Returns true when publishes go to queues: done then comes after their confirms. */
bool broker_tx_commit(struct broker_channel *ch, broker_done_fn done, void *ctx);
void broker_tx_rollback(struct broker_channel *ch); /* forgets what was published */

void broker_consume(struct broker_channel *ch, struct bytes queue, struct bytes tag, uint32_t flags,
                    struct bytes args, broker_done_fn done,
                    void *ctx); /* name = tag; no delivery before done */
void broker_cancel(struct broker_channel *ch, struct bytes tag, broker_done_fn done, void *ctx);
/* done: a = 1 got a message (delivered by on_get just before), 0 = empty; b = ready messages left.
 */
void broker_get(struct broker_channel *ch, struct bytes queue, bool no_ack,
                void (*on_get)(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                               uint32_t delivery_count, const struct message *message,
                               uint64_t left),
                broker_done_fn done, void *ctx);
/* Settles deliveries [first.ordinal, first.ordinal+count) of one consumer. */
void broker_settle(struct broker_channel *ch, const struct broker_delivery *first, uint64_t count,
                   enum queue_outcome outcome);
/* basic.qos: global false: for consumers started later, each; true: over the whole channel, at
 * once. */
void broker_qos(struct broker_channel *ch, uint32_t prefetch, bool global);
/* Slow socket: stop (true) or go on delivering to this channel; the broker withholds credit. */
void broker_channel_hold(struct broker_channel *ch, bool hold);

/* --- listings, for warrenctl and later the HTTP API ------------------------------------------- */
/* Rows of this shard's connections, channels: each calls fn with name/value pairs, values as JSON
 * text. */
typedef void (*broker_row_fn)(void *ctx, const char *const *names, const char *const *json_values,
                              uint32_t count);
void broker_list_connections(struct broker *broker, broker_row_fn fn, void *ctx);
void broker_list_channels(struct broker *broker, broker_row_fn fn, void *ctx);
/* The session of that number (the second one of its pid), as an operator wants it. False: none. */
bool broker_close_connection(struct broker *broker, uint64_t id, const char *reason);

#endif
