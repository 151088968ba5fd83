/*
 * What: the records of a snapshot that no command has, walked both ways (walk.h): used by
 * snapshot.c and restore.c.
 */
#ifndef WR_CATALOG_SNAPSHOT_H
#define WR_CATALOG_SNAPSHOT_H

#include "internal.h"
#include "walk.h"

#define SNAPSHOT_VERSION CATALOG_MACHINE_VERSION
#define SNAPSHOT_FIELDS  12u

/* Layout 4: no limit is below -1. */
#define SNAPSHOT_VERSION_4 4u

/* Layout 3: without the founders of queues that run elsewhere by now. */
#define SNAPSHOT_VERSION_3 3u

/* Layout 2: without who proposed what. */
#define SNAPSHOT_VERSION_2 2u
#define SNAPSHOT_FIELDS_2  11u

/* Layout 1: without policies, parameters, limits, topic permissions and seats. */
#define SNAPSHOT_VERSION_1 1u
#define SNAPSHOT_FIELDS_1  9u

struct snapshot_permission {
    struct bytes vhost, configure, write, read;
};

void walk_snapshot_node(struct walk *k, struct catalog_node *node);
void walk_snapshot_exchange(struct walk *k, uint64_t *id, bool *predeclared,
                            struct catalog_exchange_spec *spec);
/* founders: NULL in the layouts that have none. Reading, they are put into `storage`. */
void walk_snapshot_queue(struct walk *k, uint64_t *id, uint64_t *version,
                         struct catalog_queue_spec *spec, struct catalog_members *founders,
                         struct catalog_member storage[CATALOG_REPLICAS_MAX]);
void walk_snapshot_permission(struct walk *k, struct snapshot_permission *p);
struct snapshot_topic_permission {
    struct bytes vhost, exchange, write, read;
};
void walk_snapshot_topic_permission(struct walk *k, struct snapshot_topic_permission *p);
void walk_snapshot_seat(struct walk *k, struct catalog_seat *seat);
void catalog__proposers_put(struct walk *k, const struct proposer_vec *proposers);
/* False: they are not as they must be. What was read is in *ret_proposers in any case. */
bool catalog__proposers_get(struct walk *k, const struct catalog_view *v,
                            struct proposer_vec *ret_proposers);

#endif
