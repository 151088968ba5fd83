#ifndef WR_AMQP_INTERNAL_H
#define WR_AMQP_INTERNAL_H
/*
 * What the files of src/amqp share: the server, connections and channels.
 */
#include "warren/amqp.h"
#include "warren/err.h"
#include "warren/list.h"
#include "warren/map.h"
#include "warren/mem.h"
#include "warren/outq.h"
#include "warren/prng.h"
#include "warren/rangemap.h"
#include "warren/timer.h"
#include "warren/vec.h"
#include "warren/wire.h"
#include "warren/wire_frame.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

/* Of input that is kept until open is answered. */
#define AMQP_EARLY_MAX (128u << 10)
/* Kept frames before a socket is paused: of one connection, as long as those of all connections of
 * the shard are below _ALL; else of one connection. The second row is for when memory is low. */
#define AMQP_KEPT_MAX     (16u << 20)
#define AMQP_KEPT_ALL     (64u << 20)
#define AMQP_KEPT_MAX_LOW (1u << 20)
#define AMQP_KEPT_ALL_LOW (16u << 20)
#define AMQP_KEPT_LEAST   (64u << 10)
#define AMQP_BODY_AT_ONCE (128u * 1024u) /* bodies up to this get their memory when announced */
#define AMQP_ROOM_STALL_MS                                                                         \
    1000u /* large bodies of which nothing comes hold up others for this long */
#define AMQP_CLOSE_LINGER_MS 3000u
#define AMQP_CLOSE_WAIT_MS   10000u /* for the client's close-ok, or for channels to finish */
#define AMQP_LOST_WAIT_MS    3000u  /* for close-ok when the input cannot be read any more */
#define AMQP_SESSION_WAIT_MS                                                                       \
    2000u /* an error is told at last after this, exclusive queues or not */
#define AMQP_AUTH_DELAY_MS 1000u
#define AMQP_FRAME_MIN     4096u
#define AMQP_AHEAD_MAX     32u             /* calls of a channel under way at once */
#define AMQP_HOLD_HIGH     (1024u * 1024u) /* output backlog to hold deliveries back at ... */
#define AMQP_HOLD_LOW      (256u * 1024u)  /* ... and where they go on */
#define AMQP_ANSWERS_MAX                                                                           \
    (4u * 1024u * 1024u) /* answers the client has not read before we stop reading it */

/* In this order: handshake < running < closing. */
enum conn_state {
    CONN_HEADER,   /* expects the protocol header */
    CONN_START_OK, /* sent start */
    CONN_REFUSING, /* authentication failed: waits out the delay */
    CONN_TUNE_OK,  /* sent tune */
    CONN_OPEN,     /* expects open */
    CONN_SEATING,  /* open came; a limit counts the connection, and the cluster is asked */
    CONN_RUNNING,
    CONN_FINISHING, /* the client sent close: channels finish what came before it */
    CONN_ENDING,    /* ... then the session is closed (exclusive queues deleted), then close-ok */
    CONN_FAILING,   /* an error: the session is being closed, then close is sent */
    CONN_CLOSING,   /* sent close, expects close-ok; everything else is dropped */
    CONN_LEAVING,   /* sent close-ok: the client hangs up first; everything is dropped */
    CONN_CLOSED,    /* env close asked for, or the socket is gone */
};

struct amqp_channel;

struct amqp_conn {
    uint32_t tag; /* ENV_LISTEN_AMQP; first */
    enum conn_state state;
    struct amqp_server *server;
    struct env_conn *conn;
    struct list link, dirty_link;
    struct wire_frame_reader reader;
    struct buf *early; /* what came in CONN_SEATING; NULL: nothing */
    struct outq out;
    struct umap channels;
    struct amqp_channel *last_channel; /* look-up cache */
    struct broker_session *session;
    struct net_addr peer, local;
    struct timer timer; /* handshake, close */
    struct timer heartbeat_timer;
    uint64_t received_ms, sent_ms;
    uint64_t received_bytes, sent_bytes;
    uint32_t frame_max, heartbeat_s;
    uint32_t channel_max;
    size_t kept_bytes;        /* of frames that channels keep back */
    uint64_t delivered_bytes; /* of sent_bytes: basic.deliver with content */
    uint64_t answers_read;    /* other bytes sent when the backlog was last low */
    bool paused;              /* reading stopped: kept_bytes is over the limit, or ... */
    bool unread;              /* ... the client does not read our answers */
    bool held;                /* deliveries held back: the socket is slow */
    bool gone;                /* the socket is dead: no env call any more */
    bool drop_pending;        /* the session is to be closed in the turn */
    bool session_busy;        /* ... is being closed: its callback is still to come */
    bool cancel_notify, failure_close, blocked_notify;
    bool alarmed;      /* one of its channels published under an alarm that is still on */
    bool blocked_told; /* ... and connection.blocked was sent */
    uint8_t header[8];
    uint32_t header_size;
    char user[256];
    char mechanism[16];
    struct slice client_properties;
    char provided_name[256];
    struct { /* CONN_FAILING: the close to be sent */
        uint16_t code, class_id, method_id;
        uint32_t text_size;
        bool crossed; /* the client's own close has come meanwhile: close-ok goes behind ours */
        char text[WIRE_REPLY_TEXT_SIZE];
    } failure;
};

/* What a kept frame may pass while publishing is held back, see kept.c. */
enum kept_kind {
    KEPT_CONTENT, /* basic.publish, headers and bodies: what is held back */
    KEPT_ACK,     /* basic.ack, and nack and reject without requeue */
    KEPT_REQUEUE, /* nack and reject with it */
    KEPT_ASKING,  /* requests that do not depend on the publishes before them */
    KEPT_REQUEST, /* all others, ... */
    KEPT_BARRIER, /* ... and those that nothing passes */
    KEPT_KINDS,
};

struct saved_frame {
    uint8_t type; /* 0: it has passed the others and is worked off */
    uint8_t kind;
    uint64_t received_at; /* conn->received_bytes when it came */
    struct slice payload;
};

VEC_TYPE(saved_vec, struct saved_frame);

enum content_state { CONTENT_NONE, CONTENT_HEADER, CONTENT_BODY };

/* A publish being put together. */
struct content {
    enum content_state state;
    bool mandatory;
    uint8_t exchange_size, key_size;
    uint8_t exchange[255], key[255];
    uint64_t body_size, received;
    struct message message; /* record under construction */
    uint8_t *body;          /* where the body starts, when memory was taken at once */
    struct buf *growing;    /* large body: grows by arrival */
    uint64_t room;          /* of it that is counted in server->room_taken */
    uint64_t progress_ms;   /* when something of a large body last came */
};

/* A broker call of a channel that is under way. */
struct channel_call {
    enum wire_method_id method;
    bool no_wait;
};

struct confirm_range {
    uint64_t first, count;
    bool ack;
};

struct settle_run {
    struct broker_delivery first;
    uint64_t count; /* 0 = none pending */
    enum queue_outcome outcome;
};

/* Deliveries settled in a transaction: they count with the commit, or are unacked again. */
struct tx_ack {
    struct range_run run; /* as it was in ch->unacked */
    enum queue_outcome outcome;
};

struct late_close {
    struct wire_method method;
    uint8_t text[WIRE_REPLY_TEXT_SIZE];
};

struct amqp_channel {
    struct amqp_conn *conn;
    struct broker_channel *broker;
    struct list touched_link; /* server->touched: has confirms or settles to flush this turn */
    uint16_t number;
    bool left;    /* its queues, before a connection.close-ok: see channel_leave_queues */
    bool closing; /* an error: drops all until close-ok */
    struct late_close
        *late_close;    /* its channel.close waits for the end of queues; NULL: is sent */
    bool client_closed; /* the client sent channel.close: close-ok is sent in the turn */
    bool blocked;       /* publishing is held back */
    bool leaving; /* a close was sent: what is kept before it is worked off, held back or not */
    bool waiting_room;     /* a large body waits until there is memory for it */
    struct list room_link; /* server->room_waits or room_holders */
    bool waiting_publish;  /* content.message waits for a read barrier */
    bool confirm;
    bool draining;
    VEC(struct channel_call) calls; /* broker calls under way, in order; later frames wait, ... */
    bool ahead_refused;             /* ... also one that might have begun ahead of their answers */
    enum wire_method_id request;    /* the call that began or was answered last */
    bool no_wait;                   /* ... */
    struct content content;
    uint64_t received_at;    /* conn->received_bytes when the frame being worked on came */
    uint64_t looked_at;      /* and when the last look-up for a publish began */
    struct saved_vec queued; /* from queued_head on */
    size_t queued_head, queued_bytes;
    uint32_t queued_kinds[KEPT_KINDS]; /* how many of each */
    size_t queued_other;               /* before it in queued there is only KEPT_CONTENT */
    size_t let_through;                /* so many of them are worked off, held back or not */
    bool settled; /* while held back, since the last tx method: see keep_frame */
    /* confirms */
    uint64_t next_token;                /* of the next publish, from 1 */
    uint64_t confirmed_below;           /* all tokens below are answered */
    VEC(struct confirm_range) confirms; /* this turn's */
    struct rangemap confirmed_ahead;    /* answered, above confirmed_below */
    /* deliveries */
    uint64_t next_tag;
    struct rangemap unacked; /* tag -> value ordinal, a = queue, b = consumer */
    struct settle_run settle;
    uint64_t delivered;
    VEC(struct slice) late_cancels; /* tags: basic.cancel goes behind the queue.delete-ok to come */
    /* tx */
    bool tx;
    bool committing; /* publishes of a commit are not confirmed yet: nothing may come meanwhile */
    VEC(struct tx_ack) tx_acks;
    uint64_t tx_ack_count; /* deliveries in them */
};

struct amqp_server {
    struct env *env;
    struct broker *broker;
    struct amqp_options options;
    struct timers timers;
    struct list conns, dirty, touched;
    struct list graveyard; /* connections to be freed at the end of the turn */
    struct chunk_arena arena;
    struct hash_seed hash_seed;
    struct prng prng;
    uint32_t count;
    uint64_t kept_bytes; /* of all connections */
    uint64_t room_taken; /* by large bodies that are being received: what was announced */
    uint64_t room_ms;    /* when something of one of them last came */
    struct list room_waits, room_holders;
    struct timer room_timer;
    bool kept_less; /* they fell below a limit: paused connections are looked at in the turn */
    bool alarms;    /* of the broker, when it was last looked at */
};

/* True while channels work: also what came before the client's connection.close is worked off. */
static inline bool conn_works(const struct amqp_conn *conn)
{
    return conn->state == CONN_RUNNING || conn->state == CONN_FINISHING;
}

/* server.c */
uint64_t conn_now_ms(const struct amqp_server *server);
void conn_bury(struct amqp_conn *conn); /* freed at the end of the turn */
/* connection.c */
void conn_dirty(struct amqp_conn *conn);
void conn_flush(struct amqp_conn *conn); /* the connection's part of a turn */
void conn_send(struct amqp_conn *conn, uint16_t channel, const struct wire_method *method);
/* What came before open was answered, once it is. */
void conn_work_off_early(struct amqp_conn *conn);
void conn_frame(struct amqp_conn *conn, const struct wire_frame *frame);
void conn_channel_frame(struct amqp_conn *conn,
                        const struct wire_frame *frame); /* of a channel, whatever the state */
void conn_reader_fault(struct amqp_conn *conn);
/* A method frame that does not decode. */
void conn_decode_fault(struct amqp_conn *conn, enum wire_fault fault, struct bytes payload,
                       enum wire_method_id id);
void conn_fault(struct amqp_conn *conn, uint16_t code, uint16_t class_id, uint16_t method_id,
                const char *fmt, ...) WR_PRINTF(5, 6);
void conn_abort(struct amqp_conn *conn); /* closes the socket without a frame */
void conn_end(struct amqp_conn *conn, uint32_t linger_ms);
void conn_kept(struct amqp_conn *conn, size_t more, size_t less); /* bytes of frames kept back */
void conn_look_at_pause(struct amqp_conn *conn); /* the limits of what is kept have changed */
void conn_answers_read(struct amqp_conn *conn);  /* the client reads again, or is gone */
void conn_drop_session(struct amqp_conn *conn);  /* closes channels and session, now */
void conn_set_timer(struct amqp_conn *conn, uint32_t delay_ms, timer_fn fn);
/* heartbeat.c */
void heartbeat_start(struct amqp_conn *conn);
/* conn_start.c */
void start_on_header(struct amqp_conn *conn, struct bytes *input);
void start_on_method(struct amqp_conn *conn, const struct wire_method *method);
/* channel.c */
struct amqp_channel *channel_new(struct amqp_conn *conn, uint16_t number);
void channel_free(struct amqp_channel *ch);
void channel_frame(struct amqp_channel *ch, const struct wire_frame *frame);
void channel_fault(struct amqp_channel *ch, uint16_t code, uint16_t class_id, uint16_t method_id,
                   const char *fmt, ...) WR_PRINTF(5, 6);
void channel_broker_fault(struct amqp_channel *ch, const struct broker_fault *fault,
                          enum wire_method_id method);
void channel_begin(struct amqp_channel *ch, enum wire_method_id method,
                   bool no_wait); /* a broker call starts */
bool channel_finish(struct amqp_channel *ch,
                    const struct broker_fault *fault); /* it ended; false: a fault was sent */
/* Before a connection.close-ok, once it is quiet: true: it is not quiet any more until its
 * consumers have left the queues that end with that. The second time: false. */
bool channel_leave_queues(struct amqp_channel *ch);
void channel_touch(struct amqp_channel *ch);
void channel_flush(struct amqp_channel *ch); /* confirms and settles of the turn */
/* A frame whose turn it is. The second: a method, also in the middle of a held content. */
void channel_work(struct amqp_channel *ch, const struct wire_frame *frame);
void channel_work_method(struct amqp_channel *ch, const struct wire_frame *frame);
/* kept.c */
void kept_frame(struct amqp_channel *ch, const struct wire_frame *frame); /* that cannot come yet */
void kept_drop(struct amqp_channel *ch);
/* While publishes of a tx.commit are being confirmed RabbitMQ lets nothing but channel.close come,
 * and what is behind that. False: the connection ends. */
bool kept_may_follow_commit(struct amqp_channel *ch, const struct wire_frame *frame);
bool kept_alarm_begins_hold(struct amqp_channel *ch, uint8_t type, struct bytes payload);
void channel_resume(struct amqp_channel *ch); /* goes on with the frames kept back */
void channel_leave(struct amqp_channel *ch);  /* ... also with publishes that are held back */
bool channel_is_quiet(const struct amqp_channel *ch); /* nothing under way, nothing kept */

static inline bool kept_holds(const struct amqp_channel *ch)
{
    return (ch->blocked && !ch->leaving && ch->let_through == 0) || ch->waiting_publish ||
           ch->waiting_room || ch->conn->unread;
}

static inline bool kept_waits(const struct amqp_channel *ch)
{
    return ch->calls.count > 0 || kept_holds(ch);
}

/* Would a publish begin while there is an alarm? Then the channel is held back before it, as with
 * RabbitMQ, and not only behind it: memory is short already. */
static inline bool kept_alarm_holds(struct amqp_channel *ch, uint8_t type, struct bytes payload)
{
    return WR_UNLIKELY(broker_alarms(ch->conn->server->broker) != 0) &&
           kept_alarm_begins_hold(ch, type, payload);
}

/* ch_*.c: one class of methods each; true = known */
bool ch_exchange_method(struct amqp_channel *ch, const struct wire_method *method);
bool ch_queue_method(struct amqp_channel *ch, const struct wire_method *method);
/* A call while others of its family are under way on the channel: has it begun, too? */
bool ch_basic_ahead(struct amqp_channel *ch, const struct wire_method *method);
bool ch_queue_ahead(struct amqp_channel *ch, const struct wire_method *method);
bool ch_basic_method(struct amqp_channel *ch, const struct wire_method *method);
bool ch_settle_method(struct amqp_channel *ch, const struct wire_method *method);
void ch_settle_flush(struct amqp_channel *ch);
bool args_valid(struct amqp_channel *ch, struct bytes args, enum wire_method_id method);
/* ch_confirm.c */
void confirm_select(struct amqp_channel *ch, bool no_wait);
void confirm_add(struct amqp_channel *ch, uint64_t first, uint64_t count, bool ack);
void confirm_flush(struct amqp_channel *ch);
/* ch_tx.c */
bool ch_tx_method(struct amqp_channel *ch, const struct wire_method *method);
void tx_keep_ack(struct amqp_channel *ch, const struct range_run *piece,
                 enum queue_outcome outcome);
/* content.c */
void content_publish(struct amqp_channel *ch, const struct wire_basic_publish *publish);
void content_frame(struct amqp_channel *ch, const struct wire_frame *frame);
void content_reset(struct amqp_channel *ch);
void content_give_back_room(struct amqp_channel *ch); /* its body is not received any more */
void content_give_room(struct amqp_server *server); /* to those who wait for it, if there is any */
/* ch_deliver.c */
extern const struct broker_channel_sink deliver_sink;
void deliver_get(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                 uint32_t delivery_count, const struct message *message, uint64_t left);
void deliver_return(struct amqp_channel *ch, const struct message *message);
/* The queue.delete is answered: sends the basic.cancels that it caused, or forgets them. */
void deliver_late_cancels(struct amqp_channel *ch, bool send);

#endif
