#ifndef WR_BROKER_INTERNAL_H
#define WR_BROKER_INTERNAL_H
/*
 * What the files of src/broker share. See docs/broker.md for the picture.
 */
#include "warren/broker.h"
#include "warren/crypto.h"
#include "warren/err.h"
#include "warren/list.h"
#include "warren/logger.h"
#include "warren/map.h"
#include "warren/mem.h"
#include "warren/pattern.h"
#include "warren/prng.h"
#include "warren/route.h"
#include "warren/timer.h"
#include "warren/vec.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

#define NAME_MAX_SIZE      255u
#define WINDOW_FIRST       32u    /* deliveries granted to a new consumer, before sizes are known */
#define WINDOW_MOST        8192u  /* ... at once to anybody */
#define WINDOW_CAREFUL     2u     /* ... of which the messages cannot be given back */
#define WINDOW_RESUMED     128u   /* ... at most, to one that was stopped by the channel's limit */
#define PENDING_MAX        10000u /* publishes of a channel, counted per target, not applied yet */
#define TURN_EXTRA_ALL     131072u /* ... and over all channels, before each may have one more */
#define TURN_EXTRA_MAX     8192u   /* targets but the first of a channel's publishes in one turn */
#define WINDOW_BYTES       (16u << 20) /* of deliveries granted ahead, once they are, at most ... */
#define WINDOW_BYTES_LEAST (64u << 10) /* ... and at first */
#define ORPHAN_MS          UINT64_C(3600000)
#define ROUTE_CACHE_SLOTS  32u
#define ROUTE_CACHE_TEXT   96u
#define DELETE_RETRY_MS    500u
#define RETURN_WAIT_MS     1000u /* for what a channel had unacked, before its close is answered */
#define DEATHS_WAIT_MS     1000u /* for what a channel rejected, before it looks elsewhere */
/* How long after back-pressure the listings say "flow": it comes and goes faster than anybody
 * looks. RabbitMQ's times. */
#define FLOW_CONNECTION_MS 5000u
#define FLOW_CHANNEL_MS    1000u
#define REPLY_KEPT_MAX     WINDOW_BYTES /* of replies for a channel whose socket is slow */
#define REPLY_QUEUE        "amq.rabbitmq.reply-to"
#define TX_BYTES_MAX       (64u << 20) /* kept for a transaction, or one message */
#define TX_OPS_MAX         131072u     /* publishes of a transaction, and their targets */
struct request;
struct ch_queue;
struct tx;
struct reply_consumer;
struct holding;

/* Where a reply goes: what a client sees as two words. */
struct reply_address {
    uint32_t boot, shard;
    uint64_t id;        /* of the reply consumer, within the boot and the shard */
    uint64_t secret[2]; /* random: who knows them was told */
};
VEC_TYPE(reply_address_vec, struct reply_address);

/* --- broker ----------------------------------------------------------------------------------- */

/* Work put off to the next turn, so that no completion runs inside the call that started it. */
struct deferred {
    void (*run)(struct request *request);
    struct request *request;
};

/* A queue that must go (exclusive owner gone, auto-delete due): repeated until the catalog says it
 * has. */
struct deletion {
    struct list link;
    struct broker *broker;
    struct broker_session *session; /* waits for it, or NULL */
    uint64_t queue_id;
    bool proposed;
    struct timer retry;
};

/* An exclusive queue whose declaration has an unknown outcome and whose channel is gone: deleted if
 * it shows up. (That of a connection that is gone is deleted whenever it does: broker_set_view.) */
struct orphan {
    struct list link;
    uint64_t connection, until_ms;
    char vhost[256], name[256];
};

struct broker {
    struct env *env;
    struct host *host;
    struct broker_options options;
    const struct logger *logger;
    struct catalog_view *view;
    uint64_t view_index;
    uint64_t view_serial;
    uint32_t boot;
    uint32_t alarms; /* enum broker_alarm */
    uint64_t turn;
    uint64_t extra; /* in this turn, see channel_note_published */
    uint64_t next_session;
    struct prng prng;
    struct hash_seed hash;
    struct timers timers;
    struct route_result route;
    VEC(struct bytes) extra_keys; /* CC and BCC of the message being published */
    struct pattern_cache patterns;
    uint64_t access_serial;
    struct list admin;                 /* calls of administration under way */
    struct list seats;                 /* sessions that are, or are to be, counted */
    struct reply_address_vec reply_to; /* and the reply consumers that it is for */
    struct umap reply_consumers;       /* id -> struct reply_consumer */
    struct umap probes;                /* number -> request that asks for one of another shard */
    uint64_t next_reply, next_probe;
    struct list sessions;
    struct umap session_ids; /* of `sessions` */
    struct list ending;      /* sessions that wait for their exclusive queues to go */
    struct list deletions;
    struct umap deleting; /* queue id -> the newest of them */
    struct list orphans;
    struct list unblocked;  /* channels whose front end is to hear that publishing may go on */
    struct list yielding;   /* channels with consumers that let others go first */
    struct list view_waits; /* requests that wait for view_index */
    struct list abandoned;  /* requests whose channel is closed */
    struct list dead_workers, dead_dirty; /* dead_worker.c */
    struct list pages, pages_done;        /* messages.c */
    VEC(struct deferred) deferred;
};

#define SESSION_SHARD_SHIFT                                                                        \
    48u /* ids of sessions: the shard above, a number that only grows below */

#define BROKER_NAME_SIZE 64u
void broker_make_name(struct broker *broker, const char *prefix, char out[BROKER_NAME_SIZE]);
uint64_t broker_now_ms(const struct broker *broker);
void broker_defer(struct broker *broker, void (*run)(struct request *request),
                  struct request *request);
void broker_delete_queue(struct broker *broker, uint64_t queue_id, struct broker_session *session);
void broker_watch_orphan(struct broker_session *session, struct bytes name);
void fault_set(struct broker_fault *fault, uint16_t code, bool connection, const char *fmt, ...)
    WR_PRINTF(4, 5);

/* --- sessions --------------------------------------------------------------------------------- */
struct broker_session {
    struct list link;
    struct broker *broker;
    uint64_t id; /* unique within the boot */
    char vhost[256], user[256];
    struct net_addr peer, local;
    char name[600];
    char provided_name[256];
    char auth_mechanism[16];
    struct env_tls *tls; /* NULL: without */
    const char *protocol;
    struct slice client_properties;
    struct bytes publisher; /* its name for itself (x-publisher-id): a view into these */
    uint32_t channel_max, frame_max, heartbeat_s;
    uint64_t recv_bytes, send_bytes, connected_ms;
    const char *state;
    void (*on_close)(void *ctx, const char *reason);
    void *ctx;
    struct list channels;
    struct seat *seat;                                             /* NULL: nothing counts it */
    void (*on_ready)(void *ctx, const struct broker_fault *fault); /* NULL: nobody waits */
    struct timer ready_timer;
    bool opened;           /* broker_session_open is done */
    bool ending;           /* broker_session_close has begun */
    bool told_close;       /* on_close was called */
    uint64_t vhost_id;     /* of the vhost it was opened in */
    uint64_t user_created; /* of the user who opened it */
    struct umap exclusive; /* ids of its exclusive queues */
    /* closing */
    uint32_t deletions;
    void (*done)(void *ctx);
    void *done_ctx;
    struct timer timeout;
};
struct bytes session_vhost(const struct broker_session *session);
struct bytes session_user(const struct broker_session *session);
void session_free_tls(struct broker_session *session);
void session_deleted(struct broker_session *session); /* one of its deletions is done */
void session_force_close(struct broker_session *session, const char *reason); /* on_close, once */
/* Users, vhosts or limits have changed: closes sessions whose user or vhost is gone. */
void sessions_check_access(struct broker *broker);

/* --- channels --------------------------------------------------------------------------------- */
struct consumer {
    struct ch_queue *queue;
    uint32_t id; /* within the queue client */
    uint8_t tag_size;
    uint8_t tag[255];
    bool no_ack, exclusive, attached, cancelled;
    bool cancel_on_move;     /* x-cancel-on-ha-failover */
    struct holding *holding; /* NULL: it needs no acks */
    bool doubt;   /* deliveries may have been lost with their credit: looked at when it may go on */
    bool stopped; /* over the channel's limit: credit withdrawn */
    struct request *request; /* that attaches or detaches it, NULL: none */
    int32_t priority;
    struct list stop_link; /* channel->stopped */
    uint64_t served;       /* when it last had a message under a limit, by channel->served */
    bool yields;           /* stopped to let the others go first: until the next turn */
    uint32_t prefetch;
    uint64_t ordinal; /* highest delivered */
    uint64_t credit;  /* limit granted */
    uint32_t average; /* bytes of a message, moving */
    uint32_t window_bytes;
    bool careful; /* no_ack, and the queue had messages, whose sizes are not known yet */
    struct slice args;
};

/* Publishes waiting for a queue: seqs seq.. belong to tokens token.. */
struct confirm_run {
    uint64_t seq, token;
    uint32_t count;
    bool sole; /* the queue is the message's only target */
};

/* One queue as used by one channel. */
struct ch_queue {
    struct broker_channel *channel;
    uint64_t queue_id;
    uint32_t handle; /* in channel->by_handle; never used again: acks may come when the queue is
                        long gone */
    char name[256];
    uint8_t name_size;
    struct queue_client *client;
    VEC(struct confirm_run) confirms;
    size_t confirms_first;
    VEC(struct consumer *)
    consumers;            /* by id; 0 is basic.get and NULL; slots of ended consumers are NULL */
    struct list requests; /* that wait for a reply, the oldest first */
    struct message got;   /* basic.get's message, until its reply */
    struct broker_delivery got_delivery;
    uint32_t got_count;
    uint64_t got_unacked;        /* of basic.get; its part of channel->got_unacked */
    uint64_t got_last;           /* ordinal of the last of them */
    struct list holdings;        /* what its consumers have not settled */
    uint64_t unacked;            /* the sum of that; its part of channel->outstanding */
    uint64_t applied, published; /* seq of the newest op applied, of the newest publish */
    uint64_t pending;            /* its part of channel->pending */
    uint64_t rejected; /* seq of the newest reject that makes dead letters; 0: it is applied */
    uint64_t flow_ms;  /* when it last held the channel back; 0 = never */
    bool has_got, blocked, limited;
    bool wants_ids;               /* it looks for message ids that it has seen */
    bool delays;                  /* it obeys x-delay */
    bool counted;                 /* a quorum queue */
    bool history;                 /* what it keeps does not expire */
    bool auto_delete;             /* it ends with its last consumer */
    bool exclusive;               /* it ends with the session */
    bool safe;                    /* on this node, and ends with it: nothing is lost on its way */
    uint64_t tx_publish, tx_last; /* of the commit under way: seq of the first publish, of the last
                                     op; 0: none */
    uint64_t tx_kept;             /* serial of the transaction that has a message for it; 0: none */
};

struct route_cache_slot {
    uint64_t serial;
    uint8_t exchange_size, key_size;
    uint8_t text[ROUTE_CACHE_TEXT];
    bool wants_ids; /* one of the targets does */
    VEC(struct ch_queue *) targets;
};

struct broker_channel {
    struct list link; /* session->channels */
    struct broker *broker;
    struct broker_session *session;
    const struct broker_channel_sink *sink;
    void *ctx;
    uint16_t number;
    bool closed, held, confirm_used;
    bool told_blocked; /* what the front end knows */
    bool alarmed;      /* held back because of broker->alarms */
    bool crowded;      /* held back because of pending */
    bool tired;        /* held back until the next turn because of extra */
    uint32_t prefetch, global_limit;
    uint64_t outstanding; /* unacked by the application, consumers only: the sum over its queues */
    uint64_t got_unacked; /* of basic.get: no limit counts them */
    uint32_t blocked_queues;
    uint64_t held_bytes;      /* delivered since it is held: the socket is slow */
    uint64_t flow_ms;         /* when back-pressure last held it back; 0 = never */
    uint64_t pending;         /* publishes handed over and not applied, counted per target */
    uint64_t extra;           /* targets but the first of the publishes of turn extra_turn */
    uint64_t extra_turn;      /* of broker->turn */
    struct list unblock_link; /* broker->unblocked */
    struct list stopped;      /* consumers without credit, who waits longest first */
    uint64_t served;
    struct list yield_link; /* broker->yielding: it has consumers that yield */
    bool publish_looked;    /* a read barrier that began after the next publish came is done */
    uint64_t write_serial;  /* access serial at which write_exchange may be written to */
    uint32_t write_size;
    uint8_t write_exchange[255];
    void (*retry)(void *ctx); /* then the front end tries again */
    void *retry_ctx;
    struct umap by_handle; /* handle -> ch_queue */
    struct umap by_id;     /* queue id -> ch_queue */
    uint32_t next_handle;
    struct umap multi; /* token -> targets still to confirm (a number), for messages with several */
    struct umap nacked;             /* tokens of those that were nacked by one target */
    struct route_cache_slot *cache; /* ROUTE_CACHE_SLOTS of them, made with the first publish */
    struct map consumers;           /* tag -> struct consumer */
    struct list requests;
    uint32_t rejecting;      /* its queues with `rejected` */
    struct list death_waits; /* requests that wait until it is 0 */
    uint8_t last_queue[255]; /* declared on this channel; a name may hold NULs */
    uint8_t last_queue_size;
    bool has_last_queue;
    bool has_priorities; /* one of its consumers has, or had, another than 0 */
    uint64_t published, confirmed, delivered, acked;
    struct tx *tx;                /* NULL: not transactional */
    struct reply_consumer *reply; /* NULL: there is none */
    struct timer overdue;
    uint32_t leaving; /* queues that broker_channel_leave waits for */
    broker_done_fn on_left;
    void *left_ctx;
};
static inline struct bytes channel_last_queue(const struct broker_channel *ch)
{
    return (struct bytes){ch->last_queue, ch->last_queue_size};
}
struct ch_queue *ch_queue_open(struct broker_channel *ch, const struct catalog_queue *queue);
void ch_queue_close(struct ch_queue *q); /* closes its client, frees it */
void drop_got(struct ch_queue *q);
void confirm_expect(struct ch_queue *q, uint64_t seq, uint64_t token, bool sole);
extern const struct queue_client_sink ch_queue_sink;
void consumer_free(struct consumer *consumer);
void consumer_renew(struct consumer *consumer);
uint64_t consumer_window(const struct consumer *c); /* how many deliveries it may have on the way */
void consumer_resumed(struct consumer *consumer);   /* deliveries may have been lost */
void channel_free_slots(struct broker_channel *ch);
void channel_check_blocked(struct broker_channel *ch); /* after what channel_is_blocked asks for */
bool channel_is_blocked(const struct broker_channel *ch);
/* Its queues' back-pressure holds it back, or did within the last keep_ms. */
bool channel_in_flow(const struct broker_channel *ch, uint64_t now_ms, uint64_t keep_ms);
void channel_note_published(struct broker_channel *ch, size_t targets);
void ch_queue_note_publish(struct ch_queue *q, uint64_t seq);
/* turns.c */
static inline bool channel_is_full(const struct broker_channel *ch)
{
    return ch->global_limit != 0 && ch->outstanding >= ch->global_limit;
}
void deliver_resume(struct broker_channel *ch);      /* the channel's outstanding count fell */
void consumer_stop(struct consumer *c);              /* it gets no credit until deliver_resume */
void consumer_put_among_stopped(struct consumer *c); /* one that has no credit yet */
void consumers_go_on(struct broker_channel *ch);     /* those that let others go first */
void consumers_take_no_more(struct broker_channel *ch);
void consumer_lets_others_go_first(struct ch_queue *q, uint32_t id);
/* overdue.c */
void holding_open(struct consumer *c, uint64_t timeout_ms);
void holding_leave(struct consumer *c);
void holdings_free(struct ch_queue *q);
/* What consumers hold that were cancelled goes back to the queue: seq of the last op, 0: nothing.
 */
uint64_t holdings_of_cancelled_return(struct ch_queue *q);
void holding_delivered(struct consumer *c, uint64_t ordinal, uint64_t now_ms);
/* How many of them were held. */
uint64_t holding_settled(struct ch_queue *q, uint32_t id, uint64_t first, uint64_t count);
void consumers_moved(struct ch_queue *q); /* another node leads the queue */
/* Settles and returns the seq of the op; 0: its queue is gone. */
uint64_t settle_now(struct broker_channel *ch, const struct broker_delivery *first, uint64_t count,
                    enum queue_outcome outcome);

/* --- transactions ----------------------------------------------------------------------------- */
/* Keeps a publish; no targets: it reaches no queue. False with fault 406: there is too much. */
/* What is in broker->reply_to is kept too. */
bool tx_publish(struct broker_channel *ch, struct ch_queue *const *targets, const bool *delayed,
                size_t count, struct message message, struct broker_fault *fault);
/* One of them, at the commit: its seq. */
uint64_t publish_kept(struct broker_channel *ch, struct ch_queue *q, bool delayed,
                      struct message message);
void tx_free(struct broker_channel *ch);
/* A queue of the commit under way: applied up to seq; refused one; is gone. */
void tx_on_applied(struct ch_queue *q, uint64_t seq);
void tx_on_nacked(struct ch_queue *q, uint64_t seq);
void tx_on_gone(struct ch_queue *q, bool lost);
/* A reference for somebody who keeps it: of a copy where the record is a small part of its buffer,
 * which would stay as a whole. */
struct message broker_keep_message(struct message message);
uint64_t tx_uncommitted(const struct broker_channel *ch);
uint64_t tx_uncommitted_acks(const struct broker_channel *ch);

/* --- direct reply-to -------------------------------------------------------------------------- */
bool reply_is_queue(
    struct bytes name);               /* the pseudo-queue, or something that looks like its names */
bool reply_is_name(struct bytes key); /* might be the name of a reply consumer */
/* Adds the one of that name to broker->reply_to, unless it is there or the name is garbled. */
void reply_find(struct broker *broker, struct bytes key);
#define REPLY_NAME_SIZE 67u /* REPLY_QUEUE, a dot, 20 characters, a dot, 24 */
/* What stands for the pseudo-queue in the reply-to of a message of this channel; it has one. */
struct bytes reply_name(const struct broker_channel *ch, uint8_t out[REPLY_NAME_SIZE]);
void reply_send(struct broker *broker, const struct reply_address *to, struct message message);
void reply_consume(struct request *request);
bool reply_cancel(struct broker_channel *ch, struct bytes tag); /* false: it is not that tag's */
void reply_declare(struct request *request);
void reply_resume(struct broker_channel *ch); /* its socket is no longer slow */
void reply_close(struct broker_channel *ch);

void publish_add_keys(struct broker *broker, struct bytes headers, const char *name);
void dead_workers_turn(struct broker *broker);
void dead_workers_free(struct broker *broker);
/* To another queue than the message was published to: what the publisher said holds again. */
uint64_t publish_replayed(struct ch_queue *q, struct message message);
void pages_turn(struct broker *broker);
void pages_free(struct broker *broker);

/* --- requests: one asynchronous call of a front end
 * --------------------------------------------------------------------------------- */
/* Those of one family may be under way together; then none depends on what another one changes. */
enum request_family {
    FAMILY_NONE,
    FAMILY_MAKE, /* queue.declare, bind */
    FAMILY_UNBIND,
    FAMILY_DELETE,
    FAMILY_CONSUME,
    FAMILY_CANCEL,
};

struct request {
    struct list link;      /* channel->requests */
    struct list wait_link; /* broker->view_waits, channel->death_waits */
    struct broker *broker;
    struct broker_channel *channel; /* NULL once the channel is closed: nobody is told any more */
    broker_done_fn done;
    void *ctx;
    void (*on_get)(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                   uint32_t delivery_count, const struct message *message, uint64_t left);
    void (*step)(struct request *request); /* goes on: after a barrier, a view, a proposal */
    uint8_t kind;                          /* private to the file that made it */
    uint32_t flags;
    bool looked; /* a read barrier was done */
    bool waited; /* for deaths, long enough */
    bool unbind;
    bool newly;          /* bind: the binding was not there */
    bool generated;      /* queue.declare: the name is ours */
    bool made_exclusive; /* queue.declare: an exclusive queue is being proposed */
    bool created;        /* queue.declare: by us, just now */
    bool sealed;         /* queue.delete: by us */
    bool auto_delete;    /* basic.cancel: its queue ends with its last consumer */
    bool declares;       /* a queue.declare */
    bool is_last;        /* ... after which the queue is the channel's last one */
    enum request_family family;
    bool ahead;  /* began while others were under way: ends after them */
    bool sure;   /* proposed, and nothing but what others do meanwhile can make it fail */
    bool behind; /* bind: its queue is being declared by a request before it */
    void (*in_turn)(struct request *request); /* waits for those before it, then goes on with this;
                                                 NULL: does not */
    int status;                               /* of the last proposal */
    struct catalog_result result;
    uint64_t wait_index;
    uint64_t queue_id, count, consumers;
    struct broker_fault fault;
    struct timer timeout;
    struct ch_queue *queue; /* whose reply to reply_seq it waits for, NULL: it does not */
    struct list reply_link; /* queue->requests */
    uint64_t reply_seq;
    enum queue_status answer; /* basic.consume: the reply, kept for its turn */
    struct consumer *consumer;
    void (*on_reply)(struct request *request, enum queue_status status, uint64_t value,
                     uint64_t value2);
    struct history_replay *replay; /* bind: what of the history is still to come; NULL: nothing */
    struct buf *text;              /* copies of names and tables; the views below point into it */
    struct bytes name, exchange, key, args, type;
};
struct request *request_new(struct broker_channel *ch, broker_done_fn done, void *ctx);
/* Copies the five views (name, exchange, key, args, type) behind the request. */
void request_keep(struct request *request, struct bytes name, struct bytes exchange,
                  struct bytes key, struct bytes args, struct bytes type);
void request_fail(struct request *request, uint16_t code, bool connection, const char *fmt, ...)
    WR_PRINTF(4, 5);                          /* ends it */
void request_finish(struct request *request); /* reports request->fault or success with name, count,
                                                 consumers; frees */
void request_defer_finish(struct request *request);
/* Goes on with this once all before it on its channel have ended. */
void request_in_turn(struct request *request, void (*go_on)(struct request *request));
/* May another call of that family begin now, before those under way have ended? */
bool request_may_begin_ahead(const struct broker_channel *ch, enum request_family family);
/* A queue of that name is being declared by one of them. */
bool request_is_declaring(const struct broker_channel *ch, struct bytes name);
/* One of them is about a queue of that name. */
bool request_names(const struct broker_channel *ch, struct bytes name);
/* Lets go of the consumer that it attaches or detaches. */
void request_let_go(struct request *request);
/* Goes on with `step` when what the channel rejected has become dead letters, or in a second. */
void request_await_deaths(struct request *request, void (*step)(struct request *request));
void request_deaths_over(struct broker_channel *ch);
void request_barrier(struct request *request, void (*step)(struct request *request));
void request_propose(struct request *request, const struct catalog_command *command,
                     void (*step)(struct request *request));
/* The reply's second number when it was lost, and nobody knows it any more. */
#define REPLY_NOT_KNOWN UINT64_MAX
void request_await_reply(struct request *request, struct ch_queue *queue, uint64_t seq,
                         void (*on_reply)(struct request *request, enum queue_status status,
                                          uint64_t value, uint64_t value2));
void request_await_at_most(struct request *request, uint64_t ms); /* from now on, for the reply */
bool request_unavailable(struct request *request); /* the last proposal failed for lack of a leader:
                                                      fails the request, true */
void request_abandon(struct request *request);     /* its channel is closed */

/* --- histories of exchanges (history.c) ------------------------------------------------------- */
/* The exchange should have a history and has none: makes it, and ends the request. */
bool history_make(struct request *request, const struct catalog_exchange *exchange);
/* The binding is made: replays request->exchange's history to request->name, and ends the request;
 * false: there is none. */
bool history_replay(struct request *request, bool to_queue);
void history_on_peek(struct request *request, const struct message *messages, uint32_t count);
void history_on_answer(struct request *request, enum queue_status status, uint64_t value,
                       uint64_t value2);
void history_cut_short(struct request *request); /* the time is up */
void history_free(struct history_replay *owned_replay);
/* Where a new group's replicas are; members has room for CATALOG_REPLICAS_MAX. */
void queue_place_group(struct request *request, struct catalog_queue_spec *spec,
                       struct catalog_member *members);

/* --- rules ------------------------------------------------------------------------------------ */
enum permission { PERMISSION_CONFIGURE, PERMISSION_WRITE, PERMISSION_READ };
/* True, or false with fault 403. kind: "queue" or "exchange". */
bool auth_check(struct broker_session *session, enum permission permission, const char *kind,
                struct bytes name, struct broker_fault *fault);
/* The same for a key of a topic exchange, by the user's topic permissions; kind is PERMISSION_WRITE
 * or _READ. */
bool auth_check_topic(struct broker_session *session, enum permission permission,
                      const struct catalog_exchange *exchange, struct bytes key,
                      struct broker_fault *fault);
/* The digest of salt (4 bytes) and password, up to 64 bytes; hashing: enum catalog_hashing. */
bool auth_digest(uint8_t hashing, const uint8_t *salt, struct bytes password, uint8_t *ret_digest);
bool auth_password(struct broker *broker, struct bytes user, struct bytes password);
#define SEAT_WAIT_MS 3000u /* how long opening and closing wait for the cluster */
/* Seats (seat.c): sessions that are counted against limits. Is it certain that one more is too
 * many? 530. Who may open waits for the seat (broker_session_wait). */
bool seat_may_open(struct broker *broker, struct bytes vhost, struct bytes user,
                   struct broker_fault *fault);
bool seat_may_open_channel(struct broker_session *session, struct broker_fault *fault);
/* The session was opened, or its channels, its vhost or its user have changed. */
void seat_update(struct broker_session *session);
/* True: its seat has to be given back, which is one of the session's deletions; closing waits for
 * it, but no longer than SEAT_WAIT_MS. */
bool seat_end(struct broker_session *session);
void seat_free_all(struct broker *broker);
/* Administration (admin.c): answers what is due. */
void admin_turn(struct broker *broker);
bool admin_is_due(const struct broker *broker);
void admin_free_all(struct broker *broker);
/* x-queue-type: true with *ret_type (enum catalog_queue_type), or a fault. */
bool args_queue_type(struct bytes vhost, struct bytes name, struct bytes args, uint8_t *ret_type,
                     struct broker_fault *fault);
/* Argument tables and properties of queue.declare: true with *ret_type, or a fault 406. */
bool args_check_queue(struct bytes vhost, struct bytes name, struct bytes args, uint32_t flags,
                      uint8_t *ret_type, struct broker_fault *fault);
struct consume_args {
    int32_t priority;
    uint64_t timeout_ms; /* of the consumer, the queue, or as given; 0: none */
    bool cancel_on_move;
};
/* ret_args->timeout_ms: the default on the way in. */
bool args_check_consume(struct bytes vhost, const struct catalog_queue *queue, struct bytes args,
                        struct consume_args *ret_args, struct broker_fault *fault);
/* Equivalence with what exists: true, or a fault 405/406. */
bool equivalent_queue(const struct broker_session *session, const struct catalog_queue *queue,
                      uint32_t flags, struct bytes args, struct broker_fault *fault);
bool equivalent_exchange(const struct catalog_exchange *exchange, struct bytes type, uint32_t flags,
                         struct bytes args, struct broker_fault *fault);
/* The queue may be used by this session (405 otherwise). */
bool owner_check(const struct broker_session *session, const struct catalog_queue *queue,
                 struct broker_fault *fault);
/* Resolves the request's queue name ("" = last declared) of a queue to be read; NULL with the
 * request failed (403 whether it exists or not) or waiting for a barrier that calls step again. */
const struct catalog_queue *request_find_queue(struct request *request,
                                               void (*step)(struct request *request));
/* The name that the request means ("" = last declared), for texts. */
struct bytes request_queue_name(const struct request *request);
/* Its queue went while it waited for a reply: QUEUE_SEALED is the answer, in the turn. */
void request_queue_gone(struct request *request);

#define FMT(b) (int)(b).size, (const char *)(b).data

#endif
