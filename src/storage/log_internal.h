#ifndef WR_STORAGE_LOG_INTERNAL_H
#define WR_STORAGE_LOG_INTERNAL_H
/* What the files of the log context's side share: log.c (life, mail, completions), round.c (what is
 * gathered into a round), prepare.c (the next segment's file), retire.c (old segments). */
#include "scan.h"

#define LOG_ROUND_MAX   (UINT32_C(16) << 20) /* bytes of records gathered into one round */
#define LOG_COPY_MAX    2048u /* payloads up to this are copied next to their header */
#define LOG_RETRY_NS    UINT64_C(500000000) /* after "no space" */
#define LOG_SPACE_NS    UINT64_C(500000000) /* between two looks at the free space */
#define LOG_MARK_NS     UINT64_C(100000000) /* quiet for so long: mark the last round durable */
#define LOG_BUFFER_KEEP (UINT32_C(4) << 20)

enum log_token { TOKEN_ROUND_WRITE = 1, TOKEN_ROUND_SYNC, TOKEN_PREPARE_WRITE, TOKEN_PREPARE_SYNC };

enum round_state { ROUND_IDLE = 0, ROUND_WRITING, ROUND_SYNCING };

enum prepare_state { PREPARE_IDLE = 0, PREPARE_WRITING, PREPARE_SYNCING };

VEC_TYPE(slice_vec, struct slice);

/* The round that is gathered or under way. */
struct round {
    enum round_state state;
    struct round_header header;
    uint32_t batches; /* waiting batches it completes */
    uint32_t items;   /* items of the batch after those that it completes too */
    uint64_t records;
    uint64_t sync_began_ns;
};

struct log {
    struct env *env;
    char *dir;     /* the node's */
    char *log_dir; /* dir/log */
    struct log_options options;
    bool failed; /* env->stop was called: nothing more is reported durable (I4) */

    /* Segments: first..active.number are live, prepared (number active + 1) is ready to be used. */
    uint32_t first;
    struct scan_segment active, prepared;
    uint32_t durable; /* active: bytes below are durable */
    bool unmarked;    /* the last round has records and nothing on disk says that it is durable */

    /* Batches in order of arrival: those of the round under way first. */
    struct mail *waiting, **waiting_tail;
    uint32_t waiting_count;
    uint32_t head_items; /* items of the first waiting batch that are durable already */
    uint64_t due_at;     /* of those that are in no round yet; UINT64_MAX = there are none */
    bool postponed;      /* that time is waited for */

    struct round round;
    uint64_t round_number; /* of the next round */
    uint32_t nonce;
    struct slice_vec slices; /* scratch */
    struct buf *buffer;      /* of the last round, kept for the next */

    /* The next segment's file, while it is made: under its spare name. */
    enum prepare_state prepare;
    struct scan_segment preparing;
    char preparing_name[SEGMENT_NAME_SIZE];
    struct number_vec spares; /* retired files of segment_size */

    uint32_t *released; /* per shard: it needs nothing of segments <= this */
    uint32_t retire_requested;

    bool blocked, low;
    uint64_t space_at; /* when the free space is looked at next */
    char why[200];     /* why there was no room the last time */
    /* When what found no space is tried again, and when a mark is written; UINT64_MAX = never. */
    uint64_t round_retry_at, prepare_retry_at, mark_at;
    struct log_statistics statistics;
};

/* Stops the node. */
void log__fail(struct log *log, const char *what, int error);
/* Something found no space: remembers why; returns when to try again. */
uint64_t log__no_space(struct log *log, const char *what);
struct log_batch *log__batch(struct mail *mail);

/* round.c. Starts to write the next round if there is anything to write and a place for it. */
enum round_outcome {
    ROUND_STARTED,
    ROUND_NOTHING,    /* nothing to write */
    ROUND_NO_SEGMENT, /* the next segment is needed first */
    ROUND_NO_SPACE,
};
enum round_outcome round__start(struct log *log, bool mark);

/* prepare.c */
void prepare__start(struct log *log); /* unless it is under way, done, or waits to be retried */
void prepare__on_write(struct log *log, int64_t result);
void prepare__on_sync(struct log *log, int64_t result);

/* retire.c */
void retire__request(struct log *log);  /* mails RETIRE when too many segments are live */
void retire__cheaply(struct log *log);  /* asks for whatever costs next to nothing to release */
void retire__released(struct log *log); /* removes the segments that every shard released */
/* Start-up: keeps spares that can be used again, removes the others. 0 or WR_E_*. */
WR_MUST_USE int retire__keep_spares(struct log *log, struct number_vec *owned_spares);

#endif
