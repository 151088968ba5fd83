/*
 * What: a naive queue, for comparison: arrays, no ranges, no rings, everything looked for by
 * walking. It gives the effects that queue_apply should give, as a list of events in which a
 * DELIVER of n messages is n events; positions that are dropped are a set per call.
 */
#ifndef WR_QUEUE_MODEL_H
#define WR_QUEUE_MODEL_H

#include "warren/queue.h"

#define MODEL_BOOTS     3u
#define MODEL_NUMBERS   6u
#define MODEL_CLIENTS   (MODEL_BOOTS * MODEL_NUMBERS)
#define MODEL_CONSUMERS 4u /* 0 is basic.get's. */
#define MODEL_MESSAGES  4096u
#define MODEL_EVENTS    8192u

struct model_event {
    uint8_t kind, status, flags;
    uint32_t consumer, delivery_count;
    uint64_t client, seq, ordinal, position, value, value2;
};

struct model_events {
    struct model_event items[MODEL_EVENTS];
    uint32_t count;
    uint8_t dropped[MODEL_MESSAGES]; /* By position. */
};

enum model_place { MODEL_READY, MODEL_UNACKED, MODEL_REMOVED };

struct model_message {
    enum model_place place;
    uint32_t size, level, delivery_count;
    uint32_t client, consumer; /* UNACKED: by index and id. */
    uint64_t ordinal;
};

struct model_consumer {
    bool there, attached, no_ack, exclusive, eligible;
    uint32_t prefetch;
    int32_t priority;
    uint64_t limit, delivered;
    uint64_t turn; /* Its turn comes before that of a consumer with a higher one. */
};

enum model_client_state { MODEL_UNKNOWN, MODEL_OPEN, MODEL_CLOSED };

struct model_client {
    enum model_client_state state;
    uint64_t last_seq, limit;
    struct model_event reply;
    uint64_t reply_ordinal;
    struct model_consumer consumers[MODEL_CONSUMERS];
};

struct model {
    struct queue_config config;
    bool unused, unused_now;
    int sealed_by;                                          /* Client index or -1. */
    bool suspended[MODEL_BOOTS + 1], gone[MODEL_BOOTS + 1]; /* By boot number, from 1. */
    struct model_client clients[MODEL_CLIENTS];
    struct model_message messages[MODEL_MESSAGES];
    uint64_t next_position, clock;
    uint64_t delivered, acked, redelivered;
    struct model_events *events;
};

void model_init(struct model *m, const struct queue_config *config);
void model_apply(struct model *m, const struct queue_batch *batch, struct model_events *events);
void model_totals(const struct model *m, struct queue_totals *ret_totals);
uint64_t model_client_id(uint32_t index);

#endif
