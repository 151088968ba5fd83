#ifndef WR_SIM_KV_H
#define WR_SIM_KV_H
/*
 * A simulated checkpoint store: an ordered map with atomic batches, deterministic from its seed.
 *
 * Model
 * - Every operation is asynchronous: submitted, and done when sim_kv_step completes it. Writes
 *   complete in the order submitted; a read or flush sees all writes submitted before it.
 * - A completed write is visible; it is durable after a flush that was submitted later completed.
 * - sim_kv_crash keeps a random prefix of the writes that are not durable, in their order: a batch
 *   is kept whole or not at all, and there is never a hole.
 * - Faults on demand: the nth next operation of a kind fails (a failed write changes nothing).
 *
 * Ownership: as env.h's kv_*: ops and keys belong to the store from the call on, a reply belongs to
 * who gets the completion (kv_reply_free, which sim_kv.c defines: link either this or src/os).
 * Threads: one.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/bytes.h"
#include "warren/env.h"
#include "warren/prng.h"

enum sim_kv_op {
    SIM_KV_WRITE = 0,
    SIM_KV_FLUSH,
    SIM_KV_GET,
    SIM_KV_SCAN,
    SIM_KV_OP_COUNT,
};

struct sim_kv;

struct sim_kv_done {
    void *user;
    uint64_t token;
    enum sim_kv_op op;
    int result;
    struct kv_reply *owned_reply; /* get and scan that succeeded; else NULL */
};

struct sim_kv *sim_kv_new(uint64_t seed);
void sim_kv_free(struct sim_kv *kv);
void sim_kv_fail(struct sim_kv *kv, enum sim_kv_op op, uint32_t nth, uint32_t repeat, int error);

/* The arrays of ops and keys are copied; the references in them move to the store. */
void sim_kv_write(struct sim_kv *kv, void *user, struct kv_op *owned_ops, uint32_t count,
                  uint64_t token);
void sim_kv_flush(struct sim_kv *kv, void *user, uint64_t token);
void sim_kv_get(struct sim_kv *kv, void *user, struct slice *owned_keys, uint32_t count,
                uint64_t token);
void sim_kv_scan(struct sim_kv *kv, void *user, struct slice owned_begin, struct slice owned_end,
                 uint32_t limit, uint32_t bytes, uint64_t token);
int sim_kv_get_now(struct sim_kv *kv, struct slice key, struct slice *ret_value);

uint32_t sim_kv_pending(const struct sim_kv *kv);
bool sim_kv_step(struct sim_kv *kv, struct sim_kv_done *ret_done);

/* Power failure. Pending operations are gone. */
void sim_kv_crash(struct sim_kv *kv);
/* The process died and its machine did not. RocksDB's own log is off, so this loses the same. */
void sim_kv_kill(struct sim_kv *kv);
/* The disk was lost: everything is gone, durably. */
void sim_kv_wipe(struct sim_kv *kv);
/* Some value that a power failure could not take has those bytes in it. */
bool sim_kv_durable_has(const struct sim_kv *kv, struct bytes part);
uint64_t sim_kv_count(const struct sim_kv *kv); /* visible pairs */
uint32_t sim_kv_hash(const struct sim_kv *kv);  /* of the visible pairs in order */

#endif
