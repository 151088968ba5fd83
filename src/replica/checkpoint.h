#ifndef WR_REPLICA_CHECKPOINT_H
#define WR_REPLICA_CHECKPOINT_H
/*
 * Segments of the log go, and what is still needed of them is kept: in the checkpoint store, or
 * written again (checkpoint*.c, relog.c, purge.c); what a start finds there (recover.c).
 */
#include "warren/map.h"
#include "warren/vec.h"

#include "group.h"

#define HOST_KV_TOKEN_BASE (UINT64_C(1) << 61) /* the host's kv tokens; below the log reader's */

struct checkpoint_job;
struct relogged { /* where an entry that was written again lies now */
    uint64_t index, term;
    struct log_location location;
};
struct relog { /* relog.c: entries of one group to write again: [next, end) */
    uint64_t next, end;
    uint32_t pending; /* on their way to the disk */
    bool reading;
    VEC(struct relogged) places;
};
void relog_begin(struct group *group, struct relog *r, uint64_t first);
void relog_go_on(struct group *group, struct relog *r);
bool relog_is_done(const struct relog *r);
void relog_written(struct relog *r, const struct log_item *item);
void relog_take_places(struct group *group, struct relog *r);
void relog_deinit(struct relog *r);
/* Bytes that would have to be written again; not much above `most`. */
uint64_t relog_bytes(const struct host *host, uint32_t segment, uint64_t most);
/* Of the job under way; NULL: it has ended. */
struct relog *checkpoint_relog(const struct group *group);
struct kv_request {
    uint64_t token;
    void (*done)(struct host *host, struct kv_request *request, int result,
                 struct kv_reply *reply); /* reply borrowed */
    uint64_t group, incarnation, a, b;
    void *user;
};
struct kv_request *kv_request_new(struct host *host);
/* Of deletions of one group's messages: those that fail are made up for later. */
struct kv_request *kv_delete_request(struct host *host, uint64_t group);
/* bytes: of the segments that would go. */
void checkpoint_retire(struct host *host, uint32_t segment, uint64_t bytes);
void checkpoint_retire_cheaply(struct host *host, uint32_t segment, uint64_t bytes);
void checkpoint_work(struct host *host);
#define RELOG_GENERATION UINT64_MAX /* an entry written again because its segment goes */
void checkpoint_free(struct host *host);
void host_want_kv_drops(struct host *host);
/* Appends what deletes the messages below `end` that do not live; at most `max` ranges. */
VEC_TYPE(kv_op_vec, struct kv_op);
void checkpoint_sweep(struct group *group, uint64_t end, size_t max, struct kv_op_vec *ops);
void checkpoint_on_item(struct group *group, const struct log_item *item);
/* Machine snapshot as stored: where-runs of bodies that stay in the log, then the machine. */
void stored_machine_encode(struct group *group, uint32_t segment, bool with_where,
                           struct buf **out);
int stored_machine_decode(struct group *group, uint64_t index, struct bytes stored);
/* purge.c: what ended replicas leave in the checkpoint store. */
void purge_begin(struct host *host, uint64_t group);
bool purge_is_pending(struct host *host, uint64_t group);
void purge_forget(struct host *host, uint64_t group);
void purges_free(struct host *host);
struct recover;
void recover_free(struct host *host);

#endif
