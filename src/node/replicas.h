#ifndef WR_NODE_REPLICAS_H
#define WR_NODE_REPLICAS_H
/* How many replicas a queue is to have, and where: the next step (replicas.c). Queues here are
 * those with run GROUP. Nothing is kept. */
#include "warren/assert.h"
#include "warren/catalog.h"
#include "warren/replica.h"

struct replicas_cluster {
    const struct catalog_node *const *nodes;
    const bool *reachable; /* of each */
    uint32_t count;
};
struct replicas_step { /* what the record is to say */
    struct catalog_member members[CATALOG_REPLICAS_MAX];
    uint32_t count;
    struct uid preferred;
};
/* One replica more is wanted and has a place: the last member, whose id is zero (the caller draws
 * one). */
bool replicas_grow(const struct catalog_queue *queue, const struct replicas_cluster *cluster,
                   struct replicas_step *ret);
/* One is to go; which, and whether it can, is found out with the leader's report. */
bool replicas_too_many(const struct catalog_queue *queue, const struct replicas_cluster *cluster);
/* report: of this queue, without error. False: not now. */
bool replicas_shrink(const struct catalog_queue *queue, const struct replicas_cluster *cluster,
                     const struct queue_report *report, struct replicas_step *ret);
#endif
