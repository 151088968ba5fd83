/* The simulation's judges; called by cluster.c. See cluster.h for what they check. */
#ifndef WR_TEST_RAFT_ORACLE_H
#define WR_TEST_RAFT_ORACLE_H

#include "cluster.h"

const struct sim_entry *sim_log_find(const struct sim_log *l, uint64_t index);
void oracle_applied(struct sim *s, uint64_t id, const struct sim_entry *e);
void oracle_installed(struct sim *s, uint64_t id);
void oracle_message(struct sim *s, uint64_t id, const struct raft_message *m);
void oracle_step(struct sim *s, uint64_t id);

#endif
