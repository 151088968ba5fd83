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
    ROLE_RPC, /* sim_role_rpc.c */
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
    bool certain; /* RPC: when it asked, each node had links to all others */
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
    struct channel channels[CLIENT_CHANNELS_MAX];
    uint32_t channel_count;
    uint64_t connects, losses;
};

/* engine, for roles */
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

/* between the files of roles */
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
