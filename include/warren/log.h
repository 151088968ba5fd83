#ifndef WR_LOG_H
#define WR_LOG_H
/*
 * The node's shared write-ahead log and the checkpoint store's schema (DESIGN §6, docs/storage.md).
 *
 * One log per node, owned by the log context: shards send batches of records by mail, the log
 * gathers everything that arrived, writes it with one vectored write, syncs once, and sends each
 * batch back. A batch that came back with result 0 is on disk. Batches of one shard come back in
 * the order sent. A batch that nobody waits for (lazy) may wait LOG_LAZY_NS for one to go with.
 *
 * Files in DIR/log/: segment-%016x.log, fixed size (preallocated or recycled); each begins with a
 * header {magic, version, node id, segment number, salt, CRC}. What one gathering wrote is a round
 * {header with the offset up to which the segment was durable when it was written, records}; a
 * record is {CRC-32C over the rest and the segment's salt, length, kind, flags, its round, group,
 * term, index, payload}. The salt makes what a recycled file held before invalid.
 * docs/storage-format.md has the bytes.
 *
 * Invariants
 * I1  A record is reported durable only after a successful sync that began after its write
 *     completed.
 * I2  Records of one group appear in the log in the order the shard submitted them.
 * I3  A segment is removed only when every shard has released it (log_release).
 * I4  A failed sync is fatal: nothing is reported durable afterwards and the node stops.
 * I5  Recovery reports exactly the durable records plus possibly a prefix of what was in flight; a
 *     torn tail of the last segment is cut off; anything else that does not verify is WR_E_CORRUPT
 *     with the file, the offset and what was expected.
 *
 * Spec: DESIGN §6; reliability.md §A3. Threads: shard-side functions in the shard's context,
 * log_on_* in the log context.
 */
#include <stdbool.h>
#include <stdint.h>

#include "warren/buf.h"
#include "warren/bytes.h"
#include "warren/env.h"
#include "warren/uid.h"

enum log_kind { /* frozen */
                /* term, index, flags = entry kind, payload = entry data. An index at or below the
                 * last one replaces the suffix. */
                LOG_ENTRY = 1,
                /* term, index = commit hint, payload = vote (16 bytes, zero = none). */
                LOG_HARD_STATE = 2,
                /* payload = how this replica was created (member id, initial membership; written by
                 * src/replica), flags: 1 = quarantined. First record of a group, and repeated when
                 * its old segment goes. */
                LOG_GROUP = 3,
                /* term, index = of the snapshot that is now in the checkpoint store: entries <=
                 * index are not replayed. */
                LOG_CHECKPOINT = 4,
                /* The replica was removed by a catalog decision. payload = its member id (16 bytes;
                 * empty in logs of early builds), which must never be begun again. */
                LOG_GROUP_END = 5,
                LOG_TRUNCATE = 6, /* entries >= index are void */
};

struct log_position {
    uint32_t segment; /* number of the segment, from 1; 0 = none */
    uint32_t offset;  /* of the payload in it */
};

struct log_item {
    uint64_t group, term, index;
    uint64_t generation; /* not stored: carried through to the completion */
    uint8_t kind, flags;
    uint16_t pad;
    uint32_t pad2;
    struct slice payload;         /* owned by the batch; may be empty */
    struct log_position position; /* filled in when written */
};

/* Most bytes one payload may have (bigger is a bug of the caller): a message of 512 MiB and what an
 * entry adds to it. */
#define LOG_PAYLOAD_MAX (UINT32_C(640) << 20)

/*
 * Mails. A batch goes to the log context as BATCH and comes back as DONE. RETIRE asks every shard
 * to release segments <= segment; RELEASED answers (both struct log_retire_mail). STATE tells every
 * shard that space is running out, that writes are held back because the disk is full, or that
 * neither is so any more. LIMIT from any shard sets disk_free_limit; HURRY from any shard: lazy
 * batches are waited for now.
 */
#define LOG_MAIL_BATCH    0x4c01u
#define LOG_MAIL_DONE     0x4c02u
#define LOG_MAIL_RETIRE   0x4c03u
#define LOG_MAIL_RELEASED 0x4c04u
#define LOG_MAIL_STATE    0x4c05u
#define LOG_MAIL_LIMIT    0x4c06u
#define LOG_MAIL_HURRY    0x4c07u

/* The longest that a lazy batch waits for another one before a round is begun for it alone. */
#define LOG_LAZY_NS UINT64_C(500000)

struct log_batch {
    struct mail mail;
    uint32_t count, capacity;
    int result; /* 0, or WR_E_*: then the node is stopping */
    bool lazy;  /* nobody waits for it (log_hurry: now somebody does) */
    void *user; /* the shard's */
    struct log_item *items;
};
struct log_retire_mail {
    struct mail mail;
    uint32_t segment;
    uint64_t bytes; /* of the segments up to that one: what a release would free */
    bool cheaply;   /* only if little would have to be copied: space is what is missing */
};
struct log_state_mail {
    struct mail mail;
    bool blocked; /* nothing can be written */
    bool low;     /* space is running out: no more publishes, so that settles can be written */
    char why[200];
};
struct log_limit_mail {
    struct mail mail;
    uint64_t disk_free_limit;
};

/* --- shard side ------------------------------------------------------------------------------- */

struct log_batch *log_batch_new(void);
void log_batch_free(struct log_batch *batch); /* unrefs payloads; NULL is allowed */
/* Appends an item (payload: takes over the reference). */
void log_batch_add(struct log_batch *batch, const struct log_item *item);
/* Sends a batch of >= 1 items to the log context; it comes back as LOG_MAIL_DONE, owned by the
 * shard again. Nothing comes back once the node is stopping. */
void log_submit(struct env *env, struct log_batch *owned_batch);
/* What was submitted as lazy, by any shard, is written at once. */
void log_hurry(struct env *env);
/* This shard needs nothing of segments <= segment any more. A segment goes when every shard said
 * so, also those that never had a record in it. After a start nothing counts as released. */
void log_release(struct env *env, uint32_t segment);
/* From now on STATE{low} is told below this many bytes of free space; 0 = never. The space is
 * looked at at once. */
void log_set_disk_free_limit(struct env *env, uint64_t bytes);

/*
 * Where a group's entries lie: index -> (position, size, term), run-compressed (8 bytes per entry
 * of a run); pure data, used by shards. Positions must be put in log order (that of completions and
 * of recovery): a later put lies in the same or a later segment. Gaps between entries are allowed
 * (after a snapshot). put and truncate are O(1) amortised, find is O(log runs).
 */
struct log_index;
struct log_location {
    struct log_position position;
    uint32_t size;
    uint64_t term;
    uint8_t flags; /* entry kind */
};
struct log_index *log_index_new(void);
void log_index_free(struct log_index *index);
/* Replaces the suffix >= entry. */
void log_index_put(struct log_index *index, uint64_t entry, const struct log_location *location);
void log_index_truncate(struct log_index *index, uint64_t from);
/* Forgets locations in segments <= segment. */
void log_index_release(struct log_index *index, uint32_t segment);
bool log_index_find(const struct log_index *index, uint64_t entry,
                    struct log_location *ret_location);
uint32_t log_index_lowest_segment(const struct log_index *index); /* 0 = empty */
size_t log_index_memory(const struct log_index *index);           /* bytes it takes */

/*
 * Cold reads: keeps the node's segment files open for reading (the 16 used last), one cache per
 * shard. `dir` is the node's directory, as for log_open. log_reader_free with reads under way is
 * for the end of the context: their fn is not called and their tokens must not be handed in.
 */
struct log_reader;
struct log_reader *log_reader_new(struct env *env, const char *dir);
void log_reader_free(struct log_reader *reader);
/* fn gets one slice per location in order (payloads borrowed: slice_ref to keep), or a negative
 * error (WR_E_CORRUPT: does not verify, WR_E_IO, WR_E_NOMEM) and NULL. It may call the reader, but
 * not free it. */
typedef void (*log_reader_fn)(void *ctx, int error, const struct slice *payloads, uint32_t count);
/* Reads payloads of LOG_ENTRY records at 1 to 64 locations (neighbours are merged into one read)
 * and verifies their CRCs. Returns 0, and then calls fn once, from log_reader_on_file; or WR_E_*
 * when a file cannot be opened, and then fn is never called. */
WR_MUST_USE int log_reader_read(struct log_reader *reader, const struct log_location *locations,
                                uint32_t count, log_reader_fn fn, void *ctx);
/* Closes the files of segments <= segment, so that the disk space of removed ones is free. Call it
 * together with log_release. */
void log_reader_release(struct log_reader *reader, uint32_t segment);
/* From the shard's on_file: true when the token was the reader's (its tokens are those from
 * LOG_READER_TOKEN_BASE up). */
bool log_reader_on_file(struct log_reader *reader, uint64_t token, int64_t result);
#define LOG_READER_TOKEN_BASE (UINT64_C(1) << 62)

/* --- recovery (blocking, at start, before any context runs) ----------------------------------- */

struct log_recovery_sink {
    /* Each valid record in log order; payload borrowed (slice_ref to keep: it then pins the buffer
     * that was read, 1 MiB or the whole round). Records may have come before log_open returns an
     * error; they count for nothing then. */
    void (*record)(void *ctx, const struct log_item *item);
    void (*progress)(void *ctx, uint64_t bytes_done, uint64_t bytes_total); /* may be NULL */
    void *ctx;
};
struct log_options {
    uint32_t segment_size; /* bytes, a multiple of 512, at least 5632; default 64 MiB */
    uint32_t segments_max; /* when more are in use the oldest is retired; default 8 */
    uint32_t recycle_max;  /* retired files kept for reuse; default 2 */
    uint32_t shard_count;
    bool sync;                /* log.sync = on/off */
    uint64_t disk_free_limit; /* bytes free below which STATE{low} is told; 0 = not looked at */
    struct uid node_id;
};
struct log;
/* Scans DIR/log and prepares to append; `env` is the log context's. Errors: WR_E_CORRUPT (damage),
 * WR_E_VERSION (written by a newer Warren), WR_E_IO and other codes of the env, with text in
 * errmsg[256]. `options` and `dir` are copied. */
WR_MUST_USE int log_open(struct env *env, const char *dir, const struct log_options *options,
                         const struct log_recovery_sink *sink, struct log **ret_log, char *errmsg);

/* --- log context ------------------------------------------------------------------------------ */

void log_on_mail(struct log *log, struct mail *owned_mail); /* BATCH, RELEASED, LIMIT, HURRY */
void log_on_file(struct log *log, uint64_t token, int64_t result);
/* Gathers, writes, syncs; to be called from sink->turn. The log has the context's wake_at. */
void log_turn(struct log *log);
void log_close(struct log *log); /* after the context stopped; frees batches still held */
struct log_statistics {
    uint64_t bytes_written, records, batches, syncs;
    uint64_t segments_live, segments_retired, sync_ns_total;
    uint64_t batches_waiting; /* arrived, not yet durable */
    bool blocked;             /* no room for the next segment */
};
void log_statistics(const struct log *log, struct log_statistics *ret_statistics);

/* --- for people (inspect.c) ------------------------------------------------------------------- */

typedef void (*log_inspect_fn)(void *ctx, const char *line);
/* The contents of one segment file as lines of text, by offset. 0, or WR_E_CORRUPT / WR_E_VERSION:
 * no segment, or damaged as far as this file alone can prove it. Any thread. */
WR_MUST_USE int log_inspect(struct bytes file, log_inspect_fn line, void *ctx);

/* --- checkpoint store: keys and values (checkpoint.c) ----------------------------------------- */

/* Keys (all big-endian so that order is numeric): 's' group -> snapshot; 'm' group position ->
 * message record; 'n' name -> node settings. The caller owns the slices. */
struct checkpoint { /* contents of 's' */
    uint64_t group, index, term;
    struct bytes membership; /* raft's encoding at index */
    struct bytes machine;    /* the machine's snapshot */
};
struct slice checkpoint_snapshot_key(uint64_t group);
struct slice checkpoint_message_key(uint64_t group, uint64_t position);
struct slice checkpoint_setting_key(const char *name);
struct slice checkpoint_encode(const struct checkpoint *checkpoint);
/* Borrowed views of value. WR_E_CORRUPT (there is a CRC inside) or WR_E_VERSION. */
WR_MUST_USE int checkpoint_decode(struct bytes value, struct checkpoint *ret_checkpoint);
/* WR_E_INVALID: not the key of a message. */
WR_MUST_USE int checkpoint_message_position(struct bytes key, uint64_t *ret_group,
                                            uint64_t *ret_position);

#endif
