#ifndef WR_SNAPSHOT_INTERNAL_H
#define WR_SNAPSHOT_INTERNAL_H
/* What snapshot.c and restore.c share: bits and small encodings. Frozen numbers. */
#include <stdint.h>

#define SNAPSHOT_UNUSED 1u /* Flags of the queue. */

#define SNAPSHOT_ATTACHED       1u /* Flags of a consumer. */
#define SNAPSHOT_NO_ACK         2u
#define SNAPSHOT_EXCLUSIVE      4u
#define SNAPSHOT_CONSUMER_FLAGS 7u

/* Signed distance (in two's complement) to a number that is small when the distance is. */
static inline uint64_t snapshot__zigzag(uint64_t distance)
{
    return (distance << 1) ^ ((distance >> 63) != 0 ? UINT64_MAX : 0);
}

static inline uint64_t snapshot__unzigzag(uint64_t value)
{
    return (value >> 1) ^ ((value & 1) != 0 ? UINT64_MAX : 0);
}

#endif
