#ifndef WR_SNAPSHOT_INTERNAL_H
#define WR_SNAPSHOT_INTERNAL_H
/* What snapshot.c and restore.c share: bits and small encodings. Frozen numbers. */
#include <stdint.h>

#define SNAPSHOT_UNUSED 1u /* Flags of the queue. */

#define SNAPSHOT_ATTACHED       1u /* Flags of a consumer. */
#define SNAPSHOT_NO_ACK         2u
#define SNAPSHOT_EXCLUSIVE      4u
#define SNAPSHOT_DEAD_LETTERS   8u
#define SNAPSHOT_SETTLES        16u
#define SNAPSHOT_CONSUMER_FLAGS 31u

#define SNAPSHOT_FIRST_VERSION        1u
#define SNAPSHOT_FIRST_CONSUMER_FLAGS 7u

/* What is written of a run besides its keys; in memory only. */
enum snapshot_fields {
    SNAPSHOT_KEYS = 0,
    SNAPSHOT_VALUE = 1,
    SNAPSHOT_SIZE = 2,
    SNAPSHOT_TIME = 4,
    SNAPSHOT_COUNT = 8,
    SNAPSHOT_LEVEL = 16,
    SNAPSHOT_BEFORE = 32,
    SNAPSHOT_TTL = 64, /* And the level. */

    SNAPSHOT_READY = SNAPSHOT_SIZE | SNAPSHOT_TIME | SNAPSHOT_COUNT,
    SNAPSHOT_UNACKED =
        SNAPSHOT_VALUE | SNAPSHOT_SIZE | SNAPSHOT_TIME | SNAPSHOT_COUNT | SNAPSHOT_LEVEL,
    SNAPSHOT_RELEASED = SNAPSHOT_VALUE | SNAPSHOT_SIZE | SNAPSHOT_TIME | SNAPSHOT_BEFORE,
    SNAPSHOT_DELAYED = SNAPSHOT_SIZE | SNAPSHOT_TIME | SNAPSHOT_TTL,
    SNAPSHOT_DEAD = SNAPSHOT_TIME | SNAPSHOT_COUNT,
};

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
