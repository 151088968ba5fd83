#ifndef WR_TEST_USERS_H
#define WR_TEST_USERS_H
/* Publishers and consumers over queue clients, and what must hold of them together (struct
 * traffic). */
#include "cluster.h"

#define MESSAGES_MAX 20000

struct traffic {  /* of one queue */
    bool damaged; /* what comes may be anything: it is not judged */
    bool marks;   /* what comes again must say so */
    uint32_t published;
    bool confirmed[MESSAGES_MAX], nacked[MESSAGES_MAX];
    uint8_t delivered[MESSAGES_MAX]; /* times */
    bool settled[MESSAGES_MAX];      /* an ack of it was reported applied */
    uint32_t confirmed_count, nacked_count, seen_count, settled_count;
};
struct dead_letter {
    uint32_t number;
    enum queue_death reason;
    uint64_t ordinal, died_ms, at_ms; /* at_ms: when it came here */
};
struct peeked_message {
    uint32_t number;
    enum queue_place place;
    uint64_t position, at_ms;
};
struct user {
    struct test_cluster *cluster;
    uint32_t node, shard;
    struct traffic *traffic;
    struct queue_client *client;
    uint64_t queue;
    /* publisher */
    bool stamped; /* a message's timestamp is its number */
    uint64_t seq_of[MESSAGES_MAX];
    uint32_t number_of_seq[MESSAGES_MAX * 2];
    uint64_t applied;
    /* consumer */
    uint32_t consumer;
    uint64_t last_ordinal;
    bool ack, no_ack;
    VEC(struct {
        uint64_t seq;
        uint32_t number;
    })
    acks;
    size_t acks_first;
    VEC(struct {
        uint32_t consumer;
        uint64_t ordinal;
        uint32_t number;
    })
    unacked;
    enum queue_status status;
    uint64_t reply_seq, value, value2;
    uint32_t replies;
    bool gone, lost, blocked, cancelled;
    uint32_t got, moved;
    bool order;
    uint32_t next_number;
    uint32_t priorities;            /* messages have priority number % this; 0 = none */
    uint32_t same_priority;         /* of number / this % priorities; 0 = 1 */
    uint64_t ttl_ms;                /* of the next ones; 0 = none */
    struct queue_publish_more more; /* for the next ones; publish_seq counts up */
    VEC(struct dead_letter) dead;
    VEC(struct peeked_message) peeked;
};

void user_open(struct user *u, struct test_cluster *c, uint32_t node, uint32_t shard,
               uint64_t queue, struct traffic *t);
void user_close(struct user *u);
void user_publish(struct user *u, uint32_t count, uint32_t body_size);
void user_consume(struct user *u, uint32_t consumer, uint8_t flags, uint32_t prefetch,
                  uint64_t credit);
void user_ack_all(struct user *u);
uint64_t user_now_ms(const struct user *u); /* the wall clock */
uint32_t message_number(const struct message *m);
bool all_confirmed(void *user); /* or refused */
bool all_seen(void *traffic);
bool all_settled(void *traffic);
bool replied(void *user);
#endif
