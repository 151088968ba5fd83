#ifndef WR_NODE_CONTROL_INTERNAL_H
#define WR_NODE_CONTROL_INTERNAL_H
/*
 * What control.c (jobs and their answers), control_rows.c (long listings, step by step),
 * control_sessions.c (connections of all nodes) and control_status.c share.
 */
#include "control.h"

#define CONTROL_JOB_MS     5000u
#define CONTROL_BARRIER_MS 1500u

enum listing_kind {
    LISTS_QUEUES,
    LISTS_EXCHANGES,
    LISTS_BINDINGS,
    LISTS_CONSUMERS,
    LISTS_REPLICAS,
    LISTS_SESSIONS
};

/* Over what is listed; view NULL: over, or not begun. */
struct walk {
    struct catalog_view *view;
    const struct catalog_vhost *vhost; /* of that view; NULL: all */
    struct catalog_iter it;
    bool second; /* of bindings: those of the default exchange are done */
    uint32_t timeout_ms;
    uint32_t what; /* queues are asked for: enum queue_report_what */
};

struct job {
    struct list link; /* control->jobs */
    struct shard *shard;
    struct link_conn *from; /* NULL when it closed */
    uint64_t id;
    json_t *rows;     /* array of objects */
    json_t *status;   /* the answer, but for the number of rows; NULL: the rows are the answer */
    json_t *channels; /* rows of channels, to be joined with those; NULL: none are wanted */
    uint32_t waiting; /* answers still to come */
    uint32_t missing;
    json_t *asked;  /* set of the names of nodes whose answer is among those `waiting` for */
    json_t *silent; /* names of nodes among those that are `missing` */
    uint32_t barrier_ms, rows_ms; /* how long a barrier and what is gathered may take */
    uint64_t deadline_ns;
    bool starting;      /* requests are still being sent: not to be finished yet */
    bool until_running; /* await_startup */
    bool consumers;
    enum listing_kind lists; /* once the barrier has come: */
    json_t *request;
    struct walk walk;
    /* A long answer is written: */
    bool writing;
    struct writer text;
    size_t written; /* rows */
    json_t *rest;   /* what comes after them */
    bool stale;     /* the catalog has no leader in reach: what this node knows */
    bool local;     /* asked by another node for its job `reply_for` */
    uint64_t reply_for;
    /* Of admin*.c: NULL for all others. */
    void *state;
    void (*free_state)(void *state);
    bool over; /* answered: freed in the control turn, so that whoever answered may still look */
};

enum row_kind {
    ROWS_CONNECTIONS,
    ROWS_CHANNELS,
    ROWS_CLOSE,     /* no list: closes those that are named, and says which were there */
    ROWS_REPLICAS,  /* of the queue whose number is "group" */
    ROWS_CONSUMING, /* only what is joined with queues and consumers: of a million idle ones nothing
                     */
};

/* Owned by control until it is answered; starting: set starting to false and call progress when all
 * is asked for. */
struct job *control__job_new(struct shard *shard, struct link_conn *from);
/* The tool waits no longer than its request says: an incomplete answer has to be there before. */
void control__job_within(struct job *job, json_t *request);
void control__job_free(struct job *job);
struct job *control__job_find(struct shard *shard, uint64_t id); /* NULL: it is over */
void control__job_progress(struct job *job);                     /* may end it */
/* Of the walk: asks a queue for what its row, or those of its consumers, need. */
void control__ask_queue(struct job *job, const struct catalog_queue *q);

/* job->lists says of what. While job->walk.view is there a step is due each turn; the last one ends
 * `starting`, and may end the job. */
void control__walk_begin(struct job *job, const struct catalog_vhost *vhost, uint32_t what,
                         uint32_t timeout_ms);
void control__walk_step(struct job *job);
/* No time is left: what was not asked is missing. */
void control__walk_cut(struct job *job);
/* An answer with so many rows that it is to be written in steps. */
bool control__is_long(const struct job *job);
/* rest: the answer but for the rows, not empty. Then a step each turn; the last one frees the job.
 */
void control__write_begin(struct job *job, json_t *owned_rest);
void control__write_step(struct job *job);
void control__job_answered(struct job *job);               /* one of `waiting`; may end it */
void control__send(struct link_conn *link, json_t *owned); /* link NULL: nobody listens */

/* Rows of the connections or channels of this node, and of all others unless `local`. */
void control__list_sessions(struct job *job, enum row_kind what, json_t *request, bool local);
/* A node that was asked and is out of reach now is not waited for; may end the job. */
void control__watch_asked(struct job *job);

void control__begin_status(struct shard *shard, struct link_conn *link);
json_t *control__cluster_status(struct shard *shard);

#endif
