/* Random histories of a Raft cluster from one seed; aborts with the seed when an oracle fails. */
#ifndef WR_TEST_RAFT_SIMULATION_H
#define WR_TEST_RAFT_SIMULATION_H

#include <stdint.h>

/* What a batch of runs has reached: a simulation that never reaches the rare cases proves nothing
 * about them. */
struct simulation_reached {
    uint64_t steps;
    uint64_t committed;
    uint64_t elections;
    uint64_t crashes;
    uint64_t truncations;
    uint64_t installs;
    uint64_t changes;
    uint64_t changes_reverted;
    uint64_t entries_read;
    uint64_t reads_ok;
    uint64_t reads_failed;
    uint64_t transfers;
    uint64_t aborts;
};

void simulation_run(uint64_t seed, uint32_t steps, struct simulation_reached *reached);

#endif
