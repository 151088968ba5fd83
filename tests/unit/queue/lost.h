/*
 * What: batches that only take (queue_takes) are lost, as by a crash of a host that had applied
 * them before its log had them. A copy of the machine as it was before the first of them hears
 * SUSPECT instead: whatever they handed out, and is ready in the copy, is marked as handed out.
 */
#ifndef WR_QUEUE_LOST_H
#define WR_QUEUE_LOST_H

#include "warren/queue.h"

#define LOST_POSITIONS 4096u

struct lost {
    struct queue *before; /* NULL: no such batch is under way. */
    uint64_t handed_out, most;
    uint64_t now;
    uint64_t runs; /* How many sequences of such batches were lost, and what they handed out. */
    uint64_t messages;
    bool out[LOST_POSITIONS];
};

/* Before the queue applies the batch. */
void lost_look(struct lost *lost, const struct queue *queue, uint64_t now,
               const struct queue_batch *batch, uint64_t seed);
/* Each effect of it. */
void lost_effect(struct lost *lost, const struct queue_effect *effect);
/* After it. */
void lost_check_most(struct lost *lost, uint64_t seed);
void lost_end(struct lost *lost, uint64_t seed);

#endif
