/* What the checks of the rabbitmq-c suite share: connections that rotate over the URIs, names,
 * events, comparing errors. A check that finds something wrong leaves by fail(), which does not
 * return. */
#ifndef WR_HARNESS_H
#define WR_HARNESS_H

#include <amqp.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DEADLINE_MS = 10000, QUIET_MS = 300, NAME_MAX_LENGTH = 96, OPENED_MAX = 128 };

struct name {
    char text[NAME_MAX_LENGTH];
};

struct conn {
    amqp_connection_state_t state;
    bool closed; /* by the broker */
    struct amqp_message_t_ message;
    bool has_message;
};

struct test {
    char **uris;
    int uri_count;
    const char *queue_type;
    int number;
    int serial;
    struct conn opened[OPENED_MAX];
    int opened_count;
    struct name queues[64];
    int queue_count;
    struct name exchanges[32];
    int exchange_count;
    char why[600];
    jmp_buf out;
};

enum kind {
    NOTHING,
    DELIVERY,
    ACK,
    NACK,
    RETURNED,
    CANCELLED,
    CHANNEL_CLOSED,
    CONNECTION_CLOSED,
    OTHER
};

struct event {
    enum kind kind;
    uint64_t tag;
    bool multiple;
    bool redelivered;
    int code;
    char text[256];
    char consumer[96];
    char exchange[96];
    char key[96];
    amqp_channel_t channel;
    const amqp_message_t *message; /* until the next event of the connection */
};

struct check {
    const char *name;
    void (*run)(struct test *t);
};

extern const struct check declaring_checks[];
extern const struct check message_checks[];
extern const struct check consuming_checks[];

_Noreturn void fail(struct test *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
void expect(struct test *t, bool condition, const char *what);
void equal_int(struct test *t, int64_t got, int64_t wanted, const char *what);
void equal_text(struct test *t, const char *got, const char *wanted, const char *what);

struct login {
    const char *user;
    const char *password;
    const char *vhost;
    int frame_max;
    int heartbeat;
};

amqp_rpc_reply_t try_connect(struct test *t, struct login login, struct conn **ret);
struct conn *connect_with(struct test *t, struct login login);
struct conn *connect_new(struct test *t);     /* with channel 1 open */
struct conn *connect_confirm(struct test *t); /* and in confirm mode */
void open_channel(struct test *t, struct conn *c, int channel);
void close_connection(struct test *t, struct conn *c);
void clean(struct test *t);

const char *new_name(struct test *t, const char *kind);
const char *queue_name(struct test *t);
const char *exchange_name(struct test *t);

/* Arguments: an empty entry ends the list. */
amqp_table_entry_t arg_int(const char *key, int64_t value);
amqp_table_entry_t arg_i32(const char *key, int32_t value);
amqp_table_entry_t arg_text(const char *key, const char *value);
amqp_table_entry_t arg_bool(const char *key, bool value);
#define NO_ARG ((amqp_table_entry_t){.key = {0, NULL}})

struct declared {
    char name[NAME_MAX_LENGTH];
    int messages;
    int consumers;
};

enum { PASSIVE = 1, DURABLE = 2, EXCLUSIVE = 4, AUTO_DELETE = 8 };

/* What can fail leaves its reply to good() or closed(). */
struct declared declare(struct conn *c, int channel, const char *name, int flags,
                        const amqp_table_entry_t *args);
const char *queue_of(struct test *t, struct conn *c, amqp_table_entry_t one,
                     amqp_table_entry_t two);
const char *new_queue(struct test *t, struct conn *c); /* the queue */
const char *new_classic(struct test *t, struct conn *c, amqp_table_entry_t one);
const char *new_exchange(struct test *t, struct conn *c, const char *type);
void declare_exchange(struct conn *c, const char *name, const char *type, int flags, bool internal,
                      amqp_table_entry_t one);
void bind_queue(struct conn *c, const char *queue, const char *exchange, const char *key);
void good(struct test *t, struct conn *c, const char *what);

/* The call before was refused: the broker closed the channel (or connection) with code and text
 * ("x..." = begins with x, "...x" = contains x). A channel is opened again. */
void closed(struct test *t, struct conn *c, int code, const char *text);
void closed_channel(struct test *t, struct conn *c, int channel, int code, const char *text);
void compare(struct test *t, int got_code, const char *got_text, int code, const char *text);
/* For what has no answer of its own. */
void closes(struct test *t, struct conn *c, int code, const char *text);
void missing_queue(struct test *t, const char *name);
void missing_exchange(struct test *t, const char *name);
const char *no_queue(const char *name);
const char *no_exchange(const char *name);
const char *format(const char *text, ...) __attribute__((format(printf, 1, 2)));

void event_next(struct test *t, struct conn *c, int ms, struct event *ret);
void pause_ms(int ms);

int count(struct test *t, struct conn *c, const char *queue);
void wait_count(struct test *t, struct conn *c, const char *queue, int wanted);
void publish(struct test *t, struct conn *c, const char *exchange, const char *key,
             const char *body);
void publish_with(struct test *t, struct conn *c, const char *exchange, const char *key,
                  bool mandatory, const amqp_basic_properties_t *properties, amqp_bytes_t body);
bool accepted(struct test *t, struct conn *c, const char *exchange, const char *key,
              const char *body, const amqp_basic_properties_t *properties);
void confirmed(struct test *t, struct conn *c, const char *exchange, const char *key,
               const char *body);
void fill(struct test *t, struct conn *c, const char *queue, int number);

/* A message of the queue; the message stays until the next event or get. */
struct got {
    uint64_t tag;
    bool redelivered;
    int left;
    char exchange[96];
    char key[96];
    const amqp_message_t *message;
};
bool get_one(struct test *t, struct conn *c, const char *queue, bool no_ack, struct got *ret);
void get(struct test *t, struct conn *c, const char *queue,
         struct got *ret); /* waits for one, takes it */
void empty(struct test *t, struct conn *c, const char *queue);
/* The queue holds exactly these, "a,b,c", and is emptied; to be called when all publishes are
 * confirmed. */
void arrived(struct test *t, struct conn *c, const char *queue, const char *wanted,
             const char *what);
const char *body_of(const amqp_message_t *message);
const char *bytes_text(amqp_bytes_t bytes);
const amqp_field_value_t *header(const amqp_table_t *table, const char *key);
const char *header_text(const amqp_table_t *table, const char *key);

enum { NO_ACK = 1, EXCLUSIVE_CONSUMER = 2 };
void consume(struct test *t, struct conn *c, const char *queue, const char *tag, int flags,
             amqp_table_entry_t one);
void try_consume(struct conn *c, int channel, const char *queue, const char *tag, int flags,
                 amqp_table_entry_t one);
/* The next delivery, which must carry this body (unless NULL). */
void delivery(struct test *t, struct conn *c, const char *body, struct event *ret);
void deliveries(struct test *t, struct conn *c, int number);
void quiet(struct test *t, struct conn *c);
void ack(struct test *t, struct conn *c, uint64_t tag, bool multiple);
void close_channel(struct test *t, struct conn *c);

#endif
