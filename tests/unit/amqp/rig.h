/*
 * What: the AMQP front end between two fakes: an env that keeps what is sent, and a broker (the
 * functions of warren/broker.h) that writes down its calls and answers when it is told to.
 * Everything is text: what came out, what the broker was asked.
 */
#ifndef WR_TEST_AMQP_RIG_H
#define WR_TEST_AMQP_RIG_H

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>

#include "warren/amqp.h"
#include "warren/mem.h"
#include "warren/prng.h"
#include "warren/str.h"
#include "warren/vec.h"
#include "warren/wire.h"
#include "warren/wire_frame.h"
#include "warren/wire_props.h"
#include "warren/wire_table.h"

struct env_conn {
    void *user;
    struct buf *out; /* all that was sent and not read by the test */
    size_t backlog;  /* what conn_backlog says */
    bool paused, closed, graceful, reported;
};

struct fake_call { /* an asynchronous broker call that waits for its answer */
    broker_done_fn done;
    void *ctx;
    char name[300];
    void (*on_get)(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                   uint32_t delivery_count, const struct message *message, uint64_t left);
    bool get;
};

struct broker_channel {
    const struct broker_channel_sink *sink;
    void *ctx;
    uint16_t number;
    bool used, held;
    uint64_t acks; /* that wait for a commit */
};

struct broker_session {
    void (*on_close)(void *ctx, const char *reason);
    void *ctx;
    void (*done)(void *ctx);
    void *done_ctx;
    bool open, closing;
};

struct rig {
    struct env env;
    struct amqp_server *server;
    struct amqp_options options;
    const struct env_tls *tls; /* of the connection; NULL: plain */
    struct env_conn conn;
    uint64_t now_ms;
    /* the fake broker */
    struct broker_session session;
    struct broker_channel channels[32];
    VEC(struct fake_call) waiting;
    bool answer;        /* calls are answered with success in the next turn */
    bool ahead;         /* declares and binds may begin while others are under way */
    bool session_waits; /* broker_session_wait; answered by on_ready */
    void (*on_ready)(void *ctx, const struct broker_fault *fault);
    bool leaves;       /* broker_channel_leave has something to wait for */
    bool no_channels;  /* the user's limit is reached */
    bool hold_session; /* session_close is answered by rig_session_gone only */
    void (*retry)(void *ctx);
    void *retry_ctx;
    uint64_t room;        /* what broker_publish_room says */
    uint32_t alarms;      /* what broker_alarms says */
    bool alarms_hold;     /* broker_channel_alarm holds the channel back */
    bool publish_waits;   /* broker_publish answers BROKER_WAIT */
    bool commit_waits;    /* broker_tx_commit says that publishes are to be confirmed */
    VEC(uint64_t) tokens; /* of routed publishes */
    char calls_text[1 << 16], out_text[1 << 16];
    struct strbuf calls;
    struct wire_frame_reader reader;
};
extern struct rig rig;

void rig_init(void);
void rig_deinit(void);
/* A new socket, unopened. */
void rig_connect(const char *peer);
void rig_feed(const void *data, size_t size);
void rig_header(void); /* AMQP 0 0 9 1 */
void rig_send(uint16_t channel, const struct wire_method *method);
void rig_frame(uint8_t type, uint16_t channel, const void *payload, size_t size);
/* The socket ends from the client's side. */
void rig_hang_up(void);
void rig_turn(void);
void rig_pass(uint64_t ms); /* time goes on, with a turn at each deadline */
/* Frames that came out since the last call, one per line: "1 basic.ack delivery-tag=1
 * multiple=false". */
const char *rig_out(void);
/* Broker calls since the last call, one per line. */
const char *rig_calls(void);
/* Header to open-ok, with cancel_notify and failure_close; all texts read. */
void rig_open(void);
void rig_open_with(uint32_t frame_max, uint16_t heartbeat);
void rig_channel(uint16_t number); /* channel.open, reply read */
/* Answers the oldest waiting call. */
void rig_answer(uint16_t code, bool connection, const char *text, uint64_t a, uint64_t b);
void rig_session_gone(void);
void rig_deliver(uint16_t channel, const char *tag, uint32_t queue, uint32_t consumer,
                 uint64_t ordinal, bool no_ack, const char *body);
void rig_deliver_message(uint16_t channel, const char *tag, const struct broker_delivery *delivery,
                         uint32_t delivery_count, bool no_ack, struct message owned);
struct message rig_message(const char *exchange, const char *key, const void *body, size_t size);
struct message rig_message_with(const char *exchange, const char *key, struct bytes props,
                                const void *body, size_t size);
struct wire_method rig_start_ok(const char *mechanism, struct bytes response,
                                struct bytes properties);
struct wire_method rig_publish(const char *exchange, const char *key);
void rig_content(uint16_t channel, uint64_t body_size); /* an empty header of that size */

/* Bytes for %.*s. */
#define S(b) (int)(b).size, (const char *)(b).data

static inline struct bytes B(const char *text) {
    return bytes_from_cstr(text);
}

#define EXPECT_OUT(text)   cr_assert_str_eq(rig_out(), (text))
#define EXPECT_CALLS(text) cr_assert_str_eq(rig_calls(), (text))

#endif
