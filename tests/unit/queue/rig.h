/*
 * What: a queue for tests, whose effects become text. Each call applies one op (or batch) with the
 * client's next seq and appends the effects, one per line; rig_take gives them and starts anew.
 */
#ifndef WR_QUEUE_RIG_H
#define WR_QUEUE_RIG_H

#include "warren/queue.h"

/* Client number n of boot b. */
#define CLIENT(b, n) ((uint64_t)(b) << 32 | (n))

struct rig {
    struct queue *queue;
    uint64_t now;      /* The time of the commands. */
    uint64_t seqs[64]; /* By client number (low bits): the tests use few. */
    char text[8192];
    size_t text_size;
    char taken[8192];
    uint64_t stored_first; /* What the store callback saw. */
    uint64_t stored_last;
    uint64_t stored_count;
};

void rig_init(struct rig *rig, const struct queue_config *config); /* NULL: the default */
void rig_deinit(struct rig *rig);
const char *rig_take(struct rig *rig);

/* A message of its own buffer; message_unref it. */
struct message rig_message(uint32_t body_size, uint8_t priority);
struct message rig_message_ttl(uint32_t body_size, uint8_t priority, uint64_t ttl_ms);

/* Give the op the client's next seq and apply it alone. */
void rig_op(struct rig *rig, uint64_t client, struct queue_op op);
void rig_batch(struct rig *rig, uint64_t client, const struct queue_op *ops, uint32_t count);
void rig_host(struct rig *rig, uint8_t kind, uint64_t boot);

void rig_publish(struct rig *rig, uint64_t client, uint32_t count);
void rig_publish_one(struct rig *rig, uint64_t client, uint32_t body_size, uint8_t priority);
/* One of 10 bytes with a time to live. */
void rig_publish_ttl(struct rig *rig, uint64_t client, uint64_t ttl_ms);
/* One of 10 bytes with options: an ENQUEUE without its message. */
void rig_publish_as(struct rig *rig, uint64_t client, struct queue_op op);
void rig_configure(struct rig *rig, const struct queue_config *config);
/* What a new leader asks for. */
void rig_redeliver(struct rig *rig, uint64_t client, uint32_t consumer, uint64_t from);
void rig_repeat_nacked(struct rig *rig, uint64_t client, uint64_t from);
/* Lets the time pass. */
void rig_at(struct rig *rig, uint64_t now);
void rig_attach(struct rig *rig, uint64_t client, uint32_t consumer, uint8_t flags,
                uint32_t prefetch);
void rig_settle(struct rig *rig, uint64_t client, uint32_t consumer, uint64_t first, uint64_t count,
                uint8_t outcome);
void rig_simple(struct rig *rig, uint64_t client, uint8_t kind, uint8_t flags);

#define RIG_EXPECT(rig, expected) cr_assert_str_eq(rig_take(rig), (expected))

#endif
