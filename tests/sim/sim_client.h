#ifndef WR_SIM_CLIENT_H
#define WR_SIM_CLIENT_H
/* An AMQP client on a host of its own: one connection, a few channels, each with a role. The engine
 * (sim_client.c) speaks the protocol; the roles (sim_role.c) decide what is said and keep score. */
#include "sim.h"

#include "warren/outq.h"
#include "warren/wire.h"
#include "warren/wire_frame.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

#define CLIENT_CHANNELS_MAX 3u

enum client_state {
    CLIENT_DOWN, /* waits for attempt_at */
    CLIENT_CONNECTING,
    CLIENT_HANDSHAKE,
    CLIENT_OPEN,
    CLIENT_CLOSING,
};

enum role_kind {
    ROLE_PUBLISHER,
    ROLE_CONSUMER,
    ROLE_GETTER,
    ROLE_EXCLUSIVE,
    ROLE_RIVAL, /* this and the following: sim_role_queue.c */
    ROLE_BUILDER,
    ROLE_AUTO,
    ROLE_RPC,      /* sim_role_rpc.c */
    ROLE_NUMBERED, /* this and the following have struct role_ops */
    ROLE_HISTORIAN,
    ROLE_SLEEPER,
};

enum channel_state {
    CHANNEL_CLOSED,  /* to be opened at wake_at */
    CHANNEL_OPENING, /* waits for open-ok */
    CHANNEL_SETUP,   /* declare, confirm.select, qos, consume: one after the other */
    CHANNEL_RUNNING,
};

struct outstanding { /* a publish without confirm yet, or a delivery without ack yet */
    uint64_t tag, seq;
    uint32_t publisher;
    uint64_t at;
};
VEC_TYPE(outstanding_vec, struct outstanding);

struct channel {
    struct client *client;
    uint16_t number;
    enum channel_state state;
    enum role_kind role;
    uint32_t queue;    /* index in the ledger */
    uint32_t step;     /* within SETUP, or of the role's script */
    uint64_t wake_at;  /* when the role wants to be called again; UINT64_MAX = not */
    uint64_t op_since; /* a synchronous method is under way since; 0 = none */
    bool closing;      /* we sent channel.close */
    bool graves_first; /* the queue of its queue's dead letters is being declared */
    uint64_t failures;
    uint32_t epoch; /* counts openings */
    /* content under way */
    struct wire_method method; /* deliver, get-ok or return: only its numbers are used */
    bool in_content;
    uint64_t content_left;
    VEC(uint8_t) body;
    /* publisher */
    uint32_t publisher;
    uint64_t next_tag;
    struct outstanding_vec unconfirmed;
    bool tx;         /* it publishes in transactions */
    bool committing; /* tx.commit was sent */
    uint32_t commits;
    /* consumer, getter */
    struct outstanding_vec unacked;
    struct outstanding_vec applying; /* acked; known to be applied when the barrier answers */
    struct outstanding_vec barrier;
    bool certain;           /* RPC: when it asked, each node had links to all others */
    uint64_t barrier_quiet; /* quiet_since when the barrier was sent */
    VEC(uint64_t)
    newest; /* per publisher: (epoch, seq) of its newest first delivery, for the order */
    uint32_t prefetch, ack_delay_us, nack_percent, multiple_percent;
    uint64_t last_tag,
        subscribed_tag; /* newest delivery tag; the one when the subscription began */
    uint64_t subscribed_at;
    bool cancelled;
    /* exclusive */
    uint32_t rounds, put, got;
    /* queues that come and go */
    uint64_t since, mark, first;
    /* direct reply-to: of the content under way; who was asked last, in which of its lives */
    char reply_to[256];
    struct channel *asked;
    uint32_t asked_epoch;
    struct outstanding_vec again; /* numbered: not confirmed by an earlier channel */
    VEC(uint64_t) seqs;           /* historian: what came, in order */
};

struct client {
    struct sim *sim;
    struct sim_host *host;
    struct sim_context *context;
    struct env *env;
    struct prng prng;
    uint32_t number;
    enum client_state state;
    uint64_t state_since, attempt_at, heard_at, beat_at;
    uint32_t node;
    struct env_conn *conn;
    struct wire_frame_reader reader;
    uint8_t header[WIRE_PROTOCOL_HEADER_SIZE];
    struct outq out;
    uint32_t frame_max, heartbeat_s;
    bool blocked, fault;
    bool seated;    /* it has no channels; it competes for connections (sim_seat.c) ... */
    uint32_t turns; /* ... and got so many in the liveness phase */
    uint64_t since, left_at;
    struct channel channels[CLIENT_CHANNELS_MAX];
    uint32_t channel_count;
    uint64_t connects, losses;
};

/* engine, for roles */
void client_send(struct client *client, uint16_t number, const struct wire_method *method);
void channel_send(struct channel *channel, const struct wire_method *method);
void channel_broken(struct channel *channel, uint64_t after_ns); /* to be opened again */
void channel_close_by_us(struct channel *channel);
void client_abort(struct client *client, const char *why); /* resets the connection */

/* roles: called by the engine */
void role_init(struct channel *channel);
void role_deinit(struct channel *channel);
void role_opened(struct channel *channel);
void role_lost(struct channel *channel); /* the channel or connection is gone */
void role_method(struct channel *channel, const struct wire_method *method);
void role_content(struct channel *channel, const struct wire_method *method, struct bytes body);
void role_tick(struct channel *channel);
void role_refused(struct channel *channel, uint16_t code); /* the server closes the channel */
bool role_settled(const struct channel *channel, char *why, size_t size);

/* What a role does that has a file of its own. The channel is set up (confirm.select) when it is
 * called first, and after each loss, with step 0. */
struct role_ops {
    const char *name;
    void (*tick)(struct channel *channel);
    void (*method)(struct channel *channel, const struct wire_method *m);
    /* False: not for this role. NULL: none is. */
    bool (*content)(struct channel *channel, const struct wire_method *m, struct bytes body);
    void (*lost)(struct channel *channel);
    bool (*settled)(const struct channel *channel);
};
extern const struct role_ops number_role, history_role, sleeper_role;

/* clients that are counted (sim_seat.c) */
bool seat_may_connect(const struct client *client);
void seat_opened(struct client *client);
void seat_refused(struct client *client);
void seat_tick(struct client *client); /* while it is open */

extern const struct env_sink client_sink;

static inline struct sim *sim_of(const struct channel *channel)
{
    return channel->client->sim;
}

static inline struct prng *prng_of(const struct channel *channel)
{
    return &channel->client->prng;
}

/* The one of the ledger that it is about. */
static inline struct sim_queue *queue_of(const struct channel *channel)
{
    return &sim_of(channel)->ledger.queues[channel->queue];
}

/* between the files of roles */
void role_declare_as(struct channel *channel, bool passive);
void role_tx_dropped(struct channel *channel); /* its transaction ends without a commit */
void role_tx_answered(struct channel *channel, bool committed);
void role_publisher_tick(struct channel *channel);
void role_on_confirm(struct channel *channel, uint64_t tag, bool multiple, bool ack);
void role_end_barrier(struct channel *channel); /* a synchronous method was answered */
void role_consumer_tick(struct channel *channel);
void role_getter_tick(struct channel *channel);
void role_on_delivery(struct channel *channel, uint64_t tag, bool redelivered, struct bytes body);
void role_exclusive_tick(struct channel *channel);
void role_exclusive_got(struct channel *channel, uint64_t seq, bool any);
void role_declare(struct channel *channel); /* its queue */
void role_consume(struct channel *channel);
/* Publishes message seq of its publisher, which is in the ledger. */
void role_publish_as(struct channel *channel, const struct wire_basic_publish *m,
                     struct bytes props, uint64_t seq);
void role_send_op(struct channel *channel, const struct wire_method *m);
void role_wake_in(struct channel *channel, uint64_t ns);
void role_publish(struct channel *channel, const char *queue_name, uint32_t size);
uint32_t role_body_size(struct channel *channel);
void queue_role_tick(struct channel *channel);
void queue_role_method(struct channel *channel, const struct wire_method *m);
void queue_role_got(struct channel *channel, const struct wire_method *m, struct bytes body);
void queue_role_lost(struct channel *channel);
void queue_role_refused(struct channel *channel, uint16_t code);
bool queue_role_settled(const struct channel *channel);
void rpc_role_opened(struct channel *channel);
bool rpc_role_setup(struct channel *channel);
void rpc_role_tick(struct channel *channel);
void rpc_role_content(struct channel *channel, struct bytes body);
void rpc_role_method(struct channel *channel, const struct wire_method *m);

#endif
