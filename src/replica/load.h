#ifndef WR_REPLICA_LOAD_H
#define WR_REPLICA_LOAD_H
/* Bytes of messages that are read back from the log or the checkpoint store (load.c). */
#include "warren/list.h"
#include "warren/replica.h"

#define LOAD_BYTES    (UINT32_C(1) << 20)
#define LOAD_ENTRIES  64u
#define LOAD_AGAIN_MS 200u /* after which what could not be read is asked for again */

struct group;
struct home;
struct host;

/* From there on, what its routes wait for; they are pumped when it comes. */
void load_start(struct home *home, uint64_t position);

struct fetched {
    uint64_t position;
    struct slice record; /* borrowed */
};
/* Reads messages from `position` on from disk; not all that come were asked for, and none may come.
 * fn is called later, unless the group ended. */
typedef void (*fetch_fn)(struct group *group, uint64_t position, const struct fetched *items,
                         size_t count, uint64_t a, uint64_t b);
enum fetch_how {
    FETCH_ONE = 0, /* nobody reads in order: little more than this one */
    FETCH_AHEAD = 1,
};
void fetch_start(struct group *group, uint64_t position, enum fetch_how how, fetch_fn fn,
                 uint64_t a, uint64_t b);
struct fetch;
void fetch_free(struct fetch *fetch);
void fetches_free(struct host *host);
/* A read failed and is tried again: a line in the event log, but not for each. */
void load_tell(struct host *host, uint64_t group, const char *what, uint64_t at, int error);
/* What a read of the log is for, first in its context: freed with the host when never answered. */
struct log_job {
    struct list link; /* host->log_jobs */
};
void log_job_add(struct host *host, struct log_job *job);
void log_job_free(struct log_job *job);

#endif
