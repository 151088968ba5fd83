#ifndef WR_REPLICA_STORE_H
#define WR_REPLICA_STORE_H
/*
 * The bytes of one queue's messages (store.c): those in memory, and where the others are. A group's
 * store may give up what is on disk; a local queue's never does.
 */
#include "warren/map.h"
#include "warren/replica.h"
#include "warren/vec.h"

#define STORE_QUEUE_BYTES                                                                          \
    (UINT64_C(16) << 20) /* most bytes of one group queue kept in memory ... */
#define STORE_HOST_BYTES                                                                           \
    (UINT64_C(64) << 20) /* ... while all of the host's have no more than this ... */
#define STORE_QUEUE_FLOOR (UINT64_C(64) << 10) /* ... this much is always allowed */

struct position_range {
    uint64_t position, count;
};
/* Positions position.. are the enqueues number nth.. of log entry `index`. */
struct where_run {
    uint64_t position, index;
    uint32_t nth, count;
};
struct store {
    struct slice *ring; /* [base, end): bytes in memory; slots may be empty */
    uint32_t capacity;  /* power of two or 0 */
    uint64_t base, end;
    uint64_t live;     /* full slots */
    struct umap stray; /* position -> heap slice: full slots that were in the way */
    uint64_t bytes;    /* of all slices in memory */
    uint64_t *host_bytes;
    bool memory_only; /* local queues: nothing is ever given up */
    bool behind; /* the newest messages are on disk only: the ring must catch up before it takes new
                    ones */
    VEC(struct where_run) where; /* [where_first, count), ascending; groups only */
    size_t where_first;
    uint64_t kv_end;     /* messages below may be in the checkpoint store */
    uint64_t kv_unknown; /* what is there from here on is not needed: a transfer that was cut short
                            by the end of the process left it. UINT64_MAX: nothing is */
    bool kv_swept; /* since the start: below, there is nothing but what lives or will be dropped */
    VEC(struct position_range) kv_drops; /* to be deleted there */
};
void store_init(struct store *store, bool memory_only, uint64_t *host_bytes, struct hash_seed seed);
void store_deinit(struct store *store);
void store_clear(struct store *store);
/* A new message; takes over the reference, and may give the bytes up at once (groups). */
void store_add(struct store *store, uint64_t position, struct slice owned_record);
void store_note_where(struct store *store, uint64_t position, uint64_t index, uint32_t nth);
/* Bytes read back from disk, for position. Kept until dropped or delivered. */
void store_add_loaded(struct store *store, uint64_t position, struct slice owned_record);
void store_make_room(struct store *store, uint64_t position);
bool store_has_room(const struct store *store);
void store_drop(struct store *store, uint64_t position, uint64_t count);
/* How many from `position` on lie side by side in memory, at most `max`; *ret_first = the first. */
uint64_t store_run(const struct store *store, uint64_t position, uint64_t max,
                   const struct slice **ret_first);
/* Copies the (borrowed) slices of these positions and adds their bytes to *bytes; false when one is
 * not in the ring. */
bool store_pick(const struct store *store, uint64_t position, uint32_t count,
                struct slice *ret_slices, uint64_t *bytes);
void store_forget_stray(struct store *store, uint64_t position);
const struct where_run *store_where(const struct store *store, uint64_t position);
/* Forgets where messages below `position` are. */
void store_trim_where(struct store *store, uint64_t position);

#endif
