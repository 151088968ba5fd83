/*
 * What: the broker of one shard over a real catalog and fakes of the host and its queue clients
 * (the functions of warren/replica.h), which write down what they are asked and answer when told
 * to. Everything is text.
 */
#ifndef WR_TEST_BROKER_RIG_H
#define WR_TEST_BROKER_RIG_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "broker_internal.h"
#include "warren/prng.h"

extern const struct env_ops rig_env_ops; /* a clock that stands still, and secrets that count */

struct queue_client {
    uint32_t number; /* in order of opening, from 1 */
    uint64_t queue_id;
    char name[256];
    const struct queue_client_sink *sink;
    void *ctx;
    uint64_t next_seq, asked_seq; /* of the next op; of the newest that wants a reply */
    bool open, gone;
};

struct asked {           /* of the catalog */
    struct buf *command; /* encoded; NULL for a barrier */
    catalog_done_fn done;
    void *ctx;
};

struct reported {
    uint64_t queue_id;
    queue_report_fn done;
    void *ctx;
};

struct sent_letter {
    struct uid node;
    uint32_t shard;
    struct host_letter letter;
};

struct confirmed {
    uint64_t first, count;
    bool ack;
};

struct rig {
    struct env env;
    struct broker *broker;
    const struct env_tls *tls; /* of the next session; NULL: none */
    struct broker_session *session;
    struct broker_channel *ch;
    struct catalog *catalog;
    uint64_t index, now_ms;
    VEC(struct asked) asked;
    VEC(struct reported) reported;
    VEC(struct queue_client *) clients;
    uint64_t left;  /* consumers of a queue, as replies say */
    bool near;      /* the queues are served by this node */
    bool hold;      /* the catalog answers in rig_catalog only, not in each turn */
    bool no_leader; /* it answers WR_E_UNAVAILABLE */
    bool inside;    /* a call into the broker is running: no completion may be */
    struct queue_report report;
    char said_text[1 << 16], asked_text[1 << 16];
    struct strbuf said, calls;
    uint32_t retries;
    VEC(struct sent_letter) letters; /* on their way */
    char reply_to[256];              /* of the message published last that has one */
    VEC(struct confirmed) confirms;
};
extern struct rig rig;

void rig_init(void); /* users guest (all), reader ("^r" everywhere), nobody (no permission); a
                        session of guest with channel 1 */
void rig_deinit(void);
struct broker_session *rig_session(const char *user, const char *vhost);
struct broker_channel *rig_channel(struct broker_session *session, uint16_t number);
void rig_turn(void); /* catalog, broker, until nothing happens any more */
void rig_catalog(
    void); /* the oldest question of the catalog is answered, and the broker has the view */
void rig_apply(const struct catalog_command *command); /* by somebody else; the view is handed on */
void rig_apply_silently(const struct catalog_command *command); /* ... but has not come here yet */
void rig_show_view(void);
/* What was said to the front end, and asked of the host, since the last time; one line each. Turns
 * first. */
const char *rig_said(void);
const char *rig_calls(void);
void rig_done(void *ctx, const struct broker_fault *fault, struct bytes name, uint64_t a,
              uint64_t b); /* a broker_done_fn */
void rig_on_get(void *ctx, const struct broker_delivery *delivery, bool redelivered,
                uint32_t delivery_count, const struct message *message, uint64_t left);
struct queue_client *
rig_client(const char *queue); /* the open client of that queue (of any channel) */
void rig_reply(const char *queue, enum queue_status status,
               uint64_t value); /* to its newest op that wants one */
void rig_reply_to(const char *queue, uint64_t seq, enum queue_status status, uint64_t value);
void rig_deliver(const char *queue, uint32_t consumer, uint64_t ordinal, uint32_t count,
                 uint32_t delivery_count, uint8_t flags);
/* Letters that are on their way arrive, whatever their shard is: here. */
void rig_post(void);
struct message rig_message(const char *exchange, const char *key, struct bytes props,
                           const char *body);
/* Publishes and says what came of it; a retry calls it again. */
void rig_publish(const char *exchange, const char *key, struct bytes props, uint64_t token);
void rig_queue(const char *name); /* a transient queue that is there */
void rig_queue_with(const char *name, struct bytes args);
void rig_auto_delete(const char *name); /* one that ends with its last consumer */
void rig_exclusive(const char *name, uint64_t connection);
void rig_exchange(const char *name, const char *type, struct bytes args);
void rig_bind(const char *exchange, const char *queue, const char *key);
void rig_unbind(const char *exchange, const char *queue, const char *key);
void rig_delete(const char *queue);
/* One that has a dead-letter exchange; with a strategy it is a quorum queue. */
void rig_dead_queue(const char *name, const char *exchange, const char *strategy);
/* What the queue's client hears of its op: it is in the queue; it was refused. */
void rig_applied(const char *queue, uint64_t seq);
void rig_nacked(const char *queue, uint64_t seq);

/* Calls into the broker: nothing may complete inside. */
#define CALL(...)                                                                                  \
    do {                                                                                           \
        rig.inside = true;                                                                         \
        __VA_ARGS__;                                                                               \
        rig.inside = false;                                                                        \
    } while (0)

static inline struct bytes B(const char *text) {
    return bytes_from_cstr(text);
}

#define EXPECT_SAID(text)  cr_assert_str_eq(rig_said(), (text))
#define EXPECT_CALLS(text) cr_assert_str_eq(rig_calls(), (text))

#endif
