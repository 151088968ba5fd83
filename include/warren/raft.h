/*
 * Raft as a pure state machine: one event in, one update out. No clock, no I/O, no threads, no
 * globals; links with nothing but libc. One `struct raft` is one member of one group.
 *
 * The host's contract, in the order of one turn:
 *   1. raft_step(r, &event, &update). Everything in `update` is borrowed and valid until the next
 * call that takes `r` non-const; reference payload owners or encode before that.
 *   2. Messages may be sent AT ONCE, before anything of this update is durable: whatever claims
 * durability is emitted only by the step that consumed the completion that makes it true.
 *   3. Log work goes to disk in exactly this order, group by group, across updates too:
 *      log_reset or truncate_from, then hard_state, then entries. Write may be asynchronous and
 * batched, but what a crash leaves is a prefix: no entry without the hard_state before it. When
 * hard_state is durable: RAFT_EVENT_HARD_STATE_PERSISTED{hard_state_generation}. When entries are
 * durable: RAFT_EVENT_PERSISTED{term, index, generation} of the last durable entry. Completions may
 * be merged (the last one of several counts for all before it) but never lost while running; they
 * may arrive late: one of an older generation is ignored.
 *   4. Entries [apply_begin, apply_end) are committed and durable here: apply them in order, each
 * exactly once, reading each with raft_log_entry() (NULL: payload not in memory, read it from the
 * log). BARRIER and CONFIG entries come along; the core has already acted on them. Report
 * RAFT_EVENT_APPLIED.
 *   5. Call raft_step with TICK when raft_deadline() has come. An idle group has none.
 * Liveness is the host's, per pair of nodes: PEER_UP when messages pass in both directions,
 * PEER_DOWN when not. Links are ordered and lose nothing while up; if anything may have been lost,
 * in either direction, or the other end was restarted, say PEER_DOWN (if not said yet) and PEER_UP
 * at BOTH ends. If one end of a pair says DOWN the other must come to say so too. (Lost, repeated
 * and reordered messages never endanger safety, and lost appends and chunks are repaired after
 * resend_ms even while a link is up; but the loss of a RESIGN or of an answer to a pre-vote is made
 * good only by the link's reset.)
 *
 * Return values: 0 or RAFT_E_* (negative). The update is valid in both cases.
 * Thread: one `struct raft` belongs to one thread at a time. Spec: Ongaro's thesis, by section, in
 * raft/README.md.
 */
#ifndef WR_RAFT_H
#define WR_RAFT_H

#include "warren/raft_types.h"

struct raft;

enum raft_error {
    RAFT_E_NOT_LEADER = -1, /* see raft_leader() for a hint */
    RAFT_E_STALE_TERM = -2, /* proposal made for another term */
    RAFT_E_BUSY =
        -3, /* too many uncommitted bytes, or a leadership transfer is under way: retry later */
    RAFT_E_CONFIG_PENDING = -4, /* a membership change is not committed yet */
    RAFT_E_NOT_READY = -5,      /* leader has not committed an entry of its own term yet */
    RAFT_E_UNKNOWN_MEMBER = -6,
    RAFT_E_MEMBER_EXISTS = -7,
    RAFT_E_NOT_CAUGHT_UP = -8, /* learner (or transfer target) lags or is down */
    RAFT_E_NO_QUORUM = -9, /* the change would leave no reachable majority, or no voter at all */
    RAFT_E_TOO_MANY = -10, /* RAFT_MEMBERS_MAX */
    RAFT_E_BAD_MESSAGE =
        -11, /* message refused: malformed or contradicts what is committed; nothing changed */
    RAFT_E_CORRUPT = -12,   /* stored state contradicts itself */
    RAFT_E_COMPACTED = -13, /* index is before the log's start (or no membership is known there) */
    RAFT_E_IGNORED = -14,   /* event no longer applies (late answer); nothing changed */
    RAFT_E_UNCONFIRMED =
        -15, /* the voters there would be are being asked whether they live: retry soon */
};

/* Text of an error code ("not leader"); never NULL. */
const char *raft_strerror(int err);

/* ---- configuration --------------------------------------------------------------------------- */

/* Reference counting of payloads. ref/unref are called with non-NULL owners only. `create` copies
 * `size` bytes into a new owner with one reference (for CONFIG entries made by the core) and sets
 * *ret_data; it does not fail. */
struct raft_payload_ops {
    void (*ref)(void *ctx, void *owner);
    void (*unref)(void *ctx, void *owner);
    void *(*create)(void *ctx, const uint8_t *bytes, uint32_t size, const uint8_t **ret_data);
    void *ctx;
};

/* Memory of the core. realloc as in libc (size 0 never passed), must not return NULL. All-zero =
 * libc, abort on exhaustion. */
struct raft_heap {
    void *(*realloc)(void *ctx, void *p, size_t size);
    void (*free)(void *ctx, void *p);
    void *ctx;
};

/* 0 in a tuning field takes the default in brackets. Copied by raft_new. */
struct raft_config {
    struct raft_id id; /* this member; not zero */
    uint64_t seed;     /* election jitter; differ per member */
    struct raft_payload_ops payload;
    struct raft_heap heap;
    uint32_t
        election_min_ms; /* [50] delay before a pre-vote is random in [min, max], counted from */
    uint32_t
        election_max_ms; /* [150] PEER_DOWN of the leader / start; retries back off up to 8 x */
    uint32_t commit_notice_ms; /* [5] a commit advance nobody else carries is sent after this */
    bool commit_at_once;  /* it is sent in the very step: for groups whose followers are read */
    uint32_t resend_ms;   /* [2000] unanswered append, chunk or round is probed again after this */
    uint32_t transfer_ms; /* [1000] leadership transfer gives up after this */
    uint32_t
        message_bytes_max; /* [256 KiB] payload bytes per append (one larger entry goes alone) */
    uint32_t message_entries_max;   /* [1024] */
    uint32_t inflight_messages_max; /* [64] per peer, unanswered */
    uint64_t inflight_bytes_max;    /* [8 MiB] per peer, unanswered */
    bool abstains;                  /* from the start: see RAFT_EVENT_ABSTAIN */
    uint64_t uncommitted_bytes_max; /* [64 MiB] leader refuses proposals above (RAFT_E_BUSY); one is
                                       always let in */
};

/* ---- life ------------------------------------------------------------------------------------ */

/* Creates a member from what is durable. `hard_state` zero for a new one. `snapshot`: what precedes
 * the log (bootstrap: index 0 and the first membership, the same on each bootstrap member; a member
 * that joins later: index 0, count 0). `applied` >= snapshot->index: what the host's machine
 * already contains. Then call raft_restore_entry() for each durable log entry, ascending, then
 * raft_start() once. Never NULL; invalid arguments are a bug (assert) except a bad
 * `snapshot`/`hard_state`, reported by raft_start. */
struct raft *raft_new(const struct raft_config *config, const struct raft_hard_state *hard_state,
                      const struct raft_snapshot_meta *snapshot, uint64_t applied);

/* One durable entry; the core takes its own reference. Entries <= snapshot index are accepted and
 * dropped. Payloads may be left out (entry->trimmed) except for CONFIG. RAFT_E_CORRUPT: gap or
 * falling term. */
int raft_restore_entry(struct raft *r, const struct raft_entry *entry)
    __attribute__((warn_unused_result));

struct raft_update;

/* Ends restoring; all peers count as down until PEER_UP. May ask for a truncation (log not
 * continuing the snapshot). RAFT_E_CORRUPT: applied beyond the log, or invalid snapshot; then only
 * raft_free is allowed. */
int raft_start(struct raft *r, uint64_t now_ms, struct raft_update *ret_update)
    __attribute__((warn_unused_result));

/* Drops all references; NULL allowed. */
void raft_free(struct raft *r);

/* ---- events ---------------------------------------------------------------------------------- */

enum raft_event_type {
    RAFT_EVENT_TICK = 1,             /* time passed */
    RAFT_EVENT_RECEIVE,              /* message */
    RAFT_EVENT_PROPOSE,              /* propose -> update.proposed_first */
    RAFT_EVENT_PERSISTED,            /* persisted */
    RAFT_EVENT_HARD_STATE_PERSISTED, /* hard_state_generation */
    RAFT_EVENT_APPLIED,              /* index: machine contains up to here */
    RAFT_EVENT_PEER_UP,              /* peer; on a peer already up = link was reset */
    RAFT_EVENT_PEER_DOWN,            /* peer */
    RAFT_EVENT_TRANSFER,             /* peer = new leader, zero id = best voter. Leader only */
    RAFT_EVENT_CHANGE,               /* change: membership. Leader only -> update.proposed_first */
    /* context -> if 0 is returned, later one update.reads item, unless question or answer is lost:
     * asked again it stays one question. Any role. */
    RAFT_EVENT_READ_INDEX,
    RAFT_EVENT_COMPACTED,          /* index <= applied: log entries up to here are gone */
    RAFT_EVENT_TRIM,               /* index: payloads up to here may leave memory */
    RAFT_EVENT_ENTRIES_READ,       /* entries_read: answers entries_wants */
    RAFT_EVENT_SNAPSHOT_CHUNK,     /* chunk: answers snapshot_wants (sender) */
    RAFT_EVENT_SNAPSHOT_FAILED,    /* peer: cannot answer snapshot_wants now; asked again after
                                      resend_ms */
    RAFT_EVENT_SNAPSHOT_STORED,    /* stored: chunk is written (receiver) */
    RAFT_EVENT_SNAPSHOT_INSTALLED, /* index: whole snapshot is durable and is the machine's state
                                      now */
    RAFT_EVENT_SNAPSHOT_REFUSED, /* index: damaged or unwanted; will be sent again from the start */
    RAFT_EVENT_FORCE_SOLE, /* operator: majority lost for good; become the only voter. UNSAFE */
    RAFT_EVENT_ABSTAIN,    /* from now on this member never campaigns, nor takes leadership over; it
                              votes and stores entries as before. A leader goes on: transfer it */
};

/* One-at-a-time changes (thesis 4.1) with the leader-commits-first rule; replace = ADD_LEARNER,
 * wait until raft_progress shows it caught up, PROMOTE, REMOVE. At most one uncommitted change. */
enum raft_change_type {
    RAFT_CHANGE_ADD_LEARNER = 1,
    RAFT_CHANGE_PROMOTE, /* learner -> voter; refused unless up and durable match >= commit */
    RAFT_CHANGE_DEMOTE,  /* voter -> learner */
    RAFT_CHANGE_REMOVE,  /* a leader may remove itself: it hands over when that is committed */
};

struct raft_event {
    enum raft_event_type type;
    uint64_t now_ms; /* host's monotonic time; required in every event; never falls (a fall is
                        ignored) */
    union {
        const struct raft_message
            *message; /* borrowed for the call; the core references entries it keeps */
        struct {
            struct raft_term term;            /* the term the proposer believes it leads */
            uint32_t count;                   /* >= 1; all or none are appended, in order */
            const struct raft_entry *entries; /* only size, data, owner are read; kind is COMMAND */
        } propose;
        struct {
            struct raft_term term;
            uint64_t index;
            uint64_t generation;
        } persisted;
        uint64_t hard_state_generation;
        uint64_t index;
        struct raft_id peer;
        struct {
            enum raft_change_type type;
            struct raft_id member;
        } change;
        uint64_t context;
        struct {
            struct raft_id peer;
            uint32_t count; /* 0: could not be read now; asked again after resend_ms */
            const struct raft_entry
                *entries; /* from the want's `begin` on, contiguous, need not be all; payloads
                             must live until the update's messages are sent */
        } entries_read;
        struct {
            struct raft_id peer;
            struct raft_snapshot_meta
                meta;        /* from raft_snapshot_meta() at the time of the snapshot */
            uint64_t offset; /* as wanted; or 0 with another meta.index: a new snapshot */
            bool done;
            uint32_t size;
            const uint8_t *data;
            void *owner;
        } chunk;
        struct {
            uint64_t index;
            uint64_t offset; /* end of the chunk stored */
            uint64_t note; /* what this host has to say to the sender's; comes with its next want */
        } stored;
    } u;
};

/* ---- updates --------------------------------------------------------------------------------- */

enum raft_update_flag {
    RAFT_UPDATE_HARD_STATE = 1 << 0, /* persist hard_state */
    RAFT_UPDATE_LOG_RESET =
        1 << 1, /* the stored log ends: all entries are void; goes on at log_begin */
    RAFT_UPDATE_TRUNCATE = 1 << 2, /* stored entries >= truncate_from are void */
    RAFT_UPDATE_ENTRIES = 1 << 3,  /* persist entries */
    RAFT_UPDATE_APPLY = 1 << 4,    /* apply [apply_begin, apply_end) */
    RAFT_UPDATE_ROLE = 1 << 5,     /* role, term or leader changed: see accessors */
    RAFT_UPDATE_MEMBERSHIP =
        1 << 6, /* raft_membership() changed (appended, truncated or installed) */
    RAFT_UPDATE_SNAPSHOT_CHUNK =
        1 << 7, /* store snapshot_chunk, answer STORED (or, if done, INSTALLED) or REFUSED */
    RAFT_UPDATE_SNAPSHOT_ABORT =
        1 << 8, /* first: drop what was stored of an incoming snapshot not done */
    RAFT_UPDATE_TRANSFER_ENDED =
        1 << 9, /* a leadership transfer was given up; proposals are taken again */
};

struct raft_read {
    uint64_t context;
    uint64_t index; /* readable once applied >= index */
    int status;     /* 0, or RAFT_E_NOT_LEADER: leadership lost or no leader, ask again */
};

struct raft_entries_want {
    struct raft_id peer;
    uint64_t begin; /* read entries [begin, end) from the log; answer ENTRIES_READ */
    uint64_t end;
    uint32_t bytes_max; /* stop after the entry that reaches this */
};

struct raft_snapshot_want {
    struct raft_id peer;
    uint64_t index;  /* 0: any snapshot with index >= min_index; else go on with this one */
    uint64_t offset; /* chunk starting here */
    uint64_t min_index;
    uint64_t note; /* of the last STORED of this snapshot at the peer; 0 with index 0 */
};

struct raft_update {
    uint32_t flags; /* of enum raft_update_flag */
    struct raft_hard_state hard_state;
    uint64_t hard_state_generation;
    uint64_t truncate_from;
    uint64_t log_begin;
    uint64_t generation; /* of `entries`: give it back in PERSISTED */
    uint32_t entry_count;
    uint32_t message_count;
    uint32_t read_count;
    uint32_t entries_want_count;
    uint32_t snapshot_want_count;
    const struct raft_entry *entries;
    const struct raft_message *messages;
    const struct raft_read *reads;
    const struct raft_entries_want *entries_wants;
    const struct raft_snapshot_want *snapshot_wants;
    const struct raft_message
        *snapshot_chunk; /* its u.snapshot; data lives as long as the message received */
    uint64_t apply_begin;
    uint64_t apply_end;
    uint64_t proposed_first; /* PROPOSE, CHANGE succeeded: index of the first entry; term =
                                raft_term() */
};

/* The only mutating entry besides life and the end of it. */
int raft_step(struct raft *r, const struct raft_event *event, struct raft_update *ret_update)
    __attribute__((warn_unused_result));

/* When TICK is wanted, in now_ms's time; UINT64_MAX: never (idle). */
uint64_t raft_deadline(const struct raft *r);

/* ---- reading --------------------------------------------------------------------------------- */

enum raft_role {
    RAFT_FOLLOWER = 0, /* learners and removed members too */
    RAFT_PRE_CANDIDATE,
    RAFT_CANDIDATE,
    RAFT_LEADER,
};

enum raft_progress_state {
    RAFT_PROBE = 0, /* one append at a time, looking for the common index */
    RAFT_PIPELINE,  /* in-flight window */
    RAFT_SNAPSHOT,  /* chunks, no entries */
};

struct raft_progress {
    struct raft_id id;
    enum raft_member_role role;
    enum raft_progress_state state;
    bool up;
    uint64_t match; /* durable there */
    uint64_t next;
    uint64_t inflight_bytes;
    uint64_t snapshot_offset;
};

struct raft_id raft_self(const struct raft *r);
enum raft_role raft_role(const struct raft *r);
struct raft_term raft_term(const struct raft *r);
struct raft_id raft_leader(const struct raft *r); /* zero: unknown; self if leader */
uint64_t raft_commit_index(const struct raft *r);
uint64_t raft_applied_index(const struct raft *r);
uint64_t raft_first_index(const struct raft *r); /* snapshot index + 1 */
uint64_t raft_last_index(const struct raft *r);
uint64_t raft_persisted_index(const struct raft *r);
uint64_t raft_generation(const struct raft *r);
size_t raft_cached_bytes(const struct raft *r);               /* payload bytes held in memory */
struct raft_hard_state raft_hard_state(const struct raft *r); /* current; for lazy commit hints */
bool raft_is_voter(const struct raft *r);                     /* self, in the membership in force */
bool raft_is_ready(const struct raft *r); /* leader that has committed an entry of its term */
bool raft_peer_is_up(const struct raft *r, struct raft_id peer);

/* Term of an index in [first-1, last]; RAFT_E_COMPACTED outside. */
int raft_log_term(const struct raft *r, uint64_t index, struct raft_term *ret_term)
    __attribute__((warn_unused_result));
/* Entry whose payload is in memory, else NULL. Borrowed until the next step. */
const struct raft_entry *raft_log_entry(const struct raft *r, uint64_t index);

/* In force now (last in the log, committed or not). `members` borrowed until the next step. */
struct raft_membership raft_membership(const struct raft *r);
/* Index of the entry that set it (<= commit: committed; 0: bootstrap). */
uint64_t raft_membership_index(const struct raft *r);
/* What to store with a snapshot of the machine at `index` (first-1 <= index <= commit).
 * RAFT_E_COMPACTED if not known. Borrowed until the next step. */
int raft_snapshot_meta(const struct raft *r, uint64_t index, struct raft_snapshot_meta *ret_meta)
    __attribute__((warn_unused_result));

/* Leader only, peers without self: number, and the i-th (in id order). */
uint32_t raft_progress_count(const struct raft *r);
struct raft_progress raft_progress_at(const struct raft *r, uint32_t i);
/* RAFT_E_NOT_LEADER, RAFT_E_UNKNOWN_MEMBER. */
int raft_progress_of(const struct raft *r, struct raft_id peer, struct raft_progress *ret_progress)
    __attribute__((warn_unused_result));

/* Asserts the core's invariants (raft_check.c lists them). O(log runs + peers). */
void raft_check(const struct raft *r);

/* One line of text, as snprintf: returns the length it would have. Stable wording (golden tests).
 */
int raft_describe_id(struct raft_id id, char *buf, size_t size);
int raft_describe_message(const struct raft_message *m, char *buf, size_t size);
int raft_describe_event(const struct raft_event *ev, char *buf, size_t size);
int raft_describe_update(const struct raft_update *u, char *buf, size_t size);
int raft_describe_state(const struct raft *r, char *buf, size_t size);

/* Called with (expression, file, line) when an assert fails; must not return. NULL = print and
 * abort. Set once, before any other call, by the program. */
void raft_set_assert_hook(void (*hook)(const char *expression, const char *file, int line));

#endif
