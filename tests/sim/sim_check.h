#ifndef WR_SIM_CHECK_H
#define WR_SIM_CHECK_H
/* Between sim_check.c and sim_log.c: Raft's properties. */
#include <stdbool.h>
#include <stdint.h>

struct group;
struct sim;
struct sim_log_check;

struct sim_log_check *sim_log_check_new(void);
void sim_log_check_free(struct sim_log_check *check);
void sim_log_check_node_gone(struct sim_log_check *check, uint32_t node);
/* After a step: what is new in a replica's log, and what is newly committed. */
void sim_log_check_group(struct sim *sim, struct sim_log_check *check, uint32_t node,
                         struct group *group, bool leading);
/* It leads, and would still if power failed now. */
bool sim_log_leads(struct sim *sim, uint32_t node, const struct group *group);
/* It leads, for the first time in its term. */
void sim_log_check_leader(struct sim *sim, struct sim_log_check *check, uint32_t node,
                          struct group *group);

#endif
