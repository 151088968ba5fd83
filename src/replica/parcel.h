#ifndef WR_REPLICA_PARCEL_H
#define WR_REPLICA_PARCEL_H
/*
 * What hosts send each other (parcel.c, parcel_codec.c, raft_codec.c), and the ops that such
 * parcels carry (ops.c). A body goes encoded to another node, and as the structure itself within
 * one.
 */
#include "warren/buf.h"
#include "warren/replica.h"
#include "warren/vec.h"

struct host;

static inline struct uid uid_of_raft(struct raft_id id)
{
    return (struct uid){id.hi, id.lo};
}
static inline struct raft_id raft_of_uid(struct uid id)
{
    return (struct raft_id){id.hi, id.lo};
}

enum parcel_kind { /* frozen: nodes of different versions */
                   PARCEL_RAFT = 1,
                   PARCEL_OPS = 2,     /* client's host -> home */
                   PARCEL_RESUME = 3,  /* client's host -> home */
                   PARCEL_EFFECTS = 4, /* home -> client's host */
                   PARCEL_RESUMED = 5, /* home -> client's host */
                   PARCEL_NOT_HERE =
                       6,             /* home -> client's host: not served here; hint: who leads */
                   PARCEL_LEADER = 7, /* home -> every host with clients: served here now */
                   PARCEL_REPORT = 8, /* ask for totals */
                   PARCEL_REPORTED = 9,
                   PARCEL_NOT_MEMBER = 10, /* leader -> a replica that is no member any more */
                   PARCEL_PROPOSE = 11,    /* catalog command to the leader */
                   PARCEL_PROPOSED = 12,
                   PARCEL_CATALOG_ASK =
                       20, /* within a node: another shard's proposal or barrier, to shard 0 */
                   PARCEL_CATALOG_TOLD = 21, /* within a node: its outcome */
                   PARCEL_MEMBER = 13, /* a replica that its record does not name: am I a member?
                                          Answered with NOT_MEMBER, or not */
                   PARCEL_HASH = 14,   /* member -> leader: what its machine was at an index */
                   PARCEL_QUARANTINE = 15,  /* leader -> member: it differs from the majority */
                   PARCEL_QUARANTINED = 16, /* member -> leader: it was found to differ */
                   PARCEL_COMPARE = 17,     /* leader -> member: who has applied just that, tells */
                   PARCEL_LETTER = 18,      /* broker -> broker */
                   PARCEL_VIEW_ASK = 22,    /* node -> node: when do you have that index? */
                   PARCEL_VIEW_AT = 23,     /* node -> node: all shards here have it */
};

/* One run of ops of a client within a PARCEL_OPS. */
struct ops_section {
    uint64_t client;
    uint32_t session;
    bool fresh;          /* nothing of this client was ever sent before: no resume needed */
    uint32_t begin, end; /* in the encoded bytes; or in ops */
    uint64_t last_seq;   /* of its last op; not sent (found by checking) */
};
struct ops_bundle { /* PARCEL_OPS within a node */
    VEC(struct ops_section) sections;
    struct buf *encoded;      /* ENTRY_HEADER bytes of room, then queue batches; or NULL: */
    VEC(struct queue_op) ops; /* for a local home: owned (ops_release) */
};
struct effect_item {
    struct queue_effect effect;
    uint32_t session;
    uint64_t number; /* counts the items of one session: a gap tells a loss */
    uint32_t message_first, message_count;
};
struct effect_bundle { /* PARCEL_EFFECTS within a node */
    uint32_t shard;    /* of the clients */
    uint64_t
        applied; /* the leader had applied this much: what it names by position exists up to here */
    uint32_t by_position; /* DELIVER items without bytes: the receiving node's replica has them
                             (relay.c) */
    VEC(struct effect_item) items;
    VEC(struct message) messages; /* owned references */
};
struct consumer_expect {
    uint32_t consumer;
    uint64_t next; /* ordinal */
};
struct resume_body {
    uint64_t client;
    uint32_t session;
    bool inlined;     /* bytes by position did not come: send them along */
    uint64_t applied; /* what the client knows of; which later ones were refused it must be told */
    VEC(struct consumer_expect) consumers;
};
struct seq_run {
    uint64_t first, count;
};
struct resumed_body {
    uint64_t client;
    uint32_t session;
    uint64_t applied, received;  /* ops applied; ops in the leader's hands */
    VEC(struct seq_run) refused; /* of those applied: enqueues that were not taken; ascending */
};

struct parcel *parcel_make(struct host *host, uint8_t kind, uint8_t priority, uint64_t group,
                           struct uid node, uint32_t shard);
void parcel_set_body(struct parcel *parcel, struct buf *owned_head, struct slice *owned_raw,
                     uint32_t raw_count);
/* Head and raw part of an encoded body, in one buffer (gathered when it came in pieces).
 * WR_E_CORRUPT. */
int parcel_body(struct parcel *parcel, struct bytes *ret_head, struct slice *ret_raw);
/* Sends or, to the own shard, puts into the inbox. */
void parcel_send(struct host *host, struct parcel *owned);
void parcel_refused(struct host *host, const struct parcel *parcel, const char *what, int error);

void raft_message_pack(struct parcel *parcel, const struct raft_message *message);
int raft_message_unpack(struct parcel *parcel, struct raft_message *ret,
                        struct raft_entry **ret_entries, struct raft_member *members);

void ops_bundle_free(void *bundle);
void effect_bundle_free(void *bundle);
void resume_body_free(void *body);
void ops_pack(struct parcel *parcel, struct ops_bundle *owned_bundle);
int ops_unpack(struct parcel *parcel, struct ops_bundle **ret_bundle, struct slice *ret_raw);
void effects_pack(struct parcel *parcel, struct effect_bundle *owned_bundle);
int effects_unpack(struct parcel *parcel, struct effect_bundle **ret_bundle);
void resume_pack(struct parcel *parcel, const struct resume_body *body);
int resume_unpack(struct parcel *parcel, struct resume_body *ret_body);
void resumed_pack(struct parcel *parcel, const struct resumed_body *body);
/* The caller frees ret_body->refused. */
int resumed_unpack(struct parcel *parcel, struct resumed_body *ret_body);
/* A body of plain numbers, for the small kinds. */
void numbers_pack(struct parcel *parcel, const uint64_t *numbers, uint32_t count,
                  struct slice owned_raw);
int numbers_unpack(struct parcel *parcel, uint64_t *numbers, uint32_t count, struct slice *ret_raw);
/* Later versions send more: `least` to `most` of them; what did not come is left as it is. */
int numbers_unpack_some(struct parcel *parcel, uint64_t *numbers, uint32_t least, uint32_t most,
                        struct slice *ret_raw);

/* --- ops (ops.c) ----------------------------------------------------------------------------- */
VEC_TYPE(op_vec, struct queue_op);
void op_release(struct queue_op *op); /* its message reference and copies of name and args */
void ops_release(struct queue_op *ops, size_t count);
void buf_ref_many(struct buf *b, uint32_t n);
void buf_unref_many(struct buf *b, uint32_t n);
void slices_ref(const struct slice *slices,
                size_t count); /* one atomic operation per run of one buffer */
void slices_unref(const struct slice *slices, size_t count);

#endif
