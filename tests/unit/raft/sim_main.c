/* raft-sim FIRST COUNT [ROUNDS]: runs seeds FIRST .. FIRST+COUNT-1 and says what they have reached.
 */
#include "simulation.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t count = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    uint32_t rounds = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 1500;
    struct simulation_reached r = {0};
    for (uint64_t seed = first; seed < first + count; seed++) {
        simulation_run(seed, rounds, &r);
    }
    printf("seeds %" PRIu64 " steps %" PRIu64 " committed %" PRIu64 " elections %" PRIu64
           " crashes %" PRIu64 " truncations %" PRIu64 " installs %" PRIu64 " aborts %" PRIu64
           " changes %" PRIu64 " reverted %" PRIu64 " transfers %" PRIu64 " reads %" PRIu64
           " failed %" PRIu64 "\n",
           count, r.steps, r.committed, r.elections, r.crashes, r.truncations, r.installs, r.aborts,
           r.changes, r.changes_reverted, r.transfers, r.reads_ok, r.reads_failed);
    return 0;
}
