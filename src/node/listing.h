#ifndef WR_NODE_LISTING_H
#define WR_NODE_LISTING_H
/*
 * Rows of warrenctl's listings: objects by RabbitMQ's column names. A column without a value is
 * left out. Pids are <NODE.BOOT.CONNECTION.CHANNEL>, channel 0 being the connection itself, and
 * <NODE.BOOT.QUEUE.0> for queues.
 */
#include <jansson.h>

#include "node_internal.h"

enum { LISTING_PID_MAX = 352 };

void listing_put_text(json_t *row, const char *name, struct bytes value);
json_t *listing_node_name(struct shard *shard, struct uid id);
/* One row each. */
void listing_exchange(const struct catalog_exchange *exchange, json_t *rows);
void listing_binding(const struct catalog_binding *binding, json_t *rows);
void listing_default_binding(const struct catalog_queue *queue, json_t *rows);
/* What the catalog knows of a queue; then what its leader reported. */
/* One replica of a queue, in the words of RabbitMQ's quorum_status. */
json_t *listing_replica(const char *node, const struct group_status *status);
json_t *listing_queue(struct shard *shard, const struct catalog_queue *queue);
void listing_put_report(json_t *row, struct shard *shard, const struct catalog_queue *queue,
                        const struct queue_report *report);
void listing_consumers(const struct catalog_queue *queue, const struct queue_report *report,
                       json_t *rows);

/* A consumer is reported with the number of its queue client, in the hidden column "client"; the
 * rows of channels have theirs in "clients". Puts the channels' pids where they belong. */
void listing_join_channels(json_t *rows, json_t *channels);
/* "<BOOT.CONNECTION.CHANNEL>", as the broker writes it, with the node's name. */
json_t *listing_full_pid(json_t *owned_pid, const char *node);

#endif
