/*
 * What: the arithmetic of majorities. Pure.
 * Spec: thesis 3.6.2 (commitment by counting), 4.1 (single-server changes: one majority at a time).
 */
#include "raft_internal.h"

uint32_t raft__majority(uint32_t voters)
{
    return voters / 2 + 1;
}

uint64_t raft__quorum_value(uint64_t *values, uint32_t count)
{
    RAFT_ASSERT(count >= 1);
    RAFT_ASSERT(count <= RAFT_MEMBERS_MAX);
    /* Insertion sort, descending: groups are small. */
    for (uint32_t i = 1; i < count; i++) {
        uint64_t v = values[i];
        uint32_t j = i;
        while (j > 0 && values[j - 1] < v) {
            values[j] = values[j - 1];
            j--;
        }
        values[j] = v;
    }
    return values[raft__majority(count) - 1];
}
