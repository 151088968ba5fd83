/*
 * What: a naive queue, for comparison: arrays, no ranges, no rings, no timelines, everything looked
 * for by walking. It gives the effects that queue_apply should give, as a list of events in which
 * an effect about n messages is n events; positions that are dropped are a set per call, and so are
 * the ops that are refused.
 */
#ifndef WR_QUEUE_MODEL_H
#define WR_QUEUE_MODEL_H

#include "warren/queue.h"

#define MODEL_BOOTS      3u
#define MODEL_NUMBERS    6u
#define MODEL_CLIENTS    (MODEL_BOOTS * MODEL_NUMBERS)
#define MODEL_CONSUMERS  4u /* 0 is basic.get's. */
#define MODEL_MESSAGES   4096u
#define MODEL_EVENTS     16384u
#define MODEL_SEQS       2048u
#define MODEL_PUBLISHERS 3u /* Named "A", "B" ... */
#define MODEL_PUBLISHED  64u
#define MODEL_IDS        8u /* Named "a", "b" ... */
#define MODEL_NEVER      UINT64_MAX

struct model_event {
    uint8_t kind, status, flags;
    uint32_t consumer, delivery_count;
    uint64_t client, seq, ordinal, position, value, value2;
};

struct model_events {
    struct model_event items[MODEL_EVENTS];
    uint32_t count;
    uint8_t dropped[MODEL_MESSAGES]; /* By position. */
    uint8_t nacked[MODEL_SEQS];      /* By seq: a batch is of one client. */
};

enum model_place { MODEL_REMOVED, MODEL_READY, MODEL_DELAYED, MODEL_DEAD, MODEL_UNACKED };

struct model_message {
    enum model_place place;
    uint32_t size, level, delivery_count;
    uint64_t expiry;          /* MODEL_NEVER. */
    uint64_t ttl, due;        /* DELAYED. */
    uint64_t release, before; /* READY, and not delivered since it was delayed: its number (0: none
                                 of that), and next_position at that time. */
    uint8_t death;            /* Of a dead letter, unacked or not; else 0. */
    uint64_t died;
    uint32_t client, consumer; /* UNACKED: by index and id. */
    uint64_t ordinal;
};

struct model_consumer {
    bool there, attached, no_ack, settles, exclusive, dead, eligible;
    uint32_t prefetch;
    int32_t priority;
    uint64_t limit, delivered;
    uint64_t turn;   /* Its turn comes before that of a consumer with a higher one. */
    uint64_t attach; /* It was attached before one with a higher one. */
};

enum model_client_state { MODEL_UNKNOWN, MODEL_OPEN, MODEL_CLOSED };

struct model_client {
    enum model_client_state state;
    uint64_t last_seq, limit;
    struct model_event reply;
    uint64_t reply_ordinal, reply_taken;
    uint8_t refused[MODEL_SEQS];
    struct model_consumer consumers[MODEL_CONSUMERS];
};

struct model {
    struct queue_config config;
    struct queue_config next_config; /* What the next CONFIG carries. */
    bool unused, unused_now;
    int sealed_by;                                          /* Client index or -1. */
    bool suspended[MODEL_BOOTS + 1], gone[MODEL_BOOTS + 1]; /* By boot number, from 1. */
    struct model_client clients[MODEL_CLIENTS];
    struct model_message messages[MODEL_MESSAGES];
    uint64_t next_position, turns;
    uint64_t now, used; /* 0 = the time is not known yet. */
    uint64_t releases, attaches;
    struct model_consumer *active; /* Or NULL. */
    uint32_t active_client;
    uint32_t active_id;
    bool published[MODEL_PUBLISHERS][MODEL_PUBLISHED];
    uint64_t id_time[MODEL_IDS]; /* MODEL_NEVER: not remembered. */
    uint64_t delivered, acked, redelivered, expired, dropped, refused, duplicates;
    struct model_events *events;
};

void model_init(struct model *m, const struct queue_config *config);
void model_apply(struct model *m, uint64_t now, const struct queue_batch *batch,
                 struct model_events *events);
void model_totals(const struct model *m, struct queue_totals *ret_totals);
uint64_t model_deadline(const struct model *m);
bool model_dead_due(const struct model *m);
uint64_t model_client_id(uint32_t index);

/* Between the files of the model. */
bool model_sealed(const struct model *m);
struct model_event *model_event(struct model *m, uint8_t kind, uint32_t client);
uint32_t model_boot_of(uint32_t client);
uint32_t model_attached(const struct model *m);
uint64_t model_ready(const struct model *m);
uint64_t model_bytes(const struct model *m);
uint64_t model_unacked(const struct model *m, uint32_t client, uint32_t consumer);
void model_update_turns(struct model *m);
void model_update_active(struct model *m);
uint64_t model_next_message(const struct model *m);
void model_drop(struct model *m, uint64_t position);
void model_die(struct model *m, uint64_t position, uint8_t death);
void model_put_back(struct model *m, uint64_t position, bool count);
void model_give(struct model *m, uint64_t position, uint32_t c, uint32_t i, bool no_ack);
void model_deliver(struct model *m);
void model_deliver_dead(struct model *m);
bool model_taker(const struct model *m, uint32_t *ret_client, uint32_t *ret_consumer);
void model_drop_over(struct model *m);
void model_expire(struct model *m);
void model_pass_time(struct model *m, uint64_t now);
void model_check_lease(struct model *m);
void model_forget_ids(struct model *m);
void model_see_ready(struct model *m);

#endif
