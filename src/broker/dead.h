/*
 * What: dead letters: what a message looks like when it goes to a dead-letter exchange, and where
 * it must not go. Pure functions; dead_worker.c carries them out. Spec: docs/dead-letters.md;
 * reference queues.md, section 5.
 */
#ifndef WR_BROKER_DEAD_H
#define WR_BROKER_DEAD_H

#include "warren/bytes.h"
#include "warren/message.h"
#include "warren/queue.h"

struct dead_letter {
    struct bytes queue; /* Name of the one it died in. */
    enum queue_death reason;
    uint64_t time_s;       /* Of death. */
    struct bytes exchange; /* Where it goes ... */
    bool has_key;          /* ... with this key rather than its own and CC's. */
    struct bytes key;
};

/*
 * The message as it is published again: exchange and key replaced, x-death and its companions
 * brought up to date, expiration taken out; the body's bytes are copied. The caller owns the
 * reference. x-death headers that a client made up count as absent (RabbitMQ 4.x).
 */
struct message dead_letter_make(const struct message *message, const struct dead_letter *death);

enum dead_strategy { DEAD_DEFAULT, DEAD_AT_MOST_ONCE, DEAD_AT_LEAST_ONCE };

/* Where the dead letters of a queue go; false: nowhere. Views into the record. */
struct dead_settings {
    struct bytes exchange;
    bool has_key;
    struct bytes key;
    enum dead_strategy strategy;
};
struct catalog_queue;
bool dead_settings_of(const struct catalog_queue *queue, struct dead_settings *ret_settings);

/* Would it go round for ever? `headers`: of a message that dead_letter_make gave. True when it died
 * in a queue of that name before and has not been rejected since. */
bool dead_letter_is_cycle(struct bytes headers, struct bytes queue);

/* RabbitMQ's word: "rejected" ... */
const char *dead_letter_reason(enum queue_death reason);

#endif
