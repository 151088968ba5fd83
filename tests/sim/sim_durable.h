#ifndef WR_SIM_DURABLE_H
#define WR_SIM_DURABLE_H
/* What the disks would still have after a power failure everywhere (sim_durable.c). */
#include <stdbool.h>
#include <stdint.h>

#include "warren/raft_types.h"

struct group;
struct sim;

/* The replica's of a group on a node, if one runs there. */
/* All running nodes have all their links to all others. */
bool sim_links_are_up(struct sim *sim);

struct group *sim_group_on(struct sim *sim, uint32_t node, uint64_t group);
/* The node's number, UINT32_MAX for one that is not known. */
uint32_t sim_node_of_member(struct sim *sim, const struct group *group, struct raft_id member);

/* The entry is in the durable image of that node's log, intact, or below what is checkpointed:
 * where the node itself says that it lies (cheap) or, with `anywhere`, in any segment. */
bool sim_durable_entry(struct sim *sim, uint32_t node, uint64_t group, uint64_t term,
                       uint64_t index, bool anywhere);
/* The vote for member in this term is, or a hard state of a later term. */
bool sim_durable_vote(struct sim *sim, uint32_t node, uint64_t group, uint64_t term,
                      struct raft_id member);
/* Those first bytes of a message's body are, in the log or in the checkpoint store. */
bool sim_durable_body(struct sim *sim, uint32_t node, const uint8_t *head, uint32_t size);

#endif
