#ifndef WR_CHECKPOINT_INTERNAL_H
#define WR_CHECKPOINT_INTERNAL_H
/* One release of old segments, shared by checkpoint.c (its phases) and checkpoint_copy.c (what goes
 * to the store before). */
#include "checkpoint.h"
#include "store.h"

#define RECORDS_PER_TURN 256u
#define RETRY_MS         1000u
#define LOOK_MS          100u

enum phase { PHASE_COPY = 1, PHASE_FLUSH, PHASE_RECORDS, PHASE_WAIT, PHASE_RELEASE };

struct checkpoint_group {
    uint64_t id, incarnation;
    uint64_t index;      /* snapshot; 0 = none needed */
    uint64_t drop_below; /* where-runs below go with the segments */
    uint64_t compact;    /* highest index in segments <= S */
    bool waits;          /* its LOG_CHECKPOINT is on its way */
    struct relog relog;
};
struct checkpoint_job {
    uint32_t segment, again; /* again: a later RETIRE came meanwhile */
    uint64_t again_bytes;
    enum phase phase;
    VEC(struct checkpoint_group) groups;
    size_t at;
    /* COPY of groups[at]: */
    bool begun, waiting;
    bool fetching;      /* what it waits for is its log: no answer comes when the group ends */
    struct slice value; /* the 's' value, put last */
    VEC(struct position_range) ranges;
    size_t range_at;
    uint64_t range_done;
    /* Puts of groups[batch_at] to [at]. With an 's' value among them they go in the turn they were
     * made in: a newer snapshot that came meanwhile would be overwritten. */
    VEC(struct kv_op) ops;
    size_t batch_at;
    uint64_t op_bytes;
    uint64_t asked;
    uint64_t serial;
    uint64_t retry_ms;
    /* WAIT: */
    size_t missing; /* groups whose LOG_CHECKPOINT is on its way, some of which may be gone */
    VEC(size_t) relogging; /* those that had entries to be written again */
    uint64_t look_ms;      /* when all groups are looked at, whatever is missing */
};

static inline bool segment_is_below(uint32_t segment, uint32_t limit)
{
    return segment != 0 && segment <= limit;
}

/* What the store answers to the job: a full disk is tried again after RETRY_MS, another error ends
 * the node, saying why. NULL: it was to a job that is over. */
struct checkpoint_job *checkpoint_answered(struct host *host, const struct kv_request *request,
                                           int result, const char *why);
/* The group, if it is still the one that the job began with. */
struct group *checkpoint_group_of(struct host *host, const struct checkpoint_group *g);
/* The entry of that run stays in the log when segments up to this one go. */
bool checkpoint_run_stays(const struct group *group, const struct where_run *run, uint32_t segment);
void checkpoint_sweep_store(struct host *host, struct group *group, uint64_t drop_below);
/* COPY, one turn of it; sets the next phase at the end. */
void checkpoint_copy(struct host *host);
void checkpoint_clear_copy(struct checkpoint_job *job);
#endif
