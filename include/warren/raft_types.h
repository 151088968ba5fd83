/*
 * Values that the Raft core exchanges with its host and with its peers: ids, entries, memberships,
 * messages. Plain data, no functions but the membership codec. Included by raft.h; the link codec
 * and the log need only this file.
 *
 * Borrowing: every pointer inside these structs is borrowed. Who lends it and for how long is said
 * where the struct is used (raft.h).
 */
#ifndef WR_RAFT_TYPES_H
#define WR_RAFT_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Random 128-bit identity of one member of one group, stored with its data. {0,0} means "nobody".
 * A replica that comes up without the data it once had must use a new id. */
struct raft_id {
    uint64_t hi;
    uint64_t lo;
};

struct raft_term {
    uint64_t v;
};

#define RAFT_MEMBERS_MAX 64u              /* members of one group, voters and learners */
#define RAFT_INDEX_MAX   (UINT64_MAX / 2) /* larger indexes or terms in messages are refused */

/* ---- entries --------------------------------------------------------------------------------- */

/* Numbers are stored and sent: frozen. */
enum raft_entry_kind {
    RAFT_ENTRY_COMMAND = 1, /* the host's; payload opaque */
    RAFT_ENTRY_BARRIER = 2, /* empty; first entry of each leader's term */
    RAFT_ENTRY_CONFIG = 3,  /* payload = raft_membership_encode(); in force as soon as appended */
};

/* One log entry. `data`/`size` is the payload, `owner` the host's reference-counted value that
 * keeps `data` alive (raft_payload_ops); owner may be NULL if `data` outlives the core or size is
 * 0. `trimmed` (only in raft_restore_entry): the payload is not in memory; data and owner are NULL,
 * size need not be given. Never set for CONFIG entries and never in messages. */
struct raft_entry {
    struct raft_term term;
    uint64_t index;
    enum raft_entry_kind kind;
    bool trimmed;
    uint32_t size;
    const uint8_t *data;
    void *owner;
};

/* ---- membership ------------------------------------------------------------------------------ */

/* Numbers are stored and sent: frozen. */
enum raft_member_role {
    RAFT_VOTER = 1,
    RAFT_LEARNER = 2, /* receives the log, does not vote and is not counted */
};

struct raft_member {
    struct raft_id id;
    enum raft_member_role role;
};

/* Sorted by (hi, lo), no duplicates, at most RAFT_MEMBERS_MAX. `members` is borrowed. count 0 =
 * "not known yet" (a new replica before its first CONFIG entry or snapshot). */
struct raft_membership {
    uint32_t count;
    const struct raft_member *members;
};

/* Encoding (version 1, frozen): u8 version=1, u8 count, then per member u64 hi, u64 lo (big
 * endian), u8 role. Size = 2 + 17*count <= RAFT_MEMBERSHIP_BYTES_MAX. */
#define RAFT_MEMBERSHIP_BYTES_MAX (2u + 17u * RAFT_MEMBERS_MAX)

/* Encodes `m` (must be valid and sorted) into `buf` of RAFT_MEMBERSHIP_BYTES_MAX bytes. Returns the
 * size. */
size_t raft_membership_encode(const struct raft_membership *m, uint8_t *buf);

/* Decodes into `members` (room for RAFT_MEMBERS_MAX). Returns 0 and sets *ret_count, or
 * RAFT_E_CORRUPT for anything not canonical (unknown version or role, unsorted, duplicate, trailing
 * bytes). */
int raft_membership_decode(const uint8_t *data, size_t size, struct raft_member *members,
                           uint32_t *ret_count) __attribute__((warn_unused_result));

/* What precedes a log: the state at `index` is in the host's snapshot. index 0, term 0 = an empty
 * history, `membership` then is the bootstrap membership. */
struct raft_snapshot_meta {
    uint64_t index;
    struct raft_term term;
    struct raft_membership membership; /* in force at `index` */
};

/* What must survive a crash besides the log. Persisted when told to (raft_update). `commit` is a
 * hint: always
 * <= what is durable here; an older value is allowed. */
struct raft_hard_state {
    struct raft_term term;
    struct raft_id vote; /* {0,0} = none in this term */
    uint64_t commit;
};

/* ---- messages -------------------------------------------------------------------------------- */

/* Numbers are sent: frozen. */
enum raft_message_type {
    RAFT_MSG_APPEND = 1,
    RAFT_MSG_APPEND_RESPONSE = 2,
    RAFT_MSG_PREVOTE = 3,          /* body `vote`; term = the term the sender would campaign in */
    RAFT_MSG_PREVOTE_RESPONSE = 4, /* body `vote_response` */
    RAFT_MSG_VOTE = 5,             /* body `vote` */
    RAFT_MSG_VOTE_RESPONSE = 6,    /* body `vote_response` */
    RAFT_MSG_TIMEOUT_NOW = 7,      /* no body: leadership is handed to you, campaign at once */
    RAFT_MSG_RESIGN = 8,           /* no body: the sender no longer leads `term` */
    RAFT_MSG_SNAPSHOT_CHUNK = 9,   /* body `snapshot` */
    RAFT_MSG_SNAPSHOT_RESPONSE = 10,
    RAFT_MSG_READ = 11,          /* body `read`: follower asks its leader for a read index */
    RAFT_MSG_READ_RESPONSE = 12, /* body `read_response` */
};

struct raft_message {
    enum raft_message_type type;
    struct raft_id from;
    struct raft_id to;
    struct raft_term term; /* sender's current term, except where said otherwise */
    union {
        struct {
            uint64_t prev_index; /* entries follow this one */
            struct raft_term prev_term;
            uint64_t commit;                  /* leader's commit index */
            uint64_t probe;                   /* read-index round; echoed */
            uint32_t entry_count;             /* may be 0 */
            const struct raft_entry *entries; /* indexes prev_index+1 .. prev_index+entry_count */
        } append;
        struct {
            bool reject;    /* prev did not match: see hint */
            uint64_t match; /* durable here and equal to the leader's log, up to here */
            uint64_t
                verified; /* received and equal to the leader's log, >= match (maybe not durable) */
            uint64_t commit;            /* responder's commit index */
            uint64_t probe;             /* highest round seen from this leader in this term */
            uint64_t rejected_index;    /* reject: the prev_index refused */
            uint64_t hint_index;        /* reject: no match above this index ... */
            struct raft_term hint_term; /* ... where the responder's term is this */
        } append_response;
        struct {
            uint64_t last_index;
            struct raft_term last_term;
            bool transfer; /* VOTE after TIMEOUT_NOW: overrides leader stickiness */
        } vote;
        struct {
            bool granted;
            struct raft_term vote_term; /* the request's term */
        } vote_response;
        struct {
            struct raft_snapshot_meta meta;
            uint64_t offset; /* of `data` in the snapshot's byte stream */
            bool done;       /* last chunk */
            uint32_t size;
            const uint8_t *data;
            void *owner; /* keeps `data` alive, as in raft_entry */
        } snapshot;
        struct {
            uint64_t index;  /* of the snapshot answered */
            uint64_t offset; /* next byte wanted; 0 = from the start */
            uint64_t
                match; /* > 0: snapshot not needed (or installed): durable and equal up to here */
            uint64_t note; /* from the responder's host (STORED) to the sender's; not looked at */
        } snapshot_response;
        struct {
            uint64_t context;
        } read;
        struct {
            uint64_t context;
            uint64_t index; /* valid if ok */
            bool ok;
        } read_response;
    } u;
};

static inline bool raft_id_equal(struct raft_id a, struct raft_id b)
{
    return a.hi == b.hi && a.lo == b.lo;
}

static inline bool raft_id_is_zero(struct raft_id a)
{
    return a.hi == 0 && a.lo == 0;
}

/* <0, 0, >0: the canonical order of members. */
static inline int raft_id_compare(struct raft_id a, struct raft_id b)
{
    if (a.hi != b.hi) {
        return a.hi < b.hi ? -1 : 1;
    }
    return a.lo < b.lo ? -1 : (a.lo > b.lo ? 1 : 0);
}

#endif
